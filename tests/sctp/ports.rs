//! One-to-many ports: two drivers on two hosts, each with one port for what comes and what goes.

use super::{HERE, Mended, PATIENCE, THERE, alone, asap, disturb, elsewhere, enrp, ip, lose};
use asap::config::Limits;
use asap::machine::{Channel, Destination, Effect, Input, LinkFailure, LinkId, LinkKind, Machine, Protocol};
use asap::runtime::driver::{Driver, DriverConfig, Remote, Thread, spawn};
use asap::runtime::poller::PollPoller;
use asap::types::{Addresses, Time};
use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::{Duration, Instant};

/// What a machine tells.
#[derive(Debug, PartialEq)]
enum Told {
    Incoming(LinkId),
    Up(LinkId, u16, Vec<std::net::IpAddr>),
    Down(LinkId, LinkFailure),
    Message(LinkId, Vec<u8>),
}

/// Tells everything, does what it is told.
#[derive(Default)]
struct Node {
    effects: VecDeque<Effect>,
    told: VecDeque<Told>,
    outgoing: u64,
}

impl Machine for Node {
    type Event = Told;

    fn handle(&mut self, _: Time, input: Input<'_>) {
        self.told.extend(match input {
            Input::Incoming { link, protocol: Protocol::Asap | Protocol::Enrp } => Some(Told::Incoming(link)),
            Input::LinkUp { link, kind: LinkKind::Sctp, peer, .. } => {
                Some(Told::Up(link, peer[0].port(), peer.iter().map(SocketAddr::ip).collect()))
            }
            Input::LinkDown { link, why } => Some(Told::Down(link, why)),
            Input::Message { link, bytes, .. } => Some(Told::Message(link, bytes.to_vec())),
            _ => None,
        });
    }

    fn poll_effect(&mut self) -> Option<Effect> {
        self.effects.pop_front()
    }

    fn poll_event(&mut self) -> Option<Told> {
        self.told.pop_front()
    }

    fn poll_timeout(&self) -> Option<Time> {
        None
    }
}

/// A host's port and what drives it.
struct Host {
    remote: Remote<Node>,
    thread: Option<Thread>,
    protocol: Protocol,
    addresses: Vec<&'static str>,
    port: u16,
    told: Receiver<Told>,
}

impl Host {
    fn start(addresses: [&'static str; 2], port: u16, limits: Limits) -> Host {
        Host::serving(Protocol::Asap, addresses, port, limits)
    }

    fn serving(protocol: Protocol, addresses: [&'static str; 2], port: u16, limits: Limits) -> Host {
        let at = |text| (LinkKind::Sctp, protocol, SocketAddr::new(ip(text), port));
        let listeners = match port {
            0 => vec![at(addresses[0])],
            _ => addresses.map(at).to_vec(),
        };
        let addresses = addresses[..listeners.len()].to_vec();
        let config = DriverConfig { listeners, limits, ..DriverConfig::default() };
        let driver = Driver::new(Node::default(), Box::new(PollPoller::default()), config).unwrap();
        let (remote, port) = (driver.remote(), driver.local_addresses()[0].port());
        let (sender, told) = channel();
        let tell = move |_: &mut Node, _, event| {
            let _ = sender.send(event);
        };
        let thread = spawn(driver, "host", tell).unwrap();
        Host { remote, thread: Some(thread), protocol, addresses, port, told }
    }

    /// Both hosts, each with all its addresses.
    fn two() -> (Host, Host) {
        let limits = Limits::default;
        // Ports somebody has had a moment ago, and that are free.
        let free = |addresses| Host::start(addresses, 0, limits()).port;
        let here = free(HERE);
        let there = elsewhere(|| free(THERE));
        (Host::start(HERE, here, limits()), elsewhere(|| Host::start(THERE, there, limits())))
    }

    fn do_all(&self, effects: Vec<Effect>) {
        assert!(self.remote.call(Box::new(move |node, _| node.effects.extend(effects))));
    }

    /// Opens a link to another host.
    fn connect(&self, other: &Host) -> LinkId {
        let (sender, link) = channel();
        let addresses = Addresses::new(other.addresses.iter().map(|text| ip(text)).collect()).unwrap();
        let (kind, protocol) = (LinkKind::Sctp, self.protocol);
        let to = Destination { kind, protocol, port: other.port, addresses };
        assert!(self.remote.call(Box::new(move |node, _| {
            let link = LinkId::outgoing(node.outgoing);
            node.outgoing += 1;
            node.effects.push_back(Effect::Connect { link, to });
            sender.send(link).unwrap();
        })));
        link.recv().unwrap()
    }

    fn send(&self, link: LinkId, bytes: Vec<u8>) {
        let channel = if self.protocol == Protocol::Enrp { Channel::Enrp } else { Channel::Asap };
        self.do_all(vec![Effect::Send { link, channel, bytes }]);
    }

    fn next(&self) -> Told {
        self.told.recv_timeout(PATIENCE).expect("something is told")
    }

    /// The link that has come up, opened by the other side, and the port at its other end.
    fn next_incoming(&self) -> (LinkId, u16) {
        let Told::Incoming(link) = self.next() else { panic!("no link came") };
        match self.next() {
            Told::Up(up, port, _) if up == link => (link, port),
            told => panic!("{told:?}"),
        }
    }

    fn expect_up(&self, link: LinkId) {
        assert!(matches!(self.next(), Told::Up(up, ..) if up == link));
    }

    fn is_quiet(&self) -> bool {
        self.told.recv_timeout(Duration::from_millis(20)) == Err(RecvTimeoutError::Timeout)
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        self.remote.stop();
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

#[test]
#[ignore = "needs kernel SCTP and two hosts: make lab"]
fn associations_leave_from_the_listening_port_with_all_its_addresses() {
    let _alone = alone();
    let (here, there) = Host::two();
    let link = here.connect(&there);
    here.expect_up(link);
    let Told::Incoming(accepted) = there.next() else { panic!() };
    let Told::Up(_, port, mut addresses) = there.next() else { panic!() };
    assert_eq!(port, here.port);
    addresses.sort();
    assert_eq!(addresses, HERE.map(ip), "what it is bound to, and nothing else");
    // To and fro, on sockets of their own.
    here.send(link, asap());
    assert_eq!(there.next(), Told::Message(accepted, asap()));
    there.send(accepted, asap());
    assert_eq!(here.next(), Told::Message(link, asap()));
}

#[test]
#[ignore = "needs kernel SCTP and two hosts: make lab"]
fn a_second_association_between_two_ports_is_told_to_be_there() {
    let _alone = alone();
    let (here, there) = Host::two();
    let link = here.connect(&there);
    here.expect_up(link);
    let (accepted, _) = there.next_incoming();
    for (host, other) in [(&here, &there), (&there, &here)] {
        let again = host.connect(other);
        assert_eq!(host.next(), Told::Down(again, LinkFailure::Present));
    }
    // Once it is over there can be another one, from either side.
    there.do_all(vec![Effect::Close { link: accepted, abort: true }]);
    assert_eq!(here.next(), Told::Down(link, LinkFailure::Reset));
    let back = there.connect(&here);
    there.expect_up(back);
    assert_eq!(here.next_incoming().1, there.port);
}

#[test]
#[ignore = "needs kernel SCTP and two hosts: make lab"]
fn when_both_connect_at_once_there_is_one_link_each() {
    let _alone = alone();
    let _mended = Mended;
    let mut crossed = 0;
    for round in 0..60 {
        if round == 30 {
            // Now each INIT is under way when the other one is sent.
            disturb(0, &["delay", "5ms"]);
        }
        let (here, there) = Host::two();
        // Sometimes one is a little earlier.
        let ours = here.connect(&there);
        std::thread::sleep(Duration::from_micros(round % 20 * 20));
        let theirs = there.connect(&here);
        let mut links = Vec::new();
        for (host, tried) in [(&here, ours), (&there, theirs)] {
            let mut up = Vec::new();
            let begun = Instant::now();
            while up.is_empty() || !host.is_quiet() {
                match host.told.recv_timeout(Duration::from_millis(100)) {
                    Ok(Told::Up(link, ..)) => up.push(link),
                    Ok(Told::Down(link, why)) => assert_eq!((link, why), (tried, LinkFailure::Present)),
                    Ok(Told::Incoming(link)) => assert_ne!(link, tried),
                    Ok(Told::Message(..)) => panic!("nothing was said"),
                    Err(_) => assert!(begun.elapsed() < PATIENCE, "round {round}: nothing came up"),
                }
            }
            assert_eq!(up.len(), 1, "round {round}");
            links.push(up[0]);
        }
        crossed += usize::from(links == [ours, theirs]);
        here.send(links[0], asap());
        assert_eq!(there.next(), Told::Message(links[1], asap()), "round {round}");
        there.send(links[1], asap());
        assert_eq!(here.next(), Told::Message(links[0], asap()), "round {round}");
    }
    assert!(crossed > 0);
    println!("60 times both connected at once: {crossed} times both found their own link up");
}

#[test]
#[ignore = "needs kernel SCTP and two hosts: make lab"]
fn setting_up_that_fails_says_why() {
    let _alone = alone();
    let _mended = Mended;
    let (here, mut there) = Host::two();
    let port = there.port;
    // Nobody is at that port.
    there.port = elsewhere(|| Host::start(THERE, 0, Limits::default()).port);
    let refused = here.connect(&there);
    assert_eq!(here.next(), Told::Down(refused, LinkFailure::Refused));
    // No answer: how long to wait is for the machine to say, and then it is as if nothing had been.
    there.port = port;
    lose(0, 100);
    lose(1, 100);
    let silent = here.connect(&there);
    assert!(here.is_quiet());
    here.do_all(vec![Effect::Close { link: silent, abort: true }]);
    lose(0, 0);
    lose(1, 0);
    let link = here.connect(&there);
    here.expect_up(link);
}

#[test]
#[ignore = "needs kernel SCTP and two hosts: make lab"]
fn ends_in_order_and_otherwise_are_told_apart() {
    let _alone = alone();
    for (abort, why) in [(false, LinkFailure::Closed), (true, LinkFailure::Reset)] {
        let (here, there) = Host::two();
        let link = here.connect(&there);
        here.expect_up(link);
        let (accepted, _) = there.next_incoming();
        // What was sent before arrives before the end.
        let mut effects: Vec<_> =
            (0..100).map(|_| Effect::Send { link, channel: Channel::Asap, bytes: asap() }).collect();
        effects.push(Effect::Close { link, abort });
        here.do_all(effects);
        let mut messages = 0;
        let end = loop {
            match there.next() {
                Told::Message(on, _) if on == accepted => messages += 1,
                told => break told,
            }
        };
        assert_eq!(end, Told::Down(accepted, why));
        assert!(abort || messages == 100, "{messages}");
    }
    // A host that goes, and with it its port.
    let (here, there) = Host::two();
    let link = here.connect(&there);
    here.expect_up(link);
    let (accepted, _) = there.next_incoming();
    drop(here);
    assert_eq!(there.next(), Told::Down(accepted, LinkFailure::Closed));
}

#[test]
#[ignore = "needs kernel SCTP and two hosts: make lab"]
fn an_association_the_peer_begins_anew_is_a_link_lost_and_another_one() {
    let _alone = alone();
    let _mended = Mended;
    let (here, there) = Host::two();
    let link = there.connect(&here);
    there.expect_up(link);
    let (old, _) = here.next_incoming();
    // The other host loses its memory, and nobody here gets to know.
    let port = there.port;
    lose(0, 100);
    lose(1, 100);
    there.do_all(vec![Effect::Close { link, abort: true }]);
    drop(there);
    lose(0, 0);
    lose(1, 0);
    let there = elsewhere(|| Host::start(THERE, port, Limits::default()));
    let link = there.connect(&here);
    there.expect_up(link);
    there.send(link, asap());
    assert_eq!(here.next(), Told::Down(old, LinkFailure::Reset));
    let (new, _) = here.next_incoming();
    assert_eq!(here.next(), Told::Message(new, asap()));
    here.send(old, b"nobody".to_vec());
    here.send(new, asap());
    assert_eq!(there.next(), Told::Message(link, asap()));
    assert!(here.is_quiet());
}

#[test]
#[ignore = "needs kernel SCTP and two hosts: make lab"]
fn enrp_has_ports_as_asap_has() {
    let _alone = alone();
    let start = |addresses| Host::serving(Protocol::Enrp, addresses, 0, Limits::default());
    let (here, there) = (start(HERE), elsewhere(|| start(THERE)));
    let link = here.connect(&there);
    here.expect_up(link);
    let (accepted, port) = there.next_incoming();
    assert_eq!(port, here.port);
    here.send(link, enrp());
    assert_eq!(there.next(), Told::Message(accepted, enrp()));
    there.send(accepted, enrp());
    assert_eq!(here.next(), Told::Message(link, enrp()));
}

#[test]
#[ignore = "needs kernel SCTP and two hosts: make lab"]
fn any_port_is_the_same_for_both_transports() {
    let _alone = alone();
    let at = |kind, protocol| (kind, protocol, SocketAddr::new(ip(HERE[0]), 0));
    let (tcp, sctp) = (LinkKind::Tcp, LinkKind::Sctp);
    let (asap, enrp) = (Protocol::Asap, Protocol::Enrp);
    let listeners = vec![at(tcp, asap), at(tcp, enrp), at(sctp, asap), at(sctp, enrp)];
    let config = DriverConfig { listeners, ..DriverConfig::default() };
    let driver = Driver::new(Node::default(), Box::new(PollPoller::default()), config).unwrap();
    let ports: Vec<u16> = driver.local_addresses().iter().map(SocketAddr::port).collect();
    assert_eq!(ports[..2], ports[2..]);
    assert_ne!(ports[0], ports[1]);
}
