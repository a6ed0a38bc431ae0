use std::time::Duration;

use super::*;

fn settings(change: impl FnOnce(&mut Settings)) -> Settings {
    let mut settings = Settings::default();
    change(&mut settings);
    settings
}

fn refused(url: &str) -> Error {
    match plan(url) {
        Ok(_) => panic!("accepted: {url}"),
        Err(error) => error,
    }
}

#[test]
fn each_scheme_means_its_tiers() {
    let plain = [
        ("memory:", Some(Near::Memory), None),
        ("moka:", Some(Near::Moka), None),
        ("redis://h", None, Some("redis://h")),
        ("rediss://u:p@h:1/2", None, Some("rediss://u:p@h:1/2")),
        ("valkey://h", None, Some("valkey://h")),
        ("unix:///run/redis.sock", None, Some("unix:///run/redis.sock")),
        ("tiered:redis://h/0", Some(Near::Moka), Some("redis://h/0")),
        ("tiered:unix:///s", Some(Near::Moka), Some("unix:///s")),
        ("memcached://h:11211", None, Some("memcached://h:11211")),
        ("tiered:memcached://h", Some(Near::Moka), Some("memcached://h")),
        ("redis+sentinel://a,b/m", None, Some("redis+sentinel://a,b/m")),
        ("tiered:rediss+sentinel://a,b/m", Some(Near::Moka), Some("rediss+sentinel://a,b/m")),
    ];
    for (url, near, far) in plain {
        let plan = plan(url).unwrap();
        assert_eq!((plan.near, plan.far.as_deref()), (near, far), "{url}");
        assert_eq!(plan.settings, Settings::default(), "{url}");
    }
}

#[test]
fn a_clusters_keys_are_spread_over_buckets_unless_the_url_says_otherwise() {
    for (url, buckets) in [("redis+cluster://a,b", 64), ("tiered:redis+cluster://a?buckets=8", 8)] {
        assert_eq!(plan(url).unwrap().settings.buckets, Some(buckets), "{url}");
    }
}

#[test]
fn our_options_are_taken_and_the_far_stores_are_left() {
    let url = "tiered:redis://:pw@h/3?bytes=1GiB&timeout=200ms&namespace=shop&bound=1s&verify=no&outage=0&lease=3s&buckets=64&max_ttl=1h";
    let plan = plan(url).unwrap();
    assert_eq!(plan.far.as_deref(), Some("redis://:pw@h/3?timeout=200ms&verify=no"));
    let expected = settings(|s| {
        s.bytes = Some(1 << 30);
        s.namespace = Some("shop".to_owned());
        s.max_ttl = Some(Duration::from_secs(3600));
        s.bound = Some(Duration::from_secs(1));
        s.outage = Some(Duration::ZERO);
        s.lease = Some(Duration::from_secs(3));
        s.buckets = Some(64);
    });
    assert_eq!(plan.settings, expected);
}

#[test]
fn compression_is_taken_if_it_is_linked() {
    for (name, linked) in [("lz4", cfg!(feature = "lz4")), ("zstd", cfg!(feature = "zstd")), ("gzip", false)] {
        let plan = plan(&format!("tiered:redis://h?compress={name}"));
        assert_eq!(plan.is_ok_and(|plan| plan.settings.compress.is_some()), linked, "{name}");
    }
}

#[test]
fn every_mistake_is_named_and_says_what_to_write() {
    for (url, parts) in [
        ("moka:?bytes=much&namespace=&colour=red", &["bytes is", "64MiB", "namespace is", "'colour'", "max_ttl"][..]),
        ("memory:?bound=2s", &["bound is for a far store", "tiered:"]),
        ("redis://h?bytes=1m", &["bytes is for a near store", "tiered:"]),
        ("redis://h?bound=fast", &["bound is a time", "500ms"]),
        ("moka://64MiB", &["moka:?bytes=64MiB"]),
        ("tiered:", &["tiered:redis://localhost:6379"]),
        ("tiered:moka:", &["tiered:redis://localhost:6379"]),
        ("localhost", &["memory:", "tiered:redis://"]),
        ("localhost:6379", &["scheme is not known"]),
        ("REDIS://h", &["scheme is not known"]),
        ("", &["scheme is not known"]),
    ] {
        let error = refused(url);
        assert_eq!(error.kind(), ErrorKind::Config, "{url}");
        for part in parts {
            assert!(error.to_string().contains(part), "{url}: {error} lacks {part:?}");
        }
    }
}

#[tokio::test]
async fn no_password_gets_into_an_error() {
    for url in [
        "hunter2:x@localhost",
        "user:hunter2@localhost:6379",
        "tiered:user:hunter2@localhost",
        "moka:redis://:hunter2@localhost",
        "moka:?redis://:hunter2@localhost",
        "redis://:hunter2@localhost?bound=hunter2",
        "redis://:hunter2@localhost:port",
        "tiered:redis://:hunter2@localhost/x?colour=hunter2",
    ] {
        let error = connect(url).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Config, "{url}");
        assert!(!format!("{error} {error:?}").contains("hunter2"), "{error}");
    }
}

#[test]
fn the_environment_comes_before_what_is_linked() {
    let with = |set: &'static [(&str, &str)]| {
        url_of(move |name| set.iter().find(|(n, _)| *n == name).map(|(_, v)| (*v).into())).unwrap()
    };
    let linked = if cfg!(feature = "moka") { "moka:" } else { "memory:" };
    let redis = match (cfg!(feature = "moka"), cfg!(feature = "redis")) {
        (true, true) => "tiered:redis://h",
        (false, true) => "redis://h",
        (_, false) => linked,
    };
    assert_eq!(with(&[("STRATA_URL", "memory:"), ("REDIS_URL", "redis://h")]), "memory:");
    assert_eq!(with(&[("REDIS_URL", "redis://h")]), redis);
    assert_eq!(with(&[("STRATA_URL", ""), ("REDIS_URL", "")]), linked);
    assert_eq!(with(&[]), linked);
}

#[tokio::test]
async fn what_is_not_linked_names_its_feature() {
    for (url, feature, linked) in [
        ("moka:", "moka", cfg!(feature = "moka")),
        ("redis://127.0.0.1:1?connect_timeout=100ms", "redis", cfg!(feature = "redis")),
    ] {
        let outcome = connect(url).await;
        if !linked {
            let error = outcome.unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Config);
            assert!(error.to_string().contains(&format!("cache-strata/{feature}")), "{error}");
        } else if let Err(error) = outcome {
            assert_eq!(error.kind(), ErrorKind::Unavailable, "{error}");
        }
    }
}

#[tokio::test]
async fn embedded_urls_make_caches_that_work() {
    let urls = if cfg!(feature = "moka") { &["memory:?bytes=1m", "moka:?bytes=1m"][..] } else { &["memory:?bytes=1m"] };
    for url in urls {
        let tiers = connect(url).await.unwrap();
        let names = tiers.cache::<String>("names").codec(cache_core::codec::Raw).build().unwrap();
        names.set("k", "v".to_owned()).await.unwrap();
        assert_eq!(names.get("k").await.unwrap().as_deref().map(String::as_str), Some("v"), "{url}");
    }
}
