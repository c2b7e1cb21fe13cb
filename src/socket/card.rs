//! Business cards of this context's elements (RFC 5352 3.9): whom they recommend, and which of them speaks for the
//! context's users.
//!
//! A context with a registered socket is the RFC's combination of user and element. If it has several, the
//! one registered first speaks for it as long as it stands. Elements registered by basic mode may be proxies for others and
//! never do.

use super::context::Name;
use crate::endpoint::Resolution;
use crate::types::{PeId, PoolElement, PoolHandle};

/// How many elements a card names: a failover order needs no more, and in a large pool a card to each session at each change
/// of the pool would be a burden.
const MOST: usize = 16;

/// What a card says: of which pool, and in what order to turn to its elements.
pub(super) type Card = (PoolHandle, Vec<PoolElement>);

/// Who a context is to those its users talk to.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(super) struct Identity {
    /// The element that speaks for it, if it has one.
    pub(super) own: Option<Name>,
    /// What its users give; the first element on it is the context's own (docs/tcp.md).
    pub(super) card: Option<Card>,
}

/// Those an element recommends: the others in the order the registrar told.
fn others(pool: &Resolution, own: PeId) -> impl Iterator<Item = &PoolElement> {
    pool.elements.iter().filter(move |e| e.id != own).take(MOST)
}

/// The card of an element for its own users; none if there is nobody to turn to.
pub(super) fn of_element(name: Option<&Name>, pool: Option<&Resolution>) -> Option<Card> {
    let ((handle, id), pool) = (name?, pool?);
    let others: Vec<PoolElement> = others(pool, *id).cloned().collect();
    (!others.is_empty()).then(|| (handle.clone(), others))
}

/// The card of a user that is an element, too: itself first, for it is the one to come back to. None as long as the pool is
/// not known to have it.
pub(super) fn of_user(name: &Name, pool: Option<&Resolution>) -> Option<Card> {
    let (handle, id) = name;
    let own = pool?.elements.iter().find(|e| e.id == *id)?;
    let elements = std::iter::once(own).chain(others(pool?, *id).take(MOST - 1));
    Some((handle.clone(), elements.cloned().collect()))
}

/// Whether two cards say the same. Loads and lives change all the time and are no part of what a card is for.
pub(super) fn same(a: Option<&Card>, b: Option<&Card>) -> bool {
    match (a, b) {
        (None, None) => true,
        (Some((pool, a)), Some((other, b))) => {
            let alike =
                |(a, b): (&PoolElement, &PoolElement)| a.id == b.id && a.user_transport == b.user_transport;
            pool == other && a.len() == b.len() && a.iter().zip(b).all(alike)
        }
        (Some(_), None) | (None, Some(_)) => false,
    }
}

/// Whether the pool recommends others than those of the card: worth a new one.
pub(super) fn is_outdated(id: PeId, card: &[PeId], pool: Option<&Resolution>) -> bool {
    match pool {
        Some(pool) => !others(pool, id).map(|e| e.id).eq(card.iter().copied()),
        None => !card.is_empty(),
    }
}
