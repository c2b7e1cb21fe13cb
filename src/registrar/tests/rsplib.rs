//! Endpoints and registrars that speak as RSPLIB does: what they send is its bytes.

use super::*;
use crate::handlespace::View;
use crate::policy::PolicyType;
use crate::types::PeChecksum;
use crate::wire::{EnrpHeader, Introduction, ServerInformation, UpdateAction, Versioned};

/// Bytes in hexadecimal.
fn hex(text: &str) -> Vec<u8> {
    let digits: Vec<u8> = text.bytes().filter(|byte| !byte.is_ascii_whitespace()).collect();
    let byte = |pair: &[u8]| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap();
    digits.chunks(2).map(byte).collect()
}

/// A PE of PingPongPool at 10.1.1.1 with a life of 21 s.
const REGISTRATION: &str = "0100003c 00090010 50696e67506f6e67506f6f6c 000a0028 abcd0001 00000000 00005208
    00040010 90150001 00010008 0a010101 00080008 00000001";
/// A user asks for one element of it.
const RESOLUTION: &str = "0500001c 00090010 50696e67506f6e67506f6f6c 803f0008 00000001";
const POOL: &str = "PingPongPool";

const PEER: u32 = 0xbbb;

fn rsplib() -> ServerId {
    server_id(PEER)
}

/// A presence of registrar 0xbbb at 10.1.1.2, with the checksum over nothing.
const PRESENCE: &str = "0100002c 00000bbb 00000000 000f0006 ffff0000 000b0018 00000bbb 00040010 26ad0000
    00010008 0a010102";
/// The same that wants a reply, to this one.
const PRESENCE_R: &str = "0101002c 00000bbb 0000aaaa 000f0006 ffff0000 000b0018 00000bbb 00040010 26ad0000
    00010008 0a010102";
/// An element of its own, with a life of 90 s.
const ADD: &str =
    "04000054 00000bbb 0000aaaa 0000 0000 0009000c 4563686f506f6f6c 000a0038 0e000001 00000bbb 00015f90
    00040010 cf400001 00010008 0a010104 00080008 00000001 00040010 88dd0000 00010008 0a010104";
const ENRP: u16 = 0x26ad;

fn up_at(world: &mut World, protocol: Protocol, peer: (&str, u16)) -> LinkId {
    let link = world.incoming(protocol);
    let local = [SocketAddr::new(ip("10.1.1.9"), ENRP)];
    let peer = [SocketAddr::new(ip(peer.0), peer.1)];
    world.input(Input::LinkUp {
        link,
        kind: LinkKind::Sctp,
        protocol,
        local: &local,
        peer: &peer,
        identity: None,
    });
    link
}

fn element_of_rsplib(world: &mut World) -> LinkId {
    up_at(world, Protocol::Asap, ("10.1.1.1", 40_001))
}

/// A link from a registrar of RSPLIB, which has not said anything.
fn stranger(world: &mut World) -> LinkId {
    let link = up_at(world, Protocol::Enrp, ("10.1.1.2", ENRP));
    world.done();
    link
}

fn acquainted(world: &mut World) -> LinkId {
    let link = stranger(world);
    receive(world, link, PRESENCE);
    world.done();
    link
}

fn receive(world: &mut World, link: LinkId, text: &str) {
    let bytes = hex(text);
    world.input(Input::Message { link, channel: Channel::Enrp, bytes: &bytes, complete: true });
}

/// What was sent on a link, as bytes.
fn sent(world: &mut World, act: impl FnOnce(&mut World) -> Vec<Effect>) -> Vec<Vec<u8>> {
    let bytes = |effect| match effect {
        Effect::Send { bytes, .. } => Some(bytes),
        Effect::Connect { .. } | Effect::Close { .. } | Effect::Announce { .. } | Effect::Datagram { .. } => {
            None
        }
    };
    act(world).into_iter().filter_map(bytes).collect()
}

/// The effects of a message, not decoded.
fn effects(world: &mut World, link: LinkId, channel: Channel, bytes: &[u8]) -> Vec<Effect> {
    world.registrar.handle(world.now, Input::Message { link, channel, bytes, complete: true });
    std::iter::from_fn(|| world.registrar.poll_effect()).collect()
}

fn dialect(world: &World) -> Dialect {
    world.registrar.peers().find(|peer| peer.server == rsplib()).expect("a peer").dialect
}

fn presences(world: &mut World) -> Vec<EnrpMessage> {
    let presence = |done| match done {
        Done::Enrp(_, message @ EnrpMessage::Presence { .. }) => Some(message),
        _ => None,
    };
    world.done().into_iter().filter_map(presence).collect()
}

/// The action, the pool and the element of each update sent on a link, read as RSPLIB does.
fn updates(world: &mut World) -> Vec<(UpdateAction, String, PeId)> {
    let update = |done| match done {
        Done::Enrp(_, EnrpMessage::HandleUpdate { action, handle, element, .. }) => {
            Some((action, handle.to_string(), element.element.id))
        }
        _ => None,
    };
    world.done().into_iter().filter_map(update).collect()
}

/// An element as ours register over SCTP.
fn over_sctp(id: u32, life: u32) -> PoolElement {
    PoolElement {
        life: RegistrationLife::Seconds(life),
        user_transport: sctp(&["10.1.1.5"], 7, TransportUse::DataOnly),
        ..ours(element(id, "10.1.1.5"))
    }
}

fn our_element(world: &mut World) -> LinkId {
    up_at(world, Protocol::Asap, ("10.1.1.5", 40_005))
}

#[test]
fn a_life_of_unknown_unit_is_long_and_becomes_right_when_its_element_shows_itself() {
    let mut world = World::new();
    let link = element_of_rsplib(&mut world);
    world.send_bytes(link, &hex(REGISTRATION));
    assert_eq!(world.element(POOL, 0xabcd_0001).life, RegistrationLife::Unitless(21_000));
    let expires = |world: &World| {
        world.registrar.handlespace().entry(&handle(POOL), PeId(0xabcd_0001)).unwrap().expires.unwrap()
    };
    assert_eq!(expires(&world).since(world.now), Duration::from_secs(21_000));
    world.send_bytes(link, &hex(RESOLUTION));
    assert_eq!(world.element(POOL, 0xabcd_0001).life, RegistrationLife::Milliseconds(21_000));
    assert_eq!(expires(&world).since(world.now), Duration::from_secs(21));
    // What registers on that link from now on is read right at once.
    world.send_bytes(link, &hex(&REGISTRATION.replace("abcd0001", "abcd0002")));
    assert_eq!(world.element(POOL, 0xabcd_0002).life, RegistrationLife::Milliseconds(21_000));
}

#[test]
fn an_endpoint_that_shows_our_parameter_or_speaks_tcp_speaks_as_the_rfcs_say() {
    let mut world = World::new();
    let link = our_element(&mut world);
    assert_eq!(world.register(link, "pool", &over_sctp(1, 300)), Ok(()));
    assert_eq!(world.element("pool", 1).life, RegistrationLife::Seconds(300));
    let tcp = world.client("10.1.1.1");
    world.send_bytes(tcp, &hex(RESOLUTION));
    world.send_bytes(tcp, &hex(&REGISTRATION.replace("0004 0010", "00050010")));
    assert_eq!(world.element(POOL, 0xabcd_0001).life, RegistrationLife::Seconds(21_000));
}

#[test]
fn the_setting_settles_it_but_for_ours() {
    for (setting, life) in [
        (crate::config::DialectSetting::Rfc, RegistrationLife::Seconds(21_000)),
        (crate::config::DialectSetting::Rsplib, RegistrationLife::Milliseconds(21_000)),
    ] {
        let config = RegistrarConfig { dialect: setting, ..config() };
        let mut world = World::with(config, Limits::default());
        let link = element_of_rsplib(&mut world);
        world.send_bytes(link, &hex(RESOLUTION));
        world.send_bytes(link, &hex(REGISTRATION));
        assert_eq!(world.element(POOL, 0xabcd_0001).life, life);
        let link = our_element(&mut world);
        assert_eq!(world.register(link, "pool", &over_sctp(1, 300)), Ok(()));
        assert_eq!(world.element("pool", 1).life, RegistrationLife::Seconds(300));
    }
}

#[test]
fn answers_a_user_in_its_own_bytes() {
    let mut world = World::new();
    let link = element_of_rsplib(&mut world);
    let answers = sent(&mut world, |world| effects(world, link, Channel::Asap, &hex(REGISTRATION)));
    assert_eq!(answers, [hex("0300001c 00090010 50696e67506f6e67506f6f6c 000e0008 abcd0001")]);
    let answers = sent(&mut world, |world| effects(world, link, Channel::Asap, &hex(RESOLUTION)));
    let expected =
        "06000044 00090010 50696e67506f6e67506f6f6c 00080008 00000001 000a0028 abcd0001 0000aaaa 00005208
        00040010 90150001 00010008 0a010101 00080008 00000001";
    assert_eq!(answers, [hex(expected)]);
    // Of an odd length, and unknown: the length counts the padding.
    let answers =
        sent(&mut world, |world| effects(world, link, Channel::Asap, &hex("0500000c 00090005 78000000")));
    assert_eq!(answers, [hex("06000014 00090005 78000000 000c0008 00090004")]);
}

#[test]
fn names_the_element_in_a_keep_alive_to_what_may_be_rsplibs() {
    // One that has not shown what it speaks; one that has shown itself RSPLIB's; one by the RFCs, whose length does not count the padding.
    let by_the_rfcs = "0500000d 00090009 506f6f6c58 000000";
    for (before, named) in [(None, true), (Some(RESOLUTION), true), (Some(by_the_rfcs), false)] {
        let mut world = World::new();
        let link = element_of_rsplib(&mut world);
        if let Some(before) = before {
            world.send_bytes(link, &hex(before));
        }
        world.send_bytes(link, &hex(REGISTRATION));
        world.done();
        world.pass(ms(500));
        let asked = world.keep_alives();
        let element = named.then_some(PeId(0xabcd_0001));
        assert_eq!(asked.first().map(|(_, asked)| asked.element), Some(element), "after {before:?}");
    }
}

#[test]
fn accepts_without_a_word_what_it_would_warn_others_of() {
    let mut world = World::new();
    let link = element_of_rsplib(&mut world);
    let two = "01000044 00090010 50696e67506f6e67506f6f6c 000a0030 abcd0001 00000000 00005208
        00040018 90150001 00010008 0a010101 00010008 0a020202 00080008 00000001";
    let answers = sent(&mut world, |world| effects(world, link, Channel::Asap, &hex(two)));
    assert_eq!(answers, [hex("0300001c 00090010 50696e67506f6e67506f6f6c 000e0008 abcd0001")]);
    assert_eq!(world.element(POOL, 0xabcd_0001).user_transport.addresses(), [ip("10.1.1.1")]);
}

#[test]
fn tells_no_user_of_rsplib_what_would_hurt_it() {
    let mut world = World::new();
    let pe = our_element(&mut world);
    let lottery = |id, weight| PoolElement {
        policy: Policy::new(PolicyType::WeightedRandom, &[weight]),
        ..over_sctp(id, 300)
    };
    for element in [lottery(1, 0), lottery(2, 1)] {
        assert_eq!(world.register(pe, "lottery", &element), Ok(()));
    }
    let opaque = TransportAddress::Opaque(vec![1]);
    let element = PoolElement { user_transport: opaque, ..over_sctp(3, 300) };
    assert_eq!(world.register(pe, "opaque", &element), Ok(()));
    let user = element_of_rsplib(&mut world);
    world.send_bytes(user, &hex(RESOLUTION));
    assert_eq!(world.resolve(user, "lottery"), Some(vec![2]));
    assert_eq!(world.resolve(user, "opaque"), None);
    let unknown = up_at(&mut world, Protocol::Asap, ("10.1.1.7", 1));
    assert_eq!(world.resolve(unknown, "lottery"), Some(vec![2]), "it may be one");
    assert_eq!(world.resolve(unknown, "opaque"), Some(vec![3]), "and may not");
    let rfc = world.client("10.1.1.6");
    assert_eq!(world.resolve(rfc, "opaque"), Some(vec![3]));
}

#[test]
fn introduces_itself_so_that_rsplib_hears_it() {
    let mut world = World::of(Registrar::new(
        config(),
        Limits::default(),
        7,
        Setup {
            enrp: vec![sctp(&["10.1.1.9", "127.0.0.1", "10.7.7.7"], ENRP, TransportUse::DataOnly)],
            ..setup()
        },
    ));
    let link = up_at(&mut world, Protocol::Enrp, ("10.1.1.2", ENRP));
    let [EnrpMessage::Presence { checksum, introduction, server, .. }] = &presences(&mut world)[..] else {
        panic!("one presence expected");
    };
    let of_link = sctp(&["10.1.1.9"], ENRP, TransportUse::DataOnly);
    assert_eq!((*checksum, introduction.is_some()), (Some(PeChecksum(0xffff)), true));
    assert_eq!(server.as_ref().map(|it| (it.server, &it.transport)), Some((Some(me()), &of_link)));
    // Skippable, of a length that is a multiple of four, before the last parameter.
    let bytes = sent(&mut world, |world| effects(world, link, Channel::Enrp, &hex(PRESENCE_R))).remove(0);
    let (parameter, behind) = (hex("a5a90020"), hex("000b0018 0000aaaa 00040010 26ad0000 00010008 0a010109"));
    assert_eq!(bytes[20..24], parameter);
    assert!(bytes.ends_with(&behind), "{bytes:02x?}");
    assert_eq!(dialect(&world), Dialect::Rsplib);
}

#[test]
fn tells_rsplib_a_checksum_also_while_starting_and_ours_take_no_notice() {
    let starting = || Setup { announce: true, ..setup() };
    let mut world = World::of(Registrar::new(config(), Limits::default(), 7, starting()));
    assert_eq!(world.registrar.standing(), Standing::Starting);
    up_at(&mut world, Protocol::Enrp, ("10.1.1.2", ENRP));
    let [EnrpMessage::Presence { checksum: Some(_), introduction: Some(told), .. }] =
        &presences(&mut world)[..]
    else {
        panic!("one presence expected");
    };
    assert_eq!(told.digest, None);

    let mut world = World::new();
    let link = up_at(&mut world, Protocol::Enrp, ("10.1.1.3", ENRP));
    let element = Versioned { element: over_sctp(1, 300), version: Some(1) };
    let header = EnrpHeader { sender: Some(server_id(0xccc)), receiver: None };
    let add = EnrpMessage::HandleUpdate {
        takeover_suggested: false,
        header,
        action: UpdateAction::AddPe,
        handle: handle("pool"),
        element,
    };
    let presence = EnrpMessage::Presence {
        reply_required: false,
        header,
        checksum: Some(PeChecksum(0xffff)),
        introduction: Some(Introduction::default()),
        server: None,
    };
    for message in [presence.clone(), add, presence] {
        let bytes = message.encode(Dialect::Rfc).unwrap();
        world.input(Input::Message { link, channel: Channel::Enrp, bytes: &bytes, complete: true });
    }
    assert_eq!((world.has("pool", 1), world.registrar.counters().audits), (true, 0));
}

#[test]
fn a_registrar_is_known_by_its_presence() {
    let connected_from = |port: u16, text: &str| {
        let mut world = World::new();
        let link = up_at(&mut world, Protocol::Enrp, ("10.1.1.2", port));
        receive(&mut world, link, text);
        dialect(&world)
    };
    assert_eq!(connected_from(ENRP, PRESENCE), Dialect::Rsplib);
    assert_eq!(connected_from(50_000, PRESENCE), Dialect::Rfc, "from another port than it listens at");
    assert_eq!(connected_from(ENRP, "0100000c 00000bbb 00000000"), Dialect::Rfc, "with nothing in it");
    assert_eq!(connected_from(ENRP, "0500000c 00000bbb 0000aaaa"), Dialect::Unknown);
    let error = "0a000014 00000bbb 0000aaaa 000c0008 00100004";
    assert_eq!(connected_from(ENRP, error), Dialect::Rsplib, "a cause of its own");
}

#[test]
fn an_error_with_the_identifiers_of_what_it_is_about_is_no_namesake() {
    let mut world = World::new();
    let link = stranger(&mut world);
    receive(&mut world, link, "0a000014 0000aaaa 00000000 000c0008 00100004");
    assert_eq!((world.registrar.id(), world.registrar.counters().errors_received), (me(), 1));
    assert_eq!(world.registrar.peers().count(), 0);
}

#[test]
fn what_rsplib_sends_is_accepted_whoever_it_is_for() {
    let mut world = World::new();
    let link = acquainted(&mut world);
    receive(&mut world, link, &ADD.replace("0000aaaa", "00000ccc"));
    assert_eq!(world.element("EchoPool", 0x0e00_0001).life, RegistrationLife::Milliseconds(90_000));
    assert_eq!(world.element("EchoPool", 0x0e00_0001).home, Some(rsplib()));
}

#[test]
fn a_life_heard_from_a_stranger_is_right_as_soon_as_it_shows_itself() {
    let mut world = World::new();
    let link = stranger(&mut world);
    receive(&mut world, link, ADD);
    assert_eq!(world.element("EchoPool", 0x0e00_0001).life, RegistrationLife::Unitless(90_000));
    receive(&mut world, link, PRESENCE);
    assert_eq!(world.element("EchoPool", 0x0e00_0001).life, RegistrationLife::Milliseconds(90_000));
}

#[test]
fn tells_rsplib_lives_in_milliseconds_and_those_of_unknown_unit_as_they_came() {
    let mut world = World::new();
    let link = acquainted(&mut world);
    let (pe, theirs) = (our_element(&mut world), element_of_rsplib(&mut world));
    let lives = |effects: Vec<Effect>| -> Vec<RegistrationLife> {
        let life = |effect| match effect {
            Effect::Send { link: to, bytes, .. } if to == link => {
                match EnrpMessage::decode(&bytes, Dialect::Rsplib).unwrap().message {
                    EnrpMessage::HandleUpdate { element, .. } => Some(element.element.life),
                    _ => None,
                }
            }
            _ => None,
        };
        effects.into_iter().filter_map(life).collect()
    };
    let bytes = registration("pool", &over_sctp(1, 300)).encode(Dialect::Rfc).unwrap();
    let told = lives(effects(&mut world, pe, Channel::Asap, &bytes));
    assert_eq!(told, [RegistrationLife::Milliseconds(300_000)]);
    let told = lives(effects(&mut world, theirs, Channel::Asap, &hex(REGISTRATION)));
    assert_eq!(told, [RegistrationLife::Milliseconds(21_000)]);
}

#[test]
fn tells_rsplib_of_an_element_where_its_association_is() {
    let mut world = World::new();
    let link = acquainted(&mut world);
    let pe = element_of_rsplib(&mut world);
    let told = effects(&mut world, pe, Channel::Asap, &hex(REGISTRATION));
    let told: Vec<Vec<u8>> = told
        .into_iter()
        .filter_map(|effect| match effect {
            Effect::Send { link: to, bytes, .. } if to == link => Some(bytes),
            _ => None,
        })
        .collect();
    // The ASAP transport is the association's: port 40001 is 9c41.
    let expected =
        "04000058 0000aaaa 00000000 0000 0000 00090010 50696e67506f6e67506f6f6c 000a0038 abcd0001 0000aaaa
        00005208 00040010 90150001 00010008 0a010101 00080008 00000001 00040010 9c410000 00010008 0a010101";
    assert_eq!(told, [hex(expected)]);
}

#[test]
fn leaves_out_of_updates_tables_and_checksum_what_rsplib_cannot_hold() {
    let mut world = World::new();
    let link = acquainted(&mut world);
    let pe = our_element(&mut world);
    let long = "a pool with a handle of 33 bytes.";
    assert_eq!(long.len(), 33);
    assert_eq!(world.register(pe, "seen", &over_sctp(1, 300)), Ok(()));
    assert_eq!(world.register(pe, long, &over_sctp(2, 300)), Ok(()));
    let weightless =
        PoolElement { policy: Policy::new(PolicyType::WeightedRandom, &[0]), ..over_sctp(3, 300) };
    assert_eq!(world.register(pe, "lottery", &weightless), Ok(()));
    let lite = TransportAddress::UdpLite { port: 7, address: ip("10.1.1.5") };
    assert_eq!(
        world.register(pe, "lite", &PoolElement { user_transport: lite, ..over_sctp(4, 300) }),
        Ok(())
    );
    // Over TCP it has no ASAP transport that RSPLIB could use.
    let tcp_pe = world.client("10.1.1.5");
    assert_eq!(world.register(tcp_pe, "over TCP", &ours(element(5, "10.1.1.5"))), Ok(()));
    world.done();
    assert!(world.deregister(pe, long, 2));
    assert_eq!(updates(&mut world), []);
    assert!(world.deregister(pe, "seen", 1));
    world.register(pe, "seen", &over_sctp(1, 300)).unwrap();
    world.register(pe, long, &over_sctp(2, 300)).unwrap();
    world.done();

    let only_seen = world.registrar.handlespace().checksum(me(), View::Rsplib);
    assert_ne!(only_seen, world.registrar.handlespace().checksum(me(), View::Full));
    receive(&mut world, link, PRESENCE_R);
    let told = presences(&mut world);
    assert!(
        matches!(told[..], [EnrpMessage::Presence { checksum: Some(told), .. }] if told == only_seen),
        "{told:?}"
    );
    for request in ["0200000c 00000bbb 0000aaaa", "0201000c 00000bbb 0000aaaa"] {
        receive(&mut world, link, request);
        let pools: Vec<PoolHandle> = world
            .done()
            .into_iter()
            .flat_map(|done| match done {
                Done::Enrp(_, EnrpMessage::HandleTableResponse { pools, more: false, reject: false, .. }) => {
                    pools
                }
                other => panic!("{other:?}"),
            })
            .map(|(handle, _)| handle)
            .collect();
        assert_eq!(pools, [handle("seen")]);
    }
}

#[test]
fn pages_of_a_table_for_rsplib_have_1400_bytes_at_most() {
    let mut world = World::new();
    let link = acquainted(&mut world);
    let pe = our_element(&mut world);
    for id in 0..60 {
        let pool = format!("Pool-{:03}", id % 5);
        assert_eq!(world.register(pe, &pool, &over_sctp(0x1000 + id, 300)), Ok(()));
    }
    // The checksum of rsplib.md for these.
    assert_eq!(world.registrar.handlespace().checksum(me(), View::Rsplib), PeChecksum(0x5e83));
    let (mut sizes, mut elements, mut more) = (Vec::new(), 0, true);
    while more {
        let page =
            sent(&mut world, |world| effects(world, link, Channel::Enrp, &hex("0201000c 00000bbb 0000aaaa")))
                .remove(0);
        sizes.push(page.len());
        let EnrpMessage::HandleTableResponse { more: flag, pools, .. } =
            EnrpMessage::decode(&page, Dialect::Rsplib).unwrap().message
        else {
            panic!("not a table");
        };
        more = flag;
        elements += pools.iter().map(|(_, elements)| elements.len()).sum::<usize>();
    }
    assert_eq!(elements, 60);
    assert!(sizes.len() > 2 && sizes.iter().all(|size| *size <= 1400), "{sizes:?}");
}

#[test]
fn tells_updates_to_no_registrar_that_has_shown_no_dialect() {
    let mut world = World::new();
    let link = stranger(&mut world);
    receive(&mut world, link, "0500000c 00000bbb 0000aaaa");
    let pe = our_element(&mut world);
    assert_eq!(world.register(pe, "pool", &over_sctp(1, 300)), Ok(()));
    assert_eq!(updates(&mut world), []);
    receive(&mut world, link, PRESENCE);
    assert_eq!(world.register(pe, "pool", &over_sctp(2, 300)), Ok(()));
    world.done();
    assert_eq!(world.register(pe, "pool", &over_sctp(2, 300)), Ok(()));
    // Also when nothing has changed, as RFC 5353 has it.
    assert_eq!(world.registrar.counters().updates_told, 2);
}

#[test]
fn peers_without_identifier_or_with_addresses_of_their_link_only_are_not_looked_for() {
    let mut world =
        World::of(Registrar::new(config(), Limits::default(), 7, Setup { announce: true, ..setup() }));
    let link = stranger(&mut world);
    receive(&mut world, link, PRESENCE);
    world.done();
    let list = "06000058 00000bbb 0000aaaa
        000b0018 00000000 00040010 26ad0000 00010008 0a010163
        000b0034 00000ccc 0004002c 26ad0000 00020014 fe800000000000000000000000000001 00010008 7f000001 00010008 0a010103";
    receive(&mut world, link, list);
    world.pass(ms(1));
    let (_, to) = world.connecting().expect("a connection to the one that can be reached");
    assert_eq!((to.addresses.as_slice(), to.port), (&[ip("10.1.1.3")][..], ENRP));
    assert_eq!(world.connecting(), None);
    let named: Vec<ServerId> = world.registrar.peers().map(|peer| peer.server).collect();
    assert_eq!(named, [rsplib(), server_id(0xccc)]);
}

#[test]
fn lists_for_rsplib_only_registrars_it_can_reach() {
    let mut world = World::new();
    let link = acquainted(&mut world);
    for (server, transport) in [
        (server_id(0xccc), sctp(&["10.1.1.3", "127.0.0.1"], ENRP, TransportUse::DataOnly)),
        (server_id(0xddd), tcp("10.1.1.4", ENRP)),
    ] {
        let other = up_at(&mut world, Protocol::Enrp, ("10.1.1.3", ENRP));
        let presence = EnrpMessage::Presence {
            reply_required: false,
            header: EnrpHeader { sender: Some(server), receiver: None },
            checksum: None,
            introduction: Some(Introduction::default()),
            server: Some(ServerInformation { server: Some(server), transport }),
        };
        let bytes = presence.encode(Dialect::Rfc).unwrap();
        world.input(Input::Message { link: other, channel: Channel::Enrp, bytes: &bytes, complete: true });
    }
    let answers =
        sent(&mut world, |world| effects(world, link, Channel::Enrp, &hex("0500000c 00000bbb 0000aaaa")));
    let expected = "06000024 0000aaaa 00000bbb 000b0018 00000ccc 00040010 26ad0000 00010008 0a010103";
    assert_eq!(answers, [hex(expected)]);
}

#[test]
fn hears_and_is_heard_often_enough_whatever_the_profile() {
    let mut world = World::with(RegistrarConfig::new(Profile::Rfc), Limits::default());
    acquainted(&mut world);
    world.pass(Duration::from_secs(9));
    assert!(presences(&mut world).len() >= 4);
}

#[test]
fn a_registrar_of_rsplib_is_not_suspected_between_its_presences() {
    let mut world = World::new();
    let link = stranger(&mut world);
    // Asked and asking, at first it says more than one in a moment; then one every 2.4 s.
    for pause in [0, 50, 200, 2_750, 2_750] {
        world.pass(ms(pause));
        receive(&mut world, link, PRESENCE);
    }
    world.pass(ms(2_750));
    assert_eq!(world.registrar.counters().suspicions, 0);
    world.pass(ms(5_000));
    assert_eq!(world.registrar.counters().suspicions, 1);
}

#[test]
fn an_element_registered_at_rsplib_changes_home_without_a_word() {
    let mut world = World::new();
    let link = acquainted(&mut world);
    let pe = up_at(&mut world, Protocol::Asap, ("10.1.1.4", 0x88dd));
    let registration = "01000038 0009000c 4563686f506f6f6c 000a0028 0e000001 00000000 00015f90
        00040010 cf400001 00010008 0a010104 00080008 00000001";
    world.send_bytes(pe, &hex(registration));
    assert_eq!(world.element("EchoPool", 0x0e00_0001).home, Some(me()));
    receive(&mut world, link, ADD);
    assert_eq!(world.element("EchoPool", 0x0e00_0001).home, Some(rsplib()));
    assert_eq!(world.registrar.counters().elements_lost, 1);
    world.done();
    world.pass(ms(2_000));
    assert_eq!(world.keep_alives(), [], "it is the other one's to ask");
}

#[test]
fn a_suggested_takeover_is_done_if_the_element_answers() {
    let suggestion = ADD.replace("04000054", "04010054");
    let take_over = |answers: bool| {
        let mut world = World::new();
        let link = acquainted(&mut world);
        receive(&mut world, link, &suggestion);
        world.pass(ms(1));
        let (probe, to) = world.connecting().expect("a connection to the element");
        assert_eq!((to.addresses.as_slice(), to.port), (&[ip("10.1.1.4")][..], 0x88dd));
        world.up(probe, LinkKind::Sctp, &["10.1.1.4"], None);
        let [(asked_on, asked)] = &world.keep_alives()[..] else { panic!("asked once") };
        assert_eq!((*asked_on, asked.home, asked.element), (probe, true, Some(PeId(0x0e00_0001))));
        if answers {
            world.acknowledge(probe, "EchoPool", 0x0e00_0001);
        } else {
            world.pass(ms(1_500));
        }
        (world, link)
    };
    let (mut world, link) = take_over(true);
    assert_eq!(world.element("EchoPool", 0x0e00_0001).home, Some(me()));
    assert_eq!(updates(&mut world), [(UpdateAction::AddPe, "EchoPool".to_string(), PeId(0x0e00_0001))]);
    // Its old home sees it go, and says so.
    receive(&mut world, link, &ADD.replace("0000 0000", "0001 0000"));
    assert!(world.has("EchoPool", 0x0e00_0001));

    let (mut world, _) = take_over(false);
    assert_eq!(world.element("EchoPool", 0x0e00_0001).home, Some(rsplib()), "it stays where it is");
    assert_eq!(updates(&mut world), []);
}

/// A registrar with one of RSPLIB and one of ours, 0xccc, and the link of the latter.
fn mixed() -> (World, LinkId, LinkId) {
    let mut world = World::new();
    let theirs = acquainted(&mut world);
    let ours = up_at(&mut world, Protocol::Enrp, ("10.1.1.3", ENRP));
    show(&mut world, ours, 0xccc, Capabilities::default());
    (world, theirs, ours)
}

fn show(world: &mut World, link: LinkId, server: u32, capabilities: Capabilities) {
    let presence = EnrpMessage::Presence {
        reply_required: false,
        header: EnrpHeader { sender: Some(server_id(server)), receiver: None },
        checksum: None,
        introduction: Some(Introduction { capabilities, heartbeat: ms(200), ..Introduction::default() }),
        server: None,
    };
    let bytes = presence.encode(Dialect::Rfc).unwrap();
    world.input(Input::Message { link, channel: Channel::Enrp, bytes: &bytes, complete: true });
}

#[test]
fn ours_are_told_who_hears_a_registrar_of_rsplib() {
    let mut world = World::new();
    let ours = up_at(&mut world, Protocol::Enrp, ("10.1.1.3", ENRP));
    show(&mut world, ours, 0xccc, Capabilities::default());
    world.done();
    acquainted_quietly(&mut world);
    let told: Vec<Capabilities> = world
        .done()
        .into_iter()
        .filter_map(|done| match done {
            Done::Enrp(to, EnrpMessage::Presence { introduction, .. }) if to == ours => introduction,
            _ => None,
        })
        .map(|told| told.capabilities)
        .collect();
    assert_eq!(told.last(), Some(&Capabilities::HEARS_RSPLIB), "at once, and not at the next heartbeat");
}

fn acquainted_quietly(world: &mut World) {
    let link = up_at(world, Protocol::Enrp, ("10.1.1.2", ENRP));
    receive(world, link, PRESENCE);
}

#[test]
fn the_lower_identifier_goes_on_while_anybody_hears_a_registrar_of_rsplib() {
    let (mut world, theirs, ours) = mixed();
    assert_eq!(world.registrar.order(), contests::Order::LowerWins);
    // What another hears counts, too, for as long as it does.
    world.down(theirs);
    show(&mut world, ours, 0xccc, Capabilities::HEARS_RSPLIB);
    let second = Duration::from_secs(1);
    for _ in 0..120 {
        show(&mut world, ours, 0xccc, Capabilities::HEARS_RSPLIB);
        world.pass(second / 5);
    }
    assert!(!world.registrar.hears_rsplib());
    assert_eq!(world.registrar.order(), contests::Order::LowerWins);
    show(&mut world, ours, 0xccc, Capabilities::default());
    assert_eq!(world.registrar.order(), contests::Order::HigherWins);
}

/// The same, and 0xccc owned an element and has died.
fn mixed_and_bereaved() -> (World, LinkId) {
    let (mut world, theirs, ours) = mixed();
    let element = PoolElement { home: Some(server_id(0xccc)), ..over_sctp(1, 300) };
    let asap = sctp(&["10.1.1.5"], 40_005, TransportUse::DataOnly);
    let element = PoolElement { asap_transport: Some(asap), ..element };
    let add = EnrpMessage::HandleUpdate {
        takeover_suggested: false,
        header: EnrpHeader { sender: Some(server_id(0xccc)), receiver: None },
        action: UpdateAction::AddPe,
        handle: handle("pool"),
        element: Versioned { element, version: Some(1) },
    };
    let bytes = add.encode(Dialect::Rfc).unwrap();
    world.input(Input::Message { link: ours, channel: Channel::Enrp, bytes: &bytes, complete: true });
    world.down(ours);
    world.done();
    (world, theirs)
}

/// Registrar 0xbbb wants to take 0xccc over.
const INIT: &str = "07000010 00000bbb 0000aaaa 00000ccc";

fn acknowledges(world: &mut World, link: LinkId) -> bool {
    world.done().iter().any(|done| {
        matches!(done, Done::Enrp(to, EnrpMessage::InitTakeoverAck { target, .. })
            if *to == link && *target == Some(server_id(0xccc)))
    })
}

/// It has done so: its checksum is over the element now, `pool`/00000001, and its table has it.
fn show_takeover(world: &mut World, theirs: LinkId) {
    world.done();
    receive(world, theirs, &PRESENCE.replace("ffff0000", "1f1f0000"));
    assert_eq!(world.registrar.counters().audits, 1);
    let table = "0300004c 00000bbb 0000aaaa 00090008 706f6f6c 000a0038 00000001 00000bbb 000493e0
        00040010 00070000 00010008 0a010105 00080008 00000001 00040010 9c450000 00010008 0a010105";
    receive(world, theirs, table);
    assert_eq!(world.element("pool", 1).home, Some(rsplib()));
}

fn knows(world: &World, server: u32) -> bool {
    world.registrar.peers().any(|peer| peer.server == server_id(server))
}

#[test]
fn gives_way_to_a_lower_identifier_of_rsplib_and_sees_by_its_table_that_it_is_done() {
    let (mut world, theirs) = mixed_and_bereaved();
    receive(&mut world, theirs, INIT);
    assert!(acknowledges(&mut world, theirs));
    // RSPLIB needs its time: this one does not begin itself meanwhile.
    for _ in 0..14 {
        world.pass(ms(500));
        receive(&mut world, theirs, PRESENCE);
    }
    assert_eq!(world.registrar.counters().takeovers_begun, 0);
    show_takeover(&mut world, theirs);
    world.pass(Duration::from_secs(1));
    assert_eq!(world.registrar.counters().takeovers_begun, 0);
    assert!(!knows(&world, 0xccc), "it is off the list");
}

/// The other one sees the same, and tells nobody of a takeover that is not its own.
#[test]
fn what_was_left_to_another_of_ours_ends_when_rsplib_has_taken_over() {
    let (mut world, theirs) = mixed_and_bereaved();
    let ours = up_at(&mut world, Protocol::Enrp, ("10.1.1.4", ENRP));
    show(&mut world, ours, 0x111, Capabilities::HEARS_RSPLIB);
    receive(&mut world, theirs, INIT);
    assert!(acknowledges(&mut world, theirs));
    receive(&mut world, ours, "07000010 00000111 0000aaaa 00000ccc");
    assert!(acknowledges(&mut world, ours), "a lower identifier still");
    show_takeover(&mut world, theirs);
    for _ in 0..100 {
        show(&mut world, ours, 0x111, Capabilities::HEARS_RSPLIB);
        world.pass(ms(100));
    }
    assert_eq!(world.registrar.counters().takeovers_begun, 0);
    assert!(!knows(&world, 0xccc), "it is off the list");
}

#[test]
fn in_a_mixed_scope_one_that_owns_nothing_is_only_forgotten() {
    let (mut world, _, ours) = mixed();
    world.down(ours);
    world.pass(Duration::from_secs(1));
    assert_eq!(world.registrar.counters().accusations, 1);
    assert_eq!(world.registrar.counters().takeovers_begun, 0);
    assert!(!knows(&world, 0xccc));
}

#[test]
fn what_kills_rsplib_is_survived() {
    let mut world = World::new();
    let link = element_of_rsplib(&mut world);
    let long = format!(
        "01000054 00090025 {} 000000 000a0028 abcd0001 00000000 00005208
        00040010 90150001 00010008 0a010101 00080008 00000001",
        "61".repeat(33)
    );
    world.send_bytes(link, &hex(&long));
    assert!(world.has(&"a".repeat(33), 0xabcd_0001));
    world.send_bytes(link, &hex(&REGISTRATION.replace("00010008 0a010101", "80ff0008 0a010101")));
    let weightless =
        "01000044 00090013 57 65696768746c6573735f5f5f5f5f 00 000a002c 00000007 00000000 00005208
        00040010 90150001 00010008 0a010101 0008000c 00000004 00000000";
    world.send_bytes(link, &hex(weightless));
    assert_eq!(world.registrar.counters().registrations, 2);
    let peer = stranger(&mut world);
    receive(&mut world, peer, &PRESENCE.replace("000b0018 00000bbb", "000b0018 00000000"));
    assert_eq!(world.registrar.peers().count(), 1);
}
