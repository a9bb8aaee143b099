//! Which certificates are believed.

use std::path::Path;
use std::sync::Arc;

use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use rustls::{ClientConfig, RootCertStore};
use tokio_rustls::TlsConnector;

use crate::fault::HostFault;

/// What makes connections secure: certificates that authorities of the system sign (those of the file that SSL_CERT_FILE
/// names, if it names one), or those of a file. HTTP/2 is taken where the server offers it.
pub(super) fn connector(ca: Option<&Path>) -> Result<TlsConnector, HostFault> {
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    if let Some(path) = ca {
        let read = CertificateDer::pem_file_iter(path)
            .and_then(|all| all.collect::<Result<Vec<CertificateDer<'static>>, _>>())
            .map_err(|error| unread(path, &error.to_string()))?;
        if roots.add_parsable_certificates(read).0 == 0 {
            return Err(unread(path, "it holds no certificate"));
        }
    }
    let algorithms = Arc::new(rustls::crypto::ring::default_provider());
    let config = ClientConfig::builder_with_provider(algorithms)
        .with_safe_default_protocol_versions()
        .map_err(|error| HostFault::Config(error.to_string()))?;
    let mut config = config.with_root_certificates(roots).with_no_client_auth();
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(TlsConnector::from(Arc::new(config)))
}

fn unread(path: &Path, reason: &str) -> HostFault {
    HostFault::Config(format!("`ca`: no certificates can be read from {}: {reason}", path.display()))
}
