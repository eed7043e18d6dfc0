//! Objects: apply, delete, get; and the two things that only an administrator makes.

use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::process::ExitCode;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use tacit_api::Kind;
use tacit_control::admin::types::{
    ApplyRequest, ApplyResponse, CertificateRequest, Change, ListedObject, ProblemKind,
};
use tacit_control::client::{AdminClient, ClientError};
use tacit_control::pem;
use tacit_model::finding::{Finding, Severity};
use tacit_model::hosting::MayHost;
use tacit_model::{NodeName, ObjectRef};
use tacit_transport::key::PrivateKey;

use crate::args::{ApplyArgs, CertificateArgs, DeleteArgs, Format, GetArgs, TokenArgs};
use crate::failure::Failure;
use crate::files::{self, yaml_files};
use crate::output;
use crate::session::{Place, block_on};

/// Creates or changes the objects of a file, a directory or standard input.
pub(crate) fn apply(place: &Place, args: &ApplyArgs) -> Result<ExitCode, Failure> {
    let client = place.client()?;
    block_on(async {
        let mut code = ExitCode::SUCCESS;
        let mut applied = Vec::new();
        for file in yaml_files(&args.file)? {
            match apply_file(&client, &file, args).await? {
                Ok(answer) => {
                    if errors(&answer.findings) {
                        code = ExitCode::FAILURE;
                    }
                    applied.push(answer);
                }
                Err(failure) => {
                    // The other files may be fine.
                    output::complain(&failure.to_string());
                    code = failure.exit_code();
                }
            }
        }
        if args.output != Format::Table {
            output::data(&output::formatted(args.output, &applied, String::new)?);
        }
        Ok(code)
    })
}

/// The answer for one file, shown; an inner failure is of this file alone.
async fn apply_file(
    client: &AdminClient,
    file: &Path,
    args: &ApplyArgs,
) -> Result<Result<ApplyResponse, Failure>, Failure> {
    let (file, bytes) = files::read(file)?;
    let text = match String::from_utf8(bytes) {
        Ok(text) => text,
        Err(error) => return Ok(Err(not_text(&file, error.as_bytes()))),
    };
    let request = ApplyRequest {
        text,
        file,
        dry_run: args.dry_run,
        acting_as: None,
    };
    match client.apply(&request).await {
        Ok(answer) => {
            if args.output == Format::Table {
                show_applied(&answer, args.dry_run);
            }
            Ok(Ok(answer))
        }
        Err(error) => {
            show_findings_of(&error);
            let failure = refused(error);
            if matches!(failure, Failure::Unreachable(_)) {
                Err(failure)
            } else {
                Ok(Err(failure))
            }
        }
    }
}

/// What the parser says of bytes that are no text: it knows the place.
fn not_text(file: &str, bytes: &[u8]) -> Failure {
    let parsed = tacit_api::parse_bytes(file, bytes);
    for finding in tacit_compiler::check_files([(file.into(), parsed)], 0).findings {
        output::note(&finding.to_string());
    }
    Failure::Failed(format!("{file}: nothing was applied"))
}

fn errors(findings: &[Finding]) -> bool {
    let is_error = |finding: &Finding| finding.severity == Severity::Error;
    findings.iter().any(is_error)
}

/// Deletes an object.
pub(crate) fn delete(place: &Place, args: &DeleteArgs) -> Result<ExitCode, Failure> {
    let object = object_ref(&args.object.kind, &args.object.name)?;
    let client = place.client()?;
    let answer = block_on(async { client.delete(&object).await.map_err(refused) })?;
    if args.output == Format::Table {
        show_applied(&answer, false);
    } else {
        output::data(&output::formatted(args.output, &answer, String::new)?);
    }
    Ok(ExitCode::SUCCESS)
}

/// Shows objects.
pub(crate) fn get(place: &Place, args: &GetArgs) -> Result<ExitCode, Failure> {
    let client = place.client()?;
    let objects = block_on(fetch(&client, args))?;
    match args.output {
        Format::Json => output::data(&output::json(&objects)?),
        Format::Yaml => {
            let documents: Vec<String> = objects.iter().map(document).collect();
            output::data(&documents.join("---\n"));
        }
        Format::Table => output::data(&output::table(
            &[
                "KIND",
                "NAMESPACE",
                "NAME",
                "OWNER",
                "ACCEPTED",
                "PROGRAMMED",
            ],
            &objects.iter().map(row).collect::<Vec<_>>(),
        )),
    }
    Ok(ExitCode::SUCCESS)
}

/// An object as YAML; one that cannot be read has none.
fn document(listed: &ListedObject) -> String {
    if listed.manifest.is_null() {
        let object = &listed.object;
        return format!("# {object} is written, but cannot be read: see `tacit status`\n");
    }
    tacit_api::print::yaml(&listed.manifest)
}

async fn fetch(client: &AdminClient, args: &GetArgs) -> Result<Vec<ListedObject>, Failure> {
    if args.kind.eq_ignore_ascii_case("all") {
        return client.objects(None, None, None).await.map_err(refused);
    }
    let kind = kind_named(&args.kind)?;
    let (namespace, name) = match &args.name {
        Some(name) => match name.split_once('/') {
            Some((namespace, name)) => (Some(namespace), Some(name)),
            None if kind.is_namespaced() => (Some("default"), Some(name.as_str())),
            None => (None, Some(name.as_str())),
        },
        None => (None, None),
    };
    client
        .objects(Some(kind.as_str()), namespace, name)
        .await
        .map_err(refused)
}

fn row(listed: &ListedObject) -> Vec<String> {
    use tacit_model::status::ConditionKind;
    let condition = |kind| {
        let status = listed.status.as_ref();
        let found = status.and_then(|s| s.conditions.iter().find(|c| c.kind == kind));
        found.map_or_else(
            || "-".to_owned(),
            |c| match (c.status, format!("{:?}", c.reason)) {
                (true, _) => "yes".to_owned(),
                (false, reason) => format!("no ({reason})"),
            },
        )
    };
    vec![
        listed.object.kind.to_string(),
        listed
            .object
            .namespace
            .as_ref()
            .map_or_else(|| "-".to_owned(), ToString::to_string),
        listed.object.name.to_string(),
        format!("{:?}", listed.owner).to_lowercase(),
        condition(ConditionKind::Accepted),
        condition(ConditionKind::Programmed),
    ]
}

/// Makes a join token.
pub(crate) fn token(place: &Place, args: &TokenArgs) -> Result<ExitCode, Failure> {
    NodeName::try_from(args.node.as_str())
        .map_err(|error| Failure::Usage(format!("--node: {error}")))?;
    let client = place.client()?;
    let identities = match args.identities.is_empty() {
        true => MayHost::any(),
        false => MayHost(args.identities.iter().cloned().collect()),
    };
    let made = async { client.join_token(&args.node, identities).await };
    let token = block_on(async { made.await.map_err(refused) })?;
    output::data(&token);
    Ok(ExitCode::SUCCESS)
}

/// Issues a certificate for a person. The key is made here and never leaves this machine.
pub(crate) fn certificate(place: &Place, args: &CertificateArgs) -> Result<ExitCode, Failure> {
    let told = |e: &dyn std::fmt::Display| Failure::Failed(format!("cannot make a key: {e}"));
    let key = PrivateKey::generate().map_err(|e| told(&e))?;
    let csr = key
        .request_for_name(&args.common_name)
        .map_err(|e| told(&e))?;
    let request = CertificateRequest {
        common_name: args.common_name.clone(),
        csr: STANDARD.encode(csr),
    };
    let client = place.client()?;
    let made = block_on(async { client.certificate(&request).await.map_err(refused) })?;
    std::fs::create_dir_all(&args.out)
        .map_err(|e| Failure::Failed(format!("{}: {e}", args.out.display())))?;
    write_file(
        &args.out.join("person.key"),
        &pem::encode("PRIVATE KEY", &[key.to_pkcs8()]),
    )?;
    write_file(&args.out.join("person.crt"), &made.chain)?;
    write_file(&args.out.join("roots.crt"), &made.roots)?;
    output::note(&format!(
        "{} is in {}; use it with --server tls:HOST:{} --identity {}",
        args.common_name,
        args.out.display(),
        tacit_control::ADMIN_PORT,
        args.out.display()
    ));
    Ok(ExitCode::SUCCESS)
}

/// Readable by the owner only.
fn write_file(path: &Path, text: &str) -> Result<(), Failure> {
    let written = std::fs::OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(path)
        .and_then(|mut file| file.write_all(text.as_bytes()));
    written.map_err(|e| Failure::Failed(format!("{}: {e}", path.display())))
}

fn show_applied(answer: &ApplyResponse, dry_run: bool) {
    let note = if dry_run { " (dry run)" } else { "" };
    for applied in &answer.objects {
        let change = match applied.change {
            Change::Configured => "configured",
            Change::Created => "created",
            Change::Deleted => "deleted",
            Change::Unchanged => "unchanged",
        };
        output::data(&format!("{} {change}{note}", applied.object));
    }
    for finding in &answer.findings {
        output::note(&finding.to_string());
    }
}

fn show_findings_of(error: &ClientError) {
    if let ClientError::Refused(problem) = error {
        for finding in &problem.findings {
            output::note(&finding.to_string());
        }
    }
}

/// A client's error as a failure with its exit code.
pub(crate) fn refused(error: ClientError) -> Failure {
    let text = error.to_string();
    match error {
        ClientError::Garbled(_) => Failure::Failed(text),
        ClientError::TimedOut => Failure::TimedOut(text),
        ClientError::Unreachable(_) => Failure::Unreachable(text),
        ClientError::Refused(problem) => match problem.kind {
            ProblemKind::Forbidden => Failure::Refused(text),
            ProblemKind::Unavailable => Failure::Unreachable(text),
            ProblemKind::BadRequest
            | ProblemKind::Conflict
            | ProblemKind::Invalid
            | ProblemKind::NotFound => Failure::Failed(text),
        },
    }
}

fn kind_named(text: &str) -> Result<Kind, Failure> {
    let wanted = text.to_ascii_lowercase();
    let matches = |kind: &Kind| {
        let name = kind.as_str().to_ascii_lowercase();
        let plural = name
            .strip_suffix('y')
            .map_or_else(|| format!("{name}s"), |stem| format!("{stem}ies"));
        wanted == name || wanted == plural || (wanted == "meshes" && name == "mesh")
    };
    Kind::ALL.iter().copied().find(matches).ok_or_else(|| {
        let kinds: Vec<&str> = Kind::ALL.iter().map(|kind| kind.as_str()).collect();
        Failure::Usage(format!(
            "{text:?} is no kind; kinds are {}",
            kinds.join(", ")
        ))
    })
}

/// An object from the words of a command line.
pub(crate) fn object_ref(kind: &str, name: &str) -> Result<ObjectRef, Failure> {
    let kind = kind_named(kind)?;
    let (namespace, name) = match name.split_once('/') {
        Some((namespace, name)) => (Some(namespace), name),
        None => (kind.is_namespaced().then_some("default"), name),
    };
    let usage = |e: tacit_model::names::InvalidName| Failure::Usage(e.to_string());
    Ok(ObjectRef {
        kind: kind.as_str().into(),
        namespace: namespace
            .map(TryInto::try_into)
            .transpose()
            .map_err(usage)?,
        name: name.try_into().map_err(usage)?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kinds_are_found_by_any_case_and_plural() {
        for text in [
            "Service",
            "services",
            "failoverpolicies",
            "AccessPolicy",
            "mesh",
            "meshes",
        ] {
            assert!(kind_named(text).is_ok(), "{text}");
        }
        assert!(kind_named("pod").is_err());
        assert_eq!(
            object_ref("mesh", "default").unwrap().to_string(),
            "Mesh/default"
        );
        assert_eq!(
            object_ref("service", "shop/a").unwrap().to_string(),
            "Service/shop/a"
        );
        assert_eq!(
            object_ref("service", "a").unwrap().to_string(),
            "Service/default/a"
        );
    }
}
