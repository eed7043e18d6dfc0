//! Runs PolicyTests: what must come of calls, against what would.
//!
//! A case holds if what it says is true of every caller that fits it and of every endpoint that
//! may serve it, whatever the dice say.

use std::collections::BTreeMap;
use std::fmt;

use serde::Serialize;
use tacit_api::Located;
use tacit_api::policy_test::{Case, PolicyTest};
use tacit_decide::State;
use tacit_decide::why::parse_target;
use tacit_model::Provenance;
use tacit_model::finding::{Finding, Position, Severity};

use crate::call::{Caller, Target, ask};
use crate::compiled::{Compiled, Line, position_of};
use crate::down::Down;

mod callers;
mod compare;

/// What came of all tests.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Report {
    /// Every case, in the order of the files.
    pub cases: Vec<CaseResult>,
}

/// What came of a case.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct CaseResult {
    /// The test.
    pub test: String,
    /// Which of its cases, from 1.
    pub case: usize,
    /// Who calls.
    pub from: String,
    /// What is called.
    pub request: String,
    /// Where the case is written.
    pub position: Position,
    /// What is not as expected; empty if it passes.
    pub failures: Vec<Failure>,
}

/// An expectation that does not hold.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Failure {
    /// Where the expectation is written.
    pub at: Line,
    /// What it says.
    pub expected: String,
    /// What would happen.
    pub got: String,
    /// Why.
    pub because: Option<String>,
    /// The object and field that say so.
    pub by: Option<Provenance>,
    /// Where that is written.
    pub line: Option<Line>,
}

impl CaseResult {
    /// True if everything is as expected.
    #[must_use]
    pub fn passed(&self) -> bool {
        self.failures.is_empty()
    }
}

impl Report {
    /// How many cases are not as expected.
    #[must_use]
    pub fn failed(&self) -> usize {
        self.cases.iter().filter(|case| !case.passed()).count()
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            at,
            expected,
            got,
            because,
            by,
            line,
        } = self;
        writeln!(f, "  --> {}", at.position)?;
        if let Some(text) = &at.text {
            let number = at.position.line.to_string();
            let margin = " ".repeat(number.len());
            let column = usize::try_from(at.position.column).unwrap_or(1).max(1);
            writeln!(f, "{margin} |\n{number} | {text}")?;
            writeln!(f, "{margin} | {}^", " ".repeat(column - 1))?;
        }
        write!(f, "  expected: {expected}\n  got:      {got}")?;
        if let Some(because) = because {
            write!(f, "\n  because:  {because}")?;
        }
        if let Some(by) = by.as_ref().filter(|by| **by != Provenance::Default) {
            write!(f, "\n  by:       {by}")?;
        }
        if let Some(line) = line {
            write!(f, "\n  at:       {}", line.position)?;
            if let Some(text) = &line.text {
                write!(f, "   {}", text.trim())?;
            }
        }
        Ok(())
    }
}

/// Runs tests. The error is about tests that make no sense, which are then not run at all.
pub fn run(compiled: &Compiled, tests: &[Located<PolicyTest>]) -> Result<Report, Vec<Finding>> {
    let mut report = Report::default();
    let mut mistakes = Vec::new();
    for test in tests {
        match Ready::new(compiled, test) {
            Ok(ready) => report.cases.extend(ready.run()),
            Err(found) => mistakes.extend(found),
        }
    }
    if mistakes.is_empty() {
        Ok(report)
    } else {
        Err(mistakes)
    }
}

/// A test that makes sense.
struct Ready<'a> {
    compiled: &'a Compiled,
    test: &'a Located<PolicyTest>,
    state: State,
    cases: Vec<ReadyCase<'a>>,
}

struct ReadyCase<'a> {
    case: &'a Case,
    target: Target,
    callers: callers::Callers,
}

impl<'a> Ready<'a> {
    fn new(compiled: &'a Compiled, test: &'a Located<PolicyTest>) -> Result<Self, Vec<Finding>> {
        let mut mistakes = Vec::new();
        let mut wrong = |field: &str, message: String, fix: &str| {
            mistakes.push(mistake(test, field, message, fix));
        };
        let given = test.value.given.as_ref();
        let places = given
            .and_then(|given| given.down.clone())
            .unwrap_or_default();
        for (index, place) in places.iter().enumerate() {
            if let Some(why) = Down::mistake(place, compiled) {
                let fix = "name a place that a Workload or Mesh.localities has";
                wrong(&format!("given.down[{index}]"), why, fix);
            }
        }
        if test.value.cases.is_empty() {
            wrong(
                "cases",
                "the test has no case".to_owned(),
                "add a case, or remove the test",
            );
        }
        let down = Down::new(places);
        let mut cases = Vec::new();
        for (index, case) in test.value.cases.iter().enumerate() {
            match ready_case(compiled, &down, case) {
                Ok(case) => cases.push(case),
                Err((field, why, fix)) => wrong(&format!("cases[{index}].{field}"), why, fix),
            }
        }
        if !mistakes.is_empty() {
            return Err(mistakes);
        }
        let state = down.state(&compiled.snapshot);
        Ok(Self {
            compiled,
            test,
            state,
            cases,
        })
    }

    fn run(&self) -> impl Iterator<Item = CaseResult> {
        self.cases
            .iter()
            .enumerate()
            .map(|(index, case)| self.case(index, case))
    }

    fn case(&self, index: usize, ready: &ReadyCase<'_>) -> CaseResult {
        let ReadyCase {
            case,
            target,
            callers,
        } = ready;
        let field = format!("cases[{index}]");
        let failures = match callers {
            callers::Callers::Down(why) => vec![Failure {
                at: self.line(&format!("{field}.from")),
                expected: "a caller that runs".to_owned(),
                got: why.clone(),
                because: None,
                by: None,
                line: None,
            }],
            callers::Callers::Run(callers) => self.failures(&field, case, target, callers),
        };
        let account = &case.from.service_account;
        CaseResult {
            test: self.test.value.metadata.name.clone(),
            case: index + 1,
            from: format!("{}/{}", account.namespace, account.name),
            request: format!("{} {}", case.request.method, case.request.url),
            position: self.line(&field).position,
            failures,
        }
    }

    /// The first failure of each expectation, over all callers.
    fn failures(
        &self,
        field: &str,
        case: &Case,
        target: &Target,
        callers: &[Caller],
    ) -> Vec<Failure> {
        let mut failures: Vec<(&'static str, compare::Difference)> = Vec::new();
        for caller in callers {
            let outcomes = ask(self.compiled, &self.state, caller, target);
            let differences = outcomes
                .iter()
                .flat_map(|outcome| compare::differences(&case.then, outcome));
            for (name, mut found) in differences {
                if failures.iter().any(|(known, _)| *known == name) {
                    continue;
                }
                if callers.len() > 1 {
                    let (workload, at) = (&caller.row.name, &caller.row.locality);
                    found.got.push_str(&format!(", from {workload} at {at}"));
                }
                failures.push((name, found));
            }
        }
        let failure = |(name, found): (&'static str, compare::Difference)| Failure {
            at: self.line(&format!("{field}.then.{name}")),
            expected: found.expected,
            got: found.got,
            because: found.because,
            line: found.by.as_ref().and_then(|by| self.compiled.line(by)),
            by: found.by,
        };
        failures.into_iter().map(failure).collect()
    }

    fn line(&self, field: &str) -> Line {
        let (position, text) = self.test.find(field);
        Line {
            position: position_of(position),
            text,
        }
    }
}

type Wrong = (&'static str, String, &'static str);

fn ready_case<'a>(
    compiled: &Compiled,
    down: &Down,
    case: &'a Case,
) -> Result<ReadyCase<'a>, Wrong> {
    if case.then == tacit_api::policy_test::Then::default() {
        let fix = "write verdict, servedBy, timeout, tries or by";
        return Err(("then", "the case expects nothing".to_owned(), fix));
    }
    let (host, port, path) = parse_target(&case.request.url).map_err(|error| {
        (
            "request",
            error.to_string(),
            "write METHOD http://HOST/PATH",
        )
    })?;
    let callers = callers::of(compiled, down, &case.from)?;
    let headers = case.headers.iter().flatten();
    let headers: BTreeMap<String, String> = headers
        .map(|(name, value)| (name.to_ascii_lowercase(), value.clone()))
        .collect();
    if headers.contains_key("host") {
        let why = "the host of a request is the one of its URL".to_owned();
        return Err(("headers", why, "write the host in the URL"));
    }
    let target = Target {
        headers,
        host,
        port,
        method: case.request.method.clone(),
        path,
    };
    Ok(ReadyCase {
        case,
        target,
        callers,
    })
}

/// A finding about a test; its codes are those of objects.
fn mistake(test: &Located<PolicyTest>, field: &str, message: String, fix: &str) -> Finding {
    const BAD_TEXT: &str = "TCT1304";
    let (position, snippet) = test.find(field);
    Finding {
        code: BAD_TEXT.into(),
        severity: Severity::Error,
        object: None,
        field: field.into(),
        position: Some(position_of(position)),
        message,
        fix: fix.to_owned(),
        snippet,
    }
}

#[cfg(test)]
mod tests;
