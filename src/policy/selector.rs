//! A pool's elements in selection order, by the rule in the policy's table row.

use super::lottery::Lottery;
use super::sorted::Sorted;
use super::{Field, Policy, PolicyType, Rule, Tickets};
use crate::types::Rng;

/// A pool's elements, named by small slot numbers, in selection order.
///
/// A registrar sets an element when it registers and selects for each request ([`Selector::new`]); a user sets the
/// elements of an answer in their order and selects among them ([`Selector::for_user`]).
///
/// Selecting, setting and removing take O(log n) steps an element, and no memory beyond what is
/// returned; the memory held is proportional to the highest slot number ever set.
#[derive(Clone, Debug)]
pub struct Selector {
    kind: Kind,
}

#[derive(Clone, Debug)]
enum Kind {
    Sorted(Sorted),
    Lottery(Lottery, Tickets),
}

impl Selector {
    /// An empty pool with this policy, at a registrar ("ENRP Server Considerations" of RFC 5356).
    pub fn new(policy_type: PolicyType) -> Selector {
        Selector::by(policy_type.row().registrar)
    }

    /// An empty list of elements as a registrar answered them for this policy, at a user ("Pool User Considerations"
    /// of RFC 5356), who is to set them in their order: round robin from the first told, a random one, the highest
    /// priority, or the least used, which is the first told until what the user did itself makes another so.
    pub fn for_user(policy_type: PolicyType) -> Selector {
        Selector::by(policy_type.row().user)
    }

    fn by(rule: Rule) -> Selector {
        let kind = match rule {
            Rule::Sorted(order) => Kind::Sorted(Sorted::new(order)),
            Rule::Lottery(tickets) => Kind::Lottery(Lottery::default(), tickets),
        };
        Selector { kind }
    }

    /// Adds `slot`, or replaces its policy values (a re-registration: degradation starts again at 0, its turn among
    /// equals stays). Values that the pool's policy does not know are taken as 0.
    pub fn set(&mut self, slot: u32, policy: &Policy) {
        match &mut self.kind {
            Kind::Sorted(sorted) => sorted.set(slot, policy),
            Kind::Lottery(lottery, tickets) => {
                let weight = || policy.field(Field::Weight).unwrap_or(0);
                let rest = |burden: u64| u32::MAX - u32::try_from(burden).unwrap_or(u32::MAX);
                let (tickets, wear) = match tickets {
                    Tickets::One => (1, 0),
                    Tickets::Weight => (weight(), 0),
                    Tickets::Unload => (u32::MAX - policy.field(Field::Load).unwrap_or(0), 0),
                    Tickets::Private { first, each } => {
                        let degradation = policy.field(Field::Degradation).unwrap_or(0);
                        (rest(policy.burden(*first)), degradation.saturating_mul(*each))
                    }
                    Tickets::WeightAfar => {
                        let share = u128::from(rest(policy.penalty()));
                        // One that can serve at all has a ticket.
                        let left = (u128::from(weight()) * share).div_ceil(u128::from(u32::MAX));
                        (u32::try_from(left).unwrap_or(u32::MAX).max(weight().min(1)), 0)
                    }
                };
                lottery.set(slot, tickets, wear);
            }
        }
    }

    /// Takes `slot` out.
    pub fn remove(&mut self, slot: u32) {
        match &mut self.kind {
            Kind::Sorted(sorted) => sorted.remove(slot),
            Kind::Lottery(lottery, _) => lottery.remove(slot),
        }
    }

    /// Selects up to `items` different slots in the order in which users are to try them, and notes that
    /// they were selected. Appends them to `out`.
    ///
    /// Elements of weight 0 (or, in a lottery by load, of full load) are selected only when there is no other.
    pub fn select(&mut self, items: usize, rng: &mut Rng, out: &mut Vec<u32>) {
        self.select_among(items, rng, |_| true, out);
    }

    /// As [`Selector::select`], only such as `eligible` admits: for the others it is as if nothing had happened. Each
    /// one that is passed over costs as much as one selected.
    pub fn select_among(
        &mut self,
        items: usize,
        rng: &mut Rng,
        eligible: impl Fn(u32) -> bool,
        out: &mut Vec<u32>,
    ) {
        match &mut self.kind {
            Kind::Sorted(sorted) => sorted.select(items, eligible, out),
            Kind::Lottery(lottery, _) => lottery.select(items, rng, eligible, out),
        }
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        match &self.kind {
            Kind::Sorted(sorted) => sorted.len(),
            Kind::Lottery(lottery, _) => lottery.len(),
        }
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}
