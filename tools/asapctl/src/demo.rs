//! The demonstration.

use clap::Args;
use std::path::PathBuf;

#[derive(Args)]
pub struct Demo {
    /// Where the C programs are (stateful_server, stateful_client).
    #[arg(long, value_name = "DIR", default_value = "build")]
    programs: PathBuf,
    /// How many servers to kill.
    #[arg(long, value_name = "N", default_value_t = 8)]
    failovers: u32,
}

pub fn run(_demo: &Demo) -> Result<(), String> {
    Err("not there yet".to_string())
}
