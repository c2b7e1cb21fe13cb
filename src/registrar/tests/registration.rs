//! RFC 5352 3.1 and 3.2.

use super::*;
use crate::wire;

fn causes_of(world: &mut World, link: LinkId, pool: &str, element: &PoolElement) -> (bool, Vec<ErrorCause>) {
    match world.ask(link, &registration(pool, element)) {
        AsapMessage::RegistrationResponse { reject, error, .. } => (reject, error.unwrap_or_default()),
        other => panic!("not a registration response: {other:?}"),
    }
}

#[test]
fn first_element_makes_the_pool_and_belongs_to_this_registrar() {
    let mut world = World::new();
    let link = world.client("10.0.0.1");
    assert_eq!(world.register(link, "pool", &element(1, "10.0.0.1")), Ok(()));
    let kept = world.element("pool", 1);
    assert_eq!((kept.home, &kept.user_transport), (Some(me()), &tcp("10.0.0.1", 7)));
    assert_eq!(kept.asap_transport, Some(tcp("10.0.0.1", 3_000)));
    let traits = world.registrar.handlespace().traits(&handle("pool")).unwrap();
    assert_eq!(traits.policy_type, PolicyType::RoundRobin);
    assert_eq!(world.registrar.handlespace().count(Some(me())), 1);
    assert_eq!(world.events(), [Event::Added { handle: handle("pool"), element: PeId(1) }]);
    assert_eq!(world.registrar.counters().registrations, 1);
}

#[test]
fn further_elements_join_the_pool() {
    let mut world = World::new();
    let (a, b) = (world.client("10.0.0.1"), world.client("10.0.0.2"));
    assert_eq!(world.register(a, "pool", &element(1, "10.0.0.1")), Ok(()));
    assert_eq!(world.register(b, "pool", &element(2, "10.0.0.2")), Ok(()));
    assert_eq!(world.resolve(a, "pool"), Some(vec![1, 2]));
}

#[test]
fn rejects_an_element_with_another_policy_and_names_the_pools() {
    let mut world = World::new();
    let link = world.client("10.0.0.1");
    let first = weighted(element(1, "10.0.0.1"), 5);
    assert_eq!(world.register(link, "pool", &first), Ok(()));
    let (reject, causes) = causes_of(&mut world, link, "pool", &element(2, "10.0.0.1"));
    assert_eq!((reject, causes), (true, vec![wire::inconsistent_policy(&first.policy)]));
    assert!(!world.has("pool", 2));
    assert!(matches!(world.events().last(), Some(Event::Refused { element: PeId(2), .. })));
}

#[test]
fn rejects_an_element_with_another_transport_and_names_the_pools() {
    let mut world = World::new();
    let link = world.client("10.0.0.1");
    assert_eq!(world.register(link, "pool", &element(1, "10.0.0.1")), Ok(()));
    let user_transport = TransportAddress::Udp { port: 7, address: ip("10.0.0.1") };
    let other = PoolElement { user_transport, ..element(2, "10.0.0.1") };
    let (reject, causes) = causes_of(&mut world, link, "pool", &other);
    assert_eq!((reject, causes), (true, vec![wire::inconsistent_transport(&tcp("10.0.0.1", 7))]));
}

#[test]
fn rejects_an_element_with_another_data_control_configuration() {
    let mut world = World::new();
    let link = world.sctp_client(&["10.0.0.1"]);
    let with_use = |id, transport_use| PoolElement {
        user_transport: sctp(&["10.0.0.1"], 7, transport_use),
        ..element(id, "10.0.0.1")
    };
    assert_eq!(world.register(link, "pool", &with_use(1, TransportUse::DataPlusControl)), Ok(()));
    assert_eq!(
        world.register(link, "pool", &with_use(2, TransportUse::DataOnly)),
        Err(vec![CauseCode::InconsistentDataControlConfiguration])
    );
}

#[test]
fn re_registration_passes_the_same_tests_and_replaces_the_values() {
    let mut world = World::new();
    let link = world.client("10.0.0.1");
    assert_eq!(world.register(link, "pool", &weighted(element(1, "10.0.0.1"), 5)), Ok(()));
    assert_eq!(world.register(link, "pool", &weighted(element(1, "10.0.0.1"), 9)), Ok(()));
    assert_eq!(world.element("pool", 1).policy.words(), [9]);
    assert_eq!(
        world.register(link, "pool", &element(1, "10.0.0.1")),
        Err(vec![CauseCode::InconsistentPoolingPolicy])
    );
    assert_eq!(world.element("pool", 1).policy.words(), [9], "a refused re-registration changes nothing");
    assert_eq!(world.registrar.counters().reregistrations, 1);
}

#[test]
fn rejects_invalid_values_and_gives_them_back() {
    let link_address = "10.0.0.1";
    let good = element(1, link_address);
    let with_transport = |user_transport| PoolElement { user_transport, ..good.clone() };
    let bad = [
        PoolElement { id: PeId(0), ..good.clone() },
        PoolElement { life: RegistrationLife::Seconds(0), ..good.clone() },
        with_transport(tcp(link_address, 0)),
        with_transport(tcp("0.0.0.0", 7)),
        with_transport(tcp("::", 7)),
        with_transport(tcp("224.0.1.185", 7)),
        with_transport(tcp("ff02::1", 7)),
        with_transport(tcp("255.255.255.255", 7)),
        with_transport(tcp("::ffff:0.0.0.0", 7)),
        with_transport(tcp("10.0.0.2", 7)),
        PoolElement { asap_transport: Some(tcp("10.0.0.2", 3_000)), ..good.clone() },
        PoolElement { asap_transport: Some(tcp(link_address, 0)), ..good.clone() },
    ];
    let proxy = RegistrarConfig { proxy_registration: true, ..config() };
    for (index, element) in bad.iter().enumerate() {
        let mut world = World::new();
        let link = world.client(link_address);
        let (reject, causes) = causes_of(&mut world, link, "pool", element);
        assert!(reject, "{element:?}");
        assert_eq!(causes, [wire::invalid_element(element)]);
        assert!(!world.has("pool", element.id.0));
        // Only the rule about the link's addresses falls with the proxy option.
        let foreign = index == 9 || index == 10;
        let mut world = World::with(proxy.clone(), Limits::default());
        let link = world.client(link_address);
        assert_eq!(world.register(link, "pool", element).is_ok(), foreign, "{element:?}");
    }
}

#[test]
fn rejects_an_asap_transport_other_than_tcp_over_tcp() {
    let mut world = World::new();
    let link = world.client("10.0.0.1");
    let asap_transport = Some(sctp(&["10.0.0.1"], 3_000, TransportUse::DataOnly));
    let bad = PoolElement { asap_transport, ..element(1, "10.0.0.1") };
    assert_eq!(world.register(link, "pool", &bad), Err(vec![CauseCode::InvalidValues]));
}

#[test]
fn keeps_of_several_addresses_those_of_the_link_and_warns() {
    let mut world = World::new();
    let link = world.sctp_client(&["10.0.0.1", "10.1.0.1"]);
    let use_ = TransportUse::DataPlusControl;
    let all = sctp(&["10.0.0.1", "192.168.0.1", "10.1.0.1"], 7, use_);
    let registered = PoolElement { user_transport: all, ..element(1, "10.0.0.1") };
    let (reject, causes) = causes_of(&mut world, link, "pool", &registered);
    assert_eq!((reject, causes), (false, vec![wire::invalid_element(&registered)]));
    assert_eq!(world.element("pool", 1).user_transport, sctp(&["10.0.0.1", "10.1.0.1"], 7, use_));

    let none = PoolElement { user_transport: sctp(&["192.168.0.1"], 7, use_), ..element(2, "10.0.0.1") };
    assert_eq!(world.register(link, "pool", &none), Err(vec![CauseCode::InvalidValues]));
}

#[test]
fn over_sctp_records_where_the_registration_came_from() {
    let mut world = World::new();
    let link = world.sctp_client(&["10.0.0.1", "10.1.0.1"]);
    assert_eq!(world.register(link, "pool", &element(1, "10.1.0.1")), Ok(()));
    let recorded = sctp(&["10.0.0.1", "10.1.0.1"], 40_000, TransportUse::DataOnly);
    assert_eq!(world.element("pool", 1).asap_transport, Some(recorded));
}

#[test]
fn knows_an_ipv4_address_in_ipv6_clothes() {
    let mut world = World::new();
    let link = world.client("::ffff:10.0.0.1");
    assert_eq!(world.register(link, "pool", &element(1, "10.0.0.1")), Ok(()));
    let link = world.client("10.0.0.1");
    assert_eq!(world.register(link, "pool", &element(2, "::ffff:10.0.0.1")), Ok(()));
    assert_eq!(world.element("pool", 2).user_transport, tcp("10.0.0.1", 7));
}

#[test]
fn from_loopback_all_loopback_addresses_can_be_registered_and_no_others() {
    let mut world = World::new();
    let refused = Err(vec![CauseCode::InvalidValues]);
    let (link, v6, mixed) =
        (world.client("127.0.0.1"), world.client("::1"), world.sctp_client(&["127.0.0.1", "10.0.0.1"]));
    assert_eq!(world.register(link, "pool", &element(1, "10.0.0.1")), refused);
    assert_eq!(world.register(mixed, "pool", &element(1, "127.0.0.2")), refused, "it may be another machine");
    for address in ["127.0.0.1", "127.0.0.2", "::1", "::ffff:127.0.0.3"] {
        assert_eq!(world.register(link, "pool", &element(1, address)), Ok(()), "{address}");
    }
    assert_eq!(world.register(v6, "pool", &element(2, "127.0.0.2")), Ok(()));
    // Nobody else's address is one of these.
    let far = world.client("10.0.0.1");
    assert_eq!(world.register(far, "pool", &element(3, "127.0.0.2")), refused);
    // Who has lost its link goes from wherever it can.
    world.down(link);
    assert!(!world.deregister(far, "pool", 1));
    assert!(world.deregister(v6, "pool", 1));
}

#[test]
fn rejects_for_lack_of_resources_beyond_its_limits() {
    let limits = Limits { pools: 2, elements_per_pool: 2, elements: 3, ..Limits::default() };
    let mut world = World::with(config(), limits);
    let link = world.client("10.0.0.1");
    let full = Err(vec![CauseCode::LackOfResources]);
    assert_eq!(world.register(link, "a", &element(1, "10.0.0.1")), Ok(()));
    assert_eq!(world.register(link, "a", &element(2, "10.0.0.1")), Ok(()));
    assert_eq!(world.register(link, "a", &element(3, "10.0.0.1")), full);
    assert_eq!(world.register(link, "b", &element(1, "10.0.0.1")), Ok(()));
    assert_eq!(world.register(link, "c", &element(1, "10.0.0.1")), full);
    assert_eq!(world.register(link, "b", &element(2, "10.0.0.1")), full);
    assert_eq!(world.register(link, "a", &element(2, "10.0.0.1")), Ok(()), "who is in may renew");
    assert_eq!(world.registrar.counters().refusals, 3);
}

#[test]
fn rejects_a_handle_over_the_limit() {
    let limits = Limits { handle_bytes: 8, ..Limits::default() };
    let mut world = World::with(config(), limits);
    let link = world.client("10.0.0.1");
    assert_eq!(world.register(link, "12345678", &element(1, "10.0.0.1")), Ok(()));
    assert_eq!(
        world.register(link, "123456789", &element(1, "10.0.0.1")),
        Err(vec![CauseCode::InvalidValues])
    );
}

#[test]
fn rejects_an_element_too_long_to_be_told() {
    let mut world = World::with(config(), Limits { element_bytes: usize::MAX, ..Limits::default() });
    let link = world.client("10.0.0.1");
    let opaque = |id, len| PoolElement {
        user_transport: TransportAddress::Opaque(vec![9; len]),
        ..element(id, "10.0.0.1")
    };
    assert_eq!(world.register(link, "pool", &opaque(1, 65_400)), Ok(()));
    assert_eq!(world.resolve(link, "pool"), Some(vec![1]));
    assert_eq!(world.register(link, "pool", &opaque(2, 65_460)), Err(vec![CauseCode::InvalidValues]));
}

#[test]
fn another_element_with_the_same_identifier_is_rejected_while_the_first_is_linked() {
    let mut world = World::new();
    let (first, second) = (world.client("10.0.0.1"), world.client("10.0.0.2"));
    assert_eq!(world.register(first, "pool", &element(1, "10.0.0.1")), Ok(()));
    assert_eq!(world.register(second, "pool", &element(1, "10.0.0.2")), Err(vec![CauseCode::NonUniquePeId]));
    assert_eq!(world.element("pool", 1).user_transport, tcp("10.0.0.1", 7));
    world.down(first);
    assert_eq!(world.register(second, "pool", &element(1, "10.0.0.2")), Ok(()), "its link is lost");
}

#[test]
fn the_same_element_may_change_its_link() {
    for changed in [
        element(1, "10.0.0.1"),
        // Another user transport, but the same endpoint: same addresses, same ASAP transport.
        PoolElement { user_transport: tcp("10.0.0.1", 8), ..element(1, "10.0.0.1") },
    ] {
        let mut world = World::new();
        let (old, new) = (world.client("10.0.0.1"), world.client("10.0.0.1"));
        assert_eq!(world.register(old, "pool", &element(1, "10.0.0.1")), Ok(()));
        assert_eq!(world.register(new, "pool", &changed), Ok(()));
        world.done();
        world.down(old);
        assert_eq!(world.done(), [], "the link left behind does not matter any more");
        world.pass(ms(450));
        assert_eq!(world.keep_alives().first().map(|(link, _)| *link), Some(new));
    }
}

#[test]
fn an_element_that_proved_an_identity_is_renewed_by_it_alone() {
    let mut world = World::new();
    let alice = world.identified("10.0.0.1", "alice");
    assert_eq!(world.register(alice, "pool", &element(1, "10.0.0.1")), Ok(()));
    world.down(alice);
    let (mallory, nobody) = (world.identified("10.0.0.1", "mallory"), world.client("10.0.0.1"));
    for other in [mallory, nobody] {
        assert_eq!(
            world.register(other, "pool", &element(1, "10.0.0.1")),
            Err(vec![CauseCode::NonUniquePeId])
        );
    }
    let alice = world.identified("10.0.0.1", "alice");
    assert_eq!(world.register(alice, "pool", &element(1, "10.0.0.1")), Ok(()));
}

#[test]
fn answers_with_its_capabilities_only_to_who_showed_some() {
    let mut world = World::new();
    let link = world.client("10.0.0.1");
    for (element, expected) in
        [(element(1, "10.0.0.1"), None), (ours(element(2, "10.0.0.1")), Some(Capabilities::default()))]
    {
        match world.ask(link, &registration("pool", &element)) {
            AsapMessage::RegistrationResponse { reject: false, capabilities, .. } => {
                assert_eq!(capabilities, expected);
            }
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn deregistration_takes_the_element_out_and_the_pool_with_the_last() {
    let mut world = World::new();
    let link = world.client("10.0.0.1");
    assert_eq!(world.register(link, "pool", &element(1, "10.0.0.1")), Ok(()));
    assert_eq!(world.register(link, "pool", &element(2, "10.0.0.1")), Ok(()));
    assert!(world.deregister(link, "pool", 1));
    assert_eq!(world.resolve(link, "pool"), Some(vec![2]));
    assert!(world.deregister(link, "pool", 2));
    assert_eq!(world.registrar.handlespace().pools().count(), 0);
    assert_eq!(world.removed(), [(1, Removal::Deregistered), (2, Removal::Deregistered)]);
    world.done();
    world.pass(Duration::from_secs(400));
    assert_eq!(world.done(), [], "nothing is due of an element that has left");
}

#[test]
fn deregistration_of_an_unknown_element_is_granted() {
    let mut world = World::new();
    let link = world.client("10.0.0.1");
    assert!(world.deregister(link, "pool", 1));
    assert_eq!(world.removed(), []);
}

#[test]
fn nobody_deregisters_an_element_whose_link_stands_but_itself() {
    let mut world = World::new();
    let (own, other) = (world.client("10.0.0.1"), world.client("10.0.0.1"));
    assert_eq!(world.register(own, "pool", &element(1, "10.0.0.1")), Ok(()));
    assert!(!world.deregister(other, "pool", 1), "not even from the same address");
    assert!(world.has("pool", 1));
    assert_eq!(world.registrar.counters().deregistrations_refused, 1);
    assert!(world.deregister(own, "pool", 1));
}

#[test]
fn an_element_that_lost_its_link_is_deregistered_from_its_own_address_only() {
    let mut world = World::new();
    let own = world.client("10.0.0.1");
    assert_eq!(world.register(own, "pool", &element(1, "10.0.0.1")), Ok(()));
    world.down(own);
    let (stranger, same) = (world.client("10.0.0.2"), world.client("10.0.0.1"));
    assert!(!world.deregister(stranger, "pool", 1));
    assert!(world.deregister(same, "pool", 1));
}

#[test]
fn an_element_with_identity_that_lost_its_link_is_deregistered_by_that_identity_only() {
    let mut world = World::new();
    let alice = world.identified("10.0.0.1", "alice");
    assert_eq!(world.register(alice, "pool", &element(1, "10.0.0.1")), Ok(()));
    world.down(alice);
    let (nobody, bob) = (world.client("10.0.0.1"), world.identified("10.0.0.1", "bob"));
    assert!(!world.deregister(nobody, "pool", 1));
    assert!(!world.deregister(bob, "pool", 1));
    let alice = world.identified("10.0.0.9", "alice");
    assert!(world.deregister(alice, "pool", 1));
}

#[test]
fn a_link_an_element_has_left_by_deregistering_does_not_concern_it_any_more() {
    let mut world = World::new();
    let (old, new) = (world.client("10.0.0.1"), world.client("10.0.0.1"));
    assert_eq!(world.register(old, "pool", &element(1, "10.0.0.1")), Ok(()));
    assert!(world.deregister(old, "pool", 1));
    assert_eq!(world.register(new, "pool", &element(1, "10.0.0.1")), Ok(()));
    world.done();
    world.down(old);
    assert_eq!(world.done(), [], "not probed");
}

#[test]
fn two_elements_of_one_machine_without_asap_transport_are_two() {
    let mut world = World::new();
    let (first, second) = (world.client("127.0.0.1"), world.client("127.0.0.1"));
    let at = |port| PoolElement {
        user_transport: tcp("127.0.0.1", port),
        asap_transport: None,
        ..element(1, "127.0.0.1")
    };
    assert_eq!(world.register(first, "pool", &at(7)), Ok(()));
    assert_eq!(world.register(second, "pool", &at(8)), Err(vec![CauseCode::NonUniquePeId]));
}

#[test]
fn nobody_takes_over_an_opaque_element_from_another_machine_while_its_link_stands() {
    let mut world = World::new();
    let owner = world.client("10.0.0.1");
    let user_transport = TransportAddress::Opaque(b"somewhere".to_vec());
    let opaque = PoolElement { user_transport, asap_transport: None, ..element(1, "10.0.0.1") };
    assert_eq!(world.register(owner, "pool", &opaque), Ok(()));
    let stranger = world.client("10.0.0.66");
    assert_eq!(world.register(stranger, "pool", &opaque), Err(vec![CauseCode::NonUniquePeId]));
    assert!(!world.deregister(stranger, "pool", 1));
    // The same machine on a new link, before the old one is known to be lost.
    let again = world.client("10.0.0.1");
    assert_eq!(world.register(again, "pool", &opaque), Ok(()));
}

#[test]
fn refuses_an_element_larger_than_the_limit() {
    let mut world = World::new();
    let link = world.client("10.0.0.1");
    let opaque = |len| {
        let user_transport = TransportAddress::Opaque(vec![7; len]);
        PoolElement { user_transport, ..element(1, "10.0.0.1") }
    };
    let limit = Limits::default().element_bytes;
    assert_eq!(world.register(link, "pool", &opaque(limit)), Err(vec![CauseCode::LackOfResources]));
    assert_eq!(world.register(link, "pool", &opaque(limit / 2)), Ok(()));
}
