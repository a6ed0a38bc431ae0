//! Configuration: urls with options.

use cache_strata::{ErrorKind, Redis};

/// The url of tiers is understood, or refused with what to change; nobody connects.
pub(crate) fn url(input: &[u8]) {
    let Some(text) = text(input) else { return };
    if let Err(error) = cache_strata::check_url(text) {
        sound(text, &error);
    }
}

/// The url of a server, likewise.
pub(crate) fn redis(input: &[u8]) {
    let Some(text) = text(input) else { return };
    match Redis::builder().url(text).build() {
        Ok(config) => drop(format!("{config:?}")),
        Err(error) => sound(text, &error),
    }
}

/// Options that name files are left out: the fuzzer is not to read whatever it can name.
fn text(input: &[u8]) -> Option<&str> {
    let text = std::str::from_utf8(input).ok()?;
    let files = ["ca=", "cert=", "key="].iter().any(|option| text.contains(option));
    (!files && !text.contains('%')).then_some(text)
}

/// A mistake in a configuration, in a text that is printable and short and holds no password.
fn sound(text: &str, error: &cache_strata::Error) {
    assert_eq!(error.kind(), ErrorKind::Config, "{error:?}");
    let said = format!("{error} {error:?}");
    assert!(said.len() < 16 * 1024, "{} bytes of error", said.len());
    let password = text.split_once("://").and_then(|(_, rest)| rest.split_once('@')?.0.split_once(':'));
    if let Some((_, password)) = password.filter(|(_, password)| password.len() > 8) {
        assert!(!said.contains(password), "the password is told");
    }
}

pub(crate) fn urls() -> Vec<Vec<u8>> {
    let near = ["memory:", "moka:?bytes=64MiB&namespace=shop&max_ttl=7d", "memory:?bytes=1GiB"];
    let tiered = [
        "tiered:redis://user:s3cretpassword@localhost:6379/0?bound=2s&outage=0&lease=5s&buckets=4",
        "tiered:redis+cluster://a:7000,b:7001?timeout=250ms",
        "tiered:rediss+sentinel://a:26379,b/mymaster/3?namespace=x",
    ];
    near.iter().chain(&tiered).map(|url| url.as_bytes().to_vec()).collect()
}

pub(crate) fn redis_urls() -> Vec<Vec<u8>> {
    let urls = [
        "redis://localhost",
        "rediss://user:s3cretpassword@[::1]:6380/2?timeout=250ms&protocol=resp3&client_name=me",
        "redis+unix:///run/redis.sock?db=1",
        "valkey+sentinel://a:26379,b/mymaster/3?sentinel_username=u&sentinel_password=p",
        "redis+cluster://a:7000,b:7001?connections=4&max_value=1MiB&tracking=off",
        "redis://h?heartbeat=1s&rebuild_after=3&grace=50ms&backoff_min=1ms&backoff_max=1s&keepalive=10s&user_timeout=5s",
    ];
    urls.iter().map(|url| url.as_bytes().to_vec()).collect()
}
