//! Life of an SVID, from key to handshake.
