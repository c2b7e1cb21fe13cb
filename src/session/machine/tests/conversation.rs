use super::*;

// --- Cookies

#[test]
fn the_latest_cookie_is_the_first_thing_the_next_element_hears() {
    let own = Some((pool(), vec![tcp(9)]));
    let mut rig = Rig::user_with(automatic(), Limits::default(), own);
    rig.resolved(&[tcp(1), tcp(2)]);
    rig.up(L0);
    rig.control(L0, &asap(&AsapMessage::Cookie(b"old".to_vec())));
    rig.control(L0, &asap(&AsapMessage::Cookie(b"new, not a multiple of four".to_vec())));
    assert!(rig.session.has_cookie());
    rig.down(L0, LinkFailure::Reset);
    rig.send(b"next request");
    rig.effects();
    rig.events();
    rig.up(L1);
    let echo = AsapMessage::CookieEcho(b"new, not a multiple of four".to_vec());
    let own_card = AsapMessage::BusinessCard { handle: pool(), elements: vec![tcp(9)] };
    assert_eq!(rig.effects(), [said(L1, &echo), said(L1, &own_card), sent(L1, b"next request")]);
    assert_eq!(rig.events(), [complete(2, true, Duration::ZERO)]);
}

#[test]
fn a_cookie_that_arrives_right_before_the_loss_counts() {
    let mut rig = Rig::at_first_of(automatic(), &[tcp(1), tcp(2)]);
    rig.control(L0, &asap(&AsapMessage::Cookie(b"last".to_vec())));
    rig.down(L0, LinkFailure::Reset);
    rig.effects();
    rig.up(L1);
    assert_eq!(rig.effects(), [said(L1, &AsapMessage::CookieEcho(b"last".to_vec()))]);
}

#[test]
fn a_cookie_outlives_elements_that_give_none() {
    let mut rig = Rig::at_first_of(automatic(), &[tcp(1), tcp(2), tcp(3)]);
    rig.control(L0, &asap(&AsapMessage::Cookie(b"c".to_vec())));
    rig.down(L0, LinkFailure::Reset);
    rig.up(L1);
    rig.down(L1, LinkFailure::Reset);
    rig.effects();
    rig.up(L2);
    assert_eq!(rig.effects(), [said(L2, &AsapMessage::CookieEcho(b"c".to_vec()))]);
}

#[test]
fn a_cookie_of_the_greatest_length_is_echoed_unmodified() {
    let mut element = Rig::element(automatic(), None);
    element.up(LinkId::incoming(5));
    assert_eq!(element.session.send_cookie(element.now, &vec![7; 65_528]), Err(SendRefused::TooLong));
    element.session.send_cookie(element.now, &vec![7; 65_527]).unwrap();
    let effects = element.effects();
    let [Effect::Send { bytes, .. }] = effects.as_slice() else { panic!("{effects:?}") };
    let mut rig = Rig::at_first_of(automatic(), &[tcp(1), tcp(2)]);
    rig.control(L0, bytes);
    rig.down(L0, LinkFailure::Reset);
    rig.effects();
    rig.up(L1);
    assert_eq!(rig.effects(), [said(L1, &AsapMessage::CookieEcho(vec![7; 65_527]))]);
}

#[test]
fn without_control_channel_no_cookie_is_echoed() {
    let mut rig = Rig::at_first_of(automatic(), &[tcp(1), plain(2)]);
    rig.control(L0, &asap(&AsapMessage::Cookie(b"c".to_vec())));
    rig.down(L0, LinkFailure::Reset);
    rig.effects();
    rig.events();
    rig.up_as(L1, LinkKind::Tcp, Protocol::Plain);
    assert_eq!((rig.effects(), rig.events()), (vec![], vec![complete(2, false, Duration::ZERO)]));
    assert!(rig.session.has_cookie());
}

// --- Business cards

#[test]
fn a_card_is_told_and_its_order_obeyed_at_failover() {
    let mut rig = Rig::at_first_of(automatic(), &[tcp(1), tcp(2), tcp(3)]);
    rig.control(L0, &card(&[tcp(1), tcp(3), tcp(2)]));
    let told = Event::Card { handle: pool(), elements: vec![tcp(1), tcp(3), tcp(2)] };
    assert_eq!(rig.events(), [told]);
    rig.down(L0, LinkFailure::Reset);
    assert_eq!(rig.connecting(), (L1, 3));
    rig.down(L1, LinkFailure::Refused);
    assert_eq!(rig.connecting(), (L2, 2));
}

#[test]
fn a_newer_card_replaces_the_older_one() {
    let mut rig = Rig::at_first_of(automatic(), &[tcp(1), tcp(2), tcp(3)]);
    rig.control(L0, &card(&[tcp(3)]));
    rig.control(L0, &card(&[tcp(2)]));
    rig.down(L0, LinkFailure::Reset);
    assert_eq!(rig.connecting(), (L1, 2));
}

#[test]
fn a_card_may_name_elements_the_registrar_did_not_tell_of_but_not_ones_that_left() {
    let mut rig = Rig::at_first_of(automatic(), &[tcp(1), tcp(2), tcp(3)]);
    rig.control(L0, &card(&[tcp(3), tcp(4)]));
    rig.session.pool_changed(rig.now, Some(&list(&[tcp(1), tcp(2)])));
    rig.down(L0, LinkFailure::Reset);
    assert_eq!(rig.connecting(), (L1, 4));
}

#[test]
fn a_card_of_another_pool_does_not_lead_the_session_there() {
    let mut rig = Rig::at_first_of(automatic(), &[tcp(1), tcp(2)]);
    let other = PoolHandle::new(b"other").unwrap();
    let elements = vec![tcp(7)];
    rig.control(L0, &asap(&AsapMessage::BusinessCard { handle: other.clone(), elements: elements.clone() }));
    assert_eq!(rig.events(), [Event::Card { handle: other, elements }]);
    rig.down(L0, LinkFailure::Reset);
    assert_eq!(rig.connecting().1, 2);
}

#[test]
fn what_the_registrar_tells_of_an_element_overrides_the_card() {
    let mut rig = Rig::at_first_of(automatic(), &[tcp(1), tcp(2)]);
    let stale = PoolElement { user_transport: tcp(99).user_transport, ..tcp(2) };
    rig.control(L0, &card(&[stale]));
    rig.down(L0, LinkFailure::Reset);
    assert_eq!(rig.connecting().1, 2);
}

#[test]
fn an_element_gives_its_card_when_communication_begins() {
    let own = Some((pool(), vec![tcp(1), tcp(2)]));
    let mut rig = Rig::element(automatic(), own);
    let link = LinkId::incoming(5);
    rig.up(link);
    let elements = vec![tcp(1), tcp(2)];
    assert_eq!(rig.effects(), [said(link, &AsapMessage::BusinessCard { handle: pool(), elements })]);
    assert_eq!(rig.events(), [Event::Connected { element: None, kind: LinkKind::Tcp, control: true }]);
    rig.session.send_business_card(rig.now, &pool(), &[tcp(2)]).unwrap();
    let elements = vec![tcp(2)];
    assert_eq!(rig.effects(), [said(link, &AsapMessage::BusinessCard { handle: pool(), elements })]);
}

#[test]
fn a_peer_that_has_shown_nothing_gets_a_card_only_after_its_own_or_by_option() {
    let link = LinkId::incoming(5);
    let stripped = AsapMessage::BusinessCard { handle: pool(), elements: vec![plain(1)] };
    for unasked in [false, true] {
        let config = SessionConfig { unasked_business_card: unasked, ..automatic() };
        let mut rig = Rig::element(config, Some((pool(), vec![tcp(1)])));
        rig.up_as(link, LinkKind::Sctp, Protocol::Session);
        if !unasked {
            assert_eq!(rig.effects(), []);
            rig.control(link, &card(&[plain(8)]));
        }
        assert_eq!(rig.effects(), [said(link, &stripped)]);
        rig.control(link, &card(&[plain(8)]));
        assert_eq!(rig.effects(), [], "once");
    }
}

#[test]
fn a_user_is_named_by_the_first_element_on_its_card_if_it_is_where_that_is() {
    let link = LinkId::incoming(5);
    // Over SCTP the parameter on the card tells whether it is one of ours.
    for (host, kind, first, named) in [
        (3, LinkKind::Tcp, tcp(3), Some(PeId(3))),
        (4, LinkKind::Tcp, tcp(3), None),
        (3, LinkKind::Sctp, tcp(3), Some(PeId(3))),
        (3, LinkKind::Sctp, plain(3), None),
    ] {
        let mut rig = Rig::element(automatic(), None);
        let mut at = tcp(host).user_transport.socket_addresses().next().unwrap();
        at.set_port(50_000);
        let (protocol, peer) = (Protocol::Session, &[at][..]);
        rig.session.handle(rig.now, Input::LinkUp { link, kind, protocol, local: &[], peer, identity: None });
        rig.control(link, &card(&[first, plain(4)]));
        assert_eq!(rig.session.sender(), named.map(|id| (pool(), id)).as_ref());
        rig.events();
        rig.data(link, b"data");
        let (bytes, channel, complete) = (b"data".to_vec(), DATA, true);
        assert_eq!(rig.events(), [Event::Received { bytes, channel, complete, from: named }]);
        // What is found out by address counts where nothing was said.
        rig.session.identify_sender(pool(), PeId(8));
        assert_eq!(rig.session.sender(), Some(&(pool(), named.unwrap_or(PeId(8)))));
    }
}

#[test]
fn a_user_that_is_no_element_gives_no_card() {
    let mut rig = Rig::user(automatic());
    rig.resolved(&[tcp(1)]);
    rig.effects();
    rig.up(L0);
    assert_eq!(rig.effects(), []);
}

#[test]
fn no_card_without_control_channel() {
    let own = Some((pool(), vec![tcp(9)]));
    let config = SessionConfig { unasked_business_card: true, ..automatic() };
    let mut rig = Rig::user_with(config, Limits::default(), own);
    rig.resolved(&[plain(1)]);
    rig.effects();
    rig.up_as(L0, LinkKind::Tcp, Protocol::Plain);
    assert_eq!(rig.effects(), []);
    let refused = rig.session.send_business_card(rig.now, &pool(), &[tcp(9)]);
    assert_eq!((refused, rig.effects()), (Err(SendRefused::NoControlChannel), vec![]));
}

#[test]
fn a_card_that_is_too_long_is_cut_at_its_end() {
    let many: Vec<_> = (0..4_000).map(|id| PoolElement { id: PeId(id), ..tcp(1) }).collect();
    let mut rig = Rig::element(automatic(), Some((pool(), many.clone())));
    let refused = rig.session.send_business_card(rig.now, &pool(), &many);
    assert_eq!(refused, Err(SendRefused::TooLong));
    rig.up(LinkId::incoming(5));
    let effects = rig.effects();
    let [Effect::Send { bytes, .. }] = effects.as_slice() else { panic!("{effects:?}") };
    let AsapMessage::BusinessCard { elements, .. } =
        AsapMessage::decode(bytes, Dialect::Rfc).unwrap().message
    else {
        panic!("a card")
    };
    assert!(elements.len() >= 500 && many.starts_with(&elements));
}

// --- Unsent messages and send options

#[test]
fn messages_the_link_gave_back_go_to_the_next_element_before_later_ones() {
    let mut rig = Rig::at_first_of(automatic(), &[tcp(1), tcp(2)]);
    for message in [b"1", b"2", b"3"] {
        rig.send(message);
    }
    rig.returned(L0, b"2");
    rig.returned(L0, b"3");
    rig.down(L0, LinkFailure::Reset);
    rig.send(b"4");
    rig.effects();
    rig.up(L1);
    assert_eq!(rig.effects(), [sent(L1, b"2"), sent(L1, b"3"), sent(L1, b"4")]);
}

#[test]
fn a_message_given_back_by_a_link_that_lives_on_is_reported() {
    let mut rig = Rig::at_first_of(automatic(), &[tcp(1), tcp(2)]);
    rig.send(b"lost");
    rig.returned(L0, b"lost");
    assert_eq!(rig.events(), []);
    rig.pass(500 * MS);
    assert_eq!(rig.events(), [send_failed(Some(1), b"lost")]);
    assert_eq!(rig.session.state(), State::Connected);
}

#[test]
fn a_message_given_back_right_before_the_loss_survives_a_long_failover() {
    let mut rig = Rig::at_first_of(automatic(), &[tcp(1), tcp(2)]);
    rig.send(b"kept");
    rig.returned(L0, b"kept");
    rig.pass(100 * MS);
    rig.down(L0, LinkFailure::Reset);
    rig.pass(450 * MS);
    rig.effects();
    rig.up(L1);
    assert_eq!(rig.effects(), [sent(L1, b"kept")]);
}

#[test]
fn no_failover_gives_the_message_back_instead() {
    let mut rig = Rig::at_first_of(automatic(), &[tcp(1), tcp(2), tcp(3)]);
    rig.send(b"a");
    rig.send_with(b"b", SendOptions::NO_FAILOVER).unwrap();
    rig.returned(L0, b"a");
    rig.returned(L0, b"b");
    rig.down(L0, LinkFailure::Reset);
    assert!(rig.events().contains(&send_failed(Some(1), b"b")));
    rig.send_with(b"c", SendOptions::NO_FAILOVER).unwrap();
    rig.send_with(b"d", SendOptions::FAILOVER).unwrap();
    rig.down(L1, LinkFailure::Refused);
    assert!(rig.events().contains(&send_failed(Some(2), b"c")));
    rig.effects();
    rig.up(L2);
    assert_eq!(rig.effects(), [sent(L2, b"a"), sent(L2, b"d")]);
}

#[test]
fn contradictory_and_unknown_options_and_the_ppid_of_asap_are_refused() {
    let bad = [
        SendOptions::FAILOVER | SendOptions::NO_FAILOVER,
        SendOptions::TO_SELF,
        SendOptions::TO_ALL | SendOptions::TO_LAST,
        SendOptions::TO_ALL,
        SendOptions(0x0020),
    ];
    let mut rig = Rig::at_first_of(automatic(), &[tcp(1)]);
    for options in bad {
        assert_eq!(rig.send_with(b"x", options), Err(SendRefused::BadOptions), "{options:?}");
    }
    let asap = UserChannel { ppid: 11, ..DATA };
    let refused = rig.session.send(rig.now, b"x".to_vec(), asap, SendOptions::DEFAULT);
    assert_eq!((refused, rig.effects()), (Err(SendRefused::BadOptions), vec![]));
    for options in [SendOptions::TO_LAST, SendOptions::FAILOVER, SendOptions::NO_FAILOVER] {
        assert_eq!(rig.send_with(b"x", options), Ok(()));
    }
}

#[test]
fn the_unordered_option_reaches_the_channel() {
    let mut rig = Rig::at_first_of(automatic(), &[tcp(1)]);
    rig.send_with(b"x", SendOptions::UNORDERED).unwrap();
    let channel = Channel::User(UserChannel { unordered: true, ..DATA });
    assert_eq!(rig.effects(), [Effect::Send { link: L0, channel, bytes: b"x".to_vec() }]);
}

#[test]
fn unsent_messages_are_bounded_and_room_is_told_once() {
    let limits = Limits { queued_bytes_per_link: 1_000, user_message_bytes: 5_000, ..Limits::default() };
    let mut rig = Rig::user_with(automatic(), limits, None);
    rig.events();
    assert_eq!(rig.send_with(&[0; 5_001], SendOptions::DEFAULT), Err(SendRefused::TooLong));
    rig.send(&[0; 5_000]);
    assert_eq!(rig.send_with(b"", SendOptions::DEFAULT), Err(SendRefused::Full));
    rig.resolved(&[tcp(1)]);
    assert_eq!(rig.events(), []);
    rig.up(L0);
    let connected = Event::Connected { element: Some(PeId(1)), kind: LinkKind::Tcp, control: true };
    assert_eq!(rig.events(), [connected, Event::Writable]);
    rig.session.handle(rig.now, Input::Writable { link: L0 });
    assert_eq!(rig.events(), [Event::Writable]);
}

#[test]
fn very_many_empty_messages_are_bounded_too() {
    let mut rig = Rig::user(automatic());
    let taken = (0..1_000_000).take_while(|_| rig.send_with(b"", SendOptions::DEFAULT).is_ok()).count();
    assert!((1_000..100_000).contains(&taken), "{taken}");
}

#[test]
fn sending_while_failing_over_is_kept_for_the_next_element() {
    let mut rig = Rig::at_first_of(automatic(), &[tcp(1)]);
    rig.down(L0, LinkFailure::Reset);
    rig.send(b"1");
    rig.pass(50 * MS);
    rig.down(L1, LinkFailure::Refused);
    rig.send(b"2");
    rig.unresolved(RequestFailure::UnknownPool);
    rig.pass(50 * MS);
    rig.effects();
    rig.send(b"3");
    rig.resolved(&[tcp(5)]);
    rig.connecting();
    rig.up(L2);
    assert_eq!(rig.effects(), [sent(L2, b"1"), sent(L2, b"2"), sent(L2, b"3")]);
}

// --- The control channel

#[test]
fn plain_peers_have_no_control_channel() {
    let mut rig = Rig::element(automatic(), None);
    let link = LinkId::incoming(5);
    rig.up_as(link, LinkKind::Tcp, Protocol::Plain);
    assert_eq!(rig.session.send_cookie(rig.now, b"c"), Err(SendRefused::NoControlChannel));
    rig.control(link, &asap(&AsapMessage::CookieEcho(b"c".to_vec())));
    let connected = Event::Connected { element: None, kind: LinkKind::Tcp, control: false };
    assert_eq!((rig.events(), rig.effects()), (vec![connected], vec![]));
    let channel = Channel::User(UserChannel::default());
    rig.session.handle(rig.now, Input::Message { link, channel, bytes: b"chunk", complete: false });
    let received = Event::Received {
        bytes: b"chunk".to_vec(),
        channel: UserChannel::default(),
        complete: false,
        from: None,
    };
    assert_eq!(rig.events(), [received]);
}

#[test]
fn a_user_has_no_cookie_to_give() {
    let mut rig = Rig::at_first_of(automatic(), &[tcp(1)]);
    assert_eq!(rig.session.send_cookie(rig.now, b"c"), Err(SendRefused::BadOptions));
}

#[test]
fn unknown_messages_are_reported_and_errors_never_are() {
    let mut rig = Rig::at_first_of(automatic(), &[tcp(1)]);
    // Type bits 01: discard and report.
    let unknown = [0x7f, 0, 0, 8, 1, 2, 3, 4];
    rig.control(L0, &unknown);
    let cause = ErrorCause { code: crate::types::CauseCode::UnrecognizedMessage, info: unknown.to_vec() };
    assert_eq!(rig.effects(), [said(L0, &AsapMessage::Error(vec![cause]))]);
    // Type bits 00: discard in silence.
    rig.control(L0, &[0x3f, 0, 0, 4]);
    rig.control(L0, &asap(&AsapMessage::Error(vec![])));
    // An error with an unknown parameter that wants reporting.
    rig.control(L0, &[0x0e, 0, 0, 12, 0xff, 0xff, 0, 8, 0, 0, 0, 0]);
    rig.control(L0, &[0x0e, 0, 0, 12, 0xff, 0xff, 0, 80, 0, 0, 0, 0]);
    assert_eq!((rig.effects(), rig.events()), (vec![], vec![]));
    assert_eq!(rig.session.state(), State::Connected);
}

#[test]
fn messages_with_no_place_on_a_control_channel_are_reported() {
    let strays = [
        AsapMessage::CookieEcho(b"c".to_vec()),
        AsapMessage::Deregistration { handle: pool(), element: PeId(1) },
        AsapMessage::KeepAliveAck { handle: pool(), element: PeId(1) },
        AsapMessage::CookieEcho(vec![0; 65_527]),
    ];
    for stray in strays {
        let mut rig = Rig::at_first_of(automatic(), &[tcp(1)]);
        rig.control(L0, &asap(&stray));
        let effects = rig.effects();
        let [Effect::Send { bytes, .. }] = effects.as_slice() else { panic!("{effects:?}") };
        assert_eq!(bytes[0], 0x0e);
        assert_eq!(rig.events(), []);
    }
}

#[test]
fn no_control_message_disturbs_the_session() {
    let mut rig = Rig::at_first_of(automatic(), &[tcp(1), tcp(2)]);
    let card = card(&[tcp(1), tcp(2)]);
    for cut in 0..card.len() {
        rig.control(L0, &card[..cut]);
    }
    for first in 0..=255 {
        rig.control(L0, &[first, 0, 0, 8, first, first, first, first]);
    }
    rig.control(L0, &[]);
    assert_eq!(rig.session.state(), State::Connected);
}

// --- The element's side

#[test]
fn an_element_hears_the_cookie_echo_before_the_data_and_has_no_failover() {
    let mut rig = Rig::element(automatic(), None);
    let link = LinkId::incoming(5);
    assert_eq!(rig.session.state(), State::Connecting);
    rig.up(link);
    rig.control(link, &asap(&AsapMessage::CookieEcho(b"state".to_vec())));
    rig.data(link, b"request");
    rig.session.send_cookie(rig.now, b"next").unwrap();
    rig.send(b"answer");
    assert_eq!(rig.effects(), [said(link, &AsapMessage::Cookie(b"next".to_vec())), sent(link, b"answer")]);
    let received = Event::Received { bytes: b"request".to_vec(), channel: DATA, complete: true, from: None };
    assert_eq!(rig.events()[1..], [Event::CookieEcho(b"state".to_vec()), received]);
    rig.returned(link, b"answer");
    rig.down(link, LinkFailure::Reset);
    assert_eq!(rig.events(), [send_failed(None, b"answer"), Event::Ended(Some(LinkFailure::Reset))]);
    assert_eq!(rig.effects(), []);
    rig.session.fail_over(rig.now, true, Duration::ZERO);
    assert_eq!((rig.session.state(), rig.session.poll_timeout()), (State::Ended, None));
}

#[test]
fn an_elements_session_ends_in_order_when_the_user_closes() {
    let mut rig = Rig::element(automatic(), None);
    rig.up(LinkId::incoming(5));
    rig.down(LinkId::incoming(5), LinkFailure::Closed);
    assert_eq!(rig.events().last(), Some(&Event::Ended(None)));
}

#[test]
fn an_accepted_link_that_never_comes_up_ends_the_session() {
    let mut rig = Rig::element(automatic(), None);
    rig.down(LinkId::incoming(5), LinkFailure::Garbled);
    assert_eq!(rig.events(), [Event::Ended(Some(LinkFailure::Garbled))]);
}

#[test]
fn cookies_are_said_as_rsplib_says_them() {
    let mut element = Rig::element(automatic(), None);
    element.up(LinkId::incoming(5));
    element.session.send_cookie(element.now, b"cookieX").unwrap();
    let effects = element.effects();
    let [Effect::Send { channel: Channel::Asap, bytes, .. }] = effects.as_slice() else {
        panic!("{effects:?}")
    };
    assert_eq!(bytes[..], *b"\x0b\0\0\x10\0\x0d\0\x0bcookieX\0");
    let mut rig = Rig::at_first_of(automatic(), &[tcp(1), tcp(2)]);
    rig.control(L0, bytes);
    rig.down(L0, LinkFailure::Reset);
    rig.effects();
    rig.up(L1);
    let echo = Effect::Send {
        link: L1,
        channel: Channel::Asap,
        bytes: b"\x0c\0\0\x10\0\x0d\0\x0bcookieX\0".to_vec(),
    };
    assert_eq!(rig.effects(), [echo]);
}
