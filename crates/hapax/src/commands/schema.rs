//! `hapax schema`.

use crate::exit::{Exit, Failure};
use crate::output::Output;
use crate::registry;

/// Prints the JSON Schema of a pipeline file.
pub fn act(output: &Output) -> Result<Exit, Failure> {
    output.document(&registry::schema());
    Ok(Exit::Done)
}
