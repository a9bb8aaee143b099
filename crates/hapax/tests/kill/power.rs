//! The power goes. A kill leaves all that the kernel holds; here only what was made durable is left, or that
//! and any part of the rest (`hapax_planted::shadow`). Then the real binary runs again on what is left.

use std::collections::BTreeMap;
use std::path::PathBuf;

use hapax_planted::Mistake;
use hapax_planted::shadow::{Luck, Shadow, Wreck};

use crate::data::{Data, Noise};
use crate::process::{Ended, Pipeline};

/// How many falls of the coins are looked at for each moment, beside the worst case.
const FALLS: u64 = 2;

/// How many steps of a run that follows a kill are looked at beside its end: what it does to take over.
const STEPS_AFTER: u64 = 16;

/// Behind every step.
const END: u64 = u64::MAX;

/// Many twins, so that a ledger that forgot anything is found out.
const NOISE: Noise = Noise { twins: 4, malformed: 15 };

/// Records in a commit of the run whose power goes, and of the one after it.
///
/// The later commits are larger: a part that should not be there is then not written over by one like it.
const COMMIT: u64 = 16;
const COMMIT_AFTER: u64 = 100;

/// How much a destination holds when the run begins whose power goes.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Before {
    /// Nothing.
    Empty,
    /// What a run moved before the second half of the source was there.
    Half,
}

/// A pipeline whose destination can be put back to where the run begins.
pub struct Scene<'a> {
    pipeline: Pipeline<'a>,
    pair: &'static str,
    data: &'a Data,
    before: Before,
    beginning: Wreck,
}

/// What was found, and at which moment.
pub type Findings = Vec<String>;

impl<'a> Scene<'a> {
    pub fn new(pair: &'static str, data: &'a Data, before: Before, planted: Option<Mistake>) -> Self {
        let pipeline = Pipeline::in_memory(pair, data, planted);
        let sources = pipeline.beside("in");
        std::fs::create_dir(&sources).unwrap();
        pipeline.read_from(&sources, COMMIT);
        let copy = |name: &str| std::fs::copy(data.path(name), sources.join(name)).unwrap();
        copy("part-1.csv");
        if before == Before::Half {
            pipeline.run();
        }
        copy("part-2.csv");
        let beginning = shadow(&pipeline).wreck().unwrap();
        Self { pipeline, pair, data, before, beginning }
    }

    fn out(&self) -> PathBuf {
        self.pipeline.out()
    }

    /// Begins anew, with everything durable that is there.
    fn begin(&self) -> Shadow {
        self.beginning.leave(Luck::None, &self.out()).unwrap();
        shadow(&self.pipeline)
    }

    /// Runs until the step is about to be durable. Whether it came to its end before.
    fn run_until(&self, shadow: &Shadow, step: u64) -> bool {
        match self.run_with(shadow, Some(step)) {
            Ended::Signal(9) => false,
            Ended::Code(0) => true,
            other => panic!("{} until step {step} ended as {other:?}: {}", self.pair, self.pipeline.said()),
        }
    }

    fn run_with(&self, shadow: &Shadow, step: Option<u64>) -> Ended {
        let variables = shadow.variables(step);
        let variables: Vec<_> = variables.iter().map(|(name, value)| (*name, value.as_str())).collect();
        self.pipeline.start(&variables).wait()
    }

    /// The steps of a run that nothing disturbs.
    fn steps(&self) -> Vec<String> {
        let shadow = self.begin();
        assert_eq!(self.run_with(&shadow, None), Ended::Code(0));
        shadow.steps().unwrap()
    }

    /// Leaves what a power loss leaves, looks as a reader would, runs again, and counts.
    fn judge(&self, wreck: &Wreck, luck: Luck, done: bool) -> Option<String> {
        wreck.leave(luck, &self.out()).unwrap();
        let seen = self.pipeline.check();
        let count = self.data.records.len();
        let whole = match self.before {
            Before::Empty => [0, count],
            Before::Half => [0, count - count / 2],
        };
        if self.pair.ends_with("-to-jsonl") && seen.torn == 0 && !whole.contains(&seen.lost) {
            return Some(format!("a part of the file seen: {}", seen.words()));
        }
        // What a run said is done must be there without another.
        let seen = if done { seen } else { seen.so_far() };
        if !seen.words().is_empty() {
            return Some(format!("seen before the next run: {}", seen.words()));
        }
        match self.run_after() {
            Ended::Code(0) => {}
            other => {
                let said = self.pipeline.said();
                let last = said.rfind("error HX").and_then(|at| said.get(at..)).unwrap_or(&said);
                return Some(format!("not started again: {other:?}: {last}"));
            }
        }
        Some(self.pipeline.check().words()).filter(|words| !words.is_empty())
    }

    /// The run after the power loss. Every record comes once more, so that a forgotten identity shows.
    fn run_after(&self) -> Ended {
        let sources = self.pipeline.beside("in");
        let again = sources.join("part-9.csv");
        std::fs::copy(self.data.path("again.csv"), &again).unwrap();
        self.pipeline.read_from(&sources, COMMIT_AFTER);
        let ended = self.pipeline.start(&[]).wait();
        self.pipeline.read_from(&sources, COMMIT);
        std::fs::remove_file(again).unwrap();
        ended
    }

    fn judge_all(&self, shadow: &Shadow, done: bool, falls: u64, seed: u64, moment: &str) -> Findings {
        let wreck = shadow.wreck().unwrap();
        let lucks = (0..falls).map(|fall| Luck::Coins(seed.wrapping_mul(falls).wrapping_add(fall)));
        let lucks = std::iter::once(Luck::None).chain(lucks);
        let found = lucks.filter_map(|luck| Some((luck, self.judge(&wreck, luck, done)?)));
        found.map(|(luck, found)| format!("{} {moment}, {luck:?}: {found}", self.pair)).collect()
    }

    /// The power goes before each durable step of a run in turn, and after the last.
    pub fn at_every_step(&self) -> Findings {
        let mut findings = Findings::new();
        for step in 1.. {
            let shadow = self.begin();
            let done = self.run_until(&shadow, step);
            findings.extend(self.judge_all(&shadow, done, FALLS, step, &format!("before step {step}")));
            if done {
                assert!(step > 20, "{}: only {step} steps", self.pair);
                return findings;
            }
        }
        unreachable!()
    }

    /// A run is killed before names become durable, the power stays; the next run goes on with what the kernel
    /// holds, and then the power goes when it is done, or before each of its first steps in turn. For those it is
    /// enough to kill the first run once in each directory.
    pub fn after_a_kill(&self) -> Findings {
        let steps = self.steps();
        // What was named and not made durable is what the next run may wrongly rest on.
        let names = || steps.iter().zip(1..).filter(|(what, _)| what.starts_with("names"));
        let lasts: BTreeMap<&String, u64> = names().collect();
        let lasts = lasts.into_values().flat_map(|killed| (1..=STEPS_AFTER).map(move |step| (killed, step)));
        let ends = names().map(|(_, killed)| (killed, END));
        let mut findings = Findings::new();
        for (killed, step) in lasts.chain(ends) {
            let shadow = self.begin();
            self.run_until(&shadow, killed);
            let done = self.run_until(&shadow, step);
            let then = if step == END { "when done".to_owned() } else { format!("before step {step}") };
            let moment = format!("killed before step {killed}, then {then}");
            let seed = killed.wrapping_mul(100).wrapping_add(step);
            findings.extend(self.judge_all(&shadow, done, 1, seed, &moment));
        }
        findings
    }
}

fn shadow(pipeline: &Pipeline<'_>) -> Shadow {
    Shadow::begin(&pipeline.out(), &pipeline.beside("shadow")).unwrap()
}

pub fn small_data() -> Data {
    Data::generate_with(40, 5, NOISE)
}

fn none(findings: &Findings) {
    assert!(findings.is_empty(), "{} findings:\n{}", findings.len(), findings.join("\n"));
}

#[test]
fn csv_to_parquet_survives_a_power_loss_at_every_step() {
    none(&Scene::new("csv-to-parquet", &small_data(), Before::Empty, None).at_every_step());
}

#[test]
fn csv_to_jsonl_survives_a_power_loss_at_every_step() {
    none(&Scene::new("csv-to-jsonl", &small_data(), Before::Empty, None).at_every_step());
}

#[test]
fn a_growing_jsonl_survives_a_power_loss_at_every_step() {
    none(&Scene::new("csv-to-jsonl", &small_data(), Before::Half, None).at_every_step());
}

#[test]
fn csv_to_parquet_survives_a_kill_and_then_a_power_loss() {
    none(&Scene::new("csv-to-parquet", &small_data(), Before::Empty, None).after_a_kill());
}

#[test]
fn a_growing_jsonl_survives_a_kill_and_then_a_power_loss() {
    none(&Scene::new("csv-to-jsonl", &small_data(), Before::Half, None).after_a_kill());
}
