//! The primary that sentinels name.

use std::sync::atomic::{AtomicUsize, Ordering};

use cache_core::{Error, ErrorKind, Result};
use tokio::time::timeout;

use super::stream;
use super::wire::{Frame, Wire};
use crate::config::{Config, Endpoint, Secret, Sentinels};
use crate::error;

/// The sentinels, asked in turn, beginning with the one that answered last.
#[derive(Debug)]
pub(crate) struct Watchers {
    pub(super) sentinels: Sentinels,
    last: AtomicUsize,
}

impl Watchers {
    pub(crate) fn new(sentinels: Sentinels) -> Self {
        Self { sentinels, last: AtomicUsize::new(0) }
    }

    /// Where the primary is now, by the first sentinel that knows. Ends within the connect timeout and leaves a share
    /// of it for the connection to the primary.
    pub(crate) async fn primary(&self, config: &Config) -> Result<Endpoint> {
        let all = &self.sentinels.endpoints;
        let share = config.knobs.connect_timeout / u32::try_from(all.len() + 1).unwrap_or(u32::MAX);
        let first = self.last.load(Ordering::Relaxed);
        let mut fault: Option<Error> = None;
        for i in 0..all.len() {
            let i = (first + i) % all.len();
            let Some(sentinel) = all.get(i) else { continue };
            let asked = timeout(share, self.ask(sentinel, config)).await;
            let error = match asked {
                Ok(Ok(primary)) => {
                    self.last.store(i, Ordering::Relaxed);
                    return Ok(primary);
                }
                Ok(Err(error)) => error,
                Err(_) => error::io(&std::io::ErrorKind::TimedOut.into(), &sentinel.to_string()),
            };
            tracing::debug!(%sentinel, %error, "no answer from a sentinel");
            // one that answers has more to say than one that is away
            if fault.as_ref().is_none_or(|fault| fault.kind() == ErrorKind::Unavailable) {
                fault = Some(error);
            }
        }
        Err(match fault {
            Some(fault) if fault.kind() != ErrorKind::Unavailable => fault,
            Some(fault) => {
                let text = format!("no sentinel of {} answers; the last said: {}", all.len(), fault.message());
                error::fault(ErrorKind::Unavailable, text)
            }
            None => error::config("no sentinel is configured; set sentinels"),
        })
    }

    /// What one sentinel says. The caller bounds the time.
    pub(super) async fn ask(&self, sentinel: &Endpoint, config: &Config) -> Result<Endpoint> {
        let Sentinels { master, username, password, .. } = &self.sentinels;
        let lost = |e: &std::io::Error| error::io(e, &sentinel.to_string());
        let stream = stream::open(sentinel, config.tls.as_ref(), &config.knobs).await?;
        let mut wire = Wire::new(stream);
        let mut packed = login(username.as_deref(), password.as_ref());
        let logs_in = !packed.is_empty();
        packed.extend(redis::cmd("SENTINEL").arg("get-master-addr-by-name").arg(master).get_packed_command());
        wire.write(&packed).await.map_err(|e| lost(&e))?;
        let mut reply = wire.read().await.map_err(|e| lost(&e))?;
        if logs_in && matches!(reply, Frame::Line(_)) {
            reply = wire.read().await.map_err(|e| lost(&e))?;
        }
        match reply {
            Frame::Parts(parts) => match parts.as_slice() {
                [] => Err(error::config("the sentinels know no primary of this name; change master")),
                [host, port] => address(host, port).ok_or_else(|| error::unexpected("connect")),
                _ => Err(error::unexpected("connect")),
            },
            Frame::Error(text) => Err(refused(&text)),
            Frame::Line(_) => Err(error::unexpected("connect")),
        }
    }
}

/// The command that logs in; empty without a password.
pub(super) fn login(username: Option<&str>, password: Option<&Secret>) -> Vec<u8> {
    // with the name always, as HELLO does: without one a password that nobody asked for is refused
    let auth =
        |password: &Secret| redis::cmd("AUTH").arg(username.unwrap_or("default")).arg(&password.0).get_packed_command();
    password.map(auth).unwrap_or_default()
}

/// An address from a sentinel.
pub(super) fn address(host: &[u8], port: &[u8]) -> Option<Endpoint> {
    let host = std::str::from_utf8(host).ok().filter(|host| !host.is_empty())?;
    let port = std::str::from_utf8(port).ok()?.parse().ok()?;
    Some(Endpoint::Tcp { host: host.to_owned(), port })
}

fn refused(text: &[u8]) -> Error {
    let text = String::from_utf8_lossy(text);
    let error = error::server(text.split(' ').next().unwrap_or(""), &text);
    match error.kind() {
        ErrorKind::Denied => {
            let text = "a sentinel refused the login; set sentinel_username and sentinel_password";
            let denied = error::fault(ErrorKind::Denied, text);
            error.reply().map_or_else(|| denied.clone(), |reply| denied.clone().with_reply(reply))
        }
        ErrorKind::Config => error::config("the address is of a server, not of a sentinel; change sentinels"),
        _ => error,
    }
}
