//! A lock: at most one holder at a time, until its ttl, and a number that proves who was last.
//!
//! * [`Locks`]: the handle: acquire, try, wait, [`with_lock`](Locks::with_lock).
//! * [`Guard`]: a lock that is held; it is renewed, says when it is lost, and is given back on drop.
//! * [`LockStore`]: the atomic steps, for those who write a store.
//!
//! ```
//! # use std::time::Duration;
//! use cache_core::Memory;
//! use cache_core::recipe::lock::Locks;
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> cache_core::Result<()> {
//! let locks = Locks::new(Memory::new());
//! let sum = locks
//!     .with_lock("order:7", Duration::from_secs(10), |hold| async move {
//!         // ... work; hand `hold.fence()` to whatever is written
//!         hold.fence() > 0
//!     })
//!     .await?;
//! assert!(sum);
//!
//! let guard = locks.acquire("order:7", Duration::from_secs(10)).await?;
//! assert!(locks.try_acquire("order:7", Duration::from_secs(10)).await?.is_none());
//! guard.release().await?;
//! # Ok(())
//! # }
//! ```
//!
//! # What it promises, and what only the fence can
//!
//! No two holders overlap if the store keeps its data, clocks run at the same rate to one in a hundred, and a holder
//! stops when its guard says [`lost`](Guard::lost). A process that is frozen past its ttl can't stop in time, and a
//! store that fails over may forget a lock that it has just given. So every hold has a [`fence`](Guard::fence), a
//! number that grows with every hold of the key, and what is written to carries it along: **the resource refuses a
//! number below the last one it saw**. In SQL, with a column `fence` beside the data:
//!
//! ```sql
//! UPDATE orders SET state = 'paid', fence = :fence WHERE id = 7 AND fence <= :fence;
//! -- 0 rows: a later holder was here; stop
//! ```
//!
//! With the fence checked there, a late write of an old holder does nothing, whatever froze or failed. Without it a
//! lock saves work, it does not guard data.

mod guard;
mod handle;
mod memory;
mod room;
mod store;

pub use guard::{Guard, Hold};
pub use handle::Locks;
pub use room::{Room, Seat};
pub use store::{Claim, Claimed, LockStore, Token};
