//! Keyed deadlines, earliest first. One per key: setting a key again moves its deadline.
//!
//! Holds no clock and fires nothing: its owner asks what is due.

use crate::types::Time;
use std::collections::{BTreeMap, BTreeSet};

/// Deadlines by key.
#[derive(Clone, Debug)]
pub struct Timers<K: Ord + Clone> {
    by_time: BTreeSet<(Time, K)>,
    by_key: BTreeMap<K, Time>,
}

impl<K: Ord + Clone> Default for Timers<K> {
    fn default() -> Self {
        Timers { by_time: BTreeSet::new(), by_key: BTreeMap::new() }
    }
}

impl<K: Ord + Clone> Timers<K> {
    /// Sets or moves the deadline of `key`.
    pub fn set(&mut self, key: K, at: Time) {
        self.cancel(&key);
        self.by_key.insert(key.clone(), at);
        self.by_time.insert((at, key));
    }

    /// Forgets the deadline of `key`; says when it would have been.
    pub fn cancel(&mut self, key: &K) -> Option<Time> {
        let at = self.by_key.remove(key)?;
        self.by_time.remove(&(at, key.clone()));
        Some(at)
    }

    /// When `key` is due.
    pub fn deadline(&self, key: &K) -> Option<Time> {
        self.by_key.get(key).copied()
    }

    /// The earliest deadline.
    pub fn next(&self) -> Option<Time> {
        self.by_time.first().map(|(at, _)| *at)
    }

    /// Takes out the earliest key that is due at `now`. Keys due at the same instant come in key order.
    pub fn pop_due(&mut self, now: Time) -> Option<K> {
        if self.next()? > now {
            return None;
        }
        let (_, key) = self.by_time.pop_first()?;
        self.by_key.remove(&key);
        Some(key)
    }

    /// How many deadlines are set.
    pub fn len(&self) -> usize {
        self.by_key.len()
    }

    /// Whether none is set.
    pub fn is_empty(&self) -> bool {
        self.by_key.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(nanos: u64) -> Time {
        Time::from_nanos(nanos)
    }

    #[test]
    fn gives_due_keys_earliest_first_and_once() {
        let mut timers = Timers::default();
        timers.set("late", at(30));
        timers.set("early", at(10));
        assert_eq!(timers.next(), Some(at(10)));
        assert_eq!(timers.pop_due(at(9)), None);
        assert_eq!(timers.pop_due(at(30)), Some("early"));
        assert_eq!(timers.pop_due(at(30)), Some("late"));
        assert_eq!(timers.pop_due(at(30)), None);
    }

    #[test]
    fn setting_again_moves_and_cancel_forgets() {
        let mut timers = Timers::default();
        timers.set(1, at(10));
        timers.set(1, at(20));
        assert_eq!((timers.len(), timers.pop_due(at(15))), (1, None));
        assert_eq!(timers.cancel(&1), Some(at(20)));
        assert!(timers.is_empty() && timers.next().is_none());
    }
}
