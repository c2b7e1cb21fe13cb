//! The endpoint under anything: every request is answered once and in time, every registration has an outcome.

use crate::driven::Driven;
use crate::inputs::{Step, destination, element, handle, pe_id, step, transport};
use asap::config::{EndpointConfig, Limits, Profile};
use asap::endpoint::{
    Deregistration, Endpoint, Event, Offer, Query, RegistrationId, RequestFailure, RequestId,
};
use asap::machine::{Destination, Machine as _};
use asap::types::{CauseCode, PeId, PoolElement, PoolHandle, Time, TransportAddress};
use proptest::collection::vec;
use proptest::option::of;
use proptest::prelude::*;
use proptest::sample::{Index, select};
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

#[derive(Clone, Debug)]
enum Command {
    SetRegistrars(Vec<Destination>),
    SetListener(Option<TransportAddress>),
    Register(Box<(PoolHandle, PoolElement)>, Duration, Option<Duration>),
    Update(Index, Box<PoolElement>, Duration),
    Deregister(Index, Duration),
    Resolve(PoolHandle, Option<u32>, Duration, Duration),
    Cancel(Index),
    Subscribe(PoolHandle),
    Unsubscribe(PoolHandle),
    Report(PoolHandle, PeId),
    Populate(PoolHandle),
    Purge(PoolHandle),
    Card(PoolHandle),
}

#[derive(Clone, Debug)]
enum Move {
    Step(Step),
    Command(Command),
}

fn command() -> impl Strategy<Value = Command> {
    let time =
        || select(vec![0, 1, 100, 1_000, 10_000, u64::MAX / 1_000_000]).prop_map(Duration::from_millis);
    prop_oneof![
        2 => vec(destination(), 0..5).prop_map(Command::SetRegistrars),
        1 => of(transport()).prop_map(Command::SetListener),
        4 => (handle(), element(), time(), of(time())).prop_map(|(handle, element, time, renewal)| {
            Command::Register(Box::new((handle, element)), time, renewal)
        }),
        2 => (any::<Index>(), element(), time())
            .prop_map(|(which, element, time)| Command::Update(which, Box::new(element), time)),
        2 => (any::<Index>(), time()).prop_map(|(which, time)| Command::Deregister(which, time)),
        4 => (handle(), of(select(vec![0, 1, 3, u32::MAX])), time(), time())
            .prop_map(|(handle, items, age, time)| Command::Resolve(handle, items, age, time)),
        1 => any::<Index>().prop_map(Command::Cancel),
        2 => handle().prop_map(Command::Subscribe),
        1 => handle().prop_map(Command::Unsubscribe),
        2 => (handle(), pe_id()).prop_map(|(handle, id)| Command::Report(handle, id)),
        1 => handle().prop_map(Command::Populate),
        1 => handle().prop_map(Command::Purge),
        1 => handle().prop_map(Command::Card),
    ]
}

fn a_move() -> impl Strategy<Value = Move> {
    prop_oneof![3 => step().prop_map(Move::Step), 2 => command().prop_map(Move::Command)]
}

pub fn endpoint(seed: u64, profile: Profile, zeros: bool, small: bool) -> Endpoint {
    let mut config = EndpointConfig::new(profile);
    if zeros {
        config.t1_enrp_request = Duration::ZERO;
        config.t2_registration = Duration::ZERO;
        config.t3_deregistration = Duration::ZERO;
        config.t5_serverhunt = Duration::ZERO;
        config.t7_enrp_outdate = Duration::ZERO;
        config.max_reg_attempt = 0;
        config.max_request_retransmit = 0;
        config.retran_max = Duration::ZERO;
        config.stale_cache_value = Duration::ZERO;
        config.resolution_items = 0;
    }
    let mut limits = Limits::default();
    if small {
        limits = Limits { links: 2, cache_entries: 0, pending_requests: 2, ..limits };
    }
    Endpoint::new(config, limits, seed)
}

pub fn offer(handle: PoolHandle, element: &PoolElement, renewal: Option<Duration>) -> Offer {
    Offer {
        handle,
        id: element.id,
        life: element.life,
        renewal,
        user_transport: element.user_transport.clone(),
        policy: element.policy,
        capabilities: element.capabilities.unwrap_or_default(),
    }
}

#[derive(Default)]
struct Book {
    /// Resolutions not answered, with their deadlines.
    requests: BTreeMap<RequestId, Time>,
    asked: Vec<RequestId>,
    /// Registrations, and until when something is to be told of them.
    registrations: BTreeMap<RegistrationId, Option<Time>>,
    leaving: BTreeSet<RegistrationId>,
    /// Refused for a name that is taken.
    doubles: BTreeSet<RegistrationId>,
    commands: usize,
}

impl Book {
    fn follow(&mut self, events: Vec<Event>) {
        for event in events {
            match event.clone() {
                Event::Resolved { request, outcome } => {
                    assert!(
                        self.requests.remove(&request).is_some(),
                        "answers {request:?} twice, or unasked"
                    );
                    if let Ok(resolution) = outcome {
                        assert!(!resolution.elements.is_empty(), "a pool without elements");
                    }
                }
                Event::Registered { registration, .. } | Event::RegistrationFailed { registration, .. } => {
                    if let Event::RegistrationFailed { why: RequestFailure::Rejected(causes), .. } = event
                        && causes.iter().any(|cause| cause.code == CauseCode::NonUniquePeId)
                    {
                        self.doubles.insert(registration);
                    }
                    let told = self.registrations.get_mut(&registration);
                    *told.expect("a registration that has ended is silent") = None;
                }
                Event::Deregistered { registration, how: Deregistration::Expired } => {
                    assert!(self.registrations.contains_key(&registration));
                }
                Event::Deregistered { registration, .. } => {
                    assert!(self.registrations.remove(&registration).is_some(), "ends twice");
                }
                Event::PoolChanged { .. } | Event::HomeChanged(_) | Event::HuntFailed(_) => {}
            }
        }
    }

    fn check(&self, now: Time) {
        for (request, deadline) in &self.requests {
            assert!(*deadline > now, "{request:?} is not answered by its deadline {deadline:?} at {now:?}");
        }
        for (registration, deadline) in &self.registrations {
            assert!(deadline.is_none_or(|at| at > now), "{registration:?} has no outcome by its deadline");
        }
    }
}

fn obey(world: &mut Driven<Endpoint>, book: &mut Book, command: &Command) {
    let now = world.now;
    let endpoint = &mut world.machine;
    let named = |index: &Index| {
        let all: Vec<RegistrationId> = book.registrations.keys().copied().collect();
        (!all.is_empty()).then(|| *index.get(&all))
    };
    book.commands += 1;
    match command.clone() {
        Command::SetRegistrars(registrars) => endpoint.set_registrars(now, registrars),
        Command::SetListener(listener) => endpoint.set_listener(listener),
        Command::Register(what, time, renewal) => {
            let deadline = now + time;
            let id = endpoint.register(now, offer(what.0, &what.1, renewal), deadline);
            book.registrations.insert(id, Some(deadline));
            world.drain(false);
            book.follow(std::mem::take(&mut world.events));
            if book.doubles.contains(&id) {
                // There is another of that name: this one is over before it begins.
                book.registrations.remove(&id);
            }
        }
        Command::Update(which, element, time) => {
            if let Some(id) = named(&which) {
                let deadline = now + time;
                endpoint.update(now, id, offer(PoolHandle::new(b"other").unwrap(), &element, None), deadline);
                if !book.leaving.contains(&id) {
                    book.registrations.insert(id, Some(deadline));
                }
            }
        }
        Command::Deregister(which, time) => {
            if let Some(id) = named(&which) {
                endpoint.deregister(now, id, now + time);
                if book.leaving.insert(id) {
                    book.registrations.insert(id, Some(now + time));
                }
            }
        }
        Command::Resolve(handle, items, max_age, time) => {
            let deadline = now + time;
            let id = endpoint.resolve(now, Query { handle, items, max_age }, deadline);
            book.requests.insert(id, deadline);
            book.asked.push(id);
        }
        Command::Cancel(which) => {
            if !book.asked.is_empty() {
                let id = *which.get(&book.asked);
                // An answer that is out already still comes.
                let mut answered = Vec::new();
                while let Some(event) = endpoint.poll_event() {
                    answered.push(event);
                }
                book.follow(answered);
                endpoint.cancel(id);
                book.requests.remove(&id);
            }
        }
        Command::Subscribe(handle) => endpoint.subscribe(now, &handle),
        Command::Unsubscribe(handle) => endpoint.unsubscribe(now, &handle),
        Command::Report(handle, id) => endpoint.report_unreachable(now, &handle, id),
        Command::Populate(handle) => endpoint.cache_populate(now, &handle),
        Command::Purge(handle) => endpoint.cache_purge(&handle),
        Command::Card(handle) => endpoint.on_card(now, &handle),
    }
    world.drain(false);
}

proptest! {
    #[test]
    fn an_endpoint_answers_everybody_once_and_in_time_whatever_it_is_told(
        seed in any::<u64>(),
        profile in select(vec![Profile::Lan, Profile::Wan, Profile::Rfc]),
        (zeros, small) in any::<(bool, bool)>(),
        registrars in vec(destination(), 0..5),
        moves in vec(a_move(), 1..80),
    ) {
        let mut world = Driven::new(endpoint(seed, profile, zeros, small), |_| 4 * 80);
        let mut book = Book::default();
        obey(&mut world, &mut book, &Command::SetRegistrars(registrars));
        for a_move in &moves {
            match a_move {
                Move::Step(step) => world.step(step),
                Move::Command(command) => obey(&mut world, &mut book, command),
            }
            if !matches!(a_move, Move::Step(Step::Leap(_))) {
                world.wake();
            }
            world.effects.clear();
            book.follow(std::mem::take(&mut world.events));
            book.check(world.now);
            let outgoing = world.links.iter().filter(|(link, state)| {
                !link.is_incoming() && **state != crate::driven::State::Dead
            });
            prop_assert!(outgoing.count() <= 3, "RFC 5352 3.6 SH1");
        }
        // Nobody is forgotten when nothing happens any more.
        world.now = world.now + Duration::from_secs(60);
        world.wake();
        book.follow(std::mem::take(&mut world.events));
        book.check(world.now);
    }
}
