//! A deterministic simulator: drives the machines that ship with virtual time, a seeded network and faults, and
//! checks invariants after every step.
//!
//! `SIM_SEED=n` replays one seed, `SIM_SEEDS=n` sets how many are run. A failure prints the line to paste. The same seed
//! gives the same trace hash.

mod host;
mod scenarios;
mod world;
