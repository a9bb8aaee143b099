//! The messages of Milvus's gRPC interface that are used, with the fields that are used, by their numbers in the
//! published interface (`milvus.proto.milvus.MilvusService`). A field that is not named here is skipped when it is read.

use prost::{Message, Oneof};

/// Numbers of `schema.DataType`.
pub(crate) mod kind {
    pub(crate) const BOOL: i32 = 1;
    pub(crate) const INT8: i32 = 2;
    pub(crate) const INT16: i32 = 3;
    pub(crate) const INT32: i32 = 4;
    pub(crate) const INT64: i32 = 5;
    pub(crate) const FLOAT: i32 = 10;
    pub(crate) const DOUBLE: i32 = 11;
    pub(crate) const VARCHAR: i32 = 21;
    pub(crate) const JSON: i32 = 23;
    pub(crate) const FLOAT_VECTOR: i32 = 101;

    /// The name of a type, for people.
    pub(crate) fn name(kind: i32) -> String {
        let name = match kind {
            BOOL => "BOOL",
            INT8 => "INT8",
            INT16 => "INT16",
            INT32 => "INT32",
            INT64 => "INT64",
            FLOAT => "FLOAT",
            DOUBLE => "DOUBLE",
            VARCHAR => "VARCHAR",
            22 => "ARRAY",
            JSON => "JSON",
            100 => "BINARY_VECTOR",
            FLOAT_VECTOR => "FLOAT_VECTOR",
            102 => "FLOAT16_VECTOR",
            103 => "BFLOAT16_VECTOR",
            104 => "SPARSE_FLOAT_VECTOR",
            105 => "INT8_VECTOR",
            other => return format!("type {other}"),
        };
        name.to_owned()
    }
}

/// Numbers of `common.LoadState`.
pub(crate) mod load {
    pub(crate) const LOADING: i32 = 2;
    pub(crate) const LOADED: i32 = 3;
}

/// `common.ConsistencyLevel`: 0 is Strong, which is also what is meant where the number is left out.
pub(crate) const STRONG: i32 = 0;

#[derive(Clone, PartialEq, Message)]
pub(crate) struct Status {
    /// The number of before 2.3.
    #[prost(int32, tag = "1")]
    pub error_code: i32,
    #[prost(string, tag = "2")]
    pub reason: String,
    #[prost(int32, tag = "3")]
    pub code: i32,
    #[prost(bool, tag = "4")]
    pub retriable: bool,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct Pair {
    #[prost(string, tag = "1")]
    pub key: String,
    #[prost(string, tag = "2")]
    pub value: String,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct FieldSchema {
    #[prost(string, tag = "2")]
    pub name: String,
    #[prost(bool, tag = "3")]
    pub is_primary_key: bool,
    #[prost(string, tag = "4")]
    pub description: String,
    #[prost(int32, tag = "5")]
    pub data_type: i32,
    #[prost(message, repeated, tag = "6")]
    pub type_params: Vec<Pair>,
    #[prost(bool, tag = "8")]
    pub auto_id: bool,
    /// Only whether there is one is asked.
    #[prost(message, optional, tag = "11")]
    pub default_value: Option<Anything>,
    #[prost(bool, tag = "12")]
    pub is_dynamic: bool,
    #[prost(bool, tag = "15")]
    pub nullable: bool,
    /// The server computes it from other fields.
    #[prost(bool, tag = "16")]
    pub is_function_output: bool,
}

/// A message that nobody looks into.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct Anything {}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct CollectionSchema {
    #[prost(string, tag = "1")]
    pub name: String,
    #[prost(string, tag = "2")]
    pub description: String,
    #[prost(message, repeated, tag = "4")]
    pub fields: Vec<FieldSchema>,
    #[prost(bool, tag = "5")]
    pub enable_dynamic_field: bool,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct Bools {
    #[prost(bool, repeated, tag = "1")]
    pub data: Vec<bool>,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct Ints {
    #[prost(int32, repeated, tag = "1")]
    pub data: Vec<i32>,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct Longs {
    #[prost(int64, repeated, tag = "1")]
    pub data: Vec<i64>,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct Floats {
    #[prost(float, repeated, tag = "1")]
    pub data: Vec<f32>,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct Doubles {
    #[prost(double, repeated, tag = "1")]
    pub data: Vec<f64>,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct Texts {
    #[prost(string, repeated, tag = "1")]
    pub data: Vec<String>,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct Jsons {
    #[prost(bytes = "vec", repeated, tag = "1")]
    pub data: Vec<Vec<u8>>,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct Scalars {
    #[prost(oneof = "Scalar", tags = "1, 2, 3, 4, 5, 6, 9")]
    pub data: Option<Scalar>,
    /// Where the values are that are not null; empty means all, or what stands beside the field.
    #[prost(bool, repeated, tag = "17")]
    pub valid_data: Vec<bool>,
}

#[derive(Clone, PartialEq, Oneof)]
pub(crate) enum Scalar {
    #[prost(message, tag = "1")]
    Bools(Bools),
    #[prost(message, tag = "2")]
    Ints(Ints),
    #[prost(message, tag = "3")]
    Longs(Longs),
    #[prost(message, tag = "4")]
    Floats(Floats),
    #[prost(message, tag = "5")]
    Doubles(Doubles),
    #[prost(message, tag = "6")]
    Texts(Texts),
    #[prost(message, tag = "9")]
    Jsons(Jsons),
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct Vectors {
    #[prost(int64, tag = "1")]
    pub dim: i64,
    #[prost(message, optional, tag = "2")]
    pub floats: Option<Floats>,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct FieldData {
    #[prost(int32, tag = "1")]
    pub kind: i32,
    #[prost(string, tag = "2")]
    pub field_name: String,
    #[prost(oneof = "Field", tags = "3, 4")]
    pub field: Option<Field>,
    #[prost(bool, tag = "6")]
    pub is_dynamic: bool,
    #[prost(bool, repeated, tag = "7")]
    pub valid_data: Vec<bool>,
}

#[derive(Clone, PartialEq, Oneof)]
pub(crate) enum Field {
    #[prost(message, tag = "3")]
    Scalars(Scalars),
    #[prost(message, tag = "4")]
    Vectors(Vectors),
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct CreateCollection {
    #[prost(string, tag = "2")]
    pub db_name: String,
    #[prost(string, tag = "3")]
    pub collection_name: String,
    /// A `CollectionSchema`, encoded.
    #[prost(bytes = "vec", tag = "4")]
    pub schema: Vec<u8>,
    #[prost(int32, tag = "6")]
    pub consistency_level: i32,
}

/// `DescribeCollection`, `DropCollection`, `LoadCollection`: they name a collection alike.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct OfCollection {
    #[prost(string, tag = "2")]
    pub db_name: String,
    #[prost(string, tag = "3")]
    pub collection_name: String,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct Described {
    #[prost(message, optional, tag = "1")]
    pub status: Option<Status>,
    #[prost(message, optional, tag = "2")]
    pub schema: Option<CollectionSchema>,
    #[prost(int64, tag = "3")]
    pub collection_id: i64,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct ShowCollections {
    #[prost(string, tag = "2")]
    pub db_name: String,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct Shown {
    #[prost(message, optional, tag = "1")]
    pub status: Option<Status>,
    #[prost(string, repeated, tag = "2")]
    pub collection_names: Vec<String>,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct GetLoadState {
    #[prost(string, tag = "2")]
    pub collection_name: String,
    #[prost(string, tag = "4")]
    pub db_name: String,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct LoadStateIs {
    #[prost(message, optional, tag = "1")]
    pub status: Option<Status>,
    #[prost(int32, tag = "2")]
    pub state: i32,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct CreateIndex {
    #[prost(string, tag = "2")]
    pub db_name: String,
    #[prost(string, tag = "3")]
    pub collection_name: String,
    #[prost(string, tag = "4")]
    pub field_name: String,
    #[prost(message, repeated, tag = "5")]
    pub extra_params: Vec<Pair>,
    #[prost(string, tag = "6")]
    pub index_name: String,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct Upsert {
    #[prost(string, tag = "2")]
    pub db_name: String,
    #[prost(string, tag = "3")]
    pub collection_name: String,
    #[prost(message, repeated, tag = "5")]
    pub fields_data: Vec<FieldData>,
    #[prost(uint32, tag = "7")]
    pub num_rows: u32,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct Delete {
    #[prost(string, tag = "2")]
    pub db_name: String,
    #[prost(string, tag = "3")]
    pub collection_name: String,
    #[prost(string, tag = "5")]
    pub expr: String,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct Mutated {
    #[prost(message, optional, tag = "1")]
    pub status: Option<Status>,
    #[prost(uint32, repeated, tag = "4")]
    pub err_index: Vec<u32>,
    #[prost(int64, tag = "8")]
    pub upsert_cnt: i64,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct Query {
    #[prost(string, tag = "2")]
    pub db_name: String,
    #[prost(string, tag = "3")]
    pub collection_name: String,
    #[prost(string, tag = "4")]
    pub expr: String,
    #[prost(string, repeated, tag = "5")]
    pub output_fields: Vec<String>,
    #[prost(message, repeated, tag = "9")]
    pub query_params: Vec<Pair>,
    #[prost(int32, tag = "11")]
    pub consistency_level: i32,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct Queried {
    #[prost(message, optional, tag = "1")]
    pub status: Option<Status>,
    #[prost(message, repeated, tag = "2")]
    pub fields_data: Vec<FieldData>,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct ListDatabases {}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct Databases {
    #[prost(message, optional, tag = "1")]
    pub status: Option<Status>,
    #[prost(string, repeated, tag = "2")]
    pub db_names: Vec<String>,
}
