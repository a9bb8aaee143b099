//! One module a command.

pub mod completions;
pub mod copy;
pub mod dead_letters;
pub mod drill;
mod dry_run;
pub mod in_doubt;
pub mod init;
pub mod plan;
mod repair;
pub mod run;
pub mod schema;
pub mod status;
pub mod trace;
pub mod validate;
pub mod verify;

use std::sync::Arc;

use hapax_engine::fault::SinkError;
use hapax_engine::sink::Sink;
use hapax_engine::source::Source;
use hapax_protocol::lease::PipelineName;
use hapax_protocol::position::{SplitId, Standing};

use crate::registry;
use crate::wiring::Loaded;

/// Where the splits of a pipeline stand, in words the source gives its positions.
struct Standings {
    each: Vec<(SplitId, Standing)>,
    source: Option<Arc<dyn Source>>,
}

impl Standings {
    async fn of(
        sink: &Sink,
        name: &PipelineName,
        source: Option<Arc<dyn Source>>,
    ) -> Result<Self, SinkError> {
        let each = sink.destination().standings(name).await?;
        Ok(Self { each, source })
    }

    /// Why there may be none, for a pipeline that keeps some; `None` if there are some.
    fn absence(&self, loaded: &Loaded, sink: &Sink) -> Option<String> {
        if !self.each.is_empty() || matches!(sink, Sink::Append(_)) {
            return None;
        }
        let name = &loaded.pipeline.name;
        Some(match registry::location(&loaded.pipeline.sink) {
            Some(path) => format!(
                "there is no state of the pipeline {name} at {}: it has not run, or it ran in another directory, \
                 where a relative path means another place",
                path.display()
            ),
            None => format!("there is no state of the pipeline {name} at the destination: it has not run"),
        })
    }

    fn get(&self, split: &SplitId) -> Option<&Standing> {
        self.each.iter().find(|(id, _)| id == split).map(|(_, standing)| standing)
    }

    /// The position in words; `None` before the first commit.
    fn describe(&self, standing: &Standing) -> Option<String> {
        let position = standing.position.as_ref()?;
        Some(match &self.source {
            Some(source) => source.describe(position),
            None => format!("{position:?}"),
        })
    }

    /// All of them in a few words; `None` before the first commit.
    fn words(&self) -> Option<String> {
        match self.each.as_slice() {
            [] => None,
            [(split, standing)] => Some(format!("{split}, {}", self.describe(standing)?)),
            all => Some(format!("the positions of {} splits", all.len())),
        }
    }
}
