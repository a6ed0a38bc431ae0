//! What urls, environments and builders become.

use std::collections::HashMap;
use std::ffi::OsString;

use cache_core::{DEFAULT_MAX_VALUE, ErrorKind};
use proptest::prelude::*;

use super::*;
use crate::config::{Sentinels, Topology};

const SECRET: &str = "hunter2-Zx9";

fn from_url(url: &str) -> Result<Config> {
    RedisBuilder::default().url(url).build()
}

fn from_env(vars: &[(&str, &str)]) -> RedisBuilder {
    let vars: HashMap<_, _> = vars.iter().map(|(name, value)| ((*name).to_owned(), OsString::from(value))).collect();
    let mut builder = RedisBuilder::default();
    source::env(&mut builder, |name| vars.get(name).cloned());
    builder
}

fn place(config: &Config) -> String {
    let login = match (&config.username, &config.password) {
        (None, None) => String::new(),
        (user, password) => format!(
            "{}:{}@",
            user.as_deref().unwrap_or(""),
            password.as_ref().map_or("", |password| password.0.as_str())
        ),
    };
    format!("{}{login}{}/{}", if config.tls.is_some() { "tls " } else { "" }, config.endpoint, config.db)
}

#[test]
fn urls_say_where_and_who() {
    for (url, expected) in [
        ("redis://h", "h:6379/0"),
        ("redis://h:7000/3", "h:7000/3"),
        ("redis://h/", "h:6379/0"),
        ("redis://", "localhost:6379/0"),
        ("redis:///2", "localhost:6379/2"),
        ("valkey://h", "h:6379/0"),
        ("redis://127.0.0.1", "127.0.0.1:6379/0"),
        ("redis://[::1]:7000/1", "[::1]:7000/1"),
        ("redis://:pw@h", ":pw@h:6379/0"),
        ("redis://:pw@/1", ":pw@localhost:6379/1"),
        ("redis://ann:pw@h", "ann:pw@h:6379/0"),
        ("redis://a%40b:p%2Fw%3A%23%25@h", "a@b:p/w:#%@h:6379/0"),
        ("redis://h?db=5", "h:6379/5"),
        ("rediss://h?verify=false", "tls h:6379/0"),
        ("valkeys://h:7000?verify=no", "tls h:7000/0"),
        ("redis+unix:///run/redis.sock", "/run/redis.sock/0"),
        ("redis+unix:///run/redis.sock?db=2", "/run/redis.sock/2"),
        ("unix:///run/a%20b.sock", "/run/a b.sock/0"),
        ("redis+unix://:pw@/run/redis.sock", ":pw@/run/redis.sock/0"),
    ] {
        let got = from_url(url).map(|config| place(&config)).map_err(|error| error.to_string());
        assert_eq!(got.as_deref(), Ok(expected), "{url}");
    }
}

#[test]
fn sentinels_come_from_urls_options_and_builders() {
    let read = |config: Config| match &config.topology {
        Topology::Sentinel(Sentinels { endpoints, master, username, password }) => {
            let list: Vec<_> = endpoints.iter().map(ToString::to_string).collect();
            let login = (username.is_some(), password.as_ref().map(|password| password.0.clone()));
            (format!("{}: {} {}", place(&config), list.join(","), master), login)
        }
        _ => panic!("{config:?}"),
    };
    let expected = "ann:pw@a:26379/2: a:26379,[::1]:7000,c:7001 my";
    let url = "redis+sentinel://ann:pw@a,[::1]:7000,c:7001/my/2";
    assert_eq!(read(from_url(url).unwrap()), (expected.to_owned(), (false, None)));
    let env = from_env(&[
        ("REDIS_SENTINELS", "a, [::1]:7000, c:7001"),
        ("REDIS_MASTER", "my"),
        ("REDIS_USERNAME", "ann"),
        ("REDIS_PASSWORD", "pw"),
        ("REDIS_DB", "2"),
        ("REDIS_SENTINEL_PASSWORD", "spw"),
    ]);
    assert_eq!(read(env.build().unwrap()), (expected.to_owned(), (false, Some("spw".to_owned()))));
    let builder = Redis::builder().sentinels(["a", "[::1]:7000", "c:7001"]).master("my").username("ann").password("pw");
    let builder = builder.db(2).sentinel_username("s").sentinel_password("spw");
    assert_eq!(read(builder.build().unwrap()), (expected.to_owned(), (true, Some("spw".to_owned()))));
    // another url says another topology
    assert_eq!(builder.url("redis://h").build().unwrap_err().kind(), ErrorKind::Config);
    let tls = from_url("rediss+sentinel://a,b/my?verify=no").unwrap();
    assert!(tls.tls.is_some());
    assert_eq!(from_url("redis+sentinel://a,b/m%20y").unwrap_err().kind(), ErrorKind::Config);
}

#[test]
fn clusters_come_from_urls_options_and_builders() {
    let read = |builder: RedisBuilder| match builder.build().map(|config| config.topology) {
        Ok(Topology::Cluster(nodes)) => nodes.iter().map(ToString::to_string).collect::<Vec<_>>().join(","),
        other => panic!("{other:?}"),
    };
    let url = |url: &str| RedisBuilder::default().url(url);
    assert_eq!(read(url("redis+cluster://ann:pw@a,[::1]:7000,c:7001")), "a:6379,[::1]:7000,c:7001");
    assert_eq!(read(url("valkey+cluster://a")), "a:6379");
    assert_eq!(read(url("rediss+cluster://a,b/0?verify=no")), "a:6379,b:6379");
    assert_eq!(read(url("redis://a:7000?cluster=true")), "a:7000");
    assert_eq!(read(from_env(&[("REDIS_HOST", "a"), ("REDIS_CLUSTER", "1")])), "a:6379");
    assert_eq!(read(Redis::builder().host("a").port(7000).cluster()), "a:7000");
    // the last word counts
    assert_eq!(read(url("redis+cluster://a,b").host("c")), "c:6379");
    assert_eq!(url("redis+cluster://a,b").url("redis://c").build().unwrap().topology, Topology::Single);
    assert_eq!(url("redis+cluster://a").url("redis+sentinel://b/m").build().unwrap().endpoint.to_string(), "b:26379");
}

#[test]
fn urls_carry_options() {
    let config = from_url(
        "redis://h?timeout=250ms&connect_timeout=2s&max_value=2m&connections=4&protocol=resp3&tracking=bcast&client_name=web-1\
         &heartbeat=3s&rebuild_after=5&grace=0&backoff_min=5ms&backoff_max=1m&keepalive=0&user_timeout=7s",
    );
    let expected = Knobs {
        timeout: Duration::from_millis(250),
        connect_timeout: Duration::from_secs(2),
        max_value: 2 << 20,
        connections: 4,
        protocol: Protocol::Resp3,
        tracking: Tracking::Bcast,
        client_name: Some("web-1".into()),
        heartbeat: Duration::from_secs(3),
        rebuild_after: 5,
        grace: Duration::ZERO,
        backoff_min: Duration::from_millis(5),
        backoff_max: Duration::from_secs(60),
        keepalive: Duration::ZERO,
        user_timeout: Duration::from_secs(7),
    };
    assert_eq!(config.unwrap().knobs, expected);
    let defaults = from_url("redis://h").unwrap().knobs;
    assert_eq!((defaults.timeout, defaults.max_value), (Duration::from_millis(500), DEFAULT_MAX_VALUE));
}

#[test]
fn mistakes_in_urls_are_named() {
    for (url, part) in [
        ("", "no scheme"),
        ("localhost", "no scheme"),
        ("localhost:6379", "scheme is not known"),
        ("http://h", "scheme is not known"),
        ("redis-sentinel://h", "scheme is not known"),
        ("redis://h?tiemout=1s", "unknown option 'tiemout'; known are timeout, connect_timeout"),
        ("redis://h?password=x", "unknown option 'password'"),
        ("redis+sentinel://a:1,b:2", "master is not set"),
        ("redis+sentinel://a:1,b:2/", "master is not set"),
        ("redis+sentinel://a:1,b:x/m", "before the master's name is a list"),
        ("redis+sentinel://a:1,,b/m", "before the master's name is a list"),
        ("redis+sentinel://a/m/x", "the database's number"),
        ("redis+sentinel://a/m?sentinel_username=x", "without sentinel_password"),
        ("redis://h?master=m", "master is set without sentinels"),
        ("redis://h?sentinels=a/b&master=m", "sentinels is a list"),
        ("redis://h?sentinel_password=x", "a sentinel login is set without sentinels"),
        ("redis+cluster://a,b:x", "before the path is a list"),
        ("redis+cluster://a,b/2", "only database 0"),
        ("redis://h/2?cluster=true", "only database 0"),
        ("redis://h?cluster=perhaps", "cluster is true or false"),
        ("redis+unix:///x?cluster=yes", "a cluster and a unix socket exclude each other"),
        ("redis+sentinel://a/m?cluster=yes", "sentinels and a cluster exclude each other"),
        ("sentinel://a/m", "scheme is not known"),
        ("redis+nope://a/m", "scheme is not known"),
        ("redis://h?timeout=5", "timeout is a time such as 250ms"),
        ("redis://h?timeout=99999999999999999999s", "timeout is a time"),
        ("redis://h?timeout=-1s", "timeout is a time"),
        ("redis://h?timeout=0ms", "timeout is between"),
        ("redis://h?timeout=18446744073709551615m", "timeout is a time"),
        ("redis://h?max_value=0", "max_value is between"),
        ("redis://h?max_value=99999999999999999999m", "max_value is a number of bytes"),
        ("redis://h?connections=0", "connections is between 1 and 64"),
        ("redis://h?protocol=resp4", "protocol is auto, resp2 or resp3"),
        ("redis://h?tracking=on", "tracking is off, bcast or reads"),
        ("redis://h?tracking=bcast&protocol=resp2", "tracking needs resp3"),
        ("redis+cluster://h?tracking=reads&protocol=resp2", "tracking needs resp3"),
        ("redis://h?client_name=a%20b", "client_name is printable ascii"),
        ("redis://h?backoff_min=5s&backoff_max=1s", "backoff_min is over backoff_max"),
        ("redis://h/abc", "the database's number"),
        ("redis://h/1/2", "the database's number"),
        ("redis://h/-1", "the database's number"),
        ("redis://a,b:7000", "one host name"),
        ("redis://h:0", "port is 0"),
        ("redis://h:99999", "url is not valid"),
        ("redis://ann@h", "username is set without password"),
        ("redis://h#1", "url has a '#'"),
        ("redis+unix://host/path", "three slashes"),
        ("redis+unix://", "path is empty"),
        ("redis://h?ca=/tmp/ca.pem", "without tls"),
        ("rediss://h?ca=/no/such/ca.pem", "ca: can't read /no/such/ca.pem: entity not found"),
        ("rediss://h?ca=/dev/null", "ca: no pem certificate in /dev/null"),
        ("rediss://h?ca=", "ca is the path of a pem file"),
        ("rediss://h?verify=maybe", "verify is true or false"),
        ("rediss://h?verify=false&cert=/no/such/c.pem", "cert is set without key"),
        ("rediss://h?verify=false&key=/no/such/k.pem", "key is set without cert"),
        ("rediss://h?verify=false&server_name=a%20b", "server_name is neither"),
    ] {
        let error = from_url(url).expect_err(url);
        assert_eq!(error.kind(), ErrorKind::Config, "{url}");
        assert!(error.to_string().contains(part), "{url}: {error}");
    }
}

#[test]
fn all_mistakes_come_in_one_error() {
    let error = from_url("rediss://ann@h:0/x?tiemout=1s&connections=99&ca=/no/such&grace=x").unwrap_err().to_string();
    for part in ["username is set", "port is 0", "database's number", "'tiemout'", "connections is", "ca: ", "grace is"]
    {
        assert!(error.contains(part), "{part}: {error}");
    }
}

#[test]
fn environments_say_the_same() {
    for (vars, expected) in [
        (&[][..], "localhost:6379/0"),
        (&[("REDIS_URL", "redis://h:7000/3")], "h:7000/3"),
        (&[("REDIS_URL", "redis://h:7000/3"), ("REDIS_DB", "4"), ("REDIS_PASSWORD", "p@w")], ":p@w@h:7000/4"),
        (&[("REDIS_HOST", "h"), ("REDIS_PORT", "7000"), ("REDIS_DB", "2")], "h:7000/2"),
        (&[("REDIS_HOST", "h"), ("REDIS_USERNAME", "ann"), ("REDIS_PASSWORD", "pw")], "ann:pw@h:6379/0"),
        (&[("REDIS_HOST", "h"), ("REDIS_TLS", "true"), ("REDIS_VERIFY", "false")], "tls h:6379/0"),
        (&[("REDIS_SOCKET", "/run/r.sock")], "/run/r.sock/0"),
        (&[("REDIS_HOST", "h"), ("REDIS_PORT", "tcp://10.0.0.1:6379")], "h:6379/0"),
        (&[("REDIS_HOST", "h"), ("REDIS_PORT", "")], "h:6379/0"),
    ] {
        let got = from_env(vars).build().map(|config| place(&config)).map_err(|error| error.to_string());
        assert_eq!(got.as_deref(), Ok(expected), "{vars:?}");
    }
    let config = from_env(&[("REDIS_TIMEOUT", "50ms"), ("REDIS_MAX_VALUE", "64k")]).build().unwrap();
    assert_eq!((config.knobs.timeout, config.knobs.max_value), (Duration::from_millis(50), 64 * 1024));

    for (name, value, part) in [
        ("REDIS_PORT", "x", "REDIS_PORT is a whole number"),
        ("REDIS_TLS", "perhaps", "REDIS_TLS is true or false"),
        ("REDIS_TIMEOUT", "5", "REDIS_TIMEOUT is a time"),
        ("REDIS_URL", "h", "no scheme"),
    ] {
        let error = from_env(&[(name, value)]).build().unwrap_err();
        assert!(error.to_string().contains(part), "{error}");
    }
}

#[test]
fn builders_say_the_same_and_the_last_word_counts() {
    let builder = Redis::builder().host("h").port(7000).username("ann").password("pw").db(3);
    assert_eq!(place(&builder.build().unwrap()), "ann:pw@h:7000/3");
    let builder = Redis::builder().url("redis://h:7000/3").host("g").db(1);
    assert_eq!(place(&builder.build().unwrap()), "g:7000/1");
    let builder = Redis::builder().host("g").db(1).url("redis://h");
    assert_eq!(place(&builder.build().unwrap()), "h:6379/1");
    let builder = Redis::builder().unix("/run/r.sock");
    assert_eq!(place(&builder.build().unwrap()), "/run/r.sock/0");
    let error = Redis::builder().unix("/run/r.sock").tls(true).build().unwrap_err();
    assert!(error.to_string().contains("exclude each other"), "{error}");
}

#[test]
fn secrets_never_show() {
    let mut texts = Vec::new();
    let builder = Redis::builder().host("h").username("ann").password(SECRET);
    texts.push(format!("{builder:?}"));
    texts.push(format!("{:#?}", builder.build().unwrap()));
    texts.push(format!("{:?}", Redis::builder().identity_pem(SECRET, SECRET).ca_pem(SECRET).tls(true)));
    texts.push(Redis::builder().identity_pem(SECRET, SECRET).ca_pem(SECRET).tls(true).build().unwrap_err().to_string());
    for url in [
        format!("redis://:{SECRET}@h"),
        format!("redis://:{SECRET}@h?nope=1"),
        format!("{SECRET}://h"),
        SECRET.to_owned(),
        format!("ann:{SECRET}@h:6379"),
        format!("redis://:{SECRET}"),
        format!("redis://:{SECRET}@h:port"),
        format!("redis://:a#{SECRET}@h"),
        format!("redis://:a/{SECRET}@h"),
        format!("redis://:a?{SECRET}@h"),
        format!("redis://ann:1?{SECRET}@h"),
        format!("redis://ann:1/{SECRET}@h"),
        format!("redis://h?password={SECRET}"),
        format!("redis://h?timeout={SECRET}"),
        format!("redis://h/{SECRET}"),
        format!("redis+unix://:{SECRET}@h/x"),
        format!("redis+sentinel://:{SECRET}@h,g/m?sentinel_password={SECRET}"),
        format!("redis+sentinel://:a/{SECRET}@h,g/m"),
        format!("redis+sentinel://ann:1/{SECRET}@h,g/m"),
        format!("redis+sentinel://ann:1?{SECRET}@h,g/m"),
        format!("redis+sentinel://:{SECRET}"),
        format!("redis+cluster://:{SECRET}@h,g"),
        format!("redis+cluster://:a/{SECRET}@h,g"),
        format!("redis+cluster://:{SECRET}"),
    ] {
        let builder = Redis::builder().url(&url);
        texts.push(format!("{builder:?}"));
        match builder.build() {
            Ok(config) => texts.push(format!("{config:?}")),
            Err(error) => texts.push(format!("{error} {error:?}")),
        }
    }
    texts.push(format!("{:?}", Secret(SECRET.to_owned())));
    let vars = ["REDIS_URL", "REDIS_PORT", "REDIS_PASSWORD", "REDIS_TLS", "REDIS_DB"].map(|name| (name, SECRET));
    let builder = from_env(&vars);
    texts.push(format!("{builder:?} {:?}", builder.build()));
    for text in texts {
        assert!(!text.contains(SECRET) && !text.contains("Zx9"), "{text}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]

    #[test]
    fn no_url_panics(url in ".{0,60}") {
        let _ = from_url(&url);
    }

    #[test]
    fn no_likely_url_panics(
        scheme in "(redis\\+sentinel|rediss?\\+cluster|redis|rediss|redis\\+unix|unix|valkey)",
        rest in "[a-z0-9:@/?&=%#.\\[\\],_ é\u{0}-]{0,40}",
        option in "(timeout|max_value|db|ca|verify|grace|x)",
        value in "[0-9a-zµ%+-]{0,20}",
    ) {
        let _ = from_url(&format!("{scheme}://{rest}"));
        let _ = from_url(&format!("{scheme}://h/{rest}?{option}={value}"));
        let _ = from_url(&format!("{scheme}://{rest}?{option}={value}"));
    }

    #[test]
    fn no_password_shows(password in "[a-zA-Z0-9#/?@:%&=]{12,20}", name in "[a-z]{0,5}") {
        let builder = Redis::builder().url(format!("redis://{name}:{password}@host:7000/1"));
        let mut text = format!("{builder:?}");
        match builder.build() {
            Ok(config) => text.push_str(&format!("{config:?}")),
            Err(error) => text.push_str(&format!("{error:?}")),
        }
        prop_assert!(!text.contains(&password), "{}", text);
    }

    #[test]
    fn encoded_passwords_come_through(password in "\\PC{1,20}") {
        let mut encoded = String::new();
        for byte in password.bytes() {
            encoded.push_str(&format!("%{byte:02X}"));
        }
        let config = from_url(&format!("redis://:{encoded}@h")).unwrap();
        prop_assert_eq!(config.password, Some(Secret(password)));
    }
}

#[test]
fn other_clients_names_for_options_are_taken_in_urls() {
    let url = "redis://h?pool_size=4&socket_timeout=2s&connection_timeout=3s&database=2&max_retry_delay=5s";
    let config = RedisBuilder::default().url(url).build().unwrap();
    let knobs = &config.knobs;
    assert_eq!((knobs.connections, knobs.timeout, config.db), (4, Duration::from_secs(2), 2));
    assert_eq!((knobs.connect_timeout, knobs.backoff_max), (Duration::from_secs(3), Duration::from_secs(5)));
    let config = RedisBuilder::default().url("redis://h?dial_timeout=3s&read_timeout=2s").build().unwrap();
    assert_eq!((config.knobs.connect_timeout, config.knobs.timeout), (Duration::from_secs(3), Duration::from_secs(2)));
    let error = RedisBuilder::default().url("redis://h?pool_size=none").build().unwrap_err();
    assert!(error.message().contains("connections is a whole number"), "{error}");
}
