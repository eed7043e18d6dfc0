//! Translations: goldens, Istio's own schemas, and Istio's meaning of access against ours.
#![expect(clippy::unwrap_used, reason = "a test panics to fail")]

mod evaluator;
mod golden;
mod same_meaning;
mod schema;
mod yaml;

use std::sync::Arc;

use tacit_compiler::{Checked, Compiler, Offline, compile_files};
use tacit_istio::{Options, Translation, translate};

/// A fixed moment: no grant of a test ends.
const NOW: i64 = 1_700_000_000;

/// Compiles one file and translates it.
fn translated(text: &str) -> (Compiler, Checked, Translation) {
    let file: Arc<str> = "a.yaml".into();
    let parsed = tacit_api::parse(&file, text);
    let Offline { compiler, checked } = compile_files([(file, parsed)], NOW);
    let options = Options {
        root_namespace: "istio-system".try_into().unwrap(),
    };
    let translation = translate(&compiler, &options).unwrap();
    (compiler, checked, translation)
}
