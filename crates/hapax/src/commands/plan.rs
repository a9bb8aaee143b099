//! `hapax plan`.

use std::sync::Arc;

use clap::Args;
use hapax_config::Section;
use hapax_engine::progress::Progress;
use hapax_engine::run::{Stop, in_order};
use hapax_engine::source::Split;
use hapax_protocol::guarantee::Retention;
use hapax_protocol::identity::Duplicates;
use serde_json::{Value, json};

use super::Standings;
use crate::exit::{Exit, Failure};
use crate::output::Output;
use crate::output::figures::{bytes, count, counted};
use crate::output::verdict::{self, Asked};
use crate::registry::type_name;
use crate::wiring::{Loaded, Opened, duplicates_word, sink_failure, source_failure};

#[derive(Debug, Args)]
pub struct Arguments {
    /// The pipeline file
    file: String,
}

/// Connects, and says what a run would do. Changes nothing.
pub async fn act(arguments: &Arguments, output: &Output) -> Result<Exit, Failure> {
    let opened = Loaded::from_path(&arguments.file, output)?.open().await?;
    let plan = Plan::of(&opened).await?;
    if output.json() {
        output.document(&plan.json());
    } else {
        output.data(&plan.words());
    }
    Ok(if opened.is_met() { Exit::Done } else { Exit::GuaranteeNotMet })
}

struct Plan<'a> {
    opened: &'a Opened,
    splits: Vec<Split>,
    standings: Standings,
    steps: Vec<String>,
    /// The bytes in which records pass undecoded.
    wire: Option<String>,
}

impl<'a> Plan<'a> {
    async fn of(opened: &'a Opened) -> Result<Self, Failure> {
        let splits = opened.source.splits().await.map_err(|error| source_failure(&error))?;
        let failed = |error| sink_failure(&error);
        let mut steps = opened.sink.destination().check(&opened.shape()).await.map_err(failed)?;
        if let Some(ledger) = opened.ledger.as_ref().filter(|_| opened.duplicates.need_ledger()) {
            steps.extend(ledger.check().await.map_err(failed)?);
        }
        let source = Some(Arc::clone(&opened.source));
        let standings =
            Standings::of(&opened.sink, &opened.loaded.pipeline.name, source).await.map_err(failed)?;
        let run = opened.run(Progress::default(), Stop::default());
        let wire = run.wire().await.map_err(failed)?.map(|format| format.to_string());
        Ok(Self { opened, splits, standings, steps, wire })
    }

    fn asked(&self) -> Asked {
        Asked {
            required: self.opened.required(),
            by_file: self.opened.loaded.pipeline.delivery.is_some(),
            is_met: self.opened.is_met(),
        }
    }

    fn source_bytes(&self) -> Option<u64> {
        self.splits
            .iter()
            .map(|split| split.source_bytes)
            .try_fold(0_u64, |sum, bytes| sum.checked_add(bytes?))
    }

    /// How the splits are gone through, and why.
    fn strategy(&self) -> String {
        let splits = u64::try_from(self.splits.len()).unwrap_or(u64::MAX);
        if splits <= 1 {
            return "from its start to its end".into();
        }
        if !in_order(
            &*self.opened.source,
            &self.opened.sink,
            self.opened.ledger.as_ref(),
            self.opened.duplicates,
        ) {
            return match u64::try_from(self.opened.parallel()).unwrap_or(u64::MAX).min(splits) {
                1 => "one after another".into(),
                parallel => format!("{} at a time", count(parallel)),
            };
        }
        let why = if self.opened.duplicates.need_ledger() {
            "the first of two twins must be the first of the source"
        } else {
            "a later version of a record must not be overtaken by an earlier one"
        };
        format!("one after another: {why}")
    }

    fn twins(&self) -> String {
        let later = match self.opened.ledger_facts().map(|ledger| ledger.retention) {
            Some(Retention::For(window)) => format!("later ones within {window}"),
            Some(Retention::Unbounded) | None => "later ones".to_owned(),
        };
        match self.opened.duplicates {
            Duplicates::Drop => format!("the first of its identity moves, {later} are dropped and counted"),
            Duplicates::Keep => "all of them move".to_owned(),
            Duplicates::DeadLetter => format!("the first of its identity moves, {later} are set aside"),
        }
    }

    fn words(&self) -> String {
        let pipeline = &self.opened.loaded.pipeline;
        let mut page = Page::default();
        page.add("pipeline", [format!("{} ({})", pipeline.name, self.opened.loaded.file.name())]);
        let size = self.source_bytes().map(|size| format!(", {}", bytes(size))).unwrap_or_default();
        let splits = counted(u64::try_from(self.splits.len()).unwrap_or(u64::MAX), "split");
        let from = vec![
            section_words(&pipeline.source),
            format!("{splits}{size}, {}", self.strategy()),
            columns(&self.opened.source.schema()),
        ];
        page.add("from", [from, self.opened.source.notes()].concat());
        if let Some(embed) = &pipeline.embed {
            let kept = self.opened.loaded.vectors(embed);
            page.add(
                "embed",
                [section_words(embed), format!("each text is computed once, and kept in {}", kept.display())],
            );
        }
        if let Some(sql) = &pipeline.transform {
            let mut lines: Vec<String> = sql.value.trim().lines().map(str::to_owned).collect();
            lines.push(format!("gives {}", columns(&self.opened.schema)));
            page.add("transform", lines);
        }
        page.add("identity", [pipeline.identity.value.to_string()]);
        page.add(
            "twins",
            [format!("{} (duplicates: {})", self.twins(), duplicates_word(self.opened.duplicates))],
        );
        page.add("to", [vec![section_words(&pipeline.sink)], self.steps.clone()].concat());
        if let Some(wire) = &self.wire {
            page.add("undecoded", [format!("records pass as the bytes of {wire}")]);
        }
        page.add("position", self.positions());
        page.add("guarantee", verdict::words(&self.opened.verdict, self.asked()));
        page.text()
    }

    fn positions(&self) -> Vec<String> {
        const SHOWN_MAX: usize = 8;
        if self.standings.each.is_empty() {
            return vec!["nothing was moved yet".into()];
        }
        let mut lines: Vec<String> = self
            .standings
            .each
            .iter()
            .take(SHOWN_MAX)
            .map(|(split, standing)| {
                let position = self.standings.describe(standing).unwrap_or_else(|| "at its start".into());
                format!("{split}: {position}, {} read so far", counted(standing.totals.read, "record"))
            })
            .collect();
        let more = self.standings.each.len().saturating_sub(SHOWN_MAX);
        if more > 0 {
            lines.push(format!("and {more} more (hapax status)"));
        }
        lines
    }

    fn json(&self) -> Value {
        let pipeline = &self.opened.loaded.pipeline;
        let splits: Vec<Value> = self
            .splits
            .iter()
            .map(|split| {
                let standing = self.standings.get(&split.id);
                json!({
                    "split": split.id,
                    "source_bytes": split.source_bytes,
                    "position": standing.and_then(|standing| self.standings.describe(standing)),
                    "totals": standing.map(|standing| standing.totals),
                })
            })
            .collect();
        json!({
            "pipeline": pipeline.name,
            "source": {
                "system": pipeline.source.system,
                "settings": pipeline.source.written(),
                "columns": columns_json(&self.opened.source.schema()),
                "source_bytes": self.source_bytes(),
                "strategy": self.strategy(),
                "splits": splits,
                "notes": self.opened.source.notes(),
            },
            "transform": pipeline.transform.as_ref().map(|sql| json!({
                "sql": sql.value,
                "columns": columns_json(&self.opened.schema),
            })),
            "identity": pipeline.identity.value.to_string(),
            "duplicates": duplicates_word(self.opened.duplicates),
            "sink": {
                "system": pipeline.sink.system,
                "settings": pipeline.sink.written(),
                "steps": self.steps,
            },
            "undecoded": self.wire,
            "guarantee": verdict::json(&self.opened.verdict, self.asked()),
        })
    }
}

/// `files: orders.csv` with what else the section says, as written.
fn section_words(section: &Section) -> String {
    let written = section.written();
    let value = |value: &Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
    let mut keys: Vec<(&String, String)> =
        written.as_object().into_iter().flatten().map(|(key, found)| (key, value(found))).collect();
    let leads = |key: &str| matches!(key, "path" | "url");
    keys.sort_by_key(|(key, _)| !leads(key));
    let parts: Vec<String> = keys
        .into_iter()
        .map(|(key, value)| if leads(key) { value } else { format!("{key} {value}") })
        .collect();
    format!("{}: {}", section.system, parts.join(", "))
}

fn columns(schema: &arrow::datatypes::SchemaRef) -> String {
    let all: Vec<String> = schema
        .fields()
        .iter()
        .map(|field| format!("{} {}", field.name(), type_name(field.data_type())))
        .collect();
    format!("{}: {}", counted(u64::try_from(all.len()).unwrap_or(u64::MAX), "column"), all.join(", "))
}

fn columns_json(schema: &arrow::datatypes::SchemaRef) -> Value {
    schema
        .fields()
        .iter()
        .map(|field| json!({"name": field.name(), "type": type_name(field.data_type()), "nullable": field.is_nullable()}))
        .collect()
}

/// Lines under headings that stand to their left.
#[derive(Default)]
struct Page(String);

impl Page {
    fn add(&mut self, heading: &str, lines: impl IntoIterator<Item = String>) {
        for (index, line) in lines.into_iter().enumerate() {
            let heading = if index == 0 { heading } else { "" };
            self.0.push_str(format!("{heading:<10} {line}").trim_end());
            self.0.push('\n');
        }
    }

    fn text(self) -> String {
        self.0
    }
}
