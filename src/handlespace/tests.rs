use super::*;
use crate::types::{Load, RegistrationLife, Rng};
use proptest::prelude::*;
use std::net::Ipv4Addr;
use std::time::Duration;

fn handle(name: &str) -> PoolHandle {
    PoolHandle::new(name.as_bytes()).unwrap()
}

fn server(id: u32) -> ServerId {
    ServerId::new(id).unwrap()
}

fn tcp(port: u16) -> TransportAddress {
    TransportAddress::Tcp { port, transport_use: TransportUse::DataOnly, address: Ipv4Addr::LOCALHOST.into() }
}

fn element(id: u32, home: u32) -> PoolElement {
    PoolElement {
        id: PeId(id),
        home: ServerId::new(home),
        life: RegistrationLife::Seconds(10),
        user_transport: tcp(7),
        policy: Policy::ROUND_ROBIN,
        asap_transport: None,
        capabilities: None,
    }
}

fn seconds(s: u64) -> Time {
    Time::ZERO + Duration::from_secs(s)
}

fn empty() -> Handlespace {
    Handlespace::new(100, 100, 1000)
}

/// Inserts at time 0 what must fit.
fn add(space: &mut Handlespace, pool: &str, element: PoolElement) -> Inserted {
    space.insert(Time::ZERO, &handle(pool), element, None).unwrap()
}

fn ids<'a>(entries: impl IntoIterator<Item = &'a Entry>) -> Vec<u32> {
    entries.into_iter().map(|entry| entry.element.id.0).collect()
}

#[test]
fn the_first_element_makes_the_pool_and_the_last_takes_it_along() {
    let mut space = empty();
    let pool = handle("pool");
    assert_eq!(add(&mut space, "pool", element(1, 9)), Inserted::NewPool);
    assert_eq!(add(&mut space, "pool", element(2, 9)), Inserted::NewElement);
    assert_eq!(space.traits(&pool).unwrap().policy_type, PolicyType::RoundRobin);
    assert_eq!(
        space.pools().map(|(handle, _, len)| (handle.clone(), len)).collect::<Vec<_>>(),
        [(pool.clone(), 2)]
    );
    assert_eq!(space.remove(&pool, PeId(1)).unwrap().element, element(1, 9));
    assert!(space.remove(&pool, PeId(1)).is_none());
    assert!(space.traits(&pool).is_some());
    assert!(space.remove(&pool, PeId(2)).is_some());
    assert!(space.traits(&pool).is_none());
    assert_eq!((space.pools().count(), space.count(None)), (0, 0));
    assert!(space.select(&pool, 1, &mut Rng::new(0), |_| true).is_none());
}

#[test]
fn refuses_an_element_with_other_policy_transport_or_use() {
    let mut space = empty();
    let sctp = |transport_use| TransportAddress::Sctp {
        port: 7,
        transport_use,
        addresses: std::net::IpAddr::from(Ipv4Addr::LOCALHOST).into(),
    };
    let weighted = |id, weight| PoolElement {
        policy: Policy::new(PolicyType::WeightedRandom, &[weight]),
        user_transport: sctp(TransportUse::DataOnly),
        ..element(id, 9)
    };
    add(&mut space, "pool", weighted(5, 50));
    let controlled = PoolElement { user_transport: sctp(TransportUse::DataPlusControl), ..weighted(1, 1) };
    // As a new element, and as a re-registration of the only one (rule 3: the same tests).
    for id in [1, 5] {
        let mut insert = |element| {
            space.insert(Time::ZERO, &handle("pool"), PoolElement { id: PeId(id), ..element }, None)
        };
        assert_eq!(insert(element(1, 9)), Err(Misfit::Policy(weighted(5, 50).policy)));
        let other_transport = PoolElement { user_transport: tcp(7), ..weighted(1, 1) };
        assert_eq!(insert(other_transport), Err(Misfit::Transport(sctp(TransportUse::DataOnly))));
        assert_eq!(insert(controlled.clone()), Err(Misfit::TransportUse));
    }
    assert_eq!(space.entry(&handle("pool"), PeId(5)).unwrap().element, weighted(5, 50));
    assert_eq!(space.count(None), 1);
    assert_eq!(add(&mut space, "pool", weighted(1, 1)), Inserted::NewElement);
}

#[test]
fn replacing_tells_the_previous_home_and_what_changed() {
    let mut space = empty();
    add(&mut space, "pool", element(1, 8));
    assert!(space.note(&handle("pool"), PeId(1), |note| {
        *note.bad_reports = 2;
        *note.version = 7;
    }));
    let replaced = |home, changed| Inserted::Replaced { previous_home: Some(server(home)), changed };
    assert_eq!(add(&mut space, "pool", element(1, 8)), replaced(8, false));
    let entry = space.entry(&handle("pool"), PeId(1)).unwrap();
    assert_eq!((entry.bad_reports, entry.version), (0, 7));
    assert_eq!(add(&mut space, "pool", element(1, 9)), replaced(8, true));
    assert_eq!((space.count(Some(server(8))), space.count(Some(server(9)))), (0, 1));
    let moved = PoolElement { user_transport: tcp(8), ..element(1, 9) };
    assert_eq!(add(&mut space, "pool", moved), replaced(9, true));
}

#[test]
fn refuses_what_is_beyond_its_limits_but_lets_elements_come_back() {
    let mut space = Handlespace::new(2, 2, 3);
    let mut insert = |pool, id| space.insert(Time::ZERO, &handle(pool), element(id, 9), None).map(|_| ());
    assert_eq!(insert("a", 1), Ok(()));
    assert_eq!(insert("a", 2), Ok(()));
    assert_eq!(insert("a", 3), Err(Misfit::Full), "elements of a pool");
    assert_eq!(insert("b", 1), Ok(()));
    assert_eq!(insert("b", 2), Err(Misfit::Full), "elements");
    assert_eq!(insert("a", 2), Ok(()));
    assert!(space.remove(&handle("a"), PeId(1)).is_some());
    let mut insert = |pool, id| space.insert(Time::ZERO, &handle(pool), element(id, 9), None).map(|_| ());
    assert_eq!(insert("c", 1), Err(Misfit::Full), "pools");
    assert_eq!(insert("b", 2), Ok(()));
    assert_eq!((space.count(None), space.pools().count()), (3, 2));
    let mut none = Handlespace::new(1, 0, 1);
    assert_eq!(none.insert(Time::ZERO, &handle("a"), element(1, 9), None), Err(Misfit::Full));
    assert_eq!(none.pools().count(), 0);
}

#[test]
fn checksums_are_those_seen_on_the_wire() {
    let mut space = empty();
    let me = server(9);
    let sum = |space: &Handlespace| space.checksum(me, View::Full).0;
    assert_eq!(sum(&space), 0xffff);
    add(&mut space, "PingPongPool", element(0xabcd_0001, 9));
    assert_eq!(sum(&space), 0x16ae);
    add(&mut space, "PingPongPool", element(0xabcd_0002, 9));
    assert_eq!(sum(&space), 0x2d5b);
    for id in [0xabcd_0001, 0xabcd_0002] {
        space.remove(&handle("PingPongPool"), PeId(id));
    }
    assert_eq!(sum(&space), 0xffff);
    add(&mut space, "EchoPool", element(0x0e00_0001, 9));
    add(&mut space, "EchoPoolX", element(0x0e00_0002, 9));
    assert_eq!(sum(&space), 0xb09f, "an odd handle is padded with a zero");

    let mut space = empty();
    add(&mut space, "ABC", element(0x1234_5678, 9));
    add(&mut space, "DEF", element(0x1234_5678, 8));
    assert_eq!(sum(&space), 0x1311, "only what the owner owns");

    let mut space = empty();
    for n in 0..60 {
        add(&mut space, &format!("Pool-{:03}", n % 5), element(0x1000 + n, 9));
    }
    assert_eq!(sum(&space), 0x5e83);
}

#[test]
fn an_owner_of_nothing_is_told_from_a_sum_of_ffff() {
    let mut space = empty();
    add(&mut space, "\u{1}\u{1}", element(0xfefe_0000, 9));
    assert_eq!(space.checksum(server(9), View::Full), PeChecksum(0));
    space.remove(&handle("\u{1}\u{1}"), PeId(0xfefe_0000));
    assert_eq!(space.checksum(server(9), View::Full), PeChecksum(0xffff));
}

#[test]
fn registrations_run_out_earliest_first() {
    let mut space = empty();
    let living = |id, life| PoolElement { life, ..element(id, 9) };
    add(&mut space, "pool", living(1, RegistrationLife::Seconds(20)));
    add(&mut space, "pool", living(2, RegistrationLife::Milliseconds(5_000)));
    add(&mut space, "pool", living(3, RegistrationLife::Infinite));
    assert_eq!(space.next_expiry(), Some(seconds(5)));
    assert_eq!(space.expired(Time::from_nanos(seconds(5).as_nanos() - 1)), None);
    assert_eq!(space.expired(seconds(30)), Some((handle("pool"), PeId(2))));
    space.insert(seconds(4), &handle("pool"), living(2, RegistrationLife::Seconds(17)), None).unwrap();
    assert_eq!(space.expired(seconds(30)), Some((handle("pool"), PeId(1))));
    assert!(space.note(&handle("pool"), PeId(1), |note| *note.expires = None));
    assert_eq!(space.next_expiry(), Some(seconds(21)));
    assert!(space.remove(&handle("pool"), PeId(2)).is_some());
    assert_eq!((space.next_expiry(), space.expired(Time::NEVER)), (None, None));
    add(&mut space, "pool", living(4, RegistrationLife::Seconds(0)));
    assert_eq!(space.expired(Time::ZERO), Some((handle("pool"), PeId(4))));
}

#[test]
fn marks_are_cleared_by_inserting_and_rehoming() {
    let mut space = empty();
    for id in 1..=4 {
        add(&mut space, "pool", element(id, 8));
    }
    add(&mut space, "pool", element(5, 7));
    assert_eq!(space.marked(server(8)), []);
    space.mark(server(8));
    space.mark(server(6));
    add(&mut space, "pool", element(2, 8));
    add(&mut space, "pool", element(6, 8));
    assert!(space.rehome(&handle("pool"), PeId(3), server(7)));
    assert!(space.rehome(&handle("pool"), PeId(5), server(8)));
    let marked: Vec<_> = space.marked(server(8)).into_iter().map(|(_, id)| id.0).collect();
    assert_eq!(marked, [1, 4]);
    assert!(space.marked(server(7)).is_empty());
    space.mark(server(8));
    assert_eq!(space.marked(server(8)).len(), 5);
}

#[test]
fn rehoming_moves_count_and_checksum() {
    let mut space = empty();
    add(&mut space, "ABC", element(0x1234_5678, 8));
    assert!(space.rehome(&handle("ABC"), PeId(0x1234_5678), server(9)));
    assert!(!space.rehome(&handle("ABC"), PeId(1), server(9)));
    assert_eq!(space.checksum(server(8), View::Full), PeChecksum(0xffff));
    assert_eq!(space.checksum(server(9), View::Full), PeChecksum(0x1311));
    assert_eq!((space.count(Some(server(8))), space.count(Some(server(9)))), (0, 1));
    assert_eq!(space.elements(&handle("ABC")).next().unwrap().element.home, Some(server(9)));
}

#[test]
fn ineligible_elements_neither_lose_a_turn_nor_count_as_selected() {
    let mut space = empty();
    let lud = |id| PoolElement {
        policy: Policy::new(PolicyType::LeastUsedDegradation, &[0, 10]),
        ..element(id, 9)
    };
    for id in 1..=3 {
        add(&mut space, "pool", lud(id));
    }
    let mut rng = Rng::new(1);
    let mut select = |items, hidden: u32| {
        let selection =
            space.select(&handle("pool"), items, &mut rng, |entry| entry.element.id.0 != hidden).unwrap();
        assert_eq!(selection.policy.policy_type(), PolicyType::LeastUsedDegradation);
        ids(selection.entries)
    };
    for _ in 0..5 {
        assert_eq!(select(3, 1).len(), 2);
    }
    // 2 and 3 have been selected five times each, 1 never.
    let firsts: Vec<u32> = (0..5).map(|_| select(1, 0)[0]).collect();
    assert_eq!(firsts, [1; 5]);
    let nobody = space.select(&handle("pool"), 3, &mut rng, |_| false).unwrap();
    assert!(nobody.entries.is_empty());
    assert_eq!(nobody.policy, Policy::new(PolicyType::LeastUsedDegradation, &[0, 0]));
}

#[test]
fn an_element_in_a_slot_of_another_has_none_of_its_turns() {
    let mut space = empty();
    for id in 1..=3 {
        add(&mut space, "pool", element(id, 9));
    }
    let mut rng = Rng::new(1);
    let mut list =
        |space: &mut Handlespace| ids(space.select(&handle("pool"), 9, &mut rng, |_| true).unwrap().entries);
    assert_eq!(list(&mut space), [1, 2, 3]);
    assert!(space.remove(&handle("pool"), PeId(2)).is_some());
    add(&mut space, "pool", element(4, 9));
    assert_eq!(list(&mut space), [3, 1, 4]);
    assert_eq!(list(&mut space), [1, 4, 3]);
}

#[test]
fn re_registration_sets_the_degradation_counter_to_zero() {
    let mut space = empty();
    let lud = |id, load| PoolElement {
        policy: Policy::new(PolicyType::LeastUsedDegradation, &[load, 10]),
        ..element(id, 9)
    };
    add(&mut space, "pool", lud(1, 0));
    add(&mut space, "pool", lud(2, 25));
    let mut rng = Rng::new(1);
    let mut next = |space: &mut Handlespace| {
        ids(space.select(&handle("pool"), 1, &mut rng, |_| true).unwrap().entries)[0]
    };
    let run: Vec<u32> = (0..4).map(|_| next(&mut space)).collect();
    assert_eq!(run, [1, 1, 1, 2]);
    add(&mut space, "pool", lud(1, 0));
    let run: Vec<u32> = (0..4).map(|_| next(&mut space)).collect();
    assert_eq!(run, [1, 1, 1, 1], "0, 10, 20, 30 against 35");
    assert_eq!(space.entry(&handle("pool"), PeId(1)).unwrap().element.policy.load(), Some(Load(0)));
}

#[test]
fn a_page_is_never_empty_while_elements_follow() {
    let mut space = empty();
    add(&mut space, "a", element(1, 9));
    add(&mut space, "a", element(2, 9));
    let a = handle("a");
    let (page, more) = space.page(None, None, View::Full, 10, |_, _, _| 1_000);
    assert_eq!((page.len(), more), (1, true));
    let (page, more) = space.page(Some((&a, PeId(1))), None, View::Full, 10, |_, _, _| 1_000);
    assert_eq!((page.len(), more), (1, false));
    let (page, more) = space.page(Some((&a, PeId(2))), None, View::Full, 10, |_, _, _| 1_000);
    assert_eq!((page.len(), more), (0, false));
}

#[test]
fn pages_count_the_pool_once_and_go_on_behind_what_is_gone() {
    let mut space = empty();
    for (pool, id) in [("a", 1), ("a", 2), ("a", 3), ("b", 1), ("c", 1), ("c", 2)] {
        add(&mut space, pool, element(id, if pool == "b" { 8 } else { 9 }));
    }
    let size = |_: &PoolHandle, _: &Entry, first: bool| if first { 15 } else { 10 };
    let told = |(page, more): (Vec<(&PoolHandle, &Entry)>, bool)| {
        let told: Vec<String> = page.iter().map(|(h, e)| format!("{h}{}", e.element.id.0)).collect();
        (told.join(" "), more)
    };
    assert_eq!(told(space.page(None, None, View::Full, 50, size)), ("a1 a2 a3 b1".into(), true));
    assert_eq!(told(space.page(None, None, View::Full, 49, size)), ("a1 a2 a3".into(), true));
    assert_eq!(
        told(space.page(None, Some(server(9)), View::Full, 60, size)),
        ("a1 a2 a3 c1 c2".into(), false)
    );
    assert_eq!(told(space.page(None, Some(server(8)), View::Full, 60, size)), ("b1".into(), false));
    let (a, b) = (handle("a"), handle("b"));
    space.remove(&a, PeId(2));
    space.remove(&b, PeId(1));
    assert_eq!(told(space.page(Some((&a, PeId(2))), None, View::Full, 60, size)), ("a3 c1 c2".into(), false));
    assert_eq!(told(space.page(Some((&b, PeId(1))), None, View::Full, 60, size)), ("c1 c2".into(), false));
}

/// What may happen to a handlespace of a few pools, elements and owners.
#[derive(Clone, Debug)]
enum Step {
    Insert { pool: u8, id: u32, home: u32, life: u8, policy: u8 },
    Remove { pool: u8, id: u32 },
    Rehome { pool: u8, id: u32, home: u32 },
    Prolong { pool: u8, id: u32, life: u8 },
    Mark { home: u32 },
    Select { pool: u8, items: usize, odd_only: bool },
    Wait,
}

fn step() -> impl Strategy<Value = Step> {
    let (pool, id, home) = (0..4u8, 0..6u32, 1..4u32);
    prop_oneof![
        6 => (pool.clone(), id.clone(), home.clone(), 0..9u8, 0..20u8)
            .prop_map(|(pool, id, home, life, policy)| Step::Insert { pool, id, home, life, policy }),
        3 => (pool.clone(), id.clone()).prop_map(|(pool, id)| Step::Remove { pool, id }),
        1 => (pool.clone(), id.clone(), home.clone())
            .prop_map(|(pool, id, home)| Step::Rehome { pool, id, home }),
        1 => (pool.clone(), id.clone(), 0..9u8)
            .prop_map(|(pool, id, life)| Step::Prolong { pool, id, life }),
        1 => home.prop_map(|home| Step::Mark { home }),
        2 => (pool, 0..8usize, any::<bool>())
            .prop_map(|(pool, items, odd_only)| Step::Select { pool, items, odd_only }),
        1 => Just(Step::Wait),
    ]
}

/// The same with nothing but a map.
#[derive(Default)]
struct Model(BTreeMap<(PoolHandle, PeId), Known>);

#[derive(Clone)]
struct Known {
    element: PoolElement,
    expires: Option<Time>,
    marked: bool,
}

impl Model {
    fn of_pool(&self, pool: &PoolHandle) -> Vec<&Known> {
        self.0.iter().filter(|((handle, _), _)| handle == pool).map(|(_, known)| known).collect()
    }

    fn of_owner(&self, owner: ServerId) -> Vec<(&PoolHandle, PeId, bool)> {
        let own = self.0.iter().filter(|(_, known)| known.element.home == Some(owner));
        own.map(|((handle, id), known)| (handle, *id, known.marked)).collect()
    }

    /// RFC 5353 3.6.2, word by word.
    fn checksum(&self, owner: ServerId) -> u16 {
        let mut sum = 0u16;
        for (handle, id, _) in self.of_owner(owner) {
            let mut bytes = handle.as_bytes().to_vec();
            bytes.resize(bytes.len().next_multiple_of(2), 0);
            bytes.extend(id.0.to_be_bytes());
            for pair in bytes.chunks(2) {
                let (folded, carry) = sum.overflowing_add(u16::from_be_bytes([pair[0], pair[1]]));
                sum = folded + u16::from(carry);
            }
        }
        !sum
    }
}

fn life(n: u8) -> RegistrationLife {
    match n {
        0 => RegistrationLife::Infinite,
        1..=4 => RegistrationLife::Seconds(n.into()),
        _ => RegistrationLife::Milliseconds(u32::from(n) * 700),
    }
}

/// Mostly the pool's own.
fn policy_type(pool: u8, n: u8) -> PolicyType {
    let own = [PolicyType::RoundRobin, PolicyType::WeightedRandom, PolicyType::LeastUsedDegradation];
    let n = if n == 19 { pool + 1 } else { pool };
    own[usize::from(n) % own.len()]
}

fn agree(space: &Handlespace, model: &Model, now: Time) {
    assert_eq!(space.count(None), model.0.len());
    let mut handles: Vec<_> = model.0.keys().map(|(handle, _)| handle).collect();
    handles.dedup();
    assert_eq!(space.pools().map(|(handle, ..)| handle).collect::<Vec<_>>(), handles);
    for (handle, traits, len) in space.pools() {
        let known = model.of_pool(handle);
        assert_eq!(len, known.len());
        assert_eq!(*traits, PoolTraits::of(&known[0].element));
        assert!(space.elements(handle).map(|e| &e.element).eq(known.iter().map(|k| &k.element)));
        assert!(space.elements(handle).map(|e| e.expires).eq(known.iter().map(|k| k.expires)));
    }
    for owner in (1..5).map(server) {
        let own = model.of_owner(owner);
        assert_eq!(space.count(Some(owner)), own.len());
        assert_eq!(space.checksum(owner, View::Full).0, model.checksum(owner));
        let marked = own.iter().filter(|(.., marked)| *marked).map(|(h, id, _)| ((*h).clone(), *id));
        assert_eq!(space.marked(owner), marked.collect::<Vec<_>>());
        let (page, more) = space.page(None, Some(owner), View::Full, usize::MAX, |_, _, _| 0);
        assert!(page.iter().map(|(h, e)| (*h, e.element.id)).eq(own.iter().map(|(h, id, _)| (*h, *id))));
        assert!(!more);
    }
    let next = model.0.values().filter_map(|known| known.expires).min();
    assert_eq!(space.next_expiry(), next);
    match space.expired(now) {
        Some(key) => assert_eq!(model.0[&key].expires, next),
        None => assert!(next.is_none_or(|at| at > now)),
    }
    let mut paged = Vec::new();
    loop {
        let after = paged.last().map(|(handle, id)| (handle, *id));
        let (page, more) = space.page(after, None, View::Full, 25, |_, _, first| if first { 12 } else { 7 });
        assert!(!page.is_empty() || !more);
        let page: Vec<_> = page.into_iter().map(|(h, e)| (h.clone(), e.element.id)).collect();
        paged.extend(page);
        if !more {
            break;
        }
    }
    assert!(paged.iter().eq(model.0.keys()));
}

proptest! {
    #[test]
    fn behaves_as_a_plain_map_of_elements(steps in prop::collection::vec(step(), 1..80)) {
        let (max_pools, max_of_pool, max) = (3, 4, 9);
        let mut space = Handlespace::new(max_pools, max_of_pool, max);
        let mut model = Model::default();
        let mut rng = Rng::new(7);
        let mut now = Time::ZERO;
        let name = |pool: u8| handle(["a", "ab", "abc", "b"][usize::from(pool)]);
        for step in steps {
            match step {
                Step::Insert { pool, id, home, life: n, policy } => {
                    let handle = name(pool);
                    let policy_type = policy_type(pool, policy);
                    let element = PoolElement {
                        life: life(n),
                        policy: Policy::new(policy_type, &[policy.into(), 1]),
                        ..element(id, home)
                    };
                    let of_pool = model.of_pool(&handle);
                    let before = model.0.get(&(handle.clone(), PeId(id))).cloned();
                    let pools = space.pools().count();
                    let expected = if let Some(first) = of_pool.first()
                        && first.element.policy.policy_type() != policy_type
                    {
                        Err(Misfit::Policy(first.element.policy))
                    } else if let Some(before) = before {
                        let changed = before.element != element;
                        Ok(Inserted::Replaced { previous_home: before.element.home, changed })
                    } else if model.0.len() == max
                        || of_pool.len() == max_of_pool
                        || (of_pool.is_empty() && pools == max_pools)
                    {
                        Err(Misfit::Full)
                    } else if of_pool.is_empty() {
                        Ok(Inserted::NewPool)
                    } else {
                        Ok(Inserted::NewElement)
                    };
                    prop_assert_eq!(space.insert(now, &handle, element.clone(), None), expected.clone());
                    if expected.is_ok() {
                        let expires = element.life.duration().map(|life| now + life);
                        let known = Known { element, expires, marked: false };
                        model.0.insert((handle, PeId(id)), known);
                    }
                }
                Step::Remove { pool, id } => {
                    let removed = space.remove(&name(pool), PeId(id)).map(|entry| entry.element);
                    prop_assert_eq!(removed, model.0.remove(&(name(pool), PeId(id))).map(|k| k.element));
                }
                Step::Rehome { pool, id, home } => {
                    let done = space.rehome(&name(pool), PeId(id), server(home));
                    let known = model.0.get_mut(&(name(pool), PeId(id)));
                    prop_assert_eq!(done, known.is_some());
                    if let Some(known) = known {
                        known.element.home = Some(server(home));
                        known.marked = false;
                    }
                }
                Step::Prolong { pool, id, life: n } => {
                    let expires = life(n).duration().map(|life| now + life);
                    let done = space.note(&name(pool), PeId(id), |note| *note.expires = expires);
                    let known = model.0.get_mut(&(name(pool), PeId(id)));
                    prop_assert_eq!(done, known.is_some());
                    if let Some(known) = known {
                        known.expires = expires;
                    }
                }
                Step::Mark { home } => {
                    space.mark(server(home));
                    for known in model.0.values_mut() {
                        known.marked |= known.element.home == Some(server(home));
                    }
                }
                Step::Select { pool, items, odd_only } => {
                    let eligible = |id: u32| !odd_only || id % 2 == 1;
                    let handle = name(pool);
                    let known = model.of_pool(&handle);
                    let selection =
                        space.select(&handle, items, &mut rng, |e| eligible(e.element.id.0));
                    prop_assert_eq!(selection.is_some(), !known.is_empty());
                    let mut selected = selection.map_or(Vec::new(), |s| ids(s.entries));
                    let mut allowed: Vec<u32> =
                        known.iter().map(|k| k.element.id.0).filter(|id| eligible(*id)).collect();
                    // Elements of weight 0 are there only where there is no other.
                    let weight = |id: u32| {
                        let known = known.iter().find(|k| k.element.id.0 == id);
                        known.unwrap().element.policy.weight().unwrap_or(1)
                    };
                    if allowed.iter().any(|id| weight(*id) > 0) {
                        allowed.retain(|id| weight(*id) > 0);
                    }
                    prop_assert_eq!(selected.len(), items.min(allowed.len()));
                    selected.sort_unstable();
                    selected.dedup();
                    prop_assert_eq!(selected.len(), items.min(allowed.len()));
                    prop_assert!(selected.iter().all(|id| allowed.contains(id)));
                }
                Step::Wait => now = now + Duration::from_millis(900),
            }
            agree(&space, &model, now);
        }
    }
}

#[test]
fn a_view_leaves_out_of_pages_and_checksums_what_does_not_belong_to_it() {
    let mut space = Handlespace::new(10, 10, 100).viewed_by_rsplib(|handle, element| {
        handle.as_bytes().len() <= 4 && element.policy != Policy::new(PolicyType::WeightedRandom, &[0])
    });
    let of = |policy, id| PoolElement { policy, ..element(id, 9) };
    let lottery = |weight| Policy::new(PolicyType::WeightedRandom, &[weight]);
    let (short, long) = (handle("pool"), handle("longer"));
    space.insert(seconds(0), &long, of(Policy::ROUND_ROBIN, 1), None).unwrap();
    assert_eq!(space.checksum(server(9), View::Rsplib), PeChecksum(0xffff), "nothing is there");
    space.insert(seconds(0), &short, of(lottery(1), 1), None).unwrap();
    space.insert(seconds(0), &short, of(lottery(0), 2), None).unwrap();
    let mut alone = Handlespace::new(10, 10, 100);
    alone.insert(seconds(0), &short, of(lottery(1), 1), None).unwrap();
    assert_eq!(space.checksum(server(9), View::Rsplib), alone.checksum(server(9), View::Full));
    for owner in [None, Some(server(9))] {
        let (page, more) = space.page(None, owner, View::Rsplib, usize::MAX, |_, _, _| 1);
        let told: Vec<(&PoolHandle, PeId)> = page.iter().map(|(h, entry)| (*h, entry.element.id)).collect();
        assert_eq!((told, more), (vec![(&short, PeId(1))], false));
    }
    assert!(space.is_in(View::Rsplib, &short, PeId(1)) && !space.is_in(View::Rsplib, &short, PeId(2)));
    // Its values change, and with them where it belongs.
    space.insert(seconds(0), &short, of(lottery(0), 1), None).unwrap();
    assert_eq!(space.checksum(server(9), View::Rsplib), PeChecksum(0xffff));
    assert_eq!(space.count(Some(server(9))), 3);
}
