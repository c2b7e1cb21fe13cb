//! Several registrars that start, find each other, and keep one handlespace, while nobody is to be taken over.

use super::{ms, secs};
use crate::cluster::{Cluster, Discovery, pool_of};
use crate::explore::explore;
use crate::watch::{HANDLE_TABLE_RESPONSE, HANDLE_UPDATE, PRESENCE};
use crate::world::World;
use asap::policy::{Policy, PolicyType};
use asap::registrar::Standing;
use asap::types::{PeId, PoolHandle};
use std::time::Duration;

/// One to nine registrars start together or one after another, find each other in any way, and elements are there before
/// some of them.
fn start(world: &mut World) {
    let many = 1 + world.rng.below(5) as usize + if world.rng.below(8) == 0 { 4 } else { 0 };
    let discovery = Cluster::any_discovery(world);
    let mut cluster = Cluster::new(world, many, discovery);
    let together = world.rng.below(3) == 0;
    let mut order: Vec<usize> = (0..many).collect();
    // Not always in the order in which they know each other.
    for i in (1..many).rev() {
        order.swap(i, world.rng.below(i as u64 + 1) as usize);
    }
    for i in order {
        cluster.boot(world, i);
        if world.rng.below(2) == 0 {
            let elements = 1 + world.rng.below(5) as usize;
            cluster.add_host(world, elements);
        }
        if !together {
            let gap = ms(world.rng.below(1_500));
            world.run_for(gap);
        }
    }
    if together && many >= 3 {
        world.count("three or more started in the same instant", 1);
    }
    cluster.add_host(world, 3);
    let bound = cluster.agreed_within();
    cluster.agree(world, bound, "registrars that start settle on one handlespace");
    // And stay so.
    for host in cluster.hosts.clone() {
        cluster.hold_stable(world, host);
    }
    // Answers to what was asked before may still be under way.
    world.run_for(cluster.config().peer_heartbeat_cycle * 2);
    let before: Vec<_> = cluster.registrars.iter().map(|node| world.watch.traffic(*node)).collect();
    let window = secs(5);
    cluster.run_holding(world, window, &cluster.registrars);
    cluster.agree(world, Duration::ZERO, "registrars that agree go on agreeing");
    // Guarantee 8: what is sent while nothing changes.
    for (node, before) in cluster.registrars.iter().zip(before) {
        let after = world.watch.traffic(*node);
        let sent = |kind: u8| after.enrp[usize::from(kind)] - before.enrp[usize::from(kind)];
        let beats = window.as_millis().div_ceil(cluster.config().peer_heartbeat_cycle.as_millis()) as u64 + 1;
        let (presences, peers) = (sent(PRESENCE), many as u64 - 1);
        assert!(presences <= beats * peers, "{node} sent {presences} presences in {beats} heartbeats");
        let all: u64 = (0..16).map(sent).sum();
        assert_eq!(all, presences, "{node} sent something else while nothing changed: {after:?}");
        let owned = world.registrar(*node).handlespace().count(Some(world.registrar(*node).id())) as u64;
        let keep_alives = after.asap - before.asap;
        // Intervals are spread by half: at the least, half the mean.
        let most =
            owned * 2 * (window.as_millis() / cluster.config().keep_alive_interval.as_millis() + 1) as u64;
        assert!(keep_alives <= most, "{node} sent {keep_alives} messages to {owned} elements");
    }
}

/// A registrar that is alone serves at once, and one that finds others serves soon.
fn lone(world: &mut World) {
    let announce = world.rng.below(2) == 0;
    let cluster = Cluster::new(world, 1, if announce { Discovery::Multicast } else { Discovery::Star });
    cluster.boot(world, 0);
    let bound = if announce { ms(500) } else { ms(10) };
    let node = cluster.registrars[0];
    let took = world.run_until(bound, "a lone registrar serves", |world| {
        world.registrar(node).standing() == Standing::Serving
    });
    world.took.entry("a lone registrar serves").or_default().push(took);
}

/// Registrars that forget everything and come back, under the same identifier or another.
fn restart(world: &mut World) {
    let many = 2 + world.rng.below(4) as usize;
    let mut cluster = Cluster::running(world, many, 4, 5);
    for host in cluster.hosts.clone() {
        cluster.hold_stable(world, host);
    }
    for _ in 0..3 {
        let i = world.rng.below(many as u64) as usize;
        let node = cluster.registrars[i];
        let others: Vec<usize> = cluster.registrars.iter().copied().filter(|other| *other != node).collect();
        let notice = world.rng.below(2) == 0;
        if notice {
            world.crash(node)
        } else {
            world.darken(node)
        }
        let down = ms(world.rng.below(3_000));
        cluster.run_holding(world, down, &others);
        if world.rng.below(2) == 0 {
            cluster.boot(world, i);
            world.count("a registrar came back under its identifier", 1);
        } else {
            cluster.boot_anew(world, i);
            world.count("a registrar came back under another identifier", 1);
        }
        let bound = cluster.agreed_within();
        cluster.agree(world, bound, "a registrar that forgot everything is one of them again");
    }
}

fn any_key(world: &mut World, cluster: &Cluster) -> (usize, (PoolHandle, PeId)) {
    let host = cluster.hosts[world.rng.below(cluster.hosts.len() as u64) as usize];
    let offered: Vec<_> = world.host(host).offered().cloned().collect();
    let key = offered[world.rng.below(offered.len() as u64) as usize].clone();
    (host, key)
}

/// Updates are lost on links that stay: an audit finds out.
fn lost_update(world: &mut World) {
    let many = 2 + world.rng.below(4) as usize;
    let cluster = Cluster::running(world, many, 3, 6);
    for _ in 0..4 {
        for &a in &cluster.registrars {
            for &b in &cluster.registrars {
                if a != b && world.rng.below(2) == 0 {
                    let times = 1 + world.rng.below(2) as u32;
                    world.lose(a, b, HANDLE_UPDATE, times);
                }
            }
        }
        let (host, key) = any_key(world, &cluster);
        match world.rng.below(3) {
            0 => world.tell(host, |host, now| host.withdraw(now, &key)),
            1 => {
                let id = world.draw_id();
                world.tell(host, |host, now| {
                    host.serve(now, &pool_of(0), id, Policy::ROUND_ROBIN, secs(300));
                });
            }
            _ => {
                let load = world.rng.next_u64() as u32;
                let pool = pool_of(2);
                let key = world.host(host).offered().find(|key| key.0 == pool).cloned();
                let Some(key) = key else { continue };
                let policy = Policy::new(PolicyType::LeastUsed, &[load]);
                world.tell(host, |host, now| host.change(now, &key, policy));
            }
        }
        // The registration itself goes through within a moment.
        world.run_for(ms(20));
        world.faults.losses.clear();
        let bound = cluster.audited_within();
        cluster.agree(world, bound, "a lost update is found");
        // After an audit there is a pause.
        world.run_for(secs(1));
    }
}

/// The mentor dies in the middle of the table.
fn mentor_dies(world: &mut World) {
    let mut cluster = Cluster::new(world, 3, Discovery::All);
    cluster.boot(world, 0);
    cluster.boot(world, 1);
    world.run_for(secs(1));
    for _ in 0..8 {
        cluster.add_host(world, 250);
    }
    let hosts = cluster.hosts.clone();
    let first_two = [cluster.registrars[0], cluster.registrars[1]];
    world.run_until(secs(15), "two hold everything", |world| {
        first_two.iter().all(|node| world.registrar(*node).handlespace().count(None) == 2_000)
    });
    for host in hosts {
        cluster.hold_stable(world, host);
    }
    let newcomer = cluster.registrars[2];
    cluster.boot(world, 2);
    // The first page is there; the table is not.
    world.run_until(secs(5), "a page came", |world| world.registrar(newcomer).handlespace().count(None) > 0);
    if world.registrar(newcomer).handlespace().count(None) < 2_000 {
        let mentor = world.watch.mentor(newcomer);
        let victim = mentor.unwrap_or(first_two[0]);
        let survivor = if victim == first_two[0] { first_two[1] } else { first_two[0] };
        if world.rng.below(2) == 0 {
            world.crash(victim)
        } else {
            world.darken(victim)
        }
        cluster.run_holding(world, secs(2), &[survivor]);
        let bound = cluster.agreed_within();
        cluster.agree(world, bound, "a table whose mentor died comes from another");
    }
}

/// Two draw the same identifier.
fn collision(world: &mut World) {
    let many = 2 + world.rng.below(3) as usize;
    let discovery = Cluster::any_discovery(world);
    let mut cluster = Cluster::new(world, many, discovery);
    let id = cluster.boot_of(0).id;
    let twin = 1 + world.rng.below(many as u64 - 1) as usize;
    cluster.boot_of(twin).id = id;
    for i in 0..many {
        cluster.boot(world, i);
        if world.rng.below(2) == 0 {
            let gap = ms(world.rng.below(2_000));
            world.run_for(gap);
        }
        cluster.add_host(world, 3);
    }
    let bound = cluster.agreed_within();
    cluster.agree(world, bound, "two of one identifier become two of two");
}

/// What a page holds is bounded, whatever there is to tell, and so is what waits on a link.
fn paged(world: &mut World) {
    let mut cluster = Cluster::new(world, 2, Discovery::All);
    cluster.boot(world, 0);
    world.run_for(secs(1));
    for _ in 0..10 {
        cluster.add_host(world, 300);
    }
    let first = cluster.registrars[0];
    world.run_until(secs(15), "all are registered", |world| {
        world.registrar(first).handlespace().count(None) == 3_000
    });
    world.watch.most_waiting = 0;
    cluster.boot(world, 1);
    let bound = cluster.agreed_within();
    cluster.agree(world, bound, "a newcomer takes in 3,000 elements");
    assert!(world.watch.most_waiting <= 256 << 10, "{} bytes waited on a link", world.watch.most_waiting);
    let pages = world.watch.traffic(first).enrp[usize::from(HANDLE_TABLE_RESPONSE)];
    assert!(pages >= 2, "3,000 elements in {pages} message");
}

#[test]
fn registrars_that_start_settle_on_one_handlespace() {
    let reach = ["three or more started in the same instant"];
    explore("registrars_that_start_settle_on_one_handlespace", 100, &reach, start);
}

#[test]
fn a_lone_registrar_serves_at_once() {
    explore("a_lone_registrar_serves_at_once", 20, &[], lone);
}

#[test]
fn takes_back_registrars_that_forgot_everything() {
    let reach =
        ["a registrar came back under its identifier", "a registrar came back under another identifier"];
    explore("takes_back_registrars_that_forgot_everything", 40, &reach, restart);
}

#[test]
fn finds_lost_updates() {
    let reach = ["a message was lost on a link that stayed", "an audit asked for a table"];
    explore("finds_lost_updates", 60, &reach, lost_update);
}

#[test]
fn outlives_the_mentor() {
    let reach = ["a table came in pages", "the mentor changed in the middle of the table"];
    explore("outlives_the_mentor", 6, &reach, mentor_dies);
}

#[test]
fn resolves_identifier_collisions() {
    explore("resolves_identifier_collisions", 40, &["a registrar drew another identifier"], collision);
}

#[test]
fn tables_come_in_pages() {
    explore("tables_come_in_pages", 2, &["a table came in pages"], paged);
}
