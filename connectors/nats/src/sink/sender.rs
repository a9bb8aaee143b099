//! Publishes records, in their order, and waits until the stream has said of each that it has it.

use std::collections::VecDeque;
use std::error::Error as _;
use std::fmt::Write as _;
use std::sync::Arc;
use std::time::Duration;

use arrow::array::RecordBatch;
use async_nats::jetstream::context::{PublishAckFuture, PublishError, PublishErrorKind};
use async_nats::jetstream::message::PublishMessage;
use async_nats::jetstream::stream::Stream;
use async_nats::jetstream::{self, ErrorCode};
use bytes::Bytes;
use hapax_engine::Fut;
use hapax_engine::fault::SinkError;
use hapax_engine::message::encode;
use hapax_engine::sink::{Sender, Sending, Sent};
use hapax_engine::transform::RefusedRow;
use hapax_protocol::code::Code;
use hapax_protocol::identity::Token;

use super::Plan;
use crate::client::{Address, Line};
use crate::codes;
use crate::config::Once;
use crate::fault::{ServerFault, WriteFault};

/// How long an acknowledgement is waited for. What is sent again then is dropped or refused if it had arrived.
const ACK_S: u64 = 1;

/// How many messages are on their way at once.
const UNDER_WAY_MAX: usize = 500;

/// How often what was not acknowledged is sent again before the engine looks.
const ATTEMPTS_MAX: u32 = 4;

/// The code of the server for a subject that holds a message already, where it was not to hold one; since 2.12.
const WRONG_LAST_SEQUENCE_CONSTANT: u64 = 10_164;

/// The code of the server for a message that is larger than its stream takes.
const MESSAGE_EXCEEDS_MAXIMUM: u64 = 10_054;

/// Sends the records of one split.
pub(super) struct Publisher {
    address: Arc<Address>,
    plan: Arc<Plan>,
    line: Line,
    stream: Stream,
}

/// A record on its way.
struct Outgoing {
    row: usize,
    subject: String,
    body: Bytes,
    token: Option<Token>,
}

/// How one message ended.
enum Ended {
    Taken,
    /// Its subject holds a message.
    There,
    Refused(Code, String),
    /// Nobody knows, or not now: it is sent again.
    Lost(String),
}

impl Publisher {
    pub(super) async fn begin(address: Arc<Address>, plan: Arc<Plan>) -> Result<Self, SinkError> {
        let line = address.connect_for(Duration::from_secs(ACK_S)).await?;
        let stream = line.stream(&plan.stream).await?;
        Ok(Self { address, plan, line, stream })
    }

    /// What is to be sent, and what cannot be.
    fn outgoing(
        &self,
        records: &RecordBatch,
        tokens: &[Token],
    ) -> Result<(Vec<Outgoing>, Vec<RefusedRow>), WriteFault> {
        let (mut outgoing, mut refused) = (Vec::with_capacity(records.num_rows()), Vec::new());
        for (row, body) in encode(records, self.plan.format)?.into_iter().enumerate() {
            let subject = self.plan.subject.render(records, row, escaped);
            match body.and_then(|body| Ok((body, subject?))) {
                Ok((body, subject)) => {
                    outgoing.push(Outgoing { row, subject, body, token: tokens.get(row).copied() });
                }
                Err(reason) => refused.push(RefusedRow { row, code: codes::UNHELD, reason }),
            }
        }
        Ok((outgoing, refused))
    }

    async fn publish(&self, one: &Outgoing) -> Result<PublishAckFuture, PublishError> {
        let mut message =
            PublishMessage::build().payload(one.body.clone()).expected_stream(&self.plan.stream);
        if let Some(token) = one.token.filter(|_| self.plan.once == Once::MessageId) {
            message = message.message_id(token.to_string());
        }
        if self.plan.once == Once::Subject {
            message = message.expected_last_subject_sequence(0);
        }
        self.line.context.send_publish(one.subject.clone(), message).await
    }

    /// Sends from `first` on, up to the first message of which nobody knows how it ended.
    async fn pass(
        &self,
        all: &[Outgoing],
        first: usize,
        sending: &Sending<'_>,
        ended: &mut Vec<Ended>,
    ) -> Result<Option<String>, SinkError> {
        let mut acks: VecDeque<Result<PublishAckFuture, PublishError>> = VecDeque::new();
        let mut rest = all.get(first..).unwrap_or_default().iter();
        loop {
            if acks.len() < UNDER_WAY_MAX
                && let Some(one) = rest.next()
            {
                if sending.deadline.is_some_and(hapax_engine::sink::Deadline::is_past) {
                    return Err(WriteFault::Late { stream: self.plan.stream.clone() }.into());
                }
                acks.push_back(self.publish(one).await);
                continue;
            }
            let Some(ack) = acks.pop_front() else { return Ok(None) };
            let outcome = match ack {
                Ok(ack) => ack.await.map(drop),
                Err(error) => Err(error),
            };
            let Some(one) = all.get(ended.len()) else { return Ok(None) };
            match self.outcome(one, outcome)? {
                Ended::Lost(reason) => return Ok(Some(reason)),
                known => ended.push(known),
            }
        }
    }

    /// What an acknowledgement, or what came instead, means.
    fn outcome(&self, one: &Outgoing, outcome: Result<(), PublishError>) -> Result<Ended, SinkError> {
        let Err(error) = outcome else { return Ok(Ended::Taken) };
        let answer = error.source().and_then(|source| source.downcast_ref::<jetstream::Error>());
        let answer = answer.map(|answer| (answer.error_code(), answer.to_string()));
        Ok(match (error.kind(), answer) {
            (PublishErrorKind::WrongLastSequence, _) => Ended::There,
            (PublishErrorKind::MaxPayloadExceeded, _) => Ended::Refused(codes::UNHELD, error.to_string()),
            (
                PublishErrorKind::TimedOut | PublishErrorKind::BrokenPipe | PublishErrorKind::MaxAckPending,
                _,
            ) => Ended::Lost(error.to_string()),
            // Nobody listens: no stream has the subject, or the server is not ready.
            (PublishErrorKind::StreamNotFound, _) => {
                let takes = &self.stream.cached_info().config.subjects;
                match takes.iter().any(|pattern| covers(pattern, &one.subject)) {
                    true => Ended::Lost(error.to_string()),
                    false => {
                        let reason = format!("the stream takes nothing of the subject {}", one.subject);
                        Ended::Refused(codes::UNCOVERED, reason)
                    }
                }
            }
            (_, Some((ErrorCode(WRONG_LAST_SEQUENCE_CONSTANT), _))) => Ended::There,
            (_, Some((ErrorCode(MESSAGE_EXCEEDS_MAXIMUM), said))) => Ended::Refused(codes::UNHELD, said),
            (_, Some((ErrorCode::STREAM_NOT_MATCH, said))) => Ended::Refused(codes::UNCOVERED, said),
            (_, Some((_, said))) => {
                return Err(WriteFault::NotTaken { stream: self.plan.stream.clone(), said }.into());
            }
            (_, None) => Ended::Refused(codes::UNHELD, error.to_string()),
        })
    }

    async fn deliver(&mut self, sending: Sending<'_>, absent: bool) -> Result<Sent, SinkError> {
        let (all, mut refused) = self.outgoing(sending.records, sending.tokens)?;
        let mut ended = Vec::with_capacity(all.len());
        let mut attempts = 0;
        while let Some(reason) = {
            let first = ended.len();
            self.pass(&all, first, &sending, &mut ended).await?
        } {
            attempts += 1;
            if attempts >= ATTEMPTS_MAX {
                return Err(self.line.gone("waiting for acknowledgements", &reason).into());
            }
            if self.line.has_ended() {
                // What was on its way in the old connection has arrived or never will.
                *self = Self::begin(Arc::clone(&self.address), Arc::clone(&self.plan)).await?;
            }
        }
        for (one, ended) in all.iter().zip(ended) {
            let row = one.row;
            match ended {
                Ended::Taken | Ended::Lost(_) => {}
                Ended::Refused(code, reason) => refused.push(RefusedRow { row, code, reason }),
                Ended::There if self.holds(one).await? => {}
                Ended::There if absent => refused.push(RefusedRow::key_is_there(row)),
                Ended::There => {
                    let reason = format!("the subject {} holds another record", one.subject);
                    refused.push(RefusedRow { row, code: codes::KEY_TAKEN, reason });
                }
            }
        }
        refused.sort_unstable_by_key(|refused| refused.row);
        Ok(Sent { refused, unknown: Vec::new() })
    }

    /// Whether the subject of a record holds that very record: it was sent before.
    async fn holds(&self, one: &Outgoing) -> Result<bool, ServerFault> {
        let found = self.stream.get_last_raw_message_by_subject(&one.subject).await;
        let found = found.map_err(|error| self.line.gone("looking at a subject", &error))?;
        Ok(found.payload == one.body)
    }
}

/// Whether a subject is one of those that a pattern stands for.
fn covers(pattern: &str, subject: &str) -> bool {
    let (mut pattern, mut subject) = (pattern.split('.'), subject.split('.'));
    loop {
        match (pattern.next(), subject.next()) {
            (Some(">"), Some(_)) | (None, None) => return true,
            (Some("*"), Some(_)) => {}
            (Some(wanted), Some(token)) if wanted == token => {}
            _ => return false,
        }
    }
}

/// Writes a value as one token of a subject. Two values are never written alike.
fn escaped(value: &str, subject: &mut String) {
    if value.is_empty() {
        // No value is written as a percent sign alone.
        subject.push('%');
    }
    for c in value.chars() {
        match c {
            c if matches!(c, '.' | '*' | '>' | '%') || c.is_whitespace() || c.is_control() => {
                let mut bytes = [0; 4];
                for byte in c.encode_utf8(&mut bytes).bytes() {
                    let _ = write!(subject, "%{byte:02X}");
                }
            }
            c => subject.push(c),
        }
    }
}

impl Sender for Publisher {
    fn send<'a>(&'a mut self, sending: Sending<'a>) -> Fut<'a, Sent, SinkError> {
        Box::pin(self.deliver(sending, false))
    }

    fn send_absent<'a>(&'a mut self, sending: Sending<'a>) -> Fut<'a, Sent, SinkError> {
        Box::pin(self.deliver(sending, true))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_become_tokens_and_no_two_the_same() {
        let token = |value: &str| {
            let mut subject = String::new();
            escaped(value, &mut subject);
            subject
        };
        assert_eq!(token("a-1_ü/x"), "a-1_ü/x");
        assert_eq!(token("a.b c*>%"), "a%2Eb%20c%2A%3E%25");
        assert_eq!((token(""), token("%")), ("%".to_owned(), "%25".to_owned()));
        assert_eq!(token("\u{2003}"), "%E2%80%83");
        for (pattern, subject, expected) in [
            ("a.>", "a.b.c", true),
            ("a.>", "a", false),
            ("a.*", "a.b", true),
            ("a.*", "a.b.c", false),
            ("a", "a", true),
        ] {
            assert_eq!(covers(pattern, subject), expected, "{pattern} {subject}");
        }
    }
}
