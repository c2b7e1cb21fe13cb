//! What is seen of the registrars from outside, on their links: who was heard by whom, who began to take over whom, how
//! much is sent. Holds the guarantees that can be told from that alone (docs/guarantees.md), and counts the rare states.

use crate::world::{Boot, Node};
use asap::config::RegistrarConfig;
use asap::machine::{Channel, LinkKind};
use asap::registrar::{Event, PeerState, Removal, Standing};
use asap::types::{PeId, PoolHandle, ServerId, Time};
use asap::wire::{AsapMessage, Dialect, EnrpMessage};
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::time::Duration;

pub const PRESENCE: u8 = 0x01;
pub const HANDLE_TABLE_REQUEST: u8 = 0x02;
pub const HANDLE_TABLE_RESPONSE: u8 = 0x03;
pub const HANDLE_UPDATE: u8 = 0x04;
pub const LIST_RESPONSE: u8 = 0x06;
pub const INIT_TAKEOVER: u8 = 0x07;
pub const INIT_TAKEOVER_ACK: u8 = 0x08;
pub const TAKEOVER_SERVER: u8 = 0x09;
/// Of ASAP.
const KEEP_ALIVE: u8 = 0x07;
const KEEP_ALIVE_ACK: u8 = 0x08;

/// An arbitration that has not ended after this long is over unseen.
const ARBITRATION: Duration = Duration::from_secs(5);

/// What one registrar has sent.
#[derive(Clone, Copy, Default, Debug)]
pub struct Traffic {
    /// ENRP messages by type, whoever they went to.
    pub enrp: [u64; 16],
    pub enrp_bytes: u64,
    pub asap: u64,
    pub asap_bytes: u64,
    /// Among them keep-alives.
    pub keep_alives: u64,
}

struct Seen {
    id: u32,
    config: RegistrarConfig,
    queued_bytes_per_link: usize,
    enrp: Option<LinkKind>,
    running: bool,
    boots: u32,
    /// When it went on after being stopped for so long that it has to notice.
    resumed: Time,
    paused: Option<Time>,
    /// When its clock has jumped, and by how much.
    jumps: Vec<(Time, Duration)>,
    traffic: Traffic,
    /// From whom it is taking in a whole table, page by page.
    download: Option<usize>,
    doubting: bool,
}

impl Seen {
    /// A registrar that was away for longer has to notice: it wakes once a heartbeat, and being late by the time an answer
    /// may take says that it was asleep.
    fn noticed(&self) -> Duration {
        self.config.peer_heartbeat_cycle + self.config.max_time_no_response
    }
}

#[derive(Default)]
pub struct Watch {
    registrars: BTreeMap<usize, Seen>,
    /// When the first last heard something of the second.
    heard: BTreeMap<(usize, usize), Time>,
    /// The same, by the identifier that the second had then.
    heard_as: BTreeMap<(usize, u32), Time>,
    /// When the first lost a link to who had this identifier: the earliest since it last heard it.
    lost: BTreeMap<(usize, u32), Time>,
    /// Under which identifier each was last known.
    places: BTreeMap<u32, usize>,
    /// When the first last took the second for dead.
    accused: BTreeMap<(usize, usize), Time>,
    /// Which registrar an element last told that it is alive, and when.
    answered: BTreeMap<(PoolHandle, PeId), (usize, Time)>,
    /// Who tries to take over whom, since when.
    contests: BTreeMap<u32, BTreeMap<usize, Time>>,
    /// Who, in which of its lives, has taken over which life of whom.
    taken: BTreeMap<(u32, u32), (usize, u32)>,
    /// Whom registrars of RSPLIB had taken over that are dead themselves.
    pub taken_by_the_dead: BTreeSet<ServerId>,
    /// Elements that are alive and within reach of everybody all the time: nobody may ever take one out.
    pub stable: BTreeSet<(PoolHandle, PeId)>,
    /// The most bytes that ever waited on one link.
    pub most_waiting: usize,
    pub reached: BTreeMap<&'static str, u64>,
}

/// A message in a line.
pub fn describe(channel: Channel, bytes: &[u8]) -> String {
    match channel {
        Channel::Enrp => match EnrpMessage::decode(bytes, Dialect::Unknown) {
            Ok(decoded) => match decoded.message {
                EnrpMessage::HandleTableResponse { more, reject, pools, .. } => {
                    let elements: usize = pools.iter().map(|(_, elements)| elements.len()).sum();
                    format!("HandleTableResponse more {more} reject {reject} elements {elements}")
                }
                message => format!("{message:?}"),
            },
            Err(why) => format!("{why:?}"),
        },
        Channel::Asap => match AsapMessage::decode(bytes, Dialect::Unknown) {
            Ok(decoded) => format!("{:?}", decoded.message),
            Err(why) => format!("{why:?}"),
        },
        Channel::User(_) => format!("{} bytes", bytes.len()),
    }
}

fn word(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_be_bytes(bytes.get(at..at + 4)?.try_into().ok()?))
}

/// A node by its address, as [`crate::world::World::add_node`] gives it.
fn node_at(address: IpAddr) -> usize {
    let IpAddr::V4(v4) = address else { panic!("no node is at {address}") };
    let [_, _, high, low] = v4.octets();
    usize::from(u16::from_be_bytes([high, low])) - 1
}

impl Watch {
    fn count(&mut self, what: &'static str) {
        *self.reached.entry(what).or_default() += 1;
    }

    fn reach(&mut self, reached: bool, what: &'static str) {
        if reached {
            self.count(what);
        }
    }

    pub fn on_boot(&mut self, node: usize, now: Time, boot: &Boot) {
        let boots = self.registrars.get(&node).map_or(1, |seen| seen.boots + 1);
        let seen = Seen {
            id: boot.id,
            config: boot.config.clone(),
            queued_bytes_per_link: boot.limits.queued_bytes_per_link,
            enrp: boot.enrp,
            running: true,
            boots,
            resumed: now,
            paused: None,
            jumps: Vec::new(),
            traffic: Traffic::default(),
            download: None,
            doubting: false,
        };
        self.places.insert(seen.id, node);
        self.registrars.insert(node, seen);
    }

    pub fn on_end(&mut self, node: usize) {
        if let Some(seen) = self.registrars.get_mut(&node) {
            seen.running = false;
            for contenders in self.contests.values_mut() {
                contenders.remove(&node);
            }
            self.heard.retain(|(at, _), _| *at != node);
            self.lost.retain(|(at, _), _| *at != node);
        }
    }

    pub fn on_pause(&mut self, now: Time, node: usize) {
        if let Some(seen) = self.registrars.get_mut(&node) {
            seen.paused.get_or_insert(now);
        }
    }

    pub fn on_resume(&mut self, now: Time, node: usize) {
        let Some(seen) = self.registrars.get_mut(&node) else { return };
        if seen.paused.take().is_some_and(|since| now.since(since) > seen.noticed()) {
            seen.resumed = now;
        }
    }

    pub fn on_jump(&mut self, now: Time, node: usize, by: Duration) {
        if let Some(seen) = self.registrars.get_mut(&node) {
            seen.jumps.push((now, by));
            if by > seen.noticed() {
                seen.resumed = now;
            }
        }
    }

    pub fn serves_enrp(&self, node: usize, _id: ServerId, kind: LinkKind) -> bool {
        self.registrars.get(&node).is_some_and(|seen| seen.enrp == Some(kind))
    }

    pub fn queued_bytes_per_link(&self, node: usize) -> usize {
        self.registrars.get(&node).map_or(4 << 20, |seen| seen.queued_bytes_per_link)
    }

    pub fn traffic(&self, node: usize) -> Traffic {
        self.registrars.get(&node).map_or(Traffic::default(), |seen| seen.traffic)
    }

    /// From whom a registrar is taking in the table.
    pub fn mentor(&self, node: usize) -> Option<usize> {
        self.registrars.get(&node)?.download
    }

    pub fn on_backlog(&mut self, bytes: usize) {
        self.most_waiting = self.most_waiting.max(bytes);
    }

    pub fn on_link_lost(&mut self, now: Time, at: usize, there: IpAddr) {
        let there = node_at(there);
        for (id, _) in self.places.iter().filter(|(_, node)| **node == there) {
            self.lost.entry((at, *id)).or_insert(now);
        }
    }

    pub fn on_sent_asap(&mut self, node: usize, bytes: &[u8]) {
        if let Some(seen) = self.registrars.get_mut(&node) {
            seen.traffic.asap += 1;
            seen.traffic.asap_bytes += bytes.len() as u64;
            seen.traffic.keep_alives += u64::from(bytes.first() == Some(&KEEP_ALIVE));
        }
    }

    /// A registrar is told something by an endpoint.
    pub fn on_delivered_asap(&mut self, now: Time, at: usize, bytes: &[u8]) {
        if bytes.first() == Some(&KEEP_ALIVE_ACK)
            && self.registrars.contains_key(&at)
            && let Ok(decoded) = AsapMessage::decode(bytes, Dialect::Unknown)
            && let AsapMessage::KeepAliveAck { handle, element } = decoded.message
        {
            self.answered.insert((handle, element), (at, now));
        }
    }

    /// Whether an element has told this registrar that it is alive, since then.
    pub fn has_answered(&self, key: &(PoolHandle, PeId), registrar: usize, since: Time) -> bool {
        self.answered.get(key).is_some_and(|(at, when)| *at == registrar && *when >= since)
    }

    /// A registrar sends an ENRP message to another.
    pub fn on_sent(&mut self, from: usize, to: usize, bytes: &[u8]) {
        let (Some(&kind), Some(&flags)) = (bytes.first(), bytes.get(1)) else { return };
        let Some(seen) = self.registrars.get_mut(&from) else { return };
        if let Some(id) = word(bytes, 4)
            && id != seen.id
        {
            seen.id = id;
            self.places.insert(id, from);
            self.count("a registrar drew another identifier");
        }
        let Some(seen) = self.registrars.get_mut(&from) else { return };
        if let Some(sent) = seen.traffic.enrp.get_mut(usize::from(kind)) {
            *sent += 1;
        }
        seen.traffic.enrp_bytes += bytes.len() as u64;
        match kind {
            HANDLE_TABLE_REQUEST if flags & 1 == 0 => {
                let changed = seen.download.is_some_and(|mentor| mentor != to);
                self.reach(changed, "the mentor changed in the middle of the table");
            }
            HANDLE_TABLE_REQUEST => self.count("an audit asked for a table"),
            INIT_TAKEOVER_ACK => {
                let contenders = word(bytes, 12).and_then(|target| self.contests.get_mut(&target));
                if contenders.is_some_and(|contenders| contenders.remove(&from).is_some()) {
                    self.count("a contender yielded");
                }
            }
            _ => {}
        }
    }

    fn on_begun(&mut self, now: Time, from: usize, target: u32, nodes: &[Node]) {
        self.check_silence(now, from, target, nodes);
        self.take_for_dead(now, from, target);
        let contenders = self.contests.entry(target).or_default();
        contenders.retain(|_, since| now.since(*since) < ARBITRATION);
        if contenders.insert(from, now).is_none() {
            let many = contenders.len();
            self.count("a takeover was begun");
            match many {
                1 => {}
                2 => self.count("two contend for a takeover"),
                _ => self.count("three contend for a takeover"),
            }
        }
    }

    fn take_for_dead(&mut self, now: Time, by: usize, target: u32) {
        if let Some(accused) = self.places.get(&target) {
            self.accused.insert((by, *accused), now);
        }
    }

    fn on_completed(&mut self, now: Time, from: usize, target: u32, nodes: &[Node]) {
        self.check_silence(now, from, target, nodes);
        self.contests.remove(&target);
        self.count("a takeover was completed");
        let boots = self.registrars.values().filter(|seen| seen.id == target).map(|seen| seen.boots).max();
        let life = self.registrars[&from].boots;
        let before = self.taken.insert((target, boots.unwrap_or(0)), (from, life));
        if let Some((other, life)) = before
            && other != from
            && self.registrars[&other].running
            && self.registrars[&other].boots == life
        {
            self.check_one_winner(from, other, target, nodes);
        }
    }

    /// Guarantee 6: of two that have taken the same one over one has been taken for dead since that was last heard, or has been by the other, who
    /// has not heard it since: each side of a cut may have its own winner.
    fn check_one_winner(&mut self, from: usize, other: usize, target: u32, nodes: &[Node]) {
        let heard = [from, other].iter().filter_map(|node| self.heard_as.get(&(*node, target))).max();
        let died = heard.copied().unwrap_or(Time::ZERO);
        let both = [from, other];
        let accused = self.accused.iter().any(|((by, whom), at)| {
            let unheard = || self.heard.get(&(*by, *whom)).is_none_or(|heard| heard < at);
            both.contains(whom) && (*at >= died || both.contains(by) && unheard())
        });
        let id = self.registrars[&other].id;
        let counts_on = nodes[from].registrar().is_some_and(|registrar| {
            registrar.peers().any(|peer| {
                peer.server.value() == id && matches!(peer.state, PeerState::Alive | PeerState::Suspected)
            })
        });
        assert!(
            accused || !counts_on,
            "{other} and {from}, whom nobody took for dead, have both taken over {target:#x}"
        );
        self.count("two took over the same registrar, one of them taken for dead");
    }

    /// The one of ours that has taken this one over, lives, and has not heard it since.
    pub fn winner(&self, target: ServerId) -> Option<usize> {
        let of_target = self.taken.iter().filter(|((id, _), _)| *id == target.value());
        let lives = |(node, life): &(usize, u32)| {
            self.registrars[node].running && self.registrars[node].boots == *life
        };
        of_target.map(|(_, winner)| *winner).find(lives).map(|(node, _)| node)
    }

    /// Guarantee 5: nobody is accused who was not silent, as far as the accuser could hear while it was awake.
    fn check_silence(&mut self, now: Time, from: usize, target: u32, nodes: &[Node]) {
        let alive =
            |(node, seen): &(&usize, &Seen)| seen.id == target && seen.running && !nodes[**node].is_paused();
        let Some(accused) = self.registrars.iter().find(alive).map(|(node, _)| *node) else { return };
        let Some(&heard) = self.heard_as.get(&(from, target)) else { return };
        let accuser = &self.registrars[&from];
        let RegistrarConfig { max_time_last_heard, max_time_no_response, .. } = accuser.config;
        // What a clock jumps counts as time in which nothing was heard, for who goes by it.
        let jumped = |since: Time| -> Duration {
            accuser.jumps.iter().filter(|(at, _)| *at >= since).map(|(_, by)| *by).sum()
        };
        let silence = |since: Time| now.since(since) + jumped(since) + Duration::from_millis(1);
        let silent = silence(heard);
        let lost = self.lost.get(&(from, target)).map(|at| silence(*at));
        let jumped_awake: Duration =
            accuser.jumps.iter().filter(|(at, _)| *at > accuser.resumed).map(|(_, by)| *by).sum();
        let awake = now.since(accuser.resumed) + jumped_awake + Duration::from_millis(1);
        assert!(
            (silent >= max_time_last_heard + max_time_no_response
                || lost.is_some_and(|lost| lost >= max_time_no_response))
                && awake >= max_time_no_response,
            "{from} accuses {accused}, which lives, after {silent:?} of silence, {awake:?} of them awake; link lost since {lost:?}"
        );
        self.count("a live registrar was accused after real silence");
    }

    /// A registrar has heard something of another. What comes by multicast is no sign of life: anybody can send it.
    pub fn on_delivered(&mut self, now: Time, at: usize, from: IpAddr, bytes: &[u8]) {
        let from = node_at(from);
        let (Some(&kind), Some(&flags)) = (bytes.first(), bytes.get(1)) else { return };
        self.heard.insert((at, from), now);
        if let Some(id) = word(bytes, 4) {
            self.heard_as.insert((at, id), now);
            self.lost.remove(&(at, id));
        }
        // Heard again, it can be taken over again.
        self.taken.retain(|(target, _), _| Some(*target) != word(bytes, 4));
        match kind {
            PRESENCE => {
                let contenders = word(bytes, 4).and_then(|id| self.contests.get_mut(&id));
                if contenders.is_some_and(|contenders| contenders.remove(&at).is_some()) {
                    self.count("the target showed up in the middle");
                }
            }
            HANDLE_TABLE_RESPONSE if flags & 1 != 0 => self.count("a table was refused"),
            HANDLE_TABLE_RESPONSE => {
                let more = flags & 2 != 0;
                if let Some(seen) = self.registrars.get_mut(&at) {
                    seen.download = more.then_some(from);
                }
                if more {
                    self.count("a table came in pages");
                }
            }
            LIST_RESPONSE if flags & 1 != 0 => self.count("a list was refused"),
            _ => {}
        }
    }

    pub fn on_standing(&mut self, node: usize, standing: Standing) {
        let Some(seen) = self.registrars.get_mut(&node) else { return };
        let doubting = standing == Standing::Doubting;
        let began = doubting && !std::mem::replace(&mut seen.doubting, doubting);
        self.reach(began, "a registrar doubted itself");
    }

    pub fn on_event(&mut self, now: Time, node: usize, event: &Event, nodes: &[Node]) {
        match event {
            // Guarantee 2.
            Event::Removed { handle, element, why } if *why != Removal::Deregistered => assert!(
                !self.stable.contains(&(handle.clone(), *element)),
                "{node} took out {element:?} of {handle}, which lives and was always within reach: {why:?}"
            ),
            Event::TakeoverBegun { target } => self.on_begun(now, node, target.value(), nodes),
            // Who agrees takes the target for dead as well.
            Event::TakeoverYielded { target, .. } => self.take_for_dead(now, node, target.value()),
            Event::TakenOver { target, by, .. } if self.is(node, *by) && target != by => {
                self.on_completed(now, node, target.value(), nodes);
            }
            _ => {}
        }
    }

    fn is(&self, node: usize, server: ServerId) -> bool {
        self.registrars.get(&node).is_some_and(|seen| seen.id == server.value())
    }
}
