//! Life of an SVID, from key to handshake: a **key** is made, control signs its request, chain and key together are an
//! **SVID**, a **wallet** holds all that a process can prove and trusts, and `tls` shakes hands with it.

pub mod certificate;
pub mod key;
pub mod svid;
pub mod wallet;
pub mod target;
pub mod verifier;
pub mod tls;
