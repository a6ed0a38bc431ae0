//! How often the origin was asked: the first read of a key and each write of it may cost so many loads in all processes.

use std::collections::HashMap;

use crate::keys::{Kind, kind};
use crate::record::{Op, Record};

/// Whether a key was loaded more often than its first read and its writes allow, in all processes together, where nothing
/// fails. One process loads what was invalidated and the others wait for it; a write that comes while a load is under way
/// detaches it, and that load was for the write before. So it is one load for each, and a half more for calls that a
/// crowded machine makes late: who gets no answer loads without a lease.
const fn is_beyond(loads: u64, causes: u64) -> bool {
    2 * loads > 3 * causes + 2
}

/// How often the origin was asked. Keys that are written under guards don't count: while one is held nothing that is
/// loaded is kept, as documented.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Loads {
    pub(crate) loads: u64,
    /// First reads and writes.
    pub(crate) causes: u64,
    /// The most loads for each cause, of all keys.
    pub(crate) most: f64,
    /// Keys that were loaded more often than is allowed.
    pub(crate) beyond: u64,
}

impl Loads {
    /// Loads for each cause.
    #[expect(clippy::cast_precision_loss, reason = "counts of a run of seconds")]
    pub(crate) fn each(&self) -> f64 {
        self.loads as f64 / self.causes.max(1) as f64
    }
}

/// Counts the loads of some processes.
pub(crate) fn count(processes: &[Vec<Record>]) -> Loads {
    let mut keys: HashMap<u16, (u64, u64)> = HashMap::new();
    for record in processes.iter().flatten().filter(|record| kind(record.key) != Kind::Guarded) {
        let (loads, causes) = keys.entry(record.key).or_insert((0, 1));
        match record.op {
            Op::Load => *loads += 1,
            Op::Write | Op::Tried | Op::Loose => *causes += 1,
            Op::Read | Op::Last | Op::Truth => {}
        }
    }
    let mut sum = Loads::default();
    for (loads, causes) in keys.into_values() {
        sum.loads += loads;
        sum.causes += causes;
        #[expect(clippy::cast_precision_loss, reason = "counts of a run of seconds")]
        let each = loads as f64 / causes as f64;
        sum.most = sum.most.max(each);
        sum.beyond += u64::from(is_beyond(loads, causes));
    }
    sum
}
