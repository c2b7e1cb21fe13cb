//! A world of several registrars and of hosts with many elements each, and what is true of it: who runs, what must be
//! in every handlespace.

use crate::host::Host;
use crate::invariants::{Kept, audits_open, check_kept, check_stable, check_stable_of_heard, disagreement};
use crate::world::{Boot, Process, Slot, World};
use asap::config::{Limits, Profile, RegistrarConfig};
use asap::machine::LinkKind;
use asap::policy::{Policy, PolicyType};
use asap::types::PoolHandle;
use std::collections::BTreeMap;
use std::time::Duration;

/// How registrars find each other.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Discovery {
    /// Each is told of all others.
    All,
    /// Each is told of the one before it: the rest comes from lists of peers.
    Chain,
    /// All are told of the first, which is told of nobody.
    Star,
    /// By multicast alone.
    Multicast,
}

pub struct Cluster {
    pub registrars: Vec<usize>,
    pub hosts: Vec<usize>,
    pub users: Vec<(usize, Slot)>,
    boots: Vec<Boot>,
}

/// How often the world is looked at as a whole.
const LOOK: Duration = Duration::from_millis(10);

impl Cluster {
    /// Places for so many registrars, none started.
    pub fn new(world: &mut World, registrars: usize, discovery: Discovery) -> Cluster {
        let kind = if world.rng.below(2) == 0 { LinkKind::Tcp } else { LinkKind::Sctp };
        let registrars: Vec<usize> = (0..registrars).map(|_| world.add_node()).collect();
        let mut boots = Vec::new();
        for (i, node) in registrars.iter().enumerate() {
            let peers = match discovery {
                Discovery::All => registrars.iter().copied().filter(|other| other != node).collect(),
                Discovery::Chain => registrars.get(i.wrapping_sub(1)).copied().into_iter().collect(),
                Discovery::Star if i > 0 => vec![registrars[0]],
                Discovery::Star | Discovery::Multicast => Vec::new(),
            };
            boots.push(Boot {
                id: world.rng.next_u64() as u32 | 1,
                config: RegistrarConfig::new(Profile::Lan),
                limits: Limits::default(),
                enrp: Some(kind),
                announce: discovery == Discovery::Multicast,
                peers,
            });
        }
        Cluster { registrars, hosts: Vec::new(), users: Vec::new(), boots }
    }

    /// A way of finding each other, drawn from the seed.
    pub fn any_discovery(world: &mut World) -> Discovery {
        match world.rng.below(4) {
            0 => Discovery::All,
            1 => Discovery::Chain,
            2 => Discovery::Star,
            _ => Discovery::Multicast,
        }
    }

    /// A cluster that runs and agrees: so many registrars, and hosts with so many elements each.
    pub fn running(world: &mut World, registrars: usize, hosts: usize, elements: usize) -> Cluster {
        let mut cluster = Cluster::new(world, registrars, Discovery::All);
        for i in 0..registrars {
            cluster.boot(world, i);
        }
        world.run_for(Duration::from_secs(1));
        for _ in 0..hosts {
            cluster.add_host(world, elements);
        }
        cluster.agree(world, cluster.agreed_within(), "the cluster agrees at first");
        cluster
    }

    pub fn config(&self) -> &RegistrarConfig {
        &self.boots[0].config
    }

    /// Lets every registrar begun from now on have other settings.
    pub fn configure(&mut self, change: impl Fn(&mut Boot)) {
        self.boots.iter_mut().for_each(change);
    }

    pub fn boot_of(&mut self, i: usize) -> &mut Boot {
        &mut self.boots[i]
    }

    /// Starts the `i`th registrar with nothing in its memory.
    pub fn boot(&self, world: &mut World, i: usize) {
        world.boot(self.registrars[i], self.boots[i].clone());
    }

    /// The same under another identifier.
    pub fn boot_anew(&mut self, world: &mut World, i: usize) {
        self.boots[i].id = world.rng.next_u64() as u32 | 1;
        self.boot(world, i);
    }

    pub fn runs(&self, world: &World, i: usize) -> bool {
        world.runs_registrar(self.registrars[i]).is_some()
    }

    /// Starts a host with so many elements, that knows all registrars and begins with any of them.
    pub fn add_host(&mut self, world: &mut World, elements: usize) -> usize {
        let node = world.add_node();
        self.hosts.push(node);
        self.start_host(world, node, elements);
        node
    }

    /// Starts an endpoint at a node, as after a crash, with so many elements.
    pub fn start_host(&self, world: &mut World, node: usize, elements: usize) {
        let turn = world.rng.below(self.registrars.len() as u64) as usize;
        let mut order = self.registrars.clone();
        order.rotate_left(turn);
        self.start_host_at(world, node, elements, &order);
    }

    /// The same; it knows these registrars only.
    pub fn start_host_at(&self, world: &mut World, node: usize, elements: usize, registrars: &[usize]) {
        let registrars = registrars.iter().map(|r| world.registrar_at(*r)).collect();
        let seed = world.rng.next_u64();
        let host = Host::new(world.nodes[node].address, Profile::Lan, seed, registrars);
        world.start(node, Process::Host(Box::new(host)));
        for _ in 0..elements {
            let (handle, id) = (pool_of(world.rng.below(5)), world.draw_id());
            world.tell(node, |host, now| {
                host.serve(now, &handle, id, policy_of(&handle), Duration::from_secs(300));
            });
        }
    }

    /// A pool that has an element. Elements draw their pools, and not every pool is drawn.
    pub fn some_pool(&self, world: &World) -> PoolHandle {
        world.host(self.hosts[0]).offered().next().expect("elements").0.clone()
    }

    /// Starts a host with one client of a pool, that never stops asking.
    pub fn add_user(&mut self, world: &mut World, pool: &PoolHandle) {
        let node = world.add_node();
        self.start_host(world, node, 0);
        let mut slot = 0;
        world.tell(node, |host, now| slot = host.connect(now, pool, 0));
        self.users.push((node, slot));
    }

    /// The hosts that run.
    pub fn running_hosts(&self, world: &World) -> Vec<usize> {
        self.hosts.iter().copied().filter(|host| world.nodes[*host].process.is_some()).collect()
    }

    /// Declares all elements of a host to be such as nobody may ever lose.
    pub fn hold_stable(&self, world: &mut World, host: usize) {
        let keys: Vec<_> = world.host(host).offered().cloned().collect();
        world.watch.stable.extend(keys);
    }

    /// Runs until all registrars agree, and on what is true.
    pub fn agree(&self, world: &mut World, bound: Duration, what: &'static str) {
        let hosts = self.running_hosts(world);
        self.agree_among(world, &self.registrars, &hosts, bound, what);
    }

    /// The same of some registrars, and the hosts that they can reach.
    pub fn agree_among(
        &self,
        world: &mut World,
        registrars: &[usize],
        hosts: &[usize],
        bound: Duration,
        what: &'static str,
    ) {
        let start = world.now;
        while let Some(why) = disagreement(world, registrars, hosts) {
            assert!(world.now.since(start) < bound, "not within {bound:?}: {what}: {why}");
            world.run_for(LOOK);
        }
        let took = world.now.since(start);
        world.took.entry(what).or_default().push(took);
    }

    /// Runs until no audit has anything to do any more.
    pub fn settle(&self, world: &mut World, bound: Duration) {
        let start = world.now;
        while let Some(why) = audits_open(world, &self.registrars) {
            assert!(world.now.since(start) < bound, "not within {bound:?}: audits end: {why}");
            world.run_for(LOOK);
        }
    }

    /// Runs for a while in which these registrars, that hear all others, may never be without any stable element, and
    /// others not without those whose home they hear (guarantee 2).
    pub fn run_holding(&self, world: &mut World, time: Duration, holders: &[usize]) {
        let end = world.now + time;
        let mut heard = BTreeMap::new();
        let others: Vec<usize> =
            self.registrars.iter().copied().filter(|node| !holders.contains(node)).collect();
        for look in 0.. {
            if world.now >= end {
                break;
            }
            world.run_for(LOOK.min(end.since(world.now)));
            for holder in holders {
                check_stable(world, *holder);
            }
            // Every tenth time is enough for what has a bound of more than half a second.
            if !others.is_empty() && look % 10 == 0 {
                check_stable_of_heard(world, &others, &self.registrars, self.audited_within(), &mut heard);
            }
        }
    }

    /// Runs for a while in which no registrar may lose what another has.
    pub fn run_keeping(&self, world: &mut World, time: Duration, kept: &mut Kept) {
        let end = world.now + time;
        while world.now < end {
            world.run_for(LOOK);
            check_kept(world, &self.registrars, kept);
        }
    }

    /// Guarantee 3: each element is asked by its home, and answers it; so nobody is taken for alive whom its home
    /// cannot reach.
    pub fn each_answers_its_home(&self, world: &mut World) {
        let config = self.config();
        let asked = config.keep_alive_interval * 3 / 2 + config.keep_alive_timeout;
        // A link that is dead without notice may be found out only now, and disturb once more.
        let bound = self.agreed_within() + asked;
        let since = world.now;
        let silent = |world: &World| {
            let at_home = |node: &usize| {
                let registrar = world.runs_registrar(*node)?;
                let mut owned = registrar.handlespace().of_owner(registrar.id());
                owned.find(|key| !world.watch.has_answered(key, *node, since)).map(|key| (*node, key))
            };
            self.registrars.iter().find_map(at_home)
        };
        let hosts = self.running_hosts(world);
        loop {
            world.run_for(asked / 10);
            let why = disagreement(world, &self.registrars, &hosts);
            let unheard = silent(world);
            if why.is_none() && unheard.is_none() {
                break;
            }
            assert!(
                world.now.since(since) < bound,
                "not within {bound:?}: each answers its home; {unheard:?} does not; {why:?}"
            );
        }
        let took = world.now.since(since);
        world.took.entry("each element has answered its home").or_default().push(took);
    }

    /// Adds the counts of its registrars that show which rare states they met.
    pub fn count(&self, world: &mut World) {
        for node in &self.registrars {
            let Some(registrar) = world.runs_registrar(*node) else { continue };
            let counters = *registrar.counters();
            world.count("late news of an element was ignored by its version", counters.updates_stale);
            world.count("elements came to have another home", counters.elements_lost);
        }
    }

    /// Guarantee 1: how long after the last fault everybody agrees.
    pub fn agreed_within(&self) -> Duration {
        Duration::from_secs(20)
    }

    /// Guarantee 7: how long after an update was lost its audit is done: two heartbeats, and the answer.
    pub fn audited_within(&self) -> Duration {
        let config = self.config();
        config.peer_heartbeat_cycle * 2 + config.max_time_no_response
    }

    /// Guarantee 4: how long after its death a registrar's elements have another home.
    pub fn adopted_within(&self) -> Duration {
        let config = self.config();
        config.max_time_last_heard + config.max_time_no_response * 2 + config.peer_heartbeat_cycle * 2
    }
}

pub fn pool_of(n: u64) -> PoolHandle {
    PoolHandle::new(format!("Pool-{n}").as_bytes()).expect("a handle")
}

fn policy_of(handle: &PoolHandle) -> Policy {
    match handle.as_bytes().last() {
        Some(b'0') => Policy::ROUND_ROBIN,
        Some(b'1') => Policy::new(PolicyType::Random, &[]),
        Some(b'2') => Policy::new(PolicyType::LeastUsed, &[5]),
        Some(b'3') => Policy::new(PolicyType::WeightedRoundRobin, &[3]),
        _ => Policy::new(PolicyType::Priority, &[1]),
    }
}
