//! Streams of lines: cut anywhere, with heartbeats, and ended when they are silent or senseless.

use std::time::Duration;

use bytes::Bytes;
use futures_util::{Stream, StreamExt as _, stream};
use http_body_util::StreamBody;
use hyper::body::Frame;
use mesh::api::stream::{Error, LINE_BYTES_MAX, lines};
use proptest::prelude::*;

type Chunk = Result<Frame<Bytes>, std::io::Error>;

fn body(chunks: Vec<Vec<u8>>) -> impl Stream<Item = Chunk> + Unpin {
    stream::iter(chunks.into_iter().map(|chunk| Ok(Frame::data(Bytes::from(chunk)))))
}

async fn all(chunks: impl Stream<Item = Chunk> + Unpin) -> Vec<Result<u32, Error>> {
    lines(StreamBody::new(chunks)).collect().await
}

proptest! {
    #[test]
    fn values_arrive_in_order_however_the_bytes_are_cut(
        values in prop::collection::vec((any::<u32>(), 0_usize..3), 0..20),
        size in 1_usize..12,
    ) {
        let text: String = values.iter().map(|(value, beats)| format!("{value}\n{}", "\n".repeat(*beats))).collect();
        let chunks = text.as_bytes().chunks(size).map(<[u8]>::to_vec).collect();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();

        let got = runtime.block_on(all(body(chunks)));

        let got: Vec<_> = got.into_iter().map(Result::unwrap).collect();
        prop_assert_eq!(got, values.into_iter().map(|(value, _)| value).collect::<Vec<_>>());
    }
}

#[tokio::test(start_paused = true)]
async fn silence_ends_a_stream_and_heartbeats_prevent_it() {
    let beats = stream::iter([5, 5, 5, 5, 16]).then(|seconds| async move {
        tokio::time::sleep(Duration::from_secs(seconds)).await;
        Ok(Frame::data(Bytes::from_static(b"\n")))
    });
    let beats = Box::pin(stream::once(async { Ok(Frame::data(Bytes::from_static(b"7\n"))) }).chain(beats));

    let got = all(beats).await;

    assert!(matches!(got.as_slice(), [Ok(7), Err(Error::Silence)]), "{got:?}");
}

#[tokio::test]
async fn what_is_no_line_of_ours_ends_a_stream() {
    let senseless = all(body(vec![b"1\n{}\n2\n".to_vec()])).await;
    let long = all(body(vec![vec![b'1'; LINE_BYTES_MAX / 2]; 3])).await;
    let broken =
        stream::iter([Ok(Frame::data(Bytes::from_static(b"1\n2"))), Err(std::io::Error::other("gone"))]);
    let broken = all(broken).await;

    assert!(matches!(senseless.as_slice(), [Ok(1), Err(Error::Line(_))]), "{senseless:?}");
    assert!(matches!(long.as_slice(), [Err(Error::Line(_))]));
    assert!(matches!(broken.as_slice(), [Ok(1), Err(Error::Broken(_))]), "{broken:?}");
}
