//! `summary` and `status`: how many units there are of each status, how fast they get done.

use super::names::{Spec, shown};
use super::output::{Column, Format, Output, Shown, Tone, count, note, plain};
use super::server::{Daemon, Server};
use crate::cli::values::{now, parse_duration, span};
use coordinated_client::{Counts, Error as CallError, Name};
use serde_json::{Map, Value as Json, json};
use std::collections::{HashMap, VecDeque};
use std::error::Error;
use std::thread;
use std::time::{Duration, Instant};

/// How often to look.
#[derive(clap::Args)]
struct Watch {
    /// Look again and again, every 2s or as often as TIME says, until Ctrl-C
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

    /// Look twice, so far apart, to tell how fast units get done
    #[arg(long, value_name = "TIME", value_parser = parse_interval)]
    rate: Option<Duration>,
}

fn parse_interval(text: &str) -> Result<Duration, String> {
    match parse_duration(text)? {
        Duration::ZERO => Err("write a span of time of more than nothing".to_owned()),
        span => Ok(span),
    }
}

/// What `summary` can be told.
#[derive(clap::Args)]
#[command(after_long_help = "\
The rate, of units that were finished or failed, and the time that the rest takes at that rate need two \
looks: --watch or --rate. On a narrow terminal the delayed units and the waiting time are left out.

JSON: an object with now, the time in seconds since 1970, and work_specs, an object with an entry for each work \
spec, as `status` has it. With --watch a line each time.")]
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

/// What `status` can be told.
#[derive(clap::Args)]
#[command(after_long_help = "\
JSON: an object with num_available, num_pending, num_blocked (always 0), num_finished, num_failed and \
num_tasks, the sum. Where the daemon tells it, num_delayed, how many of the available ones wait for their \
time, and waiting_seconds, how long the oldest of the others has waited, or null. With --rate and --watch \
done_per_second and remaining_seconds, or null.")]
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

/// What is known of a work spec.
pub(super) struct Standing {
    pub(super) name: Name,
    pub(super) counts: Counts,
    /// What only this daemon tells.
    pub(super) details: Option<Details>,
    /// Units done in a second; `None` if it was not measured.
    pub(super) rate: Option<f64>,
}

#[derive(Clone, Copy, Default)]
pub(super) struct Details {
    pub(super) delayed: u64,
    /// Seconds.
    pub(super) waiting: Option<f64>,
}

/// How long ago the look is with which a rate is measured.
const RATE_LOOKS: usize = 15;

/// The counts of earlier looks, to measure rates.
#[derive(Default)]
pub(super) struct History(VecDeque<(Instant, HashMap<Name, u64>)>);

impl History {
    /// Puts rates to what was seen now, and remembers it.
    pub(super) fn measure(&mut self, seen: &mut [Standing]) {
        let now = Instant::now();
        let done = |standing: &Standing| standing.counts.finished + standing.counts.failed;
        if let Some((then, before)) = self.0.front() {
            let seconds = (now - *then).as_secs_f64();
            for standing in seen.iter_mut() {
                // What was retried or deleted meanwhile would make it negative.
                let before = before.get(&standing.name).copied().unwrap_or(0);
                let more = done(standing).saturating_sub(before);
                standing.rate = (seconds > 0.0).then(|| more as f64 / seconds);
            }
        }
        let counts = seen.iter().map(|seen| (seen.name.clone(), done(seen)));
        self.0.push_back((now, counts.collect()));
        if self.0.len() > RATE_LOOKS {
            self.0.pop_front();
        }
    }
}

impl Standing {
    pub(super) fn remaining_seconds(&self) -> Option<f64> {
        let left = self.counts.available + self.counts.pending;
        let rate = self.rate.filter(|rate| *rate > 0.0)?;
        Some(left as f64 / rate)
    }

    fn to_json(&self) -> Json {
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
            object["waiting_seconds"] = details.waiting.into();
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

    /// A dash if it can't be told since nothing gets done, and nothing if nothing remains.
    fn shown_remaining(&self) -> String {
        match (self.counts.available + self.counts.pending, self.rate) {
            (0, _) | (_, None) => String::new(),
            _ => self
                .remaining_seconds()
                .map_or_else(|| "-".to_owned(), span),
        }
    }
}

/// Prints how all work specs stand.
pub(super) fn summary(args: &SummaryArgs) -> Result<(), Box<dyn Error>> {
    let mut daemon = args.server.connect()?;
    let form = args.format.for_programs();
    if form.is_none() {
        tell_what_is_missing(&daemon);
    }
    look(&args.watch, |history, output| {
        let mut all = see_all(&mut daemon)?;
        history.measure(&mut all);
        match form {
            Some(form) => {
                let specs = all.iter().map(|seen| (shown(&seen.name), seen.to_json()));
                let specs: Map<String, Json> = specs.collect();
                let object = json!({"now": now(), "work_specs": specs});
                // A line for each look, so that programs can read it as it grows.
                match args.watch.watch {
                    Some(_) => output.item(form, &object),
                    None => output.document(form, &object),
                }
            }
            None => Ok(print_all(&all, output)?),
        }
    })
}

/// Prints how one work spec stands.
pub(super) fn status(args: &StatusArgs) -> Result<(), Box<dyn Error>> {
    let name = args.spec.read()?;
    let mut daemon = args.server.connect()?;
    let form = args.format.for_programs();
    if form.is_none() {
        tell_what_is_missing(&daemon);
    }
    look(&args.watch, |history, output| {
        let mut seen = [see_one(&mut daemon, &name)?];
        history.measure(&mut seen);
        let [seen] = seen;
        match (form, args.watch.watch) {
            (Some(form), Some(_)) => output.item(form, &seen.to_json()),
            (Some(form), None) => output.document(form, &seen.to_json()),
            (None, _) => print_one(&mut daemon, &seen, output),
        }
    })
}

fn tell_what_is_missing(daemon: &Daemon) {
    if !daemon.has("summary") {
        note("this server does not tell which units are delayed, nor how long they wait");
    }
}

/// Looks once, twice, or until somebody has seen enough.
fn look(
    watch: &Watch,
    mut show: impl FnMut(&mut History, &mut Output) -> Result<(), Box<dyn Error>>,
) -> Result<(), Box<dyn Error>> {
    let (mut history, mut output) = (History::default(), Output::new());
    if let Some(rate) = watch.rate {
        // The first look is only to compare with.
        show(&mut history, &mut Output::nowhere())?;
        thread::sleep(rate);
    }
    loop {
        if watch.watch.is_some() {
            output.begin_picture()?;
        }
        show(&mut history, &mut output)?;
        output.flush()?;
        match watch.watch {
            Some(interval) => thread::sleep(interval),
            None => return Ok(()),
        }
    }
}

/// How all work specs stand, by name.
pub(super) fn see_all(daemon: &mut Daemon) -> Result<Vec<Standing>, CallError> {
    let names = daemon.client.work_spec_names()?;
    if !daemon.has("summary") {
        let mut all = Vec::new();
        for name in names {
            match daemon.client.count_work_units(&name) {
                Ok(counts) => all.push(Standing {
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
        Standing {
            name,
            counts: spec.as_ref().map(|spec| spec.counts).unwrap_or_default(),
            details: Some(spec.map_or_else(Details::default, |spec| Details {
                delayed: spec.delayed,
                waiting: spec.waiting,
            })),
            rate: None,
        }
    });
    Ok(all.collect())
}

fn see_one(daemon: &mut Daemon, name: &Name) -> Result<Standing, CallError> {
    let counts = daemon.client.count_work_units(name)?;
    let mut details = None;
    if daemon.has("summary") {
        let summary = daemon.client.summary()?;
        let spec = summary.into_iter().find(|spec| spec.work_spec == *name);
        details = Some(spec.map_or_else(Details::default, |spec| Details {
            delayed: spec.delayed,
            waiting: spec.waiting,
        }));
    }
    Ok(Standing {
        name: name.clone(),
        counts,
        details,
        rate: None,
    })
}

fn print_all(all: &[Standing], output: &mut Output) -> std::io::Result<()> {
    let has_details = all.iter().any(|seen| seen.details.is_some());
    let has_rates = all.iter().any(|seen| seen.rate.is_some());
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
    if has_rates {
        columns.extend([Column::Number("Rate"), Column::Number("Left")]);
    }
    let row = |seen: &Standing| {
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
        if has_rates {
            row.extend([plain(seen.shown_rate()), plain(seen.shown_remaining())]);
        }
        row
    };
    output.table(&columns, all.iter().map(row).collect())
}

fn print_one(
    daemon: &mut Daemon,
    seen: &Standing,
    output: &mut Output,
) -> Result<(), Box<dyn Error>> {
    let counts = &seen.counts;
    let mut available = String::new();
    if let Some(details) = seen.details {
        if details.delayed > 0 {
            available = format!("{} of them delayed", details.delayed);
        } else if let Some(waiting) = details.waiting {
            available = format!("one has been waiting for {}", span(waiting));
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
    if daemon.client.get_work_spec_meta(&seen.name)?.paused {
        output.line("The work spec is paused.")?;
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

    fn seen(finished: u64, available: u64) -> Standing {
        Standing {
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
    fn a_rate_needs_two_looks_and_is_never_negative() {
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
