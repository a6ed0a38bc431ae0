//! What recipes keep under keys beside bytes, as a server keeps hashes and sorted sets.

use std::any::Any;

use super::state::{OVERHEAD, State, Value, wrong_type};
use crate::{Error, ErrorKind, MAX_KEY, Result, Tick};

/// A value of a recipe's own kind.
pub(super) trait Object: Any + Send {
    /// Its bytes, bookkeeping included; asked often, so it is to be known and not counted.
    fn weight(&self) -> usize;
}

impl State {
    /// The object under `key`.
    pub(super) fn object<T: Object>(&mut self, key: &str) -> Result<Option<&mut T>> {
        match self.item(key).map(|item| &mut item.value) {
            None => Ok(None),
            Some(Value::Object(object)) => {
                let object: &mut dyn Any = &mut **object;
                object.downcast_mut().map(Some).ok_or_else(wrong_type)
            }
            Some(_) => Err(wrong_type()),
        }
    }

    /// The object under `key`, taken out to be changed, with its deadline; it goes back by
    /// [`put_object`](Self::put_object).
    pub(super) fn take_object<T: Object + Default>(&mut self, key: &str) -> Result<Option<(T, Tick)>> {
        let Some(object) = self.object::<T>(key)? else { return Ok(None) };
        let object = std::mem::take(object);
        let deadline = self.item(key).map_or(Tick::ZERO, |item| item.deadline);
        self.remove(key);
        Ok(Some((object, deadline)))
    }

    /// Puts an object under `key` until `deadline`; what was read least makes room for what it has grown by.
    pub(super) fn put_object<T: Object>(&mut self, key: &str, object: T, deadline: Tick) {
        self.store_until(key, Value::Object(Box::new(object)), deadline, false);
    }

    /// Refuses an object of `weight` bytes that the whole store could not hold.
    pub(super) fn fits(&self, weight: usize) -> Result<()> {
        if (weight + MAX_KEY + OVERHEAD) as u64 <= self.budget() {
            return Ok(());
        }
        Err(Error::new(ErrorKind::TooLarge, "the store is too small for one more; give it more bytes"))
    }
}
