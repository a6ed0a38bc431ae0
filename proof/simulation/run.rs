//! Many simulations, side by side, and what they sum up to.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use crate::plan::Plan;
use crate::scene;
use crate::verdict::Findings;

/// The longest that one simulation may take. One that never ends, in a loop that never waits, would go unnoticed.
const PATIENCE: Duration = Duration::from_secs(600);

/// What some simulations came to.
#[derive(Clone, Debug, Default)]
pub(crate) struct Sum {
    pub(crate) seeds: u64,
    pub(crate) reads: u64,
    pub(crate) acknowledged: u64,
    pub(crate) violations: u64,
    pub(crate) lived: Duration,
    pub(crate) oldest: Duration,
    pub(crate) fallbacks: u64,
    pub(crate) loose: u64,
    /// The longest time after a failover for which something that it had lost was served.
    pub(crate) replayed: Duration,
    /// The first seed that broke a promise, and which promise.
    pub(crate) first: Option<(u64, &'static str)>,
}

impl Sum {
    /// The last line.
    pub(crate) fn closing(&self) -> String {
        let hours = self.lived.as_secs_f64() / 3600.0;
        format!("seeds={} hours={hours:.1} reads={} violations={}", self.seeds, self.reads, self.violations)
    }

    fn add(&mut self, seed: u64, findings: &Findings) {
        self.seeds += 1;
        self.reads += findings.report.reads;
        self.acknowledged += findings.report.acknowledged;
        self.violations += findings.violations();
        self.lived += findings.lived;
        self.oldest = self.oldest.max(findings.report.oldest);
        self.fallbacks += findings.fallbacks;
        self.loose += findings.loose;
        self.replayed = self.replayed.max(findings.replayed);
        if findings.violations() > 0 && self.first.is_none_or(|(first, _)| seed < first) {
            self.first = Some((seed, findings.broken()));
        }
    }
}

/// Plays the seeds from `first` on; with `until_broken` only until one breaks a promise.
pub(crate) fn seeds(first: u64, count: u64, span: Duration, threads: usize, until_broken: bool) -> Result<Sum> {
    let next = Arc::new(AtomicU64::new(first));
    let stop = Arc::new(AtomicBool::new(false));
    let sum = Arc::new(Mutex::new(Sum::default()));
    let workers: Vec<_> = (0..threads)
        .map(|_| {
            let (next, stop, sum) = (Arc::clone(&next), Arc::clone(&stop), Arc::clone(&sum));
            let playing = Arc::new(Mutex::new((0, Instant::now())));
            let shown = Arc::clone(&playing);
            let work = move || -> Result<()> {
                while !stop.load(Ordering::Relaxed) {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= first + count {
                        break;
                    }
                    *shown.lock().unwrap_or_else(PoisonError::into_inner) = (seed, Instant::now());
                    let plan = Plan::of(seed, span);
                    let faults = plan.faults.clone();
                    let findings = scene::play(plan).with_context(|| format!("seed {seed}"))?;
                    if findings.violations() > 0 {
                        stop.store(until_broken, Ordering::Relaxed);
                        if !until_broken {
                            println!("seed {seed} under {faults:?} breaks {}: {findings}", findings.broken());
                            println!("play it again: STRATA_SEED={seed} cargo xtask simulate");
                        }
                    }
                    sum.lock().unwrap_or_else(PoisonError::into_inner).add(seed, &findings);
                }
                Ok(())
            };
            (std::thread::spawn(work), playing)
        })
        .collect();
    while workers.iter().any(|(worker, _)| !worker.is_finished()) {
        std::thread::sleep(Duration::from_millis(5));
        for (worker, playing) in &workers {
            let (seed, since) = *playing.lock().unwrap_or_else(PoisonError::into_inner);
            if !worker.is_finished() && since.elapsed() > PATIENCE {
                bail!("seed {seed} does not end: something waits without a deadline, or loops without waiting");
            }
        }
    }
    for (worker, _) in workers {
        match worker.join() {
            Ok(result) => result?,
            Err(_) => bail!("a simulation panicked"),
        }
    }
    let sum = sum.lock().unwrap_or_else(PoisonError::into_inner).clone();
    Ok(sum)
}
