//! How long a stream tells a repeat, as its settings say.

use std::time::Duration;

use async_nats::jetstream::stream::{Config, DiscardPolicy, PersistenceMode, RetentionPolicy, StorageType};
use hapax_engine::sink::{Past, Repeat};
use hapax_protocol::guarantee::{Durability, InDoubt, Window};

use super::UNDER_WAY;
use crate::config::{Once, PastWindow, SinkConfig};
use crate::fault::WriteFault;

/// What a stream remembers of what it took.
pub(super) struct Memory {
    pub repeat: Repeat,
    pub durability: Durability,
    /// What that rests on and nobody can check, in words.
    pub conditions: Vec<String>,
    /// What is done, in words.
    pub says: String,
}

impl Memory {
    /// Reads the settings of a stream, or says why it cannot be written.
    pub(super) fn of(sink: &SinkConfig, stream: &Config) -> Result<Self, WriteFault> {
        let unfit =
            |reason: &str| Err(WriteFault::Unfit { stream: sink.stream.clone(), reason: reason.to_owned() });
        if stream.no_ack {
            return unfit("it acknowledges nothing (`no_ack`)");
        }
        if stream.sealed {
            return unfit("it is sealed");
        }
        if stream.mirror.is_some() {
            return unfit("it is a mirror, and takes messages only of its origin");
        }
        let (repeat, says, mut conditions) = match sink.once {
            Once::MessageId => by_id(sink, stream)?,
            Once::Subject if stream.retention != RetentionPolicy::Limits => {
                return unfit("it forgets what its consumers acknowledge, and would take a repeat then");
            }
            Once::Subject if stream.subject_transform.is_some() => {
                return unfit("it gives messages another subject, which two identities may share");
            }
            Once::Subject => by_subject(sink, stream)?,
        };
        let mut durability = Durability::Durable;
        if stream.storage == StorageType::Memory && stream.num_replicas > 1 {
            conditions
                .push("the replicas of the stream, which are in memory, never all stop at once".to_owned());
        } else if stream.storage == StorageType::Memory || stream.persist_mode == Some(PersistenceMode::Async)
        {
            // A server that stops takes acknowledged messages along.
            durability = Durability::MayForget;
        }
        Ok(Self { repeat, durability, conditions, says })
    }
}

type Read = (Repeat, String, Vec<String>);

/// An id is remembered for a while.
fn by_id(sink: &SinkConfig, stream: &Config) -> Result<Read, WriteFault> {
    let name = &sink.stream;
    let within = dropped(sink, stream.duplicate_window, "duplicate_window")?;
    let Some((window, repeat)) = within else {
        let says = format!(
            "publish to {name:?}, each message under an id: a repeat adds another once the stream has forgotten it"
        );
        return Ok((Repeat::Adds { in_doubt: InDoubt::Resend }, says, Vec::new()));
    };
    let says = format!(
        "publish to {name:?}, each message under an id of which the stream drops repeats for {window} (`duplicate_window`)"
    );
    let mut conditions = Vec::new();
    let removes = stream.max_age > Duration::ZERO || full(stream).is_some();
    if removes || stream.retention != RetentionPolicy::Limits {
        conditions.push(
            "the server is not restarted within the window after a message was removed from the stream: it then finds \
             the ids of repeats in what the stream still holds"
                .to_owned(),
        );
    }
    Ok((repeat, says, conditions))
}

/// A subject holds one message, until something removes it.
fn by_subject(sink: &SinkConfig, stream: &Config) -> Result<Read, WriteFault> {
    let says = |how: String| {
        format!("publish to {:?}, one message a subject: a repeat is refused, {how}", sink.stream)
    };
    let mut conditions = Vec::new();
    if !(stream.deny_delete && stream.deny_purge) {
        conditions.push(
            "nobody deletes messages of the stream or purges it (`deny_delete` and `deny_purge` would see to that)"
                .to_owned(),
        );
    }
    if let Some(limit) = full(stream) {
        let (repeat, words) = match sink.past_window {
            PastWindow::Stop | PastWindow::Resend => (Repeat::Refused { for_good: false }, ""),
            PastWindow::Hold => {
                (Repeat::Adds { in_doubt: InDoubt::Hold }, "; what is in doubt is not sent again")
            }
        };
        let how =
            format!("until `{limit}` has made the stream remove what is repeated, nobody knows when{words}");
        return Ok((repeat, says(how), conditions));
    }
    if stream.max_age == Duration::ZERO {
        return Ok((Repeat::Refused { for_good: true }, says("for good".to_owned()), conditions));
    }
    Ok(match dropped(sink, stream.max_age, "max_age")? {
        Some((window, repeat)) => {
            (repeat, says(format!("for {window}: then the stream removes it (`max_age`)")), conditions)
        }
        None => {
            let how = "until the stream has removed what is repeated (`max_age`)".to_owned();
            (Repeat::Refused { for_good: false }, says(how), conditions)
        }
    })
}

/// What drops repeats for a while; `None` where they may be sent all the same.
fn dropped(
    sink: &SinkConfig,
    window: Duration,
    setting: &'static str,
) -> Result<Option<(Window, Repeat)>, WriteFault> {
    let past = match sink.past_window {
        PastWindow::Stop => Past::Stop,
        PastWindow::Hold => Past::Hold,
        PastWindow::Resend => return Ok(None),
    };
    let window = Window(u64::try_from(window.as_millis()).unwrap_or(u64::MAX));
    if window <= Window(UNDER_WAY.0.saturating_mul(2)) {
        let stream = sink.stream.clone();
        return Err(WriteFault::NoWindow { stream, setting, window, least: UNDER_WAY });
    }
    Ok(Some((window, Repeat::Dropped { window, under_way: UNDER_WAY, past })))
}

/// The limit of its size by which a stream removes the oldest messages when new ones come.
fn full(stream: &Config) -> Option<&'static str> {
    match stream.discard {
        // A full stream takes nothing new. One message a subject is what a subject has.
        DiscardPolicy::New => None,
        DiscardPolicy::Old if stream.max_messages > 0 => Some("max_msgs"),
        DiscardPolicy::Old if stream.max_bytes > 0 => Some("max_bytes"),
        DiscardPolicy::Old => None,
    }
}

#[cfg(test)]
mod tests;
