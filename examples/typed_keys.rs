//! Must I format keys by hand? No: ids, pairs and triples are keys, and two different ones never meet.

use std::io;

use anyhow::{Result, ensure};
use cache_strata::{CacheKey, KeyText};

/// An id of the application's own.
struct UserId(u64);

impl CacheKey for UserId {
    fn write(&self, key: &mut KeyText) {
        self.0.write(key);
    }
}

#[tokio::main]
async fn main() -> Result<()> {
    let tiers = cache_strata::connect("memory:").await?;
    let users = tiers.cache::<String>("users").keyed::<UserId>().build()?;
    let baskets = tiers.cache::<Vec<u32>>("baskets").keyed::<(&str, u64)>().build()?;

    let user = users.get_or_load(&UserId(7), async || Ok::<_, io::Error>("Grace".to_owned())).await?;
    println!("user 7 is {user}");

    baskets.set(&("shop/eu", 7), vec![1, 2]).await?;
    baskets.set(&("shop", 7), vec![3]).await?;
    let both = baskets.get_many(&[&("shop/eu", 7), &("shop", 7), &("shop", 8)]).await;
    let mut sizes = Vec::new();
    for basket in both {
        sizes.push(basket?.map(|basket| basket.len()));
    }
    println!("baskets hold {sizes:?}");
    ensure!(sizes == [Some(2), Some(1), None], "a slash in a part is no separator");
    Ok(())
}

#[test]
fn it_runs() -> Result<()> {
    main()
}
