//! How a table or a query is read: decided once, when it is opened.

use std::sync::Arc;
use std::time::Duration;

use arrow::datatypes::{Schema, SchemaRef};
use hapax_engine::fault::SourceError;
use hapax_protocol::guarantee::Window;
use tokio_postgres::Error;
use tokio_postgres::types::Oid;

use super::pages::{self, Part};
use super::query;
use crate::client::Session;
use crate::column::{Base, Column};
use crate::fault::ReadFault;
use crate::name::{TableName, literal, quoted};
use crate::source_config::{Read, SetBy, SourceConfig};
use crate::table::{Kind, Table};

/// How many workers may share the rows of a table.
const WORKERS_MAX: u32 = 64;

/// How many do, if nothing is said.
const WORKERS: u32 = 4;

/// How long a run that goes on waits before it looks again, if nothing is said.
const POLL: Duration = Duration::from_millis(1_000);

/// In which order rows are read, and how far.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Walk {
    /// The pages of one or more tables, in ranges of a fixed grid.
    Pages(Vec<Part>),
    /// A key.
    Key,
    /// The order the query has.
    Number,
    /// A cursor, then a key.
    Cursor(Horizon),
    /// A key, over the rows that wait, each locked until it is marked.
    Marked(Marking),
}

/// Up to where a cursor can be read without passing over a row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Horizon {
    /// Below the oldest transaction that is still open.
    Transaction,
    /// Below the beginning of the oldest transaction that is still open.
    Beginning,
    /// Nobody knows: rows appear late, up to this bound.
    Late(Window),
}

/// How a row is marked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Marking {
    /// The column.
    pub column: String,
    /// Holds of rows that wait.
    pub waits: String,
    /// Makes a row one that was moved.
    pub set: String,
}

/// How a table or a query is read.
#[derive(Debug, Clone)]
pub(super) struct Plan {
    /// The table or the query, for people and as the name of its splits.
    pub name: String,
    pub walk: Walk,
    /// What follows FROM. Its columns are those of `t`.
    pub from: String,
    /// The columns, in order.
    pub columns: Arc<[Column]>,
    /// Which columns rows are read in the order of; empty for pages and numbers.
    pub keys: Vec<usize>,
    /// Whether the key is only what the file says.
    pub declared: bool,
    /// The types of what is selected and their modifiers, as the server numbers them.
    pub types: Vec<(Oid, i32)>,
    /// The columns as they are decoded.
    pub decoded: SchemaRef,
    /// The columns as they are delivered.
    pub schema: SchemaRef,
    /// How many workers share rows that are marked.
    pub workers: u32,
    /// How long to wait for more.
    pub poll: Duration,
}

/// What is read, before it is known how.
pub(super) struct Found {
    pub name: String,
    pub from: String,
    pub columns: Vec<Column>,
    pub table: Option<Table>,
}

impl Found {
    /// Leaves the columns of a schema, in its order.
    fn choose(&mut self, schema: &SchemaRef) -> Result<(), ReadFault> {
        let place = |name: &String| position(&self.columns, name, &self.name, "schema");
        let places: Result<Vec<usize>, _> = schema.fields().iter().map(|field| place(field.name())).collect();
        self.columns = places?.into_iter().filter_map(|index| self.columns.get(index).cloned()).collect();
        Ok(())
    }
}

impl Plan {
    /// Decides. `given` fixes the columns; without it they are those that are there.
    pub(super) async fn make(
        session: &Session,
        config: &SourceConfig,
        given: Option<SchemaRef>,
    ) -> Result<Self, SourceError> {
        unambiguous(config)?;
        let mut found = match (&config.table, &config.query) {
            (Some(table), None) => of_table(session, table).await?,
            (None, Some(sql)) => query::describe(session, sql).await?,
            _ => return Err(ReadFault::Config("it needs either `table` or `query`").into()),
        };
        if let Some(given) = &given {
            found.choose(given)?;
        }
        let (keys, declared) = keys(config, &found)?;
        let decoded: SchemaRef =
            Arc::new(Schema::new(found.columns.iter().map(Column::field).collect::<Vec<_>>()));
        let mut plan = Self {
            name: found.name.clone(),
            walk: Walk::Number,
            from: found.from.clone(),
            schema: given.unwrap_or_else(|| Arc::clone(&decoded)),
            types: Vec::new(),
            decoded,
            columns: found.columns.into(),
            keys,
            declared,
            workers: config.workers.unwrap_or(WORKERS),
            poll: config.poll_ms.map_or(POLL, |ms| Duration::from_millis(ms.max(1))),
        };
        // What may not be read is found out before anything is promised of it.
        let none = format!("SELECT {} FROM {} AS t LIMIT 0", plan.select(), plan.from);
        let doing = "looking at what is to be read";
        session.batch_execute(&none).await.map_err(session.fault(doing))?;
        plan.types = plan.types_now(session).await.map_err(session.fault(doing))?;
        match config.read {
            Read::Snapshot => {
                plan.walk = match found.table {
                    Some(table) if pages::has_pages(&table) => {
                        Walk::Pages(pages::parts(session, &table).await?)
                    }
                    _ if plan.keys.is_empty() => Walk::Number,
                    _ => Walk::Key,
                }
            }
            Read::Incremental => plan.follow(session, config).await?,
            Read::Marked => plan.mark(session, config, found.table.as_ref()).await?,
        }
        Ok(plan)
    }

    fn column(&self, name: &str, key: &'static str) -> Result<usize, ReadFault> {
        position(&self.columns, name, &self.name, key)
    }

    async fn follow(&mut self, session: &Session, config: &SourceConfig) -> Result<(), SourceError> {
        let Some(name) = &config.cursor else {
            return Err(ReadFault::Config("`read: incremental` needs a `cursor`").into());
        };
        let index = self.column(name, "cursor")?;
        let horizon = self.columns.get(index).map(|column| horizon(column, config)).transpose()?;
        let Some(horizon) = horizon else { return Ok(()) };
        if self.keys.is_empty() {
            return Err(ReadFault::NoRowKey { of: self.name.clone() }.into());
        }
        not_a_replica(session).await?;
        if horizon == Horizon::Beginning {
            sees_transactions(session).await?;
        }
        self.no_null_cursors(session, index).await?;
        self.keys.retain(|key| *key != index);
        self.keys.insert(0, index);
        self.walk = Walk::Cursor(horizon);
        Ok(())
    }

    async fn no_null_cursors(&self, session: &Session, index: usize) -> Result<(), SourceError> {
        let Some(column) = self.columns.get(index).filter(|column| !column.not_null) else { return Ok(()) };
        let sql = format!(
            "SELECT EXISTS (SELECT FROM {} AS t WHERE t.{} IS NULL)",
            self.from,
            quoted(&column.name)
        );
        let doing = "looking for rows without a cursor";
        let row = session.query_one(&sql, &[]).await.map_err(session.fault(doing))?;
        if row.try_get(0).map_err(session.fault(doing))? {
            return Err(ReadFault::NullCursors { of: self.name.clone(), column: column.name.clone() }.into());
        }
        Ok(())
    }

    async fn mark(
        &mut self,
        session: &Session,
        config: &SourceConfig,
        table: Option<&Table>,
    ) -> Result<(), SourceError> {
        let Some(name) = &config.mark else {
            return Err(ReadFault::Config("`read: marked` needs a `mark`").into());
        };
        let alone = match table.filter(|table| matches!(table.kind, Kind::Table | Kind::Unlogged)) {
            Some(table) => pages::parts(session, table).await?.len() == 1,
            None => false,
        };
        if !alone {
            let words = "`read: marked` marks the rows of one table: no view, no partitions, no children";
            return Err(ReadFault::Config(words).into());
        }
        if self.keys.is_empty() {
            return Err(ReadFault::NoRowKey { of: self.name.clone() }.into());
        }
        let index = self.column(name, "mark")?;
        not_a_replica(session).await?;
        if let Some(column) = self.columns.get(index) {
            self.walk = Walk::Marked(marking(column, config)?);
        }
        Ok(())
    }

    /// The types that the columns have now.
    async fn types_now(&self, session: &Session) -> Result<Vec<(Oid, i32)>, Error> {
        let statement = session.prepare(&format!("SELECT {} FROM {} AS t", self.select(), self.from)).await?;
        let of = |column: &tokio_postgres::Column| (column.type_().oid(), column.type_modifier());
        Ok(statement.columns().iter().map(of).collect())
    }

    /// Refuses to read bytes of another type than the one they would be taken for.
    pub(super) async fn unchanged(&self, session: &Session) -> Result<(), SourceError> {
        let now = self.types_now(session).await.map_err(session.fault("looking at what is to be read"))?;
        match now == self.types {
            true => Ok(()),
            false => Err(ReadFault::Altered { of: self.name.clone() }.into()),
        }
    }

    /// The columns as they are asked for: what has only a text form here, in that.
    pub(super) fn select(&self) -> String {
        let form = |column: &Column| {
            let cast = if column.of.base == Base::Other { "::text" } else { "" };
            format!("t.{}{cast}", quoted(&column.name))
        };
        self.columns.iter().map(form).collect::<Vec<_>>().join(", ")
    }

    /// The columns of the key, in its order.
    pub(super) fn key_columns(&self) -> impl Iterator<Item = &Column> {
        self.keys.iter().filter_map(|index| self.columns.get(*index))
    }

    /// The key in SQL.
    pub(super) fn order(&self) -> String {
        self.key_columns().map(|column| format!("t.{}", quoted(&column.name))).collect::<Vec<_>>().join(", ")
    }

    /// The condition of the rows behind a key.
    pub(super) fn behind(&self, key: &[String]) -> String {
        let value = |(column, value): (&Column, &String)| format!("{}::{}", literal(value), column.of.plain);
        let values: Vec<_> = self.key_columns().zip(key).map(value).collect();
        format!("({}) > ({})", self.order(), values.join(", "))
    }
}

/// What the keys of the file say against each other.
fn unambiguous(config: &SourceConfig) -> Result<(), ReadFault> {
    let incremental = config.read == Read::Incremental;
    if config.cursor.is_some() && !incremental {
        return Err(ReadFault::Config("`cursor` needs `read: incremental`"));
    }
    if config.mark.is_some() && config.read != Read::Marked {
        return Err(ReadFault::Config("`mark` needs `read: marked`"));
    }
    if config.mark_from.is_some() != config.mark_to.is_some() {
        return Err(ReadFault::Config("`mark_from` and `mark_to` need each other"));
    }
    if config.lateness.is_some() && config.cursor_set_by != Some(SetBy::Application) {
        return Err(ReadFault::Config("`lateness` is for a cursor that is `cursor_set_by: application`"));
    }
    if config.workers.is_some() && config.read != Read::Marked {
        return Err(ReadFault::Config("`workers` needs `read: marked`"));
    }
    if config.workers.is_some_and(|workers| !(1..=WORKERS_MAX).contains(&workers)) {
        return Err(ReadFault::Config("`workers` is 1 to 64"));
    }
    if config.cursor_set_by.is_some() && config.cursor.is_none() {
        return Err(ReadFault::Config("`cursor_set_by` needs a `cursor`"));
    }
    Ok(())
}

async fn of_table(session: &Session, text: &str) -> Result<Found, SourceError> {
    let name = TableName::read(text)?;
    let table = Table::load(session, &name).await.map_err(session.fault("describing the table"))?;
    let readable = |table: &Table| table.kind != Kind::Other;
    let none = || ReadFault::NoTable { server: session.server().clone(), table: name.sql() };
    let table = table.filter(readable).ok_or_else(none)?;
    Ok(Found {
        name: format!("{}.{}", table.schema, table.name),
        from: table.sql(),
        columns: table.columns.clone(),
        table: Some(table),
    })
}

fn position(columns: &[Column], name: &str, of: &str, key: &'static str) -> Result<usize, ReadFault> {
    columns.iter().position(|column| column.name == name).ok_or_else(|| ReadFault::NoColumn {
        of: of.to_owned(),
        column: name.to_owned(),
        key,
        known: columns.iter().map(|column| column.name.as_str()).collect::<Vec<_>>().join(", "),
    })
}

/// The columns that tell rows apart, and whether only the file says so; none if nothing does.
fn keys(config: &SourceConfig, found: &Found) -> Result<(Vec<usize>, bool), ReadFault> {
    let place = |name: &String| position(&found.columns, name, &found.name, "key");
    if let Some(key) = &config.key {
        if config.read == Read::Snapshot && found.table.as_ref().is_some_and(pages::has_pages) {
            return Err(ReadFault::Config("a table that is read as a snapshot needs no `key`"));
        }
        let keys: Vec<usize> = key.iter().map(place).collect::<Result<_, _>>()?;
        for column in keys.iter().filter_map(|index| found.columns.get(*index)) {
            if column.of.element.is_some() {
                return Err(unfit(column, "key", "it is an array"));
            }
        }
        return Ok((keys, true));
    }
    let Some(table) = &found.table else { return Ok((Vec::new(), false)) };
    let sound = |name: &String| {
        table.column(name).is_some_and(|column| column.not_null && column.of.element.is_none())
    };
    let unique = table.unique.iter().find(|columns| columns.iter().all(sound));
    let keys: Result<_, _> = unique.into_iter().flatten().map(place).collect();
    Ok((keys?, false))
}

fn unfit(column: &Column, role: &'static str, reason: &'static str) -> ReadFault {
    ReadFault::Unfit { column: column.name.clone(), of_type: column.of.name.clone(), role, reason }
}

fn horizon(column: &Column, config: &SourceConfig) -> Result<Horizon, ReadFault> {
    if column.of.element.is_none() && column.of.name == "xid8" {
        return match config.cursor_set_by {
            Some(SetBy::Application) => Err(ReadFault::Config(
                "an xid8 column holds transactions of the database: `cursor_set_by: database`",
            )),
            _ => Ok(Horizon::Transaction),
        };
    }
    match (column.of.element, column.of.base) {
        (None, Base::Timestamptz) => {}
        (None, Base::Timestamp) => {
            return Err(unfit(column, "cursor", "without a zone nobody knows which moment it is"));
        }
        (None, Base::Int2 | Base::Int4 | Base::Int8) => {
            return Err(unfit(
                column,
                "cursor",
                "numbers of a sequence are given out before their transaction commits, and nothing tells which are still open",
            ));
        }
        _ => return Err(unfit(column, "cursor", "nothing tells up to which value all rows are there")),
    }
    match (config.cursor_set_by, &config.lateness) {
        // Rounded, a time may lie before the beginning of its transaction, and below a horizon that was passed.
        (Some(SetBy::Database), _) if column.of.name != column.of.plain => Err(unfit(
            column,
            "cursor",
            "it is rounded, or a domain that may be: only a full timestamp is not before its transaction",
        )),
        (Some(SetBy::Database), _) => Ok(Horizon::Beginning),
        (Some(SetBy::Application), Some(lateness)) => {
            let none = ReadFault::Config("`lateness` is a length of time: 90s, 5m, 2h, 1d");
            Ok(Horizon::Late(Window::parse(lateness).ok_or(none)?))
        }
        (Some(SetBy::Application), None) => Err(ReadFault::Config(
            "`cursor_set_by: application` needs `lateness`: how late a row may appear at most",
        )),
        (None, _) => Err(ReadFault::Config(
            "a timestamp as `cursor` needs `cursor_set_by`: `database` or `application`",
        )),
    }
}

fn marking(column: &Column, config: &SourceConfig) -> Result<Marking, ReadFault> {
    let name = quoted(&column.name);
    let words = config.mark_from.as_ref().zip(config.mark_to.as_ref());
    let typed = |word: &str| format!("{}::{}", literal(word), column.of.plain);
    let marking = |waits, set| Marking { column: column.name.clone(), waits, set };
    match (column.of.element, column.of.base, words) {
        (None, Base::Timestamptz | Base::Timestamp | Base::Date, None) => {
            Ok(marking(format!("t.{name} IS NULL"), format!("{name} = clock_timestamp()")))
        }
        (None, Base::Bool, None) => Ok(marking(format!("t.{name} IS NOT TRUE"), format!("{name} = true"))),
        (None, Base::Text | Base::Enum, Some((from, to))) => {
            Ok(marking(format!("t.{name} = {}", typed(from)), format!("{name} = {}", typed(to))))
        }
        (None, Base::Text | Base::Enum, None) => Err(unfit(
            column,
            "mark",
            "the file does not say what it holds before (`mark_from`) and after (`mark_to`)",
        )),
        _ => Err(unfit(column, "mark", "no value of it means that a row was moved")),
    }
}

async fn not_a_replica(session: &Session) -> Result<(), SourceError> {
    let doing = "asking whether it is a replica";
    let row = session.query_one("SELECT pg_is_in_recovery()", &[]).await.map_err(session.fault(doing))?;
    if row.try_get(0).map_err(session.fault(doing))? {
        return Err(ReadFault::Replica { server: session.server().clone() }.into());
    }
    Ok(())
}

async fn sees_transactions(session: &Session) -> Result<(), SourceError> {
    let doing = "asking what the role may see";
    let sql = "SELECT pg_has_role('pg_read_all_stats', 'USAGE'), format('GRANT pg_read_all_stats TO %I', current_user)";
    let row = session.query_one(sql, &[]).await.map_err(session.fault(doing))?;
    if row.try_get(0).map_err(session.fault(doing))? {
        return Ok(());
    }
    let grant = row.try_get(1).map_err(session.fault(doing))?;
    Err(ReadFault::SeesNoTransactions { server: session.server().clone(), grant }.into())
}
