//! `coordinated bench`: a load generator for every server that speaks CBOR-RPC, this one and the
//! originals alike.
//!
//! One thread and one loop ([`drive`]) serve all connections; what a connection does is its
//! [`drive::Role`]. Requests are encoded once and patched, and answers are walked where they lie, so
//! that the generator costs little beside the server; [`http`] translates both for connections that
//! speak HTTP. A [`ledger`] knows what has become of each unit, and every answer is held against it.
//! It knows nothing of the daemon's inner rooms: only the wire.

#![warn(missing_docs, unreachable_pub)]

mod abuse;
mod add;
mod connection;
mod control;
mod drive;
mod failure;
mod http;
mod idle;
mod latency;
mod ledger;
mod mixed;
mod names;
mod process;
mod report;
mod run;
mod scale;
mod session;
mod token;
mod wire;
mod work;

use bytesize::ByteSize;
use coordinated_client::Address;
use coordinated_client::tls::TlsFiles;
use failure::Failure;
use indicatif::ProgressBar;
use names::Names;
use report::Figures;
use serde_json::Value;
use session::Session;
use std::error::Error;
use std::io::Write;

/// The arguments of the benchmarks.
#[derive(clap::Args)]
#[command(after_long_help = report::JSON_HELP)]
pub struct Args {
    #[command(subcommand)]
    scenario: Scenario,
    #[command(flatten)]
    target: Target,
}

#[derive(clap::Subcommand)]
enum Scenario {
    /// Add units
    Add(add::Args),
    /// Get units and finish them, on many connections in a closed loop
    Work(work::Args),
    /// Work while one client adds, one pages through all units, and one does so in large pages
    Mixed(mixed::Args),
    /// Measure single calls with a thousand units, ten thousand, and so on
    Scale(scale::Args),
    /// Work on one connection beside many that only heartbeat
    Idle(idle::Args),
    /// Work on one connection beside peers that take what they can get, and break off
    Abuse(abuse::Args),
}

/// Which server to load, with which units. The token in COORDINATED_TOKEN is shown, if there is one.
#[derive(clap::Args)]
struct Target {
    /// The server: HOST:PORT, [IPV6]:PORT, tls:HOST:PORT or unix:PATH
    #[arg(
        long,
        global = true,
        env = "COORDINATED_SERVER",
        value_name = "ADDR",
        default_value = Address::DEFAULT
    )]
    server: Address,

    #[command(flatten)]
    tls: TlsFiles,

    /// The server's process on this machine, if it is not found by its connection
    #[arg(long, global = true, value_name = "PID")]
    server_pid: Option<u32>,

    /// The work spec to use; it must not be there yet
    #[arg(long, global = true, value_name = "NAME", default_value = "bench")]
    spec: String,

    /// Delete that work spec first, with all its units, if it is there
    #[arg(long, global = true)]
    force: bool,

    /// Leave the work spec and its units there at the end
    #[arg(long, global = true)]
    keep: bool,

    /// Print one JSON object; --help has its shape
    #[arg(long, global = true)]
    json: bool,

    /// Size of each unit's data
    #[arg(long, global = true, value_name = "SIZE", default_value = "100", value_parser = parse_size)]
    data_bytes: usize,

    /// How the units' names, of 16 bytes, follow each other
    #[arg(long, global = true, value_name = "ORDER", default_value = "ordered")]
    names: Names,

    /// Units to add in each call
    #[arg(long, global = true, value_name = "N", default_value = "1k", value_parser = parse_count)]
    batch: usize,
}

/// What a scenario found.
struct Outcome {
    /// Its own options, for the report.
    options: Value,
    figures: Option<Figures>,
    /// A further field of the JSON object.
    extra: Option<(&'static str, Value)>,
    /// Further lines for people.
    text: String,
}

impl Outcome {
    fn new(options: Value, figures: Figures) -> Self {
        Self {
            options,
            figures: Some(figures),
            extra: None,
            text: String::new(),
        }
    }
}

/// Makes a progress bar from a template of indicatif's. `{rate}` in it stands for the items per second, `{eta}` for the
/// time that is left.
pub type NewBar = fn(&str) -> ProgressBar;

/// Runs one benchmark and prints its results. `new_bar` makes the progress bars.
///
/// # Errors
/// If the server cannot be reached or answers wrongly, or if a check failed.
pub fn run(args: &Args, new_bar: NewBar) -> Result<(), Box<dyn Error>> {
    // If that fails, so does the connection that is too much, and says why.
    let _ = rlimit::increase_nofile_limit(u64::MAX);
    let mut session = Session::open(&args.target, new_bar)?;
    let (scenario, outcome) = match &args.scenario {
        Scenario::Add(args) => ("add", add::run(args, &mut session)),
        Scenario::Work(args) => ("work", work::run(args, &mut session)),
        Scenario::Mixed(args) => ("mixed", mixed::run(args, &mut session)),
        Scenario::Scale(args) => ("scale", scale::run(args, &mut session)),
        Scenario::Idle(args) => ("idle", idle::run(args, &mut session)),
        Scenario::Abuse(args) => ("abuse", abuse::run(args, &mut session)),
    };
    session.run.hide();
    let report = match &outcome {
        Ok(outcome) if args.target.json => report::to_json(scenario, &session, outcome).to_string(),
        Ok(outcome) => report::to_text(scenario, &session, outcome),
        Err(Failure::Check(problem)) if args.target.json => {
            report::problem_to_json(scenario, problem).to_string()
        }
        Err(_) => String::new(),
    };
    if !report.is_empty() {
        writeln!(std::io::stdout(), "{}", report.trim_end())?;
    }
    // What went wrong first is what to tell.
    let closed = session.close();
    outcome?;
    closed?;
    Ok(())
}

/// A number of bytes: `100`, `512KiB` or `64MiB`.
fn parse_size(text: &str) -> Result<usize, String> {
    let size = text.parse::<ByteSize>().ok();
    let bytes = size.and_then(|size| usize::try_from(size.as_u64()).ok());
    bytes.ok_or_else(|| "write a size as 100, 512KiB or 64MiB".to_owned())
}

/// A number: `250`, `10k` or `1M`.
fn parse_number(text: &str) -> Result<u64, String> {
    let (digits, factor) = match text.strip_suffix(['k', 'M']) {
        Some(digits) if text.ends_with('k') => (digits, 1_000),
        Some(digits) => (digits, 1_000_000),
        None => (text, 1),
    };
    let number = digits.parse::<u64>().ok();
    let number = number.and_then(|number| number.checked_mul(factor));
    number.ok_or_else(|| "write a number as 250, 10k or 1M".to_owned())
}

/// A number of things that there must be one of at least.
fn parse_count(text: &str) -> Result<usize, String> {
    match usize::try_from(parse_number(text)?) {
        Ok(0) => Err("there must be one at least".to_owned()),
        Ok(count) => Ok(count),
        Err(_) => Err("too large for this machine".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_may_have_a_suffix() {
        for (text, number) in [("250", Ok(250)), ("10k", Ok(10_000)), ("1M", Ok(1_000_000))] {
            assert_eq!(parse_number(text), number);
        }
        for text in ["", "k", "1K", "-1", "1.5M", "99999999999999999999"] {
            assert!(parse_number(text).is_err(), "{text}");
        }
        assert!(parse_count("0").is_err());
    }
}
