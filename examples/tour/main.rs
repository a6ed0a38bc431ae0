//! A tour: a small shop whose catalogue stands in a database and is read by many tasks through the cache, while
//! others change it. With a Redis server two processes share the far tier. Every read is checked.
//!
//! ```text
//! cargo run --release --example tour
//! cargo run --release --example tour -- --seconds 60 --trace web12.txt.gz
//! ```
//!
//! Without a server it runs on the embedded default. It ends with a summary, and with an error if a promise was broken.

mod catalogue;
mod child;
mod ledger;
mod report;
mod worker;
mod workload;

use std::fs::{self, File};
use std::io::IsTerminal;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use cache_redis::testkit::Server;
use clap::{Parser, Subcommand};
use futures_util::future::try_join_all;
use indicatif::{ProgressBar, ProgressFinish, ProgressStyle};

use crate::catalogue::{Catalogue, PRODUCTS};
use crate::child::Child;
use crate::ledger::now;
use crate::report::{Report, Run, count};
use crate::worker::{Setup, Shop, Times};

/// A shop's catalogue behind the cache, every read checked.
#[derive(Parser)]
struct Arguments {
    /// How long to read and write.
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u64).range(1..=3600))]
    seconds: u64,
    /// Tasks that read, in each process.
    #[arg(long, default_value_t = 64, value_parser = clap::value_parser!(u16).range(1..=4096))]
    tasks: u16,
    /// Tasks that change products and invalidate them, in each process.
    #[arg(long, default_value_t = 2, value_parser = clap::value_parser!(u16).range(0..=64))]
    writers: u16,
    /// A file of keys to read in that order, one a line, plain or gzip; else by Zipf's law.
    #[arg(long)]
    trace: Option<PathBuf>,
    /// The far store to use, instead of the variable REDIS_URL or a redis-server started for the tour.
    #[arg(long)]
    redis_url: Option<String>,
    /// How many processes share the far store; 2 with a far store, else 1.
    #[arg(long, value_parser = clap::value_parser!(u8).range(1..=16))]
    processes: Option<u8>,
    /// The near store's budget in each process, in MiB.
    #[arg(long, default_value_t = 16, value_parser = clap::value_parser!(u32).range(1..=65536))]
    near_mib: u32,
    /// Where the catalogue is kept; else below the build's target directory.
    #[arg(long)]
    data: Option<PathBuf>,
    #[command(subcommand)]
    role: Option<Role>,
}

#[derive(Subcommand)]
enum Role {
    /// Another process of a tour; started by it.
    #[command(hide = true, name = child::ARGUMENT)]
    Child,
}

#[tokio::main]
async fn main() -> ExitCode {
    let arguments = Arguments::parse();
    if let Some(Role::Child) = arguments.role {
        return ended(child::run().await.map(|()| true));
    }
    let mut stop = std::pin::pin!(interrupted());
    // what the tour started is held by the tour's future, and ends when that is dropped
    let outcome = tokio::select! {
        biased;
        () = &mut stop => None,
        outcome = tour(arguments) => Some(outcome),
    };
    match outcome {
        // the terminal interrupts the other processes too, and they may have been faster
        Some(Err(_)) if tokio::time::timeout(Duration::from_millis(200), stop).await.is_ok() => {}
        Some(outcome) => return ended(outcome),
        None => {}
    }
    eprintln!("\ninterrupted");
    ExitCode::from(130)
}

fn ended(outcome: Result<bool>) -> ExitCode {
    match outcome {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("the tour could not be finished: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// The whole tour; whether every promise held.
async fn tour(arguments: Arguments) -> Result<bool> {
    let data = arguments.data.unwrap_or_else(default_data);
    fs::create_dir_all(&data).with_context(|| format!("making {}", data.display()))?;
    let _alone = alone(&data)?;
    let far = Far::find(arguments.redis_url).await?;
    let processes = usize::from(arguments.processes.unwrap_or(if far.url.is_some() { 2 } else { 1 }));
    ensure!(processes == 1 || far.url.is_some(), "{processes} processes need a far store; install redis-server");
    build(&data).await?;

    let (start, start_ms) = (now(), cache_strata::core::Clock::system().unix_ms());
    let setup = |index| Setup {
        index,
        tasks: arguments.tasks.into(),
        writers: arguments.writers.into(),
        near_bytes: u64::from(arguments.near_mib) << 20,
        data: data.clone(),
        trace: arguments.trace.clone(),
        far: far.url.clone(),
        // what an earlier tour left in the far store is none of ours
        namespace: format!("tour-{start_ms:x}-{}", std::process::id()),
        start,
        start_ms,
    };
    let shop = Shop::open(setup(0)).await?;
    let mut children = try_join_all((1..processes).map(|index| Child::start(setup(index)))).await?;

    let stampede = now() + 300_000_000;
    let begin = stampede + 400_000_000;
    let span = Duration::from_secs(arguments.seconds);
    let times = Times { stampede, begin, end: begin + u64::try_from(span.as_nanos())? };
    let done = children.iter().map(Child::done).collect();
    let working =
        async { tokio::try_join!(shop.work(times), try_join_all(children.iter_mut().map(|child| child.work(times)))) };
    let (own, _) = tokio::select! {
        worked = working => worked?,
        never = progress(shop, done, times) => match never {},
    };
    if processes > 1 {
        println!("waiting for the bound to pass, then reading everything that was changed once more");
        tokio::time::sleep(shop.bound()).await;
    }
    let mut found = vec![shop.audit(own).await?];
    found.extend(try_join_all(children.into_iter().map(Child::audit)).await?);

    let run = Run {
        tasks: arguments.tasks.into(),
        writers: arguments.writers.into(),
        near_bytes: u64::from(arguments.near_mib) << 20,
        far: far.what.clone(),
        workload: shop.workload().to_owned(),
        bound: shop.bound(),
        took: span,
    };
    let report = Report::new(run, found)?;
    println!("\n{report}");
    Ok(report.is_good())
}

/// The far store of the tour, if there is one.
struct Far {
    url: Option<String>,
    /// What it is, for people.
    what: Option<String>,
    /// Killed when dropped.
    _server: Option<Server>,
}

impl Far {
    async fn find(url: Option<String>) -> Result<Self> {
        let set = url.or_else(|| std::env::var("REDIS_URL").ok().filter(|url| !url.is_empty()));
        if let Some(url) = set {
            println!("far store: the server that was named");
            return Ok(Self { url: Some(url), what: Some("the server that was named".to_owned()), _server: None });
        }
        let started = tokio::task::spawn_blocking(|| {
            let server = Server::spawn()?;
            let make = server.make()?;
            Ok::<_, std::io::Error>((server, format!("{} {}", make.name, make.version)))
        });
        match started.await? {
            Ok((server, what)) => {
                println!("far store: {what}, started for the tour");
                Ok(Self { url: Some(server.url()), what: Some(what), _server: Some(server) })
            }
            Err(error) => {
                println!("far store: none ({error})");
                println!("so the tour runs embedded, in one process; with a server it runs two that share it");
                Ok(Self { url: None, what: None, _server: None })
            }
        }
    }
}

async fn build(data: &Path) -> Result<()> {
    let place = data.to_owned();
    println!("catalogue: {} products in {}", count(PRODUCTS.into()), data.display());
    let bar = ProgressBar::new_spinner().with_message("building it, once");
    bar.enable_steady_tick(Duration::from_millis(100));
    let built = tokio::task::spawn_blocking(move || Catalogue::build(&place)).await??;
    bar.finish_and_clear();
    if built {
        println!("catalogue: built, and kept for the next tour");
    }
    Ok(())
}

/// Shows how far it is, for ever.
async fn progress(shop: &'static Shop, others: Vec<Arc<AtomicU64>>, times: Times) -> std::convert::Infallible {
    let terminal = std::io::stderr().is_terminal();
    let every = if terminal { Duration::from_millis(100) } else { Duration::from_secs(2) };
    let bar = ProgressBar::new((times.end - times.begin) / 1_000_000).with_finish(ProgressFinish::AndClear);
    if let Ok(style) = ProgressStyle::with_template("{wide_bar} {msg}") {
        bar.set_style(style);
    }
    loop {
        tokio::time::sleep(every).await;
        let reads = shop.done() + others.iter().map(|done| done.load(Ordering::Relaxed)).sum::<u64>();
        let passed = now().saturating_sub(times.begin) / 1_000_000;
        if terminal {
            bar.set_position(passed.min(bar.length().unwrap_or(0)));
            bar.set_message(format!("{} reads", count(reads)));
        } else if now() < times.end {
            println!("{:>4} s  {} reads", passed / 1000, count(reads));
        }
    }
}

/// The lock on `data`: another tour's changes would look like lost invalidations here.
fn alone(data: &Path) -> Result<File> {
    let lock = File::create(data.join("lock"))?;
    match lock.try_lock() {
        Ok(()) => Ok(lock),
        Err(fs::TryLockError::WouldBlock) => bail!("another tour runs on {}; wait, or use --data", data.display()),
        Err(fs::TryLockError::Error(error)) => Err(error).context("locking the catalogue"),
    }
}

/// `target/tour` for a program below `target/<profile>/examples`, else a directory for temporary files.
fn default_data() -> PathBuf {
    let program = std::env::current_exe().unwrap_or_default();
    let examples = program.parent().filter(|dir| dir.ends_with("examples"));
    match examples.and_then(|dir| dir.ancestors().nth(2)) {
        Some(target) => target.join("tour"),
        None => std::env::temp_dir().join("strata-tour"),
    }
}

async fn interrupted() {
    #[cfg(unix)]
    {
        use tokio::signal::unix::{SignalKind, signal};
        let Ok(mut end) = signal(SignalKind::terminate()) else { return };
        tokio::select! {
            _ = tokio::signal::ctrl_c() => {}
            _ = end.recv() => {}
        }
    }
    #[cfg(not(unix))]
    {
        let _ = tokio::signal::ctrl_c().await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// One process alone: another one would be this test's program, not the tour's.
    #[tokio::test(flavor = "multi_thread")]
    async fn a_short_tour_holds() -> Result<()> {
        let data = tempfile::tempdir()?;
        let dir = data.path().to_str().context("a path in UTF-8")?;
        let words = ["tour", "--seconds", "1", "--tasks", "16", "--processes", "1", "--data", dir];
        ensure!(tour(Arguments::try_parse_from(words)?).await?);
        Ok(())
    }
}
