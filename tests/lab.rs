//! What scenarios of the lab do that no program of ours does by itself, against the registrar at LAB_REGISTRAR, over SCTP.

mod carrier;

use asap::policy::Policy;
use asap::runtime::poller::poll;
use asap::types::{
    Addresses, PeId, PoolElement, PoolHandle, RegistrationLife, TransportAddress, TransportUse,
};
use asap::wire::{AsapMessage, Dialect, Registration};
use socket2::{Domain, Socket};
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::fd::AsRawFd;
use std::time::{Duration, Instant};

const PATIENCE: Duration = Duration::from_secs(60);

fn registrar() -> SocketAddr {
    let at = std::env::var("LAB_REGISTRAR").expect("LAB_REGISTRAR, as the scenario sets it");
    at.parse().expect("an address and a port")
}

fn handle() -> PoolHandle {
    PoolHandle::new(b"Storm").unwrap()
}

fn encoded(message: &AsapMessage) -> Vec<u8> {
    message.encode(Dialect::Rfc).unwrap()
}

fn read(stream: &mut impl Read) -> AsapMessage {
    let mut buffer = [0; 4_096];
    let len = stream.read(&mut buffer).unwrap();
    assert!(len > 0, "the registrar has ended the association");
    AsapMessage::decode(&buffer[..len], Dialect::Rfc).unwrap().message
}

/// An element whose association must live on; answers one keep-alive.
struct Element {
    stream: TcpStream,
}

impl Element {
    fn register() -> Element {
        let mut stream = carrier::dial(registrar(), carrier::ASAP);
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        let (port, transport_use) = (7, TransportUse::DataOnly);
        let addresses = Addresses::from(stream.local_addr().unwrap().ip());
        let element = PoolElement {
            id: PeId(7),
            home: None,
            life: RegistrationLife::Seconds(300),
            user_transport: TransportAddress::Sctp { port, transport_use, addresses },
            policy: Policy::ROUND_ROBIN,
            asap_transport: None,
            capabilities: None,
        };
        let registration = AsapMessage::Registration(Registration { handle: handle(), element });
        stream.write_all(&encoded(&registration)).unwrap();
        let answer = read(&mut stream);
        let AsapMessage::RegistrationResponse { reject: false, .. } = answer else { panic!("{answer:?}") };
        Element { stream }
    }

    /// Acknowledges keep-alives until the other end has gone.
    fn live(mut self) {
        std::thread::spawn(move || {
            let mut buffer = [0; 4_096];
            while let Ok(1..) = self.stream.read(&mut buffer) {
                let ack = AsapMessage::KeepAliveAck { handle: handle(), element: PeId(7) };
                if self.stream.write_all(&encoded(&ack)).is_err() {
                    break;
                }
            }
        });
    }
}

/// An association that asks.
struct User {
    socket: Socket,
    asked: bool,
    answered: bool,
}

/// Has all of them ask as soon as they can, and waits for the answers.
fn ask_all(users: &mut [User], question: &[u8]) -> Duration {
    let begun = Instant::now();
    for user in users.iter_mut() {
        (user.asked, user.answered) = (false, false);
    }
    loop {
        let mut entries = Vec::new();
        for user in users.iter().filter(|user| !user.answered) {
            let events = if user.asked { libc::POLLIN } else { libc::POLLOUT };
            entries.push(libc::pollfd { fd: user.socket.as_raw_fd(), events, revents: 0 });
        }
        if entries.is_empty() {
            return begun.elapsed();
        }
        assert!(begun.elapsed() < PATIENCE, "{} of {} have no answer", entries.len(), users.len());
        poll(&mut entries, Some(Duration::from_secs(1))).unwrap();
        let waiting = users.iter_mut().filter(|user| !user.answered);
        for (user, _) in waiting.zip(&entries).filter(|(_, entry)| entry.revents != 0) {
            if user.asked {
                let answer = read(&mut user.socket);
                let AsapMessage::HandleResolutionResponse { error: None, elements, .. } = answer else {
                    panic!("{answer:?}")
                };
                assert_eq!(elements.len(), 1);
                user.answered = true;
            } else {
                user.socket.write_all(question).expect("an association that is up");
                user.asked = true;
            }
        }
    }
}

#[test]
#[ignore = "needs kernel SCTP and a registrar: make lab"]
fn associations_that_resolve_in_the_same_instant_are_all_answered() {
    let count: usize = std::env::var("LAB_STORM").expect("LAB_STORM, how many").parse().unwrap();
    Element::register().live();
    let (subscribe, items, capabilities) = (false, None, None);
    let question =
        encoded(&AsapMessage::HandleResolution { subscribe, handle: handle(), items, capabilities });
    let begun = Instant::now();
    let to = registrar();
    let mut users: Vec<User> = (0..count)
        .map(|_| {
            let socket = carrier::socket(Domain::for_address(to), carrier::ASAP);
            socket.set_nonblocking(true).unwrap();
            let connecting = socket.connect(&to.into()).unwrap_err();
            assert_eq!(connecting.raw_os_error(), Some(libc::EINPROGRESS));
            User { socket, asked: false, answered: false }
        })
        .collect();
    ask_all(&mut users, &question);
    let connected = begun.elapsed();
    let asked = ask_all(&mut users, &question);
    println!(
        "result: {count} associations opened at once and answered after {:.2} s, then all asking at once: {:.2} s; none aborted",
        connected.as_secs_f64(),
        asked.as_secs_f64()
    );
}

#[test]
#[ignore = "needs kernel SCTP and a registrar: make lab"]
fn a_message_of_an_unknown_type_is_answered_by_an_error() {
    let mut stream = carrier::dial(registrar(), carrier::ASAP);
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    // RFC 5352 2.2: the two highest bits say that it is to be reported.
    stream.write_all(b"\x4f\0\0\x09\0\x09\0\x05a\0\0\0").unwrap();
    let answer = read(&mut stream);
    assert!(matches!(answer, AsapMessage::Error(_)), "{answer:?}");
}

#[test]
#[ignore = "needs kernel SCTP and a registrar: make lab"]
fn garbage_is_one_bad_message_and_the_link_lives_on() {
    let mut stream = carrier::dial(registrar(), carrier::ASAP);
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    // Boundaries are SCTP's: no length in a message can lose the next one.
    for garbage in [&[0; 64][..], b"\x05", b"\x05\0\xff\xff"] {
        stream.write_all(garbage).unwrap();
    }
    let (handle, items, capabilities) = (PoolHandle::new(b"Nobody").unwrap(), None, None);
    let question = AsapMessage::HandleResolution { subscribe: false, handle, items, capabilities };
    stream.write_all(&encoded(&question)).unwrap();
    loop {
        match read(&mut stream) {
            AsapMessage::Error(_) => {}
            AsapMessage::HandleResolutionResponse { .. } => break,
            other => panic!("{other:?}"),
        }
    }
}
