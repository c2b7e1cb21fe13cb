//! `make endurance`: a C client sends numbered requests over a pool of four C servers that are killed and started again at random. The running hash in the
//! cookie shows whether a request was lost, repeated or changed.

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::time::{Duration, Instant};

/// Killed when dropped.
struct Program {
    child: Child,
    lines: Receiver<String>,
}

impl Program {
    fn start(path: &Path, arguments: &[&str], registrar: &str) -> Program {
        let mut child = Command::new(path)
            .args(arguments)
            .env("ASAP_REGISTRARS", registrar)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap_or_else(|error| panic!("{}: {error}; `make examples` builds it", path.display()));
        let (said, lines) = mpsc::channel();
        let output = child.stdout.take().expect("piped");
        std::thread::spawn(move || {
            for line in BufReader::new(output).lines().map_while(Result::ok) {
                if said.send(line).is_err() {
                    break;
                }
            }
        });
        Program { child, lines }
    }

    fn expect(&self, beginning: &str, patience: Duration) -> String {
        let until = Instant::now() + patience;
        loop {
            let line = self
                .lines
                .recv_timeout(until.saturating_duration_since(Instant::now()))
                .unwrap_or_else(|_| panic!("no line «{beginning}» within {patience:?}"));
            if let Some(rest) = line.strip_prefix(beginning) {
                return rest.to_string();
            }
        }
    }

    /// Open descriptors and resident kilobytes; none if it has just ended.
    fn size(&self) -> Option<(usize, u64)> {
        let proc = PathBuf::from(format!("/proc/{}", self.child.id()));
        let descriptors = std::fs::read_dir(proc.join("fd")).ok()?.count();
        let status = std::fs::read_to_string(proc.join("status")).ok()?;
        let resident = status.lines().find_map(|l| l.strip_prefix("VmRSS:"))?;
        Some((descriptors, resident.split_whitespace().next()?.parse().ok()?))
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
#[ignore = "needs the C programs and tools of a release build: make endurance"]
fn a_million_requests_survive_two_hundred_kills() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let (tools, programs) = (root.join("target/release"), root.join("build"));
    let options = ["--asap", "127.0.0.1:0", "--enrp", "127.0.0.1:0", "--announce", "off", "--admin", "off"];
    let registrar = Program::start(&tools.join("asap-registrar"), &options, "");
    let address = registrar.expect("asap tcp ", Duration::from_secs(10)).trim().to_string();
    registrar.expect("ready", Duration::from_secs(10));
    let server = || {
        let server = Program::start(&programs.join("stateful_server"), &[], &address);
        server.expect("element ", Duration::from_secs(10));
        server
    };
    let mut servers: Vec<Program> = (0..4).map(|_| server()).collect();
    let client =
        Program::start(&programs.join("stateful_client"), &["-machine", "-requests=1000000"], &address);
    client.expect("connected ", Duration::from_secs(10));

    let mut seed = 0x5eed_u64;
    let mut below = |bound: u64| {
        seed = seed.wrapping_mul(0x5851_f42d_4c95_7f2d).wrapping_add(0x1405_7b7e_f767_814f);
        (seed >> 33) % bound
    };
    let (mut kills, mut first, mut last) = (0, None, None);
    let summary = loop {
        match client.lines.recv_timeout(Duration::from_millis(5 + below(60))) {
            Ok(line) => match line.strip_prefix("summary ") {
                Some(summary) => break summary.to_string(),
                None => continue,
            },
            Err(RecvTimeoutError::Disconnected) => panic!("the client ended without summary"),
            Err(RecvTimeoutError::Timeout) => {}
        }
        servers.swap_remove(below(4) as usize);
        servers.push(server());
        kills += 1;
        let size = client.size();
        if kills == 20 {
            first = size;
        }
        last = size.or(last);
    };
    println!(
        "{kills} kills; {summary}; registrar {:?}; client {first:?} to {last:?} (descriptors, kB)",
        registrar.size()
    );
    let value = |name: &str| -> u64 {
        let word = summary.split_whitespace().find_map(|word| word.strip_prefix(name)?.strip_prefix('='));
        word.expect(name).parse().expect("a number")
    };
    assert_eq!((value("answered"), value("lost"), value("wrong")), (1_000_000, 0, 0));
    assert!(kills >= 200, "only {kills} kills: the machine is too fast, or the pauses too long");
    assert!(value("resent") >= 50, "only {} kills met a request in flight", value("resent"));
    let (first, last) = (first.expect("20 kills"), last.expect("a kill"));
    assert!(last.0 <= first.0 + 4, "descriptors grew from {} to {}", first.0, last.0);
    assert!(last.1 <= first.1 + first.1 / 4 + 1024, "memory grew from {} to {} kB", first.1, last.1);
}
