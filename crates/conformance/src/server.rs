//! The real servers that tests talk to.

use std::path::Path;
use std::process::Command;

use tempfile::TempDir;

/// A server of a test's own, which is stopped at its end: what is done to it meets nobody else.
pub struct Own {
    service: &'static str,
    variables: Vec<(&'static str, String)>,
    folder: TempDir,
}

impl Own {
    /// Starts `services/NAME` in a folder of its own, with these variables.
    pub fn start(service: &'static str, variables: &[(&'static str, &str)]) -> Self {
        let variables = variables.iter().map(|(name, value)| (*name, (*value).to_owned())).collect();
        let own = Self { service, variables, folder: tempfile::tempdir().unwrap() };
        own.say("start");
        own
    }

    /// Stops it, and starts it again at the same address, with what it keeps on its disk.
    pub fn restart(&self) {
        self.say("stop");
        self.say("start");
    }

    /// What stands in a file of its folder: `url`, and what else the service writes.
    pub fn says(&self, file: &str) -> String {
        std::fs::read_to_string(self.folder.path().join(file)).unwrap().trim().to_owned()
    }

    fn say(&self, what: &str) {
        let output = self.command(what).output().unwrap();
        assert!(output.status.success(), "services/{} {what}: {output:?}", self.service);
    }

    fn command(&self, what: &str) -> Command {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../services").join(self.service);
        let mut command = Command::new(script);
        command.arg(what).arg(self.folder.path());
        command.envs(self.variables.iter().map(|(name, value)| (name, value)));
        command
    }
}

impl Drop for Own {
    fn drop(&mut self) {
        let _ = self.command("stop").output();
    }
}

/// The URL of a PostgreSQL whose user may create databases and roles: `HAPAX_POSTGRES_URL`, or what
/// `services/postgres start` left. A test makes a database of its own there and drops it.
///
/// Panics where there is none, with the command that starts it.
pub fn postgres() -> String {
    find("HAPAX_POSTGRES_URL", "postgres")
}

/// The URL of a MariaDB or MySQL whose user may create databases and users: `HAPAX_MYSQL_URL`, or what
/// `services/mysql start` left. It ends with `/`. A test makes a database of its own there and drops it.
///
/// Panics where there is none, with the command that starts it.
pub fn mysql() -> String {
    find("HAPAX_MYSQL_URL", "mysql")
}

/// The URL of a RabbitMQ whose user may do everything in its virtual host: `HAPAX_RABBITMQ_URL`, or what
/// `services/rabbitmq start` left. A test declares queues of its own there and deletes them.
///
/// Panics where there is none, with the command that starts it.
pub fn rabbitmq() -> String {
    find("HAPAX_RABBITMQ_URL", "rabbitmq")
}

/// Where that broker tells about itself, as `http://user:password@host:port`: `HAPAX_RABBITMQ_MANAGEMENT`, or what
/// `services/rabbitmq start` left.
///
/// Panics where there is none, with the command that starts it.
pub fn rabbitmq_management() -> String {
    find_file("HAPAX_RABBITMQ_MANAGEMENT", "rabbitmq", "management")
}

/// The URL of a NATS server with JetStream: `HAPAX_NATS_URL`, or what `services/nats start` left. A test makes streams
/// of its own there and deletes them.
///
/// Panics where there is none, with the command that starts it.
pub fn nats() -> String {
    find("HAPAX_NATS_URL", "nats")
}

/// The address of a Kafka broker whose user may do everything: `HAPAX_KAFKA_BROKERS`, or what `services/kafka start`
/// left. A test makes topics of its own there and deletes them.
///
/// Panics where there is none, with the command that starts it.
pub fn kafka() -> String {
    find("HAPAX_KAFKA_BROKERS", "kafka")
}

/// The URL of a Redis of our own: `HAPAX_REDIS_URL`, or what `services/redis start` left. It ends with `/`: database 0. A
/// test uses keys that begin with a name of its own there, and removes them.
///
/// Panics where there is none, with the command that starts it.
pub fn redis() -> String {
    find("HAPAX_REDIS_URL", "redis")
}

/// The URL of a Milvus of our own: `HAPAX_MILVUS_URL`, or what `services/milvus start` left. It holds user and password,
/// who may do everything. A test makes collections of its own there and drops them.
///
/// Panics where there is none, with the command that starts it.
pub fn milvus() -> String {
    find("HAPAX_MILVUS_URL", "milvus")
}

fn find(variable: &str, service: &str) -> String {
    find_file(variable, service, "url")
}

fn find_file(variable: &str, service: &str, file: &str) -> String {
    if let Ok(url) = std::env::var(variable) {
        return url;
    }
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../.cache/services").join(service);
    match std::fs::read_to_string(folder.join(file)) {
        Ok(url) => url.trim().to_owned(),
        Err(_) => panic!("this test needs a server; start it: services/{service} start"),
    }
}
