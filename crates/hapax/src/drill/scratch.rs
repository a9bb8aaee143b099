//! The directory in which a drill builds its destinations. It is made, marked, locked and removed here.

use std::fs::{self, File, TryLockError};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use hapax_protocol::lease::PipelineName;

/// What the name of every scratch directory begins with.
const PREFIX: &str = ".hapax-drill-";

/// The file that says a directory is a scratch directory. Whoever holds its lock may use or remove it.
const MARK: &str = "hapax-drill";

/// A directory of this process, for destinations. It is removed when this value is dropped; a process that had no
/// time for that loses its lock with its life, and the next drill removes it.
#[derive(Debug)]
pub struct Scratch {
    root: PathBuf,
    _mark: File,
}

impl Scratch {
    /// Makes one in the first of `homes` that lets it, after removing from all of them what dead drills of the
    /// pipeline left.
    pub fn make(homes: &[PathBuf], pipeline: &PipelineName) -> io::Result<Self> {
        let mut refused = io::Error::from(io::ErrorKind::NotFound);
        for home in homes.iter().filter(|home| home.is_dir()) {
            clean(home, pipeline)?;
        }
        for home in homes.iter().filter(|home| home.is_dir()) {
            match Self::make_in(home, pipeline) {
                Ok(scratch) => return Ok(scratch),
                Err(error) => refused = error,
            }
        }
        Err(refused)
    }

    fn make_in(home: &Path, pipeline: &PipelineName) -> io::Result<Self> {
        const ATTEMPTS_MAX: u32 = 100;
        for _ in 0..ATTEMPTS_MAX {
            let root = home.join(format!("{PREFIX}{pipeline}-{}", unique()));
            match fs::create_dir(&root) {
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => continue,
                made => made?,
            }
            // Another drill that cleans may have come in between: then it has the lock, or has removed all.
            if let Some(mark) = File::create(root.join(MARK)).ok().filter(|mark| mark.try_lock().is_ok())
                && is_at(&mark, &root.join(MARK))
            {
                return Ok(Self { root, _mark: mark });
            }
        }
        Err(io::Error::from(io::ErrorKind::ResourceBusy))
    }

    /// The directory.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// Makes an empty place for one destination.
    pub fn place(&self, name: &str) -> io::Result<PathBuf> {
        let place = self.root.join(name);
        fs::create_dir(&place)?;
        Ok(place)
    }

    /// Removes a place and what is in it.
    pub fn clear(&self, place: &Path) -> io::Result<()> {
        remove(place)
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        // What cannot be removed now is removed by the next drill.
        let _ = remove_marked(&self.root);
    }
}

/// Whether a path is a place in the scratch directory of a drill.
pub fn is_place(path: &Path) -> bool {
    let Some(root) = path.parent() else { return false };
    let named = root.file_name().and_then(|name| name.to_str()).is_some_and(|name| name.starts_with(PREFIX));
    named && path.is_dir() && root.join(MARK).is_file()
}

/// Removes the scratch directories of this pipeline that nobody holds.
fn clean(home: &Path, pipeline: &PipelineName) -> io::Result<()> {
    for (root, _held) in dead(home, pipeline)? {
        remove_marked(&root)?;
    }
    Ok(())
}

/// The scratch directories of this pipeline that nobody held until now, each with its lock.
pub fn dead(home: &Path, pipeline: &PipelineName) -> io::Result<Vec<(PathBuf, File)>> {
    let mut dead = Vec::new();
    let start = format!("{PREFIX}{pipeline}-");
    for entry in fs::read_dir(home)? {
        let entry = entry?;
        // The rest is one word without a dash: `a` does not clean what `a-b` left.
        let rest = entry.file_name().to_str().and_then(|name| name.strip_prefix(&start)).map(str::to_owned);
        if rest.is_none_or(|rest| rest.contains('-')) || !entry.file_type()?.is_dir() {
            continue;
        }
        let root = entry.path();
        match File::open(root.join(MARK)) {
            // Not marked yet, or never ours: only an empty one goes.
            Err(_) => drop(fs::remove_dir(&root)),
            Ok(mark) => match mark.try_lock() {
                Ok(()) => dead.push((root, mark)),
                Err(TryLockError::WouldBlock) => {}
                Err(TryLockError::Error(error)) => return Err(error),
            },
        }
    }
    Ok(dead)
}

/// Removes a scratch directory, its mark last: what is left of it when that is cut short is still known by it.
fn remove_marked(root: &Path) -> io::Result<()> {
    for entry in fs::read_dir(root)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            remove(&entry.path())?;
        } else if entry.file_name() != MARK {
            fs::remove_file(entry.path())?;
        }
    }
    remove(root)
}

/// Removes a directory. A worker that is just dying may still put a file into it.
fn remove(path: &Path) -> io::Result<()> {
    const ATTEMPTS_MAX: u32 = 50;
    let mut attempts = 0;
    loop {
        match fs::remove_dir_all(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            Err(error) if error.kind() == io::ErrorKind::DirectoryNotEmpty && attempts < ATTEMPTS_MAX => {
                attempts += 1;
                std::thread::sleep(Duration::from_millis(10));
            }
            other => return other,
        }
    }
}

fn is_at(file: &File, path: &Path) -> bool {
    match (file.metadata(), fs::metadata(path)) {
        (Ok(one), Ok(other)) => one.dev() == other.dev() && one.ino() == other.ino(),
        _ => false,
    }
}

/// A word that no other process uses at this moment.
fn unique() -> String {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    format!("{:x}x{:x}", std::process::id(), now.as_nanos())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(text: &str) -> PipelineName {
        PipelineName::new(text).unwrap()
    }

    fn names(home: &Path) -> Vec<String> {
        fs::read_dir(home).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
    }

    #[test]
    fn what_a_dead_drill_left_is_removed_and_what_a_living_one_holds_is_not() {
        let home = tempfile::tempdir().unwrap();
        let homes = [home.path().join("missing"), home.path().to_owned()];
        let living = Scratch::make(&homes, &name("a")).unwrap();
        let other = Scratch::make(&homes, &name("a-b")).unwrap();
        let dead = home.path().join(".hapax-drill-a-1x1");
        fs::create_dir_all(dead.join("round-1")).unwrap();
        fs::write(dead.join(MARK), "").unwrap();
        let not_ours = home.path().join(".hapax-drill-a-2x2");
        fs::create_dir_all(not_ours.join("precious")).unwrap();

        let next = Scratch::make(&homes, &name("a")).unwrap();
        assert!(!dead.exists() && not_ours.exists());
        assert!(living.root().exists() && other.root().exists() && next.root().exists());
        drop((living, other, next));
        assert_eq!(names(home.path()), [".hapax-drill-a-2x2"]);
    }

    #[test]
    fn a_place_is_known_by_the_mark_beside_it() {
        let home = tempfile::tempdir().unwrap();
        let scratch = Scratch::make(&[home.path().to_owned()], &name("a")).unwrap();
        let place = scratch.place("round-1").unwrap();
        assert!(is_place(&place));
        assert!(!is_place(scratch.root()) && !is_place(home.path()) && !is_place(&place.join("x")));
        fs::remove_file(scratch.root().join(MARK)).unwrap();
        assert!(!is_place(&place));
    }
}
