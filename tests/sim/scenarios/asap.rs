//! One registrar and the endpoints that use it.

use super::{elements, lan, ms, pool, secs, start_element, start_host};
use crate::explore::explore;
use crate::world::{Slot, World};
use asap::policy::{Policy, PolicyType};
use asap::types::{Load, Rng};
use std::time::Duration;

/// Adds the counts of a registrar that show which rare states it met.
pub(super) fn count_registrar(world: &mut World, node: usize) {
    let counters = *world.registrar(node).counters();
    world.count("an element was probed", counters.probes);
    world.count("an element was found unreachable", counters.unreachable);
    world.count("a registration ran out", counters.expired);
    world.count("an element was reported", counters.reports);
    world.count("pool changes were pushed", counters.updates_pushed);
    world.count("an element was registered again", counters.reregistrations);
}

pub(super) fn count_host(world: &mut World, node: usize) {
    let counters = *world.host(node).endpoint.counters();
    let (failed, failures) = (world.host(node).hunts_failed, world.host(node).failures);
    world.count("a round of the hunt found nothing", failed);
    world.count("a registration attempt failed at first", failures);
    world.count("a home was found again", counters.homes.saturating_sub(1));
    world.count("keep-alives were answered", counters.keep_alives);
}

pub(super) fn count_client(world: &mut World, node: usize, slot: Slot) {
    let client = world.host(node).client(slot);
    let (failovers, replays, echoed, answered) =
        (client.failovers, client.replays, client.cookies_echoed, client.answered);
    world.count("a session failed over", failovers);
    world.count("a request was repeated", replays);
    world.count("a cookie was echoed", echoed);
    world.count("requests answered", answered);
}

// Scenarios.

/// Registrars that refuse, that are silent, that come late: the endpoint finds the one that serves, and asks on.
fn hunt(world: &mut World) {
    let registrars: Vec<usize> = (0..5).map(|_| world.add_node()).collect();
    let user = world.add_node();
    let announced = world.rng.below(3) == 0;
    // Some are dead, some are behind a cut, one serves later on.
    let server = registrars[world.rng.below(5) as usize];
    for &registrar in &registrars {
        if registrar != server && world.rng.below(2) == 0 {
            world.cut(registrar, user);
        }
    }
    start_host(world, user, if announced { &[] } else { &registrars });
    world.tell(user, |host, now| host.resolve(now, &pool("Late"), secs(20)));
    world.tell(user, |host, now| host.resolve(now, &pool("Impatient"), ms(400)));
    let late = ms(world.rng.below(6_000));
    world.run_for(late);
    world.start_registrar(server, lan(), true);
    world.run_until(secs(15), "the user finds the registrar", |world| world.host(user).resolved.len() == 2);
    world.run_until(secs(15), "it is at home there", |world| {
        world.host(user).endpoint.home().is_some_and(|home| home.peer.ip() == world.nodes[server].address)
    });
    let outcome = &world.host(user).resolved[0].1;
    if late > ms(500) {
        assert!(outcome.is_err(), "a deadline of 400 ms was not kept: {outcome:?}");
        let waited = world.host(user).resolved[0].0;
        assert!(waited.as_nanos() <= 401_000_000, "the deadline of 400 ms was told at {waited:?}");
    }
    // Its registrar crashes; another takes its place.
    let next = registrars[(registrars.iter().position(|r| *r == server).expect("listed") + 1) % 5];
    for &registrar in &registrars {
        world.heal(registrar, user);
    }
    world.crash(server);
    world.start_registrar(next, lan(), true);
    world.tell(user, |host, now| host.resolve(now, &pool("Again"), secs(20)));
    world.run_until(secs(15), "the user finds the next registrar", |world| {
        world.host(user).resolved.len() == 3
    });
    count_host(world, user);
}

/// Hundreds of elements register in the same instant.
fn storm(world: &mut World) {
    let registrar = world.add_node();
    world.start_registrar(registrar, lan(), false);
    let hosts: Vec<usize> = (0..150).map(|_| world.add_node()).collect();
    for (i, &host) in hosts.iter().enumerate() {
        let name = format!("Pool-{}", i % 5);
        start_element(world, host, &[registrar], &name, Policy::ROUND_ROBIN);
    }
    world.run_until(secs(5), "all are registered", |world| {
        hosts.iter().all(|host| world.host(*host).registered >= 1)
    });
    assert_eq!(world.registrar(registrar).handlespace().count(None), hosts.len());
    let before = world.registrar(registrar).counters().keep_alives_sent;
    world.run_for(secs(2));
    let sent = world.registrar(registrar).counters().keep_alives_sent - before;
    assert!(sent <= 2 * u64::from(lan().keep_alives_per_second), "{sent} keep-alives in two seconds");
    // Half of them leave in order, in one instant.
    for &host in hosts.iter().step_by(2) {
        world.tell(host, |host, now| host.stop_serving(now));
    }
    world.run_until(secs(5), "half of them are gone", |world| {
        world.registrar(registrar).handlespace().count(None) == hosts.len() / 2
    });
    for &host in &hosts {
        count_host(world, host);
    }
}

/// Elements that crash, go dark, hang for a while, or lose their link.
fn element_death(world: &mut World) {
    let registrar = world.add_node();
    world.start_registrar(registrar, lan(), false);
    let hosts: Vec<usize> = (0..6).map(|_| world.add_node()).collect();
    for &host in &hosts {
        start_element(world, host, &[registrar], "Mortal", Policy::ROUND_ROBIN);
    }
    world.run_until(secs(5), "all are registered", |world| elements(world, registrar, "Mortal") == 6);
    let settle = ms(world.rng.below(2_000));
    world.run_for(settle);

    world.crash(hosts[0]);
    world.run_until(secs(1), "a crashed element is gone within a second", |world| {
        elements(world, registrar, "Mortal") == 5
    });

    world.reset_links(hosts[1], registrar);
    world.run_for(secs(3));
    assert_eq!(elements(world, registrar, "Mortal"), 5, "an element that lost only its link is kept");
    world.count("an element lost its link and stayed", 1);

    world.darken(hosts[2]);
    world.run_until(secs(3), "a dark element is gone by keep-alive", |world| {
        elements(world, registrar, "Mortal") == 4
    });

    // A hang longer than the patience: out, and in again by itself.
    world.pause(hosts[3]);
    world.run_until(secs(3), "a hanging element is gone", |world| elements(world, registrar, "Mortal") == 3);
    let hang = ms(world.rng.below(9_000));
    world.run_for(hang);
    world.resume(hosts[3]);
    world.run_until(secs(5), "it comes back", |world| elements(world, registrar, "Mortal") == 4);
    world.count("an element came back after a hang", 1);

    world.cut(hosts[4], registrar);
    world.run_until(secs(3), "a cut-off element is gone", |world| elements(world, registrar, "Mortal") == 3);
    let cut = ms(world.rng.below(20_000));
    world.run_for(cut);
    world.heal(hosts[4], registrar);
    world.run_until(secs(15), "it comes back", |world| elements(world, registrar, "Mortal") == 4);
    count_registrar(world, registrar);
    for &host in &[hosts[1], hosts[3], hosts[4], hosts[5]] {
        count_host(world, host);
    }
}

/// A registrar dies and comes back with nothing in its memory.
fn registrar_restart(world: &mut World) {
    let registrar = world.add_node();
    world.start_registrar(registrar, lan(), false);
    let hosts: Vec<usize> = (0..20).map(|_| world.add_node()).collect();
    for &host in &hosts {
        start_element(world, host, &[registrar], "Phoenix", Policy::new(PolicyType::LeastUsed, &[7]));
    }
    let user = world.add_node();
    start_host(world, user, &[registrar]);
    let slot = {
        let mut slot = 0;
        world.tell(user, |host, now| slot = host.connect(now, &pool("Phoenix"), 0));
        slot
    };
    world.run_until(secs(5), "all are registered", |world| elements(world, registrar, "Phoenix") == 20);
    world.run_until(secs(5), "the session runs", |world| world.host(user).client(slot).answered > 0);
    for _ in 0..3 {
        if world.rng.below(2) == 0 {
            world.crash(registrar);
        } else {
            world.darken(registrar);
        }
        let down = ms(world.rng.below(15_000));
        let before = world.host(user).client(slot).answered;
        world.run_for(down + ms(100));
        assert!(world.host(user).client(slot).answered > before, "sessions need no registrar");
        world.start_registrar(registrar, lan(), false);
        world.run_until(secs(12), "all have registered again", |world| {
            elements(world, registrar, "Phoenix") == 20
        });
        let asked = world.host(user).resolved.len();
        world.tell(user, |host, now| host.resolve(now, &pool("Phoenix"), secs(10)));
        world
            .run_until(secs(11), "the pool can be resolved", |world| world.host(user).resolved.len() > asked);
        assert!(world.host(user).resolved[asked].1.is_ok(), "{:?}", world.host(user).resolved[asked].1);
    }
    count_registrar(world, registrar);
    count_client(world, user, slot);
    for &host in &hosts {
        count_host(world, host);
    }
}

/// Clients of a stateful service whose servers are killed, switched off, hung and cut off at random.
fn failover(world: &mut World) {
    let registrar = world.add_node();
    world.start_registrar(registrar, lan(), false);
    let servers: Vec<usize> = (0..4).map(|_| world.add_node()).collect();
    let users: Vec<usize> = (0..3).map(|_| world.add_node()).collect();
    let policy = match world.rng.below(4) {
        0 => Policy::ROUND_ROBIN,
        1 => Policy::new(PolicyType::Random, &[]),
        2 => Policy::new(PolicyType::LeastUsedDegradation, &[0, 1000]),
        _ => Policy::new(PolicyType::WeightedRandom, &[10]),
    };
    for &server in &servers {
        start_element(world, server, &[registrar], "State", policy);
    }
    world.run_until(secs(5), "the servers are registered", |world| elements(world, registrar, "State") == 4);
    let mut slots = Vec::new();
    for &user in &users {
        start_host(world, user, &[registrar]);
        world.tell(user, |host, now| slots.push(host.connect(now, &pool("State"), 0)));
    }
    for _ in 0..12 {
        let pause = ms(world.rng.below(1_500));
        world.run_for(pause);
        let victim = servers[world.rng.below(4) as usize];
        match world.rng.below(5) {
            0 | 1 => {
                world.crash(victim);
                let down = ms(world.rng.below(500));
                world.run_for(down);
                start_element(world, victim, &[registrar], "State", policy);
            }
            2 => {
                world.darken(victim);
                let down = ms(world.rng.below(12_000));
                world.run_for(down);
                start_element(world, victim, &[registrar], "State", policy);
            }
            3 => {
                world.pause(victim);
                let hang = ms(world.rng.below(3_000));
                world.run_for(hang);
                world.resume(victim);
            }
            _ => {
                // Two at once: a failover during a failover.
                let other = servers[world.rng.below(4) as usize];
                world.crash(victim);
                let gap = Duration::from_micros(world.rng.below(4_000));
                world.run_for(gap);
                if other != victim {
                    world.crash(other);
                    start_element(world, other, &[registrar], "State", policy);
                    world.count("two servers died together", 1);
                }
                start_element(world, victim, &[registrar], "State", policy);
            }
        }
        for (&user, &slot) in users.iter().zip(&slots) {
            let before = world.host(user).client(slot).answered;
            world.run_until(secs(20), "every client gets on", |world| {
                assert!(!world.host(user).client(slot).ended, "a session ended");
                world.host(user).client(slot).answered > before
            });
        }
    }
    count_registrar(world, registrar);
    for (&user, &slot) in users.iter().zip(&slots) {
        count_client(world, user, slot);
    }
}

/// Users that asked to be told of changes are told of every lasting one.
fn push(world: &mut World) {
    let registrar = world.add_node();
    world.start_registrar(registrar, lan(), false);
    let hosts: Vec<usize> = (0..5).map(|_| world.add_node()).collect();
    let users: Vec<usize> = (0..3).map(|_| world.add_node()).collect();
    start_element(world, hosts[0], &[registrar], "News", Policy::ROUND_ROBIN);
    world.run_until(secs(5), "the pool is there", |world| elements(world, registrar, "News") == 1);
    for &user in &users {
        start_host(world, user, &[registrar]);
        world.tell(user, |host, now| host.endpoint.subscribe(now, &pool("News")));
    }
    let told = |world: &World, many: usize| {
        users.iter().all(|user| {
            let news = world.host(*user).pools.get(&pool("News"));
            news.is_some_and(|pool| pool.as_ref().map_or(0, |pool| pool.elements.len()) == many)
        })
    };
    for (i, &host) in hosts.iter().enumerate().skip(1) {
        start_element(world, host, &[registrar], "News", Policy::ROUND_ROBIN);
        world.run_until(secs(7), "users are told of a new element", |world| told(world, i + 1));
    }
    world.crash(hosts[1]);
    world.run_until(secs(2), "users are told of a death", |world| told(world, 4));
    // The users lose their links: they ask again, at a registrar that has forgotten them.
    for &user in &users {
        world.reset_links(user, registrar);
    }
    world.run_for(secs(1));
    world.crash(hosts[2]);
    world.run_until(secs(8), "users are told although their link was lost", |world| told(world, 3));
    world.count("a subscription survived its link", 1);
    for &host in &[hosts[0], hosts[3], hosts[4]] {
        world.tell(host, |host, now| host.stop_serving(now));
    }
    world.run_until(secs(5), "users are told that the pool is gone", |world| told(world, 0));
    start_element(world, hosts[1], &[registrar], "News", Policy::ROUND_ROBIN);
    world.run_until(secs(15), "and that it is there again", |world| told(world, 1));
    world.count("a pool vanished and came back", 1);
    count_registrar(world, registrar);
    for &user in &users {
        count_host(world, user);
    }
}

/// Everything at once, at random; when the trouble is over the handlespace is exactly what is alive.
fn chaos(world: &mut World) {
    let registrars: Vec<usize> = (0..2).map(|_| world.add_node()).collect();
    world.start_registrar(registrars[0], lan(), true);
    let hosts: Vec<usize> = (0..8).map(|_| world.add_node()).collect();
    let user = world.add_node();
    let policy = Policy::new(PolicyType::PriorityLeastUsed, &[Load(0).0, 100]);
    for &host in &hosts {
        start_element(world, host, &registrars, "Chaos", policy);
    }
    start_host(world, user, &registrars);
    let mut slot = 0;
    world.tell(user, |host, now| slot = host.connect(now, &pool("Chaos"), 0));
    let mut down = [false; 8];
    let mut hung = [false; 8];
    for _ in 0..40 {
        let pause = ms(world.rng.below(800));
        world.run_for(pause);
        let i = world.rng.below(8) as usize;
        let host = hosts[i];
        match world.rng.below(8) {
            0 if !down[i] && !hung[i] => {
                world.crash(host);
                down[i] = true;
            }
            1 if !down[i] && !hung[i] => {
                world.darken(host);
                down[i] = true;
            }
            2 if !down[i] && !hung[i] => {
                world.pause(host);
                hung[i] = true;
            }
            3 if hung[i] => {
                world.resume(host);
                hung[i] = false;
            }
            4 if down[i] => {
                start_element(world, host, &registrars, "Chaos", policy);
                down[i] = false;
            }
            5 => world.cut(host, if world.rng.clone().below(2) == 0 { registrars[0] } else { user }),
            6 => {
                world.heal(host, registrars[0]);
                world.heal(host, user);
            }
            7 => {
                world.crash(registrars[0]);
                let gap = ms(world.rng.below(1_000));
                world.run_for(gap);
                world.start_registrar(registrars[0], lan(), true);
                world.count("the registrar restarted in the middle", 1);
            }
            _ => world.reset_links(host, registrars[0]),
        }
    }
    for (i, &host) in hosts.iter().enumerate() {
        world.heal(host, registrars[0]);
        world.heal(host, user);
        if hung[i] {
            world.resume(host);
        }
        if down[i] {
            start_element(world, host, &registrars, "Chaos", policy);
        }
    }
    let before = world.host(user).client(slot).answered;
    world.run_until(secs(40), "the handlespace is what is alive", |world| {
        elements(world, registrars[0], "Chaos") == 8
    });
    world.run_until(secs(40), "the session goes on", |world| world.host(user).client(slot).answered > before);
    count_registrar(world, registrars[0]);
    count_client(world, user, slot);
}

#[test]
fn finds_a_registrar_whatever_the_others_do() {
    let reach = [
        "a connection was refused",
        "a connection attempt went into the void",
        "a round of the hunt found nothing",
    ];
    explore("finds_a_registrar_whatever_the_others_do", 60, &reach, hunt);
}

#[test]
fn serves_a_registration_storm() {
    explore("serves_a_registration_storm", 5, &["keep-alives were answered"], storm);
}

#[test]
fn notices_the_death_of_elements_and_only_that() {
    let reach = [
        "an element was probed",
        "an element was found unreachable",
        "an element lost its link and stayed",
        "an element came back after a hang",
        "bytes held by a cut arrive after it healed",
        "a transport lost patience",
    ];
    explore("notices_the_death_of_elements_and_only_that", 60, &reach, element_death);
}

#[test]
fn survives_registrars_that_forget_everything() {
    let reach = ["a home was found again", "a round of the hunt found nothing", "requests answered"];
    explore("survives_registrars_that_forget_everything", 15, &reach, registrar_restart);
}

#[test]
fn loses_no_answer_and_no_state_when_servers_die() {
    let reach = [
        "a session failed over",
        "a request was repeated",
        "a cookie was echoed",
        "two servers died together",
        "an element was reported",
    ];
    explore("loses_no_answer_and_no_state_when_servers_die", 20, &reach, failover);
}

#[test]
fn tells_users_of_changes() {
    let reach =
        ["pool changes were pushed", "a subscription survived its link", "a pool vanished and came back"];
    explore("tells_users_of_changes", 40, &reach, push);
}

#[test]
fn converges_after_chaos() {
    let reach =
        ["the registrar restarted in the middle", "a session failed over", "a transport lost patience"];
    explore("converges_after_chaos", 40, &reach, chaos);
}

#[test]
fn draws_are_even_enough_to_explore() {
    // The seeds above explore only if the generator spreads them.
    let mut rng = Rng::new(1);
    let mut seen = [0u32; 8];
    for _ in 0..8_000 {
        seen[rng.below(8) as usize] += 1;
    }
    assert!(seen.iter().all(|n| (900..1_100).contains(n)), "{seen:?}");
}
