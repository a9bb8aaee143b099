//! `hapax status`.

use std::collections::BTreeMap;

use clap::Args;
use hapax_engine::ledger::Statistics;
use hapax_engine::source::Split;
use hapax_protocol::position::{SplitId, Standing, Totals};
use serde_json::{Value, json};

use super::Standings;
use crate::exit::{Exit, Failure};
use crate::output::Output;
use crate::output::figures::{bytes, count, counted, date};
use crate::wiring::{Loaded, sink_failure};

#[derive(Debug, Args)]
pub struct Arguments {
    /// The pipeline file
    file: String,
}

/// Says where each split stands. A source that does not answer only costs the words of its positions.
pub async fn act(arguments: &Arguments, output: &Output) -> Result<Exit, Failure> {
    let loaded = Loaded::from_path(&arguments.file, output)?;
    let sink = loaded.sink().await?;
    let source = loaded.source().await;
    let unanswered = source.is_err();
    let source = source.ok();
    let splits = match &source {
        Some(source) => source.splits().await.unwrap_or_default(),
        None => Vec::new(),
    };
    let standings =
        Standings::of(&sink, &loaded.pipeline.name, source).await.map_err(|error| sink_failure(&error))?;
    let absence = standings.absence(&loaded, &sink);
    let lags = lags(&standings, &splits).await;
    let name = &loaded.pipeline.name;
    let ledger = match loaded.ledger()? {
        Some(beside) => beside.statistics(name).await.map(Some),
        None => sink.destination().ledger_holds(name).await,
    };
    let ledger = ledger.map_err(|error| sink_failure(&error))?;
    let status = Status { standings, splits, lags, ledger, unanswered, absence };
    if output.json() {
        let mut document = status.json();
        if let Some(document) = document.as_object_mut() {
            document.insert("pipeline".into(), json!(loaded.pipeline.name));
        }
        output.document(&document);
    } else {
        output.data(&format!("pipeline {}\n{}", loaded.pipeline.name, status.words(&arguments.file)));
    }
    Ok(Exit::Done)
}

/// How many records wait in each split, where the source knows.
async fn lags(standings: &Standings, splits: &[Split]) -> BTreeMap<SplitId, u64> {
    let mut lags = BTreeMap::new();
    let Some(source) = &standings.source else { return lags };
    for split in splits {
        let after = standings.get(&split.id).and_then(|standing| standing.position.as_ref());
        // Who asks wants the rest too, if the source does not answer now.
        if let Ok(Some(lag)) = source.lag(&split.id, after).await {
            lags.insert(split.id.clone(), lag);
        }
    }
    lags
}

struct Status {
    standings: Standings,
    splits: Vec<Split>,
    lags: BTreeMap<SplitId, u64>,
    ledger: Option<Statistics>,
    unanswered: bool,
    /// Why the destination says nothing, if it does.
    absence: Option<String>,
}

impl Status {
    fn totals(&self) -> Totals {
        self.standings.each.iter().fold(Totals::default(), |sum, (_, standing)| sum.plus(standing.totals))
    }

    /// Splits of which nothing was moved yet.
    fn waiting(&self) -> impl Iterator<Item = &Split> {
        self.splits.iter().filter(|split| self.standings.get(&split.id).is_none())
    }

    fn words(&self, file: &str) -> String {
        let mut lines = Vec::new();
        for (split, standing) in &self.standings.each {
            lines.push(self.split_words(split, standing));
        }
        for split in self.waiting() {
            let size = split.source_bytes.map(|size| format!(", {} to go", bytes(size))).unwrap_or_default();
            let lag = self.lag_words(&split.id);
            lines.push(format!("{}: nothing moved yet{size}{lag}", split.id));
        }
        if lines.is_empty() {
            lines.push("nothing moved yet".into());
        }
        let totals = self.totals();
        lines.push(format!("total: {}", totals_words(totals)));
        lines.extend(self.ledger.as_ref().map(ledger_words));
        if totals.set_aside > 0 {
            lines.push(format!("see what was set aside: hapax dead-letters list {file}"));
        }
        lines.extend(self.absence.clone());
        if self.unanswered {
            lines.push(
                "the source does not answer (hapax plan says why): positions are shown as stored".into(),
            );
        }
        lines.join("\n")
    }

    fn split_words(&self, split: &SplitId, standing: &Standing) -> String {
        let position = self.standings.describe(standing).unwrap_or_else(|| "at its start".into());
        format!(
            "{split}: {position}{}\n  {} in {}",
            self.lag_words(split),
            totals_words(standing.totals),
            counted(standing.epoch.get(), "commit")
        )
    }

    fn lag_words(&self, split: &SplitId) -> String {
        self.lags.get(split).map(|lag| format!(", {} behind", counted(*lag, "record"))).unwrap_or_default()
    }

    fn json(&self) -> Value {
        let each: Vec<Value> = self
            .standings
            .each
            .iter()
            .map(|(split, standing)| {
                json!({
                    "split": split,
                    "position": self.standings.describe(standing),
                    "lag": self.lags.get(split),
                    "commits": standing.epoch.get(),
                    "totals": standing.totals,
                })
            })
            .collect();
        let waiting: Vec<Value> = self
            .waiting()
            .map(|split| json!({"split": split.id, "source_bytes": split.source_bytes, "lag": self.lags.get(&split.id)}))
            .collect();
        json!({
            "splits": each,
            "not_begun": waiting,
            "totals": self.totals(),
            "ledger": self.ledger.map(|ledger| json!({
                "identities": ledger.identities,
                "bytes": ledger.bytes,
                "oldest_unix_ms": ledger.oldest_unix_ms,
            })),
            "source_answers": !self.unanswered,
            "state_is_there": self.absence.is_none(),
        })
    }
}

fn ledger_words(ledger: &Statistics) -> String {
    let identities = ledger.identities.map(|identities| match identities {
        1 => "1 identity".to_owned(),
        identities => format!("{} identities", count(identities)),
    });
    let size = ledger.bytes.map(bytes);
    let oldest = ledger.oldest_unix_ms.map(|at| format!("the oldest of {}", date(at)));
    let parts: Vec<String> = identities.into_iter().chain(size).chain(oldest).collect();
    format!("ledger: {}", parts.join(", "))
}

fn totals_words(totals: Totals) -> String {
    let mut parts = vec![format!("{} moved", counted(totals.moved, "record"))];
    for (number, what) in [
        (totals.suppressed, "suppressed"),
        (totals.set_aside, "set aside"),
        (totals.filtered, "left out by the transform"),
    ] {
        if number > 0 {
            parts.push(format!("{} {what}", count(number)));
        }
    }
    parts.join(", ")
}
