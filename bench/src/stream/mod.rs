//! Programs around a Kafka broker.
//!
//! - `stream make BROKERS TOPIC PARTITIONS`: an empty topic, instead of one that was there
//! - `stream fill BROKERS TOPIC MESSAGES`: messages of 1 KiB, over all partitions in turn
//! - `stream count BROKERS TOPIC`: prints how many messages a reader sees, and how many ids they have
//! - `stream pipe BROKERS FROM TO`: the plain program: consumes and produces, without transactions
//! - `stream watch URL MESSAGES PARTITIONS COMMAND…`: runs a command until all messages are in the table `target`
//! - `stream latency BROKERS FROM TO|URL RATE SECONDS`: produces at a rate, and measures when messages are seen at the
//!   destination, a topic or the table `target`

mod broker;
mod latency;
mod message;
mod pipe;
mod watch;

use std::ffi::OsString;
use std::io;

/// Does what the arguments say.
pub fn run(arguments: impl Iterator<Item = OsString>) -> io::Result<()> {
    let words: Vec<String> =
        arguments.map(|word| word.into_string().map_err(|_| usage())).collect::<Result<_, _>>()?;
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    match words.as_slice() {
        ["make", brokers, topic, partitions] => broker::make(brokers, topic, number(partitions)?),
        ["fill", brokers, topic, messages] => broker::fill(brokers, topic, number(messages)?),
        ["count", brokers, topic] => broker::count(brokers, topic),
        ["pipe", brokers, from, to] => pipe::pipe(brokers, from, to),
        ["watch", url, messages, partitions, command @ ..] => {
            watch::watch(url, number(messages)?, number(partitions)?, command)
        }
        ["latency", brokers, from, to, rate, seconds] => {
            latency::measure(brokers, from, to, number(rate)?, number(seconds)?)
        }
        _ => Err(usage()),
    }
}

fn usage() -> io::Error {
    io::Error::other("usage: hapax-bench stream make|fill|count|pipe|watch|latency …")
}

fn number<T: std::str::FromStr>(text: &str) -> io::Result<T> {
    text.parse().map_err(|_| io::Error::other(format!("{text:?} is not a number")))
}
