//! `asap-registrar`: the registrar machine of the library with sockets, a log and an administration socket.

mod admin;
mod mio_poller;
mod options;
mod words;

use admin::About;
use asap::machine::{Destination, LinkKind, Protocol};
use asap::registrar::{Event, Registrar, Setup};
use asap::runtime::admin::AdminSocket;
use asap::runtime::driver::{Driver, DriverConfig, Remote};
use asap::runtime::interfaces::local_addresses;
use asap::runtime::listener::has_sctp;
use asap::runtime::{entropy, now};
use asap::types::{Addresses, ServerId, Time, TransportAddress, TransportUse};
use mio_poller::MioPoller;
use options::{Admin, Options};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::Signals;
use std::io::{self, Write};
use std::net::{IpAddr, SocketAddr};
use std::process::ExitCode;
use std::time::Duration;

fn main() -> ExitCode {
    env_logger::Builder::from_env(env_logger::Env::default().default_filter_or("info")).init();
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(sentence) => {
            eprintln!("asap-registrar: {sentence}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<(), String> {
    let options = Options::read()?;
    let announce = options.announce()?;
    let (asap, enrp) = (options.asap(), options.enrp());
    let random = || entropy().map_err(|error| format!("no random numbers: {error}"));
    let id = match options.id()? {
        Some(id) => id,
        None => random_id(random)?,
    };
    // Where the kernel has SCTP it serves beside TCP, on the same addresses.
    let sctp = if has_sctp() { asap.clone() } else { Vec::new() };
    let (config, limits, seed) = (options.registrar_config()?, options.limits(), random()?);
    raise_descriptor_limit();

    let open = asap.iter().chain(&enrp).any(|address| !address.ip().is_loopback());
    if open {
        log::warn!(
            "serving networks without encryption or authentication: whoever reaches the ports can register servers"
        );
    }
    let multicast = announce.multicast(asap.iter().all(|address| address.ip().is_loopback()));
    let announcing = multicast.is_some();
    let peers = options.peer.iter().map(|peer| Destination {
        kind: LinkKind::Tcp,
        protocol: Protocol::Enrp,
        port: peer.port(),
        addresses: peer.ip().into(),
    });

    // Signals that come from here on wait for the thread below.
    let signals =
        Signals::new([SIGTERM, SIGINT, SIGHUP]).map_err(|error| format!("cannot take signals: {error}"))?;
    let driver_config = DriverConfig {
        listeners: asap
            .iter()
            .map(|address| (LinkKind::Tcp, Protocol::Asap, *address))
            .chain(enrp.iter().map(|address| (LinkKind::Tcp, Protocol::Enrp, *address)))
            .chain(sctp.iter().map(|address| (LinkKind::Sctp, Protocol::Asap, *address)))
            .collect(),
        multicast,
        limits: limits.clone(),
    };
    let poller = MioPoller::new().map_err(|error| format!("no epoll: {error}"))?;
    let mut driver = Driver::open(Box::new(poller), driver_config, |local| {
        let mut served = transports(local.get(..asap.len()).unwrap_or_default());
        served.extend(sctp_transports(local.get(asap.len() + enrp.len()..).unwrap_or_default()));
        let peer_side = local.get(asap.len()..asap.len() + enrp.len()).unwrap_or_default();
        let peers = peers.collect();
        let setup = Setup { id, asap: served, enrp: transports(peer_side), announce: announcing, peers };
        Registrar::new(config, limits, seed, setup)
    })
    .map_err(|error| cannot_listen(&error))?;

    let tcp = asap.iter().map(|_| Protocol::Asap).chain(enrp.iter().map(|_| Protocol::Enrp));
    let kinds = tcp.map(|protocol| (LinkKind::Tcp, protocol));
    let kinds = kinds.chain(sctp.iter().map(|_| (LinkKind::Sctp, Protocol::Asap)));
    let listeners: Vec<_> =
        kinds.zip(driver.local_addresses()).map(|((kind, protocol), at)| (kind, protocol, at)).collect();
    let about = About {
        listeners: listeners.clone(),
        profile: options.profile.clone().unwrap_or("lan".to_owned()),
        started: now(),
    };
    let admin = open_admin(options.admin(), driver.remote(), about)?;
    leave_on_signal(signals, driver.remote())?;
    log::info!("registrar {id} is ready, {} announcing itself", if announcing { "and" } else { "not" });
    say(&listeners);

    let mut log = Log { rejected: Time::ZERO, suppressed: 0 };
    let result = driver.run(&mut |registrar, now, event| log.event(registrar, now, &event));
    drop(admin);
    log::info!("registrar {id} has stopped");
    result.map_err(|error| format!("cannot go on: {error}"))
}

fn random_id(random: impl Fn() -> Result<u64, String>) -> Result<ServerId, String> {
    loop {
        // The low half; 0 is no identifier.
        if let Some(id) = ServerId::new((random()? & 0xffff_ffff) as u32) {
            return Ok(id);
        }
    }
}

/// What is told to scripts: the listeners, and that all is open.
fn say(listeners: &[(LinkKind, Protocol, SocketAddr)]) {
    let mut out = io::stdout().lock();
    for (kind, protocol, address) in listeners {
        let _ = writeln!(out, "{} {} {address}", words::protocol(*protocol), words::kind(*kind));
    }
    // A reader that has gone away is no reason to stop.
    let _ = writeln!(out, "ready").and_then(|()| out.flush());
}

/// Where elements and users find this registrar: for a wildcard, this machine's addresses.
fn transports(listeners: &[SocketAddr]) -> Vec<TransportAddress> {
    let mut transports = Vec::new();
    for listener in listeners {
        let addresses = match listener.ip() {
            ip if !ip.is_unspecified() => vec![ip],
            any => local_addresses()
                .unwrap_or_default()
                .into_iter()
                .filter(|own| !own.is_loopback() && (any.is_ipv6() || own.is_ipv4()))
                .collect(),
        };
        transports.extend(addresses.into_iter().map(|address: IpAddr| TransportAddress::Tcp {
            port: listener.port(),
            transport_use: TransportUse::DataOnly,
            address,
        }));
    }
    transports
}

/// The same for SCTP: one transport a listener, with all its addresses.
fn sctp_transports(listeners: &[SocketAddr]) -> Vec<TransportAddress> {
    let of_one = |listener: &SocketAddr| {
        let all = transports(std::slice::from_ref(listener));
        let addresses: Vec<IpAddr> =
            all.iter().flat_map(|transport| transport.addresses().to_vec()).collect();
        Some(TransportAddress::Sctp {
            port: listener.port(),
            transport_use: TransportUse::DataOnly,
            addresses: Addresses::new(addresses)?,
        })
    };
    listeners.iter().filter_map(of_one).collect()
}

fn cannot_listen(error: &io::Error) -> String {
    let what_to_do = match error.kind() {
        io::ErrorKind::AddrInUse => {
            "\n  another registrar is probably running (`asapctl pools` looks at it): use that one or stop it,\n  \
             or give this one ports of its own: --asap 127.0.0.1:0 --enrp 127.0.0.1:0"
        }
        io::ErrorKind::AddrNotAvailable => {
            "\n  that is not an address of this machine (`ip addr` lists them)"
        }
        io::ErrorKind::PermissionDenied => "\n  ports below 1024 are not for everybody: take another one",
        _ => "",
    };
    format!("cannot listen: {error}{what_to_do}")
}

fn open_admin(admin: Admin, remote: Remote<Registrar>, about: About) -> Result<Option<AdminSocket>, String> {
    let (path, must) = match admin {
        Admin::Off => return Ok(None),
        Admin::At(path) => (path, true),
        Admin::Usual(path) => (path, false),
    };
    match AdminSocket::open(&path, admin::answer(remote, about)) {
        Ok(socket) => {
            log::info!("administration at {}", path.display());
            Ok(Some(socket))
        }
        Err(error) if must => {
            Err(format!("cannot open the administration socket {}: {error}", path.display()))
        }
        Err(error) => {
            log::warn!(
                "no administration socket: {} ({error}); another registrar has it? --admin PATH gives this one its own",
                path.display()
            );
            Ok(None)
        }
    }
}

/// The first signal makes the registrar leave in order, the second at once.
fn leave_on_signal(mut signals: Signals, remote: Remote<Registrar>) -> Result<(), String> {
    let wait = move || {
        let mut leaving = false;
        for signal in signals.forever() {
            if leaving {
                signal_hook::low_level::exit(128 + signal);
            }
            leaving = true;
            log::info!("signal {signal}: leaving, clients are told to go elsewhere");
            remote.call(Box::new(|registrar, now| registrar.shutdown(now)));
            remote.stop();
        }
    };
    std::thread::Builder::new()
        .name("signals".to_owned())
        .spawn(wait)
        .map(drop)
        .map_err(|error| format!("cannot start a thread: {error}"))
}

/// Every link is a descriptor: as many as the system allows.
fn raise_descriptor_limit() {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: `limit` is a valid rlimit that outlives both calls.
    let failed = unsafe {
        libc::getrlimit(libc::RLIMIT_NOFILE, &mut limit) != 0 || {
            limit.rlim_cur = limit.rlim_max;
            libc::setrlimit(libc::RLIMIT_NOFILE, &limit) != 0
        }
    };
    if failed {
        log::warn!("cannot raise the limit of open files: {}", io::Error::last_os_error());
    }
}

/// Events as lines of the log.
struct Log {
    /// When a message that was not accepted was last worth a line, and how many have come since.
    rejected: Time,
    suppressed: u64,
}

impl Log {
    fn event(&mut self, registrar: &Registrar, now: Time, event: &Event) {
        match event {
            Event::Added { handle, element } => {
                let entry = registrar.handlespace().entry(handle, *element);
                let how = entry.map(words::element).unwrap_or_default();
                log::info!("pool {handle}: element {element} registered ({how})");
            }
            Event::Removed { handle, element, why } => {
                log::info!("pool {handle}: element {element} removed: {}", words::removal(*why));
            }
            Event::Refused { handle, element, causes } => {
                log::warn!("pool {handle}: element {element} refused: {}", words::causes(causes));
            }
            Event::Rejected { why } => {
                // Whoever sends garbage does not fill the disk.
                if now.since(self.rejected) < Duration::from_secs(1) {
                    self.suppressed += 1;
                    return;
                }
                let more = match std::mem::take(&mut self.suppressed) {
                    0 => String::new(),
                    n => format!(" ({n} more since the last line)"),
                };
                self.rejected = now;
                log::warn!("a message was not accepted: {why}{more}");
            }
            Event::PeerUp { server } => log::info!("registrar {server}: connected"),
            Event::PeerDown { to, why } => {
                let address = to.addresses.as_slice().first().map(|ip| SocketAddr::new(*ip, to.port));
                let address = address.map(|address| address.to_string()).unwrap_or_default();
                log::warn!("registrar at {address}: not connected: {}; trying again", words::failure(*why));
            }
        }
    }
}
