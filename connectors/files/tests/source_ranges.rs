//! Ranges of a file against another reader: random CSV with quotes, newlines and stray quotes, cut at every byte,
//! is what the `csv` crate reads.
// A test fails by panicking; its numbers are small.
#![allow(
    clippy::as_conversions,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::print_stderr,
    clippy::print_stdout,
    clippy::unwrap_used
)]

mod source_kit;

use hapax_engine::batch::ReadLimit;
use hapax_files::codes;
use hapax_files::config::SourceConfig;
use hapax_files::source::Files;
use proptest::prelude::*;
use source_kit::*;
use tempfile::tempdir;

/// What the `csv` crate reads, by record: the values, or how many fields there are if it is not `width`.
fn oracle(text: &str, width: usize) -> Vec<Result<String, usize>> {
    let mut reader = csv::ReaderBuilder::new().has_headers(false).flexible(true).from_reader(text.as_bytes());
    reader
        .records()
        .map(|record| {
            let record = record.unwrap();
            if record.len() == width {
                Ok(record.iter().collect::<Vec<_>>().join("|"))
            } else {
                Err(record.len())
            }
        })
        .collect()
}

fn hold(text: &str, grid: u64, limit: ReadLimit) {
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    runtime.block_on(async {
        let dir = tempdir().unwrap();
        // A quoted value is never NULL, and no unquoted one is the text chosen for it.
        let config = SourceConfig {
            header: Some(false),
            null_values: Some(vec!["never".to_owned()]),
            schema: Some(serde_json::from_str("{\"a\":\"string\",\"b\":\"string\"}").unwrap()),
            ..config(&put(dir.path(), "a.csv", text))
        };
        let files = Files::open(config).await.unwrap().with_grid_bytes(grid);
        let splits = everything(&files, limit).await;
        assert_eq!(splits.len(), text.len().div_ceil(usize::try_from(grid).unwrap()).max(1));
        let records: Vec<Found> = splits.into_iter().flat_map(|(_, records)| records).collect();
        let wanted = oracle(text, 2);
        assert_eq!(records.len(), wanted.len(), "{text:?} {records:?} {wanted:?}");
        for (record, wanted) in records.iter().zip(&wanted) {
            match (record, wanted) {
                (Found::Good(_, values), Ok(wanted)) => assert_eq!(values, wanted, "{text:?}"),
                (Found::Bad(_, code, ..), _) if *code == codes::UNCLOSED_QUOTE => {}
                (Found::Bad(_, code, reason, _), Err(count)) => {
                    assert_eq!(*code, codes::FIELD_COUNT);
                    assert!(reason.starts_with(&format!("{count} field")), "{reason} {count}");
                }
                _ => panic!("{text:?}: {record:?} is not {wanted:?}"),
            }
        }
        let unclosed =
            records.iter().filter(|r| matches!(r, Found::Bad(_, c, ..) if *c == codes::UNCLOSED_QUOTE));
        let last_only = unclosed.clone().all(|r| Some(r) == records.last());
        assert!(last_only && unclosed.count() <= 1);
    });
}

fn noise() -> impl Strategy<Value = String> {
    let piece = prop_oneof![
        8 => "[a-c ]{1,12}",
        5 => Just(",".to_owned()),
        4 => Just("\"".to_owned()),
        2 => Just("\"\"".to_owned()),
        3 => Just("\n".to_owned()),
        1 => Just("\r\n".to_owned()),
        1 => Just("\r".to_owned()),
        2 => Just("é".to_owned()),
        4 => "[a-z]{0,6},\"[a-z\n,]{0,20}\"\n",
        4 => "\"([a-z\n,]|\"\"){0,20}\",[a-z\"]{0,5}\n",
    ];
    proptest::collection::vec(piece, 0..40).prop_map(|pieces| pieces.concat())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 120, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn all_ranges_together_are_the_file(text in noise(), grid in 1u64..=64, records in 1usize..5, bytes in 1usize..200) {
        hold(&text, grid, ReadLimit { records_max: records, bytes_max: bytes });
    }

    #[test]
    fn json_ranges_together_are_the_file(gaps in proptest::collection::vec("[ \n\r\t]{0,3}", 0..30), grid in 1u64..=64) {
        let text: String = gaps.iter().enumerate().map(|(i, gap)| format!("{gap}{{\"a\":{i}}}\n")).collect();
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(async {
            let dir = tempdir().unwrap();
            let schema = Some(serde_json::from_str("{\"a\":\"int64\"}").unwrap());
            let config = SourceConfig { schema, ..config(&put(dir.path(), "a.jsonl", text)) };
            let files = Files::open(config).await.unwrap().with_grid_bytes(grid);
            let splits = everything(&files, WIDE).await;
            let found: Vec<String> = splits.iter().flat_map(|(_, r)| values(r)).map(str::to_owned).collect();
            assert_eq!(found, (0..gaps.len()).map(|i| i.to_string()).collect::<Vec<_>>());
        });
    }
}

#[test]
fn quotes_in_odd_places_are_read_as_the_csv_crate_reads_them() {
    hold("\n \r\né", 5, ReadLimit { records_max: 1, bytes_max: 1 });
    for text in [
        "\"a\"b,c\n",
        "\"a\"\"b\",\"c\"d\"e\n",
        "a\"b,\"\"\n\"\",\"x\ny\"\n",
        "\u{feff}\"a\",b\n",
        "\"a\"\n\"b",
        "a,b\r\r\nc,d",
    ] {
        for grid in 1..20 {
            hold(text, grid, WIDE);
        }
    }
}
