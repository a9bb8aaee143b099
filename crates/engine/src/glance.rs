//! What a server says of itself over plain HTTP: one question, one answer, nothing encrypted.

use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// How long an answer may take.
const TIMEOUT_S: u64 = 5;

/// How long an answer may be.
const ANSWER_BYTES_MAX: u64 = 1 << 20;

/// Asks the server at `place` (`host:port`) for a path. `authorization` is the header of that name. An error says what went
/// wrong, and shows no header.
pub async fn glance(place: &str, path: &str, authorization: Option<&str>) -> Result<Vec<u8>, String> {
    let answer = tokio::time::timeout(Duration::from_secs(TIMEOUT_S), ask(place, path, authorization)).await;
    answer.map_err(|_| format!("{place}: no answer within {TIMEOUT_S} s"))?
}

async fn ask(place: &str, path: &str, authorization: Option<&str>) -> Result<Vec<u8>, String> {
    let said = |error: std::io::Error| format!("{place}: {error}");
    let mut stream = TcpStream::connect(place).await.map_err(said)?;
    let entry = authorization.map(|value| format!("Authorization: {value}\r\n")).unwrap_or_default();
    // The old version of the protocol answers in one piece.
    let request = format!("GET {path} HTTP/1.0\r\nHost: {place}\r\n{entry}\r\n");
    stream.write_all(request.as_bytes()).await.map_err(said)?;
    let mut answer = Vec::new();
    stream.take(ANSWER_BYTES_MAX).read_to_end(&mut answer).await.map_err(said)?;
    let end = answer.windows(4).position(|four| four == b"\r\n\r\n");
    let body = end.and_then(|end| answer.get(end.saturating_add(4)..));
    let status = answer.get(9..12).unwrap_or_default();
    match (status, body) {
        (b"200", Some(body)) => Ok(body.to_vec()),
        _ => Err(format!("{place} answers {:?}", String::from_utf8_lossy(status))),
    }
}
