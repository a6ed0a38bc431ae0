//! Encryption: AES-256-GCM (NIST SP 800-38D) under keys with ids.

use std::fmt;
use std::sync::Arc;

use bytes::Bytes;
use ring::aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};

use crate::envelope::flag;
use crate::{Error, ErrorKind, Frame, Result};

/// The only form that there is.
const FORM: u8 = 1;
/// Form, key id and nonce before the ciphertext.
const HEAD: usize = 1 + 4 + NONCE_LEN;
const TAG: usize = 16;

/// The keys of an encrypted namespace: one that new payloads are sealed with, and others that old ones are opened with.
///
/// A payload is bound to the place where it stands: the physical key with its namespace, the codec, the tags, the row
/// version and the moment of creation are authenticated with it. Moved to another key, another namespace or another
/// header, it is a miss. What is *not* hidden: keys, tags' hashes, sizes and times. Who can write to the store can still
/// remove a value, or put back an earlier one of the same key.
///
/// To rotate: give the new key to every process with [`and`](Self::and); then make it the first in every process;
/// then, a longest ttl later, leave the old one out. A key id never comes back with other bytes.
///
/// Nonces are random: seal fewer than 2^32 payloads with one key.
#[derive(Clone)]
#[must_use]
pub struct Keyring {
    keys: Arc<[(u32, LessSafeKey)]>,
    admits_plain: bool,
}

impl Keyring {
    /// Seals and opens with the 32 bytes `secret`, called `id` in each payload.
    ///
    /// # Errors
    /// `Config` if every byte of the secret is zero: a key that was never set.
    pub fn new(id: u32, secret: &[u8; 32]) -> Result<Self> {
        Ok(Self { keys: [(id, key(secret)?)].into(), admits_plain: false })
    }

    /// Opens with this key too.
    ///
    /// # Errors
    /// `Config` if the id is there already, or every byte of the secret is zero.
    pub fn and(self, id: u32, secret: &[u8; 32]) -> Result<Self> {
        if self.keys.iter().any(|(held, _)| *held == id) {
            return Err(Error::new(ErrorKind::Config, format!("key id {id} is given twice")));
        }
        let last = (id, key(secret)?);
        Ok(Self { keys: self.keys.iter().cloned().chain([last]).collect(), ..self })
    }

    /// Reads payloads that are not encrypted too: for the time in which a namespace becomes encrypted, and no longer.
    pub const fn and_plain(mut self) -> Self {
        self.admits_plain = true;
        self
    }

    pub(super) const fn admits_plain(&self) -> bool {
        self.admits_plain
    }

    /// The payload of `frame`, sealed for the place `key`.
    pub(super) fn seal(&self, key: &str, frame: &Frame) -> Result<Bytes> {
        let (id, sealing) = &self.keys[0];
        let mut nonce = [0; NONCE_LEN];
        getrandom::fill(&mut nonce).map_err(|_| Error::new(ErrorKind::Other, "the system gives no random numbers"))?;
        let mut out = Vec::with_capacity(HEAD + frame.payload.len() + TAG);
        out.push(FORM);
        out.extend_from_slice(&id.to_le_bytes());
        out.extend_from_slice(&nonce);
        out.extend_from_slice(&frame.payload);
        let place = Aad::from(place(key, frame));
        let tag = sealing
            .seal_in_place_separate_tag(Nonce::assume_unique_for_key(nonce), place, &mut out[HEAD..])
            .map_err(|_| Error::new(ErrorKind::TooLarge, "the payload can't be encrypted: it is too long"))?;
        out.extend_from_slice(tag.as_ref());
        Ok(out.into())
    }

    /// The plain payload of `frame`, which stood at `key`; `None` if it was sealed for another place, with a key that
    /// isn't here, or not by us.
    pub(super) fn open(&self, key: &str, frame: &Frame) -> Option<Bytes> {
        let (head, sealed) = frame.payload.split_first_chunk::<HEAD>()?;
        let [FORM, id @ .., _, _, _, _, _, _, _, _, _, _, _, _] = *head else { return None };
        let id = u32::from_le_bytes(id);
        let (_, opening) = self.keys.iter().find(|(held, _)| *held == id)?;
        let nonce = Nonce::try_assume_unique_for_key(&head[HEAD - NONCE_LEN..]).ok()?;
        let mut plain = sealed.to_vec();
        let length = opening.open_in_place(nonce, Aad::from(place(key, frame)), &mut plain).ok()?.len();
        plain.truncate(length);
        Some(plain.into())
    }
}

impl fmt::Debug for Keyring {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ids: Vec<u32> = self.keys.iter().map(|(id, _)| *id).collect();
        f.debug_struct("Keyring").field("ids", &ids).field("admits_plain", &self.admits_plain).finish_non_exhaustive()
    }
}

fn key(secret: &[u8; 32]) -> Result<LessSafeKey> {
    let refused = || Error::new(ErrorKind::Config, "the encryption key is no key: give 32 random bytes");
    if secret.iter().all(|byte| *byte == 0) {
        return Err(refused());
    }
    UnboundKey::new(&AES_256_GCM, secret).map(LessSafeKey::new).map_err(|_| refused())
}

/// What is authenticated beside the payload: where it stands, and the part of the header that no script rewrites.
fn place(key: &str, frame: &Frame) -> Vec<u8> {
    let header = &frame.header;
    let tags = frame.tags.as_slice();
    let mut out = Vec::with_capacity(40 + key.len() + size_of_val(tags));
    out.push(header.flags & !(flag::WAITER | flag::TAGS));
    out.extend_from_slice(&header.codec.to_le_bytes());
    out.extend_from_slice(&header.s0.to_le_bytes());
    out.extend_from_slice(&header.created.to_le_bytes());
    out.extend_from_slice(&header.load_ms.to_le_bytes());
    out.extend_from_slice(&header.row.to_le_bytes());
    out.extend_from_slice(&(tags.len() as u64).to_le_bytes());
    tags.iter().for_each(|tag| out.extend_from_slice(&tag.to_le_bytes()));
    out.extend_from_slice(key.as_bytes());
    out
}
