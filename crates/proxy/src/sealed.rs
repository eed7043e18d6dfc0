//! Files that only this node can have written: content with an HMAC keyed from the node's key.

use std::fmt;
use std::io;

use aws_lc_rs::hmac;

use crate::state_dir::StateDir;

/// Bytes of an HMAC-SHA-256.
const TAG: usize = 32;

/// The key of the seal. Somebody who can write the state directory but not read the node's key
/// cannot make a file that passes.
pub(crate) struct Seal(hmac::Key);

/// Why a sealed file cannot be used.
#[derive(Debug)]
pub(crate) enum Unusable {
    /// The system cannot read it.
    Io(io::Error),
    /// Changed, cut short, or written with another node key.
    Broken,
    /// Sealed by us, but not in the form that this version reads.
    Content(String),
}

impl fmt::Display for Unusable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Io(error) => write!(f, "{error}"),
            Self::Broken => f.write_str("its seal does not match: not written by this node"),
            Self::Content(why) => write!(f, "it cannot be read: {why}"),
        }
    }
}

impl std::error::Error for Unusable {}

impl Seal {
    /// Derives the key from the node's private key (PKCS#8).
    pub(crate) fn new(node_key: &[u8]) -> Self {
        let root = hmac::Key::new(hmac::HMAC_SHA256, node_key);
        let derived = hmac::sign(&root, b"tacit: seal of state files, version 1");
        Self(hmac::Key::new(hmac::HMAC_SHA256, derived.as_ref()))
    }

    /// Writes `content` as the file `name`. The name is sealed too: files cannot be swapped.
    pub(crate) fn write(&self, dir: &StateDir, name: &str, content: &[u8]) -> io::Result<()> {
        let mut file = Vec::with_capacity(TAG + content.len());
        file.extend_from_slice(self.tag(name, content).as_ref());
        file.extend_from_slice(content);
        dir.write(name, &file)
    }

    /// Reads the file `name`; `None` if there is none.
    pub(crate) fn read(&self, dir: &StateDir, name: &str) -> Result<Option<Vec<u8>>, Unusable> {
        let Some(mut file) = dir.read(name).map_err(Unusable::Io)? else {
            return Ok(None);
        };
        let Some((tag, content)) = file.split_at_checked(TAG) else {
            return Err(Unusable::Broken);
        };
        let mut message = name.as_bytes().to_vec();
        message.push(0);
        message.extend_from_slice(content);
        hmac::verify(&self.0, &message, tag).map_err(|_| Unusable::Broken)?;
        file.drain(..TAG);
        Ok(Some(file))
    }

    fn tag(&self, name: &str, content: &[u8]) -> hmac::Tag {
        let mut context = hmac::Context::with_key(&self.0);
        context.update(name.as_bytes());
        context.update(&[0]);
        context.update(content);
        context.sign()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::state_dir::tests::scratch;

    #[test]
    fn only_what_we_wrote_under_that_name_passes() {
        let (_guard, dir) = scratch();
        let seal = Seal::new(b"key");
        assert!(seal.read(&dir, "a").expect("reads").is_none());
        seal.write(&dir, "a", b"content").expect("writes");
        assert_eq!(
            seal.read(&dir, "a").expect("reads").as_deref(),
            Some(&b"content"[..])
        );
        assert!(matches!(
            Seal::new(b"other").read(&dir, "a"),
            Err(Unusable::Broken)
        ));
        let written = dir.read("a").expect("reads").expect("is there");
        dir.write("b", &written).expect("writes");
        assert!(
            matches!(seal.read(&dir, "b"), Err(Unusable::Broken)),
            "another name"
        );
        for position in 0..written.len() {
            let mut tampered = written.clone();
            tampered[position] ^= 1;
            dir.write("a", &tampered).expect("writes");
            assert!(
                matches!(seal.read(&dir, "a"), Err(Unusable::Broken)),
                "byte {position}"
            );
        }
        for length in 0..written.len() {
            dir.write("a", &written[..length]).expect("writes");
            assert!(
                matches!(seal.read(&dir, "a"), Err(Unusable::Broken)),
                "cut at {length}"
            );
        }
    }
}
