//! Who may import what: the rules, each in a row of one of two tables.

mod lex;
mod paths;
mod sources;
#[cfg(test)]
mod tests;
mod tree;

use anyhow::{Result, bail};

use self::sources::{Kind, SourceRule};
use self::tree::{Edges, TreeRule};
use crate::workspace::Workspace;

/// What may be linked, proven with `cargo tree`.
const TREES: &[TreeRule] = &[
    TreeRule {
        name: "the contract needs no driver, no runtime and no codec",
        package: "cache-core",
        features: &["--no-default-features"],
        edges: Edges::Direct,
        never: &["tokio", "serde", "bincode", "postcard", "rmp-serde", "serde_json", "redis", "moka"],
        only: Some(&["async-trait", "bytes", "thiserror", "rustix", "getrandom", "crc32fast"]),
    },
    TreeRule {
        name: "cache-core knows no backend and no engine",
        package: "cache-core",
        features: &["--all-features"],
        edges: Edges::Normal,
        never: &["redis", "moka", "cache-redis", "cache-moka", "cache-tiered", "cache-strata"],
        only: None,
    },
    TreeRule {
        name: "cache-moka knows no redis and no engine",
        package: "cache-moka",
        features: &["--all-features"],
        edges: Edges::Normal,
        never: &["redis", "cache-redis", "cache-tiered", "cache-strata"],
        only: None,
    },
    TreeRule {
        name: "cache-moka is a thin coat over moka",
        package: "cache-moka",
        features: &["--all-features"],
        edges: Edges::Direct,
        never: &[],
        only: Some(&["cache-core", "moka", "async-trait", "bytes", "arrayvec", "foldhash"]),
    },
    TreeRule {
        name: "cache-redis knows no moka and no engine",
        package: "cache-redis",
        features: &["--all-features"],
        edges: Edges::Normal,
        never: &["moka", "cache-moka", "cache-tiered", "cache-strata"],
        only: None,
    },
    TreeRule {
        name: "cache-memcached knows no other backend and no engine",
        package: "cache-memcached",
        features: &["--all-features"],
        edges: Edges::Normal,
        never: &["redis", "moka", "cache-redis", "cache-moka", "cache-tiered", "cache-strata"],
        only: None,
    },
    TreeRule {
        name: "cache-tiered knows no backend, not even in its tests",
        package: "cache-tiered",
        features: &["--all-features"],
        edges: Edges::NormalAndDev,
        never: &["redis", "moka", "cache-redis", "cache-moka", "cache-memcached", "cache-strata"],
        only: None,
    },
    TreeRule {
        name: "the facade without features links the contract alone",
        package: "cache-strata",
        features: &["--no-default-features"],
        edges: Edges::Normal,
        never: &["redis", "moka", "tokio", "cache-redis", "cache-moka", "cache-tiered"],
        only: None,
    },
    TreeRule {
        name: "the facade's default links no redis",
        package: "cache-strata",
        features: &[],
        edges: Edges::Normal,
        never: &["redis", "cache-redis", "cache-memcached"],
        only: None,
    },
    TreeRule {
        name: "the facade reaches drivers through its crates only",
        package: "cache-strata",
        features: &["--all-features"],
        edges: Edges::Direct,
        never: &["redis", "moka"],
        only: None,
    },
];

/// The files of the contract.
const CONTRACT: &[&str] = &[
    "cache-core/src/service.rs",
    "cache-core/src/local.rs",
    "cache-core/src/leases.rs",
    "cache-core/src/atomic.rs",
    "cache-core/src/sweep.rs",
    "cache-core/src/bus.rs",
    "cache-core/src/entry.rs",
    "cache-core/src/envelope.rs",
    "cache-core/src/envelope",
    "cache-core/src/key.rs",
    "cache-core/src/error.rs",
    "cache-core/src/clock.rs",
];

/// What may be written, proven by reading the sources.
const SOURCES: &[SourceRule] = &[
    SourceRule {
        name: "contract files import std, bytes, async-trait and thiserror; the clock, stamps and the seal one helper each",
        files: CONTRACT,
        kind: Kind::OnlyCrates {
            allowed: &["std", "bytes", "async_trait", "thiserror"],
            besides: &[
                ("cache-core/src/clock.rs", "rustix"),
                ("cache-core/src/envelope.rs", "getrandom"),
                ("cache-core/src/envelope/seal.rs", "crc32fast"),
            ],
        },
        breach: "use serde::Serialize;",
    },
    SourceRule {
        name: "contract files don't know codecs, recipes or the testkit",
        files: CONTRACT,
        kind: Kind::NeverModules(&["codec", "recipe", "testkit"]),
        breach: "use crate::{Result, codec::Codec};",
    },
    SourceRule {
        name: "the redis driver is named in cache-redis alone",
        files: &["cache-core/src", "cache-memcached/src", "cache-moka/src", "cache-tiered/src", "src", "examples"],
        kind: Kind::NeverCrates(&["redis"]),
        breach: "fn open() -> redis::Client { todo() }",
    },
    SourceRule {
        name: "moka is named in cache-moka alone",
        files: &["cache-core/src", "cache-memcached/src", "cache-redis/src", "cache-tiered/src", "src", "examples"],
        kind: Kind::NeverCrates(&["moka"]),
        breach: "use moka::sync::Cache;",
    },
    SourceRule {
        name: "the engine names no backend",
        files: &["cache-tiered/src", "cache-tiered/tests"],
        kind: Kind::NeverCrates(&["cache_redis", "cache_moka", "cache_memcached", "cache_strata"]),
        breach: "use cache_moka::Moka;",
    },
    SourceRule {
        name: "no redis name stands in a public signature, save behind raw()",
        files: &["cache-redis/src"],
        kind: Kind::NotPublic { krate: "redis", doors: &["raw", "Raw"] },
        breach: "use redis::{aio::MultiplexedConnection as Wire};\npub fn wire(&self) -> Wire { self.wire }",
    },
    SourceRule {
        name: "no moka name stands in a public signature",
        files: &["cache-moka/src"],
        kind: Kind::NotPublic { krate: "moka", doors: &[] },
        breach: "pub struct Moka { pub inner: moka::sync::Cache<u8, u8> }",
    },
    SourceRule {
        name: "tests, benches and examples reach no private item by including a source file",
        files: &["tests", "benches", "examples"],
        kind: Kind::NoInclusion,
        breach: "#[path = \"../cache-core/src/key.rs\"]\nmod key;",
    },
];

/// Checks every rule, prints each with its verdict.
///
/// # Errors
/// If one is broken, after all were checked.
pub(crate) fn check(workspace: &Workspace) -> Result<String> {
    let mut broken = 0;
    let trees = TREES.iter().map(|rule| (rule.name, rule.broken(workspace)));
    let sources = SOURCES.iter().map(|rule| (rule.name, rule.broken(workspace)));
    for (name, found) in trees.chain(sources) {
        let found = found?;
        println!("{} {name}", if found.is_empty() { "ok    " } else { "BROKEN" });
        for line in &found {
            println!("       {line}");
        }
        broken += usize::from(!found.is_empty());
    }
    let rules = TREES.len() + SOURCES.len();
    if broken > 0 {
        bail!("{broken} of {rules} import rules are broken");
    }
    Ok(format!("{rules} import rules hold"))
}
