use std::path::Path;

#[test]
fn every_code_has_a_page_and_stands_in_its_range() {
    let pages = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/errors");
    for code in hapax_sqlite::codes::ALL {
        assert!((300..400).contains(&code.0), "{code}");
        let page = std::fs::read_to_string(pages.join(format!("{code}.md"))).expect("a page for each code");
        assert!(page.starts_with(&format!("# {code}: ")), "{code}");
    }
}
