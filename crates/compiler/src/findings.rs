//! Every finding that the compiler can make, in one table.

use std::fmt::Write as _;

use tacit_api::parse::Problem;
use tacit_api::{Located, Object, ObjectKey, SyntaxError};
use tacit_model::ObjectRef;
use tacit_model::finding::{Finding, Position, Severity};

/// A kind of finding. The page `docs/findings.md` is made of these.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Code {
    /// `TCT1xxx`; never given to anything else later.
    pub code: &'static str,
    /// How bad it is.
    pub severity: Severity,
    /// What it is, a few words.
    pub title: &'static str,
    /// Why it happens.
    pub cause: &'static str,
    /// What to do about it.
    pub fix: &'static str,
}

macro_rules! codes {
    ($(
        $name:ident = $code:literal, $severity:ident, $title:literal, $cause:literal, $fix:literal;
    )*) => {
        $(
            #[doc = $title]
            pub const $name: Code = Code {
            code: $code,
            severity: Severity::$severity,
            title: $title,
            cause: $cause,
            fix: $fix,
        };)*

        /// All codes, by number.
        pub const CODES: &[Code] = &[$($name),*];
    };
}

codes! {
    NOT_TEXT = "TCT1001", Error, "Not text",
        "The file is not UTF-8 text.",
        "Save it as UTF-8, or move it out of the directory.";
    NOT_YAML = "TCT1002", Error, "Not YAML",
        "The document is not YAML, or uses a part of YAML that is not supported.",
        "Correct the syntax at the position.";
    TOO_LARGE = "TCT1003", Error, "Too large",
        "A file, a document or a list is over its limit.",
        "Split it.";
    UNKNOWN_FIELD = "TCT1004", Error, "Unknown field",
        "The kind has no such field.",
        "Correct the name; the message suggests the nearest one.";
    UNKNOWN_KIND = "TCT1005", Error, "Unknown kind",
        "There is no such kind or version.",
        "Correct kind and apiVersion.";
    MISSING_FIELD = "TCT1006", Error, "Missing field",
        "A field that must be written is not.",
        "Add the field.";
    WRONG_TYPE = "TCT1007", Error, "Wrong type",
        "A list where text is expected, and the like.",
        "Write the value in the type that the message names.";
    WRONG_VALUE = "TCT1008", Error, "Wrong value",
        "The value has the right type, but there is no such value.",
        "Write one of the values that the message names.";
    DUPLICATE_KEY = "TCT1009", Error, "Field written twice",
        "The same field stands twice in one mapping.",
        "Remove one of the two.";
    DUPLICATE_OBJECT = "TCT1011", Error, "Object written twice",
        "Two objects have the same kind, namespace and name. Neither counts.",
        "Remove or rename one of the two.";
    BAD_NAME = "TCT1012", Error, "Invalid name",
        "A name is not one that DNS and certificates can carry.",
        "Use lower-case letters, digits and '-'.";
    SECOND_MESH = "TCT1013", Error, "More than one Mesh",
        "A mesh has one Mesh object. The one named `default` counts, else the first by name.",
        "Remove the others.";
    NO_TARGET = "TCT1101", Error, "No target",
        "A policy must say what it applies to.",
        "Add targetRefs, targetSelectors or targetAll: {}.";
    TWO_TARGETS = "TCT1102", Error, "Two sorts of targets",
        "Only one of targetRefs, targetSelectors and targetAll may be written.",
        "Keep one; write a second policy for the others.";
    EMPTY_TARGET = "TCT1103", Error, "Empty target",
        "An empty list or selector would mean either nothing or everything.",
        "Name something, or write targetAll: {} for everything in scope.";
    TARGET_NOT_FOUND = "TCT1104", Error, "Target not found",
        "The policy names an object that does not exist.",
        "Correct the name, or create the object.";
    TARGET_NOT_PERMITTED = "TCT1105", Error, "Target not permitted",
        "The target is outside the policy's scope.",
        "Move the policy to the target's namespace, to the home of its Workspace, or to the root \
         namespace of the mesh.";
    TARGET_KIND = "TCT1106", Error, "Kind of target",
        "The kind of policy cannot apply to this kind of object.",
        "Choose a target of a kind that the message names.";
    SELECTS_NOTHING = "TCT1107", Info, "Selector matches nothing",
        "No object in the policy's scope has the labels now.",
        "Nothing, if objects will get the labels later.";
    NOT_SUPPORTED = "TCT1201", Error, "Not supported by this version",
        "This version does not enforce the field or value, so it refuses the object instead of \
         ignoring it.",
        "Remove the field.";
    OUT_OF_RANGE = "TCT1301", Error, "Out of range",
        "The number or time is outside its limits.",
        "Choose a value inside the limits that the message names.";
    CONTRADICTION = "TCT1302", Error, "Contradictory values",
        "Two values of the object cannot both hold.",
        "Change one of the two.";
    EMPTY_LIST = "TCT1303", Error, "Empty list",
        "An empty list would mean either nothing or everything. Absent means any.",
        "Name something, or remove the field.";
    BAD_TEXT = "TCT1304", Error, "Not a value of this kind",
        "The text is not an address range, path, method, host or place.",
        "Write it as the message says.";
    SAYS_NOTHING = "TCT1305", Warning, "Policy without content",
        "The policy sets no field, so it changes nothing.",
        "Add what it should set, or remove it.";
    NO_EFFECT = "TCT1306", Warning, "Field without effect",
        "Another value of the same object makes the field meaningless.",
        "Change or remove one of the two.";
    NOT_FOR_KIND = "TCT1307", Error, "Field not for this kind",
        "Access policies combine; they do not override each other.",
        "Remove the field.";
    OPAQUE_PORT = "TCT1401", Error, "Request conditions on an opaque port",
        "Methods, paths and hosts can only be seen on ports whose protocol is known to be HTTP.",
        "Give the port an appProtocol of http, or list it in `ports` of the rule.";
    OPAQUE_PORT_IN_SCOPE = "TCT1402", Warning, "Request conditions meet an opaque port",
        "The policy covers a port that is not known to be HTTP. There, an Allow with conditions \
         on requests never matches, and a Deny with such conditions always does.",
        "Give the port an appProtocol of http, or list `ports` in the rule.";
    SERVICE_PORT_LISTED = "TCT1403", Warning, "Port of the service, not of the workload",
        "`ports` of an access rule are ports of the workload. The number is only a port of the \
         Service.",
        "List the target port.";
    BROKEN_ACCESS = "TCT1404", Error, "Access denied until it is repaired",
        "An AccessPolicy has no valid version, and an access rule that is not understood denies.",
        "Repair the policy, or delete it.";
    UNKNOWN_WORKSPACE = "TCT1405", Warning, "Unknown workspace",
        "The rule names a Workspace that does not exist; nobody is in it.",
        "Correct the name, or create the Workspace.";
    ADDRESS_TAKEN = "TCT1501", Error, "Address taken",
        "Another object has the same address.",
        "Choose another address, or leave it out to have one assigned.";
    ADDRESS_RANGE = "TCT1502", Error, "Address outside its range",
        "The address is not where addresses of this kind are.",
        "Choose one inside the range that the message names, or leave it out.";
    RANGE_FULL = "TCT1503", Error, "No address left",
        "Every address of the range is given away.",
        "Make the range larger: serviceAddresses or workloadAddresses of Mesh.";
    NODE_UNKNOWN = "TCT1504", Info, "Node not enrolled",
        "The workload waits for the node that it names, which has not joined yet.",
        "Start the node, or correct spec.node.";
    PROTOCOLS_DIFFER = "TCT1505", Warning, "Protocols differ",
        "A Service and a workload behind it declare different protocols for one port. It is \
         treated as HTTP.",
        "Declare the same protocol at both.";
    NO_TARGET_PORT = "TCT1506", Warning, "Target port not there",
        "A Service means a port by name that a workload behind it does not declare.",
        "Add the port to the workload, or write its number as targetPort.";
    NOT_HOSTED = "TCT1507", Error, "Node may not host it",
        "The node that the workload names joined with a token that does not allow the workload's \
         identity. The workload is not in the mesh.",
        "Let another node run it, or join the node anew with a token that allows the identity \
         (tacit token --may-host).";
    FALLBACK = "TCT1521", Error, "Fallback service not usable",
        "A step of a FailoverPolicy names a service that does not exist, is not permitted, or is \
         the service itself.",
        "Name another service.";
    PLACE_EMPTY = "TCT1522", Warning, "Place without endpoints",
        "A step names a place in which the service has no endpoint now.",
        "Check the spelling of the place, or start an endpoint there.";
    NOT_GRANTED = "TCT1601", Error, "Not granted",
        "No grant of the Workspace covers the change.",
        "Ask the administrator for the grant that the message names.";
    FIELD_NOT_GRANTED = "TCT1602", Error, "Field not granted",
        "A grant covers the change but for one field.",
        "Leave the field as it was, or ask for a grant that lists it.";
    TARGET_NOT_GRANTED = "TCT1603", Error, "Target not granted",
        "A grant covers the change but for one target.",
        "Choose a target with the labels that the grant names, or ask for a wider grant.";
    OVER_LIMIT = "TCT1604", Error, "Limit of a grant",
        "The object does not keep a limit of the grant.",
        "Keep to the rule that the message names.";
    BAD_GRANT = "TCT1605", Error, "Unusable grant",
        "A grant cannot mean anything as it is written.",
        "Correct the field.";
    CONTESTED = "TCT1611", Error, "Namespace claimed twice",
        "Two workspaces claim a namespace. It belongs to neither and is denied.",
        "Let one workspace claim it.";
    IMPORT = "TCT1612", Warning, "Import without export",
        "A workspace imports what does not exist or is not exported to it.",
        "Ask the owner of the other workspace for an export, or remove the import.";
    BAD_PATTERN = "TCT1613", Error, "Not a namespace or prefix",
        "Members are names of namespaces, or prefixes that end in `*`.",
        "Correct the pattern.";
    WORKSPACE_SAYS_NOTHING = "TCT1614", Error, "Empty list in a Workspace",
        "An empty list selects nothing.",
        "Name something, or remove the entry.";
    OVERRIDDEN = "TCT1701", Info, "Overridden",
        "Every field of the policy is decided by policies that come first, for all its targets.",
        "Remove the policy, or give it what it needs to come first; see the table of precedence.";
    OTHER_OWNER = "TCT1901", Error, "Object of another owner",
        "Each object is written either in the directory or over the API, and this one is written \
         in both.",
        "Change it where it is written, or delete it there first.";
    ISTIO_CANNOT = "TCT2001", Warning, "Istio cannot express it",
        "Istio's objects have nothing that says this. The translation leaves it out.",
        "Remove the field if Istio's behaviour, which the message names, is enough.";
    ISTIO_STRICTER = "TCT2002", Warning, "Stricter under Istio",
        "Istio cannot say exactly this, so the translation denies more than what is written.",
        "Write it as the message says, or add an AuthorizationPolicy by hand.";
    ISTIO_DIFFERS = "TCT2003", Warning, "Not the same under Istio",
        "Istio says nearly this, or only with a setting that is no object.",
        "Make the setting that the message names, or accept the difference.";
    ISTIO_ELSEWHERE = "TCT2004", Warning, "Set elsewhere under Istio",
        "What this field decides is decided outside of Istio's objects.",
        "Set it where the message says.";
    ISTIO_PODS = "TCT2005", Info, "Pods are not translated",
        "What a Workload declares is a pod, or a WorkloadEntry, under Istio.",
        "Nothing, if the pods are there.";
}

/// The code with this number.
#[must_use]
pub fn code(number: &str) -> Option<&'static Code> {
    CODES.iter().find(|code| code.code == number)
}

/// The page of documentation: every code with its cause and fix, as Markdown.
#[must_use]
pub fn page() -> String {
    let mut page = String::from(
        "# Findings\n\nWhat `tacit check`, `apply` and `status` say about what is written. This \
         page is generated from `crates/compiler/src/findings.rs`.\n",
    );
    for Code {
        code,
        severity,
        title,
        cause,
        fix,
    } in CODES
    {
        let severity = match severity {
            Severity::Error => "Error: the object or a part of it is not in force.",
            Severity::Warning => "Warning: in force, but probably not as meant.",
            Severity::Info => "Information.",
        };
        // Writing to a String cannot fail.
        let _ = write!(
            page,
            "\n## {code}: {title}\n\n{severity}\n\n**Cause.** {cause}\n\n**Fix.** {fix}\n"
        );
    }
    page
}

/// Collects the findings about one object.
#[derive(Debug)]
pub(crate) struct Report<'a> {
    object: &'a Located<Object>,
    pub(crate) findings: Vec<Finding>,
}

impl<'a> Report<'a> {
    pub(crate) fn new(object: &'a Located<Object>) -> Self {
        Self {
            object,
            findings: Vec::new(),
        }
    }

    /// Adds a finding about a field; its fix is the one of the code unless `fix` says better.
    pub(crate) fn add(&mut self, code: Code, field: &str, message: String, fix: Option<String>) {
        self.findings
            .push(at(self.object, code, field, message, fix));
    }

    /// Adds a finding with the fix of its code.
    pub(crate) fn say(&mut self, code: Code, field: &str, message: impl Into<String>) {
        self.add(code, field, message.into(), None);
    }
}

/// A finding about a field of an object; its fix is the one of the code unless `fix` says better.
#[must_use]
pub fn at(
    object: &Located<Object>,
    code: Code,
    field: &str,
    message: String,
    fix: Option<String>,
) -> Finding {
    let (position, snippet) = object.find(field);
    Finding {
        code: code.code.into(),
        severity: code.severity,
        object: object_ref(&object.value.key()),
        field: field.into(),
        position: Some(Position {
            file: position.file,
            line: position.line,
            column: position.column,
        }),
        message,
        fix: fix.unwrap_or_else(|| code.fix.to_owned()),
        snippet,
    }
}

/// What could not be read, as a finding.
pub(crate) fn of_syntax(error: &SyntaxError) -> Finding {
    let code = match error.problem {
        Problem::DuplicateKey => DUPLICATE_KEY,
        Problem::MissingField => MISSING_FIELD,
        Problem::NotText => NOT_TEXT,
        Problem::NotYaml => NOT_YAML,
        Problem::TooLarge => TOO_LARGE,
        Problem::UnknownField => UNKNOWN_FIELD,
        Problem::UnknownKind => UNKNOWN_KIND,
        Problem::WrongType => WRONG_TYPE,
        Problem::WrongValue => WRONG_VALUE,
    };
    Finding {
        code: code.code.into(),
        severity: code.severity,
        object: error.object.as_ref().and_then(object_ref),
        field: error.field.as_str().into(),
        position: Some(Position {
            file: error.position.file.clone(),
            line: error.position.line,
            column: error.position.column,
        }),
        message: error.message.clone(),
        fix: error.fix.clone(),
        snippet: error.snippet.clone(),
    }
}

/// The object as the model names it; nothing if its names are invalid, which is a finding.
#[must_use]
pub fn object_ref(key: &ObjectKey) -> Option<ObjectRef> {
    let namespace = match &key.namespace {
        Some(namespace) => Some(namespace.as_str().try_into().ok()?),
        None => None,
    };
    Some(ObjectRef {
        kind: key.kind.as_str().into(),
        namespace,
        name: key.name.as_str().try_into().ok()?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_rise_and_are_unique() {
        let numbers: Vec<&str> = CODES.iter().map(|code| code.code).collect();
        let mut sorted = numbers.clone();
        sorted.sort_unstable();
        sorted.dedup();
        assert_eq!(numbers, sorted);
        assert!(code("TCT1004").is_some() && code("TCT9999").is_none());
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
