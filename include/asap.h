#ifndef ASAP_H
#define ASAP_H

/* Generated from src/capi by tests/header.rs (UPDATE_HEADER=1): do not edit. */

#include <poll.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <sys/select.h>
#include <sys/socket.h>
#include <sys/types.h>

/*
 * libasap: Reliable Server Pooling (RFC 5351 to 5356). Link with -lasap. docs/c-api.md is the
 * guide.
 *
 * A server registers in a pool under a handle; a client connects to the handle, not to an address;
 * when the server dies, the client's session goes on at another server of the pool, with the state
 * cookie the first one gave it.
 *
 * Pools. Where a function takes a pool handle, it takes a name, too: bytes that begin with "pool://" are
 * pool://HANDLE?OPTION=VALUE&..., with %XX for any byte; docs/adopting.md has the options. What is wrong
 * with a name is EINVAL and a sentence.
 *
 * Failures. Functions return -1 and set errno, unless they say otherwise; asap_last_error() gives a
 * sentence with what failed, what was tried and what to do. Errors listed are those to reckon with.
 * Before rsp_initialize(), every function that needs it gives EACCES (with a pool handle, or
 * rsp_socket) or EBADF (with a descriptor). EIO is a defect of the library. A failed call changes
 * nothing unless it says so.
 *
 * Threads. Every function may be called by every thread at any time, where nothing else is said. No
 * lock is held while a call waits.
 *
 * Fork. Parent and child may both go on with the sessions they share descriptors of, as long as
 * only one of them uses each; what needs a registrar gives ENOTSUP in the child until it calls
 * rsp_initialize(). Descriptors are closed by exec.
 *
 * Signals. The library's thread blocks all of them; calls that wait return -1 with EINTR when a
 * handler has run. SIGPIPE is never raised.
 *
 * Strings and structures are the caller's and not kept after the call, unless a function says
 * otherwise.
 */

/* <netdb.h> has these. */
struct addrinfo;
struct hostent;


/** The API version that `rsp_initialize` writes into `struct rsp_info`. */
#define RSPLIB_VERSION 2

/** Its revision. */
#define RSPLIB_REVISION 3

/** Tag: the list ends here. */
#define RSP_TAG_DONE 0

/** Tag: nothing. */
#define RSP_TAG_IGNORE 1

/** Tag: the list goes on at the `struct TagItem` to which the value points; NULL: it ends here. */
#define RSP_TAG_MORE 2

/** Tag: the next entry counts for nothing; with a value over 1 so many entries, up to the end of the list. */
#define RSP_TAG_SKIP 3

/** Tag of `rsp_register_tags`: the element's identifier, 1 to 0xffffffff; 0: the library chooses. */
#define RSP_TAG_PE_IDENTIFIER 0xf4628

/**
 * Tag of `rsp_connect_tags` and `rsp_forcefailover_tags`: microseconds that opening a connection to one
 * element may take, at least 1: sets RSP_CONNECT_TIMEOUT of the descriptor, rounded up to milliseconds.
 */
#define RSP_TAG_CONNECT_TIMEOUT 0xf4a10

/**
 * Tag of the same: microseconds between look-ups of a pool none of whose elements answers. Without effect:
 * the library goes by its own times.
 */
#define RSP_TAG_RESOLUTION_RETRY_DELAY 0xf4a11

/** `rsp_register` returns at once; the registration goes on in the background. */
#define REGF_DONTWAIT 1

/** The element offers a control channel (cookies, business cards). It does so without this flag, too. */
#define REGF_CONTROLCHANNEL 2

/** Accepted, without effect: the library keeps every registration alive by itself. */
#define REGF_DAEMONMODE 4

/** The element offers no control channel: its clients are plain TCP clients. */
#define REGF_DATAONLY 0x0100

/** `rsp_deregister` returns at once. */
#define DEREGF_DONTWAIT 1

/** `rsp_forcefailover`: just move on. */
#define FFF_NONE 0

/** `rsp_forcefailover`: the present element did not work; report it to the registrar. */
#define FFF_UNREACHABLE 1

/** Message flag: the buffer holds a `union rserpool_notification`. */
#define MSG_RSERPOOL_NOTIFICATION 1

/** Message flag: the buffer holds the cookie a user brought from another element. */
#define MSG_RSERPOOL_COOKIE_ECHO 2

/**
 * Message flag: the buffer holds a message of our own that was not delivered and will not be sent
 * again (RFC 5352 6.7).
 */
#define MSG_RSERPOOL_UNDELIVERED 4

/** Notification type: a session has begun or ended. */
#define RSERPOOL_SESSION_CHANGE 1

/** Notification type: a session has to move, or has moved, to another element. */
#define RSERPOOL_FAILOVER 2

/** Notification type: the peer ends the session. */
#define RSERPOOL_SHUTDOWN_EVENT 3

/** The element has failed. */
#define RSERPOOL_FAILOVER_NECESSARY 1

/** The session goes on at another element. */
#define RSERPOOL_FAILOVER_COMPLETE 2

/** A session has begun. */
#define RSERPOOL_SESSION_ADD 1

/** A session has ended. */
#define RSERPOOL_SESSION_REMOVE 2

/** `rsp_getaddrinfo`: one element. */
#define RSPGETADDRS_MIN 1

/** `rsp_getaddrinfo`: all elements. */
#define RSPGETADDRS_MAX 0xffffffffu

/** `rsp_getaddrinfo`: as many as the library asks for by itself. */
#define RSPGETADDRS_DEFAULT 0

/** `rsp_getaddrinfo`: no such pool. */
#define REAI_NONAME -1

/** `rsp_getaddrinfo`: out of memory. */
#define REAI_MEMORY -2

/** `rsp_getaddrinfo`: see errno. */
#define REAI_SYSTEM -3

/** `rsp_getaddrinfo`: no address of a known family. */
#define REAI_FAMILY -4

/** How many sessions one descriptor can serve in RSPLIB; libasap has no such limit. */
#define SESSION_SETSIZE 0x4000

/** Policy: round robin (RFC 5356 4.1). */
#define PPT_ROUNDROBIN 1

/** Policy: weighted round robin (RFC 5356 4.2). */
#define PPT_WEIGHTED_ROUNDROBIN 2

/** Policy: random (RFC 5356 4.3). */
#define PPT_RANDOM 3

/** Policy: weighted random (RFC 5356 4.4). */
#define PPT_WEIGHTED_RANDOM 4

/** Policy: priority (RFC 5356 4.5). */
#define PPT_PRIORITY 5

/** Policy: least used (RFC 5356 5.1). */
#define PPT_LEASTUSED 0x40000001

/** Policy: least used with degradation (RFC 5356 5.2). */
#define PPT_LEASTUSED_DEGRADATION 0x40000002

/** Policy: priority least used (RFC 5356 5.3). */
#define PPT_PRIORITY_LEASTUSED 0x40000003

/** Policy: randomized least used (RFC 5356 5.4). */
#define PPT_RANDOMIZED_LEASTUSED 0x40000004

/** Private policy of RSPLIB. */
#define PPT_RANDOMIZED_PRIORITY_LEASTUSED 0xb0001001u

/** Private policy of RSPLIB. */
#define PPT_RANDOMIZED_LEASTUSED_DEGRADATION 0xb0001002u

/** Private policy of RSPLIB. */
#define PPT_PRIORITY_LEASTUSED_DEGRADATION 0xb0001003u

/** Private policy of RSPLIB. */
#define PPT_RANDOMIZED_PRIORITY_LEASTUSED_DEGRADATION 0xb0001004u

/** Private policy of RSPLIB. */
#define PPT_WEIGHTED_RANDOM_DPF 0xb0002001u

/** Private policy of RSPLIB. */
#define PPT_LEASTUSED_DPF 0xb0002002u

/** Private policy of RSPLIB. */
#define PPT_LEASTUSED_DEGRADATION_DPF 0xb0002003u

/** `rsp_sendmsg`: out-of-order delivery is welcome (the value of Linux' SCTP_UNORDERED). */
#define RSP_UNORDERED 1

/** `rsp_sendmsg`: break the session off (the value of Linux' SCTP_ABORT). */
#define RSP_ABORT 4

/** `rsp_sendmsg`: end the session in order after this message (the value of Linux' SCTP_EOF). */
#define RSP_EOF 0x0200

/** Message delivery option (RFC 5352 6.5.5): what the session does by default. */
#define ASAP_USE_DEFAULT 0

/** Message delivery option: send it to another element if this one fails. */
#define ASAP_SEND_FAILOVER 1

/** Message delivery option: give it back (`MSG_RSERPOOL_UNDELIVERED`) if the element fails. */
#define ASAP_SEND_NO_FAILOVER 2

/** Message delivery option: to the element the last message to this pool went to. */
#define ASAP_SEND_TO_LAST 4

/**
 * Message delivery option: a copy to every element of the pool but the sender (the element that this
 * program is itself: the one registered first).
 */
#define ASAP_SEND_TO_ALL 8

/** Message delivery option: with ASAP_SEND_TO_ALL, to the sender, too. */
#define ASAP_SEND_TO_SELF 16

/** Message delivery option: out-of-order delivery is welcome. */
#define ASAP_SCTP_UNORDER 0x1000

/** Level of the socket options below (`rsp_setsockopt`). Each is an int. */
#define SOL_RSERPOOL 0x5253

/**
 * 1: the session moves on by itself when its element fails; 0 (default): the program calls
 * `rsp_forcefailover`.
 */
#define RSP_AUTO_FAILOVER 1

/** Milliseconds a failover may take before the session is given up; 0: no limit; default 30000. */
#define RSP_FAILOVER_DEADLINE 2

/**
 * Milliseconds that opening a connection to one element may take before the next is tried, at least 1;
 * default 500.
 */
#define RSP_CONNECT_TIMEOUT 3

/**
 * Milliseconds that `rsp_connect`, `rsp_register`, `rsp_deregister` and `rsp_forcefailover` may block;
 * 0: as `rsp_initialize` was told.
 */
#define RSP_CALL_TIMEOUT 4

/** Milliseconds that `rsp_read` and `rsp_recv` wait; 0: not at all; -1 (default): as long as it takes. */
#define RSP_RECV_TIMEOUT 5

/** Milliseconds that `rsp_write` and `rsp_send` wait; 0: not at all; -1 (default): as long as it takes. */
#define RSP_SEND_TIMEOUT 6

/**
 * 1: send a business card (RFC 5352 3.9) also to peers that have not shown that they know such;
 * default 0.
 */
#define RSP_UNASKED_BUSINESS_CARD 7

/**
 * Milliseconds after which a pool element ends the session of a user over UDP from which nothing comes any more, at least
 * 1; default 120000.
 */
#define RSP_IDLE_TIMEOUT 8

/** The element is in the pool: told for each element found there first, then for each that comes. */
#define RSP_POOL_ADDED 1

/** The element has changed its policy values or address. */
#define RSP_POOL_UPDATED 2

/** The element has left the pool. */
#define RSP_POOL_REMOVED 3

/** All elements present have been told. */
#define RSP_POOL_UPTODATE 4

/** `asap_serve`: return at once, and go on trying in the background. */
#define ASAP_DONTWAIT 1

/** `asap_registrar_address`: where it serves servers and clients. */
#define ASAP_REGISTRAR_ASAP 1

/** `asap_registrar_address`: where it serves other registrars. */
#define ASAP_REGISTRAR_ENRP 2

/** `arc_flags`: accept servers that register addresses other than their own. */
#define ASAP_REGISTRAR_PROXY 1

/** A registrar that this program hosts; see `asap_registrar_start`. */
struct asap_registrar;

/** One registrar given by configuration. */
struct rsp_registrar_info {
    /** The next one, or NULL. */
    struct rsp_registrar_info *rri_next;
    /** Its addresses, packed one behind the other. */
    struct sockaddr *rri_addr;
    /** How many. */
    size_t rri_addrs;
};

/**
 * How the library is to be set up; see `rsp_initinfo`. Times are in milliseconds; 0 stands for the
 * default.
 */
struct rsp_info {
    /** Set by `rsp_initialize`: `RSPLIB_VERSION`. */
    unsigned int ri_version;
    /** Set by `rsp_initialize`: `RSPLIB_REVISION`. */
    unsigned int ri_revision;
    /** NULL. */
    const char *ri_build_date;
    /** NULL. */
    const char *ri_build_time;
    /**
     * Registrars to use, before those of the environment variable ASAP_REGISTRARS (HOST[:PORT],...
     * with addresses or DNS names) and announced ones; NULL and no such variable: port 3863 of this
     * host.
     */
    struct rsp_registrar_info *ri_registrars;
    /** Not 0: do not listen for announcements. */
    int ri_disable_autoconfig;
    /** The multicast group announcements come on; NULL: 224.0.1.185:3863 and the IPv6 group, and RSPLIB's 239.0.0.50:3863. */
    struct sockaddr *ri_registrar_announce;
    /** How long an announced registrar is believed (T7-ENRPoutdate); default 5000. */
    unsigned int ri_registrar_announce_timeout;
    /** How long one round of the server hunt may take (T5-Serverhunt); default 250. */
    unsigned int ri_registrar_connect_timeout;
    /** Without effect: the hunt goes on as long as somebody waits. */
    unsigned int ri_registrar_connect_max_trials;
    /**
     * How long a call without a time-out of its own may block that needs a registrar or a pool
     * element; default 10000.
     */
    unsigned int ri_registrar_request_timeout;
    /**
     * How long a registrar may take to answer before the request is repeated (T1, T2, T3); default
     * 250 for a look-up, 500 for the others.
     */
    unsigned int ri_registrar_response_timeout;
    /** How often a request is sent in all (MAX-REQUEST-RETRANSMIT plus one); default 3. */
    unsigned int ri_registrar_request_max_trials;
    /**
     * Component status protocol: who reports, 0x02 in the highest byte and a pool element's identifier in
     * the lowest four. 0: each registered element does, and sessions with pools do as one user.
     */
    uint64_t ri_csp_identifier;
    /** Component status protocol (RSPLIB's): where reports go, cspmonitor or `asapctl monitor`; NULL: nowhere. */
    struct sockaddr *ri_csp_server;
    /** Component status protocol: milliseconds between reports; 0: none are sent. */
    unsigned int ri_csp_interval;
};

/**
 * Called with each log line: the level (1 error, 2 warning, 3 information, 4 debugging, 5 tracing),
 * the part of the library, the line (both NUL-terminated UTF-8, valid during the call), and the
 * pointer given.
 */
typedef void (*asap_log_callback)(int level, const char *part, const char *text, void *user);

/**
 * A pool member selection policy with its values (RFC 5356). Loads go from 0 (idle) to 0xffffffff
 * (full).
 */
struct rsp_loadinfo {
    /** Which policy: `PPT_ROUNDROBIN` and so on. */
    uint32_t rli_policy;
    /** Weight (weighted policies) or priority (PPT_PRIORITY, higher ones first). */
    uint32_t rli_weight;
    /** Delay penalty factor of the weight (the private DPF policies). */
    uint32_t rli_weight_dpf;
    /** Present load (least-used policies). */
    uint32_t rli_load;
    /** What one more session adds to the load (degradation policies). */
    uint32_t rli_load_degradation;
    /** Delay penalty factor of the load (the private DPF policies). */
    uint32_t rli_load_dpf;
};

/** Names a session of a descriptor; 0 stands for "the session it is connected by". */
typedef int rserpool_session_t;

/** A failover that has just succeeded; see `rsp_set_failover_callback`. */
struct rsp_failover_info {
    /** The session. */
    rserpool_session_t rfi_session;
    /** The element that failed; 0 if there was none. */
    uint32_t rfi_from;
    /** The element where the session goes on. */
    uint32_t rfi_to;
    /** 1 if a cookie was echoed to it, otherwise 0. */
    uint32_t rfi_has_cookie;
    /** How long the session was without an element, in microseconds. */
    uint64_t rfi_gap;
};

/** Called after a failover: the descriptor, what happened (valid during the call), and the pointer given. */
typedef void (*rsp_failover_callback)(int sd, const struct rsp_failover_info *failover, void *user);

/** What every notification begins with. */
struct rserpool_notification_header {
    /** Which notification it is. */
    uint16_t rn_type;
    /** 0. */
    uint16_t rn_flags;
    /** Length of the notification in bytes. */
    uint32_t rn_length;
};

/** Notification `RSERPOOL_FAILOVER`. */
struct rserpool_failover {
    /** `RSERPOOL_FAILOVER`. */
    uint16_t rf_type;
    /** 0. */
    uint16_t rf_flags;
    /** Length of the notification in bytes. */
    uint32_t rf_length;
    /** `RSERPOOL_FAILOVER_NECESSARY` or `RSERPOOL_FAILOVER_COMPLETE`. */
    unsigned int rf_state;
    /** The session. */
    rserpool_session_t rf_session;
    /** 1 if the session holds a cookie, otherwise 0. */
    unsigned char rf_has_cookie;
};

/** Notification `RSERPOOL_SESSION_CHANGE`. */
struct rserpool_session_change {
    /** `RSERPOOL_SESSION_CHANGE`. */
    uint16_t rsc_type;
    /** 0. */
    uint16_t rsc_flags;
    /** Length of the notification in bytes. */
    uint32_t rsc_length;
    /** `RSERPOOL_SESSION_ADD` or `RSERPOOL_SESSION_REMOVE`. */
    unsigned int rsc_state;
    /** The session. */
    rserpool_session_t rsc_session;
};

/** Notification `RSERPOOL_SHUTDOWN_EVENT`: the peer is ending the session in order. */
struct rserpool_shutdown_event {
    /** `RSERPOOL_SHUTDOWN_EVENT`. */
    uint16_t rse_type;
    /** 0. */
    uint16_t rse_flags;
    /** Length of the notification in bytes. */
    uint32_t rse_length;
    /** The session. */
    rserpool_session_t rse_session;
};

/**
 * A notification: what `rsp_recvmsg` writes into the buffer when it sets `MSG_RSERPOOL_NOTIFICATION`.
 * Always 20 bytes.
 */
union rserpool_notification {
    /** Look here first. */
    struct rserpool_notification_header rn_header;
    /** If `rn_type` is `RSERPOOL_FAILOVER`. */
    struct rserpool_failover rn_failover;
    /** If `rn_type` is `RSERPOOL_SESSION_CHANGE`. */
    struct rserpool_session_change rn_session_change;
    /** If `rn_type` is `RSERPOOL_SHUTDOWN_EVENT`. */
    struct rserpool_shutdown_event rn_shutdown_event;
};

/** Where a received message came from. */
struct rsp_sndrcvinfo {
    /** The session. */
    rserpool_session_t rinfo_session;
    /** Payload protocol identifier, in network byte order for data. */
    uint32_t rinfo_ppid;
    /**
     * The element that sent it (or, with `MSG_RSERPOOL_UNDELIVERED`, should have got it); 0 if it was
     * no element.
     */
    uint32_t rinfo_pe_id;
    /** Always 0 on receipt. */
    uint32_t rinfo_timetolive;
    /** The stream. */
    uint16_t rinfo_stream;
};

/**
 * How an SCTP association tries its paths (RFC 9260 16); times in milliseconds. See
 * `rsp_update_session_parameters`.
 */
struct rserpool_session_parameters {
    /** Initial retransmission time-out (RTO.Initial). */
    uint32_t sp_rto_initial;
    /** Lowest retransmission time-out (RTO.Min). */
    uint32_t sp_rto_min;
    /** Highest retransmission time-out (RTO.Max). */
    uint32_t sp_rto_max;
    /** Failures in a row before the peer is given up (Association.Max.Retrans). */
    uint32_t sp_assoc_max_rxt;
    /** Failures in a row before a path is left (Path.Max.Retrans). */
    uint32_t sp_path_max_rxt;
    /** How often an idle path is probed (HB.interval). */
    uint32_t sp_hbinterval;
};

/** One pool element, in basic mode. */
struct rsp_addrinfo {
    /** AF_INET or AF_INET6, of the first address. */
    int ai_family;
    /** SOCK_STREAM or SOCK_DGRAM. */
    int ai_socktype;
    /** IPPROTO_TCP, IPPROTO_UDP or IPPROTO_SCTP. */
    int ai_protocol;
    /** Size of the first address in bytes, as connect(2) wants it. */
    size_t ai_addrlen;
    /** How many addresses there are. */
    size_t ai_addrs;
    /** The addresses, packed one behind the other: 16 bytes each for IPv4, 28 for IPv6. */
    struct sockaddr *ai_addr;
    /** The next element, or NULL. */
    struct rsp_addrinfo *ai_next;
    /** The element's identifier in its pool. */
    uint32_t ai_pe_id;
};

/** A change of a watched pool; see `rsp_watch_next`. */
struct rsp_poolchange {
    /** `RSP_POOL_ADDED`, `RSP_POOL_UPDATED`, `RSP_POOL_REMOVED` or `RSP_POOL_UPTODATE`. */
    uint32_t rpc_type;
    /** The element; 0 with `RSP_POOL_UPTODATE`. */
    uint32_t rpc_pe_id;
    /** Its policy and values, unless removed. */
    struct rsp_loadinfo rpc_loadinfo;
    /** IPPROTO_TCP, IPPROTO_UDP, IPPROTO_SCTP and so on, or 0 (unknown, or removed). */
    int rpc_protocol;
    /** Its first address, unless removed; the family is 0 if it has none. */
    struct sockaddr_storage rpc_addr;
};

/**
 * One entry of a tag list: the last argument of the functions whose names end in `_tags`. A list ends
 * with `RSP_TAG_DONE`; NULL is an empty one. Tags that a function does not know are passed over. A list
 * goes on for at most 1024 entries, those in `RSP_TAG_MORE` included; what does not end there gives EINVAL.
 */
struct TagItem {
    /** What it says: `RSP_TAG_...`. */
    unsigned int Tag;
    /** The value. */
    unsigned long Data;
};

/**
 * Asked whether the program is well; see `asap_serve`. `fd`: the descriptor. `load`: the policy and values it is
 * registered with, to be changed if they are others now. `user`: as given. Returns 0: well; -1: the element
 * is to be in no pool until the next answer.
 */
typedef int (*asap_health_callback)(int fd, struct rsp_loadinfo *load, void *user);

/**
 * How a descriptor is served. Set asc_size, leave what is to have its default NULL or 0:
 * `struct asap_serve_config config = {.asc_size = sizeof(config)};`
 */
struct asap_serve_config {
    /** sizeof(struct asap_serve_config), so that a program need not know what later versions add. */
    size_t asc_size;
    /** Policy and values; NULL: those of the name, else of ASAP_POLICY or the configuration file, else round robin. */
    const struct rsp_loadinfo *asc_load;
    /** Asked whether the program is well; NULL: as long as it lives it is. */
    asap_health_callback asc_health;
    /** Handed to asc_health. */
    void *asc_user;
    /** How often it is asked, milliseconds; 0: 1000. */
    unsigned int asc_health_interval;
    /** How long an answer may take, milliseconds, before the program counts as not well; 0: 5000. */
    unsigned int asc_health_timeout;
    /** How often the registration is renewed, milliseconds; it stands three times as long. 0: 30000. */
    unsigned int asc_interval;
    /** The element's identifier; 0: random. */
    uint32_t asc_pe_id;
};

/**
 * What a registrar is told. Set arc_size, leave what is to have its default NULL or 0:
 * `struct asap_registrar_config config = {.arc_size = sizeof(config)};`
 *
 * Addresses are numbers, "10.0.0.1:3863" or "[::1]:3863"; port 0 is any that is free. Lists are separated by commas.
 */
struct asap_registrar_config {
    /** sizeof(struct asap_registrar_config), so that a program need not know what later versions add. */
    size_t arc_size;
    /** Where it serves servers and clients (ASAP); default "127.0.0.1:3863". */
    const char *arc_asap;
    /** Where it serves other registrars (ENRP); default "127.0.0.1:9901". */
    const char *arc_enrp;
    /**
     * ENRP addresses or DNS names of other registrars, with or without port; default none. Its own address
     * among them does no harm: all registrars of a cluster can be told the same.
     */
    const char *arc_peers;
    /**
     * "auto": it announces itself and finds others on the usual multicast groups, if it serves more than this
     * host; "off": not at all; or groups of your own for servers and clients, "GROUP:PORT" or, for
     * RSPLIB's programs, "rsplib:GROUP:PORT". Default "auto".
     */
    const char *arc_announce;
    /** Groups of your own for registrars among themselves. */
    const char *arc_announce_enrp;
    /** Timers: "lan", "wan" or "rfc"; default "lan". */
    const char *arc_profile;
    /** Path of the administration socket, for asapctl; default none. */
    const char *arc_admin;
    /** Its identifier among registrars; 0: random. */
    unsigned int arc_id;
    /** 0 or ASAP_REGISTRAR_PROXY. */
    unsigned int arc_flags;
    /** Pools at most; 0: 100000. */
    size_t arc_max_pools;
    /** Elements in all pools at most; 0: 1000000. */
    size_t arc_max_elements;
    /** Connections at most; 0: 65536. Each takes a descriptor of the process. */
    size_t arc_max_links;
    /**
     * How others are taken to speak: "rfc", "rsplib", or "auto", found out from each; default "auto"
     * (docs/rsplib-dialect.md). Appended: a program compiled before it has the default.
     */
    const char *arc_dialect;
};

#ifdef __cplusplus
extern "C" {
#endif // __cplusplus

/**
 * The sentence that belongs to the calling thread's last failed `rsp_*` or `asap_*` call: what failed,
 * what was tried, what to do.
 *
 * Returns a NUL-terminated UTF-8 string, never NULL; empty if nothing has failed yet. It is the
 * library's: do not free it; it holds until the thread's next failing call.
 *
 * Threads: each thread has its own. Fork: safe in the child. Since 0.1.
 */
const char *asap_last_error(void);

/**
 * Clears `info`: everything at its default, but ri_csp_server and ri_csp_interval as the environment has them:
 * CSP_SERVER (HOST[:PORT]) and CSP_INTERVAL (milliseconds, at least 250). One of the variables is enough: port 2960
 * of this host, every second. A name in CSP_SERVER is looked up by this call.
 *
 * `info`: 96 bytes to be written; NULL is ignored.
 *
 * Threads: any; one at a time for the same `info`. Fork: safe in the child. Since 0.1.
 */
void rsp_initinfo(struct rsp_info *info);

/**
 * Frees what `rsp_initarg` put into `info`: the list of registrars, with free(3). The structure itself
 * is the caller's.
 *
 * `info`: from `rsp_initinfo`; NULL is ignored. A second call does nothing.
 *
 * Threads: any; one at a time for the same `info`. Fork: safe in the child. Since 0.1.
 */
void rsp_freeinfo(struct rsp_info *info);

/**
 * Looks at one word of the command line.
 *
 * `info`: from `rsp_initinfo`. `arg`: one of
 *   -registrar=ADDRESS[:PORT][,ADDRESS[:PORT]...]   adds one registrar with these addresses (port 3863 unless given;
 *                                                   IPv6 addresses with port in brackets), or those of DNS names
 *   -asapannounce=auto | off | ADDRESS[:PORT]       listen for announcements on IANA's groups and RSPLIB's, not at all, or there
 *   -registrarannouncetimeout=MS, -registrarconnecttimeout=MS, -registrarconnectmaxtrials=N, -registrarrequesttimeout=MS,
 *   -registrarresponsetimeout=MS, -registrarrequestmaxtrials=N
 *                                                   the fields of struct rsp_info with these names
 *   -cspserver=ADDRESS[:PORT]                       report status there (port 2960 unless given), as often as
 *   -cspinterval=MILLISECONDS                       says; 0: not at all
 *   -cspidentifier=NUMBER                           as this pool element, whatever is registered (0x...: hexadecimal)
 *
 * Returns 1 if the word was one of these and is now in `info`; 0 if not: it may be an option of the
 * program. A word of ours with a bad value also gives 0, and `asap_last_error` says what is wrong with
 * it. Nothing is printed. DNS names are looked up at once. (librsplib.so.3 has more words, and gives 0 for the six times and trials, too: docs/semantics.md.)
 * Errors: with 0, errno is EINVAL for a bad value, EFAULT for NULL, ENOMEM; otherwise unchanged.
 *
 * Threads: any; one at a time for the same `info`. Fork: safe in the child. Since 0.1.
 */
int rsp_initarg(struct rsp_info *info,
                const char *arg);

/**
 * Starts the library: one background thread, with all signals blocked. To be called before any other
 * function that takes a descriptor or a pool handle.
 *
 * `info`: set-up, read during the call only and not kept; its version fields are written. NULL: all
 * defaults, as after `rsp_initinfo`.
 *
 * Returns 0; also when the library is running already: then nothing changes. -1 on failure.
 * Errors: EAFNOSUPPORT (an address in `info`), EFAULT, EINVAL (a value in an ASAP_ variable or in the
 * configuration file, or no registrar named there can be used: the sentence says which), ENOENT, EACCES (the
 * file that ASAP_CONFIG names), EMFILE, ENFILE, ENOMEM, EAGAIN (no thread). No registrar is needed yet; it is
 * looked for in the background. DNS names of registrars are looked up by this call, once; environment and
 * file are read by it (docs/adopting.md).
 *
 * Threads: any. Fork: a child calls it again before it uses functions that need a registrar. RFC 5352
 * 3.6. Since 0.1.
 */
int rsp_initialize(struct rsp_info *info);

/**
 * Closes every descriptor of the library that is still open, ends the registrations, and stops the
 * background thread. Afterwards `rsp_initialize` may be called again. Does nothing if the library is
 * not running. When it returns no function that was given to the library is being called, or will be.
 *
 * Threads: any, while no other thread is inside an `rsp_*` call. Fork: in a child it closes what was
 * inherited and tells nobody. RFC 5352 3.2. Since 0.1.
 */
void rsp_cleanup(void);

/**
 * The version of the library, "MAJOR.MINOR.PATCH". A static string.
 *
 * Threads: any. Fork: safe in the child. Since 0.1.
 */
const char *asap_version(void);

/**
 * Gives the library's log to the program. By itself the library logs nowhere and prints nothing, unless
 * whoever starts the program sets ASAP_LOG (docs/adopting.md): then it is printed to standard error, as long as
 * the program does not take it.
 *
 * `callback`: called with each line, from any thread, also the library's own; what the library does on
 * its behalf is not logged. NULL ends the log. `level`: lines up to this level: 0 none, 1 errors, 2
 * warnings, 3 information, 4 debugging, 5 tracing. `user`: handed to the callback.
 *
 * Returns 0 or -1. When it returns, the former callback is not running and will not be called again.
 * Errors: EINVAL (level), EDEADLK (called by the callback), EEXIST (the program, written in Rust, has
 * a logger of its own, which gets the lines).
 *
 * Threads: any. Fork: safe in the child. Since 0.1.
 */
int asap_set_log(asap_log_callback callback,
                 int level,
                 void *user);

/**
 * Creates a socket.
 *
 * `domain`: AF_INET, AF_INET6, or 0 for both. `type`: SOCK_SEQPACKET (messages, with notifications; a
 * server serves all its sessions on this one descriptor) or SOCK_STREAM (one session a descriptor; a
 * server calls `rsp_accept`). `protocol`: what a server's sessions are carried by: IPPROTO_TCP,
 * IPPROTO_SCTP, or 0: what works best; IPPROTO_UDP: datagrams, SOCK_SEQPACKET only: nothing is sent
 * again that gets lost, there are no cookies, and a session ends when its user is silent for
 * RSP_IDLE_TIMEOUT. A client takes what the server it connects to has.
 *
 * Returns a descriptor of the kernel, or -1. Readable in poll(2), select(2), epoll(7) and every event
 * loop means: call an `rsp_*` function, which may return EAGAIN. The number stays the same through
 * failovers. Never read(2), write(2) or close(2) it.
 * Errors: EACCES (before `rsp_initialize`), EAFNOSUPPORT, EINVAL (type), EPROTONOSUPPORT (protocol;
 * for IPPROTO_SCTP where there is none), EMFILE, ENFILE, ENOMEM, ENOTSUP (in a child after fork).
 *
 * Threads: any. Fork: the child may go on with sessions that it inherits. RFC 5352 6. Since 0.1.
 */
int rsp_socket(int domain, int type, int protocol);

/**
 * Creates a server's socket at one that the program has made itself: with options of its own, or given
 * to it, bound and listening already, by whoever started it.
 *
 * `domain`, `type`, `protocol`: as `rsp_socket`; `protocol` 0 or what `fd` has. `fd`: a socket of TCP, UDP
 * or one-to-one SCTP, not connected; it need not be bound, nor listen. Negative: as `rsp_socket`.
 *
 * Returns a descriptor, as `rsp_socket`; `fd` is closed then, the library has the socket under a number of
 * its own. Or -1: `fd` is still the program's. A client may be made of the descriptor, too, but has no use
 * for `fd`.
 * Errors: as `rsp_socket`; EBADF, ENOTSOCK, EPROTONOSUPPORT (`fd` is a socket of another kind), EPROTOTYPE
 * (`protocol` is not that of `fd`), EISCONN (`fd` is connected), EINVAL (`fd` is one of the library's),
 * EOPNOTSUPP (SOCK_STREAM over UDP).
 *
 * Threads: any. Fork: not useful in the child. Since 0.1.
 */
int rsp_socket_internal(int domain, int type, int protocol, int fd);

/**
 * Binds a server's socket to addresses of this host.
 *
 * `sd`: from `rsp_socket`. `addrs`: `count` addresses, packed one behind the other (16 bytes each for
 * IPv4, 28 for IPv6), all with the same port or port 0 (any); NULL with `count` 0: all addresses, any
 * port.
 *
 * Returns 0 or -1. Errors: EBADF, EFAULT, EINVAL (bound already; count below 0 or over 64), EISCONN,
 * EOPNOTSUPP (more than one address over TCP or UDP; SOCK_STREAM over UDP), EAFNOSUPPORT, EADDRINUSE, EADDRNOTAVAIL, EACCES.
 *
 * Threads: any. Fork: not useful in the child. RFC 5352 6.1. Since 0.1.
 */
int rsp_bind(int sd,
             const struct sockaddr *addrs,
             int count);

/**
 * Listens for sessions. A socket that is not bound is bound to all addresses and any port. May be
 * called again to change the backlog.
 *
 * `sd`: from `rsp_socket`. `backlog`: as listen(2), but without effect: as many as the system allows
 * may wait.
 *
 * Returns 0 or -1. Errors: EBADF, EISCONN, EADDRINUSE, EMFILE.
 *
 * Threads: any. Fork: not useful in the child. Since 0.1.
 */
int rsp_listen(int sd, int backlog);

/**
 * Registers a server as an element of a pool, or changes its registration: policy values, interval.
 * Binds and listens if that is still to be done. The library renews the registration, and moves it to
 * another registrar when one is lost.
 *
 * `sd`: from `rsp_socket`. `poolHandle`, `poolHandleSize`: the pool's name, any 1 to 1024 bytes.
 * `loadinfo`: policy and values; NULL: round robin. `reregistrationInterval`: milliseconds between renewals (0: 30000);
 * the registration stands three times as long without one. `flags`: `REGF_...` OR-ed.
 * Blocks until a registrar has answered (see RSP_CALL_TIMEOUT), unless `REGF_DONTWAIT`.
 *
 * Returns 0, or -1: nothing has changed: not registered, or registered as before.
 * Errors: EBADF, EFAULT, EINVAL (flags, policy, empty handle, other handle than before; refused by the
 * registrar: a value, say an address that is not this host's), EISCONN (it has a session),
 * ENAMETOOLONG, EHOSTUNREACH (no registrar; the sentence names those tried), ETIMEDOUT (a registrar is
 * there but does not answer), EACCES or EPERM (refused), EEXIST (identifier taken), EPROTOTYPE (the
 * pool has another policy, transport or control channel), ENOSPC (the registrar is full), EADDRINUSE,
 * ENOTSUP (in a child after fork).
 *
 * Threads: any. Fork: ENOTSUP in the child until `rsp_initialize`. RFC 5352 3.1, 6.1. Since 0.1.
 */
int rsp_register(int sd,
                 const unsigned char *poolHandle,
                 size_t poolHandleSize,
                 const struct rsp_loadinfo *loadinfo,
                 unsigned int reregistrationInterval,
                 int flags);

/**
 * Ends a registration. Sessions go on.
 *
 * `sd`: a registered socket. `flags`: 0 or `DEREGF_DONTWAIT`. Blocks until a registrar has confirmed
 * (see RSP_CALL_TIMEOUT), unless `DEREGF_DONTWAIT`.
 *
 * Returns 0, or -1. After EHOSTUNREACH and ETIMEDOUT the registration is no longer renewed and runs
 * out by itself; when refused it stands.
 * Errors: EBADF, EINVAL (flags; not registered), EHOSTUNREACH, ETIMEDOUT (no registrar, or it did not
 * answer), EACCES, EPERM (refused), ENOTSUP (in a child after fork).
 *
 * Threads: any. Fork: ENOTSUP in the child. RFC 5352 3.2, 6.2. Since 0.1.
 */
int rsp_deregister(int sd, int flags);

/**
 * Accepts a session as a descriptor of its own (SOCK_STREAM servers).
 *
 * `sd`: a listening SOCK_STREAM socket. `timeout`: milliseconds to wait; 0 or negative: not at all;
 * INT_MAX: as long as it takes.
 *
 * Returns the session's descriptor, to be closed with `rsp_close`, or -1.
 * Errors: EBADF, EAGAIN (none has come), EINVAL (not listening), EOPNOTSUPP (SOCK_SEQPACKET), EINTR,
 * EMFILE, ENFILE.
 *
 * Threads: any; several may wait at once. Fork: accepted sessions go on in the child. Since 0.1.
 */
int rsp_accept(int sd, int timeout);

/**
 * Connects to a pool: looks it up, and opens a session with the element its policy selects; if that
 * cannot be reached, with the next.
 *
 * `sd`: from `rsp_socket`. `poolHandle`, `poolHandleSize`: the pool's name, any 1 to 1024 bytes.
 * `staleCacheValue`: a cached answer of a registrar no older than this many milliseconds will do; 0:
 * ask. Blocks until an element is reached (see RSP_CALL_TIMEOUT).
 *
 * Returns 0, or -1: not connected.
 * Errors: EBADF, EFAULT, EINVAL (empty handle), ENAMETOOLONG, EISCONN, EALREADY (another thread is
 * connecting it), EOPNOTSUPP (bound, listening, or not for sessions), ENOENT (no such pool: nobody is
 * registered in it now), EHOSTUNREACH (no registrar; the sentence names those tried), ECONNREFUSED (no
 * element accepts), ETIMEDOUT (registrar or elements do not answer), ENOTSUP (in a child after fork).
 * The socket is then as it was: call it again.
 *
 * Threads: any. Fork: ENOTSUP in the child until `rsp_initialize`. RFC 5352 3.3, 6.5. Since 0.1.
 */
int rsp_connect(int sd, const unsigned char *poolHandle, size_t poolHandleSize, unsigned int staleCacheValue);

/**
 * Whether the user's session holds a cookie of its element.
 *
 * `sd`: a connected socket.
 *
 * Returns 1 or 0, or -1. Errors: EBADF, ENOTCONN (not a user's socket).
 *
 * Threads: any. Fork: works in the child. RFC 5352 3.8. Since 0.1.
 */
int rsp_has_cookie(int sd);

/**
 * Moves a user's session on to another element: selects it, connects, and brings it the cookie.
 *
 * `sd`: a connected socket, its element failed or not. `flags`: `FFF_NONE` or `FFF_UNREACHABLE`
 * (report the present element to the registrar). `staleCacheValue`: a cached answer of a registrar no
 * older than this many milliseconds will do; 0: ask. Blocks until an element is reached (see
 * RSP_CALL_TIMEOUT).
 *
 * Returns 0: `RSERPOOL_FAILOVER_COMPLETE` follows on SOCK_SEQPACKET; send again what had no answer. Or
 * -1: the session has no element; call it again.
 * Errors: EBADF, EINVAL (flags), ENOTCONN (never connected, or ended), EOPNOTSUPP (a server's socket),
 * ENOENT (the pool is gone), EHOSTUNREACH (no registrar), ECONNREFUSED (no element accepts), ECONNRESET,
 * ETIMEDOUT, EPIPE (given up at RSP_FAILOVER_DEADLINE), ENOTSUP (in a child after fork).
 *
 * Threads: any. Fork: the child uses the elements known already. RFC 5352 3.5, 3.7. Since 0.1.
 */
int rsp_forcefailover(int sd, unsigned int flags, unsigned int staleCacheValue);

/**
 * Says what a session is doing, for the reports of the component status protocol (see ri_csp_server): the
 * monitor shows it from the next report on, instead of a count of sessions.
 *
 * `sd`: a socket with sessions. `sessionID`: which; 0: the one it is connected by. `statusText`: a C string,
 * of which the first 127 bytes count.
 *
 * Returns 0 or -1. Errors: EBADF, EFAULT, ENOTCONN (no such session).
 *
 * Threads: any. Fork: works in the child. Since 0.1.
 */
int rsp_csp_setstatus(int sd, rserpool_session_t sessionID, const char *statusText);

/**
 * Sets a function to be called after each failover of a user's session: to count, to log, or to send
 * what the new element must know beyond the cookie (RFC 5351 4.3).
 *
 * What the new element gets, in this order: the last cookie, first of all (RFC 5352 3.8); the messages
 * kept for it, which are those of which the failed element was not sent a byte and those sent since it
 * failed; what the callback sends. A message of the call within which the callback is called, or of
 * another thread, may go before what the callback sends. A program whose first message to a new element
 * must be its own (a login) leaves `RSP_AUTO_FAILOVER` off and sends with `ASAP_SEND_NO_FAILOVER`: then
 * nothing is kept, messages not sent come back (SOCK_SEQPACKET), sending fails with EPIPE until the
 * program calls `rsp_forcefailover`, and what it sends after that is the first the new element gets
 * after the cookie.
 *
 * `sd`: a user's socket. `callback`: called within an `rsp_*` call on the descriptor, by the thread
 * that made it; it may use the descriptor, except `rsp_close`. NULL: none. `user`: handed to the
 * callback. On a server's socket it is never called.
 *
 * Returns 0 or -1. Errors: EBADF.
 *
 * Threads: any; the callback must be fit for every thread that uses the descriptor. Fork: works in the
 * child. RFC 5351 4.3. Since 0.1.
 */
int rsp_set_failover_callback(int sd, rsp_failover_callback callback, void *user);

/**
 * Closes a descriptor: ends its sessions in order, and its registration. Waits up to 2 s for what was
 * sent and is not written yet.
 *
 * `sd`: any descriptor of the library: from `rsp_socket`, `rsp_accept`, `rsp_watch` or `rsp_mapsocket`.
 *
 * Returns 0 or -1. Errors: EBADF. Threads that wait on the descriptor return with EBADF.
 *
 * Threads: any. Fork: in either process it closes that process's copy only. RFC 5352 3.2. Since 0.1.
 */
int rsp_close(int sd);

/**
 * Sends a message on a session.
 *
 * `sd`: a socket. `data`, `dataLength`: the message; up to 16 MiB. Over SCTP, to a peer that is not of this
 * library, an empty message (RFC 9260 3.3.1) and one longer than the system's send buffer come back, as undelivered. `msgFlags`: 0, or MSG_DONTWAIT and
 * MSG_NOSIGNAL (which is always on). `sessionID`: which session of the descriptor; 0: the one it is
 * connected by. `sctpPPID`: payload protocol identifier in network byte order. `sctpStreamID`: stream.
 * `sctpTimeToLive`: milliseconds after which it need not be sent any more and, if it was not, comes back
 * as undelivered; 0: no limit. `sctpFlags`:
 * `RSP_UNORDERED`, `RSP_ABORT`, `RSP_EOF` OR-ed; the last two may come without data and end the
 * session. `timeout`: milliseconds to wait for room; 0 or negative: not at all; INT_MAX: as long as it
 * takes.
 *
 * Returns `dataLength`: written, or, without waiting, taken. It may be lost with its element all the
 * same: only an answer proves that it was dealt with. Otherwise -1, and nothing was taken.
 * Errors: EBADF, EFAULT, EINVAL (flags), EAGAIN (no room in time; the descriptor becomes readable when
 * there is), EINTR, EMSGSIZE, ENOTCONN (no such session), EPIPE (the element has failed: call
 * `rsp_forcefailover`; or the session has ended), ECOMM (SOCK_STREAM: earlier messages did not get
 * there; told once).
 *
 * Threads: any. Fork: works in the child. RFC 5352 6.5. Since 0.1.
 */
ptrdiff_t rsp_sendmsg(int sd,
                      const void *data,
                      size_t dataLength,
                      unsigned int msgFlags,
                      rserpool_session_t sessionID,
                      uint32_t sctpPPID,
                      uint16_t sctpStreamID,
                      uint32_t sctpTimeToLive,
                      uint16_t sctpFlags,
                      int timeout);

/**
 * Sends a message on the session the descriptor is connected by. As `rsp_sendmsg` with all else 0, but
 * it waits as RSP_SEND_TIMEOUT says. To a descriptor of `rsp_mapsocket` as write(2).
 *
 * `sd`: a connected socket, or a mapped descriptor. `data`, `dataLength`: the message. `flags`: 0,
 * MSG_DONTWAIT, MSG_NOSIGNAL.
 *
 * Returns `dataLength`, or -1. Errors: as `rsp_sendmsg`, or as write(2).
 *
 * Threads: any. Fork: works in the child. Since 0.1.
 */
ptrdiff_t rsp_send(int sd, const void *data, size_t dataLength, int flags);

/**
 * As `rsp_send` without flags.
 *
 * `fd`: a connected socket, or a mapped descriptor. `data`, `dataLength`: the message.
 *
 * Returns `dataLength` (mapped: how many bytes were written), or -1. Errors: as `rsp_sendmsg`, or as write(2).
 *
 * Threads: any. Fork: works in the child. Since 0.1.
 */
ptrdiff_t rsp_write(int fd,
                    const char *data,
                    size_t dataLength);

/**
 * Sends a message to a pool or to one of its elements, without a connection of the program's own (RFC
 * 5352 6.5.1, 6.5.3). The library keeps a session with each element so used; answers come by
 * `rsp_recvmsg`, with the element in `rinfo_pe_id`.
 *
 * `sd`: a SOCK_SEQPACKET socket that is neither connected nor a server's. `poolHandle`,
 * `poolHandleSize`: the pool. `peID`: the element; 0: whichever its policy selects. `data`,
 * `dataLength`: the message. `options`: `ASAP_...` OR-ed (RFC 5352 6.5.5). `sctpPPID` to
 * `sctpTimeToLive`: as `rsp_sendmsg`. `timeout`: milliseconds to wait, for the look-up, too; 0 or
 * negative: not at all; INT_MAX: as long as it takes.
 *
 * Returns `dataLength`, or -1: nothing was taken. What cannot be delivered (no such pool or element,
 * no registrar, the element failed and the options forbid another) comes back from `rsp_recvmsg` with
 * `MSG_RSERPOOL_UNDELIVERED`.
 * Errors: EBADF, EFAULT, EINVAL (empty handle; options unknown or in contradiction), ENAMETOOLONG,
 * EISCONN, EOPNOTSUPP (SOCK_STREAM, a server's socket), EAGAIN, EINTR, EMSGSIZE, ENOTSUP (in a child
 * after fork).
 *
 * Threads: any. Fork: ENOTSUP in the child until `rsp_initialize`. RFC 5352 6.5. Since 0.1.
 */
ptrdiff_t rsp_sendto_pool(int sd,
                          const unsigned char *poolHandle,
                          size_t poolHandleSize,
                          uint32_t peID,
                          const void *data,
                          size_t dataLength,
                          uint32_t options,
                          uint32_t sctpPPID,
                          uint16_t sctpStreamID,
                          uint32_t sctpTimeToLive,
                          int timeout);

/**
 * Gives the session's user a state cookie (RFC 5352 3.8): when the user's next element is another one,
 * that gets it before anything else. Send it before the answer it belongs to, and a server that is
 * killed loses nothing: see c-examples/stateful_server.c.
 *
 * `sd`: a server's descriptor. `cookie`, `cookieSize`: 1 to 65000 bytes. `sessionID`: which session of
 * the descriptor; 0: its only one. `timeout`: milliseconds to wait for room; 0 or negative: not at
 * all; INT_MAX: as long as it takes.
 *
 * Returns `cookieSize`, or -1.
 * Errors: EBADF, EFAULT, EINVAL (empty; a user's session), ENOTCONN (no such session), EMSGSIZE,
 * EAGAIN, EINTR, EPIPE (the session has ended), EOPNOTSUPP (a plain client without control channel).
 *
 * Threads: any. Fork: works in the child. RFC 5352 2.2.12, 3.8. Since 0.1.
 */
ptrdiff_t rsp_send_cookie(int sd,
                          const unsigned char *cookie,
                          size_t cookieSize,
                          rserpool_session_t sessionID,
                          int timeout);

/**
 * Writes a notification in words: "RSERPOOL_FAILOVER for session 1, state=RSERPOOL_FAILOVER_NECESSARY,
 * cookie=yes". No end of line follows.
 *
 * `notification`: as `rsp_recvmsg` gives it. `fd`: where to; the program's own stream. With NULL for either
 * nothing is done.
 *
 * Threads: any, as fputs(3). Fork: safe in the child. Since 0.1.
 */
void rsp_print_notification(const union rserpool_notification *notification, FILE *fd);

/**
 * Receives what comes next on any session of a descriptor: data, a notification, or a cookie that a
 * user brings.
 *
 * `sd`: a socket. `buffer`, `bufferLength`: where to; at least 20 bytes, or notifications are cut.
 * `rinfo`: where it came from; may be NULL. `msg_flags`: written: MSG_EOR when a message ends here;
 * `MSG_RSERPOOL_NOTIFICATION`, `MSG_RSERPOOL_COOKIE_ECHO` or `MSG_RSERPOOL_UNDELIVERED` when it is not
 * data. `timeout`: milliseconds to wait; 0 or negative: not at all; INT_MAX: as long as it takes.
 *
 * Returns the number of bytes; a message longer than the buffer comes in pieces, the last with
 * MSG_EOR. 0 without MSG_EOR: the session has ended. -1 on failure.
 * Errors: EBADF, EFAULT, EINVAL (length), EAGAIN (nothing came), EINTR, EMSGSIZE (a cookie, or a
 * message that came back, is longer than the buffer; it is still there), ENOTCONN, ECONNRESET (the
 * session is lost; on SOCK_STREAM the element has failed: call `rsp_forcefailover`), ECOMM
 * (SOCK_STREAM: messages sent earlier did not get there; told once), and what else became of the
 * connection.
 *
 * A server sees in `rinfo_pe_id` which element its user is itself, if any: a program that has
 * registered a socket of its own is named by it, by the one registered first if there are several. That
 * is what the user says of itself, checked only against its address; over UDP it is found by address and
 * port, in the pools known, and not before the first message.
 *
 * When the element fails and RSP_AUTO_FAILOVER is off, each call gives `RSERPOOL_FAILOVER_NECESSARY`
 * until `rsp_forcefailover` is called. With it on the same notification comes once, and
 * `RSERPOOL_FAILOVER_COMPLETE` follows. Then send again what had no answer.
 *
 * Threads: any; each message goes to one of them. Fork: works in the child. RFC 5352 6.6. Since 0.1.
 */
ptrdiff_t rsp_recvmsg(int sd,
                      void *buffer,
                      size_t bufferLength,
                      struct rsp_sndrcvinfo *rinfo,
                      int *msg_flags,
                      int timeout);

/**
 * As `rsp_recvmsg`, but it goes on until the message is complete or the buffer is full.
 *
 * Parameters, returns and errors: as `rsp_recvmsg`. When the time is up before the message is
 * complete, what is there is returned, without MSG_EOR.
 *
 * Threads: any; each message goes to one of them. Fork: works in the child. RFC 5352 6.6. Since 0.1.
 */
ptrdiff_t rsp_recvfullmsg(int sd,
                          void *buffer,
                          size_t bufferLength,
                          struct rsp_sndrcvinfo *rinfo,
                          int *msg_flags,
                          int timeout);

/**
 * Receives data. Notifications are passed over, and so are cookies: a server that lives on cookies
 * uses `rsp_recvmsg`. Waits as RSP_RECV_TIMEOUT says. From a descriptor of `rsp_mapsocket` as read(2).
 *
 * `sd`: a socket, or a mapped descriptor. `buffer`, `bufferLength`: where to. `flags`: 0 or
 * MSG_DONTWAIT.
 *
 * Returns the number of bytes, 0 at the end of the session, or -1.
 * Errors: EBADF, EFAULT, EINVAL (flags), EAGAIN (nothing came), EINTR, ENOTCONN, EPIPE, ECONNRESET
 * (the element has failed: call `rsp_forcefailover`), ECOMM (SOCK_STREAM: messages sent earlier did
 * not get there; told once), or as read(2).
 *
 * Threads: any. Fork: works in the child. Since 0.1.
 */
ptrdiff_t rsp_recv(int sd, void *buffer, size_t bufferLength, int flags);

/**
 * As `rsp_recv` without flags.
 *
 * `fd`: a socket, or a mapped descriptor. `buffer`, `bufferLength`: where to.
 *
 * Returns the number of bytes, 0 at the end of the session, or -1. Errors: as `rsp_recv`, or as read(2).
 *
 * Threads: any. Fork: works in the child. Since 0.1.
 */
ptrdiff_t rsp_read(int fd, void *buffer, size_t bufferLength);

/**
 * As poll(2), for descriptors of the library and ordinary ones alike. POLLIN: `rsp_recvmsg` or
 * `rsp_accept` has something to give. POLLOUT: `rsp_sendmsg` would not wait: all that was sent before is
 * written, or sending fails at once.
 *
 * `fds`, `nfds`: as poll(2). `timeout`: milliseconds; 0: do not wait; negative: as long as it takes.
 *
 * Returns how many entries have `revents`, 0 when the time is up, or -1. A descriptor that is not open
 * gives POLLNVAL in its `revents`.
 * Errors: EFAULT, EINVAL (nfds beyond what a process may have open), EINTR (a signal came), ENOMEM.
 *
 * Threads: any. Fork: works in the child. Since 0.1.
 */
int rsp_poll(struct pollfd *fds, unsigned int nfds, int timeout);

/**
 * As select(2), for descriptors of the library and ordinary ones alike, up to 1023; `rsp_poll` has no
 * such limit.
 *
 * `nfds`: the highest descriptor plus one, 0 to 1024. `readfds`, `writefds`, `exceptfds`: what to look
 * at, and on return what is ready; may be NULL. `timeout`: not changed; NULL: as long as it takes.
 *
 * Returns how many bits are set, 0 when the time is up, or -1: the sets are as they were.
 * Errors: EBADF (a descriptor that is not open), EINVAL (nfds, timeout), EINTR (a signal came), ENOMEM.
 *
 * Threads: any. Fork: works in the child. Since 0.1.
 */
int rsp_select(int nfds, fd_set *readfds, fd_set *writefds, fd_set *exceptfds, const struct timeval *timeout);

/**
 * The pool and identifier that a server is registered as.
 *
 * `sd`: a registered socket. `poolHandle`: where the handle goes, not NUL-terminated; may be NULL.
 * `poolHandleSize`: room there, replaced by the handle's length; may be NULL if `poolHandle` is.
 * `identifier`: where the element's identifier goes; may be NULL.
 *
 * Returns 0 or -1. Errors: EBADF, EFAULT, EINVAL (not registered), ENOBUFS (too little room;
 * `poolHandleSize` says how much it takes).
 *
 * Threads: any. Fork: works in the child. Since 0.1.
 */
int rsp_getsockname(int sd, unsigned char *poolHandle, size_t *poolHandleSize, uint32_t *identifier);

/**
 * The pool and element that a user is connected to.
 *
 * `sd`: a connected socket, or one from `rsp_accept`: then it is the pool and element that the user is
 * itself, if that is known. The others: as `rsp_getsockname`; the identifier is 0 while the session
 * has no element.
 *
 * Returns 0 or -1. Errors: EBADF, EFAULT, ENOTCONN, ENOBUFS (too little room; `poolHandleSize` says
 * how much it takes).
 *
 * Threads: any. Fork: works in the child. RFC 5352 6.6. Since 0.1.
 */
int rsp_getpeername(int sd, unsigned char *poolHandle, size_t *poolHandleSize, uint32_t *identifier);

/**
 * Reads an option of a socket.
 *
 * `sd`: a socket (or a mapped descriptor: as getsockopt(2)). `level`: `SOL_RSERPOOL`. `option`:
 * `RSP_AUTO_FAILOVER` and so on. `value`, `length`:
 * where it goes, and the room there, replaced by its length: an int.
 *
 * Returns 0 or -1. Errors: EBADF, EFAULT, EINVAL (too little room), ENOPROTOOPT (level or option
 * unknown).
 *
 * Threads: any. Fork: works in the child. Since 0.1.
 */
int rsp_getsockopt(int sd, int level, int option, void *value, socklen_t *length);

/**
 * Sets an option of a socket, from now on. Sessions accepted from it inherit it.
 *
 * `sd`: a socket (or a mapped descriptor: as setsockopt(2)). `level`: `SOL_RSERPOOL`. `option`:
 * `RSP_AUTO_FAILOVER` and so on, with units and ranges. `value`, `length`: an int, and its size.
 *
 * Returns 0 or -1. Errors: EBADF, EFAULT, EINVAL (out of range, length), ENOPROTOOPT (level or option
 * unknown).
 *
 * Threads: any. Fork: works in the child. Since 0.1.
 */
int rsp_setsockopt(int sd, int level, int option, const void *value, socklen_t length);

/**
 * Says how the SCTP associations that a descriptor opens from now on try their paths: those of
 * `rsp_connect` and failovers; for a server those it accepts, if it is called before `rsp_bind`,
 * `rsp_listen` and `rsp_register`. Over other transports it has no effect.
 *
 * `sd`: a socket. `params`: what is to change; a field that is 0 stays as it is. Filled in with what then
 * is the case.
 *
 * Returns 0, or -1: nothing has changed. Errors: EBADF, EFAULT, EINVAL (sp_rto_initial is not from sp_rto_min
 * to sp_rto_max; over 65535 failures).
 *
 * Threads: any. Fork: works in the child. RFC 9260 16. Since 0.1.
 */
int rsp_update_session_parameters(int sd, struct rserpool_session_parameters *params);

/**
 * Looks a pool up: the elements in the order in which its policy wants them tried. For programs with
 * sockets of their own.
 *
 * `poolHandle`, `poolHandleSize`: the pool's name, any 1 to 1024 bytes. `rserpoolAddrInfo`: set to a
 * list, to be freed with `rsp_freeaddrinfo`; to NULL on failure. `items`: how many elements are wanted
 * at most; `RSPGETADDRS_DEFAULT`, `RSPGETADDRS_MAX`. `staleCacheValue`: a cached answer no older than
 * this many milliseconds will do; 0: ask.
 * Blocks until a registrar has answered, at most as long as `rsp_initialize` was told.
 *
 * Returns the number of elements in the list; `REAI_NONAME`: no such pool; `REAI_MEMORY`;
 * `REAI_FAMILY`: no element with IP addresses; `REAI_SYSTEM`: see errno.
 * Errors: ENOENT (with REAI_NONAME), EFAULT, EINVAL, ENAMETOOLONG, EHOSTUNREACH (no registrar; the
 * sentence names those tried), ETIMEDOUT, EACCES (before `rsp_initialize`), ENOTSUP (in a child after
 * fork).
 *
 * Threads: any. Fork: ENOTSUP in the child until `rsp_initialize`. RFC 5352 3.3, 6.9.1. Since 0.1.
 */
int rsp_getaddrinfo(const unsigned char *poolHandle,
                    size_t poolHandleSize,
                    struct rsp_addrinfo **rserpoolAddrInfo,
                    size_t items,
                    unsigned int staleCacheValue);

/**
 * Frees a list from `rsp_getaddrinfo`, `rsp_getprimaryserver` or `rsp_getnextserver`.
 *
 * `rserpoolAddrInfo`: the list; NULL is ignored.
 *
 * Threads: any. Fork: safe in the child. Since 0.1.
 */
void rsp_freeaddrinfo(struct rsp_addrinfo *rserpoolAddrInfo);

/**
 * The server of a pool to turn to first (GETPRIMARYSERVER of RFC 5351 4.1). With `rsp_getnextserver`
 * all that a client with a list of servers needs.
 *
 * `poolHandle`, `poolHandleSize`: the pool's name, any 1 to 1024 bytes. `server`: set to a list of
 * one, to be freed with `rsp_freeaddrinfo`; to NULL on failure.
 * Blocks until a registrar has answered, at most as long as `rsp_initialize` was told.
 *
 * Returns 0 or -1. Errors: ENOENT (no such pool), EAFNOSUPPORT (no element with IP addresses), EFAULT,
 * EINVAL, ENAMETOOLONG, EHOSTUNREACH (no registrar), ETIMEDOUT, EACCES (before `rsp_initialize`),
 * ENOMEM, ENOTSUP (in a child after fork).
 *
 * Threads: any. Fork: ENOTSUP in the child until `rsp_initialize`. RFC 5351 4.1. Since 0.1.
 */
int rsp_getprimaryserver(const unsigned char *poolHandle,
                         size_t poolHandleSize,
                         struct rsp_addrinfo **server);

/**
 * Reports the failure of a server and gives the one to turn to next (GETNEXTSERVER of RFC 5351 4.1):
 * another one, as the pool is now.
 *
 * `poolHandle`, `poolHandleSize`: the pool's name. `server`: from `rsp_getprimaryserver` or this
 * function: the server that failed. It is freed and replaced by the next; left as it is on failure.
 * Blocks until a registrar has answered, at most as long as `rsp_initialize` was told.
 *
 * Returns 0 or -1. Errors: as `rsp_getprimaryserver`; ENOENT also when there is no other server.
 *
 * Threads: any. Fork: ENOTSUP in the child until `rsp_initialize`. RFC 5351 4.1. Since 0.1.
 */
int rsp_getnextserver(const unsigned char *poolHandle, size_t poolHandleSize, struct rsp_addrinfo **server);

/**
 * Registers a server that the program runs on a socket of its own, or renews the registration: the
 * library does not do that by itself here.
 *
 * `poolHandle`, `poolHandleSize`: the pool's name, any 1 to 1024 bytes. `rserpoolAddrInfo`: where
 * clients reach it (`ai_protocol`, `ai_addrs`, `ai_addr`), and its identifier `ai_pe_id`: 0: chosen by
 * the library and written there. `loadinfo`: policy and values. `registrationLife`: how long it stands
 * without being renewed, in milliseconds, rounded up to seconds; 0xffffffff: for ever. `flags`: 0 or
 * `REGF_DONTWAIT`. Blocks until a registrar has answered, at most as long as `rsp_initialize` was
 * told.
 *
 * Returns 0, or (unsigned int)-1. Errors: EFAULT, EINVAL, ENAMETOOLONG, EPROTONOSUPPORT, EAFNOSUPPORT,
 * and as `rsp_register`.
 *
 * Threads: any. Fork: ENOTSUP in the child until `rsp_initialize`. RFC 5352 3.1, 6.1. Since 0.1.
 */
unsigned int rsp_pe_registration(const unsigned char *poolHandle,
                                 size_t poolHandleSize,
                                 struct rsp_addrinfo *rserpoolAddrInfo,
                                 const struct rsp_loadinfo *loadinfo,
                                 unsigned int registrationLife,
                                 int flags);

/**
 * Ends a registration made by `rsp_pe_registration`.
 *
 * `poolHandle`, `poolHandleSize`: the pool. `identifier`: the element. `flags`: 0 or
 * `DEREGF_DONTWAIT`. Blocks until a registrar has answered, at most as long as `rsp_initialize` was
 * told.
 *
 * Returns 0, also if it was not registered, or (unsigned int)-1. Errors: EFAULT, EINVAL, ENAMETOOLONG,
 * and as `rsp_deregister`.
 *
 * Threads: any. Fork: ENOTSUP in the child until `rsp_initialize`. RFC 5352 3.2, 6.2. Since 0.1.
 */
unsigned int rsp_pe_deregistration(const unsigned char *poolHandle,
                                   size_t poolHandleSize,
                                   uint32_t identifier,
                                   int flags);

/**
 * Reports that an element could not be reached. The registrar looks at once whether it is still alive.
 * Does not block.
 *
 * `poolHandle`, `poolHandleSize`: the pool. `identifier`: the element.
 *
 * Returns 0, or (unsigned int)-1. Errors: EFAULT, EINVAL, ENAMETOOLONG, EACCES (before
 * `rsp_initialize`), ENOTSUP (in a child after fork).
 *
 * Threads: any. Fork: ENOTSUP in the child until `rsp_initialize`. RFC 5352 3.5, 6.9.2. Since 0.1.
 */
unsigned int rsp_pe_failure(const unsigned char *poolHandle, size_t poolHandleSize, uint32_t identifier);

/**
 * Watches a pool.
 *
 * `poolHandle`, `poolHandleSize`: the pool's name, any 1 to 1024 bytes. The pool need not exist yet.
 *
 * Returns a descriptor for `rsp_watch_next`, `rsp_poll` and every event loop (readable: there is a
 * change), to be closed with `rsp_close`; or -1.
 * Errors: EFAULT, EINVAL, ENAMETOOLONG, EACCES (before `rsp_initialize`), EMFILE, ENFILE, ENOTSUP (in
 * a child after fork).
 *
 * Threads: any. Fork: of no use in the child. RFC 5352 2.2.5 (S bit). Since 0.1.
 */
int rsp_watch(const unsigned char *poolHandle, size_t poolHandleSize);

/**
 * The next change of a watched pool.
 *
 * `sd`: from `rsp_watch`. `change`: written. `size`: sizeof(struct rsp_poolchange) as the program was
 * compiled. `timeout`: milliseconds to wait; 0 or negative: not at all; INT_MAX: as long as it takes.
 *
 * Returns 1: `change` is written; 0: nothing has changed in that time; -1 on failure.
 * Errors: EBADF, EOPNOTSUPP (not from `rsp_watch`), EFAULT, EINVAL (size), EINTR.
 *
 * Threads: any; each change goes to one of them. Fork: of no use in the child. Since 0.1.
 */
int rsp_watch_next(int sd, struct rsp_poolchange *change, size_t size, int timeout);

/**
 * The name of a policy ("RoundRobin", "LeastUsedDegradation" and so on).
 *
 * `policyType`: `PPT_ROUNDROBIN` and so on.
 *
 * Returns a static string, or NULL if the policy is not known. Errors: EINVAL.
 *
 * Threads: any. Fork: safe in the child. RFC 5356. Since 0.1.
 */
const char *rsp_getpolicybytype(unsigned int policyType);

/**
 * The policy with a name, as `rsp_getpolicybytype` spells it.
 *
 * `policyName`: a C string.
 *
 * Returns its type, or 0 if there is none. Errors: EINVAL, EFAULT.
 *
 * Threads: any. Fork: safe in the child. RFC 5356. Since 0.1.
 */
unsigned int rsp_getpolicybyname(const char *policyName);

/**
 * Gives an ordinary descriptor a number beside those of sockets, for programs that read, write and wait
 * for both by the same functions: `rsp_read` and `rsp_write` are read(2) and write(2) of it, `rsp_getsockopt`
 * and `rsp_setsockopt` go to the kernel, `rsp_poll` and `rsp_select` know it (as they know every descriptor).
 * Anything else gives ENOTSOCK.
 *
 * `fd`: an open descriptor, none of the library's. `toSD`: the number it is to have, which must be free; -1:
 * any.
 *
 * Returns the number, above 2 unless asked for: a duplicate of `fd`, close-on-exec. `fd` itself is as before,
 * and remains to be closed by the program. -1 on failure.
 * Errors: EACCES (before `rsp_initialize`), EBADF (`fd` is not open), EINVAL (`fd` is one of the library's;
 * `toSD` below -1 or impossible), EMFILE (`toSD` is taken, or no number is free), ENOTSUP (in a child after
 * fork).
 *
 * Threads: any. Fork: the child has its own copy. Since 0.1.
 */
int rsp_mapsocket(int fd, int toSD);

/**
 * Takes the number of a mapped descriptor back: closes the duplicate. `rsp_close` does the same.
 *
 * `sd`: from `rsp_mapsocket`.
 *
 * Returns 0 or -1. Errors: EBADF (not a mapped one; also for a socket of the library).
 *
 * Threads: any; a read that waits goes on. Fork: closes this process's copy only. Since 0.1.
 */
int rsp_unmapsocket(int sd);

/**
 * As `rsp_register`, with tags.
 *
 * `tags`: a list; known is `RSP_TAG_PE_IDENTIFIER`. The others: as `rsp_register`.
 *
 * Returns 0 or -1. Errors: as `rsp_register`; EINVAL (the list; another identifier than the socket is
 * registered by), EEXIST (the pool has an element with this identifier).
 *
 * Threads: any. Fork: ENOTSUP in the child until `rsp_initialize`. RFC 5352 3.1, 6.1. Since 0.1.
 */
int rsp_register_tags(int sd,
                      const unsigned char *poolHandle,
                      size_t poolHandleSize,
                      const struct rsp_loadinfo *loadinfo,
                      unsigned int reregistrationInterval,
                      int flags,
                      const struct TagItem *tags);

/**
 * As `rsp_deregister`, with tags.
 *
 * `tags`: a list; none is known here. The others: as `rsp_deregister`.
 *
 * Returns 0 or -1. Errors: as `rsp_deregister`; EINVAL (the list).
 *
 * Threads: any. Fork: ENOTSUP in the child. RFC 5352 3.2, 6.2. Since 0.1.
 */
int rsp_deregister_tags(int sd, int flags, const struct TagItem *tags);

/**
 * As `rsp_accept`, with tags.
 *
 * `tags`: a list; none is known here. The others: as `rsp_accept`.
 *
 * Returns the session's descriptor, or -1. Errors: as `rsp_accept`; EINVAL (the list).
 *
 * Threads: any; several may wait at once. Fork: accepted sessions go on in the child. Since 0.1.
 */
int rsp_accept_tags(int sd, int timeout, const struct TagItem *tags);

/**
 * As `rsp_connect`, with tags.
 *
 * `tags`: a list; known is `RSP_TAG_CONNECT_TIMEOUT`. The others: as `rsp_connect`.
 *
 * Returns 0 or -1. Errors: as `rsp_connect`; EINVAL (the list).
 *
 * Threads: any. Fork: ENOTSUP in the child until `rsp_initialize`. RFC 5352 3.3, 6.5. Since 0.1.
 */
int rsp_connect_tags(int sd,
                     const unsigned char *poolHandle,
                     size_t poolHandleSize,
                     unsigned int staleCacheValue,
                     const struct TagItem *tags);

/**
 * As `rsp_forcefailover`, with tags.
 *
 * `tags`: a list; known is `RSP_TAG_CONNECT_TIMEOUT`. The others: as `rsp_forcefailover`.
 *
 * Returns 0 or -1. Errors: as `rsp_forcefailover`; EINVAL (the list).
 *
 * Threads: any. Fork: the child uses the elements known already. RFC 5352 3.5, 3.7. Since 0.1.
 */
int rsp_forcefailover_tags(int sd,
                           unsigned int flags,
                           unsigned int staleCacheValue,
                           const struct TagItem *tags);

/**
 * As `rsp_getaddrinfo`, with tags.
 *
 * `tags`: a list; none is known here. The others: as `rsp_getaddrinfo`.
 *
 * Returns the number of elements in the list, or `REAI_...`. Errors: as `rsp_getaddrinfo`; EINVAL (the
 * list, with REAI_SYSTEM).
 *
 * Threads: any. Fork: ENOTSUP in the child until `rsp_initialize`. RFC 5352 3.3, 6.9.1. Since 0.1.
 */
int rsp_getaddrinfo_tags(const unsigned char *poolHandle,
                         size_t poolHandleSize,
                         struct rsp_addrinfo **rserpoolAddrInfo,
                         size_t items,
                         unsigned int staleCacheValue,
                         const struct TagItem *tags);

/**
 * As `rsp_pe_registration`, with tags.
 *
 * `tags`: a list; none is known here: the identifier is `ai_pe_id`. The others: as `rsp_pe_registration`.
 *
 * Returns 0, or (unsigned int)-1. Errors: as `rsp_pe_registration`; EINVAL (the list).
 *
 * Threads: any. Fork: ENOTSUP in the child until `rsp_initialize`. RFC 5352 3.1, 6.1. Since 0.1.
 */
unsigned int rsp_pe_registration_tags(const unsigned char *poolHandle,
                                      size_t poolHandleSize,
                                      struct rsp_addrinfo *rserpoolAddrInfo,
                                      const struct rsp_loadinfo *loadinfo,
                                      unsigned int registrationLife,
                                      int flags,
                                      const struct TagItem *tags);

/**
 * As `rsp_pe_deregistration`, with tags.
 *
 * `tags`: a list; none is known here. The others: as `rsp_pe_deregistration`.
 *
 * Returns 0, or (unsigned int)-1. Errors: as `rsp_pe_deregistration`; EINVAL (the list).
 *
 * Threads: any. Fork: ENOTSUP in the child until `rsp_initialize`. RFC 5352 3.2, 6.2. Since 0.1.
 */
unsigned int rsp_pe_deregistration_tags(const unsigned char *poolHandle,
                                        size_t poolHandleSize,
                                        uint32_t identifier,
                                        int flags,
                                        const struct TagItem *tags);

/**
 * As `rsp_pe_failure`, with tags.
 *
 * `tags`: a list; none is known here. The others: as `rsp_pe_failure`.
 *
 * Returns 0, or (unsigned int)-1. Errors: as `rsp_pe_failure`; EINVAL (the list).
 *
 * Threads: any. Fork: ENOTSUP in the child until `rsp_initialize`. RFC 5352 3.5, 6.9.2. Since 0.1.
 */
unsigned int rsp_pe_failure_tags(const unsigned char *poolHandle,
                                 size_t poolHandleSize,
                                 uint32_t identifier,
                                 const struct TagItem *tags);

/**
 * Opens a stream of bytes to a pool: a plain descriptor for read(2), write(2), poll(2), stdio, TLS libraries,
 * sendfile(2) and whatever else takes a connected stream socket. To be closed with close(2), which ends the
 * session. The library is started if it does not run yet.
 *
 * `name`: `pool://HANDLE?OPTION=VALUE&...` (docs/adopting.md), or a handle as it is. `flags`: 0 or SOCK_NONBLOCK.
 *
 * Blocks until an element is reached, as long as the name's `timeout` says (10 s). With SOCK_NONBLOCK it does not, and the
 * descriptor is non-blocking: it is writable as soon as an element is reached, and if none is, it fails with
 * ECONNRESET (`asap_last_error` cannot say why; the log can).
 *
 * It is one end of a pair of sockets (AF_UNIX), which a thread of the library relays. Who does not read is not read
 * for; shutdown(SHUT_WR) reaches a plain TCP server as the end of the data, and changes nothing for
 * a server of `rsp_*`, whose sessions have no such end. A server's end in order reads as 0. When the element fails, what it sent
 * is read, then ECONNRESET is, once; writing gives EPIPE (and SIGPIPE, as with every socket). With
 * `failover=resume` in the name the stream goes on at another element instead, with the bytes that were not handed to
 * the transport yet; those that were may be lost or be dealt with unanswered: that is for protocols that
 * can tell. A plain TCP server that is killed ends its connections as if in order, so without `failover=resume` that
 * may read as 0.
 *
 * What was written before close(2) is sent, for up to 30 s, and for up to 2 s when the process ends by exit(3) or returns from main.
 *
 * Returns a descriptor, close-on-exec, or -1.
 * Errors: EFAULT, EINVAL (the name, the sentence says what; flags; a value in an ASAP_ variable), ENAMETOOLONG, ENOENT (no such pool), EHOSTUNREACH
 * (no registrar; the sentence names those tried), ECONNREFUSED, ETIMEDOUT (no element answers), EMFILE, ENFILE,
 * ENOMEM, EAGAIN (no thread); as `rsp_initialize` if it starts the library. A stream takes up to five descriptors.
 *
 * Threads: any. Fork: the child may use descriptors it inherits, which the parent goes on relaying; when the parent
 * ends they fail with ECONNRESET. Those it opens itself are its own. RFC 5352 3.3, 6.5. Since 0.1.
 */
int asap_open(const char *name,
              int flags);

/**
 * Makes a server of the program's an element of a pool: a TCP or SCTP (one-to-one) socket that listens, or a bound UDP
 * socket. The program goes on accepting and serving at it as before, and the library keeps the
 * registration alive. Called again for the same descriptor it changes policy values and interval. The library is
 * started if it does not run yet.
 *
 * `fd`: the socket; it stays the program's. `name`: `pool://HANDLE?OPTION=VALUE&...` (docs/adopting.md), or a handle as
 * it is. `config`: read during the call only; NULL: all defaults. `flags`: 0 or ASAP_DONTWAIT. Blocks until a registrar has
 * answered, as long as the name's `timeout` says (10 s), unless ASAP_DONTWAIT.
 *
 * The element leaves its pool with `asap_unserve`, with exit(3), and within 250 ms of the program's closing the
 * descriptor or ending to listen. A process that is killed is taken out by the registrar, and its clients see
 * their connections end.
 *
 * asc_health is called by a thread of the library's own, of which there is one for each descriptor that has it, with no
 * lock held and all signals blocked, never twice at once. It may block, and may call any function but `asap_unserve` for this
 * descriptor. Best let it look at something that the program's own loop sets, a counter say: that is
 * well only if the loop is. While it answers -1, or does not answer for asc_health_timeout, the element is in no pool;
 * sessions go on.
 *
 * Returns 0 or -1: not registered, or registered as before.
 * Errors: EFAULT, EINVAL (the name; a value in an ASAP_ variable; the structure; flags; not bound, or not listening; served in another pool or with another
 * identifier), EBADF, ENOTSOCK, EPROTONOSUPPORT (another kind of socket), EISCONN, and as `rsp_register`; as `rsp_initialize`
 * if it starts the library.
 *
 * Threads: any. Fork: the parent goes on being the element, whoever accepts; a child that is to be one calls it itself,
 * for a socket of its own. RFC 5352 3.1, 6.1. Since 0.1.
 */
int asap_serve(int fd,
               const char *name,
               const struct asap_serve_config *config,
               int flags);

/**
 * Takes a served descriptor out of its pool. The descriptor stays open and the program may go on serving those who are there.
 *
 * `fd`: given to `asap_serve`. Blocks until a registrar has confirmed it, at most as long as `rsp_initialize` was told, and
 * until asc_health, if it is being called, returns; it is not called any more then.
 *
 * Returns 0, or -1. After ETIMEDOUT and EHOSTUNREACH the registration is no longer renewed and runs out by itself.
 * Errors: EINVAL (not served), EDEADLK (called by its asc_health), ETIMEDOUT, EHOSTUNREACH, EACCES, EPERM (refused).
 *
 * Threads: any. Fork: EINVAL in the child. RFC 5352 3.2. Since 0.1.
 */
int asap_unserve(int fd);

/**
 * As getaddrinfo(3), which also takes names of pools: `pool://HANDLE?OPTION=VALUE&...` (docs/adopting.md).
 *
 * `node`, `service`, `hints`, `result`: as getaddrinfo(3). For a pool's name the list has one address for streams that stands
 * for the pool in this process and its children: of 240.0.0.0/4, or of 100::/64 where `hints` asks for AF_INET6. Its port is the
 * service's and means nothing. `asap_connect` takes it; the list is freed by freeaddrinfo(3). Nobody is asked yet whether there is such a pool.
 *
 * Returns 0 or an error for gai_strerror(3). Errors: as getaddrinfo(3); EAI_NONAME if something is wrong with a pool's name (`asap_last_error` says what),
 * EAI_SOCKTYPE if `hints` asks for anything but streams, EAI_MEMORY after 4096 different names.
 *
 * Threads: any. Fork: any; addresses that a parent got hold in the child. Since 0.1.
 */
int asap_getaddrinfo(const char *node,
                     const char *service,
                     const struct addrinfo *hints,
                     struct addrinfo **result);

/**
 * As gethostbyname(3), which also takes names of pools, as `asap_getaddrinfo` does.
 *
 * `name`: as gethostbyname(3). For a pool's name the result has one address of 240.0.0.0/4, which stands for the pool in this process
 * and its children; `asap_connect` takes it.
 *
 * Returns as gethostbyname(3); NULL for an error. Errors: h_errno as by gethostbyname(3); HOST_NOT_FOUND if something is wrong
 * with a pool's name (`asap_last_error` says what), NO_RECOVERY after 4096 different names.
 *
 * Threads: as gethostbyname(3), the result is of the process, not of the thread. Fork: any. Since 0.1.
 */
struct hostent *asap_gethostbyname(const char *name);

/**
 * As connect(2), which also takes addresses of `asap_getaddrinfo` that stand for pools: the descriptor becomes what `asap_open`
 * gives, with its number, and with O_NONBLOCK, FD_CLOEXEC, SO_RCVTIMEO and SO_SNDTIMEO as they were. The socket that it was is
 * closed: duplicates of it are not connected, and an epoll set has to be told of it (again) after this call. The library is
 * started if it does not run yet.
 *
 * `fd`, `addr`, `len`: as connect(2); for a pool a TCP or SCTP (one-to-one) socket. Blocks as `asap_open` does, unless the descriptor is
 * non-blocking: then the result is EINPROGRESS, and the descriptor is writable as soon as an element is reached; if none is,
 * SO_ERROR is ECONNRESET.
 *
 * Returns 0 or -1. Errors: as connect(2), and as `asap_open`, but ECONNREFUSED where that has ENOENT (no such pool);
 * EPROTONOSUPPORT (another kind of socket).
 *
 * Threads: any. Fork: as `asap_open`. RFC 5352 3.3. Since 0.1.
 */
int asap_connect(int fd,
                 const struct sockaddr *addr,
                 socklen_t len);

/**
 * As listen(2); then, if the environment has ASAP_POOL, registers the socket as `asap_serve` does, by that name (or handle), and
 * waits for no registrar: it is tried until there is one. Sockets that are not TCP or SCTP are left alone; so are those of
 * other ports where ASAP_POOL_PORT names one, and second ones of a port that is registered, as servers have for IPv4 and
 * IPv6. The library is started if it does not run yet.
 *
 * `fd`, `backlog`: as listen(2).
 *
 * Returns 0 or -1. Errors: as listen(2); with ASAP_POOL, EINVAL (its name, or a value in an ASAP_ variable), EMFILE, ENFILE, ENOMEM,
 * EAGAIN (no thread), and as `rsp_initialize`; the socket listens then all the same.
 *
 * Threads: any. Fork: as `asap_serve`: a program that forks after this call and goes on in the child is in no pool; have it run
 * in the foreground. RFC 5352 3.1. Since 0.1.
 */
int asap_listen(int fd,
                int backlog);

/**
 * As getpeername(2); for a descriptor of `asap_open`, or of `asap_connect` to a pool, the address of the element that it is at now.
 *
 * `fd`, `addr`, `len`: as getpeername(2).
 *
 * Returns 0 or -1. Errors: as getpeername(2); ENOTCONN (no element now: not yet, or failing over). Once a stream is over,
 * its address is that of a pair of sockets, AF_UNIX.
 *
 * Threads: any. Fork: in a child streams of the parent have such an address, too. Since 0.1.
 */
int asap_getpeername(int fd,
                     struct sockaddr *addr,
                     socklen_t *len);

/**
 * As setsockopt(2); for a descriptor of `asap_open`, or of `asap_connect` to a pool, options of IP, IPv6 and TCP are taken and
 * mean nothing: what carries the stream has TCP_NODELAY, and is another one after a failover.
 *
 * `fd`, `level`, `option`, `value`, `length`: as setsockopt(2).
 *
 * Returns 0 or -1. Errors: as setsockopt(2).
 *
 * Threads: any. Fork: as setsockopt(2); streams of the parent are ordinary sockets in the child. Since 0.1.
 */
int asap_setsockopt(int fd,
                    int level,
                    int option,
                    const void *value,
                    socklen_t length);

/**
 * Starts a registrar within this program, in a background thread of its own (two with an administration
 * socket) with all signals blocked. A program may host several. It needs no rsp_initialize(), and the
 * program's own sockets find it like any other registrar: by its address (`asap_registrar_address`).
 *
 * `config`: read during the call only and not kept; NULL: all defaults.
 *
 * Returns the registrar, to be given to `asap_registrar_stop`; NULL on failure. When it returns the ports are
 * open; it serves at once, or as soon as it has taken over the pools from the registrars it was told of.
 * Errors: EADDRINUSE, EADDRNOTAVAIL, EACCES (a port or the administration socket), EINVAL (a value in `config`:
 * the sentence says which), ENOENT (the administration socket's directory), EMFILE, ENFILE, ENOMEM, ENOBUFS,
 * EAGAIN (no thread). DNS names in arc_peers are looked up by this call, once.
 *
 * With CSP_SERVER or CSP_INTERVAL in the environment it reports how it is, as `rsp_initinfo` says.
 *
 * Threads: any. Fork: the registrar stays with the parent; a child closes its copies of the descriptors, and
 * may start one of its own. RFC 5353 3.2. Since 0.1.
 */
struct asap_registrar *asap_registrar_start(const struct asap_registrar_config *config);

/**
 * Tells where a registrar listens: "127.0.0.1:40001", or several separated by commas, as ASAP_REGISTRARS,
 * "-registrar=..." of `rsp_initarg` and arc_peers take it. Ports that were to be any are the ones chosen;
 * wildcard addresses are told as given.
 *
 * `registrar`: from `asap_registrar_start`. `protocol`: ASAP_REGISTRAR_ASAP or ASAP_REGISTRAR_ENRP. `buffer`: room for
 * `length` bytes; the text is NUL-terminated, and cut if there is too little room. NULL with length 0 to ask for the
 * length alone.
 *
 * Returns the length of the whole text without its NUL (as snprintf does), or -1.
 * Errors: EFAULT, EINVAL (`protocol`).
 *
 * Threads: any, until `asap_registrar_stop`. Fork: safe in the child. Since 0.1.
 */
int asap_registrar_address(const struct asap_registrar *registrar,
                           int protocol,
                           char *buffer,
                           size_t length);

/**
 * Ends a registrar in order: its clients are told to go to another one, its peers notice at once, its threads have
 * ended and its descriptors are closed when this returns (a quarter of a second at most).
 *
 * `registrar`: from `asap_registrar_start`, not to be used any more; NULL is ignored.
 *
 * Threads: any but a log callback, once. Fork: in a child it forgets the parent's registrar and tells nobody. Since 0.1.
 */
void asap_registrar_stop(struct asap_registrar *registrar);

#ifdef __cplusplus
}  // extern "C"
#endif  // __cplusplus

#endif  /* ASAP_H */
