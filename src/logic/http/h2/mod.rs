//! HTTP/2 on the wire (RFC 9113), as far as it is bytes: nothing here knows a connection.
//!
//! - [`frame`] is how frames begin, what settings say, and what is wrong with either.
//! - [`huffman`] is the code that strings may be in, [`table`] what fields are named by, [`hpack`] the compression of fields
//!   (RFC 7541): all of it is read, and of it only what needs no memory is written.
//! - [`head`] reads and writes heads and trailers, and refuses what is malformed.

pub mod frame;
pub mod huffman;
pub mod table;
pub mod hpack;
pub mod head;
