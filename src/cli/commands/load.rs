//! `load` and `addwork`: a work spec and its units from files.

use super::existing::{Existing, in_words};
use super::loader::Loader;
use super::names::Spec;
use super::output::{Output, note};
use super::schedule::print_next_run;
use super::server::{Daemon, Server};
use super::set_spec::{check_successors, note_if_paused, set_work_spec};
use super::spec_file::SpecFile;
use super::units_file::{UnitsArgs, UnitsFile};
use coordinated_client::{Added, Name};
use std::error::Error;
use std::path::PathBuf;

/// The arguments of `load`.
#[derive(clap::Args)]
#[command(after_long_help = FORMS)]
pub(in crate::cli) struct LoadArgs {
    /// A YAML or JSON file with the work spec. An existing work spec is replaced; it keeps its units, and what `pause`
    /// and `control` have set unless the file has a key for it
    #[arg(short = 'w', long, value_name = "FILE")]
    work_spec: PathBuf,

    /// The `nice` value of the work spec, which determines its weight
    #[arg(short = 'n', long, value_name = "N", allow_negative_numbers = true)]
    nice: Option<i64>,

    /// The file with the units; - for standard input
    #[arg(
        short = 'u',
        long,
        value_name = "FILE",
        required_unless_present = "no_work"
    )]
    work_units: Option<PathBuf>,

    /// Set the work spec without adding units
    #[arg(long, conflicts_with = "work_units")]
    no_work: bool,

    #[command(flatten)]
    units: UnitsArgs,

    #[command(flatten)]
    existing: Existing,

    #[command(flatten)]
    server: Server,
}

/// The arguments of `addwork`.
#[derive(clap::Args)]
#[command(after_long_help = FORMS)]
pub(in crate::cli) struct AddworkArgs {
    #[command(flatten)]
    spec: Spec,

    /// The file with the units; - for standard input
    #[arg(short = 'u', long, value_name = "FILE")]
    work_units: PathBuf,

    #[command(flatten)]
    units: UnitsArgs,

    #[command(flatten)]
    existing: Existing,

    #[command(flatten)]
    server: Server,
}

const FORMS: &str = "\
Each line of the units file is a JSON object with the names of units as keys and their data as values:

  {\"n7\": {\"n\": 7}}

Empty lines and lines that begin with # are skipped. With --lines or --null each line is a name, which can have any \
bytes; line ends are not part of it, and empty names are skipped. A byte order mark at the beginning of a text file is \
ignored. Files compressed with gzip are decompressed; trailing zeros are ignored. A line can have up to 16 MiB.

Units that exist already are skipped, so an interrupted load can be repeated. To continue where it stopped, which is \
faster, use --from-line with the line in the error message. With --reset existing units get the new data and become \
available again, even if they are finished; so repeat such a load only as long as no unit was worked on. Original servers \
can't skip units, and always reset them.";

/// Sets a work spec, and adds units from a file.
pub(super) fn load(args: &LoadArgs) -> Result<(), Box<dyn Error>> {
    let (spec_file, spec) = SpecFile::read_spec(&args.work_spec)?;
    let mut daemon = args.server.connect()?;
    check_successors(&spec_file, std::iter::once(&spec), &mut daemon.client)?;
    // Opened before the work spec is set, so that a missing file changes nothing.
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
        Some(file) => add_units(&mut daemon, &spec.name, file, &args.units, &args.existing)?,
        None => Added::default(),
    };
    let mut output = Output::new();
    let name = super::names::shown(&spec.name);
    output.line(format!("Set {name}. Added {}.", in_words(added)))?;
    print_next_run(&mut daemon, &spec.name, &mut output)?;
    Ok(output.flush()?)
}

/// Adds units from a file.
pub(super) fn addwork(args: &AddworkArgs) -> Result<(), Box<dyn Error>> {
    let spec = args.spec.read()?;
    let mut daemon = args.server.connect()?;
    let file = UnitsFile::open(&args.work_units, &args.units)?;
    let added = add_units(&mut daemon, &spec, file, &args.units, &args.existing)?;
    let mut output = Output::new();
    output.line(format!("Added {}.", in_words(added)))?;
    Ok(output.flush()?)
}

fn add_units(
    daemon: &mut Daemon,
    spec: &Name,
    file: UnitsFile,
    args: &UnitsArgs,
    existing: &Existing,
) -> Result<Added, Box<dyn Error>> {
    daemon.warn_about_options_of_units(args.delay, args.group.as_deref());
    let if_exists = existing.rule(daemon, spec);
    let added = Loader::new(&mut daemon.client, spec, file, if_exists).run()?;
    if added.new + added.reset > 0 {
        note_if_paused(daemon, spec);
    }
    Ok(added)
}
