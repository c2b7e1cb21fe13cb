//! Running a scenario over many seeds.

use crate::world::World;
use asap::types::Time;
use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::time::Duration;

fn number(variable: &str) -> Option<u64> {
    std::env::var(variable).ok().map(|n| n.parse().unwrap_or_else(|_| panic!("{variable} is no number")))
}

/// Runs a scenario over its seeds (every seed twice for the first few: the trace must be the same) and demands that
/// each of the named states was reached. `SIM_SEEDS` is for a scenario of 100 seeds; one of fewer, for its worlds are
/// larger, runs that many fewer. With `SIM_KEEP_GOING` set the first failure does not end it.
pub fn explore(name: &str, seeds: u64, must_reach: &[&'static str], scenario: fn(&mut World)) {
    let keep_going = std::env::var_os("SIM_KEEP_GOING").is_some();
    let failed = std::cell::Cell::new(0u64);
    let run = |seed: u64| {
        let mut world = World::new(seed);
        world.log = std::env::var_os("SIM_LOG").is_some();
        if let Err(panic) = catch_unwind(AssertUnwindSafe(|| scenario(&mut world))) {
            eprintln!("at {:?}; replay: SIM_SEED={seed} cargo test --test sim {name}", world.now);
            failed.set(failed.get() + 1);
            if !keep_going {
                resume_unwind(panic);
            }
        }
        for (state, times) in std::mem::take(&mut world.watch.reached) {
            world.count(state, times);
        }
        world
    };
    if let Some(seed) = number("SIM_SEED") {
        let world = run(seed);
        eprintln!(
            "seed {seed}: trace {:016x}, reached {:#?}, took {:#?}",
            world.trace(),
            world.reached,
            world.took
        );
        return;
    }
    let first = number("SIM_FIRST").unwrap_or(0);
    let seeds = number("SIM_SEEDS").map_or(seeds, |of_100| (of_100 * seeds).div_ceil(100));
    let mut reached: BTreeMap<&'static str, u64> = must_reach.iter().map(|state| (*state, 0)).collect();
    let mut took: BTreeMap<&'static str, Vec<Duration>> = BTreeMap::new();
    let mut time = Duration::ZERO;
    for seed in first..first + seeds {
        let world = run(seed);
        if seed < 3 {
            assert_eq!(world.trace(), run(seed).trace(), "seed {seed} has two traces");
        }
        time += world.now.since(Time::ZERO);
        for (state, times) in world.reached {
            *reached.entry(state).or_default() += times;
        }
        for (what, mut durations) in world.took {
            took.entry(what).or_default().append(&mut durations);
        }
    }
    println!("{name}: {seeds} seeds from {first}, {:.2} hours of virtual time", time.as_secs_f64() / 3600.0);
    for (state, times) in &reached {
        println!("  reached {times:>8} times: {state}");
    }
    for (what, durations) in &mut took {
        durations.sort_unstable();
        let at = |per_cent: usize| durations[(durations.len() - 1) * per_cent / 100];
        println!("  took {:?} / {:?} / {:?} (median, p99, most): {what}", at(50), at(99), at(100));
    }
    assert_eq!(failed.get(), 0, "seeds failed");
    for state in must_reach {
        assert!(reached[state] > 0, "never reached: {state}");
    }
}
