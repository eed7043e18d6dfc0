//! TLS 1.3 records after the handshake (RFC 8446 section 5.2), sealed and opened without copies.

use ::aws_lc_rs::aead::{
    AES_128_GCM, AES_256_GCM, Aad, Algorithm, LessSafeKey, Nonce, TlsProtocolId,
    TlsRecordSealingKey, UnboundKey,
};
use rustls::crypto::cipher::{AeadKey, Iv, Nonce as SequenceNonce};
use rustls::{ConnectionTrafficSecrets, ContentType, Error, InvalidMessage, PeerMisbehaved};

/// The largest content of one record.
pub(super) const LARGEST_CONTENT: usize = 1 << 14;
/// Content type, version, length.
const HEADER: usize = 5;
const TAG: usize = 16;
/// What sealing adds to the content: header, inner content type, tag.
pub(super) const OVERHEAD: usize = HEADER + 1 + TAG;
/// Behind the header of a received record there may be padding, too.
const LARGEST_SEALED: usize = LARGEST_CONTENT + 256;

/// Encrypts one direction with one traffic key.
pub(super) struct Sealer {
    key: TlsRecordSealingKey,
    iv: Iv,
    sequence: u64,
}

impl Sealer {
    /// The key counts records itself, from the first; so `sequence` must be 0.
    pub(super) fn new((sequence, secrets): (u64, ConnectionTrafficSecrets)) -> Result<Self, Error> {
        if sequence != 0 {
            return Err(Error::General("records were sent before".to_owned()));
        }
        let (algorithm, key, iv) = parts(secrets)?;
        let key = TlsRecordSealingKey::new(algorithm, TlsProtocolId::TLS13, key.as_ref())
            .map_err(|_| Error::EncryptError)?;
        Ok(Self { key, iv, sequence })
    }

    /// How many records were sealed with this key.
    pub(super) fn sealed(&self) -> u64 {
        self.sequence
    }

    /// Makes a record of `content` in `record`, which is [`OVERHEAD`] longer.
    pub(super) fn seal(
        &mut self,
        kind: ContentType,
        content: &[u8],
        record: &mut [u8],
    ) -> Result<(), Error> {
        let (header, nonce) = self.begin(record)?;
        let (sealed, tail) = record[HEADER..].split_at_mut(content.len());
        self.key
            .seal_out_of_place_scatter(nonce, header, content, sealed, &[kind.into()], tail)
            .map_err(|_| Error::EncryptError)
    }

    /// The same for content that was written into the record already, by [`content_of`].
    pub(super) fn seal_in_place(
        &mut self,
        kind: ContentType,
        record: &mut [u8],
    ) -> Result<(), Error> {
        let (header, nonce) = self.begin(record)?;
        let inner_length = record.len() - HEADER - TAG;
        let (inner, tag) = record[HEADER..].split_at_mut(inner_length);
        inner[inner.len() - 1] = kind.into();
        let sealed = self.key.seal_in_place_separate_tag(nonce, header, inner);
        tag.copy_from_slice(sealed.map_err(|_| Error::EncryptError)?.as_ref());
        Ok(())
    }

    fn begin(&mut self, record: &mut [u8]) -> Result<(Aad<[u8; HEADER]>, Nonce), Error> {
        let length = u16::try_from(record.len() - HEADER).map_err(|_| Error::EncryptError)?;
        let [high, low] = length.to_be_bytes();
        let header = [ContentType::ApplicationData.into(), 3, 3, high, low];
        record[..HEADER].copy_from_slice(&header);
        let nonce = nonce(&self.iv, self.sequence);
        self.sequence += 1;
        Ok((Aad::from(header), nonce))
    }
}

/// Where the content belongs in a record that [`Sealer::seal_in_place`] will seal.
pub(super) fn content_of(record: &mut [u8]) -> &mut [u8] {
    let end = record.len() - 1 - TAG;
    &mut record[HEADER..end]
}

/// Decrypts one direction with one traffic key.
pub(super) struct Opener {
    key: LessSafeKey,
    iv: Iv,
    sequence: u64,
}

impl Opener {
    pub(super) fn new((sequence, secrets): (u64, ConnectionTrafficSecrets)) -> Result<Self, Error> {
        let (algorithm, key, iv) = parts(secrets)?;
        let key = UnboundKey::new(algorithm, key.as_ref()).map_err(|_| Error::DecryptError)?;
        let key = LessSafeKey::new(key);
        Ok(Self { key, iv, sequence })
    }

    /// Decrypts a whole record into `plain`, as long as [`Sealed::plain`] says. Returns what the
    /// content is and how much of `plain` it fills.
    pub(super) fn open(
        &mut self,
        record: &[u8],
        plain: &mut [u8],
    ) -> Result<(ContentType, usize), Error> {
        let (header, sealed) = split_header(record);
        let (sealed, tag) = sealed.split_at(sealed.len() - TAG);
        let nonce = self.next_nonce();
        self.key
            .open_separate_gather(nonce, header, sealed, tag, plain)
            .map_err(|_| Error::DecryptError)?;
        strip(plain)
    }

    /// The same where the record lies. The content begins at [`CONTENT`] of the record.
    pub(super) fn open_in_place(
        &mut self,
        record: &mut [u8],
    ) -> Result<(ContentType, usize), Error> {
        let (header, _) = split_header(record);
        let nonce = self.next_nonce();
        let plain = self
            .key
            .open_in_place(nonce, header, &mut record[CONTENT..])
            .map_err(|_| Error::DecryptError)?;
        strip(plain)
    }

    fn next_nonce(&mut self) -> Nonce {
        let nonce = nonce(&self.iv, self.sequence);
        self.sequence += 1;
        nonce
    }
}

/// Where the content of a record begins.
pub(super) const CONTENT: usize = HEADER;

/// The lengths of a record that was received whole.
#[derive(Clone, Copy, Debug)]
pub(super) struct Sealed {
    /// All of it, with its header.
    pub(super) record: usize,
    /// What it decrypts to: the content, its type, and padding.
    pub(super) plain: usize,
}

/// Looks for a whole record at the front of what was received; `None` if more must come.
pub(super) fn first(received: &[u8]) -> Result<Option<Sealed>, Error> {
    let Some(&[kind, _, _, high, low]) = received.first_chunk::<HEADER>() else {
        return Ok(None);
    };
    if ContentType::from(kind) != ContentType::ApplicationData {
        return Err(InvalidMessage::InvalidContentType.into());
    }
    let length = usize::from(u16::from_be_bytes([high, low]));
    if length > LARGEST_SEALED {
        return Err(InvalidMessage::MessageTooLarge.into());
    }
    if length <= TAG {
        return Err(Error::DecryptError);
    }
    let sealed = Sealed {
        record: HEADER + length,
        plain: length - TAG,
    };
    Ok((received.len() >= sealed.record).then_some(sealed))
}

/// A record names its content type behind the content, and zeros behind that are padding.
fn strip(plain: &[u8]) -> Result<(ContentType, usize), Error> {
    let length = plain
        .iter()
        .rposition(|&byte| byte != 0)
        .ok_or(PeerMisbehaved::IllegalTlsInnerPlaintext)?;
    if length > LARGEST_CONTENT {
        return Err(Error::PeerSentOversizedRecord);
    }
    Ok((plain[length].into(), length))
}

fn split_header(record: &[u8]) -> (Aad<[u8; HEADER]>, &[u8]) {
    let (header, sealed) = record.split_at(HEADER);
    let mut copy = [0; HEADER];
    copy.copy_from_slice(header);
    (Aad::from(copy), sealed)
}

fn nonce(iv: &Iv, sequence: u64) -> Nonce {
    Nonce::assume_unique_for_key(SequenceNonce::new(iv, sequence).0)
}

fn parts(secrets: ConnectionTrafficSecrets) -> Result<(&'static Algorithm, AeadKey, Iv), Error> {
    match secrets {
        ConnectionTrafficSecrets::Aes128Gcm { key, iv } => Ok((&AES_128_GCM, key, iv)),
        ConnectionTrafficSecrets::Aes256Gcm { key, iv } => Ok((&AES_256_GCM, key, iv)),
        // The provider has no other suites.
        ConnectionTrafficSecrets::Chacha20Poly1305 { .. } | _ => {
            Err(Error::General("not an AES-GCM suite".to_owned()))
        }
    }
}
