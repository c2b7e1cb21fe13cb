//! The built library for tests that look at it, or link with it, as a C program does.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

/// The directory of the repository.
pub fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Builds `libasap.so` and `libasap.a` (and the programs of the workspace that are asked for) as this test was built, into the ordinary
/// target directory, and gives the directory they are in. `libasap.so.0` is there, too, as installing would make it. If `librsplib` is asked for,
/// it is `librsplib.so.3` in the directory `rsplib` there: programs that are to have RSPLIB's own must not find ours beside `libasap.so`.
pub fn build(programs: &[&str]) -> PathBuf {
    static LIBRARY: OnceLock<PathBuf> = OnceLock::new();
    let directory = LIBRARY.get_or_init(|| {
        cargo(&["--lib", "--package", "libasap"]);
        let directory = target();
        link("libasap.so", &directory.join("libasap.so.0"));
        directory
    });
    for program in programs {
        if *program == "librsplib" {
            cargo(&["--package", program]);
            std::fs::create_dir_all(directory.join("rsplib")).expect("a directory for the library");
            link("../librsplib.so", &directory.join("rsplib/librsplib.so.3"));
        } else {
            cargo(&["--package", program, "--bin", program]);
        }
    }
    directory.clone()
}

fn link(library: &str, name: &Path) {
    // Another test may make the same link at the same moment.
    let _ = std::os::unix::fs::symlink(library, name);
    assert!(name.exists(), "{} is no library", name.display());
}

fn cargo(what: &[&str]) {
    // In the lab everything was built before, on the host.
    let without = std::env::var("ASAP_TEST_WITHOUT").unwrap_or_default();
    if without.split_whitespace().any(|word| word == "cargo") {
        return;
    }
    let mut command = Command::new(env!("CARGO"));
    command.arg("build").arg("--quiet").args(what).current_dir(root());
    if !cfg!(debug_assertions) {
        command.arg("--release");
    }
    let output = command.output().expect("cargo runs");
    assert!(output.status.success(), "cargo build {what:?}:\n{}", String::from_utf8_lossy(&output.stderr));
}

fn target() -> PathBuf {
    let base = std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| root().join("target"), PathBuf::from);
    base.join(if cfg!(debug_assertions) { "debug" } else { "release" })
}
