//! What must hold of freshness and resilience over any far store: scenarios, run over memory here and over servers in
//! the workspace's own tests. Real time: the far store's clock is part of the matter.

#![allow(clippy::future_not_send, reason = "a scenario stays in the thread of its test")]

pub(crate) mod adaptive;
pub(crate) mod backoff;
pub(crate) mod conditional;
pub(crate) mod fail_safe;
pub(crate) mod refresh;
pub(crate) mod sliding;

use std::io;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use cache_core::{CacheService, codec::Raw, memory::LocalMemory};
use cache_tiered::{Answer, Cache, FailSafe, Loaded, Policy, Tiered};
use tokio::sync::watch;
use tokio::time::timeout;

/// How long values are fresh in a scenario.
pub(crate) const TTL: Duration = Duration::from_millis(250);

/// Longer than any scenario takes.
pub(crate) const LONG: Duration = Duration::from_secs(120);

/// Longer than anything should take.
const PATIENCE: Duration = Duration::from_secs(30);

/// Connects another process to the scenario's far store.
pub(crate) trait Far {
    fn connect(&self) -> impl Future<Output = Arc<dyn CacheService>>;
}

/// The scenarios, by name: `$with! { module::name; .. }`.
#[macro_export]
macro_rules! freshness_scenarios {
    ($with:ident) => {
        $with! {
            fail_safe::a_value_past_its_ttl_stands_in_for_a_failed_load_and_says_so;
            fail_safe::a_fleet_tries_a_failing_origin_once_a_throttle;
            fail_safe::the_origin_is_tried_again_after_the_throttle;
            fail_safe::what_was_invalidated_is_never_a_fallback;
            fail_safe::what_a_tag_invalidated_is_never_a_fallback;
            fail_safe::a_clear_then_fail_safe_never_serves_what_was_before;
            fail_safe::a_fallback_that_was_invalidated_holds_no_load_back;
            fail_safe::a_policy_without_fail_safe_is_served_no_fallback;
            fail_safe::a_fallback_is_found_in_the_far_store;
            fail_safe::a_late_load_goes_on_behind_the_fallback;
            fail_safe::a_load_in_the_background_does_not_overwrite_what_was_set_meanwhile;
            fail_safe::a_hung_load_gives_up_its_key_at_the_deadline;
            fail_safe::a_failed_load_leaves_no_lease;
            adaptive::a_loader_keeps_a_value_out_of_every_near_store;
            adaptive::a_loader_chooses_the_ttl_and_the_tags_from_the_value;
            backoff::callers_of_a_failing_origin_cost_one_call_a_pause;
            backoff::a_change_of_the_key_ends_the_pause;
            backoff::what_another_process_stored_is_found_in_the_pause;
            conditional::a_loader_that_sees_the_old_value_may_say_that_it_stands;
            conditional::unchanged_without_a_value_is_an_error;
            conditional::a_peek_leaves_no_trace;
            conditional::a_call_may_change_its_policy;
            refresh::nobody_waits_for_a_refresh;
            refresh::a_fleet_refreshes_once;
            refresh::a_refresh_renews_its_lease_for_as_long_as_it_runs;
            refresh::what_was_invalidated_during_a_refresh_is_not_stored;
            refresh::a_refresh_does_not_overwrite_what_others_stored_meanwhile;
            refresh::a_failed_refresh_leaves_the_value_as_it_is;
            refresh::a_fleet_tries_a_failing_refresh_once_a_throttle;
            refresh::a_failing_refresh_is_tried_again_after_the_pause;
            refresh::the_far_store_is_asked_before_the_origin;
            refresh::a_cache_without_a_near_store_is_refreshed_too;
            sliding::a_read_makes_the_ttl_count_anew_without_a_message;
        }
    };
}

/// A process of the scenario.
pub(crate) async fn node(far: &impl Far) -> Tiered {
    let far = far.connect().await;
    let near = LocalMemory::new(1 << 20);
    let builder = Tiered::builder().near(near).far(far).bound(Duration::from_secs(2));
    super::watched(builder.build().await.unwrap())
}

/// Its cache.
pub(crate) fn cache(node: &Tiered, policy: Policy) -> Cache<String> {
    node.cache("names").codec(Raw).policy(policy).build().unwrap()
}

/// Fresh for `TTL`, then a fallback for `LONG`, tried again after `throttle`.
pub(crate) fn safe(throttle: Duration) -> Policy {
    Policy::seconds(1).ttl(TTL).jitter(0.0).fail_safe(FailSafe::from(LONG).throttle(throttle))
}

/// What the origin does next.
#[derive(Clone)]
pub(crate) enum Now {
    Say(String),
    Fail,
    /// Nothing, until it is told otherwise.
    Hang,
}

/// An origin that counts its calls.
#[derive(Clone)]
pub(crate) struct Origin {
    now: Arc<watch::Sender<Now>>,
    calls: Arc<AtomicU32>,
    /// The most that ran at once.
    tags: Arc<Mutex<Option<&'static str>>>,
}

impl Origin {
    pub(crate) fn says(value: &str) -> Self {
        let now = Arc::new(watch::Sender::new(Now::Say(value.to_owned())));
        Self { now, calls: Arc::default(), tags: Arc::default() }
    }

    pub(crate) fn now(&self, now: Now) {
        self.now.send_replace(now);
    }

    pub(crate) fn say(&self, value: &str) {
        self.now(Now::Say(value.to_owned()));
    }

    /// With a tag on what it gives.
    pub(crate) fn tagged(self, tag: &'static str) -> Self {
        *self.tags.lock().unwrap() = Some(tag);
        self
    }

    /// How often it was asked.
    pub(crate) fn calls(&self) -> u32 {
        self.calls.load(Ordering::SeqCst)
    }

    async fn answer(self) -> io::Result<Loaded<String>> {
        self.calls.fetch_add(1, Ordering::SeqCst);
        let mut now = self.now.subscribe();
        let said = now.wait_for(|now| !matches!(now, Now::Hang)).await.expect("the origin lives").clone();
        match said {
            Now::Say(value) => {
                let tag = *self.tags.lock().unwrap();
                Ok(tag.into_iter().fold(Loaded::value(value), Loaded::tag))
            }
            Now::Fail | Now::Hang => Err(io::Error::other("the database is away")),
        }
    }

    /// Asks a cache for the key, with this origin behind it.
    pub(crate) async fn ask(&self, cache: &Cache<String>) -> cache_core::Result<Answer<String>> {
        let origin = self.clone();
        timeout(PATIENCE, cache.load_with("k", move || origin.answer())).await.expect("an answer in time")
    }

    /// As [`ask`](Self::ask), the value alone.
    pub(crate) async fn read(&self, cache: &Cache<String>) -> String {
        self.ask(cache).await.unwrap().value.unwrap().to_string()
    }
}

/// Waits until the value is past its ttl, in every process and in the far store.
pub(crate) async fn past_ttl() {
    // a whole ttl and some for the estimate of the far store's clock
    tokio::time::sleep(TTL + Duration::from_millis(150)).await;
}
