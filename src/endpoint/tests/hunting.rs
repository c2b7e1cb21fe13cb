//! Server hunt and home (RFC 5352 3.6, 3.7).

use super::*;

#[test]
fn uses_no_network_until_something_needs_a_registrar() {
    let mut rig = Rig::knowing(&[1, 2]);
    rig.pass(Duration::from_secs(60));
    assert!(rig.effects().is_empty() && rig.events().is_empty());
    rig.resolve("pool", 0);
    assert_eq!(rig.connects().len(), 2);
}

#[test]
fn tries_at_most_three_registrars_at_once_in_order_of_preference() {
    let mut rig = Rig::knowing(&[1, 2, 3, 4, 5]);
    rig.resolve("pool", 0);
    assert_eq!(rig.connects(), [(link(0), 1), (link(1), 2), (link(2), 3)]);
}

#[test]
fn a_failed_attempt_is_replaced_by_another_registrar_at_once() {
    let mut rig = Rig::knowing(&[1, 2, 3, 4, 5]);
    rig.resolve("pool", 0);
    rig.drain();
    rig.down(link(1), LinkFailure::Refused);
    assert_eq!(rig.connects(), [(link(3), 4)]);
    rig.down(link(3), LinkFailure::Refused);
    assert_eq!(rig.connects(), [(link(4), 5)]);
    rig.down(link(4), LinkFailure::Refused);
    assert_eq!(rig.connects(), []);
}

#[test]
fn the_first_to_connect_becomes_home_and_the_others_are_closed() {
    let mut rig = Rig::knowing(&[1, 2, 3]);
    rig.resolve("pool", 0);
    rig.drain();
    rig.up(link(1));
    let effects = rig.effects();
    assert_eq!(closed(&effects), [link(0), link(2)]);
    let sent: Vec<_> = effects.into_iter().filter_map(sent).collect();
    assert!(matches!(&sent[..], [(l, AsapMessage::HandleResolution { .. })] if *l == link(1)));
    let home = Home { server: None, peer: "10.0.0.2:3863".parse().unwrap() };
    assert_eq!(rig.events(), [Event::HomeChanged(Some(home.clone()))]);
    assert_eq!(rig.endpoint.home(), Some(&home));
    // A straggler that came up before it was closed changes nothing.
    rig.up(link(2));
    assert!(rig.effects().is_empty() && rig.events().is_empty());
}
