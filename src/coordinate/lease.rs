//! Leases: for how long an attempt holds its unit.

use super::number::duration_from_seconds;
use std::time::Duration;

/// The lease of an attempt for which none, or one out of bounds, was asked.
pub const LEASE_DEFAULT: Duration = Duration::from_secs(300);
/// The longest lease.
pub const LEASE_MAX: Duration = Duration::from_secs(86_400);

/// Shorter leases than this, in seconds, are taken for a mistake when a unit is handed out.
const SECONDS_MIN: f64 = 1.0;

/// A lease that a report asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lease {
    /// From now on for so long.
    For(Duration),
    /// It ends now.
    Over,
}

impl Lease {
    /// The lease that a worker gets with a unit if it asks for so many seconds, or for none. What is out of bounds
    /// becomes the default, not the bound (docs/protocol.md, "Constants").
    #[must_use]
    pub fn to_begin(seconds: Option<f64>) -> Duration {
        match seconds {
            Some(seconds) if seconds >= SECONDS_MIN => bounded(seconds),
            _ => LEASE_DEFAULT,
        }
    }

    /// The lease that a report asks for with so many seconds. Zero and less give the unit back.
    #[must_use]
    pub fn to_renew(seconds: f64) -> Self {
        if seconds <= 0.0 {
            Self::Over
        } else {
            Self::For(bounded(seconds))
        }
    }
}

fn bounded(seconds: f64) -> Duration {
    if seconds > LEASE_MAX.as_secs_f64() {
        LEASE_DEFAULT
    } else {
        duration_from_seconds(seconds)
    }
}
