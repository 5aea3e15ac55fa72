//! A second in time, from the first to the last that a certificate can name.

use std::fmt;
use std::str::FromStr;

use jiff::civil::{Date, DateTime, date};
use jiff::{SignedDuration, Timestamp};
use serde::{Serialize, Serializer};

/// Seconds since 1970, in UTC. (`jiff::Timestamp` ends before 9999-12-31T23:59:59Z, which certificates
/// use for "never", RFC 5280 4.1.2.5.)
#[derive(Clone, Copy, Debug, Default, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct Time(i64);

impl Time {
    /// From seconds since 1970.
    pub const fn from_unix(seconds: i64) -> Self {
        Self(seconds)
    }

    /// Seconds since 1970.
    pub const fn unix(self) -> i64 {
        self.0
    }

    /// Seconds from another time to this one; negative where that is later.
    pub const fn since(self, earlier: Self) -> i64 {
        self.0.saturating_sub(earlier.0)
    }

    fn civil(self) -> Option<DateTime> {
        EPOCH.checked_add(SignedDuration::from_secs(self.0)).ok()
    }
}

const EPOCH: DateTime = date(1970, 1, 1).at(0, 0, 0, 0);

impl From<Timestamp> for Time {
    fn from(timestamp: Timestamp) -> Self {
        Self(timestamp.as_second())
    }
}

impl FromStr for Time {
    type Err = &'static str;

    /// A day, whose first second in UTC is meant, or a time as RFC 3339 writes it.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if let Ok(timestamp) = text.parse::<Timestamp>() {
            return Ok(timestamp.into());
        }
        let day: Date = match text.contains(['T', 't', ' ']) {
            false => text.parse().map_err(|_| FORM)?,
            true => return Err(FORM),
        };
        Ok(Self(day.at(0, 0, 0, 0).duration_since(EPOCH).as_secs()))
    }
}

const FORM: &str = "write it as 2027-03-01 or 2027-03-01T12:00:00Z";

impl fmt::Display for Time {
    /// As RFC 3339 writes it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.civil() {
            Some(civil) => write!(f, "{civil}Z"),
            None => write!(f, "@{}", self.0),
        }
    }
}

impl Serialize for Time {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn days_and_seconds_are_read() {
        for (text, seconds) in [
            ("1970-01-02", 86_400),
            ("2027-03-01", 1_803_859_200),
            ("2027-03-01T01:00:00+01:00", 1_803_859_200),
            ("1969-12-31T23:59:59Z", -1),
            ("9999-12-31", 253_402_214_400),
        ] {
            assert_eq!(text.parse(), Ok(Time(seconds)), "{text}");
        }
        for text in ["", "tomorrow", "2027-13-01", "2027-03-01T", "1803859200"] {
            assert!(text.parse::<Time>().is_err(), "{text}");
        }
    }

    #[test]
    fn the_last_second_of_certificates_has_a_name() {
        let last = Time(253_402_300_799);
        assert_eq!(last.to_string(), "9999-12-31T23:59:59Z");
        assert_eq!(Time(0).to_string(), "1970-01-01T00:00:00Z");
        assert_eq!(Time(i64::MAX).to_string(), format!("@{}", i64::MAX));
    }
}
