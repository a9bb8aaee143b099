//! Runs a command until all messages are in a table.

use std::io::{self, Write};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use tokio_postgres::{Client, NoTls};

/// How often the table is looked at.
const LOOK: Duration = Duration::from_millis(10);
/// How long a run may take.
const PATIENCE: Duration = Duration::from_secs(1800);

/// Connects, and leaves the connection to the runtime.
pub async fn connect(url: &str) -> io::Result<Client> {
    let (client, connection) = tokio_postgres::connect(url, NoTls).await.map_err(failed)?;
    tokio::spawn(async move { drop(connection.await) });
    Ok(client)
}

pub fn failed(error: tokio_postgres::Error) -> io::Error {
    let said = error.as_db_error().map(|said| said.message().to_owned());
    io::Error::other(said.unwrap_or_else(|| error.to_string()))
}

/// How many of some ids are visible.
async fn visible(client: &Client, ids: &[i64]) -> io::Result<i64> {
    let sql = "SELECT count(*) FROM target WHERE id = ANY($1)";
    client.query_one(sql, &[&ids]).await.map_err(failed)?.try_get(0).map_err(failed)
}

/// Prints seconds from the start of the command to when all is visible, and to when the first was. Each partition is
/// written in order, so its last message tells of all; what came is counted by whoever asks. The command is then
/// asked to end, if it did not by itself.
pub fn watch(url: &str, messages: i64, partitions: i64, command: &[&str]) -> io::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let client = connect(url).await?;
        let first: Vec<i64> = (0..partitions).collect();
        let last: Vec<i64> = first.iter().map(|id| messages - 1 - id).collect();
        let [program, arguments @ ..] = command else { return Err(super::usage()) };
        let start = Instant::now();
        let mut child = Command::new(program).args(arguments).stdin(Stdio::null()).spawn()?;
        let (mut first_at, mut ended) = (None, None);
        let all_at = loop {
            if first_at.is_none() && visible(&client, &first).await? > 0 {
                first_at = Some(start.elapsed());
            }
            if first_at.is_some() && visible(&client, &last).await? == partitions {
                break start.elapsed();
            }
            if start.elapsed() > PATIENCE || ended.is_some() {
                let _ = child.kill();
                return Err(io::Error::other(format!("not all came; the command: {ended:?}")));
            }
            ended = child.try_wait()?;
            tokio::time::sleep(LOOK).await;
        };
        if child.try_wait()?.is_none() {
            let asked = Command::new("kill").arg(child.id().to_string()).status()?;
            if !asked.success() {
                child.kill()?;
            }
        }
        child.wait()?;
        let (wall, first) = (all_at.as_secs_f64(), first_at.unwrap_or_default().as_secs_f64());
        writeln!(io::stdout(), "{{\"wall_s\": {wall:.3}, \"first_s\": {first:.3}}}")
    })
}
