//! The handlespace from one registrar to another (RFC 5353 3.2.3), in pages: handing out, and taking in. Used at the
//! start and for audits.
//!
//! A page is some tens of kilobytes, so that whoever hands out has time for others in between; where it ended is
//! remembered for the link, by name, so that the handlespace may change meanwhile. What changes behind is told in updates,
//! which come on the same link and so in order. Does not decide what is to be downloaded, nor what follows.

use super::peers::{Addressee, RFC_NO_RESPONSE};
use super::updates::{Claim, versioned};
use super::{ElementKey, Registrar, Standing, Wake};
use crate::handlespace::View;
use crate::machine::LinkId;
use crate::types::{PoolElement, PoolHandle, ServerId, Time};
use crate::wire::{self, Dialect, EnrpMessage, Versioned};
use std::collections::BTreeMap;
use std::time::Duration;

/// Bytes of elements in a page. A message could hold twice as many.
const PAGE: usize = 32 << 10;
/// The same for RSPLIB: its pages have 1400 bytes at most, header and identifiers included. More than its limit of 128
/// elements never fit in.
const RSPLIB_PAGE: usize = 1400 - 12;
/// Our capability parameter before an element.
const VERSION_BYTES: usize = 16;
/// How long a page may be waited for, and the next request for one, in times of MAX-TIME-NO-RESPONSE.
const PAGE_TIME: u32 = 4;

/// Tables under way in either direction.
#[derive(Debug, Default)]
pub(super) struct Tables {
    /// What is handed out on a link, until its last page is sent.
    handouts: BTreeMap<LinkId, Handout>,
    /// What is asked for on a link.
    downloads: BTreeMap<LinkId, Download>,
}

#[derive(Debug)]
struct Handout {
    owned_only: bool,
    /// The last element sent.
    after: ElementKey,
    /// By when the next page is to be asked for.
    until: Time,
}

#[derive(Debug)]
struct Download {
    from: ServerId,
    purpose: Purpose,
}

/// What a table is asked for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Purpose {
    /// To begin with: all there is.
    Start,
    /// To compare: what the peer owns.
    Audit,
}

/// How a download ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Outcome {
    /// The last page has come.
    Complete,
    /// The peer hands nothing out at present.
    Rejected,
    /// No page came in time, or the link is lost. If it is not lost it is broken off: a page that comes too late, or
    /// a peer that goes on where it stopped, would be taken for part of the next table.
    Interrupted,
}

impl Tables {
    pub(super) fn is_downloading(&self, link: LinkId) -> bool {
        self.downloads.contains_key(&link)
    }

    pub(super) fn forget_link(&mut self, link: LinkId) -> Option<(ServerId, Purpose)> {
        self.handouts.remove(&link);
        self.downloads.remove(&link).map(|download| (download.from, download.purpose))
    }
}

/// Handing out.
impl Registrar {
    pub(super) fn on_table_request(&mut self, now: Time, link: LinkId, from: ServerId, owned_only: bool) {
        let header = self.header_for(Some(from));
        if self.standing() == Standing::Starting {
            self.out.counters.tables_refused += 1;
            let pools = Vec::new();
            self.send_enrp(
                link,
                &EnrpMessage::HandleTableResponse { more: false, reject: true, header, pools },
            );
            return;
        }
        let unknown = Addressee::Other(Dialect::Unknown);
        let addressee = self.peers.find(from).map_or(unknown, |known| known.addressee());
        let begun = self.tables.handouts.remove(&link);
        let after = begun.filter(|it| it.owned_only == owned_only && it.until >= now).map(|it| it.after);
        let owner = owned_only.then_some(self.id);
        let size = |handle: &PoolHandle, entry: &crate::handlespace::Entry, first_of_pool: bool| {
            let dialect = addressee.dialect();
            let element = wire::encode_element(&entry.element, dialect).map_or(0, |bytes| bytes.len());
            let version = if addressee.is_ours() { VERSION_BYTES } else { 0 };
            element
                + version
                + if first_of_pool { 4 + handle.as_bytes().len().next_multiple_of(4) } else { 0 }
        };
        let room = match addressee.view() {
            View::Full => PAGE,
            View::Rsplib => RSPLIB_PAGE,
        };
        let after = after.as_ref().map(|(handle, id)| (handle, *id));
        let (page, more) = self.handlespace.page(after, owner, addressee.view(), room, size);
        let mut pools: Vec<(PoolHandle, Vec<Versioned>)> = Vec::new();
        for (handle, entry) in page {
            let element = versioned(entry.element.clone(), entry.version, addressee);
            match pools.last_mut().filter(|(last, _)| last == handle) {
                Some((_, elements)) => elements.push(element),
                None => pools.push((handle.clone(), vec![element])),
            }
        }
        let last = pools.last().and_then(|(handle, elements)| {
            Some((handle.clone(), elements.last().map(|versioned| versioned.element.id)?))
        });
        if let Some(after) = last.filter(|_| more) {
            let until = now + self.page_time(from) * 2;
            self.tables.handouts.insert(link, Handout { owned_only, after, until });
        }
        self.out.counters.table_pages_sent += 1;
        self.send_enrp(link, &EnrpMessage::HandleTableResponse { more, reject: false, header, pools });
    }

    fn page_time(&self, peer: ServerId) -> Duration {
        // RSPLIB does everything in one thread, and some of it takes seconds.
        let slow = self.peers.find(peer).is_some_and(|known| known.peer.dialect == Dialect::Rsplib);
        let configured = self.config.max_time_no_response;
        let no_response = if slow { configured.max(RFC_NO_RESPONSE) } else { configured };
        no_response * PAGE_TIME
    }
}

/// Taking in.
impl Registrar {
    /// Asks for the table of a peer; false if one is under way on this link.
    pub(super) fn download(&mut self, now: Time, link: LinkId, from: ServerId, purpose: Purpose) -> bool {
        if self.tables.is_downloading(link) {
            return false;
        }
        self.tables.downloads.insert(link, Download { from, purpose });
        self.request_page(now, link, from, purpose);
        true
    }

    fn request_page(&mut self, now: Time, link: LinkId, from: ServerId, purpose: Purpose) {
        let header = self.header_for(Some(from));
        let owned_only = purpose == Purpose::Audit;
        self.send_enrp(link, &EnrpMessage::HandleTableRequest { owned_only, header });
        self.timers.set(Wake::Page(link), now + self.page_time(from));
    }

    pub(super) fn on_table_response(
        &mut self,
        now: Time,
        link: LinkId,
        from: ServerId,
        (more, reject): (bool, bool),
        pools: Vec<(PoolHandle, Vec<Versioned>)>,
    ) {
        let Some(Download { purpose, .. }) = self.tables.downloads.get(&link) else {
            self.out.reject("a table that was not asked for");
            return;
        };
        let purpose = *purpose;
        if reject {
            self.end_download(now, link, Outcome::Rejected);
            return;
        }
        for (handle, elements) in pools {
            for told in elements {
                self.on_table_entry(now, from, purpose, &handle, told);
            }
        }
        if more {
            self.request_page(now, link, from, purpose);
        } else {
            self.end_download(now, link, Outcome::Complete);
        }
    }

    fn on_table_entry(
        &mut self,
        now: Time,
        from: ServerId,
        purpose: Purpose,
        handle: &PoolHandle,
        told: Versioned,
    ) {
        let home = told.element.home.unwrap_or(from);
        if purpose == Purpose::Audit && home != from {
            self.out.reject("a table of one's own elements with one of another's");
            return;
        }
        let element = PoolElement { home: Some(home), ..told.element };
        self.out.counters.table_entries += 1;
        match self.take_in(now, handle, Versioned { element, ..told }, purpose == Purpose::Audit) {
            Claim::Held | Claim::Stale | Claim::Refused => {}
        }
    }

    pub(super) fn on_page_timeout(&mut self, now: Time, link: LinkId) {
        if self.tables.is_downloading(link) {
            self.break_off(now, link);
        }
    }

    fn end_download(&mut self, now: Time, link: LinkId, outcome: Outcome) {
        self.timers.cancel(&Wake::Page(link));
        if let Some(Download { from, purpose }) = self.tables.downloads.remove(&link) {
            self.on_download_ended(now, from, purpose, outcome);
        }
    }

    fn on_download_ended(&mut self, now: Time, from: ServerId, purpose: Purpose, outcome: Outcome) {
        match purpose {
            Purpose::Start => self.on_start_table(now, from, outcome),
            Purpose::Audit => self.on_audit_table(now, from, outcome),
        }
    }

    /// A link to a peer is gone, and what was under way on it.
    pub(super) fn on_link_gone(&mut self, now: Time, link: LinkId) {
        self.timers.cancel(&Wake::Page(link));
        if let Some((from, purpose)) = self.tables.forget_link(link) {
            self.on_download_ended(now, from, purpose, Outcome::Interrupted);
        }
        self.on_start_link_gone(now, link);
    }
}
