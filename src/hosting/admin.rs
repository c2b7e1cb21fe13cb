//! The answers of the administration socket: one JSON object a line, `{"v":1,"cmd":"pools"}` and so on.

use super::journal::LastTakeover;
use super::{Listener, words};
use crate::handlespace::{Entry, View};
use crate::registrar::{Counters, Dialect, Registrar};
use crate::runtime::admin::Answer;
use crate::runtime::driver::Remote;
use crate::types::{PoolHandle, Time};
use serde_json::{Value, json};
use std::sync::{Arc, mpsc};
use std::time::Duration;

/// Elements listed when the request does not say how many: the registrar does nothing else meanwhile.
const LIMIT: usize = 10_000;
/// How long the registrar may take to answer.
const PATIENCE: Duration = Duration::from_secs(10);

/// A request.
#[derive(Debug)]
struct Request {
    version: u64,
    command: String,
    /// `pools`: this pool only.
    handle: Option<String>,
    /// `pools`: so many elements at most.
    limit: Option<usize>,
}

impl Request {
    fn read(line: &str) -> Result<Request, String> {
        let value: Value = serde_json::from_str(line).map_err(|error| error.to_string())?;
        let text = |name: &str| match value.get(name) {
            None | Some(Value::Null) => Ok(None),
            Some(Value::String(text)) => Ok(Some(text.clone())),
            Some(_) => Err(format!("\"{name}\" is no string")),
        };
        let number = |name: &str| match value.get(name) {
            None | Some(Value::Null) => Ok(None),
            Some(number) => number.as_u64().map(Some).ok_or(format!("\"{name}\" is no number")),
        };
        let limit = number("limit")?.map(|limit| usize::try_from(limit).unwrap_or(usize::MAX));
        let (version, command) = (number("v")?.ok_or("no \"v\"")?, text("cmd")?.ok_or("no \"cmd\"")?);
        Ok(Request { version, command, handle: text("handle")?, limit })
    }
}

/// Makes an answer on the registrar's thread.
type Look = Box<dyn FnOnce(&Registrar, Time) -> Value + Send>;

/// What `status` tells and the machine does not know.
#[derive(Clone)]
pub(super) struct About {
    pub listeners: Vec<Listener>,
    pub profile: &'static str,
    pub started: Time,
    pub last_takeover: LastTakeover,
}

/// Answers by asking the registrar's thread.
pub(super) fn answer(remote: Remote<Registrar>, about: About) -> Answer {
    Box::new(move |line| {
        let said = respond(&remote, &about, line).unwrap_or_else(|error| json!({ "v": 1, "error": error }));
        said.to_string()
    })
}

fn respond(remote: &Remote<Registrar>, about: &About, line: &str) -> Result<Value, String> {
    let request = Request::read(line)
        .map_err(|error| format!("not a request: {error}; say {{\"v\":1,\"cmd\":\"pools\"}}"))?;
    if request.version != 1 {
        return Err(format!("version {} is not known here, 1 is", request.version));
    }
    let build: Look = match request.command.as_str() {
        "pools" => Box::new(move |registrar, now| {
            pools(registrar, now, request.handle.as_deref(), request.limit.unwrap_or(LIMIT))
        }),
        "counters" => Box::new(|registrar, _| counters(registrar.counters())),
        "registrars" => {
            let last = Arc::clone(&about.last_takeover);
            Box::new(move |registrar, now| registrars(registrar, now, &last))
        }
        "status" => {
            let about = about.clone();
            Box::new(move |registrar, now| status(registrar, now, &about))
        }
        other => {
            return Err(format!("no command {other:?}: there are pools, registrars, counters and status"));
        }
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
        let told = |entry: &Entry| {
            let rsplib = handlespace.is_in(View::Rsplib, handle, entry.element.id);
            element(entry, now, rsplib)
        };
        let elements: Vec<Value> = handlespace.elements(handle).take(left).map(told).collect();
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
    let rsplib = registrar.peers().filter(|peer| peer.dialect == Dialect::Rsplib).count();
    json!({ "v": 1, "pools": list, "truncated": truncated, "rsplib_registrars": rsplib })
}

/// Handles are bytes: named as they are printed, or as they are.
fn is(handle: &PoolHandle, name: &str) -> bool {
    handle.as_bytes() == name.as_bytes() || handle.to_string() == name
}

/// An element, and whether registrars of RSPLIB can be told of it.
fn element(entry: &Entry, now: Time, rsplib: bool) -> Value {
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
        "visible_to_rsplib": rsplib,
    })
}

/// Seconds, to the millisecond.
fn seconds(duration: Duration) -> f64 {
    Duration::from_millis(u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)).as_secs_f64()
}

/// This registrar and the others, as it sees them.
fn registrars(registrar: &Registrar, now: Time, last_takeover: &LastTakeover) -> Value {
    let last_takeover = last_takeover.lock().map(|last| {
        json!({
            "target": last.target.to_string(),
            "by": last.by.to_string(),
            "elements": last.elements,
            "ago": seconds(now.since(last.at)),
        })
    });
    let handlespace = registrar.handlespace();
    let held = |server| {
        let checksum = handlespace.checksum(server, View::Full);
        (handlespace.count(Some(server)), format!("0x{:04x}", checksum.0))
    };
    let list: Vec<Value> = registrar
        .peers()
        .map(|peer| {
            let (elements, checksum) = held(peer.server);
            json!({
                "id": peer.server.to_string(),
                "state": words::peer_state(peer.state),
                "ours": peer.ours,
                "dialect": words::dialect(peer.dialect),
                "address": peer.transport.as_ref().map(words::transport),
                "last_heard": seconds(now.since(peer.last_heard)),
                "elements": elements,
                "checksum": checksum,
                "checksum_agrees": peer.checksum_agrees,
                "digest_agrees": peer.digest_agrees,
            })
        })
        .collect();
    let (elements, checksum) = held(registrar.id());
    json!({
        "v": 1,
        "id": registrar.id().to_string(),
        "standing": words::standing(registrar.standing()),
        "elements": elements,
        "checksum": checksum,
        "registrars": list,
        "last_takeover": last_takeover,
    })
}

fn status(registrar: &Registrar, now: Time, about: &About) -> Value {
    let listeners: Vec<Value> = about
        .listeners
        .iter()
        .map(|listener| {
            json!({
                "protocol": words::protocol(listener.protocol),
                "transport": words::kind(listener.kind),
                "address": listener.address.to_string(),
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
        "standing": words::standing(registrar.standing()),
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
            let list = [$((stringify!($name), $name)),*];
            let list: serde_json::Map<String, Value> =
                list.into_iter().map(|(name, count)| (name.to_string(), count.into())).collect();
            json!({ "v": 1, "counters": list })
        }
    };
}

counters! {
    registrations, reregistrations, refusals, deregistrations, deregistrations_refused, resolutions,
    unknown_pools, subscriptions_refused, updates_pushed, keep_alives_sent, keep_alive_acks, probes,
    reports, expired, unreachable, reported, announcements, rejected_messages, errors_received,
    links_refused, enrp_messages, updates_told, updates_heard, updates_stale, updates_refused,
    elements_lost, suspicions, accusations, audits, swept, table_pages_sent, tables_refused,
    table_entries, mentors_lost, collisions, doubts,
    takeovers_begun, takeovers_yielded, takeovers_averted, takeovers_completed, elements_adopted,
    adoptions_acknowledged, elements_reclaimed,
}
