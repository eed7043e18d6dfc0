//! Options of `tacit diff`.

use std::path::PathBuf;

use clap::Args;

use super::Format;

const DIFF_EXAMPLES: &str = "\
Examples:
  tacit diff -f new/ --against mesh/
  tacit diff -f new/ --against mesh/ --log decisions.jsonl
  git worktree add /tmp/before main && tacit diff -f mesh/ --against /tmp/before/mesh/";

#[derive(Args, Debug)]
#[command(after_help = DIFF_EXAMPLES)]
pub(crate) struct DiffArgs {
    /// A file or directory of YAML with the mesh as it would be; may be repeated.
    #[arg(short, long, required = true)]
    pub(crate) file: Vec<PathBuf>,
    /// A file or directory of YAML with the mesh as it is; may be repeated.
    #[arg(long, required = true)]
    pub(crate) against: Vec<PathBuf>,
    /// A decision log of the mesh as it is (`tacit up --decision-log FILE`, with `FILE.generations`
    /// beside it): each difference says how many of its requests it concerns.
    #[arg(long, value_name = "FILE")]
    pub(crate) log: Option<PathBuf>,
    /// How to print.
    #[arg(short, long, value_enum, default_value = "table")]
    pub(crate) output: Format,
}
