//! The ledger of identities: a table inside the commit, which its primary key keeps exact.

use hapax_engine::ledger::Statistics;
use hapax_engine::sink::Arrival;
use hapax_protocol::guarantee::Window;
use hapax_protocol::identity::{Place, RecordId};
use hapax_protocol::lease::PipelineName;
use hapax_protocol::ledger::{Claim, decide};
use hapax_protocol::position::SplitId;
use tokio_postgres::Error;
use tokio_postgres::types::{IsNull, ToSql, Type, to_sql_checked};

use super::tables::{Tables, number, stored};
use crate::client::Session;

/// An identity as PostgreSQL stores 16 bytes.
#[derive(Debug)]
struct Id(RecordId);

impl ToSql for Id {
    fn to_sql(
        &self,
        _: &Type,
        out: &mut bytes::BytesMut,
    ) -> Result<IsNull, Box<dyn std::error::Error + Sync + Send>> {
        let Self(RecordId(id)) = self;
        out.extend_from_slice(id);
        Ok(IsNull::No)
    }

    fn accepts(of: &Type) -> bool {
        *of == Type::UUID
    }

    to_sql_checked!();
}

impl Tables {
    /// Claims identities in the open transaction: one answer per arrival, in order.
    pub(crate) async fn claim(
        &self,
        session: &Session,
        pipeline: &PipelineName,
        split: &SplitId,
        arrivals: &[Arrival],
    ) -> Result<Vec<Claim<Place>>, Error> {
        let ids: Vec<Id> = arrivals.iter().map(|arrival| Id(arrival.id)).collect();
        let ordinals: Vec<i64> = arrivals.iter().map(|arrival| stored(arrival.ordinal)).collect();
        // In the order of the identities, so that two who claim the same ones wait for each other in one order.
        let sql = "INSERT INTO _hapax_ledger (pipeline, id, split, ordinal) \
                   SELECT DISTINCT ON (a.id) $1, a.id, $2, a.ordinal \
                   FROM unnest($3::uuid[], $4::bigint[]) WITH ORDINALITY a(id, ordinal, n) ORDER BY a.id, a.n \
                   ON CONFLICT DO NOTHING";
        let sql = session.prepared(self.sql(sql)).await?;
        let pipeline = pipeline.as_str();
        let split_name = split.as_str();
        let params: [&(dyn ToSql + Sync); 4] = [&pipeline, &split_name, &ids, &ordinals];
        let claimed = session.execute(&sql, &params).await?;
        if usize::try_from(claimed) == Ok(arrivals.len()) {
            return Ok(arrivals.iter().map(|_| Claim::New).collect());
        }
        // A claim of this transaction is new, unless an earlier arrival of this call made it.
        let look = "SELECT l.split, l.ordinal, l.xmin = pg_current_xact_id()::xid \
                   FROM unnest($2::uuid[]) WITH ORDINALITY a(id, n) \
                   JOIN _hapax_ledger l ON l.pipeline = $1 AND l.id = a.id ORDER BY a.n";
        let look = session.prepared(self.sql(look)).await?;
        let mut rows = session.query(&look, &[&pipeline, &ids]).await?;
        // An identity that was in the way was let go since, because it is too old: it can be claimed now.
        while rows.len() < arrivals.len() {
            session.execute(&sql, &params).await?;
            rows = session.query(&look, &[&pipeline, &ids]).await?;
        }
        let mut claims = Vec::with_capacity(arrivals.len());
        for (row, arrival) in rows.iter().zip(arrivals) {
            let first = Place { split: SplitId::new(row.try_get::<_, &str>(0)?), ordinal: number(row, 1)? };
            let at = Place { split: split.clone(), ordinal: arrival.ordinal };
            let of_this_commit: bool = row.try_get(2)?;
            claims.push(match decide(Some(first), &at) {
                Claim::Replay if of_this_commit => Claim::New,
                claim => claim,
            });
        }
        Ok(claims)
    }

    /// Takes back what these arrivals claimed in the open transaction.
    pub(crate) async fn withdraw(
        &self,
        session: &Session,
        pipeline: &PipelineName,
        split: &SplitId,
        arrivals: &[Arrival],
    ) -> Result<(), Error> {
        let ids: Vec<Id> = arrivals.iter().map(|arrival| Id(arrival.id)).collect();
        let ordinals: Vec<i64> = arrivals.iter().map(|arrival| stored(arrival.ordinal)).collect();
        let sql = "DELETE FROM _hapax_ledger l USING unnest($3::uuid[], $4::bigint[]) a(id, ordinal) \
                   WHERE l.pipeline = $1 AND l.id = a.id AND l.split = $2 AND l.ordinal = a.ordinal \
                   AND l.xmin = pg_current_xact_id()::xid";
        let sql = session.prepared(self.sql(sql)).await?;
        session.execute(&sql, &[&pipeline.as_str(), &split.as_str(), &ids, &ordinals]).await?;
        Ok(())
    }

    /// What it holds of a pipeline, as the last commit left it. The bytes are those of all pipelines together.
    pub(crate) async fn ledger_holds(
        &self,
        session: &Session,
        pipeline: &PipelineName,
    ) -> Result<Option<Statistics>, Error> {
        if !self.present(session, "_hapax_ledger").await? {
            return Ok(None);
        }
        let sql = "SELECT count(*), (extract(epoch FROM min(claimed_at)) * 1000)::bigint, \
                   pg_total_relation_size($2::text::regclass) FROM _hapax_ledger WHERE pipeline = $1";
        let row =
            session.query_one(&self.sql(sql), &[&pipeline.as_str(), &self.sql("_hapax_ledger")]).await?;
        let oldest: Option<i64> = row.try_get(1)?;
        let held = Statistics {
            identities: Some(number(&row, 0)?),
            bytes: Some(number(&row, 2)?),
            oldest_unix_ms: oldest.map(|ms| u64::try_from(ms).unwrap_or(0)),
        };
        Ok((held.identities > Some(0)).then_some(held))
    }

    /// Lets go identities that are older than `retention`, at most so many; those that somebody else is about to let go
    /// are left to him. Returns how many.
    pub(crate) async fn prune(
        &self,
        session: &Session,
        pipeline: &PipelineName,
        retention: Window,
        identities_max: u32,
    ) -> Result<u64, Error> {
        let sql = "DELETE FROM _hapax_ledger WHERE pipeline = $1 AND id IN ( \
                   SELECT id FROM _hapax_ledger WHERE pipeline = $1 \
                   AND claimed_at < now() - $2::bigint * interval '1 millisecond' \
                   ORDER BY claimed_at LIMIT $3 FOR UPDATE SKIP LOCKED)";
        let sql = session.prepared(self.sql(sql)).await?;
        let Window(ms) = retention;
        let ms = stored(ms);
        session.execute(&sql, &[&pipeline.as_str(), &ms, &i64::from(identities_max)]).await
    }

    /// Makes the index by which old identities are found, if it is missing. Belongs into a transaction.
    pub(crate) async fn index_by_age(&self, session: &Session) -> Result<(), Error> {
        let sql = "CREATE INDEX IF NOT EXISTS hapax_ledger_age ON _hapax_ledger (pipeline, claimed_at)";
        session.batch_execute(&self.sql(sql)).await
    }

    /// Whether there is an index by which old identities are found.
    pub(crate) async fn finds_by_age(&self, session: &Session) -> Result<bool, Error> {
        let sql = "SELECT EXISTS (SELECT 1 FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace \
                   WHERE n.nspname = $1 AND c.relname = 'hapax_ledger_age')";
        session.query_one(sql, &[&self.schema]).await?.try_get(0)
    }

    /// The place that claimed an identity, as the last commit left it.
    pub(crate) async fn claimant(
        &self,
        session: &Session,
        pipeline: &PipelineName,
        id: &RecordId,
    ) -> Result<Option<Place>, Error> {
        if !self.present(session, "_hapax_ledger").await? {
            return Ok(None);
        }
        let sql = self.sql("SELECT split, ordinal FROM _hapax_ledger WHERE pipeline = $1 AND id = $2");
        let row = session.query_opt(&sql, &[&pipeline.as_str(), &Id(*id)]).await?;
        let place = |row: &tokio_postgres::Row| {
            Ok(Place { split: SplitId::new(row.try_get::<_, &str>(0)?), ordinal: number(row, 1)? })
        };
        row.as_ref().map(place).transpose()
    }
}
