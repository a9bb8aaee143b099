//! One worker: this binary as a process of its own, doing what `hapax run` does on a scratch destination.

use std::fs::File;
use std::io;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, WaitId, WaitIdOptions, kill_process, waitid};
use serde::Deserialize;

use super::error::DrillError;

/// How often a worker is looked at.
const LOOK_EVERY: Duration = Duration::from_millis(1);

/// What a worker is started with.
#[derive(Debug, Clone)]
pub struct Order {
    /// The pipeline file.
    pub file: String,
    /// The place of the scratch destination.
    pub place: PathBuf,
    /// How many records it commits at most at once.
    pub commit_records: u64,
    /// What `HAPAX_CRASH` says.
    pub crash: Option<String>,
    /// Tells the output of workers that run at once apart.
    pub name: &'static str,
}

/// How a worker ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum End {
    /// With this exit code.
    Exit(i32),
    /// By this signal.
    Signal(i32),
}

/// How a worker ended, and what it said.
#[derive(Debug, Clone)]
pub struct Ended {
    /// How.
    pub end: End,
    /// The summary of a run that came to its end.
    pub summary: Summary,
    /// Why it did not, in words.
    pub error: String,
}

/// The summary that `hapax run --json` prints, as far as it is looked at.
#[derive(Debug, Clone, Copy, Default, Deserialize)]
#[serde(default)]
pub struct Summary {
    /// Records it read and committed.
    pub read: u64,
    /// Commits it made.
    pub commits: u64,
    /// Commits whose answer was lost.
    pub in_doubt: u64,
}

impl Ended {
    /// Whether it came to its end.
    pub fn is_done(&self) -> bool {
        self.end == End::Exit(0)
    }

    /// Whether it was killed.
    pub fn is_killed(&self) -> bool {
        self.end == End::Signal(Signal::KILL.as_raw())
    }

    /// In words.
    pub fn words(&self) -> String {
        let end = match self.end {
            End::Exit(code) => format!("exit {code}"),
            End::Signal(signal) => format!("signal {signal}"),
        };
        if self.error.is_empty() { end } else { format!("{end}: {}", self.error) }
    }
}

/// A running worker. It is killed when this value is dropped.
#[derive(Debug)]
pub struct Worker {
    child: Child,
    pid: Option<Pid>,
    out: PathBuf,
    err: PathBuf,
}

impl Worker {
    /// Starts one. Call it on the thread that lives longest: on Linux a worker dies with the thread that made it.
    pub fn start(order: &Order) -> Result<Self, DrillError> {
        let failed = |source| DrillError::Worker { doing: "started", source };
        let root = order.place.parent().unwrap_or(&order.place);
        let (out, err) = (root.join(format!("{}.out", order.name)), root.join(format!("{}.err", order.name)));
        let create = |path: &Path| File::create(path).map_err(failed);
        let mut command = Command::new(std::env::current_exe().map_err(failed)?);
        command
            .args(["drill-worker", "--json", "--parent", &std::process::id().to_string()])
            .args(["--commit-records", &order.commit_records.to_string()])
            .arg("--scratch")
            .arg(&order.place)
            .arg("--")
            .arg(&order.file)
            .stdin(Stdio::null())
            .stdout(create(&out)?)
            .stderr(create(&err)?)
            .env_remove("HAPAX_CRASH")
            .envs(order.crash.iter().map(|crash| ("HAPAX_CRASH", crash)))
            // What is typed at the terminal is for the drill: it says when a worker ends.
            .process_group(0);
        let child = command.spawn().map_err(failed)?;
        let pid = i32::try_from(child.id()).ok().and_then(Pid::from_raw);
        Ok(Self { child, pid, out, err })
    }

    /// Waits for its end.
    pub async fn end(&mut self) -> Result<Ended, DrillError> {
        loop {
            let status = self.child.try_wait();
            if let Some(status) = status.map_err(|source| DrillError::Worker { doing: "watched", source })? {
                return Ok(self.ended(status));
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }

    /// How it ended; `None` if it has not within this time.
    pub async fn end_within(&mut self, time: Duration) -> Result<Option<Ended>, DrillError> {
        tokio::time::timeout(time, self.end()).await.ok().transpose()
    }

    /// Waits until SIGSTOP has stopped it, or until it has ended. Whether it stopped; `None` if neither happened
    /// within this time.
    pub async fn stopped(&mut self, time: Duration) -> Option<bool> {
        let pid = self.pid?;
        let until = Instant::now() + time;
        while Instant::now() < until {
            let options = WaitIdOptions::STOPPED
                | WaitIdOptions::EXITED
                | WaitIdOptions::NOHANG
                | WaitIdOptions::NOWAIT;
            match waitid(WaitId::Pid(pid), options) {
                Ok(Some(status)) => return Some(status.stopped()),
                Ok(None) => tokio::time::sleep(LOOK_EVERY).await,
                Err(_) => return Some(false),
            }
        }
        None
    }

    /// Sends it a signal. One that has ended takes none.
    pub fn send(&mut self, signal: Signal) {
        if let (Some(pid), Ok(None)) = (self.pid, self.child.try_wait()) {
            let _ = kill_process(pid, signal);
        }
    }

    fn ended(&self, status: ExitStatus) -> Ended {
        let end = match (status.code(), status.signal()) {
            (Some(code), _) => End::Exit(code),
            (None, signal) => End::Signal(signal.unwrap_or_default()),
        };
        let said = std::fs::read_to_string(&self.out).unwrap_or_default();
        let error = std::fs::read_to_string(&self.err).unwrap_or_default();
        Ended { end, summary: serde_json::from_str(&said).unwrap_or_default(), error: complaint(&error) }
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// What a worker complained of: the error it printed as a line of JSON, or all it wrote if it was none.
fn complaint(written: &str) -> String {
    const CHARACTERS_MAX: usize = 2_000;
    let errors = written.lines().filter_map(|line| {
        let line: serde_json::Value = serde_json::from_str(line).ok()?;
        let error = line.get("error")?;
        let text = |key: &str| error.get(key).and_then(serde_json::Value::as_str).map(str::to_owned);
        let causes = error.get("causes").and_then(serde_json::Value::as_array).into_iter().flatten();
        let causes: String =
            causes.filter_map(|cause| Some(format!(", because {}", cause.as_str()?))).collect();
        text("message").map(|message| format!("{} {message}{causes}", text("code").unwrap_or_default()))
    });
    let mut words: Vec<String> = errors.collect();
    if words.is_empty() {
        words.extend(written.lines().filter(|line| !line.starts_with('{')).map(str::to_owned));
    }
    words.join("; ").chars().take(CHARACTERS_MAX).collect()
}

/// Asks the kernel to kill this process when the one that made it is gone. Only Linux can be asked.
pub fn die_with(parent: u32) -> io::Result<()> {
    #[cfg(target_os = "linux")]
    {
        rustix::process::set_parent_process_death_signal(Some(Signal::KILL))?;
        let is_there = rustix::process::getppid()
            .is_some_and(|pid| u32::try_from(pid.as_raw_nonzero().get()).is_ok_and(|pid| pid == parent));
        if !is_there {
            // It was gone before the kernel was asked.
            std::process::exit(1);
        }
    }
    #[cfg(not(target_os = "linux"))]
    let _ = parent;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_complaint_is_the_error_or_whatever_was_written() {
        let error = r#"{"error":{"code":"HX0300","message":"gone","causes":["it went"]}}"#;
        assert_eq!(complaint(&format!("{{\"progress\":{{}}}}\n{error}\n")), "HX0300 gone, because it went");
        assert_eq!(complaint("thread panicked\n"), "thread panicked");
        assert_eq!(complaint(""), "");
    }
}
