//! The answers of the administration socket: one JSON object a line, `{"v":1,"cmd":"pools"}` and so on.

use crate::words;
use asap::handlespace::Entry;
use asap::machine::{LinkKind, Protocol};
use asap::registrar::{Counters, Registrar};
use asap::runtime::admin::Answer;
use asap::runtime::driver::Remote;
use asap::types::{PoolHandle, Time};
use serde::Deserialize;
use serde_json::{Value, json};
use std::net::SocketAddr;
use std::sync::mpsc;
use std::time::Duration;

/// Elements listed when the request does not say how many: the registrar does nothing else meanwhile.
const LIMIT: usize = 10_000;
/// How long the registrar may take to answer.
const PATIENCE: Duration = Duration::from_secs(10);

/// A request.
#[derive(Deserialize)]
struct Request {
    v: u32,
    cmd: String,
    /// `pools`: this pool only.
    handle: Option<String>,
    /// `pools`: so many elements at most.
    limit: Option<usize>,
}

/// Makes an answer on the registrar's thread.
type Look = Box<dyn FnOnce(&Registrar, Time) -> Value + Send>;

/// What `status` tells and the machine does not know.
#[derive(Clone)]
pub struct About {
    pub listeners: Vec<(LinkKind, Protocol, SocketAddr)>,
    pub profile: String,
    pub started: Time,
}

/// Answers by asking the registrar's thread.
pub fn answer(remote: Remote<Registrar>, about: About) -> Answer {
    Box::new(move |line| {
        let said = respond(&remote, &about, line).unwrap_or_else(|error| json!({ "v": 1, "error": error }));
        said.to_string()
    })
}

fn respond(remote: &Remote<Registrar>, about: &About, line: &str) -> Result<Value, String> {
    let request: Request = serde_json::from_str(line)
        .map_err(|error| format!("not a request: {error}; say {{\"v\":1,\"cmd\":\"pools\"}}"))?;
    if request.v != 1 {
        return Err(format!("version {} is not known here, 1 is", request.v));
    }
    let build: Look = match request.cmd.as_str() {
        "pools" => Box::new(move |registrar, now| {
            pools(registrar, now, request.handle.as_deref(), request.limit.unwrap_or(LIMIT))
        }),
        "counters" => Box::new(|registrar, _| counters(registrar.counters())),
        "peers" => Box::new(peers),
        "status" => {
            let about = about.clone();
            Box::new(move |registrar, now| status(registrar, now, &about))
        }
        other => return Err(format!("no command {other:?}: there are pools, counters, peers and status")),
    };
    let (sender, receiver) = mpsc::channel();
    let asked = remote.call(Box::new(move |registrar, now| {
        let _ = sender.send(build(registrar, now));
    }));
    match receiver.recv_timeout(PATIENCE) {
        Ok(answer) if asked => Ok(answer),
        Ok(_) | Err(_) => Err("the registrar is stopping or too busy".to_owned()),
    }
}

fn pools(registrar: &Registrar, now: Time, only: Option<&str>, limit: usize) -> Value {
    let handlespace = registrar.handlespace();
    let mut left = limit;
    let mut truncated = false;
    let mut list = Vec::new();
    for (handle, traits, count) in handlespace.pools() {
        if only.is_some_and(|only| !is(handle, only)) {
            continue;
        }
        truncated |= count > left;
        let elements: Vec<Value> =
            handlespace.elements(handle).take(left).map(|entry| element(entry, now)).collect();
        left -= elements.len();
        list.push(json!({
            "handle": handle.to_string(),
            "policy": traits.policy_type.name(),
            "transport": words::transport_kind(traits.transport),
            "count": count,
            "elements": elements,
        }));
        if left == 0 {
            truncated = true;
            break;
        }
    }
    json!({ "v": 1, "pools": list, "truncated": truncated })
}

/// Handles are bytes: named as they are printed, or as they are.
fn is(handle: &PoolHandle, name: &str) -> bool {
    handle.as_bytes() == name.as_bytes() || handle.to_string() == name
}

fn element(entry: &Entry, now: Time) -> Value {
    let element = &entry.element;
    let addresses: Vec<String> =
        element.user_transport.socket_addresses().map(|address| address.to_string()).collect();
    json!({
        "id": element.id.to_string(),
        "policy": words::policy(&element.policy),
        "transport": words::transport(&element.user_transport),
        "addresses": addresses,
        "asap_transport": element.asap_transport.as_ref().map(words::transport),
        "home": element.home.map(|home| home.to_string()),
        "life": element.life.duration().map(|life| life.as_secs_f64()),
        "expires_in": entry.expires.map(|at| seconds(at.since(now))),
        "capabilities": element.capabilities.map(|capabilities| capabilities.0),
        "bad_reports": entry.bad_reports,
    })
}

/// Seconds, to the millisecond.
fn seconds(duration: Duration) -> f64 {
    Duration::from_millis(u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)).as_secs_f64()
}

fn peers(registrar: &Registrar, now: Time) -> Value {
    let list: Vec<Value> = registrar
        .peers()
        .map(|peer| {
            json!({
                "id": peer.server.to_string(),
                "address": peer.transport.as_ref().map(words::transport),
                "last_heard": seconds(now.since(peer.last_heard)),
            })
        })
        .collect();
    json!({ "v": 1, "peers": list })
}

fn status(registrar: &Registrar, now: Time, about: &About) -> Value {
    let listeners: Vec<Value> = about
        .listeners
        .iter()
        .map(|(kind, protocol, address)| {
            json!({
                "protocol": words::protocol(*protocol),
                "transport": words::kind(*kind),
                "address": address.to_string(),
            })
        })
        .collect();
    let handlespace = registrar.handlespace();
    json!({
        "v": 1,
        "id": registrar.id().to_string(),
        "version": env!("CARGO_PKG_VERSION"),
        "pid": std::process::id(),
        "uptime": seconds(now.since(about.started)),
        "profile": about.profile,
        "listeners": listeners,
        "clients": registrar.clients(),
        "pools": handlespace.pools().count(),
        "elements": handlespace.count(None),
    })
}

macro_rules! counters {
    ($($name:ident),* $(,)?) => {
        fn counters(counters: &Counters) -> Value {
            // All of them: one that is new and not listed does not compile.
            let Counters { $($name),* } = *counters;
            json!({ "v": 1, "counters": { $(stringify!($name): $name),* } })
        }
    };
}

counters! {
    registrations, reregistrations, refusals, deregistrations, deregistrations_refused, resolutions,
    unknown_pools, subscriptions_refused, updates_pushed, keep_alives_sent, keep_alive_acks, probes,
    reports, expired, unreachable, reported, announcements, rejected_messages, errors_received,
    links_refused, enrp_messages, enrp_ignored,
}
