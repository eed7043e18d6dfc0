//! Questions over files: do the tests hold, what if a place is lost, what differs.

use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;

use tacit_analysis::call::percent;
use tacit_analysis::policy_test::{CaseResult, Report, run};
use tacit_analysis::simulate::{Flow, Simulation, Through, Traffic};
use tacit_analysis::{Compiled, Down};
use tacit_api::{Located, Parsed, PolicyTest};
use tacit_model::finding::Finding;

use crate::args::{Format, SimulateArgs, TestArgs};
use crate::failure::Failure;
use crate::files;
use crate::output;

/// Runs the PolicyTests of files.
pub(crate) fn test(args: &TestArgs) -> Result<ExitCode, Failure> {
    let mesh = files::parse_all(&args.file)?;
    let mut tests: Vec<Located<PolicyTest>> = Vec::new();
    for file in &args.tests {
        tests.extend(tests_of(&mesh, file)?);
    }
    if args.tests.is_empty() {
        tests.extend(mesh.iter().flat_map(|(_, parsed)| parsed.tests.clone()));
    }
    if tests.is_empty() {
        let text = "there is no PolicyTest in these files; docs/user/before-a-change.md has one";
        return Err(Failure::Usage(text.to_owned()));
    }
    let compiled = compile(&mesh)?;
    let report = run(&compiled, &tests).map_err(|mistakes| unusable(&mistakes))?;
    let text = || report_text(&report);
    output::data(&output::formatted(args.output, &report, text)?);
    let failed = report.failed();
    if args.output == Format::Table {
        let passed = report.cases.len() - failed;
        output::note(&format!("{passed} passed, {failed} failed"));
    }
    Ok(if failed == 0 {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

/// The mesh that files describe; files that would not all be in force are no base for answers.
pub(crate) fn compile(files: &[(Arc<str>, Parsed)]) -> Result<Compiled, Failure> {
    let compiled = Compiled::of_files(files, files::now())
        .map_err(|error| Failure::Failed(error.to_string()))?;
    let errors: Vec<Finding> = compiled.errors().cloned().collect();
    if errors.is_empty() {
        Ok(compiled)
    } else {
        Err(unusable(&errors))
    }
}

fn unusable(findings: &[Finding]) -> Failure {
    for finding in findings {
        output::note(&format!("{finding}\n"));
    }
    Failure::Usage(format!(
        "{} errors in the files; nothing was tried",
        findings.len()
    ))
}

/// The tests of one file, which may also be one of the mesh's.
fn tests_of(mesh: &[(Arc<str>, Parsed)], file: &Path) -> Result<Vec<Located<PolicyTest>>, Failure> {
    let (name, parsed) = files::parse(file)?;
    let is_of_mesh = mesh
        .iter()
        .any(|(known, _)| same(Path::new(&**known), file));
    if !parsed.objects.is_empty() && !is_of_mesh {
        let text = format!("{name} has objects of the mesh; name it with --file as well");
        return Err(Failure::Usage(text));
    }
    if !parsed.errors.is_empty() && !is_of_mesh {
        let now = files::now();
        let checked = tacit_compiler::check_files([(name, parsed)], now);
        return Err(unusable(&checked.findings));
    }
    Ok(parsed.tests)
}

fn same(a: &Path, b: &Path) -> bool {
    let real = |path: &Path| path.canonicalize().ok();
    a == b || real(a).is_some_and(|a| real(b) == Some(a))
}

fn report_text(report: &Report) -> String {
    let cases = report.cases.iter().map(case_text);
    cases.collect::<Vec<_>>().join("\n")
}

fn case_text(case: &CaseResult) -> String {
    let word = if case.passed() { "ok  " } else { "FAIL" };
    let CaseResult {
        test,
        case: number,
        from,
        request,
        ..
    } = case;
    let mut text = format!("{word}  {test} {number}  {from}  {request}");
    for failure in &case.failures {
        text.push_str(&format!("\n{failure}"));
    }
    text
}

/// Says where traffic would go.
pub(crate) fn simulate(args: &SimulateArgs) -> Result<ExitCode, Failure> {
    let compiled = compile(&files::parse_all(&args.file)?)?;
    for place in &args.down {
        if let Some(why) = Down::mistake(place, &compiled) {
            return Err(Failure::Usage(format!("--down: {why} in these files")));
        }
    }
    let simulation = tacit_analysis::simulate::simulate(&compiled, &Down::new(args.down.clone()));
    let text = || simulation_text(&simulation);
    output::data(&output::formatted(args.output, &simulation, text)?);
    Ok(if simulation.breaks() {
        ExitCode::FAILURE
    } else {
        ExitCode::SUCCESS
    })
}

fn simulation_text(simulation: &Simulation) -> String {
    let row = |flow: &Flow| {
        vec![
            called(flow),
            flow.clients.clone(),
            traffic(&flow.now),
            match flow.now == flow.then {
                true => "the same".to_owned(),
                false => traffic(&flow.then),
            },
        ]
    };
    let rows: Vec<Vec<String>> = simulation.flows.iter().map(row).collect();
    let headings = ["SERVICE", "CLIENTS AT", "NOW", "WITH THAT DOWN"];
    let mut text = format!("down: {}\n\n", simulation.down.join("; "));
    text.push_str(&output::table(&headings, &rows));
    for flow in simulation.flows.iter().filter(|flow| flow.breaks()) {
        if let Traffic::Fails(why) = &flow.then {
            let (called, clients) = (called(flow), &flow.clients);
            text.push_str(&format!("\n\n{called} from {clients} would fail: {why}"));
        }
    }
    for armed in simulation.armed.iter().filter(|armed| !armed.armed) {
        text.push_str(&format!(
            "\n\n{} is not armed: {}",
            armed.policy, armed.message
        ));
    }
    if !simulation.without_workloads.is_empty() {
        let names = simulation.without_workloads.join(", ");
        text.push_str(&format!(
            "\n\nno Workload in the files, so not simulated: {names}"
        ));
    }
    text
}

/// What is called, with the way through a route.
fn called(flow: &Flow) -> String {
    let port = format!("{}:{}", flow.service, flow.port);
    let Some(through) = &flow.through else {
        return port;
    };
    let Through {
        rule,
        backend,
        weight,
        of,
    } = through;
    let share = match u64::from(*weight) == *of {
        true => String::new(),
        false => format!("{weight}/{of} "),
    };
    format!("{port}, {rule}: {share}{backend}")
}

fn traffic(traffic: &Traffic) -> String {
    match traffic {
        Traffic::ClientsDown => "clients are down".to_owned(),
        Traffic::Fails(_) => "fails".to_owned(),
        Traffic::Served(shares) => {
            let each = shares.iter().map(|share| {
                let fallback = share.fallback.as_deref();
                let fallback = fallback
                    .map(|name| format!("{name} in "))
                    .unwrap_or_default();
                format!("{} {fallback}{}", percent(share.per_million), share.place)
            });
            each.collect::<Vec<_>>().join(", ")
        }
    }
}
