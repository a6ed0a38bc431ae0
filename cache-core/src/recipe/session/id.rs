//! Ids, which are secret, and names, which are not.

use std::fmt::{self, Write};

use ring::digest::{Context, SHA256};

/// Bytes that say where a session is kept.
const PLACE: usize = 16;
/// Bytes that only its owner knows.
const SECRET: usize = 24;

/// The id of a session, to be given to its owner only: in a cookie with `HttpOnly`, `Secure` and `SameSite`.
#[derive(Clone, PartialEq, Eq)]
pub struct SessionId {
    place: [u8; PLACE],
    secret: [u8; SECRET],
}

/// What a session is called in the store and in lists: a hash of its id, from which the id can't be found.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SessionName([u8; 16]);

impl SessionId {
    /// The length of an id's text.
    pub const LEN: usize = 2 * (PLACE + SECRET);

    /// A fresh id for a session in the place of `user`, or in one of its own.
    pub(super) fn fresh(prefix: &str, user: Option<&str>) -> Self {
        Self { place: user.map_or_else(random, |user| place(prefix, user)), secret: random() }
    }

    /// A fresh id in the same place.
    pub(super) fn renewed(&self) -> Self {
        Self { place: self.place, secret: random() }
    }

    /// The id that `text` spells, as [`expose`](Self::expose) writes it; `None` for anything else, such as a cookie
    /// that somebody made up.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let (place, secret) = text.split_at_checked(2 * PLACE)?;
        Some(Self { place: unhex(place)?, secret: unhex(secret)? })
    }

    /// The id's text, 80 hex digits: a secret, for the owner's cookie and nowhere else.
    #[must_use]
    pub fn expose(&self) -> String {
        hex(&[&self.place[..], &self.secret].concat())
    }

    /// What the session is called in the store and in lists.
    #[must_use]
    pub fn name(&self) -> SessionName {
        SessionName(hash(&[b"session", &self.place, &self.secret]))
    }

    /// Where the session is kept, as hex digits.
    pub(super) fn place(&self) -> String {
        hex(&self.place)
    }
}

/// The place of a user's sessions, as hex digits.
pub(super) fn place_of(prefix: &str, user: &str) -> String {
    hex(&place(prefix, user))
}

fn place(prefix: &str, user: &str) -> [u8; PLACE] {
    hash(&[b"user", prefix.as_bytes(), user.as_bytes()])
}

impl SessionName {
    /// The name of a session whose id another library made.
    #[must_use]
    pub fn of(id: &[u8]) -> Self {
        Self(hash(&[b"other", id]))
    }

    /// The name that `text` spells, as `Display` writes it.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        unhex(text).map(Self)
    }
}

impl fmt::Display for SessionName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex(&self.0))
    }
}

impl fmt::Debug for SessionName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SessionName({self})")
    }
}

impl fmt::Debug for SessionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SessionId(..)")
    }
}

/// The first half of the SHA-256 of `parts`, each with its length, so that no two lists of parts meet.
fn hash(parts: &[&[u8]]) -> [u8; 16] {
    let mut context = Context::new(&SHA256);
    for part in parts {
        context.update(&(part.len() as u64).to_le_bytes());
        context.update(part);
    }
    let mut half = [0; 16];
    half.iter_mut().zip(context.finish().as_ref()).for_each(|(to, from)| *to = *from);
    half
}

fn random<const N: usize>() -> [u8; N] {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes).expect("the operating system gives random numbers");
    bytes
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::with_capacity(2 * bytes.len()), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

/// Exactly `N` bytes in lower-case hex.
fn unhex<const N: usize>(text: &str) -> Option<[u8; N]> {
    let digits = text.as_bytes();
    if digits.len() != 2 * N || !digits.iter().all(|digit| matches!(digit, b'0'..=b'9' | b'a'..=b'f')) {
        return None;
    }
    let mut bytes = [0; N];
    for (byte, pair) in bytes.iter_mut().zip(digits.chunks(2)) {
        *byte = u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok()?;
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_is_read_back_and_nothing_else_is_read() {
        let id = SessionId::fresh("session", Some("ada"));
        let text = id.expose();
        assert_eq!((text.len(), SessionId::parse(&text)), (SessionId::LEN, Some(id.clone())));
        assert_eq!(SessionName::parse(&id.name().to_string()), Some(id.name()));
        for bad in [
            String::new(),
            text[1..].to_owned(),
            format!("{text}0"),
            text.to_uppercase() + "A",
            "é".repeat(40),
            "+".repeat(80),
            format!("{}g", &text[..79]),
        ] {
            assert_eq!(SessionId::parse(&bad), None, "{bad:?}");
        }
    }

    #[test]
    fn an_id_is_not_shown_and_its_name_does_not_tell_it() {
        let id = SessionId::fresh("session", None);
        assert_eq!(format!("{id:?} {:?}", Some(&id)), "SessionId(..) Some(SessionId(..))");
        assert!(!id.expose().contains(&id.name().to_string()));
    }

    #[test]
    fn ids_differ_and_a_users_ids_share_a_place() {
        let ids: Vec<_> = (0..100).map(|_| SessionId::fresh("session", Some("ada"))).collect();
        let mut names: Vec<_> = ids.iter().map(SessionId::name).collect();
        names.sort();
        names.dedup();
        assert_eq!(names.len(), 100);
        assert!(ids.iter().all(|id| id.place() == place_of("session", "ada")));
        assert_ne!(place_of("session", "ada"), place_of("sessio", "nada"), "lengths are hashed too");
        assert_ne!(SessionId::fresh("s", None).place(), SessionId::fresh("s", None).place());
        assert_eq!((ids[0].renewed().place(), ids[0].renewed() == ids[0]), (ids[0].place(), false));
    }
}
