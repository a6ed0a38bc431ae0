//! What a seed decides: how the processes are set up, and what befalls them.

use std::time::Duration;

use fastrand::Rng;

use crate::faults::Fault;
use crate::net::Latency;

/// One simulation, all of it.
#[derive(Clone, Debug)]
pub(crate) struct Plan {
    pub(crate) seed: u64,
    pub(crate) processes: usize,
    /// D.
    pub(crate) bound: Duration,
    /// The outage window.
    pub(crate) outage: Duration,
    pub(crate) lease: Duration,
    pub(crate) ttl: Duration,
    pub(crate) near_ttl: Option<Duration>,
    pub(crate) buckets: usize,
    pub(crate) polling: bool,
    /// How long a call to the server is waited for.
    pub(crate) deadline: Duration,
    pub(crate) latency: Latency,
    pub(crate) load_us: u64,
    /// How long past its ttl a value may be a fallback, and how long a caller waits where there is one.
    pub(crate) fail_safe: Option<Duration>,
    pub(crate) soft_timeout: Option<Duration>,
    /// The share of the ttl after which values are loaded again.
    pub(crate) refresh: Option<f64>,
    pub(crate) sliding: bool,
    /// How many background writes may wait.
    pub(crate) behind: Option<usize>,
    /// One row in so many is put; 0 for none.
    pub(crate) puts: u16,
    /// By which share the pace of a clock may be off.
    pub(crate) drift: f64,
    /// Keys that everybody asks for, and keys that are asked for now and then.
    pub(crate) hot: u16,
    pub(crate) sparse: u16,
    pub(crate) readers: usize,
    /// The mean pause of a reader.
    pub(crate) think: Duration,
    /// The longest pause of a writer.
    pub(crate) idle: Duration,
    /// Until the processes come to rest.
    pub(crate) span: Duration,
    pub(crate) faults: Vec<Fault>,
}

impl Plan {
    /// The plan of `seed`, of a simulation that is `span` long.
    pub(crate) fn of(seed: u64, span: Duration) -> Self {
        let mut rng = Rng::with_seed(seed ^ 0x5ca1_ab1e);
        let rng = &mut rng;
        let bound = Duration::from_millis(pick(rng, &[600, 1000, 2000]));
        let polling = rng.u8(..) < 16;
        let count = rng.usize(..4);
        let mut kinds = Fault::ALL.to_vec();
        rng.shuffle(&mut kinds);
        kinds.truncate(count);
        if rng.u8(..) < 80 {
            kinds = pick(rng, Fault::TOGETHER).to_vec();
        }
        let fail_safe = (rng.u8(..) < 128).then(|| Duration::from_millis(pick(rng, &[5000, 60_000])));
        let life = rng.u8(..);
        Self {
            seed,
            processes: rng.usize(2..=4),
            bound,
            outage: Duration::from_millis(pick(rng, &[0, 0, 2000, 10_000])),
            lease: Duration::from_millis(pick(rng, &[500, 2000, 5000])),
            ttl: Duration::from_millis(pick(rng, &[5000, 30_000, 300_000])),
            near_ttl: (rng.u8(..) < 64).then(|| bound * 2),
            buckets: pick(rng, &[1, 1, 4]),
            polling,
            deadline: bound.mul_f64(pick(rng, &[0.2, 0.6, 3.0])),
            latency: Latency { most: pick(rng, &[500, 2000, 12_000]), spike: pick(rng, &[20, 200]) },
            load_us: pick(rng, &[4000, 20_000, 60_000]),
            fail_safe,
            soft_timeout: fail_safe.filter(|_| rng.bool()).map(|_| Duration::from_millis(pick(rng, &[5, 50]))),
            refresh: (life < 64).then(|| pick(rng, &[0.1, 0.6])),
            sliding: (64..112).contains(&life),
            behind: (rng.u8(..) < 48).then(|| pick(rng, &[1, 100])),
            puts: pick(rng, &[0, 0, 1, 2, 3]),
            drift: pick(rng, &[0.0, 0.0, 0.01]),
            hot: rng.u16(1..=4),
            sparse: 40,
            readers: rng.usize(2..=5),
            think: Duration::from_millis(pick(rng, &[4, 15, 40])),
            idle: Duration::from_millis(pick(rng, &[60, 300, 1500])),
            span,
            faults: kinds,
        }
    }

    pub(crate) fn keys(&self) -> u16 {
        self.hot + self.sparse
    }

    /// Whether a row is put.
    pub(crate) fn is_put(&self, key: u16) -> bool {
        self.puts > 0 && key.is_multiple_of(self.puts)
    }

    /// Whether a row is put by its version.
    pub(crate) fn is_versioned(&self, key: u16) -> bool {
        self.is_put(key) && (key / self.puts) % 3 == 1
    }

    /// The pace of a machine's clock.
    pub(crate) fn pace(&self, rng: &mut Rng) -> f64 {
        1.0 + self.drift * f64::from(rng.i32(-1..=1))
    }

    /// A time by a clock of this simulation, at most, in true time.
    pub(crate) fn at_most(&self, by_a_clock: Duration) -> Duration {
        by_a_clock.mul_f64(1.0 / (1.0 - self.drift))
    }

    /// Until when there are writes.
    pub(crate) fn writes(&self) -> Duration {
        self.span - self.quiet()
    }

    /// How long after a failover what was lost may still be served: until the process that had acknowledged it has met
    /// the new server and repeated it, and all others have heard of it.
    pub(crate) fn replayed(&self) -> Duration {
        self.bound * 6
    }

    /// How long before the end nothing is written and nothing strikes any more.
    pub(crate) fn quiet(&self) -> Duration {
        self.bound * 4
    }
}

fn pick<T: Copy>(rng: &mut Rng, of: &[T]) -> T {
    of[rng.usize(..of.len())]
}
