//! `tacit check` on many files, in this process: parse, compile, advise. Reading is not counted.

use std::sync::Arc;
use std::time::Duration;

use super::{Line, now, seconds};

const FILES: usize = 10_000;

pub(crate) fn check() -> Line {
    let texts: Vec<(Arc<str>, String)> = (0..FILES).map(text).collect();
    let begin = now();
    let parsed = texts
        .iter()
        .map(|(file, text)| (file.clone(), tacit_api::parse(file, text)));
    let checked = tacit_compiler::check_files(parsed, 1);
    let took = now() - begin;
    Line {
        what: format!("check {FILES} files, {} statuses", checked.statuses.len()),
        figure: seconds(took),
        promise: "2 s",
        met: took <= Duration::from_secs(2),
    }
}

fn text(number: usize) -> (Arc<str>, String) {
    let (space, number) = (number / 20, number % 20);
    let (kind, rest) = match number {
        0..6 => (
            "v1\nkind: Service",
            format!("selector: {{app: app-{number}}}\n  ports: [{{name: http, port: 80}}]"),
        ),
        6..16 => (
            "tacit.dev/v1alpha1\nkind: Workload",
            format!("serviceAccount: app-{}\n  node: node-{number}", number - 6),
        ),
        _ => (
            "tacit.dev/v1alpha1\nkind: RetryTimeoutPolicy",
            format!(
                "targetRefs: [{{group: '', kind: Service, name: thing-{}}}]\n  \
                 timeout: {{request: 2s}}",
                number - 16
            ),
        ),
    };
    let app = number.saturating_sub(6);
    let text = format!(
        "apiVersion: {kind}\nmetadata:\n  name: thing-{number}\n  namespace: space-{space}\n  \
         labels: {{app: app-{app}}}\nspec:\n  {rest}\n"
    );
    (format!("{space}/{number}.yaml").into(), text)
}
