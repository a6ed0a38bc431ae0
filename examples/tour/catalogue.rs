//! The origin: a shop's catalogue in SQLite.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context, Result};
use rusqlite::{Connection, OpenFlags, OptionalExtension, params};
use serde::{Deserialize, Serialize};
use tokio::sync::Semaphore;

/// How many products there are to read.
pub(crate) const PRODUCTS: u32 = 100_000;
/// The product that is changed only to see how fast another process notices.
pub(crate) const PROBE: u32 = PRODUCTS + 1;

const WAREHOUSES: [&str; 2] = ["north", "south"];
const READERS: usize = 4;
const BUSY: Duration = Duration::from_secs(20);

const SCHEMA: &str = "
    CREATE TABLE category (id INTEGER PRIMARY KEY, name TEXT NOT NULL);
    CREATE TABLE product (
        id INTEGER PRIMARY KEY, category_id INTEGER NOT NULL REFERENCES category, name TEXT NOT NULL,
        description TEXT NOT NULL, version INTEGER NOT NULL, changed_ms INTEGER NOT NULL);
    CREATE TABLE price (product_id INTEGER PRIMARY KEY REFERENCES product, cents INTEGER NOT NULL);
    CREATE TABLE stock (
        product_id INTEGER NOT NULL REFERENCES product, warehouse TEXT NOT NULL, quantity INTEGER NOT NULL,
        PRIMARY KEY (product_id, warehouse)) WITHOUT ROWID;
    CREATE TABLE review (
        id INTEGER PRIMARY KEY, product_id INTEGER NOT NULL REFERENCES product, stars INTEGER NOT NULL,
        text TEXT NOT NULL);
    CREATE INDEX product_category ON product (category_id);
    CREATE INDEX review_product ON review (product_id);";

const LOAD: &str = "
    SELECT product.id, product.version, product.name, product.description, category.name, price.cents,
        (SELECT sum(quantity) FROM stock WHERE product_id = product.id), count(review.id), avg(review.stars)
    FROM product
        JOIN category ON category.id = product.category_id
        JOIN price ON price.product_id = product.id
        LEFT JOIN review ON review.product_id = product.id
    WHERE product.id = ?1
    GROUP BY product.id";

/// What a page of the shop shows.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Product {
    pub(crate) id: u32,
    /// Grows by one with every change of the product.
    pub(crate) version: u32,
    pub(crate) name: String,
    pub(crate) description: String,
    pub(crate) category: String,
    pub(crate) cents: i64,
    pub(crate) in_stock: i64,
    pub(crate) reviews: u32,
    pub(crate) stars: Option<f64>,
}

/// The catalogue as a service reads it: a few read-only connections, shared.
#[derive(Debug)]
pub(crate) struct Catalogue {
    path: PathBuf,
    idle: Mutex<Vec<Connection>>,
    permits: Arc<Semaphore>,
    queries: AtomicU64,
}

impl Catalogue {
    /// Builds the database file in `dir` unless it is there; says whether it did.
    pub(crate) fn build(dir: &Path) -> Result<bool> {
        let path = file(dir);
        if path.exists() {
            return Ok(false);
        }
        let draft = dir.join("draft.db");
        fs::remove_file(&draft).or_else(|e| if e.kind() == std::io::ErrorKind::NotFound { Ok(()) } else { Err(e) })?;
        fill(&draft).context("building the catalogue")?;
        fs::rename(&draft, &path)?;
        Ok(true)
    }

    /// The catalogue in `dir`.
    pub(crate) fn open(dir: &Path) -> Self {
        let permits = Arc::new(Semaphore::new(READERS));
        Self { path: file(dir), idle: Mutex::default(), permits, queries: AtomicU64::new(0) }
    }

    /// The product as the database has it now: one query. This is the loader.
    pub(crate) async fn load(&'static self, id: u32) -> Result<Product> {
        let permit = Arc::clone(&self.permits).acquire_owned().await?;
        self.queries.fetch_add(1, Ordering::Relaxed);
        let query = move || {
            let _permit = permit;
            let idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner).pop();
            let connection = idle.map_or_else(|| connect(&self.path, OpenFlags::SQLITE_OPEN_READ_ONLY), Ok)?;
            let product = query(&connection, id);
            self.idle.lock().unwrap_or_else(PoisonError::into_inner).push(connection);
            product?.with_context(|| format!("there is no product {id}"))
        };
        tokio::task::spawn_blocking(query).await?
    }

    /// How many queries loaders made.
    pub(crate) fn queries(&self) -> u64 {
        self.queries.load(Ordering::Relaxed)
    }

    /// Every product that was changed since `since_ms`, with its version.
    pub(crate) fn changed(&self, since_ms: u64) -> Result<Vec<(u32, u32)>> {
        let connection = connect(&self.path, OpenFlags::SQLITE_OPEN_READ_ONLY)?;
        let mut changed = connection.prepare("SELECT id, version FROM product WHERE changed_ms >= ?1")?;
        let rows = changed.query_map([i64::try_from(since_ms)?], |row| Ok((row.get(0)?, row.get(1)?)))?;
        Ok(rows.collect::<Result<_, _>>()?)
    }

    /// A connection that may change things.
    pub(crate) fn writer(&self) -> Result<Writer> {
        Ok(Writer(connect(&self.path, OpenFlags::SQLITE_OPEN_READ_WRITE)?))
    }
}

/// Changes products.
#[derive(Debug)]
pub(crate) struct Writer(Connection);

impl Writer {
    /// Gives a product a new price and moves its stock, in one transaction with the next version; returns that.
    pub(crate) fn change(&mut self, id: u32, now_ms: u64) -> Result<u32> {
        let transaction = self.0.transaction_with_behavior(rusqlite::TransactionBehavior::Immediate)?;
        let mut price = transaction.prepare_cached("UPDATE price SET cents = ?2 WHERE product_id = ?1")?;
        price.execute(params![id, fastrand::i64(99..100_000)])?;
        drop(price);
        let mut stock =
            transaction.prepare_cached("UPDATE stock SET quantity = ?3 WHERE product_id = ?1 AND warehouse = ?2")?;
        for warehouse in WAREHOUSES {
            stock.execute(params![id, warehouse, fastrand::u32(..500)])?;
        }
        drop(stock);
        let mut bump = transaction.prepare_cached(
            "UPDATE product SET version = version + 1, changed_ms = ?2 WHERE id = ?1 RETURNING version",
        )?;
        let version = bump.query_row(params![id, i64::try_from(now_ms)?], |row| row.get(0))?;
        drop(bump);
        transaction.commit()?;
        Ok(version)
    }
}

fn file(dir: &Path) -> PathBuf {
    dir.join("catalogue-1.db")
}

fn connect(path: &Path, mode: OpenFlags) -> Result<Connection> {
    let connection = Connection::open_with_flags(path, mode | OpenFlags::SQLITE_OPEN_NO_MUTEX)?;
    connection.busy_timeout(BUSY)?;
    connection.execute_batch("PRAGMA foreign_keys = ON; PRAGMA synchronous = NORMAL;")?;
    Ok(connection)
}

fn query(connection: &Connection, id: u32) -> rusqlite::Result<Option<Product>> {
    let product = |row: &rusqlite::Row<'_>| {
        Ok(Product {
            id: row.get(0)?,
            version: row.get(1)?,
            name: row.get(2)?,
            description: row.get(3)?,
            category: row.get(4)?,
            cents: row.get(5)?,
            in_stock: row.get(6)?,
            reviews: row.get(7)?,
            stars: row.get(8)?,
        })
    };
    connection.prepare_cached(LOAD)?.query_row([id], product).optional()
}

const WORDS: [&str; 16] = [
    "walnut", "lamp", "copper", "kettle", "linen", "chair", "blue", "teapot", "small", "desk", "woollen", "blanket",
    "round", "mirror", "oak", "shelf",
];

/// The same catalogue every time.
fn fill(path: &Path) -> Result<()> {
    let mut random = fastrand::Rng::with_seed(42);
    let mut connection = Connection::open(path)?;
    connection.execute_batch("PRAGMA journal_mode = OFF; PRAGMA synchronous = OFF; PRAGMA foreign_keys = OFF;")?;
    connection.execute_batch(SCHEMA)?;
    let transaction = connection.transaction()?;
    {
        let mut category = transaction.prepare("INSERT INTO category VALUES (?1, ?2)")?;
        for id in 0..64 {
            category.execute(params![id, format!("{} {}s", WORDS[id % 16], WORDS[(id * 7 + 3) % 16])])?;
        }
        let mut product = transaction.prepare("INSERT INTO product VALUES (?1, ?2, ?3, ?4, 1, 0)")?;
        let mut price = transaction.prepare("INSERT INTO price VALUES (?1, ?2)")?;
        let mut stock = transaction.prepare("INSERT INTO stock VALUES (?1, ?2, ?3)")?;
        let mut review = transaction.prepare("INSERT INTO review (product_id, stars, text) VALUES (?1, ?2, ?3)")?;
        let words = |random: &mut fastrand::Rng, count: usize| {
            let words: Vec<&str> = (0..count).map(|_| WORDS[random.usize(..16)]).collect();
            words.join(" ")
        };
        for id in 1..=PROBE {
            let (name, length) = (words(&mut random, 3), random.usize(10..60));
            product.execute(params![id, random.u32(..64), name, words(&mut random, length)])?;
            price.execute(params![id, random.i64(99..100_000)])?;
            for warehouse in WAREHOUSES {
                stock.execute(params![id, warehouse, random.u32(..500)])?;
            }
            for _ in 0..random.u32(..7) {
                review.execute(params![id, random.u32(1..=5), words(&mut random, 8)])?;
            }
        }
    }
    transaction.commit()?;
    let broken: u32 = connection.query_row("SELECT count(*) FROM pragma_foreign_key_check", [], |row| row.get(0))?;
    anyhow::ensure!(broken == 0, "{broken} rows point to nothing");
    let mode: String = connection.query_row("PRAGMA journal_mode = WAL", [], |row| row.get(0))?;
    anyhow::ensure!(mode == "wal", "the file system of {} allows no write-ahead log", path.display());
    Ok(())
}
