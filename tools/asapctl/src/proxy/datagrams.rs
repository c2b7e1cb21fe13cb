//! UDP: each client, told by its address, has a socket of its own connected to an element, until it is silent. A datagram that
//! cannot be carried is lost, as datagrams are; the client's next one goes to another element.

use super::elements::{Elements, Place};
use super::{CLIENTS, Carrier, LISTENER};
use asap::socket::{self, Change, Wait};
use asap::types::{PeId, PoolHandle};
use mio::event::Event;
use mio::net::UdpSocket;
use mio::unix::SourceFd;
use mio::{Interest, Registry, Token};
use std::collections::{BTreeMap, HashMap};
use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::{Duration, Instant};

/// No datagram is longer.
const LONGEST: usize = 65_535;
/// How many datagrams wait for their client's element to be found.
const WAITING: usize = 16;
/// How many clients there may be: addresses are easily invented.
const MOST_CLIENTS: usize = 16_384;
/// How often silent clients are looked for.
const SWEEP: Duration = Duration::from_secs(1);
/// How many datagrams one socket may have carried before it is others' turn.
const TURN: usize = 256;

const WATCH: Token = Token(CLIENTS);
const FIRST: usize = CLIENTS + 1;

/// All clients.
pub struct Datagrams {
    listener: UdpSocket,
    /// Tells of elements that are gone.
    watch: i32,
    elements: Elements,
    idle: Duration,
    clients: BTreeMap<usize, Client>,
    keys: HashMap<SocketAddr, usize>,
    next: usize,
    /// Sockets that have more to give.
    again: Vec<Token>,
    /// When silent clients are looked for.
    sweep_at: Instant,
    buffer: Vec<u8>,
}

struct Client {
    address: SocketAddr,
    heard: Instant,
    stage: Stage,
    /// The element that has failed it: not the one to try next.
    avoid: Option<PeId>,
}

enum Stage {
    /// No element yet, or no more; one is asked for with the next datagram.
    Nowhere,
    Asking(Vec<Vec<u8>>),
    At(UdpSocket, Place),
}

impl Datagrams {
    pub fn open(
        at: SocketAddr,
        handle: PoolHandle,
        elements: Elements,
        idle: Duration,
        registry: &Registry,
    ) -> Result<(Datagrams, SocketAddr), String> {
        let cannot = |e: io::Error| format!("cannot listen at {at}: {e}");
        let mut listener = UdpSocket::bind(at).map_err(cannot)?;
        registry.register(&mut listener, LISTENER, Interest::READABLE).map_err(cannot)?;
        let address = listener.local_addr().map_err(cannot)?;
        let watch = socket::watch(&handle).map_err(|e| e.what)?;
        registry.register(&mut SourceFd(&watch), WATCH, Interest::READABLE).map_err(cannot)?;
        let datagrams = Datagrams {
            listener,
            watch,
            elements,
            idle,
            clients: BTreeMap::new(),
            keys: HashMap::new(),
            next: FIRST,
            again: Vec::new(),
            sweep_at: Instant::now(),
            buffer: vec![0; LONGEST],
        };
        Ok((datagrams, address))
    }

    fn on_listener(&mut self, now: Instant) {
        for _ in 0..TURN {
            match self.listener.recv_from(&mut self.buffer) {
                Ok((n, from)) => self.carry_up(from, n, now),
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => return,
                // Something sent to a client earlier did not arrive.
                Err(e) => log::debug!("receiving: {e}"),
            }
        }
        self.again.push(LISTENER);
    }

    /// A datagram of a client, at the front of the buffer.
    fn carry_up(&mut self, from: SocketAddr, n: usize, now: Instant) {
        let key = match self.keys.get(&from) {
            Some(key) => *key,
            None if self.clients.len() >= MOST_CLIENTS => return,
            None => {
                let key = self.next;
                self.next += 1;
                self.keys.insert(from, key);
                let client = Client { address: from, heard: now, stage: Stage::Nowhere, avoid: None };
                self.clients.insert(key, client);
                key
            }
        };
        let Some(client) = self.clients.get_mut(&key) else { return };
        client.heard = now;
        let datagram = &self.buffer[..n];
        if let Stage::At(server, place) = &client.stage {
            match server.send(datagram) {
                Ok(_) => return,
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => return,
                Err(e) => {
                    self.elements.report(place, &e);
                    client.avoid = Some(place.id);
                    client.stage = Stage::Nowhere;
                }
            }
        }
        match &mut client.stage {
            Stage::Asking(waiting) if waiting.len() < WAITING => waiting.push(datagram.to_vec()),
            Stage::Nowhere => {
                client.stage = Stage::Asking(vec![datagram.to_vec()]);
                self.elements.ask(key);
            }
            Stage::Asking(_) | Stage::At(..) => {}
        }
    }

    /// Answers of a client's element.
    fn carry_down(&mut self, key: usize, now: Instant) {
        let Some(client) = self.clients.get_mut(&key) else { return };
        let Stage::At(server, place) = &client.stage else { return };
        for _ in 0..TURN {
            match server.recv(&mut self.buffer) {
                Ok(n) => {
                    client.heard = now;
                    if let Err(e) = self.listener.send_to(&self.buffer[..n], client.address) {
                        log::debug!("client {}: {e}", client.address);
                    }
                }
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => return,
                Err(e) => {
                    self.elements.report(place, &e);
                    client.avoid = Some(place.id);
                    client.stage = Stage::Nowhere;
                    return;
                }
            }
        }
        self.again.push(Token(key));
    }

    fn on_watch(&mut self) {
        while let Ok(change) = socket::next_change(self.watch, Wait::No) {
            let Change::Removed(id) = change else { continue };
            for client in self.clients.values_mut() {
                if matches!(&client.stage, Stage::At(_, place) if place.id == id) {
                    client.stage = Stage::Nowhere;
                }
            }
        }
    }

    fn on_token(&mut self, token: Token, now: Instant) {
        match token {
            LISTENER => self.on_listener(now),
            WATCH => self.on_watch(),
            Token(key) => self.carry_down(key, now),
        }
    }
}

impl Carrier for Datagrams {
    fn on_event(&mut self, event: &Event, _: &Registry, now: Instant) {
        self.on_token(event.token(), now);
    }

    fn on_answers(&mut self, registry: &Registry, _: Instant) {
        while let Some((key, answer)) = self.elements.next_answer() {
            let Some(client) = self.clients.get_mut(&key) else { continue };
            let Stage::Asking(waiting) = std::mem::replace(&mut client.stage, Stage::Nowhere) else {
                continue;
            };
            let places = match answer {
                Ok(places) => places,
                Err(sentence) => {
                    log::warn!("client {}: {sentence}", client.address);
                    continue;
                }
            };
            let other = places.iter().find(|place| Some(place.id) != client.avoid);
            let Some(place) = other.or(places.first()) else { continue };
            match connect(place.address, Token(key), registry) {
                Ok(server) => {
                    for datagram in waiting {
                        // What fails is told by the next call, too.
                        let _ = server.send(&datagram);
                    }
                    client.stage = Stage::At(server, place.clone());
                }
                Err(e) => log::warn!("client {}: {e}", client.address),
            }
        }
    }

    fn on_time(&mut self, _: &Registry, now: Instant) -> Option<Instant> {
        for token in std::mem::take(&mut self.again) {
            self.on_token(token, now);
        }
        if self.sweep_at <= now {
            let idle = self.idle;
            let keys = &mut self.keys;
            self.clients.retain(|_, client| {
                let stays = now.saturating_duration_since(client.heard) < idle;
                if !stays {
                    keys.remove(&client.address);
                }
                stays
            });
            self.sweep_at = now + idle.min(SWEEP);
        }
        let again = (!self.again.is_empty()).then_some(now);
        again.or((!self.clients.is_empty()).then_some(self.sweep_at))
    }

    fn is_drained(&mut self, _: &Registry) -> bool {
        // Nothing says that a client is done.
        true
    }
}

impl Drop for Datagrams {
    fn drop(&mut self) {
        // Everything is closed at the end.
        let _ = socket::close(self.watch);
    }
}

/// A socket for one client.
fn connect(to: SocketAddr, token: Token, registry: &Registry) -> io::Result<UdpSocket> {
    let any = match to {
        SocketAddr::V4(_) => SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0)),
        SocketAddr::V6(_) => SocketAddr::from((Ipv6Addr::UNSPECIFIED, 0)),
    };
    let mut server = UdpSocket::bind(any)?;
    server.connect(to)?;
    registry.register(&mut server, token, Interest::READABLE)?;
    Ok(server)
}
