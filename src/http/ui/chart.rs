//! Charts of what has happened in a work spec.

use super::shown;
use crate::clock::Timestamp;
use crate::coordinate::storage::Lister;
use crate::coordinate::{Name, NamespaceId, Period, Result, Tally};
use std::fmt::Write;
use std::time::Duration;

/// Which time a chart shows, up to now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Span {
    /// By minute.
    HalfHour,
    /// By minute.
    Hour,
    /// By quarter of an hour.
    Day,
    /// By day.
    NinetyDays,
}

impl Span {
    /// How many steps it has, how long each is, and by what the history is read.
    fn steps(self) -> (usize, Duration, Period) {
        const MINUTE: Duration = Duration::from_mins(1);
        const DAY: Duration = Duration::from_hours(24);
        match self {
            Self::HalfHour => (30, MINUTE, Period::Minute),
            Self::Hour => (60, MINUTE, Period::Minute),
            Self::Day => (96, MINUTE * 15, Period::Minute),
            Self::NinetyDays => (90, DAY, Period::Hour),
        }
    }

    fn title(self) -> &'static str {
        match self {
            Self::HalfHour => "Last 30 minutes",
            Self::Hour => "Last hour",
            Self::Day => "Last day",
            Self::NinetyDays => "Last 90 days",
        }
    }
}

/// What has happened in a work spec, step by step.
#[derive(Debug)]
pub(super) struct Series {
    span: Span,
    /// When the first step began.
    start: Timestamp,
    now: Timestamp,
    steps: Vec<Tally>,
}

impl Series {
    fn empty(span: Span, now: Timestamp) -> Self {
        let (count, step, _) = span.steps();
        let step_us = micros(step);
        let last = now.0 - now.0.rem_euclid(step_us);
        let before = i64::try_from(count - 1).unwrap_or_default();
        Self {
            span,
            start: Timestamp(last - before * step_us),
            now,
            steps: vec![Tally::default(); count],
        }
    }

    /// Reads those of some work specs.
    ///
    /// # Errors
    /// As [`Lister::list_history`].
    pub(super) fn read(
        lister: &mut impl Lister,
        namespace: NamespaceId,
        work_specs: &[Name],
        span: Span,
        now: Timestamp,
    ) -> Result<Vec<Self>> {
        let (_, length, period) = span.steps();
        let empty = || Self::empty(span, now);
        let start = empty().start;
        let mut all: Vec<Self> = work_specs.iter().map(|_| empty()).collect();
        lister.list_history(
            namespace,
            work_specs,
            period,
            start,
            &mut |of, at, tally| {
                let index = usize::try_from((at.0 - start.0) / micros(length));
                let steps = all.get_mut(of).map(|series| &mut series.steps);
                if let (Ok(index), Some(steps)) = (index, steps)
                    && let Some(step) = steps.get_mut(index)
                {
                    step.add(tally);
                }
                Ok(())
            },
        )?;
        Ok(all)
    }

    /// True if nothing has happened.
    pub(super) fn is_empty(&self) -> bool {
        self.total() == Tally::default()
    }

    /// What has happened in all.
    fn total(&self) -> Tally {
        let mut total = Tally::default();
        for step in &self.steps {
            total.add(step);
        }
        total
    }

    /// How many units were added and how many attempts were finished or have failed, per second, in the last five steps.
    pub(super) fn rates(&self) -> (f64, f64) {
        const LAST: usize = 5;
        let (count, step, _) = self.span.steps();
        let from = count.saturating_sub(LAST);
        let mut last = Tally::default();
        for step in &self.steps[from..] {
            last.add(step);
        }
        let passed = self.now.since(self.start).as_secs_f64();
        #[expect(clippy::cast_precision_loss, reason = "there are few steps")]
        let time = (passed - step.as_secs_f64() * from as f64).max(1.0);
        let per_second = |count: u64| {
            #[expect(clippy::cast_precision_loss, reason = "it is shown with two digits")]
            let count = count as f64;
            count / time
        };
        (
            per_second(last.added),
            per_second(last.finished + last.failed),
        )
    }
}

fn micros(time: Duration) -> i64 {
    i64::try_from(time.as_micros()).unwrap_or(i64::MAX)
}

/// How wide a step is in a chart, and how high the highest is.
const STEP: usize = 4;
const HEIGHT: u64 = 40;

/// A chart as SVG: the paths of its areas and of its line.
#[derive(Debug)]
pub(super) struct Chart {
    pub(super) title: &'static str,
    /// What it shows, in words.
    pub(super) label: String,
    pub(super) width: usize,
    /// Finished and failed attempts.
    pub(super) ended: String,
    /// Failed ones among them.
    pub(super) failed: String,
    /// A line: units that were added.
    pub(super) added: String,
    /// Where something may be missing.
    pub(super) gaps: String,
    /// What the top of the chart stands for.
    pub(super) top: String,
    pub(super) facts: Vec<(&'static str, String)>,
}

impl Chart {
    /// A chart, with the times of which something may be missing.
    pub(super) fn new(series: &Series, gaps: &[(Timestamp, Timestamp)]) -> Self {
        let steps = &series.steps;
        let highest = |tally: &Tally| tally.added.max(tally.finished + tally.failed);
        let top = steps.iter().map(highest).max().unwrap_or_default();
        let area = |value: fn(&Tally) -> u64| area(steps.iter().map(value), top);
        let total = series.total();
        let number = shown::number;
        let mean = total
            .run
            .checked_div(u32::try_from(total.finished + total.failed).unwrap_or(u32::MAX));
        let title = series.span.title();
        Self {
            title,
            label: format!(
                "{title}: {} added, {} finished, {} failed",
                number(total.added),
                number(total.finished),
                number(total.failed)
            ),
            width: steps.len() * STEP,
            ended: area(|tally| tally.finished + tally.failed),
            failed: area(|tally| tally.failed),
            added: line(steps.iter().map(|tally| tally.added), top),
            gaps: gaps_of(series, gaps),
            top: format!("{} {}", number(top), series.each()),
            facts: vec![
                ("Added", number(total.added)),
                ("Finished", number(total.finished)),
                ("Failed", number(total.failed)),
                ("Leases run out", number(total.expired)),
                (
                    "Mean time",
                    mean.map_or_else(|| "–".to_owned(), shown::duration),
                ),
            ],
        }
    }
}

impl Series {
    /// What one step is, for the scale.
    fn each(&self) -> &'static str {
        match self.span {
            Span::HalfHour | Span::Hour => "a minute",
            Span::Day => "in 15 minutes",
            Span::NinetyDays => "a day",
        }
    }
}

/// How high a value is.
fn height(value: u64, top: u64) -> u64 {
    let exact = u128::from(value) * u128::from(HEIGHT) / u128::from(top.max(1));
    // What is there can be seen.
    u64::try_from(exact)
        .unwrap_or(HEIGHT)
        .max(u64::from(value > 0))
}

/// The path around the area below some values; empty if there are none.
fn area(values: impl Iterator<Item = u64>, top: u64) -> String {
    let heights: Vec<u64> = values.map(|value| height(value, top)).collect();
    if heights.iter().all(|height| *height == 0) {
        return String::new();
    }
    let mut path = format!("M0 {HEIGHT}");
    follow(&mut path, &heights);
    // Writing to a string does not fail.
    let _ = write!(path, "V{HEIGHT}z");
    path
}

/// The line along some values; empty if there are none.
fn line(values: impl Iterator<Item = u64>, top: u64) -> String {
    let heights: Vec<u64> = values.map(|value| height(value, top)).collect();
    if heights.iter().all(|height| *height == 0) {
        return String::new();
    }
    let mut path = format!("M0 {HEIGHT}");
    follow(&mut path, &heights);
    path
}

/// Steps along these heights. Those of the same height are one.
fn follow(path: &mut String, heights: &[u64]) {
    for same in heights.chunk_by(|left, right| left == right) {
        let height = same.first().copied().unwrap_or_default();
        let _ = write!(path, "V{}h{}", HEIGHT - height, same.len() * STEP);
    }
}

/// The path around the steps in which something may be missing.
fn gaps_of(series: &Series, gaps: &[(Timestamp, Timestamp)]) -> String {
    let (_, step, _) = series.span.steps();
    let mut path = String::new();
    for (start, end) in gaps {
        let index = |at: Timestamp| {
            let index = at.0.saturating_sub(series.start.0).div_euclid(micros(step));
            usize::try_from(index).unwrap_or_default()
        };
        if *end <= series.start {
            continue;
        }
        let from = index(*start).min(series.steps.len() - 1);
        let to = (index(*end) + 1).min(series.steps.len());
        let _ = write!(
            path,
            "M{} 0h{}v{HEIGHT}h-{1}z",
            from * STEP,
            (to - from) * STEP
        );
    }
    path
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Timestamp = Timestamp(1_700_000_010_000_000);

    fn series(values: &[(usize, u64, u64)]) -> Series {
        let mut series = Series::empty(Span::HalfHour, NOW);
        for (index, added, finished) in values {
            series.steps[*index].added = *added;
            series.steps[*index].finished = *finished;
        }
        series
    }

    #[test]
    fn the_last_step_is_the_one_that_runs_now() {
        let series = series(&[]);
        assert_eq!(series.steps.len(), 30);
        let last = series.start.plus(Duration::from_mins(29));
        assert_eq!(last, Period::Minute.start(NOW));
    }

    #[test]
    fn a_chart_is_as_high_as_its_highest_value_and_shows_the_smallest_one() {
        let chart = Chart::new(&series(&[(0, 1000, 500), (1, 0, 1)]), &[]);
        assert_eq!(chart.ended, "M0 40V20h4V39h4V40h112V40z");
        assert_eq!(chart.added, "M0 40V0h4V40h116");
        assert_eq!((&*chart.failed, &*chart.gaps), ("", ""));
        assert_eq!(chart.top, "1,000 a minute");
        let nothing = Chart::new(&series(&[]), &[]);
        assert_eq!((&*nothing.ended, &*nothing.added), ("", ""));
    }

    #[test]
    fn a_gap_is_as_wide_as_the_steps_that_it_touches() {
        let series = series(&[]);
        let at = |seconds| series.start.plus(Duration::from_secs(seconds));
        let before = (Timestamp(0), Timestamp(1));
        let of = |gap| Chart::new(&series, &[before, gap]).gaps;
        assert_eq!(of((at(70), at(80))), "M4 0h4v40h-4z");
        assert_eq!(of((at(70), at(130))), "M4 0h8v40h-8z");
        assert_eq!(of((Timestamp(0), at(10))), "M0 0h4v40h-4z");
        assert_eq!(of((at(10), at(1_000_000))), "M0 0h120v40h-120z");
    }

    #[test]
    fn rates_are_those_of_the_last_five_minutes() {
        // Four minutes, and the 30 seconds of the present one.
        let (added, ended) = series(&[(24, 1000, 0), (25, 27, 0), (29, 0, 54)]).rates();
        assert!((added - 0.1).abs() < 1e-9 && (ended - 0.2).abs() < 1e-9);
    }
}
