//! The model's `max_rate` and `halt_after`.

use super::model::Spec;
use super::reports::field;
use coordinated::clock::Timestamp;
use coordinated::coordinate::{MaxRate, Meta, Pause};
use serde_cbor::Value;
use std::time::Duration;

/// How far apart units are at the rates that are drawn: whole microseconds, so that nothing is rounded.
fn interval(rate: MaxRate) -> Duration {
    match &*rate.to_string() {
        "4/s" => Duration::from_millis(250),
        "1/s" => Duration::from_secs(1),
        "30/m" => Duration::from_secs(2),
        other => panic!("no sequence has the rate {other}"),
    }
}

impl Spec {
    /// How many units `max_rate` allows to be handed out.
    pub fn allowed_by_rate(&self, now: Timestamp) -> u64 {
        let Some(rate) = self.meta.max_rate else {
            return u64::MAX;
        };
        let left = self.full_at.map_or(Duration::ZERO, |at| at.since(now));
        let missing = left.as_micros().div_ceil(interval(rate).as_micros());
        u64::from(rate.burst()).saturating_sub(u64::try_from(missing).expect("few"))
    }

    pub fn take_tokens(&mut self, count: usize, now: Timestamp) {
        if let Some(rate) = self.meta.max_rate {
            let from = self.full_at.map_or(now, |at| at.max(now));
            self.full_at = Some(from.plus(interval(rate) * u32::try_from(count).expect("few")));
        }
    }

    /// The rate or the clock was changed: no bucket is emptier than empty.
    pub fn bound_tokens(&mut self, now: Timestamp) {
        if let (Some(rate), Some(at)) = (self.meta.max_rate, self.full_at) {
            self.full_at = Some(at.min(now.plus(interval(rate) * rate.burst())));
        }
    }

    /// What is kept of the past when the meta was changed.
    pub fn keep_past(&mut self, before: &Meta, now: Timestamp) {
        self.bound_tokens(now);
        if self.meta.max_rate.is_none() {
            self.full_at = None;
        }
        let is_resumed = before.paused.is_some() && self.meta.paused.is_none();
        if self.meta.halt_after != before.halt_after || is_resumed {
            self.outcomes.clear();
        }
    }

    pub fn failed_in_a_row(&self) -> u64 {
        let last_first = self.outcomes.iter().rev();
        last_first.take_while(|has_failed| **has_failed).count() as u64
    }

    /// An attempt has ended, and may pause the spec.
    pub fn count_outcome(&mut self, has_failed: bool, data: Option<&[u8]>, now: Timestamp) {
        let Some(halt) = self.meta.halt_after.filter(|_| self.meta.paused.is_none()) else {
            return;
        };
        self.outcomes.push(has_failed);
        if !has_failed {
            return;
        }
        let in_a_row = self.failed_in_a_row();
        let too_many = halt.failures.is_some_and(|max| in_a_row >= max);
        let too_often = halt.rate.and_then(|rate| {
            let kept = match rate.min {
                1 => 0.0_f64,
                2 => 0.5,
                other => panic!("no sequence has the minimum {other}"),
            };
            let ages = (0..).zip(self.outcomes.iter().rev());
            let weigh = |of: bool| {
                let weights = ages.clone().filter(|(_, has_failed)| **has_failed == of);
                weights.map(|(age, _)| kept.powi(age)).sum::<f64>()
            };
            let share = weigh(true) / (weigh(true) + weigh(false));
            (self.outcomes.len() as u64 >= rate.min && share >= rate.share).then_some(share)
        });
        let why = match (too_many, too_often) {
            (true, _) if in_a_row == 1 => "an attempt has failed".to_owned(),
            (true, _) => format!("{in_a_row} attempts in a row have failed"),
            (false, Some(share)) => format!(
                "{}% of the last attempts have failed",
                (share * 100.0).floor()
            ),
            (false, None) => return,
        };
        let reason = match data.and_then(|data| field(data, "traceback")) {
            Some(Value::Text(text)) => format!("{why}; the last one: {text}"),
            Some(Value::Bytes(bytes)) => {
                format!("{why}; the last one: {}", String::from_utf8_lossy(&bytes))
            }
            _ => why,
        };
        self.meta.paused = Some(Pause {
            reason: Some(reason),
            by: Some("halt_after".to_owned()),
            since: Some(now),
        });
        self.outcomes.clear();
    }
}
