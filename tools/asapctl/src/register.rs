//! `asapctl register`: a server that knows nothing of pools is an element while this runs, and while it is well.

use crate::check::Check;
use crate::{Registrars, endpoint};
use asap::policy::Policy;
use asap::socket::{self, Wait};
use asap::types::{PeId, PoolElement, PoolHandle, RegistrationLife, TransportAddress, TransportUse};
use clap::Args;
use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::iterator::Signals;
use std::fs;
use std::net::{IpAddr, SocketAddr};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::time::{Duration, Instant};

#[derive(Args)]
pub struct Register {
    /// The pool handle.
    #[arg(long, value_name = "HANDLE")]
    pool: String,
    /// Where the server listens; must be an address of this machine as the registrar sees it.
    #[arg(long, value_name = "ADDR:PORT", value_parser = crate::address)]
    tcp: Option<SocketAddr>,
    /// Where the server listens, if it is one of datagrams.
    #[arg(long, value_name = "ADDR:PORT", value_parser = crate::address, required_unless_present = "tcp", conflicts_with = "tcp")]
    udp: Option<SocketAddr>,
    /// Policy with its values: RoundRobin, Random, WeightedRoundRobin:WEIGHT, WeightedRandom:WEIGHT, Priority:PRIORITY,
    /// LeastUsed:LOAD and others (docs/policies.md).
    #[arg(long, default_value = "RoundRobin")]
    policy: Policy,
    /// The element's identifier [default: random].
    #[arg(long, value_parser = identifier)]
    id: Option<u32>,
    /// Whether the server is well: "tcp" (it accepts connections), "http://ADDR:PORT/PATH" (it answers GET with a status of 200 to 399),
    /// or "cmd:COMMAND" (the shell's command ends with 0). Then it is in the pool only while it is.
    #[arg(long, value_name = "CHECK", value_parser = Check::parse)]
    check: Option<Check>,
    /// The time from one check to the next.
    #[arg(long, value_name = "SECONDS", default_value = "1", value_parser = crate::seconds)]
    interval: Duration,
    /// A check that takes longer has failed.
    #[arg(long, value_name = "SECONDS", default_value = "1", value_parser = crate::seconds)]
    check_timeout: Duration,
    /// How many checks in a row have to fail for the server to leave the pool.
    #[arg(long, value_name = "N", default_value = "2", value_parser = clap::value_parser!(u32).range(1..))]
    fall: u32,
    /// How many have to succeed for it to come back. (At the start one is enough.)
    #[arg(long, value_name = "N", default_value = "2", value_parser = clap::value_parser!(u32).range(1..))]
    rise: u32,
    /// After the server has left the pool on SIGTERM or SIGINT: wait for at most so long until no TCP client is connected to it any more (of a
    /// server of datagrams, so long). A second signal ends that.
    #[arg(long, value_name = "SECONDS", default_value = "0", value_parser = crate::span)]
    drain: Duration,
    #[command(flatten)]
    registrars: Registrars,
}

fn identifier(text: &str) -> Result<u32, String> {
    let value = match text.strip_prefix("0x") {
        Some(hex) => u32::from_str_radix(hex, 16),
        None => text.parse(),
    };
    value.ok().filter(|id| *id != 0).ok_or_else(|| "an identifier is 1 to 0xffffffff".to_string())
}

/// How long a registration stands if this process dies without a word; it is renewed three times as often.
const LIFE: Duration = Duration::from_secs(30);
/// How soon a registration that failed is tried again.
const AGAIN: Duration = Duration::from_secs(1);
/// How often is looked whether somebody is connected.
const GLANCE: Duration = Duration::from_millis(100);

enum News {
    Checked(Result<(), String>),
    Signal,
}

/// What checks have said of the server.
#[derive(Default)]
struct Health {
    well: bool,
    /// It has been well before.
    was_well: bool,
    /// How many in a row have said otherwise.
    against: u32,
}

impl Health {
    /// Whether a check changes what is thought of the server.
    fn is_changed_by(&mut self, passed: bool, rise: u32, fall: u32) -> bool {
        if passed == self.well {
            self.against = 0;
            return false;
        }
        self.against += 1;
        let needed = match (self.well, self.was_well) {
            (true, _) => fall,
            (false, true) => rise,
            (false, false) => 1,
        };
        if self.against < needed {
            return false;
        }
        *self = Health { well: passed, was_well: true, against: 0 };
        true
    }
}

/// The server as an element.
struct Membership {
    handle: PoolHandle,
    element: PoolElement,
    server: SocketAddr,
    wait: Wait,
    /// When the registration is to be renewed; none: it is not to be in the pool.
    renew_at: Option<Instant>,
}

impl Membership {
    fn enter(&mut self) -> Result<(), String> {
        let registered = socket::register_element(&self.handle, self.element.clone(), self.wait);
        self.renew_at = Some(Instant::now() + LIFE / 3);
        self.element.id = registered.map_err(|error| error.what)?;
        Ok(())
    }

    fn leave(&mut self) -> Result<(), String> {
        match self.renew_at.take() {
            Some(_) => socket::deregister_element(&self.handle, self.element.id, self.wait)
                .map_err(|error| error.what),
            None => Ok(()),
        }
    }

    fn renew(&mut self) {
        if let Err(sentence) = self.enter() {
            eprintln!("asapctl: not renewed, trying on: {sentence}");
            self.renew_at = Some(Instant::now() + AGAIN);
        }
    }

    fn says(&self, what: &str) {
        println!("{} {what} element {} of {}", self.server, self.element.id, self.handle);
    }
}

pub fn run(register: &Register) -> Result<(), String> {
    let handle = endpoint::pool_handle(&register.pool)?;
    let (news, heard) = channel();
    tell_signals(news.clone())?;
    endpoint::start(&register.registrars)?;
    let (server, user_transport) = match (register.tcp, register.udp) {
        (Some(at), _) => (
            at,
            TransportAddress::Tcp {
                port: at.port(),
                transport_use: TransportUse::DataOnly,
                address: at.ip(),
            },
        ),
        (None, Some(at)) => (at, TransportAddress::Udp { port: at.port(), address: at.ip() }),
        (None, None) => return Err("say where the server listens: --tcp or --udp".to_string()),
    };
    let element = PoolElement {
        id: PeId(register.id.unwrap_or(0)),
        home: None,
        life: RegistrationLife::Seconds(LIFE.as_secs() as u32),
        user_transport,
        policy: register.policy,
        asap_transport: None,
        capabilities: None,
    };
    let wait = Wait::For(register.registrars.timeout);
    let mut member = Membership { handle, element, server, wait, renew_at: None };
    match &register.check {
        Some(check) => tell_checks(news, check.clone(), server, register),
        None => {
            member.enter()?;
            member.says("is");
        }
    }
    let served = serve(register, &mut member, &heard);
    let left = member.leave();
    if register.tcp.is_some() {
        drain(register.drain, &heard, || is_used(server));
    } else {
        drain(register.drain, &heard, || true);
    }
    socket::cleanup();
    served.and(left)
}

/// Until a signal comes: in the pool while well.
fn serve(register: &Register, member: &mut Membership, heard: &Receiver<News>) -> Result<(), String> {
    let mut health = Health::default();
    let mut told_ill = false;
    loop {
        let news = match member.renew_at {
            Some(at) => heard.recv_timeout(at.saturating_duration_since(Instant::now())),
            None => heard.recv().map_err(|_| RecvTimeoutError::Disconnected),
        };
        match news {
            Ok(News::Signal) | Err(RecvTimeoutError::Disconnected) => return Ok(()),
            Err(RecvTimeoutError::Timeout) => member.renew(),
            Ok(News::Checked(found)) => {
                let first = !health.was_well;
                if health.is_changed_by(found.is_ok(), register.rise, register.fall) {
                    match &found {
                        // Who starts wrongly is told so; later it is a matter of trying on.
                        Ok(()) if first => {
                            member.enter()?;
                            member.says("is well, and is");
                        }
                        Ok(()) => {
                            member.renew();
                            member.says("is well again, and is");
                        }
                        Err(why) => {
                            member.says(&format!("is not well ({why}), and is no longer"));
                            if let Err(sentence) = member.leave() {
                                eprintln!("asapctl: its registration runs out: {sentence}");
                            }
                        }
                    }
                } else if let Err(why) = &found
                    && first
                    && !told_ill
                {
                    told_ill = true;
                    eprintln!("asapctl: {} is not well yet: {why}", member.server);
                }
            }
        }
    }
}

/// Waits while the server is used, for at most so long, or until a signal comes.
fn drain(patience: Duration, heard: &Receiver<News>, is_used: impl Fn() -> bool) {
    let give_up = Instant::now() + patience;
    while Instant::now() < give_up && is_used() {
        if let Ok(News::Signal) = heard.recv_timeout(GLANCE) {
            return;
        }
    }
}

fn tell_signals(news: Sender<News>) -> Result<(), String> {
    let mut signals = Signals::new([SIGINT, SIGTERM]).map_err(|error| format!("no signals: {error}"))?;
    std::thread::spawn(move || {
        for _ in signals.forever() {
            if news.send(News::Signal).is_err() {
                return;
            }
        }
    });
    Ok(())
}

fn tell_checks(news: Sender<News>, check: Check, server: SocketAddr, register: &Register) {
    let (interval, patience) = (register.interval, register.check_timeout);
    std::thread::spawn(move || {
        while news.send(News::Checked(check.look(server, patience))).is_ok() {
            std::thread::sleep(interval);
        }
    });
}

/// Whether a client is connected to a TCP server of this machine. What cannot be found out is taken for a yes.
fn is_used(server: SocketAddr) -> bool {
    let tables: Vec<String> =
        ["/proc/net/tcp", "/proc/net/tcp6"].iter().filter_map(|path| fs::read_to_string(path).ok()).collect();
    tables.is_empty() || tables.iter().flat_map(|table| table.lines().skip(1)).any(|line| uses(line, server))
}

/// Whether a line of the kernel's table is a connection of the server's: not listening, and not over already.
fn uses(line: &str, server: SocketAddr) -> bool {
    const TIME_WAIT: &str = "06";
    const CLOSED: &str = "07";
    const LISTENS: &str = "0A";
    let mut words = line.split_whitespace().skip(1);
    let (local, state) = (words.next().and_then(kernel_address), words.nth(1));
    let same = local.is_some_and(|local| {
        local.port() == server.port() && local.ip().to_canonical() == server.ip().to_canonical()
    });
    same && !matches!(state, Some(TIME_WAIT | CLOSED | LISTENS) | None)
}

/// "0100007F:1F90": words of the address as this machine has them in memory, and the port.
fn kernel_address(text: &str) -> Option<SocketAddr> {
    let (address, port) = text.split_once(':')?;
    let port = u16::from_str_radix(port, 16).ok()?;
    let mut bytes = Vec::new();
    for at in (0..address.len()).step_by(8) {
        bytes.extend(u32::from_str_radix(address.get(at..at + 8)?, 16).ok()?.to_ne_bytes());
    }
    let ip = match bytes.len() {
        4 => IpAddr::from(<[u8; 4]>::try_from(bytes).ok()?),
        16 => IpAddr::from(<[u8; 16]>::try_from(bytes).ok()?),
        _ => return None,
    };
    Some(SocketAddr::new(ip, port))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::{TcpListener, TcpStream};

    #[test]
    fn a_server_falls_and_rises_by_checks_in_a_row() {
        let mut health = Health::default();
        let changes: Vec<bool> = [false, true, false, true, false, false, false, true, false, true, true]
            .into_iter()
            .map(|passed| health.is_changed_by(passed, 2, 2))
            .collect();
        assert_eq!(changes, [false, true, false, false, false, true, false, false, false, false, true]);
    }

    #[test]
    fn a_server_is_used_while_a_client_is_connected() {
        for at in ["127.0.0.1:0", "[::1]:0"] {
            let listener = TcpListener::bind(at).unwrap();
            let server = listener.local_addr().unwrap();
            assert!(!is_used(server));
            let client = TcpStream::connect(server).unwrap();
            let accepted = listener.accept().unwrap();
            assert!(is_used(server));
            drop(client);
            assert!(is_used(server), "the server has not closed");
            drop(accepted);
            assert!(!is_used(server));
        }
    }

    #[test]
    fn what_the_kernel_tells_is_read_or_passed_over() {
        let line = "   1: 0100007F:1F90 0100007F:D2A4 01 00000000:00000000 00:00000000 00000000  0 0 1 1 0 20 4 30 10 -1";
        let listens = line.replace(" 01 ", " 0A ");
        if cfg!(target_endian = "little") {
            assert!(uses(line, "127.0.0.1:8080".parse().unwrap()));
            assert!(uses(line, "[::ffff:127.0.0.1]:8080".parse().unwrap()));
        }
        assert!(!uses(&listens, "127.0.0.1:8080".parse().unwrap()));
        for text in ["", "1: x", "1: 0100007F:1F90", "1: 0100007:1F90 0 01", "1: é100007F:1F90 x 01"] {
            assert!(!uses(text, "127.0.0.1:8080".parse().unwrap()), "{text}");
        }
    }
}
