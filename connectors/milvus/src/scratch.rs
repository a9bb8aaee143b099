//! Collections that somebody makes for a while, and removes again.

use hapax_engine::fault::SinkError;

use crate::client::Address;
use crate::config::SinkConfig;
use crate::proto::kind;

/// What `collection` says for a scratch destination: the same, behind a prefix of letters, digits and `_`, as long as a
/// name may be.
pub fn name(config: &SinkConfig, prefix: &str) -> String {
    format!("{prefix}{}", config.collection).chars().take(255).collect()
}

/// Makes a collection like the real one under the [name](name) of its scratch destination, unless the sink makes it itself.
pub async fn create(real: &SinkConfig, prefix: &str) -> Result<(), SinkError> {
    if real.create.is_some() {
        return Ok(());
    }
    let name = &name(real, prefix);
    let mut line = address(real)?.connect().await?;
    let mut schema = line.describe(&real.collection).await?;
    schema.name = name.clone();
    schema.fields.retain(|field| !field.is_dynamic);
    for field in &mut schema.fields {
        // What it is, nobody looked.
        field.default_value = None;
    }
    line.create(&schema).await?;
    let vectors = schema.fields.iter().filter(|field| field.data_type == kind::FLOAT_VECTOR);
    for field in vectors {
        line.index(name, &field.name, &[("index_type", "AUTOINDEX"), ("metric_type", "L2")]).await?;
    }
    Ok(line.load(name).await?)
}

/// Removes every collection whose name begins so.
pub async fn remove(config: &SinkConfig, prefix: &str) -> Result<(), SinkError> {
    let mut line = address(config)?.connect().await?;
    for name in line.collections().await? {
        if name.starts_with(prefix) {
            line.drop_collection(&name).await?;
        }
    }
    Ok(())
}

fn address(config: &SinkConfig) -> Result<Address, SinkError> {
    let (token, ca, database) = (config.token.as_deref(), config.ca.as_deref(), config.database.as_deref());
    Ok(Address::read(&config.url, token, ca, database)?)
}
