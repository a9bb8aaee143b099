//! No shadow.

use std::fs::File;
use std::io;
use std::path::Path;

/// Notes that the content of a file is durable.
#[inline(always)]
pub fn content(_: &File, _: &Path) -> io::Result<()> {
    Ok(())
}

/// Notes that the names in a directory are durable.
#[inline(always)]
pub fn names(_: &Path) -> io::Result<()> {
    Ok(())
}

/// Notes that a name is about to be given up for another, in one step.
#[inline(always)]
pub fn rename(_: &Path, _: &Path) -> io::Result<()> {
    Ok(())
}
