//! Leases: for how long an attempt holds its unit.

use crate::number::duration_from_seconds;
use std::time::Duration;

/// The lease of an attempt for which none, or one out of bounds, was asked.
pub const LEASE_DEFAULT: Duration = Duration::from_secs(300);
/// The longest lease.
pub const LEASE_MAX: Duration = Duration::from_secs(86_400);

/// A shorter lease than this, in seconds, is treated as a mistake when a unit is handed out.
const SECONDS_MIN: f64 = 1.0;

/// A lease that a report asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lease {
    /// From now on for this long.
    For(Duration),
    /// It ends now.
    Over,
}

impl Lease {
    /// The lease that a worker gets with a unit, from the seconds that it asks for, if any. A value out of bounds
    /// means the default, not the bound (docs/protocol.md, "Constants").
    #[must_use]
    pub fn to_begin(seconds: Option<f64>) -> Duration {
        match seconds {
            Some(seconds) if seconds >= SECONDS_MIN => bounded(seconds),
            _ => LEASE_DEFAULT,
        }
    }

    /// The lease that a report asks for, in seconds. Zero and less give the unit back.
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
