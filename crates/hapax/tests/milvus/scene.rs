//! Collections on a real Milvus, looked into by other means than Hapax.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use arrow::array::{FixedSizeListArray, Float32Array, Int64Array, RecordBatch, StringArray};
use arrow::datatypes::{DataType, Field, Schema};
use hapax_conformance::milvus::{Client, Kind, Made};
use parquet::arrow::ArrowWriter;
use serde_json::{Value, json};

/// What a pipeline into a collection moves here: a number, a vector, a text.
pub const DIMENSION: usize = 8;
pub const MADE: Made<'static> =
    Made { fields: &[("id", Kind::Int64), ("embedding", Kind::Vector(8))], auto_id: false, dynamic: true };

/// Collections that are dropped at the end of the test.
pub struct Server {
    pub url: String,
    runtime: tokio::runtime::Runtime,
    client: Client,
    made: Vec<String>,
}

impl Server {
    pub fn of_tests() -> Self {
        Self::at(&hapax_conformance::server::milvus())
    }

    pub fn at(url: &str) -> Self {
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let client = runtime.block_on(Client::at(url));
        Self { url: url.to_owned(), runtime, client, made: Vec::new() }
    }

    /// The URL without what lets in, and that.
    pub fn parts(&self) -> (String, String) {
        let (token, place) = self.url.trim_start_matches("http://").rsplit_once('@').unwrap();
        (format!("http://{place}"), token.to_owned())
    }

    /// A name that is dropped, now and at the end.
    pub fn named(&mut self, name: &str) -> String {
        let name = format!("hapax_test_{name}_{}", std::process::id());
        self.drops(&name);
        name
    }

    pub fn drops(&mut self, name: &str) {
        self.runtime.block_on(self.client.drop(name));
        self.made.push(name.to_owned());
    }

    pub fn create(&mut self, name: &str, made: Made<'_>) {
        self.runtime.block_on(async {
            self.client.create(name, made).await;
            self.client.load(name, made.fields[1].0).await;
        });
    }

    pub fn write(&mut self, upsert: bool, name: &str, rows: &[Value]) {
        for rows in rows.chunks(2_000) {
            self.runtime.block_on(self.client.write(upsert, name, MADE, rows));
        }
    }

    /// How many entities there are, all versions counted; 0 where there is no collection yet.
    pub fn count(&mut self, name: &str) -> i64 {
        let rows = self.runtime.block_on(self.client.try_rows(name, "", &["count(*)"]));
        match rows {
            Ok(rows) => rows[0]["count(*)"].as_i64().unwrap(),
            Err(said) if said.contains("not found") || said.contains("not loaded") => 0,
            Err(said) => panic!("{name} cannot be counted: {said}"),
        }
    }

    /// Every entity, by its key.
    pub fn entities(&mut self, name: &str) -> BTreeMap<i64, Value> {
        let mut entities = BTreeMap::new();
        loop {
            let behind = entities.last_key_value().map_or(-1, |(id, _)| *id);
            let fields = ["id", "embedding", "text"];
            let condition = format!("id > {behind}");
            let rows = self.runtime.block_on(self.client.rows(name, &condition, &fields));
            if rows.is_empty() {
                return entities;
            }
            entities.extend(rows.into_iter().map(|row| (row["id"].as_i64().unwrap(), row)));
        }
    }

    /// Entities for which a condition holds.
    pub fn all(&mut self, name: &str, condition: &str, fields: &[&str]) -> Vec<Value> {
        self.runtime.block_on(self.client.rows(name, condition, fields))
    }

    /// Puts another text beside the vector of an entity.
    pub fn write_text(&mut self, name: &str, id: i64, dimension: usize) {
        let fields = [("id", Kind::Int64), ("embedding", Kind::Vector(u32::try_from(dimension).unwrap()))];
        let made = Made { fields: &fields, ..MADE };
        let row = json!({ "id": id, "embedding": vector(id, dimension), "text": "another" });
        self.runtime.block_on(self.client.write(true, name, made, &[row]));
    }

    /// Takes an entity away.
    pub fn remove(&mut self, name: &str, id: i64) {
        self.runtime.block_on(self.client.delete(name, &format!("id in [{id}]")));
    }

    /// The collections whose names begin so.
    pub fn collections(&mut self, prefix: &str) -> Vec<String> {
        let mut names = self.runtime.block_on(self.client.collections());
        names.retain(|name| name.starts_with(prefix));
        names
    }

    pub fn nearest(&mut self, name: &str, metric: &str, vectors: &[Vec<f32>], k: usize) -> Vec<Vec<i64>> {
        self.runtime.block_on(self.client.nearest(name, ("embedding", metric), vectors, k))
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        for name in std::mem::take(&mut self.made) {
            self.runtime.block_on(self.client.drop(&name));
        }
    }
}

pub fn vector(id: i64, dimension: usize) -> Vec<f32> {
    (0..dimension as i64).map(|n| ((id * 31 + n * 17) % 101) as f32 / 101.0).collect()
}

pub fn entity(id: i64) -> Value {
    json!({ "id": id, "embedding": vector(id, DIMENSION), "text": format!("text {id}") })
}

/// Whether a collection holds exactly these records, each once.
pub fn is_equal(server: &mut Server, name: &str, ids: std::ops::Range<i64>, after: &str) {
    let found = server.entities(name);
    assert_eq!(found.len() as i64, ids.end - ids.start, "{after}: keys");
    assert_eq!(server.count(name), ids.end - ids.start, "{after}: a key is there more than once");
    for id in ids {
        assert_eq!(found[&id], entity(id), "{after}");
    }
}

/// Writes vectors with their ids and texts as Parquet.
pub fn parquet(path: &Path, vectors: &[(i64, Vec<f32>)]) {
    let dimension = i32::try_from(vectors[0].1.len()).unwrap();
    let item = Arc::new(Field::new("item", DataType::Float32, true));
    let fields = vec![
        Field::new("id", DataType::Int64, false),
        Field::new("embedding", DataType::FixedSizeList(Arc::clone(&item), dimension), false),
        Field::new("text", DataType::Utf8, true),
    ];
    let schema = Arc::new(Schema::new(fields));
    let file = std::fs::File::create(path).unwrap();
    let mut writer = ArrowWriter::try_new(file, Arc::clone(&schema), None).unwrap();
    for some in vectors.chunks(4_096) {
        let numbers =
            Float32Array::from_iter_values(some.iter().flat_map(|(_, vector)| vector.iter().copied()));
        let lists =
            FixedSizeListArray::try_new(Arc::clone(&item), dimension, Arc::new(numbers), None).unwrap();
        let ids = Int64Array::from_iter_values(some.iter().map(|(id, _)| *id));
        let texts = StringArray::from_iter_values(some.iter().map(|(id, _)| format!("text {id}")));
        let columns: Vec<arrow::array::ArrayRef> = vec![Arc::new(ids), Arc::new(lists), Arc::new(texts)];
        writer.write(&RecordBatch::try_new(Arc::clone(&schema), columns).unwrap()).unwrap();
    }
    writer.close().unwrap();
}
