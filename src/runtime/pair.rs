//! A pair of connected stream sockets (AF_UNIX): the far end is the program's, which treats it as it would a TCP connection;
//! the near end is read and written here. Hides how the far end is made to see what a TCP connection would show.
//!
//! * ECONNRESET. The kernel gives a socket's peer that error if the socket is closed while something waits in it unread. So the
//!   last byte that was taken from the far end is left in the queue, and taken away only when the next has come; from the
//!   beginning a byte of our own lies there. An end in order takes it out before it closes.
//! * A connection that is being opened is not writable. So the queue is full until it is open.

use crate::runtime::fork::Private;
use crate::runtime::link::is_idle;
use socket2::{Domain, Socket, Type};
use std::io::{self, Read, Write};
use std::mem::MaybeUninit;
use std::net::Shutdown;
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd, RawFd};

/// Room for what is on its way in one direction, in bytes as the kernel counts them; it doubles the number. The kernel calls the
/// far end writable while less than a quarter is taken, and the packet of which a byte is left counts as a whole.
const ROOM: usize = 208 << 10;
/// The least of it with which a packet left over keeps nobody from writing, where pages have 4 KiB.
const ENOUGH: usize = 256 << 10;

/// What the program has done with its end.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Far {
    /// It can write.
    Open,
    /// It has shut down writing.
    Silent,
    /// It is closed, or shut down both ways. What was written before can still be read.
    Gone,
}

/// The near end, non-blocking. Dropped, it is closed, and the far end gets ECONNRESET after what was written to it.
#[derive(Debug)]
pub struct Near {
    // Dropped in this order.
    _mark: Private,
    socket: Socket,
    /// Bytes in front of the queue that were dealt with: none, the last byte, or what keeps the far end from writing.
    old: usize,
    /// Whether the last byte is left.
    lags: bool,
}

/// Puts a descriptor under the number of another one of the program's, which is closed; flags stay as they are at that number.
pub fn replace(fd: OwnedFd, number: RawFd) -> io::Result<()> {
    let checked = |result: i32| if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result) };
    // SAFETY: no pointers; the program has said that the number is to be replaced.
    unsafe {
        let flags = checked(libc::fcntl(number, libc::F_GETFD))?;
        let cloexec = if flags & libc::FD_CLOEXEC != 0 { libc::O_CLOEXEC } else { 0 };
        checked(libc::dup3(fd.as_raw_fd(), number, cloexec))?;
    }
    Ok(())
}

/// Whether a descriptor is non-blocking.
pub fn is_nonblocking(fd: RawFd) -> io::Result<bool> {
    // SAFETY: no pointers.
    let flags = unsafe { libc::fcntl(fd, libc::F_GETFL) };
    if flags < 0 { Err(io::Error::last_os_error()) } else { Ok(flags & libc::O_NONBLOCK != 0) }
}

/// Makes it so.
pub fn set_nonblocking(fd: &OwnedFd) -> io::Result<()> {
    socket2::SockRef::from(fd).set_nonblocking(true)
}

impl Near {
    /// Both ends, close-on-exec. With `closed` the far end is not writable until [`Near::open`].
    pub fn new(closed: bool) -> io::Result<(Near, OwnedFd)> {
        let (socket, far) = Socket::pair(Domain::UNIX, Type::STREAM.cloexec(), None)?;
        socket.set_nonblocking(true)?;
        for end in [&socket, &far] {
            end.set_send_buffer_size(ROOM)?;
        }
        // SAFETY: no pointers.
        let pages = unsafe { libc::sysconf(libc::_SC_PAGESIZE) };
        // Elsewhere one packet may be so much that the far end would not be writable: there is no ECONNRESET then, but an end.
        let lags = pages <= 4096 && far.send_buffer_size()? >= ENOUGH;
        far.set_nonblocking(true)?;
        let mut old = (&far).write(&[0])?;
        if closed {
            let filling = [0; 16 << 10];
            for size in [filling.len(), 1] {
                loop {
                    match (&far).write(&filling[..size]) {
                        Ok(n) => old += n,
                        Err(e) if is_idle(&e) => break,
                        Err(e) => return Err(e),
                    }
                }
            }
        }
        far.set_nonblocking(false)?;
        let mark = Private::new(socket.as_raw_fd());
        Ok((Near { _mark: mark, socket, old, lags }, far.into()))
    }

    /// The descriptor to wait on.
    pub fn fd(&self) -> RawFd {
        self.socket.as_raw_fd()
    }

    /// Lets the far end write.
    pub fn open(&mut self) -> io::Result<()> {
        self.take(self.old.saturating_sub(1))
    }

    /// What has come and was not yet taken, as much as there is room for: behind what is in front of it.
    pub fn peek<'b>(&self, buffer: &'b mut [u8]) -> io::Result<&'b [u8]> {
        // SAFETY: initialised bytes are possibly uninitialised ones, and recv writes only what it has received.
        let room = unsafe { &mut *(std::ptr::from_mut::<[u8]>(buffer) as *mut [MaybeUninit<u8>]) };
        let n = match self.socket.recv_with_flags(room, libc::MSG_PEEK | libc::MSG_DONTWAIT) {
            Ok(n) => n,
            Err(e) if is_idle(&e) => 0,
            Err(e) => return Err(e),
        };
        Ok(buffer.get(self.old..n).unwrap_or_default())
    }

    /// Takes so many bytes of what was seen.
    pub fn consume(&mut self, bytes: usize) -> io::Result<()> {
        if bytes == 0 {
            return Ok(());
        }
        let left = usize::from(self.lags);
        self.old += bytes;
        self.take(self.old - left)
    }

    /// Reads and drops what is old.
    fn take(&mut self, mut bytes: usize) -> io::Result<()> {
        let mut buffer = [0; 16 << 10];
        while bytes > 0 {
            let size = bytes.min(buffer.len());
            match (&self.socket).read(&mut buffer[..size]) {
                Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
                Ok(n) => {
                    bytes -= n;
                    self.old -= n;
                }
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) => return Err(e),
            }
        }
        Ok(())
    }

    /// Writes as much as there is room for. `WouldBlock`: none. `BrokenPipe`: the program does not read any more.
    pub fn write(&self, bytes: &[u8]) -> io::Result<usize> {
        self.socket.send_with_flags(bytes, libc::MSG_NOSIGNAL | libc::MSG_DONTWAIT)
    }

    /// What the program has done. To be asked before [`Near::peek`]: what is not seen then does not come any more.
    pub fn far(&self) -> Far {
        let mut fds = [libc::pollfd { fd: self.fd(), events: libc::POLLRDHUP, revents: 0 }];
        // SAFETY: one entry, which outlives the call.
        let n = unsafe { libc::poll(fds.as_mut_ptr(), 1, 0) };
        let seen = if n > 0 { fds[0].revents } else { 0 };
        if seen & (libc::POLLHUP | libc::POLLERR) != 0 {
            Far::Gone
        } else if seen & libc::POLLRDHUP != 0 {
            Far::Silent
        } else {
            Far::Open
        }
    }

    /// Nothing comes any more, and the program may go on writing.
    pub fn end(&self) {
        // A far end that is gone needs not be told.
        let _ = self.socket.shutdown(Shutdown::Write);
    }

    /// Closes in order, dropping what has come: what the program writes from now on is EPIPE.
    pub fn close(self) {
        let _ = self.socket.shutdown(Shutdown::Both);
        let mut buffer = [0; 16 << 10];
        while matches!((&self.socket).read(&mut buffer), Ok(n) if n > 0) {}
    }
}

/// The error that a socket has to tell, once.
pub fn take_error(fd: RawFd) -> Option<io::Error> {
    // SAFETY: the program's for as long as this borrows it.
    let fd = unsafe { BorrowedFd::borrow_raw(fd) };
    socket2::SockRef::from(&fd).take_error().ok().flatten()
}

/// Gives another socket the time-outs of one that it replaces.
pub fn copy_timeouts(from: RawFd, to: &OwnedFd) -> io::Result<()> {
    // SAFETY: the program's for as long as this borrows it.
    let from = unsafe { BorrowedFd::borrow_raw(from) };
    let (from, to) = (socket2::SockRef::from(&from), socket2::SockRef::from(to));
    to.set_read_timeout(from.read_timeout()?)?;
    to.set_write_timeout(from.write_timeout()?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::net::UnixStream;

    fn events(far: &UnixStream, asked: i16) -> i16 {
        let mut fds = [libc::pollfd { fd: far.as_raw_fd(), events: asked, revents: 0 }];
        crate::runtime::readiness::wait(&mut fds, Some(std::time::Duration::ZERO)).unwrap();
        fds[0].revents
    }

    fn pair(closed: bool) -> (Near, UnixStream) {
        let (near, far) = Near::new(closed).unwrap();
        (near, far.into())
    }

    #[test]
    fn a_near_end_that_is_dropped_resets_the_far_one_after_what_was_written() {
        for said in [&b""[..], b"request"] {
            let (mut near, mut far) = pair(false);
            let mut buffer = [0; 64];
            far.write_all(said).unwrap();
            assert_eq!(near.peek(&mut buffer).unwrap(), said);
            near.consume(said.len()).unwrap();
            assert_eq!(near.peek(&mut buffer).unwrap(), b"");
            near.write(b"last").unwrap();
            drop(near);
            assert_eq!(
                events(&far, libc::POLLIN) & (libc::POLLERR | libc::POLLHUP),
                libc::POLLERR | libc::POLLHUP
            );
            assert_eq!(far.read(&mut buffer).unwrap(), 4);
            assert_eq!(far.read(&mut buffer).unwrap_err().raw_os_error(), Some(libc::ECONNRESET));
            assert_eq!(far.read(&mut buffer).unwrap(), 0);
        }
    }

    #[test]
    fn an_end_in_order_is_one() {
        let (near, mut far) = pair(false);
        near.write(b"bye").unwrap();
        near.end();
        assert_eq!(events(&far, libc::POLLIN | libc::POLLRDHUP), libc::POLLIN | libc::POLLRDHUP);
        far.write_all(b"still").unwrap();
        near.close();
        let mut all = Vec::new();
        far.read_to_end(&mut all).unwrap();
        assert_eq!(all, b"bye");
        assert_eq!(far.write(b"x").unwrap_err().raw_os_error(), Some(libc::EPIPE));
    }

    #[test]
    fn what_is_peeked_comes_once_however_it_is_cut() {
        let (mut near, mut far) = pair(false);
        let data: Vec<u8> = (0..100_000_u32).map(|n| n as u8).collect();
        let (copy, mut got) = (data.clone(), Vec::new());
        let writer = std::thread::spawn(move || {
            far.write_all(&copy).unwrap();
            far
        });
        let mut buffer = [0; 5_000];
        while got.len() < data.len() {
            let seen = near.peek(&mut buffer).unwrap().to_vec();
            // Less than was seen, too.
            let taken = seen.len().div_ceil(2);
            got.extend_from_slice(&seen[..taken]);
            near.consume(taken).unwrap();
        }
        let far = writer.join().unwrap();
        assert_eq!(got, data);
        assert_eq!(events(&far, libc::POLLOUT), libc::POLLOUT, "what is left over keeps nobody from writing");
        assert_eq!(near.far(), Far::Open);
        far.shutdown(Shutdown::Write).unwrap();
        assert_eq!(near.far(), Far::Silent);
        drop(far);
        assert_eq!(near.far(), Far::Gone);
    }

    #[test]
    fn a_far_end_is_not_writable_before_it_is_opened() {
        let (mut near, mut far) = pair(true);
        far.set_nonblocking(true).unwrap();
        assert_eq!(events(&far, libc::POLLOUT), 0);
        assert!(is_idle(&far.write(b"x").unwrap_err()));
        near.open().unwrap();
        assert_eq!(events(&far, libc::POLLOUT), libc::POLLOUT);
        far.write_all(b"first").unwrap();
        assert_eq!(near.peek(&mut [0; 64]).unwrap(), b"first");
        let (near, mut far) = pair(true);
        drop(near);
        assert_eq!(far.read(&mut [0; 64]).unwrap_err().raw_os_error(), Some(libc::ECONNRESET));
    }
}
