//! Everything at once, at random: when the trouble is over all registrars agree on what is alive.

use super::asap::count_client;
use super::{ms, secs};
use crate::cluster::{Cluster, Discovery, pool_of};
use crate::explore::explore;
use crate::watch::{HANDLE_UPDATE, INIT_TAKEOVER, INIT_TAKEOVER_ACK, PRESENCE, TAKEOVER_SERVER};
use crate::world::World;
use asap::machine::Protocol;
use asap::policy::{Policy, PolicyType};

fn any(world: &mut World, nodes: &[usize]) -> usize {
    nodes[world.rng.below(nodes.len() as u64) as usize]
}

/// One thing goes wrong, or is put right.
fn trouble(world: &mut World, cluster: &mut Cluster) {
    let registrar = any(world, &cluster.registrars);
    let place = cluster.registrars.iter().position(|node| *node == registrar).expect("one of them");
    let other = any(world, &cluster.registrars);
    let host = any(world, &cluster.hosts);
    let runs = world.nodes[registrar].process.is_some();
    let host_runs = world.nodes[host].process.is_some();
    match world.rng.below(20) {
        0 if runs => world.crash(registrar),
        1 if runs => world.darken(registrar),
        2..=3 if !runs => cluster.boot(world, place),
        4 if !runs => cluster.boot_anew(world, place),
        5 if runs => world.pause(registrar),
        6 | 7 => world.resume(registrar),
        8 if other != registrar => world.cut(registrar, other),
        9 if other != registrar => world.cut_one_way(registrar, other),
        10 => world.heal(registrar, other),
        11 => world.heal_all(),
        12 if other != registrar => {
            let by = ms(10 + world.rng.below(400));
            world.slow(registrar, other, by);
        }
        13 if other != registrar => {
            let kinds = [PRESENCE, HANDLE_UPDATE, INIT_TAKEOVER, INIT_TAKEOVER_ACK, TAKEOVER_SERVER];
            let kind = kinds[world.rng.below(5) as usize];
            let times = 1 + world.rng.below(3) as u32;
            world.lose(registrar, other, kind, times);
        }
        14 if other != registrar => world.lose_links(registrar, other, Protocol::Enrp),
        15 => world.reset_links(registrar, if world.rng.clone().below(2) == 0 { other } else { host }),
        16 if runs => {
            let by = ms(world.rng.below(5_000));
            world.jump(registrar, by);
        }
        17 if host_runs => {
            let keys: Vec<_> = world.host(host).offered().cloned().collect();
            let weighted = keys.iter().find(|key| key.0 == pool_of(3));
            if let Some(key) = weighted.filter(|_| world.rng.below(2) == 0) {
                let policy = Policy::new(PolicyType::WeightedRoundRobin, &[1 + world.rng.below(9) as u32]);
                world.tell(host, |host, now| host.change(now, key, policy));
            } else if keys.len() > 1 {
                world.tell(host, |host, now| host.withdraw(now, &keys[0]));
            }
        }
        18 => {
            if host_runs && !world.nodes[host].is_paused() {
                if world.rng.below(2) == 0 { world.crash(host) } else { world.darken(host) }
            } else if !host_runs {
                cluster.start_host(world, host, 3);
            }
        }
        19 => {
            if world.nodes[host].is_paused() {
                world.resume(host);
            } else if world.rng.below(2) == 0 {
                world.cut(host, registrar);
            } else if host_runs {
                world.pause(host);
            }
        }
        _ => {}
    }
}

fn chaos(world: &mut World) {
    let many = 1 + world.rng.below(5) as usize + if world.rng.below(10) == 0 { 4 } else { 0 };
    let discovery = Cluster::any_discovery(world);
    let mut cluster = Cluster::new(world, many, discovery);
    for i in 0..many {
        cluster.boot(world, i);
    }
    for _ in 0..2 + world.rng.below(4) {
        let elements = 1 + world.rng.below(6) as usize;
        cluster.add_host(world, elements);
    }
    cluster.add_user(world, &pool_of(world.rng.clone().below(5)));
    world.faults.patience = [secs(1), secs(3), secs(8)][world.rng.below(3) as usize];
    let calm = ms(world.rng.below(3_000));
    world.run_for(calm);
    for _ in 0..10 + world.rng.below(40) {
        trouble(world, &mut cluster);
        let gap = ms(if world.rng.below(4) == 0 { world.rng.below(3_000) } else { world.rng.below(300) });
        world.run_for(gap);
    }
    // The trouble is over.
    world.heal_all();
    for i in 0..many {
        let node = cluster.registrars[i];
        world.resume(node);
        // In a chain, who knows only one that is dead, and is known to nobody any more, could not be found.
        let needed = i == 0 || discovery == Discovery::Chain;
        if !cluster.runs(world, i) && (needed || world.rng.below(2) == 0) {
            cluster.boot(world, i);
        }
    }
    for host in cluster.hosts.clone() {
        world.resume(host);
        if world.nodes[host].process.is_none() && world.rng.below(2) == 0 {
            cluster.start_host(world, host, 3);
        }
    }
    let bound = cluster.agreed_within() + world.faults.patience;
    cluster.agree(world, bound, "after chaos all agree");
    // What was asked while it was out of reach may yet be taken out for it.
    cluster.each_answers_its_home(world);
    for host in cluster.running_hosts(world) {
        cluster.hold_stable(world, host);
    }
    let running: Vec<usize> =
        cluster.registrars.iter().copied().filter(|node| world.runs_registrar(*node).is_some()).collect();
    cluster.run_holding(world, secs(3), &running);
    // A link that was lost before is noticed by its transport only now.
    cluster.agree(world, secs(1) + world.faults.patience, "after chaos all go on agreeing");
    // The pause after an audit that did not help is 10 s at most.
    cluster.settle(world, secs(12));
    cluster.count(world);
    let (user, slot) = cluster.users[0];
    count_client(world, user, slot);
}

#[test]
fn agrees_after_chaos_among_registrars() {
    let reach = [
        "a takeover was begun",
        "a takeover was completed",
        "two contend for a takeover",
        "a contender yielded",
        "the target showed up in the middle",
        "an audit asked for a table",
        "a live registrar was accused after real silence",
        "a transport lost patience",
        "a message was lost on a link that stayed",
    ];
    explore("agrees_after_chaos_among_registrars", 150, &reach, chaos);
}
