//! TLS with the checks that `sslmode` asks for.

use std::sync::Arc;

use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{CertificateError, ClientConfig, DigitallySignedStruct, Error, RootCertStore, SignatureScheme};
use tokio_postgres_rustls::MakeRustlsConnect;

use crate::address::{Check, Roots};
use crate::fault::ServerFault;

/// How connections are encrypted.
pub(crate) fn connector(check: &Check) -> Result<MakeRustlsConnect, ServerFault> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let algorithms = Arc::clone(&provider);
    let builder = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|source| ServerFault::TlsSetup { source })?
        .dangerous();
    let authority = match check {
        Check::Nothing => None,
        Check::Authority(roots) | Check::Full(roots) => {
            let store = Arc::new(trusted(roots)?);
            let verifier =
                WebPkiServerVerifier::builder_with_provider(store, Arc::clone(&algorithms)).build();
            Some(verifier.map_err(|_| ServerFault::NoRoots { place: place(roots) })?)
        }
    };
    let name = matches!(check, Check::Full(_));
    let verifier = Arc::new(Verifier { algorithms, authority, name });
    let mut config = builder.with_custom_certificate_verifier(verifier).with_no_client_auth();
    config.alpn_protocols = vec![b"postgresql".to_vec()];
    Ok(MakeRustlsConnect::new(config))
}

fn place(roots: &Roots) -> String {
    match roots {
        Roots::System => "this system's certificates".to_owned(),
        Roots::File(path) => path.display().to_string(),
    }
}

fn trusted(roots: &Roots) -> Result<RootCertStore, ServerFault> {
    let none = || ServerFault::NoRoots { place: place(roots) };
    let certificates: Vec<CertificateDer<'static>> = match roots {
        Roots::System => rustls_native_certs::load_native_certs().certs,
        Roots::File(path) => {
            let read = CertificateDer::pem_file_iter(path).map_err(|_| none())?;
            read.collect::<Result<_, _>>().map_err(|_| none())?
        }
    };
    let mut store = RootCertStore::empty();
    let (added, _) = store.add_parsable_certificates(certificates);
    if added == 0 { Err(none()) } else { Ok(store) }
}

/// Checks as much of a certificate as was asked for.
#[derive(Debug)]
struct Verifier {
    algorithms: Arc<CryptoProvider>,
    /// `None` believes everybody.
    authority: Option<Arc<WebPkiServerVerifier>>,
    /// Whether the name of the host counts.
    name: bool,
}

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let Some(authority) = &self.authority else { return Ok(ServerCertVerified::assertion()) };
        let verified =
            authority.verify_server_cert(end_entity, intermediates, server_name, ocsp_response, now);
        match verified {
            // The name is looked at last: the chain holds.
            Err(Error::InvalidCertificate(
                CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. },
            )) if !self.name => Ok(ServerCertVerified::assertion()),
            verified => verified,
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.algorithms.signature_verification_algorithms;
        verify_tls12_signature(message, certificate, signature, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.algorithms.signature_verification_algorithms;
        verify_tls13_signature(message, certificate, signature, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.signature_verification_algorithms.supported_schemes()
    }
}
