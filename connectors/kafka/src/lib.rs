//! Kafka as source and sink.
#![deny(missing_docs)]
