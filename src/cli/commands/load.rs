//! `load` and `addwork`: a work spec and units of it, from files.

use super::loader::Loader;
use super::names::{Spec, units};
use super::output::{Output, note};
use super::server::{Daemon, Server};
use super::set_spec::{check_successors, set_work_spec, tell_if_paused};
use super::spec_file::SpecFile;
use super::units_file::{UnitsArgs, UnitsFile};
use coordinated_client::Name;
use std::error::Error;
use std::path::PathBuf;

/// What `load` can be told.
#[derive(clap::Args)]
#[command(after_long_help = FORMS)]
pub(in crate::cli) struct LoadArgs {
    /// A YAML or JSON file of the work spec; one that is there is replaced, and keeps its units, and what `pause` and
    /// `control` have set unless the file has a key for it
    #[arg(short = 'w', long, value_name = "FILE")]
    work_spec: PathBuf,

    /// The work spec's `nice`, from which its weight follows
    #[arg(short = 'n', long, value_name = "N", allow_negative_numbers = true)]
    nice: Option<i64>,

    /// The file with the units; - is standard input
    #[arg(
        short = 'u',
        long,
        value_name = "FILE",
        required_unless_present = "no_work"
    )]
    work_units: Option<PathBuf>,

    /// Set the work spec, and add no units
    #[arg(long, conflicts_with = "work_units")]
    no_work: bool,

    #[command(flatten)]
    units: UnitsArgs,

    #[command(flatten)]
    server: Server,
}

/// What `addwork` can be told.
#[derive(clap::Args)]
#[command(after_long_help = FORMS)]
pub(in crate::cli) struct AddworkArgs {
    #[command(flatten)]
    spec: Spec,

    /// The file with the units; - is standard input
    #[arg(short = 'u', long, value_name = "FILE")]
    work_units: PathBuf,

    #[command(flatten)]
    units: UnitsArgs,

    #[command(flatten)]
    server: Server,
}

const FORMS: &str = "\
In each line of the file of units stands a JSON object, with names of units as keys and their data as values:

  {\"n7\": {\"n\": 7}}

Empty lines, and those that begin with #, are passed over. With --lines or --null everything is a name, of any \
bytes; without the end of line, and empty ones are passed over. So is a byte order mark where lines begin. What gzip \
has compressed is uncompressed; zeros behind it are passed over. A line may have 16 MiB.

Units that are there already get the new data, and become available again, also if they are finished. So it does \
no harm to repeat a load that broke off before anything was worked on; after that, go on where it stopped: it says \
the line for --from-line.";

/// Sets a work spec, and adds units from a file.
pub(super) fn load(args: &LoadArgs) -> Result<(), Box<dyn Error>> {
    let (spec_file, spec) = SpecFile::read_spec(&args.work_spec)?;
    let mut daemon = args.server.connect()?;
    check_successors(&spec_file, std::iter::once(&spec), &mut daemon.client)?;
    // Before the work spec is set, which would be too early if there is no such file.
    let file = args.work_units.as_deref();
    let file = file.map(|path| UnitsFile::open(path, &args.units));
    let file = file.transpose()?;
    for warning in &spec.warnings {
        note(warning);
    }
    let definition = match args.nice {
        Some(nice) => spec.with("nice", nice.into()),
        None => spec.definition,
    };
    set_work_spec(&mut daemon, &spec.name, &definition)?;
    let added = match file {
        Some(file) => add_units(&mut daemon, &spec.name, file, &args.units)?,
        None => 0,
    };
    let mut output = Output::new();
    let name = super::names::shown(&spec.name);
    output.line(format!("Set {name}. Added {}.", units(added)))?;
    Ok(output.flush()?)
}

/// Adds units from a file.
pub(super) fn addwork(args: &AddworkArgs) -> Result<(), Box<dyn Error>> {
    let spec = args.spec.read()?;
    let mut daemon = args.server.connect()?;
    let file = UnitsFile::open(&args.work_units, &args.units)?;
    let added = add_units(&mut daemon, &spec, file, &args.units)?;
    let mut output = Output::new();
    output.line(format!("Added {}.", units(added)))?;
    Ok(output.flush()?)
}

fn add_units(
    daemon: &mut Daemon,
    spec: &Name,
    file: UnitsFile,
    args: &UnitsArgs,
) -> Result<u64, Box<dyn Error>> {
    if args.delay.is_some() {
        daemon.tell_of_delays();
    }
    let added = Loader::new(&mut daemon.client, spec, file).run()?;
    if added > 0 {
        tell_if_paused(&mut daemon.client, spec);
    }
    Ok(added)
}
