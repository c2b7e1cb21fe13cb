//! A byte stream to a pool, for programs that want a plain descriptor: one end of a pair of sockets is the program's, this
//! carries bytes between the other and a session. It does what can be done without waiting and keeps no more than one piece in
//! either direction: who does not read is not read for.

use super::call::{Role, Socket};
use super::{Error, Incoming, Outgoing, Result, Wait, errors, transfer};
use crate::runtime;
use crate::runtime::pair::{Far, Near};
use crate::session::State;
use crate::types::Time;
use std::io;
use std::sync::Arc;
use std::time::Duration;

/// Bytes carried at once.
pub(super) const PIECE: usize = 64 << 10;
/// Pieces carried in one turn, so that others have theirs.
const TURN: usize = 8;
/// How long what the program wrote before it closed may take to be written.
const LINGER: Duration = Duration::from_secs(30);

/// How a turn has ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Turn {
    /// Until a descriptor is ready. `edges`: the session's is readable all the time, and only changes count.
    Wait { edges: bool },
    /// There is more to do.
    Again,
    /// It is over, and everything closed.
    Over,
}

#[derive(Debug)]
enum Stage {
    /// No element is reached yet.
    Opening,
    Open,
    /// The session has ended in order: nothing comes any more.
    Ended,
    /// The program has closed its end: what it wrote is still being sent, until then.
    Leaving {
        told: bool,
        until: Time,
    },
}

/// One stream.
pub(super) struct Relay {
    socket: Arc<Socket>,
    /// None once the program's end is done with.
    near: Option<Near>,
    stage: Stage,
    /// For the program, from `taken` on.
    pending: Vec<u8>,
    taken: usize,
    /// That the program writes no more was passed on.
    silent: bool,
    /// Until when, as the process is to end.
    finishing: Option<Time>,
}

impl Relay {
    /// A stream of a socket that is connected, or being connected.
    pub(super) fn new(socket: Arc<Socket>, near: Near, connected: bool) -> Relay {
        let stage = if connected { Stage::Open } else { Stage::Opening };
        Relay {
            socket,
            near: Some(near),
            stage,
            pending: Vec::new(),
            taken: 0,
            silent: false,
            finishing: None,
        }
    }

    pub(super) fn socket(&self) -> &Arc<Socket> {
        &self.socket
    }

    pub(super) fn near(&self) -> Option<&Near> {
        self.near.as_ref()
    }

    /// What the program has written is still to be sent, as if it had closed its end now.
    pub(super) fn finish(&mut self, until: Time) {
        self.finishing = Some(until);
    }

    /// Whether it has only to be written what the program has left.
    pub(super) fn is_leaving(&self) -> bool {
        matches!(self.stage, Stage::Leaving { .. })
    }

    /// Breaks it off: nobody waits for what is not written.
    pub(super) fn abort(&mut self) {
        let broken_off = self.socket.with(|inner, now| {
            if let Role::User(user) = &mut inner.role {
                user.line.machine.close(now, true);
                user.line.drop_closing(&self.socket.signal);
            }
            Ok(())
        });
        if let Err(e) = broken_off {
            log::debug!("breaking a stream off: {}", e.what);
        }
        self.near = None;
        self.socket.shut();
    }

    /// Does what can be done now. `buffer`: [`PIECE`] and one byte.
    pub(super) fn turn(&mut self, now: Time, buffer: &mut [u8]) -> Turn {
        match self.advance(now, buffer) {
            Ok(turn) => turn,
            Err(e) => {
                log::info!("a stream is reset: {}", e.what);
                // Dropped, the near end resets the program's.
                self.near = None;
                self.close()
            }
        }
    }

    fn advance(&mut self, now: Time, buffer: &mut [u8]) -> Result<Turn> {
        if matches!(self.stage, Stage::Opening) {
            if !self.is_connected()? {
                let gone = self.near.as_ref().is_none_or(|near| near.far() == Far::Gone);
                if gone || self.finishing.is_some() {
                    self.near = None;
                    return Ok(self.close());
                }
                return Ok(Turn::Wait { edges: false });
            }
            if let Some(near) = &mut self.near {
                near.open().map_err(broken)?;
            }
            self.stage = Stage::Open;
        }
        let mut more = false;
        let mut full = false;
        if matches!(self.stage, Stage::Open) {
            (more, full) = self.deliver(buffer)?;
        }
        if matches!(self.stage, Stage::Open) {
            more |= self.forward(now, buffer)?;
        }
        match self.stage {
            Stage::Opening | Stage::Open if more => Ok(Turn::Again),
            Stage::Opening | Stage::Open => Ok(Turn::Wait { edges: full }),
            Stage::Ended => Ok(self.await_end(buffer)),
            Stage::Leaving { .. } => Ok(self.leave(now)),
        }
    }

    fn is_connected(&self) -> Result<bool> {
        self.socket.with(|inner, now| {
            self.socket.service(inner, now);
            match &inner.role {
                Role::User(user) if user.is_connected() => Ok(true),
                Role::User(user) => user.standing(&self.socket).map(|_| false),
                Role::Fresh
                | Role::Element(_)
                | Role::Accepted(_)
                | Role::Dispatch(_)
                | Role::Watch(_)
                | Role::Closed => Err(errors::closed(self.socket.number())),
            }
        })
    }

    /// From the pool to the program: whether there may be more, and whether the program is to read first.
    fn deliver(&mut self, buffer: &mut [u8]) -> Result<(bool, bool)> {
        for _ in 0..TURN {
            while self.taken < self.pending.len() {
                let Some(near) = &self.near else { break };
                match near.write(&self.pending[self.taken..]) {
                    Ok(n) => self.taken += n,
                    Err(e) if e.kind() == io::ErrorKind::WouldBlock => return Ok((false, true)),
                    Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                    // It does not read any more: what comes is dropped, as by a socket that was shut down.
                    Err(_) => self.taken = self.pending.len(),
                }
            }
            self.pending.clear();
            self.taken = 0;
            match transfer::receive(&self.socket, &mut buffer[..PIECE], true, Wait::No) {
                Ok(Incoming::Data { bytes, .. }) => self.pending.extend_from_slice(&buffer[..bytes]),
                Ok(Incoming::End) => {
                    if let Some(near) = &self.near {
                        near.end();
                    }
                    self.pending = Vec::new();
                    self.stage = Stage::Ended;
                    return Ok((false, false));
                }
                Ok(
                    Incoming::CookieEcho { .. } | Incoming::Undelivered { .. } | Incoming::Notification(_),
                ) => {}
                // What could not be delivered is lost: either the stream is reset, or that is what it was opened for.
                Err(e) if e.errno == libc::ECOMM => {}
                Err(e) if e.errno == libc::EAGAIN => {
                    // A stream at rest holds no memory.
                    self.pending = Vec::new();
                    return Ok((false, false));
                }
                Err(e) => return Err(e),
            }
        }
        Ok((true, false))
    }

    /// From the program to the pool: whether there may be more.
    fn forward(&mut self, now: Time, buffer: &mut [u8]) -> Result<bool> {
        for _ in 0..TURN {
            let room = self.has_room()?;
            let Some(near) = &mut self.near else { return Ok(false) };
            let far = near.far();
            let seen = near.peek(buffer).map_err(broken)?;
            if seen.is_empty() {
                match (far, self.finishing) {
                    (Far::Gone, _) => {
                        self.near = None;
                        self.stage = Stage::Leaving { told: false, until: now + LINGER };
                    }
                    (Far::Open | Far::Silent, Some(until)) => {
                        self.stage = Stage::Leaving { told: false, until };
                    }
                    (Far::Silent, None) if !self.silent => {
                        self.silent = true;
                        self.say_silent()?;
                    }
                    (Far::Open | Far::Silent, None) => {}
                }
                return Ok(false);
            }
            if !room {
                return Ok(false);
            }
            match transfer::send(&self.socket, seen, &Outgoing::default(), Wait::No) {
                Ok(n) => near.consume(n).map_err(broken)?,
                // What has happened to the session is told by receiving.
                Err(_) => return Ok(false),
            }
        }
        Ok(true)
    }

    /// Whether there is an element that takes more. Nothing is taken from the program before: it would be lost with the process.
    fn has_room(&self) -> Result<bool> {
        self.socket.with(|inner, now| {
            self.socket.service(inner, now);
            Ok(match &inner.role {
                Role::User(user) => user.line.machine.state() == State::Connected && user.line.has_room(),
                Role::Fresh
                | Role::Element(_)
                | Role::Accepted(_)
                | Role::Dispatch(_)
                | Role::Watch(_)
                | Role::Closed => false,
            })
        })
    }

    /// The program writes no more, but reads.
    fn say_silent(&self) -> Result<()> {
        self.socket.with(|inner, now| {
            if let Role::User(user) = &mut inner.role {
                user.line.end_writing();
            }
            // Nothing else may happen to this session.
            self.socket.service(inner, now);
            Ok(())
        })
    }

    /// After the session's end the program may still write, as to any socket whose peer has closed: once.
    fn await_end(&mut self, buffer: &mut [u8]) -> Turn {
        if let Some(near) = self.near.take() {
            let far = near.far();
            let written = near.peek(buffer).is_ok_and(|seen| !seen.is_empty());
            if far == Far::Open && !written && self.finishing.is_none() {
                self.near = Some(near);
                return Turn::Wait { edges: true };
            }
            near.close();
        }
        self.close()
    }

    /// Ends the session in order as soon as there is room, and waits until everything is written.
    fn leave(&mut self, now: Time) -> Turn {
        let Stage::Leaving { told, until } = &mut self.stage else { return Turn::Over };
        if !*told {
            let how = Outgoing { eof: true, ..Outgoing::default() };
            match transfer::send(&self.socket, &[], &how, Wait::No) {
                Err(e) if e.errno == libc::EAGAIN && now < *until => return Turn::Wait { edges: true },
                // It has ended otherwise.
                Ok(_) | Err(_) => *told = true,
            }
        }
        self.close()
    }

    fn is_closing(&self) -> bool {
        let closing = self.socket.with(|inner, now| {
            self.socket.service(inner, now);
            Ok(matches!(&inner.role, Role::User(user) if user.line.is_closing()))
        });
        closing.unwrap_or(false)
    }

    /// Everything is closed but what is still being written.
    fn close(&mut self) -> Turn {
        let now = runtime::now();
        self.near = None;
        let until = match self.stage {
            Stage::Leaving { until, .. } => until,
            Stage::Opening | Stage::Open | Stage::Ended => now + LINGER,
        };
        if now < until && self.is_closing() {
            self.stage = Stage::Leaving { told: true, until };
            return Turn::Wait { edges: true };
        }
        self.abort();
        Turn::Over
    }
}

fn broken(e: io::Error) -> Error {
    errors::system("the program's end cannot be read", &e)
}
