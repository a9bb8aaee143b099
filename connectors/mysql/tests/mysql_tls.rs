//! Encrypted connections, to a server whose certificate an authority of our own made for `localhost`.
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

mod scene;

use hapax_mysql::codes;
use hapax_mysql::source::Mysql;
use hapax_protocol::code::Code;
use scene::own::Server;
use scene::pen;

async fn tried(url: &str) -> Result<(), Code> {
    let config = serde_json::json!({ "url": url, "query": "SELECT 1 AS one" });
    let read = Mysql::open(serde_json::from_value(config).unwrap()).await;
    let read = read.map(|_| ()).map_err(|error| {
        assert!(!format!("{error:?}{error}").contains("secret"), "{error:?}");
        error.fault.code()
    });
    let shape = pen::shape(pen::schema(), &[]);
    let written = pen::open(url, "t", "append").await.unwrap().check(&shape).await;
    assert_eq!(written.map(|_| ()).map_err(|error| error.fault.code()), read, "{url}");
    read
}

#[tokio::test(flavor = "multi_thread")]
async fn a_certificate_is_verified_as_far_as_ssl_mode_says() {
    let server = Server::new();
    server.run("CREATE DATABASE d");
    let other = server.0.path().join("other.pem");
    let made = std::process::Command::new("openssl")
        .args(["req", "-x509", "-newkey", "rsa:2048", "-nodes", "-subj", "/CN=Another authority", "-keyout"])
        .arg(server.0.path().join("other.key"))
        .arg("-out")
        .arg(&other)
        .output();
    assert!(made.unwrap().status.success());
    let ours = server.folder().join("ca.pem").display().to_string();
    let other = other.display().to_string();
    let by_address = format!("{}d", server.url());
    // The name that the certificate is for, and an address that it is not for.
    let by_name = by_address.replace("127.0.0.1", "localhost");
    let tls = Err(codes::TLS);
    for (url, mode, authority, expected) in [
        (&by_address, "disabled", None, Ok(())),
        (&by_address, "preferred", None, Ok(())),
        (&by_address, "required", None, Ok(())),
        (&by_address, "required", Some(&other), Ok(())),
        (&by_address, "verify-ca", Some(&ours), Ok(())),
        (&by_address, "verify-ca", Some(&other), tls),
        (&by_address, "verify-ca", None, tls),
        (&by_name, "verify-identity", Some(&ours), Ok(())),
        (&by_address, "verify-identity", Some(&ours), tls),
        (&by_name, "verify-identity", Some(&other), tls),
        (&by_name, "verify-identity", None, tls),
    ] {
        let authority_part = authority.map(|path| format!("&ssl-ca={path}")).unwrap_or_default();
        let url = format!("{url}?ssl-mode={mode}{authority_part}");
        assert_eq!(tried(&url).await, expected, "{mode} {authority:?}");
    }
    let none = format!("{by_name}?ssl-mode=verify-ca&ssl-ca=/no/such/file.pem");
    assert_eq!(tried(&none).await, tls, "an authority that is not there");
    // Encrypted is encrypted: a user who must be is let in only so.
    server.run("CREATE USER 's'@'%' IDENTIFIED BY 'secret' REQUIRE SSL; GRANT ALL ON d.* TO 's'@'%'");
    let place = by_address.rsplit('@').next().unwrap();
    let as_user = |mode: &str| format!("mysql://s:secret@{place}?ssl-mode={mode}");
    assert_eq!(tried(&as_user("preferred")).await, Ok(()));
    assert_eq!(tried(&as_user("required")).await, Ok(()));
    assert_eq!(tried(&as_user("disabled")).await, Err(codes::WRONG_PASSWORD));
    // A server without encryption.
    server.service("stop");
    std::fs::write(server.folder().join("options"), "--skip-ssl\n").unwrap();
    server.service("start");
    assert_eq!(tried(&format!("{by_address}?ssl-mode=required")).await, tls);
    assert_eq!(tried(&by_address).await, Ok(()));
}
