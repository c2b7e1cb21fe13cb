//! The log for programs that do not take it themselves (`asap_set_log`): with ASAP_LOG in the environment it is printed to standard error.
//!
//! RSPLIB's programs know no other: for them the library prints its errors unasked, and understands `-loglevel=` and its like.
//! Some of these programs also print through a library of RSPLIB's, libtdloglevel, and count on the session library to set that up: without
//! `beginLogging` they crash at their first line. Nothing of it is needed here; where a program has brought it along it is told what
//! it would be told by RSPLIB, it alone says what is printed, and our lines go where its lines go.

use super::error;
use crate::runtime::environment;
use crate::socket::{Result, Semantics};
use parking_lot::Mutex;
use std::ffi::{CStr, CString};
use std::fs::{File, OpenOptions};
use std::io::Write;
use std::os::raw::{c_char, c_int, c_uint, c_void};

/// What `-log...` has said, where there is no libtdloglevel.
struct Settings {
    /// RSPLIB's: 0 nothing, 1 errors, 2 warnings, 3 and 4 what is going on, up to 9 more and more.
    level: c_uint,
    file: Option<File>,
}

static SETTINGS: Mutex<Settings> = Mutex::new(Settings { level: 1, file: None });

/// Looks at a word that begins with "-log"; whether it is one of ours.
pub(super) fn understood(word: &CStr) -> Result<bool> {
    if let Some(init_logging) = symbol(c"initLogging") {
        // SAFETY: libtdloglevel's `bool initLogging(const char*)`; the word is a C string.
        let known = unsafe {
            let init_logging: unsafe extern "C" fn(*const c_char) -> u8 = std::mem::transmute(init_logging);
            init_logging(word.as_ptr())
        };
        return Ok(known != 0);
    }
    let text = word.to_string_lossy();
    let (name, value) = text.split_once('=').unwrap_or((&text, ""));
    let mut settings = SETTINGS.lock();
    match (name, value) {
        ("-logquiet", "") => settings.level = 0,
        ("-loglevel", level) => match level.parse() {
            Ok(level) => settings.level = level,
            Err(_) => return error(libc::EINVAL, format!("-loglevel={level}: 0 to 9 are possible")),
        },
        ("-logfile" | "-logappend", path) => {
            let append = name == "-logappend";
            let opened =
                OpenOptions::new().create(true).write(true).append(append).truncate(!append).open(path);
            match opened {
                Ok(file) => settings.file = Some(file),
                Err(e) => {
                    return error(e.raw_os_error().unwrap_or(libc::EINVAL), format!("{name}={path}: {e}"));
                }
            }
        }
        // Nothing is coloured.
        ("-logcolor", "on" | "off") => {}
        _ => return Ok(false),
    }
    Ok(true)
}

/// Begins to print, if that is wanted, and if the program has not taken the log. To be called before the library is started, however that is;
/// a second time nothing changes.
pub(super) fn open() -> Result<()> {
    let asked = environment::variable("ASAP_LOG").map(|level| {
        let unknown = |_| {
            error(
                libc::EINVAL,
                format!("ASAP_LOG: {level:?} is none of error, warn, info, debug, trace, off"),
            )
        };
        level.parse::<log::LevelFilter>().or_else(unknown)
    });
    let unasked = rsplibs().then(|| {
        call(c"beginLogging");
        match Foreign::find() {
            // SAFETY: libtdloglevel's variable, which is there as long as the program is.
            Some(foreign) => unsafe { foreign.level.read_volatile() },
            None => SETTINGS.lock().level,
        }
    });
    let unasked = unasked.map(|level| match level {
        0 => log::LevelFilter::Off,
        1 => log::LevelFilter::Error,
        2 => log::LevelFilter::Warn,
        3 | 4 => log::LevelFilter::Info,
        5 | 6 => log::LevelFilter::Debug,
        7.. => log::LevelFilter::Trace,
    });
    if let Some(filter) = asked.transpose()?.or(unasked) {
        super::context::log_unless_taken(print, filter);
    }
    Ok(())
}

/// Prints no more.
pub(super) fn close() {
    super::context::end_log(print);
    if rsplibs() {
        call(c"finishLogging");
    }
}

/// Whether the program is one of RSPLIB's.
fn rsplibs() -> bool {
    !Semantics::chosen().prints_nothing
}

/// One line.
unsafe extern "C" fn print(level: c_int, part: *const c_char, text: *const c_char, _: *mut c_void) {
    const LEVELS: [&str; 5] = ["error", "warning", "note", "detail", "trace"];
    let level =
        usize::try_from(level).ok().and_then(|level| LEVELS.get(level.wrapping_sub(1))).unwrap_or(&"");
    // SAFETY: C strings, by asap_log_callback's promise.
    let (part, text) =
        unsafe { (CStr::from_ptr(part).to_string_lossy(), CStr::from_ptr(text).to_string_lossy()) };
    let line = format!("{} {part} {level}: {text}\n", time());
    match Foreign::find() {
        Some(foreign) => foreign.print(line),
        None => {
            // Nobody is there to be told that there is no room for it.
            let _ = match &mut SETTINGS.lock().file {
                Some(file) => file.write_all(line.as_bytes()),
                None => std::io::stderr().write_all(line.as_bytes()),
            };
        }
    }
}

/// The time of day, as the program's zone has it.
fn time() -> String {
    let mut text = [0u8; 32];
    // SAFETY: all zeros is a `tm`; the pointers are to variables that live during the calls; strftime writes a C string
    // within the length given.
    unsafe {
        let (now, mut parts) = (libc::time(std::ptr::null_mut()), std::mem::zeroed::<libc::tm>());
        if libc::localtime_r(&raw const now, &raw mut parts).is_null() {
            return String::new();
        }
        let format = c"%F %T";
        libc::strftime(text.as_mut_ptr().cast(), text.len(), format.as_ptr(), &raw const parts);
    }
    CStr::from_bytes_until_nul(&text).map(|text| text.to_string_lossy().into_owned()).unwrap_or_default()
}

/// The variables of libtdloglevel.
struct Foreign {
    level: *const c_uint,
    /// Points to a pointer to the stream, which is NULL before `beginLogging`.
    stream: *const *const *mut libc::FILE,
}

impl Foreign {
    fn find() -> Option<Foreign> {
        if !rsplibs() {
            return None;
        }
        let (level, stream) = (symbol(c"gLogLevel")?, symbol(c"gStdLog")?);
        Some(Foreign { level: level.cast(), stream: stream.cast() })
    }

    fn print(&self, line: String) {
        // SAFETY: libtdloglevel's variable; see its fields. Streams have locks of their own.
        let stream = unsafe {
            let at = self.stream.read_volatile();
            if at.is_null() { std::ptr::null_mut() } else { at.read_volatile() }
        };
        if let (false, Ok(line)) = (stream.is_null(), CString::new(line)) {
            // SAFETY: an open stream, and a C string that lives during the call.
            unsafe {
                libc::fputs(line.as_ptr(), stream);
                libc::fflush(stream);
            }
        }
    }
}

/// Calls a function without arguments or result, if the process has it.
fn call(name: &CStr) {
    if let Some(function) = symbol(name) {
        // SAFETY: libtdloglevel's functions of these names take and give nothing.
        unsafe {
            let function: unsafe extern "C" fn() = std::mem::transmute(function);
            function();
        }
    }
}

/// What the process has under a name: of the program itself, or of a library loaded with it.
fn symbol(name: &CStr) -> Option<*mut c_void> {
    // SAFETY: a C string.
    let at = unsafe { libc::dlsym(libc::RTLD_DEFAULT, name.as_ptr()) };
    (!at.is_null()).then_some(at)
}
