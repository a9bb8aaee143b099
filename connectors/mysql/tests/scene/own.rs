//! Servers of a test's own.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// A server of this test's own.
pub struct Server(pub tempfile::TempDir);

impl Server {
    pub fn new() -> Self {
        Self::in_folder(tempfile::tempdir().unwrap())
    }

    /// Starts one whose data stands below this folder.
    pub fn in_folder(folder: tempfile::TempDir) -> Self {
        let server = Self(folder);
        server.service("start");
        server
    }

    /// Runs statements as its administrator, by another program than ours.
    pub fn run(&self, sql: &str) -> String {
        let read = |name: &str| std::fs::read_to_string(self.folder().join(name)).unwrap().trim().to_owned();
        let output = Command::new("mariadb")
            .args(["--no-defaults", "--user=root", "--skip-column-names", "--batch"])
            .arg(format!("--socket={}/s", read("sockets")))
            .arg(format!("--password={}", read("password")))
            .args(["-e", sql])
            .output()
            .unwrap();
        assert!(output.status.success(), "{sql}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    }

    pub fn service(&self, command: &str) {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../services/mysql");
        let done = Command::new(script).arg(command).arg(self.folder()).stdout(Stdio::null()).status();
        assert!(done.unwrap().success(), "services/mysql {command} failed");
    }

    pub fn folder(&self) -> PathBuf {
        self.0.path().join("server")
    }

    pub fn url(&self) -> String {
        std::fs::read_to_string(self.folder().join("url")).unwrap().trim().to_owned()
    }

    /// Ends it at once, as a power failure would.
    pub fn kill(&self) {
        let pid = std::fs::read_to_string(self.folder().join("server.pid")).unwrap().trim().to_owned();
        assert!(Command::new("kill").args(["-9", &pid]).status().unwrap().success());
        let until = Instant::now() + Duration::from_secs(60);
        while Path::new("/proc").join(&pid).join("fd").read_dir().is_ok_and(|mut open| open.next().is_some())
        {
            assert!(Instant::now() < until, "the server did not die");
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.service("stop");
    }
}
