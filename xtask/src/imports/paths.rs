//! Looks for paths in the tokens of one source file.

use std::ops::Range;

use super::lex::{Token, tokens};

/// Places that break a rule: a line and what it names.
pub(super) type Hits = Vec<(usize, String)>;

/// One source file.
#[derive(Debug)]
pub(super) struct Source {
    all: Vec<Token>,
    /// Where `use` and `extern crate` declarations stand, without that word.
    declared: Vec<Range<usize>>,
}

impl Source {
    /// The whole of `text`.
    pub(super) fn new(text: &str) -> Self {
        Self::of(tokens(text))
    }

    /// `text` without tests: nothing of a file named for tests, else all before `#[cfg(test)] mod tests`.
    pub(super) fn shipped(text: &str, path: &str) -> Self {
        if path.ends_with("/tests.rs") || path.contains("/tests/") {
            return Self::of(Vec::new());
        }
        let mut all = tokens(text);
        let module = ["#", "[", "cfg", "(", "test", ")", "]", "mod", "tests"];
        let tests = all.windows(module.len()).position(|window| window.iter().zip(module).all(|(t, m)| t.text == m));
        all.truncate(tests.unwrap_or(all.len()));
        Self::of(all)
    }

    fn of(all: Vec<Token>) -> Self {
        let mut source = Self { all, declared: Vec::new() };
        for at in 0..source.all.len() {
            let declares = match source.text(at) {
                // `impl Trait + use<'a>` captures, it declares nothing
                "use" => source.text(at + 1) != "<",
                "crate" => source.before(at) == "extern",
                _ => false,
            };
            if declares {
                let end = (at..source.all.len()).find(|&i| source.text(i) == ";").unwrap_or(source.all.len());
                source.declared.push(at + 1..end);
            }
        }
        source
    }

    fn text(&self, at: usize) -> &str {
        self.all.get(at).map_or("", |token| &token.text)
    }

    /// The token before `at`, or nothing.
    fn before(&self, at: usize) -> &str {
        at.checked_sub(1).map_or("", |at| self.text(at))
    }

    fn hit(&self, at: usize) -> (usize, String) {
        (self.all[at].line, self.text(at).to_owned())
    }

    fn is_declared(&self, at: usize) -> bool {
        self.declared.iter().any(|range| range.contains(&at))
    }

    /// Whether a path begins at `at`: a segment follows (not the types of a generic call), and none stands before it.
    fn begins_path(&self, at: usize) -> bool {
        self.text(at + 1) == "::" && self.text(at + 2) != "<" && self.is_first(at)
    }

    fn is_first(&self, at: usize) -> bool {
        let inner = self.before(at) == "::" && at >= 2 && (is_name(self.text(at - 2)) || self.text(at - 2) == ">");
        !inner && self.before(at) != "."
    }

    /// The first segments of what a declaration names: one, or each of the group that begins it.
    fn heads(&self, range: &Range<usize>) -> Vec<usize> {
        let start = range.start + usize::from(self.text(range.start) == "::");
        if self.text(start) != "{" {
            return vec![start];
        }
        let mut depth = 0;
        let mut heads = Vec::new();
        for at in start..range.end {
            match self.text(at) {
                "{" => depth += 1,
                "}" => depth -= 1,
                name if depth == 1 && is_name(name) && matches!(self.before(at), "{" | ",") => heads.push(at),
                _ => {}
            }
        }
        heads
    }

    fn all_heads(&self) -> Vec<usize> {
        self.declared.iter().flat_map(|range| self.heads(range)).collect()
    }

    /// Crates that are named and not in `allowed`.
    pub(super) fn only_crates(&self, allowed: &[&str]) -> Hits {
        let heads = self.all_heads();
        // a module of the file's own, or a name that a declaration brought in, may begin a path too
        let own = (0..self.all.len()).filter(|&at| self.before(at) == "mod" || self.is_declared(at));
        let known: Vec<&str> = own.filter(|at| !heads.contains(at)).map(|at| self.text(at)).collect();
        (0..self.all.len())
            .filter(|&at| {
                let name = self.text(at);
                let lower = name.starts_with(|c: char| c.is_ascii_lowercase());
                let inline = lower && self.begins_path(at) && !self.is_declared(at) && !known.contains(&name);
                is_name(name) && (heads.contains(&at) || inline)
            })
            .filter(|&at| !allowed.contains(&self.text(at)) && !is_ours(self.text(at)))
            .map(|at| self.hit(at))
            .collect()
    }

    /// Those crates of `never` that are named.
    pub(super) fn never_crates(&self, never: &[&str]) -> Hits {
        let heads = self.all_heads();
        (0..self.all.len())
            .filter(|&at| never.contains(&self.text(at)))
            // within a declaration a later segment may follow a brace: `use crate::{redis::Redis}`
            .filter(|at| heads.contains(at) || (self.begins_path(*at) && !self.is_declared(*at)))
            .map(|at| self.hit(at))
            .collect()
    }

    /// Those modules of `never` that are named, as part of a declaration or of a path from the crate's root.
    pub(super) fn never_modules(&self, never: &[&str]) -> Hits {
        (0..self.all.len())
            .filter(|&at| never.contains(&self.text(at)))
            .filter(|&at| {
                let rooted = at >= 2 && self.before(at) == "::" && matches!(self.text(at - 2), "crate" | "super");
                rooted || self.is_declared(at)
            })
            .map(|at| self.hit(at))
            .collect()
    }

    /// Names of `krate` in public items and fields, and its traits on public types, save for items in `doors`.
    pub(super) fn not_public(&self, krate: &str, doors: &[&str]) -> Hits {
        let brought = self.brought_from(krate);
        let names_it = |at: usize| {
            let name = self.text(at);
            let label = self.before(at) == "fn" || self.text(at + 1) == ":";
            (name == krate && self.begins_path(at)) || (brought.contains(&name) && self.is_first(at) && !label)
        };
        let mut hits = Vec::new();
        for start in (0..self.all.len()).filter(|&at| self.text(at) == "pub" && self.text(at + 1) != "(") {
            let signature = start + 1..self.signature_end(start + 1);
            let is_door = |at: usize| doors.contains(&self.text(at)) && self.before(at) == "fn";
            if !signature.clone().any(is_door) {
                hits.extend(signature.filter(|&at| names_it(at)));
            }
        }
        for start in (0..self.all.len()).filter(|&at| self.text(at) == "impl" && self.is_first_word(at)) {
            let end = (start..self.all.len()).find(|&at| self.text(at) == "{").unwrap_or(self.all.len());
            let Some(of) = (start..end).rev().find(|&at| self.text(at) == "for") else { continue };
            let of_type = self.text(of + 1);
            if !doors.contains(&of_type) && self.is_public_type(of_type) {
                hits.extend((start..of).filter(|&at| names_it(at)));
            }
        }
        hits.into_iter().map(|at| (self.all[at].line, format!("{} in a public item", self.text(at)))).collect()
    }

    /// Whether an item begins at `at`, not a type such as `impl Trait`.
    fn is_first_word(&self, at: usize) -> bool {
        matches!(self.before(at), "" | ";" | "}" | "{" | "]" | "unsafe")
    }

    /// Whether this file declares `name` as a public type.
    fn is_public_type(&self, name: &str) -> bool {
        (2..self.all.len())
            .filter(|&at| self.text(at) == name && matches!(self.before(at), "struct" | "enum"))
            .any(|at| self.text(at - 2) == "pub")
    }

    /// The names that declarations bring in from `krate`, renamed or not.
    fn brought_from(&self, krate: &str) -> Vec<&str> {
        let from = self.declared.iter().filter(|range| self.heads(range).iter().any(|&at| self.text(at) == krate));
        from.flat_map(Clone::clone)
            .filter(|&at| matches!(self.text(at + 1), "," | "}" | ";"))
            .map(|at| self.text(at))
            .filter(|name| is_name(name) && *name != "self")
            .collect()
    }

    /// Where the public item or field that begins at `start` stops being public.
    fn signature_end(&self, start: usize) -> usize {
        let item = self.text(start);
        // an enum's variants and a trait's methods are as public as itself; a struct's fields say so one by one
        let with_body = matches!(item, "enum" | "trait" | "use");
        let mut depth = 0;
        for at in start..self.all.len() {
            match self.text(at) {
                ";" | "," | ")" | "}" if depth == 0 => return at,
                "{" if !with_body => return at,
                "(" if item == "struct" => return at,
                // the arrow of a function
                ">" if matches!(self.before(at), "-" | "=") => {}
                "(" | "[" | "<" | "{" => depth += 1,
                ")" | "]" | ">" => depth -= 1,
                "}" => {
                    depth -= 1;
                    if depth == 0 {
                        return at;
                    }
                }
                _ => {}
            }
        }
        self.all.len()
    }

    /// Other source files that are included by their path.
    pub(super) fn no_inclusion(&self) -> Hits {
        (0..self.all.len())
            .filter(|&at| match self.text(at) {
                "path" => self.before(at) == "[" && self.text(at + 1) == "=",
                "include" => self.text(at + 1) == "!",
                _ => false,
            })
            .map(|at| (self.all[at].line, format!("another source file by `{}`", self.text(at))))
            .collect()
    }
}

fn is_name(text: &str) -> bool {
    text.starts_with(|c: char| c == '_' || c.is_alphabetic())
}

/// The crate itself, a primitive type, or the namespace of a tool.
fn is_ours(name: &str) -> bool {
    let number = name.strip_prefix(['u', 'i', 'f']).is_some_and(|bits| bits == "size" || bits.parse::<u8>().is_ok());
    number || matches!(name, "crate" | "self" | "super" | "str" | "char" | "bool" | "clippy" | "rustfmt" | "rustdoc")
}
