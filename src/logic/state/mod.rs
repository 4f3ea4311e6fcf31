//! What the control plane remembers: a deterministic machine. The same commands in the same order make the same state,
//! on any machine, today and after a restart; a log of commands is therefore all that must be kept and copied.
//!
//! - [`record`]: what the state is made of.
//! - [`command`]: what may be asked of it, what it answers, and why it refuses.
//! - [`history`]: what objects were before.
//! - `ring`: the keys of gossip.
//! - [`machine`]: the state and the one way to change it. [`reading`]: what there is to read in it.
//! - [`rotation`]: which change of the gossip keys is due.
//!
//! Time, random ids and the hashes of secrets come with the commands: nothing here reads a clock or draws a number.
//! Nothing here knows how many control planes there are.

pub mod record;
pub mod command;
pub mod history;
mod by_key;
mod ring;
pub mod machine;
pub mod reading;
pub mod rotation;

pub use command::{Change, Command, Event, Expected, Refusal, Write, Written};
pub use machine::State;
