//! What goes wrong during a history.

use std::time::Duration;

use anyhow::Result;
use cache_redis::testkit::{Direction, Proxy};
use strata_tests::process::Process;

use crate::excuse::Takeover;
use crate::topology::{Layout, Topology};

/// A kind of fault. Each history repeats one kind, at random moments on random targets.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Fault {
    None,
    Cut,
    StallReplies,
    StallRequests,
    DropPushes,
    DelayReplies,
    /// Nothing goes out and nothing comes in: calls hang, messages are lost.
    Silence,
    /// Each process takes up answers later than messages that left after them.
    LateAnswers,
    StopNode,
    StopServer,
    RestartEmpty,
    KillConnections,
    KillSubscribers,
    /// Whoever listens is thrown out again and again, so that messages are lost.
    Deafen,
    PauseWrites,
    OutOfMemory,
    Evict,
    FlushAll,
    LoseCounters,
    /// A different one of the above each time.
    Mixed,
    /// The primary is stopped until another took over.
    Failover,
    /// The primary hands over to its replica, which loses nothing.
    HandOver,
    Migrate,
}

impl Fault {
    /// What can go wrong in a layout.
    pub(crate) const fn of(layout: Layout) -> &'static [Self] {
        match layout {
            Layout::Standalone => Self::ALONE,
            Layout::Sentinel => &[
                Self::None,
                Self::Cut,
                Self::DropPushes,
                Self::DelayReplies,
                Self::Silence,
                Self::LateAnswers,
                Self::StopNode,
                Self::KillConnections,
                Self::KillSubscribers,
                Self::Deafen,
                Self::StopServer,
                Self::Failover,
            ],
            Layout::Cluster => &[
                Self::None,
                Self::Cut,
                Self::DropPushes,
                Self::DelayReplies,
                Self::Silence,
                Self::LateAnswers,
                Self::StopNode,
                Self::KillConnections,
                Self::KillSubscribers,
                Self::Deafen,
                Self::StopServer,
                Self::Failover,
                Self::HandOver,
                Self::Migrate,
            ],
        }
    }

    /// The longest time after which a process takes up an answer that has come, in milliseconds.
    pub(crate) const fn late_ms(self) -> u64 {
        match self {
            Self::LateAnswers => 20,
            _ => 0,
        }
    }

    /// Whether another server may take over. Then no tags are bumped: what a failover does to them is weaker, and nothing
    /// that can be judged exactly.
    pub(crate) fn may_fail_over(self, layout: Layout) -> bool {
        layout != Layout::Standalone && matches!(self, Self::StopServer | Self::Failover | Self::HandOver)
    }

    /// Whether it leaves each line with its primary.
    pub(crate) fn keeps_primaries(self, layout: Layout) -> bool {
        !self.may_fail_over(layout) && self != Self::Migrate
    }

    /// How long it lasts, in general.
    pub(crate) fn longest(self, bound: Duration) -> Duration {
        match self {
            Self::Failover => Duration::from_secs(6),
            _ => bound * 3,
        }
    }

    const ALONE: &[Self] = &[
        Self::None,
        Self::Cut,
        Self::StallReplies,
        Self::StallRequests,
        Self::DropPushes,
        Self::DelayReplies,
        Self::LateAnswers,
        Self::StopNode,
        Self::StopServer,
        Self::RestartEmpty,
        Self::KillConnections,
        Self::KillSubscribers,
        Self::Deafen,
        Self::PauseWrites,
        Self::OutOfMemory,
        Self::Evict,
        Self::FlushAll,
        Self::LoseCounters,
        Self::Mixed,
    ];

    /// What `Mixed` picks from.
    const MIX: &[Self] = &[
        Self::Cut,
        Self::StallReplies,
        Self::DropPushes,
        Self::DelayReplies,
        Self::StopNode,
        Self::KillSubscribers,
        Self::FlushAll,
        Self::LoseCounters,
    ];

    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Cut => "connections cut",
            Self::StallReplies => "replies stalled",
            Self::StallRequests => "requests stalled",
            Self::DropPushes => "pushes dropped",
            Self::DelayReplies => "replies delayed past D",
            Self::Silence => "nothing goes through",
            Self::LateAnswers => "answers taken up late",
            Self::StopNode => "process stopped",
            Self::StopServer => "server stopped",
            Self::RestartEmpty => "server killed, restarted empty",
            Self::KillConnections => "CLIENT KILL normal",
            Self::KillSubscribers => "CLIENT KILL pubsub",
            Self::Deafen => "CLIENT KILL pubsub, on and on",
            Self::PauseWrites => "CLIENT PAUSE WRITE",
            Self::OutOfMemory => "memory full, noeviction",
            Self::Evict => "memory small, allkeys-lru",
            Self::FlushAll => "FLUSHALL",
            Self::LoseCounters => "counters deleted",
            Self::Mixed => "mixed",
            Self::Failover => "failover",
            Self::HandOver => "failover that is asked for",
            Self::Migrate => "slot migration",
        }
    }
}

/// What faults act on.
pub(crate) struct Stage<'a> {
    pub(crate) topology: &'a mut Topology,
    pub(crate) proxies: &'a [Proxy],
    pub(crate) nodes: &'a mut [Process],
    pub(crate) bound: Duration,
    /// The failovers so far.
    pub(crate) takeovers: Vec<Takeover>,
}

impl Stage<'_> {
    /// Makes `fault` happen once, and ends it.
    pub(crate) async fn strike(&mut self, fault: Fault, rng: &mut fastrand::Rng) -> Result<()> {
        let victim = rng.usize(..self.nodes.len());
        // from a fraction of the bound to well past it
        let span = self.bound.mul_f64(0.3 + 1.7 * rng.f64());
        let line = rng.usize(..16);
        let all = u16::try_from(self.nodes.len()).unwrap_or(u16::MAX);
        match self.proxies.get(victim) {
            Some(proxy) => self.harm(proxy, fault, span).await,
            None => self.harm_inside(victim, fault, span).await?,
        }
        match fault {
            Fault::None
            | Fault::Cut
            | Fault::StallReplies
            | Fault::StallRequests
            | Fault::DropPushes
            | Fault::DelayReplies
            | Fault::Silence
            | Fault::LateAnswers => {}
            Fault::Mixed => {
                let picked = Fault::MIX[rng.usize(..Fault::MIX.len())];
                Box::pin(self.strike(picked, rng)).await?;
            }
            Fault::StopNode => {
                self.nodes[victim].pause(true)?;
                tokio::time::sleep(span).await;
                self.nodes[victim].pause(false)?;
            }
            Fault::StopServer => {
                self.takeovers.extend(tokio::task::block_in_place(|| self.topology.stop(line, Some(span), all))?);
            }
            Fault::RestartEmpty => self.topology.restart()?,
            Fault::Failover => {
                self.takeovers.extend(tokio::task::block_in_place(|| self.topology.stop(line, None, all))?);
            }
            Fault::HandOver => tokio::task::block_in_place(|| self.topology.hand_over(line))?,
            Fault::Migrate => tokio::task::block_in_place(|| self.topology.migrate(line))?,
            Fault::KillConnections => self.topology.run(&["CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes"]),
            Fault::KillSubscribers => self.topology.run(&["CLIENT", "KILL", "TYPE", "pubsub"]),
            Fault::Deafen => {
                let end = tokio::time::Instant::now() + span;
                while tokio::time::Instant::now() < end {
                    self.topology.run(&["CLIENT", "KILL", "TYPE", "pubsub"]);
                    tokio::time::sleep(Duration::from_millis(10)).await;
                }
            }
            Fault::PauseWrites => {
                let millis = span.as_millis().to_string();
                self.topology.run(&["CLIENT", "PAUSE", &millis, "WRITE"]);
                tokio::time::sleep(span).await;
            }
            Fault::OutOfMemory => {
                self.topology.run(&["CONFIG", "SET", "maxmemory-policy", "noeviction"]);
                self.topology.run(&["CONFIG", "SET", "maxmemory", "1mb"]);
                tokio::time::sleep(span).await;
                self.topology.run(&["CONFIG", "SET", "maxmemory", "0"]);
            }
            Fault::Evict => {
                self.topology.run(&["CONFIG", "SET", "maxmemory-policy", "allkeys-lru"]);
                self.topology.run(&["CONFIG", "SET", "maxmemory", "1mb"]);
                tokio::time::sleep(span).await;
                self.topology.run(&["CONFIG", "SET", "maxmemory", "0"]);
            }
            Fault::FlushAll => self.topology.run(&["FLUSHALL"]),
            Fault::LoseCounters => self.topology.run(&["DEL", "history:seq", "history:tags:0"]),
        }
        Ok(())
    }

    /// What a node does to its own connection with the far store, where no proxy can stand: servers there tell clients
    /// where to go.
    async fn harm_inside(&mut self, victim: usize, fault: Fault, span: Duration) -> Result<()> {
        let late = self.bound + span;
        let slow = format!("slow {}", late.as_millis());
        let (harms, calms, lasts): (&[&str], &[&str], Duration) = match fault {
            Fault::Cut => (&["part on"], &["part off"], span),
            Fault::DropPushes => (&["mute on"], &["mute off"], span),
            Fault::DelayReplies => (&[&slow], &["slow 0"], late),
            // always past the bound, so that trust has to end
            Fault::Silence => (&["hang on", "mute on"], &["mute off", "hang off"], late),
            _ => return Ok(()),
        };
        harms.iter().try_for_each(|harm| self.nodes[victim].send(harm))?;
        tokio::time::sleep(lasts).await;
        calms.iter().try_for_each(|calm| self.nodes[victim].send(calm))?;
        Ok(())
    }

    /// What a proxy can do to its node.
    async fn harm(&self, proxy: &Proxy, fault: Fault, span: Duration) {
        match fault {
            Fault::Cut => proxy.cut(),
            Fault::StallReplies | Fault::StallRequests => {
                let way = if fault == Fault::StallReplies { Direction::Replies } else { Direction::Requests };
                proxy.stall(way);
                // always past the bound, so that trust has to end
                tokio::time::sleep(self.bound + span).await;
                proxy.flow();
            }
            Fault::DropPushes => {
                proxy.mute_pushes(true);
                tokio::time::sleep(span).await;
                proxy.mute_pushes(false);
            }
            Fault::DelayReplies => {
                proxy.delay_replies(self.bound + span);
                tokio::time::sleep(self.bound + span).await;
                proxy.delay_replies(Duration::ZERO);
            }
            _ => {}
        }
    }
}
