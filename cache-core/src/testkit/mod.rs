//! The conformance suite, the fault-injecting wrapper and the history checker.
//!
//! * [`CASES`]: the contract as a table; each case is named by the sentence that it proves.
//! * [`assert_conforms`]: runs the table over a store and panics with every case that failed.
//! * [`Subject::trials`]: the same as a list of names and futures, for a test harness of one's own.
//! * [`Chaos`]: scripted faults in front of any store.
//! * `recipe` (feature `recipe`): the suites of the recipes.
//! * [`free_port`]: a port for a server that a test starts and may start again.
//! * [`PATIENT`]: deadlines for tests that are not about deadlines.
//! * [`history`]: checks recorded reads and acknowledgements against the staleness bound.
//!
//! A backend of one's own is tested in ten lines:
//!
//! ```
//! use cache_core::memory::Memory;
//! use cache_core::testkit::assert_conforms;
//!
//! # let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_time().build().unwrap();
//! # runtime.block_on(async {
//! let report = assert_conforms(Memory::new()).await;
//! assert!(report.passed() > 0);
//! println!("{report}");
//! # });
//! ```

mod case;
pub mod chaos;
mod context;
pub mod history;
mod port;
#[cfg(feature = "recipe")]
pub mod recipe;
mod run;
mod subject;
mod suite;
mod wait;

pub use case::{Case, Needs};
pub use chaos::Chaos;
pub use context::Context;
pub use port::free_port;
pub use run::{Report, Trial, assert_conforms};
pub use subject::Subject;
pub use suite::CASES;
pub use wait::{PATIENT, eventually, within};

#[cfg(test)]
mod tests;
