//! [`LockStore`]: a hash a lock, and one subscription for all that this process waits for.

mod hub;

use async_trait::async_trait;
use cache_core::recipe::lock::{Claim, Claimed, LockStore, Seat, Token};
use cache_core::{Result, check_ttl};
use std::time::Duration;

pub(crate) use self::hub::Hub;
use crate::error::unexpected;
use crate::script;
use crate::service::{Redis, checked, millis};

#[async_trait]
impl LockStore for Redis {
    async fn acquire(&self, key: &str, claim: &Claim) -> Result<Claimed> {
        checked(key, "acquire")?;
        let ttl = millis(claim.ttl, "acquire")?;
        let stay = match claim.queue {
            None => String::new(),
            Some(stay) => check_ttl(stay).unwrap_or(0).to_string(),
        };
        let call = script::LOCK_ACQUIRE.on(&[key]).arg(claim.token.as_str()).arg(ttl).arg(stay);
        match call.run(self.link(), "acquire").await? {
            (1_u8, fence) => Ok(Claimed::Granted { fence }),
            (0, left) => Ok(Claimed::Held { left: Duration::from_millis(left) }),
            _ => Err(unexpected("acquire")),
        }
    }

    async fn extend(&self, key: &str, token: &Token, ttl: Duration) -> Result<bool> {
        checked(key, "extend")?;
        let ttl = millis(ttl, "extend")?;
        script::LOCK_EXTEND.on(&[key]).arg(token.as_str()).arg(ttl).run(self.link(), "extend").await
    }

    async fn release(&self, key: &str, token: &Token) -> Result<bool> {
        checked(key, "release")?;
        // the channel is called as the key: so it is in the key's slot, and within what a user may touch
        let call = script::LOCK_RELEASE.on(&[key]).arg(token.as_str()).arg(self.link().publish()).arg(key);
        call.run(self.link(), "release").await
    }

    async fn listen(&self, key: &str, token: &Token) -> Result<Seat> {
        checked(key, "listen")?;
        self.hub().listen(self.link(), key, token).await
    }
}

#[cfg(all(test, feature = "testkit"))]
mod tests;
