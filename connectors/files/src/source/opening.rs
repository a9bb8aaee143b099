//! Opens splits: at their start, or behind a position once the file was checked against it.

use std::sync::PoisonError;

use hapax_engine::source::SplitReader;
use hapax_protocol::position::{Position, SplitId};

use super::fault::FilesFault;
use super::feed::Feed;
use super::position::{Consumed, Mark, Seen};
use super::sample::Beginning;
use super::text::{Start, TextReader};
use super::{Files, columns_differ, parquet, resume};
use crate::client::Object;
use crate::config::{Compression, Format};

/// The beginning of a text file: where its records begin, and which of its fields is which column.
struct Top {
    feed: Feed,
    beginning: Beginning,
    first: usize,
    order: Vec<usize>,
}

impl Files {
    pub(super) async fn open_split(
        &self,
        split: SplitId,
        after: Option<Position>,
    ) -> Result<Box<dyn SplitReader>, FilesFault> {
        let after = match after {
            None => None,
            Some(position) => {
                let mark = Mark::decode(&position).ok_or_else(|| FilesFault::Position {
                    name: split.to_string(),
                    what: "the stored position was not made by this version of the files source",
                })?;
                Some((position, mark))
            }
        };
        if self.stdin.is_some() {
            return self.open_stdin(split, after.is_some()).await;
        }
        let (object, part) = self.part(&split).await?;
        if self.settings.format == Format::Parquet {
            let (metadata, seen) = parquet::footer(&object).await?;
            if let Some((_, mark)) = &after {
                parquet::check(&object, &seen, mark)?;
            }
            let group = usize::try_from(part).unwrap_or(usize::MAX);
            let schema = self.schema.clone();
            let reader =
                parquet::RowGroupReader::new(object, (metadata, seen), (group, split), schema, after)?;
            return Ok(Box::new(reader));
        }
        match after {
            None => self.open_fresh(&object, part, split).await,
            Some((position, mark)) => self.open_behind(&object, part, split, position, &mark).await,
        }
    }

    /// The file of a split as it stands now, and which part of it the split is.
    pub(super) async fn part(&self, split: &SplitId) -> Result<(Object, u64), FilesFault> {
        let unknown = || FilesFault::Position {
            name: split.to_string(),
            what: "this is not the name of a split of this source",
        };
        let (name, part) = split.as_str().rsplit_once('#').ok_or_else(unknown)?;
        let part = part.parse().map_err(|_| unknown())?;
        Ok((self.location.find(name).await?, part))
    }

    async fn open_stdin(&self, split: SplitId, resumed: bool) -> Result<Box<dyn SplitReader>, FilesFault> {
        let again = FilesFault::Stdin { what: "a second time" };
        let stdin = self.stdin.as_ref().filter(|stdin| stdin.split == split);
        let stdin = stdin.ok_or(FilesFault::Stdin { what: "from where an earlier run stopped" })?;
        if resumed {
            return Err(again);
        }
        let (feed, beginning) = stdin.left.lock().await.take().ok_or(again)?;
        let top = self.read_top(feed, beginning).await?;
        let seen = Seen { size: 0, stamp: [0; 16], head_crc: 0, head_bytes: 0 };
        Ok(self.reader_at_top(top, seen, split, None))
    }

    async fn open_fresh(
        &self,
        object: &Object,
        part: u64,
        split: SplitId,
    ) -> Result<Box<dyn SplitReader>, FilesFault> {
        let top = self.top(object).await?;
        let gridded = self.gridded(object);
        let limit = gridded.then(|| self.grid.end(part));
        let seen = resume::look(object, self.plain(object)).await?;
        self.same_file(object, seen)?;
        if part == 0 {
            return Ok(self.reader_at_top(top, seen, split, limit));
        }
        let first = u64::try_from(top.first).unwrap_or(u64::MAX);
        let from = self.grid.start(object, part, self.cutter().ending(), first).await?;
        let consumed = Consumed { from, ..Consumed::default() };
        let start = self.begin(split, None, (from, 0), limit, seen, consumed);
        let feed = Feed::open(object, Compression::None, from)?;
        Ok(self.reader(start, feed, Vec::new(), top.order))
    }

    async fn open_behind(
        &self,
        object: &Object,
        part: u64,
        split: SplitId,
        position: Position,
        mark: &Mark,
    ) -> Result<Box<dyn SplitReader>, FilesFault> {
        let limit = self.gridded(object).then(|| self.grid.end(part));
        let unchanged = object.size == mark.seen.size && object.stamp == mark.seen.stamp;
        if unchanged && mark.at_end {
            return Ok(Box::new(Ended));
        }
        let plain = self.plain(object);
        let seen = resume::look(object, plain).await?;
        let start =
            self.begin(split, Some(position), (mark.offset, mark.ordinal), limit, seen, mark.consumed);
        if plain {
            resume::check(object, mark).await?;
            self.same_file(object, seen)?;
            let order = self.top(object).await?.order;
            let feed = Feed::open(object, Compression::None, mark.offset)?;
            return Ok(self.reader(start, feed, Vec::new(), order));
        }
        let top = self.top(object).await?;
        let (mut feed, early) = (top.feed, top.beginning.bytes);
        let early = resume::repeat(object, mark, &mut feed, early).await?;
        Ok(self.reader(start, feed, early, top.order))
    }

    /// Refuses a file that another one took the place of while this source was in use: its splits would be
    /// ranges of two files.
    fn same_file(&self, object: &Object, seen: Seen) -> Result<(), FilesFault> {
        let mut first = self.first_seen.lock().unwrap_or_else(PoisonError::into_inner);
        let first = first.entry(object.name.clone()).or_insert(seen);
        let other_head = first.head_bytes == seen.head_bytes && first.head_crc != seen.head_crc;
        if seen.size < first.size || other_head {
            let what = "another file took its place while it was being read".to_owned();
            return Err(FilesFault::Replaced { name: object.name.clone(), what });
        }
        Ok(())
    }

    fn plain(&self, object: &Object) -> bool {
        self.settings.compression_of(&object.name) == Compression::None
    }

    /// Which field of a file's records is which column.
    pub(super) async fn order(&self, object: &Object) -> Result<Vec<usize>, FilesFault> {
        Ok(self.top(object).await?.order)
    }

    async fn top(&self, object: &Object) -> Result<Top, FilesFault> {
        let feed = Feed::open(object, self.settings.compression_of(&object.name), 0)?;
        let beginning = Beginning { name: object.name.clone(), ..Beginning::default() };
        self.read_top(feed, beginning).await
    }

    async fn read_top(&self, mut feed: Feed, mut beginning: Beginning) -> Result<Top, FilesFault> {
        let width = self.schema.fields().len();
        if self.settings.format != Format::Csv {
            beginning.grow(&mut feed, 3).await?;
            let first = usize::try_from(super::csv::bom(&beginning.bytes)).unwrap_or(0);
            return Ok(Top { feed, beginning, first, order: (0..width).collect() });
        }
        let way = (self.settings.delimiter, self.settings.header);
        let found = beginning.header(&mut feed, way, self.settings.record_bytes_max).await?;
        let Some((names, first)) = found else {
            let first = beginning.bytes.len();
            return Ok(Top { feed, beginning, first, order: (0..width).collect() });
        };
        if !self.settings.header {
            return Ok(Top { feed, beginning, first, order: (0..width).collect() });
        }
        let place = |name: &String| names.iter().position(|known| known == name);
        let fields = self.schema.fields();
        let order: Vec<usize> = fields.iter().filter_map(|field| place(field.name())).collect();
        if order.len() != width || names.len() != width {
            let missing: Vec<&str> = fields
                .iter()
                .map(|f| f.name())
                .filter(|name| place(name).is_none())
                .map(String::as_str)
                .collect();
            let extra: Vec<&str> = names
                .iter()
                .filter(|n| self.schema.column_with_name(n).is_none())
                .map(String::as_str)
                .collect();
            return Err(columns_differ(&beginning.name, &missing, &extra));
        }
        Ok(Top { feed, beginning, first, order })
    }

    fn begin(
        &self,
        split: SplitId,
        after: Option<Position>,
        (offset, ordinal): (u64, u64),
        limit: Option<u64>,
        seen: Seen,
        consumed: Consumed,
    ) -> Start {
        let record_bytes_max = self.settings.record_bytes_max;
        Start { split, after, offset, ordinal, limit, seen, consumed, record_bytes_max }
    }

    fn reader_at_top(
        &self,
        top: Top,
        seen: Seen,
        split: SplitId,
        limit: Option<u64>,
    ) -> Box<dyn SplitReader> {
        let mut early = top.beginning.bytes;
        let rest = early.split_off(top.first.min(early.len()));
        let consumed = Consumed { crc: crc32fast::hash(&early), ..Consumed::default() };
        let offset = u64::try_from(early.len()).unwrap_or(u64::MAX);
        let start = self.begin(split, None, (offset, 0), limit, seen, consumed);
        self.reader(start, top.feed, rest, top.order)
    }

    fn reader(&self, start: Start, feed: Feed, early: Vec<u8>, order: Vec<usize>) -> Box<dyn SplitReader> {
        Box::new(TextReader::new(start, feed, early, self.cutter(), self.columns(order)))
    }
}

/// A split of which nothing is left.
struct Ended;

impl SplitReader for Ended {
    fn read(
        &mut self,
        _: hapax_engine::batch::ReadLimit,
    ) -> hapax_engine::Fut<'_, Option<hapax_engine::batch::Batch>, hapax_engine::fault::SourceError> {
        Box::pin(async { Ok(None) })
    }

    fn acknowledge(
        &mut self,
        _: hapax_engine::durable::Durable<Position>,
    ) -> hapax_engine::Fut<'_, (), hapax_engine::fault::SourceError> {
        Box::pin(async { Ok(()) })
    }
}
