//! A certificate authority of a test's own, and servers that it vouches for.

use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use rustls::{ClientConfig, RootCertStore, ServerConfig};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use tokio::net::TcpStream;
use tokio_rustls::{TlsAcceptor, TlsConnector};

#[derive(Debug)]
pub struct Authority {
    issuer: Issuer<'static, KeyPair>,
    file: PathBuf,
}

impl Authority {
    /// Its certificate lies in `file`: who is told so by `SSL_CERT_FILE` trusts it, and nobody else.
    pub fn new(file: &Path) -> Authority {
        let key = KeyPair::generate().expect("a key");
        let mut parameters = CertificateParams::new(Vec::new()).expect("no names");
        parameters.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let certificate = parameters.self_signed(&key).expect("its own signature");
        std::fs::write(file, certificate.pem()).expect("the test's folder is writable");
        Authority { issuer: Issuer::new(parameters, key), file: file.to_owned() }
    }

    pub fn file(&self) -> String {
        self.file.display().to_string()
    }

    /// A certificate for a server that answers to this name, and its key, in files.
    pub fn issue(&self, name: &str, chain: &Path, key: &Path) {
        let pair = KeyPair::generate().expect("a key");
        let certificate = CertificateParams::new(vec![name.to_owned()]).expect("a name");
        let certificate = certificate.signed_by(&pair, &self.issuer).expect("signed");
        std::fs::write(key, pair.serialize_pem()).expect("the test's folder is writable");
        std::fs::write(chain, certificate.pem()).expect("the test's folder is writable");
    }

    /// What is spoken at a port of `localhost`, where its server is vouched for by this authority; the client offers this.
    pub async fn greeted(&self, port: u16, offered: &str) -> Option<String> {
        let mut roots = RootCertStore::empty();
        let file = CertificateDer::from_pem_file(&self.file).expect("its certificate is there");
        roots.add(file).expect("a certificate");
        let mut config = ClientConfig::builder().with_root_certificates(roots).with_no_client_auth();
        config.alpn_protocols = vec![offered.as_bytes().to_vec()];
        let socket = TcpStream::connect(("127.0.0.1", port)).await.expect("it listens");
        let name = "localhost".try_into().expect("a name");
        let socket = TlsConnector::from(Arc::new(config)).connect(name, socket).await.ok()?;
        socket.get_ref().1.alpn_protocol().map(|spoken| String::from_utf8_lossy(spoken).into_owned())
    }

    /// For a server that answers to this name.
    pub fn acceptor(&self, name: &str) -> TlsAcceptor {
        let key = KeyPair::generate().expect("a key");
        let certificate = CertificateParams::new(vec![name.to_owned()]).expect("a name");
        let certificate = certificate.signed_by(&key, &self.issuer).expect("signed");
        let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der()));
        let certificates = vec![CertificateDer::from(certificate.der().to_vec())];
        let config = ServerConfig::builder().with_no_client_auth().with_single_cert(certificates, key);
        TlsAcceptor::from(Arc::new(config.expect("the key is the certificate's")))
    }
}
