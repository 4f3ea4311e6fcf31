//! Pieces that views are made of.

pub mod spark;
pub mod heat;
pub mod lines;
pub mod table;
