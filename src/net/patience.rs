//! How long, and how much, we wait for what a client or a service says in HTTP.

use std::time::Duration;

/// From the first byte of a request's head to its last.
pub const HEAD_TIME: Duration = Duration::from_secs(15);
/// A client may keep an unused connection for so long.
pub const IDLE_TIME: Duration = Duration::from_mins(5);
/// From the end of a client's stream, or the last that was written to it since, until its request is given up.
pub const LEAVE_TIME: Duration = Duration::from_secs(1);
/// For a client to take an answer of our own.
pub const REPLY_TIME: Duration = Duration::from_secs(10);
/// For a client to read an answer before what it goes on sending resets the connection.
pub const LINGER_TIME: Duration = Duration::from_secs(2);
