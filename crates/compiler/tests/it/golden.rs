//! Golden files: `<topic>/<case>.in.yaml` is what is written, `.out.txt` what becomes of it.
//!
//! `BLESS=1` rewrites the latter. Lines of the input that begin with `#!` are facts:
//!
//!     #! step                                  what follows replaces all that stands before
//!     #! file b.yaml                           what follows is in this file (else a.yaml)
//!     #! node host-a us-east us-east-1a 1      name, region, zone, third byte of its subnet,
//!                                              then what it may host, if not everything
//!     #! ready shop/web-1 8080 9090            ports that accept connections
//!     #! publish shop/web-1 192.0.2.1:8443>80  ports of its machine that lead to ports of it
//!     #! now 1700000000                        unix seconds
//!     #! author group:developers               who wrote the policies over the API

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use tacit_model::WorkloadName;
use tacit_model::hosting::MayHost;
use tacit_model::tables::PublishedPort;

use crate::mesh::{Mesh, Moment, node};
use crate::render::render;

/// The moments that an input file describes.
pub(crate) fn moments(text: &str) -> Vec<Moment> {
    let mut moments = vec![Moment::default()];
    let mut file: Arc<str> = "a.yaml".into();
    for line in text.lines() {
        let words: Vec<&str> = match line.strip_prefix("#!") {
            Some(fact) => fact.split_whitespace().collect(),
            None => {
                let moment = moments.last_mut().unwrap();
                let text = moment.files.entry(file.clone()).or_default();
                text.push_str(line);
                text.push('\n');
                continue;
            }
        };
        let moment = moments.last_mut().unwrap();
        match words[..] {
            ["step"] => {
                file = "a.yaml".into();
                moments.push(Moment::default());
            }
            ["file", name] => file = name.into(),
            ["node", name, region, zone, third, ref identities @ ..] => {
                let mut node = node(name, region, zone, third.parse().unwrap());
                if !identities.is_empty() {
                    let patterns = identities.iter().map(|text| (*text).try_into().unwrap());
                    node.identities = MayHost(patterns.collect());
                }
                moment.nodes.push(node);
            }
            ["ready", name, ref ports @ ..] => {
                let (namespace, name) = name.split_once('/').unwrap();
                let name = WorkloadName::parse(namespace, name).unwrap();
                let ports: BTreeSet<u16> = ports.iter().map(|port| port.parse().unwrap()).collect();
                moment.ready.push((name, ports));
            }
            ["publish", name, ref ports @ ..] => {
                let (namespace, name) = name.split_once('/').unwrap();
                let name = WorkloadName::parse(namespace, name).unwrap();
                let pairs = ports.iter().map(|pair| pair.split_once('>').unwrap());
                let ports = pairs.map(|(at, target)| PublishedPort {
                    at: at.parse().unwrap(),
                    target: target.parse().unwrap(),
                });
                moment.published.push((name, ports.collect()));
            }
            ["now", seconds] => moment.now = Some(seconds.parse().unwrap()),
            ["author", author] => moment.author = Some(author.to_owned()),
            _ => panic!("unknown fact: {line}"),
        }
    }
    moments
}

fn cases(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(cases(&path));
        } else if path.to_string_lossy().ends_with(".in.yaml") {
            found.push(path);
        }
    }
    found.sort();
    found
}

#[test]
fn goldens() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden");
    let cases = cases(&folder);
    assert!(cases.len() >= 25, "only {} cases were found", cases.len());
    let bless = std::env::var_os("BLESS").is_some();
    let mut wrong = Vec::new();
    for case in cases {
        let text = fs::read_to_string(&case).unwrap();
        let mut mesh = Mesh::default();
        for moment in moments(&text) {
            mesh.go(&moment);
        }
        let out = render(&mesh);
        let path = PathBuf::from(case.to_string_lossy().replace(".in.yaml", ".out.txt"));
        if bless {
            fs::write(&path, &out).unwrap();
        }
        if fs::read_to_string(&path).unwrap_or_default() != out {
            wrong.push(format!("{}:\n{out}", path.display()));
        }
    }
    assert!(
        wrong.is_empty(),
        "BLESS=1 rewrites what differs:\n{}",
        wrong.join("\n")
    );
}
