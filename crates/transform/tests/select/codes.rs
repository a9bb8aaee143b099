use std::collections::BTreeSet;
use std::path::Path;

use hapax_transform::codes;

#[test]
fn every_code_has_a_page_and_stands_once() {
    let pages = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/errors");
    for code in codes::ALL {
        let page = std::fs::read_to_string(pages.join(format!("{code}.md"))).unwrap_or_default();
        assert!(page.starts_with(&format!("# {code}: ")), "docs/errors/{code}.md");
        assert!((400..500).contains(&code.0));
    }
    let distinct: BTreeSet<_> = codes::ALL.iter().collect();
    assert_eq!(distinct.len(), codes::ALL.len());
}

#[test]
fn the_guide_lists_every_function_and_no_other() {
    let guide = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/transform.md");
    let guide = std::fs::read_to_string(guide).unwrap();
    let (_, behind) = guide.split_once("## Functions").unwrap();
    let (table, _) = behind.split_once("\n## ").unwrap();
    let rows = table.lines().filter(|line| line.starts_with("| ") && line.contains('`'));
    let listed: BTreeSet<&str> = rows
        .filter_map(|row| row.split('|').nth(2))
        .flat_map(|cell| cell.split('`').skip(1).step_by(2))
        .collect();
    let callable = hapax_transform::functions();
    let callable: BTreeSet<&str> = callable.iter().map(String::as_str).collect();
    assert_eq!(callable.difference(&listed).collect::<Vec<_>>(), Vec::<&&str>::new(), "not in the guide");
    assert_eq!(listed.difference(&callable).collect::<Vec<_>>(), Vec::<&&str>::new(), "only in the guide");
}
