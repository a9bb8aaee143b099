//! The ranges of integer keys that a table is split into.

use hapax_protocol::position::SplitId;
use mysql_async::Value;

use super::plan::Plan;
use crate::client::Session;
use crate::fault::DatabaseFault;

/// How many keys a range spans.
const SPAN: i64 = 1 << 20;

/// The number of the last range, which has no end: sparse keys must not make splits without number.
const LAST: i64 = 1_023;

/// The keys of one split. The grid is fixed, so that a range is the same on every run.
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

/// The number of the range a key lies in: -1 for everything below 0.
fn number(key: i64) -> i64 {
    key.div_euclid(SPAN).clamp(-1, LAST)
}

/// The ranges that have rows now, in order.
pub(crate) async fn occupied(session: &mut Session, plan: &Plan) -> Result<Vec<SplitId>, DatabaseFault> {
    let doing = "listing splits";
    let key = plan.keys.first().map(|key| key.sql.clone()).unwrap_or_default();
    let mut splits = Vec::new();
    let mut from = Some(i64::MIN);
    while let Some(low) = from {
        let sql = format!("SELECT {key} FROM {} WHERE {key} >= {low} ORDER BY {key} LIMIT 1", plan.from);
        let Some(row) = session.first(doing, &sql, ()).await? else { break };
        let found = match row.as_ref(0) {
            Some(Value::Int(number)) => *number,
            Some(Value::UInt(number)) => i64::try_from(*number).unwrap_or(i64::MAX),
            _ => return Err(session.misunderstood(doing)),
        };
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
    fn every_key_lies_in_its_range() {
        for key in [i64::MIN, -1, 0, 1, SPAN - 1, SPAN, LAST * SPAN - 1, LAST * SPAN, i64::MAX] {
            let range = range(number(key));
            assert!(range.low.is_none_or(|low| key >= low), "{key}");
            assert!(range.end.is_none_or(|end| key < end), "{key}");
        }
    }
}
