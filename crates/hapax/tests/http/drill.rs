//! Drills, which go elsewhere.

use std::time::Duration;

use hapax_conformance::http::Api;

use super::queue_kit::Hapax;
use super::{pipeline, shop};

#[test]
fn a_drill_goes_to_the_scratch_path_only() {
    let (api, database) = (Api::start(), shop("http_drill", 400));
    let folder = tempfile::tempdir().unwrap();
    let source = "postgres: { url: \"${env:DATABASE_URL}\", table: orders }";
    let real = format!("url: \"{}/orders/{{id}}\", method: PUT", api.url());
    let file = pipeline(folder.path(), source, &real, "commit: { records: 50 }\n");
    let variables = vec![("DATABASE_URL", database.url())];
    let hapax = Hapax { folder: folder.path().to_owned(), file, variables };
    let (code, said) = hapax.said(&["drill"]);
    assert!(code != 0 && said.contains("HX0441") && said.contains("scratch"), "{said}");
    let url = api.url();
    let scratch = format!(
        "{real}, read: {{ url: \"{url}/orders?per=50\", records: /data, paging: {{ link: true }} }}, \
         scratch: {{ url: \"{url}/{{place}}/orders/{{id}}\", read: \"{url}/{{place}}/orders?per=50&links=1\" }}"
    );
    pipeline(folder.path(), source, &scratch, "commit: { records: 50 }\n");
    let (code, said) = hapax.said(&["drill", "--kills", "3"]);
    assert_eq!(code, 0, "{said}");
    let state = api.state();
    let real = state.requests.iter().filter(|request| request.path.starts_with("/orders")).count();
    assert_eq!(real, 0, "a drill wrote where the pipeline writes");
    assert!(state.resources.keys().all(|path| path.starts_with("/hapax_drill_")));
    assert!(state.resources.len() >= 400);
}

#[test]
fn tokens_of_a_drill_are_its_own() {
    let (api, database) = (Api::start(), shop("http_drill_post", 120));
    // By its token alone this API knows a request: with another path or body it is refused with 422.
    api.state().window = Some(Duration::from_secs(3600));
    let folder = tempfile::tempdir().unwrap();
    let source = "postgres: { url: \"${env:DATABASE_URL}\", table: orders }";
    let url = api.url();
    let sink = format!(
        "url: \"{url}/orders\", method: POST, idempotency: {{ window: 1h }}, \
         read: {{ url: \"{url}/orders?per=50\", records: /data, paging: {{ link: true }} }}, \
         scratch: {{ url: \"{url}/{{place}}/orders\", read: \"{url}/{{place}}/orders?per=50&links=1\" }}"
    );
    let file = pipeline(folder.path(), source, &sink, "commit: { records: 20 }\n");
    let variables = vec![("DATABASE_URL", database.url())];
    let hapax = Hapax { folder: folder.path().to_owned(), file, variables };
    let (code, said) = hapax.said(&["drill", "--kills", "4", "--seed", "5"]);
    assert_eq!(code, 0, "{said}");
    // What the drill sent is no repeat of it.
    assert_eq!(hapax.moved(), 120);
    let state = api.state();
    let real = state.posted.iter().filter(|(path, _)| path == "/orders").count();
    assert_eq!(real, 120);
    assert!(state.posted.len() >= 240, "{} in all: too few rounds to tell", state.posted.len());
}
