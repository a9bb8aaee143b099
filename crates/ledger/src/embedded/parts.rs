//! All parts of a pipeline's ledger: one without a date, and those of stretches of time.
//!
//! Where identities are remembered for a while only, each quarter of that time has a directory of its own,
//! `since-<milliseconds since 1970>`. It takes claims until the next one begins, is asked until the whole time has passed since
//! then, and is then removed as a whole. So a claim is remembered for the stated time at least; the last ones before a pause
//! are remembered until claims have been made again for so long. A date that was wrong when a part began harms that part's
//! neighbours only: none is judged by its own. What was claimed while nothing was forgotten stands in the pipeline's own
//! directory and stays.

use std::collections::BTreeMap;
use std::fs::{self, File, TryLockError};
use std::io;
use std::path::{Path, PathBuf};

use hapax_engine::ledger::Statistics;
use hapax_protocol::guarantee::{Retention, Window};
use hapax_protocol::identity::{Place, RecordId};
use hapax_protocol::ledger::{Claim, decide};
use hapax_protocol::position::{Ordinal, SplitId};

use super::amended::Amended;
use super::fault::EmbeddedFault;
use super::part::{Answers, Part, Seen, bytes};
use crate::directory::{Action, StoreError, disk};

/// What the name of a part's directory begins with, and that of one which is being removed.
const DATED: &str = "since-";
const REMOVED: &str = "gone-";

/// Into how many stretches the time is cut for which identities are remembered.
const STRETCHES: u64 = 4;

/// For how long a part takes claims, in milliseconds.
fn stretch_ms(window: Window) -> u64 {
    window.0.div_ceil(STRETCHES).max(1)
}

/// The beginnings of the parts whose claims may all be forgotten, of those that begin at these dates, in their order: the
/// next one began the whole time ago. The last is never among them.
fn over(began_unix_ms: &[u64], retention: Retention, now_unix_ms: u64) -> &[u64] {
    let Retention::For(window) = retention else { return &[] };
    let later = began_unix_ms.get(1..).unwrap_or_default();
    let over = later.iter().take_while(|next| next.saturating_add(window.0) <= now_unix_ms).count();
    began_unix_ms.get(..over).unwrap_or_default()
}

/// The ledger of one pipeline, in use.
pub(super) struct InUse {
    folder: PathBuf,
    undated: Part,
    /// By the date of their beginning, in milliseconds since 1970.
    dated: BTreeMap<u64, Part>,
    /// Ends with the process, whatever ends it.
    _lock: File,
}

impl InUse {
    pub(super) fn take(folder: &Path) -> Result<Self, EmbeddedFault> {
        disk::make_directory(folder)?;
        let path = folder.join("lock");
        let lock = File::create(&path).map_err(StoreError::io(Action::Create, &path))?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Err(StoreError::OtherWriter { path }.into()),
            Err(TryLockError::Error(source)) => {
                return Err(StoreError::io(Action::Write, &path)(source).into());
            }
        }
        let undated = Part::open(folder)?;
        let mut dated = BTreeMap::new();
        for (began, path) in dated_in(folder)? {
            dated.insert(began, Part::open(&path)?);
        }
        remove_marked(folder)?;
        Ok(Self { folder: folder.to_owned(), undated, dated, _lock: lock })
    }

    fn parts(&mut self) -> impl Iterator<Item = (Option<u64>, &mut Part)> {
        let dated = self.dated.iter_mut().map(|(began, part)| (Some(*began), part));
        std::iter::once((None, &mut self.undated)).chain(dated)
    }

    /// Removes what is over.
    fn forget(&mut self, retention: Retention, now: u64) -> Result<(), EmbeddedFault> {
        let began: Vec<u64> = self.dated.keys().copied().collect();
        for began in over(&began, retention, now) {
            self.dated.remove(began);
            // Under another name first: a part of which only some files are left would be taken for a damaged one.
            let (from, to) = (named(&self.folder, DATED, *began), named(&self.folder, REMOVED, *began));
            disk::rename(&from, &to).map_err(StoreError::io(Action::Remove, &from))?;
            disk::sync_directory(&self.folder)?;
            remove_marked(&self.folder)?;
        }
        Ok(())
    }

    /// Which part takes claims now; made if there is none.
    fn taking(&mut self, retention: Retention, now: u64) -> Result<Option<u64>, EmbeddedFault> {
        let Retention::For(window) = retention else { return Ok(None) };
        // A clock that was set back makes no part before another.
        let last = self.dated.last_key_value().map(|(began, _)| *began);
        if let Some(began) = last.filter(|began| now.saturating_sub(*began) < stretch_ms(window)) {
            return Ok(Some(began));
        }
        let path = named(&self.folder, DATED, now);
        disk::make_directory(&path)?;
        self.dated.insert(now, Part::open(&path)?);
        Ok(Some(now))
    }

    /// One answer per arrival. It is on the disk when this returns.
    pub(super) fn claim(
        &mut self,
        (retention, now): (Retention, u64),
        split: &SplitId,
        arrivals: &[(RecordId, Ordinal)],
    ) -> Result<Vec<Claim<Place>>, EmbeddedFault> {
        let taking = self.taking(retention, now)?;
        self.forget(retention, now)?;
        let ids: Vec<RecordId> = arrivals.iter().map(|(id, _)| *id).collect();
        let mut holders: Vec<Option<Place>> = vec![None; ids.len()];
        for (_, part) in self.parts().filter(|(began, _)| *began != taking) {
            for (holder, found) in holders.iter_mut().zip(part.holders(&ids)?) {
                *holder = found.or(holder.take());
            }
        }
        let elsewhere = |row: usize| holders.get(row).is_some_and(Option::is_some);
        let here: Vec<(RecordId, Ordinal)> = arrivals
            .iter()
            .enumerate()
            .filter(|(row, _)| !elsewhere(*row))
            .map(|(_, arrival)| *arrival)
            .collect();
        let part = taking.and_then(|began| self.dated.get_mut(&began)).unwrap_or(&mut self.undated);
        let mut answers = part.claim(split, &here)?.into_iter();
        let claims = arrivals.iter().zip(holders).filter_map(|((_, ordinal), holder)| match holder {
            None => answers.next(),
            holder => Some(decide(holder, &Place { split: split.clone(), ordinal: *ordinal })),
        });
        Ok(claims.collect())
    }

    /// Takes back what exactly these arrivals hold.
    pub(super) fn withdraw(
        &mut self,
        split: &SplitId,
        arrivals: &[(RecordId, Ordinal)],
    ) -> Result<(), EmbeddedFault> {
        self.parts().try_for_each(|(_, part)| part.withdraw(split, arrivals))
    }

    /// Those that are not over, to be asked.
    pub(super) fn asked(&mut self, retention: Retention, now: u64) -> Asked<'_> {
        let folder = self.folder.clone();
        let began: Vec<u64> = self.dated.keys().copied().collect();
        let over = over(&began, retention, now);
        let mut asked = Asked { folder, parts: Vec::new() };
        for (began, part) in
            self.parts().filter(|(began, _)| began.is_none_or(|began| !over.contains(&began)))
        {
            asked.parts.push((began, Box::new(part)));
        }
        asked
    }
}

/// The parts of a ledger that are asked, whoever has it.
pub(super) struct Asked<'a> {
    folder: PathBuf,
    parts: Vec<(Option<u64>, Box<dyn Answers + 'a>)>,
}

impl Asked<'static> {
    /// As one sees it who does not have it; `None` if there is no ledger.
    pub(super) fn look(folder: &Path, retention: Retention, now: u64) -> Result<Option<Self>, EmbeddedFault> {
        if !Amended::is_there(folder) {
            return Ok(None);
        }
        let mut asked = Self { folder: folder.to_owned(), parts: Vec::new() };
        asked.parts.push((None, Box::new(Seen::look(folder)?)));
        let dated = dated_in(folder)?;
        let began: Vec<u64> = dated.keys().copied().collect();
        let over = over(&began, retention, now);
        for (began, path) in dated.iter().filter(|(began, _)| !over.contains(began)) {
            match Seen::look(path) {
                Ok(part) => asked.parts.push((Some(*began), Box::new(part))),
                // It was removed meanwhile, or is being made.
                Err(StoreError::Io { source, .. }) if source.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(Some(asked))
    }
}

impl Asked<'_> {
    /// Who holds an identity.
    pub(super) fn claimant(&mut self, id: &RecordId) -> Result<Option<Place>, EmbeddedFault> {
        for (_, part) in &mut self.parts {
            if let Some(place) = part.claimant(id)? {
                return Ok(Some(place));
            }
        }
        Ok(None)
    }

    /// What they hold together.
    pub(super) fn statistics(&mut self) -> Result<Statistics, EmbeddedFault> {
        let (mut all, mut size, mut oldest) = (0_u64, 0_u64, None::<u64>);
        for (began, part) in &mut self.parts {
            let identities = part.identities()?;
            let folder = began.map_or_else(|| self.folder.clone(), |began| named(&self.folder, DATED, began));
            let began = began.or_else(|| Amended::made_unix_ms(&folder));
            if identities > 0 {
                oldest = oldest.into_iter().chain(began).min();
            }
            all = all.saturating_add(identities);
            size = size.saturating_add(bytes(&folder)?);
        }
        Ok(Statistics { identities: Some(all), bytes: Some(size), oldest_unix_ms: oldest })
    }
}

fn named(folder: &Path, what: &str, began_unix_ms: u64) -> PathBuf {
    folder.join(format!("{what}{began_unix_ms}"))
}

/// The parts that have a date.
fn dated_in(folder: &Path) -> Result<BTreeMap<u64, PathBuf>, StoreError> {
    let mut dated = BTreeMap::new();
    for (name, path) in entries(folder)? {
        if let Some(began) = name.strip_prefix(DATED).and_then(|began| began.parse().ok()) {
            dated.insert(began, path);
        }
    }
    Ok(dated)
}

/// Removes the parts that are not asked any more.
fn remove_marked(folder: &Path) -> Result<(), StoreError> {
    for (_, path) in entries(folder)?.into_iter().filter(|(name, _)| name.starts_with(REMOVED)) {
        fs::remove_dir_all(&path).map_err(StoreError::io(Action::Remove, &path))?;
    }
    Ok(())
}

fn entries(folder: &Path) -> Result<Vec<(String, PathBuf)>, StoreError> {
    let mut entries = Vec::new();
    for entry in fs::read_dir(folder).map_err(StoreError::io(Action::List, folder))? {
        let entry = entry.map_err(StoreError::io(Action::List, folder))?;
        entries.extend(entry.file_name().into_string().ok().map(|name| (name, entry.path())));
    }
    Ok(entries)
}
