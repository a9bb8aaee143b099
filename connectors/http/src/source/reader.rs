//! Reads on, page by page.

use std::sync::Arc;
use std::time::{Duration, Instant};

use arrow::temporal_conversions::timestamp_ms_to_datetime;
use hapax_engine::Fut;
use hapax_engine::batch::{Batch, ReadLimit};
use hapax_engine::durable::Durable;
use hapax_engine::fault::SourceError;
use hapax_engine::message::Message;
use hapax_engine::source::SplitReader;
use hapax_protocol::position::{Position, SplitId};
use hyper::{Method, StatusCode};
use url::Url;

use super::Plan;
use super::json::{Document, items};
use super::paging::{set, shown};
use super::position::{Page, Spot};
use crate::client::{Answer, Host, Lost, Request, path_of, unix_ms};
use crate::codes;
use crate::fault::{HostFault, ReadFault};

/// How often a page is asked for before the engine looks.
const ATTEMPTS_MAX: u32 = 6;

/// The first wait before a page is asked for again, doubled each time.
const BACKOFF_MS: u64 = 50;

/// How often a run begins a pass again because a page is not what it was. Then the page itself is read again, and the pass
/// goes on: a list that never stays as it is comes to its end, too.
const RESTARTS_MAX: u32 = 2;

/// The largest page that is taken, in bytes.
const PAGE_BYTES_MAX: usize = 64 * 1024 * 1024;

/// A place in the pages.
pub(super) struct Reader {
    host: Arc<Host>,
    plan: Arc<Plan>,
    split: SplitId,
    /// Where it is.
    spot: Spot,
    /// The position behind what was handed out.
    stood: Option<Position>,
    /// The page that it is in.
    page: Option<Loaded>,
    /// The number of the first record of this pass, or of what this reader read of it.
    first: u64,
    /// The page that the API did not know last, and how many records of its pass came before it.
    unknown: Option<(Page, u64)>,
    /// How many records a page has that is full, where pages are numbered and one is known.
    full: Option<u64>,
    /// How often this pass was begun again.
    restarts: u32,
}

/// A page that came.
struct Loaded {
    records: Vec<String>,
    next: Option<Page>,
    /// A moment before it was listed, by the clock of the API, in milliseconds since 1970.
    before_unix_ms: u64,
}

/// Why a page did not come.
enum Missing {
    /// It is not what it was.
    Changed(ReadFault),
    /// Anything else.
    Error(SourceError),
}

impl From<Missing> for SourceError {
    fn from(missing: Missing) -> Self {
        match missing {
            Missing::Changed(fault) => fault.into(),
            Missing::Error(error) => error,
        }
    }
}

impl From<ReadFault> for Missing {
    fn from(fault: ReadFault) -> Self {
        Self::Error(fault.into())
    }
}

impl Reader {
    pub(super) fn begin(
        host: Arc<Host>,
        plan: Arc<Plan>,
        split: SplitId,
        spot: Spot,
        stood: Option<Position>,
    ) -> Self {
        let spot = if spot.is_over { next_pass(&plan, &spot) } else { spot };
        let first = spot.ordinal;
        Self { host, plan, split, spot, stood, page: None, first, unknown: None, full: None, restarts: 0 }
    }

    fn url(&self, spot: &Spot) -> Result<Url, ReadFault> {
        let url = self.plan.paging.url(&self.plan.url, &spot.page);
        let mut url = url.ok_or_else(|| ReadFault::ForeignPosition(self.split.clone()))?;
        if let (Some(since), Some(ms)) = (&self.plan.since, spot.since_unix_ms) {
            let seconds = i64::try_from(ms / 1_000 * 1_000).unwrap_or(i64::MAX);
            let moment = timestamp_ms_to_datetime(seconds).map(|moment| format!("{moment:?}Z"));
            set(&mut url, &since.param, &moment.unwrap_or_default());
        }
        Ok(url)
    }

    /// Asks for the page of a place.
    async fn load(&self, spot: &Spot) -> Result<Loaded, Missing> {
        let url = self.url(spot)?;
        let name = shown(&url, &spot.page);
        let (answer, before_unix_ms) = self.ask(&url, &name, spot).await?;
        if !answer.is_whole {
            return Err(ReadFault::TooLarge { page: name, bytes_max: PAGE_BYTES_MAX }.into());
        }
        let unread = |reason: String| ReadFault::Unread { page: name.clone(), reason };
        let document = Document::read(&answer.body).map_err(unread)?;
        let pointer = &self.plan.records;
        let missing = |found: &str| ReadFault::NoRecords {
            page: name.clone(),
            pointer: pointer.clone(),
            found: found.to_owned(),
        };
        let array = document.at(pointer).ok_or_else(|| missing("there is nothing"))?;
        if !array.starts_with('[') {
            return Err(missing("it is no array").into());
        }
        let records: Vec<String> = items(array).into_iter().map(str::to_owned).collect();
        let count = u64::try_from(records.len()).unwrap_or(u64::MAX);
        let next = self.plan.paging.next(&self.plan.url, &url, &spot.page, &answer, &document, count)?;
        let read = usize::try_from(spot.read).unwrap_or(usize::MAX);
        let same = records.get(..read).is_some_and(|before| digest([0; 8], before) == spot.digest);
        if read > 0 && !same {
            return Err(Missing::Changed(ReadFault::Changed { page: name, records: spot.read }));
        }
        Ok(Loaded { records, next, before_unix_ms })
    }

    /// Asks for a page, again and again while it does not come. With it comes a moment before it was listed.
    async fn ask(&self, url: &Url, name: &str, spot: &Spot) -> Result<(Answer, u64), Missing> {
        let (path, headers) = (
            path_of(url).map_err(SourceError::from).map_err(Missing::Error)?,
            Arc::clone(&self.plan.headers),
        );
        let request = Request { method: Method::GET, path, headers, body: None };
        let mut attempts = 0;
        loop {
            let line = self.host.turn().await;
            let (asked_at, asked_unix_ms) = (Instant::now(), unix_ms());
            let answer = self.host.send(&request, PAGE_BYTES_MAX).await;
            drop(line);
            attempts += 1;
            let away = match answer {
                Ok(answer) if answer.status.is_success() => {
                    let before_unix_ms = before(&answer, asked_at.elapsed(), asked_unix_ms);
                    return Ok((answer, before_unix_ms));
                }
                Ok(answer) => self.refused(&answer, name, spot)?,
                Err(Lost::Never(fault)) => return Err(Missing::Error(fault.into())),
                Err(lost @ (Lost::Unsent(_) | Lost::Unknown(_) | Lost::Late)) => {
                    SourceError::from(lost.into_fault(&self.host.place()))
                }
            };
            if attempts >= ATTEMPTS_MAX {
                return Err(Missing::Error(away));
            }
            tokio::time::sleep(Duration::from_millis(BACKOFF_MS << attempts)).await;
        }
    }

    /// What a status means that is no success: an error, or, if it may pass, the error that it is in the end.
    fn refused(&self, answer: &Answer, name: &str, spot: &Spot) -> Result<SourceError, Missing> {
        let status = answer.status;
        let said = self.host.excerpt(answer);
        if matches!(status, StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN) {
            let place = self.host.place();
            let fault = HostFault::WrongCredentials { place, status: status.as_u16() };
            return Err(Missing::Error(fault.into()));
        }
        let passes = status.is_server_error()
            || matches!(
                status,
                StatusCode::TOO_MANY_REQUESTS | StatusCode::REQUEST_TIMEOUT | StatusCode::TOO_EARLY
            );
        if passes {
            if let Some(pause) = answer.retry_after() {
                self.host.pause(pause);
            }
            let reason = format!("HTTP status {}: {said}", status.as_u16());
            return Ok(ReadFault::Away { page: name.to_owned(), reason }.into());
        }
        let fault = ReadFault::Refused { page: name.to_owned(), status: status.as_u16(), said };
        // A cursor that the API has forgotten.
        let forgotten = matches!(status, StatusCode::BAD_REQUEST | StatusCode::NOT_FOUND | StatusCode::GONE);
        Err(match forgotten && spot.page != Page::First {
            true => Missing::Changed(fault),
            false => fault.into(),
        })
    }

    /// Loads the page that it is in, if it is not there.
    async fn stay(&mut self) -> Result<(), SourceError> {
        if self.page.is_none() {
            self.reload().await?;
        }
        Ok(())
    }

    /// Loads the page that it is in. A listing by time begins again where that is another one, a few times; after that it
    /// reads the page again from its first record.
    async fn reload(&mut self) -> Result<(), SourceError> {
        let mut spot = self.spot.clone();
        let loaded = match self.load(&spot).await {
            Err(Missing::Changed(fault)) if self.plan.since.is_some() => {
                let is_there = matches!(fault, ReadFault::Changed { .. });
                self.demand_progress(&spot, fault)?;
                if is_there && self.restarts >= RESTARTS_MAX {
                    (spot.read, spot.digest) = (0, [0; 8]);
                } else {
                    self.restarts = self.restarts.saturating_add(u32::from(is_there));
                    self.first = spot.ordinal;
                    spot = Spot {
                        pass: spot.pass.saturating_add(1),
                        ordinal: spot.ordinal,
                        since_unix_ms: spot.since_unix_ms,
                        ..Spot::default()
                    };
                }
                self.load(&spot).await
            }
            other => other,
        };
        let loaded = loaded?;
        if self.plan.since.is_some() && spot.begun_unix_ms.is_none() {
            spot.begun_unix_ms = Some(loaded.before_unix_ms);
        }
        (self.spot, self.page) = (spot, Some(loaded));
        Ok(())
    }

    /// Refuses to begin again where the API does not know a page a second time, and nothing more was read before it.
    fn demand_progress(&mut self, spot: &Spot, fault: ReadFault) -> Result<(), ReadFault> {
        if !matches!(fault, ReadFault::Refused { .. }) {
            return Ok(());
        }
        let read = spot.ordinal.saturating_sub(self.first);
        if self.unknown.as_ref().is_some_and(|(page, before)| *page == spot.page || read <= *before) {
            return Err(fault);
        }
        self.unknown = Some((spot.page.clone(), read));
        Ok(())
    }

    /// Goes on behind the last record of a numbered page, which may have got more since it was read. False at the end.
    async fn look_on(&mut self) -> Result<bool, SourceError> {
        let Some(next) = self.page.as_ref().and_then(|page| page.next.clone()) else { return Ok(false) };
        let next = Spot { page: next, read: 0, digest: [0; 8], ..self.spot.clone() };
        let loaded = self.load(&next).await?;
        if loaded.records.is_empty() {
            return Ok(false);
        }
        if self.full == Some(self.spot.read) {
            (self.spot, self.page) = (next, Some(loaded));
        } else {
            // A page that another one follows is full.
            self.reload().await?;
            self.full = self.page.as_ref().and_then(|page| u64::try_from(page.records.len()).ok());
        }
        Ok(true)
    }

    /// Goes on to the next page, once this one was read. False at the end.
    fn turn_over(&mut self) -> bool {
        let Some(next) = self.page.as_ref().and_then(|page| page.next.clone()) else { return false };
        self.spot = Spot { page: next, read: 0, digest: [0; 8], ..self.spot.clone() };
        self.page = None;
        true
    }

    async fn on(&mut self, limit: ReadLimit) -> Result<Option<Batch>, SourceError> {
        loop {
            if self.spot.is_over {
                return Ok(None);
            }
            self.stay().await?;
            let Some(page) = &self.page else { continue };
            let read = usize::try_from(self.spot.read).unwrap_or(usize::MAX);
            let rest = page.records.get(read..).unwrap_or_default();
            if rest.is_empty() {
                let goes_on = match self.plan.paging.fills_up() {
                    true => self.look_on().await?,
                    false => self.turn_over(),
                };
                if goes_on {
                    continue;
                }
                return self.end();
            }
            let taken = count(rest, limit);
            let (records, last) = (rest.get(..taken).unwrap_or_default(), taken == rest.len());
            let batch = self.batch(records)?;
            return Ok(Some(self.moved(batch, taken, last)));
        }
    }

    /// The end of a pass: a listing by time begins its next one with the next run.
    fn end(&mut self) -> Result<Option<Batch>, SourceError> {
        if self.plan.since.is_none() {
            return Ok(None);
        }
        self.spot.is_over = true;
        self.unknown = None;
        let stood = self.stood.as_ref().and_then(Spot::decoded);
        // What was handed out lies in this pass, and says not yet that it is over.
        if stood.is_none_or(|stood| stood.pass != self.spot.pass || stood.is_over) {
            return Ok(None);
        }
        let batch = self.batch(&[])?;
        Ok(Some(self.moved(batch, 0, true)))
    }

    fn batch(&self, records: &[String]) -> Result<Batch, SourceError> {
        let mut gathering = self.plan.layout.gather();
        for (ordinal, record) in (self.spot.ordinal..).zip(records) {
            let message = Message { ordinal, id: None, body: record.as_bytes(), beside: Vec::new() };
            gathering.push(&message, codes::UNDECODABLE);
        }
        let gathered = gathering.finish().map_err(ReadFault::from)?;
        Ok(Batch {
            split: self.split.clone(),
            after: self.stood.clone(),
            through: Position::new([].as_slice()),
            records: gathered.records,
            ordinals: gathered.ordinals,
            rejected: gathered.rejected,
            source_bytes: gathered.bytes,
        })
    }

    /// Stands behind a batch.
    fn moved(&mut self, mut batch: Batch, taken: usize, last_of_page: bool) -> Batch {
        let read = usize::try_from(self.spot.read).unwrap_or(usize::MAX);
        let records = self.page.as_ref().and_then(|page| page.records.get(read..read.saturating_add(taken)));
        self.spot.digest = digest(self.spot.digest, records.unwrap_or_default());
        let taken = u64::try_from(taken).unwrap_or(u64::MAX);
        self.spot.read = self.spot.read.saturating_add(taken);
        self.spot.ordinal = self.spot.ordinal.saturating_add(taken);
        let looks_on = self.plan.paging.fills_up() && !self.spot.is_over;
        if last_of_page && !looks_on && !self.turn_over() && self.plan.since.is_some() {
            self.spot.is_over = true;
        }
        batch.through = self.spot.encoded();
        self.stood = Some(batch.through.clone());
        batch
    }
}

/// The pass behind one that is over: it looks back as far as something may have come late.
fn next_pass(plan: &Plan, over: &Spot) -> Spot {
    let lateness = plan.since.as_ref().map_or(0, |since| since.lateness.0);
    let since_unix_ms = over.begun_unix_ms.map(|begun| begun.saturating_sub(lateness));
    Spot { pass: over.pass.saturating_add(1), ordinal: over.ordinal, since_unix_ms, ..Spot::default() }
}

/// A moment before an answer was made, in milliseconds since 1970: by the clock of the API, which may write its date last.
fn before(answer: &Answer, took: Duration, asked_unix_ms: u64) -> u64 {
    let took = u64::try_from(took.as_millis()).unwrap_or(u64::MAX);
    match answer.date_unix_ms() {
        // A date has whole seconds.
        Some(date) => date.saturating_sub(took).saturating_sub(1_000),
        None => asked_unix_ms,
    }
}

/// How many of these records one read brings.
fn count(records: &[String], limit: ReadLimit) -> usize {
    let mut bytes = 0_usize;
    let fits = |record: &&String| {
        let fits = bytes == 0 || bytes.saturating_add(record.len()) <= limit.bytes_max;
        bytes = bytes.saturating_add(record.len());
        fits
    };
    records.iter().take(limit.records_max.max(1)).take_while(fits).count().max(1)
}

/// A digest of records behind others.
fn digest(before: [u8; 8], records: &[String]) -> [u8; 8] {
    records.iter().fold(before, |before, record| {
        let mut hasher = blake3::Hasher::new();
        hasher.update(&before);
        hasher.update(record.as_bytes());
        let mut after = [0; 8];
        after.copy_from_slice(hasher.finalize().as_bytes().first_chunk::<8>().unwrap_or(&[0; 8]));
        after
    })
}

impl SplitReader for Reader {
    fn read(&mut self, limit: ReadLimit) -> Fut<'_, Option<Batch>, SourceError> {
        Box::pin(self.on(limit))
    }

    fn acknowledge(&mut self, _: Durable<Position>) -> Fut<'_, (), SourceError> {
        Box::pin(std::future::ready(Ok(())))
    }
}
