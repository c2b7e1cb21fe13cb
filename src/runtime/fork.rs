//! What is to be done around a fork.
//!
//! A forked child has none of the threads of this process, but copies of all their descriptors. Held open there, a connection
//! would not end with the process that serves it, nor a port be free; so the child closes what belongs to background
//! threads at once. What applications hold (sockets, sessions) is not touched here: both sides may use it.

use super::FileId;
use std::collections::BTreeMap;
use std::os::fd::{AsRawFd, RawFd};
use std::sync::{Mutex, MutexGuard, Once, OnceLock};

/// What else is to be done around a fork, in the thread that forks.
#[derive(Clone, Copy, Debug)]
pub struct ForkHooks {
    /// Before it.
    pub before: fn(),
    /// After it, in the parent.
    pub in_parent: fn(),
    /// After it, in the child, whose only thread this is.
    pub in_child: fn(),
}

/// Has the hooks called around every fork of this process from now on. The first call counts, the rest do nothing.
pub fn at_fork(hooks: ForkHooks) {
    let _ = FORK_HOOKS.set(hooks);
    prepare();
}

/// A descriptor that a background thread of this process has open, and forked children are to close. To be dropped before the
/// descriptor is closed.
#[derive(Debug)]
pub struct Private {
    fd: RawFd,
}

impl Private {
    /// Marks a descriptor as one of these.
    pub fn new(fd: RawFd) -> Private {
        prepare();
        if let Some(file) = FileId::of(fd) {
            private().insert(fd, file);
        }
        Private { fd }
    }
}

impl Drop for Private {
    fn drop(&mut self) {
        private().remove(&self.fd);
    }
}

/// Something with a descriptor, and the mark that it is private.
#[derive(Debug)]
pub(super) struct Marked<T> {
    // Dropped in this order.
    _mark: Private,
    inner: T,
}

impl<T: AsRawFd> Marked<T> {
    pub(super) fn new(inner: T) -> Marked<T> {
        Marked { _mark: Private::new(inner.as_raw_fd()), inner }
    }
}

impl<T> std::ops::Deref for Marked<T> {
    type Target = T;
    fn deref(&self) -> &T {
        &self.inner
    }
}

static FORK_HOOKS: OnceLock<ForkHooks> = OnceLock::new();

/// The descriptors, and which file each is: one that was closed too early may be somebody else's by now.
static PRIVATE: Mutex<BTreeMap<RawFd, FileId>> = Mutex::new(BTreeMap::new());

fn private() -> MutexGuard<'static, BTreeMap<RawFd, FileId>> {
    PRIVATE.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
}

thread_local! {
    /// The list, locked by the thread that forks.
    static HELD: std::cell::RefCell<Option<MutexGuard<'static, BTreeMap<RawFd, FileId>>>> =
        const { std::cell::RefCell::new(None) };
}

fn prepare() {
    // The hooks' own locks are taken first: whoever holds them may be about to open something.
    extern "C" fn before() {
        if let Some(hooks) = FORK_HOOKS.get() {
            (hooks.before)();
        }
        let list = private();
        HELD.with(|held| *held.borrow_mut() = Some(list));
    }
    extern "C" fn in_parent() {
        HELD.with(|held| held.borrow_mut().take());
        if let Some(hooks) = FORK_HOOKS.get() {
            (hooks.in_parent)();
        }
    }
    extern "C" fn in_child() {
        if let Some(mut list) = HELD.with(|held| held.borrow_mut().take()) {
            for (fd, known) in std::mem::take(&mut *list) {
                if FileId::of(fd) == Some(known) {
                    // SAFETY: it belongs to a thread that is not here.
                    unsafe { libc::close(fd) };
                }
            }
        }
        if let Some(hooks) = FORK_HOOKS.get() {
            (hooks.in_child)();
        }
    }
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        // SAFETY: the three functions live as long as the code does.
        unsafe { libc::pthread_atfork(Some(before), Some(in_parent), Some(in_child)) };
    });
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::{TcpListener, TcpStream};
    use std::os::fd::IntoRawFd;

    /// What the child's exit status says: `check` in a forked child.
    fn in_child(check: impl FnOnce() -> bool) -> bool {
        // SAFETY: the child does nothing but system calls, and ends.
        match unsafe { libc::fork() } {
            0 => {
                let status = i32::from(!check());
                // SAFETY: ends the child without touching what it shares.
                unsafe { libc::_exit(status) }
            }
            child => {
                let mut status = 0;
                // SAFETY: `status` outlives the call.
                assert_eq!(unsafe { libc::waitpid(child, &raw mut status, 0) }, child);
                libc::WIFEXITED(status) && libc::WEXITSTATUS(status) == 0
            }
        }
    }

    #[test]
    fn children_do_not_keep_open_what_is_private() {
        // An address of its own: nobody else's listener gets the port at it.
        let listener = Marked::new(TcpListener::bind("127.7.7.1:0").unwrap());
        let shared = TcpListener::bind("127.0.0.1:0").unwrap();
        let (closed, kept) = (listener.as_raw_fd(), shared.as_raw_fd());
        assert!(in_child(|| FileId::of(closed).is_none() && FileId::of(kept).is_some()));
        assert!(TcpStream::connect(listener.local_addr().unwrap()).is_ok());
        let at = listener.local_addr().unwrap();
        drop(listener);
        assert!(TcpStream::connect(at).is_err());
    }

    #[test]
    fn a_number_that_has_become_another_file_is_left_alone() {
        let first = TcpListener::bind("127.0.0.1:0").unwrap();
        let fd = first.as_raw_fd();
        let mark = Private::new(fd);
        let second = TcpListener::bind("127.0.0.1:0").unwrap();
        // SAFETY: both numbers are ours; `first`'s stays open.
        assert_eq!(unsafe { libc::dup2(second.as_raw_fd(), fd) }, fd);
        assert!(in_child(|| FileId::of(fd).is_some()));
        drop(mark);
        let _ = first.into_raw_fd();
        // SAFETY: given up by `first` just now.
        unsafe { libc::close(fd) };
    }
}
