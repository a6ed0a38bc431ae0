//! Where the servers are: one address, a socket, or whom to ask.

use url::Url;

use super::RedisBuilder;
use crate::config::{Endpoint, Sentinels, Topology};

/// The ports that servers and sentinels listen on by default.
pub(super) const SERVER: u16 = 6379;
pub(super) const SENTINEL: u16 = 26379;

const FORM: &str = "is a list of host or host:port";

/// Reads a list of addresses.
pub(super) fn list<'a>(texts: impl Iterator<Item = &'a str>, port: u16) -> Result<Vec<Endpoint>, &'static str> {
    texts.map(|text| address(text.trim(), port)).collect()
}

fn address(text: &str, default: u16) -> Result<Endpoint, &'static str> {
    if text.contains(['/', '?', '#', '@', '%']) {
        return Err(FORM);
    }
    let url = Url::parse(&format!("redis://{text}")).map_err(|_| FORM)?;
    let host = bare(url.host_str().unwrap_or(""));
    if !is_host(host) || url.port() == Some(0) {
        return Err(FORM);
    }
    Ok(Endpoint::Tcp { host: host.to_owned(), port: url.port().unwrap_or(default) })
}

/// A host without the brackets that an IPv6 address comes in.
pub(super) fn bare(host: &str) -> &str {
    host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host)
}

fn is_host(host: &str) -> bool {
    !host.is_empty() && !host.contains(|c: char| c.is_whitespace() || c.is_control() || c == ',')
}

/// The endpoint to begin with and how the servers are found.
pub(super) fn find(builder: &RedisBuilder, tls: bool, faults: &mut Vec<String>) -> (Endpoint, Topology) {
    if !builder.sentinels.is_empty() || builder.master.is_some() {
        return sentinels(builder, faults);
    }
    if builder.sentinel_username.is_some() || builder.sentinel_password.is_some() {
        faults.push("a sentinel login is set without sentinels; set sentinels and master".to_owned());
    }
    if builder.cluster {
        return cluster(builder, faults);
    }
    if let Some(path) = &builder.unix {
        if path.as_os_str().is_empty() {
            faults.push("the socket's path is empty; write redis+unix:///path/to/socket".to_owned());
        }
        if tls {
            faults.push("tls and a unix socket exclude each other; drop one".to_owned());
        }
        return (Endpoint::Unix(path.clone()), Topology::Single);
    }
    (server(builder, faults), Topology::Single)
}

fn server(builder: &RedisBuilder, faults: &mut Vec<String>) -> Endpoint {
    let host = builder.host.clone().unwrap_or_else(|| "localhost".to_owned());
    if !is_host(&host) {
        faults.push("host is not one host name or address".to_owned());
    }
    if builder.port == Some(0) {
        faults.push("port is 0; redis listens on 6379 by default".to_owned());
    }
    Endpoint::Tcp { host, port: builder.port.unwrap_or(SERVER) }
}

fn cluster(builder: &RedisBuilder, faults: &mut Vec<String>) -> (Endpoint, Topology) {
    if builder.unix.is_some() {
        faults.push("a cluster and a unix socket exclude each other; drop one".to_owned());
    }
    if builder.db.is_some_and(|db| db != 0) {
        faults.push("a cluster has only database 0; drop db".to_owned());
    }
    let mut nodes = builder.nodes.clone();
    if nodes.is_empty() {
        nodes.push(server(builder, faults));
    }
    let first = nodes.first().cloned().unwrap_or_else(|| server(builder, faults));
    (first, Topology::Cluster(nodes))
}

fn sentinels(builder: &RedisBuilder, faults: &mut Vec<String>) -> (Endpoint, Topology) {
    let master = builder.master.clone().unwrap_or_default();
    if master.is_empty() || master.contains(|c: char| c.is_whitespace() || c.is_control()) {
        let text = "master is not set to the name that the sentinels know the primary by; write host:26379/name";
        faults.push(text.to_owned());
    }
    if builder.unix.is_some() {
        faults.push("sentinels and a unix socket exclude each other; drop one".to_owned());
    }
    if builder.cluster {
        faults.push("sentinels and a cluster exclude each other; drop one".to_owned());
    }
    if builder.sentinel_username.is_some() && builder.sentinel_password.is_none() {
        faults.push("sentinel_username is set without sentinel_password; set both".to_owned());
    }
    let Some(first) = builder.sentinels.first() else {
        faults.push("master is set without sentinels; set both".to_owned());
        return (server(builder, &mut Vec::new()), Topology::Single);
    };
    let sentinels = Sentinels {
        endpoints: builder.sentinels.clone(),
        master,
        username: builder.sentinel_username.clone(),
        password: builder.sentinel_password.clone(),
    };
    (first.clone(), Topology::Sentinel(sentinels))
}

/// The hosts that are known before anybody was asked.
pub(super) fn hosts<'a>(endpoint: &'a Endpoint, topology: &'a Topology) -> Vec<&'a str> {
    let all = match topology {
        Topology::Single => std::slice::from_ref(endpoint),
        Topology::Sentinel(sentinels) => &sentinels.endpoints,
        Topology::Cluster(nodes) => nodes,
    };
    let host = |endpoint: &'a Endpoint| match endpoint {
        Endpoint::Tcp { host, .. } => Some(host.as_str()),
        Endpoint::Unix(_) => None,
    };
    all.iter().filter_map(host).collect()
}
