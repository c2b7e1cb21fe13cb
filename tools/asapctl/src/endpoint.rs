//! asapctl as an ASAP endpoint: its start, and resolving.

use crate::{Registrars, table};
use asap::socket::{self, Wait};
use asap::types::{PoolHandle, TransportAddress};
use clap::Args;
use serde_json::json;
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

/// Starts the library.
pub fn start(registrars: &Registrars) -> Result<(), String> {
    let options = socket::Options {
        registrars: registrars.registrars.iter().map(|address| vec![*address]).collect(),
        ..socket::Options::default()
    };
    socket::initialize(&options).map_err(|error| error.what)
}

/// A pool handle of the command line.
pub fn pool_handle(text: &str) -> Result<PoolHandle, String> {
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
