//! The driver with a small machine, over loopback. One test at a time: they count the process's descriptors
//! and change its limits.

mod carrier;

use asap::config::Limits;
use asap::machine::{
    Audience, Channel, Destination, Effect, Input, LinkFailure, LinkId, LinkKind, Machine, Protocol,
};
use asap::runtime::driver::{Driver, DriverConfig, Remote, Thread, spawn};
use asap::runtime::multicast::{Group, Multicast};
use asap::runtime::poller::PollPoller;
use asap::types::Time;
use carrier::{carrier, dial};
use std::collections::VecDeque;
use std::io::{Read, Write};
use std::net::{IpAddr, Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Mutex, MutexGuard};
use std::time::{Duration, Instant};

const LOCALHOST: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);
const PATIENCE: Duration = Duration::from_secs(30);

static ALONE: Mutex<()> = Mutex::new(());

fn alone() -> MutexGuard<'static, ()> {
    ALONE.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
}

/// What the machine tells.
#[derive(Debug, PartialEq)]
enum Event {
    Up(LinkId),
    Down(LinkId, LinkFailure),
    Message(LinkId, Vec<u8>),
    Heard(Vec<u8>),
    Timeout,
}

/// Sends back every message on links that others opened; tells everything.
#[derive(Default)]
struct Echo {
    effects: VecDeque<Effect>,
    events: VecDeque<Event>,
    timeout: Option<Time>,
    outgoing: u64,
}

impl Echo {
    fn connect(&mut self, to: SocketAddr) -> LinkId {
        let link = LinkId::outgoing(self.outgoing);
        self.outgoing += 1;
        let (kind, protocol) = (carrier(), Protocol::Asap);
        let to = Destination { kind, protocol, port: to.port(), addresses: to.ip().into() };
        self.effects.push_back(Effect::Connect { link, to });
        link
    }

    fn send(&mut self, link: LinkId, bytes: &[u8]) {
        self.effects.push_back(Effect::Send { link, channel: Channel::Asap, bytes: bytes.to_vec() });
    }
}

impl Machine for Echo {
    type Event = Event;

    fn handle(&mut self, now: Time, input: Input<'_>) {
        match input {
            Input::Incoming { .. } | Input::Writable { .. } | Input::SendFailed { .. } => {}
            Input::LinkUp { link, local, peer, .. } => {
                assert!(local.iter().chain(peer).all(|address| address.ip().is_loopback()));
                self.events.push_back(Event::Up(link));
            }
            Input::LinkDown { link, why } => self.events.push_back(Event::Down(link, why)),
            Input::Message { link, bytes, .. } if link.is_incoming() => match bytes.first() {
                Some(0xff) => self.effects.push_back(Effect::Close { link, abort: false }),
                _ => self.send(link, bytes),
            },
            Input::Message { link, bytes, .. } => {
                self.events.push_back(Event::Message(link, bytes.to_vec()));
            }
            Input::Announce { bytes, .. } => self.events.push_back(Event::Heard(bytes.to_vec())),
            Input::Timeout => {
                if self.timeout.is_some_and(|at| at <= now) {
                    self.timeout = None;
                    self.events.push_back(Event::Timeout);
                }
            }
        }
    }

    fn poll_effect(&mut self) -> Option<Effect> {
        self.effects.pop_front()
    }

    fn poll_event(&mut self) -> Option<Event> {
        self.events.pop_front()
    }

    fn poll_timeout(&self) -> Option<Time> {
        self.timeout
    }
}

struct Running {
    remote: Remote<Echo>,
    thread: Thread,
    at: SocketAddr,
    events: Receiver<Event>,
}

fn start(limits: Limits, multicast: Option<Multicast>) -> Running {
    let listeners = vec![(carrier(), Protocol::Asap, SocketAddr::new(LOCALHOST, 0))];
    let config = DriverConfig { listeners, multicast, limits };
    let driver = Driver::new(Echo::default(), Box::new(PollPoller::default()), config).unwrap();
    let (remote, at) = (driver.remote(), driver.local_addresses()[0]);
    let (sender, events): (Sender<Event>, _) = channel();
    let thread = spawn(driver, "echo", move |_: &mut Echo, _, event| {
        let _ = sender.send(event);
    })
    .unwrap();
    Running { remote, thread, at, events }
}

impl Running {
    fn next(&self) -> Event {
        self.events.recv_timeout(PATIENCE).expect("an event")
    }

    fn call<T: Send + 'static>(&self, command: impl FnOnce(&mut Echo, Time) -> T + Send + 'static) -> T {
        let (sender, receiver) = channel();
        assert!(self.remote.call(Box::new(move |echo, now| {
            let _ = sender.send(command(echo, now));
        })));
        receiver.recv_timeout(PATIENCE).expect("the command's result")
    }

    fn stop(self) {
        self.remote.stop();
        self.thread.join().unwrap();
        assert!(!self.remote.call(Box::new(|_, _| ())));
    }
}

fn descriptors() -> usize {
    std::fs::read_dir("/proc/self/fd").unwrap().count()
}

/// A message of `len` bytes in all that carries `tag`.
fn message(tag: u32, len: usize) -> Vec<u8> {
    let mut message = vec![1, 0];
    message.extend((len as u16).to_be_bytes());
    message.extend(tag.to_be_bytes());
    message.resize(len, 7);
    message
}

#[test]
fn thousand_tcp_links_echo_and_nothing_is_left_behind() {
    let _alone = alone();
    let before = descriptors();
    let server = start(Limits::default(), None);
    let client = start(Limits::default(), None);
    let at = server.at;
    let begun = Instant::now();
    client.call(move |echo, _| {
        for _ in 0..1_000 {
            echo.connect(at);
        }
    });
    let mut up = 0;
    while up < 1_000 {
        match client.next() {
            Event::Up(link) => {
                up += 1;
                client.remote.call(Box::new(move |echo, _| {
                    for tag in 0..10 {
                        echo.send(link, &message(tag, 100));
                    }
                }));
            }
            Event::Message(..) => panic!("more answers than questions"),
            other => panic!("{other:?}"),
        }
        if up == 500 {
            // Half of them answer while the other half is being opened.
            break;
        }
    }
    let mut answers = 0;
    while answers < 10_000 {
        match client.next() {
            Event::Up(link) => {
                client.remote.call(Box::new(move |echo, _| {
                    (0..10).for_each(|tag| echo.send(link, &message(tag, 100)));
                }));
            }
            Event::Message(_, bytes) => {
                assert_eq!(bytes.len(), 100);
                answers += 1;
            }
            other => panic!("{other:?}"),
        }
    }
    println!("1,000 links, 10,000 echoes: {:?}", begun.elapsed());
    client.stop();
    // The server hears of the end of each.
    let mut closed = 0;
    while closed < 1_000 {
        if let Event::Down(_, why) = server.next() {
            assert_eq!(why, LinkFailure::Closed);
            closed += 1;
        }
    }
    server.stop();
    assert_eq!(descriptors(), before);
}

#[test]
fn commands_from_many_threads_all_run_in_order_of_each_thread() {
    let _alone = alone();
    let echo = start(Limits::default(), None);
    let (sender, receiver) = channel();
    std::thread::scope(|scope| {
        for thread in 0..8 {
            let (remote, sender) = (echo.remote.clone(), sender.clone());
            scope.spawn(move || {
                for n in 0..1_000 {
                    let sender = sender.clone();
                    assert!(remote.call(Box::new(move |_, _| sender.send((thread, n)).unwrap())));
                }
            });
        }
    });
    drop(sender);
    let mut next = [0; 8];
    for _ in 0..8_000 {
        let (thread, n): (usize, usize) = receiver.recv_timeout(PATIENCE).unwrap();
        assert_eq!(next[thread], n);
        next[thread] += 1;
    }
    echo.stop();
}

#[test]
fn timeouts_come_when_asked_for() {
    let _alone = alone();
    let echo = start(Limits::default(), None);
    let begun = Instant::now();
    echo.call(|echo, now| echo.timeout = Some(now + Duration::from_millis(50)));
    assert_eq!(echo.next(), Event::Timeout);
    assert!(begun.elapsed() >= Duration::from_millis(50));
    echo.stop();
}

#[test]
fn refused_connection_is_told() {
    let _alone = alone();
    let echo = start(Limits::default(), None);
    let nobody = TcpListener::bind((LOCALHOST, 0)).unwrap().local_addr().unwrap();
    let link = echo.call(move |echo, _| echo.connect(nobody));
    assert_eq!(echo.next(), Event::Down(link, LinkFailure::Refused));
    echo.stop();
}

#[test]
fn half_closed_tcp_client_gets_its_answer() {
    let _alone = alone();
    let echo = start(Limits::default(), None);
    let mut stream = dial(echo.at, carrier::ASAP);
    stream.write_all(&message(1, 60_000)).unwrap();
    stream.shutdown(Shutdown::Write).unwrap();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).unwrap();
    assert_eq!(answer, message(1, 60_000));
    echo.stop();
}

#[test]
fn link_closed_by_the_machine_delivers_what_was_sent_and_nothing_follows() {
    let _alone = alone();
    let echo = start(Limits::default(), None);
    let mut stream = dial(echo.at, carrier::ASAP);
    for bytes in [message(1, 8), vec![0xff, 0, 0, 4]] {
        stream.write_all(&bytes).unwrap();
    }
    // Too late, perhaps even to be sent.
    let _ = stream.write_all(&message(2, 8));
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).unwrap();
    assert_eq!(answer, message(1, 8));
    drop(stream);
    // The machine was not told of a link it had closed.
    assert!(matches!(echo.next(), Event::Up(_)));
    echo.call(|_, _| ());
    assert!(echo.events.try_recv().is_err());
    echo.stop();
}

#[test]
fn busy_link_does_not_starve_the_others() {
    let _alone = alone();
    let echo = start(Limits { queued_bytes_per_link: 64 << 20, ..Limits::default() }, None);
    let mut busy = dial(echo.at, carrier::ASAP);
    let (messages, at_once) = if carrier() == LinkKind::Sctp { (20_000, 1) } else { (100_000, 1_000) };
    let flood = message(0, 8).repeat(at_once);
    let mut reader = busy.try_clone().unwrap();
    let drain = std::thread::spawn(move || {
        let mut all = vec![0; messages * 8];
        reader.read_exact(&mut all).unwrap();
    });
    let writer = std::thread::spawn(move || {
        (0..messages / at_once).for_each(|_| busy.write_all(&flood).unwrap());
    });
    let mut quiet = dial(echo.at, carrier::ASAP);
    let mut answer = [0; 8];
    let begun = Instant::now();
    let mut worst = Duration::ZERO;
    for _ in 0..20 {
        let asked = Instant::now();
        quiet.write_all(&message(9, 8)).unwrap();
        quiet.read_exact(&mut answer).unwrap();
        worst = worst.max(asked.elapsed());
    }
    println!("20 echoes beside a flood: {:?}, the slowest {worst:?}", begun.elapsed());
    writer.join().unwrap();
    drain.join().unwrap();
    assert!(worst < Duration::from_secs(2));
    echo.stop();
}

#[test]
fn garbage_on_tcp_ends_one_link_and_no_other() {
    let _alone = alone();
    let echo = start(Limits::default(), None);
    let mut good = dial(echo.at, carrier::ASAP);
    let mut bad = dial(echo.at, carrier::ASAP);
    bad.write_all(&[0; 64]).unwrap();
    assert_eq!(bad.read(&mut [0; 8]).unwrap_or(0), 0);
    good.write_all(&message(3, 16)).unwrap();
    let mut answer = [0; 16];
    good.read_exact(&mut answer).unwrap();
    echo.stop();
}

#[test]
fn links_beyond_the_limit_are_refused_and_room_comes_back() {
    let _alone = alone();
    let echo = start(Limits { links: 2, ..Limits::default() }, None);
    let exchange = |stream: &mut TcpStream| {
        let mut answer = [0; 8];
        stream.write_all(&message(1, 8)).and_then(|()| stream.read_exact(&mut answer)).is_ok()
    };
    let mut streams: Vec<_> = (0..2).map(|_| dial(echo.at, carrier::ASAP)).collect();
    assert!(streams.iter_mut().all(exchange));
    assert!(!exchange(&mut dial(echo.at, carrier::ASAP)));
    drop(streams);
    let limit = Instant::now() + PATIENCE;
    while !exchange(&mut dial(echo.at, carrier::ASAP)) {
        assert!(Instant::now() < limit, "no room came back");
    }
    echo.stop();
}

#[test]
fn panicking_machine_is_dead_and_nothing_else() {
    let _alone = alone();
    let before = descriptors();
    let echo = start(Limits::default(), None);
    let mut stream = dial(echo.at, carrier::ASAP);
    assert!(echo.remote.call(Box::new(|_, _| panic!("as this test wants it"))));
    let Running { remote, thread, .. } = echo;
    assert!(thread.join().is_err());
    assert!(!remote.call(Box::new(|_, _| ())));
    assert_eq!(stream.read(&mut [0; 8]).unwrap_or(0), 0);
    drop((stream, remote));
    assert_eq!(descriptors(), before);
}

#[test]
fn without_descriptors_accepting_pauses_and_goes_on() {
    let _alone = alone();
    let echo = start(Limits::default(), None);
    let mut streams: Vec<_> = (0..4).map(|_| dial(echo.at, carrier::ASAP)).collect();
    let all_up = (0..4).all(|_| matches!(echo.next(), Event::Up(_)));
    assert!(all_up);
    let late_socket = carrier::socket(socket2::Domain::IPV4, carrier::ASAP);
    let mut old = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: `old` is a valid rlimit for both calls.
    unsafe {
        assert_eq!(libc::getrlimit(libc::RLIMIT_NOFILE, &mut old), 0);
        let few = libc::rlimit { rlim_cur: descriptors() as u64 + 32, ..old };
        assert_eq!(libc::setrlimit(libc::RLIMIT_NOFILE, &few), 0);
    }
    let hoard: Vec<_> = std::iter::from_fn(|| std::fs::File::open("/dev/null").ok()).collect();
    assert!(!hoard.is_empty());
    late_socket.connect(&echo.at.into()).unwrap();
    // Those that are there are served meanwhile, and the loop does not spin: it is asleep most of the time.
    let cpu = thread_cpu(&echo);
    let until = Instant::now() + Duration::from_millis(300);
    let mut answer = [0; 8];
    while Instant::now() < until {
        streams[0].write_all(&message(1, 8)).unwrap();
        streams[0].read_exact(&mut answer).unwrap();
        assert!(echo.events.recv_timeout(Duration::from_millis(50)).is_err());
    }
    let used = thread_cpu(&echo) - cpu;
    // SAFETY: `old` is a valid rlimit.
    assert_eq!(unsafe { libc::setrlimit(libc::RLIMIT_NOFILE, &old) }, 0);
    assert!(used < Duration::from_millis(150), "{used:?} of 300 ms spent waiting");
    assert!(matches!(echo.next(), Event::Up(_)));
    let mut late = TcpStream::from(late_socket);
    late.write_all(&message(1, 8)).unwrap();
    late.read_exact(&mut answer).unwrap();
    echo.stop();
}

/// Processor time the driver's thread has used.
fn thread_cpu(echo: &Running) -> Duration {
    echo.call(|_, _| {
        let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
        // SAFETY: `time` is a valid timespec.
        assert_eq!(unsafe { libc::clock_gettime(libc::CLOCK_THREAD_CPUTIME_ID, &mut time) }, 0);
        Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
    })
}

#[test]
fn the_thread_takes_no_signals() {
    let _alone = alone();
    let echo = start(Limits::default(), None);
    let blocked = echo.call(|_, _| {
        let mut set = std::mem::MaybeUninit::uninit();
        // SAFETY: pthread_sigmask fills the set when it succeeds; nothing is changed.
        unsafe {
            assert_eq!(libc::pthread_sigmask(libc::SIG_BLOCK, std::ptr::null(), set.as_mut_ptr()), 0);
            let set = set.assume_init();
            [libc::SIGTERM, libc::SIGINT, libc::SIGUSR1].map(|signal| libc::sigismember(&set, signal))
        }
    });
    assert_eq!(blocked, [1; 3]);
    // SAFETY: as above, for this thread.
    let own = unsafe {
        let mut set = std::mem::MaybeUninit::uninit();
        assert_eq!(libc::pthread_sigmask(libc::SIG_BLOCK, std::ptr::null(), set.as_mut_ptr()), 0);
        libc::sigismember(&set.assume_init(), libc::SIGTERM)
    };
    assert_eq!(own, 0);
    echo.stop();
}

#[test]
fn announcements_go_out_and_come_in() {
    let _alone = alone();
    let port = UdpSocket::bind((LOCALHOST, 0)).unwrap().local_addr().unwrap().port();
    let groups = vec![Group {
        protocol: Protocol::Enrp,
        audience: Audience::Standard,
        address: SocketAddr::from(([224, 0, 1, 185], port)),
    }];
    let multicast = Multicast { groups, hear: true, loopback: true };
    let hears = start(Limits::default(), Some(multicast.clone()));
    let speaks = start(Limits::default(), Some(Multicast { hear: false, ..multicast }));
    speaks.call(|echo, _| {
        for (protocol, said) in
            [(Protocol::Asap, "to a group that is not there"), (Protocol::Enrp, "announce")]
        {
            let audience = Audience::Standard;
            echo.effects.push_back(Effect::Announce { protocol, audience, bytes: said.into() });
        }
    });
    assert_eq!(hears.next(), Event::Heard(b"announce".to_vec()));
    hears.stop();
    speaks.stop();
}

#[test]
fn stop_delivers_what_is_queued() {
    let _alone = alone();
    let echo = start(Limits::default(), None);
    let mut stream = dial(echo.at, carrier::ASAP);
    let Event::Up(link) = echo.next() else { panic!("not up") };
    echo.call(move |echo, _| (0..50).for_each(|tag| echo.send(link, &message(tag, 60_000))));
    let reader = std::thread::spawn(move || {
        let mut all = Vec::new();
        stream.read_to_end(&mut all).map(|_| all.len())
    });
    echo.stop();
    assert_eq!(reader.join().unwrap().unwrap(), 3_000_000);
}
