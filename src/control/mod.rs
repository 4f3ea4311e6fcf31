//! The control plane: certificate authority, configuration, API, and the merged view of all traffic.

pub mod bootstrap;
pub mod store;
pub mod authority;
pub mod collector;
pub mod fleet;
pub mod timeline;
pub mod publisher;
pub mod plane;
pub mod enrollment;
pub mod founding;
pub mod http;
