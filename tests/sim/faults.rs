//! What goes wrong in the world: processes that end, hang or come back, hosts that go dark, paths that are cut in one
//! direction or both, slow or forgetful, clocks that jump.

use crate::watch::PRESENCE;
use crate::world::{End, Happening, Pipe, World};
use asap::machine::{LinkFailure, Protocol};
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

/// How long a transport keeps trying to get bytes through before it gives a link up, unless a world says otherwise.
const TRANSPORT_PATIENCE: Duration = Duration::from_secs(8);

/// The faults in force.
pub struct Faults {
    /// From where to where nothing gets through.
    pub cuts: BTreeSet<(usize, usize)>,
    /// How much longer the way takes, from where to where.
    pub slow: BTreeMap<(usize, usize), Duration>,
    /// ENRP messages to be lost on the way, without their link.
    pub losses: Vec<Loss>,
    /// How long a transport tries.
    pub patience: Duration,
}

/// So many ENRP messages of one type vanish between two nodes.
#[derive(Clone, Copy, Debug)]
pub struct Loss {
    pub from: usize,
    pub to: usize,
    pub message_type: u8,
    pub times: u32,
}

impl Default for Faults {
    fn default() -> Faults {
        Faults {
            cuts: BTreeSet::new(),
            slow: BTreeMap::new(),
            losses: Vec::new(),
            patience: TRANSPORT_PATIENCE,
        }
    }
}

impl Faults {
    /// Whether nothing gets through to this end of the pipe.
    pub fn is_cut(&self, pipe: &Pipe, end: usize) -> bool {
        self.cuts.contains(&(pipe.ends[1 - end].node, pipe.ends[end].node))
    }

    /// Whether this message is to be lost. Not the presence with which a registrar introduces itself, to whoever is at the other end of a link: what
    /// comes before everything else arrives, or the link is dead.
    pub fn loses(&mut self, from: usize, to: usize, bytes: &[u8]) -> bool {
        let introduces = bytes.first() == Some(&PRESENCE) && bytes.get(8..12) == Some(&[0; 4]);
        if introduces {
            return false;
        }
        let lost = self.losses.iter_mut().find(|loss| {
            (loss.from, loss.to) == (from, to) && bytes.first() == Some(&loss.message_type) && loss.times > 0
        });
        lost.map(|loss| loss.times -= 1).is_some()
    }
}

impl World {
    /// Kills the process; the host's kernel tells its peers.
    pub fn crash(&mut self, node: usize) {
        self.note("crash", &[node as u8]);
        self.end_process(node);
        for pipe in 0..self.pipes.len() {
            for end in 0..2 {
                let here = self.pipes[pipe].ends[end];
                if here.node == node && here.open {
                    self.pipes[pipe].ends[end].open = false;
                    let why = LinkFailure::Reset;
                    self.send(pipe, 1 - end, |pipe, end| Happening::Down { pipe, end, why });
                }
            }
        }
    }

    /// Switches the host off: nobody is told anything.
    pub fn darken(&mut self, node: usize) {
        self.note("dark", &[node as u8]);
        self.nodes[node].dark = true;
        self.end_process(node);
        for pipe in 0..self.pipes.len() {
            for end in 0..2 {
                let here = self.pipes[pipe].ends[end];
                if here.node == node && here.open {
                    self.pipes[pipe].ends[end].open = false;
                    self.run_patience(pipe);
                }
            }
        }
    }

    fn end_process(&mut self, node: usize) {
        let waiting = self.nodes[node].paused.take().unwrap_or_default();
        for happening in waiting {
            // Who has connected and was never accepted is told as everybody else is.
            if let Happening::Arrive { pipe, to } = happening {
                self.schedule(self.now, Happening::Arrive { pipe, to });
            }
        }
        if let Some(registrar) = self.nodes[node].rsplib_registrar() {
            self.watch.taken_by_the_dead.extend(&registrar.taken);
        }
        let place = &mut self.nodes[node];
        place.process = None;
        place.ahead = Duration::ZERO;
        place.life += 1;
        place.wakes.clear();
        self.watch.on_end(node);
    }

    /// Stops a process without ending it.
    pub fn pause(&mut self, node: usize) {
        self.note("pause", &[node as u8]);
        self.watch.on_pause(self.now, node);
        self.nodes[node].paused.get_or_insert_default();
    }

    /// Lets it go on: what waited comes at once, its timers late and behind some of it.
    pub fn resume(&mut self, node: usize) {
        let Some(waiting) = self.nodes[node].paused.take() else { return };
        self.note("resume", &[node as u8]);
        self.watch.on_resume(self.now, node);
        let turn = self.rng.below(waiting.len() as u64 + 1) as usize;
        for (i, happening) in waiting.into_iter().enumerate() {
            if i == turn {
                self.nodes[node].wakes.clear();
                self.plan_wakes(node);
            }
            self.schedule(self.now, happening);
        }
        // Whoever has nothing planned, or missed it, plans again.
        self.plan_wakes(node);
    }

    /// Lets the clock of one node jump ahead.
    pub fn jump(&mut self, node: usize, by: Duration) {
        self.note("jump", &[node as u8]);
        self.watch.on_jump(self.now, node, by);
        self.nodes[node].ahead += by;
        self.plan_wakes(node);
    }

    /// Cuts the path between two nodes, both ways; bytes on the way wait.
    pub fn cut(&mut self, a: usize, b: usize) {
        self.cut_one_way(a, b);
        self.cut_one_way(b, a);
    }

    /// Cuts the path in one direction.
    pub fn cut_one_way(&mut self, from: usize, to: usize) {
        self.note("cut", &[from as u8, to as u8]);
        self.faults.cuts.insert((from, to));
        for pipe in 0..self.pipes.len() {
            // Whoever sends in the other direction gets no acknowledgement either.
            if self.pipes[pipe].joins(from, to) && self.is_open(pipe) {
                self.run_patience(pipe);
            }
        }
    }

    fn is_open(&self, pipe: usize) -> bool {
        self.pipes[pipe].ends.iter().any(|end| end.open)
    }

    /// Heals the path, both ways; what waited arrives.
    pub fn heal(&mut self, a: usize, b: usize) {
        self.note("heal", &[a as u8, b as u8]);
        self.faults.cuts.remove(&(a, b));
        self.faults.cuts.remove(&(b, a));
        self.faults.slow.remove(&(a, b));
        self.faults.slow.remove(&(b, a));
        for pipe in 0..self.pipes.len() {
            if !self.pipes[pipe].joins(a, b) {
                continue;
            }
            // Unless an end of it is gone, it lives on.
            let gone = |end: &End| self.nodes[end.node].dark || self.nodes[end.node].life != end.life;
            if !self.pipes[pipe].ends.iter().any(gone) && !self.pipes[pipe].void {
                self.pipes[pipe].dying = None;
            }
            for end in 0..2 {
                let held = std::mem::take(&mut self.pipes[pipe].held[end]);
                if held.is_empty() {
                    continue;
                }
                self.count("bytes held by a cut arrive after it healed", held.len() as u64);
                // What is under way was sent later.
                let under_way = self.take_under_way(pipe, end);
                for happening in held.into_iter().chain(under_way) {
                    let at = self.order(pipe, end);
                    self.schedule(at, happening);
                }
            }
        }
    }

    /// Heals everything between all nodes.
    pub fn heal_all(&mut self) {
        let cuts = std::mem::take(&mut self.faults.cuts);
        let slow = std::mem::take(&mut self.faults.slow);
        let pairs: BTreeSet<(usize, usize)> =
            cuts.into_iter().chain(slow.into_keys()).map(|(a, b)| (a.min(b), a.max(b))).collect();
        for (a, b) in pairs {
            self.heal(a, b);
        }
        self.faults.losses.clear();
    }

    /// Makes the way between two nodes longer, both ways.
    pub fn slow(&mut self, a: usize, b: usize, by: Duration) {
        self.note("slow", &[a as u8, b as u8]);
        self.faults.slow.insert((a, b), by);
        self.faults.slow.insert((b, a), by);
    }

    /// Loses the next so many ENRP messages of a type; the link stays.
    pub fn lose(&mut self, from: usize, to: usize, message_type: u8, times: u32) {
        self.note("lose", &[from as u8, to as u8]);
        self.faults.losses.push(Loss { from, to, message_type, times });
    }

    /// Breaks every link between two nodes; both are told.
    pub fn reset_links(&mut self, a: usize, b: usize) {
        self.note("reset", &[a as u8, b as u8]);
        for pipe in 0..self.pipes.len() {
            if self.pipes[pipe].joins(a, b) && self.is_open(pipe) {
                for end in 0..2 {
                    let at = self.order(pipe, end);
                    self.schedule(at, Happening::Down { pipe, end, why: LinkFailure::Reset });
                }
            }
        }
    }

    /// Loses every link of a protocol between two nodes without notice: who sends on one finds out by its patience. Not those that are
    /// still being opened, on which nobody sends, and which always end with an answer or a time-out.
    pub fn lose_links(&mut self, a: usize, b: usize, protocol: Protocol) {
        self.note("lose links", &[a as u8, b as u8]);
        for pipe in 0..self.pipes.len() {
            let lost = self.pipes[pipe].joins(a, b) && self.pipes[pipe].protocol == protocol;
            if lost && self.pipes[pipe].up && self.is_open(pipe) {
                self.pipes[pipe].void = true;
            }
        }
    }

    pub(crate) fn run_patience(&mut self, pipe: usize) {
        if self.pipes[pipe].dying.is_none() {
            let at = self.now + self.faults.patience;
            self.pipes[pipe].dying = Some(at);
            self.schedule(at, Happening::Patience { pipe });
        }
    }
}
