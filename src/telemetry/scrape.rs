//! The answer to who scrapes: the text of all metrics, compressed for who takes that.

use std::io::{self, Write as _};

use flate2::Compression;
use flate2::write::GzEncoder;
use http::header::{ACCEPT_ENCODING, CONTENT_ENCODING, CONTENT_TYPE, VARY};
use http::{HeaderMap, HeaderValue, Response};

use crate::logic::http::fields::items;
use crate::telemetry::prometheus;

/// Makes the answer to a request with these fields.
pub fn answer(asked: &HeaderMap, text: String) -> Response<Vec<u8>> {
    let compressed = takes_gzip(asked).then(|| gzip(text.as_bytes()).ok()).flatten();
    let is_compressed = compressed.is_some();
    let mut answer = Response::new(compressed.unwrap_or_else(|| text.into_bytes()));
    let fields = answer.headers_mut();
    fields.insert(CONTENT_TYPE, HeaderValue::from_static(prometheus::CONTENT_TYPE));
    fields.insert(VARY, HeaderValue::from_static("accept-encoding"));
    if is_compressed {
        fields.insert(CONTENT_ENCODING, HeaderValue::from_static("gzip"));
    }
    answer
}

/// Compresses in little time rather than well: most of what is repeated is found at once.
fn gzip(text: &[u8]) -> io::Result<Vec<u8>> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(text)?;
    encoder.finish()
}

/// Returns whether a request takes gzip (RFC 9110 §12.5.3): says so of it, or, where it does not speak of it, of everything.
fn takes_gzip(asked: &HeaderMap) -> bool {
    let (mut gzip, mut any) = (None, None);
    for item in asked.get_all(ACCEPT_ENCODING).iter().flat_map(|value| items(value.as_bytes())) {
        let mut parts = item.split(|byte| *byte == b';').map(<[u8]>::trim_ascii);
        let coding = parts.next().unwrap_or_default();
        let taken = parts.all(|part| !is_nothing(part));
        if coding.eq_ignore_ascii_case(b"gzip") || coding.eq_ignore_ascii_case(b"x-gzip") {
            gzip = Some(taken);
        } else if coding == b"*" {
            any = Some(taken);
        }
    }
    gzip.or(any).unwrap_or(false)
}

/// Returns whether a parameter is a weight of zero, or none that can be read.
fn is_nothing(parameter: &[u8]) -> bool {
    let Some(weight) = parameter.strip_prefix(b"q=").or_else(|| parameter.strip_prefix(b"Q=")) else {
        return false;
    };
    let weight = std::str::from_utf8(weight).ok().and_then(|weight| weight.parse::<f32>().ok());
    !weight.is_some_and(|weight| weight > 0.0)
}
