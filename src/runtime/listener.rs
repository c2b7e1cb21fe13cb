//! Listening sockets.

use crate::machine::{LinkKind, Protocol};
use std::io;
use std::net::SocketAddr;
use std::os::fd::{OwnedFd, RawFd};

/// A listening socket, non-blocking and close-on-exec.
#[derive(Debug)]
pub struct Listener {}

#[allow(unused_variables)]
impl Listener {
    /// Binds and listens; port 0 is an ephemeral one.
    pub fn bind(
        kind: LinkKind,
        protocol: Protocol,
        address: SocketAddr,
        backlog: i32,
    ) -> io::Result<Listener> {
        todo!()
    }
    /// The descriptor to wait on.
    pub fn fd(&self) -> RawFd {
        todo!()
    }
    /// Where it listens.
    pub fn local(&self) -> SocketAddr {
        todo!()
    }
    /// The next socket that was accepted, none if there is none now.
    pub fn accept(&self) -> io::Result<Option<OwnedFd>> {
        todo!()
    }
}
