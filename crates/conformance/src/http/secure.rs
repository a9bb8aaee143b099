//! A certificate of the tests' own.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

use rustls::ServerConfig;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::TlsAcceptor;

/// A certificate for one host, which an authority of the test's own has signed.
pub struct Certificate {
    folder: PathBuf,
}

impl Certificate {
    /// Makes both in a folder, by `openssl`.
    pub fn make(folder: &Path, host: &str) -> Self {
        let names = folder.join("names");
        std::fs::write(&names, format!("subjectAltName=DNS:{host}\n")).unwrap();
        let key = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"];
        let authority = ["req", "-x509", "-days", "2", "-subj", "/CN=Hapax test authority"];
        let authority = [&authority[..], &key, &["-keyout", "ca.key", "-out", "ca.pem"]].concat();
        let asked = ["req", "-subj", "/CN=a host of the test", "-keyout", "host.key", "-out", "host.csr"];
        let signed =
            ["x509", "-req", "-in", "host.csr", "-CA", "ca.pem", "-CAkey", "ca.key", "-CAcreateserial"];
        let signed = [&signed[..], &["-days", "2", "-extfile", "names", "-out", "host.pem"]].concat();
        for arguments in [authority, [&asked[..], &key].concat(), signed] {
            let made = Command::new("openssl").args(&arguments).current_dir(folder).output();
            let made = made.expect("openssl is missing; on Debian: apt-get install openssl");
            assert!(made.status.success(), "openssl: {}", String::from_utf8_lossy(&made.stderr));
        }
        Self { folder: folder.to_owned() }
    }

    /// The file of the authority.
    pub fn ca(&self) -> PathBuf {
        self.folder.join("ca.pem")
    }

    pub(super) fn acceptor(&self, protocols: &[&str]) -> TlsAcceptor {
        let certificate = CertificateDer::from_pem_file(self.folder.join("host.pem")).unwrap();
        let key = PrivateKeyDer::from_pem_file(self.folder.join("host.key")).unwrap();
        let algorithms = Arc::new(rustls::crypto::ring::default_provider());
        let config = ServerConfig::builder_with_provider(algorithms).with_safe_default_protocol_versions();
        let config = config.unwrap().with_no_client_auth().with_single_cert(vec![certificate], key);
        let mut config = config.unwrap();
        config.alpn_protocols = protocols.iter().map(|one| one.as_bytes().to_vec()).collect();
        TlsAcceptor::from(Arc::new(config))
    }
}
