//! Announcing this registrar to endpoints (RFC 5352 3.6): every (N+1) times T6-Serverannounce, N being the number of
//! other registrars heard. Together all registrars then send about one announcement per T6.
//!
//! Sends nothing itself; does not use what others announce for anything but counting them.

use crate::types::{ServerId, Time};
use std::collections::BTreeMap;
use std::time::Duration;

/// RFC 5352 7.1 T7-ENRPoutdate: how long an announcement counts at least.
const T7_ENRP_OUTDATE: Duration = Duration::from_secs(5);

/// As many registrars are counted. Anyone in multicast reach can make up identifiers; this bounds both the memory
/// and the silence that buys.
const MAX_HEARD: usize = 32;

/// The other registrars heard, and when.
#[derive(Debug, Default)]
pub(super) struct Announcer {
    heard: BTreeMap<ServerId, Time>,
}

impl Announcer {
    /// Another registrar has announced itself.
    pub(super) fn on_heard(&mut self, now: Time, server: ServerId) {
        if self.heard.len() < MAX_HEARD || self.heard.contains_key(&server) {
            self.heard.insert(server, now);
        }
    }

    /// How long to wait for the next announcement after one made `now`.
    pub(super) fn interval(&mut self, now: Time, t6: Duration) -> Duration {
        let per_server =
            |others: usize| t6.saturating_mul(u32::try_from(others).unwrap_or(u32::MAX).saturating_add(1));
        // The RFC forgets after T7 (5 s). From five registrars on each is heard less often than that, and would be
        // forgotten and found again in turns: so two announcements must have been missed at least.
        let outdate = T7_ENRP_OUTDATE.max(per_server(self.heard.len()).saturating_mul(2));
        self.heard.retain(|_, at| now.since(*at) < outdate);
        per_server(self.heard.len())
    }
}
