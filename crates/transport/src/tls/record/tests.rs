//! Records by themselves: what is sealed opens again, and nothing else does.

use rustls::crypto::cipher::{AeadKey, Iv};

use super::*;

fn keys() -> Keys {
    let key = AeadKey::from([7; 32]);
    let secrets = ConnectionTrafficSecrets::Aes256Gcm {
        key,
        iv: Iv::from([9; 12]),
    };
    Keys::new((0, secrets)).unwrap()
}

fn sealed(keys: &mut Keys, content: Content, data: &[u8]) -> BytesMut {
    let mut out = BytesMut::from(&b"before"[..]);
    let start = begin(&mut out);
    out.extend_from_slice(data);
    keys.seal(content, &mut out, start).unwrap();
    out.split_off(6)
}

#[test]
fn what_is_sealed_opens_again() {
    let (mut ours, mut theirs) = (keys(), keys());
    let contents = [Content::ApplicationData, Content::Handshake, Content::Alert];
    for length in [
        0,
        1,
        2,
        15,
        16,
        17,
        1000,
        LARGEST_PLAINTEXT - 1,
        LARGEST_PLAINTEXT,
    ] {
        for content in contents {
            let data: Vec<u8> = (0..length).map(|i| (i % 3).try_into().unwrap()).collect();
            let mut record = sealed(&mut ours, content, &data);
            assert_eq!(record_length(&record), Ok(Some(record.len())));
            assert_eq!(record.len(), length + OVERHEAD);
            assert_eq!(theirs.open(&mut record), Ok((content, length)));
            assert_eq!(record[HEADER..HEADER + length], data);
        }
    }
}

#[test]
fn one_changed_bit_opens_nothing() {
    for position in 0..5 + 10 + 1 + 16 {
        let mut record = sealed(&mut keys(), Content::ApplicationData, b"0123456789");
        record[position] ^= 0x40;
        assert!(keys().open(&mut record).is_err(), "bit at {position}");
    }
    // Control run: unchanged, it opens.
    let mut record = sealed(&mut keys(), Content::ApplicationData, b"0123456789");
    assert!(keys().open(&mut record).is_ok());
}

#[test]
fn order_and_repetition_matter() {
    let mut ours = keys();
    let mut first = sealed(&mut ours, Content::ApplicationData, b"first");
    let mut second = sealed(&mut ours, Content::ApplicationData, b"second");
    assert_eq!(keys().open(&mut second), Err(RecordError::Authentication));
    let mut theirs = keys();
    let mut again = first.clone();
    theirs.open(&mut first).unwrap();
    assert_eq!(theirs.open(&mut again), Err(RecordError::Authentication));
}

#[test]
fn padding_is_taken_off_and_nothing_but_padding_is_malformed() {
    let mut padded = sealed(&mut keys(), Content::ApplicationData, b"text\x17\0\0\0");
    // The last byte that is not zero is the type, wherever it is: ours comes after the zeros.
    assert_eq!(keys().open(&mut padded), Ok((Content::ApplicationData, 8)));
    let mut out = BytesMut::from(&[0; HEADER][..]);
    out.extend_from_slice(b"text\x16\0\0\0");
    let length = u16::try_from(out.len() - HEADER + TAG).unwrap();
    for (plain, expected) in [
        (&b"text\x16\0\0\0"[..], Ok((Content::Handshake, 4))),
        (&b"\0\0\0\0\0\0\0\0"[..], Err(RecordError::Malformed)),
        (&b"text\x18\0\0\0"[..], Err(RecordError::Content(0x18))),
    ] {
        let header = header(length);
        let mut record = BytesMut::from(&header[..]);
        record.extend_from_slice(plain);
        let mut keys_of_peer = keys();
        let nonce = keys_of_peer.next_nonce();
        let body = &mut record[HEADER..];
        let tag = keys_of_peer
            .key
            .seal_in_place_separate_tag(nonce, Aad::from(header), body);
        record.extend_from_slice(tag.unwrap().as_ref());
        assert_eq!(keys().open(&mut record), expected, "{plain:?}");
    }
}

#[test]
fn headers_are_judged_before_anything_is_read() {
    let bad = Err(RecordError::Malformed);
    check(&[], Ok(None));
    check(&[23, 3, 3, 0], Ok(None));
    check(&[23, 3, 3, 0, 100], Ok(Some(105)));
    check(&[22, 3, 3, 0, 100], bad);
    check(&[23, 3, 3, 0, 16], bad);
    check(&[23, 3, 3, 0x41, 0x01], bad);
    check(b"HTTP/", bad);
}

fn check(data: &[u8], expected: Result<Option<usize>, RecordError>) {
    assert_eq!(record_length(data), expected, "{data:?}");
}
