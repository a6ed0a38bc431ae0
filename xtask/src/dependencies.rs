//! Each dependency has its line in `docs/dependencies.md`: what it is for, and what was refused.

use std::collections::BTreeSet;

use anyhow::{Result, bail};

use crate::workspace::Workspace;

const PAPER: &str = "docs/dependencies.md";

/// Compares the workspace's dependencies with the paper, both ways.
///
/// # Errors
/// If one is missing on either side, or a line of the paper says too little.
pub(crate) fn check(workspace: &Workspace) -> Result<String> {
    let manifest = declared(&workspace.read("Cargo.toml")?);
    let faults = compare(&manifest, &workspace.read(PAPER)?);
    if !faults.is_empty() {
        bail!("{}", faults.join("\n"));
    }
    Ok(format!("{} dependencies have their line", manifest.len()))
}

/// The names under `[workspace.dependencies]` that aren't packages of ours.
fn declared(manifest: &str) -> BTreeSet<String> {
    let lines = manifest.lines().skip_while(|line| line.trim() != "[workspace.dependencies]").skip(1);
    lines
        .take_while(|line| !line.starts_with('['))
        .filter(|line| !line.starts_with([' ', '#', ']', '}']) && !line.contains("path ="))
        .filter_map(|line| line.split_once('='))
        .map(|(name, _)| name.trim().trim_matches('"').to_owned())
        .collect()
}

fn compare(manifest: &BTreeSet<String>, paper: &str) -> Vec<String> {
    let mut faults = Vec::new();
    let mut named = BTreeSet::new();
    for row in paper.lines().filter_map(|line| line.strip_prefix("| `")) {
        let cells: Vec<&str> = row.split('|').map(str::trim).collect();
        let name = cells[0].trim_matches('`').to_owned();
        if cells.len() != 4 || cells[1].is_empty() || cells[2].is_empty() {
            faults.push(format!("{PAPER}: say what {name} is for and what was refused"));
        }
        if !manifest.contains(&name) {
            faults.push(format!("{PAPER}: {name} is no dependency any more"));
        }
        named.insert(name);
    }
    faults.extend(manifest.difference(&named).map(|name| format!("{PAPER}: {name} has no line")));
    faults
}

#[cfg(test)]
mod tests {
    use super::*;

    const MANIFEST: &str = "[workspace]\nx = 1\n\n[workspace.dependencies]\nours = { path = \"ours\" }\n# more\n\
        a-b = \"1\"\nc = { version = \"2\", features = [\n    \"x\",\n] }\n\n[package]\nname = \"p\"\n";

    #[test]
    fn the_workspace_dependencies_are_read() {
        let names: Vec<String> = declared(MANIFEST).into_iter().collect();
        assert_eq!(names, ["a-b", "c"]);
    }

    #[test]
    fn a_missing_a_stale_and_an_empty_line_are_found() {
        let manifest = declared(MANIFEST);
        assert!(compare(&manifest, "| `a-b` | for x | y |\n| `c` | for z | - |\n").is_empty());
        let faults = compare(&manifest, "| `a-b` | | y |\n| `gone` | for x | y |\n");
        assert_eq!(faults.len(), 3, "{faults:?}");
        assert!(faults[0].contains("what a-b is for") && faults[1].contains("gone") && faults[2].contains("c has no"));
    }
}
