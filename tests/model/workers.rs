//! The model's workers: who is alive, and what children are busy with.

use super::answer::{self, Answer, Failure, Line, encoded};
use super::model::{Attempt, Model};
use super::operations::Heartbeat;
use coordinated::clock::Timestamp;
use coordinated::coordinate::{AttemptStatus, Name};
use std::collections::BTreeMap;

#[derive(Clone)]
pub struct Worker {
    /// In the form of the last heartbeat.
    pub name: Name,
    pub parent: Option<Name>,
    pub mode: Option<Name>,
    pub heartbeat: Timestamp,
    pub expiration: Timestamp,
    pub environment: Option<Vec<u8>>,
}

impl Model {
    pub fn heartbeat(&mut self, heartbeat: &Heartbeat) -> Answer {
        let worker = Worker {
            name: heartbeat.worker.clone(),
            parent: heartbeat.parent.clone(),
            mode: heartbeat.mode.clone(),
            heartbeat: self.now,
            expiration: self.now.plus(heartbeat.lifetime),
            environment: heartbeat.environment.as_ref().map(encoded),
        };
        self.workers.insert(heartbeat.worker.clone(), worker);
        Answer::Done
    }

    pub fn unregister(&mut self, worker: &Name) -> Answer {
        if self.workers.remove(worker).is_none() {
            return Answer::Failed(Failure::NoSuchWorker);
        }
        self.let_go(worker, |_| true);
        Answer::Done
    }

    /// A worker that has got other work has let go of what it lost.
    pub fn let_go_of_lost(&mut self, worker: &Name) {
        self.let_go(worker, |attempt| attempt.status != AttemptStatus::Pending);
    }

    pub fn workers(&self) -> Answer {
        let workers = self.workers.values();
        let children = workers
            .clone()
            .filter(|worker| worker.parent.is_some())
            .count();
        let stats = answer::worker_stats(self.workers.len() as u64, children as u64);
        Answer::Seen(workers.map(Worker::line).chain([stats]).collect())
    }

    pub fn worker(&self, name: &Name) -> Answer {
        let lines = self.workers.get(name).map(|worker| {
            let environment = worker.environment.as_deref();
            [worker.line(), answer::unit_data(&worker.name, environment)]
        });
        Answer::Seen(lines.into_iter().flatten().collect())
    }

    /// The children of a worker, each with what it is busy with, the earliest attempt first.
    pub fn children(&self, parent: &Name) -> Answer {
        let mut lines = Vec::new();
        let of_parent = |worker: &&Worker| worker.parent.as_ref() == Some(parent);
        for child in self.workers.values().filter(of_parent) {
            lines.push(answer::name(&child.name));
            let mut held = BTreeMap::new();
            for (spec_name, spec) in &self.specs {
                for (name, unit) in &spec.units {
                    for attempt in &unit.attempts {
                        if attempt.held && attempt.worker.as_ref() == Some(&child.name) {
                            let spec_name = Name::from_text(spec_name);
                            let (data, owner, expires) =
                                (unit.shown_data(), unit.worker(), unit.expiration());
                            held.insert(
                                attempt.id,
                                answer::held_unit(&spec_name, name, data, owner, expires),
                            );
                        }
                    }
                }
            }
            lines.extend(held.into_values());
        }
        Answer::Seen(lines)
    }

    /// Those attempts of a worker are no longer what it is busy with.
    pub fn let_go(&mut self, worker: &Name, if_so: impl Fn(&Attempt) -> bool) {
        for attempt in self.all_units().flat_map(|unit| &mut unit.attempts) {
            if attempt.worker.as_ref() == Some(worker) && if_so(attempt) {
                attempt.held = false;
            }
        }
    }
}

impl Worker {
    fn line(&self) -> Line {
        let (parent, mode) = (self.parent.as_ref(), self.mode.as_ref());
        answer::worker(&self.name, parent, mode, self.heartbeat, self.expiration)
    }
}
