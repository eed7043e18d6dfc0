//! How far the worlds reach: each field is set, and taking it away changes answers.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;
use tacit_reference::{Reference, Request, World, Written};

use crate::compare::{cases, seed};
use crate::random::Random;
use crate::requests::request;
use crate::worlds;

/// Fields taken away in each world, and requests that are asked with and without.
const REMOVALS: usize = 16;
const REQUESTS: usize = 120;

/// Worlds in which every field is counted; more in a full run.
fn broad() -> u64 {
    (cases() / 2500).max(20)
}

/// Every field that worlds can have, as `Kind.field.field`, and why it decides nothing here if it
/// does not.
const FIELDS: &str = include_str!("coverage/fields.txt");

/// What is known of one field.
#[derive(Default)]
struct Count {
    worlds: u64,
    mattered: u64,
}

/// One place where a field is set.
#[derive(Clone)]
struct Place {
    field: String,
    document: usize,
    steps: Vec<Step>,
}

#[derive(Clone)]
enum Step {
    Field(String),
    Item(usize),
}

/// All places of a document where a field is set.
fn places(document: usize, value: &Value) -> Vec<Place> {
    let kind = value["kind"].as_str().unwrap().to_owned();
    let mut found = Vec::new();
    for part in ["metadata", "spec"] {
        let start = Place {
            field: kind.clone(),
            document,
            steps: vec![Step::Field(part.to_owned())],
        };
        collect(&value[part], &start, &mut found);
    }
    // Names and namespaces are keys, not fields.
    found.retain(|place| {
        let of_key = [".name", ".namespace"].map(|name| format!("{kind}{name}"));
        !of_key.contains(&place.field)
            || matches!(&place.steps[0], Step::Field(part) if part == "spec")
    });
    found
}

fn collect(value: &Value, at: &Place, found: &mut Vec<Place>) {
    match value {
        Value::Object(map) => {
            for (key, inner) in map {
                // Labels have names of people's own.
                let is_label = ["labels", "selector", "matchLabels"]
                    .iter()
                    .any(|name| at.field.ends_with(name));
                let mut place = at.clone();
                place.steps.push(Step::Field(key.clone()));
                if !is_label {
                    place.field = format!("{}.{key}", at.field);
                    found.push(place.clone());
                }
                collect(inner, &place, found);
            }
        }
        Value::Array(items) => {
            for (index, item) in items.iter().enumerate() {
                let mut place = at.clone();
                place.steps.push(Step::Item(index));
                collect(item, &place, found);
            }
        }
        Value::Bool(_) | Value::Null | Value::Number(_) | Value::String(_) => {}
    }
}

/// The world without what is at a place.
fn without(world: &World, place: &Place) -> World {
    let mut world = world.clone();
    let written = &mut world.documents[place.document].written;
    let mut document = written.document().clone();
    let (last, path) = place.steps.split_last().unwrap();
    let mut at = &mut document;
    for step in path {
        at = match step {
            Step::Field(name) => &mut at[name.as_str()],
            Step::Item(index) => &mut at[*index],
        };
    }
    if let (Step::Field(name), Value::Object(map)) = (last, at) {
        map.remove(name);
    }
    *written = written.with(document);
    world
}

/// How many answers change.
fn changes(world: &World, other: &World, requests: &[Request]) -> u64 {
    let (before, after) = (Reference::new(world, None), Reference::new(other, None));
    let changed = requests
        .iter()
        .filter(|request| before.answer(request) != after.answer(request));
    u64::try_from(changed.count()).unwrap()
}

fn look(
    (seed, number): (u64, u64),
    table: &BTreeMap<&str, &str>,
    counts: &mut BTreeMap<String, Count>,
) {
    let mut random = Random::new(seed, number);
    let world = worlds::world(&mut random);
    let requests: Vec<Request> = (0..REQUESTS)
        .map(|_| request(&mut random, world.illnesses.len()))
        .collect();
    let valid = world
        .documents
        .iter()
        .enumerate()
        .filter_map(|(index, document)| match &document.written {
            Written::Valid(found) => Some(places(index, found)),
            Written::Refused(_) | Written::Twice(_) | Written::Unreadable(_) => None,
        });
    let mut all: Vec<Place> = valid.flatten().collect();
    let names: BTreeSet<&str> = all.iter().map(|place| place.field.as_str()).collect();
    for name in names {
        counts.entry(name.to_owned()).or_default().worlds += 1;
    }
    // At first all are counted, later only those that are still to be found.
    let is_open = |field: &str| number < broad() || counts[field].mattered == 0;
    all.retain(|place| {
        let decides = table.get(&*place.field).is_none_or(|why| why.is_empty());
        decides && is_open(&place.field)
    });
    // Those of which least is known come first.
    all.sort_by_cached_key(|place| (counts[&place.field].mattered, random.next()));
    for place in all.iter().take(REMOVALS) {
        let changed = changes(&world, &without(&world, place), &requests);
        counts.get_mut(&place.field).unwrap().mattered += changed;
    }
}

/// The fields of the table with the reasons of those that decide nothing here.
fn table() -> BTreeMap<&'static str, &'static str> {
    let lines = FIELDS
        .lines()
        .filter(|line| line.starts_with(|first: char| first.is_ascii_uppercase()));
    lines
        .map(|line| line.split_once(": ").unwrap_or((line, "")))
        .collect()
}

/// The sources of the API's fields.
const SOURCES: [&str; 13] = [
    include_str!("../../../api/src/access.rs"),
    include_str!("../../../api/src/failover.rs"),
    include_str!("../../../api/src/fault.rs"),
    include_str!("../../../api/src/grpc_route.rs"),
    include_str!("../../../api/src/http_route.rs"),
    include_str!("../../../api/src/mesh.rs"),
    include_str!("../../../api/src/policy.rs"),
    include_str!("../../../api/src/rate_limit.rs"),
    include_str!("../../../api/src/retry_timeout.rs"),
    include_str!("../../../api/src/service.rs"),
    include_str!("../../../api/src/tcp_route.rs"),
    include_str!("../../../api/src/workload.rs"),
    include_str!("../../../api/src/workspace.rs"),
];

/// A field that the API gets is one that the worlds have, or has a reason in the table.
#[test]
fn the_table_has_every_field_of_the_api() {
    let unset = FIELDS.lines().filter_map(|line| line.strip_prefix("- "));
    let unset = unset.filter_map(|line| line.split_once(": "));
    let mut known: BTreeSet<&str> = unset.map(|(name, _)| name).collect();
    known.extend(table().keys().flat_map(|field| field.split('.')));
    let lines = SOURCES.iter().flat_map(|source| source.lines());
    let written = lines.filter_map(|line| line.strip_suffix("\",")?.rsplit_once("= \""));
    let names: BTreeSet<&str> = written.map(|(_, name)| name).collect();
    let unknown: Vec<&&str> = names.difference(&known).collect();
    assert!(
        names.len() > 120,
        "the sources are read otherwise than they are written"
    );
    assert!(
        unknown.is_empty(),
        "not in coverage/fields.txt: {unknown:?}"
    );
}

#[test]
fn every_field_is_set_and_matters() {
    let (seed, most) = (seed(), cases() / 25);
    let table = table();
    let mut counts: BTreeMap<String, Count> = BTreeMap::new();
    let is_open = |counts: &BTreeMap<String, Count>| {
        table.iter().any(|(field, why)| {
            counts
                .get(*field)
                .is_none_or(|count| count.mattered == 0 && why.is_empty())
        })
    };
    let mut looked = 0;
    while looked < most && (looked < broad() || is_open(&counts)) {
        look((seed, looked), &table, &mut counts);
        looked += 1;
    }
    println!("field: worlds of {looked} in which it is set, answers in which it mattered");
    for (field, count) in &counts {
        let why = table.get(field.as_str()).unwrap_or(&"not in the table");
        println!("{field}: {} {} {why}", count.worlds, count.mattered);
    }
    let unknown: Vec<&String> = counts
        .keys()
        .filter(|field| !table.contains_key(field.as_str()))
        .collect();
    assert!(
        unknown.is_empty(),
        "not in coverage/fields.txt: {unknown:#?}"
    );
    let holes: Vec<&&str> = table
        .iter()
        .filter(|(field, why)| {
            counts
                .get(**field)
                .is_none_or(|count| count.mattered == 0 && why.is_empty())
        })
        .map(|(field, _)| field)
        .collect();
    assert!(
        holes.is_empty(),
        "TACIT_SEED={seed}: never set, or never mattered: {holes:#?}"
    );
}
