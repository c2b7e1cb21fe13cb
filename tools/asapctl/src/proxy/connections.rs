//! TCP: each client has a connection of its own to an element. What one side sends the other gets, as far as it takes it; an end
//! goes through, and a failure: then both sides are reset, and the element is reported if it was its fault.

use super::elements::{Elements, Place};
use super::{CLIENTS, Carrier, LISTENER};
use mio::event::Event;
use mio::net::{TcpListener, TcpStream};
use mio::{Interest, Registry, Token};
use socket2::{SockRef, TcpKeepalive};
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::io::{self, Read, Write};
use std::net::{Shutdown, SocketAddr};
use std::time::{Duration, Instant};

/// How much is carried at once.
const PORTION: usize = 65_536;
/// How many portions one client may have carried before it is others' turn.
const PORTIONS: usize = 16;
/// How long not to accept when there are no descriptors left.
const PAUSE: Duration = Duration::from_millis(100);
/// A silent host is noticed: probes after so long, so far apart; data that is not acknowledged in so long.
const PROBE_AFTER: Duration = Duration::from_secs(10);
const PROBE_EVERY: Duration = Duration::from_secs(5);
const UNACKNOWLEDGED: Duration = Duration::from_secs(25);

/// All clients.
pub struct Connections {
    listener: Option<TcpListener>,
    elements: Elements,
    connect_timeout: Duration,
    clients: BTreeMap<usize, Client>,
    next: usize,
    /// When connecting is given up.
    deadlines: BTreeSet<(Instant, usize)>,
    /// Who has more to carry.
    again: VecDeque<usize>,
    accept_at: Option<Instant>,
    portion: Vec<u8>,
}

struct Client {
    stream: TcpStream,
    address: SocketAddr,
    stage: Stage,
}

enum Stage {
    /// Until the elements are known.
    Asking,
    /// To the first of these places.
    Connecting {
        server: TcpStream,
        places: VecDeque<Place>,
        until: Instant,
    },
    Connected {
        server: TcpStream,
        place: Place,
        up: Pipe,
        down: Pipe,
    },
}

/// One direction.
#[derive(Default)]
struct Pipe {
    /// What the receiving side has not taken yet; nothing more is read until it has.
    rest: Vec<u8>,
    sent: usize,
    /// The sending side has ended.
    ended: bool,
    /// The receiving side was told so.
    closed: bool,
}

/// Whose fault it was.
enum Broken {
    Client(io::Error),
    Server(io::Error),
}

impl Connections {
    pub fn open(
        at: SocketAddr,
        elements: Elements,
        connect_timeout: Duration,
        registry: &Registry,
    ) -> io::Result<(Connections, SocketAddr)> {
        let mut listener = TcpListener::bind(at)?;
        registry.register(&mut listener, LISTENER, Interest::READABLE)?;
        let address = listener.local_addr()?;
        let connections = Connections {
            listener: Some(listener),
            elements,
            connect_timeout,
            clients: BTreeMap::new(),
            next: 0,
            deadlines: BTreeSet::new(),
            again: VecDeque::new(),
            accept_at: None,
            portion: vec![0; PORTION],
        };
        Ok((connections, address))
    }

    fn accept(&mut self, registry: &Registry, now: Instant) {
        let Some(listener) = &self.listener else { return };
        self.accept_at = None;
        loop {
            match listener.accept() {
                Ok((mut stream, address)) => {
                    let key = self.next;
                    self.next += 1;
                    if let Err(e) = prepare(&stream)
                        .and_then(|()| registry.register(&mut stream, token(key, CLIENT), BOTH))
                    {
                        log::warn!("client {address}: {e}");
                        continue;
                    }
                    self.clients.insert(key, Client { stream, address, stage: Stage::Asking });
                    self.elements.ask(key);
                }
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => return,
                Err(e)
                    if matches!(
                        e.raw_os_error(),
                        Some(libc::EMFILE | libc::ENFILE | libc::ENOBUFS | libc::ENOMEM)
                    ) =>
                {
                    log::warn!("clients wait: {e}");
                    self.accept_at = Some(now + PAUSE);
                    return;
                }
                // A client that has gone already.
                Err(e) => log::debug!("not accepted: {e}"),
            }
        }
    }

    /// Connects to the first of the places, or the next that can be tried.
    fn connect(&mut self, key: usize, mut places: VecDeque<Place>, registry: &Registry, now: Instant) {
        let Some(client) = self.clients.get_mut(&key) else { return };
        while let Some(place) = places.front() {
            let started = TcpStream::connect(place.address).and_then(|mut server| {
                prepare(&server)?;
                registry.register(&mut server, token(key, SERVER), BOTH)?;
                Ok(server)
            });
            match started {
                Ok(server) => {
                    let until = now + self.connect_timeout;
                    self.deadlines.insert((until, key));
                    client.stage = Stage::Connecting { server, places, until };
                    return;
                }
                // The want of descriptors is nobody else's fault.
                Err(e) if matches!(e.raw_os_error(), Some(libc::EMFILE | libc::ENFILE)) => {
                    log::warn!("client {}: {e}", client.address);
                    break;
                }
                Err(e) => {
                    self.elements.report(place, &e);
                    places.pop_front();
                }
            }
        }
        log::warn!("client {}: no element can be reached", client.address);
        self.break_off(key);
    }

    /// This element cannot be connected to: the next one.
    fn pass_over(&mut self, key: usize, why: &io::Error, registry: &Registry, now: Instant) {
        let Some(client) = self.clients.get_mut(&key) else { return };
        if let Stage::Connecting { mut places, until, .. } =
            std::mem::replace(&mut client.stage, Stage::Asking)
        {
            self.deadlines.remove(&(until, key));
            if let Some(place) = places.pop_front() {
                self.elements.report(&place, why);
            }
            self.connect(key, places, registry, now);
        }
    }

    /// Has a connection been made?
    fn on_connecting(&mut self, key: usize, registry: &Registry, now: Instant) {
        let Some(client) = self.clients.get_mut(&key) else { return };
        let Stage::Connecting { server, places, until } = &mut client.stage else { return };
        let failed = match server.take_error() {
            Ok(None) => match server.peer_addr() {
                Ok(_) => None,
                Err(e) if matches!(e.raw_os_error(), Some(libc::ENOTCONN | libc::EINPROGRESS)) => return,
                Err(e) => Some(e),
            },
            Ok(Some(e)) | Err(e) => Some(e),
        };
        if let Some(why) = failed {
            return self.pass_over(key, &why, registry, now);
        }
        self.deadlines.remove(&(*until, key));
        let Some(place) = places.pop_front() else { return };
        log::debug!("client {} is at element {}, {}", client.address, place.id, place.address);
        if let Stage::Connecting { server, .. } = std::mem::replace(&mut client.stage, Stage::Asking) {
            client.stage = Stage::Connected { server, place, up: Pipe::default(), down: Pipe::default() };
        }
        self.carry(key);
    }

    /// Carries in both directions what there is.
    fn carry(&mut self, key: usize) {
        let Some(client) = self.clients.get_mut(&key) else { return };
        let Stage::Connected { server, place, up, down } = &mut client.stage else { return };
        let stream = &mut client.stream;
        let portion = &mut self.portion;
        let done = up
            .carry(stream, server, portion)
            .map_err(|(e, reading)| if reading { Broken::Client(e) } else { Broken::Server(e) });
        let done = done.and_then(|more| {
            let other = down
                .carry(server, stream, portion)
                .map_err(|(e, reading)| if reading { Broken::Server(e) } else { Broken::Client(e) });
            other.map(|other| more || other)
        });
        match done {
            Ok(true) => self.again.push_back(key),
            Ok(false) if up.closed && down.closed => {
                self.clients.remove(&key);
            }
            Ok(false) => {}
            Err(Broken::Client(e)) => {
                log::debug!("client {}: {e}", client.address);
                self.break_off(key);
            }
            Err(Broken::Server(e)) => {
                self.elements.report(place, &e);
                self.break_off(key);
            }
        }
    }

    /// Resets both sides: neither is to take for an end what is none.
    fn break_off(&mut self, key: usize) {
        let Some(client) = self.clients.remove(&key) else { return };
        let at_once = Some(Duration::ZERO);
        // What cannot be reset is closed.
        let _ = SockRef::from(&client.stream).set_linger(at_once);
        match client.stage {
            Stage::Asking => {}
            Stage::Connecting { until, .. } => {
                self.deadlines.remove(&(until, key));
            }
            Stage::Connected { server, .. } => {
                let _ = SockRef::from(&server).set_linger(at_once);
            }
        }
    }
}

impl Carrier for Connections {
    fn on_event(&mut self, event: &Event, registry: &Registry, now: Instant) {
        if event.token() == LISTENER {
            return self.accept(registry, now);
        }
        let (key, side) = client_of(event.token());
        match self.clients.get(&key).map(|client| &client.stage) {
            Some(Stage::Connecting { .. }) if side == SERVER => self.on_connecting(key, registry, now),
            Some(Stage::Connected { .. }) => self.carry(key),
            // What a client sends meanwhile is read as soon as somebody can take it.
            Some(Stage::Asking | Stage::Connecting { .. }) | None => {}
        }
    }

    fn on_answers(&mut self, registry: &Registry, now: Instant) {
        while let Some((key, answer)) = self.elements.next_answer() {
            match answer {
                Ok(places) => self.connect(key, places.into(), registry, now),
                Err(sentence) => {
                    log::warn!("a client is turned away: {sentence}");
                    self.break_off(key);
                }
            }
        }
    }

    fn on_time(&mut self, registry: &Registry, now: Instant) -> Option<Instant> {
        for key in std::mem::take(&mut self.again) {
            self.carry(key);
        }
        while let Some((at, key)) = self.deadlines.first().copied().filter(|(at, _)| *at <= now) {
            self.deadlines.remove(&(at, key));
            self.pass_over(key, &io::ErrorKind::TimedOut.into(), registry, now);
        }
        if self.accept_at.is_some_and(|at| at <= now) {
            self.accept(registry, now);
        }
        let again = (!self.again.is_empty()).then_some(now);
        [again, self.accept_at, self.deadlines.first().map(|(at, _)| *at)].into_iter().flatten().min()
    }

    fn is_drained(&mut self, registry: &Registry) -> bool {
        if let Some(mut listener) = self.listener.take() {
            let _ = registry.deregister(&mut listener);
        }
        self.clients.is_empty()
    }
}

impl Drop for Connections {
    fn drop(&mut self) {
        for key in self.clients.keys().copied().collect::<Vec<_>>() {
            self.break_off(key);
        }
    }
}

impl Pipe {
    /// Carries until one side has no more for now (false), or others shall have their turn (true). A failure: and whether it was in reading.
    fn carry(
        &mut self,
        from: &mut TcpStream,
        to: &mut TcpStream,
        portion: &mut [u8],
    ) -> Result<bool, (io::Error, bool)> {
        for _ in 0..PORTIONS {
            if self.sent < self.rest.len() {
                self.sent += write(to, &self.rest[self.sent..]).map_err(|e| (e, false))?;
                if self.sent < self.rest.len() {
                    return Ok(false);
                }
                // A client that was slow once need not have memory for ever.
                (self.rest, self.sent) = (Vec::new(), 0);
            }
            if self.ended {
                if !self.closed {
                    self.closed = true;
                    match to.shutdown(Shutdown::Write) {
                        Ok(()) => {}
                        // It has gone itself meanwhile.
                        Err(e) if e.kind() == io::ErrorKind::NotConnected => {}
                        Err(e) => return Err((e, false)),
                    }
                }
                return Ok(false);
            }
            match from.read(portion) {
                Ok(0) => self.ended = true,
                Ok(n) => {
                    let taken = write(to, &portion[..n]).map_err(|e| (e, false))?;
                    self.rest.extend_from_slice(&portion[taken..n]);
                }
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => return Ok(false),
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) => return Err((e, true)),
            }
        }
        Ok(true)
    }
}

/// Writes as much as is taken at once.
fn write(to: &mut TcpStream, bytes: &[u8]) -> io::Result<usize> {
    let mut written = 0;
    while written < bytes.len() {
        match to.write(&bytes[written..]) {
            Ok(n) => written += n,
            Err(e) if e.kind() == io::ErrorKind::WouldBlock => break,
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(e) => return Err(e),
        }
    }
    Ok(written)
}

const BOTH: Interest = Interest::READABLE.add(Interest::WRITABLE);
const CLIENT: usize = 0;
const SERVER: usize = 1;

fn token(key: usize, side: usize) -> Token {
    Token(CLIENTS + 2 * key + side)
}

fn client_of(token: Token) -> (usize, usize) {
    ((token.0 - CLIENTS) / 2, (token.0 - CLIENTS) % 2)
}

/// Small messages are not kept back, and silent hosts are noticed.
fn prepare(stream: &TcpStream) -> io::Result<()> {
    let socket = SockRef::from(stream);
    socket.set_tcp_nodelay(true)?;
    socket.set_tcp_keepalive(
        &TcpKeepalive::new().with_time(PROBE_AFTER).with_interval(PROBE_EVERY).with_retries(3),
    )?;
    socket.set_tcp_user_timeout(Some(UNACKNOWLEDGED))
}
