//! A reader whose rows pass as the bytes they are.

use bytes::BytesMut;
use hapax_engine::Fut;
use hapax_engine::batch::ReadLimit;
use hapax_engine::durable::Durable;
use hapax_engine::fault::SourceError;
use hapax_engine::wire::{WireBatch, WireReader};
use hapax_protocol::position::Position;

use super::copy::Row;
use super::reader::Reader;

/// A place in one split, read as bytes.
pub(super) struct Undecoded {
    reader: Reader,
    bytes: BytesMut,
    rows: u64,
    /// The last row that was collected.
    last: Option<Row>,
}

impl Undecoded {
    pub(super) fn new(reader: Reader) -> Self {
        Self { reader, bytes: BytesMut::new(), rows: 0, last: None }
    }

    /// Collects rows until there are enough or no more. What was collected stays if it is dropped.
    async fn collect(&mut self, limit: ReadLimit) -> Result<(), SourceError> {
        let rows_max = u64::try_from(limit.records_max.max(1)).unwrap_or(u64::MAX);
        while self.rows < rows_max && self.bytes.len() < limit.bytes_max {
            let Some(row) = self.reader.next().await? else { break };
            if self.reader.has_places() {
                row.append_without_last(&mut self.bytes);
            } else {
                row.append(&mut self.bytes);
            }
            self.rows = self.rows.saturating_add(1);
            self.last = Some(row);
        }
        Ok(())
    }
}

impl WireReader for Undecoded {
    fn read(&mut self, limit: ReadLimit) -> Fut<'_, Option<WireBatch>, SourceError> {
        Box::pin(async move {
            self.bytes.reserve(limit.bytes_max.min(1 << 22));
            self.collect(limit).await?;
            let Some(last) = self.last.take() else { return Ok(None) };
            let rows = std::mem::take(&mut self.rows);
            let (after, through) = self.reader.pass(&last, rows)?;
            let (split, bytes) = (self.reader.split().clone(), vec![self.bytes.split().freeze()]);
            Ok(Some(WireBatch { split, after, through, rows, bytes }))
        })
    }

    fn acknowledge(&mut self, _through: Durable<Position>) -> Fut<'_, (), SourceError> {
        // A table forgets nothing.
        Box::pin(std::future::ready(Ok(())))
    }
}
