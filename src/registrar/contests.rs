//! Who takes a silent registrar over: the arbitration of RFC 5353 3.5.1 as a machine of its own, for any number of
//! targets at once.
//!
//! Knows no time, no links and no elements: it is told what was heard and who is alive, and says what is to be sent and
//! done. So a model can go through all its interleavings (`tests/model`), and what it checks is what ships.
//!
//! The rules, and what each is for:
//!
//! * An initiator asks every live peer, and completes only when all of them that are alive have acknowledged. A peer
//!   that dies meanwhile is waited for no longer; one that comes is asked too. So of two that know each other to be
//!   alive no more than one completes, whatever is lost or late and whenever timers fire.
//! * Of two initiators the one the [`Order`] prefers goes on and the other acknowledges. The preferred one leaves the
//!   other's question unanswered, but repeats its own at once, in case it was lost.
//! * Who has acknowledged suspects the target anew if the winner dies, and begins anew if the winner says nothing for
//!   long. Until then it acknowledges to nobody but that one or a preferred one: an acknowledgement names no question,
//!   and of two that had given way to a third, each could take an old one of the other's for an answer to its new question.
//! * Who has completed tells it to every peer it sees come alive, and to who asks about the same target: a lost
//!   ENRP_TAKEOVER_SERVER, or a partition in which both sides took over, ends with one winner.
//!
//! DEPARTS RFC 5353 3.5.1 rule 3: there a peer acknowledges at once, although it may hear the target well. Here it first
//! asks the target for a sign of life and acknowledges when there was none within MAX-TIME-NO-RESPONSE. A registrar
//! that some can hear and others cannot is otherwise taken over again and again. Nor does it acknowledge to everybody who
//! asks while another is about to complete, see above.

use crate::types::ServerId;
use std::collections::{BTreeMap, BTreeSet};

/// A question is repeated after one MAX-TIME-NO-RESPONSE, then after two, four ... and at last this many.
const LONGEST_PAUSE: u32 = 16;
/// So often a peer that is not ours is asked. Ours that stay silent hear the target, and are waited for.
const ASKED_OF_FOREIGN: u32 = 4;
/// Who has given way waits for so many MAX-TIME-NO-RESPONSE to be told of the takeover, and who has been told relies so long on the winner
/// telling another that asks.
const YIELD: u32 = 4;

/// Which of two registrars goes on when both want to take over a third.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub enum Order {
    /// The one of higher identifier (RFC 5353 3.5.1).
    #[default]
    HigherWins,
    /// The one of lower identifier, as RSPLIB has it.
    LowerWins,
}

impl Order {
    /// The order of a scope, given of each peer that is alive whether it is a registrar of RSPLIB, or hears one itself: as
    /// long as there is any the lower identifier goes on, for there it cannot be otherwise.
    ///
    /// DEPARTS RFC 5353 3.5.1 then: the higher identifier goes on.
    pub fn of_scope(mut peers: impl Iterator<Item = bool>) -> Order {
        if peers.any(|is_or_hears_rsplib| is_or_hears_rsplib) { Order::LowerWins } else { Order::HigherWins }
    }

    /// Whether `a` goes on and `b` gives way.
    pub fn prefers(self, a: ServerId, b: ServerId) -> bool {
        match self {
            Order::HigherWins => a > b,
            Order::LowerWins => a < b,
        }
    }
}

/// What a live peer does with a question.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Voter {
    /// One of ours: it does not acknowledge while it hears the target.
    Ours,
    /// Another: silence of it means nothing.
    Foreign,
    /// It is suspected, and asked for a sign of life: what it is told may not arrive, so it is told when it is heard again
    /// or waited for until it is accused itself.
    Unheard,
}

/// The peers that are alive, those suspected among them.
pub type Live = BTreeMap<ServerId, Voter>;

/// What is said about a target.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Say {
    /// ENRP_INIT_TAKEOVER.
    Init,
    /// ENRP_INIT_TAKEOVER_ACK.
    Ack,
    /// ENRP_TAKEOVER_SERVER.
    Takeover,
}

/// How long a wake-up is away.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Wait {
    /// So many MAX-TIME-NO-RESPONSE.
    Rounds(u32),
    /// As long as another implementation may take for a takeover, from its question until it can be seen.
    Foreign,
    /// Longer than anybody could still be asking about the target: a matter of minutes.
    Memory,
}

/// What is to be done.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Output {
    /// Something is to be said to a peer.
    Send {
        /// To whom; for [`Say::Init`] also the target itself.
        to: ServerId,
        /// What.
        say: Say,
        /// About whom.
        target: ServerId,
    },
    /// The peer is to be asked for a sign of life.
    Probe(ServerId),
    /// All peers are to be shown that this registrar lives: somebody wants to take it over.
    ShowLife,
    /// [`Contests::on_timeout`] is to be called for the target then; an earlier wish for it counts no more.
    Wake(ServerId, Wait),
    /// It need not be called any more.
    NoWake(ServerId),
    /// This registrar asks to take the target over.
    Begun(ServerId),
    /// It has given way.
    Yielded {
        /// About whom.
        target: ServerId,
        /// To whom.
        to: ServerId,
    },
    /// The target has shown itself: nothing comes of it.
    Averted(ServerId),
    /// Who was to take the target over is dead: it is to be asked for a sign of life, and [`Contests::begin`] called if there is
    /// none. What this registrar acknowledged may have been asked long ago, while it was asleep.
    Suspect(ServerId),
    /// This registrar has won: the target's elements are its own from now on.
    Adopt(ServerId),
    /// Another one has: the target's elements are its.
    Follow {
        /// Whose elements.
        target: ServerId,
        /// Whose they are now.
        home: ServerId,
    },
    /// Both had won, apart from each other, and the other one keeps it: what was adopted of the target and has not
    /// answered yet is the other's.
    Concede {
        /// Whose elements.
        target: ServerId,
        /// Whose they are now.
        home: ServerId,
    },
}

/// The takeovers under way, and those completed not long ago.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Contests {
    me: ServerId,
    order: Order,
    by_target: BTreeMap<ServerId, Contest>,
}

#[derive(Clone, PartialEq, Eq, Hash, Debug)]
enum Contest {
    /// Others ask about a target that is heard here; it has been asked for a sign of life.
    Probing { askers: BTreeSet<ServerId> },
    /// This registrar wants to take it over.
    Initiating {
        /// Asked in this round.
        asked: BTreeSet<ServerId>,
        /// Asked in this round once more, having asked themselves.
        repeated: BTreeSet<ServerId>,
        acknowledged: BTreeSet<ServerId>,
        /// How often time ran out.
        rounds: u32,
    },
    /// Another one does, and this one has acknowledged.
    Yielded { to: ServerId },
    /// This registrar has taken it over.
    Won { told: BTreeSet<ServerId> },
    /// Another one has.
    Followed { home: ServerId },
}

impl Contests {
    /// No takeover under way, for the registrar `me`.
    pub fn new(me: ServerId) -> Contests {
        Contests { me, order: Order::default(), by_target: BTreeMap::new() }
    }

    /// This registrar has another identifier from now on, under which it has begun nothing.
    pub fn rename(&mut self, me: ServerId) {
        *self = Contests { order: self.order, ..Contests::new(me) };
    }

    /// Whether this registrar is asking to take the target over.
    pub fn is_initiating(&self, target: ServerId) -> bool {
        matches!(self.by_target.get(&target), Some(Contest::Initiating { .. }))
    }

    /// Whether this registrar has given way to another one that wants to take the target over.
    pub fn has_yielded(&self, target: ServerId) -> bool {
        matches!(self.by_target.get(&target), Some(Contest::Yielded { .. }))
    }

    /// The targets that this registrar leaves to that one.
    pub fn yielded_to(&self, winner: ServerId) -> Vec<ServerId> {
        let is_its = |contest: &Contest| matches!(contest, Contest::Yielded { to } if *to == winner);
        self.by_target.iter().filter(|(_, contest)| is_its(contest)).map(|(target, _)| *target).collect()
    }

    /// Whether this registrar has taken the target over, not long ago.
    pub fn has_won(&self, target: ServerId) -> bool {
        matches!(self.by_target.get(&target), Some(Contest::Won { .. }))
    }

    /// The registrars of the scope go by another order: what was begun under the old one begins again.
    pub fn set_order(&mut self, order: Order, live: &Live, out: &mut Vec<Output>) {
        if order == std::mem::replace(&mut self.order, order) {
            return;
        }
        let begun: Vec<ServerId> =
            self.by_target.keys().copied().filter(|target| self.is_initiating(*target)).collect();
        for target in begun {
            self.initiate(target, out);
        }
        self.review(live, out);
    }

    /// The target is silent, and did not answer when asked.
    pub fn begin(&mut self, target: ServerId, live: &Live, out: &mut Vec<Output>) {
        if target == self.me {
            return;
        }
        match self.by_target.get_mut(&target) {
            None => self.initiate(target, out),
            Some(Contest::Probing { askers }) => {
                let askers = std::mem::take(askers);
                self.initiate(target, out);
                for asker in askers {
                    self.on_init(asker, target, live, out);
                }
            }
            // The same, and the elements cannot be the winner's, who has not heard of them.
            Some(Contest::Followed { .. }) => self.initiate(target, out),
            // Somebody has named it as the home of elements since, as one does who has not been told yet.
            Some(Contest::Won { told }) => {
                told.clear();
                out.push(Output::Adopt(target));
            }
            Some(Contest::Initiating { .. } | Contest::Yielded { .. }) => {}
        }
        self.review(live, out);
    }

    /// Nothing is left here that could be taken over: what is under way about the target is at an end.
    pub fn end(&mut self, target: ServerId, out: &mut Vec<Output>) {
        if self.by_target.remove(&target).is_some() {
            out.push(Output::NoWake(target));
        }
    }

    /// This registrar was asleep: what it has asked or acknowledged, or not heard, says nothing of the present. Gives up what is under way,
    /// and says whom it has given up.
    pub fn abandon(&mut self, out: &mut Vec<Output>) -> Vec<ServerId> {
        let mut begun = Vec::new();
        self.by_target.retain(|target, contest| {
            match contest {
                Contest::Initiating { .. } | Contest::Yielded { .. } => begun.push(*target),
                // Who has asked about it asks again.
                Contest::Probing { .. } => {}
                Contest::Won { .. } | Contest::Followed { .. } => return true,
            }
            out.push(Output::NoWake(*target));
            false
        });
        begun
    }

    /// Something was heard of a registrar itself: it is not to be taken over, and others may have to be told or asked.
    pub fn on_alive(&mut self, server: ServerId, live: &Live, out: &mut Vec<Output>) {
        match self.by_target.remove(&server) {
            None => {}
            Some(Contest::Initiating { .. } | Contest::Yielded { .. }) => {
                out.extend([Output::NoWake(server), Output::Averted(server)]);
            }
            Some(Contest::Probing { .. } | Contest::Followed { .. }) => out.push(Output::NoWake(server)),
            Some(Contest::Won { .. }) => {
                // Too late. Who is to be told is an active peer again.
                out.push(Output::NoWake(server));
                out.push(Output::Send { to: server, say: Say::Takeover, target: server });
            }
        }
        self.review(live, out);
    }

    /// ENRP_INIT_TAKEOVER came.
    pub fn on_init(&mut self, from: ServerId, target: ServerId, live: &Live, out: &mut Vec<Output>) {
        if target == self.me {
            out.push(Output::ShowLife);
            return;
        }
        // Who asks is alive, unless the list of peers has no room for it.
        if from == self.me || from == target || !live.contains_key(&from) {
            return;
        }
        // A winner that is dead itself answers nobody, and one that asks has heard the target since.
        if let Some(Contest::Followed { home }) = self.by_target.get(&target)
            && (*home == from || !live.contains_key(home))
        {
            self.by_target.remove(&target);
        }
        match self.by_target.get_mut(&target) {
            None if is_heard(live, target) => {
                self.by_target.insert(target, Contest::Probing { askers: BTreeSet::from([from]) });
                out.extend([Output::Probe(target), Output::Wake(target, Wait::Rounds(1))]);
            }
            None => self.yield_to(from, target, live, out),
            Some(Contest::Probing { askers }) => {
                askers.insert(from);
            }
            Some(Contest::Initiating { asked, repeated, .. }) => {
                if self.order.prefers(from, self.me) {
                    self.yield_to(from, target, live, out);
                } else if repeated.insert(from) {
                    // No more than once a round: two of different orders would never end.
                    asked.insert(from);
                    out.push(Output::Send { to: from, say: Say::Init, target });
                }
            }
            Some(Contest::Yielded { to }) => {
                if *to == from || self.order.prefers(from, *to) {
                    self.yield_to(from, target, live, out);
                }
            }
            // The winner will tell it so, unless it has heard the target since and forgotten.
            Some(Contest::Followed { .. }) => out.push(Output::Wake(target, Wait::Rounds(YIELD))),
            // It has not heard yet, or what it was told got lost.
            Some(Contest::Won { told }) => {
                told.insert(from);
                out.push(Output::Send { to: from, say: Say::Takeover, target });
            }
        }
        self.review(live, out);
    }

    /// ENRP_INIT_TAKEOVER_ACK came.
    pub fn on_ack(&mut self, from: ServerId, target: ServerId, live: &Live, out: &mut Vec<Output>) {
        if let Some(Contest::Initiating { acknowledged, .. }) = self.by_target.get_mut(&target)
            && live.contains_key(&from)
        {
            acknowledged.insert(from);
        }
        self.review(live, out);
    }

    /// ENRP_TAKEOVER_SERVER came, about somebody else than this registrar.
    pub fn on_takeover(&mut self, from: ServerId, target: ServerId, live: &Live, out: &mut Vec<Output>) {
        if target == self.me || from == self.me || from == target {
            return;
        }
        match self.by_target.get_mut(&target) {
            Some(Contest::Won { told }) => {
                // Not by `order`, of which two may have different ideas for a while, and then would tell each other so
                // without end.
                if from > self.me {
                    self.by_target.insert(target, Contest::Followed { home: from });
                    out.extend([Output::Concede { target, home: from }, Output::Wake(target, Wait::Memory)]);
                } else {
                    told.insert(from);
                    out.push(Output::Send { to: from, say: Say::Takeover, target });
                }
            }
            Some(
                Contest::Probing { .. }
                | Contest::Initiating { .. }
                | Contest::Yielded { .. }
                | Contest::Followed { .. },
            )
            | None => {
                self.by_target.insert(target, Contest::Followed { home: from });
                out.extend([Output::Follow { target, home: from }, Output::Wake(target, Wait::Memory)]);
            }
        }
        self.review(live, out);
    }

    /// The time is up that was asked for with [`Output::Wake`].
    pub fn on_timeout(&mut self, target: ServerId, live: &Live, out: &mut Vec<Output>) {
        match self.by_target.get_mut(&target) {
            None => {}
            Some(Contest::Probing { askers }) => {
                // Silent here, too.
                let order = self.order;
                let preferred = askers.iter().copied().reduce(|a, b| if order.prefers(a, b) { a } else { b });
                self.by_target.remove(&target);
                if let Some(asker) = preferred {
                    self.yield_to(asker, target, live, out);
                }
            }
            Some(Contest::Initiating { asked, repeated, rounds, .. }) => {
                *rounds = rounds.saturating_add(1);
                // Whoever has not acknowledged is asked again.
                asked.clear();
                repeated.clear();
                let pause = 1u32.checked_shl(*rounds).unwrap_or(LONGEST_PAUSE).clamp(1, LONGEST_PAUSE);
                out.push(Output::Wake(target, Wait::Rounds(pause)));
            }
            Some(Contest::Yielded { .. }) => self.initiate(target, out),
            Some(Contest::Won { .. } | Contest::Followed { .. }) => {
                self.by_target.remove(&target);
            }
        }
        self.review(live, out);
    }

    /// Who is alive may have changed: asks those who have come, waits no longer for those who have gone, and does not
    /// rely on a winner that is dead itself.
    pub fn review(&mut self, live: &Live, out: &mut Vec<Output>) {
        let targets: Vec<ServerId> = self.by_target.keys().copied().collect();
        for target in targets {
            if let Some(Contest::Yielded { to }) = self.by_target.get(&target)
                && !live.contains_key(to)
            {
                self.by_target.remove(&target);
                out.extend([Output::NoWake(target), Output::Suspect(target)]);
            }
            match self.by_target.get_mut(&target) {
                Some(Contest::Initiating { asked, acknowledged, rounds, .. }) => {
                    asked.retain(|server| is_heard(live, *server) || *server == target);
                    let missing: Vec<ServerId> = live
                        .iter()
                        .filter(|(server, voter)| {
                            **server != target
                                && !acknowledged.contains(server)
                                && (**voter != Voter::Foreign || *rounds < ASKED_OF_FOREIGN)
                        })
                        .map(|(server, _)| *server)
                        .collect();
                    let heard = missing.iter().copied().filter(|server| is_heard(live, *server));
                    for to in heard.chain([target]) {
                        if asked.insert(to) {
                            out.push(Output::Send { to, say: Say::Init, target });
                        }
                    }
                    if missing.is_empty() {
                        self.by_target.insert(target, Contest::Won { told: BTreeSet::new() });
                        out.extend([Output::Adopt(target), Output::Wake(target, Wait::Memory)]);
                        self.tell(target, live, out);
                    }
                }
                Some(Contest::Won { .. }) => self.tell(target, live, out),
                Some(Contest::Probing { .. } | Contest::Yielded { .. } | Contest::Followed { .. }) | None => {
                }
            }
        }
    }

    /// Everybody alive is told of a takeover once, and again when it was away in between.
    fn tell(&mut self, target: ServerId, live: &Live, out: &mut Vec<Output>) {
        let Some(Contest::Won { told }) = self.by_target.get_mut(&target) else { return };
        told.retain(|server| is_heard(live, *server));
        for to in live.keys().copied().filter(|server| *server != target && is_heard(live, *server)) {
            if told.insert(to) {
                out.push(Output::Send { to, say: Say::Takeover, target });
            }
        }
    }

    fn initiate(&mut self, target: ServerId, out: &mut Vec<Output>) {
        let contest = Contest::Initiating {
            asked: BTreeSet::new(),
            repeated: BTreeSet::new(),
            acknowledged: BTreeSet::new(),
            rounds: 0,
        };
        self.by_target.insert(target, contest);
        out.extend([Output::Begun(target), Output::Wake(target, Wait::Rounds(1))]);
    }

    fn yield_to(&mut self, to: ServerId, target: ServerId, live: &Live, out: &mut Vec<Output>) {
        self.by_target.insert(target, Contest::Yielded { to });
        out.push(Output::Yielded { target, to });
        out.push(Output::Send { to, say: Say::Ack, target });
        let wait = match live.get(&to) {
            Some(Voter::Foreign) => Wait::Foreign,
            Some(Voter::Ours | Voter::Unheard) | None => Wait::Rounds(YIELD),
        };
        out.push(Output::Wake(target, wait));
    }
}

fn is_heard(live: &Live, server: ServerId) -> bool {
    matches!(live.get(&server), Some(Voter::Ours | Voter::Foreign))
}
