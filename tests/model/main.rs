//! All interleavings of the takeover arbitration in small scopes: `asap::registrar::contests` is the machine that
//! ships; around it are registrars that crash, are suspected, rightly or not, and are heard again, and links that are
//! ordered and, where the scope says so, lose messages. Some scopes are mixed: registrars of RSPLIB are among them, come, or go.
//!
//! What is checked, and what it is checked for, is in docs/guarantees.md, "Takeover". `MODEL_SCOPE=large` checks larger
//! scopes (`make soak`).

mod rsplib;
mod world;

use asap::types::ServerId;
use stateright::{Checker, Model, Property};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Instant;
use world::{Node, Place, Rare, State, id, place};

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

/// All registrars of a scope: none has more.
const ANY: &[Place] = &[0, 1, 2, 3];

#[derive(Clone, Debug)]
struct Scope {
    name: &'static str,
    nodes: usize,
    /// Which are RSPLIB's, and whether they have only just come, unheard of.
    rsplib: &'static [Place],
    unseen: bool,
    crashes: u8,
    losses: u8,
    timeouts: u8,
    /// Of those that live.
    suspicions: u8,
    /// Who may crash, or be taken for dead though it lives.
    accused: &'static [Place],
    presences: u8,
    must_reach: &'static [Rare],
    reached: Arc<Mutex<BTreeMap<Rare, u64>>>,
}

impl Model for Scope {
    type State = State;
    type Action = Action;

    fn init_states(&self) -> Vec<State> {
        let (crashes, losses, timeouts) = (self.crashes, self.losses, self.timeouts);
        let (suspicions, presences) = (self.suspicions, self.presences);
        let state = State::new(self.nodes, self.rsplib, self.unseen);
        vec![State { crashes, losses, timeouts, suspicions, presences, ..state }]
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
            if state.crashes > 0 && self.accused.contains(&me) {
                actions.push(Action::Crash(me));
            }
            if state.timeouts > 0 {
                let due = state.may_time_out(me).into_iter();
                actions.extend(due.map(|target| Action::Timeout(me, target)));
            }
            for peer in node.hears().into_iter().map(place) {
                let dead = state.nodes[peer].is_none() && state.is_quiet(peer, me);
                let mistaken =
                    state.nodes[peer].is_some() && state.suspicions > 0 && self.accused.contains(&peer);
                if (dead || mistaken) && state.may_suspect(me, peer) {
                    actions.push(Action::Suspect(me, peer));
                }
            }
            for peer in (0..self.nodes).filter(|peer| *peer != me) {
                // Only what may change something.
                let doubts = |it: &Node| !it.hears().contains(&id(me));
                let doubted = state.presences > 0 && state.nodes[peer].as_ref().is_some_and(doubts);
                if doubted || state.has_news(me, peer) {
                    actions.push(Action::Show(me, peer));
                }
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
                if !state.has_news(me, peer) {
                    state.presences -= 1;
                }
                state.show(me, peer);
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

fn is_large() -> bool {
    std::env::var_os("MODEL_SCOPE").is_some_and(|scope| scope == "large")
}

/// All cases in larger scopes, else the first.
fn take<T, const N: usize>(cases: [T; N], first: usize) -> impl Iterator<Item = T> {
    cases.into_iter().take(if is_large() { N } else { first })
}

fn scope(name: &'static str, nodes: usize) -> Scope {
    Scope {
        name,
        nodes,
        rsplib: &[],
        unseen: false,
        crashes: 1,
        losses: 0,
        timeouts: 0,
        suspicions: 0,
        accused: ANY,
        presences: 0,
        must_reach: &[],
        reached: Arc::default(),
    }
}

#[test]
fn two_that_notice_agree_on_one() {
    check(Scope {
        timeouts: 2,
        losses: if is_large() { 2 } else { 1 },
        must_reach: &[Rare::ContestOfTwo, Rare::GaveWay, Rare::Completed, Rare::BeganAgain, Rare::Vetoed],
        ..scope("one of three dies", 3)
    });
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
        accused: &[2],
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
        must_reach: &[Rare::Conceded, Rare::Averted],
        ..scope("one of three dies, any are cut off", 3)
    });
}

/// Whose identifier is lower decides, so RSPLIB's comes before ours, between, and behind. It may die, too.
#[test]
fn rsplib_and_ours_agree_on_one() {
    for rsplib in [&[0], &[1]] {
        check(Scope {
            rsplib,
            timeouts: 2,
            losses: 1,
            must_reach: &[
                Rare::GaveWayToRsplib,
                Rare::RsplibCompleted,
                Rare::RsplibGaveUp,
                Rare::ShownByTable,
                Rare::OrderTurned,
            ],
            ..scope("one of three in a mixed scope dies", 3)
        });
    }
    let cases: [(&[Place], &[Rare]); 3] = [
        (&[0], &[Rare::GaveWayToRsplib, Rare::RsplibCompleted, Rare::ShownByTable]),
        (&[1], &[Rare::GaveWayToRsplib, Rare::RsplibGaveWay, Rare::Completed]),
        (&[2], &[Rare::RsplibGaveWay, Rare::ContestOfThree, Rare::Completed]),
    ];
    for (rsplib, must_reach) in take(cases, 2) {
        let accused: &[Place] = if is_large() { ANY } else { &[3] };
        check(Scope { rsplib, accused, must_reach, ..scope("one of four in a mixed scope dies", 4) });
    }
}

/// Two of RSPLIB's may complete a takeover together, whatever ours do; ours never beside another.
#[test]
fn ours_completes_nothing_that_rsplib_has() {
    let places: [&[Place]; 3] = [&[0, 1], &[0, 2], &[1, 2]];
    for rsplib in take(places, 2) {
        check(Scope {
            rsplib,
            accused: &[3],
            must_reach: &[Rare::RsplibGaveWay, Rare::Completed, Rare::ContestOfThree],
            ..scope("with two of RSPLIB's one of four dies", 4)
        });
    }
}

#[test]
fn the_order_turns_when_rsplib_comes() {
    let places: [&[Place]; 3] = [&[0], &[1], &[2]];
    for rsplib in take(places, 1) {
        check(Scope {
            rsplib,
            unseen: true,
            presences: if is_large() { 2 } else { 1 },
            accused: &[3],
            must_reach: &[Rare::OrderTurned, Rare::Completed],
            ..scope("RSPLIB comes while one of four dies", 4)
        });
    }
}

#[test]
fn the_order_turns_when_rsplib_goes() {
    let three: [(&[Place], &[Place]); 2] = [(&[0], &[0, 2]), (&[1], &[1, 2])];
    let four: [(&[Place], &[Place]); 3] = [(&[0], &[0, 3]), (&[1], &[1, 3]), (&[2], &[2, 3])];
    let (nodes, cases) = if is_large() { (4, four.as_slice()) } else { (3, three.as_slice()) };
    for (rsplib, accused) in cases {
        check(Scope {
            rsplib,
            accused,
            crashes: 2,
            timeouts: if is_large() { 0 } else { 1 },
            must_reach: &[Rare::OrderTurned, Rare::Completed, Rare::WinnerDied],
            ..scope("RSPLIB goes, and another", nodes)
        });
    }
}
