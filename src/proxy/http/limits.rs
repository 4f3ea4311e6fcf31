//! HTTP/2 servers and clients with our limits. Nothing else makes one for the data path.
//!
//! h2 (since 0.4.16, RUSTSEC-2026-0258) closes a whole connection when small DATA frames pile up unread beyond a budget of
//! half the connection's window: one slow reader of small messages would cut the other streams off; hence the largest
//! window there is for the connection. What a peer can make us hold stays bounded: streams × window of one stream.

use std::time::Duration;

use crate::logic::http::h1::lines::HEAD_BYTES_MAX;

/// Streams on one HTTP/2 connection that others opened to us.
pub(crate) const STREAMS_MAX: u32 = 512;

const STREAM_WINDOW: u32 = 1 << 20;
const CONNECTION_WINDOW: u32 = (1 << 31) - 1;
const FRAME_BYTES_MAX: u32 = 32 << 10;
const SEND_BUFFER_BYTES: usize = 256 << 10;
/// Streams that a peer may open and reset before we have looked at them (CVE-2023-44487).
const PENDING_RESETS_MAX: usize = 64;
const ERROR_RESETS_MAX: usize = 1_024;
/// For how long a reset stream is remembered, so that what was under way for it is no error.
const RESET_TIME: Duration = Duration::from_secs(5);

/// Makes a server for callers that speak HTTP/2.
pub(crate) fn h2_server() -> h2::server::Builder {
    let mut builder = h2::server::Builder::new();
    builder
        .initial_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .max_frame_size(FRAME_BYTES_MAX)
        .max_send_buffer_size(SEND_BUFFER_BYTES)
        .max_concurrent_streams(STREAMS_MAX)
        .max_header_list_size(HEAD_BYTES_MAX as u32)
        .max_pending_accept_reset_streams(PENDING_RESETS_MAX)
        .max_local_error_reset_streams(Some(ERROR_RESETS_MAX))
        .reset_stream_duration(RESET_TIME)
        .enable_connect_protocol();
    builder
}

/// Makes a client for services that speak HTTP/2.
pub(crate) fn h2_client() -> h2::client::Builder {
    let mut builder = h2::client::Builder::new();
    builder
        .initial_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .max_frame_size(FRAME_BYTES_MAX)
        .max_send_buffer_size(SEND_BUFFER_BYTES)
        .max_header_list_size(HEAD_BYTES_MAX as u32)
        .reset_stream_duration(RESET_TIME)
        .enable_push(false);
    builder
}
