//! Links, what is not understood, announcements, and the end.

use super::*;

#[test]
fn turns_away_links_over_the_limit_until_one_goes() {
    let limits = Limits { links: 2, ..Limits::default() };
    let mut world = World::with(config(), limits);
    let first = world.client("127.0.0.1");
    let waiting = world.incoming(Protocol::Asap);
    assert_eq!(world.done(), []);
    let third = world.incoming(Protocol::Asap);
    assert_eq!(world.done(), [Done::Close(third, true)]);
    world.up(waiting, LinkKind::Tcp, &["127.0.0.1"], None);
    assert_eq!(world.registrar.clients(), 2);
    world.down(first);
    let fourth = world.incoming(Protocol::Asap);
    world.up(fourth, LinkKind::Tcp, &["127.0.0.1"], None);
    assert_eq!(world.done(), []);
    assert_eq!((world.registrar.clients(), world.registrar.counters().links_refused), (2, 1));
}

#[test]
fn a_link_that_never_came_up_is_forgotten() {
    let mut world = World::with(config(), Limits { links: 1, ..Limits::default() });
    let link = world.incoming(Protocol::Asap);
    world.down(link);
    world.client("10.0.0.1");
    assert_eq!(world.registrar.clients(), 1);
}

#[test]
fn one_address_holds_a_limited_number_of_links_loopback_any() {
    let mut world = World::with(config(), Limits { links_per_address: 2, ..Limits::default() });
    let first = world.client("10.0.0.1");
    world.client("::ffff:10.0.0.1");
    let third = world.client("10.0.0.1");
    assert_eq!(world.done(), [Done::Close(third, true)]);
    world.client("10.0.0.2");
    for _ in 0..5 {
        world.client("127.0.0.1");
    }
    assert_eq!((world.done(), world.registrar.clients()), (vec![], 8));
    world.down(first);
    world.client("10.0.0.1");
    assert_eq!((world.done(), world.registrar.clients()), (vec![], 8));
}

#[test]
fn turns_away_what_is_neither_asap_nor_enrp() {
    let mut world = World::new();
    for protocol in [Protocol::Session, Protocol::Plain] {
        let link = world.incoming(protocol);
        assert_eq!(world.done(), [Done::Close(link, true)]);
    }
}

#[test]
fn reports_an_unrecognised_message_and_goes_on() {
    let mut world = World::new();
    let link = world.client("10.0.0.1");
    // Highest bits 01: discard and report (RFC 5354 4).
    let unknown = [0x4f, 0, 0, 4];
    world.send_bytes(link, &unknown);
    let cause = ErrorCause { code: CauseCode::UnrecognizedMessage, info: unknown.to_vec() };
    assert_eq!(world.done(), [Done::Asap(link, AsapMessage::Error(vec![cause]))]);
    // Highest bits 00: discard in silence.
    world.send_bytes(link, &[0x0f, 0, 0, 4]);
    assert_eq!(world.done(), []);
    assert_eq!(world.registrar.counters().rejected_messages, 2);
    assert_eq!(world.register(link, "pool", &element(1, "10.0.0.1")), Ok(()));
}

#[test]
fn reports_an_unrecognised_parameter_beside_the_answer() {
    let mut world = World::new();
    let link = world.client("10.0.0.1");
    let mut bytes = resolution("pool", None, false).encode(Dialect::Rfc).unwrap();
    // Highest bits 11: skip and report.
    let parameter = [0xc1, 0x23, 0, 8, 1, 2, 3, 4];
    bytes.extend(parameter);
    let length = u16::try_from(bytes.len()).unwrap();
    bytes[2..4].copy_from_slice(&length.to_be_bytes());
    world.send_bytes(link, &bytes);
    let cause = ErrorCause { code: CauseCode::UnrecognizedParameter, info: parameter.to_vec() };
    let done = world.done();
    assert_eq!(done.len(), 2, "{done:?}");
    assert_eq!(done[0], Done::Asap(link, AsapMessage::Error(vec![cause])));
    assert!(matches!(&done[1], Done::Asap(_, AsapMessage::HandleResolutionResponse { .. })));
}

#[test]
fn never_answers_an_error_with_an_error() {
    let mut world = World::new();
    let link = world.client("10.0.0.1");
    world.send(link, &AsapMessage::Error(vec![ErrorCause::bare(CauseCode::Unspecified)]));
    // One with a parameter nobody knows, to be reported, once stopping and once skipped.
    for kind in [0x41, 0xc1] {
        world.send_bytes(link, &[0x0e, 0, 0, 12, kind, 0x23, 0, 8, 1, 2, 3, 4]);
    }
    assert_eq!(world.done(), []);
    assert!(world.registrar.counters().errors_received >= 1);
}

#[test]
fn ignores_what_only_others_send() {
    let mut world = World::new();
    let link = world.client("10.0.0.1");
    assert_eq!(world.register(link, "pool", &element(1, "10.0.0.1")), Ok(()));
    let messages = [
        AsapMessage::RegistrationResponse {
            reject: true,
            handle: handle("pool"),
            element: PeId(1),
            capabilities: None,
            error: None,
        },
        AsapMessage::DeregistrationResponse { handle: handle("pool"), element: PeId(1), error: None },
        AsapMessage::KeepAlive(KeepAlive { home: true, server: None, handle: handle("pool"), element: None }),
        AsapMessage::ServerAnnounce { server: Some(server_id(1)), transports: Vec::new() },
        AsapMessage::Cookie(vec![1]),
        AsapMessage::CookieEcho(vec![1]),
        AsapMessage::BusinessCard { handle: handle("pool"), elements: vec![element(2, "10.0.0.1")] },
    ];
    let count = messages.len() as u64;
    for message in messages {
        world.send(link, &message);
    }
    assert_eq!(world.done(), []);
    assert!(world.has("pool", 1));
    assert_eq!(world.registrar.counters().rejected_messages, count);
}

#[test]
fn survives_any_bytes_on_any_link() {
    let mut world = World::new();
    let link = world.client("10.0.0.1");
    let enrp = world.incoming(Protocol::Enrp);
    world.up(enrp, LinkKind::Tcp, &["10.0.0.2"], None);
    let mut rng = Rng::new(1);
    let good = registration("pool", &ours(element(1, "10.0.0.1"))).encode(Dialect::Rfc).unwrap();
    for _ in 0..20_000 {
        let mut bytes = good.clone();
        for _ in 0..=rng.below(4) {
            let at = usize::try_from(rng.below(bytes.len() as u64)).unwrap();
            bytes[at] = rng.below(256) as u8;
        }
        bytes.truncate(usize::try_from(rng.below(bytes.len() as u64 + 1)).unwrap().max(1));
        let complete = rng.below(50) != 0;
        for (link, channel) in [(link, Channel::Asap), (enrp, Channel::Enrp), (link, Channel::Enrp)] {
            world.input(Input::Message { link, channel, bytes: &bytes, complete });
        }
        world.input(Input::Announce {
            protocol: Protocol::Asap,
            audience: Audience::Standard,
            from: SocketAddr::new(ip("10.0.0.3"), 1),
            bytes: &bytes,
        });
        world.input(Input::SendFailed { link, channel: Channel::Asap, message: bytes });
        world.done.clear();
        world.events.clear();
    }
    assert!(world.registrar.counters().rejected_messages > 10_000);
    let other = world.client("10.0.0.4");
    assert_eq!(world.register(other, "still alive", &element(1, "10.0.0.4")), Ok(()));
}

#[test]
fn inputs_for_links_nobody_knows_do_nothing() {
    let mut world = World::new();
    let (stray, ghost) = (LinkId::incoming(77), LinkId::outgoing(77));
    let bytes = resolution("pool", None, true).encode(Dialect::Rfc).unwrap();
    for link in [stray, ghost] {
        world.send_bytes(link, &bytes);
        world.down(link);
        world.input(Input::Writable { link });
        world.input(Input::SendFailed { link, channel: Channel::Asap, message: bytes.clone() });
        world.up(link, LinkKind::Tcp, &["10.0.0.1"], None);
        world.send_bytes(link, &bytes);
    }
    assert_eq!(world.done(), []);
    assert_eq!(world.registrar.clients(), 0);
}

#[test]
fn a_link_that_comes_up_after_it_was_closed_stays_dead() {
    let mut world = World::with(config(), Limits { links_per_address: 1, ..Limits::default() });
    world.client("10.0.0.1");
    let second = world.client("10.0.0.1");
    assert_eq!(world.done(), [Done::Close(second, true)]);
    world.up(second, LinkKind::Tcp, &["10.0.0.1"], None);
    assert_eq!(world.done(), []);
}

fn announcing() -> World {
    let asap = vec![tcp("10.0.0.100", 3863)];
    let mut world =
        World::of(Registrar::new(config(), Limits::default(), 7, Setup { asap, announce: true, ..setup() }));
    // It listens for a mentor first.
    world.pass(ms(250));
    world
}

fn hear(world: &mut World, id: u32) {
    let heard = AsapMessage::ServerAnnounce { server: ServerId::new(id), transports: Vec::new() };
    let bytes = heard.encode(Dialect::Rfc).unwrap();
    world.input(Input::Announce {
        protocol: Protocol::Asap,
        audience: Audience::Standard,
        from: SocketAddr::new(ip("10.0.0.3"), 3863),
        bytes: &bytes,
    });
}

/// The announcements of the next `time`, while the registrars named announce themselves twice a second.
fn announcements(world: &mut World, time: Duration, others: &[u32]) -> usize {
    let end = world.now + time;
    while world.now < end {
        others.iter().for_each(|id| hear(world, *id));
        world.pass(ms(500));
    }
    world.done().iter().filter(|done| matches!(done, Done::Announce(..))).count()
}

#[test]
fn announces_itself_to_rsplib_without_transports_if_it_can_be_had_over_sctp() {
    let asap = vec![sctp(&["10.0.0.100"], 3863, TransportUse::DataOnly), tcp("10.0.0.100", 3863)];
    let setup = Setup { asap: asap.clone(), announce: true, ..setup() };
    let mut world = World::of(Registrar::new(config(), Limits::default(), 7, setup));
    world.pass(ms(250));
    let of = |transports| AsapMessage::ServerAnnounce { server: Some(me()), transports };
    assert_eq!(
        world.done(),
        [Done::Announce(Audience::Standard, of(asap)), Done::Announce(Audience::Rsplib, of(Vec::new()))]
    );
}

#[test]
fn announces_itself_with_its_transports_every_t6_when_alone() {
    let mut world = announcing();
    let announcement =
        AsapMessage::ServerAnnounce { server: Some(me()), transports: vec![tcp("10.0.0.100", 3863)] };
    assert_eq!(world.done(), [Done::Announce(Audience::Standard, announcement)], "as soon as it serves");
    assert_eq!(announcements(&mut world, Duration::from_secs(10), &[]), 10);
}

#[test]
fn announces_less_often_the_more_registrars_it_hears() {
    let mut world = announcing();
    announcements(&mut world, Duration::from_secs(4), &[1, 2, 3]);
    assert_eq!(announcements(&mut world, Duration::from_secs(40), &[1, 2, 3]), 10);
    // They fall silent, and are forgotten.
    announcements(&mut world, Duration::from_secs(20), &[]);
    assert_eq!(announcements(&mut world, Duration::from_secs(10), &[]), 10);
}

#[test]
fn its_own_announcement_does_not_count() {
    let mut world = announcing();
    announcements(&mut world, Duration::from_secs(1), &[0xaaaa]);
    assert_eq!(announcements(&mut world, Duration::from_secs(10), &[0xaaaa]), 10);
}

#[test]
fn made_up_registrars_silence_it_for_a_bounded_time() {
    let mut world = announcing();
    let others: Vec<u32> = (1..=5_000).collect();
    announcements(&mut world, Duration::from_secs(2), &others);
    assert!(announcements(&mut world, Duration::from_secs(70), &others) >= 2);
}

#[test]
fn does_not_announce_itself_when_told_not_to() {
    let mut world = World::new();
    assert_eq!(announcements(&mut world, Duration::from_secs(10), &[]), 0);
}

#[test]
fn leaves_in_order_and_turns_away_who_comes_then() {
    let mut world = announcing();
    let client = world.client("10.0.0.1");
    assert_eq!(world.register(client, "pool", &element(1, "10.0.0.1")), Ok(()));
    let half_open = world.incoming(Protocol::Asap);
    let enrp = world.incoming(Protocol::Enrp);
    world.done();
    world.registrar.shutdown(world.now);
    world.drain();
    let mut closed = world.done();
    closed.sort_by_key(|done| match done {
        Done::Close(link, false) => *link,
        other => panic!("{other:?}"),
    });
    assert_eq!(closed, [client, half_open, enrp].map(|link| Done::Close(link, false)));
    assert_eq!(world.registrar.poll_timeout(), None);
    let late = world.incoming(Protocol::Asap);
    assert_eq!(world.done(), [Done::Close(late, true)]);
}

#[test]
fn the_same_inputs_give_the_same_bytes() {
    let run = || {
        let mut world = announcing();
        let link = world.client("10.0.0.1");
        for id in 1..=20 {
            let policy = Policy::new(PolicyType::Random, &[]);
            let element = PoolElement { policy, ..element(id, "10.0.0.1") };
            assert_eq!(world.register(link, "pool", &element), Ok(()));
        }
        let order = world.resolve(link, "pool");
        world.pass(Duration::from_secs(2));
        (order, format!("{:?}", world.done))
    };
    assert_eq!(run(), run());
}
