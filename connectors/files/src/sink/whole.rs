//! One file out of many parts.
//!
//! Parts are published into the hidden state directory. At the end of a run they are appended, without
//! decoding, behind what the file holds, into a new file that takes its place: a generation. Which
//! generation counts is decided by a [`Chain`], as for splits.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, Seek, SeekFrom};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use arrow::datatypes::SchemaRef;
use hapax_engine::crash::{self, Point};
use hapax_engine::sink::CommitId;
use hapax_protocol::lease::FencingToken;
use hapax_protocol::position::Epoch;
use parquet::column::writer::ColumnCloseResult;
use parquet::file::metadata::{PageIndexPolicy, ParquetMetaDataReader};
use parquet::file::writer::SerializedFileWriter;
use serde::{Deserialize, Serialize};

use crate::sink::chain::{Appended, Chain};
use crate::sink::disk::{self, Exclusive};
use crate::sink::encode::{self, Encoder};
use crate::sink::fault::{self, Failure, at};
use crate::sink::names::{self, HiddenPart};
use crate::sink::state::{Kind, Roll, SplitEntry, State};
use crate::sink_config::{SinkFormat, Target};

/// One state of the whole file, or the fence a new holder puts behind the last one.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
struct Generation {
    token: u64,
    /// The file that takes the destination's name; while it is there this generation is not complete.
    temp: Option<String>,
    /// What the destination was before; `None` if it was not there.
    base: Option<Stamp>,
    /// What the destination is; `None` before the first generation.
    holds: Option<Stamp>,
    /// The epoch of each split through which the destination holds it.
    through: BTreeMap<String, Epoch>,
}

/// What tells whether somebody else wrote to a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
struct Stamp {
    bytes: u64,
    modified_s: i64,
    modified_ns: i64,
}

impl Stamp {
    fn of(path: &Path) -> Result<Option<Self>, Failure> {
        match fs::metadata(path) {
            Ok(found) => Ok(Some(Self {
                bytes: found.len(),
                modified_s: found.mtime(),
                modified_ns: found.mtime_nsec(),
            })),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(at("look at", path)(error)),
        }
    }
}

/// A destination that is one file.
pub(crate) struct Whole<'a> {
    pub(crate) state: &'a State,
    pub(crate) target: &'a Target,
    pub(crate) path: &'a Path,
}

impl Whole<'_> {
    fn chain(&self) -> Chain {
        Chain::new(self.state.root.join("generations"))
    }

    fn temp_of(&self, generation: &Generation) -> Option<PathBuf> {
        generation.temp.as_ref().map(|temp| self.state.temps().join(temp)).filter(|temp| temp.exists())
    }

    /// Refuses a destination that is not what this pipeline published. Changes nothing.
    pub(crate) fn check(&self) -> Result<(), Failure> {
        let generation = self.chain().last::<Generation>()?.map(|(_, entry)| entry).unwrap_or_default();
        let found = Stamp::of(self.path)?;
        let pending = self.temp_of(&generation).is_some();
        if found == generation.holds || (pending && found == generation.base) {
            return Ok(());
        }
        Err(self.changed(&generation, found))
    }

    fn changed(&self, generation: &Generation, found: Option<Stamp>) -> Failure {
        let path = self.path.to_owned();
        let how = match (generation.holds, found) {
            (None, _) => return Failure::DestinationTaken { path },
            (Some(_), None) => "it is gone".to_owned(),
            (Some(had), Some(has)) if had.bytes != has.bytes => {
                format!("it had {} bytes and has {}", had.bytes, has.bytes)
            }
            (Some(_), Some(_)) => "it was written to".to_owned(),
        };
        Failure::DestinationChanged { path, how }
    }

    /// The commits that a decided generation holds, while it has not the destination's name.
    pub(crate) fn unfinished(&self) -> Result<Vec<CommitId>, Failure> {
        let Some((_, last)) = self.chain().last::<Generation>()? else { return Ok(Vec::new()) };
        if self.temp_of(&last).is_none() {
            return Ok(Vec::new());
        }
        let splits = self.state.splits()?.into_iter();
        Ok(splits
            .filter(|(key, _, _)| last.through.contains_key(key))
            .map(|(_, _, entry)| CommitId { split: entry.split, epoch: entry.epoch })
            .collect())
    }

    /// Whether parts are published, or about to be, that the file does not hold yet. Changes nothing.
    pub(crate) fn is_waiting(&self) -> Result<bool, Failure> {
        let generation = self.chain().last::<Generation>()?.map(|(_, entry)| entry).unwrap_or_default();
        if self.temp_of(&generation).is_some() {
            return Ok(true);
        }
        let is_held =
            |key: &String, epoch: Epoch| generation.through.get(key).is_some_and(|held| epoch <= *held);
        let parts = disk::names(&self.state.parts)?;
        let mut parts = parts.iter().filter_map(|name| HiddenPart::parse(name));
        if parts.any(|part| !is_held(&part.key, part.epoch)) {
            return Ok(true);
        }
        // Decided, and not renamed into its place yet.
        let splits = self.state.splits()?;
        let has_records = |entry: &SplitEntry| entry.files.iter().any(|file| file.kind == Kind::Records);
        Ok(splits.iter().any(|(key, _, entry)| has_records(entry) && !is_held(key, entry.epoch)))
    }

    /// Completes what an earlier holder decided and keeps it from deciding more.
    pub(crate) fn fence(&self, token: FencingToken) -> Result<(), Failure> {
        loop {
            let (number, last) = self.chain().last::<Generation>()?.unwrap_or_default();
            if last.token > token.get() {
                return Err(self.state.fenced(FencingToken::new(last.token)));
            }
            if last.token != token.get() && last.temp.is_some() {
                self.chain().settle()?;
            }
            self.complete(&last, Roll::Recovery)?;
            if last.token == token.get() {
                return Ok(());
            }
            let fence = Generation { token: token.get(), temp: None, base: last.holds, ..last };
            if self.append(number, &fence, token)? {
                return Ok(());
            }
        }
    }

    /// Appends behind `number`; `false` if another writer did.
    fn append(&self, number: u64, entry: &Generation, token: FencingToken) -> Result<bool, Failure> {
        let temp = self.state.temps().join(self.state.temp_name(token, "generation"));
        match self.chain().append(number.saturating_add(1), entry, &temp)? {
            Appended::Done => Ok(true),
            Appended::Taken | Appended::Overtaken => Ok(false),
            Appended::Unsure(failure) => Err(failure),
        }
    }

    /// Gives a decided generation the destination's name and removes the parts it holds.
    fn complete(&self, generation: &Generation, roll: Roll) -> Result<(), Failure> {
        let temp = self.temp_of(generation);
        if let Some(temp) = &temp {
            if roll == Roll::Recovery {
                crash::point(Point::Recovery);
            }
            self.replace(temp, generation)?;
        }
        if generation.temp.is_some() {
            // Also when the name is given: who gave it may have been killed before it was durable, and what the
            // file holds is removed below.
            disk::sync_directory(disk::parent_of(self.path))?;
        }
        if let Some(temp) = temp {
            disk::remove_if_there(&temp)?;
            crash::point(Point::FinishAfter);
        }
        let mut removed = false;
        for name in disk::names(&self.state.parts)? {
            let held = HiddenPart::parse(&name)
                .and_then(|part| Some(part.epoch <= *generation.through.get(&part.key)?));
            if held == Some(true) {
                disk::remove_if_there(&self.state.parts.join(name))?;
                removed = true;
            }
        }
        if removed { disk::sync_directory(&self.state.parts) } else { Ok(()) }
    }

    /// Gives the file its name. The former one may stay until the new one is durable.
    fn replace(&self, temp: &Path, generation: &Generation) -> Result<(), Failure> {
        if disk::same_file(temp, self.path) {
            return Ok(());
        }
        let found = Stamp::of(self.path)?;
        if generation.base.is_none() {
            // Never over a file that appeared meanwhile.
            return match disk::name_exclusively(temp, self.path)? {
                Exclusive::Taken | Exclusive::Gone => Ok(()),
                Exclusive::TakenBefore => Err(Failure::DestinationTaken { path: self.path.to_owned() }),
            };
        }
        if found != generation.base {
            return Err(self.changed(generation, found));
        }
        match disk::rename(temp, self.path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(at("publish", self.path)(error)),
            _ => Ok(()),
        }
    }

    /// Publishes everything that was committed since the last generation.
    pub(crate) fn finish(&self, token: FencingToken, schema: Option<SchemaRef>) -> Result<(), Failure> {
        let assembled = self.state.watch(self.assemble_and_publish(token, schema));
        // A later holder may have taken the parts away in the middle: that is what happened then.
        assembled.map_err(|failure| self.state.check_lease(token).err().unwrap_or(failure))
    }

    fn assemble_and_publish(&self, token: FencingToken, schema: Option<SchemaRef>) -> Result<(), Failure> {
        self.state.whole()?;
        self.state.check_lease(token)?;
        let splits = self.state.splits()?;
        for (_, _, entry) in &splits {
            self.state.roll_forward(entry, Roll::Recovery)?;
        }
        let (number, last) = self.chain().last::<Generation>()?.unwrap_or_default();
        if last.token != token.get() {
            // Only behind its own fence may a holder append: a later one sweeps away what it assembles.
            return Err(self.state.fenced(FencingToken::new(last.token)));
        }
        self.complete(&last, Roll::Recovery)?;
        let parts = self.parts(&splits)?;
        if last.holds.is_some() && parts.is_empty() {
            return Ok(());
        }
        self.check()?;
        let temp = self.state.temp_name(token, "whole");
        let path = self.state.temps().join(&temp);
        let through = splits.iter().map(|(key, _, entry)| (key.clone(), entry.epoch)).collect();
        let assembled = self.assemble(&path, last.holds.is_some(), &parts, schema);
        if let Err(failure) = assembled {
            let _ = disk::remove_if_there(&path);
            return Err(failure);
        }
        disk::sync_directory(&self.state.temps())?;
        let holds = Stamp::of(&path)?;
        crash::point(Point::FinishStaged);
        let next = Generation { token: token.get(), temp: Some(temp), base: last.holds, holds, through };
        // From here on a manifest may name the file: it is not removed whatever happens.
        if !self.append(number, &next, token)? {
            return Err(self.state.fenced(FencingToken::new(self.state.leases().last_number()?)));
        }
        crash::point(Point::FinishStaged);
        self.complete(&next, Roll::Commit)?;
        self.chain().prune();
        Ok(())
    }

    /// The parts that wait, in the order of splits and epochs.
    fn parts(&self, splits: &[(String, u64, SplitEntry)]) -> Result<Vec<HiddenPart>, Failure> {
        let waiting: Vec<HiddenPart> =
            disk::names(&self.state.parts)?.iter().filter_map(|name| HiddenPart::parse(name)).collect();
        let mut order: Vec<_> = splits.iter().collect();
        order.sort_by(|one, other| names::compare(&one.2.split, &other.2.split));
        let mut parts = Vec::with_capacity(waiting.len());
        for (key, _, entry) in order {
            // A part of a later commit than was looked at is left for the next generation.
            let counts = |part: &&HiddenPart| part.key == *key && part.epoch <= entry.epoch;
            let mut of_split: Vec<&HiddenPart> = waiting.iter().filter(counts).collect();
            of_split.sort_by_key(|part| part.epoch);
            parts.extend(of_split.into_iter().cloned());
        }
        Ok(parts)
    }

    fn assemble(
        &self,
        path: &Path,
        grows: bool,
        parts: &[HiddenPart],
        schema: Option<SchemaRef>,
    ) -> Result<(), Failure> {
        if let ([only], false) = (parts, grows)
            && fs::hard_link(self.state.parts.join(only.name()), path).is_ok()
        {
            return Ok(());
        }
        let base = grows.then(|| (self.path.to_owned(), 0));
        let parts = parts.iter().map(|part| (self.state.parts.join(part.name()), part.header_bytes));
        let mut pieces: Vec<(PathBuf, u64)> = base.into_iter().chain(parts).collect();
        if pieces.is_empty() {
            return self.write_empty(path, schema);
        }
        if let Some(first) = pieces.first_mut() {
            first.1 = 0;
        }
        match self.target.format {
            SinkFormat::Parquet => join_parquet(path, &pieces, self.target),
            SinkFormat::Csv | SinkFormat::Jsonl => join_text(path, &pieces),
        }
    }

    fn write_empty(&self, path: &Path, schema: Option<SchemaRef>) -> Result<(), Failure> {
        let schema = schema.unwrap_or_else(|| arrow::datatypes::Schema::empty().into());
        let file = File::create(path).map_err(at("create", path))?;
        let (file, _) = encode::write_header(file, path, self.target, &schema)?;
        let file = match self.target.format {
            SinkFormat::Csv if self.target.header => file,
            _ => Encoder::new(file, path, self.target, &schema)?.finish(path)?,
        };
        disk::sync_file(&file, path)
    }
}

/// Appends text files, each from the given byte on: the kernel copies, or shares blocks where it can.
fn join_text(path: &Path, pieces: &[(PathBuf, u64)]) -> Result<(), Failure> {
    let mut out = File::create(path).map_err(at("create", path))?;
    for (piece, from) in pieces {
        let mut input = File::open(piece).map_err(at("open", piece))?;
        input.seek(SeekFrom::Start(*from)).map_err(at("read", piece))?;
        io::copy(&mut input, &mut out).map_err(at("write", path))?;
    }
    disk::sync_file(&out, path)
}

/// Appends the row groups of Parquet files as they are, under one footer.
fn join_parquet(path: &Path, pieces: &[(PathBuf, u64)], target: &Target) -> Result<(), Failure> {
    let wrong = |error| fault::parquet(path, error);
    let out = File::create(path).map_err(at("create", path))?;
    let mut writer: Option<SerializedFileWriter<File>> = None;
    let mut out = Some(out);
    for (piece, _) in pieces {
        let input = File::open(piece).map_err(at("open", piece))?;
        let metadata = ParquetMetaDataReader::new()
            .with_page_index_policy(PageIndexPolicy::Optional)
            .parse_and_finish(&input)
            .map_err(|error| fault::parquet(piece, error))?;
        if let Some(out) = out.take() {
            let mut properties = encode::properties(target.compression).into_builder();
            let pairs = metadata.file_metadata().key_value_metadata().cloned();
            properties = properties.set_key_value_metadata(pairs);
            let root = metadata.file_metadata().schema_descr().root_schema_ptr();
            writer = Some(SerializedFileWriter::new(out, root, properties.build().into()).map_err(wrong)?);
        }
        let Some(writer) = &mut writer else { continue };
        for (index, group) in metadata.row_groups().iter().enumerate() {
            let mut joined = writer.next_row_group().map_err(wrong)?;
            for (number, column) in group.columns().iter().enumerate() {
                let offsets = metadata.offset_index().and_then(|all| all.get(index)?.get(number)).cloned();
                let close = ColumnCloseResult {
                    bytes_written: u64::try_from(column.compressed_size()).unwrap_or(0),
                    rows_written: u64::try_from(group.num_rows()).unwrap_or(0),
                    metadata: column.clone(),
                    bloom_filter: None,
                    column_index: None,
                    offset_index: offsets,
                };
                joined.append_column(&input, close).map_err(wrong)?;
            }
            joined.close().map_err(wrong)?;
        }
    }
    match writer {
        Some(writer) => {
            let file = writer.into_inner().map_err(wrong)?;
            disk::sync_file(&file, path)
        }
        None => Ok(()),
    }
}
