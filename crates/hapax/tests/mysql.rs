//! Pipelines out of a real MariaDB or MySQL database, as a person runs them.
// A test fails by panicking; its numbers are small.
#![allow(clippy::expect_used, clippy::indexing_slicing, clippy::panic, clippy::unwrap_used)]

use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use mysql_async::prelude::Queryable;
use mysql_async::{Conn, Opts, OptsBuilder};
use tokio_postgres::{Config, NoTls};

/// A database that is dropped at the end of the test.
enum Database {
    Mysql(String),
    Postgres(String),
}

impl Database {
    fn new(server: fn(String) -> Self) -> Self {
        let database = server(format!("hapax_from_mysql_{}", std::process::id()));
        let name = database.name();
        database.at_server(&format!("DROP DATABASE IF EXISTS {name}"));
        database.at_server(&format!("CREATE DATABASE {name}"));
        database
    }

    fn name(&self) -> &str {
        match self {
            Self::Mysql(name) | Self::Postgres(name) => name,
        }
    }

    fn server(&self) -> String {
        match self {
            Self::Mysql(_) => hapax_conformance::server::mysql(),
            Self::Postgres(_) => hapax_conformance::server::postgres(),
        }
    }

    fn url(&self) -> String {
        format!("{}/{}", self.server().rsplit_once('/').unwrap().0, self.name())
    }

    fn at_server(&self, sql: &str) {
        self.at(&self.server(), sql);
    }

    fn sql(&self, sql: &str) -> Option<String> {
        self.at(&self.url(), sql)
    }

    /// Runs statements, and returns what the first row has in its first column.
    fn at(&self, url: &str, sql: &str) -> Option<String> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            match self {
                Self::Mysql(_) => {
                    let options = OptsBuilder::from_opts(Opts::from_url(url).unwrap()).prefer_socket(false);
                    let mut connection = Conn::new(options).await.unwrap();
                    connection.query_first(sql).await.unwrap()
                }
                Self::Postgres(_) => {
                    let (client, connection) = url.parse::<Config>().unwrap().connect(NoTls).await.unwrap();
                    tokio::spawn(connection);
                    let rows = client.simple_query(sql).await.unwrap();
                    rows.iter().rev().find_map(|message| match message {
                        tokio_postgres::SimpleQueryMessage::Row(row) => Some(row.get(0)?.to_owned()),
                        _ => None,
                    })
                }
            }
        })
    }
}

impl Drop for Database {
    fn drop(&mut self) {
        let force = if matches!(self, Self::Postgres(_)) { " WITH (FORCE)" } else { "" };
        self.at_server(&format!("DROP DATABASE {}{force}", self.name()));
    }
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

fn hapax(arguments: &[&str], variables: &[(&str, String)], in_folder: &Path) -> Output {
    let output = Command::new(env!("CARGO_BIN_EXE_hapax"))
        .current_dir(in_folder)
        .args(arguments)
        .envs(variables.iter().map(|(name, value)| (name, value)))
        .stdin(Stdio::null())
        .output()
        .unwrap();
    let said =
        format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert_eq!(output.status.code(), Some(0), "{arguments:?}\n{said}");
    for (_, url) in variables {
        let password = url.split(['@', ':']).nth(2).unwrap();
        assert!(!said.contains(password), "{arguments:?} shows a password");
    }
    output
}

fn moved(file: &str, variables: &[(&str, String)]) -> i64 {
    let output = hapax(&["run", file, "--json"], variables, &root());
    let document: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    document["moved"].as_i64().unwrap()
}

#[test]
fn the_example_runs() {
    let (source, target) = (Database::new(Database::Mysql), Database::new(Database::Postgres));
    source.sql(&std::fs::read_to_string(root().join("examples/data/shop.mysql.sql")).unwrap());
    let file = "examples/mysql-to-postgres.yaml";
    let urls = [("SOURCE_URL", source.url()), ("TARGET_URL", target.url())];
    hapax(&["validate", file], &urls, &root());
    hapax(&["plan", file], &urls, &root());
    let all = |wanted: i64| {
        // Rows are left alone until nothing older can commit: 2 seconds, and longer where others work.
        let arrived = (0..200).map(|_| moved(file, &urls)).scan(0, |sum, moved| {
            *sum += moved;
            Some(*sum)
        });
        arrived.into_iter().find(|sum| *sum >= wanted)
    };
    assert_eq!(all(500), Some(500));
    hapax(&["verify", file], &urls, &root());
    let sum = "SELECT sum(amount) FROM ";
    let expected = source.sql(&format!("{sum}orders"));
    assert_eq!(target.sql(&format!("{sum}orders_from_mysql")), expected);
    source.sql("UPDATE orders SET amount = 0 WHERE id <= 3");
    assert_eq!(all(3), Some(3));
    assert_eq!(target.sql("SELECT count(*) FROM orders_from_mysql WHERE amount = 0").as_deref(), Some("3"));
    hapax(&["verify", file], &urls, &root());
}

#[test]
fn a_table_goes_out_and_back_on_the_command_line() {
    let database = Database::new(|name| Database::Mysql(format!("{name}_copy")));
    database.sql(&std::fs::read_to_string(root().join("examples/data/shop.mysql.sql")).unwrap());
    let folder = tempfile::tempdir().unwrap();
    let at = |table: &str| format!("{}?table={table}", database.url());
    let copy = |from: &str, to: &str| {
        hapax(&["copy", "--from", from, "--to", to, "--key", "id"], &[], folder.path())
    };
    copy(&at("orders"), "orders.parquet");
    copy("orders.parquet", &at("back"));
    let same = "SELECT count(*) FROM orders o JOIN back b ON b.id = o.id AND b.customer = o.customer \
                AND b.amount = o.amount AND b.changed_at = o.changed_at AND JSON_EQUALS(b.details, o.details)";
    assert_eq!(database.sql(same).as_deref(), Some("500"));
    let copied = copy("orders.parquet", &at("back"));
    assert!(String::from_utf8_lossy(&copied.stdout).contains("nothing new"), "{copied:?}");
}
