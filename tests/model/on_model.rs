//! Runs operations on the model.

use super::answer::{Answer, encoded};
use super::model::{Addition, Model};
use super::operations::{NewUnit, Operation, Subject};
use super::reports::Memory;

/// Runs an operation on the model. A report is about `subject`.
pub fn run(
    model: &mut Model,
    memory: &Memory,
    operation: &Operation,
    subject: Option<&Subject>,
) -> Answer {
    use Operation as Op;
    match operation {
        Op::SetSpec(definition) => model.set_spec(definition),
        Op::Control(spec, control) => model.control(spec, control),
        Op::DeleteSpec(spec) => model.delete_spec(spec),
        Op::Clear => model.clear(),
        Op::Purge(_) => Answer::Done,
        Op::Archive(spec, retention) => model.archive(*spec, retention),
        Op::Add(spec, units, if_exists) => {
            model.add(spec, units.iter().map(addition).collect(), *if_exists)
        }
        Op::AddRun(spec, run, if_exists) => {
            let additions = run.units().iter().map(addition).collect();
            model.add(spec, additions, *if_exists)
        }
        Op::Prioritize(spec, names, change) => model.prioritize(spec, names, *change),
        Op::DeleteUnits(spec, which) => model.delete_units(spec, which),
        Op::Cancel(spec, which, how) => model.cancel(spec, which, how),
        Op::GetWork(_) | Op::WaitForWork(..) => panic!("get_work is compared otherwise"),
        Op::Report(_, report) => {
            let subject = subject.expect("what the report is about");
            model.report(memory, subject, report)
        }
        Op::Heartbeat(heartbeat) => model.heartbeat(heartbeat),
        Op::Unregister(worker) => model.unregister(worker),
        Op::Lock(owner, timeout, paths) => model.lock(owner, *timeout, paths),
        Op::LockSome(owner, timeout, paths) => model.lock_some(owner, *timeout, paths),
        Op::RenewLocks(owner, timeout, paths) => model.renew_locks(owner, *timeout, paths),
        Op::Unlock(owner, paths) => model.unlock(owner, paths),
        Op::DeleteLocksUnder(path) => model.delete_locks_under(path),
        Op::ReadLocks(paths) => model.read_locks(paths),
        Op::Spec(spec) => model.spec(spec),
        Op::SpecNames(start) => model.spec_names(*start),
        Op::Status(spec, names) | Op::WaitForUnits(spec, names, _) => model.statuses(spec, names),
        Op::Data(spec, names) => model.data(spec, names),
        Op::List(spec, listing) => model.list(spec, listing),
        Op::Attempts(spec, name, limit) => model.attempts(spec, name, *limit),
        Op::Explain(spec, name) => model.explain(spec, name.as_ref()),
        Op::Workers => model.workers(),
        Op::Worker(name) => model.worker(name),
        Op::Children(parent) => model.children(parent),
    }
}

fn addition(unit: &NewUnit) -> Addition {
    Addition {
        name: unit.name.clone(),
        data: encoded(&unit.data),
        priority: unit.priority.unwrap_or(0.0),
        delay: unit.delay,
        group: unit.group.map(str::to_owned),
    }
}
