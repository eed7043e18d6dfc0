//! What is told about a kind of finding: its group, its example, and the page of documentation.

use std::fmt::Write as _;

use tacit_model::finding::Severity;

use super::{CODES, Code, Shown};

/// Between the two halves of an example.
const FIXED: &str = "\n# ---- fixed\n";

/// Lines of an example that begin with this are facts for its test.
const FACT: &str = "#!";

/// Codes that begin with the same four characters after `TCT`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Group {
    /// `TCT10` and the like.
    pub prefix: &'static str,
    /// What its findings are about.
    pub title: &'static str,
}

/// The groups, by number.
pub const GROUPS: &[Group] = &[
    Group {
        prefix: "TCT10",
        title: "Reading: files, YAML, fields and names",
    },
    Group {
        prefix: "TCT11",
        title: "Targets: what a policy applies to",
    },
    Group {
        prefix: "TCT12",
        title: "Support: what this version does not enforce",
    },
    Group {
        prefix: "TCT13",
        title: "Values: what a policy says",
    },
    Group {
        prefix: "TCT14",
        title: "Access: who may call what",
    },
    Group {
        prefix: "TCT15",
        title: "Endpoints: services, workloads, nodes, addresses and places",
    },
    Group {
        prefix: "TCT16",
        title: "Workspaces: who may change what",
    },
    Group {
        prefix: "TCT17",
        title: "Precedence: which policy decides",
    },
    Group {
        prefix: "TCT18",
        title: "Routes: which requests go where",
    },
    Group {
        prefix: "TCT19",
        title: "Ownership: where an object is written",
    },
    Group {
        prefix: "TCT20",
        title: "Istio: what a translation cannot say",
    },
];

impl Group {
    /// The codes of the group.
    pub fn codes(&self) -> impl Iterator<Item = &'static Code> {
        let prefix = self.prefix;
        CODES
            .iter()
            .filter(move |code| code.code.starts_with(prefix))
    }
}

/// Objects that have a finding, and the same without it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Example {
    /// The lines that the finding points at end in `# <-- here`.
    pub wrong: &'static str,
    /// The correction.
    pub fixed: &'static str,
}

/// The two halves of a code's example, facts included; nothing for a circumstance.
#[must_use]
pub fn example(code: &Code) -> Option<Example> {
    let Shown::Example(text) = code.shown else {
        return None;
    };
    let (wrong, fixed) = text.split_once(FIXED)?;
    Some(Example { wrong, fixed })
}

impl Example {
    /// The wrong half as people read it.
    #[must_use]
    pub fn shown_wrong(&self) -> String {
        without_facts(self.wrong)
    }

    /// The corrected half as people read it.
    #[must_use]
    pub fn shown_fixed(&self) -> String {
        without_facts(self.fixed)
    }
}

fn without_facts(half: &str) -> String {
    let lines = half.lines().filter(|line| !line.starts_with(FACT));
    lines.collect::<Vec<_>>().join("\n")
}

/// What a severity means, as a sentence.
#[must_use]
pub fn meaning(severity: Severity) -> &'static str {
    match severity {
        Severity::Error => "Error: the object or a part of it is not in force.",
        Severity::Warning => "Warning: in force, but probably not as meant.",
        Severity::Info => "Information.",
    }
}

/// The page of documentation: every code with its cause, fix and example, as Markdown.
#[must_use]
pub fn page() -> String {
    let mut page = String::from(
        "# Findings\n\nWhat `tacit check`, `apply` and `status` say about what is written; `tacit \
         explain CODE` says the same. This page is generated from \
         `crates/compiler/src/findings/codes.rs` and the examples in `crates/compiler/findings`, \
         which tests compile.\n",
    );
    for group in GROUPS {
        // Writing to a String cannot fail.
        let _ = write!(page, "\n## {}xx: {}\n", group.prefix, group.title);
        group.codes().for_each(|code| entry(&mut page, code));
    }
    page
}

fn entry(page: &mut String, code: &Code) {
    let Code {
        code: number,
        severity,
        title,
        cause,
        fix,
        shown,
    } = code;
    let severity = meaning(*severity);
    let _ = write!(
        page,
        "\n### {number}: {title}\n\n{severity}\n\n**Cause.** {cause}\n\n**Fix.** {fix}\n"
    );
    if let Shown::Circumstance(why) = shown {
        let _ = write!(page, "\n**Example.** None: {why}\n");
    }
    if let Some(example) = example(code) {
        let (wrong, fixed) = (example.shown_wrong(), example.shown_fixed());
        let _ = write!(
            page,
            "\n**Wrong.**\n\n```yaml\n{wrong}\n```\n\n**Right.**\n\n```yaml\n{fixed}\n```\n"
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_code_is_in_one_group() {
        let grouped = GROUPS.iter().flat_map(Group::codes).count();
        assert_eq!(grouped, CODES.len());
        let titled = |group: &Group| group.codes().next().is_some();
        assert!(GROUPS.iter().all(titled), "a group is empty");
    }

    #[test]
    fn the_page_is_up_to_date() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/findings.md");
        if std::env::var_os("BLESS").is_some() {
            std::fs::write(path, page()).expect("docs/findings.md can be written");
        }
        let written = std::fs::read_to_string(path).unwrap_or_default();
        assert!(
            written == page(),
            "docs/findings.md is old; BLESS=1 cargo test rewrites it"
        );
    }
}
