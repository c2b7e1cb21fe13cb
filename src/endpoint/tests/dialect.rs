//! Registrars of RSPLIB's, and those that have not shown whose they are. What RSPLIB sends is as captured (rsplib.md 1.6), what it is
//! sent is compared to the last byte.

use super::*;
use crate::config::DialectSetting;

/// Bytes written as hexadecimal words.
fn hex(text: &str) -> Vec<u8> {
    let digits: Vec<u8> = text.bytes().filter(|c| !c.is_ascii_whitespace()).collect();
    let pair = |pair: &[u8]| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap();
    digits.chunks(2).map(pair).collect()
}

/// An endpoint that wants something of a registrar.
fn wanting(setting: DialectSetting, want: impl FnOnce(&mut Rig)) -> Rig {
    let config = EndpointConfig { dialect: setting, ..config() };
    let mut rig = Rig::with(config, Limits::default());
    let at = Destination { kind: LinkKind::Sctp, ..to(1) };
    rig.endpoint.set_registrars(rig.now, vec![at]);
    want(&mut rig);
    rig
}

/// The same, with a link over SCTP that has come up.
fn with_registrar(setting: DialectSetting, want: impl FnOnce(&mut Rig)) -> Rig {
    let mut rig = wanting(setting, want);
    rig.drain();
    up_over_sctp(&mut rig, link(0));
    rig
}

fn up_over_sctp(rig: &mut Rig, link: LinkId) {
    rig.input(Input::LinkUp {
        link,
        kind: LinkKind::Sctp,
        protocol: Protocol::Asap,
        local: &["10.1.1.4:36893".parse().unwrap()],
        peer: &["10.1.1.1:3863".parse().unwrap()],
        identity: None,
    });
}

fn sent_bytes(rig: &mut Rig) -> Vec<Vec<u8>> {
    let bytes = |effect| match effect {
        Effect::Send { bytes, .. } => Some(bytes),
        _ => None,
    };
    rig.effects().into_iter().filter_map(bytes).collect()
}

/// What RSPLIB's own element registers.
fn ping_pong() -> Offer {
    let addresses = crate::types::Addresses::from(IpAddr::from([10, 1, 1, 1]));
    let transport_use = TransportUse::DataPlusControl;
    Offer {
        life: RegistrationLife::Seconds(21),
        user_transport: TransportAddress::Sctp { port: 0x9015, transport_use, addresses },
        ..offer("PingPongPool", 0xabcd_0001)
    }
}

fn register(rig: &mut Rig, offer: Offer) -> RegistrationId {
    rig.endpoint.register(rig.now, offer, rig.now + Duration::from_secs(10))
}

const PLAIN_RESPONSE: &str = "0300001c 00090010 50696e67506f6e67506f6f6c 000e0008 abcd0001";
const KEEP_ALIVE: &str = "07000020 11111111 00090010 50696e67506f6e67506f6f6c 000e0008 abcd0001";
/// With our capability parameter before the identifier.
const OUR_RESPONSE: &str = "03000024 00090010 50696e67506f6e67506f6f6c a5a90008 00000000 000e0008 abcd0001";

/// A registration with a life of 21 s, as 0x5208 milliseconds or 0x15 seconds.
fn registration(life: &str) -> Vec<u8> {
    let words = "01000044 00090010 50696e67506f6e67506f6f6c a5a90008 00000001 000a0028 abcd0001 00000000";
    hex(&format!("{words} {life} 00040010 90150001 00010008 0a010101 00080008 00000001"))
}

#[test]
fn who_has_shown_neither_dialect_is_told_lives_in_milliseconds_and_nothing_at_the_end() {
    let mut rig = with_registrar(DialectSetting::Auto, |rig| {
        register(rig, ping_pong());
    });
    assert_eq!(sent_bytes(&mut rig), [registration("00005208")]);
}

#[test]
fn who_turns_out_to_be_ours_is_told_the_life_once_more_in_seconds() {
    let mut rig = with_registrar(DialectSetting::Auto, |rig| {
        register(rig, ping_pong());
    });
    rig.drain();
    rig.bytes(link(0), &hex(OUR_RESPONSE));
    assert!(matches!(rig.events()[..], [Event::Registered { .. }]), "success is told at once");
    assert_eq!(sent_bytes(&mut rig), [registration("00000015")]);
    rig.bytes(link(0), &hex(OUR_RESPONSE));
    assert!(sent_bytes(&mut rig).is_empty() && rig.events().is_empty());
}

#[test]
fn a_registration_under_way_when_the_registrar_shows_itself_is_repeated_after_its_answer() {
    let mut rig = with_registrar(DialectSetting::Auto, |rig| {
        register(rig, ping_pong());
        rig.resolve("pool", 0);
    });
    rig.drain();
    rig.bytes(link(0), &update("pool", &[1]).encode(Dialect::Rfc).unwrap());
    assert!(sent_bytes(&mut rig).is_empty());
    rig.bytes(link(0), &hex(PLAIN_RESPONSE));
    assert_eq!(sent_bytes(&mut rig), [registration("00000015")]);
}

#[test]
fn rsplib_is_never_told_twice() {
    let mut rig = with_registrar(DialectSetting::Auto, |rig| {
        register(rig, ping_pong());
    });
    rig.drain();
    rig.bytes(link(0), &hex(PLAIN_RESPONSE));
    assert!(matches!(rig.events()[..], [Event::Registered { .. }]));
    rig.bytes(link(0), &hex(KEEP_ALIVE));
    let ack = hex("0800001c 00090010 50696e67506f6e67506f6f6c 000e0008 abcd0001");
    assert_eq!(sent_bytes(&mut rig), [ack]);
    rig.pass(MS(10_500));
    assert_eq!(sent_bytes(&mut rig).len(), 1, "renewed after half its life");
    assert_eq!(rig.endpoint.home().unwrap().server, ServerId::new(0x1111_1111));
}

#[test]
fn the_setting_and_tcp_decide_at_once() {
    let mut rig = with_registrar(DialectSetting::Rfc, |rig| {
        register(rig, ping_pong());
    });
    assert_eq!(sent_bytes(&mut rig), [registration("00000015")]);
    let mut rig = Rig::knowing(&[1]);
    register(&mut rig, ping_pong());
    rig.drain();
    rig.up(link(0));
    assert_eq!(sent_bytes(&mut rig), [registration("00000015")]);
    let mut rig = with_registrar(DialectSetting::Rsplib, |rig| {
        register(rig, ping_pong());
    });
    assert_eq!(sent_bytes(&mut rig), [registration("00005208")]);
    rig.bytes(link(0), &hex(OUR_RESPONSE));
    assert_eq!(sent_bytes(&mut rig), [registration("00000015")], "who shows that it is ours is ours");
}

#[test]
fn who_may_be_rsplib_is_asked_for_a_number_of_elements_and_for_a_subscribed_pool_again_and_again() {
    let mut rig = with_registrar(DialectSetting::Auto, |rig| {
        rig.endpoint.subscribe(rig.now, &pool("EchoPool"));
    });
    let question = "05010020 0009000c 4563686f506f6f6c a5a90008 00000003 803f0008 00000080";
    assert_eq!(sent_bytes(&mut rig), [hex(question)]);
    for asked in 1..4 {
        rig.message(link(0), &answer("EchoPool", &[asked]));
        assert!(matches!(rig.events()[..], [.., Event::PoolChanged { .. }]));
        rig.pass(Duration::from_secs(5));
        assert_eq!(sent_bytes(&mut rig), [hex(question)]);
    }
}

const LONG: &str = "a pool handle of thirty-three let";

#[test]
fn a_long_handle_is_held_back_until_the_registrar_has_shown_that_it_is_not_rsplibs() {
    assert_eq!(LONG.len(), 33);
    let mut rig = with_registrar(DialectSetting::Auto, |rig| {
        rig.register(LONG, 5);
        rig.resolve(LONG, 0);
        rig.resolve(LONG, 0);
    });
    // It is asked who it is, once.
    assert_eq!(sent_bytes(&mut rig), [[0x4f, 0, 0, 4]]);
    rig.bytes(link(0), &hex("0e000010 000c000c 00020008 4f000004"));
    let kinds: Vec<u8> = sent_bytes(&mut rig).iter().map(|bytes| bytes[0]).collect();
    assert_eq!(kinds, [1, 5]);
    rig.pass(Duration::from_secs(3));
    assert!(!rig.events().iter().any(|event| matches!(event, Event::RegistrationFailed { .. })));
}

#[test]
fn rsplib_is_never_told_a_long_handle_and_the_caller_is_told_why() {
    let why = RequestFailure::NotForRsplib(Unspeakable::LongHandle);
    let mut rig = with_registrar(DialectSetting::Auto, |rig| {
        rig.register(LONG, 5);
        rig.resolve(LONG, 0);
    });
    assert_eq!(sent_bytes(&mut rig), [[0x4f, 0, 0, 4]]);
    rig.drain();
    rig.pass(Duration::from_secs(2));
    let events = rig.events();
    let [
        Event::RegistrationFailed { retrying: true, why: one, .. },
        Event::Resolved { outcome: Err(other), .. },
    ] = &events[..]
    else {
        panic!("{events:?}")
    };
    assert_eq!((one, other), (&why, &why));
    // What comes later is told at once, and nothing of it is said, whatever passes.
    rig.resolve(LONG, 0);
    rig.endpoint.subscribe(rig.now, &pool(LONG));
    rig.endpoint.report_unreachable(rig.now, &pool(LONG), PeId(1));
    assert!(matches!(&rig.events()[..], [Event::Resolved { outcome: Err(told), .. }] if *told == why));
    rig.pass(Duration::from_secs(60));
    assert!(sent_bytes(&mut rig).is_empty());
}

#[test]
fn an_element_that_one_registrar_cannot_have_is_registered_with_the_next() {
    let mut rig = wanting(DialectSetting::Auto, |rig| {
        let configured = [Destination { kind: LinkKind::Sctp, ..to(1) }, to(2)];
        rig.endpoint.set_registrars(rig.now, configured.to_vec());
        rig.register(LONG, 5);
    });
    rig.drain();
    up_over_sctp(&mut rig, link(0));
    rig.pass(Duration::from_secs(2));
    assert!(matches!(rig.events()[..], [.., Event::RegistrationFailed { retrying: true, .. }]));
    rig.down(link(0), LinkFailure::Reset);
    rig.drain();
    rig.up(link(2));
    assert_eq!(sent_bytes(&mut rig).iter().map(|bytes| bytes[0]).collect::<Vec<_>>(), [1]);
}

#[test]
fn rsplib_is_never_told_a_weight_or_a_transport_that_it_does_not_survive() {
    let weightless = Offer { policy: Policy::new(PolicyType::WeightedRandom, &[0]), ..offer("pool", 5) };
    let address = IpAddr::from([10, 1, 1, 4]);
    let lite = Offer { user_transport: TransportAddress::UdpLite { port: 7, address }, ..offer("pool", 6) };
    for (offer, why) in [(weightless, Unspeakable::NoWeight), (lite, Unspeakable::Transport)] {
        let mut rig = with_registrar(DialectSetting::Rsplib, |rig| {
            register(rig, offer);
        });
        assert!(sent_bytes(&mut rig).is_empty());
        let told = RequestFailure::NotForRsplib(why);
        assert!(
            matches!(&rig.events()[..], [.., Event::RegistrationFailed { why, .. }] if *why == told),
            "{told:?}"
        );
    }
}

#[test]
fn a_refusal_in_rsplibs_numbers_is_told_as_it_is() {
    let mut rig = with_registrar(DialectSetting::Auto, |rig| {
        register(rig, Offer { id: PeId(0xc8f5_7cec), ..offer("EchoPool", 1) });
    });
    rig.drain();
    rig.bytes(link(0), &hex("03010020 0009000c 4563686f506f6f6c 000e0008 c8f57cec 000c0008 f0080004"));
    let causes = vec![ErrorCause::bare(CauseCode::Other(0xf008))];
    let events = rig.events();
    assert!(
        matches!(&events[..], [Event::RegistrationFailed { why: RequestFailure::Rejected(told), retrying: false, .. }] if *told == causes),
        "{events:?}"
    );
}

#[test]
fn an_error_message_is_the_reason_given_when_nothing_else_comes() {
    let mut rig = with_registrar(DialectSetting::Auto, |rig| {
        register(rig, offer("EchoPool", 1));
    });
    rig.drain();
    for _ in 0..2 {
        rig.bytes(link(0), &hex("0e00000c 000c0008 00110004"));
        rig.pass(MS(1_000));
    }
    let causes = vec![ErrorCause::bare(CauseCode::Other(0x11))];
    let told = rig.events();
    assert!(
        matches!(&told[..], [.., Event::RegistrationFailed { why: RequestFailure::Rejected(given), retrying: true, .. }] if *given == causes),
        "{told:?}"
    );
}

#[test]
fn a_takeover_by_rsplib_is_acknowledged_and_makes_it_the_home() {
    let mut rig = with_registrar(DialectSetting::Auto, |rig| {
        register(rig, Offer { id: PeId(0x0e00_0001), ..offer("EchoPool", 1) });
    });
    rig.bytes(link(0), &hex("03000018 0009000c 4563686f506f6f6c 000e0008 0e000001"));
    rig.drain();
    let taker = LinkId::incoming(0);
    rig.input(Input::Incoming { link: taker, protocol: Protocol::Asap });
    up_over_sctp(&mut rig, taker);
    rig.bytes(taker, &hex("0701001c 00000bbb 0009000c 4563686f506f6f6c 000e0008 0e000001"));
    assert_eq!(sent_bytes(&mut rig), [hex("08000018 0009000c 4563686f506f6f6c 000e0008 0e000001")]);
    assert_eq!(rig.endpoint.home().unwrap().server, ServerId::new(0xbbb));
}
