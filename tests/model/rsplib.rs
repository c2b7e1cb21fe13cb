//! RSPLIB's registrar in a takeover: what it does of RFC 5353 3.5, and how.
//!
//! Only ENRP_PRESENCE is a sign of life to it. It has the lower identifier win, asks everybody once, and needs all of them but
//! the target to acknowledge; whether all have is looked at when an acknowledgement comes. Unless it is itself about to take
//! over, and is preferred, it acknowledges to anybody, about anybody. What it has taken over only its table shows.

use crate::world::{Message, id};
use asap::registrar::contests::Say;
use asap::types::ServerId;
use std::collections::{BTreeMap, BTreeSet};

#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Rsplib {
    me: ServerId,
    /// Whom it takes for alive, those among them that it is about to take over.
    pub peers: BTreeSet<ServerId>,
    /// Who has not acknowledged yet.
    pub takeovers: BTreeMap<ServerId, BTreeSet<ServerId>>,
}

/// What it wants done.
#[derive(Default)]
pub struct Done {
    pub send: Vec<(ServerId, Message)>,
    /// To everybody it takes for alive.
    pub show_life: bool,
    pub completed: Option<ServerId>,
}

impl Rsplib {
    pub fn new(me: ServerId, nodes: usize) -> Rsplib {
        let peers = (0..nodes).map(id).filter(|peer| *peer != me).collect();
        Rsplib { me, peers, takeovers: BTreeMap::new() }
    }

    /// The peer has been silent for long, and did not answer. One that owns nothing is only forgotten.
    pub fn accuse(&mut self, target: ServerId, owns: bool) -> Done {
        if !owns {
            self.peers.remove(&target);
            return Done::default();
        }
        let asked = self.peers.iter().map(|peer| (*peer, Message::Say(Say::Init, target)));
        let done = Done { send: asked.collect(), ..Done::default() };
        self.takeovers.insert(target, self.peers.iter().copied().filter(|peer| *peer != target).collect());
        done
    }

    /// Its takeover has taken too long.
    pub fn give_up(&mut self, target: ServerId) {
        self.takeovers.remove(&target);
        self.peers.remove(&target);
    }

    pub fn on_presence(&mut self, from: ServerId) {
        self.peers.insert(from);
        self.takeovers.remove(&from);
    }

    pub fn on_init(&mut self, from: ServerId, target: ServerId) -> Done {
        if target == self.me {
            return Done { show_life: true, ..Done::default() };
        }
        if self.takeovers.contains_key(&target) {
            if from > self.me {
                return Done::default();
            }
            self.takeovers.remove(&target);
        }
        Done { send: vec![(from, Message::Say(Say::Ack, target))], ..Done::default() }
    }

    pub fn on_ack(&mut self, from: ServerId, target: ServerId) -> Done {
        let Some(missing) = self.takeovers.get_mut(&target) else { return Done::default() };
        missing.remove(&from);
        let completed = missing.is_empty().then_some(target);
        if completed.is_some() {
            self.give_up(target);
        }
        Done { completed, ..Done::default() }
    }

    pub fn on_takeover(&mut self, target: ServerId) {
        self.peers.remove(&target);
    }
}
