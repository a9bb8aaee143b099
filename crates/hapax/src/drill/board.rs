//! The row of the scoreboard, and what stands under it.

use std::collections::BTreeMap;
use std::time::Duration;

use hapax_engine::crash::Point;
use hapax_protocol::guarantee::Level;
use serde_json::{Value, json};

use super::schedule::{Round, Step};
use crate::output::figures::{count, counted, duration};

/// How many findings are kept. All are counted.
const FINDINGS_MAX: usize = 50;

/// What a drill counted so far.
#[derive(Debug)]
pub struct Board {
    /// Source and destination.
    pub pair: String,
    /// What the schedule is drawn from.
    pub seed: u64,
    /// What the pipeline promises.
    pub promised: Level,
    /// Records of the source.
    pub records: u64,
    /// Commits of a calm run.
    pub commits: u64,
    /// How many records a worker commits at most at once.
    pub commit_records: u64,
    /// Rounds that were checked.
    pub rounds: u64,
    /// Workers killed with SIGKILL.
    pub kills: u64,
    /// Other faults that really happened, by name.
    pub faults: BTreeMap<&'static str, u64>,
    /// Records missing, over all rounds.
    pub lost: u64,
    /// Records more often there than they should be, over all rounds.
    pub duplicated: u64,
    /// Records that differ, or that the source does not have, over all rounds.
    pub different: u64,
    /// What went wrong besides.
    pub broken: u64,
    findings: Vec<Finding>,
    /// How often each point killed or stalled a worker; 0 for one that was tried and not passed.
    points: BTreeMap<&'static str, u64>,
    /// Why it ended before it was done.
    pub cut_short: Option<&'static str>,
}

/// Something that is wrong, and the round in which it was found.
#[derive(Debug)]
struct Finding {
    round: u64,
    schedule: String,
    what: String,
}

impl Board {
    /// Nothing yet.
    pub fn new(pair: String, seed: u64, promised: Level) -> Self {
        Self {
            pair,
            seed,
            promised,
            records: 0,
            commits: 0,
            commit_records: 0,
            rounds: 0,
            kills: 0,
            faults: BTreeMap::new(),
            lost: 0,
            duplicated: 0,
            different: 0,
            broken: 0,
            findings: Vec::new(),
            points: BTreeMap::new(),
            cut_short: None,
        }
    }

    /// A step is about to be tried.
    pub fn trying(&mut self, step: Step) {
        if let Some(point) = step.point() {
            self.points.entry(point.name()).or_default();
        }
    }

    /// A worker was killed.
    pub fn killed(&mut self, step: Step) {
        self.kills = self.kills.saturating_add(1);
        self.passed(step);
    }

    /// Another fault happened.
    pub fn fault(&mut self, name: &'static str, step: Step) {
        let faults = self.faults.entry(name).or_default();
        *faults = faults.saturating_add(1);
        self.passed(step);
    }

    fn passed(&mut self, step: Step) {
        if let Some(point) = step.point() {
            let passed = self.points.entry(point.name()).or_default();
            *passed = passed.saturating_add(1);
        }
    }

    /// Something is wrong that is no count of records.
    pub fn broken(&mut self, round: &Round, what: String) {
        self.broken = self.broken.saturating_add(1);
        self.find(round, what);
    }

    /// Keeps a finding, if there is room.
    pub fn find(&mut self, round: &Round, what: String) {
        if self.findings.len() < FINDINGS_MAX {
            self.findings.push(Finding { round: round.number, schedule: round.to_string(), what });
        }
    }

    /// How much is wrong. Repeats are not where they are part of the promise.
    pub fn wrong(&self) -> u64 {
        let repeats = if self.promised == Level::AtLeastOnce { 0 } else { self.duplicated };
        [self.lost, self.different, self.broken, repeats].into_iter().fold(0, u64::saturating_add)
    }

    /// All faults but kills.
    pub fn faults(&self) -> u64 {
        self.faults.values().sum()
    }

    /// The level that was kept: what is promised, as far as these rounds can tell.
    pub fn kept(&self) -> Level {
        let is_whole = self.lost == 0 && self.different == 0 && self.broken == 0;
        match (self.wrong(), is_whole) {
            (0, _) => self.promised,
            (_, true) => self.promised.min(Level::AtLeastOnce),
            (_, false) => Level::Lossy,
        }
    }

    /// Whether the promise was kept in every round.
    pub fn is_kept(&self) -> bool {
        self.wrong() == 0
    }

    fn points_where(&self, wanted: impl Fn(Option<u64>) -> bool) -> Vec<&'static str> {
        let names = Point::ALL.into_iter().map(Point::name);
        names.filter(|name| wanted(self.points.get(name).copied())).collect()
    }

    /// The row with its heading, and everything under it.
    pub fn words(&self, file: &str, took: Duration) -> String {
        let mut lines = self.row();
        lines.push(format!(
            "{} in {}, each from nothing to the end of the source, in a scratch destination that is removed again; the real one was not changed",
            counted(self.rounds, "round"),
            duration(took)
        ));
        lines.push(format!(
            "commits of at most {}, so that even a short run makes several ({} when nothing happens)",
            counted(self.commit_records, "record"),
            count(self.commits)
        ));
        let faults: Vec<String> =
            self.faults.iter().map(|(name, number)| format!("{name} {}", count(*number))).collect();
        if !faults.is_empty() {
            lines.push(format!("faults besides kills: {}", faults.join(", ")));
        }
        for (points, what) in [
            (self.points_where(|passed| passed == Some(0)), "tried, and not passed by this pair"),
            (self.points_where(|passed| passed.is_none()), "not tried, for want of rounds"),
        ] {
            if !points.is_empty() {
                lines.push(format!("{what}: {}", points.join(", ")));
            }
        }
        lines.extend(self.cut_short.map(|why| format!("ended early: {why}")));
        lines.extend(self.findings.iter().flat_map(|finding| {
            [
                format!("WRONG after {}: {}", finding.schedule, finding.what),
                format!("    again: {}", self.replay(file, finding.round)),
            ]
        }));
        if !self.is_kept() {
            lines.push("a schedule can be repeated exactly, a random moment only nearly".to_owned());
        }
        lines.join("\n")
    }

    fn row(&self) -> Vec<String> {
        let cells = [
            ("pair", self.pair.clone()),
            ("kills", count(self.kills)),
            ("faults", count(self.faults())),
            ("records", count(self.records)),
            ("lost", count(self.lost)),
            ("duplicated", count(self.duplicated)),
            ("different", count(self.different)),
            ("promised", self.promised.to_string()),
            ("kept", if self.is_kept() { self.kept().to_string() } else { format!("NOT, {}", self.kept()) }),
            ("seed", self.seed.to_string()),
        ];
        let width = |name: &str, cell: &str| name.chars().count().max(cell.chars().count());
        let pad = |text: &str, width: usize| format!("{text:<width$}");
        let line = |pick: &dyn Fn(&(&'static str, String)) -> String| {
            let all: Vec<String> =
                cells.iter().map(|cell| pad(&pick(cell), width(cell.0, &cell.1))).collect();
            all.join("  ").trim_end().to_owned()
        };
        vec![line(&|cell| cell.0.to_owned()), line(&|cell| cell.1.clone())]
    }

    fn replay(&self, file: &str, round: u64) -> String {
        format!("hapax drill {file} --seed {} --round {round}", self.seed)
    }

    /// The same as one document.
    pub fn json(&self, file: &str, took: Duration) -> Value {
        let findings: Vec<Value> = self
            .findings
            .iter()
            .map(|finding| {
                json!({
                    "round": finding.round,
                    "schedule": finding.schedule,
                    "what": finding.what,
                    "again": self.replay(file, finding.round),
                })
            })
            .collect();
        json!({
            "pair": self.pair,
            "kills": self.kills,
            "faults": self.faults(),
            "faults_by_kind": self.faults,
            "records": self.records,
            "lost": self.lost,
            "duplicated": self.duplicated,
            "different": self.different,
            "broken": self.broken,
            "level_promised": self.promised.to_string(),
            "level_kept": self.kept().to_string(),
            "kept": self.is_kept(),
            "seed": self.seed,
            "rounds": self.rounds,
            "commits": self.commits,
            "commit_records": self.commit_records,
            "points": self.points,
            "points_not_passed": self.points_where(|passed| passed == Some(0)),
            "points_not_tried": self.points_where(|passed| passed.is_none()),
            "ended_early": self.cut_short,
            "seconds": took.as_secs_f64(),
            "findings": findings,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_level_is_kept_or_it_is_not() {
        let board = |promised, lost, duplicated, broken| Board {
            lost,
            duplicated,
            broken,
            ..Board::new("a → b".to_owned(), 1, promised)
        };
        assert_eq!(board(Level::ExactlyOnce, 0, 0, 0).kept(), Level::ExactlyOnce);
        assert_eq!(board(Level::ExactlyOnce, 0, 1, 0).kept(), Level::AtLeastOnce);
        assert_eq!(board(Level::ExactlyOnce, 1, 0, 0).kept(), Level::Lossy);
        assert!(!board(Level::ExactlyOnce, 0, 0, 1).is_kept());
        assert!(board(Level::AtLeastOnce, 0, 9, 0).is_kept());
        assert!(!board(Level::AtLeastOnce, 1, 0, 0).is_kept());
    }
}
