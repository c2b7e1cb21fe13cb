//! Server hunt and home (RFC 5352 3.6, 3.7).

use super::*;
use std::collections::BTreeSet;

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
    let peer = "10.0.0.2:3863".parse().unwrap();
    let home = Home { server: None, peer, kind: LinkKind::Tcp, no_sctp: None };
    assert_eq!(rig.events(), [Event::HomeChanged(Some(home.clone()))]);
    assert_eq!(rig.endpoint.home(), Some(&home));
    // A straggler that came up before it was closed changes nothing.
    rig.up(link(2));
    assert!(rig.effects().is_empty() && rig.events().is_empty());
}

#[test]
fn an_expired_t5_gives_up_its_set_and_selects_a_different_one() {
    let mut rig = Rig::knowing(&[1, 2, 3, 4, 5]);
    rig.resolve("pool", 0);
    rig.drain();
    rig.pass(MS(249));
    assert!(rig.effects().is_empty());
    rig.pass(MS(1));
    let effects = rig.effects();
    assert_eq!(closed(&effects), [link(0), link(1), link(2)]);
    let next: Vec<u8> = effects.iter().filter_map(connected_to).collect();
    assert_eq!(next, [4, 5]);
    assert!(rig.events().is_empty(), "the round is not over");
    // An answer to an attempt that was given up comes too late.
    rig.up(link(0));
    assert_eq!(rig.endpoint.home(), None);
}

#[test]
fn t5_doubles_up_to_retran_max_and_starts_again_after_success() {
    let mut rig = Rig::knowing(&[1]);
    rig.endpoint.register(rig.now, offer("pool", 5), Time::NEVER);
    let mut attempts = Vec::new();
    let start = rig.now;
    for _ in 0..6 {
        for (link, _) in rig.connects() {
            attempts.push(rig.now.since(start).as_millis());
            rig.down(link, LinkFailure::Refused);
        }
        let next = rig.endpoint.poll_timeout().unwrap();
        rig.pass(next.since(rig.now));
    }
    assert_eq!(attempts, [0, 250, 750, 1750, 2750, 3750]);
    let (last, _) = rig.connects()[0];
    rig.up(last);
    rig.down(last, LinkFailure::Reset);
    let (again, _) = rig.connects()[0];
    rig.down(again, LinkFailure::Refused);
    assert_eq!(rig.endpoint.poll_timeout(), Some(rig.now + MS(250)));
}

#[test]
fn a_failed_round_is_told_once_with_whom_it_tried() {
    let mut rig = Rig::knowing(&[1, 2, 3, 4]);
    rig.resolve("pool", 0);
    for (n, why) in
        [LinkFailure::Refused, LinkFailure::Unreachable, LinkFailure::Refused].into_iter().enumerate()
    {
        rig.down(link(n as u64), why);
    }
    assert!(rig.events().is_empty());
    rig.pass(MS(250));
    let tried = vec![
        (to(1), LinkFailure::Refused),
        (to(2), LinkFailure::Unreachable),
        (to(3), LinkFailure::Refused),
        (to(4), LinkFailure::TimedOut),
    ];
    assert_eq!(rig.events(), [Event::HuntFailed(tried)]);
}

#[test]
fn never_stops_hunting_while_something_needs_a_registrar() {
    let mut rig = Rig::knowing(&[1]);
    rig.endpoint.register(rig.now, offer("pool", 5), rig.now + MS(300));
    rig.pass(Duration::from_secs(600));
    let failed = rig.events().iter().filter(|e| matches!(e, Event::HuntFailed(_))).count();
    assert!(failed > 590, "{failed} rounds in 600 s at one a second");
    let (last, _) = *rig.connects().last().unwrap();
    rig.up(last);
    assert!(rig.endpoint.home().is_some());
}

#[test]
fn without_any_registrar_known_each_round_fails_with_nobody_tried() {
    let mut rig = Rig::new();
    let request = rig.resolve("pool", 0);
    assert_eq!(rig.events(), [Event::HuntFailed(vec![])]);
    rig.pass(MS(250));
    assert_eq!(rig.events(), [Event::HuntFailed(vec![])]);
    rig.know(&[3]);
    assert_eq!(rig.connects(), [(link(0), 3)], "at once, not with the next round");
    rig.endpoint.cancel(request);
}

#[test]
fn stops_hunting_when_nothing_needs_a_registrar_any_more() {
    let mut rig = Rig::knowing(&[1, 2]);
    let request = rig.resolve("pool", 0);
    rig.drain();
    rig.endpoint.cancel(request);
    assert_eq!(closed(&rig.effects()), [link(0), link(1)]);
    assert_eq!(rig.endpoint.poll_timeout(), None);
    rig.up(link(0));
    assert_eq!(rig.endpoint.home(), None);
}

#[test]
fn keeps_the_home_when_nothing_needs_it_any_more() {
    let mut rig = Rig::at_home(&[1]);
    rig.pass(Duration::from_secs(600));
    assert!(rig.effects().is_empty() && rig.endpoint.home().is_some());
}

#[test]
fn a_lost_home_is_replaced_at_once_and_tried_last_itself() {
    let mut rig = Rig::knowing(&[1, 2, 3, 4]);
    rig.register("pool", 5);
    rig.up(link(0));
    rig.message(link(0), &granted("pool", 5));
    rig.drain();
    rig.down(link(0), LinkFailure::Reset);
    let tried: Vec<u8> = rig.connects().iter().map(|(_, to)| *to).collect();
    assert_eq!(tried, [4, 2, 3], "never tried, then longest ago; the lost home is not among them");
    assert_eq!(rig.events(), [Event::HomeChanged(None)]);
}

#[test]
fn a_home_nobody_needs_is_not_replaced_when_it_is_lost() {
    let mut rig = Rig::at_home(&[1, 2]);
    rig.down(link(0), LinkFailure::Closed);
    assert_eq!(rig.events(), [Event::HomeChanged(None)]);
    assert!(rig.effects().is_empty());
}

#[test]
fn deadline_without_home_says_whom_the_hunt_tried_so_far() {
    let mut rig = Rig::knowing(&[1, 2]);
    let query = Query { handle: pool("pool"), items: None, max_age: MS(0) };
    let request = rig.endpoint.resolve(rig.now, query, rig.now + MS(100));
    rig.down(link(1), LinkFailure::Refused);
    rig.pass(MS(100));
    let tried = vec![(to(1), LinkFailure::TimedOut), (to(2), LinkFailure::Refused)];
    assert_eq!(outcomes(rig.events()), [(request, Err(RequestFailure::NoRegistrar(tried)))]);
}

fn connected_to(effect: &Effect) -> Option<u8> {
    match effect {
        Effect::Connect { to, .. } => Some(last_byte(to)),
        _ => None,
    }
}

fn announce(rig: &mut Rig, from: &str, server: u32, transports: Vec<TransportAddress>) {
    let message = AsapMessage::ServerAnnounce { server: ServerId::new(server), transports };
    hear(rig, Audience::Standard, from, &message.encode(Dialect::Unknown).unwrap());
}

fn hear(rig: &mut Rig, audience: Audience, from: &str, bytes: &[u8]) {
    rig.input(Input::Announce { protocol: Protocol::Asap, audience, from: from.parse().unwrap(), bytes });
}

fn announced_tcp(registrar: u8) -> TransportAddress {
    TransportAddress::Tcp {
        port: 3863,
        transport_use: TransportUse::DataOnly,
        address: IpAddr::from([10, 0, 0, registrar]),
    }
}

#[test]
fn an_announced_address_is_used_until_t7_and_each_announcement_restarts_it() {
    let mut rig = Rig::new();
    announce(&mut rig, "10.0.0.6:3863", 0x66, vec![announced_tcp(6)]);
    rig.pass(MS(4_000));
    announce(&mut rig, "10.0.0.6:3863", 0x66, vec![announced_tcp(6)]);
    rig.pass(MS(4_999));
    let request = rig.resolve("pool", 0);
    assert_eq!(rig.connects(), [(link(0), 6)]);
    rig.endpoint.cancel(request);
    rig.pass(MS(1));
    rig.resolve("pool", 0);
    assert_eq!(rig.connects(), []);
}

#[test]
fn an_announcement_during_the_hunt_is_tried_at_once() {
    let mut rig = Rig::knowing(&[1]);
    rig.resolve("pool", 0);
    rig.down(link(0), LinkFailure::Refused);
    rig.drain();
    announce(&mut rig, "10.0.0.6:3863", 0x66, vec![announced_tcp(6)]);
    assert_eq!(rig.connects(), [(link(1), 6)]);
    rig.up(link(1));
    assert_eq!(rig.endpoint.home().unwrap().server, ServerId::new(0x66));
}

#[test]
fn an_announcement_without_transport_means_sctp_at_its_source_and_the_asap_port() {
    let mut rig = Rig::new();
    announce(&mut rig, "127.0.0.1:50000", 0x66, vec![]);
    rig.resolve("pool", 0);
    let expected = Destination {
        kind: LinkKind::Sctp,
        protocol: Protocol::Asap,
        port: 3863,
        addresses: IpAddr::from([127, 0, 0, 1]).into(),
    };
    assert_eq!(rig.effects(), [Effect::Connect { link: link(0), to: expected }]);
}

#[test]
fn of_an_announcement_only_the_transport_that_is_wanted_is_used() {
    for (only, expected) in [(None, 2), (Some(LinkKind::Tcp), 1), (Some(LinkKind::Udp), 0)] {
        let mut rig = Rig::new();
        rig.endpoint.set_transport(only);
        announce(&mut rig, "10.0.0.6:3863", 0x66, vec![announced_tcp(6)]);
        announce(&mut rig, "10.0.0.7:3863", 0x77, vec![]);
        rig.resolve("pool", 0);
        let kinds: Vec<LinkKind> = rig
            .effects()
            .iter()
            .filter_map(|effect| match effect {
                Effect::Connect { to, .. } => Some(to.kind),
                _ => None,
            })
            .collect();
        assert_eq!(kinds.len(), expected, "{only:?}: {kinds:?}");
        assert!(kinds.iter().all(|kind| only.is_none_or(|only| *kind == only)), "{only:?}: {kinds:?}");
    }
}

#[test]
fn an_announcement_of_rsplib_means_sctp_at_its_source_and_the_port_of_the_source() {
    let mut rig = Rig::new();
    hear(&mut rig, Audience::Rsplib, "10.1.1.1:23456", &[0x0a, 0, 0, 8, 0x11, 0x11, 0x11, 0x11]);
    rig.resolve("pool", 0);
    let expected = Destination {
        kind: LinkKind::Sctp,
        protocol: Protocol::Asap,
        port: 23456,
        addresses: IpAddr::from([10, 1, 1, 1]).into(),
    };
    assert_eq!(rig.effects(), [Effect::Connect { link: link(0), to: expected }]);
}

#[test]
fn one_announced_on_both_groups_is_one_registrar_with_all_its_addresses() {
    let mut rig = Rig::new();
    let addresses =
        crate::types::Addresses::new(vec![IpAddr::from([10, 1, 1, 1]), IpAddr::from([10, 1, 2, 1])]).unwrap();
    let (port, transport_use) = (23456, TransportUse::DataOnly);
    let all = TransportAddress::Sctp { port, transport_use, addresses: addresses.clone() };
    for _ in 0..2 {
        announce(&mut rig, "10.1.1.1:40000", 0x1111_1111, vec![all.clone()]);
        hear(&mut rig, Audience::Rsplib, "10.1.1.1:23456", &[0x0a, 0, 0, 8, 0x11, 0x11, 0x11, 0x11]);
    }
    rig.resolve("pool", 0);
    let expected = Destination { kind: LinkKind::Sctp, protocol: Protocol::Asap, port, addresses };
    assert_eq!(rig.effects(), [Effect::Connect { link: link(0), to: expected }]);
}

/// A registrar with both transports, as one that is configured or announced stands in the list: twice.
fn with_both(registrars: &[u8]) -> Rig {
    let mut rig = Rig::new();
    let both = |n: &u8| [Destination { kind: LinkKind::Sctp, ..to(*n) }, to(*n)];
    rig.endpoint.set_registrars(rig.now, registrars.iter().flat_map(both).collect());
    rig.resolve("pool", 0);
    rig
}

fn kinds(rig: &mut Rig) -> Vec<(LinkId, u8, LinkKind)> {
    let connect = |effect| match effect {
        Effect::Connect { link, to } => Some((link, last_byte(&to), to.kind)),
        _ => None,
    };
    rig.effects().into_iter().filter_map(connect).collect()
}

#[test]
fn sctp_goes_before_tcp_to_the_same_registrar() {
    let (sctp, tcp) = (LinkKind::Sctp, LinkKind::Tcp);
    let mut rig = with_both(&[1, 2]);
    assert_eq!(kinds(&mut rig), [(link(0), 1, sctp), (link(1), 2, sctp)]);
    rig.up(link(0));
    assert!(kinds(&mut rig).is_empty());
    assert_eq!(rig.endpoint.home().unwrap().no_sctp, None);

    // Refused: TCP at once, to that one.
    let mut rig = with_both(&[1, 2]);
    rig.drain();
    rig.down(link(1), LinkFailure::Refused);
    assert_eq!(kinds(&mut rig), [(link(2), 2, tcp)]);
    rig.up(link(2));
    let home = rig.endpoint.home().unwrap();
    assert_eq!((home.kind, home.no_sctp), (tcp, Some(LinkFailure::Refused)));
}

#[test]
fn where_sctp_gets_no_answer_tcp_joins_in_after_half_of_t5() {
    let (sctp, tcp) = (LinkKind::Sctp, LinkKind::Tcp);
    let mut rig = with_both(&[1, 2]);
    assert_eq!(kinds(&mut rig), [(link(0), 1, sctp), (link(1), 2, sctp)]);
    rig.pass(MS(124));
    assert!(kinds(&mut rig).is_empty());
    // As many as may be in all (SH1).
    rig.pass(MS(1));
    assert_eq!(kinds(&mut rig), [(link(2), 1, tcp)]);
    // SCTP may still be first.
    rig.up(link(1));
    assert_eq!(rig.endpoint.home().unwrap().no_sctp, None);

    let mut rig = with_both(&[1]);
    rig.pass(MS(125));
    rig.drain();
    rig.up(link(1));
    let home = rig.endpoint.home().unwrap();
    assert_eq!((home.kind, home.no_sctp), (tcp, Some(LinkFailure::TimedOut)));
}

#[test]
fn a_registrar_is_tried_over_tcp_in_every_round_in_which_sctp_gets_no_answer() {
    let mut rig = with_both(&[1]);
    rig.drain();
    let mut tried = Vec::new();
    for _ in 0..300 {
        rig.pass(MS(10));
        tried.extend(kinds(&mut rig).into_iter().map(|(_, _, kind)| kind));
    }
    assert!(tried.len() >= 6, "{tried:?}");
    assert!(tried.chunks(2).all(|pair| pair[0] == LinkKind::Tcp), "{tried:?}");
}

#[test]
fn an_announced_unspecified_address_stands_for_the_source() {
    let mut rig = Rig::new();
    let anywhere = TransportAddress::Tcp {
        port: 3863,
        transport_use: TransportUse::DataOnly,
        address: [0, 0, 0, 0].into(),
    };
    announce(&mut rig, "10.0.0.9:4000", 0x66, vec![anywhere]);
    rig.resolve("pool", 0);
    assert_eq!(rig.connects(), [(link(0), 9)]);
}

#[test]
fn a_configured_registrar_outlives_t7_and_an_announcement_tells_its_identity() {
    let mut rig = Rig::at_home(&[1]);
    assert_eq!(rig.endpoint.home().unwrap().server, None);
    announce(&mut rig, "10.0.0.1:3863", 0x11, vec![announced_tcp(1)]);
    assert_eq!(rig.endpoint.home().unwrap().server, ServerId::new(0x11));
    rig.pass(Duration::from_secs(60));
    rig.down(link(0), LinkFailure::Reset);
    rig.resolve("pool", 0);
    assert_eq!(rig.connects(), [(link(1), 1)]);
}

#[test]
fn a_mass_of_announcements_is_not_remembered() {
    let mut rig = Rig::new();
    for n in 0..200 {
        announce(&mut rig, "10.0.0.6:3863", 1_000 + n, vec![announced_tcp(n as u8)]);
    }
    let timers = std::iter::from_fn(|| rig.endpoint.ctx.timers.pop_due(Time::NEVER)).count();
    assert_eq!(timers, 64);
}

#[test]
fn what_is_no_announcement_is_counted_and_never_answered() {
    let mut rig = Rig::new();
    let from = "10.0.0.6:3863";
    hear(&mut rig, Audience::Standard, from, &[0x4f, 0, 0, 4]);
    hear(&mut rig, Audience::Rsplib, from, &[]);
    let card = answer("pool", &[1]).encode(Dialect::Unknown).unwrap();
    hear(&mut rig, Audience::Standard, from, &card);
    assert_eq!(rig.endpoint.counters().rejected_messages, 3);
    assert!(rig.effects().is_empty());
}

#[test]
fn registrars_no_longer_configured_are_not_tried() {
    let mut rig = Rig::knowing(&[1, 2]);
    rig.know(&[2, 3]);
    rig.resolve("pool", 0);
    assert_eq!(rig.connects(), [(link(0), 2), (link(1), 3)]);
}

#[test]
fn a_send_failure_discards_the_message_and_the_request_goes_to_a_new_home() {
    let mut rig = Rig::at_home(&[1, 2]);
    let request = rig.resolve("pool", 0);
    let (_, question) = rig.sent().remove(0);
    let message = question.encode(Dialect::Unknown).unwrap();
    rig.input(Input::SendFailed { link: link(0), channel: Channel::Asap, message });
    let effects = rig.effects();
    assert_eq!(closed(&effects), [link(0)]);
    assert!(!effects.iter().any(|e| matches!(e, Effect::Send { .. })), "nothing is sent again on that link");
    rig.up(link(2));
    assert_eq!(rig.sent(), [(link(2), question)]);
    rig.message(link(2), &answer("pool", &[1]));
    assert_eq!(outcomes(rig.events()), [(request, Ok(vec![1]))]);
}

#[test]
fn a_silent_home_is_asked_again_while_others_are_tried_beside_it_three_links_in_all() {
    let mut rig = Rig::at_home(&[1, 2, 3, 4]);
    rig.resolve("pool", 0);
    rig.drain();
    rig.pass(MS(500));
    let effects = rig.effects();
    assert!(effects.iter().any(|e| matches!(e, Effect::Send { link: l, .. } if *l == link(0))));
    let tried: Vec<u8> = effects.iter().filter_map(connected_to).collect();
    assert_eq!(tried, [4, 2], "the home's link and two more");
    // The other one connects first: it is adopted, and asked.
    rig.up(link(3));
    let effects = rig.effects();
    assert_eq!(closed(&effects), [link(4), link(0)]);
    let asked: Vec<_> = effects.into_iter().filter_map(sent).map(|(link, _)| link).collect();
    assert_eq!(asked, [link(3)]);
    assert_eq!(rig.endpoint.home().unwrap().peer, "10.0.0.4:3863".parse().unwrap());
}

#[test]
fn a_home_that_answers_after_all_is_kept_and_the_hunt_beside_it_ends() {
    let mut rig = Rig::at_home(&[1, 2]);
    rig.subscribe_quietly("watched");
    rig.message(link(0), &update("watched", &[1]));
    rig.drain();
    let request = rig.resolve("pool", 0);
    rig.pass(MS(500));
    let beside = rig.connects()[0].0;
    rig.message(link(0), &answer("pool", &[1]));
    assert_eq!(closed(&rig.effects()), [beside]);
    assert_eq!(outcomes(rig.events()), [(request, Ok(vec![1]))]);
    rig.up(beside);
    assert_eq!(rig.endpoint.home().unwrap().peer, "10.0.0.1:3863".parse().unwrap());
}

#[test]
fn a_hunt_beside_a_silent_home_is_one_round() {
    let mut rig = Rig::at_home(&[1, 2]);
    rig.endpoint.subscribe(rig.now, &pool("pool"));
    rig.pass(MS(500));
    let beside = rig.connects()[0].0;
    rig.events();
    rig.down(beside, LinkFailure::Refused);
    assert_eq!(rig.events(), [Event::HuntFailed(vec![(to(2), LinkFailure::Refused)])]);
    rig.pass(MS(499));
    assert_eq!(rig.connects(), [], "until the next repetition");
    rig.pass(MS(1));
    assert_eq!(rig.connects().len(), 1);
}

#[test]
fn a_home_silent_through_all_repetitions_is_given_up_even_if_it_is_the_only_one() {
    let mut rig = Rig::at_home(&[1]);
    let request = rig.resolve("pool", 0);
    rig.subscribe_quietly("wanted later");
    rig.pass(MS(1_500));
    let effects = rig.effects();
    assert_eq!(closed(&effects), [link(0)]);
    let tried: Vec<u8> = effects.iter().filter_map(connected_to).collect();
    assert_eq!(tried, [1], "a new connection may do what the old one does not");
    let events = rig.events();
    assert!(events.contains(&Event::HomeChanged(None)));
    assert_eq!(outcomes(events), [(request, Err(RequestFailure::TimedOut))]);
}

#[test]
fn messages_on_closed_links_are_ignored() {
    let mut rig = Rig::at_home(&[1]);
    rig.resolve("pool", 0);
    rig.down(link(0), LinkFailure::Reset);
    rig.drain();
    rig.message(link(0), &answer("pool", &[1]));
    rig.bytes(link(7), &[1, 2, 3]);
    rig.down(link(7), LinkFailure::Reset);
    rig.input(Input::SendFailed { link: link(0), channel: Channel::Asap, message: vec![] });
    assert!(rig.effects().is_empty() && rig.events().is_empty());
    assert_eq!(rig.endpoint.counters().rejected_messages, 0);
}

#[test]
fn unknown_messages_are_reported_if_their_type_says_so_and_the_link_is_kept() {
    let mut rig = Rig::at_home(&[1]);
    rig.bytes(link(0), &[0x4f, 0, 0, 4]);
    let sent = rig.sent();
    let [(_, AsapMessage::Error(causes))] = &sent[..] else { panic!("{sent:?}") };
    assert_eq!(causes[0].code, CauseCode::UnrecognizedMessage);
    rig.bytes(link(0), &[0x0f, 0, 0, 4]);
    assert!(rig.effects().is_empty(), "type bits 00: discarded in silence");
    assert_eq!(rig.endpoint.counters().rejected_messages, 2);
    assert!(rig.endpoint.home().is_some());
}

#[test]
fn unknown_parameters_are_reported_if_their_type_says_so_and_the_message_is_used() {
    let mut rig = Rig::at_home(&[1]);
    let request = rig.resolve("pool", 0);
    rig.drain();
    let mut bytes = answer("pool", &[1]).encode(Dialect::Unknown).unwrap();
    bytes.extend([0xc7, 0x77, 0, 4]);
    let length = (bytes.len() as u16).to_be_bytes();
    bytes[2..4].copy_from_slice(&length);
    rig.bytes(link(0), &bytes);
    let sent = rig.sent();
    let [(_, AsapMessage::Error(causes))] = &sent[..] else { panic!("{sent:?}") };
    assert_eq!(causes[0].code, CauseCode::UnrecognizedParameter);
    assert_eq!(outcomes(rig.events()), [(request, Ok(vec![1]))]);
}

#[test]
fn an_error_is_never_answered_with_an_error() {
    let mut rig = Rig::at_home(&[1]);
    rig.message(link(0), &AsapMessage::Error(vec![ErrorCause::bare(CauseCode::Unspecified)]));
    for broken in [&[0x0e, 0, 0, 4][..], &[0x0e, 0, 0, 8, 0x47, 0x77, 0, 4], &[0x0e, 0, 0, 9, 0, 0xc, 0, 3]] {
        rig.bytes(link(0), broken);
    }
    assert!(rig.effects().is_empty());
}

#[test]
fn messages_that_are_not_for_endpoints_are_counted() {
    let mut rig = Rig::at_home(&[1]);
    rig.message(link(0), &AsapMessage::Deregistration { handle: pool("pool"), element: PeId(5) });
    rig.message(link(0), &AsapMessage::Cookie(vec![1]));
    rig.input(Input::Message { link: link(0), channel: Channel::Enrp, bytes: &[1, 0, 0, 4], complete: true });
    assert_eq!(rig.endpoint.counters().rejected_messages, 3);
    assert!(rig.effects().is_empty());
}

#[test]
fn answers_from_others_than_the_home_do_not_count() {
    let mut rig = Rig::at_home(&[1]);
    let intruder = rig.incoming(0);
    rig.resolve("pool", 0);
    rig.register("pool", 5);
    rig.drain();
    rig.message(intruder, &answer("pool", &[9]));
    rig.message(intruder, &granted("pool", 5));
    rig.message(intruder, &deregistered("pool", 5));
    assert!(rig.events().is_empty() && rig.endpoint.cached(&pool("pool")).is_none());
    assert_eq!(rig.endpoint.counters().rejected_messages, 3);
}

#[test]
fn strangers_links_are_few_and_do_not_keep_a_registrar_out() {
    let mut rig = Rig::at_home(&[1]);
    rig.register("pool", 1);
    rig.message(link(0), &granted("pool", 1));
    rig.drain();
    let registrar = rig.incoming(0);
    let keep_alive = AsapMessage::KeepAlive(KeepAlive {
        home: false,
        server: ServerId::new(9),
        handle: pool("pool"),
        element: None,
    });
    let mut open = BTreeSet::from([registrar]);
    for n in 1..1_000 {
        rig.pass(MS(1));
        open.insert(rig.incoming(n));
        if n % 50 == 0 {
            rig.message(registrar, &keep_alive);
        }
        for effect in rig.effects() {
            if let Effect::Close { link, .. } = effect {
                assert!(open.remove(&link), "closes what is open");
            }
        }
        assert!(open.len() <= 64 && open.contains(&registrar));
    }
}

#[test]
fn links_for_other_protocols_are_turned_away_and_dead() {
    let mut rig = Rig::at_home(&[1]);
    let link = LinkId::incoming(3);
    rig.input(Input::Incoming { link, protocol: Protocol::Enrp });
    assert_eq!(rig.effects(), [Effect::Close { link, abort: true }]);
    // It may have come up meanwhile.
    let peer = [SocketAddr::from(([10, 0, 0, 50], 40_001))];
    let (kind, protocol) = (LinkKind::Tcp, Protocol::Enrp);
    rig.input(Input::LinkUp { link, kind, protocol, local: &[], peer: &peer, identity: None });
    rig.bytes(link, b"\x4f\0\0\x04");
    assert_eq!(rig.effects(), []);
}

fn tcp(address: [u8; 4], port: u16) -> TransportAddress {
    TransportAddress::Tcp { port, transport_use: TransportUse::DataOnly, address: address.into() }
}

#[test]
fn made_up_announcements_do_not_keep_a_configured_registrar_from_being_tried() {
    let mut rig = Rig::knowing(&[1]);
    rig.resolve("pool", 0);
    let first = rig.connects();
    assert_eq!(first.len(), 1);
    rig.down(first[0].0, LinkFailure::Refused);
    let (mut tries, mut port) = (0, 0);
    for n in 0..600 {
        port = (port + 8) % 60_000;
        let transports = (1..=8).map(|n| tcp([10, 9, 0, 1], port + n)).collect();
        announce(&mut rig, "10.9.0.1:3863", 1_000 + n, transports);
        rig.pass(MS(100));
        tries += rig.connects().iter().filter(|(_, registrar)| *registrar == 1).count();
        rig.resolve("pool", 0);
        for event in rig.events() {
            let tried = match event {
                Event::Resolved { outcome: Err(RequestFailure::NoRegistrar(tried)), .. } => tried,
                Event::HuntFailed(tried) => tried,
                _ => continue,
            };
            assert!(tried.len() <= 64, "remembers {} it has tried", tried.len());
        }
    }
    // A minute, in which a set of attempts takes a second at most.
    assert!(tries >= 10, "{tries}");
}

#[test]
fn an_announcement_names_few_transports_with_few_addresses() {
    let mut rig = Rig::new();
    rig.resolve("pool", 0);
    announce(&mut rig, "10.9.0.1:3863", 5, (1..3_000).map(|port| tcp([10, 9, 0, 1], port)).collect());
    let mut tried = BTreeSet::new();
    let end = rig.now + Duration::from_secs(4);
    while rig.now < end {
        rig.pass(MS(10));
        for effect in rig.effects() {
            if let Effect::Connect { link, to } = effect {
                tried.insert(to.port);
                rig.down(link, LinkFailure::Refused);
            }
        }
    }
    assert_eq!(tried.len(), 8);

    let addresses = (0..8_000u32).map(|n| IpAddr::from((0x0a00_0000 | n).to_be_bytes())).collect();
    let addresses = crate::types::Addresses::new(addresses).unwrap();
    let transport_use = TransportUse::DataOnly;
    let mut rig = Rig::new();
    rig.resolve("pool", 0);
    announce(
        &mut rig,
        "10.9.0.1:3863",
        6,
        vec![TransportAddress::Sctp { port: 7, transport_use, addresses }],
    );
    let lens = rig.effects().into_iter().filter_map(|effect| match effect {
        Effect::Connect { to, .. } => Some(to.addresses.as_slice().len()),
        _ => None,
    });
    assert_eq!(lens.collect::<Vec<_>>(), [16]);
}

#[test]
fn an_announcement_does_not_rename_the_home() {
    let mut rig = Rig::at_home(&[1]);
    announce(&mut rig, "10.9.0.1:3863", 5, vec![tcp([10, 0, 0, 1], 3863)]);
    assert_eq!(rig.endpoint.home().unwrap().server, ServerId::new(5));
    announce(&mut rig, "10.9.0.1:3863", 6, vec![tcp([10, 0, 0, 1], 3863)]);
    assert_eq!(rig.endpoint.home().unwrap().server, ServerId::new(5));
}

#[test]
fn a_registrar_that_has_come_to_us_first_is_the_home_on_the_link_it_opened() {
    let mut rig = Rig::knowing(&[1, 2]);
    let (came, other) = (LinkId::incoming(0), LinkId::incoming(1));
    let at =
        |n: u8, port| vec![SocketAddr::from(([10, 0, 9, n], port)), SocketAddr::from(([10, 0, 0, n], port))];
    for (link, peer) in [(came, at(1, 3863)), (other, at(2, 5000))] {
        rig.input(Input::Incoming { link, protocol: Protocol::Asap });
        let local = [SocketAddr::from(([10, 0, 0, 9], 4000))];
        let (kind, protocol, identity) = (to(1).kind, Protocol::Asap, None);
        rig.input(Input::LinkUp { link, kind, protocol, local: &local, peer: &peer, identity });
    }
    rig.resolve("pool", 0);
    rig.drain();
    // Who came from another port may be anybody.
    rig.down(link(1), LinkFailure::Present);
    assert_eq!(rig.endpoint.home(), None);
    rig.down(link(0), LinkFailure::Present);
    assert_eq!(rig.endpoint.home().map(|home| home.peer), Some("10.0.9.1:3863".parse().unwrap()));
    let sent: Vec<_> = rig.effects().into_iter().filter_map(sent).collect();
    assert!(matches!(&sent[..], [(l, AsapMessage::HandleResolution { .. })] if *l == came));
}
