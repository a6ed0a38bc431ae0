//! Windows of time, a key each.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use crate::{Error, ErrorKind, Result};

/// Seconds from the first Monday of 1970 back to its first day, a Thursday.
const MONDAY: u64 = 4 * DAY;
const DAY: u64 = 24 * 3600;

/// Windows of time that follow each other, in UTC: a board, or a counter, a window.
///
/// The application's clock says which window it is, so around its end two machines may write to different ones.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Window {
    seconds: u64,
    /// When the first one begins, in seconds after the Unix epoch; less than a window.
    offset: u64,
}

impl Window {
    /// From hour to hour.
    #[must_use]
    pub const fn hourly() -> Self {
        Self { seconds: 3600, offset: 0 }
    }

    /// From midnight to midnight.
    #[must_use]
    pub const fn daily() -> Self {
        Self { seconds: DAY, offset: 0 }
    }

    /// From Monday to Monday.
    #[must_use]
    pub const fn weekly() -> Self {
        Self { seconds: 7 * DAY, offset: MONDAY }
    }

    /// Windows of `span`, from the Unix epoch on.
    ///
    /// # Errors
    /// `Invalid` if `span` is zero or no whole number of seconds.
    pub fn every(span: Duration) -> Result<Self> {
        if span.as_secs() == 0 || span.subsec_nanos() != 0 {
            return Err(Error::new(ErrorKind::Invalid, "a window is a whole number of seconds, at least one"));
        }
        Ok(Self { seconds: span.as_secs(), offset: 0 })
    }

    /// The key of `name` in the window that holds `at`: `name:20261120T000000Z`, by the window's begin. Of times
    /// before 1970, and in the piece of a window after, all are in one.
    #[must_use]
    pub fn key(&self, name: &str, at: SystemTime) -> String {
        let now = at.duration_since(UNIX_EPOCH).map_or(0, |span| span.as_secs());
        let start = now.checked_sub(self.offset).map_or(0, |since| now - since % self.seconds);
        let (year, month, day) = civil(start / DAY);
        let (hour, minute, second) = (start / 3600 % 24, start / 60 % 60, start % 60);
        format!("{name}:{year:04}{month:02}{day:02}T{hour:02}{minute:02}{second:02}Z")
    }

    /// The ttl with which what is made in a window is there until `more` windows after its end.
    #[must_use]
    pub fn ttl(&self, more: u32) -> Duration {
        Duration::from_secs(self.seconds.saturating_mul(1 + u64::from(more)))
    }
}

/// Year, month and day of a day after 1970-01-01, in the Gregorian calendar, by years that begin in March.
fn civil(days: u64) -> (u64, u64, u64) {
    let days = days + 719_468;
    let (era, of_era) = (days / 146_097, days % 146_097);
    let year = (of_era - of_era / 1_460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year + year / 4 - year / 100);
    let month = (5 * of_year + 2) / 153;
    let day = of_year - (153 * month + 2) / 5 + 1;
    let month = if month < 10 { month + 3 } else { month - 9 };
    (era * 400 + year + u64::from(month <= 2), month, day)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64) -> SystemTime {
        UNIX_EPOCH + Duration::from_secs(seconds)
    }

    #[test]
    fn a_window_is_named_by_its_begin() {
        // as date(1) has them
        for (seconds, hour, day, week) in [
            (0, "19700101T000000Z", "19700101T000000Z", "19700101T000000Z"),
            (951_827_696, "20000229T120000Z", "20000229T000000Z", "20000228T000000Z"),
            (1_709_251_199, "20240229T230000Z", "20240229T000000Z", "20240226T000000Z"),
            (1_735_689_599, "20241231T230000Z", "20241231T000000Z", "20241230T000000Z"),
            (1_735_689_600, "20250101T000000Z", "20250101T000000Z", "20241230T000000Z"),
            (4_102_444_800, "21000101T000000Z", "21000101T000000Z", "20991228T000000Z"),
        ] {
            assert_eq!(Window::hourly().key("n", at(seconds)), format!("n:{hour}"), "{seconds}");
            assert_eq!(Window::daily().key("n", at(seconds)), format!("n:{day}"), "{seconds}");
            assert_eq!(Window::weekly().key("n", at(seconds)), format!("n:{week}"), "{seconds}");
        }
    }

    #[test]
    fn all_of_a_window_has_one_key_and_the_next_another() {
        let ten = Window::every(Duration::from_secs(10)).unwrap();
        for start in [1_800_000_000, 1_800_000_010] {
            let keys: Vec<_> = (start..start + 10).map(|seconds| ten.key("n", at(seconds))).collect();
            assert!(keys.iter().all(|key| *key == keys[0]));
            assert_ne!(keys[0], ten.key("n", at(start + 10)));
            assert_ne!(keys[0], ten.key("n", at(start - 1)));
        }
        assert_eq!(ten.ttl(2), Duration::from_secs(30));
        for span in [Duration::ZERO, Duration::from_millis(1500), Duration::from_millis(10)] {
            assert_eq!(Window::every(span).unwrap_err().kind(), ErrorKind::Invalid);
        }
    }
}
