//! Reading the url and the environment. No text of either is repeated in a fault: it may hold a password.

use std::borrow::Cow;
use std::ffi::OsString;

use url::Url;

use super::options::{OPTIONS, find, flag, number};
use super::{RedisBuilder, place};
use crate::config::Secret;

/// Reads `text` into `builder`; mistakes become faults.
pub(super) fn url(builder: &mut RedisBuilder, text: &str) {
    let (text, more) = split(text);
    let parsed = match Url::parse(&text) {
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
    let (base, form) = url.scheme().split_once('+').unwrap_or((url.scheme(), ""));
    let tls = match base {
        "redis" | "valkey" => false,
        "rediss" | "valkeys" => true,
        "unix" if form.is_empty() => false,
        _ => return strange(builder),
    };
    builder.unix = None;
    builder.cluster = form == "cluster";
    builder.nodes.clear();
    builder.sentinels.clear();
    builder.master = None;
    builder.tls = Some(tls);
    match form {
        "" if base == "unix" => path(builder, &url),
        "unix" if !tls => path(builder, &url),
        "" => host(builder, &url),
        "cluster" => nodes(builder, &url, more.as_deref()),
        "sentinel" => sentinels(builder, &url, more.as_deref()),
        _ => return strange(builder),
    }
    if url.fragment().is_some() {
        builder.faults.push("url has a '#'; write %23 for one in a password".to_owned());
    }
    credentials(builder, &url);
    query(builder, &url);
}

/// What looks like a scheme may be the user of a url without one, so it is not repeated.
fn strange(builder: &mut RedisBuilder) {
    builder
        .faults
        .push("scheme is not known; use redis, rediss, redis+sentinel, redis+cluster or redis+unix".to_owned());
}

/// Takes a list of hosts apart where the scheme allows one: a url has a single host. The url with the first, and the
/// whole list.
fn split(text: &str) -> (Cow<'_, str>, Option<String>) {
    let parts =
        text.split_once("://").filter(|(scheme, _)| scheme.ends_with("+sentinel") || scheme.ends_with("+cluster"));
    let Some((scheme, rest)) = parts else { return (text.into(), None) };
    let (authority, tail) = rest.split_at(rest.find(['/', '?', '#']).unwrap_or(rest.len()));
    let (login, hosts) = authority.split_at(authority.rfind('@').map_or(0, |at| at + 1));
    let first = hosts.split(',').next().unwrap_or("");
    (format!("{scheme}://{login}{first}{tail}").into(), Some(hosts.to_owned()))
}

fn nodes(builder: &mut RedisBuilder, url: &Url, hosts: Option<&str>) {
    match place::list(hosts.unwrap_or("").split(','), place::SERVER) {
        Ok(list) => builder.nodes = list,
        Err(form) => builder.faults.push(format!("what stands before the path {form}")),
    }
    database(builder, url.path().trim_start_matches('/'));
}

fn sentinels(builder: &mut RedisBuilder, url: &Url, hosts: Option<&str>) {
    match place::list(hosts.unwrap_or("").split(','), place::SENTINEL) {
        Ok(list) => builder.sentinels = list,
        Err(form) => builder.faults.push(format!("what stands before the master's name {form}")),
    }
    let path = url.path().trim_start_matches('/');
    let (name, db) = path.split_once('/').unwrap_or((path, ""));
    match decode(name) {
        Some(name) if name.is_empty() => {}
        // an '@' is what is left of a password with a '/'
        Some(name) if !name.contains('@') => builder.master = Some(name),
        _ => builder.faults.push("the master's name is not valid text".to_owned()),
    }
    database(builder, db);
}

fn path(builder: &mut RedisBuilder, url: &Url) {
    if url.host_str().is_some_and(|host| !matches!(host, "" | "localhost")) {
        builder.faults.push("a unix socket has no host; write redis+unix:///path with three slashes".to_owned());
    }
    match decode(url.path()) {
        Some(path) if !path.contains('\0') => builder.unix = Some(path.into()),
        _ => builder.faults.push("the socket's path is not valid text".to_owned()),
    }
}

fn host(builder: &mut RedisBuilder, url: &Url) {
    if let Some(host) = url.host_str().filter(|host| !host.is_empty()) {
        match decode(place::bare(host)) {
            Some(host) => builder.host = Some(host),
            None => builder.faults.push("host is not valid text".to_owned()),
        }
    }
    if let Some(port) = url.port() {
        builder.port = Some(port);
    }
    database(builder, url.path().trim_start_matches('/'));
}

fn database(builder: &mut RedisBuilder, db: &str) {
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
        match find(&name) {
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
        b.nodes.clear();
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
