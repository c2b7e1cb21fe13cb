//! Registrars that are about to take each other over, and the links between them.
//!
//! Links are ordered. In a mixed scope some of the registrars are RSPLIB's: they are asked and answer as `rsplib` has it, and
//! what they have taken over shows in the table that goes with a presence.

use crate::rsplib::{Done, Rsplib};
use asap::registrar::contests::{Contests, Live, Order, Output, Say, Voter, Wait};
use asap::types::ServerId;
use std::collections::{BTreeMap, BTreeSet, VecDeque};

/// From any state, once messages flow, all is settled after as many rounds in which all timers run out once. Five
/// rounds of them are the longest anybody waits in the contests (`YIELD`), so this is a bound in time, too.
const ROUNDS_TO_SETTLE: usize = 6;

/// A registrar's place in the vectors here; its identifier is one more.
pub type Place = usize;

pub fn id(place: Place) -> ServerId {
    ServerId::new(u32::try_from(place).expect("few") + 1).expect("not 0")
}

pub fn place(id: ServerId) -> Place {
    usize::try_from(id.value()).expect("small") - 1
}

#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub enum Message {
    Presence {
        /// One of ours that hears one of RSPLIB's.
        hears_rsplib: bool,
        /// Whom the sender has taken over: told by and to RSPLIB's.
        owns: Vec<ServerId>,
    },
    Say(Say, ServerId),
}

#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Node {
    pub registrar: Registrar,
    /// Whose the elements of each are now, as far as it knows: its own, if it is not listed.
    homes: BTreeMap<ServerId, ServerId>,
}

#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub enum Registrar {
    Ours(Ours),
    Rsplib(Rsplib),
}

#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Ours {
    pub contests: Contests,
    pub live: Live,
    order: Order,
    /// It has told the others that it hears one of RSPLIB's.
    hears_rsplib: bool,
    /// Which of the others have told that.
    hearing: BTreeSet<ServerId>,
    waits: BTreeSet<ServerId>,
}

#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct State {
    /// None: crashed.
    pub nodes: Vec<Option<Node>>,
    /// Who has asked the elements of each last, to be their home: it is their home.
    pub asked: BTreeMap<ServerId, ServerId>,
    pub links: BTreeMap<(Place, Place), VecDeque<Message>>,
    pub crashes: u8,
    pub losses: u8,
    pub timeouts: u8,
    pub suspicions: u8,
    pub presences: u8,
    /// What must not happen: one completed a takeover, while another that it took for alive had completed it, too, and
    /// had not heard the target since.
    pub twice: bool,
    /// The same of two of RSPLIB's, which is theirs.
    pub twice_by_rsplib: bool,
    /// One that was taken over has been heard since: which of its elements it keeps is no matter of arbitration.
    pub heard_since: bool,
    /// What the latest step reached; taken out before the state is kept.
    pub reached: Vec<Rare>,
    /// Which are RSPLIB's.
    pub rsplib: &'static [Place],
}

/// States that have to be reached, or nothing is proved.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Rare {
    ContestOfTwo,
    ContestOfThree,
    GaveWay,
    Averted,
    Completed,
    WinnerDied,
    InitiatorDied,
    BeganAgain,
    TwoTargets,
    Conceded,
    Vetoed,
    GaveWayToRsplib,
    RsplibGaveWay,
    RsplibCompleted,
    RsplibGaveUp,
    ShownByTable,
    OrderTurned,
}

impl Node {
    fn home(&self, target: ServerId) -> ServerId {
        self.homes.get(&target).copied().unwrap_or(target)
    }

    /// What it holds as the elements of one is another's; says whose they have been first.
    fn rehome(&mut self, from: ServerId, to: ServerId) -> Vec<ServerId> {
        let others = self.homes.iter().filter(|(_, home)| **home == from).map(|(target, _)| *target);
        let all: Vec<ServerId> = others.chain((self.home(from) == from).then_some(from)).collect();
        self.homes.extend(all.iter().map(|target| (*target, to)));
        all
    }

    fn has_nothing_of(&self, target: ServerId) -> bool {
        self.home(target) != target && !self.homes.values().any(|home| *home == target)
    }

    fn has_completed(&self, me: ServerId, target: ServerId) -> bool {
        let won = self.ours().is_none_or(|ours| ours.contests.has_won(target));
        won && target != me && self.home(target) == me
    }

    fn is_initiating(&self, target: ServerId) -> bool {
        match &self.registrar {
            Registrar::Ours(ours) => ours.contests.is_initiating(target),
            Registrar::Rsplib(rsplib) => rsplib.takeovers.contains_key(&target),
        }
    }

    /// Whom it takes for alive and has not accused.
    pub fn hears(&self) -> Vec<ServerId> {
        match &self.registrar {
            Registrar::Ours(ours) => ours.live.keys().copied().collect(),
            Registrar::Rsplib(rsplib) => {
                let peers = rsplib.peers.iter().copied();
                peers.filter(|peer| !rsplib.takeovers.contains_key(peer)).collect()
            }
        }
    }

    fn waits(&self) -> Vec<ServerId> {
        match &self.registrar {
            Registrar::Ours(ours) => ours.waits.iter().copied().collect(),
            Registrar::Rsplib(rsplib) => rsplib.takeovers.keys().copied().collect(),
        }
    }

    fn yielded_to(&self, winner: ServerId) -> Vec<ServerId> {
        self.ours().map(|ours| ours.contests.yielded_to(winner)).unwrap_or_default()
    }

    fn has_yielded(&self, target: ServerId) -> bool {
        self.ours().is_some_and(|ours| ours.contests.has_yielded(target))
    }

    fn ours(&self) -> Option<&Ours> {
        match &self.registrar {
            Registrar::Ours(ours) => Some(ours),
            Registrar::Rsplib(_) => None,
        }
    }
}

impl State {
    /// All take all for alive; with `unseen` those of RSPLIB's have just come, and nobody has heard of them.
    pub fn new(nodes: usize, rsplib: &'static [Place], unseen: bool) -> State {
        let mixed = !rsplib.is_empty() && !unseen;
        let registrar = |me: Place| {
            if rsplib.contains(&me) {
                return Registrar::Rsplib(Rsplib::new(id(me), nodes));
            }
            let peers = || (0..nodes).filter(|peer| *peer != me);
            let ours = || peers().filter(|peer| !rsplib.contains(peer)).map(id);
            let known = peers().filter(|peer| !(unseen && rsplib.contains(peer)));
            let voter = |peer| if rsplib.contains(&peer) { Voter::Foreign } else { Voter::Ours };
            let order = if mixed { Order::LowerWins } else { Order::HigherWins };
            let mut contests = Contests::new(id(me));
            contests.set_order(order, &Live::new(), &mut Vec::new());
            Registrar::Ours(Ours {
                contests,
                live: known.map(|peer| (id(peer), voter(peer))).collect(),
                order,
                hears_rsplib: mixed,
                hearing: if mixed { ours().collect() } else { BTreeSet::new() },
                waits: BTreeSet::new(),
            })
        };
        let node = |me| Some(Node { registrar: registrar(me), homes: BTreeMap::new() });
        State {
            nodes: (0..nodes).map(node).collect(),
            asked: BTreeMap::new(),
            links: BTreeMap::new(),
            crashes: 0,
            losses: 0,
            timeouts: 0,
            suspicions: 0,
            presences: 0,
            twice: false,
            twice_by_rsplib: false,
            heard_since: false,
            reached: Vec::new(),
            rsplib,
        }
    }

    pub fn is_rsplib(&self, place: Place) -> bool {
        self.rsplib.contains(&place)
    }

    fn node_mut(&mut self, place: Place) -> &mut Node {
        self.nodes[place].as_mut().expect("it acts")
    }

    fn ours_mut(&mut self, place: Place) -> Option<&mut Ours> {
        match &mut self.nodes[place].as_mut()?.registrar {
            Registrar::Ours(ours) => Some(ours),
            Registrar::Rsplib(_) => None,
        }
    }

    fn rsplib_mut(&mut self, place: Place) -> Option<&mut Rsplib> {
        match &mut self.nodes[place].as_mut()?.registrar {
            Registrar::Ours(_) => None,
            Registrar::Rsplib(rsplib) => Some(rsplib),
        }
    }

    fn send(&mut self, from: Place, to: Place, message: Message) {
        // Nobody reads what is sent to the dead.
        if self.nodes[to].is_some() {
            self.links.entry((from, to)).or_default().push_back(message);
        }
    }

    pub fn show(&mut self, from: Place, to: Place) {
        let Some(node) = &self.nodes[from] else { return };
        let hears_rsplib = node.ours().is_some_and(|ours| ours.hears_rsplib);
        let owns = if self.is_rsplib(from) || self.is_rsplib(to) { self.owned(from) } else { Vec::new() };
        self.send(from, to, Message::Presence { hears_rsplib, owns });
    }

    fn show_all(&mut self, from: Place) {
        for to in (0..self.nodes.len()).filter(|to| *to != from) {
            self.show(from, to);
        }
    }

    /// Whom it has taken over.
    fn owned(&self, place: Place) -> Vec<ServerId> {
        let homes = self.nodes[place].iter().flat_map(|node| &node.homes);
        homes.filter(|(_, home)| **home == id(place)).map(|(target, _)| *target).collect()
    }

    /// Whether one of RSPLIB's has something in its table that the other has not been told yet.
    pub fn has_news(&self, from: Place, to: Place) -> bool {
        let Some(node) = self.nodes[to].as_ref().filter(|_| self.is_rsplib(from)) else { return false };
        let tells = |message: &Message| matches!(message, Message::Presence { owns, .. } if !owns.is_empty());
        !self.links.get(&(from, to)).is_some_and(|queue| queue.iter().any(tells))
            && self.owned(from).iter().any(|target| node.home(*target) != id(from))
    }

    pub fn is_quiet(&self, from: Place, to: Place) -> bool {
        !self.links.contains_key(&(from, to))
    }

    fn pop(&mut self, from: Place, to: Place) -> Option<Message> {
        let queue = self.links.get_mut(&(from, to))?;
        let message = queue.pop_front();
        if queue.is_empty() {
            self.links.remove(&(from, to));
        }
        message
    }

    /// Lets the contests of one of ours do something, and carries out what they want done.
    fn step(&mut self, me: Place, act: impl FnOnce(&mut Contests, &Live, &mut Vec<Output>)) {
        let rsplib = self.rsplib;
        let Some(ours) = self.ours_mut(me) else { return };
        // The others must know before anything else is said.
        let hears = ours.live.keys().any(|peer| rsplib.contains(&place(*peer)));
        if hears != std::mem::replace(&mut ours.hears_rsplib, hears) {
            self.show_all(me);
        }
        let Some(ours) = self.ours_mut(me) else { return };
        let by_rsplib = |peer: &ServerId| rsplib.contains(&place(*peer)) || ours.hearing.contains(peer);
        let order = Order::of_scope(ours.live.keys().map(by_rsplib));
        let turned = order != std::mem::replace(&mut ours.order, order);
        let mut out = Vec::new();
        ours.contests.set_order(order, &ours.live, &mut out);
        let begun_again = turned && out.iter().any(|output| matches!(output, Output::Begun(_)));
        act(&mut ours.contests, &ours.live, &mut out);
        self.reached.extend(begun_again.then_some(Rare::OrderTurned));
        for output in out {
            self.carry_out(me, output);
        }
    }

    fn carry_out(&mut self, me: Place, output: Output) {
        match output {
            Output::Send { to, say, target } => self.send(me, place(to), Message::Say(say, target)),
            Output::Probe(target) => {
                self.reached.push(Rare::Vetoed);
                // Its answer, if it lives and the question arrives.
                self.show(place(target), me);
            }
            Output::ShowLife => self.show_all(me),
            // Memory outlasts every contest.
            Output::Wake(target, Wait::Memory) | Output::NoWake(target) => {
                self.ours_mut(me).expect("it acts").waits.remove(&target);
            }
            Output::Wake(target, wait @ (Wait::Rounds(_) | Wait::Foreign)) => {
                assert!(wait != Wait::Rounds(0));
                self.ours_mut(me).expect("it acts").waits.insert(target);
            }
            Output::Begun(target) => self.count_contest(me, target),
            Output::Yielded { to, .. } => self.reached.push(match self.is_rsplib(place(to)) {
                true => Rare::GaveWayToRsplib,
                false => Rare::GaveWay,
            }),
            Output::Averted(_) => self.reached.push(Rare::Averted),
            // Whether it is silent shows later.
            Output::Suspect(target) => {
                self.ours_mut(me).expect("it acts").live.insert(target, Voter::Unheard);
            }
            Output::Adopt(target) => {
                self.reached.push(Rare::Completed);
                self.complete(me, target);
            }
            Output::Follow { target, home } => _ = self.node_mut(me).rehome(target, home),
            Output::Concede { target, home } => {
                self.reached.push(Rare::Conceded);
                let node = self.node_mut(me);
                if node.home(target) == id(me) {
                    node.homes.insert(target, home);
                    self.asked.insert(target, home);
                }
            }
        }
    }

    fn count_contest(&mut self, me: Place, target: ServerId) {
        match self.nodes.iter().flatten().filter(|node| node.is_initiating(target)).count() {
            2 => self.reached.push(Rare::ContestOfTwo),
            3 => self.reached.push(Rare::ContestOfThree),
            _ => {}
        }
        let node = self.nodes[me].as_ref().expect("it acts");
        if (0..self.nodes.len()).filter(|target| node.is_initiating(id(*target))).count() > 1 {
            self.reached.push(Rare::TwoTargets);
        }
    }

    fn complete(&mut self, me: Place, target: ServerId) {
        let adopted = self.node_mut(me).rehome(target, id(me));
        self.asked.extend(adopted.into_iter().map(|target| (target, id(me))));
        let node = self.nodes[me].as_ref().expect("it acts");
        let completed = |peer: &Place| {
            self.nodes[*peer].as_ref().is_some_and(|node| node.has_completed(id(*peer), target))
        };
        let (theirs, others): (Vec<Place>, Vec<Place>) = (node.hears().into_iter().map(place))
            .filter(|_| node.has_completed(id(me), target))
            .filter(completed)
            .partition(|peer| self.is_rsplib(*peer) && self.is_rsplib(me));
        self.twice |= !others.is_empty();
        self.twice_by_rsplib |= !theirs.is_empty();
    }

    /// Lets one of RSPLIB's do something, and carries out what it wants done.
    fn step_rsplib(&mut self, me: Place, act: impl FnOnce(&mut Rsplib) -> Done) {
        let Some(rsplib) = self.rsplib_mut(me) else { return };
        let done = act(rsplib);
        for (to, message) in done.send {
            self.send(me, place(to), message);
        }
        if done.show_life {
            self.show_all(me);
        }
        if let Some(target) = done.completed {
            self.reached.push(Rare::RsplibCompleted);
            self.complete(me, target);
        }
    }

    fn hear(&mut self, me: Place, from: Place) {
        self.heard_since |= self.asked.contains_key(&id(from));
        let voter = if self.is_rsplib(from) { Voter::Foreign } else { Voter::Ours };
        if let Some(ours) = self.ours_mut(me) {
            ours.live.insert(id(from), voter);
        }
        self.step(me, |contests, live, out| contests.on_alive(id(from), live, out));
    }

    pub fn deliver(&mut self, from: Place, to: Place) {
        let Some(message) = self.pop(from, to) else { return };
        match self.is_rsplib(to) {
            true => self.deliver_to_rsplib(id(from), to, message),
            false => self.deliver_to_ours(from, to, message),
        }
    }

    fn deliver_to_ours(&mut self, from: Place, to: Place, message: Message) {
        self.hear(to, from);
        let (from, me) = (id(from), id(to));
        match message {
            Message::Presence { hears_rsplib, owns } => {
                let Some(ours) = self.ours_mut(to) else { return };
                if hears_rsplib {
                    ours.hearing.insert(from);
                } else {
                    ours.hearing.remove(&from);
                }
                self.step(to, |_, _, _| {});
                if self.is_rsplib(place(from)) {
                    self.on_table(to, from, owns);
                }
            }
            Message::Say(Say::Init, target) => {
                self.step(to, |contests, live, out| contests.on_init(from, target, live, out));
            }
            Message::Say(Say::Ack, target) => {
                self.step(to, |contests, live, out| contests.on_ack(from, target, live, out));
            }
            // The registrar gives its elements up, which is no matter of arbitration.
            Message::Say(Say::Takeover, target) if target == me => {}
            Message::Say(Say::Takeover, target) => {
                self.step(to, |contests, live, out| contests.on_takeover(from, target, live, out));
            }
        }
    }

    /// The table of one of RSPLIB's: where nothing is left of whom it wanted to take over, it has done so.
    fn on_table(&mut self, me: Place, from: ServerId, owns: Vec<ServerId>) {
        let Some(node) = &mut self.nodes[me] else { return };
        node.homes.extend(owns.into_iter().map(|target| (target, from)));
        let shown = node.yielded_to(from).into_iter().filter(|target| node.has_nothing_of(*target));
        for target in shown.collect::<Vec<_>>() {
            self.reached.push(Rare::ShownByTable);
            self.step(me, |contests, live, out| contests.on_takeover(from, target, live, out));
        }
    }

    fn deliver_to_rsplib(&mut self, from: ServerId, to: Place, message: Message) {
        match message {
            Message::Presence { owns, .. } => {
                self.step_rsplib(to, |rsplib| {
                    rsplib.on_presence(from);
                    Done::default()
                });
                self.node_mut(to).homes.extend(owns.into_iter().map(|target| (target, from)));
            }
            Message::Say(Say::Init, target) => {
                let was_initiating = self.nodes[to].as_ref().is_some_and(|node| node.is_initiating(target));
                self.step_rsplib(to, |rsplib| rsplib.on_init(from, target));
                if was_initiating && !self.nodes[to].as_ref().is_some_and(|node| node.is_initiating(target)) {
                    self.reached.push(Rare::RsplibGaveWay);
                }
            }
            Message::Say(Say::Ack, target) => self.step_rsplib(to, |rsplib| rsplib.on_ack(from, target)),
            Message::Say(Say::Takeover, target) if target == id(to) => {}
            Message::Say(Say::Takeover, target) => {
                self.step_rsplib(to, |rsplib| {
                    rsplib.on_takeover(target);
                    Done::default()
                });
                self.node_mut(to).rehome(target, from);
            }
        }
    }

    pub fn suspect(&mut self, me: Place, peer: Place) {
        if let Some(ours) = self.ours_mut(me) {
            ours.live.remove(&id(peer));
            self.step(me, |contests, live, out| contests.review(live, out));
        }
        let Some(node) = &self.nodes[me] else { return };
        let (target, emptied) = (id(peer), node.has_nothing_of(id(peer)));
        match &node.registrar {
            Registrar::Ours(ours) if emptied && ours.order == Order::LowerWins => {}
            Registrar::Ours(_) => {
                self.step(me, |contests, live, out| contests.begin(target, live, out));
            }
            Registrar::Rsplib(_) => {
                self.step_rsplib(me, |rsplib| rsplib.accuse(target, !emptied));
                self.count_contest(me, target);
            }
        }
    }

    /// RSPLIB's do not notice that a link is lost, but who is at its other end does.
    pub fn lose(&mut self, from: Place, to: Place) {
        self.links.remove(&(from, to));
        let (me, peer) = if self.is_rsplib(from) { (to, from) } else { (from, to) };
        let Some(ours) = self.ours_mut(me) else { return };
        if let Some(voter) = ours.live.get_mut(&id(peer)) {
            *voter = Voter::Unheard;
            self.step(me, |contests, live, out| contests.review(live, out));
            self.show(peer, me);
        }
    }

    pub fn crash(&mut self, place: Place) {
        let me = id(place);
        let Some(node) = self.nodes[place].take() else { return };
        let targets = || (0..self.nodes.len()).map(id);
        if targets().any(|target| node.has_completed(me, target)) {
            self.reached.push(Rare::WinnerDied);
        }
        if targets().any(|target| node.is_initiating(target)) {
            self.reached.push(Rare::InitiatorDied);
        }
        self.links.retain(|(_, to), _| id(*to) != me);
    }

    /// Whose time may run out at a registrar. Who has given way to one of RSPLIB's waits for longer than its takeover takes, until
    /// it shows in its table.
    pub fn may_time_out(&self, me: Place) -> Vec<ServerId> {
        let Some(node) = &self.nodes[me] else { return Vec::new() };
        let awaited = |target: &ServerId| {
            let its_takeover_shows_yet = |winner: &Place| {
                let its = self.nodes[*winner].as_ref();
                node.yielded_to(id(*winner)).contains(target)
                    && its
                        .is_some_and(|it| it.is_initiating(*target) || it.has_completed(id(*winner), *target))
            };
            self.rsplib.iter().any(its_takeover_shows_yet)
                || node.has_yielded(*target) && self.is_late_answer_under_way(me, *target)
        };
        node.waits().into_iter().filter(|target| !awaited(target)).collect()
    }

    /// Whether a registrar may take another for dead. If it has given way to that one it has heard it since its own question,
    /// and it is silent for longer than the answers are under way.
    pub fn may_suspect(&self, me: Place, peer: Place) -> bool {
        let Some(node) = &self.nodes[me] else { return false };
        !node.yielded_to(id(peer)).into_iter().any(|target| self.is_late_answer_under_way(me, target))
    }

    /// While the order turns two may give way to each other. What is said of a mixed scope holds if who has given way begins
    /// anew no earlier than the answers to its former question have come.
    fn is_late_answer_under_way(&self, me: Place, target: ServerId) -> bool {
        let to_me = self.links.iter().filter(|((_, to), _)| *to == me).flat_map(|(_, queue)| queue);
        !self.rsplib.is_empty() && to_me.into_iter().any(|message| *message == Message::Say(Say::Ack, target))
    }

    pub fn time_out(&mut self, me: Place, target: ServerId) {
        let Some(node) = &mut self.nodes[me] else { return };
        let (yielded, emptied) = (node.has_yielded(target), node.has_nothing_of(target));
        let open = node.is_initiating(target) || yielded;
        match &mut node.registrar {
            Registrar::Ours(ours) if open && emptied && ours.order == Order::LowerWins => {
                self.step(me, |contests, _, out| contests.end(target, out));
            }
            Registrar::Ours(ours) => {
                ours.waits.remove(&target);
                self.reached.extend(yielded.then_some(Rare::BeganAgain));
                self.step(me, |contests, live, out| contests.on_timeout(target, live, out));
            }
            Registrar::Rsplib(rsplib) => {
                rsplib.give_up(target);
                self.reached.push(Rare::RsplibGaveUp);
            }
        }
    }

    /// From now on messages flow: what is under way arrives, the dead are noticed, the living are heard by all, and
    /// time passes. Gives the state after as many rounds.
    pub fn settled(&self) -> State {
        let mut state = self.clone();
        let places = || (0..self.nodes.len()).flat_map(|a| (0..self.nodes.len()).map(move |b| (a, b)));
        for (from, to) in places().filter(|(a, b)| a != b) {
            state.show(from, to);
        }
        state.flush();
        for _ in 0..ROUNDS_TO_SETTLE {
            // Who gave way to one that is dead now suspects the target anew.
            for (me, peer) in places().filter(|(a, b)| a != b) {
                if state.nodes[me].as_ref().is_some_and(|node| node.hears().contains(&id(peer)))
                    && state.nodes[peer].is_none()
                {
                    state.suspect(me, peer);
                }
            }
            state.flush();
            for me in 0..state.nodes.len() {
                for target in state.may_time_out(me) {
                    state.time_out(me, target);
                }
            }
            state.flush();
            for (from, to) in places().filter(|(a, b)| a != b) {
                if state.is_rsplib(from) || state.is_rsplib(to) {
                    state.show(from, to);
                }
            }
            state.flush();
        }
        // An element that has acknowledged its home is told of to all.
        for (target, home) in &state.asked {
            let at_home = state.nodes[place(*home)].as_ref().filter(|node| node.home(*target) == *home);
            if at_home.is_some() {
                let living = state.nodes.iter_mut().flatten();
                living.for_each(|node| _ = node.homes.insert(*target, *home));
            }
        }
        state
    }

    fn flush(&mut self) {
        let mut deliveries = 0;
        while let Some((from, to)) = self.links.keys().next().copied() {
            self.deliver(from, to);
            deliveries += 1;
            assert!(deliveries < 10_000, "messages beget messages without end: {self:?}");
        }
    }

    /// Nobody asks, waits or gives way any more; and the elements of everybody who is dead have one home, the same for all,
    /// that lives. RSPLIB's alone are not held to it.
    pub fn is_settled(&self) -> bool {
        let living = || self.nodes.iter().enumerate().filter_map(|(at, node)| Some((id(at), node.as_ref()?)));
        let targets = || (0..self.nodes.len()).map(id);
        if living().all(|(_, node)| node.ours().is_none()) {
            return true;
        }
        let is_open = |node: &Node| {
            let open = |target| node.is_initiating(target) || node.has_yielded(target);
            !node.waits().is_empty() || targets().any(open)
        };
        if living().any(|(_, node)| is_open(node)) {
            return false;
        }
        targets().all(|target| {
            let won = |(me, node): &(ServerId, &Node)| node.has_completed(*me, target);
            let winners = living().filter(won).count();
            if self.nodes[place(target)].is_some() {
                return winners == 0;
            }
            let home = self.asked.get(&target).copied();
            let at_home = home.is_some_and(|home| self.nodes[place(home)].is_some())
                && living().all(|(_, node)| Some(node.home(target)) == home);
            self.twice_by_rsplib || winners <= 1 && (at_home || self.heard_since)
        })
    }
}
