//! The options of the tiers in a url, told apart from those of the far store's own url.

use std::time::Duration;

use cache_core::Result;
#[cfg(any(feature = "lz4", feature = "zstd"))]
use cache_core::packing::Compression;
use cache_core::packing::Packing;
use cache_tiered::TieredBuilder;

use super::config;

/// What a url says about the tiers; `None` leaves the default.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Settings {
    pub(super) bytes: Option<u64>,
    pub(super) namespace: Option<String>,
    pub(super) max_ttl: Option<Duration>,
    pub(super) bound: Option<Duration>,
    pub(super) outage: Option<Duration>,
    pub(super) lease: Option<Duration>,
    pub(super) buckets: Option<usize>,
    pub(super) compress: Option<Algorithm>,
}

/// What payloads are compressed with; an algorithm that isn't linked is refused where it is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Algorithm {
    #[cfg(feature = "lz4")]
    Lz4,
    #[cfg(feature = "zstd")]
    Zstd,
}

impl Algorithm {
    fn parse(text: &str) -> Result<Self, &'static str> {
        match text {
            #[cfg(feature = "lz4")]
            "lz4" => Ok(Self::Lz4),
            #[cfg(feature = "zstd")]
            "zstd" => Ok(Self::Zstd),
            _ => Err("is lz4 or zstd, with the feature of that name"),
        }
    }

    fn packing(self) -> Packing {
        match self {
            #[cfg(feature = "lz4")]
            Self::Lz4 => Packing::default().compress(Compression::lz4()),
            #[cfg(feature = "zstd")]
            Self::Zstd => Packing::default().compress(Compression::zstd()),
        }
    }
}

impl Settings {
    /// `tiers` with everything that was said, except `bytes`, which belongs to the near store.
    pub(super) fn apply(&self, mut tiers: TieredBuilder) -> TieredBuilder {
        let Self { bytes: _, namespace, max_ttl, bound, outage, lease, buckets, compress } = self;
        if let Some(name) = namespace {
            tiers = tiers.namespace(name.as_str());
        }
        if let Some(ttl) = max_ttl {
            tiers = tiers.max_ttl(*ttl);
        }
        if let Some(span) = bound {
            tiers = tiers.bound(*span);
        }
        if let Some(span) = outage {
            tiers = tiers.outage(*span);
        }
        if let Some(span) = lease {
            tiers = tiers.lease(*span);
        }
        if let Some(count) = buckets {
            tiers = tiers.buckets(*count);
        }
        if let Some(algorithm) = compress {
            tiers = tiers.packing(algorithm.packing());
        }
        tiers
    }
}

/// Takes one option's text; an error says which form it has.
type Setter = fn(&mut Settings, &str) -> Result<(), &'static str>;

const NEAR: &[(&str, Setter)] = &[("bytes", |s, v| set(&mut s.bytes, size(v)))];

const ALL: &[(&str, Setter)] =
    &[("namespace", |s, v| set(&mut s.namespace, name(v))), ("max_ttl", |s, v| set(&mut s.max_ttl, span(v)))];

const FAR: &[(&str, Setter)] = &[
    ("bound", |s, v| set(&mut s.bound, span(v))),
    ("outage", |s, v| set(&mut s.outage, span(v))),
    ("lease", |s, v| set(&mut s.lease, span(v))),
    ("buckets", |s, v| set(&mut s.buckets, v.parse().map_err(|_| "is a whole number"))),
    ("compress", |s, v| set(&mut s.compress, Algorithm::parse(v))),
];

/// Which options a url may have.
#[derive(Clone, Copy)]
pub(super) struct Known {
    near: bool,
    far: bool,
}

impl Known {
    pub(super) const NEAR: Self = Self { near: true, far: false };
    pub(super) const FAR: Self = Self { near: false, far: true };
    pub(super) const BOTH: Self = Self { near: true, far: true };

    fn table(self) -> impl Iterator<Item = &'static (&'static str, Setter)> {
        let near = if self.near { NEAR } else { &[] };
        let far = if self.far { FAR } else { &[] };
        near.iter().chain(ALL).chain(far)
    }

    /// Their names.
    pub(super) fn names(self) -> Vec<&'static str> {
        self.table().map(|(name, _)| *name).collect()
    }
}

/// What `query` says about the tiers, and what remains for the far store's url. Without a far store nothing may remain.
pub(super) fn parse(query: &str, known: Known) -> Result<(Settings, String)> {
    let mut settings = Settings::default();
    let mut rest = Vec::new();
    let mut faults = Vec::new();
    for pair in query.split('&').filter(|pair| !pair.is_empty()) {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        if let Some((name, set)) = known.table().find(|(known, _)| *known == name) {
            if let Err(form) = set(&mut settings, value) {
                faults.push(format!("{name} {form}"));
            }
        } else if let Some((name, _)) = Known::BOTH.table().find(|(known, _)| *known == name) {
            let tier = if known.far { "near" } else { "far" };
            faults.push(format!("{name} is for a {tier} store, and the url has none; leave it out or use tiered:"));
        } else if known.far {
            rest.push(pair);
        } else {
            faults.push(format!("unknown option{}; known are {}", shown(name), known.names().join(", ")));
        }
    }
    if faults.is_empty() { Ok((settings, rest.join("&"))) } else { Err(config(faults.join("; "))) }
}

/// An option's name for an error, if it can't be anything else.
fn shown(name: &str) -> String {
    let plain = name.len() <= 24 && name.bytes().all(|b| b.is_ascii_lowercase() || b == b'_');
    if plain && !name.is_empty() { format!(" '{name}'") } else { String::new() }
}

fn set<T>(place: &mut Option<T>, value: Result<T, &'static str>) -> Result<(), &'static str> {
    *place = Some(value?);
    Ok(())
}

fn name(text: &str) -> Result<String, &'static str> {
    if text.is_empty() || text.contains('%') {
        return Err("is a name, written without percent-encoding");
    }
    Ok(text.to_owned())
}

/// A time: `500ms`, `2s`, `5m`, `1h`, `7d`, or `0`.
fn span(text: &str) -> Result<Duration, &'static str> {
    let millis = scaled(text, &[("", 0), ("ms", 1), ("s", 1000), ("m", 60_000), ("h", 3_600_000), ("d", 86_400_000)]);
    millis.map(Duration::from_millis).ok_or("is a time such as 500ms, 2s, 5m, 1h or 7d")
}

/// A number of bytes: `65536`, `64KiB`, `64MiB`, `1GiB`, or short `64k`, `64m`, `1g`.
fn size(text: &str) -> Result<u64, &'static str> {
    const UNITS: &[(&str, u64)] = &[
        ("", 1),
        ("k", 1 << 10),
        ("kib", 1 << 10),
        ("m", 1 << 20),
        ("mib", 1 << 20),
        ("g", 1 << 30),
        ("gib", 1 << 30),
    ];
    let form = "is a number of bytes such as 65536, 64MiB or 1GiB";
    scaled(&text.to_ascii_lowercase(), UNITS).filter(|bytes| *bytes > 0).ok_or(form)
}

/// A whole number with a unit; a unit that stands for 0 is allowed with 0 alone.
fn scaled(text: &str, units: &[(&str, u64)]) -> Option<u64> {
    let end = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (digits, unit) = text.split_at(end);
    let count: u64 = digits.parse().ok()?;
    let (_, factor) = units.iter().find(|(name, _)| *name == unit)?;
    if *factor == 0 && count != 0 {
        return None;
    }
    count.checked_mul(*factor)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_have_a_unit() {
        for (text, millis) in [("500ms", 500), ("2s", 2000), ("5m", 300_000), ("1h", 3_600_000), ("0", 0), ("0s", 0)] {
            assert_eq!(span(text), Ok(Duration::from_millis(millis)), "{text}");
        }
        for text in ["", "2", "s", "-1s", "1.5s", "2 s", "2S", "99999999999999999999s", "18446744073709551615d"] {
            assert!(span(text).is_err(), "{text:?}");
        }
    }

    #[test]
    fn sizes_are_bytes_or_have_a_unit() {
        for (text, bytes) in
            [("65536", 65_536), ("64KiB", 65_536), ("64MiB", 64 << 20), ("1GiB", 1 << 30), ("2m", 2 << 20)]
        {
            assert_eq!(size(text), Ok(bytes), "{text}");
        }
        for text in ["", "0", "MiB", "-1", "1.5GiB", "64MB", "64 MiB", "18446744073709551615k"] {
            assert!(size(text).is_err(), "{text:?}");
        }
    }
}
