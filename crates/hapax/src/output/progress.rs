//! What a command shows while it works: a bar on a terminal, a line every few seconds elsewhere.

use std::io::IsTerminal;
use std::time::{Duration, Instant};

use hapax_engine::progress::{Progress, Snapshot};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use serde_json::{Value, json};

use super::Output;
use super::figures::{bytes, count, duration, per_second};
use crate::verify;

const REDRAW: Duration = Duration::from_millis(200);
const LINE_EVERY: Duration = Duration::from_secs(5);

/// Something that can be looked at while it goes on.
pub trait Watched {
    /// How far it is, after this time.
    fn look(&self, elapsed: Duration) -> Look;
}

/// How far something is.
pub struct Look {
    /// In numbers, by name.
    figures: Value,
    /// In a few words.
    message: String,
    /// How much of how much is done, where that is known.
    share: Option<(u64, u64)>,
}

/// Shows the progress until it is dropped by whoever waits for the end. Never returns.
pub async fn show(progress: &impl Watched, output: &Output) {
    let started = Instant::now();
    if output.json() || !std::io::stderr().is_terminal() {
        lines(progress, output, started).await;
    } else {
        bar(progress, started).await;
    }
}

async fn lines(progress: &impl Watched, output: &Output, started: Instant) {
    let mut ticks = tokio::time::interval(LINE_EVERY);
    ticks.tick().await;
    loop {
        ticks.tick().await;
        let now = progress.look(started.elapsed()).figures;
        if output.json() {
            output.line(&json!({"progress": now}));
        } else {
            let pairs: Vec<String> = now
                .as_object()
                .into_iter()
                .flatten()
                .filter(|(_, value)| !value.is_null())
                .map(|(key, value)| match value.as_str() {
                    Some(text) => format!("{key}={text}"),
                    None => format!("{key}={value}"),
                })
                .collect();
            output.note(&pairs.join(" "));
        }
    }
}

impl Watched for Progress {
    fn look(&self, elapsed: Duration) -> Look {
        let now = self.snapshot();
        let share = (now.source_bytes_total > 0).then_some((now.source_bytes, now.source_bytes_total));
        let (mut figures, mut message) = (figures(&now, elapsed), message(&now, elapsed));
        if let (Some(reason), Some(figures)) = (self.waits_for(), figures.as_object_mut()) {
            message = format!("waiting: {reason} · {message}");
            figures.insert("waiting".to_owned(), reason.into());
        }
        Look { figures, message, share }
    }
}

impl Watched for verify::Progress {
    fn look(&self, elapsed: Duration) -> Look {
        let now = self.snapshot();
        let read = now.source_records.saturating_add(now.destination_records);
        // As many are expected at the destination as in the source.
        let share = (now.expected > 0).then_some((read, now.expected.saturating_mul(2)));
        let mut parts = vec![
            now.step.name().to_owned(),
            format!("{} of the source", count(now.source_records)),
            format!("{} at the destination", count(now.destination_records)),
        ];
        if now.moved > 0 {
            parts.push(format!("{} moved", count(now.moved)));
        }
        parts.push(duration(elapsed));
        let figures = json!({
            "seconds": elapsed.as_secs(),
            "step": now.step.name(),
            "source_records": now.source_records,
            "destination_records": now.destination_records,
            "expected_records": (now.expected > 0).then_some(now.expected),
            "bytes": now.bytes,
            "moved": (now.moved > 0).then_some(now.moved),
        });
        Look { figures, message: parts.join(" · "), share }
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

async fn bar(progress: &impl Watched, started: Instant) {
    let bar = Cleared(ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr()));
    let (known, unknown) = ("{bar:24} {percent:>3}%  {msg}", "{spinner} {msg}");
    let style =
        |template| ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar());
    bar.0.set_style(style(unknown));
    let mut ticks = tokio::time::interval(REDRAW);
    let mut sized = false;
    loop {
        ticks.tick().await;
        let now = progress.look(started.elapsed());
        if now.share.is_some() != sized {
            sized = now.share.is_some();
            bar.0.set_style(style(if sized { known } else { unknown }));
        }
        if let Some((done, all)) = now.share {
            bar.0.set_length(all.max(done));
            bar.0.set_position(done);
        }
        bar.0.set_message(now.message);
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
