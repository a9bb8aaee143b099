//! Connections to a server.

use std::fmt;
use std::path::Path;
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hapax_engine::exact::url_part;
use hapax_engine::tls::{Tls, is_about};
use prost::Message;
use tonic::client::Grpc;
use tonic::codegen::http::uri::PathAndQuery;
use tonic::metadata::{Ascii, MetadataValue};
use tonic::transport::{Certificate, Channel, ClientTlsConfig, Endpoint};
use tonic::{Request, Response};
use tonic_prost::ProstCodec;
use url::Url;

use crate::fault::ServerFault;
use crate::proto::{self, Status, load};

/// How long a connection may take.
const CONNECT_S: u64 = 5;

/// How long an answer may take. The server is told, and gives the request up as well.
const ANSWER_S: u64 = 60;

/// How long loading is waited for.
const LOAD: Duration = Duration::from_secs(60);

/// How large an answer may be. The server's own limit is lower.
const ANSWER_BYTES_MAX: usize = 512 * 1024 * 1024;

/// Where a server is and how it is entered. It never shows what lets in.
#[derive(Clone)]
pub(crate) struct Address {
    endpoint: Endpoint,
    secret: Option<MetadataValue<Ascii>>,
    database: String,
    place: String,
}

impl fmt::Debug for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.place)
    }
}

impl Address {
    /// Reads `http://user:password@host:port`, with what stands beside it.
    pub(crate) fn read(
        url: &str,
        token: Option<&str>,
        ca: Option<&Path>,
        database: Option<&str>,
    ) -> Result<Self, ServerFault> {
        let bad = |reason: &str| ServerFault::BadUrl(reason.to_owned());
        let parsed = Url::parse(url).map_err(|error| bad(&error.to_string()))?;
        let secure = match parsed.scheme() {
            "http" => false,
            "https" => true,
            _ => return Err(bad("it does not begin with http:// or https://")),
        };
        let host =
            parsed.host_str().filter(|host| !host.is_empty()).ok_or_else(|| bad("it names no host"))?;
        if !matches!(parsed.path(), "" | "/") || parsed.query().is_some() {
            return Err(bad("behind host and port stands nothing; the database is `database`"));
        }
        let plain = |part: &str| url_part(part).ok_or_else(|| bad("a part of it is not UTF-8"));
        let in_url = match (parsed.username(), parsed.password()) {
            ("", None) => None,
            // Nothing would hide it.
            (_, None) => return Err(bad("a token without a user stands in `token`")),
            (user, Some(password)) => Some(format!("{}:{}", plain(user)?, plain(password)?)),
        };
        let token = match (token, in_url) {
            (Some(_), Some(_)) => return Err(bad("it holds a password, and `token` is given beside it")),
            (token, in_url) => token.map(str::to_owned).or(in_url),
        };
        // What has no port is a managed service, which takes gRPC beside everything else.
        let port = parsed.port().unwrap_or(if secure { 443 } else { 19_530 });
        let place = format!("{host}:{port}");
        let endpoint = Endpoint::from_shared(format!("{}://{place}", parsed.scheme()));
        let mut endpoint = endpoint
            .map_err(|_| bad("it is no address"))?
            .connect_timeout(Duration::from_secs(CONNECT_S))
            .tcp_nodelay(true)
            .http2_keep_alive_interval(Duration::from_secs(10))
            .keep_alive_timeout(Duration::from_secs(10))
            .initial_stream_window_size(8 * 1024 * 1024)
            .initial_connection_window_size(16 * 1024 * 1024);
        if ca.is_some() && !secure {
            return Err(bad("`ca` is for TLS, and it does not begin with https://"));
        }
        if secure {
            let tls = |reason: String| ServerFault::Tls { place: place.clone(), reason };
            let files = Tls { ca: ca.map(Path::to_owned), ..Tls::default() };
            let config = match Tls::read(Some(&files), true).map_err(|error| tls(error.to_string()))?.ca {
                Some(pem) => ClientTlsConfig::new().ca_certificate(Certificate::from_pem(pem)),
                None => ClientTlsConfig::new().with_native_roots(),
            };
            endpoint = endpoint.tls_config(config).map_err(|error| tls(told(&error)))?;
        }
        let secret = token.map(|token| STANDARD.encode(token).parse());
        let secret = secret.transpose().map_err(|_| bad("the token cannot be sent"))?;
        Ok(Self { endpoint, secret, database: database.unwrap_or_default().to_owned(), place })
    }

    /// Connects.
    pub(crate) async fn connect(&self) -> Result<Line, ServerFault> {
        let channel = self.endpoint.connect().await.map_err(|error| self.unreachable(&told(&error)))?;
        let client = Grpc::new(channel).max_decoding_message_size(ANSWER_BYTES_MAX);
        Ok(Line { client, address: self.clone() })
    }

    fn unreachable(&self, reason: &str) -> ServerFault {
        let place = self.place.clone();
        match is_about(reason) {
            true => ServerFault::Tls { place, reason: reason.to_owned() },
            false => ServerFault::Gone { place, doing: "connecting", reason: reason.to_owned() },
        }
    }
}

/// An error with what caused it, in words.
fn told(error: &dyn std::error::Error) -> String {
    let mut said = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        let cause_said = cause.to_string();
        if !said.contains(&cause_said) {
            said.push_str(": ");
            said.push_str(&cause_said);
        }
        next = cause.source();
    }
    said
}

/// A connection.
#[derive(Clone)]
pub(crate) struct Line {
    client: Grpc<Channel>,
    address: Address,
}

/// What one call is about, for the errors it may end with.
#[derive(Debug, Clone, Copy)]
pub(crate) struct About<'a> {
    /// The collection.
    pub collection: &'a str,
    /// What is going on.
    pub doing: &'static str,
}

impl Line {
    /// The database, as requests name it.
    pub(crate) fn database(&self) -> String {
        self.address.database.clone()
    }

    /// Host and port, for people.
    pub(crate) fn place(&self) -> &str {
        &self.address.place
    }

    /// One request and its answer. Nothing is sent again.
    async fn call<Q, A>(
        &mut self,
        method: &'static str,
        request: Q,
        about: About<'_>,
    ) -> Result<A, ServerFault>
    where
        Q: Message + Send + Sync + 'static,
        A: Message + Default + Send + Sync + 'static,
    {
        let gone = |reason: String| ServerFault::Gone {
            place: self.address.place.clone(),
            doing: about.doing,
            reason,
        };
        self.client.ready().await.map_err(|error| self.address.unreachable(&told(&error)))?;
        let mut request = Request::new(request);
        request.set_timeout(Duration::from_secs(ANSWER_S));
        if let Some(secret) = &self.address.secret {
            request.metadata_mut().insert("authorization", secret.clone());
        }
        if let Ok(name) = self.address.database.parse::<MetadataValue<Ascii>>() {
            request.metadata_mut().insert("dbname", name);
        }
        let path = PathAndQuery::from_static(method);
        let answer = self.client.unary(request, path, ProstCodec::<Q, A>::default());
        // The server's clock is not asked: an answer that does not come is not waited for.
        let answer = tokio::time::timeout(Duration::from_secs(ANSWER_S + 5), answer).await;
        let answer = answer.map_err(|_| gone(format!("no answer for {ANSWER_S} s")))?;
        answer.map(Response::into_inner).map_err(|status| {
            ServerFault::of_transport(&self.address.place, about, status.code(), &told(&status))
        })
    }

    fn checked(&self, status: Option<&Status>, about: About<'_>) -> Result<(), ServerFault> {
        match status {
            Some(status) if status.code != 0 || status.error_code != 0 => {
                Err(ServerFault::of_status(&self.address.place, &self.address.database, about, status))
            }
            _ => Ok(()),
        }
    }

    fn of_collection(&self, about: About<'_>) -> proto::OfCollection {
        proto::OfCollection { db_name: self.database(), collection_name: about.collection.to_owned() }
    }

    pub(crate) async fn describe(
        &mut self,
        collection: &str,
    ) -> Result<proto::CollectionSchema, ServerFault> {
        Ok(self.described(collection).await?.schema.unwrap_or_default())
    }

    /// The same, with the number that no other collection gets, whatever its name.
    pub(crate) async fn described(&mut self, collection: &str) -> Result<proto::Described, ServerFault> {
        let about = About { collection, doing: "looking at the collection" };
        let request = self.of_collection(about);
        let answer: proto::Described =
            self.call("/milvus.proto.milvus.MilvusService/DescribeCollection", request, about).await?;
        match self.checked(answer.status.as_ref(), about) {
            Ok(()) => Ok(answer),
            // Which of the two is missing, some versions do not say.
            Err(ServerFault::NoCollection { place, .. }) if self.lacks_database(about).await => {
                Err(ServerFault::NoDatabase { place, database: self.database() })
            }
            Err(fault) => Err(fault),
        }
    }

    async fn lacks_database(&mut self, about: About<'_>) -> bool {
        let database = self.database();
        let answer: Result<proto::Databases, ServerFault> = self
            .call("/milvus.proto.milvus.MilvusService/ListDatabases", proto::ListDatabases {}, about)
            .await;
        let is_missing =
            answer.is_ok_and(|answer| !answer.db_names.is_empty() && !answer.db_names.contains(&database));
        !database.is_empty() && is_missing
    }

    pub(crate) async fn load_state(&mut self, collection: &str) -> Result<i32, ServerFault> {
        let about = About { collection, doing: "asking whether the collection is loaded" };
        let request =
            proto::GetLoadState { collection_name: collection.to_owned(), db_name: self.database() };
        let answer: proto::LoadStateIs =
            self.call("/milvus.proto.milvus.MilvusService/GetLoadState", request, about).await?;
        self.checked(answer.status.as_ref(), about)?;
        Ok(answer.state)
    }

    /// Makes a collection whose schema is its own.
    pub(crate) async fn create(&mut self, schema: &proto::CollectionSchema) -> Result<(), ServerFault> {
        let about = About { collection: &schema.name, doing: "making the collection" };
        let request = proto::CreateCollection {
            db_name: self.database(),
            collection_name: schema.name.clone(),
            schema: schema.encode_to_vec(),
            consistency_level: proto::STRONG,
        };
        let status: Status =
            self.call("/milvus.proto.milvus.MilvusService/CreateCollection", request, about).await?;
        self.checked(Some(&status), about)
    }

    /// Makes an index. One that is there already, and the same, is left.
    pub(crate) async fn index(
        &mut self,
        collection: &str,
        field: &str,
        parameters: &[(&str, &str)],
    ) -> Result<(), ServerFault> {
        let about = About { collection, doing: "making the index" };
        let pair =
            |(key, value): &(&str, &str)| proto::Pair { key: (*key).to_owned(), value: (*value).to_owned() };
        let request = proto::CreateIndex {
            db_name: self.database(),
            collection_name: collection.to_owned(),
            field_name: field.to_owned(),
            extra_params: parameters.iter().map(pair).collect(),
            index_name: field.to_owned(),
        };
        let status: Status =
            self.call("/milvus.proto.milvus.MilvusService/CreateIndex", request, about).await?;
        self.checked(Some(&status), about)
    }

    /// Loads a collection, and waits until it is.
    pub(crate) async fn load(&mut self, collection: &str) -> Result<(), ServerFault> {
        self.ask_to_load(collection).await?;
        let begun = Instant::now();
        while self.load_state(collection).await? != load::LOADED {
            if begun.elapsed() > LOAD {
                let (place, collection) = (self.place().to_owned(), collection.to_owned());
                return Err(ServerFault::Loading { place, collection });
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        Ok(())
    }

    async fn ask_to_load(&mut self, collection: &str) -> Result<(), ServerFault> {
        let about = About { collection, doing: "loading the collection" };
        let request = self.of_collection(about);
        let status: Status =
            self.call("/milvus.proto.milvus.MilvusService/LoadCollection", request, about).await?;
        self.checked(Some(&status), about)
    }

    pub(crate) async fn drop_collection(&mut self, collection: &str) -> Result<(), ServerFault> {
        let about = About { collection, doing: "dropping the collection" };
        let request = self.of_collection(about);
        let status: Status =
            self.call("/milvus.proto.milvus.MilvusService/DropCollection", request, about).await?;
        self.checked(Some(&status), about)
    }

    pub(crate) async fn collections(&mut self) -> Result<Vec<String>, ServerFault> {
        let about = About { collection: "", doing: "listing collections" };
        let request = proto::ShowCollections { db_name: self.database() };
        let answer: proto::Shown =
            self.call("/milvus.proto.milvus.MilvusService/ShowCollections", request, about).await?;
        self.checked(answer.status.as_ref(), about)?;
        Ok(answer.collection_names)
    }

    /// Puts entities in the place of those of their keys, which must be different ones.
    pub(crate) async fn upsert(
        &mut self,
        collection: &str,
        rows: usize,
        fields_data: Vec<proto::FieldData>,
    ) -> Result<proto::Mutated, ServerFault> {
        let about = About { collection, doing: "upserting" };
        let request = proto::Upsert {
            db_name: self.database(),
            collection_name: collection.to_owned(),
            fields_data,
            num_rows: u32::try_from(rows).unwrap_or(u32::MAX),
        };
        let answer: proto::Mutated =
            self.call("/milvus.proto.milvus.MilvusService/Upsert", request, about).await?;
        self.checked(answer.status.as_ref(), about)?;
        Ok(answer)
    }

    /// Deletes the entities of some keys.
    pub(crate) async fn delete(&mut self, collection: &str, expr: String) -> Result<(), ServerFault> {
        let about = About { collection, doing: "deleting" };
        let request =
            proto::Delete { db_name: self.database(), collection_name: collection.to_owned(), expr };
        let answer: proto::Mutated =
            self.call("/milvus.proto.milvus.MilvusService/Delete", request, about).await?;
        self.checked(answer.status.as_ref(), about)
    }

    /// What is there, with everything that was acknowledged before (Strong), the least keys first.
    pub(crate) async fn query(
        &mut self,
        collection: &str,
        expr: String,
        output_fields: Vec<String>,
        limit: Option<usize>,
    ) -> Result<Vec<proto::FieldData>, ServerFault> {
        let about = About { collection, doing: "reading" };
        let limit = limit.map(|limit| proto::Pair { key: "limit".to_owned(), value: limit.to_string() });
        let request = proto::Query {
            db_name: self.database(),
            collection_name: collection.to_owned(),
            expr,
            output_fields,
            query_params: limit.into_iter().collect(),
            consistency_level: proto::STRONG,
        };
        let answer: proto::Queried =
            self.call("/milvus.proto.milvus.MilvusService/Query", request, about).await?;
        self.checked(answer.status.as_ref(), about)?;
        Ok(answer.fields_data)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_shows_nothing_that_lets_in() {
        let read = |url: &str, token: Option<&str>| Address::read(url, token, None, None);
        let address = read("http://u%40x:s%2fecret@h", None).unwrap();
        assert_eq!(address.place, "h:19530");
        assert_eq!(address.secret.as_ref().unwrap().as_bytes(), b"dUB4OnMvZWNyZXQ=");
        assert!(!format!("{address:?}").contains("ecret"));
        assert_eq!(read("http://h:1/", Some("key")).unwrap().place, "h:1");
        for (wrong, token) in [
            ("grpc://u:secret@h", None),
            ("http://", None),
            ("h:19530", None),
            ("http://u:secret@h/default", None),
            ("http://u:%ff@h", None),
            ("http://secret@h", None),
            ("http://u:secret@h", Some("secret")),
        ] {
            let said = read(wrong, token).map(|_| ()).unwrap_err().to_string();
            assert!(!said.contains("secret"), "{said}");
        }
    }
}
