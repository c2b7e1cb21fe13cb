//! `asapctl monitor` as its users meet it: started as a program, with a registrar, an element and a user that report to it.

use asap::csp::{ComponentId, Monitor, Report, Status};
use asap::hosting::{Announce, Running, Settings};
use asap::policy::{Policy, PolicyType};
use asap::socket::{self, Context, Kind, Options, Reporting, Wait};
use asap::types::{PeId, PoolHandle, ServerId};
use serde_json::Value;
use std::io::{BufRead, BufReader, Lines};
use std::net::{SocketAddr, UdpSocket};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::time::{Duration, Instant};

const PATIENCE: Duration = Duration::from_secs(20);

struct Screen {
    child: Child,
    lines: Lines<BufReader<ChildStdout>>,
}

impl Screen {
    fn start(arguments: &[&str]) -> Screen {
        let mut command = Command::new(env!("CARGO_BIN_EXE_asapctl"));
        command.args(["monitor", "--listen", "127.0.0.1:0"]).args(arguments);
        let mut child = command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn().unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        Screen { child, lines }
    }

    fn line(&mut self) -> String {
        self.lines.next().expect("another line").unwrap()
    }

    fn json(&mut self) -> Value {
        let line = self.line();
        serde_json::from_str(&line).unwrap_or_else(|error| panic!("{line}: {error}"))
    }

    /// The next event like this.
    fn see(&mut self, what: &str, like: impl Fn(&Value) -> bool) -> Value {
        let limit = Instant::now() + PATIENCE;
        while Instant::now() < limit {
            let event = self.json();
            if like(&event) {
                return event;
            }
        }
        panic!("{what} was not seen");
    }

    fn see_status(&mut self, group: &str, text: &str) -> Value {
        self.see(text, |event| event["component"]["group"] == group && event["status"] == text)
    }

    fn see_end(&mut self, group: &str) {
        let event =
            self.see(group, |event| event["event"] == "ended" && event["component"]["group"] == group);
        assert_eq!(event["why"], "final");
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn registrar_element_and_user_are_shown_until_they_end() {
    let mut screen = Screen::start(&["--json"]);
    let listening = screen.json();
    assert_eq!(listening["event"], "listening");
    let address: SocketAddr = listening["address"].as_str().unwrap().parse().unwrap();
    let monitor = Monitor { address, interval: Duration::from_millis(50) };
    let any: SocketAddr = "127.0.0.1:0".parse().unwrap();
    let registrar = Running::start(Settings {
        asap: vec![any],
        enrp: vec![any],
        announce: Announce::Off,
        id: ServerId::new(0xaaa),
        monitor: Some(monitor),
        ..Settings::default()
    })
    .unwrap();
    let places = registrar.listeners().iter().filter(|listener| listener.serves_endpoints());
    let places: Vec<Vec<SocketAddr>> = places.map(|listener| vec![listener.address]).collect();
    let context = || {
        let reporting = Reporting::To { monitor, identifier: None };
        let registrars = places.clone();
        Context::start(&Options { registrars, no_announcements: true, reporting, ..Options::default() })
            .unwrap()
    };
    let shown = screen.see_status("registrar", "0[0] PEs in 0 Pools, 0 Peers");
    assert_eq!(shown["component"]["id"], "0x00000aaa");

    let (servers, users) = (context(), context());
    let pool = PoolHandle::new(b"pool").unwrap();
    let server = servers.socket(0, Kind::SeqPacket, 0).unwrap();
    socket::bind(server, &["127.0.0.1:0".parse().unwrap()]).unwrap();
    let load = Policy::new(PolicyType::LeastUsed, &[u32::MAX / 4]);
    let renewal = Duration::from_secs(30);
    socket::register(server, &pool, &load, renewal, Some(PeId(7)), true, Wait::For(PATIENCE)).unwrap();
    let shown = screen.see_status("element", "0 Sessions");
    assert_eq!(shown["component"]["id"], "0x00000007");
    assert!(shown["workload"].as_f64().is_some_and(|load| (load - 0.25).abs() < 0.001), "{shown}");

    let user = users.socket(0, Kind::SeqPacket, 0).unwrap();
    socket::connect(user, &pool, Duration::ZERO, Wait::For(PATIENCE)).unwrap();
    screen.see_status("user", "1 Session");
    // Behind the one with its registrar.
    screen.see("with whom", |event| event["associations"][1]["with"]["id"] == "0x00000007");
    screen.see_status("registrar", "1[1] PEs in 1 Pool, 0 Peers");

    users.close();
    screen.see_end("user");
    servers.close();
    screen.see_end("element");
    drop(registrar);
    screen.see_end("registrar");
}

#[test]
fn lines_tell_what_changes_and_survive_garbage() {
    let mut screen = Screen::start(&["--purge", "0.3"]);
    let listening = screen.line();
    let to = listening.strip_prefix("listening at ").unwrap_or_else(|| panic!("{listening}")).to_owned();
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    let status = |text: &str| {
        let (location, text) = ("h1: 10.1.1.1:7".to_owned(), text.to_owned());
        Some(Status { location, text, ..Status::default() })
    };
    let send = |status| {
        let (sender, time) = (ComponentId::element(PeId(7)), Duration::from_secs(1));
        let report = Report { sender, uptime: time, interval: time, status };
        socket.send_to(&report.encode(), &to).unwrap();
    };
    for text in ["0 Sessions", "0 Sessions", "1 Session"] {
        send(status(text));
    }
    socket.send_to(b"garbage", &to).unwrap();
    assert_eq!(screen.line(), "PE 0x00000007 at h1: 10.1.1.1:7: 0 Sessions");
    assert_eq!(screen.line(), "PE 0x00000007 at h1: 10.1.1.1:7: 1 Session");
    assert!(screen.line().ends_with("no report: not a report"));
    assert_eq!(screen.line(), "PE 0x00000007 is silent");
    send(status("0 Sessions"));
    send(None);
    assert_eq!(screen.line(), "PE 0x00000007 at h1: 10.1.1.1:7: 0 Sessions");
    assert_eq!(screen.line(), "PE 0x00000007 has ended");
}
