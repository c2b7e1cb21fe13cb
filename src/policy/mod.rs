//! Pool member selection (RFC 5356): each policy's wire form and selection rules, one table row a policy,
//! and the [`Selector`] that keeps a pool's elements in selection order, at the registrar and at the user.
//! It neither knows elements (a slot number stands for each) nor encodes anything.

mod lottery;
mod selector;
mod sorted;

pub use selector::Selector;

use crate::types::Load;

/// A policy type known to us: the nine of RFC 5356 and RSPLIB's private ones.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
#[allow(missing_docs)]
pub enum PolicyType {
    RoundRobin,
    WeightedRoundRobin,
    Random,
    WeightedRandom,
    Priority,
    LeastUsed,
    LeastUsedDegradation,
    PriorityLeastUsed,
    RandomizedLeastUsed,
    RandomizedPriorityLeastUsed,
    RandomizedLeastUsedDegradation,
    PriorityLeastUsedDegradation,
    RandomizedPriorityLeastUsedDegradation,
    WeightedRandomDpf,
    LeastUsedDpf,
    LeastUsedDegradationDpf,
}

impl PolicyType {
    /// All of them, in order of number.
    pub fn all() -> impl Iterator<Item = PolicyType> {
        TABLE.iter().map(|row| row.policy_type)
    }
    /// The policy with this number (RFC 5356 7.1).
    pub fn from_number(number: u32) -> Option<PolicyType> {
        TABLE.iter().find(|row| row.number == number).map(|row| row.policy_type)
    }
    /// Its number.
    pub fn number(self) -> u32 {
        self.row().number
    }
    /// The policy of this name, as RSPLIB spells it (`RoundRobin`, `LeastUsedDegradation`, ...).
    pub fn from_name(name: &str) -> Option<PolicyType> {
        TABLE.iter().find(|row| row.name == name).map(|row| row.policy_type)
    }
    /// Its name.
    pub fn name(self) -> &'static str {
        self.row().name
    }
    /// How many 32-bit words follow the number on the wire: at most [`Policy::MAX_WORDS`].
    pub fn words(self) -> usize {
        self.row().fields.len()
    }
    fn row(self) -> &'static Row {
        &TABLE[self as usize]
    }
}

/// What a word of policy values means.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Field {
    Weight,
    Priority,
    Load,
    Degradation,
    /// A delay penalty factor: how much a millisecond of distance costs.
    Dpf,
    /// Distance of the element in milliseconds.
    Distance,
}

/// How elements are selected.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Rule {
    /// In this order.
    Sorted(Order),
    /// By draws without replacement, each element with so many tickets.
    Lottery(Tickets),
}

/// What comes first. Among equals it is the one that has not led an answer for the longest time, so that
/// the head of each group of equals moves on by one with every request (RFC 5356 4.1.2).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Order {
    /// All are equal.
    RoundRobin,
    /// The head of a circular list in which each element stands as often as its weight says, the entries of
    /// each evenly spread (RFC 5356 4.2.2).
    WeightedRoundRobin,
    /// The highest priority.
    Priority,
    /// The lowest load.
    Load,
    /// The lowest load + degradation.
    LoadOfNext,
    /// The lowest load + degradation * how often it was selected since it registered.
    LoadDegraded,
    /// The same, but an element is taken to be no less loaded than those added before it: at a user, who knows how
    /// often the registrar has selected each only from the order it told them in.
    LoadDegradedAsTold,
    /// RSPLIB's private ones: the lowest load + degradation * steps + distance * delay penalty factor. Of steps there are so
    /// many when the element registers, and with each selection come so many.
    Private { first: u32, each: u32 },
}

/// How many tickets an element has.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Tickets {
    /// One.
    One,
    /// Its weight.
    Weight,
    /// What its load leaves of 0xffffffff.
    Unload,
    /// RSPLIB's private ones: what load + degradation * steps leave, the steps as in [`Order::Private`].
    Private { first: u32, each: u32 },
    /// RSPLIB's: its weight, less the share of it that distance * delay penalty factor is of 0xffffffff.
    WeightAfar,
}

/// All there is to know about a policy.
#[derive(Debug)]
struct Row {
    policy_type: PolicyType,
    number: u32,
    name: &'static str,
    /// The words behind the number on the wire, in order.
    fields: &'static [Field],
    /// How a registrar selects ("ENRP Server Considerations").
    registrar: Rule,
    /// How a user selects from a registrar's answer ("Pool User Considerations").
    user: Rule,
}

const fn row(
    policy_type: PolicyType,
    number: u32,
    name: &'static str,
    fields: &'static [Field],
    registrar: Rule,
    user: Rule,
) -> Row {
    Row { policy_type, number, name, fields, registrar, user }
}

/// One row a policy, in the order of [`PolicyType`], which is that of the numbers: number, name, values,
/// rule at the registrar, rule at the user.
///
/// The users' rules: an answer for a least-used policy is used in the registrar's order (RFC 5356 5.1.3), which for
/// those without a counter is that of the values told. Weights of a round robin are the registrar's business
/// (4.2.3). A "random" choice from the answer to a weighted lottery (4.4.3) is again weighted: otherwise
/// weights would say nothing as soon as an answer holds the whole pool.
#[rustfmt::skip]
static TABLE: [Row; 16] = {
    use Field::{Degradation, Distance, Dpf, Load, Priority, Weight};
    use PolicyType as P;
    use Rule::{Lottery, Sorted};
    const RR: Rule = Sorted(Order::RoundRobin);
    [
        row(P::RoundRobin, 0x0000_0001, "RoundRobin", &[], RR, RR),
        row(P::WeightedRoundRobin, 0x0000_0002, "WeightedRoundRobin",
            &[Weight], Sorted(Order::WeightedRoundRobin), RR),
        row(P::Random, 0x0000_0003, "Random", &[], Lottery(Tickets::One), Lottery(Tickets::One)),
        row(P::WeightedRandom, 0x0000_0004, "WeightedRandom",
            &[Weight], Lottery(Tickets::Weight), Lottery(Tickets::Weight)),
        row(P::Priority, 0x0000_0005, "Priority",
            &[Priority], Sorted(Order::Priority), Sorted(Order::Priority)),
        row(P::LeastUsed, 0x4000_0001, "LeastUsed", &[Load], Sorted(Order::Load), Sorted(Order::Load)),
        row(P::LeastUsedDegradation, 0x4000_0002, "LeastUsedDegradation",
            &[Load, Degradation], Sorted(Order::LoadDegraded), Sorted(Order::LoadDegradedAsTold)),
        row(P::PriorityLeastUsed, 0x4000_0003, "PriorityLeastUsed",
            &[Load, Degradation], Sorted(Order::LoadOfNext), Sorted(Order::LoadOfNext)),
        row(P::RandomizedLeastUsed, 0x4000_0004, "RandomizedLeastUsed",
            &[Load], Lottery(Tickets::Unload), Lottery(Tickets::Unload)),
        // Private to RSPLIB, and as it selects: its degradation begins with one step, and each selection adds two; priority
        // adds one for the selection to come. A user goes by the order told, or draws by the values told.
        row(P::RandomizedPriorityLeastUsed, 0xb000_1001, "RandomizedPriorityLeastUsed",
            &[Load, Degradation],
            Lottery(Tickets::Private { first: 1, each: 0 }), Lottery(Tickets::Private { first: 1, each: 0 })),
        row(P::RandomizedLeastUsedDegradation, 0xb000_1002, "RandomizedLeastUsedDegradation",
            &[Load, Degradation],
            Lottery(Tickets::Private { first: 1, each: 2 }), Lottery(Tickets::Private { first: 1, each: 2 })),
        row(P::PriorityLeastUsedDegradation, 0xb000_1003, "PriorityLeastUsedDegradation",
            &[Load, Degradation],
            Sorted(Order::Private { first: 2, each: 2 }), Sorted(Order::LoadDegradedAsTold)),
        row(P::RandomizedPriorityLeastUsedDegradation, 0xb000_1004, "RandomizedPriorityLeastUsedDegradation",
            &[Load, Degradation],
            Lottery(Tickets::Private { first: 2, each: 2 }), Lottery(Tickets::Private { first: 2, each: 2 })),
        row(P::WeightedRandomDpf, 0xb000_2001, "WeightedRandomDPF", &[Weight, Dpf, Distance],
            Lottery(Tickets::WeightAfar), Lottery(Tickets::WeightAfar)),
        row(P::LeastUsedDpf, 0xb000_2002, "LeastUsedDPF", &[Load, Dpf, Distance],
            Sorted(Order::Private { first: 0, each: 0 }), Sorted(Order::Private { first: 0, each: 0 })),
        row(P::LeastUsedDegradationDpf, 0xb000_2003, "LeastUsedDegradationDPF",
            &[Load, Degradation, Dpf, Distance],
            Sorted(Order::Private { first: 1, each: 2 }), Sorted(Order::LoadDegradedAsTold)),
    ]
};

/// A policy with its policy values.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Policy {
    policy_type: PolicyType,
    words: [u32; Policy::MAX_WORDS],
}

/// `NAME:VALUE:...`, the values in wire order: `RoundRobin`, `WeightedRandom:3`.
impl std::str::FromStr for Policy {
    type Err = String;

    fn from_str(text: &str) -> Result<Policy, String> {
        let mut parts = text.split(':');
        let name = parts.next().unwrap_or_default();
        let policy_type = PolicyType::from_name(name).ok_or_else(|| {
            format!("no policy is called {name}; there are RoundRobin, Random, WeightedRandom:3 and others (docs/policies.md)")
        })?;
        let values: Vec<u32> = parts
            .map(|v| v.parse().map_err(|_| format!("{v} is no policy value")))
            .collect::<Result<_, _>>()?;
        // A weight left out would be 0: no service.
        if values.len() != policy_type.words() {
            let example = [name].into_iter().chain(std::iter::repeat_n("1", policy_type.words()));
            let example: Vec<&str> = example.collect();
            return Err(format!("{name} takes {} values, e.g. {}", policy_type.words(), example.join(":")));
        }
        Ok(Policy::new(policy_type, &values))
    }
}

impl Policy {
    /// The most words any policy has.
    pub const MAX_WORDS: usize = 4;

    /// Round robin, the default.
    pub const ROUND_ROBIN: Policy =
        Policy { policy_type: PolicyType::RoundRobin, words: [0; Policy::MAX_WORDS] };

    /// The policy with these words in wire order; missing ones are 0, and surplus ones ignored.
    pub fn new(policy_type: PolicyType, words: &[u32]) -> Policy {
        let mut policy = Policy { policy_type, words: [0; Policy::MAX_WORDS] };
        let len = words.len().min(policy_type.words());
        policy.words[..len].copy_from_slice(&words[..len]);
        policy
    }
    /// Its type.
    pub fn policy_type(&self) -> PolicyType {
        self.policy_type
    }
    /// Its words in wire order, as many as the type has.
    pub fn words(&self) -> &[u32] {
        &self.words[..self.policy_type.words()]
    }
    /// The weight or priority, if the policy has one.
    pub fn weight(&self) -> Option<u32> {
        self.field(Field::Weight).or(self.field(Field::Priority))
    }
    /// The load, if the policy has one.
    pub fn load(&self) -> Option<Load> {
        self.field(Field::Load).map(Load)
    }
    /// The load degradation, if the policy has one.
    pub fn degradation(&self) -> Option<Load> {
        self.field(Field::Degradation).map(Load)
    }
    /// Load + degradation * `steps` + distance * delay penalty factor; what the policy does not have is 0.
    fn burden(&self, steps: u32) -> u64 {
        let value = |field| u64::from(self.field(field).unwrap_or(0));
        let worn = value(Field::Load) + value(Field::Degradation) * u64::from(steps);
        worn.saturating_add(self.penalty())
    }
    /// Distance * delay penalty factor.
    fn penalty(&self) -> u64 {
        let value = |field| u64::from(self.field(field).unwrap_or(0));
        value(Field::Distance) * value(Field::Dpf)
    }
    fn field(&self, field: Field) -> Option<u32> {
        let mut fields = self.policy_type.row().fields.iter().zip(self.words());
        fields.find(|(it, _)| **it == field).map(|(_, word)| *word)
    }
}

#[cfg(test)]
mod tests;
