//! One simulated process: an engine of its own behind a link of its own.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use cache_core::codec::Codec;
use cache_core::memory::LocalMemory;
use cache_core::{Error, ErrorKind, Result};
use cache_tiered::{Batched, Cache, FailSafe, Policy, Tiered};
use fastrand::Rng;

use crate::net::Link;
use crate::reader::rows;
use crate::time::machine;
use crate::world::World;

/// A process as long as it lives.
#[derive(Debug)]
pub(crate) struct Process {
    /// Its number among all that ever lived.
    pub(crate) id: u32,
    pub(crate) link: Link,
    pub(crate) tiered: Tiered,
    pub(crate) cache: Cache<u64, u16>,
    /// The same with a loader of many rows.
    pub(crate) batched: Batched<u64, u16>,
    /// Values that are nowhere else.
    pub(crate) counters: Cache<u64, u16>,
}

/// How long a key whose load failed is left alone where there is a fallback.
pub(crate) const THROTTLE: Duration = Duration::from_millis(500);

impl Process {
    /// Starts a process; tries until the server lets it.
    pub(crate) async fn start(world: &Arc<World>, rng: &mut Rng) -> Result<Self> {
        let plan = &world.plan;
        let fork = Rng::with_seed(rng.u64(..));
        let link = Link::new(world.server(), fork, plan.latency, plan.deadline, plan.bound.mul_f64(1.5));
        let boot = Duration::from_secs(rng.u64(1..10_000_000));
        let clock = machine(boot, plan.pace(rng)).0;
        let tiered = loop {
            let mut builder = Tiered::builder()
                .near(LocalMemory::new(8 << 20))
                .far(link.clone())
                .bound(plan.bound)
                .outage(plan.outage)
                .lease(plan.lease)
                .buckets(plan.buckets)
                .clock(clock.clone());
            if let Some(most) = plan.behind {
                builder = builder.background_writes(most);
            }
            if plan.polling {
                builder = builder.polling();
            }
            match builder.build().await {
                Ok(tiered) => break tiered,
                Err(error) if error.kind() == ErrorKind::Config => return Err(error),
                Err(_) => tokio::time::sleep(plan.bound / 4).await,
            }
        };
        let mut policy = Policy::from(plan.ttl);
        policy.near_ttl = plan.near_ttl.filter(|near| *near <= plan.ttl);
        policy.fail_safe = plan.fail_safe.map(|span| FailSafe::from(span).throttle(THROTTLE));
        policy.timeouts.soft = plan.soft_timeout;
        policy = match plan.refresh {
            Some(share) => policy.refresh_ahead(share),
            None if plan.sliding => policy.sliding(),
            None => policy,
        };
        let cache = tiered.cache::<u64>("rows").keyed::<u16>().codec(Version).policy(policy).build()?;
        let batched = cache.batched_with(rows(world, &link));
        let counters = Policy::from(Duration::from_secs(3600));
        let counters = tiered.cache::<u64>("counters").keyed::<u16>().codec(Version).policy(counters).build()?;
        Ok(Self { id: world.next_id(), link, tiered, cache, batched, counters })
    }
}

/// A version as eight bytes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Version;

impl Codec<u64> for Version {
    fn id(&self) -> u8 {
        200
    }

    fn encode(&self, value: &u64) -> Result<Bytes> {
        Ok(Bytes::copy_from_slice(&value.to_le_bytes()))
    }

    fn decode(&self, bytes: &Bytes) -> Result<u64> {
        let whole = <[u8; 8]>::try_from(&bytes[..]).map_err(|_| Error::new(ErrorKind::Codec, "not eight bytes"))?;
        Ok(u64::from_le_bytes(whole))
    }
}
