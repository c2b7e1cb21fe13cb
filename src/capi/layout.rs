//! Structures, unions and constants as C sees them: the layouts of RSPLIB 3 on x86-64, byte for byte
//! (held by tests/c/layout.c), and what libasap adds.

use std::os::raw::{c_char, c_int, c_uchar, c_uint, c_ulong, c_void};

/// The API version that `rsp_initialize` writes into `struct rsp_info`.
pub const RSPLIB_VERSION: c_uint = 2;
/// Its revision.
pub const RSPLIB_REVISION: c_uint = 3;

/// One registrar given by configuration.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct rsp_registrar_info {
    /// The next one, or NULL.
    pub rri_next: *mut rsp_registrar_info,
    /// Its addresses, packed one behind the other.
    pub rri_addr: *mut libc::sockaddr,
    /// How many.
    pub rri_addrs: usize,
}

/// How the library is to be set up; see `rsp_initinfo`. Times are in milliseconds; 0 stands for the
/// default.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct rsp_info {
    /// Set by `rsp_initialize`: `RSPLIB_VERSION`.
    pub ri_version: c_uint,
    /// Set by `rsp_initialize`: `RSPLIB_REVISION`.
    pub ri_revision: c_uint,
    /// NULL.
    pub ri_build_date: *const c_char,
    /// NULL.
    pub ri_build_time: *const c_char,
    /// Registrars to use, before those of the environment variable ASAP_REGISTRARS (HOST[:PORT],...
    /// with addresses or DNS names) and announced ones; NULL and no such variable: port 3863 of this
    /// host.
    pub ri_registrars: *mut rsp_registrar_info,
    /// Not 0: do not listen for announcements.
    pub ri_disable_autoconfig: c_int,
    /// The multicast group announcements come on; NULL: 224.0.1.185:3863 and the IPv6 group, and RSPLIB's 239.0.0.50:3863.
    pub ri_registrar_announce: *mut libc::sockaddr,
    /// How long an announced registrar is believed (T7-ENRPoutdate); default 5000.
    pub ri_registrar_announce_timeout: c_uint,
    /// How long one round of the server hunt may take (T5-Serverhunt); default 250.
    pub ri_registrar_connect_timeout: c_uint,
    /// Without effect: the hunt goes on as long as somebody waits.
    pub ri_registrar_connect_max_trials: c_uint,
    /// How long a call without a time-out of its own may block that needs a registrar or a pool
    /// element; default 10000.
    pub ri_registrar_request_timeout: c_uint,
    /// How long a registrar may take to answer before the request is repeated (T1, T2, T3); default
    /// 250 for a look-up, 500 for the others.
    pub ri_registrar_response_timeout: c_uint,
    /// How often a request is sent in all (MAX-REQUEST-RETRANSMIT plus one); default 3.
    pub ri_registrar_request_max_trials: c_uint,
    /// Component status protocol: who reports, 0x02 in the highest byte and a pool element's identifier in
    /// the lowest four. 0: each registered element does, and sessions with pools do as one user.
    pub ri_csp_identifier: u64,
    /// Component status protocol (RSPLIB's): where reports go, cspmonitor or `asapctl monitor`; NULL: nowhere.
    pub ri_csp_server: *mut libc::sockaddr,
    /// Component status protocol: milliseconds between reports; 0: none are sent.
    pub ri_csp_interval: c_uint,
}

/// A pool member selection policy with its values (RFC 5356). Loads go from 0 (idle) to 0xffffffff
/// (full).
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct rsp_loadinfo {
    /// Which policy: `PPT_ROUNDROBIN` and so on.
    pub rli_policy: u32,
    /// Weight (weighted policies) or priority (PPT_PRIORITY, higher ones first).
    pub rli_weight: u32,
    /// Delay penalty factor of the weight (the private DPF policies).
    pub rli_weight_dpf: u32,
    /// Present load (least-used policies).
    pub rli_load: u32,
    /// What one more session adds to the load (degradation policies).
    pub rli_load_degradation: u32,
    /// Delay penalty factor of the load (the private DPF policies).
    pub rli_load_dpf: u32,
}

/// One pool element, in basic mode.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct rsp_addrinfo {
    /// AF_INET or AF_INET6, of the first address.
    pub ai_family: c_int,
    /// SOCK_STREAM or SOCK_DGRAM.
    pub ai_socktype: c_int,
    /// IPPROTO_TCP, IPPROTO_UDP or IPPROTO_SCTP.
    pub ai_protocol: c_int,
    /// Size of the first address in bytes, as connect(2) wants it.
    pub ai_addrlen: usize,
    /// How many addresses there are.
    pub ai_addrs: usize,
    /// The addresses, packed one behind the other: 16 bytes each for IPv4, 28 for IPv6.
    pub ai_addr: *mut libc::sockaddr,
    /// The next element, or NULL.
    pub ai_next: *mut rsp_addrinfo,
    /// The element's identifier in its pool.
    pub ai_pe_id: u32,
}

/// Names a session of a descriptor; 0 stands for "the session it is connected by".
pub type rserpool_session_t = c_int;

/// Where a received message came from.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct rsp_sndrcvinfo {
    /// The session.
    pub rinfo_session: rserpool_session_t,
    /// Payload protocol identifier, in network byte order for data.
    pub rinfo_ppid: u32,
    /// The element that sent it (or, with `MSG_RSERPOOL_UNDELIVERED`, should have got it); 0 if it was
    /// no element.
    pub rinfo_pe_id: u32,
    /// Always 0 on receipt.
    pub rinfo_timetolive: u32,
    /// The stream.
    pub rinfo_stream: u16,
}

/// Notification `RSERPOOL_FAILOVER`.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct rserpool_failover {
    /// `RSERPOOL_FAILOVER`.
    pub rf_type: u16,
    /// 0.
    pub rf_flags: u16,
    /// Length of the notification in bytes.
    pub rf_length: u32,
    /// `RSERPOOL_FAILOVER_NECESSARY` or `RSERPOOL_FAILOVER_COMPLETE`.
    pub rf_state: c_uint,
    /// The session.
    pub rf_session: rserpool_session_t,
    /// 1 if the session holds a cookie, otherwise 0.
    pub rf_has_cookie: c_uchar,
}

/// Notification `RSERPOOL_SESSION_CHANGE`.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct rserpool_session_change {
    /// `RSERPOOL_SESSION_CHANGE`.
    pub rsc_type: u16,
    /// 0.
    pub rsc_flags: u16,
    /// Length of the notification in bytes.
    pub rsc_length: u32,
    /// `RSERPOOL_SESSION_ADD` or `RSERPOOL_SESSION_REMOVE`.
    pub rsc_state: c_uint,
    /// The session.
    pub rsc_session: rserpool_session_t,
}

/// Notification `RSERPOOL_SHUTDOWN_EVENT`: the peer is ending the session in order.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct rserpool_shutdown_event {
    /// `RSERPOOL_SHUTDOWN_EVENT`.
    pub rse_type: u16,
    /// 0.
    pub rse_flags: u16,
    /// Length of the notification in bytes.
    pub rse_length: u32,
    /// The session.
    pub rse_session: rserpool_session_t,
}

/// What every notification begins with.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct rserpool_notification_header {
    /// Which notification it is.
    pub rn_type: u16,
    /// 0.
    pub rn_flags: u16,
    /// Length of the notification in bytes.
    pub rn_length: u32,
}

/// A notification: what `rsp_recvmsg` writes into the buffer when it sets `MSG_RSERPOOL_NOTIFICATION`.
/// Always 20 bytes.
#[repr(C)]
#[derive(Clone, Copy)]
pub union rserpool_notification {
    /// Look here first.
    pub rn_header: rserpool_notification_header,
    /// If `rn_type` is `RSERPOOL_FAILOVER`.
    pub rn_failover: rserpool_failover,
    /// If `rn_type` is `RSERPOOL_SESSION_CHANGE`.
    pub rn_session_change: rserpool_session_change,
    /// If `rn_type` is `RSERPOOL_SHUTDOWN_EVENT`.
    pub rn_shutdown_event: rserpool_shutdown_event,
}

/// How an SCTP association tries its paths (RFC 9260 16); times in milliseconds. See
/// `rsp_update_session_parameters`.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct rserpool_session_parameters {
    /// Initial retransmission time-out (RTO.Initial).
    pub sp_rto_initial: u32,
    /// Lowest retransmission time-out (RTO.Min).
    pub sp_rto_min: u32,
    /// Highest retransmission time-out (RTO.Max).
    pub sp_rto_max: u32,
    /// Failures in a row before the peer is given up (Association.Max.Retrans).
    pub sp_assoc_max_rxt: u32,
    /// Failures in a row before a path is left (Path.Max.Retrans).
    pub sp_path_max_rxt: u32,
    /// How often an idle path is probed (HB.interval).
    pub sp_hbinterval: u32,
}

/// One entry of a tag list: the last argument of the functions whose names end in `_tags`. A list ends
/// with `RSP_TAG_DONE`; NULL is an empty one. Tags that a function does not know are passed over. A list
/// goes on for at most 1024 entries, those in `RSP_TAG_MORE` included; what does not end there gives EINVAL.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct TagItem {
    /// What it says: `RSP_TAG_...`.
    pub Tag: c_uint,
    /// The value.
    pub Data: c_ulong,
}

/// Tag: the list ends here.
pub const RSP_TAG_DONE: c_uint = 0;
/// Tag: nothing.
pub const RSP_TAG_IGNORE: c_uint = 1;
/// Tag: the list goes on at the `struct TagItem` to which the value points; NULL: it ends here.
pub const RSP_TAG_MORE: c_uint = 2;
/// Tag: the next entry counts for nothing; with a value over 1 so many entries, up to the end of the list.
pub const RSP_TAG_SKIP: c_uint = 3;
/// Tag of `rsp_register_tags`: the element's identifier, 1 to 0xffffffff; 0: the library chooses.
pub const RSP_TAG_PE_IDENTIFIER: c_uint = 1_001_000;
/// Tag of `rsp_connect_tags` and `rsp_forcefailover_tags`: microseconds that opening a connection to one
/// element may take, at least 1: sets RSP_CONNECT_TIMEOUT of the descriptor, rounded up to milliseconds.
pub const RSP_TAG_CONNECT_TIMEOUT: c_uint = 1_002_000;
/// Tag of the same: microseconds between look-ups of a pool none of whose elements answers. Without effect:
/// the library goes by its own times.
pub const RSP_TAG_RESOLUTION_RETRY_DELAY: c_uint = 1_002_001;

/// `rsp_register` returns at once; the registration goes on in the background.
pub const REGF_DONTWAIT: c_int = 1;
/// The element offers a control channel (cookies, business cards). It does so without this flag, too.
pub const REGF_CONTROLCHANNEL: c_int = 2;
/// Accepted, without effect: the library keeps every registration alive by itself.
pub const REGF_DAEMONMODE: c_int = 4;
/// The element offers no control channel: its clients are plain TCP clients.
pub const REGF_DATAONLY: c_int = 0x100;
/// `rsp_deregister` returns at once.
pub const DEREGF_DONTWAIT: c_int = 1;

/// `rsp_forcefailover`: just move on.
pub const FFF_NONE: c_uint = 0;
/// `rsp_forcefailover`: the present element did not work; report it to the registrar.
pub const FFF_UNREACHABLE: c_uint = 1;

/// Message flag: the buffer holds a `union rserpool_notification`.
pub const MSG_RSERPOOL_NOTIFICATION: c_int = 1;
/// Message flag: the buffer holds the cookie a user brought from another element.
pub const MSG_RSERPOOL_COOKIE_ECHO: c_int = 2;
/// Message flag: the buffer holds a message of our own that was not delivered and will not be sent
/// again (RFC 5352 6.7).
pub const MSG_RSERPOOL_UNDELIVERED: c_int = 4;

/// Notification type: a session has begun or ended.
pub const RSERPOOL_SESSION_CHANGE: u16 = 1;
/// Notification type: a session has to move, or has moved, to another element.
pub const RSERPOOL_FAILOVER: u16 = 2;
/// Notification type: the peer ends the session.
pub const RSERPOOL_SHUTDOWN_EVENT: u16 = 3;
/// The element has failed.
pub const RSERPOOL_FAILOVER_NECESSARY: c_uint = 1;
/// The session goes on at another element.
pub const RSERPOOL_FAILOVER_COMPLETE: c_uint = 2;
/// A session has begun.
pub const RSERPOOL_SESSION_ADD: c_uint = 1;
/// A session has ended.
pub const RSERPOOL_SESSION_REMOVE: c_uint = 2;

/// `rsp_getaddrinfo`: one element.
pub const RSPGETADDRS_MIN: usize = 1;
/// `rsp_getaddrinfo`: all elements.
pub const RSPGETADDRS_MAX: usize = 0xffff_ffff;
/// `rsp_getaddrinfo`: as many as the library asks for by itself.
pub const RSPGETADDRS_DEFAULT: usize = 0;
/// `rsp_getaddrinfo`: no such pool.
pub const REAI_NONAME: c_int = -1;
/// `rsp_getaddrinfo`: out of memory.
pub const REAI_MEMORY: c_int = -2;
/// `rsp_getaddrinfo`: see errno.
pub const REAI_SYSTEM: c_int = -3;
/// `rsp_getaddrinfo`: no address of a known family.
pub const REAI_FAMILY: c_int = -4;
/// How many sessions one descriptor can serve in RSPLIB; libasap has no such limit.
pub const SESSION_SETSIZE: c_int = 16384;

/// Policy: round robin (RFC 5356 4.1).
pub const PPT_ROUNDROBIN: u32 = 0x0000_0001;
/// Policy: weighted round robin (RFC 5356 4.2).
pub const PPT_WEIGHTED_ROUNDROBIN: u32 = 0x0000_0002;
/// Policy: random (RFC 5356 4.3).
pub const PPT_RANDOM: u32 = 0x0000_0003;
/// Policy: weighted random (RFC 5356 4.4).
pub const PPT_WEIGHTED_RANDOM: u32 = 0x0000_0004;
/// Policy: priority (RFC 5356 4.5).
pub const PPT_PRIORITY: u32 = 0x0000_0005;
/// Policy: least used (RFC 5356 5.1).
pub const PPT_LEASTUSED: u32 = 0x4000_0001;
/// Policy: least used with degradation (RFC 5356 5.2).
pub const PPT_LEASTUSED_DEGRADATION: u32 = 0x4000_0002;
/// Policy: priority least used (RFC 5356 5.3).
pub const PPT_PRIORITY_LEASTUSED: u32 = 0x4000_0003;
/// Policy: randomized least used (RFC 5356 5.4).
pub const PPT_RANDOMIZED_LEASTUSED: u32 = 0x4000_0004;
/// Private policy of RSPLIB.
pub const PPT_RANDOMIZED_PRIORITY_LEASTUSED: u32 = 0xb000_1001;
/// Private policy of RSPLIB.
pub const PPT_RANDOMIZED_LEASTUSED_DEGRADATION: u32 = 0xb000_1002;
/// Private policy of RSPLIB.
pub const PPT_PRIORITY_LEASTUSED_DEGRADATION: u32 = 0xb000_1003;
/// Private policy of RSPLIB.
pub const PPT_RANDOMIZED_PRIORITY_LEASTUSED_DEGRADATION: u32 = 0xb000_1004;
/// Private policy of RSPLIB.
pub const PPT_WEIGHTED_RANDOM_DPF: u32 = 0xb000_2001;
/// Private policy of RSPLIB.
pub const PPT_LEASTUSED_DPF: u32 = 0xb000_2002;
/// Private policy of RSPLIB.
pub const PPT_LEASTUSED_DEGRADATION_DPF: u32 = 0xb000_2003;

/// `rsp_sendmsg`: out-of-order delivery is welcome (the value of Linux' SCTP_UNORDERED).
pub const RSP_UNORDERED: u16 = 0x0001;
/// `rsp_sendmsg`: break the session off (the value of Linux' SCTP_ABORT).
pub const RSP_ABORT: u16 = 0x0004;
/// `rsp_sendmsg`: end the session in order after this message (the value of Linux' SCTP_EOF).
pub const RSP_EOF: u16 = 0x0200;

/// Message delivery option (RFC 5352 6.5.5): what the session does by default.
pub const ASAP_USE_DEFAULT: u32 = 0x0000;
/// Message delivery option: send it to another element if this one fails.
pub const ASAP_SEND_FAILOVER: u32 = 0x0001;
/// Message delivery option: give it back (`MSG_RSERPOOL_UNDELIVERED`) if the element fails.
pub const ASAP_SEND_NO_FAILOVER: u32 = 0x0002;
/// Message delivery option: to the element the last message to this pool went to.
pub const ASAP_SEND_TO_LAST: u32 = 0x0004;
/// Message delivery option: a copy to every element of the pool but the sender (the element that this
/// program is itself: the one registered first).
pub const ASAP_SEND_TO_ALL: u32 = 0x0008;
/// Message delivery option: with ASAP_SEND_TO_ALL, to the sender, too.
pub const ASAP_SEND_TO_SELF: u32 = 0x0010;
/// Message delivery option: out-of-order delivery is welcome.
pub const ASAP_SCTP_UNORDER: u32 = 0x1000;

/// Level of the socket options below (`rsp_setsockopt`). Each is an int.
pub const SOL_RSERPOOL: c_int = 0x5253;
/// 1: the session moves on by itself when its element fails; 0 (default): the program calls
/// `rsp_forcefailover`.
pub const RSP_AUTO_FAILOVER: c_int = 1;
/// Milliseconds a failover may take before the session is given up; 0: no limit; default 30000.
pub const RSP_FAILOVER_DEADLINE: c_int = 2;
/// Milliseconds that opening a connection to one element may take before the next is tried, at least 1;
/// default 500.
pub const RSP_CONNECT_TIMEOUT: c_int = 3;
/// Milliseconds that `rsp_connect`, `rsp_register`, `rsp_deregister` and `rsp_forcefailover` may block;
/// 0: as `rsp_initialize` was told.
pub const RSP_CALL_TIMEOUT: c_int = 4;
/// Milliseconds that `rsp_read` and `rsp_recv` wait; 0: not at all; -1 (default): as long as it takes.
pub const RSP_RECV_TIMEOUT: c_int = 5;
/// Milliseconds that `rsp_write` and `rsp_send` wait; 0: not at all; -1 (default): as long as it takes.
pub const RSP_SEND_TIMEOUT: c_int = 6;
/// 1: send a business card (RFC 5352 3.9) also to peers that have not shown that they know such;
/// default 0.
pub const RSP_UNASKED_BUSINESS_CARD: c_int = 7;
/// Milliseconds after which a pool element ends the session of a user over UDP from which nothing comes any more, at least
/// 1; default 120000.
pub const RSP_IDLE_TIMEOUT: c_int = 8;

/// A change of a watched pool; see `rsp_watch_next`.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct rsp_poolchange {
    /// `RSP_POOL_ADDED`, `RSP_POOL_UPDATED`, `RSP_POOL_REMOVED` or `RSP_POOL_UPTODATE`.
    pub rpc_type: u32,
    /// The element; 0 with `RSP_POOL_UPTODATE`.
    pub rpc_pe_id: u32,
    /// Its policy and values, unless removed.
    pub rpc_loadinfo: rsp_loadinfo,
    /// IPPROTO_TCP, IPPROTO_UDP, IPPROTO_SCTP and so on, or 0 (unknown, or removed).
    pub rpc_protocol: c_int,
    /// Its first address, unless removed; the family is 0 if it has none.
    pub rpc_addr: libc::sockaddr_storage,
}

/// The element is in the pool: told for each element found there first, then for each that comes.
pub const RSP_POOL_ADDED: u32 = 1;
/// The element has changed its policy values or address.
pub const RSP_POOL_UPDATED: u32 = 2;
/// The element has left the pool.
pub const RSP_POOL_REMOVED: u32 = 3;
/// All elements present have been told.
pub const RSP_POOL_UPTODATE: u32 = 4;

/// A failover that has just succeeded; see `rsp_set_failover_callback`.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct rsp_failover_info {
    /// The session.
    pub rfi_session: rserpool_session_t,
    /// The element that failed; 0 if there was none.
    pub rfi_from: u32,
    /// The element where the session goes on.
    pub rfi_to: u32,
    /// 1 if a cookie was echoed to it, otherwise 0.
    pub rfi_has_cookie: u32,
    /// How long the session was without an element, in microseconds.
    pub rfi_gap: u64,
}

/// Called after a failover: the descriptor, what happened (valid during the call), and the pointer given.
pub type rsp_failover_callback =
    Option<unsafe extern "C" fn(sd: c_int, failover: *const rsp_failover_info, user: *mut c_void)>;

/// Called with each log line: the level (1 error, 2 warning, 3 information, 4 debugging, 5 tracing),
/// the part of the library, the line (both NUL-terminated UTF-8, valid during the call), and the
/// pointer given.
pub type asap_log_callback =
    Option<unsafe extern "C" fn(level: c_int, part: *const c_char, text: *const c_char, user: *mut c_void)>;
