//! `summary` and `status`: the number of units by status, and the rate at which they are completed.

use super::names::{Spec, shown};
use super::output::{Column, Format, Output, Shown, Tone, count, note, plain};
use super::pause;
use super::schedule;
use super::server::{Daemon, Server};
use crate::cli::values::{now, parse_duration, span};
use coordinated_client::{Counts, Error as CallError, Name, Pause, Schedule, SpecSummary};
use serde_json::{Map, Value as Json, json};
use std::collections::{HashMap, VecDeque};
use std::error::Error;
use std::thread;
use std::time::{Duration, Instant};

/// The flags for repeated output and rates.
#[derive(clap::Args)]
struct Watch {
    /// Repeat every TIME (2s by default) until Ctrl-C
    #[arg(
        long,
        value_name = "TIME",
        num_args = 0..=1,
        require_equals = true,
        default_missing_value = "2s",
        value_parser = parse_interval,
        conflicts_with = "rate"
    )]
    watch: Option<Duration>,

    /// Count twice, TIME apart, to measure the rate
    #[arg(long, value_name = "TIME", value_parser = parse_interval)]
    rate: Option<Duration>,
}

fn parse_interval(text: &str) -> Result<Duration, String> {
    match parse_duration(text)? {
        Duration::ZERO => Err("expected a duration greater than zero".to_owned()),
        span => Ok(span),
    }
}

/// The arguments of `summary`.
#[derive(clap::Args)]
#[command(after_long_help = "\
With --watch or --rate the table also has the rate of completed units (finished or failed) and the time left at that \
rate. If a work spec has a schedule, the table has the time left until its next run. On a narrow terminal the columns for \
delayed units, waiting time and the next run are left out.

JSON: an object with now, the time in seconds since 1970, and work_specs, an object with an entry for each work spec, \
in the form of `status --json`. With --watch one such object per line.")]
pub(in crate::cli) struct SummaryArgs {
    #[command(flatten)]
    watch: Watch,

    #[command(flatten)]
    format: Format,

    /// Print a table, which is the default
    #[arg(long, hide = true)]
    text: bool,

    #[command(flatten)]
    server: Server,
}

/// The arguments of `status`.
#[derive(clap::Args)]
#[command(after_long_help = "\
JSON: an object with num_available, num_pending, num_blocked (always 0), num_finished, num_failed and num_tasks, the \
total. If the daemon reports them, also num_delayed, the number of available units whose delay has not passed, \
num_retrying, the number of available units that have failed and will be tried again, waiting_seconds, how long \
the oldest other available unit has been waiting, or null, pause, an object with reason, by and since (in seconds \
since 1970) if the work spec is paused, or null, and schedule, an object with timezone, next (the times of the next three \
runs), last and skipped (those of the last run that made a unit, and of the last one that made none), or null. With --rate or --watch also done_per_second and remaining_seconds, or \
null.")]
pub(in crate::cli) struct StatusArgs {
    #[command(flatten)]
    spec: Spec,

    #[command(flatten)]
    watch: Watch,

    #[command(flatten)]
    format: Format,

    #[command(flatten)]
    server: Server,
}

/// The counts of a work spec.
pub(super) struct SpecCounts {
    pub(super) name: Name,
    pub(super) counts: Counts,
    /// Reported by this daemon, not by the originals.
    pub(super) details: Option<Details>,
    /// Completed units per second; `None` if not measured.
    pub(super) rate: Option<f64>,
}

#[derive(Clone, Copy, Default)]
pub(super) struct Details {
    pub(super) delayed: u64,
    /// Failed, and to be tried again.
    pub(super) retrying: u64,
    /// In seconds.
    pub(super) waiting: Option<f64>,
}

impl Details {
    fn of(spec: &SpecSummary) -> Self {
        Self {
            delayed: spec.delayed,
            retrying: spec.retrying,
            waiting: spec.waiting,
        }
    }
}

/// The number of earlier counts to keep: a rate is measured from the oldest.
const HISTORY_COUNTS: usize = 15;

/// Earlier counts, to measure rates.
#[derive(Default)]
pub(super) struct History(VecDeque<(Instant, HashMap<Name, u64>)>);

impl History {
    /// Adds rates to the current counts, and remembers these counts.
    pub(super) fn measure(&mut self, seen: &mut [SpecCounts]) {
        let now = Instant::now();
        let done = |spec: &SpecCounts| spec.counts.finished + spec.counts.failed;
        if let Some((then, before)) = self.0.front() {
            let seconds = (now - *then).as_secs_f64();
            for spec in seen.iter_mut() {
                // Units that were retried or deleted meanwhile would make the rate negative.
                let before = before.get(&spec.name).copied().unwrap_or(0);
                let more = done(spec).saturating_sub(before);
                spec.rate = (seconds > 0.0).then(|| more as f64 / seconds);
            }
        }
        let counts = seen.iter().map(|seen| (seen.name.clone(), done(seen)));
        self.0.push_back((now, counts.collect()));
        if self.0.len() > HISTORY_COUNTS {
            self.0.pop_front();
        }
    }
}

impl SpecCounts {
    pub(super) fn remaining_seconds(&self) -> Option<f64> {
        let left = self.counts.available + self.counts.pending;
        let rate = self.rate.filter(|rate| *rate > 0.0)?;
        Some(left as f64 / rate)
    }

    /// `pause` is who paused the work spec, and `schedule` has its runs, if the daemon reports them.
    fn to_json(&self, pause: Option<Option<&Pause>>, schedule: Option<Option<&Schedule>>) -> Json {
        let counts = &self.counts;
        let mut object = json!({
            "num_available": counts.available,
            "num_pending": counts.pending,
            "num_blocked": counts.other,
            "num_finished": counts.finished,
            "num_failed": counts.failed,
            "num_tasks": counts.total(),
        });
        if let Some(details) = self.details {
            object["num_delayed"] = details.delayed.into();
            object["num_retrying"] = details.retrying.into();
            object["waiting_seconds"] = details.waiting.into();
        }
        if let Some(pause) = pause {
            object["pause"] = pause::to_json(pause);
        }
        if let Some(schedule) = schedule {
            object["schedule"] = schedule::to_json(schedule);
        }
        if let Some(rate) = self.rate {
            object["done_per_second"] = rate.into();
            object["remaining_seconds"] = self.remaining_seconds().into();
        }
        object
    }

    fn shown_rate(&self) -> String {
        self.rate
            .map_or_else(String::new, |rate| format!("{rate:.1}/s"))
    }

    /// A dash if the rate is zero, and nothing if no units are left.
    fn shown_remaining(&self) -> String {
        match (self.counts.available + self.counts.pending, self.rate) {
            (0, _) | (_, None) => String::new(),
            _ => self
                .remaining_seconds()
                .map_or_else(|| "-".to_owned(), span),
        }
    }
}

/// Prints the counts of all work specs.
pub(super) fn summary(args: &SummaryArgs) -> Result<(), Box<dyn Error>> {
    let mut daemon = args.server.connect()?;
    let form = args.format.for_programs();
    if form.is_none() {
        note_what_is_missing(&daemon);
    }
    repeat(&args.watch, |history, output| {
        let mut all = count_all(&mut daemon)?;
        history.measure(&mut all);
        let names: Vec<Name> = all.iter().map(|seen| seen.name.clone()).collect();
        let pauses = daemon.pauses_of(&names)?;
        let pauses = pauses.as_ref();
        let schedules = daemon.schedules_of(&names)?;
        let schedules = schedules.as_deref();
        match form {
            Some(form) => {
                let specs = all.iter().enumerate().map(|(index, seen)| {
                    let pause = pauses.map(|pauses| pauses.get(index).and_then(Option::as_ref));
                    let schedule =
                        schedules.map(|schedules| schedules.get(index).and_then(Option::as_ref));
                    (shown(&seen.name), seen.to_json(pause, schedule))
                });
                let specs: Map<String, Json> = specs.collect();
                let object = json!({"now": now(), "work_specs": specs});
                // One line each time, so that programs can read it as a stream.
                match args.watch.watch {
                    Some(_) => output.item(form, &object),
                    None => output.document(form, &object),
                }
            }
            None => {
                let next_runs = next_runs(pauses, schedules);
                print_all(&all, &next_runs, output)?;
                for (name, pause) in names.iter().zip(pauses.into_iter().flatten()) {
                    if let Some(pause) = pause {
                        output.line(format!("{} {}", shown(name), pause::in_words(pause)))?;
                    }
                }
                Ok(())
            }
        }
    })
}

/// Prints the counts of one work spec.
pub(super) fn status(args: &StatusArgs) -> Result<(), Box<dyn Error>> {
    let name = args.spec.read()?;
    let mut daemon = args.server.connect()?;
    let form = args.format.for_programs();
    if form.is_none() {
        note_what_is_missing(&daemon);
    }
    repeat(&args.watch, |history, output| {
        let mut seen = [count_one(&mut daemon, &name)?];
        history.measure(&mut seen);
        let [seen] = seen;
        let Some(form) = form else {
            return print_one(&mut daemon, &seen, output);
        };
        let pauses = daemon.pauses_of(std::slice::from_ref(&name))?;
        let pause = pauses
            .as_ref()
            .map(|pauses| pauses.first().and_then(Option::as_ref));
        let schedules = daemon.schedules_of(std::slice::from_ref(&name))?;
        let schedule = schedules
            .as_ref()
            .map(|schedules| schedules.first().and_then(Option::as_ref));
        let object = seen.to_json(pause, schedule);
        match args.watch.watch {
            Some(_) => output.item(form, &object),
            None => output.document(form, &object),
        }
    })
}

/// The next runs of those work specs that have a schedule and are not paused.
fn next_runs(
    pauses: Option<&Vec<Option<Pause>>>,
    schedules: Option<&[Option<Schedule>]>,
) -> Vec<Option<f64>> {
    let is_paused = |index| pauses.is_some_and(|pauses| matches!(pauses.get(index), Some(Some(_))));
    let next_run = |(index, schedule): (usize, &Option<Schedule>)| {
        let schedule = schedule.as_ref().filter(|_| !is_paused(index))?;
        schedule.next.first().copied()
    };
    let schedules = schedules.unwrap_or_default();
    schedules.iter().enumerate().map(next_run).collect()
}

fn note_what_is_missing(daemon: &Daemon) {
    if !daemon.has("summary") {
        note("this server does not report delayed units and waiting times");
    }
}

/// Counts once, twice, or until interrupted.
fn repeat(
    watch: &Watch,
    mut show: impl FnMut(&mut History, &mut Output) -> Result<(), Box<dyn Error>>,
) -> Result<(), Box<dyn Error>> {
    let (mut history, mut output) = (History::default(), Output::new());
    if let Some(rate) = watch.rate {
        // The first count is only for comparison.
        show(&mut history, &mut Output::nowhere())?;
        thread::sleep(rate);
    }
    loop {
        if watch.watch.is_some() {
            output.clear_screen()?;
        }
        show(&mut history, &mut output)?;
        output.flush()?;
        match watch.watch {
            Some(interval) => thread::sleep(interval),
            None => return Ok(()),
        }
    }
}

/// The counts of all work specs, by name.
pub(super) fn count_all(daemon: &mut Daemon) -> Result<Vec<SpecCounts>, CallError> {
    let names = daemon.client.work_spec_names()?;
    if !daemon.has("summary") {
        let mut all = Vec::new();
        for name in names {
            match daemon.client.count_work_units(&name) {
                Ok(counts) => all.push(SpecCounts {
                    name,
                    counts,
                    details: None,
                    rate: None,
                }),
                // It was deleted meanwhile.
                Err(CallError::Refused { .. }) => {}
                Err(error) => return Err(error),
            }
        }
        return Ok(all);
    }
    let summary = daemon.client.summary()?;
    let mut counted: HashMap<_, _> = summary
        .into_iter()
        .map(|spec| (spec.work_spec.clone(), spec))
        .collect();
    let all = names.into_iter().map(|name| {
        let spec = counted.remove(&name);
        SpecCounts {
            name,
            counts: spec.as_ref().map(|spec| spec.counts).unwrap_or_default(),
            details: Some(spec.as_ref().map_or_else(Details::default, Details::of)),
            rate: None,
        }
    });
    Ok(all.collect())
}

fn count_one(daemon: &mut Daemon, name: &Name) -> Result<SpecCounts, CallError> {
    let counts = daemon.client.count_work_units(name)?;
    let mut details = None;
    if daemon.has("summary") {
        let summary = daemon.client.summary()?;
        let spec = summary.into_iter().find(|spec| spec.work_spec == *name);
        details = Some(spec.as_ref().map_or_else(Details::default, Details::of));
    }
    Ok(SpecCounts {
        name: name.clone(),
        counts,
        details,
        rate: None,
    })
}

/// Prints the table of all work specs, each with the time of its next run, if the daemon reports them.
fn print_all(
    all: &[SpecCounts],
    next_runs: &[Option<f64>],
    output: &mut Output,
) -> std::io::Result<()> {
    let now = now();
    let has_schedules = next_runs.iter().any(Option::is_some);
    let has_details = all.iter().any(|seen| seen.details.is_some());
    let has_rates = all.iter().any(|seen| seen.rate.is_some());
    let is_retrying = |seen: &SpecCounts| seen.details.is_some_and(|details| details.retrying > 0);
    let has_retries = all.iter().any(is_retrying);
    let mut columns = vec![
        Column::Text("Work spec"),
        Column::Number("Avail"),
        Column::Number("Pending"),
        Column::Number("Failed"),
        Column::Number("Finished"),
        Column::Number("Total"),
    ];
    if has_details {
        columns.extend([Column::Extra("Delayed"), Column::Extra("Waiting")]);
    }
    if has_retries {
        columns.push(Column::Extra("Retrying"));
    }
    if has_schedules {
        columns.push(Column::Extra("Next run"));
    }
    if has_rates {
        columns.extend([Column::Number("Rate"), Column::Number("Left")]);
    }
    let row = |(index, seen): (usize, &SpecCounts)| {
        let counts = &seen.counts;
        let mut row: Vec<Shown> = vec![
            plain(shown(&seen.name)),
            count(counts.available, Tone::Plain),
            count(counts.pending, Tone::Busy),
            count(counts.failed, Tone::Bad),
            count(counts.finished, Tone::Good),
            count(counts.total(), Tone::Plain),
        ];
        if has_details {
            let details = seen.details.unwrap_or_default();
            let waiting = details.waiting.map_or_else(String::new, span);
            row.extend([count(details.delayed, Tone::Plain), plain(waiting)]);
        }
        if has_retries {
            let retrying = seen.details.unwrap_or_default().retrying;
            row.push(count(retrying, Tone::Bad));
        }
        if has_schedules {
            let next = next_runs.get(index).copied().flatten();
            row.push(plain(next.map_or_else(String::new, |at| span(at - now))));
        }
        if has_rates {
            row.extend([plain(seen.shown_rate()), plain(seen.shown_remaining())]);
        }
        row
    };
    output.table(&columns, all.iter().enumerate().map(row).collect())
}

fn print_one(
    daemon: &mut Daemon,
    seen: &SpecCounts,
    output: &mut Output,
) -> Result<(), Box<dyn Error>> {
    let counts = &seen.counts;
    let mut available = String::new();
    if let Some(details) = seen.details {
        if details.delayed > 0 {
            available = format!("{} of them delayed", details.delayed);
        } else if let Some(waiting) = details.waiting {
            available = format!("oldest waiting for {}", span(waiting));
        }
        if details.retrying > 0 {
            let separator = if available.is_empty() { "" } else { ", " };
            available += &format!("{separator}{} failed and will be retried", details.retrying);
        }
    }
    let rows = [
        ("available", counts.available, Tone::Plain, available),
        ("pending", counts.pending, Tone::Busy, String::new()),
        ("finished", counts.finished, Tone::Good, String::new()),
        ("failed", counts.failed, Tone::Bad, String::new()),
        ("total", counts.total(), Tone::Plain, String::new()),
    ];
    let rows = rows.map(|(status, number, tone, remark)| {
        vec![plain(status), count(number, tone), plain(remark)]
    });
    let columns = [
        Column::Text("Status"),
        Column::Number("Units"),
        Column::Text(""),
    ];
    output.table(&columns, rows.to_vec())?;
    if let Some(pause) = daemon.pause_of(&seen.name)? {
        output.line(format!("The work spec {}.", pause::in_words(&pause)))?;
    } else if let Some(schedule) = daemon.schedule_of(&seen.name)? {
        output.line(schedule::next_in_words(&schedule))?;
        if let Some(skipped) = schedule::skipped_in_words(&schedule) {
            output.line(skipped)?;
        }
    }
    if seen.rate.is_some() {
        let left = match seen.remaining_seconds() {
            Some(left) if left > 0.0 => format!(", {} left at that rate", span(left)),
            _ => String::new(),
        };
        output.line(format!("{} done{left}.", seen.shown_rate()))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seen(finished: u64, available: u64) -> SpecCounts {
        SpecCounts {
            name: "a".into(),
            counts: Counts {
                finished,
                available,
                ..Counts::default()
            },
            details: None,
            rate: None,
        }
    }

    #[test]
    fn a_rate_needs_two_counts_and_is_never_negative() {
        let mut history = History::default();
        let mut first = [seen(10, 5)];
        history.measure(&mut first);
        assert_eq!((first[0].rate, first[0].remaining_seconds()), (None, None));
        let ten_seconds = Duration::from_secs(10);
        if let Some((then, _)) = history.0.front_mut() {
            *then -= ten_seconds;
        }
        let mut second = [seen(30, 4)];
        history.measure(&mut second);
        let rate = second[0].rate.expect("measured");
        assert!(rate > 1.0 && rate <= 2.0, "{rate}");
        assert!(
            second[0]
                .remaining_seconds()
                .is_some_and(|left| (2.0..4.0).contains(&left))
        );
        assert!(second[0].shown_remaining().ends_with('s'));
        let mut retried = [seen(0, 4)];
        history.measure(&mut retried);
        assert_eq!(
            (retried[0].rate, retried[0].remaining_seconds()),
            (Some(0.0), None)
        );
        assert_eq!(retried[0].shown_remaining(), "-");
        let mut done = [seen(0, 0)];
        history.measure(&mut done);
        assert_eq!(done[0].shown_remaining(), "");
    }
}
