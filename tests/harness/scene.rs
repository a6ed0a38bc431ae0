//! One history: servers, proxies, nodes, faults, and what came of it.

use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use cache_redis::testkit::{Proxy, Server};
use strata_tests::process::Process;

use crate::check::{Findings, check};
use crate::excuse::Takeover;
use crate::faults::{Fault, Stage};
use crate::record::read_all;
use crate::settings::{Settings, VARIABLE};
use crate::takeover::name_of;
use crate::topology::{Layout, Topology};

/// How long a node may take for anything.
const PATIENCE: Duration = Duration::from_secs(60);

/// What a history is made of.
#[derive(Clone, Debug)]
pub(crate) struct Plan {
    pub(crate) fault: Fault,
    pub(crate) seed: u64,
    pub(crate) seconds: f64,
    pub(crate) nodes: u16,
    pub(crate) bound: Duration,
    pub(crate) outage: Duration,
    pub(crate) mutation: Option<String>,
    pub(crate) layout: Layout,
}

/// How often a history is played at most.
const PLAYS: u32 = 4;

/// Plays a history and checks it; again, if a failover came unasked. What one does to the promises is judged where it is
/// known when it began.
pub(crate) async fn play(plan: &Plan) -> Result<Findings> {
    for _ in 1..PLAYS {
        let findings = once(plan).await?;
        if !findings.disturbed {
            return Ok(findings);
        }
        println!("    seed {}: the machine stood still, and servers failed over unasked; once more", plan.seed);
    }
    let findings = once(plan).await?;
    ensure!(!findings.disturbed, "servers fail over unasked: the machine is too busy");
    Ok(findings)
}

async fn once(plan: &Plan) -> Result<Findings> {
    let mut topology = Topology::spawn(plan.layout)?;
    let origin = Server::spawn().context("the origin's server")?;
    let dir = tempfile::tempdir()?;
    let mut rng = fastrand::Rng::with_seed(plan.seed);
    let (mut proxies, mut nodes, mut files) = (Vec::new(), Vec::new(), Vec::new());
    let tail = plan.bound.as_secs_f64() * 3.0;
    for process in 0..plan.nodes {
        let url = match topology.address() {
            Some(address) => {
                let proxy = Proxy::spawn(address).await?;
                let url = proxy.url();
                proxies.push(proxy);
                url
            }
            None => topology.url(),
        };
        let records = dir.path().join(process.to_string());
        let settings = Settings {
            process,
            nodes: plan.nodes,
            far: format!("{url}?timeout=300ms&grace=50ms&backoff_max=100ms&client_name={}", name_of(process)),
            origin: origin.url(),
            buckets: plan.layout.buckets(),
            bound_ms: u64::try_from(plan.bound.as_millis())?,
            outage_ms: u64::try_from(plan.outage.as_millis())?,
            seconds: plan.seconds,
            tail,
            hot: 8,
            sparse: 200,
            readers: 6,
            seed: rng.u64(..),
            slow_ms: 12,
            late_ms: plan.fault.late_ms(),
            harmed: plan.layout != Layout::Standalone,
            tags: !plan.fault.may_fail_over(plan.layout),
            mutation: plan.mutation.clone(),
            records: records.clone(),
        };
        nodes.push(Process::spawn("node", [(VARIABLE, serde_json::to_string(&settings)?)])?);
        files.push(records);
    }
    for node in &nodes {
        if node.line(PATIENCE)?.as_deref() != Some("ready") {
            bail!("a node did not get ready");
        }
    }
    let primaries = topology.primaries(plan.layout)?;
    for node in &mut nodes {
        node.send("go")?;
    }
    let takeovers = harass(plan, &mut topology, &proxies, &mut nodes, &mut rng, tail).await?;
    for node in &nodes {
        let said = tokio::task::block_in_place(|| node.line(PATIENCE))?;
        if !said.is_some_and(|line| line.starts_with("done")) {
            bail!("a node did not end");
        }
    }
    let histories = files.iter().map(|file| read_all(file)).collect::<Result<Vec<_>>>()?;
    let mut findings = check(&histories, plan.bound, plan.outage, takeovers);
    if plan.fault == Fault::None {
        findings.overloaded = findings.loads.beyond;
    }
    findings.leftovers = topology.servers().into_iter().map(leftovers).collect::<Result<Vec<_>>>()?.concat();
    findings.make = topology.make();
    findings.disturbed = plan.fault.keeps_primaries(plan.layout) && topology.primaries(plan.layout)? != primaries;
    Ok(findings)
}

/// Strikes at random moments until the quiet tail; the failovers that came of it.
async fn harass(
    plan: &Plan,
    topology: &mut Topology,
    proxies: &[Proxy],
    nodes: &mut [Process],
    rng: &mut fastrand::Rng,
    tail: f64,
) -> Result<Vec<Takeover>> {
    let end = tokio::time::Instant::now() + Duration::from_secs_f64(plan.seconds - tail);
    let mut stage = Stage { topology, proxies, nodes, bound: plan.bound, takeovers: Vec::new() };
    loop {
        // most of a history is judged in full
        let judged = stage.takeovers.last().map_or(Duration::ZERO, |last| last.excusing(plan.bound + plan.outage) * 2);
        let pause = plan.bound.mul_f64(0.5 + 2.0 * rng.f64()) + judged;
        if tokio::time::Instant::now() + pause + plan.fault.longest(plan.bound) > end {
            break;
        }
        tokio::time::sleep(pause).await;
        stage.strike(plan.fault, rng).await?;
    }
    Ok(stage.takeovers)
}

/// Keys without a ttl, and leases, that stand in the far store when everything is over: there must be none.
fn leftovers(server: &Server) -> Result<Vec<String>> {
    let mut found = Vec::new();
    for key in server.cli(&["KEYS", "*"])?.lines().filter(|key| !key.is_empty()) {
        // a replica shows what its primary has already dropped; asked for, it says so
        if server.cli(&["PTTL", key]).unwrap_or_default() == "-1" {
            found.push(format!("{key} has no ttl"));
        }
        if key.contains(":k:") && server.cli(&["GETRANGE", key, "2", "2"]).unwrap_or_default() == "L" {
            found.push(format!("{key} is still leased"));
        }
    }
    Ok(found)
}
