//! Pool member selection (RFC 5356): each policy's wire form and selection rule, one table row a policy,
//! and the [`Selector`] that keeps a pool's elements in selection order, at the registrar and at the user.

use crate::types::{Load, Rng};

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

/// All there is to know about a policy.
#[derive(Debug)]
struct Row {
    policy_type: PolicyType,
    number: u32,
    name: &'static str,
    /// The words behind the number on the wire, in order.
    fields: &'static [Field],
}

const fn row(policy_type: PolicyType, number: u32, name: &'static str, fields: &'static [Field]) -> Row {
    Row { policy_type, number, name, fields }
}

/// One row a policy, in the order of [`PolicyType`], which is that of the numbers.
static TABLE: [Row; 16] = {
    use Field::{Degradation, Distance, Dpf, Load, Priority, Weight};
    use PolicyType as P;
    [
        row(P::RoundRobin, 0x0000_0001, "RoundRobin", &[]),
        row(P::WeightedRoundRobin, 0x0000_0002, "WeightedRoundRobin", &[Weight]),
        row(P::Random, 0x0000_0003, "Random", &[]),
        row(P::WeightedRandom, 0x0000_0004, "WeightedRandom", &[Weight]),
        row(P::Priority, 0x0000_0005, "Priority", &[Priority]),
        row(P::LeastUsed, 0x4000_0001, "LeastUsed", &[Load]),
        row(P::LeastUsedDegradation, 0x4000_0002, "LeastUsedDegradation", &[Load, Degradation]),
        row(P::PriorityLeastUsed, 0x4000_0003, "PriorityLeastUsed", &[Load, Degradation]),
        row(P::RandomizedLeastUsed, 0x4000_0004, "RandomizedLeastUsed", &[Load]),
        row(P::RandomizedPriorityLeastUsed, 0xb000_1001, "RandomizedPriorityLeastUsed", &[Load, Degradation]),
        row(
            P::RandomizedLeastUsedDegradation,
            0xb000_1002,
            "RandomizedLeastUsedDegradation",
            &[Load, Degradation],
        ),
        row(
            P::PriorityLeastUsedDegradation,
            0xb000_1003,
            "PriorityLeastUsedDegradation",
            &[Load, Degradation],
        ),
        row(
            P::RandomizedPriorityLeastUsedDegradation,
            0xb000_1004,
            "RandomizedPriorityLeastUsedDegradation",
            &[Load, Degradation],
        ),
        row(P::WeightedRandomDpf, 0xb000_2001, "WeightedRandomDPF", &[Weight, Dpf, Distance]),
        row(P::LeastUsedDpf, 0xb000_2002, "LeastUsedDPF", &[Load, Dpf, Distance]),
        row(
            P::LeastUsedDegradationDpf,
            0xb000_2003,
            "LeastUsedDegradationDPF",
            &[Load, Degradation, Dpf, Distance],
        ),
    ]
};

/// A policy with its policy values.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Policy {
    policy_type: PolicyType,
    words: [u32; Policy::MAX_WORDS],
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
    fn field(&self, field: Field) -> Option<u32> {
        let mut fields = self.policy_type.row().fields.iter().zip(self.words());
        fields.find(|(it, _)| **it == field).map(|(_, word)| *word)
    }
}

/// A pool's elements (named by small slot numbers) in selection order.
#[derive(Clone, Debug)]
pub struct Selector {}

impl Selector {
    /// An empty pool with this policy.
    pub fn new(_policy_type: PolicyType) -> Selector {
        todo!()
    }
    /// Adds `slot`, or replaces its policy values (a re-registration: degradation starts again at 0).
    pub fn set(&mut self, _slot: u32, _policy: &Policy) {
        todo!()
    }
    /// Takes `slot` out.
    pub fn remove(&mut self, _slot: u32) {
        todo!()
    }
    /// Selects up to `items` different slots in the order in which users are to try them, and notes that
    /// they were selected. Appends them to `out`.
    pub fn select(&mut self, _items: usize, _rng: &mut Rng, _out: &mut Vec<u32>) {
        todo!()
    }
    /// How many there are.
    pub fn len(&self) -> usize {
        todo!()
    }
    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_names_and_rows_agree() {
        for (index, policy_type) in PolicyType::all().enumerate() {
            assert_eq!(policy_type as usize, index);
            assert_eq!(PolicyType::from_number(policy_type.number()), Some(policy_type));
            assert_eq!(PolicyType::from_name(policy_type.name()), Some(policy_type));
            assert!(policy_type.words() <= Policy::MAX_WORDS);
        }
        assert!(TABLE.is_sorted_by_key(|row| row.number));
    }

    #[test]
    fn reserved_and_unknown_numbers_are_no_policy() {
        for number in [0, 6, 0x3fff_ffff, 0x4000_0000, 0x4000_0005, 0x8000_0000, 0xb000_2004, u32::MAX] {
            assert_eq!(PolicyType::from_number(number), None);
        }
        assert_eq!(PolicyType::from_name("roundrobin"), None);
    }

    #[test]
    fn bit_30_of_the_number_says_adaptive_in_the_nine() {
        for policy_type in PolicyType::all().take(9) {
            let adaptive = Policy::new(policy_type, &[]).load().is_some();
            assert_eq!(policy_type.number() & 0x4000_0000 != 0, adaptive, "{policy_type:?}");
        }
    }

    #[test]
    fn words_have_their_meaning() {
        let lud = Policy::new(PolicyType::LeastUsedDegradation, &[7, 8, 9]);
        assert_eq!((lud.words(), lud.load(), lud.degradation()), (&[7, 8][..], Some(Load(7)), Some(Load(8))));
        assert_eq!(lud.weight(), None);
        assert_eq!(Policy::new(PolicyType::Priority, &[5]).weight(), Some(5));
        assert_eq!(Policy::new(PolicyType::WeightedRandom, &[]).weight(), Some(0));
        assert_eq!(Policy::new(PolicyType::LeastUsedDegradationDpf, &[1, 2, 3, 4]).words(), [1, 2, 3, 4]);
        assert_eq!((Policy::ROUND_ROBIN.words(), Policy::ROUND_ROBIN.load()), (&[][..], None));
    }
}
