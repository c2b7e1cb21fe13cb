//! A machine, and what the world knows of its links. Every input goes through here, and every effect is checked
//! against the contract.

use crate::inputs::Step;
use asap::csp::Report;
use asap::machine::{Channel, Destination, Effect, Input, LinkId, Machine, Protocol};
use asap::types::Time;
use asap::wire::{AsapMessage, Dialect, EnrpMessage};
use proptest::sample::Index;
use std::collections::BTreeMap;
use std::time::Duration;

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum State {
    /// Accepted or being opened.
    Coming,
    Up,
    Dead,
}

/// The longest message, padded.
const LONGEST: usize = 65_536;
/// Wake-ups at one instant after which a machine is taken to spin.
const WAKE_UPS: usize = 4;

pub struct Driven<M: Machine> {
    pub machine: M,
    pub now: Time,
    pub links: BTreeMap<LinkId, State>,
    /// In order of appearance.
    seen: Vec<LinkId>,
    last_sent: BTreeMap<LinkId, (Channel, Vec<u8>)>,
    incoming: u64,
    /// What was done and told since they were last taken.
    pub effects: Vec<Effect>,
    pub events: Vec<M::Event>,
    /// How many effects one input may make now.
    pub most_effects: fn(&Self) -> usize,
}

impl<M: Machine> Driven<M> {
    pub fn new(machine: M, most_effects: fn(&Self) -> usize) -> Driven<M> {
        let mut driven = Driven {
            machine,
            now: Time::from_nanos(1_000_000_000),
            links: BTreeMap::new(),
            seen: Vec::new(),
            last_sent: BTreeMap::new(),
            incoming: 0,
            effects: Vec::new(),
            events: Vec::new(),
            most_effects,
        };
        driven.drain(false);
        driven
    }

    /// An accepted link that is the machine's from the start.
    pub fn accepted(&mut self) -> LinkId {
        self.incoming += 1;
        let link = LinkId::incoming(self.incoming);
        self.links.insert(link, State::Coming);
        self.seen.push(link);
        link
    }

    pub fn live_links(&self) -> usize {
        self.links.values().filter(|state| **state != State::Dead).count()
    }

    fn named(&self, index: Index) -> Option<LinkId> {
        // The older ones are mostly dead. Late inputs come to some of those, too.
        let recent = &self.seen[self.seen.len().saturating_sub(8)..];
        (!recent.is_empty()).then(|| *index.get(recent))
    }

    /// Gives an input, and takes and checks what comes of it.
    pub fn input(&mut self, input: Input<'_>) {
        let error = match &input {
            Input::Message { channel: Channel::Asap, bytes, .. } => bytes.first() == Some(&0x0e),
            Input::Message { channel: Channel::Enrp, bytes, .. } => bytes.first() == Some(&0x0a),
            _ => false,
        };
        let before = (self.most_effects)(self);
        self.machine.handle(self.now, input);
        let made = self.drain(error);
        let most = before.max((self.most_effects)(self));
        assert!(made <= most, "{made} effects of one input, at most {most}");
    }

    /// Takes what a command, or an input, has made; how many effects. `error`: it was an error message.
    pub fn drain(&mut self, error: bool) -> usize {
        let before = self.effects.len();
        while let Some(effect) = self.machine.poll_effect() {
            self.check(&effect, error);
            self.effects.push(effect);
        }
        let made = self.effects.len() - before;
        while let Some(event) = self.machine.poll_event() {
            self.events.push(event);
        }
        made
    }

    fn check(&mut self, effect: &Effect, error: bool) {
        match effect {
            Effect::Connect { link, to: Destination { .. } } => {
                assert!(!link.is_incoming(), "opens {link:?}");
                assert_eq!(self.links.insert(*link, State::Coming), None, "opens {link:?} again");
                self.seen.push(*link);
            }
            Effect::Send { link, channel, bytes } => {
                assert_eq!(self.links.get(link), Some(&State::Up), "sends on {link:?}");
                match channel {
                    // An endpoint asks so who its registrar is.
                    Channel::Asap if *bytes == [0x4f, 0, 0, 4] => {}
                    Channel::Asap => {
                        assert!(bytes.len() <= LONGEST);
                        let sent = AsapMessage::decode(bytes, Dialect::Rfc).expect("sends what can be read");
                        let answers_error = error && matches!(sent.message, AsapMessage::Error(_));
                        assert!(!answers_error, "answers an error with an error");
                    }
                    Channel::Enrp => {
                        assert!(bytes.len() <= LONGEST);
                        let sent = EnrpMessage::decode(bytes, Dialect::Rfc).expect("sends what can be read");
                        let answers_error = error && matches!(sent.message, EnrpMessage::Error { .. });
                        assert!(!answers_error, "answers an error with an error");
                    }
                    Channel::User(_) => {}
                }
                self.last_sent.insert(*link, (*channel, bytes.clone()));
            }
            Effect::Close { link, .. } => {
                let before = self.links.insert(*link, State::Dead);
                assert!(matches!(before, Some(State::Coming | State::Up)), "closes {link:?}, {before:?}");
            }
            Effect::Announce { protocol, audience: _, bytes } => {
                assert_eq!(*protocol, Protocol::Asap);
                AsapMessage::decode(bytes, Dialect::Rfc).expect("announces what can be read");
            }
            Effect::Datagram { bytes, .. } => {
                Report::decode(bytes).expect("reports what can be read");
            }
        }
    }

    /// Wakes the machine now, and as often as it asks for it at this instant, which must come to an end.
    pub fn wake(&mut self) {
        self.input(Input::Timeout);
        for _ in 0..WAKE_UPS {
            if self.machine.poll_timeout().is_none_or(|at| at > self.now) {
                return;
            }
            self.input(Input::Timeout);
        }
        panic!("wants to be woken at {:?} for ever at {:?}", self.machine.poll_timeout(), self.now);
    }

    /// Lets time pass and wakes the machine when it asks for it.
    pub fn wait(&mut self, time: Duration) {
        let end = self.now + time;
        while let Some(at) = self.machine.poll_timeout().filter(|at| *at <= end) {
            self.now = self.now.max(at);
            self.wake();
        }
        self.now = end;
    }

    /// What was last sent on a link.
    pub fn last_sent(&self, link: LinkId) -> Option<(Channel, Vec<u8>)> {
        self.last_sent.get(&link).cloned()
    }

    pub fn step(&mut self, step: &Step) {
        match step {
            Step::Incoming(protocol) => {
                let link = self.accepted();
                self.input(Input::Incoming { link, protocol: *protocol });
            }
            Step::Up(index, kind, protocol, local, peer) => {
                let Some(link) = self.named(*index) else { return };
                if let Some(state) = self.links.get_mut(&link)
                    && *state == State::Coming
                {
                    *state = State::Up;
                }
                let (kind, protocol) = (*kind, *protocol);
                self.input(Input::LinkUp { link, kind, protocol, local, peer, identity: None });
            }
            Step::Down(index, why) => {
                let Some(link) = self.named(*index) else { return };
                self.links.insert(link, State::Dead);
                self.input(Input::LinkDown { link, why: *why });
            }
            Step::Message(index, channel, bytes, complete) => {
                let Some(link) = self.named(*index) else { return };
                self.input(Input::Message { link, channel: *channel, bytes, complete: *complete });
            }
            Step::Reflect(index) => {
                let Some(link) = self.named(*index) else { return };
                let Some((channel, bytes)) = self.last_sent(link) else { return };
                self.input(Input::Message { link, channel, bytes: &bytes, complete: true });
            }
            Step::Undelivered(index) => {
                let Some(link) = self.named(*index) else { return };
                let Some((channel, message)) = self.last_sent.remove(&link) else { return };
                self.input(Input::SendFailed { link, channel, message });
            }
            Step::FalselyUndelivered(index, channel, bytes) => {
                let Some(link) = self.named(*index) else { return };
                self.input(Input::SendFailed { link, channel: *channel, message: bytes.clone() });
            }
            Step::Writable(index) => {
                let Some(link) = self.named(*index) else { return };
                self.input(Input::Writable { link });
            }
            Step::Announce(audience, from, bytes) => {
                let (protocol, audience) = (Protocol::Asap, *audience);
                self.input(Input::Announce { protocol, audience, from: *from, bytes })
            }
            Step::Leap(time) => {
                self.now = self.now + *time;
                self.wake();
            }
            Step::Wait(time) => self.wait(*time),
            Step::Timeout => {
                self.input(Input::Timeout);
                self.input(Input::Timeout);
            }
        }
    }
}
