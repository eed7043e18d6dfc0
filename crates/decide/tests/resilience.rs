//! Layers of timeouts and retries fold field by field, each value with its origin.

use std::time::Duration;

use tacit_decide::resilience::effective;
use tacit_model::access::From;
use tacit_model::resilience::{Fields, Layer};
use tacit_model::{Name, ObjectRef, Provenance, Sourced, WorkloadName};

use crate::world::{namespace, service_name, shop};

fn by<T>(policy: &str, value: T) -> Sourced<T> {
    let from = Provenance::Field {
        object: ObjectRef {
            kind: "RetryTimeoutPolicy".into(),
            namespace: Some(namespace("shop")),
            name: Name::try_from(policy).unwrap(),
        },
        path: "spec".into(),
    };
    Sourced { value, from }
}

#[test]
fn the_first_layer_that_applies_wins_each_field() {
    let mut world = shop(1);
    let only = |account: &str| {
        let account = account.try_into().unwrap();
        vec![From {
            service_accounts: Some([(namespace("shop"), account)].into()),
            ..From::default()
        }]
    };
    let time = Duration::from_secs;
    world.change_service("payments", "shop", |row| {
        row.resilience = vec![
            Layer {
                callers: Some(only("somebody-else")),
                fields: Fields {
                    request: Some(by("others", time(1))),
                    ..Fields::default()
                },
            },
            Layer {
                callers: Some(only("web")),
                fields: Fields {
                    attempts: Some(by("web-only", 0)),
                    ..Fields::default()
                },
            },
            Layer {
                callers: None,
                fields: Fields {
                    attempts: Some(by("all", 5)),
                    request: Some(by("all", time(9))),
                    ..Fields::default()
                },
            },
        ];
    });
    let s = world.build();
    let service = &s.services[&service_name("payments", "shop")];
    let web = &s.workloads[&WorkloadName::parse("shop", "web-1").unwrap()];
    let r = effective(&s, service, None, web);
    assert_eq!(r.attempts, by("web-only", 0));
    assert_eq!(r.request, by("all", time(9)));
    assert_eq!(r.per_try, Sourced::default_of(Duration::ZERO));
    let other = &s.workloads[&WorkloadName::parse("shop", "payments-a-1").unwrap()];
    assert_eq!(effective(&s, service, None, other).attempts, by("all", 5));
}
