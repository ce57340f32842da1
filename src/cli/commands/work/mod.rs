//! `work`: a worker that runs a program for each unit.

mod collected;
mod ended;
mod find;
mod halt;
mod lines;
mod orphans;
mod output_files;
mod output_rule;
mod process;
mod programs;
mod show;
mod template;

use super::WrongUsage;
use super::names::{NameParser, SpecNameParser, shown, units_of};
use super::output::note;
use super::server::{Daemon, Place};
use super::set_spec::note_if_paused;
use crate::cli::values::parse_duration;
use coordinated_client::worker::{self, Plan, RunnerPool, Stopper};
use coordinated_client::{Name, Status};
use halt::Halt;
use output_files::OutputFiles;
use output_rule::Takes;
use process::Limits;
use programs::{Programs, View, Warned};
use show::{Served, Shown};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::Signals;
use std::error::Error;
use std::ffi::OsString;
use std::sync::Arc;
use std::thread;
use std::time::Duration;
use template::Template;

/// The runtime of work specs that have a command.
const EXEC: &str = "exec";

/// The longest time for a program, which the system's clock can represent.
const PROGRAM_TIME_MAX: Duration = Duration::from_secs(10 * 365 * 86_400);

/// The options of `work`.
#[derive(clap::Args)]
#[command(after_long_help = "\
In the arguments, {key}, {spec}, {attempt} and {data.FIELD} are replaced. Each argument stays one argument, and no \
shell is involved. Write {{key}} for a literal {key}; all other braces are literal.

The program gets the unit's data as JSON on standard input. Its environment has COORDINATED_KEY, \
COORDINATED_SPEC, COORDINATED_ATTEMPT, COORDINATED_ATTEMPT_ID, COORDINATED_DATA_FIELD for each field, \
COORDINATED_SERVER, and COORDINATED_OUTPUT, the name of a file that it may write.

If it exits with 0, the unit is finished. If its standard output, or that file, is one JSON object, this becomes \
the unit's data, and an `output` in it adds units to the work spec that `then` names. If a line of the output begins \
with \"{\" but the output is not one JSON object, the unit fails; other output is discarded (see --output). If the \
program exits with 75, the unit is given back to be tried again later. Otherwise the unit fails, with the exit code and \
the end of standard error as traceback. It is then tried again as often as `retries` of its work spec says, unless the \
exit code is 65 (see --final-exit-code).

After the first SIGTERM or SIGINT, running programs may end by themselves; the second one ends them and gives their \
units back. So does SIGHUP.

Exit code: 0 after a signal, or if all units are finished; 1 if units failed or are left, with --until-empty, or if \
--halt-after has ended it.")]
pub(in crate::cli) struct WorkArgs {
    /// Work on the units of this work spec; repeatable
    #[arg(long, value_name = "NAME", value_parser = SpecNameParser)]
    spec: Vec<Name>,

    /// Number of programs to run in parallel [default: the number of processors]
    #[arg(short = 'j', long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..))]
    jobs: Option<u16>,

    /// End when all units of the work specs are finished or failed, including delayed units and those of other
    /// workers
    #[arg(long)]
    until_empty: bool,

    /// Number of units that the program gets at once, at most, as lines of JSON on its standard input
    ///
    /// Each line is an object with key, attempt, attempt_id and data. The program may print lines with a key and either
    /// new data, an error (with "final": true if trying again is of no use), or "retry": true. For units without a line,
    /// the exit code counts. A line that begins with "{" but is invalid fails its unit or, if it has no valid key, all
    /// units without a line.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..))]
    batch: Option<u16>,

    /// Which output of the program becomes the unit's data
    ///
    /// If the program has written the file that COORDINATED_OUTPUT names, it is used instead of standard output.
    #[arg(long, value_name = "WHAT", default_value = "auto")]
    output: Takes,

    /// Run the programs of work specs with `runtime: exec`, which have a `command`
    ///
    /// Everyone who can set work specs can then run any program here.
    #[arg(long)]
    allow_spec_commands: bool,

    /// End a program that runs for longer, with all processes that it has started, and fail its unit
    #[arg(long, value_name = "TIME", value_parser = parse_duration)]
    timeout: Option<Duration>,

    /// Time from SIGTERM to SIGKILL for a program that is to end
    #[arg(long, value_name = "TIME", value_parser = parse_duration, default_value = "10s")]
    grace: Duration,

    /// Delay of a unit that was given back with exit code 75; it doubles with each attempt, up to an hour
    #[arg(long, value_name = "TIME", value_parser = parse_duration, default_value = "10s")]
    retry_delay: Duration,

    /// Exit code with which a program fails its unit for good, although the work spec has `retries`; repeatable
    #[arg(long, value_name = "CODE", value_delimiter = ',', default_value = "65", value_parser = clap::value_parser!(u8).range(1..))]
    final_exit_code: Vec<u8>,

    /// End with exit code 1 when N units in a row have failed here, also if they will be retried
    ///
    /// Running programs may end by themselves. Units that are finished end the row. This is for a broken machine; the key
    /// halt_after of a work spec pauses it for all workers.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    halt_after: Option<u64>,

    /// Length of leases, from 1s to a day; they are renewed after a third of it
    #[arg(long, value_name = "TIME", value_parser = parse_lease, default_value = "60s")]
    lease: Duration,

    /// Name of this worker [default: made of the host and the process id]
    #[arg(long, value_name = "NAME", value_parser = NameParser)]
    worker: Option<Name>,

    #[command(flatten)]
    server: Place,

    /// The program and its arguments
    #[arg(last = true, value_name = "CMD")]
    command: Vec<OsString>,
}

fn parse_lease(text: &str) -> Result<Duration, String> {
    let lease = parse_duration(text)?;
    let allowed = Duration::from_secs(1)..=Duration::from_secs(86_400);
    match allowed.contains(&lease) {
        true => Ok(lease),
        false => Err("a lease must be from 1s to a day long".to_owned()),
    }
}

/// Works until it is told to stop or nothing is left.
pub(super) fn work(args: &WorkArgs) -> Result<(), Box<dyn Error>> {
    let command = command(args)?;
    let mut daemon = args.server.connect()?;
    let served = served(args, &mut daemon)?;
    let runners = Arc::new(RunnerPool::default());
    let stopper = Stopper::of(&runners);
    let (tls, token) = (args.server.tls()?, args.server.token()?);
    let shown = Shown::start(
        stopper.clone(),
        args.server.address(),
        tls.clone(),
        token.clone(),
        &served,
    );
    handle_signals(stopper.clone(), shown.clone())?;
    // Each program needs some files. If the limit stays too low, units are given back.
    let _ = rlimit::increase_nofile_limit(u64::MAX);
    let plan = Plan {
        tls,
        token,
        ..plan(args, &served)
    };
    let programs = Programs {
        command,
        halt: Halt::new(args.halt_after, stopper.clone()),
        limits: Limits {
            timeout: args.timeout.map(|timeout| timeout.min(PROGRAM_TIME_MAX)),
            grace: args.grace.min(PROGRAM_TIME_MAX),
        },
        retry_delay: args.retry_delay,
        final_codes: args.final_exit_code.clone(),
        takes_many: args.batch.is_some(),
        takes: args.output,
        server: args.server.address().to_string(),
        tls_files: args.server.tls_files().clone(),
        output_files: OutputFiles::new()?,
        view: shown.clone(),
        warned: Warned::default(),
    };
    if let Some(command) = &programs.command {
        programs.warned.warn(command, &shown);
    }
    let address = args.server.address();
    let worked = orphans::reap_during(|| worker::run(address.clone(), &plan, &runners, &programs));
    let result = worked.map_err(Box::from).and_then(|tally| {
        let retried = match tally.retried {
            0 => String::new(),
            count => format!(" ({count} will be retried)"),
        };
        let cancelled = match tally.cancelled {
            0 => String::new(),
            count => format!(", {count} cancelled"),
        };
        shown.note(&format!(
            "{} finished, {} failed{retried}, {} given back, {} lost{cancelled}",
            tally.finished, tally.failed, tally.given_back, tally.lost
        ));
        programs.halt.check()?;
        match args.until_empty {
            true => check_what_is_left(&served, &mut daemon),
            false => Ok(()),
        }
    });
    // Not as other commands do, which would wait for a reader in spite of signals.
    shown.end(result.err()).map_err(Box::from)
}

fn plan(args: &WorkArgs, served: &Served) -> Plan {
    let threads = match args.jobs {
        Some(jobs) => usize::from(jobs),
        None => thread::available_parallelism().map_or(1, |count| count.get()),
    };
    let mut plan = Plan::of_this_process();
    if let Some(name) = &args.worker {
        plan.name = name.clone();
    }
    plan.threads = threads;
    plan.batch = args.batch.map_or(1, usize::from);
    plan.lease = args.lease;
    plan.work_specs = served.work_specs.clone();
    plan.runtimes = served.runtimes.clone();
    plan.until_empty = args.until_empty;
    plan
}

/// The program on the command line; `None` if work specs name theirs.
fn command(args: &WorkArgs) -> Result<Option<Template>, Box<dyn Error>> {
    if args.command.is_empty() {
        return match args.allow_spec_commands {
            true => Ok(None),
            false => Err(WrongUsage(
                "give a program after --, or run those of work specs with --allow-spec-commands",
            )
            .into()),
        };
    }
    if args.allow_spec_commands {
        return Err(WrongUsage("give either a program or --allow-spec-commands, not both").into());
    }
    if args.spec.is_empty() {
        return Err(WrongUsage("give the work spec with --spec").into());
    }
    let template = Template::new(&args.command);
    if args.batch.is_some() && template.names_units() {
        let problem =
            "with --batch the program gets many units at once, so its arguments can't refer to one";
        return Err(WrongUsage(problem).into());
    }
    // An error now is better than failing all units.
    template.program().map(find::find).transpose()?;
    Ok(Some(template))
}

/// The work specs to serve.
fn served(args: &WorkArgs, daemon: &mut Daemon) -> Result<Served, Box<dyn Error>> {
    let knows_runtimes = daemon.has("runtimes");
    let mut runtimes = Vec::new();
    if args.command.is_empty() {
        if args.spec.is_empty() && !knows_runtimes {
            let problem = "this server does not support runtimes: give work specs with --spec";
            return Err(problem.into());
        }
        runtimes.push(EXEC.into());
    }
    for name in &args.spec {
        match daemon.client.get_work_spec(name)? {
            Some(definition) => {
                let runtime = definition.get_some("runtime").and_then(Name::from_value);
                let runtime = runtime.unwrap_or_else(|| "".into());
                if !runtimes.contains(&runtime) {
                    runtimes.push(runtime);
                }
                note_if_paused(daemon, name);
            }
            None if args.until_empty => {
                return Err(format!("there is no work spec {}", shown(name)).into());
            }
            None => note(format!("there is no work spec {} yet", shown(name))),
        }
    }
    Ok(Served {
        work_specs: args.spec.clone(),
        runtimes,
    })
}

/// Handles signals: the first SIGTERM or SIGINT lets the worker drain; the second one, and SIGHUP, stops it.
fn handle_signals(stopper: Stopper, shown: Shown) -> Result<(), Box<dyn Error>> {
    let mut signals = Signals::new([SIGTERM, SIGINT, SIGHUP])?;
    thread::spawn(move || {
        for (number, signal) in signals.forever().enumerate() {
            // After a hang-up nobody sees the programs end, and the terminal does not signal them.
            if number == 0 && signal != SIGHUP {
                shown
                    .note("waiting for running programs to end; repeat the signal to end them now");
                stopper.drain();
            } else {
                stopper.stop();
                shown.hurry();
            }
        }
    });
    Ok(())
}

fn check_what_is_left(served: &Served, daemon: &mut Daemon) -> Result<(), Box<dyn Error>> {
    let counts = served.count(&mut daemon.client)?;
    if counts.failed > 0 {
        let failed = units_of(counts.failed, Some(Status::Failed));
        let names = served.names(&mut daemon.client)?;
        let example = names.first().map(shown).unwrap_or_default();
        return Err(format!("{failed}; `coordinated failed {example}` says why").into());
    }
    match counts.available + counts.pending {
        0 => Ok(()),
        left => Err(format!("{} left", units_of(left, None)).into()),
    }
}
