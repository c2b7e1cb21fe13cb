//! Who may import whom: reads the `crate::` paths of each module and holds the table of the design.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

const LOW: &[&str] = &["types", "codec", "policy", "wire", "timer", "machine", "config"];

/// A module and what it may import.
fn allowed(module: &str) -> Vec<&'static str> {
    match module {
        // The pool element carries its policy.
        "types" => vec!["policy"],
        "codec" => vec![],
        "timer" | "config" | "machine" => vec!["types"],
        "policy" => vec!["types", "codec"],
        "name" => vec!["types", "config", "policy"],
        // The setting of the dialect.
        "wire" => vec!["types", "codec", "policy", "config"],
        "csp" => vec!["types", "codec", "machine"],
        "handlespace" => vec!["types", "policy", "codec", "machine", "timer"],
        "endpoint" => LOW.to_vec(),
        // A session is told resolutions, in the endpoint's words.
        "session" => [LOW, &["endpoint"]].concat(),
        "registrar" => [LOW, &["handlespace", "csp"]].concat(),
        "runtime" => vec!["types", "codec", "machine", "config", "timer"],
        "socket" => {
            vec![
                "types", "config", "name", "policy", "machine", "timer", "csp", "endpoint", "session",
                "runtime",
            ]
        }
        "hosting" => {
            vec!["types", "config", "policy", "machine", "csp", "handlespace", "registrar", "runtime"]
        }
        "capi" => vec!["types", "config", "name", "policy", "csp", "session", "socket", "hosting", "runtime"],
        other => panic!("src/{other} is not in the table: say here what it may import"),
    }
}

fn sources(path: &Path, into: &mut Vec<PathBuf>) {
    if path.is_dir() {
        for entry in fs::read_dir(path).expect("a folder") {
            sources(&entry.expect("an entry").path(), into);
        }
    } else if path.extension().is_some_and(|e| e == "rs") {
        into.push(path.to_path_buf());
    }
}

fn module_of(file: &Path, src: &Path) -> String {
    let inside = file.strip_prefix(src).expect("inside src");
    let first = inside.components().next().expect("a name").as_os_str().to_string_lossy().into_owned();
    first.trim_end_matches(".rs").to_string()
}

/// The modules named by `crate::` paths, outside comments and tests.
fn imports(source: &str) -> BTreeSet<String> {
    let shipped = source.split("#[cfg(test)]\nmod ").next().unwrap_or(source);
    let code: String =
        shipped.lines().map(|line| line.split("//").next().unwrap_or("")).collect::<Vec<_>>().join("\n");
    let mut found = BTreeSet::new();
    for rest in code.split("crate::").skip(1) {
        let names: Vec<&str> = match rest.strip_prefix('{') {
            Some(list) => list.split(',').collect(),
            None => vec![rest],
        };
        for name in names {
            let name: String =
                name.trim_start().chars().take_while(|c| c.is_ascii_alphanumeric() || *c == '_').collect();
            found.insert(name);
        }
    }
    found
}

#[test]
fn imports_stay_within_the_table() {
    let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut files = Vec::new();
    sources(&src, &mut files);
    let mut wrong = Vec::new();
    for file in files {
        let module = module_of(&file, &src);
        if module == "lib" {
            continue;
        }
        let may = allowed(&module);
        for import in imports(&fs::read_to_string(&file).expect("readable")) {
            if import != module && !may.contains(&import.as_str()) {
                wrong.push(format!("{} imports {import}", file.display()));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn machines_have_no_clock_no_io_and_no_unsafe_code() {
    let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut wrong = Vec::new();
    for module in [
        "types",
        "codec",
        "timer",
        "policy",
        "wire",
        "csp",
        "handlespace",
        "machine",
        "config",
        "name",
        "endpoint",
        "session",
        "registrar",
    ] {
        let mut files = Vec::new();
        for path in [src.join(module), src.join(format!("{module}.rs"))] {
            if path.exists() {
                sources(&path, &mut files);
            }
        }
        assert!(!files.is_empty(), "src/{module} is gone");
        for file in files {
            let source = fs::read_to_string(&file).expect("readable");
            let shipped = source.split("#[cfg(test)]\nmod ").next().unwrap_or(&source);
            for (number, line) in shipped.lines().enumerate() {
                let code = line.split("//").next().unwrap_or("");
                for forbidden in [
                    "unsafe ",
                    "std::time::Instant",
                    "SystemTime",
                    "std::thread",
                    "std::fs",
                    "HashMap",
                    "f64",
                    "f32",
                    "Mutex",
                    "static mut",
                ] {
                    if code.contains(forbidden) {
                        wrong.push(format!("{}:{}: {forbidden}", file.display(), number + 1));
                    }
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn the_reader_of_imports_sees_lists_and_ignores_comments_and_tests() {
    let source = "use crate::{codec, types::Time};\n// crate::socket\nfn f(x: crate::wire::X) {}\n#[cfg(test)]\nmod tests { use crate::capi; }";
    let found: Vec<String> = imports(source).into_iter().collect();
    assert_eq!(found, ["codec", "types", "wire"]);
}
