//! From SQL to expressions over the columns of a batch.
//!
//! The planner resolves names and types; nothing is folded that a record could make fail, and nothing is
//! evaluated but casts of literals. The usual optimiser is left out on purpose: it folds constants with
//! arithmetic that wraps around.

use std::sync::Arc;

use arrow::datatypes::{DataType, FieldRef, SchemaRef};
use datafusion_common::config::ConfigOptions;
use datafusion_common::tree_node::{Transformed, TransformedResult, TreeNode};
use datafusion_common::{DFSchema, DFSchemaRef, DataFusionError, ScalarValue, TableReference, plan_err};
use datafusion_expr::execution_props::ExecutionProps;
use datafusion_expr::expr::Cast;
use datafusion_expr::logical_plan::builder::LogicalTableSource;
use datafusion_expr::physical_planning_context::PhysicalPlanningContext;
use datafusion_expr::planner::{ContextProvider, ExprPlanner};
use datafusion_expr::simplify::{ExprSimplifyResult, SimplifyContext};
use datafusion_expr::utils::split_conjunction;
use datafusion_expr::{
    AggregateUDF, Expr, ExprSchemable, HigherOrderUDF, LogicalPlan, Operator, ScalarUDF, TableSource,
    WindowUDF,
};
use datafusion_functions::core::planner::CoreFunctionPlanner;
use datafusion_functions::datetime::planner::DatetimeFunctionPlanner;
use datafusion_functions::unicode::planner::UnicodeFunctionPlanner;
use datafusion_optimizer::analyzer::AnalyzerRule;
use datafusion_optimizer::analyzer::type_coercion::TypeCoercion;
use datafusion_physical_expr::expressions::{BinaryExpr, Literal, NegativeExpr};
use datafusion_physical_expr::{PhysicalExpr, create_physical_expr};
use datafusion_sql::planner::{ParserOptions, SqlToRel};
use datafusion_sql::sqlparser::ast::Statement as Parsed;

use crate::function;
use crate::statement::INPUT;

/// Expressions that can be evaluated.
pub(crate) struct Plan {
    /// The `WHERE` as a whole; `None` without one.
    pub(crate) condition: Option<Arc<dyn PhysicalExpr>>,
    /// What it is an AND of, in the order written.
    pub(crate) conjuncts: Vec<Arc<dyn PhysicalExpr>>,
    /// What comes out, in the order written.
    pub(crate) columns: Vec<Column>,
}

/// One expression of the list.
pub(crate) struct Column {
    pub(crate) expr: Arc<dyn PhysicalExpr>,
    /// Its type; the name is not the column's.
    pub(crate) field: FieldRef,
}

/// Plans one statement whose names were looked up before.
pub(crate) fn plan(statement: Parsed, input: &SchemaRef) -> Result<Plan, DataFusionError> {
    let catalog = Catalog::new(input);
    let options =
        ParserOptions::new().with_enable_ident_normalization(false).with_map_string_types_to_utf8view(false);
    let logical = SqlToRel::new_with_options(&catalog, options).sql_statement_to_plan(statement)?;
    let logical = TypeCoercion::new().analyze(logical, &catalog.options)?;
    let Stages { columns, condition, schema } = Stages::of(logical)?;

    let writer = Writer::new(schema);
    let condition = condition.map(|expr| writer.rewritten(expr)).transpose()?;
    let conjuncts = match &condition {
        Some(whole) => split_conjunction(whole).into_iter().map(|part| writer.physical(part)).collect(),
        None => Ok(Vec::new()),
    };
    Ok(Plan {
        condition: condition.map(|whole| writer.physical(&whole)).transpose()?,
        conjuncts: conjuncts?,
        columns: columns.into_iter().map(|expr| writer.column(expr)).collect::<Result<_, _>>()?,
    })
}

/// The only shape a plan may have: a projection over at most one filter over the input.
struct Stages {
    columns: Vec<Expr>,
    condition: Option<Expr>,
    schema: DFSchemaRef,
}

impl Stages {
    fn of(plan: LogicalPlan) -> Result<Self, DataFusionError> {
        let LogicalPlan::Projection(projection) = plan else {
            return plan_err!("a transform is a list of expressions, not {}", plan.display());
        };
        let (condition, below) = match projection.input.as_ref() {
            LogicalPlan::Filter(filter) => (Some(filter.predicate.clone()), Arc::clone(&filter.input)),
            _ => (None, Arc::clone(&projection.input)),
        };
        let table = match below.as_ref() {
            LogicalPlan::SubqueryAlias(alias) => Arc::clone(&alias.input),
            _ => Arc::clone(&below),
        };
        if !matches!(table.as_ref(), LogicalPlan::TableScan(_)) {
            return plan_err!("a transform reads records one at a time, not {}", table.display());
        }
        for expr in projection.expr.iter().chain(&condition) {
            within_one_record(expr)?;
        }
        Ok(Self { columns: projection.expr, condition, schema: Arc::clone(below.schema()) })
    }
}

/// The syntax was checked before; this holds the plan to the same rules, whatever the planner made of it.
fn within_one_record(expr: &Expr) -> Result<(), DataFusionError> {
    let foreign = expr.exists(|part| {
        Ok(match part {
            Expr::ScalarFunction(call) => !function::immutable(&call.func),
            Expr::AggregateFunction(_)
            | Expr::WindowFunction(_)
            | Expr::Exists(_)
            | Expr::InSubquery(_)
            | Expr::SetComparison(_)
            | Expr::ScalarSubquery(_)
            | Expr::OuterReferenceColumn(..)
            | Expr::Unnest(_)
            | Expr::Placeholder(_)
            | Expr::ScalarVariable(..) => true,
            _ => false,
        })
    })?;
    if foreign { plan_err!("{expr} cannot be computed from one record alone") } else { Ok(()) }
}

/// The one table and the functions, for the planner.
struct Catalog {
    table: Arc<dyn TableSource>,
    options: ConfigOptions,
    planners: Vec<Arc<dyn ExprPlanner>>,
}

impl Catalog {
    fn new(input: &SchemaRef) -> Self {
        Self {
            table: Arc::new(LogicalTableSource::new(Arc::clone(input))),
            options: ConfigOptions::default(),
            planners: vec![
                Arc::new(CoreFunctionPlanner::default()),
                Arc::new(DatetimeFunctionPlanner),
                Arc::new(UnicodeFunctionPlanner),
            ],
        }
    }
}

impl ContextProvider for Catalog {
    fn get_table_source(&self, name: TableReference) -> Result<Arc<dyn TableSource>, DataFusionError> {
        if name.table() == INPUT {
            Ok(Arc::clone(&self.table))
        } else {
            plan_err!("there is no table {name}")
        }
    }

    fn get_expr_planners(&self) -> &[Arc<dyn ExprPlanner>] {
        &self.planners
    }

    fn get_function_meta(&self, name: &str) -> Option<Arc<ScalarUDF>> {
        function::named(name)
    }

    fn get_higher_order_meta(&self, _name: &str) -> Option<Arc<HigherOrderUDF>> {
        None
    }

    fn get_aggregate_meta(&self, _name: &str) -> Option<Arc<AggregateUDF>> {
        None
    }

    fn get_window_meta(&self, _name: &str) -> Option<Arc<WindowUDF>> {
        None
    }

    fn get_variable_type(&self, _names: &[String]) -> Option<DataType> {
        None
    }

    fn options(&self) -> &ConfigOptions {
        &self.options
    }

    fn udf_names(&self) -> Vec<String> {
        function::names()
    }

    fn higher_order_function_names(&self) -> Vec<String> {
        Vec::new()
    }

    fn udaf_names(&self) -> Vec<String> {
        Vec::new()
    }

    fn udwf_names(&self) -> Vec<String> {
        Vec::new()
    }
}

/// Writes logical expressions as ones that can be evaluated.
struct Writer {
    schema: DFSchemaRef,
    simplify: SimplifyContext,
}

impl Writer {
    fn new(schema: DFSchemaRef) -> Self {
        let simplify = SimplifyContext::builder().with_schema(Arc::clone(&schema)).build();
        Self { schema, simplify }
    }

    /// Functions that exist only as other expressions (`coalesce` is a CASE) are written as those, and
    /// casts of literals are done once instead of in every batch.
    fn rewritten(&self, expr: Expr) -> Result<Expr, DataFusionError> {
        expr.unalias()
            .transform_up(|part| match part {
                Expr::ScalarFunction(call) => Ok(match call.func.simplify(call.args, &self.simplify)? {
                    ExprSimplifyResult::Simplified(simpler) => Transformed::yes(simpler),
                    ExprSimplifyResult::Original(args) => {
                        let call = datafusion_expr::expr::ScalarFunction { func: call.func, args };
                        Transformed::no(Expr::ScalarFunction(call))
                    }
                }),
                Expr::Cast(Cast { expr, field }) => Ok(match cast_literal(&expr, field.data_type()) {
                    Some(value) => Transformed::yes(Expr::Literal(value, None)),
                    None => Transformed::no(Expr::Cast(Cast { expr, field })),
                }),
                other => Ok(Transformed::no(other)),
            })
            .data()
    }

    fn physical(&self, expr: &Expr) -> Result<Arc<dyn PhysicalExpr>, DataFusionError> {
        let props = ExecutionProps::new();
        let planned = create_physical_expr(expr, &self.schema, &props, &PhysicalPlanningContext::default())?;
        checked(planned, &self.schema)
    }

    fn column(&self, expr: Expr) -> Result<Column, DataFusionError> {
        let expr = self.rewritten(expr)?;
        let expr = match (&expr, plain(&expr.get_type(self.schema.as_ref())?)) {
            (Expr::Column(_), _) | (_, None) => expr,
            (_, Some(data_type)) => expr.cast_to(&data_type, self.schema.as_ref())?,
        };
        let expr = self.physical(&expr)?;
        let arrow = self.schema.as_arrow();
        let field = expr.return_field(arrow)?;
        let nullable = field.is_nullable() || expr.nullable(arrow)?;
        let field = field.as_ref().clone().with_nullable(nullable);
        Ok(Column { expr, field: Arc::new(field) })
    }
}

/// The type every sink knows that a computed column of this type is given instead.
fn plain(data_type: &DataType) -> Option<DataType> {
    match data_type {
        DataType::Utf8View | DataType::Null => Some(DataType::Utf8),
        DataType::BinaryView => Some(DataType::Binary),
        _ => None,
    }
}

fn cast_literal(expr: &Expr, to: &DataType) -> Option<ScalarValue> {
    match expr {
        Expr::Literal(value, None) => value.cast_to(to).ok(),
        _ => None,
    }
}

/// The same expression with arithmetic on whole numbers that fails instead of wrapping around.
///
/// The library has checked `+ - *` but no checked negation: `-x` becomes `0 - x`.
fn checked(expr: Arc<dyn PhysicalExpr>, schema: &DFSchema) -> Result<Arc<dyn PhysicalExpr>, DataFusionError> {
    expr.transform_up(|part| {
        if let Some(binary) = part.downcast_ref::<BinaryExpr>() {
            let binary: Arc<dyn PhysicalExpr> = Arc::new(binary.clone().with_fail_on_overflow(true));
            return Ok(Transformed::yes(binary));
        }
        if let Some(negative) = part.downcast_ref::<NegativeExpr>() {
            let data_type = negative.arg().data_type(schema.as_arrow())?;
            if data_type.is_integer() {
                let zero: Arc<dyn PhysicalExpr> = Arc::new(Literal::new(ScalarValue::new_zero(&data_type)?));
                let minus = BinaryExpr::new(zero, Operator::Minus, Arc::clone(negative.arg()));
                let minus: Arc<dyn PhysicalExpr> = Arc::new(minus.with_fail_on_overflow(true));
                return Ok(Transformed::yes(minus));
            }
        }
        Ok(Transformed::no(part))
    })
    .data()
}
