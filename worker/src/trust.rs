//! Whom connections trust: the certificates of the system, and where it has none, as in an image made from nothing, those
//! of Mozilla's list, which the program brings along.

use std::path::Path;
use std::sync::{Arc, LazyLock};
use webpki_root_certs::TLS_SERVER_ROOT_CERTS;

/// Also looks where `SSL_CERT_FILE` and `SSL_CERT_DIR` say.
static SYSTEM_HAS_NONE: LazyLock<bool> = LazyLock::new(|| {
    let has_none = rustls_native_certs::load_native_certs().certs.is_empty();
    if has_none {
        tracing::info!("this system has no certificates of authorities: the program's own are used");
    }
    has_none
});

/// The program's own certificates, if they are needed.
fn brought_along() -> impl Iterator<Item = &'static [u8]> {
    let needed: &[_] = if *SYSTEM_HAS_NONE { TLS_SERVER_ROOT_CERTS } else { &[] };
    needed.iter().map(AsRef::as_ref)
}

/// For inputs that are fetched by URL.
pub fn http(builder: reqwest::ClientBuilder) -> reqwest::ClientBuilder {
    let certificates = brought_along().map(reqwest::Certificate::from_der);
    builder.tls_certs_merge(certificates.collect::<Result<Vec<_>, _>>().expect("the list has good certificates"))
}

/// For the store.
pub fn store(options: object_store::ClientOptions) -> object_store::ClientOptions {
    brought_along().fold(options, |options, certificate| {
        let certificate = object_store::Certificate::from_der(certificate).expect("the list has good certificates");
        options.with_root_certificate(certificate)
    })
}

/// For NATS: by the authorities in this file, where one is told.
pub fn nats(options: async_nats::ConnectOptions, ca: Option<&Path>) -> async_nats::ConnectOptions {
    if let Some(ca) = ca {
        return options.add_root_certificates(ca.to_owned());
    }
    if !*SYSTEM_HAS_NONE {
        return options;
    }
    let mut roots = rustls::RootCertStore::empty();
    roots.add_parsable_certificates(TLS_SERVER_ROOT_CERTS.iter().cloned());
    let config = rustls::ClientConfig::builder_with_provider(Arc::new(rustls::crypto::aws_lc_rs::default_provider()));
    let config = config.with_safe_default_protocol_versions().expect("the provider has them");
    options.tls_client_config(config.with_root_certificates(roots).with_no_client_auth())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_certificate_of_the_list_can_be_used() {
        assert!(TLS_SERVER_ROOT_CERTS.len() > 100, "{}", TLS_SERVER_ROOT_CERTS.len());
        let mut roots = rustls::RootCertStore::empty();
        let (_, unusable) = roots.add_parsable_certificates(TLS_SERVER_ROOT_CERTS.iter().cloned());
        assert_eq!(unusable, 0);
        for certificate in TLS_SERVER_ROOT_CERTS {
            reqwest::Certificate::from_der(certificate).expect("good for HTTP");
            object_store::Certificate::from_der(certificate).expect("good for the store");
        }
    }
}
