//! Programs that tests run.

use std::process::{Command, Stdio};

/// Whether `tests/run`, or the lab, has said that this is to be done without.
pub fn left_out(what: &str) -> bool {
    let without = std::env::var("ASAP_TEST_WITHOUT").unwrap_or_default();
    let out = without.split_whitespace().any(|word| word == what);
    if out {
        eprintln!("left out: what needs {what}");
    }
    out
}

/// Whether the tool is to be used. It has to be there, unless `tests/run` has said that it is to do without.
pub fn have(tool: &str, package: &str) -> bool {
    if left_out(tool) {
        return false;
    }
    let found = Command::new(tool).arg("--version").stdout(Stdio::null()).stderr(Stdio::null()).status();
    assert!(found.is_ok(), "{tool} is not here: apt-get install {package}");
    true
}
