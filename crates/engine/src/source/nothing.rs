use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use hapax_protocol::code::Code;
use hapax_protocol::guarantee::{Completeness, Order, Replay, Retention, Settle, SourceFacts};
use hapax_protocol::position::{Position, SplitId};

use super::{Source, Split, SplitReader};
use crate::Fut;
use crate::dead_letter::DeadLetter;
use crate::fault::{Fault, SourceError};

/// A source without records: what a destination reads back that nothing was written to. It has no split.
#[derive(Debug)]
pub struct Nothing(pub SchemaRef);

/// A split or a record was asked of a source that has none.
#[derive(Debug, thiserror::Error)]
#[error("a source without records was asked for one")]
struct NothingThere;

impl Fault for NothingThere {
    fn code(&self) -> Code {
        crate::codes::DEFECT
    }

    fn help(&self) -> String {
        "This is a defect of Hapax: please report it with the pipeline file.".to_owned()
    }
}

impl Source for Nothing {
    fn facts(&self) -> SourceFacts {
        SourceFacts {
            completeness: Completeness::Complete,
            replay: Replay::Exact,
            retention: Retention::Unbounded,
            order: Order::PerKey,
            settle: Settle::Seek,
            condition: None,
        }
    }

    fn schema(&self) -> SchemaRef {
        SchemaRef::clone(&self.0)
    }

    fn splits(&self) -> Fut<'_, Vec<Split>, SourceError> {
        Box::pin(std::future::ready(Ok(Vec::new())))
    }

    fn open(&self, _: &SplitId, _: Option<&Position>) -> Fut<'_, Box<dyn SplitReader>, SourceError> {
        Box::pin(std::future::ready(Err(SourceError::stop(NothingThere))))
    }

    fn describe(&self, position: &Position) -> String {
        format!("{position:?}")
    }

    fn rejects_with(&self, _: Code) -> bool {
        false
    }

    fn reread(&self, _: &DeadLetter) -> Fut<'_, RecordBatch, SourceError> {
        Box::pin(std::future::ready(Err(SourceError::stop(NothingThere))))
    }
}
