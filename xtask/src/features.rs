//! Each feature alone builds: features only add, and none secretly needs another.

use anyhow::{Result, bail};

use crate::workspace::{Package, Workspace};

/// Lints every published package without features, with its default, and with each feature alone.
///
/// # Errors
/// If one of them does not build without warnings, after all were tried.
pub(crate) fn check(workspace: &Workspace) -> Result<String> {
    let packages = workspace.packages()?;
    let mut tried = 0;
    let mut failed = Vec::new();
    for package in packages.iter().filter(|package| package.member && package.published) {
        for choice in choices(package) {
            let mut args = vec!["clippy", "--locked", "--quiet", "-p", &package.name];
            args.extend(choice.iter().map(String::as_str));
            args.extend(["--", "-D", "warnings"]);
            tried += 1;
            if let Err(error) = workspace.cargo(&args).stream() {
                failed.push(error.to_string());
            }
        }
    }
    if !failed.is_empty() {
        bail!("{} of {tried} sets of features do not build:\n{}", failed.len(), failed.join("\n"));
    }
    Ok(format!("{tried} sets of features build"))
}

fn choices(package: &Package) -> Vec<Vec<String>> {
    let none = || "--no-default-features".to_owned();
    let mut choices = vec![vec![none()]];
    if package.default_features {
        choices.push(Vec::new());
    }
    for feature in package.features.iter().filter(|feature| *feature != "default") {
        choices.push(vec![none(), "--features".into(), feature.clone()]);
    }
    choices
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_feature_is_tried_alone() {
        let package = Package {
            name: "p".into(),
            version: "1.0.0".into(),
            rust_version: None,
            features: vec!["a".into(), "b".into(), "default".into()],
            default_features: true,
            benches: Vec::new(),
            member: true,
            published: true,
        };
        let choices: Vec<String> = choices(&package).iter().map(|choice| choice.join(" ")).collect();
        let alone = |feature| format!("--no-default-features --features {feature}");
        assert_eq!(choices, ["--no-default-features".into(), String::new(), alone("a"), alone("b")]);
    }
}
