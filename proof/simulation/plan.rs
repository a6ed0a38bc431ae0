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

    /// How long before the end nothing is written and nothing strikes any more.
    pub(crate) fn quiet(&self) -> Duration {
        self.bound * 4
    }
}

fn pick<T: Copy>(rng: &mut Rng, of: &[T]) -> T {
    of[rng.usize(..of.len())]
}
