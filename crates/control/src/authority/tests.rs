//! What the authority signs, and what it refuses.

use tacit_transport::identity::{Subject, read_certificate};

use super::*;
use crate::store::Store;
use crate::store::memory::Memory;

const NOW: Duration = Duration::from_secs(1_800_000_000);
const HOUR: Duration = Duration::from_secs(3600);

fn authority() -> Authority {
    Authority::open(&Contents::default(), NOW).unwrap().0
}

fn id(text: &str) -> SpiffeId {
    text.try_into().unwrap()
}

#[test]
fn the_key_survives_a_restart() {
    let mut store = Memory::default();
    let (first, changes) = Authority::open(&store.read().unwrap(), NOW).unwrap();
    store.write(&changes).unwrap();
    let (second, changes) = Authority::open(&store.read().unwrap(), NOW).unwrap();
    assert_eq!(changes, []);
    assert_eq!(first.root_sha256(), second.root_sha256());
    let other = authority();
    assert_ne!(first.root_sha256(), other.root_sha256());
}

#[test]
fn only_the_key_of_the_request_is_used() {
    let authority = authority();
    let key = PrivateKey::generate().unwrap();
    // It asks for one identity and is given the one that the caller may have.
    let request = key
        .request_for_workload(&id("spiffe://td/ns/pci/sa/ledger"))
        .unwrap();
    let own = id("spiffe://td/ns/shop/sa/web");
    let chain = authority.issue_workload(&request, &own, HOUR, NOW).unwrap();
    let (subject, validity) = read_certificate(&chain[0]).unwrap();
    assert_eq!(subject, Subject::Workload(own));
    assert_eq!(validity.not_before, NOW.as_secs() - 60);
    assert_eq!(validity.not_after, NOW.as_secs() + 3600);
}

#[test]
fn a_person_is_no_workload() {
    let authority = authority();
    let key = PrivateKey::generate().unwrap();
    let request = key
        .request_for_workload(&id("spiffe://td/ns/shop/sa/web"))
        .unwrap();
    let chain = authority
        .issue_person(&request, "ci", &"td".try_into().unwrap(), NOW)
        .unwrap();
    assert_eq!(
        read_certificate(&chain[0]).unwrap().0,
        Subject::CommonName("ci".into())
    );
}

#[test]
fn bad_requests_are_refused() {
    let authority = authority();
    let own = id("spiffe://td/ns/shop/sa/web");
    let key = PrivateKey::generate().unwrap();
    let mut tampered = key.request_for_workload(&own).unwrap();
    if let Some(last) = tampered.last_mut() {
        *last ^= 1;
    }
    let p384 = KeyPair::generate_for(&rcgen::PKCS_ECDSA_P384_SHA384).unwrap();
    let p384 = CertificateParams::default()
        .serialize_request(&p384)
        .unwrap()
        .der()
        .to_vec();
    for request in [
        Vec::new(),
        vec![0x30; 20_000],
        b"garbage".to_vec(),
        tampered,
        p384,
    ] {
        let error = authority
            .issue_workload(&request, &own, HOUR, NOW)
            .unwrap_err();
        assert!(matches!(error, AuthorityError::BadRequest(_)), "{error}");
    }
}
