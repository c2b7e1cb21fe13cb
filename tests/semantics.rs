//! Both columns of docs/semantics.md: what libasap does, and what it does in the ways of RSPLIB, with a registrar in this process. What
//! carries the sessions is what ASAP_TRANSPORT says.

mod carrier;

use asap::hosting::{Announce, Listener, Running, Settings};
use asap::machine::Protocol;
use asap::policy::{Policy, PolicyType};
use asap::runtime::listener::has_sctp;
use asap::socket::{self, Context, Error, Incoming, Kind, Notification, Options, Outgoing, Semantics, Wait};
use asap::types::{PeId, PoolHandle};
use carrier::carrier;
use std::io::{Read, Write};
use std::net::SocketAddr;
use std::os::fd::{AsRawFd, IntoRawFd, RawFd};
use std::os::unix::net::UnixStream;
use std::sync::{Mutex, MutexGuard};
use std::time::{Duration, Instant};

const PATIENCE: Wait = Wait::For(Duration::from_secs(20));
const RENEWAL: Duration = Duration::from_secs(30);
const BOTH: [Semantics; 2] = [Semantics::ASAP, Semantics::RSPLIB];

/// Descriptor numbers are counted and closed here.
static ALONE: Mutex<()> = Mutex::new(());

/// A registrar, and a context with these ways.
struct World {
    context: Context,
    registrar: Running,
    _alone: MutexGuard<'static, ()>,
}

impl World {
    fn new(semantics: Semantics) -> World {
        let alone = ALONE.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        let any: SocketAddr = "127.0.0.1:0".parse().unwrap();
        let settings =
            Settings { asap: vec![any], enrp: vec![any], announce: Announce::Off, ..Settings::default() };
        let registrar = Running::start(settings).unwrap();
        let asap = |l: &&Listener| l.protocol == Protocol::Asap && l.kind == carrier();
        let at = registrar.listeners().iter().find(asap).unwrap().address;
        let context = Context::start(&options(at, semantics)).unwrap();
        World { context, registrar, _alone: alone }
    }

    fn socket(&self, kind: Kind) -> RawFd {
        self.context.socket(0, kind, 0).unwrap()
    }

    /// A registered server.
    fn server(&self, kind: Kind, handle: &PoolHandle) -> RawFd {
        let sd = self.socket(kind);
        socket::bind(sd, &["127.0.0.1:0".parse().unwrap()]).unwrap();
        register(sd, handle, Policy::ROUND_ROBIN).unwrap();
        sd
    }

    /// A user's socket, connected.
    fn user(&self, kind: Kind, handle: &PoolHandle) -> RawFd {
        let sd = self.socket(kind);
        connect(sd, handle).unwrap();
        sd
    }
}

impl Drop for World {
    fn drop(&mut self) {
        self.context.close();
        assert!(!self.registrar.is_inherited());
    }
}

fn options(at: SocketAddr, semantics: Semantics) -> Options {
    Options { registrars: vec![vec![at]], no_announcements: true, semantics, ..Options::default() }
}

fn pool(name: &str) -> PoolHandle {
    PoolHandle::new(name.as_bytes()).unwrap()
}

fn connect(sd: RawFd, handle: &PoolHandle) -> socket::Result<Option<Error>> {
    socket::connect(sd, handle, Duration::ZERO, PATIENCE)
}

fn register(sd: RawFd, handle: &PoolHandle, policy: Policy) -> socket::Result<PeId> {
    socket::register(sd, handle, &policy, RENEWAL, None, true, PATIENCE)
}

fn fail_over(sd: RawFd) -> socket::Result<Option<Error>> {
    socket::force_failover(sd, false, Duration::ZERO, PATIENCE)
}

fn send(sd: RawFd, session: u32, message: &[u8]) -> socket::Result<usize> {
    socket::send(sd, message, &Outgoing { session, ..Outgoing::default() }, PATIENCE)
}

fn next(sd: RawFd) -> socket::Result<Incoming> {
    socket::receive(sd, &mut [0; 64], false, PATIENCE)
}

fn note(sd: RawFd) -> Notification {
    match next(sd).unwrap() {
        Incoming::Notification(note) => note,
        other => panic!("{other:?}"),
    }
}

fn errno<T>(result: socket::Result<T>) -> Option<i32> {
    result.err().map(|e| e.errno)
}

const NECESSARY: Notification = Notification::FailoverNecessary { session: 1, has_cookie: false };
const COMPLETE: Notification = Notification::FailoverComplete { session: 1, has_cookie: false };

#[test]
fn connecting_to_nobody_fails_at_once_or_with_the_next_call() {
    for semantics in BOTH {
        let world = World::new(semantics);
        let handle = pool("Nobody");
        let sd = world.socket(Kind::SeqPacket);
        let begun = Instant::now();
        let connected = connect(sd, &handle);
        assert!(begun.elapsed() >= semantics.failing_takes);
        if semantics.failures_are_told {
            assert_eq!(errno(connected), Some(libc::ENOENT));
            assert_eq!(errno(next(sd)), Some(libc::ENOTCONN), "it is as it was");
            continue;
        }
        assert_eq!(connected.unwrap().map(|hidden| hidden.errno), Some(libc::ENOENT), "for errno");
        let mut poll = [libc::pollfd { fd: sd, events: libc::POLLIN, revents: 0 }];
        assert_eq!(socket::poll(&mut poll, Wait::No), Ok(1));
        assert_eq!((note(sd), note(sd)), (NECESSARY, NECESSARY), "at each call");
        assert_eq!(errno(send(sd, 0, b"x")), Some(libc::EPIPE));
        assert_eq!(fail_over(sd).unwrap().map(|hidden| hidden.errno), Some(libc::ENOENT), "for errno");
        assert_eq!(note(sd), NECESSARY, "the pool is as empty as before");
        let server = world.server(Kind::SeqPacket, &handle);
        assert_eq!(fail_over(sd), Ok(None));
        assert_eq!(note(sd), COMPLETE);
        send(sd, 0, b"hello").unwrap();
        // It looks for somebody by itself, too, and may have come just before it was told to move on.
        loop {
            match next(server).unwrap() {
                Incoming::Data { bytes, .. } => break assert_eq!(bytes, 5),
                Incoming::Notification(_) => {}
                other => panic!("{other:?}"),
            }
        }
    }
}

#[test]
fn without_registrar_calls_fail_or_only_seem_to_succeed() {
    let nobody = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    for semantics in BOTH {
        let _alone = ALONE.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        let call_timeout = Some(Duration::from_millis(300));
        let context = Context::start(&Options { call_timeout, ..options(nobody, semantics) }).unwrap();
        let told = |errno| semantics.failures_are_told.then_some(errno);
        let sd = context.socket(0, Kind::SeqPacket, 0).unwrap();
        let registered =
            socket::register(sd, &pool("Any"), &Policy::ROUND_ROBIN, RENEWAL, None, true, Wait::Default);
        assert_eq!(errno(registered), told(libc::EHOSTUNREACH));
        if !semantics.failures_are_told {
            assert_eq!(socket::local_name(sd).unwrap().0, pool("Any"));
            socket::deregister(sd, Wait::Default).unwrap();
        }
        let user = context.socket(0, Kind::SeqPacket, 0).unwrap();
        let connected = socket::connect(user, &pool("Any"), Duration::ZERO, Wait::Default);
        assert_eq!(errno(connected.clone()), told(libc::EHOSTUNREACH));
        if !semantics.failures_are_told {
            assert_eq!(connected.unwrap().map(|hidden| hidden.errno), Some(libc::EIO), "for errno");
            assert_eq!(note(user), NECESSARY);
            let moved = socket::force_failover(user, false, Duration::ZERO, Wait::Default);
            assert_eq!(errno(moved), Some(libc::EIO));
        }
        context.close();
    }
}

#[test]
fn a_registration_that_is_refused_fails_or_only_seems_to_succeed() {
    for semantics in BOTH {
        let world = World::new(semantics);
        let handle = pool("Policy");
        world.server(Kind::SeqPacket, &handle);
        let sd = world.socket(Kind::SeqPacket);
        let random = Policy::new(PolicyType::Random, &[]);
        let registered = register(sd, &handle, random);
        if semantics.failures_are_told {
            assert_eq!(errno(registered), Some(libc::EPROTOTYPE));
            assert_eq!(errno(socket::deregister(sd, PATIENCE)), Some(libc::EINVAL));
        } else {
            let id = registered.unwrap();
            assert_eq!(socket::local_name(sd), Ok((handle.clone(), id)));
            assert_eq!(register(sd, &handle, random), Ok(id));
            let begun = Instant::now();
            assert_eq!(socket::deregister(sd, PATIENCE), Ok(()));
            assert!(begun.elapsed() < Duration::from_secs(10), "there is nothing to wait for");
        }
        assert_eq!(world.context.resolve(&handle, Some(9), Duration::ZERO, PATIENCE).unwrap().len(), 1);
    }
}

#[test]
fn an_element_that_ends_a_session_in_order_ends_it_or_has_failed() {
    for semantics in BOTH {
        let world = World::new(semantics);
        let handle = pool("Daytime");
        let server = world.server(Kind::SeqPacket, &handle);
        let user = world.user(Kind::SeqPacket, &handle);
        assert_eq!(note(server), Notification::SessionAdd { session: 1 });
        let end = Outgoing { session: 1, eof: true, ..Outgoing::default() };
        socket::send(server, b"noon", &end, PATIENCE).unwrap();
        assert_eq!(note(server), Notification::SessionRemove { session: 1 });
        assert!(matches!(next(user).unwrap(), Incoming::Data { bytes: 4, .. }));
        if semantics.orderly_end_is_final {
            assert_eq!(note(user), Notification::Shutdown { session: 1 });
            assert_eq!(next(user), Ok(Incoming::End));
            assert_eq!(errno(fail_over(user)), Some(libc::ENOTCONN));
        } else {
            assert_eq!((note(user), note(user)), (NECESSARY, NECESSARY));
            fail_over(user).unwrap();
            assert_eq!(note(user), COMPLETE);
            assert_eq!(note(server), Notification::SessionAdd { session: 1 });
        }
    }
}

#[test]
fn on_a_stream_a_loss_is_an_error_or_looks_like_the_end() {
    for semantics in BOTH {
        let world = World::new(semantics);
        let handle = pool("Stream");
        let listener = world.server(Kind::Stream, &handle);
        let lost = if semantics.stream_loss_is_error { Some(libc::ECONNRESET) } else { None };
        let abort = Outgoing { abort: true, ..Outgoing::default() };
        // The user, then the element, breaks it off.
        for side in 0..2 {
            let user = world.user(Kind::Stream, &handle);
            let session = socket::accept(listener, PATIENCE).unwrap();
            send(user, 0, b"hello").unwrap();
            assert!(matches!(next(session).unwrap(), Incoming::Data { bytes: 5, .. }));
            let (breaker, other) = if side == 0 { (user, session) } else { (session, user) };
            socket::send(breaker, b"", &abort, PATIENCE).unwrap();
            let told = next(other);
            if lost.is_none() {
                assert_eq!((told, next(other)), (Ok(Incoming::End), Ok(Incoming::End)));
            } else {
                assert_eq!(errno(told), lost);
            }
            for sd in [user, session] {
                socket::close(sd).unwrap();
            }
        }
    }
}

#[test]
fn an_element_goes_on_while_a_thread_waits_in_a_session() {
    for semantics in BOTH {
        let world = World::new(semantics);
        let handle = pool("Threads");
        let listener = world.server(Kind::Stream, &handle);
        let user = world.user(Kind::Stream, &handle);
        let session = socket::accept(listener, PATIENCE).unwrap();
        let (tell, told) = std::sync::mpsc::channel();
        let waiting = std::thread::spawn(move || {
            // SAFETY: no memory is involved.
            tell.send(unsafe { libc::gettid() }).unwrap();
            socket::receive(session, &mut [0; 64], true, PATIENCE)
        });
        let stat = format!("/proc/self/task/{}/stat", told.recv().unwrap());
        while !std::fs::read_to_string(&stat).unwrap().contains(") S ") {
            std::thread::yield_now();
        }
        // What servers of RSPLIB's do meanwhile: another backlog, another load, the next user, the same session.
        socket::listen(listener, 20).unwrap();
        register(listener, &handle, Policy::ROUND_ROBIN).unwrap();
        let another = world.user(Kind::Stream, &handle);
        let mut poll = [libc::pollfd { fd: listener, events: libc::POLLIN, revents: 0 }];
        assert_eq!(socket::poll(&mut poll, PATIENCE), Ok(1));
        let accepted = socket::accept(listener, PATIENCE).unwrap();
        send(session, 0, b"unasked").unwrap();
        assert!(matches!(next(user).unwrap(), Incoming::Data { bytes: 7, .. }));
        assert!(!waiting.is_finished());
        send(user, 0, b"hello").unwrap();
        assert!(matches!(waiting.join().unwrap(), Ok(Incoming::Data { bytes: 5, .. })));
        for sd in [user, another, session, accepted] {
            socket::close(sd).unwrap();
        }
    }
}

#[test]
fn reading_waits_for_data_or_gives_what_there_is() {
    for semantics in BOTH {
        let world = World::new(semantics);
        let handle = pool("Read");
        let server = world.server(Kind::SeqPacket, &handle);
        if !semantics.plain_calls_wait {
            assert_eq!(errno(socket::read(server, &mut [0; 64], Wait::Default)), Some(libc::EAGAIN));
        }
        let user = world.user(Kind::SeqPacket, &handle);
        send(user, 0, b"hello").unwrap();
        let mut poll = [libc::pollfd { fd: server, events: libc::POLLIN, revents: 0 }];
        assert_eq!(socket::poll(&mut poll, PATIENCE), Ok(1));
        let first = socket::read(server, &mut [0; 64], Wait::Default).unwrap();
        if semantics.read_gives_data_only {
            assert!(matches!(first, Incoming::Data { bytes: 5, .. }), "{first:?}");
        } else {
            assert_eq!(first, Incoming::Notification(Notification::SessionAdd { session: 1 }));
        }
    }
}

#[test]
fn closing_a_mapped_descriptor_leaves_the_original_or_not() {
    for semantics in BOTH {
        let world = World::new(semantics);
        let (ours, mut theirs) = UnixStream::pair().unwrap();
        let sd = world.context.map(ours.as_raw_fd(), None).unwrap();
        assert_eq!(socket::write(sd, b"hello", Wait::Default), Ok(5));
        let mut buffer = [0; 5];
        theirs.read_exact(&mut buffer).unwrap();
        theirs.write_all(b"world").unwrap();
        assert!(matches!(socket::read(sd, &mut buffer, Wait::Default), Ok(Incoming::Data { bytes: 5, .. })));
        // Unmapping leaves it in both.
        socket::unmap(sd).unwrap();
        let number = ours.into_raw_fd();
        let sd = world.context.map(number, None).unwrap();
        socket::close(sd).unwrap();
        theirs.set_nonblocking(true).unwrap();
        match theirs.read(&mut buffer) {
            Ok(0) => assert!(semantics.close_reaches_original),
            Err(e) if e.kind() == std::io::ErrorKind::WouldBlock => {
                assert!(!semantics.close_reaches_original);
                let again = world.context.map(number, None).unwrap();
                socket::close(again).unwrap();
            }
            other => panic!("{other:?}"),
        }
        // What is mapped from the start can be mapped once more, and not by accident twice.
        let output = world.context.map(1, None).unwrap();
        assert_eq!(errno(world.context.map(output, None)), Some(libc::EINVAL));
        socket::unmap(output).unwrap();
        // The other two are the runner's to see.
        assert_eq!(socket::unmap(0).is_ok(), semantics.maps_standard_streams);
    }
}

#[test]
fn descriptors_are_any_or_below_a_limit() {
    // Beyond what a process may have open unasked.
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: `limit` outlives the calls.
    unsafe {
        assert_eq!(libc::getrlimit(libc::RLIMIT_NOFILE, &raw mut limit), 0);
        limit.rlim_cur = limit.rlim_max.min(4096);
        assert_eq!(libc::setrlimit(libc::RLIMIT_NOFILE, &raw const limit), 0);
    }
    for semantics in BOTH {
        let world = World::new(semantics);
        let (ours, theirs) = UnixStream::pair().unwrap();
        let mut others = Vec::new();
        while others.last().is_none_or(|fd: &UnixStream| fd.as_raw_fd() < 1030) {
            others.push(theirs.try_clone().unwrap());
        }
        let socket = world.context.socket(0, Kind::SeqPacket, 0);
        let mapped = world.context.map(ours.as_raw_fd(), None);
        match semantics.descriptor_limit {
            None => assert!(socket.unwrap() > 1024 && mapped.unwrap() > 1024),
            Some(_) => {
                assert_eq!((errno(socket), errno(mapped)), (Some(libc::EMFILE), Some(libc::EMFILE)));
                drop(others);
                assert!((1..1024).contains(&world.context.map(ours.as_raw_fd(), None).unwrap()));
                assert!((0..1024).contains(&world.socket(Kind::SeqPacket)));
            }
        }
    }
}

#[test]
fn a_protocol_is_demanded_or_wished_for() {
    for semantics in BOTH {
        let world = World::new(semantics);
        let made = world.context.socket(0, Kind::SeqPacket, libc::IPPROTO_SCTP);
        let refused = semantics.protocol_is_binding && !has_sctp();
        assert_eq!(errno(made), refused.then_some(libc::EPROTONOSUPPORT));
    }
}

#[test]
fn a_look_up_gives_all_elements_or_one() {
    for semantics in BOTH {
        let world = World::new(semantics);
        let handle = pool("Two");
        for _ in 0..2 {
            world.server(Kind::SeqPacket, &handle);
        }
        let count = |items| world.context.resolve(&handle, items, Duration::ZERO, PATIENCE).unwrap().len();
        assert_eq!(count(None), if semantics.default_items.is_none() { 2 } else { 1 });
        assert_eq!(count(Some(2)), 2);
    }
}

#[test]
fn pool_handles_are_long_or_short() {
    for semantics in BOTH {
        let world = World::new(semantics);
        let sd = world.socket(Kind::SeqPacket);
        for (bytes, allowed) in [(semantics.handle_bytes, true), (semantics.handle_bytes + 1, false)] {
            let refused = errno(register(sd, &pool(&"x".repeat(bytes)), Policy::ROUND_ROBIN));
            assert_eq!(refused == Some(libc::ENAMETOOLONG), !allowed, "{bytes} bytes: {refused:?}");
            let refused = errno(world.context.resolve(&pool(&"y".repeat(bytes)), None, RENEWAL, PATIENCE));
            assert_eq!(refused == Some(libc::ENAMETOOLONG), !allowed, "{bytes} bytes: {refused:?}");
        }
    }
}

#[test]
fn where_nothing_can_come_calls_fail_or_wait() {
    for semantics in BOTH {
        let world = World::new(semantics);
        let fresh = world.socket(Kind::Stream);
        let server = world.server(Kind::SeqPacket, &pool("Idle"));
        let time = Duration::from_millis(200);
        let calls: [(&dyn Fn() -> Option<i32>, i32); 3] = [
            (&|| errno(socket::receive(fresh, &mut [0; 64], false, Wait::For(time))), libc::ENOTCONN),
            (&|| errno(socket::accept(fresh, Wait::For(time))), libc::EINVAL),
            (&|| errno(socket::accept(server, Wait::For(time))), libc::EOPNOTSUPP),
        ];
        for (call, refusal) in calls {
            let begun = Instant::now();
            if semantics.idle_sockets_refuse {
                assert_eq!(call(), Some(refusal));
            } else {
                assert_eq!(call(), Some(libc::EAGAIN));
                assert!(begun.elapsed() >= time);
            }
        }
    }
}

#[test]
fn sessions_that_there_are_not_are_refused_or_the_only_one_is_meant() {
    for semantics in BOTH {
        let world = World::new(semantics);
        let handle = pool("Only");
        let server = world.server(Kind::SeqPacket, &handle);
        let user = world.user(Kind::SeqPacket, &handle);
        let refused = semantics.odd_arguments_are_errors.then_some(libc::ENOTCONN);
        assert_eq!(errno(send(user, 77, b"x")), refused);
        assert_eq!(errno(socket::set_status(user, 77, "x")), refused);
        assert!(errno(send(server, 77, b"x")).is_some(), "this one has several");
    }
}

#[test]
fn errno_values_are_ours_or_theirs() {
    for semantics in BOTH {
        let world = World::new(semantics);
        let handle = pool("Errors");
        let fresh = world.socket(Kind::SeqPacket);
        let server = world.server(Kind::SeqPacket, &handle);
        let user = world.user(Kind::SeqPacket, &handle);
        let found = [
            errno(send(server, 77, b"x")),
            errno(send(fresh, 0, b"x")),
            errno(socket::send_cookie(server, b"x", 77, PATIENCE)),
            errno(socket::set_status(server, 77, "x")),
            errno(socket::deregister(fresh, PATIENCE)),
            errno(register(server, &pool("Other"), Policy::ROUND_ROBIN)),
            errno(connect(user, &handle)),
            errno(fail_over(fresh)),
            errno(socket::bind(user, &[])),
            errno(socket::listen(user, 5)),
            errno(socket::local_name(user)),
            errno(socket::peer_name(server)),
        ];
        let ours = [
            libc::ENOTCONN,
            libc::ENOTCONN,
            libc::ENOTCONN,
            libc::ENOTCONN,
            libc::EINVAL,
            libc::EINVAL,
            libc::EISCONN,
            libc::ENOTCONN,
            libc::EISCONN,
            libc::EISCONN,
            libc::EINVAL,
            libc::ENOTCONN,
        ];
        let theirs = [
            libc::EBADF,
            libc::EBADF,
            libc::EINVAL,
            libc::EINVAL,
            libc::EBADF,
            libc::EBADF,
            libc::EBADF,
            libc::EBADF,
            libc::EINVAL,
            libc::EINVAL,
            libc::EBADF,
            libc::EBADF,
        ];
        assert_eq!(found, if semantics.rsplib_errnos { theirs } else { ours }.map(Some));
    }
}

#[test]
fn a_status_is_kept_for_its_session_and_goes_with_it() {
    let world = World::new(Semantics::ASAP);
    let handle = pool("Status");
    let server = world.server(Kind::SeqPacket, &handle);
    let user = world.user(Kind::SeqPacket, &handle);
    assert_eq!(note(server), Notification::SessionAdd { session: 1 });
    assert_eq!(socket::status(server, 1), Ok(String::new()));
    socket::set_status(server, 1, &"ä".repeat(70)).unwrap();
    assert_eq!(socket::status(server, 1), Ok("ä".repeat(63)), "cut, but not within a letter");
    socket::set_status(user, 0, "asking").unwrap();
    assert_eq!(socket::status(user, 1), Ok("asking".to_owned()));
    socket::close(user).unwrap();
    assert_eq!(note(server), Notification::Shutdown { session: 1 });
    assert_eq!(note(server), Notification::SessionRemove { session: 1 });
    assert_eq!(errno(socket::status(server, 1)), Some(libc::ENOTCONN));
    world.user(Kind::SeqPacket, &handle);
    assert_eq!(note(server), Notification::SessionAdd { session: 1 });
    assert_eq!(socket::status(server, 1), Ok(String::new()), "it is another session");
}

#[test]
fn the_documentation_has_a_row_for_each_difference() {
    let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR"));
    let source = std::fs::read_to_string(root.join("src/socket/semantics.rs")).unwrap();
    let table = std::fs::read_to_string(root.join("docs/semantics.md")).unwrap();
    let body = source.split("pub struct Semantics {").nth(1).unwrap().split('}').next().unwrap();
    let fields: Vec<&str> = body
        .lines()
        .filter_map(|line| line.trim().strip_prefix("pub ")?.split_once(':'))
        .map(|f| f.0)
        .collect();
    assert!(fields.len() > 8, "{fields:?}");
    for field in fields {
        assert!(table.contains(&format!("| `{field}` |")), "docs/semantics.md has no row for {field}");
    }
}
