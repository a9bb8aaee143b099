//! The ranges of row ids that a table is split into.

use hapax_protocol::position::SplitId;
use rusqlite::{Connection, OptionalExtension};

use super::plan::Plan;

/// How many row ids a range spans.
const SPAN: i64 = 1 << 20;

/// The number of the last range, which has no end: sparse row ids must not make splits without number.
const LAST: i64 = 1_023;

/// The row ids of one split. The grid is fixed, so that a range is the same on every run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Range {
    /// The first one, if there is a bound.
    pub low: Option<i64>,
    /// The one behind the last, if there is a bound.
    pub end: Option<i64>,
}

fn range(number: i64) -> Range {
    Range {
        low: (number >= 0).then_some(number.saturating_mul(SPAN)),
        end: (number < LAST).then_some(number.saturating_add(1).saturating_mul(SPAN)),
    }
}

/// The number of the range a row id lies in: -1 for everything below 0.
fn number(rowid: i64) -> i64 {
    rowid.div_euclid(SPAN).clamp(-1, LAST)
}

/// The ranges that have rows now, in order.
pub(crate) fn occupied(
    connection: &Connection,
    plan: &Plan,
    rowid: &str,
) -> Result<Vec<SplitId>, rusqlite::Error> {
    let sql = format!("SELECT {rowid} FROM {} WHERE {rowid} >= ?1 ORDER BY {rowid} LIMIT 1", plan.from);
    let mut statement = connection.prepare(&sql)?;
    let mut splits = Vec::new();
    let mut from = Some(i64::MIN);
    while let Some(low) = from {
        let Some(found) = statement.query_row([low], |row| row.get::<_, i64>(0)).optional()? else { break };
        let number = number(found);
        splits.push(SplitId::new(format!("{}#{number}", plan.name)));
        from = range(number).end;
    }
    Ok(splits)
}

/// The range of a split; `None` if it is not one of this table's.
pub(crate) fn of_split(plan: &Plan, split: &SplitId) -> Option<Range> {
    let number: i64 = split.as_str().strip_prefix(plan.name.as_str())?.strip_prefix('#')?.parse().ok()?;
    (-1..=LAST).contains(&number).then(|| range(number))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_row_id_lies_in_its_range() {
        for rowid in [i64::MIN, -1, 0, 1, SPAN - 1, SPAN, LAST * SPAN - 1, LAST * SPAN, i64::MAX] {
            let range = range(number(rowid));
            assert!(range.low.is_none_or(|low| rowid >= low), "{rowid}");
            assert!(range.end.is_none_or(|end| rowid < end), "{rowid}");
        }
    }
}
