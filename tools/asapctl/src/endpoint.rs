//! What asapctl does as an ASAP endpoint: resolving, and registering a server that knows nothing of pools.

use crate::{Registrars, table};
use asap::policy::{Policy, PolicyType};
use asap::socket::{self, Wait};
use asap::types::{PeId, PoolElement, PoolHandle, RegistrationLife, TransportAddress, TransportUse};
use clap::Args;
use serde_json::json;
use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::iterator::Signals;
use std::net::SocketAddr;
use std::time::Duration;

#[derive(Args)]
pub struct Resolve {
    /// The pool handle.
    handle: String,
    /// At most so many elements.
    #[arg(long, value_name = "N")]
    items: Option<u32>,
    /// JSON instead of a table.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    registrars: Registrars,
}

#[derive(Args)]
pub struct Register {
    /// The pool handle.
    #[arg(long, value_name = "HANDLE")]
    pool: String,
    /// Where the server listens; must be an address of this machine as the registrar sees it.
    #[arg(long, value_name = "ADDR:PORT", value_parser = crate::address)]
    tcp: SocketAddr,
    /// Policy with its values: RoundRobin, Random, WeightedRoundRobin:WEIGHT, WeightedRandom:WEIGHT, Priority:PRIORITY,
    /// LeastUsed:LOAD and others (docs/policies.md).
    #[arg(long, default_value = "RoundRobin", value_parser = policy)]
    policy: Policy,
    /// The element's identifier [default: random].
    #[arg(long, value_parser = identifier)]
    id: Option<u32>,
    #[command(flatten)]
    registrars: Registrars,
}

fn policy(text: &str) -> Result<Policy, String> {
    let mut parts = text.split(':');
    let name = parts.next().unwrap_or_default();
    let policy_type = PolicyType::from_name(name).ok_or_else(|| {
        format!("no policy is called {name}; there are RoundRobin, Random, WeightedRandom:3 and others (docs/policies.md)")
    })?;
    let values: Vec<u32> =
        parts.map(|v| v.parse().map_err(|_| format!("{v} is no policy value"))).collect::<Result<_, _>>()?;
    // A weight left out would be 0: no service.
    if values.len() != policy_type.words() {
        let example = [name].into_iter().chain(std::iter::repeat_n("1", policy_type.words()));
        let example: Vec<&str> = example.collect();
        return Err(format!("{name} takes {} values, e.g. {}", policy_type.words(), example.join(":")));
    }
    Ok(Policy::new(policy_type, &values))
}

fn identifier(text: &str) -> Result<u32, String> {
    let value = match text.strip_prefix("0x") {
        Some(hex) => u32::from_str_radix(hex, 16),
        None => text.parse(),
    };
    value.ok().filter(|id| *id != 0).ok_or_else(|| "an identifier is 1 to 0xffffffff".to_string())
}

fn start(registrars: &Registrars) -> Result<(), String> {
    let options = socket::Options {
        registrars: registrars.registrars.iter().map(|address| vec![*address]).collect(),
        ..socket::Options::default()
    };
    socket::initialize(&options).map_err(|error| error.what)
}

fn pool_handle(text: &str) -> Result<PoolHandle, String> {
    PoolHandle::new(text.as_bytes()).ok_or_else(|| "a pool handle has at least one byte".to_string())
}

fn transport(address: &TransportAddress) -> String {
    let places: Vec<String> = address.socket_addresses().map(|a| a.to_string()).collect();
    format!("{:?} {}", address.kind(), places.join(" ")).to_lowercase()
}

pub fn resolve(resolve: &Resolve) -> Result<(), String> {
    let handle = pool_handle(&resolve.handle)?;
    start(&resolve.registrars)?;
    let elements =
        socket::resolve(&handle, resolve.items, Duration::ZERO, Wait::For(resolve.registrars.timeout));
    socket::cleanup();
    let elements = elements.map_err(|error| error.what)?;
    if resolve.json {
        let list: Vec<_> = elements
            .iter()
            .map(|e| {
                json!({
                    "id": e.id.to_string(),
                    "policy": e.policy.policy_type().name(),
                    "policy_values": e.policy.words(),
                    "transport": transport(&e.user_transport),
                    "home": e.home.map(|home| home.to_string()),
                })
            })
            .collect();
        println!("{}", json!({ "v": 1, "handle": resolve.handle, "elements": list }));
        return Ok(());
    }
    let rows: Vec<_> = elements
        .iter()
        .map(|e| {
            let values: Vec<String> = e.policy.words().iter().map(u32::to_string).collect();
            let policy = [&[e.policy.policy_type().name().to_string()], values.as_slice()].concat().join(":");
            let home = e.home.map_or("-".to_string(), |home| home.to_string());
            vec![e.id.to_string(), policy, transport(&e.user_transport), home]
        })
        .collect();
    table::print(&["ELEMENT", "POLICY", "TRANSPORT", "HOME"], &rows);
    Ok(())
}

/// How long a registration stands if this process dies without a word; it is renewed three times as often.
const LIFE: Duration = Duration::from_secs(30);

pub fn register(register: &Register) -> Result<(), String> {
    let handle = pool_handle(&register.pool)?;
    let mut signals = Signals::new([SIGINT, SIGTERM]).map_err(|error| format!("no signals: {error}"))?;
    start(&register.registrars)?;
    let mut element = PoolElement {
        id: PeId(register.id.unwrap_or(0)),
        home: None,
        life: RegistrationLife::Seconds(LIFE.as_secs() as u32),
        user_transport: TransportAddress::Tcp {
            port: register.tcp.port(),
            transport_use: TransportUse::DataOnly,
            address: register.tcp.ip(),
        },
        policy: register.policy,
        asap_transport: None,
        capabilities: None,
    };
    let wait = Wait::For(register.registrars.timeout);
    element.id = socket::register_element(&handle, element.clone(), wait).map_err(|error| error.what)?;
    println!("{} is element {} of {}", register.tcp, element.id, register.pool);
    let (stop, stopped) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        if signals.forever().next().is_some() {
            // Nobody listens any more only when the process is ending already.
            let _ = stop.send(());
        }
    });
    while stopped.recv_timeout(LIFE / 3).is_err() {
        if let Err(error) = socket::register_element(&handle, element.clone(), wait) {
            eprintln!("asapctl: not renewed, trying on: {}", error.what);
        }
    }
    let left = socket::deregister_element(&handle, element.id, wait).map_err(|error| error.what);
    socket::cleanup();
    left
}
