//! Policies for things that many applications cache.

use std::time::Duration;

use super::{FailSafe, Policy, Refresh};

const MINUTE: Duration = Duration::from_secs(60);
const HOUR: Duration = Duration::from_secs(3600);

/// Starting points; each is a plain policy to be changed as needed.
impl Policy {
    /// User sessions: 24 hours from the last read; near for a minute at most.
    ///
    /// ```
    /// use std::time::Duration;
    /// use cache_tiered::Policy;
    ///
    /// let sessions = Policy::sessions();
    /// assert_eq!(sessions.ttl, Duration::from_secs(24 * 3600));
    /// assert_eq!(sessions.near_ttl, Some(Duration::from_secs(60)));
    /// // a read prolongs once a quarter of the ttl has passed, and sends no value
    /// assert_eq!(sessions.sliding.unwrap().after, 0.25);
    /// assert!(sessions.fail_safe.is_none(), "a session that ended stays ended");
    /// ```
    pub fn sessions() -> Self {
        Self::hours(24).near_ttl(MINUTE).sliding()
    }

    /// User profiles: 5 minutes, refreshed ahead; a day of fail-safe.
    ///
    /// ```
    /// use std::time::Duration;
    /// use cache_tiered::{Policy, Refresh};
    ///
    /// let profiles = Policy::profiles();
    /// assert_eq!(profiles.ttl, Duration::from_secs(5 * 60));
    /// assert_eq!(profiles.refresh, Some(Refresh::After(0.8)));
    /// let fail_safe = profiles.fail_safe.unwrap();
    /// assert_eq!(fail_safe.span, Duration::from_secs(24 * 3600));
    /// assert_eq!(fail_safe.throttle, Duration::from_secs(30), "one try in this time by all processes together");
    /// ```
    pub fn profiles() -> Self {
        Self::minutes(5).refresh_ahead(0.8).fail_safe(FailSafe::default())
    }

    /// Lists and front pages: 1 minute, refreshed as they are asked for; an hour of fail-safe and little patience.
    ///
    /// ```
    /// use std::time::Duration;
    /// use cache_tiered::{Policy, Refresh};
    ///
    /// let lists = Policy::lists();
    /// assert_eq!(lists.ttl, Duration::from_secs(60));
    /// // the longer a list takes to load, the earlier it is loaded again
    /// assert_eq!(lists.refresh, Some(Refresh::Early(1.0)));
    /// assert_eq!(lists.fail_safe.unwrap().span, Duration::from_secs(3600));
    /// assert_eq!(lists.timeouts.soft, Some(Duration::from_millis(500)), "then the old list is served");
    /// ```
    pub fn lists() -> Self {
        Self::minutes(1).refresh_ahead(Refresh::Early(1.0)).fail_safe(HOUR).soft_timeout(Duration::from_millis(500))
    }

    /// Search results: 30 seconds, an empty result for 5.
    ///
    /// ```
    /// use std::time::Duration;
    /// use cache_tiered::Policy;
    ///
    /// let search = Policy::search();
    /// assert_eq!(search.ttl, Duration::from_secs(30));
    /// assert_eq!(search.negative_ttl, Duration::from_secs(5));
    /// ```
    pub fn search() -> Self {
        Self::seconds(30).negative(Duration::from_secs(5))
    }

    /// Metadata that rarely changes: 1 hour, refreshed ahead; a day of fail-safe.
    ///
    /// ```
    /// use std::time::Duration;
    /// use cache_tiered::{Policy, Refresh};
    ///
    /// let metadata = Policy::metadata();
    /// assert_eq!(metadata.ttl, Duration::from_secs(3600));
    /// assert_eq!(metadata.refresh, Some(Refresh::After(0.9)));
    /// assert_eq!(metadata.fail_safe.unwrap().span, Duration::from_secs(24 * 3600));
    /// ```
    pub fn metadata() -> Self {
        Self::hours(1).refresh_ahead(0.9).fail_safe(FailSafe::default())
    }

    /// Playback and signed links: 30 minutes, never past it; near for 5 minutes at most.
    ///
    /// ```
    /// use std::time::Duration;
    /// use cache_tiered::Policy;
    ///
    /// let playback = Policy::playback();
    /// assert_eq!(playback.ttl, Duration::from_secs(30 * 60));
    /// assert_eq!(playback.near_ttl, Some(Duration::from_secs(5 * 60)));
    /// assert!(playback.fail_safe.is_none(), "a link past its time opens nothing");
    /// ```
    pub fn playback() -> Self {
        Self::minutes(30).near_ttl(5 * MINUTE)
    }
}
