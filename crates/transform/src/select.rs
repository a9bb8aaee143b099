//! A planned `SELECT`.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, BooleanArray, RecordBatch};
use arrow::compute::{filter, filter_record_batch};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use arrow::error::ArrowError;
use datafusion_common::DataFusionError;
use datafusion_common::tree_node::TreeNode;
use datafusion_expr::Operator;
use datafusion_physical_expr::PhysicalExpr;
use datafusion_physical_expr::expressions::{BinaryExpr, CaseExpr, Column};
use datafusion_physical_expr::utils::{collect_columns, reassign_expr_columns};
use datafusion_sql::sqlparser::ast::{Expr, SelectItem, Value};
use hapax_engine::transform::{RefusedRow, Transform, Transformed};

use crate::computation::{Computation, Failure};
use crate::error::SelectError;
use crate::plan::{self, Plan};
use crate::scope::Scope;
use crate::select_list::{self, Item};
use crate::statement::Statement;

/// One SQL `SELECT … FROM input`, ready to be applied to batches of one schema.
///
/// The same record gives the same result whichever records it comes with.
#[derive(Debug, Clone)]
pub struct Select {
    /// The columns of the input that are looked at, ascending; the expressions count in these.
    used: Vec<usize>,
    condition: Option<Computation>,
    conjuncts: Vec<Computation>,
    columns: Vec<Computation>,
    schema: SchemaRef,
}

impl Select {
    /// Reads, checks and plans the SQL for records of this schema. Evaluates nothing but constants.
    pub fn plan(sql: &str, input: SchemaRef) -> Result<Self, SelectError> {
        let statement = Statement::parse(sql)?;
        let scope = Scope { sql, table: &statement.table, columns: &input };
        let items = select_list::items(&statement, &scope)?;
        if let Some(condition) = &statement.condition {
            scope.check(condition).map_err(|error| error.placed(statement.place(condition)))?;
        }
        let draft = Draft { statement: &statement, input: &input };
        let select = draft.select(&items, statement.condition.as_ref());
        select.map_err(|error| draft.blamed(error, &items))
    }

    fn run(&self, records: &RecordBatch) -> Result<Transformed, Failure> {
        let records = records.project(&self.used).map_err(|error| Failure::of_arrow(&error))?;
        let mut passing = Passing { records, rows: None, refused: Vec::new() };
        self.keep_matching(&mut passing)?;
        let mut columns: Vec<ArrayRef> = Vec::with_capacity(self.columns.len());
        for computation in &self.columns {
            let outcome = computation.compute(&passing.records);
            if !outcome.failed.is_empty() {
                let passed = passing.refuse(outcome.failed)?;
                for column in &mut columns {
                    *column = filter(column, &passed).map_err(|error| Failure::of_arrow(&error))?;
                }
            }
            columns.push(outcome.values);
        }
        let Passing { rows, mut refused, .. } = passing;
        refused.sort_by_key(|refusal| refusal.row);
        let records = RecordBatch::try_new(Arc::clone(&self.schema), columns)
            .map_err(|error| Failure::of_arrow(&error))?;
        Ok(Transformed { records, rows, refused })
    }

    /// The `WHERE`: as a whole if that does not fail, else one condition after the other, each only on the
    /// records for which those before it are true. A condition that fails on a record refuses it.
    fn keep_matching(&self, passing: &mut Passing) -> Result<(), Failure> {
        let Some(condition) = &self.condition else {
            return Ok(());
        };
        if let Ok(values) = condition.evaluate(&passing.records) {
            return passing.keep(&truth(&values));
        }
        for condition in &self.conjuncts {
            let outcome = condition.compute(&passing.records);
            if !outcome.failed.is_empty() {
                passing.refuse(outcome.failed)?;
            }
            passing.keep(&truth(&outcome.values))?;
        }
        Ok(())
    }
}

impl Transform for Select {
    fn schema(&self) -> SchemaRef {
        Arc::clone(&self.schema)
    }

    fn apply(&self, records: &RecordBatch) -> Transformed {
        self.run(records).unwrap_or_else(|failure| Transformed {
            records: RecordBatch::new_empty(Arc::clone(&self.schema)),
            rows: Some(Vec::new()),
            refused: (0..records.num_rows())
                .map(|row| RefusedRow { row, code: failure.code, reason: failure.message.clone() })
                .collect(),
        })
    }
}

/// NULL is not true.
fn truth(values: &ArrayRef) -> BooleanArray {
    let values = values.as_boolean();
    match values.nulls() {
        Some(nulls) => BooleanArray::new(values.values() & nulls.inner(), None),
        None => values.clone(),
    }
}

/// The records that have passed so far.
struct Passing {
    records: RecordBatch,
    /// Which of the input they are; `None` while they are all of it.
    rows: Option<Vec<usize>>,
    refused: Vec<RefusedRow>,
}

impl Passing {
    fn keep(&mut self, kept: &BooleanArray) -> Result<(), Failure> {
        if kept.true_count() == kept.len() {
            return Ok(());
        }
        self.records = filter_record_batch(&self.records, kept).map_err(|error| Failure::of_arrow(&error))?;
        self.rows = Some(kept.values().set_indices().map(|index| self.row(index)).collect());
        Ok(())
    }

    /// Takes these out, given by their index among those that passed; returns which stayed.
    fn refuse(&mut self, failed: Vec<(usize, Failure)>) -> Result<BooleanArray, Failure> {
        let mut failed_rows = failed.iter().map(|(index, _)| *index).peekable();
        let stays = (0..self.records.num_rows())
            .map(|index| failed_rows.next_if_eq(&index).is_none())
            .collect::<Vec<bool>>();
        let stays = BooleanArray::from(stays);
        for (index, failure) in failed {
            let row = self.row(index);
            self.refused.push(RefusedRow { row, code: failure.code, reason: failure.message });
        }
        self.keep(&stays)?;
        Ok(stays)
    }

    fn row(&self, index: usize) -> usize {
        match &self.rows {
            Some(rows) => rows.get(index).copied().unwrap_or(usize::MAX),
            None => index,
        }
    }
}

/// A statement whose names are known to exist, on its way to a [`Select`].
struct Draft<'a> {
    statement: &'a Statement<'a>,
    input: &'a SchemaRef,
}

impl Draft<'_> {
    fn select(&self, items: &[Item], condition: Option<&Expr>) -> Result<Select, SelectError> {
        let projection: Vec<SelectItem> = items.iter().map(Item::aliased).collect();
        let parsed = self.statement.with(projection, condition.cloned());
        let Plan { condition: whole, conjuncts, columns } =
            plan::plan(parsed, self.input).map_err(planning)?;

        let used = self.used(whole.iter().chain(columns.iter().map(|column| &column.expr)));
        let looked_at = self.input.project(&used).map_err(|error| planning(error.into()))?;
        let place = |expr| reassign_expr_columns(expr, &looked_at).map_err(planning);
        let filter = |expr: Arc<dyn PhysicalExpr>| {
            let label = format!("WHERE {}", condition.map(ToString::to_string).unwrap_or_default());
            let field = Arc::new(Field::new("condition", DataType::Boolean, true));
            Ok(Computation { expr: place(expr)?, field, label })
        };
        let mut fields = Vec::new();
        let mut computations = Vec::new();
        for (column, item) in columns.into_iter().zip(items) {
            let field = Arc::new(column.field.as_ref().clone().with_name(&item.name));
            let label = label(item);
            fields.push(Arc::clone(&field));
            computations.push(Computation { expr: place(column.expr)?, field, label });
        }
        let select = Select {
            condition: whole.map(filter).transpose()?,
            conjuncts: conjuncts.into_iter().map(filter).collect::<Result<_, SelectError>>()?,
            columns: computations,
            used,
            schema: Arc::new(Schema::new(fields)),
        };
        constants_hold(&select, looked_at)?;
        Ok(select)
    }

    fn used<'e>(&self, exprs: impl Iterator<Item = &'e Arc<dyn PhysicalExpr>>) -> Vec<usize> {
        let mut used: Vec<usize> =
            exprs.flat_map(collect_columns).map(|column: Column| column.index()).collect();
        used.sort_unstable();
        used.dedup();
        used
    }

    /// The error of the first part that fails alone, placed where that part stands.
    fn blamed(&self, error: SelectError, items: &[Item]) -> SelectError {
        for item in items {
            if let Err(error) = self.select(std::slice::from_ref(item), None) {
                return error.placed(item.place);
            }
        }
        let Some(condition) = &self.statement.condition else {
            return error;
        };
        let one = Item {
            name: "one".into(),
            expr: Expr::Value(Value::Boolean(true).with_empty_span()),
            place: None,
        };
        match self.select(&[one], Some(condition)) {
            Err(error) => error.placed(self.statement.place(condition)),
            Ok(_) => error,
        }
    }
}

/// "column `total`, price * count", or only the name where the expression is the name.
fn label(item: &Item) -> String {
    let text = item.expr.to_string();
    if text == item.name || text.trim_matches('"') == item.name {
        format!("column `{}`", item.name)
    } else {
        format!("column `{}`, {text}", item.name)
    }
}

/// Evaluates on no records what every record evaluates: if that fails, it fails on all of them.
fn constants_hold(select: &Select, looked_at: Schema) -> Result<(), SelectError> {
    let nothing = RecordBatch::new_empty(Arc::new(looked_at));
    for computation in select.conjuncts.iter().chain(&select.columns) {
        if chooses(&computation.expr).map_err(planning)? {
            continue;
        }
        if let Err(failure) = computation.evaluate(&nothing)
            && !failure.internal
        {
            return Err(SelectError::AlwaysFails { message: failure.message, place: None });
        }
    }
    Ok(())
}

/// Whether some of it is evaluated only for some records.
fn chooses(expr: &Arc<dyn PhysicalExpr>) -> Result<bool, DataFusionError> {
    expr.exists(|part| {
        let logic =
            part.downcast_ref::<BinaryExpr>().is_some_and(|b| matches!(b.op(), Operator::And | Operator::Or));
        Ok(logic || part.is::<CaseExpr>())
    })
}

fn planning(error: DataFusionError) -> SelectError {
    match error.find_root() {
        DataFusionError::NotImplemented(what) => SelectError::NotSupported {
            what: what.lines().next().unwrap_or_default().to_owned(),
            place: None,
        },
        DataFusionError::ArrowError(arrow, _) => {
            SelectError::Type { message: brief(&arrow_text(arrow)), place: None }
        }
        root => SelectError::Type { message: brief(&root.message()), place: None },
    }
}

fn arrow_text(error: &ArrowError) -> String {
    Failure::of_arrow(error).message
}

/// The first line: what follows it are candidates for a signature, or a backtrace.
fn brief(message: &str) -> String {
    message.lines().next().unwrap_or_default().trim().to_owned()
}
