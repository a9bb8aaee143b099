//! A destination in MariaDB or MySQL: a database of its own for each pipeline, looked into by other means than Hapax.

use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};

use mysql_async::prelude::Queryable;
use mysql_async::{Conn, Opts, OptsBuilder, Result, Row};

use crate::data::Record;

/// The file in the folder of a destination that names its database.
const FILE: &str = "database";

/// A database that is dropped with its pipeline.
pub struct Database(String);

impl Database {
    /// Makes one for the destination of this folder.
    pub fn create(folder: &Path) -> Self {
        static COUNT: AtomicU64 = AtomicU64::new(0);
        let name = format!("hapax_kill_{}_{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
        std::fs::write(folder.join(FILE), &name).unwrap();
        let sql = format!("DROP DATABASE IF EXISTS {name}; CREATE DATABASE {name}");
        asked(async move |mut connection| connection.query_drop(sql).await).unwrap();
        Self(name)
    }

    pub fn url(&self) -> String {
        format!("{}{}", hapax_conformance::server::mysql(), self.0)
    }
}

impl Drop for Database {
    fn drop(&mut self) {
        let sql = format!("DROP DATABASE IF EXISTS {}", self.0);
        let _ = asked(async move |mut connection| connection.query_drop(sql).await);
    }
}

fn asked<T>(work: impl AsyncFnOnce(Conn) -> Result<T>) -> Result<T> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let server = Opts::from_url(&hapax_conformance::server::mysql()).unwrap();
        work(Conn::new(OptsBuilder::from_opts(server).prefer_socket(false)).await.unwrap()).await
    })
}

/// Numbers come as they are only in answers to prepared statements.
fn rows(folder: &Path, sql: &str) -> Result<Vec<Row>> {
    let database = std::fs::read_to_string(folder.join(FILE)).unwrap();
    let sql = sql.replace("DATABASE", &database);
    asked(async move |mut connection| connection.exec(sql, ()).await)
}

const RECORDS: &str = "SELECT writer, sequence, amount, text, hash FROM DATABASE.events";

fn record(row: &Row) -> Record {
    Record {
        writer: row.get(0).unwrap(),
        sequence: row.get(1).unwrap(),
        amount: row.get(2).unwrap(),
        text: row.get(3).unwrap(),
        hash: row.get(4).unwrap(),
    }
}

/// The table, which must be there.
pub fn records(folder: &Path) -> Vec<Record> {
    rows(folder, RECORDS).unwrap().iter().map(record).collect()
}

/// The table and what the positions beside it count, at one moment. `None` if there is nothing to look at.
pub fn glance(folder: &Path) -> Option<(Vec<Record>, i64)> {
    let moved = "(SELECT CAST(coalesce(sum(moved), 0) AS SIGNED) FROM DATABASE._hapax_positions)";
    let sql = format!("SELECT e.*, {moved} FROM (SELECT 1) one LEFT JOIN ({RECORDS}) e ON true");
    // Before the tables are made the query fails.
    let rows = rows(folder, &sql).ok()?;
    let moved = rows.first()?.get(5)?;
    let there = rows.iter().filter(|row| row.get::<Option<i64>, _>(0).flatten().is_some());
    Some((there.map(record).collect(), moved))
}

/// How many records are set aside.
pub fn letters(folder: &Path) -> usize {
    let count: i64 =
        rows(folder, "SELECT count(*) FROM DATABASE._hapax_dead_letters").unwrap()[0].get(0).unwrap();
    count as usize
}
