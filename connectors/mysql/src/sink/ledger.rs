//! The ledger of identities: a table, in the transaction of the commit.

use std::collections::HashMap;
use std::fmt::Write as _;

use hapax_engine::ledger::Statistics;
use hapax_engine::sink::Arrival;
use hapax_protocol::guarantee::Window;
use hapax_protocol::identity::{Place, RecordId};
use hapax_protocol::lease::PipelineName;
use hapax_protocol::ledger::{Claim, decide};
use hapax_protocol::position::{Epoch, SplitId};
use mysql_async::prelude::Queryable;
use mysql_async::{Error, Row, ServerError};

use super::tables;
use crate::client::{Session, bytes, number};
use crate::fault::DatabaseFault;

/// How many identities one statement names.
const IDS_MAX: usize = 1_000;

/// There is an index of this name.
const DUPLICATE_INDEX: u16 = 1061;

/// Who claims: a pipeline, a split, and the number of the open commit.
pub(crate) struct Claimer<'a> {
    pub pipeline: &'a PipelineName,
    pub split: &'a SplitId,
    pub epoch: Epoch,
}

impl Claimer<'_> {
    /// Claims identities in the open transaction, one answer per arrival.
    pub(crate) async fn claim(
        &self,
        session: &mut Session,
        arrivals: &[Arrival],
    ) -> Result<Vec<Claim<Place>>, DatabaseFault> {
        // What is known of each identity: the place that claimed it, `None` once it is this call's to claim.
        let mut first: HashMap<RecordId, Place> = HashMap::with_capacity(arrivals.len());
        let mut known: HashMap<RecordId, Place> = HashMap::new();
        let mut wanted: Vec<Arrival> = Vec::with_capacity(arrivals.len());
        for arrival in arrivals {
            first.entry(arrival.id).or_insert_with(|| {
                wanted.push(*arrival);
                Place { split: self.split.clone(), ordinal: arrival.ordinal }
            });
        }
        // Whoever claims the same identities at once waits in the same order.
        wanted.sort_by_key(|arrival| arrival.id);
        for wanted in wanted.chunks(IDS_MAX) {
            known.extend(self.take(session, wanted).await?);
        }
        let answer = |arrival: &Arrival| {
            let at = Place { split: self.split.clone(), ordinal: arrival.ordinal };
            match (known.get(&arrival.id), first.get(&arrival.id)) {
                (Some(earlier), _) => decide(Some(earlier.clone()), &at),
                (None, Some(claimed)) if *claimed == at => Claim::New,
                (None, claimed) => decide(claimed.cloned(), &at),
            }
        };
        Ok(arrivals.iter().map(answer).collect())
    }

    /// Claims identities, each once, and returns the claimants of those that were not free.
    async fn take(
        &self,
        session: &mut Session,
        wanted: &[Arrival],
    ) -> Result<Vec<(RecordId, Place)>, DatabaseFault> {
        let doing = "claiming identities";
        let split = hex(self.split.as_str().as_bytes());
        let mut sql = String::from("INSERT INTO _hapax_ledger (pipeline, id, split, ordinal, epoch) VALUES ");
        for (index, arrival) in wanted.iter().enumerate() {
            let comma = if index > 0 { "," } else { "" };
            // Names of pipelines are letters, digits and `-_.` only.
            let _ = write!(
                sql,
                "{comma}('{}',X'{}',X'{split}',{},{})",
                self.pipeline,
                arrival.id,
                arrival.ordinal,
                self.epoch.get()
            );
        }
        sql.push_str(" ON DUPLICATE KEY UPDATE epoch = _hapax_ledger.epoch");
        session.say(doing, &sql).await?;
        let taken = session.connection.affected_rows();
        if taken == u64::try_from(wanted.len()).unwrap_or(u64::MAX) {
            return Ok(Vec::new());
        }
        let ids: Vec<String> = wanted.iter().map(|arrival| format!("X'{}'", arrival.id)).collect();
        let sql = format!(
            "SELECT id, split, ordinal, epoch FROM _hapax_ledger WHERE pipeline = '{}' AND id IN ({})",
            self.pipeline,
            ids.join(",")
        );
        let rows: Vec<Row> =
            session.connection.query(sql).await.map_err(|source| session.fault(doing, source))?;
        let places: HashMap<RecordId, u64> =
            wanted.iter().map(|arrival| (arrival.id, arrival.ordinal)).collect();
        let mut known = Vec::new();
        let mut fresh = 0;
        for row in &rows {
            let Some(id) = bytes(row, 0).and_then(|id| <[u8; 16]>::try_from(id).ok()).map(RecordId) else {
                return Err(session.misunderstood(doing));
            };
            let place = Place { split: tables::split(row, 1), ordinal: number(row, 2).unwrap_or(0) };
            let ours = place.split == *self.split
                && places.get(&id) == Some(&place.ordinal)
                && number(row, 3) == Some(self.epoch.get());
            if ours {
                fresh += 1;
            }
            known.push((id, place, ours));
        }
        // Of ours in the open commit, those that this statement claimed are new, and the rest is replayed. Which is
        // which shows where all of them are one or the other; a mixture passes either way.
        let all_new = fresh == taken;
        Ok(known
            .into_iter()
            .filter(|(_, _, ours)| !(*ours && all_new))
            .map(|(id, place, _)| (id, place))
            .collect())
    }

    /// Takes back what these arrivals claimed in the open commit.
    pub(crate) async fn withdraw(
        &self,
        session: &mut Session,
        arrivals: &[Arrival],
    ) -> Result<(), DatabaseFault> {
        let sql = "DELETE FROM _hapax_ledger WHERE pipeline = ? AND id = ? AND split = ? AND ordinal = ? AND epoch = ?";
        for arrival in arrivals {
            let params = (
                self.pipeline.as_str(),
                arrival.id.0.as_slice(),
                self.split.as_str().as_bytes(),
                arrival.ordinal,
                self.epoch.get(),
            );
            session.run("withdrawing claims", sql, params).await?;
        }
        Ok(())
    }
}

/// How many identities one statement forgets.
pub(crate) const FORGOTTEN_MAX: u64 = 5_000;

/// What the index is called that finds old identities.
const BY_AGE: &str = "_hapax_by_age";

/// Makes the index that finds old identities, if it is missing. It commits by itself.
pub(crate) async fn index_by_age(session: &mut Session) -> Result<(), DatabaseFault> {
    let doing = "making the ledger ready";
    let sql = "SELECT 1 FROM information_schema.STATISTICS WHERE TABLE_SCHEMA = DATABASE() \
               AND TABLE_NAME = '_hapax_ledger' AND INDEX_NAME = ?";
    if session.first(doing, sql, (BY_AGE,)).await?.is_some() {
        return Ok(());
    }
    let sql = format!("CREATE INDEX {BY_AGE} ON _hapax_ledger (pipeline, claimed_at)");
    match session.connection.query_drop(sql).await {
        // Somebody else was faster.
        Ok(()) | Err(Error::Server(ServerError { code: DUPLICATE_INDEX, .. })) => Ok(()),
        Err(source) => Err(session.fault(doing, source)),
    }
}

/// Forgets identities that were claimed longer ago, by the server's clock, than the ledger remembers: the oldest first,
/// at most [`FORGOTTEN_MAX`]. How many. Belongs outside of transactions.
pub(crate) async fn forget(
    session: &mut Session,
    pipeline: &PipelineName,
    retention: Window,
) -> Result<u64, DatabaseFault> {
    // Left to itself, the server reads all identities of the pipeline for it.
    let sql = format!(
        "DELETE l FROM _hapax_ledger l JOIN (SELECT pipeline, id FROM _hapax_ledger FORCE INDEX ({BY_AGE}) \
         WHERE pipeline = ? AND claimed_at < UTC_TIMESTAMP(3) - INTERVAL ? MICROSECOND ORDER BY claimed_at LIMIT ?) old \
         ON l.pipeline = old.pipeline AND l.id = old.id"
    );
    let micros = retention.0.saturating_mul(1_000);
    session.run("forgetting old identities", &sql, (pipeline.as_str(), micros, FORGOTTEN_MAX)).await
}

/// What the ledger holds of a pipeline; `None` if nothing was claimed.
pub(crate) async fn holds(
    session: &mut Session,
    pipeline: &PipelineName,
) -> Result<Option<Statistics>, DatabaseFault> {
    let sql = "SELECT count(*), CAST(TIMESTAMPDIFF(MICROSECOND, '1970-01-01', MIN(claimed_at)) DIV 1000 AS UNSIGNED) \
               FROM _hapax_ledger WHERE pipeline = ?";
    let row = session.first("counting identities", sql, (pipeline.as_str(),)).await?;
    let identities = row.as_ref().and_then(|row| number(row, 0)).filter(|identities| *identities > 0);
    Ok(identities.map(|identities| Statistics {
        identities: Some(identities),
        bytes: None,
        oldest_unix_ms: row.as_ref().and_then(|row| number(row, 1)),
    }))
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

/// The place that claimed an identity, as the last commit left it.
pub(crate) async fn claimant(
    session: &mut Session,
    pipeline: &PipelineName,
    id: &RecordId,
) -> Result<Option<Place>, DatabaseFault> {
    let sql = "SELECT split, ordinal FROM _hapax_ledger WHERE pipeline = ? AND id = ?";
    let row = session.first("reading the ledger", sql, (pipeline.as_str(), id.0.as_slice())).await?;
    Ok(row.map(|row| Place { split: tables::split(&row, 0), ordinal: number(&row, 1).unwrap_or(0) }))
}
