//! The runs of schedules, in words and for programs.

use super::output::Output;
use super::server::Daemon;
use crate::cli::values::{moment, now, printable, span};
use crate::coordinate::timezone;
use coordinated_client::{Error as CallError, Name, Schedule};
use serde_json::{Value as Json, json};
use std::io;

const FEATURE: &str = "schedules";

impl Daemon {
    /// The runs of a work spec with a schedule, if the server tells them.
    pub(super) fn schedule_of(&mut self, work_spec: &Name) -> Result<Option<Schedule>, CallError> {
        let schedules = self.schedules_of(std::slice::from_ref(work_spec))?;
        Ok(schedules.and_then(|schedules| schedules.into_iter().next().flatten()))
    }

    /// The same of many work specs; `None` if the server does not tell them.
    pub(super) fn schedules_of(
        &mut self,
        work_specs: &[Name],
    ) -> Result<Option<Vec<Option<Schedule>>>, CallError> {
        match self.has(FEATURE) {
            true => self.client.get_schedules(work_specs).map(Some),
            false => Ok(None),
        }
    }
}

/// Prints the next run of a work spec that has a schedule.
pub(super) fn print_next_run(
    daemon: &mut Daemon,
    work_spec: &Name,
    output: &mut Output,
) -> io::Result<()> {
    // An error does not matter: the command's work is done.
    match daemon.schedule_of(work_spec) {
        Ok(Some(schedule)) => output.line(next_in_words(&schedule)),
        _ => Ok(()),
    }
}

/// The next runs in the time zone of the schedule, such as `2026-12-01 03:00:00 +01:00`.
pub(super) fn next_runs(schedule: &Schedule) -> impl Iterator<Item = String> {
    schedule.next.iter().map(|time| local(*time, schedule))
}

/// Such as `The next run is at 2026-12-01 03:00:00 +01:00, in 5h 12m.`
pub(super) fn next_in_words(schedule: &Schedule) -> String {
    match schedule.next.first() {
        Some(next) => format!(
            "The next run is at {}, in {}.",
            local(*next, schedule),
            span(next - now())
        ),
        None => "There is no next run.".to_owned(),
    }
}

/// That the last time of a schedule made no unit, if so.
pub(super) fn skipped_in_words(schedule: &Schedule) -> Option<String> {
    let skipped = schedule.skipped?;
    let is_last = schedule.last.is_none_or(|last| last < skipped);
    is_last.then(|| {
        format!(
            "The last run, at {}, was skipped.",
            local(skipped, schedule)
        )
    })
}

/// For programs: an object with timezone, next, last and skipped, or null.
pub(super) fn to_json(schedule: Option<&Schedule>) -> Json {
    schedule.map_or(Json::Null, |schedule| {
        json!({
            "timezone": schedule.timezone,
            "next": schedule.next,
            "last": schedule.last,
            "skipped": schedule.skipped,
        })
    })
}

/// A time in the time zone of a schedule, or in UTC if this program does not know that.
fn local(seconds: f64, schedule: &Schedule) -> String {
    let shown = || {
        let time =
            jiff::Timestamp::from_duration(jiff::SignedDuration::try_from_secs_f64(seconds).ok()?);
        let time = time.ok()?.to_zoned(timezone(&schedule.timezone)?);
        Some(time.strftime("%Y-%m-%d %H:%M:%S %:z").to_string())
    };
    printable(&shown().unwrap_or_else(|| moment(seconds)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_shown_in_the_time_zone_of_the_schedule() {
        let mut schedule = Schedule {
            timezone: "Europe/Berlin".to_owned(),
            next: vec![1_796_090_400.0, 1_811_642_400.0],
            last: Some(1_796_004_000.0),
            skipped: None,
        };
        let shown: Vec<String> = next_runs(&schedule).collect();
        let expected = ["2026-12-01 03:00:00 +01:00", "2027-05-30 04:00:00 +02:00"];
        assert_eq!(shown, expected);
        assert_eq!(skipped_in_words(&schedule), None);
        schedule.skipped = Some(1_796_004_060.0);
        let skipped = "The last run, at 2026-11-30 03:01:00 +01:00, was skipped.";
        assert_eq!(skipped_in_words(&schedule).as_deref(), Some(skipped));
        schedule.timezone = "Mars/Olympus".to_owned();
        let shown: Vec<String> = next_runs(&schedule).collect();
        assert_eq!(shown[0], "2026-12-01 02:00:00 UTC");
    }
}
