//! One connection to one peer, non-blocking, without a thread of its own: framing, queue, connecting. Each kind of
//! link is a file of its own; used by the driver for ASAP and ENRP links, and by callers' threads for
//! sessions (docs/tcp.md). Knows no identifiers and keeps no clock.

use crate::config::Limits;
use crate::machine::{Channel, Destination, LinkFailure, LinkKind, Protocol};
use crate::runtime::listener::Listener;
use crate::runtime::poller::Interest;
use crate::runtime::sctp::Sctp;
use crate::runtime::tcp::Tcp;
use crate::runtime::udp::Udp;
use crate::types::Time;
use socket2::{SockAddr, Socket};
use std::io;
use std::net::SocketAddr;
use std::os::fd::{OwnedFd, RawFd};

/// What happened on a connection.
#[derive(Debug)]
pub enum LinkEvent<'a> {
    /// It can be used. Comes once, before everything but `Down`.
    Up {
        /// What carries it.
        kind: LinkKind,
        /// What it turned out to be: `Session` or `Plain` where that was to be found out.
        protocol: Protocol,
        /// Our addresses.
        local: &'a [SocketAddr],
        /// The peer's.
        peer: &'a [SocketAddr],
    },
    /// A message, or a piece of one.
    Message {
        /// On this channel.
        channel: Channel,
        /// Untrusted.
        bytes: &'a [u8],
        /// Whether the message ends here.
        complete: bool,
    },
    /// The queue has drained below its low-water mark (half the limit) after having been above it.
    Writable,
    /// A message could not be sent, and the link lives on (a datagram that is too long).
    SendFailed {
        /// On this channel.
        channel: Channel,
        /// As given.
        message: Vec<u8>,
    },
    /// It is over; nothing follows. All that had been received before was told before.
    Down(LinkFailure),
}

/// A connection. Not `Sync`: one thread at a time.
///
/// Its owner waits for [`Connection::fd`] with [`Connection::interest`] and until [`Connection::deadline`],
/// and then calls [`Connection::progress`]. All three may change with every call of a method.
#[derive(Debug)]
pub struct Connection {
    carrier: Carrier,
}

/// One variant for each kind of link.
#[derive(Debug)]
enum Carrier {
    Sctp(Box<Sctp>),
    Tcp(Box<Tcp>),
    Udp(Udp),
}

impl Connection {
    /// Begins to connect. The addresses are tried in turn, and an address that does not answer is left for the
    /// next one after 200 ms, to be tried for longer when the others have failed; how long to go on is for the
    /// owner to say. That nobody could be reached is told by `progress`. Errors: no descriptor, or a
    /// kind of link that is not here (`Unsupported`). Over SCTP the system tries all addresses for one association.
    pub fn connect(now: Time, to: &Destination, limits: &Limits) -> io::Result<Connection> {
        let carrier = match to.kind {
            LinkKind::Tcp => Carrier::Tcp(Box::new(Tcp::connect(now, to, limits)?)),
            LinkKind::Udp => Carrier::Udp(Udp::connect(to, limits)?),
            LinkKind::Sctp => Carrier::Sctp(Box::new(Sctp::connect(to, limits)?)),
        };
        Ok(Connection { carrier })
    }

    /// Begins to open an SCTP association that leaves from a listening port ([`Listener::bind_port`]). Errors beside the
    /// system's: EISCONN if the port has an association with the peer that waits to be accepted, EADDRNOTAVAIL if it has
    /// one that was accepted or opened before.
    pub(super) fn connect_from(port: &Listener, to: &Destination, limits: &Limits) -> io::Result<Connection> {
        let sctp = Sctp::connect_from(port.socket(), to, limits)?;
        Ok(Connection { carrier: Carrier::Sctp(Box::new(sctp)) })
    }

    /// Takes on an accepted socket, makes it non-blocking and close-on-exec. `Session` finds out whether the
    /// peer speaks the framing: 200 ms from `now`.
    pub fn accepted(
        now: Time,
        socket: OwnedFd,
        kind: LinkKind,
        protocol: Protocol,
        limits: &Limits,
    ) -> io::Result<Connection> {
        let socket = Socket::from(socket);
        socket.set_nonblocking(true)?;
        socket.set_cloexec(true)?;
        let carrier = match kind {
            LinkKind::Tcp => Carrier::Tcp(Box::new(Tcp::accepted(now, socket, protocol, limits)?)),
            LinkKind::Udp => Carrier::Udp(Udp::accepted(socket, limits)),
            LinkKind::Sctp => Carrier::Sctp(Box::new(Sctp::accepted(socket, protocol, limits))),
        };
        Ok(Connection { carrier })
    }

    /// A peer of a datagram socket that others share.
    pub(super) fn datagrams(udp: Udp) -> Connection {
        Connection { carrier: Carrier::Udp(udp) }
    }

    /// Whether others use the descriptor, too: then who owns them all waits on it, and gives each what is its own.
    pub fn shares_socket(&self) -> bool {
        match &self.carrier {
            Carrier::Tcp(_) | Carrier::Sctp(_) => false,
            Carrier::Udp(udp) => udp.shares_socket(),
        }
    }

    /// Gives a connection that shares its socket a datagram that has come for it, to be told by `progress`. Its owner bounds
    /// how many wait.
    pub fn deliver(&mut self, bytes: Vec<u8>) {
        match &mut self.carrier {
            Carrier::Tcp(_) | Carrier::Sctp(_) => {}
            Carrier::Udp(udp) => udp.deliver(bytes),
        }
    }

    /// The descriptor to wait on. Changes only within `progress` while connecting (the next address); the
    /// previous one then stays open until the next `progress`, so that a poller can forget it first.
    pub fn fd(&self) -> RawFd {
        match &self.carrier {
            Carrier::Tcp(tcp) => tcp.fd(),
            Carrier::Sctp(sctp) => sctp.fd(),
            Carrier::Udp(udp) => udp.fd(),
        }
    }

    /// What to wait for now.
    pub fn interest(&self) -> Interest {
        match &self.carrier {
            Carrier::Tcp(tcp) => tcp.interest(),
            Carrier::Sctp(sctp) => sctp.interest(),
            Carrier::Udp(udp) => udp.interest(),
        }
    }

    /// When [`Connection::progress`] is wanted without readiness (preamble, connect); [`Time::ZERO`] when there
    /// is something to tell now.
    pub fn deadline(&self) -> Option<Time> {
        match &self.carrier {
            Carrier::Tcp(tcp) => tcp.deadline(),
            Carrier::Sctp(sctp) => sctp.deadline(),
            Carrier::Udp(udp) => udp.deadline(),
        }
    }

    /// Does what can be done without blocking, telling what happened. At most `budget` messages are
    /// delivered per call; returns whether more may be waiting, perhaps in memory, where waiting for the descriptor
    /// does not show it. A budget of 0 reads nothing, but connects and writes.
    pub fn progress(&mut self, now: Time, budget: usize, tell: &mut dyn FnMut(LinkEvent<'_>)) -> bool {
        match &mut self.carrier {
            Carrier::Tcp(tcp) => tcp.progress(now, budget, tell),
            Carrier::Sctp(sctp) => sctp.progress(budget, tell),
            Carrier::Udp(udp) => udp.progress(budget, tell),
        }
    }

    /// Queues a message and writes what can be written. Errors are told by `progress`. While as much as
    /// `Limits::queued_bytes_per_link` is queued a further message means `Down(Congested)`; on a TCP link that carries a
    /// session, while as much as that and the longest message of user data is. Who sends user data looks at
    /// [`Connection::queued`] first and waits for `Writable`: the difference is for what was kept and goes to a new
    /// element at once, and for control messages behind a long message. Before `Up` messages wait. Control messages to a
    /// peer without control channel are dropped. After `Down(Closed)` sending may go on: the peer has perhaps only
    /// ended its own direction.
    pub fn send(&mut self, channel: Channel, bytes: Vec<u8>) {
        self.push(channel, bytes);
        self.flush();
    }

    /// Queues a message as [`Connection::send`] does, to be written by the next `flush` or `progress`.
    pub fn push(&mut self, channel: Channel, bytes: Vec<u8>) {
        match &mut self.carrier {
            Carrier::Tcp(tcp) => tcp.push(channel, bytes),
            Carrier::Sctp(sctp) => sctp.push(channel, bytes),
            Carrier::Udp(udp) => udp.push(channel, bytes),
        }
    }

    /// Writes what can be written.
    pub fn flush(&mut self) {
        match &mut self.carrier {
            Carrier::Tcp(tcp) => tcp.flush(),
            Carrier::Sctp(sctp) => sctp.flush(),
            Carrier::Udp(udp) => udp.flush(),
        }
    }

    /// Bytes queued that are still to be written: none once writing has failed, which `progress` tells when all that has come
    /// is read. They can be taken back then.
    pub fn queued(&self) -> usize {
        match &self.carrier {
            Carrier::Tcp(tcp) => tcp.queued(),
            Carrier::Sctp(sctp) => sctp.queued(),
            Carrier::Udp(udp) => udp.queued(),
        }
    }

    /// Takes back the user messages of which no byte was handed to the transport, first queued first. Meant for
    /// a connection that is over or about to be dropped: a message that was cut off halfway is lost with it.
    pub fn take_unsent(&mut self) -> Vec<(Channel, Vec<u8>)> {
        match &mut self.carrier {
            Carrier::Tcp(tcp) => tcp.take_unsent(),
            Carrier::Sctp(sctp) => sctp.take_unsent(),
            Carrier::Udp(udp) => udp.take_unsent(),
        }
    }

    /// After `Down`, when what was not sent has been taken back: if another incarnation of the peer has taken over the
    /// association (SCTP's RESTART), the connection is one to that, just accepted, for the protocol returned.
    pub fn begin_anew(&mut self) -> Option<Protocol> {
        match &mut self.carrier {
            Carrier::Tcp(_) | Carrier::Udp(_) => None,
            Carrier::Sctp(sctp) => sctp.begin_anew(),
        }
    }

    /// Ends our direction as soon as what is queued is written; what comes is still told. Only plain TCP has such an end.
    pub fn end_writing(&mut self) {
        match &mut self.carrier {
            Carrier::Tcp(tcp) => tcp.end_writing(),
            Carrier::Sctp(_) | Carrier::Udp(_) => {}
        }
    }

    /// Begins to close in order: what is queued goes out, then the end of the session if the link is framed, then
    /// FIN or SHUTDOWN. What comes meanwhile is read and dropped. `Down` tells when the peer has closed too;
    /// how long to wait for that is for the owner to say.
    pub fn finish(&mut self) {
        match &mut self.carrier {
            Carrier::Tcp(tcp) => tcp.finish(),
            Carrier::Sctp(sctp) => sctp.finish(),
            Carrier::Udp(udp) => udp.finish(),
        }
    }

    /// Closes: breaks off (RST, ABORT), or sends what is queued as far as it goes without blocking and closes in order.
    /// If not all could be written the peer finds no end of the session and knows that something is missing.
    /// Dropping a connection only closes the descriptor (for forked children).
    pub fn close(self, abort: bool) {
        match self.carrier {
            Carrier::Tcp(tcp) => tcp.close(abort),
            Carrier::Sctp(sctp) => sctp.close(abort),
            Carrier::Udp(udp) => drop(udp),
        }
    }
}

/// Why connecting or using a socket failed.
pub(super) fn failure(error: &io::Error) -> LinkFailure {
    match error.raw_os_error() {
        Some(libc::ECONNREFUSED) => LinkFailure::Refused,
        Some(libc::ETIMEDOUT) => LinkFailure::TimedOut,
        Some(libc::ECONNRESET | libc::EPIPE | libc::ECONNABORTED | libc::ENOTCONN) => LinkFailure::Reset,
        // EADDRNOTAVAIL is what connect says when all ephemeral ports are taken.
        Some(libc::EMFILE | libc::ENFILE | libc::ENOMEM | libc::ENOBUFS | libc::EADDRNOTAVAIL) => {
            LinkFailure::NoResources
        }
        _ => LinkFailure::Unreachable,
    }
}

/// Whether a call would have blocked or was interrupted: nothing has happened.
pub(super) fn is_idle(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted)
}

/// The address of a socket's end, IPv4 as IPv4 also on an IPv6 socket.
pub(super) fn plain_address(address: io::Result<SockAddr>) -> Option<SocketAddr> {
    let address = address.ok()?.as_socket()?;
    Some(SocketAddr::new(address.ip().to_canonical(), address.port()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::machine::UserChannel;
    use crate::runtime::now;
    use crate::runtime::poller::poll;
    use crate::types::Addresses;
    use std::io::{Read, Write};
    use std::net::{IpAddr, Ipv4Addr, Shutdown, TcpListener, TcpStream, UdpSocket};
    use std::time::{Duration, Instant};

    const LOCALHOST: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);
    const PREAMBLE: &[u8] = b"\xa5ASAP\x01\0\0";

    /// A connection and all that it has told, in words.
    struct Side {
        connection: Connection,
        told: Vec<String>,
        data: Vec<(Channel, Vec<u8>)>,
    }

    impl Side {
        fn new(connection: Connection) -> Side {
            Side { connection, told: Vec::new(), data: Vec::new() }
        }

        fn step(&mut self, budget: usize) -> bool {
            let (told, data) = (&mut self.told, &mut self.data);
            self.connection.progress(now(), budget, &mut |event| match event {
                LinkEvent::Up { protocol, .. } => told.push(format!("up {protocol:?}")),
                LinkEvent::Message { channel, bytes, complete } => {
                    assert_eq!(complete, !matches!(told[0].as_str(), "up Plain") || channel == Channel::Asap);
                    data.push((channel, bytes.to_vec()));
                }
                LinkEvent::Writable => told.push("writable".to_owned()),
                LinkEvent::SendFailed { message, .. } => told.push(format!("failed {}", message.len())),
                LinkEvent::Down(why) => told.push(format!("down {why:?}")),
            })
        }

        fn said(&self, what: &str) -> bool {
            self.told.iter().any(|told| told == what)
        }

        /// All the user's data, pieces joined.
        fn text(&self) -> String {
            self.data.iter().map(|(_, bytes)| bytes.escape_ascii().to_string()).collect()
        }
    }

    /// Lets connections go on until the condition holds.
    fn run(sides: &mut [&mut Side], mut done: impl FnMut(&mut [&mut Side]) -> bool) {
        let limit = Instant::now() + Duration::from_secs(20);
        loop {
            let more = sides.iter_mut().map(|side| side.step(16)).filter(|more| *more).count() > 0;
            if done(sides) {
                return;
            }
            let told: Vec<_> = sides.iter().map(|side| &side.told).collect();
            assert!(Instant::now() < limit, "the condition did not come about: {told:?}");
            let mut wait = Duration::from_millis(if more { 0 } else { 20 });
            let mut entries = Vec::new();
            for side in sides.iter() {
                let interest = side.connection.interest();
                let events = if interest.read { libc::POLLIN } else { 0 }
                    | if interest.write { libc::POLLOUT } else { 0 };
                let fd = if events == 0 { -1 } else { side.connection.fd() };
                entries.push(libc::pollfd { fd, events, revents: 0 });
                if let Some(deadline) = side.connection.deadline() {
                    wait = wait.min(deadline.since(now()));
                }
            }
            poll(&mut entries, Some(wait)).unwrap();
        }
    }

    fn listen(protocol: Protocol) -> Listener {
        Listener::bind(LinkKind::Tcp, protocol, (LOCALHOST, 0).into(), 64).unwrap()
    }

    fn destination(protocol: Protocol, port: u16, addresses: Vec<IpAddr>) -> Destination {
        Destination { kind: LinkKind::Tcp, protocol, port, addresses: Addresses::new(addresses).unwrap() }
    }

    fn dial(protocol: Protocol, port: u16, limits: &Limits) -> Side {
        let to = destination(protocol, port, vec![LOCALHOST]);
        Side::new(Connection::connect(now(), &to, limits).unwrap())
    }

    fn accept(listener: &Listener, limits: &Limits) -> Side {
        let limit = Instant::now() + Duration::from_secs(20);
        loop {
            if let Some(socket) = listener.accept().unwrap() {
                let (kind, protocol) = (listener.kind(), listener.protocol());
                return Side::new(Connection::accepted(now(), socket, kind, protocol, limits).unwrap());
            }
            assert!(Instant::now() < limit, "nobody came");
            let mut entry = [libc::pollfd { fd: listener.fd(), events: libc::POLLIN, revents: 0 }];
            poll(&mut entry, Some(Duration::from_secs(1))).unwrap();
        }
    }

    /// Both ends of a link of ours, both up.
    fn pair(protocol: Protocol, limits: &Limits) -> (Side, Side) {
        let listener = listen(protocol);
        let mut here = dial(protocol, listener.local().port(), limits);
        let mut there = accept(&listener, limits);
        run(&mut [&mut here, &mut there], |sides| sides.iter().all(|side| !side.told.is_empty()));
        (here, there)
    }

    /// A raw TCP client of a session's listener.
    fn raw_client() -> (TcpStream, Side) {
        let listener = listen(Protocol::Session);
        let stream = TcpStream::connect(listener.local()).unwrap();
        let side = accept(&listener, &Limits::default());
        (stream, side)
    }

    fn user(ppid: u32) -> Channel {
        Channel::User(UserChannel { ppid, stream: 3, unordered: false, expires: None })
    }

    #[test]
    fn asap_messages_pass_both_ways_without_their_padding() {
        let (mut here, mut there) = pair(Protocol::Asap, &Limits::default());
        here.connection.send(Channel::Asap, b"\x01\0\0\x05a\0\0\0".to_vec());
        // A message that its sender has not padded is padded on the way.
        here.connection.send(Channel::Asap, b"\x02\0\0\x06ab".to_vec());
        there.connection.send(Channel::Asap, b"\x03\0\0\x04".to_vec());
        run(&mut [&mut here, &mut there], |sides| sides[0].data.len() == 1 && sides[1].data.len() == 2);
        assert_eq!(here.data, [(Channel::Asap, b"\x03\0\0\x04".to_vec())]);
        assert_eq!(there.data[0].1, b"\x01\0\0\x05a");
        assert_eq!(there.data[1].1, b"\x02\0\0\x06ab");
    }

    #[test]
    fn a_plain_link_that_writes_no_more_still_reads() {
        let listener = TcpListener::bind((LOCALHOST, 0)).unwrap();
        let limits = Limits::default();
        let mut side = dial(Protocol::Plain, listener.local_addr().unwrap().port(), &limits);
        let (mut peer, _) = listener.accept().unwrap();
        run(&mut [&mut side], |sides| sides[0].said("up Plain"));
        side.connection.send(user(0), b"request".to_vec());
        side.connection.end_writing();
        side.connection.end_writing();
        let mut request = String::new();
        peer.read_to_string(&mut request).unwrap();
        assert_eq!(request, "request");
        peer.write_all(b"answer").unwrap();
        run(&mut [&mut side], |sides| sides[0].text() == "answer");
        drop(peer);
        run(&mut [&mut side], |sides| sides[0].said("down Closed"));
    }

    #[test]
    fn an_unsynchronised_stream_is_garbled_after_what_was_good() {
        let listener = listen(Protocol::Enrp);
        let mut stream = TcpStream::connect(listener.local()).unwrap();
        let mut side = accept(&listener, &Limits::default());
        stream.write_all(b"\x01\0\0\x04\x01\0\0\x03").unwrap();
        run(&mut [&mut side], |sides| sides[0].said("down Garbled"));
        assert_eq!(side.data, [(Channel::Enrp, b"\x01\0\0\x04".to_vec())]);
    }

    #[test]
    fn session_carries_messages_channels_and_control() {
        let (mut here, mut there) = pair(Protocol::Session, &Limits::default());
        assert!(here.said("up Session") && there.said("up Session"));
        here.connection.send(user(7), b"hello".to_vec());
        here.connection.send(Channel::Asap, b"\x0b\0\0\x05c\0\0\0".to_vec());
        here.connection.send(user(8), Vec::new());
        there.connection.send(user(9), b"answer".to_vec());
        run(&mut [&mut here, &mut there], |sides| sides[0].data.len() == 1 && sides[1].data.len() == 3);
        let expected =
            [(user(7), b"hello".to_vec()), (Channel::Asap, b"\x0b\0\0\x05c".to_vec()), (user(8), Vec::new())];
        assert_eq!(there.data, expected);
        assert_eq!(here.data, [(user(9), b"answer".to_vec())]);
    }

    #[test]
    fn messages_sent_before_the_link_is_up_wait_for_it() {
        let listener = listen(Protocol::Session);
        let mut here = dial(Protocol::Session, listener.local().port(), &Limits::default());
        here.connection.send(Channel::Asap, b"\x0c\0\0\x04".to_vec());
        here.connection.send(user(1), b"early".to_vec());
        let mut there = accept(&listener, &Limits::default());
        run(&mut [&mut here, &mut there], |sides| sides[1].data.len() == 2);
        assert_eq!(there.data[0], (Channel::Asap, b"\x0c\0\0\x04".to_vec()));
        assert_eq!(there.data[1], (user(1), b"early".to_vec()));
    }

    #[test]
    fn message_of_three_megabytes_arrives_whole() {
        let (mut here, mut there) = pair(Protocol::Session, &Limits::default());
        let message: Vec<u8> = (0..3u32 << 20).map(|n| (n % 251) as u8).collect();
        here.connection.send(user(1), message.clone());
        here.connection.send(user(2), b"behind".to_vec());
        run(&mut [&mut here, &mut there], |sides| sides[1].data.len() == 2);
        assert!(there.data[0] == (user(1), message) && there.data[1].1 == b"behind");
    }

    #[test]
    fn message_over_the_receivers_limit_is_garbled() {
        let small = Limits { user_message_bytes: 1_000, ..Limits::default() };
        let listener = listen(Protocol::Session);
        let mut here = dial(Protocol::Session, listener.local().port(), &Limits::default());
        let mut there = accept(&listener, &small);
        here.connection.send(user(1), vec![0; 1_000]);
        here.connection.send(user(1), vec![0; 1_001]);
        run(&mut [&mut here, &mut there], |sides| sides[1].said("down Garbled"));
        assert_eq!(there.data.len(), 1);
    }

    #[test]
    fn preamble_may_come_in_pieces() {
        let (mut stream, mut side) = raw_client();
        for byte in PREAMBLE {
            side.step(16);
            stream.write_all(&[*byte]).unwrap();
        }
        stream.write_all(b"\0\x01\0\0\0\0\0\x05\0\0\0\x02hi").unwrap();
        run(&mut [&mut side], |sides| sides[0].data.len() == 1);
        assert_eq!(side.told, ["up Session"]);
        assert_eq!(side.text(), "hi");
        let mut answer = [0; 8];
        stream.read_exact(&mut answer).unwrap();
        assert_eq!(answer, PREAMBLE);
    }

    #[test]
    fn other_first_bytes_are_a_plain_client_and_its_first_data() {
        for text in ["GET /", "\u{1}"] {
            let (mut stream, mut side) = raw_client();
            let begun = Instant::now();
            stream.write_all(text.as_bytes()).unwrap();
            run(&mut [&mut side], |sides| !sides[0].data.is_empty());
            assert!(begun.elapsed() < Duration::from_millis(190), "decided by the byte, not by the clock");
            assert_eq!(
                (side.told.as_slice(), side.text()),
                (&["up Plain".to_owned()][..], text.escape_default().to_string().replace("\\u{1}", "\\x01"))
            );
            // Control messages have no way to a plain client.
            side.connection.send(Channel::Asap, b"\x0b\0\0\x04".to_vec());
            side.connection.send(user(0), b"bytes".to_vec());
            let mut answer = [0; 5];
            stream.read_exact(&mut answer).unwrap();
            assert_eq!(&answer, b"bytes");
        }
    }

    #[test]
    fn a_preamble_that_goes_wrong_is_data() {
        let (mut stream, mut side) = raw_client();
        stream.write_all(&PREAMBLE[..3]).unwrap();
        side.step(16);
        stream.write_all(b"!").unwrap();
        run(&mut [&mut side], |sides| !sides[0].data.is_empty());
        assert_eq!(side.text(), "\\xa5AS!");
    }

    #[test]
    fn silence_or_half_a_preamble_for_200_ms_is_a_plain_client() {
        for sent in [&PREAMBLE[..0], &PREAMBLE[..7]] {
            let begun = now();
            let (mut stream, mut side) = raw_client();
            stream.write_all(sent).unwrap();
            run(&mut [&mut side], |sides| !sides[0].told.is_empty());
            let took = now().since(begun);
            assert!(took >= Duration::from_millis(200) && took < Duration::from_secs(1), "{took:?}");
            assert_eq!(side.told, ["up Plain"]);
            run(&mut [&mut side], |sides| sides[0].data.len() == usize::from(!sent.is_empty()));
            assert_eq!(side.text(), sent.escape_ascii().to_string());
        }
    }

    /// It was busy, or its first bytes were lost and came again after TCP's 200 ms.
    #[test]
    fn a_late_preamble_makes_a_session_of_a_silent_client() {
        let (mut stream, mut side) = raw_client();
        run(&mut [&mut side], |sides| sides[0].said("up Plain"));
        stream.write_all(PREAMBLE).unwrap();
        run(&mut [&mut side], |sides| sides[0].said("up Session"));
        let mut answer = [0; PREAMBLE.len()];
        run(&mut [&mut side], |_| stream.peek(&mut answer).is_ok_and(|n| n == PREAMBLE.len()));
        assert_eq!(answer, PREAMBLE);
        assert_eq!(side.text(), "");
    }

    #[test]
    fn another_version_is_refused() {
        let (mut stream, mut side) = raw_client();
        stream.write_all(b"\xa5ASAP\x02\0\0").unwrap();
        run(&mut [&mut side], |sides| sides[0].said("down Garbled"));
        assert_eq!(side.told.len(), 1);
    }

    #[test]
    fn user_verifies_the_elements_preamble() {
        let server = TcpListener::bind((LOCALHOST, 0)).unwrap();
        let mut side = dial(Protocol::Session, server.local_addr().unwrap().port(), &Limits::default());
        let (mut stream, _) = server.accept().unwrap();
        run(&mut [&mut side], |sides| sides[0].said("up Session"));
        stream.write_all(b"220 welcome").unwrap();
        run(&mut [&mut side], |sides| sides[0].said("down Garbled"));
        assert!(side.data.is_empty());
    }

    #[test]
    fn end_of_session_is_closed_and_a_kill_is_reset() {
        for (end, expected) in
            [(Some(false), "down Closed"), (Some(true), "down Reset"), (None, "down Reset")]
        {
            let (mut here, mut there) = pair(Protocol::Session, &Limits::default());
            here.connection.send(user(1), b"last words".to_vec());
            match end {
                Some(abort) => here.connection.close(abort),
                // What the kernel does for a process that is killed: FIN without end of session.
                None => drop(here),
            }
            run(&mut [&mut there], |sides| sides[0].told.len() == 2);
            assert_eq!(there.told[1], expected);
            if end != Some(true) {
                assert_eq!(there.text(), "last words");
            }
        }
    }

    #[test]
    fn plain_link_closed_with_fin_is_closed_and_with_rst_is_reset() {
        for abort in [false, true] {
            let (mut here, mut there) = pair(Protocol::Plain, &Limits::default());
            there.connection.send(user(0), b"data".to_vec());
            run(&mut [&mut here, &mut there], |sides| sides[0].text() == "data");
            there.connection.close(abort);
            run(&mut [&mut here], |sides| sides[0].told.len() == 2);
            assert_eq!(here.told[1], if abort { "down Reset" } else { "down Closed" });
        }
    }

    #[test]
    fn after_the_peers_fin_an_answer_still_reaches_it() {
        let listener = listen(Protocol::Plain);
        let mut stream = TcpStream::connect(listener.local()).unwrap();
        let mut side = accept(&listener, &Limits::default());
        stream.write_all(b"question").unwrap();
        stream.shutdown(Shutdown::Write).unwrap();
        run(&mut [&mut side], |sides| sides[0].said("down Closed"));
        assert_eq!(side.text(), "question");
        side.connection.send(user(0), b"answer".to_vec());
        side.connection.close(false);
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        assert_eq!(answer, "answer");
    }

    #[test]
    fn all_that_was_received_is_told_before_down_even_when_writing_failed() {
        let listener = listen(Protocol::Plain);
        let mut stream = TcpStream::connect(listener.local()).unwrap();
        let mut side = accept(&listener, &Limits::default());
        side.step(0);
        side.connection.send(user(0), vec![1; 1_000]);
        stream.write_all(&[7; 100_000]).unwrap();
        // Unread bytes at close make it a reset.
        drop(stream);
        while side.connection.interest().write || side.connection.deadline() != Some(Time::ZERO) {
            side.connection.send(user(0), vec![1; 1_000]);
        }
        run(&mut [&mut side], |sides| sides[0].said("down Reset"));
        assert_eq!(side.data.iter().map(|(_, bytes)| bytes.len()).sum::<usize>(), 100_000);
    }

    #[test]
    fn finish_hands_over_everything_and_then_ends() {
        let (mut here, mut there) = pair(Protocol::Session, &Limits::default());
        for n in 0..16 {
            here.connection.push(user(n), vec![n as u8; 200_000]);
        }
        here.connection.finish();
        run(&mut [&mut here, &mut there], |sides| sides[1].said("down Closed"));
        assert_eq!(there.data.len(), 16);
        drop(there);
        run(&mut [&mut here], |sides| sides[0].said("down Closed"));
    }

    #[test]
    fn slow_reader_presses_and_then_frees_the_sender() {
        let limits = Limits { queued_bytes_per_link: 1 << 20, ..Limits::default() };
        let (mut here, mut there) = pair(Protocol::Session, &limits);
        let mut sent = 0;
        while here.connection.queued() < limits.queued_bytes_per_link {
            here.connection.send(user(1), vec![sent as u8; 10_000]);
            sent += 1;
        }
        here.step(16);
        assert!(!here.said("writable"));
        run(&mut [&mut here, &mut there], |sides| sides[0].said("writable"));
        assert!(here.connection.queued() <= limits.queued_bytes_per_link / 2);
        run(&mut [&mut here, &mut there], |sides| sides[1].data.len() == sent);
        for (n, (_, bytes)) in there.data.iter().enumerate() {
            assert!(bytes.len() == 10_000 && bytes.iter().all(|byte| *byte == n as u8));
        }
        assert_eq!(here.told, ["up Session", "writable"]);
    }

    #[test]
    fn a_message_of_the_greatest_length_leaves_room_for_what_goes_with_it() {
        let limits = Limits { queued_bytes_per_link: 100_000, ..Limits::default() };
        let (mut here, mut there) = pair(Protocol::Session, &limits);
        let longest = vec![7; limits.user_message_bytes];
        here.connection.send(user(1), longest.clone());
        assert!(here.connection.queued() > limits.queued_bytes_per_link);
        here.connection.send(Channel::Asap, b"\x03\0\0\x04".to_vec());
        run(&mut [&mut here, &mut there], |sides| sides[1].data.last().is_some_and(|d| d.0 == Channel::Asap));
        let length: usize = there.data.iter().map(|(_, bytes)| bytes.len()).sum();
        assert_eq!((length, here.said("down Congested")), (longest.len() + 4, false));
    }

    #[test]
    fn a_full_queue_is_congestion_and_gives_back_what_was_not_begun() {
        let limits =
            Limits { queued_bytes_per_link: 100_000, user_message_bytes: 1_600_000, ..Limits::default() };
        let (mut here, mut there) = pair(Protocol::Session, &limits);
        let mut sent = 0u32;
        while here.connection.queued() < limits.queued_bytes_per_link + limits.user_message_bytes {
            here.connection.send(user(sent), sent.to_be_bytes().repeat(2_500));
            sent += 1;
        }
        here.connection.send(user(sent), sent.to_be_bytes().repeat(400_000));
        run(&mut [&mut here], |sides| sides[0].said("down Congested"));
        let unsent = here.connection.take_unsent();
        here.connection.close(true);
        assert!(unsent.len() > 5 && unsent[0].0 != user(0));
        for ((channel, bytes), n) in unsent.iter().rev().zip((0..=sent).rev()) {
            let times = if n == sent { 400_000 } else { 2_500 };
            assert!(*channel == user(n) && *bytes == n.to_be_bytes().repeat(times), "message {n}");
        }
        run(&mut [&mut there], |sides| sides[0].said("down Reset"));
        assert!(there.data.len() + unsent.len() <= sent as usize + 1);
    }

    #[test]
    fn budget_bounds_the_messages_of_one_call_and_more_is_said() {
        for protocol in [Protocol::Asap, Protocol::Session] {
            let channel = if protocol == Protocol::Asap { Channel::Asap } else { user(0) };
            let (mut here, mut there) = pair(protocol, &Limits::default());
            for _ in 0..10 {
                here.connection.push(channel, b"\x01\0\0\x04".to_vec());
            }
            here.connection.finish();
            for count in 1..=10 {
                let mut entry =
                    [libc::pollfd { fd: there.connection.fd(), events: libc::POLLIN, revents: 0 }];
                if count == 1 {
                    poll(&mut entry, Some(Duration::from_secs(20))).unwrap();
                }
                assert!(there.step(1));
                assert_eq!((there.data.len(), there.told.len()), (count, 1), "{protocol:?}");
            }
            run(&mut [&mut there], |sides| sides[0].said("down Closed"));
            assert_eq!(there.data.len(), 10, "each message once");
        }
    }

    #[test]
    fn refused_address_is_followed_by_the_next() {
        let listener = listen(Protocol::Asap);
        let refusing = IpAddr::V4(Ipv4Addr::new(127, 0, 0, 77));
        let to = destination(Protocol::Asap, listener.local().port(), vec![refusing, refusing, LOCALHOST]);
        let mut side = Side::new(Connection::connect(now(), &to, &Limits::default()).unwrap());
        run(&mut [&mut side], |sides| !sides[0].told.is_empty());
        assert_eq!(side.told, ["up Asap"]);
    }

    #[test]
    fn when_all_refuse_it_is_told_once() {
        let port = listen(Protocol::Asap).local().port();
        let to = destination(Protocol::Asap, port, vec![LOCALHOST, LOCALHOST]);
        let mut side = Side::new(Connection::connect(now(), &to, &Limits::default()).unwrap());
        run(&mut [&mut side], |sides| !sides[0].told.is_empty());
        side.step(16);
        assert_eq!(side.told, ["down Refused"]);
        assert_eq!((side.connection.interest(), side.connection.deadline()), (Interest::NONE, None));
    }

    #[test]
    fn silent_address_is_left_for_the_next_after_200_ms() {
        // A full backlog answers no SYN.
        let silent = TcpListener::bind((Ipv4Addr::new(127, 0, 0, 78), 0)).unwrap();
        let port = silent.local_addr().unwrap().port();
        // SAFETY: listen takes no pointers; it makes the backlog smaller.
        assert_eq!(unsafe { libc::listen(std::os::fd::AsRawFd::as_raw_fd(&silent), 0) }, 0);
        let _fill: Vec<_> = (0..4)
            .map(|_| {
                let to = destination(Protocol::Plain, port, vec![silent.local_addr().unwrap().ip()]);
                let mut side = Side::new(Connection::connect(now(), &to, &Limits::default()).unwrap());
                side.step(0);
                side
            })
            .collect();
        let Ok(listener) = Listener::bind(LinkKind::Tcp, Protocol::Asap, (LOCALHOST, port).into(), 8) else {
            return;
        };
        let to = destination(Protocol::Asap, port, vec![silent.local_addr().unwrap().ip(), LOCALHOST]);
        let begun = Instant::now();
        let mut side = Side::new(Connection::connect(now(), &to, &Limits::default()).unwrap());
        run(&mut [&mut side], |sides| !sides[0].told.is_empty());
        assert_eq!(side.told, ["up Asap"]);
        assert!(begun.elapsed() >= Duration::from_millis(200));
        drop(listener);
    }

    #[test]
    fn datagrams_are_messages() {
        let server = UdpSocket::bind((LOCALHOST, 0)).unwrap();
        let port = server.local_addr().unwrap().port();
        let to = Destination { kind: LinkKind::Udp, ..destination(Protocol::Plain, port, vec![LOCALHOST]) };
        let mut side = Side::new(Connection::connect(now(), &to, &Limits::default()).unwrap());
        side.connection.send(user(0), b"ping".to_vec());
        side.connection.send(user(0), vec![0; 70_000]);
        run(&mut [&mut side], |sides| sides[0].told.len() == 2);
        assert_eq!(side.told, ["up Plain", "failed 70000"]);
        let mut buffer = [0; 16];
        let (len, from) = server.recv_from(&mut buffer).unwrap();
        assert_eq!(&buffer[..len], b"ping");
        let mut pieces = Vec::new();
        server.send_to(b"one", from).unwrap();
        server.send_to(b"two", from).unwrap();
        let limit = Instant::now() + Duration::from_secs(20);
        while pieces.len() < 2 && Instant::now() < limit {
            side.connection.progress(now(), 1, &mut |event| {
                if let LinkEvent::Message { bytes, complete, .. } = event {
                    assert!(complete);
                    pieces.push(bytes.to_vec());
                }
            });
        }
        assert_eq!(pieces, [b"one", b"two"]);
        drop(server);
        side.connection.send(user(0), b"gone?".to_vec());
        run(&mut [&mut side], |sides| sides[0].said("down Refused"));
    }
}
