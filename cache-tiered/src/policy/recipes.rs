//! Policies for things that many applications cache.

use std::time::Duration;

use super::{FailSafe, Policy, Refresh};

const MINUTE: Duration = Duration::from_secs(60);
const HOUR: Duration = Duration::from_secs(3600);

/// Starting points; each is a plain policy to be changed as needed.
impl Policy {
    /// User sessions: 24 hours from the last read; near for a minute at most.
    pub fn sessions() -> Self {
        Self::hours(24).near_ttl(MINUTE).sliding()
    }

    /// User profiles: 5 minutes, refreshed ahead; a day of fail-safe.
    pub fn profiles() -> Self {
        Self::minutes(5).refresh_ahead(0.8).fail_safe(FailSafe::default())
    }

    /// Lists and front pages: 1 minute, refreshed as they are asked for; an hour of fail-safe and little patience.
    pub fn lists() -> Self {
        Self::minutes(1).refresh_ahead(Refresh::Early(1.0)).fail_safe(HOUR).soft_timeout(Duration::from_millis(500))
    }

    /// Search results: 30 seconds, an empty result for 5.
    pub fn search() -> Self {
        Self::seconds(30).negative(Duration::from_secs(5))
    }

    /// Metadata that rarely changes: 1 hour, refreshed ahead; a day of fail-safe.
    pub fn metadata() -> Self {
        Self::hours(1).refresh_ahead(0.9).fail_safe(FailSafe::default())
    }

    /// Playback and signed links: 30 minutes, never past it; near for 5 minutes at most.
    pub fn playback() -> Self {
        Self::minutes(30).near_ttl(5 * MINUTE)
    }
}
