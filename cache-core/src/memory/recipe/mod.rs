//! The recipes that keep what they hold under keys of a [`Memory`](super::Memory), as they do on a server: what
//! another call finds there, deletes or lets expire is the same.

mod counter;
mod leaderboard;
mod session;
mod value;
