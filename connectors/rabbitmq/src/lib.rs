//! RabbitMQ as source and sink.
//!
//! The source acknowledges a message once its effect is committed; one that comes again stands at another place and is
//! found by its identity. The sink publishes with confirms and `mandatory`, each message under an id that stays.
#![deny(missing_docs)]

pub mod codes;
pub mod config;
pub mod fault;
pub mod sink;
pub mod source;

mod client;
mod management;
