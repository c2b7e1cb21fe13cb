//! The framing of sessions over TCP (docs/tcp.md section 3): preamble, frames, messages of many frames.
//! Does no I/O and does not look into what a frame carries.

use crate::machine::UserChannel;

/// What a connection with a control channel begins with, both ways.
pub(super) const PREAMBLE: [u8; 8] = *b"\xa5ASAP\x01\0\0";
/// Where the version stands in the preamble.
const VERSION_AT: usize = 5;
/// Bytes of a frame's header.
pub(super) const HEADER: usize = 12;
/// The most that follows a header.
pub(super) const MAX_FRAME: usize = 1 << 20;
/// The longest ASAP message (16 bits of length).
const MAX_CONTROL: usize = 65_535;
/// A buffer that has grown beyond this is given back after use.
const KEEP: usize = 64 << 10;

const USER: u8 = 0;
const CONTROL: u8 = 1;
const END_OF_SESSION: u8 = 2;
const FLAG_END: u8 = 1;
const FLAG_UNORDERED: u8 = 2;

/// What the first bytes of a connection say.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Beginning {
    /// Not decided by these bytes.
    Open,
    /// The preamble, whole.
    Framed,
    /// Anything else: bytes of a plain client.
    Plain,
    /// The preamble of a version we do not speak.
    OtherVersion,
}

/// Looks at the first bytes of a connection.
pub(super) fn beginning(bytes: &[u8]) -> Beginning {
    let seen = bytes.len().min(PREAMBLE.len());
    match bytes.iter().zip(&PREAMBLE).position(|(a, b)| a != b) {
        Some(VERSION_AT) => Beginning::OtherVersion,
        Some(_) => Beginning::Plain,
        None if seen == PREAMBLE.len() => Beginning::Framed,
        None => Beginning::Open,
    }
}

fn header(kind: u8, flags: u8, stream: u16, ppid: u32, len: usize) -> [u8; HEADER] {
    let mut header = [0; HEADER];
    header[0] = kind;
    header[1] = flags;
    header[2..4].copy_from_slice(&stream.to_be_bytes());
    header[4..8].copy_from_slice(&ppid.to_be_bytes());
    header[8..12].copy_from_slice(&u32::try_from(len).unwrap_or(u32::MAX).to_be_bytes());
    header
}

/// The header of a frame of user data; `len` is at most [`MAX_FRAME`].
pub(super) fn user_header(channel: UserChannel, len: usize, end: bool) -> [u8; HEADER] {
    let flags = if end { FLAG_END } else { 0 } | if channel.unordered { FLAG_UNORDERED } else { 0 };
    header(USER, flags, channel.stream, channel.ppid, len)
}

/// The header of a control frame.
pub(super) fn control_header(len: usize) -> [u8; HEADER] {
    header(CONTROL, FLAG_END, 0, 0, len)
}

/// The whole of an end-of-session frame.
pub(super) fn end_frame() -> [u8; HEADER] {
    header(END_OF_SESSION, FLAG_END, 0, 0, 0)
}

/// What frames amount to.
#[derive(PartialEq, Eq, Debug)]
pub(super) enum Unit<'a> {
    /// A whole user message.
    User(UserChannel, &'a [u8]),
    /// A whole control message.
    Control(&'a [u8]),
    /// The sender ended the session in order.
    End,
}

/// The bytes break the rules of the framing.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Broken;

#[derive(Clone, Copy, Debug)]
enum Kind {
    User(UserChannel),
    Control,
}

#[derive(Clone, Copy, Debug)]
struct Frame {
    kind: Kind,
    end: bool,
    left: usize,
}

/// Puts frames together again. Holds what has come of a message, never what a length claims.
#[derive(Debug)]
pub(super) struct FrameReader {
    limit: usize,
    header: [u8; HEADER],
    have: usize,
    frame: Option<Frame>,
    /// The user message in progress, and whether what is held was delivered by the previous call.
    user: Vec<u8>,
    user_channel: Option<UserChannel>,
    user_delivered: bool,
    control: Vec<u8>,
    control_delivered: bool,
}

/// Where the message that is complete lies.
enum Done {
    UserHeld(UserChannel),
    UserThere(UserChannel, usize),
    ControlHeld,
    ControlThere(usize),
    End,
}

impl FrameReader {
    /// A reader that refuses user messages of more than `limit` bytes.
    pub fn new(limit: usize) -> FrameReader {
        FrameReader {
            limit,
            header: [0; HEADER],
            have: 0,
            frame: None,
            user: Vec::new(),
            user_channel: None,
            user_delivered: false,
            control: Vec::new(),
            control_delivered: false,
        }
    }

    /// Takes bytes from the front of `input` until something is complete; none when all are taken.
    pub fn next<'u, 'i: 'u>(&'u mut self, input: &mut &'i [u8]) -> Result<Option<Unit<'u>>, Broken> {
        if std::mem::take(&mut self.user_delivered) {
            clear(&mut self.user);
        }
        if std::mem::take(&mut self.control_delivered) {
            clear(&mut self.control);
        }
        let Some(done) = self.advance(input)? else { return Ok(None) };
        let mut there = |len: usize| -> &'i [u8] {
            let (head, rest) = input.split_at(len);
            *input = rest;
            head
        };
        Ok(Some(match done {
            Done::UserHeld(channel) => {
                self.user_delivered = true;
                Unit::User(channel, &self.user)
            }
            Done::UserThere(channel, len) => Unit::User(channel, there(len)),
            Done::ControlHeld => {
                self.control_delivered = true;
                Unit::Control(&self.control)
            }
            Done::ControlThere(len) => Unit::Control(there(len)),
            Done::End => Unit::End,
        }))
    }

    fn advance(&mut self, input: &mut &[u8]) -> Result<Option<Done>, Broken> {
        loop {
            let Some(mut frame) = self.frame else {
                let take = (HEADER - self.have).min(input.len());
                let (head, rest) = input.split_at(take);
                self.header[self.have..self.have + take].copy_from_slice(head);
                self.have += take;
                *input = rest;
                if self.have < HEADER {
                    return Ok(None);
                }
                self.have = 0;
                match self.parse()? {
                    Some(frame) => self.frame = Some(frame),
                    None => return Ok(Some(Done::End)),
                }
                continue;
            };
            let whole = input.len() >= frame.left && frame.end;
            match frame.kind {
                // A message that lies there whole need not be copied.
                Kind::User(channel) if whole && self.user.is_empty() => {
                    self.frame = None;
                    self.user_channel = None;
                    return Ok(Some(Done::UserThere(channel, frame.left)));
                }
                Kind::Control if whole && self.control.is_empty() => {
                    self.frame = None;
                    return Ok(Some(Done::ControlThere(frame.left)));
                }
                Kind::User(_) | Kind::Control => {}
            }
            let (head, rest) = input.split_at(frame.left.min(input.len()));
            match frame.kind {
                Kind::User(_) => self.user.extend_from_slice(head),
                Kind::Control => self.control.extend_from_slice(head),
            }
            *input = rest;
            frame.left -= head.len();
            if frame.left > 0 {
                self.frame = Some(frame);
                return Ok(None);
            }
            self.frame = None;
            match frame.kind {
                Kind::User(channel) if frame.end => {
                    self.user_channel = None;
                    return Ok(Some(Done::UserHeld(channel)));
                }
                Kind::User(_) => {}
                Kind::Control => return Ok(Some(Done::ControlHeld)),
            }
        }
    }

    /// Reads the header; none for the end of the session.
    fn parse(&mut self) -> Result<Option<Frame>, Broken> {
        let [kind, flags, s0, s1, p0, p1, p2, p3, l0, l1, l2, l3] = self.header;
        let left = usize::try_from(u32::from_be_bytes([l0, l1, l2, l3])).map_err(|_| Broken)?;
        let end = flags & FLAG_END != 0;
        match kind {
            USER => {
                let channel = UserChannel {
                    ppid: u32::from_be_bytes([p0, p1, p2, p3]),
                    stream: u16::from_be_bytes([s0, s1]),
                    unordered: flags & FLAG_UNORDERED != 0,
                    expires: None,
                };
                let first = *self.user_channel.get_or_insert(channel);
                if first.ppid != channel.ppid
                    || first.stream != channel.stream
                    || left > MAX_FRAME
                    || left > self.limit.saturating_sub(self.user.len())
                {
                    return Err(Broken);
                }
                Ok(Some(Frame { kind: Kind::User(first), end, left }))
            }
            CONTROL if end && left <= MAX_CONTROL => Ok(Some(Frame { kind: Kind::Control, end, left })),
            END_OF_SESSION if left == 0 => Ok(None),
            _ => Err(Broken),
        }
    }
}

fn clear(buffer: &mut Vec<u8>) {
    if buffer.capacity() > KEEP {
        *buffer = Vec::new();
    } else {
        buffer.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CHANNEL: UserChannel = UserChannel { ppid: 0x0102_0304, stream: 5, unordered: true, expires: None };

    fn frame(header: [u8; HEADER], body: &[u8]) -> Vec<u8> {
        [&header[..], body].concat()
    }

    /// What a reader makes of `stream` when it comes in pieces of `piece` bytes.
    fn read(stream: &[u8], piece: usize, limit: usize) -> Result<Vec<String>, Broken> {
        let mut reader = FrameReader::new(limit);
        let mut seen = Vec::new();
        for mut part in stream.chunks(piece) {
            while let Some(unit) = reader.next(&mut part)? {
                seen.push(match unit {
                    Unit::User(channel, bytes) => {
                        format!("user {} {} {}", channel.ppid, channel.stream, bytes.escape_ascii())
                    }
                    Unit::Control(bytes) => format!("control {}", bytes.escape_ascii()),
                    Unit::End => "end".to_owned(),
                });
            }
        }
        Ok(seen)
    }

    #[test]
    fn tells_preamble_plain_and_other_versions_apart_at_every_byte() {
        for cut in 0..PREAMBLE.len() {
            assert_eq!(beginning(&PREAMBLE[..cut]), Beginning::Open);
            let mut wrong = PREAMBLE;
            wrong[cut] ^= 0x40;
            let expected = if cut == 5 { Beginning::OtherVersion } else { Beginning::Plain };
            assert_eq!(beginning(&wrong), expected);
            assert_eq!(beginning(&wrong[..=cut]), expected);
        }
        assert_eq!(beginning(&PREAMBLE), Beginning::Framed);
        assert_eq!(beginning(b"\xa5ASAP\x01\0\0more"), Beginning::Framed);
        assert_eq!(beginning(b"GET / HTTP/1.1"), Beginning::Plain);
    }

    #[test]
    fn puts_messages_together_wherever_the_stream_is_cut() {
        let stream = [
            frame(user_header(CHANNEL, 3, false), b"abc"),
            frame(control_header(4), b"ctrl"),
            frame(user_header(CHANNEL, 0, false), b""),
            frame(user_header(CHANNEL, 2, true), b"de"),
            frame(user_header(UserChannel::default(), 0, true), b""),
            frame(user_header(UserChannel::default(), 1, true), b"x"),
            end_frame().to_vec(),
        ]
        .concat();
        let expected = ["control ctrl", "user 16909060 5 abcde", "user 0 0 ", "user 0 0 x", "end"];
        for piece in 1..=stream.len() {
            assert_eq!(read(&stream, piece, 100).unwrap(), expected, "pieces of {piece}");
        }
    }

    #[test]
    fn refuses_what_breaks_the_rules() {
        let other = UserChannel { stream: 6, ..CHANNEL };
        let first = frame(user_header(CHANNEL, 1, false), b"a");
        for bad in [
            header(3, 1, 0, 0, 0).to_vec(),
            header(2, 0, 0, 0, 1).to_vec(),
            header(1, 0, 0, 0, 4).to_vec(),
            control_header(65_536).to_vec(),
            user_header(CHANNEL, MAX_FRAME + 1, true).to_vec(),
            [first.clone(), user_header(other, 1, true).to_vec()].concat(),
            [first, user_header(CHANNEL, 100, true).to_vec()].concat(),
        ] {
            assert_eq!(read(&bad, 7, 100), Err(Broken), "{bad:02x?}");
        }
        assert_eq!(read(&user_header(CHANNEL, MAX_FRAME, true), 12, MAX_FRAME), Ok(Vec::new()));
    }

    #[test]
    fn holds_no_more_than_has_come() {
        let mut reader = FrameReader::new(16 << 20);
        let start = frame(user_header(CHANNEL, MAX_FRAME, true), &[7; 100]);
        assert_eq!(reader.next(&mut &start[..]), Ok(None));
        assert!(reader.user.capacity() < 1_000);
    }
}
