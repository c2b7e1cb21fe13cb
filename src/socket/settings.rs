//! What comes before what: a call's arguments and its name, the environment, a file, what works by itself. Environment and
//! file are read when a context starts.

use super::{Result, SocketOptions, errors};
use crate::name::{OnFailure, Setting, Settings};
use crate::runtime::environment;

/// What environment and file say.
pub(super) fn given() -> Result<Settings> {
    let mut settings = Settings::default();
    for setting in Setting::ALL {
        let variable = setting.variable();
        if let Some(text) = environment::variable(&variable) {
            settings.set(setting, &text).map_err(|what| invalid(&variable, &what))?;
        }
    }
    let file = environment::configuration().map_err(|(path, e)| {
        let what = format!("the configuration file {} cannot be read: {e}", path.display());
        errors::error(e.raw_os_error().unwrap_or(libc::EINVAL), what)
    })?;
    match file {
        Some((path, text)) => {
            let path = path.display().to_string();
            let file = Settings::read(&text).map_err(|what| invalid(&path, &what))?;
            log::info!("configured by {path}");
            Ok(settings.or(&file))
        }
        None => Ok(settings),
    }
}

fn invalid(place: &str, what: &str) -> super::Error {
    errors::error(libc::EINVAL, format!("{place}: {what}"))
}

impl SocketOptions {
    /// Takes over what a name, or environment and file, say about sessions. What is to happen when an element fails is
    /// taken from names only: for the programs that use sockets of ours it is part of the interface.
    pub(super) fn apply(&mut self, settings: &Settings) {
        if let Some(time) = settings.connect_timeout {
            self.session.connect_timeout = time;
        }
        if let Some(deadline) = settings.failover_deadline {
            self.session.failover_deadline = deadline;
        }
        if let Some(time) = settings.timeout {
            self.call_timeout = Some(time);
        }
    }

    /// The same of a name that is given for this descriptor.
    pub(super) fn apply_name(&mut self, settings: &Settings) {
        self.apply(settings);
        if let Some(on_failure) = settings.on_failure {
            self.session.automatic_failover = on_failure == OnFailure::Resume;
        }
    }
}
