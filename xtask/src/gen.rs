//! Generates the protobuf code of `wire` from its `.proto` files, without `protoc`.

use std::fs;
use std::path::{Path, PathBuf};

const PROTOS: &str = "crates/wire/proto";
const GENERATED: &str = "crates/wire/src/generated";
const FILES: [&str; 3] = [
    "envoy/discovery.proto",
    "tacit/mesh.proto",
    "tacit/control.proto",
];

/// Writes the generated files, or with `check` compares them with what is committed.
pub(crate) fn run(check: bool) -> Result<String, Vec<String>> {
    let root = root();
    let scratch = root.join("target/generated-protobuf");
    generate(&root, &scratch).map_err(|problem| vec![format!("gen: {problem}")])?;
    let committed = root.join(GENERATED);
    let mut stale = Vec::new();
    let files = list(&scratch).map_err(|problem| vec![problem])?;
    for file in &files {
        let fresh = fs::read(scratch.join(file)).map_err(|e| vec![format!("gen: {file}: {e}")])?;
        let target = committed.join(file);
        if fs::read(&target).is_ok_and(|old| old == fresh) {
            continue;
        }
        if check {
            stale.push(format!(
                "gen: {GENERATED}/{file} is stale, run `cargo xtask gen`"
            ));
        } else {
            fs::write(&target, fresh).map_err(|e| vec![format!("gen: {file}: {e}")])?;
        }
    }
    if stale.is_empty() {
        Ok(format!("gen: {} files are up to date", files.len()))
    } else {
        Err(stale)
    }
}

fn root() -> PathBuf {
    // The manifest of xtask lies one folder below the root.
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    here.parent().unwrap_or(here).to_path_buf()
}

fn generate(root: &Path, out: &Path) -> Result<(), String> {
    if out.exists() {
        fs::remove_dir_all(out).map_err(|e| format!("{}: {e}", out.display()))?;
    }
    fs::create_dir_all(out).map_err(|e| format!("{}: {e}", out.display()))?;
    let descriptors =
        protox::compile(FILES, [root.join(PROTOS)]).map_err(|e| format!("{PROTOS}: {e}"))?;
    // Maps in key order, so that equal messages have equal bytes.
    tonic_prost_build::configure()
        .build_transport(false)
        .btree_map(".")
        .bytes(".envoy.service.discovery.v3.Any.value")
        .out_dir(out)
        .compile_fds(descriptors)
        .map_err(|e| format!("{PROTOS}: {e}"))
}

fn list(folder: &Path) -> Result<Vec<String>, String> {
    let entries = fs::read_dir(folder).map_err(|e| format!("gen: {}: {e}", folder.display()))?;
    let mut names: Vec<String> = entries
        .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
        .filter(|name| name.ends_with(".rs"))
        .collect();
    names.sort();
    Ok(names)
}
