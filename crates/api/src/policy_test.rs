//! PolicyTest: cases for `tacit test`, written beside the objects that they are about.
//!
//! It is a file, not an object of the mesh: it has no namespace, no spec and no status, and who
//! reads a directory for a mesh passes over it.

use std::collections::BTreeMap;

use crate::decode::{Decoder, fields, words};
use crate::object::{API_VERSION, check_version};
use crate::tree::Node;
use crate::values::{BadText, DurationText, quoted};

/// As it is written.
pub const KIND: &str = "PolicyTest";

/// Cases that share what is given.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PolicyTest {
    /// The name.
    pub metadata: TestMetadata,
    /// What is assumed of the world; absent: nothing is down.
    pub given: Option<Given>,
    /// The cases.
    pub cases: Vec<Case>,
}

fields! {
    /// What a test is called.
    pub struct TestMetadata {
        /// The name, for reports.
        name: String = "name",
    }
}

fields! {
    /// What is assumed of the world.
    #[derive(Default)]
    pub struct Given {
        /// Places of which nothing can be reached.
        down: Option<Vec<DownPlace>> = "down",
    }
}

fields! {
    /// A place that is down: whatever all the given parts fit.
    #[derive(Default)]
    pub struct DownPlace {
        /// The cluster.
        cluster: Option<String> = "cluster",
        /// The region.
        region: Option<String> = "region",
        /// The zone.
        zone: Option<String> = "zone",
        /// The node.
        node: Option<String> = "node",
        /// One workload, as `namespace/name`.
        workload: Option<SlashName> = "workload",
    }
}

fields! {
    /// One call and what must come of it.
    pub struct Case {
        /// Who calls.
        from: TestCaller = "from",
        /// `METHOD URL`.
        request: RequestText = "request",
        /// Headers of the request that rules of routes look at, by name.
        headers: Option<BTreeMap<String, String>> = "headers",
        /// What must come of it.
        then: Then = "then",
    }
}

fields! {
    /// Who calls: every workload of the account that the places fit, else one that is assumed.
    pub struct TestCaller {
        /// As `namespace/name`.
        service_account: SlashName = "serviceAccount",
        /// Only callers in this zone.
        zone: Option<String> = "zone",
        /// Only callers in this region.
        region: Option<String> = "region",
    }
}

words! {
    /// Whether a call is served.
    pub enum TestVerdict { Allowed, Denied }
}

fields! {
    /// What must come of a call; only what is written is compared.
    #[derive(Default)]
    pub struct Then {
        /// Whether it is served.
        verdict: Option<TestVerdict> = "verdict",
        /// Where everyone is who may serve it.
        served_by: Option<ServedBy> = "servedBy",
        /// The limit of all tries together; 0s: none.
        timeout: Option<DurationText> = "timeout",
        /// All tries, the first included: 1 + `retry.attempts`.
        tries: Option<u32> = "tries",
        /// The object that decides, as `Kind/namespace/name` or `Kind/name`.
        by: Option<String> = "by",
    }
}

fields! {
    /// A place: all the given parts must fit.
    #[derive(Default)]
    pub struct ServedBy {
        /// The cluster.
        cluster: Option<String> = "cluster",
        /// The region.
        region: Option<String> = "region",
        /// The zone.
        zone: Option<String> = "zone",
    }
}

/// Two names joined by a slash: a service account or a workload with its namespace.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SlashName {
    /// Before the slash.
    pub namespace: String,
    /// After it.
    pub name: String,
}

impl TryFrom<&str> for SlashName {
    type Error = BadText;

    fn try_from(text: &str) -> Result<Self, BadText> {
        // Which characters a name may have is not a matter of shape.
        match text.split_once('/') {
            Some((namespace, name))
                if !namespace.is_empty() && !name.is_empty() && !name.contains('/') =>
            {
                Ok(Self {
                    namespace: namespace.to_owned(),
                    name: name.to_owned(),
                })
            }
            Some(_) | None => Err(BadText {
                message: format!("{} is not a namespace and a name", quoted(text)),
                fix: "write NAMESPACE/NAME, for example shop/frontend",
            }),
        }
    }
}

impl serde::Serialize for SlashName {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&format!("{}/{}", self.namespace, self.name))
    }
}

/// A method and a URL, as in the first line of an HTTP request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RequestText {
    /// Upper case.
    pub method: String,
    /// `http://HOST[:PORT]/PATH`, `tcp://HOST:PORT` or `HOST:PORT`.
    pub url: String,
}

impl TryFrom<&str> for RequestText {
    type Error = BadText;

    fn try_from(text: &str) -> Result<Self, BadText> {
        let words: Vec<&str> = text.split_ascii_whitespace().collect();
        match words.as_slice() {
            [method, url] if method.bytes().all(|b| b.is_ascii_uppercase() || b == b'-') => {
                Ok(Self {
                    method: (*method).to_owned(),
                    url: (*url).to_owned(),
                })
            }
            _ => Err(BadText {
                message: format!("{} is not a request", quoted(text)),
                fix: "write METHOD URL, for example GET http://payments.shop/charge/17",
            }),
        }
    }
}

impl serde::Serialize for RequestText {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&format!("{} {}", self.method, self.url))
    }
}

/// True if a document says that it is one.
pub(crate) fn is_test(node: &Node) -> bool {
    node.get("kind").is_some_and(|kind| kind.is_text(KIND))
}

/// Reads one. `None` means that a problem was reported.
pub(crate) fn decode(node: &Node, decoder: &mut Decoder) -> Option<PolicyTest> {
    const KEYS: &[&str] = &["apiVersion", "kind", "metadata", "given", "cases"];
    decoder.mapping(node, KEYS)?;
    check_version(KIND, API_VERSION, node, decoder);
    // All fields are read before the first missing one ends it.
    let metadata = decoder.field(node, "metadata");
    let given = decoder.field(node, "given");
    let cases = decoder.field(node, "cases");
    Some(PolicyTest {
        metadata: metadata?,
        given: given?,
        cases: cases?,
    })
}
