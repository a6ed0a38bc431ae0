//! Other processes of the tour: this program again, told what to do over a pipe and heard over another.
//!
//! One JSON value a line. The setup goes over the pipe and not over the command line, where everybody could read the
//! far store's password. A child ends when its pipe does, so none outlives the tour.

use std::process::Stdio;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader, Lines, Stdin};
use tokio::process::{ChildStdin, ChildStdout, Command};

use crate::worker::{Findings, Setup, Shop, Times};

/// The argument that makes this program a child.
pub(crate) const ARGUMENT: &str = "child";

const TICK: Duration = Duration::from_millis(250);

#[derive(Serialize, Deserialize)]
enum Order {
    Open(Setup),
    Work(Times),
    Audit,
}

#[derive(Serialize, Deserialize)]
enum Reply {
    Ready,
    /// How many reads were answered so far.
    Done(u64),
    Worked,
    Found(Box<Findings>),
    Failed(String),
}

/// A child, as the process sees it that started it. Killed when dropped.
#[derive(Debug)]
pub(crate) struct Child {
    process: tokio::process::Child,
    orders: ChildStdin,
    replies: Lines<BufReader<ChildStdout>>,
    done: Arc<AtomicU64>,
}

impl Child {
    /// Starts a child and waits until it is ready.
    pub(crate) async fn start(setup: Setup) -> Result<Self> {
        let program = std::env::current_exe().context("finding this program")?;
        let mut command = Command::new(program);
        command.arg(ARGUMENT).stdin(Stdio::piped()).stdout(Stdio::piped()).kill_on_drop(true);
        let mut process = command.spawn().context("starting another process")?;
        let orders = process.stdin.take().context("no pipe to the child")?;
        let replies = BufReader::new(process.stdout.take().context("no pipe from the child")?).lines();
        let mut child = Self { process, orders, replies, done: Arc::default() };
        child.order(&Order::Open(setup)).await?;
        match child.reply().await? {
            Reply::Ready => Ok(child),
            _ => bail!("a child answered out of turn"),
        }
    }

    /// How many reads it has answered so far.
    pub(crate) fn done(&self) -> Arc<AtomicU64> {
        Arc::clone(&self.done)
    }

    /// Lets it work, to the end.
    pub(crate) async fn work(&mut self, times: Times) -> Result<()> {
        self.order(&Order::Work(times)).await?;
        match self.reply().await? {
            Reply::Worked => Ok(()),
            _ => bail!("a child answered out of turn"),
        }
    }

    /// Lets it audit itself; what it found. Then it ends.
    pub(crate) async fn audit(mut self) -> Result<Findings> {
        self.order(&Order::Audit).await?;
        let Reply::Found(findings) = self.reply().await? else { bail!("a child answered out of turn") };
        drop(self.orders);
        self.process.wait().await?;
        Ok(*findings)
    }

    async fn order(&mut self, order: &Order) -> Result<()> {
        let mut line = serde_json::to_vec(order)?;
        line.push(b'\n');
        self.orders.write_all(&line).await.context("a child has ended early")
    }

    /// The next reply that is no news of progress.
    async fn reply(&mut self) -> Result<Reply> {
        loop {
            let line = self.replies.next_line().await?.context("a child has ended early")?;
            match serde_json::from_str(&line)? {
                Reply::Done(count) => self.done.store(count, Ordering::Relaxed),
                Reply::Failed(text) => bail!("in another process: {text}"),
                reply => return Ok(reply),
            }
        }
    }
}

/// The whole life of a child.
pub(crate) async fn run() -> Result<()> {
    let mut orders = BufReader::new(tokio::io::stdin()).lines();
    if let Err(error) = obey(&mut orders).await {
        say(&Reply::Failed(format!("{error:#}"))).await?;
    }
    Ok(())
}

async fn obey(orders: &mut Lines<BufReader<Stdin>>) -> Result<()> {
    let Some(Order::Open(setup)) = next(orders).await? else { return Ok(()) };
    let shop = Shop::open(setup).await?;
    say(&Reply::Ready).await?;
    let Some(Order::Work(times)) = next(orders).await? else { return Ok(()) };
    let working = async {
        let work = shop.work(times);
        tokio::pin!(work);
        loop {
            tokio::select! {
                findings = &mut work => return findings,
                () = tokio::time::sleep(TICK) => say(&Reply::Done(shop.done())).await?,
            }
        }
    };
    let findings = tokio::select! {
        findings = working => findings?,
        // nothing is ordered while it works, so this is the end of the pipe
        order = next(orders) => match order? {
            None => return Ok(()),
            Some(_) => bail!("ordered something else while at work"),
        },
    };
    say(&Reply::Worked).await?;
    let Some(Order::Audit) = next(orders).await? else { return Ok(()) };
    say(&Reply::Found(Box::new(shop.audit(findings).await?))).await
}

async fn next(orders: &mut Lines<BufReader<Stdin>>) -> Result<Option<Order>> {
    match orders.next_line().await? {
        Some(line) => Ok(Some(serde_json::from_str(&line)?)),
        None => Ok(None),
    }
}

async fn say(reply: &Reply) -> Result<()> {
    let mut line = serde_json::to_vec(reply)?;
    line.push(b'\n');
    let mut out = tokio::io::stdout();
    out.write_all(&line).await?;
    Ok(out.flush().await?)
}
