//! The edge of the process: the only clock, the only spawn, sockets. Who else needs one asks here.

pub mod clock;
pub mod task;
pub mod disk;
pub mod pages;
pub mod resolve;
pub mod interface;
pub mod listen;
pub mod connection;
pub mod mark;
pub mod handoff;
pub mod claim;
pub mod dial;
pub mod prefixed;
pub mod drain;
pub mod patience;
pub mod owner;
pub mod tool;
pub mod nft;
pub mod dns;
