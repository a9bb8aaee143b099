//! Files as source and sink: CSV, JSON Lines, Parquet.
#![deny(missing_docs)]

pub mod client;
pub mod codes;
pub mod config;
pub mod sink;
pub mod sink_config;
pub mod source;
