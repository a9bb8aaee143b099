//! How records of one shape meet the table: decided from what the table is, before anything is written.

use arrow::datatypes::{Field, Schema};
use hapax_engine::sink::Shape;

use super::declared::Known;
use super::way::Way;
use crate::client::STAGE;
use crate::column::{Column, METADATA};
use crate::config::{SchemaChanges, SinkConfig, Write};
use crate::fault::WriteFault;
use crate::name::{quoted, quoted_list};
use crate::table::{Kind, Table};

/// The longest name that PostgreSQL keeps, in bytes.
const NAME_BYTES_MAX: usize = 63;

/// What is done to the table before records are written to it.
#[derive(Debug, Clone, Default)]
pub(crate) struct Preparation {
    /// The statements.
    pub statements: Vec<String>,
    /// The same in words.
    pub words: Vec<String>,
}

/// What is done for each batch.
#[derive(Debug, Clone)]
pub(crate) struct Plan {
    /// The table, in SQL.
    pub table: String,
    /// The columns, in the order of the records.
    pub columns: Vec<Target>,
    /// The statement that takes the bytes of a batch.
    pub copy: String,
    /// How a batch gets from where the bytes went into the table; `None` if they went there.
    pub stage: Option<Stage>,
    /// Whether a row may leave the table as it was.
    pub may_skip: bool,
    /// Whether a row is refused where its key is there.
    pub only_absent: bool,
    /// The places of the key among the columns, if a later record of a key takes the place of an earlier one.
    pub replaced_by: Vec<usize>,
    absent: Option<Stage>,
}

/// One column that is written.
#[derive(Debug, Clone)]
pub(crate) struct Target {
    pub name: String,
    pub way: Way,
    /// Whether NULL is refused before PostgreSQL sees it.
    pub never_null: bool,
}

/// A temporary table, and the way out of it.
#[derive(Debug, Clone)]
pub(crate) struct Stage {
    /// Creates it, once a session.
    pub create: String,
    /// Moves what is in it into the table.
    pub insert: String,
}

/// Decides what must be done so that records of this shape fit, given the table or that there is none. Refuses what
/// would not fit.
pub(crate) fn prepare(
    config: &SinkConfig,
    shape: &Shape,
    known: &Known,
    name: &str,
    table: Option<&Table>,
) -> Result<Preparation, WriteFault> {
    let schema = &shape.schema;
    distinct(schema)?;
    let key = key(config, shape)?;
    let mut preparation = Preparation::default();
    let Some(table) = table else {
        if !config.create {
            return Err(WriteFault::NoTable { table: name.to_owned() });
        }
        let create = creation(name, schema, &key, known)?;
        preparation.words.push(format!("create the table {name}: {create}"));
        preparation.statements.push(create);
        return Ok(preparation);
    };
    if !matches!(table.kind, Kind::Table | Kind::Partitioned) {
        return Err(WriteFault::NotATable { table: table.sql(), kind: table.kind.word() });
    }
    let there = schema.fields().len();
    preparation.words.push(format!(
        "write {there} columns of the table {}, which is there and has {}",
        table.sql(),
        table.columns.len()
    ));
    for field in schema.fields() {
        if let Some(column) = table.column(field.name()) {
            fits(table, column, field, known)?;
            // PostgreSQL lets an insert set it, and no update.
            if config.write == Write::Upsert && column.numbered && !key.contains(&column.name) {
                return Err(WriteFault::Generated { table: table.sql(), column: column.name.clone() });
            }
            continue;
        }
        let (table, column, declared) = (table.sql(), field.name().clone(), declared(field, known)?);
        if config.schema_changes == SchemaChanges::Refuse {
            return Err(WriteFault::ColumnMissing { table, column, declared });
        }
        let add = format!("ALTER TABLE {table} ADD COLUMN {} {declared}", quoted(&column));
        preparation.words.push(format!("add a column: {add}"));
        preparation.statements.push(add);
    }
    let supplied = |name: &str| schema.fields().iter().any(|field| field.name() == name);
    for column in &table.columns {
        if column.not_null && !column.default && !column.generated && !supplied(&column.name) {
            return Err(WriteFault::ColumnDemanded { table: table.sql(), column: column.name.clone() });
        }
    }
    if config.write != Write::Append && !table.unique_by(&key) {
        let create = format!("CREATE UNIQUE INDEX ON {} ({})", table.sql(), quoted_list(&key));
        return Err(WriteFault::NoUniqueIndex { table: table.sql(), key: key.join(", "), create });
    }
    Ok(preparation)
}

/// The key, as the records spell it.
fn key(config: &SinkConfig, shape: &Shape) -> Result<Vec<String>, WriteFault> {
    let write = match config.write {
        Write::Append => None,
        Write::Upsert => Some("upsert"),
        Write::Ignore => Some("ignore"),
    };
    if let (Some(write), true) = (write, shape.key.is_empty()) {
        return Err(WriteFault::NoKey { write });
    }
    match shape.key.iter().find(|column| shape.schema.column_with_name(column).is_none()) {
        Some(column) => Err(WriteFault::KeyColumn { column: column.clone() }),
        None => Ok(shape.key.clone()),
    }
}

/// Refuses a name that PostgreSQL would cut off.
pub(crate) fn short(name: &str) -> Result<(), WriteFault> {
    if name.len() > NAME_BYTES_MAX { Err(WriteFault::NameTooLong { name: name.to_owned() }) } else { Ok(()) }
}

fn distinct(schema: &Schema) -> Result<(), WriteFault> {
    let mut seen: Vec<&String> = Vec::new();
    for field in schema.fields() {
        let name = field.name();
        short(name)?;
        if seen.contains(&name) {
            return Err(WriteFault::SameName { name: name.clone() });
        }
        seen.push(name);
    }
    Ok(())
}

fn declared(field: &Field, known: &Known) -> Result<String, WriteFault> {
    known.declared(field).ok_or_else(|| WriteFault::TypeUnheld {
        column: field.name().clone(),
        data_type: field.data_type().to_string(),
    })
}

fn creation(table: &str, schema: &Schema, key: &[String], known: &Known) -> Result<String, WriteFault> {
    let mut parts = Vec::new();
    for field in schema.fields() {
        parts.push(format!("{} {}", quoted(field.name()), declared(field, known)?));
    }
    if !key.is_empty() {
        parts.push(format!("PRIMARY KEY ({})", quoted_list(key)));
    }
    Ok(format!("CREATE TABLE {table} ({})", parts.join(", ")))
}

/// Refuses a column that does not keep values of this field as they are.
fn fits(table: &Table, column: &Column, field: &Field, known: &Known) -> Result<Way, WriteFault> {
    if column.generated {
        return Err(WriteFault::Generated { table: table.sql(), column: column.name.clone() });
    }
    if let Some(way) = Way::of(field.data_type(), &column.of) {
        return Ok(way);
    }
    Err(WriteFault::ColumnType {
        table: table.sql(),
        column: column.name.clone(),
        found: column.of.name.clone(),
        data_type: match field.metadata().get(METADATA) {
            Some(name) => format!("{name} ({})", field.data_type()),
            None => field.data_type().to_string(),
        },
        declared: declared(field, known)?,
    })
}

impl Plan {
    /// How records of this shape are written to the table, which was made ready for them.
    pub(crate) fn make(
        config: &SinkConfig,
        shape: &Shape,
        known: &Known,
        table: &Table,
    ) -> Result<Self, WriteFault> {
        let key = key(config, shape)?;
        let by_key = config.write != Write::Append;
        let (mut columns, mut there) = (Vec::new(), Vec::new());
        for field in shape.schema.fields() {
            let Some(column) = table.column(field.name()) else {
                let (table, column) = (table.sql(), field.name().clone());
                return Err(WriteFault::ColumnMissing { table, column, declared: declared(field, known)? });
            };
            let never_null = by_key && key.contains(field.name());
            columns.push(Target {
                name: field.name().clone(),
                way: fits(table, column, field, known)?,
                never_null,
            });
            there.push(column);
        }
        let names: Vec<String> = columns.iter().map(|column| column.name.clone()).collect();
        let list = quoted_list(&names);
        let staged = by_key || columns.iter().any(|column| column.way.needs_cast());
        let stage = |write| staging(write, table, &columns, &there, &key);
        let into = if staged { STAGE.to_owned() } else { table.sql() };
        let replaced_by = match config.write {
            Write::Upsert => key.iter().filter_map(|key| names.iter().position(|name| name == key)).collect(),
            Write::Append | Write::Ignore => Vec::new(),
        };
        Ok(Self {
            table: table.sql(),
            copy: format!("COPY {into} ({list}) FROM STDIN (FORMAT binary)"),
            stage: staged.then(|| stage(config.write)),
            absent: by_key.then(|| stage(Write::Ignore)),
            // An upsert whose columns are all in the key has nothing to update either.
            may_skip: config.write == Write::Ignore || (by_key && columns.len() == key.len()),
            only_absent: false,
            replaced_by,
            columns,
        })
    }

    /// The same by key, but without effect on a row that is there.
    pub(crate) fn absent(&self) -> Self {
        Self {
            stage: self.absent.clone(),
            only_absent: true,
            may_skip: false,
            replaced_by: Vec::new(),
            ..self.clone()
        }
    }
}

fn staging(write: Write, table: &Table, columns: &[Target], there: &[&Column], key: &[String]) -> Stage {
    let (mut created, mut taken) = (Vec::new(), Vec::new());
    for (target, column) in columns.iter().zip(there) {
        let name = quoted(&target.name);
        if target.way.needs_cast() {
            created.push(format!("{name} {}", target.way.staged_type()));
            // To the type without its length: an explicit cast to one of a length cuts off, an insert refuses.
            taken.push(format!("CAST({name} AS {})", column.of.plain));
        } else {
            created.push(format!("{name} {}", column.of.name));
            taken.push(name);
        }
    }
    let names: Vec<String> = columns.iter().map(|column| column.name.clone()).collect();
    let numbered = there.iter().any(|column| column.numbered);
    let insert = format!(
        "INSERT INTO {} ({}){} SELECT {} FROM {STAGE}",
        table.sql(),
        quoted_list(&names),
        if numbered { " OVERRIDING SYSTEM VALUE" } else { "" },
        taken.join(", ")
    );
    let set: Vec<String> = there
        .iter()
        .filter(|column| !key.contains(&column.name) && !column.numbered)
        .map(|column| format!("{0} = excluded.{0}", quoted(&column.name)))
        .collect();
    let insert = match write {
        Write::Append => insert,
        Write::Upsert if !set.is_empty() => {
            format!("{insert} ON CONFLICT ({}) DO UPDATE SET {}", quoted_list(key), set.join(", "))
        }
        Write::Upsert | Write::Ignore => format!("{insert} ON CONFLICT ({}) DO NOTHING", quoted_list(key)),
    };
    let create = format!("CREATE TEMPORARY TABLE {STAGE} ({}) ON COMMIT DELETE ROWS", created.join(", "));
    Stage { create, insert }
}
