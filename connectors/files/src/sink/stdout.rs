//! Standard output: records as they come, no position, no dead letters.

use std::io::{self, Write};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use arrow::array::{BooleanArray, RecordBatch};
use arrow::datatypes::SchemaRef;
use hapax_engine::Fut;
use hapax_engine::dead_letter::{DeadLetter, SettledLetter, Settlement};
use hapax_engine::fault::SinkError;
use hapax_engine::history::{Remembered, Unfinished};
use hapax_engine::message::not_finite;
use hapax_engine::sink::{Append, AppendSink, Arrival, CommitSize, Destination, Shape, Traits, Writer};
use hapax_engine::source::Source;
use hapax_engine::transform::RefusedRow;
use hapax_protocol::guarantee::{Durability, Effect, Fencing};
use hapax_protocol::identity::{Place, RecordId};
use hapax_protocol::lease::{Applicant, FencingToken, Lease, PipelineName};
use hapax_protocol::ledger::Claim;
use hapax_protocol::position::{SplitId, Standing};

use crate::sink::csv;
use crate::sink::encode;
use crate::sink::fault::{Failure, at};

use crate::sink_config::{SinkFormat, Target};

/// What messages call it.
const NAME: &str = "standard output";

/// Standard output as a destination.
pub(crate) struct StdoutSink {
    target: Target,
    /// Whether the header is still to come.
    header: Arc<AtomicBool>,
}

impl StdoutSink {
    pub(crate) fn new(target: Target) -> Self {
        let header = target.header && target.format == SinkFormat::Csv;
        Self { target, header: Arc::new(AtomicBool::new(header)) }
    }
}

impl Destination for StdoutSink {
    fn traits(&self) -> Traits {
        Traits {
            effect: Effect::Insert,
            replaces: false,
            fencing: Fencing::None,
            durability: Durability::Durable,
            readers: None,
            ledger: None,
        }
    }

    fn commit_size(&self) -> CommitSize {
        CommitSize { records_max: 65_536, bytes_max: 8 * 1024 * 1024, interval_ms: 1_000 }
    }

    fn check<'a>(&'a self, shape: &'a Shape) -> Fut<'a, Vec<String>, SinkError> {
        Box::pin(async move {
            encode::check(self.target.format, &shape.schema)?;
            if self.target.compression != crate::sink_config::SinkCompression::None {
                let (what, format) = ("compression", "standard output");
                return Err(Failure::Unfitting { what, format }.into());
            }
            Ok(vec![format!("writes {} to {NAME}", self.target.format.extension())])
        })
    }

    fn prepare<'a>(&'a self, shape: &'a Shape) -> Fut<'a, (), SinkError> {
        Box::pin(async move { self.check(shape).await.map(|_| ()) })
    }

    fn acquire<'a>(&'a self, applicant: &'a Applicant) -> Fut<'a, Lease, SinkError> {
        let token = FencingToken::NOBODY.next();
        Box::pin(async move { Ok(Lease { pipeline: applicant.pipeline.clone(), token }) })
    }

    fn finish<'a>(&'a self, _lease: &'a Lease) -> Fut<'a, (), SinkError> {
        Box::pin(async { Ok(io::stdout().flush().map_err(at("write to", Path::new(NAME)))?) })
    }

    fn standings<'a>(&'a self, _pipeline: &'a PipelineName) -> Fut<'a, Vec<(SplitId, Standing)>, SinkError> {
        Box::pin(async { Ok(Vec::new()) })
    }

    fn dead_letters<'a>(
        &'a self,
        _pipeline: &'a PipelineName,
        _letters_max: usize,
    ) -> Fut<'a, Vec<DeadLetter>, SinkError> {
        Box::pin(async { Ok(Vec::new()) })
    }

    fn settled_letters<'a>(
        &'a self,
        _pipeline: &'a PipelineName,
        _letters_max: usize,
    ) -> Fut<'a, Vec<SettledLetter>, SinkError> {
        Box::pin(async { Ok(Vec::new()) })
    }

    fn remembered<'a>(
        &'a self,
        _pipeline: &'a PipelineName,
        places: &'a [Place],
    ) -> Fut<'a, Vec<Remembered>, SinkError> {
        Box::pin(async { Ok(places.iter().map(|_| Remembered::default()).collect()) })
    }

    fn claimant<'a>(
        &'a self,
        _pipeline: &'a PipelineName,
        _id: &'a RecordId,
    ) -> Fut<'a, Option<Place>, SinkError> {
        Box::pin(async { Ok(None) })
    }

    fn unfinished<'a>(&'a self, _pipeline: &'a PipelineName) -> Fut<'a, Vec<Unfinished>, SinkError> {
        Box::pin(async { Ok(Vec::new()) })
    }

    fn read_back(&self, _schema: SchemaRef) -> Fut<'_, Arc<dyn Source>, SinkError> {
        Box::pin(async {
            let source = io::Error::from(io::ErrorKind::Unsupported);
            Err(at("read back", Path::new(NAME))(source).into())
        })
    }
}

impl AppendSink for StdoutSink {
    fn writer(&self, _split: &SplitId) -> Fut<'_, Box<dyn Append>, SinkError> {
        let writer: Box<dyn Append> = Box::new(StdoutWriter {
            format: self.target.format,
            header: self.header.clone(),
            text: Vec::new(),
        });
        Box::pin(async move { Ok(writer) })
    }
}

/// Gathers whole lines and writes them at once, so that splits never mix within a line.
struct StdoutWriter {
    format: SinkFormat,
    header: Arc<AtomicBool>,
    text: Vec<u8>,
}

impl StdoutWriter {
    fn write_rows(&mut self, records: &RecordBatch) -> Result<Vec<RefusedRow>, Failure> {
        let path = Path::new(NAME);
        if self.format == SinkFormat::Csv {
            self.write_header(records)?;
            encode::write_csv(records, &mut self.text, &mut String::new(), path)?;
            self.hand_on()?;
            return Ok(Vec::new());
        }
        let refused = not_finite(records, crate::sink::codes::NOT_FINITE);
        let keep = (0..records.num_rows()).map(|row| Some(!refused.iter().any(|refused| refused.row == row)));
        let kept = match refused.is_empty() {
            true => records.clone(),
            false => arrow::compute::filter_record_batch(records, &BooleanArray::from_iter(keep))
                .map_err(|error| Failure::Encoding { format: "jsonl", source: Box::new(error) })?,
        };
        encode::write_jsonl(&kept, &mut self.text, path)?;
        self.hand_on()?;
        Ok(refused)
    }

    fn write_header(&mut self, records: &RecordBatch) -> Result<(), Failure> {
        let mut out = io::stdout().lock();
        if self.header.swap(false, Ordering::SeqCst) {
            let line = csv::header(records.schema_ref());
            out.write_all(line.as_bytes()).map_err(at("write to", Path::new(NAME)))?;
        }
        Ok(())
    }

    fn hand_on(&mut self) -> Result<(), Failure> {
        io::stdout().lock().write_all(&self.text).map_err(at("write to", Path::new(NAME)))?;
        self.text.clear();
        Ok(())
    }
}

impl Writer for StdoutWriter {
    fn take_over<'a>(&'a mut self, _lease: &'a Lease) -> Fut<'a, Standing, SinkError> {
        Box::pin(async { Ok(Standing::default()) })
    }

    fn claim<'a>(&'a mut self, arrivals: &'a [Arrival]) -> Fut<'a, Vec<Claim<Place>>, SinkError> {
        Box::pin(async move { Ok(arrivals.iter().map(|_| Claim::New).collect()) })
    }

    fn withdraw<'a>(&'a mut self, _arrivals: &'a [Arrival]) -> Fut<'a, (), SinkError> {
        Box::pin(async { Ok(()) })
    }

    fn write<'a>(&'a mut self, records: &'a RecordBatch) -> Fut<'a, Vec<RefusedRow>, SinkError> {
        Box::pin(async move { Ok(self.write_rows(records)?) })
    }

    fn set_aside<'a>(&'a mut self, letters: &'a [DeadLetter]) -> Fut<'a, (), SinkError> {
        Box::pin(async move {
            match letters.first() {
                Some(letter) => Err(Failure::NoDeadLetters {
                    place: letter.place.to_string(),
                    reason: letter.reason.clone(),
                }
                .into()),
                None => Ok(()),
            }
        })
    }

    fn settle<'a>(&'a mut self, _places: &'a [Place], _settlement: &'a Settlement) -> Fut<'a, (), SinkError> {
        Box::pin(async { Ok(()) })
    }

    fn abort(&mut self) -> Fut<'_, (), SinkError> {
        self.text.clear();
        Box::pin(async { Ok(()) })
    }
}

impl Append for StdoutWriter {
    fn flush(&mut self) -> Fut<'_, (), SinkError> {
        Box::pin(async { Ok(io::stdout().flush().map_err(at("write to", Path::new(NAME)))?) })
    }
}
