//! Vectors that are computed on the way, by an endpoint that really computes something.
// A test fails by panicking; its numbers are small.
#![allow(
    clippy::as_conversions,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used
)]

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::unix::process::ExitStatusExt;
use std::process::{Command, Output, Stdio};
use std::sync::{Arc, Mutex};

use hapax_conformance::milvus::Client;
use serde_json::{Value, json};
use tempfile::TempDir;

const DIMENSION: usize = 16;

/// The frequencies of the three-letter pieces of a text, hashed into a few buckets, at length one.
fn vector(text: &str) -> Vec<f32> {
    let mut buckets = [0.0_f32; DIMENSION];
    let padded: Vec<u8> = format!("  {} ", text.to_lowercase()).into_bytes();
    for piece in padded.windows(3) {
        let hash = piece
            .iter()
            .fold(2_166_136_261_u32, |hash, byte| (hash ^ u32::from(*byte)).wrapping_mul(16_777_619));
        buckets[hash as usize % DIMENSION] += 1.0;
    }
    let length = buckets.iter().map(|number| number * number).sum::<f32>().sqrt();
    buckets.iter().map(|number| number / length).collect()
}

/// What was asked, and what is to go wrong.
#[derive(Default)]
struct Desk {
    asked: Vec<String>,
    /// The statuses of the next answers.
    failing: Vec<u16>,
    headers: Vec<String>,
}

struct Endpoint {
    port: u16,
    desk: Arc<Mutex<Desk>>,
}

impl Endpoint {
    fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let (port, desk) = (listener.local_addr().unwrap().port(), Arc::new(Mutex::new(Desk::default())));
        let here = Arc::clone(&desk);
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                // A client that was killed takes no answer.
                let _ = answer(stream, &here);
            }
        });
        Self { port, desk }
    }

    fn asked(&self) -> Vec<String> {
        self.desk.lock().unwrap().asked.clone()
    }
}

fn answer(stream: TcpStream, desk: &Mutex<Desk>) -> std::io::Result<()> {
    let mut reader = BufReader::new(stream.try_clone()?);
    let (mut line, mut length) = (String::new(), 0);
    loop {
        line.clear();
        reader.read_line(&mut line)?;
        let lower = line.to_ascii_lowercase();
        if let Some(value) = lower.strip_prefix("content-length:") {
            length = value.trim().parse().unwrap();
        }
        if lower.starts_with("authorization:") {
            desk.lock().unwrap().headers.push(line.trim().to_owned());
        }
        if line.trim().is_empty() {
            break;
        }
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body)?;
    // A client that was killed sends no whole request.
    let Ok(asked) = serde_json::from_slice::<Value>(&body) else { return Ok(()) };
    let texts: Vec<String> =
        asked["input"].as_array().unwrap().iter().map(|text| text.as_str().unwrap().to_owned()).collect();
    let mut desk = desk.lock().unwrap();
    let status = desk.failing.pop().unwrap_or(200);
    let (status, body) = if status != 200 {
        (status, json!({"error": "not now"}))
    } else if texts.iter().any(|text| text == "unspeakable") {
        (400, json!({"error": "a text is not allowed"}))
    } else {
        desk.asked.extend(texts.iter().cloned());
        // Backwards, with their places.
        let data = texts
            .iter()
            .enumerate()
            .rev()
            .map(|(index, text)| json!({"index": index, "embedding": vector(text)}));
        (200, json!({"data": data.collect::<Vec<_>>()}))
    };
    let body = body.to_string();
    let mut stream = stream;
    write!(
        stream,
        "HTTP/1.1 {status} X\r\ncontent-type: application/json\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{body}",
        body.len()
    )
}

struct Case {
    folder: TempDir,
    endpoint: Endpoint,
}

impl Case {
    fn new(texts: &[String], more: &str) -> Self {
        let case = Self { folder: tempfile::tempdir().unwrap(), endpoint: Endpoint::start() };
        let mut file = String::from("id,text\n");
        for (id, text) in texts.iter().enumerate() {
            file.push_str(&format!("{id},{text}\n"));
        }
        fs::write(case.folder.path().join("in.csv"), file).unwrap();
        let pipeline = format!(
            "name: p\nsource: {{ files: {{ path: in.csv, schema: {{ id: int64, text: string }} }} }}\n\
             identity: {{ key: [id] }}\n\
             embed:\n  http:\n    url: http://127.0.0.1:{}/v1/embeddings\n    model: trigrams\n    column: vector\n    \
             from: text\n    dimension: {DIMENSION}\n    texts: 8\n    allow_private: true\n    \
             auth: {{ bearer: \"${{env:EMBEDDING_TOKEN}}\" }}\n\
             sink: {{ files: {{ path: out/, format: parquet }} }}\n\
             delivery: exactly-once\ncommit: {{ records: 40 }}\n{more}",
            case.endpoint.port
        );
        fs::write(case.folder.path().join("p.yaml"), pipeline).unwrap();
        case
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_hapax"));
        command.args(arguments).current_dir(self.folder.path()).env("EMBEDDING_TOKEN", "topsecret");
        command.stdin(Stdio::null());
        command
    }

    fn hapax(&self, arguments: &[&str]) -> (i32, String) {
        let Output { status, stdout, stderr } = self.command(arguments).output().unwrap();
        let said = format!("{}{}", String::from_utf8_lossy(&stdout), String::from_utf8_lossy(&stderr));
        assert!(!said.contains("topsecret"), "it shows the token: {said}");
        (status.code().unwrap_or(-1), said)
    }

    /// What arrived: the vector of each id.
    fn arrived(&self) -> BTreeMap<i64, Vec<f32>> {
        use arrow_lists::{floats, ints};
        let mut arrived = BTreeMap::new();
        for entry in fs::read_dir(self.folder.path().join("out")).unwrap() {
            let path = entry.unwrap().path();
            if path.extension().is_none_or(|extension| extension != "parquet") {
                continue;
            }
            let file = fs::File::open(path).unwrap();
            let reader =
                parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder::try_new(file).unwrap();
            for batch in reader.build().unwrap() {
                let batch = batch.unwrap();
                let ids = ints(batch.column_by_name("id").unwrap());
                for (row, id) in ids.into_iter().enumerate() {
                    let vector = floats(batch.column_by_name("vector").unwrap(), row);
                    assert!(arrived.insert(id, vector).is_none(), "record {id} came twice");
                }
            }
        }
        arrived
    }
}

/// Columns of what was read.
mod arrow_lists {
    use arrow::array::{ArrayRef, AsArray};
    use arrow::datatypes::{Float32Type, Int64Type};

    pub fn ints(column: &ArrayRef) -> Vec<i64> {
        column.as_primitive::<Int64Type>().values().to_vec()
    }

    pub fn floats(column: &ArrayRef, row: usize) -> Vec<f32> {
        let list = match column.as_fixed_size_list_opt() {
            Some(list) => list.value(row),
            None => column.as_list::<i32>().value(row),
        };
        list.as_primitive::<Float32Type>().values().to_vec()
    }
}

fn texts() -> Vec<String> {
    (0..200)
        .map(|n| format!("the {} thing of {}", n % 90, if n % 2 == 0 { "day" } else { "night" }))
        .collect()
}

#[test]
fn a_run_that_is_killed_pays_for_each_text_once() {
    let texts = texts();
    let case = Case::new(&texts, "");
    let (code, said) = case.hapax(&["plan", "p.yaml"]);
    assert!(code == 0 && said.contains("vector") && said.contains("trigrams"), "{said}");
    assert!(case.endpoint.asked().is_empty(), "a plan asked");
    case.endpoint.desk.lock().unwrap().failing = vec![503, 200, 429];
    let mut kills = 0_usize;
    for point in ["batch-read", "mid-write", "commit-before", "commit-after", "stage-done", "split-done"] {
        let output = case.command(&["run", "p.yaml"]).env("HAPAX_CRASH", point).output().unwrap();
        kills += usize::from(output.status.signal() == Some(9));
    }
    assert!(kills >= 4, "{kills} kills");
    let (code, said) = case.hapax(&["run", "p.yaml"]);
    assert_eq!(code, 0, "{said}");
    let arrived = case.arrived();
    assert_eq!(arrived.len(), texts.len());
    for (id, text) in texts.iter().enumerate() {
        assert_eq!(arrived[&(id as i64)], vector(text), "record {id}");
    }
    let asked = case.endpoint.asked();
    let (paid, once): (BTreeSet<&String>, BTreeSet<&String>) =
        (asked.iter().collect(), texts.iter().collect());
    assert_eq!(paid, once);
    // A kill takes the answer of one request at most, of eight texts: what was answered is not asked for again.
    assert!(
        asked.len() <= once.len() + 8 * kills,
        "{} texts were paid for, after {kills} kills",
        asked.len()
    );
    // Both ends again, and nobody is asked.
    let (code, said) = case.hapax(&["verify", "p.yaml"]);
    assert_eq!(code, 0, "{said}");
    assert_eq!(case.endpoint.asked().len(), asked.len());
    assert!(
        case.endpoint.desk.lock().unwrap().headers.iter().all(|header| header.ends_with("Bearer topsecret"))
    );
}

#[test]
fn what_was_computed_is_in_milvus_once() {
    let texts = &texts()[..60];
    let case = Case::new(texts, "");
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let mut client = runtime.block_on(Client::of_tests());
    let (name, server) =
        (format!("hapax_test_embedded_{}", std::process::id()), hapax_conformance::server::milvus());
    runtime.block_on(client.drop(&name));
    let (token, place) = server.trim_start_matches("http://").rsplit_once('@').unwrap();
    let file = fs::read_to_string(case.folder.path().join("p.yaml")).unwrap();
    let file = file
        .replace(
            "sink: { files: { path: out/, format: parquet } }",
            &format!(
                "sink:\n  milvus:\n    url: http://{place}\n    token: ${{env:MILVUS_TOKEN}}\n    \
                 collection: {name}\n    \
                 create: {{ vector: vector, dimension: {DIMENSION}, metric: l2, index: flat }}"
            ),
        )
        .replace("exactly-once", "effectively-once");
    fs::write(case.folder.path().join("p.yaml"), file).unwrap();
    let mut run = case.command(&["run", "p.yaml"]);
    run.env("MILVUS_TOKEN", token);
    let killed = run.env("HAPAX_CRASH", "commit-before").output().unwrap();
    assert_eq!(killed.status.signal(), Some(9), "{killed:?}");
    let output = run.env_remove("HAPAX_CRASH").output().unwrap();
    assert!(output.status.success(), "{output:?}");
    let rows = runtime.block_on(client.rows(&name, "id >= 0", &["id", "vector"]));
    let count = runtime.block_on(client.count(&name, ""));
    runtime.block_on(client.drop(&name));
    assert_eq!((rows.len(), count), (texts.len(), texts.len() as i64));
    for row in rows {
        let id = row["id"].as_i64().unwrap() as usize;
        assert_eq!(row["vector"], json!(vector(&texts[id])), "record {id}");
    }
}

#[test]
fn a_text_that_is_refused_is_set_aside_alone() {
    let texts = ["fine", "unspeakable", "as well"].map(str::to_owned);
    let case = Case::new(&texts, "");
    let (code, said) = case.hapax(&["run", "p.yaml"]);
    assert_eq!(code, 0, "{said}");
    assert_eq!(case.arrived().into_keys().collect::<Vec<_>>(), [0, 2]);
    let (code, said) = case.hapax(&["dead-letters", "list", "p.yaml"]);
    assert!(code == 0 && said.contains("HX0852") && said.contains("not allowed"), "{said}");
    let (_, said) = case.hapax(&["dead-letters", "replay", "p.yaml", "--all"]);
    assert!(said.contains("not allowed"), "{said}");
}

#[test]
fn what_cannot_be_computed_stops_the_run_with_its_own_error() {
    let case = Case::new(&["one".to_owned()], "outage_max: 1s\n");
    let file = fs::read_to_string(case.folder.path().join("p.yaml")).unwrap();
    let with =
        |from: &str, to: &str| fs::write(case.folder.path().join("p.yaml"), file.replace(from, to)).unwrap();
    for (from, to, exit, code) in [
        ("from: text", "from: word", 2, "HX0850"),
        ("from: text", "from: id", 2, "HX0850"),
        ("dimension: 16", "dimension: 17", 1, "HX0851"),
        ("allow_private: true", "allow_private: false", 2, "HX0754"),
        ("column: vector", "colum: vector", 2, "HX0003"),
        ("identity: { key: [id] }", "identity: hash", 2, "HX0012"),
    ] {
        with(from, to);
        let (found, said) = case.hapax(&["run", "p.yaml"]);
        assert!(found == exit && said.contains(code), "{to}: {found} {said}");
        assert!(
            !case.folder.path().join("out").exists() || case.arrived().is_empty(),
            "{to}: something moved"
        );
    }
    with("", "");
    for (status, code) in [(401, "HX0751"), (404, "HX0779")] {
        case.endpoint.desk.lock().unwrap().failing = vec![status];
        let (found, said) = case.hapax(&["run", "p.yaml"]);
        assert!(found == 1 && said.contains(code), "{status}: {found} {said}");
    }
    case.endpoint.desk.lock().unwrap().failing = vec![500; 1_000];
    let (found, said) = case.hapax(&["run", "p.yaml"]);
    assert!(found == 1 && said.contains("HX0752"), "{found} {said}");
    case.endpoint.desk.lock().unwrap().failing.clear();
    let (found, said) = case.hapax(&["run", "p.yaml"]);
    assert_eq!(found, 0, "{said}");
}
