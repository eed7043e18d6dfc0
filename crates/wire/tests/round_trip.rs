//! Every row survives the wire, and what is broken does not pass.

use proptest::prelude::*;
use prost::Message;
use tacit_model::{Generation, Row};
use tacit_wire::encoded::{
    COMMIT_NAME, ResourceKey, commit_resource, decode, decode_commit, resource_name,
};
use tacit_wire::proto::mesh as p;
use tacit_wire::{Encoded, Problem, Table};

use crate::rows::row;

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, ..ProptestConfig::default() })]

    #[test]
    fn a_row_comes_back_as_it_was(row in row()) {
        let encoded = Encoded::new(&row);
        let back = decode(encoded.key.table, &encoded.key.name, &encoded.value);
        prop_assert_eq!(back.as_ref(), Ok(&row));
        let again = Encoded::new(&row);
        prop_assert_eq!(encoded.version, again.version);
    }

    #[test]
    fn different_rows_have_different_versions_and_different_keys_different_names(
        one in row(), two in row()
    ) {
        let (first, second) = (Encoded::new(&one), Encoded::new(&two));
        prop_assert_eq!(one == two, first.version == second.version && first.key == second.key);
        prop_assert_eq!(one.key() == two.key(), first.key == second.key);
    }

    #[test]
    fn no_bytes_are_a_row_by_accident_and_none_panic(
        bytes in prop::collection::vec(any::<u8>(), 0..64), row in row()
    ) {
        for table in Table::ALL {
            // Rows have required parts: random bytes are one only if they spell it out.
            let _ = decode(table, "a/b", &bytes);
        }
        let encoded = Encoded::new(&row);
        let mut cut = encoded.value.to_vec();
        cut.truncate(cut.len() / 2);
        if let Ok(shorter) = decode(encoded.key.table, &encoded.key.name, &cut) {
            prop_assert_eq!(shorter.key(), row.key());
        }
    }
}

fn workload() -> p::Workload {
    let name = Some(p::Namespaced {
        namespace: "shop".into(),
        name: "web-1".into(),
    });
    p::Workload {
        name,
        class: Some(p::ClassKey {
            namespace: "shop".into(),
            labels: Vec::new(),
            service_account: "web".into(),
        }),
        address: vec![10, 0, 0, 1],
        node: "a".into(),
        locality: Some(p::Locality::default()),
        ..p::Workload::default()
    }
}

fn problem_of(change: impl FnOnce(&mut p::Workload)) -> Problem {
    let mut message = workload();
    change(&mut message);
    decode(Table::Workload, "shop/web-1", &message.encode_to_vec())
        .unwrap_err()
        .problem
}

#[test]
fn what_is_missing_or_unknown_is_an_error() {
    // The control: untouched, it is a row.
    assert!(decode(Table::Workload, "shop/web-1", &workload().encode_to_vec()).is_ok());
    assert_eq!(problem_of(|m| m.name = None), Problem::Missing);
    assert_eq!(problem_of(|m| m.class = None), Problem::Missing);
    assert_eq!(problem_of(|m| m.locality = None), Problem::Missing);
    assert_eq!(problem_of(|m| m.address.clear()), Problem::Address(0));
    assert_eq!(
        problem_of(|m| m.ready.push(70_000)),
        Problem::OutOfRange(70_000)
    );
    assert!(matches!(
        problem_of(|m| m.node = "No Node".into()),
        Problem::Name(_)
    ));
    let port = |protocol| p::WorkloadPort {
        name: String::new(),
        port: 80,
        protocol,
    };
    assert_eq!(problem_of(|m| m.ports.push(port(0))), Problem::Missing);
    assert_eq!(
        problem_of(|m| m.ports.push(port(77))),
        Problem::UnknownValue(77)
    );
    let other = decode(Table::Workload, "shop/web-2", &workload().encode_to_vec()).unwrap_err();
    assert!(
        matches!(other.problem, Problem::OtherName { .. }),
        "{other}"
    );
    let garbage = decode(Table::Workload, "shop/web-1", b"\xff\xff\xff").unwrap_err();
    assert!(
        matches!(garbage.problem, Problem::Undecodable(_)),
        "{garbage}"
    );
}

#[test]
fn a_commit_comes_back() {
    let generation = Generation {
        epoch: 7,
        number: 3,
    };
    let resource = commit_resource(generation);
    assert_eq!(
        (resource.name.as_str(), resource.version.as_str()),
        (COMMIT_NAME, "7.3")
    );
    let value = resource.resource.unwrap().value;
    assert_eq!(decode_commit(&value), Ok(generation));
    assert!(decode_commit(b"").is_err(), "generation 0 is none");
}

#[test]
fn labels_with_special_characters_make_distinct_names() {
    let class = |pairs: &[(&str, &str)]| {
        let key = tacit_model::tables::ClassKey {
            namespace: "a".try_into().unwrap(),
            labels: tacit_model::labels::Labels::from_pairs(pairs.iter().copied()),
            service_account: "b".try_into().unwrap(),
        };
        resource_name(&tacit_model::RowKey::Class(key.into()))
    };
    let names = [
        class(&[("a", "b"), ("c", "d")]),
        class(&[("a", "b;c=d")]),
        class(&[("a=b;c", "d")]),
        class(&[("a", "b%3Bc=d")]),
        class(&[]),
    ];
    let distinct: std::collections::BTreeSet<_> = names.iter().collect();
    assert_eq!(distinct.len(), names.len(), "{names:?}");
}

#[test]
fn each_table_has_a_type_of_its_own() {
    for table in Table::ALL {
        assert_eq!(Table::of_type_url(table.type_url()), Some(table));
    }
    assert_eq!(
        Table::of_type_url("type.googleapis.com/envoy.config.listener.v3.Listener"),
        None
    );
}

/// The smallest closed state, for other tests.
pub(crate) fn key_of(row: &Row) -> ResourceKey {
    ResourceKey::of(&row.key())
}
