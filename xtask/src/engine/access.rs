//! One decision of access in a mesh with many policies.

use std::hint::black_box;
use std::time::Duration;

use tacit_compiler::{Compiler, InputDelta, Owner, Upsert, Written};
use tacit_decide::Peer;
use tacit_decide::authorize::{
    ConnectionVerdict, RequestHead, authorize_connection, authorize_request,
};
use tacit_model::{Generation, Snapshot};

use super::{Line, now, seconds};

const POLICIES: usize = 10_000;
const RULES: usize = 10;
/// Policies that apply to one workload: those of a namespace.
const SPACE: usize = 10;
const TIMES: u32 = 100_000;

pub(crate) fn decision() -> Line {
    let snapshot = snapshot();
    let local = snapshot.workloads.values().next();
    let local = local.unwrap_or_else(|| panic!("a world without a workload"));
    let peer = Peer {
        identity: Some(local.identity(&snapshot.mesh.trust_domain)),
        address: ([10, 96, 0, 9], 1000).into(),
    };
    let ConnectionVerdict::InspectRequests(permit) =
        authorize_connection(&snapshot, local, 80, &peer)
    else {
        panic!("port 80 is declared HTTP");
    };
    let head = RequestHead {
        method: "GET",
        // The last rule of the last policy.
        path: "/9/9/x",
        host: "web",
    };
    if let Err(denial) = authorize_request(&snapshot, &permit, &head) {
        panic!("the last rule allows it: {denial}");
    }
    let begin = now();
    for _ in 0..TIMES {
        let _ = black_box(authorize_request(&snapshot, black_box(&permit), &head));
    }
    let each = (now() - begin) / TIMES;
    Line {
        what: format!("access, {POLICIES} policies x {RULES} rules, {SPACE} apply"),
        figure: format!("mean {}", seconds(each)),
        promise: "1 µs",
        met: each <= Duration::from_micros(1),
    }
}

fn snapshot() -> Snapshot {
    let mut text = String::new();
    for space in 0..POLICIES / SPACE {
        let metadata = |name: &str| {
            format!("{{name: {name}, namespace: space-{space}, labels: {{app: web}}}}")
        };
        text += &format!(
            "---\napiVersion: v1\nkind: Service\nmetadata: {}\nspec: {{selector: {{app: web}}, \
             ports: [{{name: http, port: 80}}]}}\n---\napiVersion: tacit.dev/v1alpha1\n\
             kind: Workload\n\
             metadata: {}\nspec: {{serviceAccount: web, node: n, address: 10.{}.{}.2}}\n",
            metadata("web"),
            metadata("web-1"),
            96 + space / 250,
            space % 250,
        );
        for number in 0..SPACE {
            let rules: Vec<String> = (0..RULES)
                .map(|rule| {
                    format!(
                        "{{from: [{{serviceAccounts: [web]}}], \
                         to: [{{ports: [80], paths: ['/{rule}/{number}/*']}}]}}"
                    )
                })
                .collect();
            text += &format!(
                "---\napiVersion: tacit.dev/v1alpha1\nkind: AccessPolicy\nmetadata: {}\nspec: {{\
                 targetAll: {{}}, action: Allow, rules: [{}]}}\n",
                metadata(&format!("policy-{number}")),
                rules.join(", "),
            );
        }
    }
    let mut compiler = Compiler::default();
    for part in text.split("---\n").collect::<Vec<_>>().chunks(1000) {
        let parsed = tacit_api::parse("mesh.yaml", &part.join("---\n"));
        let upsert = |object: tacit_api::Located<tacit_api::Object>| Upsert {
            key: object.value.key(),
            written: Written::Ok(Box::new(object)),
            last_good: None,
            owner: Owner::Directory,
        };
        let upserts = parsed.objects.into_iter().map(upsert).collect();
        compiler.apply(InputDelta {
            upserts,
            ..InputDelta::default()
        });
    }
    Snapshot::build(Generation::default(), compiler.tables()).unwrap_or_else(|e| panic!("{e}"))
}
