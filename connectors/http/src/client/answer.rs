//! What comes back from a host.

use std::io::Read as _;
use std::time::Duration;

use flate2::read::MultiGzDecoder;
use http_body_util::BodyExt;
use hyper::body::Incoming;
use hyper::header::{CONTENT_ENCODING, DATE, HeaderMap, HeaderName, RETRY_AFTER};
use hyper::{Response, StatusCode};

use super::{cause, pace, unix_ms};

/// How much of an answer is read of which only the status counts.
pub(crate) const SHORT: usize = 16 * 1024;

/// What came back.
pub(crate) struct Answer {
    pub status: StatusCode,
    pub headers: HeaderMap,
    /// The body, or its beginning.
    pub body: Vec<u8>,
    /// Whether that is all of it.
    pub is_whole: bool,
}

impl Answer {
    fn header(&self, name: &HeaderName) -> Option<&str> {
        self.headers.get(name).and_then(|value| value.to_str().ok())
    }

    /// How long the API asks to wait.
    pub(crate) fn retry_after(&self) -> Option<Duration> {
        // A wait that is given as a date is counted by the API's own clock, if it says the time.
        let now = self.header(&DATE).and_then(pace::date).unwrap_or_else(unix_ms);
        pace::retry_after(self.header(&RETRY_AFTER)?, now)
    }

    /// When the API answered, by its own clock.
    pub(crate) fn date_unix_ms(&self) -> Option<u64> {
        self.header(&DATE).and_then(pace::date)
    }
}

/// Reads an answer with at most so many bytes of its body, and says whether the connection has brought all of it.
pub(super) async fn read(answer: Response<Incoming>, bytes_max: usize) -> Result<(Answer, bool), String> {
    let (head, mut incoming) = answer.into_parts();
    let (status, headers) = (head.status, head.headers);
    let (mut body, mut is_whole, mut has_ended) = (Vec::new(), true, true);
    while let Some(frame) = incoming.frame().await {
        let chunk = match frame {
            Ok(frame) => frame.into_data().unwrap_or_default(),
            // The status is known, and so is what the request did.
            Err(_) if status.is_success() && bytes_max <= SHORT => {
                (is_whole, has_ended) = (false, false);
                break;
            }
            Err(error) => return Err(cause(&error)),
        };
        let room = bytes_max.saturating_sub(body.len());
        body.extend_from_slice(chunk.get(..room).unwrap_or(&chunk));
        if chunk.len() > room {
            (is_whole, has_ended) = (false, false);
            break;
        }
    }
    if !body.is_empty() && headers.get(CONTENT_ENCODING).is_some_and(|coding| coding == "gzip") {
        // Where only the status counts, it is known.
        let counts = bytes_max > SHORT || !status.is_success();
        (body, is_whole) = match unpacked(&body, is_whole, bytes_max) {
            Err(error) if counts => return Err(error),
            unpacked => unpacked.unwrap_or_default(),
        };
    }
    Ok((Answer { status, headers, body, is_whole }, has_ended))
}

/// The text of a compressed body, or its beginning, and whether that is all of it.
fn unpacked(body: &[u8], is_whole: bool, bytes_max: usize) -> Result<(Vec<u8>, bool), String> {
    let limit = u64::try_from(bytes_max).unwrap_or(u64::MAX);
    let mut text = Vec::new();
    let unpacked = MultiGzDecoder::new(body).take(limit.saturating_add(1)).read_to_end(&mut text);
    match unpacked {
        Err(error) if is_whole => return Err(format!("its gzip body cannot be read: {error}")),
        _ => {}
    }
    let fits = text.len() <= bytes_max;
    text.truncate(bytes_max);
    Ok((text, is_whole && fits))
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use flate2::Compression;
    use flate2::write::GzEncoder;

    use super::*;

    #[test]
    fn a_compressed_body_is_unpacked_as_far_as_it_may_be_long() {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
        encoder.write_all(&[b'x'; 1_000]).unwrap();
        let packed = encoder.finish().unwrap();
        assert_eq!(unpacked(&packed, true, 1_000), Ok((vec![b'x'; 1_000], true)));
        assert_eq!(unpacked(&packed, true, 999), Ok((vec![b'x'; 999], false)));
        let half = &packed[..packed.len() - 9];
        assert!(unpacked(half, true, 1_000).is_err());
        assert!(unpacked(half, false, 1_000).is_ok_and(|(_, is_whole)| !is_whole));
    }
}
