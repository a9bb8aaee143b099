//! The command with PostgreSQL as destination: what it promises, what it shows, and what it does not.
// A test fails by panicking; its numbers are small.
#![allow(
    clippy::as_conversions,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::print_stderr,
    clippy::print_stdout,
    clippy::unwrap_used
)]

use std::fs;
use std::process::{Command, Output};
use std::sync::atomic::{AtomicU64, Ordering};

use tempfile::TempDir;
use tokio_postgres::{Config, NoTls, Row};

/// A folder for files, and a schema that only a role of its own writes to.
struct Case {
    folder: TempDir,
    name: String,
}

const SECRET: &str = "s3cret-Of-The-Test";

impl Case {
    fn new() -> Self {
        static COUNT: AtomicU64 = AtomicU64::new(0);
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let case = Self {
            folder: tempfile::tempdir().unwrap(),
            name: format!("hapax_cli_{}_{count}", std::process::id()),
        };
        let name = &case.name;
        case.sql(&format!(
            "CREATE ROLE {name} LOGIN PASSWORD '{SECRET}'; CREATE SCHEMA {name} AUTHORIZATION {name}"
        ));
        case
    }

    /// The URL, with this in the place of the password.
    fn url(&self, password: &str) -> String {
        let server = hapax_conformance::server::postgres();
        format!("postgres://{}:{password}@{}", self.name, server.rsplit_once('@').unwrap().1)
    }

    fn rows(&self, sql: &str) -> Vec<Row> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let server: Config = hapax_conformance::server::postgres().parse().unwrap();
            let (client, connection) = server.connect(NoTls).await.unwrap();
            tokio::spawn(connection);
            let sql = sql.replace("@@", &self.name);
            match sql.starts_with("SELECT") {
                true => client.query(&sql, &[]).await.unwrap(),
                false => client.batch_execute(&sql).await.map(|()| Vec::new()).unwrap(),
            }
        })
    }

    fn sql(&self, sql: &str) {
        self.rows(sql);
    }

    fn put(&self, name: &str, text: &str) {
        fs::write(self.folder.path().join(name), text).unwrap();
    }

    fn hapax(&self, arguments: &[&str]) -> (i32, String) {
        self.hapax_with(SECRET, arguments)
    }

    /// Runs the command in the folder, with the password in the environment. What it says never shows it.
    fn hapax_with(&self, password: &str, arguments: &[&str]) -> (i32, String) {
        let mut command = Command::new(env!("CARGO_BIN_EXE_hapax"));
        let command = command.args(arguments).current_dir(self.folder.path()).env("TEST_PASSWORD", password);
        let Output { status, stdout, stderr } = command.output().unwrap();
        let said = format!("{}{}", String::from_utf8_lossy(&stdout), String::from_utf8_lossy(&stderr));
        assert!(!said.contains(password), "it shows the password: {said}");
        (status.code().unwrap(), said)
    }

    /// A pipeline into the table `t`, with what else its sink and the file say.
    fn pipeline(&self, sink: &str, rest: &str) {
        let (name, url) = (&self.name, self.url("${env:TEST_PASSWORD}"));
        self.put(
            "p.yaml",
            &format!(
                "name: p\nsource:\n  files: {{ path: in.csv }}\nsink:\n  postgres: {{ url: \"{url}\", table: {name}.t{sink} }}\n{rest}"
            ),
        );
    }
}

impl Drop for Case {
    fn drop(&mut self) {
        let name = &self.name;
        self.sql(&format!(
            "SET client_min_messages = error; DROP SCHEMA {name} CASCADE; DROP OWNED BY {name}; DROP ROLE {name}"
        ));
    }
}

#[test]
fn a_file_is_copied_once_however_often_it_is_asked_for() {
    let case = Case::new();
    case.put("in.csv", "id,name\n1,a\n2,b\n");
    let to = format!("{}?table={}.t", case.url(SECRET), case.name);
    let copy = ["copy", "--from", "in.csv", "--to", &to, "--key", "id"];
    let (code, said) = case.hapax(&copy);
    assert!(
        code == 0 && said.contains("moved 2 records") && said.contains("exactly-once (rule 2)"),
        "{said}"
    );
    // A new password makes no new pipeline.
    case.sql("ALTER ROLE @@ PASSWORD 'another-Secret'");
    let again = to.replace(SECRET, "another-Secret");
    let (code, said) =
        case.hapax_with("another-Secret", &["copy", "--from", "in.csv", "--to", &again, "--key", "id"]);
    assert!(code == 0 && said.contains("nothing new"), "{said}");
    let (code, said) = case.hapax(&copy);
    assert!(code == 1 && said.contains("HX0505"), "{said}");
    assert_eq!(case.rows("SELECT count(*) FROM @@.t")[0].get::<_, i64>(0), 2);
    let (code, said) = case.hapax(&["copy", "--from", "in.csv", "--to", &case.url(SECRET)]);
    assert!(code == 2 && said.contains("which table"), "{said}");
}

#[test]
fn a_plan_says_what_is_made_and_what_is_promised() {
    let case = Case::new();
    case.put("in.csv", "id,at\n1,2024-01-01T00:00:00Z\n");
    case.pipeline(", write: upsert", "identity: { key: [id] }\n");
    let (code, said) = case.hapax(&["plan", "p.yaml"]);
    assert_eq!(code, 0, "{said}");
    for words in [
        "guarantee  exactly-once",
        "(rule 2)",
        ":${env:TEST_PASSWORD}@",
        "\"id\" bigint, \"at\" timestamp with time zone, PRIMARY KEY (\"id\")",
        "create the tables _hapax_leases",
    ] {
        assert!(said.contains(words), "{words}: {said}");
    }
    assert!(case.rows("SELECT 1 FROM pg_tables WHERE schemaname = '@@'").is_empty(), "a plan makes nothing");
    case.sql("CREATE TABLE @@.t (id bigint PRIMARY KEY); ALTER TABLE @@.t OWNER TO @@");
    for command in ["plan", "run"] {
        let (code, said) = case.hapax(&[command, "p.yaml"]);
        assert!(code != 0 && said.contains("HX0519") && said.contains("schema_changes: add"), "{said}");
    }
    case.pipeline(", write: upsert, schema_changes: add", "identity: { key: [id] }\n");
    assert_eq!(case.hapax(&["run", "p.yaml"]).0, 0);
    assert_eq!(case.rows("SELECT at FROM @@.t WHERE at IS NOT NULL").len(), 1);
}

#[test]
fn what_is_refused_is_set_aside_mended_and_moved() {
    let case = Case::new();
    case.put("in.csv", "id,amount\n1,1.5\n2,-1\n3,2.25\n");
    case.sql(
        "CREATE TABLE @@.t (id bigint PRIMARY KEY, amount float8 CHECK (amount > 0)); \
              ALTER TABLE @@.t OWNER TO @@",
    );
    case.pipeline("", "identity: { key: [id] }\n");
    let (code, said) = case.hapax(&["run", "p.yaml"]);
    assert!(code == 0 && said.contains("moved 2 records") && said.contains("1 set aside"), "{said}");
    let (_, said) = case.hapax(&["dead-letters", "list", "p.yaml"]);
    assert!(said.contains("HX0526") && said.contains("check constraint"), "{said}");
    case.sql("ALTER TABLE @@.t DROP CONSTRAINT t_amount_check");
    let (code, said) = case.hapax(&["dead-letters", "replay", "p.yaml", "--all"]);
    assert!(code == 0 && said.contains("1 record moved"), "{said}");
    let (code, said) = case.hapax(&["verify", "p.yaml"]);
    assert!(code == 0 && said.contains("equal"), "{said}");
    // What was lost at the destination is moved again, and nothing else.
    case.sql("DELETE FROM @@.t WHERE id = 3");
    assert_eq!(case.hapax(&["verify", "p.yaml"]).0, 4);
    let (_, said) = case.hapax(&["verify", "p.yaml", "--repair"]);
    let (code, verified) = case.hapax(&["verify", "p.yaml"]);
    assert_eq!(code, 0, "{said}{verified}");
    let (code, said) = case.hapax(&["drill", "p.yaml"]);
    // A scratch schema of its own is more than this role may make.
    assert!(code == 1 && said.contains("HX0507") && said.contains("making a scratch schema"), "{said}");
    case.sql("GRANT CREATE ON DATABASE postgres TO @@");
    let (code, said) = case.hapax(&["drill", "p.yaml", "--kills", "1", "--seed", "1"]);
    assert!(code == 0 && said.contains("exactly-once"), "{said}");
    case.sql("REVOKE CREATE ON DATABASE postgres FROM @@");
}
