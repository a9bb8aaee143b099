//! Files as source.

mod boundary;
mod column;
mod csv;
pub(crate) mod fault;
mod feed;
mod fields;
mod grid;
mod infer;
mod json;
mod opening;
mod parquet;
mod position;
mod resume;
mod sample;
mod text;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use arrow::array::RecordBatch;
use arrow::datatypes::{Schema, SchemaRef};
use hapax_engine::Fut;
use hapax_engine::dead_letter::DeadLetter;
use hapax_engine::fault::SourceError;
use hapax_engine::source::{Source, Split, SplitReader};
use hapax_protocol::code::Code;
use hapax_protocol::guarantee::{Completeness, Order, Replay, Retention, Settle, SourceFacts};
use hapax_protocol::position::{Position, SplitId};
use tokio::sync::Mutex;

use self::column::{Columns, Rule, Writing};
use self::csv::Csv;
pub use self::fault::FilesFault;
use self::feed::Feed;
use self::fields::{Cut, Table};
use self::grid::{GRID_BYTES, Grid};
use self::infer::{Looks, Shape};
use self::json::Json;
use self::position::{Mark, Seen};
use self::sample::{Beginning, Guess, SAMPLE_BYTES, SAMPLE_RECORDS};
use self::text::Cutter;
use crate::client::{Location, Object, Place};
use crate::codes;
use crate::config::{Compression, Format, RECORD_BYTES_MAX, SourceConfig};

/// Records may not be allowed to be longer than this: 1 GiB.
const RECORD_BYTES_CEILING: u64 = 1 << 30;

/// Files as source: CSV, JSON Lines or Parquet, found by path, glob or URL.
///
/// A split is a file, a range of a large uncompressed one, or a row group. Its position is exact while what was
/// read of the file stays as it is; a file that only grew is read on.
pub struct Files {
    settings: Settings,
    location: Location,
    schema: SchemaRef,
    rules: Arc<[Rule]>,
    grid: Grid,
    stdin: Option<Stdin>,
    /// Each file as it was when its first split was opened.
    first_seen: std::sync::Mutex<HashMap<String, Seen>>,
}

#[derive(Debug, Clone)]
struct Settings {
    path: String,
    format: Format,
    compression: Option<Compression>,
    delimiter: u8,
    header: bool,
    nulls: Arc<[String]>,
    record_bytes_max: u64,
}

/// Standard input: a name that no other run has, and what was read of it to guess its columns.
struct Stdin {
    split: SplitId,
    left: Mutex<Option<(Feed, Beginning)>>,
}

impl Files {
    /// Finds the files and fixes the columns: the given ones, or guessed from the first mebibyte.
    pub async fn open(config: SourceConfig) -> Result<Self, SourceError> {
        Self::build(config, None).await.map_err(FilesFault::raise)
    }

    /// As [`Files::open`] with columns of any Arrow type, found in the files by name: to read back what a sink
    /// wrote.
    pub async fn with_schema(config: SourceConfig, schema: SchemaRef) -> Result<Self, SourceError> {
        Self::build(config, Some(schema)).await.map_err(FilesFault::raise)
    }

    /// With ranges of another width than 64 MiB, for tests. Positions do not carry over between widths.
    #[doc(hidden)]
    #[must_use]
    pub fn with_grid_bytes(mut self, bytes: u64) -> Self {
        self.grid = Grid::new(bytes);
        self
    }

    async fn build(config: SourceConfig, schema: Option<SchemaRef>) -> Result<Self, FilesFault> {
        let location = Location::parse(&config.path)?;
        let found = location.list().await?;
        let is_stdin = matches!(location, Location::Stdin);
        if found.is_empty() && !is_stdin {
            return Err(FilesFault::NoFile { path: crate::client::redact(&config.path) });
        }
        let settings = Settings::new(&config, &found)?;
        let mut stdin = None;
        if is_stdin {
            let feed = Feed::stdin(settings.compression.unwrap_or(Compression::None))?;
            let beginning = Beginning { name: "standard input".to_owned(), ..Beginning::default() };
            stdin = Some((feed, beginning));
        }
        let guess = match (&schema, &config.schema) {
            (Some(schema), _) => {
                let mut guess = Guess::default();
                for field in schema.fields() {
                    guess.push(field.name(), field.data_type().clone(), Rule::DECLARED);
                }
                guess
            }
            (None, Some(given)) if settings.format != Format::Csv => Guess::given(given),
            (None, given) => settings.guess(&found, given.as_ref(), stdin.as_mut()).await?,
        };
        let stdin = stdin.map(|left| Stdin { split: stdin_split(), left: Mutex::new(Some(left)) });
        let schema = schema.unwrap_or_else(|| Arc::new(Schema::new(guess.fields)));
        let (rules, grid) = (guess.rules.into(), Grid::new(GRID_BYTES));
        let first_seen = std::sync::Mutex::default();
        Ok(Self { settings, location, schema, rules, grid, stdin, first_seen })
    }

    /// Whether a file is cut into ranges. Quotes in a remote CSV file are only known by reading all of it.
    fn gridded(&self, object: &Object) -> bool {
        let plain = self.settings.compression_of(&object.name) == Compression::None;
        match self.settings.format {
            Format::Csv => plain && matches!(object.place, Place::Local(_)),
            Format::Jsonl => plain,
            Format::Parquet => false,
        }
    }

    async fn list(&self) -> Result<Vec<Split>, FilesFault> {
        if let Some(stdin) = &self.stdin {
            return Ok(vec![Split { id: stdin.split.clone(), source_bytes: None }]);
        }
        let mut splits = Vec::new();
        let split = |object: &Object, part: u64, bytes: u64| Split {
            id: SplitId::new(format!("{}#{part}", object.name)),
            source_bytes: Some(bytes),
        };
        for object in self.location.list().await? {
            if self.settings.format == Format::Parquet {
                let (metadata, _) = parquet::footer(&object).await?;
                let groups = metadata.metadata().row_groups().iter();
                let sizes = groups.map(|group| u64::try_from(group.compressed_size()).unwrap_or(0));
                splits.extend((0..).zip(sizes).map(|(group, bytes)| split(&object, group, bytes)));
            } else if self.gridded(&object) {
                let parts = 0..self.grid.count(object.size);
                splits.extend(parts.map(|part| split(&object, part, self.grid.length(object.size, part))));
            } else {
                splits.push(split(&object, 0, object.size));
            }
        }
        Ok(splits)
    }

    fn columns(&self, order: Vec<usize>) -> Columns {
        let writing = match self.settings.format {
            Format::Csv => Writing::Csv { nulls: self.settings.nulls.clone() },
            _ => Writing::Json,
        };
        Columns { schema: self.schema.clone(), rules: self.rules.clone(), order: order.into(), writing }
    }

    fn cutter(&self) -> Cutter {
        let fields = self.schema.fields();
        match self.settings.format {
            Format::Csv => Cutter::Csv(Csv::new(self.settings.delimiter, Some(fields.len()))),
            _ => Cutter::Json(Json::new(fields.iter().map(|field| field.name().clone()))),
        }
    }

    async fn read_again(&self, letter: &DeadLetter) -> Result<RecordBatch, FilesFault> {
        let unfit = |reason: &str| FilesFault::StillUnfit { reason: reason.to_owned() };
        if self.settings.format == Format::Parquet {
            return Err(unfit("records of Parquet files are not read again from their dead letters"));
        }
        if letter.code == codes::UTF8 || letter.code == codes::TOO_LONG {
            return Err(unfit("the dead letter does not hold the record as it was"));
        }
        let order = match self.part(&letter.place.split).await {
            Ok((object, _)) => self.order(&object).await?,
            Err(_) => (0..self.schema.fields().len()).collect(),
        };
        let mut table = Table::default();
        let raw = letter.raw.as_bytes();
        self.cutter().cut(raw, Cut::ALL, &mut table);
        let decoded = text::decode(&self.columns(order), &mut table, raw, letter.place.ordinal);
        let (records, _, rejected) = decoded.map_err(|error| unfit(&error.to_string()))?;
        match (rejected.first(), records.num_rows()) {
            (Some(rejected), _) => Err(unfit(&rejected.reason)),
            (None, 1) => Ok(records),
            (None, _) => Err(unfit("the dead letter does not hold exactly one record")),
        }
    }
}

impl Source for Files {
    fn facts(&self) -> SourceFacts {
        let is_stdin = self.stdin.is_some();
        SourceFacts {
            completeness: Completeness::Complete,
            replay: if is_stdin { Replay::Unidentified } else { Replay::Exact },
            retention: Retention::Unbounded,
            order: Order::PerKey,
            settle: if is_stdin { Settle::None } else { Settle::Seek },
            // What was read of a file is looked at again at every start.
            condition: None,
        }
    }

    fn schema(&self) -> SchemaRef {
        self.schema.clone()
    }

    fn splits(&self) -> Fut<'_, Vec<Split>, SourceError> {
        Box::pin(async { self.list().await.map_err(FilesFault::raise) })
    }

    fn open(&self, split: &SplitId, after: Option<&Position>) -> Fut<'_, Box<dyn SplitReader>, SourceError> {
        let (split, after) = (split.clone(), after.cloned());
        Box::pin(async move { self.open_split(split, after).await.map_err(FilesFault::raise) })
    }

    fn describe(&self, position: &Position) -> String {
        match Mark::decode(position) {
            None => format!("{position:?}"),
            Some(mark) if self.settings.format == Format::Parquet => format!("row {}", grouped(mark.offset)),
            Some(mark) => format!("byte {}, record {}", grouped(mark.offset), grouped(mark.ordinal)),
        }
    }

    fn rejects_with(&self, code: Code) -> bool {
        (220..250).contains(&code.0)
    }

    fn reread(&self, letter: &DeadLetter) -> Fut<'_, RecordBatch, SourceError> {
        let letter = letter.clone();
        Box::pin(async move { self.read_again(&letter).await.map_err(FilesFault::raise) })
    }
}

impl Settings {
    fn new(config: &SourceConfig, found: &[Object]) -> Result<Self, FilesFault> {
        let path = crate::client::redact(&config.path);
        let wrong = |what: &str| FilesFault::Config { path: path.clone(), what: what.to_owned() };
        let name = found.first().map(|object| object.name.as_str()).unwrap_or_default();
        let format = config.format.or_else(|| Format::of_name(&path)).or_else(|| Format::of_name(name));
        let format = format.ok_or_else(|| wrong("its name does not tell the format; set `format`"))?;
        let default = if path.to_ascii_lowercase().contains(".tsv") { '\t' } else { ',' };
        let delimiter = config.delimiter.unwrap_or(default);
        let delimiter = u8::try_from(delimiter)
            .ok()
            .filter(|byte| byte.is_ascii() && !matches!(byte, 0 | b'"' | b'\n' | b'\r'))
            .ok_or_else(|| {
                wrong("`delimiter` is one ASCII character, and neither a quote nor a line ending")
            })?;
        let only_csv = [
            ("delimiter", config.delimiter.is_some()),
            ("header", config.header.is_some()),
            ("null_values", config.null_values.is_some()),
        ];
        if let Some((key, _)) = only_csv.iter().find(|(_, set)| *set && format != Format::Csv) {
            return Err(wrong(&format!("`{key}` is for CSV, the format is {format}")));
        }
        if format == Format::Parquet && config.compression.is_some_and(|c| c != Compression::None) {
            return Err(wrong("Parquet files compress their pages themselves; leave out `compression`"));
        }
        if format == Format::Parquet && config.path == "-" {
            return Err(wrong("Parquet cannot be read from standard input"));
        }
        let record_bytes_max = config.record_bytes_max.unwrap_or(RECORD_BYTES_MAX);
        if record_bytes_max == 0 || record_bytes_max > RECORD_BYTES_CEILING {
            return Err(wrong("`record_bytes_max` is between 1 and 1073741824"));
        }
        let nulls = config.null_values.clone().unwrap_or_else(|| vec![String::new()]).into();
        let header = config.header.unwrap_or(true);
        Ok(Self { path, format, compression: config.compression, delimiter, header, nulls, record_bytes_max })
    }

    fn compression_of(&self, name: &str) -> Compression {
        self.compression.unwrap_or_else(|| Compression::of_name(name))
    }

    fn nothing(&self, what: &'static str) -> FilesFault {
        FilesFault::NoSample { name: self.path.clone(), what }
    }

    async fn guess(
        &self,
        found: &[Object],
        given: Option<&crate::config::Columns>,
        mut stdin: Option<&mut (Feed, Beginning)>,
    ) -> Result<Guess, FilesFault> {
        if self.format == Format::Parquet {
            let first = found.first().ok_or_else(|| self.nothing("no file"))?;
            let (metadata, _) = parquet::footer(first).await?;
            let mut guess = Guess::default();
            for field in parquet::schema(&metadata).fields() {
                guess.push(field.name(), field.data_type().clone(), Rule::DECLARED);
            }
            return Ok(guess);
        }
        let mut gathered = Gathered::default();
        if let Some((feed, beginning)) = stdin.as_mut() {
            self.gather(feed, beginning, given, &mut gathered).await?;
        }
        for object in found {
            if gathered.bytes >= SAMPLE_BYTES || gathered.records >= SAMPLE_RECORDS || gathered.enough {
                break;
            }
            let mut feed = Feed::open(object, self.compression_of(&object.name), 0)?;
            let mut beginning = Beginning { name: object.name.clone(), ..Beginning::default() };
            self.gather(&mut feed, &mut beginning, given, &mut gathered).await?;
        }
        match self.format {
            Format::Csv => self.csv_guess(gathered, given),
            _ => self.json_guess(&gathered.shape),
        }
    }

    /// Adds what the beginning of one file looks like.
    async fn gather(
        &self,
        feed: &mut Feed,
        beginning: &mut Beginning,
        given: Option<&crate::config::Columns>,
        gathered: &mut Gathered,
    ) -> Result<(), FilesFault> {
        let (bytes, records) = (SAMPLE_BYTES - gathered.bytes, SAMPLE_RECORDS - gathered.records);
        if self.format != Format::Csv {
            beginning.grow(feed, bytes).await?;
            gathered.records += beginning.look_json(&mut gathered.shape, records);
        } else {
            let way = (self.delimiter, self.header);
            let Some((names, start)) = beginning.header(feed, way, self.record_bytes_max).await? else {
                return Ok(());
            };
            if gathered.names.is_empty() {
                gathered.looks = vec![Looks::default(); names.len()];
                gathered.names = names;
            } else if gathered.names != names {
                return Ok(());
            }
            let all_given =
                |given: &crate::config::Columns| !self.header || given.0.len() >= gathered.names.len();
            gathered.enough = given.is_some_and(all_given);
            if !gathered.enough {
                beginning.grow(feed, bytes).await?;
                gathered.records +=
                    beginning.look_csv(start, self.delimiter, &self.nulls, &mut gathered.looks, records);
            }
        }
        gathered.bytes = gathered.bytes.saturating_add(beginning.bytes.len()).min(SAMPLE_BYTES);
        Ok(())
    }

    fn csv_guess(
        &self,
        gathered: Gathered,
        given: Option<&crate::config::Columns>,
    ) -> Result<Guess, FilesFault> {
        let Some(given) = given else {
            if gathered.names.is_empty() {
                return Err(self.nothing("the files are empty"));
            }
            let mut guess = Guess::default();
            for (name, looks) in gathered.names.iter().zip(gathered.looks) {
                guess.push(name, looks.data_type(), Rule::INFERRED);
            }
            return Ok(guess);
        };
        if gathered.names.is_empty() || !self.header {
            return Ok(Guess::given(given));
        }
        let strange: Vec<&str> = given
            .0
            .iter()
            .map(|(name, _)| name.as_str())
            .filter(|name| !gathered.names.iter().any(|n| n == name))
            .collect();
        if !strange.is_empty() {
            return Err(columns_differ(&self.path, &strange, &[]));
        }
        if given.0.len() == gathered.names.len() {
            return Ok(Guess::given(given));
        }
        let mut guess = Guess::default();
        for (name, looks) in gathered.names.iter().zip(gathered.looks) {
            match given.0.iter().find(|(known, _)| known == name) {
                Some((_, data_type)) => guess.push(name, data_type.clone(), Rule::DECLARED),
                None => guess.push(name, looks.data_type(), Rule::INFERRED),
            }
        }
        Ok(guess)
    }

    fn json_guess(&self, shape: &Shape) -> Result<Guess, FilesFault> {
        let Shape::Object(fields) = shape else { return Err(self.nothing("no line holds a JSON object")) };
        if fields.is_empty() {
            return Err(self.nothing("the JSON objects have no fields"));
        }
        let mut guess = Guess::default();
        for (name, shape) in fields {
            guess.push(name, shape.data_type(), shape.rule());
        }
        Ok(guess)
    }
}

/// What the sample looked like so far.
#[derive(Default)]
struct Gathered {
    names: Vec<String>,
    looks: Vec<Looks>,
    shape: Shape,
    bytes: usize,
    records: usize,
    /// Everything was given: nothing is to be guessed.
    enough: bool,
}

fn columns_differ(name: &str, missing: &[&str], extra: &[&str]) -> FilesFault {
    let mut what = Vec::new();
    if !missing.is_empty() {
        what.push(format!("it has no {}", missing.join(", ")));
    }
    if !extra.is_empty() {
        what.push(format!("the schema has no {}", extra.join(", ")));
    }
    FilesFault::Columns { name: name.to_owned(), what: what.join("; ") }
}

/// A name for standard input that no other run has: what a position says of an earlier input means nothing.
fn stdin_split() -> SplitId {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    SplitId::new(format!("stdin@{}-{}", since.as_millis(), std::process::id()))
}

/// A number with its thousands set apart.
fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}
