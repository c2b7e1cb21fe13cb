//! Whether elements are still there (RFC 5352 3.4, 3.5): keep-alives in turn, probes after a report or the loss of a
//! link, and MAX-BAD-PE-REPORT.
//!
//! An element is asked on the link it registered on; when that is lost, through a link opened to its ASAP transport,
//! one for all elements behind it. An element is either due for its next keep-alive, or it has one to acknowledge by a
//! deadline: that is all its state here. Silence until the deadline, or a link that cannot be opened, ends it.
//!
//! DEPARTS RFC 5352 3.5: there a keep-alive that was transmitted has not failed. Here it has to be acknowledged in time:
//! a transport delivers to a process that hangs, too.

use super::clients::{Client, counted_address};
use super::{ElementKey, Registrar, Removal};
use crate::machine::{Destination, Effect, LinkFailure, LinkId, LinkKind, Protocol};
use crate::timer::Timers;
use crate::types::{Addresses, RegistrationLife, ServerId, Time, TransportAddress};
use crate::wire::{AsapMessage, Dialect, KeepAlive};
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::time::Duration;

/// An element whose link is lost has at most this long to acknowledge a probe, whatever `keep_alive_timeout` says:
/// its users wait.
const LOST_LINK_TIMEOUT: Duration = Duration::from_millis(900);
/// One that cannot be probed, having no ASAP transport, has this long to register again.
const LOST_LINK_GRACE: Duration = Duration::from_millis(500);
/// An adopted element that cannot be asked, having no ASAP transport, has at least this long to register again.
const ADOPTION_GRACE: Duration = Duration::from_secs(10);
/// One that can be, to acknowledge: it has just lost its home, as many others have.
const ADOPTION_PATIENCE: Duration = Duration::from_secs(1);
/// When there is no room for another link, an adopted element is asked later.
const NO_ROOM_PAUSE: Duration = Duration::from_secs(1);
/// A deadline noticed so much too late says that this registrar slept, not that the element did.
const LATE: Duration = Duration::from_millis(100);
/// As many keep-alives may go in one burst as the highest rate allows in this time.
const BURST: Duration = Duration::from_millis(10);

/// What is due of whom.
#[derive(Debug)]
pub(super) struct Liveness {
    /// The next keep-alive to each element that has none to acknowledge.
    due: Timers<ElementKey>,
    /// By when the others are to be heard of.
    deadlines: Timers<ElementKey>,
    /// Those whose deadline was put off because this registrar was late itself.
    put_off: BTreeSet<ElementKey>,
    /// Elements taken over that have neither acknowledged nor registered here yet, and from which registrar. They are
    /// asked with the H bit.
    adopted: BTreeMap<ElementKey, ServerId>,
    /// When the last of them is to be asked.
    adopted_until: Time,
    pace: Pace,
    /// The links opened to ASAP transports.
    probes: BTreeMap<Endpoint, Probe>,
    /// The same by link, and by the elements asked through them.
    by_link: BTreeMap<LinkId, Endpoint>,
    by_element: BTreeMap<ElementKey, Endpoint>,
    /// Who has reported an element since it last registered. No longer than MAX-BAD-PE-REPORT, then the element goes.
    reporters: BTreeMap<ElementKey, BTreeSet<Reporter>>,
}

/// Who counts as one reporter: a machine, whatever number of links it opens; on loopback each link.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
enum Reporter {
    Machine(IpAddr),
    Link(LinkId),
}

/// Where a probe goes.
pub(super) type Endpoint = (LinkKind, u16, Vec<IpAddr>);

/// A link to an ASAP transport.
#[derive(Debug)]
struct Probe {
    link: LinkId,
    up: bool,
    /// The elements asked through it.
    elements: BTreeSet<ElementKey>,
}

impl Liveness {
    pub(super) fn new(keep_alives_per_second: u32) -> Liveness {
        Liveness {
            due: Timers::default(),
            deadlines: Timers::default(),
            put_off: BTreeSet::new(),
            adopted: BTreeMap::new(),
            adopted_until: Time::ZERO,
            pace: Pace::new(keep_alives_per_second),
            probes: BTreeMap::new(),
            by_link: BTreeMap::new(),
            by_element: BTreeMap::new(),
            reporters: BTreeMap::new(),
        }
    }

    pub(super) fn next_timeout(&self) -> Option<Time> {
        let keep_alive = self.due.next().map(|at| at.max(self.pace.opens()));
        [keep_alive, self.deadlines.next()].into_iter().flatten().min()
    }

    /// The elements taken over from this registrar that have not been heard yet.
    pub(super) fn adopted_from(&self, server: ServerId) -> Vec<ElementKey> {
        let from = self.adopted.iter().filter(|(_, from)| **from == server);
        from.map(|(key, _)| key.clone()).collect()
    }

    /// From whom an element was taken over that has not been heard yet.
    pub(super) fn adopted_of(&self, key: &ElementKey) -> Option<ServerId> {
        self.adopted.get(key).copied()
    }

    /// The link through which an element is asked that has lost its own, if it is up.
    fn probe_link(&self, key: &ElementKey) -> Option<LinkId> {
        let probe = self.probes.get(self.by_element.get(key)?)?;
        probe.up.then_some(probe.link)
    }

    /// The element is not asked through a link of ours any more; that link, if nobody is.
    fn leave_probe(&mut self, key: &ElementKey) -> Option<LinkId> {
        let endpoint = self.by_element.remove(key)?;
        let probe = self.probes.get_mut(&endpoint)?;
        probe.elements.remove(key);
        if !probe.elements.is_empty() {
            return None;
        }
        let link = probe.link;
        self.probes.remove(&endpoint);
        self.by_link.remove(&link);
        Some(link)
    }

    fn take_probe(&mut self, link: LinkId) -> Option<Probe> {
        let probe = self.probes.remove(&self.by_link.remove(&link)?)?;
        for key in &probe.elements {
            self.by_element.remove(key);
        }
        Some(probe)
    }
}

impl Registrar {
    /// The element has just registered: it is there, on its registering link, and what was said of it before counts no
    /// more. (The RFC never sets its count of reports back. Reports since the last registration it is here: an
    /// element of old age must not fall to the fourth report of its life, and acknowledging a probe cannot be what
    /// counts, for then no count would ever grow.)
    pub(super) fn watch(&mut self, now: Time, key: ElementKey) {
        self.forget_liveness(&key);
        self.schedule_keep_alive(now, key);
    }

    /// The element was taken over from this registrar. It is asked in its turn: all of them together at the highest rate,
    /// in between the others. If it cannot be asked it has to register.
    pub(super) fn await_adopted(&mut self, now: Time, key: ElementKey, from: ServerId, can_be_asked: bool) {
        self.forget_liveness(&key);
        let liveness = &mut self.liveness;
        liveness.adopted.insert(key.clone(), from);
        if can_be_asked {
            let turn = liveness.adopted_until.max(now);
            liveness.adopted_until = turn + liveness.pace.share;
            liveness.due.set(key, turn);
        } else {
            let grace = ADOPTION_GRACE.max(self.config.keep_alive_timeout * 4);
            liveness.deadlines.set(key, now + grace);
        }
    }

    /// The element is gone, or begins anew.
    pub(super) fn forget_liveness(&mut self, key: &ElementKey) {
        self.liveness.due.cancel(key);
        self.liveness.deadlines.cancel(key);
        self.liveness.put_off.remove(key);
        self.doubt.forget(key);
        self.liveness.adopted.remove(key);
        self.liveness.reporters.remove(key);
        if let Some(link) = self.liveness.leave_probe(key) {
            self.close_unused(link);
        }
    }

    /// Closes a link opened to probe, unless the endpoint has come to use it itself.
    fn close_unused(&mut self, link: LinkId) {
        // What the endpoint has opened it closes.
        let used = link.is_incoming()
            || self.clients.find(link).is_some_and(|c| !c.elements.is_empty() || !c.subscriptions.is_empty());
        if !used {
            self.clients.down(link);
            self.out.close(link, false);
        }
    }

    /// The time to an element's next keep-alive grows with the number of elements, so that the mean rate is not
    /// exceeded; spread by half either way, so that bursts dissolve (RFC 5352 3.5).
    fn schedule_keep_alive(&mut self, now: Time, key: ElementKey) {
        let owned = u64::try_from(self.handlespace.count(Some(self.id))).unwrap_or(u64::MAX);
        let mean = self.config.keep_alive_interval.max(self.liveness.pace.time_for(owned));
        self.liveness.due.set(key, now + self.rng.spread(mean, 50));
    }

    /// Asks an element for a sign of life, to be given within `patience`.
    fn ask(&mut self, now: Time, key: &ElementKey, patience: Duration) {
        self.liveness.due.cancel(key);
        self.liveness.deadlines.set(key.clone(), now + patience);
        let link = self.link_to_element(key);
        let Some(entry) = self.handlespace.entry(&key.0, key.1) else { return };
        if let Some(link) = link {
            self.send_keep_alive(link, key);
        } else if let Some((endpoint, to)) = entry.element.asap_transport.as_ref().and_then(destination) {
            // Asked when the link is up.
            if !self.open_probe(key, endpoint, to) && self.liveness.adopted.contains_key(key) {
                // It has not been asked, so its silence says nothing.
                self.liveness.deadlines.cancel(key);
                self.liveness.due.set(key.clone(), now + NO_ROOM_PAUSE);
            }
        }
    }

    /// The link on which an element registered, or is asked.
    pub(super) fn link_to_element(&self, key: &ElementKey) -> Option<LinkId> {
        let registrant = self.handlespace.entry(&key.0, key.1)?.registrant.as_ref();
        registrant.and_then(|registrant| registrant.link).or_else(|| self.liveness.probe_link(key))
    }

    /// False if there is no room for another link.
    fn open_probe(&mut self, key: &ElementKey, endpoint: Endpoint, to: Destination) -> bool {
        if !self.liveness.probes.contains_key(&endpoint) {
            let link = self.next_link();
            if !self.clients.open(link) {
                return false;
            }
            let probe = Probe { link, up: false, elements: BTreeSet::new() };
            self.liveness.probes.insert(endpoint.clone(), probe);
            self.liveness.by_link.insert(link, endpoint.clone());
            self.out.effects.push_back(Effect::Connect { link, to });
        }
        let Some(probe) = self.liveness.probes.get_mut(&endpoint) else { return false };
        probe.elements.insert(key.clone());
        let link = probe.up.then_some(probe.link);
        self.liveness.by_element.insert(key.clone(), endpoint);
        if let Some(link) = link {
            self.send_keep_alive(link, key);
        }
        true
    }

    fn send_keep_alive(&mut self, link: LinkId, key: &ElementKey) {
        let Some(entry) = self.handlespace.entry(&key.0, key.1) else { return };
        // H is set while the element may not know that this is its home (RFC 5353 3.5.2). The RFC's message does not name the element; ours do to
        // ours, where one endpoint may have several in a pool, and to what may be RSPLIB's, which without acknowledges for every element of its
        // process, and with some dozens does nothing else any more (DEPARTS RFC 5352 2.2.7).
        let ours = entry.element.capabilities.is_some();
        let client = self.clients.find_mut(link);
        let named = ours || client.as_ref().is_some_and(|client| client.dialect != Dialect::Rfc);
        // Who is asked for an element of ours may be told what only ours understand.
        if let Some(client) = client {
            client.ours |= ours;
        }
        let element = named.then_some(key.1);
        let (server, home) = (Some(self.id), self.liveness.adopted.contains_key(key));
        self.send(link, &AsapMessage::KeepAlive(KeepAlive { home, server, handle: key.0.clone(), element }));
        self.out.counters.keep_alives_sent += 1;
    }

    pub(super) fn on_keep_alive_ack(&mut self, now: Time, link: LinkId, key: ElementKey) {
        let entry = self.handlespace.entry(&key.0, key.1);
        if entry.is_none_or(|entry| entry.element.home != Some(self.id)) {
            // Asked before it was another's, or nobody's, it may take this registrar for its home: it registers there again.
            self.tell_not_registered(link, key);
        } else if self.link_to_element(&key) != Some(link) {
            // Anybody can say that somebody else is alive: only the link that was asked counts.
            self.out.reject("a keep-alive acknowledged by another");
        } else if self.liveness.deadlines.cancel(&key).is_some() {
            self.out.counters.keep_alive_acks += 1;
            self.liveness.put_off.remove(&key);
            self.doubt.forget(&key);
            if self.liveness.adopted.contains_key(&key) {
                self.on_adoption_acknowledged(now, link, &key);
            } else {
                self.schedule_keep_alive(now, key);
            }
        }
    }

    /// One of this registrar's elements is another's now. Where it can be reached from here it may not know: it registers
    /// at its home, wherever that is.
    pub(super) fn let_go(&mut self, key: &ElementKey) {
        if let Some(link) = self.link_to_element(key) {
            self.tell_not_registered(link, key.clone());
        }
        self.forget_liveness(key);
        self.out.counters.elements_lost += 1;
    }

    /// Only ours: others would take it for an answer to what they have not asked.
    fn tell_not_registered(&mut self, link: LinkId, key: ElementKey) {
        if self.clients.find(link).is_some_and(|client| client.ours) {
            let (handle, element) = key;
            self.send(link, &AsapMessage::DeregistrationResponse { handle, element, error: None });
        }
    }

    /// RFC 5352 3.5: a report has the element asked at once, and is counted.
    ///
    /// DEPARTS RFC 5352 3.5 in two points, since whoever can reach the registrar can send reports (9.1, threat 8): while
    /// an element has a keep-alive to acknowledge it gets no second one, for the first will tell; and of several
    /// reports from one machine about one registration the first counts.
    pub(super) fn on_endpoint_unreachable(&mut self, now: Time, link: LinkId, key: ElementKey) {
        self.out.counters.reports += 1;
        // DEPARTS RFC 5352 3.5: of an element of another home nothing is concluded from here. That home asks it in turn, and
        // from here it might be out of reach for reasons that are none of its home's.
        if self.handlespace.entry(&key.0, key.1).is_none_or(|entry| entry.element.home != Some(self.id)) {
            return;
        }
        let machine = self.clients.find(link).and_then(|client| counted_address(&client.addresses));
        let reporter = machine.map_or(Reporter::Link(link), Reporter::Machine);
        let reporters = self.liveness.reporters.entry(key.clone()).or_default();
        reporters.insert(reporter);
        let reports = u32::try_from(reporters.len()).unwrap_or(u32::MAX);
        if reports > self.config.max_bad_pe_report {
            self.remove(now, &key, Removal::Reported);
            return;
        }
        self.handlespace.note(&key.0, key.1, |note| *note.bad_reports = reports);
        if self.liveness.deadlines.deadline(&key).is_none() {
            self.out.counters.probes += 1;
            self.ask(now, &key, self.config.keep_alive_timeout);
        }
    }

    /// The link is gone on which these elements registered. They may have crashed, or be on their way to another
    /// link: they are asked at once, through their ASAP transport if they have one.
    pub(super) fn on_registering_link_lost(&mut self, now: Time, client: Client) {
        for key in client.elements {
            self.handlespace.note(&key.0, key.1, |note| {
                if let Some(registrant) = note.registrant {
                    registrant.link = None;
                }
            });
            let Some(entry) = self.handlespace.entry(&key.0, key.1) else { continue };
            if entry.element.home != Some(self.id) {
                continue;
            }
            let patience = if entry.element.asap_transport.is_some() {
                self.out.counters.probes += 1;
                self.config.keep_alive_timeout.min(LOST_LINK_TIMEOUT)
            } else {
                LOST_LINK_GRACE
            };
            self.ask(now, &key, patience);
        }
    }

    pub(super) fn on_probe_link_up(&mut self, link: LinkId) {
        let Some(endpoint) = self.liveness.by_link.get(&link) else { return };
        let Some(probe) = self.liveness.probes.get_mut(endpoint) else { return };
        probe.up = true;
        // Elements with a life in milliseconds are RSPLIB's.
        let is_of_rsplib = |key: &ElementKey| {
            let element = self.handlespace.entry(&key.0, key.1).map(|entry| &entry.element);
            element.is_some_and(|it| {
                matches!(it.life, RegistrationLife::Milliseconds(_)) && it.capabilities.is_none()
            })
        };
        if let Some(client) = self.clients.find_mut(link)
            && client.dialect == Dialect::Unknown
            && probe.elements.iter().any(is_of_rsplib)
        {
            client.dialect = Dialect::Rsplib;
        }
        for key in probe.elements.clone() {
            if self.liveness.deadlines.deadline(&key).is_some() {
                self.send_keep_alive(link, &key);
            }
        }
    }

    /// A link to an ASAP transport is lost, or could not be opened: for those asked through it, that is the answer.
    /// Those that had acknowledged are asked in turn, through another link.
    ///
    /// If it could not be opened because the endpoint has a link to us already (between two SCTP ports there is one
    /// association), they are asked there.
    pub(super) fn on_probe_link_down(&mut self, now: Time, link: LinkId, why: LinkFailure) {
        let Some(endpoint) = self.liveness.by_link.get(&link).cloned() else { return };
        let Some(probe) = self.liveness.take_probe(link) else { return };
        if why == LinkFailure::Present {
            let Some(present) = self.clients.at(&endpoint) else {
                // It ends just now: the deadline will tell.
                return;
            };
            for key in &probe.elements {
                self.liveness.by_element.insert(key.clone(), endpoint.clone());
            }
            self.liveness.by_link.insert(present, endpoint.clone());
            self.liveness.probes.insert(endpoint, Probe { link: present, ..probe });
            self.on_probe_link_up(present);
            return;
        }
        for key in probe.elements {
            if self.liveness.deadlines.deadline(&key).is_some() {
                self.on_unreachable(now, &key);
            }
        }
    }

    /// A message came back undelivered. If it was a keep-alive, its element cannot be reached (RFC 5352 3.5).
    pub(super) fn on_send_failed(&mut self, now: Time, link: LinkId, message: &[u8]) {
        let Ok(decoded) = AsapMessage::decode(message, Dialect::Unknown) else { return };
        let AsapMessage::KeepAlive(keep_alive) = decoded.message else { return };
        let Some(client) = self.clients.find(link) else { return };
        let probe = self.liveness.by_link.get(&link).and_then(|endpoint| self.liveness.probes.get(endpoint));
        let asked = client.elements.iter().chain(probe.into_iter().flat_map(|probe| &probe.elements));
        let failed: Vec<ElementKey> = asked
            .filter(|key| key.0 == keep_alive.handle && keep_alive.element.is_none_or(|id| id == key.1))
            .filter(|key| self.liveness.deadlines.deadline(key).is_some())
            .cloned()
            .collect();
        for key in failed {
            self.on_unreachable(now, &key);
        }
    }

    pub(super) fn on_liveness_timeout(&mut self, now: Time) {
        while let Some(deadline) = self.liveness.deadlines.next()
            && let Some(key) = self.liveness.deadlines.pop_due(now)
        {
            // After a pause of ours the acknowledgement may lie unread behind us: it gets a moment, once.
            let slept = now.since(deadline) > LATE || self.doubt.has_slept(now, LATE);
            if slept && self.liveness.put_off.insert(key.clone()) {
                self.liveness.deadlines.set(key, now + LATE);
            } else if self.may_be_cut_off(now, &key) {
                self.ask(now, &key, self.config.keep_alive_timeout);
            } else {
                self.on_unreachable(now, &key);
            }
        }
        while self.liveness.pace.is_open(now)
            && let Some(key) = self.liveness.due.pop_due(now)
        {
            self.liveness.pace.count(now);
            let patience = match self.liveness.adopted.contains_key(&key) {
                true => ADOPTION_PATIENCE.max(self.config.keep_alive_timeout * 2),
                false => self.config.keep_alive_timeout,
            };
            self.ask(now, &key, patience);
        }
    }
}

/// Holds keep-alives to a highest rate, whatever falls due at once: each takes its share of time, and no more than
/// [`BURST`] may be taken in advance.
#[derive(Debug)]
struct Pace {
    share: Duration,
    taken_until: Time,
}

impl Pace {
    fn new(per_second: u32) -> Pace {
        Pace { share: Duration::from_secs(1) / per_second.max(1), taken_until: Time::ZERO }
    }

    /// How long this many take at least.
    fn time_for(&self, count: u64) -> Duration {
        self.share.saturating_mul(u32::try_from(count).unwrap_or(u32::MAX))
    }

    fn opens(&self) -> Time {
        let burst = u64::try_from(BURST.as_nanos()).unwrap_or(u64::MAX);
        Time::from_nanos(self.taken_until.as_nanos().saturating_sub(burst))
    }

    fn is_open(&self, now: Time) -> bool {
        self.opens() <= now
    }

    fn count(&mut self, now: Time) {
        self.taken_until = self.taken_until.max(now) + self.share;
    }
}

/// Where a link to this ASAP transport goes; none if there is no such link.
fn destination(transport: &TransportAddress) -> Option<(Endpoint, Destination)> {
    let (kind, port, addresses) = match transport {
        TransportAddress::Tcp { port, address, .. } => (LinkKind::Tcp, *port, Addresses::from(*address)),
        TransportAddress::Sctp { port, addresses, .. } => (LinkKind::Sctp, *port, addresses.clone()),
        TransportAddress::Dccp { .. }
        | TransportAddress::Udp { .. }
        | TransportAddress::UdpLite { .. }
        | TransportAddress::Opaque(_) => return None,
    };
    let endpoint = (kind, port, addresses.as_slice().to_vec());
    Some((endpoint, Destination { kind, protocol: Protocol::Asap, port, addresses }))
}
