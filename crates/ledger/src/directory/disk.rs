//! The few steps on the file system that durability is made of.
//!
//! Nothing else in the store syncs or renames, so that a test build can note what is durable.

use std::fs::{self, File};
use std::io;
use std::path::Path;

use hapax_planted::{Mistake, planted, shadow};

use super::error::{Action, StoreError};

/// Makes the content of a file durable.
pub fn sync_file(file: &File, path: &Path) -> Result<(), StoreError> {
    let synced = file.sync_all().and_then(|()| shadow::content(file, path));
    synced.map_err(StoreError::not_durable(path))
}

/// Makes the names in a directory durable.
pub fn sync_directory(path: &Path) -> Result<(), StoreError> {
    if planted(Mistake::NoDirectorySync) {
        return Ok(());
    }
    let directory = File::open(path).map_err(StoreError::io(Action::Read, path))?;
    let synced = directory.sync_all().and_then(|()| shadow::names(path));
    synced.map_err(StoreError::not_durable(path))
}

/// Creates a directory with its parents, and makes its name durable and those it had to make above it.
pub fn make_directory(path: &Path) -> Result<(), StoreError> {
    let parent = match path.parent() {
        Some(parent) if parent.as_os_str().is_empty() => Path::new("."),
        Some(parent) => parent,
        None => return Ok(()),
    };
    if !parent.is_dir() {
        make_directory(parent)?;
    }
    match fs::create_dir(path) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists || !path.is_dir() => {
            Err(StoreError::io(Action::Create, path)(error))
        }
        // Also when it is there: whoever made it may have been killed before its name was durable.
        _ => sync_directory(parent),
    }
}

/// Gives a file another name, in one step. Nothing is durable before the directory is synced.
pub fn rename(from: &Path, to: &Path) -> io::Result<()> {
    shadow::rename(from, to)?;
    fs::rename(from, to)
}
