//! `asapctl proxy`: clients that know nothing of pools reach one at an ordinary address. What TCP and UDP have in common: the event
//! loop (mio), the thread that asks registrars, signals, the end in order.

mod connections;
mod datagrams;
mod elements;

use crate::{Registrars, endpoint};
use asap::socket;
use clap::Args;
use elements::{Elements, Transport};
use mio::event::Event;
use mio::{Events, Poll, Registry, Token, Waker};
use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::iterator::Signals;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

#[derive(Args)]
pub struct Proxy {
    /// Where clients connect; port 0: any, which is told.
    #[arg(long, value_name = "ADDR:PORT", value_parser = crate::address)]
    listen: SocketAddr,
    /// The pool handle.
    #[arg(long, value_name = "HANDLE")]
    pool: String,
    /// Carry datagrams (UDP) instead of connections (TCP).
    #[arg(long)]
    udp: bool,
    /// How long opening a connection to one element may take before the next is tried.
    #[arg(long, value_name = "SECONDS", default_value = "0.5", value_parser = crate::seconds)]
    connect_timeout: Duration,
    /// TCP: how long connections may go on after SIGTERM or SIGINT before they are reset; a second signal ends them at once.
    #[arg(long, value_name = "SECONDS", default_value = "5", value_parser = crate::span)]
    drain: Duration,
    /// UDP: how long a client may be silent before it is forgotten, and may come to another element.
    #[arg(long, value_name = "SECONDS", default_value = "60", value_parser = crate::seconds)]
    idle: Duration,
    #[command(flatten)]
    registrars: Registrars,
}

const LISTENER: Token = Token(0);
const WAKER: Token = Token(1);
/// The first of those for clients.
const CLIENTS: usize = 2;

/// What carries clients, as the loop sees it.
trait Carrier {
    /// Something is ready.
    fn on_event(&mut self, event: &Event, at: &Registry, now: Instant);
    /// The thread that asks has answered.
    fn on_answers(&mut self, at: &Registry, now: Instant);
    /// Does what is due, and says when it wants to be called again.
    fn on_time(&mut self, at: &Registry, now: Instant) -> Option<Instant>;
    /// No new clients. Whether there is nobody left.
    fn is_drained(&mut self, at: &Registry) -> bool;
}

pub fn run(proxy: &Proxy) -> Result<(), String> {
    let handle = endpoint::pool_handle(&proxy.pool)?;
    let mut poll = Poll::new().map_err(|e| format!("no event loop: {e}"))?;
    let waker = Waker::new(poll.registry(), WAKER).map_err(|e| format!("no event loop: {e}"))?;
    let waker = Arc::new(waker);
    let signals = watch_signals(&waker)?;
    more_descriptors();
    endpoint::start(&proxy.registrars)?;
    let transport = if proxy.udp { Transport::Udp } else { Transport::Tcp };
    let elements = Elements::start(handle.clone(), transport, proxy.registrars.timeout, waker);
    let cannot = |e: io::Error| format!("cannot listen at {}: {e}", proxy.listen);
    let (mut carrier, address): (Box<dyn Carrier>, SocketAddr) = if proxy.udp {
        let (carrier, address) =
            datagrams::Datagrams::open(proxy.listen, handle, elements, proxy.idle, poll.registry())?;
        (Box::new(carrier), address)
    } else {
        let (carrier, address) =
            connections::Connections::open(proxy.listen, elements, proxy.connect_timeout, poll.registry())
                .map_err(cannot)?;
        (Box::new(carrier), address)
    };
    println!("{address} leads to pool {}", proxy.pool);
    let done = turn(&mut poll, carrier.as_mut(), &signals, proxy.drain);
    drop(carrier);
    socket::cleanup();
    done
}

/// The event loop.
fn turn(
    poll: &mut Poll,
    carrier: &mut dyn Carrier,
    signals: &AtomicUsize,
    drain: Duration,
) -> Result<(), String> {
    let mut events = Events::with_capacity(1024);
    let mut give_up = None;
    loop {
        let now = Instant::now();
        if signals.load(Ordering::Relaxed) > 0 {
            let until = *give_up.get_or_insert(now + drain);
            if carrier.is_drained(poll.registry()) || now >= until || signals.load(Ordering::Relaxed) > 1 {
                return Ok(());
            }
        }
        let next = [carrier.on_time(poll.registry(), now), give_up].into_iter().flatten().min();
        let timeout = next.map(|at| at.saturating_duration_since(Instant::now()));
        match poll.poll(&mut events, timeout) {
            Ok(()) => {}
            Err(e) if e.kind() == io::ErrorKind::Interrupted => continue,
            Err(e) => return Err(format!("cannot wait: {e}")),
        }
        let now = Instant::now();
        for event in &events {
            match event.token() {
                WAKER => carrier.on_answers(poll.registry(), now),
                _ => carrier.on_event(event, poll.registry(), now),
            }
        }
    }
}

/// How many signals to end have come.
fn watch_signals(waker: &Arc<Waker>) -> Result<Arc<AtomicUsize>, String> {
    let mut signals = Signals::new([SIGINT, SIGTERM]).map_err(|error| format!("no signals: {error}"))?;
    let count = Arc::new(AtomicUsize::new(0));
    let (counted, waker) = (count.clone(), waker.clone());
    std::thread::spawn(move || {
        for _ in signals.forever() {
            counted.fetch_add(1, Ordering::Relaxed);
            if waker.wake().is_err() {
                return;
            }
        }
    });
    Ok(count)
}

/// Each client takes two descriptors, and 1024 is what programs begin with.
fn more_descriptors() {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: a structure of ours that the kernel writes and reads.
    unsafe {
        if libc::getrlimit(libc::RLIMIT_NOFILE, &mut limit) == 0 && limit.rlim_cur < limit.rlim_max {
            limit.rlim_cur = limit.rlim_max;
            libc::setrlimit(libc::RLIMIT_NOFILE, &limit);
        }
    }
}
