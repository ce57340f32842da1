//! `work`: a worker that runs a program for each unit.

mod collected;
mod ended;
mod find;
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
use super::set_spec::tell_if_paused;
use crate::cli::values::parse_duration;
use coordinated_client::worker::{self, Crew, Plan, Stopper};
use coordinated_client::{Name, Status};
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

/// The runtime of work specs that name their command themselves.
const EXEC: &str = "exec";

/// No program runs for longer, and the system's clock has room for it.
const FOR_EVER: Duration = Duration::from_secs(10 * 365 * 86_400);

/// What `work` can be told.
#[derive(clap::Args)]
#[command(after_long_help = "\
In the arguments, {key}, {spec}, {attempt} and {data.FIELD} are replaced; each stays one argument, and no shell \
sees it. {{key}} and the like stand for themselves, and all other braces do, too.

The program has the unit's data as JSON on standard input, and in its environment COORDINATED_KEY, \
COORDINATED_SPEC, COORDINATED_ATTEMPT, COORDINATED_DATA_FIELD for each field, COORDINATED_SERVER, and \
COORDINATED_OUTPUT, the name of a file that it may write.

If it exits with 0, the unit is finished; if its standard output, or that file, is one JSON object, then this is \
the unit's data from now on, and an `output` in it adds units to the work spec that `then` names. Output that has a \
line which begins with \"{\" and is not one JSON object fails the unit; other output is not kept (see --output). If it \
exits with 75, the unit is given back for later. Otherwise the unit has failed, with the exit code and the end of \
standard error as traceback.

The first SIGTERM or SIGINT lets what runs come to its end, the second one ends it and gives its units back; so \
does SIGHUP.

Exit code: 0 if it was told to end, or all units are finished; 1 if units failed or are left, with --until-empty.")]
pub(in crate::cli) struct WorkArgs {
    /// Work on the units of this work spec; repeatable
    #[arg(long, value_name = "NAME", value_parser = SpecNameParser)]
    spec: Vec<Name>,

    /// Run so many programs at once [default: as many as there are processors]
    #[arg(short = 'j', long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..))]
    jobs: Option<u16>,

    /// End when all units of the work specs are finished or failed, also those that others work on or that are
    /// delayed
    #[arg(long)]
    until_empty: bool,

    /// Give the program up to so many units at once, as lines of JSON on its standard input
    ///
    /// A line is an object with key, attempt and data. The program may print lines with a key and either new
    /// data, an error, or "retry": true; units without a line end as the program does. A line that begins with "{"
    /// and can't be read fails its unit or, if it does not say which, all units without a line.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..))]
    batch: Option<u16>,

    /// What of the program's output becomes the unit's data
    ///
    /// The file that COORDINATED_OUTPUT names takes the place of standard output if the program has written it.
    #[arg(long, value_name = "WHAT", default_value = "auto")]
    output: Takes,

    /// Run the programs that work specs name themselves, by `command` and `runtime: exec`
    ///
    /// Whoever may set work specs can then run any program here.
    #[arg(long)]
    allow_spec_commands: bool,

    /// End a program that runs for longer, with all that it has started; its unit has failed then
    #[arg(long, value_name = "TIME", value_parser = parse_duration)]
    timeout: Option<Duration>,

    /// How long a program that is to end has from SIGTERM to SIGKILL
    #[arg(long, value_name = "TIME", value_parser = parse_duration, default_value = "10s")]
    grace: Duration,

    /// How long a unit waits that was given back by exit code 75; it doubles with each attempt, up to an hour
    #[arg(long, value_name = "TIME", value_parser = parse_duration, default_value = "10s")]
    retry_delay: Duration,

    /// How long units are held without being renewed, as they are after a third of it; from 1s to a day
    #[arg(long, value_name = "TIME", value_parser = parse_lease, default_value = "60s")]
    lease: Duration,

    /// What the daemon calls this worker [default: after the host and the process]
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
        false => Err("a lease lasts from 1s to a day".to_owned()),
    }
}

/// Works until it is told to stop, or nothing is left.
pub(super) fn work(args: &WorkArgs) -> Result<(), Box<dyn Error>> {
    let command = command(args)?;
    let mut daemon = args.server.connect()?;
    let served = served(args, &mut daemon)?;
    let crew = Arc::new(Crew::default());
    let stopper = Stopper::of(&crew);
    let shown = Shown::start(stopper.clone(), args.server.address(), &served);
    obey_signals(stopper, shown.clone())?;
    // Each program takes some. Where the limit stays too low, units are given back.
    let _ = rlimit::increase_nofile_limit(u64::MAX);
    let programs = Programs {
        command,
        limits: Limits {
            timeout: args.timeout.map(|timeout| timeout.min(FOR_EVER)),
            grace: args.grace.min(FOR_EVER),
        },
        retry_delay: args.retry_delay,
        takes_many: args.batch.is_some(),
        takes: args.output,
        server: args.server.address().to_string(),
        output_files: OutputFiles::new()?,
        view: shown.clone(),
        warned: Warned::default(),
    };
    if let Some(command) = &programs.command {
        programs.warned.warn(command, &shown);
    }
    let plan = plan(args, &served);
    let address = args.server.address();
    let worked = orphans::reap_during(|| worker::run(address.clone(), &plan, &crew, &programs));
    let result = worked.map_err(Box::from).and_then(|tally| {
        shown.note(&format!(
            "{} finished, {} failed, {} given back, {} lost",
            tally.finished, tally.failed, tally.given_back, tally.lost
        ));
        match args.until_empty {
            true => say_what_is_left(&served, &mut daemon),
            false => Ok(()),
        }
    });
    // Not by the way of other commands, which would wait for a reader whatever signals come.
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

/// The program that is the same for all units, if it is.
fn command(args: &WorkArgs) -> Result<Option<Template>, Box<dyn Error>> {
    if args.command.is_empty() {
        return match args.allow_spec_commands {
            true => Ok(None),
            false => Err(WrongUsage(
                "name a program behind --, or let work specs name theirs by --allow-spec-commands",
            )
            .into()),
        };
    }
    if args.allow_spec_commands {
        return Err(WrongUsage("name a program, or let work specs name theirs: not both").into());
    }
    if args.spec.is_empty() {
        return Err(WrongUsage("name the work spec whose units to work on by --spec").into());
    }
    let template = Template::new(&args.command);
    if args.batch.is_some() && template.names_units() {
        let problem =
            "with --batch the program gets many units at once: its arguments can't name one";
        return Err(WrongUsage(problem).into());
    }
    // Rather now than by failing all units.
    template.program().map(find::find).transpose()?;
    Ok(Some(template))
}

/// Which work specs to ask for.
fn served(args: &WorkArgs, daemon: &mut Daemon) -> Result<Served, Box<dyn Error>> {
    let knows_runtimes = daemon.has("runtimes");
    let mut runtimes = Vec::new();
    if args.command.is_empty() {
        if args.spec.is_empty() && !knows_runtimes {
            let problem = "this server does not know runtimes: name work specs by --spec";
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
                tell_if_paused(&mut daemon.client, name);
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

/// The first SIGTERM or SIGINT lets the worker drain, the second one stops it, and so does SIGHUP.
fn obey_signals(stopper: Stopper, shown: Shown) -> Result<(), Box<dyn Error>> {
    let mut signals = Signals::new([SIGTERM, SIGINT, SIGHUP])?;
    thread::spawn(move || {
        for (number, signal) in signals.forever().enumerate() {
            // Who hangs up sees neither what runs nor how it ends, and the programs are not told by the terminal.
            if number == 0 && signal != SIGHUP {
                shown.note("ending when what runs has ended; once more to end it now");
                stopper.drain();
            } else {
                stopper.stop();
                shown.hurry();
            }
        }
    });
    Ok(())
}

fn say_what_is_left(served: &Served, daemon: &mut Daemon) -> Result<(), Box<dyn Error>> {
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
