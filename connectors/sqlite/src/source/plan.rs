//! How a table or a query is read: decided once, when it is opened.

use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use rusqlite::Connection;
use rusqlite::types::ValueRef;
use std::sync::Arc;

use crate::config::{Read, SourceConfig};
use crate::connection::{quoted, quoted_list};
use crate::fault::{DatabaseFault, ReadFault};
use crate::table::Table;
use crate::{civil, declared};

/// How many rows are looked at where only the values tell a type.
const SAMPLE_ROWS: usize = 1_000;

/// What rows are read in the order of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Walk {
    /// The row id, in ranges of a fixed grid.
    RowIds {
        /// Whether VACUUM may give a row another id.
        loose: bool,
    },
    /// The primary key of a table without row ids.
    PrimaryKey,
    /// A cursor, then the row's own key.
    Cursor,
    /// The cursor of a query, which has to be unique.
    UniqueCursor,
    /// The order the query has.
    Numbered,
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
    /// The expressions of the key, in order; empty for [`Walk::Numbered`].
    pub keys: Vec<String>,
    /// The cursor's name.
    pub cursor: Option<String>,
    /// The row id in SQL, where rows have one.
    pub rowid: Option<String>,
    /// The columns, in order.
    pub schema: SchemaRef,
}

/// Why something could not be read.
#[derive(Debug)]
pub(crate) enum Failure {
    Read(ReadFault),
    Sqlite(rusqlite::Error),
}

impl From<ReadFault> for Failure {
    fn from(fault: ReadFault) -> Self {
        Self::Read(fault)
    }
}

impl From<rusqlite::Error> for Failure {
    fn from(error: rusqlite::Error) -> Self {
        Self::Sqlite(error)
    }
}

impl Failure {
    pub(crate) fn at(self, path: &std::path::Path, doing: &'static str) -> hapax_engine::fault::SourceError {
        match self {
            Self::Read(fault) => fault.into(),
            Self::Sqlite(source) => DatabaseFault::of(path, doing, source).into(),
        }
    }
}

/// One column before its type is decided.
struct Found {
    name: String,
    declared: String,
}

impl Plan {
    /// Decides. `given` fixes the columns; without it they are those that are there.
    pub(crate) fn make(
        connection: &Connection,
        config: &SourceConfig,
        given: Option<SchemaRef>,
    ) -> Result<Self, Failure> {
        let (mut plan, found) = match (&config.table, &config.query) {
            (Some(table), None) => of_table(connection, config, table)?,
            (None, Some(query)) => of_query(connection, query, "query")?,
            _ => return Err(ReadFault::Config("it needs either `table` or `query`").into()),
        };
        plan.incremental = config.read == Read::Incremental;
        plan.order(config, &found)?;
        plan.schema = match given {
            Some(schema) => plan.checked(schema, &found)?,
            None => plan.inferred(connection, config, &found)?,
        };
        plan.no_null_cursors(connection)?;
        Ok(plan)
    }

    /// Settles the walk by the cursor, if one is given.
    fn order(&mut self, config: &SourceConfig, found: &[Found]) -> Result<(), ReadFault> {
        let Some(cursor) = &config.cursor else {
            return match config.read {
                Read::Incremental => Err(ReadFault::Config("`read: incremental` needs a `cursor`")),
                Read::Snapshot => Ok(()),
            };
        };
        if !self.incremental && self.walk != Walk::Numbered {
            return Err(ReadFault::Config("`cursor` needs `read: incremental`"));
        }
        let column = self.find(cursor, found, "cursor")?.name.clone();
        let expression = quoted(&column);
        if self.walk == Walk::Numbered {
            self.walk = Walk::UniqueCursor;
            self.keys = vec![expression];
        } else {
            self.walk = Walk::Cursor;
            self.keys.retain(|key| *key != expression);
            self.keys.insert(0, expression);
        }
        self.cursor = Some(column);
        Ok(())
    }

    fn find<'a>(&self, column: &str, found: &'a [Found], key: &'static str) -> Result<&'a Found, ReadFault> {
        found.iter().find(|there| there.name.eq_ignore_ascii_case(column)).ok_or_else(|| {
            ReadFault::NoColumn {
                of: self.name.clone(),
                column: column.to_owned(),
                key,
                known: found.iter().map(|there| there.name.as_str()).collect::<Vec<_>>().join(", "),
            }
        })
    }

    fn checked(&self, schema: SchemaRef, found: &[Found]) -> Result<SchemaRef, ReadFault> {
        for field in schema.fields() {
            self.find(field.name(), found, "schema")?;
        }
        Ok(schema)
    }

    /// The columns as declared, as `schema` says, or as the values are.
    fn inferred(
        &self,
        connection: &Connection,
        config: &SourceConfig,
        found: &[Found],
    ) -> Result<SchemaRef, Failure> {
        let mut types: Vec<_> = found.iter().map(|column| declared::arrow_type(&column.declared)).collect();
        let samples = self.sample(connection, found)?;
        for (data_type, sample) in types.iter_mut().zip(samples) {
            *data_type = Some(settle(data_type.take(), sample));
        }
        for (column, name) in config.schema.iter().flatten() {
            let there = self.find(column, found, "schema")?;
            let unknown = || ReadFault::NoType { column: column.clone(), name: name.clone() };
            let data_type = declared::named(name).ok_or_else(unknown)?;
            for (slot, column) in types.iter_mut().zip(found) {
                if column.name == there.name {
                    *slot = Some(data_type.clone());
                }
            }
        }
        let fields = found.iter().zip(types);
        let fields = fields
            .map(|(column, data_type)| Field::new(&column.name, data_type.unwrap_or(DataType::Utf8), true));
        Ok(Arc::new(Schema::new(fields.collect::<Vec<_>>())))
    }

    /// Which storage classes the first rows have, column by column.
    fn sample(&self, connection: &Connection, found: &[Found]) -> Result<Vec<Seen>, Failure> {
        let mut seen = vec![Seen::default(); found.len()];
        if found.is_empty() {
            return Ok(seen);
        }
        let columns = quoted_list(found.iter().map(|column| &column.name));
        let sql = format!("SELECT {columns} FROM {} LIMIT {SAMPLE_ROWS}", self.from);
        let mut statement = connection.prepare(&sql)?;
        let mut rows = statement.query([])?;
        while let Some(row) = rows.next()? {
            for (index, seen) in seen.iter_mut().enumerate() {
                seen.note(row.get_ref(index)?);
            }
        }
        Ok(seen)
    }

    fn no_null_cursors(&self, connection: &Connection) -> Result<(), Failure> {
        let Some(cursor) = &self.cursor else { return Ok(()) };
        let sql = format!("SELECT count(*) FROM {} WHERE {} IS NULL", self.from, quoted(cursor));
        let rows: i64 = connection.query_row(&sql, [], |row| row.get(0))?;
        if rows == 0 {
            return Ok(());
        }
        Err(ReadFault::NullCursors { of: self.name.clone(), column: cursor.clone(), rows }.into())
    }
}

fn of_table(
    connection: &Connection,
    config: &SourceConfig,
    name: &str,
) -> Result<(Plan, Vec<Found>), Failure> {
    let Some(table) = Table::load(connection, name)? else {
        return Err(ReadFault::NoTable { path: config.path.clone(), table: name.to_owned() }.into());
    };
    let rowid = table.rowid();
    let (walk, keys) = match &rowid {
        Some(rowid) => (Walk::RowIds { loose: table.rowid_alias.is_none() }, vec![rowid.clone()]),
        None if table.kind == "table" && table.without_rowid => {
            (Walk::PrimaryKey, table.primary_key().iter().map(|column| quoted(column)).collect())
        }
        None => return of_query(connection, &format!("SELECT * FROM {}", quoted(&table.name)), &table.name),
    };
    let plan = Plan {
        walk,
        incremental: false,
        from: quoted(&table.name),
        keys,
        cursor: None,
        rowid,
        schema: Arc::new(Schema::empty()),
        name: table.name,
    };
    let found =
        table.columns.into_iter().map(|column| Found { name: column.name, declared: column.declared });
    Ok((plan, found.collect()))
}

fn of_query(connection: &Connection, query: &str, name: &str) -> Result<(Plan, Vec<Found>), Failure> {
    let query = query.trim().trim_end_matches(';').trim_end();
    let bad = |reason: String| ReadFault::BadQuery { reason };
    let statement = connection.prepare(query).map_err(|error| bad(error.to_string()))?;
    if !statement.readonly() || statement.column_count() == 0 || statement.parameter_count() > 0 {
        return Err(bad("it is not a SELECT without parameters".to_owned()).into());
    }
    let found: Vec<_> = statement
        .columns()
        .map(|column| Found {
            name: column.name().to_owned(),
            declared: column.decl_type().unwrap_or_default().to_owned(),
        })
        .collect();
    let twice = |at: usize, column: &Found| {
        found.iter().skip(at + 1).any(|other| other.name.eq_ignore_ascii_case(&column.name))
    };
    if let Some((_, column)) = found.iter().enumerate().find(|(at, column)| twice(*at, column)) {
        return Err(bad(format!("two of its columns are called {}: name one with AS", column.name)).into());
    }
    let from = format!("({query}\n)");
    // What stands alone may not stand in brackets (PRAGMA, for instance).
    connection.prepare(&format!("SELECT * FROM {from}")).map_err(|error| bad(error.to_string()))?;
    let plan = Plan {
        name: name.to_owned(),
        walk: Walk::Numbered,
        incremental: false,
        from,
        keys: Vec::new(),
        cursor: None,
        rowid: None,
        schema: Arc::new(Schema::empty()),
    };
    Ok((plan, found))
}

/// The storage classes seen in one column.
#[derive(Debug, Clone, Copy, Default)]
struct Seen {
    integer: bool,
    real: bool,
    text: bool,
    blob: bool,
    /// Text that is a moment with its zone.
    zoned: bool,
}

impl Seen {
    fn note(&mut self, value: ValueRef<'_>) {
        match value {
            ValueRef::Null => {}
            ValueRef::Integer(_) => self.integer = true,
            ValueRef::Real(_) => self.real = true,
            ValueRef::Text(bytes) => {
                self.text = true;
                self.zoned |= civil::parse_moment(bytes).is_some_and(|moment| moment.zoned);
            }
            ValueRef::Blob(_) => self.blob = true,
        }
    }

    fn numbers_only(self) -> bool {
        (self.integer || self.real) && !self.text && !self.blob
    }
}

fn settle(declared: Option<DataType>, seen: Seen) -> DataType {
    match declared {
        // A date that is a number counts from an epoch that only its owner knows.
        Some(DataType::Date32 | DataType::Timestamp(_, _)) if seen.numbers_only() => {}
        Some(DataType::Timestamp(unit, None)) if seen.zoned => {
            return DataType::Timestamp(unit, Some("UTC".into()));
        }
        Some(data_type) => return data_type,
        None => {}
    }
    match seen {
        Seen { real: true, text: false, blob: false, .. } => DataType::Float64,
        Seen { integer: true, text: false, blob: false, .. } => DataType::Int64,
        Seen { integer: false, real: false, text: false, blob: true, .. } => DataType::Binary,
        _ => DataType::Utf8,
    }
}
