use std::collections::BTreeSet;
use std::path::Path;

/// Pages and codes are held against each other: every code has a page, no page lacks a code.
#[test]
fn every_code_has_a_page_and_every_page_a_code() {
    let all: Vec<String> = [
        super::ALL,
        hapax_config::codes::ALL,
        hapax_embed::codes::ALL,
        hapax_engine::codes::ALL,
        hapax_files::codes::ALL,
        hapax_http::codes::ALL,
        hapax_kafka::codes::ALL,
        hapax_ledger::codes::ALL,
        #[cfg(feature = "milvus")]
        hapax_milvus::codes::ALL,
        hapax_mysql::codes::ALL,
        hapax_redis::codes::ALL,
        hapax_nats::codes::ALL,
        hapax_postgres::codes::ALL,
        hapax_postgres::source::codes::ALL,
        hapax_rabbitmq::codes::ALL,
        hapax_sqlite::codes::ALL,
        hapax_transform::codes::ALL,
    ]
    .concat()
    .iter()
    .map(ToString::to_string)
    .collect();
    let codes: BTreeSet<&String> = all.iter().collect();
    assert_eq!(codes.len(), all.len(), "two meanings share a code");

    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/errors");
    for code in &codes {
        let page = directory.join(format!("{code}.md"));
        let text = std::fs::read_to_string(&page).unwrap_or_else(|_| panic!("{} is missing", page.display()));
        assert!(text.starts_with(&format!("# {code}: ")), "{} has another title", page.display());
    }
}
