//! A sink before an API of the test's own.
#![allow(dead_code)]

use std::io::{BufRead, BufReader, Read, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use arrow::array::{ArrayRef, Int64Array, RecordBatch, StringArray};
use arrow::datatypes::Schema;
use hapax_conformance::http::Api;
use hapax_engine::fault::{SinkError, SinkErrorKind};
use hapax_engine::sink::{Sender, Sending, Sent, Shape, Target};
use hapax_http::config::SinkConfig;
use hapax_protocol::code::Code;
use hapax_protocol::identity::{RecordId, Token};
use hapax_protocol::position::SplitId;
use serde_json::{Value, json};

/// Two objects as one.
pub fn with(mut one: Value, more: &Value) -> Value {
    one.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    one
}

/// A section for this API, which a busy machine does not keep waiting for too long.
pub fn section(api: &Api, path: &str, method: &str, more: &Value) -> Value {
    let url = format!("{}{path}", api.url());
    with(json!({ "url": url, "method": method, "allow_private": true, "timeout": "20s" }), more)
}

pub async fn open(section: Value) -> Result<Arc<dyn Target>, SinkError> {
    let config: SinkConfig = serde_json::from_value(section).unwrap();
    hapax_http::sink::open(config).await
}

pub fn people(rows: &[(Option<i64>, &str)]) -> RecordBatch {
    let ids: ArrayRef = Arc::new(Int64Array::from_iter(rows.iter().map(|row| row.0)));
    let names: ArrayRef = Arc::new(StringArray::from_iter_values(rows.iter().map(|row| row.1)));
    RecordBatch::try_from_iter_with_nullable([("id", ids, true), ("name", names, true)]).unwrap()
}

pub fn numbered(ids: std::ops::Range<i64>) -> RecordBatch {
    let names: Vec<String> = ids.clone().map(|id| format!("name {id}")).collect();
    people(&ids.zip(&names).map(|(id, name)| (Some(id), name.as_str())).collect::<Vec<_>>())
}

pub fn shape(schema: &Arc<Schema>, key: &[&str]) -> Shape {
    Shape { schema: Arc::clone(schema), key: key.iter().map(|name| (*name).to_owned()).collect() }
}

/// A server that answers each request by its head, with whole answers, one after the other.
pub struct Small {
    pub port: u16,
    over: Arc<AtomicBool>,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl Small {
    pub fn start(mut answer: impl FnMut(&str) -> String + Send + 'static) -> Self {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let over = Arc::new(AtomicBool::new(false));
        let ended = Arc::clone(&over);
        let thread = std::thread::spawn(move || {
            for stream in listener.incoming() {
                if ended.load(Ordering::Relaxed) {
                    return;
                }
                let mut stream = stream.unwrap();
                stream.set_read_timeout(Some(std::time::Duration::from_secs(20))).unwrap();
                let mut head = String::new();
                let mut lines = BufReader::new(stream.try_clone().unwrap());
                while lines.read_line(&mut head).is_ok_and(|read| read > 2) {}
                let length = head
                    .to_lowercase()
                    .split("content-length: ")
                    .nth(1)
                    .map(|rest| rest.split('\r').next().unwrap().parse().unwrap());
                let _ = lines.read_exact(&mut vec![0; length.unwrap_or(0)]);
                let _ = stream.write_all(answer(&head).as_bytes());
            }
        });
        Self { port, over, thread: Some(thread) }
    }
}

impl Drop for Small {
    fn drop(&mut self) {
        self.over.store(true, Ordering::Relaxed);
        let _ = std::net::TcpStream::connect(("127.0.0.1", self.port));
        let _ = self.thread.take().unwrap().join();
    }
}

/// An answer, with more headers.
pub fn answered(status: u16, headers: &str, body: &str) -> String {
    let length = body.len();
    format!("HTTP/1.1 {status} X\r\nContent-Length: {length}\r\nConnection: close\r\n{headers}\r\n{body}")
}

/// A sink that is ready for records of id and name, and a sender of it.
pub async fn ready(section: Value) -> (Arc<dyn Target>, Box<dyn Sender>) {
    let target = open(section).await.unwrap();
    target.prepare(&shape(&numbered(0..1).schema(), &["id"])).await.unwrap();
    let sender = target.sender(&SplitId::new("s")).await.unwrap();
    (target, sender)
}

pub fn tokens(records: &RecordBatch, first: u8) -> Vec<Token> {
    (0..records.num_rows()).map(|row| Token(RecordId([first.wrapping_add(row as u8); 16]))).collect()
}

pub async fn send(sender: &mut Box<dyn Sender>, records: &RecordBatch) -> Result<Sent, SinkError> {
    let tokens = tokens(records, 0);
    sender.send(Sending { records, tokens: &tokens, deadline: None }).await
}

/// The kind and the code of a failure, of which the help says something.
pub fn kind(error: &SinkError) -> (SinkErrorKind, Code) {
    assert_ne!(error.fault.help(), "");
    (error.kind, error.fault.code())
}

/// The error that a section has when it is opened, checked, or written by.
pub async fn fails(section: Value, key: &[&str]) -> Option<SinkError> {
    let target = match open(section).await {
        Ok(target) => target,
        Err(error) => return Some(error),
    };
    let shape = shape(&numbered(0..1).schema(), key);
    let checked = target.check(&shape).await;
    let prepared = target.prepare(&shape).await;
    assert_eq!(checked.is_ok(), prepared.is_ok(), "a plan and a run disagree");
    if let Err(error) = prepared {
        return Some(error);
    }
    let mut sender = match target.sender(&SplitId::new("s")).await {
        Ok(sender) => sender,
        Err(error) => return Some(error),
    };
    send(&mut sender, &numbered(0..1)).await.err()
}
