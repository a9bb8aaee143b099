//! From a file to a pipeline that can run: opened, checked, and judged by the calculus.

mod definition;
mod opened;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use arrow::datatypes::SchemaRef;
use hapax_config::{File, Mistake, Pipeline, Secret, Secrets, Section, Spanned, closest};
use hapax_engine::fault::{Fault, SinkError, SinkErrorKind, SourceError};
use hapax_engine::identify::{Identifier, IdentifierError};
use hapax_engine::ledger::Ledger;
use hapax_engine::run;
use hapax_engine::sink::Sink;
use hapax_engine::source::Source;
use hapax_engine::transform::Transform;
use hapax_protocol::guarantee::{Effect, Facts, IdentityKind, LedgerFacts, Retention, derive};
use hapax_protocol::identity::{Duplicates, Identity};
use hapax_protocol::lease::Applicant;
use hapax_transform::{Select, SelectError};

use crate::environment::Process;
use crate::exit::{Exit, Failure, Report};
use crate::output::Output;
use crate::registry::{self, OpenError};
use crate::usage;
use definition::definition;
pub use opened::Opened;

/// A pipeline whose file has no mistakes.
#[derive(Clone)]
pub struct Loaded {
    /// The file.
    pub file: File,
    /// What it says.
    pub pipeline: Pipeline,
    /// The database that keeps positions for a destination that keeps none.
    keeper: PathBuf,
    /// Where a drill keeps the ledger that stands beside the real destination.
    scratch_ledger: Option<PathBuf>,
}

impl Loaded {
    /// Reads a pipeline file.
    pub fn from_path(path: &str, output: &Output) -> Result<Self, Failure> {
        let bytes = std::fs::read(path).map_err(|error| {
            Report::new(
                hapax_config::codes::FILE,
                Exit::BadCommand,
                format!("the pipeline file {path} cannot be read: {error}"),
                "Check the path, or write one with `hapax init --out FILE`.",
            )
        })?;
        let text = String::from_utf8(bytes).map_err(|error| {
            Report::new(
                hapax_config::codes::FILE,
                Exit::BadCommand,
                format!("the pipeline file {path} is not UTF-8 text: {error}"),
                "Save it as UTF-8.",
            )
        })?;
        Self::from_text(File::new(path, text), output)
    }

    /// Reads the text of a pipeline file.
    pub fn from_text(file: File, output: &Output) -> Result<Self, Failure> {
        let hide = |mut secrets: Secrets, more: Vec<&str>| {
            more.into_iter().for_each(|secret| secrets.add(Secret::new(secret), "***"));
            output.keep_secret(secrets);
        };
        // A mistake shows the lines around it, before anybody knows what they mean.
        let written: Vec<&str> = registry::secrets::written_in(file.text()).collect();
        hide(Secrets::default(), written.clone());
        let refused = |mistakes: Vec<Mistake>| {
            let secret = mistakes.iter().filter(|mistake| mistake.code == hapax_config::codes::SECRET);
            let covered = file.covered(&secret.map(|mistake| mistake.span).collect::<Vec<_>>());
            Failure::Mistakes { file: Box::new(covered), mistakes }
        };
        let pipeline = hapax_config::read(&file, &registry::schema(), &Process).map_err(refused)?;
        let beside = [pipeline.ledger.as_ref(), pipeline.embed.as_ref()];
        let sections = [Some(&pipeline.source), Some(&pipeline.sink)].into_iter().chain(beside).flatten();
        let held: Vec<&str> = sections.flat_map(registry::secrets::passwords).collect();
        hide(pipeline.secrets.clone(), [written, held.clone()].concat());
        let mistakes = registry::check(&pipeline);
        if !mistakes.is_empty() {
            return Err(refused(mistakes));
        }
        hide(pipeline.secrets.clone(), held);
        let keeper = keeper(&file, &pipeline);
        Ok(Self { file, pipeline, keeper, scratch_ledger: None })
    }

    /// One mistake in this file.
    fn mistake(&self, mistake: Mistake) -> Failure {
        Failure::Mistakes { file: Box::new(self.file.clone()), mistakes: vec![mistake] }
    }

    fn open_error(&self, section: &Section, error: OpenError) -> Failure {
        let fault = match &error {
            OpenError::Mistake(mistake) => return self.mistake(mistake.clone()),
            OpenError::Source(error) => error.fault.as_ref(),
            OpenError::Sink(error) => error.fault.as_ref(),
        };
        match registry::blamed_key(fault.code(), section) {
            Some(key) => {
                let span = section.place(key).unwrap_or(section.span);
                self.mistake(Mistake::new(fault.code(), span, fault.to_string()).helped(fault.help()))
            }
            None => match error {
                OpenError::Source(error) => source_failure(&error),
                OpenError::Sink(error) => sink_failure(&error),
                OpenError::Mistake(mistake) => self.mistake(mistake),
            },
        }
    }

    /// Opens the source alone.
    pub async fn source(&self) -> Result<Arc<dyn Source>, Failure> {
        let section = &self.pipeline.source;
        let source = registry::open_source(section).await.map_err(|error| self.open_error(section, error))?;
        self.with_vectors(source)
    }

    /// The source with the vectors that are computed on the way, if the pipeline has such. Asks nobody yet.
    fn with_vectors(&self, source: Arc<dyn Source>) -> Result<Arc<dyn Source>, Failure> {
        let Some(section) = &self.pipeline.embed else { return Ok(source) };
        // What a transform makes of the columns is not known here.
        let identity = Some(&self.pipeline.identity.value).filter(|_| self.pipeline.transform.is_none());
        let opened = registry::embed::over(source, section, identity, &self.vectors(section));
        opened.map_err(|error| self.open_error(section, error))
    }

    /// The file in which the vectors of this section are kept: as it says, or beside the pipeline file.
    pub fn vectors(&self, section: &Section) -> PathBuf {
        let usual = beside(&self.file, &format!("{}.vectors.db", self.pipeline.name));
        section.text("cache").map_or(usual, PathBuf::from)
    }

    /// Opens the sink alone. Nothing is created.
    pub async fn sink(&self) -> Result<Sink, Failure> {
        let section = &self.pipeline.sink;
        registry::open_sink(section, &self.pipeline.name, &self.keeper)
            .await
            .map_err(|error| self.open_error(section, error))
    }

    /// Opens both ends together, where they may share the transactions of one database. Nothing is created.
    async fn joint(&self) -> Result<Option<(Arc<dyn Source>, Sink)>, Failure> {
        let (source, sink) = (&self.pipeline.source, &self.pipeline.sink);
        registry::open_joint(source, sink, &self.pipeline.name).await.map_err(|error| {
            let section = if matches!(error, OpenError::Sink(_)) { sink } else { source };
            self.open_error(section, error)
        })
    }

    /// The same pipeline into a scratch destination inside `place`. The real one cannot be reached from it.
    pub fn on_scratch(mut self, place: &Path) -> Result<Self, Failure> {
        let sink = registry::scratch::section(&self.pipeline.sink, place);
        self.pipeline.sink = sink.map_err(|error| self.open_error(&self.pipeline.sink, error))?;
        self.pipeline.source = registry::scratch::source(&self.pipeline.source);
        // A drill ends with what there is.
        self.pipeline.follow = false;
        self.keeper = place.join("keeper.db");
        self.scratch_ledger = Some(place.join("ledger"));
        Ok(self)
    }

    /// Makes what the scratch destination in `place` stands in.
    pub async fn make_scratch(&self, place: &Path) -> Result<(), Failure> {
        let sink = &self.pipeline.sink;
        registry::scratch::make(sink, place).await.map_err(|error| self.open_error(sink, error))
    }

    /// Removes what was made for the scratch destination in `place`.
    pub async fn remove_scratch(&self, place: &Path) -> Result<(), Failure> {
        let sink = &self.pipeline.sink;
        registry::scratch::remove(sink, place).await.map_err(|error| self.open_error(sink, error))
    }

    /// Removes what was made for all scratch destinations of a drill.
    pub async fn remove_scratches(&self, root: &Path) -> Result<(), Failure> {
        let sink = &self.pipeline.sink;
        registry::scratch::remove_all(sink, root).await.map_err(|error| self.open_error(sink, error))
    }

    /// Opens both ends, checks columns, plans the transform and derives the verdict. Changes nothing.
    pub async fn open(self) -> Result<Opened, Failure> {
        let (source, sink) = match self.joint().await? {
            Some((source, sink)) => (self.with_vectors(source)?, Some(sink)),
            None => (self.source().await?, None),
        };
        let transform = self.transform(source.schema())?;
        let schema = transform.as_ref().map_or_else(|| source.schema(), |transform| transform.schema());
        self.check_identity(&source.schema(), &schema)?;
        let sink = match sink {
            Some(sink) => sink,
            None => self.sink().await?,
        };
        let ledger = self.ledger()?;
        let duplicates = self.duplicates(&sink)?;
        if let Sink::Kept(kept) = &sink
            && registry::fits_by_file(&self.pipeline.sink)
        {
            let identity = &self.pipeline.identity.value;
            let shape = run::shape(Arc::clone(&schema), identity, duplicates, &sink);
            let checked = kept.target.check(&shape).await;
            checked.map_err(|error| self.open_error(&self.pipeline.sink, OpenError::Sink(error)))?;
        }
        let mut facts = facts(&*source, &self.pipeline.identity.value, &sink, duplicates);
        if let Some(beside) = ledger.as_ref().filter(|_| duplicates.need_ledger()) {
            source.suits_ledger_beside().map_err(|error| self.unsuited(error.fault.as_ref()))?;
            // What is done about an effect whose end is unknown, a destination that keeps nothing says itself.
            let in_doubt = match &sink {
                Sink::Kept(kept) => kept.target.repeat().in_doubt(),
                _ => beside.facts().in_doubt,
            };
            facts.ledger = Some(LedgerFacts { in_doubt, ..beside.facts() });
        }
        let verdict = derive(&facts);
        Ok(Opened { loaded: self, source, transform, schema, sink, ledger, duplicates, verdict })
    }

    /// A ledger beside the destination that the source refuses.
    fn unsuited(&self, fault: &dyn Fault) -> Failure {
        let span = self.pipeline.ledger.as_ref().map_or(self.pipeline.source.span, |ledger| ledger.span);
        self.mistake(Mistake::new(fault.code(), span, fault.to_string()).helped(fault.help()))
    }

    /// The ledger beside the destination, if the pipeline has one. Nothing is created.
    pub fn ledger(&self) -> Result<Option<Arc<dyn Ledger>>, Failure> {
        let Some(section) = &self.pipeline.ledger else { return Ok(None) };
        let opened = match &self.scratch_ledger {
            Some(path) => Ok(registry::embedded_ledger(path, Retention::Unbounded)),
            None => registry::open_ledger(section),
        };
        opened.map(Some).map_err(|error| self.open_error(section, error))
    }

    /// Plans the transform over the columns of the source, if there is one.
    pub fn transform(&self, input: SchemaRef) -> Result<Option<Arc<dyn Transform>>, Failure> {
        let Some(sql) = &self.pipeline.transform else { return Ok(None) };
        match Select::plan(&sql.value, Arc::clone(&input)) {
            Ok(select) => Ok(Some(Arc::new(select))),
            Err(error) => Err(self.mistake(self.transform_mistake(sql, &error, &input))),
        }
    }

    fn transform_mistake(&self, sql: &Spanned<String>, error: &SelectError, input: &SchemaRef) -> Mistake {
        let span = error.place().map_or(sql.span, |place| {
            let number = |n: u64| usize::try_from(n).unwrap_or(usize::MAX);
            self.pipeline.place_in_transform(&self.file, number(place.line), number(place.column))
        });
        let mut help = error.help();
        if matches!(error, SelectError::UnknownColumn { .. }) {
            help = format!("{help} The columns are {}.", names(input));
        }
        Mistake::new(error.code(), span, error.to_string()).helped(help)
    }

    /// The columns of the identity must be among those that reach the sink.
    fn check_identity(&self, source: &SchemaRef, schema: &SchemaRef) -> Result<(), Failure> {
        let mistakes: Vec<Mistake> = self
            .pipeline
            .identity_columns
            .iter()
            .filter(|column| schema.index_of(&column.value).is_err())
            .map(|column| unknown_column(column, source, schema))
            .collect();
        if !mistakes.is_empty() {
            return Err(Failure::Mistakes { file: Box::new(self.file.clone()), mistakes });
        }
        if let Some(embed) = &self.pipeline.embed
            && self.pipeline.identity.value == Identity::Hash
        {
            let message = "`identity: hash` and `embed` do not go together: the vector would be part of what tells records apart, and another process may compute another one";
            return Err(self.mistake(
                Mistake::new(hapax_config::codes::CONFLICT, self.pipeline.identity.span, message.to_owned())
                    .labelled(format!("`embed` is at line {}", self.file.place(embed.span.start).line))
                    .helped("Give the columns that tell records apart: `identity: { key: [COLUMN] }`."),
            ));
        }
        Identifier::new(&self.pipeline.identity.value, schema).map(drop).map_err(|error: IdentifierError| {
            let span = self.pipeline.identity_columns.first().map_or(self.pipeline.identity.span, |c| c.span);
            self.mistake(Mistake::new(error.code(), span, error.to_string()).helped(error.help()))
        })
    }

    /// Who asks for the lease.
    pub fn applicant(&self, duplicates: Duplicates) -> Applicant {
        Applicant {
            pipeline: self.pipeline.name.clone(),
            holder: usage::holder(),
            definition: definition(&self.pipeline, duplicates),
        }
    }

    /// What is done about twins: as the file says, or what suits identity and sink.
    pub fn duplicates(&self, sink: &Sink) -> Result<Duplicates, Failure> {
        let traits = sink.destination().traits();
        let beside = self.pipeline.ledger.is_some();
        match &self.pipeline.duplicates {
            Some(asked) if asked.value.need_ledger() && !(beside || traits.ledger.is_some()) => {
                let error = run::RunError::NoLedger;
                let mistake = Mistake::new(error.code(), asked.span, error.to_string())
                    .labelled("needs a ledger in the destination")
                    .helped(error.help());
                Err(self.mistake(mistake))
            }
            Some(asked) => Ok(asked.value),
            // Whoever names a ledger wants it asked.
            None if beside => Ok(Duplicates::Drop),
            None if self.pipeline.identity.value == Identity::Position => Ok(Duplicates::Keep),
            None if traits.effect == Effect::Insert && traits.ledger.is_some() => Ok(Duplicates::Drop),
            None => Ok(Duplicates::Keep),
        }
    }
}

/// As the file says, or beside the file: wherever the command is given, it is the same one.
fn keeper(file: &File, pipeline: &Pipeline) -> PathBuf {
    match pipeline.keeper.as_ref().and_then(|keeper| keeper.text("path")) {
        Some(path) => PathBuf::from(path),
        None => beside(file, &format!("{}.hapax.db", pipeline.name)),
    }
}

/// A file beside the pipeline's own, wherever the command is given.
fn beside(file: &File, name: &str) -> PathBuf {
    Path::new(file.name()).with_file_name(name)
}

fn unknown_column(column: &Spanned<String>, source: &SchemaRef, schema: &SchemaRef) -> Mistake {
    let code = hapax_engine::codes::IDENTITY_COLUMN;
    let name = &column.value;
    if source.index_of(name).is_ok() {
        let message = format!("the identity names the column `{name}`, which the transform leaves out");
        return Mistake::new(code, column.span, message)
            .labelled("not among the columns of the SELECT")
            .helped(format!("Add `{name}` to the SELECT, or use one of its columns: {}.", names(schema)));
    }
    let message = format!("the identity names the column `{name}`, which the records do not have");
    let mistake = Mistake::new(code, column.span, message);
    let help = format!("The columns are {}.", names(schema));
    let known: Vec<&str> = schema.fields().iter().map(|field| field.name().as_str()).collect();
    match closest(name, known) {
        Some(meant) => mistake.labelled(format!("did you mean `{meant}`?")).helped(help),
        None => mistake.labelled("no such column").helped(help),
    }
}

/// The names of the columns, for people.
pub fn names(schema: &SchemaRef) -> String {
    let all: Vec<String> = schema.fields().iter().map(|field| format!("`{}`", field.name())).collect();
    all.join(", ")
}

fn facts(source: &dyn Source, identity: &Identity, sink: &Sink, duplicates: Duplicates) -> Facts {
    Facts {
        source: source.facts(),
        identity: match identity {
            Identity::Key(_) | Identity::Uuid(_) => IdentityKind::Key,
            Identity::Hash => IdentityKind::Hash,
            Identity::Position => IdentityKind::Position,
        },
        sink: sink.facts(),
        ledger: sink.ledger(duplicates),
        dead_letters: None,
        longest_outage: None,
    }
}

/// As the file writes it.
pub fn duplicates_word(duplicates: Duplicates) -> &'static str {
    match duplicates {
        Duplicates::Drop => "drop",
        Duplicates::Keep => "keep",
        Duplicates::DeadLetter => "dead-letter",
    }
}

fn outside_a_run(fault: &dyn Fault) -> Report {
    let mut report = Report::of(fault);
    report.kept = Some("nothing was lost: nothing was moved, and positions stand where they stood".into());
    report
}

/// A source's failure outside a run.
pub fn source_failure(error: &SourceError) -> Failure {
    outside_a_run(error.fault.as_ref()).into()
}

/// A sink's failure outside a run.
pub fn sink_failure(error: &SinkError) -> Failure {
    let mut report = outside_a_run(error.fault.as_ref());
    if error.kind == SinkErrorKind::Fenced {
        report.exit = Exit::Fenced;
    }
    report.into()
}
