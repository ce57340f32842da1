//! Runs operations on the store, through `coordinate` alone.

use super::answer::{self, Answer, Failure, Line, Work, encoded};
use super::operations::{
    Cancel, Listing, NewUnit, Operation, Path, Report, Request, Subject, Which,
};
use coordinated::coordinate::storage::{
    Access, Lister, QueueStore, Storage, UnitQuery, WorkSpecStore,
};
use coordinated::coordinate::{
    self, Assignment, AttemptId, Cancellation, Chained, Deletion, Effects, Error, HandedOut,
    IfExists, LockPath, Name, Outcome, Reason, UnitStatus, WorkRequest, WorkSpec,
};
use coordinated::limits::RequestLimits;
use coordinated::store::SqliteStore;
use coordinated_client::cbor::Item;
use serde_json::json;
use test_support::world::{self, World};

type Running<'a> = coordinate::Operation<'a, SqliteStore>;

/// Ends an operation on purpose.
fn on_purpose() -> Error {
    Error::Refused("on purpose".to_owned())
}

/// Runs an operation in the present batch, as the daemon does: first what is over passes. With `undo`
/// it fails when it has done everything. A report is about `subject`. Gives the answer, and the attempts that began with
/// units that were handed out.
///
/// # Errors
/// What the model has no rule for.
pub fn run(
    world: &mut World,
    handed_out: &mut HandedOut,
    operation: &Operation,
    subject: Option<&Subject>,
    undo: bool,
) -> Result<(Answer, Vec<AttemptId>), Error> {
    if world.store.due().is_some_and(|due| due <= world.now) {
        world.operation(|running| running.expire())?;
    }
    let access = match operation {
        _ if operation.only_reads() => Access::Read,
        // As the daemon runs them.
        Operation::GetWork(..) | Operation::Report(..) if !undo => Access::WriteWithBatch,
        _ => Access::Write,
    };
    let (namespace, now) = (world.namespace, world.now);
    let (limits, random) = (&world.limits, &mut world.random);
    if matches!(operation, Operation::Explain(..)) {
        // The model has no rule for workers that do not ask.
        world.memory.asked_for_work = Some(world.now);
    }
    let memory = &world.memory;
    let (mut effects, mut given) = (Effects::default(), Vec::new());
    let mut answer = None;
    let result = world.store.operation(access, |store| {
        (effects, given) = (Effects::default(), Vec::new());
        let mut running = Running {
            store,
            namespace,
            home: namespace,
            now,
            limits,
            chained: Chained::default(),
            memory,
            effects: &mut effects,
            random,
        };
        let done = take(&mut running, handed_out, &mut given, operation, subject)?;
        answer = Some(done);
        if undo { Err(on_purpose()) } else { Ok(()) }
    });
    let begun = given.iter().map(|given| given.attempt).collect();
    if result.is_ok() {
        world.memory.apply(&mut effects);
        for given in given {
            handed_out.remember(given.unit, given.attempt, &given.work_spec, &given.name);
        }
    }
    match (result, answer) {
        (Ok(()), Some(answer)) | (Err(Error::Refused(_)), Some(answer)) => Ok((answer, begun)),
        (Err(error), _) => Ok((Answer::Failed(failure(error)?), begun)),
        (Ok(()), None) => panic!("an operation without an answer"),
    }
}

fn failure(error: Error) -> Result<Failure, Error> {
    match error {
        Error::NoSuchWorkSpec(_) => Ok(Failure::NoSuchWorkSpec),
        Error::NoSuchWorkUnit { .. } => Ok(Failure::NoSuchWorkUnit),
        Error::NoSuchWorker(_) => Ok(Failure::NoSuchWorker),
        Error::Refused(_) => Ok(Failure::Refused),
        Error::Invalid(_) => Ok(Failure::Invalid),
        // No operation of the model names an attempt that is not there.
        Error::NoSuchAttempt(_) | Error::Storage(_) => Err(error),
    }
}

fn take(
    running: &mut Running<'_>,
    handed_out: &HandedOut,
    given: &mut Vec<Assignment>,
    operation: &Operation,
    subject: Option<&Subject>,
) -> Result<Answer, Error> {
    use Operation as Op;
    let done = |()| Answer::Done;
    let named = |spec: &str| Name::from_text(spec);
    match operation {
        Op::SetSpec(definition) => {
            running.set_work_spec(Item::from_checked(&encoded(definition)))?;
            // As ticks do it.
            while let Some(spec) = running.store.next_to_requeue() {
                running.store.requeue(spec, 3)?;
            }
            Ok(Answer::Done)
        }
        Op::Control(spec, control) => running.control_work_spec(&named(spec), control).map(done),
        Op::DeleteSpec(spec) => running.delete_work_spec(&named(spec)).map(done),
        Op::Clear => running.clear().map(|count| Answer::Count(count as u64)),
        Op::Purge(limit) => Ok(running.store.purge(*limit).map(|()| Answer::Done)?),
        Op::Archive(spec, retention) => {
            let names = spec.map(|spec| [named(spec)]);
            let mut pass = running.begin_archive_pass(names.as_ref().map(|names| &names[..]));
            while !pass.is_over() {
                pass = running.archive_some(retention, &pass, 7)?;
            }
            Ok(Answer::Count(pass.archived()))
        }
        Op::Add(spec, units, if_exists) => add(running, spec, units, *if_exists),
        Op::AddRun(spec, run, if_exists) => add(running, spec, &run.units(), *if_exists),
        Op::Prioritize(spec, names, change) => running
            .prioritize_work_units(&named(spec), names, *change)
            .map(done),
        Op::DeleteUnits(spec, which) => {
            let which = match which {
                Which::All => Deletion::All,
                Which::Named(names, statuses) => Deletion::Named(names, statuses.as_deref()),
                Which::InStatus(statuses) => {
                    let mut deletion = running.begin_deletion(&named(spec), statuses)?;
                    while !deletion.is_over() {
                        deletion = running.delete_some(&deletion, 3)?;
                    }
                    return Ok(Answer::Count(deletion.deleted()));
                }
            };
            running
                .delete_work_units(&named(spec), &which)
                .map(Answer::Count)
        }
        Op::Cancel(spec, which, how) => cancel(running, spec, which, how),
        Op::GetWork(request) | Op::WaitForWork(request, _) => {
            *given = get_work(running, request)?;
            Ok(Answer::Work(work_of(running, given)))
        }
        Op::Report(_, of) => {
            let subject = subject.expect("what the report is about");
            report(running, handed_out, subject, of)
        }
        Op::Heartbeat(heartbeat) => {
            let environment = heartbeat.environment.as_ref().map(encoded);
            let heartbeat = coordinate::Heartbeat {
                worker: &heartbeat.worker,
                mode: heartbeat.mode.clone(),
                lifetime: heartbeat.lifetime,
                environment: environment.as_deref(),
                parent: heartbeat.parent.clone(),
            };
            running.heartbeat(heartbeat).map(done)
        }
        Op::Unregister(worker) => running.unregister_worker(worker).map(done),
        Op::Lock(owner, timeout, paths) => {
            running.lock(owner, *timeout, &lock_paths(paths)).map(done)
        }
        Op::LockSome(owner, timeout, paths) => running
            .lock_some(owner, *timeout, &lock_paths(paths))
            .map(Answer::Locked),
        Op::RenewLocks(owner, timeout, paths) => running
            .renew_locks(owner, *timeout, &lock_paths(paths))
            .map(done),
        Op::Unlock(owner, paths) => running.unlock(owner, &lock_paths(paths)).map(done),
        Op::DeleteLocksUnder(path) => {
            while !running.delete_locks_under(&lock_path(path))? {}
            Ok(Answer::Done)
        }
        _ => read(running, operation).map(Answer::Seen),
    }
}

fn add(
    running: &mut Running<'_>,
    spec: &str,
    units: &[NewUnit],
    if_exists: IfExists,
) -> Result<Answer, Error> {
    let data: Vec<Vec<u8>> = units.iter().map(|unit| encoded(&unit.data)).collect();
    let units: Vec<coordinate::NewUnit<'_>> = units
        .iter()
        .zip(&data)
        .map(|(unit, data)| coordinate::NewUnit {
            name: unit.name.clone(),
            data: Item::from_checked(data),
            priority: unit.priority,
            delay: unit.delay,
            group: unit.group.map(str::to_owned),
        })
        .collect();
    running
        .add_work_units(&Name::from_text(spec), &units, if_exists)
        .map(Answer::Added)
}

fn cancel(
    running: &mut Running<'_>,
    spec: &str,
    which: &Which,
    how: &Cancel,
) -> Result<Answer, Error> {
    let (spec, waits_or_runs) = (
        Name::from_text(spec),
        [
            UnitStatus::Available,
            UnitStatus::Delayed,
            UnitStatus::Pending,
        ],
    );
    let cancellation = Cancellation {
        reason: how.reason.map(str::to_owned),
        by: None,
        at: running.now,
    };
    let statuses = match which {
        Which::All => &waits_or_runs[..],
        Which::InStatus(statuses) => statuses,
        Which::Named(names, statuses) => {
            return running
                .cancel_work_units(&spec, names, statuses.as_deref(), &cancellation, how.grace)
                .map(Answer::Cancelled);
        }
    };
    let mut pass = running.begin_cancellation(&spec, statuses)?;
    while !pass.is_over() {
        pass = running.cancel_some(&pass, &cancellation, how.grace, 3)?;
    }
    Ok(Answer::Cancelled(pass.cancelled()))
}

fn get_work(running: &mut Running<'_>, request: &Request) -> Result<Vec<Assignment>, Error> {
    let wanted = WorkRequest {
        max_units: request.max_units,
        lease: request.lease,
        work_specs: &request.work_specs,
        runtimes: &request.runtimes,
    };
    loop {
        // What takes long is to be asked for again.
        if let Some(given) = running.get_work(&request.worker, &wanted)? {
            return Ok(given);
        }
    }
}

/// What was given, and how many units of each spec have failed.
fn work_of(running: &Running<'_>, given: &[Assignment]) -> Work {
    let mut work = Work::default();
    for given in given {
        let unit = answer::given_unit(&given.name, &given.data, given.number, given.expiration);
        work.given.push((plain(&given.work_spec), unit));
    }
    for spec in running.work_specs() {
        work.failed.insert(plain(&spec.name), spec.counts.failed);
    }
    work
}

fn report(
    running: &mut Running<'_>,
    handed_out: &HandedOut,
    subject: &Subject,
    report: &Report,
) -> Result<Answer, Error> {
    let Subject {
        spec,
        name,
        attempt,
    } = subject;
    let data = report.data.as_ref().map(encoded);
    let report = coordinate::Report {
        kind: report.kind,
        lease: report.lease,
        data: data.as_deref(),
        attempt: attempt.map(|token| token.in_store),
        worker: report.worker.clone(),
        delay: report.delay,
        is_final: report.is_final,
    };
    let outcome = running.report(handed_out, &Name::from_text(spec.as_str()), name, &report)?;
    Ok(match outcome {
        Outcome::Accepted => Answer::Done,
        Outcome::Refused(_) => Answer::Failed(Failure::Refused),
    })
}

fn read(running: &mut Running<'_>, operation: &Operation) -> Result<Vec<Line>, Error> {
    use Operation as Op;
    let mut lines = Vec::new();
    match operation {
        Op::ReadLocks(paths) => {
            let owners = running.read_locks(&lock_paths(paths))?;
            lines.extend(owners.iter().map(|owner| answer::name(owner.as_ref())));
        }
        Op::Spec(spec) => {
            let name = Name::from_text(*spec);
            let definition = running.work_spec_definition(&name)?;
            let WorkSpec {
                counts,
                meta,
                recent,
                ..
            } = running.work_spec(&name)?;
            let past = (recent.full_at, recent.outcomes.failed_in_a_row);
            lines.push(answer::spec(&definition, counts, meta, past));
        }
        Op::SpecNames(start) => {
            let start = start.map(Name::from_text);
            let namespace = running.namespace;
            let all = usize::MAX;
            let mut visit = |name: &Name, _: &[u8]| {
                lines.push(answer::name(name));
                Ok(())
            };
            let store = &mut *running.store;
            store.list_work_specs(namespace, start.as_ref(), all, &mut visit)?;
        }
        Op::Status(spec, names) => {
            let spec = running.work_spec(&Name::from_text(*spec))?.id;
            for name in names {
                lines.push(match running.work_unit_report(spec, name)? {
                    Some(unit) => {
                        let (worker, traceback) = (unit.worker.as_ref(), unit.traceback.as_deref());
                        let counted = (unit.failures, unit.lost, unit.retry_at);
                        let cancelled = unit.cancellation.as_ref();
                        answer::unit_status(
                            unit.status,
                            unit.expiration,
                            worker,
                            traceback,
                            counted,
                            cancelled.map(|of| (of.at, of.reason.as_deref())),
                        )
                    }
                    None => answer::not_there(),
                });
            }
        }
        Op::Data(spec, names) => {
            let spec = running.work_spec(&Name::from_text(*spec))?.id;
            for name in names {
                let data = running.find_work_unit_data(spec, name)?;
                lines.push(answer::unit_data(name, data.as_deref()));
            }
        }
        Op::List(spec, listing) => {
            let namespace = running.namespace;
            lines = list(running.store, namespace, spec, listing)?;
        }
        Op::Attempts(spec, name, limit) => {
            let (namespace, spec) = (running.namespace, Name::from_text(*spec));
            let mut visit = |attempt: &coordinate::Attempt, data: Option<&[u8]>| {
                let (status, worker) = (attempt.status, attempt.worker.as_ref());
                let (number, until) = (attempt.number, attempt.expiration);
                lines.push(answer::attempt(
                    number,
                    status,
                    worker,
                    attempt.end,
                    until,
                    data,
                ));
                Ok(())
            };
            running
                .store
                .list_attempts(namespace, &spec, name, *limit, &mut visit)?;
        }
        Op::Explain(spec, name) => {
            let spec = Name::from_text(*spec);
            for reason in running.explain_work(&spec, name.as_ref())? {
                let ahead = match &reason {
                    Reason::UnitsAhead(ahead, _) | Reason::GroupsAhead(ahead) => Some(ahead.count),
                    _ => None,
                };
                lines.push(answer::reason(reason.code(), ahead));
            }
        }
        Op::Workers => {
            let workers = running.workers()?;
            lines.extend(workers.iter().map(worker_line));
            let stats = running.worker_stats()?;
            lines.push(answer::worker_stats(stats.workers, stats.children));
        }
        Op::Worker(name) => {
            if let Some((worker, environment)) = running.worker(name)? {
                lines.push(worker_line(&worker));
                lines.push(answer::unit_data(&worker.name, environment.as_deref()));
            }
        }
        Op::Children(parent) => {
            for child in running.children(parent)? {
                lines.push(answer::name(&child));
                for held in running.held_units(&child)? {
                    let held = running.held_unit(held)?;
                    let (data, owner) = (&held.data, held.owner.as_ref());
                    lines.push(answer::held_unit(
                        &held.work_spec,
                        &held.name,
                        data,
                        owner,
                        held.expiration,
                    ));
                }
            }
        }
        _ => panic!("{operation:?} does more than read"),
    }
    Ok(lines)
}

/// Lists units, in the store's present state or in what a reader sees.
pub fn list(
    lister: &mut impl Lister,
    namespace: coordinate::NamespaceId,
    spec: &str,
    listing: &Listing,
) -> Result<Vec<Line>, Error> {
    let query = UnitQuery {
        statuses: listing.statuses.clone(),
        start: listing.start.clone(),
        limit: listing.limit,
    };
    let mut lines = Vec::new();
    lister.list_work_units(
        namespace,
        &Name::from_text(spec),
        &query,
        &mut |name, data| {
            lines.push(answer::unit_data(name, Some(data)));
            Ok(())
        },
    )?;
    Ok(lines)
}

fn plain(name: &Name) -> String {
    String::from_utf8_lossy(name.bytes()).into_owned()
}

fn worker_line(worker: &coordinate::Worker) -> Line {
    let (parent, mode) = (worker.parent.as_ref(), worker.mode.as_ref());
    answer::worker(
        &worker.name,
        parent,
        mode,
        worker.heartbeat,
        worker.expiration,
    )
}

fn lock_path(path: &Path) -> LockPath {
    let labels = world::cbor(&json!(path));
    LockPath::from_item(Item::from_checked(&labels), &RequestLimits::default()).expect("a path")
}

fn lock_paths(paths: &[Path]) -> Vec<LockPath> {
    paths.iter().map(lock_path).collect()
}
