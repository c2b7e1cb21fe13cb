//! The administration socket of a daemon: a Unix stream socket on which each line is a request and gets one
//! line as answer. What the lines say is the daemon's business. Served by a small thread of its own, so that a slow
//! reader holds up nobody else.

use crate::runtime::driver::{block_signals, restore_signals};
use crate::runtime::fork::Marked;
use crate::runtime::link::is_idle;
use crate::runtime::poller::poll;
use crate::runtime::wake::Wake;
use socket2::{Domain, SockAddr, Socket, Type};
use std::fs;
use std::io::{self, Read, Write};
use std::os::fd::AsRawFd;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

/// The longest request, in bytes.
pub const MAX_LINE: usize = 64 << 10;
/// Connections served at once; further ones are closed.
pub const MAX_CONNECTIONS: usize = 32;

/// Where a registrar of this user opens its socket if it is told nothing else.
pub fn usual_path() -> PathBuf {
    match std::env::var_os("XDG_RUNTIME_DIR").filter(|folder| Path::new(folder).is_dir()) {
        Some(folder) => PathBuf::from(folder).join("asap-registrar.sock"),
        // SAFETY: getuid cannot fail and takes no pointers.
        None => PathBuf::from(format!("/tmp/asap-registrar-{}.sock", unsafe { libc::getuid() })),
    }
}

/// Answers a request. Lines come without their end and may be any text.
pub type Answer = Box<dyn FnMut(&str) -> String + Send>;

/// An open administration socket. Dropping it ends its thread and removes the file.
#[derive(Debug)]
pub struct AdminSocket {
    path: PathBuf,
    inode: (u64, u64),
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Debug)]
struct Shared {
    wake: Wake,
    stop: AtomicBool,
}

impl AdminSocket {
    /// Opens the socket, for this user alone (0600). A file that somebody left behind is replaced; `AddrInUse` if
    /// somebody listens there, or if the file is no socket.
    pub fn open(path: &Path, answer: Answer) -> io::Result<AdminSocket> {
        let listener = match bind(path) {
            Err(error) if error.kind() == io::ErrorKind::AddrInUse && is_stale(path) => {
                fs::remove_file(path)?;
                bind(path)?
            }
            result => result?,
        };
        let metadata = fs::metadata(path)?;
        let shared = Arc::new(Shared { wake: Wake::new()?, stop: AtomicBool::new(false) });
        let listener = Marked::new(listener);
        let server = Server { listener, shared: Arc::clone(&shared), clients: Vec::new(), answer };
        let old = block_signals()?;
        let thread = std::thread::Builder::new().name("admin".to_owned()).spawn(move || server.run());
        restore_signals(&old);
        let thread = thread?;
        let inode = (metadata.dev(), metadata.ino());
        Ok(AdminSocket { path: path.to_owned(), inode, shared, thread: Some(thread) })
    }
}

impl Drop for AdminSocket {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::Release);
        self.shared.wake.wake();
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
        // Not the file of somebody who came after us.
        if fs::metadata(&self.path).is_ok_and(|now| (now.dev(), now.ino()) == self.inode) {
            let _ = fs::remove_file(&self.path);
        }
    }
}

fn bind(path: &Path) -> io::Result<UnixListener> {
    let socket = Socket::new(Domain::UNIX, Type::STREAM.nonblocking().cloexec(), None)?;
    socket.bind(&SockAddr::unix(path)?)?;
    // Nobody can connect before `listen`, so there is no moment at which others could.
    fs::set_permissions(path, fs::Permissions::from_mode(0o600))?;
    socket.listen(16)?;
    Ok(UnixListener::from(std::os::fd::OwnedFd::from(socket)))
}

fn is_stale(path: &Path) -> bool {
    let is_socket = fs::symlink_metadata(path).is_ok_and(|metadata| metadata.file_type().is_socket());
    let refused =
        UnixStream::connect(path).is_err_and(|error| error.kind() == io::ErrorKind::ConnectionRefused);
    is_socket && refused
}

struct Server {
    listener: Marked<UnixListener>,
    shared: Arc<Shared>,
    clients: Vec<Client>,
    answer: Answer,
}

struct Client {
    stream: Marked<UnixStream>,
    input: Vec<u8>,
    output: Vec<u8>,
}

impl Server {
    fn run(mut self) {
        while !self.shared.stop.load(Ordering::Acquire) {
            let entry = |fd, events| libc::pollfd { fd, events, revents: 0 };
            let mut entries = vec![
                entry(self.shared.wake.fd(), libc::POLLIN),
                entry(self.listener.as_raw_fd(), libc::POLLIN),
            ];
            // Who does not read its answers is not asked for more.
            entries.extend(self.clients.iter().map(|client| {
                let events = if client.output.is_empty() { libc::POLLIN } else { libc::POLLOUT };
                entry(client.stream.as_raw_fd(), events)
            }));
            if let Err(error) = poll(&mut entries, None) {
                log::error!("the administration socket has failed: {error}");
                return;
            }
            self.shared.wake.clear();
            let mut ready = entries.iter().skip(2).map(|entry| entry.revents != 0);
            let answer = &mut self.answer;
            self.clients.retain_mut(|client| !ready.next().unwrap_or(false) || client.serve(answer).is_ok());
            if entries[1].revents != 0 {
                self.accept();
            }
        }
    }

    fn accept(&mut self) {
        match self.listener.accept() {
            Ok((stream, _)) if self.clients.len() < MAX_CONNECTIONS => {
                if stream.set_nonblocking(true).is_ok() {
                    let stream = Marked::new(stream);
                    self.clients.push(Client { stream, input: Vec::new(), output: Vec::new() });
                }
            }
            Ok(_) => {}
            Err(error) if is_idle(&error) => {}
            // No descriptor is free: not again at once.
            Err(_) => std::thread::sleep(Duration::from_millis(100)),
        }
    }
}

impl Client {
    /// Reads, answers and writes as far as it goes; an error ends the connection.
    fn serve(&mut self, answer: &mut Answer) -> io::Result<()> {
        self.write()?;
        if !self.output.is_empty() {
            return Ok(());
        }
        let mut buffer = [0; 4_096];
        match (&*self.stream).read(&mut buffer) {
            Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(len) => self.input.extend_from_slice(&buffer[..len]),
            Err(error) if is_idle(&error) => return Ok(()),
            Err(error) => return Err(error),
        }
        while let Some(end) = self.input.iter().position(|byte| *byte == b'\n') {
            let line: Vec<u8> = self.input.drain(..=end).collect();
            let line = String::from_utf8_lossy(&line);
            self.output.extend_from_slice(answer(line.trim_end()).as_bytes());
            self.output.push(b'\n');
        }
        if self.input.len() > MAX_LINE {
            return Err(io::ErrorKind::InvalidData.into());
        }
        self.write()
    }

    fn write(&mut self) -> io::Result<()> {
        while !self.output.is_empty() {
            let socket = socket2::SockRef::from(&*self.stream);
            match socket.send_with_flags(&self.output, libc::MSG_NOSIGNAL) {
                Ok(written) => drop(self.output.drain(..written)),
                Err(error) if is_idle(&error) => return Ok(()),
                Err(error) => return Err(error),
            }
        }
        // A large answer was an exception.
        self.output = Vec::new();
        (&*self.stream).flush()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{BufRead, BufReader};

    fn echo() -> Answer {
        Box::new(|line| format!("you said {line}"))
    }

    fn ask(stream: &UnixStream, line: &str) -> io::Result<String> {
        let mut answer = String::new();
        (&*stream).write_all(format!("{line}\n").as_bytes())?;
        BufReader::new(stream).read_line(&mut answer)?;
        Ok(answer)
    }

    #[test]
    fn answers_each_line_and_leaves_no_file() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("admin.sock");
        let socket = AdminSocket::open(&path, echo()).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        let streams: Vec<_> = (0..3).map(|_| UnixStream::connect(&path).unwrap()).collect();
        for stream in streams.iter().chain(&streams) {
            assert_eq!(ask(stream, "hello").unwrap(), "you said hello\n");
        }
        drop(socket);
        assert!(!path.exists());
    }

    #[test]
    fn replaces_what_was_left_behind_but_no_living_socket_and_no_file() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("admin.sock");
        drop(UnixListener::bind(&path).unwrap());
        let socket = AdminSocket::open(&path, echo()).unwrap();
        let second = AdminSocket::open(&path, echo()).unwrap_err();
        assert_eq!(second.kind(), io::ErrorKind::AddrInUse);
        assert_eq!(ask(&UnixStream::connect(&path).unwrap(), "x").unwrap(), "you said x\n");
        drop(socket);
        fs::write(&path, "precious").unwrap();
        assert!(AdminSocket::open(&path, echo()).is_err());
        assert_eq!(fs::read_to_string(&path).unwrap(), "precious");
    }

    #[test]
    fn endless_lines_and_crowds_are_turned_away() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("admin.sock");
        let _socket = AdminSocket::open(&path, echo()).unwrap();
        let mut long = UnixStream::connect(&path).unwrap();
        let _ = long.write_all(&vec![b'x'; MAX_LINE * 8]);
        assert_eq!(long.read(&mut [0; 1]).unwrap_or(0), 0);
        let crowd: Vec<_> = (0..MAX_CONNECTIONS)
            .map(|_| {
                let stream = UnixStream::connect(&path).unwrap();
                assert!(ask(&stream, "a").is_ok());
                stream
            })
            .collect();
        assert_eq!(ask(&UnixStream::connect(&path).unwrap(), "b").unwrap_or_default(), "");
        drop(crowd);
    }
}
