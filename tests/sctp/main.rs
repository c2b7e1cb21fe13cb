//! Links over kernel SCTP, between two hosts (network namespaces) with two paths. Only the lab has all that
//! (`tests/lab/run sctp-links`), so all but one are left out of an ordinary run.

mod ports;
mod sessions;

use asap::config::Limits;
use asap::machine::{Channel, Destination, LinkKind, Protocol, UserChannel};
use asap::runtime::link::{Connection, LinkEvent};
use asap::runtime::listener::Listener;
use asap::runtime::now;
use asap::runtime::poller::poll;
use asap::types::{Addresses, PeId, PoolHandle, ServerId};
use asap::wire::{AsapMessage, Dialect, EnrpHeader, EnrpMessage};
use std::net::{IpAddr, SocketAddr};
use std::os::fd::AsRawFd;
use std::process::Command;
use std::sync::{Mutex, MutexGuard};
use std::time::{Duration, Instant};

/// The other host, and the addresses of the two paths at both ends, as the scenario sets them up.
const OTHER_HOST: &str = "/run/netns/other";
const HERE: [&str; 2] = ["10.1.1.1", "10.1.2.1"];
const THERE: [&str; 2] = ["10.1.1.2", "10.1.2.2"];
const THERE_6: &str = "fd00::2";
const PATIENCE: Duration = Duration::from_secs(20);

static ALONE: Mutex<()> = Mutex::new(());

/// One test at a time: some cut paths.
fn alone() -> MutexGuard<'static, ()> {
    ALONE.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
}

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

/// Runs something on the other host: sockets made there stay there.
fn elsewhere<T: Send>(what: impl FnOnce() -> T + Send) -> T {
    std::thread::scope(|scope| {
        scope
            .spawn(|| {
                let namespace = std::fs::File::open(OTHER_HOST).expect("the lab's other host");
                // SAFETY: setns takes no pointers; it concerns this thread alone.
                let result = unsafe { libc::setns(namespace.as_raw_fd(), libc::CLONE_NEWNET) };
                assert_eq!(result, 0, "{}", std::io::Error::last_os_error());
                what()
            })
            .join()
            .unwrap()
    })
}

/// Cuts or mends a path, silently: what is sent there is lost.
fn lose(path: usize, percent: u32) {
    disturb(path, &["loss", &format!("{percent}%")]);
}

/// Has netem do something to a path, both ways.
fn disturb(path: usize, how: &[&str]) {
    let device = ["path1", "path2"][path];
    let tc = || {
        let command = ["qdisc", "replace", "dev", device, "root", "netem"];
        let status = Command::new("tc").args(command).args(how).status();
        assert!(status.unwrap().success());
    };
    tc();
    elsewhere(tc);
}

/// Both paths as they should be, whatever a test does.
struct Mended;

impl Drop for Mended {
    fn drop(&mut self) {
        lose(0, 0);
        lose(1, 0);
    }
}

/// A connection and all that it has told.
struct Side {
    connection: Connection,
    told: Vec<String>,
    data: Vec<(Channel, Vec<u8>)>,
    failed: Vec<Vec<u8>>,
    local: Vec<SocketAddr>,
    peer: Vec<SocketAddr>,
    echo: bool,
}

impl Side {
    fn new(connection: Connection) -> Side {
        let (told, data, failed) = (Vec::new(), Vec::new(), Vec::new());
        Side { connection, told, data, failed, local: Vec::new(), peer: Vec::new(), echo: false }
    }

    fn step(&mut self, budget: usize) -> bool {
        let Side { connection, told, data, failed, local, peer, echo } = self;
        let before = data.len();
        let more = connection.progress(now(), budget, &mut |event| match event {
            LinkEvent::Up { kind, protocol, local: ours, peer: theirs } => {
                assert_eq!(kind, LinkKind::Sctp);
                told.push(format!("up {protocol:?}"));
                *local = ours.to_vec();
                *peer = theirs.to_vec();
            }
            LinkEvent::Message { channel, bytes, complete } => {
                assert!(complete, "SCTP tells whole messages");
                data.push((channel, bytes.to_vec()));
            }
            LinkEvent::Writable => told.push("writable".to_owned()),
            LinkEvent::SendFailed { channel: Channel::User(user), message } => {
                assert!(user.expires.is_none_or(|until| until <= now()), "given up before its time was over");
                failed.push(message);
            }
            LinkEvent::SendFailed { .. } => panic!("no control message is to fail"),
            LinkEvent::Down(why) => told.push(format!("down {why:?}")),
        });
        if *echo {
            for (channel, bytes) in &data[before..] {
                connection.send(*channel, bytes.clone());
            }
        }
        more
    }

    fn said(&self, what: &str) -> bool {
        self.told.iter().any(|told| told == what)
    }

    fn is_down(&self) -> bool {
        self.told.last().is_some_and(|told| told.starts_with("down"))
    }
}

/// Lets connections go on until the condition holds; how long it took.
fn run(sides: &mut [&mut Side], mut done: impl FnMut(&mut [&mut Side]) -> bool) -> Duration {
    let begun = Instant::now();
    loop {
        let more = sides.iter_mut().map(|side| side.step(16)).filter(|more| *more).count() > 0;
        if done(sides) {
            return begun.elapsed();
        }
        if begun.elapsed() > PATIENCE {
            let told: Vec<_> = sides.iter().map(|side| (&side.told, side.data.len())).collect();
            panic!("the condition did not come about: {told:?}");
        }
        let mut wait = Duration::from_millis(if more { 0 } else { 20 });
        let mut entries = Vec::new();
        for side in sides.iter() {
            let interest = side.connection.interest();
            let events =
                if interest.read { libc::POLLIN } else { 0 } | if interest.write { libc::POLLOUT } else { 0 };
            let fd = if events == 0 { -1 } else { side.connection.fd() };
            entries.push(libc::pollfd { fd, events, revents: 0 });
            if let Some(deadline) = side.connection.deadline() {
                wait = wait.min(deadline.since(now()));
            }
        }
        poll(&mut entries, Some(wait)).unwrap();
    }
}

/// The two kinds of listener: a socket for each that is accepted, and a port, which associations are peeled off from.
#[derive(Clone, Copy, Debug)]
enum How {
    OneToOne,
    Port,
}

const BOTH: [How; 2] = [How::OneToOne, How::Port];

fn listen_as(how: How, protocol: Protocol) -> Listener {
    elsewhere(|| {
        let (first, further, limits) = (SocketAddr::new(ip(THERE[0]), 0), [ip(THERE[1])], Limits::default());
        match how {
            How::OneToOne => {
                Listener::bind_all(LinkKind::Sctp, protocol, first, &further, 4_096, &limits).unwrap()
            }
            How::Port => Listener::bind_port(protocol, first, &further, 4_096, &limits).unwrap(),
        }
    })
}

/// As it is used for this protocol.
fn listen(protocol: Protocol) -> Listener {
    match protocol {
        Protocol::Asap | Protocol::Enrp => listen_as(How::Port, protocol),
        Protocol::Session | Protocol::Plain => listen_as(How::OneToOne, protocol),
    }
}

fn dial(protocol: Protocol, port: u16, addresses: &[&str], limits: &Limits) -> Side {
    let addresses = Addresses::new(addresses.iter().map(|text| ip(text)).collect()).unwrap();
    let to = Destination { kind: LinkKind::Sctp, protocol, port, addresses };
    Side::new(Connection::connect(now(), &to, limits).unwrap())
}

fn accept(listener: &Listener, limits: &Limits) -> Side {
    let limit = Instant::now() + PATIENCE;
    loop {
        // A port's associations stay on its host, and so does who takes them.
        if let Some(socket) = elsewhere(|| listener.accept().unwrap()) {
            let (kind, protocol) = (listener.kind(), listener.protocol());
            return Side::new(Connection::accepted(now(), socket, kind, protocol, limits).unwrap());
        }
        assert!(Instant::now() < limit, "nobody came");
        let mut entry = [libc::pollfd { fd: listener.fd(), events: libc::POLLIN, revents: 0 }];
        poll(&mut entry, Some(Duration::from_secs(1))).unwrap();
    }
}

/// Both ends of a link, both up.
fn pair_with(how: How, protocol: Protocol, limits: &Limits) -> (Side, Side) {
    let listener = listen_as(how, protocol);
    let mut here = dial(protocol, listener.local().port(), &THERE, limits);
    let mut there = accept(&listener, limits);
    run(&mut [&mut here, &mut there], |sides| sides.iter().all(|side| !side.told.is_empty()));
    assert_eq!((&here.told[0], &there.told[0]), (&format!("up {protocol:?}"), &format!("up {protocol:?}")));
    (here, there)
}

fn pair(protocol: Protocol) -> (Side, Side) {
    pair_with(How::OneToOne, protocol, &Limits::default())
}

fn user(ppid: u32, stream: u16, unordered: bool) -> Channel {
    // Small numbers belong to protocols, and who looks at a capture wants to see what is wrong in it.
    Channel::User(UserChannel { ppid: ppid | 0x5000_0000, stream, unordered, expires: None })
}

/// User data under a protocol's own identifier.
fn posing_as(ppid: u32) -> Channel {
    Channel::User(UserChannel { ppid, stream: 0, unordered: false, expires: None })
}

fn posing_as_on(ppid: u32, stream: u16) -> Channel {
    Channel::User(UserChannel { ppid, stream, ..UserChannel::default() })
}

fn asap() -> Vec<u8> {
    let handle = PoolHandle::new(b"pool").unwrap();
    AsapMessage::KeepAliveAck { handle, element: PeId(7) }.encode(Dialect::Rfc).unwrap()
}

fn enrp() -> Vec<u8> {
    let header = EnrpHeader { sender: ServerId::new(1), receiver: ServerId::new(2) };
    EnrpMessage::ListRequest { header }.encode(Dialect::Rfc).unwrap()
}

/// A message whose every byte can be checked.
fn numbered(n: u32, len: usize) -> Vec<u8> {
    let mut bytes = n.to_be_bytes().to_vec();
    bytes.extend((4..len).map(|at| (at as u32 ^ n) as u8));
    bytes
}

fn number(bytes: &[u8]) -> u32 {
    let n = u32::from_be_bytes(*bytes.first_chunk().unwrap());
    assert!(bytes == numbered(n, bytes.len()), "message {n} of {} bytes is damaged", bytes.len());
    n
}

#[test]
fn a_kernel_without_sctp_is_told_in_a_sentence() {
    let bound = Listener::bind(LinkKind::Sctp, Protocol::Asap, "127.0.0.1:0".parse().unwrap(), 8);
    if let Err(error) = bound {
        assert_eq!(error.kind(), std::io::ErrorKind::Unsupported, "{error}");
        assert!(error.to_string().contains("kernel has no SCTP"), "{error}");
        let addresses = Addresses::from(ip("127.0.0.1"));
        let to = Destination { kind: LinkKind::Sctp, protocol: Protocol::Asap, port: 9, addresses };
        let error = Connection::connect(now(), &to, &Limits::default()).unwrap_err();
        assert_eq!(error.kind(), std::io::ErrorKind::Unsupported);
    }
}

#[test]
#[ignore = "needs kernel SCTP and two hosts: make lab"]
fn messages_keep_boundaries_identifiers_and_streams() {
    let _alone = alone();
    for how in BOTH {
        let (mut here, mut there) = pair_with(how, Protocol::Session, &Limits::default());
        there.echo = true;
        let sent = [
            (user(0, 0, false), b"one".to_vec()),
            (user(0x0102_0304, 5, false), b"two".to_vec()),
            (Channel::Asap, asap()),
            (posing_as(12), enrp()),
            (user(13, 63, false), numbered(3, 1)),
            (user(u32::MAX, 0, false), numbered(4, 70_000)),
        ];
        for (channel, bytes) in &sent {
            here.connection.send(*channel, bytes.clone());
            // Streams may overtake each other: one at a time.
            let seen = here.data.len();
            run(&mut [&mut here, &mut there], |sides| sides[0].data.len() > seen);
        }
        assert_eq!(here.data, sent);
        here.connection.send(user(1, 2, true), b"unordered".to_vec());
        run(&mut [&mut here, &mut there], |sides| sides[0].data.len() == 7);
        assert_eq!(here.data[6], (user(1, 2, true), b"unordered".to_vec()));
    }
}

#[test]
#[ignore = "needs kernel SCTP and two hosts: make lab"]
fn asap_links_take_asap_alone_and_plain_ones_everything() {
    let _alone = alone();
    let listener = listen(Protocol::Asap);
    // A peer that sends what does not belong there.
    let mut plain = dial(Protocol::Plain, listener.local().port(), &THERE, &Limits::default());
    let mut strict = accept(&listener, &Limits::default());
    plain.connection.send(Channel::Asap, b"no such channel".to_vec());
    plain.connection.send(posing_as(12), enrp());
    plain.connection.send(posing_as(11), asap());
    run(&mut [&mut plain, &mut strict], |sides| !sides[1].data.is_empty());
    assert_eq!(strict.data, [(Channel::Asap, asap())]);
    strict.connection.send(user(1, 0, false), b"no such channel".to_vec());
    strict.connection.send(Channel::Asap, asap());
    run(&mut [&mut plain, &mut strict], |sides| !sides[0].data.is_empty());
    assert_eq!(plain.data, [(posing_as(11), asap())]);
}

#[test]
#[ignore = "needs kernel SCTP and two hosts: make lab"]
fn both_ends_know_all_addresses() {
    let _alone = alone();
    let (here, there) = pair(Protocol::Asap);
    let sorted = |addresses: &[SocketAddr]| {
        let mut found: Vec<_> = addresses.iter().map(|address| address.ip()).collect();
        found.sort();
        found
    };
    assert_eq!(sorted(&here.peer), THERE.map(ip));
    assert_eq!(sorted(&there.local), THERE.map(ip));
    // The end that dials is bound to the wildcard, and offers what its host has.
    for address in HERE.map(ip) {
        assert!(sorted(&there.peer).contains(&address), "{:?}", there.peer);
        assert!(sorted(&here.local).contains(&address), "{:?}", here.local);
    }
    assert!(here.peer.iter().all(|address| address.port() == there.local[0].port()));
}

#[test]
#[ignore = "needs kernel SCTP and two hosts: make lab"]
fn ipv6_and_mixed_addresses_reach() {
    let _alone = alone();
    let listener = elsewhere(|| {
        let any = SocketAddr::new(ip("::"), 0);
        Listener::bind(LinkKind::Sctp, Protocol::Session, any, 8).unwrap()
    });
    for addresses in [&[THERE_6][..], &[THERE[0]], &[THERE[1], THERE_6]] {
        let mut here = dial(Protocol::Session, listener.local().port(), addresses, &Limits::default());
        let mut there = accept(&listener, &Limits::default());
        run(&mut [&mut here, &mut there], |sides| sides.iter().all(|side| !side.told.is_empty()));
        assert!(here.said("up Session"), "{addresses:?}: {:?}", here.told);
        assert!(here.peer.iter().any(|address| address.ip() == ip(addresses[0])), "{:?}", here.peer);
    }
}

#[test]
#[ignore = "needs kernel SCTP and two hosts: make lab"]
fn long_messages_arrive_whole_and_too_long_ones_are_refused() {
    let _alone = alone();
    for how in BOTH {
        let (mut here, mut there) = pair_with(how, Protocol::Session, &Limits::default());
        there.echo = true;
        let lengths = [300_000, 4, 65_536, 212_992];
        for (n, len) in lengths.iter().enumerate() {
            here.connection.send(user(7, 1, false), numbered(n as u32, *len));
        }
        run(&mut [&mut here, &mut there], |sides| sides[0].data.len() == lengths.len());
        for (n, (_, bytes)) in here.data.iter().enumerate() {
            assert_eq!((number(bytes), bytes.len()), (n as u32, lengths[n]));
        }
        // There is no such stream: the message comes back, and the link lives on.
        here.connection.send(user(7, 60_000, false), b"no such stream".to_vec());
        here.connection.send(user(7, 60_000, false), vec![1; 300_000]);
        here.connection.send(user(7, 0, false), b"still here".to_vec());
        run(&mut [&mut here, &mut there], |sides| {
            sides[0].failed.len() == 2 && sides[0].data.len() == lengths.len() + 1
        });
        assert!(here.failed == [b"no such stream".to_vec(), vec![1; 300_000]]);
    }
    // No send buffer takes it, and the peer is not one to have it in pieces.
    let listener = listen(Protocol::Plain);
    let mut here = dial(Protocol::Session, listener.local().port(), &THERE, &Limits::default());
    let mut there = accept(&listener, &Limits::default());
    here.connection.send(user(7, 1, false), vec![1; 16 << 20]);
    here.connection.send(user(7, 0, false), b"still here".to_vec());
    run(&mut [&mut here, &mut there], |sides| sides[1].data.len() == 1 && !sides[0].failed.is_empty());
    assert!(here.failed == [vec![1; 16 << 20]]);
    assert_eq!(there.data[0].1, b"still here");
}

#[test]
#[ignore = "needs kernel SCTP and two hosts: make lab"]
fn messages_longer_than_the_send_buffer_keep_their_place_among_others() {
    let _alone = alone();
    for how in BOTH {
        let limits = Limits { queued_bytes_per_link: 64 << 20, ..Limits::default() };
        let (mut here, mut there) = pair_with(how, Protocol::Session, &limits);
        let long = 16 << 20;
        let sent = [
            (user(0, 1, false), numbered(0, 10)),
            (user(1, 1, false), numbered(1, long)),
            (Channel::Asap, asap()),
            // What would be taken for a piece, and what SCTP cannot carry.
            (posing_as_on(0xa5a9_0001, 1), numbered(2, 20)),
            (user(3, 1, false), Vec::new()),
            (user(4, 2, false), numbered(4, 3_000_000)),
            (user(5, 3, true), numbered(5, 2_000_000)),
            (user(6, 1, false), numbered(6, 70_000)),
        ];
        let begun = Instant::now();
        for (channel, bytes) in &sent {
            here.connection.push(*channel, bytes.clone());
        }
        run(&mut [&mut here, &mut there], |sides| sides[1].data.len() == sent.len());
        println!("21 MB in messages longer than the send buffer: {:?}", begun.elapsed());
        for stream in [1, 2, 3] {
            let on = |all: &[(Channel, Vec<u8>)]| -> Vec<(Channel, Vec<u8>)> {
                let on = |channel| matches!(channel, Channel::User(user) if user.stream == stream);
                all.iter().filter(|(channel, _)| on(*channel)).cloned().collect()
            };
            assert!(on(&there.data) == on(&sent), "stream {stream}");
        }
        assert_eq!(there.data.iter().filter(|(channel, _)| *channel == Channel::Asap).count(), 1);
        assert!(here.failed.is_empty() && !here.is_down());
    }
}

#[test]
#[ignore = "needs kernel SCTP and two hosts: make lab"]
fn a_long_message_that_was_sent_in_part_comes_back_whole() {
    let _alone = alone();
    for how in BOTH {
        let limits = Limits { queued_bytes_per_link: 64 << 20, ..Limits::default() };
        let (mut here, mut there) = pair_with(how, Protocol::Session, &limits);
        let lengths = [700_000, 20, 150_000, 5_000_000];
        for n in 0..40 {
            here.connection.push(user(n, 1, false), numbered(n, lengths[n as usize % 4]));
        }
        run(&mut [&mut here, &mut there], |sides| sides[1].data.len() >= 6);
        // Now nobody reads: the window and the buffer fill up.
        let mut idle = 0;
        let mut queued = here.connection.queued();
        while idle < 20 {
            here.step(0);
            std::thread::sleep(Duration::from_millis(10));
            idle = if here.connection.queued() == queued { idle + 1 } else { 0 };
            queued = here.connection.queued();
        }
        there.connection.close(true);
        run(&mut [&mut here], |sides| sides[0].is_down());
        let delivered = there.data.len() as u32;
        let back = here.connection.take_unsent();
        let numbers: Vec<u32> = back.iter().map(|(_, bytes)| number(bytes)).collect();
        println!("delivered {delivered}, came back {numbers:?}, {queued} bytes were queued");
        for (n, (channel, bytes)) in numbers.iter().zip(&back) {
            assert_eq!((*channel, bytes.len()), (user(*n, 1, false), lengths[*n as usize % 4]));
        }
        assert!(numbers.iter().copied().eq(40 - numbers.len() as u32..40), "{numbers:?}");
        assert!(numbers[0] >= delivered);
        let bytes: usize = back.iter().map(|(_, bytes)| bytes.len()).sum();
        assert!(bytes > queued, "nothing came back that was sent in part");
    }
}

#[test]
#[ignore = "needs kernel SCTP and two hosts: make lab"]
fn messages_whose_time_is_over_come_back_while_the_link_lives() {
    let _alone = alone();
    for how in BOTH {
        let limits = Limits { queued_bytes_per_link: 64 << 20, ..Limits::default() };
        let (mut here, mut there) = pair_with(how, Protocol::Session, &limits);
        // Nobody reads: what is not sent waits in the system, and behind that here.
        let total = 300;
        let soon = now() + Duration::from_millis(600);
        for n in 0..total {
            let expires = (n % 3 != 0).then_some(soon);
            let Channel::User(channel) = user(n, 1, false) else { unreachable!() };
            let channel = Channel::User(UserChannel { expires, ..channel });
            here.connection.send(channel, numbered(n, 10_000));
        }
        assert!(here.connection.queued() > 0 && now() < soon, "the test does not test");
        while now() < soon + Duration::from_millis(100) {
            here.step(16);
            std::thread::sleep(Duration::from_millis(5));
        }
        assert!(!here.is_down());
        run(&mut [&mut here, &mut there], |sides| {
            sides[0].failed.len() + sides[1].data.len() == total as usize
        });
        let came: Vec<u32> = there.data.iter().map(|(_, bytes)| number(bytes)).collect();
        let mut failed: Vec<u32> = here.failed.iter().map(|bytes| number(bytes)).collect();
        println!("{} arrived, {} were given up", came.len(), failed.len());
        assert!(came.is_sorted() && failed.iter().all(|n| n % 3 != 0) && failed.len() > 20);
        // Everything either arrived or came back.
        failed.extend(&came);
        failed.sort();
        assert!(failed.into_iter().eq(0..total));
    }
}

#[test]
#[ignore = "needs kernel SCTP and two hosts: make lab"]
fn a_message_over_the_limit_ends_the_link() {
    let _alone = alone();
    let limits = Limits { user_message_bytes: 100_000, ..Limits::default() };
    let listener = listen(Protocol::Session);
    let mut here = dial(Protocol::Session, listener.local().port(), &THERE, &Limits::default());
    let mut there = accept(&listener, &limits);
    here.connection.send(user(1, 0, false), vec![1; 100_000]);
    here.connection.send(user(1, 0, false), vec![2; 100_001]);
    run(&mut [&mut here, &mut there], |sides| sides[1].is_down());
    assert_eq!(there.data.len(), 1);
    assert!(there.said("down Garbled"), "{:?}", there.told);
}

#[test]
#[ignore = "needs kernel SCTP and two hosts: make lab"]
fn an_orderly_end_is_closed_and_loses_nothing() {
    let _alone = alone();
    for how in BOTH {
        let (mut here, mut there) = pair_with(how, Protocol::Session, &Limits::default());
        for n in 0..1_000 {
            here.connection.push(user(1, 0, false), numbered(n, 2_000));
        }
        here.connection.finish();
        run(&mut [&mut here, &mut there], |sides| sides.iter().all(|side| side.is_down()));
        assert!(here.said("down Closed") && there.said("down Closed"), "{:?} {:?}", here.told, there.told);
        let numbers: Vec<u32> = there.data.iter().map(|(_, bytes)| number(bytes)).collect();
        assert!(numbers.into_iter().eq(0..1_000));

        let (here, mut there) = pair_with(how, Protocol::Session, &Limits::default());
        here.connection.close(false);
        run(&mut [&mut there], |sides| sides[0].is_down());
        assert!(there.said("down Closed"), "{:?}", there.told);
    }
}

#[test]
#[ignore = "needs kernel SCTP and two hosts: make lab"]
fn breaking_off_and_dying_are_resets() {
    let _alone = alone();
    for how in BOTH {
        let (here, mut there) = pair_with(how, Protocol::Session, &Limits::default());
        here.connection.close(true);
        let took = run(&mut [&mut there], |sides| sides[0].is_down());
        println!("an abort is told after {took:?}");
        assert!(there.said("down Reset"), "{:?}", there.told);

        // What the system does for a process that is killed.
        let (here, mut there) = pair_with(how, Protocol::Session, &Limits::default());
        drop(here);
        run(&mut [&mut there], |sides| sides[0].is_down());
        assert!(there.said("down Reset"), "{:?}", there.told);
    }

    // Before anybody has accepted it. (What is over before it was accepted at a port was never there.)
    let listener = listen_as(How::OneToOne, Protocol::Session);
    let mut here = dial(Protocol::Session, listener.local().port(), &THERE, &Limits::default());
    run(&mut [&mut here], |sides| sides[0].said("up Session"));
    here.connection.close(true);
    let mut there = accept(&listener, &Limits::default());
    run(&mut [&mut there], |sides| sides[0].is_down());
    assert!(there.said("down Reset"), "{:?}", there.told);
}

#[test]
#[ignore = "needs kernel SCTP and two hosts: make lab"]
fn nobody_listening_is_refused_at_once() {
    let _alone = alone();
    let port = listen(Protocol::Session).local().port();
    let mut here = dial(Protocol::Session, port, &THERE, &Limits::default());
    let took = run(&mut [&mut here], |sides| sides[0].is_down());
    assert_eq!(here.told, ["down Refused"]);
    println!("refused after {took:?}");
    assert!(took < Duration::from_millis(500), "{took:?}");
}

#[test]
#[ignore = "needs kernel SCTP and two hosts: make lab"]
fn what_was_not_sent_comes_back_when_the_peer_breaks_off() {
    let _alone = alone();
    for how in BOTH {
        let limits = Limits { queued_bytes_per_link: 64 << 20, ..Limits::default() };
        let (mut here, mut there) = pair_with(how, Protocol::Session, &limits);
        // The peer reads nothing: its window, our send buffer and the queue fill up.
        let lengths = [100, 3_000, 50_000];
        for n in 0..900 {
            here.connection.send(user(n, 1, false), numbered(n, lengths[n as usize % 3]));
        }
        let queued = here.connection.queued();
        assert!(queued > 0, "all of it fits: the test does not test");
        // A little of it is read.
        run(&mut [&mut there], |sides| sides[0].data.len() >= 10);
        let delivered = there.data.len() as u32;
        there.connection.close(true);
        run(&mut [&mut here], |sides| sides[0].is_down());
        assert!(here.said("down Reset"), "{:?}", here.told);
        let back = here.connection.take_unsent();
        let numbers: Vec<u32> = back
            .iter()
            .map(|(channel, bytes)| {
                assert_eq!(*channel, user(number(bytes), 1, false));
                assert_eq!(bytes.len(), lengths[number(bytes) as usize % 3]);
                number(bytes)
            })
            .collect();
        let bytes: usize = back.iter().map(|(_, bytes)| bytes.len()).sum();
        println!("read {delivered}, back {} from {:?} on", numbers.len(), numbers.first());
        assert!(bytes >= queued);
        // The end of what was sent, without a gap, and nothing that was read.
        assert!(numbers.iter().copied().eq(900 - numbers.len() as u32..900), "{numbers:?}");
        assert!(numbers[0] >= delivered);
    }
}

#[test]
#[ignore = "needs kernel SCTP and two hosts: make lab"]
fn a_queue_that_drains_is_writable_and_one_that_does_not_is_congested() {
    let _alone = alone();
    let limits = Limits { queued_bytes_per_link: 1 << 20, user_message_bytes: 1 << 20, ..Limits::default() };
    let (mut here, mut there) = pair_with(How::OneToOne, Protocol::Session, &limits);
    while here.connection.queued() < 900_000 {
        here.connection.send(user(1, 0, false), vec![1; 50_000]);
    }
    run(&mut [&mut here, &mut there], |sides| sides[0].said("writable"));
    assert!(!here.is_down());
    for _ in 0..60 {
        here.connection.send(user(1, 0, false), vec![1; 50_000]);
    }
    run(&mut [&mut here], |sides| sides[0].is_down());
    assert!(here.said("down Congested"), "{:?}", here.told);
}

#[test]
#[ignore = "needs kernel SCTP and two hosts: make lab"]
fn a_cut_path_is_left_in_under_a_second_and_nothing_is_lost() {
    let _alone = alone();
    let _mended = Mended;
    let (mut here, mut there) = pair(Protocol::Session);
    there.echo = true;
    let mut slowest = Duration::ZERO;
    // The paths have been probed once data has gone to and fro a few times.
    for n in 0..400 {
        match n {
            100 => lose(0, 100),
            200 => lose(0, 0),
            300 => lose(1, 100),
            _ => {}
        }
        here.connection.send(user(1, 0, false), numbered(n, 1_000));
        let seen = here.data.len();
        let took = run(&mut [&mut here, &mut there], |sides| sides[0].data.len() > seen);
        slowest = slowest.max(took);
    }
    println!("400 messages to and fro, each path cut in turn: the slowest took {slowest:?}");
    assert!(slowest < Duration::from_secs(1), "{slowest:?}");
    let numbers: Vec<u32> = here.data.iter().map(|(_, bytes)| number(bytes)).collect();
    assert!(numbers.into_iter().eq(0..400));
}

#[test]
#[ignore = "needs kernel SCTP and two hosts: make lab"]
fn a_dead_first_address_does_not_keep_from_connecting() {
    let _alone = alone();
    let _mended = Mended;
    let listener = listen(Protocol::Session);
    lose(0, 100);
    let mut here = dial(Protocol::Session, listener.local().port(), &THERE, &Limits::default());
    let took = run(&mut [&mut here], |sides| !sides[0].told.is_empty());
    println!("connected past a dead first address after {took:?}");
    assert!(here.said("up Session"), "{:?}", here.told);
    assert!(took < Duration::from_secs(1), "{took:?}");
}

#[test]
#[ignore = "needs kernel SCTP and two hosts: make lab"]
fn a_host_gone_silent_is_noticed_in_under_a_second_and_what_was_not_sent_comes_back() {
    let _alone = alone();
    let _mended = Mended;
    let (mut here, mut there) = pair(Protocol::Session);
    there.echo = true;
    here.connection.send(user(1, 0, false), b"all is well".to_vec());
    run(&mut [&mut here, &mut there], |sides| sides[0].data.len() == 1);
    lose(0, 100);
    lose(1, 100);
    for n in 0..100 {
        here.connection.send(user(1, 0, false), numbered(n, 10_000));
    }
    let queued = here.connection.queued();
    let took = run(&mut [&mut here], |sides| sides[0].is_down());
    let back = here.connection.take_unsent();
    let bytes: usize = back.iter().map(|(_, bytes)| bytes.len()).sum();
    println!(
        "given up after {took:?}; of 100 messages {} came back, {} bytes of them from the system",
        back.len(),
        bytes - queued
    );
    assert!(queued > 0 && bytes > queued, "not from both the queue and the system");
    assert!(here.said("down TimedOut"), "{:?}", here.told);
    assert!(took < Duration::from_secs(1), "{took:?}");
    let first = 100 - back.len() as u32;
    assert!(!back.is_empty());
    assert!(back.iter().map(|(_, bytes)| number(bytes)).eq(first..100));
}

#[test]
#[ignore = "needs kernel SCTP and two hosts: make lab"]
fn thousand_links_opened_at_once_all_come_up_and_answer() {
    let _alone = alone();
    let listener = listen(Protocol::Asap);
    let port = listener.local().port();
    let begun = Instant::now();
    let mut here: Vec<Side> =
        (0..1_000).map(|_| dial(Protocol::Asap, port, &THERE, &Limits::default())).collect();
    for side in &mut here {
        side.connection.send(Channel::Asap, asap());
    }
    let mut there: Vec<Side> = Vec::new();
    while here.iter().any(|side| side.data.is_empty()) {
        let accepted: Vec<_> = elsewhere(|| std::iter::from_fn(|| listener.accept().unwrap()).collect());
        for socket in accepted {
            let connection =
                Connection::accepted(now(), socket, LinkKind::Sctp, Protocol::Asap, &Limits::default());
            let mut side = Side::new(connection.unwrap());
            side.echo = true;
            there.push(side);
        }
        for side in here.iter_mut().chain(&mut there) {
            side.step(4);
            assert!(!side.is_down(), "{:?} after {:?}", side.told, begun.elapsed());
        }
        assert!(begun.elapsed() < PATIENCE, "{} came", there.len());
        let mut entry = [libc::pollfd { fd: listener.fd(), events: libc::POLLIN, revents: 0 }];
        poll(&mut entry, Some(Duration::from_millis(1))).unwrap();
    }
    println!("1,000 associations opened at once, each answered: {:?}", begun.elapsed());
    assert_eq!(there.len(), 1_000);
}

#[test]
#[ignore = "needs kernel SCTP and two hosts: make lab"]
fn a_peer_that_does_not_read_holds_up_nobody_else_at_the_port() {
    let _alone = alone();
    let limits = Limits { queued_bytes_per_link: 1 << 20, ..Limits::default() };
    let listener = listen_as(How::Port, Protocol::Asap);
    let port = listener.local().port();
    let deaf = dial(Protocol::Asap, port, &THERE, &limits);
    let mut to_deaf = accept(&listener, &limits);
    let mut here = dial(Protocol::Asap, port, &THERE, &limits);
    let mut there = accept(&listener, &limits);
    there.echo = true;
    run(&mut [&mut here, &mut there, &mut to_deaf], |sides| sides[2].said("up Asap"));
    // Its window, the send buffer and half of the queue are full.
    while to_deaf.connection.queued() < 500_000 {
        while to_deaf.connection.queued() < 600_000 {
            to_deaf.connection.send(Channel::Asap, vec![1; 50_000]);
        }
        for _ in 0..20 {
            to_deaf.step(0);
            std::thread::sleep(Duration::from_millis(10));
        }
    }
    let mut slowest = Duration::ZERO;
    for n in 1..=100 {
        here.connection.send(Channel::Asap, asap());
        let took = run(&mut [&mut here, &mut there, &mut to_deaf], |sides| sides[0].data.len() == n);
        slowest = slowest.max(took);
    }
    println!("beside a peer that does not read the slowest of 100 answers took {slowest:?}");
    assert!(to_deaf.connection.queued() >= 500_000 && !to_deaf.is_down());
    assert!(slowest < Duration::from_secs(1), "{slowest:?}");
    // More than it may have waiting ends its link, and no other.
    for _ in 0..20 {
        to_deaf.connection.send(Channel::Asap, vec![1; 50_000]);
    }
    run(&mut [&mut to_deaf], |sides| sides[0].said("down Congested"));
    here.connection.send(Channel::Asap, asap());
    run(&mut [&mut here, &mut there], |sides| sides[0].data.len() == 101);
    drop(deaf);
}

#[test]
#[ignore = "needs kernel SCTP and two hosts: make lab"]
fn a_port_serves_ipv6_ipv4_and_both_in_one_association() {
    let _alone = alone();
    let listener = elsewhere(|| {
        let any = SocketAddr::new(ip("::"), 0);
        Listener::bind_port(Protocol::Asap, any, &[], 8, &Limits::default()).unwrap()
    });
    for addresses in [&[THERE_6][..], &[THERE[0]], &[THERE[1], THERE_6]] {
        let mut here = dial(Protocol::Asap, listener.local().port(), addresses, &Limits::default());
        let mut there = accept(&listener, &Limits::default());
        there.echo = true;
        here.connection.send(Channel::Asap, asap());
        run(&mut [&mut here, &mut there], |sides| sides[0].data.len() == 1);
        assert!(here.peer.iter().any(|address| address.ip() == ip(addresses[0])), "{:?}", here.peer);
        println!("asked for {addresses:?}, has {:?}", here.peer);
    }
}
