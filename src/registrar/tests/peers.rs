//! Links to peers, and presence (RFC 5353 3.4), seen from one registrar.

use super::*;
use crate::wire::{EnrpHeader, Introduction, ServerInformation};

pub(super) fn peer() -> ServerId {
    server_id(0xbbbb)
}

fn header() -> EnrpHeader {
    EnrpHeader { sender: Some(peer()), receiver: None }
}

pub(super) fn presence(reply_required: bool) -> EnrpMessage {
    let transport = tcp("10.0.0.200", 9901);
    EnrpMessage::Presence {
        reply_required,
        header: header(),
        checksum: None,
        introduction: None,
        server: Some(ServerInformation { server: Some(peer()), transport }),
    }
}

/// The presence of one of ours under this identifier.
fn presence_of_ours(id: u32) -> EnrpMessage {
    EnrpMessage::Presence {
        reply_required: false,
        header: EnrpHeader { sender: Some(server_id(id)), receiver: None },
        checksum: None,
        introduction: Some(Introduction { incarnation: 5, heartbeat: ms(200), ..Introduction::default() }),
        server: None,
    }
}

/// Its own update of an element.
fn update(id: u32, pool: &str) -> EnrpMessage {
    let element = PoolElement { home: ServerId::new(id), ..element(1, "10.0.0.1") };
    EnrpMessage::HandleUpdate {
        takeover_suggested: false,
        header: EnrpHeader { sender: ServerId::new(id), receiver: None },
        action: crate::wire::UpdateAction::AddPe,
        handle: handle(pool),
        element: crate::wire::Versioned { element, version: None },
    }
}

pub(super) fn send(world: &mut World, link: LinkId, message: &EnrpMessage) -> Vec<Done> {
    world.done();
    let bytes = message.encode(Dialect::Rfc).unwrap();
    world.input(Input::Message { link, channel: Channel::Enrp, bytes: &bytes, complete: true });
    world.done()
}

pub(super) fn accepted(world: &mut World) -> LinkId {
    let link = world.incoming(Protocol::Enrp);
    let (local, peer) =
        ([SocketAddr::new(ip("10.0.0.100"), 9901)], [SocketAddr::new(ip("10.0.0.200"), 9901)]);
    let up = Input::LinkUp {
        link,
        kind: LinkKind::Tcp,
        protocol: Protocol::Enrp,
        local: &local,
        peer: &peer,
        identity: None,
    };
    world.input(up);
    link
}

fn with_peer() -> (World, Destination) {
    let to = Destination {
        kind: LinkKind::Tcp,
        protocol: Protocol::Enrp,
        port: 9901,
        addresses: Addresses::from(ip("10.0.0.200")),
    };
    let registrar =
        Registrar::new(config(), Limits::default(), 7, Setup { peers: vec![to.clone()], ..setup() });
    (World::of(registrar), to)
}

#[test]
fn introduces_itself_with_checksum_and_server_information() {
    let mut world = World::new();
    let client = world.client("10.0.0.1");
    assert_eq!(world.register(client, "pool", &element(1, "10.0.0.1")), Ok(()));
    world.done();
    let link = accepted(&mut world);
    let expected = EnrpMessage::Presence {
        reply_required: true,
        header: EnrpHeader { sender: Some(me()), receiver: None },
        checksum: Some(world.registrar.handlespace().checksum(me(), crate::handlespace::View::Full)),
        introduction: Some(Introduction {
            capabilities: Capabilities::default(),
            heartbeat: config().peer_heartbeat_cycle,
            incarnation: world.registrar.incarnation,
            // Itself.
            registrars: 3_886_520_006,
            digest: Some(world.registrar.handlespace().digest(me())),
        }),
        server: Some(ServerInformation { server: Some(me()), transport: tcp("10.0.0.100", 9901) }),
    };
    assert_eq!(world.done(), [Done::Enrp(link, expected)]);
}

#[test]
fn says_every_heartbeat_that_it_is_there() {
    let mut world = World::new();
    let link = accepted(&mut world);
    world.done();
    world.pass(ms(5_500));
    let beats = world.done();
    assert_eq!(beats.len(), 27);
    let is_beat = |done: &Done| matches!(done, Done::Enrp(to, EnrpMessage::Presence { reply_required: false, .. }) if *to == link);
    assert!(beats.iter().all(is_beat));
    world.down(link);
    world.pass(ms(5_500));
    assert_eq!((world.done(), world.registrar.poll_timeout()), (vec![], None));
}

#[test]
fn answers_a_presence_that_wants_a_reply_and_remembers_the_peer() {
    let mut world = World::new();
    let link = accepted(&mut world);
    assert_eq!(send(&mut world, link, &presence(false)), []);
    let replies = send(&mut world, link, &presence(true));
    assert!(
        matches!(replies.as_slice(), [Done::Enrp(_, EnrpMessage::Presence {
            reply_required: false, header: EnrpHeader { receiver: Some(to), .. }, server: Some(_), ..
        })] if *to == peer()),
        "{replies:?}"
    );
    let known: Vec<&Peer> = world.registrar.peers().collect();
    let expected = Peer {
        server: peer(),
        state: PeerState::Alive,
        last_heard: world.now,
        transport: Some(tcp("10.0.0.200", 9901)),
        ours: false,
        dialect: Dialect::Rfc,
        checksum_agrees: None,
        digest_agrees: None,
    };
    assert_eq!(known, [&expected]);
    assert_eq!(world.events(), [Event::PeerUp { server: peer() }]);
}

#[test]
fn reports_an_unrecognised_enrp_message_but_not_to_endpoints() {
    let mut world = World::new();
    let (link, client) = (accepted(&mut world), world.client("10.0.0.1"));
    world.done();
    let unknown = [0x4f, 0, 0, 4];
    world.input(Input::Message { link, channel: Channel::Enrp, bytes: &unknown, complete: true });
    assert!(matches!(world.done().as_slice(), [Done::Enrp(to, EnrpMessage::Error { .. })] if *to == link));
    world.input(Input::Message { link: client, channel: Channel::Enrp, bytes: &unknown, complete: true });
    assert_eq!(world.done(), []);
    let error =
        EnrpMessage::Error { header: header(), causes: vec![ErrorCause::bare(CauseCode::Unspecified)] };
    assert_eq!(send(&mut world, link, &error), []);
    // Nor one with a parameter that is to be reported.
    let bytes = [0x0a, 0, 0, 20, 0, 0, 0xbb, 0xbb, 0, 0, 0, 0, 0xc1, 0x23, 0, 8, 1, 2, 3, 4];
    world.input(Input::Message { link, channel: Channel::Enrp, bytes: &bytes, complete: true });
    assert_eq!(world.done(), []);
}

#[test]
fn tries_a_configured_peer_again_and_again_ever_more_slowly() {
    let (mut world, to) = with_peer();
    let mut tries = Vec::new();
    for _ in 0..7 {
        let (link, destination) = loop {
            world.pass(world.registrar.poll_timeout().expect("to be tried").since(world.now));
            if let Some(connecting) = world.connecting() {
                break connecting;
            }
        };
        assert_eq!(destination, to);
        tries.push(world.now);
        world.input(Input::LinkDown { link, why: LinkFailure::Refused });
    }
    let gaps: Vec<u128> = tries.windows(2).map(|pair| pair[1].since(pair[0]).as_millis()).collect();
    assert_eq!(gaps, [100, 200, 400, 800, 1_000, 1_000]);
    let down = Event::PeerDown { to, why: LinkFailure::Refused };
    assert_eq!(world.events(), [down, Event::Serving { mentor: None }], "told once");
}

#[test]
fn a_peer_that_was_up_is_tried_again_at_once() {
    let (mut world, _) = with_peer();
    world.pass(ms(0));
    for _ in 0..4 {
        let (link, _) = world.connecting().expect("a connect");
        world.down(link);
        world.pass(Duration::from_secs(10));
    }
    let (link, _) = world.connecting().expect("a connect");
    world.up(link, LinkKind::Tcp, &["10.0.0.200"], None);
    world.down(link);
    world.pass(ms(0));
    assert!(world.connecting().is_none(), "nobody has said that a registrar is there");
    world.pass(Duration::from_secs(10));
    let (link, _) = world.connecting().expect("a connect");
    world.up(link, LinkKind::Tcp, &["10.0.0.200"], None);
    send(&mut world, link, &presence(false));
    world.down(link);
    world.pass(ms(0));
    assert!(world.connecting().is_some(), "the long pause was that of a peer that did not come up");
}

#[test]
fn a_peer_that_had_connected_itself_is_looked_for_when_that_link_is_lost_though_it_was_taken_over() {
    let (mut world, _) = with_peer();
    world.pass(ms(0));
    let (attempt, _) = world.connecting().expect("a connect");
    let link = accepted(&mut world);
    send(&mut world, link, &presence(false));
    world.down(attempt);
    world.pass(Duration::from_secs(120));
    assert_eq!(world.registrar.peers().count(), 0, "taken over and struck off");
    assert!(world.connecting().is_none(), "it has a link");
    world.input(Input::LinkDown { link, why: LinkFailure::TimedOut });
    world.pass(ms(0));
    assert!(world.connecting().is_some());
}

#[test]
fn says_that_it_is_there_also_to_who_has_been_taken_over_so_that_a_dead_link_is_noticed() {
    let mut world = World::new();
    let link = accepted(&mut world);
    send(&mut world, link, &presence(false));
    world.pass(Duration::from_secs(120));
    assert_eq!(world.registrar.peers().count(), 0, "taken over and struck off");
    world.done();
    world.pass(ms(1_000));
    let told = |done: &Done| matches!(done, Done::Enrp(on, EnrpMessage::Presence { .. }) if *on == link);
    assert_eq!(world.done().iter().filter(|done| told(done)).count(), 5);
}

fn with_both_transports() -> World {
    let addresses = Addresses::from(ip("10.0.0.200"));
    let (kind, protocol, port) = (LinkKind::Sctp, Protocol::Enrp, 9901);
    let sctp = Destination { kind, protocol, port, addresses };
    let peers = vec![sctp.clone(), Destination { kind: LinkKind::Tcp, ..sctp }];
    World::of(Registrar::new(config(), Limits::default(), 7, Setup { peers, ..setup() }))
}

fn connects(world: &mut World) -> Vec<(LinkId, LinkKind)> {
    let connect = |done| match done {
        Done::Connect(link, to) => Some((link, to.kind)),
        _ => None,
    };
    world.done().into_iter().filter_map(connect).collect()
}

fn sctp_up(world: &mut World, link: LinkId) {
    let at = |address| [SocketAddr::new(ip(address), 9901)];
    world.input(Input::LinkUp {
        link,
        kind: LinkKind::Sctp,
        protocol: Protocol::Enrp,
        local: &at("10.0.0.100"),
        peer: &at("10.0.0.200"),
        identity: None,
    });
}

#[test]
fn a_peer_is_connected_to_over_sctp_before_tcp() {
    let mut world = with_both_transports();
    world.pass(ms(0));
    let found = connects(&mut world);
    let [(sctp, LinkKind::Sctp)] = found[..] else { panic!("{found:?}") };
    world.pass(ms(50));
    sctp_up(&mut world, sctp);
    send(&mut world, sctp, &presence(false));
    world.pass(Duration::from_secs(3));
    assert!(connects(&mut world).iter().all(|(_, kind)| *kind == LinkKind::Sctp), "one link is enough");
    // Lost, and not to be had again over SCTP: TCP.
    world.down(sctp);
    world.pass(ms(0));
    let found = connects(&mut world);
    let [(sctp, LinkKind::Sctp)] = found[..] else { panic!("{found:?}") };
    world.input(Input::LinkDown { link: sctp, why: LinkFailure::Refused });
    world.pass(ms(0));
    let found = connects(&mut world);
    assert!(matches!(found[..], [(_, LinkKind::Tcp)]), "{found:?}");
}

#[test]
fn a_peer_that_does_not_answer_over_sctp_is_connected_to_over_tcp_after_a_moment() {
    let mut world = with_both_transports();
    world.pass(ms(99));
    assert_eq!(connects(&mut world).len(), 1);
    world.pass(ms(1));
    assert!(matches!(connects(&mut world)[..], [(_, LinkKind::Tcp)]));
}

#[test]
fn the_link_a_peer_has_opened_is_taken_for_the_one_that_was_to_be_opened_to_it() {
    let mut world = with_both_transports();
    world.pass(ms(0));
    let (attempt, _) = connects(&mut world)[0];
    let caller = world.incoming(Protocol::Enrp);
    sctp_up(&mut world, caller);
    world.events();
    world.input(Input::LinkDown { link: attempt, why: LinkFailure::Present });
    send(&mut world, caller, &presence(false));
    world.pass(ms(300));
    assert_eq!(connects(&mut world), []);
    let told = world.events();
    assert!(!told.iter().any(|event| matches!(event, Event::PeerDown { .. })), "{told:?}");
    // When it is lost the peer is looked for at once.
    world.down(caller);
    world.pass(ms(0));
    let found = connects(&mut world);
    assert!(matches!(found[..], [(_, LinkKind::Sctp)]), "{found:?}");
}

#[test]
fn remembers_a_bounded_number_of_peers() {
    let mut world = World::new();
    let link = accepted(&mut world);
    for id in 1..=1_000 {
        send(&mut world, link, &update(id, &format!("pool {id}")));
    }
    assert_eq!(world.registrar.peers().count(), 256);
}

#[test]
fn a_peer_with_another_identifier_does_not_live_on_under_the_one_before() {
    let mut world = World::new();
    let link = accepted(&mut world);
    send(&mut world, link, &presence_of_ours(0xb001));
    // Renamed twice within a moment, and in between heard once, by what makes it the home of an element.
    send(&mut world, link, &update(0xb002, "pool"));
    send(&mut world, link, &presence_of_ours(0xb003));
    let alive = |world: &World| -> Vec<ServerId> { world.registrar.live_peers().into_iter().collect() };
    assert_eq!(alive(&world), [server_id(0xb003)]);
    // The element has lost its home. That was one of ours, and is given the time one of ours needs to answer.
    world.pass(ms(200));
    assert_eq!(world.registrar.counters().accusations, 0);
    world.pass(ms(100));
    assert_eq!(world.registrar.counters().accusations, 1);
    // Unless it is told anew, as who is renamed does.
    send(&mut world, link, &update(0xb003, "pool"));
    send(&mut world, link, &update(0xb004, "pool"));
    send(&mut world, link, &update(0xb005, "pool"));
    assert_eq!(alive(&world), [server_id(0xb005)]);
    assert_eq!(world.registrar.handlespace().count(Some(server_id(0xb005))), 1);
}

#[test]
fn accepts_a_bounded_number_of_links_from_peers() {
    let mut world = World::new();
    let links: Vec<LinkId> = (0..300).map(|_| world.incoming(Protocol::Enrp)).collect();
    let refused: Vec<Done> = links[256..].iter().map(|link| Done::Close(*link, true)).collect();
    assert_eq!(world.done(), refused);
}

#[test]
fn a_link_told_up_twice_is_forgotten_with_all_that_was_known_of_it() {
    let (mut world, _) = with_peer();
    world.pass(ms(0));
    let (link, _) = world.connecting().expect("a connect");
    world.up(link, LinkKind::Tcp, &["10.0.0.200"], None);
    send(&mut world, link, &presence(false));
    world.up(link, LinkKind::Tcp, &["10.0.0.200"], None);
    world.down(link);
    world.done();
    world.pass(ms(200));
    assert!(!world.done().iter().any(|done| matches!(done, Done::Enrp(to, _) if *to == link)));
}

/// A registrar that announces itself and can be had over SCTP at the addresses, with what it says on the groups of ENRP while `time`
/// passes.
fn presences(time: Duration) -> Vec<(Audience, Vec<u8>)> {
    let enrp = vec![sctp(&["10.0.0.100", "10.0.1.100"], 9901, TransportUse::DataOnly)];
    let setup = Setup { enrp, announce: true, ..setup() };
    let mut registrar = Registrar::new(config(), Limits::default(), 7, setup);
    let end = Time::ZERO + time;
    let mut said = Vec::new();
    while let Some(at) = registrar.poll_timeout().filter(|at| *at <= end) {
        registrar.handle(at, Input::Timeout);
        while let Some(effect) = registrar.poll_effect() {
            if let Effect::Announce { protocol: Protocol::Enrp, audience, bytes } = effect {
                said.push((audience, bytes));
            }
        }
    }
    said
}

#[test]
fn rsplib_is_told_of_a_presence_only_with_the_checksum_that_it_demands() {
    let said = presences(Duration::from_secs(10));
    let to = |audience: Audience| said.iter().filter(move |(to, _)| *to == audience);
    // Also while this one is starting.
    assert!(to(Audience::Rsplib).count() > 1);
    assert_eq!(to(Audience::Rsplib).count(), to(Audience::Standard).count());
    for (_, bytes) in to(Audience::Rsplib) {
        assert_eq!(bytes.len() % 4, 0);
        let message = EnrpMessage::decode(bytes, Dialect::Rsplib).unwrap().message;
        let EnrpMessage::Presence { checksum, server: Some(own), header, .. } = message else {
            panic!("{message:?}")
        };
        assert_eq!((header.sender, header.receiver), (Some(me()), None));
        assert!(checksum.is_some() && own.transport.port() == Some(9901), "{own:?}");
    }
}

#[test]
fn a_registrar_heard_on_rsplibs_group_is_sought_at_the_source_and_the_port_it_names() {
    // rsplib.md 1.7, with every address of its machine as it sends them by default.
    let presence = [
        &[0x01, 0, 0, 0x3c, 0x11, 0x11, 0x11, 0x11, 0, 0, 0, 0, 0, 0x0f, 0, 6, 0x16, 0xae, 0, 0][..],
        &[0, 0x0b, 0, 0x28, 0x11, 0x11, 0x11, 0x11, 0, 4, 0, 0x20, 0x26, 0xad, 0, 0],
        &[0, 1, 0, 8, 127, 0, 0, 1, 0, 1, 0, 8, 169, 254, 0, 1, 0, 1, 0, 8, 10, 1, 1, 1],
    ]
    .concat();
    let mut world = World::new();
    let from = SocketAddr::new(ip("10.1.1.1"), 9901);
    let (protocol, audience) = (Protocol::Enrp, Audience::Rsplib);
    world.input(Input::Announce { protocol, audience, from, bytes: &presence });
    world.pass(ms(1));
    let expected = Destination {
        kind: LinkKind::Sctp,
        protocol: Protocol::Enrp,
        port: 9901,
        addresses: Addresses::from(ip("10.1.1.1")),
    };
    assert!(matches!(world.done()[..], [Done::Connect(_, ref to)] if *to == expected));
}
