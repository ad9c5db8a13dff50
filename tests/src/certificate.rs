//! A throw-away certificate authority, by the `openssl` program.

use crate::run;
use rustls::ServerConfig;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use tempfile::TempDir;

const CONFIG: &str = "
[req]
distinguished_name = name
[name]
[ca]
default_ca = authority
[authority]
database = index
new_certs_dir = .
serial = serial
default_md = sha256
policy = anything
unique_subject = no
[anything]
commonName = supplied
[root]
basicConstraints = critical, CA:TRUE
keyUsage = critical, keyCertSign
[plain]
basicConstraints = critical, CA:TRUE
subjectKeyIdentifier = hash
authorityKeyIdentifier = keyid:always, issuer
[server]
basicConstraints = critical, CA:FALSE
extendedKeyUsage = serverAuth
";

/// An authority that only those trust who are told to.
#[derive(Debug)]
pub struct Authority {
    directory: TempDir,
}

impl Authority {
    /// Makes one.
    pub fn new() -> Self {
        let directory = tempfile::tempdir_in("/var/tmp").expect("/var/tmp is writable");
        let authority = Self { directory };
        fs::write(authority.path("config"), CONFIG).unwrap();
        authority.key("root");
        authority.sign("root", "Throw-away authority", "root", "20200101", "20991231", "");
        authority
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// The file with its certificate, for `SSL_CERT_FILE`.
    pub fn file(&self) -> PathBuf {
        self.path("root.pem")
    }

    /// A server's certificate that is good for 127.0.0.1 and localhost.
    pub fn good(&self) -> ServerConfig {
        self.issue("good", "IP:127.0.0.1,DNS:localhost", "20991231")
    }

    /// A server's certificate whose time is over.
    pub fn expired(&self) -> ServerConfig {
        self.issue("expired", "IP:127.0.0.1,DNS:localhost", "20210101")
    }

    /// A good certificate of another server.
    pub fn of_another_host(&self) -> ServerConfig {
        self.issue("elsewhere", "DNS:elsewhere.example", "20991231")
    }

    /// A server's certificate that only the server itself has signed.
    pub fn self_signed(&self) -> ServerConfig {
        self.key("alone");
        let names = "subjectAltName = IP:127.0.0.1";
        self.sign("alone", "alone", "alone", "20200101", "20991231", names);
        self.server("alone")
    }

    /// A certificate that the server itself has signed, for 127.0.0.1 or `names`, valid until a day (`20991231`), as plain
    /// `openssl req -x509` makes it; and the file with it.
    pub fn plain_self_signed(&self, names: &str, until: &str) -> (ServerConfig, PathBuf) {
        self.key("plain");
        let names = format!("subjectAltName = {names}");
        self.sign("plain", "plain", "plain", "20200101", until, &names);
        (self.server("plain"), self.path("plain.pem"))
    }

    fn issue(&self, name: &str, names: &str, until: &str) -> ServerConfig {
        self.key(name);
        let names = format!("subjectAltName = {names}");
        self.sign(name, name, "root", "20200101", until, &names);
        self.server(name)
    }

    fn openssl(&self, line: &str, more: &[&str]) {
        let directory = self.directory.path().to_str().unwrap().to_owned();
        let mut arguments = vec!["--chdir".to_owned(), directory, "openssl".to_owned()];
        arguments.extend(line.split(' ').map(str::to_owned));
        arguments.extend(more.iter().map(ToString::to_string));
        run("env", arguments);
    }

    fn key(&self, name: &str) {
        let line = format!("ecparam -name prime256v1 -genkey -noout -out {name}.key");
        self.openssl(&line, &[]);
    }

    fn sign(&self, name: &str, subject: &str, by: &str, from: &str, until: &str, names: &str) {
        let subject = format!("/CN={subject}");
        let line = format!("req -new -config config -key {name}.key -out {name}.csr -subj");
        self.openssl(&line, &[&subject]);
        let kind = if ["root", "plain"].contains(&name) { name } else { "server" };
        // Names go into the section of their kind.
        let config = CONFIG.replace(&format!("[{kind}]\n"), &format!("[{kind}]\n{names}\n"));
        fs::write(self.path("config"), config).unwrap();
        fs::write(self.path("index"), "").unwrap();
        let signer = if name == by { "-selfsign".to_owned() } else { format!("-cert {by}.pem") };
        self.openssl(
            &format!(
                "ca -batch -notext -config config -rand_serial -extensions {kind} {signer} \
                 -keyfile {by}.key -startdate {from}000000Z -enddate {until}000000Z -in {name}.csr \
                 -out {name}.pem"
            ),
            &[],
        );
    }

    fn server(&self, name: &str) -> ServerConfig {
        let certificate = read_certificate(&self.path(&format!("{name}.pem")));
        let key = PrivateKeyDer::from_pem_file(self.path(&format!("{name}.key"))).expect("a key");
        ServerConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
            .with_safe_default_protocol_versions()
            .expect("ring knows TLS 1.2 and 1.3")
            .with_no_client_auth()
            .with_single_cert(vec![certificate], key)
            .expect("key and certificate belong together")
    }
}

impl Default for Authority {
    fn default() -> Self {
        Self::new()
    }
}

fn read_certificate(path: &Path) -> CertificateDer<'static> {
    CertificateDer::from_pem_file(path).expect("a certificate")
}
