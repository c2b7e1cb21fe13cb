//! Links to ASAP endpoints: who is at the other end, what it owns and has asked for, and how many there may be.
//!
//! A link the registrar opened itself to probe an element becomes a client like any other once it is up: the endpoint
//! behind it may register and resolve over it (RFC 5352 3.4, KA2.4). Knows no message; what a client asks for is
//! answered in `registration`, `resolution` and `liveness`.

use super::ElementKey;
use super::liveness::Endpoint;
use crate::config::Limits;
use crate::machine::{LinkId, LinkKind};
use crate::types::{Identity, PoolHandle};
use crate::wire::Dialect;
use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};

/// The endpoint at the other end of a link that is up.
#[derive(Debug)]
pub(super) struct Client {
    pub(super) kind: LinkKind,
    /// Its addresses on this link, IPv4 ones never in their IPv6 form.
    pub(super) addresses: Vec<IpAddr>,
    /// Its port on this link.
    pub(super) port: u16,
    pub(super) identity: Option<Identity>,
    pub(super) dialect: Dialect,
    /// It has shown the capability parameter: it is one of ours.
    pub(super) ours: bool,
    /// The elements that were registered over this link.
    pub(super) elements: BTreeSet<ElementKey>,
    /// The pools whose changes it wants to be told.
    pub(super) subscriptions: BTreeSet<PoolHandle>,
}

impl Client {
    /// Whether it runs on this machine and uses a loopback address.
    pub(super) fn is_loopback(&self) -> bool {
        !self.addresses.is_empty() && self.addresses.iter().all(IpAddr::is_loopback)
    }

    /// Whether an address is its own: one of this link's. Who comes over loopback runs on this machine, whose loopback addresses
    /// (127.0.0.0/8 and ::1) are all its own.
    pub(super) fn has(&self, address: &IpAddr) -> bool {
        self.addresses.contains(address) || address.is_loopback() && self.is_loopback()
    }
}

/// Every link of protocol ASAP.
#[derive(Debug)]
pub(super) struct Clients {
    up: BTreeMap<LinkId, Client>,
    /// Accepted or being opened, not up yet.
    opening: BTreeSet<LinkId>,
    /// How many links each remote address holds.
    per_address: BTreeMap<IpAddr, usize>,
    max_links: usize,
    max_per_address: usize,
}

impl Clients {
    pub(super) fn new(limits: &Limits) -> Clients {
        Clients {
            up: BTreeMap::new(),
            opening: BTreeSet::new(),
            per_address: BTreeMap::new(),
            max_links: limits.links,
            max_per_address: limits.links_per_address,
        }
    }

    pub(super) fn len(&self) -> usize {
        self.up.len()
    }

    pub(super) fn find(&self, link: LinkId) -> Option<&Client> {
        self.up.get(&link)
    }

    pub(super) fn find_mut(&mut self, link: LinkId) -> Option<&mut Client> {
        self.up.get_mut(&link)
    }

    /// A link whose other end is at one of these addresses and that port.
    pub(super) fn at(&self, (kind, port, addresses): &Endpoint) -> Option<LinkId> {
        let is_there = |client: &Client| {
            client.kind == *kind
                && client.port == *port
                && client.addresses.iter().any(|address| addresses.contains(address))
        };
        self.up.iter().find(|(_, client)| is_there(client)).map(|(link, _)| *link)
    }

    /// Notes a link that is about to come up; false if there are too many already.
    pub(super) fn open(&mut self, link: LinkId) -> bool {
        if self.up.len() + self.opening.len() >= self.max_links {
            return false;
        }
        self.opening.insert(link);
        true
    }

    /// Whether the link was announced by [`Clients::open`] and is not up yet.
    pub(super) fn is_opening(&self, link: LinkId) -> bool {
        self.opening.contains(&link)
    }

    /// The link is up; false if it was not announced by [`Clients::open`], or its peer has too many links.
    pub(super) fn up(
        &mut self,
        link: LinkId,
        kind: LinkKind,
        peer: &[SocketAddr],
        identity: Option<Identity>,
        dialect: Dialect,
    ) -> bool {
        if !self.opening.contains(&link) {
            return false;
        }
        let addresses: Vec<IpAddr> = peer.iter().map(|a| a.ip().to_canonical()).collect();
        if link.is_incoming()
            && let Some(counted) = counted_address(&addresses)
        {
            let links = self.per_address.entry(counted).or_default();
            if *links >= self.max_per_address {
                return false;
            }
            *links += 1;
        }
        self.opening.remove(&link);
        let client = Client {
            kind,
            addresses,
            port: peer.first().map_or(0, SocketAddr::port),
            identity,
            dialect,
            ours: false,
            elements: BTreeSet::new(),
            subscriptions: BTreeSet::new(),
        };
        self.up.insert(link, client);
        true
    }

    /// The link is gone; what is left behind of it, if it was up.
    pub(super) fn down(&mut self, link: LinkId) -> Option<Client> {
        self.opening.remove(&link);
        let client = self.up.remove(&link)?;
        if link.is_incoming()
            && let Some(counted) = counted_address(&client.addresses)
            && let Some(links) = self.per_address.get_mut(&counted)
        {
            *links = links.saturating_sub(1);
            if *links == 0 {
                self.per_address.remove(&counted);
            }
        }
        Some(client)
    }

    /// Forgets every link and says which there were.
    pub(super) fn drain(&mut self) -> Vec<LinkId> {
        self.per_address.clear();
        let opening = std::mem::take(&mut self.opening).into_iter();
        opening.chain(std::mem::take(&mut self.up).into_keys()).collect()
    }
}

/// The address a link counts against, and who speaks on it: its first, and none on loopback, where a whole machine shares one address.
pub(super) fn counted_address(addresses: &[IpAddr]) -> Option<IpAddr> {
    addresses.first().copied().filter(|address| !address.is_loopback())
}
