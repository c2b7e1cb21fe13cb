//! Sockets over loopback with a registrar in this process: what a program sees of connecting, failing over, accepting, polling,
//! forking. Tests run one at a time: some count the descriptors of the process, some fork.

mod carrier;

use asap::config::{Limits, Profile, RegistrarConfig};
use asap::machine::{LinkKind, Protocol};
use asap::policy::{Policy, PolicyType};
use asap::registrar::{Registrar, Setup};
use asap::runtime::driver::{self, Driver, DriverConfig, Remote, Thread};
use asap::runtime::listener::has_sctp;
use asap::runtime::poller::PollPoller;
use asap::socket::{
    self, Change, Context, Incoming, Kind, Notification, Options, Outgoing, SocketOptions, Wait,
};
use asap::types::{PeId, PoolHandle, ServerId, TransportAddress, TransportUse};
use carrier::carrier;
use std::net::SocketAddr;
use std::os::fd::RawFd;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant};

const PATIENCE: Wait = Wait::For(Duration::from_secs(20));
const SHORT: Wait = Wait::For(Duration::from_millis(30));

static ALONE: Mutex<()> = Mutex::new(());

fn alone() -> MutexGuard<'static, ()> {
    let _ = env_logger::builder().is_test(true).try_init();
    ALONE.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
}

/// A registrar of its own thread.
struct Registry {
    at: SocketAddr,
    remote: Remote<Registrar>,
    thread: Option<Thread>,
}

impl Registry {
    fn start() -> Registry {
        let local: SocketAddr = "127.0.0.1:0".parse().unwrap();
        let limits = Limits::default();
        let (port, transport_use) = (3863, TransportUse::DataOnly);
        let transport = match carrier() {
            LinkKind::Sctp => TransportAddress::Sctp { port, transport_use, addresses: local.ip().into() },
            _ => TransportAddress::Tcp { port, transport_use, address: local.ip() },
        };
        let registrar = Registrar::new(
            RegistrarConfig::new(Profile::Lan),
            limits.clone(),
            7,
            Setup {
                id: ServerId::new(1).unwrap(),
                asap: vec![transport],
                enrp: Vec::new(),
                announce: false,
                peers: Vec::new(),
            },
        );
        let config =
            DriverConfig { listeners: vec![(carrier(), Protocol::Asap, local)], multicast: None, limits };
        let driver = Driver::new(registrar, Box::new(PollPoller::default()), config).unwrap();
        let at = driver.local_addresses()[0];
        let remote = driver.remote();
        let thread = driver::spawn(driver, "registrar", |_, _, _| ()).unwrap();
        Registry { at, remote, thread: Some(thread) }
    }

    fn options(&self) -> Options {
        Options { registrars: vec![vec![self.at]], no_announcements: true, ..Options::default() }
    }

    fn context(&self) -> Context {
        Context::start(&self.options()).unwrap()
    }
}

impl Drop for Registry {
    fn drop(&mut self) {
        self.remote.stop();
        if let Some(thread) = self.thread.take() {
            thread.join().unwrap();
        }
    }
}

fn pool(name: &str) -> PoolHandle {
    PoolHandle::new(name.as_bytes()).unwrap()
}

fn text(sd: RawFd, message: &str) -> socket::Result<usize> {
    socket::send(sd, message.as_bytes(), &Outgoing::default(), PATIENCE)
}

fn to_session(session: u32) -> Outgoing {
    Outgoing { session, ..Outgoing::default() }
}

/// What comes next: data as text.
#[derive(Debug, PartialEq)]
enum Got {
    Text(u32, String),
    Cookie(u32, String),
    Note(Notification),
    End,
}

fn receive(sd: RawFd, wait: Wait) -> socket::Result<Got> {
    let mut buffer = vec![0; 70_000];
    Ok(match socket::receive(sd, &mut buffer, false, wait)? {
        Incoming::Data { bytes, session, .. } => {
            Got::Text(session, String::from_utf8_lossy(&buffer[..bytes]).into_owned())
        }
        Incoming::CookieEcho { bytes, session } => {
            Got::Cookie(session, String::from_utf8_lossy(&buffer[..bytes]).into_owned())
        }
        Incoming::Notification(note) => Got::Note(note),
        Incoming::End => Got::End,
        other => panic!("{other:?}"),
    })
}

fn reply(sd: RawFd) -> String {
    match receive(sd, PATIENCE).unwrap() {
        Got::Text(_, text) => text,
        other => panic!("{other:?}"),
    }
}

/// An element in a context of its own that answers "name:message", gives its state (what came so far) as cookie, and goes on from
/// a cookie that comes back. `die` closes its connections without a word, as the kernel does for a killed process.
struct Server {
    name: String,
    id: PeId,
    sd: RawFd,
    context: Context,
    stop: Arc<AtomicBool>,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl Server {
    fn start(registry: &Registry, handle: &PoolHandle, name: &str) -> Server {
        let context = registry.context();
        let sd = context.socket(0, Kind::SeqPacket, 0).unwrap();
        let policy = Policy::ROUND_ROBIN;
        let id =
            socket::register(sd, handle, &policy, Duration::from_secs(30), None, true, PATIENCE).unwrap();
        let stop = Arc::new(AtomicBool::new(false));
        let (told, own) = (stop.clone(), name.to_owned());
        let thread = std::thread::spawn(move || serve(sd, &own, &told));
        Server { name: name.to_owned(), id, sd, context, stop, thread: Some(thread) }
    }

    /// As if the process had been killed: every connection ends without the end of the session.
    fn die(mut self) {
        self.stop.store(true, Ordering::SeqCst);
        self.thread.take().unwrap().join().unwrap();
        let sessions: Vec<u32> = (1..4096).collect();
        for session in sessions {
            let how = Outgoing { session, abort: true, ..Outgoing::default() };
            let _ = socket::send(self.sd, &[], &how, Wait::No);
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::SeqCst);
        if let Some(thread) = self.thread.take() {
            thread.join().unwrap();
        }
        self.context.close();
    }
}

fn serve(sd: RawFd, name: &str, stop: &AtomicBool) {
    let mut state = std::collections::BTreeMap::<u32, String>::new();
    while !stop.load(Ordering::SeqCst) {
        match receive(sd, SHORT) {
            Ok(Got::Text(session, text)) => {
                let all = state.entry(session).or_default();
                all.push_str(&text);
                let _ = socket::send_cookie(sd, all.as_bytes(), session, PATIENCE);
                let answer = format!("{name}:{all}");
                let _ = socket::send(sd, answer.as_bytes(), &to_session(session), PATIENCE);
            }
            Ok(Got::Cookie(session, cookie)) => {
                state.insert(session, cookie);
            }
            Ok(Got::Note(Notification::SessionAdd { session } | Notification::SessionRemove { session })) => {
                state.remove(&session);
            }
            Ok(Got::Note(_)) => {}
            Ok(Got::End) => return,
            Err(e) if e.errno == libc::EAGAIN => {}
            Err(e) if e.errno == libc::EBADF => return,
            Err(e) => panic!("{}", e.what),
        }
    }
}

fn until(what: &str, mut condition: impl FnMut() -> bool) {
    let start = Instant::now();
    while !condition() {
        assert!(start.elapsed() < Duration::from_secs(20), "{what} does not come about");
        std::thread::yield_now();
    }
}

fn readable(sd: RawFd, wait: Duration) -> bool {
    let mut fds = [libc::pollfd { fd: sd, events: libc::POLLIN, revents: 0 }];
    asap::runtime::readiness::wait(&mut fds, Some(wait)).unwrap() == 1
}

#[test]
fn a_client_talks_to_a_pool_and_both_sides_end_in_order() {
    let _alone = alone();
    let registry = Registry::start();
    let handle = pool("Echo");
    let context = registry.context();
    let element = context.socket(0, Kind::SeqPacket, 0).unwrap();
    let policy = Policy::ROUND_ROBIN;
    let id =
        socket::register(element, &handle, &policy, Duration::from_secs(30), Some(PeId(77)), true, PATIENCE);
    assert_eq!(id.unwrap(), PeId(77));
    assert_eq!(socket::local_name(element).unwrap(), (handle.clone(), PeId(77)));
    let user = context.socket(0, Kind::SeqPacket, 0).unwrap();
    socket::connect(user, &handle, Duration::ZERO, PATIENCE).unwrap();
    assert_eq!(socket::peer_name(user).unwrap(), (handle.clone(), Some(PeId(77))));
    assert_eq!(text(user, "hello").unwrap(), 5);
    assert_eq!(receive(element, PATIENCE).unwrap(), Got::Note(Notification::SessionAdd { session: 1 }));
    assert_eq!(receive(element, PATIENCE).unwrap(), Got::Text(1, "hello".into()));
    socket::send(element, b"world", &to_session(1), PATIENCE).unwrap();
    assert_eq!(receive(user, PATIENCE).unwrap(), Got::Text(1, "world".into()));
    socket::close(user).unwrap();
    assert_eq!(receive(element, PATIENCE).unwrap(), Got::Note(Notification::Shutdown { session: 1 }));
    assert_eq!(receive(element, PATIENCE).unwrap(), Got::Note(Notification::SessionRemove { session: 1 }));
    let gone = socket::send(element, b"?", &to_session(1), PATIENCE).unwrap_err();
    assert_eq!(gone.errno, libc::ENOTCONN, "{}", gone.what);
    socket::deregister(element, PATIENCE).unwrap();
    let e = context.resolve(&handle, None, Duration::ZERO, PATIENCE).unwrap_err();
    assert_eq!(e.errno, libc::ENOENT, "{}", e.what);
    context.close();
}

#[test]
fn the_application_moves_a_session_on_and_the_cookie_goes_along() {
    let _alone = alone();
    let registry = Registry::start();
    let handle = pool("Failover");
    let first = Server::start(&registry, &handle, "a");
    let second = Server::start(&registry, &handle, "b");
    let context = registry.context();
    let user = context.socket(0, Kind::SeqPacket, 0).unwrap();
    socket::connect(user, &handle, Duration::ZERO, PATIENCE).unwrap();
    text(user, "1").unwrap();
    let one = reply(user);
    assert!(socket::has_cookie(user).unwrap());
    let (present, other) = if one == "a:1" { (first, second) } else { (second, first) };
    let (failed, survivor) = (present.id, other.id);
    assert_eq!(socket::peer_name(user).unwrap().1, Some(failed));
    present.die();
    let necessary = Got::Note(Notification::FailoverNecessary { session: 1, has_cookie: true });
    assert_eq!(receive(user, PATIENCE).unwrap(), necessary);
    assert_eq!(receive(user, PATIENCE).unwrap(), necessary, "it is said until something is done about it");
    let e = text(user, "2").unwrap_err();
    assert_eq!(e.errno, libc::EPIPE, "{}", e.what);
    socket::force_failover(user, true, Duration::ZERO, PATIENCE).unwrap();
    let complete = Got::Note(Notification::FailoverComplete { session: 1, has_cookie: true });
    assert_eq!(receive(user, PATIENCE).unwrap(), complete);
    assert_eq!(socket::peer_name(user).unwrap().1, Some(survivor));
    text(user, "2").unwrap();
    assert_eq!(reply(user), format!("{}:12", other.name));
    context.close();
}

fn automatic(sd: RawFd) {
    let mut options: SocketOptions = socket::socket_options(sd).unwrap();
    options.session.automatic_failover = true;
    socket::set_socket_options(sd, &options).unwrap();
}

#[test]
fn a_session_moves_on_by_itself_and_the_callback_is_told() {
    let _alone = alone();
    let registry = Registry::start();
    let handle = pool("Automatic");
    let first = Server::start(&registry, &handle, "a");
    let second = Server::start(&registry, &handle, "b");
    let context = registry.context();
    let user = context.socket(0, Kind::SeqPacket, 0).unwrap();
    automatic(user);
    let told = Arc::new(Mutex::new(Vec::new()));
    let telling = told.clone();
    let callback: socket::FailoverCallback = Arc::new(move |sd, failover| {
        // It may call the library.
        assert!(socket::has_cookie(sd).unwrap());
        telling.lock().unwrap().push(*failover);
    });
    socket::set_failover_callback(user, Some(callback)).unwrap();
    socket::connect(user, &handle, Duration::ZERO, PATIENCE).unwrap();
    text(user, "1").unwrap();
    let (present, other) = if reply(user) == "a:1" { (first, second) } else { (second, first) };
    let failed = present.id;
    present.die();
    let necessary = Got::Note(Notification::FailoverNecessary { session: 1, has_cookie: true });
    let complete = Got::Note(Notification::FailoverComplete { session: 1, has_cookie: true });
    assert_eq!(receive(user, PATIENCE).unwrap(), necessary);
    assert_eq!(receive(user, PATIENCE).unwrap(), complete);
    text(user, "2").unwrap();
    assert_eq!(reply(user), format!("{}:12", other.name));
    let told = told.lock().unwrap();
    assert_eq!(told.len(), 1);
    assert_eq!((told[0].from, told[0].to, told[0].has_cookie), (Some(failed), other.id, true));
    println!("gap {:?}", told[0].gap);
    context.close();
}

#[test]
fn a_stream_element_accepts_and_a_stream_user_gets_no_notifications() {
    let _alone = alone();
    let registry = Registry::start();
    let handle = pool("Stream");
    let context = registry.context();
    let element = context.socket(libc::AF_INET, Kind::Stream, 0).unwrap();
    let early = socket::accept(element, Wait::No).unwrap_err();
    assert_eq!(early.errno, libc::EINVAL);
    let policy = Policy::ROUND_ROBIN;
    socket::register(element, &handle, &policy, Duration::from_secs(30), None, true, PATIENCE).unwrap();
    assert_eq!(socket::accept(element, SHORT).unwrap_err().errno, libc::EAGAIN);
    let user = context.socket(0, Kind::Stream, 0).unwrap();
    let accepting = std::thread::spawn(move || socket::accept(element, PATIENCE).unwrap());
    socket::connect(user, &handle, Duration::ZERO, PATIENCE).unwrap();
    let session = accepting.join().unwrap();
    text(user, "hello").unwrap();
    assert_eq!(reply(session), "hello");
    text(session, "world").unwrap();
    assert_eq!(reply(user), "world");
    socket::send_cookie(session, b"state", 0, PATIENCE).unwrap();
    socket::close(session).unwrap();
    assert_eq!(receive(user, PATIENCE).unwrap(), Got::End);
    assert_eq!(receive(user, PATIENCE).unwrap(), Got::End);
    assert_eq!(text(user, "?").unwrap_err().errno, libc::EPIPE);
    // A second session on the same socket; its element breaks it off.
    socket::connect(user, &handle, Duration::ZERO, PATIENCE).unwrap();
    let session = socket::accept(element, PATIENCE).unwrap();
    text(user, "hello").unwrap();
    assert_eq!(reply(session), "hello");
    let abort = Outgoing { abort: true, ..Outgoing::default() };
    socket::send(session, &[], &abort, PATIENCE).unwrap();
    let lost = receive(user, PATIENCE).unwrap_err();
    assert_eq!(lost.errno, libc::ECONNRESET, "{}", lost.what);
    context.close();
}

#[test]
fn the_descriptor_stays_the_same_for_epoll_poll_and_select_through_a_failover() {
    let _alone = alone();
    let registry = Registry::start();
    let handle = pool("Outer");
    let first = Server::start(&registry, &handle, "a");
    let second = Server::start(&registry, &handle, "b");
    let context = registry.context();
    let user = context.socket(0, Kind::SeqPacket, 0).unwrap();
    let outer = asap::runtime::readiness::ReadySet::new().unwrap();
    let read = asap::runtime::poller::Interest { read: true, write: false };
    outer.set(user, 5, read).unwrap();
    let long = Duration::from_secs(20);
    let quiet = |when: &str| {
        // Whatever is left over of earlier events may need calls that find nothing.
        until(when, || {
            let empty = matches!(receive(user, Wait::No), Err(e) if e.errno == libc::EAGAIN);
            empty && !readable(outer.fd(), Duration::ZERO) && !readable(user, Duration::ZERO)
        });
    };
    let wakes = |what: &str| {
        assert!(readable(outer.fd(), long), "outer epoll: {what}");
        assert!(readable(user, long), "poll: {what}");
        // SAFETY: the set is initialised by FD_ZERO and outlives the call.
        unsafe {
            let mut set = std::mem::zeroed::<libc::fd_set>();
            libc::FD_ZERO(&mut set);
            libc::FD_SET(user, &mut set);
            let mut none = libc::timeval { tv_sec: 0, tv_usec: 0 };
            let n = libc::select(user + 1, &mut set, std::ptr::null_mut(), std::ptr::null_mut(), &mut none);
            assert_eq!(n, 1, "select: {what}");
        }
        let mut tokens = Vec::new();
        outer.ready(&mut tokens);
        assert_eq!(tokens, [5]);
    };
    socket::connect(user, &handle, Duration::ZERO, PATIENCE).unwrap();
    quiet("rest after connecting");
    text(user, "1").unwrap();
    wakes("data");
    let (present, other) = if reply(user) == "a:1" { (first, second) } else { (second, first) };
    quiet("rest after data");
    present.die();
    wakes("failure");
    assert!(matches!(receive(user, PATIENCE).unwrap(), Got::Note(Notification::FailoverNecessary { .. })));
    wakes("failure is still there");
    socket::force_failover(user, false, Duration::ZERO, PATIENCE).unwrap();
    wakes("the failover is complete");
    assert!(matches!(receive(user, PATIENCE).unwrap(), Got::Note(Notification::FailoverComplete { .. })));
    quiet("rest after the failover");
    text(user, "2").unwrap();
    wakes("data of the new element");
    assert_eq!(reply(user), format!("{}:12", other.name));
    context.close();
}

#[test]
fn closing_wakes_a_blocked_call() {
    let _alone = alone();
    let registry = Registry::start();
    let handle = pool("Close");
    let server = Server::start(&registry, &handle, "a");
    let context = registry.context();
    let user = context.socket(0, Kind::SeqPacket, 0).unwrap();
    socket::connect(user, &handle, Duration::ZERO, PATIENCE).unwrap();
    let entered = Arc::new(AtomicUsize::new(0));
    let blocked: Vec<_> = (0..4)
        .map(|_| {
            let entered = entered.clone();
            std::thread::spawn(move || {
                entered.fetch_add(1, Ordering::SeqCst);
                receive(user, Wait::Forever)
            })
        })
        .collect();
    until("threads have started", || entered.load(Ordering::SeqCst) == 4);
    socket::close(user).unwrap();
    for thread in blocked {
        assert_eq!(thread.join().unwrap().unwrap_err().errno, libc::EBADF);
    }
    assert_eq!(socket::close(user).unwrap_err().errno, libc::EBADF);
    drop(server);
    context.close();
}

#[test]
fn errors_say_what_is_wrong() {
    let _alone = alone();
    let registry = Registry::start();
    let context = registry.context();
    let sd = context.socket(0, Kind::SeqPacket, 0).unwrap();
    fn errno<T: std::fmt::Debug>(result: socket::Result<T>) -> i32 {
        result.unwrap_err().errno
    }
    assert_eq!(errno(socket::connect(sd, &pool("Nobody"), Duration::ZERO, PATIENCE)), libc::ENOENT);
    assert_eq!(
        errno(socket::connect(sd, &pool(&"x".repeat(1025)), Duration::ZERO, PATIENCE)),
        libc::ENAMETOOLONG
    );
    assert_eq!(receive(sd, PATIENCE).unwrap_err().errno, libc::ENOTCONN);
    assert_eq!(text(sd, "?").unwrap_err().errno, libc::ENOTCONN);
    assert_eq!(errno(socket::force_failover(sd, false, Duration::ZERO, PATIENCE)), libc::ENOTCONN);
    assert_eq!(errno(socket::deregister(sd, PATIENCE)), libc::EINVAL);
    assert_eq!(errno(socket::close(12345)), libc::EBADF);
    assert_eq!(errno(socket::close(-1)), libc::EBADF);
    let sctp = context.socket(0, Kind::Stream, libc::IPPROTO_SCTP).err().map(|e| e.errno);
    assert_eq!(sctp, (!has_sctp()).then_some(libc::EPROTONOSUPPORT));
    assert_eq!(context.socket(0, Kind::Stream, libc::IPPROTO_ICMP).unwrap_err().errno, libc::EPROTONOSUPPORT);
    assert_eq!(context.socket(99, Kind::Stream, 0).unwrap_err().errno, libc::EAFNOSUPPORT);
    // A pool of another policy.
    let handle = pool("Policy");
    let first = context.socket(0, Kind::SeqPacket, 0).unwrap();
    let renewal = Duration::from_secs(30);
    socket::register(first, &handle, &Policy::ROUND_ROBIN, renewal, Some(PeId(1)), true, PATIENCE).unwrap();
    let refused =
        socket::register(sd, &handle, &Policy::new(PolicyType::Random, &[]), renewal, None, true, PATIENCE)
            .unwrap_err();
    assert_eq!(refused.errno, libc::EPROTOTYPE);
    assert!(refused.what.contains("policy"), "{}", refused.what);
    assert_eq!(errno(socket::local_name(sd).map(|_| ())), libc::EINVAL);
    let again = socket::bind(first, &[]).unwrap_err();
    assert_eq!(again.errno, libc::EINVAL);
    assert_eq!(errno(socket::connect(first, &handle, Duration::ZERO, PATIENCE)), libc::EOPNOTSUPP);
    // Nobody listens where this element says.
    let dead = context.socket(0, Kind::SeqPacket, 0).unwrap();
    socket::bind(dead, &["127.0.0.1:0".parse().unwrap()]).unwrap();
    let at = socket::local_address(dead).unwrap();
    socket::close(dead).unwrap();
    let ghost = asap::types::PoolElement {
        id: PeId(5),
        home: None,
        life: asap::types::RegistrationLife::Seconds(30),
        user_transport: TransportAddress::Tcp {
            port: at.port(),
            transport_use: TransportUse::DataOnly,
            address: at.ip(),
        },
        policy: Policy::ROUND_ROBIN,
        asap_transport: None,
        capabilities: None,
    };
    assert_eq!(context.register_element(&pool("Ghost"), ghost, PATIENCE).unwrap(), PeId(5));
    let user = context.socket(0, Kind::SeqPacket, 0).unwrap();
    let refused = socket::connect(user, &pool("Ghost"), Duration::ZERO, PATIENCE).unwrap_err();
    assert_eq!(refused.errno, libc::ECONNREFUSED, "{}", refused.what);
    context.deregister_element(&pool("Ghost"), PeId(5), PATIENCE).unwrap();
    context.close();
    assert_eq!(errno(socket::close(sd)), libc::EBADF, "closing the context closes its descriptors");
}

#[test]
fn without_registrar_the_error_names_what_was_tried() {
    let _alone = alone();
    let nobody = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let options = Options {
        registrars: vec![vec![nobody]],
        no_announcements: true,
        call_timeout: Some(Duration::from_millis(800)),
        ..Options::default()
    };
    let context = Context::start(&options).unwrap();
    let start = Instant::now();
    let failed = context.resolve(&pool("Any"), None, Duration::ZERO, Wait::Default).unwrap_err();
    assert_eq!(failed.errno, libc::EHOSTUNREACH, "{}", failed.what);
    assert!(failed.what.contains(&nobody.to_string()), "{}", failed.what);
    assert!(failed.what.contains("asap-registrar"), "{}", failed.what);
    let sd = context.socket(0, Kind::SeqPacket, 0).unwrap();
    let failed = socket::connect(sd, &pool("Any"), Duration::ZERO, Wait::Default).unwrap_err();
    assert_eq!(failed.errno, libc::EHOSTUNREACH, "{}", failed.what);
    assert!(failed.what.contains(&nobody.to_string()), "{}", failed.what);
    let renewal = Duration::from_secs(30);
    let failed = socket::register(sd, &pool("Any"), &Policy::ROUND_ROBIN, renewal, None, true, Wait::Default)
        .unwrap_err();
    assert_eq!(failed.errno, libc::EHOSTUNREACH, "{}", failed.what);
    println!("three calls without registrar: {:?}", start.elapsed());
    assert!(start.elapsed() < Duration::from_secs(12));
    context.close();
}

#[test]
fn a_watch_tells_each_change_once() {
    let _alone = alone();
    let registry = Registry::start();
    let handle = pool("Watched");
    let context = registry.context();
    let watch = context.watch(&handle).unwrap();
    assert_eq!(socket::next_change(watch, PATIENCE).unwrap(), Change::UpToDate);
    let server = Server::start(&registry, &handle, "a");
    assert!(readable(watch, Duration::from_secs(20)));
    match socket::next_change(watch, PATIENCE).unwrap() {
        Change::Added(element) => assert_eq!(element.id, server.id),
        other => panic!("{other:?}"),
    }
    let id = server.id;
    drop(server);
    assert_eq!(socket::next_change(watch, PATIENCE).unwrap(), Change::Removed(id));
    assert_eq!(socket::next_change(watch, SHORT).unwrap_err().errno, libc::EAGAIN);
    context.close();
}

#[test]
fn poll_translates_both_directions_and_takes_ordinary_descriptors() {
    let _alone = alone();
    let registry = Registry::start();
    let handle = pool("Poll");
    let server = Server::start(&registry, &handle, "a");
    let context = registry.context();
    let user = context.socket(0, Kind::SeqPacket, 0).unwrap();
    socket::connect(user, &handle, Duration::ZERO, PATIENCE).unwrap();
    let (mut near, far) = std::os::unix::net::UnixStream::pair().unwrap();
    use std::io::Write;
    use std::os::fd::AsRawFd;
    let entry = |fd, events| libc::pollfd { fd, events, revents: 0 };
    let mut fds = [entry(user, libc::POLLIN | libc::POLLOUT), entry(far.as_raw_fd(), libc::POLLIN)];
    assert_eq!(socket::poll(&mut fds, PATIENCE).unwrap(), 1);
    assert_eq!((fds[0].revents, fds[1].revents), (libc::POLLOUT, 0));
    fds[0].events = libc::POLLIN;
    assert_eq!(socket::poll(&mut fds, SHORT).unwrap(), 0);
    near.write_all(b"x").unwrap();
    assert_eq!(socket::poll(&mut fds, PATIENCE).unwrap(), 1);
    assert_eq!((fds[0].revents, fds[1].revents), (0, libc::POLLIN));
    text(user, "1").unwrap();
    until("both are readable", || {
        socket::poll(&mut fds, PATIENCE).unwrap();
        (fds[0].revents, fds[1].revents) == (libc::POLLIN, libc::POLLIN)
    });
    assert_eq!(reply(user), "a:1");
    drop(server);
    until("sending fails", || text(user, "2").is_err());
    // At once, so it can be done.
    fds[0].events = libc::POLLOUT;
    socket::poll(&mut fds, PATIENCE).unwrap();
    assert_eq!(fds[0].revents & libc::POLLOUT, libc::POLLOUT);
    context.close();
}

#[test]
fn a_sender_that_is_not_read_gets_eagain_and_is_woken_when_it_may_go_on() {
    let _alone = alone();
    let registry = Registry::start();
    let handle = pool("Full");
    let context = registry.context();
    let element = context.socket(0, Kind::Stream, 0).unwrap();
    let policy = Policy::ROUND_ROBIN;
    socket::register(element, &handle, &policy, Duration::from_secs(30), None, true, PATIENCE).unwrap();
    let user = context.socket(0, Kind::Stream, 0).unwrap();
    socket::connect(user, &handle, Duration::ZERO, PATIENCE).unwrap();
    let session = socket::accept(element, PATIENCE).unwrap();
    let message = vec![b'x'; 65_000];
    let mut sent = 0;
    loop {
        match socket::send(user, &message, &Outgoing::default(), Wait::No) {
            Ok(n) => {
                assert_eq!(n, message.len());
                sent += 1;
            }
            // The framing may still be agreed on.
            Err(e) if sent == 0 => {
                assert_eq!(e.errno, libc::EAGAIN);
                assert!(receive(session, Wait::No).is_err());
            }
            Err(e) => {
                assert_eq!(e.errno, libc::EAGAIN, "{}", e.what);
                break;
            }
        }
        assert!(sent < 100_000, "nothing holds the sender back");
    }
    assert!(!readable(user, Duration::ZERO));
    // The end of the last message is still with the sender.
    for _ in 0..sent - 1 {
        assert_eq!(reply(session).len(), message.len());
    }
    assert!(readable(user, Duration::from_secs(20)), "it may go on");
    assert_eq!(socket::send(user, &message, &Outgoing::default(), Wait::No).unwrap(), message.len());
    let closing = std::thread::spawn(move || socket::close(user));
    for _ in 0..2 {
        assert_eq!(reply(session).len(), message.len());
    }
    closing.join().unwrap().unwrap();
    assert_eq!(receive(session, PATIENCE).unwrap(), Got::End);
    context.close();
}

/// What the kernel may hold of a connection over loopback, at both ends.
fn kernel_holds() -> usize {
    let most = |name: &str| -> usize {
        let text = std::fs::read_to_string(format!("/proc/sys/net/ipv4/{name}")).unwrap();
        text.split_whitespace().nth(2).unwrap().parse().unwrap()
    };
    most("tcp_wmem") + most("tcp_rmem")
}

/// A message of 64 KiB with a number.
fn numbered(n: usize) -> Vec<u8> {
    let mut message = vec![b'x'; 65_536];
    message[..8].copy_from_slice(&(n as u64).to_be_bytes());
    message
}

fn number(message: &[u8]) -> usize {
    u64::from_be_bytes(message[..8].try_into().unwrap()) as usize
}

#[test]
fn a_steady_stream_of_big_messages_is_held_back_and_none_is_lost() {
    let _alone = alone();
    let registry = Registry::start();
    let handle = pool("Stream");
    let contexts = [registry.context(), registry.context()];
    let element = contexts[0].socket(0, Kind::SeqPacket, 0).unwrap();
    let policy = Policy::ROUND_ROBIN;
    socket::register(element, &handle, &policy, Duration::from_secs(30), None, true, PATIENCE).unwrap();
    let user = contexts[1].socket(0, Kind::SeqPacket, 0).unwrap();
    automatic(user);
    socket::connect(user, &handle, Duration::ZERO, PATIENCE).unwrap();
    let limits = Limits::default();
    let most = kernel_holds() + limits.queued_bytes_per_link + 65_536;
    let count = (3 * most / 65_536).min(4_000);
    // The echo element reads nothing until the user is held back, and then as fast as it gets rid of its answers.
    let (go, gone) = std::sync::mpsc::channel();
    let taken = Arc::new(AtomicUsize::new(0));
    let taking = taken.clone();
    let echo = std::thread::spawn(move || {
        gone.recv().unwrap();
        let mut buffer = vec![0; 70_000];
        while taking.load(Ordering::SeqCst) < count {
            match socket::receive(element, &mut buffer, false, PATIENCE).unwrap() {
                Incoming::Data { bytes, session, .. } => {
                    assert_eq!(bytes, 65_536);
                    taking.fetch_add(1, Ordering::SeqCst);
                    socket::send(element, &buffer[..bytes], &to_session(session), PATIENCE).unwrap();
                }
                Incoming::Notification(Notification::SessionAdd { .. }) => {}
                other => panic!("{other:?}"),
            }
        }
    });
    let (mut sent, mut back, mut full, mut held) = (0, 0, 0, 0);
    let mut buffer = vec![0; 70_000];
    while back < count {
        let mut refused = sent == count;
        if sent < count {
            match socket::send(user, &numbered(sent), &Outgoing::default(), Wait::No) {
                Ok(_) => sent += 1,
                Err(e) => {
                    assert_eq!(e.errno, libc::EAGAIN, "{}", e.what);
                    refused = true;
                    full += 1;
                    if full == 1 {
                        go.send(()).unwrap();
                    }
                }
            }
        }
        held = held.max((sent - taken.load(Ordering::SeqCst).min(sent)) * 65_536);
        assert!(held <= most, "{held} bytes are on their way, and {most} are possible");
        if refused {
            let wanted = if sent < count { libc::POLLIN | libc::POLLOUT } else { libc::POLLIN };
            let mut fds = [libc::pollfd { fd: user, events: wanted, revents: 0 }];
            socket::poll(&mut fds, PATIENCE).unwrap();
            assert!(fds[0].revents != 0, "nobody goes on after {sent} sent and {back} come back");
            match socket::receive(user, &mut buffer, false, Wait::No) {
                Ok(Incoming::Data { bytes: 65_536, .. }) => {
                    assert_eq!(number(&buffer), back, "in order, each once");
                    back += 1;
                }
                Ok(other) => panic!("{other:?}"),
                Err(e) => assert_eq!(e.errno, libc::EAGAIN, "{}", e.what),
            }
        }
    }
    println!("{count} messages, held back {full} times, {held} bytes on their way at most");
    assert!(full > 0);
    echo.join().unwrap();
    contexts.iter().for_each(Context::close);
}

#[test]
fn messages_to_pools_are_held_back_by_an_element_that_does_not_read_and_none_is_lost() {
    let _alone = alone();
    let registry = Registry::start();
    let handle = pool("Slow");
    let context = registry.context();
    let element = context.socket(0, Kind::SeqPacket, 0).unwrap();
    let policy = Policy::ROUND_ROBIN;
    socket::register(element, &handle, &policy, Duration::from_secs(30), None, true, PATIENCE).unwrap();
    let sender = context.socket(0, Kind::SeqPacket, 0).unwrap();
    let how = Outgoing { to: Some((handle.clone(), None)), ..Outgoing::default() };
    socket::send(sender, &numbered(0), &how, PATIENCE).unwrap();
    // The link is up before it is filled.
    until("the first message", || {
        let _ = receive(sender, Wait::No);
        matches!(receive(element, SHORT), Ok(Got::Text(..)))
    });
    let most = kernel_holds() + Limits::default().queued_bytes_per_link + 65_536;
    let mut sent = 1;
    loop {
        // Both kinds of call: what was taken by one that ran out of time is taken.
        let wait = if sent % 100 == 0 { Wait::For(Duration::from_millis(1)) } else { Wait::No };
        match socket::send(sender, &numbered(sent), &how, wait) {
            Ok(_) => sent += 1,
            Err(e) => {
                assert_eq!(e.errno, libc::EAGAIN, "{}", e.what);
                break;
            }
        }
        assert!(sent * 65_536 <= most, "nothing holds the sender back");
    }
    println!("{} bytes on their way", sent * 65_536);
    let reading = std::thread::spawn(move || {
        let mut buffer = vec![0; 70_000];
        let mut expected = 1;
        while expected <= sent {
            match socket::receive(element, &mut buffer, false, PATIENCE).unwrap() {
                Incoming::Data { bytes: 65_536, .. } => {
                    assert_eq!(number(&buffer), expected, "in order, each once");
                    expected += 1;
                }
                Incoming::Notification(Notification::SessionAdd { .. }) => {}
                other => panic!("{other:?}"),
            }
        }
    });
    socket::send(sender, &numbered(sent), &how, PATIENCE).unwrap();
    reading.join().unwrap();
    let e = receive(sender, Wait::No).unwrap_err();
    assert_eq!(e.errno, libc::EAGAIN, "none came back: {}", e.what);
    context.close();
}

#[test]
fn what_is_kept_for_the_next_element_is_bounded_and_all_of_it_arrives_in_order() {
    let _alone = alone();
    let registry = Registry::start();
    let handle = pool("Kept");
    let policy = Policy::ROUND_ROBIN;
    let begin = |context: &Context| {
        let sd = context.socket(0, Kind::SeqPacket, 0).unwrap();
        socket::register(sd, &handle, &policy, Duration::from_secs(30), None, true, PATIENCE).unwrap();
        sd
    };
    let (first, second, context) = (registry.context(), registry.context(), registry.context());
    let element = begin(&first);
    let user = context.socket(0, Kind::SeqPacket, 0).unwrap();
    automatic(user);
    socket::connect(user, &handle, Duration::ZERO, PATIENCE).unwrap();
    text(user, "hello").unwrap();
    assert_eq!(receive(element, PATIENCE).unwrap(), Got::Note(Notification::SessionAdd { session: 1 }));
    assert_eq!(receive(element, PATIENCE).unwrap(), Got::Text(1, "hello".into()));
    // A cookie of the greatest length goes before what is kept.
    socket::send_cookie(element, &vec![b'c'; 65_527], 1, PATIENCE).unwrap();
    socket::send(element, &[], &Outgoing { abort: true, ..to_session(1) }, PATIENCE).unwrap();
    first.close();
    let necessary = |note| matches!(note, Got::Note(Notification::FailoverNecessary { .. }));
    assert!(necessary(receive(user, PATIENCE).unwrap()));
    let callback: socket::FailoverCallback = Arc::new(|sd, _| {
        text(sd, "again").unwrap();
    });
    socket::set_failover_callback(user, Some(callback)).unwrap();
    let mut sent = 0;
    loop {
        match socket::send(user, &numbered(sent), &Outgoing::default(), Wait::No) {
            Ok(_) => sent += 1,
            Err(e) => {
                assert_eq!(e.errno, libc::EAGAIN, "{}", e.what);
                break;
            }
        }
        assert!(sent * 65_536 <= Limits::default().queued_bytes_per_link, "nothing holds the sender back");
    }
    assert!(sent > 50, "{sent} messages were kept");
    let element = begin(&second);
    let reading = std::thread::spawn(move || {
        let mut buffer = vec![0; 70_000];
        let (mut expected, mut again) = (0, false);
        while expected <= sent || !again {
            match socket::receive(element, &mut buffer, false, PATIENCE).unwrap() {
                Incoming::Data { bytes: 5, .. } => {
                    assert!(expected >= sent, "what was kept goes before what the callback says");
                    again = true;
                }
                Incoming::Data { bytes: 65_536, .. } => {
                    assert_eq!(number(&buffer), expected, "in order, each once");
                    expected += 1;
                }
                Incoming::CookieEcho { .. } => assert_eq!(expected, 0, "before all else"),
                Incoming::Notification(Notification::SessionAdd { .. }) => {}
                other => panic!("{other:?}"),
            }
        }
    });
    socket::send(user, &numbered(sent), &Outgoing::default(), PATIENCE).unwrap();
    reading.join().unwrap();
    until("the failover is told", || match receive(user, Wait::No) {
        Ok(Got::Note(Notification::FailoverComplete { has_cookie, .. })) => has_cookie,
        Ok(other) => panic!("{other:?}"),
        Err(_) => false,
    });
    [context, second].iter().for_each(Context::close);
}

#[test]
fn without_automatic_failover_the_application_is_the_first_to_speak_to_the_next_element() {
    let _alone = alone();
    let registry = Registry::start();
    let handle = pool("Login");
    let policy = Policy::ROUND_ROBIN;
    let (first, second, context) = (registry.context(), registry.context(), registry.context());
    let begin = |context: &Context| {
        let sd = context.socket(0, Kind::SeqPacket, 0).unwrap();
        socket::register(sd, &handle, &policy, Duration::from_secs(30), None, true, PATIENCE).unwrap();
        sd
    };
    let element = begin(&first);
    let user = context.socket(0, Kind::SeqPacket, 0).unwrap();
    socket::connect(user, &handle, Duration::ZERO, PATIENCE).unwrap();
    text(user, "login").unwrap();
    assert_eq!(receive(element, PATIENCE).unwrap(), Got::Note(Notification::SessionAdd { session: 1 }));
    assert_eq!(receive(element, PATIENCE).unwrap(), Got::Text(1, "login".into()));
    let how = Outgoing { options: asap::session::SendOptions::NO_FAILOVER, ..Outgoing::default() };
    // More than the kernel takes: the link is full when it is lost.
    let message = vec![b'x'; 16 << 20];
    assert_eq!(socket::send(user, &message, &how, Wait::No).unwrap(), message.len());
    assert_eq!(socket::send(user, b"next", &how, Wait::No).unwrap_err().errno, libc::EAGAIN);
    socket::send(element, &[], &Outgoing { abort: true, ..to_session(1) }, PATIENCE).unwrap();
    // Over SCTP it is known that a message of which the end was not sent has not arrived.
    let mut buffer = vec![0; message.len()];
    if carrier() == LinkKind::Sctp {
        let back = socket::receive(user, &mut buffer, false, PATIENCE).unwrap();
        assert!(matches!(back, Incoming::Undelivered { .. }), "{back:?}");
        assert!(buffer == message);
    }
    let necessary = |note| matches!(note, Got::Note(Notification::FailoverNecessary { .. }));
    assert!(necessary(receive(user, PATIENCE).unwrap()));
    assert_eq!(socket::send(user, b"next", &how, PATIENCE).unwrap_err().errno, libc::EPIPE);
    let element = begin(&second);
    first.close();
    socket::force_failover(user, false, Duration::ZERO, PATIENCE).unwrap();
    text(user, "login again").unwrap();
    assert_eq!(receive(element, PATIENCE).unwrap(), Got::Note(Notification::SessionAdd { session: 1 }));
    assert_eq!(receive(element, PATIENCE).unwrap(), Got::Text(1, "login again".into()));
    [context, second].iter().for_each(Context::close);
}

#[test]
fn a_message_whose_time_is_over_goes_to_no_other_element_and_comes_back() {
    let _alone = alone();
    let registry = Registry::start();
    let handle = pool("Late");
    let context = registry.context();
    let first = Server::start(&registry, &handle, "a");
    let user = context.socket(0, Kind::SeqPacket, 0).unwrap();
    socket::connect(user, &handle, Duration::ZERO, PATIENCE).unwrap();
    automatic(user);
    text(user, "1").unwrap();
    assert_eq!(reply(user), "a:1");
    first.die();
    let note = |note| Got::Note(note);
    let has_cookie = true;
    assert_eq!(
        receive(user, PATIENCE).unwrap(),
        note(Notification::FailoverNecessary { session: 1, has_cookie })
    );
    // There is no element to take them. One has time enough.
    for (message, time_to_live) in [("late", 50), ("2", 60_000), ("later", 100), ("3", 0)] {
        let how = Outgoing { time_to_live, ..Outgoing::default() };
        socket::send(user, message.as_bytes(), &how, Wait::No).unwrap();
    }
    std::thread::sleep(Duration::from_millis(150));
    let second = Server::start(&registry, &handle, "b");
    let (mut answers, mut back) = (Vec::new(), Vec::new());
    let mut buffer = [0; 100];
    while answers.len() < 2 || back.len() < 2 {
        match socket::receive(user, &mut buffer, false, PATIENCE).unwrap() {
            Incoming::Data { bytes, .. } => answers.push(buffer[..bytes].to_vec()),
            Incoming::Undelivered { bytes, .. } => back.push(buffer[..bytes].to_vec()),
            Incoming::Notification(_) => {}
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(answers, [&b"b:12"[..], b"b:123"], "what the elements have seen");
    assert_eq!(back, [&b"late"[..], b"later"]);
    drop(second);
    context.close();
}

fn descriptors() -> usize {
    std::fs::read_dir("/proc/self/fd").unwrap().count()
}

/// Threads of the library and of registrars; the test harness has its own, which come and go.
fn threads() -> usize {
    let tasks = std::fs::read_dir("/proc/self/task").unwrap();
    let names = tasks.filter_map(|task| std::fs::read_to_string(task.ok()?.path().join("comm")).ok());
    names.filter(|name| ["asap", "registrar"].contains(&name.trim())).count()
}

#[test]
fn nothing_is_left_after_close_and_cleanup() {
    let _alone = alone();
    let before = (descriptors(), threads());
    for round in 0..3 {
        let registry = Registry::start();
        let handle = pool("Leak");
        socket::initialize(&registry.options()).unwrap();
        socket::initialize(&registry.options()).unwrap();
        let server = Server::start(&registry, &handle, "a");
        let visit = || {
            let user = socket::socket(0, Kind::SeqPacket, 0).unwrap();
            socket::connect(user, &handle, Duration::ZERO, PATIENCE).unwrap();
            text(user, "1").unwrap();
            assert_eq!(reply(user), "a:1");
            socket::close(user).unwrap();
        };
        // What is made when first needed is made now.
        visit();
        let inside = descriptors();
        (0..5).for_each(|_| visit());
        until("the element has closed them, too", || descriptors() <= inside);
        let left = socket::socket(0, Kind::SeqPacket, 0).unwrap();
        socket::connect(left, &handle, Duration::ZERO, PATIENCE).unwrap();
        socket::cleanup();
        socket::cleanup();
        assert_eq!(socket::close(left).unwrap_err().errno, libc::EBADF);
        let late = socket::socket(0, Kind::SeqPacket, 0).unwrap_err();
        assert_eq!(late.errno, libc::EACCES);
        drop(server);
        drop(registry);
        until(&format!("round {round} leaves nothing"), || (descriptors(), threads()) == before);
    }
}

/// Runs `work` in a forked child; its result, true or false, is for `joined` to find out.
fn forked(work: impl FnOnce() -> bool) -> libc::pid_t {
    // SAFETY: the child calls this library and ends without returning into the test.
    unsafe {
        match libc::fork() {
            0 => {
                let result = std::panic::catch_unwind(std::panic::AssertUnwindSafe(work));
                libc::_exit(if matches!(result, Ok(true)) { 0 } else { 1 });
            }
            child => child,
        }
    }
}

fn joined(child: libc::pid_t) -> bool {
    let mut status = 0;
    let mut result = 0;
    until("the child has ended", || {
        // SAFETY: `status` outlives the call.
        result = unsafe { libc::waitpid(child, &mut status, libc::WNOHANG) };
        result != 0
    });
    result == child && libc::WIFEXITED(status) && libc::WEXITSTATUS(status) == 0
}

#[test]
fn a_forked_child_serves_the_session_its_parent_accepted() {
    let _alone = alone();
    let registry = Registry::start();
    let handle = pool("Fork");
    let context = registry.context();
    let element = context.socket(0, Kind::Stream, 0).unwrap();
    let policy = Policy::ROUND_ROBIN;
    socket::register(element, &handle, &policy, Duration::from_secs(30), None, true, PATIENCE).unwrap();
    // The clients are in a child, too: nothing of them is shared.
    let options = registry.options();
    let asked = handle.clone();
    let clients = forked(move || {
        socket::initialize(&options).unwrap();
        for n in 0..3 {
            let user = socket::socket(0, Kind::SeqPacket, 0).unwrap();
            socket::connect(user, &asked, Duration::ZERO, PATIENCE).unwrap();
            text(user, &format!("{n}")).unwrap();
            assert_eq!(reply(user), format!("child:{n}"));
            assert_eq!(receive(user, PATIENCE).unwrap(), Got::Note(Notification::Shutdown { session: 1 }));
            assert_eq!(receive(user, PATIENCE).unwrap(), Got::End);
            socket::close(user).unwrap();
        }
        socket::cleanup();
        true
    });
    for _ in 0..3 {
        let session = socket::accept(element, PATIENCE).unwrap();
        let inherited = context.clone();
        let asked = handle.clone();
        let child = forked(move || {
            socket::close(element).unwrap();
            let before = inherited.resolve(&asked, None, Duration::ZERO, PATIENCE).unwrap_err();
            assert_eq!(before.errno, libc::ENOTSUP);
            let text = reply(session);
            socket::send(session, format!("child:{text}").as_bytes(), &Outgoing::default(), PATIENCE)
                .unwrap();
            socket::close(session).unwrap();
            true
        });
        socket::close(session).unwrap();
        assert!(joined(child), "the child that serves");
        let elements = context.resolve(&handle, None, Duration::ZERO, PATIENCE).unwrap();
        assert_eq!(elements.len(), 1, "the child has taken nothing out of the pool");
    }
    assert!(joined(clients), "the clients");
    context.close();
}

#[test]
fn a_forked_childs_session_fails_over_to_the_elements_already_known() {
    let _alone = alone();
    let registry = Registry::start();
    let handle = pool("ForkFailover");
    let servers = [Server::start(&registry, &handle, "a"), Server::start(&registry, &handle, "b")];
    let context = registry.context();
    let user = context.socket(0, Kind::SeqPacket, 0).unwrap();
    socket::connect(user, &handle, Duration::ZERO, PATIENCE).unwrap();
    text(user, "1").unwrap();
    let first = reply(user);
    let child = forked(move || {
        assert_eq!(receive(user, Wait::No).unwrap_err().errno, libc::EAGAIN);
        assert!(!readable(user, Duration::ZERO));
        socket::force_failover(user, false, Duration::ZERO, PATIENCE).unwrap();
        assert!(readable(user, Duration::ZERO), "its own descriptor tells of its own events");
        assert!(matches!(receive(user, PATIENCE).unwrap(), Got::Note(Notification::FailoverComplete { .. })));
        text(user, "2").unwrap();
        let second = reply(user);
        socket::close(user).unwrap();
        second.ends_with(":12") && second[..1] != first[..1]
    });
    assert!(joined(child));
    assert!(socket::has_cookie(user).is_ok());
    drop(servers);
    context.close();
}

#[test]
fn a_thousand_resolutions_at_once_are_all_answered() {
    let _alone = alone();
    // One processor, in the lab, has no time for the registrar while it starts so many threads.
    let threads = if carrier() == LinkKind::Sctp { 200 } else { 1000 };
    let registry = Registry::start();
    let handle = pool("Storm");
    let server = Server::start(&registry, &handle, "a");
    let context = registry.context();
    let start = Instant::now();
    let answered = AtomicUsize::new(0);
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                let elements = context.resolve(&handle, None, Duration::ZERO, PATIENCE).unwrap();
                assert_eq!(elements[0].id, server.id);
                answered.fetch_add(1, Ordering::SeqCst);
            });
        }
    });
    println!("{threads} resolutions in {:?}", start.elapsed());
    assert_eq!(answered.load(Ordering::SeqCst), threads);
    drop(server);
    context.close();
}

#[test]
fn two_thousand_sessions_beside_five_thousand_descriptors_are_told_of_the_same_failover() {
    let _alone = alone();
    const SESSIONS: usize = 2000;
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: `limit` outlives the calls.
    unsafe {
        libc::getrlimit(libc::RLIMIT_NOFILE, &mut limit);
        limit.rlim_cur = limit.rlim_max;
        libc::setrlimit(libc::RLIMIT_NOFILE, &limit);
    }
    if limit.rlim_max < 20_000 {
        println!("skipped: this process may have {} descriptors only", limit.rlim_max);
        return;
    }
    let held: Vec<std::fs::File> = (0..5000).map(|_| std::fs::File::open("/dev/null").unwrap()).collect();
    let registry = Registry::start();
    let handle = pool("Many");
    let first = Server::start(&registry, &handle, "a");
    let context = registry.context();
    let outer = asap::runtime::readiness::ReadySet::new().unwrap();
    let read = asap::runtime::poller::Interest { read: true, write: false };
    let users: Vec<RawFd> = (0..SESSIONS)
        .map(|n| {
            let user = context.socket(0, Kind::SeqPacket, 0).unwrap();
            socket::connect(user, &handle, Duration::from_secs(60), PATIENCE).unwrap();
            outer.set(user, n as u64, read).unwrap();
            user
        })
        .collect();
    let second = Server::start(&registry, &handle, "b");
    let start = Instant::now();
    let mut moved = vec![false; SESSIONS];
    // All at once: the process that serves them is gone.
    first.die();
    let mut tokens = Vec::new();
    while moved.iter().any(|m| !m) {
        assert!(
            readable(outer.fd(), Duration::from_secs(20)),
            "{} were not told",
            moved.iter().filter(|m| !**m).count()
        );
        tokens.clear();
        outer.ready(&mut tokens);
        for token in &tokens {
            let user = users[*token as usize];
            match receive(user, Wait::No) {
                Ok(Got::Note(Notification::FailoverNecessary { .. })) => {
                    socket::force_failover(user, false, Duration::from_secs(60), PATIENCE).unwrap();
                }
                Ok(Got::Note(Notification::FailoverComplete { .. })) => moved[*token as usize] = true,
                Err(e) if e.errno == libc::EAGAIN => {}
                other => panic!("{other:?}"),
            }
        }
    }
    println!("{SESSIONS} sessions moved in {:?}", start.elapsed());
    drop(second);
    context.close();
    drop(held);
}

#[test]
fn messages_are_sent_to_pools_and_to_elements_of_them_without_a_session() {
    let _alone = alone();
    let registry = Registry::start();
    let handle = pool("Dispatch");
    let servers = [Server::start(&registry, &handle, "a"), Server::start(&registry, &handle, "b")];
    let context = registry.context();
    let sd = context.socket(0, Kind::SeqPacket, 0).unwrap();
    let mut buffer = [0; 100];
    for server in &servers {
        let how = Outgoing { to: Some((handle.clone(), Some(server.id))), ..Outgoing::default() };
        assert_eq!(socket::send(sd, b"1", &how, PATIENCE).unwrap(), 1);
        match socket::receive(sd, &mut buffer, false, PATIENCE).unwrap() {
            Incoming::Data { bytes, from, .. } => {
                assert_eq!(&buffer[..bytes], format!("{}:1", server.name).as_bytes());
                assert_eq!(from, Some(server.id), "the sender is named");
            }
            other => panic!("{other:?}"),
        }
    }
    let how = Outgoing { to: Some((handle.clone(), None)), ..Outgoing::default() };
    socket::send(sd, b"2", &how, PATIENCE).unwrap();
    assert!(reply(sd).ends_with(":12"));
    let how = Outgoing { to: Some((pool("Nobody"), None)), ..Outgoing::default() };
    socket::send(sd, b"lost", &how, PATIENCE).unwrap();
    match socket::receive(sd, &mut buffer, false, PATIENCE).unwrap() {
        Incoming::Undelivered { bytes, to: None, .. } => assert_eq!(&buffer[..bytes], b"lost"),
        other => panic!("{other:?}"),
    }
    assert_eq!(socket::connect(sd, &handle, Duration::ZERO, PATIENCE).unwrap_err().errno, libc::EOPNOTSUPP);
    drop(servers);
    context.close();
}

#[test]
fn large_messages_stay_whole() {
    let _alone = alone();
    let registry = Registry::start();
    let handle = pool("Large");
    let context = registry.context();
    let element = context.socket(libc::AF_INET, Kind::SeqPacket, 0).unwrap();
    let policy = Policy::ROUND_ROBIN;
    socket::register(element, &handle, &policy, Duration::from_secs(30), None, true, PATIENCE).unwrap();
    let user = context.socket(0, Kind::SeqPacket, 0).unwrap();
    socket::connect(user, &handle, Duration::ZERO, PATIENCE).unwrap();
    // The longest there is: no send buffer holds it.
    let message: Vec<u8> = (0..16_u32 << 20).map(|n| (n % 251) as u8).collect();
    let sent = message.clone();
    let how = Outgoing { ppid: 0x1234_5678, stream: 3, ..Outgoing::default() };
    let sending = std::thread::spawn(move || socket::send(user, &sent, &how, PATIENCE).unwrap());
    assert_eq!(receive(element, PATIENCE).unwrap(), Got::Note(Notification::SessionAdd { session: 1 }));
    let mut buffer = vec![0; message.len() + 1];
    let expected = Incoming::Data {
        bytes: message.len(),
        ppid: 0x1234_5678,
        stream: 3,
        session: 1,
        // The user's context is the element's, too.
        from: Some(socket::local_name(element).unwrap().1),
        end_of_record: true,
    };
    assert_eq!(socket::receive(element, &mut buffer, false, PATIENCE).unwrap(), expected);
    assert_eq!(buffer[..message.len()], message);
    assert_eq!(sending.join().unwrap(), message.len());
    context.close();
}

/// A client that knows nothing of pools.
#[test]
fn plain_clients_are_served() {
    let _alone = alone();
    let registry = Registry::start();
    let context = registry.context();
    use std::io::{Read, Write};
    let element = context.socket(libc::AF_INET, Kind::SeqPacket, libc::IPPROTO_TCP).unwrap();
    socket::listen(element, 5).unwrap();
    let port = socket::local_address(element).unwrap().port();
    let mut plain = std::net::TcpStream::connect(("127.0.0.1", port)).unwrap();
    plain.write_all(b"plain").unwrap();
    assert_eq!(receive(element, PATIENCE).unwrap(), Got::Note(Notification::SessionAdd { session: 1 }));
    assert_eq!(receive(element, PATIENCE).unwrap(), Got::Text(1, "plain".into()));
    let e = socket::send_cookie(element, b"state", 1, PATIENCE).unwrap_err();
    assert_eq!(e.errno, libc::EOPNOTSUPP, "{}", e.what);
    let how = Outgoing { session: 1, eof: true, ..Outgoing::default() };
    socket::send(element, b"bye", &how, PATIENCE).unwrap();
    let mut all = String::new();
    plain.read_to_string(&mut all).unwrap();
    assert_eq!(all, "bye");
    assert_eq!(receive(element, PATIENCE).unwrap(), Got::Note(Notification::SessionRemove { session: 1 }));
    context.close();
}

#[test]
fn an_element_without_room_for_clients_waits_and_serves_them_later() {
    let _alone = alone();
    let registry = Registry::start();
    let context = registry.context();
    let element = context.socket(libc::AF_INET, Kind::SeqPacket, 0).unwrap();
    socket::listen(element, 5).unwrap();
    assert_eq!(receive(element, Wait::No).unwrap_err().errno, libc::EAGAIN);
    use std::io::Write;
    let port = socket::local_address(element).unwrap().port();
    let mut client = carrier::dial(SocketAddr::from(([127, 0, 0, 1], port)), 0);
    client.write_all(b"patient").unwrap();
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: `limit` outlives the calls.
    unsafe { libc::getrlimit(libc::RLIMIT_NOFILE, &mut limit) };
    let none = libc::rlimit { rlim_cur: 3, rlim_max: limit.rlim_max };
    // SAFETY: as above.
    unsafe { libc::setrlimit(libc::RLIMIT_NOFILE, &none) };
    let before = processor_time();
    let nothing = receive(element, Wait::For(Duration::from_millis(500)));
    let used = processor_time() - before;
    // SAFETY: as above.
    unsafe { libc::setrlimit(libc::RLIMIT_NOFILE, &limit) };
    assert_eq!(nothing.unwrap_err().errno, libc::EAGAIN);
    assert!(used < Duration::from_millis(250), "it was busy for {used:?} of 500 ms");
    assert_eq!(receive(element, PATIENCE).unwrap(), Got::Note(Notification::SessionAdd { session: 1 }));
    assert_eq!(receive(element, PATIENCE).unwrap(), Got::Text(1, "patient".into()));
    context.close();
}

/// What this thread has used of the processor.
fn processor_time() -> Duration {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: `time` outlives the call.
    unsafe { libc::clock_gettime(libc::CLOCK_THREAD_CPUTIME_ID, &mut time) };
    Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
}

fn udp_element(context: &Context, handle: &PoolHandle, id: PeId) -> RawFd {
    let sd = context.socket(0, Kind::SeqPacket, libc::IPPROTO_UDP).unwrap();
    let renewal = Duration::from_secs(30);
    socket::register(sd, handle, &Policy::ROUND_ROBIN, renewal, Some(id), true, PATIENCE).unwrap();
    sd
}

#[test]
fn an_element_serves_users_over_udp_and_ends_idle_sessions() {
    let _alone = alone();
    let registry = Registry::start();
    let handle = pool("Datagrams");
    let context = registry.context();
    let element = udp_element(&context, &handle, PeId(7));
    let found = context.resolve(&handle, None, Duration::ZERO, PATIENCE).unwrap();
    let port = socket::local_address(element).unwrap().port();
    let transport = TransportAddress::Udp { port, address: "127.0.0.1".parse().unwrap() };
    assert_eq!(found[0].user_transport, transport);
    let users: Vec<RawFd> = (0..3)
        .map(|n| {
            let user = context.socket(0, Kind::SeqPacket, 0).unwrap();
            socket::connect(user, &handle, Duration::ZERO, PATIENCE).unwrap();
            assert_eq!(socket::peer_name(user).unwrap().1, Some(PeId(7)));
            text(user, &format!("from {n}")).unwrap();
            let session = n + 1;
            assert_eq!(receive(element, PATIENCE).unwrap(), Got::Note(Notification::SessionAdd { session }));
            assert_eq!(receive(element, PATIENCE).unwrap(), Got::Text(session, format!("from {n}")));
            user
        })
        .collect();
    for (n, user) in (1..).zip(&users) {
        socket::send(element, format!("to {n}").as_bytes(), &to_session(n), PATIENCE).unwrap();
        assert_eq!(reply(*user), format!("to {n}"));
        text(*user, "again").unwrap();
        assert_eq!(receive(element, PATIENCE).unwrap(), Got::Text(n, "again".into()));
    }
    let e = socket::send_cookie(element, b"state", 1, PATIENCE).unwrap_err();
    assert_eq!(e.errno, libc::EOPNOTSUPP, "{}", e.what);
    // A datagram that is too long is given back, and the session lives on.
    socket::send(element, &[0; 65_536], &to_session(2), PATIENCE).unwrap();
    let mut buffer = vec![0; 70_000];
    match socket::receive(element, &mut buffer, false, PATIENCE).unwrap() {
        Incoming::Undelivered { bytes: 65_536, session: 2, .. } => {}
        other => panic!("{other:?}"),
    }
    let mut options = socket::socket_options(element).unwrap();
    options.idle_timeout = Duration::from_millis(200);
    socket::set_socket_options(element, &options).unwrap();
    let mut removed = Vec::new();
    while removed.len() < 3 {
        match receive(element, PATIENCE).unwrap() {
            Got::Note(Notification::SessionRemove { session }) => removed.push(session),
            other => panic!("{other:?}"),
        }
    }
    removed.sort_unstable();
    assert_eq!(removed, [1, 2, 3]);
    text(users[1], "back").unwrap();
    assert_eq!(receive(element, PATIENCE).unwrap(), Got::Note(Notification::SessionAdd { session: 1 }));
    assert_eq!(receive(element, PATIENCE).unwrap(), Got::Text(1, "back".into()));
    let stream = context.socket(0, Kind::Stream, libc::IPPROTO_UDP).unwrap();
    assert_eq!(socket::listen(stream, 5).unwrap_err().errno, libc::EOPNOTSUPP);
    context.close();
}

#[test]
fn answers_over_udp_leave_from_the_address_that_was_asked() {
    let _alone = alone();
    let registry = Registry::start();
    let context = registry.context();
    for domain in [libc::AF_INET, 0] {
        let element = context.socket(domain, Kind::SeqPacket, libc::IPPROTO_UDP).unwrap();
        socket::listen(element, 5).unwrap();
        let port = socket::local_address(element).unwrap().port();
        let client = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
        client.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        client.connect(("127.0.0.99", port)).unwrap();
        client.send(b"hello").unwrap();
        assert_eq!(receive(element, PATIENCE).unwrap(), Got::Note(Notification::SessionAdd { session: 1 }));
        assert_eq!(receive(element, PATIENCE).unwrap(), Got::Text(1, "hello".into()));
        socket::send(element, b"world", &to_session(1), PATIENCE).unwrap();
        let mut buffer = [0; 10];
        assert_eq!(client.recv(&mut buffer).unwrap(), 5);
        if domain == 0 {
            let Ok(client) = std::net::UdpSocket::bind("[::1]:0") else { continue };
            client.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
            client.connect(("::1", port)).unwrap();
            client.send(b"six").unwrap();
            let added = Got::Note(Notification::SessionAdd { session: 2 });
            assert_eq!(receive(element, PATIENCE).unwrap(), added);
            assert_eq!(receive(element, PATIENCE).unwrap(), Got::Text(2, "six".into()));
            socket::send(element, b"sixth", &to_session(2), PATIENCE).unwrap();
            assert_eq!(client.recv(&mut buffer).unwrap(), 5);
        }
    }
    context.close();
}

/// Asks until there is an answer: datagrams to an element that has just gone are lost.
fn ask(user: RawFd, question: &str) -> String {
    let start = Instant::now();
    loop {
        let _ = text(user, question);
        let pause = Instant::now();
        while pause.elapsed() < Duration::from_millis(100) {
            if let Ok(Got::Text(_, answer)) = receive(user, SHORT) {
                return answer;
            }
        }
        assert!(start.elapsed() < Duration::from_secs(20), "no answer");
    }
}

#[test]
fn a_user_over_udp_moves_on_when_its_element_is_gone_or_silent() {
    let _alone = alone();
    let registry = Registry::start();
    let handle = pool("Unconnected");
    let contexts = [registry.context(), registry.context(), registry.context()];
    let stop = Arc::new(AtomicBool::new(false));
    let mut servers = Vec::new();
    for (id, context) in (1u32..).zip(&contexts) {
        let sd = udp_element(context, &handle, PeId(id));
        let (told, silent) = (stop.clone(), Arc::new(AtomicBool::new(false)));
        let hushed = silent.clone();
        let thread = std::thread::spawn(move || {
            while !told.load(Ordering::SeqCst) {
                match receive(sd, SHORT) {
                    Ok(Got::Text(session, _)) if !hushed.load(Ordering::SeqCst) => {
                        let _ = socket::send(sd, id.to_string().as_bytes(), &to_session(session), PATIENCE);
                    }
                    Ok(_) => {}
                    Err(e) if e.errno == libc::EBADF => return,
                    Err(_) => {}
                }
            }
        });
        servers.push((sd, silent, thread));
    }
    let context = registry.context();
    let user = context.socket(0, Kind::SeqPacket, 0).unwrap();
    automatic(user);
    socket::connect(user, &handle, Duration::ZERO, PATIENCE).unwrap();
    let first: usize = ask(user, "?").parse().unwrap();
    // Its socket is closed: the next datagram is refused.
    let start = Instant::now();
    contexts[first - 1].close();
    let second: usize = ask(user, "?").parse().unwrap();
    println!("gone: answered by another after {:?}", start.elapsed());
    assert_ne!(first, second);
    // Its socket is there, but it has left the pool and says nothing.
    servers[second - 1].1.store(true, Ordering::SeqCst);
    let start = Instant::now();
    socket::deregister(servers[second - 1].0, PATIENCE).unwrap();
    let third: usize = ask(user, "?").parse().unwrap();
    println!("silent: answered by another after {:?}", start.elapsed());
    assert!(third != first && third != second);
    stop.store(true, Ordering::SeqCst);
    for (_, _, thread) in servers {
        thread.join().unwrap();
    }
    context.close();
    for context in &contexts {
        context.close();
    }
}

/// The next data of an element, with the element it came from.
fn data_from(sd: RawFd) -> (String, Option<PeId>) {
    let mut buffer = vec![0; 1000];
    loop {
        match socket::receive(sd, &mut buffer, false, PATIENCE).unwrap() {
            Incoming::Data { bytes, from, .. } => {
                return (String::from_utf8_lossy(&buffer[..bytes]).into_owned(), from);
            }
            Incoming::Notification(_) => {}
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn a_user_that_is_an_element_is_named_to_those_it_talks_to() {
    let _alone = alone();
    let registry = Registry::start();
    let (front, back) = (pool("Front"), pool("Back"));
    let renewal = Duration::from_secs(30);
    let behind = registry.context();
    let many = behind.socket(0, Kind::SeqPacket, 0).unwrap();
    socket::register(many, &back, &Policy::ROUND_ROBIN, renewal, None, true, PATIENCE).unwrap();
    let context = registry.context();
    let user = context.socket(0, Kind::SeqPacket, 0).unwrap();
    socket::connect(user, &back, Duration::ZERO, PATIENCE).unwrap();
    text(user, "anonymous").unwrap();
    assert_eq!(data_from(many), ("anonymous".into(), None));
    // The card goes out as soon as the user is an element, in the middle of the session.
    let element = context.socket(0, Kind::SeqPacket, 0).unwrap();
    socket::register(element, &front, &Policy::ROUND_ROBIN, renewal, Some(PeId(9)), true, PATIENCE).unwrap();
    until("the user is named", || {
        text(user, "named").unwrap();
        data_from(many).1 == Some(PeId(9))
    });
    // A new session is named from the first message on.
    let second = context.socket(0, Kind::SeqPacket, 0).unwrap();
    socket::connect(second, &back, Duration::ZERO, PATIENCE).unwrap();
    text(second, "first").unwrap();
    assert_eq!(data_from(many), ("first".into(), Some(PeId(9))));
    // So is the sender of single messages.
    let single = context.socket(0, Kind::SeqPacket, 0).unwrap();
    let how = Outgoing { to: Some((back.clone(), None)), ..Outgoing::default() };
    socket::send(single, b"single", &how, PATIENCE).unwrap();
    // Until the pool is resolved and the element reached, its calls carry the message on.
    until("the message is there", || receive(single, SHORT).is_err() && readable(many, Duration::ZERO));
    assert_eq!(data_from(many), ("single".into(), Some(PeId(9))));
    // An accepted session tells pool and element.
    let streams = pool("Streams");
    let listener = behind.socket(0, Kind::Stream, 0).unwrap();
    socket::register(listener, &streams, &Policy::ROUND_ROBIN, renewal, None, true, PATIENCE).unwrap();
    let stream = context.socket(0, Kind::Stream, 0).unwrap();
    let accepting = std::thread::spawn(move || socket::accept(listener, PATIENCE).unwrap());
    socket::connect(stream, &streams, Duration::ZERO, PATIENCE).unwrap();
    let accepted = accepting.join().unwrap();
    text(stream, "stream").unwrap();
    assert_eq!(data_from(accepted), ("stream".into(), Some(PeId(9))));
    assert_eq!(socket::peer_name(accepted).unwrap(), (front.clone(), Some(PeId(9))));
    // TO_ALL leaves out the sender.
    let everyone = Outgoing {
        to: Some((front.clone(), None)),
        options: asap::session::SendOptions::TO_ALL,
        ..Outgoing::default()
    };
    socket::send(single, b"others", &everyone, PATIENCE).unwrap();
    let to_all = Outgoing {
        options: asap::session::SendOptions::TO_ALL | asap::session::SendOptions::TO_SELF,
        ..everyone
    };
    socket::send(single, b"all", &to_all, PATIENCE).unwrap();
    until("the message is there", || receive(single, SHORT).is_err() && readable(element, Duration::ZERO));
    assert_eq!(data_from(element), ("all".into(), Some(PeId(9))));
    context.close();
    behind.close();
}

#[test]
fn a_sender_over_udp_is_named_by_its_address() {
    let _alone = alone();
    let registry = Registry::start();
    let handle = pool("Mapped");
    let context = registry.context();
    let peer = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
    let at = peer.local_addr().unwrap();
    let other = asap::types::PoolElement {
        id: PeId(55),
        home: None,
        life: asap::types::RegistrationLife::Seconds(30),
        user_transport: TransportAddress::Udp { port: at.port(), address: at.ip() },
        policy: Policy::ROUND_ROBIN,
        asap_transport: None,
        capabilities: None,
    };
    context.register_element(&handle, other, PATIENCE).unwrap();
    let element = udp_element(&context, &handle, PeId(1));
    let port = socket::local_address(element).unwrap().port();
    context.resolve(&handle, None, Duration::ZERO, PATIENCE).unwrap();
    until("the sender is named", || {
        peer.send_to(b"hello", ("127.0.0.1", port)).unwrap();
        data_from(element) == ("hello".into(), Some(PeId(55)))
    });
    let stranger = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
    for _ in 0..3 {
        stranger.send_to(b"hello", ("127.0.0.1", port)).unwrap();
        assert_eq!(data_from(element), ("hello".into(), None));
    }
    context.close();
}

#[test]
fn elements_tell_their_users_of_a_changed_failover_order() {
    let _alone = alone();
    let registry = Registry::start();
    let handle = pool("Cards");
    let renewal = Duration::from_secs(30);
    let register = |context: &Context, kind, id| {
        let sd = context.socket(libc::AF_INET, kind, libc::IPPROTO_TCP).unwrap();
        socket::register(sd, &handle, &Policy::ROUND_ROBIN, renewal, Some(PeId(id)), true, PATIENCE).unwrap();
        sd
    };
    let context = registry.context();
    let (many, listener) = (register(&context, Kind::SeqPacket, 1), register(&context, Kind::Stream, 2));
    // Servers that do nothing but wait for what comes.
    let serving = std::thread::spawn(move || while receive(many, Wait::Forever).is_ok() {});
    let accepting = std::thread::spawn(move || {
        let accepted = socket::accept(listener, Wait::Forever).unwrap();
        while receive(accepted, Wait::Forever).is_ok() {}
    });
    use asap::machine::{Channel, Destination};
    use asap::runtime::link::{Connection, LinkEvent};
    let limits = Limits::default();
    let mut users: Vec<(Connection, Vec<u32>)> = [many, listener]
        .into_iter()
        .map(|sd| {
            let to = Destination {
                kind: LinkKind::Tcp,
                protocol: Protocol::Session,
                port: socket::local_address(sd).unwrap().port(),
                addresses: asap::types::Addresses::from(std::net::IpAddr::from([127, 0, 0, 1])),
            };
            (Connection::connect(asap::runtime::now(), &to, &limits).unwrap(), Vec::new())
        })
        .collect();
    let mut expect = |what: &str, orders: [&[u32]; 2]| {
        until(what, || {
            for (connection, order) in &mut users {
                connection.progress(asap::runtime::now(), 16, &mut |event| {
                    if let LinkEvent::Message { channel: Channel::Asap, bytes, .. } = event {
                        let decoded =
                            asap::wire::AsapMessage::decode(bytes, asap::wire::Dialect::Rfc).unwrap();
                        if let asap::wire::AsapMessage::BusinessCard { elements, .. } = decoded.message {
                            *order = elements.iter().map(|e| e.id.0).collect();
                        }
                    }
                });
            }
            users.iter().map(|(_, order)| order.as_slice()).eq(orders)
        });
    };
    expect("cards at the start", [&[2], &[1]]);
    let third = register(&context, Kind::SeqPacket, 3);
    expect("cards with the new element", [&[2, 3], &[1, 3]]);
    socket::deregister(third, PATIENCE).unwrap();
    expect("cards without it", [&[2], &[1]]);
    drop(users);
    context.close();
    serving.join().unwrap();
    accepting.join().unwrap();
}

#[test]
fn on_a_stream_socket_the_next_call_tells_that_a_message_was_lost() {
    let _alone = alone();
    let registry = Registry::start();
    let handle = pool("Losses");
    let context = registry.context();
    let serving = registry.context();
    let renewal = Duration::from_secs(30);
    let element = serving.socket(0, Kind::Stream, 0).unwrap();
    socket::register(element, &handle, &Policy::ROUND_ROBIN, renewal, None, true, PATIENCE).unwrap();
    let user = context.socket(0, Kind::Stream, 0).unwrap();
    automatic(user);
    let mut options = socket::socket_options(user).unwrap();
    options.session.failover_deadline = Some(Duration::from_millis(500));
    socket::set_socket_options(user, &options).unwrap();
    socket::connect(user, &handle, Duration::ZERO, PATIENCE).unwrap();
    let session = socket::accept(element, PATIENCE).unwrap();
    text(user, "hello").unwrap();
    assert_eq!(reply(session), "hello");
    socket::send(session, &[], &Outgoing { abort: true, ..Outgoing::default() }, PATIENCE).unwrap();
    serving.close();
    // Nobody is left: messages wait for another element until the failover is given up.
    until("the element is lost", || {
        let _ = receive(user, SHORT);
        socket::peer_name(user).unwrap().1.is_none()
    });
    let mut sent = 0;
    let start = Instant::now();
    let lost = loop {
        match socket::send(user, b"kept", &Outgoing::default(), Wait::No) {
            Ok(_) => sent += 1,
            // So many wait already.
            Err(e) if e.errno == libc::EAGAIN => {}
            Err(e) => break e,
        }
        assert!(start.elapsed() < Duration::from_secs(20), "nothing is told");
        std::thread::yield_now();
    };
    assert_eq!(lost.errno, libc::ECOMM, "{}", lost.what);
    assert!(sent > 0 && lost.what.contains("did not get there"), "{}", lost.what);
    assert_eq!(text(user, "late").unwrap_err().errno, libc::EPIPE);
    context.close();
}

/// Everything with so many descriptors open that the next have the highest numbers there are.
#[test]
fn works_in_a_process_with_as_many_descriptors_as_the_hard_limit_allows() {
    const CHILD: &str = "ASAP_TEST_MANY_DESCRIPTORS";
    let name = "works_in_a_process_with_as_many_descriptors_as_the_hard_limit_allows";
    if std::env::var_os(CHILD).is_none() {
        let _alone = alone();
        // The limit is the whole process', and other tests go on in this one.
        let child = std::process::Command::new(std::env::current_exe().unwrap())
            .args(["--exact", name, "--nocapture"])
            .env(CHILD, "1")
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&child.stdout).into_owned();
        println!("{said}");
        assert!(child.status.success(), "{said}{}", String::from_utf8_lossy(&child.stderr));
        assert!(said.contains("descriptors open, the socket is"), "it ran: {said}");
        return;
    }
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: `limit` outlives the calls.
    unsafe {
        assert_eq!(libc::getrlimit(libc::RLIMIT_NOFILE, &mut limit), 0);
        limit.rlim_cur = limit.rlim_max.min(100_400);
        assert_eq!(libc::setrlimit(libc::RLIMIT_NOFILE, &limit), 0);
    }
    let room = 300;
    let null = std::fs::File::open("/dev/null").unwrap();
    let wanted = usize::try_from(limit.rlim_cur).unwrap() - room;
    let held: Vec<std::fs::File> =
        (descriptors()..wanted).map(|_| null.try_clone().expect("below the limit")).collect();
    let before = descriptors();
    {
        let registry = Registry::start();
        let handle = pool("Many");
        socket::initialize(&registry.options()).unwrap();
        let first = Server::start(&registry, &handle, "a");
        let second = Server::start(&registry, &handle, "b");
        let user = socket::socket(0, Kind::SeqPacket, 0).unwrap();
        assert!(usize::try_from(user).unwrap() > wanted, "{user}");
        println!("{} descriptors open, the socket is {user}", descriptors());
        automatic(user);
        socket::connect(user, &handle, Duration::ZERO, PATIENCE).unwrap();
        text(user, "1").unwrap();
        let (present, other) = if reply(user) == "a:1" { (first, second) } else { (second, first) };
        present.die();
        until("the failover", || {
            let note = receive(user, PATIENCE).unwrap();
            matches!(note, Got::Note(Notification::FailoverComplete { has_cookie: true, .. }))
        });
        text(user, "2").unwrap();
        let mut fds = [libc::pollfd { fd: user, events: libc::POLLIN, revents: 0 }];
        assert_eq!(socket::poll(&mut fds, PATIENCE).unwrap(), 1);
        assert_eq!(reply(user), format!("{}:12", other.name));
        socket::close(user).unwrap();
        drop(other);
        socket::cleanup();
    }
    assert_eq!(descriptors(), before);
    drop(held);
}

/// While something waits to be received nothing more is read, and so the end of the link is not either.
#[test]
fn sending_on_a_link_found_broken_while_writing_does_not_wait_for_room() {
    let _alone = alone();
    let registry = Registry::start();
    let handle = pool("broken");
    let server = Server::start(&registry, &handle, "a");
    let context = registry.context();
    let user = context.socket(0, Kind::SeqPacket, 0).unwrap();
    automatic(user);
    socket::connect(user, &handle, Duration::ZERO, PATIENCE).unwrap();
    text(user, "one").unwrap();
    // The answer is taken in, and not received.
    let mut fds = [libc::pollfd { fd: user, events: libc::POLLIN, revents: 0 }];
    assert_eq!(socket::poll(&mut fds, PATIENCE).unwrap(), 1);
    server.die();
    let begun = Instant::now();
    // What is written first may still be taken, and is answered by RST.
    for _ in 0..10 {
        text(user, "is anybody there?").unwrap();
        std::thread::sleep(Duration::from_millis(1));
    }
    assert!(begun.elapsed() < Duration::from_secs(5), "{:?}", begun.elapsed());
    assert_eq!(reply(user), "a:one");
    socket::close(user).unwrap();
}

#[test]
fn new_clients_take_the_elements_of_a_round_robin_pool_in_turn() {
    let _alone = alone();
    let registry = Registry::start();
    let handle = pool("Turns");
    let (first, second) = (Server::start(&registry, &handle, "a"), Server::start(&registry, &handle, "b"));
    let mut taken = std::collections::BTreeMap::new();
    for _ in 0..6 {
        // Each as if in a process of its own.
        let context = registry.context();
        let user = context.socket(0, Kind::SeqPacket, 0).unwrap();
        socket::connect(user, &handle, Duration::ZERO, PATIENCE).unwrap();
        *taken.entry(socket::peer_name(user).unwrap().1.unwrap()).or_insert(0) += 1;
        context.close();
    }
    // Those who asked before the second was known are told of it, which takes a turn, too.
    assert!(taken.get(&first.id) >= Some(&2) && taken.get(&second.id) >= Some(&2), "{taken:?}");
}
