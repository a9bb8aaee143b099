//! Keys that somebody makes for a while, and removes again.

use hapax_engine::fault::SinkError;
use redis::Value;

use crate::client::{Address, bytes, list, number, text};
use crate::config::SinkConfig;

/// How many keys are looked at in one step.
const KEYS_MAX: u64 = 1_000;

/// What `key` and `state` say for a scratch destination: the same, behind a prefix of letters, digits and `_`.
pub fn names(config: &SinkConfig, prefix: &str) -> (String, String) {
    (format!("{prefix}{}", config.key), format!("{prefix}{}", config.state))
}

/// Removes every key that begins so. `prefix` is letters, digits and `_`.
pub async fn remove(config: &SinkConfig, prefix: &str) -> Result<(), SinkError> {
    let doing = "removing scratch keys";
    let mut session = Address::read(&config.url, config.tls.as_ref())?.connect().await?;
    let mut cursor = "0".to_owned();
    loop {
        let mut scan = redis::cmd("SCAN");
        scan.arg(&cursor).arg("MATCH").arg(format!("{prefix}*")).arg("COUNT").arg(KEYS_MAX);
        let answer = session.ask(doing, &scan).await?;
        let [next, keys] = list(&answer) else { return Err(session.misunderstood(doing).into()) };
        let keys: Vec<&[u8]> = list(keys).iter().filter_map(bytes).collect();
        if !keys.is_empty() {
            let mut unlink = redis::cmd("UNLINK");
            unlink.arg(keys);
            let gone: Value = session.ask(doing, &unlink).await?;
            number(&gone).ok_or_else(|| session.misunderstood(doing))?;
        }
        cursor = text(next).unwrap_or_default();
        if cursor == "0" || cursor.is_empty() {
            return Ok(());
        }
    }
}
