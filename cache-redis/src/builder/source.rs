//! Reading the url and the environment. No text of either is repeated in a fault: it may hold a password.

use std::ffi::OsString;

use url::Url;

use super::RedisBuilder;
use super::options::{OPTIONS, flag, number};
use crate::config::Secret;

/// Reads `text` into `builder`; mistakes become faults.
pub(super) fn url(builder: &mut RedisBuilder, text: &str) {
    let parsed = match Url::parse(text) {
        // a login before an empty host is no url, but the natural form for a socket
        Err(url::ParseError::EmptyHost) => Url::parse(&text.replacen("@/", "@localhost/", 1)),
        parsed => parsed,
    };
    let url = match parsed {
        Ok(url) => url,
        Err(url::ParseError::RelativeUrlWithoutBase) => {
            builder.faults.push("url has no scheme; write redis://host:6379".to_owned());
            return;
        }
        Err(cause) => {
            let hint = "percent-encode special characters in user and password";
            builder.faults.push(format!("url is not valid: {cause}; {hint}"));
            return;
        }
    };
    let socket = match url.scheme() {
        "redis" | "valkey" => {
            builder.tls = Some(false);
            false
        }
        "rediss" | "valkeys" => {
            builder.tls = Some(true);
            false
        }
        "redis+unix" | "unix" => true,
        _ => {
            // what looks like a scheme may be the user of a url without one
            builder.faults.push("scheme is not known; use redis, rediss or redis+unix".to_owned());
            return;
        }
    };
    if url.fragment().is_some() {
        builder.faults.push("url has a '#'; write %23 for one in a password".to_owned());
    }
    if socket {
        path(builder, &url);
    } else {
        host(builder, &url);
    }
    credentials(builder, &url);
    query(builder, &url);
}

fn path(builder: &mut RedisBuilder, url: &Url) {
    if url.host_str().is_some_and(|host| !matches!(host, "" | "localhost")) {
        builder.faults.push("a unix socket has no host; write redis+unix:///path with three slashes".to_owned());
    }
    builder.tls = None;
    match decode(url.path()) {
        Some(path) if !path.contains('\0') => builder.unix = Some(path.into()),
        _ => builder.faults.push("the socket's path is not valid text".to_owned()),
    }
}

fn host(builder: &mut RedisBuilder, url: &Url) {
    builder.unix = None;
    if let Some(host) = url.host_str().filter(|host| !host.is_empty()) {
        // an IPv6 address comes in brackets
        let host = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
        match decode(host) {
            Some(host) => builder.host = Some(host),
            None => builder.faults.push("host is not valid text".to_owned()),
        }
    }
    if let Some(port) = url.port() {
        builder.port = Some(port);
    }
    let db = url.path().trim_start_matches('/');
    if !db.is_empty() {
        match number(db) {
            Ok(db) => builder.db = Some(db),
            Err(_) => builder.faults.push("the url's path is the database's number, as in redis://host/0".to_owned()),
        }
    }
}

fn credentials(builder: &mut RedisBuilder, url: &Url) {
    if !url.username().is_empty() {
        match decode(url.username()) {
            Some(name) => builder.username = Some(name),
            None => builder.faults.push("the user name is not valid utf-8 after percent-decoding".to_owned()),
        }
    }
    if let Some(password) = url.password() {
        match decode(password) {
            Some(password) => builder.password = Some(Secret(password)),
            None => builder.faults.push("the password is not valid utf-8 after percent-decoding".to_owned()),
        }
    }
}

fn query(builder: &mut RedisBuilder, url: &Url) {
    if url.query().is_some_and(|query| query.contains('@')) {
        builder.faults.push("url has an '@' after a '?'; write %3F for a '?' in a password, %40 for an '@'".to_owned());
        return;
    }
    for (name, value) in url.query_pairs() {
        match OPTIONS.iter().find(|(known, _)| *known == name) {
            Some((known, set)) => {
                if let Err(form) = set(builder, &value) {
                    builder.faults.push(format!("{known} {form}"));
                }
            }
            None => {
                let shown: String = name.chars().filter(|c| c.is_ascii_alphanumeric() || "_-.".contains(*c)).collect();
                let shown: String = shown.chars().take(40).collect();
                let known: Vec<_> = OPTIONS.iter().map(|(name, _)| *name).collect();
                builder.faults.push(format!("unknown option '{shown}'; known are {}", known.join(", ")));
            }
        }
    }
}

/// Reads the variables that `read` knows into `builder`.
pub(super) fn env(builder: &mut RedisBuilder, read: impl Fn(&str) -> Option<OsString>) {
    let mut take = |name: &str, set: &mut dyn FnMut(&mut RedisBuilder, String) -> Result<(), &'static str>| {
        // an empty variable is how many tools write "not set"
        let Some(value) = read(name).filter(|value| !value.is_empty()) else { return };
        let outcome = match value.into_string() {
            Ok(value) => set(builder, value),
            Err(_) => Err("is not valid utf-8"),
        };
        if let Err(form) = outcome {
            builder.faults.push(format!("{name} {form}"));
        }
    };
    take("REDIS_URL", &mut |b, v| {
        url(b, &v);
        Ok(())
    });
    take("REDIS_HOST", &mut |b, v| {
        b.host = Some(v);
        b.unix = None;
        Ok(())
    });
    take("REDIS_PORT", &mut |b, v| {
        // what kubernetes sets for a service named redis
        if v.starts_with("tcp://") {
            return Ok(());
        }
        b.port = Some(number(&v)?);
        Ok(())
    });
    take("REDIS_SOCKET", &mut |b, v| {
        b.unix = Some(v.into());
        Ok(())
    });
    take("REDIS_USERNAME", &mut |b, v| {
        b.username = Some(v);
        Ok(())
    });
    take("REDIS_PASSWORD", &mut |b, v| {
        b.password = Some(Secret(v));
        Ok(())
    });
    take("REDIS_TLS", &mut |b, v| {
        b.tls = Some(flag(&v)?);
        Ok(())
    });
    for (name, set) in OPTIONS {
        take(&format!("REDIS_{}", name.to_ascii_uppercase()), &mut |b, v| set(b, &v));
    }
}

/// Percent-decoding; `None` if the result is not text.
fn decode(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        if byte != b'%' {
            bytes.push(byte);
            continue;
        }
        let mut ahead = rest.clone();
        let digit = |b: Option<u8>| b.and_then(|b| char::from(b).to_digit(16));
        match (digit(ahead.next()), digit(ahead.next())) {
            (Some(high), Some(low)) => {
                bytes.push(u8::try_from(high * 16 + low).ok()?);
                rest = ahead;
            }
            _ => bytes.push(byte),
        }
    }
    String::from_utf8(bytes).ok()
}
