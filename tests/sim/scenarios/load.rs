//! Many elements, many changes, little room: what is sent and what waits stays within bounds.

use super::{ms, secs};
use crate::cluster::Cluster;
use crate::explore::explore;
use crate::watch::HANDLE_UPDATE;
use crate::world::World;

/// The home of thousands of elements dies: keep-alives are paced, nothing is lost.
fn thousands(world: &mut World) {
    let many = 3;
    let mut cluster = Cluster::running(world, many, 0, 0);
    for _ in 0..10 {
        cluster.add_host(world, 200);
    }
    let bound = cluster.agreed_within();
    cluster.agree(world, bound, "2,000 elements are known to all");
    for host in cluster.hosts.clone() {
        cluster.hold_stable(world, host);
    }
    let victim = (0..many)
        .max_by_key(|i| {
            let registrar = world.registrar(cluster.registrars[*i]);
            registrar.handlespace().count(Some(registrar.id()))
        })
        .expect("some");
    let node = cluster.registrars[victim];
    if world.rng.below(2) == 0 {
        world.crash(node)
    } else {
        world.darken(node)
    }
    let holders: Vec<usize> = cluster.registrars.iter().copied().filter(|other| *other != node).collect();
    let before: Vec<_> = holders.iter().map(|node| world.watch.traffic(*node)).collect();
    cluster.run_holding(world, secs(4), &holders);
    cluster.agree(world, bound, "2,000 elements have new homes");
    let rate = u64::from(cluster.config().keep_alives_per_second);
    for (node, before) in holders.iter().zip(before) {
        let after = world.watch.traffic(*node);
        // Each element is answered twice at most beside its keep-alives: it registers, and users are told.
        let most = rate * 5 + 4 * 2_000;
        assert!(after.asap - before.asap <= most, "{node} sent {} ASAP messages", after.asap - before.asap);
        // Guarantee 8: one update for each change and peer.
        let updates = after.enrp[usize::from(HANDLE_UPDATE)] - before.enrp[usize::from(HANDLE_UPDATE)];
        assert!(updates <= 2 * 2_000, "{node} sent {updates} updates for at most 2,000 changes");
    }
}

/// A registrar hangs while much changes, and what waits for it is more than a link may hold.
fn congested(world: &mut World) {
    let mut cluster = Cluster::new(world, 3, crate::cluster::Discovery::All);
    cluster.configure(|boot| boot.limits.queued_bytes_per_link = 8_192);
    for i in 0..3 {
        cluster.boot(world, i);
    }
    world.run_for(secs(1));
    let host = cluster.add_host(world, 3);
    let bound = cluster.agreed_within();
    cluster.agree(world, bound, "three with small queues agree");
    let sleeper = cluster.registrars[world.rng.below(3) as usize];
    world.pause(sleeper);
    for _ in 0..10 {
        cluster.add_host(world, 20);
        let gap = ms(world.rng.below(60));
        world.run_for(gap);
    }
    world.run_for(secs(2));
    world.resume(sleeper);
    cluster.agree(world, bound, "who was cut off for congestion is one of them again");
    assert!(world.nodes[host].process.is_some());
}

#[test]
#[ignore = "registrars do not share their handlespace yet"]
fn thousands_of_elements_find_new_homes() {
    explore("thousands_of_elements_find_new_homes", 3, &["requests answered"][..0], thousands);
}

#[test]
#[ignore = "registrars do not share their handlespace yet"]
fn congested_links_are_given_up_and_opened_again() {
    let reach = ["a link was given up as congested"];
    explore("congested_links_are_given_up_and_opened_again", 20, &reach, congested);
}
