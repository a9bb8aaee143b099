//! What a server says of itself over HTTP: how often it syncs its files.

use std::time::Duration;

use hapax_protocol::guarantee::Window;
use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use url::Url;

/// How long an answer may take.
const TIMEOUT_S: u64 = 5;

/// How long an answer may be.
const ANSWER_BYTES_MAX: u64 = 1 << 20;

/// How a server keeps what it acknowledged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Sync {
    /// Each message is synced before it is acknowledged.
    Always,
    /// Files are synced this often.
    Every(Window),
}

/// Asks a server. An error says what went wrong.
pub(crate) async fn sync(url: &str) -> Result<Sync, String> {
    let answer = tokio::time::timeout(Duration::from_secs(TIMEOUT_S), ask(url)).await;
    let body = answer.map_err(|_| format!("no answer within {TIMEOUT_S} s"))??;
    let says: Value = serde_json::from_slice(&body).map_err(|_| "the answer is not JSON".to_owned())?;
    let config = says.get("config").ok_or_else(|| "the answer tells nothing of JetStream".to_owned())?;
    if config.get("sync_always").and_then(Value::as_bool) == Some(true) {
        return Ok(Sync::Always);
    }
    let nanos = config.get("sync_interval").and_then(Value::as_u64);
    let nanos = nanos.ok_or_else(|| "the answer tells no sync_interval".to_owned())?;
    Ok(Sync::Every(Window(nanos / 1_000_000)))
}

async fn ask(url: &str) -> Result<Vec<u8>, String> {
    let parsed = Url::parse(url).map_err(|error| error.to_string())?;
    let host = parsed.host_str().filter(|_| parsed.scheme() == "http");
    let host = host.ok_or_else(|| "it is written http://host:port".to_owned())?;
    let place = format!("{host}:{}", parsed.port().unwrap_or(8222));
    let mut stream = TcpStream::connect(&place).await.map_err(|error| format!("{place}: {error}"))?;
    // The old version of the protocol answers in one piece.
    let request = format!("GET /jsz HTTP/1.0\r\nHost: {place}\r\n\r\n");
    stream.write_all(request.as_bytes()).await.map_err(|error| error.to_string())?;
    let mut answer = Vec::new();
    stream.take(ANSWER_BYTES_MAX).read_to_end(&mut answer).await.map_err(|error| error.to_string())?;
    let end = answer.windows(4).position(|four| four == b"\r\n\r\n");
    let body = end.and_then(|end| answer.get(end.saturating_add(4)..));
    let status = answer.get(9..12).unwrap_or_default();
    match (status, body) {
        (b"200", Some(body)) => Ok(body.to_vec()),
        _ => Err(format!("{place} answers {:?}", String::from_utf8_lossy(status))),
    }
}
