//! A user's search for an element (RFC 5352 3.7), the first or the next one. It goes in rounds: each element of the list once, whose
//! link was lost last; after a fruitless round a pause, and a new resolution. Whose turn it is, `selection` knows; what is
//! said once a link is up is `conversation`'s.
//!
//! The RFC leaves open how long anything of this takes; see [`SessionConfig`](crate::config::SessionConfig).

use super::{Loss, Phase, Session, Timer};
use crate::endpoint::{RequestFailure, Resolution};
use crate::machine::{Effect, LinkFailure, LinkId};
use crate::session::selection::{Candidates, destination, tells_unreachable};
use crate::session::{Event, NoElement};
use crate::types::{PeId, PoolHandle, Time};
use std::collections::BTreeSet;
use std::time::Duration;

/// What only a user has.
#[derive(Debug)]
pub(super) struct User {
    pub(super) handle: PoolHandle,
    pub(super) candidates: Candidates,
    /// When the list held was told.
    pub(super) told: Option<Time>,
    pub(super) cookie: Option<Vec<u8>>,
    pub(super) resolution: Asked,
    pub(super) next_link: u64,
    /// Links in sequence that came up and were lost again soon without a message.
    pub(super) fruitless: usize,
}

/// Whether the answer to an [`Event::Resolve`] is outstanding.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Asked {
    No,
    Yes,
    /// It takes so long that nobody waits for it any more.
    Overdue,
}

/// The search for an element.
#[derive(Debug)]
pub(super) struct Seek {
    pub(super) loss: Loss,
    pub(super) first: bool,
    /// The list held is not to be used before the resolution asked for is answered or overdue; then a new round begins.
    pub(super) held_back: bool,
    /// Tried in vain in this round.
    pub(super) missed: Vec<(PeId, LinkFailure)>,
    pub(super) unresolved: Option<RequestFailure>,
}

impl Session {
    /// The answer to [`Event::Resolve`].
    pub fn resolved(&mut self, now: Time, outcome: Result<Resolution, RequestFailure>) {
        let Some(user) = &mut self.user else { return };
        user.resolution = Asked::No;
        self.timers.cancel(&Timer::Patience);
        let new_round = match &mut self.phase {
            Phase::Seeking(seek) => std::mem::take(&mut seek.held_back),
            Phase::Accepting { .. }
            | Phase::Opening { .. }
            | Phase::Up(_)
            | Phase::Failed(_)
            | Phase::Over => false,
        };
        match outcome {
            Ok(resolution) => {
                user.told = Some(resolution.at);
                if new_round {
                    user.candidates.renew(&resolution);
                } else {
                    user.candidates.update(&resolution);
                }
            }
            Err(why) => {
                // The list held stays, even if the registrar knows no such pool: it may have just started, and
                // the elements may still have to find it.
                if new_round {
                    user.candidates.try_again();
                }
                if let Phase::Seeking(seek) = &mut self.phase {
                    seek.unresolved = Some(why);
                }
            }
        }
        self.skip_pause();
        self.advance(now);
    }

    /// The pool has changed (by subscription): order of failover follows, and if the element in use is gone from
    /// it and its link is silent, the session moves on. Silent is an element that lets something of ours go unanswered
    /// for `SessionConfig::connect_timeout` after it left the pool; a link on which nothing is outstanding stays.
    pub fn pool_changed(&mut self, now: Time, resolution: Option<&Resolution>) {
        let Some(user) = &mut self.user else { return };
        match resolution {
            Some(resolution) => {
                user.told = Some(resolution.at);
                user.candidates.update(resolution);
            }
            None => user.candidates.clear(),
        }
        match &mut self.phase {
            Phase::Up(conversation) => {
                let id = conversation.element.as_ref().map(|element| element.id);
                conversation.gone =
                    id.is_some_and(|id| !resolution.is_some_and(|r| r.elements.iter().any(|e| e.id == id)));
                if !conversation.gone {
                    self.timers.cancel(&Timer::Silence);
                } else if conversation.unanswered {
                    self.watch(now);
                }
            }
            Phase::Seeking(seek) => {
                if user.candidates.any_unblemished() {
                    seek.held_back = false;
                }
                self.skip_pause();
                self.advance(now);
            }
            Phase::Opening { link, element, .. } => {
                // Others are there: waiting for one that is known to have left would only cost time.
                let (link, id) = (*link, element.id);
                if user.candidates.element(id).is_none() && user.candidates.any_unblemished() {
                    self.effects.push_back(Effect::Close { link, abort: true });
                    self.abandon_attempt(now);
                }
            }
            Phase::Accepting { .. } | Phase::Failed(_) | Phase::Over => {}
        }
    }

    /// Moves on to another element on the application's behalf; `report` the present one as unreachable.
    /// `max_age`: a resolution no older than this will do.
    ///
    /// A list older than that is used after all when the resolution fails or takes longer than
    /// `SessionConfig::connect_timeout`. Without automatic failover there is one round of trying.
    pub fn fail_over(&mut self, now: Time, report: bool, max_age: Duration) {
        let Some(user) = &mut self.user else { return };
        let fresh = user.told.is_some_and(|told| now.since(told) <= max_age);
        match &mut self.phase {
            Phase::Up(conversation) => {
                let link = conversation.link;
                let id = conversation.element.as_ref().map(|element| element.id);
                self.effects.push_back(Effect::Close { link, abort: report });
                let mut reported = BTreeSet::new();
                if let Some(id) = id {
                    user.candidates.suspect(id);
                    if report {
                        self.report(id);
                        reported.insert(id);
                    }
                }
                self.give_up_bound(id);
                let loss = Loss { since: now, why: LinkFailure::TimedOut, element: None, reported };
                self.begin_failover(now, loss, (!fresh).then_some(max_age));
            }
            Phase::Failed(_) => {
                if let Some(loss) = self.take_loss() {
                    self.begin_failover(now, loss, (!fresh).then_some(max_age));
                }
            }
            Phase::Seeking(_) => {
                if self.timers.cancel(&Timer::Retry).is_some() {
                    self.on_retry(now);
                }
            }
            Phase::Accepting { .. } | Phase::Opening { .. } | Phase::Over => {}
        }
    }

    pub(super) fn ask(&mut self, now: Time, max_age: Duration) {
        let Some(user) = &mut self.user else { return };
        if user.resolution == Asked::No {
            user.resolution = Asked::Yes;
            self.events.push_back(Event::Resolve { handle: user.handle.clone(), max_age });
        }
        if user.resolution == Asked::Yes {
            self.timers.set(Timer::Patience, now + self.config.connect_timeout);
        }
    }

    pub(super) fn report(&mut self, element: PeId) {
        let Some(user) = &self.user else { return };
        self.events.push_back(Event::Unreachable { handle: user.handle.clone(), element });
    }

    /// Starts looking for another element. `wait_for`: the list held must not be used before a resolution no older
    /// than this was tried.
    pub(super) fn begin_failover(&mut self, now: Time, loss: Loss, wait_for: Option<Duration>) {
        let (missed, unresolved) = (Vec::new(), None);
        let held_back = wait_for.is_some();
        self.phase = Phase::Seeking(Seek { loss, first: false, held_back, missed, unresolved });
        if self.config.automatic_failover
            && let Some(deadline) = self.config.failover_deadline
        {
            self.timers.set(Timer::Deadline, now + deadline);
        }
        self.ask(now, wait_for.unwrap_or(Duration::ZERO));
        if let Some(user) = &self.user
            && user.resolution == Asked::Overdue
            && let Phase::Seeking(seek) = &mut self.phase
        {
            seek.held_back = false;
        }
        self.advance(now);
    }

    /// Whether links come up and are lost again at once, more than once around: moving on at once would be a
    /// busy loop.
    fn flapping(&self) -> bool {
        self.user.as_ref().is_some_and(|user| user.fruitless > user.candidates.len())
    }

    /// Ends the pause between rounds when somebody new can be tried.
    fn skip_pause(&mut self) {
        if !self.flapping() && self.user.as_ref().is_some_and(|user| user.candidates.any_unblemished()) {
            self.timers.cancel(&Timer::Retry);
        }
    }

    /// While seeking: opens a link to the next element, if there is one and it is time.
    pub(super) fn advance(&mut self, now: Time) {
        let flapping = self.flapping();
        let Phase::Seeking(seek) = &mut self.phase else { return };
        let Some(user) = &mut self.user else { return };
        if seek.held_back || self.timers.deadline(&Timer::Retry).is_some() {
            return;
        }
        if flapping {
            self.timers.set(Timer::Retry, now + self.config.resolution_retry);
            return;
        }
        // The list holds reachable transports only; a card may come with others, which `next` leaves out.
        let next = user.candidates.next().and_then(|element| Some((destination(&element)?, element)));
        let Some((to, element)) = next else {
            match user.resolution {
                Asked::Yes => {}
                Asked::No | Asked::Overdue => self.end_round(now),
            }
            return;
        };
        // A process that dies is cut off from its users before it stops to listen: its kernel would take one more link. By
        // then others may be known, too.
        let settled = seek.loss.since + self.config.resolution_retry;
        if seek.loss.element == Some(element.id) && user.candidates.is_suspect(element.id) && now < settled {
            self.timers.set(Timer::Settled, settled);
            return;
        }
        let link = LinkId::outgoing(user.next_link);
        user.next_link += 1;
        self.counters.attempts += 1;
        let Phase::Seeking(seek) = std::mem::replace(&mut self.phase, Phase::Over) else { return };
        self.phase = Phase::Opening { seek, link, element };
        self.timers.set(Timer::Attempt, now + self.config.connect_timeout);
        self.effects.push_back(Effect::Connect { link, to });
    }

    /// Nobody could be reached.
    fn end_round(&mut self, now: Time) {
        let Phase::Seeking(seek) = &mut self.phase else { return };
        self.counters.rounds_failed += 1;
        let missed = std::mem::take(&mut seek.missed);
        let why = match seek.unresolved.take() {
            Some(why) if missed.is_empty() => NoElement::NotResolved(why),
            Some(_) | None => NoElement::NotReached(missed),
        };
        self.events.push_back(Event::FailoverFailed(why));
        if seek.first || self.config.automatic_failover {
            self.timers.set(Timer::Retry, now + self.config.resolution_retry);
        } else {
            if let Some(user) = &mut self.user {
                user.candidates.try_again();
            }
            if let Phase::Seeking(seek) = std::mem::replace(&mut self.phase, Phase::Over) {
                self.phase = Phase::Failed(seek.loss);
            }
        }
    }

    /// The pause is over: a new round, on a new resolution if there is one soon.
    pub(super) fn on_retry(&mut self, now: Time) {
        let Phase::Seeking(seek) = &mut self.phase else { return };
        let Some(user) = &mut self.user else { return };
        if user.fruitless > user.candidates.len() {
            user.fruitless = user.candidates.len();
            return self.advance(now);
        }
        if user.resolution == Asked::Overdue {
            user.candidates.try_again();
            return self.advance(now);
        }
        seek.held_back = true;
        self.ask(now, Duration::ZERO);
    }

    pub(super) fn on_patience_over(&mut self, now: Time) {
        let Some(user) = &mut self.user else { return };
        if user.candidates.len() == 0 && matches!(self.phase, Phase::Seeking(_)) {
            // Nobody to go on with: the answer, or the reason why there is none, is worth the wait.
            self.timers.set(Timer::Patience, now + self.config.connect_timeout);
            return;
        }
        if user.resolution == Asked::Yes {
            user.resolution = Asked::Overdue;
        }
        if let Phase::Seeking(seek) = &mut self.phase {
            if std::mem::take(&mut seek.held_back) {
                user.candidates.try_again();
            }
            self.advance(now);
        }
    }

    /// The link being opened came to nothing.
    pub(super) fn on_attempt_failed(&mut self, now: Time, why: LinkFailure) {
        let Phase::Opening { seek, element, .. } = &mut self.phase else { return };
        let id = element.id;
        self.counters.attempts_failed += 1;
        seek.missed.push((id, why));
        let first_time = tells_unreachable(why) && seek.loss.reported.insert(id);
        if let Some(user) = &mut self.user {
            user.candidates.fail(id);
        }
        if first_time {
            self.report(id);
        }
        self.give_up_bound(Some(id));
        self.abandon_attempt(now);
    }

    pub(super) fn abandon_attempt(&mut self, now: Time) {
        self.timers.cancel(&Timer::Attempt);
        if let Phase::Opening { seek, .. } = std::mem::replace(&mut self.phase, Phase::Over) {
            self.phase = Phase::Seeking(seek);
        }
        self.advance(now);
    }
}
