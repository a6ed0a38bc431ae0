//! The reference backend, in process memory, with every capability and no dependency.
//!
//! * [`Memory`]: a far store, as one server thread would be: every operation is one short critical section. It is the
//!   embedded default, the store of the doc examples, and the model of a server in simulations, where many engines
//!   share one `Memory` and [`flush`](Memory::flush), [`restart`](Memory::restart), [`evict`](Memory::evict) and
//!   [`fork`](Memory::fork) do what happens to a server.
//! * [`LocalMemory`]: a near store with an exact byte budget.

mod atomic;
mod builder;
mod bus;
#[cfg(feature = "recipe")]
mod extensions;
mod leases;
mod listener;
mod near;
#[cfg(feature = "recipe")]
mod objects;
#[cfg(feature = "recipe")]
mod recipe;
mod ring;
mod server;
mod service;
mod state;
mod sweep;
mod tags;

#[cfg(feature = "recipe")]
pub(crate) use atomic::integer;
pub use builder::Builder;
pub use near::LocalMemory;
pub use server::Memory;

#[cfg(test)]
mod tests;
