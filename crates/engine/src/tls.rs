//! The files that an encrypted connection needs beside what the system trusts.

use std::path::{Path, PathBuf};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Files of certificates (PEM), as a pipeline file names them.
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Tls {
    /// A file with the certificates of authorities to trust, where those of the system do not do.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ca: Option<PathBuf>,
    /// A file with the certificate by which the server knows this client. Needs `key`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub certificate: Option<PathBuf>,
    /// A file with the key of `certificate`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key: Option<PathBuf>,
}

/// What the files hold.
#[derive(Clone, Default)]
pub struct Pem {
    /// Certificates of authorities.
    pub ca: Option<Vec<u8>>,
    /// The client's certificate and its key.
    pub client: Option<(Vec<u8>, Vec<u8>)>,
}

/// Files that cannot be used. No text shows what is in them.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// One of a pair.
    #[error("`certificate` and `key` of `tls` need each other")]
    Half,
    /// The address asks for no encryption.
    #[error("there is `tls`, and the address does not ask for it")]
    Plain,
    /// A file could not be read.
    #[error("{path} cannot be read: {source}", path = path.display())]
    Unread {
        /// Which.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// A file holds something else.
    #[error("{path} holds no {what} (PEM)", path = path.display())]
    Empty {
        /// Which.
        path: PathBuf,
        /// What it should hold.
        what: &'static str,
    },
}

impl Tls {
    /// Reads the files, for an address that `is_encrypted`, or not.
    pub fn read(tls: Option<&Self>, is_encrypted: bool) -> Result<Pem, TlsError> {
        let Some(tls) = tls else { return Ok(Pem::default()) };
        if !is_encrypted {
            return Err(TlsError::Plain);
        }
        let ca = tls.ca.as_deref().map(|path| holding(path, "CERTIFICATE", "certificate")).transpose()?;
        let client = match (&tls.certificate, &tls.key) {
            (Some(certificate), Some(key)) => Some((
                holding(certificate, "CERTIFICATE", "certificate")?,
                holding(key, "PRIVATE KEY", "key")?,
            )),
            (None, None) => None,
            _ => return Err(TlsError::Half),
        };
        Ok(Pem { ca, client })
    }
}

fn holding(path: &Path, mark: &str, what: &'static str) -> Result<Vec<u8>, TlsError> {
    let path = path.to_owned();
    match std::fs::read(&path) {
        Err(source) => Err(TlsError::Unread { path, source }),
        Ok(bytes) if String::from_utf8_lossy(&bytes).contains(mark) => Ok(bytes),
        Ok(_) => Err(TlsError::Empty { path, what }),
    }
}

/// Whether the words of a failed connection are about its encryption: a certificate that is not trusted, a client that
/// has shown none, a server that speaks plain text.
pub fn is_about(said: &str) -> bool {
    let said = said.to_lowercase();
    ["certificate", "corrupt message", "fatal alert", "handshake", "invalidcontenttype"]
        .iter()
        .any(|words| said.contains(words))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_named_must_be_there() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        std::fs::write(path("ca"), "-----BEGIN CERTIFICATE-----\n").unwrap();
        std::fs::write(path("key"), "-----BEGIN PRIVATE KEY-----\nsecret").unwrap();
        let tls = Tls { ca: Some(path("ca")), certificate: Some(path("ca")), key: Some(path("key")) };
        let pem = Tls::read(Some(&tls), true).unwrap();
        assert!(pem.ca.is_some() && pem.client.is_some());
        assert!(matches!(Tls::read(Some(&tls), false), Err(TlsError::Plain)));
        assert!(Tls::read(None, false).unwrap().ca.is_none());
        let half = Tls { key: None, ..tls.clone() };
        assert!(matches!(Tls::read(Some(&half), true), Err(TlsError::Half)));
        for (wrong, words) in [
            (Tls { ca: Some(path("none")), ..tls.clone() }, "none cannot be read"),
            (Tls { ca: Some(path("key")), ..tls.clone() }, "key holds no certificate"),
            (Tls { key: Some(path("ca")), ..tls }, "ca holds no key"),
        ] {
            let said = Tls::read(Some(&wrong), true).err().unwrap().to_string();
            assert!(said.contains(words) && !said.contains("secret"), "{said}");
        }
        assert!(is_about("invalid peer certificate: UnknownIssuer"));
        assert!(is_about("received fatal alert: CertificateRequired") && !is_about("Connection refused"));
    }
}
