//! Which product is read next: by Zipf's law, or as somebody once really asked.

use std::collections::HashMap;
use std::fs::File;
use std::io::{BufRead, BufReader, Read, Seek};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use anyhow::{Context, Result, ensure};
use flate2::read::MultiGzDecoder;

/// How many reads a task takes at once.
pub(crate) const CHUNK: usize = 64;

const DRAWS: usize = 1 << 20;
const SKEW: f64 = 0.99;
const MOST: usize = 50_000_000;

/// An order of reads that tasks walk through together, again from the start when it is over.
#[derive(Debug)]
pub(crate) struct Workload {
    order: Arc<[u32]>,
    next: AtomicUsize,
    /// What it is, for people.
    pub(crate) what: String,
}

impl Workload {
    /// A million draws by Zipf's law: the second most read product is read half as often as the first, and so on.
    /// Process number `index` begins at another place.
    pub(crate) fn zipf(products: u32, index: usize) -> Self {
        let mut sum = 0.0;
        let weights: Vec<f64> = (1..=products)
            .map(|rank| {
                sum += f64::from(rank).powf(-SKEW);
                sum
            })
            .collect();
        let mut random = fastrand::Rng::with_seed(7);
        let order = (0..DRAWS)
            .map(|_| {
                let draw = random.f64() * sum;
                let rank = weights.partition_point(|sum| *sum < draw);
                product(u32::try_from(rank).unwrap_or(0), products)
            })
            .collect();
        Self::new(order, index, format!("by Zipf's law, s = {SKEW}"))
    }

    /// The keys of a recorded trace, one a line, plain or gzip. The n-th key that appears is one product.
    pub(crate) fn trace(path: &Path, products: u32, index: usize) -> Result<Self> {
        let order = read(path, products).with_context(|| format!("reading {}", path.display()))?;
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let what = format!("as recorded in {name}, {} accesses", order.len());
        Ok(Self::new(order.into(), index, what))
    }

    fn new(order: Arc<[u32]>, index: usize, what: String) -> Self {
        let next = AtomicUsize::new(index * order.len() / 2);
        Self { order, next, what }
    }

    /// The next few products to read.
    pub(crate) fn chunk(&self) -> impl Iterator<Item = u32> + '_ {
        let from = self.next.fetch_add(CHUNK, Ordering::Relaxed);
        (from..from + CHUNK).map(|place| self.order[place % self.order.len()])
    }

    /// A product that is read often or seldom, as chance has it: for writers.
    pub(crate) fn any(&self) -> u32 {
        self.order[fastrand::usize(..self.order.len())]
    }
}

/// The product of a rank; neighbours in rank are no neighbours in the database.
fn product(rank: u32, products: u32) -> u32 {
    // a prime, so that no two ranks meet
    const STEP: u64 = 2_654_435_761;
    1 + u32::try_from(u64::from(rank) * STEP % u64::from(products)).unwrap_or(0)
}

fn read(path: &Path, products: u32) -> Result<Vec<u32>> {
    let mut file = File::open(path)?;
    let mut magic = [0; 2];
    let zipped = file.read(&mut magic)? == 2 && magic == [0x1f, 0x8b];
    file.rewind()?;
    let lines: Box<dyn BufRead> =
        if zipped { Box::new(BufReader::new(MultiGzDecoder::new(file))) } else { Box::new(BufReader::new(file)) };
    let mut known: HashMap<String, u32> = HashMap::new();
    let mut order = Vec::new();
    for line in lines.lines() {
        let line = line?;
        let key = line.trim();
        if key.is_empty() {
            continue;
        }
        let rank = match known.get(key) {
            Some(rank) => *rank,
            None => {
                let rank = u32::try_from(known.len())?;
                known.insert(key.to_owned(), rank);
                rank
            }
        };
        order.push(product(rank % products, products));
        ensure!(order.len() <= MOST, "there are more than {MOST} lines; cut the trace");
    }
    ensure!(!order.is_empty(), "there is no key in it");
    Ok(order)
}
