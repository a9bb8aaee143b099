//! A database of its own for each test, and the statements that look into it by other means than Hapax.

use std::sync::atomic::{AtomicU64, Ordering};

use tokio_postgres::{Client, Config, NoTls, Row};

/// A database that is dropped at the end of the test.
pub struct Database {
    server: String,
    name: String,
}

impl Database {
    pub fn new() -> Self {
        Self::on(hapax_conformance::server::postgres())
    }

    /// On the server of this URL.
    pub fn on(server: String) -> Self {
        static COUNT: AtomicU64 = AtomicU64::new(0);
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let name = format!("hapax_test_{}_{count}", std::process::id());
        // One of a test that was killed, whose process had the same number.
        aside(&server, format!("DROP DATABASE IF EXISTS {name} WITH (FORCE)"));
        aside(&server, format!("CREATE DATABASE {name}"));
        Self { server, name }
    }

    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its URL, for a user who may do everything.
    pub fn url(&self) -> String {
        let (before, _) = self.server.rsplit_once('/').unwrap();
        format!("{before}/{}", self.name)
    }

    /// Its URL, for another user.
    pub fn url_as(&self, user: &str, password: &str) -> String {
        format!("postgres://{user}:{password}@{}/{}", self.host(), self.name)
    }

    /// Host and port of the server.
    pub fn host(&self) -> &str {
        self.server.rsplit_once('@').unwrap().1.split_once('/').unwrap().0
    }

    /// Its URL, through another port of this machine.
    pub fn url_through(&self, port: u16) -> String {
        self.url().replace(&format!("@{}/", self.host()), &format!("@127.0.0.1:{port}/"))
    }

    pub async fn client(&self) -> Client {
        connected(&self.url()).await
    }

    pub async fn sql(&self, sql: &str) {
        self.client().await.batch_execute(sql).await.unwrap();
    }

    pub async fn rows(&self, sql: &str) -> Vec<Row> {
        self.client().await.query(sql, &[]).await.unwrap()
    }

    pub async fn count(&self, sql: &str) -> i64 {
        self.rows(sql).await[0].get(0)
    }

    pub async fn texts(&self, sql: &str) -> Vec<String> {
        self.rows(sql).await.iter().map(|row| row.get(0)).collect()
    }

    /// The numbers of a query, where nothing can be waited for; none if there is no such table.
    pub fn numbers(&self, sql: &str) -> Vec<i64> {
        let (url, sql) = (self.url(), sql.to_owned());
        let asked = blocking(async move { connected(&url).await.query(&sql, &[]).await });
        asked.unwrap_or_default().iter().map(|row| row.get(0)).collect()
    }
}

impl Drop for Database {
    fn drop(&mut self) {
        let (server, sql) = (self.server.clone(), format!("DROP DATABASE {} WITH (FORCE)", self.name));
        // A server that the test stopped takes its databases along.
        let _ = blocking(async move {
            let (client, connection) = server.parse::<Config>().unwrap().connect(NoTls).await?;
            tokio::spawn(connection);
            client.batch_execute(&sql).await
        });
    }
}

async fn connected(url: &str) -> Client {
    let (client, connection) = url.parse::<Config>().unwrap().connect(NoTls).await.unwrap();
    tokio::spawn(connection);
    client
}

fn aside(server: &str, sql: String) {
    let server = server.to_owned();
    blocking(async move { connected(&server).await.batch_execute(&sql).await }).unwrap();
}

fn blocking<T: Send + 'static>(work: impl Future<Output = T> + Send + 'static) -> T {
    let runtime = || tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    std::thread::spawn(move || runtime().block_on(work)).join().unwrap()
}

/// A server of this test alone, which it may stop.
pub struct Service {
    folder: std::path::PathBuf,
    _own: tempfile::TempDir,
}

impl Service {
    pub fn start() -> Self {
        use std::os::unix::fs::PermissionsExt;
        let own = tempfile::tempdir().unwrap();
        // The server may run as another user.
        std::fs::set_permissions(own.path(), std::fs::Permissions::from_mode(0o755)).unwrap();
        let service = Self { folder: own.path().join("server"), _own: own };
        service.again();
        service
    }

    pub fn folder(&self) -> &std::path::Path {
        &self.folder
    }

    pub fn url(&self) -> String {
        std::fs::read_to_string(self.folder.join("url")).unwrap().trim().to_owned()
    }

    pub fn again(&self) {
        self.command(&["start"], "fast");
    }

    pub fn stop(&self, mode: &str) {
        self.command(&["stop"], mode);
    }

    fn command(&self, arguments: &[&str], mode: &str) {
        let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
        let mut command = std::process::Command::new(root.join("services/postgres"));
        let ran = command.args(arguments).arg(&self.folder).env("HAPAX_STOP", mode).output().unwrap();
        assert!(ran.status.success(), "{}", String::from_utf8_lossy(&ran.stderr));
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        self.stop("immediate");
    }
}
