//! The one source of time.

use std::fmt;
use std::ops::Add;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// A moment on a process's own clock: nanoseconds since the machine booted, suspend included.
///
/// Only moments of one process are comparable.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Tick(u64);

impl Tick {
    /// The earliest moment.
    pub const ZERO: Self = Self(0);
    /// A moment that never comes.
    pub const NEVER: Self = Self(u64::MAX);

    /// The moment `nanos` after boot.
    #[must_use]
    pub const fn from_nanos(nanos: u64) -> Self {
        Self(nanos)
    }

    /// Nanoseconds since boot.
    #[must_use]
    pub const fn as_nanos(self) -> u64 {
        self.0
    }

    /// The time from `earlier` to this moment; zero if `earlier` is later.
    #[must_use]
    pub const fn since(self, earlier: Self) -> Duration {
        Duration::from_nanos(self.0.saturating_sub(earlier.0))
    }
}

impl Add<Duration> for Tick {
    type Output = Self;

    fn add(self, span: Duration) -> Self {
        let nanos = u64::try_from(span.as_nanos()).unwrap_or(u64::MAX);
        Self(self.0.saturating_add(nanos))
    }
}

/// A custom source of time, such as a simulation's.
pub trait Ticks: Send + Sync + 'static {
    /// The moment now. Never goes back.
    fn now(&self) -> Tick;
    /// Milliseconds since the Unix epoch.
    fn unix_ms(&self) -> u64;
}

/// The clock that everything in a process reads: the system's, or one steered by a test.
///
/// The system clock is `CLOCK_BOOTTIME` where there is one: it goes on while the machine sleeps, so an entry does not
/// outlive its bound in a suspended laptop.
#[derive(Clone, Default)]
pub struct Clock(Option<Arc<dyn Ticks>>);

impl Clock {
    /// The system's clock.
    #[must_use]
    pub const fn system() -> Self {
        Self(None)
    }

    /// A clock that moves only when told to.
    #[must_use]
    pub fn manual() -> (Self, ManualClock) {
        let manual = ManualClock(Arc::new(AtomicU64::new(1_000_000_000)));
        (Self(Some(Arc::new(manual.clone()))), manual)
    }

    /// A clock read from `source`.
    pub fn from_source(source: impl Ticks) -> Self {
        Self(Some(Arc::new(source)))
    }

    /// The moment now.
    #[must_use]
    #[inline]
    pub fn now(&self) -> Tick {
        match &self.0 {
            None => boot_time(),
            Some(source) => source.now(),
        }
    }

    /// Milliseconds since the Unix epoch. Never used to order anything.
    #[must_use]
    pub fn unix_ms(&self) -> u64 {
        match &self.0 {
            None => SystemTime::now()
                .duration_since(UNIX_EPOCH)
                .map_or(0, |d| u64::try_from(d.as_millis()).unwrap_or(u64::MAX)),
            Some(source) => source.unix_ms(),
        }
    }
}

#[cfg(any(target_os = "linux", target_os = "android"))]
#[inline]
fn boot_time() -> Tick {
    let t = rustix::time::clock_gettime(rustix::time::ClockId::Boottime);
    #[expect(clippy::cast_sign_loss, reason = "the boot clock never reads negative")]
    Tick(t.tv_sec as u64 * 1_000_000_000 + t.tv_nsec as u64)
}

#[cfg(not(any(target_os = "linux", target_os = "android")))]
fn boot_time() -> Tick {
    use std::sync::OnceLock;
    use std::time::Instant;
    static START: OnceLock<Instant> = OnceLock::new();
    Tick::from_nanos(1_000_000_000) + START.get_or_init(Instant::now).elapsed()
}

impl fmt::Debug for Clock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.0.is_none() { "Clock(system)" } else { "Clock(custom)" })
    }
}

/// The hand that moves a [`Clock::manual`].
#[derive(Clone, Debug)]
pub struct ManualClock(Arc<AtomicU64>);

impl ManualClock {
    /// Moves the clock forward.
    pub fn advance(&self, span: Duration) {
        let nanos = u64::try_from(span.as_nanos()).unwrap_or(u64::MAX);
        self.0.fetch_add(nanos, Ordering::SeqCst);
    }
}

impl Ticks for ManualClock {
    fn now(&self) -> Tick {
        Tick(self.0.load(Ordering::SeqCst))
    }

    fn unix_ms(&self) -> u64 {
        // an arbitrary fixed day, so that a test's times are the same in every run
        1_700_000_000_000 + self.0.load(Ordering::SeqCst) / 1_000_000
    }
}
