//! TLS before the real server, by a certificate that an authority of our own made for `localhost`.
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

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

use hapax_engine::sink::{Sending, Shape};
use hapax_milvus::codes;
use hapax_protocol::code::Code;
use hapax_protocol::position::SplitId;
use rustls::ServerConfig;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use scene::{KEYED, Scene, everything};
use serde_json::{Value, json};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;

fn openssl(folder: &Path, arguments: &str) {
    let made = Command::new("openssl").current_dir(folder).args(arguments.split(' ')).output();
    let made = made.expect("this test needs openssl; on Debian: apt-get install openssl");
    assert!(made.status.success(), "{arguments}: {}", String::from_utf8_lossy(&made.stderr));
}

/// An authority, a certificate of it for `localhost`, and another authority.
fn certificates(folder: &Path) -> (PathBuf, PathBuf) {
    for name in ["ca", "other"] {
        openssl(
            folder,
            &format!("req -x509 -newkey rsa:2048 -nodes -subj /CN={name} -keyout {name}.key -out {name}.pem"),
        );
    }
    std::fs::write(folder.join("names"), "subjectAltName=DNS:localhost\nbasicConstraints=CA:FALSE\n")
        .unwrap();
    openssl(folder, "req -newkey rsa:2048 -nodes -subj /CN=localhost -keyout server.key -out server.csr");
    openssl(
        folder,
        "x509 -req -in server.csr -CA ca.pem -CAkey ca.key -CAcreateserial -extfile names -out server.pem",
    );
    (folder.join("ca.pem"), folder.join("other.pem"))
}

/// Ends TLS before a server (`host:port`), and returns the port.
async fn terminator(folder: &Path, server: String) -> u16 {
    let certificate = CertificateDer::from_pem_file(folder.join("server.pem")).unwrap();
    let key = PrivateKeyDer::from_pem_file(folder.join("server.key")).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
    let mut config = config.with_no_client_auth().with_single_cert(vec![certificate], key).unwrap();
    config.alpn_protocols = vec![b"h2".to_vec()];
    let acceptor = TlsAcceptor::from(Arc::new(config));
    let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        while let Ok((client, _)) = listener.accept().await {
            let (acceptor, server) = (acceptor.clone(), server.clone());
            tokio::spawn(async move {
                let Ok(mut client) = acceptor.accept(client).await else { return };
                let Ok(mut server) = TcpStream::connect(&server).await else { return };
                let _ = tokio::io::copy_bidirectional(&mut client, &mut server).await;
            });
        }
    });
    port
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_and_records_go_over_tls_to_a_server_that_is_the_right_one() {
    let scene = Scene::new();
    scene.make("tls", KEYED, true).await;
    let folder = tempfile::tempdir().unwrap();
    let (ours, other) = certificates(folder.path());
    let (token, place) = scene.url.trim_start_matches("http://").rsplit_once('@').unwrap();
    let port = terminator(folder.path(), place.to_owned()).await;
    let keys = |url: String, token: &str, ca: Option<&Path>| {
        let mut keys = json!({ "url": url, "token": token });
        if let Some(ca) = ca {
            keys["ca"] = json!(ca);
        }
        keys
    };
    let by_name = format!("https://localhost:{port}");
    let by_address = format!("https://127.0.0.1:{port}");

    let good = keys(by_name.clone(), token, Some(&ours));
    let batch = scene::vectors(&[1, 2, 3]);
    let shape = Shape { schema: batch.schema(), key: vec!["id".to_owned()] };
    let target = scene.sink("tls", good.clone()).unwrap();
    target.prepare(&shape).await.unwrap();
    let mut sender = target.sender(&SplitId::new("s")).await.unwrap();
    let sent = sender.send(Sending { records: &batch, tokens: &[], deadline: None }).await.unwrap();
    assert_eq!(sent.refused, []);
    let source = scene.source("tls", good).await.unwrap();
    assert_eq!(everything(source.as_ref()).await.len(), 3);

    let refused = async |keys: Value| -> (Code, Code) {
        let source = scene.source("tls", keys.clone()).await.map(|_| ()).unwrap_err();
        let sink = match scene.sink("tls", keys) {
            Err(code) => code,
            Ok(target) => {
                let error = target.check(&shape).await.unwrap_err();
                let said = format!("{error} {error:?} {}", error.fault.help());
                assert!(!said.contains(token) && !said.contains("root:wrong"), "{said}");
                error.fault.code()
            }
        };
        (source, sink)
    };
    let missing = folder.path().join("missing.pem");
    for (keys, code) in [
        (keys(by_name.clone(), token, Some(&other)), codes::TLS),
        (keys(by_name.clone(), token, None), codes::TLS),
        // The certificate is for another name.
        (keys(by_address, token, Some(&ours)), codes::TLS),
        (keys(by_name.clone(), token, Some(&missing)), codes::TLS),
        (keys(by_name.clone(), "root:wrong", Some(&ours)), codes::WRONG_TOKEN),
        // What speaks no TLS, and what does where none is expected.
        (
            keys(format!("https://{}", place.replace("127.0.0.1", "localhost")), token, Some(&ours)),
            codes::TLS,
        ),
        (keys(format!("http://localhost:{port}"), token, None), codes::GONE),
    ] {
        assert_eq!(refused(keys.clone()).await, (code, code), "{}", keys["url"]);
    }
    scene.clear().await;
}
