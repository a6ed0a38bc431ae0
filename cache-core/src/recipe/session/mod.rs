//! Sessions: what a web application remembers of a visitor, under an id that nobody can guess.
//!
//! * **Ids.** 192 random bits of the operating system, and 128 that say where the session is kept. An id is a
//!   secret: it has no `Display`, and `Debug` is masked. The store never sees it, only the [`SessionName`], a hash; so
//!   who reads the store's keys, its slow log or a backup can't take a session over.
//! * **A user's sessions** are kept in one place, named by a hash of the user: its index and its data. So each call is
//!   one atomic step in one slot of a cluster, and the index can't list what does not exist.
//! * **Lifetime.** A session ends when it was not touched for its idle time, and at the latest at its absolute one, by
//!   the store's clock. The index holds the ends; every call that writes drops what has ended, and the place's ttl is
//!   the longest session's. If a server evicts the index or the data alone, the sessions in it have ended.

mod handle;
mod id;
mod lifetime;
mod store;

pub use handle::{Session, Sessions};
pub use id::{SessionId, SessionName};
pub use lifetime::Lifetime;
pub use store::{Held, SessionStore, Times};
