//! How fast the Redis ledger is beside the bare command, on the same server.
//!
//! `redis_ledger_speed URL [IDENTITIES] [HOURS]` claims so many identities (2 million) in calls of 10,000 through the ledger,
//! and sets as many keys with a pipelined `SET key value NX` of the same sizes and nothing else; with HOURS both forget them
//! after that time (`PX`). It takes turns, says the median of three rounds each, and removes what it made. The database must
//! be empty.

#![allow(clippy::print_stdout, clippy::as_conversions)]

use std::error::Error;
use std::time::Instant;

use hapax_engine::fault::SinkError;
use hapax_engine::ledger::Ledger;
use hapax_engine::sink::Arrival;
use hapax_protocol::guarantee::InDoubt;
use hapax_protocol::identity::RecordId;
use hapax_protocol::lease::{FencingToken, Lease, PipelineName};
use hapax_protocol::ledger::Claim;
use hapax_protocol::position::SplitId;
use hapax_redis::ledger::{LedgerConfig, open};

const CALL: u64 = 10_000;
/// How many commands of the bare loop are sent together: as many as the ledger sends.
const PIPELINED: u64 = 4_096;
const ROUNDS: u64 = 3;

fn mix(mut x: u64) -> u64 {
    x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^ (x >> 31)
}

fn id(n: u64) -> RecordId {
    let mut id = mix(n ^ 0x5555_5555_5555_5555).to_be_bytes().to_vec();
    id.extend(mix(n).to_be_bytes());
    RecordId(id.try_into().unwrap_or_default())
}

fn median(mut rates: Vec<f64>) -> f64 {
    rates.sort_by(f64::total_cmp);
    rates.get(rates.len() / 2).copied().unwrap_or_default()
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let url = arguments.next().ok_or("which URL?")?;
    let count: u64 = arguments.next().map_or(Ok(2_000_000), |count| count.parse())?;
    let hours: Option<u64> = arguments.next().map(|hours| hours.parse()).transpose()?;
    let retention = hours.map(|hours| format!("{hours}h"));
    let config = LedgerConfig { url: url.clone(), tls: None, retention, accept_loss: true };
    let ledger = open(config, InDoubt::Resend).map_err(said)?;
    let patient = redis::AsyncConnectionConfig::new().set_response_timeout(None);
    let mut bare = redis::Client::open(url)?.get_multiplexed_async_connection_with_config(&patient).await?;
    let size: u64 = redis::cmd("DBSIZE").query_async(&mut bare).await?;
    if size > 0 {
        return Err("the database is not empty".into());
    }
    let (pipeline, split) = (PipelineName::new("speed")?, SplitId::new("s"));
    let lease = Lease { pipeline: pipeline.clone(), token: FencingToken::new(1) };
    let (mut of_ledger, mut of_bare) = (Vec::new(), Vec::new());
    let mut bytes: u64 = 0;
    for round in 0..ROUNDS {
        let first = round * count;
        let started = Instant::now();
        for from in (first..first + count).step_by(CALL as usize) {
            let arrivals: Vec<Arrival> =
                (from..from + CALL).map(|n| Arrival { id: id(n), ordinal: n }).collect();
            let claims = ledger.claim(&lease, &split, &arrivals).await.map_err(said)?;
            if !claims.iter().all(|claim| *claim == Claim::New) {
                return Err("a claim was not new".into());
            }
        }
        of_ledger.push(count as f64 / started.elapsed().as_secs_f64());
        bytes = ledger.statistics(&pipeline).await.map_err(said)?.bytes.unwrap_or(0) / ((round + 1) * count);
        let started = Instant::now();
        for from in (first..first + count).step_by(PIPELINED as usize) {
            let mut pipe = redis::pipe();
            for n in from..(from + PIPELINED).min(first + count) {
                let mut key = b"_hapax-ledger:{bare0}:".to_vec();
                key.extend_from_slice(&id(n).0);
                let command = pipe.cmd("SET").arg(key).arg(&[0_u8; 12]).arg("NX");
                if let Some(hours) = hours {
                    command.arg("PX").arg(hours * 3_600_000);
                }
            }
            let answers: Vec<redis::Value> = pipe.query_async(&mut bare).await?;
            if !answers.iter().all(|answer| *answer == redis::Value::Okay) {
                return Err("a key was there".into());
            }
        }
        of_bare.push(count as f64 / started.elapsed().as_secs_f64());
    }
    let () = redis::cmd("FLUSHDB").query_async(&mut bare).await?;
    let (of_ledger, of_bare) = (median(of_ledger), median(of_bare));
    println!(
        "{:.0} claims/s, {:.0} bare SET NX/s: {:.2}x; {bytes} bytes a claim",
        of_ledger,
        of_bare,
        of_ledger / of_bare
    );
    Ok(())
}

fn said(error: SinkError) -> Box<dyn Error> {
    error.to_string().into()
}
