//! `asap-registrar`: the library's registrar as a program: options, signals, a log.

mod mio_poller;
mod options;

use asap::hosting::{Host, leave};
use asap::registrar::Registrar;
use asap::runtime::driver::Remote;
use mio_poller::MioPoller;
use options::Options;
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::Signals;
use std::io::{self, Write};
use std::process::ExitCode;

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
    if options.manual {
        let written = Options::manual_page().and_then(|page| io::stdout().write_all(&page));
        return written.map_err(|error| format!("no manual page: {error}"));
    }
    let settings = options.settings()?;
    raise_descriptor_limit();
    // Signals that come from here on wait for the thread below.
    let signals =
        Signals::new([SIGTERM, SIGINT, SIGHUP]).map_err(|error| format!("cannot take signals: {error}"))?;
    let poller = MioPoller::new().map_err(|error| format!("no epoll: {error}"))?;
    let host = Host::open(settings, Box::new(poller)).map_err(|error| cannot_start(&error))?;
    leave_on_signal(signals, host.remote())?;
    say(&host);
    host.run().map_err(|error| format!("cannot go on: {error}"))
}

/// What is told to scripts: the listeners, and that all is open.
fn say(host: &Host) {
    let mut out = io::stdout().lock();
    for listener in host.listeners() {
        let _ = writeln!(out, "{listener}");
    }
    // A reader that has gone away is no reason to stop.
    let _ = writeln!(out, "ready").and_then(|()| out.flush());
}

fn cannot_start(error: &io::Error) -> String {
    let what_to_do = match error.kind() {
        io::ErrorKind::AddrInUse => {
            "\n  another registrar is probably running (`asapctl pools` looks at it): use that one or stop it,\n  \
             or give this one places of its own: --asap 127.0.0.1:0 --enrp 127.0.0.1:0, --admin PATH"
        }
        io::ErrorKind::AddrNotAvailable => {
            "\n  that is not an address of this machine (`ip addr` lists them)"
        }
        io::ErrorKind::PermissionDenied => "\n  ports below 1024 are not for everybody: take another one",
        _ => "",
    };
    format!("cannot start: {error}{what_to_do}")
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
            leave(&remote);
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
