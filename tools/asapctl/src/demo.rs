//! The demonstration: a registrar, a pool of C servers, one C client that asks numbered requests without pause. The server
//! it is at is killed, again and again, and each time the session goes on at another one.

use asap::runtime::listener::has_sctp;
use clap::Args;
use std::io::{BufRead, BufReader};
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
}

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
    let me = std::env::current_exe().map_err(|error| format!("where am I? {error}"))?;
    let options = ["--asap", "127.0.0.1:0", "--enrp", "127.0.0.1:0", "--announce", "off", "--admin", "off"];
    let (_registrar, number) = stage.start(&me.with_file_name("asap-registrar"), &options)?;
    // It says where it listens over which transport: SCTP only where the kernel has it.
    let (words, at) = stage.expect(number, &format!("asap {} ", stage.transport))?;
    stage.registrar = words.first().cloned().ok_or("a registrar without address")?;
    stage.expect(number, "ready")?;
    let why = match stage.transport {
        "sctp" => "over SCTP, which this kernel has",
        _ => "over TCP: this kernel has no SCTP",
    };
    stage.tell(at, &format!("registrar at {}, all of it {why}", stage.registrar));

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

    let mut gaps = Vec::new();
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
    gaps.sort_by(f64::total_cmp);
    println!(
        "\n{} requests, {} answered, {} lost, {} wrong; {} failovers, each with the state in the session's cookie.",
        value("requests"),
        value("answered"),
        value("lost"),
        value("wrong"),
        value("failovers"),
    );
    if let (Some(least), Some(most)) = (gaps.first(), gaps.last()) {
        println!(
            "From kill to the next answer: {least:.1} ms at best, {:.1} ms median, {most:.1} ms at worst.",
            gaps[gaps.len() / 2]
        );
    }
    if success { Ok(()) } else { Err("the client found answers lost or wrong".to_string()) }
}
