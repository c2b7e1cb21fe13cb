//! Descriptors of the program's that are registered in pools: the program accepts and serves as it always did, and here it is
//! only said that it does. The descriptor is not duplicated, so that closing it closes it; the attendant sees that within a
//! quarter of a second, and the element leaves its pool.

use super::attendant::running;
use super::context::{self, Context};
use super::fork::Guarded;
use super::{DEFAULT_RENEWAL, Result, Wait, element, errors};
use crate::endpoint::Offer;
use crate::machine::LinkKind;
use crate::name::Name;
use crate::policy::Policy;
use crate::runtime::listener::{Given, listens};
use crate::runtime::{self, FileId};
use crate::types::{
    Addresses, Capabilities, PeId, PoolHandle, RegistrationLife, Time, TransportAddress, TransportUse,
};
use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, bounded};
use std::collections::BTreeMap;
use std::convert::Infallible;
use std::os::fd::RawFd;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

/// How long leaving a pool waits where nobody has said so.
const FAREWELL: Duration = Duration::from_secs(1);

/// Asked whether the program is well: its policy values as they are to be from now on, or none: it is to be in no pool until it
/// is asked again. Called by a thread of its own.
pub type Health = Box<dyn FnMut(RawFd, &Policy) -> Option<Policy> + Send>;

/// How a descriptor is to be served.
pub struct Serving {
    /// Policy and values; none: those of the name, of environment or file, or round robin.
    pub policy: Option<Policy>,
    /// Its identifier; none: a random one.
    pub id: Option<PeId>,
    /// How often the registration is renewed; it stands three times as long.
    pub renewal: Duration,
    /// Asked before each round of `interval`; one that has not answered in `patience` is not well.
    pub health: Option<Health>,
    /// How often.
    pub interval: Duration,
    /// How long an answer may take.
    pub patience: Duration,
}

impl Default for Serving {
    fn default() -> Serving {
        Serving {
            policy: None,
            id: None,
            renewal: DEFAULT_RENEWAL,
            health: None,
            interval: Duration::from_secs(1),
            patience: Duration::from_secs(5),
        }
    }
}

/// A served descriptor.
struct Served {
    context: Context,
    fd: RawFd,
    file: FileId,
    listens: bool,
    handle: PoolHandle,
    id: PeId,
    state: Guarded<State>,
}

struct State {
    offer: Offer,
    /// It is in its pool, as far as that is up to us.
    standing: bool,
    /// Since when an answer about its health is awaited, and how long that may take.
    asked: Option<Time>,
    patience: Duration,
    asker: Option<Asker>,
}

/// The thread that asks.
struct Asker {
    thread: JoinHandle<()>,
    stop: Sender<Infallible>,
}

static SERVED: Guarded<BTreeMap<RawFd, Arc<Served>>> = Guarded::new(BTreeMap::new());

/// Threads that ask nothing more, but may still await an answer.
static ENDING: Guarded<Vec<JoinHandle<()>>> = Guarded::new(Vec::new());

/// See [`super::serve`].
pub(super) fn serve(fd: RawFd, name: &Name, serving: Serving, wait: Wait) -> Result<PeId> {
    let given = Given::new(fd).map_err(|e| errors::system("cannot serve this descriptor", &e))?;
    let (kind, local, listening) = (given.kind(), given.local(), given.is_listening());
    drop(given);
    let Some(local) = local else {
        return Err(errors::error(libc::EINVAL, format!("descriptor {fd} is not bound: bind() it first")));
    };
    if kind != LinkKind::Udp && !listening {
        return Err(errors::error(libc::EINVAL, format!("descriptor {fd} does not listen: listen() first")));
    }
    let file = FileId::of(fd).ok_or_else(|| errors::bad_descriptor(fd))?;
    let context = running(name)?;
    context.check(&name.handle)?;
    let policy =
        serving.policy.or(name.settings.policy).or(context.settings().policy).unwrap_or(Policy::ROUND_ROBIN);
    let wait = match (wait, name.settings.timeout) {
        (Wait::Default, Some(time)) => Wait::For(time),
        (Wait::Default | Wait::No | Wait::For(_) | Wait::Forever, _) => wait,
    };
    let present = SERVED.lock().get(&fd).cloned();
    let present = match present {
        Some(served) if served.file != file => {
            leave(&served);
            None
        }
        other => other,
    };
    if let Some(served) = &present {
        if served.handle != name.handle {
            let what = format!("descriptor {fd} is in pool {}; asap_unserve() it first", served.handle);
            return Err(errors::error(libc::EINVAL, what));
        }
        if serving.id.is_some_and(|id| id != served.id) {
            let what =
                format!("descriptor {fd} is registered as {}; an identifier cannot be changed", served.id);
            return Err(errors::error(libc::EINVAL, what));
        }
    }
    let random = runtime::entropy().map_err(|e| errors::system("cannot get random numbers", &e))?;
    let id = present.as_ref().map(|served| served.id).or(serving.id);
    let address = local.ip().to_canonical();
    let port = local.port();
    let user_transport = match kind {
        LinkKind::Tcp => TransportAddress::Tcp { port, transport_use: TransportUse::DataOnly, address },
        LinkKind::Sctp => {
            let addresses = Addresses::from(address);
            TransportAddress::Sctp { port, transport_use: TransportUse::DataOnly, addresses }
        }
        LinkKind::Udp => TransportAddress::Udp { port, address },
    };
    let life = serving.renewal.saturating_mul(3).as_millis().div_ceil(1000).max(1);
    let offer = Offer {
        handle: name.handle.clone(),
        id: id.unwrap_or(PeId(((random >> 32) as u32).max(1))),
        life: RegistrationLife::Seconds(u32::try_from(life).unwrap_or(u32::MAX).min(i32::MAX as u32)),
        renewal: Some(serving.renewal),
        user_transport,
        policy,
        // What the program speaks is its own.
        capabilities: Capabilities::default(),
    };
    let id = offer.id;
    let registered = register(&context, present.is_some(), &offer, None, wait);
    if let Some(served) = present {
        registered?;
        served.state.lock().offer = offer;
        return Ok(id);
    }
    if let Err(e) = registered {
        let name = (name.handle.clone(), id);
        let _ = context.tell(move |b, now| b.withdraw(now, &name));
        return Err(e);
    }
    let served = Arc::new(Served {
        context: context.clone(),
        fd,
        file,
        listens: kind != LinkKind::Udp,
        handle: name.handle.clone(),
        id,
        state: Guarded::new(State {
            offer,
            standing: true,
            asked: None,
            patience: serving.patience,
            asker: None,
        }),
    });
    SERVED.lock().insert(fd, served.clone());
    let asking = || -> Result<()> {
        context.attended(super::attendant::Attendant::look_after)?;
        if let Some(health) = serving.health {
            let (stop, stopped) = bounded(0);
            let (asked, interval) = (served.clone(), serving.interval);
            let thread = runtime::driver::without_signals("asap-health", move || {
                ask(&asked, health, interval, &stopped)
            })
            .map_err(|e| errors::system("cannot start a thread", &e))?;
            served.state.lock().asker = Some(Asker { thread, stop });
        }
        Ok(())
    };
    if let Err(e) = asking() {
        SERVED.lock().remove(&fd);
        leave(&served);
        return Err(e);
    }
    Ok(id)
}

/// See [`super::serve_unasked`].
pub(super) fn serve_unasked(fd: RawFd, name: &Name, only: Option<u16>) -> Result<()> {
    let Ok(given) = Given::new(fd) else { return Ok(()) };
    let Some(local) = given.local() else { return Ok(()) };
    if given.kind() == LinkKind::Udp || only.is_some_and(|port| port != local.port()) {
        return Ok(());
    }
    drop(given);
    let others: Vec<Arc<Served>> = SERVED.lock().values().filter(|other| other.fd != fd).cloned().collect();
    let twice = others.iter().any(|other| other.is_open() && other.port() == Some(local.port()));
    if !twice {
        serve(fd, name, Serving::default(), Wait::No)?;
    }
    Ok(())
}

fn register(
    context: &Context,
    again: bool,
    offer: &Offer,
    closing: Option<&Receiver<Infallible>>,
    wait: Wait,
) -> Result<()> {
    let offer = offer.clone();
    if wait == Wait::No {
        // It is tried until it has succeeded.
        let patience = runtime::now() + context.call_timeout();
        return context.tell(move |b, now| b.register(now, again, offer, patience, None));
    }
    let handle = offer.handle.clone();
    let deadline = super::call::Socket::deadline(wait, context.call_timeout());
    let latest = deadline.unwrap_or(Time::NEVER);
    let outcome = context
        .ask(closing, deadline, move |b, now, reply| b.register(now, again, offer, latest, Some(reply)))?;
    outcome.map_err(|why| context::registration_failed(&handle, &why))
}

/// Asks again and again whether the program is well, and does what follows.
fn ask(served: &Served, mut health: Health, interval: Duration, stopped: &Receiver<Infallible>) {
    while stopped.recv_timeout(interval) == Err(RecvTimeoutError::Timeout) {
        let policy = {
            let mut state = served.state.lock();
            state.asked = Some(runtime::now());
            state.offer.policy
        };
        let verdict = health(served.fd, &policy);
        let (standing, offer, changed) = {
            let mut state = served.state.lock();
            state.asked = None;
            let changed = verdict.is_some_and(|policy| policy != state.offer.policy);
            if let Some(policy) = verdict {
                state.offer.policy = policy;
            }
            (state.standing, state.offer.clone(), changed)
        };
        let name = (served.handle.clone(), served.id);
        let until = runtime::now() + served.context.call_timeout();
        let done = match (verdict, standing) {
            (Some(_), true) if changed => {
                register(&served.context, true, &offer, Some(stopped), Wait::Default)
            }
            (Some(_), true) | (None, false) => Ok(()),
            (Some(_), false) => register(&served.context, false, &offer, Some(stopped), Wait::Default),
            (None, true) => served
                .context
                .ask(Some(stopped), Some(until), move |b, now, reply| {
                    b.deregister(now, &name, until, Some(reply))
                })
                .and_then(|how| element::deregistered(&served.handle, how)),
        };
        match done {
            Ok(()) => served.state.lock().standing = verdict.is_some(),
            Err(e) => log::warn!("descriptor {}: {}", served.fd, e.what),
        }
    }
}

/// One round of the attendant; whether there is anything to look after.
pub(super) fn look_after(now: Time) -> bool {
    let all: Vec<Arc<Served>> = SERVED.lock().values().cloned().collect();
    for served in &all {
        if !served.is_open() {
            log::info!("descriptor {} was closed: its element leaves pool {}", served.fd, served.handle);
            let mut table = SERVED.lock();
            if table.get(&served.fd).is_some_and(|present| Arc::ptr_eq(present, served)) {
                table.remove(&served.fd);
            }
            drop(table);
            leave(served);
            continue;
        }
        let mut state = served.state.lock();
        if state.standing && state.asked.is_some_and(|since| now.since(since) > state.patience) {
            state.standing = false;
            drop(state);
            log::warn!("descriptor {}: the program does not say that it is well", served.fd);
            let name = (served.handle.clone(), served.id);
            let _ = served.context.tell(move |b, now| b.deregister(now, &name, now + FAREWELL, None));
        }
    }
    !SERVED.lock().is_empty()
}

impl Served {
    /// Whether the program still has it, and listens.
    fn is_open(&self) -> bool {
        FileId::of(self.fd) == Some(self.file) && (!self.listens || listens(self.fd))
    }

    fn port(&self) -> Option<u16> {
        self.state.lock().offer.user_transport.port()
    }

    /// Has its thread, if there is one, ask nothing more after the question under way.
    fn stop_asking(&self) {
        if let Some(asker) = self.state.lock().asker.take() {
            drop(asker.stop);
            let mut ending = ENDING.lock();
            ending.retain(|thread| !thread.is_finished());
            ending.push(asker.thread);
        }
    }
}

/// Waits for the threads that were told to ask nothing more: the program may unload what they call.
pub(super) fn join_askers() {
    let ending = std::mem::take(&mut *ENDING.lock());
    for thread in ending {
        // The one that is asked may be the one that ends it all.
        if thread.thread().id() != std::thread::current().id() && thread.join().is_err() {
            log::error!("a thread that asks about health has failed");
        }
    }
}

/// Takes an element out of its pool and waits for nobody.
fn leave(served: &Served) {
    served.stop_asking();
    let name = (served.handle.clone(), served.id);
    let _ = served.context.tell(move |b, now| b.deregister(now, &name, now + FAREWELL, None));
}

/// See [`super::unserve`].
pub(super) fn unserve(fd: RawFd) -> Result<()> {
    let served = SERVED.lock().remove(&fd);
    let served =
        served.ok_or_else(|| errors::error(libc::EINVAL, format!("descriptor {fd} is not served")))?;
    let asker = served.state.lock().asker.take();
    if let Some(asker) = asker {
        if asker.thread.thread().id() == std::thread::current().id() {
            served.state.lock().asker = Some(asker);
            SERVED.lock().insert(fd, served);
            return Err(errors::error(
                libc::EDEADLK,
                "called by the function that is asked about health; return -1 from it",
            ));
        }
        drop(asker.stop);
        let _ = asker.thread.join();
    }
    let name = (served.handle.clone(), served.id);
    let until = runtime::now() + served.context.call_timeout();
    let how = served
        .context
        .ask(None, Some(until), move |b, now, reply| b.deregister(now, &name, until, Some(reply)))?;
    element::deregistered(&served.handle, how)
}

/// At the end of a context, or of the process.
pub(super) fn leave_all(context: &Context) {
    let all: Vec<Arc<Served>> = {
        let mut table = SERVED.lock();
        let ours: Vec<RawFd> =
            table.iter().filter(|(_, s)| s.context.is(context)).map(|(fd, _)| *fd).collect();
        ours.iter().filter_map(|fd| table.remove(fd)).collect()
    };
    for served in all {
        served.stop_asking();
        let name = (served.handle.clone(), served.id);
        let until = runtime::now() + FAREWELL;
        let _ =
            context.ask(None, Some(until), move |b, now, reply| b.deregister(now, &name, until, Some(reply)));
    }
}

/// In a forked child: the parent's elements are its own.
pub(super) fn let_go() {
    // Their threads are not here.
    std::mem::forget(std::mem::take(&mut *SERVED.lock()));
    std::mem::forget(std::mem::take(&mut *ENDING.lock()));
}
