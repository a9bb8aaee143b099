//! A source whose records get their vectors as they are read.

use std::collections::HashMap;
use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use hapax_engine::Fut;
use hapax_engine::batch::{Batch, ReadLimit, Rejected};
use hapax_engine::dead_letter::DeadLetter;
use hapax_engine::durable::Durable;
use hapax_engine::fault::SourceError;
use hapax_engine::identify::Identifier;
use hapax_engine::source::{Arrangement, Extent, Group, Numbers, Source, Split, SplitReader};
use hapax_protocol::code::Code;
use hapax_protocol::guarantee::SourceFacts;
use hapax_protocol::identity::{Identity, RecordId};
use hapax_protocol::position::{Position, SplitId};
use tokio::task::JoinHandle;

use crate::cache::{Cache, Key};
use crate::codes;
use crate::fault::EmbedFault;
use crate::vectors::Layout;
use crate::{Embedder, What};

/// A source with vectors.
pub struct Embedding {
    source: Arc<dyn Source>,
    vectors: Arc<Vectors>,
}

/// How vectors come into records.
struct Vectors {
    read: SchemaRef,
    layout: Layout,
    dimension: usize,
    embedder: Arc<dyn Embedder>,
    /// What tells records apart, where that is known before their vectors are there.
    identifier: Option<Identifier>,
    /// What every key begins with.
    salt: String,
    cache: Cache,
}

impl Embedding {
    /// Puts vectors into the records of a source. Asks nobody yet.
    pub fn over(
        source: Arc<dyn Source>,
        what: &What,
        embedder: Arc<dyn Embedder>,
        cache: Cache,
    ) -> Result<Self, EmbedFault> {
        let read = source.schema();
        let layout = Layout::of(&read, what)?;
        let salt = format!("{}\0{}\0", embedder.name(), what.dimension);
        let dimension = what.dimension;
        let vectors = Vectors { read, layout, dimension, embedder, identifier: None, salt, cache };
        Ok(Self { source, vectors: Arc::new(vectors) })
    }

    /// Names what tells its records apart, as they are when they were read. A record that is set aside has its identity then,
    /// and a queue that delivers it again at another place sets it aside once.
    #[must_use]
    pub fn identified(mut self, identity: &Identity) -> Self {
        let by_columns = matches!(identity, Identity::Key(_) | Identity::Uuid(_));
        let identifier = Identifier::new(identity, &self.vectors.read).ok().filter(|_| by_columns);
        // Nobody has asked yet, so it is held here alone.
        if let Some(vectors) = Arc::get_mut(&mut self.vectors) {
            vectors.identifier = identifier;
        }
        self
    }
}

impl Vectors {
    fn key(&self, text: &str) -> Key {
        let mut digest = blake3::Hasher::new();
        digest.update(self.salt.as_bytes());
        digest.update(text.as_bytes());
        *digest.finalize().as_bytes()
    }

    /// The vector of each text, kept before or computed and kept now; why, where it has none.
    async fn of(&self, texts: &[&str]) -> Result<HashMap<Key, Result<Arc<[f32]>, String>>, SourceError> {
        let mut missing: HashMap<Key, &str> = texts.iter().map(|text| (self.key(text), *text)).collect();
        let keys: Vec<Key> = missing.keys().copied().collect();
        let kept = self.cache.get(keys.clone()).await?;
        let mut found: HashMap<Key, Result<Arc<[f32]>, String>> = HashMap::with_capacity(keys.len());
        for (key, vector) in keys.into_iter().zip(kept) {
            if let Some(vector) = vector {
                missing.remove(&key);
                found.insert(key, Ok(vector.into()));
            }
        }
        let missing: Vec<(Key, String)> =
            missing.into_iter().map(|(key, text)| (key, text.to_owned())).collect();
        for together in missing.chunks(self.embedder.texts_max().max(1)) {
            let (keys, texts): (Vec<Key>, Vec<String>) = together.iter().cloned().unzip();
            let answers = self.embedder.embed(&texts).await?;
            if answers.len() != keys.len() {
                let found = format!("{} vectors came for {} texts", answers.len(), keys.len());
                return Err(EmbedFault::NoVector { dimension: self.dimension, found }.into());
            }
            let mut computed = Vec::with_capacity(keys.len());
            for (key, answer) in keys.into_iter().zip(answers) {
                match answer {
                    Ok(vector) => computed.push((key, self.checked(vector)?)),
                    Err(reason) => {
                        found.insert(key, Err(reason));
                    }
                }
            }
            // Kept before the next are asked for: what was paid for is not paid for again, whatever comes.
            let keys: Vec<Key> = computed.iter().map(|(key, _)| *key).collect();
            let kept = self.cache.keep(computed).await?;
            found.extend(keys.into_iter().zip(kept.into_iter().map(|vector| Ok(vector.into()))));
        }
        Ok(found)
    }

    fn checked(&self, vector: Vec<f32>) -> Result<Vec<f32>, EmbedFault> {
        let wrong = |found: String| EmbedFault::NoVector { dimension: self.dimension, found };
        if vector.len() != self.dimension {
            return Err(wrong(format!("one of {} came", vector.len())));
        }
        match vector.iter().find(|number| !number.is_finite()) {
            Some(number) => Err(wrong(format!("one with {number} in it came"))),
            None => Ok(vector),
        }
    }

    /// The records with their vectors, the rows they stood in, and the rows whose text has none, each with the reason.
    async fn put(
        &self,
        records: &RecordBatch,
    ) -> Result<(RecordBatch, Vec<usize>, Vec<(usize, String)>), SourceError> {
        let texts = self.layout.texts(records).map_err(EmbedFault::Records)?;
        let wanted: Vec<&str> = texts.iter().flatten().map(String::as_str).collect();
        let found = if wanted.is_empty() { HashMap::new() } else { self.of(&wanted).await? };
        let (mut vectors, mut rows, mut refused) = (Vec::with_capacity(texts.len()), Vec::new(), Vec::new());
        for (row, text) in texts.iter().enumerate() {
            match text.as_ref().and_then(|text| found.get(&self.key(text))) {
                Some(Err(reason)) => {
                    refused.push((row, reason.clone()));
                    vectors.push(None);
                    continue;
                }
                Some(Ok(vector)) => vectors.push(Some(Arc::clone(vector))),
                None => vectors.push(None),
            }
            rows.push(row);
        }
        let records = self.layout.fill(records, &vectors, &rows).map_err(EmbedFault::Records)?;
        Ok((records, rows, refused))
    }

    /// The identities of records, as far as they have one.
    fn ids(&self, identifier: &Identifier, batch: &Batch) -> Result<Vec<Option<RecordId>>, EmbedFault> {
        let identified = identifier.identify(&batch.records, &batch.split, &batch.ordinals)?;
        let mut ids: Vec<Option<RecordId>> = identified.ids.into_iter().map(Some).collect();
        for without in identified.refused {
            if let Some(id) = ids.get_mut(without.row) {
                *id = None;
            }
        }
        Ok(ids)
    }

    async fn batch(&self, batch: &Batch) -> Result<Batch, SourceError> {
        let (records, rows, refused) = self.put(&batch.records).await?;
        let mut full = Batch { records, ..batch.clone() };
        let ids = match &self.identifier {
            Some(identifier) if !refused.is_empty() => self.ids(identifier, batch)?,
            _ => Vec::new(),
        };
        for (row, reason) in &refused {
            full.rejected.push(Rejected {
                ordinal: batch.ordinals.of(*row),
                code: codes::TEXT_REFUSED,
                reason: format!("the endpoint does not take its text: {reason}"),
                id: ids.get(*row).copied().flatten(),
                raw: Rejected::record(&batch.records, *row).map_err(EmbedFault::Records)?,
            });
        }
        if !refused.is_empty() {
            full.ordinals = batch.ordinals.pick(rows);
        }
        Ok(full)
    }
}

impl Source for Embedding {
    fn facts(&self) -> SourceFacts {
        self.source.facts()
    }

    fn schema(&self) -> SchemaRef {
        Arc::clone(&self.vectors.layout.schema)
    }

    fn splits(&self) -> Fut<'_, Vec<Split>, SourceError> {
        self.source.splits()
    }

    fn open(&self, split: &SplitId, after: Option<&Position>) -> Fut<'_, Box<dyn SplitReader>, SourceError> {
        let (opened, vectors) = (self.source.open(split, after), Arc::clone(&self.vectors));
        Box::pin(async move {
            let reader: Box<dyn SplitReader> =
                Box::new(Reader { reader: opened.await?, vectors, held: None, under_way: None });
            Ok(reader)
        })
    }

    fn arrangement(&self) -> Arrangement {
        self.source.arrangement()
    }

    fn numbers(&self) -> Numbers {
        self.source.numbers()
    }

    fn extent(&self) -> Extent {
        self.source.extent()
    }

    fn group(&self) -> Option<&dyn Group> {
        self.source.group()
    }

    fn lag<'a>(
        &'a self,
        split: &'a SplitId,
        after: Option<&'a Position>,
    ) -> Fut<'a, Option<u64>, SourceError> {
        self.source.lag(split, after)
    }

    fn suits_ledger_beside(&self) -> Result<(), SourceError> {
        self.source.suits_ledger_beside()
    }

    fn describe(&self, position: &Position) -> String {
        self.source.describe(position)
    }

    fn rejects_with(&self, code: Code) -> bool {
        code == codes::TEXT_REFUSED || self.source.rejects_with(code)
    }

    fn reread(&self, letter: &DeadLetter) -> Fut<'_, RecordBatch, SourceError> {
        let letter = letter.clone();
        Box::pin(async move {
            let unread = |reason: String| {
                SourceError::from(EmbedFault::Letter { place: letter.place.clone(), reason })
            };
            let records = match letter.code == codes::TEXT_REFUSED {
                true => Rejected::read_record(Arc::clone(&self.vectors.read), &letter.raw)
                    .ok_or_else(|| unread("it is no JSON object of the columns of today".to_owned()))?,
                false => self.source.reread(&letter).await?,
            };
            match self.vectors.put(&records).await? {
                (records, _, refused) if refused.is_empty() => Ok(records),
                (_, _, refused) => Err(unread(refused.into_iter().map(|(_, reason)| reason).collect())),
            }
        })
    }
}

struct Reader {
    reader: Box<dyn SplitReader>,
    vectors: Arc<Vectors>,
    /// What was read and has no vectors yet: a read that is dropped meanwhile must not have moved.
    held: Option<Batch>,
    /// Its vectors on their way. They come also when the read is dropped: what is being paid for is not asked for again.
    under_way: Option<JoinHandle<Result<Batch, SourceError>>>,
}

impl SplitReader for Reader {
    fn read(&mut self, limit: ReadLimit) -> Fut<'_, Option<Batch>, SourceError> {
        Box::pin(async move {
            if self.held.is_none() {
                let bytes = self.vectors.dimension.saturating_mul(size_of::<f32>());
                let fitting = limit.bytes_max.checked_div(bytes).unwrap_or(usize::MAX).max(1);
                let limit = ReadLimit { records_max: limit.records_max.min(fitting), ..limit };
                self.held = self.reader.read(limit).await?;
            }
            let Some(batch) = &self.held else { return Ok(None) };
            let under_way = match &mut self.under_way {
                Some(under_way) => under_way,
                None => {
                    let (vectors, batch) = (Arc::clone(&self.vectors), batch.clone());
                    self.under_way.insert(tokio::spawn(async move { vectors.batch(&batch).await }))
                }
            };
            let ended = under_way.await;
            self.under_way = None;
            let full = ended.map_err(|_| EmbedFault::Interrupted)??;
            self.held = None;
            Ok(Some(full))
        })
    }

    fn more(&mut self) -> Fut<'_, (), SourceError> {
        self.reader.more()
    }

    fn acknowledge(&mut self, through: Durable<Position>) -> Fut<'_, (), SourceError> {
        self.reader.acknowledge(through)
    }
}
