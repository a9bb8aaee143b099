//! HTTP APIs as source and sink.
//!
//! The sink sends one request per record, by a URL that names its identity, with a token that the API drops repeats of, or
//! bare. The source reads pages of JSON records. Nothing goes to another host than the one the file names.
#![deny(missing_docs)]

pub mod codes;
pub mod config;
pub mod embed;
pub mod fault;
pub mod sink;
pub mod source;

mod client;
