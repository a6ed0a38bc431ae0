//! Sessions: an index and a hash of data in one slot, so that a step is one script.

use async_trait::async_trait;
use bytes::Bytes;
use cache_core::Result;
use cache_core::recipe::session::{Held, SessionStore, Times};

use crate::error;
use crate::script::{self, Call, Script};
use crate::service::Redis;

/// What a script tells of a session: what it holds, and when it ends in ms.
type Told = (Bytes, u64);

#[async_trait]
impl SessionStore for Redis {
    async fn open(
        &self,
        place: &str,
        name: &str,
        owner: &str,
        payload: Bytes,
        idle_ms: u64,
        absolute_ms: u64,
    ) -> Result<()> {
        let call = on(&script::SESSION_OPEN, place).arg(name).arg(owner).arg(&payload[..]);
        let _: bool = call.arg(idle_ms).arg(absolute_ms).run(self.link(), "open").await?;
        Ok(())
    }

    async fn look(&self, place: &str, name: &str) -> Result<Option<Held>> {
        let told: Option<Told> = on(&script::SESSION_LOOK, place).arg(name).run(self.link(), "look").await?;
        told.map(|told| held("look", told)).transpose()
    }

    async fn touch(&self, place: &str, name: &str, idle_ms: u64) -> Result<Option<Held>> {
        let call = on(&script::SESSION_TOUCH, place).arg(name).arg(idle_ms);
        let told: Option<Told> = call.run(self.link(), "touch").await?;
        told.map(|told| held("touch", told)).transpose()
    }

    async fn save(&self, place: &str, name: &str, payload: Bytes, idle_ms: u64) -> Result<bool> {
        let call = on(&script::SESSION_SAVE, place).arg(name).arg(&payload[..]).arg(idle_ms);
        call.run(self.link(), "save").await
    }

    async fn rename(&self, place: &str, name: &str, to: &str, idle_ms: u64) -> Result<bool> {
        on(&script::SESSION_RENAME, place).arg(name).arg(to).arg(idle_ms).run(self.link(), "rename").await
    }

    async fn end(&self, place: &str, name: &str) -> Result<bool> {
        on(&script::SESSION_END, place).arg(name).run(self.link(), "end").await
    }

    async fn end_all(&self, place: &str, except: Option<&str>) -> Result<u64> {
        on(&script::SESSION_END_ALL, place).arg(except.unwrap_or_default()).run(self.link(), "end_all").await
    }

    async fn list(&self, place: &str) -> Result<Vec<(String, Held)>> {
        let all: Vec<Bytes> = on(&script::SESSION_LIST, place).run(self.link(), "list").await?;
        let one = |parts: &[Bytes]| match parts {
            [name, at, kept] => {
                let name = String::from_utf8(name.to_vec()).ok()?;
                let at = std::str::from_utf8(at).ok()?.parse().ok()?;
                Some(held("list", (kept.clone(), at)).map(|held| (name, held)))
            }
            _ => None,
        };
        all.chunks(3).map(|parts| one(parts).unwrap_or_else(|| Err(error::unexpected("list")))).collect()
    }
}

fn on(script: &'static Script, place: &str) -> Call {
    script.on(&[place, &format!("{place}:data")])
}

/// `created:ends:length of owner:owner payload`.
fn held(operation: &'static str, (kept, expires): Told) -> Result<Held> {
    parse(&kept, expires).ok_or_else(|| error::unexpected(operation))
}

fn parse(kept: &Bytes, expires: u64) -> Option<Held> {
    let mut rest = &kept[..];
    let mut number = || {
        let colon = rest.iter().position(|byte| *byte == b':')?;
        let (digits, tail) = rest.split_at_checked(colon)?;
        rest = tail.get(1..)?;
        std::str::from_utf8(digits).ok()?.parse::<u64>().ok()
    };
    let (created, ends, owner) = (number()?, number()?, usize::try_from(number()?).ok()?);
    let (owner, payload) = rest.split_at_checked(owner)?;
    let owner = std::str::from_utf8(owner).ok()?.to_owned();
    Some(Held { times: Times { created, expires, ends }, owner, payload: kept.slice_ref(payload) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_session_holds_is_read_and_anything_else_is_not() {
        let kept = Bytes::from_static(b"1:2:3:ada\0:x");
        let held = parse(&kept, 9).unwrap();
        assert_eq!((held.times, &*held.owner), (Times { created: 1, expires: 9, ends: 2 }, "ada"));
        assert_eq!(held.payload, &b"\0:x"[..]);
        for bad in ["", "1", "1:2:3", "1:2:3:ad", "1:2:-1:ada", "x:2:0:", "1:2:18446744073709551616:a", ":::"] {
            assert_eq!(parse(&Bytes::from(bad), 9), None, "{bad:?}");
        }
    }
}
