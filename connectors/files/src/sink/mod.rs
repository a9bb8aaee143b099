//! Files as a destination: staged, published by exclusive manifests, fenced.
//!
//! The mechanism, and why it is safe whenever a process dies or wakes up, is in
//! `docs/adr/0003-file-commits.md`.

mod chain;
pub mod codes;
mod csv;
mod destination;
mod disk;
mod encode;
pub mod fault;
mod history;
mod letters;
mod names;
mod state;
mod stdout;
mod twins;
mod whole;
mod writer;

use std::sync::Arc;

use hapax_engine::fault::SinkError;
use hapax_engine::sink::Sink;
use hapax_protocol::lease::PipelineName;

use crate::sink::destination::FileSink;
use crate::sink::stdout::StdoutSink;
use crate::sink_config::{SinkConfig, TargetPlace};

/// Opens a destination. Touches nothing yet.
pub fn open(config: SinkConfig, pipeline: &PipelineName) -> Result<Sink, SinkError> {
    let target = config.target()?;
    Ok(match target.place {
        TargetPlace::Stdout => Sink::Append(Arc::new(StdoutSink::new(target))),
        TargetPlace::File(_) | TargetPlace::Directory(_) => {
            Sink::Staged(Arc::new(FileSink::new(target, pipeline)))
        }
    })
}
