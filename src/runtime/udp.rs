//! User data over UDP, each datagram one whole message, no control channel: a connected socket of its own on the side
//! that begins; on the other side one socket for all peers ([`Datagrams`]), which are told apart by their addresses.

use crate::config::Limits;
use crate::machine::{Channel, Destination, LinkFailure, LinkKind, Protocol, UserChannel};
use crate::runtime;
use crate::runtime::link::{Connection, LinkEvent, failure, is_idle, plain_address};
use crate::runtime::listener::Given;
use crate::runtime::poller::Interest;
use crate::types::Time;
use socket2::{Domain, SockAddr, Socket, Type};
use std::collections::VecDeque;
use std::io::{self, Read};
use std::mem::size_of;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::{AsRawFd, RawFd};
use std::sync::Arc;

/// The longest datagram there can be.
const MAX_DATAGRAM: usize = 65_535;

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Stage {
    Fresh,
    Open,
    Over,
}

/// A socket that takes datagrams of any number of peers, non-blocking and close-on-exec.
#[derive(Debug)]
pub struct Datagrams {
    socket: Arc<Socket>,
    local: SocketAddr,
    buffer: Vec<u8>,
}

/// Whose datagram it is.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Sender {
    /// The peer, as the kernel tells it.
    peer: SocketAddr,
    /// Which of our addresses it was sent to, if the socket is bound to all: answers leave from there, for the peer
    /// takes none from elsewhere.
    to: Option<IpAddr>,
}

impl Datagrams {
    /// Binds; port 0 is an ephemeral one. On `[::]` IPv4 is served as well. With a socket of the program's: that one, which may
    /// be bound already, elsewhere, too.
    pub fn bind(address: SocketAddr, given: Option<&Given>) -> io::Result<Datagrams> {
        let socket = match given {
            Some(given) => given.bound(address)?,
            None => {
                let kind = Type::DGRAM.nonblocking().cloexec();
                let socket = Socket::new(Domain::for_address(address), kind, None)?;
                if let SocketAddr::V6(v6) = address {
                    socket.set_only_v6(!v6.ip().is_unspecified())?;
                }
                socket.bind(&SockAddr::from(address))?;
                socket
            }
        };
        if address.ip().is_unspecified() {
            let (level, option) = match address {
                SocketAddr::V4(_) => (libc::IPPROTO_IP, libc::IP_PKTINFO),
                SocketAddr::V6(_) => (libc::IPPROTO_IPV6, libc::IPV6_RECVPKTINFO),
            };
            let on: libc::c_int = 1;
            let len = size_of::<libc::c_int>() as libc::socklen_t;
            // SAFETY: `on` is an int and outlives the call.
            let done =
                unsafe { libc::setsockopt(socket.as_raw_fd(), level, option, (&raw const on).cast(), len) };
            if done < 0 {
                return Err(io::Error::last_os_error());
            }
        }
        let local = socket.local_addr()?.as_socket().ok_or(io::ErrorKind::InvalidInput)?;
        Ok(Datagrams { socket: Arc::new(socket), local, buffer: vec![0; MAX_DATAGRAM] })
    }

    /// The descriptor to wait on.
    pub fn fd(&self) -> RawFd {
        self.socket.as_raw_fd()
    }

    /// Where it is bound.
    pub fn local(&self) -> SocketAddr {
        self.local
    }

    /// The next datagram; none if there is none now.
    pub fn receive(&mut self) -> io::Result<Option<(Sender, Vec<u8>)>> {
        // SAFETY: all-zero is a valid value of these plain structures.
        let (mut from, mut control, mut header): (libc::sockaddr_storage, Control, libc::msghdr) =
            unsafe { (std::mem::zeroed(), std::mem::zeroed(), std::mem::zeroed()) };
        let mut piece = libc::iovec { iov_base: self.buffer.as_mut_ptr().cast(), iov_len: self.buffer.len() };
        header.msg_name = (&raw mut from).cast();
        header.msg_namelen = size_of::<libc::sockaddr_storage>() as libc::socklen_t;
        header.msg_iov = &raw mut piece;
        header.msg_iovlen = 1;
        header.msg_control = (&raw mut control).cast();
        header.msg_controllen = size_of::<Control>() as _;
        // SAFETY: the header names memory of ours with its sizes, which outlives the call.
        let len = unsafe { libc::recvmsg(self.socket.as_raw_fd(), &raw mut header, libc::MSG_DONTWAIT) };
        let Ok(len) = usize::try_from(len) else {
            let error = io::Error::last_os_error();
            return if is_idle(&error) { Ok(None) } else { Err(error) };
        };
        let peer = address_of(&from).ok_or(io::ErrorKind::InvalidData)?;
        // SAFETY: the kernel has filled in the header, and `control` is still there.
        let to = unsafe { destination_of(&header) };
        Ok(self.buffer.get(..len).map(|bytes| (Sender { peer, to }, bytes.to_vec())))
    }

    /// A connection to one of the peers, on this socket. What has come from it is to be given to it
    /// ([`Connection::deliver`]).
    pub fn connection(&self, sender: Sender, limits: &Limits) -> Connection {
        let shared = Shared { sender, arrived: VecDeque::new() };
        Connection::datagrams(Udp::new(self.socket.clone(), Some(shared), limits))
    }
}

impl Sender {
    /// The peer's address, IPv4 as IPv4.
    pub fn address(&self) -> SocketAddr {
        SocketAddr::new(self.peer.ip().to_canonical(), self.peer.port())
    }
}

/// Room for what comes and goes beside a datagram: one of the two kinds of packet information.
#[repr(C, align(8))]
#[derive(Clone, Copy)]
struct Control([u8; 64]);

fn address_of(storage: &libc::sockaddr_storage) -> Option<SocketAddr> {
    match i32::from(storage.ss_family) {
        libc::AF_INET => {
            // SAFETY: the family says that it is one of these, which fit into the storage.
            let v4 = unsafe { &*std::ptr::from_ref(storage).cast::<libc::sockaddr_in>() };
            let ip = Ipv4Addr::from(u32::from_be(v4.sin_addr.s_addr));
            Some(SocketAddr::new(ip.into(), u16::from_be(v4.sin_port)))
        }
        libc::AF_INET6 => {
            // SAFETY: as above.
            let v6 = unsafe { &*std::ptr::from_ref(storage).cast::<libc::sockaddr_in6>() };
            let ip = Ipv6Addr::from(v6.sin6_addr.s6_addr);
            let port = u16::from_be(v6.sin6_port);
            Some(std::net::SocketAddrV6::new(ip, port, v6.sin6_flowinfo, v6.sin6_scope_id).into())
        }
        _ => None,
    }
}

/// The address of ours that a datagram was sent to. To be called with a header filled in by recvmsg only.
unsafe fn destination_of(header: &libc::msghdr) -> Option<IpAddr> {
    // SAFETY: by the caller's promise the header's control messages are in order; the structures are read as they lie.
    unsafe {
        let mut at = libc::CMSG_FIRSTHDR(header);
        while !at.is_null() {
            let data = libc::CMSG_DATA(at);
            match ((*at).cmsg_level, (*at).cmsg_type) {
                (libc::IPPROTO_IP, libc::IP_PKTINFO) => {
                    let info = data.cast::<libc::in_pktinfo>().read_unaligned();
                    return Some(Ipv4Addr::from(u32::from_be(info.ipi_spec_dst.s_addr)).into());
                }
                (libc::IPPROTO_IPV6, libc::IPV6_PKTINFO) => {
                    let info = data.cast::<libc::in6_pktinfo>().read_unaligned();
                    return Some(Ipv6Addr::from(info.ipi6_addr.s6_addr).into());
                }
                _ => at = libc::CMSG_NXTHDR(header, at),
            }
        }
    }
    None
}

/// Sends one datagram to a peer, from the address it knows.
fn send_to(socket: &Socket, to: &Sender, bytes: &[u8]) -> io::Result<usize> {
    let peer = SockAddr::from(to.peer);
    // SAFETY: all-zero is a valid value of these plain structures.
    let (mut control, mut header): (Control, libc::msghdr) =
        unsafe { (std::mem::zeroed(), std::mem::zeroed()) };
    let mut piece = libc::iovec { iov_base: bytes.as_ptr().cast_mut().cast(), iov_len: bytes.len() };
    header.msg_name = peer.as_ptr().cast_mut().cast();
    header.msg_namelen = peer.len();
    header.msg_iov = &raw mut piece;
    header.msg_iovlen = 1;
    let scope = match to.peer {
        SocketAddr::V6(v6) => v6.scope_id(),
        SocketAddr::V4(_) => 0,
    };
    // SAFETY: the control buffer has room for either structure with its header, and outlives the calls; the kernel writes to
    // nothing of what is sent.
    let sent = unsafe {
        match to.to {
            Some(IpAddr::V4(from)) => {
                let info = libc::in_pktinfo {
                    ipi_ifindex: 0,
                    ipi_spec_dst: libc::in_addr { s_addr: u32::from(from).to_be() },
                    ipi_addr: libc::in_addr { s_addr: 0 },
                };
                enclose(&mut header, &mut control, (libc::IPPROTO_IP, libc::IP_PKTINFO), info);
            }
            Some(IpAddr::V6(from)) => {
                let info = libc::in6_pktinfo {
                    ipi6_addr: libc::in6_addr { s6_addr: from.octets() },
                    ipi6_ifindex: scope as _,
                };
                enclose(&mut header, &mut control, (libc::IPPROTO_IPV6, libc::IPV6_PKTINFO), info);
            }
            None => {}
        }
        libc::sendmsg(socket.as_raw_fd(), &raw const header, libc::MSG_NOSIGNAL | libc::MSG_DONTWAIT)
    };
    usize::try_from(sent).map_err(|_| io::Error::last_os_error())
}

/// Puts one control message into the buffer and the buffer into the header. `T` fits into the buffer.
unsafe fn enclose<T>(header: &mut libc::msghdr, control: &mut Control, kind: (i32, i32), info: T) {
    // SAFETY: by the caller's promise; the buffer is aligned for the header of a control message.
    unsafe {
        let size = size_of::<T>() as u32;
        header.msg_control = std::ptr::from_mut(control).cast();
        header.msg_controllen = libc::CMSG_SPACE(size) as _;
        let first = libc::CMSG_FIRSTHDR(header);
        (*first).cmsg_level = kind.0;
        (*first).cmsg_type = kind.1;
        (*first).cmsg_len = libc::CMSG_LEN(size) as _;
        libc::CMSG_DATA(first).cast::<T>().write_unaligned(info);
    }
}

/// What a connection has that shares its socket.
#[derive(Debug)]
struct Shared {
    sender: Sender,
    arrived: VecDeque<Vec<u8>>,
}

/// A datagram socket, as one peer of it.
#[derive(Debug)]
pub(super) struct Udp {
    socket: Arc<Socket>,
    /// None: the socket is connected.
    shared: Option<Shared>,
    stage: Stage,
    /// The reason for a `Down` that is still to be told.
    doomed: Option<LinkFailure>,
    queue: VecDeque<(Channel, Vec<u8>)>,
    queued: usize,
    limit: usize,
    pressed: bool,
    refused: Vec<(Channel, Vec<u8>)>,
    buffer: Vec<u8>,
}

impl Udp {
    pub fn connect(to: &Destination, limits: &Limits) -> io::Result<Udp> {
        let mut last = io::Error::from(io::ErrorKind::InvalidInput);
        let mut held = None;
        for address in to.addresses.as_slice() {
            let address = SocketAddr::new(*address, to.port);
            let socket =
                Socket::new(Domain::for_address(address), Type::DGRAM.nonblocking().cloexec(), None)?;
            match socket.connect(&SockAddr::from(address)) {
                Ok(()) => return Ok(Udp::accepted(socket, limits)),
                Err(error) => last = error,
            }
            held = Some(socket);
        }
        let mut udp = Udp::accepted(held.ok_or(io::ErrorKind::InvalidInput)?, limits);
        udp.doomed = Some(failure(&last));
        Ok(udp)
    }

    pub fn accepted(socket: Socket, limits: &Limits) -> Udp {
        Udp::new(Arc::new(socket), None, limits)
    }

    fn new(socket: Arc<Socket>, shared: Option<Shared>, limits: &Limits) -> Udp {
        Udp {
            socket,
            shared,
            stage: Stage::Fresh,
            doomed: None,
            queue: VecDeque::new(),
            queued: 0,
            limit: limits.queued_bytes_per_link,
            pressed: false,
            refused: Vec::new(),
            buffer: Vec::new(),
        }
    }

    pub fn fd(&self) -> RawFd {
        self.socket.as_raw_fd()
    }

    pub fn interest(&self) -> Interest {
        match self.stage {
            Stage::Fresh | Stage::Open => {
                Interest { read: self.shared.is_none(), write: !self.queue.is_empty() }
            }
            Stage::Over => Interest::NONE,
        }
    }

    pub fn deadline(&self) -> Option<Time> {
        let waiting = match self.stage {
            Stage::Fresh => true,
            Stage::Open => self.doomed.is_some() || !self.refused.is_empty(),
            Stage::Over => false,
        };
        waiting.then_some(Time::ZERO)
    }

    pub fn progress(&mut self, budget: usize, tell: &mut dyn FnMut(LinkEvent<'_>)) -> bool {
        if self.stage == Stage::Over {
            return false;
        }
        if self.doomed.is_none() && self.stage == Stage::Fresh {
            self.stage = Stage::Open;
            let mut local = plain_address(self.socket.local_addr());
            let peer = match &self.shared {
                None => plain_address(self.socket.peer_addr()),
                Some(shared) => {
                    if let (Some(local), Some(to)) = (&mut local, shared.sender.to) {
                        local.set_ip(to.to_canonical());
                    }
                    Some(shared.sender.address())
                }
            };
            match (local, peer) {
                (Some(local), Some(peer)) => tell(LinkEvent::Up {
                    kind: LinkKind::Udp,
                    protocol: Protocol::Plain,
                    local: &[local],
                    peer: &[peer],
                }),
                _ => self.doomed = Some(LinkFailure::Unreachable),
            }
        }
        self.flush();
        for (channel, message) in self.refused.drain(..) {
            tell(LinkEvent::SendFailed { channel, message });
        }
        if self.pressed && self.queued <= self.limit / 2 {
            self.pressed = false;
            tell(LinkEvent::Writable);
        }
        let more = self.read(budget, tell);
        if let Some(why) = self.doomed.filter(|_| !more) {
            self.stage = Stage::Over;
            tell(LinkEvent::Down(why));
        }
        more
    }

    /// Returns whether more may be waiting.
    fn read(&mut self, budget: usize, tell: &mut dyn FnMut(LinkEvent<'_>)) -> bool {
        if let Some(shared) = &mut self.shared {
            for _ in 0..budget {
                let Some(bytes) = shared.arrived.pop_front() else { break };
                let channel = Channel::User(UserChannel::default());
                tell(LinkEvent::Message { channel, bytes: &bytes, complete: true });
            }
            return !shared.arrived.is_empty();
        }
        self.buffer.resize(MAX_DATAGRAM, 0);
        for _ in 0..budget {
            match (&*self.socket).read(&mut self.buffer) {
                Ok(len) => tell(LinkEvent::Message {
                    channel: Channel::User(UserChannel::default()),
                    bytes: &self.buffer[..len],
                    complete: true,
                }),
                Err(error) if is_idle(&error) => return false,
                Err(error) => {
                    self.doomed.get_or_insert(failure(&error));
                    return false;
                }
            }
        }
        budget > 0
    }

    pub fn push(&mut self, channel: Channel, bytes: Vec<u8>) {
        match channel {
            Channel::User(_) => {}
            Channel::Asap | Channel::Enrp => return,
        }
        if self.stage == Stage::Over || self.doomed.is_some() {
            self.queue.push_back((channel, bytes));
            return;
        }
        if self.queued >= self.limit {
            self.doomed = Some(LinkFailure::Congested);
        }
        self.queued += bytes.len();
        self.queue.push_back((channel, bytes));
    }

    pub fn flush(&mut self) {
        while self.doomed.is_none()
            && self.stage != Stage::Over
            && let Some((channel, bytes)) = self.queue.front()
        {
            let expired = match channel {
                Channel::User(user) => user.expires.is_some_and(|until| until <= runtime::now()),
                Channel::Asap | Channel::Enrp => false,
            };
            let sent = match &self.shared {
                _ if expired => Err(io::Error::from_raw_os_error(libc::ETIME)),
                None => self.socket.send_with_flags(bytes, libc::MSG_NOSIGNAL),
                Some(shared) => send_to(&self.socket, &shared.sender, bytes),
            };
            match sent {
                Err(error) if is_idle(&error) => break,
                // An answer to an earlier datagram says that nobody is there.
                Err(error) if !matches!(error.raw_os_error(), Some(libc::EMSGSIZE | libc::ETIME)) => {
                    self.doomed = Some(failure(&error));
                }
                result => {
                    let Some((channel, bytes)) = self.queue.pop_front() else { break };
                    self.queued -= bytes.len();
                    if result.is_err() {
                        self.refused.push((channel, bytes));
                    }
                }
            }
        }
        self.pressed |= self.queued > self.limit / 2;
    }

    /// See [`Connection::deliver`].
    pub fn deliver(&mut self, bytes: Vec<u8>) {
        if let Some(shared) = &mut self.shared {
            shared.arrived.push_back(bytes);
        }
    }

    pub fn shares_socket(&self) -> bool {
        self.shared.is_some()
    }

    pub fn queued(&self) -> usize {
        self.queued
    }

    pub fn take_unsent(&mut self) -> Vec<(Channel, Vec<u8>)> {
        self.queued = 0;
        self.queue.drain(..).collect()
    }

    /// UDP has no end to tell the peer: done as soon as the queue is empty.
    pub fn finish(&mut self) {
        self.flush();
        if self.queue.is_empty() {
            self.doomed.get_or_insert(LinkFailure::Closed);
        }
    }
}
