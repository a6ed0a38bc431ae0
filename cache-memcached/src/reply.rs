//! Answers out of bytes. Nothing here trusts a length that was only claimed.

use bytes::{Buf, Bytes, BytesMut};
use cache_core::{Error, Result};

use crate::error;
use crate::request::Expected;

/// The longest line that the server may send.
const LINE: usize = 8 * 1024;
/// The most lines of one answer to `stats`.
const STATS: usize = 10_000;

/// One answer.
#[derive(Debug)]
pub(crate) enum Reply {
    /// Done (`HD`, `OK`, `MN`, `STORED`), or found without its value.
    Done(Flags),
    /// A value.
    Value(Bytes, Flags),
    /// The key is missing (`EN`, `NF`).
    Missing,
    /// Not stored (`NS`): the key is there.
    Present,
    /// Not done (`EX`): the item is another by now.
    Changed,
    /// Names and values.
    Stats(Vec<(String, String)>),
    /// An error line.
    Refused(Error),
}

/// What an answer says beside the value.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Flags {
    /// The client flags.
    pub(crate) client: u32,
    /// The item's number, for compare-and-swap.
    pub(crate) number: u64,
    /// The seconds left; -1 is for ever.
    pub(crate) left: i64,
}

/// Takes one answer off the front of `buffer`; `None` if it is not there as a whole yet.
///
/// # Errors
/// If these bytes can't be an answer: the connection is of no more use.
pub(crate) fn take(buffer: &mut BytesMut, expected: Expected, largest: usize) -> Result<Option<Reply>> {
    match expected {
        Expected::One => one(buffer, largest),
        Expected::Stats => stats(buffer),
    }
}

/// The first line without its end, and the length with it.
fn line(bytes: &[u8]) -> Result<Option<(&str, usize)>> {
    let Some(end) = bytes.iter().take(LINE).position(|byte| *byte == b'\n') else {
        return if bytes.len() >= LINE { Err(error::garbled("a line without an end")) } else { Ok(None) };
    };
    let text = bytes.get(..end).unwrap_or_default();
    let text = std::str::from_utf8(text.strip_suffix(b"\r").unwrap_or(text));
    Ok(Some((text.map_err(|_| error::garbled("a line that is no text"))?, end + 1)))
}

fn one(buffer: &mut BytesMut, largest: usize) -> Result<Option<Reply>> {
    let Some((text, length)) = line(buffer)? else { return Ok(None) };
    let (word, rest) = text.split_once(' ').unwrap_or((text, ""));
    let reply = match word {
        "VA" => {
            let (size, rest) = rest.split_once(' ').unwrap_or((rest, ""));
            let size: usize = size.parse().map_err(|_| error::garbled("a value without a length"))?;
            if size > largest {
                return Err(error::garbled("a value over every limit"));
            }
            let flags = flags(rest)?;
            let Some(end) = buffer.get(length + size..length + size + 2) else { return Ok(None) };
            if end != b"\r\n" {
                return Err(error::garbled("a value of another length than was said"));
            }
            buffer.advance(length);
            let value = buffer.split_to(size).freeze();
            buffer.advance(2);
            return Ok(Some(Reply::Value(value, flags)));
        }
        "HD" | "OK" | "MN" | "STORED" => Reply::Done(flags(rest)?),
        "EN" | "NF" => Reply::Missing,
        "NS" => Reply::Present,
        "EX" => Reply::Changed,
        "ERROR" | "CLIENT_ERROR" | "SERVER_ERROR" => Reply::Refused(error::said(text)),
        _ => return Err(error::garbled("an unknown word")),
    };
    buffer.advance(length);
    Ok(Some(reply))
}

fn flags(text: &str) -> Result<Flags> {
    let mut flags = Flags { left: -1, ..Flags::default() };
    for token in text.split(' ').filter(|token| !token.is_empty()) {
        let mut letters = token.chars();
        let letter = letters.next();
        let bad = |_| error::garbled("a flag without its number");
        match letter {
            Some('f') => flags.client = letters.as_str().parse().map_err(bad)?,
            Some('c') => flags.number = letters.as_str().parse().map_err(bad)?,
            Some('t') => flags.left = letters.as_str().parse().map_err(bad)?,
            _ => {}
        }
    }
    Ok(flags)
}

fn stats(buffer: &mut BytesMut) -> Result<Option<Reply>> {
    let (mut at, mut found) = (0, Vec::new());
    loop {
        let Some((text, length)) = line(buffer.get(at..).unwrap_or_default())? else { return Ok(None) };
        at += length;
        let reply = match text.split_once(' ') {
            Some(("STAT", rest)) if found.len() < STATS => {
                let (name, value) = rest.split_once(' ').unwrap_or((rest, ""));
                found.push((name.to_owned(), value.to_owned()));
                continue;
            }
            None if text == "END" || text == "RESET" => Reply::Stats(found),
            Some(("CLIENT_ERROR" | "SERVER_ERROR", _)) => Reply::Refused(error::said(text)),
            None if text == "ERROR" => Reply::Refused(error::said(text)),
            _ => return Err(error::garbled("an unknown word among the statistics")),
        };
        buffer.advance(at);
        return Ok(Some(reply));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(bytes: &[u8]) -> Result<Option<Reply>> {
        take(&mut BytesMut::from(bytes), Expected::One, 1000)
    }

    #[test]
    fn a_value_comes_with_its_flags_and_only_as_a_whole() {
        let whole = b"VA 3 f7 c12 t-1\r\nfoo\r\nEN\r\n";
        for cut in 0..whole.len() - 4 {
            let there = read(&whole[..cut]).unwrap().is_some();
            assert_eq!(there, cut >= 22, "{cut}");
        }
        let mut buffer = BytesMut::from(&whole[..]);
        match take(&mut buffer, Expected::One, 1000).unwrap() {
            Some(Reply::Value(value, flags)) => {
                assert_eq!((&value[..], flags), (&b"foo"[..], Flags { client: 7, number: 12, left: -1 }));
            }
            other => panic!("{other:?}"),
        }
        assert!(matches!(take(&mut buffer, Expected::One, 1000), Ok(Some(Reply::Missing))));
        assert!(buffer.is_empty());
    }

    #[test]
    fn what_can_be_no_answer_ends_the_connection() {
        for bytes in [
            &b"VA x\r\n"[..],
            b"VA 1001 f0\r\n",
            b"VA 18446744073709551615 f0\r\n",
            b"VA 3 fx\r\nfoo\r\n",
            b"VA 3\r\nfooXX",
            b"HTTP/1.1 400 Bad Request\r\n",
            b"\xff\xfe\r\n",
            b"\r\n",
            &[b'a'; LINE],
        ] {
            assert!(read(bytes).is_err(), "{}", bytes.escape_ascii());
        }
    }

    #[test]
    fn random_bytes_never_panic() {
        let words: [&[u8]; 9] = [b"VA ", b"HD ", b"STAT ", b"END", b"3", b"\r\n", b" c", b"-", b"\xf0"];
        for seed in 0..5000 {
            let mut random = fastrand::Rng::with_seed(seed);
            let mut bytes = Vec::new();
            for _ in 0..random.usize(0..12) {
                bytes.extend_from_slice(words[random.usize(0..words.len())]);
            }
            for expected in [Expected::One, Expected::Stats] {
                let _ = take(&mut BytesMut::from(&bytes[..]), expected, 100);
            }
        }
    }

    #[test]
    fn statistics_end_with_their_end() {
        let mut buffer = BytesMut::from(&b"STAT pid 7\r\nSTAT version 1.6.18 beta\r\nEND\r\nHD\r\n"[..]);
        match take(&mut buffer, Expected::Stats, 0).unwrap() {
            Some(Reply::Stats(found)) => assert_eq!(found[1], ("version".into(), "1.6.18 beta".into())),
            other => panic!("{other:?}"),
        }
        assert_eq!(&buffer[..], b"HD\r\n");
    }
}
