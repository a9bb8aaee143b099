//! What a process notes while it runs.

use std::fs::File;
use std::io;
use std::path::Path;
use std::sync::{Mutex, OnceLock, PoisonError};

use super::store::{Inode, Shadow};

/// The shadow that this process was started with.
struct Noted {
    shadow: Shadow,
    /// The step at which the process dies.
    dies_at: Option<u64>,
    /// Steps so far; held while one is noted, so that they happen one after another.
    steps: Mutex<u64>,
}

fn here() -> Option<&'static Noted> {
    static HERE: OnceLock<Option<Noted>> = OnceLock::new();
    HERE.get_or_init(|| {
        let at = cfg!(debug_assertions).then(|| std::env::var("HAPAX_SHADOW").ok())??;
        let dies_at = std::env::var("HAPAX_SHADOW_STEP").ok().and_then(|step| step.parse().ok());
        Some(Noted { shadow: Shadow::open(at.into()).ok()?, dies_at, steps: Mutex::new(0) })
    })
    .as_ref()
}

/// Notes that the content of a file is durable.
pub fn content(file: &File, path: &Path) -> io::Result<()> {
    step("content", path, |shadow| {
        if Inode::of(&file.metadata()?) != Inode::of(&path.metadata()?) {
            return Err(io::Error::other("another file has this name"));
        }
        shadow.note_content(path)
    })
}

/// Notes that the names in a directory are durable.
pub fn names(directory: &Path) -> io::Result<()> {
    step("names", directory, |shadow| shadow.note_names(directory))
}

/// Notes that a name is about to be given up for another, in one step.
pub fn rename(from: &Path, to: &Path) -> io::Result<()> {
    match here() {
        Some(noted) if noted.shadow.covers(to) && from.exists() => noted.shadow.note_rename(from, to),
        _ => Ok(()),
    }
}

/// One thing becomes durable; or this process dies just before it does.
fn step(what: &str, path: &Path, note: impl FnOnce(&Shadow) -> io::Result<()>) -> io::Result<()> {
    let Some(noted) = here().filter(|noted| noted.shadow.covers(path)) else { return Ok(()) };
    let mut steps = noted.steps.lock().unwrap_or_else(PoisonError::into_inner);
    *steps = steps.saturating_add(1);
    if noted.dies_at == Some(*steps) {
        let _ = rustix::process::kill_process(rustix::process::getpid(), rustix::process::Signal::KILL);
        loop {
            std::thread::park();
        }
    }
    note(&noted.shadow)?;
    noted.shadow.note_step(what, path)
}
