//! What the process was told by whoever started it: environment variables, and the file they or the system name. A program
//! that runs with more rights than its caller (set-user-ID, file capabilities) is not told anything by that caller.

use std::ffi::OsString;
use std::io;
use std::path::{Path, PathBuf};

/// Where the file of this host is.
const SYSTEM: &str = "/etc/asap.conf";
/// Its name below the user's own configuration.
const OWN: &str = "asap.conf";
/// A longer file is none of ours.
const LARGEST: u64 = 64 << 10;

/// A variable's value; none if it is not set, empty, or not to be trusted.
fn trusted(name: &str) -> Option<OsString> {
    // SAFETY: no pointers.
    let privileged = unsafe { libc::getauxval(libc::AT_SECURE) } != 0;
    std::env::var_os(name).filter(|value| !privileged && !value.is_empty())
}

/// A variable's value, if it says something.
pub fn variable(name: &str) -> Option<String> {
    trusted(name).map(|value| value.to_string_lossy().into_owned())
}

/// The configuration file and what is in it: the one `ASAP_CONFIG` names, which then has to be there; else the first there is
/// of `asap.conf` in `$XDG_CONFIG_HOME` (`$HOME/.config`), and `/etc/asap.conf`. On failure: the file, and what is wrong.
pub fn configuration() -> Result<Option<(PathBuf, String)>, (PathBuf, io::Error)> {
    let read = |path: PathBuf| match read(&path) {
        Ok(text) => Ok((path, text)),
        Err(e) => Err((path, e)),
    };
    if let Some(path) = trusted("ASAP_CONFIG") {
        return read(path.into()).map(Some);
    }
    let own = trusted("XDG_CONFIG_HOME").map(PathBuf::from);
    let own = own.or_else(|| trusted("HOME").map(|home| Path::new(&home).join(".config")));
    for path in own.map(|folder| folder.join(OWN)).into_iter().chain([SYSTEM.into()]) {
        match read(path) {
            Ok(found) => return Ok(Some(found)),
            // A home that cannot be looked into has none for us.
            Err((_, e))
                if matches!(
                    e.kind(),
                    io::ErrorKind::NotFound | io::ErrorKind::PermissionDenied | io::ErrorKind::NotADirectory
                ) => {}
            Err(failed) => return Err(failed),
        }
    }
    Ok(None)
}

fn read(path: &Path) -> io::Result<String> {
    let about = std::fs::metadata(path)?;
    // A pipe could keep us waiting for ever.
    if !about.is_file() || about.len() > LARGEST {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "no file of at most 64 KiB"));
    }
    std::fs::read_to_string(path)
}
