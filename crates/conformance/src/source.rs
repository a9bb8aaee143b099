//! What every source must do.

use std::collections::BTreeMap;
use std::sync::Arc;

use futures::FutureExt;
use hapax_engine::batch::{Batch, ReadLimit};
use hapax_engine::canonical::Rows;
use hapax_engine::source::{Numbers, Source, SplitReader};
use hapax_protocol::position::{Ordinal, Position, SplitId};

/// A record as the suite sees it: its canonical bytes, or `None` if the source rejected it.
type Record = Option<Vec<u8>>;

/// Everything one split holds, by ordinal.
type Content = BTreeMap<Ordinal, Record>;

const WIDE: ReadLimit = ReadLimit { records_max: 1 << 20, bytes_max: 1 << 26 };
const NARROW: ReadLimit = ReadLimit { records_max: 3, bytes_max: 64 };

/// Runs every check on a source. `open` opens the same, unchanged data each time; `records` is how many
/// records it holds, rejected ones included.
pub async fn suite<F>(records: u64, open: F)
where
    F: AsyncFn() -> Arc<dyn Source>,
{
    let source = open().await;
    let whole = everything(source.as_ref(), WIDE).await;
    let found: usize = whole.values().map(BTreeMap::len).sum();
    assert_eq!(
        u64::try_from(found).unwrap(),
        records,
        "the source does not hold as many records as it should"
    );
    if source.numbers() == Numbers::Counted {
        ordinals_count_from_zero(&whole);
    }

    let again = open().await;
    assert_eq!(everything(again.as_ref(), WIDE).await, whole, "reading again gives other records");
    assert_eq!(
        everything(again.as_ref(), NARROW).await,
        whole,
        "smaller reads give other records or ordinals"
    );
    for split in whole.keys() {
        resuming_gives_the_rest(open().await.as_ref(), split, &whole[split]).await;
        a_dropped_read_moves_nothing(open().await.as_ref(), split, &whole[split]).await;
    }
}

fn ordinals_count_from_zero(whole: &BTreeMap<SplitId, Content>) {
    for (split, content) in whole {
        let ordinals: Vec<Ordinal> = content.keys().copied().collect();
        let expected: Vec<Ordinal> = (0..).take(ordinals.len()).collect();
        assert_eq!(ordinals, expected, "{split}: ordinals must count every record from 0");
    }
}

/// Reads every split to its end.
pub async fn everything(source: &dyn Source, limit: ReadLimit) -> BTreeMap<SplitId, Content> {
    let mut all = BTreeMap::new();
    for split in source.splits().await.unwrap() {
        let mut reader = source.open(&split.id, None).await.unwrap();
        let (content, _) = rest(reader.as_mut(), &split.id, None, limit).await;
        assert!(all.insert(split.id.clone(), content).is_none(), "{} is listed twice", split.id);
    }
    all
}

/// Reads to the end and returns what came and the position behind each batch.
async fn rest(
    reader: &mut dyn SplitReader,
    split: &SplitId,
    mut stood: Option<Position>,
    limit: ReadLimit,
) -> (Content, Vec<(Position, Ordinal)>) {
    let (mut content, mut positions) = (Content::new(), Vec::new());
    while let Some(batch) = reader.read(limit).await.unwrap() {
        assert_eq!(batch.split, *split, "a batch names another split");
        assert_eq!(batch.after, stood, "{split}: a batch does not start where the last one ended");
        assert!(stood.is_none_or(|stood| batch.through > stood), "{split}: a position does not move forward");
        stood = Some(batch.through.clone());
        let before = content.len();
        let last = content.keys().next_back().copied();
        take(&batch, &mut content);
        let new = last.map_or(0, |last| content.range(last + 1..).count() + before);
        assert!(last.is_none() || new == content.len(), "{split}: ordinals do not ascend with the records");
        let next = content.keys().next_back().map_or(0, |last| last + 1);
        if content.len() > before {
            positions.push((batch.through, next));
        }
    }
    assert!(
        reader.read(limit).await.unwrap().is_none(),
        "{split}: reading on behind the end must stay the end"
    );
    (content, positions)
}

fn take(batch: &Batch, content: &mut Content) {
    let columns: Vec<usize> = (0..batch.records.num_columns()).collect();
    let rows = Rows::new(&batch.records, &columns).unwrap();
    for row in 0..batch.records.num_rows() {
        let mut bytes = Vec::new();
        rows.encode(row, &mut bytes).unwrap();
        let ordinal = batch.ordinals.of(row);
        assert!(content.insert(ordinal, Some(bytes)).is_none(), "record {ordinal} came twice");
    }
    for rejected in &batch.rejected {
        assert!(!rejected.reason.is_empty(), "a rejected record has no reason");
        assert!(content.insert(rejected.ordinal, None).is_none(), "record {} came twice", rejected.ordinal);
    }
}

/// From the position behind each batch, exactly the records behind it come.
async fn resuming_gives_the_rest(source: &dyn Source, split: &SplitId, whole: &Content) {
    let mut reader = source.open(split, None).await.unwrap();
    let (_, positions) = rest(reader.as_mut(), split, None, NARROW).await;
    // Every position of a small split, a spread of them in a large one.
    let every = (positions.len() / 40).max(1);
    for (position, next) in positions.iter().step_by(every).chain(positions.last()) {
        let mut reader = source.open(split, Some(position)).await.unwrap();
        let (content, _) = rest(reader.as_mut(), split, Some(position.clone()), WIDE).await;
        let expected: Content = whole.range(next..).map(|(n, record)| (*n, record.clone())).collect();
        assert_eq!(content, expected, "{split}: resuming behind record {next} gives other records");
        assert!(!source.describe(position).is_empty(), "a position has no words");
    }
}

/// A read that is dropped before it is ready has not moved the reader.
async fn a_dropped_read_moves_nothing(source: &dyn Source, split: &SplitId, whole: &Content) {
    let mut reader = source.open(split, None).await.unwrap();
    let mut content = Content::new();
    loop {
        match reader.read(NARROW).now_or_never() {
            Some(read) => match read.unwrap() {
                Some(batch) => take(&batch, &mut content),
                None => break,
            },
            None => match reader.read(NARROW).await.unwrap() {
                Some(batch) => take(&batch, &mut content),
                None => break,
            },
        }
    }
    assert_eq!(content, *whole, "{split}: a read that was dropped lost or repeated records");
}
