//! The Rust version that the manifests state is enough, as far as this toolchain can tell.

use anyhow::{Context, Result, bail};

use crate::run::Run;
use crate::workspace::{Package, Workspace};

/// Checks that this toolchain is the stated version or newer, and that no dependency asks for more.
///
/// # Errors
/// If either isn't so.
pub(crate) fn check(workspace: &Workspace) -> Result<String> {
    let packages = workspace.packages()?;
    let stated = packages.iter().filter(|package| package.member).map(|package| package.rust_version.as_deref());
    let stated: Vec<&str> = stated.collect::<Option<_>>().context("a package of ours states no rust-version")?;
    let ours = *stated.first().context("there are no packages")?;
    if stated.iter().any(|version| *version != ours) {
        bail!("our packages state different rust-versions; take rust-version.workspace = true");
    }
    let rustc = std::env::var_os("RUSTC").unwrap_or_else(|| "rustc".into());
    let text = Run::new(rustc, ["--version"]).within(workspace.root()).output()?;
    let toolchain = text.split_whitespace().nth(1).context("rustc says no version")?;
    if parse(toolchain) < parse(ours) {
        bail!("rustc is {toolchain}, the manifests state {ours}; update the toolchain (rustup update stable)");
    }
    let greedy = greedy(&packages, ours);
    if !greedy.is_empty() {
        bail!("these need a newer Rust than {ours}: {}", greedy.join(", "));
    }
    let count = packages.len();
    // any step but this one builds with this toolchain: only if it *is* the stated version is that version proven
    Ok(if parse(toolchain)[..2] == parse(ours)[..2] {
        format!("rustc {toolchain} is the stated version; none of {count} packages asks for more")
    } else {
        format!(
            "none of {count} packages asks for more than {ours}; rustc is {toolchain}, so {ours} itself was not built"
        )
    })
}

fn greedy(packages: &[Package], ours: &str) -> Vec<String> {
    let more = |package: &&Package| package.rust_version.as_deref().is_some_and(|asks| parse(asks) > parse(ours));
    packages.iter().filter(more).map(|package| format!("{} {}", package.name, package.version)).collect()
}

/// Major, minor, patch; what is missing or no number is 0.
fn parse(version: &str) -> [u32; 3] {
    let plain = version.split(['-', '+']).next().unwrap_or_default();
    let mut parts = plain.split('.').map(|part| part.parse().unwrap_or(0));
    std::array::from_fn(|_| parts.next().unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn package(name: &str, rust_version: Option<&str>) -> Package {
        Package {
            name: name.into(),
            version: "1.2.3".into(),
            rust_version: rust_version.map(str::to_owned),
            features: Vec::new(),
            default_features: false,
            benches: Vec::new(),
            member: false,
            published: true,
        }
    }

    #[test]
    fn versions_compare_as_numbers() {
        assert!(parse("1.100") > parse("1.95.9"));
        assert_eq!(parse("1.95"), parse("1.95.0-beta.3"));
    }

    #[test]
    fn a_dependency_that_asks_for_more_is_found() {
        let all = [package("old", None), package("same", Some("1.95")), package("new", Some("1.96.1"))];
        assert_eq!(greedy(&all, "1.95"), ["new 1.2.3"]);
    }
}
