//! Runs one [`Machine`]: its links, listeners, announcements, timeouts and commands from other threads.
//! One driver serves library and daemon; only the [`Poller`] differs. Does not know what the messages say.

use crate::config::Limits;
use crate::machine::{Effect, Input, LinkFailure, LinkId, LinkKind, Machine, Protocol};
use crate::runtime::link::LinkEvent;
use crate::runtime::multicast::{Group, Multicast};
use crate::runtime::now;
use crate::runtime::poller::{Interest, Poller, Ready};
use crate::runtime::wake::Wake;
use crate::runtime::world::{GROUPS, LINGER, LINKS, LISTENERS, WAKE, World};
use crate::types::Time;
use crossbeam_channel::{Receiver, Sender, unbounded};
use std::collections::VecDeque;
use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

/// Messages taken from one link before the next one has its turn.
const LINK_BUDGET: usize = 64;
/// Connections accepted at one listener in one turn.
const ACCEPT_BUDGET: usize = 64;
/// Commands run in one turn.
const COMMAND_BUDGET: usize = 256;
/// How long links that are closed when the driver stops may take to hand over what is queued.
const STOP_LINGER: Duration = Duration::from_millis(250);

/// What a driver opens.
#[derive(Debug, Default)]
pub struct DriverConfig {
    /// Listeners: what carries them, for what, where.
    pub listeners: Vec<(LinkKind, Protocol, SocketAddr)>,
    /// The announcement groups to hear and speak to, if any.
    pub multicast: Option<Multicast>,
    /// Limits on links.
    pub limits: Limits,
}

/// A command for a machine, run between two inputs.
pub type Command<M> = Box<dyn FnOnce(&mut M, Time) + Send>;

/// Told each event, between two inputs; may give the machine commands.
pub type OnEvent<'a, M> = dyn FnMut(&mut M, Time, <M as Machine>::Event) + 'a;

/// Runs a machine.
pub struct Driver<M: Machine> {
    machine: M,
    world: World,
    commands: Receiver<Command<M>>,
    remote: Remote<M>,
}

/// Another thread's way to a driver. Cheap to clone.
pub struct Remote<M> {
    commands: Sender<Command<M>>,
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    wake: Wake,
    stop: AtomicBool,
}

impl<M: Machine> Driver<M> {
    /// Opens the listeners. Bind failures are errors, of the kind the system gave and naming the address; a missing
    /// multicast is a log line.
    pub fn new(machine: M, poller: Box<dyn Poller>, config: DriverConfig) -> io::Result<Driver<M>> {
        Driver::open(poller, config, |_| machine)
    }

    /// The same for a machine that is to know where the listeners are, in the order of the configuration.
    pub fn open(
        mut poller: Box<dyn Poller>,
        config: DriverConfig,
        machine: impl FnOnce(&[SocketAddr]) -> M,
    ) -> io::Result<Driver<M>> {
        let shared = Arc::new(Shared { wake: Wake::new()?, stop: AtomicBool::new(false) });
        poller.set(shared.wake.fd(), WAKE, Interest::READ)?;
        let world = World::open(poller, config)?;
        let (sender, commands) = unbounded();
        let local = world.local_addresses();
        Ok(Driver { machine: machine(&local), world, commands, remote: Remote { commands: sender, shared } })
    }

    /// A handle for other threads.
    pub fn remote(&self) -> Remote<M> {
        self.remote.clone()
    }

    /// Where the listeners are, in the order of the configuration.
    pub fn local_addresses(&self) -> Vec<SocketAddr> {
        self.world.local_addresses()
    }

    /// The machine.
    pub fn machine(&mut self) -> &mut M {
        &mut self.machine
    }

    /// Runs until [`Remote::stop`]; events are told between inputs. When it returns, listeners and links are
    /// closed: those the machine has not closed itself are closed in order, and what is queued had
    /// 250 ms to go out. An error is the poller's.
    pub fn run(&mut self, on_event: &mut OnEvent<'_, M>) -> io::Result<()> {
        let mut ready = Vec::new();
        // The machine may have had something to do from the start.
        collect(&mut self.machine, now(), &mut self.world.effects, on_event);
        self.settle(on_event);
        loop {
            let waiting = !self.world.after_accepting.is_empty() && self.world.accept_paused.is_none();
            let busy = waiting || !self.world.again.is_empty() || !self.commands.is_empty();
            let wait = self.world.wait(now(), self.machine.poll_timeout(), busy);
            self.world.poller.wait(wait, &mut ready)?;
            self.turn(&mut ready, on_event);
            if self.remote.shared.stop.load(Ordering::Acquire) && self.commands.is_empty() {
                return self.wind_up(&mut ready);
            }
        }
    }

    /// One turn: what is ready, what is left over, what is due, commands.
    fn turn(&mut self, ready: &mut Vec<Ready>, on_event: &mut OnEvent<'_, M>) {
        let now = now();
        let again = std::mem::take(&mut self.world.again);
        for ready in ready.drain(..) {
            match ready.token {
                WAKE => self.remote.shared.wake.clear(),
                token if token >= LINKS => {
                    // Those with something left over have their turn below.
                    let place = token - LINKS;
                    if self.world.links.get(place).and_then(Option::as_ref).is_some_and(|link| !link.again) {
                        self.visit(now, place, on_event);
                    }
                }
                token if token >= GROUPS => self.hear(now, token - GROUPS, on_event),
                token => self.accept(now, token - LISTENERS, on_event),
            }
        }
        for place in again {
            self.visit(now, place, on_event);
        }
        for place in self.world.take_due(now) {
            self.visit(now, place, on_event);
        }
        self.world.connect_after_accepting(now);
        if self.world.resume_accepting(now) {
            // An association for which there was no descriptor does not show in its port's any more.
            (0..self.world.listeners.len()).for_each(|index| self.accept(now, index, on_event));
        }
        if let Some(groups) = &mut self.world.groups {
            groups.recheck(now);
        }
        if self.machine.poll_timeout().is_some_and(|at| at <= now) {
            self.feed(now, Input::Timeout, on_event);
        }
        for _ in 0..COMMAND_BUDGET {
            let Ok(command) = self.commands.try_recv() else { break };
            command(&mut self.machine, now);
            collect(&mut self.machine, now, &mut self.world.effects, on_event);
            self.settle(on_event);
        }
        self.settle(on_event);
    }

    fn feed(&mut self, now: Time, input: Input<'_>, on_event: &mut OnEvent<'_, M>) {
        self.machine.handle(now, input);
        collect(&mut self.machine, now, &mut self.world.effects, on_event);
        self.settle(on_event);
    }

    /// Carries out effects until there are none, then brings poller and deadlines up to date.
    fn settle(&mut self, on_event: &mut OnEvent<'_, M>) {
        let now = now();
        loop {
            while let Some(effect) = self.world.effects.pop_front() {
                self.world.execute(now, effect);
            }
            if let Some((link, why)) = self.world.failed.pop_front() {
                self.machine.handle(now, Input::LinkDown { link, why });
                collect(&mut self.machine, now, &mut self.world.effects, on_event);
            } else if !self.world.synchronise() {
                break;
            }
        }
    }

    /// Lets a link go on, and tells the machine what happened on it.
    fn visit(&mut self, now: Time, place: usize, on_event: &mut OnEvent<'_, M>) {
        let Driver { machine, world, .. } = self;
        let Some(link) = world.links.get_mut(place).and_then(Option::as_mut) else { return };
        link.again = false;
        if link.closing.is_some_and(|until| now >= until) {
            world.remove(place, false);
            return;
        }
        let (id, closing, effects) = (link.id, link.closing.is_some(), &mut world.effects);
        let mut down = None;
        // Once the machine has closed the link in this very call its identifier is dead.
        let mut dead = closing;
        let more = link.connection.progress(now, LINK_BUDGET, &mut |event| {
            let input = match event {
                LinkEvent::Down(why) => {
                    down = Some(why);
                    return;
                }
                _ if dead => return,
                LinkEvent::Up { kind, protocol, local, peer } => {
                    Input::LinkUp { link: id, kind, protocol, local, peer, identity: None }
                }
                LinkEvent::Message { channel, bytes, complete } => {
                    Input::Message { link: id, channel, bytes, complete }
                }
                LinkEvent::Writable => Input::Writable { link: id },
                LinkEvent::SendFailed { channel, message } => {
                    Input::SendFailed { link: id, channel, message }
                }
            };
            let before = effects.len();
            machine.handle(now, input);
            collect(machine, now, effects, on_event);
            dead = effects
                .iter()
                .skip(before)
                .any(|effect| matches!(effect, Effect::Close { link, .. } if *link == id));
        });
        if more && !link.again {
            link.again = true;
            world.again.push(place);
        }
        world.touch(place);
        // Answers to what came before the end go out before it is told.
        self.settle(on_event);
        if let Some(why) = down {
            self.down(now, place, id, why, on_event);
        }
    }

    /// A connection is over.
    fn down(&mut self, now: Time, place: usize, id: LinkId, why: LinkFailure, on_event: &mut OnEvent<'_, M>) {
        let Some(link) = self.world.links.get_mut(place).and_then(Option::as_mut) else { return };
        if link.id != id {
            return;
        }
        if self.world.by_id.remove(&id).is_none() {
            // Closed by us, and now by the peer.
            self.world.remove(place, false);
            return;
        }
        let mut unsent = Vec::new();
        let mut renewed = None;
        // After the peer's FIN our direction may still have something to deliver.
        if why == LinkFailure::Closed && link.connection.queued() > 0 {
            link.connection.finish();
            link.closing = Some(now + LINGER);
            self.world.touch(place);
        } else {
            unsent = link.connection.take_unsent();
            renewed = self.world.renew(place);
            if renewed.is_none() {
                self.world.remove(place, false);
            }
        }
        for (channel, message) in unsent {
            self.machine.handle(now, Input::SendFailed { link: id, channel, message });
            collect(&mut self.machine, now, &mut self.world.effects, on_event);
        }
        self.feed(now, Input::LinkDown { link: id, why }, on_event);
        if let Some((link, protocol)) = renewed {
            self.feed(now, Input::Incoming { link, protocol }, on_event);
            self.visit(now, place, on_event);
        }
    }

    fn hear(&mut self, now: Time, index: usize, on_event: &mut OnEvent<'_, M>) {
        let Driver { machine, world, .. } = self;
        let World { groups, effects, .. } = world;
        if let Some(groups) = groups {
            groups.receive(index, &mut |group, from, bytes| {
                let Group { protocol, audience, .. } = group;
                machine.handle(now, Input::Announce { protocol, audience, from, bytes });
                collect(machine, now, effects, on_event);
            });
        }
        self.settle(on_event);
    }

    fn accept(&mut self, now: Time, index: usize, on_event: &mut OnEvent<'_, M>) {
        for _ in 0..ACCEPT_BUDGET {
            if self.world.accept_paused.is_some() {
                return;
            }
            let Some((place, id, protocol)) = self.world.accept(now, index) else { return };
            let Some(place) = place else { continue };
            self.feed(now, Input::Incoming { link: id, protocol }, on_event);
            self.visit(now, place, on_event);
        }
    }

    /// Closes everything in order.
    fn wind_up(&mut self, ready: &mut Vec<Ready>) -> io::Result<()> {
        let until = now() + STOP_LINGER;
        let world = &mut self.world;
        for listener in world.listeners.drain(..) {
            world.poller.forget(listener.fd());
        }
        world.by_id.clear();
        for place in 0..world.links.len() {
            if let Some(link) = &mut world.links[place] {
                if link.closing.is_none() {
                    link.connection.finish();
                }
                link.closing = Some(until);
                world.touch(place);
            }
        }
        world.synchronise();
        while world.links.iter().any(Option::is_some) {
            let wait = world.wait(now(), None, !world.again.is_empty());
            world.poller.wait(wait, ready)?;
            let mut places = std::mem::take(&mut world.again);
            places.extend(ready.drain(..).filter_map(|ready| ready.token.checked_sub(LINKS)));
            let now = now();
            places.extend(world.take_due(now));
            for place in places {
                let Some(link) = &mut world.links[place] else { continue };
                let mut down = now >= until;
                let more = link.connection.progress(now, LINK_BUDGET, &mut |event| {
                    down |= matches!(event, LinkEvent::Down(_));
                });
                if down {
                    world.remove(place, false);
                } else {
                    if more {
                        world.again.push(place);
                    }
                    world.touch(place);
                }
            }
            world.synchronise();
        }
        Ok(())
    }
}

/// Takes what the machine wants done and tells what it has to tell, until it has nothing more.
fn collect<M: Machine>(
    machine: &mut M,
    now: Time,
    effects: &mut VecDeque<Effect>,
    on_event: &mut OnEvent<'_, M>,
) {
    loop {
        while let Some(effect) = machine.poll_effect() {
            effects.push_back(effect);
        }
        match machine.poll_event() {
            Some(event) => on_event(machine, now, event),
            None => return,
        }
    }
}

impl<M> Remote<M> {
    /// Runs a command on the driver's thread, soon. False if the driver is gone. A command that the driver
    /// could not run any more is dropped, and with it what it holds (the sender of an answer, for one).
    pub fn call(&self, command: Command<M>) -> bool {
        let sent = self.commands.send(command).is_ok();
        self.shared.wake.wake();
        sent
    }

    /// Makes [`Driver::run`] return after the commands that were given before.
    pub fn stop(&self) {
        self.shared.stop.store(true, Ordering::Release);
        self.shared.wake.wake();
    }
}

impl<M> Clone for Remote<M> {
    fn clone(&self) -> Self {
        Remote { commands: self.commands.clone(), shared: Arc::clone(&self.shared) }
    }
}

impl<M> fmt::Debug for Remote<M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Remote").finish_non_exhaustive()
    }
}

impl<M: Machine> fmt::Debug for Driver<M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Driver").field("links", &self.world.by_id.len()).finish_non_exhaustive()
    }
}

/// A driver's own thread.
#[derive(Debug)]
pub struct Thread {
    handle: JoinHandle<io::Result<()>>,
}

impl Thread {
    /// Waits until the thread has ended, which [`Remote::stop`] brings about. The driver with all its descriptors is
    /// gone then. An error: the poller's, or that the machine panicked.
    pub fn join(self) -> io::Result<()> {
        self.handle.join().unwrap_or_else(|_| Err(io::Error::other("the background thread panicked")))
    }

    /// Whether it has ended, by itself or not.
    pub fn is_finished(&self) -> bool {
        self.handle.is_finished()
    }
}

/// Runs a driver on a thread of its own, which takes no signals. A panic ends the thread and the driver, not the
/// process: [`Remote::call`] returns false from then on.
pub fn spawn<M, F>(driver: Driver<M>, name: &str, mut on_event: F) -> io::Result<Thread>
where
    M: Machine + Send + 'static,
    F: FnMut(&mut M, Time, M::Event) + Send + 'static,
{
    let handle = without_signals(name, move || {
        let mut driver = driver;
        catch_unwind(AssertUnwindSafe(move || driver.run(&mut on_event)))
            .unwrap_or_else(|_| Err(io::Error::other("the machine panicked: a defect of this library")))
    })?;
    Ok(Thread { handle })
}

/// Starts a thread that takes no signals.
pub fn without_signals<T: Send + 'static>(
    name: &str,
    run: impl FnOnce() -> T + Send + 'static,
) -> io::Result<JoinHandle<T>> {
    let old = block_signals()?;
    let handle = std::thread::Builder::new().name(name.to_owned()).spawn(run);
    restore_signals(&old);
    handle
}

/// Blocks all signals in this thread, and so in those it starts; returns what was blocked before.
pub(super) fn block_signals() -> io::Result<libc::sigset_t> {
    let mut all = std::mem::MaybeUninit::uninit();
    let mut old = std::mem::MaybeUninit::uninit();
    // SAFETY: sigfillset fills `all` before it is read, pthread_sigmask fills `old`; both outlive the calls.
    let result = unsafe {
        libc::sigfillset(all.as_mut_ptr());
        libc::pthread_sigmask(libc::SIG_SETMASK, all.as_ptr(), old.as_mut_ptr())
    };
    if result != 0 {
        return Err(io::Error::from_raw_os_error(result));
    }
    // SAFETY: pthread_sigmask succeeded and has filled it.
    Ok(unsafe { old.assume_init() })
}

pub(super) fn restore_signals(old: &libc::sigset_t) {
    // SAFETY: `old` is a valid set, and the previous one is not asked for.
    unsafe { libc::pthread_sigmask(libc::SIG_SETMASK, old, std::ptr::null_mut()) };
}
