//! What the store takes and refuses.

use super::*;
use crate::testing::{Ca, id, id_in};

fn chain_for(ca: &Ca, key: &PrivateKey, id: &SpiffeId) -> Vec<Vec<u8>> {
    ca.sign(key.request_for_workload(id).unwrap(), |_| {})
}

#[test]
fn a_certificate_is_stored_for_its_own_identity_only() {
    let (ca, store, key) = (
        Ca::new(),
        IdentityStore::new(),
        PrivateKey::generate().unwrap(),
    );
    let chain = chain_for(&ca, &key, &id("a"));
    assert_eq!(store.validity(&id("a")), None);
    let validity = store.put(id("a"), &key, &chain).unwrap();
    assert_eq!(store.validity(&id("a")), Some(validity));
    assert!(validity.not_before < validity.not_after);
    let other = store.put(id("b"), &key, &chain).unwrap_err();
    assert!(
        matches!(other, IdentityError::OtherIdentity { .. }),
        "{other}"
    );
    let other = store
        .put(id_in("other.mesh", "a"), &key, &chain)
        .unwrap_err();
    assert!(
        matches!(other, IdentityError::OtherIdentity { .. }),
        "{other}"
    );
    store.remove(&id("a"));
    assert_eq!(store.validity(&id("a")), None);
}

#[test]
fn what_cannot_serve_is_refused() {
    let (ca, store, key) = (
        Ca::new(),
        IdentityStore::new(),
        PrivateKey::generate().unwrap(),
    );
    let chain = chain_for(&ca, &key, &id("a"));
    let put = |key: &PrivateKey, chain: &[Vec<u8>]| store.put(id("a"), key, chain).unwrap_err();
    let other_key = put(&PrivateKey::generate().unwrap(), &chain);
    assert!(
        matches!(other_key, IdentityError::Rejected(_)),
        "{other_key}"
    );
    assert_eq!(
        put(&key, &[]),
        IdentityError::Certificate(BadCertificate::Missing)
    );
    let garbage = put(&key, &[b"garbage".to_vec()]);
    let unreadable = matches!(
        garbage,
        IdentityError::Certificate(BadCertificate::Unreadable(_))
    );
    assert!(unreadable, "{garbage}");
    let long = put(&key, &vec![chain[0].clone(); 5]);
    assert_eq!(long, IdentityError::ChainTooLong { given: 5, limit: 4 });
    assert_eq!(store.validity(&id("a")), None);
}

#[test]
fn a_second_uri_is_no_identity() {
    let (ca, key) = (Ca::new(), PrivateKey::generate().unwrap());
    let two = ca.sign(key.request_for_workload(&id("a")).unwrap(), |params| {
        let uri = id("b").to_string();
        params
            .subject_alt_names
            .push(rcgen::SanType::URI(uri.as_str().try_into().unwrap()));
    });
    assert_eq!(read_certificate(&two[0]), Err(BadCertificate::SeveralUris));
    let none = ca.sign(key.request_for_name("alice").unwrap(), |_| {});
    let (subject, _) = read_certificate(&none[0]).unwrap();
    assert_eq!(subject, Subject::CommonName("alice".to_owned()));
}

#[test]
fn keys_survive_their_file() {
    let (ca, store, key) = (
        Ca::new(),
        IdentityStore::new(),
        PrivateKey::generate().unwrap(),
    );
    let chain = chain_for(&ca, &key, &id("a"));
    let again = PrivateKey::from_pkcs8(&key.to_pkcs8()).unwrap();
    store.put(id("a"), &again, &chain).unwrap();
    assert!(PrivateKey::from_pkcs8(b"garbage").is_err());
    assert_eq!(format!("{key:?}"), "PrivateKey(secret)");
}

#[test]
fn bundles_are_replaced_whole() {
    let (store, trust_domain) = (IdentityStore::new(), id("a").trust_domain);
    let (first, second) = (Ca::new().root, Ca::new().root);
    assert!(store.bundle(&trust_domain).is_empty());
    store
        .set_bundle(trust_domain.clone(), &[first.clone(), second.clone()])
        .unwrap();
    assert_eq!(store.bundle(&trust_domain), [first, second.clone()]);
    store
        .set_bundle(trust_domain.clone(), std::slice::from_ref(&second))
        .unwrap();
    assert_eq!(store.bundle(&trust_domain), std::slice::from_ref(&second));
    assert!(store.set_bundle(trust_domain.clone(), &[]).is_err());
    assert!(
        store
            .set_bundle(trust_domain.clone(), &[b"garbage".to_vec()])
            .is_err()
    );
    assert_eq!(
        store.bundle(&trust_domain),
        [second],
        "a refusal changes nothing"
    );
}
