//! The registrar under anything: its handlespace agrees with itself at every moment.

use crate::driven::{Driven, State};
use crate::inputs::{Step, destination, registrar_transport, step};
use asap::config::{Limits, Profile, RegistrarConfig};
use asap::handlespace::{Handlespace, View};
use asap::machine::{Destination, Machine as _};
use asap::registrar::{Event, Registrar, Removal, Setup};
use asap::types::{PeId, PoolHandle, ServerId, TransportAddress};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;
use std::collections::BTreeSet;
use std::time::Duration;

pub fn id(n: u32) -> ServerId {
    ServerId::new(n).unwrap()
}

/// Small limits are hit, variables of zero are survived.
pub fn registrar(
    seed: u64,
    profile: Profile,
    zeros: bool,
    small: bool,
    announce: bool,
    asap: Vec<TransportAddress>,
    peers: Vec<Destination>,
) -> Registrar {
    let mut config = RegistrarConfig::new(profile);
    if zeros {
        config.t6_serverannounce = Duration::ZERO;
        config.keep_alive_interval = Duration::ZERO;
        config.keep_alive_timeout = Duration::ZERO;
        config.keep_alives_per_second = u32::MAX;
        config.peer_heartbeat_cycle = Duration::ZERO;
        config.max_bad_pe_report = 0;
        config.proxy_registration = true;
    }
    let mut limits = Limits::default();
    if small {
        limits =
            Limits { links: 6, links_per_address: 2, pools: 2, elements: 4, elements_per_pool: 2, ..limits };
        limits.subscriptions_per_link = 1;
        limits.handle_bytes = 16;
    }
    Registrar::new(config, limits, seed, Setup { id: id(1), asap, enrp: Vec::new(), announce, peers })
}

/// One's complement sum of all 16-bit words of the owner's elements (RFC 5353 3.6.2), anew.
fn checksum_of(handlespace: &Handlespace, owner: ServerId) -> u16 {
    let mut sum: u32 = 0;
    let mut add = |word: u32| {
        sum += word;
        sum = (sum & 0xffff) + (sum >> 16);
    };
    for (handle, ..) in handlespace.pools() {
        for entry in handlespace.elements(handle).filter(|entry| entry.element.home == Some(owner)) {
            let mut bytes = handle.as_bytes().to_vec();
            if bytes.len() % 2 == 1 {
                bytes.push(0);
            }
            bytes.extend(entry.element.id.0.to_be_bytes());
            for pair in bytes.chunks(2) {
                add(u32::from(pair[0]) << 8 | u32::from(pair[1]));
            }
        }
    }
    !u16::try_from(sum).unwrap()
}

/// `present`: what was registered and not removed, as far as events tell all of it.
fn check_handlespace(world: &Driven<Registrar>, present: Option<&BTreeSet<(PoolHandle, PeId)>>) {
    let handlespace = world.machine.handlespace();
    let mut listed = BTreeSet::new();
    let mut owned = 0;
    for (handle, traits, count) in handlespace.pools() {
        assert!(count > 0, "an empty pool");
        assert_eq!(handlespace.elements(handle).count(), count);
        for entry in handlespace.elements(handle) {
            assert_eq!(entry.element.policy.policy_type(), traits.policy_type);
            assert_eq!(entry.element.user_transport.kind(), traits.transport);
            listed.insert((handle.clone(), entry.element.id));
            owned += usize::from(entry.element.home == Some(id(1)));
            let link = entry.registrant.as_ref().and_then(|registrant| registrant.link);
            if let Some(link) = link {
                assert_eq!(world.links.get(&link), Some(&State::Up), "registered on a link that is gone");
            }
            assert!(entry.expires.is_none_or(|at| at > world.now), "outlives its registration");
        }
    }
    assert_eq!(handlespace.count(None), listed.len());
    assert_eq!(handlespace.count(Some(id(1))), owned);
    assert_eq!(handlespace.checksum(id(1), View::Full).0, checksum_of(handlespace, id(1)));
    if let Some(present) = present {
        assert_eq!(&listed, present, "events and handlespace tell different stories");
    }
    // The owner is told nothing of an element nobody can reach: each is asked for a sign of life, or runs out.
    if !listed.is_empty() {
        assert!(world.machine.poll_timeout().is_some(), "nobody looks after its elements");
    }
}

fn follow(events: Vec<Event>, present: &mut BTreeSet<(PoolHandle, PeId)>) {
    for event in events {
        match event {
            Event::Added { handle, element } => {
                assert!(present.insert((handle, element)), "added twice");
            }
            Event::Removed { handle, element, why } => {
                assert!(present.remove(&(handle, element)), "removed twice: {why:?}");
                let _: Removal = why;
            }
            Event::Refused { .. }
            | Event::Rejected { .. }
            | Event::PeerUp { .. }
            | Event::PeerSuspected { .. }
            | Event::Doubting
            | Event::DoubtEnded
            | Event::PeerAudited { .. }
            | Event::Serving { .. }
            | Event::Renamed { .. }
            | Event::TakeoverBegun { .. }
            | Event::TakeoverYielded { .. }
            | Event::TakeoverAverted { .. }
            | Event::TakenOver { .. }
            | Event::PeerDown { .. } => {}
        }
    }
}

/// Every element may be asked, told, and every link closed or pushed to.
pub fn most_effects(world: &Driven<Registrar>) -> usize {
    8 + 4 * (world.live_links() + world.machine.handlespace().count(None))
}

proptest! {
    #[test]
    fn a_registrar_keeps_its_books_whatever_it_is_told(
        seed in any::<u64>(),
        profile in select(vec![Profile::Lan, Profile::Wan, Profile::Rfc]),
        (zeros, small, announce) in any::<(bool, bool, bool)>(),
        asap in vec(registrar_transport(), 0..3),
        peers in vec(destination(), 0..3),
        steps in vec(step(), 1..80),
        leave in any::<bool>(),
    ) {
        let machine = registrar(seed, profile, zeros, small, announce, asap, peers);
        let mut world = Driven::new(machine, most_effects);
        let mut present = BTreeSet::new();
        // Once a peer was met it may tell of elements, and of the end of any: no event tells that again.
        let mut met = false;
        for step in &steps {
            world.step(step);
            // What fell due while time passed without a wake-up is done by now.
            if !matches!(step, Step::Leap(_)) {
                world.wake();
            }
            world.effects.clear();
            met |= world.machine.peers().next().is_some();
            let events = std::mem::take(&mut world.events);
            if !met {
                follow(events, &mut present);
            }
            check_handlespace(&world, (!met).then_some(&present));
        }
        if leave {
            world.machine.shutdown(world.now);
            world.drain(false);
            prop_assert_eq!(world.live_links(), 0);
            prop_assert_eq!(world.machine.poll_timeout(), None);
            for step in &steps {
                world.step(step);
                prop_assert_eq!(world.live_links(), 0);
            }
        }
    }
}
