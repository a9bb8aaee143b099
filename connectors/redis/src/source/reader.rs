//! One stream, read by id.

use hapax_engine::Fut;
use hapax_engine::batch::{Batch, Ordinals, ReadLimit, Rejected};
use hapax_engine::durable::Durable;
use hapax_engine::fault::SourceError;
use hapax_engine::source::SplitReader;
use hapax_protocol::position::{Position, SplitId};
use redis::Value;

use super::entry::{Entry, Shape};
use super::position::{Id, Mark, Stand, State, Wrong, judge};
use crate::client::{Address, Session, list, number, pairs, text};
use crate::codes;
use crate::fault::{ReadFault, ServerFault};

/// How long one wait for more lasts, in milliseconds. Then the stream is looked at again.
const WAIT_MS: u64 = 5_000;

/// What an entry is taken to be before one was seen, in bytes.
const ENTRY_BYTES: usize = 512;

/// How many entries one call asks for at most: it keeps everybody else waiting.
const ENTRIES_MAX: usize = 10_000;

const DOING: &str = "reading a stream";

/// What one look finds.
pub(super) struct Look {
    pub state: State,
    /// The entry of the place, if it is still there.
    pub at: Option<Entry>,
    pub entries: Vec<Entry>,
}

/// Looks at a stream, the entry `at`, and at most `count` entries behind it, in one atomic step.
pub(super) async fn look(
    session: &mut Session,
    stream: &str,
    at: Option<Id>,
    count: usize,
) -> Result<Look, SourceError> {
    let mut ask = redis::pipe();
    ask.atomic();
    ask.cmd("XINFO").arg("STREAM").arg(stream);
    let here = at.unwrap_or_default().to_string();
    ask.cmd("XRANGE").arg(stream).arg(&here).arg(&here);
    let from = if at.is_some() { format!("({here}") } else { "-".to_owned() };
    ask.cmd("XRANGE").arg(stream).arg(from).arg("+").arg("COUNT").arg(count.max(1));
    let found = session.all(DOING, &ask).await.map_err(|fault| no_stream(fault, stream))?;
    let [info, at, entries] = found.as_slice() else { return Err(session.misunderstood(DOING).into()) };
    let (Some(state), Some(mut at), Some(entries)) = (state(info), Entry::all(at), Entry::all(entries))
    else {
        return Err(session.misunderstood(DOING).into());
    };
    Ok(Look { state, at: at.pop(), entries })
}

fn state(info: &Value) -> Option<State> {
    let info = pairs(info);
    let find =
        |name: &str| info.iter().find(|(key, _)| text(key).as_deref() == Some(name)).map(|(_, value)| *value);
    Some(State {
        length: number(find("length")?)?,
        added: number(find("entries-added")?)?,
        first: match find("first-entry")? {
            Value::Nil => None,
            entry => Some(text(list(entry).first()?)?.parse().ok()?),
        },
        last: text(find("last-generated-id")?)?.parse().ok()?,
        deleted: text(find("max-deleted-entry-id")?)?.parse().ok()?,
    })
}

/// A failure in the words of a stream, where the server says that there is none.
fn no_stream(fault: ServerFault, stream: &str) -> SourceError {
    if let ServerFault::Denied { place, doing, missing, source } = fault {
        // The server does not say which key; there is only this one.
        let missing = if missing.starts_with("`~") { format!("`~{stream}`") } else { missing };
        return ServerFault::Denied { place, doing, missing, source }.into();
    }
    let ServerFault::Failed { place, source, .. } = &fault else { return fault.into() };
    let said = source.to_string();
    let (place, stream) = (place.clone(), stream.to_owned());
    if said.contains("no such key") {
        ReadFault::NoStream { place, stream }.into()
    } else if said.contains("WRONGTYPE") || said.contains("wrong kind of value") {
        ReadFault::NotAStream { place, stream, found: "key of another type".to_owned() }.into()
    } else {
        fault.into()
    }
}

/// Reads one stream.
pub(super) struct Reader {
    address: Address,
    shape: Shape,
    split: SplitId,
    accepted: Option<Id>,
    session: Option<Session>,
    /// The connection that waits: it would keep the other one waiting.
    waiting: Option<Session>,
    stand: Option<Stand>,
    stood: Option<Position>,
    entry_bytes: usize,
}

impl Reader {
    pub(super) fn new(
        address: Address,
        shape: Shape,
        split: SplitId,
        accepted: Option<Id>,
        after: Option<(Position, Mark)>,
    ) -> Self {
        let (stood, mark) = after.unzip();
        let stand = mark.map(Stand::Behind);
        Self {
            address,
            shape,
            split,
            accepted,
            session: None,
            waiting: None,
            stand,
            stood,
            entry_bytes: ENTRY_BYTES,
        }
    }

    fn at(&self) -> Option<Id> {
        match self.stand {
            Some(Stand::Behind(mark)) => Some(mark.id),
            Some(Stand::Start(_)) | None => None,
        }
    }

    /// Refuses a stream that is another one, or lacks what was not read.
    fn check(&self, look: &Look) -> Result<(), ReadFault> {
        let stand = self.stand.unwrap_or(Stand::Start(look.state));
        let stream = || self.split.to_string();
        match judge(&stand, &look.state, look.at.as_ref().map(Entry::digest)) {
            Ok(()) => Ok(()),
            Err(Wrong::Trimmed { through }) if self.accepted.is_some_and(|accepted| accepted >= through) => {
                Ok(())
            }
            Err(Wrong::Recreated(reason)) => Err(ReadFault::Recreated { stream: stream(), reason }),
            Err(Wrong::Trimmed { through }) => {
                let after = self.at().map_or_else(|| "the beginning".to_owned(), |id| id.to_string());
                Err(ReadFault::Trimmed { stream: stream(), after, through: through.to_string() })
            }
        }
    }

    async fn page(&mut self, limit: ReadLimit) -> Result<Option<Batch>, SourceError> {
        let session = match &mut self.session {
            Some(session) => session,
            None => self.session.insert(self.address.connect_for(self.split.as_str()).await?),
        };
        let fitting = limit.bytes_max.checked_div(self.entry_bytes.max(1)).unwrap_or(1);
        let count = fitting.min(limit.records_max).clamp(1, ENTRIES_MAX);
        let at = match self.stand {
            Some(Stand::Behind(mark)) => Some(mark.id),
            Some(Stand::Start(_)) | None => None,
        };
        let looked = look(session, self.split.as_str(), at, count).await;
        let found = match looked {
            Ok(found) => found,
            Err(error) => {
                self.session = None;
                return Err(error);
            }
        };
        self.check(&found)?;
        let Look { state, entries, .. } = found;
        let added = match self.stand {
            Some(Stand::Behind(mark)) => mark.added,
            Some(Stand::Start(then)) => then.removed(),
            None => state.removed(),
        };
        let Some(last) = entries.last() else {
            if self.stand.is_none() {
                self.stand = Some(Stand::Start(state));
            }
            return Ok(None);
        };
        let read = u64::try_from(entries.len()).unwrap_or(u64::MAX);
        // At the end of the stream it is known exactly; before it, nothing in between was removed.
        let at_end = last.id >= state.last;
        let added = if at_end { state.added } else { added.max(state.removed()).saturating_add(read) };
        let mark = Mark { id: last.id, added, digest: last.digest() };
        let batch = self.batch(&entries, mark.encode())?;
        let bytes: usize = entries.iter().map(Entry::bytes).sum();
        self.entry_bytes = bytes.checked_div(entries.len()).unwrap_or(ENTRY_BYTES).max(1);
        self.stand = Some(Stand::Behind(mark));
        self.stood = Some(batch.through.clone());
        Ok(Some(batch))
    }

    fn batch(&self, entries: &[Entry], through: Position) -> Result<Batch, ReadFault> {
        let (records, misfits) = self.shape.records(entries)?;
        let number = |entry: &Entry| {
            let stream = || self.split.to_string();
            entry
                .id
                .ordinal()
                .ok_or_else(|| ReadFault::LargeId { stream: stream(), id: entry.id.to_string() })
        };
        let all = Ordinals::Each(entries.iter().map(number).collect::<Result<_, _>>()?);
        let ordinals = match misfits.is_empty() {
            true => all.clone(),
            false => {
                all.pick((0..entries.len()).filter(|row| !misfits.iter().any(|misfit| misfit.row == *row)))
            }
        };
        let rejected = misfits.into_iter().filter_map(|misfit| {
            let entry = entries.get(misfit.row)?;
            Some(Rejected {
                ordinal: all.of(misfit.row),
                code: codes::VALUE_MISFIT,
                reason: format!("entry {}: {}", entry.id, misfit.reason),
                id: None,
                raw: Rejected::excerpt(entry.raw().as_bytes()),
            })
        });
        let rejected = rejected.collect();
        let bytes: usize = entries.iter().map(Entry::bytes).sum();
        let source_bytes = u64::try_from(bytes).unwrap_or(u64::MAX);
        let (split, after) = (self.split.clone(), self.stood.clone());
        Ok(Batch { split, after, through, records, ordinals, rejected, source_bytes })
    }

    async fn wait(&mut self) -> Result<(), SourceError> {
        let at = self.at().unwrap_or_default().to_string();
        let session = match &mut self.waiting {
            Some(session) => session,
            None => self.waiting.insert(self.address.connect_for(self.split.as_str()).await?),
        };
        let mut read = redis::cmd("XREAD");
        read.arg("COUNT").arg(1).arg("BLOCK").arg(WAIT_MS).arg("STREAMS").arg(self.split.as_str()).arg(at);
        if let Err(fault) = session.ask("waiting for entries", &read).await {
            self.waiting = None;
            return Err(no_stream(fault, self.split.as_str()));
        }
        Ok(())
    }
}

impl SplitReader for Reader {
    fn read(&mut self, limit: ReadLimit) -> Fut<'_, Option<Batch>, SourceError> {
        Box::pin(self.page(limit))
    }

    fn more(&mut self) -> Fut<'_, (), SourceError> {
        Box::pin(self.wait())
    }

    /// Nothing is forgotten: a stream is trimmed by whoever owns it.
    fn acknowledge(&mut self, _through: Durable<Position>) -> Fut<'_, (), SourceError> {
        Box::pin(std::future::ready(Ok(())))
    }
}
