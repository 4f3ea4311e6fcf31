//! One file for each decider.

mod state;
