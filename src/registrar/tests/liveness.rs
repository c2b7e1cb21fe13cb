//! RFC 5352 3.4 and 3.5, registration life (3.2), and elements whose link is lost.

use super::*;
use std::collections::BTreeMap;

/// One element, registered over a link of its own.
fn one(asap_transport: bool) -> (World, LinkId) {
    let mut world = World::new();
    let link = world.client("10.0.0.1");
    let asap_transport = asap_transport.then(|| tcp("10.0.0.1", 3_000));
    let element = PoolElement { asap_transport, ..element(1, "10.0.0.1") };
    assert_eq!(world.register(link, "pool", &element), Ok(()));
    world.events();
    (world, link)
}

fn report(pool: &str, id: u32) -> AsapMessage {
    AsapMessage::EndpointUnreachable { handle: handle(pool), element: PeId(id) }
}

fn probe_destination() -> Destination {
    Destination {
        kind: LinkKind::Tcp,
        protocol: Protocol::Asap,
        port: 3_000,
        addresses: Addresses::from(ip("10.0.0.1")),
    }
}

#[test]
fn keep_alives_are_spread_by_half_around_the_interval() {
    let (mut world, link) = one(true);
    let (mut gaps, mut last) = (Vec::new(), world.now);
    while gaps.len() < 500 {
        world.pass(world.registrar.poll_timeout().expect("a keep-alive is due").since(world.now));
        for (to, keep_alive) in world.keep_alives() {
            assert_eq!(to, link);
            assert_eq!((keep_alive.home, keep_alive.server), (false, Some(me())));
            gaps.push(world.now.since(last));
            last = world.now;
            world.acknowledge(link, "pool", 1);
        }
    }
    let (least, most) = (gaps.iter().min().unwrap(), gaps.iter().max().unwrap());
    assert!(*least >= ms(150) && *least < ms(170), "{least:?}");
    assert!(*most <= ms(450) && *most > ms(430), "{most:?}");
    let mean = gaps.iter().sum::<Duration>() / 500;
    assert!(mean > ms(280) && mean < ms(320), "{mean:?}");
    assert_eq!(world.registrar.counters().keep_alive_acks, 500);
}

#[test]
fn a_keep_alive_names_the_element_to_ours_only() {
    let mut world = World::new();
    let link = world.client("10.0.0.1");
    assert_eq!(world.register(link, "plain", &element(1, "10.0.0.1")), Ok(()));
    assert_eq!(world.register(link, "ours", &ours(element(2, "10.0.0.1"))), Ok(()));
    world.pass(ms(450));
    let named: BTreeMap<PoolHandle, Option<PeId>> =
        world.keep_alives().into_iter().map(|(_, asked)| (asked.handle, asked.element)).collect();
    assert_eq!(named[&handle("plain")], None);
    assert_eq!(named[&handle("ours")], Some(PeId(2)));
}

#[test]
fn an_element_that_acknowledges_stays_and_a_silent_one_goes() {
    let (mut world, _) = one(true);
    world.pass_alive(Duration::from_secs(20), &[("pool", 1)]);
    assert!(world.has("pool", 1));
    world.pass(ms(450 + 400 + 10));
    assert_eq!(world.removed(), [(1, Removal::Unreachable)]);
    assert_eq!(world.registrar.counters().unreachable, 1);
}

#[test]
fn an_acknowledgement_from_elsewhere_is_no_sign_of_life() {
    let (mut world, link) = one(true);
    let liar = world.client("10.0.0.1");
    world.pass(ms(451));
    world.acknowledge(liar, "pool", 1);
    world.pass(ms(400));
    assert_eq!(world.removed(), [(1, Removal::Unreachable)]);
    world.acknowledge(link, "pool", 1);
    assert!(!world.has("pool", 1));
}

#[test]
fn one_of_ours_is_told_that_it_was_taken_for_dead() {
    for (element, told) in [(element(1, "10.0.0.1"), false), (ours(element(1, "10.0.0.1")), true)] {
        let mut world = World::new();
        let link = world.client("10.0.0.1");
        assert_eq!(world.register(link, "pool", &element), Ok(()));
        world.pass(Duration::from_secs(1));
        let notice = Done::Asap(
            link,
            AsapMessage::DeregistrationResponse { handle: handle("pool"), element: PeId(1), error: None },
        );
        assert_eq!(world.done().contains(&notice), told);
    }
}

#[test]
fn one_that_is_asked_through_its_listener_is_told_there_that_it_was_taken_for_dead() {
    let mut world = World::new();
    let link = world.client("10.0.0.1");
    let asap_transport = Some(tcp("10.0.0.1", 3_000));
    let element = PoolElement { asap_transport, ..ours(element(1, "10.0.0.1")) };
    assert_eq!(world.register(link, "pool", &element), Ok(()));
    world.down(link);
    let (probe, _) = world.connecting().expect("probed");
    world.up(probe, LinkKind::Tcp, &["10.0.0.1"], None);
    world.acknowledge(probe, "pool", 1);
    world.done();
    world.pass(Duration::from_secs(1));
    let notice =
        AsapMessage::DeregistrationResponse { handle: handle("pool"), element: PeId(1), error: None };
    let done = world.done();
    assert_eq!(done[done.len() - 2..], [Done::Asap(probe, notice), Done::Close(probe, false)]);
}

#[test]
fn an_undelivered_keep_alive_ends_the_element_at_once() {
    let mut world = World::new();
    let link = world.sctp_client(&["10.0.0.1"]);
    assert_eq!(world.register(link, "pool", &element(1, "10.0.0.1")), Ok(()));
    assert_eq!(world.register(link, "other", &element(2, "10.0.0.1")), Ok(()));
    let asked = loop {
        world.pass(ms(1));
        if let Some((_, asked)) = world.keep_alives().pop() {
            break asked;
        }
    };
    let expected = if asked.handle == handle("pool") { 1 } else { 2 };
    world.events();
    let message = AsapMessage::KeepAlive(asked).encode(Dialect::Rfc).unwrap();
    world.input(Input::SendFailed { link, channel: Channel::Asap, message });
    assert_eq!(world.removed(), [(expected, Removal::Unreachable)]);
}

#[test]
fn ten_thousand_elements_do_not_exceed_the_rate() {
    let mut world = World::new();
    let link = world.client("10.0.0.1");
    for id in 1..=10_000u32 {
        let element = ours(element(id, "10.0.0.1"));
        world.send(link, &registration("pool", &element));
    }
    world.done();
    let (mut per_second, mut asked) = (BTreeMap::<u64, u32>::new(), BTreeMap::<u32, Vec<Time>>::new());
    let start = world.now;
    while world.now.since(start) < Duration::from_secs(20) {
        world.pass(ms(10));
        for (at, done) in std::mem::take(&mut world.done) {
            let Done::Asap(_, AsapMessage::KeepAlive(keep_alive)) = done else { continue };
            *per_second.entry(at.since(start).as_millis() as u64 / 1_000).or_default() += 1;
            let id = keep_alive.element.expect("one of ours").0;
            asked.entry(id).or_default().push(at);
            world.acknowledge(link, "pool", id);
        }
        world.done.clear();
    }
    assert!(world.registrar.counters().unreachable == 0);
    let most = per_second.values().max().unwrap();
    assert!(*most <= 2_000 + 20, "{per_second:?}");
    assert!(per_second.values().skip(1).all(|sent| *sent > 1_000), "{per_second:?}");
    assert_eq!(asked.len(), 10_000, "everybody has a turn");
    // The interval has grown to 10,000 / 2,000 per second, and is spread like any other: nobody waits in a queue.
    let gaps: Vec<Duration> =
        asked.values().flat_map(|times| times.windows(2).map(|pair| pair[1].since(pair[0]))).collect();
    let (least, most) = (gaps.iter().min().unwrap(), gaps.iter().max().unwrap());
    assert!(*least < ms(3_000) && *most > ms(7_000), "{least:?} to {most:?}");
}

#[test]
fn a_registration_that_runs_out_is_removed_and_the_element_told() {
    let mut world = World::new();
    let link = world.client("10.0.0.1");
    let short = |id, life| PoolElement { life, ..element(id, "10.0.0.1") };
    for element in [short(1, RegistrationLife::Seconds(5)), short(2, RegistrationLife::Infinite)] {
        assert_eq!(world.register(link, &format!("pool{}", element.id.0), &element), Ok(()));
    }
    let alive = [("pool1", 1), ("pool2", 2)];
    world.pass_alive(ms(4_990), &alive);
    assert!(world.has("pool1", 1));
    world.done();
    world.pass(ms(20));
    assert_eq!(world.removed(), [(1, Removal::Expired)]);
    let told = AsapMessage::DeregistrationResponse { handle: handle("pool1"), element: PeId(1), error: None };
    assert!(world.done().contains(&Done::Asap(link, told)));
    assert!(world.has("pool2", 2));
    assert_eq!(world.registrar.counters().expired, 1);
}

#[test]
fn a_re_registration_starts_its_life_anew() {
    let mut world = World::new();
    let link = world.client("10.0.0.1");
    let short = PoolElement { life: RegistrationLife::Seconds(5), ..element(1, "10.0.0.1") };
    for _ in 0..3 {
        assert_eq!(world.register(link, "pool", &short), Ok(()));
        world.pass_alive(ms(4_000), &[("pool", 1)]);
    }
    assert!(world.has("pool", 1));
}

#[test]
fn a_report_has_the_element_asked_at_once_without_claiming_it() {
    let (mut world, link) = one(true);
    let user = world.client("10.0.0.2");
    world.done();
    world.send(user, &report("pool", 1));
    let asked = world.keep_alives();
    assert_eq!(asked.len(), 1);
    assert_eq!((asked[0].0, asked[0].1.home), (link, false));
    world.acknowledge(link, "pool", 1);
    world.pass_alive(Duration::from_secs(2), &[("pool", 1)]);
    assert!(world.has("pool", 1), "it has answered and stays");
    assert_eq!(world.registrar.handlespace().entry(&handle("pool"), PeId(1)).unwrap().bad_reports, 1);
    assert_eq!((world.registrar.counters().reports, world.registrar.counters().probes), (1, 1));
}

#[test]
fn a_reported_element_that_is_silent_goes() {
    let (mut world, _) = one(true);
    let user = world.client("10.0.0.2");
    world.send(user, &report("pool", 1));
    world.pass(ms(399));
    assert!(world.has("pool", 1));
    world.pass(ms(2));
    assert_eq!(world.removed(), [(1, Removal::Unreachable)]);
}

#[test]
fn reports_while_an_element_is_being_asked_ask_no_more() {
    let (mut world, _) = one(true);
    let users: Vec<LinkId> = (0..3).map(|_| world.client("10.0.0.2")).collect();
    world.done();
    for user in users {
        world.send(user, &report("pool", 1));
    }
    assert_eq!(world.keep_alives().len(), 1);
}

#[test]
fn an_element_with_too_many_reports_is_removed_although_it_answers() {
    let (mut world, link) = one(true);
    for n in 1..=4 {
        assert!(world.has("pool", 1), "before report {n}");
        let user = world.client(&format!("10.0.1.{n}"));
        world.send(user, &report("pool", 1));
        world.acknowledge(link, "pool", 1);
    }
    assert_eq!(world.removed(), [(1, Removal::Reported)]);
    assert_eq!(world.registrar.counters().reported, 1);
}

#[test]
fn one_reporter_counts_once_until_the_element_registers_again() {
    let (mut world, link) = one(true);
    let reporter = world.client("10.0.0.2");
    for _ in 0..50 {
        world.send(reporter, &report("pool", 1));
        world.acknowledge(link, "pool", 1);
    }
    assert!(world.has("pool", 1));
    let others: Vec<LinkId> = (3..6).map(|n| world.client(&format!("10.0.0.{n}"))).collect();
    for user in &others[..2] {
        world.send(*user, &report("pool", 1));
        world.acknowledge(link, "pool", 1);
    }
    assert_eq!(world.register(link, "pool", &element(1, "10.0.0.1")), Ok(()));
    for user in others {
        world.send(user, &report("pool", 1));
        world.acknowledge(link, "pool", 1);
    }
    assert!(world.has("pool", 1), "counted anew since it registered");
}

#[test]
fn one_machine_can_not_have_a_living_element_removed_by_reporting_over_many_links() {
    let (mut world, link) = one(true);
    for _ in 0..50 {
        let reporter = world.client("10.0.0.2");
        world.send(reporter, &report("pool", 1));
        world.acknowledge(link, "pool", 1);
        world.down(reporter);
    }
    assert!(world.has("pool", 1));
}

#[test]
fn on_loopback_each_link_is_a_reporter() {
    let (mut world, link) = one(true);
    for _ in 0..4 {
        let reporter = world.client("127.0.0.1");
        world.send(reporter, &report("pool", 1));
        world.acknowledge(link, "pool", 1);
    }
    assert!(!world.has("pool", 1));
}

#[test]
fn a_report_about_nobody_is_ignored() {
    let (mut world, link) = one(true);
    world.done();
    world.send(link, &report("pool", 2));
    world.send(link, &report("nowhere", 1));
    assert_eq!(world.done(), []);
    assert_eq!(world.removed(), []);
}

#[test]
fn an_element_whose_link_is_lost_is_probed_and_gone_when_refused() {
    let (mut world, link) = one(true);
    world.done();
    world.down(link);
    let (probe, to) = world.connecting().expect("probed at once");
    assert_eq!(to, probe_destination());
    assert!(world.has("pool", 1));
    world.input(Input::LinkDown { link: probe, why: LinkFailure::Refused });
    assert_eq!(world.removed(), [(1, Removal::Unreachable)]);
    assert_eq!(world.registrar.poll_timeout(), None, "nothing is due any more");
}

#[test]
fn an_element_whose_link_is_lost_is_gone_within_a_second_whatever_the_profile() {
    for profile in [Profile::Lan, Profile::Wan, Profile::Rfc] {
        for (asap_transport, connects) in [(None, false), (Some(tcp("10.0.0.1", 3_000)), true)] {
            let mut world = World::with(RegistrarConfig::new(profile), Limits::default());
            let link = world.client("10.0.0.1");
            let element = PoolElement { asap_transport, ..element(1, "10.0.0.1") };
            assert_eq!(world.register(link, "pool", &element), Ok(()));
            world.done();
            world.down(link);
            assert_eq!(world.connecting().is_some(), connects);
            world.pass(ms(300));
            assert!(world.has("pool", 1));
            world.pass(ms(650));
            assert!(!world.has("pool", 1));
        }
    }
}

#[test]
fn an_unanswered_connect_is_given_up_with_the_element() {
    let (mut world, link) = one(true);
    world.down(link);
    let (probe, _) = world.connecting().expect("probed");
    world.pass(ms(401));
    assert!(!world.has("pool", 1));
    assert_eq!(world.done(), [Done::Close(probe, false)]);
}

#[test]
fn an_element_that_answers_the_probe_stays_and_is_asked_there() {
    let (mut world, link) = one(true);
    world.down(link);
    let (probe, _) = world.connecting().expect("probed");
    world.pass(ms(5));
    world.up(probe, LinkKind::Tcp, &["10.0.0.1"], None);
    assert_eq!(world.keep_alives().len(), 1);
    world.acknowledge(probe, "pool", 1);
    world.pass_alive(Duration::from_secs(5), &[("pool", 1)]);
    assert!(world.has("pool", 1));
    // The link of ours breaks while nothing is asked: asked again in turn, over another.
    world.down(probe);
    assert!(world.has("pool", 1));
    world.pass(ms(451));
    let (again, to) = world.connecting().expect("opened again");
    assert_eq!(to, probe_destination());
    world.input(Input::LinkDown { link: again, why: LinkFailure::Refused });
    assert_eq!(world.removed(), [(1, Removal::Unreachable)]);
}

#[test]
fn a_probe_link_that_breaks_before_the_answer_is_the_answer() {
    let (mut world, link) = one(true);
    world.down(link);
    let (probe, _) = world.connecting().expect("probed");
    world.up(probe, LinkKind::Tcp, &["10.0.0.1"], None);
    world.down(probe);
    assert_eq!(world.removed(), [(1, Removal::Unreachable)]);
}

#[test]
fn an_element_that_registers_again_in_time_is_kept() {
    for asap_transport in [true, false] {
        let (mut world, link) = one(asap_transport);
        world.down(link);
        let probe = world.connecting();
        assert_eq!(probe.is_some(), asap_transport);
        world.pass(ms(300));
        let again = world.client("10.0.0.1");
        world.send(again, &registration("pool", &element(1, "10.0.0.1")));
        let closed = world.done().contains(&Done::Close(LinkId::outgoing(1), false));
        assert_eq!(closed, asap_transport, "a probe nobody needs is ended");
        world.pass_alive(Duration::from_secs(3), &[("pool", 1)]);
        assert!(world.has("pool", 1));
        assert_eq!(world.removed(), []);
    }
}

#[test]
fn an_element_may_register_again_over_the_link_it_is_probed_on() {
    let (mut world, link) = one(true);
    world.down(link);
    let (probe, _) = world.connecting().expect("probed");
    world.up(probe, LinkKind::Tcp, &["10.0.0.1"], None);
    world.done();
    assert_eq!(world.register(probe, "pool", &element(1, "10.0.0.1")), Ok(()));
    world.pass_alive(Duration::from_secs(2), &[("pool", 1)]);
    assert!(world.has("pool", 1));
    world.down(probe);
    assert!(world.connecting().is_some(), "it was its registering link, and is lost like one");
}

#[test]
fn elements_of_one_endpoint_are_probed_over_one_link() {
    let mut world = World::new();
    let link = world.client("10.0.0.1");
    for id in 1..=100 {
        assert_eq!(world.register(link, "pool", &ours(element(id, "10.0.0.1"))), Ok(()));
    }
    world.events();
    world.done();
    world.down(link);
    let done = world.done();
    assert_eq!(done.len(), 1, "{done:?}");
    let probe = LinkId::outgoing(1);
    world.up(probe, LinkKind::Tcp, &["10.0.0.1"], None);
    assert_eq!(world.keep_alives().len(), 100);
    for id in 1..=99 {
        world.acknowledge(probe, "pool", id);
    }
    world.pass(ms(100));
    world.input(Input::LinkDown { link: probe, why: LinkFailure::Reset });
    let removed = world.removed();
    assert!(removed.contains(&(100, Removal::Unreachable)), "{removed:?}");
    assert!(world.registrar.handlespace().count(None) >= 1);
}

#[test]
fn a_registrar_that_slept_gives_the_elements_a_moment() {
    let (mut world, link) = one(true);
    while world.keep_alives().is_empty() {
        world.pass(ms(1));
    }
    // Stopped for five seconds; its timer comes before the acknowledgement that has been waiting.
    world.now = world.now + Duration::from_secs(5);
    world.input(Input::Timeout);
    assert!(world.has("pool", 1));
    world.acknowledge(link, "pool", 1);
    world.pass_alive(Duration::from_secs(1), &[("pool", 1)]);
    assert!(world.has("pool", 1));

    while world.keep_alives().is_empty() {
        world.pass(ms(1));
    }
    world.now = world.now + Duration::from_secs(5);
    world.input(Input::Timeout);
    world.now = world.now + Duration::from_secs(5);
    world.input(Input::Timeout);
    assert_eq!(world.removed(), [(1, Removal::Unreachable)], "but only once");
}

#[test]
fn a_timeout_that_comes_early_or_twice_does_nothing() {
    let (mut world, _) = one(true);
    for _ in 0..1_000 {
        world.input(Input::Timeout);
    }
    assert_eq!((world.done(), world.registrar.counters().keep_alives_sent), (vec![], 0));
    world.pass(ms(451));
    let sent = world.registrar.counters().keep_alives_sent;
    for _ in 0..1_000 {
        world.input(Input::Timeout);
    }
    assert_eq!((sent, world.registrar.counters().keep_alives_sent), (1, 1));
    assert!(world.has("pool", 1));
}

#[test]
fn an_endpoint_that_has_come_to_us_first_is_probed_on_its_link() {
    let mut world = World::new();
    let lost = world.sctp_client(&["10.0.0.1", "10.0.1.1"]);
    assert_eq!(world.register(lost, "pool", &element(1, "10.0.0.1")), Ok(()));
    world.down(lost);
    let (probe, _) = world.connecting().expect("a probe");
    // From the port of its ASAP transport, where the probe was to go: two ports have one association.
    let back = world.sctp_client(&["10.0.1.1", "10.0.0.1"]);
    world.input(Input::LinkDown { link: probe, why: LinkFailure::Present });
    assert!(world.keep_alives().iter().any(|(to, _)| *to == back));
    world.acknowledge(back, "pool", 1);
    world.pass(ms(500));
    assert!(world.has("pool", 1));
    // Silence is silence there, too, and the link is the endpoint's to close.
    world.pass(ms(1_500));
    assert_eq!(world.removed(), [(1, Removal::Unreachable)]);
    assert!(!world.done().iter().any(|done| matches!(done, Done::Close(..))));
}

#[test]
fn a_probe_refused_for_a_link_that_does_not_come_leaves_the_deadline_to_tell() {
    let mut world = World::new();
    let lost = world.sctp_client(&["10.0.0.1"]);
    assert_eq!(world.register(lost, "pool", &element(1, "10.0.0.1")), Ok(()));
    world.down(lost);
    let (probe, _) = world.connecting().expect("a probe");
    world.input(Input::LinkDown { link: probe, why: LinkFailure::Present });
    world.pass(ms(100));
    assert!(world.has("pool", 1));
    world.pass(Duration::from_secs(1));
    assert_eq!(world.removed(), [(1, Removal::Unreachable)]);
}
