//! Can a program change its tiers by its features alone? It can: `from_env` takes the best that is linked.
//!
//! ```text
//! cargo run --example swap_by_feature                                                       # moka
//! cargo run --example swap_by_feature --no-default-features --features tiered,bincode       # plain memory
//! REDIS_URL=redis://localhost cargo run --example swap_by_feature --features redis          # moka over Redis
//! ```

use std::io;
use std::time::Instant;

use anyhow::Result;
use cache_strata::{Loaded, Tier};

#[tokio::main]
async fn main() -> Result<()> {
    let tiers = cache_strata::from_env().await?;
    println!("{tiers:?}");

    let squares = tiers.cache::<u64>("swap_by_feature").keyed::<u64>().build()?;
    for round in 1..=2 {
        for n in 1..=3 {
            let begun = Instant::now();
            let square = async move || Ok::<_, io::Error>(Loaded::value(n * n));
            let answer = squares.load_with(&n, square).await?;
            let from = match answer.tier {
                Tier::Near => "near",
                Tier::Far => "far",
                Tier::Origin => "origin",
            };
            println!("round {round}: {n} squared is {:?}, from {from} in {:?}", answer.value, begun.elapsed());
        }
    }
    Ok(())
}

#[test]
fn it_runs() -> Result<()> {
    main()
}
