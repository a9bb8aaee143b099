//! NATS JetStream as source and sink.
//!
//! The source reads a stream by sequence, exactly, or shares a durable consumer and acknowledges behind the commit. The
//! sink publishes under ids that the stream drops repeats of, or one subject per identity, which the stream takes once.
#![deny(missing_docs)]

pub mod codes;
pub mod config;
pub mod fault;
pub mod sink;
pub mod source;

mod client;
mod monitor;
