//! Paths between nodes that are gone: halves that go on alone and come together again, cuts in one direction, cuts not
//! everybody has, and no registrar at all.

use super::{ms, secs};
use crate::cluster::Cluster;
use crate::explore::explore;
use crate::invariants::check_stable;
use crate::world::World;
use asap::machine::Protocol;

/// Cuts all paths between two sets of nodes.
fn part(world: &mut World, here: &[usize], there: &[usize]) {
    for &a in here {
        for &b in there {
            world.cut(a, b);
        }
    }
}

/// Both sides of a partition serve: everything that is on a side is known there, within a bound.
fn halves(world: &mut World) {
    let many = 2 + world.rng.below(4) as usize;
    let cluster = Cluster::running(world, many, 5, 4);
    world.faults.patience = if world.rng.below(2) == 0 { secs(1) } else { secs(8) };
    for _ in 0..2 {
        let cut = 1 + world.rng.below(many as u64 - 1) as usize;
        let (mut here, mut there) = (cluster.registrars[..cut].to_vec(), cluster.registrars[cut..].to_vec());
        let sides = [here.clone(), there.clone()];
        let mut hosts = [Vec::new(), Vec::new()];
        for host in cluster.running_hosts(world) {
            let side = world.rng.below(2) as usize;
            hosts[side].push(host);
            if side == 0 { here.push(host) } else { there.push(host) }
        }
        part(world, &here, &there);
        let long = world.rng.below(3) > 0;
        if long {
            // Each side comes to agree on what it has.
            for (side, hosts) in sides.iter().zip(&hosts) {
                cluster.agree_among(world, side, hosts, secs(25), "each side of a partition agrees");
            }
            world.count("both sides of a partition served", 1);
        } else {
            let time = ms(world.rng.below(3_000));
            world.run_for(time);
        }
        // What dies and begins meanwhile is known to one side only.
        let mortal = cluster.hosts[world.rng.below(cluster.hosts.len() as u64) as usize];
        if world.nodes[mortal].process.is_some() && cluster.hosts.len() > 3 {
            world.crash(mortal);
            world.count("an element died in a partition", 1);
        }
        let time = ms(world.rng.below(2_000));
        world.run_for(time);
        world.heal_all();
        let bound = cluster.agreed_within();
        cluster.agree(world, bound, "after a partition all agree on what is alive");
        cluster.each_answers_its_home(world);
        if world.nodes[mortal].process.is_none() {
            cluster.start_host(world, mortal, 4);
            cluster.agree(world, bound, "who died in a partition is back");
        }
    }
}

/// Cuts in one direction, and cuts that not everybody has: whatever is thought meanwhile, it ends in one handlespace.
fn crooked(world: &mut World) {
    let many = 3 + world.rng.below(4) as usize;
    let cluster = Cluster::running(world, many, 4, 4);
    world.faults.patience = if world.rng.below(2) == 0 { secs(1) } else { secs(8) };
    for host in cluster.hosts.clone() {
        cluster.hold_stable(world, host);
    }
    for _ in 0..2 {
        let mut whole = cluster.registrars.clone();
        for _ in 0..1 + world.rng.below(3) {
            let a = cluster.registrars[world.rng.below(many as u64) as usize];
            let b = cluster.registrars[world.rng.below(many as u64) as usize];
            if a == b {
                continue;
            }
            whole.retain(|node| *node != a && *node != b);
            match world.rng.below(3) {
                0 => {
                    world.cut_one_way(a, b);
                    world.count("a path was cut in one direction", 1);
                }
                1 => {
                    world.lose_links(a, b, Protocol::Enrp);
                    world.count("links were lost without notice", 1);
                }
                _ => {
                    world.cut(a, b);
                    world.count("a path was cut that others had", 1);
                }
            }
        }
        // No element is ever out of reach of anybody: whoever can hear everybody holds all of them, and the others
        // those whose home they hear.
        let time = ms(world.rng.below(15_000));
        cluster.run_holding(world, time, &whole);
        world.heal_all();
        let bound = cluster.agreed_within();
        cluster.agree(world, bound, "after crooked cuts all agree");
        cluster.each_answers_its_home(world);
    }
    cluster.count(world);
}

/// A registrar dies whose latest elements one of the others has not heard of, the one, maybe, that takes it over.
fn unheard(world: &mut World) {
    let many = 3 + world.rng.below(3) as usize;
    let mut cluster = Cluster::running(world, many, 2, 4);
    world.faults.patience = if world.rng.below(2) == 0 { secs(1) } else { secs(8) };
    let mut others = cluster.registrars.clone();
    let dying = others.remove(world.rng.below(many as u64) as usize);
    let deaf = others.remove(world.rng.below(many as u64 - 1) as usize);
    world.cut(dying, deaf);
    let host = world.add_node();
    cluster.hosts.push(host);
    cluster.start_host_at(world, host, 4, &[dying]);
    world.run_for(ms(100 + world.rng.clone().below(3_000)));
    cluster.hold_stable(world, host);
    others.iter().for_each(|node| check_stable(world, *node));
    let id = world.registrar(dying).id();
    world.darken(dying);
    cluster.run_holding(world, secs(10), &others);
    let winner = world.watch.winner(id);
    world.count("the winner of a takeover had not heard of elements", u64::from(winner == Some(deaf)));
    world.heal_all();
    cluster.agree(world, cluster.agreed_within(), "what a winner had not heard of is in its pools");
    cluster.each_answers_its_home(world);
    cluster.count(world);
}

/// No registrar is left: sessions go on; when one returns, it is told everything again within two seconds.
fn none_left(world: &mut World) {
    let many = 1 + world.rng.below(3) as usize;
    let mut cluster = Cluster::running(world, many, 5, 8);
    let pool = cluster.some_pool(world);
    cluster.add_user(world, &pool);
    world.run_for(secs(1));
    let gone = world.now;
    let notice = world.rng.below(2) == 0;
    for node in cluster.registrars.clone() {
        if notice {
            world.crash(node);
        } else {
            world.darken(node);
        }
    }
    let (user, slot) = cluster.users[0];
    let before = world.host(user).client(slot).answered;
    let time = secs(1) + ms(world.rng.below(30_000));
    world.run_for(time);
    assert!(world.host(user).client(slot).answered > before + 10, "the session stands still");
    assert!(world.host(user).endpoint.cached(&pool).is_some(), "the pool is forgotten");
    world.count("sessions went on without any registrar", 1);
    let i = world.rng.below(many as u64) as usize;
    cluster.boot(world, i);
    let hosts = cluster.running_hosts(world);
    let returned = [cluster.registrars[i]];
    // An element that nobody tells of the loss has nothing to send, and notices when its transport does.
    let noticed = if notice { gone } else { gone + world.faults.patience };
    let bound = secs(2) + noticed.since(world.now);
    cluster.agree_among(world, &returned, &hosts, bound, "a registrar that returns alone is told everything");
}

#[test]
fn partitions_heal() {
    let reach = ["both sides of a partition served", "an element died in a partition"];
    explore("partitions_heal", 50, &reach, halves);
}

#[test]
fn crooked_cuts_heal() {
    let reach = [
        "a path was cut in one direction",
        "links were lost without notice",
        "a path was cut that others had",
        "a live registrar was accused after real silence",
    ];
    explore("crooked_cuts_heal", 50, &reach, crooked);
}

#[test]
fn no_element_is_lost_that_the_winner_had_not_heard_of() {
    let reach = ["a takeover was completed", "the winner of a takeover had not heard of elements"];
    explore("no_element_is_lost_that_the_winner_had_not_heard_of", 30, &reach, unheard);
}

#[test]
fn lives_without_any_registrar() {
    explore("lives_without_any_registrar", 40, &["sessions went on without any registrar"], none_left);
}
