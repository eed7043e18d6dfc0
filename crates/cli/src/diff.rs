//! `tacit diff`: which calls would have another outcome, and how many observed ones.

use std::path::Path;
use std::process::ExitCode;

use tacit_analysis::Compiled;
use tacit_analysis::diff::{Change, Counter, Diff, Kind, Observations};

use crate::analysis::compile;
use crate::args::{DiffArgs, Format};
use crate::failure::Failure;
use crate::files;
use crate::output;

/// Says which outcomes differ.
pub(crate) fn diff(args: &DiffArgs) -> Result<ExitCode, Failure> {
    let before = compile(&files::parse_all(&args.against)?)?;
    let after = compile(&files::parse_all(&args.file)?)?;
    let mut diff = tacit_analysis::diff::diff(&before, &after);
    if let Some(log) = &args.log {
        diff = observed(&before, &after, diff, log)?;
    }
    let is_same = diff.changes.is_empty() && diff.unknown.is_empty();
    if args.output != Format::Table || !is_same {
        output::data(&output::formatted(args.output, &diff, || diff_text(&diff))?);
    } else {
        output::note("no call to a service has another outcome");
    }
    if let (Some(all), Format::Table) = (&diff.observed, args.output) {
        output::note(&observations(all));
    }
    Ok(if is_same {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

/// Counts the requests of a decision log. What cannot be read of it is said.
fn observed(before: &Compiled, after: &Compiled, diff: Diff, log: &Path) -> Result<Diff, Failure> {
    let mut counter = Counter::new(before, after, diff);
    let reading = tacit_proxy::observed::read(log, |one| counter.add(&one))
        .map_err(|e| Failure::Failed(format!("{}: {e}", log.display())))?;
    for why in &reading.shown {
        output::note(&format!("{}: {why}", log.display()));
    }
    if reading.unreadable + reading.missing > 0 {
        output::note(&format!(
            "{}: {} lines cannot be read and {} decisions are missing, so some requests are not \
             counted",
            log.display(),
            reading.unreadable,
            reading.missing
        ));
    }
    Ok(counter.end())
}

/// The observed requests in a sentence for each number that is not nothing.
fn observations(all: &Observations) -> String {
    let Observations {
        requests,
        concerned,
        unclear,
        unnamed,
        not_covered,
    } = all;
    let mut text = format!(
        "{} of {} observed requests concerned",
        grouped(*concerned),
        grouped(*requests)
    );
    let more = [
        (unclear, "of which the log has too little to tell"),
        (unnamed, "that differ in another way than those above"),
        (not_covered, "to what is not compared"),
    ];
    for (count, what) in more.iter().filter(|(count, _)| **count > 0) {
        text.push_str(&format!("; {} {what}", grouped(**count)));
    }
    text
}

/// A number with its thousands apart.
fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (index, digit) in digits.char_indices() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

fn diff_text(diff: &Diff) -> String {
    let mut text = String::new();
    let mut destination = "";
    for change in &diff.changes {
        if change.destination != destination {
            destination = &change.destination;
            text.push_str(&format!("\n{destination}\n"));
        }
        text.push_str(&change_text(change));
    }
    for why in &diff.unknown {
        text.push_str(&format!("\nno answer: {why}\n"));
    }
    text.trim_start().to_owned()
}

/// Callers in one line of a table; JSON has them all.
const CALLERS: usize = 8;

fn change_text(change: &Change) -> String {
    let observed = change.observed.map_or_else(String::new, |count| {
        let requests = if count == 1 { "request" } else { "requests" };
        format!("    observed: {} {requests}\n", grouped(count))
    });
    let word = match change.change {
        Kind::Added => return format!("  new\n{observed}"),
        Kind::Removed => return format!("  gone\n{observed}"),
        Kind::Rerouted => "goes to",
        Kind::Rewritten => "arrives as",
        Kind::NewlyAllowed => "newly allowed",
        Kind::NewlyDenied => "newly denied",
        Kind::Limits => "timeouts and tries",
        Kind::Routes => "served by",
        Kind::Settings => "settings",
    };
    let Change {
        before,
        after,
        places,
        ..
    } = change;
    let mut text = format!("  {word}: {before} -> {after}\n");
    let shown = change.callers.iter().take(CALLERS).map(String::as_str);
    let mut shown: Vec<&str> = shown.collect();
    let more = format!("{} more", change.callers.len().saturating_sub(CALLERS));
    if change.callers.len() > CALLERS {
        shown.push(&more);
    }
    if !shown.is_empty() {
        text.push_str(&format!("    for {}\n", shown.join(", ")));
    }
    if !places.is_empty() {
        text.push_str(&format!("    at {}\n", places.join(", ")));
    }
    for request in &change.requests {
        text.push_str(&format!("    {request}\n"));
    }
    if let Some(rule) = &change.rule {
        text.push_str(&format!("    following {rule}\n"));
    }
    if let Some(by) = &change.by {
        let line = change.line.as_ref();
        let line = line
            .map(|line| format!(" at {}", line.position))
            .unwrap_or_default();
        text.push_str(&format!("    by {by}{line}\n"));
    }
    text.push_str(&observed);
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn thousands_are_apart() {
        let cases = [
            (0, "0"),
            (999, "999"),
            (1234, "1,234"),
            (5_000_000, "5,000,000"),
        ];
        for (number, text) in cases {
            assert_eq!(grouped(number), text);
        }
    }
}
