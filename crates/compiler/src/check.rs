//! Checks compiled tables by rules of their own, independent of how they were made.

use std::collections::BTreeSet;
use std::sync::Arc;

use tacit_model::tables::{AccessAttachment, ClassKey, ClassRow, ServiceRow};
use tacit_model::{Generation, Row, RowKey, Snapshot, Tables};

/// What is wrong with the tables; none if they may be used. Run in every test.
#[must_use]
pub fn check(tables: &Tables) -> Vec<String> {
    let mut violations = Vec::new();
    if let Err(error) = Snapshot::build(Generation::default(), tables) {
        violations.push(format!("not closed: {error}"));
    }
    for (key, row) in &tables.0 {
        if row.key() != *key {
            violations.push(format!("{key:?} holds the row of {:?}", row.key()));
        }
        match row {
            Row::Class(class) => class_row(class, tables, &mut violations),
            Row::Service(service) => service_row(service, &mut violations),
            Row::Access(row) => {
                if row.broken.is_some() != row.rules.is_empty() {
                    violations.push(format!("{} is neither whole nor broken", row.name));
                }
            }
            Row::Workload(row) => {
                if !row.ports.is_sorted_by_key(|port| port.port) {
                    violations.push(format!("the ports of {} are not sorted", row.name));
                }
            }
            Row::Mesh(row) => {
                if row.max_offline > row.certificate_lifetime / 2 {
                    violations.push("maxOffline is more than half the lifetime".to_owned());
                }
            }
            Row::Namespace(_) | Row::Route(_) | Row::RunGrant(_) => {}
        }
    }
    let used: BTreeSet<&Arc<ClassKey>> = tables
        .0
        .values()
        .filter_map(|row| {
            if let Row::Workload(row) = row {
                Some(&row.class)
            } else {
                None
            }
        })
        .collect();
    for key in tables.0.keys() {
        if let RowKey::Class(class) = key
            && !used.contains(class)
        {
            violations.push(format!("class {class:?} has no workload"));
        }
    }
    violations
}

fn class_row(class: &ClassRow, tables: &Tables, violations: &mut Vec<String>) {
    let order = |a: &AccessAttachment| (a.policy.clone(), a.through.clone());
    if !class.access.iter().map(order).is_sorted_by(|a, b| a < b) {
        violations.push(format!("the policies of {:?} are not sorted", class.key));
    }
    for attachment in &class.access {
        if let Some(service) = &attachment.through
            && !class.services.contains(service)
        {
            let policy = &attachment.policy;
            violations.push(format!(
                "{policy} reaches a class through foreign {service}"
            ));
        }
    }
    for service in &class.services {
        if service.namespace != class.key.namespace {
            violations.push(format!("{service} selects in {}", class.key.namespace));
        }
        if !tables.0.contains_key(&RowKey::Service(service.clone())) {
            violations.push(format!("{service} has no row"));
        }
    }
}

fn service_row(service: &ServiceRow, violations: &mut Vec<String>) {
    use tacit_model::failover::Step;
    let name = &service.name;
    if service.ports.is_empty() {
        violations.push(format!("{name} has no port"));
    }
    for layer in &service.resilience {
        if layer.fields == tacit_model::resilience::Fields::default() {
            violations.push(format!("a layer of {name} sets nothing"));
        }
        if layer.callers.as_ref().is_some_and(Vec::is_empty) {
            violations.push(format!("a layer of {name} is for nobody"));
        }
    }
    let Some(failover) = &service.failover else {
        return;
    };
    let orders = failover.orders.iter().map(|order| &order.steps);
    for steps in orders.chain([&failover.order.value]) {
        for step in steps {
            let bad = match step {
                Step::Places(places) => {
                    places.is_empty() || places.iter().any(|p| !(1..=1000).contains(&p.weight))
                }
                Step::Service(to) => to == name,
            };
            if bad {
                violations.push(format!("a step of {name} leads nowhere"));
            }
        }
    }
}
