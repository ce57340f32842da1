//! Workers.

use super::answer::Answer;
use super::{Coordinate, Name, Result};
use crate::cbor::Value;
use std::time::Duration;

/// A worker's sign of life.
#[derive(Clone, Debug)]
pub struct Heartbeat {
    /// Who it is.
    pub worker: Name,
    /// What it does: `RUN`, `IDLE` or `TERMINATE` by convention.
    pub mode: Option<Name>,
    /// How long it is taken for alive.
    pub lifetime: Duration,
    /// What it says of itself: a map.
    pub environment: Option<Value>,
    /// Whose child it is.
    pub parent: Option<Name>,
}

impl Heartbeat {
    /// A sign of life that says nothing more, for as long as the Python client has it: 6,000 s.
    #[must_use]
    pub fn new(worker: Name) -> Self {
        Self {
            worker,
            mode: None,
            lifetime: Duration::from_secs(6_000),
            environment: None,
            parent: None,
        }
    }
}

/// How many workers there are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WorkerStats {
    /// All that are alive.
    pub workers: u64,
    /// Those that have a parent. The Python server counts something else.
    pub children: u64,
    /// Those whose lifetime will end.
    pub expirable: u64,
}

/// A unit that a worker has, or had until its lease ran out.
#[derive(Clone, Debug, PartialEq)]
pub struct HeldUnit {
    /// Its work spec.
    pub work_spec: Name,
    /// Its name.
    pub key: Name,
    /// Its data.
    pub data: Value,
    /// Who has it now; another worker's name, or none, if the lease ran out.
    pub worker: Option<Name>,
    /// When the lease of whoever has it ends, in seconds since 1970.
    pub expires: Option<f64>,
}

impl Coordinate {
    /// Registers a worker, or says that it is still alive. Gives a remark of the server, if it has one.
    pub fn worker_heartbeat(&mut self, heartbeat: &Heartbeat) -> Result<Option<String>> {
        let name = |name: &Option<Name>| name.as_ref().map_or(Value::Null, Value::from);
        let params = [
            Value::from(&heartbeat.worker),
            name(&heartbeat.mode),
            heartbeat.lifetime.as_secs_f64().into(),
            heartbeat.environment.clone().into(),
            name(&heartbeat.parent),
        ];
        let answer = self.call_with("worker_heartbeat", params)?;
        let (accepted, remark) = answer.accepted_with_message()?;
        accepted.yes()?;
        Ok(remark)
    }

    /// Forgets a worker. What it has stays its until the leases end.
    pub fn worker_unregister(&mut self, worker: &Name) -> Result<()> {
        self.call_with("worker_unregister", [worker.into()])?.done()
    }

    /// The workers that are alive, and their modes, by name.
    pub fn list_worker_modes(&mut self) -> Result<Vec<(Name, Option<Name>)>> {
        let answer = self.call_with("list_worker_modes", [])?.map_or_pair()?;
        let mut workers = Vec::new();
        for (worker, mode) in answer.entries()? {
            workers.push((worker.name()?, mode.optional_name()?));
        }
        workers.sort();
        Ok(workers)
    }

    /// How many workers there are in each mode.
    pub fn mode_counts(&mut self) -> Result<Vec<(Option<Name>, u64)>> {
        let answer = self.call_with("mode_counts", [])?.map_or_pair()?;
        let mut counts = Vec::new();
        for (mode, count) in answer.entries()? {
            counts.push((mode.optional_name()?, count.count()?));
        }
        counts.sort();
        Ok(counts)
    }

    /// What a worker says of itself, with the `age_seconds` of its last sign of life; `None` if there is no such
    /// worker.
    pub fn get_worker_info(&mut self, worker: &Name) -> Result<Option<Value>> {
        let answer = self
            .call_with("get_worker_info", [worker.into()])?
            .accepted()?;
        Ok(answer.optional().map(Answer::value))
    }

    /// How many workers there are.
    pub fn worker_stats(&mut self) -> Result<WorkerStats> {
        let answer = self.call_with("worker_stats", [])?;
        Ok(WorkerStats {
            workers: answer.field("num_workers").count()?,
            children: answer.field("num_children").count()?,
            expirable: answer.field("num_expirable").count()?,
        })
    }

    /// What a worker's children have, or had until the leases ran out.
    pub fn get_child_work_units(&mut self, worker: &Name) -> Result<Vec<(Name, Vec<HeldUnit>)>> {
        let answer = self
            .call_with("get_child_work_units", [worker.into()])?
            .accepted()?;
        let mut children = Vec::new();
        for (child, units) in answer.entries()? {
            let mut held = Vec::new();
            for unit in units.items()? {
                held.push(HeldUnit {
                    work_spec: unit.field("work_spec_name").name()?,
                    key: unit.field("work_unit_key").name()?,
                    data: unit.field("work_unit_data").value(),
                    worker: unit.field("worker_id").optional_name()?,
                    expires: unit.field("expires").optional_number()?,
                });
            }
            children.push((child.name()?, held));
        }
        Ok(children)
    }
}
