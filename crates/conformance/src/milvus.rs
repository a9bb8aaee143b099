//! A client of Milvus for tests, which shares nothing with the connector: it makes collections, looks into them, and makes
//! the mistakes that the connector must not make.

mod messages;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use prost::Message;
use serde_json::{Map, Value, json};
use tonic::client::Grpc;
use tonic::codegen::http::uri::PathAndQuery;
use tonic::metadata::{Ascii, MetadataValue};
use tonic::transport::{Channel, Endpoint};
use tonic::{Request, Response};
use tonic_prost::ProstCodec;

use messages::{
    Bools, Change, CollectionSchema, FieldData, FieldSchema, Floats, Ints, Jsons, Longs, Named, Pair,
    Placeholders, Query, Rows, Scalars, Search, Searched, Status, Statused, Texts, Vectors,
};

/// The type of a field.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// True or false.
    Bool,
    /// Whole numbers of one byte.
    Int8,
    /// Whole numbers.
    Int64,
    /// Numbers of single precision.
    Float,
    /// Text of so many bytes.
    Varchar(u32),
    /// JSON.
    Json,
    /// Vectors of so many numbers.
    Vector(u32),
    /// Vectors of so many bits.
    BinaryVector(u32),
}

impl Kind {
    fn number(self) -> i32 {
        match self {
            Self::Bool => 1,
            Self::Int8 => 2,
            Self::Int64 => 5,
            Self::Float => 10,
            Self::Varchar(_) => 21,
            Self::Json => 23,
            Self::BinaryVector(_) => 100,
            Self::Vector(_) => 101,
        }
    }

    fn parameters(self) -> Vec<Pair> {
        match self {
            Self::Varchar(bytes) => vec![pair("max_length", &bytes.to_string())],
            Self::Vector(size) | Self::BinaryVector(size) => vec![pair("dim", &size.to_string())],
            _ => Vec::new(),
        }
    }
}

/// A collection to be made.
#[derive(Debug, Clone, Copy)]
pub struct Made<'a> {
    /// Its key and the other fields; the first is the key.
    pub fields: &'a [(&'a str, Kind)],
    /// Whether the server makes the keys.
    pub auto_id: bool,
    /// Whether it has a dynamic field.
    pub dynamic: bool,
}

/// A connection.
#[derive(Clone)]
pub struct Client {
    client: Grpc<Channel>,
    secret: MetadataValue<Ascii>,
}

fn pair(key: &str, value: &str) -> Pair {
    Pair { key: key.to_owned(), value: value.to_owned() }
}

impl Client {
    /// Connects to `http://user:password@host:port`.
    pub async fn at(url: &str) -> Self {
        let (secret, place) = url.trim_start_matches("http://").rsplit_once('@').unwrap();
        let endpoint = Endpoint::from_shared(format!("http://{place}")).unwrap();
        let client = Grpc::new(endpoint.connect().await.unwrap()).max_decoding_message_size(1 << 29);
        Self { client, secret: STANDARD.encode(secret).parse().unwrap() }
    }

    /// Connects to the server of the tests.
    pub async fn of_tests() -> Self {
        Self::at(&crate::server::milvus()).await
    }

    async fn call<Q, A>(&mut self, method: &str, request: Q) -> A
    where
        Q: Message + Send + Sync + 'static,
        A: Message + Default + Send + Sync + 'static,
    {
        self.try_call(method, request).await.unwrap()
    }

    async fn try_call<Q, A>(&mut self, method: &str, request: Q) -> Result<A, String>
    where
        Q: Message + Send + Sync + 'static,
        A: Message + Default + Send + Sync + 'static,
    {
        self.client.ready().await.map_err(|error| error.to_string())?;
        let mut request = Request::new(request);
        request.metadata_mut().insert("authorization", self.secret.clone());
        let path: PathAndQuery = format!("/milvus.proto.milvus.MilvusService/{method}").parse().unwrap();
        let answer = self.client.unary(request, path, ProstCodec::<Q, A>::default()).await;
        answer.map(Response::into_inner).map_err(|status| status.to_string())
    }

    async fn does(&mut self, method: &str, request: Named) -> Status {
        self.call(method, request).await
    }

    /// Makes a collection, whose consistency is Strong.
    pub async fn create(&mut self, name: &str, made: Made<'_>) {
        let field = |(at, (name, kind)): (usize, &(&str, Kind))| FieldSchema {
            name: (*name).to_owned(),
            is_primary_key: at == 0,
            data_type: kind.number(),
            type_params: kind.parameters(),
            auto_id: at == 0 && made.auto_id,
        };
        let schema = CollectionSchema {
            name: name.to_owned(),
            auto_id: made.auto_id,
            fields: made.fields.iter().enumerate().map(field).collect(),
            enable_dynamic_field: made.dynamic,
        };
        let request = Named { collection: name.to_owned(), schema: schema.encode_to_vec() };
        succeeded(self.does("CreateCollection", request).await);
    }

    /// Makes an index that compares with every vector, by distance, and loads the collection.
    pub async fn load(&mut self, name: &str, vector: &str) {
        let index = messages::CreateIndex {
            collection: name.to_owned(),
            field: vector.to_owned(),
            parameters: vec![pair("index_type", "FLAT"), pair("metric_type", "L2")],
        };
        succeeded(self.call("CreateIndex", index).await);
        self.ask_to_load(name).await;
        let until = std::time::Instant::now() + std::time::Duration::from_secs(180);
        while self.is_loaded(name).await != 3 {
            assert!(std::time::Instant::now() < until, "{name} is not loaded");
            tokio::time::sleep(std::time::Duration::from_millis(50)).await;
        }
    }

    /// Asks for a collection to be loaded, and does not wait for it.
    pub async fn ask_to_load(&mut self, name: &str) {
        succeeded(self.does("LoadCollection", Named::of(name)).await);
    }

    /// 3 if it is loaded.
    async fn is_loaded(&mut self, name: &str) -> i32 {
        let request = messages::LoadState { collection: name.to_owned() };
        let answer: messages::LoadStateIs = self.call("GetLoadState", request).await;
        answer.state
    }

    /// Unloads a collection.
    pub async fn release(&mut self, name: &str) {
        succeeded(self.does("ReleaseCollection", Named::of(name)).await);
    }

    /// Drops a collection, if it is there. A server that is gone is no failure of a test that fails already.
    pub async fn drop(&mut self, name: &str) {
        let _: Result<Status, String> = self.try_call("DropCollection", Named::of(name)).await;
    }

    /// The names of all collections.
    pub async fn collections(&mut self) -> Vec<String> {
        let answer: messages::Names = self.call("ShowCollections", Named::of("")).await;
        answer.names
    }

    /// Writes what grew to files.
    pub async fn flush(&mut self, name: &str) {
        let request = messages::Flush { collections: vec![name.to_owned()] };
        let answer: Statused = self.call("Flush", request).await;
        succeeded(answer.status.unwrap_or_default());
    }

    /// Writes rows with `Insert`, which asks for no key, or with `Upsert`.
    pub async fn write(&mut self, upsert: bool, name: &str, made: Made<'_>, rows: &[Value]) {
        let mut fields: Vec<FieldData> = made.fields.iter().map(|field| column(field, rows)).collect();
        if made.dynamic {
            let rest = |row: &Value| {
                let object = row.as_object().unwrap().clone().into_iter();
                let rest = object.filter(|(key, _)| made.fields.iter().all(|(name, _)| name != key));
                Value::Object(rest.collect()).to_string().into_bytes()
            };
            let scalars = Scalars {
                jsons: Some(Jsons { data: rows.iter().map(rest).collect() }),
                ..Scalars::default()
            };
            fields.push(FieldData {
                kind: 23,
                scalars: Some(scalars),
                dynamic: true,
                ..FieldData::default()
            });
        }
        let request = Change {
            collection: name.to_owned(),
            partition: String::new(),
            fields,
            rows: u32::try_from(rows.len()).unwrap(),
        };
        let method = if upsert { "Upsert" } else { "Insert" };
        let answer: Statused = self.call(method, request).await;
        succeeded(answer.status.unwrap_or_default());
    }

    /// Deletes the entities for which a condition on the key holds.
    pub async fn delete(&mut self, name: &str, condition: &str) {
        let request = messages::Delete { collection: name.to_owned(), condition: condition.to_owned() };
        let answer: Statused = self.call("Delete", request).await;
        succeeded(answer.status.unwrap_or_default());
    }

    /// Rows for which a condition holds, with Strong consistency: all fields, and the keys of the dynamic field.
    pub async fn rows(&mut self, name: &str, condition: &str, fields: &[&str]) -> Vec<Value> {
        self.try_rows(name, condition, fields).await.unwrap()
    }

    /// As [`rows`](Self::rows); an error is what the server says.
    pub async fn try_rows(
        &mut self,
        name: &str,
        condition: &str,
        fields: &[&str],
    ) -> Result<Vec<Value>, String> {
        let limit = vec![pair("limit", "16384")];
        let counts = fields == ["count(*)"];
        let request = Query {
            collection: name.to_owned(),
            condition: condition.to_owned(),
            fields: fields.iter().map(|field| (*field).to_owned()).collect(),
            parameters: if counts { Vec::new() } else { limit },
            consistency: 0,
        };
        let answer: Rows = self.try_call("Query", request).await?;
        let status = answer.status.unwrap_or_default();
        if status.code != 0 || status.old_code != 0 {
            return Err(status.reason);
        }
        let mut rows: Vec<Map<String, Value>> = Vec::new();
        for field in answer.fields {
            for (row, value) in values(&field).into_iter().enumerate() {
                if rows.len() <= row {
                    rows.push(Map::new());
                }
                match value {
                    Value::Object(object) if field.dynamic || field.name == "$meta" => {
                        rows[row].extend(object)
                    }
                    value => drop(rows[row].insert(field.name.clone(), value)),
                }
            }
        }
        Ok(rows.into_iter().map(Value::Object).collect())
    }

    /// How many entities there are, counted by the server with Strong consistency: two versions of a key are two.
    pub async fn count(&mut self, name: &str, condition: &str) -> i64 {
        let rows = self.rows(name, condition, &["count(*)"]).await;
        rows[0]["count(*)"].as_i64().unwrap()
    }

    /// The keys (numbers) of the nearest entities to each vector, by `L2`, `IP` or `COSINE`, the nearest first. The server
    /// refuses another measure than the index has.
    pub async fn nearest(
        &mut self,
        name: &str,
        (field, metric): (&str, &str),
        vectors: &[Vec<f32>],
        k: usize,
    ) -> Vec<Vec<i64>> {
        let bytes = |vector: &Vec<f32>| vector.iter().flat_map(|number| number.to_le_bytes()).collect();
        let group = Placeholders {
            all: vec![messages::Placeholder {
                tag: "$0".to_owned(),
                kind: 101,
                values: vectors.iter().map(bytes).collect(),
            }],
        };
        let k_text = k.to_string();
        let parameters = [
            ("anns_field", field),
            ("topk", k_text.as_str()),
            ("params", "{}"),
            ("metric_type", metric),
            ("round_decimal", "-1"),
        ];
        let request = Search {
            collection: name.to_owned(),
            group: group.encode_to_vec(),
            dsl_type: 1,
            parameters: parameters.iter().map(|(key, value)| pair(key, value)).collect(),
            queries: i64::try_from(vectors.len()).unwrap(),
            consistency: 0,
        };
        let answer: Searched = self.call("Search", request).await;
        succeeded(answer.status.unwrap_or_default());
        let results = answer.results.unwrap();
        let mut ids = results.ids.unwrap().numbers.unwrap_or_default().data.into_iter();
        results
            .found
            .iter()
            .map(|found| ids.by_ref().take(usize::try_from(*found).unwrap()).collect())
            .collect()
    }
}

fn succeeded(status: Status) {
    assert_eq!((status.code, status.old_code), (0, 0), "{}", status.reason);
}

fn column((name, kind): &(&str, Kind), rows: &[Value]) -> FieldData {
    let each = || rows.iter().map(|row| &row[*name]);
    let mut scalars = Scalars::default();
    let mut vectors = None;
    match kind {
        Kind::Bool => scalars.bools = Some(Bools { data: each().map(|v| v.as_bool().unwrap()).collect() }),
        Kind::Int8 => {
            let small = each().map(|v| i32::try_from(v.as_i64().unwrap()).unwrap());
            scalars.ints = Some(Ints { data: small.collect() });
        }
        Kind::Int64 => scalars.longs = Some(Longs { data: each().map(|v| v.as_i64().unwrap()).collect() }),
        Kind::Float => scalars.floats = Some(Floats { data: each().map(single).collect() }),
        Kind::Varchar(_) => {
            scalars.texts = Some(Texts { data: each().map(|v| v.as_str().unwrap().to_owned()).collect() });
        }
        Kind::Json => {
            scalars.jsons = Some(Jsons { data: each().map(|v| v.to_string().into_bytes()).collect() })
        }
        Kind::Vector(size) => {
            let numbers = each().flat_map(|v| v.as_array().unwrap()).map(single);
            vectors =
                Some(Vectors { size: i64::from(*size), floats: Some(Floats { data: numbers.collect() }) });
        }
        Kind::BinaryVector(_) => panic!("the tests write none"),
    }
    let scalars = vectors.is_none().then_some(scalars);
    FieldData { kind: kind.number(), name: (*name).to_owned(), scalars, vectors, dynamic: false }
}

fn single(value: &Value) -> f32 {
    serde_json::from_value(value.clone()).unwrap()
}

fn values(field: &FieldData) -> Vec<Value> {
    if let Some(vectors) = &field.vectors {
        let numbers = &vectors.floats.as_ref().unwrap().data;
        return numbers.chunks(usize::try_from(vectors.size).unwrap()).map(|vector| json!(vector)).collect();
    }
    let Some(scalars) = &field.scalars else { return Vec::new() };
    let bools = scalars.bools.iter().flat_map(|column| &column.data).map(|value| json!(value));
    let ints = scalars.ints.iter().flat_map(|column| &column.data).map(|value| json!(value));
    let longs = scalars.longs.iter().flat_map(|column| &column.data).map(|value| json!(value));
    let floats = scalars.floats.iter().flat_map(|column| &column.data).map(|value| json!(value));
    let texts = scalars.texts.iter().flat_map(|column| &column.data).map(|value| json!(value));
    let jsons = scalars.jsons.iter().flat_map(|column| &column.data);
    let jsons = jsons.map(|bytes| serde_json::from_slice(bytes).unwrap());
    bools.chain(ints).chain(longs).chain(floats).chain(texts).chain(jsons).collect()
}
