//! The layout of keys: near, physical, and the lines' own.

use std::sync::Arc;

use arrayvec::ArrayString;
use cache_core::{Error, ErrorKind, Line, MAX_KEY, Parted, Result, check_key};

use crate::policy::all_mistakes;

/// How keys are written.
///
/// With one line: `ns:k:<space>:<key>`, `ns:seq`, `ns:ch`, `ns:tags:<period>`. With many (a cluster), the line's number
/// stands as a hash tag behind the namespace, so that all of a line is in one slot: `ns:{7}:k:<space>:<key>`.
///
/// A near key begins with its engine's number, not with the namespace: a near store may serve several engines, or outlive
/// one, and an entry in it is only as good as the tracking of the engine that put it there.
#[derive(Clone, Debug)]
pub(crate) struct Names {
    lines: usize,
    namespace: String,
    /// What every near key begins with.
    near: String,
    /// What the keys of each line begin with; the last is the longest.
    prefixes: Box<[String]>,
}

/// A key in every form that the engine needs, built once a miss.
#[derive(Clone, Debug)]
pub(crate) struct Where {
    /// The key in the near store and the flight table: `<engine>:<space>:<key>`.
    pub(crate) near: Arc<str>,
    /// The key in the far store.
    pub(crate) far: Arc<str>,
    /// The index of its line.
    pub(crate) line: usize,
}

/// Refuses a name that could not be told from its neighbours in a key.
pub(crate) fn check_name(what: &str, name: &str) -> Result<()> {
    let odd = |c: char| c == ':' || c == '{' || c == '}' || c.is_control() || c.is_whitespace();
    let mut found = Vec::new();
    if name.is_empty() {
        found.push(format!("{what} is empty"));
    }
    if name.len() > 64 {
        found.push(format!("{what} is longer than 64 bytes"));
    }
    if name.contains(odd) {
        found.push(format!("{what} holds ':', '{{', '}}', white space or a control character"));
    }
    all_mistakes(&found)
}

impl Names {
    /// The names of a namespace, for the engine that is the `engine`th of its process.
    pub(crate) fn new(ns: &str, lines: usize, engine: u64) -> Self {
        let prefix = |line| if lines == 1 { format!("{ns}:") } else { format!("{ns}:{{{line}}}:") };
        let prefixes = (0..lines.max(1)).map(prefix).collect();
        Self { lines, namespace: ns.to_owned(), near: format!("{engine}:"), prefixes }
    }

    /// What the near keys of `space` begin with.
    pub(crate) fn near_prefix(&self, space: &str) -> String {
        format!("{}{space}:", self.near)
    }

    /// The near form of a plain key, which is of the space without a name.
    pub(crate) fn near_of_plain(&self, key: &str) -> String {
        let mut near = String::with_capacity(self.near.len() + 1 + key.len());
        for part in [&self.near, ":", key] {
            near.push_str(part);
        }
        near
    }

    /// What near keys begin with, as all processes name it: with the namespace.
    pub(crate) fn shared(&self, near_prefix: &str) -> String {
        format!("{}:{}", self.namespace, &near_prefix[self.near.len()..])
    }

    /// The longest that a key of `space` may be, so that its physical form is a key too.
    pub(crate) fn max_key(&self, space: &str) -> usize {
        let longest = self.longest() + "k:".len() + space.len() + ":".len();
        MAX_KEY.saturating_sub(longest)
    }

    /// The forms of the key whose near form is `near`.
    pub(crate) fn locate(&self, near: &str) -> Result<Where> {
        self.locate_shared(near.into())
    }

    /// As [`locate`](Self::locate), for a text that is shared already.
    pub(crate) fn locate_shared(&self, near: Arc<str>) -> Result<Where> {
        let (line, logical) = self.admit(&near)?;
        // on the stack first, so that the text is allocated once
        let mut far = ArrayString::<MAX_KEY>::new();
        for part in [self.prefix(line), "k:", logical] {
            // it fits: the longest would
            let _ = far.try_push_str(part);
        }
        Ok(Where { far: far.as_str().into(), near, line })
    }

    /// Appends the physical form of the key whose near form is `near`; the index of its line.
    pub(crate) fn append_far(&self, near: &str, out: &mut String) -> Result<usize> {
        let (line, logical) = self.admit(near)?;
        out.push_str(self.prefix(line));
        out.push_str("k:");
        out.push_str(logical);
        Ok(line)
    }

    /// The line and the physical form of a plain key, which was [checked](check_key).
    pub(crate) fn far_of_plain(&self, key: &str) -> Result<(usize, String)> {
        let mut far = String::with_capacity(self.longest() + "k::".len() + key.len());
        let line = self.append_far_of_plain(key, &mut far)?;
        Ok((line, far))
    }

    /// As [`far_of_plain`](Self::far_of_plain), appended to `out`.
    #[inline]
    pub(crate) fn append_far_of_plain(&self, key: &str, out: &mut String) -> Result<usize> {
        if self.longest() + "k::".len() + key.len() > MAX_KEY {
            return Err(too_long());
        }
        let line = if self.lines == 1 { 0 } else { usize::from(crc16(crc16(0, b":"), key.as_bytes())) % self.lines };
        for part in [self.prefix(line), "k::", key] {
            out.push_str(part);
        }
        Ok(line)
    }

    /// The line and the logical form of a key, if it is one.
    fn admit<'a>(&self, near: &'a str) -> Result<(usize, &'a str)> {
        let logical = &near[self.near.len()..];
        // an empty key leaves only its space
        if logical.ends_with(':') && logical.find(':') == Some(logical.len() - 1) {
            return Err(Error::new(ErrorKind::Invalid, "key is empty"));
        }
        // as if its line's number were the longest, so that whether a key is taken does not hang on its hash
        if self.longest() + "k:".len() + logical.len() > MAX_KEY {
            return Err(too_long());
        }
        // what stands before it holds no control character, and it is never empty
        check_key(logical)?;
        Ok((self.line_of(logical), logical))
    }

    /// The key under which processes agree who refreshes a key; `None` where it would be too long.
    pub(crate) fn refresh_key(&self, at: &Where) -> Option<Arc<str>> {
        let logical = at.far.strip_prefix(self.prefix(at.line))?.strip_prefix("k:")?;
        let key = format!("{}r:{logical}", self.prefix(at.line));
        check_key(&key).is_ok().then(|| key.into())
    }

    /// The near form of a physical key of `line`; `None` if it isn't one.
    pub(crate) fn near_of(&self, line: usize, far: &str) -> Option<String> {
        let logical = far.strip_prefix(self.prefix(line))?.strip_prefix("k:")?;
        Some(format!("{}{logical}", self.near))
    }

    /// The names of the line with this index.
    pub(crate) fn line(&self, index: usize) -> Line {
        let prefix = self.prefix(index);
        Line { seq: format!("{prefix}seq"), channel: format!("{prefix}ch"), tags: format!("{prefix}tags:") }
    }

    /// The index of the line of a near key.
    #[inline]
    pub(crate) fn line_of_near(&self, near: &str) -> usize {
        if self.lines == 1 { 0 } else { self.line_of(&near[self.near.len()..]) }
    }

    /// As [`line_of_near`](Self::line_of_near), for a key in two parts.
    #[inline]
    pub(crate) fn line_of_parted(&self, near: &Parted<'_>) -> usize {
        if self.lines == 1 { 0 } else { self.line_of_parts(near) }
    }

    fn line_of_parts(&self, near: &Parted<'_>) -> usize {
        let head = crc16(0, &near.head().as_bytes()[self.near.len()..]);
        usize::from(crc16(head, near.rest().as_bytes())) % self.lines
    }

    fn prefix(&self, line: usize) -> &str {
        self.prefixes.get(line).map_or("", String::as_str)
    }

    /// As long as any line's prefix is.
    fn longest(&self) -> usize {
        self.prefixes.last().map_or(0, String::len)
    }

    fn line_of(&self, logical: &str) -> usize {
        if self.lines == 1 { 0 } else { usize::from(crc16(0, logical.as_bytes())) % self.lines }
    }
}

fn too_long() -> Error {
    let text = format!("key with its namespace and space is longer than {MAX_KEY} bytes; hash its long part");
    Error::new(ErrorKind::Invalid, text)
}

/// CRC-16/XMODEM, as Redis Cluster uses it, of what `before` is that of and `bytes`. By a table: every near hit of a cluster
/// asks.
fn crc16(before: u16, bytes: &[u8]) -> u16 {
    bytes.iter().fold(before, |crc, byte| (crc << 8) ^ REST[usize::from((crc >> 8) as u8 ^ byte)])
}

/// What the division leaves of each byte.
static REST: [u16; 256] = {
    let mut rest = [0; 256];
    let mut at = 0;
    while at < 256 {
        let (mut crc, mut bits) = ((at as u16) << 8, 8);
        while bits > 0 {
            crc = if crc & 0x8000 == 0 { crc << 1 } else { (crc << 1) ^ 0x1021 };
            bits -= 1;
        }
        rest[at] = crc;
        at += 1;
    }
    rest
};

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_go_to_the_far_store_and_back() {
        for lines in [1, 64] {
            let names = Names::new("shop", lines, 3);
            let at = names.locate("3:users:4:2").unwrap();
            assert_eq!(names.near_of(at.line, &at.far).as_deref(), Some("3:users:4:2"));
            assert!(names.line(at.line).seq.starts_with(&at.far[..5]));
            assert_eq!(names.line_of_parted(&Parted::cut("3:users:4:2")), at.line);
        }
        assert_eq!(&*Names::new("shop", 1, 12).locate("12:users:42").unwrap().far, "shop:k:users:42");
        assert_eq!(Names::new("shop", 1, 12).shared("12:users:"), "shop:users:");
    }

    #[test]
    fn foreign_keys_have_no_near_form() {
        let names = Names::new("shop", 1, 0);
        for key in ["shop:seq", "shopx:k:users:1", "k:users:1", ""] {
            assert_eq!(names.near_of(0, key), None);
        }
    }

    #[test]
    fn empty_and_bad_keys_are_refused() {
        let names = Names::new("shop", 1, 0);
        for near in ["0:users:", "0::", "0:users:a\nb"] {
            assert_eq!(names.locate(near).unwrap_err().kind(), ErrorKind::Invalid, "{near:?}");
        }
        for name in ["", "a:b", "a b", "{a}", &"x".repeat(65)] {
            assert!(check_name("space", name).is_err(), "{name:?}");
        }
    }

    #[test]
    fn a_key_is_too_long_whichever_line_it_falls_on() {
        let names = Names::new("shop", 16, 0);
        let most = names.max_key("users");
        for n in 0..32 {
            let key = |len: usize| format!("0:users:{n:0>len$}");
            assert!(names.locate(&key(most)).is_ok());
            assert!(names.locate(&key(most + 1)).is_err());
        }
    }

    #[test]
    fn a_plain_key_has_one_physical_form_whichever_way_it_is_found() {
        for lines in [1, 64] {
            let names = Names::new("shop", lines, 3);
            for key in ["a", "a:b", &"x".repeat(names.max_key("")), &"x".repeat(names.max_key("") + 1)] {
                let located = names.locate(&names.near_of_plain(key));
                match (located, names.far_of_plain(key)) {
                    (Ok(at), Ok((line, far))) => assert_eq!((at.line, &*at.far), (line, &*far)),
                    (Err(located), Err(plain)) => assert_eq!(located.to_string(), plain.to_string()),
                    (located, plain) => panic!("{located:?} and {plain:?}"),
                }
            }
        }
    }

    #[test]
    fn crc16_is_redis_clusters() {
        assert_eq!(crc16(0, b"123456789"), 0x31c3);
        assert_eq!(crc16(crc16(0, b"1234"), b"56789"), 0x31c3);
    }
}
