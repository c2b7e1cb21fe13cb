//! Finding a registrar and keeping to it (RFC 5352 3.6): the registrars known, by configuration and by
//! announcement, the connection attempts of a server hunt, and which link is the home.
//!
//! It does not know who needs a registrar: the facade starts and stops the hunt, and tells the other parts when
//! the home has changed.
//!
//! What the RFC leaves open: all registrars known are tried once a round, at most three at a time, the ones never
//! or longest ago tried first, so that "a different set" (SH5) is the rule and not luck. When none is left before T5
//! expires, the next round begins with T5's expiry. A registrar that can be had over SCTP and TCP is tried over SCTP, and over TCP
//! when that fails or gets no answer for half of T5 and another attempt may be made.

use super::acquaintance::Acquaintance;
use super::context::{Context, HomeLink, MAX_TRIED, Timer};
use super::{Event, Home};
use crate::machine::{Audience, Destination, Effect, LinkFailure, LinkId, LinkKind, Protocol};
use crate::types::{Addresses, ServerId, TransportAddress};
use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

/// The most connections to registrars at once, the home's included (SH1).
const MAX_CONNECTIONS: usize = 3;

/// The most announced registrars remembered. Announcements are not authenticated and may come in masses (RFC 5352
/// 9.2); those that prove false vanish with T7.
const MAX_ANNOUNCED: usize = 64;

/// DEPARTS RFC 5352 3.6: of one announcement no more transports are taken, and of one transport no more addresses. A
/// datagram has room for thousands of either, all made up, each to be compared with all that are known.
const MAX_TRANSPORTS: usize = 8;
const MAX_ADDRESSES: usize = 16;

/// As many announced registrars are tried in a round if others are configured. Were all tried, somebody who announces
/// new ones all the time could put off for ever the next attempt at those configured.
const MAX_ANNOUNCED_TRIES: usize = 9;

/// How long TCP waits for SCTP to the same registrar: half of T5, and no longer than this.
const LONGEST_PREFERENCE: Duration = Duration::from_secs(1);

/// The IANA-registered ASAP port, where an announcement names no transport.
const ASAP_PORT: u16 = 3863;

#[derive(Debug)]
struct Registrar {
    number: u64,
    to: Destination,
    server: Option<ServerId>,
    announced: bool,
    /// Order among those tried equally long ago: configured ones in order, then announced ones by lot, so that
    /// users spread over registrars.
    rank: u64,
    /// When it was last tried or, if never, announced, as a count of attempts.
    tried: u64,
}

#[derive(Debug)]
enum State {
    Idle,
    Hunting(Round),
}

#[derive(Debug, Default)]
struct Round {
    attempts: BTreeMap<LinkId, Destination>,
    /// Attempts over SCTP that have had their time: TCP need not wait for them any more.
    late: BTreeSet<LinkId>,
    /// Registrars tried in this round.
    seen: BTreeSet<u64>,
    /// Announced ones among them.
    announced: usize,
    failures: Vec<(Destination, LinkFailure)>,
    /// Whether the end of this round has been told.
    told: bool,
    /// Whether there is a home that does not answer, so that one round is enough (RFC 5352 3.7.2).
    beside: bool,
}

/// The registrars known, and the hunt.
#[derive(Debug)]
pub(super) struct Hunt {
    known: Vec<Registrar>,
    /// Over what announced ones may be reached, if not over everything.
    only: Option<LinkKind>,
    state: State,
    /// T5's present value.
    t5: Duration,
    next_number: u64,
    next_link: u64,
    attempts_made: u64,
}

impl Hunt {
    pub(super) fn new(t5: Duration) -> Hunt {
        Hunt {
            known: Vec::new(),
            only: None,
            state: State::Idle,
            t5,
            next_number: 0,
            next_link: 0,
            attempts_made: 0,
        }
    }

    pub(super) fn is_on(&self) -> bool {
        matches!(self.state, State::Hunting(_))
    }

    pub(super) fn set_transport(&mut self, only: Option<LinkKind>) {
        self.only = only;
    }

    pub(super) fn set_registrars(&mut self, ctx: &mut Context, registrars: Vec<Destination>) {
        self.known.retain(|r| r.announced || registrars.contains(&r.to));
        for (rank, to) in (0..).zip(registrars) {
            if let Some(known) = self.known.iter_mut().find(|r| r.to == to) {
                known.rank = rank;
                known.announced = false;
                ctx.timers.cancel(&Timer::T7Outdate(known.number));
            } else {
                self.add(to, None, false, rank);
            }
        }
        self.fill(ctx);
    }

    fn add(&mut self, to: Destination, server: Option<ServerId>, announced: bool, rank: u64) -> u64 {
        let number = self.next_number;
        self.next_number += 1;
        // A configured one is to be tried first; announced ones queue up behind those tried before.
        let tried = if announced { self.attempts_made } else { 0 };
        self.known.push(Registrar { number, to, server, announced, rank, tried });
        number
    }

    /// Takes in an announcement: new addresses join the list, known ones have T7 restarted.
    pub(super) fn on_announce(
        &mut self,
        ctx: &mut Context,
        audience: Audience,
        from: SocketAddr,
        server: Option<ServerId>,
        transports: &[TransportAddress],
    ) {
        let mut announced: Vec<Destination> =
            transports.iter().filter_map(|t| destination(t, from.ip())).take(MAX_TRANSPORTS).collect();
        if transports.is_empty() {
            let port = match audience {
                Audience::Standard => ASAP_PORT,
                // Its registrars are anywhere, and say so by where they announce themselves from.
                Audience::Rsplib => from.port(),
            };
            announced.push(Destination {
                kind: LinkKind::Sctp,
                protocol: Protocol::Asap,
                port,
                addresses: from.ip().into(),
            });
        }
        announced.retain(|to| self.only.is_none_or(|kind| to.kind == kind));
        for to in announced {
            if let Some(home) = &mut ctx.home
                && home.destination.as_ref().is_some_and(|d| overlaps(d, &to))
            {
                // It has shown who it is itself, or will: anybody may announce anything in its name.
                home.home.server = home.home.server.or(server);
            }
            if let Some(known) = self.known.iter_mut().find(|r| overlaps(&r.to, &to)) {
                known.server =
                    if known.announced { server.or(known.server) } else { known.server.or(server) };
                if known.announced {
                    // What is said on RSPLIB's group beside the RFC's names one address of many.
                    if !transports.is_empty() {
                        known.to = to;
                    }
                    let timer = Timer::T7Outdate(known.number);
                    ctx.set_timer(timer, ctx.config.t7_enrp_outdate);
                }
            } else if self.known.iter().filter(|r| r.announced).count() < MAX_ANNOUNCED {
                let rank = (1 << 32) | (ctx.rng.next_u64() >> 32);
                let number = self.add(to, server, true, rank);
                ctx.set_timer(Timer::T7Outdate(number), ctx.config.t7_enrp_outdate);
            }
        }
        self.fill(ctx);
    }

    pub(super) fn on_t7(&mut self, number: u64) {
        self.known.retain(|r| r.number != number);
        if let State::Hunting(round) = &mut self.state {
            round.seen.remove(&number);
        }
    }

    /// Starts hunting, beside a home that does not answer if there is one. Does nothing while hunting.
    pub(super) fn start(&mut self, ctx: &mut Context) {
        let beside = ctx.home.is_some();
        match &mut self.state {
            State::Hunting(round) => {
                if std::mem::replace(&mut round.beside, beside) != beside {
                    self.fill(ctx);
                }
            }
            State::Idle => {
                let round = Round { beside, ..Round::default() };
                if beside && self.candidate(&round, ctx).is_none() {
                    // Nobody else is known: the home gets its repetitions.
                    return;
                }
                ctx.counters.hunts += 1;
                ctx.tried.clear();
                self.state = State::Hunting(round);
                ctx.set_timer(Timer::T5ServerHunt, self.t5);
                self.fill(ctx);
            }
        }
    }

    /// Stops hunting: nothing needs a registrar, or the home has answered after all.
    pub(super) fn stop(&mut self, ctx: &mut Context) {
        if let State::Hunting(round) = std::mem::replace(&mut self.state, State::Idle) {
            for link in round.attempts.into_keys() {
                ctx.act(Effect::Close { link, abort: true });
            }
            ctx.timers.cancel(&Timer::T5ServerHunt);
            ctx.timers.cancel(&Timer::Fallback);
            self.t5 = ctx.config.t5_serverhunt;
        }
    }

    /// The registrar to try next in this round.
    fn candidate(&self, round: &Round, ctx: &Context) -> Option<usize> {
        let is_home = |r: &Registrar| {
            ctx.home.as_ref().is_some_and(|home| {
                home.destination.as_ref() == Some(&r.to)
                    || (r.server.is_some() && r.server == home.home.server)
            })
        };
        let enough_announced =
            round.announced >= MAX_ANNOUNCED_TRIES && self.known.iter().any(|r| !r.announced);
        let may_be_tried = |r: &Registrar| {
            !(round.seen.contains(&r.number) || is_home(r) || r.announced && enough_announced)
        };
        let has_its_turn = |r: &Registrar| {
            let sctp = |to: &Destination| is_over_sctp(to, &r.to);
            round.attempts.iter().filter(|(_, to)| sctp(to)).all(|(link, _)| round.late.contains(link))
                && !self.known.iter().any(|other| sctp(&other.to) && may_be_tried(other))
        };
        self.known
            .iter()
            .enumerate()
            .filter(|(_, r)| may_be_tried(r) && has_its_turn(r))
            .min_by_key(|(_, r)| (r.tried, r.rank, r.number))
            .map(|(at, _)| at)
    }

    /// Tries more registrars up to the limit (SH1, SH4), or ends the round when all have failed.
    fn fill(&mut self, ctx: &mut Context) {
        let State::Hunting(mut round) = std::mem::replace(&mut self.state, State::Idle) else { return };
        let most = MAX_CONNECTIONS - usize::from(ctx.home.is_some());
        while round.attempts.len() < most
            && let Some(at) = self.candidate(&round, ctx)
            && let Some(registrar) = self.known.get_mut(at)
        {
            self.attempts_made += 1;
            registrar.tried = self.attempts_made;
            round.seen.insert(registrar.number);
            round.announced += usize::from(registrar.announced);
            let link = LinkId::outgoing(self.next_link);
            self.next_link += 1;
            round.attempts.insert(link, registrar.to.clone());
            if registrar.to.kind == LinkKind::Sctp && ctx.timers.deadline(&Timer::Fallback).is_none() {
                ctx.set_timer(Timer::Fallback, (self.t5 / 2).min(LONGEST_PREFERENCE));
            }
            if !ctx.tried.iter().any(|(to, _)| *to == registrar.to) {
                // That is what it comes to unless it comes to something else.
                ctx.note_tried(&registrar.to, LinkFailure::TimedOut);
            }
            ctx.act(Effect::Connect { link, to: registrar.to.clone() });
        }
        if round.attempts.is_empty() {
            if !round.told {
                round.told = true;
                ctx.tell(Event::HuntFailed(round.failures.clone()));
            }
            if round.beside && ctx.home.is_some() {
                ctx.timers.cancel(&Timer::T5ServerHunt);
                return;
            }
        }
        self.state = State::Hunting(round);
    }

    /// SCTP has had its time.
    pub(super) fn on_fallback(&mut self, ctx: &mut Context) {
        if let State::Hunting(round) = &mut self.state {
            round.late.extend(round.attempts.keys());
        }
        self.fill(ctx);
    }

    /// SH5: those that have not answered are given up for others.
    pub(super) fn on_t5(&mut self, ctx: &mut Context) {
        let State::Hunting(round) = &mut self.state else { return };
        for (link, to) in std::mem::take(&mut round.attempts) {
            ctx.act(Effect::Close { link, abort: true });
            ctx.note_tried(&to, LinkFailure::TimedOut);
            round.note(to, LinkFailure::TimedOut);
        }
        self.t5 = self.t5.saturating_mul(2).min(ctx.config.retran_max.max(ctx.config.t5_serverhunt));
        ctx.set_timer(Timer::T5ServerHunt, self.t5);
        self.fill(ctx);
        if let State::Hunting(round) = &mut self.state
            && round.attempts.is_empty()
        {
            *round = Round { beside: round.beside, ..Round::default() };
            self.fill(ctx);
        }
    }

    /// An attempt has come up: it becomes the home, and the others are closed (SH3, SH6). False: it was none of
    /// ours.
    pub(super) fn on_link_up(
        &mut self,
        ctx: &mut Context,
        link: LinkId,
        kind: LinkKind,
        local: &[SocketAddr],
        peer: &[SocketAddr],
    ) -> bool {
        let State::Hunting(round) = &mut self.state else { return false };
        let Some(destination) = round.attempts.remove(&link) else { return false };
        self.stop(ctx);
        let first = destination.addresses.as_slice().first();
        let Some(peer) = peer.first().copied().or(first.map(|ip| SocketAddr::new(*ip, destination.port)))
        else {
            return false;
        };
        let server = self.known.iter().find(|r| r.to == destination).and_then(|r| r.server);
        let no_sctp = ctx.tried.iter().find(|(to, _)| is_over_sctp(to, &destination)).map(|(_, why)| *why);
        let (heard, acquaintance) = (ctx.now, Acquaintance::new(ctx.config.dialect, kind));
        self.adopt(
            ctx,
            HomeLink {
                link,
                kind,
                home: Home { server, peer, kind, no_sctp },
                local: local.iter().map(SocketAddr::ip).collect(),
                destination: Some(destination),
                heard,
                acquaintance,
                complaint: Vec::new(),
            },
        );
        true
    }

    /// Where an attempt goes.
    pub(super) fn attempt(&self, link: LinkId) -> Option<Destination> {
        let State::Hunting(round) = &self.state else { return None };
        round.attempts.get(&link).cloned()
    }

    /// Another link takes the place of an attempt's.
    pub(super) fn replace_attempt(&mut self, link: LinkId, by: LinkId) {
        if let State::Hunting(round) = &mut self.state
            && let Some(to) = round.attempts.remove(&link)
        {
            round.attempts.insert(by, to);
        }
    }

    /// An attempt has failed (SH4). False: it was none.
    pub(super) fn on_link_down(&mut self, ctx: &mut Context, link: LinkId, why: LinkFailure) -> bool {
        let State::Hunting(round) = &mut self.state else { return false };
        let Some(to) = round.attempts.remove(&link) else { return false };
        ctx.note_tried(&to, why);
        round.note(to, why);
        self.fill(ctx);
        true
    }

    /// Makes a link the home; the old home's is closed, what was sent on it delivered first.
    pub(super) fn adopt(&mut self, ctx: &mut Context, new: HomeLink) {
        self.stop(ctx);
        if let Some(old) = ctx.home.take() {
            self.postpone(&old);
            ctx.act(Effect::Close { link: old.link, abort: false });
        }
        ctx.counters.homes += 1;
        ctx.tell(Event::HomeChanged(Some(new.home.clone())));
        ctx.home = Some(new);
    }

    /// The home is lost: its link went down, or is broken off because it is of no use.
    pub(super) fn lose_home(&mut self, ctx: &mut Context, close: bool) {
        let Some(old) = ctx.home.take() else { return };
        self.postpone(&old);
        if close {
            ctx.act(Effect::Close { link: old.link, abort: true });
        }
        ctx.tell(Event::HomeChanged(None));
    }

    /// A registrar that was the home and is no longer is tried after all others.
    fn postpone(&mut self, old: &HomeLink) {
        self.attempts_made += 1;
        for registrar in &mut self.known {
            if old.destination.as_ref() == Some(&registrar.to)
                || (registrar.server.is_some() && registrar.server == old.home.server)
            {
                registrar.tried = self.attempts_made;
                if !registrar.announced {
                    // Who serves there next may be another.
                    registrar.server = None;
                }
            }
        }
    }
}

impl Round {
    fn note(&mut self, to: Destination, why: LinkFailure) {
        if self.failures.len() < MAX_TRIED {
            self.failures.push((to, why));
        }
    }
}

/// Whether the first leads over SCTP to where the second leads over TCP. By convention (RFC 5352 has one port number for all)
/// one registrar has the same port number over both.
fn is_over_sctp(a: &Destination, b: &Destination) -> bool {
    a.kind == LinkKind::Sctp
        && b.kind == LinkKind::Tcp
        && a.port == b.port
        && a.addresses.as_slice().iter().any(|ip| b.addresses.as_slice().contains(ip))
}

/// Whether two destinations are of one registrar's endpoint.
fn overlaps(a: &Destination, b: &Destination) -> bool {
    a.kind == b.kind
        && a.port == b.port
        && a.addresses.as_slice().iter().any(|ip| b.addresses.as_slice().contains(ip))
}

/// Where an announced transport leads; none for transports that ASAP does not run over. An unspecified address
/// stands for the announcement's source.
fn destination(transport: &TransportAddress, from: IpAddr) -> Option<Destination> {
    let kind = match transport {
        TransportAddress::Sctp { .. } => LinkKind::Sctp,
        TransportAddress::Tcp { .. } => LinkKind::Tcp,
        TransportAddress::Dccp { .. }
        | TransportAddress::Udp { .. }
        | TransportAddress::UdpLite { .. }
        | TransportAddress::Opaque(_) => return None,
    };
    let addresses = transport.addresses().iter().map(|ip| if ip.is_unspecified() { from } else { *ip });
    let addresses = addresses.take(MAX_ADDRESSES).collect();
    Some(Destination {
        kind,
        protocol: Protocol::Asap,
        port: transport.port()?,
        addresses: Addresses::new(addresses)?,
    })
}
