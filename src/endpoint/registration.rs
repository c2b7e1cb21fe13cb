//! The elements this endpoint keeps registered (RFC 5352 3.1, 3.2 and the element's side of 3.4), each from
//! `register` to its end: T2, T3, T4, the back-off, MAX-REG-ATTEMPT, and what is told to the owner when.
//!
//! It does not look for registrars: without a home an element waits, and with a new home all are registered anew.

use super::acquaintance::Permission;
use super::context::{Context, Timer};
use super::{Deregistration, Doubt, Event, Offer, RegistrationId, RequestFailure};
use crate::config::EndpointConfig;
use crate::machine::LinkKind;
use crate::types::{
    Addresses, CauseCode, ErrorCause, PeId, PoolElement, PoolHandle, Time, TransportAddress, TransportKind,
};
use crate::wire::{AsapMessage, Dialect, Registration};
use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::Duration;

/// T4 is never shorter than this, whatever life an element asks for.
const SHORTEST_T4: Duration = Duration::from_millis(100);
/// T4 of a registration for ever.
const LONGEST_T4: Duration = Duration::from_secs(600);

#[derive(Debug)]
enum Stage {
    /// To be registered as soon as there is a home.
    Waiting,
    /// The registration is sent, T2 runs. `changed`: by an offer that is newer than what was sent.
    Registering { changed: bool },
    /// Confirmed, T4 runs.
    Registered,
    /// Refused; nothing is sent until the offer is corrected (RFC 5352 3.1).
    Refused,
    /// To be deregistered as soon as there is a home, or (T3 runs) waiting for the answer.
    Leaving,
}

#[derive(Debug)]
struct Element {
    offer: Offer,
    stage: Stage,
    /// A registrar holds it, or may hold it: it answers keep-alives and has to be deregistered.
    held: bool,
    /// A registrar has confirmed it at some time since it was last gone.
    confirmed: bool,
    /// The next success is to be told.
    tell_success: bool,
    /// Lasting failure has been told; the next thing to be told is success.
    told_failure: bool,
    /// Attempts unanswered in a row at this home, the one under way not counted.
    expiries: u32,
    /// When the first of them was sent.
    first_sent: Time,
    /// Registrations sent at this home and not answered: as many responses may still come.
    unanswered: u32,
    /// How the last one was said.
    said_in: Dialect,
}

/// The elements of this endpoint.
#[derive(Debug, Default)]
pub(super) struct Registrations {
    elements: BTreeMap<RegistrationId, Element>,
    by_name: BTreeMap<(PoolHandle, PeId), RegistrationId>,
    next_id: u64,
    listener: Option<TransportAddress>,
}

impl Registrations {
    /// Where registrars reach this endpoint, over TCP; registered elements are told at their next renewal.
    pub(super) fn set_listener(&mut self, listener: Option<TransportAddress>) {
        self.listener = listener.filter(|listener| listener.kind() == TransportKind::Tcp);
    }

    pub(super) fn register(&mut self, ctx: &mut Context, offer: Offer, deadline: Time) -> RegistrationId {
        let id = RegistrationId(self.next_id);
        self.next_id += 1;
        let name = (offer.handle.clone(), offer.id);
        if let Some(other) = self.by_name.get(&name).copied() {
            if !self.elements.get(&other).is_some_and(|e| matches!(e.stage, Stage::Leaving)) {
                let causes = vec![ErrorCause::bare(CauseCode::NonUniquePeId)];
                let why = RequestFailure::Rejected(causes);
                ctx.tell(Event::RegistrationFailed { registration: id, why, retrying: false });
                return id;
            }
            // It comes back before its deregistration is confirmed: the registration takes its place.
            self.end(ctx, other, Deregistration::Unconfirmed);
        }
        self.by_name.insert(name, id);
        self.elements.insert(
            id,
            Element {
                offer,
                stage: Stage::Waiting,
                held: false,
                confirmed: false,
                tell_success: true,
                told_failure: false,
                expiries: 0,
                first_sent: ctx.now,
                unanswered: 0,
                said_in: Dialect::Unknown,
            },
        );
        ctx.timers.set(Timer::OutcomeDeadline(id), deadline);
        self.send(ctx, id);
        id
    }

    pub(super) fn update(&mut self, ctx: &mut Context, id: RegistrationId, offer: Offer, deadline: Time) {
        let Some(element) = self.elements.get_mut(&id) else { return };
        // Pool and identifier are the registration's name and stay (RFC 5352 3.1).
        element.offer = Offer { handle: element.offer.handle.clone(), id: element.offer.id, ..offer };
        match &mut element.stage {
            Stage::Leaving => return,
            Stage::Registering { changed } => *changed = true,
            Stage::Waiting => {}
            Stage::Registered | Stage::Refused => {
                element.stage = Stage::Waiting;
                element.expiries = 0;
            }
        }
        element.tell_success = true;
        element.told_failure = false;
        ctx.timers.set(Timer::OutcomeDeadline(id), deadline);
        self.send(ctx, id);
    }

    pub(super) fn deregister(&mut self, ctx: &mut Context, id: RegistrationId, deadline: Time) {
        let Some(element) = self.elements.get_mut(&id) else { return };
        if matches!(element.stage, Stage::Leaving) {
            return;
        }
        if !element.held {
            self.end(ctx, id, Deregistration::Confirmed);
            return;
        }
        element.stage = Stage::Leaving;
        element.expiries = 0;
        ctx.timers.cancel(&Timer::T2Registration(id));
        ctx.timers.cancel(&Timer::T4Reregistration(id));
        ctx.timers.set(Timer::OutcomeDeadline(id), deadline);
        self.send_deregistration(ctx, id);
    }

    /// Whether anything here wants a registrar.
    pub(super) fn need_registrar(&self) -> bool {
        self.elements.values().any(|e| !matches!(e.stage, Stage::Refused))
    }

    /// The home is gone: what it confirmed and what it owes has to come from another one.
    pub(super) fn on_home_lost(&mut self, ctx: &mut Context) {
        for (id, element) in &mut self.elements {
            element.unanswered = 0;
            element.expiries = 0;
            ctx.timers.cancel(&Timer::T2Registration(*id));
            ctx.timers.cancel(&Timer::T3Deregistration(*id));
            ctx.timers.cancel(&Timer::T4Reregistration(*id));
            match element.stage {
                Stage::Registered => {
                    element.stage = Stage::Waiting;
                    element.tell_success = true;
                }
                Stage::Registering { .. } => element.stage = Stage::Waiting,
                Stage::Waiting | Stage::Refused | Stage::Leaving => {}
            }
        }
    }

    /// There is a home: everything waiting is sent to it.
    pub(super) fn on_home(&mut self, ctx: &mut Context) {
        let all: Vec<RegistrationId> = self.elements.keys().copied().collect();
        for id in all {
            match self.elements.get(&id).map(|e| &e.stage) {
                Some(Stage::Waiting) => self.send(ctx, id),
                Some(Stage::Leaving) => self.send_deregistration(ctx, id),
                Some(Stage::Registering { .. } | Stage::Registered | Stage::Refused) | None => {}
            }
        }
    }

    /// It is known how the home speaks: what waits for that is sent, and lives said in the other unit are said again.
    pub(super) fn on_acquainted(&mut self, ctx: &mut Context) {
        let Some(acquaintance) = ctx.home.as_ref().map(|home| home.acquaintance) else { return };
        let all: Vec<RegistrationId> = self.elements.keys().copied().collect();
        for id in all {
            let Some(element) = self.elements.get_mut(&id) else { continue };
            let again = acquaintance.repeats(element.offer.life, element.said_in);
            match &mut element.stage {
                Stage::Registering { changed } => *changed |= again,
                Stage::Registered if again => {
                    element.stage = Stage::Waiting;
                    ctx.timers.cancel(&Timer::T4Reregistration(id));
                    self.send(ctx, id);
                }
                Stage::Waiting => self.send(ctx, id),
                Stage::Leaving if ctx.timers.deadline(&Timer::T3Deregistration(id)).is_none() => {
                    self.send_deregistration(ctx, id);
                }
                Stage::Registered | Stage::Refused | Stage::Leaving => {}
            }
        }
    }

    /// Another registrar has made itself the home (H bit). It owns the elements it named; all others are
    /// registered with it.
    pub(super) fn on_home_adopted(&mut self, ctx: &mut Context, named: &[(RegistrationId, PeId)]) {
        let kept: Vec<(RegistrationId, Option<Time>)> = named
            .iter()
            .filter(|(id, _)| self.elements.get(id).is_some_and(|e| matches!(e.stage, Stage::Registered)))
            .map(|(id, _)| (*id, ctx.timers.deadline(&Timer::T4Reregistration(*id))))
            .collect();
        self.on_home_lost(ctx);
        for (id, t4) in kept {
            if let (Some(element), Some(t4)) = (self.elements.get_mut(&id), t4) {
                element.stage = Stage::Registered;
                ctx.timers.set(Timer::T4Reregistration(id), t4);
            }
        }
        self.on_home(ctx);
    }

    /// The elements a keep-alive speaks to (KA1).
    pub(super) fn matching(&self, handle: &PoolHandle, id: Option<PeId>) -> Vec<(RegistrationId, PeId)> {
        let first = (handle.clone(), id.unwrap_or(PeId(0)));
        let last = (handle.clone(), id.unwrap_or(PeId(u32::MAX)));
        self.by_name
            .range(first..=last)
            .filter(|(_, id)| self.elements.get(id).is_some_and(|e| e.held))
            .map(|((_, element), id)| (*id, *element))
            .collect()
    }

    pub(super) fn on_response(
        &mut self,
        ctx: &mut Context,
        name: (PoolHandle, PeId),
        reject: bool,
        causes: Vec<ErrorCause>,
    ) {
        let Some(id) = self.by_name.get(&name).copied() else { return };
        let Some(element) = self.elements.get_mut(&id) else { return };
        let expected = element.unanswered > 0;
        element.unanswered = element.unanswered.saturating_sub(1);
        match element.stage {
            Stage::Registering { changed: true } => {
                element.confirmed |= !reject;
                element.stage = Stage::Waiting;
                element.expiries = 0;
                self.send(ctx, id);
            }
            Stage::Registering { changed: false } if !reject => {
                element.confirmed = true;
                element.stage = Stage::Registered;
                element.expiries = 0;
                element.told_failure = false;
                let t4 = t4(&element.offer);
                let tell = std::mem::replace(&mut element.tell_success, false);
                ctx.timers.cancel(&Timer::T2Registration(id));
                ctx.timers.cancel(&Timer::OutcomeDeadline(id));
                ctx.set_timer(Timer::T4Reregistration(id), t4);
                if tell {
                    ctx.tell(Event::Registered { registration: id, warnings: causes });
                }
            }
            Stage::Registering { changed: false } => self.refuse(ctx, id, causes),
            // A late answer to a repetition: only a refusal says something new.
            Stage::Registered if reject && expected => self.refuse(ctx, id, causes),
            Stage::Registered | Stage::Waiting | Stage::Refused | Stage::Leaving => {}
        }
    }

    /// Refused: told, and not tried again until the offer is corrected. What an earlier registration brought about
    /// stands until it runs out.
    fn refuse(&mut self, ctx: &mut Context, id: RegistrationId, causes: Vec<ErrorCause>) {
        let Some(element) = self.elements.get_mut(&id) else { return };
        element.stage = Stage::Refused;
        element.held = element.confirmed;
        element.tell_success = true;
        ctx.timers.cancel(&Timer::T2Registration(id));
        ctx.timers.cancel(&Timer::T4Reregistration(id));
        ctx.timers.cancel(&Timer::OutcomeDeadline(id));
        let why = RequestFailure::Rejected(causes);
        ctx.tell(Event::RegistrationFailed { registration: id, why, retrying: false });
    }

    pub(super) fn on_deregistration_response(
        &mut self,
        ctx: &mut Context,
        name: (PoolHandle, PeId),
        error: Option<Vec<ErrorCause>>,
    ) {
        let Some(id) = self.by_name.get(&name).copied() else { return };
        let Some(element) = self.elements.get_mut(&id) else { return };
        match element.stage {
            Stage::Leaving => {
                let how = error.map_or(Deregistration::Confirmed, Deregistration::Refused);
                self.end(ctx, id, how);
            }
            // Unasked: the registration has run out.
            Stage::Registered => {
                element.stage = Stage::Waiting;
                element.confirmed = false;
                element.tell_success = true;
                ctx.timers.cancel(&Timer::T4Reregistration(id));
                ctx.tell(Event::Deregistered { registration: id, how: Deregistration::Expired });
                self.send(ctx, id);
            }
            Stage::Registering { .. } if element.confirmed => {
                // The renewal under way registers it anew.
                element.confirmed = false;
                element.tell_success = true;
                ctx.tell(Event::Deregistered { registration: id, how: Deregistration::Expired });
            }
            Stage::Refused => {
                element.held = false;
                element.confirmed = false;
            }
            Stage::Registering { .. } | Stage::Waiting => {}
        }
    }

    /// T2: the registration is repeated, further and further apart (RFC 5352 3.1, RETRAN-MAX).
    ///
    /// DEPARTS RFC 5352 3.1: after MAX-REG-ATTEMPT the upper layer is told, but attempts go on. A server that stopped
    /// trying would stay out of its pool after every longer outage of the registrars.
    pub(super) fn on_t2(&mut self, ctx: &mut Context, id: RegistrationId) -> Doubt {
        let Some(element) = self.elements.get_mut(&id) else { return Doubt::None };
        element.stage = Stage::Waiting;
        element.expiries = element.expiries.saturating_add(1);
        let given_up = element.expiries >= ctx.config.max_reg_attempt;
        let sent = element.first_sent;
        if given_up {
            // One that does not even say which message it did not understand has said why, at least.
            let complaint = ctx.home.as_ref().map(|home| home.complaint.clone()).unwrap_or_default();
            let why = match complaint.is_empty() {
                true => RequestFailure::TimedOut,
                false => RequestFailure::Rejected(complaint),
            };
            self.fail(ctx, id, why);
        }
        self.send(ctx, id);
        doubt(ctx, given_up, sent)
    }

    pub(super) fn on_t3(&mut self, ctx: &mut Context, id: RegistrationId) -> Doubt {
        let Some(element) = self.elements.get_mut(&id) else { return Doubt::None };
        element.expiries = element.expiries.saturating_add(1);
        let given_up = element.expiries >= ctx.config.max_reg_attempt;
        let sent = element.first_sent;
        self.send_deregistration(ctx, id);
        doubt(ctx, given_up, sent)
    }

    pub(super) fn on_t4(&mut self, ctx: &mut Context, id: RegistrationId) {
        if let Some(element) = self.elements.get_mut(&id) {
            element.stage = Stage::Waiting;
            self.send(ctx, id);
        }
    }

    /// An element may have been taken for dead: registers it again, if it is registered as far as is known.
    pub(super) fn renew(&mut self, ctx: &mut Context, name: &(PoolHandle, PeId)) -> bool {
        let Some(id) = self.by_name.get(name).copied() else { return false };
        let registered = self.elements.get(&id).is_some_and(|it| matches!(it.stage, Stage::Registered));
        if registered {
            ctx.timers.cancel(&Timer::T4Reregistration(id));
            self.on_t4(ctx, id);
        }
        registered
    }

    pub(super) fn on_deadline(&mut self, ctx: &mut Context, id: RegistrationId) {
        let Some(element) = self.elements.get(&id) else { return };
        match element.stage {
            Stage::Leaving => self.end(ctx, id, Deregistration::Unconfirmed),
            Stage::Waiting => {
                let why = RequestFailure::NoRegistrar(ctx.tried.clone());
                self.fail(ctx, id, why);
            }
            Stage::Registering { .. } => self.fail(ctx, id, RequestFailure::TimedOut),
            Stage::Registered | Stage::Refused => {}
        }
    }

    /// Tells a failure that goes on being worked at, once until it is over.
    fn fail(&mut self, ctx: &mut Context, id: RegistrationId, why: RequestFailure) {
        let Some(element) = self.elements.get_mut(&id) else { return };
        ctx.timers.cancel(&Timer::OutcomeDeadline(id));
        element.tell_success = true;
        if !std::mem::replace(&mut element.told_failure, true) {
            ctx.tell(Event::RegistrationFailed { registration: id, why, retrying: true });
        }
    }

    fn end(&mut self, ctx: &mut Context, id: RegistrationId, how: Deregistration) {
        let Some(element) = self.elements.remove(&id) else { return };
        self.by_name.remove(&(element.offer.handle, element.offer.id));
        for timer in [
            Timer::OutcomeDeadline(id),
            Timer::T2Registration(id),
            Timer::T3Deregistration(id),
            Timer::T4Reregistration(id),
        ] {
            ctx.timers.cancel(&timer);
        }
        ctx.tell(Event::Deregistered { registration: id, how });
    }

    /// Sends the registration of an element that waits, if there is a home (R2-R4).
    fn send(&mut self, ctx: &mut Context, id: RegistrationId) {
        let Some(element) = self.elements.get(&id) else { return };
        if !matches!(element.stage, Stage::Waiting) {
            return;
        }
        match ctx.permission(&element.offer.handle, Some(&element.offer)) {
            Permission::Granted => {}
            Permission::Later => return,
            // It waits for another home.
            Permission::Never(what) => return self.fail(ctx, id, RequestFailure::NotForRsplib(what)),
        }
        let (Some(home), Some(element)) = (&mut ctx.home, self.elements.get_mut(&id)) else { return };
        let said_in = home.acquaintance.spoken();
        if element.expiries == 0 {
            home.complaint.clear();
        }
        // DEPARTS RFC 5354 3.10: over TCP the element names a TCP listener, see docs/tcp.md 1. Over SCTP the registrar
        // fills in the association it sees.
        let asap_transport = match home.kind {
            LinkKind::Tcp => self.listener.as_ref().and_then(|l| on_this_link(l, &home.local)),
            LinkKind::Sctp | LinkKind::Udp => None,
        };
        let user_transport = on_this_link(&element.offer.user_transport, &home.local)
            .unwrap_or_else(|| element.offer.user_transport.clone());
        let message = AsapMessage::Registration(Registration {
            handle: element.offer.handle.clone(),
            element: PoolElement {
                id: element.offer.id,
                home: home.home.server,
                life: element.offer.life,
                user_transport,
                policy: element.offer.policy,
                asap_transport,
                capabilities: Some(element.offer.capabilities),
            },
        });
        match ctx.send_home(&message) {
            Ok(true) => {
                element.stage = Stage::Registering { changed: false };
                element.said_in = said_in;
                element.held = true;
                if element.expiries == 0 {
                    element.first_sent = ctx.now;
                }
                element.unanswered = element.unanswered.saturating_add(1);
                let t2 = back_off(ctx.config.t2_registration, element.expiries, &ctx.config);
                ctx.counters.registrations_sent += 1;
                ctx.set_timer(Timer::T2Registration(id), t2);
            }
            Ok(false) => {}
            Err(_) => self.refuse(ctx, id, vec![ErrorCause::bare(CauseCode::InvalidValues)]),
        }
    }

    fn send_deregistration(&mut self, ctx: &mut Context, id: RegistrationId) {
        let Some(element) = self.elements.get_mut(&id) else { return };
        if ctx.permission(&element.offer.handle, None) != Permission::Granted {
            return;
        }
        let message =
            AsapMessage::Deregistration { handle: element.offer.handle.clone(), element: element.offer.id };
        // It fits if the registration fitted.
        if let Ok(true) = ctx.send_home(&message) {
            if element.expiries == 0 {
                element.first_sent = ctx.now;
            }
            let t3 = back_off(ctx.config.t3_deregistration, element.expiries, &ctx.config);
            ctx.set_timer(Timer::T3Deregistration(id), t3);
        }
    }
}

/// The time until the next attempt: doubled with every one that was not answered, up to RETRAN-MAX.
fn back_off(timer: Duration, expiries: u32, config: &EndpointConfig) -> Duration {
    timer.saturating_mul(1 << expiries.min(16)).min(config.retran_max.max(timer))
}

/// What an unanswered attempt says about the home.
fn doubt(ctx: &Context, given_up: bool, first_sent: Time) -> Doubt {
    match &ctx.home {
        None => Doubt::None,
        Some(home) if given_up && home.heard <= first_sent => Doubt::Silent,
        Some(_) => Doubt::Suspect,
    }
}

fn t4(offer: &Offer) -> Duration {
    let by_life = offer.life.duration().map_or(LONGEST_T4, EndpointConfig::t4_reregistration);
    offer.renewal.unwrap_or(by_life).max(SHORTEST_T4)
}

/// A transport as the other end of the link can reach it: an unspecified address becomes ours on the link, all of them
/// where the transport takes many.
fn on_this_link(transport: &TransportAddress, local: &[IpAddr]) -> Option<TransportAddress> {
    match transport {
        TransportAddress::Tcp { port, transport_use, address } if address.is_unspecified() => {
            Some(TransportAddress::Tcp {
                port: *port,
                transport_use: *transport_use,
                address: *local.first()?,
            })
        }
        TransportAddress::Sctp { port, transport_use, addresses }
            if addresses.as_slice().iter().all(IpAddr::is_unspecified) =>
        {
            let (port, transport_use) = (*port, *transport_use);
            Some(TransportAddress::Sctp { port, transport_use, addresses: Addresses::new(local.to_vec())? })
        }
        TransportAddress::Udp { port, address } if address.is_unspecified() => {
            Some(TransportAddress::Udp { port: *port, address: *local.first()? })
        }
        other => Some(other.clone()),
    }
}
