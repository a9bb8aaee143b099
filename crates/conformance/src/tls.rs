//! Certificates that a test signs itself, with the `openssl` command.

use std::path::{Path, PathBuf};
use std::process::Command;

/// An authority of a test's own: `ca.pem` in its folder, and pairs `NAME.pem` and `NAME.key` that it signed.
pub struct Authority(PathBuf);

impl Authority {
    /// Makes one in an empty folder, with a pair for a `server` on loopback and one for a `client`.
    ///
    /// Panics where `openssl` is missing, with the command that installs it.
    pub fn new(folder: &Path) -> Self {
        let authority = Self(folder.to_owned());
        let settings = "[req]\ndistinguished_name = name\nprompt = no\n[name]\n\
             [authority]\nbasicConstraints = critical, CA:TRUE\nkeyUsage = critical, keyCertSign, cRLSign\n\
             [member]\nbasicConstraints = critical, CA:FALSE\nkeyUsage = critical, digitalSignature\n\
             extendedKeyUsage = serverAuth, clientAuth\nsubjectAltName = IP:127.0.0.1, DNS:localhost\n";
        std::fs::write(folder.join("settings"), settings).unwrap();
        authority
            .openssl(&request("ca", &["-x509", "-days", "2", "-extensions", "authority", "-out", "ca.pem"]));
        for name in ["server", "client"] {
            let csr = format!("{name}.csr");
            authority.openssl(&request(name, &["-out", &csr]));
            let signed = format!(
                "x509 -req -days 2 -in {csr} -CA ca.pem -CAkey ca.key -CAcreateserial -extfile settings -extensions member -out {name}.pem"
            );
            authority.openssl(&signed.split(' ').map(str::to_owned).collect::<Vec<_>>());
        }
        authority
    }

    /// A file of it, for instance `ca.pem` or `client.key`.
    pub fn file(&self, name: &str) -> String {
        self.0.join(name).to_str().unwrap().to_owned()
    }

    fn openssl(&self, arguments: &[String]) {
        let output = Command::new("openssl").current_dir(&self.0).args(arguments).output();
        let output = output.expect("this test needs openssl; on Debian: apt-get install openssl");
        assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    }
}

/// A request for a new key of this name.
fn request(name: &str, more: &[&str]) -> Vec<String> {
    // Whose name is that of the authority signed itself, for some.
    let (key, subject) = (format!("{name}.key"), format!("/CN=the {name} of a test"));
    let mut all = vec!["req", "-new", "-config", "settings", "-nodes", "-newkey", "ec"];
    all.extend(["-pkeyopt", "ec_paramgen_curve:P-256", "-subj", &subject, "-keyout", &key]);
    all.extend(more);
    all.into_iter().map(str::to_owned).collect()
}
