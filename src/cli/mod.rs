//! The command line: one file for each command, and how its output looks.

pub mod output;
