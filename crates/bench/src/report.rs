//! What comes out: a table for people, or one JSON object.

use super::latency::Summary;
use super::session::Session;
use super::{Outcome, Target};
use serde_json::{Map, Value, json};
use std::fmt::Write;

/// What was measured.
pub(super) struct Figures {
    pub(super) seconds: f64,
    pub(super) added: u64,
    pub(super) finished: u64,
    pub(super) cycles: u64,
    pub(super) empty_answers: u64,
    pub(super) leases_over: u64,
    pub(super) rpcs: u64,
    pub(super) calls: Vec<Summary>,
    pub(super) bench_cpu_seconds: f64,
    /// If the server is on this machine.
    pub(super) server: Option<ServerFigures>,
}

/// What the server's process used meanwhile.
pub(super) struct ServerFigures {
    pub(super) cpu_seconds: f64,
    pub(super) rss_bytes_before: u64,
    pub(super) rss_bytes: u64,
    pub(super) rss_peak_bytes: u64,
}

/// The number in `format` of the JSON object: it changes if a field changes its meaning or goes.
const FORMAT: u32 = 1;

/// The shape of the JSON object, for `--help`.
pub(super) const JSON_HELP: &str = "\
What --json prints, one object (times in microseconds where they end in _us):
  format          1; another number if a field changes its meaning or goes
  scenario        its name
  ok              true; false if a check failed, and then only `problem` follows
  server          {address, name, pid}: name as server_info has it, or null; pid if it is local
  units           {data_bytes, names, batch}
  options         the scenario's own options
  seconds         how long it was measured
  added, finished, cycles, rpcs
                  units added and finished, get_work with all its finishes, calls answered
  added_per_s, finished_per_s, cycles_per_s, rpcs_per_s
  empty_answers   answers of get_work that had no unit
  leases_over     units that came again after their lease
  calls           [{call, count, mean_us, p50_us, p99_us, p999_us, max_us}]; call is the method,
                  get_work_units with its limit: get_work_units/1000
  server_process  {cpu_seconds, cpu_us_per_rpc, rss_bytes_before, rss_bytes, rss_peak_bytes}, or
                  null if the server is not local
  bench_process   {cpu_seconds, cpu_us_per_rpc}: what this program took
idle adds rss_bytes_per_connection, abuse an object of that name: what each peer has done. scale has, instead of all from seconds on, sizes:
[{units, adding, probing, p50_ratios}], where adding and probing hold just these fields, and
p50_ratios compares each call with the first size.";

impl Figures {
    pub(super) fn to_json(&self) -> Value {
        Value::Object(self.fields())
    }

    fn fields(&self) -> Map<String, Value> {
        let calls: Vec<_> = self.calls.iter().map(call_to_json).collect();
        let server = self.server.as_ref().map(|server| {
            json!({
                "cpu_seconds": server.cpu_seconds,
                "cpu_us_per_rpc": self.us_per_rpc(server.cpu_seconds),
                "rss_bytes_before": server.rss_bytes_before,
                "rss_bytes": server.rss_bytes,
                "rss_peak_bytes": server.rss_peak_bytes,
            })
        });
        let fields = json!({
            "seconds": self.seconds,
            "added": self.added,
            "finished": self.finished,
            "cycles": self.cycles,
            "rpcs": self.rpcs,
            "added_per_s": self.per_second(self.added),
            "finished_per_s": self.per_second(self.finished),
            "cycles_per_s": self.per_second(self.cycles),
            "rpcs_per_s": self.per_second(self.rpcs),
            "empty_answers": self.empty_answers,
            "leases_over": self.leases_over,
            "calls": calls,
            "server_process": server,
            "bench_process": {
                "cpu_seconds": self.bench_cpu_seconds,
                "cpu_us_per_rpc": self.us_per_rpc(self.bench_cpu_seconds),
            },
        });
        match fields {
            Value::Object(fields) => fields,
            _ => Map::new(),
        }
    }

    fn per_second(&self, count: u64) -> f64 {
        count as f64 / self.seconds.max(1e-9)
    }

    fn us_per_rpc(&self, seconds: f64) -> f64 {
        seconds * 1e6 / self.rpcs.max(1) as f64
    }

    fn to_text(&self) -> String {
        let mut text = String::new();
        let rate = |count| grouped(self.per_second(count) as u64);
        let mut rates = Vec::new();
        for (count, what) in [
            (self.added, "units added/s"),
            (self.finished, "units finished/s"),
            (self.cycles, "cycles/s"),
            (self.rpcs, "RPC/s"),
        ] {
            if count > 0 {
                rates.push(format!("{} {what}", rate(count)));
            }
        }
        let _ = writeln!(text, "  {}  in {:.2} s", rates.join("  "), self.seconds);
        let _ = writeln!(
            text,
            "  {:<22} {:>11} {:>9} {:>9} {:>9} {:>9}",
            "", "calls", "p50", "p99", "p99.9", "max"
        );
        for call in &self.calls {
            let _ = writeln!(
                text,
                "  {:<22} {:>11} {:>9} {:>9} {:>9} {:>9}",
                call.call.label(),
                grouped(call.count),
                micros(call.p50),
                micros(call.p99),
                micros(call.p999),
                micros(call.max)
            );
        }
        if let Some(server) = &self.server {
            let _ = writeln!(
                text,
                "  server: {:.1} µs CPU/RPC, {} RSS ({} before, {} at most)",
                self.us_per_rpc(server.cpu_seconds),
                bytes(server.rss_bytes),
                bytes(server.rss_bytes_before),
                bytes(server.rss_peak_bytes)
            );
        }
        let _ = writeln!(
            text,
            "  bench: {:.1} µs CPU/RPC",
            self.us_per_rpc(self.bench_cpu_seconds)
        );
        for (count, what) in [
            (self.empty_answers, "answers of get_work without a unit"),
            (self.leases_over, "units that came again after their lease"),
        ] {
            if count > 0 {
                let _ = writeln!(text, "  {what}: {}", grouped(count));
            }
        }
        text
    }
}

fn call_to_json(call: &Summary) -> Value {
    json!({
        "call": call.call.label(),
        "count": call.count,
        "mean_us": call.mean,
        "p50_us": call.p50,
        "p99_us": call.p99,
        "p999_us": call.p999,
        "max_us": call.max,
    })
}

/// The JSON object of a benchmark that went well.
pub(super) fn to_json(scenario: &str, session: &Session<'_>, outcome: &Outcome) -> Value {
    let target = session.target;
    let mut fields = Map::new();
    fields.insert("format".to_owned(), json!(FORMAT));
    fields.insert("scenario".to_owned(), json!(scenario));
    fields.insert("ok".to_owned(), json!(true));
    fields.insert(
        "server".to_owned(),
        json!({
            "address": target.server.to_string(),
            "name": session.server_name,
            "pid": session.server_pid,
        }),
    );
    fields.insert("units".to_owned(), units_to_json(target));
    fields.insert("options".to_owned(), outcome.options.clone());
    if let Some(figures) = &outcome.figures {
        fields.extend(figures.fields());
    }
    if let Some((name, value)) = &outcome.extra {
        fields.insert((*name).to_owned(), value.clone());
    }
    Value::Object(fields)
}

/// The JSON object of a benchmark in which a check failed.
pub(super) fn problem_to_json(scenario: &str, problem: &str) -> Value {
    json!({"format": FORMAT, "scenario": scenario, "ok": false, "problem": problem})
}

fn units_to_json(target: &Target) -> Value {
    json!({
        "data_bytes": target.data_bytes,
        "names": target.names.word(),
        "batch": target.batch,
    })
}

/// The report for people.
pub(super) fn to_text(scenario: &str, session: &Session<'_>, outcome: &Outcome) -> String {
    let target = session.target;
    let name = session.server_name.as_deref().unwrap_or("unnamed");
    let pid = session.server_pid;
    let pid = pid.map_or(String::new(), |pid| format!(", pid {pid}"));
    let mut text = format!("{scenario} on {} ({name}{pid})\n  ", target.server);
    let options = outcome.options.as_object();
    for (name, value) in options
        .into_iter()
        .flatten()
        .filter(|(_, value)| !value.is_null())
    {
        let value = value
            .as_str()
            .map_or_else(|| value.to_string(), str::to_owned);
        let _ = write!(text, "{name} {value}, ");
    }
    let _ = writeln!(
        text,
        "data-bytes {}, names {}, batch {}",
        target.data_bytes,
        target.names.word(),
        target.batch
    );
    if let Some(figures) = &outcome.figures {
        text += &figures.to_text();
    }
    text += &outcome.text;
    text += "  checked: no unit twice, none lost, counts agree\n";
    text
}

/// A time, given in microseconds, with three digits.
pub(super) fn micros(time: f64) -> String {
    let (value, unit) = match time {
        time if time < 1e3 => (time, "µs"),
        time if time < 1e6 => (time / 1e3, "ms"),
        time => (time / 1e6, "s"),
    };
    let decimals = match value {
        value if value < 10.0 => 2,
        value if value < 100.0 => 1,
        _ => 0,
    };
    format!("{value:.decimals$} {unit}")
}

/// A size in MiB or KiB.
pub(super) fn bytes(count: u64) -> String {
    match count as f64 {
        count if count >= 1024.0 * 1024.0 => format!("{:.1} MiB", count / (1024.0 * 1024.0)),
        count => format!("{:.1} KiB", count / 1024.0),
    }
}

/// A number with its thousands set apart.
pub(super) fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_are_written_for_people() {
        let times = [7.0, 12.34, 999.0, 1234.0, 2_500_000.0].map(micros);
        assert_eq!(times, ["7.00 µs", "12.3 µs", "999 µs", "1.23 ms", "2.50 s"]);
        let numbers = [0, 999, 1000, 1_234_567].map(grouped);
        assert_eq!(numbers, ["0", "999", "1,000", "1,234,567"]);
        assert_eq!(bytes(3 << 19), "1.5 MiB");
    }
}
