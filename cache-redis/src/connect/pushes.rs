//! The little of RESP3 that tracking needs: pushes are taken key by key, so no list of any length is ever held whole.

use std::io;

use bytes::{Buf, Bytes, BytesMut};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::stream::Stream;

/// The longest line, and the longest string that is kept; longer strings are skipped.
const MAX_LINE: usize = 16 * 1024;

/// What the server said.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Said {
    /// A key was written.
    Key(Bytes),
    /// Everything may have been written.
    All,
    /// A reply that is no error; its text, unless it is a list or a long one.
    Reply(Bytes),
    /// An error reply's text.
    Error(Bytes),
}

/// A stream of RESP3 pushes and replies.
pub(crate) struct Pushes {
    stream: Stream,
    buffer: BytesMut,
    reader: Reader,
}

impl Pushes {
    pub(crate) fn new(stream: Stream) -> Self {
        Self { stream, buffer: BytesMut::with_capacity(8 * 1024), reader: Reader::default() }
    }

    /// Sends packed commands.
    pub(crate) async fn write(&mut self, packed: &[u8]) -> io::Result<()> {
        self.stream.write_all(packed).await?;
        self.stream.flush().await
    }

    /// What the server says next. May be dropped at any await: nothing that was read is lost.
    pub(crate) async fn read(&mut self) -> io::Result<Said> {
        loop {
            if let Some(said) = self.reader.take(&mut self.buffer)? {
                return Ok(said);
            }
            if self.stream.read_buf(&mut self.buffer).await? == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
        }
    }
}

/// Where in a message the reader stands.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum At {
    /// Between messages.
    #[default]
    Top,
    /// Before the first part of a push, its kind; so many parts in all.
    Kind(u64),
    /// Before the list of an invalidation.
    List,
    /// In that list; so many keys left.
    Keys(u64),
    /// In something of no interest; so many values left, and whether it is a reply.
    Skip(u64, bool),
}

/// One token.
#[derive(Debug, PartialEq, Eq)]
enum Token {
    /// A list, map, set or push; how many values are in it.
    Open(u8, u64),
    /// A string, or a line with its type.
    Text(u8, Bytes),
    Null,
    /// A string too long to be kept.
    Long,
}

#[derive(Debug, Default)]
struct Reader {
    at: At,
    /// Bytes of a long string that are still to be dropped.
    drop: u64,
}

fn malformed<T>() -> io::Result<T> {
    Err(io::ErrorKind::InvalidData.into())
}

impl Reader {
    /// The next thing said, as far as it is in the buffer.
    fn take(&mut self, buffer: &mut BytesMut) -> io::Result<Option<Said>> {
        loop {
            match self.at {
                At::Keys(0) => self.at = At::Top,
                At::Skip(0, reply) => {
                    self.at = At::Top;
                    if reply {
                        return Ok(Some(Said::Reply(Bytes::new())));
                    }
                }
                _ => {}
            }
            let Some(token) = self.token(buffer)? else { return Ok(None) };
            match (self.at, token) {
                (At::Top, Token::Open(b'>', parts)) if parts > 0 => self.at = At::Kind(parts),
                (At::Top, Token::Open(b'>', _)) => {}
                // an attribute stands before a reply and is none
                (At::Top, Token::Open(b'|', values)) => self.at = At::Skip(values, false),
                (At::Top, Token::Open(_, values)) => self.at = At::Skip(values, true),
                (At::Top, Token::Text(b'-' | b'!', text)) => return Ok(Some(Said::Error(text))),
                (At::Top, Token::Text(_, text)) => return Ok(Some(Said::Reply(text))),
                (At::Top, Token::Null | Token::Long) => return Ok(Some(Said::Reply(Bytes::new()))),
                (At::Kind(2), Token::Text(_, kind)) if kind == "invalidate" => self.at = At::List,
                (At::Kind(parts), Token::Text(..) | Token::Long) => self.at = At::Skip(parts - 1, false),
                (At::List, Token::Null) => {
                    self.at = At::Top;
                    return Ok(Some(Said::All));
                }
                (At::List, Token::Open(b'*', keys)) => self.at = At::Keys(keys),
                (At::Keys(left), Token::Text(_, key)) => {
                    self.at = At::Keys(left - 1);
                    return Ok(Some(Said::Key(key)));
                }
                // longer than a key of ours may be
                (At::Keys(left), Token::Long) => self.at = At::Keys(left - 1),
                (At::Skip(left, reply), Token::Open(_, values)) => {
                    let Some(left) = (left - 1).checked_add(values) else { return malformed() };
                    self.at = At::Skip(left, reply);
                }
                (At::Skip(left, reply), _) => self.at = At::Skip(left - 1, reply),
                _ => return malformed(),
            }
        }
    }

    fn token(&mut self, buffer: &mut BytesMut) -> io::Result<Option<Token>> {
        if self.drop > 0 {
            let now = usize::try_from(self.drop).map_or(buffer.len(), |drop| drop.min(buffer.len()));
            buffer.advance(now);
            self.drop -= now as u64;
            return Ok((self.drop == 0).then_some(Token::Long));
        }
        let Some(end) = buffer.windows(2).take(MAX_LINE).position(|pair| pair == b"\r\n") else {
            return if buffer.len() > MAX_LINE { malformed() } else { Ok(None) };
        };
        let Some((&kind, rest)) = buffer.get(..end).and_then(<[u8]>::split_first) else { return malformed() };
        match kind {
            b'$' | b'=' | b'!' => {
                let Some(len) = count(rest)? else { return Ok(Some(line(buffer, end, Token::Null))) };
                let whole = len.checked_add(2);
                let Some(size) = usize::try_from(len).ok().filter(|size| *size <= MAX_LINE) else {
                    let Some(whole) = whole else { return malformed() };
                    buffer.advance(end + 2);
                    self.drop = whole;
                    return self.token(buffer);
                };
                let body = end + 2..end + 2 + size;
                match buffer.get(body.end..body.end + 2) {
                    Some(b"\r\n") => {
                        let block = buffer.split_to(body.end + 2).freeze();
                        Ok(Some(Token::Text(kind, block.slice(body))))
                    }
                    Some(_) => malformed(),
                    None => Ok(None),
                }
            }
            b'*' | b'~' | b'>' | b'%' | b'|' => {
                let Some(values) = count(rest)? else { return Ok(Some(line(buffer, end, Token::Null))) };
                let pairs = if matches!(kind, b'%' | b'|') { 2 } else { 1 };
                let Some(values) = values.checked_mul(pairs) else { return malformed() };
                Ok(Some(line(buffer, end, Token::Open(kind, values))))
            }
            b'_' => Ok(Some(line(buffer, end, Token::Null))),
            b'+' | b'-' | b':' | b',' | b'#' | b'(' => {
                let block = buffer.split_to(end + 2).freeze();
                Ok(Some(Token::Text(kind, block.slice(1..end))))
            }
            _ => malformed(),
        }
    }
}

fn line(buffer: &mut BytesMut, end: usize, token: Token) -> Token {
    buffer.advance(end + 2);
    token
}

/// A count; `None` for the null count -1.
fn count(digits: &[u8]) -> io::Result<Option<u64>> {
    match digits {
        b"-1" => Ok(None),
        [b'0'..=b'9', ..] => {
            let text = std::str::from_utf8(digits).ok();
            text.and_then(|text| text.parse().ok()).map(Some).ok_or_else(|| io::ErrorKind::InvalidData.into())
        }
        _ => malformed(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn feed(reader: &mut Reader, buffer: &mut BytesMut, said: &mut Vec<Said>) -> io::Result<()> {
        while let Some(next) = reader.take(buffer)? {
            said.push(next);
        }
        Ok(())
    }

    fn all(bytes: &[u8]) -> io::Result<Vec<Said>> {
        let (mut reader, mut buffer, mut said) = (Reader::default(), BytesMut::from(bytes), Vec::new());
        feed(&mut reader, &mut buffer, &mut said).map(|()| said)
    }

    fn key(text: &'static str) -> Said {
        Said::Key(Bytes::from_static(text.as_bytes()))
    }

    fn reply(text: &'static str) -> Said {
        Said::Reply(Bytes::from_static(text.as_bytes()))
    }

    #[test]
    fn pushes_and_replies_are_told_apart_wherever_the_bytes_are_cut() {
        let hello = "%2\r\n$6\r\nserver\r\n$5\r\nredis\r\n$7\r\nmodules\r\n*1\r\n%1\r\n+name\r\n:1\r\n";
        let pushes =
            "+OK\r\n>2\r\n$10\r\ninvalidate\r\n*2\r\n$1\r\na\r\n$3\r\n\r\n!\r\n>2\r\n$10\r\ninvalidate\r\n_\r\n";
        let others = ">3\r\n+message\r\n$1\r\nc\r\n*2\r\n:1\r\n:2\r\n|1\r\n+ttl\r\n:3\r\n*0\r\n-ERR no\r\n_\r\n";
        let long = format!(">2\r\n$10\r\ninvalidate\r\n*2\r\n$40000\r\n{}\r\n$1\r\nz\r\n", "x".repeat(40_000));
        let bytes = format!("{hello}{pushes}{others}{long}+PONG\r\n");
        let expected = vec![
            reply(""),
            reply("OK"),
            key("a"),
            key("\r\n!"),
            Said::All,
            reply(""),
            Said::Error(Bytes::from_static(b"ERR no")),
            reply(""),
            key("z"),
            reply("PONG"),
        ];
        assert_eq!(all(bytes.as_bytes()).unwrap(), expected);
        for cut in (0..bytes.len()).step_by(7) {
            let (mut reader, mut said) = (Reader::default(), Vec::new());
            let mut buffer = BytesMut::from(&bytes.as_bytes()[..cut]);
            feed(&mut reader, &mut buffer, &mut said).unwrap();
            buffer.extend_from_slice(&bytes.as_bytes()[cut..]);
            feed(&mut reader, &mut buffer, &mut said).unwrap();
            assert_eq!(said, expected, "cut at {cut}");
        }
    }

    #[test]
    fn nonsense_is_refused_and_claimed_lengths_cost_nothing() {
        for bytes in [
            &b"\r\n"[..],
            b"HTTP/1.1 400\r\n",
            b"*x\r\n",
            b"$+1\r\na\r\n",
            b"$1\r\nabc\r\n",
            b"%9223372036854775808\r\n",
            b"*2\r\n*18446744073709551615\r\n",
            b"$18446744073709551615\r\n",
            b">2\r\n$10\r\ninvalidate\r\n+a\r\n",
            b">2\r\n$10\r\ninvalidate\r\n*1\r\n*0\r\n",
        ] {
            assert!(all(bytes).is_err(), "{:?}", String::from_utf8_lossy(bytes));
        }
        assert!(all(&vec![b'+'; MAX_LINE + 2]).is_err());
        assert_eq!(all(b">2\r\n$10\r\ninvalidate\r\n*18446744073709551615\r\n$1\r\na\r\n").unwrap(), [key("a")]);
    }
}
