//! The commands that look at a running daemon and control it: clients like any other.

mod add;
mod batch;
mod change;
mod confirm;
mod create;
mod daemon;
mod failures;
mod flow;
mod listing;
mod load;
mod loader;
mod names;
mod output;
mod record;
mod server;
mod set_spec;
mod shell;
mod source;
mod spec_file;
mod specs;
mod summary;
mod top;
mod units;
mod units_file;
mod work;
mod workers;

use clap::Subcommand;
use std::error::Error;

/// What can be asked of a daemon. Names are those of the Python command where it has them; dashes do in the
/// place of underscores.
#[derive(Subcommand)]
#[allow(
    clippy::large_enum_variant,
    reason = "there is one, and it lives as long as the program"
)]
pub(super) enum Command {
    /// Set a work spec, and add units from a file
    Load(load::LoadArgs),
    /// Set many work specs from one file
    Flow(flow::FlowArgs),
    /// Create a work spec without a file
    Create(create::CreateArgs),
    /// Run a program for each unit
    Work(work::WorkArgs),
    /// Count the units of all work specs
    Summary(summary::SummaryArgs),
    /// Count the units of a work spec
    Status(summary::StatusArgs),
    /// Watch the daemon on the whole screen, and control it by keys
    Top(top::TopArgs),
    /// List the work specs
    #[command(name = "work_specs", alias = "work-specs")]
    WorkSpecs(specs::WorkSpecsArgs),
    /// Show a work spec
    #[command(name = "work_spec", alias = "work-spec")]
    WorkSpec(specs::WorkSpecArgs),
    /// List the units of a work spec
    #[command(name = "work_units", alias = "work-units")]
    WorkUnits(units::WorkUnitsArgs),
    /// Show single units, with their attempts
    #[command(name = "work_unit", alias = "work-unit")]
    WorkUnit(units::WorkUnitArgs),
    /// Add units to a work spec by name
    Add(add::AddArgs),
    /// Add units to a work spec from a file
    Addwork(load::AddworkArgs),
    /// Hand out no more units of a work spec
    Pause(specs::PauseArgs),
    /// Hand out the units of a paused work spec again
    Resume(specs::PauseArgs),
    /// Move units to the front of a work spec
    Prioritize(add::PrioritizeArgs),
    /// Change how a work spec is scheduled
    Control(specs::ControlArgs),
    /// Make failed units, or any others, available again
    Retry(change::RetryArgs),
    /// Delete work specs with all their units
    Delete(change::DeleteArgs),
    /// Remove units from a work spec
    Clear(change::ClearArgs),
    /// Group the failed units of a work spec by what went wrong
    Failed(failures::FailedArgs),
    /// List the workers
    Workers(workers::WorkersArgs),
    /// Count the workers
    #[command(name = "worker_stats", alias = "worker-stats")]
    WorkerStats(workers::WorkerStatsArgs),
    /// List the locks
    Locks(daemon::LocksArgs),
    /// Show the daemon's configuration
    Config(daemon::ConfigArgs),
    /// Call any method
    Rpc(daemon::RpcArgs),
    /// Say why work is not done
    Why(failures::WhyArgs),
    /// Print completions for a shell
    Completions(shell::CompletionsArgs),
    /// Print a manual page
    Man(shell::ManArgs),
}

/// The words can't go together.
#[derive(Debug, thiserror::Error)]
#[error("{0}; --help says more")]
pub(super) struct WrongUsage(&'static str);

/// The command has failed, and has written why.
#[derive(Debug, thiserror::Error)]
#[error("the command has failed")]
pub(super) struct AlreadyTold;

impl Command {
    /// Runs it.
    ///
    /// # Errors
    /// In one line, with what to do. [`std::io::ErrorKind::BrokenPipe`] if nobody reads the output any more.
    pub(super) fn run(&self) -> Result<(), Box<dyn Error>> {
        match self {
            Self::Load(args) => load::load(args),
            Self::Flow(args) => flow::flow(args),
            Self::Create(args) => create::create(args),
            Self::Work(args) => work::work(args),
            Self::Summary(args) => summary::summary(args),
            Self::Status(args) => summary::status(args),
            Self::Top(args) => top::top(args),
            Self::WorkSpecs(args) => specs::work_specs(args),
            Self::WorkSpec(args) => specs::work_spec(args),
            Self::WorkUnits(args) => units::work_units(args),
            Self::WorkUnit(args) => units::work_unit(args),
            Self::Add(args) => add::add(args),
            Self::Addwork(args) => load::addwork(args),
            Self::Pause(args) => specs::pause(args, true),
            Self::Resume(args) => specs::pause(args, false),
            Self::Prioritize(args) => add::prioritize(args),
            Self::Control(args) => specs::control(args),
            Self::Retry(args) => change::retry(args),
            Self::Delete(args) => change::delete(args),
            Self::Clear(args) => change::clear(args),
            Self::Failed(args) => failures::failed(args),
            Self::Workers(args) => workers::workers(args),
            Self::WorkerStats(args) => workers::worker_stats(args),
            Self::Locks(args) => daemon::locks(args),
            Self::Config(args) => daemon::config(args),
            Self::Rpc(args) => daemon::rpc(args),
            Self::Why(args) => failures::why(args),
            Self::Completions(args) => shell::completions(args),
            Self::Man(args) => shell::man(args),
        }
    }
}
