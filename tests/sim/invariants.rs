//! What has to hold of a handlespace at any moment, and of all of them together once nothing is wrong any more. The
//! numbers are those of docs/guarantees.md.

use crate::world::World;
use asap::registrar::{PeerState, Registrar, Standing};
use asap::types::{PeId, PoolElement, PoolHandle, Time};
use std::collections::BTreeMap;
use std::time::Duration;

/// What a handlespace promises at any moment: every element has a home, fits its pool, and the checksum kept equals
/// the one computed afresh.
pub fn check_registrar(registrar: &Registrar) {
    let space = registrar.handlespace();
    let (mut elements, mut sum) = (0, 0u64);
    for (handle, traits, count) in space.pools() {
        let mut listed = 0;
        for entry in space.elements(handle) {
            listed += 1;
            assert_eq!(entry.element.policy.policy_type(), traits.policy_type, "a pool of two policies");
            assert_eq!(entry.element.user_transport.kind(), traits.transport, "a pool of two transports");
            assert!(entry.element.home.is_some(), "an element without home");
            if entry.element.home == Some(registrar.id()) {
                let mut block = handle.as_bytes().to_vec();
                block.resize(block.len().next_multiple_of(2), 0);
                block.extend(entry.element.id.0.to_be_bytes());
                sum += block.chunks(2).map(|w| u64::from(u16::from_be_bytes([w[0], w[1]]))).sum::<u64>();
            }
        }
        assert_eq!(listed, count, "pool {handle} is miscounted");
        assert!(count > 0, "an empty pool is kept");
        elements += count;
    }
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    let kept = space.checksum(registrar.id(), asap::handlespace::View::Full);
    assert_eq!(kept.0, !(sum as u16), "the checksum kept differs from the one computed");
    assert_eq!(space.count(None), elements, "the handlespace is miscounted");
}

/// All a registrar holds.
fn held(registrar: &Registrar) -> BTreeMap<(&PoolHandle, PeId), &PoolElement> {
    let space = registrar.handlespace();
    let pools = space.pools().map(|(handle, ..)| handle);
    pools
        .flat_map(|handle| space.elements(handle).map(move |e| ((handle, e.element.id), &e.element)))
        .collect()
}

/// Guarantees 1, 3 and 4: these registrars serve, know each other, and hold the same handlespace, in which is
/// everything that runs at these hosts and nothing else, each element with one home that runs. Says what is not so.
pub fn disagreement(world: &World, registrars: &[usize], hosts: &[usize]) -> Option<String> {
    let running: Vec<usize> =
        registrars.iter().copied().filter(|node| world.runs_registrar(*node).is_some()).collect();
    let first = *running.first()?;
    let reference = held(world.registrar(first));
    let mut expected = 0;
    for &host in hosts {
        for key in world.host(host).offered() {
            expected += 1;
            if !reference.contains_key(&(&key.0, key.1)) {
                return Some(format!("{first} does not hold {:?} of {}, which runs at {host}", key.1, key.0));
            }
        }
    }
    if expected != reference.len() {
        return Some(format!("{first} holds {} elements, {expected} run", reference.len()));
    }
    for &node in &running {
        let registrar = world.registrar(node);
        if registrar.standing() != Standing::Serving {
            return Some(format!("{node} is {:?}", registrar.standing()));
        }
        let mut alive: Vec<u32> = registrar
            .peers()
            .filter(|peer| peer.state == PeerState::Alive)
            .map(|peer| peer.server.value())
            .collect();
        let mut others: Vec<u32> =
            running.iter().filter(|n| **n != node).map(|n| world.registrar(*n).id().value()).collect();
        alive.sort_unstable();
        others.sort_unstable();
        if alive != others {
            return Some(format!("{node} takes {alive:x?} for alive; {others:x?} are"));
        }
        let here = held(registrar);
        if here != reference {
            let missing = reference.keys().find(|key| !here.contains_key(*key));
            let more = here.keys().find(|key| !reference.contains_key(*key));
            let other = here.iter().find(|(key, element)| reference.get(*key).is_some_and(|e| e != *element));
            return Some(format!(
                "{node} and {first} differ: missing {missing:?}, more {more:?}, other {other:?} (there {:?})",
                other.and_then(|(key, _)| reference.get(key))
            ));
        }
    }
    // Whether the home can ask it, on its link or through its ASAP transport, shows when it does:
    // `Cluster::each_answers_its_home`.
    let homeless = reference
        .iter()
        .find(|(_, element)| !running.iter().any(|node| Some(world.registrar(*node).id()) == element.home));
    homeless.map(|((_, id), element)| format!("the home of {id:?} is none that lives: {element:?}"))
}

/// Guarantee 7: these registrars hold of each other what the other has itself, the versions among it. Says whose is not so held by whom.
pub fn audits_open(world: &World, registrars: &[usize]) -> Option<String> {
    let running = || registrars.iter().filter_map(|node| Some((*node, world.runs_registrar(*node)?)));
    running().find_map(|(owner, own)| {
        let digest = own.handlespace().digest(own.id());
        let (other, _) = running().find(|(_, other)| other.handlespace().digest(own.id()) != digest)?;
        Some(format!("{other} holds something else of {owner} than it has"))
    })
}

/// Guarantee 2, looked at from a registrar: every element that was always alive and within reach is in its handlespace.
pub fn check_stable(world: &World, registrar: usize) {
    let space = world.registrar(registrar).handlespace();
    for (handle, id) in &world.watch.stable {
        assert!(space.entry(handle, *id).is_some(), "{registrar} has lost {id:?} of {handle}, which lives");
    }
}

/// Which registrar has been seen to hold an element as another's, in which version.
pub type Kept = BTreeMap<(usize, (PoolHandle, PeId)), (usize, u64)>;

/// Guarantee 3: what a registrar holds as another's it keeps as long as that one has it unchanged. So the late removal by a
/// home before that one changes nothing.
pub fn check_kept(world: &World, registrars: &[usize], kept: &mut Kept) {
    let running = || registrars.iter().filter_map(|node| Some((*node, world.runs_registrar(*node)?)));
    for (home, at_home) in running() {
        for key in at_home.handlespace().of_owner(at_home.id()) {
            let Some(version) = at_home.handlespace().entry(&key.0, key.1).map(|entry| entry.version) else {
                continue;
            };
            for (holder, registrar) in running().filter(|(holder, _)| *holder != home) {
                let (place, here) = ((holder, key.clone()), (home, version));
                match registrar.handlespace().entry(&key.0, key.1) {
                    Some(held) if (held.element.home, held.version) == (Some(at_home.id()), version) => {
                        kept.insert(place, here);
                    }
                    Some(_) if kept.get(&place) == Some(&here) => _ = kept.remove(&place),
                    Some(_) => {}
                    None => assert_ne!(
                        kept.get(&place),
                        Some(&here),
                        "{holder} does not hold {key:?} any more, which {home} has unchanged"
                    ),
                }
            }
        }
    }
}

/// Which registrar has been the home of an element, as seen from another that has heard it all the while; since when.
pub type Heard = BTreeMap<(usize, (PoolHandle, PeId)), (usize, Time)>;

/// The same at registrars that do not hear all others: what has its home at one they hear, and that hears them, for longer
/// than an audit takes.
pub fn check_stable_of_heard(
    world: &World,
    holders: &[usize],
    registrars: &[usize],
    audited: Duration,
    heard: &mut Heard,
) {
    // One that is stopped hears nothing, and one that starts holds nothing yet.
    let awake = |node: &usize| {
        let registrar = world.runs_registrar(*node).filter(|_| !world.nodes[*node].is_paused())?;
        (registrar.standing() != Standing::Starting).then_some((*node, registrar))
    };
    let hears = |a: &Registrar, b: &Registrar| {
        a.peers().any(|peer| peer.server == b.id() && peer.state == PeerState::Alive)
    };
    let homes: Vec<(usize, &Registrar)> = registrars.iter().filter_map(awake).collect();
    let mut now = BTreeMap::new();
    for (holder, registrar) in holders.iter().filter_map(awake) {
        let heard_there: Vec<_> =
            homes.iter().filter(|(_, home)| hears(registrar, home) && hears(home, registrar)).collect();
        if heard_there.is_empty() {
            continue;
        }
        for key in &world.watch.stable {
            let is_home = |(_, registrar): &&(usize, &Registrar)| {
                let entry = registrar.handlespace().entry(&key.0, key.1);
                entry.is_some_and(|entry| entry.element.home == Some(registrar.id()))
            };
            let mut of_key = homes.iter().filter(is_home);
            let (Some((home, _)), None) = (of_key.next(), of_key.next()) else { continue };
            if !heard_there.iter().any(|(node, _)| node == home) {
                continue;
            }
            let place = (holder, key.clone());
            let since = heard.get(&place).filter(|(before, _)| before == home).map_or(world.now, |it| it.1);
            let held = registrar.handlespace().entry(&key.0, key.1).is_some();
            assert!(
                held || world.now.since(since) <= audited,
                "{holder} is without {key:?}, which lives at {home}, though the two hear each other since {since:?}"
            );
            now.insert(place, (*home, since));
        }
    }
    *heard = now;
}
