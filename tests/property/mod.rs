//! One file for each decider.
