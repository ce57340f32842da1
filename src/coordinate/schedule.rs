//! Schedules: at which times a work spec makes units by itself.

use crate::clock::Timestamp;
use croner::parser::{CronParser, Seconds, Year};
use croner::{Cron, CronComponent};
use jiff::civil::DateTime;
use jiff::tz::{AmbiguousOffset, TimeZone, TimeZoneDatabase};
use jiff::{SignedDuration, Zoned};
use std::sync::LazyLock;
use std::time::Duration;

/// When a work spec makes units by itself, and what became of that so far. Its times are those of the wall clock: they
/// don't move when the daemon's clock is set.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Schedule {
    /// A cron expression. It is kept as text, and read at each run: read, it takes 5 KiB.
    pub expression: String,
    /// The name of the time zone in which the expression counts.
    pub timezone: String,
    /// What happens if the unit of the last run has not completed.
    pub overlap: Overlap,
    /// What happens with times that passed while the daemon did not run.
    pub missed: Missed,
    /// The time of the next run. `None` only if another program wrote an expression that nobody can read.
    pub next: Option<Timestamp>,
    /// The time of the last run that made a unit.
    pub last: Option<Timestamp>,
    /// The time of the last run that made none.
    pub skipped: Option<Timestamp>,
}

/// What happens when the time of a run comes, and the unit of the last run has not completed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Overlap {
    /// No unit is made.
    #[default]
    Skip,
    /// A unit is made, and waits for its turn.
    Queue,
}

/// What happens with the times of runs that passed while the daemon did not run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Missed {
    /// One unit is made for all of them, with the last of these times.
    #[default]
    RunOnce,
    /// No unit is made.
    Skip,
}

impl Overlap {
    /// Both.
    pub const ALL: [Self; 2] = [Self::Skip, Self::Queue];

    /// The word for it in a definition, and in the file.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Skip => "skip",
            Self::Queue => "queue",
        }
    }
}

impl Missed {
    /// Both.
    pub const ALL: [Self; 2] = [Self::RunOnce, Self::Skip];

    /// The word for it in a definition, and in the file.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::RunOnce => "run-once",
            Self::Skip => "skip",
        }
    }
}

/// The time zones in the program: the same on all machines.
static TIMEZONES: LazyLock<TimeZoneDatabase> = LazyLock::new(TimeZoneDatabase::bundled);

/// The time zone of a name in the IANA database.
#[must_use]
pub fn timezone(name: &str) -> Option<TimeZone> {
    TIMEZONES.get(name).ok()
}

/// The fields of an expression with what each may have, in their order. The first one may be left out.
const FIELDS: [(&str, &str); 6] = [
    ("second", "0-59"),
    ("minute", "0-59"),
    ("hour", "0-23"),
    (
        "day of the month",
        "1-31, L for the last, or 15W for the weekday nearest to the 15th",
    ),
    ("month", "1-12 or JAN-DEC"),
    (
        "day of the week",
        "0-7 or SUN-SAT, where 0 and 7 are Sunday, 1#2 for the second Monday, or 1L for the last",
    ),
];

const NICKNAMES: [&str; 6] = [
    "@yearly",
    "@annually",
    "@monthly",
    "@weekly",
    "@daily",
    "@hourly",
];

/// Longer expressions are refused: the longest that make sense have some dozen characters.
const EXPRESSION_BYTES_MAX: usize = 250;

fn parse(expression: &str) -> Option<Cron> {
    let parser = CronParser::builder()
        .seconds(Seconds::Optional)
        .year(Year::Disallowed);
    parser.build().parse(expression).ok()
}

/// Says what an expression must have to be one, if it is none.
pub(super) fn check_expression(expression: &str) -> Result<(), String> {
    let fields: Vec<&str> = expression.split_whitespace().collect();
    let is_nickname = |text: &str| NICKNAMES.iter().any(|name| name.eq_ignore_ascii_case(text));
    let is_readable = expression.len() <= EXPRESSION_BYTES_MAX && expression.is_ascii();
    let first = match fields.len() {
        1 if is_nickname(fields[0]) => return Ok(()),
        5 if is_readable => 1,
        6 if is_readable => 0,
        _ => {
            return Err(format!(
                "expected a cron expression of five fields (minute, hour, day of the month, month, day of the week), of six \
                 with the second first, or one of {}",
                NICKNAMES.join(", ")
            ));
        }
    };
    for (index, field) in fields.iter().enumerate() {
        let mut alone = ["*"; 6];
        alone[first + index] = field;
        if parse(&alone.join(" ")).is_none() {
            let (name, allowed) = FIELDS[first + index];
            return Err(format!(
                "expected for the {name}: {allowed}; lists (1,2), ranges (1-5), steps (*/2), or * for all"
            ));
        }
    }
    match parse(expression) {
        Some(_) => Ok(()),
        None => Err("expected a cron expression such as \"0 3 * * 1-5\"".to_owned()),
    }
}

impl Schedule {
    /// Up to this time after a run's own time it is late, and beyond it missed. A busy daemon may be late, and so may one
    /// that another program keeps from writing.
    pub const LATE_MAX: Duration = Duration::from_secs(60);

    /// How many years ahead a time is looked for. February 29 comes on a given day of the week within 40 years; without an
    /// end, February 30 would be looked for until the year 5000.
    pub(super) const YEARS_AHEAD: u16 = 50;

    /// Plans the next run of a new definition. One with the times of the definition `before` keeps its next run, and any
    /// keeps what was done so far. False if its time never comes.
    pub(super) fn begin(&mut self, before: Option<&Self>, now: Timestamp) -> bool {
        if let Some(before) = before {
            (self.last, self.skipped) = (before.last, before.skipped);
            if (&self.expression, &self.timezone) == (&before.expression, &before.timezone) {
                self.next = before.next;
            }
        }
        if self.next.is_none() {
            self.next = self.next_after(now);
        }
        self.next.is_some()
    }

    /// The next run after the clock was set to `now`. If it was set forward, that is still the one that was planned, and if
    /// it was set back, times may come again.
    #[must_use]
    pub fn next_by_clock(&self, now: Timestamp) -> Option<Timestamp> {
        let next = self.next?;
        Some(self.next_after(now).map_or(next, |again| again.min(next)))
    }

    /// The first time after this one.
    #[must_use]
    pub fn next_after(&self, time: Timestamp) -> Option<Timestamp> {
        Times::from(self, time)?.next_after(time)
    }

    /// The next runs, at most `count`.
    pub fn next_runs(&self, count: usize) -> impl Iterator<Item = Timestamp> {
        let times = self.next.and_then(|next| Times::from(self, next));
        let next = move |run: &Timestamp| times.as_ref()?.next_after(*run);
        std::iter::successors(self.next, next).take(count)
    }

    /// The last time until `now`, from one on that has come.
    pub(super) fn last_until(&self, first: Timestamp, now: Timestamp) -> Timestamp {
        let Some(times) = Times::from(self, first) else {
            return first;
        };
        let next = |time| times.next_after(time).filter(|next| *next <= now);
        let (mut last, mut end) = (first, now);
        // Mostly there is no second one. Otherwise none comes between `end` and `now`.
        if next(last).is_none() {
            return last;
        }
        while end.since(last) >= Duration::from_secs(1) {
            let middle = last.plus(end.since(last) / 2);
            match next(middle) {
                Some(time) => last = time,
                None => end = middle,
            }
        }
        last
    }

    /// A time in the schedule's time zone.
    fn zoned(&self, time: Timestamp) -> Option<Zoned> {
        Some(instant(time)?.to_zoned(timezone(&self.timezone)?))
    }

    /// The name of the unit of a run: its time in UTC, so that names are in the order of time and none comes twice.
    pub(super) fn unit_name(run: Timestamp) -> String {
        instant(run).map_or_else(|| run.to_string(), |run| run.to_string())
    }

    /// The time of a run in the schedule's time zone, with the offset from UTC.
    pub(super) fn local_time(&self, run: Timestamp) -> String {
        self.zoned(run).map_or_else(
            || Self::unit_name(run),
            |run| run.strftime("%Y-%m-%dT%H:%M:%S%:z").to_string(),
        )
    }
}

/// The times of an expression in a time zone, for some years.
struct Times {
    cron: Cron,
    zone: TimeZone,
    /// The expression names times of day: neither the hour nor what is below it is `*`. When the clocks change, each of
    /// them comes once; the others are intervals, which go on as time does.
    are_of_day: bool,
}

impl Times {
    fn from(schedule: &Schedule, start: Timestamp) -> Option<Self> {
        let mut cron = parse(&schedule.expression)?;
        let zone = timezone(&schedule.timezone)?;
        let year = instant(start)?.to_zoned(zone.clone()).year();
        let year = u16::try_from(year).ok()?;
        let mut years = CronComponent::new(year, year.saturating_add(Schedule::YEARS_AHEAD), 0, 0);
        years.parse("*").ok()?;
        cron.pattern.years = years;
        let pattern = &cron.pattern;
        let below_day = [&pattern.seconds, &pattern.minutes, &pattern.hours];
        Some(Self {
            are_of_day: !below_day.iter().any(|field| field.from_wildcard),
            zone,
            cron,
        })
    }

    fn next_after(&self, time: Timestamp) -> Option<Timestamp> {
        let start = instant(time)?.to_zoned(self.zone.clone());
        if !self.are_of_day {
            let next = self.cron.find_next_occurrence(&start, false).ok()?;
            return Some(from_instant(next.timestamp())).filter(|next| *next > time);
        }
        let mut wall_clock = start.datetime();
        loop {
            wall_clock = self.cron.find_next_occurrence(&wall_clock, false).ok()?;
            let next = from_instant(self.first_moment(wall_clock)?);
            // In an hour that comes for the second time it may have been before.
            if next > time {
                return Some(next);
            }
        }
    }

    /// When the wall clock shows this for the first time, or passes it, if it is set forward then.
    fn first_moment(&self, wall_clock: DateTime) -> Option<jiff::Timestamp> {
        match self.zone.to_ambiguous_timestamp(wall_clock).offset() {
            AmbiguousOffset::Unambiguous { offset } => offset.to_timestamp(wall_clock).ok(),
            AmbiguousOffset::Fold { before, .. } => before.to_timestamp(wall_clock).ok(),
            AmbiguousOffset::Gap { before, .. } => {
                let after_gap = before.to_timestamp(wall_clock).ok()?;
                let after_gap = after_gap.checked_add(SignedDuration::from_secs(1)).ok()?;
                let transition = self.zone.preceding(after_gap).next()?;
                Some(transition.timestamp())
            }
        }
    }
}

fn instant(time: Timestamp) -> Option<jiff::Timestamp> {
    jiff::Timestamp::from_microsecond(time.0).ok()
}

fn from_instant(time: jiff::Timestamp) -> Timestamp {
    Timestamp(time.as_microsecond())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn schedule(expression: &str, timezone: &str) -> Schedule {
        Schedule {
            expression: expression.to_owned(),
            timezone: timezone.to_owned(),
            overlap: Overlap::Skip,
            missed: Missed::RunOnce,
            next: None,
            last: None,
            skipped: None,
        }
    }

    fn at(time: &str) -> Timestamp {
        let time: jiff::Timestamp = time.parse().expect("a time");
        Timestamp(time.as_microsecond())
    }

    /// The next runs in local time.
    fn runs(expression: &str, zone: &str, after: &str, count: usize) -> Vec<String> {
        let mut schedule = schedule(expression, zone);
        schedule.next = schedule.next_after(at(after));
        let runs = schedule.next_runs(count);
        runs.map(|run| schedule.local_time(run)).collect()
    }

    #[test]
    fn a_time_that_spring_leaves_out_comes_at_the_first_moment_after_the_gap() {
        for (zone, after, expected) in [
            (
                "Europe/Berlin",
                "2027-03-27T12:00:00Z",
                ["2027-03-28T03:00:00+02:00", "2027-03-29T02:30:00+02:00"],
            ),
            (
                "America/New_York",
                "2027-03-13T12:00:00Z",
                ["2027-03-14T03:00:00-04:00", "2027-03-15T02:30:00-04:00"],
            ),
            (
                "America/Santiago",
                "2027-09-03T12:00:00Z",
                ["2027-09-04T02:30:00-04:00", "2027-09-05T02:30:00-03:00"],
            ),
            (
                "Australia/Sydney",
                "2027-10-02T12:00:00Z",
                ["2027-10-03T03:00:00+11:00", "2027-10-04T02:30:00+11:00"],
            ),
        ] {
            assert_eq!(runs("30 2 * * *", zone, after, 2), expected, "{zone}");
        }
        // Lord Howe's clocks go forward by half an hour, from 2:00 to 2:30.
        let runs = runs(
            "15 2 * * *",
            "Australia/Lord_Howe",
            "2027-10-02T00:00:00Z",
            2,
        );
        assert_eq!(
            runs,
            ["2027-10-03T02:30:00+11:00", "2027-10-04T02:15:00+11:00"]
        );
    }

    #[test]
    fn several_times_within_a_gap_come_once() {
        let runs = runs(
            "0,15,45 2 * * *",
            "Europe/Berlin",
            "2027-03-27T12:00:00Z",
            2,
        );
        assert_eq!(
            runs,
            ["2027-03-28T03:00:00+02:00", "2027-03-29T02:00:00+02:00"]
        );
    }

    #[test]
    fn lists_and_ranges_of_hours_are_times_of_day() {
        let spring = runs("30 1-3 * * *", "Europe/Berlin", "2027-03-27T23:00:00Z", 3);
        let expected = ["01:30:00+01:00", "03:00:00+02:00", "03:30:00+02:00"];
        assert_eq!(spring, expected.map(|time| format!("2027-03-28T{time}")));
        let autumn = runs("0,30 2,3 * * *", "Europe/Berlin", "2026-10-24T22:00:00Z", 4);
        let expected = [
            "02:00:00+02:00",
            "02:30:00+02:00",
            "03:00:00+01:00",
            "03:30:00+01:00",
        ];
        assert_eq!(autumn, expected.map(|time| format!("2026-10-25T{time}")));
    }

    #[test]
    fn a_time_of_day_that_autumn_repeats_comes_once_at_the_first() {
        for (zone, after, expression, expected) in [
            (
                "Europe/Berlin",
                "2026-10-24T12:00:00Z",
                "30 2 * * *",
                ["2026-10-25T02:30:00+02:00", "2026-10-26T02:30:00+01:00"],
            ),
            (
                "America/New_York",
                "2026-10-31T12:00:00Z",
                "30 1 * * *",
                ["2026-11-01T01:30:00-04:00", "2026-11-02T01:30:00-05:00"],
            ),
            (
                "Australia/Sydney",
                "2027-04-03T12:00:00Z",
                "30 2 * * *",
                ["2027-04-04T02:30:00+11:00", "2027-04-05T02:30:00+10:00"],
            ),
            (
                "Australia/Lord_Howe",
                "2027-04-03T12:00:00Z",
                "45 1 * * *",
                ["2027-04-04T01:45:00+11:00", "2027-04-05T01:45:00+10:30"],
            ),
        ] {
            assert_eq!(runs(expression, zone, after, 2), expected, "{zone}");
        }
    }

    #[test]
    fn an_interval_runs_through_the_change_of_the_clocks() {
        let minutes = |zone, after: &str| {
            let schedule = schedule("*/10 * * * *", zone);
            let mut time = at(after);
            for _ in 0..24 {
                let next = schedule.next_after(time).expect("it comes");
                assert_eq!(next.since(time), Duration::from_secs(600), "{zone} {time}");
                time = next;
            }
        };
        for (zone, after) in [
            ("Europe/Berlin", "2027-03-28T00:00:00Z"),
            ("Europe/Berlin", "2026-10-24T23:00:00Z"),
            ("America/New_York", "2026-11-01T04:00:00Z"),
            ("Australia/Lord_Howe", "2027-04-03T13:30:00Z"),
            ("Australia/Lord_Howe", "2027-10-02T14:00:00Z"),
            ("Australia/Sydney", "2027-04-03T14:00:00Z"),
        ] {
            minutes(zone, after);
        }
        let hourly = runs("@hourly", "Europe/Berlin", "2026-10-25T00:00:00Z", 3);
        let expected = ["02:00:00+01:00", "03:00:00+01:00", "04:00:00+01:00"];
        assert_eq!(hourly, expected.map(|time| format!("2026-10-25T{time}")));
    }

    #[test]
    fn names_of_units_are_in_the_order_of_time_also_in_the_hour_that_autumn_repeats() {
        let schedule = schedule("*/20 * * * *", "Europe/Berlin");
        let first = Some(at("2026-10-24T23:50:00Z"));
        let times = std::iter::successors(first, |time| schedule.next_after(*time));
        let names: Vec<String> = times.take(12).map(Schedule::unit_name).collect();
        assert!(names.is_sorted_by(|a, b| a < b), "{names:?}");
        assert_eq!(names[1], "2026-10-25T00:00:00Z");
    }

    #[test]
    fn days_and_months_are_read_as_cron_does() {
        let cases = [
            ("0 3 * * 1-5", ["2026-12-01", "2026-12-02"]),
            ("0 3 * * SAT,7", ["2026-12-05", "2026-12-06"]),
            // Both days count if both are set, as in Vixie's cron.
            ("0 3 13 * FRI", ["2026-12-04", "2026-12-11"]),
            ("0 3 L * *", ["2026-12-31", "2027-01-31"]),
            ("0 3 15W 5 *", ["2027-05-14", "2028-05-15"]),
            ("0 3 * * 1L", ["2026-12-28", "2027-01-25"]),
            ("0 3 1-7 * +MON", ["2026-12-07", "2027-01-04"]),
            ("0 3 29 2 *", ["2028-02-29", "2032-02-29"]),
            ("0 3 29 2 +MON", ["2044-02-29", "2072-02-29"]),
            ("0 3 * JAN MON#1", ["2027-01-04", "2028-01-03"]),
        ];
        for (expression, days) in cases {
            let expected = days.map(|day| format!("{day}T03:00:00+00:00"));
            let runs = runs(expression, "UTC", "2026-11-30T12:00:00Z", 2);
            assert_eq!(runs, expected, "{expression}");
        }
        let seconds = runs("*/30 * * * * *", "UTC", "2026-11-30T12:00:00Z", 2);
        assert_eq!(
            seconds,
            ["30", "00"].map(|s| match s {
                "30" => "2026-11-30T12:00:30+00:00",
                _ => "2026-11-30T12:01:00+00:00",
            })
        );
    }

    #[test]
    fn the_last_of_many_missed_times_is_found() {
        let schedule = schedule("0 * * * *", "Europe/Berlin");
        let (planned, now) = (at("2026-10-24T20:00:00Z"), at("2026-10-25T09:59:59Z"));
        assert_eq!(
            schedule.last_until(planned, now),
            at("2026-10-25T09:00:00Z")
        );
        let on_time = at("2026-10-24T20:00:00.3Z");
        assert_eq!(schedule.last_until(planned, on_time), planned);
    }

    #[test]
    fn what_is_wrong_with_an_expression_is_told_by_its_field() {
        let wrong = |expression: &str| check_expression(expression).expect_err(expression);
        assert!(wrong("0 24 * * *").starts_with("expected for the hour: 0-23;"));
        assert!(wrong("60 * * * *").starts_with("expected for the minute: 0-59;"));
        assert!(wrong("0 0 0 * *").starts_with("expected for the day of the month: 1-31"));
        assert!(wrong("61 * * * * *").starts_with("expected for the second: 0-59;"));
        assert!(wrong("0 3 * * MOM").starts_with("expected for the day of the week: 0-7"));
        for few in [
            "",
            "daily",
            "@reboot",
            "0 3 * *",
            "0 0 0 1 1 * 2027",
            "0 3 * * \u{661}",
        ] {
            assert!(
                wrong(few).starts_with("expected a cron expression of five fields"),
                "{few}"
            );
        }
        let long = format!("{}0 3 * * *", " ".repeat(EXPRESSION_BYTES_MAX));
        assert!(wrong(&long).starts_with("expected a cron expression of five fields"));
        for right in ["@DAILY", " 0  3 * * 1-5 ", "*/5 0 3 1,15 JAN-MAR ?"] {
            assert_eq!(check_expression(right), Ok(()), "{right}");
        }
    }

    #[test]
    fn a_day_that_never_comes_is_found_out_soon() {
        let begin = std::time::Instant::now();
        for expression in ["0 0 30 2 *", "* * 31 2,4,6,9,11 *", "*/7 1 1 30 2 *"] {
            assert_eq!(
                schedule(expression, "Europe/Berlin").next_after(at("2026-11-30T12:00:00Z")),
                None
            );
        }
        assert!(
            begin.elapsed() < Duration::from_secs(1),
            "{:?}",
            begin.elapsed()
        );
    }

    proptest! {
        /// A peer can send any text.
        #[test]
        fn any_text_is_refused_or_has_times_that_go_on(
            text in "[-0-9*/,#LW?+@ A-Za-z]{0,12}|([-0-9*/,#LW?+]{1,4} ){4,5}[-0-9*/,#LW?+]{1,5}",
            zone in prop::sample::select(vec!["UTC", "Europe/Berlin", "Australia/Lord_Howe", "America/St_Johns"]),
            start in 1_700_000_000_000_000..1_900_000_000_000_000_i64,
        ) {
            if check_expression(&text).is_ok() {
                let schedule = schedule(&text, zone);
                let start = Timestamp(start);
                if let Some(next) = schedule.next_after(start) {
                    prop_assert!(next > start);
                    prop_assert_eq!(schedule.last_until(next, next), next);
                    if let Some(second) = schedule.next_after(next) {
                        prop_assert!(second > next);
                        prop_assert_eq!(schedule.last_until(next, second), second);
                    }
                }
            }
        }
    }
}
