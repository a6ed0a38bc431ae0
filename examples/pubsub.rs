//! How do processes tell each other what happened? By typed messages; and who may have missed some is told that too.
//!
//! Embedded by default: `cargo run --example pubsub --features recipe`. Over a server, with the feature `redis`:
//! `REDIS_URL=redis://localhost:6379`.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Result, ensure};
use cache_strata::codec::Postcard;
use cache_strata::recipe::Topic;
use cache_strata::recipe::pubsub::{Event, Listening, Overflow};
use serde::{Deserialize, Serialize};
use tokio::time::{sleep, timeout};

#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct Order {
    id: u64,
    cents: u64,
}

#[tokio::main]
async fn main() -> Result<()> {
    let store = cache_strata::recipes_from_env().await?;
    let orders: Topic<Order> = Topic::new(Arc::clone(&store), "example.orders.eu", Postcard)?;

    // one that takes every order of every region, and one that may be slow: it sees the newest
    let mut all = Listening::<Order>::new(store, Postcard).pattern("example.orders.*").open().await?;
    let mut slow = orders.listening().buffer(2, 1 << 20).overflow(Overflow::DropOldest).open().await?;

    for id in 1..=5 {
        orders.publish(&Order { id, cents: 100 * id }).await?;
    }
    let mut sum = 0;
    while sum < 1500 {
        match timeout(Duration::from_secs(10), all.next()).await? {
            Some(Event::Message { value, .. }) => sum += value.cents,
            // messages are missing: this is the place to look at the orders themselves
            Some(Event::Gap { lost }) => println!("missed {lost:?}"),
            Some(other) => println!("{other:?}"),
            None => break,
        }
    }
    println!("five orders, {sum} cents");

    // let it fall behind by all five
    let behind = async {
        while slow.lost() < 3 {
            sleep(Duration::from_millis(1)).await;
        }
    };
    timeout(Duration::from_secs(10), behind).await?;
    let mut missed = 0;
    loop {
        match timeout(Duration::from_secs(10), slow.next()).await? {
            Some(Event::Gap { lost }) => missed += lost.unwrap_or(0),
            Some(Event::Message { value, .. }) => {
                println!("the slow one sees order {}", value.id);
                if value.id == 5 {
                    break;
                }
            }
            _ => break,
        }
    }
    println!("and was told of {missed} that it missed");
    ensure!(missed == 3 && slow.lost() == 3, "two fit into its buffer");
    Ok(())
}

#[test]
fn it_runs() -> Result<()> {
    main()
}
