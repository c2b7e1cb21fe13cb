//! What the built libraries export: the functions of `include/asap.h` and nothing else (rustc has changed its mind about that before).

mod library;
mod tools;

use std::collections::BTreeSet;
use std::process::Command;

/// Those in its style that RSPLIB has not.
const OURS: &[&str] = &[
    "rsp_getnextserver",
    "rsp_getprimaryserver",
    "rsp_sendto_pool",
    "rsp_set_failover_callback",
    "rsp_watch",
    "rsp_watch_next",
];

const FUNCTIONS: &[&str] = &[
    "asap_connect",
    "asap_getaddrinfo",
    "asap_gethostbyname",
    "asap_getpeername",
    "asap_last_error",
    "asap_listen",
    "asap_open",
    "asap_registrar_address",
    "asap_registrar_start",
    "asap_registrar_stop",
    "asap_serve",
    "asap_set_log",
    "asap_setsockopt",
    "asap_unserve",
    "asap_version",
    "rsp_accept",
    "rsp_accept_tags",
    "rsp_bind",
    "rsp_cleanup",
    "rsp_close",
    "rsp_connect",
    "rsp_connect_tags",
    "rsp_csp_setstatus",
    "rsp_deregister",
    "rsp_deregister_tags",
    "rsp_forcefailover",
    "rsp_forcefailover_tags",
    "rsp_freeaddrinfo",
    "rsp_freeinfo",
    "rsp_getaddrinfo",
    "rsp_getaddrinfo_tags",
    "rsp_getnextserver",
    "rsp_getpeername",
    "rsp_getpolicybyname",
    "rsp_getpolicybytype",
    "rsp_getprimaryserver",
    "rsp_getsockname",
    "rsp_getsockopt",
    "rsp_has_cookie",
    "rsp_initarg",
    "rsp_initialize",
    "rsp_initinfo",
    "rsp_listen",
    "rsp_mapsocket",
    "rsp_pe_deregistration",
    "rsp_pe_deregistration_tags",
    "rsp_pe_failure",
    "rsp_pe_failure_tags",
    "rsp_pe_registration",
    "rsp_pe_registration_tags",
    "rsp_poll",
    "rsp_print_notification",
    "rsp_read",
    "rsp_recv",
    "rsp_recvfullmsg",
    "rsp_recvmsg",
    "rsp_register",
    "rsp_register_tags",
    "rsp_select",
    "rsp_send",
    "rsp_send_cookie",
    "rsp_sendmsg",
    "rsp_sendto_pool",
    "rsp_set_failover_callback",
    "rsp_setsockopt",
    "rsp_socket",
    "rsp_socket_internal",
    "rsp_unmapsocket",
    "rsp_update_session_parameters",
    "rsp_watch",
    "rsp_watch_next",
    "rsp_write",
];

fn run(program: &str, package: &str, arguments: &[&str]) -> String {
    let output = Command::new(program).args(arguments).output().unwrap_or_else(|error| {
        panic!("{program} cannot be run ({error}): install the Debian package {package}")
    });
    assert!(output.status.success(), "{program} {arguments:?}:\n{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).into_owned()
}

#[test]
fn shared_library_exports_the_functions_and_nothing_else() {
    for so in [library::build().join("libasap.so"), library::build().join("rsplib/librsplib.so.3")] {
        let listing = run("nm", "binutils", &["-D", "--defined-only", so.to_str().unwrap()]);
        let exported: BTreeSet<&str> =
            listing.lines().filter_map(|line| line.split_whitespace().nth(2)).collect();
        let expected: BTreeSet<&str> = FUNCTIONS.iter().copied().collect();
        let surplus: Vec<_> = exported.difference(&expected).collect();
        let missing: Vec<_> = expected.difference(&exported).collect();
        assert!(
            surplus.is_empty() && missing.is_empty(),
            "{}: surplus: {surplus:?}, missing: {missing:?}",
            so.display()
        );
    }
}

#[test]
fn all_functions_of_rsplib_are_among_them() {
    let theirs: Vec<&&str> =
        FUNCTIONS.iter().filter(|name| name.starts_with("rsp_") && !OURS.contains(name)).collect();
    assert_eq!(theirs.len(), 51, "{theirs:?}");
    if !tools::have("nm", "binutils") || tools::left_out("librsplib-dev") {
        return;
    }
    let library = "/usr/lib/x86_64-linux-gnu/librsplib.so.3";
    assert!(std::path::Path::new(library).exists(), "{library} is not here: apt-get install librsplib-dev");
    let listing = run("nm", "binutils", &["-D", "--defined-only", library]);
    let exported: BTreeSet<&str> = listing
        .lines()
        .filter_map(|line| line.split_whitespace().nth(2))
        .filter(|name| name.starts_with("rsp_"))
        .collect();
    assert_eq!(exported, theirs.into_iter().copied().collect());
}

#[test]
fn header_declares_what_is_exported() {
    let header = std::fs::read_to_string(library::root().join("include/asap.h")).expect("include/asap.h");
    let code: String = header
        .lines()
        .filter(|line| !line.trim_start().starts_with(['*', '/']))
        .collect::<Vec<_>>()
        .join("\n");
    for function in FUNCTIONS {
        let declared = code
            .match_indices(function)
            .any(|(at, _)| code[at + function.len()..].starts_with('(') && !code[..at].ends_with('_'));
        assert!(declared, "{function} is not declared in include/asap.h");
    }
}

#[test]
fn shared_libraries_have_their_sonames_and_call_their_own_functions() {
    let libraries = [
        (library::build().join("libasap.so"), "libasap.so.0"),
        (library::build().join("rsplib/librsplib.so.3"), "librsplib.so.3"),
    ];
    for (so, soname) in libraries {
        let dynamic = run("readelf", "binutils", &["-d", so.to_str().unwrap()]);
        assert!(dynamic.contains(&format!("soname: [{soname}]")), "{dynamic}");
        let relocations = run("readelf", "binutils", &["-r", "--wide", so.to_str().unwrap()]);
        assert!(!relocations.contains(" rsp_"), "{relocations}");
    }
}

#[test]
fn static_library_links() {
    let directory = library::build();
    let scratch = tempfile::tempdir().expect("a temporary directory");
    let (source, program) = (scratch.path().join("version.c"), scratch.path().join("version"));
    let text = "#include <asap.h>\n#include <stdio.h>\nint main(void) { puts(asap_version()); return rsp_close(-1) == -1 ? 0 : 1; }\n";
    std::fs::write(&source, text).expect("a temporary file");
    let (include, archive) = (library::root().join("include"), directory.join("libasap.a"));
    let arguments = [
        "-I",
        include.to_str().unwrap(),
        source.to_str().unwrap(),
        archive.to_str().unwrap(),
        "-lgcc_s",
        "-lutil",
        "-lrt",
        "-lpthread",
        "-lm",
        "-ldl",
        "-o",
        program.to_str().unwrap(),
    ];
    run("gcc", "gcc", &arguments);
    let version = run(program.to_str().unwrap(), "", &[]);
    assert_eq!(version.trim(), env!("CARGO_PKG_VERSION"));
}
