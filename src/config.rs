//! The protocol variables of RFC 5352 7 with units and defaults, profiles of them, and limits.
//!
//! `Profile::Rfc` is the RFC's own numbers; `Lan`, the default, detects failures in under a second; `Wan`
//! lies between.

use std::time::Duration;

/// A set of timers.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Profile {
    /// Sub-second detection on a local network.
    #[default]
    Lan,
    /// Longer paths.
    Wan,
    /// The numbers of the RFCs.
    Rfc,
}

impl Profile {
    /// The profile of this name (`lan`, `wan`, `rfc`).
    pub fn by_name(name: &str) -> Option<Profile> {
        match name {
            "lan" => Some(Profile::Lan),
            "wan" => Some(Profile::Wan),
            "rfc" => Some(Profile::Rfc),
            _ => None,
        }
    }

    /// Its name.
    pub fn name(self) -> &'static str {
        match self {
            Profile::Lan => "lan",
            Profile::Wan => "wan",
            Profile::Rfc => "rfc",
        }
    }
}

/// How those at the other ends of links are taken to speak: as the RFCs say, or as RSPLIB does (docs/rsplib-dialect.md).
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum DialectSetting {
    /// Found out from what each of them sends.
    #[default]
    Auto,
    /// All speak as the RFCs say.
    Rfc,
    /// All speak as RSPLIB does, but those that show that they are ours.
    Rsplib,
}

impl DialectSetting {
    /// The setting of this name (`auto`, `rfc`, `rsplib`).
    pub fn by_name(name: &str) -> Option<DialectSetting> {
        match name {
            "auto" => Some(DialectSetting::Auto),
            "rfc" => Some(DialectSetting::Rfc),
            "rsplib" => Some(DialectSetting::Rsplib),
            _ => None,
        }
    }

    /// Its name.
    pub fn name(self) -> &'static str {
        match self {
            DialectSetting::Auto => "auto",
            DialectSetting::Rfc => "rfc",
            DialectSetting::Rsplib => "rsplib",
        }
    }
}

/// ASAP endpoint variables (RFC 5352 7).
#[derive(Clone, Debug)]
pub struct EndpointConfig {
    /// T1-ENRPrequest: how long a handle resolution waits before it is sent again.
    pub t1_enrp_request: Duration,
    /// T2-registration: how long a registration waits for its response.
    pub t2_registration: Duration,
    /// T3-deregistration: how long a deregistration waits for its response.
    pub t3_deregistration: Duration,
    /// T5-Serverhunt: how long one set of connection attempts may take; doubles up to `retran_max`.
    pub t5_serverhunt: Duration,
    /// T7-ENRPoutdate: how long an announced address is believed.
    pub t7_enrp_outdate: Duration,
    /// MAX-REG-ATTEMPT: attempts at registering before the upper layer is told.
    pub max_reg_attempt: u32,
    /// MAX-REQUEST-RETRANSMIT: repetitions of a request before the upper layer is told.
    pub max_request_retransmit: u32,
    /// RETRAN-MAX: ceiling of the back-off between attempts.
    pub retran_max: Duration,
    /// stale.cache.value: how long a cached resolution is fresh.
    pub stale_cache_value: Duration,
    /// Registration life asked for when the user says nothing, in whole seconds.
    pub registration_life: Duration,
    /// How many elements to ask for when the user says nothing.
    pub resolution_items: u32,
    /// How registrars speak.
    pub dialect: DialectSetting,
}

impl EndpointConfig {
    /// The variables of a profile.
    pub fn new(profile: Profile) -> EndpointConfig {
        let rfc = EndpointConfig {
            t1_enrp_request: Duration::from_secs(15),
            t2_registration: Duration::from_secs(30),
            t3_deregistration: Duration::from_secs(30),
            t5_serverhunt: Duration::from_secs(10),
            t7_enrp_outdate: Duration::from_secs(5),
            max_reg_attempt: 2,
            max_request_retransmit: 2,
            retran_max: Duration::from_secs(60),
            stale_cache_value: Duration::from_secs(5),
            registration_life: Duration::from_secs(300),
            resolution_items: 8,
            dialect: DialectSetting::default(),
        };
        match profile {
            Profile::Rfc => rfc,
            Profile::Wan => EndpointConfig {
                t1_enrp_request: Duration::from_secs(3),
                t2_registration: Duration::from_secs(5),
                t3_deregistration: Duration::from_secs(5),
                t5_serverhunt: Duration::from_secs(2),
                retran_max: Duration::from_secs(10),
                ..rfc
            },
            Profile::Lan => EndpointConfig {
                t1_enrp_request: Duration::from_millis(250),
                t2_registration: Duration::from_millis(500),
                t3_deregistration: Duration::from_millis(500),
                t5_serverhunt: Duration::from_millis(250),
                retran_max: Duration::from_secs(1),
                ..rfc
            },
        }
    }

    /// T4-reregistration for a registration life: ten minutes or the life less 20 seconds, whichever is
    /// less; half the life when it is under 40 seconds (the RFC's rule would leave nothing).
    pub fn t4_reregistration(life: Duration) -> Duration {
        if life < Duration::from_secs(40) {
            life / 2
        } else {
            (life - Duration::from_secs(20)).min(Duration::from_secs(600))
        }
    }
}

/// Session variables. The RFCs leave them to the implementation.
#[derive(Clone, Debug)]
pub struct SessionConfig {
    /// How long opening a link to one pool element may take before the next is tried.
    pub connect_timeout: Duration,
    /// A resolution no older than this will do for the first element (RFC 5352 stale.cache.value).
    pub stale_cache_value: Duration,
    /// Pause before resolving again when no element could be reached.
    pub resolution_retry: Duration,
    /// Longest time a failover may take before the session is given up; none: for ever.
    pub failover_deadline: Option<Duration>,
    /// Whether the session moves on by itself when its element fails.
    pub automatic_failover: bool,
    /// Whether an element that ends the session in order has ended it for its user. Otherwise the user is to move on as from
    /// an element that has failed.
    pub orderly_end_is_final: bool,
    /// Send a business card also to peers that showed neither the capability nor a card of their own.
    pub unasked_business_card: bool,
}

impl SessionConfig {
    /// The variables of a profile.
    pub fn new(profile: Profile) -> SessionConfig {
        let (connect, retry) = match profile {
            Profile::Lan => (500, 50),
            Profile::Wan => (3_000, 250),
            Profile::Rfc => (5_000, 250),
        };
        SessionConfig {
            connect_timeout: Duration::from_millis(connect),
            stale_cache_value: Duration::from_secs(5),
            resolution_retry: Duration::from_millis(retry),
            failover_deadline: Some(Duration::from_secs(30)),
            automatic_failover: false,
            orderly_end_is_final: true,
            unasked_business_card: false,
        }
    }
}

/// Registrar variables on the ASAP side (RFC 5352 7, RFC 5355).
#[derive(Clone, Debug)]
pub struct RegistrarConfig {
    /// T6-Serverannounce: announcements come every (N+1) times this.
    pub t6_serverannounce: Duration,
    /// MAX-BAD-PE-REPORT: an element is removed when more reports than this have come.
    pub max_bad_pe_report: u32,
    /// Mean time between keep-alives to an element (spread by 50 % either way); grows with the number of
    /// elements owned so that `keep_alives_per_second` is not exceeded.
    pub keep_alive_interval: Duration,
    /// How long an element may take to acknowledge a keep-alive.
    pub keep_alive_timeout: Duration,
    /// Ceiling of the keep-alives sent per second.
    pub keep_alives_per_second: u32,
    /// Elements in a resolution response when the request names no number; 0: all that fit.
    pub resolution_items: u32,
    /// Accept registered addresses that are not among the link's own (DEPARTS RFC 5352 2.2.1).
    pub proxy_registration: bool,
    /// PEER-HEARTBEAT-CYCLE (RFC 5353 4.2): how often other registrars are told that this one is there.
    pub peer_heartbeat_cycle: Duration,
    /// MAX-TIME-LAST-HEARD (RFC 5353 4.2): how long a peer may be silent at least before it is asked for a sign of life.
    /// A peer that is heard less often than ours are has longer.
    pub max_time_last_heard: Duration,
    /// MAX-TIME-NO-RESPONSE (RFC 5353 4.2): how long an answer of a peer is waited for.
    pub max_time_no_response: Duration,
    /// How long a registrar that hears neither its peers nor most of its elements takes that for its own trouble.
    pub longest_doubt: Duration,
    /// How elements, users and other registrars speak.
    pub dialect: DialectSetting,
}

impl RegistrarConfig {
    /// The variables of a profile.
    pub fn new(profile: Profile) -> RegistrarConfig {
        let (interval, timeout) = match profile {
            Profile::Lan => (300, 400),
            Profile::Wan => (2_000, 3_000),
            Profile::Rfc => (5_000, 5_000),
        };
        let (heartbeat, last_heard, no_response) = match profile {
            Profile::Lan => (200, 500, 250),
            Profile::Wan => (2_000, 5_000, 1_500),
            Profile::Rfc => (30_000, 61_000, 5_000),
        };
        RegistrarConfig {
            t6_serverannounce: Duration::from_secs(1),
            max_bad_pe_report: 3,
            keep_alive_interval: Duration::from_millis(interval),
            keep_alive_timeout: Duration::from_millis(timeout),
            keep_alives_per_second: 2_000,
            resolution_items: 0,
            proxy_registration: false,
            peer_heartbeat_cycle: Duration::from_millis(heartbeat),
            max_time_last_heard: Duration::from_millis(last_heard),
            max_time_no_response: Duration::from_millis(no_response),
            longest_doubt: Duration::from_secs(10),
            dialect: DialectSetting::default(),
        }
    }
}

/// How long an SCTP association tries a path, and all of them, before it gives up (RFC 9260 16), while data is under way or
/// a heartbeat is.
#[derive(Clone, Debug)]
pub struct PathLimits {
    /// RTO.Initial: how long the first retransmission waits, and the next address when connecting.
    pub rto_initial: Duration,
    /// RTO.Min.
    pub rto_min: Duration,
    /// RTO.Max.
    pub rto_max: Duration,
    /// Path.Max.Retrans: failures in a row after which a path is left.
    pub path_max_retrans: u16,
    /// Association.Max.Retrans: failures in a row, on whatever path, after which the peer is given up.
    pub association_max_retrans: u16,
    /// HB.interval: how often an idle path is probed.
    pub heartbeat: Duration,
    /// How long an acknowledgement may be delayed.
    pub sack_delay: Duration,
    /// How long a TCP link to or of a registrar may have bytes that the peer's host has not acknowledged before it is given up; none: as long
    /// as the system likes, which is many minutes. After a cut TCP waits for longer and longer before it tries again: a
    /// new link is up at once. On an idle link the kernel asks after as long whether the other end is there.
    pub tcp_unacknowledged: Option<Duration>,
}

impl PathLimits {
    /// The limits of a profile. `Lan`: a cut path costs 50 to 200 ms, and a peer that has gone silent is given up after
    /// at most 5 timeouts of 200 ms.
    pub fn new(profile: Profile) -> PathLimits {
        let (initial, min, max, path, association, heartbeat, sack) = match profile {
            Profile::Lan => (200, 50, 200, 2, 4, 2_000, 10),
            Profile::Wan => (1_000, 200, 1_000, 3, 5, 5_000, 50),
            Profile::Rfc => (1_000, 1_000, 60_000, 5, 10, 30_000, 200),
        };
        PathLimits {
            rto_initial: Duration::from_millis(initial),
            rto_min: Duration::from_millis(min),
            rto_max: Duration::from_millis(max),
            path_max_retrans: path,
            association_max_retrans: association,
            heartbeat: Duration::from_millis(heartbeat),
            sack_delay: Duration::from_millis(sack),
            tcp_unacknowledged: match profile {
                Profile::Lan => Some(Duration::from_secs(2)),
                Profile::Wan => Some(Duration::from_secs(10)),
                Profile::Rfc => None,
            },
        }
    }
}

/// What a machine or runtime refuses to go beyond. Safe defaults from the first day.
#[derive(Clone, Debug)]
pub struct Limits {
    /// Links open at once.
    pub links: usize,
    /// Links open at once from one address; loopback is exempt.
    pub links_per_address: usize,
    /// Bytes waiting to be sent on one link before it is closed as congested. For user data the bound at which senders
    /// are made to wait; a TCP link with a session is closed only beyond this and `user_message_bytes` together.
    pub queued_bytes_per_link: usize,
    /// The longest message of user data, in bytes.
    pub user_message_bytes: usize,
    /// Pools in the handlespace.
    pub pools: usize,
    /// Elements in one pool.
    pub elements_per_pool: usize,
    /// Elements in the handlespace.
    pub elements: usize,
    /// The longest pool handle, in bytes.
    pub handle_bytes: usize,
    /// The longest pool element, in bytes of its encoded parameter; a message could hold sixteen times as much.
    pub element_bytes: usize,
    /// Pools one client may have subscribed to.
    pub subscriptions_per_link: usize,
    /// Resolutions in an endpoint's cache.
    pub cache_entries: usize,
    /// Requests an endpoint holds while it has no registrar.
    pub pending_requests: usize,
    /// How long SCTP links try.
    pub path: PathLimits,
}

impl Default for Limits {
    fn default() -> Limits {
        Limits {
            links: 65_536,
            links_per_address: 4_096,
            queued_bytes_per_link: 4 << 20,
            user_message_bytes: 16 << 20,
            pools: 100_000,
            elements_per_pool: 1_000_000,
            elements: 1_000_000,
            handle_bytes: 1_024,
            element_bytes: 4_096,
            subscriptions_per_link: 1_024,
            cache_entries: 4_096,
            pending_requests: 16_384,
            path: PathLimits::new(Profile::Lan),
        }
    }
}
