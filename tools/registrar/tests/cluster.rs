//! Registrars as programs, over TCP on loopback: killed, stopped, started again, while elements and users go on. What is seen is
//! seen from outside: by users, and through the administration sockets.
//!
//! In the lab (tests/lab) the same is done between hosts, whose links are cut and made bad.
//!
//! The bounds of the project are printed beside what was measured; the tests hold five times as much. Those that are ignored take
//! longer (`make registrars`).

use asap::codec::MessageSplitter;
use asap::config::{EndpointConfig, Limits, Profile};
use asap::endpoint::{Endpoint, Offer};
use asap::machine::{Destination, LinkKind, Protocol};
use asap::policy::{Policy, PolicyType};
use asap::runtime;
use asap::runtime::driver::{self, Driver, DriverConfig, Remote, Thread};
use asap::runtime::poller::PollPoller;
use asap::socket::{Context, Options, Wait};
use asap::types::{
    Capabilities, PeId, PoolElement, PoolHandle, RegistrationLife, TransportAddress, TransportUse,
};
use asap::wire::{AsapMessage, Dialect, Registration};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpStream};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// Longer than anything takes on a busy machine.
const PATIENCE: Duration = Duration::from_secs(60);
/// What is promised: elements of a dead registrar have another home within this.
const ADOPTION: Duration = Duration::from_millis(1_500);
/// And no user waits longer than this for an answer.
const OUTAGE: Duration = Duration::from_millis(300);
/// What is promised is promised of real machines: so many times as much is asserted here, where everything shares two
/// processors, and in the lab, where it shares a slow one and loses packets.
const HERE: u32 = 5;
const LAB: u32 = 20;

fn local() -> IpAddr {
    Ipv4Addr::LOCALHOST.into()
}

fn millis(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}

/// The value that `part` of a hundred are not above.
fn percentile(times: &mut [Duration], part: usize) -> Duration {
    times.sort_unstable();
    times.get((times.len() * part / 100).min(times.len().saturating_sub(1))).copied().unwrap_or_default()
}

/// A registrar that is run, killed and run again at the same place.
struct Daemon {
    child: Child,
    /// The host of the lab it runs on.
    host: Option<String>,
    asap: SocketAddr,
    enrp: SocketAddr,
    admin: PathBuf,
}

impl Daemon {
    fn start(
        host: Option<&str>,
        asap: SocketAddr,
        enrp: SocketAddr,
        peers: &[SocketAddr],
        admin: PathBuf,
    ) -> Daemon {
        let program = env!("CARGO_BIN_EXE_asap-registrar");
        let mut command = match host {
            None => Command::new(program),
            Some(host) => {
                // It becomes the program itself, so that this is what is killed.
                let mut command = Command::new("ip");
                command.args(["netns", "exec", host, program]);
                command
            }
        };
        command
            .args(["--asap", &asap.to_string(), "--enrp", &enrp.to_string(), "--announce", "off", "--admin"])
            .arg(&admin)
            .stdin(Stdio::null())
            .stdout(Stdio::piped());
        for peer in peers {
            command.args(["--peer", &peer.to_string()]);
        }
        if std::env::var_os("RUST_LOG").is_none() {
            command.env("RUST_LOG", "error");
        }
        let mut child = command.spawn().unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines().map(Result::unwrap);
        let mut address = |name: &str| {
            let line = lines.next().expect("a line for each listener");
            line.strip_prefix(name).unwrap_or_else(|| panic!("{line}")).parse().unwrap()
        };
        let (asap, enrp) = (address("asap tcp "), address("enrp tcp "));
        // Where the kernel has SCTP there are more of them.
        assert!(lines.any(|line| line == "ready"));
        Daemon { child, host: host.map(str::to_owned), asap, enrp, admin }
    }

    fn ask(&self, request: &Value) -> Option<Value> {
        let stream = UnixStream::connect(&self.admin).ok()?;
        stream.set_read_timeout(Some(PATIENCE)).ok()?;
        writeln!(&stream, "{request}").ok()?;
        let mut answer = String::new();
        BufReader::new(&stream).read_line(&mut answer).ok()?;
        serde_json::from_str(&answer).ok()
    }

    fn status(&self) -> Value {
        self.ask(&json!({ "v": 1, "cmd": "status" })).expect("an answer")
    }

    fn registrars(&self) -> Value {
        self.ask(&json!({ "v": 1, "cmd": "registrars" })).expect("an answer")
    }

    fn id(&self) -> String {
        self.status()["id"].as_str().expect("an identifier").to_owned()
    }

    /// The home of each element of the pool, as this registrar sees it.
    fn homes(&self) -> BTreeMap<String, String> {
        let answer = self.ask(&json!({ "v": 1, "cmd": "pools", "limit": 1_000_000 })).expect("an answer");
        let mut homes = BTreeMap::new();
        for pool in answer["pools"].as_array().expect("pools") {
            for element in pool["elements"].as_array().expect("elements") {
                let text = |name: &str| element[name].as_str().unwrap_or("none").to_owned();
                homes.insert(text("id"), text("home"));
            }
        }
        homes
    }

    fn signal(&self, signal: &str) {
        let pid = self.child.id().to_string();
        assert!(Command::new("kill").args([signal, &pid]).status().unwrap().success());
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Registrars that know of each other.
struct Cluster {
    daemons: Vec<Daemon>,
    _folder: tempfile::TempDir,
}

impl Cluster {
    fn start(size: usize) -> Cluster {
        let folder = tempfile::tempdir().unwrap();
        let mut daemons: Vec<Daemon> = Vec::new();
        for n in 0..size {
            let peers: Vec<SocketAddr> = daemons.iter().map(|daemon| daemon.enrp).collect();
            let any = SocketAddr::new(local(), 0);
            let admin = folder.path().join(format!("{n}.sock"));
            daemons.push(Daemon::start(None, any, any, &peers, admin));
        }
        Cluster { daemons, _folder: folder }.known()
    }

    /// On the hosts r1 and so on, which the scenario has made.
    fn in_lab(size: usize) -> Cluster {
        let folder = tempfile::tempdir().unwrap();
        let at = |n: usize, port: u16| SocketAddr::new(format!("10.1.{n}.2").parse().unwrap(), port);
        let peers: Vec<SocketAddr> = (1..=size).map(|n| at(n, 9_901)).collect();
        let start = |n: usize| {
            // A test that failed may have left its host as it was then.
            let repair = format!(
                "tc qdisc del dev path{n} root 2>/dev/null; ip link set path{n} up; ip route replace default via 10.1.{n}.1"
            );
            let repaired =
                Command::new("ip").args(["netns", "exec", &format!("r{n}"), "sh", "-c", &repair]).status();
            assert!(repaired.is_ok_and(|status| status.success()));
            let admin = folder.path().join(format!("{n}.sock"));
            Daemon::start(Some(&format!("r{n}")), at(n, 3_863), at(n, 9_901), &peers, admin)
        };
        let daemons = (1..=size).map(start).collect();
        Cluster { daemons, _folder: folder }.known()
    }

    /// Waits until all know each other.
    fn known(self) -> Cluster {
        let size = self.daemons.len();
        let cluster = self;
        cluster.eventually("all know each other", || {
            cluster.daemons.iter().all(|daemon| {
                let known = daemon.registrars();
                let others = known["registrars"].as_array().expect("a list");
                let alive = others.iter().filter(|peer| peer["state"] == "alive" && peer["ours"] == true);
                known["standing"] == "serving" && alive.count() == size - 1
            })
        });
        cluster
    }

    fn asap(&self) -> Vec<SocketAddr> {
        self.daemons.iter().map(|daemon| daemon.asap).collect()
    }

    fn kill(&mut self, n: usize) {
        self.daemons[n].child.kill().unwrap();
        self.daemons[n].child.wait().unwrap();
    }

    fn restart(&mut self, n: usize) {
        let peers: Vec<SocketAddr> = self.daemons.iter().map(|daemon| daemon.enrp).collect();
        let old = &self.daemons[n];
        self.daemons[n] = Daemon::start(old.host.as_deref(), old.asap, old.enrp, &peers, old.admin.clone());
    }

    fn eventually(&self, what: &str, mut condition: impl FnMut() -> bool) {
        let limit = Instant::now() + PATIENCE;
        while !condition() {
            if Instant::now() > limit {
                let shown: Vec<Value> = self.daemons.iter().map(Daemon::status).collect();
                panic!("not within {PATIENCE:?}: {what}; {shown:?}");
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// How many times as long as promised things may take.
    fn slack(&self) -> u32 {
        if self.daemons[0].host.is_some() { LAB } else { HERE }
    }

    /// All registrars have the same elements with the same homes, all of them alive.
    fn agrees(&self, elements: usize) -> bool {
        let first = self.daemons[0].homes();
        let ids: Vec<String> = self.daemons.iter().map(Daemon::id).collect();
        first.len() == elements
            && first.values().all(|home| ids.contains(home))
            && self.daemons[1..].iter().all(|daemon| daemon.homes() == first)
    }

    /// The registrar with the most elements.
    fn busiest(&self) -> usize {
        let homes = self.daemons[0].homes();
        let owned = |daemon: &Daemon| {
            let id = daemon.id();
            homes.values().filter(|home| **home == id).count()
        };
        (0..self.daemons.len()).max_by_key(|n| owned(&self.daemons[*n])).expect("a registrar")
    }
}

/// Elements in one pool, on a number of endpoints with a thread each.
struct Elements {
    endpoints: Vec<(Remote<Endpoint>, Option<Thread>)>,
}

const POOL: &[u8] = b"ClusterPool";

fn pool() -> PoolHandle {
    PoolHandle::new(POOL).unwrap()
}

impl Elements {
    /// `each` elements on each endpoint. Every other endpoint knows one registrar only: when that dies its elements are
    /// adopted, or they are lost. The others may find a new one by themselves.
    fn start(endpoints: usize, each: usize, registrars: &[SocketAddr]) -> Elements {
        let start = |n: usize| {
            let mut known = registrars.to_vec();
            known.rotate_left(n % registrars.len());
            if (n / registrars.len()).is_multiple_of(2) {
                known.truncate(1);
            }
            let destination = |at: &SocketAddr| Destination {
                kind: LinkKind::Tcp,
                protocol: Protocol::Asap,
                port: at.port(),
                addresses: at.ip().into(),
            };
            let mut endpoint =
                Endpoint::new(EndpointConfig::new(Profile::Lan), Limits::default(), n as u64 + 1);
            endpoint.set_registrars(runtime::now(), known.iter().map(destination).collect());
            let here = match registrars[0].ip().is_loopback() {
                true => local(),
                false => Ipv4Addr::UNSPECIFIED.into(),
            };
            let listeners = vec![(LinkKind::Tcp, Protocol::Asap, SocketAddr::new(here, 0))];
            let config = DriverConfig { listeners, ..DriverConfig::default() };
            let mut driver = Driver::new(endpoint, Box::new(PollPoller::default()), config).unwrap();
            let transport = move |port| TransportAddress::Tcp {
                port,
                transport_use: TransportUse::DataOnly,
                address: here,
            };
            let listener = transport(driver.local_addresses()[0].port());
            driver.machine().set_listener(Some(listener));
            let remote = driver.remote();
            let thread = driver::spawn(driver, "elements", |_, _, _| ()).unwrap();
            remote.call(Box::new(move |endpoint, now| {
                for m in 0..each {
                    let number = u32::try_from(n * each + m + 1).unwrap();
                    let offer = Offer {
                        handle: pool(),
                        id: PeId(number),
                        life: RegistrationLife::Seconds(300),
                        renewal: None,
                        user_transport: transport(1 + u16::try_from(number % 60_000).unwrap()),
                        policy: Policy::new(PolicyType::RoundRobin, &[]),
                        capabilities: Capabilities::default(),
                    };
                    endpoint.register(now, offer, now + PATIENCE);
                }
            }));
            (remote, Some(thread))
        };
        Elements { endpoints: (0..endpoints).map(start).collect() }
    }
}

impl Drop for Elements {
    fn drop(&mut self) {
        for (remote, thread) in &mut self.endpoints {
            remote.stop();
            if let Some(thread) = thread.take() {
                let _ = thread.join();
            }
        }
    }
}

/// Users that resolve the pool again and again.
struct Users {
    stop: Arc<AtomicBool>,
    /// When each answer came, and how long there had been none.
    seen: Arc<Mutex<Vec<(Instant, Duration)>>>,
    threads: Vec<JoinHandle<()>>,
}

impl Users {
    fn start(users: usize, registrars: &[SocketAddr]) -> Users {
        let (stop, seen) = (Arc::new(AtomicBool::new(false)), Arc::new(Mutex::new(Vec::new())));
        let start = |n: usize| {
            let mut known: Vec<Vec<SocketAddr>> = registrars.iter().map(|at| vec![*at]).collect();
            known.rotate_left(n % registrars.len());
            let options = Options { registrars: known, no_announcements: true, ..Options::default() };
            let context = Context::start(&options).unwrap();
            let (stop, seen) = (Arc::clone(&stop), Arc::clone(&seen));
            std::thread::spawn(move || {
                let mut waiting: Option<Instant> = None;
                while !stop.load(Ordering::Relaxed) {
                    let asked = *waiting.get_or_insert_with(Instant::now);
                    let answer =
                        context.resolve(&pool(), Some(8), Duration::ZERO, Wait::For(Duration::from_secs(10)));
                    if answer.is_ok_and(|elements| !elements.is_empty()) {
                        seen.lock().unwrap().push((Instant::now(), asked.elapsed()));
                        waiting = None;
                    }
                    std::thread::sleep(Duration::from_millis(5));
                }
            })
        };
        let threads = (0..users).map(start).collect();
        Users { stop, seen, threads }
    }

    /// What was waited for the answers since the last call.
    fn waits(&self) -> Vec<Duration> {
        std::mem::take(&mut *self.seen.lock().unwrap()).into_iter().map(|(_, wait)| wait).collect()
    }
}

impl Drop for Users {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
    }
}

/// What an observer sees of the pool: how many elements were missing at most, and how long.
struct Watch<'a> {
    observer: &'a Daemon,
    elements: usize,
    since: Option<Instant>,
    most: usize,
    longest: Duration,
}

impl<'a> Watch<'a> {
    fn new(observer: &'a Daemon, elements: usize) -> Watch<'a> {
        Watch { observer, elements, since: None, most: 0, longest: Duration::ZERO }
    }

    fn homes(&mut self) -> BTreeMap<String, String> {
        let homes = self.observer.homes();
        let missing = self.elements.saturating_sub(homes.len());
        if missing == 0 {
            self.since = None;
        } else {
            let since = *self.since.get_or_insert_with(Instant::now);
            self.most = self.most.max(missing);
            self.longest = self.longest.max(since.elapsed());
        }
        homes
    }

    /// On a clean network an element is never taken for dead. On a bad one it may be, and comes back when it is told so.
    fn holds(&self) {
        let clean = self.observer.host.is_none();
        if self.most > 0 {
            println!("        {} elements were missing, for {:.0} ms", self.most, millis(self.longest));
        }
        assert!(self.most == 0 || !clean && self.longest < LAB * OUTAGE, "{} elements were lost", self.most);
    }
}

/// Waits until no element has its home at `dead` any more; how long each took.
fn adopted(watch: &mut Watch<'_>, dead: &str, begun: Instant) -> Vec<Duration> {
    let mut left: BTreeMap<String, Option<Duration>> = BTreeMap::new();
    let limit = begun + PATIENCE;
    loop {
        let homes = watch.homes();
        let at = begun.elapsed();
        for (element, home) in homes {
            let orphan = home == dead;
            let known = left.entry(element).or_insert(if orphan { None } else { Some(Duration::MAX) });
            if !orphan && known.is_none() {
                *known = Some(at);
            }
        }
        if left.values().all(Option::is_some) {
            return left.into_values().flatten().filter(|time| *time != Duration::MAX).collect();
        }
        let orphans = left.values().filter(|time| time.is_none()).count();
        assert!(Instant::now() < limit, "{orphans} elements have not got another home");
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// Kills the home of most elements, again and again.
fn kills(mut cluster: Cluster, endpoints: usize, each: usize, rounds: usize) {
    let (registrars, elements) = (cluster.daemons.len(), endpoints * each);
    let _elements = Elements::start(endpoints, each, &cluster.asap());
    cluster.eventually("all registrars know all elements", || cluster.agrees(elements));
    let users = Users::start(3, &cluster.asap());
    let (mut all, mut worst) = (Vec::new(), Vec::new());
    for round in 1..=rounds {
        cluster.eventually("users are answered", || !users.waits().is_empty());
        let victim = cluster.busiest();
        let dead = cluster.daemons[victim].id();
        let begun = Instant::now();
        cluster.kill(victim);
        let mut watch = Watch::new(&cluster.daemons[(victim + 1) % registrars], elements);
        let mut times = adopted(&mut watch, &dead, begun);
        let slowest = times.iter().max().copied().unwrap_or_default();
        // Those who had to wait have been answered by then, or are still waiting: they are seen in the next look.
        std::thread::sleep(OUTAGE);
        let mut waits = users.waits();
        let wait = waits.iter().max().copied().unwrap_or_default();
        println!(
            "kill {round}: {} elements of {elements} adopted, the last after {:.0} ms (p99 {:.0} ms); users: {} answers, longest wait {:.0} ms (p99 {:.1} ms)",
            times.len(),
            millis(slowest),
            millis(percentile(&mut times, 99)),
            waits.len(),
            millis(wait),
            millis(percentile(&mut waits, 99)),
        );
        watch.holds();
        if !times.is_empty() {
            let last = watch.observer.registrars()["last_takeover"].clone();
            assert_eq!(last["target"], dead, "{last}");
        }
        all.extend(times);
        worst.push(wait);
        cluster.restart(victim);
        let back = Instant::now();
        cluster.eventually("all agree again", || cluster.agrees(elements));
        println!("        started again, all agree after {:.0} ms", millis(back.elapsed()));
        worst.extend(users.waits());
    }
    let (slowest, wait) = (all.iter().max().copied(), worst.iter().max().copied());
    let (slowest, wait) = (slowest.unwrap_or_default(), wait.unwrap_or_default());
    println!(
        "{registrars} registrars, {elements} elements, {rounds} kills: adopted p50 {:.0} ms, p99 {:.0} ms, at most {:.0} ms (promised: {} ms); longest wait of a user {:.0} ms (promised: {} ms)",
        millis(percentile(&mut all, 50)),
        millis(percentile(&mut all, 99)),
        millis(slowest),
        ADOPTION.as_millis(),
        millis(wait),
        OUTAGE.as_millis(),
    );
    assert!(!all.is_empty());
    let slack = cluster.slack();
    assert!(slowest < slack * ADOPTION, "adopted after {slowest:?}");
    assert!(wait < slack * OUTAGE, "a user waited {wait:?}");
}

/// Makes the home of most elements silent for a while.
fn silence(
    cluster: &Cluster,
    endpoints: usize,
    each: usize,
    length: Duration,
    what: &str,
    silent: impl Fn(&Daemon, bool),
) {
    let (registrars, elements) = (cluster.daemons.len(), endpoints * each);
    let _elements = Elements::start(endpoints, each, &cluster.asap());
    cluster.eventually("all registrars know all elements", || cluster.agrees(elements));
    let users = Users::start(3, &cluster.asap());
    cluster.eventually("users are answered", || !users.waits().is_empty());
    let victim = cluster.busiest();
    let paused = cluster.daemons[victim].id();
    let begun = Instant::now();
    silent(&cluster.daemons[victim], true);
    let mut watch = Watch::new(&cluster.daemons[(victim + 1) % registrars], elements);
    let mut times = adopted(&mut watch, &paused, begun);
    let slowest = times.iter().max().copied().unwrap_or_default();
    while begun.elapsed() < length {
        watch.homes();
        std::thread::sleep(Duration::from_millis(100));
    }
    let mut waits = users.waits();
    let longest = waits.iter().max().copied().unwrap_or_default();
    println!(
        "{what} for {:?}: {} elements of {elements} adopted, the last after {:.0} ms (p99 {:.0} ms; promised: {} ms); users: longest wait {:.0} ms (p99 {:.1} ms)",
        length,
        times.len(),
        millis(slowest),
        millis(percentile(&mut times, 99)),
        ADOPTION.as_millis(),
        millis(longest),
        millis(percentile(&mut waits, 99)),
    );
    silent(&cluster.daemons[victim], false);
    let back = Instant::now();
    cluster.eventually("all agree again", || {
        watch.homes();
        cluster.agrees(elements)
    });
    // It stays so.
    let agreed = back.elapsed();
    while back.elapsed() < agreed + Duration::from_secs(3) {
        watch.homes();
        std::thread::sleep(Duration::from_millis(50));
    }
    cluster.eventually("all agree still", || cluster.agrees(elements));
    let wait = users.waits().into_iter().max().unwrap_or_default();
    println!(
        "{what} is over: all agree after {:.0} ms; users: longest wait {:.0} ms",
        millis(agreed),
        millis(wait)
    );
    watch.holds();
    let slack = cluster.slack();
    assert!(slowest < slack * ADOPTION, "adopted after {slowest:?}");
    assert!(longest.max(wait) < slack * OUTAGE, "a user waited {:?}", longest.max(wait));
}

/// As a machine that was suspended, or is overloaded.
fn stopped(daemon: &Daemon, on: bool) {
    daemon.signal(if on { "-STOP" } else { "-CONT" });
}

/// Runs a command, which has to succeed, on the host of a registrar.
fn on(daemon: &Daemon, command: &str) {
    let host = daemon.host.as_deref().expect("a host of the lab");
    let status = Command::new("ip").args(["netns", "exec", host]).args(command.split(' ')).status().unwrap();
    assert!(status.success(), "{host}: {command}");
}

/// Cut off from everybody, without a word.
fn cut(daemon: &Daemon, on_or_off: bool) {
    let n = daemon.host.as_deref().and_then(|host| host.strip_prefix('r')).expect("a host of the lab");
    on(daemon, &format!("ip link set path{n} {}", if on_or_off { "down" } else { "up" }));
    if !on_or_off {
        on(daemon, &format!("ip route replace default via 10.1.{n}.1"));
    }
}

/// How many elements the guest of the lab has time for, on so many endpoints.
const CROWD: (usize, usize) = (50, 20);

#[test]
#[ignore = "for the lab: tests/lab/run registrars"]
fn lab_kills() {
    kills(Cluster::in_lab(3), CROWD.0, CROWD.1, 5);
}

#[test]
#[ignore = "for the lab: tests/lab/run registrars"]
fn lab_stops() {
    silence(&Cluster::in_lab(3), CROWD.0, CROWD.1, Duration::from_secs(10), "SIGSTOP", stopped);
}

#[test]
#[ignore = "for the lab: tests/lab/run registrars"]
fn lab_cuts() {
    silence(&Cluster::in_lab(3), CROWD.0, CROWD.1, Duration::from_secs(10), "link down", cut);
}

#[test]
#[ignore = "for the lab: tests/lab/run registrars"]
fn lab_bad_links() {
    let cluster = Cluster::in_lab(3);
    for (n, daemon) in cluster.daemons.iter().enumerate() {
        on(daemon, &format!("tc qdisc add dev path{} root netem delay 20ms 5ms loss 2%", n + 1));
    }
    kills(cluster, CROWD.0, CROWD.1, 3);
}

#[test]
fn registrars_are_seen_to_agree() {
    let cluster = Cluster::start(2);
    let _elements = Elements::start(2, 3, &cluster.asap());
    cluster.eventually("both have all elements", || cluster.agrees(6));
    for (daemon, other) in [(0, 1), (1, 0)].map(|(a, b)| (&cluster.daemons[a], &cluster.daemons[b])) {
        cluster.eventually("they agree on each other's elements", || {
            let known = daemon.registrars();
            let (peer, own) = (&known["registrars"][0], other.registrars());
            (known["id"].as_str(), peer["id"].as_str()) == (Some(&daemon.id()), Some(&other.id()))
                && known["standing"] == "serving"
                && peer["address"] == format!("tcp {}", other.enrp)
                && (&peer["elements"], &peer["checksum"]) == (&own["elements"], &own["checksum"])
                && peer["elements"] == 3
                && peer["checksum_agrees"] == true
                && peer["digest_agrees"] == true
        });
    }
}

#[test]
fn a_killed_registrar_is_not_missed() {
    kills(Cluster::start(3), 6, 10, 2);
}

#[test]
#[ignore = "takes long: make registrars"]
fn of_three_registrars_ten_are_killed() {
    kills(Cluster::start(3), 48, 21, 10);
}

#[test]
#[ignore = "takes long: make registrars"]
fn of_two_registrars_ten_are_killed() {
    kills(Cluster::start(2), 48, 21, 10);
}

#[test]
#[ignore = "takes long: make registrars"]
fn a_registrar_that_was_stopped_for_20_seconds_does_no_harm() {
    silence(&Cluster::start(3), 48, 21, Duration::from_secs(20), "SIGSTOP", stopped);
}

#[test]
#[ignore = "takes long: make registrars"]
fn of_two_registrars_one_is_stopped_for_20_seconds() {
    silence(&Cluster::start(2), 48, 21, Duration::from_secs(20), "SIGSTOP", stopped);
}

/// Registers so many elements over one link, which acknowledges keep-alives from then on.
fn fill(at: SocketAddr, elements: u32) -> TcpStream {
    let stream = TcpStream::connect(at).unwrap();
    let mut writer = stream.try_clone().unwrap();
    let handle = |n: u32| PoolHandle::new(format!("Pool{}", n / 1_000).as_bytes()).unwrap();
    let keep = stream.try_clone().unwrap();
    let (told, answers) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        let mut stream = stream;
        let (mut splitter, mut buffer) = (MessageSplitter::default(), vec![0; 65_536]);
        while let Ok(len @ 1..) = stream.read(&mut buffer) {
            splitter.push(&buffer[..len]);
            while let Ok(Some(message)) = splitter.next_message() {
                match AsapMessage::decode(message, Dialect::Rfc).map(|decoded| decoded.message) {
                    Ok(AsapMessage::KeepAlive(keep_alive)) => {
                        let Some(element) = keep_alive.element else { continue };
                        let ack = AsapMessage::KeepAliveAck { handle: keep_alive.handle, element };
                        if stream.write_all(&ack.encode(Dialect::Rfc).unwrap()).is_err() {
                            return;
                        }
                    }
                    Ok(AsapMessage::RegistrationResponse { reject, .. }) => {
                        assert!(!reject);
                        let _ = told.send(());
                    }
                    Ok(_) | Err(_) => {}
                }
            }
        }
    });
    let mut answered = 0;
    for n in 0..elements {
        let element = PoolElement {
            id: PeId(n + 1),
            home: None,
            life: RegistrationLife::Seconds(3_600),
            user_transport: TransportAddress::Tcp {
                port: 1 + (n % 60_000) as u16,
                transport_use: TransportUse::DataOnly,
                address: local(),
            },
            policy: Policy::new(PolicyType::RoundRobin, &[]),
            asap_transport: None,
            capabilities: Some(Capabilities::default()),
        };
        let registration = AsapMessage::Registration(Registration { handle: handle(n), element });
        writer.write_all(&registration.encode(Dialect::Rfc).unwrap()).unwrap();
        // Not more at once than the registrar holds for a slow reader.
        if n % 1_000 == 999 {
            while answered < n - 999 {
                answers.recv_timeout(PATIENCE).expect("an answer");
                answered += 1;
            }
        }
    }
    while answered < elements {
        answers.recv_timeout(PATIENCE).expect("an answer");
        answered += 1;
    }
    keep
}

#[test]
#[ignore = "takes long: make registrars"]
fn a_table_of_100000_elements_is_downloaded_while_the_mentor_answers() {
    const ELEMENTS: u32 = 100_000;
    let mut cluster = Cluster::start(1);
    let mentor = cluster.daemons[0].asap;
    let _link = fill(mentor, ELEMENTS);
    let context = Context::start(&Options {
        registrars: vec![vec![mentor]],
        no_announcements: true,
        ..Options::default()
    })
    .unwrap();
    let resolve = |times: &mut Vec<Duration>| {
        let handle = PoolHandle::new(format!("Pool{}", times.len() % 100).as_bytes()).unwrap();
        let begun = Instant::now();
        let found = context.resolve(&handle, Some(8), Duration::ZERO, Wait::For(PATIENCE)).unwrap();
        assert_eq!(found.len(), 8);
        times.push(begun.elapsed());
        std::thread::sleep(Duration::from_millis(2));
    };
    let (mut idle, mut busy) = (Vec::new(), Vec::new());
    let begun = Instant::now();
    while begun.elapsed() < Duration::from_secs(3) {
        resolve(&mut idle);
    }
    let begun = Instant::now();
    let (any, peers) = (SocketAddr::new(local(), 0), [cluster.daemons[0].enrp]);
    let admin = cluster._folder.path().join("new.sock");
    let (told, starting) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        let daemon = Daemon::start(None, any, any, &peers, admin);
        let limit = Instant::now() + PATIENCE;
        while daemon.status()["elements"] != json!(ELEMENTS) && Instant::now() < limit {
            std::thread::sleep(Duration::from_millis(20));
        }
        let _ = told.send((daemon, Instant::now()));
    });
    let (daemon, done) = loop {
        resolve(&mut busy);
        match starting.try_recv() {
            Ok(result) => break result,
            Err(std::sync::mpsc::TryRecvError::Empty) => {}
            Err(std::sync::mpsc::TryRecvError::Disconnected) => panic!("the new registrar does not start"),
        }
    };
    assert_eq!(daemon.status()["elements"], json!(ELEMENTS));
    cluster.daemons.push(daemon);
    println!(
        "{ELEMENTS} elements downloaded in {:.2} s; resolutions at the mentor: idle p50 {:.2} ms, p99 {:.2} ms, at most {:.2} ms ({}); meanwhile p50 {:.2} ms, p99 {:.2} ms, at most {:.2} ms ({})",
        (done - begun).as_secs_f64(),
        millis(percentile(&mut idle, 50)),
        millis(percentile(&mut idle, 99)),
        millis(percentile(&mut idle, 100)),
        idle.len(),
        millis(percentile(&mut busy, 50)),
        millis(percentile(&mut busy, 99)),
        millis(percentile(&mut busy, 100)),
        busy.len(),
    );
    assert!(percentile(&mut busy, 100) < HERE * OUTAGE);
}
