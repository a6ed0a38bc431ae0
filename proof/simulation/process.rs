//! One simulated process: an engine of its own behind a link of its own.

use std::time::Duration;

use bytes::Bytes;
use cache_core::codec::Codec;
use cache_core::memory::LocalMemory;
use cache_core::{Error, ErrorKind, Result};
use cache_tiered::{Cache, Policy, Tiered};
use fastrand::Rng;

use crate::net::Link;
use crate::scene::World;
use crate::time::machine;

/// A process as long as it lives.
#[derive(Debug)]
pub(crate) struct Process {
    /// Its number among all that ever lived.
    pub(crate) id: u32,
    pub(crate) link: Link,
    pub(crate) tiered: Tiered,
    pub(crate) cache: Cache<u64, u16>,
}

impl Process {
    /// Starts a process; tries until the server lets it.
    pub(crate) async fn start(world: &World, rng: &mut Rng) -> Result<Self> {
        let plan = &world.plan;
        let fork = Rng::with_seed(rng.u64(..));
        let link = Link::new(world.server.clone(), fork, plan.latency, plan.deadline, plan.bound.mul_f64(1.5));
        let boot = Duration::from_secs(rng.u64(1..10_000_000));
        let tiered = loop {
            let mut builder = Tiered::builder()
                .near(LocalMemory::new(8 << 20))
                .far(link.clone())
                .bound(plan.bound)
                .outage(plan.outage)
                .lease(plan.lease)
                .buckets(plan.buckets)
                .clock(machine(boot).0);
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
        let cache = tiered.cache::<u64>("rows").keyed::<u16>().codec(Version).policy(policy).build()?;
        Ok(Self { id: world.next_id(), link, tiered, cache })
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
