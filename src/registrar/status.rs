//! Reports of the component status protocol: what this registrar holds, and which others it is connected with.

use super::{Registrar, Wake};
use crate::csp::{Association, ComponentId, Monitor, Reporter, Status};
use crate::registrar::PeerState;
use crate::types::{ServerId, Time};

/// The payload protocol identifier of ENRP (RFC 5353 6.2).
const ENRP_PPID: u32 = 12;

/// Who is told, and from where.
#[derive(Debug)]
pub(super) struct Telling {
    reporter: Reporter,
    location: String,
}

impl Registrar {
    /// Has a monitor told how this registrar is: at once, each interval, and at the end. `location`: the host and its address,
    /// for people.
    pub fn report_to(&mut self, monitor: Monitor, location: String) {
        self.telling = Reporter::new(monitor).map(|reporter| Telling { reporter, location });
        if self.telling.is_some() {
            self.timers.set(Wake::Report, Time::ZERO);
        }
    }

    pub(super) fn on_report_due(&mut self, now: Time) {
        let status = |telling: &Telling| Status {
            location: telling.location.clone(),
            text: self.summary(),
            workload: None,
            associations: self.associations(now),
        };
        let status = self.telling.as_ref().map(status);
        let Some((telling, status)) = self.telling.as_mut().zip(status) else { return };
        if telling.reporter.take_due(now) {
            let sender = ComponentId::registrar(Some(self.id));
            self.out.effects.push_back(telling.reporter.report(now, sender, status));
        }
        if let Some(next) = telling.reporter.poll_timeout() {
            self.timers.set(Wake::Report, next);
        }
    }

    /// The registrar that this one was is no more.
    pub(super) fn report_end(&mut self, now: Time, server: ServerId) {
        if let Some(telling) = &self.telling {
            let sender = ComponentId::registrar(Some(server));
            self.out.effects.push_back(telling.reporter.last_report(now, sender));
        }
    }

    fn summary(&self) -> String {
        let held = &self.handlespace;
        let there = |state| matches!(state, PeerState::Alive | PeerState::Suspected);
        let (pools, peers) = (held.pools().count(), self.peers().filter(|peer| there(peer.state)).count());
        format!(
            "{}[{}] PEs in {pools} Pool{}, {peers} Peer{}",
            held.count(None),
            held.count(Some(self.id)),
            plural(pools),
            plural(peers)
        )
    }

    fn associations(&self, now: Time) -> Vec<Association> {
        let association = |server: ServerId| {
            let link = self.links.up(self.link_to(server)?)?;
            let peer = ComponentId::registrar(Some(server));
            Some(Association::over(link.kind, peer, now.since(link.since), ENRP_PPID))
        };
        self.peers().filter_map(|peer| association(peer.server)).collect()
    }
}

fn plural(count: usize) -> &'static str {
    if count == 1 { "" } else { "s" }
}
