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

use std::sync::Arc;

use hapax_conformance::tls::Authority;
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

/// Ends TLS before a server (`host:port`) at an address of the loopback, and returns the port.
async fn terminator(authority: &Authority, at: &str, server: String) -> u16 {
    let certificate = CertificateDer::from_pem_file(authority.file("server.pem")).unwrap();
    let key = PrivateKeyDer::from_pem_file(authority.file("server.key")).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
    let mut config = config.with_no_client_auth().with_single_cert(vec![certificate], key).unwrap();
    config.alpn_protocols = vec![b"h2".to_vec()];
    let acceptor = TlsAcceptor::from(Arc::new(config));
    let listener = TcpListener::bind((at, 0)).await.unwrap();
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
    let (folder, elsewhere) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let (authority, another) = (Authority::new(folder.path()), Authority::new(elsewhere.path()));
    let (ours, other) = (authority.file("ca.pem"), another.file("ca.pem"));
    let (ours, other) = (ours.as_str(), other.as_str());
    let (token, place) = scene.url.trim_start_matches("http://").rsplit_once('@').unwrap();
    let port = terminator(&authority, "127.0.0.1", place.to_owned()).await;
    let unnamed = terminator(&authority, "127.0.0.2", place.to_owned()).await;
    let keys = |url: String, token: &str, ca: Option<&str>| {
        let mut keys = json!({ "url": url, "token": token });
        if let Some(ca) = ca {
            keys["ca"] = json!(ca);
        }
        keys
    };
    let by_name = format!("https://localhost:{port}");

    let good = keys(by_name.clone(), token, Some(ours));
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
    let (missing, empty) = (authority.file("missing.pem"), authority.file("server.key"));
    for (keys, code) in [
        (keys(by_name.clone(), token, Some(other)), codes::TLS),
        (keys(by_name.clone(), token, None), codes::TLS),
        // The certificate is for other names.
        (keys(format!("https://127.0.0.2:{unnamed}"), token, Some(ours)), codes::TLS),
        (keys(by_name.clone(), token, Some(&missing)), codes::TLS),
        (keys(by_name.clone(), token, Some(&empty)), codes::TLS),
        (keys(by_name.clone(), "root:wrong", Some(ours)), codes::WRONG_TOKEN),
        // What speaks no TLS, and what does where none is expected.
        (keys(format!("https://{}", place.replace("127.0.0.1", "localhost")), token, Some(ours)), codes::TLS),
        (keys(format!("http://localhost:{port}"), token, None), codes::GONE),
        (keys(format!("http://{place}"), token, Some(ours)), codes::BAD_URL),
    ] {
        assert_eq!(refused(keys.clone()).await, (code, code), "{}", keys["url"]);
    }
    scene.clear().await;
}
