//! What goes wrong.

use std::time::Duration;

use cache_core::Sweep;
use fastrand::Rng;

use crate::net::Ill;
use crate::scene::Stage;

/// A kind of fault. A simulation repeats some kinds at random moments, on random processes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    /// Connections of a process break and can't be made for a while.
    Cut,
    /// Connections of all processes break at one moment.
    CutAll,
    /// Nothing a process sends arrives for a while; it arrives later.
    StallRequests,
    /// The same the other way.
    StallReplies,
    /// The same for replies over one of two connections.
    StallLane,
    /// The same for pushes alone.
    StallPushes,
    /// Most pushes to a process are lost, in silence.
    LosePushes,
    /// Replies arrive later than the bound.
    DelayReplies,
    /// A process stands still.
    StopProcess,
    /// The server stands still.
    StopServer,
    /// The server refuses everybody.
    ServerDown,
    /// The server comes back with nothing.
    RestartEmpty,
    /// Every key is removed, and nobody is told.
    Flush,
    /// Sequences and tag records are dropped.
    LoseCounters,
    /// Values and leases are dropped.
    Evict,
    /// A replica takes over that lacks the last changes.
    Failover,
    /// The same, and the old server answers some processes for a while yet.
    Split,
    /// The server's wall clock is set, by up to an hour.
    SetClock,
    /// A process is killed and begins anew.
    Kill,
    /// The database takes long.
    SlowOrigin,
    /// The database fails.
    OriginDown,
}

impl Fault {
    pub(crate) const ALL: &[Self] = &[
        Self::Cut,
        Self::CutAll,
        Self::StallRequests,
        Self::StallReplies,
        Self::StallLane,
        Self::StallPushes,
        Self::LosePushes,
        Self::DelayReplies,
        Self::StopProcess,
        Self::StopServer,
        Self::ServerDown,
        Self::RestartEmpty,
        Self::Flush,
        Self::LoseCounters,
        Self::Evict,
        Self::Failover,
        Self::Split,
        Self::SetClock,
        Self::Kill,
        Self::SlowOrigin,
        Self::OriginDown,
    ];

    /// Faults that show more together than each alone.
    pub(crate) const TOGETHER: &[[Self; 2]] = &[
        [Self::LosePushes, Self::StallLane],
        [Self::LosePushes, Self::SlowOrigin],
        [Self::LosePushes, Self::Failover],
        [Self::Kill, Self::Split],
        [Self::CutAll, Self::SetClock],
        [Self::Cut, Self::SlowOrigin],
    ];

    /// Strikes once. What lasts, lasts for three bounds at most.
    pub(crate) async fn strike(self, stage: &mut Stage, rng: &mut Rng) {
        let bound = stage.world.plan.bound;
        let span = bound.mul_f64(0.2 + 2.8 * rng.f64());
        let victim = rng.usize(..stage.processes());
        match self {
            Self::Cut => {
                stage.link(victim).ail(Ill::Refused, span);
                stage.link(victim).cut();
            }
            Self::CutAll => stage.links(|link| link.cut()),
            Self::StallRequests => stage.link(victim).ail(Ill::Requests, span),
            Self::StallReplies => stage.link(victim).ail(Ill::Replies, span),
            Self::StallLane => stage.link(victim).ail(Ill::Lane, span),
            Self::StallPushes => stage.link(victim).ail(Ill::Pushes, span),
            Self::LosePushes => stage.link(victim).ail(Ill::Lossy, span),
            Self::DelayReplies => stage.link(victim).ail(Ill::Slow, span),
            Self::StopProcess => stage.link(victim).ail(Ill::Stopped, span),
            Self::StopServer => stage.links(|link| link.ail(Ill::Frozen, span)),
            Self::ServerDown => stage.links(|link| {
                link.ail(Ill::Refused, span);
                link.cut();
            }),
            Self::RestartEmpty => {
                stage.world.server().restart();
                stage.links(|link| {
                    link.ail(Ill::Refused, span / 8);
                    link.cut();
                });
            }
            Self::Flush => stage.world.server().flush(),
            Self::LoseCounters => evict(stage, |key| !key.contains(":k:"), rng, 1).await,
            Self::Evict => evict(stage, |key| key.contains(":k:"), rng, 2).await,
            Self::Failover => stage.fail_over(false, span, rng).await,
            Self::Split => stage.fail_over(true, span, rng).await,
            Self::SetClock => stage.world.wall.step(rng.i64(-3_600_000..=3_600_000)),
            Self::Kill => stage.restart(victim, rng).await,
            Self::SlowOrigin => {
                let longer = stage.world.plan.lease.mul_f64(1.5 * rng.f64());
                stage.world.origin.slow(span, longer);
            }
            Self::OriginDown => stage.world.origin.fail(span),
        }
    }
}

/// Drops one in `one_in` of the keys that are `meant`.
async fn evict(stage: &Stage, meant: impl Fn(&str) -> bool, rng: &mut Rng, one_in: u32) {
    let server = stage.world.server();
    let mut keys = server.keys("").await.unwrap_or_default();
    keys.sort_unstable();
    for key in keys.iter().filter(|key| meant(key)) {
        if rng.u32(..one_in) == 0 {
            let _there = server.evict(key);
        }
    }
}

/// The pause before the next strike.
pub(crate) fn pause(bound: Duration, rng: &mut Rng) -> Duration {
    bound.mul_f64(0.3 + 2.7 * rng.f64())
}
