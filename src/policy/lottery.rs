//! Draws without replacement: the chance of each slot is its share of the tickets still in the pot. A Fenwick
//! tree, so that a draw, a change and a new slot take O(log n) steps.
//!
//! Slots without tickets (weight 0: "not capable of providing any service", RFC 5356 3.2; or fully loaded) are
//! drawn, each alike, only when no other can be: their share of nothing is not defined by the RFC, and a pool
//! whose servers all forgot to say their weight is better served than not.

use crate::types::Rng;

#[derive(Clone, Debug, Default)]
pub(super) struct Lottery {
    /// Those with tickets.
    able: Pot,
    /// Those without, one ticket each.
    unable: Pot,
    /// How many tickets each slot loses when it is selected, where that is any.
    wear: Vec<u32>,
    /// Drawn and found ineligible in the selection under way; kept for its capacity.
    passed_over: Vec<u32>,
}

impl Lottery {
    /// Gives a slot so many tickets, of which each selection takes `wear`.
    pub(super) fn set(&mut self, slot: u32, tickets: u32, wear: u32) {
        self.put(slot, tickets);
        let index = slot as usize;
        if wear > 0 && index >= self.wear.len() {
            self.wear.resize(index + 1, 0);
        }
        if let Some(place) = self.wear.get_mut(index) {
            *place = wear;
        }
    }

    fn put(&mut self, slot: u32, tickets: u32) {
        self.able.put(slot, tickets);
        self.unable.put(slot, u32::from(tickets == 0));
    }

    pub(super) fn remove(&mut self, slot: u32) {
        self.able.put(slot, 0);
        self.unable.put(slot, 0);
    }

    pub(super) fn len(&self) -> usize {
        self.able.len + self.unable.len
    }

    pub(super) fn select(
        &mut self,
        items: usize,
        rng: &mut Rng,
        eligible: impl Fn(u32) -> bool,
        out: &mut Vec<u32>,
    ) {
        let start = out.len();
        self.able.draw(items, rng, &eligible, out, &mut self.passed_over);
        if out.len() == start {
            self.unable.draw(items, rng, &eligible, out, &mut self.passed_over);
        }
        for slot in out[start..].iter().copied() {
            let wear = self.wear.get(slot as usize).copied().unwrap_or(0);
            if wear > 0 {
                self.put(slot, self.able.tickets_of(slot).saturating_sub(wear));
            }
        }
    }
}

/// Slots with tickets.
#[derive(Clone, Debug, Default)]
struct Pot {
    /// The tickets of each slot; 0 for those that are not in.
    tickets: Vec<u32>,
    /// The Fenwick tree over those in the pot: node `i` (from 1) is at `i - 1` and sums up the
    /// `lowest_bit(i)` slots that end with slot `i - 1`. 2^32 slots of 2^32 - 1 tickets fit.
    sums: Vec<u64>,
    /// The sum of all.
    total: u64,
    /// Slots with tickets.
    len: usize,
}

fn lowest_bit(node: usize) -> usize {
    node & node.wrapping_neg()
}

impl Pot {
    /// Gives `slot` so many tickets in place of those it had.
    fn put(&mut self, slot: u32, tickets: u32) {
        let slot = slot as usize;
        if slot >= self.tickets.len() {
            if tickets == 0 {
                return;
            }
            while self.tickets.len() <= slot {
                self.grow();
            }
        }
        let before = std::mem::replace(&mut self.tickets[slot], tickets);
        self.len = self.len + usize::from(tickets > 0) - usize::from(before > 0);
        self.change(slot, before, tickets);
    }

    fn tickets_of(&self, slot: u32) -> u32 {
        self.tickets.get(slot as usize).copied().unwrap_or(0)
    }

    /// Appends a slot without tickets.
    fn grow(&mut self) {
        let node = self.sums.len() + 1;
        let mut sum = 0;
        let mut child = node - 1;
        while child > node - lowest_bit(node) {
            sum += self.sums[child - 1];
            child -= lowest_bit(child);
        }
        self.sums.push(sum);
        self.tickets.push(0);
    }

    fn change(&mut self, slot: usize, before: u32, after: u32) {
        let (before, after) = (u64::from(before), u64::from(after));
        self.total = self.total - before + after;
        let mut node = slot + 1;
        while node <= self.sums.len() {
            self.sums[node - 1] = self.sums[node - 1] - before + after;
            node += lowest_bit(node);
        }
    }

    /// The slot that holds the ticket of this number, counted from 0; `ticket` is below `total`.
    fn holder(&self, mut ticket: u64) -> usize {
        let mut slot = 0;
        let mut step = (self.sums.len() + 1).next_power_of_two() / 2;
        while step > 0 {
            if let Some(&sum) = self.sums.get(slot + step - 1)
                && sum <= ticket
            {
                ticket -= sum;
                slot += step;
            }
            step /= 2;
        }
        slot
    }

    /// Draws up to `items` different eligible slots, then puts all back.
    fn draw(
        &mut self,
        items: usize,
        rng: &mut Rng,
        eligible: &impl Fn(u32) -> bool,
        out: &mut Vec<u32>,
        passed_over: &mut Vec<u32>,
    ) {
        let start = out.len();
        while out.len() - start < items && self.total > 0 {
            let slot = self.holder(rng.below(self.total));
            self.change(slot, self.tickets[slot], 0);
            let list = if eligible(slot as u32) { &mut *out } else { &mut *passed_over };
            list.push(slot as u32);
        }
        for slot in out[start..].iter().copied().chain(passed_over.drain(..)) {
            self.change(slot as usize, 0, self.tickets[slot as usize]);
        }
    }
}
