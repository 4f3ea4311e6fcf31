//! What flows over connections, whatever they speak: bodies of requests and responses, and bytes that are no HTTP.
//!
//! A [`source`] yields pieces, a [`sink`] takes them, a [`pump`] moves them from one to the other without a task or a
//! buffer of its own, and a [`tee`] copies what passes. [`reader`] and [`writer`] are the two directions of a TCP connection of this host.

pub(crate) mod reader;
pub(crate) mod writer;
pub(crate) mod ending;
pub(crate) mod link;
pub(crate) mod tee;
pub(crate) mod source;
pub(crate) mod sink;
pub(crate) mod pump;
pub(crate) mod duplex;
