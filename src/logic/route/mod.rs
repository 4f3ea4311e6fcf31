//! Where a request goes: the semantics of the Gateway API's routes in a mesh.
//!
//! Read [`matcher`] (does one match apply, and how specific is it), [`index`] (the best of many matches), [`filter`] (what a
//! rule changes), [`table`] (the best rule for a request), [`split`] (which of the rule's backends), [`bound`] (whose calls a table is for). Nothing here knows where
//! endpoints are.

pub mod query;
pub mod matcher;
pub mod index;
pub mod filter;
pub mod table;
pub mod split;
pub mod bound;
