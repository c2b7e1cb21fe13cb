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
    /// The policy with this number (RFC 5356 7.1).
    pub fn from_number(_number: u32) -> Option<PolicyType> {
        todo!()
    }
    /// Its number.
    pub fn number(self) -> u32 {
        todo!()
    }
    /// The policy of this name, as RSPLIB spells it (`RoundRobin`, `LeastUsedDegradation`, ...).
    pub fn from_name(_name: &str) -> Option<PolicyType> {
        todo!()
    }
    /// Its name.
    pub fn name(self) -> &'static str {
        todo!()
    }
    /// How many 32-bit words follow the number on the wire.
    pub fn words(self) -> usize {
        todo!()
    }
}

/// A policy with its policy values.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Policy {
    policy_type: PolicyType,
    words: [u32; 3],
}

impl Policy {
    /// Round robin, the default.
    pub const ROUND_ROBIN: Policy = Policy { policy_type: PolicyType::RoundRobin, words: [0; 3] };

    /// The policy with these words in wire order; missing ones are 0, and surplus ones ignored.
    pub fn new(policy_type: PolicyType, words: &[u32]) -> Policy {
        let mut policy = Policy { policy_type, words: [0; 3] };
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
        todo!()
    }
    /// The load, if the policy has one.
    pub fn load(&self) -> Option<Load> {
        todo!()
    }
    /// The load degradation, if the policy has one.
    pub fn degradation(&self) -> Option<Load> {
        todo!()
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
