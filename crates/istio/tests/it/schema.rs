//! Every emitted object is one that a cluster with Istio's CRDs takes: types, unknown fields, and
//! the rules in CEL. The CRDs come from the Go module that Istio publishes.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::process::Command;
use std::sync::{Arc, LazyLock};

use cel::{Context, Program};
use serde_json::Value;

use crate::golden::cases;
use crate::translated;
use crate::yaml::documents;

/// The release whose schemas count.
const MODULE: &str = "istio.io/api@v1.28.0";
const FILE: &str = "kubernetes/customresourcedefinitions.gen.yaml";

/// The folder of the module; nothing if this machine cannot fetch it.
fn module() -> Option<&'static str> {
    static FOLDER: LazyLock<Option<String>> = LazyLock::new(download);
    FOLDER.as_deref()
}

fn download() -> Option<String> {
    let scratch = std::env::temp_dir().join(format!("tacit-istio-{}", std::process::id()));
    fs::create_dir_all(&scratch).unwrap();
    fs::write(scratch.join("go.mod"), "module schemas\n\ngo 1.21\n").unwrap();
    let answer = Command::new("go")
        .args(["mod", "download", "-json", MODULE])
        .env("GOFLAGS", "-mod=mod")
        .current_dir(&scratch)
        .output();
    fs::remove_dir_all(&scratch).unwrap();
    let answer: Value = serde_json::from_slice(&answer.ok()?.stdout).ok()?;
    answer["Dir"].as_str().map(str::to_owned)
}

/// The schema of each `apiVersion kind`.
fn schemas(folder: &str) -> BTreeMap<String, Value> {
    let text = fs::read_to_string(Path::new(folder).join(FILE)).unwrap();
    let mut found = BTreeMap::new();
    for crd in documents(&text) {
        let (group, kind) = (&crd["spec"]["group"], &crd["spec"]["names"]["kind"]);
        for version in crd["spec"]["versions"].as_array().into_iter().flatten() {
            let (group, name) = (group.as_str().unwrap(), version["name"].as_str().unwrap());
            let key = format!("{group}/{name} {}", kind.as_str().unwrap());
            found.insert(key, version["schema"]["openAPIV3Schema"].clone());
        }
    }
    found
}

#[test]
fn istio_takes_every_object() {
    let Some(folder) = module() else {
        println!("SKIPPED istio_takes_every_object: `go mod download {MODULE}` does not work here");
        return;
    };
    let schemas = schemas(folder);
    let (mut objects, mut rules) = (0, 0);
    for case in cases() {
        let text = fs::read_to_string(&case).unwrap();
        for object in translated(&text).2.objects {
            let problems = problems(&schemas, &object, &mut rules);
            assert!(
                problems.is_empty(),
                "{}: {problems:#?}\n{object:#}",
                case.display()
            );
            objects += 1;
        }
    }
    assert!(
        objects > 60 && rules > 60,
        "{objects} objects, {rules} rules"
    );
}

/// What is wrong with an object.
fn problems(schemas: &BTreeMap<String, Value>, object: &Value, rules: &mut u32) -> Vec<String> {
    let (version, kind) = (&object["apiVersion"], &object["kind"]);
    let key = format!("{} {}", version.as_str().unwrap(), kind.as_str().unwrap());
    let Some(schema) = schemas.get(&key) else {
        return vec![format!("no schema of {key}")];
    };
    let validator = jsonschema::validator_for(schema).unwrap();
    let mut found: Vec<String> = validator
        .iter_errors(object)
        .map(|error| format!("{}: {error}", error.instance_path()))
        .collect();
    let spec = &schema["properties"]["spec"];
    walk(spec, &object["spec"], "spec", rules, &mut found);
    found
}

/// Fields that the schema does not know would be dropped without a word; and the rules in CEL.
fn walk(schema: &Value, value: &Value, at: &str, rules: &mut u32, found: &mut Vec<String>) {
    for rule in schema["x-kubernetes-validations"]
        .as_array()
        .into_iter()
        .flatten()
    {
        let text = rule["rule"].as_str().unwrap();
        *rules += 1;
        if !holds(text, value) {
            found.push(format!("{at}: {text}"));
        }
    }
    match value {
        Value::Object(fields) => {
            for (name, value) in fields {
                let at = format!("{at}.{name}");
                match (
                    schema["properties"].get(name),
                    schema.get("additionalProperties"),
                ) {
                    (Some(schema), _) | (None, Some(schema @ Value::Object(_))) => {
                        walk(schema, value, &at, rules, found);
                    }
                    _ if schema["x-kubernetes-preserve-unknown-fields"] == true => {}
                    _ => found.push(format!("{at}: unknown field")),
                }
            }
        }
        Value::Array(items) => {
            for (index, item) in items.iter().enumerate() {
                walk(
                    &schema["items"],
                    item,
                    &format!("{at}[{index}]"),
                    rules,
                    found,
                );
            }
        }
        Value::Bool(_) | Value::Null | Value::Number(_) | Value::String(_) => {}
    }
}

fn holds(rule: &str, value: &Value) -> bool {
    let program = Program::compile(rule).unwrap();
    let mut context = Context::default();
    context.add_function("duration", duration).unwrap();
    context.add_variable("self", value).unwrap();
    program.execute(&context) == Ok(cel::Value::Bool(true))
}

/// Nanoseconds of the times that the rules and we write.
fn duration(text: Arc<String>) -> i64 {
    let (number, unit) = match text.strip_suffix("ms") {
        Some(number) => (number, 1e6),
        None => (text.strip_suffix('s').unwrap(), 1e9),
    };
    format!("{:.0}", number.parse::<f64>().unwrap() * unit)
        .parse()
        .unwrap()
}

#[test]
fn long_lists_are_split() {
    let Some(folder) = module() else {
        println!("SKIPPED long_lists_are_split: `go mod download {MODULE}` does not work here");
        return;
    };
    let schemas = schemas(folder);
    let from: Vec<String> = (0..1030)
        .map(|n| format!("{{namespaces: [n{n}]}}"))
        .collect();
    let short = vec!["{from: [{namespaces: [a]}]}"; 600].join(", ");
    let text = format!(
        "apiVersion: tacit.dev/v1alpha1\nkind: AccessPolicy\nmetadata: {{name: a, namespace: b}}\n\
         spec: {{targetAll: {{}}, action: Deny, rules: [{{from: [{}]}}, {short}]}}\n",
        from.join(", ")
    );
    let objects = translated(&text).2.objects;
    let of = |object: &&Value| object["kind"] == "AuthorizationPolicy";
    let rules = objects
        .iter()
        .filter(of)
        .map(|o| o["spec"]["rules"].as_array().unwrap().len());
    assert_eq!(rules.collect::<Vec<_>>(), [512, 91]);
    for object in &objects {
        assert_eq!(problems(&schemas, object, &mut 0), [""; 0]);
    }
}

#[test]
fn wrong_objects_are_found() {
    let Some(folder) = module() else {
        println!("SKIPPED wrong_objects_are_found: `go mod download {MODULE}` does not work here");
        return;
    };
    let schemas = schemas(folder);
    let of = |kind: &str, spec: Value| {
        let object =
            serde_json::json!({"apiVersion": "networking.istio.io/v1", "kind": kind, "spec": spec});
        problems(&schemas, &object, &mut 0).len()
    };
    let retries =
        |retries: Value| serde_json::json!({"hosts": ["a"], "http": [{"retries": retries}]});
    assert_eq!(
        of(
            "VirtualService",
            retries(serde_json::json!({"attempts": 2}))
        ),
        0
    );
    assert_eq!(
        of(
            "VirtualService",
            retries(serde_json::json!({"attempts": "2"}))
        ),
        1
    );
    assert_eq!(
        of("VirtualService", retries(serde_json::json!({"atempts": 2}))),
        1
    );
    assert_eq!(
        of(
            "VirtualService",
            retries(serde_json::json!({"backoff": "0s"}))
        ),
        1
    );
}
