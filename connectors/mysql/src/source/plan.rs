//! How a table or a query is read: decided once, when it is opened.

use std::collections::HashMap;
use std::sync::Arc;

use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use hapax_engine::fault::SourceError;
use mysql_async::consts::{ColumnFlags, ColumnType};
use mysql_async::prelude::Queryable;
use mysql_async::{Column, Error, Value};

use super::horizon::{self, Horizon};
use super::poll::POLL_MS;
use crate::client::{Session, number, quoted};
use crate::config::{Read, SourceConfig};
use crate::declared::{self, Declared};
use crate::fault::ReadFault;
use crate::table::{Table, same_name};

/// The number by which MySQL calls the character set of bytes.
const BYTES: u16 = 63;

/// What rows are read in the order of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Walk {
    /// A key of one integer, in ranges of a fixed grid.
    Ranges,
    /// A unique key.
    Key,
    /// A cursor, then the row's own key.
    Cursor,
    /// The cursor of a query, which has to be unique.
    UniqueCursor,
    /// The order the server has, in one state of it.
    Numbered,
    /// A key, over the rows that wait, each locked until it is marked.
    Marked,
}

/// One part of the key that rows are read by.
#[derive(Debug, Clone)]
pub(crate) struct Key {
    /// The column in SQL.
    pub sql: String,
    /// What stands for its value in SQL.
    pub hole: String,
    pub is_integer: bool,
}

impl Key {
    fn of(column: &Found) -> Self {
        let declared = Declared::read(&column.declared);
        let hole = match declared.decimal() {
            // A text would make the comparison one of binary numbers.
            Some((digits, places)) => format!("CAST(? AS DECIMAL({digits},{places}))"),
            None => "?".to_owned(),
        };
        let is_integer = matches!(column.data_type, Some(DataType::Boolean)) || {
            declared.arrow_type().is_integer() && declared.name != "bit" && declared.name != "year"
        };
        Self { sql: quoted(&column.name), hole, is_integer }
    }
}

/// How a row is marked, in SQL.
#[derive(Debug, Clone)]
pub(crate) struct Marking {
    /// That it waits.
    pub waits: String,
    /// What is set once it has taken effect.
    pub set: String,
}

/// How a table or a query is read.
#[derive(Debug, Clone)]
pub(crate) struct Plan {
    /// The table or the query, for people and as the name of its split.
    pub name: String,
    pub walk: Walk,
    pub incremental: bool,
    /// What follows FROM.
    pub from: String,
    /// The parts of the key, in order; empty for [`Walk::Numbered`].
    pub keys: Vec<Key>,
    /// The cursor's name.
    pub cursor: Option<String>,
    /// How far an incremental read may go.
    pub horizon: Option<Horizon>,
    /// How rows are marked, where they are.
    pub marking: Option<Marking>,
    /// How often is looked for new rows, in milliseconds.
    pub poll_ms: u64,
    /// The columns, in order.
    pub schema: SchemaRef,
}

/// One column before its type is decided.
#[derive(Debug, Clone)]
pub(crate) struct Found {
    pub name: String,
    pub declared: String,
    /// The type that `schema` gives it.
    pub data_type: Option<DataType>,
}

impl Plan {
    /// Decides. `given` fixes the columns; without it they are those that are there.
    pub(crate) async fn make(
        session: &mut Session,
        config: &SourceConfig,
        given: Option<SchemaRef>,
    ) -> Result<Self, SourceError> {
        let (mut plan, found) = match (&config.table, &config.query) {
            (Some(table), None) => of_table(session, table).await?,
            (None, Some(query)) => of_query(session, query, "query").await?,
            _ => return Err(ReadFault::Config("it needs either `table` or `query`").into()),
        };
        plan.incremental = config.read == Read::Incremental;
        plan.poll_ms = match config.poll_ms {
            Some(0) => return Err(ReadFault::Config("`poll_ms` is at least 1").into()),
            given => given.unwrap_or(POLL_MS),
        };
        plan.order(config, &found)?;
        plan.mark(session, config, &found)?;
        plan.schema = match given {
            Some(schema) => plan.checked(schema, &found)?,
            None => plan.inferred(config, &found)?,
        };
        plan.no_null_cursors(session).await?;
        if plan.incremental {
            plan.horizon = Some(horizon::of(session, config, &plan, &found).await?);
        }
        Ok(plan)
    }

    /// Settles the walk by the cursor, if one is given.
    fn order(&mut self, config: &SourceConfig, found: &[Found]) -> Result<(), ReadFault> {
        let Some(cursor) = &config.cursor else {
            return match config.read {
                Read::Incremental => Err(ReadFault::Config("`read: incremental` needs a `cursor`")),
                Read::Snapshot | Read::Marked => Ok(()),
            };
        };
        if !self.incremental && self.walk != Walk::Numbered {
            return Err(ReadFault::Config("`cursor` needs `read: incremental`"));
        }
        let column = self.find(cursor, found, "cursor")?;
        let key = Key::of(column);
        if self.walk == Walk::Numbered {
            self.walk = Walk::UniqueCursor;
            self.keys = vec![key];
        } else {
            self.walk = Walk::Cursor;
            self.keys.retain(|other| other.sql != key.sql);
            self.keys.insert(0, key);
        }
        self.cursor = Some(column.name.clone());
        Ok(())
    }

    /// Settles how rows are marked, if they are.
    fn mark(&mut self, session: &Session, config: &SourceConfig, found: &[Found]) -> Result<(), ReadFault> {
        let Some(mark) = &config.mark else {
            return match config.read {
                Read::Marked => Err(ReadFault::Config("`read: marked` needs a `mark`")),
                Read::Snapshot | Read::Incremental => Ok(()),
            };
        };
        if config.read != Read::Marked {
            return Err(ReadFault::Config("`mark` needs `read: marked`"));
        }
        if !session.server.skips_locked() {
            return Err(ReadFault::Config("`read: marked` needs MariaDB 10.6 or MySQL 8"));
        }
        let column = self.find(mark, found, "mark")?;
        let refused =
            |reason| ReadFault::NoMark { of: self.name.clone(), column: column.name.clone(), reason };
        if !matches!(self.walk, Walk::Ranges | Walk::Key) {
            return Err(refused("it takes a table with a key, in which the marked row is found again"));
        }
        let name = quoted(&column.name);
        if self.keys.iter().any(|key| key.sql == name) {
            return Err(refused("it is part of the key"));
        }
        let declared = Declared::read(&column.declared);
        let text = |word: &str| Value::from(word).as_sql(false);
        let words = config.mark_from.as_ref().zip(config.mark_to.as_ref());
        let (waits, set) = match (declared.arrow_type(), words) {
            (DataType::Timestamp(_, _), None) => {
                (format!("{name} IS NULL"), "CURRENT_TIMESTAMP(6)".to_owned())
            }
            (DataType::Boolean, None) => (format!("{name} IS NOT TRUE"), "1".to_owned()),
            (DataType::Utf8, Some((from, to))) if from != to => {
                (format!("{name} = {}", text(from)), text(to))
            }
            (DataType::Utf8, _) => {
                return Err(refused(
                    "the file does not say what it holds before (`mark_from`) and after (`mark_to`)",
                ));
            }
            _ => return Err(refused("no value of it means that a row was moved")),
        };
        self.walk = Walk::Marked;
        self.marking = Some(Marking { waits, set: format!("{name} = {set}") });
        Ok(())
    }

    /// A column by its name.
    pub(crate) fn find<'a>(
        &self,
        column: &str,
        found: &'a [Found],
        key: &'static str,
    ) -> Result<&'a Found, ReadFault> {
        found.iter().find(|there| same_name(&there.name, column)).ok_or_else(|| ReadFault::NoColumn {
            of: self.name.clone(),
            column: column.to_owned(),
            key,
            known: found.iter().map(|there| there.name.as_str()).collect::<Vec<_>>().join(", "),
        })
    }

    fn checked(&self, schema: SchemaRef, found: &[Found]) -> Result<SchemaRef, ReadFault> {
        for field in schema.fields() {
            self.find(field.name(), found, "schema")?;
        }
        Ok(schema)
    }

    /// The columns as declared, or as `schema` says.
    fn inferred(&self, config: &SourceConfig, found: &[Found]) -> Result<SchemaRef, ReadFault> {
        let mut found = found.to_vec();
        for (column, name) in config.schema.iter().flatten() {
            let there = self.find(column, &found, "schema")?.name.clone();
            let unknown = || ReadFault::NoType { column: column.clone(), name: name.clone() };
            let data_type = declared::named(name).ok_or_else(unknown)?;
            for column in found.iter_mut().filter(|column| column.name == there) {
                column.data_type = Some(data_type.clone());
            }
        }
        let field = |column: &Found| match &column.data_type {
            Some(data_type) => Field::new(&column.name, data_type.clone(), true),
            None => {
                let own = HashMap::from([(declared::METADATA.to_owned(), column.declared.clone())]);
                let data_type = Declared::read(&column.declared).arrow_type();
                Field::new(&column.name, data_type, true).with_metadata(own)
            }
        };
        Ok(Arc::new(Schema::new(found.iter().map(field).collect::<Vec<_>>())))
    }

    async fn no_null_cursors(&self, session: &mut Session) -> Result<(), SourceError> {
        let Some(cursor) = &self.cursor else { return Ok(()) };
        let sql = format!("SELECT count(*) FROM {} WHERE {} IS NULL", self.from, quoted(cursor));
        let row = session.first("counting rows without a cursor", &sql, ()).await?;
        match row.and_then(|row| number(&row, 0)).unwrap_or(0) {
            0 => Ok(()),
            rows => {
                Err(ReadFault::NullCursors { of: self.name.clone(), column: cursor.clone(), rows }.into())
            }
        }
    }
}

async fn of_table(session: &mut Session, name: &str) -> Result<(Plan, Vec<Found>), SourceError> {
    let Some(table) = Table::load(session, name).await? else {
        let (place, table) = (session.place().to_owned(), name.to_owned());
        return Err(ReadFault::NoTable { place, table }.into());
    };
    let found: Vec<Found> = table
        .columns
        .iter()
        .map(|column| Found { name: column.name.clone(), declared: column.declared.clone(), data_type: None })
        .collect();
    let key = table.reading_key().unwrap_or_default();
    let part = |name: &String| found.iter().find(|column| column.name == *name).map(Key::of);
    let keys: Vec<Key> = key.iter().filter_map(part).collect();
    let walk = match keys.as_slice() {
        [] => Walk::Numbered,
        [only] if only.is_integer => Walk::Ranges,
        _ => Walk::Key,
    };
    let from = quoted(&table.name);
    Ok((plan(table.name, walk, from, keys), found))
}

fn plan(name: String, walk: Walk, from: String, keys: Vec<Key>) -> Plan {
    let schema = Arc::new(Schema::empty());
    Plan {
        name,
        walk,
        incremental: false,
        from,
        keys,
        cursor: None,
        horizon: None,
        marking: None,
        poll_ms: POLL_MS,
        schema,
    }
}

async fn of_query(session: &mut Session, query: &str, name: &str) -> Result<(Plan, Vec<Found>), SourceError> {
    let query = query.trim().trim_end_matches(';').trim_end();
    let bad = |reason: String| ReadFault::BadQuery { reason };
    // What stands in brackets is one SELECT, or nothing that can be prepared.
    let from = format!("({query}\n) AS hapax");
    let prepared = match session.connection.prep(format!("SELECT * FROM {from} LIMIT 0")).await {
        Ok(prepared) => prepared,
        Err(Error::Server(said)) if !matches!(said.code, 1142 | 1143 | 1205 | 1213 | 1317) => {
            return Err(bad(said.message).into());
        }
        Err(source) => return Err(session.fault("preparing the query", source).into()),
    };
    if prepared.num_params() > 0 || prepared.num_columns() == 0 {
        return Err(bad("it is not a SELECT without parameters".to_owned()).into());
    }
    let of_column = |column: &Column| Found {
        name: column.name_str().into_owned(),
        declared: declared_of(column),
        data_type: None,
    };
    let found = prepared.columns().iter().map(of_column).collect();
    Ok((plan(name.to_owned(), Walk::Numbered, from, Vec::new()), found))
}

/// The type of a query's column, as MySQL would write it.
fn declared_of(column: &Column) -> String {
    let flags = column.flags();
    let bytes = column.character_set() == BYTES;
    let unsigned = if flags.contains(ColumnFlags::UNSIGNED_FLAG) { " unsigned" } else { "" };
    let (length, places) = (column.column_length(), column.decimals());
    let integer = |name: &str| format!("{name}{unsigned}");
    let fraction =
        |name: &str| if places == 0 || places > 6 { name.to_owned() } else { format!("{name}({places})") };
    match column.column_type() {
        ColumnType::MYSQL_TYPE_TINY if length == 1 => "tinyint(1)".to_owned(),
        ColumnType::MYSQL_TYPE_TINY => integer("tinyint"),
        ColumnType::MYSQL_TYPE_SHORT => integer("smallint"),
        ColumnType::MYSQL_TYPE_INT24 | ColumnType::MYSQL_TYPE_LONG => integer("int"),
        ColumnType::MYSQL_TYPE_LONGLONG => integer("bigint"),
        ColumnType::MYSQL_TYPE_FLOAT => "float".to_owned(),
        ColumnType::MYSQL_TYPE_DOUBLE => "double".to_owned(),
        ColumnType::MYSQL_TYPE_DECIMAL | ColumnType::MYSQL_TYPE_NEWDECIMAL => {
            // The length counts a sign and a point where there may be some.
            let beside = u32::from(places > 0) + u32::from(unsigned.is_empty());
            format!("decimal({},{places}){unsigned}", length.saturating_sub(beside).clamp(1, 65))
        }
        ColumnType::MYSQL_TYPE_DATE | ColumnType::MYSQL_TYPE_NEWDATE => "date".to_owned(),
        ColumnType::MYSQL_TYPE_DATETIME | ColumnType::MYSQL_TYPE_DATETIME2 => fraction("datetime"),
        ColumnType::MYSQL_TYPE_TIMESTAMP | ColumnType::MYSQL_TYPE_TIMESTAMP2 => fraction("timestamp"),
        ColumnType::MYSQL_TYPE_TIME | ColumnType::MYSQL_TYPE_TIME2 => fraction("time"),
        ColumnType::MYSQL_TYPE_YEAR => "year".to_owned(),
        ColumnType::MYSQL_TYPE_BIT => format!("bit({length})"),
        ColumnType::MYSQL_TYPE_GEOMETRY => "geometry".to_owned(),
        ColumnType::MYSQL_TYPE_JSON => "longtext".to_owned(),
        _ if bytes => "longblob".to_owned(),
        _ => "longtext".to_owned(),
    }
}
