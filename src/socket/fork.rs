//! What a fork means for contexts and sockets (design section 3).
//!
//! A forked child has a copy of everything here but one thread of it. So that it finds no lock taken by a thread it
//! does not have, every lock of this module is taken behind one gate, shared; a fork closes the gate for itself first.
//! Locks are never held while blocking, so a fork waits only for short sections.
//!
//! After a fork both sides hold what was open. Whoever makes a call on an object other than `close` goes on with it
//! (adopts it); a side that only closes it closes descriptors and tells nobody.

use crate::runtime::fork::{self, ForkHooks};
use std::cell::{Cell, RefCell};
use std::ops::{Deref, DerefMut};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, RwLock, RwLockReadGuard, RwLockWriteGuard};

static GATE: RwLock<()> = RwLock::new(());
static FORKS: AtomicU64 = AtomicU64::new(0);
static PROCESS: AtomicU64 = AtomicU64::new(0);

thread_local! {
    static PASSES: Cell<u32> = const { Cell::new(0) };
    static CLOSED: RefCell<Option<RwLockWriteGuard<'static, ()>>> = const { RefCell::new(None) };
}

/// When an object was last used, counted in forks of this process and its ancestors.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Era {
    forks: u64,
    process: u64,
}

impl Era {
    /// Now.
    pub(super) fn now() -> Era {
        Era { forks: FORKS.load(Ordering::Relaxed), process: PROCESS.load(Ordering::Relaxed) }
    }

    /// Whether another process may hold what was opened then.
    pub(super) fn is_shared(self) -> bool {
        self.forks != FORKS.load(Ordering::Relaxed)
    }

    /// Whether this is a child of the process it was opened in.
    pub(super) fn is_inherited(self) -> bool {
        self.process != PROCESS.load(Ordering::Relaxed)
    }
}

/// Prepares this process for being forked. Once is enough.
pub(super) fn prepare() {
    fn before() {
        // A fork from inside a section of ours (an application's log function, say) cannot wait for itself.
        if PASSES.with(Cell::get) == 0 {
            let closed = GATE.write().unwrap_or_else(|e| e.into_inner());
            CLOSED.with(|c| *c.borrow_mut() = Some(closed));
        }
    }
    fn in_parent() {
        FORKS.fetch_add(1, Ordering::Relaxed);
        CLOSED.with(|c| c.borrow_mut().take());
    }
    fn in_child() {
        PROCESS.fetch_add(1, Ordering::Relaxed);
        in_parent();
        super::attendant::let_go();
    }
    fork::at_fork(ForkHooks { before, in_parent, in_child });
}

/// A lock that no forked child finds taken.
#[derive(Debug, Default)]
pub(super) struct Guarded<T>(Mutex<T>);

/// What a [`Guarded`] holds, while it is locked.
#[derive(Debug)]
pub(super) struct Held<'a, T> {
    // Fields are dropped in this order: the lock is given back before the pass.
    guard: MutexGuard<'a, T>,
    _pass: Pass,
}

#[derive(Debug)]
struct Pass {
    _gate: Option<RwLockReadGuard<'static, ()>>,
}

impl Pass {
    fn new() -> Pass {
        // One pass a thread: asking for a second while a fork waits would be waiting for oneself.
        let first = PASSES.with(|p| p.replace(p.get() + 1)) == 0;
        Pass { _gate: first.then(|| GATE.read().unwrap_or_else(|e| e.into_inner())) }
    }
}

impl Drop for Pass {
    fn drop(&mut self) {
        PASSES.with(|p| p.set(p.get().saturating_sub(1)));
    }
}

impl<T> Guarded<T> {
    /// Unlocked.
    pub(super) const fn new(value: T) -> Guarded<T> {
        Guarded(Mutex::new(value))
    }

    /// Locks. Whether a thread panicked while it held the lock does not matter to what this guards.
    pub(super) fn lock(&self) -> Held<'_, T> {
        let pass = Pass::new();
        Held { guard: self.0.lock().unwrap_or_else(|e| e.into_inner()), _pass: pass }
    }

    /// Locks; none if a thread panicked while it held the lock, for what this guards may be half done.
    pub(super) fn lock_sound(&self) -> Option<Held<'_, T>> {
        let pass = Pass::new();
        Some(Held { guard: self.0.lock().ok()?, _pass: pass })
    }

    /// The same, and none if another thread holds the lock.
    pub(super) fn try_lock_sound(&self) -> Option<Held<'_, T>> {
        let pass = Pass::new();
        Some(Held { guard: self.0.try_lock().ok()?, _pass: pass })
    }
}

impl<T> Deref for Held<'_, T> {
    type Target = T;
    fn deref(&self) -> &T {
        &self.guard
    }
}

impl<T> DerefMut for Held<'_, T> {
    fn deref_mut(&mut self) -> &mut T {
        &mut self.guard
    }
}
