//! Many elements, many changes, little room: what is sent and what waits stays within bounds.

use super::{ms, secs};
use crate::cluster::{Cluster, pool_of};
use crate::explore::explore;
use crate::watch::HANDLE_UPDATE;
use crate::world::World;
use asap::policy::{Policy, PolicyType};
use asap::types::PeId;

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
    cluster.configure(|boot| boot.limits.queued_bytes_per_link = 100_000);
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
        cluster.add_host(world, 250);
        let gap = ms(world.rng.below(60));
        world.run_for(gap);
    }
    world.run_for(secs(2));
    world.resume(sleeper);
    cluster.agree(world, bound, "who was cut off for congestion is one of them again");
    assert!(world.nodes[host].process.is_some());
}

/// Elements change all the time: each change is told once to each peer, and no more is sent.
fn churn(world: &mut World) {
    let many = 2 + world.rng.below(3) as usize;
    let cluster = Cluster::running(world, many, 4, 10);
    let bound = cluster.agreed_within();
    let pool = pool_of(2);
    let sent = |world: &World, cluster: &Cluster| -> u64 {
        let updates = |node: &usize| world.watch.traffic(*node).enrp[usize::from(HANDLE_UPDATE)];
        cluster.registrars.iter().map(updates).sum()
    };
    let before = sent(world, &cluster);
    let mut changes = 0;
    for _ in 0..100 {
        let host = cluster.hosts[world.rng.below(cluster.hosts.len() as u64) as usize];
        let load = world.rng.next_u64() as u32;
        let key = world.host(host).offered().find(|key| key.0 == pool).cloned();
        match (world.rng.below(3), key) {
            (0 | 1, Some(key)) => {
                let policy = Policy::new(PolicyType::LeastUsed, &[load]);
                world.tell(host, |host, now| host.change(now, &key, policy));
                changes += 1;
            }
            (_, key) => {
                if let Some(key) = key {
                    world.tell(host, |host, now| host.withdraw(now, &key));
                    changes += 1;
                }
                let (id, policy) = (PeId(load | 1), Policy::new(PolicyType::LeastUsed, &[load]));
                world.tell(host, |host, now| host.serve(now, &pool, id, policy, secs(300)));
                changes += 1;
            }
        }
        // Longer than a registration takes, or a change might take the place of one.
        let gap = ms(15 + world.rng.below(50));
        world.run_for(gap);
    }
    cluster.agree(world, bound, "while much changes all agree");
    let told = sent(world, &cluster) - before;
    let most = changes * (many as u64 - 1);
    assert!(told <= most, "{told} updates for {changes} changes among {many}");
    world.count("changes were told", told);
}

#[test]
fn a_change_costs_one_update_a_peer() {
    explore("a_change_costs_one_update_a_peer", 20, &["changes were told"], churn);
}

#[test]
fn thousands_of_elements_find_new_homes() {
    explore("thousands_of_elements_find_new_homes", 3, &["a takeover was completed"], thousands);
}

#[test]
fn congested_links_are_given_up_and_opened_again() {
    let reach = ["a link was given up as congested"];
    explore("congested_links_are_given_up_and_opened_again", 3, &reach, congested);
}
