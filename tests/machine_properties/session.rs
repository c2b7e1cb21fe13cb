//! A session under anything, on either side: it ends once, and no message of the user's gets lost without a word.

use crate::driven::{Driven, State};
use crate::inputs::{Step, bytes, element, handle, policy, step};
use asap::config::{Limits, Profile, SessionConfig};
use asap::endpoint::{RequestFailure, Resolution};
use asap::machine::{Channel, Effect, Machine as _, UserChannel};
use asap::policy::Policy;
use asap::session::{Event, SendOptions, Session, State as SessionState};
use asap::types::{PoolElement, PoolHandle};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;
use std::collections::BTreeMap;
use std::time::Duration;

#[derive(Clone, Debug)]
enum Command {
    /// Answers what was asked, if anything was.
    Resolved(Option<(Policy, Vec<PoolElement>)>),
    PoolChanged(Option<(Policy, Vec<PoolElement>)>),
    Send(UserChannel, SendOptions),
    Cookie(usize),
    Card(PoolHandle, Vec<PoolElement>),
    FailOver(bool, Duration),
    Configure(bool),
    Close(bool),
}

#[derive(Clone, Debug)]
enum Move {
    Step(Step),
    Command(Command),
    /// An input that a link in use gets.
    Said(Channel, Vec<u8>),
    Reached,
}

pub fn pool() -> impl Strategy<Value = (Policy, Vec<PoolElement>)> {
    (policy(), vec(element(), 1..5))
}

pub fn options() -> impl Strategy<Value = SendOptions> {
    prop_oneof![
        4 => Just(SendOptions::DEFAULT),
        2 => select(vec![SendOptions::FAILOVER, SendOptions::NO_FAILOVER, SendOptions::TO_LAST, SendOptions::TO_ALL]),
        1 => any::<u32>().prop_map(SendOptions),
    ]
}

pub fn user_channel() -> impl Strategy<Value = UserChannel> {
    (0..13u32, 0..3u16, any::<bool>()).prop_map(|(ppid, stream, unordered)| UserChannel {
        ppid,
        stream,
        unordered,
        expires: None,
    })
}

fn command() -> impl Strategy<Value = Command> {
    prop_oneof![
        8 => prop::option::weighted(0.8, pool()).prop_map(Command::Resolved),
        2 => prop::option::weighted(0.8, pool()).prop_map(Command::PoolChanged),
        6 => (user_channel(), options()).prop_map(|(channel, options)| Command::Send(channel, options)),
        1 => select(vec![0, 1, 65_527, 65_528]).prop_map(Command::Cookie),
        1 => (handle(), vec(element(), 0..4)).prop_map(|(handle, elements)| Command::Card(handle, elements)),
        1 => (any::<bool>(), select(vec![0, 1_000]).prop_map(Duration::from_millis))
            .prop_map(|(report, age)| Command::FailOver(report, age)),
        1 => any::<bool>().prop_map(Command::Configure),
    ]
}

fn a_move() -> impl Strategy<Value = Move> {
    prop_oneof![
        6 => step().prop_map(Move::Step),
        8 => command().prop_map(Move::Command),
        4 => Just(Move::Reached),
        4 => (prop_oneof![Just(Channel::Asap), user_channel().prop_map(Channel::User)], bytes())
            .prop_map(|(channel, bytes)| Move::Said(channel, bytes)),
    ]
}

pub fn config(automatic: bool, zeros: bool) -> SessionConfig {
    let mut config = SessionConfig::new(Profile::Lan);
    config.automatic_failover = automatic;
    if zeros {
        config.connect_timeout = Duration::ZERO;
        config.resolution_retry = Duration::ZERO;
        config.stale_cache_value = Duration::ZERO;
        config.failover_deadline = Some(Duration::ZERO);
        config.unasked_business_card = true;
    }
    config
}

pub fn limits(small: bool) -> Limits {
    if small {
        Limits { queued_bytes_per_link: 200, links: 2, cache_entries: 1, ..Limits::default() }
    } else {
        Limits::default()
    }
}

#[derive(Default)]
struct Book {
    /// What was taken to be sent and is with the session still.
    kept: BTreeMap<Vec<u8>, ()>,
    sent: u64,
    resolves: usize,
    ended: bool,
}

impl Book {
    fn follow(&mut self, world: &mut Driven<Session>) {
        for effect in world.effects.drain(..) {
            if let Effect::Send { channel: Channel::User(_), bytes, .. } = effect {
                self.kept.remove(&bytes);
            }
        }
        for event in std::mem::take(&mut world.events) {
            assert!(!self.ended || matches!(event, Event::Writable), "says {event:?} after its end");
            match event {
                Event::SendFailed { message, .. } => {
                    self.kept.remove(&message);
                }
                Event::Resolve { .. } => self.resolves += 1,
                Event::Ended(_) => self.ended = true,
                Event::Unreachable { .. }
                | Event::Card { .. }
                | Event::Connected { .. }
                | Event::Received { .. }
                | Event::CookieEcho(_)
                | Event::FailoverNecessary
                | Event::FailoverComplete { .. }
                | Event::FailoverFailed(_)
                | Event::Writable => {}
            }
        }
        assert!(self.resolves <= 1, "asks again before it is answered");
        assert!(world.live_links() <= 1, "one element at a time");
        assert_eq!(self.ended, world.machine.state() == SessionState::Ended);
        assert!(world.machine.unsent() >= self.kept.keys().map(Vec::len).sum(), "a message is lost");
    }
}

fn resolution(pool: &(Policy, Vec<PoolElement>), world: &Driven<Session>) -> Resolution {
    let handle = PoolHandle::new(b"a").unwrap();
    Resolution { handle, policy: pool.0, elements: pool.1.clone(), at: world.now }
}

fn obey(world: &mut Driven<Session>, book: &mut Book, command: &Command) {
    let now = world.now;
    match command {
        Command::Resolved(pool) => {
            if book.resolves > 0 {
                book.resolves -= 1;
                let outcome = pool.as_ref().map(|pool| resolution(pool, world));
                world.machine.resolved(now, outcome.ok_or(RequestFailure::TimedOut));
            }
        }
        Command::PoolChanged(pool) => {
            let pool = pool.as_ref().map(|pool| resolution(pool, world));
            world.machine.pool_changed(now, pool.as_ref());
        }
        Command::Send(channel, options) => {
            book.sent += 1;
            let message = book.sent.to_be_bytes().to_vec();
            if world.machine.send(now, message.clone(), *channel, *options).is_ok() {
                book.kept.insert(message, ());
            }
        }
        Command::Cookie(len) => {
            let _ = world.machine.send_cookie(now, &vec![7; *len]);
        }
        Command::Card(handle, elements) => {
            let _ = world.machine.send_business_card(now, handle, elements);
        }
        Command::FailOver(report, max_age) => world.machine.fail_over(now, *report, *max_age),
        Command::Configure(automatic) => world.machine.configure(config(*automatic, false)),
        Command::Close(abort) => world.machine.close(now, *abort),
    }
    world.drain(false);
}

fn in_use(world: &Driven<Session>) -> Option<usize> {
    let links: Vec<State> = world.links.values().copied().collect();
    links.iter().position(|state| *state != State::Dead)
}

proptest! {
    #[test]
    fn a_session_ends_once_and_loses_no_message_whatever_it_is_told(
        seed in any::<u64>(),
        (user, automatic, zeros, small, element_too) in any::<(bool, bool, bool, bool, bool)>(),
        own in vec(element(), 0..3),
        moves in vec(a_move(), 1..80),
    ) {
        use asap::machine::{Input, LinkKind, Protocol};
        let handle = PoolHandle::new(b"a").unwrap();
        let own = (element_too || !user).then(|| (handle.clone(), own));
        let config = config(automatic, zeros);
        let start = asap::types::Time::from_nanos(1_000_000_000);
        let machine = if user {
            Session::user(start, config, limits(small), seed, handle, own)
        } else {
            Session::element(start, config, limits(small), asap::machine::LinkId::incoming(1), own)
        };
        // Kept messages may all fail or be sent at once, with a card, a cookie, and the closing and opening of links.
        let mut world = Driven::new(machine, |_| 8 + 80);
        if !user {
            world.accepted();
        }
        let mut book = Book::default();
        book.follow(&mut world);
        for a_move in moves.iter().chain([&Move::Command(Command::Close(automatic))]) {
            match a_move {
                // Its link is accepted by whoever makes it.
                Move::Step(Step::Incoming(_)) => {}
                Move::Step(step) => world.step(step),
                Move::Command(command) => obey(&mut world, &mut book, command),
                Move::Reached => {
                    let Some(at) = in_use(&world) else { continue };
                    let link = *world.links.keys().nth(at).unwrap();
                    world.links.insert(link, State::Up);
                    let (kind, protocol) = (LinkKind::Tcp, Protocol::Session);
                    world.input(Input::LinkUp { link, kind, protocol, local: &[], peer: &[], identity: None });
                }
                Move::Said(channel, bytes) => {
                    let Some(at) = in_use(&world) else { continue };
                    let link = *world.links.keys().nth(at).unwrap();
                    world.input(Input::Message { link, channel: *channel, bytes, complete: true });
                }
            }
            book.follow(&mut world);
            if !matches!(a_move, Move::Step(Step::Leap(_))) {
                world.wake();
                book.follow(&mut world);
            }
        }
        prop_assert!(book.ended && world.live_links() == 0);
        prop_assert!(book.kept.is_empty(), "a message is lost: {:?}", book.kept);
        prop_assert_eq!(world.machine.poll_timeout(), None);
    }
}
