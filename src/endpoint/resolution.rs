//! Handle resolution (RFC 5352 3.3, 3.7.2, 6.3, 6.9.1) and subscriptions (2.2.5, S bit): questions to the home
//! registrar, T1, who waits for which answer.
//!
//! A response names its pool and nothing else, so at most one question per pool is under way. All who can do with its
//! answer share it; the others wait for the next one. A question for a subscribed pool always carries the S bit and asks for
//! all elements.
//!
//! C2, C3: who asks says how old an answer may be, and waits for a new one if the cached one is older.

use super::acquaintance::Permission;
use super::cache::Cache;
use super::context::{Context, Timer};
use super::{Doubt, Event, Query, RequestFailure, RequestId, Resolution};
use crate::policy::Policy;
use crate::types::{Capabilities, CauseCode, ErrorCause, PoolElement, PoolHandle, Time};
use crate::wire::{AsapMessage, RSPLIB_ITEMS};
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

/// What this library's users can do, told to registrars in every question.
const OURS: Capabilities = Capabilities(Capabilities::TCP_CONTROL_CHANNEL.0 | Capabilities::BUSINESS_CARD.0);

/// The shortest pause between two attempts at a subscription.
const SHORTEST_RETRY: Duration = Duration::from_millis(100);

#[derive(Debug)]
struct Request {
    query: Query,
    /// Whether anybody wants to hear of the outcome (a cache population has nobody).
    quiet: bool,
}

/// A question under way.
#[derive(Debug)]
struct Question {
    /// How many elements are asked for; none: all.
    items: Option<u32>,
    /// Whether it asks for updates.
    subscribe: bool,
    /// When it was first sent to this home; none: waits for a home.
    sent: Option<Time>,
    /// How often T1 has expired.
    expiries: u32,
    /// In the order of asking, as identifiers count up.
    askers: BTreeSet<RequestId>,
}

impl Question {
    fn for_askers(askers: BTreeSet<RequestId>) -> Question {
        Question { items: None, subscribe: false, sent: None, expiries: 0, askers }
    }
}

/// What is being asked about a pool.
#[derive(Debug, Default)]
struct Pool {
    question: Option<Question>,
    /// Who cannot do with that question's answer.
    next: BTreeSet<RequestId>,
}

#[derive(Debug)]
struct Subscription {
    count: usize,
    state: Update,
    /// How long it has last been resting while there was no such pool.
    pause: Duration,
    /// What was last told: policy and elements in order of identifier, or that the pool is gone; none: nothing yet.
    told: Option<Option<(Policy, Vec<PoolElement>)>>,
}

/// Where a subscription stands with the home registrar.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Update {
    /// To be asked for.
    Due,
    /// Asked for.
    Asked,
    /// The registrar tells changes.
    Held,
    /// The registrar does not tell changes, because it does not do so, or the pool does not exist; asked for again
    /// after a while (a timer runs).
    Resting,
}

/// Questions and subscriptions.
#[derive(Debug)]
pub(super) struct Resolutions {
    pub(super) cache: Cache,
    requests: BTreeMap<RequestId, Request>,
    pools: BTreeMap<PoolHandle, Pool>,
    subscriptions: BTreeMap<PoolHandle, Subscription>,
    next_id: u64,
}

impl Resolutions {
    pub(super) fn new(cache_entries: usize) -> Resolutions {
        Resolutions {
            cache: Cache::new(cache_entries),
            requests: BTreeMap::new(),
            pools: BTreeMap::new(),
            subscriptions: BTreeMap::new(),
            next_id: 0,
        }
    }

    pub(super) fn resolve(&mut self, ctx: &mut Context, mut query: Query, deadline: Time) -> RequestId {
        let id = self.new_id();
        query.items = query.items.or(Some(ctx.config.resolution_items)).filter(|items| *items > 0);
        if let Some(resolution) = self.cache.answer(ctx.now, &query, &mut ctx.rng) {
            ctx.counters.cache_hits += 1;
            ctx.tell(Event::Resolved { request: id, outcome: Ok(resolution) });
        } else if self.requests.len() >= ctx.limits.pending_requests {
            ctx.tell(Event::Resolved { request: id, outcome: Err(RequestFailure::TooMany) });
        } else {
            self.add(ctx, id, Request { query, quiet: false }, deadline);
        }
        id
    }

    /// CachePopulateRequest (RFC 5352 6.3): asks, and tells nobody.
    pub(super) fn populate(&mut self, ctx: &mut Context, handle: &PoolHandle) {
        if self.requests.len() < ctx.limits.pending_requests {
            let id = self.new_id();
            let items = Some(ctx.config.resolution_items).filter(|items| *items > 0);
            let query = Query { handle: handle.clone(), items, max_age: Duration::ZERO };
            let trials = ctx.config.max_request_retransmit.saturating_add(1);
            let deadline = ctx.now + ctx.config.t1_enrp_request.saturating_mul(trials);
            self.add(ctx, id, Request { query, quiet: true }, deadline);
        }
    }

    /// BC1 (RFC 5352 3.9). Cards may name pools without end: half of the room is kept for those who ask themselves.
    pub(super) fn on_card(&mut self, ctx: &mut Context, handle: &PoolHandle) {
        let known = self.cache.peek(handle).is_some() || self.pools.contains_key(handle);
        if !known && self.requests.len() < ctx.limits.pending_requests / 2 {
            self.populate(ctx, handle);
        }
    }

    fn new_id(&mut self) -> RequestId {
        self.next_id += 1;
        RequestId(self.next_id)
    }

    fn add(&mut self, ctx: &mut Context, id: RequestId, request: Request, deadline: Time) {
        let handle = request.query.handle.clone();
        ctx.timers.set(Timer::RequestDeadline(id), deadline);
        let pool = self.pools.entry(handle.clone()).or_default();
        let group = match &mut pool.question {
            Some(question) if will_do(question, &request.query, ctx.now) => &mut question.askers,
            Some(_) | None => &mut pool.next,
        };
        group.insert(id);
        self.requests.insert(id, request);
        self.go_on(ctx, &handle);
    }

    /// Forgets a request; its question stays under way until it is answered or T1 expires.
    pub(super) fn cancel(&mut self, ctx: &mut Context, id: RequestId) {
        if let Some(request) = self.requests.remove(&id) {
            ctx.timers.cancel(&Timer::RequestDeadline(id));
            self.leave(&request.query.handle, id);
            self.go_on(ctx, &request.query.handle);
        }
    }

    fn leave(&mut self, handle: &PoolHandle, id: RequestId) {
        if let Some(pool) = self.pools.get_mut(handle) {
            pool.next.remove(&id);
            if let Some(question) = &mut pool.question {
                question.askers.remove(&id);
            }
        }
    }

    pub(super) fn subscribe(&mut self, ctx: &mut Context, handle: &PoolHandle) {
        let new = Subscription { count: 0, state: Update::Due, pause: Duration::ZERO, told: None };
        self.subscriptions.entry(handle.clone()).or_insert(new).count += 1;
        self.go_on(ctx, handle);
    }

    pub(super) fn unsubscribe(&mut self, ctx: &mut Context, handle: &PoolHandle) {
        let Some(subscription) = self.subscriptions.get_mut(handle) else { return };
        subscription.count = subscription.count.saturating_sub(1);
        if subscription.count == 0 {
            let held = subscription.state == Update::Held;
            self.subscriptions.remove(handle);
            ctx.timers.cancel(&Timer::Subscription(handle.clone()));
            if held {
                self.withdraw(ctx, handle);
            }
            self.go_on(ctx, handle);
        }
    }

    /// Tells the registrar that updates are not wanted any more, by a question without S bit: the RFC has no other
    /// message for it. It is not repeated; whoever is under way with a question will do.
    fn withdraw(&mut self, ctx: &mut Context, handle: &PoolHandle) {
        let pool = self.pools.entry(handle.clone()).or_default();
        if pool.question.is_none() {
            pool.question = Some(Question::for_askers(std::mem::take(&mut pool.next)));
            self.send(ctx, handle);
        }
    }

    /// Whether anything here wants a registrar.
    pub(super) fn need_registrar(&self) -> bool {
        !self.requests.is_empty() || !self.subscriptions.is_empty()
    }

    /// Brings a pool's questions in order after any change: drops one nobody waits for, begins the next, sends it if
    /// there is a home.
    fn go_on(&mut self, ctx: &mut Context, handle: &PoolHandle) {
        let due = self.subscriptions.get(handle).is_some_and(|s| s.state == Update::Due);
        let pool = self.pools.entry(handle.clone()).or_default();
        match &mut pool.question {
            Some(question) if question.sent.is_none() => question.askers.append(&mut pool.next),
            None if due || !pool.next.is_empty() => {
                pool.question = Some(Question::for_askers(std::mem::take(&mut pool.next)));
            }
            Some(_) | None => {}
        }
        match &pool.question {
            None => {
                self.pools.remove(handle);
            }
            Some(question) if question.sent.is_some() => {}
            Some(question) if question.askers.is_empty() && !due => {
                self.pools.remove(handle);
            }
            Some(_) => self.send(ctx, handle),
        }
    }

    /// Sends a pool's question, for the first time or again, if there is a home (NR1-NR4).
    fn send(&mut self, ctx: &mut Context, handle: &PoolHandle) {
        match ctx.permission(handle, None) {
            Permission::Granted => {}
            Permission::Later => return,
            Permission::Never(what) => {
                let why = RequestFailure::NotForRsplib(what);
                return self.abandon(ctx, handle, &Err(why));
            }
        }
        let Some(question) = self.pools.get_mut(handle).and_then(|pool| pool.question.as_mut()) else {
            return;
        };
        let subscription = self.subscriptions.get_mut(handle);
        question.subscribe = subscription.is_some();
        question.items = if question.subscribe {
            None
        } else {
            widest(question.askers.iter().filter_map(|id| self.requests.get(id)).map(|r| r.query.items))
        };
        if ctx.home.as_ref().is_some_and(|home| home.acquaintance.may_be_rsplib()) {
            question.items = question.items.or(Some(RSPLIB_ITEMS.into()));
        }
        let message = AsapMessage::HandleResolution {
            subscribe: question.subscribe,
            handle: handle.clone(),
            items: question.items,
            capabilities: Some(OURS),
        };
        match ctx.send_home(&message) {
            Ok(_) => {
                ctx.counters.resolutions_sent += 1;
                question.sent.get_or_insert(ctx.now);
                if let Some(subscription) = subscription
                    && subscription.state == Update::Due
                {
                    subscription.state = Update::Asked;
                }
                ctx.set_timer(Timer::T1Request(handle.clone()), ctx.config.t1_enrp_request);
            }
            Err(_) => {
                let causes = vec![ErrorCause::bare(CauseCode::InvalidValues)];
                self.abandon(ctx, handle, &Err(RequestFailure::Rejected(causes)));
            }
        }
    }

    /// A question that this registrar, or any, cannot be asked; the subscription, if any, rests like one refused.
    fn abandon(
        &mut self,
        ctx: &mut Context,
        handle: &PoolHandle,
        outcome: &Result<Resolution, RequestFailure>,
    ) {
        let question = self.pools.remove(handle).and_then(|pool| pool.question);
        self.rest(ctx, handle, false);
        self.conclude(ctx, question.map(|question| question.askers).unwrap_or_default(), outcome);
    }

    /// A response, asked for or not (A bit: pushed).
    pub(super) fn on_response(
        &mut self,
        ctx: &mut Context,
        accept_updates: bool,
        handle: PoolHandle,
        outcome: Result<(Policy, Vec<PoolElement>), Vec<ErrorCause>>,
    ) {
        let question = self
            .pools
            .get_mut(&handle)
            .and_then(|pool| pool.question.take_if(|question| question.sent.is_some()));
        if question.is_some() {
            ctx.timers.cancel(&Timer::T1Request(handle.clone()));
        } else {
            ctx.counters.updates_received += 1;
        }
        let outcome = match outcome {
            // A pool has at least one element (RFC 5352 2.2.6).
            Ok((_, elements)) if elements.is_empty() => Err(RequestFailure::UnknownPool),
            Ok((policy, elements)) => {
                Ok(Resolution { handle: handle.clone(), policy, elements, at: ctx.now })
            }
            Err(causes) if causes.iter().any(|c| c.code == CauseCode::UnknownPoolHandle) => {
                Err(RequestFailure::UnknownPool)
            }
            Err(causes) => Err(RequestFailure::Rejected(causes)),
        };
        match &outcome {
            Ok(resolution) => {
                let told = u32::try_from(resolution.elements.len()).unwrap_or(u32::MAX);
                let asked = match &question {
                    Some(question) => question.items,
                    None if self.subscriptions.contains_key(&handle) => None,
                    // A late answer to a question that is forgotten.
                    None => Some(told),
                };
                self.cache.insert(resolution.clone(), asked);
            }
            Err(RequestFailure::UnknownPool) => self.cache.remove(&handle),
            Err(_) => {}
        }
        let asked_for_updates = question.as_ref().is_some_and(|question| question.subscribe);
        if outcome.is_ok() && accept_updates {
            if let Some(subscription) = self.subscriptions.get_mut(&handle) {
                subscription.state = Update::Held;
                subscription.pause = Duration::ZERO;
                ctx.timers.cancel(&Timer::Subscription(handle.clone()));
            }
        } else if asked_for_updates || outcome.is_err() {
            self.rest(ctx, &handle, outcome == Err(RequestFailure::UnknownPool));
        }
        self.tell_change(ctx, &handle, &outcome);
        if let Some(question) = question {
            self.conclude(ctx, question.askers, &outcome);
        }
        if asked_for_updates && accept_updates && !self.subscriptions.contains_key(&handle) {
            self.withdraw(ctx, &handle);
        }
        self.go_on(ctx, &handle);
    }

    /// Tells subscribers what is new to them.
    fn tell_change(
        &mut self,
        ctx: &mut Context,
        handle: &PoolHandle,
        outcome: &Result<Resolution, RequestFailure>,
    ) {
        let Some(subscription) = self.subscriptions.get_mut(handle) else { return };
        let (now, resolution) = match outcome {
            Ok(resolution) => {
                let mut elements = resolution.elements.clone();
                elements.sort_by_key(|element| element.id);
                (Some((resolution.policy, elements)), Some(resolution.clone()))
            }
            Err(RequestFailure::UnknownPool) => (None, None),
            Err(_) => return,
        };
        if subscription.told.as_ref() != Some(&now) {
            subscription.told = Some(now);
            ctx.tell(Event::PoolChanged { handle: handle.clone(), resolution });
        }
    }

    /// The registrar does not hold a subscription: it is asked for again later. The S bit holds only for pools that
    /// exist (RFC 5352 2.2.5); one that is `missing` may be about to: it is noticed at the latest when it was waited for as long again.
    fn rest(&mut self, ctx: &mut Context, handle: &PoolHandle, missing: bool) {
        if let Some(subscription) = self.subscriptions.get_mut(handle) {
            let longest = ctx.config.stale_cache_value.max(SHORTEST_RETRY);
            let next = subscription.pause.saturating_mul(2).clamp(SHORTEST_RETRY, longest);
            subscription.pause = if missing { next } else { longest };
            subscription.state = Update::Resting;
            ctx.set_timer(Timer::Subscription(handle.clone()), subscription.pause);
        }
    }

    pub(super) fn on_subscription_timer(&mut self, ctx: &mut Context, handle: &PoolHandle) {
        if let Some(subscription) = self.subscriptions.get_mut(handle) {
            subscription.state = Update::Due;
            self.go_on(ctx, handle);
        }
    }

    /// Tells those who asked. Answers come out of the cache, so that each gets its share.
    fn conclude(
        &mut self,
        ctx: &mut Context,
        askers: BTreeSet<RequestId>,
        outcome: &Result<Resolution, RequestFailure>,
    ) {
        for id in askers {
            let Some(request) = self.requests.remove(&id) else { continue };
            ctx.timers.cancel(&Timer::RequestDeadline(id));
            if request.quiet {
                continue;
            }
            let outcome = match outcome {
                Ok(told) => {
                    let drawn = self.cache.draw(&request.query.handle, request.query.items, &mut ctx.rng);
                    Ok(drawn.unwrap_or_else(|| told.clone()))
                }
                Err(failure) => Err(failure.clone()),
            };
            ctx.tell(Event::Resolved { request: id, outcome });
        }
    }

    /// T1 (RFC 5352 3.7.2): the question is repeated up to MAX-REQUEST-RETRANSMIT times, while another registrar is
    /// looked for.
    pub(super) fn on_t1(&mut self, ctx: &mut Context, handle: &PoolHandle) -> Doubt {
        let Some(pool) = self.pools.get_mut(handle) else { return Doubt::None };
        let Some(question) = &mut pool.question else { return Doubt::None };
        let silent = match (&ctx.home, question.sent) {
            (Some(home), Some(sent)) => home.heard <= sent,
            (Some(_), None) | (None, _) => return Doubt::None,
        };
        question.expiries += 1;
        let wanted = !question.askers.is_empty() || self.subscriptions.contains_key(handle);
        if wanted && question.expiries <= ctx.config.max_request_retransmit {
            self.send(ctx, handle);
            return Doubt::Suspect;
        }
        let silent = silent && question.expiries > ctx.config.max_request_retransmit;
        let askers = std::mem::take(&mut question.askers);
        pool.question = None;
        self.rest(ctx, handle, false);
        self.conclude(ctx, askers, &Err(RequestFailure::TimedOut));
        self.go_on(ctx, handle);
        match (wanted, silent) {
            // Nobody waited for it.
            (false, _) => Doubt::None,
            (true, true) => Doubt::Silent,
            (true, false) => Doubt::Suspect,
        }
    }

    pub(super) fn on_deadline(&mut self, ctx: &mut Context, id: RequestId) {
        let Some(handle) = self.requests.get(&id).map(|request| request.query.handle.clone()) else { return };
        let failure = match &ctx.home {
            Some(_) => RequestFailure::TimedOut,
            None => RequestFailure::NoRegistrar(ctx.tried.clone()),
        };
        self.leave(&handle, id);
        self.conclude(ctx, BTreeSet::from([id]), &Err(failure));
        self.go_on(ctx, &handle);
    }

    /// The home is gone: what it was asked has to be asked another one, subscriptions included.
    pub(super) fn on_home_lost(&mut self, ctx: &mut Context) {
        for (handle, pool) in &mut self.pools {
            if let Some(question) = &mut pool.question {
                question.sent = None;
                ctx.timers.cancel(&Timer::T1Request(handle.clone()));
            }
        }
        for (handle, subscription) in &mut self.subscriptions {
            subscription.state = Update::Due;
            ctx.timers.cancel(&Timer::Subscription(handle.clone()));
        }
        let handles: Vec<PoolHandle> = self.pools.keys().chain(self.subscriptions.keys()).cloned().collect();
        for handle in handles {
            self.go_on(ctx, &handle);
        }
    }

    /// There is a home: everything waiting is asked.
    pub(super) fn on_home(&mut self, ctx: &mut Context) {
        let handles: Vec<PoolHandle> = self.pools.keys().cloned().collect();
        for handle in handles {
            self.go_on(ctx, &handle);
        }
    }
}

/// Whether a question's answer will do for a query: asked late enough, and for enough elements.
fn will_do(question: &Question, query: &Query, now: Time) -> bool {
    let Some(sent) = question.sent else { return true };
    let enough = match (question.items, query.items) {
        (None, _) => true,
        (Some(_), None) => false,
        (Some(asked), Some(wanted)) => wanted <= asked,
    };
    enough && now.since(sent) <= query.max_age
}

/// The number of elements that is enough for all; none: all there are.
fn widest(wanted: impl Iterator<Item = Option<u32>>) -> Option<u32> {
    let mut most = Some(0);
    for items in wanted {
        most = most.zip(items).map(|(a, b)| a.max(b));
    }
    most.filter(|items| *items > 0)
}
