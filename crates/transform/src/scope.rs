//! The names an expression may use: the columns of the input, and functions over one record.

use std::ops::ControlFlow;

use arrow::datatypes::{DataType, Schema};
use datafusion_sql::sqlparser::ast::{
    Expr, Function, FunctionArgumentClause, FunctionArguments, Ident, Query, Spanned, Value, ValueWithSpan,
    Visit, Visitor,
};
use datafusion_sql::sqlparser::tokenizer::Span;

use crate::error::{Place, SelectError};
use crate::function::{self, Lookup};
use crate::vocabulary::{self, Meaning};

/// The columns of the one table, under its one name.
pub(crate) struct Scope<'a> {
    pub(crate) sql: &'a str,
    pub(crate) table: &'a str,
    pub(crate) columns: &'a Schema,
}

impl Scope<'_> {
    /// Looks every name of an expression up.
    pub(crate) fn check(&self, expr: &Expr) -> Result<(), SelectError> {
        match expr.visit(&mut Walk { scope: self }) {
            ControlFlow::Continue(()) => Ok(()),
            ControlFlow::Break(error) => Err(*error),
        }
    }

    /// Looks a column up by its name as written.
    pub(crate) fn column(&self, name: &Ident) -> Result<usize, SelectError> {
        self.columns.index_of(&name.value).map_err(|_| self.unknown_column(&name.value, name, name.span))
    }

    fn unknown_column(&self, written: &str, name: &Ident, span: Span) -> SelectError {
        let names = self.columns.fields().iter().map(|field| field.name().as_str());
        SelectError::UnknownColumn {
            name: written.to_owned(),
            suggestion: vocabulary::nearest(&name.value, names).map(vocabulary::written),
            quoted: name.quote_style == Some('"'),
            place: Place::of(self.sql, span),
        }
    }

    /// `table.column`, `column.field` or `table.column.field`.
    fn compound(&self, names: &[Ident], span: Span) -> Result<(), SelectError> {
        let (Some(first), Some(second)) = (names.first(), names.get(1)) else {
            return Ok(());
        };
        if first.value == self.table {
            return self.column(second).map(drop);
        }
        let is_struct = self
            .columns
            .field_with_name(&first.value)
            .is_ok_and(|f| matches!(f.data_type(), DataType::Struct(_)));
        if is_struct {
            return Ok(());
        }
        let written: Vec<&str> = names.iter().map(|name| name.value.as_str()).collect();
        Err(self.unknown_column(&written.join("."), second, span))
    }

    fn function(&self, call: &Function) -> Result<(), SelectError> {
        let span = call.name.span();
        let place = Place::of(self.sql, span);
        let name = call.name.to_string().to_lowercase();
        let across = |what: String| SelectError::AcrossRecords { what, place };
        let unsupported = |what: String| SelectError::NotSupported { what, place };
        if call.over.is_some() {
            return Err(across(format!("the window function `{name}`")));
        }
        match function::look_up(&name) {
            Lookup::Callable => {}
            Lookup::Refused(Meaning::Many(what)) => return Err(across(what)),
            Lookup::Refused(Meaning::Multiplies) => {
                return Err(unsupported(format!("`{name}`, which makes several records of one")));
            }
            Lookup::Refused(Meaning::Changes(why)) => {
                return Err(SelectError::NotDeterministic { function: name, why, place });
            }
            Lookup::Unknown(likely) => {
                let column = self.columns.field_with_name(&call.name.to_string());
                let quoted = column.ok().map(|field| format!("\"{}\"", field.name()));
                return Err(SelectError::UnknownFunction { name, suggestion: quoted.or(likely), place });
            }
        }
        if call.filter.is_some() || !call.within_group.is_empty() || call.null_treatment.is_some() {
            return Err(across(format!("an aggregate's clause on `{name}`")));
        }
        if let FunctionArguments::List(arguments) = &call.args {
            let ordered = arguments.clauses.iter().any(|c| matches!(c, FunctionArgumentClause::OrderBy(_)));
            if ordered || arguments.duplicate_treatment.is_some() {
                return Err(across(format!("an aggregate's clause on `{name}`")));
            }
        }
        Ok(())
    }
}

struct Walk<'a> {
    scope: &'a Scope<'a>,
}

impl Visitor for Walk<'_> {
    type Break = Box<SelectError>;

    fn pre_visit_query(&mut self, query: &Query) -> ControlFlow<Self::Break> {
        let place = Place::of(self.scope.sql, query.span());
        ControlFlow::Break(Box::new(SelectError::AcrossRecords { what: "a subquery".into(), place }))
    }

    fn pre_visit_value(&mut self, value: &ValueWithSpan) -> ControlFlow<Self::Break> {
        if let Value::Placeholder(name) = &value.value {
            let place = Place::of(self.scope.sql, value.span);
            let what = format!("the parameter `{name}`");
            return ControlFlow::Break(Box::new(SelectError::NotSupported { what, place }));
        }
        ControlFlow::Continue(())
    }

    fn pre_visit_expr(&mut self, expr: &Expr) -> ControlFlow<Self::Break> {
        let checked = match expr {
            Expr::Identifier(name) => self.scope.column(name).map(drop),
            Expr::CompoundIdentifier(names) => self.scope.compound(names, expr.span()),
            Expr::Function(call) => self.scope.function(call),
            Expr::Lambda(_) => Err(SelectError::NotSupported {
                what: "a lambda".into(),
                place: Place::of(self.scope.sql, expr.span()),
            }),
            _ => Ok(()),
        };
        match checked {
            Ok(()) => ControlFlow::Continue(()),
            Err(error) => ControlFlow::Break(Box::new(error)),
        }
    }
}
