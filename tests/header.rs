//! `include/asap.h` is what `src/capi` says (`UPDATE_HEADER=1` writes it), and every compiler takes it without a word.

mod tools;

use std::path::{Path, PathBuf};
use std::process::Command;

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn generated() -> String {
    let mut config =
        cbindgen::Config::from_file(root().join("cbindgen.toml")).expect("cbindgen.toml is read");
    config.autogen_warning =
        Some("/* Generated from src/capi by tests/header.rs (UPDATE_HEADER=1): do not edit. */".to_string());
    let mut builder = cbindgen::Builder::new().with_config(config);
    // In the order of a reader: what there is, set-up, sockets, data, pools.
    for file in [
        "layout",
        "error",
        "context",
        "session",
        "data",
        "options",
        "pool",
        "mapping",
        "tags",
        "plain",
        "sockets",
        "registrar",
    ] {
        builder = builder.with_src(root().join("src/capi").join(file).with_extension("rs"));
    }
    let mut text = Vec::new();
    builder.generate().expect("cbindgen understands src/capi").write(&mut text);
    polished(&String::from_utf8(text).expect("the header is UTF-8"))
}

/// What cbindgen has no setting for: short comments on one line, and numbers as people write them.
fn polished(text: &str) -> String {
    let lines: Vec<&str> = text.lines().collect();
    let mut out = String::new();
    let mut at = 0;
    while let Some(line) = lines.get(at) {
        let comment = lines.get(at + 1).and_then(|text| text.trim().strip_prefix("* "));
        let define = line.strip_prefix("#define ").and_then(|rest| rest.split_once(' '));
        let end = lines.get(at + 2).map(|end| end.trim());
        if let ("/**", Some(comment), Some("*/")) = (line.trim(), comment, end) {
            out += &format!("{}/** {comment} */\n", line.trim_end_matches("/**"));
            at += 3;
            continue;
        }
        match define.map(|(name, value)| (name, value.parse::<u64>())) {
            Some((name, Ok(value))) if value > 255 => {
                let unsigned = if i32::try_from(value).is_err() { "u" } else { "" };
                out += &format!("#define {name} 0x{value:04x}{unsigned}\n");
            }
            _ => out += &format!("{line}\n"),
        }
        at += 1;
    }
    out
}

#[test]
fn header_is_what_the_sources_say() {
    let path = root().join("include/asap.h");
    let new = generated();
    let old = std::fs::read_to_string(&path).unwrap_or_default();
    if std::env::var_os("UPDATE_HEADER").is_some() {
        // Whoever compiles something meanwhile finds the old one or the new one, whole.
        if old != new {
            let place = tempfile::NamedTempFile::new_in(root().join("include")).expect("a file beside it");
            std::fs::write(&place, &new).expect("the header is written");
            let permissions = std::os::unix::fs::PermissionsExt::from_mode(0o644);
            std::fs::set_permissions(&place, permissions).expect("permissions");
            place.persist(&path).expect("include/asap.h is replaced");
        }
        return;
    }
    let line = old.lines().zip(new.lines()).position(|(a, b)| a != b).map_or(0, |line| line + 1);
    assert!(
        old == new,
        "include/asap.h is not what src/capi says (first at line {line}): UPDATE_HEADER=1 cargo test --test header"
    );
}

/// Runs a compiler; its name is also what to install.
fn compile(compiler: &str, package: &str, arguments: &[&str]) {
    if !tools::have(compiler, package) {
        return;
    }
    let output = Command::new(compiler)
        .args(["-Wall", "-Wextra", "-Werror", "-pedantic", "-fsyntax-only", "-I"])
        .arg(root().join("include"))
        .args(arguments)
        .output()
        .expect("just seen to run");
    assert!(
        output.status.success(),
        "{compiler} {arguments:?}:\n{}",
        String::from_utf8_lossy(&output.stderr)
    );
}

fn source(name: &str, text: &str) -> (tempfile::TempDir, PathBuf) {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let path = directory.path().join(name);
    std::fs::write(&path, text).expect("a temporary file");
    (directory, path)
}

#[test]
fn header_alone_is_clean_as_c99_c11_and_cpp17() {
    let text =
        "#include <asap.h>\n#include <asap.h>\nint main(void) { return asap_version()[0] == '0' ? 0 : 1; }\n";
    let (_keep, c) = source("alone.c", text);
    let (_keep, cpp) = source("alone.cpp", text);
    let (c, cpp) = (c.to_str().unwrap(), cpp.to_str().unwrap());
    for (cc, cxx, package) in [("gcc", "g++", "gcc (and g++)"), ("clang", "clang++", "clang")] {
        compile(cc, package, &["-std=c99", c]);
        compile(cc, package, &["-std=c11", c]);
        compile(cxx, package, &["-std=c++17", cpp]);
    }
}

#[test]
fn header_works_beside_the_system_headers_of_sockets() {
    let text = "#include <netinet/in.h>\n#include <arpa/inet.h>\n#include <netdb.h>\n#include <asap.h>\n#include <unistd.h>\n#include <sys/epoll.h>\n\
                int main(void) { return 0; }\n";
    let (_keep, c) = source("beside.c", text);
    for (cc, package) in [("gcc", "gcc"), ("clang", "clang")] {
        compile(cc, package, &["-std=c99", "-D_DEFAULT_SOURCE", c.to_str().unwrap()]);
    }
}

#[test]
fn layouts_are_those_of_rsplib_on_64_bit() {
    let layout = root().join("tests/c/layout.c");
    for (cc, package) in [("gcc", "gcc"), ("clang", "clang")] {
        compile(cc, package, &["-std=c11", layout.to_str().unwrap()]);
    }
}

#[test]
fn every_function_is_documented_as_c() {
    let header = generated();
    let mut previous = String::new();
    for block in header.split("/**").skip(1) {
        let Some((comment, code)) = block.split_once("*/") else { continue };
        let code = code.trim_start();
        let declaration = code.split(';').next().unwrap_or("");
        if let Some(name) = ["rsp_", "asap_"].iter().find_map(|p| {
            let at = declaration.find(p)?;
            declaration[at..].contains('(').then(|| declaration[at..].split('(').next().unwrap_or("").trim())
        }) {
            if declaration.starts_with("typedef")
                || declaration.starts_with("struct ") && declaration.contains('{')
            {
                continue;
            }
            for word in ["Threads:", "Fork:", "Since 0."] {
                assert!(comment.contains(word), "{name} does not say {word} (after {previous})");
            }
            if !declaration.starts_with("void") && !declaration.starts_with("const char") {
                for word in ["Returns", "Errors:"] {
                    assert!(
                        comment.contains(word) || comment.contains("errors:"),
                        "{name} does not say {word}"
                    );
                }
            }
            previous = name.to_string();
        }
    }
    assert!(previous.starts_with("asap_"), "no function was found in the header");
}
