//! Programs written for RSPLIB: compiled anew, by gcc and clang, as C and C++, with our headers and with RSPLIB's own, so that the two cannot drift; and those of
//! Debian as they are, on librsplib.so.3, with a registrar of ours on loopback. With other registrars, peers and over SCTP: the lab's `interop-dropin` scenarios.

mod library;
mod tools;

use library::root;
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{self, Receiver};
use std::time::{Duration, Instant};
use tools::{have, left_out};

/// Longer than anything takes on a busy machine.
const PATIENCE: Duration = Duration::from_secs(60);

/// Where librsplib.so.3 is.
fn rsplib() -> PathBuf {
    library::build().join("rsplib")
}

/// Compilers, their packages, and what they are to take the sources for.
const COMPILERS: [(&str, &str, &[&str]); 4] = [
    ("gcc", "gcc", &["-std=c11"]),
    ("clang", "clang", &["-std=c11"]),
    ("g++", "g++", &["-x", "c++", "-std=c++17"]),
    ("clang++", "clang", &["-x", "c++", "-std=c++17"]),
];

const SANITIZERS: [&str; 2] = ["-fsanitize=address,undefined", "-fno-sanitize-recover=all"];

/// Compiles a program of tests/c without a word; with no library it is only looked at.
fn compile(compiler: &str, flags: &[&str], name: &str, linked: Option<(&Path, &str)>) {
    let mut command = Command::new(compiler);
    command.args(["-Wall", "-Wextra", "-Werror", "-pedantic", "-g"]).args(flags);
    command.arg(root().join("tests/c").join(name).with_extension("c")).args(["-x", "none"]);
    match linked {
        Some((program, library)) => {
            command.arg("-o").arg(program).arg("-L").arg(library::build()).arg(library);
        }
        None => {
            command.arg("-fsyntax-only");
        }
    }
    let output = command.output().expect("just seen to run");
    let complaint = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{compiler} {flags:?} {name}:\n{complaint}");
}

/// Runs a program to its end, which is to be good; what it said.
fn run(program: &Path, arguments: &[&str]) -> String {
    let libraries = format!("{}:{}", library::build().display(), rsplib().display());
    let output =
        Command::new(program).args(arguments).env("LD_LIBRARY_PATH", libraries).output().expect("it runs");
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(
        output.status.success(),
        "{}: {}\n{said}{}",
        program.display(),
        output.status,
        String::from_utf8_lossy(&output.stderr)
    );
    said
}

#[test]
fn a_program_written_for_rsplib_compiles_with_its_headers_and_ours_and_runs_on_both_libraries() {
    let scratch = tempfile::tempdir().expect("a temporary directory");
    let include = format!("-I{}", root().join("include").display());
    rsplib();
    for (compiler, package, flags) in COMPILERS {
        if !have(compiler, package) {
            continue;
        }
        if !left_out("librsplib-dev") {
            let theirs = Path::new("/usr/include/rserpool/rserpool.h");
            assert!(theirs.exists(), "{} is not here: apt-get install librsplib-dev", theirs.display());
            compile(compiler, flags, "written_for_rsplib", None);
        }
        for library in ["-lasap", "-lrsplib"] {
            for sanitizers in [&[][..], &SANITIZERS] {
                // What runs is the same in C++.
                if !sanitizers.is_empty() && (left_out("sanitizers") || flags.contains(&"c++")) {
                    continue;
                }
                let flags = [flags, sanitizers, &[&include]].concat();
                let program = scratch.path().join("program");
                compile(compiler, &flags, "written_for_rsplib", Some((&program, library)));
                let said = run(&program, &["-registrarrequesttimeout=1000", "-logquiet", "-bar"]);
                let (tuned, logged) = if library == "-lasap" { (1, 0) } else { (0, 1) };
                let wanted = format!("{tuned} -registrarrequesttimeout=1000\n{logged} -logquiet\n0 -bar\n");
                assert_eq!(said, wanted, "{library}");
            }
        }
    }
}

#[test]
fn both_libraries_in_one_process_keep_to_their_own_ways() {
    if !have("gcc", "gcc") {
        return;
    }
    let scratch = tempfile::tempdir().expect("a temporary directory");
    let program = scratch.path().join("program");
    compile("gcc", &["-std=c11"], "both_libraries", Some((&program, "-ldl")));
    rsplib();
    for order in [["libasap.so.0", "librsplib.so.3"], ["librsplib.so.3", "libasap.so.0"]] {
        run(&program, &order);
    }
}

/// A running program; killed when dropped. What it says on either stream is one list of lines.
struct Program {
    name: String,
    child: Child,
    lines: Receiver<String>,
    said: Vec<String>,
}

impl Program {
    fn start(mut command: Command) -> Program {
        let name = format!("{command:?}");
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap_or_else(|error| panic!("{name} cannot be run: {error}"));
        let (said, lines) = mpsc::channel();
        let (out, err) = (child.stdout.take().expect("piped"), child.stderr.take().expect("piped"));
        let forward = |stream: Box<dyn std::io::Read + Send>| {
            let said = said.clone();
            std::thread::spawn(move || {
                for line in BufReader::new(stream).split(b'\n').map_while(Result::ok) {
                    if said.send(String::from_utf8_lossy(&line).into_owned()).is_err() {
                        break;
                    }
                }
            });
        };
        forward(Box::new(out));
        forward(Box::new(err));
        Program { name, child, lines, said: Vec::new() }
    }

    /// A program of RSPLIB's, on our library.
    fn theirs(program: &str, registrar: &str, arguments: &[&str]) -> Program {
        // Its output is a pipe, and it is to be seen at once.
        let mut command = Command::new("stdbuf");
        command.args(["-o0", program]).args(arguments).arg("-asapannounce=off");
        if !registrar.is_empty() {
            command.arg(format!("-registrar={registrar}"));
        }
        // Some leave files where they are.
        command.env("LD_LIBRARY_PATH", rsplib()).current_dir(env!("CARGO_TARGET_TMPDIR"));
        Program::start(command)
    }

    /// The line that holds this, when it has come.
    fn expect(&mut self, part: &str) -> String {
        let until = Instant::now() + PATIENCE;
        loop {
            let left = until.saturating_duration_since(Instant::now());
            match self.lines.recv_timeout(left) {
                Ok(line) => {
                    self.said.push(line.clone());
                    if line.contains(part) {
                        return line;
                    }
                }
                Err(_) => panic!("{} has not said \"{part}\" but {:#?}", self.name, self.said),
            }
        }
    }

    fn say(&mut self, line: &str) {
        let input = self.child.stdin.as_mut().expect("piped");
        writeln!(input, "{line}").expect("it listens");
    }

    /// Ends it as a user would, which is a good end.
    fn interrupted(&mut self) {
        let pid = self.child.id().to_string();
        let until = Instant::now() + PATIENCE;
        while !self.catches(libc::SIGINT) {
            assert!(Instant::now() < until, "{} does not wait for an interrupt", self.name);
            std::thread::sleep(Duration::from_millis(20));
        }
        assert!(Command::new("kill").args(["-INT", &pid]).status().expect("kill runs").success());
        let status = self.ended();
        assert!(status.success(), "{}: {status}: {:#?}", self.name, self.said);
    }

    /// Whether it has a handler for a signal: they have none when they begin.
    fn catches(&self, signal: i32) -> bool {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id())).unwrap_or_default();
        let caught = status.lines().find_map(|line| line.strip_prefix("SigCgt:")).map(str::trim);
        caught
            .and_then(|mask| u64::from_str_radix(mask, 16).ok())
            .is_some_and(|mask| mask >> (signal - 1) & 1 == 1)
    }

    fn ended(&mut self) -> ExitStatus {
        drop(self.child.stdin.take());
        let until = Instant::now() + PATIENCE;
        while Instant::now() < until {
            match self.lines.recv_timeout(Duration::from_secs(1)) {
                Ok(line) => self.said.push(line),
                Err(mpsc::RecvTimeoutError::Timeout) => {}
                Err(mpsc::RecvTimeoutError::Disconnected) => return self.child.wait().expect("it has ended"),
            }
        }
        panic!("{} does not end: {:#?}", self.name, self.said)
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A registrar of ours, and its address.
fn registrar(at: &str) -> (Program, String) {
    let path: PathBuf = library::build().join("asap-registrar");
    let mut command = Command::new(path);
    command.args(["--asap", at, "--enrp", "127.0.0.1:0", "--announce", "off", "--admin", "off"]);
    let mut registrar = Program::start(command);
    let line = registrar.expect("asap tcp ");
    registrar.expect("ready");
    (registrar, line.rsplit(' ').next().expect("an address").to_string())
}

/// Whether RSPLIB's programs are here.
fn programs() -> bool {
    if left_out("rspserver") {
        return false;
    }
    for program in ["rspserver", "rspterminal", "pingpongclient"] {
        let path = Path::new("/usr/bin").join(program);
        assert!(
            path.exists(),
            "{} is not here: apt-get install rsplib-services rsplib-tools",
            path.display()
        );
    }
    true
}

fn server(registrar: &str, arguments: &[&str]) -> (Program, String) {
    let mut server = Program::theirs("rspserver", registrar, arguments);
    let line = server.expect("Identifier  ");
    let id = line.split("$").nth(1).unwrap_or(&line).split_whitespace().next().unwrap_or("").to_string();
    (server, id)
}

#[test]
fn a_terminal_that_is_there_first_gets_to_echo_servers_and_moves_on_when_one_is_killed() {
    if !programs() {
        return;
    }
    // Nobody listens there yet, and nobody else is given this port.
    let kept = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
    kept.set_reuse_address(true).unwrap();
    kept.bind(&"127.0.0.1:0".parse::<std::net::SocketAddr>().unwrap().into()).unwrap();
    let at = kept.local_addr().unwrap().as_socket().expect("an address of IPv4").to_string();
    let mut terminal = Program::theirs("rspterminal", &at, &[]);
    terminal.expect("Pool Handle = EchoPool");
    let (_registrar, at) = registrar(&at);
    terminal.expect("state=RSERPOOL_FAILOVER_NECESSARY");
    let (first, id) = server(&at, &["-echo"]);
    terminal.expect("state=RSERPOOL_FAILOVER_COMPLETE");
    terminal.say("one");
    terminal.expect(&format!("from PE ${id}> one"));
    let (mut second, other) = server(&at, &["-echo", "-identifier=0xe000002"]);
    assert_eq!(other, "0e000002");
    terminal.say("two");
    terminal.expect(&format!("from PE ${id}> two"));
    drop(first);
    terminal.expect("state=RSERPOOL_FAILOVER_NECESSARY");
    terminal.expect("state=RSERPOOL_FAILOVER_COMPLETE");
    second.expect("state=RSERPOOL_SESSION_ADD");
    terminal.say("three");
    terminal.expect("from PE $0e000002> three");
    terminal.interrupted();
    second.expect("RSERPOOL_SHUTDOWN_EVENT for session 1");
    second.expect("state=RSERPOOL_SESSION_REMOVE");
    second.interrupted();
}

/// The element and the number of the reply in a line of pingpongclient's.
fn reply(client: &mut Program) -> (String, u64) {
    let line = client.expect("(reply #");
    let id = line.split('$').nth(1).and_then(|rest| rest.split_whitespace().next()).expect("an element");
    let number = line.split("(reply #").nth(1).and_then(|rest| rest.split(')').next()).expect("a number");
    (id.to_string(), number.parse().expect("a number"))
}

#[test]
fn replies_are_counted_on_in_the_cookie_when_a_ping_pong_server_is_killed() {
    if !programs() {
        return;
    }
    let (_registrar, at) = registrar("127.0.0.1:0");
    let mut servers: std::collections::BTreeMap<String, Program> =
        (0..2).map(|_| server(&at, &["-pingpong"])).map(|(server, id)| (id, server)).collect();
    let mut client = Program::theirs("pingpongclient", &at, &["-interval=50"]);
    let (first, _) = reply(&mut client);
    let before = loop {
        let (_, number) = reply(&mut client);
        if number >= 10 {
            break number;
        }
    };
    drop(servers.remove(&first).expect("one of ours"));
    let (other, after) = loop {
        let (id, number) = reply(&mut client);
        if id != first {
            break (id, number);
        }
    };
    assert!(servers.contains_key(&other));
    // The last reply may have left before its cookie.
    assert!(after >= before, "{before} {after}");
    client.interrupted();
    for (_, mut server) in servers {
        server.interrupted();
    }
}

#[test]
fn the_servers_that_end_sessions_and_swallow_data_do() {
    if !programs() {
        return;
    }
    let (_registrar, at) = registrar("127.0.0.1:0");
    let (mut daytime, id) = server(&at, &["-daytime"]);
    let mut terminal = Program::theirs("rspterminal", &at, &["-poolhandle=DaytimePool"]);
    // It has ended each session, which is a failure to these programs.
    for _ in 0..3 {
        terminal.expect(&format!("from PE ${id}> "));
        terminal.expect("state=RSERPOOL_FAILOVER_NECESSARY");
    }
    let (mut discard, _) = server(&at, &["-discard"]);
    let mut other = Program::theirs("rspterminal", &at, &["-poolhandle=DiscardPool"]);
    discard.expect("state=RSERPOOL_SESSION_ADD");
    other.say("into the void");
    for program in [&mut terminal, &mut other, &mut daytime, &mut discard] {
        program.interrupted();
    }
}

#[test]
fn programs_that_log_through_libtdloglevel_find_it_set_up_and_foreign_words_are_theirs() {
    if !programs() {
        return;
    }
    for program in ["rspterminal", "pingpongclient", "calcappclient", "scriptingclient"] {
        let mut refused = Program::theirs(program, "", &["-foo"]);
        refused.expect("Bad argument");
        assert_eq!(refused.ended().code(), Some(1), "{:#?}", refused.said);
    }
    let (_registrar, at) = registrar("127.0.0.1:0");
    let folder = tempfile::tempdir().expect("a temporary directory");
    let log = folder.path().join("log");
    // Ours and theirs go to one file.
    let mut server =
        Program::theirs("rspserver", &at, &["-echo", "-loglevel=4", &format!("-logfile={}", log.display())]);
    server.expect("Identifier ");
    server.interrupted();
    let text = std::fs::read_to_string(&log).expect("a log");
    assert!(
        text.contains("Logging started") && text.contains(&format!("using the registrar at {at}")),
        "{text}"
    );
    // Without that library, ours alone.
    let own = folder.path().join("own");
    let mut terminal =
        Program::theirs("rspterminal", &at, &["-loglevel=4", &format!("-logfile={}", own.display())]);
    terminal.expect("state=RSERPOOL_FAILOVER_NECESSARY");
    terminal.interrupted();
    let text = std::fs::read_to_string(&own).expect("a log");
    assert!(text.contains(&format!("using the registrar at {at}")), "{text}");
    assert!(!terminal.said.iter().any(|line| line.contains("using the registrar")), "{:#?}", terminal.said);
}

#[test]
fn jobs_are_calculated() {
    if !programs() {
        return;
    }
    let (_registrar, at) = registrar("127.0.0.1:0");
    let (_calculator, _) = server(&at, &["-calcapp"]);
    let arguments = ["-vector=client.vec", "-scalar=client.sca", "-jobinterval=0.2", "-jobsize=100000"];
    let mut client = Program::theirs("calcappclient", &at, &arguments);
    for _ in 0..3 {
        client.expect(" completed:");
    }
}
