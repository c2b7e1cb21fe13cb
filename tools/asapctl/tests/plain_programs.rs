//! Programs that know nothing of pools: servers behind `asapctl register`, clients before `asapctl proxy`.

#[path = "../../../tests/tools/mod.rs"]
mod tools;

use asap::hosting::{Announce, Running, Settings};
use socket2::{Domain, Socket, Type};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

const PATIENCE: Duration = Duration::from_secs(60);

/// A registrar of the test's own, and where it is.
struct Registrar {
    _running: Running,
    address: SocketAddr,
}

impl Registrar {
    fn start() -> Registrar {
        let any = "127.0.0.1:0".parse().unwrap();
        let settings =
            Settings { asap: vec![any], enrp: vec![any], announce: Announce::Off, ..Settings::default() };
        let running = Running::start(settings).unwrap();
        let address = running.listeners().iter().find(|l| l.serves_endpoints()).unwrap().address;
        Registrar { _running: running, address }
    }

    fn asapctl(&self, arguments: &[&str]) -> Program {
        let mut command = Command::new(env!("CARGO_BIN_EXE_asapctl"));
        command.args(arguments).env("ASAP_REGISTRARS", self.address.to_string()).env_remove("RUST_LOG");
        Program::start(command)
    }

    /// A proxy, and where it listens.
    fn proxy(&self, pool: &str, more: &[&str]) -> (Program, SocketAddr) {
        let arguments = [&["proxy", "--listen", "127.0.0.1:0", "--pool", pool], more].concat();
        let proxy = self.asapctl(&arguments);
        let line = proxy.line();
        let at = line.split_whitespace().next().unwrap().parse().unwrap_or_else(|_| panic!("{line}"));
        (proxy, at)
    }

    /// A server behind `asapctl register`, which is in the pool when this returns.
    fn register(&self, pool: &str, transport: &str, at: SocketAddr, more: &[&str]) -> Program {
        let at = at.to_string();
        let program = self.asapctl(&[&["register", "--pool", pool, transport, &at], more].concat());
        let line = program.line();
        assert!(line.contains("element"), "{line}");
        program
    }

    fn elements(&self, pool: &str) -> usize {
        let output = Command::new(env!("CARGO_BIN_EXE_asapctl"))
            .args(["resolve", pool, "--json"])
            .env("ASAP_REGISTRARS", self.address.to_string())
            .output()
            .unwrap();
        if !output.status.success() {
            return 0;
        }
        let told: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
        told["elements"].as_array().unwrap().len()
    }
}

/// A program whose lines are read, killed at the end of the test.
struct Program {
    child: Child,
    lines: Receiver<String>,
    complaints: Receiver<String>,
}

impl Program {
    fn start(mut command: Command) -> Program {
        let command = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let (lines, complaints) = (read(child.stdout.take().unwrap()), read(child.stderr.take().unwrap()));
        Program { child, lines, complaints }
    }

    fn line(&self) -> String {
        match self.lines.recv_timeout(PATIENCE) {
            Ok(line) => line,
            Err(_) => panic!("nothing was told: {:?}", self.complaints.try_iter().collect::<Vec<_>>()),
        }
    }

    /// Waits for a line with these words.
    fn until(&self, words: &str) -> String {
        std::iter::repeat_with(|| self.line()).find(|line| line.contains(words)).unwrap()
    }

    /// Waits for a complaint with these words.
    fn complains(&self, words: &str) {
        while !self.complaints.recv_timeout(PATIENCE).expect(words).contains(words) {}
    }

    fn signal(&self, signal: i32) {
        // SAFETY: a child of ours that was not waited for.
        assert_eq!(unsafe { libc::kill(self.child.id() as i32, signal) }, 0);
    }

    fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// Ends it by SIGTERM, which it takes for an order to end well.
    fn terminate(&mut self) {
        self.signal(libc::SIGTERM);
        let status = self.child.wait().unwrap();
        assert!(status.success(), "{status}: {:?}", self.complaints.try_iter().collect::<Vec<_>>());
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn read(stream: impl Read + Send + 'static) -> Receiver<String> {
    let (send, lines) = channel();
    std::thread::spawn(move || {
        for line in BufReader::new(stream).lines().map_while(Result::ok) {
            if send.send(line).is_err() {
                return;
            }
        }
    });
    lines
}

fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let give_up = Instant::now() + PATIENCE;
    while !holds() {
        assert!(Instant::now() < give_up, "it did not come about that {what}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

fn connect(at: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect(at).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream
}

/// A TCP server that sends back what it gets, to the end.
fn echo() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let at = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            std::thread::spawn(move || {
                let mut buffer = [0; 16_384];
                while let Ok(n) = stream.read(&mut buffer) {
                    if n == 0 || stream.write_all(&buffer[..n]).is_err() {
                        return;
                    }
                }
            });
        }
    });
    at
}

/// Where nobody listens yet. While the socket is kept, only who knows the port comes by it.
fn free_port() -> (Socket, SocketAddr) {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    socket.set_reuse_address(true).unwrap();
    socket.bind(&SocketAddr::from((Ipv4Addr::LOCALHOST, 0)).into()).unwrap();
    let at = socket.local_addr().unwrap().as_socket().unwrap();
    (socket, at)
}

#[test]
fn an_end_goes_through_and_what_was_sent_comes_back_whole() {
    let registrar = Registrar::start();
    let _server = registrar.register("Echo", "--tcp", echo(), &[]);
    let (mut proxy, at) = registrar.proxy("Echo", &[]);
    let data: Vec<u8> = (0..5_000_000_u32).map(|n| (n * 7 + n / 1000) as u8).collect();
    let mut stream = connect(at);
    let (mut writer, sent) = (stream.try_clone().unwrap(), data.clone());
    let writing = std::thread::spawn(move || {
        writer.write_all(&sent).unwrap();
        writer.shutdown(Shutdown::Write).unwrap();
    });
    let mut back = Vec::new();
    stream.read_to_end(&mut back).unwrap();
    writing.join().unwrap();
    assert!(back == data, "{} bytes of {}", back.len(), data.len());
    proxy.terminate();
}

#[test]
fn a_server_that_does_not_read_stops_its_client() {
    let registrar = Registrar::start();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let _server = registrar.register("Slow", "--tcp", listener.local_addr().unwrap(), &[]);
    let (_proxy, at) = registrar.proxy("Slow", &[]);
    let mut stream = connect(at);
    let (mut server, _) = listener.accept().unwrap();
    stream.set_nonblocking(true).unwrap();
    let (portion, mut sent, mut full_since) = (vec![7; 65_536], 0, None::<Instant>);
    // What nobody takes fills the buffers of two sockets, and no memory.
    while full_since.is_none_or(|at| at.elapsed() < Duration::from_millis(500)) {
        match stream.write(&portion) {
            Ok(n) => (sent, full_since) = (sent + n, None),
            Err(_) => {
                full_since.get_or_insert_with(Instant::now);
                std::thread::sleep(Duration::from_millis(5));
            }
        }
        assert!(sent < 64 << 20, "a client is never stopped");
    }
    stream.set_nonblocking(false).unwrap();
    stream.shutdown(Shutdown::Write).unwrap();
    let mut got = Vec::new();
    server.read_to_end(&mut got).unwrap();
    assert_eq!(got.len(), sent);
}

#[test]
fn a_thousand_clients_are_served_at_once() {
    let registrar = Registrar::start();
    // Children of this process inherit the limit, servers in it need room.
    raise_limit();
    let _servers =
        [registrar.register("Many", "--tcp", echo(), &[]), registrar.register("Many", "--tcp", echo(), &[])];
    let (mut proxy, at) = registrar.proxy("Many", &["--drain", "0.1"]);
    let began = Instant::now();
    let mut streams: Vec<TcpStream> = (0..1_000).map(|_| connect(at)).collect();
    for round in 0..3_u32 {
        for (n, stream) in streams.iter_mut().enumerate() {
            write!(stream, "{round:04}{n:04}").unwrap();
        }
        for (n, stream) in streams.iter_mut().enumerate() {
            let mut back = [0; 8];
            stream.read_exact(&mut back).unwrap();
            assert_eq!(back, format!("{round:04}{n:04}").as_bytes());
        }
    }
    println!("1000 clients, 3 rounds: {:?}", began.elapsed());
    // Who is still there at the end is reset, not ended.
    proxy.terminate();
    let reset = streams[0].read(&mut [0]).unwrap_err();
    assert_eq!(reset.kind(), std::io::ErrorKind::ConnectionReset);
}

fn raise_limit() {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: a structure of ours.
    unsafe {
        assert_eq!(libc::getrlimit(libc::RLIMIT_NOFILE, &mut limit), 0);
        limit.rlim_cur = limit.rlim_max;
        assert_eq!(libc::setrlimit(libc::RLIMIT_NOFILE, &limit), 0);
    }
}

#[test]
fn a_broken_server_resets_its_clients_and_new_ones_go_elsewhere() {
    let registrar = Registrar::start();
    let dying = TcpListener::bind("127.0.0.1:0").unwrap();
    let dying_at = dying.local_addr().unwrap();
    let _dying = registrar.register("Pair", "--tcp", dying_at, &[]);
    let (proxy, at) = registrar.proxy("Pair", &[]);
    let mut client = connect(at);
    let (server, _) = dying.accept().unwrap();
    let _other = registrar.register("Pair", "--tcp", echo(), &[]);
    socket2::SockRef::from(&server).set_linger(Some(Duration::ZERO)).unwrap();
    // As when the process is killed with something unread: nobody listens any more, and the connection is reset.
    drop((dying, server));
    let reset = client.read(&mut [0]).unwrap_err();
    assert_eq!(reset.kind(), std::io::ErrorKind::ConnectionReset);
    proxy.complains(&dying_at.to_string());
    for _ in 0..10 {
        let began = Instant::now();
        let mut client = connect(at);
        client.write_all(b"hello").unwrap();
        let mut back = [0; 5];
        client.read_exact(&mut back).unwrap();
        assert_eq!(&back, b"hello");
        println!("a new client is served after {:?}", began.elapsed());
    }
}

#[test]
fn without_an_element_clients_are_reset_and_with_one_they_are_served() {
    let registrar = Registrar::start();
    let (proxy, at) = registrar.proxy("Empty", &[]);
    let mut client = connect(at);
    assert_eq!(client.read(&mut [0]).unwrap_err().kind(), std::io::ErrorKind::ConnectionReset);
    proxy.complains("no element is registered");
    let _server = registrar.register("Empty", "--tcp", echo(), &[]);
    let mut client = connect(at);
    client.write_all(b"x").unwrap();
    client.read_exact(&mut [0]).unwrap();
}

#[test]
fn a_proxy_goes_on_without_registrar_and_drains_at_the_end() {
    let registrar = Registrar::start();
    let _server = registrar.register("Alone", "--tcp", echo(), &[]);
    let (mut proxy, at) = registrar.proxy("Alone", &["--drain", "60"]);
    let mut first = connect(at);
    first.write_all(b"x").unwrap();
    first.read_exact(&mut [0]).unwrap();
    drop(registrar);
    let mut second = connect(at);
    second.write_all(b"x").unwrap();
    second.read_exact(&mut [0]).unwrap();
    drop(second);
    proxy.signal(libc::SIGTERM);
    until("nobody is accepted any more", || TcpStream::connect(at).is_err());
    // Who is there is served on.
    first.write_all(b"y").unwrap();
    first.read_exact(&mut [0]).unwrap();
    drop(first);
    assert!(proxy.child.wait().unwrap().success());
}

#[test]
fn datagrams_go_to_another_server_when_theirs_is_gone() {
    let registrar = Registrar::start();
    let echo = |stop: std::sync::Arc<std::sync::atomic::AtomicBool>| {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        socket.set_read_timeout(Some(Duration::from_millis(20))).unwrap();
        let at = socket.local_addr().unwrap();
        let thread = std::thread::spawn(move || {
            let mut buffer = [0; 2_048];
            while !stop.load(std::sync::atomic::Ordering::Relaxed) {
                if let Ok((n, from)) = socket.recv_from(&mut buffer) {
                    socket
                        .send_to(&[at.port().to_string().as_bytes(), b" ", &buffer[..n]].concat(), from)
                        .unwrap();
                }
            }
        });
        (at, thread)
    };
    let stops = [(); 2].map(|()| std::sync::Arc::new(std::sync::atomic::AtomicBool::new(false)));
    let servers = stops.clone().map(echo);
    let _members = [0, 1].map(|n: usize| registrar.register("Datagrams", "--udp", servers[n].0, &[]));
    let (mut proxy, at) = registrar.proxy("Datagrams", &["--udp"]);
    let client = UdpSocket::bind("127.0.0.1:0").unwrap();
    client.set_read_timeout(Some(Duration::from_millis(200))).unwrap();
    client.connect(at).unwrap();
    // A datagram may be lost: it is sent again, as a client of UDP does.
    let mut number = 0;
    let mut ask = || -> String {
        number += 1;
        let mut buffer = [0; 2_048];
        let give_up = Instant::now() + PATIENCE;
        while Instant::now() < give_up {
            client.send(number.to_string().as_bytes()).ok();
            if let Ok(n) = client.recv(&mut buffer) {
                let answer = String::from_utf8_lossy(&buffer[..n]).into_owned();
                let (server, to) = answer.split_once(' ').unwrap();
                if to == number.to_string() {
                    return server.to_string();
                }
            }
        }
        panic!("no answer to {number}");
    };
    let first = ask();
    assert_eq!(ask(), first, "a client stays where it is");
    let (dead, _) = servers.iter().zip(&stops).find(|((at, _), _)| at.port().to_string() == first).unwrap();
    let index = servers.iter().position(|(at, _)| *at == dead.0).unwrap();
    stops[index].store(true, std::sync::atomic::Ordering::Relaxed);
    until("the server has ended", || servers[index].1.is_finished());
    let began = Instant::now();
    let second = ask();
    println!("another server answers after {:?}", began.elapsed());
    assert_ne!(first, second);
    proxy.complains(&format!(":{first}"));
    proxy.terminate();
}

#[test]
fn a_server_is_in_the_pool_while_it_is_well() {
    let registrar = Registrar::start();
    let (_held, at) = free_port();
    let listening = at.to_string();
    let arguments = ["--check", "tcp", "--interval", "0.05", "--rise", "2", "--fall", "2"];
    let arguments = [&["register", "--pool", "Checked", "--tcp", &listening], arguments.as_slice()].concat();
    let mut member = registrar.asapctl(&arguments);
    member.complains("is not well yet");
    assert_eq!(registrar.elements("Checked"), 0);
    let server = TcpListener::bind(at).unwrap();
    member.until("is well, and is element");
    assert_eq!(registrar.elements("Checked"), 1);
    drop(server);
    assert!(member.until("no longer").contains("refused"));
    assert_eq!(registrar.elements("Checked"), 0);
    let _server = TcpListener::bind(at).unwrap();
    member.until("is well again");
    assert_eq!(registrar.elements("Checked"), 1);
    member.terminate();
    assert_eq!(registrar.elements("Checked"), 0);
}

#[test]
fn a_server_leaves_the_pool_first_and_then_waits_for_its_clients() {
    let registrar = Registrar::start();
    let at = echo();
    let client = connect(at);
    let mut member = registrar.register("Drained", "--tcp", at, &["--drain", "60"]);
    member.signal(libc::SIGTERM);
    until("it has left", || registrar.elements("Drained") == 0);
    assert!(member.child.try_wait().unwrap().is_none(), "it waits for its client");
    drop(client);
    assert!(member.child.wait().unwrap().success());
}

#[test]
fn redis_goes_on_when_one_of_two_is_killed() {
    if !tools::have("redis-server", "redis-server") || !tools::have("redis-cli", "redis-tools") {
        return;
    }
    let registrar = Registrar::start();
    let start = || {
        let (held, at) = free_port();
        let port = at.port().to_string();
        let mut command = Command::new("redis-server");
        command.args([
            "--port",
            &port,
            "--bind",
            "127.0.0.1",
            "--save",
            "",
            "--appendonly",
            "no",
            "--daemonize",
            "no",
        ]);
        let server = Program::start(command);
        let check = format!("cmd:redis-cli -p {port} ping | grep -q PONG");
        let member = registrar.register(
            "Redis",
            "--tcp",
            at,
            &["--check", &check, "--interval", "0.2", "--check-timeout", "10"],
        );
        (server, member, port, held)
    };
    let mut servers = [start(), start()];
    let (_proxy, at) = registrar.proxy("Redis", &[]);
    let ask = |words: &[&str]| {
        let output =
            Command::new("redis-cli").args(["-p", &at.port().to_string()]).args(words).output().unwrap();
        String::from_utf8(output.stdout).unwrap().trim().to_string()
    };
    let port = || {
        let told = ask(&["config", "get", "port"]);
        told.lines().last().unwrap_or_default().to_string()
    };
    let seen: std::collections::BTreeSet<String> = (0..8).map(|_| port()).collect();
    assert_eq!(seen.len(), 2, "both serve: {seen:?}");
    assert_eq!(ask(&["set", "key", "value"]), "OK");
    let (server, member, dead, _) = &mut servers[0];
    server.kill();
    let began = Instant::now();
    for _ in 0..10 {
        let at = port();
        assert!(at != *dead && seen.contains(&at), "{at}");
    }
    println!("ten answers after the kill: {:?}", began.elapsed());
    member.until("is not well");
    until("the dead one has left the pool", || registrar.elements("Redis") == 1);
}
