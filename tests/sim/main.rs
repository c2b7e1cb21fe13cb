//! A deterministic simulator: drives the machines that ship with virtual time, a seeded network and faults, and
//! checks invariants after every step. What they stand for is in docs/guarantees.md.
//!
//! `SIM_SEED=n` replays one seed, `SIM_SEEDS=n` sets how many are run, `SIM_FIRST=n` where they begin. A failure prints
//! the line to paste; with `SIM_LOG=1` it tells what is said to registrars and by them. The same seed gives the same trace hash.

mod cluster;
mod explore;
mod faults;
mod host;
mod invariants;
mod rsplib;
mod scenarios;
mod watch;
mod world;
