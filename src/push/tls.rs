//! Whom the sinks trust: what other programs on this machine trust, or what `SSL_CERT_FILE` names.
//!
//! In: the machine's certificates, read once. Out: settings for both clients. It checks nothing itself.

use std::sync::Arc;

use rustls::pki_types::CertificateDer;
use rustls::{ClientConfig, RootCertStore};
use ureq::tls::{Certificate, RootCerts, TlsConfig};

/// Certificates of authorities; none in an empty container, where every secure connection then fails.
#[derive(Clone, Debug, Default)]
pub(super) struct Trust(Arc<Vec<CertificateDer<'static>>>);

impl Trust {
    pub(super) fn of_machine() -> Trust {
        Trust(Arc::new(rustls_native_certs::load_native_certs().certs))
    }

    /// For HTTP.
    pub(super) fn ureq(&self) -> TlsConfig {
        let certificates = self.0.iter();
        let certificates: Vec<Certificate<'static>> = certificates
            .map(|cert| Certificate::from_der(cert).to_owned())
            .collect();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        TlsConfig::builder()
            .root_certs(RootCerts::Specific(Arc::new(certificates)))
            .unversioned_rustls_crypto_provider(provider)
            .build()
    }

    /// For gRPC, which is HTTP/2 and says so when the connection is made.
    pub(super) fn http2(&self) -> Arc<ClientConfig> {
        let mut roots = RootCertStore::empty();
        roots.add_parsable_certificates(self.0.iter().cloned());
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let mut config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .expect("ring has the ciphers of TLS 1.2 and 1.3")
            .with_root_certificates(roots)
            .with_no_client_auth();
        config.alpn_protocols = vec![b"h2".to_vec()];
        Arc::new(config)
    }
}
