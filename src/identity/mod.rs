//! Life of an SVID, from key to handshake: a **key** is made, control signs its request, chain and key together are an
//! **SVID**, a **wallet** holds all that a process can prove and trusts, and `tls` shakes hands with it. The `vault` keeps
//! it all on disk, the `renewer` keeps it fresh.
//! After a handshake between proxies, a `stream` carries `record`s.

pub mod certificate;
pub mod key;
pub mod svid;
pub mod wallet;
pub mod target;
pub mod verifier;
pub mod handshake;
mod secret;
pub mod record;
pub mod stream;
pub mod tls;
pub mod vault;
pub mod renewer;
