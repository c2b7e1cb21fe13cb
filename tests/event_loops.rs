//! Pools in event loops that are not ours, and with a server that forks: the examples for libuv, GLib and libevent, whose
//! servers are killed. Plain epoll: tests/c_consumers.rs (sessions), tests/adopting.rs (a server).

mod library;
mod programs;
mod tools;

use programs::{FLAVOURS, Flavour, GCC, Program, Programs, can_be_built, elements, registrar, server};
use std::process::Command;

/// More than any test waits for.
const NO_END: &str = "1000000";

/// gcc without and with sanitizers, if what the programs need is here.
fn flavours(needed: &[&str]) -> Vec<Flavour> {
    if !needed.iter().all(|program| can_be_built(program)) {
        return Vec::new();
    }
    FLAVOURS.into_iter().step_by(2).filter(Flavour::is_here).collect()
}

/// One of the examples, once it serves.
fn serving(programs: &Programs, program: &str, name: &str, registrar: &str) -> Program {
    let mut server = Program::start(&programs.path(program), &[name], registrar);
    server.expect("serving ");
    server
}

fn signal(process: &str, name: &str) {
    let sent = Command::new("kill").args([&format!("-{name}"), process]).status();
    assert!(sent.expect("kill runs").success());
}

fn answers(client: &mut Program) {
    for _ in 0..5 {
        client.expect("answer to question ");
    }
}

#[test]
fn a_client_on_libuv_goes_on_when_its_server_on_libevent_is_killed() {
    for flavour in flavours(&["uv_client", "event_server"]) {
        let programs = Programs::new(flavour);
        let (_registrar, address) = registrar();
        let first = serving(&programs, "event_server", "pool://Loops", &address);
        let client = programs.path("uv_client");
        let mut goes_on = Program::start(&client, &["pool://Loops", NO_END], &address);
        answers(&mut goes_on);
        let second = serving(&programs, "event_server", "pool://Loops", &address);
        first.kill();
        goes_on.expect("lost: ");
        goes_on.expect("answer to question ");
        answers(&mut goes_on);
        // And to the end.
        Program::start(&client, &["Loops", "3"], &address).ends_well();
        second.terminate();
        elements("Loops", &address, 0);
    }
}

#[test]
fn a_session_in_the_main_loop_of_glib_outlives_its_server() {
    for flavour in flavours(&["glib_client"]) {
        let programs = Programs::new(flavour);
        let (_registrar, address) = registrar();
        let echo = programs.path("echo_server");
        let (_, first) = server(&echo, &["GLib"], &address);
        let client = programs.path("glib_client");
        let mut goes_on = Program::start(&client, &["GLib", NO_END], &address);
        answers(&mut goes_on);
        let (_, _second) = server(&echo, &["GLib"], &address);
        first.kill();
        goes_on.expect("at another server");
        answers(&mut goes_on);
        Program::start(&client, &["GLib", "3"], &address).ends_well();
    }
}

#[test]
fn children_of_a_server_that_forks_outlive_it() {
    if flavours(&["uv_client"]).is_empty() {
        return;
    }
    let programs = Programs::new(GCC);
    let (_registrar, address) = registrar();
    let mut first = serving(&programs, "fork_server", "pool://Forks", &address);
    let mut client = Program::start(&programs.path("uv_client"), &["pool://Forks", NO_END], &address);
    let child = first.expect("child ");
    answers(&mut client);
    let mut second = serving(&programs, "fork_server", "pool://Forks", &address);
    elements("Forks", &address, 2);
    // The pool loses the parent at once, though its child has all that the parent had open.
    first.kill();
    elements("Forks", &address, 1);
    answers(&mut client);
    assert!(!client.said.iter().any(|line| line.starts_with("lost")), "{:?}", client.said);
    signal(&child, "KILL");
    client.expect("lost: ");
    second.expect("child ");
    client.expect("answer to question ");
    answers(&mut client);
    // One that ends in order leaves its children with those whom they serve.
    signal(&second.child.id().to_string(), "TERM");
    elements("Forks", &address, 0);
    assert!(second.child.wait().expect("it has ended").success());
    answers(&mut client);
}
