//! The tables that Hapax keeps beside the records, and the statements on them.

use hapax_engine::dead_letter::DeadLetter;
use hapax_engine::sink::Tenure;
use hapax_planted::{Mistake, planted};
use hapax_protocol::code::Code;
use hapax_protocol::identity::Place;
use hapax_protocol::lease::{Applicant, FencingToken, Lease, PipelineName};
use hapax_protocol::position::{Checkpoint, Epoch, Position, SplitId, Standing, Totals};
use hapax_protocol::recovery::Found;
use mysql_async::{Params, Row, Value};

use crate::client::{Session, bytes, number, text};
use crate::fault::{DatabaseFault, WriteFault};

/// How long the name of a split may be, in bytes: it stands in keys.
const SPLIT_BYTES_MAX: usize = 2_800;

/// What they are called, and how they are made. Names of splits are bytes: no collation takes two for one.
const TABLES: [(&str, &str); 7] = [
    (
        "_hapax_leases",
        "token BIGINT UNSIGNED NOT NULL, holder TEXT NOT NULL, definition TEXT NOT NULL, PRIMARY KEY (pipeline)",
    ),
    (
        "_hapax_positions",
        "split VARBINARY(2800) NOT NULL, token BIGINT UNSIGNED NOT NULL, epoch BIGINT UNSIGNED NOT NULL, \
         position MEDIUMBLOB NULL, `read` BIGINT UNSIGNED NOT NULL, moved BIGINT UNSIGNED NOT NULL, \
         suppressed BIGINT UNSIGNED NOT NULL, set_aside BIGINT UNSIGNED NOT NULL, \
         filtered BIGINT UNSIGNED NOT NULL, PRIMARY KEY (pipeline, split)",
    ),
    (
        "_hapax_commits",
        "split VARBINARY(2800) NOT NULL, epoch BIGINT UNSIGNED NOT NULL, token BIGINT UNSIGNED NOT NULL, \
         holder TEXT NOT NULL, first BIGINT UNSIGNED NOT NULL, `read` BIGINT UNSIGNED NOT NULL, \
         moved BIGINT UNSIGNED NOT NULL, suppressed BIGINT UNSIGNED NOT NULL, set_aside BIGINT UNSIGNED NOT NULL, \
         filtered BIGINT UNSIGNED NOT NULL, position MEDIUMBLOB NOT NULL, made_unix_ms BIGINT UNSIGNED NOT NULL, \
         PRIMARY KEY (pipeline, split, first, epoch)",
    ),
    (
        "_hapax_moved_again",
        "split VARBINARY(2800) NOT NULL, epoch BIGINT UNSIGNED NOT NULL, first BIGINT UNSIGNED NOT NULL, \
         records BIGINT UNSIGNED NOT NULL, PRIMARY KEY (pipeline, split, epoch, first)",
    ),
    (
        "_hapax_dead_letters",
        "split VARBINARY(2800) NOT NULL, ordinal BIGINT UNSIGNED NOT NULL, code INT UNSIGNED NOT NULL, \
         reason TEXT NOT NULL, raw LONGTEXT NOT NULL, set_aside_unix_ms BIGINT UNSIGNED NOT NULL, \
         PRIMARY KEY (pipeline, split, ordinal)",
    ),
    (
        "_hapax_settled_letters",
        "split VARBINARY(2800) NOT NULL, ordinal BIGINT UNSIGNED NOT NULL, code INT UNSIGNED NOT NULL, \
         reason TEXT NOT NULL, set_aside_unix_ms BIGINT UNSIGNED NOT NULL, ending VARCHAR(16) NOT NULL, \
         epoch BIGINT UNSIGNED NOT NULL, settled_unix_ms BIGINT UNSIGNED NOT NULL, \
         PRIMARY KEY (pipeline, split, ordinal)",
    ),
    (
        "_hapax_ledger",
        "id BINARY(16) NOT NULL, split VARBINARY(2800) NOT NULL, ordinal BIGINT UNSIGNED NOT NULL, \
         epoch BIGINT UNSIGNED NOT NULL, claimed_at DATETIME(3) NOT NULL DEFAULT CURRENT_TIMESTAMP(3), \
         PRIMARY KEY (pipeline, id)",
    ),
];

/// Those that are missing. Refuses those that an engine without transactions keeps.
pub(crate) async fn missing(
    session: &mut Session,
) -> Result<Vec<&'static str>, hapax_engine::fault::SinkError> {
    let names: Vec<String> = TABLES.iter().map(|(name, _)| format!("'{name}'")).collect();
    let sql = format!(
        "SELECT TABLE_NAME, ENGINE FROM information_schema.TABLES WHERE TABLE_SCHEMA = DATABASE() \
         AND TABLE_NAME IN ({})",
        names.join(", ")
    );
    let mut missing: Vec<&'static str> = TABLES.iter().map(|(name, _)| *name).collect();
    for row in session.rows("looking for tables", &sql, ()).await? {
        let (table, engine) = (text(&row, 0).unwrap_or_default(), text(&row, 1).unwrap_or_default());
        if !engine.eq_ignore_ascii_case("InnoDB") {
            return Err(WriteFault::Engine { table, engine }.into());
        }
        missing.retain(|missing| *missing != table);
    }
    Ok(missing)
}

/// Creates those that are missing. Every statement commits, so this belongs outside of transactions.
pub(crate) async fn create(session: &mut Session) -> Result<(), hapax_engine::fault::SinkError> {
    let missing = missing(session).await?;
    for (name, columns) in TABLES.iter().filter(|(name, _)| missing.contains(name)) {
        let sql = format!(
            "CREATE TABLE IF NOT EXISTS {name} (pipeline VARCHAR(64) CHARACTER SET ascii COLLATE ascii_bin NOT NULL, \
             {columns}) ENGINE = InnoDB CHARACTER SET utf8mb4 COLLATE utf8mb4_bin"
        );
        session.say("creating tables", &sql).await?;
    }
    Ok(())
}

/// Refuses a split whose name is too long for a key.
pub(crate) fn fits(split: &SplitId) -> Result<(), WriteFault> {
    if split.as_str().len() <= SPLIT_BYTES_MAX {
        return Ok(());
    }
    let name = split.as_str().chars().take(64).collect();
    Err(WriteFault::LongName { name, max: SPLIT_BYTES_MAX, unit: "bytes" })
}

/// The token that holds the lease of a pipeline.
pub(crate) async fn lease_token(
    session: &mut Session,
    pipeline: &PipelineName,
) -> Result<FencingToken, DatabaseFault> {
    let sql = "SELECT token FROM _hapax_leases WHERE pipeline = ?";
    let row = session.first("reading the lease", sql, (pipeline.as_str(),)).await?;
    Ok(row.and_then(|row| number(&row, 0)).map_or(FencingToken::NOBODY, FencingToken::new))
}

/// What became of an application for the lease.
pub(crate) enum Application {
    Granted(Lease),
    OtherDefinition,
}

/// Gives the lease to the applicant, unless positions were committed under another definition. Belongs into a
/// transaction.
pub(crate) async fn acquire(
    session: &mut Session,
    applicant: &Applicant,
    tenure: Tenure,
) -> Result<Application, DatabaseFault> {
    let (doing, pipeline) = ("acquiring the lease", applicant.pipeline.as_str());
    let sql = "INSERT INTO _hapax_leases (pipeline, token, holder, definition) VALUES (?, 0, '', ?) \
               ON DUPLICATE KEY UPDATE token = token";
    session.run(doing, sql, (pipeline, applicant.definition.as_str())).await?;
    let sql = "SELECT token, definition, holder FROM _hapax_leases WHERE pipeline = ? FOR UPDATE";
    let row = session.first(doing, sql, (pipeline,)).await?;
    let row = row.ok_or_else(|| session.misunderstood(doing))?;
    if text(&row, 1).as_deref() != Some(applicant.definition.as_str()) {
        let sql = "SELECT 1 FROM _hapax_positions WHERE pipeline = ? AND position IS NOT NULL LIMIT 1";
        if session.first(doing, sql, (pipeline,)).await?.is_some() {
            return Ok(Application::OtherDefinition);
        }
    }
    let stored = FencingToken::new(number(&row, 0).unwrap_or(0));
    let stays = tenure == Tenure::Group && text(&row, 2).as_deref() == Some(applicant.holder.as_str());
    let token = if stays { stored } else { stored.next() };
    let sql = "UPDATE _hapax_leases SET token = ?, holder = ?, definition = ? WHERE pipeline = ?";
    let params = (token.get(), applicant.holder.as_str(), applicant.definition.as_str(), pipeline);
    session.run(doing, sql, params).await?;
    Ok(Application::Granted(Lease { pipeline: applicant.pipeline.clone(), token }))
}

const STANDING: &str = "position, epoch, `read`, moved, suppressed, set_aside, filtered";

fn standing(row: &Row, from: usize) -> Standing {
    let count = |index: usize| number(row, from + index).unwrap_or(0);
    Standing {
        position: bytes(row, from).map(Position::new),
        epoch: Epoch::new(count(1)),
        totals: Totals {
            read: count(2),
            moved: count(3),
            suppressed: count(4),
            set_aside: count(5),
            filtered: count(6),
        },
    }
}

/// What is known of a split, whose row stays locked to the end of the transaction; `None` if nothing is.
pub(crate) async fn hold(
    session: &mut Session,
    pipeline: &PipelineName,
    split: &SplitId,
) -> Result<Option<Found>, DatabaseFault> {
    let sql =
        format!("SELECT token, {STANDING} FROM _hapax_positions WHERE pipeline = ? AND split = ? FOR UPDATE");
    let params = (pipeline.as_str(), split.as_str().as_bytes());
    let row = session.first("locking a split", &sql, params).await?;
    Ok(row.map(|row| Found {
        token: FencingToken::new(number(&row, 0).unwrap_or(0)),
        standing: standing(&row, 1),
    }))
}

/// Makes the row of a split that nobody had.
pub(crate) async fn enter(
    session: &mut Session,
    pipeline: &PipelineName,
    split: &SplitId,
) -> Result<(), DatabaseFault> {
    let sql = "INSERT INTO _hapax_positions (pipeline, split, token, epoch, `read`, moved, suppressed, set_aside, \
               filtered) VALUES (?, ?, 0, 0, 0, 0, 0, 0, 0) ON DUPLICATE KEY UPDATE token = token";
    session.run("taking a split over", sql, (pipeline.as_str(), split.as_str().as_bytes())).await?;
    Ok(())
}

/// Writes the holder's token to a split.
pub(crate) async fn take(session: &mut Session, lease: &Lease, split: &SplitId) -> Result<(), DatabaseFault> {
    let sql = "UPDATE _hapax_positions SET token = ? WHERE pipeline = ? AND split = ?";
    let params = (lease.token.get(), lease.pipeline.as_str(), split.as_str().as_bytes());
    session.run("taking a split over", sql, params).await?;
    Ok(())
}

/// What must hold for the holder of a token to move a position. A commit may leave the position where it is: only
/// the epoch then tells one from the next.
const ADVANCE: &str = "UPDATE _hapax_positions SET position = ?, epoch = ?, `read` = ?, moved = ?, suppressed = ?, \
                       set_aside = ?, filtered = ? WHERE pipeline = ? AND split = ?";

/// What else must hold: the fence.
const FENCE: &str = "token = ? AND position <=> ? AND epoch = ? \
                     AND EXISTS (SELECT 1 FROM _hapax_leases WHERE pipeline = ? AND token = ?)";

/// Nothing must: the planted mistake.
const NO_FENCE: &str = "(true OR ? OR ? OR ? OR ? OR ?)";

/// Moves the position of a split, if it and its token are as expected. Whether it did.
pub(crate) async fn advance(
    session: &mut Session,
    lease: &Lease,
    split: &SplitId,
    checkpoint: &Checkpoint,
) -> Result<bool, DatabaseFault> {
    let (totals, token) = (checkpoint.totals, lease.token.get());
    let pipeline = || Value::from(lease.pipeline.as_str());
    let params: Vec<Value> = vec![
        checkpoint.through.as_bytes().into(),
        checkpoint.epoch.get().into(),
        totals.read.into(),
        totals.moved.into(),
        totals.suppressed.into(),
        totals.set_aside.into(),
        totals.filtered.into(),
        pipeline(),
        split.as_str().as_bytes().into(),
        token.into(),
        checkpoint.after.as_ref().map(Position::as_bytes).into(),
        checkpoint.epoch.get().wrapping_sub(1).into(),
        pipeline(),
        token.into(),
    ];
    let fence = if planted(Mistake::NoFence) { NO_FENCE } else { FENCE };
    let sql = format!("{ADVANCE} AND {fence}");
    Ok(session.run("advancing the position", &sql, Params::Positional(params)).await? == 1)
}

/// Where each split stands, by name.
pub(crate) async fn standings(
    session: &mut Session,
    pipeline: &PipelineName,
) -> Result<Vec<(SplitId, Standing)>, DatabaseFault> {
    let sql = format!("SELECT split, {STANDING} FROM _hapax_positions WHERE pipeline = ? ORDER BY split");
    let rows = session.rows("reading positions", &sql, (pipeline.as_str(),)).await?;
    Ok(rows.iter().map(|row| (split(row, 0), standing(row, 1))).collect())
}

pub(super) fn split(row: &Row, index: usize) -> SplitId {
    SplitId::new(text(row, index).unwrap_or_default())
}

/// Sets records aside; those that are aside already stay as they are.
pub(crate) async fn set_aside(
    session: &mut Session,
    pipeline: &PipelineName,
    letters: &[DeadLetter],
) -> Result<(), DatabaseFault> {
    let sql = "INSERT INTO _hapax_dead_letters (pipeline, split, ordinal, code, reason, raw, set_aside_unix_ms) \
               VALUES (?, ?, ?, ?, ?, ?, ?) ON DUPLICATE KEY UPDATE code = code";
    for letter in letters {
        let params = (
            pipeline.as_str(),
            letter.place.split.as_str().as_bytes(),
            letter.place.ordinal,
            letter.code.0,
            letter.reason.as_str(),
            letter.raw.as_str(),
            letter.set_aside_unix_ms,
        );
        session.run("setting aside", sql, params).await?;
    }
    Ok(())
}

/// The dead letters of a pipeline, by place.
pub(crate) async fn dead_letters(
    session: &mut Session,
    pipeline: &PipelineName,
    letters_max: usize,
) -> Result<Vec<DeadLetter>, DatabaseFault> {
    let sql = format!(
        "SELECT {LETTER} FROM _hapax_dead_letters WHERE pipeline = ? ORDER BY split, ordinal LIMIT ?"
    );
    let limit = u64::try_from(letters_max).unwrap_or(u64::MAX);
    let rows = session.rows("reading dead letters", &sql, (pipeline.as_str(), limit)).await?;
    Ok(rows.iter().map(letter).collect())
}

pub(super) const LETTER: &str = "split, ordinal, code, reason, raw, set_aside_unix_ms";

pub(super) fn letter(row: &Row) -> DeadLetter {
    let count = |index| number(row, index).unwrap_or(0);
    DeadLetter {
        place: Place { split: split(row, 0), ordinal: count(1) },
        code: Code(count(2).try_into().unwrap_or(0)),
        reason: text(row, 3).unwrap_or_default(),
        raw: text(row, 4).unwrap_or_default(),
        set_aside_unix_ms: count(5),
    }
}
