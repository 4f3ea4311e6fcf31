//! hyper's servers and clients with our limits. Nothing else makes one for the data path.
//!
//! h2 (since 0.4.16, RUSTSEC-2026-0258) closes a whole connection when small DATA frames pile up unread beyond a budget of
//! half the connection's window. Links carry many streams, so one slow reader of small messages would cut the others off;
//! hence the largest window there is for the connection. What a peer can make us hold stays bounded: streams × window of
//! one stream.

use std::future::Future;
use std::time::Duration;

use hyper::client::conn as client;
use hyper::rt::Executor;
use hyper::server::conn as server;
use hyper_util::rt::TokioTimer;

use crate::net::task;

/// Bytes of a request's or response's head at most.
pub const HEAD_BYTES_MAX: usize = 64 << 10;
/// Header fields at most.
pub const HEADERS_MAX: usize = 128;
/// A client may keep an unused HTTP/1 connection for so long.
pub const IDLE_TIME: Duration = Duration::from_mins(5);
/// Streams on one HTTP/2 connection that others opened to us.
pub const STREAMS_MAX: u32 = 512;

const STREAM_WINDOW: u32 = 1 << 20;
const CONNECTION_WINDOW: u32 = (1 << 31) - 1;
const FRAME_BYTES_MAX: u32 = 32 << 10;
const SEND_BUFFER_BYTES: usize = 256 << 10;
/// A link that is silent is asked whether it is still there: calls on a host that vanished without a word end after
/// both, which is about when gossip declares it dead.
const PING_EVERY: Duration = Duration::from_secs(3);
const PING_PATIENCE: Duration = Duration::from_secs(4);
/// Streams that a peer may open and reset before we have looked at them (CVE-2023-44487).
const PENDING_RESETS_MAX: usize = 64;
const ERROR_RESETS_MAX: usize = 1_024;

/// Runs hyper's own tasks on the current thread.
#[derive(Debug, Clone, Copy, Default)]
pub struct LocalExec;

impl<F> Executor<F> for LocalExec
where
    F: Future + 'static,
    F::Output: 'static,
{
    fn execute(&self, future: F) {
        task::spawn_local("http", future);
    }
}

/// Makes a server for HTTP/1 clients.
///
/// Without `pipeline_flush`: hyper 1.12 then never flushes an answer after which bytes stay unread, as after a refused
/// head, or a switch of protocols when the client has already spoken the new one.
pub fn h1_server() -> server::http1::Builder {
    let mut builder = server::http1::Builder::new();
    builder
        .timer(TokioTimer::new())
        .header_read_timeout(IDLE_TIME)
        .max_buf_size(HEAD_BYTES_MAX)
        .max_headers(HEADERS_MAX)
        .preserve_header_case(true)
        .auto_date_header(false);
    builder
}

/// Makes a server for HTTP/2 clients and links.
pub fn h2_server() -> server::http2::Builder<LocalExec> {
    let mut builder = server::http2::Builder::new(LocalExec);
    builder
        .timer(TokioTimer::new())
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .max_frame_size(FRAME_BYTES_MAX)
        .max_send_buf_size(SEND_BUFFER_BYTES)
        .max_concurrent_streams(STREAMS_MAX)
        .max_header_list_size(HEAD_BYTES_MAX as u32)
        .max_pending_accept_reset_streams(PENDING_RESETS_MAX)
        .max_local_error_reset_streams(ERROR_RESETS_MAX)
        .keep_alive_interval(PING_EVERY)
        .keep_alive_timeout(PING_PATIENCE)
        .enable_connect_protocol()
        .auto_date_header(false);
    builder
}

/// Makes a client for HTTP/1 services.
pub fn h1_client() -> client::http1::Builder {
    let mut builder = client::http1::Builder::new();
    builder.max_buf_size(HEAD_BYTES_MAX).max_headers(HEADERS_MAX).preserve_header_case(true);
    builder
}

/// Makes a client for HTTP/2 services and links.
pub fn h2_client() -> client::http2::Builder<LocalExec> {
    let mut builder = client::http2::Builder::new(LocalExec);
    builder
        .timer(TokioTimer::new())
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .max_frame_size(FRAME_BYTES_MAX)
        .max_send_buf_size(SEND_BUFFER_BYTES)
        .max_header_list_size(HEAD_BYTES_MAX as u32)
        .keep_alive_interval(PING_EVERY)
        .keep_alive_timeout(PING_PATIENCE)
        .keep_alive_while_idle(true);
    builder
}
