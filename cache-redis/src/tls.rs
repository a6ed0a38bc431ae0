//! TLS settings and what is made of them.

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;

use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, ring};
use rustls::{ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use tokio_rustls::TlsConnector;

use crate::config::Tls;

/// A certificate or key, in a file or in memory.
#[derive(Clone)]
pub(crate) enum Pem {
    File(PathBuf),
    Text(Vec<u8>),
}

impl fmt::Debug for Pem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(path) => write!(f, "{}", path.display()),
            Self::Text(_) => f.write_str("set"),
        }
    }
}

impl Pem {
    fn read(&self, option: &str) -> Result<Vec<u8>, String> {
        match self {
            Self::Text(text) => Ok(text.clone()),
            Self::File(path) => std::fs::read(path)
                .map_err(|error| format!("{option}: can't read {}: {}", path.display(), error.kind())),
        }
    }

    fn certificates(&self, option: &str) -> Result<Vec<CertificateDer<'static>>, String> {
        let pem = self.read(option)?;
        let certificates: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&pem).collect();
        match certificates {
            Ok(certificates) if !certificates.is_empty() => Ok(certificates),
            _ => Err(format!("{option}: no pem certificate in {self:?}")),
        }
    }

    fn key(&self, option: &str) -> Result<PrivateKeyDer<'static>, String> {
        let pem = self.read(option)?;
        PrivateKeyDer::from_pem_slice(&pem).map_err(|_| format!("{option}: no pem private key in {self:?}"))
    }
}

/// The TLS part of a builder.
#[derive(Clone, Debug, Default)]
pub(crate) struct Settings {
    pub(crate) ca: Option<Pem>,
    pub(crate) cert: Option<Pem>,
    pub(crate) key: Option<Pem>,
    pub(crate) server_name: Option<String>,
    pub(crate) verify: Option<bool>,
}

impl Settings {
    pub(crate) fn is_empty(&self) -> bool {
        let Self { ca, cert, key, server_name, verify } = self;
        ca.is_none() && cert.is_none() && key.is_none() && server_name.is_none() && verify.is_none()
    }

    /// Reads the files and builds the connector for `hosts`; pushes every mistake to `faults`.
    pub(crate) fn build(&self, hosts: &[&str], faults: &mut Vec<String>) -> Option<Tls> {
        let before = faults.len();
        let verified = self.verify.unwrap_or(true);
        let mut note = |fault: String| faults.push(fault);

        let roots = if verified { self.roots().map_err(&mut note).ok() } else { Some(RootCertStore::empty()) };
        let identity = match (&self.cert, &self.key) {
            (Some(cert), Some(key)) => {
                let cert = cert.certificates("cert").map_err(&mut note).ok();
                let key = key.key("key").map_err(&mut note).ok();
                cert.zip(key)
            }
            (None, None) => None,
            (Some(_), None) => {
                note("cert is set without key; set both".to_owned());
                None
            }
            (None, Some(_)) => {
                note("key is set without cert; set both".to_owned());
                None
            }
        };
        let mut named = |name: &str| {
            let name = ServerName::try_from(name.to_owned());
            name.map_err(|_| note("server_name is neither a host name nor an address".to_owned())).ok()
        };
        let server_name = self.server_name.as_deref().and_then(&mut named);
        if self.server_name.is_none() && !hosts.iter().all(|host| named(host).is_some()) {
            return None;
        }
        if faults.len() > before {
            return None;
        }

        let client_cert = identity.is_some();
        match client(roots?, verified, identity) {
            Ok(config) => {
                let connector = TlsConnector::from(Arc::new(config));
                Some(Tls { connector, server_name, verified, client_cert })
            }
            Err(fault) => {
                faults.push(fault);
                None
            }
        }
    }

    fn roots(&self) -> Result<RootCertStore, String> {
        let mut roots = RootCertStore::empty();
        match &self.ca {
            Some(ca) => {
                for certificate in ca.certificates("ca")? {
                    roots.add(certificate).map_err(|_| format!("ca: {ca:?} holds a certificate that is not valid"))?;
                }
            }
            None => {
                roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
                if roots.is_empty() {
                    return Err("tls: the system has no root certificates; set ca to a file".to_owned());
                }
            }
        }
        Ok(roots)
    }
}

type Identity = (Vec<CertificateDer<'static>>, PrivateKeyDer<'static>);

fn client(roots: RootCertStore, verified: bool, identity: Option<Identity>) -> Result<ClientConfig, String> {
    let provider = Arc::new(ring::default_provider());
    let builder = ClientConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()
        .map_err(|_| "tls: no protocol version".to_owned())?;
    let builder = if verified {
        let verifier = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider)
            .build()
            .map_err(|_| "ca: holds no usable certificate".to_owned())?;
        builder.with_webpki_verifier(verifier)
    } else {
        builder.dangerous().with_custom_certificate_verifier(Arc::new(Trusting(provider)))
    };
    match identity {
        None => Ok(builder.with_no_client_auth()),
        Some((certificates, key)) => builder
            .with_client_auth_cert(certificates, key)
            .map_err(|_| "key does not belong to cert, or is of an unknown kind".to_owned()),
    }
}

/// Trusts every certificate; what `verify=false` asks for. Signatures are still checked.
#[derive(Debug)]
struct Trusting(Arc<CryptoProvider>);

impl ServerCertVerifier for Trusting {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        rustls::crypto::verify_tls12_signature(message, cert, signature, &self.0.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        rustls::crypto::verify_tls13_signature(message, cert, signature, &self.0.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
