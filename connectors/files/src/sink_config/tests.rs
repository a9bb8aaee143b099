use super::*;

fn config(path: &str) -> SinkConfig {
    SinkConfig { path: path.to_owned(), format: None, compression: None, header: None }
}

#[test]
fn a_path_says_what_it_is() {
    let target = config("/d/out.csv").target().unwrap();
    assert_eq!((target.format, target.compression), (SinkFormat::Csv, SinkCompression::None));
    assert_eq!(target.place, TargetPlace::File("/d/out.csv".into()));
    let target = config("file:///d/out.jsonl.gz").target().unwrap();
    assert_eq!((target.format, target.compression), (SinkFormat::Jsonl, SinkCompression::Gzip));
    let target = config("out.parquet").target().unwrap();
    assert_eq!((target.format, target.compression), (SinkFormat::Parquet, SinkCompression::Snappy));
    let target = SinkConfig { format: Some(SinkFormat::Csv), ..config("parts") }.target().unwrap();
    assert_eq!(
        (target.place.clone(), target.extension()),
        (TargetPlace::Directory("parts".into()), "csv".to_owned())
    );
    let target = SinkConfig { format: Some(SinkFormat::Jsonl), ..config("-") }.target().unwrap();
    assert_eq!(target.place, TargetPlace::Stdout);
}

#[test]
fn words_that_do_not_fit_are_refused() {
    assert!(
        matches!(config("s3://b/x.csv").target(), Err(Failure::RemoteDestination { scheme }) if scheme == "s3")
    );
    assert!(matches!(config("parts/").target(), Err(Failure::FormatUnknown { .. })));
    assert!(matches!(config("x.tar").target(), Err(Failure::FormatUnknown { .. })));
    assert!(matches!(config("-").target(), Err(Failure::FormatUnknown { .. })));
    assert!(matches!(config("").target(), Err(Failure::NoPath)));
    let snappy = SinkConfig { compression: Some(SinkCompression::Snappy), ..config("x.csv") };
    assert!(matches!(snappy.target(), Err(Failure::Unfitting { .. })));
    let header = SinkConfig { header: Some(true), ..config("x.jsonl") };
    assert!(matches!(header.target(), Err(Failure::Unfitting { .. })));
    let parquet = SinkConfig { format: Some(SinkFormat::Parquet), ..config("-") };
    assert!(matches!(parquet.target(), Err(Failure::ParquetToStdout)));
}

#[test]
fn the_same_kind_of_destination_inside_another_directory() {
    let within = |config: &SinkConfig| config.path_within(Path::new("/s")).unwrap();
    let again = |config: SinkConfig| {
        let target = config.target().unwrap();
        let moved = SinkConfig { path: within(&config), ..config }.target().unwrap();
        assert_eq!((moved.format, moved.compression), (target.format, target.compression));
        moved.place
    };
    assert_eq!(again(config("/d/out.csv.gz")), TargetPlace::File("/s/out.csv.gz".into()));
    assert_eq!(again(config("file:///d/out.jsonl")), TargetPlace::File("/s/out.jsonl".into()));
    let csv = |path| SinkConfig { format: Some(SinkFormat::Csv), ..config(path) };
    assert_eq!(again(csv("parts")), TargetPlace::Directory("/s/records/".into()));
    assert_eq!(again(csv("../out.txt")), TargetPlace::File("/s/out.txt".into()));
    assert_eq!(again(csv("-")), TargetPlace::File("/s/records.csv".into()));
    assert!(config("parts/").path_within(Path::new("/s")).is_err());
}
