//! Starts `mesh`.

fn main() {}
