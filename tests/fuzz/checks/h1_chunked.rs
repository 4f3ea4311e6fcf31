//! Bodies in chunks: no bytes make the decoder panic, and cutting them changes nothing.

use bytes::BytesMut;
use mesh::logic::http::fields::Fields;
use mesh::logic::http::framing::Framing;
use mesh::logic::http::h1::body::Body;
use mesh::logic::http::h1::chunk::Piece;

/// Reads a body that arrives in parts of this size, and then no more: data, trailer fields if it has ended, what is left.
fn read(text: &[u8], size: usize) -> Option<(Vec<u8>, Fields, Vec<u8>)> {
    let mut body = Body::new(Framing::Chunked);
    let mut input = BytesMut::new();
    let mut data = Vec::new();
    let mut trailers = None;
    for part in text.chunks(size.max(1)).chain([&[][..]]) {
        input.extend_from_slice(part);
        while let Some(piece) = body.decode(&mut input, part.is_empty()).ok()? {
            match piece {
                Piece::Data(bytes) => data.extend_from_slice(&bytes),
                Piece::Trailers(fields) => trailers = Some(fields),
            }
        }
    }
    assert!(body.is_over(), "a body that is closed is over or has failed");
    Some((data, trailers?, input.to_vec()))
}

/// Fails on bytes that break the rule.
pub(crate) fn check(input: &[u8]) {
    let Some((&size, text)) = input.split_first() else { return };
    assert_eq!(read(text, size.into()), read(text, text.len()));
}
