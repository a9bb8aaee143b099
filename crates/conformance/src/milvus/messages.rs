//! The messages that the tests' client needs, by the numbers of the published interface.

use prost::Message;

macro_rules! columns {
    ($($name:ident $kind:tt $of:ty;)*) => {
        $(#[derive(Clone, PartialEq, Message)]
        pub struct $name {
            #[prost($kind, repeated, tag = "1")]
            pub data: Vec<$of>,
        })*
    };
}

columns! {
    Bools bool bool;
    Ints int32 i32;
    Longs int64 i64;
    Floats float f32;
    Texts string String;
}

#[derive(Clone, PartialEq, Message)]
pub struct Jsons {
    #[prost(bytes = "vec", repeated, tag = "1")]
    pub data: Vec<Vec<u8>>,
}

#[derive(Clone, PartialEq, Message)]
pub struct Pair {
    #[prost(string, tag = "1")]
    pub key: String,
    #[prost(string, tag = "2")]
    pub value: String,
}

#[derive(Clone, PartialEq, Message)]
pub struct Status {
    #[prost(int32, tag = "1")]
    pub old_code: i32,
    #[prost(string, tag = "2")]
    pub reason: String,
    #[prost(int32, tag = "3")]
    pub code: i32,
}

/// An answer of which only the status is read.
#[derive(Clone, PartialEq, Message)]
pub struct Statused {
    #[prost(message, optional, tag = "1")]
    pub status: Option<Status>,
}

#[derive(Clone, PartialEq, Message)]
pub struct FieldSchema {
    #[prost(string, tag = "2")]
    pub name: String,
    #[prost(bool, tag = "3")]
    pub is_primary_key: bool,
    #[prost(int32, tag = "5")]
    pub data_type: i32,
    #[prost(message, repeated, tag = "6")]
    pub type_params: Vec<Pair>,
    #[prost(bool, tag = "8")]
    pub auto_id: bool,
}

#[derive(Clone, PartialEq, Message)]
pub struct CollectionSchema {
    #[prost(string, tag = "1")]
    pub name: String,
    #[prost(bool, tag = "3")]
    pub auto_id: bool,
    #[prost(message, repeated, tag = "4")]
    pub fields: Vec<FieldSchema>,
    #[prost(bool, tag = "5")]
    pub enable_dynamic_field: bool,
}

/// A request that names a collection, and may hold its schema.
#[derive(Clone, PartialEq, Message)]
pub struct Named {
    #[prost(string, tag = "3")]
    pub collection: String,
    #[prost(bytes = "vec", tag = "4")]
    pub schema: Vec<u8>,
}

impl Named {
    pub fn of(name: &str) -> Self {
        Self { collection: name.to_owned(), schema: Vec::new() }
    }
}

#[derive(Clone, PartialEq, Message)]
pub struct CreateIndex {
    #[prost(string, tag = "3")]
    pub collection: String,
    #[prost(string, tag = "4")]
    pub field: String,
    #[prost(message, repeated, tag = "5")]
    pub parameters: Vec<Pair>,
}

#[derive(Clone, PartialEq, Message)]
pub struct LoadState {
    #[prost(string, tag = "2")]
    pub collection: String,
}

#[derive(Clone, PartialEq, Message)]
pub struct LoadStateIs {
    #[prost(int32, tag = "2")]
    pub state: i32,
}

#[derive(Clone, PartialEq, Message)]
pub struct Flush {
    #[prost(string, repeated, tag = "3")]
    pub collections: Vec<String>,
}

#[derive(Clone, PartialEq, Message)]
pub struct Scalars {
    #[prost(message, optional, tag = "1")]
    pub bools: Option<Bools>,
    #[prost(message, optional, tag = "2")]
    pub ints: Option<Ints>,
    #[prost(message, optional, tag = "3")]
    pub longs: Option<Longs>,
    #[prost(message, optional, tag = "4")]
    pub floats: Option<Floats>,
    #[prost(message, optional, tag = "6")]
    pub texts: Option<Texts>,
    #[prost(message, optional, tag = "9")]
    pub jsons: Option<Jsons>,
}

#[derive(Clone, PartialEq, Message)]
pub struct Vectors {
    #[prost(int64, tag = "1")]
    pub size: i64,
    #[prost(message, optional, tag = "2")]
    pub floats: Option<Floats>,
}

#[derive(Clone, PartialEq, Message)]
pub struct FieldData {
    #[prost(int32, tag = "1")]
    pub kind: i32,
    #[prost(string, tag = "2")]
    pub name: String,
    #[prost(message, optional, tag = "3")]
    pub scalars: Option<Scalars>,
    #[prost(message, optional, tag = "4")]
    pub vectors: Option<Vectors>,
    #[prost(bool, tag = "6")]
    pub dynamic: bool,
}

/// `Insert` and `Upsert`.
#[derive(Clone, PartialEq, Message)]
pub struct Change {
    #[prost(string, tag = "3")]
    pub collection: String,
    #[prost(string, tag = "4")]
    pub partition: String,
    #[prost(message, repeated, tag = "5")]
    pub fields: Vec<FieldData>,
    #[prost(uint32, tag = "7")]
    pub rows: u32,
}

#[derive(Clone, PartialEq, Message)]
pub struct Query {
    #[prost(string, tag = "3")]
    pub collection: String,
    #[prost(string, tag = "4")]
    pub condition: String,
    #[prost(string, repeated, tag = "5")]
    pub fields: Vec<String>,
    #[prost(message, repeated, tag = "9")]
    pub parameters: Vec<Pair>,
    /// 0 is Strong.
    #[prost(int32, tag = "11")]
    pub consistency: i32,
}

#[derive(Clone, PartialEq, Message)]
pub struct Rows {
    #[prost(message, optional, tag = "1")]
    pub status: Option<Status>,
    #[prost(message, repeated, tag = "2")]
    pub fields: Vec<FieldData>,
}

#[derive(Clone, PartialEq, Message)]
pub struct Placeholder {
    #[prost(string, tag = "1")]
    pub tag: String,
    #[prost(int32, tag = "2")]
    pub kind: i32,
    #[prost(bytes = "vec", repeated, tag = "3")]
    pub values: Vec<Vec<u8>>,
}

#[derive(Clone, PartialEq, Message)]
pub struct Placeholders {
    #[prost(message, repeated, tag = "1")]
    pub all: Vec<Placeholder>,
}

#[derive(Clone, PartialEq, Message)]
pub struct Search {
    #[prost(string, tag = "3")]
    pub collection: String,
    #[prost(bytes = "vec", tag = "6")]
    pub group: Vec<u8>,
    #[prost(int32, tag = "7")]
    pub dsl_type: i32,
    #[prost(message, repeated, tag = "9")]
    pub parameters: Vec<Pair>,
    #[prost(int64, tag = "12")]
    pub queries: i64,
    #[prost(int32, tag = "14")]
    pub consistency: i32,
}

#[derive(Clone, PartialEq, Message)]
pub struct Ids {
    #[prost(message, optional, tag = "1")]
    pub numbers: Option<Longs>,
}

#[derive(Clone, PartialEq, Message)]
pub struct Results {
    #[prost(message, optional, tag = "5")]
    pub ids: Option<Ids>,
    #[prost(int64, repeated, tag = "6")]
    pub found: Vec<i64>,
}

#[derive(Clone, PartialEq, Message)]
pub struct Searched {
    #[prost(message, optional, tag = "1")]
    pub status: Option<Status>,
    #[prost(message, optional, tag = "2")]
    pub results: Option<Results>,
}

#[derive(Clone, PartialEq, Message)]
pub struct Names {
    #[prost(string, repeated, tag = "2")]
    pub names: Vec<String>,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct Delete {
    #[prost(string, tag = "3")]
    pub collection: String,
    #[prost(string, tag = "5")]
    pub condition: String,
}
