//! What this process has used so far.

use std::sync::OnceLock;
use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};

static BEFORE: OnceLock<Duration> = OnceLock::new();

/// Called first of all: whoever turned into this process, `cargo run` for instance, had used some time before.
pub fn begin() {
    BEFORE.get_or_init(clock);
}

/// Processor time of all threads since [`begin`].
pub fn processor_time() -> Duration {
    clock().saturating_sub(BEFORE.get().copied().unwrap_or_default())
}

fn clock() -> Duration {
    let time = clock_gettime(ClockId::ProcessCPUTime);
    let seconds = u64::try_from(time.tv_sec).unwrap_or(0);
    let nanoseconds = u32::try_from(time.tv_nsec).unwrap_or(0);
    Duration::new(seconds, nanoseconds)
}

/// The most memory it ever held, in bytes, where the system says (Linux does).
pub fn peak_memory_bytes() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    let kibibytes: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    kibibytes.checked_mul(1024)
}

/// This process, for people: host name and process id.
pub fn holder() -> String {
    let name = rustix::system::uname();
    format!("{} process {}", name.nodename().to_string_lossy(), std::process::id())
}
