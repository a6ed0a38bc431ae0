//! What cargo says about this workspace.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::{env, fs};

use anyhow::{Context, Result};
use serde_json::Value;

use crate::run::Run;

/// The workspace that this program belongs to.
#[derive(Debug)]
pub(crate) struct Workspace {
    root: PathBuf,
}

impl Workspace {
    /// The workspace around this program's manifest, or around the current directory.
    pub(crate) fn find() -> Result<Self> {
        let start = match env::var_os("CARGO_MANIFEST_DIR") {
            Some(dir) => PathBuf::from(dir),
            None => env::current_dir()?,
        };
        let root = start.ancestors().find(|dir| dir.join("Cargo.lock").is_file());
        let root = root.context("no Cargo.lock above; run this inside the workspace")?;
        Ok(Self { root: root.to_owned() })
    }

    /// The workspace at `root`.
    #[cfg(test)]
    pub(crate) fn at(root: &Path) -> Self {
        Self { root: root.to_owned() }
    }

    /// Its directory.
    pub(crate) fn root(&self) -> &Path {
        &self.root
    }

    /// The text of the file at `path` below it.
    pub(crate) fn read(&self, path: &str) -> Result<String> {
        fs::read_to_string(self.root.join(path)).with_context(|| format!("can't read {path}"))
    }

    /// The commit that is checked out, with a `+` if what is no paper was changed since; `None` where git can't tell.
    pub(crate) fn commit(&self) -> Option<String> {
        let git = |args: &[&str]| {
            let said = Command::new("git").args(args).current_dir(&self.root).output().ok()?;
            said.status.success().then(|| String::from_utf8_lossy(&said.stdout).trim().to_owned())
        };
        let commit = git(&["rev-parse", "--short=12", "HEAD"])?;
        let changed = git(&["status", "--porcelain", "--untracked-files=no", "--", ".", ":!docs", ":!*.md"])?;
        Some(if changed.is_empty() { commit } else { commit + "+" })
    }

    /// Cargo with `args`, in it.
    pub(crate) fn cargo(&self, args: &[&str]) -> Run {
        Run::cargo(args).within(&self.root)
    }

    /// Its packages and all that they depend on.
    pub(crate) fn packages(&self) -> Result<Vec<Package>> {
        let text = self.cargo(&["metadata", "--locked", "--format-version", "1"]).output()?;
        let metadata: Value = serde_json::from_str(&text)?;
        let members: Vec<&str> = list(&metadata["workspace_members"]).filter_map(Value::as_str).collect();
        list(&metadata["packages"]).map(|package| Package::read(package, &members)).collect()
    }
}

/// A package as `cargo metadata` tells it.
#[derive(Debug)]
pub(crate) struct Package {
    pub(crate) name: String,
    pub(crate) version: String,
    pub(crate) rust_version: Option<String>,
    pub(crate) features: Vec<String>,
    /// Whether its default switches anything on.
    pub(crate) default_features: bool,
    pub(crate) benches: Vec<String>,
    pub(crate) member: bool,
    pub(crate) published: bool,
}

impl Package {
    fn read(package: &Value, members: &[&str]) -> Result<Self> {
        let text = |field: &str| package[field].as_str().map(str::to_owned);
        let id = text("id").context("a package has no id")?;
        let is_bench = |target: &&Value| list(&target["kind"]).any(|kind| kind == "bench");
        Ok(Self {
            name: text("name").context("a package has no name")?,
            version: text("version").context("a package has no version")?,
            rust_version: text("rust_version"),
            features: package["features"].as_object().map(|map| map.keys().cloned().collect()).unwrap_or_default(),
            default_features: list(&package["features"]["default"]).next().is_some(),
            benches: list(&package["targets"])
                .filter(is_bench)
                .filter_map(|target| target["name"].as_str().map(str::to_owned))
                .collect(),
            member: members.contains(&id.as_str()),
            // null: anywhere; []: nowhere
            published: package["publish"].is_null(),
        })
    }
}

fn list(value: &Value) -> impl Iterator<Item = &Value> {
    value.as_array().into_iter().flatten()
}
