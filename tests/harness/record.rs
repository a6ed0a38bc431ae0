//! What a node saw, on disk: 28 bytes a record.

use std::io::Write;
use std::path::Path;

use anyhow::{Context, Result, bail};

/// What was done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Op {
    Read,
    /// A write that was committed and whose invalidation was acknowledged.
    Write,
    /// A write that was committed and whose invalidation was not acknowledged: it is repeated until it is done.
    Tried,
    /// The same of a value that was put: it may be carried out at any time, also over a newer one.
    Loose,
    /// A load of a reader: what the origin held.
    Load,
    /// A read in the quiet at the end.
    Last,
    /// What the origin holds at the end.
    Truth,
}

/// Where an answer came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Source {
    Near,
    Far,
    Origin,
    /// Served by the outage rule, and marked so.
    Unconfirmed,
}

/// One operation of one process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Record {
    pub(crate) op: Op,
    pub(crate) source: Source,
    pub(crate) key: u16,
    pub(crate) version: u64,
    /// Nanoseconds on the machine's one clock.
    pub(crate) invoked: u64,
    pub(crate) returned: u64,
}

const SIZE: usize = 28;
const OPS: [Op; 7] = [Op::Read, Op::Write, Op::Tried, Op::Loose, Op::Load, Op::Last, Op::Truth];
const SOURCES: [Source; 4] = [Source::Near, Source::Far, Source::Origin, Source::Unconfirmed];

pub(crate) fn write_all(path: &Path, records: &[Record]) -> Result<()> {
    let mut out = std::io::BufWriter::new(std::fs::File::create(path)?);
    for record in records {
        let mut bytes = [0; SIZE];
        bytes[0] = record.op as u8;
        bytes[1] = record.source as u8;
        bytes[2..4].copy_from_slice(&record.key.to_le_bytes());
        bytes[4..12].copy_from_slice(&record.version.to_le_bytes());
        bytes[12..20].copy_from_slice(&record.invoked.to_le_bytes());
        bytes[20..28].copy_from_slice(&record.returned.to_le_bytes());
        out.write_all(&bytes)?;
    }
    Ok(out.flush()?)
}

pub(crate) fn read_all(path: &Path) -> Result<Vec<Record>> {
    let bytes = std::fs::read(path).with_context(|| "a node left no records")?;
    if bytes.len() % SIZE != 0 {
        bail!("a node's records are cut");
    }
    let long = |chunk: &[u8], at: usize| u64::from_le_bytes(chunk[at..at + 8].try_into().expect("eight bytes"));
    let parse = |chunk: &[u8]| Record {
        op: OPS[usize::from(chunk[0])],
        source: SOURCES[usize::from(chunk[1])],
        key: u16::from_le_bytes([chunk[2], chunk[3]]),
        version: long(chunk, 4),
        invoked: long(chunk, 12),
        returned: long(chunk, 20),
    };
    Ok(bytes.chunks_exact(SIZE).map(parse).collect())
}
