//! The built library for tests that look at it, or link with it, as a C program does.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

/// The directory of the repository.
pub fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Builds the workspace as this test was built, into the ordinary target directory, and gives the directory in which `libasap.so`, `libasap.a` and
/// the programs are. `libasap.so.0` is there, too, as installing would make it, and `librsplib.so.3` in the directory `rsplib`: programs
/// that are to have RSPLIB's own must not find ours beside `libasap.so`.
///
/// Once in a process, and always all of it: built for one package alone the library has other features of its dependencies, and cargo
/// would put one in the place of the other again and again, while programs use it.
pub fn build() -> PathBuf {
    static BUILT: OnceLock<PathBuf> = OnceLock::new();
    let directory = BUILT.get_or_init(|| {
        cargo();
        let directory = target();
        link("libasap.so", &directory.join("libasap.so.0"));
        std::fs::create_dir_all(directory.join("rsplib")).expect("a directory for the library");
        link("../librsplib.so", &directory.join("rsplib/librsplib.so.3"));
        directory
    });
    directory.clone()
}

fn link(library: &str, name: &Path) {
    // Another test may make the same link at the same moment.
    let _ = std::os::unix::fs::symlink(library, name);
    assert!(name.exists(), "{} is no library", name.display());
}

fn cargo() {
    // In the lab everything was built before, on the host.
    let without = std::env::var("ASAP_TEST_WITHOUT").unwrap_or_default();
    if without.split_whitespace().any(|word| word == "cargo") {
        return;
    }
    let mut command = Command::new(env!("CARGO"));
    command.args(["build", "--quiet", "--workspace"]).current_dir(root());
    if !cfg!(debug_assertions) {
        command.arg("--release");
    }
    let output = command.output().expect("cargo runs");
    assert!(output.status.success(), "cargo build:\n{}", String::from_utf8_lossy(&output.stderr));
}

fn target() -> PathBuf {
    let base = std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| root().join("target"), PathBuf::from);
    base.join(if cfg!(debug_assertions) { "debug" } else { "release" })
}
