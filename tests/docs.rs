//! The papers name only things that exist: types, functions and paths in backticks are looked up in the source.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use strata_tests::papers::{Named, declared, files, named};

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("tests/ stands in the workspace").to_owned()
}

/// The README and the other papers at the top, and everything under `docs/`.
fn papers(root: &Path) -> Vec<PathBuf> {
    let mut papers = files(&root.join("docs"), "md");
    let top = fs::read_dir(root).expect("the workspace").filter_map(Result::ok).map(|entry| entry.path());
    papers.extend(top.filter(|path| path.extension().is_some_and(|ext| ext == "md")));
    papers.sort();
    papers
}

const CRATES: [&str; 7] = ["cache-core", "cache-memcached", "cache-moka", "cache-redis", "cache-tiered", ".", "xtask"];

fn known(root: &Path) -> BTreeSet<String> {
    let mut known: BTreeSet<String> = CRATES.iter().map(|name| name.replace('-', "_")).collect();
    known.insert("cache_strata".to_owned());
    known.extend(STD.map(str::to_owned));
    for name in CRATES {
        for file in files(&root.join(name).join("src"), "rs") {
            declared(&fs::read_to_string(file).expect("a source file"), &mut known);
        }
    }
    known
}

/// Names of the standard library.
const STD: [&str; 18] = [
    "Arc", "Box", "Clone", "Debug", "Default", "Display", "Drop", "Duration", "Err", "Future", "Mutex", "None", "Ok",
    "Option", "OnceLock", "Some", "String", "Vec",
];

/// Names that the papers may use though they are not ours, each with the number of uses.
fn foreign() -> BTreeMap<String, u32> {
    let lines = include_str!("foreign_names.txt").lines().map(str::trim);
    lines.filter(|line| !line.is_empty() && !line.starts_with('#')).map(|line| (line.to_owned(), 0)).collect()
}

#[test]
fn the_papers_name_only_things_that_exist() {
    let root = root();
    let (known, mut foreign) = (known(&root), foreign());
    assert!(known.len() > 300 && known.contains("CacheService"), "the source was not found");
    let mut faults = Vec::new();
    let mut looked_up = 0;
    for paper in papers(&root) {
        let text = fs::read_to_string(&paper).expect("a paper");
        let shown = paper.strip_prefix(&root).unwrap_or(&paper).display();
        for (line, name) in named(&text) {
            looked_up += 1;
            let missing = match &name {
                Named::Item(segments) => segments.iter().find(|segment| !known.contains(*segment)).cloned(),
                Named::File(path) => (!exists(&root, &paper, path)).then(|| path.clone()),
            };
            if let Some(missing) = missing {
                match foreign.get_mut(&missing) {
                    Some(uses) => *uses += 1,
                    None => faults.push(format!("{shown}:{line}: `{missing}` does not exist")),
                }
            }
        }
    }
    assert!(looked_up > 10, "only {looked_up} names were found in the papers");
    let unused = foreign.iter().filter(|(_, uses)| **uses == 0);
    faults.extend(unused.map(|(name, _)| format!("tests/foreign_names.txt: no paper names `{name}`, or it is ours")));
    assert!(faults.is_empty(), "{}\n(a name that is not ours goes into tests/foreign_names.txt)", faults.join("\n"));
}

fn exists(root: &Path, paper: &Path, path: &str) -> bool {
    let beside = paper.parent().unwrap_or(root);
    let mut places = CRATES.iter().flat_map(|name| [root.join(name), root.join(name).join("src")]);
    beside.join(path).exists() || places.any(|place| place.join(path).exists())
}

#[test]
fn the_look_up_finds_what_is_wrong() {
    let mut known = BTreeSet::new();
    declared(
        "pub struct Thing<T> {\n    pub part: T,\n}\npub enum Kind {\n    First,\n    Second(u8),\n}\n    async fn act(&self)",
        &mut known,
    );
    for name in ["Thing", "part", "Kind", "First", "Second", "act"] {
        assert!(known.contains(name), "{name}");
    }
    let item = |segments: &[&str]| Named::Item(segments.iter().map(|s| (*s).to_owned()).collect());
    let text = "`Thing` and `Kind::First`, `Thing::act(1)`, `act()`; `word`, `SHOUT`, `A`, `std::fmt::Debug`\n\
        ```\n`Fenced`\n```\n`cache_core::Thing<T>` `docs/page.md` `Arc<dyn Thing>`, `tokio::time::Sleep`, `&Lost`";
    let names: Vec<Named> = named(text).into_iter().map(|(_, name)| name).collect();
    let expected = [
        item(&["Thing"]),
        item(&["Kind", "First"]),
        item(&["Thing", "act"]),
        item(&["act"]),
        item(&["cache_core", "Thing"]),
        Named::File("docs/page.md".to_owned()),
        item(&["Arc"]),
        item(&["Thing"]),
        item(&["Lost"]),
    ];
    assert_eq!(names, expected);
}

/// The tests that a row of a paper names: "`name` in `file`".
fn tests_of(row: &str) -> Vec<(String, String)> {
    let parts: Vec<&str> = row.split('`').collect();
    let named = parts.windows(3).enumerate().filter(|(at, part)| at % 2 == 1 && part[1] == " in ");
    named.map(|(_, part)| (part[0].to_owned(), part[2].to_owned())).collect()
}

/// What is wrong with the tests that a row names.
fn faults_of(root: &Path, row: &str) -> Vec<String> {
    let tests = tests_of(row);
    let missing = tests.iter().filter_map(|(name, file)| {
        let Ok(text) = fs::read_to_string(root.join(file)) else { return Some(format!("there is no {file}")) };
        let found = text.contains(&format!("fn {name}(")) || text.contains(&format!("fn {name}<"));
        (!found).then(|| format!("there is no {name} in {file}"))
    });
    let none = tests.is_empty().then(|| format!("no test is named: {row}"));
    missing.chain(none).collect()
}

/// The rows of the tables of `text` whose last column is `column`, heads left out.
fn rows<'a>(text: &'a str, column: &str) -> Vec<&'a str> {
    let (head, mut within) = (format!("| {column} |"), false);
    let mut found = Vec::new();
    for line in text.lines() {
        let is_head = line.ends_with(&head);
        within = is_head || within && line.starts_with('|');
        if within && !is_head && !line.starts_with("|--") {
            found.push(line);
        }
    }
    found
}

#[test]
fn every_invariant_names_tests_that_exist() {
    let root = root();
    let paper = fs::read_to_string(root.join("docs/invariants.md")).expect("the paper");
    for number in 1..=14 {
        let row = paper.lines().find(|line| line.starts_with(&format!("| I{number} |")));
        let row = row.unwrap_or_else(|| panic!("docs/invariants.md has no row I{number}"));
        assert_eq!(faults_of(&root, row), Vec::<String>::new(), "I{number}");
    }
}

#[test]
fn every_bug_of_other_caches_names_tests_that_exist() {
    let root = root();
    let paper = fs::read_to_string(root.join("docs/peers.md")).expect("the paper");
    let rows = rows(&paper, "the test");
    assert!(rows.len() > 50, "only {} rows", rows.len());
    let faults: Vec<String> = rows.into_iter().flat_map(|row| faults_of(&root, row)).collect();
    assert!(faults.is_empty(), "docs/peers.md:\n{}", faults.join("\n"));
}

#[test]
fn a_row_with_a_wrong_test_is_found() {
    let root = root();
    let row = "| it breaks | somebody | `a_row_with_a_wrong_test_is_found` in `tests/docs.rs` |";
    assert!(faults_of(&root, row).is_empty());
    let wrong = ["a_row_with_a_wrong_test", "docs.rs` |"].map(|part| row.replacen(part, "no_such", 1));
    for row in wrong.iter().map(String::as_str).chain(["| it breaks | somebody | none |"]) {
        assert_eq!(faults_of(&root, row).len(), 1, "{row}");
    }
    let table = format!(
        "| what | whose | the test |\n|---|---|---|\n{row}\n\n| what | whose | why |\n|--|--|--|\n| a | b | c |\n"
    );
    assert_eq!(rows(&table, "the test"), [row]);
}
