//! Encryption, as far as `ssl-mode` asks for it.

use mysql_async::{Conn, DriverError, Error, IoError, Opts, OptsBuilder, SslOpts};
use rustls::CertificateError;

/// How much encryption is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Encryption {
    Disabled,
    Preferred,
    Required,
    VerifyCa,
    VerifyIdentity,
}

impl Encryption {
    pub(crate) fn named(name: &str) -> Option<Self> {
        match name.to_ascii_lowercase().replace('_', "-").as_str() {
            "disabled" => Some(Self::Disabled),
            "preferred" => Some(Self::Preferred),
            "required" => Some(Self::Required),
            "verify-ca" => Some(Self::VerifyCa),
            "verify-identity" => Some(Self::VerifyIdentity),
            _ => None,
        }
    }

    /// Connects. `authority` is the file of the certificates that are trusted instead of public ones.
    pub(crate) async fn dial(self, options: &OptsBuilder, authority: Option<&str>) -> Result<Conn, Error> {
        let plain = || Conn::new(Opts::from(options.clone()));
        // Who verifies nobody needs no authority.
        let authority = authority.filter(|_| matches!(self, Self::VerifyCa | Self::VerifyIdentity));
        let as_name = async |name: Option<String>| {
            let ssl = self.options(authority).with_danger_tls_hostname_override(name);
            Conn::new(Opts::from(options.clone().ssl_opts(ssl))).await
        };
        match self {
            Self::Disabled => plain().await,
            Self::Preferred => match as_name(None).await {
                Err(Error::Driver(DriverError::NoClientSslFlagFromServer)) => plain().await,
                dialled => dialled,
            },
            // The name is looked at last, once the authority is found good. The library cannot leave that out, so the
            // host is called what its certificate calls it.
            Self::VerifyCa => match as_name(None).await {
                Err(error) => match presented(&error) {
                    Some(name) => as_name(Some(name)).await,
                    None => Err(error),
                },
                dialled => dialled,
            },
            Self::Required | Self::VerifyIdentity => as_name(None).await,
        }
    }

    fn options(self, authority: Option<&str>) -> SslOpts {
        let authority = authority.map(|path| std::path::PathBuf::from(path).into());
        let verified = matches!(self, Self::VerifyCa | Self::VerifyIdentity);
        SslOpts::default()
            .with_disable_built_in_roots(authority.is_some())
            .with_root_certs(authority.into_iter().collect())
            .with_danger_accept_invalid_certs(!verified)
            .with_danger_skip_domain_validation(self != Self::VerifyIdentity)
    }
}

/// A name that a certificate has, which is good but for the name of the host.
fn presented(error: &Error) -> Option<String> {
    let Error::Io(IoError::Io(error)) = error else { return None };
    match error.get_ref()?.downcast_ref::<rustls::Error>()? {
        rustls::Error::InvalidCertificate(CertificateError::NotValidForNameContext { presented, .. }) => {
            presented.iter().find_map(|name| host(name))
        }
        _ => None,
    }
}

/// The host in `DnsName("*.db.example")`, one of those it stands for.
fn host(presented: &str) -> Option<String> {
    let name = presented.strip_prefix("DnsName(\"")?.strip_suffix("\")")?;
    Some(name.strip_prefix("*.").map_or_else(|| name.to_owned(), |domain| format!("any.{domain}")))
}

/// Whether it is the encryption that failed, rather than the network.
pub(crate) fn is_at_fault(error: &IoError) -> bool {
    use std::io::ErrorKind::{InvalidData, IsADirectory, NotFound, PermissionDenied};
    match error {
        IoError::Tls(_) => true,
        // What a certificate is refused for, or the file of the authority.
        IoError::Io(error) => {
            matches!(error.kind(), InvalidData | IsADirectory | NotFound | PermissionDenied)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_certificate_says_what_its_host_is_called() {
        assert_eq!(host("DnsName(\"localhost\")").as_deref(), Some("localhost"));
        assert_eq!(host("DnsName(\"*.db.example\")").as_deref(), Some("any.db.example"));
        assert_eq!(host("IpAddress(127.0.0.1)"), None);
    }
}
