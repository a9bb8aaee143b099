//! A chain of manifests: a log on the file system to which one of several writers can append.
//!
//! An entry is a file named by its number. Its name is given exclusively, so of two writers that stand at
//! the same end of the chain one wins and the other learns that it did not. This is what fences: a holder
//! that takes over appends first, and an earlier holder's next append can then never succeed.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::sink::disk::{self, Exclusive};
use crate::sink::fault::{Failure, at};

/// How many entries stay when others are pruned.
const KEPT: usize = 16;
/// How many names are tried for a temporary file.
const ATTEMPTS_MAX: usize = 10_000;

/// One chain: a directory.
#[derive(Debug, Clone)]
pub(crate) struct Chain {
    directory: PathBuf,
}

/// What became of an append.
#[derive(Debug)]
pub(crate) enum Appended {
    /// It is the end of the chain now.
    Done,
    /// Another writer has this number: nothing was appended.
    Taken,
    /// The number was given, but later ones exist: the appender had fallen behind.
    Overtaken,
    /// It may or may not be appended durably.
    Unsure(Failure),
}

impl Chain {
    pub(crate) fn new(directory: PathBuf) -> Self {
        Self { directory }
    }

    pub(crate) fn path(&self, number: u64) -> PathBuf {
        self.directory.join(format!("{number:020}.json"))
    }

    /// The numbers of the entries that are there, ascending.
    fn numbers(&self) -> Result<Vec<u64>, Failure> {
        let names = disk::names(&self.directory)?;
        let mut numbers: Vec<u64> =
            names.iter().filter_map(|name| name.strip_suffix(".json")?.parse().ok()).collect();
        numbers.sort_unstable();
        Ok(numbers)
    }

    /// The number of the last entry, 0 if there is none.
    pub(crate) fn last_number(&self) -> Result<u64, Failure> {
        Ok(self.numbers()?.last().copied().unwrap_or(0))
    }

    /// The last entry and its number.
    pub(crate) fn last<T: DeserializeOwned>(&self) -> Result<Option<(u64, T)>, Failure> {
        loop {
            let number = self.last_number()?;
            if number == 0 {
                return Ok(None);
            }
            // An entry that was last when listed may be pruned before it is read, if others append.
            if let Some(entry) = self.entry(number)? {
                return Ok(Some((number, entry)));
            }
        }
    }

    /// One entry, if it is there.
    pub(crate) fn entry<T: DeserializeOwned>(&self, number: u64) -> Result<Option<T>, Failure> {
        let path = self.path(number);
        let bytes = match fs::read(&path) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(at("read", &path)(error)),
        };
        serde_json::from_slice(&bytes)
            .map(Some)
            .map_err(|error| Failure::StateDamaged { path, reason: error.to_string() })
    }

    /// Appends an entry as `number`, durably, through a temporary file called `temp` or nearly so.
    ///
    /// An error means that nothing was appended.
    pub(crate) fn append<T: Serialize>(
        &self,
        number: u64,
        entry: &T,
        temp: &Path,
    ) -> Result<Appended, Failure> {
        disk::make_directory(&self.directory)?;
        let (mut file, temp) = create_unused(temp)?;
        let written = write_durably(entry, &mut file, &temp);
        let named = written.and_then(|()| disk::name_exclusively(&temp, &self.path(number)));
        if !matches!(named, Ok(Exclusive::Taken)) {
            disk::remove_if_there(&temp)?;
        }
        // A temporary file that was swept away belonged to a holder that was fenced: its number is taken.
        if matches!(named?, Exclusive::TakenBefore | Exclusive::Gone) {
            return Ok(Appended::Taken);
        }
        let last = disk::sync_directory(&self.directory).and_then(|()| self.last_number());
        // A former name that stays is found and removed by the next take-over.
        let _ = disk::remove_if_there(&temp);
        Ok(match last {
            Ok(last) if last == number => Appended::Done,
            Ok(_) => Appended::Overtaken,
            Err(failure) => Appended::Unsure(failure),
        })
    }

    /// The entries that are there, with their numbers, ascending. One that is pruned meanwhile is left out.
    pub(crate) fn entries<T: DeserializeOwned>(&self) -> Result<Vec<(u64, T)>, Failure> {
        self.numbers()?
            .into_iter()
            .filter_map(|number| Some(self.entry(number).transpose()?.map(|entry| (number, entry))))
            .collect()
    }

    /// The numbers of the entries that may be pruned: none, until there are twice as many as stay.
    pub(crate) fn surplus(&self) -> Result<Vec<u64>, Failure> {
        let mut numbers = self.numbers()?;
        if numbers.len() < KEPT.saturating_mul(2) {
            return Ok(Vec::new());
        }
        numbers.truncate(numbers.len().saturating_sub(KEPT));
        Ok(numbers)
    }

    /// Makes the entries that are there durable. Whoever appended the last one may have been killed before it
    /// was: a consequence of it must not outlive it.
    pub(crate) fn settle(&self) -> Result<(), Failure> {
        disk::sync_directory(&self.directory)
    }

    /// Removes entries that are far behind the last one. It does not matter if it fails.
    pub(crate) fn prune(&self) {
        for number in self.surplus().unwrap_or_default() {
            self.remove(number);
        }
    }

    /// Removes one entry. It does not matter if it fails.
    pub(crate) fn remove(&self, number: u64) {
        let _ = disk::remove_if_there(&self.path(number));
    }
}

/// Creates a file that nobody else uses: two that apply for one lease do not know of each other.
fn create_unused(path: &Path) -> Result<(File, PathBuf), Failure> {
    let mut candidate = path.to_owned();
    for attempt in 0..ATTEMPTS_MAX {
        match File::create_new(&candidate) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                let mut name = path.as_os_str().to_owned();
                name.push(format!(".{attempt}"));
                candidate = name.into();
            }
            Err(error) => return Err(at("create", &candidate)(error)),
            Ok(file) => return Ok((file, candidate)),
        }
    }
    Err(at("create", path)(io::ErrorKind::AlreadyExists.into()))
}

fn write_durably<T: Serialize>(entry: &T, file: &mut File, path: &Path) -> Result<(), Failure> {
    let bytes = serde_json::to_vec(entry)
        .map_err(|error| Failure::StateDamaged { path: path.to_owned(), reason: error.to_string() })?;
    file.write_all(&bytes).map_err(at("write", path))?;
    disk::sync_file(file, path)
}

#[cfg(test)]
mod tests;
