//! What a server says of itself over HTTP: how often it syncs its files.

use hapax_engine::glance::glance;
use hapax_protocol::guarantee::Window;
use serde_json::Value;
use url::Url;

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
    let parsed = Url::parse(url).map_err(|error| error.to_string())?;
    let host = parsed.host_str().filter(|_| parsed.scheme() == "http");
    let host = host.ok_or_else(|| "it is written http://host:port".to_owned())?;
    let body = glance(&format!("{host}:{}", parsed.port().unwrap_or(8222)), "/jsz", None).await?;
    let says: Value = serde_json::from_slice(&body).map_err(|_| "the answer is not JSON".to_owned())?;
    let config = says.get("config").ok_or_else(|| "the answer tells nothing of JetStream".to_owned())?;
    if config.get("sync_always").and_then(Value::as_bool) == Some(true) {
        return Ok(Sync::Always);
    }
    let nanos = config.get("sync_interval").and_then(Value::as_u64);
    let nanos = nanos.ok_or_else(|| "the answer tells no sync_interval".to_owned())?;
    Ok(Sync::Every(Window(nanos / 1_000_000)))
}
