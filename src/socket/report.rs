//! Reports of the component status protocol: what this context's elements and users are busy with, looked up when a report is
//! due. An element is a component of its own; all users together are one.
//!
//! Sockets are looked at, not waited for: one that another thread is inside of is told as it was seen last.

use super::call::{Role, Socket};
use super::context::{Name, SocketKey};
use super::line::Line;
use super::table;
use crate::csp::{self, Association, CSP_PORT, ComponentId, Monitor, Reporter, Status};
use crate::endpoint::Endpoint;
use crate::machine::Effect;
use crate::runtime::interfaces::local_addresses;
use crate::runtime::names::{host_name, look_up};
use crate::session::{Session, State};
use crate::types::{Load, PeId, Time, TransportAddress};
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

/// The payload protocol identifier of ASAP (RFC 5352 9.1).
const ASAP_PPID: u32 = 11;
/// How often reports are sent when the environment does not say.
const INTERVAL: Duration = Duration::from_secs(1);
/// The shortest interval taken from the environment.
const SHORTEST: Duration = Duration::from_millis(250);

/// Whether a context reports how it is (component status protocol).
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Reporting {
    /// If the environment says so: see [`monitor_of_environment`].
    #[default]
    Environment,
    /// It does not.
    Off,
    /// It does.
    To {
        /// Whom it tells.
        monitor: Monitor,
        /// As who, all of it as one component; none: each element by its identifier, users by a random number.
        identifier: Option<ComponentId>,
    },
}

/// The monitor that `CSP_SERVER` (`HOST[:PORT]`) and `CSP_INTERVAL` (milliseconds, 250 at least) name. One of them is enough: port 2960 of
/// this host, every second. A name is looked up now. What cannot be understood is one line in the log.
pub fn monitor_of_environment() -> Option<Monitor> {
    let variable = |name| std::env::var(name).ok().filter(|value| !value.is_empty());
    match monitor(variable("CSP_SERVER").as_deref(), variable("CSP_INTERVAL").as_deref()) {
        Ok(monitor) => monitor,
        Err(what) => {
            log::warn!("{what}; no status reports are sent");
            None
        }
    }
}

fn monitor(server: Option<&str>, interval: Option<&str>) -> Result<Option<Monitor>, String> {
    if server.is_none() && interval.is_none() {
        return Ok(None);
    }
    let address = match server {
        None => SocketAddr::from((Ipv4Addr::LOCALHOST, CSP_PORT)),
        Some(name) => {
            let found = look_up(name, CSP_PORT).map(|found| found.into_iter().next());
            let unusable = || format!("CSP_SERVER: {name:?} is no HOST[:PORT]");
            found.map_err(|error| format!("{} ({error})", unusable()))?.ok_or_else(unusable)?
        }
    };
    let interval = match interval.map(str::parse) {
        None => INTERVAL,
        Some(Ok(ms)) => Duration::from_millis(ms).max(SHORTEST),
        Some(Err(_)) => return Err("CSP_INTERVAL is no number of milliseconds".to_owned()),
    };
    Ok(Some(Monitor { address, interval }))
}

/// Whose sessions a socket has.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Side {
    User,
    /// An element's, if it is registered.
    Element(Option<Name>),
}

/// What a socket was seen to be busy with.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Sight {
    pub(super) side: Side,
    pub(super) sessions: usize,
    /// What the application says they do.
    pub(super) texts: Vec<String>,
    /// With whom, as far as that is known.
    pub(super) partners: Vec<Association>,
}

impl Sight {
    fn of(side: Side) -> Sight {
        Sight { side, sessions: 0, texts: Vec::new(), partners: Vec::new() }
    }

    /// Adds a session with this partner, if it goes on.
    fn add(&mut self, now: Time, line: &Line<Session>, partner: Option<PeId>) {
        if line.machine.state() == State::Ended {
            return;
        }
        self.sessions += 1;
        if !line.status.is_empty() {
            self.texts.push(line.status.clone());
        }
        let connection = line.connections().last();
        if let (Some(partner), Some((since, kind)), true) =
            (partner, connection, self.partners.len() < csp::MAX_ASSOCIATIONS)
        {
            let peer = ComponentId::element(partner);
            self.partners.push(Association::over(kind, peer, now.since(since), line.ppid));
        }
    }

    /// What a socket does, if it has sessions.
    pub(super) fn of_role(role: &Role, now: Time) -> Option<Sight> {
        match role {
            Role::User(user) => {
                let mut sight = Sight::of(Side::User);
                sight.add(now, &user.line, user.line.machine.current().map(|element| element.id));
                Some(sight)
            }
            Role::Element(element) => {
                let mut sight = Sight::of(Side::Element(element.registered().cloned()));
                for line in element.lines() {
                    sight.add(now, line, line.machine.sender().map(|(_, id)| *id));
                }
                Some(sight)
            }
            Role::Accepted(accepted) => {
                let mut sight = Sight::of(Side::Element(accepted.own().cloned()));
                let line = &accepted.line;
                sight.add(now, line, line.machine.sender().map(|(_, id)| *id));
                Some(sight)
            }
            // Who sends message by message has no sessions; a connection counts as one.
            Role::Dispatch(line) => {
                Some(Sight { sessions: line.connections().count(), ..Sight::of(Side::User) })
            }
            Role::Fresh | Role::Watch(_) | Role::Closed => None,
        }
    }
}

/// An element of this context.
#[derive(Debug)]
pub(super) struct Own<'a> {
    pub(super) name: &'a Name,
    pub(super) load: Option<Load>,
    pub(super) transport: &'a TransportAddress,
}

/// Reports of one context.
#[derive(Debug)]
pub(super) struct Telling {
    reporter: Reporter,
    identifier: Option<ComponentId>,
    /// All users.
    users: ComponentId,
    host: String,
    /// What was seen last, for sockets that are in use just now.
    seen: BTreeMap<SocketKey, Sight>,
    /// Who has reported and not ended.
    present: BTreeSet<ComponentId>,
    effects: VecDeque<Effect>,
}

impl Telling {
    /// None if nobody wants to be told. `random` names the users.
    pub(super) fn new(reporting: Reporting, random: u64) -> Option<Telling> {
        let (monitor, identifier) = match reporting {
            Reporting::Environment => (monitor_of_environment()?, None),
            Reporting::Off => return None,
            Reporting::To { monitor, identifier } => (monitor, identifier),
        };
        Some(Telling {
            reporter: Reporter::new(monitor)?,
            // An identifier of 0 is not known yet.
            identifier: identifier.filter(|id| id.id() != 0),
            users: ComponentId::user(random.max(1)),
            host: host_name(),
            seen: BTreeMap::new(),
            present: BTreeSet::new(),
            effects: VecDeque::new(),
        })
    }

    pub(super) fn poll_timeout(&self) -> Option<Time> {
        self.reporter.poll_timeout()
    }

    pub(super) fn poll_effect(&mut self) -> Option<Effect> {
        self.effects.pop_front()
    }

    /// Reports if it is time. `is_ours` says which sockets are this context's, `home` since when the registrar is in use.
    pub(super) fn tell<'a>(
        &mut self,
        now: Time,
        endpoint: &Endpoint,
        home: Option<Time>,
        elements: impl Iterator<Item = Own<'a>>,
        is_ours: impl Fn(&Socket) -> bool,
    ) {
        if !self.reporter.take_due(now) {
            return;
        }
        self.look(now, is_ours);
        let elements: Vec<Own<'a>> = elements.collect();
        let registrar = endpoint.home().map(|it| {
            let duration = now.since(home.unwrap_or(now));
            Association::over(it.kind, ComponentId::registrar(it.server), duration, ASAP_PPID)
        });
        let hunting = registrar.is_none() && endpoint.is_hunting();
        let mut components: Vec<(ComponentId, Status)> = Vec::new();
        let mut add = |id: ComponentId, own: Option<&Own<'_>>, sights: &[&Sight]| {
            let status = Status {
                location: csp::location(&self.host, places(own.map(|own| own.transport))),
                text: text(hunting, sights),
                workload: own.and_then(|own| own.load),
                associations: registrar
                    .iter()
                    .chain(sights.iter().flat_map(|s| &s.partners))
                    .cloned()
                    .collect(),
            };
            components.push((id, status));
        };
        if let Some(id) = self.identifier {
            let all: Vec<&Sight> = self.seen.values().collect();
            add(id, elements.first(), &all);
        } else {
            for own in &elements {
                let is_its =
                    |sight: &&Sight| matches!(&sight.side, Side::Element(Some(name)) if name == own.name);
                let its: Vec<&Sight> = self.seen.values().filter(is_its).collect();
                add(ComponentId::element(own.name.1), Some(own), &its);
            }
            let users: Vec<&Sight> = self.seen.values().filter(|sight| sight.side == Side::User).collect();
            if !users.is_empty() || elements.is_empty() {
                add(self.users, None, &users);
            }
        }
        let before = std::mem::take(&mut self.present);
        for (id, status) in components {
            if self.present.insert(id) {
                self.effects.push_back(self.reporter.report(now, id, status));
            }
        }
        for gone in before.difference(&self.present) {
            self.effects.push_back(self.reporter.last_report(now, *gone));
        }
    }

    /// All of them have ended.
    pub(super) fn end(&mut self, now: Time) {
        self.reporter.stop();
        for id in std::mem::take(&mut self.present) {
            self.effects.push_back(self.reporter.last_report(now, id));
        }
    }

    fn look(&mut self, now: Time, is_ours: impl Fn(&Socket) -> bool) {
        let before = std::mem::take(&mut self.seen);
        table::glance(|socket| {
            if !is_ours(socket) {
                return;
            }
            let sight = socket.glance(|role| Sight::of_role(role, now));
            let sight = sight.unwrap_or_else(|| before.get(&socket.key).cloned());
            if let Some(sight) = sight {
                self.seen.insert(socket.key, sight);
            }
        });
    }
}

/// Where an element is, or where users are.
fn places(transport: Option<&TransportAddress>) -> Vec<String> {
    let here = || {
        let all = local_addresses().unwrap_or_default();
        // Loopback is last: alone it is better than nothing.
        let outside = all.iter().take_while(|address| !address.is_loopback()).count();
        let all = all.into_iter();
        all.take(outside.max(1))
    };
    let mut found = Vec::new();
    match transport {
        None => found.extend(here().map(|ip| ip.to_string())),
        Some(transport) => {
            for at in transport.socket_addresses() {
                match at.ip().is_unspecified() {
                    true => found.extend(here().map(|ip| SocketAddr::new(ip, at.port()).to_string())),
                    false => found.push(at.to_string()),
                }
            }
        }
    }
    found
}

/// What is going on: in the application's words, if it has said any.
fn text(hunting: bool, sights: &[&Sight]) -> String {
    let sessions: usize = sights.iter().map(|sight| sight.sessions).sum();
    let said: Vec<&str> = sights.iter().flat_map(|sight| &sight.texts).map(String::as_str).collect();
    match (sessions, said.as_slice()) {
        (0, _) if hunting => "Looking for Registrar ...".to_owned(),
        (1, [said]) => (*said).to_owned(),
        (1, _) => "1 Session".to_owned(),
        (_, []) => format!("{sessions} Sessions"),
        (_, said) => format!("{sessions} Sessions: {}", said.join("; ")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_variable_is_enough_and_intervals_are_250_ms_at_least() {
        let told = |server, interval| {
            monitor(server, interval).unwrap().map(|m| (m.address.to_string(), m.interval.as_millis()))
        };
        let at = |place: &str, ms| Some((place.to_owned(), ms));
        assert_eq!(told(None, None), None);
        assert_eq!(told(Some("10.0.0.1:7"), Some("500")), at("10.0.0.1:7", 500));
        assert_eq!(told(Some("::1"), Some("7")), at("[::1]:2960", 250));
        assert_eq!(told(Some("[::1]:9"), None), at("[::1]:9", 1000));
        assert_eq!(told(None, Some("0")), at("127.0.0.1:2960", 250));
        assert!(monitor(Some("no such host"), None).unwrap_err().contains("CSP_SERVER"));
        assert!(monitor(None, Some("often")).unwrap_err().contains("CSP_INTERVAL"));
    }

    #[test]
    fn what_applications_say_goes_before_counts() {
        let sight = |sessions, texts: &[&str]| Sight {
            side: Side::User,
            sessions,
            texts: texts.iter().map(|t| (*t).to_owned()).collect(),
            partners: Vec::new(),
        };
        assert_eq!(text(true, &[]), "Looking for Registrar ...");
        assert_eq!(text(false, &[]), "0 Sessions");
        assert_eq!(text(true, &[&sight(1, &[])]), "1 Session");
        assert_eq!(text(false, &[&sight(1, &["job 5"])]), "job 5");
        assert_eq!(text(false, &[&sight(2, &["a"]), &sight(1, &["b"])]), "3 Sessions: a; b");
    }

    #[test]
    fn a_component_is_somewhere() {
        assert!(!places(None).is_empty());
        let at = |address: &str| TransportAddress::Udp { port: 7, address: address.parse().unwrap() };
        assert_eq!(places(Some(&at("10.0.0.1"))), ["10.0.0.1:7"]);
        let any = places(Some(&at("0.0.0.0")));
        assert!(!any.is_empty() && any.iter().all(|place| place.ends_with(":7")), "{any:?}");
    }
}
