use hapax_conformance::proxy::{Failure, Proxy};
use hapax_engine::fault::{SinkError, SinkErrorKind};
use hapax_postgres::codes;
use hapax_postgres::config::{SinkConfig, Url, Write};

use crate::scene::{Scene, opened, pipeline, shape};

async fn fails(scene: &Scene, url: String) -> SinkError {
    let sink = opened(SinkConfig { url: Url::new(url), ..scene.config(Write::Append) }).await;
    let error = sink.standings(&pipeline()).await.unwrap_err();
    let said = format!("{error} {:?} {}", error, error.fault.help());
    assert!(!said.contains("wrong-secret"), "{said}");
    error
}

#[tokio::test]
async fn each_way_not_to_get_in_has_its_own_error() {
    let scene = Scene::new();
    let (host, name) = (scene.database.host(), scene.database.name());
    let port = host.rsplit_once(':').unwrap().1;
    scene
        .sql("DROP ROLE IF EXISTS hapax_test_stranger; CREATE ROLE hapax_test_stranger LOGIN PASSWORD 'x'")
        .await;
    scene.sql(&format!("REVOKE CONNECT ON DATABASE {name} FROM PUBLIC")).await;
    for (url, code, kind) in [
        (scene.database.url_as("postgres", "wrong-secret"), codes::NOT_LET_IN, SinkErrorKind::Stop),
        (scene.database.url_as("nobody_at_all", "wrong-secret"), codes::NOT_LET_IN, SinkErrorKind::Stop),
        (format!("postgres://postgres@{host}/{name}"), codes::NOT_LET_IN, SinkErrorKind::Stop),
        (scene.database.url().replace(name, "no_such_database"), codes::NO_DATABASE, SinkErrorKind::Stop),
        (scene.database.url_as("hapax_test_stranger", "x"), codes::DENIED, SinkErrorKind::Stop),
        (
            scene.database.url().replace(&format!(":{port}/"), ":1/"),
            codes::UNREACHABLE,
            SinkErrorKind::Unavailable,
        ),
        (
            scene.database.url().replace(host, "no-such-host.invalid"),
            codes::UNREACHABLE,
            SinkErrorKind::Unavailable,
        ),
    ] {
        let error = fails(&scene, url).await;
        assert_eq!((error.fault.code(), error.kind), (code, kind), "{error}");
    }
    scene.sql("DROP ROLE hapax_test_stranger").await;
    let config =
        SinkConfig { url: Url::new("postgres://u:wrong-secret@a@b/c"), ..scene.config(Write::Append) };
    let error = hapax_postgres::sink::open(config).await.err().unwrap();
    assert_eq!(error.fault.code(), codes::CONFIG);
    assert!(!format!("{error:?}").contains("wrong-secret"));
}

/// The test server's certificate is for `localhost` alone.
#[tokio::test]
async fn a_certificate_is_checked_as_far_as_sslmode_says() {
    let scene = Scene::new();
    let service = crate::kit::Service::start();
    let authority = service.folder().join("ca.pem");
    let other = service.folder().join("other.pem");
    let made = std::process::Command::new("openssl")
        .args(["req", "-x509", "-newkey", "rsa:2048", "-nodes", "-subj", "/CN=Another authority", "-keyout"])
        .arg(service.folder().join("other.key"))
        .arg("-out")
        .arg(&other)
        .output();
    assert!(made.unwrap().status.success());
    let server = service.url();
    let by_name = server.replace("127.0.0.1", "localhost");
    let tried = async |server: &str, parameters: String| {
        let config =
            SinkConfig { url: Url::new(format!("{server}?{parameters}")), ..scene.config(Write::Append) };
        let sink = opened(config).await;
        sink.standings(&pipeline()).await.map(|_| ()).map_err(|error| error.fault.code())
    };
    let (authority, other) = (authority.display(), other.display());
    for (server, parameters, expected) in [
        (&by_name, format!("sslmode=verify-full&sslrootcert={authority}"), Ok(())),
        (&server, format!("sslmode=verify-full&sslrootcert={authority}"), Err(codes::TLS)),
        (&server, format!("sslmode=verify-ca&sslrootcert={authority}"), Ok(())),
        (&server, format!("sslmode=require&sslrootcert={authority}"), Ok(())),
        (&server, format!("sslmode=require&sslrootcert={other}"), Err(codes::TLS)),
        (&by_name, format!("sslmode=verify-full&sslrootcert={other}"), Err(codes::TLS)),
        (&by_name, "sslmode=verify-full&sslrootcert=/no/such/file.pem".to_owned(), Err(codes::TLS)),
        (&server, "sslmode=require".to_owned(), Ok(())),
        (&server, "sslmode=prefer".to_owned(), Ok(())),
        (&server, "sslmode=disable".to_owned(), Ok(())),
        (&server, "sslmode=perhaps".to_owned(), Err(codes::CONFIG)),
    ] {
        if expected == Err(codes::CONFIG) {
            let config =
                SinkConfig { url: Url::new(format!("{server}?{parameters}")), ..scene.config(Write::Append) };
            assert_eq!(hapax_postgres::sink::open(config).await.err().unwrap().fault.code(), codes::CONFIG);
            continue;
        }
        assert_eq!(tried(server, parameters.clone()).await, expected, "{server} {parameters}");
    }
}

#[tokio::test]
async fn a_server_that_goes_away_before_it_answered_is_not_waited_for() {
    let scene = Scene::new();
    let proxy = Proxy::before(scene.database.host()).await;
    proxy.fail(Failure::Gone);
    let error = fails(&scene, scene.database.url_through(proxy.port())).await;
    assert_eq!((error.fault.code(), error.kind), (codes::UNREACHABLE, SinkErrorKind::Unavailable), "{error}");
    proxy.heal();
    let url = Url::new(scene.database.url_through(proxy.port()));
    let sink = opened(SinkConfig { url, ..scene.config(Write::Append) }).await;
    sink.check(&shape(&[])).await.unwrap();
}
