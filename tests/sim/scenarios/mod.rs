//! The scenarios: each drives worlds of many seeds through one kind of trouble and says how long recovery may take.
//! A scenario whose rare states are not reached fails: it would prove nothing.

mod asap;
mod chaos;
mod load;
mod mesh;
mod mixed;
mod partition;
mod takeover;

use crate::host::Host;
use crate::world::{Process, World};
use ::asap::config::{Profile, RegistrarConfig};
use ::asap::policy::Policy;
use ::asap::types::PoolHandle;
use std::time::Duration;

const fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

const fn secs(secs: u64) -> Duration {
    Duration::from_secs(secs)
}

fn pool(name: &str) -> PoolHandle {
    PoolHandle::new(name.as_bytes()).expect("a handle")
}

fn lan() -> RegistrarConfig {
    RegistrarConfig::new(Profile::Lan)
}

fn start_host(world: &mut World, node: usize, registrars: &[usize]) {
    let registrars = registrars.iter().map(|r| world.registrar_at(*r)).collect();
    let seed = world.rng.next_u64();
    let host = Host::new(world.nodes[node].address, Profile::Lan, seed, registrars);
    world.start(node, Process::Host(Box::new(host)));
}

fn start_element(world: &mut World, node: usize, registrars: &[usize], name: &str, policy: Policy) {
    start_host(world, node, registrars);
    let id = world.draw_id();
    world.tell(node, |host, now| host.serve(now, &pool(name), id, policy, secs(300)));
}

fn elements(world: &World, registrar: usize, name: &str) -> usize {
    world.registrar(registrar).handlespace().elements(&pool(name)).count()
}
