//! A destination in PostgreSQL: a schema of its own for each pipeline, looked into by other means than Hapax.

use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};

use tokio_postgres::{Client, Config, Error, NoTls, Row};

use crate::data::Record;

/// The file in the folder of a destination that names its schema.
const FILE: &str = "schema";

/// A schema that is dropped with its pipeline.
pub struct Schema(String);

impl Schema {
    /// Makes one for the destination of this folder.
    pub fn create(folder: &Path) -> Self {
        static COUNT: AtomicU64 = AtomicU64::new(0);
        let name = format!("hapax_kill_{}_{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
        std::fs::write(folder.join(FILE), &name).unwrap();
        let sql = format!("DROP SCHEMA IF EXISTS {name} CASCADE; CREATE SCHEMA {name}");
        asked(async move |client| client.batch_execute(&sql).await).unwrap();
        Self(name)
    }

    pub fn name(&self) -> &str {
        &self.0
    }
}

impl Drop for Schema {
    fn drop(&mut self) {
        let sql = format!("SET client_min_messages = error; DROP SCHEMA IF EXISTS {} CASCADE", self.0);
        let _ = asked(async move |client| client.batch_execute(&sql).await);
    }
}

fn asked<T>(work: impl AsyncFnOnce(Client) -> Result<T, Error>) -> Result<T, Error> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let server: Config = hapax_conformance::server::postgres().parse().unwrap();
        let (client, connection) = server.connect(NoTls).await.unwrap();
        tokio::spawn(connection);
        work(client).await
    })
}

fn rows(folder: &Path, sql: &str) -> Result<Vec<Row>, Error> {
    let schema = std::fs::read_to_string(folder.join(FILE)).unwrap();
    let sql = sql.replace("SCHEMA", &schema);
    asked(async move |client| client.query(&sql, &[]).await)
}

const RECORDS: &str = "SELECT writer, sequence, amount, text, hash FROM SCHEMA.events";

fn record(row: &Row) -> Record {
    Record {
        writer: row.get(0),
        sequence: row.get(1),
        amount: row.get(2),
        text: row.get(3),
        hash: row.get(4),
    }
}

/// The table, which must be there.
pub fn records(folder: &Path) -> Vec<Record> {
    rows(folder, RECORDS).unwrap().iter().map(record).collect()
}

/// The table and what the positions beside it count, at one moment. `None` if there is nothing to look at.
pub fn glance(folder: &Path) -> Option<(Vec<Record>, i64)> {
    let moved = "(SELECT coalesce(sum(moved), 0)::bigint FROM SCHEMA._hapax_positions)";
    let sql = format!("SELECT e.*, {moved} FROM (SELECT) one LEFT JOIN ({RECORDS}) e ON true");
    // Before the tables are made the query fails.
    let rows = rows(folder, &sql).ok()?;
    let moved = rows.first()?.get(5);
    let there = rows.iter().filter(|row| row.get::<_, Option<i64>>(0).is_some());
    Some((there.map(record).collect(), moved))
}

/// How many records are set aside.
pub fn letters(folder: &Path) -> usize {
    let count: i64 = rows(folder, "SELECT count(*) FROM SCHEMA._hapax_dead_letters").unwrap()[0].get(0);
    count as usize
}
