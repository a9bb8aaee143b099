//! A source with vectors: each text is paid for once, whatever happens.
// A test fails by panicking; its numbers are small.
#![allow(
    clippy::as_conversions,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used
)]

use std::path::Path;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};

use arrow::array::{
    Array, ArrayRef, AsArray, FixedSizeListArray, Float64Array, Int64Array, ListArray, RecordBatch,
    StringArray,
};
use arrow::datatypes::{DataType, Float32Type, Float64Type, SchemaRef};
use hapax_embed::cache::Cache;
use hapax_embed::{EmbedFault, Embedder, Embedding, What, codes};
use hapax_engine::Fut;
use hapax_engine::batch::{Batch, Ordinals, ReadLimit};
use hapax_engine::dead_letter::DeadLetter;
use hapax_engine::durable::Durable;
use hapax_engine::fault::{Fault, SourceError, SourceErrorKind};
use hapax_engine::source::{Source, Split, SplitReader};
use hapax_protocol::code::Code;
use hapax_protocol::guarantee::SourceFacts;
use hapax_protocol::identity::{Identity, Place};
use hapax_protocol::position::{Position, SplitId};

/// Gives the vector of a text, and the number of the call as its last number: no two answers are alike.
#[derive(Default)]
struct Endpoint {
    calls: AtomicU32,
    asked: Mutex<Vec<String>>,
    is_away: Mutex<Option<u32>>,
}

impl Embedder for Endpoint {
    fn name(&self) -> String {
        "endpoint model".to_owned()
    }

    fn texts_max(&self) -> usize {
        2
    }

    fn embed<'a>(&'a self, texts: &'a [String]) -> Fut<'a, Vec<Result<Vec<f32>, String>>, SourceError> {
        Box::pin(async move {
            tokio::task::yield_now().await;
            let call = self.calls.fetch_add(1, Ordering::SeqCst);
            if self.is_away.lock().unwrap().is_some_and(|from| call >= from) {
                return Err(SourceError::unavailable(EmbedFault::Interrupted));
            }
            self.asked.lock().unwrap().extend(texts.iter().cloned());
            Ok(texts
                .iter()
                .map(|text| match text.as_str() {
                    "bad" => Err("no such word".to_owned()),
                    "short" => Ok(vec![1.0]),
                    "infinite" => Ok(vec![1.0, 2.0, f32::INFINITY]),
                    text => Ok(vec![text.len() as f32, f32::from(text.as_bytes()[0]), call as f32]),
                })
                .collect())
        })
    }
}

/// One split with the same records each time, four at a read at most.
struct Fixed(RecordBatch);

impl Source for Fixed {
    fn facts(&self) -> SourceFacts {
        hapax_engine::source::Nothing(self.0.schema()).facts()
    }

    fn schema(&self) -> SchemaRef {
        self.0.schema()
    }

    fn splits(&self) -> Fut<'_, Vec<Split>, SourceError> {
        Box::pin(async { Ok(vec![Split { id: SplitId::new("s"), source_bytes: None }]) })
    }

    fn open(&self, _: &SplitId, _: Option<&Position>) -> Fut<'_, Box<dyn SplitReader>, SourceError> {
        let reader: Box<dyn SplitReader> = Box::new(FixedReader(self.0.clone(), 0));
        Box::pin(async { Ok(reader) })
    }

    fn describe(&self, _: &Position) -> String {
        String::new()
    }

    fn rejects_with(&self, _: Code) -> bool {
        false
    }

    fn reread(&self, _: &DeadLetter) -> Fut<'_, RecordBatch, SourceError> {
        unreachable!()
    }
}

struct FixedReader(RecordBatch, usize);

impl SplitReader for FixedReader {
    fn read(&mut self, limit: ReadLimit) -> Fut<'_, Option<Batch>, SourceError> {
        Box::pin(async move {
            let length = limit.records_max.min(4).min(self.0.num_rows() - self.1);
            if length == 0 {
                return Ok(None);
            }
            let from = self.1;
            self.1 += length;
            let place = |row: usize| Position::new((row as u64).to_be_bytes().to_vec());
            Ok(Some(Batch {
                split: SplitId::new("s"),
                after: (from > 0).then(|| place(from)),
                through: place(self.1),
                records: self.0.slice(from, length),
                ordinals: Ordinals::From(from as u64),
                rejected: Vec::new(),
                source_bytes: 0,
            }))
        })
    }

    fn acknowledge(&mut self, _: Durable<Position>) -> Fut<'_, (), SourceError> {
        Box::pin(async { Ok(()) })
    }
}

fn records(texts: &[Option<&str>], more: Option<ArrayRef>) -> RecordBatch {
    let ids: ArrayRef = Arc::new(Int64Array::from_iter_values(0..texts.len() as i64));
    let texts: ArrayRef = Arc::new(StringArray::from(texts.to_vec()));
    let columns = [("id", ids, true), ("text", texts, true)];
    let more = more.map(|column| ("vector", column, true));
    RecordBatch::try_from_iter_with_nullable(columns.into_iter().chain(more)).unwrap()
}

fn over(records: RecordBatch, endpoint: &Arc<Endpoint>, cache: &Path) -> Result<Embedding, EmbedFault> {
    let what = What { column: "vector".to_owned(), from: "text".to_owned(), dimension: 3 };
    let embedder = Arc::clone(endpoint) as Arc<dyn Embedder>;
    Embedding::over(Arc::new(Fixed(records)), &what, embedder, Cache::new(cache))
}

const WIDE: ReadLimit = ReadLimit { records_max: 100, bytes_max: 1 << 20 };

async fn all(source: &Embedding) -> Result<Vec<Batch>, SourceError> {
    let mut reader = source.open(&SplitId::new("s"), None).await?;
    let mut batches = Vec::new();
    while let Some(batch) = reader.read(WIDE).await? {
        batches.push(batch);
    }
    Ok(batches)
}

fn vectors(batches: &[Batch]) -> Vec<Option<Vec<f32>>> {
    let of = |batch: &Batch| {
        let column = batch.records.column_by_name("vector").unwrap().as_fixed_size_list().clone();
        (0..column.len())
            .map(|row| {
                column
                    .is_valid(row)
                    .then(|| column.value(row).as_primitive::<Float32Type>().values().to_vec())
            })
            .collect::<Vec<_>>()
    };
    batches.iter().flat_map(of).collect()
}

#[tokio::test]
async fn each_text_is_paid_for_once_and_keeps_its_vector() {
    let (endpoint, folder) = (Arc::new(Endpoint::default()), tempfile::tempdir().unwrap());
    let cache = folder.path().join("v.db");
    let texts =
        [Some("one"), Some("two"), None, Some("one"), Some("two"), Some("three"), Some("")].map(|text| {
            // An empty text is a text.
            if text == Some("") { Some("0") } else { text }
        });
    let source = over(records(&texts, None), &endpoint, &cache).unwrap();
    assert!(!cache.exists(), "it was made before it was needed");
    let first = vectors(&all(&source).await.unwrap());
    assert_eq!(first[0].as_ref().unwrap()[..2], [3.0, 111.0]);
    assert_eq!((&first[2], &first[0]), (&None, &first[3]));
    assert_eq!(first[1], first[4]);
    let paid = || endpoint.asked.lock().unwrap().len();
    assert_eq!(paid(), 4);
    // The next read, another process, and one beside it: the same vectors, from a file.
    assert_eq!(vectors(&all(&source).await.unwrap()), first);
    let later = over(records(&texts, None), &endpoint, &cache).unwrap();
    assert_eq!(vectors(&all(&later).await.unwrap()), first);
    assert_eq!(paid(), 4);
}

#[tokio::test]
async fn what_was_paid_for_is_kept_though_the_endpoint_goes_away() {
    let (endpoint, folder) = (Arc::new(Endpoint::default()), tempfile::tempdir().unwrap());
    let source =
        over(records(&["a", "b", "c", "d"].map(Some), None), &endpoint, &folder.path().join("v.db")).unwrap();
    *endpoint.is_away.lock().unwrap() = Some(1);
    let error = all(&source).await.unwrap_err();
    assert_eq!(error.kind, SourceErrorKind::Unavailable);
    assert_eq!(endpoint.asked.lock().unwrap().len(), 2);
    *endpoint.is_away.lock().unwrap() = None;
    assert!(vectors(&all(&source).await.unwrap()).iter().all(Option::is_some));
    let mut asked = endpoint.asked.lock().unwrap().clone();
    asked.sort();
    assert_eq!(asked, ["a", "b", "c", "d"]);
}

#[tokio::test]
async fn a_read_that_is_dropped_moves_nothing() {
    let (endpoint, folder) = (Arc::new(Endpoint::default()), tempfile::tempdir().unwrap());
    let texts: Vec<String> = (0..8).map(|n| format!("text {n}")).collect();
    let texts: Vec<Option<&str>> = texts.iter().map(|text| Some(text.as_str())).collect();
    let source = over(records(&texts, None), &endpoint, &folder.path().join("v.db")).unwrap();
    let mut reader = source.open(&SplitId::new("s"), None).await.unwrap();
    for polls in 1..6 {
        let mut read = Box::pin(reader.read(WIDE));
        for _ in 0..polls {
            let waker = std::task::Waker::noop();
            if read.as_mut().poll(&mut std::task::Context::from_waker(waker)).is_ready() {
                panic!("it does not wait");
            }
        }
        drop(read);
    }
    let first = reader.read(WIDE).await.unwrap().unwrap();
    assert_eq!((first.records.num_rows(), first.ordinals.of(0)), (4, 0));
    let ids = first.records.column(0).as_primitive::<arrow::datatypes::Int64Type>().values().to_vec();
    assert_eq!(ids, [0, 1, 2, 3]);
    // What was under way went on, and was asked for once.
    assert_eq!(endpoint.asked.lock().unwrap().len(), 4);
}

#[tokio::test]
async fn only_missing_vectors_are_filled_in_the_type_that_is_there() {
    let (endpoint, folder) = (Arc::new(Endpoint::default()), tempfile::tempdir().unwrap());
    let there = ListArray::from_iter_primitive::<Float64Type, _, _>([
        Some(vec![Some(0.5), Some(1.5), Some(2.5)]),
        None,
        None,
    ]);
    let batch = records(&[Some("x"), Some("yy"), None], Some(Arc::new(there)));
    let source = over(batch, &endpoint, &folder.path().join("v.db")).unwrap();
    let column = all(&source).await.unwrap()[0].records.column(2).as_list::<i32>().clone();
    let numbers =
        |row: usize| column.value(row).as_any().downcast_ref::<Float64Array>().unwrap().values().to_vec();
    assert_eq!((numbers(0), numbers(1)), (vec![0.5, 1.5, 2.5], vec![2.0, 121.0, 0.0]));
    assert!(column.is_null(2));
    assert_eq!(*endpoint.asked.lock().unwrap(), ["yy"]);
}

#[tokio::test]
async fn a_text_that_is_not_taken_is_set_aside_and_can_be_read_again() {
    let (endpoint, folder) = (Arc::new(Endpoint::default()), tempfile::tempdir().unwrap());
    let source =
        over(records(&["a", "bad", "c"].map(Some), None), &endpoint, &folder.path().join("v.db")).unwrap();
    let batches = all(&source).await.unwrap();
    let batch = &batches[0];
    assert_eq!((batch.records.num_rows(), batch.ordinals.of(1)), (2, 2));
    let rejected = &batch.rejected[0];
    assert_eq!((rejected.ordinal, rejected.code), (1, codes::TEXT_REFUSED));
    assert!(rejected.reason.contains("no such word") && rejected.raw.contains("\"bad\""), "{rejected:?}");
    let letter = |raw: &str| DeadLetter {
        place: Place { split: SplitId::new("s"), ordinal: 1 },
        code: rejected.code,
        reason: rejected.reason.clone(),
        raw: raw.to_owned(),
        set_aside_unix_ms: 0,
    };
    assert!(source.rejects_with(rejected.code));
    assert_eq!(rejected.id, None, "nothing is known that tells it from others");
    let still = source.reread(&letter(&rejected.raw)).await.unwrap_err();
    assert_eq!(still.fault.code(), codes::LETTER_UNREADABLE, "{still}");
    let mended = source.reread(&letter(&rejected.raw.replace("bad", "good"))).await.unwrap();
    let vector: &FixedSizeListArray = mended.column(2).as_fixed_size_list();
    assert_eq!((mended.num_rows(), vector.is_valid(0)), (1, true));
}

#[tokio::test]
async fn what_does_not_fit_is_said_before_anything_moves() {
    let (endpoint, folder) = (Arc::new(Endpoint::default()), tempfile::tempdir().unwrap());
    let cache = folder.path().join("v.db");
    let number: ArrayRef = Arc::new(Int64Array::from(vec![1]));
    let no_text =
        RecordBatch::try_from_iter([("id", Arc::clone(&number)), ("text", Arc::clone(&number))]).unwrap();
    let no_column = RecordBatch::try_from_iter([("id", Arc::clone(&number))]).unwrap();
    let no_vector = records(&[Some("a")], Some(number));
    let fixed = FixedSizeListArray::from_iter_primitive::<Float32Type, _, _>([Some(vec![Some(1.0); 2])], 2);
    let other_size = records(&[Some("a")], Some(Arc::new(fixed)));
    for batch in [no_text, no_column, no_vector, other_size] {
        let fault = over(batch, &endpoint, &cache).err().unwrap();
        assert_eq!(fault.code(), codes::COLUMN, "{fault}");
    }
    for text in ["short", "infinite"] {
        let source = over(records(&[Some(text)], None), &endpoint, &cache).unwrap();
        let error = all(&source).await.unwrap_err();
        assert_eq!((error.fault.code(), error.kind), (codes::NO_VECTOR, SourceErrorKind::Stop), "{error}");
    }
    std::fs::write(&cache, b"something else, and long enough to be looked at").unwrap();
    let source = over(records(&[Some("a")], None), &endpoint, &cache).unwrap();
    assert_eq!(all(&source).await.unwrap_err().fault.code(), codes::CACHE);
    let added = over(records(&[Some("a")], None), &endpoint, &cache).unwrap().schema();
    assert!(matches!(added.field(2).data_type(), DataType::FixedSizeList(_, 3)));
}

#[tokio::test]
async fn a_record_that_is_set_aside_has_its_identity_at_whatever_place_it_comes() {
    let (endpoint, folder) = (Arc::new(Endpoint::default()), tempfile::tempdir().unwrap());
    let texts = ["a", "bad", "c", "bad"].map(Some);
    let rejected = async |records: RecordBatch, identity: Identity| {
        let source = over(records, &endpoint, &folder.path().join("v.db")).unwrap().identified(&identity);
        let batches = all(&source).await.unwrap();
        let ids = batches.iter().flat_map(|batch| &batch.rejected).map(|one| one.id).collect::<Vec<_>>();
        assert_eq!(ids.len(), 2, "{identity:?}");
        ids
    };
    let key = || Identity::Key(vec!["id".to_owned()]);
    let first = rejected(records(&texts, None), key()).await;
    assert!(first[0].is_some() && first[1].is_some() && first[0] != first[1], "{first:?}");
    // The second of them alone, at another place.
    let again = rejected(records(&texts, None).slice(1, 3), key()).await;
    assert_eq!(first, again);
    // Of two records that say the same, and that nothing tells apart, each is set aside.
    assert_eq!(rejected(records(&texts, None), Identity::Position).await, [None, None]);
    assert_eq!(rejected(records(&texts, None), Identity::Key(vec!["none".to_owned()])).await, [None, None]);
}
