//! What `bench/http/run` measures: a server that keeps what is put, and the sink that puts it.
//!
//! `http_put serve` prints its port and serves until it is killed; `http_put put URL RECORDS CONCURRENCY` sends that many
//! records and prints requests a second; `http_put reqwest URL RECORDS CONCURRENCY` does so by `reqwest` alone.
// A measurement fails by panicking; its numbers are small.
#![allow(
    clippy::as_conversions,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::print_stdout,
    clippy::unwrap_used,
    missing_docs
)]

use std::collections::HashMap;
use std::convert::Infallible;
use std::sync::{Arc, Mutex};
use std::time::Instant;

use arrow::array::{ArrayRef, Float64Array, Int64Array, RecordBatch, StringArray};
use bytes::Bytes;
use hapax_engine::sink::{Sending, Shape};
use http_body_util::{BodyExt, Empty};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;

/// Records of one call of the sink.
const BATCH: i64 = 10_000;

#[tokio::main]
async fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match words.as_slice() {
        ["serve"] => serve().await,
        ["put", url, records, concurrency] => {
            put(url, records.parse().unwrap(), concurrency.parse().unwrap()).await;
        }
        ["reqwest", url, records, concurrency] => {
            bare_reqwest(url, records.parse().unwrap(), concurrency.parse().unwrap()).await;
        }
        _ => panic!("http_put serve | http_put put|reqwest URL RECORDS CONCURRENCY"),
    }
}

type Kept = Arc<Mutex<HashMap<String, Bytes>>>;

async fn serve() {
    let listener = tokio::net::TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
    println!("{}", listener.local_addr().unwrap().port());
    let kept = Kept::default();
    loop {
        let (stream, _) = listener.accept().await.unwrap();
        stream.set_nodelay(true).unwrap();
        let kept = Arc::clone(&kept);
        tokio::spawn(async move {
            let service = service_fn(move |request| answer(Arc::clone(&kept), request));
            let connection = hyper::server::conn::http1::Builder::new();
            let _ = connection.serve_connection(TokioIo::new(stream), service).await;
        });
    }
}

async fn answer(kept: Kept, request: Request<Incoming>) -> Result<Response<Empty<Bytes>>, Infallible> {
    let path = request.uri().path().to_owned();
    let Ok(body) = request.into_body().collect().await else {
        return Ok(Response::builder().status(400).body(Empty::new()).unwrap());
    };
    let before = kept.lock().unwrap().insert(path, body.to_bytes());
    let status = if before.is_some() { 200 } else { 201 };
    Ok(Response::builder().status(status).body(Empty::new()).unwrap())
}

/// Records whose bodies are as long as that of `put.lua`.
fn records(first: i64) -> RecordBatch {
    let ids: ArrayRef = Arc::new(Int64Array::from_iter_values(first..first + BATCH));
    let names = (first..first + BATCH).map(|id| format!("customer {:06}", id % 1_000_000));
    let names: ArrayRef = Arc::new(StringArray::from_iter_values(names));
    let notes = (0..BATCH).map(|_| "a note that is as long as notes are, mostly, in such a table of orders");
    let notes: ArrayRef = Arc::new(StringArray::from_iter_values(notes));
    let amounts: ArrayRef = Arc::new(Float64Array::from_iter_values((0..BATCH).map(|_| 1234.5)));
    RecordBatch::try_from_iter([("id", ids), ("name", names), ("amount", amounts), ("note", notes)]).unwrap()
}

async fn put(url: &str, count: i64, concurrency: u16) {
    let config = serde_json::json!({
        "url": format!("{url}/orders/{{id}}"), "method": "PUT", "allow_private": true, "concurrency": concurrency,
    });
    let target = hapax_http::sink::open(serde_json::from_value(config).unwrap()).await.unwrap();
    let shape = Shape { schema: records(0).schema(), key: vec!["id".to_owned()] };
    target.prepare(&shape).await.unwrap();
    let mut sender = target.sender(&hapax_protocol::position::SplitId::new("s")).await.unwrap();
    let batches: Vec<RecordBatch> =
        (0..count).step_by(BATCH as usize).map(|first| records(1_000_000 + first)).collect();
    let began = Instant::now();
    for records in batches {
        let sent = sender.send(Sending { records: &records, tokens: &[], deadline: None }).await.unwrap();
        assert!(sent.refused.is_empty() && sent.unknown.is_empty());
    }
    println!("{:.0}", count as f64 / began.elapsed().as_secs_f64());
}

fn body(id: i64) -> Bytes {
    format!(
        "{{\"id\":{id},\"name\":\"customer {:06}\",\"amount\":1234.5,\"note\":\"a note that is as long as notes are, mostly, in such a table of orders\"}}",
        id % 1_000_000
    )
    .into()
}

/// The same requests by `reqwest` alone, each line in a task of its own.
async fn bare_reqwest(url: &str, count: i64, concurrency: i64) {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let client = reqwest::Client::builder().no_proxy().tcp_nodelay(true).build().unwrap();
    let began = Instant::now();
    let next = Arc::new(std::sync::atomic::AtomicI64::new(1_000_000));
    let mut all = Vec::new();
    for _ in 0..concurrency {
        let (client, next, url) = (client.clone(), Arc::clone(&next), url.to_owned());
        all.push(tokio::spawn(async move {
            loop {
                let id = next.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
                if id >= 1_000_000 + count {
                    return;
                }
                let request =
                    client.put(format!("{url}/orders/{id}")).header("content-type", "application/json");
                let answer = request.body(body(id)).send().await.unwrap();
                assert!(answer.status().is_success());
                answer.bytes().await.unwrap();
            }
        }));
    }
    for one in all {
        one.await.unwrap();
    }
    println!("{:.0}", count as f64 / began.elapsed().as_secs_f64());
}
