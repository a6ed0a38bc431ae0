//! Leases on single keys; the scripts are in `lua/`.

use std::pin::Pin;
use std::sync::atomic::Ordering;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use cache_core::envelope::HEADER;
use cache_core::{
    CacheService, Claim, ErrorKind, Fill, Found, Frame, Header, Lease, Leases, Result, Stamp, State, Wait,
};
use futures_util::stream::{self, StreamExt};
use redis::{FromRedisValue, Value};
use tokio::time::Instant;

use crate::connect::{Load, ROOM, Read};
use crate::error::{fault, map, unexpected};
use crate::script::{self, within};
use crate::service::{Redis, checked, millis, sized};

/// A claim is a request of its own: it takes the room of so many keys of one request.
const CLAIM: usize = 8;

#[async_trait]
impl Leases for Redis {
    async fn read(&self, key: &str) -> Result<Option<Found>> {
        checked(key, "read")?;
        let (pttl, frame): (i64, Option<Bytes>) = self.link().read("read", Read::Timed(key)).await?;
        Ok(frame.map(|frame| found(pttl, frame)))
    }

    async fn read_many(&self, keys: &[&str]) -> Result<Vec<Option<Bytes>>> {
        self.get_many(keys).await.map_err(|error| error.with_operation("read_many"))
    }

    async fn peek(&self, key: &str) -> Result<Option<Bytes>> {
        checked(key, "peek")?;
        let mut pipe = redis::pipe();
        pipe.cmd("GETRANGE").arg(key).arg(0).arg(HEADER - 1).cmd("EXISTS").arg(key);
        let (head, there): (Bytes, bool) = self.link().pipe("peek", &pipe).await?;
        Ok((there || !head.is_empty()).then_some(head))
    }

    async fn lease(&self, key: &str, token: Stamp, span: Duration) -> Result<Lease> {
        checked(key, "lease")?;
        let span = millis(span, "lease")?;
        if token == Stamp::NONE {
            return Err(fault(ErrorKind::Invalid, "the token is zero; take a random stamp").with_operation("lease"));
        }
        within(self.link(), "lease", self.ask(key, token, span)).await
    }

    async fn wait(&self, key: &str, holder: Stamp) -> Result<Wait> {
        checked(key, "wait")?;
        let call = script::WAIT.on(&[key]).arg(&holder.to_bytes()[..]);
        let mut reply = Parts::of(call.run(self.link(), "wait").await?, "wait");
        match reply.take::<u8>()? {
            0 => Ok(Wait::Changed(found(reply.take()?, reply.take()?))),
            1 => Ok(Wait::Flagged { left: ms(reply.take()?) }),
            2 => Ok(Wait::Missing),
            _ => Err(unexpected("wait")),
        }
    }

    async fn renew(&self, key: &str, token: Stamp, span: Duration) -> Result<bool> {
        checked(key, "renew")?;
        let span = millis(span, "renew")?;
        script::RENEW.on(&[key]).arg(&token.to_bytes()[..]).arg(span).run(self.link(), "renew").await
    }

    async fn fill(&self, key: &str, token: Stamp, frame: Bytes, ttl: Duration, channel: &str) -> Result<bool> {
        checked(key, "fill")?;
        sized(frame.len(), self.max_value(), "fill")?;
        let ttl = millis(ttl, "fill")?;
        let call = script::FILL.on(&[key]).arg(&token.to_bytes()[..]).arg(&frame[..]).arg(ttl);
        call.arg(channel).arg(self.link().publish()).run_kept(self.link(), "fill", key, &frame).await
    }

    async fn refresh(&self, key: &str, seen: Stamp, frame: Bytes, ttl: Duration) -> Result<bool> {
        checked(key, "refresh")?;
        sized(frame.len(), self.max_value(), "refresh")?;
        let ttl = millis(ttl, "refresh")?;
        let call = script::REFRESH.on(&[key]).arg(&seen.to_bytes()[..]).arg(&frame[..]).arg(ttl);
        call.run_kept(self.link(), "refresh", key, &frame).await
    }

    async fn touch(&self, key: &str, seen: Stamp, soft_exp: u64, ttl: Duration) -> Result<bool> {
        checked(key, "touch")?;
        let ttl = millis(ttl, "touch")?;
        let call = script::TOUCH.on(&[key]).arg(&seen.to_bytes()[..]).arg(&soft_exp.to_le_bytes()[..]).arg(ttl);
        call.run(self.link(), "touch").await
    }

    async fn release(&self, key: &str, token: Stamp, channel: &str) -> Result<bool> {
        checked(key, "release")?;
        let call = script::RELEASE.on(&[key]).arg(&token.to_bytes()[..]).arg(channel).arg(self.link().publish());
        call.run(self.link(), "release").await
    }

    async fn rest(&self, key: &str, token: Stamp, span: Duration, channel: &str) -> Result<bool> {
        checked(key, "rest")?;
        let span = millis(span, "rest")?;
        let call = script::REST.on(&[key]).arg(&token.to_bytes()[..]).arg(channel).arg(self.link().publish()).arg(span);
        call.run(self.link(), "rest").await
    }

    async fn discard(&self, key: &str, seen: &Bytes) -> Result<bool> {
        checked(key, "discard")?;
        script::CAD.on(&[key]).arg(&seen[..]).run(self.link(), "discard").await
    }

    // each call keeps its own deadline, error and redirection

    async fn lease_many(&self, claims: &[Claim<'_>], span: Duration) -> Vec<Result<Lease>> {
        let leases = claims.iter().map(|claim| (claim.key, 0, self.lease(claim.key, claim.token, span)));
        self.each("lease", leases.collect()).await
    }

    async fn renew_many(&self, claims: &[Claim<'_>], span: Duration) -> Vec<Result<bool>> {
        let renewals = claims.iter().map(|claim| (claim.key, 0, self.renew(claim.key, claim.token, span)));
        self.each("renew", renewals.collect()).await
    }

    async fn fill_many(&self, fills: &[Fill<'_>], channel: &str) -> Vec<Result<bool>> {
        let fills = fills.iter().map(|Fill { claim, frame, ttl }| {
            (claim.key, frame.len(), self.fill(claim.key, claim.token, frame.clone(), *ttl, channel))
        });
        self.each("fill", fills.collect()).await
    }

    async fn release_many(&self, claims: &[Claim<'_>], channel: &str) -> Vec<Result<bool>> {
        let releases = claims.iter().map(|claim| (claim.key, 0, self.release(claim.key, claim.token, channel)));
        self.each("release", releases.collect()).await
    }
}

/// A call about a key, with the bytes of values that it sends.
type Each<'a, T> = (&'a str, usize, Pin<Box<dyn Future<Output = Result<T>> + Send + 'a>>);

impl Redis {
    /// Makes calls, so many at once: on one connection they are one round trip. Once a server leaves one without an
    /// answer, the rest of its calls is not sent and has that error.
    async fn each<T>(&self, operation: &'static str, calls: Vec<Each<'_, T>>) -> Vec<Result<T>> {
        let begun = Instant::now();
        let calls: Vec<_> = calls
            .into_iter()
            .map(|(key, bytes, call)| async move {
                self.link().paced(operation, key.as_bytes(), Load { keys: CLAIM, bytes, begun }, call).await
            })
            .collect();
        stream::iter(calls).buffered(ROOM / CLAIM).collect().await
    }

    async fn ask(&self, key: &str, token: Stamp, span: u64) -> Result<Lease> {
        // the deadline of an `L` frame is the key's own ttl
        let lease = Frame::lease(token, 0);
        let (pttl, seen) = self.claim(key, &lease, span).await?;
        let Some(seen) = seen else { return Ok(Lease::Granted) };
        let Ok(header) = Header::parse(&seen) else { return Ok(Lease::Found(found(pttl, seen))) };
        match header.state {
            State::Lease => {
                let left = left(pttl).unwrap_or(Duration::from_millis(span));
                return Ok(Lease::Held { holder: header.stamp, left });
            }
            State::Value | State::Negative if header.soft_exp == 0 => return Ok(Lease::Found(found(pttl, seen))),
            State::Value | State::Negative | State::Stale | State::Tombstone => {}
        }
        let call = script::LEASEX.on(&[key]).arg(&token.to_bytes()[..]).arg(span).arg(&lease[..]);
        let mut reply = Parts::of(call.run(self.link(), "lease").await?, "lease");
        match reply.take::<u8>()? {
            0 => Ok(Lease::Granted),
            1 => Ok(Lease::Found(found(reply.take()?, reply.take()?))),
            2 => {
                let left = ms(reply.take()?);
                Ok(Lease::Held { holder: reply.stamp()?, left })
            }
            3 => Ok(Lease::Barred { left: ms(reply.take()?) }),
            _ => Err(unexpected("lease")),
        }
    }

    /// Sets the lease if the key is missing; the ttl before, and what the key holds if it isn't. One round trip.
    async fn claim(&self, key: &str, lease: &[u8; HEADER], span_ms: u64) -> Result<(i64, Option<Bytes>)> {
        let old = self.plain_set();
        if !old.load(Ordering::Relaxed) {
            let mut pipe = redis::pipe();
            pipe.cmd("PTTL").arg(key);
            pipe.cmd("SET").arg(key).arg(&lease[..]).arg("NX").arg("GET").arg("PX").arg(span_ms);
            match self.link().pipe("lease", &pipe).await {
                // before Redis 7 there is no NX with GET: a syntax error, and nothing is set
                Err(error) if error.kind() == ErrorKind::Other && error.reply().is_none() => {}
                answer => return answer,
            }
        }
        let answer = script::SETNXGET.on(&[key]).arg(&lease[..]).arg(span_ms).run(self.link(), "lease").await?;
        old.store(true, Ordering::Relaxed);
        Ok(answer)
    }
}

/// `PTTL` as the time left; `None` for a missing key and one without ttl.
fn left(pttl: i64) -> Option<Duration> {
    u64::try_from(pttl).ok().map(Duration::from_millis)
}

fn found(pttl: i64, frame: Bytes) -> Found {
    Found { frame, left: left(pttl) }
}

/// A time left that a script worked out; none if the key went meanwhile.
fn ms(left: i64) -> Duration {
    Duration::from_millis(u64::try_from(left).unwrap_or(0))
}

/// A script's list reply, taken apart from the front.
struct Parts {
    values: std::vec::IntoIter<Value>,
    operation: &'static str,
}

impl Parts {
    fn of(values: Vec<Value>, operation: &'static str) -> Self {
        Self { values: values.into_iter(), operation }
    }

    fn take<T: FromRedisValue>(&mut self) -> Result<T> {
        let value = self.values.next().ok_or_else(|| unexpected(self.operation))?;
        redis::from_redis_value(value).map_err(|cause| map(self.operation, &cause.into()))
    }

    fn stamp(&mut self) -> Result<Stamp> {
        let bytes: Bytes = self.take()?;
        let bytes = <[u8; 8]>::try_from(&bytes[..]).map_err(|_| unexpected(self.operation))?;
        Ok(Stamp(u64::from_le_bytes(bytes)))
    }
}

#[cfg(all(test, feature = "testkit"))]
mod tests;
