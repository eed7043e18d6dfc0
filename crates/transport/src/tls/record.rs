//! Seals and opens TLS 1.3 records in place (RFC 8446 section 5), with keys from the handshake.

use std::fmt;
use std::io;

use aws_lc_rs::aead::{AES_128_GCM, AES_256_GCM, Aad, LessSafeKey, Nonce, UnboundKey};
use bytes::BytesMut;
use rustls::ConnectionTrafficSecrets;

/// Plaintext of one record.
pub(super) const LARGEST_PLAINTEXT: usize = 16 * 1024;
/// Type, version, length.
pub(super) const HEADER: usize = 5;
const TAG: usize = 16;
/// What sealing adds to a record: header, type, tag.
pub(super) const OVERHEAD: usize = HEADER + 1 + TAG;
/// What encryption may add to a record that a peer sends: type, padding, tag.
const EXPANSION: usize = 256;
/// A whole record, as large as it may be.
pub(super) const LARGEST_RECORD: usize = HEADER + LARGEST_PLAINTEXT + EXPANSION;
/// AES-GCM keys are to be changed before 2^24 records (RFC 8446 section 5.5); half of it.
const RECORDS_PER_KEY: u64 = 1 << 23;
/// On the outside every record claims to be application data of TLS 1.2.
const OUTER_TYPE: u8 = 23;
const OUTER_VERSION: [u8; 2] = [3, 3];

/// What a record carries, as its encrypted last byte says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Content {
    Alert,
    ApplicationData,
    Handshake,
}

impl Content {
    fn byte(self) -> u8 {
        match self {
            Self::Alert => 21,
            Self::Handshake => 22,
            Self::ApplicationData => 23,
        }
    }

    fn from_byte(byte: u8) -> Result<Self, RecordError> {
        match byte {
            21 => Ok(Self::Alert),
            22 => Ok(Self::Handshake),
            23 => Ok(Self::ApplicationData),
            other => Err(RecordError::Content(other)),
        }
    }
}

/// A record that cannot be right; the connection is over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum RecordError {
    /// It was not sealed by the peer for this place in the stream.
    Authentication,
    /// An unknown content type.
    Content(u8),
    /// A key of another suite or length than agreed.
    Key,
    /// Not application data on the outside, or longer than allowed.
    Malformed,
}

impl fmt::Display for RecordError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Authentication => f.write_str("a TLS record fails authentication"),
            Self::Content(byte) => write!(f, "a TLS record of unknown content type {byte}"),
            Self::Key => f.write_str("a traffic key of an unexpected suite"),
            Self::Malformed => f.write_str("a TLS record is malformed"),
        }
    }
}

impl std::error::Error for RecordError {}

impl From<RecordError> for io::Error {
    fn from(error: RecordError) -> Self {
        Self::new(io::ErrorKind::InvalidData, error)
    }
}

/// The key of one direction and the number of its next record.
pub(super) struct Keys {
    key: LessSafeKey,
    iv: [u8; 12],
    sequence: u64,
}

impl Keys {
    /// Takes what the handshake, or a key update, derived.
    pub(super) fn new(
        (sequence, secrets): (u64, ConnectionTrafficSecrets),
    ) -> Result<Self, RecordError> {
        let (algorithm, key, iv) = match &secrets {
            ConnectionTrafficSecrets::Aes128Gcm { key, iv } => (&AES_128_GCM, key, iv),
            ConnectionTrafficSecrets::Aes256Gcm { key, iv } => (&AES_256_GCM, key, iv),
            ConnectionTrafficSecrets::Chacha20Poly1305 { .. } | _ => return Err(RecordError::Key),
        };
        let key = UnboundKey::new(algorithm, key.as_ref()).map_err(|_| RecordError::Key)?;
        let iv = iv.as_ref().try_into().map_err(|_| RecordError::Key)?;
        Ok(Self {
            key: LessSafeKey::new(key),
            iv,
            sequence,
        })
    }

    /// True when the key has sealed as much as it should.
    pub(super) fn is_worn(&self) -> bool {
        self.sequence >= RECORDS_PER_KEY
    }

    fn next_nonce(&mut self) -> Nonce {
        let mut nonce = self.iv;
        for (byte, part) in nonce[4..].iter_mut().zip(self.sequence.to_be_bytes()) {
            *byte ^= part;
        }
        // Keys are changed long before 2^64 records.
        self.sequence += 1;
        Nonce::assume_unique_for_key(nonce)
    }

    /// Seals the record that begins at `start` of `out`: room for a header, then plaintext.
    pub(super) fn seal(
        &mut self,
        content: Content,
        out: &mut BytesMut,
        start: usize,
    ) -> Result<(), RecordError> {
        out.extend_from_slice(&[content.byte()]);
        let length = u16::try_from(out.len() - start - HEADER + TAG);
        let length = length.map_err(|_| RecordError::Malformed)?;
        let header = header(length);
        out[start..start + HEADER].copy_from_slice(&header);
        let nonce = self.next_nonce();
        let body = &mut out[start + HEADER..];
        let tag = self
            .key
            .seal_in_place_separate_tag(nonce, Aad::from(header), body)
            .map_err(|_| RecordError::Authentication)?;
        out.extend_from_slice(tag.as_ref());
        Ok(())
    }

    /// Opens a whole record in place; its content starts after the header.
    pub(super) fn open(&mut self, record: &mut [u8]) -> Result<(Content, usize), RecordError> {
        let (header, body) = record.split_at_mut(HEADER);
        let nonce = self.next_nonce();
        let plain = self
            .key
            .open_in_place(nonce, Aad::from(header), body)
            .map_err(|_| RecordError::Authentication)?;
        // Padding is zeros after the type.
        let last = plain.iter().rposition(|byte| *byte != 0);
        let last = last.ok_or(RecordError::Malformed)?;
        if last > LARGEST_PLAINTEXT {
            return Err(RecordError::Malformed);
        }
        Ok((Content::from_byte(plain[last])?, last))
    }
}

fn header(length: u16) -> [u8; HEADER] {
    let [high, low] = length.to_be_bytes();
    [OUTER_TYPE, OUTER_VERSION[0], OUTER_VERSION[1], high, low]
}

/// The length of the record at the front of `data`, header included, once its header is there.
pub(super) fn record_length(data: &[u8]) -> Result<Option<usize>, RecordError> {
    let Some(&[outer, _, _, high, low]) = data.first_chunk::<HEADER>() else {
        return Ok(None);
    };
    let length = HEADER + usize::from(u16::from_be_bytes([high, low]));
    if outer != OUTER_TYPE || !(OVERHEAD..=LARGEST_RECORD).contains(&length) {
        return Err(RecordError::Malformed);
    }
    Ok(Some(length))
}

/// Room for the header of the next record.
pub(super) fn begin(out: &mut BytesMut) -> usize {
    let start = out.len();
    out.extend_from_slice(&[0; HEADER]);
    start
}

#[cfg(test)]
mod tests;
