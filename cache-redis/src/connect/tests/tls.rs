//! TLS: who is trusted, who is let in.

use std::path::PathBuf;

use cache_core::testkit::PATIENT;
use cache_core::{CacheService, ErrorKind};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair};

use super::TTL;
use crate::Redis;
use crate::testkit::Server;

/// An authority with certificates in files.
struct Authority {
    dir: tempfile::TempDir,
    issuer: CertifiedIssuer<'static, KeyPair>,
}

impl Authority {
    fn new() -> Self {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        // two authorities of one name would be told apart only by their signatures
        let name = format!("authority {}", fastrand::u64(..));
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let issuer = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("ca.pem"), issuer.pem()).unwrap();
        Self { dir, issuer }
    }

    fn ca(&self) -> PathBuf {
        self.dir.path().join("ca.pem")
    }

    /// Issues a certificate for `name`; the paths of it and its key.
    fn issue(&self, name: &str) -> (PathBuf, PathBuf) {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(vec![name.to_owned()]).unwrap();
        params.distinguished_name.push(DnType::CommonName, name);
        let cert = params.signed_by(&key, &self.issuer).unwrap();
        let paths = (self.dir.path().join(format!("{name}.crt")), self.dir.path().join(format!("{name}.key")));
        std::fs::write(&paths.0, cert.pem()).unwrap();
        std::fs::write(&paths.1, key.serialize_pem()).unwrap();
        paths
    }

    fn server(&self, name: &str, clients: &str) -> Server {
        let (cert, key) = self.issue(name);
        Server::builder().tls(cert, key, self.ca()).args(&["--tls-auth-clients", clients]).spawn().unwrap()
    }
}

async fn works(redis: &Redis) {
    redis.set("a", "1".into(), TTL).await.unwrap();
    assert_eq!(redis.get("a").await.unwrap().as_deref(), Some(&b"1"[..]));
    redis.set("large", vec![1; 500_000].into(), TTL).await.unwrap();
    assert_eq!(redis.get("large").await.unwrap().map(|value| value.len()), Some(500_000));
    redis.link().subscribe(vec!["c".to_owned()]).await.unwrap();
}

#[tokio::test]
async fn the_servers_certificate_is_checked() {
    let authority = Authority::new();
    let server = authority.server("localhost", "no");
    let url = format!("rediss://localhost:{}?{PATIENT}", server.port());
    let trusting = format!("{url}&ca={}", authority.ca().display());
    works(&Redis::connect(&trusting).await.unwrap()).await;
    let pem = std::fs::read(authority.ca()).unwrap();
    works(&Redis::builder().url(&url).ca_pem(pem).connect().await.unwrap()).await;

    let stranger = Authority::new();
    let error = Redis::connect(format!("{url}&ca={}", stranger.ca().display())).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Config, "{error:?}");
    assert!(error.to_string().contains("issuer is unknown; set ca"), "{error}");
    // the system's authorities, if it has any, don't know it either
    let error = Redis::connect(&url).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Config, "{error:?}");
    // an explicit wish
    works(&Redis::connect(format!("{url}&verify=false")).await.unwrap()).await;
}

#[tokio::test]
async fn the_name_is_checked_and_can_be_set() {
    let authority = Authority::new();
    let server = authority.server("cache.example", "no");
    let url = format!("rediss://127.0.0.1:{}?{PATIENT}&ca={}", server.port(), authority.ca().display());
    let error = Redis::connect(&url).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Config, "{error:?}");
    assert!(error.to_string().contains("set server_name"), "{error}");
    works(&Redis::connect(format!("{url}&server_name=cache.example")).await.unwrap()).await;
}

#[tokio::test]
async fn client_certificates() {
    let authority = Authority::new();
    let server = authority.server("localhost", "yes");
    let (cert, key) = authority.issue("client");
    let url = format!("rediss://localhost:{}?{PATIENT}", server.port());
    let builder = Redis::builder().url(&url).ca(authority.ca());
    works(&builder.clone().identity(&cert, &key).connect().await.unwrap()).await;
    let (pem, pem_key) = (std::fs::read(&cert).unwrap(), std::fs::read(&key).unwrap());
    works(&builder.clone().identity_pem(pem.clone(), pem_key).connect().await.unwrap()).await;

    let error = builder.clone().connect().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Denied, "{error:?}");
    assert!(error.to_string().contains("set cert and key"), "{error}");

    let stranger = Authority::new();
    let (foreign, foreign_key) = stranger.issue("client");
    let error = builder.clone().identity(&foreign, &foreign_key).connect().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Denied, "{error:?}");
    let error = builder.identity(&cert, &foreign_key).build().unwrap_err();
    assert!(error.to_string().contains("key does not belong to cert"), "{error}");
}

#[tokio::test]
async fn the_wrong_kind_of_port_is_named() {
    let plain = Server::spawn().unwrap();
    let error =
        Redis::connect(format!("rediss://localhost:{}?{PATIENT}&verify=false", plain.port())).await.unwrap_err();
    assert!(error.to_string().contains("tls"), "{error}");
    let authority = Authority::new();
    let server = authority.server("localhost", "no");
    let error = Redis::connect(format!("redis://127.0.0.1:{}?{PATIENT}", server.port())).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable, "{error:?}");
}
