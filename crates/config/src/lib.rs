//! The pipeline file as written, and as a validated pipeline.
//!
//! [`read`] turns the text of a file into a [`Pipeline`] or into every [`Mistake`] in it at once, each
//! with its place. One JSON Schema is the truth for the validator, for editors and for `hapax schema`:
//! [`schema::compose`] makes it from what the connectors declare. This crate opens no connection and
//! names no connector; it reads the environment only through [`Environment`].
#![deny(missing_docs)]

pub mod codes;
mod deserialize;
mod document;
mod file;
mod mistake;
mod pipeline;
mod reference;
pub mod schema;
mod secret;
mod suggest;
mod tree;

pub use file::{File, Place, Span};
pub use mistake::Mistake;
pub use pipeline::{Commit, OnError, Pipeline, Section, Spanned, read};
pub use reference::Environment;
pub use secret::{Secret, Secrets};
pub use suggest::{closest, one_of};
