//! How elements come and go at their own wish: the rules of RFC 5352 3.1 and 3.2.
//!
//! What a pool demands of its elements (rules 1 to 3) is held by the handlespace; here stand the values an element may
//! register, whose element it is, and the answers.

use super::clients::Client;
use super::{ElementKey, Event, Registrar, Removal};
use crate::handlespace::{Entry, Inserted, Misfit, Registrant};
use crate::machine::{LinkId, LinkKind};
use crate::types::{
    Addresses, Capabilities, CauseCode, ErrorCause, PeId, PoolElement, PoolHandle, RegistrationLife, Time,
    TransportAddress, TransportUse,
};
use crate::wire::{self, AsapMessage, Dialect};
use std::net::IpAddr;

/// What stands around a pool element parameter in a message at most: the headers of message, handle and error, the
/// identifiers of an ENRP update, a policy. An element that leaves less room in one message could be kept, but not told.
const ROOM_AROUND_AN_ELEMENT: usize = 64;
const LONGEST_MESSAGE: usize = 65_535;

/// An element as it will be kept.
struct Admitted {
    element: PoolElement,
    /// What was changed (RFC 5352 2.2.3, R = 0 with an error).
    warnings: Vec<ErrorCause>,
}

impl Registrar {
    pub(super) fn on_registration(
        &mut self,
        now: Time,
        link: LinkId,
        handle: PoolHandle,
        element: PoolElement,
    ) {
        let Some(client) = self.clients.find_mut(link) else { return };
        let id = element.id;
        // Ours are told what the registrar can do; it has nothing to offer beyond being one of ours.
        let capabilities = element.capabilities.map(|_| Capabilities::default());
        client.ours |= capabilities.is_some();

        // RSPLIB sends no error with a registration it accepts, and would take one for a refusal.
        let warns = client.dialect == Dialect::Rfc;
        let outcome = self.register(now, link, &handle, element);
        let (reject, causes) = match outcome {
            Ok(warnings) => (false, if warns { warnings } else { Vec::new() }),
            Err(causes) => {
                self.out.counters.refusals += 1;
                self.out.events.push_back(Event::Refused {
                    handle: handle.clone(),
                    element: id,
                    causes: causes.clone(),
                });
                (true, causes)
            }
        };
        let mut answer = |causes: Vec<ErrorCause>| {
            let error = (!causes.is_empty()).then_some(causes);
            let (handle, element) = (handle.clone(), id);
            self.send(
                link,
                &AsapMessage::RegistrationResponse { reject, handle, element, capabilities, error },
            )
        };
        let bare: Vec<ErrorCause> = causes.iter().map(|cause| ErrorCause::bare(cause.code)).collect();
        // A cause may carry the element, which was nearly a whole message by itself.
        if !answer(causes) {
            answer(bare);
        }
    }

    /// Enters the element, or says why not. Returns the warnings.
    fn register(
        &mut self,
        now: Time,
        link: LinkId,
        handle: &PoolHandle,
        element: PoolElement,
    ) -> Result<Vec<ErrorCause>, Vec<ErrorCause>> {
        let Some(client) = self.clients.find(link) else { return Err(Vec::new()) };
        if handle.as_bytes().len() > self.limits.handle_bytes {
            return Err(vec![ErrorCause::bare(CauseCode::InvalidValues)]);
        }
        let Admitted { mut element, warnings } =
            admit(element, client, self.config.proxy_registration).map_err(|cause| vec![cause])?;
        element.home = Some(self.id);
        let size = wire::encode_element(&element, client.dialect).map_or(usize::MAX, |bytes| bytes.len());
        if size > self.limits.element_bytes {
            return Err(vec![ErrorCause::bare(CauseCode::LackOfResources)]);
        }
        if size.saturating_add(handle.as_bytes().len() + ROOM_AROUND_AN_ELEMENT) > LONGEST_MESSAGE {
            return Err(vec![ErrorCause::bare(CauseCode::InvalidValues)]);
        }

        let before = self.handlespace.entry(handle, element.id);
        if before.is_some_and(|entry| !is_same_element(entry, &element, link, client)) {
            return Err(vec![ErrorCause::bare(CauseCode::NonUniquePeId)]);
        }
        let link_before =
            before.and_then(|entry| entry.registrant.as_ref()).and_then(|registrant| registrant.link);
        let registrant = Registrant {
            link: Some(link),
            identity: client.identity.clone(),
            addresses: client.addresses.clone(),
        };
        let key: ElementKey = (handle.clone(), element.id);
        // It was made this registrar's by a takeover, of which it has heard now.
        let adopted = self.liveness.adopted_of(&key).is_some();
        let inserted =
            self.handlespace.insert(now, handle, element, Some(registrant)).map_err(|m| vec![cause_of(m)])?;

        if let Some(old) = link_before
            && old != link
            && let Some(client) = self.clients.find_mut(old)
        {
            client.elements.remove(&key);
        }
        if let Some(client) = self.clients.find_mut(link) {
            client.elements.insert(key.clone());
        }
        match inserted {
            Inserted::NewPool | Inserted::NewElement => {
                self.out.counters.registrations += 1;
                self.out.events.push_back(Event::Added { handle: key.0.clone(), element: key.1 });
                self.on_pool_changed(now, handle);
                self.tell_changed(&key);
            }
            Inserted::Replaced { previous_home, changed } => {
                self.forget_inherited(&key, previous_home);
                self.out.counters.reregistrations += 1;
                if changed {
                    self.on_pool_changed(now, handle);
                }
                if changed || adopted {
                    self.tell_changed(&key);
                } else {
                    self.tell_unchanged(&key);
                }
            }
        }
        self.watch(now, key);
        Ok(warnings)
    }

    /// Now it is known in which unit the life of an element of this registrar is.
    pub(super) fn settle_life(&mut self, now: Time, key: &ElementKey, dialect: Dialect) {
        let Some(entry) = self.handlespace.entry(&key.0, key.1) else { return };
        let life = dialect.settle_life(entry.element.life);
        if life == entry.element.life || entry.element.home != Some(self.id) {
            return;
        }
        let element = PoolElement { life, ..entry.element.clone() };
        let registrant = entry.registrant.clone();
        if self.handlespace.insert(now, &key.0, element, registrant).is_ok() {
            self.on_pool_changed(now, &key.0);
            self.tell_changed(key);
        }
    }

    pub(super) fn on_deregistration(&mut self, now: Time, link: LinkId, handle: PoolHandle, element: PeId) {
        let Some(client) = self.clients.find(link) else { return };
        let entry = self.handlespace.entry(&handle, element);
        // RFC 5352 3.2: an element nobody knows of is deregistered, and told so.
        let error = if entry.is_none_or(|entry| may_deregister(entry, link, client)) {
            self.remove(now, &(handle.clone(), element), Removal::Deregistered);
            None
        } else {
            self.out.counters.deregistrations_refused += 1;
            Some(vec![ErrorCause::bare(CauseCode::RejectedDueToSecurity)])
        };
        self.send(link, &AsapMessage::DeregistrationResponse { handle, element, error });
    }
}

/// The values of an element, checked and put in the form in which they are kept; or what is wrong with them.
fn admit(element: PoolElement, client: &Client, proxy: bool) -> Result<Admitted, ErrorCause> {
    let invalid = || wire::invalid_element(&element);
    let no_life = match element.life {
        RegistrationLife::Infinite => false,
        RegistrationLife::Seconds(life)
        | RegistrationLife::Milliseconds(life)
        | RegistrationLife::Unitless(life) => life == 0,
    };
    // 0 is no identifier a good random source would give (RFC 5352 3.1 R2.2), and several programs' "none". A life
    // of 0 would be over before the answer arrives: who wants to leave can deregister.
    if element.id == PeId(0) || no_life {
        return Err(invalid());
    }
    let user_transport = admit_transport(&element.user_transport, client, proxy).ok_or_else(invalid)?;
    let asap_transport = match (client.kind, &element.asap_transport) {
        // RFC 5352 3.1 rule 4: where the registration came from, whatever the element says.
        (LinkKind::Sctp, _) => Addresses::new(client.addresses.clone()).map(|addresses| {
            TransportAddress::Sctp { port: client.port, transport_use: TransportUse::DataOnly, addresses }
        }),
        // DEPARTS RFC 5352 3.1 rule 4: a TCP link comes from a port nobody listens on, so the element names a listener
        // (docs/tcp.md, section 1). Without one it can be reached on its link only.
        (LinkKind::Tcp | LinkKind::Udp, Some(transport @ TransportAddress::Tcp { .. })) => {
            Some(admit_transport(transport, client, proxy).ok_or_else(invalid)?)
        }
        (LinkKind::Tcp | LinkKind::Udp, Some(_)) => return Err(invalid()),
        (LinkKind::Tcp | LinkKind::Udp, None) => None,
    };
    let mut warnings = Vec::new();
    if user_transport.addresses().len() < element.user_transport.addresses().len() {
        warnings.push(invalid());
    }
    Ok(Admitted { element: PoolElement { user_transport, asap_transport, ..element }, warnings })
}

/// The transport with those of its addresses that may be registered over this client's link; none if there are none, or
/// if it has addresses or a port nobody can send to.
///
/// DEPARTS RFC 5352 2.2.1: that wants all of them to be the link's own. Here those that are not are left out with a
/// warning, as long as one remains: a multi-homed element may have addresses (another
/// scope, a tunnel) that its association has not. An element that comes over loopback can register loopback addresses
/// only, and any of them; whoever wants another machine to reach it connects through an address of that network, or the registrar
/// runs with the proxy option.
fn admit_transport(transport: &TransportAddress, client: &Client, proxy: bool) -> Option<TransportAddress> {
    let sendable = |address: &IpAddr| {
        let broadcast = matches!(address, IpAddr::V4(v4) if v4.is_broadcast());
        !address.is_unspecified() && !address.is_multicast() && !broadcast
    };
    if transport.port() == Some(0)
        || !transport.addresses().iter().map(IpAddr::to_canonical).all(|a| sendable(&a))
    {
        return None;
    }
    // DEPARTS RFC 5352 2.2.1 with the proxy option: any address.
    let own = |address: IpAddr| {
        let address = address.to_canonical();
        (proxy || client.has(&address)).then_some(address)
    };
    Some(match transport {
        TransportAddress::Sctp { port, transport_use, addresses } => {
            let kept = addresses.as_slice().iter().copied().filter_map(own).collect();
            let addresses = Addresses::new(kept)?;
            TransportAddress::Sctp { port: *port, transport_use: *transport_use, addresses }
        }
        TransportAddress::Dccp { port, service_code, address } => {
            TransportAddress::Dccp { port: *port, service_code: *service_code, address: own(*address)? }
        }
        TransportAddress::Tcp { port, transport_use, address } => {
            TransportAddress::Tcp { port: *port, transport_use: *transport_use, address: own(*address)? }
        }
        TransportAddress::Udp { port, address } => {
            TransportAddress::Udp { port: *port, address: own(*address)? }
        }
        TransportAddress::UdpLite { port, address } => {
            TransportAddress::UdpLite { port: *port, address: own(*address)? }
        }
        // Only the application knows what is in it.
        TransportAddress::Opaque(bytes) => TransportAddress::Opaque(bytes.clone()),
    })
}

/// Whether a registration renews this element, or comes from another one that has drawn the same identifier.
///
/// DEPARTS RFC 5352 3.1 rule 3, by which every registration for an element there is would be a re-registration: for
/// the clash there is a cause (RFC 5354 3.12.5), but no rule to tell it by. An element that proved an identity is renewed by that identity alone. Otherwise the link it registered on counts: the
/// same link, or a new one after that link is lost, renews. While the link stands, another link renews only if it
/// comes from the same machine and names the same user transport, or comes from the same addresses with the same ASAP transport: that is one
/// endpoint that changed its link before we noticed, and not two.
fn is_same_element(entry: &Entry, new: &PoolElement, link: LinkId, client: &Client) -> bool {
    // Learnt from another registrar: rule 4, whoever it registers with next takes it over.
    let Some(registrant) = &entry.registrant else { return true };
    if registrant.identity.is_some() && registrant.identity != client.identity {
        return false;
    }
    let same_endpoint = registrant.addresses == client.addresses
        && new.asap_transport.is_some()
        && new.asap_transport == entry.element.asap_transport;
    // With the proxy option, or an opaque transport, anybody could name the same.
    let at_home = |address: &IpAddr| {
        registrant.addresses.contains(address) || entry.element.user_transport.addresses().contains(address)
    };
    let same_service =
        new.user_transport == entry.element.user_transport && client.addresses.iter().any(at_home);
    match registrant.link {
        None => true,
        Some(registering) if registering == link => true,
        Some(_) => same_service || same_endpoint,
    }
}

/// RFC 5352 2.2.2: an element deregisters itself and nobody else. Its own link says so best; when that is lost, the
/// identity it proved, or for want of one, an address of its own.
fn may_deregister(entry: &Entry, link: LinkId, client: &Client) -> bool {
    let at_home = || entry.element.user_transport.addresses().iter().any(|address| client.has(address));
    let Some(registrant) = &entry.registrant else { return at_home() };
    match (registrant.link, &registrant.identity) {
        (Some(registering), _) => registering == link,
        (None, Some(identity)) => client.identity.as_ref() == Some(identity),
        (None, None) => at_home() || client.addresses.iter().any(|a| registrant.addresses.contains(a)),
    }
}

fn cause_of(misfit: Misfit) -> ErrorCause {
    match misfit {
        Misfit::Policy(policy) => wire::inconsistent_policy(&policy),
        Misfit::Transport(transport) => wire::inconsistent_transport(&transport),
        Misfit::TransportUse => ErrorCause::bare(CauseCode::InconsistentDataControlConfiguration),
        Misfit::Full => ErrorCause::bare(CauseCode::LackOfResources),
    }
}
