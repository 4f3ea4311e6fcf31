//! An HTTP/1 service of our own: answers at once, sends back what it is sent, or takes two seconds to answer in pieces.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;
use futures_util::{StreamExt as _, stream};
use http_body_util::{BodyExt as _, Full, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use tokio::net::TcpListener;

use crate::stage::place::Place;

/// Pieces of a slow answer.
pub(crate) const PIECES: usize = 20;
/// What a piece of a slow answer says.
pub(crate) const PIECE: &[u8] = b"piece ";
const BETWEEN_PIECES: Duration = Duration::from_millis(100);

type Body = http_body_util::combinators::UnsyncBoxBody<Bytes, Infallible>;

/// Starts the service, on a thread of its own that ends with the test.
pub(crate) fn start(place: &Place) -> SocketAddr {
    let listener = place.inside(|| std::net::TcpListener::bind("127.0.0.1:0").unwrap());
    listener.set_nonblocking(true).unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async move {
            let listener = TcpListener::from_std(listener).unwrap();
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                let serving = hyper::server::conn::http1::Builder::new()
                    .serve_connection(TokioIo::new(stream), service_fn(answer));
                tokio::spawn(serving);
            }
        });
    });
    address
}

async fn answer(request: Request<Incoming>) -> Result<Response<Body>, hyper::Error> {
    let body = match request.uri().path() {
        "/slow" => {
            let pieces = stream::iter(0..PIECES).then(async |_| {
                tokio::time::sleep(BETWEEN_PIECES).await;
                Ok(Frame::data(Bytes::from_static(PIECE)))
            });
            StreamBody::new(pieces).boxed_unsync()
        }
        _ => Full::new(request.into_body().collect().await?.to_bytes()).boxed_unsync(),
    };
    Ok(Response::new(body))
}
