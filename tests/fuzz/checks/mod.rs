//! What must hold for any bytes: one function for each fuzz target.

pub(crate) mod h1_request;
pub(crate) mod h1_response;
pub(crate) mod h1_chunked;
pub(crate) mod connection;
pub(crate) mod h2_head;
pub(crate) mod link_head;
pub(crate) mod tls_record;
pub(crate) mod fields;
pub(crate) mod gossip;
pub(crate) mod dns;
pub(crate) mod enrollment;
