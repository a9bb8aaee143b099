//! Kafka as source and sink.
//!
//! The source reads the partitions of topics by offset; where it stands is kept with the effect, never in a consumer
//! group. The sink writes records, positions and dead letters in one transaction per split.
#![deny(missing_docs)]

pub mod codes;
pub mod config;
pub mod fault;
pub mod joint;
pub mod scratch;
pub mod sink;
pub mod source;

mod client;
