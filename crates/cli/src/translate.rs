//! Files as the objects of another mesh.

use std::process::ExitCode;

use tacit_compiler::Offline;
use tacit_istio::Options;
use tacit_model::finding::Severity;

use crate::args::{ObjectFormat, OtherMesh, TranslateArgs};
use crate::failure::Failure;
use crate::files::{count, now, parse_all, shown};
use crate::output;

/// Prints the objects, and says what the other mesh cannot express.
pub(crate) fn translate(args: &TranslateArgs) -> Result<ExitCode, Failure> {
    let Offline { compiler, checked } =
        tacit_compiler::compile_files(parse_all(&args.file)?, now());
    let OtherMesh::Istio = args.to;
    let options = Options {
        root_namespace: args.istio_root.clone(),
    };
    let translated = tacit_istio::translate(&compiler, &options)
        .map_err(|e| Failure::Failed(format!("nothing can be translated: {e}")))?;
    let errors = count(&checked.findings, Severity::Error);
    let differences = count(&translated.findings, Severity::Warning);
    let objects = translated.objects.len();
    let mut findings = checked.findings;
    findings.extend(translated.findings);
    if !findings.is_empty() {
        output::note(&shown(&findings));
    }
    output::data(&match args.output {
        ObjectFormat::Json => output::json(&serde_json::json!({
            "apiVersion": "v1",
            "kind": "List",
            "items": translated.objects,
        }))?,
        ObjectFormat::Yaml => {
            let documents = translated.objects.iter().map(tacit_api::print::yaml);
            documents.collect::<Vec<_>>().join("---\n")
        }
    });
    output::note(&format!(
        "{objects} objects, {errors} errors, {differences} differences"
    ));
    Ok(if errors > 0 || args.strict && differences > 0 {
        ExitCode::FAILURE
    } else {
        ExitCode::SUCCESS
    })
}
