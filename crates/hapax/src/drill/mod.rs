//! The user's own pipeline, killed again and again on a scratch destination.
//!
//! A drill starts [`worker`]s: this binary as processes of their own, doing exactly what `hapax run` does, with the
//! sink replaced by one inside a [`scratch`] directory. It kills, stalls and doubles them as a [`schedule`] says
//! that is drawn from a seed, leaves the last one alone, and [`check`]s what is there against the source and
//! against a calm run. The [`board`] counts. The real destination is asked
//! before whether a run could write there, and is not changed.

pub mod board;
mod check;
mod error;
mod rounds;
pub mod schedule;
pub mod scratch;
pub mod worker;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use arrow::datatypes::SchemaRef;
use hapax_engine::sink::Sink;
use hapax_engine::source::Source;
use hapax_engine::transform::Transform;
use hapax_protocol::guarantee::{Fencing, Settle};

use crate::exit::Failure;
use crate::registry;
use crate::verify::Winner;
use crate::wiring::{Loaded, Opened};
use board::Board;
use check::{Extent, State};
pub use error::DrillError;
use schedule::Round;
use scratch::Scratch;

/// A short source still makes at least this many commits.
const COMMITS_MIN: u64 = 10;

/// What is drilled.
pub struct Subject {
    loaded: Loaded,
    source: Arc<dyn Source>,
    transform: Option<Arc<dyn Transform>>,
    schema: SchemaRef,
    winner: Winner,
    /// Whether the sink says where it stands.
    keeps_positions: bool,
    /// Whether a holder that wakes up late is refused.
    is_fenced: bool,
}

/// How long and how hard.
#[derive(Debug, Clone, Copy)]
pub struct Effort {
    /// Ends once this many workers were killed.
    pub kills: u64,
    /// Ends then, whatever was reached.
    pub until: Option<Instant>,
    /// Only this round.
    pub round: Option<u64>,
}

/// A drill that is held.
pub struct Drill<'a> {
    subject: Subject,
    file: String,
    scratch: &'a Scratch,
    extent: Extent,
    /// What a run is like to which nothing is done: how long it takes, and what it leaves.
    usual: Duration,
    calm: State,
    board: &'a mut Board,
}

impl Subject {
    /// What an opened pipeline is. Refuses what a drill would harm or prove nothing of.
    pub async fn of(opened: Opened, winner: Winner) -> Result<Self, Failure> {
        if let Some(what) = consumes(opened.source.facts().settle) {
            return Err(DrillError::Consumes { what }.into());
        }
        let copy = opened.loaded.clone().on_scratch(Path::new("never-made"))?.open().await?;
        let (real, drilled) = (opened.verdict.level, copy.verdict.level);
        if real != drilled || opened.verdict.rule != copy.verdict.rule {
            return Err(DrillError::OtherPromise { real, scratch: drilled }.into());
        }
        Ok(Self {
            winner,
            keeps_positions: !matches!(opened.sink, Sink::Append(_)),
            is_fenced: opened.sink.facts().fencing == Fencing::Token,
            loaded: opened.loaded,
            source: opened.source,
            transform: opened.transform,
            schema: opened.schema,
        })
    }

    /// The scratch destination in a place. Touches nothing.
    async fn sink(&self, place: &Path) -> Result<Sink, Failure> {
        self.loaded.clone().on_scratch(place)?.sink().await
    }
}

/// How a source takes away what it reads, if it does.
fn consumes(settle: Settle) -> Option<&'static str> {
    match settle {
        Settle::Seek => None,
        Settle::None => Some("it passes once"),
        Settle::PerMessage => Some("what is acknowledged is gone"),
        Settle::Mark | Settle::MarkWithEffect => Some("rows are marked as they are moved"),
    }
}

/// Refuses a source that must not even be opened.
pub fn demand_rereadable(loaded: &Loaded) -> Result<(), Failure> {
    match registry::reads_stream(&loaded.pipeline.source) {
        true => Err(DrillError::Consumes { what: "standard input passes once" }.into()),
        false => Ok(()),
    }
}

/// Where the scratch directory may be made: where the user says; otherwise beside the destination, which is the
/// same file system, or in the temporary directory.
pub async fn make_scratch(loaded: &Loaded, wish: Option<&Path>) -> Result<Scratch, Failure> {
    let homes: Vec<PathBuf> = match wish {
        Some(wish) => vec![wish.to_owned()],
        None => registry::home(&loaded.pipeline.sink).into_iter().chain([std::env::temp_dir()]).collect(),
    };
    // What drills that died have left on a server is known by their directories: those go last.
    for home in homes.iter().filter(|home| home.is_dir()) {
        let dead = scratch::dead(home, &loaded.pipeline.name);
        let dead = dead.map_err(|source| DrillError::Scratch { place: home.clone(), source })?;
        for (root, _held) in dead {
            loaded.remove_scratches(&root).await?;
        }
    }
    Scratch::make(&homes, &loaded.pipeline.name)
        .map_err(|source| DrillError::NoScratch { places: homes, source }.into())
}

impl<'a> Drill<'a> {
    /// Reads the source, lets one worker run in peace, and remembers what that is like.
    pub async fn prepare(
        subject: Subject,
        file: &str,
        scratch: &'a Scratch,
        board: &'a mut Board,
    ) -> Result<Self, Failure> {
        let extent = Extent::of(&subject.source).await.map_err(DrillError::Source)?;
        board.records = extent.records();
        if board.records == 0 {
            return Err(DrillError::Nothing { what: "the source holds no records" }.into());
        }
        let asked = subject.loaded.pipeline.commit.records.unwrap_or(u64::MAX);
        board.commit_records = asked.min(board.records.div_ceil(COMMITS_MIN));
        let file = file.to_owned();
        let (usual, calm) = (Duration::ZERO, State::default());
        let mut drill = Self { subject, file, scratch, extent, usual, calm, board };
        drill.run_calmly().await?;
        Ok(drill)
    }

    /// Holds the rounds.
    pub async fn hold(&mut self, effort: Effort, mut seen: impl FnMut(&Board)) -> Result<(), Failure> {
        if self.board.wrong() > 0 {
            self.board.cut_short = Some("a run to which nothing is done is already wrong");
            return Ok(());
        }
        if let Some(number) = effort.round {
            return self.round(&Round::draw(self.board.seed, number)).await;
        }
        for number in 1.. {
            if self.board.kills >= effort.kills {
                break;
            }
            if effort.until.is_some_and(|until| Instant::now() >= until) {
                self.board.cut_short = Some("the time was up");
                break;
            }
            // A pair at whose workers no kill ever arrives would go on for ever.
            if number > Round::singles().saturating_add(effort.kills.saturating_mul(2)) {
                self.board.cut_short = Some("workers end before they can be killed");
                break;
            }
            self.round(&Round::draw(self.board.seed, number)).await?;
            seen(self.board);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_can_be_read_again_is_drilled() {
        assert_eq!(consumes(Settle::Seek), None);
        for settle in [Settle::None, Settle::PerMessage, Settle::Mark, Settle::MarkWithEffect] {
            assert!(consumes(settle).is_some(), "{settle:?}");
        }
    }
}
