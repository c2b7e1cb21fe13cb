//! Registrars that die, hang, or only seem to.

use super::asap::count_client;
use super::{ms, secs};
use crate::cluster::{Cluster, Discovery};
use crate::explore::explore;
use crate::invariants::Kept;
use crate::watch::{HANDLE_UPDATE, INIT_TAKEOVER, INIT_TAKEOVER_ACK, PRESENCE, TAKEOVER_SERVER};
use crate::world::World;
use asap::config::{Profile, RegistrarConfig};
use std::time::Duration;

/// A running cluster in which every element is to be held by everybody, with one user, and one of the registrars that
/// own something.
fn scene(world: &mut World, most: u64) -> (Cluster, usize) {
    let many = 2 + world.rng.below(most - 1) as usize;
    let hosts = 2 + world.rng.below(4) as usize;
    let mut cluster = Cluster::running(world, many, hosts, 4);
    for host in cluster.hosts.clone() {
        cluster.hold_stable(world, host);
    }
    let pool = cluster.some_pool(world);
    cluster.add_user(world, &pool);
    world.run_for(ms(200));
    let owners: Vec<usize> = (0..many)
        .filter(|i| {
            let registrar = world.registrar(cluster.registrars[*i]);
            registrar.handlespace().count(Some(registrar.id())) > 0
        })
        .collect();
    let victim = owners[world.rng.below(owners.len() as u64) as usize];
    (cluster, victim)
}

fn others(cluster: &Cluster, victims: &[usize]) -> Vec<usize> {
    let victims: Vec<usize> = victims.iter().map(|i| cluster.registrars[*i]).collect();
    cluster.registrars.iter().copied().filter(|node| !victims.contains(node)).collect()
}

/// Runs until no element has a home among the dead; the others hold everything all the time.
fn adopted(
    world: &mut World,
    cluster: &Cluster,
    dead: &[asap::types::ServerId],
    holders: &[usize],
    bound: Duration,
) {
    let start = world.now;
    loop {
        let orphans: usize = holders
            .iter()
            .flat_map(|node| dead.iter().map(|id| world.registrar(*node).handlespace().count(Some(*id))))
            .sum();
        if orphans == 0 {
            break;
        }
        assert!(world.now.since(start) < bound, "{orphans} elements without home after {bound:?}");
        cluster.run_holding(world, ms(10), holders);
    }
    let took = world.now.since(start);
    world.took.entry("the elements of a dead registrar have another home").or_default().push(took);
}

/// One registrar is killed, with notice or without.
fn kill(world: &mut World) {
    let (cluster, victim) = scene(world, 5);
    let node = cluster.registrars[victim];
    let dead = world.registrar(node).id();
    let notice = world.rng.below(2) == 0;
    if notice {
        world.crash(node)
    } else {
        world.darken(node)
    }
    let holders = others(&cluster, &[victim]);
    adopted(world, &cluster, &[dead], &holders, cluster.adopted_within());
    let bound = cluster.agreed_within();
    cluster.agree(world, bound, "after a death all agree");
    cluster.each_answers_its_home(world);
    let (user, slot) = cluster.users[0];
    let before = world.host(user).client(slot).answered;
    cluster.run_holding(world, secs(1), &holders);
    assert!(world.host(user).client(slot).answered > before, "the session stands still");
    if cluster.registrars.len() == 2 {
        world.count("one of two died", 1);
    }
    count_client(world, user, slot);
}

/// Two or three die together, or while they take over each other.
fn kill_several(world: &mut World) {
    let (cluster, first) = scene(world, 6);
    let many = cluster.registrars.len();
    let deaths = (1 + world.rng.below(2) as usize).min(many - 1);
    let mut victims = vec![first];
    while victims.len() < deaths + 1 && victims.len() < many - 1 {
        let next = (victims[victims.len() - 1] + 1 + world.rng.below(many as u64 - 1) as usize) % many;
        if !victims.contains(&next) {
            victims.push(next);
        }
    }
    let holders = others(&cluster, &victims);
    let mut dead = Vec::new();
    for victim in &victims {
        let node = cluster.registrars[*victim];
        dead.push(world.registrar(node).id());
        let notice = world.rng.below(2) == 0;
        if notice {
            world.crash(node)
        } else {
            world.darken(node)
        }
        let gap = ms(world.rng.below(1_300));
        cluster.run_holding(world, gap, &holders);
    }
    if victims.len() > 1 {
        world.count("several registrars died together", 1);
    }
    // Who died last may have been waited for.
    adopted(world, &cluster, &dead, &holders, cluster.adopted_within() * victims.len() as u32);
    let bound = cluster.agreed_within();
    cluster.agree(world, bound, "after several deaths all agree");
}

/// A registrar hangs for about as long as its peers have patience, and shows up in the middle of the takeover.
fn hang(world: &mut World) {
    let (cluster, victim) = scene(world, 5);
    let node = cluster.registrars[victim];
    let holders = others(&cluster, &[victim]);
    for _ in 0..3 {
        world.pause(node);
        let config = cluster.config();
        let patience = config.max_time_last_heard + config.max_time_no_response;
        if world.rng.below(3) == 0 {
            // It wakes just as others are about to take it over.
            let begun = |world: &World| -> u64 {
                holders.iter().map(|holder| world.registrar(*holder).counters().takeovers_begun).sum()
            };
            let (before, limit) = (begun(world), world.now + patience * 3);
            while begun(world) == before && world.now < limit {
                world.run_for(ms(1));
            }
        } else {
            let time = patience + ms(world.rng.below(500)) - ms(250);
            cluster.run_holding(world, time, &holders);
        }
        world.resume(node);
        let bound = cluster.agreed_within();
        cluster.agree(world, bound, "after a hang all agree");
    }
    cluster.run_holding(world, secs(1), &cluster.registrars);
}

/// A registrar is stopped for up to 20 s and goes on: it accuses nobody.
fn stop_and_continue(world: &mut World) {
    let (cluster, victim) = scene(world, 5);
    let node = cluster.registrars[victim];
    let dead = world.registrar(node).id();
    world.pause(node);
    let holders = others(&cluster, &[victim]);
    adopted(world, &cluster, &[dead], &holders, cluster.adopted_within());
    let time = secs(1) + ms(world.rng.below(19_000));
    cluster.run_holding(world, time, &holders);
    world.resume(node);
    cluster.run_holding(world, ms(300), &holders);
    let bound = cluster.agreed_within();
    cluster.agree(world, bound, "after a stop all agree");
}

/// Everybody hangs at once, as on a machine that slept: nobody accuses anybody.
fn sleep_together(world: &mut World) {
    let (cluster, _) = scene(world, 5);
    for node in cluster.registrars.iter().chain(&cluster.hosts) {
        world.pause(*node);
    }
    let time = secs(1) + ms(world.rng.below(100_000));
    world.run_for(time);
    for node in cluster.registrars.iter().chain(&cluster.hosts) {
        world.resume(*node);
        let gap = ms(world.rng.below(8));
        world.run_for(gap);
    }
    let bound = cluster.agreed_within();
    cluster.agree(world, bound, "after a common sleep all agree");
}

/// Messages of the arbitration are lost on links that stay.
fn lost_messages(world: &mut World) {
    let (cluster, victim) = scene(world, 5);
    let node = cluster.registrars[victim];
    let dead = world.registrar(node).id();
    let holders = others(&cluster, &[victim]);
    for &a in &holders {
        for &b in &holders {
            let kind =
                [INIT_TAKEOVER, INIT_TAKEOVER_ACK, TAKEOVER_SERVER, PRESENCE][world.rng.below(4) as usize];
            if a != b && world.rng.below(2) == 0 {
                let times = 1 + u32::from(kind != PRESENCE && world.rng.below(2) == 0);
                world.lose(a, b, kind, times);
            }
        }
    }
    let notice = world.rng.below(2) == 0;
    if notice {
        world.crash(node)
    } else {
        world.darken(node)
    }
    // Each loss may cost one more round of asking.
    adopted(world, &cluster, &[dead], &holders, cluster.adopted_within() * 3);
    let bound = cluster.agreed_within();
    cluster.agree(world, bound, "after an arbitration with losses all agree");
}

/// Slow paths between registrars, and registrars that are slow themselves, for they go by other settings: nobody is
/// accused.
fn slow_paths(world: &mut World) {
    let many = 2 + world.rng.below(4) as usize;
    let mut cluster = Cluster::new(world, many, Discovery::All);
    for i in 1..many {
        if world.rng.below(3) == 0 {
            cluster.boot_of(i).config = RegistrarConfig::new(Profile::Wan);
            world.count("a registrar was slow", 1);
        }
    }
    for i in 0..many {
        cluster.boot(world, i);
    }
    world.run_for(secs(1));
    for _ in 0..3 {
        cluster.add_host(world, 4);
    }
    let bound = cluster.agreed_within();
    cluster.agree(world, bound, "fast and slow registrars agree");
    for host in cluster.hosts.clone() {
        cluster.hold_stable(world, host);
    }
    for (i, &a) in cluster.registrars.iter().enumerate() {
        for &b in cluster.registrars.iter().skip(i + 1) {
            if world.rng.below(2) == 0 {
                let by = ms(20 + world.rng.below(180));
                world.slow(a, b, by);
                world.count("a path was slow", 1);
            }
        }
    }
    cluster.run_holding(world, secs(10), &cluster.registrars);
    assert!(!world.watch.reached.contains_key("a takeover was begun"), "a slow registrar was accused");
    world.heal_all();
    cluster.agree(world, bound, "after slowness all agree");
}

/// The clock of one registrar, or of a host, jumps ahead.
fn clock_jump(world: &mut World) {
    let (cluster, victim) = scene(world, 5);
    for _ in 0..3 {
        let jumper = if world.rng.below(3) == 0 {
            cluster.hosts[world.rng.below(cluster.hosts.len() as u64) as usize]
        } else {
            cluster.registrars[victim]
        };
        let by = ms(100 + world.rng.below(20_000));
        world.jump(jumper, by);
        world.count("a clock jumped", 1);
        cluster.run_holding(world, secs(2), &cluster.registrars);
    }
    let bound = cluster.agreed_within();
    cluster.agree(world, bound, "after a clock jumped all agree");
}

/// Elements move to another home while the removal at the old one is under way.
fn moves(world: &mut World) {
    let many = 3 + world.rng.below(2) as usize;
    let mut cluster = Cluster::running(world, many, 3, 4);
    let host = cluster.add_host(world, 3);
    cluster.agree(world, cluster.agreed_within(), "a new host is known");
    for _ in 0..4 {
        let home = world.host(host).endpoint.home().map(|home| home.peer.ip());
        let Some(home) = cluster.registrars.iter().copied().find(|r| Some(world.nodes[*r].address) == home)
        else {
            world.run_for(secs(1));
            continue;
        };
        // What the old home says of it comes late at the others, or it is not told that the element has moved.
        for &other in cluster.registrars.iter().filter(|other| **other != home) {
            match world.rng.below(3) {
                0 => {
                    let by = ms(50 + world.rng.below(250));
                    world.slow(home, other, by);
                }
                1 => world.lose(other, home, HANDLE_UPDATE, u32::MAX),
                _ => {}
            }
        }
        // It has lost its home, or only its links to it, or only seems dead: the old home takes it out meanwhile.
        match world.rng.below(4) {
            0 => world.reset_links(host, home),
            1 => world.cut(host, home),
            2 => {
                world.reset_links(host, home);
                world.cut(host, home);
            }
            _ => {
                world.pause(host);
                let hang = ms(300 + world.rng.below(600));
                world.run_for(hang);
                world.resume(host);
                world.cut(host, home);
            }
        }
        let (away, mut kept) = (ms(300 + world.rng.below(1_200)), Kept::new());
        cluster.run_keeping(world, away, &mut kept);
        world.faults.losses.clear();
        world.heal_all();
        cluster.run_keeping(world, secs(1), &mut kept);
        let bound = cluster.agreed_within();
        cluster.agree(world, bound, "elements that moved have one home");
        cluster.each_answers_its_home(world);
    }
    cluster.count(world);
}

/// Elements die together with their home: whoever adopts them finds out.
fn die_with_home(world: &mut World) {
    let many = 2 + world.rng.below(4) as usize;
    let mut cluster = Cluster::running(world, many, 3, 4);
    for host in cluster.hosts.clone() {
        cluster.hold_stable(world, host);
    }
    let doomed = cluster.add_host(world, 3);
    let bound = cluster.agreed_within();
    cluster.agree(world, bound, "a new host is known");
    let home = world.host(doomed).endpoint.home().map(|home| home.peer.ip());
    let home = cluster.registrars.iter().copied().find(|r| Some(world.nodes[*r].address) == home);
    let home = home.expect("registered");
    let holders: Vec<usize> = cluster.registrars.iter().copied().filter(|other| *other != home).collect();
    let keys: Vec<_> = world.host(doomed).offered().cloned().collect();
    let mut victims = [home, doomed];
    if world.rng.below(2) == 0 {
        victims.reverse();
    }
    for victim in victims {
        if world.rng.below(2) == 0 {
            world.crash(victim);
        } else {
            world.darken(victim);
        }
        let gap = ms(world.rng.below(200));
        cluster.run_holding(world, gap, &holders);
    }
    let start = world.now;
    let config = cluster.config();
    // Guarantee 11: its new home asks it at once, and waits no longer than for a keep-alive.
    let purged = cluster.adopted_within() + config.keep_alive_interval * 3 / 2 + config.keep_alive_timeout;
    let held = |world: &World| {
        holders.iter().any(|node| {
            let space = world.registrar(*node).handlespace();
            keys.iter().any(|(handle, id)| space.entry(handle, *id).is_some())
        })
    };
    while held(world) {
        assert!(world.now.since(start) < purged, "dead elements are kept after {purged:?}");
        cluster.run_holding(world, ms(10), &holders);
    }
    let took = world.now.since(start);
    world.took.entry("elements that died with their home are gone").or_default().push(took);
    world.count("elements died with their home", 1);
    cluster.agree(world, bound, "after elements died with their home all agree");
}

#[test]
fn finds_out_that_elements_died_with_their_home() {
    let reach = ["elements died with their home", "a takeover was completed"];
    explore("finds_out_that_elements_died_with_their_home", 50, &reach, die_with_home);
}

#[test]
fn adopts_the_elements_of_a_dead_registrar() {
    let reach = ["a takeover was begun", "a takeover was completed", "one of two died", "requests answered"];
    explore("adopts_the_elements_of_a_dead_registrar", 80, &reach, kill);
}

#[test]
fn adopts_the_elements_of_several_dead_registrars() {
    let reach = [
        "several registrars died together",
        "two contend for a takeover",
        "three contend for a takeover",
        "a contender yielded",
    ];
    explore("adopts_the_elements_of_several_dead_registrars", 80, &reach, kill_several);
}

#[test]
fn takes_back_a_registrar_that_hung() {
    explore("takes_back_a_registrar_that_hung", 60, &["the target showed up in the middle"], hang);
}

#[test]
fn a_stopped_registrar_accuses_nobody() {
    explore("a_stopped_registrar_accuses_nobody", 60, &["a registrar doubted itself"], stop_and_continue);
}

#[test]
fn a_common_sleep_accuses_nobody() {
    explore("a_common_sleep_accuses_nobody", 40, &[], sleep_together);
}

#[test]
fn arbitrates_although_messages_are_lost() {
    let reach = ["a message was lost on a link that stayed", "a takeover was completed"];
    explore("arbitrates_although_messages_are_lost", 80, &reach, lost_messages);
}

#[test]
fn slow_registrars_are_not_accused() {
    explore("slow_registrars_are_not_accused", 30, &["a path was slow", "a registrar was slow"], slow_paths);
}

#[test]
fn clocks_may_jump() {
    explore("clocks_may_jump", 40, &["a clock jumped", "a registrar doubted itself"], clock_jump);
}

#[test]
fn elements_that_move_have_one_home() {
    let reach = ["late news of an element was ignored by its version"];
    explore("elements_that_move_have_one_home", 60, &reach, moves);
}
