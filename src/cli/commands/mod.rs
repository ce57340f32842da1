//! The commands that inspect and control a running daemon. They are clients like any other.

mod add;
mod audit;
mod batch;
mod cancel;
mod change;
mod confirm;
mod create;
mod daemon;
mod existing;
mod failures;
mod flow;
mod listing;
mod load;
mod loader;
mod names;
mod output;
mod pause;
mod record;
mod schedule;
mod server;
mod set_spec;
mod shell;
mod source;
mod spec_file;
mod specs;
mod summary;
mod tokens;
mod top;
mod ui;
mod units;
mod units_file;
mod work;
mod workers;

use clap::Subcommand;
use std::error::Error;

/// The commands. Names are those of the Python client's `coordinate` where it has them; a dash works as well as an
/// underscore.
#[derive(Subcommand)]
#[allow(
    clippy::large_enum_variant,
    reason = "there is one value, which lives as long as the program"
)]
pub(super) enum Command {
    /// Set a work spec and add work units from a file
    Load(load::LoadArgs),
    /// Set many work specs from one file
    Flow(flow::FlowArgs),
    /// Create a work spec without a file
    Create(create::CreateArgs),
    /// Run a program for each work unit, in parallel
    Work(work::WorkArgs),
    /// Count the units of every work spec, by status
    Summary(summary::SummaryArgs),
    /// Count the units of one work spec, by status
    Status(summary::StatusArgs),
    /// Live full-screen view, with keys to pause, resume and retry
    Top(top::TopArgs),
    /// List work specs
    #[command(name = "work_specs", alias = "work-specs")]
    WorkSpecs(specs::WorkSpecsArgs),
    /// Print or open the address of the web page
    Ui(ui::UiArgs),
    /// Show the definition of a work spec
    #[command(name = "work_spec", alias = "work-spec")]
    WorkSpec(specs::WorkSpecArgs),
    /// List the units of a work spec, by status or prefix
    #[command(name = "work_units", alias = "work-units")]
    WorkUnits(units::WorkUnitsArgs),
    /// Show work units with their status, data and attempts
    #[command(name = "work_unit", alias = "work-unit")]
    WorkUnit(units::WorkUnitArgs),
    /// Add work units by name
    Add(add::AddArgs),
    /// Add work units from a file
    Addwork(load::AddworkArgs),
    /// Stop handing out units of a work spec
    Pause(pause::PauseArgs),
    /// Hand out units of a paused work spec again
    Resume(pause::ResumeArgs),
    /// Change the priority of work units
    Prioritize(add::PrioritizeArgs),
    /// Change the weight, interval or limit of a work spec
    Control(specs::ControlArgs),
    /// Make failed units, or the named ones, available again
    Retry(change::RetryArgs),
    /// Cancel units: they fail, and workers end them
    Cancel(cancel::CancelArgs),
    /// Delete work specs with all their units
    Delete(change::DeleteArgs),
    /// Remove work units from a work spec
    Clear(change::ClearArgs),
    /// Group failed units by error message
    Failed(failures::FailedArgs),
    /// List workers
    Workers(workers::WorkersArgs),
    /// Count workers
    #[command(name = "worker_stats", alias = "worker-stats")]
    WorkerStats(workers::WorkerStatsArgs),
    /// List held locks
    Locks(daemon::LocksArgs),
    /// Print the daemon's configuration
    Config(daemon::ConfigArgs),
    /// List who has changed what
    Audit(audit::AuditArgs),
    /// Make, list and revoke tokens
    Token(tokens::TokenArgs),
    /// Call any RPC method
    Rpc(daemon::RpcArgs),
    /// Explain why work is not handed out
    Why(failures::WhyArgs),
    /// Print shell completions
    Completions(shell::CompletionsArgs),
    /// Print manual pages
    Man(shell::ManArgs),
}

/// The arguments don't fit together.
#[derive(Debug, thiserror::Error)]
#[error("{0}; see --help")]
pub(super) struct WrongUsage(&'static str);

/// The command failed and has already printed why.
#[derive(Debug, thiserror::Error)]
#[error("the command has failed")]
pub(super) struct AlreadyReported;

impl Command {
    /// Runs the command.
    ///
    /// # Errors
    /// One line that says what to do. [`std::io::ErrorKind::BrokenPipe`] if the reader has closed standard output.
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
            Self::Ui(args) => ui::ui(args),
            Self::WorkSpec(args) => specs::work_spec(args),
            Self::WorkUnits(args) => units::work_units(args),
            Self::WorkUnit(args) => units::work_unit(args),
            Self::Add(args) => add::add(args),
            Self::Addwork(args) => load::addwork(args),
            Self::Pause(args) => pause::pause(args),
            Self::Resume(args) => pause::resume(args),
            Self::Prioritize(args) => add::prioritize(args),
            Self::Control(args) => specs::control(args),
            Self::Retry(args) => change::retry(args),
            Self::Cancel(args) => cancel::cancel(args),
            Self::Delete(args) => change::delete(args),
            Self::Clear(args) => change::clear(args),
            Self::Failed(args) => failures::failed(args),
            Self::Workers(args) => workers::workers(args),
            Self::WorkerStats(args) => workers::worker_stats(args),
            Self::Locks(args) => daemon::locks(args),
            Self::Config(args) => daemon::config(args),
            Self::Audit(args) => audit::audit(args),
            Self::Token(args) => tokens::token(args),
            Self::Rpc(args) => daemon::rpc(args),
            Self::Why(args) => failures::why(args),
            Self::Completions(args) => shell::completions(args),
            Self::Man(args) => shell::man(args),
        }
    }
}
