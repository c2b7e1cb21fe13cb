//! User messages that no transport has taken yet, and the memory of those that were handed over and want
//! special treatment if they come back (RFC 5352 6.5.5).

use super::{SendOptions, SendRefused};
use crate::config::Limits;
use crate::machine::UserChannel;
use std::collections::VecDeque;
use std::hash::{DefaultHasher, Hash, Hasher};

/// What a message is counted as beyond its bytes, so that very many very short ones are bounded, too.
const OVERHEAD: usize = 64;

/// A user message on its way.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct UserMessage {
    pub(super) bytes: Vec<u8>,
    pub(super) channel: UserChannel,
    /// Whether it may go to another element if this one fails.
    pub(super) failover: bool,
}

/// Checks what can be checked of a message before it is known where it goes, and applies the options to it.
pub(super) fn accept(
    bytes: Vec<u8>,
    mut channel: UserChannel,
    options: SendOptions,
    failover_by_default: bool,
    limits: &Limits,
) -> Result<UserMessage, SendRefused> {
    let both = |a, b| options.contains(a) && options.contains(b);
    let contradiction = both(SendOptions::FAILOVER, SendOptions::NO_FAILOVER)
        || both(SendOptions::TO_ALL, SendOptions::TO_LAST)
        || options.contains(SendOptions::TO_SELF) && !options.contains(SendOptions::TO_ALL);
    // RFC 5352 5: the data channel must not use ASAP's payload protocol identifier.
    if contradiction || options.0 & !SendOptions::ALL_KNOWN.0 != 0 || channel.ppid == crate::wire::PPID_ASAP {
        return Err(SendRefused::BadOptions);
    }
    if bytes.len() > limits.user_message_bytes {
        return Err(SendRefused::TooLong);
    }
    channel.unordered |= options.contains(SendOptions::UNORDERED);
    let failover = options.contains(SendOptions::FAILOVER)
        || failover_by_default && !options.contains(SendOptions::NO_FAILOVER);
    Ok(UserMessage { bytes, channel, failover })
}

/// Messages waiting for a link, first in first out, no more than the limit.
#[derive(Debug)]
pub(super) struct Outbox<M> {
    messages: VecDeque<M>,
    counted: usize,
    bytes: usize,
    refused: bool,
}

impl<M> Default for Outbox<M> {
    fn default() -> Self {
        Outbox { messages: VecDeque::new(), counted: 0, bytes: 0, refused: false }
    }
}

impl<M: AsRef<UserMessage>> Outbox<M> {
    /// Takes a message in. One is always taken while nothing waits, however long.
    pub(super) fn push(&mut self, message: M, limits: &Limits) -> Result<(), SendRefused> {
        let cost = message.as_ref().bytes.len().saturating_add(OVERHEAD);
        if self.counted > 0 && self.counted.saturating_add(cost) > limits.queued_bytes_per_link {
            self.refused = true;
            return Err(SendRefused::Full);
        }
        self.give_back(message);
        Ok(())
    }

    /// Takes in a message that had been taken before.
    pub(super) fn give_back(&mut self, message: M) {
        let len = message.as_ref().bytes.len();
        self.counted = self.counted.saturating_add(len).saturating_add(OVERHEAD);
        self.bytes = self.bytes.saturating_add(len);
        self.messages.push_back(message);
    }

    /// Takes all messages out, in order.
    pub(super) fn take(&mut self) -> VecDeque<M> {
        self.counted = 0;
        self.bytes = 0;
        std::mem::take(&mut self.messages)
    }

    /// Takes those out that must not go to another element, in order.
    pub(super) fn take_bound(&mut self) -> Vec<M> {
        let (mut bound, mut kept) = (Vec::new(), VecDeque::new());
        for message in self.take() {
            if message.as_ref().failover {
                kept.push_back(message);
            } else {
                bound.push(message);
            }
        }
        for message in kept {
            self.give_back(message);
        }
        bound
    }

    /// Bytes of the messages that wait.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Whether nothing waits.
    pub(super) fn is_empty(&self) -> bool {
        self.messages.is_empty()
    }

    /// Whether a message was refused as too much, and now most of the room is there again. Tells it once.
    pub(super) fn room_again(&mut self, limits: &Limits) -> bool {
        let room = self.refused && self.counted <= limits.queued_bytes_per_link / 2;
        if room {
            self.refused = false;
        }
        room
    }
}

impl AsRef<UserMessage> for UserMessage {
    fn as_ref(&self) -> &UserMessage {
        self
    }
}

/// Messages handed to a link whose failover option differs from the default. A link gives back a message's bytes only;
/// this tells what was asked for it. Forgets the oldest beyond a bound, which then count as default.
#[derive(Debug, Default)]
pub(super) struct HandedOver {
    marks: VecDeque<u64>,
}

impl HandedOver {
    fn mark(bytes: &[u8], channel: UserChannel) -> u64 {
        let mut hasher = DefaultHasher::new();
        (bytes, channel.ppid, channel.stream).hash(&mut hasher);
        hasher.finish()
    }

    /// Notes a message as not default.
    pub(super) fn note(&mut self, message: &UserMessage, limits: &Limits) {
        if self.marks.len() >= limits.queued_bytes_per_link / OVERHEAD {
            self.marks.pop_front();
        }
        self.marks.push_back(Self::mark(&message.bytes, message.channel));
    }

    /// Whether this message was noted; forgets it.
    pub(super) fn recall(&mut self, bytes: &[u8], channel: UserChannel) -> bool {
        let mark = Self::mark(bytes, channel);
        match self.marks.iter().position(|noted| *noted == mark) {
            Some(at) => self.marks.remove(at).is_some(),
            None => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_remembered_of_messages_handed_over_is_bounded() {
        let limits = Limits { queued_bytes_per_link: 10 * OVERHEAD, ..Limits::default() };
        let mut handed_over = HandedOver::default();
        let channel = UserChannel::default();
        for n in 0..100_u8 {
            handed_over.note(&UserMessage { bytes: vec![n], channel, failover: false }, &limits);
        }
        let recalled = (0..100).filter(|n| handed_over.recall(&[*n], channel)).count();
        assert_eq!((recalled, handed_over.marks.len()), (10, 0));
    }

    #[test]
    fn a_message_is_recalled_as_often_as_it_was_noted() {
        let (mut handed_over, channel) = (HandedOver::default(), UserChannel::default());
        let message = UserMessage { bytes: b"same".to_vec(), channel, failover: false };
        handed_over.note(&message, &Limits::default());
        handed_over.note(&message, &Limits::default());
        let recalled = [(); 3].map(|()| handed_over.recall(b"same", channel));
        assert_eq!(recalled, [true, true, false]);
        assert!(!handed_over.recall(b"same", UserChannel { ppid: 1, ..channel }));
    }
}
