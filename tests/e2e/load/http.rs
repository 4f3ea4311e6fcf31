//! Callers that speak HTTP: keep-alive connections of HTTP/1.1, and many streams of HTTP/2.

use std::error::Error as _;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;
use h2::client::SendRequest;
use http::Request;
use http_body_util::{BodyExt as _, Full};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

use crate::load::service::{PIECE, PIECES};
use crate::load::{Lost, Notes, PAUSE, STEP_MAX, Targets, broken};

/// How often it is looked whether a connection has been accepted: for a second and a half at least.
const ACCEPT_LOOKS: usize = 300;
/// Streams of one HTTP/2 connection at a time, besides a slow one.
const STREAMS: usize = 8;

/// Opens a connection; returns whether it is known to have been accepted, which every other one waits for.
pub(super) async fn connect(to: SocketAddr) -> Result<(TcpStream, bool), Lost> {
    static OPENED: AtomicUsize = AtomicUsize::new(0);
    let stream = match timeout(STEP_MAX, TcpStream::connect(to)).await {
        Ok(Ok(stream)) => stream,
        Ok(Err(error)) => return Err(Lost::first("connect", &error, false)),
        Err(late) => return Err(broken("connect")(&late)),
    };
    if OPENED.fetch_add(1, Ordering::Relaxed).is_multiple_of(2) {
        return Ok((stream, false));
    }
    // One that has ended before it was accepted tells so by itself.
    for _ in 0..ACCEPT_LOOKS {
        match is_accepted(&stream).map_err(|error| broken("accept")(&error))? {
            Some(true) => return Ok((stream, true)),
            Some(false) => sleep(PAUSE).await,
            None => break,
        }
    }
    Ok((stream, false))
}

/// Looks whether the other end, which is in the same network, has accepted a connection: what waits in the queue of a
/// listener is no file yet, and so has no inode. `None` when the other end has gone.
fn is_accepted(stream: &TcpStream) -> std::io::Result<Option<bool>> {
    let (ours, theirs) = (stream.local_addr()?, stream.peer_addr()?);
    let port = |text: &str| u16::from_str_radix(text.rsplit(':').next()?, 16).ok();
    // That of the thread: the process may be on another host.
    let table = std::fs::read_to_string("/proc/thread-self/net/tcp")?;
    let inode = table.lines().find_map(|line| {
        let mut fields = line.split_whitespace().skip(1);
        let is_it = port(fields.next()?)? == theirs.port() && port(fields.next()?)? == ours.port();
        let inode = is_it.then(|| fields.nth(6))??;
        inode.parse::<u64>().ok()
    });
    Ok(inode.map(|inode| inode != 0))
}

/// The requests of one connection of HTTP/1.1, until the proxy says that it ends.
pub(super) async fn keep_alive(targets: Targets, notes: Notes) -> Result<(), Lost> {
    http1(targets, notes, false).await
}

/// As [`keep_alive`], with answers that take two seconds.
pub(super) async fn slow_keep_alive(targets: Targets, notes: Notes) -> Result<(), Lost> {
    http1(targets, notes, true).await
}

async fn http1(targets: Targets, notes: Notes, slow: bool) -> Result<(), Lost> {
    let (stream, accepted) = connect(targets.outbound).await?;
    let shaken = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await;
    let (mut sender, connection) = shaken.map_err(|error| broken("handshake")(&error))?;
    tokio::spawn(connection);
    let mut count = 0;
    while !notes.is_over() && sender.ready().await.is_ok() {
        count += 1;
        let said = if slow { Bytes::new() } else { Bytes::from(format!("call {count}")) };
        // POST is never sent twice: whoever loses one has lost it.
        let request = Request::post(if slow { "/slow" } else { "/echo" }).header("host", "web.mesh");
        let request = request.body(Full::new(said.clone())).unwrap();
        let exchange = async {
            let response = sender.send_request(request).await?;
            let status = response.status();
            Ok::<_, hyper::Error>((status, response.into_body().collect().await?.to_bytes()))
        };
        let (status, body) = timeout(STEP_MAX, exchange)
            .await
            .map_err(|late| broken("response")(&late))?
            .map_err(|error| match error.source().and_then(|cause| cause.downcast_ref()) {
                Some(cause) if count == 1 => Lost::first("the first request", cause, accepted),
                _ => Lost::Broken(format!("request {count} of a connection: {error:?}")),
            })?;
        check(status, &body, if slow { PIECE.repeat(PIECES) } else { said.to_vec() }.as_slice())?;
        notes.done();
        sleep(PAUSE).await;
    }
    Ok(())
}

fn check(status: http::StatusCode, body: &[u8], wanted: &[u8]) -> Result<(), Lost> {
    if status == 200 && body == wanted {
        return Ok(());
    }
    let body = String::from_utf8_lossy(body);
    Err(Lost::Broken(format!("{status}, {} bytes instead of {}: {body}", body.len(), wanted.len())))
}

/// The streams of one connection of HTTP/2, until the proxy says that it ends.
pub(super) async fn many_streams(targets: Targets, notes: Notes) -> Result<(), Lost> {
    let (stream, accepted) = connect(targets.outbound).await?;
    let shaken = h2::client::handshake(stream).await;
    let (sender, connection) = shaken.map_err(|error| broken("handshake")(&error))?;
    let driven = tokio::spawn(connection);
    let mut streams = JoinSet::new();
    for slow in std::iter::repeat_n(false, STREAMS).chain([true]) {
        let mut notes = notes.clone();
        if slow {
            notes.kind = "http/2, slow";
        }
        streams.spawn(one_after_another(sender.clone(), notes, (slow, accepted)));
    }
    drop(sender);
    let mut refused = Ok(());
    while let Some(ended) = streams.join_next().await {
        match ended.unwrap() {
            Ok(()) => {}
            Err(Lost::Refused) => refused = Err(Lost::Refused),
            Err(Lost::Broken(how)) => notes.tally(|tally| tally.lost.push(how)),
        }
    }
    // It ends by itself once all streams have.
    timeout(STEP_MAX, driven).await.map_err(|late| broken("the end of a connection")(&late))?.unwrap().ok();
    refused
}

async fn one_after_another(
    mut sender: SendRequest<Bytes>,
    notes: Notes,
    (slow, accepted): (bool, bool),
) -> Result<(), Lost> {
    let mut first = true;
    while !notes.is_over() {
        // A connection that the proxy ends (GOAWAY) takes no new streams; those under way go on.
        let Ok(ready) = sender.ready().await else { return Ok(()) };
        sender = ready;
        let path = if slow { "/slow" } else { "/echo" };
        let request = Request::post(format!("http://web.mesh{path}")).body(()).unwrap();
        let Ok((response, mut up)) = sender.send_request(request, slow) else { return Ok(()) };
        let exchange = async {
            if !slow {
                // Whatever is wrong with the stream, its response tells.
                _ = up.send_data(Bytes::from_static(b"what is sent back"), true);
            }
            let response = response.await?;
            let status = response.status();
            let (mut body, mut whole) = (response.into_body(), Vec::new());
            while let Some(piece) = body.data().await {
                let piece = piece?;
                body.flow_control().release_capacity(piece.len())?;
                whole.extend_from_slice(&piece);
            }
            Ok::<_, h2::Error>((status, whole))
        };
        let (status, body) = match timeout(STEP_MAX, exchange).await {
            Ok(Ok(answered)) => answered,
            // A stream that the proxy has not seen when it ends the connection is the caller's to send again (RFC 9113
            // section 6.8). This client brings it about: it acknowledges the first GOAWAY before it writes what it has queued.
            Ok(Err(error)) if error.is_go_away() && error.is_remote() => return Ok(()),
            Ok(Err(error)) => {
                return Err(match error.get_io() {
                    Some(cause) if first => Lost::first("the first stream", cause, accepted),
                    _ => Lost::Broken(format!("stream: {error:?}")),
                });
            }
            Err(late) => return Err(broken("response")(&late)),
        };
        check(
            status,
            &body,
            if slow { PIECE.repeat(PIECES) } else { b"what is sent back".to_vec() }.as_slice(),
        )?;
        first = false;
        notes.done();
        sleep(PAUSE).await;
    }
    Ok(())
}
