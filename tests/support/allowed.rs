//! The list of tests that may be ignored, each with the reason.

use std::collections::BTreeSet;

/// The list: a name a line, ` # ` and the reason. A name may end in `*`; a line that begins with `#` is a comment.
#[derive(Debug)]
pub struct Allowed {
    names: Vec<String>,
}

impl Allowed {
    /// Reads the list.
    ///
    /// # Errors
    /// The line that has no reason.
    pub fn parse(text: &str) -> Result<Self, String> {
        let lines = text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#'));
        let names = lines.map(|line| match line.split_once(" # ") {
            Some((name, _)) => Ok(name.trim().to_owned()),
            None => Err(format!("no reason given: {line:?}")),
        });
        Ok(Self { names: names.collect::<Result<_, _>>()? })
    }

    /// What is wrong about `ignored`, the ignored tests of `rows`: one that is not on the list, or a name on the list
    /// for one of the rows that none of them has.
    #[must_use]
    pub fn faults(&self, ignored: &BTreeSet<String>, rows: &BTreeSet<String>) -> Vec<String> {
        let unlisted = ignored.iter().filter(|name| !self.names.iter().any(|allowed| fits(allowed, name)));
        let mine = self.names.iter().filter(|allowed| rows.contains(allowed.split("::").next().unwrap_or_default()));
        let unused = mine.filter(|allowed| !ignored.iter().any(|name| fits(allowed, name)));
        unlisted
            .map(|name| format!("{name} is ignored, but not on the allowed list"))
            .chain(unused.map(|name| format!("{name} is on the allowed list, but no such test is ignored")))
            .collect()
    }
}

fn fits(allowed: &str, name: &str) -> bool {
    match allowed.strip_suffix('*') {
        Some(prefix) => name.starts_with(prefix),
        None => name == allowed,
    }
}
