//! The start (RFC 5353 3.2), and registrars that settle on one handlespace.

use super::cluster::*;
use super::*;
use crate::wire::{EnrpHeader, Introduction};

#[test]
fn a_lone_registrar_serves_at_once() {
    let mut cluster = Cluster::new(1, |_| vec![]);
    cluster.start(0);
    assert_eq!(cluster.registrar(0).standing(), Standing::Serving);
    cluster.register(0, "pool", &element(1, "10.1.0.1"));
    assert_eq!(cluster.held(0).len(), 1);
}

#[test]
fn a_registrar_whose_peers_are_not_there_serves_as_soon_as_they_refuse() {
    let mut cluster = Cluster::full(3);
    cluster.start(0);
    cluster.pass(ms(0));
    assert_eq!(cluster.registrar(0).standing(), Standing::Serving);
}

#[test]
fn a_registrar_whose_peers_do_not_answer_serves_within_a_second() {
    let mut cluster = Cluster::full(2);
    cluster.cut(0, 1);
    cluster.start(0);
    cluster.pass(ms(900));
    assert_eq!(cluster.registrar(0).standing(), Standing::Starting);
    cluster.pass(ms(150));
    assert_eq!(cluster.registrar(0).standing(), Standing::Serving);
}

#[test]
fn a_new_registrar_takes_list_and_table_from_its_mentor_and_then_serves() {
    let mut cluster = Cluster::new(3, |node| if node == 0 { vec![] } else { vec![0] });
    cluster.start(0);
    cluster.start(1);
    cluster.pass(ms(500));
    for n in 1..=700 {
        cluster.register(n as usize % 2, &format!("pool {}", n % 9), &element(n, "10.1.0.1"));
    }
    cluster.delivered.clear();
    cluster.start(2);
    assert_eq!(cluster.registrar(2).standing(), Standing::Serving);
    assert_eq!(cluster.expect_same().len(), 700);
    let pages = |message: &EnrpMessage| matches!(message, EnrpMessage::HandleTableResponse { .. });
    let sent: Vec<bool> = cluster
        .delivered
        .iter()
        .filter(|(from, to, message)| (*from, *to) == (0, 2) && pages(message))
        .map(|(_, _, message)| matches!(message, EnrpMessage::HandleTableResponse { more: true, .. }))
        .collect();
    assert!(sent.len() > 1 && sent[..sent.len() - 1].iter().all(|more| *more) && !sent[sent.len() - 1]);
    // The one it was told of is connected to, though not configured.
    cluster.pass(ms(10));
    assert_eq!(cluster.states(2), [(id(0), PeerState::Alive), (id(1), PeerState::Alive)]);
    assert!(cluster.events.contains(&(2, Event::Serving { mentor: Some(id(0)) })));
}

#[test]
fn three_started_in_the_same_instant_settle_on_one_handlespace() {
    let mut cluster = Cluster::full(3);
    for node in &mut cluster.nodes {
        node.up = true;
    }
    for node in 0..3 {
        cluster.input(node, Input::Timeout);
    }
    cluster.settle();
    cluster.pass(ms(1_000));
    cluster.expect_serving();
    let mentors: Vec<&Event> = cluster
        .events
        .iter()
        .map(|(_, event)| event)
        .filter(|event| matches!(event, Event::Serving { mentor: None }))
        .collect();
    assert_eq!(mentors.len(), 1, "one was first");
    for n in 0..30 {
        cluster.register(n as usize % 3, "pool", &element(n + 1, "10.1.0.1"));
    }
    assert_eq!(cluster.expect_same().len(), 30);
}

#[test]
fn a_slow_registrar_starts_among_fast_ones_that_are_heard_all_the_time() {
    let mut cluster = Cluster::full(3);
    let setup = cluster.setup(2);
    cluster.nodes[2].registrar =
        Registrar::new(RegistrarConfig::new(crate::config::Profile::Wan), Limits::default(), 2, setup);
    for node in &mut cluster.nodes {
        node.up = true;
    }
    for node in 0..3 {
        cluster.input(node, Input::Timeout);
    }
    cluster.settle();
    cluster.pass(ms(3_000));
    cluster.expect_serving();
}

/// A registrar that waits for the peer it is configured with, and the link of another.
fn starting() -> (World, LinkId) {
    let mut world =
        World::of(Registrar::new(config(), Limits::default(), 7, Setup { peers: vec![at(1)], ..setup() }));
    let link = world.incoming(Protocol::Enrp);
    world.up(link, LinkKind::Tcp, &["10.0.0.3"], None);
    (world, link)
}

#[test]
fn who_slept_while_starting_accuses_nobody_before_it_could_have_answered() {
    let (mut world, link) = starting();
    let introduction = Introduction {
        capabilities: Capabilities::default(),
        heartbeat: ms(200),
        incarnation: 1,
        digest: None,
        registrars: 0,
    };
    let presence = EnrpMessage::Presence {
        reply_required: false,
        header: EnrpHeader { sender: Some(id(2)), receiver: None },
        checksum: None,
        introduction: Some(introduction),
        server: None,
    };
    // One that it leaves a third to.
    let header = EnrpHeader { sender: Some(id(2)), receiver: None };
    let question = EnrpMessage::InitTakeover { header, target: Some(id(3)) };
    for message in [presence, question] {
        let bytes = message.encode(Dialect::Rfc).unwrap();
        world.input(Input::Message { link, channel: Channel::Enrp, bytes: &bytes, complete: true });
    }
    assert_eq!(world.registrar.counters().takeovers_yielded, 1);
    world.pass(ms(550));
    assert!(world.registrar.peers().any(|peer| peer.state == PeerState::Suspected));
    assert_eq!(world.registrar.standing(), Standing::Starting);
    world.now = world.now + ms(2_500);
    world.input(Input::Timeout);
    assert_eq!(world.registrar.standing(), Standing::Serving);
    let waits = config().max_time_no_response;
    world.pass(waits - ms(1));
    assert_eq!((world.registrar.counters().accusations, world.registrar.counters().takeovers_begun), (0, 0));
    world.pass(ms(2));
    assert_eq!(world.registrar.counters().accusations, 1);
}

#[test]
fn a_registrar_that_is_starting_hands_out_neither_list_nor_table() {
    let (mut world, link) = starting();
    let header = EnrpHeader { sender: Some(id(2)), receiver: None };
    for (request, rejected) in [
        (
            EnrpMessage::ListRequest { header },
            EnrpMessage::ListResponse { reject: true, header: to_third(), servers: vec![] },
        ),
        (
            EnrpMessage::HandleTableRequest { owned_only: false, header },
            EnrpMessage::HandleTableResponse { more: false, reject: true, header: to_third(), pools: vec![] },
        ),
    ] {
        world.done();
        let bytes = request.encode(Dialect::Rfc).unwrap();
        world.input(Input::Message { link, channel: Channel::Enrp, bytes: &bytes, complete: true });
        assert!(world.done().contains(&Done::Enrp(link, rejected)));
    }
}

fn to_third() -> EnrpHeader {
    EnrpHeader { sender: Some(me()), receiver: Some(id(2)) }
}

#[test]
fn a_mentor_that_dies_in_the_middle_of_the_table_is_replaced() {
    let mut cluster = Cluster::running(2);
    for n in 1..=900 {
        cluster.register(0, &format!("pool {}", n % 7), &element(n, "10.1.0.1"));
    }
    let peers = vec![at(0), at(1)];
    cluster.add(Setup { id: id(2), enrp: vec![tcp(&address(2), 9901)], peers, ..setup() });
    // Up to the first page from its first mentor, then that one dies.
    cluster.nodes[2].up = true;
    cluster.input(2, Input::Timeout);
    while !cluster
        .delivered
        .iter()
        .any(|(_, to, message)| *to == 2 && matches!(message, EnrpMessage::HandleTableResponse { .. }))
    {
        assert!(cluster.step());
    }
    let (mentor, ..) = *cluster.delivered.last().expect("a page");
    cluster.kill(mentor);
    cluster.pass(ms(100));
    assert_eq!(cluster.registrar(2).standing(), Standing::Serving);
    assert_eq!(cluster.held(2).len(), 900);
    assert_eq!(cluster.registrar(2).counters().mentors_lost, 1);
}

#[test]
fn registrars_find_each_other_by_announcement() {
    let mut cluster = Cluster::new(3, |_| vec![]);
    for node in 0..3 {
        cluster.announce(node);
        cluster.start(node);
        cluster.pass(ms(10));
    }
    cluster.pass(ms(400));
    cluster.expect_serving();
    cluster.register(0, "pool", &element(1, "10.1.0.1"));
    assert_eq!(cluster.expect_same().len(), 1);
    for node in 0..3 {
        assert_eq!(cluster.states(node).len(), 2);
    }
}

#[test]
fn what_endpoints_say_while_it_starts_is_answered_when_it_serves() {
    let mut cluster = Cluster::full(2);
    cluster.cut(0, 1);
    cluster.start(0);
    let link = cluster.register(0, "pool", &element(1, "10.1.0.1"));
    assert_eq!((cluster.asap.len(), cluster.held(0).len()), (0, 0));
    cluster.pass(ms(1_100));
    assert!(matches!(
        cluster.asap.as_slice(),
        [(0, to, AsapMessage::RegistrationResponse { reject: false, .. }), ..] if *to == link
    ));
}

#[test]
fn two_of_one_identifier_end_with_two() {
    let mut cluster = Cluster::full(2);
    cluster.identify(1, id(0));
    cluster.start(0);
    cluster.pass(ms(10));
    cluster.start(1);
    cluster.pass(ms(500));
    cluster.expect_serving();
    let ids = [cluster.registrar(0).id(), cluster.registrar(1).id()];
    assert_ne!(ids[0], ids[1]);
    assert!(ids.contains(&id(0)), "the first keeps it");
    cluster.register(0, "pool", &element(1, "10.1.0.1"));
    cluster.register(1, "pool", &element(2, "10.1.0.2"));
    assert_eq!(cluster.expect_same().len(), 2);
}

#[test]
fn two_of_one_identifier_that_see_only_a_third_end_with_two() {
    let mut cluster = Cluster::full(3);
    cluster.identify(2, id(1));
    cluster.cut(1, 2);
    for node in 0..3 {
        cluster.start(node);
    }
    cluster.pass(ms(2_000));
    assert_ne!(cluster.registrar(1).id(), cluster.registrar(2).id());
    assert_eq!(cluster.registrar(0).live_peers().len(), 2);
}

#[test]
fn a_registrar_configured_as_its_own_peer_gives_that_up() {
    let mut cluster = Cluster::new(1, |_| vec![0]);
    cluster.start(0);
    cluster.pass(ms(3_000));
    assert_eq!(cluster.registrar(0).standing(), Standing::Serving);
    assert_eq!((cluster.registrar(0).id(), cluster.registrar(0).peers().count()), (id(0), 0));
    assert!(cluster.registrar(0).counters().enrp_messages < 10);
}

#[test]
fn two_that_start_at_the_same_time_with_one_mentor_learn_of_each_other() {
    let mut cluster = Cluster::new(3, |node| if node == 0 { vec![] } else { vec![0] });
    cluster.start(0);
    for node in 1..3 {
        cluster.nodes[node].up = true;
        cluster.input(node, Input::Timeout);
    }
    cluster.settle();
    cluster.pass(ms(900));
    for node in 0..3 {
        assert_eq!(cluster.registrar(node).live_peers().len(), 2, "{node}");
    }
    // And are content with that.
    cluster.delivered.clear();
    cluster.pass(ms(3_000));
    assert!(cluster.delivered.iter().all(|(_, _, message)| matches!(message, EnrpMessage::Presence { .. })));
}

#[test]
fn a_mentor_that_does_not_answer_is_left_for_another() {
    let peers = vec![at(1), at(2)];
    let mut world = World::of(Registrar::new(config(), Limits::default(), 7, Setup { peers, ..setup() }));
    world.pass(ms(0));
    let connects: Vec<LinkId> = world
        .done()
        .into_iter()
        .filter_map(|done| if let Done::Connect(link, _) = done { Some(link) } else { None })
        .collect();
    for (link, node) in connects.iter().zip([1, 2]) {
        world.up(*link, LinkKind::Tcp, &[&address(node)], None);
        let presence = EnrpMessage::Presence {
            reply_required: false,
            header: EnrpHeader { sender: Some(id(node)), receiver: None },
            checksum: None,
            introduction: None,
            server: None,
        };
        let bytes = presence.encode(Dialect::Rfc).unwrap();
        world.input(Input::Message { link: *link, channel: Channel::Enrp, bytes: &bytes, complete: true });
    }
    let asked = |world: &mut World| -> Vec<LinkId> {
        let lists = |done| match done {
            Done::Enrp(link, EnrpMessage::ListRequest { .. }) => Some(link),
            _ => None,
        };
        world.done().into_iter().filter_map(lists).collect()
    };
    assert_eq!(asked(&mut world), [connects[0]]);
    world.pass(ms(240));
    assert_eq!(asked(&mut world), []);
    world.pass(ms(20));
    assert_eq!(asked(&mut world), [connects[1]]);
}
