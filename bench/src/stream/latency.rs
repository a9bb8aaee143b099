//! How long messages are on their way, at a rate.

use std::io::{self, Write};
use std::time::{Duration, Instant};

use rdkafka::error::KafkaError;
use rdkafka::producer::Producer;
use rdkafka::{Message, Offset};

use super::broker::{self, PATIENCE, failed};
use super::message::{Messages, field, now_us};
use super::watch;

/// Of what is measured the first part is left out: programs warm up.
const WARM_UP: u32 = 5;
/// How often a table is looked at.
const LOOK: Duration = Duration::from_millis(2);

/// Produces for some seconds, and prints what a reader of the destination sees.
pub fn measure(brokers: &str, from: &str, to: &str, rate: u64, seconds: u64) -> io::Result<()> {
    let count = broker::partitions(&broker::consumer(brokers, &[])?, from)?;
    let total = rate.saturating_mul(seconds);
    let all = usize::try_from(total).unwrap_or(usize::MAX);
    let producing = {
        let (brokers, from) = (brokers.to_owned(), from.to_owned());
        move || produce(&brokers, &from, count, rate, total)
    };
    probe(brokers, from, count)?;
    let ((seen, late_us), start_us) = if to.contains("://") {
        in_table(to, count, all, producing)?
    } else {
        in_topic(brokers, to, count, all, producing)?
    };
    let last = seen.iter().map(|(_, at)| *at).max().unwrap_or(start_us);
    let per_second = total.saturating_mul(1_000_000) / u64::try_from(last - start_us).unwrap_or(1).max(1);
    let seconds = i64::try_from(seconds).unwrap_or(i64::MAX);
    let warm = start_us.saturating_add(seconds.saturating_mul(1_000_000) / i64::from(WARM_UP));
    let mut took: Vec<i64> =
        seen.iter().filter(|(sent, _)| *sent >= warm).map(|(sent, at)| at - sent).collect();
    took.sort_unstable();
    let at = |per_mille: usize| {
        let place = took.len().saturating_mul(per_mille) / 1000;
        took.get(place.min(took.len().saturating_sub(1))).copied().unwrap_or_default()
    };
    writeln!(
        io::stdout(),
        "{{\"messages\": {}, \"per_s\": {per_second}, \"p50_us\": {}, \"p90_us\": {}, \"p99_us\": {}, \"p999_us\": {}, \"max_us\": {}, \
         \"producer_late_us\": {late_us}}}",
        took.len(),
        at(500),
        at(900),
        at(990),
        at(999),
        at(1000)
    )
}

/// When each message was sent, and when it was seen, and by how much the producer was late at most.
type Seen = (Vec<(i64, i64)>, i64);

/// Sends one message through each partition. The clock runs once they were seen: whoever moves them is at work.
fn probe(brokers: &str, topic: &str, partitions: i32) -> io::Result<()> {
    let producer = broker::producer(brokers, &[])?;
    let mut values = Messages::new();
    for partition in 0..partitions {
        let id = (1 << 40) + u64::try_from(partition).unwrap_or(0);
        let value = values.value(id, -1 - partition, 0);
        broker::send(&producer, topic, Some(partition), Some(b"probe"), Some(value))?;
    }
    producer.flush(PATIENCE).map_err(failed)
}

/// Sends at a rate, each message at its own time. Returns by how much one was late at most.
fn produce(brokers: &str, topic: &str, partitions: i32, rate: u64, total: u64) -> io::Result<i64> {
    let producer = broker::producer(brokers, &[])?;
    let count = u64::try_from(partitions).unwrap_or(1).max(1);
    let mut values = Messages::new();
    let (start, mut late_us) = (Instant::now(), 0);
    for id in 0..total {
        let due = Duration::from_nanos(id.saturating_mul(1_000_000_000).checked_div(rate).unwrap_or(0));
        while let Some(early) = due.checked_sub(start.elapsed()).filter(|early| !early.is_zero()) {
            std::thread::sleep(early.min(Duration::from_millis(1)));
        }
        let late = start.elapsed().saturating_sub(due);
        late_us = late_us.max(i64::try_from(late.as_micros()).unwrap_or(i64::MAX));
        let partition = i32::try_from(id % count).unwrap_or(0);
        let value = values.value(id, partition, now_us());
        broker::send(&producer, topic, Some(partition), Some(id.to_string().as_bytes()), Some(value))?;
    }
    producer.flush(PATIENCE).map_err(failed)?;
    Ok(late_us)
}

fn joined(producing: std::thread::JoinHandle<io::Result<i64>>) -> io::Result<i64> {
    producing.join().map_err(|_| io::Error::other("the producer failed"))?
}

fn in_topic(
    brokers: &str,
    topic: &str,
    partitions: i32,
    total: usize,
    producing: impl FnOnce() -> io::Result<i64> + Send + 'static,
) -> io::Result<(Seen, i64)> {
    let consumer = broker::consumer(brokers, &[("fetch.wait.max.ms", "10")])?;
    broker::assign(&consumer, topic, Offset::Beginning)?;
    let (mut producing, mut start_us) = (Some(producing), 0);
    let mut running = None;
    let (mut seen, mut probes) = (Vec::with_capacity(total), 0);
    while seen.len() < total {
        if probes == partitions
            && let Some(producing) = producing.take()
        {
            start_us = now_us();
            running = Some(std::thread::spawn(producing));
        }
        match consumer.poll(PATIENCE) {
            Some(Ok(message)) => {
                let sent = field(message.payload().unwrap_or_default(), "sent").unwrap_or_default();
                match sent {
                    0 => probes += 1,
                    sent => seen.push((sent, now_us())),
                }
            }
            Some(Err(KafkaError::PartitionEOF(_))) => {}
            Some(Err(error)) => return Err(failed(error)),
            None => return Err(io::Error::other(format!("{} of {total} messages came", seen.len()))),
        }
    }
    let late_us = running.map_or(Ok(0), joined)?;
    Ok(((seen, late_us), start_us))
}

fn in_table(
    url: &str,
    partitions: i32,
    total: usize,
    producing: impl FnOnce() -> io::Result<i64> + Send + 'static,
) -> io::Result<(Seen, i64)> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let client = watch::connect(url).await?;
        let sql = "SELECT id, sent FROM target WHERE part = $1 AND id > $2 ORDER BY id";
        let look = client.prepare(sql).await.map_err(watch::failed)?;
        let probes = "SELECT count(*) FROM target WHERE part < 0";
        let start = Instant::now();
        while client
            .query_one(probes, &[])
            .await
            .and_then(|row| row.try_get::<_, i64>(0))
            .map_err(watch::failed)?
            < i64::from(partitions)
        {
            if start.elapsed() > PATIENCE {
                return Err(io::Error::other("nobody moves messages"));
            }
            tokio::time::sleep(LOOK).await;
        }
        let start_us = now_us();
        let producing = std::thread::spawn(producing);
        let mut behind: Vec<(i32, i64)> = (0..partitions).map(|partition| (partition, -1)).collect();
        let (mut seen, mut last) = (Vec::with_capacity(total), Instant::now());
        while seen.len() < total {
            for (partition, behind) in &mut behind {
                let rows = client.query(&look, &[partition, behind]).await.map_err(watch::failed)?;
                let at = now_us();
                for row in rows {
                    *behind = row.try_get(0).map_err(watch::failed)?;
                    seen.push((row.try_get(1).map_err(watch::failed)?, at));
                    last = Instant::now();
                }
            }
            if last.elapsed() > PATIENCE {
                return Err(io::Error::other(format!("{} of {total} messages came", seen.len())));
            }
            tokio::time::sleep(LOOK).await;
        }
        Ok(((seen, joined(producing)?), start_us))
    })
}
