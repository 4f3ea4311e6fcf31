//! What the scenarios are played on: hosts, processes of `mesh`, services of other people's making.
//!
//! Everything started here is ended by its own process number when it goes out of scope; every wait has a deadline;
//! when a test fails, the logs of what it started are shown.

pub(crate) mod wait;
pub(crate) mod websocket;
pub(crate) mod place;
pub(crate) mod process;
pub(crate) mod program;
pub(crate) mod mesh;
pub(crate) mod peer;
pub(crate) mod instance;
