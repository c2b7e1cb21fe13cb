//! Taking over, seen from one registrar (RFC 5353 3.5). The arbitration by itself is in `tests/model`.

use super::*;
use crate::wire::{EnrpHeader, Introduction, UpdateAction, Versioned};

fn peer() -> ServerId {
    server_id(0xbbbb)
}

fn header() -> EnrpHeader {
    EnrpHeader { sender: Some(peer()), receiver: None }
}

fn send(world: &mut World, link: LinkId, message: &EnrpMessage) {
    let bytes = message.encode(Dialect::Rfc).unwrap();
    world.input(Input::Message { link, channel: Channel::Enrp, bytes: &bytes, complete: true });
}

/// A link from a peer of ours that has said so.
fn peer_of_ours(world: &mut World) -> LinkId {
    acquainted(world, peer(), "10.0.0.200")
}

fn acquainted(world: &mut World, server: ServerId, address: &str) -> LinkId {
    let link = world.incoming(Protocol::Enrp);
    world.up(link, LinkKind::Tcp, &[address], None);
    show_life(world, link, server);
    link
}

fn show_life(world: &mut World, link: LinkId, server: ServerId) {
    show(world, link, server, None);
}

fn show(world: &mut World, link: LinkId, server: ServerId, digest: Option<u64>) {
    let introduction = Introduction {
        capabilities: Capabilities::default(),
        heartbeat: ms(200),
        incarnation: 1,
        digest,
        registrars: 0,
    };
    let presence = EnrpMessage::Presence {
        reply_required: false,
        header: EnrpHeader { sender: Some(server), receiver: None },
        checksum: None,
        introduction: Some(introduction),
        server: None,
    };
    send(world, link, &presence);
}

fn update(action: UpdateAction, id: u32, version: u64) -> EnrpMessage {
    let element = PoolElement { home: Some(peer()), ..element(id, "10.0.0.1") };
    let element = Versioned { element: ours(element), version: Some(version) };
    EnrpMessage::HandleUpdate {
        takeover_suggested: false,
        header: header(),
        action,
        handle: handle("pool"),
        element,
    }
}

/// The peer's digest does not agree, so that it is asked for its table, which has these elements.
fn audit(world: &mut World, link: LinkId, server: ServerId, has: &[u32]) {
    for _ in 0..2 {
        show(world, link, server, Some(1));
    }
    let asked = |it: &EnrpMessage| matches!(it, EnrpMessage::HandleTableRequest { owned_only: true, .. });
    assert!(said_to(world, link).iter().any(asked));
    let versioned = |id: &u32| {
        let element = PoolElement { home: Some(server), ..element(*id, "10.0.0.1") };
        Versioned { element: ours(element), version: Some(7) }
    };
    let pools = vec![(handle("pool"), has.iter().map(versioned).collect::<Vec<_>>())];
    let header = EnrpHeader { sender: Some(server), receiver: Some(me()) };
    let pools = if has.is_empty() { Vec::new() } else { pools };
    send(world, link, &EnrpMessage::HandleTableResponse { more: false, reject: false, header, pools });
}

/// Registrar with a peer that owns so many elements and then dies; when it died.
fn bereaved(elements: u32) -> (World, Time) {
    let mut world = World::new();
    let link = peer_of_ours(&mut world);
    for id in 1..=elements {
        send(&mut world, link, &update(UpdateAction::AddPe, id, u64::from(id)));
    }
    world.done();
    world.events();
    let died = world.now;
    world.down(link);
    (world, died)
}

fn pass_until_taken_over(world: &mut World) -> Time {
    for _ in 0..10_000 {
        if world.registrar.counters().takeovers_completed == 1 {
            return world.now;
        }
        world.pass(ms(1));
    }
    panic!("not taken over");
}

#[test]
fn elements_of_a_dead_registrar_are_adopted_in_time_and_asked_with_the_h_bit() {
    let (mut world, died) = bereaved(1);
    let taken_over = pass_until_taken_over(&mut world);
    assert!(taken_over.since(died) < ms(1_500), "{:?}", taken_over.since(died));
    assert_eq!(world.element("pool", 1).home, Some(me()));
    let (link, to) = world
        .done()
        .into_iter()
        .find_map(|done| match done {
            Done::Connect(link, to) if to.protocol == Protocol::Asap => Some((link, to)),
            _ => None,
        })
        .expect("it is asked");
    assert_eq!(to.port, 3_000);
    world.up(link, LinkKind::Tcp, &["10.0.0.1"], None);
    let asked = world.keep_alives();
    assert!(matches!(asked.as_slice(), [(on, KeepAlive { home: true, .. })] if *on == link), "{asked:?}");
    world.acknowledge(link, "pool", 1);
    assert_eq!(world.registrar.counters().adoptions_acknowledged, 1);
    let entry = world.registrar.handlespace().entry(&handle("pool"), PeId(1)).unwrap();
    assert!(entry.version > 1 && entry.registrant.as_ref().is_some_and(|it| it.link == Some(link)));
    // From then on it is asked like any other.
    world.pass(ms(600));
    let asked = world.keep_alives();
    assert!(matches!(asked.as_slice(), [(on, KeepAlive { home: false, .. })] if *on == link), "{asked:?}");
}

#[test]
fn an_adopted_element_that_acknowledges_when_it_is_anothers_already_is_told_that_it_is_not_registered() {
    let (mut world, _) = bereaved(2);
    pass_until_taken_over(&mut world);
    let (probe, _) = world.connecting().expect("they are asked");
    world.up(probe, LinkKind::Tcp, &["10.0.0.1"], None);
    world.pass(ms(100));
    let asked = world.keep_alives();
    assert!(asked.len() == 2 && asked.iter().all(|(link, it)| *link == probe && it.home), "{asked:?}");
    // Whom it was taken from was not dead, and tells so while the element takes this registrar for its home.
    let back = peer_of_ours(&mut world);
    send(&mut world, back, &update(UpdateAction::AddPe, 1, 100));
    assert_eq!(world.element("pool", 1).home, Some(peer()));
    world.done();
    world.acknowledge(probe, "pool", 1);
    let notice =
        AsapMessage::DeregistrationResponse { handle: handle("pool"), element: PeId(1), error: None };
    assert_eq!(world.done(), [Done::Asap(probe, notice)]);
    // So it registers here.
    assert_eq!(world.register(probe, "pool", &ours(element(1, "10.0.0.1"))), Ok(()));
    assert_eq!(world.element("pool", 1).home, Some(me()));
    assert!(world.registrar.handlespace().entry(&handle("pool"), PeId(1)).unwrap().version > 100);
}

#[test]
fn who_draws_another_identifier_keeps_what_it_has_taken_over_and_begins_anew_what_it_was_about_to() {
    let (mut world, _) = bereaved(1);
    pass_until_taken_over(&mut world);
    let namesake = acquainted(&mut world, me(), "10.0.0.203");
    show(&mut world, namesake, me(), Some(1));
    let renamed = world.registrar.id();
    assert_ne!(renamed, me());
    assert_eq!(world.element("pool", 1).home, Some(renamed), "it is being asked still");

    let third = server_id(0xcccc);
    let (mut world, link, _) = contest(third);
    assert_eq!(world.registrar.counters().takeovers_begun, 1);
    let namesake = acquainted(&mut world, me(), "10.0.0.203");
    show(&mut world, namesake, me(), Some(1));
    for _ in 0..20 {
        show_life(&mut world, link, third);
        world.pass(ms(50));
    }
    assert_eq!(world.registrar.counters().takeovers_begun, 2);
}

#[test]
fn who_slept_does_not_agree_to_a_takeover_because_it_has_not_read_the_targets_answer() {
    let mut world = World::new();
    let target = peer_of_ours(&mut world);
    let (asker, link) = (server_id(0xcccc), acquainted(&mut world, server_id(0xcccc), "10.0.0.201"));
    let header = EnrpHeader { sender: Some(asker), receiver: Some(me()) };
    send(&mut world, link, &EnrpMessage::InitTakeover { header, target: Some(peer()) });
    world.done();
    world.now = world.now + ms(1_500);
    world.input(Input::Timeout);
    show_life(&mut world, target, peer());
    let said = said_to(&mut world, link);
    assert!(!said.iter().any(|it| matches!(it, EnrpMessage::InitTakeoverAck { .. })), "{said:?}");
    assert_eq!(world.registrar.counters().takeovers_yielded, 0);
}

#[test]
fn a_homes_own_table_holds_also_where_its_versions_are_lower() {
    let mut world = World::new();
    let link = peer_of_ours(&mut world);
    send(&mut world, link, &update(UpdateAction::AddPe, 1, 9));
    // It has started again since, and the element has registered there anew: with version 7, as all in this table.
    audit(&mut world, link, peer(), &[1]);
    assert_eq!(world.registrar.handlespace().entry(&handle("pool"), PeId(1)).unwrap().version, 7);
    // What it says from then on counts.
    send(&mut world, link, &update(UpdateAction::DelPe, 1, 8));
    assert!(!world.has("pool", 1));
}

#[test]
fn an_adopted_element_that_does_not_answer_is_removed_and_not_before_it_was_asked() {
    let config = RegistrarConfig { keep_alives_per_second: 10, ..config() };
    let mut world = World::with(config, Limits::default());
    let link = peer_of_ours(&mut world);
    for id in 1..=50 {
        send(&mut world, link, &update(UpdateAction::AddPe, id, u64::from(id)));
    }
    world.down(link);
    pass_until_taken_over(&mut world);
    world.pass(ms(2_000));
    let left = world.registrar.handlespace().count(None);
    assert!((30..50).contains(&left), "ten a second are asked, and have a second to answer: {left} left");
    world.pass(ms(5_000));
    assert_eq!(world.registrar.handlespace().count(None), 0);
}

#[test]
fn an_element_that_registers_anew_is_not_asked_with_the_h_bit() {
    let (mut world, _) = bereaved(1);
    pass_until_taken_over(&mut world);
    let client = world.client("10.0.0.1");
    assert_eq!(world.register(client, "pool", &ours(element(1, "10.0.0.1"))), Ok(()));
    world.pass(ms(600));
    let asked = world.keep_alives();
    assert!(!asked.is_empty() && asked.iter().all(|(link, it)| *link == client && !it.home), "{asked:?}");
}

#[test]
fn an_adopted_element_that_registers_as_it_was_is_told_of_with_a_new_version() {
    let (mut world, _) = bereaved(1);
    pass_until_taken_over(&mut world);
    let version =
        |world: &World| world.registrar.handlespace().entry(&handle("pool"), PeId(1)).unwrap().version;
    let before = version(&world);
    let client = world.client("10.0.0.1");
    let element = PoolElement { home: Some(me()), ..world.element("pool", 1).clone() };
    assert_eq!(world.register(client, "pool", &element), Ok(()));
    let adopted = version(&world);
    assert!(adopted > before, "else whom it was taken from could claim it on coming back");
    assert_eq!(world.register(client, "pool", &element), Ok(()));
    assert_eq!(version(&world), adopted, "nothing new");
}

#[test]
fn who_has_slept_takes_no_element_for_dead_whose_time_ran_out_meanwhile() {
    let mut world = World::new();
    let link = peer_of_ours(&mut world);
    let client = world.client("10.0.0.1");
    world.register(client, "pool", &ours(element(1, "10.0.0.1"))).unwrap();
    while world.keep_alives().is_empty() {
        show_life(&mut world, link, peer());
        world.pass(ms(1));
    }
    world.now = world.now + config().keep_alive_timeout + ms(20);
    world.input(Input::Timeout);
    assert!(world.has("pool", 1), "the acknowledgement may lie unread");
    world.acknowledge(client, "pool", 1);
    world.pass(ms(200));
    assert!(world.has("pool", 1));
}

#[test]
fn a_target_that_is_heard_is_not_taken_over() {
    let (mut world, _) = bereaved(1);
    world.pass(ms(100));
    peer_of_ours(&mut world);
    world.pass(ms(200));
    assert_eq!(world.registrar.counters().takeovers_completed, 0);
    assert_eq!(world.element("pool", 1).home, Some(peer()));
}

#[test]
fn who_is_taken_over_but_lives_keeps_what_has_a_link_here_and_gives_up_the_rest() {
    let mut world = World::new();
    let link = peer_of_ours(&mut world);
    let (stays, goes) = (world.client("10.0.0.1"), world.client("10.0.0.2"));
    assert_eq!(world.register(stays, "pool", &ours(element(1, "10.0.0.1"))), Ok(()));
    assert_eq!(world.register(goes, "pool", &ours(element(2, "10.0.0.2"))), Ok(()));
    world.down(goes);
    send(&mut world, link, &EnrpMessage::TakeoverServer { header: header(), target: Some(me()) });
    assert_eq!(world.element("pool", 1).home, Some(me()));
    assert_eq!(world.element("pool", 2).home, Some(peer()));
}

#[test]
fn an_element_that_can_be_reached_is_told_when_it_is_another_registrars() {
    let notice =
        |id| AsapMessage::DeregistrationResponse { handle: handle("pool"), element: PeId(id), error: None };
    let mut world = World::new();
    let link = peer_of_ours(&mut world);
    let (claimed, listens) = (world.client("10.0.0.1"), world.client("10.0.0.2"));
    assert_eq!(world.register(claimed, "pool", &ours(element(1, "10.0.0.1"))), Ok(()));
    assert_eq!(world.register(listens, "pool", &ours(element(2, "10.0.0.2"))), Ok(()));
    // It is claimed by another.
    send(&mut world, link, &update(UpdateAction::AddPe, 1, 100));
    assert_eq!(world.element("pool", 1).home, Some(peer()));
    assert!(world.done().contains(&Done::Asap(claimed, notice(1))));
    // It is asked through its listener, and this registrar is taken over.
    world.down(listens);
    let (probe, _) = world.connecting().expect("probed");
    world.up(probe, LinkKind::Tcp, &["10.0.0.2"], None);
    world.acknowledge(probe, "pool", 2);
    world.done();
    send(&mut world, link, &EnrpMessage::TakeoverServer { header: header(), target: Some(me()) });
    assert_eq!(world.element("pool", 2).home, Some(peer()));
    let said: Vec<Done> = world.done().into_iter().filter(|done| !matches!(done, Done::Enrp(..))).collect();
    assert_eq!(said, [Done::Asap(probe, notice(2)), Done::Close(probe, false)]);
}

#[test]
fn a_takeover_told_late_leaves_its_elements_to_who_is_back() {
    let mut world = World::new();
    let link = peer_of_ours(&mut world);
    let winner = server_id(0xcccc);
    let late = acquainted(&mut world, winner, "10.0.0.201");
    send(&mut world, link, &update(UpdateAction::AddPe, 1, 7));
    let header = EnrpHeader { sender: Some(winner), receiver: Some(me()) };
    send(&mut world, late, &EnrpMessage::TakeoverServer { header, target: Some(peer()) });
    assert_eq!(world.element("pool", 1).home, Some(peer()));
    // The winner has reached it all the same.
    let adopted = PoolElement { home: Some(winner), ..element(1, "10.0.0.1") };
    let claim = EnrpMessage::HandleUpdate {
        takeover_suggested: false,
        header: EnrpHeader { sender: Some(winner), receiver: None },
        action: UpdateAction::AddPe,
        handle: handle("pool"),
        element: Versioned { element: ours(adopted), version: Some(8) },
    };
    send(&mut world, late, &claim);
    assert_eq!(world.element("pool", 1).home, Some(winner));
}

/// A peer with two elements that has been taken over, dead or not, and its link; the winner, and its link.
fn taken_over(dies: bool) -> (World, LinkId, ServerId, LinkId) {
    let mut world = World::new();
    let target = peer_of_ours(&mut world);
    let winner = server_id(0xcccc);
    let link = acquainted(&mut world, winner, "10.0.0.201");
    for id in [1, 2] {
        send(&mut world, target, &update(UpdateAction::AddPe, id, 7));
    }
    if dies {
        world.down(target);
    }
    let header = EnrpHeader { sender: Some(winner), receiver: Some(me()) };
    send(&mut world, link, &EnrpMessage::TakeoverServer { header, target: Some(peer()) });
    (world, target, winner, link)
}

#[test]
fn what_a_registrar_that_was_taken_over_and_lives_does_not_have_any_more_is_the_winners() {
    let (mut world, link, winner, other) = taken_over(false);
    audit(&mut world, link, peer(), &[1]);
    assert_eq!(world.element("pool", 1).home, Some(peer()));
    assert_eq!(world.element("pool", 2).home, Some(winner), "until that one's audit says otherwise");
    audit(&mut world, other, winner, &[]);
    assert!(world.has("pool", 1));
    expect_asked(&mut world, 2);
}

/// It is this registrar's, which asks it, and without answer takes it out.
fn expect_asked(world: &mut World, id: u32) {
    assert_eq!(world.element("pool", id).home, Some(me()));
    world.pass(ms(0));
    let (probe, _) = world.connecting().expect("it is asked");
    world.up(probe, LinkKind::Tcp, &["10.0.0.1"], None);
    let asked = world.keep_alives();
    assert!(
        matches!(asked.as_slice(), [(_, KeepAlive { home: true, element, .. })] if *element == Some(PeId(id)))
    );
    world.pass(ms(1_000));
    assert!(!world.has("pool", id));
}

#[test]
fn what_a_winner_never_heard_of_is_asked_by_those_who_did_and_what_it_has_told_of_is_its_own() {
    let (mut world, _, winner, link) = taken_over(true);
    assert_eq!(world.element("pool", 1).home, Some(winner));
    audit(&mut world, link, winner, &[1]);
    // What the winner had, it may give up.
    world.pass(config().peer_heartbeat_cycle);
    audit(&mut world, link, winner, &[]);
    assert!(!world.has("pool", 1));
    assert_eq!(world.element("pool", 2).home, Some(me()), "it is being asked");
}

#[test]
fn what_is_registered_here_is_not_removed_by_who_cannot_reach_it() {
    let mut world = World::new();
    let link = peer_of_ours(&mut world);
    let client = world.client("10.0.0.1");
    world.register(client, "pool", &ours(element(1, "10.0.0.1"))).unwrap();
    world.done();
    send(&mut world, link, &update(UpdateAction::DelPe, 1, 1_000));
    assert!(world.has("pool", 1));
    let told = world.done().into_iter().find_map(|done| match done {
        Done::Enrp(_, EnrpMessage::HandleUpdate { action: UpdateAction::AddPe, element, .. }) => {
            element.version
        }
        _ => None,
    });
    assert!(told > Some(1_000), "told {told:?}");
}

/// A registrar that has asked a third one to agree to its takeover of a dead one: the third's link, and the questions.
fn contest(third: ServerId) -> (World, LinkId, Vec<EnrpMessage>) {
    let mut world = World::new();
    let dying = peer_of_ours(&mut world);
    let link = acquainted(&mut world, third, "10.0.0.201");
    send(&mut world, dying, &update(UpdateAction::AddPe, 1, 1));
    world.done();
    world.down(dying);
    let mut asked = Vec::new();
    for _ in 0..200 {
        show_life(&mut world, link, third);
        world.pass(ms(10));
        let questions = world.done().into_iter().filter_map(|done| match done {
            Done::Enrp(on, message @ EnrpMessage::InitTakeover { .. }) if on == link => Some(message),
            _ => None,
        });
        asked.extend(questions);
        if !asked.is_empty() {
            return (world, link, asked);
        }
    }
    panic!("no takeover is begun");
}

fn said_to(world: &mut World, link: LinkId) -> Vec<EnrpMessage> {
    let to = |done| match done {
        Done::Enrp(on, message) if on == link => Some(message),
        _ => None,
    };
    world.done().into_iter().filter_map(to).collect()
}

#[test]
fn asks_every_peer_waits_for_its_acknowledgement_and_tells_it_who_was_taken_over() {
    let third = server_id(0xcccc);
    let (mut world, link, asked) = contest(third);
    let mine = EnrpHeader { sender: Some(me()), receiver: Some(third) };
    assert_eq!(asked, [EnrpMessage::InitTakeover { header: mine, target: Some(peer()) }]);
    for _ in 0..100 {
        show_life(&mut world, link, third);
        world.pass(ms(10));
    }
    assert_eq!(world.registrar.counters().takeovers_completed, 0, "nobody has agreed");
    assert_eq!(world.element("pool", 1).home, Some(peer()));
    said_to(&mut world, link);
    let header = EnrpHeader { sender: Some(third), receiver: Some(me()) };
    send(&mut world, link, &EnrpMessage::InitTakeoverAck { header, target: Some(peer()) });
    let told = said_to(&mut world, link);
    assert_eq!(
        told.first(),
        Some(&EnrpMessage::TakeoverServer { header: mine, target: Some(peer()) }),
        "{told:?}"
    );
    assert_eq!(world.registrar.counters().takeovers_completed, 1);
    assert_eq!(world.element("pool", 1).home, Some(me()));
    assert!(world.registrar.peers().all(|known| known.server != peer()));
}

#[test]
fn who_shows_only_late_that_it_is_one_of_ours_is_asked_before_a_takeover_is_completed() {
    let (third, fourth) = (server_id(0xcccc), server_id(0x1111));
    let (mut world, link, _) = contest(third);
    // Has not said yet what it is, and is lost again.
    let short = world.incoming(Protocol::Enrp);
    world.up(short, LinkKind::Tcp, &["10.0.0.202"], None);
    let theirs = EnrpHeader { sender: Some(fourth), receiver: Some(me()) };
    send(&mut world, short, &EnrpMessage::ListRequest { header: theirs });
    world.down(short);
    let header = EnrpHeader { sender: Some(third), receiver: Some(me()) };
    send(&mut world, link, &EnrpMessage::InitTakeoverAck { header, target: Some(peer()) });
    // For longer than one that is not of ours is asked.
    for _ in 0..90 {
        show_life(&mut world, link, third);
        world.pass(ms(50));
    }
    assert_eq!(world.registrar.counters().takeovers_completed, 0, "it may live");
    let back = acquainted(&mut world, fourth, "10.0.0.202");
    let asked =
        |it: &EnrpMessage| matches!(it, EnrpMessage::InitTakeover { target, .. } if *target == Some(peer()));
    assert!(said_to(&mut world, back).iter().any(asked));
    assert_eq!(world.registrar.counters().takeovers_completed, 0, "it has not agreed");
    send(&mut world, back, &EnrpMessage::InitTakeoverAck { header: theirs, target: Some(peer()) });
    assert_eq!(world.registrar.counters().takeovers_completed, 1);
}

#[test]
fn an_element_whose_home_is_dead_is_removed_by_who_has_heard_of_its_takeover_first() {
    let third = server_id(0xcccc);
    let (mut world, link, _) = contest(third);
    let removal = |version| {
        let element = PoolElement { home: Some(third), ..element(1, "10.0.0.1") };
        EnrpMessage::HandleUpdate {
            takeover_suggested: false,
            header: EnrpHeader { sender: Some(third), receiver: None },
            action: UpdateAction::DelPe,
            handle: handle("pool"),
            element: Versioned { element: ours(element), version: Some(version) },
        }
    };
    send(&mut world, link, &removal(1));
    assert!(world.has("pool", 1));
    send(&mut world, link, &removal(2));
    assert!(!world.has("pool", 1));
}

#[test]
fn a_silent_peers_other_link_is_opened_anew_when_one_has_timed_out() {
    let mut world = World::new();
    let first = peer_of_ours(&mut world);
    let second = peer_of_ours(&mut world);
    let timed_out = |link| Input::LinkDown { link, why: LinkFailure::TimedOut };
    let closed = |world: &mut World| {
        let close = |done| if let Done::Close(link, abort) = done { Some((link, abort)) } else { None };
        world.done().into_iter().filter_map(close).collect::<Vec<_>>()
    };
    // Who is heard keeps the other.
    world.input(timed_out(first));
    assert!(closed(&mut world).is_empty());
    let third = peer_of_ours(&mut world);
    world.pass(ms(2_000));
    world.done();
    world.input(timed_out(third));
    assert_eq!(closed(&mut world), [(second, true)]);
}

#[test]
fn who_agreed_to_a_takeover_waits_for_its_own_silence_when_the_winner_dies() {
    // Also where it has broken the link to the target off itself, on which a table did not come.
    for breaks_off in [false, true] {
        let mut world = World::new();
        let target = peer_of_ours(&mut world);
        let third = server_id(0xcccc);
        let link = acquainted(&mut world, third, "10.0.0.201");
        let digest = breaks_off.then_some(1);
        for _ in 0..2 {
            show(&mut world, target, peer(), digest);
        }
        // It is heard until shortly before the page is overdue, but for its table.
        for _ in 0..45 {
            world.pass(ms(20));
            show(&mut world, target, peer(), None);
            show_life(&mut world, link, third);
        }
        let heard = world.now;
        let header = EnrpHeader { sender: Some(third), receiver: Some(me()) };
        send(&mut world, link, &EnrpMessage::InitTakeover { header, target: Some(peer()) });
        world.pass(ms(100));
        world.down(link);
        world.pass(config().max_time_no_response - ms(90));
        assert_eq!(world.registrar.counters().takeovers_yielded, 1);
        assert_eq!(world.done().contains(&Done::Close(target, true)), breaks_off);
        let begun = |world: &mut World| world.events().contains(&Event::TakeoverBegun { target: peer() });
        while !begun(&mut world) {
            assert!(world.now.since(heard) < ms(5_000), "never begun");
            world.pass(ms(10));
        }
        let config = config();
        let least = config.max_time_last_heard + config.max_time_no_response;
        assert!(world.now.since(heard) >= least, "after {:?}", world.now.since(heard));
    }
}

#[test]
fn who_asks_about_a_registrar_taken_over_is_left_to_the_winner_and_answered_when_that_one_does_not_say_so() {
    let mut world = World::new();
    peer_of_ours(&mut world);
    let (winner, asker) = (server_id(0xcccc), server_id(0x1111));
    let of_winner = acquainted(&mut world, winner, "10.0.0.201");
    let of_asker = acquainted(&mut world, asker, "10.0.0.202");
    let pass = |world: &mut World, time: Duration| {
        for _ in 0..10 {
            world.pass(time / 10);
            show_life(world, of_winner, winner);
            show_life(world, of_asker, asker);
        }
    };
    // The target is silent here as well.
    pass(&mut world, config().max_time_last_heard + ms(50));
    let from = |server| EnrpHeader { sender: Some(server), receiver: Some(me()) };
    let takeover = EnrpMessage::TakeoverServer { header: from(winner), target: Some(peer()) };
    send(&mut world, of_winner, &takeover);
    let question = EnrpMessage::InitTakeover { header: from(asker), target: Some(peer()) };
    let is_acknowledged = |world: &mut World| {
        send(world, of_asker, &question);
        said_to(world, of_asker).iter().any(|it| matches!(it, EnrpMessage::InitTakeoverAck { .. }))
    };
    for _ in 0..3 {
        assert!(!is_acknowledged(&mut world));
    }
    pass(&mut world, config().max_time_no_response * 5);
    assert!(is_acknowledged(&mut world));
}

#[test]
fn of_two_initiators_the_lower_acknowledges_and_the_higher_goes_on() {
    for (third, gives_way) in [(server_id(0xcccc), true), (server_id(0x1111), false)] {
        let (mut world, link, _) = contest(third);
        let header = EnrpHeader { sender: Some(third), receiver: Some(me()) };
        send(&mut world, link, &EnrpMessage::InitTakeover { header, target: Some(peer()) });
        let said = said_to(&mut world, link);
        let acknowledged = said
            .iter()
            .any(|it| matches!(it, EnrpMessage::InitTakeoverAck { target, .. } if *target == Some(peer())));
        let asked_again = said.iter().any(|it| matches!(it, EnrpMessage::InitTakeover { .. }));
        assert_eq!((acknowledged, asked_again), (gives_way, !gives_way), "{said:?}");
        assert_eq!(world.registrar.counters().takeovers_yielded, u64::from(gives_way));
        if gives_way {
            send(&mut world, link, &EnrpMessage::TakeoverServer { header, target: Some(peer()) });
            assert_eq!(world.element("pool", 1).home, Some(third));
            assert!(world.registrar.peers().all(|known| known.server != peer()));
        }
    }
}

#[test]
fn when_the_winner_dies_the_target_is_asked_once_more_before_it_is_taken_over() {
    let third = server_id(0xcccc);
    let (mut world, link, _) = contest(third);
    let header = EnrpHeader { sender: Some(third), receiver: Some(me()) };
    send(&mut world, link, &EnrpMessage::InitTakeover { header, target: Some(peer()) });
    assert_eq!(world.registrar.counters().takeovers_yielded, 1);
    world.down(link);
    let suspects = |world: &World| {
        world.registrar.peers().any(|it| it.server == peer() && it.state == PeerState::Suspected)
    };
    let started = world.now;
    while !suspects(&world) {
        assert!(world.now.since(started) < ms(5_000), "the target is not suspected");
        world.pass(ms(1));
    }
    let begun = world.registrar.counters().takeovers_begun;
    let back = peer_of_ours(&mut world);
    for _ in 0..20 {
        show_life(&mut world, back, peer());
        world.pass(ms(100));
    }
    assert_eq!(world.registrar.counters().takeovers_begun, begun);
    assert_eq!(world.element("pool", 1).home, Some(peer()));
}

#[test]
fn who_is_about_to_be_taken_over_tells_all_peers_at_once_that_it_lives() {
    let mut world = World::new();
    let links = [peer_of_ours(&mut world), acquainted(&mut world, server_id(0xcccc), "10.0.0.201")];
    world.done();
    send(&mut world, links[0], &EnrpMessage::InitTakeover { header: header(), target: Some(me()) });
    let mut told: Vec<LinkId> = world
        .done()
        .into_iter()
        .filter_map(|done| match done {
            Done::Enrp(link, EnrpMessage::Presence { .. }) => Some(link),
            _ => None,
        })
        .collect();
    told.sort();
    assert_eq!(told, links);
}

#[test]
fn who_has_slept_does_not_complete_a_takeover_begun_before() {
    let (mut world, _) = bereaved(1);
    let other = server_id(0xcccc);
    let link = world.incoming(Protocol::Enrp);
    world.up(link, LinkKind::Tcp, &["10.0.0.201"], None);
    let header = EnrpHeader { sender: Some(other), receiver: None };
    let presence = EnrpMessage::Presence {
        reply_required: false,
        header,
        checksum: None,
        introduction: None,
        server: None,
    };
    let started = world.now;
    while world.registrar.counters().takeovers_begun == 0 {
        assert!(world.now.since(started) < ms(3_000), "nothing was begun");
        send(&mut world, link, &presence);
        world.pass(ms(50));
    }
    world.now = world.now + ms(5_000);
    send(&mut world, link, &EnrpMessage::InitTakeoverAck { header, target: Some(peer()) });
    assert_eq!(world.registrar.counters().takeovers_completed, 0);
    world.pass(ms(3_000));
    assert!(world.registrar.counters().takeovers_begun > 1, "it is begun anew");
}
