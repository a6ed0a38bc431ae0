//! What the table holds under a key, and how a lookup takes less of it than the whole.

use std::any::Any;
use std::cell::Cell;
use std::mem::ManuallyDrop;
use std::sync::Arc;

use cache_core::{Entry, Glance, Part, Tick};

/// What the table holds: an entry. Empty only in the hands of a lookup that took what it asked of the entry instead.
///
/// moka answers a lookup with a clone of what it holds, and lends it to nobody. So a clone made on behalf of a [`glance`]
/// leaves the entry where it is, uncounted, and notes for that lookup what a plain hit asks.
pub(crate) struct Held(Option<Arc<Entry>>);

impl Held {
    /// The entry; there is one unless a [`glance`] asked.
    #[inline]
    pub(crate) fn entry(&self) -> Option<&Arc<Entry>> {
        self.0.as_ref()
    }

    #[inline]
    pub(crate) fn into_entry(self) -> Option<Arc<Entry>> {
        self.0
    }
}

impl From<Arc<Entry>> for Held {
    fn from(entry: Arc<Entry>) -> Self {
        Self(Some(entry))
    }
}

impl Clone for Held {
    #[inline]
    fn clone(&self) -> Self {
        if WANTED.replace(false)
            && let Some(part) = self.0.as_ref().and_then(|entry| entry.part())
        {
            note(part);
            return Self(None);
        }
        Self(self.0.clone())
    }
}

type Value = Option<Arc<dyn Any + Send + Sync>>;

// what a thread's lookup wants, and then what was noted for it; a place each, so that each is written and read as a word
thread_local! {
    /// The next clone is made for a glance.
    static WANTED: Cell<bool> = const { Cell::new(false) };
    static NOTED: Cell<bool> = const { Cell::new(false) };
    static EPOCH: Cell<u64> = const { Cell::new(0) };
    static ATTENTION: Cell<Tick> = const { Cell::new(Tick::ZERO) };
    static S0: Cell<u64> = const { Cell::new(0) };
    static CODEC: Cell<u32> = const { Cell::new(0) };
    /// Empty unless `NOTED`, so a thread that ends has nothing to drop.
    static VALUE: Cell<ManuallyDrop<Value>> = const { Cell::new(ManuallyDrop::new(None)) };
}

#[inline]
fn note(part: Part) {
    EPOCH.set(part.epoch);
    ATTENTION.set(part.attention);
    S0.set(part.s0);
    CODEC.set(part.codec);
    let before = VALUE.replace(ManuallyDrop::new(part.value));
    if NOTED.replace(true) {
        // of a lookup around this one
        drop(ManuallyDrop::into_inner(before));
    }
}

#[inline]
fn noted() -> Option<Part> {
    if !NOTED.replace(false) {
        return None;
    }
    let value = ManuallyDrop::into_inner(VALUE.take());
    Some(Part { epoch: EPOCH.get(), attention: ATTENTION.get(), s0: S0.get(), codec: CODEC.get(), value })
}

/// Leaves nothing noted, and nothing wanted, behind a lookup that panicked.
struct Tidy;

impl Drop for Tidy {
    fn drop(&mut self) {
        WANTED.set(false);
        drop(noted());
    }
}

/// What `look`, which looks one key up, says of it to a caller that may do without the entry.
///
/// `Err` if what was noted is gone: between the clone and its return `look` may drop evicted values, whose `Drop` is
/// anybody's and may look up another key. What that one was told is never told to this one.
#[inline]
pub(crate) fn glance(look: impl FnOnce() -> Option<Held>) -> Result<Option<Glance>, Gone> {
    WANTED.set(true);
    let tidy = Tidy;
    let held = look();
    std::mem::forget(tidy);
    match held {
        Some(Held(None)) => noted().map(|part| Some(Glance::Part(part))).ok_or(Gone),
        Some(Held(Some(entry))) => Ok(Some(Glance::Whole(entry))),
        None => {
            WANTED.set(false);
            Ok(None)
        }
    }
}

/// Another lookup came in between.
pub(crate) struct Gone;

#[cfg(test)]
mod tests {
    use std::panic::{AssertUnwindSafe, catch_unwind};

    use bytes::Bytes;

    use super::*;

    fn held(value: u64) -> Held {
        let entry = Entry::plain(Bytes::new(), Tick::NEVER);
        entry.remember(Arc::new(value));
        Held(Some(Arc::new(entry)))
    }

    fn value(glance: Glance) -> u64 {
        let Glance::Part(part) = glance else { panic!("the whole entry") };
        *part.value.unwrap().downcast().unwrap()
    }

    fn told(found: Result<Option<Glance>, Gone>) -> Option<u64> {
        found.ok().flatten().map(value)
    }

    #[test]
    fn a_glance_counts_no_reference_to_the_entry_and_any_other_clone_does() {
        let held = held(7);
        let entry = held.entry().unwrap();
        let glance = glance(|| Some(held.clone()));
        assert_eq!((Arc::strong_count(entry), told(glance)), (1, Some(7)));
        let other = held.clone();
        assert!(Arc::ptr_eq(other.entry().unwrap(), entry));
    }

    #[test]
    fn a_glance_that_finds_nothing_leaves_nothing_wanted() {
        assert!(matches!(glance(|| None), Ok(None)));
        assert!(held(7).clone().entry().is_some());
    }

    #[test]
    fn a_lookup_in_a_lookup_is_told_its_own_and_nobody_elses() {
        let (one, two) = (held(1), held(2));
        let mut inner = None;
        let outer = glance(|| {
            let found = one.clone();
            inner = told(glance(|| Some(two.clone())));
            Some(found)
        });
        assert!(matches!(outer, Err(Gone)), "what was noted for it is gone, and known to be");
        assert_eq!((inner, told(glance(|| Some(one.clone())))), (Some(2), Some(1)));
    }

    #[test]
    fn a_lookup_that_panics_in_a_lookup_leaves_nothing_behind() {
        let (one, two) = (held(1), held(2));
        let outer = glance(|| {
            let found = one.clone();
            let lookup = || {
                glance(|| {
                    let _found = two.clone();
                    panic!("a value's `Drop`")
                })
                .is_ok()
            };
            assert!(catch_unwind(AssertUnwindSafe(lookup)).is_err());
            Some(found)
        });
        assert!(matches!(outer, Err(Gone)));
        assert_eq!(Arc::strong_count(two.entry().unwrap()), 1);
        let rest = VALUE.with(|value| ManuallyDrop::into_inner(value.take()));
        assert!(rest.is_none() && !WANTED.get() && !NOTED.get());
    }
}
