//! Long user messages in pieces, between two of ours (docs/transports.md, Messages). The system takes no message that is
//! longer than its send buffer, and Linux has no SCTP_EXPLICIT_EOR (RFC 6458 8.1.26), so that a longer one goes as several,
//! each under an identifier of ours. Keeps what was sent in pieces until the peer must have it. Does no I/O.

use crate::machine::{Channel, UserChannel};
use std::collections::{BTreeMap, VecDeque};

/// The payload protocol identifier of a piece.
pub(super) const PPID: u32 = 0xa5a9_0001;
/// How an end says that it understands them: the adaptation layer indication (RFC 5061 4.2.6) of its INIT or INIT ACK.
pub(super) const INDICATION: u32 = 0xa5a9_0001;
/// Bytes of a message in one piece; longer messages go in several.
pub(super) const MOST: usize = 64 << 10;
/// Identifier of the message (32 bits), flags (8), zeros.
pub(super) const HEADER: usize = 8;

const FIRST: u8 = 1;
const LAST: u8 = 2;
const UNORDERED: u8 = 4;

/// Whether a message goes in pieces: it is long, or empty (SCTP has no empty messages), or would be taken for a piece.
pub(super) fn wanted(user: UserChannel, len: usize) -> bool {
    len > MOST || len == 0 || user.ppid == PPID
}

/// What stands before the part of a message that begins at `from`, where that part ends, and whether the message does, too.
pub(super) fn next(user: UserChannel, len: usize, from: usize) -> ([u8; HEADER], usize, bool) {
    let to = len.min(from.saturating_add(MOST));
    let mut flags = if user.unordered { UNORDERED } else { 0 };
    if from == 0 {
        flags |= FIRST;
    }
    if to == len {
        flags |= LAST;
    }
    let [a, b, c, d] = user.ppid.to_be_bytes();
    ([a, b, c, d, flags, 0, 0, 0], to, to == len)
}

/// A message that was sent in pieces.
#[derive(Debug)]
struct Kept {
    id: u32,
    /// How many bytes had been sent on the link when it was.
    until: u64,
    message: (Channel, Vec<u8>),
}

/// Messages that were handed over in pieces: one whose last piece comes back has not arrived, however much of it has.
#[derive(Debug, Default)]
pub(super) struct Memory {
    kept: VecDeque<Kept>,
    sent: u64,
    latest: u32,
}

impl Memory {
    /// What the last piece of the next message is to carry, for it to be known again.
    pub fn next_id(&self) -> u32 {
        self.latest.wrapping_add(1).max(1)
    }

    /// So many bytes went to the system, whose buffer holds no more than `room`: what was sent longer ago was acknowledged.
    pub fn on_sent(&mut self, bytes: usize, room: usize) {
        self.sent = self.sent.saturating_add(bytes as u64);
        while self.kept.front().is_some_and(|kept| kept.until.saturating_add(room as u64) < self.sent) {
            self.kept.pop_front();
        }
    }

    /// The last piece of this message went, too.
    pub fn keep(&mut self, message: (Channel, Vec<u8>)) {
        self.latest = self.next_id();
        self.kept.push_back(Kept { id: self.latest, until: self.sent, message });
    }

    /// The message whose last piece has come back.
    pub fn recall(&mut self, id: u32) -> Option<(Channel, Vec<u8>)> {
        let at = self.kept.iter().position(|kept| kept.id == id)?;
        Some(self.kept.remove(at)?.message)
    }

    /// Everything was acknowledged.
    pub fn forget(&mut self) {
        self.kept.clear();
    }
}

/// A message of which not all pieces have come.
#[derive(Debug)]
struct Begun {
    user: UserChannel,
    bytes: Vec<u8>,
}

/// What comes in pieces. Those of one message come on one stream, in order, with no others of that stream between;
/// streams may overtake each other.
#[derive(Debug, Default)]
pub(super) struct Assembly {
    streams: BTreeMap<u16, Begun>,
    held: usize,
}

/// Pieces that no sender of ours sends, or a message over the limit.
#[derive(PartialEq, Eq, Debug)]
pub(super) struct Bad;

impl Assembly {
    /// Takes in a piece; the message it completes. All the messages begun are at most two of the longest.
    pub fn take(
        &mut self,
        stream: u16,
        piece: &[u8],
        most: usize,
    ) -> Result<Option<(UserChannel, Vec<u8>)>, Bad> {
        let Some((&[a, b, c, d, flags, 0, 0, 0], data)) = piece.split_first_chunk::<HEADER>() else {
            return Err(Bad);
        };
        let ppid = u32::from_be_bytes([a, b, c, d]);
        let user = UserChannel { ppid, stream, unordered: flags & UNORDERED != 0, expires: None };
        let begun = self.streams.remove(&stream);
        let mut begun = match (begun, flags & FIRST != 0) {
            (Some(begun), false) if begun.user == user => begun,
            // The rest of the one before will not come.
            (Some(left), true) => {
                self.held -= left.bytes.len();
                Begun { user, bytes: Vec::new() }
            }
            (None, true) => Begun { user, bytes: Vec::new() },
            (Some(_) | None, false) => return Err(Bad),
        };
        if data.len() > most.saturating_sub(begun.bytes.len())
            || data.len() > most.saturating_mul(2).saturating_sub(self.held)
        {
            return Err(Bad);
        }
        begun.bytes.extend_from_slice(data);
        self.held += data.len();
        if flags & LAST == 0 {
            self.streams.insert(stream, begun);
            return Ok(None);
        }
        self.held -= begun.bytes.len();
        Ok(Some((begun.user, begun.bytes)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn user(ppid: u32, stream: u16) -> UserChannel {
        UserChannel { ppid, stream, ..UserChannel::default() }
    }

    fn cut(user: UserChannel, message: &[u8]) -> Vec<Vec<u8>> {
        let (mut pieces, mut from) = (Vec::new(), 0);
        loop {
            let (header, to, last) = next(user, message.len(), from);
            pieces.push([&header[..], &message[from..to]].concat());
            from = to;
            if last {
                return pieces;
            }
        }
    }

    #[test]
    fn messages_are_put_together_stream_by_stream() {
        let long: Vec<u8> = (0..3 * MOST + 5).map(|n| n as u8).collect();
        let (one, other) = (user(7, 1), UserChannel { unordered: true, ..user(PPID, 2) });
        let (first, second) = (cut(one, &long), cut(other, &long[..2 * MOST]));
        assert_eq!((first.len(), second.len()), (4, 2));
        let mut assembly = Assembly::default();
        let mut came = Vec::new();
        for (n, piece) in first.iter().enumerate() {
            came.extend(assembly.take(1, piece, long.len()).unwrap());
            if let Some(piece) = second.get(n) {
                came.extend(assembly.take(2, piece, long.len()).unwrap());
            }
        }
        assert_eq!(came, [(other, long[..2 * MOST].to_vec()), (one, long)]);
        assert_eq!(assembly.held, 0);
    }

    #[test]
    fn what_no_sender_sends_is_refused() {
        let pieces = cut(user(7, 1), &vec![1; 2 * MOST]);
        let mut assembly = Assembly::default();
        assert_eq!(assembly.take(1, &pieces[1], 4 * MOST), Err(Bad), "never begun");
        assert_eq!(assembly.take(1, &pieces[0][..HEADER - 1], 4 * MOST), Err(Bad), "no header");
        assert_eq!(assembly.take(1, &pieces[0], MOST), Ok(None));
        assert_eq!(assembly.take(1, &pieces[1], MOST), Err(Bad), "over the limit");
        let mut assembly = Assembly::default();
        assert_eq!(assembly.take(1, &pieces[0], 4 * MOST), Ok(None));
        assert_eq!(
            assembly.take(1, &cut(user(8, 1), &vec![1; 2 * MOST])[1], 4 * MOST),
            Err(Bad),
            "another's"
        );
        // Streams do not add up to more than two messages.
        let mut assembly = Assembly::default();
        let taken = (0..64).take_while(|stream| assembly.take(*stream, &pieces[0], 2 * MOST).is_ok()).count();
        assert_eq!(taken, 4);
    }

    #[test]
    fn a_message_begun_anew_takes_the_place_of_the_one_before() {
        let pieces = cut(user(7, 1), &vec![1; 2 * MOST]);
        let mut assembly = Assembly::default();
        for _ in 0..10 {
            assert_eq!(assembly.take(1, &pieces[0], 2 * MOST), Ok(None));
        }
        assert!(assembly.take(1, &pieces[1], 2 * MOST).unwrap().is_some());
        assert_eq!(assembly.held, 0);
    }

    #[test]
    fn a_message_is_kept_until_so_much_was_sent_after_it_that_it_must_have_arrived() {
        let mut memory = Memory::default();
        let message = |n: u8| (Channel::User(user(7, 1)), vec![n]);
        for n in 1..=3 {
            assert_eq!(memory.next_id(), u32::from(n));
            memory.on_sent(100, 150);
            memory.keep(message(n));
        }
        assert_eq!(memory.recall(1), None, "300 sent, of which the system holds 150");
        assert_eq!((memory.recall(2), memory.recall(2)), (Some(message(2)), None));
        memory.forget();
        assert_eq!(memory.recall(3), None);
    }
}
