//! The command line reads as its help says.

use clap::CommandFactory;

use super::*;

#[test]
fn no_two_options_collide() {
    Cli::command().debug_assert();
    let words = [
        "tacit", "run", "--as", "a/b", "--port", "http:80", "--", "true", "-x",
    ];
    let cli = Cli::try_parse_from(words).unwrap();
    assert!(matches!(cli.command, Command::Run(args) if args.command == ["true", "-x"]));
}
