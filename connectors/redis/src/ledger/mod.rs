//! A ledger that stands beside a destination which cannot keep one.
//!
//! A claim takes its key if it is free and tells the earlier claimant if it is not, in one atomic step (`claims`).
//! A random marker stands beside the claims: a server that was restarted empty, flushed, or exchanged has another one, or
//! none, and that stops the run instead of letting every record pass again.
//!
//! A holder that wakes up late takes nothing back, and gets nothing that was taken back (`holder`).

mod claims;
mod holder;
mod spot;

use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};
use std::sync::atomic::AtomicBool;
use std::sync::{Mutex, MutexGuard, PoisonError};

use hapax_engine::Fut;
use hapax_engine::fault::SinkError;
use hapax_engine::ledger::{Ledger, Statistics};
use hapax_engine::sink::Arrival;
use hapax_engine::tls::Tls;
use hapax_protocol::guarantee::{InDoubt, LedgerFacts, LedgerPlace, Retention};
use hapax_protocol::identity::{Place, RecordId};
use hapax_protocol::lease::{FencingToken, Lease, PipelineName};
use hapax_protocol::ledger::{Claim, decide};
use hapax_protocol::position::SplitId;
use redis::Value;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::client::{Address, Session, bytes, list, number, text};
use crate::config::retention;
use crate::fault::{ServerFault, WriteFault};
use crate::server::Persistence;
use claims::Claiming;
pub(crate) use spot::Spot;

const NUMBER: &str = include_str!("number.lua");

/// The `redis:` section of a ledger.
#[derive(Clone, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct LedgerConfig {
    /// The server: `redis://user:password@host:port/0`, or `rediss://` for TLS.
    pub url: String,
    /// The files of certificates that `rediss://` needs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tls: Option<Tls>,
    /// How long identities are remembered: `unbounded`, or a time such as `7d`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retention: Option<String>,
    /// Whether a server may be used that forgets claims when it ends. Records that come again then take effect again.
    #[serde(default)]
    pub accept_loss: bool,
}

/// A ledger on a Redis server.
pub struct RedisLedger {
    address: Address,
    retention: Retention,
    accept_loss: bool,
    in_doubt: InDoubt,
    /// Connections that are not in use.
    idle: Mutex<Vec<Session>>,
    /// What is known of each pipeline.
    known: Mutex<HashMap<PipelineName, Known>>,
    /// Whether most of the identities that were claimed last were new.
    mostly_new: AtomicBool,
}

/// What this process knows of a pipeline's ledger.
#[derive(Debug, Clone, Default)]
struct Known {
    marker: Option<Vec<u8>>,
    splits: HashMap<SplitId, u32>,
    /// The last holder that this process told the server of.
    held: Option<FencingToken>,
}

/// Opens a ledger. Nothing is looked at yet.
pub fn open(config: LedgerConfig, in_doubt: InDoubt) -> Result<RedisLedger, SinkError> {
    let address = Address::read(&config.url, config.tls.as_ref())?;
    let wrong =
        || WriteFault::Config("`retention` is neither `unbounded` nor a time such as `7d`".to_owned());
    let retention = retention(config.retention.as_deref()).ok_or_else(wrong)?;
    let (idle, known, mostly_new) = (Mutex::default(), Mutex::default(), AtomicBool::new(true));
    Ok(RedisLedger { address, retention, accept_loss: config.accept_loss, in_doubt, idle, known, mostly_new })
}

/// A name of a key of a pipeline. They share a hash slot.
fn key(pipeline: &PipelineName, what: &str) -> String {
    format!("_hapax-ledger:{{{pipeline}}}:{what}")
}

fn claim_key(pipeline: &PipelineName, id: &RecordId) -> Vec<u8> {
    let mut key = key(pipeline, "").into_bytes();
    key.extend_from_slice(&id.0);
    key
}

impl RedisLedger {
    fn known(&self) -> MutexGuard<'_, HashMap<PipelineName, Known>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A connection, to be given back if all went well.
    async fn enter(&self, pipeline: &PipelineName) -> Result<Session, ServerFault> {
        let idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner).pop();
        match idle {
            Some(session) => Ok(session),
            None => {
                let session = self.address.connect_for(&key(pipeline, "marker")).await?;
                fit(&session)?;
                Ok(session)
            }
        }
    }

    fn leave(&self, session: Session) {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner).push(session);
    }

    /// The marker that stands there, put there if there is none and none is missed.
    async fn mark(
        &self,
        session: &mut Session,
        pipeline: &PipelineName,
        has_positions: bool,
    ) -> Result<Vec<u8>, SinkError> {
        let (doing, marker) = ("looking at the ledger's marker", key(pipeline, "marker"));
        let found = session.ask(doing, redis::cmd("GET").arg(&marker)).await?;
        let before = self.known().get(pipeline).and_then(|known| known.marker.clone());
        let found = match bytes(&found) {
            Some(found) => found.to_vec(),
            None if has_positions || before.is_some() => {
                return Err(emptied(session, pipeline, "is gone"));
            }
            None => {
                // Two processes that open it at once agree on one.
                let hasher = RandomState::new();
                let random =
                    format!("{:016x}{:016x}", hasher.hash_one(&marker), hasher.hash_one(std::process::id()));
                let set = redis::cmd("SET").arg(&marker).arg(&random).arg("NX").arg("GET").to_owned();
                let earlier = session.ask(doing, &set).await?;
                bytes(&earlier).map_or_else(|| random.into_bytes(), <[u8]>::to_vec)
            }
        };
        if before.is_some_and(|before| before != found) {
            return Err(emptied(session, pipeline, "is another one"));
        }
        self.known().entry(pipeline.clone()).or_default().marker = Some(found.clone());
        Ok(found)
    }

    /// The number of a split, and the marker that belongs to it.
    async fn number(
        &self,
        session: &mut Session,
        pipeline: &PipelineName,
        split: &SplitId,
    ) -> Result<(u32, Vec<u8>), SinkError> {
        let known = self.known().get(pipeline).cloned().unwrap_or_default();
        let marker = match known.marker {
            Some(marker) => marker,
            None => self.mark(session, pipeline, false).await?,
        };
        if let Some(number) = known.splits.get(split) {
            return Ok((*number, marker));
        }
        let doing = "numbering a split";
        let mut call = redis::cmd("EVAL");
        call.arg(NUMBER).arg(2).arg(key(pipeline, "split-numbers")).arg(key(pipeline, "split-names"));
        // 32 bits of it.
        let drawn = RandomState::new().hash_one(split.as_str()) >> 32;
        let answer = session.ask(doing, call.arg(split.as_str()).arg(drawn)).await?;
        let given = number(&answer).and_then(|number| u32::try_from(number).ok());
        let given = given.ok_or_else(|| session.misunderstood(doing))?;
        self.known().entry(pipeline.clone()).or_default().splits.insert(split.clone(), given);
        Ok((given, marker))
    }

    /// The names of splits by their numbers.
    async fn names(
        &self,
        session: &mut Session,
        pipeline: &PipelineName,
        mut numbers: Vec<u32>,
    ) -> Result<HashMap<u32, SplitId>, SinkError> {
        numbers.sort_unstable();
        numbers.dedup();
        if numbers.is_empty() {
            return Ok(HashMap::new());
        }
        let doing = "reading the names of splits";
        let mut ask = redis::cmd("HMGET");
        ask.arg(key(pipeline, "split-names")).arg(&numbers);
        let found = session.ask(doing, &ask).await?;
        let name = |(number, name): (&u32, &Value)| Some((*number, SplitId::new(text(name)?)));
        Ok(numbers.iter().zip(list(&found)).filter_map(name).collect())
    }

    async fn claim_all(
        &self,
        session: &mut Session,
        lease: &Lease,
        split: &SplitId,
        arrivals: &[Arrival],
    ) -> Result<Vec<Claim<Place>>, SinkError> {
        let pipeline = &lease.pipeline;
        let (number, marker) = self.number(session, pipeline, split).await?;
        self.hold(session, lease).await?;
        let claiming = Claiming { lease, split: number, marker: &marker };
        let mut firsts = self.firsts(session, &claiming, arrivals).await?;
        let others = firsts.iter().flatten().map(|spot| spot.split).filter(|other| *other != number);
        let mut names = self.names(session, pipeline, others.collect()).await?;
        names.insert(number, split.clone());
        self.inherit(session, &claiming, arrivals, (&mut firsts, &names)).await?;
        self.count(session, pipeline, arrivals, &firsts).await?;
        answers(session, &names, number, arrivals, firsts)
    }

    /// Claims what a split holds that has no name. A process claimed it that had not seen yet that the server was emptied; it
    /// saw so before anything took effect.
    async fn inherit(
        &self,
        session: &mut Session,
        claiming: &Claiming<'_>,
        arrivals: &[Arrival],
        (firsts, names): (&mut [Option<Spot>], &HashMap<u32, SplitId>),
    ) -> Result<(), SinkError> {
        let nameless = |first: &Option<Spot>| first.is_some_and(|spot| !names.contains_key(&spot.split));
        let (left, rows): (Vec<&mut Option<Spot>>, Vec<&Arrival>) =
            firsts.iter_mut().zip(arrivals).filter(|(first, _)| nameless(first)).unzip();
        let claimed = self.reclaim(session, claiming.lease, claiming.split, &rows).await?;
        for (slot, first) in left.into_iter().zip(claimed) {
            *slot = first;
        }
        Ok(())
    }

    /// Counts what is new, for people.
    async fn count(
        &self,
        session: &mut Session,
        pipeline: &PipelineName,
        arrivals: &[Arrival],
        firsts: &[Option<Spot>],
    ) -> Result<(), SinkError> {
        let fresh = firsts.iter().filter(|first| first.is_none()).count();
        let Some(arrival) = arrivals.first().filter(|_| fresh > 0) else { return Ok(()) };
        let statistics = key(pipeline, "statistics");
        let mut tell = redis::pipe();
        tell.cmd("TIME");
        tell.cmd("HINCRBY").arg(&statistics).arg("identities").arg(fresh);
        tell.cmd("HSETNX").arg(&statistics).arg("sample").arg(claim_key(pipeline, &arrival.id));
        let answers = session.all("counting identities", &tell).await?;
        if let Some(now) = answers.first().and_then(unix_ms)
            && answers.get(2).and_then(number) == Some(1)
        {
            let mut oldest = redis::cmd("HSETNX");
            oldest.arg(&statistics).arg("oldest").arg(now);
            session.ask("counting identities", &oldest).await?;
        }
        Ok(())
    }
}

/// What a claim of each arrival is, given the earlier claimants.
fn answers(
    session: &Session,
    names: &HashMap<u32, SplitId>,
    number: u32,
    arrivals: &[Arrival],
    firsts: Vec<Option<Spot>>,
) -> Result<Vec<Claim<Place>>, SinkError> {
    let mut claims = Vec::with_capacity(arrivals.len());
    for (arrival, first) in arrivals.iter().zip(firsts) {
        let at = Spot { split: number, ordinal: arrival.ordinal };
        claims.push(match decide(first, &at) {
            Claim::New => Claim::New,
            Claim::Replay => Claim::Replay,
            Claim::Twin { of } => {
                let split = names.get(&of.split).cloned();
                let split = split.ok_or_else(|| session.misunderstood("claiming identities"))?;
                Claim::Twin { of: Place { split, ordinal: of.ordinal } }
            }
        });
    }
    Ok(claims)
}

/// Refuses a server that forgets by itself, or takes no writes.
fn fit(session: &Session) -> Result<(), ServerFault> {
    let (place, server) = (session.place().to_owned(), &session.server);
    if !server.keeps_keys() {
        return Err(ServerFault::Evicts { place, policy: server.eviction.clone() });
    }
    if server.replica {
        return Err(ServerFault::ReadOnly { place });
    }
    Ok(())
}

fn emptied(session: &Session, pipeline: &PipelineName, found: &'static str) -> SinkError {
    let (place, marker) = (session.place().to_owned(), key(pipeline, "marker"));
    WriteFault::LedgerEmptied { pipeline: pipeline.to_string(), place, marker, found }.into()
}

/// What a ledger holds, given the bytes of one claim. What expired is not counted down, so it is not counted at all.
pub(crate) fn held(
    retention: Retention,
    identities: u64,
    each: Option<u64>,
    oldest: Option<u64>,
    now: Option<u64>,
) -> Statistics {
    match retention {
        Retention::Unbounded => Statistics {
            identities: Some(identities),
            bytes: each.map(|each| each.saturating_mul(identities)),
            oldest_unix_ms: oldest,
        },
        Retention::For(window) => {
            let since = now.map(|now| now.saturating_sub(window.0)).filter(|_| oldest.is_some());
            Statistics { identities: None, bytes: None, oldest_unix_ms: oldest.max(since) }
        }
    }
}

/// An answer to TIME.
pub(crate) fn unix_ms(time: &Value) -> Option<u64> {
    let [seconds, micros] = list(time) else { return None };
    number(seconds)?.checked_mul(1000)?.checked_add(number(micros)? / 1000)
}

impl Ledger for RedisLedger {
    fn facts(&self) -> LedgerFacts {
        LedgerFacts { place: LedgerPlace::Outside, retention: self.retention, in_doubt: self.in_doubt }
    }

    fn check(&self) -> Fut<'_, Vec<String>, SinkError> {
        Box::pin(async move {
            let mut session = self.address.connect().await?;
            fit(&session)?;
            let persistence = session.persistence().await?;
            if matches!(persistence, Persistence::None | Persistence::Snapshots) && !self.accept_loss {
                let place = session.place().to_owned();
                return Err(WriteFault::NotPersistent { place, lost: persistence.words() }.into());
            }
            Ok(vec![format!(
                "the ledger at {} loses, when power is lost, {}; a failover may take claims that its replica had not \
                 received: records that come again then take effect again",
                session.place(),
                persistence.words()
            )])
        })
    }

    fn open<'a>(&'a self, pipeline: &'a PipelineName, has_positions: bool) -> Fut<'a, (), SinkError> {
        Box::pin(async move {
            let mut session = self.enter(pipeline).await?;
            self.mark(&mut session, pipeline, has_positions).await?;
            if !has_positions {
                // A destination without positions may count its holders anew.
                self.forget_holder(&mut session, pipeline).await?;
            }
            self.leave(session);
            Ok(())
        })
    }

    fn claim<'a>(
        &'a self,
        lease: &'a Lease,
        split: &'a SplitId,
        arrivals: &'a [Arrival],
    ) -> Fut<'a, Vec<Claim<Place>>, SinkError> {
        Box::pin(async move {
            let mut session = self.enter(&lease.pipeline).await?;
            let claims = self.claim_all(&mut session, lease, split, arrivals).await?;
            self.leave(session);
            Ok(claims)
        })
    }

    fn withdraw<'a>(
        &'a self,
        lease: &'a Lease,
        split: &'a SplitId,
        arrivals: &'a [Arrival],
    ) -> Fut<'a, (), SinkError> {
        Box::pin(async move {
            let mut session = self.enter(&lease.pipeline).await?;
            let (of, _) = self.number(&mut session, &lease.pipeline, split).await?;
            self.take_back(&mut session, lease, of, arrivals).await?;
            self.leave(session);
            Ok(())
        })
    }

    fn claimant<'a>(
        &'a self,
        pipeline: &'a PipelineName,
        id: &'a RecordId,
    ) -> Fut<'a, Option<Place>, SinkError> {
        Box::pin(async move {
            let mut session = self.enter(pipeline).await?;
            let found =
                session.ask("reading the ledger", redis::cmd("GET").arg(claim_key(pipeline, id))).await?;
            let place = match bytes(&found).and_then(Spot::decode) {
                None => None,
                Some(spot) => {
                    let names = self.names(&mut session, pipeline, vec![spot.split]).await?;
                    names.get(&spot.split).map(|split| Place { split: split.clone(), ordinal: spot.ordinal })
                }
            };
            self.leave(session);
            Ok(place)
        })
    }

    fn statistics<'a>(&'a self, pipeline: &'a PipelineName) -> Fut<'a, Statistics, SinkError> {
        Box::pin(async move {
            let doing = "reading the ledger";
            let mut session = self.enter(pipeline).await?;
            let mut ask = redis::pipe();
            ask.cmd("HMGET").arg(key(pipeline, "statistics")).arg(&["identities", "sample", "oldest"]);
            ask.cmd("TIME");
            let answers = session.all(doing, &ask).await?;
            let kept = answers.first().map(list).unwrap_or_default();
            let identities = kept.first().and_then(number).unwrap_or(0);
            let (oldest, now) = (kept.get(2).and_then(number), answers.get(1).and_then(unix_ms));
            let mut each = None;
            if let Some(sample) = kept.get(1).and_then(bytes) {
                each = number(&session.ask(doing, redis::cmd("MEMORY").arg("USAGE").arg(sample)).await?);
            }
            self.leave(session);
            Ok(held(self.retention, identities, each, oldest, now))
        })
    }
}
