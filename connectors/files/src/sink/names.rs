//! Names of files: unique by hash, ordered by split and epoch, safe on every file system.

use std::cmp::Ordering;

use hapax_protocol::lease::PipelineName;
use hapax_protocol::position::{Epoch, SplitId};

/// The name under which a split is kept on disk: readable, and unique by the hash at its end.
///
/// Keys of one source sort as its splits do, numbers behind `#` by value.
pub(crate) fn split_key(pipeline: &PipelineName, split: &SplitId) -> String {
    let (prefix, number) = order(split);
    let last = prefix.rsplit('/').find(|part| !part.is_empty()).unwrap_or(prefix);
    let readable: String =
        last.chars().take(40).map(|c| if c.is_ascii_alphanumeric() { c } else { '_' }).collect();
    let mut hasher = blake3::Hasher::new();
    hasher.update(pipeline.as_str().as_bytes()).update(b"\0").update(split.as_str().as_bytes());
    let digest = hasher.finalize().to_hex();
    let short: String = digest.chars().take(16).collect();
    match number {
        Some(number) => format!("{readable}-{number:06}-{short}"),
        None => format!("{readable}-{short}"),
    }
}

/// The name of a published part of a directory.
pub(crate) fn part(key: &str, epoch: Epoch, extension: &str) -> String {
    format!("part-{key}-{:06}.{extension}", epoch.get())
}

/// A part of one file, before the file is assembled.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct HiddenPart {
    pub(crate) key: String,
    pub(crate) epoch: Epoch,
    /// How many bytes at its beginning are a CSV header.
    pub(crate) header_bytes: u64,
}

impl HiddenPart {
    pub(crate) fn name(&self) -> String {
        format!("{}.{:012}.{}.part", self.key, self.epoch.get(), self.header_bytes)
    }

    pub(crate) fn parse(name: &str) -> Option<Self> {
        let mut words = name.strip_suffix(".part")?.rsplitn(3, '.');
        let header_bytes = words.next()?.parse().ok()?;
        let epoch = Epoch::new(words.next()?.parse().ok()?);
        Some(Self { key: words.next()?.to_owned(), epoch, header_bytes })
    }
}

/// The name of a file of dead letters; names sort in the order in which the commits were made.
pub(crate) fn letters(token: u64, key: &str, epoch: Epoch) -> String {
    format!("{token:020}.{key}.{:012}.jsonl", epoch.get())
}

/// The order of splits: by name, numbers behind the last `#` by value.
pub(crate) fn compare(one: &SplitId, other: &SplitId) -> Ordering {
    order(one).cmp(&order(other)).then_with(|| one.cmp(other))
}

fn order(split: &SplitId) -> (&str, Option<u64>) {
    match split.as_str().rsplit_once('#') {
        Some((prefix, number)) => match number.parse() {
            Ok(number) => (prefix, Some(number)),
            Err(_) => (split.as_str(), None),
        },
        None => (split.as_str(), None),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn splits_are_ordered_by_number_and_keys_follow() {
        let pipeline = PipelineName::new("p").unwrap();
        let splits: Vec<SplitId> =
            ["a.csv", "a.csv#2", "a.csv#9", "a.csv#10", "b.csv#1"].into_iter().map(SplitId::new).collect();
        assert!(splits.is_sorted_by(|one, other| compare(one, other) == Ordering::Less));
        let keys: Vec<String> = splits.iter().skip(1).map(|split| split_key(&pipeline, split)).collect();
        assert!(keys.is_sorted(), "{keys:?}");
        assert_ne!(split_key(&pipeline, &SplitId::new("x/a")), split_key(&pipeline, &SplitId::new("y/a")));
    }

    #[test]
    fn a_hidden_part_is_known_by_its_name() {
        let part = HiddenPart { key: "a_csv-000010-ff".to_owned(), epoch: Epoch::new(7), header_bytes: 12 };
        assert_eq!(HiddenPart::parse(&part.name()), Some(part));
        assert_eq!(HiddenPart::parse("x.tmp"), None);
    }
}
