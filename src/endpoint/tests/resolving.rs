//! Resolution, cache, subscriptions, reports (RFC 5352 3.3, 3.5, 3.7.2, 6.3, 6.4, 6.9).

use super::*;

#[test]
fn asks_the_home_and_gives_the_answer_in_its_order() {
    let mut rig = Rig::at_home(&[1]);
    let request = rig.resolve("pool", 0);
    let sent = rig.sent();
    let [
        (
            _,
            AsapMessage::HandleResolution { subscribe: false, handle, items: Some(8), capabilities: Some(_) },
        ),
    ] = &sent[..]
    else {
        panic!("{sent:?}")
    };
    assert_eq!(handle, &pool("pool"));
    rig.message(link(0), &answer("pool", &[3, 1, 2]));
    assert_eq!(outcomes(rig.events()), [(request, Ok(vec![3, 1, 2]))]);
}

fn questions(sent: &[(LinkId, AsapMessage)]) -> Vec<(LinkId, bool, PoolHandle, Option<u32>)> {
    let question = |(link, message): &(LinkId, AsapMessage)| match message {
        AsapMessage::HandleResolution { subscribe, handle, items, .. } => {
            Some((*link, *subscribe, handle.clone(), *items))
        }
        _ => None,
    };
    sent.iter().filter_map(question).collect()
}

fn changes(events: Vec<Event>) -> Vec<(PoolHandle, Option<Vec<u32>>)> {
    let change = |event| match event {
        Event::PoolChanged { handle, resolution } => Some((handle, resolution.map(|r| ids(&r)))),
        _ => None,
    };
    events.into_iter().filter_map(change).collect()
}

fn ask(rig: &mut Rig, handle: &str, items: Option<u32>, max_age: Duration) -> RequestId {
    let query = Query { handle: pool(handle), items, max_age };
    rig.endpoint.resolve(rig.now, query, rig.now + Duration::from_secs(10))
}

#[test]
fn a_request_without_home_waits_for_the_hunt() {
    let mut rig = Rig::knowing(&[1]);
    let request = rig.resolve("pool", 0);
    assert!(rig.effects().iter().all(|e| matches!(e, Effect::Connect { .. })));
    rig.up(link(0));
    assert_eq!(questions(&rig.sent()).len(), 1);
    rig.message(link(0), &answer("pool", &[1]));
    assert_eq!(outcomes(rig.events()), [(request, Ok(vec![1]))]);
}

#[test]
fn an_unknown_pool_and_other_refusals_are_told_apart() {
    let mut rig = Rig::at_home(&[1]);
    let unknown = rig.resolve("a", 0);
    let refused = rig.resolve("b", 0);
    let empty = rig.resolve("c", 0);
    rig.message(link(0), &refusal("a", CauseCode::UnknownPoolHandle));
    rig.message(link(0), &refusal("b", CauseCode::RejectedDueToSecurity));
    rig.message(link(0), &answer("c", &[]));
    let causes = vec![ErrorCause::bare(CauseCode::RejectedDueToSecurity)];
    assert_eq!(
        outcomes(rig.events()),
        [
            (unknown, Err(RequestFailure::UnknownPool)),
            (refused, Err(RequestFailure::Rejected(causes))),
            (empty, Err(RequestFailure::UnknownPool)),
        ]
    );
}

#[test]
fn a_response_without_policy_means_round_robin() {
    let mut rig = Rig::at_home(&[1]);
    rig.resolve("pool", 0);
    rig.message(
        link(0),
        &AsapMessage::HandleResolutionResponse {
            accept_updates: false,
            handle: pool("pool"),
            policy: None,
            elements: vec![PoolElement { policy: Policy::new(PolicyType::LeastUsed, &[1]), ..element(1) }],
            error: None,
        },
    );
    assert_eq!(rig.endpoint.cached(&pool("pool")).unwrap().policy, Policy::ROUND_ROBIN);
}

#[test]
fn an_unanswered_question_is_repeated_up_to_the_limit_and_then_told() {
    let mut rig = Rig::at_home(&[1]);
    let request = rig.resolve("pool", 0);
    assert_eq!(questions(&rig.sent()).len(), 1);
    for _ in 0..2 {
        rig.pass(MS(499));
        assert!(rig.effects().is_empty());
        rig.pass(MS(1));
        assert_eq!(questions(&rig.sent()).len(), 1);
        assert!(rig.events().is_empty());
    }
    rig.pass(MS(500));
    assert_eq!(questions(&rig.sent()), []);
    assert_eq!(outcomes(rig.events()), [(request, Err(RequestFailure::TimedOut))]);
}

#[test]
fn repetitions_are_counted_over_all_registrars() {
    // Two registrars that accept connections and never answer must not hold a request for ever.
    let mut rig = Rig::at_home(&[1, 2]);
    let request = rig.resolve("pool", 0);
    let mut told = Vec::new();
    for _ in 0..4 {
        rig.pass(MS(500));
        for (link, _) in rig.connects() {
            rig.up(link);
        }
        told.extend(outcomes(rig.events()));
    }
    assert_eq!(told, [(request, Err(RequestFailure::TimedOut))]);
}

#[test]
fn a_request_whose_link_is_lost_goes_to_another_registrar_within_its_deadline() {
    let mut rig = Rig::at_home(&[1, 2]);
    let request = rig.resolve("pool", 0);
    rig.down(link(0), LinkFailure::Reset);
    rig.drain();
    rig.up(link(2));
    assert_eq!(questions(&rig.sent()), [(link(2), false, pool("pool"), Some(8))]);
    rig.message(link(2), &answer("pool", &[4]));
    assert_eq!(outcomes(rig.events()), [(request, Ok(vec![4]))]);
    assert_eq!(rig.endpoint.poll_timeout(), None);
}

#[test]
fn deadlines_are_kept_exactly_and_an_answer_at_that_instant_counts() {
    let mut rig = Rig::at_home(&[1]);
    let query = Query { handle: pool("pool"), items: None, max_age: MS(0) };
    let deadline = rig.now + MS(100);
    let request = rig.endpoint.resolve(rig.now, query.clone(), deadline);
    rig.pass(MS(99));
    assert!(rig.events().is_empty());
    rig.pass(MS(1));
    assert_eq!(outcomes(rig.events()), [(request, Err(RequestFailure::TimedOut))]);
    rig.message(link(0), &answer("pool", &[1]));
    assert!(rig.events().is_empty(), "too late for the request");
    assert!(rig.endpoint.cached(&pool("pool")).is_some(), "not for the cache");

    let deadline = rig.now + MS(100);
    let request = rig.endpoint.resolve(rig.now, query, deadline);
    rig.now = deadline;
    rig.message(link(0), &answer("pool", &[2]));
    assert_eq!(outcomes(rig.events()), [(request, Ok(vec![2]))]);
}

#[test]
fn duplicate_answers_are_told_once() {
    let mut rig = Rig::at_home(&[1]);
    let request = rig.resolve("pool", 0);
    rig.pass(MS(500));
    rig.message(link(0), &answer("pool", &[1]));
    rig.message(link(0), &answer("pool", &[1]));
    assert_eq!(outcomes(rig.events()), [(request, Ok(vec![1]))]);
}

#[test]
fn answers_for_another_pool_do_not_count() {
    let mut rig = Rig::at_home(&[1]);
    rig.resolve("pool", 0);
    rig.message(link(0), &answer("other", &[1]));
    assert!(outcomes(rig.events()).is_empty());
}

#[test]
fn requests_of_one_instant_share_one_question() {
    let mut rig = Rig::at_home(&[1]);
    let requests: Vec<RequestId> = (0..1_000).map(|_| rig.resolve("pool", 0)).collect();
    assert_eq!(questions(&rig.sent()).len(), 1);
    rig.message(link(0), &answer("pool", &[1, 2, 3]));
    let outcomes = outcomes(rig.events());
    assert_eq!(outcomes.iter().map(|(id, _)| *id).collect::<Vec<_>>(), requests);
    let mut first = BTreeMap::new();
    for (_, outcome) in outcomes {
        *first.entry(outcome.unwrap()[0]).or_insert(0) += 1;
    }
    assert_eq!(first, BTreeMap::from([(1, 334), (2, 333), (3, 333)]), "sharers spread over the pool");
}

#[test]
fn a_later_request_shares_only_an_answer_that_is_young_enough_for_it() {
    let mut rig = Rig::at_home(&[1]);
    let first = rig.resolve("pool", 0);
    rig.pass(MS(10));
    let tolerant = rig.resolve("pool", 10);
    let strict = rig.resolve("pool", 9);
    assert_eq!(questions(&rig.sent()).len(), 1);
    rig.message(link(0), &answer("pool", &[1]));
    assert_eq!(outcomes(rig.events()), [(first, Ok(vec![1])), (tolerant, Ok(vec![1]))]);
    assert_eq!(questions(&rig.sent()).len(), 1, "asked again for the strict one");
    rig.message(link(0), &answer("pool", &[2]));
    assert_eq!(outcomes(rig.events()), [(strict, Ok(vec![2]))]);
}

#[test]
fn a_request_for_more_elements_than_asked_for_waits_for_its_own_question() {
    let mut rig = Rig::at_home(&[1]);
    let few = ask(&mut rig, "pool", Some(2), MS(0));
    let more = ask(&mut rig, "pool", Some(3), MS(0));
    let all = ask(&mut rig, "pool", Some(0), MS(0));
    assert_eq!(questions(&rig.sent()), [(link(0), false, pool("pool"), Some(2))]);
    rig.message(link(0), &answer("pool", &[1, 2]));
    assert_eq!(outcomes(rig.events()), [(few, Ok(vec![1, 2]))]);
    assert_eq!(questions(&rig.sent()), [(link(0), false, pool("pool"), None)]);
    rig.message(link(0), &answer("pool", &[3, 2, 1, 4]));
    let outcomes = outcomes(rig.events());
    assert_eq!(outcomes[0], (more, Ok(vec![3, 2, 1])));
    assert_eq!((outcomes[1].0, outcomes[1].1.as_ref().unwrap().len()), (all, 4));
}

#[test]
fn a_cancelled_request_is_never_told() {
    let mut rig = Rig::at_home(&[1]);
    let request = rig.resolve("pool", 0);
    let other = rig.resolve("pool", 0);
    rig.endpoint.cancel(request);
    rig.message(link(0), &answer("pool", &[1]));
    assert_eq!(outcomes(rig.events()), [(other, Ok(vec![1]))]);
    let request = rig.resolve("pool", 0);
    rig.drain();
    rig.endpoint.cancel(request);
    rig.endpoint.cancel(request);
    rig.pass(Duration::from_secs(60));
    assert!(rig.effects().is_empty() && rig.events().is_empty(), "nor asked again");
}

#[test]
fn a_request_behind_an_abandoned_question_is_asked_itself() {
    let mut rig = Rig::at_home(&[1]);
    let gone = rig.resolve("pool", 0);
    rig.pass(MS(10));
    rig.endpoint.cancel(gone);
    let request = rig.resolve("pool", 0);
    rig.drain();
    rig.pass(MS(490));
    assert_eq!(questions(&rig.sent()).len(), 1);
    rig.message(link(0), &answer("pool", &[1]));
    assert_eq!(outcomes(rig.events()), [(request, Ok(vec![1]))]);
}

#[test]
fn more_requests_than_the_limit_fail_at_once() {
    let limits = Limits { pending_requests: 2, ..Limits::default() };
    let mut rig = Rig::with(config(), limits);
    rig.resolve("pool", 0);
    rig.resolve("pool", 0);
    rig.drain();
    let third = rig.resolve("pool", 0);
    assert_eq!(outcomes(rig.events()), [(third, Err(RequestFailure::TooMany))]);
}

#[test]
fn a_handle_too_long_for_a_message_is_refused_here() {
    let mut rig = Rig::at_home(&[1]);
    let handle = PoolHandle::new(&[b'x'; 65_531]).unwrap();
    rig.endpoint.subscribe(rig.now, &handle);
    let query = Query { handle, items: None, max_age: MS(0) };
    let request = rig.endpoint.resolve(rig.now, query, Time::NEVER);
    let causes = vec![ErrorCause::bare(CauseCode::InvalidValues)];
    assert_eq!(outcomes(rig.events()), [(request, Err(RequestFailure::Rejected(causes)))]);
}

#[test]
fn a_fresh_answer_comes_from_the_cache_and_a_stale_one_is_asked_for() {
    let mut rig = Rig::at_home(&[1]);
    rig.resolve("pool", 0);
    rig.message(link(0), &answer("pool", &[1, 2]));
    rig.drain();
    rig.pass(MS(5_000));
    let fresh = rig.resolve("pool", 5_000);
    assert_eq!(outcomes(rig.events()).len(), 1);
    assert!(rig.effects().is_empty(), "{fresh:?}");
    assert_eq!(rig.endpoint.counters().cache_hits, 1);
    rig.pass(MS(1));
    let stale = rig.resolve("pool", 5_000);
    assert!(rig.events().is_empty());
    assert_eq!(questions(&rig.sent()).len(), 1);
    rig.message(link(0), &answer("pool", &[3]));
    assert_eq!(outcomes(rig.events()), [(stale, Ok(vec![3]))]);
    rig.resolve("pool", 0);
    assert_eq!(questions(&rig.sent()).len(), 1, "age zero: ask");
}

#[test]
fn cached_answers_are_handed_out_in_the_order_of_the_policy() {
    let mut rig = Rig::at_home(&[1]);
    rig.resolve("pool", 0);
    rig.message(link(0), &answer("pool", &[1, 2, 3]));
    let mut firsts = vec![outcomes(rig.events())[0].1.as_ref().unwrap()[0]];
    for _ in 0..5 {
        ask(&mut rig, "pool", Some(1), MS(1_000));
        firsts.push(outcomes(rig.events())[0].1.as_ref().unwrap()[0]);
    }
    assert_eq!(firsts, [1, 2, 3, 1, 2, 3]);
    assert_eq!(ids(rig.endpoint.cached(&pool("pool")).unwrap()), [1, 2, 3]);
}

#[test]
fn a_cached_answer_with_too_few_elements_is_used_only_if_there_are_no_more() {
    let mut rig = Rig::at_home(&[1]);
    ask(&mut rig, "pool", Some(2), MS(0));
    rig.message(link(0), &answer("pool", &[1, 2]));
    rig.drain();
    ask(&mut rig, "pool", Some(3), MS(1_000));
    assert_eq!(questions(&rig.sent()).len(), 1);
    rig.message(link(0), &answer("pool", &[1, 2]));
    rig.drain();
    ask(&mut rig, "pool", Some(9), MS(1_000));
    assert_eq!((questions(&rig.sent()).len(), outcomes(rig.events()).len()), (0, 1));
}

#[test]
fn a_pool_that_is_gone_leaves_the_cache_and_other_refusals_leave_it_alone() {
    let mut rig = Rig::at_home(&[1]);
    rig.resolve("pool", 0);
    rig.message(link(0), &answer("pool", &[1]));
    rig.resolve("pool", 0);
    rig.message(link(0), &refusal("pool", CauseCode::LackOfResources));
    assert!(rig.endpoint.cached(&pool("pool")).is_some());
    rig.resolve("pool", 0);
    rig.message(link(0), &refusal("pool", CauseCode::UnknownPoolHandle));
    assert!(rig.endpoint.cached(&pool("pool")).is_none());
}

#[test]
fn the_cache_keeps_the_entries_used_last() {
    let limits = Limits { cache_entries: 2, ..Limits::default() };
    let mut rig = Rig::with(config(), limits);
    rig.know(&[1]);
    for (n, handle) in ["a", "b", "c"].into_iter().enumerate() {
        rig.resolve(handle, 0);
        if n == 0 {
            rig.up(link(0));
        }
        rig.message(link(0), &answer(handle, &[1]));
        rig.resolve("a", 60_000);
    }
    let held = ["a", "b", "c"].map(|handle| rig.endpoint.cached(&pool(handle)).is_some());
    assert_eq!(held, [true, false, true]);
}

#[test]
fn populate_fills_the_cache_and_tells_nobody_and_purge_empties_it() {
    let mut rig = Rig::at_home(&[1]);
    rig.endpoint.cache_populate(rig.now, &pool("pool"));
    assert_eq!(questions(&rig.sent()).len(), 1);
    rig.message(link(0), &answer("pool", &[1]));
    assert!(rig.events().is_empty());
    assert_eq!(ids(rig.endpoint.cached(&pool("pool")).unwrap()), [1]);
    let port = "10.0.0.99:7001".parse().unwrap();
    assert_eq!(rig.endpoint.element_at(port), Some((pool("pool"), PeId(1))));
    rig.endpoint.cache_purge(&pool("pool"));
    assert!(rig.endpoint.cached(&pool("pool")).is_none());
    assert_eq!(rig.endpoint.element_at(port), None);
}

#[test]
fn a_population_that_finds_no_registrar_is_given_up_quietly() {
    let mut rig = Rig::knowing(&[1]);
    rig.endpoint.cache_populate(rig.now, &pool("pool"));
    rig.drain();
    rig.pass(MS(1_500));
    assert!(outcomes(rig.events()).is_empty());
    assert_eq!(rig.endpoint.poll_timeout(), None);
}

#[test]
fn a_business_card_has_an_unknown_pool_resolved_once_and_says_nothing_about_it_itself() {
    let mut rig = Rig::at_home(&[1]);
    rig.endpoint.on_card(rig.now, &pool("pool"));
    rig.endpoint.on_card(rig.now, &pool("pool"));
    assert_eq!(questions(&rig.sent()).len(), 1);
    assert!(rig.endpoint.cached(&pool("pool")).is_none());
    rig.message(link(0), &answer("pool", &[2, 1]));
    assert!(rig.endpoint.cached(&pool("pool")).is_some() && rig.events().is_empty());
    rig.endpoint.on_card(rig.now, &pool("pool"));
    assert!(rig.sent().is_empty());
}

#[test]
fn business_cards_leave_room_for_those_who_ask_themselves() {
    let limits = Limits { pending_requests: 10, ..Limits::default() };
    let mut rig = Rig::with(config(), limits);
    for n in 0..100 {
        rig.endpoint.on_card(rig.now, &pool(&format!("pool {n}")));
    }
    rig.resolve("mine", 0);
    assert!(outcomes(rig.events()).is_empty(), "refused for want of room");
}

#[test]
fn a_subscription_asks_for_all_elements_with_s_bit_once() {
    let mut rig = Rig::at_home(&[1]);
    rig.endpoint.subscribe(rig.now, &pool("pool"));
    rig.endpoint.subscribe(rig.now, &pool("pool"));
    assert_eq!(questions(&rig.sent()), [(link(0), true, pool("pool"), None)]);
    rig.message(link(0), &update("pool", &[2, 1]));
    assert_eq!(changes(rig.events()), [(pool("pool"), Some(vec![2, 1]))]);
    rig.pass(Duration::from_secs(3_600));
    assert!(rig.effects().is_empty(), "the registrar holds it");
}

#[test]
fn a_change_told_by_the_registrar_updates_the_cache_and_is_told_once() {
    let mut rig = Rig::at_home(&[1]);
    rig.subscribe_quietly("pool");
    rig.message(link(0), &update("pool", &[1, 2]));
    rig.drain();
    rig.message(link(0), &update("pool", &[2, 1]));
    assert_eq!(changes(rig.events()), [], "the same elements in another order");
    rig.message(link(0), &update("pool", &[2]));
    assert_eq!(changes(rig.events()), [(pool("pool"), Some(vec![2]))]);
    assert_eq!(ids(rig.endpoint.cached(&pool("pool")).unwrap()), [2]);
    rig.message(link(0), &refusal("pool", CauseCode::UnknownPoolHandle));
    assert_eq!(changes(rig.events()), [(pool("pool"), None)]);
    assert_eq!(rig.endpoint.counters().updates_received, 3);
}

#[test]
fn a_subscription_to_an_unknown_pool_is_repeated_until_it_exists() {
    let mut rig = Rig::at_home(&[1]);
    rig.subscribe_quietly("pool");
    rig.message(link(0), &refusal("pool", CauseCode::UnknownPoolHandle));
    assert_eq!(changes(rig.events()), [(pool("pool"), None)]);
    // Soon at first, then every `stale_cache_value`.
    for pause in [100, 200, 400, 800, 1_600, 3_200, 5_000, 5_000] {
        rig.pass(MS(pause - 1));
        assert_eq!(questions(&rig.sent()), []);
        rig.pass(MS(1));
        assert_eq!(questions(&rig.sent()), [(link(0), true, pool("pool"), None)]);
        rig.message(link(0), &refusal("pool", CauseCode::UnknownPoolHandle));
        assert_eq!(changes(rig.events()), []);
    }
    // Anybody's resolution carries the S bit, so the subscription is renewed with it.
    let request = rig.resolve("pool", 0);
    assert_eq!(questions(&rig.sent()), [(link(0), true, pool("pool"), None)]);
    rig.message(link(0), &update("pool", &[1]));
    let events = rig.events();
    assert_eq!(outcomes(events.clone()), [(request, Ok(vec![1]))]);
    assert_eq!(changes(events), [(pool("pool"), Some(vec![1]))]);
    rig.pass(MS(60_000));
    assert!(rig.effects().is_empty());
    // So it is when the pool has been there.
    rig.message(link(0), &refusal("pool", CauseCode::UnknownPoolHandle));
    rig.pass(MS(100));
    assert_eq!(questions(&rig.sent()).len(), 1);
}

#[test]
fn a_subscription_the_registrar_does_not_accept_is_asked_for_periodically() {
    let mut rig = Rig::at_home(&[1]);
    rig.subscribe_quietly("pool");
    rig.message(link(0), &answer("pool", &[1]));
    rig.drain();
    rig.pass(MS(5_000));
    assert_eq!(questions(&rig.sent()).len(), 1);
    rig.message(link(0), &answer("pool", &[1, 2]));
    assert_eq!(changes(rig.events()), [(pool("pool"), Some(vec![1, 2]))]);
}

#[test]
fn subscriptions_are_sent_again_to_a_new_home() {
    let mut rig = Rig::at_home(&[1, 2]);
    rig.subscribe_quietly("a");
    rig.subscribe_quietly("b");
    rig.message(link(0), &update("a", &[1]));
    rig.drain();
    rig.down(link(0), LinkFailure::Reset);
    rig.drain();
    rig.up(link(2));
    assert_eq!(questions(&rig.sent()), [(link(2), true, pool("a"), None), (link(2), true, pool("b"), None)]);
}

#[test]
fn an_unanswered_subscription_rests_and_is_asked_for_again() {
    let mut rig = Rig::at_home(&[1]);
    rig.subscribe_quietly("pool");
    let busy = AsapMessage::Error(vec![ErrorCause::bare(CauseCode::Unspecified)]);
    rig.pass(MS(1_000));
    rig.message(link(0), &busy);
    rig.pass(MS(500));
    rig.drain();
    rig.pass(MS(4_999));
    assert_eq!(questions(&rig.sent()), []);
    rig.pass(MS(1));
    assert_eq!(questions(&rig.sent()).len(), 1);
}

#[test]
fn a_subscription_begun_while_a_plain_question_is_under_way_follows_it() {
    let mut rig = Rig::at_home(&[1]);
    let request = rig.resolve("pool", 0);
    rig.drain();
    rig.endpoint.subscribe(rig.now, &pool("pool"));
    assert!(rig.effects().is_empty());
    rig.message(link(0), &answer("pool", &[1]));
    assert_eq!(outcomes(rig.events()), [(request, Ok(vec![1]))]);
    assert_eq!(questions(&rig.sent()), [(link(0), true, pool("pool"), None)]);
}

#[test]
fn the_last_unsubscribe_ends_telling_and_hunting() {
    let mut rig = Rig::at_home(&[1]);
    rig.subscribe_quietly("pool");
    rig.subscribe_quietly("pool");
    rig.message(link(0), &update("pool", &[1]));
    rig.drain();
    rig.endpoint.unsubscribe(rig.now, &pool("pool"));
    rig.message(link(0), &update("pool", &[1, 2]));
    assert_eq!(changes(rig.events()).len(), 1, "one is left");
    rig.endpoint.unsubscribe(rig.now, &pool("pool"));
    rig.endpoint.unsubscribe(rig.now, &pool("pool"));
    assert_eq!(questions(&rig.sent()), [(link(0), false, pool("pool"), None)], "the registrar is told");
    rig.message(link(0), &update("pool", &[1, 2, 3]));
    assert!(rig.events().is_empty());
    rig.down(link(0), LinkFailure::Reset);
    assert!(rig.effects().is_empty());
    assert_eq!(rig.endpoint.poll_timeout(), None);
}

#[test]
fn a_subscription_accepted_when_nobody_wants_it_any_more_is_withdrawn() {
    let mut rig = Rig::at_home(&[1, 2]);
    rig.subscribe_quietly("pool");
    rig.endpoint.unsubscribe(rig.now, &pool("pool"));
    assert!(rig.effects().is_empty());
    rig.message(link(0), &update("pool", &[1]));
    assert_eq!(questions(&rig.sent()), [(link(0), false, pool("pool"), None)]);
    // A withdrawal that is not answered is not repeated.
    rig.pass(Duration::from_secs(60));
    assert!(rig.effects().is_empty() && rig.endpoint.poll_timeout().is_none());
}

fn reports(rig: &mut Rig) -> Vec<u32> {
    let report = |(_, message)| match message {
        AsapMessage::EndpointUnreachable { element, .. } => Some(element.0),
        _ => None,
    };
    rig.sent().into_iter().filter_map(report).collect()
}

#[test]
fn a_report_goes_to_the_home_and_takes_the_element_out_of_the_cache() {
    let mut rig = Rig::at_home(&[1]);
    rig.resolve("pool", 0);
    rig.message(link(0), &answer("pool", &[1, 2]));
    rig.drain();
    rig.endpoint.report_unreachable(rig.now, &pool("pool"), PeId(1));
    assert_eq!(reports(&mut rig), [1]);
    assert_eq!(ids(rig.endpoint.cached(&pool("pool")).unwrap()), [2]);
    rig.endpoint.report_unreachable(rig.now, &pool("pool"), PeId(2));
    assert!(rig.endpoint.cached(&pool("pool")).is_none());
}

#[test]
fn reports_of_one_element_are_at_least_a_second_apart() {
    let mut rig = Rig::at_home(&[1]);
    for _ in 0..3 {
        rig.endpoint.report_unreachable(rig.now, &pool("pool"), PeId(1));
    }
    assert_eq!(reports(&mut rig), [1]);
    rig.pass(MS(999));
    rig.endpoint.report_unreachable(rig.now, &pool("pool"), PeId(1));
    assert!(reports(&mut rig).is_empty());
    rig.pass(MS(1));
    rig.endpoint.report_unreachable(rig.now, &pool("pool"), PeId(1));
    assert_eq!(reports(&mut rig), [1]);
    let counters = rig.endpoint.counters();
    assert_eq!((counters.reports_sent, counters.reports_suppressed), (2, 3));
}

#[test]
fn reports_in_all_are_limited_to_ten_a_second() {
    let mut rig = Rig::at_home(&[1]);
    let mut sent = 0;
    for n in 0..1_000 {
        rig.endpoint.report_unreachable(rig.now, &pool("pool"), PeId(n));
        rig.pass(MS(10));
        sent += reports(&mut rig).len();
    }
    assert_eq!(sent, 10 + 99, "ten at once, then ten a second for ten seconds");
}

#[test]
fn a_report_without_home_waits_for_one_briefly() {
    let mut rig = Rig::knowing(&[1]);
    rig.endpoint.report_unreachable(rig.now, &pool("pool"), PeId(1));
    assert_eq!(rig.connects().len(), 1);
    rig.up(link(0));
    assert_eq!(reports(&mut rig), [1]);

    let mut rig = Rig::knowing(&[1]);
    rig.endpoint.report_unreachable(rig.now, &pool("pool"), PeId(1));
    rig.pass(MS(5_000));
    assert_eq!(rig.endpoint.counters().reports_suppressed, 1);
    assert_eq!(rig.endpoint.poll_timeout(), None, "nothing needs a registrar any more");
}
