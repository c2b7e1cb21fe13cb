//! RFC 5352 3.3, and the updates of 2.2.5.

use super::*;

fn response(world: &mut World, link: LinkId, message: &AsapMessage) -> (bool, Vec<PoolElement>) {
    match world.ask(link, message) {
        AsapMessage::HandleResolutionResponse { accept_updates, elements, error: None, .. } => {
            (accept_updates, elements)
        }
        other => panic!("not a positive response: {other:?}"),
    }
}

/// The updates among what was done: to whom, and the elements, none if the pool is gone.
fn updates(world: &mut World) -> Vec<(LinkId, Option<Vec<u32>>)> {
    let update = |done| match done {
        Done::Asap(link, AsapMessage::HandleResolutionResponse { accept_updates, elements, error, .. }) => {
            assert_eq!(accept_updates, error.is_none());
            Some((link, error.is_none().then(|| ids(&elements))))
        }
        _ => None,
    };
    world.done().into_iter().filter_map(update).collect()
}

fn subscribe(world: &mut World, link: LinkId, pool: &str) -> bool {
    response(world, link, &resolution(pool, None, true)).0
}

fn pool_of(world: &mut World, pool: &str, address: &str, count: u32) -> LinkId {
    let link = world.client(address);
    for id in 1..=count {
        assert_eq!(world.register(link, pool, &element(id, address)), Ok(()));
    }
    link
}

#[test]
fn lists_every_element_and_always_names_the_policy() {
    let mut world = World::new();
    let link = pool_of(&mut world, "pool", "10.0.0.1", 3);
    match world.ask(link, &resolution("pool", None, false)) {
        AsapMessage::HandleResolutionResponse { accept_updates, handle: h, policy, elements, error } => {
            assert_eq!((accept_updates, h, error), (false, handle("pool"), None));
            assert_eq!(policy, Some(Policy::ROUND_ROBIN));
            assert_eq!(ids(&elements), [1, 2, 3]);
            assert!(elements.iter().all(|e| e.home == Some(me()) && e.asap_transport.is_none()));
        }
        other => panic!("{other:?}"),
    }
    let weighted_link = world.client("10.0.0.1");
    assert_eq!(world.register(weighted_link, "w", &weighted(element(1, "10.0.0.1"), 4)), Ok(()));
    match world.ask(link, &resolution("w", None, false)) {
        AsapMessage::HandleResolutionResponse { policy: Some(policy), .. } => {
            assert_eq!(policy.policy_type(), PolicyType::WeightedRoundRobin);
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn answers_over_tcp_and_sctp_alike() {
    let mut world = World::new();
    pool_of(&mut world, "pool", "10.0.0.1", 1);
    let (tcp_user, sctp_user) = (world.client("10.0.0.2"), world.sctp_client(&["10.0.0.3"]));
    assert_eq!(world.resolve(tcp_user, "pool"), Some(vec![1]));
    assert_eq!(world.resolve(sctp_user, "pool"), Some(vec![1]));
}

#[test]
fn an_unknown_pool_is_refused_with_its_cause() {
    let mut world = World::new();
    let link = world.client("10.0.0.1");
    assert_eq!(world.resolve(link, "pool"), None);
    let counters = world.registrar.counters();
    assert_eq!((counters.resolutions, counters.unknown_pools), (1, 1));
}

#[test]
fn gives_as_many_as_asked_and_takes_turns() {
    let mut world = World::new();
    let link = pool_of(&mut world, "pool", "10.0.0.1", 3);
    let mut ask = |items| ids(&response(&mut world, link, &resolution("pool", Some(items), false)).1);
    assert_eq!(ask(2), [1, 2]);
    assert_eq!(ask(2), [2, 3]);
    assert_eq!(ask(0).len(), 3, "0 asks for no number");
    assert_eq!(ask(1_000).len(), 3);
}

#[test]
fn gives_the_configured_number_when_none_is_asked() {
    let mut world = World::with(RegistrarConfig { resolution_items: 2, ..config() }, Limits::default());
    let link = pool_of(&mut world, "pool", "10.0.0.1", 5);
    assert_eq!(world.resolve(link, "pool").map(|ids| ids.len()), Some(2));
    assert_eq!(response(&mut world, link, &resolution("pool", Some(4), false)).1.len(), 4);
}

#[test]
fn a_pool_too_large_for_one_message_is_told_in_turns() {
    let mut world = World::new();
    let link = world.client("10.0.0.1");
    for id in 1..=3_000 {
        // Who is listed counts as loaded, and the others come first next time.
        let policy = Policy::new(PolicyType::LeastUsedDegradation, &[0, 1_000_000]);
        assert_eq!(world.register(link, "pool", &PoolElement { policy, ..element(id, "10.0.0.1") }), Ok(()));
    }
    let mut seen = std::collections::BTreeSet::new();
    for round in 0..3 {
        let told = world.resolve(link, "pool").expect("a pool");
        assert!((1_000..1_500).contains(&told.len()), "{} elements in round {round}", told.len());
        seen.extend(told);
    }
    assert_eq!(seen.len(), 3_000, "nobody counts as selected who was not told");
}

#[test]
fn elements_of_very_different_size_never_exceed_a_message() {
    let mut world = World::with(config(), Limits { element_bytes: usize::MAX, ..Limits::default() });
    let link = world.client("10.0.0.1");
    for id in 1..=40 {
        let opaque = TransportAddress::Opaque(vec![1; if id == 1 { 1 } else { 8_000 }]);
        let element = PoolElement { user_transport: opaque, ..element(id, "10.0.0.1") };
        assert_eq!(world.register(link, "pool", &element), Ok(()));
    }
    for _ in 0..3 {
        let told = world.resolve(link, "pool").expect("a pool").len();
        assert!((8..=9).contains(&told), "{told}");
    }
}

#[test]
fn capabilities_go_only_to_who_showed_some() {
    let mut world = World::new();
    let link = world.client("10.0.0.1");
    assert_eq!(world.register(link, "pool", &ours(element(1, "10.0.0.1"))), Ok(()));
    let user = world.client("10.0.0.2");
    let plain = response(&mut world, user, &resolution("pool", None, false)).1;
    assert_eq!(plain[0].capabilities, None);
    let showing = AsapMessage::HandleResolution {
        subscribe: false,
        handle: handle("pool"),
        items: None,
        capabilities: Some(Capabilities::default()),
    };
    let told = response(&mut world, user, &showing).1;
    assert_eq!(told[0].capabilities, Some(Capabilities::TCP_CONTROL_CHANNEL));
}

#[test]
fn loopback_addresses_are_told_to_loopback_clients_only() {
    let mut world = World::with(RegistrarConfig { proxy_registration: true, ..config() }, Limits::default());
    let local = world.client("127.0.0.1");
    let remote = world.client("10.0.0.9");
    let at = |id, addresses: &[&str]| PoolElement {
        user_transport: sctp(addresses, 7, TransportUse::DataOnly),
        ..element(id, "10.0.0.1")
    };
    for element in [at(1, &["127.0.0.1"]), at(2, &["10.0.0.1"]), at(3, &["::1", "10.0.0.1"])] {
        assert_eq!(world.register(local, "pool", &element), Ok(()));
    }
    assert_eq!(world.register(local, "here", &element(1, "127.0.0.1")), Ok(()));

    assert_eq!(world.resolve(local, "pool"), Some(vec![1, 2, 3]));
    let (_, elements) = response(&mut world, remote, &resolution("pool", None, false));
    assert!(elements.iter().flat_map(|e| e.user_transport.addresses()).all(|a| !a.is_loopback()));
    assert_eq!(elements.len(), 2);

    assert_eq!(world.resolve(local, "here"), Some(vec![1]));
    assert_eq!(world.resolve(remote, "here"), None, "a pool with nobody one could reach");
}

#[test]
fn a_subscriber_is_told_each_change_others_are_not() {
    let mut world = World::new();
    let element_link = pool_of(&mut world, "pool", "10.0.0.1", 1);
    let (subscriber, other) = (world.client("10.0.0.2"), world.client("10.0.0.3"));
    assert!(subscribe(&mut world, subscriber, "pool"));
    assert!(!response(&mut world, other, &resolution("pool", None, false)).0, "not asked for");

    assert_eq!(world.register(element_link, "pool", &element(2, "10.0.0.1")), Ok(()));
    world.pass(ms(15));
    assert_eq!(updates(&mut world).len(), 1);
    assert_eq!(world.register(element_link, "else", &element(9, "10.0.0.1")), Ok(()));
    world.pass(ms(15));
    assert_eq!(updates(&mut world), [], "another pool");
    assert!(world.deregister(element_link, "pool", 1));
    world.pass(ms(15));
    assert_eq!(updates(&mut world), [(subscriber, Some(vec![2]))]);
}

#[test]
fn a_re_registration_is_told_only_if_it_changes_something() {
    let mut world = World::new();
    let link = world.client("10.0.0.1");
    assert_eq!(world.register(link, "pool", &weighted(element(1, "10.0.0.1"), 1)), Ok(()));
    assert!(subscribe(&mut world, link, "pool"));
    assert_eq!(world.register(link, "pool", &weighted(element(1, "10.0.0.1"), 1)), Ok(()));
    world.pass(ms(15));
    assert_eq!(updates(&mut world), []);
    assert_eq!(world.register(link, "pool", &weighted(element(1, "10.0.0.1"), 2)), Ok(()));
    world.pass(ms(15));
    assert_eq!(updates(&mut world).len(), 1);
}

#[test]
fn a_burst_of_changes_is_told_once() {
    let mut world = World::new();
    let link = pool_of(&mut world, "pool", "10.0.0.1", 1);
    let subscriber = world.client("10.0.0.2");
    assert!(subscribe(&mut world, subscriber, "pool"));
    for id in 2..=100 {
        assert_eq!(world.register(link, "pool", &element(id, "10.0.0.1")), Ok(()));
    }
    world.pass(ms(20));
    let told = updates(&mut world);
    assert_eq!(told.len(), 1);
    assert_eq!(told[0].1.as_ref().map(Vec::len), Some(100));
}

#[test]
fn updates_keep_to_the_number_asked_for() {
    let mut world = World::new();
    let link = pool_of(&mut world, "pool", "10.0.0.1", 5);
    assert!(response(&mut world, link, &resolution("pool", Some(2), true)).0);
    assert!(world.deregister(link, "pool", 1));
    world.pass(ms(15));
    assert_eq!(updates(&mut world)[0].1.as_ref().map(Vec::len), Some(2));
}

#[test]
fn many_subscribers_are_told_a_bounded_number_at_a_time_and_all_in_the_end() {
    let mut world = World::new();
    let link = pool_of(&mut world, "pool", "10.0.0.1", 2);
    for _ in 0..2_500 {
        let subscriber = world.client("127.0.0.1");
        assert!(subscribe(&mut world, subscriber, "pool"));
    }
    assert!(world.deregister(link, "pool", 1));
    let mut rounds = Vec::new();
    for _ in 0..4 {
        world.pass(ms(10));
        rounds.push(updates(&mut world).len());
    }
    assert_eq!(rounds, [1_000, 1_000, 500, 0]);
}

#[test]
fn subscribers_are_told_that_the_pool_is_gone_and_nothing_more() {
    let mut world = World::new();
    let link = pool_of(&mut world, "pool", "10.0.0.1", 1);
    let subscriber = world.client("10.0.0.2");
    assert!(subscribe(&mut world, subscriber, "pool"));
    assert!(world.deregister(link, "pool", 1));
    world.pass(ms(15));
    assert_eq!(updates(&mut world), [(subscriber, None)]);
    assert_eq!(world.register(link, "pool", &element(1, "10.0.0.1")), Ok(()));
    world.pass(ms(15));
    assert_eq!(updates(&mut world), [], "the pool of that name is another one");
}

#[test]
fn a_negative_answer_starts_no_updates() {
    let mut world = World::new();
    let (user, link) = (world.client("10.0.0.2"), world.client("10.0.0.1"));
    match world.ask(user, &resolution("pool", None, true)) {
        AsapMessage::HandleResolutionResponse { accept_updates, error: Some(_), .. } => {
            assert!(!accept_updates);
        }
        other => panic!("{other:?}"),
    }
    assert_eq!(world.register(link, "pool", &element(1, "10.0.0.1")), Ok(()));
    world.pass(ms(15));
    assert_eq!(updates(&mut world), []);
}

#[test]
fn updates_end_with_the_link_and_when_not_asked_for_again() {
    let mut world = World::new();
    let link = pool_of(&mut world, "pool", "10.0.0.1", 3);
    let (gone, tired) = (world.client("10.0.0.2"), world.client("10.0.0.3"));
    assert!(subscribe(&mut world, gone, "pool"));
    assert!(subscribe(&mut world, tired, "pool"));
    assert!(world.deregister(link, "pool", 1));
    world.down(gone);
    assert!(!response(&mut world, tired, &resolution("pool", None, false)).0);
    assert!(world.deregister(link, "pool", 2));
    world.pass(ms(15));
    assert_eq!((updates(&mut world), world.registrar.counters().updates_pushed), (vec![], 0));
}

#[test]
fn beyond_the_limit_updates_are_honestly_not_promised() {
    let limits = Limits { subscriptions_per_link: 1, ..Limits::default() };
    let mut world = World::with(config(), limits);
    let link = pool_of(&mut world, "a", "10.0.0.1", 1);
    pool_of(&mut world, "b", "10.0.0.1", 2);
    assert!(subscribe(&mut world, link, "a"));
    assert!(!subscribe(&mut world, link, "b"));
    assert!(subscribe(&mut world, link, "a"), "the one it has it keeps");
    assert_eq!(world.registrar.counters().subscriptions_refused, 1);
}

#[test]
fn a_remote_subscriber_hears_when_only_loopback_elements_are_left() {
    let mut world = World::new();
    let (local, remote) = (world.client("127.0.0.1"), pool_of(&mut world, "pool", "10.0.0.1", 1));
    assert_eq!(world.register(local, "pool", &element(2, "127.0.0.1")), Ok(()));
    assert!(subscribe(&mut world, remote, "pool"));
    assert!(world.deregister(remote, "pool", 1));
    world.pass(ms(15));
    assert_eq!(updates(&mut world), [(remote, None)]);
}

#[test]
fn changes_of_a_large_pool_are_told_no_faster_than_they_can_be_sent() {
    let mut world = World::new();
    let link = pool_of(&mut world, "pool", "10.0.0.1", 1_000);
    let subscribers = 40;
    for _ in 0..subscribers {
        let subscriber = world.client("127.0.0.1");
        assert!(subscribe(&mut world, subscriber, "pool"));
    }
    assert!(world.deregister(link, "pool", 1));
    world.done();
    let (mut told, mut most) = (0, 0);
    while told < subscribers {
        world.pass(ms(10));
        let updates = updates(&mut world);
        assert!(!updates.is_empty(), "all are told in the end");
        told += updates.len();
        most = most.max(updates.len());
    }
    // Some 40 KiB each, and 1 MiB every 10 ms.
    assert!(most <= 30, "{most} at once");
}
