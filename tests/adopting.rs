//! The ways in for programs that have sockets already: plain descriptors of pools, listening descriptors that are registered, the
//! header `asap/sockets.h`. C programs, whose servers are killed.

mod library;
mod programs;
mod tools;

use programs::{FLAVOURS, GCC, PATIENCE, Program, Programs, registrar, server};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;
use std::time::Instant;
use tools::have;

/// A plain TCP server that has registered itself by `asap_serve`.
fn plain(programs: &Programs, arguments: &[&str], registrar: &str) -> Program {
    let mut server = Program::start(&programs.path("plain_server"), arguments, registrar);
    server.expect("element of ");
    server
}

/// A server whose clients have sessions of ours.
fn framed(programs: &Programs, pool: &str, registrar: &str) -> Program {
    server(&programs.path("echo_server"), &[pool], registrar).1
}

fn streams(programs: &Programs, scenario: &str, name: &str, registrar: &str) -> Program {
    Program::start(&programs.path("plain_streams"), &[scenario, name], registrar)
}

/// Where nobody answers.
fn nobody() -> (TcpListener, String) {
    let silent = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = silent.local_addr().expect("an address").to_string();
    (silent, address)
}

fn signal(program: &Program, name: &str) {
    let sent = Command::new("kill").arg(format!("-{name}")).arg(program.child.id().to_string()).status();
    assert!(sent.expect("kill runs").success());
}

/// Waits until asking the registrar finds so many elements.
fn elements(pool: &str, registrar: &str, wanted: usize) {
    static ASAPCTL: OnceLock<PathBuf> = OnceLock::new();
    let asapctl = ASAPCTL.get_or_init(|| library::build(&["asapctl"]).join("asapctl"));
    let begun = Instant::now();
    loop {
        let asked =
            Command::new(asapctl).args(["resolve", pool, "--json", "--registrar", registrar]).output();
        let said = String::from_utf8_lossy(&asked.expect("asapctl runs").stdout).into_owned();
        let found = said.matches("\"policy\"").count();
        if found == wanted {
            return;
        }
        assert!(begun.elapsed() < PATIENCE, "{wanted} elements are wanted: {said}");
    }
}

#[test]
fn a_stream_is_used_like_any_socket() {
    for flavour in FLAVOURS {
        if !flavour.is_here() {
            continue;
        }
        let programs = Programs::new(flavour);
        let (_registrar, address) = registrar();
        let _plain = plain(&programs, &["Plain"], &address);
        let _framed = framed(&programs, "Framed", &address);
        for name in ["pool://Plain", "pool://Framed", "Framed"] {
            for scenario in ["use", "nonblocking"] {
                streams(&programs, scenario, name, &address).ends_well();
            }
        }
        streams(&programs, "half_close", "pool://Plain", &address).ends_well();
    }
}

#[test]
fn a_stream_takes_what_the_server_takes_and_no_more() {
    let programs = Programs::new(GCC);
    let (_registrar, address) = registrar();
    let _server = plain(&programs, &["Plain"], &address);
    let mut program = streams(&programs, "back_pressure", "pool://Plain", &address);
    println!("{}", program.expect("stopped after"));
    program.ends_well();
}

#[test]
fn a_thousand_streams_at_once() {
    let programs = Programs::new(GCC);
    let (_registrar, address) = registrar();
    let _framed = framed(&programs, "Framed", &address);
    let wide = |name: &str, arguments: &[&str]| {
        let mut command = Command::new("sh");
        command.args(["-c", "ulimit -n 8192; exec \"$0\" \"$@\""]).arg(programs.path(name)).args(arguments);
        Program::run(name.to_string(), {
            command.env("ASAP_REGISTRARS", &address);
            command
        })
    };
    let mut server = wide("plain_server", &["Plain"]);
    server.expect("element of ");
    wide("plain_streams", &["many", "pool://Plain"]).ends_well();
}

#[test]
fn a_stream_whose_element_is_killed_is_reset() {
    for flavour in FLAVOURS {
        if !flavour.is_here() {
            continue;
        }
        let programs = Programs::new(flavour);
        let (_registrar, address) = registrar();
        let first = framed(&programs, "Framed", &address);
        let mut program = streams(&programs, "reset", "pool://Framed", &address);
        program.expect("ready");
        let _second = framed(&programs, "Framed", &address);
        let begun = Instant::now();
        first.kill();
        program.ends_well();
        println!("reset, seen in every way {:?} after the kill", begun.elapsed());
    }
}

#[test]
fn a_stream_that_is_to_go_on_does_so_at_another_element() {
    let programs = Programs::new(GCC);
    let (_registrar, address) = registrar();
    for pool in ["Plain", "Framed"] {
        let start = || match pool {
            "Plain" => plain(&programs, &[pool], &address),
            _ => framed(&programs, pool, &address),
        };
        let first = start();
        let name = format!("pool://{pool}?failover=resume");
        let mut program = streams(&programs, "resume", &name, &address);
        program.expect("ready");
        let _second = start();
        let begun = Instant::now();
        first.kill();
        program.say("go");
        program.expect("went on");
        println!("{pool}: an answer {:?} after the kill", begun.elapsed());
        program.ends_well();
    }
}

#[test]
fn what_a_program_has_written_is_sent_though_it_ends_at_once() {
    let programs = Programs::new(GCC);
    let (_registrar, address) = registrar();
    let mut server = plain(&programs, &["Words", "print"], &address);
    streams(&programs, "last_words", "pool://Words", &address).ends_well();
    server.expect("got last words");
}

#[test]
fn children_use_a_stream_as_long_as_its_parent_lives() {
    let programs = Programs::new(GCC);
    let (_registrar, address) = registrar();
    for pool in ["Plain", "Framed"] {
        let _server = match pool {
            "Plain" => plain(&programs, &[pool], &address),
            _ => framed(&programs, pool, &address),
        };
        let mut program = streams(&programs, "forked", &format!("pool://{pool}"), &address);
        program.expect("orphan reset");
        program.ends_well();
    }
}

#[test]
fn a_served_descriptor_is_in_its_pool_while_it_is_open_and_the_program_is_well() {
    for flavour in FLAVOURS {
        if !flavour.is_here() {
            continue;
        }
        let programs = Programs::new(flavour);
        let (_registrar, address) = registrar();
        let first = plain(&programs, &["pool://Served?policy=WeightedRoundRobin:3"], &address);
        elements("Served", &address, 1);
        let mut second = plain(&programs, &["pool://Served?policy=WeightedRoundRobin:3"], &address);
        elements("Served", &address, 2);
        signal(&second, "USR1");
        elements("Served", &address, 1);
        signal(&second, "USR1");
        elements("Served", &address, 2);
        signal(&second, "USR2");
        second.expect("closed");
        elements("Served", &address, 1);
        first.terminate();
        elements("Served", &address, 0);
        second.terminate();
    }
}

#[test]
fn code_comes_before_environment_and_that_before_the_file() {
    let programs = Programs::new(GCC);
    let folder = tempfile::tempdir().expect("a temporary directory");
    let file = folder.path().join("asap.conf");
    let (_silent, nobody) = nobody();
    let run = |name: &str, settings: &[(&str, &str)]| {
        let mut command = Command::new(programs.path("plain_streams"));
        command.args(["settings", name]).env("XDG_CONFIG_HOME", folder.path());
        // What is asked fails after a millisecond.
        command.envs([("ASAP_REGISTRARS", nobody.as_str()), ("ASAP_TIMEOUT", "1ms")]);
        command.envs(settings.iter().copied());
        let mut program = Program::run("plain_streams".to_owned(), command);
        program.ends_well();
        program.said.join("\n")
    };
    let has = |said: String, parts: &[&str]| {
        assert!(parts.iter().all(|part| said.contains(part)), "{parts:?} wanted: {said}");
    };
    has(run("P", &[]), &["at first 500", "then 500"]);
    std::fs::write(&file, "# ours\nconnect_timeout = 1111ms\n").expect("a file");
    has(run("P", &[]), &["at first 1111", "then 1111"]);
    let variable = ("ASAP_CONNECT_TIMEOUT", "2222");
    has(run("P", &[variable]), &["at first 2222", "then 2222"]);
    has(run("pool://P?connect_timeout=3333", &[variable]), &["at first 2222", "then 3333"]);
    has(run("pool://P?conect_timeout=3333", &[]), &["no option \"conect_timeout\"", "then 1111"]);
    let refused = |errno: i32| format!("errno {errno}: ");
    has(run("P", &[("ASAP_TIMEOUT", "soon")]), &[&refused(libc::EINVAL), "ASAP_TIMEOUT: \"soon\""]);
    std::fs::write(&file, "# ours\nconect_timeout = 1s\n").expect("a file");
    let file = file.to_str().expect("a path");
    has(run("P", &[]), &[&refused(libc::EINVAL), file, "line 2: \"conect_timeout\" is unknown"]);
    let absent = format!("{file}.absent");
    has(run("P", &[("ASAP_CONFIG", &absent)]), &[&refused(libc::ENOENT), &absent]);
}

#[test]
fn names_are_understood_wherever_a_handle_is() {
    let programs = Programs::new(GCC);
    let (_registrar, address) = registrar();
    let name = format!("pool://%4eamed?policy=LeastUsed:7&timeout=1m&registrar={address}");
    // The registrar is known from the names only.
    let (_silent, nobody) = nobody();
    let _server = framed(&programs, &name, &nobody);
    elements("Named", &address, 1);
    let mut client = Program::start(&programs.path("echo_client"), &[&name], &nobody);
    client.say("hello");
    client.expect("0x");
    client.ends_well();
    streams(&programs, "use", &name, &nobody).ends_well();
}

#[test]
fn streams_are_clean_under_valgrind() {
    if !have("valgrind", "valgrind") {
        return;
    }
    let programs = Programs::new(GCC);
    let (_registrar, address) = registrar();
    let _server = plain(&programs, &["Plain"], &address);
    let known = format!("--suppressions={}", library::root().join("tests/c/valgrind.supp").display());
    let program = programs.path("plain_streams");
    for scenario in ["half_close", "nonblocking"] {
        let arguments = [
            "--quiet",
            "--error-exitcode=1",
            "--leak-check=full",
            &known,
            program.to_str().expect("a path"),
            scenario,
            "pool://Plain",
        ];
        Program::start(Path::new("valgrind"), &arguments, &address).ends_well();
    }
}
