//! What a run shows while it runs: a bar on a terminal, a line every few seconds elsewhere.

use std::io::IsTerminal;
use std::time::{Duration, Instant};

use hapax_engine::progress::{Progress, Snapshot};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use serde_json::{Value, json};

use super::Output;
use super::figures::{bytes, count, duration, per_second};

const REDRAW: Duration = Duration::from_millis(200);
const LINE_EVERY: Duration = Duration::from_secs(5);

/// Shows the progress until it is dropped by whoever waits for the run. Never returns.
pub async fn show(progress: &Progress, output: &Output) {
    let started = Instant::now();
    if output.json() || !std::io::stderr().is_terminal() {
        lines(progress, output, started).await;
    } else {
        bar(progress, started).await;
    }
}

async fn lines(progress: &Progress, output: &Output, started: Instant) {
    let mut ticks = tokio::time::interval(LINE_EVERY);
    ticks.tick().await;
    loop {
        ticks.tick().await;
        let now = figures(&progress.snapshot(), started.elapsed());
        if output.json() {
            output.line(&json!({"progress": now}));
        } else {
            let pairs: Vec<String> = now
                .as_object()
                .into_iter()
                .flatten()
                .filter(|(_, value)| !value.is_null())
                .map(|(key, value)| format!("{key}={value}"))
                .collect();
            output.note(&pairs.join(" "));
        }
    }
}

fn figures(now: &Snapshot, elapsed: Duration) -> Value {
    json!({
        "seconds": elapsed.as_secs(),
        "read": now.totals.read,
        "moved": now.totals.moved,
        "suppressed": now.totals.suppressed,
        "set_aside": now.totals.set_aside,
        "filtered": now.totals.filtered,
        "in_doubt": now.in_doubt,
        "rows_per_second": per_second(now.totals.read, elapsed),
        "source_bytes": now.source_bytes,
        "source_bytes_total": (now.source_bytes_total > 0).then_some(now.source_bytes_total),
        "seconds_left": left(now, elapsed).map(|left| left.as_secs()),
        "splits": now.splits,
        "splits_done": now.splits_done,
    })
}

/// How long it will take if it goes on as it went so far.
fn left(now: &Snapshot, elapsed: Duration) -> Option<Duration> {
    let remaining = now.source_bytes_total.checked_sub(now.source_bytes)?;
    let rate = per_second(now.source_bytes, elapsed).filter(|rate| *rate > 0)?;
    Some(Duration::from_secs(remaining / rate))
}

async fn bar(progress: &Progress, started: Instant) {
    let bar = Cleared(ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr()));
    let (known, unknown) = ("{bar:24} {percent:>3}%  {msg}", "{spinner} {msg}");
    let style =
        |template| ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar());
    bar.0.set_style(style(unknown));
    let mut ticks = tokio::time::interval(REDRAW);
    let mut sized = false;
    loop {
        ticks.tick().await;
        let now = progress.snapshot();
        if now.source_bytes_total > 0 {
            if !sized {
                bar.0.set_style(style(known));
                sized = true;
            }
            bar.0.set_length(now.source_bytes_total.max(now.source_bytes));
            bar.0.set_position(now.source_bytes);
        }
        bar.0.set_message(message(&now, started.elapsed()));
        bar.0.tick();
    }
}

fn message(now: &Snapshot, elapsed: Duration) -> String {
    let mut parts = vec![format!("{} rows", count(now.totals.read)), bytes(now.source_bytes)];
    parts.extend(per_second(now.totals.read, elapsed).map(|rate| format!("{} rows/s", count(rate))));
    parts.extend(left(now, elapsed).map(|left| format!("{} left", duration(left))));
    if now.splits > 1 {
        parts.push(format!("split {} of {}", now.splits_done, now.splits));
    }
    for (number, what) in [
        (now.totals.suppressed, "suppressed"),
        (now.totals.set_aside, "set aside"),
        (now.in_doubt, "looked up"),
    ] {
        if number > 0 {
            parts.push(format!("{} {what}", count(number)));
        }
    }
    parts.join(" · ")
}

/// A bar that leaves no trace when the run ends, however it ends.
struct Cleared(ProgressBar);

impl Drop for Cleared {
    fn drop(&mut self) {
        self.0.finish_and_clear();
    }
}
