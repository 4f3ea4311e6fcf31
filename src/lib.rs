//! `mesh`: a service mesh for plain Linux hosts, in one binary.
//!
//! The order of the modules below is the architecture: each may use only what is declared above it, here and in every
//! folder (`tests/tidy.rs` checks it).
//!
//! - [`model`] says what things are, [`logic`] decides; neither does any IO.
//! - [`telemetry`], [`net`], [`identity`], [`gossip`] and [`api`] are the edges: the only code that touches the world.
//! - [`proxy`] (the data plane), [`control`] (the control plane) and [`top`] (the console) are the products. They never
//!   import each other; they meet through [`api`] and [`gossip`].
//! - [`cli`] starts them.

pub mod model;
pub mod logic;
pub mod telemetry;
pub mod net;
pub mod identity;
pub mod gossip;
pub mod api;
pub mod proxy;
pub mod control;
pub mod top;
pub mod cli;
