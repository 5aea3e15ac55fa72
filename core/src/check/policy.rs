//! When it is soon.

use super::certificate::Certificate;
use super::role::Role;
use super::time::Time;

/// Seconds of a day.
pub(super) const DAY: i64 = 86_400;

/// The thresholds.
#[derive(Clone, Copy, Debug)]
pub struct Policy {
    /// Days before the end of a certificate from which it is an error.
    pub critical_days: i64,
    /// Days before the end of a certificate from which it is a warning.
    pub warning_days: i64,
    /// Percent of the life of a certificate from which it is an error.
    pub critical_percent: i64,
    /// Percent of the life of a certificate from which it is a warning.
    pub warning_percent: i64,
    /// Days of life below which days before the end do not count.
    pub short_life_days: i64,
    /// Days before the end of a CA from which it is an error.
    pub ca_critical_days: i64,
    /// Days before the end of a CA from which it is a warning.
    pub ca_warning_days: i64,
    /// Days that a certificate may live.
    pub longest_life_days: i64,
}

impl Default for Policy {
    fn default() -> Self {
        Self {
            critical_days: 7,
            warning_days: 28,
            critical_percent: 90,
            warning_percent: 80,
            short_life_days: 90,
            ca_critical_days: 28,
            ca_warning_days: 365,
            longest_life_days: 3 * 366,
        }
    }
}

/// How near the end of a certificate is.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub(super) enum Nearness {
    Far,
    Soon,
    Now,
}

impl Policy {
    pub(super) fn nearness(&self, certificate: &Certificate, role: Role, at: Time) -> Nearness {
        let left = certificate.not_after.since(at);
        if let Role::Ca(_) = role {
            return match left {
                left if left < self.ca_critical_days * DAY => Nearness::Now,
                left if left < self.ca_warning_days * DAY => Nearness::Soon,
                _ => Nearness::Far,
            };
        }
        let lifetime = certificate.lifetime().max(1);
        let gone = at.since(certificate.not_before).max(0);
        // A life may be of 8,000 years.
        let percent = (i128::from(gone) * 100 / i128::from(lifetime)) as i64;
        let (critical, warning) = match role.renews_itself() {
            // It is renewed at 90 percent at the latest.
            true => (self.critical_percent.max(97), self.warning_percent.max(91)),
            false => (self.critical_percent, self.warning_percent),
        };
        let days_count = lifetime >= self.short_life_days * DAY;
        let is_within = |days| days_count && left < days * DAY;
        if percent >= critical || is_within(self.critical_days) {
            Nearness::Now
        } else if percent >= warning || is_within(self.warning_days) {
            Nearness::Soon
        } else {
            Nearness::Far
        }
    }
}
