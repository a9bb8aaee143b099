//! The side of an attempt that reads.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use hapax_protocol::position::Position;
use hapax_protocol::recovery;
use tokio::sync::mpsc::UnboundedReceiver;
use tokio::time::Instant;

use super::channel::Sender;
use super::prepare::Prepared;
use super::{Job, Stop, Until};
use crate::batch::{Batch, ReadLimit};
use crate::crash::{self, Point};
use crate::durable::Durable;
use crate::fault::SourceError;
use crate::source::SplitReader;
use crate::wire::{WireBatch, WireReader};

/// What was read, and when.
pub(super) struct Read {
    pub parcel: Parcel,
    pub at: Instant,
}

/// Records on their way to the writer.
pub(super) enum Parcel {
    /// Transformed and identified.
    Decoded(Prepared),
    /// As the source gave them.
    Wire(WireBatch),
}

/// Who reads.
pub(super) enum Reader {
    Decoded(Box<dyn SplitReader>),
    Wire(Box<dyn WireReader>),
}

/// What came of asking the source.
enum Heard {
    Found(Found),
    /// Nothing more now.
    End,
    /// There may be more now.
    More,
}

/// What was read.
enum Found {
    Decoded(Batch),
    Wire(WireBatch),
}

impl Reader {
    /// Reads on, or waits for more where `ended`. Cancel-safe.
    async fn hear(&mut self, limit: ReadLimit, ended: bool) -> Result<Heard, SourceError> {
        let read = match self {
            Self::Decoded(reader) if ended => {
                reader.more().await?;
                return Ok(Heard::More);
            }
            Self::Decoded(reader) => reader.read(limit).await?.map(Found::Decoded),
            Self::Wire(reader) => reader.read(limit).await?.map(Found::Wire),
        };
        Ok(read.map_or(Heard::End, Heard::Found))
    }

    async fn acknowledge(&mut self, through: Durable<Position>) -> Result<(), SourceError> {
        match self {
            Self::Decoded(reader) => reader.acknowledge(through).await,
            Self::Wire(reader) => reader.acknowledge(through).await,
        }
    }
}

impl Found {
    fn step(&self) -> (Option<&Position>, &Position) {
        match self {
            Self::Decoded(batch) => (batch.after.as_ref(), &batch.through),
            Self::Wire(batch) => (batch.after.as_ref(), &batch.through),
        }
    }

    fn source_bytes(&self) -> u64 {
        match self {
            Self::Decoded(batch) => batch.source_bytes,
            Self::Wire(batch) => u64::try_from(batch.memory()).unwrap_or(u64::MAX),
        }
    }
}

/// The side of an attempt that reads.
pub(super) struct Reading {
    pub job: Arc<Job>,
    pub reader: Reader,
    pub stood: Option<Position>,
    pub halt: Stop,
    pub acknowledged: UnboundedReceiver<Durable<Position>>,
    /// Whether the source has answered that there is nothing, so that whatever fails later is another outage.
    pub idle: Arc<AtomicBool>,
}

/// Why no more is read.
pub(super) enum ReadError {
    Source(SourceError),
    Misstep(recovery::Misstep),
    Arrow(arrow::error::ArrowError),
}

impl Reading {
    /// Reads to the end of the split, or until asked to stop, then passes on the last acknowledgements.
    pub async fn all(mut self, parcels: Sender<Read>) -> Result<(), ReadError> {
        let read = self.read_all(parcels).await;
        // The sender is dropped: the writer commits what it has and then closes this side.
        while let Some(through) = self.acknowledged.recv().await {
            self.acknowledge(through).await?;
        }
        read
    }

    async fn read_all(&mut self, parcels: Sender<Read>) -> Result<(), ReadError> {
        enum Event {
            Durable(Durable<Position>),
            Heard(Heard),
            Stop,
        }
        let follows = self.job.run.until == Until::Stopped;
        let (mut ended, mut any) = (false, false);
        while !self.halt.requested() {
            let limit = match self.reader {
                Reader::Decoded(_) => self.job.read_limit(),
                Reader::Wire(_) => self.job.wire_limit(),
            };
            let event = tokio::select! {
                biased;
                // The writer is gone, and a source that is silent would never notice.
                through = self.acknowledged.recv() => through.map_or(Event::Stop, Event::Durable),
                () = self.halt.wait() => Event::Stop,
                heard = self.reader.hear(limit, ended) => Event::Heard(heard.map_err(ReadError::Source)?),
            };
            let found = match event {
                Event::Durable(through) => {
                    self.acknowledge(through).await?;
                    continue;
                }
                Event::Heard(Heard::End) if follows => {
                    self.idle.fetch_or(!any, Ordering::Relaxed);
                    ended = true;
                    continue;
                }
                Event::Heard(Heard::More) => {
                    ended = false;
                    continue;
                }
                Event::Stop | Event::Heard(Heard::End) => break,
                Event::Heard(Heard::Found(found)) => found,
            };
            any = true;
            let at = Instant::now();
            let (after, through) = found.step();
            recovery::step(self.stood.as_ref(), after, through).map_err(ReadError::Misstep)?;
            crash::point(Point::BatchRead);
            self.stood = Some(through.clone());
            self.job.run.progress.read(found.source_bytes());
            let (parcel, bytes) = match found {
                Found::Decoded(batch) => {
                    let prepared = Prepared::new(&self.job, batch).map_err(ReadError::Arrow)?;
                    let bytes = prepared.memory();
                    (Parcel::Decoded(prepared), bytes)
                }
                Found::Wire(batch) => {
                    let bytes = batch.memory();
                    (Parcel::Wire(batch), bytes)
                }
            };
            if parcels.send(Read { parcel, at }, bytes).await.is_err() {
                break;
            }
        }
        Ok(())
    }

    async fn acknowledge(&mut self, through: Durable<Position>) -> Result<(), ReadError> {
        crash::point(Point::AcknowledgeBefore);
        self.reader.acknowledge(through).await.map_err(ReadError::Source)?;
        crash::point(Point::AcknowledgeAfter);
        Ok(())
    }
}
