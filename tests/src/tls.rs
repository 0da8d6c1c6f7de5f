//! A certificate authority of a test's own, and servers that it vouches for.

use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use rustls::ServerConfig;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use tokio_rustls::TlsAcceptor;

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
