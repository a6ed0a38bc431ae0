//! Each rule is broken on purpose in a directory of its own, and the check has to say so.

use std::fs;
use std::path::Path;

use tempfile::TempDir;

use super::sources::{Kind, SourceRule};
use super::tree::{Edges, TreeRule};
use super::{SOURCES, TREES};
use crate::workspace::Workspace;

fn write(root: &Path, path: &str, text: &str) {
    let path = root.join(path);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, text).unwrap();
}

/// A workspace in which `package` depends on `named` as `section` says, straight or with a package in between.
fn workspace(package: &str, section: &str, named: &str, between: bool) -> TempDir {
    let dir = TempDir::new().unwrap();
    let add = |name: &str, dependencies: &str| {
        let manifest = format!("[package]\nname = \"{name}\"\nversion = \"0.1.0\"\nedition = \"2024\"\n{dependencies}");
        write(dir.path(), &format!("{name}/Cargo.toml"), &manifest);
        write(dir.path(), &format!("{name}/src/lib.rs"), "");
    };
    let first = if between { "between" } else { named };
    add(package, &format!("[{section}]\n{first} = {{ path = \"../{first}\" }}\n"));
    add(named, "");
    if between {
        add("between", &format!("[dependencies]\n{named} = {{ path = \"../{named}\" }}\n"));
    }
    let members = if between {
        format!("\"{package}\", \"between\", \"{named}\"")
    } else {
        format!("\"{package}\", \"{named}\"")
    };
    write(dir.path(), "Cargo.toml", &format!("[workspace]\nresolver = \"3\"\nmembers = [{members}]\n"));
    Workspace::at(dir.path()).cargo(&["generate-lockfile", "--offline", "--quiet"]).output().unwrap();
    dir
}

fn broken(rule: &TreeRule, dir: &TempDir) -> Vec<String> {
    rule.broken(&Workspace::at(dir.path())).unwrap()
}

#[test]
fn each_tree_rule_finds_what_it_forbids() {
    for rule in TREES {
        let straight = rule.edges == Edges::Direct;
        for name in rule.never {
            let found = broken(rule, &workspace(rule.package, "dependencies", name, !straight));
            let want = format!("{} links {name}", rule.package);
            assert!(found.contains(&want), "{}: {name} was not found, only {found:?}", rule.name);
        }
        let stranger = broken(rule, &workspace(rule.package, "dependencies", "stranger", false));
        assert_eq!(stranger.is_empty(), rule.only.is_none(), "{}", rule.name);
    }
}

#[test]
fn tests_may_link_what_the_product_may_not_except_in_the_engine() {
    for rule in TREES {
        for name in rule.never {
            let found = broken(rule, &workspace(rule.package, "dev-dependencies", name, true));
            assert_eq!(found.is_empty(), rule.edges != Edges::NormalAndDev, "{}: {found:?}", rule.name);
        }
    }
}

fn place(rule: &SourceRule, text: &str) -> Vec<String> {
    let dir = TempDir::new().unwrap();
    let file = rule.files.last().unwrap();
    let file = if file.ends_with(".rs") { (*file).to_owned() } else { format!("{file}/some/file.rs") };
    write(dir.path(), &file, text);
    rule.broken(&Workspace::at(dir.path())).unwrap()
}

#[test]
fn each_source_rule_finds_its_breach() {
    for rule in SOURCES {
        let found = place(rule, &format!("// first line\n{}\n", rule.breach));
        assert!(!found.is_empty(), "{}", rule.name);
        assert!(found.iter().all(|line| line.contains(".rs:2 ") || line.contains(".rs:3 ")), "{found:?}");
        let commented = rule.breach.lines().map(|line| format!("// {line}\n")).collect::<String>();
        assert_eq!(place(rule, &commented), Vec::<String>::new(), "{}", rule.name);
    }
}

#[test]
fn every_file_and_directory_of_a_rule_is_read() {
    for rule in SOURCES {
        for file in rule.files {
            let one = SourceRule { name: "", files: &[], kind: Kind::NoInclusion, breach: "" };
            let path = if file.ends_with(".rs") { (*file).to_owned() } else { format!("{file}/x.rs") };
            let dir = TempDir::new().unwrap();
            write(dir.path(), &path, rule.breach);
            assert!(!rule.broken(&Workspace::at(dir.path())).unwrap().is_empty(), "{}: {path}", rule.name);
            assert!(one.broken(&Workspace::at(dir.path())).unwrap().is_empty());
        }
    }
}

#[test]
fn scenarios_are_shared_among_tests_and_sources_are_not() {
    let dir = TempDir::new().unwrap();
    let hits = |text: &str| {
        write(dir.path(), "src/x.rs", text);
        rule(Kind::NoInclusion).broken(&Workspace::at(dir.path())).unwrap().len()
    };
    assert_eq!(hits("#[path = \"../cache-tiered/tests/common/mod.rs\"]\nmod common;"), 0);
    assert_eq!(hits("#[path = \"../cache-tiered/src/flight.rs\"]\nmod flight;"), 1);
}

fn rule(kind: Kind) -> SourceRule {
    SourceRule { name: "", files: &["src"], kind, breach: "" }
}

#[test]
fn a_driver_is_found_however_it_is_named() {
    let never = || rule(Kind::NeverCrates(&["redis"]));
    for bad in [
        "use redis;",
        "use redis::Client;",
        "pub use redis as driver;",
        "use ::redis::Client;",
        "use {std::fmt, redis::Client};",
        "extern crate redis;",
        "fn f(c: ::redis::Client) {}",
        "let x = <redis::Client as Clone>::clone(y);",
    ] {
        assert_eq!(place(&never(), bad).len(), 1, "{bad}");
    }
    for good in [
        "use cache_redis::Redis;",
        "use crate::redis::Redis;",
        "pub use crate::{redis::Redis, moka};",
        "mod redis;",
        "let redis = 1; redis.get();",
        "// redis::Client",
        "\"redis::Client\"",
    ] {
        assert_eq!(place(&never(), good), Vec::<String>::new(), "{good}");
    }
}

#[test]
fn a_driver_type_is_found_in_public_items_alone() {
    let public = || rule(Kind::NotPublic { krate: "redis", doors: &["raw", "Raw"] });
    for bad in [
        "pub use redis::Client;",
        "pub type Wire = redis::Client;",
        "pub fn a(b: u8) -> Result<redis::Client, E> { x }",
        "pub async fn a<T: redis::FromRedisValue>() {}",
        "pub fn a<T>() -> T where T: redis::FromRedisValue {}",
        "use redis::Client; pub struct A { pub b: Option<Client>, c: u8 }",
        "pub struct A(pub redis::Client);",
        "pub enum A { B(redis::Client) }",
        "pub trait A { fn b(&self) -> redis::Client; }",
        "use redis::aio::ConnectionLike; pub struct A; impl ConnectionLike for A {}",
        "pub struct A; impl From<redis::Client> for A {}",
        "use redis::{Client as C, Cmd}; pub fn raw_too() -> C { x }",
    ] {
        assert_eq!(place(&public(), bad).len(), 1, "{bad}");
    }
    for good in [
        "use redis::Client; struct A { b: Client } fn c() -> Client { x }",
        "pub fn raw(&self) -> redis::Client { x }",
        "pub async fn raw(&self) -> redis::Client { x }",
        "use redis::aio::ConnectionLike; pub struct Raw; impl ConnectionLike for Raw {}",
        "pub(crate) struct A; impl From<redis::Client> for A {}",
        "pub struct A; impl A { fn a() -> impl Into<redis::Client> { for b in c {} } }",
        "pub(crate) fn a() -> redis::Client { x }",
        "pub struct A(redis::Client);",
        "pub struct A { b: redis::Client }",
        "pub fn a() -> u8 { redis::cmd(x) }",
        "use redis::cmd; pub fn cmd(cmd: u8) {}",
        "pub fn a() {} #[cfg(test)] mod tests { pub fn b() -> redis::Client { x } }",
    ] {
        assert_eq!(place(&public(), good), Vec::<String>::new(), "{good}");
    }
}

#[test]
fn a_foreign_crate_is_found_in_a_contract_file() {
    let only = || rule(Kind::OnlyCrates { allowed: &["std", "bytes"], besides: &[] });
    for bad in
        ["use serde::Serialize;", "use {std::fmt, serde};", "#[tokio::main] fn f() {}", "let x = rand::random();"]
    {
        assert_eq!(place(&only(), bad).len(), 1, "{bad}");
    }
    for good in [
        "use std::fmt; use crate::seal; use super::*; impl fmt::Debug for A {} fn f() { seal::check() }",
        "fn f() { size_of::<u8>() }",
        "mod seal; fn f() { seal::check(); u64::from(x); str::from_utf8(y); Self::new() }",
        "#[expect(clippy::cast_sign_loss)] fn f() {}",
        "fn f() {} #[cfg(test)] mod tests { use proptest::prelude::*; }",
    ] {
        assert_eq!(place(&only(), good), Vec::<String>::new(), "{good}");
    }
}
