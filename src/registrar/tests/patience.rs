//! Whether peers are there (RFC 5353 3.4.3), and doubt.

use super::cluster::*;
use super::*;
use crate::config::Profile;
use crate::wire::EnrpHeader;

fn state(cluster: &Cluster, node: usize, of: usize) -> Option<PeerState> {
    cluster.states(node).into_iter().find(|(server, _)| *server == id(of)).map(|(_, state)| state)
}

#[test]
fn a_peer_that_is_heard_is_never_suspected() {
    let mut cluster = Cluster::running(3);
    cluster.pass(Duration::from_secs(60));
    for node in 0..3 {
        assert_eq!(cluster.registrar(node).counters().suspicions, 0);
        assert_eq!(cluster.registrar(node).live_peers().len(), 2);
    }
}

#[test]
fn a_silent_peer_is_asked_after_its_patience_and_accused_when_it_does_not_answer() {
    let mut cluster = Cluster::running(2);
    let cut_at = cluster.now;
    cluster.cut(0, 1);
    cluster.delivered.clear();
    while state(&cluster, 0, 1) == Some(PeerState::Alive) {
        cluster.pass(ms(10));
    }
    let suspected = cluster.now.since(cut_at);
    assert!((ms(300)..=ms(520)).contains(&suspected), "{suspected:?}");
    assert_eq!(cluster.registrar(0).counters().accusations, 0);
    cluster.pass(ms(260));
    assert_eq!(cluster.registrar(0).counters().accusations, 1);
}

#[test]
fn a_lost_link_shortens_the_patience_to_the_time_an_answer_takes() {
    let mut cluster = Cluster::running(2);
    cluster.kill(1);
    assert_eq!(state(&cluster, 0, 1), Some(PeerState::Suspected));
    cluster.pass(ms(240));
    assert_eq!(cluster.registrar(0).counters().accusations, 0);
    cluster.pass(ms(20));
    assert_eq!(cluster.registrar(0).counters().accusations, 1);
}

#[test]
fn a_lost_link_that_comes_back_is_no_reason_to_accuse() {
    let mut cluster = Cluster::running(2);
    cluster.heal(0, 1);
    cluster.pass(ms(500));
    assert_eq!(state(&cluster, 0, 1), Some(PeerState::Alive));
    assert_eq!(cluster.registrar(0).counters().accusations, 0);
}

#[test]
fn a_peer_of_a_slower_profile_is_given_its_time() {
    let slow = RegistrarConfig::new(Profile::Rfc);
    let mut cluster = Cluster::full(2);
    cluster.configure(1, slow);
    cluster.start(0);
    cluster.pass(ms(10));
    cluster.start(1);
    cluster.pass(Duration::from_secs(120));
    assert_eq!(cluster.registrar(0).counters().suspicions, 0);
    cluster.cut(0, 1);
    cluster.pass(Duration::from_secs(85));
    assert_eq!(cluster.registrar(0).counters().accusations, 1);
}

#[test]
fn a_peer_that_is_not_ours_is_given_the_time_of_the_rfc_until_it_has_been_gauged() {
    let mut cluster = Cluster::running(1);
    let link = cluster.stranger(0, "10.9.0.1");
    let header = EnrpHeader { sender: Some(server_id(0xf000)), receiver: None };
    let presence = EnrpMessage::Presence {
        reply_required: false,
        header,
        checksum: None,
        introduction: None,
        server: None,
    };
    let bytes = presence.encode(Dialect::Rfc).unwrap();
    let say = |cluster: &mut Cluster| {
        cluster.give(0, Input::Message { link, channel: Channel::Enrp, bytes: &bytes, complete: true });
    };
    say(&mut cluster);
    cluster.pass(Duration::from_secs(59));
    assert_eq!(cluster.registrar(0).counters().suspicions, 0);
    // Then every second: two and a half of them are enough.
    for _ in 0..200 {
        cluster.pass(ms(1_000));
        say(&mut cluster);
    }
    assert_eq!(cluster.registrar(0).counters().suspicions, 0);
    cluster.pass(ms(2_600));
    assert_eq!(cluster.registrar(0).counters().suspicions, 1);
    assert_eq!(cluster.registrar(0).counters().accusations, 0);
    cluster.pass(ms(5_000));
    assert_eq!(cluster.registrar(0).counters().accusations, 1);
}

#[test]
fn two_links_between_a_pair_are_kept_and_each_sends_on_the_one_of_the_lower_identifier() {
    let mut cluster = Cluster::full(2);
    for node in 0..2 {
        cluster.nodes[node].up = true;
    }
    for node in 0..2 {
        cluster.input(node, Input::Timeout);
    }
    cluster.settle();
    cluster.pass(ms(500));
    let links = |cluster: &Cluster, node: usize| {
        cluster.nodes[node].registrar.peers.find(id(1 - node)).expect("known").links.len()
    };
    assert_eq!((links(&cluster, 0), links(&cluster, 1)), (2, 2));
    assert!(!cluster.registrar(0).link_to(id(1)).expect("a link").is_incoming());
    assert!(cluster.registrar(1).link_to(id(0)).expect("a link").is_incoming());
    // One heartbeat is one presence.
    cluster.delivered.clear();
    cluster.pass(ms(1_000));
    assert_eq!(cluster.delivered.len(), 10);
}

#[test]
fn both_sides_of_a_long_partition_find_each_other_again() {
    let mut cluster = Cluster::new(3, |node| if node == 0 { vec![] } else { vec![0] });
    for node in 0..3 {
        cluster.start(node);
        cluster.pass(ms(100));
    }
    cluster.pass(ms(500));
    // 1 and 2 know each other by 0 only, which dies; then each is alone.
    cluster.kill(0);
    cluster.cut(1, 2);
    cluster.pass(Duration::from_secs(30));
    cluster.heal(1, 2);
    cluster.pass(Duration::from_secs(11));
    assert_eq!(state(&cluster, 1, 2), Some(PeerState::Alive));
    assert_eq!(state(&cluster, 2, 1), Some(PeerState::Alive));
}

#[test]
fn a_registrar_that_slept_doubts_itself_and_accuses_nobody_who_answers() {
    let mut cluster = Cluster::running(3);
    // The other two go on; only this one is not woken.
    cluster.nodes[0].up = false;
    cluster.pass(ms(20_000));
    cluster.nodes[0].up = true;
    cluster.input(0, Input::Timeout);
    assert_eq!(cluster.registrar(0).standing(), Standing::Doubting);
    cluster.settle();
    assert_eq!(cluster.registrar(0).standing(), Standing::Serving);
    cluster.pass(ms(2_000));
    let counters = cluster.registrar(0).counters();
    assert_eq!((counters.doubts, counters.accusations), (1, 0));
}

#[test]
fn doubt_after_sleep_ends_by_itself_and_then_the_dead_are_accused() {
    let mut cluster = Cluster::running(2);
    cluster.nodes[0].up = false;
    cluster.pass(ms(5_000));
    cluster.cut(0, 1);
    cluster.nodes[0].up = true;
    cluster.input(0, Input::Timeout);
    cluster.pass(ms(700));
    assert_eq!(cluster.registrar(0).standing(), Standing::Doubting);
    assert_eq!(cluster.registrar(0).counters().accusations, 0);
    cluster.pass(ms(600));
    assert_eq!(cluster.registrar(0).standing(), Standing::Serving);
    assert_eq!(cluster.registrar(0).counters().accusations, 1);
}

#[test]
fn a_lone_registrar_does_not_doubt() {
    let mut cluster = Cluster::new(1, |_| vec![]);
    cluster.start(0);
    cluster.register(0, "pool", &element(1, "10.1.0.1"));
    cluster.nodes[0].up = false;
    cluster.pass(ms(20_000));
    cluster.nodes[0].up = true;
    cluster.input(0, Input::Timeout);
    assert_eq!(cluster.registrar(0).counters().doubts, 0);
}

#[test]
fn mass_silence_of_elements_while_the_peers_are_silent_is_ones_own_trouble_for_ten_seconds() {
    let mut cluster = Cluster::running(2);
    for n in 1..=20 {
        cluster.register(0, "pool", &element(n, "10.1.0.1"));
    }
    cluster.pass_alive(ms(2_000));
    cluster.cut(0, 1);
    // From now on nobody acknowledges anything.
    cluster.pass(ms(5_000));
    assert_eq!(cluster.registrar(0).standing(), Standing::Doubting);
    let counters = cluster.registrar(0).counters();
    assert_eq!((counters.unreachable, counters.accusations), (0, 0));
    assert_eq!(cluster.held(0).len(), 20);
    cluster.pass(ms(8_000));
    assert_eq!(cluster.registrar(0).standing(), Standing::Serving);
    assert_eq!(cluster.held(0).len(), 0);
}

#[test]
fn elements_that_fall_silent_while_a_peer_is_heard_are_taken_for_dead() {
    let mut cluster = Cluster::running(2);
    for n in 1..=20 {
        cluster.register(0, "pool", &element(n, "10.1.0.1"));
    }
    cluster.pass_alive(ms(2_000));
    cluster.pass(ms(1_000));
    assert_eq!((cluster.held(0).len(), cluster.held(1).len()), (0, 0));
    assert_eq!(cluster.registrar(0).counters().doubts, 0);
}

#[test]
fn an_announcement_is_no_sign_of_life_and_only_a_hint_where_to_look() {
    let mut world = World::new();
    let announce = |world: &mut World, id: u32, from: &str, claims: &str| {
        let transport = tcp(claims, 9901);
        let server = Some(crate::wire::ServerInformation { server: ServerId::new(id), transport });
        let header = EnrpHeader { sender: ServerId::new(id), receiver: None };
        let presence = EnrpMessage::Presence {
            reply_required: true,
            header,
            checksum: None,
            introduction: None,
            server,
        };
        let bytes = presence.encode(Dialect::Rfc).unwrap();
        let from = SocketAddr::new(ip(from), 5_000);
        let (protocol, audience) = (Protocol::Enrp, Audience::Standard);
        world.input(Input::Announce { protocol, audience, from, bytes: &bytes });
        world.pass(ms(0));
    };
    announce(&mut world, 1, "10.0.0.7", "10.0.0.7");
    let (link, to) = world.connecting().expect("a connect");
    assert_eq!((to.addresses.as_slice(), to.port), (&[ip("10.0.0.7")][..], 9901));
    assert_eq!(world.registrar.peers().count(), 0);
    // Tried once.
    world.input(Input::LinkDown { link, why: LinkFailure::Refused });
    world.pass(Duration::from_secs(30));
    assert_eq!(world.connecting(), None);
    // Where it came from counts, not what it claims.
    announce(&mut world, 2, "10.0.0.8", "192.0.2.1");
    assert_eq!(world.connecting().expect("a connect").1.addresses.as_slice(), [ip("10.0.0.8")]);
    // And many of them do not make many links.
    for n in 0..1_000 {
        announce(&mut world, 100 + n, &format!("10.1.{}.{}", n / 250, n % 250 + 1), "192.0.2.1");
    }
    let connects = world.done().iter().filter(|done| matches!(done, Done::Connect(..))).count();
    assert_eq!(connects, 7);
}
