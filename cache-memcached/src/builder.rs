//! Settings from a url and from code; every mistake in one error.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use cache_core::{Clock, DEFAULT_MAX_VALUE, Result};
use url::Url;

use crate::{Memcached, error};

/// Settings for a [`Memcached`].
///
/// No setter fails; [`connect`](Self::connect) reports every mistake in one error. Each option is a setter and a
/// parameter of the url: `memcached://[user:password@]host[:port][?option=value&...]`. Times are written `250ms`, `2s`
/// or `1m`; sizes `4096`, `64k` or `2m`.
///
/// | option | meaning | default |
/// |---|---|---|
/// | `timeout` | the deadline of every call | 500 ms |
/// | `connect_timeout` | the deadline of every attempt to connect | 1 s |
/// | `connections` | connections, used in turn | 2 |
/// | `max_value` | the largest value, in bytes; never more than the server takes | 1 MiB |
/// | `backoff_min`, `backoff_max` | the wait after a failed attempt to connect, doubled each time | 20 ms, 1 s |
///
/// User and password are for a server that was started with `-Y`.
#[derive(Clone, Debug)]
#[must_use = "a builder does nothing until connected"]
pub struct MemcachedBuilder {
    config: Config,
    faults: Vec<String>,
}

/// Complete settings.
#[derive(Clone)]
pub(crate) struct Config {
    pub(crate) host: String,
    pub(crate) port: u16,
    pub(crate) login: Option<(String, Secret)>,
    pub(crate) timeout: Duration,
    pub(crate) connect_timeout: Duration,
    pub(crate) backoff_min: Duration,
    pub(crate) backoff_max: Duration,
    pub(crate) connections: usize,
    pub(crate) max_value: usize,
    pub(crate) clock: Clock,
}

/// A text that never shows itself.
#[derive(Clone)]
pub(crate) struct Secret(pub(crate) String);

impl fmt::Debug for Config {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Config")
            .field("host", &self.host)
            .field("port", &self.port)
            .field("password", if self.login.is_some() { &"set" } else { &"not set" })
            .field("timeout", &self.timeout)
            .field("connect_timeout", &self.connect_timeout)
            .field("backoff", &(self.backoff_min..self.backoff_max))
            .field("connections", &self.connections)
            .field("max_value", &self.max_value)
            .finish()
    }
}

impl Default for MemcachedBuilder {
    fn default() -> Self {
        let config = Config {
            host: "localhost".to_owned(),
            port: 11211,
            login: None,
            timeout: Duration::from_millis(500),
            connect_timeout: Duration::from_secs(1),
            backoff_min: Duration::from_millis(20),
            backoff_max: Duration::from_secs(1),
            connections: 2,
            max_value: DEFAULT_MAX_VALUE,
            clock: Clock::system(),
        };
        Self { config, faults: Vec::new() }
    }
}

impl MemcachedBuilder {
    /// Takes everything that `url` says; what it doesn't say stays.
    pub fn url(mut self, url: impl AsRef<str>) -> Self {
        if let Err(fault) = self.take_url(url.as_ref()) {
            self.faults.push(fault);
        }
        self
    }

    fn take_url(&mut self, text: &str) -> Result<(), String> {
        // the parser's own errors may repeat what could be a password
        let url = Url::parse(text).map_err(|_| "url is not understood; write memcached://host:11211".to_owned())?;
        if url.scheme() != "memcached" {
            return Err("url does not begin with memcached://".to_owned());
        }
        if !matches!(url.path(), "" | "/") {
            return Err("url has a path; memcached has no databases".to_owned());
        }
        let Some(host) = url.host_str().filter(|host| !host.is_empty()) else {
            return Err("url has no host".to_owned());
        };
        self.config.host = host.trim_matches(['[', ']']).to_owned();
        self.config.port = url.port().unwrap_or(11211);
        match (decoded(url.username()), url.password().map(decoded)) {
            (Some(user), Some(Some(password))) => self.config.login = Some((user, Secret(password))),
            (Some(user), None) if user.is_empty() => {}
            _ => return Err("url has half a login, or one that is not percent-encoded utf-8".to_owned()),
        }
        for (name, value) in url.query_pairs() {
            let config = &mut self.config;
            let set = match &*name {
                "timeout" => span(&value).map(|v| config.timeout = v),
                "connect_timeout" => span(&value).map(|v| config.connect_timeout = v),
                "backoff_min" => span(&value).map(|v| config.backoff_min = v),
                "backoff_max" => span(&value).map(|v| config.backoff_max = v),
                "connections" => value.parse().map(|v| config.connections = v).map_err(|_| "is a whole number"),
                "max_value" => size(&value).map(|v| config.max_value = v),
                _ => {
                    let known = "timeout, connect_timeout, connections, max_value, backoff_min, backoff_max";
                    self.faults.push(format!("unknown option in the url; known are {known}"));
                    continue;
                }
            };
            if let Err(form) = set {
                self.faults.push(format!("{name} {form}"));
            }
        }
        Ok(())
    }

    /// The server's host name or address. Default `localhost`.
    pub fn host(mut self, host: impl Into<String>) -> Self {
        self.config.host = host.into();
        self
    }

    /// The server's port. Default 11211.
    pub fn port(mut self, port: u16) -> Self {
        self.config.port = port;
        self
    }

    /// User and password, for a server with `-Y`. Never shown.
    pub fn login(mut self, user: impl Into<String>, password: impl Into<String>) -> Self {
        self.config.login = Some((user.into(), Secret(password.into())));
        self
    }

    /// The deadline of every call. Default 500 ms.
    pub fn timeout(mut self, span: Duration) -> Self {
        self.config.timeout = span;
        self
    }

    /// The deadline of every attempt to connect. Default 1 s.
    pub fn connect_timeout(mut self, span: Duration) -> Self {
        self.config.connect_timeout = span;
        self
    }

    /// The wait after a failed attempt to connect, doubled from `min` to `max`; calls fail at once meanwhile. Default
    /// 20 ms to 1 s.
    pub fn backoff(mut self, min: Duration, max: Duration) -> Self {
        (self.config.backoff_min, self.config.backoff_max) = (min, max);
        self
    }

    /// How many connections are used in turn. Default 2.
    pub fn connections(mut self, count: usize) -> Self {
        self.config.connections = count;
        self
    }

    /// The largest value in bytes; the server's own limit counts too. Default 1 MiB.
    pub fn max_value(mut self, bytes: usize) -> Self {
        self.config.max_value = bytes;
        self
    }

    /// The clock that ttls are measured by. Default: the system's.
    pub fn clock(mut self, clock: Clock) -> Self {
        self.config.clock = clock;
        self
    }

    /// Connects, and asks the server what it is and takes.
    ///
    /// # Errors
    /// `Config` that lists every mistake, or if the server is not fit; `Unavailable` if nothing answers, `Denied` if the
    /// login is wrong.
    pub async fn connect(self) -> Result<Memcached> {
        self.check()?;
        Memcached::open(Arc::new(self.config)).await
    }

    /// Whether [`connect`](Self::connect) would try these settings.
    ///
    /// # Errors
    /// `Config` that lists every mistake.
    pub fn check(&self) -> Result<()> {
        let Self { config, faults } = self;
        let mut faults = faults.clone();
        const HOUR: Duration = Duration::from_secs(3600);
        for (name, span) in [
            ("timeout", config.timeout),
            ("connect_timeout", config.connect_timeout),
            ("backoff_min", config.backoff_min),
            ("backoff_max", config.backoff_max),
        ] {
            if span < Duration::from_millis(1) || span > HOUR {
                faults.push(format!("{name} is between 1 ms and one hour"));
            }
        }
        if config.backoff_min > config.backoff_max {
            faults.push("backoff_min is over backoff_max".to_owned());
        }
        if config.connections == 0 || config.connections > 64 {
            faults.push("connections is between 1 and 64".to_owned());
        }
        if config.max_value == 0 || config.max_value > 128 << 20 {
            faults.push("max_value is between 1 byte and 128 MiB".to_owned());
        }
        if config.host.is_empty() {
            faults.push("host is empty".to_owned());
        }
        let odd = |text: &str| text.is_empty() || text.contains(|c: char| c.is_whitespace() || c.is_control());
        if config.login.as_ref().is_some_and(|(user, password)| odd(user) || odd(&password.0)) {
            faults.push("user and password can't be empty or hold white space".to_owned());
        }
        if !faults.is_empty() {
            return Err(error::config(faults.join("; ")).with_operation("connect").with_store(error::NAME));
        }
        Ok(())
    }
}

fn decoded(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        if byte == b'%' {
            let digit = |byte: Option<u8>| byte.and_then(|b| char::from(b).to_digit(16));
            let (high, low) = (digit(rest.next())?, digit(rest.next())?);
            bytes.push(u8::try_from(high * 16 + low).ok()?);
        } else {
            bytes.push(byte);
        }
    }
    String::from_utf8(bytes).ok()
}

fn span(text: &str) -> Result<Duration, &'static str> {
    const FORM: &str = "is a time such as 250ms, 2s or 1m";
    let digits = text.trim_end_matches(|c: char| !c.is_ascii_digit());
    let count: u64 = digits.parse().map_err(|_| FORM)?;
    let millis = match text.get(digits.len()..) {
        Some("ms") => Some(count),
        Some("s") => count.checked_mul(1000),
        Some("m") => count.checked_mul(60_000),
        _ => None,
    };
    millis.map(Duration::from_millis).ok_or(FORM)
}

fn size(text: &str) -> Result<usize, &'static str> {
    const FORM: &str = "is a number of bytes such as 4096, 64k or 2m";
    let (digits, unit) = match text.strip_suffix(['k', 'K']) {
        Some(digits) => (digits, 1 << 10),
        None => text.strip_suffix(['m', 'M']).map_or((text, 1), |digits| (digits, 1 << 20)),
    };
    digits.parse::<usize>().ok().and_then(|count| count.checked_mul(unit)).ok_or(FORM)
}

#[cfg(test)]
mod tests {
    use cache_core::ErrorKind;

    use super::*;

    #[test]
    fn a_url_says_everything() {
        let url = "memcached://ada:p%40ss@cache.example:11999?timeout=2s&connections=4&max_value=64k";
        let MemcachedBuilder { config, faults } = MemcachedBuilder::default().url(url);
        assert!(faults.is_empty(), "{faults:?}");
        assert_eq!((config.host.as_str(), config.port), ("cache.example", 11999));
        assert_eq!((config.timeout, config.connections, config.max_value), (Duration::from_secs(2), 4, 65_536));
        assert!(matches!(&config.login, Some((user, Secret(password))) if user == "ada" && password == "p@ss"));
        assert!(!format!("{config:?}").contains("p@ss"));
    }

    #[tokio::test]
    async fn every_mistake_is_in_one_error_and_no_secret() {
        let wrong = MemcachedBuilder::default()
            .url("memcached://u:secret@h?timeout=5&nonsense=1")
            .connections(0)
            .max_value(0)
            .timeout(Duration::ZERO);
        let error = wrong.connect().await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Config);
        for part in ["timeout is a time", "unknown option", "connections is", "max_value is", "timeout is between"] {
            assert!(error.message().contains(part), "{part}: {error}");
        }
        assert!(!format!("{error:?}").contains("secret"));
        for url in ["redis://h", "memcached://", "memcached://h/3", "memcached://u@h", "memcached://u:%ff@h", "h:1"] {
            assert!(!MemcachedBuilder::default().url(url).faults.is_empty(), "{url}");
        }
    }
}
