//! C programs that use the library as its users do: the examples and the programs of `tests/c`, compiled by gcc and clang, with and without
//! sanitizers, run against a registrar, their servers killed; a client under valgrind; an asyncio reader.
//!
//! A missing tool is a failure that names its package, unless `tests/run` has said that it is to do without (ASAP_TEST_WITHOUT).

mod library;
mod programs;
mod tools;

use library::root;
use programs::{FLAVOURS, GCC, PATIENCE, Program, Programs, can_be_built, identifier, registrar, server};
use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;
use std::time::Instant;
use tools::have;

#[test]
fn examples_and_programs_compile_without_a_word() {
    for flavour in FLAVOURS {
        if !flavour.is_here() {
            continue;
        }
        let programs = Programs::new(flavour);
        for directory in ["c-examples", "tests/c"] {
            for entry in std::fs::read_dir(root().join(directory)).expect("a directory") {
                let path = entry.expect("an entry").path();
                let name = path.file_stem().and_then(|stem| stem.to_str()).expect("a name");
                // layout.c has no main: tests/header.rs compiles it.
                if path.extension().is_some_and(|e| e == "c") && name != "layout" && can_be_built(name) {
                    programs.path(name);
                }
            }
        }
    }
}

#[test]
fn every_call_in_every_state_does_what_the_table_says() {
    for flavour in FLAVOURS {
        if !flavour.is_here() {
            continue;
        }
        let programs = Programs::new(flavour);
        let path = programs.path("api_table");
        for transport in ["tcp", "sctp"] {
            if transport == "sctp" && !asap::runtime::listener::has_sctp() {
                println!("left out: the table over SCTP, which this kernel has not (make lab runs it)");
                continue;
            }
            let (_registrar, address) = registrar();
            Program::start(&path, &[transport], &address).ends_well();
        }
    }
}

#[test]
fn echo_goes_on_at_another_server() {
    let programs = Programs::new(GCC);
    let (_registrar, address) = registrar();
    let path = programs.path("echo_server");
    let mut servers: BTreeMap<String, Program> =
        (0..2).map(|_| server(&path, &["CEcho"], &address)).collect();
    let mut client = Program::start(&programs.path("echo_client"), &["CEcho"], &address);
    let mut answer = |text: &str| {
        client.say(text);
        let line = client.line().expect("an answer");
        let (id, echo) = line.split_once(": ").expect("an element and an answer");
        assert_eq!(echo, text);
        id.to_string()
    };
    let first = answer("one");
    assert_eq!(answer("two"), first);
    servers.remove(&first).expect("one of ours").kill();
    let second = answer("three");
    assert_ne!(second, first);
    assert_eq!(answer("four"), second);
    client.ends_well();
    servers.remove(&second).expect("the other").terminate();
}

/// What a line of `name=number` words says.
fn numbers(summary: &str) -> BTreeMap<String, f64> {
    let words = summary.split_whitespace().filter_map(|word| word.split_once('='));
    words.map(|(name, value)| (name.to_string(), value.parse().expect("a number"))).collect()
}

/// Runs the stateful client and kills the server it is on again and again; what its summary says.
fn stateful(programs: &Programs, requests: u32, kills: u32, wrap: &[&str]) -> BTreeMap<String, f64> {
    let (_registrar, address) = registrar();
    let path = programs.path("stateful_server");
    let mut servers: BTreeMap<String, Program> = (0..3).map(|_| server(&path, &[], &address)).collect();
    let requests = format!("-requests={requests}");
    let client = programs.path("stateful_client");
    let mut words: Vec<&str> = wrap.to_vec();
    words.push(client.to_str().expect("a path"));
    words.extend(["-machine", "-pause=500", &requests]);
    let mut client = Program::start(Path::new(words[0]), &words[1..], &address);
    let mut killed = 0;
    let mut summary = None;
    while let Some(line) = client.line() {
        let words: Vec<&str> = line.split_whitespace().collect();
        let at = match words[..] {
            ["connected", id] | ["failover", _, _, id, ..] => id,
            ["summary", ..] => {
                summary = Some(line.clone());
                break;
            }
            _ => continue,
        };
        if killed < kills {
            let (id, new) = server(&path, &[], &address);
            servers.insert(id, new);
            servers.remove(at).unwrap_or_else(|| panic!("{at} is none of ours")).kill();
            killed += 1;
        }
    }
    client.ends_well();
    let summary = summary.expect("a summary");
    println!("{summary}");
    numbers(&summary)
}

#[test]
fn state_in_the_cookie_survives_every_kill() {
    for flavour in FLAVOURS {
        if !flavour.is_here() {
            continue;
        }
        let summary = stateful(&Programs::new(flavour), 2000, 10, &[]);
        assert_eq!(summary["answered"], 2000.0);
        assert_eq!(summary["lost"] + summary["wrong"], 0.0);
        assert!(summary["failovers"] >= 10.0, "{summary:?}");
    }
}

#[test]
fn a_request_is_processed_once_whether_its_cookie_left_or_not() {
    let programs = Programs::new(GCC);
    for (death, replayed) in [("before", 0.0), ("after", 1.0)] {
        let (_registrar, address) = registrar();
        let (_, mut dying) = server(&programs.path("dying_server"), &[death], &address);
        let arguments = ["-machine", "-requests=10"];
        let mut client = Program::start(&programs.path("stateful_client"), &arguments, &address);
        // It is alone in the pool until it is dead: the client waits for the other.
        assert!(dying.ended().success());
        let (_, _other) = server(&programs.path("stateful_server"), &[], &address);
        let summary = numbers(&client.expect("summary "));
        client.ends_well();
        assert_eq!(summary["answered"], 10.0);
        assert_eq!(summary["lost"] + summary["wrong"], 0.0);
        assert_eq!((summary["failovers"], summary["replayed"]), (1.0, replayed), "{death}: {summary:?}");
    }
}

#[test]
fn a_client_is_clean_under_valgrind() {
    if !have("valgrind", "valgrind") {
        return;
    }
    let known = format!("--suppressions={}", root().join("tests/c/valgrind.supp").display());
    let wrap = ["valgrind", "--quiet", "--error-exitcode=1", "--leak-check=full", &known];
    let summary = stateful(&Programs::new(GCC), 300, 3, &wrap);
    assert_eq!(summary["answered"], 300.0);
    assert!(summary["failovers"] >= 3.0, "{summary:?}");
}

#[test]
fn epoll_client_answers_all_rounds_while_a_server_is_killed() {
    let programs = Programs::new(GCC);
    let (_registrar, address) = registrar();
    let path = programs.path("echo_server");
    let mut servers: Vec<_> = (0..2).map(|_| server(&path, &["CEpoll"], &address)).collect();
    let arguments = ["-pool=CEpoll", "-sessions=50", "-rounds=200"];
    let mut client = Program::start(&programs.path("epoll_client"), &arguments, &address);
    servers.pop().expect("two").1.kill();
    assert!(client.expect("50 sessions").contains("200 rounds each"));
    client.ends_well();
}

#[test]
fn basic_mode_reports_the_dead_server_and_finds_the_other() {
    let programs = Programs::new(GCC);
    let (_registrar, address) = registrar();
    let path = programs.path("basic_mode");
    let (first, dead) = server(&path, &["server", "CBasic"], &address);
    let (second, _alive) = server(&path, &["server", "CBasic"], &address);
    dead.kill();
    // The registrar finds out by itself, too: the dead one may or may not still be listed.
    let mut client = Program::start(&path, &["client", "CBasic"], &address);
    let answered = loop {
        let line = client.line().unwrap_or_else(|| panic!("no element answered: {:?}", client.said));
        if let Some(element) = line.strip_prefix("element ").and_then(|rest| rest.strip_suffix(" answered")) {
            break element.to_string();
        }
    };
    assert_eq!(answered, second);
    assert_ne!(answered, first);
    client.ends_well();
}

#[test]
fn pool_watcher_sees_servers_come_and_go() {
    let programs = Programs::new(GCC);
    let (_registrar, address) = registrar();
    let path = programs.path("echo_server");
    let mut watcher = Program::start(&programs.path("pool_watcher"), &["CWatched"], &address);
    watcher.expect("that is all for now");
    let (first, one) = server(&path, &["CWatched"], &address);
    assert!(watcher.expect("added   ").starts_with(&first));
    let (second, two) = server(&path, &["CWatched"], &address);
    assert!(watcher.expect("added   ").starts_with(&second));
    one.kill();
    assert!(watcher.expect("removed ").starts_with(&first));
    two.terminate();
    assert!(watcher.expect("removed ").starts_with(&second));
    watcher.terminate();
}

/// Starts a program that says "ready" at its first server, kills that when another is there, and sees that it ends well.
fn moves_once(mut program: Program, first: Program, path: &Path, pool: &str, address: &str) {
    program.expect("ready");
    let (_, _second) = server(path, &[pool], address);
    let begun = Instant::now();
    first.kill();
    program.say("go");
    program.ends_well();
    println!("{:?}, done {:?} after the kill", program.said, begun.elapsed());
}

#[test]
fn two_thousand_sessions_in_one_outer_epoll_are_all_told_of_a_failover() {
    let programs = Programs::new(GCC);
    let (_registrar, address) = registrar();
    let path = programs.path("echo_server");
    // Each server needs a descriptor a session.
    let wide = |path: &Path, arguments: &[&str]| {
        let mut command = Command::new("sh");
        command
            .args(["-c", "ulimit -n 16384; exec \"$0\" \"$@\""])
            .arg(path)
            .args(arguments)
            .env("ASAP_REGISTRARS", &address);
        Program::run(path.display().to_string(), command)
    };
    let mut first = wide(&path, &["COuter"]);
    identifier(&mut first);
    let mut program = wide(&programs.path("outer_epoll"), &["COuter", "2000", "5000"]);
    program.expect("ready");
    let mut second = wide(&path, &["COuter"]);
    identifier(&mut second);
    first.kill();
    program.say("go");
    program.ends_well();
    println!("{:?}", program.said);
}

#[test]
fn an_asyncio_reader_wakes_up_before_and_after_a_failover() {
    if !have("python3", "python3") {
        return;
    }
    let programs = Programs::new(GCC);
    let (_registrar, address) = registrar();
    let path = programs.path("echo_server");
    let (_, first) = server(&path, &["CPython"], &address);
    let mut command = Command::new("python3");
    command
        .arg(root().join("tests/python_reader.py"))
        .arg(programs.library.join("libasap.so"))
        .arg("CPython");
    command.env("ASAP_REGISTRARS", &address);
    moves_once(Program::run("python_reader.py".to_string(), command), first, &path, "CPython", &address);
}

/// Waits until a process of the cluster says that its registrar knows so many elements, and then, still so, that its
/// client has had an answer more.
fn goes_on(process: &mut Program, elements: u32) {
    let (begun, beginning) = (Instant::now(), format!("elements {elements} answers "));
    let mut before = None;
    while begun.elapsed() < PATIENCE {
        let line = process.line().expect("it runs");
        let Some(answers) = line.strip_prefix(&beginning) else { continue };
        let answers: u64 = answers.parse().expect("a number");
        if answers > *before.get_or_insert(answers) {
            return;
        }
    }
    panic!("no answers with {elements} elements: {:?}", process.said);
}

#[test]
fn a_cluster_without_daemons_goes_on_without_those_killed_and_those_ended() {
    let path = Programs::new(GCC);
    let path = path.path("cluster");
    let start = |peers: &str| {
        let peers = format!("-peers={peers}");
        let arguments = ["-asap=127.0.0.1:0", "-enrp=127.0.0.1:0", &peers];
        let mut process = Program::start(&path, &arguments, "");
        let enrp = process.expect("enrp ");
        process.expect("element ");
        (process, enrp)
    };
    let (first, at) = start("");
    let (second, other) = start(&at);
    let (third, _) = start(&format!("{at},{other}"));
    let mut all = [first, second, third];
    for process in &mut all {
        goes_on(process, 3);
    }
    let [first, mut second, mut third] = all;
    // The one the others learnt of each other from.
    first.kill();
    // Both, before either is ended: what they say is of a cluster of two.
    goes_on(&mut second, 2);
    goes_on(&mut third, 2);
    // In order: to a client that is at this element the end of its session, no failover.
    second.terminate();
    goes_on(&mut third, 1);
    third.terminate();
}

#[test]
fn programs_host_registrars_of_their_own() {
    for flavour in FLAVOURS {
        if !flavour.is_here() {
            continue;
        }
        let folder = tempfile::tempdir().expect("a temporary directory");
        let arguments = [folder.path().to_str().expect("a path")];
        let mut program = Program::start(&Programs::new(flavour).path("registrars"), &arguments, "");
        program.expect("done");
        program.ends_well();
    }
}

#[test]
fn examples_are_built_by_their_makefile() {
    let library = library::build();
    let out = tempfile::tempdir().expect("a temporary directory");
    let make = Command::new("make")
        .arg("-C")
        .arg(root().join("c-examples"))
        .arg(format!("LIBDIR={}", library.display()))
        .arg(format!("OUT={}", out.path().display()))
        .output()
        .expect("make runs: apt-get install make");
    assert!(make.status.success(), "{}", String::from_utf8_lossy(&make.stderr));
    assert!(make.stderr.is_empty(), "{}", String::from_utf8_lossy(&make.stderr));
}
