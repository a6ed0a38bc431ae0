//! How a key is written on the wire: every key that the contract allows, no two alike.
//!
//! memcached takes 250 bytes without spaces as they are. A key with spaces goes as base64, which the server decodes, so
//! it stands there under its own bytes. A longer key is replaced by its SHA-256 behind a zero byte, which no key may
//! hold, so it can't be taken for another.

use sha2::{Digest, Sha256};

/// The longest key on the wire.
const LIMIT: usize = 250;

/// A key as it stands in a command.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Written {
    pub(crate) text: String,
    /// Whether the text is base64, for the flag `b`.
    pub(crate) encoded: bool,
}

/// The written form of a key that was checked.
pub(crate) fn write(key: &str) -> Written {
    if key.len() <= LIMIT && key.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Written { text: key.to_owned(), encoded: false };
    }
    if key.len().div_ceil(3) * 4 <= LIMIT {
        return Written { text: base64(key.as_bytes()), encoded: true };
    }
    let mut short = vec![0];
    short.extend_from_slice(&Sha256::digest(key.as_bytes()));
    Written { text: base64(&short), encoded: true }
}

fn base64(bytes: &[u8]) -> String {
    const LETTERS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for chunk in bytes.chunks(3) {
        let at = |i: usize| u32::from(chunk.get(i).copied().unwrap_or(0));
        let bits = (at(0) << 16) | (at(1) << 8) | at(2);
        for i in 0..4 {
            let letter = LETTERS[(bits >> (18 - 6 * i)) as usize & 63];
            text.push(if i <= chunk.len() { char::from(letter) } else { '=' });
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn base64_is_the_standards() {
        for (plain, coded) in [
            ("", ""),
            ("f", "Zg=="),
            ("fo", "Zm8="),
            ("foo", "Zm9v"),
            ("foo bar", "Zm9vIGJhcg=="),
            ("\u{ff}>?", "w78+Pw=="),
        ] {
            assert_eq!(base64(plain.as_bytes()), coded);
        }
    }

    #[test]
    fn every_key_fits_and_no_two_are_written_alike() {
        let long = "k".repeat(251);
        let keys = [
            "a",
            "a b",
            "YSBi",
            "é",
            "k",
            &"k".repeat(250),
            &long,
            &"é".repeat(93),
            &"é".repeat(94),
            &"x ".repeat(512),
        ];
        let written: Vec<Written> = keys.iter().map(|key| write(key)).collect();
        for form in &written {
            assert!(form.text.len() <= LIMIT && form.text.bytes().all(|b| b.is_ascii_graphic()), "{form:?}");
        }
        let distinct: HashSet<_> = written.iter().map(|form| (&form.text, form.encoded)).collect();
        assert_eq!(distinct.len(), keys.len());
        assert_eq!(write("a"), Written { text: "a".into(), encoded: false });
        assert_ne!(write(&long), write(&"k".repeat(252)));
    }
}
