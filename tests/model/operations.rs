//! What a random sequence is made of: every operation with its arguments, and what happens around
//! operations (time, commits, batches that are lost, a daemon that is started anew).

use coordinated::coordinate::{
    AttemptId, Control, IfExists, Lease, Name, PriorityChange, ReportKind, Retention, UnitStatus,
};
use proptest::sample::Index;
use serde_json::Value;
use std::fmt;
use std::time::Duration;

/// One step of a sequence.
#[derive(Debug)]
pub enum Step {
    /// An operation in the present batch, by one of the connections.
    Run(usize, Operation),
    /// One that fails when it has done everything, and so is undone alone.
    Undone(usize, Operation),
    /// The batch is committed.
    Commit,
    /// The disk is full: the batch is lost as a whole.
    Lose,
    /// Time passes.
    Pass(Duration),
    /// The clock is set forward by so many seconds, or back.
    SetClock(i64),
    /// The daemon is stopped and started anew after this time. A database in memory, which would be gone, is
    /// only committed.
    Restart(Duration),
}

impl Step {
    pub fn ends_batch(&self) -> bool {
        matches!(
            self,
            Self::Commit | Self::Lose | Self::SetClock(_) | Self::Restart(_)
        )
    }
}

/// An operation with its arguments.
#[derive(Debug)]
pub enum Operation {
    SetSpec(Json),
    Control(&'static str, Control),
    DeleteSpec(&'static str),
    Clear,
    Purge(usize),
    /// In one work spec or all.
    Archive(Option<&'static str>, Retention),
    Add(&'static str, Vec<NewUnit>, IfExists),
    AddRun(&'static str, Run, IfExists),
    Prioritize(&'static str, Vec<Name>, PriorityChange),
    DeleteUnits(&'static str, Which),
    Cancel(&'static str, Which, Cancel),
    GetWork(Request),
    /// The same, but if there is nothing it waits, until this time is over.
    WaitForWork(Request, Duration),
    /// The statuses of units, which wait until one of those is completed or gone, or until this time is over.
    WaitForUnits(&'static str, Vec<Name>, Duration),
    Report(Target, Report),
    Heartbeat(Heartbeat),
    Unregister(Name),
    Lock(Name, Duration, Vec<Path>),
    LockSome(Name, Duration, Vec<Path>),
    RenewLocks(Name, Duration, Vec<Path>),
    Unlock(Name, Vec<Path>),
    DeleteLocksUnder(Path),
    // These only read.
    ReadLocks(Vec<Path>),
    Spec(&'static str),
    SpecNames(Option<&'static str>),
    Status(&'static str, Vec<Name>),
    Data(&'static str, Vec<Name>),
    List(&'static str, Listing),
    Attempts(&'static str, Name, usize),
    Explain(&'static str, Option<Name>),
    Workers,
    Worker(Name),
    Children(Name),
}

impl Operation {
    pub fn only_reads(&self) -> bool {
        matches!(
            self,
            Self::ReadLocks(_)
                | Self::Spec(_)
                | Self::SpecNames(_)
                | Self::Status(..)
                | Self::Data(..)
                | Self::List(..)
                | Self::Attempts(..)
                | Self::Explain(..)
                | Self::Workers
                | Self::Worker(_)
                | Self::Children(_)
        )
    }
}

/// A place in the tree of locks.
pub type Path = Vec<&'static str>;

/// A value that is shown as JSON. As data of a unit its maps have one key at the most, so that there is
/// one way to encode it.
#[derive(Clone)]
pub struct Json(pub Value);

impl fmt::Debug for Json {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

#[derive(Clone, Debug)]
pub struct NewUnit {
    pub name: Name,
    pub data: Json,
    pub priority: Option<f64>,
    pub delay: Option<Duration>,
    pub group: Option<&'static str>,
}

/// Units with names in a row, so that a batch is larger.
#[derive(Clone, Copy, Debug)]
pub struct Run {
    pub first: u8,
    pub count: u8,
    pub priority: Option<f64>,
    pub delay: Option<Duration>,
    /// They are in two groups by turns; with one they are all in it.
    pub groups: Option<(&'static str, &'static str)>,
}

impl Run {
    pub fn units(self) -> Vec<NewUnit> {
        (0..self.count)
            .map(|index| NewUnit {
                name: run_name(self.first + index),
                data: Json(serde_json::json!({"n": index})),
                priority: self.priority,
                delay: self.delay,
                group: self.groups.map(|(even, odd)| match index % 2 {
                    0 => even,
                    _ => odd,
                }),
            })
            .collect()
    }
}

pub fn run_name(number: u8) -> Name {
    Name::from_bytes(format!("n{number:02}"))
}

#[derive(Debug)]
pub enum Which {
    All,
    Named(Vec<Name>, Option<Vec<UnitStatus>>),
    InStatus(Vec<UnitStatus>),
}

/// Why units are cancelled, and how much time their workers have.
#[derive(Debug)]
pub struct Cancel {
    pub reason: Option<&'static str>,
    pub grace: Duration,
}

#[derive(Clone, Debug)]
pub struct Request {
    pub worker: Name,
    pub max_units: usize,
    pub lease: Duration,
    pub work_specs: Vec<Name>,
    pub runtimes: Vec<String>,
}

/// Which unit a report is about.
#[derive(Debug)]
pub enum Target {
    /// The one that the reporting connection got so many hand-outs ago, if it remembers as many.
    HandedOutHere(usize),
    /// The same of another connection.
    HandedOut(usize, usize),
    /// Any of those that there are.
    AnyUnit(Index),
    Named(&'static str, Name),
}

/// Which attempt a report says that it is about, among those that `get_work` ever told.
#[derive(Debug)]
pub struct Told {
    /// One at any unit. Otherwise one at the unit that the report is about, or at one of its name that was deleted.
    pub at_any_unit: bool,
    pub index: Index,
}

/// An attempt that was told, as the store and the model number it.
#[derive(Clone, Copy, Debug)]
pub struct Token {
    pub in_store: AttemptId,
    pub in_model: u64,
}

/// What a report is about.
pub struct Subject {
    pub spec: String,
    pub name: Name,
    pub attempt: Option<Token>,
}

#[derive(Debug)]
pub struct Report {
    pub kind: ReportKind,
    pub lease: Option<Lease>,
    pub data: Option<Json>,
    pub attempt: Option<Told>,
    pub worker: Option<Name>,
    pub delay: Option<Duration>,
    pub is_final: bool,
}

#[derive(Debug)]
pub struct Heartbeat {
    pub worker: Name,
    pub mode: Option<Name>,
    pub lifetime: Duration,
    pub environment: Option<Json>,
    pub parent: Option<Name>,
}

#[derive(Debug)]
pub struct Listing {
    pub statuses: Option<Vec<UnitStatus>>,
    pub start: Option<Name>,
    pub limit: usize,
}
