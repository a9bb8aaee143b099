//! Databases of a test's own on the real server, and statements on them by the server's own client library.
#![allow(dead_code)]

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, OnceLock};

use mysql_async::prelude::Queryable;
use mysql_async::{Conn, Opts, Row, Value};
use tokio::runtime::Runtime;

/// Databases that are dropped at the end. They never meet those of another test.
pub struct Scene {
    prefix: String,
    made: Mutex<Vec<String>>,
}

fn runtime() -> &'static Runtime {
    static RUNTIME: OnceLock<Runtime> = OnceLock::new();
    RUNTIME.get_or_init(|| {
        tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap()
    })
}

/// Waits for a future from synchronous code, on threads of its own.
fn wait<T: Send + 'static>(future: impl Future<Output = T> + Send + 'static) -> T {
    std::thread::spawn(|| runtime().block_on(future)).join().unwrap()
}

impl Scene {
    pub fn new() -> Self {
        static SCENES: AtomicU64 = AtomicU64::new(0);
        let number = SCENES.fetch_add(1, Ordering::SeqCst);
        Self { prefix: format!("hapax_{}_{number}", std::process::id()), made: Mutex::default() }
    }

    /// The name of a database of this test, and its creation if it is not there.
    pub fn name(&self, name: &str) -> String {
        let full = format!("{}_{}", self.prefix, name.replace('-', "_"));
        let mut made = self.made.lock().unwrap();
        if !made.contains(&full) {
            statements(hapax_conformance::server::mysql(), format!("CREATE DATABASE {full}"));
            made.push(full.clone());
        }
        full
    }

    /// The URL of a database of this test, and its creation if it is not there.
    pub fn database(&self, name: &str) -> String {
        format!("{}{}", hapax_conformance::server::mysql(), self.name(name))
    }

    /// Runs statements in a database.
    pub fn run(&self, name: &str, sql: &str) {
        statements(self.database(name), sql.to_owned());
    }

    /// The rows of a query, each as text.
    pub fn rows(&self, name: &str, sql: &str) -> Vec<Vec<String>> {
        let (url, sql) = (self.database(name), sql.to_owned());
        let rows: Vec<Row> = wait(async move {
            let mut connection = connect(&url).await;
            let rows = connection.query(sql).await.unwrap();
            connection.disconnect().await.unwrap();
            rows
        });
        let shown = |value: Value| match value {
            Value::NULL => "NULL".to_owned(),
            Value::Bytes(bytes) => String::from_utf8_lossy(&bytes).into_owned(),
            other => other.as_sql(true),
        };
        rows.into_iter().map(|row| row.unwrap().into_iter().map(shown).collect()).collect()
    }

    /// The numbers of a query with one column.
    pub fn numbers(&self, name: &str, sql: &str) -> Vec<i64> {
        self.rows(name, sql).iter().map(|row| row[0].parse().unwrap()).collect()
    }
}

impl Drop for Scene {
    fn drop(&mut self) {
        let made = std::mem::take(&mut *self.made.lock().unwrap_or_else(std::sync::PoisonError::into_inner));
        let drops: String = made.iter().map(|name| format!("DROP DATABASE IF EXISTS {name};")).collect();
        if !drops.is_empty() {
            statements(hapax_conformance::server::mysql(), drops);
        }
    }
}

pub async fn connect(url: &str) -> Conn {
    Conn::new(Opts::from_url(&format!("{url}?prefer_socket=false")).unwrap()).await.unwrap()
}

fn statements(url: String, sql: String) {
    wait(async move {
        let mut connection = connect(&url).await;
        connection.query_drop(sql).await.unwrap();
        connection.disconnect().await.unwrap();
    });
}
