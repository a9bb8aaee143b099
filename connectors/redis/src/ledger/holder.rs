//! Who may take claims back.
//!
//! A claim that is made late does no harm: the present holder claims the same record at the same place, or has. What undoes
//! a claim would: so the server is told who holds the lease before anything is claimed, and what takes back asks. A claim
//! that was taken back stays, as nobody's, and is claimed anew only by who asks the same.

use hapax_engine::fault::SinkError;
use hapax_engine::sink::Arrival;
use hapax_protocol::guarantee::Retention;
use hapax_protocol::lease::{Lease, PipelineName};
use redis::{Cmd, Value};

use super::{RedisLedger, Spot, claim_key, key};
use crate::client::{Session, bytes, list, number};
use crate::fault::WriteFault;

/// How many claims are taken back in one step. The server does nothing else meanwhile.
const AT_ONCE: usize = 2_048;

const HOLD: &str = include_str!("hold.lua");
const WITHDRAW: &str = include_str!("withdraw.lua");
const RECLAIM: &str = include_str!("reclaim.lua");

/// What stands where a claim was taken back.
const NOBODY: &[u8] = b"-";

/// What a claim holds.
pub(super) enum Held {
    /// It was free, and is ours.
    Free,
    /// Somebody had it.
    By(Spot),
    /// It was taken back.
    Nobody,
}

impl Held {
    /// Reads what `SET … NX GET` answers; `None` if it makes no sense.
    pub(super) fn read(answer: &Value) -> Option<Self> {
        match answer {
            Value::Nil => Some(Self::Free),
            other => match bytes(other)? {
                NOBODY => Some(Self::Nobody),
                bytes => Spot::decode(bytes).map(Self::By),
            },
        }
    }
}

impl RedisLedger {
    /// Tells the server who holds the lease, once.
    pub(super) async fn hold(&self, session: &mut Session, lease: &Lease) -> Result<(), SinkError> {
        let told = self.known().get(&lease.pipeline).and_then(|known| known.held);
        if told == Some(lease.token) {
            return Ok(());
        }
        let mut call = redis::cmd("EVAL");
        call.arg(HOLD).arg(1).arg(key(&lease.pipeline, "holder")).arg(lease.token.get());
        self.unless_fenced(session, lease, "naming the holder", &call).await?;
        self.known().entry(lease.pipeline.clone()).or_default().held = Some(lease.token);
        Ok(())
    }

    pub(super) async fn forget_holder(
        &self,
        session: &mut Session,
        pipeline: &PipelineName,
    ) -> Result<(), SinkError> {
        let mut forget = redis::cmd("DEL");
        forget.arg(key(pipeline, "holder"));
        session.ask("forgetting the holder", &forget).await?;
        if let Some(known) = self.known().get_mut(pipeline) {
            known.held = None;
        }
        Ok(())
    }

    /// Takes claims back that these arrivals hold.
    pub(super) async fn take_back(
        &self,
        session: &mut Session,
        lease: &Lease,
        split: u32,
        arrivals: &[Arrival],
    ) -> Result<(), SinkError> {
        let doing = "withdrawing claims";
        for arrivals in arrivals.chunks(AT_ONCE) {
            let call = self.call(WITHDRAW, &["holder"], lease, split, arrivals.iter());
            let gone = self.unless_fenced(session, lease, doing, &call).await?;
            let gone = gone.as_ref().and_then(number).and_then(|gone| i64::try_from(gone).ok()).unwrap_or(0);
            let mut tell = redis::cmd("HINCRBY");
            tell.arg(key(&lease.pipeline, "statistics")).arg("identities").arg(gone.wrapping_neg());
            session.ask(doing, &tell).await?;
        }
        Ok(())
    }

    /// Claims, in their order, what was taken back and what a split without a name holds: the earlier claimant of each, or
    /// `None` where this one is the first.
    pub(super) async fn reclaim(
        &self,
        session: &mut Session,
        lease: &Lease,
        split: u32,
        arrivals: &[&Arrival],
    ) -> Result<Vec<Option<Spot>>, SinkError> {
        let doing = "claiming what was withdrawn";
        let mut firsts = Vec::with_capacity(arrivals.len());
        for arrivals in arrivals.chunks(AT_ONCE) {
            let call = self.call(RECLAIM, &["holder", "split-names"], lease, split, arrivals.iter().copied());
            let answers = self.unless_fenced(session, lease, doing, &call).await?;
            let answers = answers.as_ref().map(list).unwrap_or_default();
            if answers.len() != arrivals.len() {
                return Err(session.misunderstood(doing).into());
            }
            for answer in answers {
                firsts.push(match Held::read(answer) {
                    Some(Held::Free) => None,
                    Some(Held::By(spot)) => Some(spot),
                    Some(Held::Nobody) | None => return Err(session.misunderstood(doing).into()),
                });
            }
        }
        Ok(firsts)
    }

    /// A call of a script with the claims of these arrivals behind what it needs before them.
    fn call<'a>(
        &self,
        script: &str,
        before: &[&str],
        lease: &Lease,
        split: u32,
        arrivals: impl ExactSizeIterator<Item = &'a Arrival> + Clone,
    ) -> Cmd {
        let mut call = redis::cmd("EVAL");
        call.arg(script).arg(arrivals.len().saturating_add(before.len()));
        for name in before {
            call.arg(key(&lease.pipeline, name));
        }
        for arrival in arrivals.clone() {
            call.arg(claim_key(&lease.pipeline, &arrival.id));
        }
        call.arg(lease.token.get()).arg(match self.retention {
            Retention::Unbounded => 0,
            Retention::For(window) => window.0,
        });
        for arrival in arrivals {
            call.arg(Spot { split, ordinal: arrival.ordinal }.encode().as_slice());
        }
        call
    }

    /// What a script answers behind its first word, unless that says that a later holder has claimed.
    async fn unless_fenced(
        &self,
        session: &mut Session,
        lease: &Lease,
        doing: &'static str,
        call: &Cmd,
    ) -> Result<Option<Value>, SinkError> {
        let answer = session.ask(doing, call).await?;
        let (word, rest) = match list(&answer).split_first() {
            Some((word, rest)) => (bytes(word), rest.first()),
            None => return Err(session.misunderstood(doing).into()),
        };
        match (word, rest.and_then(number)) {
            (Some(b"fenced"), Some(by)) => {
                let pipeline = lease.pipeline.to_string();
                Err(WriteFault::Fenced { pipeline, token: lease.token.get(), by }.into())
            }
            _ => Ok(rest.cloned()),
        }
    }
}
