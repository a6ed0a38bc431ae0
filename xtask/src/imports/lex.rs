//! Just enough of a Rust lexer to look for paths: identifiers and punctuation, without comments and literals.

/// A word or a punctuation mark of a source file; `::` is one mark.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Token {
    /// The line it stands on, from 1.
    pub(super) line: usize,
    /// Its text.
    pub(super) text: String,
}

/// The tokens of `source`. Comments, strings, characters and lifetimes are left out.
pub(super) fn tokens(source: &str) -> Vec<Token> {
    let chars: Vec<char> = source.chars().collect();
    let mut tokens = Vec::new();
    let mut line = 1;
    let mut at = 0;
    while let Some(&c) = chars.get(at) {
        let end = match c {
            '/' if chars.get(at + 1) == Some(&'/') => line_comment(&chars, at),
            '/' if chars.get(at + 1) == Some(&'*') => block_comment(&chars, at),
            '"' => string(&chars, at),
            '\'' => quote(&chars, at),
            c if is_word(c) => {
                let end = run_of(&chars, at, is_word);
                let word: String = chars[at..end].iter().collect();
                match raw_string(&chars, end, &word) {
                    Some(end) => end,
                    None => {
                        tokens.push(Token { line, text: word });
                        end
                    }
                }
            }
            ':' if chars.get(at + 1) == Some(&':') => {
                tokens.push(Token { line, text: "::".into() });
                at + 2
            }
            c => {
                if !c.is_whitespace() {
                    tokens.push(Token { line, text: c.into() });
                }
                at + 1
            }
        };
        line += chars[at..end].iter().filter(|c| **c == '\n').count();
        at = end;
    }
    tokens
}

fn is_word(c: char) -> bool {
    c == '_' || c.is_alphanumeric()
}

fn run_of(chars: &[char], at: usize, belongs: impl Fn(char) -> bool) -> usize {
    chars[at..].iter().position(|c| !belongs(*c)).map_or(chars.len(), |n| at + n)
}

fn line_comment(chars: &[char], at: usize) -> usize {
    run_of(chars, at, |c| c != '\n')
}

fn block_comment(chars: &[char], at: usize) -> usize {
    let mut depth = 0;
    let mut at = at;
    while at < chars.len() {
        match (chars[at], chars.get(at + 1)) {
            ('/', Some('*')) => (depth, at) = (depth + 1, at + 2),
            ('*', Some('/')) => (depth, at) = (depth - 1, at + 2),
            _ => at += 1,
        }
        if depth == 0 {
            break;
        }
    }
    at.min(chars.len())
}

fn string(chars: &[char], at: usize) -> usize {
    let mut at = at + 1;
    while at < chars.len() && chars[at] != '"' {
        at += if chars[at] == '\\' { 2 } else { 1 };
    }
    (at + 1).min(chars.len())
}

/// The end of a raw string whose prefix is `word` and whose hashes begin at `at`.
fn raw_string(chars: &[char], at: usize, word: &str) -> Option<usize> {
    if !matches!(word, "r" | "br" | "cr") {
        return None;
    }
    let open = run_of(chars, at, |c| c == '#');
    if chars.get(open) != Some(&'"') {
        return None;
    }
    let hashes = open - at;
    let close = (open + 1..chars.len())
        .find(|&i| chars[i] == '"' && chars.get(i + 1..=i + hashes).is_some_and(|tail| tail.iter().all(|c| *c == '#')));
    Some(close.map_or(chars.len(), |i| i + 1 + hashes))
}

/// The end of a character literal, or of a lifetime.
fn quote(chars: &[char], at: usize) -> usize {
    match (chars.get(at + 1), chars.get(at + 2)) {
        (Some('\\'), _) => (at + 3..chars.len()).find(|&i| chars[i] == '\'').map_or(chars.len(), |i| i + 1),
        (Some(_), Some('\'')) => at + 3,
        _ => run_of(chars, at + 1, is_word),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(source: &str) -> Vec<String> {
        tokens(source).into_iter().map(|token| token.text).collect()
    }

    #[test]
    fn comments_and_literals_are_left_out() {
        assert_eq!(words("a // b\nc /* d /* e */ f */ g"), ["a", "c", "g"]);
        assert_eq!(words(r##"a "b \" c" d r#"e " f"# g b"h" i"##), ["a", "d", "g", "b", "i"]);
        assert_eq!(words(r"a 'b' c '\'' d '\\' e 'f g"), ["a", "c", "d", "e", "g"]);
    }

    #[test]
    fn what_never_ends_ends_with_the_file() {
        for open in ["a \"b", "a /* b", "a r#\"b\"", "a '\\", "a \"b\\"] {
            assert_eq!(words(open), ["a"], "{open}");
        }
    }

    #[test]
    fn paths_and_lines_are_kept() {
        let all = tokens("use a::b;\n\"x\ny\" c");
        assert_eq!(all.iter().map(|t| t.text.as_str()).collect::<Vec<_>>(), ["use", "a", "::", "b", ";", "c"]);
        assert_eq!(all.last().map(|t| t.line), Some(3));
    }
}
