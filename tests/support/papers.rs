//! Finds what papers name, and what source declares.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

/// Something named in backticks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Named {
    /// The segments of a path such as `Redis::connect`.
    Item(Vec<String>),
    /// A file of the repository.
    File(String),
}

/// The files under `dir` that end in `.extension`; none if there is no such directory.
#[must_use]
pub fn files(dir: &Path, extension: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let Ok(entries) = fs::read_dir(dir) else { return found };
    for path in entries.filter_map(Result::ok).map(|entry| entry.path()) {
        if path.is_dir() {
            found.extend(files(&path, extension));
        } else if path.extension().is_some_and(|ext| ext == extension) {
            found.push(path);
        }
    }
    found
}

/// Adds the names that `source` declares: items, functions, variants.
pub fn declared(source: &str, names: &mut BTreeSet<String>) {
    for line in source.lines() {
        let mut words = line.split_whitespace().peekable();
        while let Some(word) = words.next() {
            let keyword = matches!(
                word,
                "struct" | "enum" | "trait" | "fn" | "type" | "const" | "static" | "mod" | "macro_rules!"
            );
            // a field is told from what a keyword declares by its colon
            let field = word == "pub" && words.peek().is_some_and(|next| next.ends_with(':'));
            if let (true, Some(next)) = (keyword || field, words.peek()) {
                let name: String = next.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect();
                names.insert(name);
            }
        }
        // a variant stands alone at the start of its line
        let variant: String = line.trim_start().chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect();
        let rest = line.trim_start()[variant.len()..].trim_start();
        let opens = rest.is_empty() || rest.starts_with([',', '(', '{', '=']);
        if line.starts_with(' ') && is_type(&variant) && opens {
            names.insert(variant);
        }
    }
}

/// What `text` names in backticks, each with its line; fenced code is left to the compiler.
#[must_use]
pub fn named(text: &str) -> Vec<(usize, Named)> {
    let mut found = Vec::new();
    let mut fenced = false;
    for (i, line) in text.lines().enumerate() {
        if line.trim_start().starts_with("```") {
            fenced = !fenced;
            continue;
        }
        if fenced {
            continue;
        }
        for span in line.split('`').skip(1).step_by(2) {
            found.extend(in_span(span).into_iter().map(|name| (i + 1, name)));
        }
    }
    found
}

fn in_span(span: &str) -> Vec<Named> {
    let code = |c: char| c.is_alphanumeric() || "_:<>&(), '.".contains(c);
    let file = [".rs", ".md", ".lua", ".toml", ".txt"].iter().any(|end| span.ends_with(end));
    if file && span.contains('/') && !span.contains(['*', ' ', '<']) && !span.starts_with("target/") {
        return vec![Named::File(span.to_owned())];
    }
    if !span.chars().all(code) {
        return Vec::new();
    }
    let mut found = Vec::new();
    for (at, part) in span.split(['<', '>', '&', ',', ' ', ')']).enumerate() {
        let (path, called) = match part.split_once('(') {
            Some((path, _)) => (path, true),
            None => (part, false),
        };
        let segments: Vec<&str> = path.split("::").filter(|segment| !segment.is_empty()).collect();
        let ours = segments.first().is_some_and(|first| is_type(first) || first.starts_with("cache_"));
        let function = at == 0 && called && segments.len() == 1 && is_name(path);
        if (ours || function) && segments.iter().all(|segment| is_name(segment)) {
            found.push(Named::Item(segments.into_iter().map(str::to_owned).collect()));
        }
    }
    found
}

/// A name in CamelCase, of two letters at least. `D_out` is none.
fn is_type(name: &str) -> bool {
    !name.contains('_')
        && name.starts_with(|c: char| c.is_ascii_uppercase())
        && name.contains(|c: char| c.is_ascii_lowercase())
        && is_name(name)
}

fn is_name(name: &str) -> bool {
    !name.is_empty()
        && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
        && !name.starts_with(char::is_numeric)
}
