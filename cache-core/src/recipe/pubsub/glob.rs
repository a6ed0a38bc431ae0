//! Patterns, as Redis matches them.

/// Whether all of `text` matches `pattern`. Time is at most the product of both lengths.
pub(super) fn matches(pattern: &str, text: &str) -> bool {
    let (pattern, text) = (pattern.as_bytes(), text.as_bytes());
    let (mut p, mut t) = (0, 0);
    // where to go on if the text after the last star does not fit
    let mut star: Option<(usize, usize)> = None;
    loop {
        if pattern.get(p) == Some(&b'*') {
            p += 1;
            star = Some((p, t));
            continue;
        }
        let Some(byte) = text.get(t) else { return pattern.get(p..).is_none_or(<[u8]>::is_empty) };
        match one(pattern.get(p..).unwrap_or_default(), *byte) {
            Some(length) => {
                p += length;
                t += 1;
            }
            None => match &mut star {
                Some((after, from)) => {
                    *from += 1;
                    (p, t) = (*after, *from);
                }
                None => return false,
            },
        }
    }
}

/// The length of the first element of `pattern`, if it matches `byte`.
fn one(pattern: &[u8], byte: u8) -> Option<usize> {
    match pattern {
        [b'?', ..] => Some(1),
        [b'[', rest @ ..] => class(rest, byte).map(|length| length + 1),
        [b'\\', escaped, ..] => (*escaped == byte).then_some(2),
        [plain, ..] => (*plain == byte).then_some(1),
        [] => None,
    }
}

/// The length of a class with its closing bracket, if it matches. One that is never closed ends with the pattern.
fn class(class: &[u8], byte: u8) -> Option<usize> {
    let (not, mut at) = if class.first() == Some(&b'^') { (true, 1) } else { (false, 0) };
    let mut found = false;
    loop {
        match class.get(at..).unwrap_or_default() {
            [] => break,
            [b']', ..] => {
                at += 1;
                break;
            }
            [b'\\', escaped, ..] => {
                found |= *escaped == byte;
                at += 2;
            }
            [low, b'-', high, ..] => {
                found |= (*low.min(high)..=*low.max(high)).contains(&byte);
                at += 3;
            }
            [plain, ..] => {
                found |= *plain == byte;
                at += 1;
            }
        }
    }
    (found != not).then_some(at)
}

#[cfg(test)]
mod tests {
    use super::matches;

    #[test]
    fn patterns_match_as_on_a_server() {
        for (pattern, text) in [
            ("*", ""),
            ("*", "anything.at.all"),
            ("orders.*", "orders.eu.7"),
            ("*.eu.*", "orders.eu.7"),
            ("a*b*c", "axxbyybzc"),
            ("?", "a"),
            ("h?llo", "hallo"),
            ("h[ae]llo", "hello"),
            ("h[a-c]llo", "hbllo"),
            ("h[c-a]llo", "hbllo"),
            ("h[^e]llo", "hallo"),
            (r"a\*b", "a*b"),
            (r"[\]]", "]"),
            ("[abc", "b"),
            ("", ""),
        ] {
            assert!(matches(pattern, text), "{pattern:?} on {text:?}");
        }
        for (pattern, text) in [
            ("", "a"),
            ("?", ""),
            ("orders.*", "orders"),
            ("h[ae]llo", "hillo"),
            ("h[^e]llo", "hello"),
            (r"a\*b", "axb"),
            ("a*b", "ab "),
            ("[]", "]"),
        ] {
            assert!(!matches(pattern, text), "{pattern:?} on {text:?}");
        }
        let stars = "*a".repeat(200) + "b";
        assert!(!matches(&stars, &"a".repeat(2000)));
    }
}
