//! The daemon as its users meet it: started as a program, spoken to over TCP or SCTP, looked at, stopped, killed.

#[path = "../../../tests/carrier/mod.rs"]
mod carrier;

use asap::codec::MessageSplitter;
use asap::policy::{Policy, PolicyType};
use asap::types::{PeId, PoolElement, PoolHandle, RegistrationLife, TransportAddress, TransportUse};
use asap::wire::{AsapMessage, Dialect, Registration};
use serde_json::{Value, json};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

const PATIENCE: Duration = Duration::from_secs(20);

struct Daemon {
    child: Child,
    asap: SocketAddr,
    enrp: SocketAddr,
    admin: PathBuf,
    _folder: tempfile::TempDir,
}

fn program() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_asap-registrar"));
    command.stdout(Stdio::piped()).stderr(Stdio::piped()).stdin(Stdio::null());
    command
}

impl Daemon {
    fn start(arguments: &[&str]) -> Daemon {
        let folder = tempfile::tempdir().unwrap();
        let admin = folder.path().join("admin.sock");
        let mut child = program()
            .args(["--asap", "127.0.0.1:0", "--enrp", "127.0.0.1:0", "--admin"])
            .arg(&admin)
            .args(arguments)
            .spawn()
            .unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines().map(Result::unwrap);
        let listeners: Vec<String> = lines.take_while(|line| line != "ready").collect();
        let address = |name: &str| {
            let found = listeners.iter().find_map(|line| line.strip_prefix(name));
            found.unwrap_or_else(|| panic!("no {name}in {listeners:?}")).parse().unwrap()
        };
        let (asap, enrp) = (address(&format!("asap {} ", carrier::name())), address("enrp tcp "));
        Daemon { child, asap, enrp, admin, _folder: folder }
    }

    /// The answer to a command on the administration socket.
    fn ask(&self, request: &Value) -> Value {
        let stream = UnixStream::connect(&self.admin).unwrap();
        writeln!(&stream, "{request}").unwrap();
        let mut answer = String::new();
        BufReader::new(&stream).read_line(&mut answer).unwrap();
        serde_json::from_str(&answer).unwrap()
    }

    fn pools(&self) -> Value {
        self.ask(&json!({ "v": 1, "cmd": "pools" }))["pools"].clone()
    }

    fn terminate(&mut self) -> (ExitStatus, String) {
        let pid = self.child.id().to_string();
        assert!(Command::new("kill").arg(pid).status().unwrap().success());
        finish(&mut self.child)
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Waits for the end, and gives what was written to the log.
fn finish(child: &mut Child) -> (ExitStatus, String) {
    let mut log = String::new();
    child.stderr.take().unwrap().read_to_string(&mut log).unwrap();
    (child.wait().unwrap(), log)
}

/// An endpoint that speaks ASAP and acknowledges keep-alives.
struct Endpoint {
    stream: TcpStream,
    splitter: MessageSplitter,
}

impl Endpoint {
    fn connect(to: SocketAddr) -> Endpoint {
        let stream = carrier::dial(to, carrier::ASAP);
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        Endpoint { stream, splitter: MessageSplitter::default() }
    }

    fn send(&mut self, message: &AsapMessage) {
        self.stream.write_all(&message.encode(Dialect::Rfc).unwrap()).unwrap();
    }

    /// The next message that is no keep-alive; none at the end of the connection.
    fn next(&mut self) -> Option<AsapMessage> {
        loop {
            if let Some(message) = self.splitter.next_message().unwrap() {
                match AsapMessage::decode(message, Dialect::Rfc).unwrap().message {
                    AsapMessage::KeepAlive(keep_alive) => {
                        let ack = AsapMessage::KeepAliveAck { handle: keep_alive.handle, element: PeId(7) };
                        self.stream.write_all(&ack.encode(Dialect::Rfc).unwrap()).unwrap();
                        continue;
                    }
                    other => return Some(other),
                }
            }
            let mut buffer = [0; 4_096];
            match self.stream.read(&mut buffer).unwrap() {
                0 => return None,
                len => self.splitter.push(&buffer[..len]),
            }
        }
    }

    fn register(&mut self, port: u16) -> AsapMessage {
        let element = PoolElement {
            id: PeId(7),
            home: None,
            life: RegistrationLife::Seconds(300),
            user_transport: TransportAddress::Tcp {
                port,
                transport_use: TransportUse::DataOnly,
                address: "127.0.0.1".parse().unwrap(),
            },
            policy: Policy::new(PolicyType::WeightedRoundRobin, &[3]),
            asap_transport: None,
            capabilities: None,
        };
        self.send(&AsapMessage::Registration(Registration { handle: handle(), element }));
        self.next().expect("an answer")
    }

    fn resolve(&mut self) -> AsapMessage {
        let (subscribe, items, capabilities) = (false, None, None);
        self.send(&AsapMessage::HandleResolution { subscribe, handle: handle(), items, capabilities });
        self.next().expect("an answer")
    }
}

fn handle() -> PoolHandle {
    PoolHandle::new(b"EchoPool").unwrap()
}

fn eventually(what: &str, mut condition: impl FnMut() -> bool) {
    let limit = Instant::now() + PATIENCE;
    while !condition() {
        assert!(Instant::now() < limit, "{what}");
        std::thread::yield_now();
    }
}

#[test]
fn registers_resolves_shows_and_removes_what_dies() {
    let mut daemon = Daemon::start(&["--id", "0x1234", "--profile", "lan"]);
    let mut element = Endpoint::connect(daemon.asap);
    match element.register(4_242) {
        AsapMessage::RegistrationResponse { reject: false, element: PeId(7), error: None, .. } => {}
        other => panic!("{other:?}"),
    }

    let mut user = Endpoint::connect(daemon.asap);
    match user.resolve() {
        AsapMessage::HandleResolutionResponse { elements, error: None, .. } => {
            assert_eq!((elements.len(), elements[0].id), (1, PeId(7)));
            assert_eq!(elements[0].user_transport.port(), Some(4_242));
        }
        other => panic!("{other:?}"),
    }

    let pools = daemon.pools();
    assert_eq!(pools[0]["handle"], "EchoPool");
    let shown = &pools[0]["elements"][0];
    assert_eq!(shown["id"], "0x00000007");
    assert_eq!(shown["policy"], "WeightedRoundRobin 3");
    assert_eq!(shown["transport"], "tcp 127.0.0.1:4242");
    assert_eq!(shown["home"], "0x00001234");
    assert!(shown["expires_in"].as_f64().is_some_and(|left| left > 200.0 && left <= 300.0), "{shown}");
    let counters = daemon.ask(&json!({ "v": 1, "cmd": "counters" }));
    assert_eq!(counters["counters"]["registrations"], 1);
    let status = daemon.ask(&json!({ "v": 1, "cmd": "status" }));
    assert_eq!((&status["id"], &status["elements"]), (&json!("0x00001234"), &json!(1)));
    assert_eq!(status["listeners"][1]["address"], daemon.enrp.to_string());
    assert!(daemon.ask(&json!({ "v": 1, "cmd": "nonsense" }))["error"].is_string());

    // The element dies: its connection ends without deregistration.
    let begun = Instant::now();
    drop(element);
    eventually("the element is still there", || daemon.pools().as_array().is_some_and(Vec::is_empty));
    println!("gone {:?} after its connection was lost", begun.elapsed());
    assert!(begun.elapsed() < Duration::from_secs(5));

    // Leaving in order: those who are connected see the end at once.
    let (status, log) = daemon.terminate();
    assert!(status.success(), "{status} {log}");
    assert!(user.next().is_none());
    // Over SCTP it may be RSPLIB's, as long as it has not shown what it is.
    let unit = if carrier::name() == "sctp" { ", if those are seconds" } else { "" };
    for line in [
        &format!(
            "pool EchoPool: element 0x00000007 registered (tcp 127.0.0.1:4242, WeightedRoundRobin 3, for 300 s{unit})"
        ),
        "pool EchoPool: element 0x00000007 removed: it does not answer",
        "leaving",
    ] {
        assert!(log.contains(line), "no {line:?} in {log}");
    }
    assert!(!daemon.admin.exists());
}

#[test]
fn killed_registrar_ends_its_connections_at_once_and_leaves_a_socket_that_is_replaced() {
    let mut daemon = Daemon::start(&[]);
    let mut user = Endpoint::connect(daemon.asap);
    user.resolve();
    daemon.child.kill().unwrap();
    daemon.child.wait().unwrap();
    let begun = Instant::now();
    assert_eq!(user.stream.read(&mut [0; 1]).unwrap_or(0), 0);
    assert!(begun.elapsed() < Duration::from_secs(1));
    assert!(daemon.admin.exists());
    let mut next = program();
    next.args(["--asap", "127.0.0.1:0", "--enrp", "127.0.0.1:0", "--admin"]).arg(&daemon.admin);
    let mut child = next.spawn().unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    assert!(lines.any(|line| line.unwrap() == "ready"));
    UnixStream::connect(&daemon.admin).unwrap();
    child.kill().unwrap();
    child.wait().unwrap();
}

#[test]
fn serves_thousand_users_at_once() {
    // An element that is busy elsewhere meanwhile.
    let daemon = Daemon::start(&["--profile", "wan"]);
    let mut element = Endpoint::connect(daemon.asap);
    element.register(80);
    let begun = Instant::now();
    let mut users: Vec<Endpoint> = (0..1_000).map(|_| Endpoint::connect(daemon.asap)).collect();
    for user in &mut users {
        let (subscribe, items, capabilities) = (false, None, None);
        user.send(&AsapMessage::HandleResolution { subscribe, handle: handle(), items, capabilities });
    }
    for user in &mut users {
        assert!(matches!(user.next(), Some(AsapMessage::HandleResolutionResponse { error: None, .. })));
    }
    println!("1,000 users connected and answered in {:?}", begun.elapsed());
    assert_eq!(daemon.ask(&json!({ "v": 1, "cmd": "counters" }))["counters"]["resolutions"], 1_000);
}

#[test]
fn busy_port_is_explained() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let mut child = program().args(["--asap", &address, "--admin", "off"]).spawn().unwrap();
    let (status, log) = finish(&mut child);
    assert!(!status.success());
    for part in [address.as_str(), "another registrar is probably running", "--asap 127.0.0.1:0"] {
        assert!(log.contains(part), "no {part:?} in {log}");
    }
}

#[test]
fn options_come_from_a_file_and_mistakes_in_it_are_named() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("registrar.toml");
    let write = |text: &str, path: &Path| std::fs::write(path, text).unwrap();
    write("id = '0xabcd'\nprofile = 'wan'\nmax-pools = 1", &file);
    let daemon = Daemon::start(&["--config", file.to_str().unwrap(), "--profile", "rfc"]);
    let status = daemon.ask(&json!({ "v": 1, "cmd": "status" }));
    assert_eq!((&status["id"], &status["profile"]), (&json!("0x0000abcd"), &json!("rfc")));
    write("max-pol = 1", &file);
    let mut child = program().arg("--config").arg(&file).spawn().unwrap();
    let (status, log) = finish(&mut child);
    assert!(!status.success() && log.contains("max-pol"), "{log}");
}

#[test]
fn garbage_is_survived() {
    let daemon = Daemon::start(&[]);
    for (target, is_asap) in [(daemon.asap, true), (daemon.enrp, false)] {
        for garbage in [&[0u8; 64][..], b"GET / HTTP/1.0\r\n\r\n", &[1, 0, 0xff, 0xff, 9, 9, 9]] {
            let mut stream = match is_asap {
                true => carrier::dial(target, carrier::ASAP),
                false => TcpStream::connect(target).unwrap(),
            };
            stream.write_all(garbage).unwrap();
        }
    }
    let mut user = Endpoint::connect(daemon.asap);
    assert!(matches!(user.resolve(), AsapMessage::HandleResolutionResponse { .. }));
}
