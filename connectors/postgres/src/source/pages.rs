//! Tables by their pages, and the ranges of pages that they are split into.

use hapax_engine::fault::SourceError;
use hapax_protocol::position::SplitId;

use crate::client::Session;
use crate::fault::ReadFault;
use crate::name::quoted;
use crate::table::{Kind, Table};

/// How many pages a range spans: 64 MiB of pages of 8 KiB.
const SPAN: u32 = 1 << 13;

/// The number of the last range, which has no end: a table without number of pages must not make splits without
/// number.
const LAST: u32 = (1 << 14) - 1;

/// One table with pages of its own: what is read, or one of its partitions or children.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Part {
    pub oid: u32,
    pub kind: Kind,
    /// For people, and in the names of its splits.
    pub name: String,
    /// In SQL.
    pub sql: String,
}

/// The pages of one split. The grid is fixed, so that a range is the same on every run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Range {
    /// The first one.
    pub low: u32,
    /// The one behind the last, if there is a bound.
    pub end: Option<u32>,
}

impl Range {
    /// The range of this number.
    pub(super) fn of(number: u32) -> Self {
        Self {
            low: number.saturating_mul(SPAN),
            end: (number < LAST).then(|| (number + 1).saturating_mul(SPAN)),
        }
    }
}

/// How many ranges hold this many pages.
pub(super) fn ranges(pages: u32) -> u32 {
    pages.div_ceil(SPAN).min(LAST + 1)
}

/// A name as it is, or quoted where it could be taken for two: `a.b` and `c` are others than `a` and `b.c`.
fn plain(name: &str) -> String {
    if name.contains(['.', '"']) { quoted(name) } else { name.to_owned() }
}

/// The name of a range of a part.
pub(super) fn split(part: &Part, number: u32) -> SplitId {
    SplitId::new(format!("{}#{number}", part.name))
}

/// The part and the range of a split; `None` if it is none of these.
pub(super) fn of_split<'a>(parts: &'a [Part], split: &SplitId) -> Option<(usize, &'a Part, Range)> {
    let (name, number) = split.as_str().rsplit_once('#')?;
    let number: u32 = number.parse().ok().filter(|number| *number <= LAST)?;
    let (index, part) = parts.iter().enumerate().find(|(_, part)| part.name == name)?;
    Some((index, part, Range::of(number)))
}

/// Whether a table, or what it consists of, has pages.
pub(super) fn has_pages(table: &Table) -> bool {
    matches!(table.kind, Kind::Table | Kind::Unlogged | Kind::Partitioned | Kind::MaterializedView)
}

/// The tables with pages that a table consists of, itself first.
pub(super) async fn parts(session: &Session, table: &Table) -> Result<Vec<Part>, SourceError> {
    let sql = "WITH RECURSIVE family AS (SELECT $1::oid AS oid UNION \
               SELECT i.inhrelid FROM pg_inherits i JOIN family f ON i.inhparent = f.oid) \
               SELECT c.oid, n.nspname::text, c.relname::text, c.relkind::text, c.relpersistence::text FROM family f \
               JOIN pg_class c ON c.oid = f.oid JOIN pg_namespace n ON n.oid = c.relnamespace \
               WHERE c.relkind <> 'p' ORDER BY c.oid <> $1, n.nspname, c.relname";
    let doing = "listing partitions";
    let mut parts = Vec::new();
    for row in session.query(sql, &[&table.oid]).await.map_err(session.fault(doing))? {
        let text = |index: usize| row.try_get::<_, &str>(index).map_err(session.fault(doing));
        let (schema, name) = (text(1)?, text(2)?);
        let kind = Kind::of(text(3)?, text(4)?);
        if kind == Kind::Foreign {
            return Err(ReadFault::Config(
                "a partition of the table is a foreign table: read it with a `query`",
            )
            .into());
        }
        parts.push(Part {
            oid: row.try_get(0).map_err(session.fault(doing))?,
            kind,
            name: format!("{}.{}", plain(schema), plain(name)),
            sql: format!("{}.{}", quoted(schema), quoted(name)),
        });
    }
    Ok(parts)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_page_lies_in_one_range() {
        for (pages, wanted) in [(0, 0), (1, 1), (SPAN, 1), (SPAN + 1, 2), (u32::MAX, LAST + 1)] {
            let count = ranges(pages);
            assert_eq!(count, wanted);
            let all: Vec<Range> = (0..count).map(Range::of).collect();
            assert!(all.windows(2).all(|pair| pair[0].end == Some(pair[1].low)));
            assert!(all.last().is_none_or(|last| last.end.is_none_or(|end| end >= pages)));
        }
    }

    #[test]
    fn names_with_dots_are_told_apart() {
        let names = [("a.b", "c"), ("a", "b.c"), ("\"a", "b"), ("a", "b")];
        let all: Vec<String> = names.iter().map(|(a, b)| format!("{}.{}", plain(a), plain(b))).collect();
        assert_eq!(all, ["\"a.b\".c", "a.\"b.c\"", "\"\"\"a\".b", "a.b"]);
    }

    #[test]
    fn a_split_is_found_by_its_name() {
        let part = Part { oid: 1, kind: Kind::Table, name: "a.b#1".to_owned(), sql: String::new() };
        let parts = [part.clone()];
        let found = of_split(&parts, &split(&part, 7)).unwrap();
        assert_eq!((found.0, found.2), (0, Range::of(7)));
        for wrong in ["a.b", "a.b#1", "a.b#1#x", "a.b#1#16384", "c#0"] {
            assert!(of_split(&parts, &SplitId::new(wrong)).is_none(), "{wrong}");
        }
    }
}
