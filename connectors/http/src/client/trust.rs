//! Which certificates are believed, and which one is shown.

use std::sync::Arc;

use hapax_engine::tls::Pem;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ClientConfig, RootCertStore};
use tokio_rustls::TlsConnector;

use crate::fault::HostFault;

/// What makes connections secure: certificates are believed that authorities of the pipeline's own have signed, and no
/// others; where it names none, those that authorities of the system have signed (of the file that SSL_CERT_FILE names, if
/// it names one). HTTP/2 is taken where the server offers it.
pub(super) fn connector(files: &Pem) -> Result<TlsConnector, HostFault> {
    let wrong = |error: &dyn std::fmt::Display| HostFault::Config(format!("`tls` cannot be used: {error}"));
    let mut roots = RootCertStore::empty();
    match &files.ca {
        Some(ca) => {
            let read = certificates(ca).map_err(|error| wrong(&error))?;
            if roots.add_parsable_certificates(read).0 == 0 {
                return Err(wrong(&"`ca` holds no certificate of an authority"));
            }
        }
        None => {
            roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
        }
    }
    let algorithms = Arc::new(rustls::crypto::ring::default_provider());
    let config = ClientConfig::builder_with_provider(algorithms).with_safe_default_protocol_versions();
    let config = config.map_err(|error| wrong(&error))?.with_root_certificates(roots);
    let mut config = match &files.client {
        None => config.with_no_client_auth(),
        Some((certificate, key)) => {
            let chain = certificates(certificate).map_err(|error| wrong(&error))?;
            let key = PrivateKeyDer::from_pem_slice(key).map_err(|error| wrong(&error))?;
            config.with_client_auth_cert(chain, key).map_err(|error| wrong(&error))?
        }
    };
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(TlsConnector::from(Arc::new(config)))
}

fn certificates(pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, rustls::pki_types::pem::Error> {
    CertificateDer::pem_slice_iter(pem).collect()
}
