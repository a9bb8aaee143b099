//! Claiming many identities in few commands.
//!
//! Where most are expected to be new, a group of them is one `MSETNX`: it sets all of its keys, or none if one is there,
//! in one atomic step, at a fraction of what as many commands cost the server. The members of a group that was not set,
//! and all where few are new, are claimed one by one with `SET key place NX GET`, which tells the earlier claimant too.

use std::collections::HashSet;
use std::sync::atomic::Ordering;

use hapax_engine::fault::SinkError;
use hapax_engine::sink::Arrival;
use hapax_protocol::guarantee::Retention;
use hapax_protocol::identity::RecordId;
use hapax_protocol::lease::{Lease, PipelineName};
use redis::{Pipeline, Value};

use super::holder::Held;
use super::{RedisLedger, Spot, emptied, key};
use crate::client::{Session, bytes, number};

/// How many claims leave together: enough for the way there and back not to count, and few enough for the server to
/// serve others in between.
const CLAIMS_AT_ONCE: usize = 2_048;

/// How many claims are one command. The server does nothing else meanwhile.
const GROUP: usize = 128;

const DOING: &str = "claiming identities";

/// Whose claims are made, and what they look like.
pub(super) struct Claiming<'a> {
    pub lease: &'a Lease,
    /// The number of the split.
    pub split: u32,
    /// What must stand beside the claims.
    pub marker: &'a [u8],
}

impl Claiming<'_> {
    fn spot(&self, arrival: &Arrival) -> [u8; Spot::BYTES] {
        Spot { split: self.split, ordinal: arrival.ordinal }.encode()
    }
}

impl RedisLedger {
    /// The earlier claimant of each arrival; `None` where this one is the first.
    pub(super) async fn firsts(
        &self,
        session: &mut Session,
        claiming: &Claiming<'_>,
        arrivals: &[Arrival],
    ) -> Result<Vec<Option<Spot>>, SinkError> {
        // A command that sets many keys gives none of them a time to live.
        let grouped = self.retention == Retention::Unbounded && self.mostly_new.load(Ordering::Relaxed);
        let (mut firsts, rest) = match grouped {
            true => self.by_group(session, claiming, arrivals).await?,
            false => (vec![None; arrivals.len()], (0..arrivals.len()).collect()),
        };
        let each = self.one_by_one(session, claiming, arrivals, &rest).await?;
        for (row, first) in rest.into_iter().zip(each) {
            if let Some(slot) = firsts.get_mut(row) {
                *slot = first;
            }
        }
        let (mut groups, mut new) = (0_usize, 0_usize);
        for group in firsts.chunks(GROUP) {
            groups = groups.saturating_add(1);
            new = new.saturating_add(usize::from(group.iter().all(Option::is_none)));
        }
        self.mostly_new.store(new.saturating_mul(2) >= groups, Ordering::Relaxed);
        Ok(firsts)
    }

    /// Claims by groups, and tells which arrivals are still to be claimed, in their order: those of the groups of which
    /// one was there, and those whose identity comes earlier in this very call.
    async fn by_group(
        &self,
        session: &mut Session,
        claiming: &Claiming<'_>,
        arrivals: &[Arrival],
    ) -> Result<(Vec<Option<Spot>>, Vec<usize>), SinkError> {
        let mut seen: HashSet<RecordId> = HashSet::with_capacity(arrivals.len());
        let (once, mut rest): (Vec<_>, Vec<_>) =
            arrivals.iter().enumerate().partition(|(_, arrival)| seen.insert(arrival.id));
        let calls = once.chunks(CLAIMS_AT_ONCE).map(|together| {
            let mut claims = Claims::new(&claiming.lease.pipeline);
            for group in together.chunks(GROUP) {
                claims.group(group.iter().map(|(_, arrival)| (*arrival, claiming.spot(arrival))));
            }
            claims.send(session)
        });
        let answers = futures::future::try_join_all(calls).await?;
        for (together, answers) in once.chunks(CLAIMS_AT_ONCE).zip(answers) {
            let answers = behind_marker(session, claiming, &answers)?;
            for (group, answer) in together.chunks(GROUP).zip(answers) {
                match number(answer) {
                    Some(1) => {}
                    Some(0) => rest.extend(group),
                    _ => return Err(session.misunderstood(DOING).into()),
                }
            }
        }
        let mut rest: Vec<usize> = rest.into_iter().map(|(row, _)| row).collect();
        rest.sort_unstable();
        Ok((vec![None; arrivals.len()], rest))
    }

    async fn one_by_one(
        &self,
        session: &mut Session,
        claiming: &Claiming<'_>,
        arrivals: &[Arrival],
        rows: &[usize],
    ) -> Result<Vec<Option<Spot>>, SinkError> {
        // They leave in their order on one connection, and the server works on one while the next is written.
        let calls = rows.chunks(CLAIMS_AT_ONCE).map(|rows| {
            let mut claims = Claims::new(&claiming.lease.pipeline);
            for arrival in rows.iter().filter_map(|row| arrivals.get(*row)) {
                claims.one(arrival, &claiming.spot(arrival), self.retention);
            }
            claims.send(session)
        });
        let (mut firsts, mut taken_back) = (Vec::with_capacity(rows.len()), Vec::new());
        for answers in futures::future::try_join_all(calls).await? {
            for answer in behind_marker(session, claiming, &answers)? {
                firsts.push(match Held::read(answer) {
                    Some(Held::Free) => None,
                    Some(Held::By(spot)) => Some(spot),
                    Some(Held::Nobody) => {
                        taken_back.push(firsts.len());
                        None
                    }
                    None => return Err(session.misunderstood(DOING).into()),
                });
            }
        }
        let again: Vec<&Arrival> = taken_back.iter().filter_map(|at| arrivals.get(*rows.get(*at)?)).collect();
        let claimed = self.reclaim(session, claiming.lease, claiming.split, &again).await?;
        for (at, first) in taken_back.into_iter().zip(claimed) {
            if let Some(slot) = firsts.get_mut(at) {
                *slot = first;
            }
        }
        Ok(firsts)
    }
}

/// Commands that leave together, with a look at the marker behind them: a server that was emptied while they ran, or
/// before, has it no more.
struct Claims {
    ask: Pipeline,
    marker: String,
    /// The name of a claim; what comes behind its first `prefix` bytes is overwritten.
    name: Vec<u8>,
    prefix: usize,
}

impl Claims {
    fn new(pipeline: &PipelineName) -> Self {
        let name = key(pipeline, "").into_bytes();
        let prefix = name.len();
        Self { ask: redis::pipe(), marker: key(pipeline, "marker"), name, prefix }
    }

    fn named(&mut self, id: &RecordId) {
        self.name.truncate(self.prefix);
        self.name.extend_from_slice(&id.0);
    }

    fn group<'a>(&mut self, members: impl Iterator<Item = (&'a Arrival, [u8; Spot::BYTES])>) {
        self.ask.cmd("MSETNX");
        for (arrival, spot) in members {
            self.named(&arrival.id);
            self.ask.arg(self.name.as_slice()).arg(spot.as_slice());
        }
    }

    fn one(&mut self, arrival: &Arrival, spot: &[u8], retention: Retention) {
        self.named(&arrival.id);
        self.ask.cmd("SET").arg(self.name.as_slice()).arg(spot).arg("NX").arg("GET");
        if let Retention::For(window) = retention {
            self.ask.arg("PX").arg(window.0);
        }
    }

    fn send(
        mut self,
        session: &Session,
    ) -> impl Future<Output = Result<Vec<Value>, crate::fault::ServerFault>> + use<> {
        self.ask.cmd("GET").arg(&self.marker);
        let mut session = session.again();
        async move { session.all(DOING, &self.ask).await }
    }
}

/// The answers to the claims, if what must stand beside them stands there.
fn behind_marker<'a>(
    session: &Session,
    claiming: &Claiming<'_>,
    answers: &'a [Value],
) -> Result<&'a [Value], SinkError> {
    match answers.split_last() {
        None => Err(session.misunderstood(DOING).into()),
        Some((found, _)) if bytes(found) != Some(claiming.marker) => {
            Err(emptied(session, &claiming.lease.pipeline, "is gone, or another one"))
        }
        Some((_, answers)) => Ok(answers),
    }
}
