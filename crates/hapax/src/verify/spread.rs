//! Records of differing ranges, spread over scratch files by identity and compared file by file.

use std::collections::{HashMap, HashSet};
use std::fs::File;
use std::io::{self, BufReader, BufWriter, Read, Seek, Write};

use hapax_protocol::identity::RecordId;

use super::records::{End, Printed, Reading};
use super::{Comparison, DifferentColumn, EXAMPLES_MAX, Example, Finding, Report, VerifyError, Winner};

const FILES: usize = 64;

/// One record: what it is, what it contains, and when it came.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Line {
    pub id: RecordId,
    pub content: RecordId,
    pub sequence: u64,
}

/// Records spread over files by identity. The files have no name and vanish with the process.
#[derive(Default)]
pub(super) struct Spread(Vec<BufWriter<File>>);

impl Spread {
    pub fn add(&mut self, line: Line) -> io::Result<()> {
        while self.0.len() < FILES {
            self.0.push(BufWriter::with_capacity(16 * 1024, tempfile::tempfile()?));
        }
        let [.., last] = line.id.0;
        if let Some(file) = self.0.get_mut(usize::from(last) % FILES) {
            file.write_all(&line.id.0)?;
            file.write_all(&line.content.0)?;
            file.write_all(&line.sequence.to_le_bytes())?;
        }
        Ok(())
    }

    fn into_readers(self) -> io::Result<Vec<Option<BufReader<File>>>> {
        let mut readers = Vec::with_capacity(FILES);
        for file in self.0 {
            let mut file = file.into_inner().map_err(io::IntoInnerError::into_error)?;
            file.rewind()?;
            readers.push(Some(BufReader::with_capacity(64 * 1024, file)));
        }
        readers.resize_with(FILES, || None);
        Ok(readers)
    }
}

fn read(from: &mut impl Read) -> io::Result<Option<Line>> {
    let mut id = [0; 16];
    match from.read_exact(&mut id) {
        Ok(()) => {}
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(None),
        Err(error) => return Err(error),
    }
    let (mut content, mut sequence) = ([0; 16], [0; 8]);
    from.read_exact(&mut content)?;
    from.read_exact(&mut sequence)?;
    Ok(Some(Line { id: RecordId(id), content: RecordId(content), sequence: u64::from_le_bytes(sequence) }))
}

/// What differs, by identity.
#[derive(Default)]
pub(super) struct Found {
    twins: u64,
    missing: Ids,
    duplicated: Ids,
    unexpected: Ids,
    different: Ids,
}

#[derive(Default)]
struct Ids {
    records: u64,
    examples: Vec<RecordId>,
}

impl Ids {
    fn add(&mut self, id: RecordId, records: u64) {
        self.records = self.records.saturating_add(records);
        if records > 0 && self.examples.len() < EXAMPLES_MAX {
            self.examples.push(id);
        }
    }
}

/// Compares what both ends spread.
pub(super) fn compare(source: Spread, destination: Spread, winner: Winner) -> io::Result<Found> {
    let mut found = Found::default();
    for (source, destination) in source.into_readers()?.into_iter().zip(destination.into_readers()?) {
        let mut expected: HashMap<RecordId, Vec<(u64, RecordId)>> = HashMap::new();
        if let Some(mut lines) = source {
            while let Some(line) = read(&mut lines)? {
                expected.entry(line.id).or_default().push((line.sequence, line.content));
            }
        }
        let mut held: HashMap<RecordId, Vec<RecordId>> = HashMap::new();
        if let Some(mut lines) = destination {
            while let Some(line) = read(&mut lines)? {
                held.entry(line.id).or_default().push(line.content);
            }
        }
        for (id, mut arrivals) in expected {
            if winner != Winner::All && arrivals.len() > 1 {
                found.twins = found.twins.saturating_add(1);
            }
            arrivals.sort_unstable();
            let wanted: Vec<RecordId> = match winner {
                Winner::All => arrivals.iter().map(|(_, content)| *content).collect(),
                Winner::First => arrivals.first().map(|(_, content)| *content).into_iter().collect(),
                Winner::Last => arrivals.last().map(|(_, content)| *content).into_iter().collect(),
            };
            found.one(id, wanted, held.remove(&id).unwrap_or_default());
        }
        for (id, contents) in held {
            found.unexpected.add(id, u64::try_from(contents.len()).unwrap_or(u64::MAX));
        }
    }
    Ok(found)
}

impl Found {
    /// Compares the records of one identity.
    fn one(&mut self, id: RecordId, mut wanted: Vec<RecordId>, held: Vec<RecordId>) {
        let mut left = Vec::new();
        for content in held {
            match wanted.iter().position(|wanted| *wanted == content) {
                Some(at) => {
                    wanted.swap_remove(at);
                }
                None => left.push(content),
            }
        }
        let different = wanted.len().min(left.len());
        let number = |n: usize| u64::try_from(n).unwrap_or(u64::MAX);
        self.different.add(id, number(different));
        self.missing.add(id, number(wanted.len().saturating_sub(different)));
        self.duplicated.add(id, number(left.len().saturating_sub(different)));
    }

    /// Writes the findings into the report, with the records in words.
    pub async fn describe(self, comparison: &Comparison, report: &mut Report) -> Result<(), VerifyError> {
        report.twins = self.twins;
        let all = [&self.missing, &self.duplicated, &self.unexpected, &self.different];
        let wanted: HashSet<RecordId> = all.iter().flat_map(|ids| ids.examples.iter().copied()).collect();
        let source = Reading::new(comparison, End::Source)?;
        let (mut at_source, mut at_destination) = (HashMap::new(), HashMap::new());
        if !wanted.is_empty() {
            at_source = source.print(&wanted).await?;
            at_destination = Reading::new(comparison, End::Destination)?.print(&wanted).await?;
        }
        let finding = |ids: Ids, columns: bool| Finding {
            records: ids.records,
            examples: ids
                .examples
                .into_iter()
                .map(|id| {
                    let pick = |from: &HashMap<RecordId, Vec<Printed>>| {
                        let last = comparison.winner == Winner::Last;
                        from.get(&id).and_then(|all| if last { all.last() } else { all.first() }.cloned())
                    };
                    let (one, other) = (pick(&at_source), pick(&at_destination));
                    let record = one.as_ref().or(other.as_ref());
                    Example {
                        identity: record
                            .map_or_else(|| id.to_string(), |record| name(record, source.identifying())),
                        columns: if columns { differing(one, other) } else { Vec::new() },
                    }
                })
                .collect(),
        };
        report.missing = finding(self.missing, false);
        report.duplicated = finding(self.duplicated, false);
        report.unexpected = finding(self.unexpected, false);
        report.different = finding(self.different, true);
        Ok(())
    }
}

/// A record by its identifying columns, or by all of them.
fn name(record: &Printed, identifying: &[String]) -> String {
    let named = record.iter().filter(|(column, _)| identifying.is_empty() || identifying.contains(column));
    named.map(|(column, value)| format!("{column}={value}")).collect::<Vec<_>>().join(", ")
}

fn differing(source: Option<Printed>, destination: Option<Printed>) -> Vec<DifferentColumn> {
    let (Some(source), Some(destination)) = (source, destination) else { return Vec::new() };
    let there: HashMap<String, String> = destination.into_iter().collect();
    source
        .into_iter()
        .filter_map(|(column, value)| {
            let other = there.get(&column).cloned().unwrap_or_default();
            (other != value).then_some(DifferentColumn { column, source: value, destination: other })
        })
        .collect()
}
