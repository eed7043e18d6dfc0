//! Shell completion scripts.

use std::process::ExitCode;

use clap::CommandFactory;

use crate::args::{Cli, CompletionsArgs};
use crate::output;

pub(crate) fn print(args: &CompletionsArgs) -> ExitCode {
    let mut command = Cli::command();
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut command, "tacit", &mut script);
    output::data(&String::from_utf8_lossy(&script));
    ExitCode::SUCCESS
}
