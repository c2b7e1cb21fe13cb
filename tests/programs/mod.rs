//! C programs for tests: compiled by gcc and clang, with and without sanitizers, and run against a registrar of their own.

// Each test uses some of it.
#![allow(dead_code)]

use crate::library::{self, root};
use crate::tools::{have, left_out};
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{self, Receiver};
use std::time::{Duration, Instant};

/// Longer than anything takes on a busy machine.
pub const PATIENCE: Duration = Duration::from_secs(120);

/// Examples for event loops that are not ours: the loop under pkg-config's name, and where Debian has it.
const LOOPS: [(&str, &str, &str); 3] = [
    ("uv_client", "libuv", "libuv1-dev"),
    ("glib_client", "glib-2.0", "libglib2.0-dev"),
    ("event_server", "libevent", "libevent-dev"),
];

/// Whether what a program needs beside the library is to be used.
pub fn can_be_built(program: &str) -> bool {
    LOOPS
        .iter()
        .filter(|(name, ..)| *name == program)
        .all(|(_, library, package)| have_library(library, package))
}

/// Whether the library, under pkg-config's name, is to be used. It has to be there, unless `tests/run` has said that it is to do without.
fn have_library(library: &str, package: &str) -> bool {
    if left_out(library) {
        return false;
    }
    let found = Command::new("pkg-config").args(["--exists", library]).status();
    assert!(found.is_ok_and(|f| f.success()), "{library} is not here: apt-get install pkg-config {package}");
    true
}

/// What the compiler is told of that.
fn flags_of_loop(program: &str) -> Vec<String> {
    let Some((_, library, _)) = LOOPS.iter().find(|(name, ..)| *name == program) else { return Vec::new() };
    let output = Command::new("pkg-config").args(["--cflags", "--libs", library]).output();
    let said = String::from_utf8(output.expect("pkg-config runs").stdout).expect("flags");
    // Their headers may have warnings.
    said.split_whitespace().map(|flag| flag.replacen("-I", "-isystem", 1)).collect()
}

/// How a program is compiled.
#[derive(Clone, Copy)]
pub struct Flavour {
    compiler: &'static str,
    package: &'static str,
    sanitized: bool,
}

impl Flavour {
    /// Sanitizers have no room in a guest's address space.
    pub fn is_here(&self) -> bool {
        have(self.compiler, self.package) && !(self.sanitized && left_out("sanitizers"))
    }
}

pub const GCC: Flavour = Flavour { compiler: "gcc", package: "gcc", sanitized: false };
pub const CLANG: Flavour = Flavour { compiler: "clang", package: "clang", sanitized: false };
pub const FLAVOURS: [Flavour; 4] = [
    GCC,
    CLANG,
    Flavour { sanitized: true, ..GCC },
    Flavour { package: "clang libclang-rt-14-dev", sanitized: true, ..CLANG },
];

/// The programs of one flavour, compiled when first asked for: in a directory of their own, or below ASAP_TEST_PROGRAMS, where
/// they stay for runs in the lab.
pub struct Programs {
    flavour: Flavour,
    pub library: PathBuf,
    directory: PathBuf,
    _temporary: Option<tempfile::TempDir>,
}

impl Programs {
    pub fn new(flavour: Flavour) -> Programs {
        let library = library::build();
        if let Some(kept) = std::env::var_os("ASAP_TEST_PROGRAMS") {
            let sanitized = if flavour.sanitized { "-sanitized" } else { "" };
            let directory = Path::new(&kept).join(format!("{}{sanitized}", flavour.compiler));
            std::fs::create_dir_all(&directory).expect("a directory for the programs");
            return Programs { flavour, library, directory, _temporary: None };
        }
        let temporary = tempfile::tempdir().expect("a temporary directory");
        Programs { flavour, library, directory: temporary.path().to_owned(), _temporary: Some(temporary) }
    }

    pub fn path(&self, name: &str) -> PathBuf {
        let path = self.directory.join(name);
        if path.exists() {
            return path;
        }
        let example = root().join("c-examples").join(name).with_extension("c");
        // The examples are C99; the programs of the tests may use what came later.
        let (source, standard) = if example.exists() {
            (example, "-std=c99")
        } else {
            (root().join("tests/c").join(name).with_extension("c"), "-std=c11")
        };
        let source = source.to_str().expect("a path");
        let mut arguments = vec![standard, "-Wall", "-Wextra", "-Werror", "-pedantic", source];
        arguments.extend(self.linked());
        let flags = flags_of_loop(name);
        arguments.extend(flags.iter().map(String::as_str));
        self.compile(name, &arguments)
    }

    /// What links a program with the library.
    pub fn linked(&self) -> [&str; 4] {
        ["-L", self.library.to_str().expect("a path"), "-lasap", "-lpthread"]
    }

    /// Compiles something under a name of its own.
    pub fn compile(&self, name: &str, arguments: &[&str]) -> PathBuf {
        let path = self.directory.join(name);
        let mut command = Command::new(self.flavour.compiler);
        command.args(["-g", "-O1", "-I"]).arg(root().join("include"));
        command.arg(format!("-Wl,-rpath,{}", self.library.display()));
        if self.flavour.sanitized {
            command.args([
                "-fsanitize=address,undefined",
                "-fno-sanitize-recover=all",
                "-fno-omit-frame-pointer",
            ]);
        }
        command.arg("-o").arg(&path).args(arguments);
        let output = command.output().unwrap_or_else(|error| {
            panic!(
                "{} cannot be run ({error}): apt-get install {}",
                self.flavour.compiler, self.flavour.package
            )
        });
        let complaint = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{} {arguments:?}:\n{complaint}", self.flavour.compiler);
        path
    }
}

/// A running program; killed when dropped.
pub struct Program {
    name: String,
    pub child: Child,
    lines: Receiver<String>,
    pub said: Vec<String>,
}

impl Program {
    pub fn start(path: &Path, arguments: &[&str], registrar: &str) -> Program {
        let mut command = Command::new(path);
        command.args(arguments).env("ASAP_REGISTRARS", registrar);
        Program::run(path.display().to_string(), command)
    }

    pub fn run(name: String, mut command: Command) -> Program {
        command.stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.spawn().unwrap_or_else(|error| panic!("{name} cannot be run: {error}"));
        let output = child.stdout.take().expect("piped");
        let (said, lines) = mpsc::channel();
        std::thread::spawn(move || {
            for line in BufReader::new(output).lines().map_while(Result::ok) {
                if said.send(line).is_err() {
                    break;
                }
            }
        });
        Program { name, child, lines, said: Vec::new() }
    }

    /// The next line, none when the program has ended.
    pub fn line(&mut self) -> Option<String> {
        match self.lines.recv_timeout(PATIENCE) {
            Ok(line) => {
                self.said.push(line.clone());
                Some(line)
            }
            Err(mpsc::RecvTimeoutError::Disconnected) => None,
            Err(mpsc::RecvTimeoutError::Timeout) => {
                panic!("{} says nothing more after {:?}", self.name, self.said)
            }
        }
    }

    /// The rest of the next line that begins so.
    pub fn expect(&mut self, beginning: &str) -> String {
        loop {
            match self.line() {
                Some(line) => {
                    if let Some(rest) = line.strip_prefix(beginning) {
                        return rest.to_string();
                    }
                }
                None => panic!("{} ended without \"{beginning}\": {:?}", self.name, self.said),
            }
        }
    }

    pub fn say(&mut self, line: &str) {
        let input = self.child.stdin.as_mut().expect("piped");
        writeln!(input, "{line}")
            .and_then(|()| input.flush())
            .unwrap_or_else(|error| panic!("{}: {error}", self.name));
    }

    pub fn kill(mut self) {
        self.child.kill().expect("it can be killed");
        self.child.wait().expect("it is dead");
    }

    /// Ends it as an administrator does.
    pub fn terminate(mut self) {
        let status = Command::new("kill").arg(self.child.id().to_string()).status().expect("kill runs");
        assert!(status.success());
        assert!(self.ended().success(), "{}: {:?}", self.name, self.said);
    }

    pub fn ended(&mut self) -> ExitStatus {
        drop(self.child.stdin.take());
        while self.line().is_some() {}
        self.child.wait().expect("it has ended")
    }

    pub fn ends_well(&mut self) {
        let status = self.ended();
        assert!(status.success(), "{}: {status}, {:?}", self.name, self.said);
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A registrar of its own for each test, and its address.
pub fn registrar() -> (Program, String) {
    let path = library::build().join("asap-registrar");
    let arguments = ["--asap", "127.0.0.1:0", "--enrp", "127.0.0.1:0", "--announce", "off", "--admin", "off"];
    let mut registrar = Program::start(&path, &arguments, "");
    let transport = std::env::var("ASAP_TRANSPORT").unwrap_or("tcp".to_string());
    let address = registrar.expect(&format!("asap {transport} "));
    registrar.expect("ready");
    (registrar, address)
}

/// The first word of what a server says about itself: its identifier.
pub fn identifier(server: &mut Program) -> String {
    server.expect("element ").split_whitespace().next().expect("an identifier").to_string()
}

/// A server and its identifier.
pub fn server(path: &Path, arguments: &[&str], registrar: &str) -> (String, Program) {
    let mut server = Program::start(path, arguments, registrar);
    (identifier(&mut server), server)
}

/// Waits until asking the registrar finds so many elements.
pub fn elements(pool: &str, registrar: &str, wanted: usize) {
    let asapctl = library::build().join("asapctl");
    let begun = Instant::now();
    loop {
        let asked =
            Command::new(&asapctl).args(["resolve", pool, "--json", "--registrar", registrar]).output();
        let said = String::from_utf8_lossy(&asked.expect("asapctl runs").stdout).into_owned();
        let found = said.matches("\"policy\"").count();
        if found == wanted {
            return;
        }
        assert!(begun.elapsed() < PATIENCE, "{wanted} elements are wanted: {said}");
    }
}
