//! What waits to be written on a TCP link: frames with their headers, written many at a time. Knows which messages
//! have been begun. Does not make frames.

use crate::machine::Channel;
use crate::runtime::framing::HEADER;
use crate::types::Time;
use socket2::Socket;
use std::collections::VecDeque;
use std::io::{self, IoSlice};

/// Buffers handed to the system at once.
const SLICES: usize = 64;

/// A frame, or a message without one, that waits to be written.
#[derive(Debug)]
pub(super) struct Piece {
    header: [u8; HEADER],
    header_len: usize,
    body: Vec<u8>,
    written: usize,
    /// None for what is the framing's own.
    channel: Option<Channel>,
    /// It begins a message.
    pub first: bool,
}

impl Piece {
    /// `header` is at most [`HEADER`] bytes long.
    pub fn new(channel: Channel, header: &[u8], body: Vec<u8>) -> Piece {
        Piece { channel: Some(channel), body, ..Piece::bare(header) }
    }

    pub fn bare(bytes: &[u8]) -> Piece {
        let mut header = [0; HEADER];
        header[..bytes.len()].copy_from_slice(bytes);
        Piece { header, header_len: bytes.len(), body: Vec::new(), written: 0, channel: None, first: true }
    }

    fn left(&self) -> usize {
        self.header_len + self.body.len() - self.written
    }
}

/// What waits to be written, in order.
#[derive(Debug, Default)]
pub(super) struct Outbox {
    pieces: VecDeque<Piece>,
    bytes: usize,
    /// Pieces of messages whose time ends have been queued.
    mortal: bool,
}

impl Outbox {
    pub fn is_empty(&self) -> bool {
        self.pieces.is_empty()
    }

    /// Bytes queued and not written.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    pub fn push(&mut self, piece: Piece) {
        self.bytes += piece.left();
        self.mortal |= matches!(piece.channel, Some(Channel::User(user)) if user.expires.is_some());
        self.pieces.push_back(piece);
    }

    /// Writes all; an error says why not.
    pub fn write(&mut self, socket: &Socket) -> io::Result<()> {
        while !self.pieces.is_empty() {
            let mut slices = [IoSlice::new(&[]); SLICES];
            let mut count = 0;
            for piece in &self.pieces {
                let header = piece.header[..piece.header_len].get(piece.written..).unwrap_or(&[]);
                let body = &piece.body[piece.written.saturating_sub(piece.header_len)..];
                for part in [header, body] {
                    if !part.is_empty() && count < SLICES {
                        slices[count] = IoSlice::new(part);
                        count += 1;
                    }
                }
                if count == SLICES {
                    break;
                }
            }
            let mut written = socket.send_vectored_with_flags(&slices[..count], libc::MSG_NOSIGNAL)?;
            self.bytes -= written;
            while let Some(piece) = self.pieces.front_mut() {
                let now = piece.left().min(written);
                piece.written += now;
                written -= now;
                if piece.left() > 0 {
                    break;
                }
                self.pieces.pop_front();
            }
        }
        Ok(())
    }

    /// Takes out the messages whose time is over and of which nothing was written.
    pub fn take_expired(&mut self, now: Time) -> Vec<(Channel, Vec<u8>)> {
        let mut messages: Vec<(Channel, Vec<u8>)> = Vec::new();
        if !self.mortal {
            return messages;
        }
        let mut kept = VecDeque::new();
        let mut over = false;
        for mut piece in std::mem::take(&mut self.pieces) {
            let expires = match piece.channel {
                Some(Channel::User(user)) => user.expires,
                Some(Channel::Asap | Channel::Enrp) | None => None,
            };
            if piece.first {
                over = piece.written == 0 && expires.is_some_and(|until| until <= now);
            }
            match piece.channel {
                Some(channel @ Channel::User(_)) if over => {
                    self.bytes -= piece.left();
                    match messages.last_mut().filter(|_| !piece.first) {
                        Some((_, bytes)) => bytes.append(&mut piece.body),
                        None => messages.push((channel, piece.body)),
                    }
                }
                Some(_) | None => kept.push_back(piece),
            }
        }
        self.pieces = kept;
        messages
    }

    /// Takes out the messages of which nothing was written, and drops the rest.
    pub fn take_messages(&mut self) -> Vec<(Channel, Vec<u8>)> {
        self.bytes = 0;
        let mut messages: Vec<(Channel, Vec<u8>)> = Vec::new();
        // Whether the pieces that come belong to a message that begins in `messages`.
        let mut whole = false;
        for piece in self.pieces.drain(..) {
            let Some(channel) = piece.channel else { continue };
            if piece.first {
                whole = piece.written == 0;
                if whole {
                    messages.push((channel, piece.body));
                }
            } else if whole && let Some((_, bytes)) = messages.last_mut() {
                bytes.extend_from_slice(&piece.body);
            }
        }
        messages
    }

    /// Drops control messages: there is no channel for them.
    pub fn drop_control(&mut self) {
        let bytes = &mut self.bytes;
        self.pieces.retain(|piece| {
            let keep = matches!(piece.channel, Some(Channel::User(_)));
            if !keep {
                *bytes -= piece.left();
            }
            keep
        });
    }
}
