//! The formats of the files source: what comes out, with which numbers and types, and what is set aside.
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

use std::sync::Arc;

use arrow::array::{ArrayRef, Int64Array, RecordBatch, StringArray};
use arrow::datatypes::{DataType, Field, Schema};
use hapax_engine::batch::ReadLimit;
use hapax_engine::dead_letter::DeadLetter;
use hapax_engine::source::Source;
use hapax_files::codes;
use hapax_files::config::{Columns, Compression, Format, SourceConfig, parse_type};
use hapax_files::source::Files;
use hapax_protocol::guarantee::{Replay, Settle};
use hapax_protocol::identity::Place;
use source_kit::*;
use tempfile::tempdir;

fn columns(list: &[(&str, &str)]) -> Option<Columns> {
    Some(Columns(list.iter().map(|(name, t)| ((*name).to_owned(), parse_type(t).unwrap())).collect()))
}

#[tokio::test]
async fn csv_columns_are_guessed_so_that_nothing_is_lost() {
    let dir = tempdir().unwrap();
    let text = "id,zip,plus,big,x,ok,day,at,utc,mixed,empty,text\n\
        1,00123,+1,9223372036854775808,1.5,true,2026-02-28,2026-02-28T10:00:00.25,2026-02-28T10:00:00+02:00,2026-01-01,,a\n\
        -2,1,2,1,-2e3,false,2024-02-29,2024-02-29 23:59:59,1999-12-31T23:59:59Z,7,,\"\"\n";
    let files = open(&put(dir.path(), "a.csv", text)).await;
    assert_eq!(
        types(&files),
        [
            "id: int64",
            "zip: string",
            "plus: string",
            "big: string",
            "x: float64",
            "ok: boolean",
            "day: date",
            "at: timestamp",
            "utc: timestamptz",
            "mixed: string",
            "empty: string",
            "text: string"
        ]
    );
    let records = only(&files).await;
    assert_eq!(
        values(&records),
        [
            "1|00123|+1|9223372036854775808|1.5|true|2026-02-28|2026-02-28T10:00:00.250|2026-02-28T08:00:00Z|2026-01-01|∅|a",
            "-2|1|2|1|-2000.0|false|2024-02-29|2024-02-29T23:59:59|1999-12-31T23:59:59Z|7|∅|"
        ]
    );
}

#[tokio::test]
async fn each_kind_of_bad_csv_record_is_set_aside_with_its_number_and_reason() {
    let dir = tempdir().unwrap();
    let good = "1,a\n".repeat(20_000);
    let text = [
        b"id,name\n".as_slice(),
        good.as_bytes(),
        b"2,b,c\n\n3\n4,x\xffy\nfive,e\n007,f\n99999999999999999999,g\n8,h\n9,\"open\n",
    ]
    .concat();
    let records = only(&open(&put(dir.path(), "a.csv", text)).await).await;
    let bad: Vec<_> = records
        .iter()
        .filter_map(|r| match r {
            Found::Bad(ordinal, code, reason, raw) => {
                Some((*ordinal - 20_000, *code, reason.as_str(), raw.as_str()))
            }
            Found::Good(..) => None,
        })
        .collect();
    assert_eq!(
        bad,
        [
            (0, codes::FIELD_COUNT, "3 fields found, the file has 2 columns", "2,b,c"),
            (1, codes::FIELD_COUNT, "1 field found, the file has 2 columns", "3"),
            (2, codes::UTF8, "the record is not UTF-8 at its byte 3", "4,x\u{fffd}y"),
            (3, codes::UNFIT, "column id: \"five\" is not a int64", "five,e"),
            (4, codes::UNFIT, "column id: \"007\" is not a int64", "007,f"),
            (5, codes::UNFIT, "column id: \"99999999999999999999\" is not a int64", "99999999999999999999,g"),
            (
                7,
                codes::UNCLOSED_QUOTE,
                "a quote is opened that is not closed before the end of the file",
                "9,\"open\n"
            ),
        ]
    );
    assert_eq!(records[20_006], Found::Good(20_006, "8|h".to_owned()));
}

#[tokio::test]
async fn declared_types_hold_exactly_what_they_say() {
    let dir = tempdir().unwrap();
    let text = "a,b,c,d,e\n007,1.50,12:30,ff00,2026-01-01T00:00:00Z\n300,1.505,25:00,f,2026-01-01T00:00:00\n\
        -1,-0.5,23:59:59.999999,,2026-01-01T00:00:00.1234567Z\n";
    let schema = columns(&[
        ("a", "uint8"),
        ("b", "decimal(4,2)"),
        ("c", "time"),
        ("d", "binary"),
        ("e", "timestamptz"),
    ]);
    let config = SourceConfig { schema, ..config(&put(dir.path(), "a.csv", text)) };
    let records = only(&Files::open(config).await.unwrap()).await;
    assert_eq!(values(&records), ["7|1.50|12:30:00|ff00|2026-01-01T00:00:00Z"]);
    assert!(matches!(&records[1], Found::Bad(1, c, ..) if *c == codes::UNFIT));
    assert!(
        matches!(&records[2], Found::Bad(2, c, reason, _) if *c == codes::UNFIT && reason.contains("column a"))
    );
}

#[tokio::test]
async fn headers_and_columns_are_held_to_their_names() {
    let dir = tempdir().unwrap();
    for text in ["a,a\n1,2\n", "a,\n1,2\n"] {
        assert_eq!(code(Files::open(config(&put(dir.path(), "h.csv", text))).await), codes::HEADER);
    }
    put(dir.path(), "1.csv", "a,b\n1,x\n");
    put(dir.path(), "2.csv", "\u{feff}b,a\ny,2\n");
    let files = open(&format!("{}/[12].csv", dir.path().display())).await;
    let all = everything(&files, WIDE).await;
    assert_eq!(values(&all[0].1), ["1|x"]);
    assert_eq!(values(&all[1].1), ["2|y"]);
    put(dir.path(), "2.csv", "a,c\n1,2\n");
    let splits = files.splits().await.unwrap();
    assert_eq!(code(files.open(&splits[1].id, None).await), codes::COLUMNS);

    let headless = put(dir.path(), "n.csv", "1;x\n2;NA\n");
    let config = SourceConfig {
        header: Some(false),
        delimiter: Some(';'),
        null_values: Some(vec!["NA".to_owned()]),
        ..config(&headless)
    };
    let files = Files::open(config).await.unwrap();
    assert_eq!(types(&files), ["column_1: int64", "column_2: string"]);
    assert_eq!(values(&only(&files).await), ["1|x", "2|∅"]);
}

#[tokio::test]
async fn one_given_type_leaves_the_others_to_be_guessed() {
    let dir = tempdir().unwrap();
    let path = put(dir.path(), "a.csv", "id,zip\n1,123\n");
    let config = SourceConfig { schema: columns(&[("zip", "string")]), ..config(&path) };
    assert_eq!(types(&Files::open(config).await.unwrap()), ["id: int64", "zip: string"]);
    let config = SourceConfig { schema: columns(&[("zap", "string")]), ..source_kit::config(&path) };
    assert_eq!(code(Files::open(config).await), codes::COLUMNS);
}

#[tokio::test]
async fn json_lines_keep_their_numbers_and_refuse_what_would_be_lost() {
    let dir = tempdir().unwrap();
    let head = "{\"id\":1,\"s\":\"a\\n\\u00e9\",\"f\":1.5,\"n\":{\"x\":1,\"l\":[1,2]}}\n\n  \n\
        {\"s\":null,\"id\":2,\"f\":2}\r\n";
    let filler = "{\"id\":3,\"s\":\"\",\"f\":0.5,\"n\":null}\n".repeat(10_000);
    let tail = [
        "{\"id\":4,\"extra\":1}",
        "{\"id\":5,\"id\":6}",
        "{\"id\":1.5}",
        "{\"id\":\"7\"}",
        "{\"id\":8",
        "[1]",
        "{\"id\":9} {\"id\":10}",
        "{\"id\":11,\"n\":{\"y\":1}}",
        "{\"id\":12,\"n\":{\"x\":12}}",
        "{\"id\":2.0,\"s\":\"last\"}",
    ]
    .join("\n");
    let files = open(&put(dir.path(), "a.jsonl", format!("{head}{filler}{tail}"))).await;
    let records = only(&files).await;
    assert_eq!(records[0], Found::Good(0, "1|a\né|1.5|{x: 1, l: [1, 2]}".to_owned()));
    assert_eq!(records[1], Found::Good(1, "2|∅|2.0|∅".to_owned()));
    let rest = &records[10_002..];
    let kinds: Vec<Option<_>> =
        rest.iter().map(|r| if let Found::Bad(_, code, ..) = r { Some(*code) } else { None }).collect();
    use codes::{JSON, UNFIT, UNKNOWN_FIELD};
    assert_eq!(
        kinds,
        [
            Some(UNKNOWN_FIELD),
            Some(JSON),
            Some(UNFIT),
            Some(UNFIT),
            Some(JSON),
            Some(JSON),
            Some(JSON),
            Some(UNFIT),
            None,
            None
        ]
    );
    assert_eq!(rest[8], Found::Good(10_010, "12|∅|∅|{x: 12, l: ∅}".to_owned()));
    assert_eq!(rest[9], Found::Good(10_011, "2|last|∅|∅".to_owned()));
}

#[tokio::test]
async fn every_compression_brings_the_same_records() {
    let dir = tempdir().unwrap();
    let text: String =
        std::iter::once("id,name\n".to_owned()).chain((0..50_000).map(|i| format!("{i},n{i}\n"))).collect();
    let (first, second) = text.split_at(300_001);
    let members = [gzip(first.as_bytes()), gzip(second.as_bytes())].concat();
    let frames =
        [zstd::encode_all(first.as_bytes(), 1).unwrap(), zstd::encode_all(second.as_bytes(), 1).unwrap()];
    let plain = only(&open(&put(dir.path(), "a.csv", &text)).await).await;
    assert_eq!(plain.len(), 50_000);
    assert_eq!(only(&open(&put(dir.path(), "a.csv.gz", members)).await).await, plain);
    assert_eq!(only(&open(&put(dir.path(), "a.csv.zst", frames.concat())).await).await, plain);
    let odd = put(dir.path(), "odd", gzip(text.as_bytes()));
    let config =
        SourceConfig { format: Some(Format::Csv), compression: Some(Compression::Gzip), ..config(&odd) };
    assert_eq!(only(&Files::open(config).await.unwrap()).await, plain);
}

#[tokio::test]
async fn a_damaged_stream_is_an_error_and_not_an_end() {
    let dir = tempdir().unwrap();
    let text: String = std::iter::once("id\n".to_owned())
        .chain((0..400_000_u64).map(|i| format!("{}\n", i * 7919 % 400_009)))
        .collect();
    for (name, whole) in
        [("t.csv.gz", gzip(text.as_bytes())), ("t.csv.zst", zstd::encode_all(text.as_bytes(), 1).unwrap())]
    {
        let cut = put(dir.path(), name, &whole[..whole.len() - 20]);
        let files = open(&cut).await;
        let mut reader = first_reader(&files).await;
        let mut count = 0;
        let error = loop {
            match reader.read(WIDE).await {
                Ok(Some(batch)) => count += batch.records.num_rows(),
                Ok(None) => panic!("{name}: a truncated stream ended as if it were whole"),
                Err(error) => break error,
            }
        };
        assert_eq!(error.fault.code(), codes::COMPRESSED);
        assert!(count > 100_000, "{count} good records came first");
    }
}

#[tokio::test]
async fn a_record_too_long_is_one_dead_letter_and_the_next_ones_come() {
    let dir = tempdir().unwrap();
    let long = "y".repeat(50 * 1024 * 1024);
    let text = format!("id,name\n1,a\n2,\"{long}\n{long}\"\n3,c\n");
    let path = put(dir.path(), "a.csv", text);
    let config = SourceConfig {
        record_bytes_max: Some(1024 * 1024),
        schema: columns(&[("id", "int64"), ("name", "string")]),
        ..config(&path)
    };
    let records = only(&Files::open(config).await.unwrap().with_grid_bytes(u64::MAX)).await;
    assert_eq!(records.len(), 3);
    assert_eq!(records[2], Found::Good(2, "3|c".to_owned()));
    let Found::Bad(1, code, reason, raw) = &records[1] else { panic!("{:?}", records[1].ordinal()) };
    assert_eq!(*code, codes::TOO_LONG);
    assert_eq!(reason, "the record is 104857605 bytes long, more than record_bytes_max (1048576)");
    assert_eq!(raw.len(), 64 * 1024);

    let path = put(dir.path(), "a.jsonl", format!("{{\"id\":1}}\n{{\"id\":\"{long}\"}}\n{{\"id\":2}}"));
    let config = SourceConfig {
        record_bytes_max: Some(1000),
        schema: columns(&[("id", "int64")]),
        ..source_kit::config(&path)
    };
    let records = only(&Files::open(config).await.unwrap()).await;
    assert_eq!(values(&records), ["1", "2"]);
    assert_eq!(records[1].ordinal(), 1);
}

fn parquet(dir: &std::path::Path, name: &str, rows: i64, group: usize) -> String {
    let path = dir.join(name);
    let ids: ArrayRef = Arc::new(Int64Array::from_iter_values(0..rows));
    let names: ArrayRef =
        Arc::new(StringArray::from_iter((0..rows).map(|i| (i % 3 > 0).then(|| format!("n{i}")))));
    let batch = RecordBatch::try_from_iter([("id", ids), ("name", names)]).unwrap();
    let properties = ::parquet::file::properties::WriterProperties::builder()
        .set_max_row_group_row_count(Some(group))
        .build();
    let file = std::fs::File::create(&path).unwrap();
    let mut writer = ::parquet::arrow::ArrowWriter::try_new(file, batch.schema(), Some(properties)).unwrap();
    writer.write(&batch).unwrap();
    writer.close().unwrap();
    path.to_str().unwrap().to_owned()
}

#[tokio::test]
async fn parquet_row_groups_are_splits_and_resume_by_row() {
    let dir = tempdir().unwrap();
    let path = parquet(dir.path(), "a.parquet", 2500, 1000);
    let files = open(&path).await;
    let all = everything(&files, WIDE).await;
    let counts: Vec<usize> = all.iter().map(|(_, records)| records.len()).collect();
    assert_eq!(counts, [1000, 1000, 500]);
    assert_eq!(all[1].1[1], Found::Good(1, "1001|n1001".to_owned()));
    let few = ReadLimit { records_max: 300, bytes_max: 1 << 20 };
    let (records, positions) = drain(&files, &all[0].0, None, few).await.unwrap();
    assert_eq!(records, all[0].1);
    assert_eq!(files.describe(&positions[0]), "row 300");
    for (i, position) in positions.iter().enumerate() {
        let (rest, _) = drain(&files, &all[0].0, Some(position), WIDE).await.unwrap();
        assert_eq!(rest, records[((i + 1) * 300).min(1000)..]);
    }
    std::fs::copy(parquet(dir.path(), "b.parquet", 2600, 1000), &path).unwrap();
    assert_eq!(code(drain(&files, &all[0].0, Some(&positions[0]), WIDE).await), codes::REPLACED);
}

#[tokio::test]
async fn parquet_is_cast_row_by_row_and_damage_is_named() {
    let dir = tempdir().unwrap();
    let path = parquet(dir.path(), "a.parquet", 200, 1000);
    let schema = Arc::new(Schema::new(vec![
        Field::new("name", DataType::LargeUtf8, true),
        Field::new("id", DataType::Int8, true),
    ]));
    let files = Files::with_schema(config(&path), schema).await.unwrap();
    let records = only(&files).await;
    assert_eq!(records[1], Found::Good(1, "n1|1".to_owned()));
    assert!(
        matches!(&records[128], Found::Bad(128, c, _, raw) if *c == codes::UNFIT && raw == "{\"id\":128,\"name\":\"n128\"}")
    );

    let given = SourceConfig { schema: columns(&[("id", "int16"), ("name", "string")]), ..config(&path) };
    assert_eq!(values(&only(&Files::open(given).await.unwrap()).await)[199], "199|n199");

    let mut bytes = std::fs::read(&path).unwrap();
    bytes.truncate(bytes.len() - 3);
    assert_eq!(code(Files::open(config(&put(dir.path(), "cut.parquet", &bytes))).await), codes::PARQUET);
}

#[tokio::test]
async fn dead_letters_are_read_again_by_the_columns_of_today() {
    let dir = tempdir().unwrap();
    let path = put(dir.path(), "a.csv", "name,id\na,1\nb,x7\n");
    let wide = SourceConfig { schema: columns(&[("id", "int64"), ("name", "string")]), ..config(&path) };
    let files = Files::open(wide).await.unwrap();
    let records = only(&files).await;
    let Found::Bad(1, code_of, reason, raw) = &records[1] else { panic!() };
    let split = files.splits().await.unwrap().remove(0).id;
    let letter = DeadLetter {
        place: Place { split, ordinal: 1 },
        code: *code_of,
        reason: reason.clone(),
        raw: raw.clone(),
        set_aside_unix_ms: 0,
    };
    assert_eq!(code(files.reread(&letter).await), codes::STILL_UNFIT);
    let today = SourceConfig { schema: columns(&[("id", "string"), ("name", "string")]), ..config(&path) };
    let record = Files::open(today).await.unwrap().reread(&letter).await.unwrap();
    assert_eq!(record.num_rows(), 1);
    assert_eq!(record.column(0).as_any().downcast_ref::<StringArray>().unwrap().value(0), "x7");
}

#[tokio::test]
async fn paths_that_name_nothing_say_so() {
    let dir = tempdir().unwrap();
    let at = dir.path().display();
    assert_eq!(code(Files::open(config(&format!("{at}/none.csv"))).await), codes::NO_FILE);
    assert_eq!(code(Files::open(config(&format!("{at}/*.csv"))).await), codes::NO_FILE);
    assert_eq!(code(Files::open(config(&format!("{at}"))).await), codes::SOURCE_CONFIG);
    assert_eq!(code(Files::open(config(&put(dir.path(), "what", "1"))).await), codes::SOURCE_CONFIG);
    assert_eq!(code(Files::open(config(&put(dir.path(), "e.csv", ""))).await), codes::NO_SAMPLE);
    let url = format!("file://{}", put(dir.path(), "u.csv", "a\n1\n"));
    assert_eq!(values(&only(&open(&url).await).await), ["1"]);
    let secret = Files::open(config("zz://user:hunter2@host/x.csv?sig=hunter2")).await;
    assert!(!format!("{:?}", secret.err().unwrap()).contains("hunter2"));
}

#[tokio::test]
async fn standard_input_promises_what_it_can() {
    let stdin =
        SourceConfig { format: Some(Format::Jsonl), schema: columns(&[("a", "int64")]), ..config("-") };
    let files = Files::open(stdin).await.unwrap();
    assert_eq!((files.facts().replay, files.facts().settle), (Replay::Unidentified, Settle::None));
    let split = files.splits().await.unwrap().remove(0).id;
    assert!(split.as_str().starts_with("stdin@"));
    assert_eq!(code(Files::open(config("-")).await), codes::SOURCE_CONFIG);
    let other = hapax_protocol::position::SplitId::new("stdin@1-1");
    assert_eq!(code(files.open(&other, None).await), codes::STDIN);
}

#[test]
fn every_code_has_its_page_and_its_own_number() {
    let pages = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/errors");
    for (i, code) in codes::ALL.iter().enumerate() {
        let page = std::fs::read_to_string(pages.join(format!("{code}.md"))).unwrap_or_default();
        assert!(page.starts_with(&format!("# {code}: ")), "{code} has no page");
        assert!(!codes::ALL[..i].contains(code), "{code} stands for two things");
    }
}
