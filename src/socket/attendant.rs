//! The second thread of a context: it carries streams to pools (`relay`) and looks after descriptors of the program's that
//! are registered (`serve`). It is there from the first of these on. Bulk data in the background thread would keep it from
//! answering keep-alives.
//!
//! A forked child has no part in it: the descriptors of this side are closed there at once, the program's own remain, and go
//! on for as long as the parent does.

use super::call::{Role, Socket};
use super::context::Context;
use super::fork::Guarded;
use super::relay::{PIECE, Relay, Turn};
use super::{Options, Result, Wait, errors, serve, user};
use crate::machine::LinkKind;
use crate::name::{Name, OnFailure};
use crate::runtime::fork::Private;
use crate::runtime::listener::Given;
use crate::runtime::pair::{self, Near};
use crate::runtime::poller::Interest;
use crate::runtime::readiness::{self, ReadySet};
use crate::runtime::wake::Wake;
use crate::runtime::{self, FileId};
use crate::types::Time;
use crossbeam_channel::{Receiver, Sender, bounded, unbounded};
use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsRawFd, IntoRawFd, OwnedFd, RawFd};
use std::sync::{Arc, Once};
use std::thread::JoinHandle;
use std::time::Duration;

/// How often what makes no descriptor ready is looked after.
const ROUND: Duration = Duration::from_millis(250);
/// How long the end of a context, or of the process, waits for what programs have written.
const FAREWELL: Duration = Duration::from_secs(2);
/// The wake-up's token; a stream has two, from 2 on: the program's end, and one more for the session.
const WAKE: u64 = 0;

/// The sockets of all streams, by the program's end.
static STREAMS: Guarded<BTreeMap<FileId, Arc<Socket>>> = Guarded::new(BTreeMap::new());

/// What the thread is asked.
enum Request {
    /// Carry a stream, whose program's end this is.
    Carry(FileId, Box<Relay>),
    /// Look after registered descriptors from now on.
    LookAfter,
    /// Send what programs have written, and end.
    Finish(Time),
}

/// A thread of a context, and the way to it.
#[derive(Debug)]
pub(super) struct Attendant {
    requests: Sender<Request>,
    wake: Arc<Wake>,
    thread: Option<JoinHandle<()>>,
    ended: Receiver<()>,
    _mark: Private,
}

impl Attendant {
    /// Starts the thread.
    pub(super) fn start() -> Result<Attendant> {
        let start = || -> io::Result<Attendant> {
            let wake = Arc::new(Wake::new()?);
            let set = ReadySet::new()?;
            set.set(wake.fd(), WAKE, Interest::READ)?;
            let mark = Private::new(wake.fd());
            let (requests, asked) = unbounded();
            let (end, ended) = bounded(1);
            let mut work = Work {
                _mark: Private::new(set.fd()),
                set,
                wake: wake.clone(),
                asked,
                streams: BTreeMap::new(),
                next: 1,
                again: Vec::new(),
                looks_after: false,
                finishing: None,
                buffer: vec![0; PIECE + 1],
            };
            let thread = runtime::driver::without_signals("asap-attendant", move || {
                let run = std::panic::AssertUnwindSafe(|| work.run());
                if std::panic::catch_unwind(run).is_err() {
                    log::error!("the attendant has failed: a defect of this library");
                }
                drop(work);
                let _ = end.send(());
            })?;
            Ok(Attendant { requests, wake, thread: Some(thread), ended, _mark: mark })
        };
        let attendant = start().map_err(|e| errors::system("cannot start a thread for streams", &e))?;
        at_exit();
        Ok(attendant)
    }

    fn ask(&self, request: Request) -> Result<()> {
        let asked = self.requests.send(request).is_ok();
        self.wake.wake();
        if asked { Ok(()) } else { Err(errors::stopped()) }
    }

    /// Has registered descriptors looked after.
    pub(super) fn look_after(&self) -> Result<()> {
        self.ask(Request::LookAfter)
    }

    /// Sends what programs have written, closes all streams, and ends the thread.
    pub(super) fn finish(mut self) {
        let Some(thread) = self.thread.take() else { return };
        let _ = self.ask(Request::Finish(runtime::now() + FAREWELL));
        // The last one to hold the context may be this thread itself.
        if thread.thread().id() != std::thread::current().id() && thread.join().is_err() {
            log::error!("the attendant has failed");
        }
    }

    /// As a process ends, whose other threads may be stuck.
    fn finish_at_exit(self) {
        if self.ask(Request::Finish(runtime::now() + FAREWELL)).is_ok() {
            let _ = self.ended.recv_timeout(FAREWELL + ROUND);
        }
    }

    /// In a forked child, where its thread is not: nothing of it is touched.
    pub(super) fn forget(mut self) {
        std::mem::forget(self.thread.take());
        std::mem::forget(self);
    }
}

/// What a program has written to its streams is sent, and what it serves leaves its pools, when the process ends by exit(3) or
/// by returning from main, too: a socket of the kernel would deliver it.
fn at_exit() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        runtime::at_exit(|| {
            if let Ok(context) = super::default_context() {
                serve::leave_all(&context);
                if let Some(attendant) = context.take_attendant() {
                    attendant.finish_at_exit();
                }
            }
        });
    });
}

/// In a forked child: closes its copies of what carries streams, and tells nobody.
pub(super) fn let_go() {
    let streams = std::mem::take(&mut *STREAMS.lock());
    for socket in streams.into_values() {
        socket.shut();
    }
    serve::let_go();
}

struct Stream {
    relay: Box<Relay>,
    file: FileId,
    /// How the session's descriptor is waited for.
    edges: bool,
}

/// The thread's own.
struct Work {
    // Dropped in this order.
    _mark: Private,
    set: ReadySet,
    wake: Arc<Wake>,
    asked: Receiver<Request>,
    streams: BTreeMap<u64, Stream>,
    next: u64,
    again: Vec<u64>,
    looks_after: bool,
    finishing: Option<Time>,
    buffer: Vec<u8>,
}

impl Work {
    fn run(&mut self) {
        let mut tokens = Vec::new();
        let mut round = runtime::now();
        loop {
            let now = runtime::now();
            let leaving = self.streams.values().any(|stream| stream.relay.is_leaving());
            let timeout =
                match (self.again.is_empty(), self.looks_after || leaving || self.finishing.is_some()) {
                    (false, _) => Some(Duration::ZERO),
                    (true, true) => Some((round + ROUND).since(now)),
                    (true, false) => None,
                };
            let mut fds = [libc::pollfd { fd: self.set.fd(), events: libc::POLLIN, revents: 0 }];
            // An error is a signal's, of which this thread takes none, or want of memory: it is tried again.
            let _ = readiness::wait(&mut fds, timeout);
            self.set.ready(&mut tokens);
            let mut due = std::mem::take(&mut self.again);
            for token in tokens.drain(..) {
                if token == WAKE { self.wake.clear() } else { due.push(token / 2) }
            }
            while let Ok(request) = self.asked.try_recv() {
                match request {
                    Request::Carry(file, relay) => due.extend(self.take_on(file, relay)),
                    Request::LookAfter => self.looks_after = true,
                    Request::Finish(until) => {
                        self.finishing = Some(until);
                        self.streams.values_mut().for_each(|stream| stream.relay.finish(until));
                        due.extend(self.streams.keys());
                    }
                }
            }
            let now = runtime::now();
            if now >= round + ROUND {
                round = now;
                let leaving = self.streams.iter().filter(|(_, stream)| stream.relay.is_leaving());
                due.extend(leaving.map(|(number, _)| *number));
                if self.looks_after {
                    self.looks_after = serve::look_after(now);
                }
            }
            due.sort_unstable();
            due.dedup();
            for number in due {
                self.turn(now, number);
            }
            if let Some(until) = self.finishing
                && (self.streams.is_empty() || now >= until)
            {
                return self.abandon();
            }
        }
    }

    fn take_on(&mut self, file: FileId, relay: Box<Relay>) -> Option<u64> {
        let number = self.next;
        self.next += 1;
        let joined = relay
            .near()
            .map_or(Ok(()), |near| self.set.set_edges(near.fd(), number * 2))
            .and_then(|()| self.set.set(relay.socket().number(), number * 2 + 1, Interest::READ));
        let mut stream = Stream { relay, file, edges: false };
        if let Err(e) = joined {
            log::error!("a stream cannot be waited for: {e}");
            stream.relay.abort();
            STREAMS.lock().remove(&file);
            return None;
        }
        if let Some(until) = self.finishing {
            stream.relay.finish(until);
        }
        self.streams.insert(number, stream);
        Some(number)
    }

    fn turn(&mut self, now: Time, number: u64) {
        let Some(stream) = self.streams.get_mut(&number) else { return };
        match stream.relay.turn(now, &mut self.buffer) {
            Turn::Again => self.again.push(number),
            Turn::Wait { edges } if edges == stream.edges => {}
            Turn::Wait { edges } => {
                stream.edges = edges;
                let (fd, token) = (stream.relay.socket().number(), number * 2 + 1);
                let changed = match edges {
                    true => self.set.set_edges(fd, token),
                    false => self.set.set(fd, token, Interest::READ),
                };
                if let Err(e) = changed {
                    log::error!("a stream cannot be waited for: {e}");
                }
            }
            Turn::Over => {
                let gone = self.streams.remove(&number);
                if let Some(stream) = gone {
                    STREAMS.lock().remove(&stream.file);
                }
            }
        }
    }

    fn abandon(&mut self) {
        for (_, mut stream) in std::mem::take(&mut self.streams) {
            stream.relay.abort();
            STREAMS.lock().remove(&stream.file);
        }
    }
}

/// The context of a call that needs none to be started before: the default one, started if need be.
pub(super) fn running(name: &Name) -> Result<Context> {
    match super::default_context() {
        Err(e) if e.errno == libc::EACCES || e.errno == libc::ENOTSUP => {}
        other => {
            let context = other?;
            if let Some(registrars) = &name.settings.registrars {
                context.use_registrars(registrars)?;
            }
            return Ok(context);
        }
    }
    let registrars = name.settings.registrars.as_deref().unwrap_or_default();
    super::initialize(&Options { registrar_names: registrars.to_vec(), ..Options::default() })?;
    super::default_context()
}

/// Opens a stream to a pool.
fn open(name: &Name, nonblocking: bool) -> Result<OwnedFd> {
    let context = running(name)?;
    context.check(&name.handle)?;
    let settings = name.settings.clone().or(context.settings());
    let mut options = super::call::initial_options(&context);
    options.apply(&settings);
    let resume = settings.on_failure == Some(OnFailure::Resume);
    options.session.automatic_failover = resume;
    // A stream that is to go on has no end but the program's: who ends it in order is replaced, too.
    options.session.orderly_end_is_final = !resume;
    let carrier = super::call::Carrier::Tcp;
    let socket = Socket::new(&context, super::Kind::Stream, carrier, false, Role::Fresh, options)?;
    let opened = (|| {
        let wait = if nonblocking { Wait::No } else { Wait::Default };
        match user::connect(&socket, &name.handle, Duration::ZERO, wait) {
            Ok(None) => {}
            Err(e) if nonblocking && e.errno == libc::EINPROGRESS => {}
            // Nobody fails over by hand here: a failure is always told.
            Ok(Some(e)) | Err(e) => return Err(e),
        }
        let made = Near::new(nonblocking).map_err(|e| errors::system("cannot make a pair of sockets", &e))?;
        let file = FileId::of(made.1.as_raw_fd()).ok_or_else(|| errors::closed(made.1.as_raw_fd()))?;
        Ok((made.0, made.1, file))
    })();
    let (near, far, file) = match opened {
        Ok(opened) => opened,
        Err(e) => {
            socket.shut();
            return Err(e);
        }
    };
    if nonblocking {
        pair::set_nonblocking(&far).map_err(|e| errors::system("cannot prepare a descriptor", &e))?;
    }
    STREAMS.lock().insert(file, socket.clone());
    let relay = Box::new(Relay::new(socket.clone(), near, !nonblocking));
    let asked = context.attended(|attendant| attendant.ask(Request::Carry(file, relay)));
    if let Err(e) = asked {
        STREAMS.lock().remove(&file);
        socket.shut();
        return Err(e);
    }
    Ok(far)
}

/// See [`super::stream_peer`].
pub(super) fn peer(fd: RawFd) -> Option<Result<SocketAddr>> {
    let socket = STREAMS.lock().get(&FileId::of(fd)?).cloned()?;
    Some(socket.with(|inner, _| {
        let peer = match &inner.role {
            Role::User(user) => user.line.machine.peer_addresses().first().copied(),
            Role::Fresh
            | Role::Element(_)
            | Role::Accepted(_)
            | Role::Dispatch(_)
            | Role::Watch(_)
            | Role::Closed => None,
        };
        peer.ok_or_else(|| errors::not_connected(fd, "name the peer"))
    }))
}

/// See [`super::open_at`].
pub(super) fn open_at(name: &Name, number: RawFd) -> Result<bool> {
    let system = |doing: &'static str| move |e: io::Error| errors::system(doing, &e);
    let nonblocking = pair::is_nonblocking(number).map_err(system("cannot look at the socket"))?;
    // Programs ask so what has become of their first call.
    if let Some(e) = pair::take_error(number) {
        return Err(system("the stream has failed")(e));
    }
    match peer(number) {
        Some(Ok(_)) => return Err(errors::error(libc::EISCONN, "this stream has an element")),
        Some(Err(e)) => return Err(errors::error(libc::EALREADY, e.what)),
        None => {}
    }
    let given = Given::new(number).map_err(system("this descriptor cannot become a stream to a pool"))?;
    if given.kind() == LinkKind::Udp {
        return Err(errors::error(libc::EPROTONOSUPPORT, "a pool is reached by streams, not by datagrams"));
    }
    drop(given);
    let far = open(name, nonblocking)?;
    pair::copy_timeouts(number, &far).map_err(system("cannot take over the socket's time-outs"))?;
    pair::replace(far, number).map_err(system("cannot take over the socket's number"))?;
    Ok(!nonblocking)
}

/// See [`super::open`].
pub(super) fn open_new(name: &Name, nonblocking: bool) -> Result<RawFd> {
    Ok(open(name, nonblocking)?.into_raw_fd())
}
