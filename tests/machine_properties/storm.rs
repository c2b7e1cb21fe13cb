//! No storms: machines that hear each other's output, or their own, fall silent. No time passes here, so nothing that
//! is said now can be the work of a timer.

use crate::driven::{Driven, State};
use crate::endpoint::{endpoint, offer};
use crate::inputs::{ADDRESSES, bytes, element, handle};
use crate::registrar::{most_effects, registrar};
use crate::session::{config, limits};
use asap::config::Profile;
use asap::endpoint::Endpoint;
use asap::machine::{Channel, Effect, Input, LinkId, LinkKind, Machine, Protocol};
use asap::session::Session;
use asap::types::{PoolElement, PoolHandle, Time};
use proptest::collection::vec;
use proptest::prelude::*;
use std::collections::VecDeque;
use std::net::SocketAddr;
use std::time::Duration;

/// Messages that may follow from one until it is quiet.
const QUIET: usize = 64;

/// A machine with one link.
trait Side {
    fn hear(&mut self, channel: Channel, bytes: &[u8]) -> Vec<(Channel, Vec<u8>)>;
}

struct OneLink<M: Machine> {
    world: Driven<M>,
    link: LinkId,
}

impl<M: Machine> OneLink<M> {
    /// Comes up; what the machine says at once.
    fn up(world: Driven<M>, link: LinkId, protocol: Protocol) -> (OneLink<M>, Vec<(Channel, Vec<u8>)>) {
        let mut side = OneLink { world, link };
        side.world.effects.clear();
        side.world.links.insert(link, State::Up);
        let at = [SocketAddr::new(ADDRESSES[0].parse().unwrap(), 3863)];
        let kind = LinkKind::Tcp;
        side.world.input(Input::LinkUp { link, kind, protocol, local: &at, peer: &at, identity: None });
        let said = side.said();
        (side, said)
    }

    fn said(&mut self) -> Vec<(Channel, Vec<u8>)> {
        let this = self.link;
        let sends = self.world.effects.drain(..).filter_map(|effect| match effect {
            Effect::Send { link, channel, bytes } if link == this => Some((channel, bytes)),
            Effect::Send { .. }
            | Effect::Connect { .. }
            | Effect::Close { .. }
            | Effect::Announce { .. }
            | Effect::Datagram { .. } => None,
        });
        sends.collect()
    }
}

impl<M: Machine> Side for OneLink<M> {
    fn hear(&mut self, channel: Channel, bytes: &[u8]) -> Vec<(Channel, Vec<u8>)> {
        self.world.input(Input::Message { link: self.link, channel, bytes, complete: true });
        self.said()
    }
}

/// What one says the other hears, and the other way round, until nobody says anything.
fn settle(a: &mut dyn Side, b: &mut dyn Side, to_a: Vec<(Channel, Vec<u8>)>, to_b: Vec<(Channel, Vec<u8>)>) {
    let begun = to_a.len() + to_b.len();
    let mut waiting: VecDeque<(bool, Channel, Vec<u8>)> = VecDeque::new();
    waiting.extend(to_a.into_iter().map(|(channel, bytes)| (true, channel, bytes)));
    waiting.extend(to_b.into_iter().map(|(channel, bytes)| (false, channel, bytes)));
    let mut heard = 0;
    while let Some((to_a, channel, bytes)) = waiting.pop_front() {
        heard += 1;
        assert!(heard <= QUIET * (begun + 1), "no end of it: {bytes:x?}");
        let answers = if to_a { a.hear(channel, &bytes) } else { b.hear(channel, &bytes) };
        waiting.extend(answers.into_iter().map(|(channel, bytes)| (!to_a, channel, bytes)));
    }
}

/// What a machine says comes back to it until it says nothing.
fn reflect(a: &mut dyn Side, first: Vec<(Channel, Vec<u8>)>) {
    let begun = first.len();
    let mut waiting: VecDeque<(Channel, Vec<u8>)> = first.into();
    let mut heard = 0;
    while let Some((channel, bytes)) = waiting.pop_front() {
        heard += 1;
        assert!(heard <= QUIET * (begun + 1), "no end of it: {bytes:x?}");
        waiting.extend(a.hear(channel, &bytes));
    }
}

type Up<M> = (OneLink<M>, Vec<(Channel, Vec<u8>)>);

fn a_registrar(protocol: Protocol) -> Up<asap::registrar::Registrar> {
    let machine = registrar(1, Profile::Lan, false, false, false, Vec::new(), Vec::new());
    let mut world = Driven::new(machine, most_effects);
    let link = world.accepted();
    world.input(Input::Incoming { link, protocol });
    OneLink::up(world, link, protocol)
}

/// An endpoint with a home, to which it wants to register elements, and which it asks.
fn an_endpoint(elements: Vec<(PoolHandle, PoolElement)>) -> Up<Endpoint> {
    let mut world = Driven::new(endpoint(1, Profile::Lan, false, false), |_| 1_000);
    let to = asap::machine::Destination {
        kind: LinkKind::Tcp,
        protocol: Protocol::Asap,
        port: 3863,
        addresses: ADDRESSES[0].parse::<std::net::IpAddr>().unwrap().into(),
    };
    let (now, later) = (world.now, world.now + Duration::from_secs(1_000));
    world.machine.set_registrars(now, vec![to]);
    for (handle, element) in elements {
        world.machine.subscribe(now, &handle);
        world.machine.register(now, offer(handle, &element, None), later);
    }
    world.machine.subscribe(now, &PoolHandle::new(b"a").unwrap());
    world.drain(false);
    let link = *world.links.keys().next().unwrap();
    OneLink::up(world, link, Protocol::Asap)
}

fn a_session(own: Vec<PoolElement>) -> Up<Session> {
    let own = (PoolHandle::new(b"a").unwrap(), own);
    let mut config = config(false, false);
    config.unasked_business_card = true;
    let now = Time::from_nanos(1_000_000_000);
    let machine = Session::element(now, config, limits(false), LinkId::incoming(1), Some(own));
    let mut world = Driven::new(machine, |_| 100);
    let link = world.accepted();
    OneLink::up(world, link, Protocol::Session)
}

fn a_user(own: Vec<PoolElement>, mut element: PoolElement) -> Option<Up<Session>> {
    let handle = PoolHandle::new(b"a").unwrap();
    let mut config = config(false, false);
    config.unasked_business_card = true;
    let now = Time::from_nanos(1_000_000_000);
    let own = Some((handle.clone(), own));
    let machine = Session::user(now, config, limits(false), 1, handle.clone(), own);
    let mut world = Driven::new(machine, |_| 100);
    element.user_transport = asap::types::TransportAddress::Tcp {
        port: 7,
        transport_use: asap::types::TransportUse::DataOnly,
        address: ADDRESSES[0].parse().unwrap(),
    };
    let policy = element.policy;
    let resolution = asap::endpoint::Resolution { handle, policy, elements: vec![element], at: now };
    world.machine.resolved(now, Ok(resolution));
    world.drain(false);
    let link = *world.links.keys().next()?;
    Some(OneLink::up(world, link, Protocol::Session))
}

fn on(channel: Channel, all: Vec<Vec<u8>>) -> Vec<(Channel, Vec<u8>)> {
    all.into_iter().map(|bytes| (channel, bytes)).collect()
}

proptest! {
    #[test]
    fn two_registrars_that_hear_each_other_fall_silent(
        enrp in any::<bool>(),
        to_a in vec(bytes(), 0..12),
        to_b in vec(bytes(), 0..12),
    ) {
        let (protocol, channel) =
            if enrp { (Protocol::Enrp, Channel::Enrp) } else { (Protocol::Asap, Channel::Asap) };
        let (mut a, said_a) = a_registrar(protocol);
        let (mut b, said_b) = a_registrar(protocol);
        settle(&mut a, &mut b, [on(channel, to_a), said_b].concat(), [on(channel, to_b), said_a].concat());
    }

    #[test]
    fn an_endpoint_and_a_registrar_fall_silent(
        elements in vec((handle(), element()), 0..4),
        to_registrar in vec(bytes(), 0..12),
        to_endpoint in vec(bytes(), 0..12),
    ) {
        let (mut a, said_a) = a_registrar(Protocol::Asap);
        let (mut b, said_b) = an_endpoint(elements);
        let to_a = [said_b, on(Channel::Asap, to_registrar)].concat();
        settle(&mut a, &mut b, to_a, [on(Channel::Asap, to_endpoint), said_a].concat());
    }

    #[test]
    fn two_endpoints_that_take_each_other_for_registrars_fall_silent(
        elements in vec((handle(), element()), 0..4),
        to_a in vec(bytes(), 0..12),
    ) {
        let (mut a, said_a) = an_endpoint(elements.clone());
        let (mut b, said_b) = an_endpoint(elements);
        settle(&mut a, &mut b, [said_b, on(Channel::Asap, to_a)].concat(), said_a);
    }

    #[test]
    fn a_session_s_two_ends_fall_silent(
        (own, element) in (vec(element(), 0..4), element()),
        to_a in vec(bytes(), 0..12),
        to_b in vec(bytes(), 0..12),
    ) {
        let (mut a, said_a) = a_session(own.clone());
        let Some((mut b, said_b)) = a_user(own, element) else { return Ok(()) };
        let to_a = [said_b, on(Channel::Asap, to_a)].concat();
        settle(&mut a, &mut b, to_a, [said_a, on(Channel::Asap, to_b)].concat());
    }

    #[test]
    fn whoever_hears_only_itself_falls_silent(
        elements in vec((handle(), element()), 0..4),
        own in vec(element(), 0..4),
        first in vec(bytes(), 0..12),
    ) {
        for protocol in [Protocol::Asap, Protocol::Enrp] {
            let channel = if protocol == Protocol::Enrp { Channel::Enrp } else { Channel::Asap };
            let (mut registrar, said) = a_registrar(protocol);
            reflect(&mut registrar, [said, on(channel, first.clone())].concat());
        }
        let (mut endpoint, said) = an_endpoint(elements);
        reflect(&mut endpoint, [said, on(Channel::Asap, first.clone())].concat());
        let (mut session, said) = a_session(own);
        reflect(&mut session, [said, on(Channel::Asap, first)].concat());
    }
}
