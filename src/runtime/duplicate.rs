//! Descriptors of the program's under another number of ours, and what such a number can do as it stands.

use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::{AsRawFd, FromRawFd, RawFd};

/// The lowest number given out unasked: those below are where programs look for their standard streams.
const LOWEST: RawFd = 3;

/// A second number for an open file of the program's, close-on-exec; closed when dropped, and the file with it when this was
/// its last.
#[derive(Debug)]
pub struct Duplicate {
    file: File,
    original: RawFd,
}

impl Duplicate {
    /// Duplicates `original`, as `number` if one is given.
    ///
    /// Errors: EBADF (`original` is not open), EMFILE (no number is free, or not this one), EINVAL (one that no descriptor can
    /// have).
    pub fn new(original: RawFd, number: Option<RawFd>) -> io::Result<Duplicate> {
        let wanted = number.unwrap_or(LOWEST);
        // SAFETY: no pointers; a descriptor that is not negative is ours alone.
        let fd = unsafe { libc::fcntl(original, libc::F_DUPFD_CLOEXEC, wanted) };
        if fd < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: just made.
        let file = unsafe { File::from_raw_fd(fd) };
        // The kernel takes the next one that is free; dup2(2) would take what is somebody else's.
        if number.is_some_and(|number| number != fd) {
            return Err(io::Error::from_raw_os_error(libc::EMFILE));
        }
        Ok(Duplicate { file, original })
    }

    /// Its number.
    pub fn number(&self) -> RawFd {
        self.file.as_raw_fd()
    }

    /// read(2).
    pub fn read(&self, buffer: &mut [u8]) -> io::Result<usize> {
        (&self.file).read(buffer)
    }

    /// write(2).
    pub fn write(&self, bytes: &[u8]) -> io::Result<usize> {
        (&self.file).write(bytes)
    }

    /// getsockopt(2); how many bytes of `value` were written.
    pub fn option(&self, level: i32, option: i32, value: &mut [u8]) -> io::Result<usize> {
        let mut len = libc::socklen_t::try_from(value.len()).unwrap_or(libc::socklen_t::MAX);
        let fd = self.number();
        // SAFETY: `value` and `len` outlive the call, and `len` is no more than there is room for.
        let done = unsafe { libc::getsockopt(fd, level, option, value.as_mut_ptr().cast(), &raw mut len) };
        if done < 0 { Err(io::Error::last_os_error()) } else { Ok(len as usize) }
    }

    /// setsockopt(2).
    pub fn set_option(&self, level: i32, option: i32, value: &[u8]) -> io::Result<()> {
        let len = libc::socklen_t::try_from(value.len()).unwrap_or(libc::socklen_t::MAX);
        // SAFETY: `value` outlives the call, and `len` is no more than there is.
        let done = unsafe { libc::setsockopt(self.number(), level, option, value.as_ptr().cast(), len) };
        if done < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
    }

    /// Closes the descriptor it was made from, which the program has left to us.
    pub fn close_original(&self) {
        // SAFETY: no pointers. Whether the number is still what it was, the program answers for.
        unsafe { libc::close(self.original) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::net::UnixStream;

    #[test]
    fn a_duplicate_reads_and_writes_what_the_original_would() {
        let (ours, mut theirs) = UnixStream::pair().unwrap();
        let duplicate = Duplicate::new(ours.as_raw_fd(), None).unwrap();
        assert!(duplicate.number() >= LOWEST && duplicate.number() != ours.as_raw_fd());
        drop(ours);
        assert_eq!(duplicate.write(b"to them").unwrap(), 7);
        let mut buffer = [0; 16];
        assert_eq!(theirs.read(&mut buffer).unwrap(), 7);
        theirs.write_all(b"to us").unwrap();
        assert_eq!(duplicate.read(&mut buffer).unwrap(), 5);
        assert_eq!(duplicate.option(libc::SOL_SOCKET, libc::SO_TYPE, &mut buffer).unwrap(), 4);
        assert!(duplicate.set_option(libc::SOL_SOCKET, libc::SO_TYPE, &[0; 4]).is_err());
        drop(duplicate);
        assert_eq!(theirs.read(&mut buffer).unwrap(), 0, "it was the last");
    }

    #[test]
    fn a_number_that_is_taken_is_left_alone() {
        let (one, two) = UnixStream::pair().unwrap();
        let refused = Duplicate::new(one.as_raw_fd(), Some(two.as_raw_fd())).unwrap_err();
        assert_eq!(refused.raw_os_error(), Some(libc::EMFILE));
        assert_eq!((&two).write(b"x").unwrap(), 1);
        assert_eq!(Duplicate::new(-1, None).unwrap_err().raw_os_error(), Some(libc::EBADF));
    }
}
