//! The few steps on the file system that durability and exclusion are made of.
//!
//! Nothing else in the sink syncs or renames, so that a test build can note what is durable.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use hapax_planted::{Mistake, planted, shadow};

use crate::sink::fault::{Failure, at};

/// Whether a name could be taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Exclusive {
    Taken,
    TakenBefore,
    /// The file to be named is gone: a later holder swept it away, or named it itself.
    Gone,
}

/// Makes the content of a file durable.
pub(crate) fn sync_file(file: &File, path: &Path) -> Result<(), Failure> {
    let synced = file.sync_all().and_then(|()| shadow::content(file, path));
    synced.map_err(|source| not_durable(path, source))
}

/// Makes the names in a directory durable.
pub(crate) fn sync_directory(path: &Path) -> Result<(), Failure> {
    if planted(Mistake::NoDirectorySync) {
        return Ok(());
    }
    let directory = File::open(path).map_err(at("open", path))?;
    let synced = directory.sync_all().and_then(|()| shadow::names(path));
    synced.map_err(|source| not_durable(path, source))
}

/// Makes the name of a directory durable, or that of the nearest one above it that exists.
///
/// A run that was killed may have made it and not synced it: what is made durable below would go with it.
pub(crate) fn sync_nearest(path: &Path) -> Result<(), Failure> {
    let mut nearest = path;
    while !nearest.is_dir() && parent_of(nearest) != nearest {
        nearest = parent_of(nearest);
    }
    let parent = parent_of(nearest);
    // Where this process may not list, it has made nothing.
    match rustix::fs::access(parent, rustix::fs::Access::READ_OK) {
        Ok(()) => sync_directory(parent),
        Err(_) => Ok(()),
    }
}

/// Gives a file or a directory another name, in one step. Nothing is durable before the directory is synced.
pub(crate) fn rename(from: &Path, to: &Path) -> io::Result<()> {
    shadow::rename(from, to)?;
    fs::rename(from, to)
}

fn not_durable(path: &Path, source: io::Error) -> Failure {
    Failure::NotDurable { path: path.to_owned(), source }
}

/// Creates a directory with its parents and makes their names durable.
pub(crate) fn make_directory(path: &Path) -> Result<(), Failure> {
    if path.is_dir() {
        return Ok(());
    }
    let parent = parent_of(path);
    make_directory(parent)?;
    match fs::create_dir(path) {
        Ok(()) => sync_directory(parent),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists && path.is_dir() => Ok(()),
        Err(error) => Err(at("create the directory", path)(error)),
    }
}

/// The directory a path stands in.
pub(crate) fn parent_of(path: &Path) -> &Path {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        Some(_) => Path::new("."),
        None => path,
    }
}

/// Gives a finished file its name unless the name exists.
///
/// The name and the whole content appear in one step. Nothing is durable before the directory is synced, and
/// the former name may be there still: it is to be removed after that, or both could be lost.
pub(crate) fn name_exclusively(from: &Path, to: &Path) -> Result<Exclusive, Failure> {
    match fs::hard_link(from, to) {
        Ok(()) => Ok(Exclusive::Taken),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(Exclusive::TakenBefore),
        Err(error) if error.kind() == io::ErrorKind::NotFound && !from.exists() => Ok(Exclusive::Gone),
        Err(error) if links_missing(&error) => rename_exclusively(from, to),
        Err(error) => Err(at("create", to)(error)),
    }
}

/// Whether this error means that the file system has no hard links.
pub(crate) fn links_missing(error: &io::Error) -> bool {
    use rustix::io::Errno;
    let missing = [Errno::PERM, Errno::OPNOTSUPP, Errno::NOSYS, Errno::MLINK, Errno::XDEV];
    missing.iter().any(|errno| error.raw_os_error() == Some(errno.raw_os_error()))
}

#[cfg(target_os = "linux")]
fn rename_exclusively(from: &Path, to: &Path) -> Result<Exclusive, Failure> {
    use rustix::fs::{CWD, RenameFlags, renameat_with};
    shadow::rename(from, to).map_err(at("create", to))?;
    match renameat_with(CWD, from, CWD, to, RenameFlags::NOREPLACE) {
        Ok(()) => Ok(Exclusive::Taken),
        Err(rustix::io::Errno::EXIST) => Ok(Exclusive::TakenBefore),
        Err(errno) => Err(at("create", to)(errno.into())),
    }
}

#[cfg(not(target_os = "linux"))]
fn rename_exclusively(_from: &Path, to: &Path) -> Result<Exclusive, Failure> {
    Err(at("create", to)(io::Error::from(io::ErrorKind::Unsupported)))
}

/// Removes a file; one that is not there is no error.
pub(crate) fn remove_if_there(path: &Path) -> Result<(), Failure> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(at("remove", path)(error)),
        _ => Ok(()),
    }
}

/// The names in a directory; none if it is not there.
pub(crate) fn names(path: &Path) -> Result<Vec<String>, Failure> {
    let entries = match fs::read_dir(path) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(at("list", path)(error)),
    };
    let mut names = Vec::new();
    for entry in entries {
        let entry = entry.map_err(at("list", path))?;
        if let Ok(name) = entry.file_name().into_string() {
            names.push(name);
        }
    }
    Ok(names)
}

/// Whether both names stand for one file.
pub(crate) fn same_file(one: &Path, other: &Path) -> bool {
    match (fs::metadata(one), fs::metadata(other)) {
        (Ok(one), Ok(other)) => one.dev() == other.dev() && one.ino() == other.ino(),
        _ => false,
    }
}
