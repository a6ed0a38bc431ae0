//! Scanning and clearing by prefix.

use std::collections::HashSet;

use async_trait::async_trait;
use cache_core::{Result, Sweep};

use crate::connect::Node;
use crate::service::Redis;

/// How many keys the server looks at in one step.
const STEP: u32 = 1000;

#[async_trait]
impl Sweep for Redis {
    /// Keys that are not UTF-8 are none of ours and left out. In a cluster each primary is walked in turn; a key that
    /// moves to another one meanwhile may be missed.
    async fn keys(&self, prefix: &str) -> Result<Vec<String>> {
        let mut keys = HashSet::new();
        for server in self.link().servers() {
            let mut walk = Walk::new(prefix, &server);
            while let Some(page) = walk.next(self, "keys").await? {
                keys.extend(page.into_iter().filter_map(|key| String::from_utf8(key).ok()));
            }
        }
        Ok(keys.into_iter().collect())
    }

    async fn clear(&self, prefix: &str) -> Result<u64> {
        let mut removed = 0;
        for server in self.link().servers() {
            let mut walk = Walk::new(prefix, &server);
            while let Some(page) = walk.next(self, "clear").await? {
                removed += self.remove("clear", "UNLINK", &page).await?;
            }
        }
        Ok(removed)
    }
}

/// A walk over a server's key space, one round trip a step.
struct Walk<'a> {
    server: &'a Node,
    prefix: &'a str,
    pattern: String,
    /// `None` once the walk is over.
    cursor: Option<u64>,
}

impl<'a> Walk<'a> {
    fn new(prefix: &'a str, server: &'a Node) -> Self {
        Self { server, prefix, pattern: pattern(prefix), cursor: Some(0) }
    }

    async fn next(&mut self, redis: &Redis, operation: &'static str) -> Result<Option<Vec<Vec<u8>>>> {
        let Some(cursor) = self.cursor else { return Ok(None) };
        let mut command = redis::cmd("SCAN");
        command.arg(cursor).arg("MATCH").arg(&self.pattern).arg("COUNT").arg(STEP);
        let (next, mut page): (u64, Vec<Vec<u8>>) = redis.link().call_at(self.server, operation, &command).await?;
        self.cursor = (next != 0).then_some(next);
        page.retain(|key| key.starts_with(self.prefix.as_bytes()));
        Ok(Some(page))
    }
}

/// The glob pattern that matches exactly what begins with `prefix`.
fn pattern(prefix: &str) -> String {
    let mut pattern = String::with_capacity(prefix.len() + 1);
    for c in prefix.chars() {
        if matches!(c, '*' | '?' | '[' | ']' | '\\') {
            pattern.push('\\');
        }
        pattern.push(c);
    }
    pattern.push('*');
    pattern
}
