//! Sending message by message under anything: every message taken is sent or comes back.

use crate::driven::Driven;
use crate::inputs::{Step, bytes, element, handle, pe_id, step};
use crate::session::{config, limits, options, pool, user_channel};
use asap::endpoint::{RequestFailure, Resolution};
use asap::machine::{Channel, Effect, UserChannel};
use asap::policy::Policy;
use asap::session::{Dispatch, SendOptions, dispatch::Event};
use asap::types::{PeId, PoolElement, PoolHandle};
use proptest::collection::vec;
use proptest::option::of;
use proptest::prelude::*;
use proptest::sample::Index;
use std::collections::{BTreeMap, BTreeSet};

#[derive(Clone, Debug)]
enum Move {
    Step(Step),
    Resolved(Index, Option<(Policy, Vec<PoolElement>)>),
    PoolChanged(PoolHandle, Option<(Policy, Vec<PoolElement>)>),
    Send(PoolHandle, Option<PeId>, UserChannel, SendOptions),
    Card(Option<(PoolHandle, Vec<PoolElement>)>),
    Said(Index, Channel, Vec<u8>),
}

fn a_move() -> impl Strategy<Value = Move> {
    prop_oneof![
        8 => step().prop_map(Move::Step),
        6 => (any::<Index>(), prop::option::weighted(0.8, pool())).prop_map(|(at, pool)| Move::Resolved(at, pool)),
        1 => (handle(), prop::option::weighted(0.8, pool())).prop_map(|(at, pool)| Move::PoolChanged(at, pool)),
        8 => (handle(), of(pe_id()), user_channel(), options())
            .prop_map(|(handle, id, channel, options)| Move::Send(handle, id, channel, options)),
        1 => of((handle(), vec(element(), 0..4))).prop_map(Move::Card),
        3 => (any::<Index>(), prop_oneof![Just(Channel::Asap), user_channel().prop_map(Channel::User)], bytes())
            .prop_map(|(at, channel, bytes)| Move::Said(at, channel, bytes)),
    ]
}

#[derive(Default)]
struct Book {
    /// Not sent, and not given back.
    kept: BTreeSet<Vec<u8>>,
    sent: u64,
    resolves: BTreeMap<PoolHandle, usize>,
}

impl Book {
    fn follow(&mut self, world: &mut Driven<Dispatch>) {
        for effect in world.effects.drain(..) {
            if let Effect::Send { channel: Channel::User(_), bytes, .. } = effect {
                self.kept.remove(&bytes);
            }
        }
        for event in std::mem::take(&mut world.events) {
            match event {
                Event::SendFailed { message, .. } => {
                    self.kept.remove(&message);
                }
                Event::Resolve { handle, .. } => *self.resolves.entry(handle).or_default() += 1,
                Event::Unreachable { .. }
                | Event::Card { .. }
                | Event::Received { .. }
                | Event::Unresolved { .. }
                | Event::Writable => {}
            }
        }
        assert!(self.resolves.values().all(|asked| *asked <= 1), "asks again before it is answered");
    }
}

proptest! {
    #[test]
    fn a_dispatch_loses_no_message_whatever_it_is_told(
        seed in any::<u64>(),
        (automatic, zeros, small) in any::<(bool, bool, bool)>(),
        moves in vec(a_move(), 1..80),
    ) {
        let own = [(PoolHandle::new(b"a").unwrap(), PeId(1))];
        let machine = Dispatch::new(config(automatic, zeros), limits(small), seed, own);
        let mut world = Driven::new(machine, |_| 8 + 5 * 80);
        let mut book = Book::default();
        for a_move in &moves {
            let now = world.now;
            match a_move {
                // Nobody opens links to it.
                Move::Step(Step::Incoming(_)) => {}
                Move::Step(step) => world.step(step),
                Move::Resolved(at, pool) => {
                    let asked: Vec<PoolHandle> = book.resolves.keys().cloned().collect();
                    if asked.is_empty() {
                        continue;
                    }
                    let handle = at.get(&asked).clone();
                    book.resolves.remove(&handle);
                    let outcome = pool.clone().map(|(policy, elements)| {
                        Resolution { handle: handle.clone(), policy, elements, at: now }
                    });
                    world.machine.resolved(now, &handle, outcome.ok_or(RequestFailure::UnknownPool));
                    world.drain(false);
                }
                Move::PoolChanged(handle, pool) => {
                    let resolution = pool.clone().map(|(policy, elements)| {
                        Resolution { handle: handle.clone(), policy, elements, at: now }
                    });
                    world.machine.pool_changed(handle, resolution.as_ref());
                    world.drain(false);
                }
                Move::Send(handle, element, channel, options) => {
                    book.sent += 1;
                    let message = book.sent.to_be_bytes().to_vec();
                    let sent = world.machine.send(now, handle, *element, message.clone(), *channel, *options);
                    // A copy for all others may be none at all.
                    if sent.is_ok() && !options.contains(SendOptions::TO_ALL) {
                        book.kept.insert(message);
                    }
                    world.drain(false);
                }
                Move::Card(card) => world.machine.set_business_card(card.clone()),
                Move::Said(at, channel, bytes) => {
                    world.step(&Step::Message(*at, *channel, bytes.clone(), true));
                }
            }
            book.follow(&mut world);
            if !matches!(a_move, Move::Step(Step::Leap(_))) {
                world.wake();
                book.follow(&mut world);
            }
        }
        world.machine.close();
        world.drain(false);
        book.follow(&mut world);
        prop_assert_eq!(world.live_links(), 0);
        prop_assert!(book.kept.is_empty(), "a message is lost: {:?}", book.kept);
    }
}
