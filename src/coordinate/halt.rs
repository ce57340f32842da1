//! Pausing a work spec whose units fail: `halt_after`.

use super::work_spec::found;
use crate::number;
use coordinated_client::cbor::{Item, Kind};
use std::fmt;

/// Who pauses a work spec by this rule.
pub(super) const HALTED_BY: &str = "halt_after";

/// When a work spec is paused because its units fail. It has at least one of the two.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct HaltAfter {
    /// After so many failed attempts without a finished one between them. At least 1.
    pub failures: Option<u64>,
    /// When too many of the last attempts have failed.
    pub rate: Option<FailureRate>,
}

/// A share of failures among the last attempts.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct FailureRate {
    /// The share from which on the work spec is paused, above 0 and at most 1.
    pub share: f64,
    /// How many attempts there have to be before. With each attempt, the weight of those before it shrinks by one part in
    /// so many: so about as many attempts matter. At least 1.
    pub min: u64,
}

/// For people.
impl fmt::Display for HaltAfter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(failures) = self.failures {
            write!(f, "{failures} in a row")?;
        }
        if let Some(rate) = self.rate {
            let or = if self.failures.is_some() { ", or " } else { "" };
            let percent = rate.share * 100.0;
            write!(f, "{or}{percent}% of at least {}", rate.min)?;
        }
        Ok(())
    }
}

/// How the attempts at the units of a work spec have ended, for its `halt_after`, since it was last resumed.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Outcomes {
    /// How many have failed since one was last finished.
    pub failed_in_a_row: u64,
    /// How many there were, up to the `min` of the rate.
    pub attempts: u64,
    /// The sums of the weights of those that were finished, and of those that have failed.
    pub finished: f64,
    /// See `finished`.
    pub failed: f64,
}

impl FailureRate {
    /// The `min` of a rate that sets none.
    pub const MIN_DEFAULT: u64 = 20;
}

impl HaltAfter {
    /// Counts an attempt. Says why the work spec is to be paused, if it is.
    pub(super) fn count(&self, outcomes: &mut Outcomes, has_failed: bool) -> Option<String> {
        if has_failed {
            outcomes.failed_in_a_row = outcomes.failed_in_a_row.saturating_add(1);
        } else {
            outcomes.failed_in_a_row = 0;
        }
        if let Some(rate) = self.rate {
            outcomes.weigh(rate, has_failed);
        }
        if !has_failed {
            return None;
        }
        if let Some(max) = self.failures
            && outcomes.failed_in_a_row >= max
        {
            return Some(match outcomes.failed_in_a_row {
                1 => "an attempt has failed".to_owned(),
                count => format!("{count} attempts in a row have failed"),
            });
        }
        let rate = self.rate?;
        let share = outcomes.failed / (outcomes.failed + outcomes.finished);
        (outcomes.attempts >= rate.min && share >= rate.share).then(|| {
            let percent = (share * 100.0).floor();
            format!("{percent}% of the last attempts have failed")
        })
    }

    /// Reads the value of `halt_after`.
    ///
    /// # Errors
    /// What is wrong with it.
    pub(super) fn from_item(item: Item<'_>) -> Result<Self, String> {
        const EXAMPLE: &str = "a map such as {failures: 10} or {rate: 0.5, min: 20}";
        let Some(entries) = item.as_map() else {
            return Err(format!("expected {EXAMPLE}, got {}", item.kind_name()));
        };
        let (mut failures, mut share, mut min) = (None, None, None);
        for (key, value) in entries {
            if matches!(value.kind(), Kind::Null) {
                continue;
            }
            match key.as_string_bytes().as_deref() {
                Some(b"failures") => failures = Some(count("failures", value)?),
                Some(b"rate") => share = Some(share_of("rate", value)?),
                Some(b"min") => min = Some(count("min", value)?),
                _ => return Err(format!("expected only failures, rate and min: {EXAMPLE}")),
            }
        }
        if failures.is_none() && share.is_none() {
            return Err(format!("has neither failures nor rate: expected {EXAMPLE}"));
        }
        if share.is_none() && min.is_some() {
            return Err(format!("min is only of use with rate: expected {EXAMPLE}"));
        }
        let rate = share.map(|share| FailureRate {
            share,
            min: min.unwrap_or(FailureRate::MIN_DEFAULT),
        });
        Ok(Self { failures, rate })
    }
}

impl Outcomes {
    #[expect(
        clippy::cast_precision_loss,
        reason = "a difference that small does not change a share"
    )]
    fn weigh(&mut self, rate: FailureRate, has_failed: bool) {
        let kept = 1.0 - 1.0 / rate.min as f64;
        self.attempts = self.attempts.saturating_add(1).min(rate.min);
        self.finished = self.finished * kept + f64::from(u8::from(!has_failed));
        self.failed = self.failed * kept + f64::from(u8::from(has_failed));
    }
}

fn count(key: &str, value: Item<'_>) -> Result<u64, String> {
    let is_boolean = matches!(value.kind(), Kind::Bool(_));
    let count = number::as_whole_number_or_numeral(value).filter(|_| !is_boolean);
    let count = count.and_then(|count| u64::try_from(count).ok());
    count.filter(|count| *count > 0).ok_or_else(|| {
        format!(
            "{key}: expected an integer of at least 1, got {}",
            found(value)
        )
    })
}

fn share_of(key: &str, value: Item<'_>) -> Result<f64, String> {
    let is_boolean = matches!(value.kind(), Kind::Bool(_));
    let share = number::as_float_or_numeral(value).filter(|_| !is_boolean);
    let is_share = |share: &f64| *share > 0.0 && *share <= 1.0;
    share.filter(is_share).ok_or_else(|| {
        format!(
            "{key}: expected a number above 0, at most 1, got {}",
            found(value)
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn by_failures(failures: u64) -> HaltAfter {
        HaltAfter {
            failures: Some(failures),
            rate: None,
        }
    }

    fn by_rate(share: f64, min: u64) -> HaltAfter {
        HaltAfter {
            failures: None,
            rate: Some(FailureRate { share, min }),
        }
    }

    /// After how many attempts, of which those in `failed` fail, the work spec is paused, and why.
    fn halts(
        halt: HaltAfter,
        attempts: u64,
        failed: impl Fn(u64) -> bool,
    ) -> Option<(u64, String)> {
        let mut outcomes = Outcomes::default();
        (1..=attempts).find_map(|n| Some((n, halt.count(&mut outcomes, failed(n))?)))
    }

    #[test]
    fn failures_count_only_in_a_row() {
        let text = "3 attempts in a row have failed".to_owned();
        assert_eq!(halts(by_failures(3), 9, |_| true), Some((3, text.clone())));
        assert_eq!(halts(by_failures(3), 9, |n| n != 3), Some((6, text)));
        assert_eq!(halts(by_failures(3), 99, |n| n % 3 != 0), None);
        assert_eq!(
            halts(by_failures(1), 9, |n| n == 2),
            Some((2, "an attempt has failed".to_owned()))
        );
    }

    #[test]
    fn a_rate_counts_from_its_minimum_of_attempts_on() {
        let text = "100% of the last attempts have failed".to_owned();
        assert_eq!(halts(by_rate(1.0, 20), 99, |_| true), Some((20, text)));
        assert_eq!(halts(by_rate(0.6, 20), 9_999, |n| n % 2 == 0), None);
        assert_eq!(halts(by_rate(1.0, 20), 99, |n| n != 1), None);
        let (after, _) = halts(by_rate(0.4, 20), 999, |n| n % 2 == 0).expect("halted");
        assert_eq!(after, 20);
    }

    #[test]
    fn old_attempts_lose_their_weight() {
        // Of 1,000 finished ones, a share of 0.5 is left after as many failures as 1 / 20 needs to halve the weight.
        let (after, text) = halts(by_rate(0.5, 20), 2_000, |n| n > 1_000).expect("halted");
        assert_eq!(
            (after, &*text),
            (1_014, "51% of the last attempts have failed")
        );
    }
}
