//! What is known about tags must never reach back further than what was kept.

use super::*;

struct Tags {
    server: Server,
    redis: Redis,
}

impl Tags {
    async fn up() -> Self {
        let (server, redis) = up().await;
        Self { server, redis }
    }

    async fn bump(&self, tag: u64, period: u64) -> u64 {
        self.redis.bump(&line(), NODE, tag, period, DAY).await.unwrap()
    }

    /// Another change in between, so that numbers differ.
    async fn step(&self) -> u64 {
        self.redis.change(&line(), NODE, &[K], Change::Delete).await.unwrap().n
    }

    async fn known(&self, period: u64) -> (u64, Vec<u64>) {
        let known = self.redis.generations(&line(), &[1, 2], period, DAY).await.unwrap();
        (known.floor, known.bumps)
    }

    fn evict(&self, period: u64) {
        self.server.cli(&["DEL", &format!("{{ns}}:tags:{period}")]).unwrap();
    }
}

#[tokio::test]
async fn a_period_continues_the_one_before() {
    let t = Tags::up().await;
    let start = t.step().await;
    assert_eq!(t.known(10).await, (start, vec![0, 0]));
    let one = t.bump(1, 10).await;
    assert_eq!(t.known(10).await, (start, vec![one, 0]));
    t.step().await;
    assert_eq!(t.known(11).await, (start, vec![one, 0]), "a reader opened the next period");
    let two = t.bump(2, 11).await;
    assert_eq!(t.known(11).await, (start, vec![one, two]));
    assert_eq!(t.known(10).await, (start, vec![one, two]), "a reader whose clock is behind");
    let three = t.bump(1, 12).await;
    let (floor, bumps) = t.known(12).await;
    assert!(start < floor && floor < two && bumps == [three, two], "the first period fell off: {floor} {bumps:?}");
    let ttl: u64 = t.redis.raw().pttl("{ns}:tags:12").await.unwrap();
    assert!(ttl > 47 * 3_600_000);
    assert!(t.server.cli(&["EXISTS", "{ns}:tags:10"]).unwrap() == "0", "what fell off is removed");
}

#[tokio::test]
async fn a_bump_opens_its_period_below_its_own_number() {
    let t = Tags::up().await;
    let before = t.step().await;
    let one = t.bump(1, 10).await;
    assert_eq!(t.known(10).await, (before, vec![one, 0]));
    // evicted at once, with no other change in between: the bump must not be taken for known
    t.bump(2, 9).await;
    let two = t.bump(1, 10).await;
    t.evict(10);
    let (floor, bumps) = t.known(10).await;
    assert!(floor >= two, "{floor} {two} {bumps:?}");
}

#[tokio::test]
async fn whatever_is_evicted_raises_the_floor() {
    for lost in [&[][..], &[10], &[11], &[12], &[10, 11], &[11, 12], &[10, 12], &[10, 11, 12]] {
        // clocks differ by less than a period: nobody reads 10 when 12 has begun
        for reader in [11, 12] {
            for again in [None, Some(11), Some(12)] {
                let t = Tags::up().await;
                t.step().await;
                let mut last = [0; 2];
                for (period, tag) in [(10, 1), (11, 2), (11, 1), (12, 2)] {
                    t.known(period).await;
                    t.step().await;
                    last[tag - 1] = t.bump(tag as u64, period).await;
                }
                lost.iter().for_each(|period| t.evict(*period));
                if let Some(period) = again {
                    t.bump(3, period).await;
                }
                let (floor, bumps) = t.known(reader).await;
                for (bump, last) in bumps.iter().zip(last) {
                    // either the last bump is known, or nothing loaded before it is judged
                    let safe = *bump == last || floor >= last;
                    assert!(safe, "lost {lost:?}, reader {reader}, again {again:?}: {floor} {bumps:?} {last}");
                }
            }
        }
    }
}

#[tokio::test]
async fn a_late_bump_goes_where_readers_will_look() {
    let t = Tags::up().await;
    t.step().await;
    t.known(10).await;
    t.known(11).await;
    let late = t.bump(1, 10).await;
    for reader in [10, 11] {
        assert_eq!(t.known(reader).await.1, [late, 0], "{reader}");
    }
    t.step().await;
    // the next period's readers look at 11 and later only
    assert_eq!(t.known(12).await.1, [late, 0]);
}

#[tokio::test]
async fn a_bump_without_number_forgets_everything() {
    let t = Tags::up().await;
    let one = t.bump(1, 10).await;
    t.known(10).await;
    t.server.cli(&["SET", "{ns}:seq", "text"]).unwrap();
    assert_eq!(t.bump(2, 10).await, 0);
    let (floor, bumps) = t.known(10).await;
    assert!(floor > one && bumps == [0, 0], "{floor} {bumps:?}");
    // a key that is no hash stands in the way: forgotten as well
    t.server.cli(&["SET", "{ns}:tags:10", "text"]).unwrap();
    let error = t.redis.generations(&line(), &[1], 10, DAY).await.unwrap_err();
    assert_eq!(error.reply(), Some(Reply::WrongType));
}
