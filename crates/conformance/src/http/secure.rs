//! The API behind TLS.

use std::sync::Arc;

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig};
use tokio_rustls::TlsAcceptor;

use crate::tls::Authority;

/// How the API shows who it is, and what it asks of its clients.
pub struct Secure<'a> {
    /// Whose pair `server` it shows.
    pub authority: &'a Authority,
    /// What it speaks: `h2`, `http/1.1`, the first first.
    pub protocols: &'a [&'a str],
    /// Whether clients have to show a certificate of the authority.
    pub asks_clients: bool,
    /// How many requests one connection of HTTP/2 may carry at once, if not as many as usual.
    pub streams_max: Option<u32>,
}

impl Secure<'_> {
    pub(super) fn acceptor(&self) -> TlsAcceptor {
        let file = |name: &str| self.authority.file(name);
        let certificate = CertificateDer::from_pem_file(file("server.pem")).unwrap();
        let key = PrivateKeyDer::from_pem_file(file("server.key")).unwrap();
        let algorithms = Arc::new(rustls::crypto::ring::default_provider());
        let config = ServerConfig::builder_with_provider(Arc::clone(&algorithms));
        let config = config.with_safe_default_protocol_versions().unwrap();
        let config = match self.asks_clients {
            false => config.with_no_client_auth(),
            true => {
                let mut roots = RootCertStore::empty();
                roots.add(CertificateDer::from_pem_file(file("ca.pem")).unwrap()).unwrap();
                let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), algorithms);
                config.with_client_cert_verifier(verifier.build().unwrap())
            }
        };
        let mut config = config.with_single_cert(vec![certificate], key).unwrap();
        config.alpn_protocols = self.protocols.iter().map(|one| one.as_bytes().to_vec()).collect();
        TlsAcceptor::from(Arc::new(config))
    }
}
