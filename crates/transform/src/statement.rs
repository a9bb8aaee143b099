//! The SQL text as one `SELECT … FROM input`, with everything refused that needs more than one record.

use datafusion_sql::sqlparser::ast::{
    Distinct, Expr, GroupByExpr, Ident, LimitClause, ObjectNamePart, OrderByKind, Query, Select,
    SelectFlavor, SelectItem, SetExpr, Spanned, Statement as Parsed, TableFactor, TableWithJoins,
};
use datafusion_sql::sqlparser::dialect::GenericDialect;
use datafusion_sql::sqlparser::parser::{Parser, ParserError};
use datafusion_sql::sqlparser::tokenizer::{Location, Span, Tokenizer};

use crate::error::{Place, SelectError};

/// The name a transform reads from.
pub(crate) const INPUT: &str = "input";

/// How deep expressions may be nested; a limit on the stack.
const DEPTH_MAX: usize = 64;

/// One `SELECT … FROM input [alias] [WHERE …]` and nothing else.
pub(crate) struct Statement<'a> {
    pub(crate) sql: &'a str,
    /// The name of the one table: `input` or its alias.
    pub(crate) table: String,
    pub(crate) projection: Vec<SelectItem>,
    pub(crate) condition: Option<Expr>,
    query: Box<Query>,
}

impl<'a> Statement<'a> {
    /// Reads the text.
    pub(crate) fn parse(sql: &'a str) -> Result<Self, SelectError> {
        let query = only_query(sql)?;
        let asked = Asked { sql };
        asked.of_query(&query)?;
        let select = asked.select(&query)?;
        asked.of_select(select)?;
        let table = asked.table(select)?;
        let projection = select.projection.clone();
        let condition = select.selection.clone();
        Ok(Self { sql, table, projection, condition, query })
    }

    /// The same statement with another list and condition, to be planned.
    pub(crate) fn with(&self, projection: Vec<SelectItem>, condition: Option<Expr>) -> Parsed {
        let mut query = self.query.clone();
        if let SetExpr::Select(select) = query.body.as_mut() {
            select.projection = projection;
            select.selection = condition;
        }
        Parsed::Query(query)
    }

    /// Where a part of it stands.
    pub(crate) fn place(&self, part: &impl Spanned) -> Option<Place> {
        Place::of(self.sql, part.span())
    }
}

fn only_query(sql: &str) -> Result<Box<Query>, SelectError> {
    let dialect = GenericDialect {};
    let tokens = Tokenizer::new(&dialect, sql).tokenize_with_location().map_err(|error| {
        SelectError::Syntax { message: error.message, place: Place::at(sql, error.location) }
    })?;
    let statements = Parser::new(&dialect)
        .with_tokens_with_locations(tokens)
        .with_recursion_limit(DEPTH_MAX)
        .parse_statements()
        .map_err(|error| syntax(sql, error))?;
    let mut statements = statements.into_iter();
    match (statements.next(), statements.next()) {
        (Some(Parsed::Query(query)), None) => Ok(query),
        (Some(_), Some(second)) => Err(SelectError::NotASelect {
            found: "a second statement".into(),
            place: Place::of(sql, second.span()),
        }),
        (Some(other), None) => {
            let text = other.to_string();
            let verb = text.split_whitespace().next().unwrap_or("another statement").to_owned();
            Err(SelectError::NotASelect { found: verb, place: Place::of(sql, other.span()) })
        }
        (None, _) => Err(SelectError::Syntax {
            message: "there is no statement".into(),
            place: Some(Place::end_of(sql)),
        }),
    }
}

/// The parser puts the place into the message: it is taken out again.
fn syntax(sql: &str, error: ParserError) -> SelectError {
    let (ParserError::ParserError(text) | ParserError::TokenizerError(text)) = error else {
        return SelectError::Syntax {
            message: format!("it is nested more than {DEPTH_MAX} deep"),
            place: None,
        };
    };
    let Some((message, place)) = text.rsplit_once(" at Line: ") else {
        let place = text.ends_with("EOF").then(|| Place::end_of(sql));
        let message = text.replace("found: EOF", "found: the end of the text");
        return SelectError::Syntax { message, place };
    };
    let location = place.split_once(", Column: ").and_then(|(line, column)| {
        Some(Location { line: line.trim().parse().ok()?, column: column.trim().parse().ok()? })
    });
    SelectError::Syntax {
        message: message.to_owned(),
        place: location.and_then(|location| Place::at(sql, location)),
    }
}

/// Finds what asks for more than one record.
struct Asked<'a> {
    sql: &'a str,
}

impl Asked<'_> {
    fn across(&self, what: &str, span: Span) -> SelectError {
        SelectError::AcrossRecords { what: what.to_owned(), place: Place::of(self.sql, span) }
    }

    fn unsupported(&self, what: &str, span: Span) -> SelectError {
        SelectError::NotSupported { what: what.to_owned(), place: Place::of(self.sql, span) }
    }

    /// What stands around the `SELECT`.
    fn of_query(&self, query: &Query) -> Result<(), SelectError> {
        if let Some(with) = &query.with {
            return Err(self.across("a WITH clause", with.span()));
        }
        match query.body.as_ref() {
            SetExpr::Select(_) => {}
            SetExpr::SetOperation { op, right, .. } => return Err(self.across(&op.to_string(), right.span())),
            SetExpr::Query(inner) => return Err(self.across("a SELECT in parentheses", inner.span())),
            other => {
                let place = Place::of(self.sql, other.span());
                return Err(SelectError::NotASelect { found: "something else".into(), place });
            }
        }
        if let Some(order_by) = &query.order_by {
            let span = match &order_by.kind {
                OrderByKind::Expressions(keys) => keys.first().map(Spanned::span),
                OrderByKind::All(_) => None,
            };
            return Err(self.across("ORDER BY", span.unwrap_or(Span::empty())));
        }
        if let Some(limit) = &query.limit_clause {
            let (what, span) = match limit {
                LimitClause::LimitOffset { limit: Some(limit), .. } => ("LIMIT", limit.span()),
                LimitClause::LimitOffset { offset: Some(offset), .. } => ("OFFSET", offset.value.span()),
                LimitClause::LimitOffset { .. } => ("LIMIT", Span::empty()),
                LimitClause::OffsetCommaLimit { limit, .. } => ("LIMIT", limit.span()),
            };
            return Err(self.across(what, span));
        }
        if let Some(fetch) = &query.fetch {
            let span = fetch.quantity.as_ref().map_or(Span::empty(), Spanned::span);
            return Err(self.across("FETCH FIRST", span));
        }
        if !query.locks.is_empty()
            || query.for_clause.is_some()
            || query.settings.is_some()
            || query.format_clause.is_some()
            || !query.pipe_operators.is_empty()
        {
            return Err(self.unsupported("a clause behind the SELECT", Span::empty()));
        }
        Ok(())
    }

    fn select<'q>(&self, query: &'q Query) -> Result<&'q Select, SelectError> {
        match query.body.as_ref() {
            SetExpr::Select(select) => Ok(select),
            other => Err(self.across("another query", other.span())),
        }
    }

    /// The clauses of the `SELECT`.
    fn of_select(&self, select: &Select) -> Result<(), SelectError> {
        let start = select.select_token.0.span;
        if let Some(Distinct::Distinct | Distinct::On(_)) = &select.distinct {
            return Err(self.across("DISTINCT", start));
        }
        if let GroupByExpr::Expressions(keys, modifiers) = &select.group_by {
            if let Some(key) = keys.first() {
                return Err(self.across("GROUP BY", key.span()));
            }
            if !modifiers.is_empty() {
                return Err(self.across("GROUP BY", start));
            }
        } else {
            return Err(self.across("GROUP BY", start));
        }
        let clauses = [("HAVING", &select.having), ("QUALIFY", &select.qualify)];
        for (what, clause) in clauses {
            if let Some(clause) = clause {
                return Err(self.across(what, clause.span()));
            }
        }
        let lists = [
            ("TOP", select.top.is_some()),
            ("a WINDOW clause", !select.named_window.is_empty()),
            ("SORT BY", !select.sort_by.is_empty()),
            ("CLUSTER BY", !select.cluster_by.is_empty()),
            ("DISTRIBUTE BY", !select.distribute_by.is_empty()),
            ("CONNECT BY", !select.connect_by.is_empty()),
            ("LATERAL VIEW", !select.lateral_views.is_empty()),
        ];
        if let Some((what, _)) = lists.into_iter().find(|(_, there)| *there) {
            return Err(self.across(what, start));
        }
        let others = [
            ("SELECT … INTO", select.into.is_some()),
            ("PREWHERE", select.prewhere.is_some()),
            ("EXCLUDE behind the whole list", select.exclude.is_some()),
            ("SELECT AS", select.value_table_mode.is_some()),
            ("FROM before SELECT", select.flavor != SelectFlavor::Standard),
        ];
        match others.into_iter().find(|(_, there)| *there) {
            Some((what, _)) => Err(self.unsupported(what, start)),
            None => Ok(()),
        }
    }

    /// The name of the one table.
    fn table(&self, select: &Select) -> Result<String, SelectError> {
        let start = select.select_token.0.span;
        let mut from = select.from.iter();
        let Some(TableWithJoins { relation, joins }) = from.next() else {
            let place = Some(Place::end_of(self.sql));
            return Err(SelectError::NotASelect { found: "no FROM".into(), place });
        };
        if let Some(second) = from.next() {
            return Err(self.across("a join with a second table", second.span()));
        }
        if let Some(join) = joins.first() {
            return Err(self.across("a JOIN", join.relation.span()));
        }
        let TableFactor::Table { name, alias, args, sample, .. } = relation else {
            return Err(match relation {
                TableFactor::Derived { subquery, .. } => self.across("a subquery", subquery.span()),
                other => {
                    let place = Place::of(self.sql, other.span());
                    SelectError::NotASelect { found: "a FROM other than a table".into(), place }
                }
            });
        };
        if sample.is_some() {
            return Err(self.across("TABLESAMPLE", name.span()));
        }
        let named: Vec<&Ident> = name.0.iter().filter_map(ObjectNamePart::as_ident).collect();
        let ([table], None) = (named.as_slice(), args) else {
            return Err(self.other_table(&name.to_string(), name.span()));
        };
        if table.value != INPUT {
            return Err(self.other_table(&table.value, table.span));
        }
        let Some(alias) = alias else {
            return Ok(table.value.clone());
        };
        if !alias.columns.is_empty() || alias.at.is_some() {
            return Err(self.unsupported("names for columns behind the table", start));
        }
        Ok(alias.name.value.clone())
    }

    fn other_table(&self, name: &str, span: Span) -> SelectError {
        SelectError::NotASelect { found: format!("FROM {name}"), place: Place::of(self.sql, span) }
    }
}
