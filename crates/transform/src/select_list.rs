//! The columns that come out: the list behind `SELECT`, with every `*` written out.

use std::collections::HashSet;

use datafusion_sql::sqlparser::ast::{
    ExcludeSelectItem, Expr, Ident, ObjectName, ObjectNamePart, RenameSelectItem, SelectItem,
    SelectItemQualifiedWildcardKind, Spanned, WildcardAdditionalOptions,
};

use crate::error::{Place, SelectError};
use crate::scope::Scope;
use crate::statement::Statement;

/// One column that comes out.
pub(crate) struct Item {
    /// Its name.
    pub(crate) name: String,
    /// What it is computed from.
    pub(crate) expr: Expr,
    /// Where it stands.
    pub(crate) place: Option<Place>,
}

impl Item {
    /// The item as SQL that gives it exactly its name.
    pub(crate) fn aliased(&self) -> SelectItem {
        SelectItem::ExprWithAlias { expr: self.expr.clone(), alias: Ident::with_quote('"', &self.name) }
    }
}

/// Writes the list out. Every name in it is looked up, and no two columns have one name.
pub(crate) fn items(statement: &Statement<'_>, scope: &Scope<'_>) -> Result<Vec<Item>, SelectError> {
    let mut items = Vec::new();
    for item in &statement.projection {
        let place = statement.place(item);
        match item {
            SelectItem::UnnamedExpr(expr) => {
                items.push(Item { name: own_name(expr, scope), expr: expr.clone(), place });
            }
            SelectItem::ExprWithAlias { expr, alias } => {
                items.push(Item { name: alias.value.clone(), expr: expr.clone(), place });
            }
            SelectItem::Wildcard(options) => {
                items.extend(Wildcard { options, place: star(statement, options), scope }.columns()?);
            }
            SelectItem::QualifiedWildcard(kind, options) => {
                let found = match kind {
                    SelectItemQualifiedWildcardKind::ObjectName(name) => name.to_string(),
                    SelectItemQualifiedWildcardKind::Expr(expr) => expr.to_string(),
                };
                if found != scope.table {
                    return Err(SelectError::NotASelect { found: format!("{found}.*"), place });
                }
                items.extend(Wildcard { options, place, scope }.columns()?);
            }
            SelectItem::ExprWithAliases { .. } => {
                return Err(SelectError::NotSupported { what: "several names for one column".into(), place });
            }
        }
    }
    let mut names = HashSet::new();
    for item in &items {
        if !names.insert(item.name.as_str()) {
            return Err(SelectError::NamedTwice { name: item.name.clone(), place: item.place });
        }
        scope.check(&item.expr).map_err(|error| error.placed(item.place))?;
    }
    if items.is_empty() {
        return Err(SelectError::NotSupported { what: "a SELECT without columns".into(), place: None });
    }
    Ok(items)
}

/// The name of a column that was given none: the column's it is, or the expression as written.
fn own_name(expr: &Expr, scope: &Scope<'_>) -> String {
    match expr {
        Expr::Identifier(name) => name.value.clone(),
        Expr::CompoundIdentifier(names) => match names.as_slice() {
            [table, column] if table.value == scope.table => column.value.clone(),
            _ => expr.to_string(),
        },
        _ => expr.to_string(),
    }
}

fn star(statement: &Statement<'_>, options: &WildcardAdditionalOptions) -> Option<Place> {
    Place::of(statement.sql, options.wildcard_token.0.span)
}

/// A `*` and what is written behind it.
struct Wildcard<'a> {
    options: &'a WildcardAdditionalOptions,
    place: Option<Place>,
    scope: &'a Scope<'a>,
}

impl Wildcard<'_> {
    fn columns(&self) -> Result<Vec<Item>, SelectError> {
        if self.options.opt_ilike.is_some() || self.options.opt_alias.is_some() {
            return Err(SelectError::NotSupported {
                what: "ILIKE or AS behind `*`".into(),
                place: self.place,
            });
        }
        let mut columns: Vec<Option<Item>> = self
            .scope
            .columns
            .fields()
            .iter()
            .map(|field| {
                let expr = Expr::Identifier(Ident::with_quote('"', field.name()));
                Some(Item { name: field.name().clone(), expr, place: self.place })
            })
            .collect();
        for name in self.excluded()? {
            let index = self.scope.column(&name)?;
            if let Some(column) = columns.get_mut(index) {
                *column = None;
            }
        }
        if let Some(replace) = &self.options.opt_replace {
            for element in &replace.items {
                let index = self.scope.column(&element.column_name)?;
                if let Some(Some(column)) = columns.get_mut(index) {
                    column.expr = element.expr.clone();
                    column.place = Place::of(self.scope.sql, element.expr.span());
                }
            }
        }
        let renamed = match &self.options.opt_rename {
            Some(RenameSelectItem::Single(one)) => std::slice::from_ref(one),
            Some(RenameSelectItem::Multiple(many)) => many.as_slice(),
            None => &[],
        };
        for renaming in renamed {
            let index = self.scope.column(&renaming.ident)?;
            if let Some(Some(column)) = columns.get_mut(index) {
                column.name = renaming.alias.value.clone();
            }
        }
        Ok(columns.into_iter().flatten().collect())
    }

    fn excluded(&self) -> Result<Vec<Ident>, SelectError> {
        let names: &[ObjectName] = match &self.options.opt_exclude {
            Some(ExcludeSelectItem::Single(name)) => std::slice::from_ref(name),
            Some(ExcludeSelectItem::Multiple(names)) => names,
            None => &[],
        };
        let mut excluded = Vec::new();
        for name in names {
            match name.0.as_slice() {
                [ObjectNamePart::Identifier(column)] => excluded.push(column.clone()),
                _ => {
                    return Err(SelectError::NotSupported {
                        what: format!("EXCLUDE {name}"),
                        place: Place::of(self.scope.sql, name.span()),
                    });
                }
            }
        }
        if let Some(except) = &self.options.opt_except {
            excluded.push(except.first_element.clone());
            excluded.extend(except.additional_elements.iter().cloned());
        }
        Ok(excluded)
    }
}
