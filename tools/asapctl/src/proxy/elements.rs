//! Which elements to try, asked for in a thread of its own: a registrar may take its time, and clients that are being served
//! must not notice.

use asap::socket::{self, Wait};
use asap::types::{PeId, PoolElement, PoolHandle, TransportAddress};
use mio::Waker;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::{Duration, Instant};

/// How old what a registrar has said may be. The library selects from it by the pool's policy, and takes out what is reported.
const MAX_AGE: Duration = Duration::from_secs(1);
/// How long to ask when there is something to fall back on, and how long not to ask again then.
const BRIEFLY: Duration = Duration::from_millis(500);
const PAUSE: Duration = Duration::from_secs(2);

/// What carries clients' data.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Transport {
    /// Connections.
    Tcp,
    /// Datagrams.
    Udp,
}

/// An element, and where to reach it.
#[derive(Clone, Debug)]
pub struct Place {
    pub id: PeId,
    pub address: SocketAddr,
}

/// For whom was asked, and the places in the order in which to try them; never none.
pub type Answer = (usize, Result<Vec<Place>, String>);

/// The thread.
pub struct Elements {
    handle: PoolHandle,
    asks: Sender<usize>,
    answers: Receiver<Answer>,
}

impl Elements {
    pub fn start(
        handle: PoolHandle,
        transport: Transport,
        patience: Duration,
        waker: Arc<Waker>,
    ) -> Elements {
        let (asks, asked) = channel::<usize>();
        let (answer, answers) = channel();
        let mut seeker =
            Seeker { handle: handle.clone(), transport, patience, last: Vec::new(), not_before: None };
        std::thread::spawn(move || {
            for client in asked {
                if answer.send((client, seeker.look())).is_err() || waker.wake().is_err() {
                    return;
                }
            }
        });
        Elements { handle, asks, answers }
    }

    /// Asks on behalf of a client.
    pub fn ask(&self, client: usize) {
        // The thread ends after this.
        let _ = self.asks.send(client);
    }

    pub fn next_answer(&self) -> Option<Answer> {
        self.answers.try_recv().ok()
    }

    /// An element does not work: registrars are told, and it is not among the next answers until they say otherwise.
    pub fn report(&self, place: &Place, why: &dyn std::fmt::Display) {
        log::warn!("element {} at {}: {why}", place.id, place.address);
        if let Err(error) = socket::report_failure(&self.handle, place.id) {
            log::warn!("not reported: {}", error.what);
        }
    }
}

struct Seeker {
    handle: PoolHandle,
    transport: Transport,
    patience: Duration,
    /// What is gone by while no registrar answers.
    last: Vec<Place>,
    not_before: Option<Instant>,
}

impl Seeker {
    fn look(&mut self) -> Result<Vec<Place>, String> {
        if !self.last.is_empty() && self.not_before.is_some_and(|at| Instant::now() < at) {
            return Ok(self.fall_back());
        }
        let wait = if self.last.is_empty() { self.patience } else { self.patience.min(BRIEFLY) };
        match socket::resolve(&self.handle, None, MAX_AGE, Wait::For(wait)) {
            Ok(elements) => {
                self.not_before = None;
                self.last = elements.iter().filter_map(|e| self.place(e)).collect();
                match self.last.is_empty() {
                    false => Ok(self.last.clone()),
                    true => Err(format!("pool {} has no element on {:?}", self.handle, self.transport)),
                }
            }
            // The pool is empty, says one who knows.
            Err(error) if error.errno == libc::ENOENT => {
                self.last.clear();
                Err(error.what)
            }
            Err(error) if self.last.is_empty() => Err(error.what),
            Err(error) => {
                log::warn!("{}; going on with the elements known", error.what);
                self.not_before = Some(Instant::now() + PAUSE);
                Ok(self.fall_back())
            }
        }
    }

    /// The elements known, in turn.
    fn fall_back(&mut self) -> Vec<Place> {
        self.last.rotate_left(1);
        self.last.clone()
    }

    fn place(&self, element: &PoolElement) -> Option<Place> {
        let fits = match element.user_transport {
            TransportAddress::Tcp { .. } => self.transport == Transport::Tcp,
            TransportAddress::Udp { .. } => self.transport == Transport::Udp,
            _ => false,
        };
        let address = element.user_transport.socket_addresses().next().filter(|_| fits)?;
        Some(Place { id: element.id, address })
    }
}
