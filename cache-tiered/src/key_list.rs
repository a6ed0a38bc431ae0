//! A list of keys as bytes: what a process leaves for its successor.

use cache_core::{Error, ErrorKind, MAX_KEY, Result};

/// The first bytes, the last of them the version of the format.
const MAGIC: &[u8; 8] = b"strata\0\x01";

/// The longest list that is written, in bytes.
const LONGEST: usize = 64 << 20;

/// Writes the list of `keys` of the key space `space`, which all begin with `prefix`, in their order; keys beyond 64 MiB
/// are left out.
///
/// Form: magic; the space and each key without its prefix, as a little-endian `u16` length and that many bytes; FNV-1a
/// (64 bits) of all that.
pub(crate) fn write<'a>(space: &str, prefix: &str, keys: impl IntoIterator<Item = &'a str>) -> Vec<u8> {
    let mut out = MAGIC.to_vec();
    push(&mut out, space);
    for key in keys {
        if out.len() + key.len() > LONGEST {
            break;
        }
        if let Some(key) = key.strip_prefix(prefix) {
            push(&mut out, key);
        }
    }
    let sum = fnv(&out);
    out.extend(sum.to_le_bytes());
    out
}

fn push(out: &mut Vec<u8>, text: &str) {
    // keys are far shorter; one that is not is left out
    if let Ok(len) = u16::try_from(text.len()) {
        out.extend(len.to_le_bytes());
        out.extend(text.as_bytes());
    }
}

/// Reads a list that was written for the same `space`: the keys, with `prefix` before each.
pub(crate) fn read(space: &str, prefix: &str, bytes: &[u8]) -> Result<Vec<String>> {
    let body = bytes.strip_prefix(MAGIC.as_slice()).ok_or_else(|| {
        let newer = bytes.get(..MAGIC.len() - 1) == MAGIC.get(..MAGIC.len() - 1);
        bad(if newer { "is of a version that is not known" } else { "is none, or was cut" })
    })?;
    let (body, sum) = body.split_last_chunk().ok_or_else(|| bad("was cut"))?;
    if fnv(bytes.get(..bytes.len() - sum.len()).unwrap_or_default()) != u64::from_le_bytes(*sum) {
        return Err(bad("was cut or changed"));
    }
    let (written, mut rest) = take(body)?;
    if written != space {
        return Err(bad("is of another namespace or key space"));
    }
    let mut keys = Vec::new();
    while !rest.is_empty() {
        let (key, after) = take(rest)?;
        if key.len() > MAX_KEY {
            return Err(bad("holds a key that is too long"));
        }
        keys.push(format!("{prefix}{key}"));
        rest = after;
    }
    Ok(keys)
}

fn take(bytes: &[u8]) -> Result<(&str, &[u8])> {
    let (len, rest) = bytes.split_first_chunk().ok_or_else(|| bad("was cut"))?;
    let (text, rest) = rest.split_at_checked(usize::from(u16::from_le_bytes(*len))).ok_or_else(|| bad("was cut"))?;
    Ok((std::str::from_utf8(text).map_err(|_| bad("holds a key that is no text"))?, rest))
}

fn bad(how: &str) -> Error {
    Error::new(ErrorKind::Invalid, format!("the list of keys {how}; export it again")).with_operation("import")
}

fn fnv(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_list_comes_back_in_its_order() {
        let keys = ["1:b", "1:a", "1:", "1:b"];
        assert_eq!(read("ns:s:", "2:", &write("ns:s:", "1:", keys)).unwrap(), ["2:b", "2:a", "2:", "2:b"]);
        assert!(read("ns:s:", "1:", &write("ns:s:", "1:", [])).unwrap().is_empty());
        assert!(read("ns:s:", "1:", &write("ns:s:", "1:", ["3:a"])).unwrap().is_empty(), "another space's key");
    }

    #[test]
    fn a_foreign_list_is_refused() {
        let list = write("ns:s:", "1:", ["1:a", "1:b"]);
        let said = |space: &str, bytes: &[u8]| read(space, "1:", bytes).unwrap_err().message().to_owned();
        assert!(said("ns:t:", &list).contains("another"));
        let mut newer = list.clone();
        newer[7] += 1;
        assert!(said("ns:s:", &newer).contains("version"));
        assert!(said("ns:s:", b"").contains("none"));
        for len in 0..list.len() {
            assert!(read("ns:s:", "1:", &list[..len]).is_err(), "cut to {len} bytes");
        }
        for at in 0..list.len() {
            let mut flipped = list.clone();
            flipped[at] ^= 1;
            assert!(read("ns:s:", "1:", &flipped).is_err(), "byte {at} flipped");
        }
    }

    proptest! {
        #[test]
        fn no_bytes_are_too_odd_to_be_read(mut bytes: Vec<u8>, sealed: bool) {
            if sealed {
                bytes.splice(..0, *MAGIC);
                bytes.extend(fnv(&bytes).to_le_bytes());
            }
            let _ = read("ns:s:", "1:", &bytes);
        }
    }
}
