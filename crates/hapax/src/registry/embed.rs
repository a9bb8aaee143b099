//! What computes vectors on the way.

use std::path::Path;
use std::sync::Arc;

use hapax_config::Section;
use hapax_embed::cache::Cache;
use hapax_embed::{Embedder, Embedding, What};
use hapax_engine::Fut;
use hapax_engine::fault::SourceError;
use hapax_engine::source::Source;
use hapax_http::embed::{EmbedConfig, Endpoint};
use hapax_protocol::identity::Identity;
use schemars::SchemaGenerator;
use serde_json::{Map, Value};

use super::{HTTP, OpenError};

/// The kinds there are, for the schema of the file.
pub fn schema(generator: &mut SchemaGenerator) -> Map<String, Value> {
    Map::from_iter([(HTTP.to_owned(), generator.subschema_for::<EmbedConfig>().to_value())])
}

/// Puts vectors into the records of a source. Asks nobody yet.
///
/// `identity` is that of the records as they are read, where it is known of them.
pub fn over(
    source: Arc<dyn Source>,
    section: &Section,
    identity: Option<&Identity>,
    cache: &Path,
) -> Result<Arc<dyn Source>, OpenError> {
    let config = EmbedConfig { secrets: section.secrets(), ..section.read()? };
    let what = What {
        column: config.column.clone(),
        from: config.from.clone(),
        dimension: usize::try_from(config.dimension).unwrap_or(usize::MAX),
    };
    let embedder = Arc::new(Over(Endpoint::open(&config).map_err(OpenError::Source)?));
    let embedding = Embedding::over(source, &what, embedder, Cache::new(cache));
    let embedding = embedding.map_err(|fault| OpenError::Source(fault.into()))?;
    Ok(match identity {
        Some(identity) => Arc::new(embedding.identified(identity)),
        None => Arc::new(embedding),
    })
}

/// An endpoint behind the contract of embedders.
struct Over(Endpoint);

impl Embedder for Over {
    fn name(&self) -> String {
        self.0.name()
    }

    fn texts_max(&self) -> usize {
        self.0.texts_max()
    }

    fn embed<'a>(&'a self, texts: &'a [String]) -> Fut<'a, Vec<Result<Vec<f32>, String>>, SourceError> {
        Box::pin(self.0.embed(texts))
    }
}
