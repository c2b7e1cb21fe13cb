//! The demonstration: registrars, a pool of C servers, one C client that asks numbered requests without pause. The server
//! it is at is killed, again and again, and each time the session goes on at another one. With several registrars these are
//! killed in turn, too, and come back.

use asap::runtime::listener::has_sctp;
use asap::socket::{Context, Options, Wait};
use asap::types::PoolHandle;
use clap::Args;
use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{self, Receiver, Sender};
use std::time::{Duration, Instant};

#[derive(Args)]
pub struct Demo {
    /// Where the C programs are (stateful_server, stateful_client).
    #[arg(long, value_name = "DIR", default_value = "build")]
    programs: PathBuf,
    /// How many servers to kill.
    #[arg(long, value_name = "N", default_value_t = 8)]
    failovers: u32,
    /// Time between two kills, in seconds.
    #[arg(long, value_name = "SECONDS", default_value = "0.6", value_parser = crate::seconds)]
    pace: Duration,
    /// How many registrars; with more than one, they are killed as well.
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u8).range(1..=9))]
    registrars: u8,
}

/// The pool of the C programs.
const POOL: &[u8] = b"StatefulPool";
/// How many servers are in the pool.
const SERVERS: usize = 3;
/// Nothing here should take as long as this.
const PATIENCE: Duration = Duration::from_secs(15);

/// A line one of the programs printed.
struct Line {
    from: usize,
    text: String,
    at: Instant,
}

/// A program that is killed when the demonstration ends, however it ends.
struct Program {
    child: Child,
}

impl Drop for Program {
    fn drop(&mut self) {
        // Both fail only if it has ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

struct Server {
    name: char,
    id: String,
    program: Program,
}

/// A registrar, and a user that began with it.
struct Registrar {
    asap: SocketAddr,
    enrp: SocketAddr,
    program: Program,
    user: Option<Context>,
}

struct Stage {
    start: Instant,
    lines: Receiver<Line>,
    said: Sender<Line>,
    programs: usize,
    transport: &'static str,
    registrar: String,
    folder: PathBuf,
    next_name: char,
}

impl Stage {
    fn tell(&self, at: Instant, what: &str) {
        println!("{:7.2} s  {what}", at.duration_since(self.start).as_secs_f64());
    }

    /// Starts a program; its lines come with the number returned.
    fn start(&mut self, path: &Path, arguments: &[&str]) -> Result<(Program, usize), String> {
        let mut child = Command::new(path)
            .args(arguments)
            .env("ASAP_REGISTRARS", &self.registrar)
            .env("ASAP_TRANSPORT", self.transport)
            .env("RUST_LOG", "error")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .map_err(|error| {
                format!("{} does not start: {error} (build it: make examples)", path.display())
            })?;
        let number = self.programs;
        self.programs += 1;
        let (said, output) = (self.said.clone(), child.stdout.take());
        std::thread::spawn(move || {
            for text in output.map(BufReader::new).into_iter().flat_map(BufRead::lines).map_while(Result::ok)
            {
                if said.send(Line { from: number, text, at: Instant::now() }).is_err() {
                    break;
                }
            }
        });
        Ok((Program { child }, number))
    }

    /// The next line of a program that begins so; the words behind it.
    fn expect(&self, from: usize, beginning: &str) -> Result<(Vec<String>, Instant), String> {
        let until = Instant::now() + PATIENCE;
        loop {
            let line = self
                .lines
                .recv_timeout(until.saturating_duration_since(Instant::now()))
                .map_err(|_| format!("no program said «{beginning}» within {} s", PATIENCE.as_secs()))?;
            if let (true, Some(rest)) = (line.from == from, line.text.strip_prefix(beginning)) {
                return Ok((rest.split_whitespace().map(str::to_string).collect(), line.at));
            }
        }
    }

    fn start_server(&mut self) -> Result<Server, String> {
        let (program, number) = self.start(&self.folder.join("stateful_server"), &[])?;
        let (words, at) = self.expect(number, "element ")?;
        let id = words.first().cloned().ok_or("a server without identifier")?;
        let name = self.next_name;
        self.next_name = char::from_u32(u32::from(name) + 1).unwrap_or('A');
        self.tell(at, &format!("server {name} is in the pool (element {id}, pid {})", program.child.id()));
        Ok(Server { name, id, program })
    }
}

impl Stage {
    fn start_registrar(
        &mut self,
        at: Option<(SocketAddr, SocketAddr)>,
        peers: &[SocketAddr],
    ) -> Result<Registrar, String> {
        let me = std::env::current_exe().map_err(|error| format!("where am I? {error}"))?;
        let any = || "127.0.0.1:0".to_owned();
        let (asap, enrp) =
            at.map_or_else(|| (any(), any()), |(asap, enrp)| (asap.to_string(), enrp.to_string()));
        let mut options = vec!["--asap", &asap, "--enrp", &enrp, "--announce", "off", "--admin", "off"];
        let peers: Vec<String> = peers.iter().map(ToString::to_string).collect();
        options.extend(peers.iter().flat_map(|peer| ["--peer", peer]));
        let (program, number) = self.start(&me.with_file_name("asap-registrar"), &options)?;
        let address = |name: &str| -> Result<SocketAddr, String> {
            let (words, _) = self.expect(number, name)?;
            let word = words.first().ok_or("a registrar without address")?;
            word.parse().map_err(|_| format!("a registrar at {word}"))
        };
        let (asap, enrp) = (address("asap tcp ")?, address("enrp tcp ")?);
        self.expect(number, "ready")?;
        Ok(Registrar { asap, enrp, program, user: None })
    }

    /// Kills a registrar and starts it again; how long it took until each of the users had an answer.
    fn kill_registrar(&mut self, registrars: &mut [Registrar], victim: usize) -> Result<Duration, String> {
        let pool = PoolHandle::new(POOL).ok_or("no pool")?;
        let enrp: Vec<SocketAddr> = registrars.iter().map(|registrar| registrar.enrp).collect();
        let killed = Instant::now();
        // As when it is dropped, but its place in the list is kept.
        registrars[victim].program.child.kill().map_err(|error| format!("kill: {error}"))?;
        self.tell(killed, &format!("kill -9 registrar {}", victim + 1));
        let waiting: Vec<_> = registrars
            .iter()
            .filter_map(|registrar| registrar.user.clone())
            .map(|user| {
                let pool = pool.clone();
                std::thread::spawn(move || {
                    loop {
                        let wait = Wait::For(PATIENCE);
                        if user.resolve(&pool, None, Duration::ZERO, wait).is_ok()
                            || killed.elapsed() > PATIENCE
                        {
                            return killed.elapsed();
                        }
                        std::thread::sleep(Duration::from_millis(1));
                    }
                })
            })
            .collect();
        let gaps = waiting.into_iter().map(|thread| thread.join().unwrap_or(PATIENCE));
        let gap = gaps.max().unwrap_or_default();
        self.tell(
            killed + gap,
            &format!(
                "users of all registrars have been answered: {:.1} ms from kill to answer",
                gap.as_secs_f64() * 1e3
            ),
        );
        let old = &registrars[victim];
        let at = (old.asap, old.enrp);
        let new = self.start_registrar(Some(at), &enrp)?;
        registrars[victim].program = new.program;
        Ok(gap)
    }
}

pub fn run(demo: &Demo) -> Result<(), String> {
    let (said, lines) = mpsc::channel();
    let mut stage = Stage {
        start: Instant::now(),
        lines,
        said,
        programs: 0,
        transport: if has_sctp() { "sctp" } else { "tcp" },
        registrar: String::new(),
        folder: demo.programs.clone(),
        next_name: 'A',
    };
    let why = match stage.transport {
        "sctp" => "all of it over SCTP, which this kernel has",
        _ => "all of it over TCP: this kernel has no SCTP",
    };
    let mut registrars: Vec<Registrar> = Vec::new();
    for number in 1..=demo.registrars {
        let peers: Vec<SocketAddr> = registrars.iter().map(|registrar| registrar.enrp).collect();
        let registrar = stage.start_registrar(None, &peers)?;
        stage.tell(Instant::now(), &format!("registrar {number} at {}, {why}", registrar.asap));
        registrars.push(registrar);
    }
    let addresses: Vec<SocketAddr> = registrars.iter().map(|registrar| registrar.asap).collect();
    stage.registrar = addresses.iter().map(ToString::to_string).collect::<Vec<_>>().join(",");
    if registrars.len() > 1 {
        for (n, registrar) in registrars.iter_mut().enumerate() {
            let mut known: Vec<Vec<SocketAddr>> = addresses.iter().map(|address| vec![*address]).collect();
            known.rotate_left(n);
            let options = Options { registrars: known, no_announcements: true, ..Options::default() };
            registrar.user = Some(Context::start(&options).map_err(|error| error.what)?);
        }
    }

    let mut servers = Vec::new();
    for _ in 0..SERVERS {
        servers.push(stage.start_server()?);
    }
    let (mut client, number) =
        stage.start(&stage.folder.join("stateful_client"), &["-machine", "-requests=1000000000"])?;
    let (words, at) = stage.expect(number, "connected ")?;
    let mut current = words.first().cloned().ok_or("a client without server")?;
    let place = |servers: &[Server], id: &str| servers.iter().position(|server| server.id == id);
    let first = place(&servers, &current).ok_or("the client is at an unknown server")?;
    stage.tell(at, &format!("client asks one request after another, at server {}", servers[first].name));

    let (mut gaps, mut registrar_gaps) = (Vec::new(), Vec::new());
    for count in 1..=demo.failovers {
        std::thread::sleep(demo.pace);
        let victim = place(&servers, &current).ok_or("the client is at an unknown server")?;
        let Server { name, id: _, program } = servers.remove(victim);
        let killed = Instant::now();
        drop(program);
        let (words, back) = stage.expect(number, &format!("failover {count} "))?;
        current = words.get(1).cloned().ok_or("a failover to nowhere")?;
        let gap = back.duration_since(killed).as_secs_f64() * 1e3;
        let next = place(&servers, &current).map_or('?', |at| servers[at].name);
        let request = words.get(3).map_or("?", String::as_str);
        stage.tell(killed, &format!("kill -9 server {name}"));
        stage.tell(
            back,
            &format!(
                "client goes on at server {next} with request {request}: {gap:.1} ms from kill to answer"
            ),
        );
        gaps.push(gap);
        servers.push(stage.start_server()?);
        if registrars.len() > 1 {
            std::thread::sleep(demo.pace);
            let victim = registrar_gaps.len() % registrars.len();
            registrar_gaps.push(stage.kill_registrar(&mut registrars, victim)?.as_secs_f64() * 1e3);
        }
    }
    std::thread::sleep(demo.pace);
    // SAFETY: kill has no memory; the child has not been waited for, so the number is still its.
    unsafe { libc::kill(client.child.id() as libc::pid_t, libc::SIGTERM) };
    let (words, at) = stage.expect(number, "summary ")?;
    let success = client.child.wait().is_ok_and(|status| status.success());
    let value = |name: &str| {
        words.iter().find_map(|word| word.strip_prefix(name)?.strip_prefix('=')).unwrap_or("?").to_string()
    };
    stage.tell(at, "client ends");
    println!(
        "\n{} requests, {} answered, {} lost, {} wrong; {} failovers, each with the state in the session's cookie.",
        value("requests"),
        value("answered"),
        value("lost"),
        value("wrong"),
        value("failovers"),
    );
    summarize("From kill to the next answer", gaps);
    summarize("From a registrar's kill to a look-up by every user", registrar_gaps);
    if success { Ok(()) } else { Err("the client found answers lost or wrong".to_string()) }
}

fn summarize(what: &str, mut gaps: Vec<f64>) {
    gaps.sort_by(f64::total_cmp);
    if let (Some(least), Some(most)) = (gaps.first(), gaps.last()) {
        println!(
            "{what}: {least:.1} ms at best, {:.1} ms median, {most:.1} ms at worst.",
            gaps[gaps.len() / 2]
        );
    }
}
