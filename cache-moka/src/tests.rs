//! What moka could do to us and must not. The promises of the contract are cases of the conformance suite.

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

mod near;
mod service;

const SECOND: Duration = Duration::from_secs(1);
const MINUTE: Duration = Duration::from_secs(60);

/// Runs `step` over and over for half a second while two threads run `watch`; a panic of either ends both.
fn race(watch: impl Fn() + Sync, mut step: impl FnMut()) {
    struct Over<'a>(&'a AtomicBool);
    impl Drop for Over<'_> {
        fn drop(&mut self) {
            self.0.store(true, Ordering::Relaxed);
        }
    }
    let over = AtomicBool::new(false);
    thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                let _over = Over(&over);
                while !over.load(Ordering::Relaxed) {
                    watch();
                }
            });
        }
        let _over = Over(&over);
        let deadline = Instant::now() + SECOND / 2;
        while Instant::now() < deadline && !over.load(Ordering::Relaxed) {
            for _ in 0..100 {
                step();
            }
        }
    });
}
