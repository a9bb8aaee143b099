//! The ledger of identities, kept in the state directory, one directory a holder.
//!
//! It is part of the commit: a manifest names the last segment of the ledger that it rests on, and what was
//! claimed behind that never happened. So a claim counts exactly if its effect does, whatever came between.
//!
//! A new holder inherits its predecessor's ledger by hard links, after every split is fenced: from then
//! on nothing the predecessor still writes there can be seen, and nothing it committed is missing.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use hapax_engine::ledger::Statistics;
use hapax_engine::sink::Arrival;
use hapax_ledger::directory::{DirectoryStore, Look, StoreError};
use hapax_ledger::store::SegmentId;
use hapax_ledger::{Error, Ledger};
use hapax_planted::{Mistake, planted};
use hapax_protocol::identity::{Place, RecordId};
use hapax_protocol::lease::FencingToken;
use hapax_protocol::ledger::Claim;
use hapax_protocol::position::{Ordinal, SplitId};

use crate::sink::disk;
use crate::sink::fault::{Failure, at};
use crate::sink::state::State;

/// How often a ledger is listed again because somebody still writes to it.
const LISTINGS_MAX: usize = 1_000;

/// The file of a ledger that is written in place: it is copied, never linked.
const WRITTEN_IN_PLACE: &str = "splits.led";

/// The ledger of one process, opened by the first claim.
#[derive(Default)]
pub(crate) struct Twins {
    ledger: Mutex<Option<Open>>,
}

/// A ledger in use. While it is written one commit is open at a time: where twins are looked for, splits
/// follow one another.
struct Open {
    ledger: Ledger<DirectoryStore>,
    /// Whether something was claimed that no manifest rests on yet.
    claimed: bool,
}

impl Twins {
    /// Gives the holder of `token` what its predecessors claimed. Call only when all chains are fenced.
    pub(crate) fn inherit(&self, state: &State, token: FencingToken) -> Result<(), Failure> {
        let root = state.root.join("ledger");
        let (to, temp) = (of(state, token.get()), root.join(format!("{}.tmp", token.get())));
        for _ in 0..LISTINGS_MAX {
            let earlier = disk::names(&root)?.into_iter().filter_map(|name| name.parse().ok());
            let Some(last) = earlier.filter(|earlier| *earlier < token.get()).max() else { return Ok(()) };
            if !copy_ledger(&of(state, last), &temp)? {
                // A predecessor that was not fenced yet has inherited it, and cleared it away.
                continue;
            }
            disk::rename(&temp, &to).map_err(at("inherit the ledger as", &to))?;
            disk::sync_directory(&root)?;
            clear_away(&root, token)?;
            *self.open() = None;
            return Ok(());
        }
        let source = io::Error::from(io::ErrorKind::ResourceBusy);
        Err(at("inherit the ledger in", &root)(source))
    }

    pub(crate) fn claim(
        &self,
        state: &State,
        token: FencingToken,
        split: &SplitId,
        arrivals: &[Arrival],
    ) -> Result<Vec<Claim<Place>>, Failure> {
        let mut open = self.open();
        let path = of(state, token.get());
        let mut ledger = match open.take() {
            Some(open) => open.ledger,
            None => DirectoryStore::open_through(&path, counts_through(state)?)
                .map_err(Error::Store)
                .and_then(Ledger::open)
                .map_err(|error| failure(&path, error))?,
        };
        let arrivals: Vec<(RecordId, Ordinal)> =
            arrivals.iter().map(|arrival| (arrival.id, arrival.ordinal)).collect();
        let claims = ledger.claim(split, &arrivals).map_err(|error| failure(&path, error))?;
        if planted(Mistake::ClaimOutsideCommit) {
            ledger.flush().map_err(|error| failure(&path, error))?;
            ledger.committed();
        }
        *open = Some(Open { ledger, claimed: true });
        Ok(claims)
    }

    /// Takes back claims that no manifest rests on yet.
    pub(crate) fn withdraw(
        &self,
        state: &State,
        split: &SplitId,
        arrivals: &[Arrival],
    ) -> Result<(), Failure> {
        // A ledger that nothing was claimed in is not open, and has nothing to take back.
        let mut open = self.open();
        let Some(open) = open.as_mut() else { return Ok(()) };
        let arrivals: Vec<(RecordId, Ordinal)> =
            arrivals.iter().map(|arrival| (arrival.id, arrival.ordinal)).collect();
        let withdrawn = open.ledger.withdraw(split, &arrivals);
        withdrawn.map_err(|error| failure(&state.root.join("ledger"), error))
    }

    /// Makes every claim so far durable. Returns the segment that the manifest is to name, if there is a
    /// ledger in use.
    pub(crate) fn flush(&self, state: &State) -> Result<Option<SegmentId>, Failure> {
        let mut open = self.open();
        let Some(open) = open.as_mut() else { return Ok(None) };
        open.ledger.flush().map_err(|error| failure(&state.root.join("ledger"), error))?;
        Ok(Some(open.ledger.last_segment()))
    }

    /// The manifest that names what was flushed is decided.
    pub(crate) fn committed(&self) {
        if let Some(open) = self.open().as_mut() {
            open.ledger.committed();
            open.ledger.store_mut().forget_replaced();
            open.claimed = false;
        }
    }

    /// What was claimed since the last manifest did not happen: the next claim reads what manifests rest on.
    pub(crate) fn roll_back(&self) {
        let mut open = self.open();
        if open.as_ref().is_some_and(|open| open.claimed) {
            *open = None;
        }
    }

    fn open(&self) -> MutexGuard<'_, Option<Open>> {
        self.ledger.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The place that claimed an identity, as far as manifests rest on it. Reads beside whoever writes.
pub(crate) fn claimant(state: &State, id: &RecordId) -> Result<Option<Place>, Failure> {
    Ok(look(state, |look| hapax_ledger::find(look, id))?.flatten())
}

/// What the ledger holds, as the last commit left it.
pub(crate) fn holds(state: &State) -> Result<Option<Statistics>, Failure> {
    let size = look(state, hapax_ledger::size)?.filter(|(identities, _)| *identities > 0);
    Ok(size.map(|(identities, bytes)| Statistics {
        identities: Some(identities),
        bytes: Some(bytes),
        oldest_unix_ms: None,
    }))
}

/// Looks at the ledger that the last commit rests on; `None` if there is none yet.
fn look<T>(
    state: &State,
    at_it: impl Fn(&mut Look) -> Result<T, Error<StoreError>>,
) -> Result<Option<T>, Failure> {
    let root = state.root.join("ledger");
    let latest = || -> Result<Option<u64>, Failure> {
        Ok(disk::names(&root)?.iter().filter_map(|name| name.parse().ok()).max())
    };
    for _ in 0..LISTINGS_MAX {
        let (Some(token), mark) = (latest()?, state.ledger_mark()?) else { return Ok(None) };
        let path = of(state, token);
        let look = Look::through(&path, mark);
        // Segments go only after a manifest names their successor, or a new holder has its own. Where neither
        // happened meanwhile, each that went has its successor in the list.
        if latest()? != Some(token) || state.ledger_mark()? != mark {
            continue;
        }
        let found = look.map_err(Error::Store).and_then(|mut look| at_it(&mut look));
        return found.map(Some).map_err(|error| failure(&path, error));
    }
    let source = io::Error::from(io::ErrorKind::ResourceBusy);
    Err(at("read the ledger in", &root)(source))
}

/// The last segment that counts: the one that manifests rest on. With the mistake planted every one counts,
/// whether the effect of its claims did or not.
fn counts_through(state: &State) -> Result<SegmentId, Failure> {
    if planted(Mistake::ClaimOutsideCommit) { Ok(SegmentId(u64::MAX)) } else { state.ledger_mark() }
}

fn of(state: &State, token: u64) -> PathBuf {
    state.root.join("ledger").join(format!("{token:020}"))
}

fn failure(path: &Path, error: Error<StoreError>) -> Failure {
    match error {
        Error::Store(StoreError::Io { path, source, .. }) => at("write the ledger", &path)(source),
        Error::Store(StoreError::NotDurable { path, source }) => Failure::NotDurable { path, source },
        other => Failure::Ledger { path: path.to_owned(), source: Box::new(other) },
    }
}

/// Removes what earlier holders had. What stays is removed by the next one.
///
/// A ledger loses its name in one step: whoever still copies it finds all of it, or nothing by that name.
fn clear_away(root: &Path, token: FencingToken) -> Result<(), Failure> {
    for name in disk::names(root)? {
        let mut words = name.splitn(2, '.');
        let of_earlier = |word: &str| word.parse().is_ok_and(|of: u64| of < token.get());
        if !words.next().is_some_and(of_earlier) {
            continue;
        }
        let (path, gone) = (root.join(&name), root.join(format!("{name}.gone")));
        let gone = match words.next() {
            None => disk::rename(&path, &gone).map(|()| gone),
            Some(_) => Ok(path),
        };
        let _ = gone.and_then(fs::remove_dir_all);
    }
    Ok(())
}

/// Copies a ledger; `false` if it was cleared away meanwhile.
fn copy_ledger(from: &Path, to: &Path) -> Result<bool, Failure> {
    for _ in 0..LISTINGS_MAX {
        if to.exists() {
            fs::remove_dir_all(to).map_err(at("remove", to))?;
        }
        disk::make_directory(to)?;
        let before = segments(from)?;
        let copied = before.iter().try_for_each(|name| link(&from.join(name), &to.join(name)));
        let copied = copied.and_then(|()| {
            let names = from.join(WRITTEN_IN_PLACE);
            if names.exists() { copy_durably(&names, &to.join(WRITTEN_IN_PLACE)) } else { Ok(()) }
        });
        let unchanged = segments(from)? == before;
        // Looked at last: what still has its name now had it all the time.
        match copied {
            _ if !from.is_dir() => return Ok(false),
            Ok(()) if unchanged => return disk::sync_directory(to).map(|()| true),
            Err(failure) if unchanged => return Err(failure),
            // An earlier holder that does not know yet merged in the middle.
            _ => {}
        }
    }
    let source = io::Error::from(io::ErrorKind::ResourceBusy);
    Err(at("inherit the ledger of", from)(source))
}

/// The sealed segments: those that will never be written again.
fn segments(path: &Path) -> Result<Vec<String>, Failure> {
    let mut names = disk::names(path)?;
    names.retain(|name| {
        let sealed = || fs::metadata(path.join(name)).is_ok_and(|found| found.len() > 0);
        name.starts_with("seg-") && sealed()
    });
    names.sort_unstable();
    Ok(names)
}

fn link(from: &Path, to: &Path) -> Result<(), Failure> {
    match fs::hard_link(from, to) {
        Err(error) if disk::links_missing(&error) => copy_durably(from, to),
        Err(error) => Err(at("link", from)(error)),
        Ok(()) => Ok(()),
    }
}

fn copy_durably(from: &Path, to: &Path) -> Result<(), Failure> {
    fs::copy(from, to).map_err(at("copy", from))?;
    let copy = File::open(to).map_err(at("open", to))?;
    disk::sync_file(&copy, to)
}

#[cfg(test)]
mod tests {
    use hapax_protocol::lease::PipelineName;

    use super::*;
    use crate::sink_config::SinkConfig;

    const SEGMENTS: usize = 40;

    fn state(folder: &Path) -> State {
        let path = folder.join("out.jsonl").display().to_string();
        let config = SinkConfig { path, format: None, compression: None, header: None };
        State::new(&config.target().unwrap(), &PipelineName::new("p").unwrap())
    }

    #[test]
    fn two_holders_that_inherit_at_once_both_get_everything() {
        for _ in 0..60 {
            let folder = tempfile::tempdir().unwrap();
            let first = of(&state(folder.path()), 1);
            fs::create_dir_all(&first).unwrap();
            for segment in 0..SEGMENTS {
                fs::write(first.join(format!("seg-{segment}-l0.led")), "claims").unwrap();
            }
            fs::write(first.join(WRITTEN_IN_PLACE), "names").unwrap();
            std::thread::scope(|scope| {
                for token in [2, 3] {
                    let state = state(folder.path());
                    // The earlier of two may find its own taken away: then it is fenced, and that is all it needs.
                    scope.spawn(move || {
                        let inherited = Twins::default().inherit(&state, FencingToken::new(token));
                        assert!(token == 2 || inherited.is_ok(), "{inherited:?}");
                    });
                }
            });
            let last = of(&state(folder.path()), 3);
            assert_eq!(segments(&last).unwrap().len(), SEGMENTS);
            assert!(last.join(WRITTEN_IN_PLACE).exists());
        }
    }
}
