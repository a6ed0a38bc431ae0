//! Whether the servers are well, and what they say about themselves.

mod facts;
mod judge;

use std::collections::HashMap;
use std::fmt;
use std::net::IpAddr;
use std::time::Duration;

use cache_core::{ErrorKind, Result};
use futures_util::future::join_all;
use tokio::time::{Instant, timeout};

pub use facts::{Clients, Counts, Facts, Make, Memory, Persistence, Replication, Tracked};
pub use judge::{Problem, Severity};

use crate::Redis;
use crate::config::Endpoint;
use crate::connect::Node;
use judge::{is_public, judge};

/// How the servers are.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Health {
    /// How long the slowest server took for a sign of life; `None` if one gave none.
    pub ping: Option<Duration>,
    /// What is wrong, the worst first.
    pub problems: Vec<Problem>,
}

impl Health {
    /// Whether calls can be expected to succeed; there may be warnings.
    #[must_use]
    pub fn is_ok(&self) -> bool {
        self.ping.is_some() && self.problems.iter().all(|problem| problem.severity < Severity::Broken)
    }
}

impl fmt::Display for Health {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.ping {
            Some(ping) => write!(f, "{} after {} µs", if self.is_ok() { "ok" } else { "broken" }, ping.as_micros())?,
            None => f.write_str("broken: no sign of life")?,
        }
        self.problems.iter().try_for_each(|problem| write!(f, "\n{problem}"))
    }
}

impl Redis {
    /// Asks the server, or every primary of a cluster, for a sign of life; how long the slowest took. One round trip.
    ///
    /// # Errors
    /// `Unavailable` or `Timeout` if one gives none.
    pub async fn ping(&self) -> Result<Duration> {
        let began = Instant::now();
        let servers = self.link().servers();
        let ping = redis::cmd("PING");
        let all = servers.iter().map(|server| self.link().call_at::<redis::Value>(server, "ping", &ping));
        for answer in join_all(all).await {
            answer?;
        }
        Ok(began.elapsed())
    }

    /// What the server, or every primary of a cluster, says about itself. Two round trips each.
    ///
    /// # Errors
    /// `Denied` if the user may not ask (`+info`), `Unavailable` or `Timeout` if a server does not answer.
    pub async fn facts(&self) -> Result<Vec<Facts>> {
        let servers = self.link().servers();
        join_all(servers.iter().map(|server| self.facts_of(server))).await.into_iter().collect()
    }

    async fn facts_of(&self, server: &Node) -> Result<Facts> {
        let info: String = self.link().call_at(server, "facts", &redis::cmd("INFO")).await?;
        let mut config = HashMap::new();
        for name in ["maxclients", "tracking-table-max-keys"] {
            let mut get = redis::cmd("CONFIG");
            get.arg("GET").arg(name);
            // many users may not ask, and not every make has it
            let told: Result<HashMap<String, String>> = self.link().call_at(server, "facts", &get).await;
            config.extend(told.unwrap_or_default());
        }
        Ok(Facts::parse(server.connector().config.endpoint.to_string(), &info, &config))
    }

    /// Whether all is well, and what is not, in words. Never fails: what can't be found out is a problem of its own.
    /// Three round trips; ends within three timeouts.
    pub async fn health(&self) -> Health {
        let (ping, facts) = tokio::join!(self.ping(), self.facts());
        let broken = |text: String| Problem { severity: Severity::Broken, server: self.place(), text };
        let mut problems: Vec<Problem> = match &facts {
            Ok(facts) => facts.iter().flat_map(judge).collect(),
            Err(error) if error.kind() == ErrorKind::Denied => {
                let text = "the user may not ask for facts; allow +info".to_owned();
                vec![Problem { severity: Severity::Warning, server: self.place(), text }]
            }
            // the ping says it already
            Err(_) if ping.is_err() => Vec::new(),
            Err(error) => vec![broken(error.message().to_owned())],
        };
        if let Err(error) = &ping {
            problems.push(broken(error.message().to_owned()));
        }
        problems.extend(self.exposed().await);
        problems.sort_by_key(|problem| std::cmp::Reverse(problem.severity));
        Health { ping: ping.ok(), problems }
    }

    /// What was wrong when this handle connected, in words; each was also logged as a warning. Empty if the user may not
    /// ask. [`health`](Self::health) looks anew.
    #[must_use]
    pub fn warnings(&self) -> &[Problem] {
        self.noticed()
    }

    /// The problems at connect. They never keep a program from starting.
    pub(crate) async fn look_around(&self) -> Vec<Problem> {
        let span = self.link().config().knobs.timeout;
        let looking = async {
            let mut found: Vec<Problem> = self.facts().await.unwrap_or_default().iter().flat_map(judge).collect();
            found.extend(self.exposed().await);
            found
        };
        let found = timeout(span, looking).await.unwrap_or_default();
        for problem in &found {
            tracing::warn!(server = problem.server, "{}", problem.text);
        }
        found
    }

    fn place(&self) -> String {
        self.link().config().endpoint.to_string()
    }

    /// The problem of a server that anybody can reach and use.
    async fn exposed(&self) -> Option<Problem> {
        let config = self.link().config();
        let Endpoint::Tcp { host, port } = &config.endpoint else { return None };
        if config.password.is_some() || config.tls.as_ref().is_some_and(|tls| tls.client_cert) {
            return None;
        }
        let public = match host.parse::<IpAddr>() {
            Ok(address) => is_public(address),
            Err(_) => {
                let found = timeout(config.knobs.timeout, tokio::net::lookup_host((host.as_str(), *port))).await;
                found.ok()?.ok()?.any(|address| is_public(address.ip()))
            }
        };
        public.then(|| Problem {
            severity: Severity::Warning,
            server: self.place(),
            text:
                "it is on a public address and takes calls without a password; set one (requirepass, or an acl), and \
                   use tls"
                    .to_owned(),
        })
    }
}

#[cfg(all(test, feature = "testkit"))]
mod tests;
