//! The ways in for programs that have sockets already: plain descriptors of pools, listening descriptors that are registered, the
//! header `asap/sockets.h`. C programs, whose servers are killed.

mod library;
mod programs;
mod tools;

use programs::{FLAVOURS, GCC, Program, Programs, elements, registrar, server};
use std::collections::BTreeMap;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Instant;
use tools::{have, left_out};

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

/// On a busy machine, or under valgrind, all lasts longer.
const LENIENT: [(&str, &str); 2] = [("ASAP_TIMEOUT", "2m"), ("ASAP_CONNECT_TIMEOUT", "30s")];

fn streams(programs: &Programs, scenario: &str, name: &str, registrar: &str) -> Program {
    let mut command = Command::new(programs.path("plain_streams"));
    command.args([scenario, name]).env("ASAP_REGISTRARS", registrar).envs(LENIENT);
    Program::run(format!("plain_streams {scenario}"), command)
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
        for name in ["pool://Plain", "pool://Framed"] {
            for scenario in ["use", "nonblocking", "sockets"] {
                streams(&programs, scenario, name, &address).ends_well();
            }
        }
        streams(&programs, "half_close", "Plain", &address).ends_well();
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

/// netcat, not ours (`tests/netcat/get`): not a line of it is changed, nor does it know what to do when a server dies.
#[test]
fn netcat_goes_on_at_another_netcat() {
    if left_out("netcat") {
        return;
    }
    let source = library::root().join("build/netcat/netcat.c");
    assert!(source.exists(), "the sources of netcat are not here: tests/netcat/get");
    let programs = Programs::new(GCC);
    // As Debian compiles it, but for the header and the library.
    let debian = ["-std=gnu89", "-w", "-DLINUX", "-DTELNET", "-DIP_TOS", "-DDEBIAN_VERSION=\"1.10-47\""];
    let ours = ["-include", "asap/sockets.h", source.to_str().expect("a path")];
    let netcat = programs.compile("netcat", &[&debian[..], &ours, &programs.linked()].concat());

    let (_registrar, address) = registrar();
    let start = || {
        // It tells on the standard error who connects.
        let mut command = Command::new("sh");
        command.args(["-c", "exec \"$0\" -n -v -l -s 127.0.0.1 2>&1"]).arg(&netcat);
        command.env("ASAP_REGISTRARS", &address).env("ASAP_POOL", "Netcat");
        let server = Program::run("netcat -l".to_owned(), command);
        elements("Netcat", &address, 1);
        server
    };
    let mut first = start();
    let mut client = Program::start(&netcat, &["pool://Netcat?failover=resume", "7"], &address);
    first.expect("connect to ");
    client.say("to the first");
    first.expect("to the first");
    first.say("from the first");
    client.expect("from the first");
    // It serves one client, and does not listen any more.
    elements("Netcat", &address, 0);
    let mut second = start();
    let begun = Instant::now();
    first.kill();
    second.expect("connect to ");
    println!("netcat: at another server {:?} after the kill", begun.elapsed());
    client.say("to the second");
    second.expect("to the second");
    second.say("from the second");
    client.expect("from the second");
}

/// The calls that the shim is about, as its header says.
fn shimmed() -> Vec<String> {
    let header = std::fs::read_to_string(library::root().join("include/asap/sockets.h")).expect("a header");
    let renamed = header.lines().filter_map(|line| line.strip_prefix("#pragma redefine_extname "));
    let names = renamed.map(|names| {
        let (old, new) = names.split_once(' ').expect("two names");
        assert_eq!(new, format!("asap_{old}"));
        assert!(header.contains(&format!("__wrap_{old}(")), "{old} is not wrapped");
        old.to_owned()
    });
    names.collect()
}

/// Links what cannot be compiled again.
const WRAPPED: &str = "-Wl,--wrap=getaddrinfo,--wrap=gethostbyname,--wrap=connect,--wrap=listen,--wrap=getpeername,--wrap=setsockopt";

#[test]
fn objects_that_cannot_be_compiled_again_are_linked_otherwise() {
    let names = shimmed();
    let flags: Vec<String> = names.iter().map(|name| format!("--wrap={name}")).collect();
    assert_eq!(WRAPPED, format!("-Wl,{}", flags.join(",")));
    let pc = std::fs::read_to_string(library::root().join("packaging/libasap.pc.in")).expect("a file");
    assert!(pc.contains(&format!("\nwrap={WRAPPED}\n")), "packaging/libasap.pc.in says otherwise");

    let programs = Programs::new(GCC);
    let (_registrar, address) = registrar();
    let source = |name: &str| format!("{}/tests/c/{name}.c", library::root().display());
    let object =
        |name: &str| programs.compile(&format!("{name}.o"), &["-c", &source(name)]).display().to_string();
    let (server, client) = (object("chat_server"), object("poll_client"));
    let header = format!("{}/include/asap/sockets.h", library::root().display());
    let wrap = programs
        .compile("asap-wrap.o", &["-DASAP_WRAP", "-Wall", "-Wextra", "-Werror", "-x", "c", "-c", &header]);
    let wrap = wrap.display().to_string();
    let link = |name: &str, object: &str| {
        programs.compile(name, &[&[object, &wrap, WRAPPED], &programs.linked()[..]].concat())
    };
    let server = link("wrapped-server", &server);
    moves_on(&link("wrapped-client", &client), "Wrapped", &server, &address);

    // With the static library, which makes such calls itself, only the objects are to be changed.
    let mut objcopy = Command::new("objcopy");
    objcopy.args(names.iter().flat_map(|name| ["--redefine-sym".to_owned(), format!("{name}=asap_{name}")]));
    assert!(objcopy.arg(&client).status().expect("objcopy runs (binutils)").success());
    let archive = programs.library.join("libasap.a").display().to_string();
    let private = "-lgcc_s -lutil -lrt -lpthread -lm -ldl -lc".split(' ');
    let arguments: Vec<&str> = [client.as_str(), &archive].into_iter().chain(private).collect();
    moves_on(&programs.compile("static-client", &arguments), "Static", &server, &address);
}

#[test]
fn what_is_called_like_a_socket_call_but_is_none_survives() {
    let folder = tempfile::tempdir().expect("a temporary directory");
    let c = "#define _GNU_SOURCE\n#include <sys/socket.h>\n#include <netdb.h>\n\
        struct ops { int (*connect)(int); int listen; };\n\
        static int one(int x) { return x + 1; }\n\
        struct ops ops = {.connect = one, .listen = 2};\n\
        int (*pointer)(int, const struct sockaddr *, socklen_t) = connect;\n\
        int use(struct ops *o) { int setsockopt = o->listen; return o->connect(setsockopt) + listen(0, 0); }\n";
    let cpp = "#include <functional>\n#include <sys/socket.h>\n#include <netdb.h>\n\
        struct Signal { int connect(int); static int listen(int); };\n\
        namespace mine { int connect(int); }\n\
        int use(Signal &s) { auto f = std::bind(mine::connect, s.connect(1) + Signal::listen(2));\n\
        return f() + ::connect(0, nullptr, 0) + listen(0, 0); }\n";
    for (compiler, language, text) in
        [("gcc", "c", c), ("clang", "c", c), ("g++", "c++", cpp), ("clang++", "c++", cpp)]
    {
        if !have(compiler, if compiler == "clang++" { "clang" } else { compiler }) {
            continue;
        }
        for forced in [false, true] {
            let (source, object) = (folder.path().join("source"), folder.path().join("object.o"));
            let line = if forced { "" } else { "#include <asap/sockets.h>\n" };
            std::fs::write(&source, format!("{line}{text}")).expect("a file");
            let mut command = Command::new(compiler);
            command.args(["-Wall", "-Wextra", "-Werror", "-O2", "-D_FORTIFY_SOURCE=2", "-x", language]);
            if forced {
                command.args(["-include", "asap/sockets.h"]);
            }
            command
                .arg("-I")
                .arg(library::root().join("include"))
                .arg("-c")
                .arg(&source)
                .arg("-o")
                .arg(&object);
            assert!(command.status().expect("it runs").success(), "{compiler}");
            let listed = Command::new("nm").arg("-u").arg(&object).output().expect("nm runs (binutils)");
            let listed = String::from_utf8_lossy(&listed.stdout).into_owned();
            let all: Vec<&str> = listed.lines().filter_map(|line| line.split_whitespace().last()).collect();
            for wanted in ["asap_connect", "asap_listen"] {
                assert!(all.contains(&wanted), "{compiler}: {all:?}");
            }
            assert!(!all.contains(&"connect") && !all.contains(&"listen"), "{compiler}: {all:?}");
            if language == "c++" {
                for own in ["_ZN6Signal7connectEi", "_ZN6Signal6listenEi", "_ZN4mine7connectEi"] {
                    assert!(all.contains(&own), "{compiler}: {all:?}");
                }
            }
        }
    }
}

/// A program of `tests/c` that knows nothing of pools, as it is.
fn ordinary(programs: &Programs, name: &str) -> PathBuf {
    let source = library::root().join("tests/c").join(name).with_extension("c");
    programs.compile(&format!("{name}-ordinary"), &["-std=c11", source.to_str().expect("a path")])
}

/// The same with one line more.
fn adopted(programs: &Programs, name: &str) -> PathBuf {
    let source = library::root().join("tests/c").join(name).with_extension("c");
    let text = std::fs::read_to_string(source).expect("a source");
    let folder = tempfile::tempdir().expect("a temporary directory");
    let changed = folder.path().join(name).with_extension("c");
    std::fs::write(&changed, format!("#include <asap/sockets.h>\n{text}")).expect("a file");
    let source = ["-std=c11", "-Wall", "-Wextra", "-Werror", "-pedantic", changed.to_str().expect("a path")];
    programs.compile(&format!("{name}-adopted"), &[&source, &programs.linked()[..]].concat())
}

/// An ordinary server, and its port; `pool`: the one it is told to be in.
fn chat_server(path: &Path, pool: Option<&str>, registrar: &str) -> (String, Program) {
    let mut command = Command::new(path);
    command.args(["127.0.0.1", "0"]).env("ASAP_REGISTRARS", registrar);
    command.envs(pool.map(|pool| ("ASAP_POOL", pool)));
    let mut server = Program::run("chat_server".to_owned(), command);
    (server.expect("port "), server)
}

/// Has a client speak with the first of two servers, and, when that is killed, with the other.
fn moves_on(client: &Path, pool: &str, server: &Path, registrar: &str) {
    let mut servers: BTreeMap<_, _> =
        (0..2).map(|_| chat_server(server, Some(&format!("pool://{pool}")), registrar)).collect();
    elements(pool, registrar, 2);
    let mut client = Program::start(client, &[&format!("pool://{pool}"), "7"], registrar);
    let first = client.expect("connected to ");
    client.say("to the first");
    client.expect("to the first");
    let begun = Instant::now();
    servers.remove(&first).expect("one of the servers").kill();
    client.expect("lost");
    let second = client.expect("connected to ");
    println!("{pool}: another server {:?} after the kill", begun.elapsed());
    assert!(servers.contains_key(&second), "{second} is not the port of the other server");
    client.say("to the second");
    client.expect("to the second");
    client.ends_well();
}

#[test]
fn ordinary_programs_with_one_line_more_reach_and_are_pools() {
    for flavour in FLAVOURS {
        if !flavour.is_here() {
            continue;
        }
        let programs = Programs::new(flavour);
        let (_registrar, address) = registrar();
        let server = adopted(&programs, "chat_server");
        for client in ["poll_client", "select_client"] {
            moves_on(&adopted(&programs, client), client, &server, &address);
        }
    }
}

#[test]
fn ordinary_sockets_are_untouched() {
    let programs = Programs::new(GCC);
    let (_silent, nobody) = nobody();
    let both = |name: &str| [ordinary(&programs, name), adopted(&programs, name)];
    let [servers, clients] = [both("chat_server"), both("poll_client")];
    for (server, client) in servers.iter().zip(clients.iter().rev()) {
        let (port, mut server) = chat_server(server, None, &nobody);
        let mut client = Program::start(client, &["127.0.0.1", &port], &nobody);
        assert_eq!(client.expect("connected to "), port);
        client.say("hello");
        client.expect("hello");
        client.ends_well();
        server.expect("gone: ");
        let threads = std::fs::read_dir(format!("/proc/{}/task", server.child.id())).expect("its threads");
        assert_eq!(threads.count(), 1, "a library that is not asked for anything starts nothing");
    }
}

#[test]
fn a_server_is_registered_once_for_a_port_and_only_for_its_own() {
    let programs = Programs::new(GCC);
    let (_registrar, address) = registrar();
    let server = adopted(&programs, "chat_server");
    let start = |port: &str, pool: &str| {
        let mut command = Command::new(&server);
        command.args(["127.0.0.1", "0"]).env("ASAP_REGISTRARS", &address);
        Program::run("chat_server".to_owned(), {
            command.env("ASAP_POOL", pool).env("ASAP_POOL_PORT", port);
            command
        })
    };
    let mut other = start("1", "Port");
    other.expect("port ");
    let (_, _there) = chat_server(&server, Some("Port"), &address);
    elements("Port", &address, 1);
    let mut wrong = start("http", "Port");
    assert!(!wrong.ended().success());
    let mut wrong = start("1", "pool://?");
    assert!(!wrong.ended().success());
}

/// Such a program has no other way to tell what the library knows.
#[test]
fn what_happens_to_an_ordinary_server_is_printed_for_who_asks_and_for_nobody_else() {
    let programs = Programs::new(GCC);
    let server = adopted(&programs, "chat_server");
    let start = |pool: &str, registrars: &str, level: &str| {
        let mut command = Command::new("sh");
        command.args(["-c", "exec \"$0\" 127.0.0.1 0 2>&1"]).arg(&server);
        command.env("ASAP_REGISTRARS", registrars).env("ASAP_POOL", pool).env("ASAP_LOG", level);
        Program::run("chat_server".to_owned(), command)
    };
    let told = |server: &mut Program, wanted: &str| while !server.line().expect(wanted).contains(wanted) {};

    // A port that is held by who does not listen.
    let held = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).expect("a socket");
    held.bind(&std::net::SocketAddr::from(([127, 0, 0, 1], 0)).into()).expect("a port");
    let nobody = held.local_addr().expect("an address").as_socket().expect("an IP address").to_string();
    told(&mut start("Told", &nobody, "info"), &format!("no registrar answers, tried tcp {nobody}"));

    let (_registrar, address) = registrar();
    told(&mut start("Told", &address, "info"), "in pool Told as element 0x");
    let mut silent = start("Silent", &address, "");
    elements("Silent", &address, 1);
    silent.child.kill().expect("it can be killed");
    while silent.line().is_some() {}
    assert!(silent.said.iter().all(|line| line.starts_with("port ")), "{:?}", silent.said);

    told(&mut start("pool://?", &address, "error"), "error: listen: pool://?: ");
    // A level that there is not is a mistake as every other setting may be.
    assert!(!start("Told", &address, "loud").ended().success());
}

#[test]
fn streams_are_clean_under_valgrind() {
    if !have("valgrind", "valgrind") {
        return;
    }
    let programs = Programs::new(GCC);
    let (_registrar, address) = registrar();
    let _server = plain(&programs, &["Plain"], &address);
    let chat = adopted(&programs, "chat_server");
    let (_, _chat) = chat_server(&chat, Some("Chat"), &address);
    let known = format!("--suppressions={}", library::root().join("tests/c/valgrind.supp").display());
    let start = |kinds: &str, program: &Path, arguments: [&str; 2]| {
        let mut command = Command::new("valgrind");
        command.args(["--quiet", "--error-exitcode=1", "--leak-check=full", &known]);
        command.args(["errors-for", "show"].map(|what| format!("--{what}-leak-kinds={kinds}")));
        command.arg(program).args(arguments).env("ASAP_REGISTRARS", &address).envs(LENIENT);
        Program::run("valgrind".to_owned(), command)
    };
    let program = programs.path("plain_streams");
    for scenario in ["half_close", "sockets"] {
        start("definite,possible", &program, [scenario, "pool://Plain"]).ends_well();
    }
    // It ends as it always did, while the library runs.
    let program = adopted(&programs, "poll_client");
    let mut client = start("definite", &program, ["pool://Chat", "7"]);
    client.expect("connected to ");
    client.say("hello");
    client.expect("hello");
    client.ends_well();
}
