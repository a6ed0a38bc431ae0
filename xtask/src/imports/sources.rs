//! Rules about what is written, read off the sources.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use super::paths::Source;
use crate::workspace::Workspace;

/// What some files may name.
#[derive(Debug)]
pub(super) struct SourceRule {
    /// The rule as a sentence.
    pub(super) name: &'static str,
    /// Files and directories below the workspace's root; those that don't exist hold nothing.
    pub(super) files: &'static [&'static str],
    /// What is forbidden.
    pub(super) kind: Kind,
    /// Source text that breaks the rule, for its test.
    #[cfg_attr(not(test), expect(dead_code, reason = "read by the test of each rule"))]
    pub(super) breach: &'static str,
}

/// What a source rule forbids.
#[derive(Debug)]
pub(super) enum Kind {
    /// Crates other than `allowed`, save for one more in some files. Tests beside the code are free.
    OnlyCrates { allowed: &'static [&'static str], besides: &'static [(&'static str, &'static str)] },
    /// These crates.
    NeverCrates(&'static [&'static str]),
    /// These modules of the crate itself.
    NeverModules(&'static [&'static str]),
    /// Names of `krate` in public items, save for the functions and types in `doors`.
    NotPublic { krate: &'static str, doors: &'static [&'static str] },
    /// `#[path]` and `include!` of source files, save for those of another package's tests, which see what ours see.
    NoInclusion,
}

impl SourceRule {
    /// The places that break the rule; none if it holds.
    pub(super) fn broken(&self, workspace: &Workspace) -> Result<Vec<String>> {
        let mut found = Vec::new();
        for path in self.files.iter().flat_map(|path| sources(&workspace.root().join(path))) {
            let source = fs::read_to_string(&path).with_context(|| format!("can't read {}", path.display()))?;
            let shown = path.strip_prefix(workspace.root()).unwrap_or(&path).to_string_lossy().replace('\\', "/");
            let hits = match self.kind {
                Kind::OnlyCrates { allowed, besides } => {
                    let besides = besides.iter().filter(|(file, _)| *file == shown).map(|(_, krate)| *krate);
                    let allowed: Vec<&str> = allowed.iter().copied().chain(besides).collect();
                    Source::shipped(&source, &shown).only_crates(&allowed)
                }
                Kind::NeverCrates(never) => Source::new(&source).never_crates(never),
                Kind::NeverModules(never) => Source::shipped(&source, &shown).never_modules(never),
                Kind::NotPublic { krate, doors } => Source::shipped(&source, &shown).not_public(krate, doors),
                Kind::NoInclusion => Source::new(&source)
                    .no_inclusion()
                    .into_iter()
                    .filter(|(line, _)| !source.lines().nth(line - 1).is_some_and(|text| text.contains("/tests/")))
                    .collect(),
            };
            found.extend(hits.into_iter().map(|(line, what)| format!("{shown}:{line} names {what}")));
        }
        found.dedup();
        Ok(found)
    }
}

/// The Rust files at or below `path`, in order.
fn sources(path: &Path) -> Vec<PathBuf> {
    if path.is_file() {
        return vec![path.to_owned()];
    }
    let Ok(dir) = fs::read_dir(path) else { return Vec::new() };
    let mut paths: Vec<_> = dir.flatten().map(|entry| entry.path()).collect();
    paths.sort();
    paths.retain(|path| path.is_dir() || path.extension().is_some_and(|ext| ext == "rs"));
    paths.iter().flat_map(|path| sources(path)).collect()
}
