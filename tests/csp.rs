//! The component status protocol: the datagrams of a capture of RSPLIB, all that bytes can be, and what a registrar, elements
//! and users tell a monitor over loopback.

mod carrier;

use asap::csp::{Association, ComponentId, Group, Monitor, Report, Status};
use asap::hosting::{Announce, Listener, Running, Settings};
use asap::machine::Protocol;
use asap::policy::{Policy, PolicyType};
use asap::socket::{self, Context, Kind, Options, Outgoing, Reporting, Wait};
use asap::types::{Load, PeId, PoolHandle, ServerId};
use carrier::carrier;
use proptest::collection::vec;
use proptest::option::of;
use proptest::prelude::*;
use std::net::{SocketAddr, UdpSocket};
use std::os::fd::RawFd;
use std::time::{Duration, Instant};

const PATIENCE: Duration = Duration::from_secs(20);
const INTERVAL: Duration = Duration::from_millis(50);

fn from_hex(hex: &str) -> Vec<u8> {
    (0..hex.len() / 2).map(|i| u8::from_str_radix(&hex[2 * i..2 * i + 2], 16).unwrap()).collect()
}

#[test]
fn rsplibs_reports_are_understood_and_written_as_it_writes_them() {
    let lines = include_str!("vectors/csp.txt").lines().filter(|l| !l.is_empty() && !l.starts_with('#'));
    let mut count = 0;
    for line in lines {
        let fields: Vec<&str> = line.splitn(3, '|').map(str::trim).collect();
        let [name, hex, value] = fields[..] else { panic!("not three fields: {line}") };
        let bytes = from_hex(hex);
        let report = Report::decode(&bytes).unwrap_or_else(|why| panic!("{name}: {why:?}"));
        assert_eq!(format!("{report:?}"), value, "{name}");
        assert_eq!(report.encode(), bytes, "{name}");
        for end in 0..bytes.len() {
            assert!(Report::decode(&bytes[..end]).is_err(), "{name}, cut at {end}");
        }
        count += 1;
    }
    assert!(count >= 8, "{count} vectors");
}

fn micros() -> impl Strategy<Value = Duration> {
    any::<u64>().prop_map(Duration::from_micros)
}

fn association() -> impl Strategy<Value = Association> {
    (any::<u64>(), micros(), any::<u16>(), any::<u32>()).prop_map(|(peer, duration, protocol, ppid)| {
        Association { peer: ComponentId::from_number(peer), duration, protocol, ppid }
    })
}

fn status() -> impl Strategy<Value = Status> {
    let text = || "[ -~äß€]{0,42}";
    let load = (0..=0xfffe_u64).prop_map(|w| Load(((w * 0xffff_ffff + 0x7fff) / 0xfffe) as u32));
    (text(), text(), of(load), vec(association(), 0..48)).prop_map(
        |(location, text, workload, associations)| Status { location, text, workload, associations },
    )
}

fn report() -> impl Strategy<Value = Report> {
    (any::<u64>(), micros(), any::<u32>(), of(status())).prop_map(|(sender, uptime, interval, status)| {
        let interval = Duration::from_micros(interval.into());
        Report { sender: ComponentId::from_number(sender), uptime, interval, status }
    })
}

proptest! {
    #[test]
    fn what_is_written_is_read_again(report in report()) {
        prop_assert_eq!(Report::decode(&report.encode()), Ok(report));
    }

    #[test]
    fn no_bytes_are_beyond_it(bytes in vec(any::<u8>(), 0..2_000)) {
        let _ = Report::decode(&bytes);
    }

    #[test]
    fn a_report_with_any_bytes_changed_is_read_or_refused(
        report in report(),
        changes in vec((any::<prop::sample::Index>(), any::<u8>()), 1..8),
    ) {
        let mut bytes = report.encode();
        for (at, value) in changes {
            let at = at.index(bytes.len());
            bytes[at] = value;
        }
        if let Ok(Report { status: Some(status), .. }) = Report::decode(&bytes) {
            prop_assert!(!status.location.chars().chain(status.text.chars()).any(char::is_control));
        }
    }
}

/// A monitor, and whose reports have come.
struct Ear {
    socket: UdpSocket,
}

impl Ear {
    fn new(at: &str) -> Ear {
        let socket = UdpSocket::bind(at).unwrap();
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        Ear { socket }
    }

    fn monitor(&self) -> Monitor {
        Monitor { address: self.socket.local_addr().unwrap(), interval: INTERVAL }
    }

    /// The next report like this.
    fn hear(&self, what: &str, mut like: impl FnMut(&Report) -> bool) -> Report {
        let limit = Instant::now() + PATIENCE;
        let mut buffer = [0; 2_048];
        let mut others = Vec::new();
        while Instant::now() < limit {
            let len = self.socket.recv(&mut buffer).unwrap_or_else(|e| panic!("{what}: {e}"));
            let report = Report::decode(&buffer[..len]).unwrap();
            if like(&report) {
                return report;
            }
            others.push(report);
        }
        panic!("{what}: came instead {:?}", others.last());
    }

    /// The next report of this component that says this.
    fn hear_text(&self, id: ComponentId, text: &str) -> Status {
        let says = |report: &Report| report.status.as_ref().is_some_and(|status| status.text == text);
        self.hear(text, |report| report.sender == id && says(report)).status.unwrap()
    }

    fn hear_last(&self, what: &str, like: impl Fn(ComponentId) -> bool) {
        self.hear(what, |report| like(report.sender) && report.status.is_none());
    }
}

struct World {
    ear: Ear,
    registrar: Running,
}

impl World {
    fn new(ear: Ear) -> World {
        let any: SocketAddr = "127.0.0.1:0".parse().unwrap();
        let registrar = Running::start(Settings {
            asap: vec![any],
            enrp: vec![any],
            announce: Announce::Off,
            id: ServerId::new(0xaaa),
            monitor: Some(ear.monitor()),
            ..Settings::default()
        });
        World { ear, registrar: registrar.unwrap() }
    }

    fn context(&self, identifier: Option<ComponentId>) -> Context {
        let asap = |l: &&Listener| l.protocol == Protocol::Asap && l.kind == carrier();
        let at = self.registrar.listeners().iter().find(asap).unwrap().address;
        let reporting = Reporting::To { monitor: self.ear.monitor(), identifier };
        let options =
            Options { registrars: vec![vec![at]], no_announcements: true, reporting, ..Options::default() };
        Context::start(&options).unwrap()
    }
}

fn pool() -> PoolHandle {
    PoolHandle::new(b"pool").unwrap()
}

fn element(context: &Context, id: u32, kind: Kind, policy: &Policy) -> RawFd {
    let sd = context.socket(0, kind, 0).unwrap();
    socket::bind(sd, &["127.0.0.1:0".parse().unwrap()]).unwrap();
    let renewal = Duration::from_secs(30);
    socket::register(sd, &pool(), policy, renewal, Some(PeId(id)), true, Wait::For(PATIENCE)).unwrap();
    sd
}

fn user(context: &Context) -> RawFd {
    let sd = context.socket(0, Kind::SeqPacket, 0).unwrap();
    socket::connect(sd, &pool(), Duration::ZERO, Wait::For(PATIENCE)).unwrap();
    sd
}

fn registrar() -> ComponentId {
    ComponentId::registrar(ServerId::new(0xaaa))
}

fn is_user(id: ComponentId) -> bool {
    id.group() == Group::User
}

#[test]
fn registrar_element_and_user_report_themselves_and_their_end() {
    let world = World::new(Ear::new("[::1]:0"));
    let ear = &world.ear;
    let first = ear.hear_text(registrar(), "0[0] PEs in 0 Pools, 0 Peers");
    assert!(first.location.contains(": 127.0.0.1:") && first.workload.is_none(), "{first:?}");

    let servers = world.context(None);
    let half = Policy::new(PolicyType::LeastUsed, &[0x8000_0000]);
    let server = element(&servers, 0x1234, Kind::SeqPacket, &half);
    ear.hear_text(registrar(), "1[1] PEs in 1 Pool, 0 Peers");
    let own = ComponentId::element(PeId(0x1234));
    let idle = ear.hear_text(own, "0 Sessions");
    let port = socket::local_address(server).unwrap().port();
    assert!(idle.location.ends_with(&format!(": 127.0.0.1:{port}")), "{idle:?}");
    assert_eq!(idle.workload.map(|load| load.0 >> 16), Some(0x8000));
    assert_eq!((idle.associations.len(), idle.associations[0].ppid), (1, 11));
    assert_eq!(idle.associations[0].peer.group(), Group::Registrar);

    let users = world.context(None);
    let sd = user(&users);
    // Behind the association with its registrar.
    let has_one = |report: &Report, text: &str, ppid: u32| {
        let with = |status: &Status| status.associations.get(1).map(|it| (it.peer, it.ppid));
        report.status.as_ref().is_some_and(|it| it.text == text && with(it) == Some((own, ppid)))
    };
    let busy = ear.hear("a user", |report| is_user(report.sender) && has_one(report, "1 Session", 0));
    socket::set_status(sd, 0, "fetching\x1b things").unwrap();
    let how = Outgoing { ppid: 33, ..Outgoing::default() };
    socket::send(sd, b"ping", &how, Wait::For(PATIENCE)).unwrap();
    // The server looks after its sessions when it is called.
    socket::receive(server, &mut [0; 64], false, Wait::For(PATIENCE)).unwrap();
    ear.hear("what it does", |report| {
        report.sender == busy.sender && has_one(report, "fetching? things", 33)
    });
    ear.hear_text(own, "1 Session");

    users.close();
    ear.hear_last("the user's end", |id| id == busy.sender);
    servers.close();
    ear.hear_last("the element's end", |id| id == own);
    drop(world.registrar);
    world.ear.hear_last("the registrar's end", |id| id == registrar());
}

#[test]
fn each_element_of_a_process_is_a_component() {
    let world = World::new(Ear::new("127.0.0.1:0"));
    let ear = &world.ear;
    let context = world.context(None);
    ear.hear("somebody who has nothing yet", |report| is_user(report.sender));
    let one = element(&context, 1, Kind::Stream, &Policy::ROUND_ROBIN);
    let clients = world.context(None);
    let client = user(&clients);
    element(&context, 2, Kind::SeqPacket, &Policy::ROUND_ROBIN);
    let (first, second) = (ComponentId::element(PeId(1)), ComponentId::element(PeId(2)));
    let mut left = vec![first, second];
    ear.hear("both", |report| {
        left.retain(|id| *id != report.sender);
        left.is_empty()
    });
    // A session accepted as a descriptor of its own is its element's.
    let accepted = socket::accept(one, Wait::For(PATIENCE)).unwrap();
    ear.hear_text(first, "1 Session");
    socket::set_status(accepted, 0, "serving").unwrap();
    ear.hear_text(first, "serving");
    socket::close(client).unwrap();
    socket::close(one).unwrap();
    ear.hear_last("the one that was closed", |id| id == first);
    ear.hear_text(second, "0 Sessions");
    context.close();
    clients.close();
}

#[test]
fn with_an_identifier_given_all_of_a_process_is_that_component() {
    let world = World::new(Ear::new("127.0.0.1:0"));
    let given = ComponentId::element(PeId(0xbeef));
    let context = world.context(Some(given));
    let only = |ear: &Ear, text: &str| {
        ear.hear(text, |report| {
            assert!(report.sender == given || report.sender == registrar(), "{report:?}");
            report.status.as_ref().is_some_and(|status| status.text == text)
        });
    };
    element(&context, 7, Kind::SeqPacket, &Policy::ROUND_ROBIN);
    only(&world.ear, "0 Sessions");
    user(&context);
    only(&world.ear, "1 Session");
    context.close();
    world.ear.hear_last("its end", |id| id == given);
}

#[test]
fn without_registrar_it_is_looked_for() {
    let ear = Ear::new("127.0.0.1:0");
    let nowhere: SocketAddr = "127.0.0.1:9".parse().unwrap();
    let options = Options {
        registrars: vec![vec![nowhere]],
        no_announcements: true,
        reporting: Reporting::To { monitor: ear.monitor(), identifier: None },
        ..Options::default()
    };
    let context = Context::start(&options).unwrap();
    let sd = context.socket(0, Kind::SeqPacket, 0).unwrap();
    let renewal = Duration::from_secs(30);
    socket::register(sd, &pool(), &Policy::ROUND_ROBIN, renewal, Some(PeId(5)), true, Wait::No).unwrap();
    let status = ear.hear_text(ComponentId::element(PeId(5)), "Looking for Registrar ...");
    assert!(status.associations.is_empty());
    context.close();
}
