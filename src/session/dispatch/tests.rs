use super::*;
use crate::config::Profile;
use crate::machine::{LinkKind, Protocol};
use crate::policy::Policy;
use crate::types::{Capabilities, RegistrationLife, TransportAddress, TransportUse};
use crate::wire::{AsapMessage, Dialect};
use std::net::{IpAddr, Ipv4Addr};

const MS: Duration = Duration::from_millis(1);
const DATA: UserChannel = UserChannel { ppid: 7, stream: 1, unordered: false, expires: None };

fn pool() -> PoolHandle {
    PoolHandle::new(b"pool").unwrap()
}

fn tcp(id: u32) -> PoolElement {
    let address = IpAddr::V4(Ipv4Addr::new(10, 0, 0, u8::try_from(id).unwrap()));
    PoolElement {
        id: PeId(id),
        home: None,
        life: RegistrationLife::Seconds(60),
        user_transport: TransportAddress::Tcp { port: 1000, transport_use: TransportUse::DataOnly, address },
        policy: Policy::ROUND_ROBIN,
        asap_transport: None,
        capabilities: Some(Capabilities(3)),
    }
}

fn all_of(ids: &[u32]) -> Resolution {
    let elements = ids.iter().map(|id| tcp(*id)).collect();
    Resolution { handle: pool(), policy: Policy::ROUND_ROBIN, elements, at: Time::from_nanos(1_000_000_000) }
}

fn asap(message: &AsapMessage) -> Vec<u8> {
    let padding_counted = match message {
        AsapMessage::BusinessCard { .. } => None,
        _ => message.encode(Dialect::Rsplib).ok(),
    };
    padding_counted.unwrap_or_else(|| message.encode(Dialect::Rfc).unwrap())
}

struct Rig {
    now: Time,
    dispatch: Dispatch,
}

impl Rig {
    fn with(config: SessionConfig, limits: Limits, own: &[u32]) -> Rig {
        let own = own.iter().map(|id| (pool(), PeId(*id)));
        Rig { now: Time::from_nanos(1_000_000_000), dispatch: Dispatch::new(config, limits, 1, own) }
    }

    fn new() -> Rig {
        Rig::with(SessionConfig::new(Profile::Lan), Limits::default(), &[])
    }

    /// With the pool resolved to these elements, and links to all of them up.
    fn linked_to(ids: &[u32]) -> Rig {
        let mut rig = Rig::new();
        rig.send_to_pool(b"first", SendOptions::TO_ALL).unwrap();
        rig.resolved(ids);
        for link in 0..ids.len() as u64 {
            rig.up(LinkId::outgoing(link));
        }
        rig.effects();
        rig.events();
        rig
    }

    fn send_to_pool(&mut self, message: &[u8], options: SendOptions) -> Result<Option<PeId>, SendRefused> {
        self.dispatch.send(self.now, &pool(), None, message.to_vec(), DATA, options)
    }

    fn send_to_element(
        &mut self,
        id: u32,
        message: &[u8],
        options: SendOptions,
    ) -> Result<Option<PeId>, SendRefused> {
        self.dispatch.send(self.now, &pool(), Some(PeId(id)), message.to_vec(), DATA, options)
    }

    fn resolved(&mut self, ids: &[u32]) {
        let resolution = Resolution { at: self.now, ..all_of(ids) };
        self.dispatch.resolved(self.now, &pool(), Ok(resolution));
    }

    fn up(&mut self, link: LinkId) {
        let (kind, protocol) = (LinkKind::Tcp, Protocol::Session);
        let (local, peer, identity) = (&[][..], &[][..], None);
        self.dispatch.handle(self.now, Input::LinkUp { link, kind, protocol, local, peer, identity });
    }

    fn down(&mut self, link: LinkId, why: LinkFailure) {
        self.dispatch.handle(self.now, Input::LinkDown { link, why });
    }

    fn returned(&mut self, link: LinkId, message: &[u8]) {
        let message = message.to_vec();
        self.dispatch.handle(self.now, Input::SendFailed { link, channel: Channel::User(DATA), message });
    }

    fn control(&mut self, link: LinkId, message: &AsapMessage) {
        let (channel, complete) = (Channel::Asap, true);
        let bytes = &asap(message);
        self.dispatch.handle(self.now, Input::Message { link, channel, bytes, complete });
    }

    fn effects(&mut self) -> Vec<Effect> {
        std::iter::from_fn(|| self.dispatch.poll_effect()).collect()
    }

    fn events(&mut self) -> Vec<Event> {
        std::iter::from_fn(|| self.dispatch.poll_event()).collect()
    }

    /// Links opened, with the number of their element.
    fn opened(&mut self) -> Vec<(LinkId, u32)> {
        let opened = self.effects().into_iter().filter_map(|effect| match effect {
            Effect::Connect { link, to } => {
                let IpAddr::V4(address) = to.addresses.as_slice()[0] else { panic!("IPv4") };
                Some((link, address.octets()[3].into()))
            }
            _ => None,
        });
        opened.collect()
    }

    fn pass(&mut self, by: Duration) {
        self.now = self.now + by;
        self.dispatch.handle(self.now, Input::Timeout);
    }
}

const L0: LinkId = LinkId::outgoing(0);
const L1: LinkId = LinkId::outgoing(1);
const L2: LinkId = LinkId::outgoing(2);

fn resolve(max_age: Duration) -> Event {
    Event::Resolve { handle: pool(), max_age }
}

fn unreachable(id: u32) -> Event {
    Event::Unreachable { handle: pool(), element: PeId(id) }
}

fn failed(id: Option<u32>, message: &[u8]) -> Event {
    Event::SendFailed { handle: pool(), element: id.map(PeId), message: message.to_vec(), channel: DATA }
}

fn sent(link: LinkId, bytes: &[u8]) -> Effect {
    Effect::Send { link, channel: Channel::User(DATA), bytes: bytes.to_vec() }
}

fn said(link: LinkId, message: &AsapMessage) -> Effect {
    Effect::Send { link, channel: Channel::Asap, bytes: asap(message) }
}

#[test]
fn holds_messages_while_the_pool_is_resolved_and_asks_once() {
    let mut rig = Rig::new();
    assert_eq!(rig.send_to_pool(b"1", SendOptions::DEFAULT), Ok(None));
    assert_eq!(rig.send_to_pool(b"2", SendOptions::DEFAULT), Ok(None));
    assert_eq!((rig.events(), rig.effects()), (vec![resolve(5_000 * MS)], vec![]));
    rig.resolved(&[1]);
    assert_eq!(rig.opened(), [(L0, 1)]);
    rig.up(L0);
    assert_eq!(rig.effects(), [sent(L0, b"1"), sent(L0, b"2")]);
    assert_eq!(rig.send_to_pool(b"3", SendOptions::DEFAULT), Ok(Some(PeId(1))));
    assert_eq!((rig.effects(), rig.events()), (vec![sent(L0, b"3")], vec![]));
}

#[test]
fn each_message_goes_where_the_policy_says() {
    let mut rig = Rig::linked_to(&[1, 2, 3]);
    let to: Vec<_> =
        (0..6).map(|_| rig.send_to_pool(b"x", SendOptions::DEFAULT).unwrap().unwrap().0).collect();
    assert_eq!(to, [1, 2, 3, 1, 2, 3]);
}

#[test]
fn a_stale_list_is_used_and_brought_up_to_date_beside() {
    let mut rig = Rig::linked_to(&[1, 2]);
    rig.pass(5_001 * MS);
    assert_eq!(rig.send_to_pool(b"x", SendOptions::DEFAULT), Ok(Some(PeId(1))));
    assert_eq!(rig.send_to_pool(b"y", SendOptions::DEFAULT), Ok(Some(PeId(2))));
    assert_eq!(rig.events(), [resolve(5_000 * MS)]);
    rig.resolved(&[2]);
    assert_eq!(rig.send_to_pool(b"z", SendOptions::DEFAULT), Ok(Some(PeId(2))));
    assert_eq!(rig.events(), []);
}

#[test]
fn to_last_follows_the_previous_message() {
    let mut rig = Rig::linked_to(&[1, 2, 3]);
    rig.send_to_element(2, b"x", SendOptions::DEFAULT).unwrap();
    for _ in 0..3 {
        assert_eq!(rig.send_to_pool(b"x", SendOptions::TO_LAST), Ok(Some(PeId(2))));
    }
    rig.down(L1, LinkFailure::Reset);
    rig.resolved(&[1, 3]);
    assert_eq!(rig.send_to_pool(b"x", SendOptions::TO_LAST), Ok(Some(PeId(1))), "the last one is gone");
}

#[test]
fn to_all_spares_the_sender_unless_told_otherwise() {
    for (options, expected) in
        [(SendOptions::TO_ALL, vec![1, 3]), (SendOptions::TO_ALL | SendOptions::TO_SELF, vec![1, 2, 3])]
    {
        let mut rig = Rig::with(SessionConfig::new(Profile::Lan), Limits::default(), &[2]);
        rig.send_to_pool(b"all", options).unwrap();
        rig.resolved(&[1, 2, 3]);
        let opened = rig.opened();
        assert_eq!(opened.iter().map(|(_, id)| *id).collect::<Vec<_>>(), expected);
        for (link, _) in opened {
            rig.up(link);
            assert_eq!(rig.effects(), [sent(link, b"all")]);
        }
    }
}

#[test]
fn a_copy_to_all_that_fails_is_reported_and_goes_to_no_other() {
    let mut rig = Rig::new();
    rig.send_to_pool(b"all", SendOptions::TO_ALL | SendOptions::FAILOVER).unwrap();
    rig.resolved(&[1, 2]);
    rig.events();
    rig.effects();
    rig.down(L0, LinkFailure::Refused);
    rig.up(L1);
    assert_eq!(rig.events(), [unreachable(1), failed(Some(1), b"all")]);
    assert_eq!(rig.effects(), [sent(L1, b"all")]);
}

#[test]
fn with_failover_a_message_silently_goes_to_another_element() {
    let mut rig = Rig::new();
    rig.send_to_pool(b"x", SendOptions::FAILOVER).unwrap();
    rig.resolved(&[1, 2, 3]);
    rig.events();
    assert_eq!(rig.opened(), [(L0, 1)]);
    rig.down(L0, LinkFailure::Refused);
    assert_eq!(rig.opened(), [(L1, 2)]);
    rig.pass(500 * MS);
    let effects = rig.effects();
    assert_eq!(effects[0], Effect::Close { link: L1, abort: true });
    assert!(matches!(effects[1], Effect::Connect { link: L2, .. }));
    rig.up(L2);
    assert_eq!(rig.effects(), [sent(L2, b"x")]);
    assert_eq!(rig.events(), [unreachable(1), unreachable(2)]);
}

#[test]
fn when_all_have_failed_the_pool_is_resolved_once_more_before_the_report() {
    let mut rig = Rig::new();
    rig.send_to_pool(b"x", SendOptions::FAILOVER).unwrap();
    rig.resolved(&[1]);
    rig.events();
    rig.down(L0, LinkFailure::Refused);
    assert_eq!(rig.events(), [unreachable(1), resolve(Duration::ZERO)]);
    rig.effects();
    rig.resolved(&[1, 2]);
    assert_eq!(rig.opened(), [(L1, 2)]);
    rig.down(L1, LinkFailure::Refused);
    assert_eq!(rig.events(), [unreachable(2), failed(Some(2), b"x")]);
    assert_eq!(rig.effects(), []);
}

#[test]
fn without_failover_the_message_comes_back() {
    for options in [SendOptions::DEFAULT, SendOptions::NO_FAILOVER] {
        let mut rig = Rig::new();
        rig.send_to_pool(b"x", options).unwrap();
        rig.resolved(&[1, 2]);
        rig.events();
        rig.effects();
        rig.down(L0, LinkFailure::Refused);
        assert_eq!((rig.events(), rig.effects()), (vec![unreachable(1), failed(Some(1), b"x")], vec![]));
    }
}

#[test]
fn the_default_is_that_of_the_configuration() {
    let config = SessionConfig { automatic_failover: true, ..SessionConfig::new(Profile::Lan) };
    let mut rig = Rig::with(config, Limits::default(), &[]);
    rig.send_to_pool(b"default", SendOptions::DEFAULT).unwrap();
    rig.send_to_pool(b"bound", SendOptions::NO_FAILOVER | SendOptions::UNORDERED).unwrap();
    rig.resolved(&[1]);
    rig.up(L0);
    rig.events();
    rig.returned(L0, b"default");
    rig.returned(L0, b"bound");
    rig.resolved(&[1, 2]);
    rig.effects();
    rig.down(L0, LinkFailure::Reset);
    assert_eq!(rig.opened(), [(L1, 2)]);
    assert_eq!(rig.events(), [unreachable(1), failed(Some(1), b"bound")]);
    rig.up(L1);
    assert_eq!(rig.effects(), [sent(L1, b"default")]);
}

#[test]
fn messages_given_back_keep_their_options() {
    let mut rig = Rig::linked_to(&[1, 2]);
    rig.send_to_element(1, b"free", SendOptions::FAILOVER).unwrap();
    rig.send_to_element(1, b"bound", SendOptions::DEFAULT).unwrap();
    rig.effects();
    rig.returned(L0, b"free");
    rig.returned(L0, b"bound");
    rig.down(L0, LinkFailure::Reset);
    assert_eq!(rig.effects(), [sent(L1, b"free")]);
    assert_eq!(rig.events(), [unreachable(1), failed(Some(1), b"bound")]);
}

#[test]
fn a_message_given_back_by_a_link_that_lives_on_is_reported() {
    let mut rig = Rig::linked_to(&[1, 2]);
    rig.send_to_element(1, b"x", SendOptions::FAILOVER).unwrap();
    rig.returned(L0, b"x");
    rig.pass(500 * MS);
    assert_eq!(rig.events(), [failed(Some(1), b"x")]);
}

#[test]
fn to_an_element_handle_goes_to_that_element() {
    let mut rig = Rig::new();
    assert_eq!(rig.send_to_element(2, b"x", SendOptions::DEFAULT), Ok(None));
    assert_eq!(rig.events(), [resolve(5_000 * MS)]);
    rig.resolved(&[1, 2, 3]);
    assert_eq!(rig.opened(), [(L0, 2)]);
    assert_eq!(rig.send_to_element(2, b"y", SendOptions::DEFAULT), Ok(Some(PeId(2))));
    rig.up(L0);
    assert_eq!(rig.effects(), [sent(L0, b"x"), sent(L0, b"y")]);
}

#[test]
fn an_element_the_pool_does_not_have_is_unreachable() {
    let mut rig = Rig::linked_to(&[1, 2]);
    rig.send_to_element(9, b"bound", SendOptions::DEFAULT).unwrap();
    assert_eq!((rig.effects(), rig.events()), (vec![], vec![resolve(Duration::ZERO)]));
    rig.resolved(&[1, 2]);
    assert_eq!(rig.events(), [failed(Some(9), b"bound")]);
    assert_eq!(rig.send_to_element(9, b"free", SendOptions::FAILOVER), Ok(Some(PeId(1))));
    assert_eq!(rig.effects(), [sent(L0, b"free")]);
}

#[test]
fn an_element_that_left_the_pool_is_still_reached_over_its_link() {
    let mut rig = Rig::linked_to(&[1, 2]);
    rig.dispatch.pool_changed(&pool(), Some(&all_of(&[2])));
    assert_eq!(rig.send_to_element(1, b"x", SendOptions::DEFAULT), Ok(Some(PeId(1))));
    assert_eq!(rig.effects(), [sent(L0, b"x")]);
    assert_eq!(rig.send_to_pool(b"y", SendOptions::DEFAULT), Ok(Some(PeId(2))));
}

#[test]
fn a_failed_element_is_avoided_until_it_gets_another_chance() {
    let mut rig = Rig::linked_to(&[1, 2]);
    rig.down(L0, LinkFailure::Reset);
    assert_eq!(rig.events(), [unreachable(1)]);
    for _ in 0..4 {
        assert_eq!(rig.send_to_pool(b"x", SendOptions::DEFAULT), Ok(Some(PeId(2))));
    }
    rig.pass(5_000 * MS);
    let to: BTreeSet<_> =
        (0..4).map(|_| rig.send_to_pool(b"x", SendOptions::DEFAULT).unwrap().unwrap()).collect();
    assert_eq!(to.len(), 2);
}

#[test]
fn a_failed_element_that_is_reached_again_is_chosen_again() {
    let mut rig = Rig::linked_to(&[1, 2]);
    rig.down(L0, LinkFailure::Reset);
    rig.send_to_element(1, b"x", SendOptions::DEFAULT).unwrap();
    rig.up(L2);
    let to: Vec<_> =
        (0..4).map(|_| rig.send_to_pool(b"x", SendOptions::DEFAULT).unwrap().unwrap().0).collect();
    assert!(to.contains(&1) && to.contains(&2), "{to:?}");
    assert_eq!(rig.dispatch.poll_timeout(), None);
}

#[test]
fn messages_wait_behind_one_that_waits_for_a_new_resolution() {
    let mut rig = Rig::new();
    rig.send_to_pool(b"1", SendOptions::FAILOVER).unwrap();
    rig.resolved(&[1]);
    rig.down(L0, LinkFailure::Refused);
    assert_eq!(rig.send_to_pool(b"2", SendOptions::DEFAULT), Ok(None));
    rig.effects();
    rig.resolved(&[1, 2]);
    assert_eq!(rig.opened(), [(L1, 2)]);
    rig.up(L1);
    assert_eq!(rig.effects(), [sent(L1, b"1"), sent(L1, b"2")]);
}

#[test]
fn a_link_closed_in_order_is_no_failure() {
    let mut rig = Rig::linked_to(&[1]);
    rig.down(L0, LinkFailure::Closed);
    assert_eq!(rig.events(), []);
    rig.send_to_pool(b"x", SendOptions::DEFAULT).unwrap();
    assert_eq!(rig.opened(), [(L1, 1)]);
}

#[test]
fn the_failover_of_a_message_obeys_the_card_of_the_failed_element() {
    let mut rig = Rig::linked_to(&[1]);
    rig.control(L0, &AsapMessage::BusinessCard { handle: pool(), elements: vec![tcp(1), tcp(3)] });
    assert_eq!(rig.events(), [Event::Card { handle: pool(), elements: vec![tcp(1), tcp(3)] }]);
    rig.dispatch.pool_changed(&pool(), Some(&all_of(&[1, 2, 3])));
    rig.send_to_element(1, b"x", SendOptions::FAILOVER).unwrap();
    rig.returned(L0, b"x");
    rig.down(L0, LinkFailure::Reset);
    assert_eq!(rig.opened(), [(L1, 3)]);
}

#[test]
fn the_cookie_of_a_failed_element_is_the_first_thing_the_next_one_hears() {
    let mut rig = Rig::linked_to(&[1]);
    rig.resolved(&[1, 2]);
    rig.control(L0, &AsapMessage::Cookie(b"old".to_vec()));
    rig.control(L0, &AsapMessage::Cookie(b"new".to_vec()));
    rig.send_to_element(1, b"x", SendOptions::FAILOVER).unwrap();
    rig.returned(L0, b"x");
    rig.down(L0, LinkFailure::Reset);
    rig.effects();
    rig.up(L1);
    assert_eq!(rig.effects(), [said(L1, &AsapMessage::CookieEcho(b"new".to_vec())), sent(L1, b"x")]);
}

#[test]
fn a_sender_that_is_an_element_gives_its_card_on_each_link() {
    let mut rig = Rig::new();
    rig.dispatch.set_business_card(Some((pool(), vec![tcp(9)])));
    rig.send_to_pool(b"x", SendOptions::DEFAULT).unwrap();
    rig.resolved(&[1]);
    rig.effects();
    rig.up(L0);
    let card = AsapMessage::BusinessCard { handle: pool(), elements: vec![tcp(9)] };
    assert_eq!(rig.effects(), [said(L0, &card), sent(L0, b"x")]);
}

#[test]
fn what_comes_is_told_with_the_handle_of_its_element() {
    let mut rig = Rig::linked_to(&[1, 2]);
    let (channel, complete) = (Channel::User(DATA), true);
    rig.dispatch.handle(rig.now, Input::Message { link: L1, channel, bytes: b"hi", complete });
    let bytes = b"hi".to_vec();
    let received = Event::Received { handle: pool(), element: PeId(2), bytes, channel: DATA, complete };
    assert_eq!(rig.events(), [received]);
}

#[test]
fn the_link_not_used_for_longest_gives_way() {
    let limits = Limits { links: 2, ..Limits::default() };
    let mut rig = Rig::with(SessionConfig::new(Profile::Lan), limits, &[]);
    rig.send_to_element(1, b"x", SendOptions::DEFAULT).unwrap();
    rig.resolved(&[1, 2, 3]);
    rig.send_to_element(2, b"x", SendOptions::DEFAULT).unwrap();
    rig.effects();
    rig.send_to_element(3, b"x", SendOptions::DEFAULT).unwrap();
    assert_eq!(rig.events().last(), Some(&failed(Some(3), b"x")), "both are being opened");
    rig.up(L0);
    rig.up(L1);
    rig.send_to_element(1, b"y", SendOptions::DEFAULT).unwrap();
    rig.effects();
    rig.send_to_element(3, b"z", SendOptions::DEFAULT).unwrap();
    let effects = rig.effects();
    assert_eq!(effects[0], Effect::Close { link: L1, abort: false });
    assert!(matches!(effects[1], Effect::Connect { link: L2, .. }));
    rig.down(L1, LinkFailure::Reset);
    assert_eq!((rig.events(), rig.dispatch.counters().late_inputs), (vec![], 1));
}

#[test]
fn an_unknown_pool_gives_every_message_back() {
    let mut rig = Rig::new();
    rig.send_to_pool(b"1", SendOptions::FAILOVER).unwrap();
    rig.send_to_element(4, b"2", SendOptions::DEFAULT).unwrap();
    rig.events();
    rig.dispatch.resolved(rig.now, &pool(), Err(RequestFailure::UnknownPool));
    let unresolved = Event::Unresolved { handle: pool(), why: RequestFailure::UnknownPool };
    assert_eq!(rig.events(), [unresolved, failed(None, b"1"), failed(None, b"2")]);
    rig.send_to_pool(b"3", SendOptions::DEFAULT).unwrap();
    assert_eq!(rig.events(), [resolve(5_000 * MS)]);
}

#[test]
fn a_pool_of_the_past_does_when_no_registrar_answers() {
    let mut rig = Rig::linked_to(&[1]);
    rig.down(L0, LinkFailure::Reset);
    rig.send_to_pool(b"x", SendOptions::FAILOVER).unwrap();
    rig.down(L1, LinkFailure::Refused);
    rig.events();
    rig.dispatch.resolved(rig.now, &pool(), Err(RequestFailure::TimedOut));
    assert_eq!(rig.events(), [failed(Some(1), b"x")]);
    rig.effects();
    rig.send_to_pool(b"y", SendOptions::DEFAULT).unwrap();
    assert_eq!(rig.opened(), [(L2, 1)]);
}

#[test]
fn waiting_messages_are_bounded_and_room_is_told() {
    let limits = Limits { queued_bytes_per_link: 1_000, ..Limits::default() };
    let mut rig = Rig::with(SessionConfig::new(Profile::Lan), limits, &[]);
    rig.send_to_pool(&[0; 800], SendOptions::DEFAULT).unwrap();
    assert_eq!(rig.send_to_pool(&[0; 800], SendOptions::DEFAULT), Err(SendRefused::Full));
    rig.events();
    rig.resolved(&[1]);
    assert_eq!(rig.events(), [Event::Writable]);
    assert_eq!(rig.send_to_pool(&[0; 800], SendOptions::DEFAULT), Err(SendRefused::Full));
    rig.up(L0);
    assert_eq!(rig.events(), [Event::Writable]);
    rig.send_to_pool(&[0; 800], SendOptions::DEFAULT).unwrap();
}

#[test]
fn pools_are_bounded_and_the_longest_unused_is_forgotten() {
    let limits = Limits { cache_entries: 2, ..Limits::default() };
    let mut rig = Rig::with(SessionConfig::new(Profile::Lan), limits, &[]);
    let send = |rig: &mut Rig, name: &[u8]| {
        let handle = PoolHandle::new(name).unwrap();
        rig.dispatch.send(rig.now, &handle, None, b"x".to_vec(), DATA, SendOptions::DEFAULT)
    };
    assert_eq!((send(&mut rig, b"a"), send(&mut rig, b"b")), (Ok(None), Ok(None)));
    assert_eq!(send(&mut rig, b"c"), Err(SendRefused::Full));
    let a = PoolHandle::new(b"a").unwrap();
    rig.dispatch.resolved(rig.now, &a, Err(RequestFailure::UnknownPool));
    assert_eq!(send(&mut rig, b"c"), Ok(None));
}

#[test]
fn contradictory_options_are_refused() {
    let mut rig = Rig::linked_to(&[1]);
    let bad = [
        SendOptions::FAILOVER | SendOptions::NO_FAILOVER,
        SendOptions::TO_SELF,
        SendOptions::TO_ALL | SendOptions::TO_LAST,
    ];
    for options in bad {
        assert_eq!(rig.send_to_pool(b"x", options), Err(SendRefused::BadOptions));
    }
    for options in [SendOptions::TO_ALL, SendOptions::TO_LAST] {
        assert_eq!(rig.send_to_element(1, b"x", options), Err(SendRefused::BadOptions));
    }
    assert_eq!(rig.effects(), []);
}

#[test]
fn inputs_of_dead_links_are_ignored() {
    let mut rig = Rig::linked_to(&[1]);
    rig.down(L0, LinkFailure::Reset);
    rig.events();
    rig.up(L0);
    rig.control(L0, &AsapMessage::Cookie(b"late".to_vec()));
    rig.returned(L0, b"late");
    rig.down(L0, LinkFailure::Reset);
    assert_eq!((rig.events(), rig.effects()), (vec![], vec![]));
    assert_eq!(rig.dispatch.counters().late_inputs, 4);
}

#[test]
fn closing_closes_every_link_and_gives_back_what_waits() {
    let mut rig = Rig::linked_to(&[1]);
    rig.dispatch.pool_changed(&pool(), Some(&all_of(&[1, 2])));
    rig.send_to_element(2, b"x", SendOptions::DEFAULT).unwrap();
    rig.effects();
    rig.dispatch.close();
    assert_eq!(
        rig.effects(),
        [Effect::Close { link: L0, abort: false }, Effect::Close { link: L1, abort: true }]
    );
    assert_eq!((rig.events(), rig.dispatch.poll_timeout()), (vec![failed(Some(2), b"x")], None));
}

#[test]
fn same_seed_and_inputs_give_the_same_effects() {
    let run = || {
        let mut rig = Rig::linked_to(&[1, 2, 3]);
        for link in [L0, L2] {
            rig.send_to_pool(b"x", SendOptions::FAILOVER).unwrap();
            rig.returned(link, b"x");
            rig.down(link, LinkFailure::Reset);
        }
        (rig.effects(), rig.events())
    };
    assert_eq!(run(), run());
}
