//! How fast the ledger is, and how much memory it takes.
//!
//! `ledger_speed [IDENTITIES] [random|counted|durable]` claims so many identities (5 million) in commits of 100,000
//! with one twin in a hundred, into a directory of its own, and checks every answer. `durable` asks as a run asks a ledger
//! that stands beside its destination: by batches of at most 16,384, each on the disk when it is answered.

#![allow(clippy::print_stdout, clippy::as_conversions)]

use std::error::Error;
use std::fs;
use std::time::Instant;

use hapax_engine::fault::SinkError;
use hapax_engine::ledger::Ledger as _;
use hapax_engine::sink::Arrival;
use hapax_ledger::Ledger;
use hapax_ledger::directory::DirectoryStore;
use hapax_ledger::embedded::Embedded;
use hapax_protocol::guarantee::{InDoubt, Retention};
use hapax_protocol::identity::{Place, RecordId};
use hapax_protocol::lease::{FencingToken, Lease, PipelineName};
use hapax_protocol::ledger::Claim;
use hapax_protocol::position::SplitId;

const COMMIT: u64 = 100_000;
const BATCH: u64 = 10_000;
/// The most records that a run gives a ledger together.
const DURABLE: u64 = 16_384;
/// Every so manyth arrival is a twin.
const TWIN: u64 = 100;

fn mix(mut x: u64) -> u64 {
    x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^ (x >> 31)
}

/// Which arrival had the identity of arrival `n` first.
fn origin(n: u64) -> u64 {
    if n % TWIN != TWIN - 1 {
        return n;
    }
    let earlier = mix(n) % n;
    if earlier % TWIN == TWIN - 1 { earlier - 1 } else { earlier }
}

fn id(n: u64, counted: bool) -> RecordId {
    let mut id = [0; 16];
    if counted {
        id[8..].copy_from_slice(&n.to_be_bytes());
    } else {
        id[..8].copy_from_slice(&mix(n ^ 0x5555_5555_5555_5555).to_be_bytes());
        id[8..].copy_from_slice(&mix(n).to_be_bytes());
    }
    RecordId(id)
}

/// Seconds of processor time so far, in user and system mode.
fn processor() -> Result<(f64, f64), Box<dyn Error>> {
    let stat = fs::read_to_string("/proc/self/stat")?;
    let fields: Vec<&str> = stat.rsplit(") ").next().unwrap_or_default().split(' ').collect();
    let ticks = |field: usize| -> Result<f64, Box<dyn Error>> {
        Ok(fields.get(field).ok_or("no such field in /proc/self/stat")?.parse::<f64>()? / 100.0)
    };
    Ok((ticks(11)?, ticks(12)?))
}

fn peak_memory() -> Result<String, Box<dyn Error>> {
    let status = fs::read_to_string("/proc/self/status")?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    Ok(line.ok_or("no VmHWM in /proc/self/status")?.trim().to_owned())
}

/// Whether an arrival was answered rightly. How many twins there were.
fn check(from: u64, answers: &[Claim<Place>]) -> Result<u64, Box<dyn Error>> {
    let mut twins = 0;
    for (n, answer) in (from..).zip(answers) {
        let right = match answer {
            Claim::New => origin(n) == n,
            Claim::Twin { of } => origin(n) != n && of.ordinal == origin(n),
            Claim::Replay => false,
        };
        if !right {
            return Err(format!("arrival {n} of {} was answered {answer:?}", origin(n)).into());
        }
        twins += u64::from(!answer.passes());
    }
    Ok(twins)
}

/// Claims through the contract of ledgers that stand beside a destination.
async fn durable(identities: u64) -> Result<(), Box<dyn Error>> {
    let directory = tempfile::tempdir()?;
    let ledger = Embedded::new(directory.path(), Retention::Unbounded, InDoubt::Resend);
    let (pipeline, split) = (PipelineName::new("speed")?, SplitId::new("speed"));
    let lease = Lease { pipeline: pipeline.clone(), token: FencingToken::new(1) };
    let said = |error: SinkError| error.to_string();
    ledger.open(&pipeline, false).await.map_err(said)?;
    let started = Instant::now();
    let (mut n, mut twins) = (0, 0);
    while n < identities {
        let arrivals: Vec<Arrival> = (n..identities.min(n + DURABLE))
            .map(|n| Arrival { id: id(origin(n), false), ordinal: n })
            .collect();
        twins += check(n, &ledger.claim(&lease, &split, &arrivals).await.map_err(said)?)?;
        n += arrivals.len() as u64;
    }
    let wall = started.elapsed().as_secs_f64();
    let (user, system) = processor()?;
    println!("durable        {identities} arrivals, of them {twins} twins; every answer was right");
    println!("wall           {wall:.2} s, {:.2} M/s", identities as f64 / wall / 1e6);
    println!("processor      {user:.2} s user, {system:.2} s system");
    println!("peak memory    {}", peak_memory()?);
    Ok(())
}

fn main() -> Result<(), Box<dyn Error>> {
    let identities = std::env::args().nth(1).map_or(Ok(5_000_000), |n| n.replace('_', "").parse::<u64>())?;
    let shape = std::env::args().nth(2).unwrap_or_default();
    if shape == "durable" {
        return tokio::runtime::Builder::new_multi_thread().build()?.block_on(durable(identities));
    }
    let counted = shape == "counted";
    let directory = tempfile::tempdir()?;
    let split = SplitId::new("speed");
    let started = Instant::now();
    let mut ledger = Ledger::open(DirectoryStore::open(directory.path())?)?;
    let (mut arrivals, mut twins) = (Vec::new(), 0);
    let mut slowest = std::time::Duration::ZERO;
    let mut n = 0;
    while n < identities {
        arrivals.clear();
        arrivals.extend((n..identities.min(n + BATCH)).map(|n| (id(origin(n), counted), n)));
        twins += check(n, &ledger.claim(&split, &arrivals)?)?;
        n += arrivals.len() as u64;
        if n % COMMIT == 0 || n == identities {
            let flushing = Instant::now();
            ledger.flush()?;
            ledger.committed();
            ledger.store_mut().forget_replaced();
            slowest = slowest.max(flushing.elapsed());
        }
    }
    let wall = started.elapsed().as_secs_f64();
    let (user, system) = processor()?;
    let stats = ledger.stats();
    println!("arrivals       {identities}, of them {twins} twins; every answer was right");
    println!("wall           {wall:.2} s, {:.2} M/s", identities as f64 / wall / 1e6);
    println!(
        "processor      {user:.2} s user, {system:.2} s system, {:.2} M/s",
        identities as f64 / (user + system) / 1e6
    );
    println!("slowest flush  {:.2} s", slowest.as_secs_f64());
    println!("segments       {}, {} identities", stats.segments, stats.identities);
    println!("ledger memory  {} MiB", stats.bytes >> 20);
    println!("peak memory    {}", peak_memory()?);
    let reopening = Instant::now();
    let ledger = Ledger::open(DirectoryStore::open(directory.path())?)?;
    println!(
        "open again     {:.2} s, {} identities",
        reopening.elapsed().as_secs_f64(),
        ledger.stats().identities
    );
    Ok(())
}
