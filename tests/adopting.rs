//! The ways in for programs that have sockets already: plain descriptors of pools, listening descriptors that are registered, the
//! header `asap/sockets.h`. C programs, whose servers are killed.

mod library;
mod programs;
mod tools;

use programs::{FLAVOURS, GCC, PATIENCE, Program, Programs, registrar, server};
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
        command.args(["-c", "ulimit -n 16384; exec \"$0\" \"$@\""]).arg(programs.path(name)).args(arguments);
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
