//! The little of RESP2 that a subscriber needs, over a bounded buffer.

use std::io;
use std::ops::Range;

use bytes::{Bytes, BytesMut};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::stream::Stream;

/// The longest frame that is read; a longer one breaks the connection.
const MAX_FRAME: usize = 1 << 20;
/// The most parts of a frame.
const MAX_PARTS: usize = 8;

/// A stream that speaks RESP2.
pub(crate) struct Wire {
    stream: Stream,
    buffer: BytesMut,
}

/// One frame from the server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Frame {
    /// A line: a status, or a number; or a text.
    Line(Bytes),
    /// An error's text.
    Error(Bytes),
    /// An array's parts; numbers as text, nulls empty.
    Parts(Vec<Bytes>),
}

impl Wire {
    pub(crate) fn new(stream: Stream) -> Self {
        Self { stream, buffer: BytesMut::with_capacity(8 * 1024) }
    }

    /// Sends packed commands.
    pub(crate) async fn write(&mut self, packed: &[u8]) -> io::Result<()> {
        self.stream.write_all(packed).await?;
        self.stream.flush().await
    }

    /// The next frame. May be dropped at any await: nothing that was read is lost.
    pub(crate) async fn read(&mut self) -> io::Result<Frame> {
        loop {
            if let Some(frame) = take(&mut self.buffer)? {
                return Ok(frame);
            }
            if self.buffer.len() > MAX_FRAME {
                return Err(io::ErrorKind::InvalidData.into());
            }
            if self.stream.read_buf(&mut self.buffer).await? == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
        }
    }
}

/// Takes one whole frame off the buffer; `None` if it isn't whole yet.
fn take(buffer: &mut BytesMut) -> io::Result<Option<Frame>> {
    let mut at = 0;
    let Some(head) = line(buffer, &mut at) else { return Ok(None) };
    let Some(&kind) = buffer.get(head.start) else { return Err(io::ErrorKind::InvalidData.into()) };
    let mut parts = Vec::new();
    match kind {
        b'*' => {
            let count = number(buffer, &head)?.unwrap_or(0);
            if count > MAX_PARTS {
                return Err(io::ErrorKind::InvalidData.into());
            }
            for _ in 0..count {
                let Some(part) = part(buffer, &mut at)? else { return Ok(None) };
                parts.push(part);
            }
        }
        b'$' => {
            at = 0;
            let Some(text) = part(buffer, &mut at)? else { return Ok(None) };
            parts.push(text);
        }
        b'+' | b':' | b'-' => parts.push(head.start + 1..head.end),
        _ => return Err(io::ErrorKind::InvalidData.into()),
    }
    let block = buffer.split_to(at).freeze();
    let mut parts: Vec<Bytes> = parts.into_iter().map(|range| block.slice(range)).collect();
    Ok(Some(match kind {
        b'*' => Frame::Parts(parts),
        b'-' => Frame::Error(parts.pop().unwrap_or_default()),
        _ => Frame::Line(parts.pop().unwrap_or_default()),
    }))
}

/// A part of an array: a string or a line.
fn part(buffer: &[u8], at: &mut usize) -> io::Result<Option<Range<usize>>> {
    let Some(head) = line(buffer, at) else { return Ok(None) };
    match buffer.get(head.start) {
        Some(b'$') => {
            let Some(len) = number(buffer, &head)? else { return Ok(Some(head.end..head.end)) };
            if len > MAX_FRAME {
                return Err(io::ErrorKind::InvalidData.into());
            }
            let body = *at..*at + len;
            match buffer.get(body.end..body.end + 2) {
                Some(b"\r\n") => {
                    *at = body.end + 2;
                    Ok(Some(body))
                }
                Some(_) => Err(io::ErrorKind::InvalidData.into()),
                None => Ok(None),
            }
        }
        Some(b'+' | b':') => Ok(Some(head.start + 1..head.end)),
        _ => Err(io::ErrorKind::InvalidData.into()),
    }
}

/// A line without its end; `None` if its end isn't there yet.
fn line(buffer: &[u8], at: &mut usize) -> Option<Range<usize>> {
    let start = *at;
    let len = buffer.get(start..)?.windows(2).position(|pair| pair == b"\r\n")?;
    *at = start + len + 2;
    Some(start..start + len)
}

/// The count after a line's first byte; `None` for the null count -1.
fn number(buffer: &[u8], head: &Range<usize>) -> io::Result<Option<usize>> {
    let digits = buffer.get(head.start + 1..head.end).and_then(|digits| std::str::from_utf8(digits).ok());
    match digits {
        Some("-1") => Ok(None),
        Some(digits) if !digits.starts_with('+') => {
            digits.parse().map(Some).map_err(|_| io::ErrorKind::InvalidData.into())
        }
        _ => Err(io::ErrorKind::InvalidData.into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all(bytes: &[u8]) -> io::Result<Vec<Frame>> {
        let mut buffer = BytesMut::from(bytes);
        let mut frames = Vec::new();
        while let Some(frame) = take(&mut buffer)? {
            frames.push(frame);
        }
        Ok(frames)
    }

    #[test]
    fn frames_are_taken_only_when_whole() {
        let bytes = b"+OK\r\n*3\r\n$9\r\nsubscribe\r\n$1\r\nc\r\n:1\r\n*3\r\n$7\r\nmessage\r\n$1\r\nc\r\n$4\r\n\r\n\r\n\r\n-ERR no\r\n$4\r\na\r\nb\r\n";
        let parts =
            |parts: &[&'static str]| Frame::Parts(parts.iter().map(|p| Bytes::from_static(p.as_bytes())).collect());
        let expected = vec![
            Frame::Line(Bytes::from_static(b"OK")),
            parts(&["subscribe", "c", "1"]),
            parts(&["message", "c", "\r\n\r\n"]),
            Frame::Error(Bytes::from_static(b"ERR no")),
            Frame::Line(Bytes::from_static(b"a\r\nb")),
        ];
        assert_eq!(all(bytes).unwrap(), expected);
        for cut in 0..bytes.len() {
            let mut buffer = BytesMut::from(&bytes[..cut]);
            let mut frames = Vec::new();
            while let Some(frame) = take(&mut buffer).unwrap() {
                frames.push(frame);
            }
            buffer.extend_from_slice(&bytes[cut..]);
            while let Some(frame) = take(&mut buffer).unwrap() {
                frames.push(frame);
            }
            assert_eq!(frames, expected, "cut at {cut}");
        }
    }

    #[test]
    fn nonsense_is_refused() {
        for bytes in [
            &b"*9\r\n"[..],
            b"*x\r\n",
            b"*1\r\n$99999999999\r\n",
            b"*1\r\n$18446744073709551615\r\n",
            b"*1\r\n$-2\r\n",
            b"*1\r\n*1\r\n",
            b"*1\r\n$1\r\nabc\r\n",
            b"$99999999999\r\n",
            b"HTTP/1.1 400\r\n",
            b"\r\n",
        ] {
            assert!(all(bytes).is_err(), "{bytes:?}");
        }
        assert_eq!(all(b"*-1\r\n*1\r\n$-1\r\n").unwrap().len(), 2);
    }
}
