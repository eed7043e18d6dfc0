//! The `tacit` command: reads arguments and environment, and wires the other crates together.

use std::process::ExitCode;

use clap::Parser;

mod analysis;
mod args;
mod completions;
mod diff;
mod dirs;
mod explain;
mod failure;
mod files;
mod objects;
mod output;
mod questions;
mod roles;
mod session;
mod translate;
mod up;

use args::{Cli, Command};
use failure::Failure;

#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

fn main() -> ExitCode {
    let cli = Cli::parse();
    match dispatch(cli) {
        Ok(code) => code,
        Err(failure) => {
            output::complain(&failure.to_string());
            failure.exit_code()
        }
    }
}

fn dispatch(cli: Cli) -> Result<ExitCode, Failure> {
    let place = session::Place::new(&cli.global)?;
    match cli.command {
        Command::Apply(args) => objects::apply(&place, &args),
        Command::Certificate(args) => objects::certificate(&place, &args),
        Command::Check(args) => files::check(&args),
        Command::Completions(args) => Ok(completions::print(&args)),
        Command::Control(args) => roles::control(&place, args),
        Command::Delete(args) => objects::delete(&place, &args),
        Command::Demo(args) => roles::demo(args),
        Command::Diff(args) => diff::diff(&args),
        Command::Down => up::down(&place),
        Command::Explain(args) => explain::explain(&args),
        Command::Get(args) => objects::get(&place, &args),
        Command::Load(args) => roles::load(args),
        Command::Node(args) => roles::node(&place, args),
        Command::Replay(args) => roles::replay(&args),
        Command::Run(args) => roles::run(&place, args),
        Command::Sample(args) => roles::sample(args),
        Command::Simulate(args) => analysis::simulate(&args),
        Command::Status(args) => questions::status(&place, &args),
        Command::Test(args) => analysis::test(&args),
        Command::Token(args) => objects::token(&place, &args),
        Command::Translate(args) => translate::translate(&args),
        Command::Up(args) => up::up(&place, &args),
        Command::Wait(args) => questions::wait(&place, &args),
        Command::Why(args) => questions::why(&place, &args),
    }
}
