//! Ranges of large files on a fixed grid. Range `i` holds the records that start in `[i*G, (i+1)*G)`, so what a
//! split is depends neither on how many run at once nor on how far the file has grown.

use std::collections::HashMap;
use std::sync::Arc;

use tokio::sync::Mutex;

use super::boundary::{Ending, Walk};
use super::fault::FilesFault;
use crate::client::Object;

/// How wide a range is, in bytes.
pub(super) const GRID_BYTES: u64 = 64 * 1024 * 1024;

const CHUNK_BYTES: usize = 1024 * 1024;

/// The ranges of the files of a source, found as they are asked for; each file is walked once.
#[derive(Debug)]
pub(super) struct Grid {
    bytes: u64,
    walks: Mutex<HashMap<String, Arc<Mutex<Walked>>>>,
}

#[derive(Debug)]
struct Walked {
    size: u64,
    stamp: [u8; 16],
    walk: Walk,
    at: u64,
    /// Where the ranges 1, 2, … begin.
    starts: Vec<u64>,
}

impl Grid {
    pub(super) fn new(bytes: u64) -> Self {
        Self { bytes: bytes.max(1), walks: Mutex::default() }
    }

    /// How many ranges a file of this size has: at least one.
    pub(super) fn count(&self, size: u64) -> u64 {
        size.div_ceil(self.bytes).max(1)
    }

    /// The size of one range of a file.
    pub(super) fn length(&self, size: u64, range: u64) -> u64 {
        size.saturating_sub(range.saturating_mul(self.bytes)).min(self.bytes)
    }

    /// Where the range ends: records from here on belong to the next one.
    pub(super) fn end(&self, range: u64) -> u64 {
        range.saturating_add(1).saturating_mul(self.bytes)
    }

    /// Where the records of a range begin. `first` is where the first record of the file may begin.
    pub(super) async fn start(
        &self,
        object: &Object,
        range: u64,
        ending: Ending,
        first: u64,
    ) -> Result<u64, FilesFault> {
        let line = range.saturating_mul(self.bytes);
        if range == 0 || line <= first {
            return Ok(first);
        }
        if ending == Ending::Line {
            return find(object, &mut Walk::new(ending), &mut line.saturating_sub(1).max(first), line - 1)
                .await;
        }
        let walked = {
            let mut walks = self.walks.lock().await;
            let fresh = || Walked {
                size: object.size,
                stamp: object.stamp,
                walk: Walk::new(ending),
                at: 0,
                starts: Vec::new(),
            };
            let walked = walks.entry(object.name.clone()).or_insert_with(|| Arc::new(Mutex::new(fresh())));
            let known = walked.lock().await;
            let same = known.size == object.size && known.stamp == object.stamp;
            drop(known);
            if !same {
                *walked = Arc::new(Mutex::new(fresh()));
            }
            walked.clone()
        };
        let mut walked = walked.lock().await;
        let wanted = usize::try_from(range).unwrap_or(usize::MAX);
        if walked.at == 0 {
            // The first bytes may be a byte order mark, which starts no field.
            walked.at = super::csv::bom(&object.range(0, 3).await?);
        }
        while walked.starts.len() < wanted {
            let next = u64::try_from(walked.starts.len()).unwrap_or(u64::MAX) + 1;
            let line = next.saturating_mul(self.bytes);
            let found = match walked.starts.last() {
                Some(last) if *last >= line => *last,
                _ => {
                    let Walked { walk, at, .. } = &mut *walked;
                    find(object, walk, at, line - 1).await?
                }
            };
            walked.starts.push(found);
        }
        Ok(walked.starts.get(wanted - 1).copied().unwrap_or(object.size).max(first))
    }
}

/// Walks from `at` behind the first record end at or behind `wanted`; the end of the file if there is none.
async fn find(object: &Object, walk: &mut Walk, at: &mut u64, wanted: u64) -> Result<u64, FilesFault> {
    loop {
        let chunk = object.range(*at, CHUNK_BYTES).await?;
        if chunk.is_empty() {
            return Ok(object.size);
        }
        let from = usize::try_from(wanted.saturating_sub(*at)).unwrap_or(usize::MAX);
        match walk.end(&chunk, from) {
            Some(end) => {
                *at += u64::try_from(end).unwrap_or(u64::MAX);
                return Ok(*at);
            }
            None => *at += u64::try_from(chunk.len()).unwrap_or(u64::MAX),
        }
    }
}
