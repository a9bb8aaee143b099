//! A pipeline that is open at both ends, and judged.

use std::sync::Arc;

use arrow::datatypes::SchemaRef;
use hapax_config::OnError;
use hapax_engine::clock::SystemClock;
use hapax_engine::ledger::Ledger;
use hapax_engine::progress::Progress;
use hapax_engine::run::{self, CommitLimit, Limits, Run, Stop, Until};
use hapax_engine::sink::{Shape, Sink};
use hapax_engine::source::Source;
use hapax_engine::transform::Transform;
use hapax_protocol::guarantee::{LedgerFacts, Level, Verdict};
use hapax_protocol::identity::Duplicates;

use super::Loaded;
use crate::codes;
use crate::exit::{Exit, Failure, Report};
/// A pipeline that can run.
pub struct Opened {
    /// File and pipeline.
    pub loaded: Loaded,
    /// Where records come from.
    pub source: Arc<dyn Source>,
    /// What happens on the way.
    pub transform: Option<Arc<dyn Transform>>,
    /// The columns that reach the sink.
    pub schema: SchemaRef,
    /// Where records go.
    pub sink: Sink,
    /// The ledger that stands beside it, if there is one.
    pub ledger: Option<Arc<dyn Ledger>>,
    /// What is done about twins.
    pub duplicates: Duplicates,
    /// What may be promised.
    pub verdict: Verdict,
}

impl Opened {
    /// What remembers identities, whether at the destination or beside it.
    pub fn ledger_facts(&self) -> Option<LedgerFacts> {
        let beside = self.ledger.as_ref().map(|ledger| ledger.facts());
        beside.or_else(|| self.sink.destination().traits().ledger)
    }

    /// The least level that is accepted: as the file says, or that nothing is lost.
    pub fn required(&self) -> Level {
        self.loaded.pipeline.delivery.as_ref().map_or(Level::AtLeastOnce, |asked| asked.value)
    }

    /// Whether the verdict is at least what is required.
    pub fn is_met(&self) -> bool {
        meets(self.verdict.level, self.required()) && self.verdict.refusal.is_none()
    }

    /// Refuses to go on unless the verdict is at least what is required.
    pub fn demand_guarantee(&self) -> Result<(), Failure> {
        if self.is_met() {
            return Ok(());
        }
        if let Some(refusal) = &self.verdict.refusal {
            let help = "Run it more often, or make the source keep its records for longer.";
            return Err(
                Report::new(codes::RETENTION, Exit::GuaranteeNotMet, refusal.to_string(), help).into()
            );
        }
        let (required, level) = (self.required(), self.verdict.level);
        let asked = if self.loaded.pipeline.delivery.is_some() { "asks for" } else { "needs at least" };
        let message = format!("this pipeline {asked} {required}, and what it is made of gives {level}");
        let mut report = Report::new(codes::GUARANTEE, Exit::GuaranteeNotMet, message, String::new());
        report.kept = Some("nothing was moved".into());
        let mut help = Vec::new();
        if let Some(link) = &self.verdict.weakest {
            report.causes.push(format!("the weakest link is {}", link.words));
            help.extend(
                link.raise.map(|(change, raised)| format!("This would raise it to {raised}: {change}.")),
            );
        }
        // There is no asking for less than that nothing is lost, or nothing repeated.
        if level >= Level::AtMostOnce {
            help.push(format!("To accept what there is, write `delivery: {level}`."));
        }
        report.help = help.join(" ");
        Err(report.into())
    }

    /// What reaches the sink.
    pub fn shape(&self) -> Shape {
        let identity = &self.loaded.pipeline.identity.value;
        run::shape(Arc::clone(&self.schema), identity, self.duplicates, &self.sink)
    }

    /// How many splits may move at once.
    pub fn parallel(&self) -> usize {
        match self.loaded.pipeline.parallel {
            Some(parallel) => usize::from(parallel),
            None => std::thread::available_parallelism().map_or(1, std::num::NonZero::get),
        }
    }

    /// Everything a run needs.
    pub fn run(&self, progress: Progress, stop: Stop) -> Run {
        let pipeline = &self.loaded.pipeline;
        Run {
            source: Arc::clone(&self.source),
            transform: self.transform.clone(),
            sink: self.sink.clone(),
            ledger: self.ledger.clone(),
            identity: pipeline.identity.value.clone(),
            duplicates: self.duplicates,
            on_error: match pipeline.on_error {
                OnError::SetAside => run::OnError::SetAside,
                OnError::Stop => run::OnError::Stop,
            },
            until: if self.loaded.pipeline.follow { Until::Stopped } else { Until::End },
            parallel: self.parallel(),
            applicant: self.loaded.applicant(self.duplicates),
            clock: Arc::new(SystemClock::default()),
            progress,
            stop,
            limits: Limits {
                commit: CommitLimit {
                    records_max: pipeline.commit.records,
                    bytes_max: pipeline.commit.bytes,
                    interval_ms: pipeline.commit.interval_ms,
                },
                outage_ms: pipeline.outage_max.map_or(Limits::default().outage_ms, |outage| outage.0),
                ..Limits::default()
            },
        }
    }
}

/// Whether a level is at least the one asked for. Nobody who asks for no repeats is served by some.
fn meets(level: Level, asked: Level) -> bool {
    match asked {
        Level::AtMostOnce => level == Level::AtMostOnce || level > Level::AtLeastOnce,
        _ => level >= asked,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whoever_wants_no_repeats_gets_none() {
        assert!(meets(Level::ExactlyOnce, Level::ExactlyOnce));
        assert!(!meets(Level::EffectivelyOnce, Level::ExactlyOnce));
        assert!(meets(Level::ExactlyOnce, Level::AtMostOnce));
        assert!(meets(Level::AtMostOnce, Level::AtMostOnce));
        assert!(!meets(Level::AtLeastOnce, Level::AtMostOnce));
        assert!(!meets(Level::Lossy, Level::AtLeastOnce));
    }
}
