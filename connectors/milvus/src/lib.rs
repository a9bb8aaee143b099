//! Milvus and Zilliz Cloud as source and sink, over gRPC.
//!
//! The sink upserts by primary key, the last version of each key of a batch, and never two of one key at once. The source
//! reads a collection in the order of its primary keys, vectors included.
#![deny(missing_docs)]

pub mod codes;
pub mod config;
pub mod fault;
pub mod scratch;
pub mod sink;
pub mod source;

mod client;
mod collection;
mod proto;
mod vector;
