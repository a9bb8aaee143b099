//! A source and a destination in Redis: keys of its own for each pipeline, looked into by other means than Hapax.

use std::collections::HashMap;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};

use redis::{Commands, Connection, RedisResult};

use crate::data::{Data, Record};

/// The file in the folder of a destination that names its keys.
const FILE: &str = "keys";

/// Keys that are removed with their pipeline.
pub struct Keys(String);

impl Keys {
    /// Makes them for the destination of this folder, with a stream of all records if that is the source.
    pub fn create(folder: &Path, pair: &str, data: &Data) -> Self {
        static COUNT: AtomicU64 = AtomicU64::new(0);
        let prefix = format!("hapax_kill_{}_{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
        std::fs::write(folder.join(FILE), &prefix).unwrap();
        if pair.starts_with("redis-to-") {
            fill(&format!("{prefix}.source"), &data.records);
        }
        Self(prefix)
    }

    pub fn prefix(&self) -> &str {
        &self.0
    }
}

impl Drop for Keys {
    fn drop(&mut self) {
        let mut connection = connect();
        let keys: Vec<Vec<u8>> = connection.keys(format!("{}.*", self.0)).unwrap_or_default();
        for keys in keys.chunks(1_000) {
            let _: RedisResult<()> = connection.unlink(keys);
        }
    }
}

fn connect() -> Connection {
    redis::Client::open(hapax_conformance::server::redis()).unwrap().get_connection().unwrap()
}

fn fill(stream: &str, records: &[Record]) {
    for records in records.chunks(1_000) {
        let mut pipe = redis::pipe();
        for record in records {
            let add = pipe.cmd("XADD").arg(stream).arg("*");
            add.arg("writer").arg(record.writer).arg("sequence").arg(record.sequence);
            add.arg("amount").arg(record.amount).arg("hash").arg(&record.hash);
            if let Some(text) = &record.text {
                add.arg("text").arg(text);
            }
        }
        let _: Vec<String> = pipe.query(&mut connect()).unwrap();
    }
}

fn record(fields: &HashMap<String, String>) -> Record {
    let number = |name: &str| fields[name].parse().unwrap();
    Record {
        writer: number("writer"),
        sequence: number("sequence"),
        amount: fields["amount"].parse().unwrap(),
        text: fields.get("text").cloned(),
        hash: fields["hash"].clone(),
    }
}

/// What is there, which may be nothing, and what the positions beside it count, at one moment.
fn look(folder: &Path) -> (Vec<Record>, i64) {
    const LOOK: &str = "
        local found, moved = {}, 0
        for _, name in ipairs(redis.call('SMEMBERS', KEYS[1] .. '.state:{kill}:kill:splits')) do
            moved = moved + (redis.call('HGET', KEYS[1] .. '.state:{kill}:kill:split:' .. name, 'moved') or 0)
        end
        if redis.call('TYPE', KEYS[1] .. '.target').ok == 'stream' then
            for _, entry in ipairs(redis.call('XRANGE', KEYS[1] .. '.target', '-', '+')) do
                found[#found + 1] = entry[2]
            end
        end
        for _, key in ipairs(redis.call('KEYS', KEYS[1] .. '.target:*')) do
            found[#found + 1] = redis.call('HGETALL', key)
        end
        return {moved, found}";
    let prefix = std::fs::read_to_string(folder.join(FILE)).unwrap();
    let (moved, found): (i64, Vec<HashMap<String, String>>) =
        redis::cmd("EVAL").arg(LOOK).arg(1).arg(prefix).query(&mut connect()).unwrap();
    (found.iter().map(record).collect(), moved)
}

/// What is there.
pub fn records(folder: &Path) -> Vec<Record> {
    look(folder).0
}

/// What is there and what the positions beside it count, at one moment.
pub fn glance(folder: &Path) -> Option<(Vec<Record>, i64)> {
    Some(look(folder))
}

/// How many records are set aside.
pub fn letters(folder: &Path) -> usize {
    let prefix = std::fs::read_to_string(folder.join(FILE)).unwrap();
    connect().zcard(format!("{prefix}.state:{{kill}}:kill:letters")).unwrap()
}
