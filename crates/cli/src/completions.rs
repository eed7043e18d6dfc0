//! Shell completion scripts.

use std::io;
use std::process::ExitCode;

use clap::CommandFactory;

use crate::args::{Cli, CompletionsArgs};
use crate::failure::Failure;

pub(crate) fn print(args: &CompletionsArgs) -> Result<ExitCode, Failure> {
    let mut command = Cli::command();
    clap_complete::generate(args.shell, &mut command, "tacit", &mut io::stdout());
    Ok(ExitCode::SUCCESS)
}
