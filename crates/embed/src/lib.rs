//! Vectors on the way: a column that is computed from the text in another one, where it is missing.
//!
//! [`Embedding`] stands around a source. Whatever reads the source (a run, `verify`, `trace`, a drill) sees records that
//! have their vectors. An embedder need not be deterministic: each vector is kept by what it was computed from before it is
//! used ([`cache`]), so a record that is read again has the vector it had.
#![deny(missing_docs)]

pub mod cache;
pub mod codes;
mod fault;
mod source;
mod vectors;

use hapax_engine::Fut;
use hapax_engine::fault::SourceError;

pub use fault::EmbedFault;
pub use source::Embedding;

/// Computes vectors.
pub trait Embedder: Send + Sync {
    /// What makes the vectors of equal texts equal: where it is asked, and which model. Part of what they are kept under.
    fn name(&self) -> String;

    /// How many texts it takes at once.
    fn texts_max(&self) -> usize;

    /// One answer for each text, in their order: its vector, or why it has none.
    fn embed<'a>(&'a self, texts: &'a [String]) -> Fut<'a, Vec<Result<Vec<f32>, String>>, SourceError>;
}

/// What is computed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct What {
    /// The column of the vectors. It is added if it is not there; if it is, only NULLs are filled.
    pub column: String,
    /// The column of the texts. Where it is NULL the vector stays NULL.
    pub from: String,
    /// How many numbers a vector has.
    pub dimension: usize,
}
