//! All automation of the project: `cargo xtask tidy | gen | bench | bench-engine`.

use std::process::ExitCode;

mod bench;
mod engine;
mod r#gen;
mod tidy;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let outcome = match words[..] {
        ["tidy"] => tidy::run(),
        ["gen"] => r#gen::run(false),
        ["gen", "--check"] => r#gen::run(true),
        ["bench", ref arguments @ ..] => bench::run(arguments),
        ["bench-engine", ref arguments @ ..] => engine::run(arguments),
        _ => Err(vec![
            "usage: cargo xtask tidy | gen [--check] | bench [OPTIONS] | bench-engine [--tenth]"
                .to_owned(),
        ]),
    };
    match outcome {
        Ok(summary) => {
            say(&summary);
            ExitCode::SUCCESS
        }
        Err(problems) => {
            for problem in &problems {
                say(problem);
            }
            ExitCode::FAILURE
        }
    }
}

#[expect(clippy::print_stdout, reason = "the one place where automation speaks")]
fn say(text: &str) {
    println!("{text}");
}
