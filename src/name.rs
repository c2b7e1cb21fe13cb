//! Names of pools, `pool://HANDLE?OPTION=VALUE&...`, and the settings that a name, the environment and a file give in the
//! same words. Reads text; where the text comes from, and what comes before what, is decided in [`crate::socket`].
//!
//! A name has the handle up to the first `?`. Any byte can be written `%XX`; `%`, and `?` in a handle, `&` in a value, have
//! to be. `+` stands for itself. A handle that begins with `pool://` itself can be written as a name only.

use crate::config::{DialectSetting, Profile};
use crate::policy::Policy;
use crate::types::PoolHandle;
use std::time::Duration;

/// What a name begins with.
pub const SCHEME: &[u8] = b"pool://";
/// The longest name: a handle and options, escaped.
pub const MAX_LEN: usize = 8192;
/// The longest time that can be said: what an int has room for, in milliseconds.
const LONGEST: u64 = i32::MAX as u64;

/// A pool, and how it is to be used.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Name {
    /// The pool.
    pub handle: PoolHandle,
    /// What the name says beside it.
    pub settings: Settings,
}

/// What becomes of a byte stream when its element fails.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum OnFailure {
    /// It ends with ECONNRESET.
    Reset,
    /// It goes on at another element.
    Resume,
}

/// What carries sessions, if it is to be only this.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Carried {
    /// TCP.
    Tcp,
    /// SCTP.
    Sctp,
}

/// What can be said in a name, in the environment and in a file. None: it is not said here.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct Settings {
    /// The policy an element registers with.
    pub policy: Option<Policy>,
    /// How long a call that needs a registrar or an element may take.
    pub timeout: Option<Duration>,
    /// How long opening a connection to one element may take.
    pub connect_timeout: Option<Duration>,
    /// How long a failover may take; none within: for ever.
    pub failover_deadline: Option<Option<Duration>>,
    /// What is to happen when the element fails.
    pub on_failure: Option<OnFailure>,
    /// Registrars: HOST or HOST:PORT each.
    pub registrars: Option<Vec<String>>,
    /// Timers. Of the whole process.
    pub profile: Option<Profile>,
    /// Transport. Of the whole process.
    pub transport: Option<Carried>,
    /// How registrars speak. Of the whole process.
    pub dialect: Option<DialectSetting>,
}

/// Something that can be set.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Setting {
    /// `policy`
    Policy,
    /// `timeout`
    Timeout,
    /// `connect_timeout`
    ConnectTimeout,
    /// `failover_deadline`
    FailoverDeadline,
    /// `failover`
    Failover,
    /// `registrar` in names, `registrars` elsewhere.
    Registrars,
    /// `profile`, not in names.
    Profile,
    /// `transport`, not in names.
    Transport,
    /// `dialect`, not in names.
    Dialect,
}

impl Setting {
    /// All of them.
    pub const ALL: [Setting; 9] = [
        Setting::Policy,
        Setting::Timeout,
        Setting::ConnectTimeout,
        Setting::FailoverDeadline,
        Setting::Failover,
        Setting::Registrars,
        Setting::Profile,
        Setting::Transport,
        Setting::Dialect,
    ];

    /// Its key in a file; `ASAP_` and the same in capitals is its variable.
    pub fn key(self) -> &'static str {
        match self {
            Setting::Policy => "policy",
            Setting::Timeout => "timeout",
            Setting::ConnectTimeout => "connect_timeout",
            Setting::FailoverDeadline => "failover_deadline",
            Setting::Failover => "failover",
            Setting::Registrars => "registrars",
            Setting::Profile => "profile",
            Setting::Transport => "transport",
            Setting::Dialect => "dialect",
        }
    }

    /// Its environment variable.
    pub fn variable(self) -> String {
        format!("ASAP_{}", self.key().to_ascii_uppercase())
    }

    /// Its option in a name, if it can be said there.
    fn option(self) -> Option<&'static str> {
        match self {
            Setting::Registrars => Some("registrar"),
            Setting::Profile | Setting::Transport | Setting::Dialect => None,
            Setting::Policy
            | Setting::Timeout
            | Setting::ConnectTimeout
            | Setting::FailoverDeadline
            | Setting::Failover => Some(self.key()),
        }
    }
}

impl Settings {
    /// Sets one from its text. A sentence says what is wrong with it.
    pub fn set(&mut self, setting: Setting, text: &str) -> Result<(), String> {
        match setting {
            Setting::Policy => self.policy = Some(text.parse()?),
            Setting::Timeout => self.timeout = Some(time(text)?),
            Setting::ConnectTimeout => self.connect_timeout = Some(time(text)?),
            Setting::FailoverDeadline => {
                self.failover_deadline = Some(if text == "none" { None } else { Some(time(text)?) });
            }
            Setting::Failover => {
                self.on_failure = Some(match text {
                    "reset" => OnFailure::Reset,
                    "resume" => OnFailure::Resume,
                    _ => return Err(format!("{text:?} is neither reset nor resume")),
                });
            }
            Setting::Registrars => {
                let names = text.split(',').map(str::trim).filter(|name| !name.is_empty());
                self.registrars.get_or_insert_default().extend(names.map(str::to_owned));
            }
            Setting::Profile => {
                self.profile =
                    Some(Profile::by_name(text).ok_or_else(|| {
                        format!("there is no profile {text:?}; there are lan, wan and rfc")
                    })?);
            }
            Setting::Transport => {
                self.transport = match text {
                    "auto" => None,
                    "tcp" => Some(Carried::Tcp),
                    "sctp" => Some(Carried::Sctp),
                    _ => return Err(format!("{text:?} is none of auto, tcp and sctp")),
                };
            }
            Setting::Dialect => {
                self.dialect = Some(DialectSetting::by_name(text).ok_or_else(|| {
                    format!("there is no dialect {text:?}; there are auto, rfc and rsplib")
                })?);
            }
        }
        Ok(())
    }

    /// These, and `others` where these say nothing.
    pub fn or(self, others: &Settings) -> Settings {
        Settings {
            policy: self.policy.or(others.policy),
            timeout: self.timeout.or(others.timeout),
            connect_timeout: self.connect_timeout.or(others.connect_timeout),
            failover_deadline: self.failover_deadline.or(others.failover_deadline),
            on_failure: self.on_failure.or(others.on_failure),
            registrars: self.registrars.or_else(|| others.registrars.clone()),
            profile: self.profile.or(others.profile),
            transport: self.transport.or(others.transport),
            dialect: self.dialect.or(others.dialect),
        }
    }

    /// Those of a file: `key = value` lines, the value in double quotes or not; `#` begins a comment at the start of a
    /// line or after a space. Everything it says has to be right.
    pub fn read(text: &str) -> Result<Settings, String> {
        let mut settings = Settings::default();
        for (number, line) in (1..).zip(text.lines()) {
            let wrong = |what: String| format!("line {number}: {what}");
            let line = line.trim();
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            let (key, value) =
                line.split_once('=').ok_or_else(|| wrong(format!("{line:?} is no KEY = VALUE")))?;
            let key = key.trim();
            let setting = Setting::ALL.into_iter().find(|setting| setting.key() == key);
            let setting = setting.ok_or_else(|| {
                wrong(format!("{key:?} is unknown; there are {}", list(Setting::ALL.map(Setting::key))))
            })?;
            let value = value_of(value.trim()).map_err(wrong)?;
            settings.set(setting, value).map_err(|what| wrong(format!("{key}: {what}")))?;
        }
        Ok(settings)
    }
}

/// The value of a line, without quotes and comment.
fn value_of(text: &str) -> Result<&str, String> {
    if let Some(quoted) = text.strip_prefix('"') {
        let (value, rest) = quoted.split_once('"').ok_or_else(|| format!("{text} lacks its second quote"))?;
        let rest = rest.trim();
        return if rest.is_empty() || rest.starts_with('#') {
            Ok(value)
        } else {
            Err(format!("there is {rest:?} behind the value"))
        };
    }
    let comment = text.find(" #").or_else(|| text.find("\t#"));
    let value = comment.map_or(text, |at| text.get(..at).unwrap_or_default()).trim();
    if value.is_empty() || value.starts_with('#') { Err("there is no value".to_owned()) } else { Ok(value) }
}

/// A time: a number with `ms`, `s` or `m`; milliseconds without.
fn time(text: &str) -> Result<Duration, String> {
    let units = [("ms", 1), ("s", 1_000), ("m", 60_000)];
    let unit = units.iter().find_map(|(unit, ms)| Some((text.strip_suffix(unit)?, *ms)));
    let (number, unit) = unit.unwrap_or((text, 1));
    let digits = !number.is_empty() && number.bytes().all(|b| b.is_ascii_digit());
    let ms = if digits { number.parse::<u64>().ok().and_then(|n| n.checked_mul(unit)) } else { None };
    match ms {
        Some(ms @ 1..=LONGEST) => Ok(Duration::from_millis(ms)),
        Some(_) | None => Err(format!("{text:?} is no time from 1ms to {LONGEST}ms (say 500ms, 5s, 2m)")),
    }
}

fn list<const N: usize>(words: [&str; N]) -> String {
    words.join(", ")
}

impl Name {
    /// Whether bytes given for a handle are a name.
    pub fn is_one(bytes: &[u8]) -> bool {
        bytes.starts_with(SCHEME)
    }

    /// Reads a name. A sentence says what is wrong with it.
    pub fn parse(bytes: &[u8]) -> Result<Name, String> {
        let shown = bytes.escape_ascii();
        let rest =
            bytes.strip_prefix(SCHEME).ok_or_else(|| format!("{shown}: a name begins with pool://"))?;
        let (handle, options) = match rest.iter().position(|b| *b == b'?') {
            Some(at) => (rest.get(..at).unwrap_or_default(), rest.get(at + 1..)),
            None => (rest, None),
        };
        let wrong = |what: String| format!("{shown}: {what}");
        let handle = unescaped(handle).map_err(wrong)?;
        let handle = PoolHandle::new(&handle)
            .ok_or_else(|| format!("{shown}: there is no pool handle after pool://"))?;
        let mut settings = Settings::default();
        let mut seen = Vec::new();
        for option in options.unwrap_or_default().split(|b| *b == b'&') {
            if options.is_none() {
                break;
            }
            let text = option.escape_ascii();
            let at = option.iter().position(|b| *b == b'=');
            let at = at.ok_or_else(|| wrong(format!("\"{text}\" is no OPTION=VALUE")))?;
            let (key, value) =
                (option.get(..at).unwrap_or_default(), option.get(at + 1..).unwrap_or_default());
            let named = |setting: &Setting| setting.option().is_some_and(|name| name.as_bytes() == key);
            let setting = Setting::ALL.into_iter().find(named).ok_or_else(|| {
                let known: Vec<&str> = Setting::ALL.into_iter().filter_map(Setting::option).collect();
                let key = key.escape_ascii();
                wrong(format!("there is no option \"{key}\"; there are {}", known.join(", ")))
            })?;
            if seen.contains(&setting) && setting != Setting::Registrars {
                return Err(wrong(format!("{} is said twice", setting.key())));
            }
            seen.push(setting);
            let value = unescaped(value).map_err(wrong)?;
            let value =
                String::from_utf8(value).map_err(|_| wrong(format!("\"{text}\" is no text (UTF-8)")))?;
            let key = key.escape_ascii();
            settings.set(setting, &value).map_err(|what| wrong(format!("{key}: {what}")))?;
        }
        Ok(Name { handle, settings })
    }
}

fn unescaped(text: &[u8]) -> Result<Vec<u8>, String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text;
    while let Some((first, after)) = rest.split_first() {
        rest = after;
        if *first != b'%' {
            bytes.push(*first);
            continue;
        }
        let digits = after.get(..2).and_then(|digits| std::str::from_utf8(digits).ok());
        let byte = digits
            .filter(|digits| digits.bytes().all(|b| b.is_ascii_hexdigit()))
            .and_then(|digits| u8::from_str_radix(digits, 16).ok())
            .ok_or("after % two hexadecimal digits are wanted (% itself is %25)")?;
        bytes.push(byte);
        rest = after.get(2..).unwrap_or_default();
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(text: &str) -> Result<Name, String> {
        Name::parse(text.as_bytes())
    }

    #[test]
    fn a_handle_can_be_any_bytes() {
        let handle = |text: &str| name(text).unwrap().handle.as_bytes().to_vec();
        assert_eq!(handle("pool://EchoPool"), b"EchoPool");
        assert_eq!(handle("pool://EchoPool?timeout=1s"), b"EchoPool");
        assert_eq!(handle("pool://a/b:c@d#e+f"), b"a/b:c@d#e+f");
        assert_eq!(handle("pool://%00%fF%3f%25"), b"\x00\xff?%");
        assert_eq!(handle("pool://pool%3a//x"), b"pool://x");
        assert!(Name::is_one(b"pool://x") && !Name::is_one(b"pool:/x") && !Name::is_one(b"xpool://"));
    }

    #[test]
    fn options_are_read_with_their_units() {
        let settings = name(
            "pool://P?policy=WeightedRandom:7&timeout=1500&connect_timeout=2s&failover=resume&failover_deadline=3m\
             &registrar=10.0.0.1,%5b::1%5d:99&registrar=r.example",
        )
        .unwrap()
        .settings;
        assert_eq!(
            settings.policy.map(|p| (p.policy_type().name(), p.words().to_vec())),
            Some(("WeightedRandom", vec![7]))
        );
        assert_eq!(settings.timeout, Some(Duration::from_millis(1500)));
        assert_eq!(settings.connect_timeout, Some(Duration::from_secs(2)));
        assert_eq!(settings.failover_deadline, Some(Some(Duration::from_secs(180))));
        assert_eq!(settings.on_failure, Some(OnFailure::Resume));
        assert_eq!(settings.registrars.unwrap(), ["10.0.0.1", "[::1]:99", "r.example"]);
        let forever = name("pool://P?failover_deadline=none").unwrap().settings;
        assert_eq!(forever.failover_deadline, Some(None));
    }

    #[test]
    fn what_is_wrong_with_a_name_is_said() {
        for (text, word) in [
            ("pool://", "no pool handle"),
            ("pool://?timeout=1s", "no pool handle"),
            ("pool://P?", "OPTION=VALUE"),
            ("pool://P?timeout=1s&", "OPTION=VALUE"),
            ("pool://P?timeout", "OPTION=VALUE"),
            ("pool://P?tiemout=1s", "no option \"tiemout\""),
            ("pool://P?profile=lan", "no option \"profile\""),
            ("pool://P?timeout=0", "timeout: \"0\""),
            ("pool://P?timeout=-1", "no time"),
            ("pool://P?timeout=+1", "no time"),
            ("pool://P?timeout=1h", "no time"),
            ("pool://P?timeout=99999999999999999999s", "no time"),
            ("pool://P?timeout=2147483648", "no time"),
            ("pool://P?timeout=1s&timeout=2s", "said twice"),
            ("pool://P?policy=Best", "policy: no policy is called Best"),
            ("pool://P?policy=LeastUsed", "takes 1 values"),
            ("pool://P?failover=maybe", "neither reset nor resume"),
            ("pool://P%", "hexadecimal"),
            ("pool://P%+1", "hexadecimal"),
            ("pool://P?registrar=%ff", "UTF-8"),
        ] {
            let said = name(text).unwrap_err();
            assert!(said.contains(word), "{text}: {said}");
        }
    }

    #[test]
    fn a_file_has_the_same_words_a_line_each() {
        let text = "# who we are\n\n registrars = \"10.0.0.1, 10.0.0.2:99\" # two\nprofile=wan\ntimeout = 2s # so long\ntransport = tcp\n";
        let settings = Settings::read(text).unwrap();
        assert_eq!(settings.registrars.clone().unwrap(), ["10.0.0.1", "10.0.0.2:99"]);
        assert_eq!((settings.profile, settings.transport), (Some(Profile::Wan), Some(Carried::Tcp)));
        let named = Settings { timeout: Some(Duration::from_secs(1)), ..Settings::default() };
        let both = named.or(&settings);
        assert_eq!((both.timeout, both.profile), (Some(Duration::from_secs(1)), Some(Profile::Wan)));
        for (text, word) in [
            ("a\nb", "line 1"),
            ("\ntimeout = never", "line 2: timeout: \"never\""),
            ("tiemout = 1s", "unknown; there are policy"),
            ("timeout =", "no value"),
            ("timeout = # none", "no value"),
            ("profile = \"lan", "second quote"),
            ("profile = \"lan\" x", "behind the value"),
        ] {
            let said = Settings::read(text).unwrap_err();
            assert!(said.contains(word), "{text:?}: {said}");
        }
    }
}
