use super::*;
use crate::session::NoElement;

// --- The first element

#[test]
fn resolves_connects_and_delivers_what_was_sent_meanwhile_in_order() {
    let mut rig = Rig::user(automatic());
    assert_eq!((rig.events(), rig.session.state()), (vec![resolve(5_000 * MS)], State::Connecting));
    rig.send(b"one");
    rig.resolved(&[tcp(1), tcp(2)]);
    rig.send(b"two");
    assert_eq!(rig.session.unsent(), 6);
    let (link, id) = rig.connecting();
    assert_eq!((link, id), (L0, 1));
    rig.up(link);
    rig.send(b"three");
    assert_eq!(rig.effects(), [sent(L0, b"one"), sent(L0, b"two"), sent(L0, b"three")]);
    let connected = Event::Connected { element: Some(PeId(1)), kind: LinkKind::Tcp, control: true };
    assert_eq!(rig.events(), [connected]);
    assert_eq!((rig.session.state(), rig.session.unsent()), (State::Connected, 0));
    assert_eq!(rig.session.poll_timeout().filter(|_| !rig.session.timers.is_empty()), None);
}

#[test]
fn the_transport_of_an_element_decides_link_and_protocol() {
    let address = IpAddr::V4(Ipv4Addr::LOCALHOST);
    let sctp = |transport_use| TransportAddress::Sctp {
        port: 9,
        transport_use,
        addresses: Addresses::new(vec![address, IpAddr::V4(Ipv4Addr::new(10, 0, 0, 9))]).unwrap(),
    };
    let cases = [
        (tcp(1), LinkKind::Tcp, Protocol::Session, 1),
        (plain(1), LinkKind::Tcp, Protocol::Plain, 1),
        (with_transport(1, sctp(TransportUse::DataOnly)), LinkKind::Sctp, Protocol::Plain, 2),
        (with_transport(1, sctp(TransportUse::DataPlusControl)), LinkKind::Sctp, Protocol::Session, 2),
        (with_transport(1, TransportAddress::Udp { port: 9, address }), LinkKind::Udp, Protocol::Plain, 1),
    ];
    for (element, kind, protocol, addresses) in cases {
        let mut rig = Rig::user(automatic());
        rig.resolved(&[element]);
        let effects = rig.effects();
        let [Effect::Connect { to, .. }] = effects.as_slice() else { panic!("{effects:?}") };
        assert_eq!((to.kind, to.protocol, to.addresses.as_slice().len()), (kind, protocol, addresses));
    }
}

#[test]
fn elements_on_transports_without_sessions_are_passed_over() {
    let address = IpAddr::V4(Ipv4Addr::LOCALHOST);
    let unusable = [
        with_transport(1, TransportAddress::Dccp { port: 1, service_code: 0, address }),
        with_transport(2, TransportAddress::UdpLite { port: 1, address }),
        with_transport(3, TransportAddress::Opaque(vec![1])),
    ];
    let mut rig = Rig::user(automatic());
    let mut all = unusable.to_vec();
    all.push(tcp(4));
    rig.resolved(&all);
    assert_eq!(rig.connecting().1, 4);

    let mut rig = Rig::user(automatic());
    rig.events();
    rig.resolved(&unusable);
    assert_eq!(rig.events(), [Event::FailoverFailed(NoElement::NotReached(vec![]))]);
}

#[test]
fn tries_the_elements_in_turn_and_reports_each_once() {
    let mut rig = Rig::user(automatic());
    rig.events();
    rig.resolved(&[tcp(1), tcp(2), tcp(3)]);
    assert_eq!(rig.connecting(), (L0, 1));
    rig.down(L0, LinkFailure::Refused);
    assert_eq!(rig.connecting(), (L1, 2));
    rig.pass(499 * MS);
    assert_eq!(rig.effects(), []);
    rig.pass(MS);
    let effects = rig.effects();
    assert_eq!(effects[0], Effect::Close { link: L1, abort: true });
    assert!(matches!(effects[1], Effect::Connect { link: L2, .. }));
    rig.down(L2, LinkFailure::NoResources);
    assert_eq!(rig.effects(), []);
    let missed = vec![
        (PeId(1), LinkFailure::Refused),
        (PeId(2), LinkFailure::TimedOut),
        (PeId(3), LinkFailure::NoResources),
    ];
    // That we have no descriptor left is not the third element's fault.
    let failed = Event::FailoverFailed(NoElement::NotReached(missed));
    assert_eq!(rig.events(), [unreachable(1), unreachable(2), failed]);
}

#[test]
fn after_a_fruitless_round_resolves_anew_and_goes_on_for_ever() {
    let mut rig = Rig::user(by_application());
    rig.resolved(&[tcp(1)]);
    for round in 0..100 {
        let (link, _) = rig.connecting();
        rig.events();
        rig.down(link, LinkFailure::Refused);
        let failed = Event::FailoverFailed(NoElement::NotReached(vec![(PeId(1), LinkFailure::Refused)]));
        let expected = if round == 0 { vec![unreachable(1), failed] } else { vec![failed] };
        assert_eq!((rig.events(), rig.session.state()), (expected, State::Connecting));
        rig.pass(49 * MS);
        assert_eq!(rig.events(), []);
        rig.pass(MS);
        assert_eq!(rig.events(), [resolve(Duration::ZERO)]);
        assert_eq!(rig.effects(), []);
        rig.resolved(&[tcp(1)]);
    }
}

#[test]
fn without_a_resolution_the_first_connection_keeps_asking() {
    let mut rig = Rig::user(automatic());
    rig.events();
    rig.unresolved(RequestFailure::UnknownPool);
    assert_eq!(rig.events(), [Event::FailoverFailed(NoElement::NotResolved(RequestFailure::UnknownPool))]);
    rig.pass(50 * MS);
    assert_eq!(rig.events(), [resolve(Duration::ZERO)]);
    rig.unresolved(RequestFailure::NoRegistrar(vec![]));
    assert!(matches!(rig.events()[..], [Event::FailoverFailed(NoElement::NotResolved(_))]));
    rig.pass(50 * MS);
    rig.resolved(&[tcp(1)]);
    assert_eq!(rig.connecting().1, 1);
}

#[test]
fn a_slow_resolution_is_waited_for_while_there_is_nobody_to_try() {
    let mut rig = Rig::user(automatic());
    rig.events();
    rig.pass(5_000 * MS);
    assert_eq!(rig.events(), [], "one question, and no verdict before its answer");
    rig.resolved(&[tcp(1)]);
    assert_eq!(rig.connecting().1, 1);
}

#[test]
fn the_policy_of_the_pool_decides() {
    let weighted = |id, load| {
        let policy = Policy::new(PolicyType::LeastUsed, &[load]);
        PoolElement { policy, ..tcp(id) }
    };
    let mut rig = Rig::user(automatic());
    rig.resolved(&[weighted(1, 900), weighted(2, 100), weighted(3, 500)]);
    assert_eq!(rig.connecting(), (L0, 2));
    rig.down(L0, LinkFailure::Refused);
    assert_eq!(rig.connecting(), (L1, 3));
    rig.down(L1, LinkFailure::Refused);
    assert_eq!(rig.connecting(), (L2, 1));
}

// --- Failover

#[test]
fn moves_on_in_the_same_instant_without_waiting_for_a_resolution() {
    let mut rig = Rig::at_first_of(automatic(), &[tcp(1), tcp(2)]);
    rig.down(L0, LinkFailure::Reset);
    assert_eq!(rig.connecting(), (L1, 2));
    assert_eq!(rig.events(), [Event::FailoverNecessary, unreachable(1), resolve(Duration::ZERO)]);
    assert_eq!(rig.session.state(), State::FailingOver);
    rig.pass(3 * MS);
    rig.up(L1);
    assert_eq!(rig.events(), [complete(2, false, 3 * MS)]);
    assert_eq!(rig.session.current(), Some(&tcp(2)));
    rig.resolved(&[tcp(2)]);
    assert_eq!((rig.effects(), rig.events(), rig.session.state()), (vec![], vec![], State::Connected));
}

#[test]
fn without_automatic_failover_waits_for_the_application() {
    let mut rig = Rig::at_first_of(by_application(), &[tcp(1), tcp(2)]);
    rig.down(L0, LinkFailure::TimedOut);
    assert_eq!(rig.events(), [Event::FailoverNecessary, unreachable(1)]);
    assert_eq!((rig.effects(), rig.session.state()), (vec![], State::Failed));
    assert_eq!(rig.send_with(b"x", SendOptions::DEFAULT), Err(SendRefused::FailedOver));
    rig.pass(1_000 * MS);
    rig.session.fail_over(rig.now, true, 60_000 * MS);
    assert_eq!(rig.events(), [resolve(Duration::ZERO)], "reported already");
    let (link, id) = rig.connecting();
    assert_eq!(id, 2);
    rig.up(link);
    assert_eq!(rig.events(), [complete(2, false, 1_000 * MS)]);
}

#[test]
fn a_failover_of_the_application_is_one_round() {
    let mut rig = Rig::at_first_of(by_application(), &[tcp(1), tcp(2)]);
    rig.down(L0, LinkFailure::Reset);
    rig.session.fail_over(rig.now, false, 60_000 * MS);
    rig.resolved(&[tcp(1), tcp(2)]);
    rig.down(L1, LinkFailure::Refused);
    rig.pass(50 * MS);
    rig.events();
    rig.down(L2, LinkFailure::Refused);
    let missed = vec![(PeId(2), LinkFailure::Refused), (PeId(1), LinkFailure::Refused)];
    assert_eq!(rig.events(), [Event::FailoverFailed(NoElement::NotReached(missed))]);
    assert_eq!(rig.session.state(), State::Failed);
    rig.effects();
    rig.pass(10_000 * MS);
    assert_eq!((rig.effects(), rig.session.state()), (vec![], State::Failed));
    rig.session.fail_over(rig.now, false, Duration::ZERO);
    assert_eq!(rig.effects(), [], "the list is too old");
    rig.resolved(&[tcp(2)]);
    let (link, _) = rig.connecting();
    rig.up(link);
    assert_eq!(rig.session.state(), State::Connected);
}

#[test]
fn an_application_may_leave_a_working_element_and_report_it() {
    for report in [false, true] {
        let mut rig = Rig::at_first_of(by_application(), &[tcp(1), tcp(2)]);
        rig.session.fail_over(rig.now, report, Duration::ZERO);
        assert_eq!(rig.effects(), [Effect::Close { link: L0, abort: report }]);
        let expected = if report { vec![unreachable(1)] } else { vec![] };
        assert_eq!(rig.events(), [expected, vec![resolve(Duration::ZERO)]].concat());
        rig.resolved(&[tcp(1), tcp(2)]);
        assert_eq!(rig.connecting().1, 2, "the one just left comes last");
    }
}

#[test]
fn an_old_list_is_used_when_no_registrar_answers() {
    for slow in [false, true] {
        let mut rig = Rig::at_first_of(by_application(), &[tcp(1), tcp(2)]);
        rig.session.fail_over(rig.now, false, Duration::ZERO);
        rig.effects();
        if slow {
            rig.pass(500 * MS);
        } else {
            rig.unresolved(RequestFailure::NoRegistrar(vec![]));
        }
        assert_eq!(rig.connecting().1, 2);
    }
}

#[test]
fn a_failover_during_a_failover_changes_nothing_but_ends_a_pause() {
    let mut rig = Rig::at_first_of(automatic(), &[tcp(1), tcp(2)]);
    rig.down(L0, LinkFailure::Reset);
    rig.connecting();
    rig.events();
    rig.session.fail_over(rig.now, true, Duration::ZERO);
    assert_eq!((rig.effects(), rig.events()), (vec![], vec![]));
    rig.unresolved(RequestFailure::TimedOut);
    rig.down(L1, LinkFailure::Refused);
    rig.pass(50 * MS);
    let (link, _) = rig.connecting();
    rig.down(link, LinkFailure::Refused);
    rig.events();
    rig.session.fail_over(rig.now, true, Duration::ZERO);
    assert_eq!(rig.events(), [resolve(Duration::ZERO)]);
}

#[test]
fn a_link_that_comes_up_and_is_lost_again_starts_another_failover() {
    let mut rig = Rig::at_first_of(automatic(), &[tcp(1), tcp(2), tcp(3)]);
    rig.down(L0, LinkFailure::Reset);
    rig.up(L1);
    rig.down(L1, LinkFailure::Reset);
    rig.up(L2);
    let events = rig.events();
    assert_eq!(events.iter().filter(|event| **event == Event::FailoverNecessary).count(), 2);
    assert_eq!(events.last(), Some(&complete(3, false, Duration::ZERO)));
    assert_eq!(rig.session.counters().failovers, 2);
}

#[test]
fn two_failures_in_one_instant_use_up_two_elements_once_each() {
    let mut rig = Rig::at_first_of(automatic(), &[tcp(1), tcp(2), tcp(3)]);
    rig.down(L0, LinkFailure::Reset);
    rig.down(L0, LinkFailure::TimedOut);
    rig.down(L1, LinkFailure::Refused);
    rig.down(L1, LinkFailure::Refused);
    rig.session.handle(rig.now, Input::Timeout);
    let events = rig.events();
    assert_eq!(events, [Event::FailoverNecessary, unreachable(1), resolve(Duration::ZERO), unreachable(2)]);
    let connects = rig.effects().len();
    assert_eq!((connects, rig.session.counters().late_inputs), (2, 2));
    rig.up(L2);
    assert_eq!(rig.session.current().map(|element| element.id), Some(PeId(3)));
}

#[test]
fn an_element_that_may_be_dying_is_not_tried_while_others_may_be_heard_of() {
    for why in [LinkFailure::Reset, LinkFailure::Closed] {
        let config = SessionConfig { orderly_end_is_final: false, ..automatic() };
        let mut rig = Rig::at_first_of(config, &[tcp(1)]);
        rig.down(L0, why);
        assert_eq!(rig.effects(), []);
        rig.pass(MS);
        rig.resolved(&[tcp(1), tcp(2)]);
        assert_eq!(rig.connecting().1, 2);
        rig.down(L1, LinkFailure::Refused);
        assert_eq!(rig.effects(), [], "there is time enough for the one that was lost");
        rig.pass(49 * MS);
        assert_eq!(rig.connecting().1, 1);
    }
}

#[test]
fn an_application_that_moves_on_at_once_is_not_led_to_a_dying_element_either() {
    let mut rig = Rig::at_first_of(by_application(), &[tcp(1)]);
    rig.down(L0, LinkFailure::Reset);
    rig.session.fail_over(rig.now, true, 60_000 * MS);
    assert_eq!(rig.effects(), []);
    let moved = PoolElement { user_transport: tcp(9).user_transport, ..tcp(1) };
    rig.resolved(&[moved]);
    assert_eq!(rig.connecting().1, 9, "it has been started anew elsewhere");
}

#[test]
fn a_pool_of_one_is_tried_again_with_pauses() {
    let mut rig = Rig::at_first_of(automatic(), &[tcp(1)]);
    rig.pass(1_000 * MS);
    rig.down(L0, LinkFailure::Reset);
    rig.pass(50 * MS);
    let (link, id) = rig.connecting();
    assert_eq!((link, id), (L1, 1));
    rig.down(L1, LinkFailure::Refused);
    assert_eq!(rig.effects(), []);
    rig.events();
    rig.resolved(&[tcp(1)]);
    assert_eq!(rig.effects(), []);
    assert!(matches!(rig.events()[..], [Event::FailoverFailed(_)]));
    rig.pass(50 * MS);
    rig.resolved(&[tcp(1)]);
    let (link, _) = rig.connecting();
    rig.up(link);
    assert_eq!(rig.events(), [resolve(Duration::ZERO), complete(1, false, 100 * MS)]);
}

#[test]
fn an_element_that_accepts_and_dies_at_once_makes_no_busy_loop() {
    let mut rig = Rig::at_first_of(automatic(), &[tcp(1), tcp(2)]);
    let mut link = L0;
    let mut connects = 0;
    let end = rig.now + 1_000 * MS;
    while rig.now < end {
        rig.down(link, LinkFailure::Reset);
        rig.session.resolved(rig.now, Ok(list(&[tcp(1), tcp(2)])));
        while let Some(effect) = rig.session.poll_effect() {
            if let Effect::Connect { link: next, .. } = effect {
                connects += 1;
                link = next;
                rig.up(next);
            }
        }
        rig.pass(MS);
    }
    assert!((10..=30).contains(&connects), "{connects} connects in a second");
}

#[test]
fn gives_up_at_the_deadline_and_returns_what_was_not_sent() {
    let config = SessionConfig { failover_deadline: Some(700 * MS), ..automatic() };
    let mut rig = Rig::at_first_of(config, &[tcp(1)]);
    rig.down(L0, LinkFailure::Reset);
    rig.send(b"kept");
    rig.down(L1, LinkFailure::Refused);
    rig.unresolved(RequestFailure::UnknownPool);
    rig.pass(699 * MS);
    assert_eq!(rig.session.state(), State::FailingOver);
    rig.events();
    rig.pass(MS);
    assert_eq!(rig.events(), [send_failed(None, b"kept"), Event::Ended(Some(LinkFailure::Reset))]);
    assert_eq!((rig.session.state(), rig.session.poll_timeout()), (State::Ended, None));
    assert_eq!(rig.send_with(b"x", SendOptions::DEFAULT), Err(SendRefused::Ended));
}

#[test]
fn the_deadline_closes_the_link_being_opened() {
    let config = SessionConfig { failover_deadline: Some(100 * MS), ..automatic() };
    let mut rig = Rig::at_first_of(config, &[tcp(1), tcp(2)]);
    rig.down(L0, LinkFailure::TimedOut);
    rig.effects();
    rig.pass(100 * MS);
    assert_eq!(rig.effects(), [Effect::Close { link: L1, abort: true }]);
    assert_eq!(rig.events().last(), Some(&Event::Ended(Some(LinkFailure::TimedOut))));
    rig.up(L1);
    assert_eq!((rig.session.state(), rig.effects()), (State::Ended, vec![]));
}

#[test]
fn switching_to_automatic_while_failed_moves_on() {
    let mut rig = Rig::at_first_of(by_application(), &[tcp(1), tcp(2)]);
    rig.down(L0, LinkFailure::Reset);
    rig.session.configure(automatic());
    rig.pass(Duration::ZERO);
    assert_eq!(rig.connecting().1, 2);
}

#[test]
fn an_orderly_end_by_the_peer_ends_the_session() {
    for config in [automatic(), by_application()] {
        let mut rig = Rig::at_first_of(config, &[tcp(1), tcp(2)]);
        rig.down(L0, LinkFailure::Closed);
        assert_eq!((rig.effects(), rig.events()), (vec![], vec![Event::Ended(None)]));
        assert_eq!(rig.session.state(), State::Ended);
    }
}

#[test]
fn on_a_plain_link_the_end_of_the_data_is_no_failure_but_a_reset_is() {
    for (why, state) in [(LinkFailure::Closed, State::Ended), (LinkFailure::Reset, State::FailingOver)] {
        let mut rig = Rig::user(automatic());
        rig.resolved(&[plain(1), plain(2)]);
        rig.up_as(L0, LinkKind::Tcp, Protocol::Plain);
        rig.down(L0, why);
        assert_eq!(rig.session.state(), state);
    }
}

#[test]
fn a_pool_change_ends_the_wait_for_the_next_round() {
    let mut rig = Rig::at_first_of(automatic(), &[tcp(1)]);
    rig.down(L0, LinkFailure::Reset);
    rig.down(L1, LinkFailure::Refused);
    rig.unresolved(RequestFailure::TimedOut);
    rig.effects();
    rig.session.pool_changed(rig.now, Some(&list(&[tcp(2)])));
    assert_eq!(rig.connecting().1, 2);
}

#[test]
fn an_attempt_at_an_element_that_leaves_the_pool_is_given_up_for_another() {
    let mut rig = Rig::at_first_of(automatic(), &[tcp(1), tcp(2)]);
    rig.down(L0, LinkFailure::Reset);
    rig.effects();
    rig.session.pool_changed(rig.now, Some(&list(&[tcp(3)])));
    let effects = rig.effects();
    assert_eq!(effects[0], Effect::Close { link: L1, abort: true });
    assert!(matches!(effects[1], Effect::Connect { link: L2, .. }));
}

#[test]
fn an_element_that_left_the_pool_and_is_silent_has_failed() {
    let mut rig = Rig::at_first_of(automatic(), &[tcp(1), tcp(2)]);
    rig.send(b"request");
    rig.effects();
    rig.session.pool_changed(rig.now, Some(&list(&[tcp(2)])));
    rig.pass(499 * MS);
    assert_eq!(rig.session.state(), State::Connected);
    rig.pass(MS);
    let effects = rig.effects();
    assert_eq!(effects[0], Effect::Close { link: L0, abort: true });
    assert!(matches!(effects[1], Effect::Connect { link: L1, .. }));
    assert_eq!(rig.session.counters().silent_elements, 1);
}

#[test]
fn an_element_that_left_the_pool_and_answers_stays() {
    let mut rig = Rig::at_first_of(automatic(), &[tcp(1), tcp(2)]);
    rig.session.pool_changed(rig.now, Some(&list(&[tcp(2)])));
    rig.pass(10_000 * MS);
    for _ in 0..5 {
        rig.send(b"request");
        rig.pass(400 * MS);
        rig.data(L0, b"answer");
        rig.pass(400 * MS);
    }
    assert_eq!(rig.session.state(), State::Connected);
    rig.send(b"request");
    rig.pass(1_000 * MS);
    assert_eq!(rig.session.state(), State::FailingOver);
}

#[test]
fn an_element_that_comes_back_to_the_pool_is_no_longer_watched() {
    let mut rig = Rig::at_first_of(automatic(), &[tcp(1), tcp(2)]);
    rig.send(b"request");
    rig.session.pool_changed(rig.now, None);
    rig.session.pool_changed(rig.now, Some(&list(&[tcp(1)])));
    rig.pass(10_000 * MS);
    assert_eq!(rig.session.state(), State::Connected);
}

#[test]
fn a_request_sent_late_in_the_watch_gets_its_full_time() {
    let mut rig = Rig::at_first_of(automatic(), &[tcp(1), tcp(2)]);
    rig.session.pool_changed(rig.now, Some(&list(&[tcp(2)])));
    rig.send(b"request");
    rig.pass(400 * MS);
    rig.data(L0, b"answer");
    rig.send(b"request");
    rig.pass(400 * MS);
    assert_eq!(rig.session.state(), State::Connected);
    rig.pass(400 * MS);
    assert_eq!(rig.session.state(), State::FailingOver);
}

#[test]
fn each_element_is_watched_for_itself() {
    let mut rig = Rig::at_first_of(automatic(), &[tcp(1), tcp(2), tcp(3)]);
    rig.send(b"request");
    rig.session.pool_changed(rig.now, Some(&list(&[tcp(2), tcp(3)])));
    rig.pass(400 * MS);
    rig.down(L0, LinkFailure::Reset);
    rig.up(L1);
    rig.send(b"request");
    rig.session.pool_changed(rig.now, Some(&list(&[tcp(3)])));
    rig.pass(499 * MS);
    assert_eq!(rig.session.state(), State::Connected);
    rig.pass(MS);
    assert_eq!(rig.session.state(), State::FailingOver);
}

#[test]
fn with_a_resolution_overdue_a_failover_uses_the_list_held() {
    let mut rig = Rig::at_first_of(by_application(), &[tcp(1), tcp(2)]);
    rig.session.fail_over(rig.now, false, Duration::ZERO);
    rig.pass(500 * MS);
    rig.up(L1);
    rig.effects();
    rig.events();
    rig.session.fail_over(rig.now, false, Duration::ZERO);
    assert!(matches!(rig.effects()[..], [Effect::Close { .. }, Effect::Connect { .. }]));
    assert_eq!(rig.events(), [], "the question is still open");
}

#[test]
fn elements_not_reached_in_one_failover_are_tried_in_the_next() {
    let mut rig = Rig::at_first_of(automatic(), &[tcp(1), tcp(2), tcp(3)]);
    rig.down(L0, LinkFailure::Reset);
    rig.down(L1, LinkFailure::Refused);
    rig.up(L2);
    rig.effects();
    rig.down(L2, LinkFailure::Reset);
    let mut tried = vec![rig.connecting().1];
    rig.down(LinkId::outgoing(3), LinkFailure::Refused);
    tried.push(rig.connecting().1);
    assert_eq!(tried, [1, 2], "the one suspected longest first");
}

#[test]
fn an_element_that_moved_gets_a_new_chance_at_once() {
    let mut rig = Rig::at_first_of(automatic(), &[tcp(1), tcp(2)]);
    rig.down(L0, LinkFailure::Reset);
    rig.down(L1, LinkFailure::Refused);
    rig.unresolved(RequestFailure::TimedOut);
    rig.down(L2, LinkFailure::Refused);
    rig.effects();
    assert_eq!(rig.session.state(), State::FailingOver);
    let moved = PoolElement { user_transport: tcp(9).user_transport, ..tcp(2) };
    rig.session.pool_changed(rig.now, Some(&list(&[tcp(1), moved])));
    assert_eq!(rig.connecting().1, 9);
}
