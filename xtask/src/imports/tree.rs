//! Rules about what is linked, read off `cargo tree`.

use anyhow::Result;

use crate::workspace::Workspace;

/// Which dependencies a rule looks at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Edges {
    /// Those named in the manifest.
    Direct,
    /// Those and all below them.
    Normal,
    /// Those of tests too.
    NormalAndDev,
}

impl Edges {
    const fn args(self) -> &'static [&'static str] {
        match self {
            Self::Direct => &["-e", "normal", "--depth", "1"],
            Self::Normal => &["-e", "normal"],
            Self::NormalAndDev => &["-e", "normal,dev"],
        }
    }
}

/// What a package, built with some features, may link.
#[derive(Debug)]
pub(super) struct TreeRule {
    /// The rule as a sentence.
    pub(super) name: &'static str,
    /// The package.
    pub(super) package: &'static str,
    /// Cargo's feature flags.
    pub(super) features: &'static [&'static str],
    /// Which dependencies.
    pub(super) edges: Edges,
    /// Packages that must not be among them.
    pub(super) never: &'static [&'static str],
    /// If given, no others than these may be among them.
    pub(super) only: Option<&'static [&'static str]>,
}

impl TreeRule {
    /// The packages that break the rule, each with how it got there; none if it holds.
    pub(super) fn broken(&self, workspace: &Workspace) -> Result<Vec<String>> {
        let text = self.tree(workspace, &["-p", self.package])?;
        let mut found = Vec::new();
        // "name v1.2.3 ..." a line, the package itself first
        for name in text.lines().skip(1).filter_map(|line| line.split_whitespace().next()) {
            let allowed = self.only.is_none_or(|only| only.contains(&name));
            if (self.never.contains(&name) || !allowed) && !found.iter().any(|seen| seen == name) {
                found.push(name.to_owned());
            }
        }
        found.sort();
        Ok(found.into_iter().map(|name| format!("{} links {name}", self.package)).collect())
    }

    fn tree(&self, workspace: &Workspace, more: &[&str]) -> Result<String> {
        // for every platform, or a rule could be broken on another one
        let fixed: &[&str] = &["tree", "--locked", "--prefix", "none", "--target", "all", "--no-dedupe"];
        workspace.cargo(&[fixed, self.edges.args(), self.features, more].concat()).output()
    }
}
