//! One file for each decider.

mod state;
mod histogram;
mod rollup;
mod metric;
