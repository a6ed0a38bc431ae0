//! The stream under a connection: tcp, unix socket, or TLS over tcp.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use cache_core::{ErrorKind, Result};
use rustls_pki_types::ServerName;
use socket2::{SockRef, TcpKeepalive};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
#[cfg(unix)]
use tokio::net::UnixStream;
use tokio::time::timeout;

use crate::config::{Endpoint, Knobs, Tls};
use crate::error;

/// An open stream to a server.
pub(crate) enum Stream {
    Tcp(TcpStream),
    #[cfg(unix)]
    Unix(UnixStream),
    Tls(Box<tokio_rustls::client::TlsStream<TcpStream>>),
}

/// Opens a stream. The caller bounds the time.
pub(crate) async fn open(endpoint: &Endpoint, tls: Option<&Tls>, knobs: &Knobs) -> Result<Stream> {
    let place = endpoint.to_string();
    match endpoint {
        Endpoint::Tcp { host, port } => {
            let stream = dial(host, *port, &place, knobs.connect_timeout).await?;
            tune(&stream, knobs).map_err(|e| error::io(&e, &place))?;
            let Some(tls) = tls else { return Ok(Stream::Tcp(stream)) };
            let name = match &tls.server_name {
                Some(name) => name.clone(),
                None => ServerName::try_from(host.clone())
                    .map_err(|_| error::config(format!("{place} has no name for tls; set server_name")))?,
            };
            let stream = tls.connector.connect(name, stream).await.map_err(|e| tls_fault(&e, &place))?;
            Ok(Stream::Tls(Box::new(stream)))
        }
        #[cfg(unix)]
        Endpoint::Unix(path) => UnixStream::connect(path).await.map(Stream::Unix).map_err(|e| error::io(&e, &place)),
        #[cfg(not(unix))]
        Endpoint::Unix(_) => Err(error::config("unix sockets need a unix system")),
    }
}

/// Tries the host's addresses in turn, each for its share of the time, so that a dead first one leaves some to the
/// others.
async fn dial(host: &str, port: u16, place: &str, span: Duration) -> Result<TcpStream> {
    let unknown = || error::fault(ErrorKind::Unavailable, format!("host of {place} is unknown; check its name"));
    let addresses: Vec<_> = tokio::net::lookup_host((host, port)).await.map_err(|_| unknown())?.collect();
    let share = span / u32::try_from(addresses.len().max(1)).unwrap_or(u32::MAX);
    let mut last = None;
    for address in addresses {
        match timeout(share, TcpStream::connect(address)).await {
            Ok(Ok(stream)) => return Ok(stream),
            Ok(Err(cause)) => last = Some(error::io(&cause, place)),
            Err(_) => last = Some(error::io(&io::ErrorKind::TimedOut.into(), place)),
        }
    }
    Err(last.unwrap_or_else(unknown))
}

fn tune(stream: &TcpStream, knobs: &Knobs) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let socket = SockRef::from(stream);
    if !knobs.keepalive.is_zero() {
        let probe = (knobs.keepalive / 3).max(Duration::from_secs(1));
        let keepalive = TcpKeepalive::new().with_time(knobs.keepalive).with_interval(probe);
        #[cfg(not(target_os = "windows"))]
        let keepalive = keepalive.with_retries(3);
        socket.set_tcp_keepalive(&keepalive)?;
    }
    #[cfg(any(target_os = "linux", target_os = "android"))]
    if !knobs.user_timeout.is_zero() {
        socket.set_tcp_user_timeout(Some(knobs.user_timeout))?;
    }
    Ok(())
}

fn tls_fault(cause: &io::Error, place: &str) -> cache_core::Error {
    let Some(tls) = cause.get_ref().and_then(|e| e.downcast_ref::<rustls::Error>()) else {
        let text = format!("tls handshake with {place} broke off; check that the port speaks tls");
        return error::fault(ErrorKind::Unavailable, text);
    };
    let (kind, why) = match tls {
        rustls::Error::InvalidCertificate(why) => {
            let why = match why {
                rustls::CertificateError::UnknownIssuer | rustls::CertificateError::BadSignature => {
                    "its issuer is unknown; set ca to the certificate authority's file".to_owned()
                }
                rustls::CertificateError::NotValidForName | rustls::CertificateError::NotValidForNameContext { .. } => {
                    "it is for another name; set server_name to the certificate's name".to_owned()
                }
                rustls::CertificateError::Expired | rustls::CertificateError::ExpiredContext { .. } => {
                    "it has expired".to_owned()
                }
                _ => "it is not valid".to_owned(),
            };
            (ErrorKind::Config, format!("the server's certificate is refused: {why}"))
        }
        rustls::Error::AlertReceived(alert) => (
            ErrorKind::Denied,
            format!(
                "the server refused the tls handshake ({alert:?}); it may want a client certificate: set cert and key"
            ),
        ),
        rustls::Error::InvalidMessage(_) => {
            (ErrorKind::Config, "the server does not speak tls on this port; use redis:// or the tls port".to_owned())
        }
        _ => (ErrorKind::Unavailable, "tls handshake failed".to_owned()),
    };
    error::fault(kind, format!("{place}: {why}"))
}

/// A fault of TLS that shows only after the handshake, as with client certificates under TLS 1.3.
pub(crate) fn late_tls_fault(cause: &redis::RedisError, place: &str) -> Option<cache_core::Error> {
    let io = error::io_cause(cause)?;
    io.get_ref()?.downcast_ref::<rustls::Error>()?;
    Some(tls_fault(io, place))
}

macro_rules! each {
    ($self:ident, $stream:ident => $call:expr) => {
        match $self.get_mut() {
            Self::Tcp($stream) => $call,
            #[cfg(unix)]
            Self::Unix($stream) => $call,
            Self::Tls($stream) => $call,
        }
    };
}

impl AsyncRead for Stream {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        each!(self, stream => Pin::new(stream).poll_read(cx, buf))
    }
}

impl AsyncWrite for Stream {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        each!(self, stream => Pin::new(stream).poll_write(cx, buf))
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        each!(self, stream => Pin::new(stream).poll_flush(cx))
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        each!(self, stream => Pin::new(stream).poll_shutdown(cx))
    }
}
