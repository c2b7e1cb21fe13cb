//! Reports of unreachable elements (RFC 5352 3.5), and their limit (RFC 5355 threat 8): one a second for an
//! element, ten a second in all. Those that find no registrar wait for one, briefly: an old report would accuse an
//! element that may be well again.

use super::acquaintance::Permission;
use super::context::{Context, Timer};
use crate::types::{PeId, PoolHandle, Time};
use crate::wire::AsapMessage;
use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

/// The least time between two reports of one element.
const PER_ELEMENT: Duration = Duration::from_secs(1);
/// The mean time between two reports at the limit.
const SPACING: Duration = Duration::from_millis(100);
/// How far reports may run ahead of [`SPACING`]: ten at once.
const BURST: Duration = Duration::from_millis(900);
/// How long a report waits for a registrar.
const PATIENCE: Duration = Duration::from_secs(5);
/// How many may wait.
const MAX_WAITING: usize = 64;

/// The reports.
#[derive(Debug, Default)]
pub(super) struct Reports {
    /// When each element was last reported; entries older than [`PER_ELEMENT`] are dropped.
    recent: BTreeMap<(PoolHandle, PeId), Time>,
    /// When the reports let through so far would have been sent at [`SPACING`].
    paced: Time,
    waiting: VecDeque<(Time, PoolHandle, PeId)>,
}

impl Reports {
    pub(super) fn report(&mut self, ctx: &mut Context, handle: &PoolHandle, id: PeId) {
        self.recent.retain(|_, at| ctx.now.since(*at) < PER_ELEMENT);
        let key = (handle.clone(), id);
        if self.recent.contains_key(&key) || self.paced.since(ctx.now) > BURST {
            ctx.counters.reports_suppressed += 1;
            return;
        }
        self.recent.insert(key, ctx.now);
        self.paced = self.paced.max(ctx.now) + SPACING;
        if ctx.home.is_some() {
            send(ctx, handle.clone(), id);
        } else if self.waiting.len() < MAX_WAITING {
            self.waiting.push_back((ctx.now, handle.clone(), id));
            self.watch(ctx);
        } else {
            ctx.counters.reports_suppressed += 1;
        }
    }

    /// Whether reports wait for a registrar.
    pub(super) fn need_registrar(&self) -> bool {
        !self.waiting.is_empty()
    }

    pub(super) fn on_home(&mut self, ctx: &mut Context) {
        for (_, handle, id) in std::mem::take(&mut self.waiting) {
            send(ctx, handle, id);
        }
        self.watch(ctx);
    }

    pub(super) fn on_timer(&mut self, ctx: &mut Context) {
        let before = self.waiting.len();
        self.waiting.retain(|(at, ..)| ctx.now.since(*at) < PATIENCE);
        ctx.counters.reports_suppressed += (before - self.waiting.len()) as u64;
        self.watch(ctx);
    }

    fn watch(&self, ctx: &mut Context) {
        match self.waiting.front() {
            Some((at, ..)) => ctx.timers.set(Timer::Reports, *at + PATIENCE),
            None => {
                ctx.timers.cancel(&Timer::Reports);
            }
        }
    }
}

fn send(ctx: &mut Context, handle: PoolHandle, element: PeId) {
    // A handle too long for a message, or for this registrar, names no pool that anybody could have resolved with it.
    if ctx.permission(&handle, None) != Permission::Granted {
        ctx.counters.reports_suppressed += 1;
    } else if let Ok(true) = ctx.send_home(&AsapMessage::EndpointUnreachable { handle, element }) {
        ctx.counters.reports_sent += 1;
    }
}
