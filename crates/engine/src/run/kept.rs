//! The writer of one split of a destination that keeps nothing: records go to the target, all else to the keeper.
//!
//! Where a record that was sent must not be sent again at any time, whoever comes next has to know what may have been
//! sent. So it is announced before: the keeper holds, as the position of a split of its own beside the real one,
//! since when and through which position records may have left. An announcement is over once the position of the
//! split itself has passed it.

use std::sync::Arc;

use arrow::array::RecordBatch;
use hapax_planted::{Mistake, planted};
use hapax_protocol::code::Code;
use hapax_protocol::guarantee::{InDoubt, Window};
use hapax_protocol::identity::Token;
use hapax_protocol::lease::{Lease, PipelineName};
use hapax_protocol::position::{Checkpoint, Position, SplitId, Standing, Totals};

use super::effect::Onto;
use super::prepare::Prepared;
use crate::clock::Clock;
use crate::codes;
use crate::crash::{self, Point};
use crate::fault::{CommitError, Fault, SinkError};
use crate::identify::digest;
use crate::sink::{CoCommit, Deadline, Kept, Past, Repeat, Sender, Sending, Sent};

/// What the keeper's name of a split of announcements ends with.
const ANNOUNCES: &str = "\u{1f}announced";

/// Whether a split holds the announcements of another.
pub(crate) fn announces_of(split: &SplitId) -> bool {
    split.as_str().ends_with(ANNOUNCES)
}

/// What may be done with a batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fate {
    /// It may be sent.
    Send,
    /// It may have been sent: what the destination has of it is not sent again.
    Look,
    /// It may have been sent, and must not be sent again.
    Hold,
}

/// Why nothing more is sent.
#[derive(Debug, thiserror::Error)]
enum Unsendable {
    /// The destination may have forgotten the tokens of what was sent.
    #[error(
        "{split}: records after its position may have been sent more than {window} ago (since {since_unix_ms} ms after 1970, by this machine's date), and the destination drops repeats for no longer"
    )]
    PastWindow { split: SplitId, window: Window, since_unix_ms: u64 },
    /// Nobody knows how a request ended.
    #[error("{split}: the destination did not say how {records} records ended")]
    Unanswered { split: SplitId, records: usize },
}

impl Fault for Unsendable {
    fn code(&self) -> Code {
        match self {
            Self::PastWindow { .. } => codes::PAST_WINDOW,
            Self::Unanswered { .. } => codes::UNANSWERED,
        }
    }

    fn help(&self) -> String {
        match self {
            Self::PastWindow { .. } => {
                "Nothing was sent again. Let the sink hold what is in doubt (`past_window: hold`): the records are set aside, and the run goes on behind them."
            }
            Self::Unanswered { .. } => {
                "Run again: it goes on behind the last commit, and what is sent again changes nothing or is allowed to repeat, as `hapax plan` says."
            }
        }
        .to_owned()
    }
}

/// What may have left: everything behind the position of the split, through this one.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Announcement {
    since_unix_ms: u64,
    through: Position,
}

impl Announcement {
    fn encoded(&self) -> Position {
        let mut bytes = self.since_unix_ms.to_be_bytes().to_vec();
        bytes.extend_from_slice(self.through.as_bytes());
        Position::new(bytes)
    }

    fn decoded(position: &Position) -> Option<Self> {
        let (since, through) = position.as_bytes().split_first_chunk::<8>()?;
        Some(Self { since_unix_ms: u64::from_be_bytes(*since), through: Position::new(through) })
    }
}

/// Where announcements of one split are kept.
struct Board {
    keeper: Box<dyn CoCommit>,
    standing: Standing,
    last: Option<Announcement>,
}

impl Board {
    async fn take_over(kept: &Kept, split: &SplitId, lease: &Lease) -> Result<Self, SinkError> {
        let split = SplitId::new(format!("{split}{ANNOUNCES}"));
        let mut keeper = kept.keeper.writer(&split).await?;
        let standing = keeper.take_over(lease).await?;
        let last = standing.position.as_ref().and_then(Announcement::decoded);
        Ok(Self { keeper, standing, last })
    }

    /// What may have been sent of the records behind `position`.
    fn open(&self, position: Option<&Position>) -> Option<&Announcement> {
        self.last.as_ref().filter(|last| position.is_none_or(|position| last.through > *position))
    }

    /// An answer that is lost leaves it to the next take-over to look.
    async fn write(&mut self, announcement: Announcement, made_unix_ms: u64) -> Result<(), SinkError> {
        let checkpoint = Checkpoint {
            after: self.standing.position.clone(),
            through: announcement.encoded(),
            epoch: self.standing.epoch.next(),
            totals: Totals::default(),
            again: Vec::new(),
            made_unix_ms,
        };
        self.keeper.commit(&checkpoint).await.map_err(|error| match error {
            CommitError::Refused(error) | CommitError::Unknown(error) => error,
        })?;
        (self.standing, self.last) = (checkpoint.standing(), Some(announcement));
        Ok(())
    }
}

/// Writes one split of a destination that keeps nothing.
pub(super) struct KeptWriter {
    pub keeper: Box<dyn CoCommit>,
    sender: Box<dyn Sender>,
    repeat: Repeat,
    pipeline: PipelineName,
    split: SplitId,
    board: Option<Board>,
    deadline: Option<Deadline>,
}

impl KeptWriter {
    /// Takes over the split, and then its announcements: an earlier holder can announce nothing afterwards.
    pub async fn take_over(
        kept: &Kept,
        split: &SplitId,
        lease: &Lease,
        looks: bool,
    ) -> Result<(Self, Standing), SinkError> {
        let repeat = kept.target.repeat();
        let mut keeper = kept.keeper.writer(split).await?;
        let standing = keeper.take_over(lease).await?;
        let board = match repeat.is_announced() || (looks && kept.target.looks()) {
            true => Some(Board::take_over(kept, split, lease).await?),
            false => None,
        };
        let sender = kept.target.sender(split).await?;
        let (pipeline, split, deadline) = (lease.pipeline.clone(), split.clone(), None);
        Ok((Self { keeper, sender, repeat, pipeline, split, board, deadline }, standing))
    }

    pub fn announces(&self) -> bool {
        self.board.is_some()
    }

    /// Makes it known that records behind `position` through `through` are about to be sent, unless they must not be.
    pub async fn announce(
        &mut self,
        position: Option<&Position>,
        through: &Position,
        clock: &Arc<dyn Clock>,
    ) -> Result<Fate, SinkError> {
        let Some(board) = self.board.as_mut().filter(|_| !planted(Mistake::Unannounced)) else {
            return Ok(Fate::Send);
        };
        let now = clock.unix_ms();
        let open = board.open(position).cloned();
        if open.is_some() && self.repeat.in_doubt() == InDoubt::Hold {
            return Ok(Fate::Hold);
        }
        let since_unix_ms = open.as_ref().map_or(now, |open| open.since_unix_ms);
        if let Repeat::Dropped { window, under_way, past } = self.repeat {
            let until_unix_ms = since_unix_ms.saturating_add(window.0.saturating_sub(under_way.0));
            // A date before the announcement was set back: nobody knows how old it is.
            if now > until_unix_ms || now < since_unix_ms {
                return match past {
                    Past::Hold => Ok(Fate::Hold),
                    Past::Stop => {
                        let split = self.split.clone();
                        Err(SinkError::stop(Unsendable::PastWindow { split, window, since_unix_ms }))
                    }
                };
            }
            self.deadline = Some(Deadline { clock: Arc::clone(clock), since_unix_ms, until_unix_ms });
        }
        let looks = matches!(self.repeat, Repeat::Adds { .. }) && open.is_some();
        let through = open.map_or_else(|| through.clone(), |open| open.through.max(through.clone()));
        let announcement = Announcement { since_unix_ms, through };
        if board.last.as_ref() != Some(&announcement) {
            board.write(announcement, now).await?;
            crash::point(Point::Announced);
        }
        Ok(if looks { Fate::Look } else { Fate::Send })
    }

    /// Whether each of these records, which an earlier run may have sent, is known to have taken effect.
    pub async fn look(
        &mut self,
        records: &RecordBatch,
        batch: &Prepared,
        rows: &[usize],
    ) -> Result<Vec<bool>, SinkError> {
        let tokens = self.tokens(batch, rows);
        self.sender.look(Sending { records, tokens: &tokens, deadline: None }).await
    }

    /// Sends records: these rows of a batch.
    pub async fn send(
        &mut self,
        records: &RecordBatch,
        batch: &Prepared,
        rows: &[usize],
        onto: Onto,
    ) -> Result<Sent, SinkError> {
        let tokens = match self.repeat {
            // Where the destination adds another, its readers may tell it by the token.
            Repeat::Dropped { .. } | Repeat::Adds { .. } => self.tokens(batch, rows),
            Repeat::Replaces { .. } | Repeat::Refused { .. } => Vec::new(),
        };
        let sending = Sending { records, tokens: &tokens, deadline: self.deadline.as_ref() };
        let sent = match onto {
            Onto::Anything => self.sender.send(sending).await?,
            Onto::Nothing => self.sender.send_absent(sending).await?,
        };
        if !sent.unknown.is_empty() && self.repeat.in_doubt() == InDoubt::Resend {
            let (split, records) = (self.split.clone(), sent.unknown.len());
            return Err(SinkError::unavailable(Unsendable::Unanswered { split, records }));
        }
        Ok(sent)
    }

    /// Where an identity takes effect once, whichever of its records does, the identity names the effect. Elsewhere the
    /// place does: the next version of a key is another effect.
    fn tokens(&self, batch: &Prepared, rows: &[usize]) -> Vec<Token> {
        let mut bytes = Vec::with_capacity(128);
        let token = |row: &usize| {
            bytes.clear();
            bytes.extend(self.pipeline.as_str().as_bytes());
            bytes.push(0);
            match batch.ids.as_ref().and_then(|ids| ids.get(*row)) {
                Some(id) => bytes.extend(id.0),
                None => {
                    bytes.extend(self.split.as_str().as_bytes());
                    bytes.push(0);
                    bytes.extend(batch.ordinals.of(*row).to_le_bytes());
                }
            }
            Token(digest(&bytes))
        };
        rows.iter().map(token).collect()
    }
}
