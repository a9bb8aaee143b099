//! What was found, in words: the records are read again at their places.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::error::ArrowError;
use arrow::util::display::{ArrayFormatter, FormatOptions};
use hapax_protocol::position::Ordinal;

use super::join::{Find, Findings, Finds};
use super::line::Spot;
use super::pass::Splits;
use super::prints::{Keys, Print};
use super::reading::{End, Reading, Unit};
use super::{Comparison, DifferentColumn, Example, Finding, Report, VerifyError};

/// One record as text, column by column.
type Printed = Vec<(String, String)>;

/// Records in words, by where they stand.
type Words = HashMap<Spot, Printed>;

/// Writes the findings into the report, with the records in words.
pub(super) async fn describe(
    comparison: &Comparison,
    keys: &Keys,
    splits: &Splits,
    findings: Findings,
    report: &mut Report,
) -> Result<(), VerifyError> {
    let Findings { twins, undecided, missing_undecided, deleted, missing, duplicated, unexpected, different } =
        findings;
    let finds = [&missing, &duplicated, &unexpected, &different];
    let all: Vec<Find> = finds.iter().flat_map(|finds| finds.examples.iter().copied()).collect();
    let nothing = HashSet::new();
    let reading = Reading::new(comparison, &nothing, keys)?;
    let source = words(&reading, splits, End::Source, all.iter().filter_map(|find| find.source)).await?;
    let destination = all.iter().filter_map(|find| find.destination);
    let destination = words(&reading, splits, End::Destination, destination).await?;
    let finding = |finds: Finds, columns: bool| {
        let mut examples = finds.examples;
        examples.sort_unstable();
        let example = |find: &Find| {
            let one = find.source.and_then(|(spot, _)| source.get(&spot));
            let other = find.destination.and_then(|(spot, _)| destination.get(&spot));
            let identity = one.or(other).map(|record| name(record, comparison.identity.columns()));
            Example {
                identity: identity.unwrap_or_else(|| "a record that is no longer where it was".to_owned()),
                columns: if columns { differing(one, other) } else { Vec::new() },
            }
        };
        Finding { records: finds.records, examples: examples.iter().map(example).collect() }
    };
    report.twins = twins;
    report.undecided = undecided;
    report.missing_undecided = missing_undecided;
    report.deleted = deleted;
    report.missing = finding(missing, false);
    report.duplicated = finding(duplicated, false);
    report.unexpected = finding(unexpected, false);
    report.different = finding(different, true);
    Ok(())
}

/// Reads records again at their places. One that has moved away since is left out.
async fn words(
    reading: &Reading<'_>,
    splits: &Splits,
    end: End,
    places: impl Iterator<Item = (Spot, Print)>,
) -> Result<Words, VerifyError> {
    let mut wanted: BTreeMap<u32, HashMap<Ordinal, Print>> = BTreeMap::new();
    for (spot, id) in places {
        wanted.entry(spot.split).or_default().insert(spot.ordinal, id);
    }
    let mut words = HashMap::new();
    for (number, ids) in wanted {
        let Some(split) = splits.get(end, number) else { continue };
        let only = Some(Arc::new(ids.keys().copied().collect()));
        let unit = Unit { only, ..Unit::all(end, number, split) };
        let mut print = |prepared: super::reading::Prepared| {
            for (row, id) in prepared.ids.iter().enumerate() {
                let ordinal = prepared.ordinals.of(row);
                if ids.get(&ordinal) == Some(id) {
                    words.insert(Spot { split: number, ordinal }, printed(&prepared.records, row)?);
                }
            }
            Ok(true)
        };
        reading.each(&unit, &mut print).await?;
    }
    Ok(words)
}

fn printed(records: &RecordBatch, row: usize) -> Result<Printed, ArrowError> {
    let options = FormatOptions::default().with_null("null");
    let schema = records.schema();
    let columns = schema.fields().iter().zip(records.columns());
    columns
        .map(|(field, column)| {
            let value = ArrayFormatter::try_new(column.as_ref(), &options)?.value(row).try_to_string()?;
            Ok((field.name().clone(), value))
        })
        .collect()
}

/// A record by its identifying columns, or by all of them.
fn name(record: &Printed, identifying: &[String]) -> String {
    let named = record.iter().filter(|(column, _)| identifying.is_empty() || identifying.contains(column));
    named.map(|(column, value)| format!("{column}={value}")).collect::<Vec<_>>().join(", ")
}

fn differing(source: Option<&Printed>, destination: Option<&Printed>) -> Vec<DifferentColumn> {
    let (Some(source), Some(destination)) = (source, destination) else { return Vec::new() };
    let there: HashMap<&String, &String> =
        destination.iter().map(|(column, value)| (column, value)).collect();
    let columns = source.iter().filter_map(|(column, value)| {
        let other = there.get(column).map(|other| (*other).clone()).unwrap_or_default();
        (other != *value).then(|| DifferentColumn {
            column: column.clone(),
            source: value.clone(),
            destination: other,
        })
    });
    columns.collect()
}
