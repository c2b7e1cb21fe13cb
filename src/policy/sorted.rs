//! Selection in an order: smallest [`Rank`] first. A tournament tree over the slots, so that finding the first,
//! changing a rank and leaving a slot out for a while take O(log n) steps and no memory.

use super::{Field, Order, Policy};
use std::cmp::Ordering;

/// No slot.
const NOBODY: u32 = u32::MAX;

#[derive(Clone, Debug)]
pub(super) struct Sorted {
    order: Order,
    items: Vec<Item>,
    /// Node 1 is the root, the children of node `i` are `2 i` and `2 i + 1`; node `nodes.len() + slot` would be
    /// the leaf of `slot`. Each holds the first of the slots below it.
    nodes: Vec<u32>,
    len: usize,
    /// Counts stamps.
    clock: u64,
    /// Where the head of the weighted circular list stood last.
    head: Option<Place>,
    /// The load of the element told last.
    told: Place,
    /// Found ineligible in the selection under way; kept for its capacity.
    passed_over: Vec<u32>,
}

#[derive(Clone, Copy, Debug)]
struct Item {
    rank: Rank,
    /// Load degradation, where selections add to the load; else 0.
    degradation: u32,
    presence: Presence,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Presence {
    /// An empty slot.
    Absent,
    /// Left out of the tree by the selection under way.
    Aside,
    /// In the tree.
    Ranked,
}

const VACANT: Item =
    Item { rank: Rank { place: Place::LAST, stamp: 0 }, degradation: 0, presence: Presence::Absent };

/// Where a slot stands: its place, and among equals when it last was the first of them.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
struct Rank {
    place: Place,
    stamp: u64,
}

/// `whole` + `at` / (2^32 `parts`), a number from `whole` up to `whole` + 1, compared exactly. Only weighted round
/// robin has more than whole numbers.
#[derive(Clone, Copy, Debug)]
struct Place {
    whole: u64,
    at: u64,
    parts: u32,
}

impl Place {
    /// Behind all others: elements that can give no service (weight 0).
    const LAST: Place = Place::plain(u64::MAX);

    const fn plain(whole: u64) -> Place {
        Place { whole, at: 0, parts: 1 }
    }

    /// The first place of an element of this weight behind `head` in the weighted circular list.
    ///
    /// The list is laid out along a line. An element of weight w stands on it at every 1/w, so that a unit of
    /// the line is a turn of the list, with as many entries of each element as its weight, in equal distances. Where in
    /// its 1/w it stands depends on its slot: multiples of the golden ratio keep those of equal weight well
    /// apart, whichever they are, so that they come between the entries of heavier ones and not in a heap.
    fn behind(head: Option<Place>, slot: u32, weight: u32) -> Place {
        let phase = u64::from(slot.wrapping_mul(0x9e37_79b9));
        let first = Place { whole: 0, at: phase, parts: weight };
        let Some(head) = head else { return first };
        // The least part with (2^32 part + phase) / weight > head.at / head.parts.
        let least = u128::from(head.at) * u128::from(weight) / u128::from(head.parts.max(1)) + 1;
        let part = (least >> 32) + u128::from(least & 0xffff_ffff > u128::from(phase));
        match u32::try_from(part) {
            Ok(part) if part < weight => {
                Place { whole: head.whole, at: u64::from(part) << 32 | phase, ..first }
            }
            Ok(_) | Err(_) => Place { whole: head.whole.saturating_add(1), ..first },
        }
    }
}

impl Ord for Place {
    fn cmp(&self, other: &Place) -> Ordering {
        let across = |a: &Place, b: &Place| u128::from(a.at) * u128::from(b.parts);
        self.whole.cmp(&other.whole).then_with(|| across(self, other).cmp(&across(other, self)))
    }
}

impl PartialOrd for Place {
    fn partial_cmp(&self, other: &Place) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Place {
    fn eq(&self, other: &Place) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for Place {}

impl Sorted {
    pub(super) fn new(order: Order) -> Sorted {
        let nodes = vec![NOBODY];
        let told = Place::plain(0);
        Sorted {
            order,
            items: Vec::new(),
            nodes,
            len: 0,
            clock: 0,
            head: None,
            told,
            passed_over: Vec::new(),
        }
    }

    pub(super) fn len(&self) -> usize {
        self.len
    }

    /// Adds a slot behind its equals, or changes the values of one, which keeps its turn.
    pub(super) fn set(&mut self, slot: u32, policy: &Policy) {
        let index = slot as usize;
        if index >= self.items.len() {
            self.items.resize(index + 1, VACANT);
            if self.items.len() > self.nodes.len() {
                self.grow();
            }
        }
        let before = self.items[index];
        let is_new = before.presence == Presence::Absent;
        let value = |field| policy.field(field).unwrap_or(0);
        let mut degradation = 0;
        let place = match self.order {
            Order::RoundRobin => Place::plain(0),
            Order::Priority => Place::plain(u64::from(u32::MAX - value(Field::Priority))),
            Order::Load => Place::plain(value(Field::Load).into()),
            Order::LoadOfNext => {
                Place::plain(u64::from(value(Field::Load)) + u64::from(value(Field::Degradation)))
            }
            Order::LoadDegraded => {
                degradation = value(Field::Degradation);
                Place::plain(value(Field::Load).into())
            }
            Order::LoadDegradedAsTold => {
                degradation = value(Field::Degradation);
                let load = Place::plain(value(Field::Load).into());
                if is_new {
                    self.told = self.told.max(load);
                    self.told
                } else {
                    load
                }
            }
            Order::Private { first, each } => {
                degradation = value(Field::Degradation).saturating_mul(each);
                Place::plain(policy.burden(first).min(u64::MAX - 1))
            }
            Order::WeightedRoundRobin => match value(Field::Weight) {
                0 => Place::LAST,
                weight
                    if !is_new && before.rank.place.parts == weight && before.rank.place != Place::LAST =>
                {
                    before.rank.place
                }
                weight => Place::behind(self.head, slot, weight),
            },
        };
        let stamp = if is_new { self.tick() } else { before.rank.stamp };
        self.len += usize::from(is_new);
        self.items[index] = Item { rank: Rank { place, stamp }, degradation, presence: Presence::Ranked };
        self.update(slot);
    }

    pub(super) fn remove(&mut self, slot: u32) {
        if let Some(item) = self.items.get_mut(slot as usize) {
            self.len -= usize::from(item.presence != Presence::Absent);
            *item = VACANT;
            self.update(slot);
        }
    }

    pub(super) fn select(&mut self, items: usize, eligible: impl Fn(u32) -> bool, out: &mut Vec<u32>) {
        let start = out.len();
        while out.len() - start < items {
            let first = self.nodes.get(1).copied().unwrap_or(self.leaf(0));
            let Some(item) = self.items.get_mut(first as usize) else { break };
            // Weight 0: not capable of providing any service (RFC 5356 3.2), so only where there is no other.
            if item.rank.place == Place::LAST && out.get(start).is_some_and(|s| self.place(*s) != Place::LAST)
            {
                break;
            }
            self.items[first as usize].presence = Presence::Aside;
            self.update(first);
            if eligible(first) {
                out.push(first);
            } else {
                self.passed_over.push(first);
            }
        }
        let mut group = None;
        for (index, &slot) in out[start..].iter().enumerate() {
            let place = self.place(slot);
            let leads_equals = group.replace(place) != Some(place);
            self.turn(slot, index == 0, leads_equals);
            self.update(slot);
        }
        while let Some(slot) = self.passed_over.pop() {
            self.items[slot as usize].presence = Presence::Ranked;
            self.update(slot);
        }
    }

    /// Notes that a slot was selected, and puts it back into the tree: as the first of the answer, or at least of its
    /// equals in the answer.
    fn turn(&mut self, slot: u32, leads: bool, leads_equals: bool) {
        let stamp = self.tick();
        let Some(item) = self.items.get_mut(slot as usize) else { return };
        item.presence = Presence::Ranked;
        match self.order {
            Order::RoundRobin | Order::Priority | Order::Load | Order::LoadOfNext => {
                if leads_equals {
                    item.rank.stamp = stamp;
                }
            }
            Order::LoadDegraded | Order::LoadDegradedAsTold | Order::Private { .. } => {
                let worn = item.rank.place.whole.saturating_add(item.degradation.into());
                item.rank.place = Place::plain(worn.min(u64::MAX - 1));
                if leads_equals {
                    item.rank.stamp = stamp;
                }
            }
            // The rest of the answer is what comes next in the circular list, repetitions left out; only its head
            // advances. A slot that was passed over for long does not make up for it.
            Order::WeightedRoundRobin => {
                if leads {
                    item.rank.stamp = stamp;
                    if item.rank.place != Place::LAST {
                        self.head = self.head.max(Some(item.rank.place));
                        item.rank.place = Place::behind(self.head, slot, item.rank.place.parts);
                    }
                }
            }
        }
    }

    fn tick(&mut self) -> u64 {
        self.clock += 1;
        self.clock
    }

    fn place(&self, slot: u32) -> Place {
        self.items.get(slot as usize).map_or(Place::LAST, |item| item.rank.place)
    }

    fn leaf(&self, index: usize) -> u32 {
        match self.items.get(index) {
            Some(item) if item.presence == Presence::Ranked => index as u32,
            Some(_) | None => NOBODY,
        }
    }

    fn first_of(&self, a: u32, b: u32) -> u32 {
        match (self.items.get(a as usize), self.items.get(b as usize)) {
            (Some(x), Some(y)) => {
                if x.rank <= y.rank {
                    a
                } else {
                    b
                }
            }
            (Some(_), None) => a,
            (None, _) => b,
        }
    }

    /// The first of those below a node that may be a leaf.
    fn node(&self, node: usize) -> u32 {
        self.nodes.get(node).copied().unwrap_or_else(|| self.leaf(node - self.nodes.len()))
    }

    fn refresh(&mut self, node: usize) {
        self.nodes[node] = self.first_of(self.node(2 * node), self.node(2 * node + 1));
    }

    /// Plays again what concerns a slot.
    fn update(&mut self, slot: u32) {
        let mut node = (self.nodes.len() + slot as usize) / 2;
        while node > 0 {
            self.refresh(node);
            node /= 2;
        }
    }

    /// Makes room for all items; the cost is spread over the additions since the last time.
    fn grow(&mut self) {
        let leaves = self.items.len().next_power_of_two();
        self.nodes = vec![NOBODY; leaves];
        for node in (1..leaves).rev() {
            self.refresh(node);
        }
    }
}
