//! `hapax validate`.

use clap::Args;
use serde_json::json;

use crate::exit::{Exit, Failure};
use crate::output::{Output, mistakes_json};
use crate::wiring::Loaded;

#[derive(Debug, Args)]
pub struct Arguments {
    /// The pipeline file
    file: String,
}

/// Checks the file alone: nothing is connected to.
pub fn act(arguments: &Arguments, output: &Output) -> Result<Exit, Failure> {
    match Loaded::from_path(&arguments.file, output) {
        Ok(loaded) => {
            let name = &loaded.pipeline.name;
            if output.json() {
                output.document(&json!({"valid": true, "pipeline": name, "mistakes": []}));
            } else {
                output.data(&format!("{}: valid (pipeline {name})", arguments.file));
            }
            Ok(Exit::Done)
        }
        Err(Failure::Mistakes { file, mistakes }) if output.json() => {
            output.document(&json!({"valid": false, "mistakes": mistakes_json(&file, &mistakes)}));
            Ok(Exit::BadCommand)
        }
        Err(failure) => Err(failure),
    }
}
