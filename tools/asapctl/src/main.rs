//! `asapctl`: look at pools, resolve handles, keep a plain server registered, lead plain clients to a pool, watch sessions survive
//! their servers.

mod admin;
mod check;
mod demo;
mod endpoint;
mod monitor;
mod proxy;
mod register;
mod table;

use clap::{Args, CommandFactory, Parser, Subcommand};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

/// Look at reliable server pools, and try them.
#[derive(Parser)]
#[command(
    version,
    after_help = "\
Examples:
  asapctl pools                                       what the registrar on this machine holds
  asapctl resolve EchoPool                            ask as a client would
  asapctl register --pool Web --tcp 127.0.0.1:8080    put a plain TCP server into a pool while this runs
  asapctl register --pool Web --tcp 127.0.0.1:8080 --check http://127.0.0.1:8080/health
                                                      as long as it is well
  asapctl proxy --listen 127.0.0.1:80 --pool Web      lead plain TCP clients to a pool
  asapctl pools --json                                for programs
  asapctl monitor                                     who reports here, and what they do
  ASAP_REGISTRARS=10.0.0.5 asapctl resolve EchoPool   ask a registrar elsewhere"
)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Pools and their elements, from a registrar on this machine (through its admin socket).
    Pools(Look),
    /// What a registrar on this machine has counted since it started.
    Counters(Look),
    /// A registrar on this machine and the others it knows: which are alive, how many elements each owns, whether they
    /// agree on them, and who was taken over last.
    Registrars(Look),
    /// The elements of a pool in the order in which a client would try them.
    Resolve(endpoint::Resolve),
    /// Keep a plain server registered while this runs, and, with --check, while it is well. On SIGTERM or SIGINT it leaves the pool
    /// first, then may have time to serve its clients to the end (--drain).
    Register(register::Register),
    /// Lead plain clients (TCP, or UDP) to a pool: each connection to an element that the pool's policy selects. When an element
    /// breaks, its connections are reset, and new ones go elsewhere at once.
    Proxy(proxy::Proxy),
    /// Registrars, servers and clients that report here, ours and RSPLIB's (component status protocol, as its cspmonitor).
    Monitor(monitor::Monitor),
    /// A registrar or several, a pool of three C servers, one C client; servers and registrars are killed, sessions go on.
    Demo(demo::Demo),
    /// Write the manual pages into a directory, for packages.
    #[command(hide = true)]
    Manual {
        /// Where to.
        directory: PathBuf,
    },
}

/// How to reach a registrar's admin socket, and how to print.
#[derive(Args)]
struct Look {
    /// The registrar's admin socket [default: the one a registrar of this user opens].
    #[arg(long, value_name = "PATH")]
    admin: Option<PathBuf>,
    /// JSON instead of a table.
    #[arg(long)]
    json: bool,
}

/// How to find registrars.
#[derive(Args, Clone)]
struct Registrars {
    /// Ask this registrar (ADDR:PORT, repeatable) [default: ASAP_REGISTRARS, announcements, loopback].
    #[arg(long = "registrar", value_name = "ADDR:PORT", value_parser = address)]
    registrars: Vec<SocketAddr>,
    /// Give up after so many seconds.
    #[arg(long, value_name = "SECONDS", default_value = "5", value_parser = seconds)]
    timeout: Duration,
}

fn address(text: &str) -> Result<SocketAddr, String> {
    text.parse()
        .map_err(|_| "say a numeric address and a port, e.g. 127.0.0.1:8080 or [::1]:8080".to_string())
}

fn seconds(text: &str) -> Result<Duration, String> {
    let time = span(text)?;
    if time.is_zero() { Err("some time is needed".to_string()) } else { Ok(time) }
}

fn span(text: &str) -> Result<Duration, String> {
    let seconds: f64 = text.parse().map_err(|_| "not a number".to_string())?;
    Duration::try_from_secs_f64(seconds).map_err(|error| error.to_string())
}

fn main() -> ExitCode {
    env_logger::Builder::from_env(env_logger::Env::default().default_filter_or("warn")).init();
    let done = match Cli::parse().command {
        Command::Pools(look) => admin::pools(&look),
        Command::Counters(look) => admin::counters(&look),
        Command::Registrars(look) => admin::registrars(&look),
        Command::Resolve(resolve) => endpoint::resolve(&resolve),
        Command::Register(register) => register::run(&register),
        Command::Proxy(proxy) => proxy::run(&proxy),
        Command::Monitor(monitor) => monitor::run(&monitor),
        Command::Demo(demo) => demo::run(&demo),
        Command::Manual { directory } => clap_mangen::generate_to(Cli::command(), &directory)
            .map_err(|error| format!("cannot write to {}: {error}", directory.display())),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(sentence) => {
            eprintln!("asapctl: {sentence}");
            ExitCode::FAILURE
        }
    }
}
