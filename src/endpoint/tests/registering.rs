//! Registration, deregistration, keep-alives (RFC 5352 3.1, 3.2, 3.4).

use super::*;

#[test]
fn registers_once_a_home_is_found_and_tells_success_once() {
    let mut rig = Rig::knowing(&[1]);
    let registration = rig.register("pool", 5);
    rig.drain();
    rig.up(link(0));
    let sent = rig.sent();
    let [(_, AsapMessage::Registration(Registration { handle, element }))] = &sent[..] else {
        panic!("{sent:?}")
    };
    assert_eq!((handle, element.id, &element.user_transport), (&pool("pool"), PeId(5), &tcp(7)));
    assert_eq!(element.capabilities, Some(Capabilities::TCP_CONTROL_CHANNEL));
    rig.drain();
    rig.message(link(0), &granted("pool", 5));
    assert_eq!(rig.events(), [Event::Registered { registration, warnings: vec![] }]);
    rig.message(link(0), &granted("pool", 5));
    assert!(rig.events().is_empty());
}

fn registrations(sent: &[(LinkId, AsapMessage)]) -> Vec<(LinkId, u32)> {
    let registration = |(link, message): &(LinkId, AsapMessage)| match message {
        AsapMessage::Registration(registration) => Some((*link, registration.element.id.0)),
        _ => None,
    };
    sent.iter().filter_map(registration).collect()
}

fn deregistrations(sent: &[(LinkId, AsapMessage)]) -> Vec<(LinkId, u32)> {
    let deregistration = |(link, message): &(LinkId, AsapMessage)| match message {
        AsapMessage::Deregistration { element, .. } => Some((*link, element.0)),
        _ => None,
    };
    sent.iter().filter_map(deregistration).collect()
}

/// An endpoint with element 5 of "pool" registered at registrar 1 over link 0, and nothing left unsaid.
fn registered(registrars: &[u8]) -> (Rig, RegistrationId) {
    let mut rig = Rig::at_home(registrars);
    let registration = rig.register("pool", 5);
    rig.message(link(0), &granted("pool", 5));
    rig.drain();
    (rig, registration)
}

fn leave(registration: RegistrationId, how: Deregistration) -> Event {
    Event::Deregistered { registration, how }
}

fn failed(registration: RegistrationId, why: RequestFailure, retrying: bool) -> Event {
    Event::RegistrationFailed { registration, why, retrying }
}

#[test]
fn warnings_come_with_success() {
    let mut rig = Rig::at_home(&[1]);
    let registration = rig.register("pool", 5);
    let warnings = vec![ErrorCause::bare(CauseCode::InvalidValues)];
    let message = AsapMessage::RegistrationResponse {
        reject: false,
        handle: pool("pool"),
        element: PeId(5),
        capabilities: None,
        error: Some(warnings.clone()),
    };
    rig.message(link(0), &message);
    assert_eq!(rig.events(), [Event::Registered { registration, warnings }]);
}

#[test]
fn the_listener_is_registered_over_tcp_only() {
    let listener = |address: [u8; 4]| TransportAddress::Tcp {
        port: 3900,
        transport_use: TransportUse::DataOnly,
        address: address.into(),
    };
    for (kind, address, expected) in [
        (LinkKind::Tcp, [10, 0, 0, 99], Some(listener([10, 0, 0, 99]))),
        (LinkKind::Tcp, [0, 0, 0, 0], Some(listener([10, 0, 0, 99]))),
        (LinkKind::Sctp, [10, 0, 0, 99], None),
    ] {
        let mut rig = Rig::knowing(&[1]);
        rig.endpoint.set_listener(Some(listener(address)));
        rig.register("pool", 5);
        rig.drain();
        let local = &["10.0.0.99:40000".parse().unwrap()];
        rig.input(Input::LinkUp {
            link: link(0),
            kind,
            protocol: Protocol::Asap,
            local,
            peer: &[],
            identity: None,
        });
        let sent = rig.sent();
        let [(_, AsapMessage::Registration(registration))] = &sent[..] else { panic!("{sent:?}") };
        assert_eq!(registration.element.asap_transport, expected);
    }
}

#[test]
fn a_refused_registration_is_told_and_never_tried_again_uncorrected() {
    let mut rig = Rig::at_home(&[1, 2]);
    let registration = rig.register("pool", 5);
    rig.drain();
    rig.message(link(0), &rejected("pool", 5, CauseCode::InconsistentPoolingPolicy));
    let why = RequestFailure::Rejected(vec![ErrorCause::bare(CauseCode::InconsistentPoolingPolicy)]);
    assert_eq!(rig.events(), [failed(registration, why, false)]);
    rig.pass(Duration::from_secs(3_600));
    assert!(rig.effects().is_empty() && rig.events().is_empty());
    // Nor at another registrar.
    rig.down(link(0), LinkFailure::Reset);
    rig.resolve("pool", 0);
    let (next, _) = rig.connects()[0];
    rig.up(next);
    assert_eq!(registrations(&rig.sent()), []);
    // Corrected, it is.
    rig.update(registration, offer("pool", 5));
    assert_eq!(registrations(&rig.sent()), [(next, 5)]);
    rig.message(next, &granted("pool", 5));
    assert_eq!(rig.events().last(), Some(&Event::Registered { registration, warnings: vec![] }));
}

#[test]
fn an_element_that_was_never_held_is_deregistered_without_a_word() {
    // Its identifier may be another element's, which must not be deregistered.
    let mut rig = Rig::at_home(&[1]);
    let registration = rig.register("pool", 5);
    rig.message(link(0), &rejected("pool", 5, CauseCode::NonUniquePeId));
    rig.drain();
    rig.deregister(registration);
    assert_eq!(rig.events(), [leave(registration, Deregistration::Confirmed)]);
    assert!(rig.effects().is_empty());
}

#[test]
fn an_unanswered_registration_is_repeated_with_back_off_up_to_retran_max() {
    let mut rig = Rig::at_home(&[1]);
    let start = rig.now;
    let registration = rig.register("pool", 5);
    assert_eq!(registrations(&rig.sent()), [(link(0), 5)]);
    let mut at = Vec::new();
    for n in 0..2 {
        let next = rig.endpoint.poll_timeout().unwrap();
        rig.pass(next.since(rig.now));
        at.push(rig.now.since(start).as_millis());
        if n == 0 {
            assert_eq!(registrations(&rig.sent()), [(link(0), 5)]);
            assert!(rig.events().is_empty());
        }
    }
    assert_eq!(at, [500, 1_500]);
    // MAX-REG-ATTEMPT: told, and the silent registrar is given up; it goes on in the background.
    assert_eq!(
        rig.events(),
        [failed(registration, RequestFailure::TimedOut, true), Event::HomeChanged(None)]
    );
    let (next, _) = rig.connects()[0];
    rig.up(next);
    rig.message(next, &granted("pool", 5));
    assert!(rig.events().contains(&Event::Registered { registration, warnings: vec![] }));
}

#[test]
fn back_off_ends_at_retran_max() {
    let mut rig = Rig::at_home(&[1]);
    rig.register("pool", 5);
    rig.drain();
    let mut sent_at = Vec::new();
    for _ in 0..800 {
        rig.pass(MS(10));
        // The registrar lives, so that it is not given up, but it does not answer this.
        rig.message(link(0), &AsapMessage::Error(vec![ErrorCause::bare(CauseCode::Unspecified)]));
        if !registrations(&rig.sent()).is_empty() {
            sent_at.push(rig.now.as_nanos() / 1_000_000 - 1_000);
        }
    }
    assert_eq!(sent_at, [500, 1_500, 2_500, 3_500, 4_500, 5_500, 6_500, 7_500]);
}

#[test]
fn without_registrar_the_failure_is_told_at_the_deadline_exactly_and_once() {
    let mut rig = Rig::knowing(&[1]);
    let registration = rig.endpoint.register(rig.now, offer("pool", 5), rig.now + MS(100));
    rig.down(link(0), LinkFailure::Refused);
    rig.events();
    rig.pass(MS(99));
    assert!(rig.events().is_empty());
    rig.pass(MS(1));
    let why = RequestFailure::NoRegistrar(vec![(to(1), LinkFailure::Refused)]);
    assert_eq!(rig.events(), [failed(registration, why, true)]);
    rig.pass(Duration::from_secs(60));
    assert!(!rig.events().iter().any(|e| matches!(e, Event::RegistrationFailed { .. })));
    let (last, _) = *rig.connects().last().unwrap();
    rig.up(last);
    rig.message(last, &granted("pool", 5));
    assert!(rig.events().contains(&Event::Registered { registration, warnings: vec![] }));
}

#[test]
fn a_registration_unanswered_at_its_deadline_is_told_as_timed_out() {
    let mut rig = Rig::at_home(&[1]);
    let registration = rig.endpoint.register(rig.now, offer("pool", 5), rig.now + MS(100));
    rig.pass(MS(100));
    assert_eq!(rig.events(), [failed(registration, RequestFailure::TimedOut, true)]);
    rig.message(link(0), &granted("pool", 5));
    assert_eq!(rig.events(), [Event::Registered { registration, warnings: vec![] }]);
}

#[test]
fn an_answer_at_the_very_deadline_counts() {
    let mut rig = Rig::at_home(&[1]);
    let deadline = rig.now + MS(100);
    let registration = rig.endpoint.register(rig.now, offer("pool", 5), deadline);
    rig.now = deadline;
    rig.message(link(0), &granted("pool", 5));
    assert_eq!(rig.events(), [Event::Registered { registration, warnings: vec![] }]);
}

#[test]
fn renews_before_the_life_ends_and_says_nothing_about_it() {
    let (mut rig, _) = registered(&[1]);
    rig.pass(Duration::from_secs(280) - MS(1));
    assert!(rig.effects().is_empty());
    rig.pass(MS(1));
    assert_eq!(registrations(&rig.sent()), [(link(0), 5)]);
    rig.message(link(0), &granted("pool", 5));
    assert!(rig.events().is_empty());
    rig.pass(Duration::from_secs(280));
    assert_eq!(registrations(&rig.sent()), [(link(0), 5)]);
}

#[test]
fn renewal_follows_life_and_wish_and_is_never_a_storm() {
    let seconds = RegistrationLife::Seconds;
    for (life, renewal, expected) in [
        (seconds(30), None, MS(15_000)),
        (seconds(3_600), None, MS(600_000)),
        (RegistrationLife::Infinite, None, MS(600_000)),
        (RegistrationLife::Milliseconds(60_000), None, MS(40_000)),
        (seconds(300), Some(MS(2_000)), MS(2_000)),
        (seconds(0), None, MS(100)),
        (seconds(300), Some(MS(0)), MS(100)),
    ] {
        let mut rig = Rig::at_home(&[1]);
        let offer = Offer { life, renewal, ..offer("pool", 5) };
        rig.endpoint.register(rig.now, offer, Time::NEVER);
        rig.message(link(0), &granted("pool", 5));
        assert_eq!(rig.endpoint.poll_timeout(), Some(rig.now + expected), "{life:?} {renewal:?}");
    }
}

#[test]
fn a_renewal_never_answered_is_told() {
    let (mut rig, registration) = registered(&[1]);
    rig.pass(Duration::from_secs(282));
    let told = failed(registration, RequestFailure::TimedOut, true);
    assert_eq!(rig.events().iter().filter(|e| **e == told).count(), 1);
}

#[test]
fn an_update_is_registered_at_once_under_the_same_identifier() {
    let (mut rig, registration) = registered(&[1]);
    let policy = Policy::new(PolicyType::LeastUsed, &[77]);
    rig.update(registration, Offer { policy, ..offer("other pool", 6) });
    let sent = rig.sent();
    let [(_, AsapMessage::Registration(Registration { handle, element }))] = &sent[..] else {
        panic!("{sent:?}")
    };
    assert_eq!((handle, element.id, element.policy.load()), (&pool("pool"), PeId(5), Some(Load(77))));
    rig.message(link(0), &granted("pool", 5));
    assert_eq!(rig.events(), [Event::Registered { registration, warnings: vec![] }]);
}

#[test]
fn an_update_while_one_is_outstanding_follows_its_answer() {
    let mut rig = Rig::at_home(&[1]);
    let registration = rig.register("pool", 5);
    rig.drain();
    rig.update(registration, Offer { user_transport: tcp(8), ..offer("pool", 5) });
    assert!(rig.effects().is_empty(), "answers name no request: one at a time");
    rig.message(link(0), &granted("pool", 5));
    assert!(rig.events().is_empty(), "the newer offer is not confirmed yet");
    let sent = rig.sent();
    let [(_, AsapMessage::Registration(again))] = &sent[..] else { panic!("{sent:?}") };
    assert_eq!(again.element.user_transport, tcp(8));
    rig.message(link(0), &granted("pool", 5));
    assert_eq!(rig.events(), [Event::Registered { registration, warnings: vec![] }]);
}

#[test]
fn a_late_refusal_of_a_repetition_is_told() {
    let mut rig = Rig::at_home(&[1]);
    let registration = rig.register("pool", 5);
    rig.pass(MS(500));
    rig.message(link(0), &granted("pool", 5));
    rig.drain();
    rig.message(link(0), &rejected("pool", 5, CauseCode::LackOfResources));
    let why = RequestFailure::Rejected(vec![ErrorCause::bare(CauseCode::LackOfResources)]);
    assert_eq!(rig.events(), [failed(registration, why, false)]);
}

#[test]
fn a_refusal_nobody_asked_for_changes_nothing() {
    let (mut rig, _) = registered(&[1]);
    rig.message(link(0), &rejected("pool", 5, CauseCode::LackOfResources));
    assert!(rig.events().is_empty());
    rig.pass(Duration::from_secs(280));
    assert_eq!(registrations(&rig.sent()).len(), 1);
}

#[test]
fn answers_for_somebody_elses_element_are_ignored() {
    let mut rig = Rig::at_home(&[1]);
    rig.register("pool", 5);
    rig.drain();
    rig.message(link(0), &granted("pool", 6));
    rig.message(link(0), &rejected("other", 5, CauseCode::Unspecified));
    rig.message(link(0), &deregistered("pool", 6));
    assert!(rig.events().is_empty());
    assert_eq!(rig.endpoint.poll_timeout(), Some(rig.now + MS(500)), "T2 still runs");
}

#[test]
fn a_registration_whose_link_is_lost_goes_to_the_next_registrar_at_once() {
    let mut rig = Rig::at_home(&[1, 2]);
    let registration = rig.register("pool", 5);
    rig.down(link(0), LinkFailure::Reset);
    rig.drain();
    rig.up(link(2));
    assert_eq!(registrations(&rig.sent()), [(link(2), 5)]);
    rig.message(link(2), &granted("pool", 5));
    assert_eq!(rig.events().last(), Some(&Event::Registered { registration, warnings: vec![] }));
}

#[test]
fn after_losing_the_registrar_all_elements_register_at_another_one_at_once() {
    let mut rig = Rig::at_home(&[1, 2]);
    let all: Vec<RegistrationId> =
        [("a", 1), ("a", 2), ("b", 1)].map(|(handle, id)| rig.register(handle, id)).to_vec();
    for (handle, id) in [("a", 1), ("a", 2), ("b", 1)] {
        rig.message(link(0), &granted(handle, id));
    }
    rig.drain();
    rig.down(link(0), LinkFailure::Reset);
    rig.drain();
    rig.up(link(2));
    assert_eq!(registrations(&rig.sent()), [(link(2), 1), (link(2), 2), (link(2), 1)]);
    rig.events();
    for (handle, id) in [("b", 1), ("a", 2), ("a", 1)] {
        rig.message(link(2), &granted(handle, id));
    }
    let told: Vec<Event> =
        [2, 1, 0].map(|n| Event::Registered { registration: all[n], warnings: vec![] }).to_vec();
    assert_eq!(rig.events(), told);
}

#[test]
fn an_identifier_this_endpoint_already_has_is_refused() {
    let (mut rig, _) = registered(&[1]);
    let twin = rig.register("pool", 5);
    let why = RequestFailure::Rejected(vec![ErrorCause::bare(CauseCode::NonUniquePeId)]);
    assert_eq!(rig.events(), [failed(twin, why, false)]);
    rig.deregister(twin);
    rig.update(twin, offer("pool", 5));
    assert!(rig.effects().is_empty() && rig.events().is_empty());
}

#[test]
fn an_element_may_come_back_before_its_deregistration_is_confirmed() {
    let (mut rig, first) = registered(&[1]);
    rig.deregister(first);
    rig.drain();
    let second = rig.register("pool", 5);
    assert_eq!(rig.events(), [leave(first, Deregistration::Unconfirmed)]);
    assert_eq!(registrations(&rig.sent()), [(link(0), 5)]);
    rig.message(link(0), &deregistered("pool", 5));
    rig.message(link(0), &granted("pool", 5));
    assert_eq!(rig.events(), [Event::Registered { registration: second, warnings: vec![] }]);
}

#[test]
fn a_registration_that_cannot_be_said_is_refused_here() {
    let mut rig = Rig::at_home(&[1]);
    let handle = PoolHandle::new(&[b'x'; 65_531]).unwrap();
    let registration = rig.endpoint.register(rig.now, Offer { handle, ..offer("x", 5) }, Time::NEVER);
    let why = RequestFailure::Rejected(vec![ErrorCause::bare(CauseCode::InvalidValues)]);
    assert_eq!(rig.events(), [failed(registration, why, false)]);
    rig.deregister(registration);
    assert_eq!(rig.events(), [leave(registration, Deregistration::Confirmed)]);
}

#[test]
fn deregisters_under_the_same_name_on_the_home_link() {
    let (mut rig, registration) = registered(&[1]);
    rig.deregister(registration);
    let message = AsapMessage::Deregistration { handle: pool("pool"), element: PeId(5) };
    assert_eq!(rig.sent(), [(link(0), message)]);
    rig.deregister(registration);
    assert!(rig.effects().is_empty(), "once is enough");
    rig.message(link(0), &deregistered("pool", 5));
    assert_eq!(rig.events(), [leave(registration, Deregistration::Confirmed)]);
    rig.message(link(0), &deregistered("pool", 5));
    assert!(rig.events().is_empty());
    assert_eq!(rig.endpoint.poll_timeout(), None);
}

#[test]
fn deregistration_of_an_element_never_sent_needs_no_network() {
    let mut rig = Rig::knowing(&[1]);
    let registration = rig.register("pool", 5);
    rig.drain();
    rig.deregister(registration);
    assert_eq!(rig.events(), [leave(registration, Deregistration::Confirmed)]);
    assert_eq!(closed(&rig.effects()), [link(0)], "and the hunt ends");
}

#[test]
fn an_unanswered_deregistration_is_repeated_and_goes_to_another_registrar() {
    let (mut rig, registration) = registered(&[1, 2]);
    rig.deregister(registration);
    rig.drain();
    rig.pass(MS(500));
    let effects = rig.effects();
    let again: Vec<_> = effects.iter().cloned().filter_map(sent).collect();
    assert_eq!(deregistrations(&again), [(link(0), 5)]);
    rig.up(link(2));
    assert_eq!(deregistrations(&rig.sent()), [(link(2), 5)]);
    rig.message(link(2), &deregistered("pool", 5));
    assert_eq!(rig.events().last(), Some(&leave(registration, Deregistration::Confirmed)));
}

#[test]
fn a_deregistration_while_hunting_is_sent_to_the_new_home() {
    let (mut rig, registration) = registered(&[1, 2]);
    rig.down(link(0), LinkFailure::Reset);
    rig.deregister(registration);
    rig.drain();
    rig.up(link(2));
    let sent = rig.sent();
    assert_eq!((registrations(&sent), deregistrations(&sent)), (vec![], vec![(link(2), 5)]));
}

#[test]
fn a_deregistration_whose_link_is_lost_is_sent_to_the_next_home() {
    let (mut rig, registration) = registered(&[1, 2]);
    rig.deregister(registration);
    rig.down(link(0), LinkFailure::Reset);
    rig.drain();
    rig.up(link(2));
    assert_eq!(deregistrations(&rig.sent()), [(link(2), 5)]);
}

#[test]
fn a_deregistration_nobody_confirms_ends_at_its_deadline_exactly() {
    let (mut rig, registration) = registered(&[1]);
    rig.endpoint.deregister(rig.now, registration, rig.now + MS(100));
    rig.pass(MS(99));
    assert!(rig.events().is_empty());
    rig.pass(MS(1));
    assert_eq!(rig.events(), [leave(registration, Deregistration::Unconfirmed)]);
    assert_eq!(rig.endpoint.poll_timeout(), None);
}

#[test]
fn a_refused_deregistration_is_told_with_its_causes() {
    let (mut rig, registration) = registered(&[1]);
    rig.deregister(registration);
    let causes = vec![ErrorCause::bare(CauseCode::RejectedDueToSecurity)];
    let error = Some(causes.clone());
    rig.message(
        link(0),
        &AsapMessage::DeregistrationResponse { handle: pool("pool"), element: PeId(5), error },
    );
    assert_eq!(rig.events(), [leave(registration, Deregistration::Refused(causes))]);
    assert_eq!(rig.endpoint.poll_timeout(), None, "not renewed any more");
}

#[test]
fn a_deregistration_follows_a_registration_still_outstanding() {
    let mut rig = Rig::at_home(&[1]);
    let registration = rig.register("pool", 5);
    rig.deregister(registration);
    let sent = rig.sent();
    assert_eq!((registrations(&sent).len(), deregistrations(&sent).len()), (1, 1));
    rig.message(link(0), &granted("pool", 5));
    assert!(rig.events().is_empty());
    rig.message(link(0), &deregistered("pool", 5));
    assert_eq!(rig.events(), [leave(registration, Deregistration::Confirmed)]);
}

#[test]
fn an_expired_registration_is_told_and_renewed_at_once() {
    let (mut rig, registration) = registered(&[1]);
    rig.message(link(0), &deregistered("pool", 5));
    assert_eq!(rig.events(), [leave(registration, Deregistration::Expired)]);
    assert_eq!(registrations(&rig.sent()), [(link(0), 5)]);
    rig.message(link(0), &granted("pool", 5));
    assert_eq!(rig.events(), [Event::Registered { registration, warnings: vec![] }]);
}

#[test]
fn an_element_told_at_its_listener_that_it_was_taken_for_dead_registers_at_home_and_no_more() {
    let (mut rig, registration) = registered(&[1]);
    let asked = rig.incoming(0);
    rig.message(asked, &deregistered("pool", 6));
    assert_eq!(registrations(&rig.sent()), []);
    for _ in 0..3 {
        // The first is under way.
        rig.message(asked, &deregistered("pool", 5));
    }
    assert_eq!(registrations(&rig.sent()), [(link(0), 5)]);
    rig.message(link(0), &granted("pool", 5));
    assert_eq!(rig.events(), []);
    // Not while it leaves.
    rig.deregister(registration);
    rig.message(asked, &deregistered("pool", 5));
    assert_eq!(rig.events(), []);
}

#[test]
fn an_expiry_that_crosses_the_renewal_is_told_and_the_renewal_counts() {
    let (mut rig, registration) = registered(&[1]);
    rig.update(registration, offer("pool", 5));
    rig.drain();
    rig.message(link(0), &deregistered("pool", 5));
    assert_eq!(rig.events(), [leave(registration, Deregistration::Expired)]);
    assert!(rig.effects().is_empty());
    rig.message(link(0), &granted("pool", 5));
    assert_eq!(rig.events(), [Event::Registered { registration, warnings: vec![] }]);
}

fn acks(sent: Vec<(LinkId, AsapMessage)>) -> Vec<(LinkId, u32)> {
    let ack = |(link, message)| match message {
        AsapMessage::KeepAliveAck { element, .. } => Some((link, element.0)),
        _ => None,
    };
    sent.into_iter().filter_map(ack).collect()
}

#[test]
fn a_keep_alive_is_acknowledged_on_its_link_and_tells_the_homes_identity() {
    let (mut rig, _) = registered(&[1]);
    rig.message(link(0), &keep_alive(false, 0x11, "pool", Some(5)));
    assert_eq!(acks(rig.sent()), [(link(0), 5)]);
    assert_eq!(rig.endpoint.home().unwrap().server, ServerId::new(0x11));
    let prober = rig.incoming(0);
    rig.message(prober, &keep_alive(false, 0x22, "pool", Some(5)));
    assert_eq!(acks(rig.sent()), [(prober, 5)]);
    assert_eq!(rig.endpoint.home().unwrap().server, ServerId::new(0x11), "a probe adopts nobody");
}

#[test]
fn a_keep_alive_without_element_is_acknowledged_for_each_element_of_the_pool() {
    let mut rig = Rig::at_home(&[1]);
    for (handle, id) in [("pool", u32::MAX), ("pool", 0), ("poo", 3), ("pool2", 4)] {
        rig.register(handle, id);
        rig.message(link(0), &granted(handle, id));
    }
    rig.drain();
    rig.message(link(0), &keep_alive(false, 0x11, "pool", None));
    assert_eq!(acks(rig.sent()), [(link(0), 0), (link(0), u32::MAX)]);
}

#[test]
fn a_keep_alive_that_does_not_match_is_silently_discarded() {
    let (mut rig, registration) = registered(&[1]);
    let stranger = rig.incoming(0);
    rig.message(stranger, &keep_alive(true, 0x22, "other", None));
    rig.message(stranger, &keep_alive(true, 0x22, "pool", Some(6)));
    assert!(rig.effects().is_empty() && rig.events().is_empty());
    assert_eq!(rig.endpoint.counters().adoptions, 0);
    rig.deregister(registration);
    rig.message(link(0), &deregistered("pool", 5));
    rig.drain();
    rig.message(link(0), &keep_alive(false, 0x11, "pool", None));
    assert!(rig.effects().is_empty());
}

#[test]
fn a_registrar_that_claims_the_element_becomes_home_on_the_link_it_came_on() {
    let (mut rig, registration) = registered(&[1]);
    rig.message(link(0), &keep_alive(false, 0x11, "pool", Some(5)));
    rig.drain();
    let taker = rig.incoming(0);
    rig.message(taker, &keep_alive(true, 0x22, "pool", Some(5)));
    let effects = rig.effects();
    assert_eq!(closed(&effects), [link(0)]);
    assert_eq!(acks(effects.into_iter().filter_map(sent).collect()), [(taker, 5)]);
    let peer = "10.0.0.50:40001".parse().unwrap();
    let home = Home { server: ServerId::new(0x22), peer, kind: LinkKind::Tcp, no_sctp: None };
    assert_eq!(rig.events(), [Event::HomeChanged(Some(home))]);
    assert_eq!(rig.endpoint.counters().adoptions, 1);
    // Requests go there now, and T4 runs on.
    rig.pass(Duration::from_secs(280));
    assert_eq!(registrations(&rig.sent()), [(taker, 5)]);
    rig.deregister(registration);
    rig.message(taker, &deregistered("pool", 5));
    assert_eq!(rig.events(), [leave(registration, Deregistration::Confirmed)]);
}

#[test]
fn a_claim_by_the_home_itself_over_another_link_adopts_nobody() {
    let (mut rig, _) = registered(&[1]);
    rig.message(link(0), &keep_alive(false, 0x11, "pool", Some(5)));
    let other = rig.incoming(0);
    rig.drain();
    rig.message(other, &keep_alive(true, 0x11, "pool", Some(5)));
    assert_eq!(acks(rig.sent()), [(other, 5)]);
    assert_eq!(rig.endpoint.counters().adoptions, 0);
}

#[test]
fn a_takeover_ends_the_hunt_and_registers_what_it_did_not_name() {
    let mut rig = Rig::at_home(&[1, 2]);
    for id in [5, 6] {
        rig.register("pool", id);
        rig.message(link(0), &granted("pool", id));
    }
    rig.down(link(0), LinkFailure::Reset);
    rig.drain();
    let taker = rig.incoming(0);
    rig.message(taker, &keep_alive(true, 0x22, "pool", Some(5)));
    let effects = rig.effects();
    assert_eq!(closed(&effects), [link(2), link(3)], "attempts of the hunt");
    let sent: Vec<_> = effects.into_iter().filter_map(sent).collect();
    assert_eq!(registrations(&sent), [(taker, 5), (taker, 6)]);
}

#[test]
fn an_adoption_with_the_old_home_alive_registers_the_other_elements_only() {
    let mut rig = Rig::at_home(&[1]);
    for id in [5, 6] {
        rig.register("pool", id);
        rig.message(link(0), &granted("pool", id));
    }
    rig.drain();
    let taker = rig.incoming(0);
    rig.message(taker, &keep_alive(true, 0x22, "pool", Some(5)));
    assert_eq!(registrations(&rig.sent()), [(taker, 6)]);
}

#[test]
fn an_adoption_takes_outstanding_requests_and_subscriptions_along() {
    let (mut rig, _) = registered(&[1]);
    rig.subscribe_quietly("watched");
    rig.message(link(0), &super::update("watched", &[1]));
    rig.resolve("pool", 0);
    let leaving = rig.register("pool", 6);
    rig.message(link(0), &granted("pool", 6));
    rig.deregister(leaving);
    rig.drain();
    let taker = rig.incoming(0);
    rig.message(taker, &keep_alive(true, 0x22, "pool", Some(5)));
    let sent = rig.sent();
    assert!(sent.iter().all(|(link, _)| *link == taker));
    assert_eq!(deregistrations(&sent), [(taker, 6)]);
    let asked: Vec<(bool, &PoolHandle)> = sent
        .iter()
        .filter_map(|(_, message)| match message {
            AsapMessage::HandleResolution { subscribe, handle, .. } => Some((*subscribe, handle)),
            _ => None,
        })
        .collect();
    assert_eq!(asked, [(false, &pool("pool")), (true, &pool("watched"))]);
}

#[test]
fn a_lost_link_of_an_adopted_home_starts_the_hunt() {
    let (mut rig, _) = registered(&[1, 2]);
    let taker = rig.incoming(0);
    rig.message(taker, &keep_alive(true, 0x22, "pool", Some(5)));
    rig.drain();
    rig.down(taker, LinkFailure::Reset);
    let tried: Vec<u8> = rig.connects().iter().map(|(_, to)| *to).collect();
    assert_eq!(tried, [2, 1]);
}
