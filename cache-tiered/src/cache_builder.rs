//! Building a typed cache.

use std::marker::PhantomData;
use std::time::Duration;

use cache_core::codec::Codec;
use cache_core::{Result, Tags};

use crate::cache::Cache;
use crate::engine::check_name;
use crate::policy::all_mistakes;
use crate::{CacheKey, Consistency, Origin, Policy, Tiered};

/// The codec that a typed cache uses unless told otherwise.
#[cfg(feature = "bincode")]
pub type DefaultCodec = cache_core::codec::Bincode;
/// Stands where a codec must be named: the feature `bincode` is off, so there is no default.
#[cfg(not(feature = "bincode"))]
pub type DefaultCodec = NoCodec;

/// Implements no codec: name one with [`CacheBuilder::codec`].
#[derive(Clone, Copy, Debug, Default)]
pub struct NoCodec;

/// What a key space allows its loaders.
#[derive(Clone, Debug)]
pub(crate) struct Limits {
    pub(crate) max_batch: usize,
    pub(crate) origin: Option<Origin>,
}

impl Default for Limits {
    fn default() -> Self {
        Self { max_batch: 1000, origin: None }
    }
}

/// Builds a [`Cache`] over one key space.
#[derive(Debug)]
#[must_use]
pub struct CacheBuilder<V, K: ?Sized = str, C = DefaultCodec> {
    tiered: Tiered,
    space: String,
    schema: u32,
    policy: Policy,
    ttl: Option<Duration>,
    consistency: Consistency,
    limits: Limits,
    codec: C,
    types: PhantomData<fn(&K) -> V>,
}

impl<V> CacheBuilder<V> {
    pub(crate) fn new(tiered: Tiered, space: String) -> Self {
        Self {
            tiered,
            space,
            schema: 0,
            policy: Policy::default(),
            ttl: None,
            consistency: Consistency::default(),
            limits: Limits::default(),
            codec: DefaultCodec::default(),
            types: PhantomData,
        }
    }
}

impl<V, K: ?Sized, C> CacheBuilder<V, K, C> {
    /// With keys of type `K2` instead of strings.
    pub fn keyed<K2: CacheKey + ?Sized>(self) -> CacheBuilder<V, K2, C> {
        let Self { tiered, space, schema, policy, ttl, consistency, limits, codec, types: _ } = self;
        CacheBuilder { tiered, space, schema, policy, ttl, consistency, limits, codec, types: PhantomData }
    }

    /// With another codec.
    pub fn codec<C2: Codec<V>>(self, codec: C2) -> CacheBuilder<V, K, C2> {
        let Self { tiered, space, schema, policy, ttl, consistency, limits, codec: _, types: _ } = self;
        CacheBuilder { tiered, space, schema, policy, ttl, consistency, limits, codec, types: PhantomData }
    }

    /// With a name for the layout of `V`, such as `"product v3"`: values written under another name are a miss. Change
    /// it when a codec without field names would read old bytes as something else.
    pub fn schema(mut self, name: &str) -> Self {
        // the codec's number takes the low byte of the id
        self.schema = u32::try_from(Tags::hash(name) >> 40).unwrap_or(0) << 8;
        self
    }

    /// How entries live.
    pub fn policy(mut self, policy: impl Into<Policy>) -> Self {
        self.policy = policy.into();
        self
    }

    /// How long values are fresh, instead of the ttl of the [`policy`](Self::policy), whichever is named first.
    pub fn ttl(mut self, ttl: Duration) -> Self {
        self.ttl = Some(ttl);
        self
    }

    /// How current answers have to be at least; a call may ask for more ([`Cache::with`]). Default [`Consistency::Local`]:
    /// all others cost a near hit its speed.
    pub fn consistency(mut self, consistency: Consistency) -> Self {
        self.consistency = consistency;
        self
    }

    /// The most keys that one call of a batch loader is asked for; more are split into calls that fail apart and run at
    /// once, for 8000 keys together. Default 1000.
    pub fn max_batch(mut self, keys: usize) -> Self {
        self.limits.max_batch = keys;
        self
    }

    /// How the origin is protected: a limit of loads at once, a queue, a breaker. Default: not at all.
    pub fn origin(mut self, origin: Origin) -> Self {
        self.limits.origin = Some(origin);
        self
    }
}

impl<V, K, C> CacheBuilder<V, K, C>
where
    V: Send + Sync + 'static,
    K: CacheKey + ?Sized,
    C: Codec<V>,
{
    /// Builds the cache.
    ///
    /// # Errors
    /// `Config` that lists every mistake in the space's name and the policy.
    pub fn build(self) -> Result<Cache<V, K>> {
        let Self { tiered, space, schema, policy, ttl, consistency, limits, codec, types: _ } = self;
        let policy = ttl.map_or(policy.clone(), |ttl| policy.ttl(ttl));
        let mut found = policy.mistakes_among(tiered.engine().around());
        if let Err(error) = check_name("space", &space) {
            found.push(error.message().to_owned());
        }
        if limits.max_batch == 0 {
            found.push("max_batch is zero; it must be at least 1".to_owned());
        }
        found.extend(limits.origin.iter().flat_map(|origin| origin.mistakes(policy.timeouts.hard)));
        let gates = &tiered.engine().gates;
        // what is not built protects nothing
        let gate =
            limits.origin.as_ref().filter(|_| found.is_empty()).map(|origin| gates.of(&space, origin)).transpose();
        let gate = gate.unwrap_or_else(|mistake| {
            found.push(mistake);
            None
        });
        all_mistakes(&found)?;
        let id = schema | u32::from(codec.id());
        Ok(Cache::new(tiered, &space, codec, id, policy, limits.max_batch, gate)?.with(consistency))
    }
}
