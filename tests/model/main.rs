//! All interleavings of the takeover arbitration in small scopes: `asap::registrar::contests` is the machine that
//! ships; around it are registrars that crash, are suspected, rightly or not, and are heard again, and links that are
//! ordered and, where the scope says so, lose messages.
//!
//! What is checked, and what it is checked for, is in docs/guarantees.md, "Takeover". `MODEL_SCOPE=large` checks larger
//! scopes (`make soak`).

use asap::registrar::contests::{Contests, Live, Order, Output, Say, Voter, Wait};
use asap::types::ServerId;
use stateright::{Checker, Model, Property};
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::{Arc, Mutex};
use std::time::Instant;

/// From any state, once messages flow, all is settled after as many rounds in which all timers run out once. Five
/// rounds of them are the longest anybody waits in the contests (`YIELD`), so this is a bound in time, too.
const ROUNDS_TO_SETTLE: usize = 6;

/// A registrar's place in the vectors here; its identifier is one more.
type Place = usize;

fn id(place: Place) -> ServerId {
    ServerId::new(u32::try_from(place).expect("few") + 1).expect("not 0")
}

fn place(id: ServerId) -> Place {
    usize::try_from(id.value()).expect("small") - 1
}

#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
enum Message {
    Presence,
    Say(Say, ServerId),
}

#[derive(Clone, PartialEq, Eq, Hash, Debug)]
struct Node {
    contests: Contests,
    live: Live,
    waits: BTreeSet<ServerId>,
    /// Whose elements it has made its own.
    owns: BTreeSet<ServerId>,
    /// Whose elements it takes for another's.
    follows: BTreeMap<ServerId, ServerId>,
}

#[derive(Clone, PartialEq, Eq, Hash, Debug)]
struct State {
    /// None: crashed.
    nodes: Vec<Option<Node>>,
    links: BTreeMap<(Place, Place), VecDeque<Message>>,
    crashes: u8,
    losses: u8,
    timeouts: u8,
    suspicions: u8,
    presences: u8,
    /// What must not happen: one completed a takeover, while another that it took for alive had completed it, too, and
    /// had not heard the target since.
    twice: bool,
    /// What the latest step reached; taken out before the state is kept.
    reached: Vec<Rare>,
}

/// States that have to be reached, or nothing is proved.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
enum Rare {
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
    ToldLate,
}

#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
enum Action {
    Deliver(Place, Place),
    /// The link from the first to the second is lost, and what is under way on it. The first notices, and hears the second
    /// again when there is a new one.
    Lose(Place, Place),
    Crash(Place),
    /// The first takes the second for dead.
    Suspect(Place, Place),
    Timeout(Place, ServerId),
    /// The first shows the second that it lives.
    Show(Place, Place),
}

/// Who crashes, or is taken for dead though it lives.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Accused {
    /// Only the one in the last place.
    Last,
    Any,
}

#[derive(Clone, Debug)]
struct Scope {
    name: &'static str,
    nodes: usize,
    order: Order,
    crashes: u8,
    losses: u8,
    timeouts: u8,
    /// Of those that live.
    suspicions: u8,
    accused: Accused,
    presences: u8,
    must_reach: &'static [Rare],
    reached: Arc<Mutex<BTreeMap<Rare, u64>>>,
}

impl State {
    fn new(scope: &Scope) -> State {
        let nodes = (0..scope.nodes)
            .map(|me| {
                let mut contests = Contests::new(id(me));
                contests.set_order(scope.order, &Live::new(), &mut Vec::new());
                let live = (0..scope.nodes).filter(|peer| *peer != me).map(|peer| (id(peer), Voter::Ours));
                Some(Node {
                    contests,
                    live: live.collect(),
                    waits: BTreeSet::new(),
                    owns: BTreeSet::new(),
                    follows: BTreeMap::new(),
                })
            })
            .collect();
        State {
            nodes,
            links: BTreeMap::new(),
            crashes: scope.crashes,
            losses: scope.losses,
            timeouts: scope.timeouts,
            suspicions: scope.suspicions,
            presences: scope.presences,
            twice: false,
            reached: Vec::new(),
        }
    }

    fn send(&mut self, from: Place, to: Place, message: Message) {
        // Nobody reads what is sent to the dead.
        if self.nodes[to].is_some() {
            self.links.entry((from, to)).or_default().push_back(message);
        }
    }

    fn is_quiet(&self, from: Place, to: Place) -> bool {
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

    /// Lets a registrar's contests do something, and carries out what they want done.
    fn step(&mut self, me: Place, act: impl FnOnce(&mut Contests, &Live, &mut Vec<Output>)) {
        let Some(node) = &mut self.nodes[me] else { return };
        let mut out = Vec::new();
        act(&mut node.contests, &node.live, &mut out);
        for output in out {
            let Some(node) = &mut self.nodes[me] else { return };
            match output {
                Output::Send { to, say, target } => {
                    if say == Say::Takeover && node.follows.contains_key(&to) {
                        self.reached.push(Rare::ToldLate);
                    }
                    self.send(me, place(to), Message::Say(say, target));
                }
                Output::Probe(target) => {
                    self.reached.push(Rare::Vetoed);
                    // Its answer, if it lives and the question arrives.
                    let target = place(target);
                    if self.nodes[target].is_some() {
                        self.send(target, me, Message::Presence);
                    }
                }
                Output::ShowLife => {
                    for peer in 0..self.nodes.len() {
                        if peer != me {
                            self.send(me, peer, Message::Presence);
                        }
                    }
                }
                // Memory outlasts every contest.
                Output::Wake(target, Wait::Memory) | Output::NoWake(target) => {
                    node.waits.remove(&target);
                }
                Output::Wake(target, wait @ (Wait::Rounds(_) | Wait::Foreign)) => {
                    assert!(wait != Wait::Rounds(0));
                    node.waits.insert(target);
                }
                Output::Begun(target) => {
                    let others = self.nodes.iter().flatten();
                    let begun = others.filter(|node| node.contests.is_initiating(target)).count();
                    match begun {
                        2 => self.reached.push(Rare::ContestOfTwo),
                        3 => self.reached.push(Rare::ContestOfThree),
                        _ => {}
                    }
                    let node = self.nodes[me].as_ref().expect("it acts");
                    let targets = (0..self.nodes.len()).filter(|t| node.contests.is_initiating(id(*t)));
                    if targets.count() > 1 {
                        self.reached.push(Rare::TwoTargets);
                    }
                }
                Output::Yielded { .. } => self.reached.push(Rare::GaveWay),
                Output::Averted(_) => self.reached.push(Rare::Averted),
                Output::Adopt(target) => {
                    node.owns.insert(target);
                    node.follows.remove(&target);
                    self.reached.push(Rare::Completed);
                    let alive: Vec<Place> = node.live.keys().map(|peer| place(*peer)).collect();
                    self.twice |= alive.into_iter().any(|peer| {
                        self.nodes[peer].as_ref().is_some_and(|node| node.contests.has_won(target))
                    });
                }
                Output::Follow { target, home } => {
                    node.owns.remove(&target);
                    node.follows.insert(target, home);
                }
                Output::Concede { target, home } => {
                    self.reached.push(Rare::Conceded);
                    node.owns.remove(&target);
                    node.follows.insert(target, home);
                }
            }
        }
    }

    fn hear(&mut self, me: Place, from: Place) {
        if let Some(node) = &mut self.nodes[me] {
            node.live.insert(id(from), Voter::Ours);
        }
        self.step(me, |contests, live, out| contests.on_alive(id(from), live, out));
    }

    fn deliver(&mut self, from: Place, to: Place) {
        let Some(message) = self.pop(from, to) else { return };
        self.hear(to, from);
        let (from, me) = (id(from), id(to));
        self.step(to, |contests, live, out| match message {
            Message::Presence => {}
            Message::Say(Say::Init, target) => contests.on_init(from, target, live, out),
            Message::Say(Say::Ack, target) => contests.on_ack(from, target, live, out),
            // The registrar gives its elements up, which is no matter of arbitration.
            Message::Say(Say::Takeover, target) if target == me => {}
            Message::Say(Say::Takeover, target) => contests.on_takeover(from, target, live, out),
        });
    }

    fn suspect(&mut self, me: Place, peer: Place) {
        if let Some(node) = &mut self.nodes[me] {
            node.live.remove(&id(peer));
        }
        self.step(me, |contests, live, out| contests.begin(id(peer), live, out));
    }

    fn lose(&mut self, from: Place, to: Place) {
        self.links.remove(&(from, to));
        let Some(node) = &mut self.nodes[from] else { return };
        if let Some(voter) = node.live.get_mut(&id(to)) {
            *voter = Voter::Unheard;
            self.step(from, |contests, live, out| contests.review(live, out));
            if self.nodes[to].is_some() {
                self.send(to, from, Message::Presence);
            }
        }
    }

    fn crash(&mut self, place: Place) {
        let me = id(place);
        let Some(node) = self.nodes[place].take() else { return };
        let targets = || (0..self.nodes.len()).map(id);
        if targets().any(|target| node.contests.has_won(target)) {
            self.reached.push(Rare::WinnerDied);
        }
        if targets().any(|target| node.contests.is_initiating(target)) {
            self.reached.push(Rare::InitiatorDied);
        }
        self.links.retain(|(_, to), _| id(*to) != me);
    }

    fn time_out(&mut self, me: Place, target: ServerId) {
        let Some(node) = &mut self.nodes[me] else { return };
        node.waits.remove(&target);
        if node.contests.has_yielded(target) {
            self.reached.push(Rare::BeganAgain);
        }
        self.step(me, |contests, live, out| contests.on_timeout(target, live, out));
    }

    /// From now on messages flow: what is under way arrives, the dead are noticed, the living are heard by all, and
    /// time passes. Gives the state after as many rounds.
    fn settled(&self) -> State {
        let mut state = self.clone();
        let places = || (0..self.nodes.len()).flat_map(|a| (0..self.nodes.len()).map(move |b| (a, b)));
        for (from, to) in places().filter(|(a, b)| a != b) {
            if state.nodes[from].is_some() {
                state.send(from, to, Message::Presence);
            }
        }
        state.flush();
        for (me, peer) in places().filter(|(a, b)| a != b) {
            if state.nodes[me].as_ref().is_some_and(|node| node.live.contains_key(&id(peer)))
                && state.nodes[peer].is_none()
            {
                state.suspect(me, peer);
            }
        }
        state.flush();
        for _ in 0..ROUNDS_TO_SETTLE {
            for me in 0..state.nodes.len() {
                for target in state.nodes[me].as_ref().map(|node| node.waits.clone()).unwrap_or_default() {
                    state.time_out(me, target);
                }
            }
            state.flush();
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

    /// Nobody asks, waits or gives way any more; and of everybody who is dead there is one winner, or one that is dead
    /// too and whom those follow who live.
    fn is_settled(&self) -> bool {
        let living = || self.nodes.iter().flatten();
        if living().any(|node| !node.waits.is_empty()) || living().any(|node| self.is_open(node)) {
            return false;
        }
        (0..self.nodes.len()).map(id).all(|target| {
            let winners = living().filter(|node| node.contests.has_won(target)).count();
            if self.nodes[place(target)].is_some() {
                return winners == 0;
            }
            let dead = |server: &ServerId| self.nodes[place(*server)].is_none();
            winners == 1
                || (winners == 0 && living().all(|node| node.follows.get(&target).is_some_and(dead)))
                || living().count() == 0
        })
    }

    fn is_open(&self, node: &Node) -> bool {
        (0..self.nodes.len())
            .map(id)
            .any(|target| node.contests.is_initiating(target) || node.contests.has_yielded(target))
    }
}

impl Model for Scope {
    type State = State;
    type Action = Action;

    fn init_states(&self) -> Vec<State> {
        vec![State::new(self)]
    }

    fn actions(&self, state: &State, actions: &mut Vec<Action>) {
        for &(from, to) in state.links.keys() {
            actions.push(Action::Deliver(from, to));
            if state.losses > 0 {
                actions.push(Action::Lose(from, to));
            }
        }
        for (me, node) in state.nodes.iter().enumerate() {
            let Some(node) = node else { continue };
            if state.crashes > 0 && (self.suspicions == 0 || self.may_be_accused(me)) {
                actions.push(Action::Crash(me));
            }
            if state.timeouts > 0 {
                actions.extend(node.waits.iter().map(|target| Action::Timeout(me, *target)));
            }
            for peer in node.live.keys().map(|peer| place(*peer)) {
                let dead = state.nodes[peer].is_none() && state.is_quiet(peer, me);
                let mistaken =
                    state.nodes[peer].is_some() && state.suspicions > 0 && self.may_be_accused(peer);
                if dead || mistaken {
                    actions.push(Action::Suspect(me, peer));
                }
            }
            if state.presences > 0 {
                let peers = (0..self.nodes).filter(|peer| *peer != me && state.nodes[*peer].is_some());
                // Only what may change something.
                let doubtful = peers.filter(|peer| {
                    let peer = state.nodes[*peer].as_ref().expect("lives");
                    !peer.live.contains_key(&id(me))
                });
                actions.extend(doubtful.map(|peer| Action::Show(me, peer)));
            }
        }
    }

    fn next_state(&self, last: &State, action: Action) -> Option<State> {
        let mut state = last.clone();
        match action {
            Action::Deliver(from, to) => state.deliver(from, to),
            Action::Lose(from, to) => {
                state.losses -= 1;
                state.lose(from, to);
            }
            Action::Crash(place) => {
                state.crashes -= 1;
                state.crash(place);
            }
            Action::Suspect(me, peer) => {
                if state.nodes[peer].is_some() {
                    state.suspicions -= 1;
                }
                state.suspect(me, peer);
            }
            Action::Timeout(me, target) => {
                state.timeouts -= 1;
                state.time_out(me, target);
            }
            Action::Show(me, peer) => {
                state.presences -= 1;
                state.send(me, peer, Message::Presence);
            }
        }
        let mut reached = self.reached.lock().expect("no panic");
        for rare in state.reached.drain(..) {
            *reached.entry(rare).or_default() += 1;
        }
        drop(reached);
        (state != *last).then_some(state)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        let mut properties = vec![Property::<Self>::always("settles with one winner", |_, state| {
            state.settled().is_settled()
        })];
        // Where those that live take each other for dead, both sides go on: that is what a partition is. And an
        // acknowledgement that was under way when the target was heard may be taken for one to the next question.
        if self.suspicions == 0 {
            properties.push(Property::<Self>::always("completes once", |_, state| !state.twice));
        }
        properties
    }
}

/// Goes through a scope; prints how much there was.
fn check(scope: Scope) {
    let (name, must_reach, reached) = (scope.name, scope.must_reach, scope.reached.clone());
    let begun = Instant::now();
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let checker = scope.checker().threads(threads).spawn_bfs().join();
    let (states, unique, depth) = (checker.state_count(), checker.unique_state_count(), checker.max_depth());
    println!("{name}: {unique} states ({states} steps), depth {depth}, {:.1?}", begun.elapsed());
    let reached = reached.lock().expect("no panic").clone();
    println!("  reached {reached:?}");
    if let Some((property, path)) = checker.discoveries().into_iter().next() {
        let last = path.last_state().clone();
        let settled = last.settled();
        let path = path.into_actions();
        panic!("{name}: not held: {property}\n{path:?}\nleads to\n{last:?}\nand that to\n{settled:?}");
    }
    for rare in must_reach {
        assert!(reached.contains_key(rare), "{name}: never reached {rare:?}");
    }
}

impl Scope {
    fn may_be_accused(&self, place: Place) -> bool {
        self.accused == Accused::Any || place + 1 == self.nodes
    }
}

fn is_large() -> bool {
    std::env::var_os("MODEL_SCOPE").is_some_and(|scope| scope == "large")
}

fn scope(name: &'static str, nodes: usize) -> Scope {
    Scope {
        name,
        nodes,
        order: Order::HigherWins,
        crashes: 1,
        losses: 0,
        timeouts: 0,
        suspicions: 0,
        accused: Accused::Last,
        presences: 0,
        must_reach: &[],
        reached: Arc::default(),
    }
}

#[test]
fn two_that_notice_agree_on_one() {
    for order in [Order::HigherWins, Order::LowerWins] {
        check(Scope {
            order,
            timeouts: 2,
            losses: if is_large() { 2 } else { 1 },
            must_reach: &[Rare::ContestOfTwo, Rare::GaveWay, Rare::Completed, Rare::BeganAgain, Rare::Vetoed],
            ..scope("one of three dies", 3)
        });
    }
}

#[test]
fn a_winner_that_dies_is_replaced() {
    check(Scope {
        crashes: 2,
        timeouts: 2,
        losses: 1,
        must_reach: &[Rare::WinnerDied, Rare::InitiatorDied, Rare::BeganAgain],
        ..scope("two of three die", 3)
    });
}

#[test]
fn two_are_taken_over_at_once() {
    check(Scope {
        crashes: 2,
        must_reach: &[Rare::TwoTargets, Rare::WinnerDied, Rare::InitiatorDied],
        ..scope("two of four die", 4)
    });
}

#[test]
fn three_that_notice_agree_on_one() {
    check(Scope {
        timeouts: u8::from(is_large()),
        must_reach: &[Rare::ContestOfThree, Rare::GaveWay, Rare::Completed],
        ..scope("one of four dies", 4)
    });
}

#[test]
fn a_target_that_shows_itself_is_left_alone() {
    check(Scope {
        suspicions: 2,
        presences: 1,
        timeouts: if is_large() { 2 } else { 1 },
        losses: u8::from(is_large()),
        must_reach: &[Rare::Averted, Rare::Vetoed],
        ..scope("one of three is accused, or dies", 3)
    });
}

#[test]
fn both_sides_of_a_partition_end_with_one_winner() {
    check(Scope {
        suspicions: if is_large() { 2 } else { 1 },
        accused: Accused::Any,
        must_reach: &[Rare::Conceded, Rare::Averted],
        ..scope("one of three dies, any are cut off", 3)
    });
}
