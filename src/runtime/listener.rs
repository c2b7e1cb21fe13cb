//! Listening sockets.

use crate::config::Limits;
use crate::machine::{LinkKind, Protocol};
use crate::runtime::sctp::{self, kernel};
use parking_lot::Mutex;
use socket2::{Domain, SockAddr, SockRef, Socket, Type};
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};

/// Pieces read from a port's socket while looking for the next association.
const READS: usize = 256;

/// A listening socket, non-blocking and close-on-exec.
#[derive(Debug)]
pub struct Listener {
    socket: Socket,
    kind: LinkKind,
    protocol: Protocol,
    local: SocketAddr,
    many: Option<Many>,
}

/// What is kept about a one-to-many socket.
#[derive(Debug, Default)]
struct Many {
    /// An association that is up, and for which there was no descriptor.
    waiting: Mutex<Option<i32>>,
}

/// A socket that the program has made itself.
#[derive(Debug)]
pub struct Given {
    socket: Socket,
    kind: LinkKind,
}

impl Given {
    /// Duplicates a descriptor of the program's, if it is fit to be an element's: TCP, UDP or one-to-one SCTP over IP, not
    /// connected.
    ///
    /// Errors: EBADF; ENOTSOCK; EPROTONOSUPPORT (something else), EISCONN.
    pub fn new(fd: RawFd) -> io::Result<Given> {
        let error = |errno| Err(io::Error::from_raw_os_error(errno));
        // SAFETY: F_GETFD takes no pointers.
        if unsafe { libc::fcntl(fd, libc::F_GETFD) } < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: just seen to be open; it is the program's for as long as this borrows it.
        let borrowed = unsafe { BorrowedFd::borrow_raw(fd) };
        let socket = SockRef::from(&borrowed);
        let (kind, address) = (socket.r#type()?, socket.local_addr()?);
        let kind = match (kind, socket.protocol()?.map(i32::from)) {
            (Type::STREAM, Some(libc::IPPROTO_TCP)) => LinkKind::Tcp,
            (Type::STREAM, Some(libc::IPPROTO_SCTP)) => LinkKind::Sctp,
            (Type::DGRAM, Some(libc::IPPROTO_UDP)) => LinkKind::Udp,
            _ => return error(libc::EPROTONOSUPPORT),
        };
        if !address.is_ipv4() && !address.is_ipv6() {
            return error(libc::EPROTONOSUPPORT);
        }
        if socket.peer_addr().is_ok() {
            return error(libc::EISCONN);
        }
        let socket = socket.try_clone()?;
        Ok(Given { socket, kind })
    }

    /// What it carries.
    pub fn kind(&self) -> LinkKind {
        self.kind
    }

    /// Where it is bound, if it is.
    pub fn local(&self) -> Option<SocketAddr> {
        self.socket.local_addr().ok()?.as_socket().filter(|at| at.port() != 0)
    }

    /// Whether it listens.
    pub fn is_listening(&self) -> bool {
        self.socket.is_listener().unwrap_or(false)
    }

    /// Its socket, bound there unless it is bound.
    pub(super) fn bound(&self, address: SocketAddr) -> io::Result<Socket> {
        let socket = self.socket.try_clone()?;
        socket.set_nonblocking(true)?;
        if self.local().is_none() {
            socket.bind(&SockAddr::from(address))?;
        }
        Ok(socket)
    }
}

/// Whether a descriptor of the program's is a socket that listens.
pub fn listens(fd: RawFd) -> bool {
    // SAFETY: F_GETFD takes no pointers.
    if unsafe { libc::fcntl(fd, libc::F_GETFD) } < 0 {
        return false;
    }
    // SAFETY: just seen to be open; should the program close it meanwhile, the kernel says so.
    let borrowed = unsafe { BorrowedFd::borrow_raw(fd) };
    SockRef::from(&borrowed).is_listener().unwrap_or(false)
}

/// Closes a descriptor that the program has given away.
pub fn close_given(fd: RawFd) {
    // SAFETY: no pointers; the program has said that it is not its own any more.
    unsafe { libc::close(fd) };
}

/// Whether this kernel has SCTP. Asking may load the module.
pub fn has_sctp() -> bool {
    kernel::open(Domain::IPV4).is_ok()
}

impl Listener {
    /// Binds and listens; port 0 is an ephemeral one. On `[::]` IPv4 is served as well, on any other IPv6
    /// address it is not. `Unsupported` for kinds that have no listeners here.
    pub fn bind(
        kind: LinkKind,
        protocol: Protocol,
        address: SocketAddr,
        backlog: i32,
    ) -> io::Result<Listener> {
        Listener::bind_all(kind, protocol, address, &[], backlog, &Limits::default())
    }

    /// The same with the limits of the links it will accept, and at further addresses as well, on the same port (SCTP only:
    /// bindx). An SCTP listener at a wildcard
    /// address offers all the host's addresses.
    pub fn bind_all(
        kind: LinkKind,
        protocol: Protocol,
        address: SocketAddr,
        further: &[IpAddr],
        backlog: i32,
        limits: &Limits,
    ) -> io::Result<Listener> {
        Listener::open(kind, protocol, address, further, backlog, limits, false)
    }

    /// An SCTP port: one one-to-many socket (RFC 6458 3) to which others come, and from which associations to others can
    /// be opened, so that these leave from the port where one listens (RFC 5352 5). Each association gets a socket of
    /// its own when it is accepted or opened.
    pub fn bind_port(
        protocol: Protocol,
        address: SocketAddr,
        further: &[IpAddr],
        backlog: i32,
        limits: &Limits,
    ) -> io::Result<Listener> {
        Listener::open(LinkKind::Sctp, protocol, address, further, backlog, limits, true)
    }

    fn open(
        kind: LinkKind,
        protocol: Protocol,
        address: SocketAddr,
        further: &[IpAddr],
        backlog: i32,
        limits: &Limits,
        many: bool,
    ) -> io::Result<Listener> {
        let domain = match further.iter().any(IpAddr::is_ipv6) {
            true => Domain::IPV6,
            false => Domain::for_address(address),
        };
        let socket = match kind {
            LinkKind::Tcp if further.is_empty() => {
                Socket::new(domain, Type::STREAM.nonblocking().cloexec(), None)?
            }
            LinkKind::Sctp => {
                let socket = if many { kernel::open_many(domain)? } else { kernel::open(domain)? };
                kernel::prepare(&socket, &limits.path)?;
                if many {
                    kernel::tune(&socket)?;
                }
                socket
            }
            LinkKind::Tcp | LinkKind::Udp => return Err(io::ErrorKind::Unsupported.into()),
        };
        socket.set_reuse_address(true)?;
        if let SocketAddr::V6(v6) = address {
            socket.set_only_v6(!v6.ip().is_unspecified() && further.iter().all(IpAddr::is_ipv6))?;
        }
        socket.bind(&SockAddr::from(address))?;
        Listener::start(socket, kind, protocol, further, backlog)
    }

    /// The same at a socket of the program's, bound to this address unless it is bound already.
    pub fn bind_given(
        given: &Given,
        protocol: Protocol,
        address: SocketAddr,
        further: &[IpAddr],
        backlog: i32,
        limits: &Limits,
    ) -> io::Result<Listener> {
        let socket = given.bound(address)?;
        if given.kind == LinkKind::Sctp {
            kernel::prepare(&socket, &limits.path)?;
        }
        Listener::start(socket, given.kind, protocol, further, backlog)
    }

    fn start(
        socket: Socket,
        kind: LinkKind,
        protocol: Protocol,
        further: &[IpAddr],
        backlog: i32,
    ) -> io::Result<Listener> {
        let local = socket.local_addr()?.as_socket().ok_or(io::ErrorKind::InvalidInput)?;
        if !further.is_empty() {
            let further: Vec<_> = further.iter().map(|ip| SocketAddr::new(*ip, local.port())).collect();
            kernel::bind_also(&socket, &further)?;
        }
        if kind == LinkKind::Sctp {
            sctp::offer_pieces(&socket, protocol)?;
        }
        socket.listen(backlog)?;
        let many = (socket.r#type()? == Type::SEQPACKET).then(Many::default);
        Ok(Listener { socket, kind, protocol, local, many })
    }

    pub(super) fn socket(&self) -> &Socket {
        &self.socket
    }

    /// Whether associations can be opened from it.
    pub fn is_port(&self) -> bool {
        self.many.is_some()
    }

    /// The descriptor to wait on.
    pub fn fd(&self) -> RawFd {
        self.socket.as_raw_fd()
    }

    /// Where it listens.
    pub fn local(&self) -> SocketAddr {
        self.local
    }

    /// What carries the links it accepts.
    pub fn kind(&self) -> LinkKind {
        self.kind
    }

    /// What they are for.
    pub fn protocol(&self) -> Protocol {
        self.protocol
    }

    /// The next socket that was accepted, non-blocking and close-on-exec; none if there is none now. An
    /// error means that the system has no room (EMFILE, ENFILE, ENOBUFS, ENOMEM): the connection waits,
    /// and so should the caller.
    pub fn accept(&self) -> io::Result<Option<OwnedFd>> {
        if let Some(many) = &self.many {
            return self.peel_off(many);
        }
        loop {
            let flags = libc::SOCK_CLOEXEC | libc::SOCK_NONBLOCK;
            // SAFETY: null pointers tell accept4 that the peer's address is not wanted.
            let fd = unsafe { libc::accept4(self.fd(), std::ptr::null_mut(), std::ptr::null_mut(), flags) };
            if fd >= 0 {
                // SAFETY: `fd` was just opened and belongs to nobody else.
                return Ok(Some(unsafe { OwnedFd::from_raw_fd(fd) }));
            }
            let error = io::Error::last_os_error();
            match error.raw_os_error() {
                Some(libc::EAGAIN) => return Ok(None),
                Some(libc::EMFILE | libc::ENFILE | libc::ENOBUFS | libc::ENOMEM) => return Err(error),
                Some(libc::EBADF | libc::EINVAL | libc::ENOTSOCK | libc::EOPNOTSUPP | libc::EFAULT) => {
                    return Err(error);
                }
                // Everything else is the fate of one connection that is gone already (accept(2)).
                _ => {}
            }
        }
    }
}

impl Listener {
    /// The next association that has come up on a one-to-many socket.
    fn peel_off(&self, many: &Many) -> io::Result<Option<OwnedFd>> {
        for _ in 0..READS {
            let Some(association) =
                many.waiting.lock().take().or_else(|| kernel::next_up(&self.socket, READS))
            else {
                return Ok(None);
            };
            match kernel::peel_off(&self.socket, association) {
                Ok(socket) => return Ok(Some(socket.into())),
                Err(error) => match error.raw_os_error() {
                    Some(libc::EMFILE | libc::ENFILE | libc::ENOBUFS | libc::ENOMEM) => {
                        *many.waiting.lock() = Some(association);
                        return Err(error);
                    }
                    // It is over already.
                    _ => log::debug!("an association ended before it was accepted: {error}"),
                },
            }
        }
        Ok(None)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::{Ipv4Addr, TcpStream};

    #[test]
    fn accepts_what_waits_and_says_when_nothing_does() {
        let listener =
            Listener::bind(LinkKind::Tcp, Protocol::Asap, (Ipv4Addr::LOCALHOST, 0).into(), 8).unwrap();
        assert_ne!(listener.local().port(), 0);
        assert!(listener.accept().unwrap().is_none());
        let _stream = TcpStream::connect(listener.local()).unwrap();
        let accepted = listener.accept().unwrap().expect("a connection");
        // SAFETY: F_GETFL and F_GETFD take no pointers.
        let (status, descriptor) = unsafe {
            (
                libc::fcntl(accepted.as_raw_fd(), libc::F_GETFL),
                libc::fcntl(accepted.as_raw_fd(), libc::F_GETFD),
            )
        };
        assert_ne!(status & libc::O_NONBLOCK, 0);
        assert_ne!(descriptor & libc::FD_CLOEXEC, 0);
        assert!(listener.accept().unwrap().is_none());
    }

    #[test]
    fn serves_ipv4_on_the_ipv6_wildcard() {
        let any = "[::]:0".parse().unwrap();
        let Ok(listener) = Listener::bind(LinkKind::Tcp, Protocol::Asap, any, 8) else { return };
        let _stream = TcpStream::connect((Ipv4Addr::LOCALHOST, listener.local().port())).unwrap();
        assert!(listener.accept().unwrap().is_some());
    }
}
