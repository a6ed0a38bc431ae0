//! Simulated time: clocks that follow the runtime's paused time, and the order of events.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::time::Duration;

use cache_core::{Clock, Tick, Ticks};
use tokio::time::Instant;

/// An arbitrary day on which every simulation begins, in ms since the Unix epoch.
const DAY: u64 = 1_700_000_000_000;

/// The simulation's own time: every moment asked for is later than the one before, so that what happens within one
/// moment of the runtime still has an order.
#[derive(Debug)]
pub(crate) struct Era {
    begun: Instant,
    last: AtomicU64,
}

impl Era {
    pub(crate) fn begin() -> Self {
        Self { begun: Instant::now(), last: AtomicU64::new(0) }
    }

    /// Nanoseconds since the beginning; grows with every call.
    pub(crate) fn stamp(&self) -> u64 {
        let elapsed = u64::try_from(self.begun.elapsed().as_nanos()).unwrap_or(u64::MAX);
        let stamp = elapsed.max(self.last.load(Ordering::Relaxed) + 1);
        self.last.store(stamp, Ordering::Relaxed);
        stamp
    }

    pub(crate) fn elapsed(&self) -> Duration {
        self.begun.elapsed()
    }
}

/// A machine's clock: its own boot and pace, and a wall clock that may be set.
struct Machine {
    begun: Instant,
    boot: Duration,
    /// How many seconds it counts in one.
    pace: f64,
    wall: Arc<AtomicI64>,
}

impl Machine {
    fn elapsed(&self) -> Duration {
        self.begun.elapsed().mul_f64(self.pace)
    }
}

impl Ticks for Machine {
    fn now(&self) -> Tick {
        Tick::ZERO + self.boot + self.elapsed()
    }

    fn unix_ms(&self) -> u64 {
        let elapsed = u64::try_from(self.elapsed().as_millis()).unwrap_or(u64::MAX);
        (DAY + elapsed).saturating_add_signed(self.wall.load(Ordering::Relaxed))
    }
}

/// The hand that sets a machine's wall clock.
#[derive(Clone, Debug, Default)]
pub(crate) struct Wall(Arc<AtomicI64>);

impl Wall {
    pub(crate) fn step(&self, ms: i64) {
        self.0.fetch_add(ms, Ordering::Relaxed);
    }
}

/// The clock of a machine that booted `boot` ago and counts `pace` seconds in one, and its wall clock.
pub(crate) fn machine(boot: Duration, pace: f64) -> (Clock, Wall) {
    let wall = Wall::default();
    (Clock::from_source(Machine { begun: Instant::now(), boot, pace, wall: Arc::clone(&wall.0) }), wall)
}
