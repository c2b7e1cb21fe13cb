//! One scope with registrars and elements of both kinds, ours and RSPLIB's.

use super::{ms, secs};
use crate::cluster::{Cluster, Discovery, pool_of};
use crate::explore::explore;
use crate::host::Host;
use crate::rsplib;
use crate::watch::{HANDLE_TABLE_REQUEST, PRESENCE};
use crate::world::{Process, World};
use asap::config::Profile;
use asap::machine::{Destination, LinkKind};
use asap::policy::Policy;
use asap::registrar::Standing;
use asap::types::{PeId, ServerId};
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::time::Duration;

/// Guarantee 15: all agree, and each element has one home, so long after the last change. RSPLIB's own times make it:
/// 10 s until it accuses, 5 s for its takeover, 2.4 s until its presence shows that, and an element of its own that has
/// lost its registrar comes back after 30 s.
const AGREED: Duration = Duration::from_secs(60);

struct Mixed {
    ours: Cluster,
    /// Nodes of RSPLIB's registrars, with their identifiers, and of its elements.
    theirs: Vec<(usize, ServerId)>,
    elements: Vec<usize>,
}

fn any_id(world: &mut World) -> u32 {
    world.rng.next_u64() as u32 | 1
}

impl Mixed {
    /// Places for registrars of both kinds, that are all told of each other.
    fn new(world: &mut World, ours: usize, theirs: usize) -> Mixed {
        let mut ours = Cluster::new(world, ours, Discovery::All);
        let theirs: Vec<(usize, ServerId)> =
            (0..theirs).map(|_| (world.add_node(), ServerId::new(any_id(world)).expect("not 0"))).collect();
        let more: Vec<usize> = theirs.iter().map(|(node, _)| *node).collect();
        ours.configure(|boot| {
            boot.enrp = Some(LinkKind::Sctp);
            boot.peers.extend(&more);
        });
        Mixed { ours, theirs, elements: Vec::new() }
    }

    fn running(world: &mut World, ours: usize, theirs: usize) -> Mixed {
        let mut mixed = Mixed::new(world, ours, theirs);
        for place in 0..ours + theirs {
            mixed.boot(world, place);
            let gap = ms(world.rng.below(3_000));
            world.run_for(gap);
        }
        mixed.populate(world);
        mixed.agree(world, "registrars of both kinds agree at first");
        mixed
    }

    /// Starts the registrar at this place: first come ours, then theirs.
    fn boot(&self, world: &mut World, place: usize) {
        let Some(place) = place.checked_sub(self.ours.registrars.len()) else {
            return self.ours.boot(world, place);
        };
        let (node, id) = self.theirs[place];
        let peers: Vec<IpAddr> =
            self.all().filter(|other| *other != node).map(|n| world.nodes[n].address).collect();
        let (seed, address) = (world.rng.next_u64(), world.nodes[node].address);
        let registrar = rsplib::Registrar::new(world.now, id, address, seed, &peers);
        world.start(node, Process::RsplibRegistrar(Box::new(registrar)));
    }

    fn all(&self) -> impl Iterator<Item = usize> {
        self.ours.registrars.iter().copied().chain(self.theirs.iter().map(|(node, _)| *node))
    }

    fn place(&self, node: usize) -> usize {
        self.all().position(|it| it == node).expect("a registrar")
    }

    fn runs(world: &World, node: usize) -> bool {
        world.nodes[node].process.is_some()
    }

    /// A host of ours that knows our registrars, all over SCTP: RSPLIB is told of no others.
    fn add_host(&mut self, world: &mut World) -> usize {
        let node = world.add_node();
        let over_sctp = |node: &usize| Destination { kind: LinkKind::Sctp, ..world.registrar_at(*node) };
        let registrars = self.ours.registrars.iter().map(over_sctp).collect();
        let seed = world.rng.next_u64();
        let mut host = Host::new(world.nodes[node].address, Profile::Lan, seed, registrars);
        host.listen_over_sctp();
        world.start(node, Process::Host(Box::new(host)));
        self.ours.hosts.push(node);
        node
    }

    /// Elements of both kinds.
    fn populate(&mut self, world: &mut World) {
        for _ in 0..2 + world.rng.below(3) {
            let host = self.add_host(world);
            for n in 0..1 + world.rng.below(4) {
                let id = PeId(any_id(world));
                world.tell(host, |host, now| {
                    host.serve(now, &pool_of(n), id, Policy::ROUND_ROBIN, secs(300));
                });
            }
        }
        for n in 0..2 + world.rng.below(4) {
            let node = world.add_node();
            // They know both kinds: ours serve them, too.
            let mut known: Vec<IpAddr> = self.all().map(|node| world.nodes[node].address).collect();
            let turn = world.rng.below(known.len() as u64) as usize;
            known.rotate_left(turn);
            let pool = pool_of(10 + n % 2);
            let key = (pool, PeId(any_id(world)));
            let element = rsplib::Element::new(world.now, key, world.nodes[node].address, &known);
            world.start(node, Process::RsplibElement(Box::new(element)));
            self.elements.push(node);
        }
    }

    /// What is not as it has to be; nothing: all hold what runs, each with one home, which lives and takes it for its own.
    fn disagreement(&self, world: &World) -> Option<String> {
        let expected: BTreeSet<rsplib::Key> = (self.ours.running_hosts(world).into_iter())
            .flat_map(|host| world.host(host).offered().cloned().collect::<Vec<_>>())
            .chain(
                self.elements
                    .iter()
                    .filter_map(|node| Some(world.nodes[*node].rsplib_element()?.key.clone())),
            )
            .collect();
        let mut held: Vec<(usize, ServerId, BTreeMap<rsplib::Key, ServerId>)> = Vec::new();
        for node in self.all() {
            if let Some(registrar) = world.runs_registrar(node) {
                if registrar.standing() != Standing::Serving {
                    return Some(format!("{node} is {:?}", registrar.standing()));
                }
                let space = registrar.handlespace();
                let entries = space.pools().flat_map(|(handle, ..)| {
                    let home = |entry: &asap::handlespace::Entry| entry.element.home.expect("a home");
                    space.elements(handle).map(move |e| ((handle.clone(), e.element.id), home(e)))
                });
                held.push((node, registrar.id(), entries.collect()));
            } else if let Some(registrar) = world.nodes[node].rsplib_registrar() {
                held.push((node, registrar.id, registrar.held()));
            }
        }
        let living: BTreeSet<ServerId> = held.iter().map(|(_, id, _)| *id).collect();
        let (first, _, reference) = held.first()?;
        for (node, _, here) in &held {
            if !here.keys().eq(expected.iter()) {
                let missing = expected.iter().find(|key| !here.contains_key(*key));
                let more = here.keys().find(|key| !expected.contains(*key));
                return Some(format!("{node}: missing {missing:?}, more {more:?}"));
            }
            let other = here.iter().find(|(key, home)| reference.get(*key) != Some(*home));
            if let Some((key, home)) = other {
                return Some(format!(
                    "{node} takes {home:?} for the home of {key:?}, {first} {:?}",
                    reference.get(key)
                ));
            }
        }
        let homeless = reference.iter().find(|(_, home)| !living.contains(home));
        homeless.map(|(key, home)| format!("the home of {key:?} is {home:?}, which does not live"))
    }

    fn agree(&self, world: &mut World, what: &'static str) {
        let start = world.now;
        while let Some(why) = self.disagreement(world) {
            assert!(world.now.since(start) < AGREED, "not within {AGREED:?}: {what}: {why}");
            world.run_for(ms(50));
        }
        let took = world.now.since(start);
        world.took.entry(what).or_default().push(took);
        self.check_one_winner(world);
        self.count(world);
    }

    /// Guarantee 6, where nobody is cut off: whom one of RSPLIB's has taken over none of ours has. Two of RSPLIB's may take the
    /// same one over, and what comes of its elements then is theirs.
    fn check_one_winner(&self, world: &World) {
        let theirs = self.theirs.iter().filter_map(|(node, _)| world.nodes[*node].rsplib_registrar());
        let mut taken: BTreeMap<ServerId, Vec<ServerId>> = BTreeMap::new();
        for registrar in theirs {
            registrar.taken.iter().for_each(|target| taken.entry(*target).or_default().push(registrar.id));
        }
        let dead = &world.watch.taken_by_the_dead;
        for (target, by) in taken.iter().filter(|(target, by)| by.len() == 1 && !dead.contains(target)) {
            let other = world.watch.winner(*target);
            assert_eq!(other, None, "{by:?}, of RSPLIB, has taken over {target:?}, and so has one of ours");
        }
    }

    fn count(&self, world: &mut World) {
        let theirs = self.theirs.iter().filter_map(|(node, _)| world.nodes[*node].rsplib_registrar());
        let (completed, expired) = theirs.fold((0, 0), |(a, b), it| (a + it.completed, b + it.expired));
        let ours = self.ours.registrars.iter().filter_map(|node| world.runs_registrar(*node));
        let won = ours.map(|it| it.counters().takeovers_completed).sum();
        let elements = self.elements.iter().filter_map(|node| world.nodes[*node].rsplib_element());
        let adopted = elements.map(|element| element.adopted).sum();
        world.count("RSPLIB completed a takeover", completed);
        world.count("RSPLIB gave a takeover up", expired);
        world.count("one of ours completed a takeover in a mixed scope", won);
        world.count("an element of RSPLIB was adopted", adopted);
    }

    /// Guarantee 15: while nothing changes nobody asks for a table, and no more is sent than presences.
    fn stays_quiet(&self, world: &mut World) {
        // What the last change has left to be compared.
        world.run_for(secs(10));
        let before: Vec<_> = self.ours.registrars.iter().map(|node| world.watch.traffic(*node)).collect();
        let resyncs = |world: &World| -> u64 {
            let theirs = self.theirs.iter().filter_map(|(node, _)| world.nodes[*node].rsplib_registrar());
            theirs.map(|registrar| registrar.resyncs).sum()
        };
        let resynced = resyncs(world);
        let window = secs(20);
        world.run_for(window);
        assert_eq!(self.disagreement(world), None);
        assert_eq!(resyncs(world), resynced, "RSPLIB asks for tables again and again");
        for (node, before) in self.ours.registrars.iter().zip(before) {
            let after = world.watch.traffic(*node);
            let sent = |kind: u8| after.enrp[usize::from(kind)] - before.enrp[usize::from(kind)];
            assert_eq!(sent(HANDLE_TABLE_REQUEST), 0, "{node} asks for tables again and again");
            let beats =
                window.as_millis().div_ceil(self.ours.config().peer_heartbeat_cycle.as_millis()) as u64 + 2;
            let peers = self.all().count() as u64 - 1;
            assert!(sent(PRESENCE) <= beats * peers, "{node} sent {} presences", sent(PRESENCE));
        }
        world.count("a mixed scope was quiet", 1);
    }
}

/// Registrars of both kinds start in any order, synchronise, and are quiet then.
fn start(world: &mut World) {
    let (ours, theirs) = (1 + world.rng.below(3) as usize, 1 + world.rng.below(2) as usize);
    let mut mixed = Mixed::new(world, ours, theirs);
    let mut order: Vec<usize> = (0..ours + theirs).collect();
    for i in (1..order.len()).rev() {
        order.swap(i, world.rng.below(i as u64 + 1) as usize);
    }
    let populated = world.rng.below(order.len() as u64) as usize;
    for (i, place) in order.into_iter().enumerate() {
        mixed.boot(world, place);
        let gap = ms(world.rng.below(4_000));
        world.run_for(gap);
        if i == populated {
            mixed.populate(world);
        }
    }
    mixed.agree(world, "registrars of both kinds that start agree");
    mixed.stays_quiet(world);
}

/// One or two registrars of either kind die: the others take over from them, by RSPLIB's order.
fn deaths(world: &mut World) {
    let (ours, theirs) = (1 + world.rng.below(3) as usize, 1 + world.rng.below(3) as usize);
    let ours = if ours + theirs < 4 { 4 - theirs } else { ours };
    let mixed = Mixed::running(world, ours, theirs);
    let mut nodes: Vec<usize> = mixed.all().collect();
    // One of ours is left, beside another: RSPLIB's among themselves may all complete a takeover, and remove from each other
    // what they took over; and one alone takes nothing over, for nobody acknowledges.
    let spared = mixed.ours.registrars[world.rng.below(ours as u64) as usize];
    nodes.retain(|node| *node != spared);
    let deaths = if nodes.len() > 3 { 1 + world.rng.below(2) } else { 1 };
    for _ in 0..deaths {
        let victim = nodes.swap_remove(world.rng.below(nodes.len() as u64) as usize);
        if world.rng.below(2) == 0 {
            world.crash(victim)
        } else {
            world.darken(victim)
        }
        let gap = ms(world.rng.below(12_000));
        world.run_for(gap);
    }
    mixed.agree(world, "after a death in a mixed scope all agree");
    mixed.stays_quiet(world);
}

/// A registrar of RSPLIB comes or goes in the middle of a contest, and with it the order.
fn turns(world: &mut World) {
    let mixed = Mixed::running(world, 3, 2);
    let node = mixed.theirs[0].0;
    let comes = world.rng.below(2) == 0;
    if comes {
        world.crash(node);
        let other = mixed.theirs[1].0;
        world.crash(other);
        mixed.agree(world, "without RSPLIB ours agree");
        world.count("the last registrar of RSPLIB left", 1);
    }
    let victim = mixed.ours.registrars[world.rng.below(3) as usize];
    if world.rng.below(2) == 0 {
        world.crash(victim)
    } else {
        world.darken(victim)
    }
    let gap = ms(world.rng.below(if comes { 1_500 } else { 12_000 }));
    world.run_for(gap);
    if comes {
        mixed.boot(world, mixed.place(node));
        world.count("a registrar of RSPLIB came in the middle of a contest", 1);
    } else if Mixed::runs(world, node) {
        world.crash(node);
        world.count("a registrar of RSPLIB went in the middle of a contest", 1);
    }
    mixed.agree(world, "after the order turned all agree");
    mixed.stays_quiet(world);
}

#[test]
fn both_kinds_of_registrar_start_and_agree() {
    explore("both_kinds_of_registrar_start_and_agree", 12, &["a mixed scope was quiet"], start);
}

#[test]
fn both_kinds_of_registrar_take_over_from_each_other() {
    let reach = [
        "RSPLIB completed a takeover",
        "one of ours completed a takeover in a mixed scope",
        "an element of RSPLIB was adopted",
        "two contend for a takeover",
    ];
    explore("both_kinds_of_registrar_take_over_from_each_other", 16, &reach, deaths);
}

#[test]
fn the_order_turns_when_rsplib_comes_and_goes() {
    let reach = [
        "a registrar of RSPLIB came in the middle of a contest",
        "a registrar of RSPLIB went in the middle of a contest",
    ];
    explore("the_order_turns_when_rsplib_comes_and_goes", 10, &reach, turns);
}
