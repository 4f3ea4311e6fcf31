//! The gossip protocol, pure: given packets, the time and a seed, it says what to send and what it believes.
//!
//! Membership (who is there) runs on the `foca` crate, an implementation of SWIM with suspicion and incarnations (Das,
//! Gupta, Motivala 2002); [`membership`] is the only file that knows it. Ours is the rest:
//!
//! - [`wire`]: what packets are made of, bounded;
//! - [`catalog`]: what each node says of itself, one writer each, newest wins;
//! - [`rumor`]: what is still being told, and how often yet;
//! - [`membership`]: who answers;
//! - [`roster`]: what follows from both for each node;
//! - [`contact`]: whom to exchange everything with, and when;
//! - [`introduction`]: whom a new process meets first;
//! - [`farewell`]: how a node says good-bye;
//! - [`sync`]: the exchange of everything two nodes know;
//! - [`cluster`]: the machine that joins them.
//!
//! Nothing here opens a socket, checks a signature or reads a clock.

pub mod wire;
pub mod catalog;
pub mod rumor;
pub mod membership;
pub mod roster;
pub mod contact;
pub mod introduction;
pub mod farewell;
pub mod sync;
pub mod cluster;
