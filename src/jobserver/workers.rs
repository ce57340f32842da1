//! Methods on workers.

use super::call::{Call, Progress};
use super::params::Params;
use super::reply::{FailedValue, check_answer_length, ok_pair, true_pair, write_name, write_time};
use crate::coordinate::storage::Storage;
use crate::coordinate::{Heartbeat, HeldUnit, Name, Result, worker_lifetime};
use coordinated_client::cbor::{EMPTY_MAP, Item, Writer};
use std::collections::BTreeMap;
use std::time::Duration;

pub(super) fn worker_heartbeat<S: Storage>(
    call: &mut Call<'_, S>,
    params: &Params<'_>,
    out: &mut Vec<u8>,
) -> Result<Progress<S>> {
    let worker = params.get("worker_id").name()?;
    let (lifetime, note) = worker_lifetime(params.get("expire_seconds").number()?);
    let environment = params.get("data").optional_map()?;
    let parent = params.get("parent").optional_name()?;
    call.operation.heartbeat(Heartbeat {
        worker: &worker,
        mode: params.get("mode").optional_name()?,
        lifetime,
        environment: environment.map(Item::bytes),
        // An empty name means no parent.
        parent: parent.filter(|parent| !parent.bytes().is_empty()),
    })?;
    let mut writer = Writer::new(out);
    writer.array(2);
    writer.boolean(true);
    match note {
        Some(note) => writer.bytes(note.as_bytes()),
        None => writer.null(),
    }
    Ok(Progress::Done)
}

pub(super) fn worker_unregister<S: Storage>(
    call: &mut Call<'_, S>,
    params: &Params<'_>,
    out: &mut Vec<u8>,
) -> Result<Progress<S>> {
    let worker = params.get("worker_id").name()?;
    let unregistered = call.operation.unregister_worker(&worker);
    if call
        .failures
        .write(out, FailedValue::False, unregistered)?
        .is_some()
    {
        true_pair(out);
    }
    Ok(Progress::Done)
}

pub(super) fn list_worker_modes<S: Storage>(
    call: &mut Call<'_, S>,
    _: &Params<'_>,
    out: &mut Vec<u8>,
) -> Result<Progress<S>> {
    let workers = call.operation.workers()?;
    ok_pair(out, |writer| {
        writer.map(workers.len());
        for worker in &workers {
            worker.name.write(writer);
            write_name(writer, worker.mode.as_ref());
        }
    });
    Ok(Progress::Done)
}

pub(super) fn mode_counts<S: Storage>(
    call: &mut Call<'_, S>,
    _: &Params<'_>,
    out: &mut Vec<u8>,
) -> Result<Progress<S>> {
    let mut counts: BTreeMap<Option<Name>, u64> = BTreeMap::new();
    for worker in call.operation.workers()? {
        *counts.entry(worker.mode).or_default() += 1;
    }
    ok_pair(out, |writer| {
        writer.map(counts.len());
        for (mode, count) in &counts {
            write_name(writer, mode.as_ref());
            writer.unsigned(*count);
        }
    });
    Ok(Progress::Done)
}

pub(super) fn get_worker_info<S: Storage>(
    call: &mut Call<'_, S>,
    params: &Params<'_>,
    out: &mut Vec<u8>,
) -> Result<Progress<S>> {
    let worker = params.get("worker_id").name()?;
    let now = call.operation.now;
    match call.operation.worker(&worker)? {
        None => ok_pair(out, |writer| writer.null()),
        Some((worker, environment)) => {
            let age = now.since(worker.heartbeat);
            let environment = environment.as_deref().unwrap_or(EMPTY_MAP);
            ok_pair(out, |writer| write_environment(writer, environment, age));
        }
    }
    Ok(Progress::Done)
}

/// Writes a worker's environment with the time since its last heartbeat added.
fn write_environment(writer: &mut Writer<'_>, environment: &[u8], age: Duration) {
    let entries = || {
        Item::from_checked(environment)
            .as_map()
            .into_iter()
            .flatten()
    };
    let is_age = |key: Item<'_>| key.as_string_bytes().as_deref() == Some(b"age_seconds");
    let others = || entries().filter(|(key, _)| !is_age(*key));
    writer.map(others().count() + 1);
    for (key, value) in others() {
        writer.encoded(key.bytes());
        writer.encoded(value.bytes());
    }
    writer.bytes(b"age_seconds");
    writer.float(age.as_secs_f64());
}

pub(super) fn worker_stats<S: Storage>(
    call: &mut Call<'_, S>,
    _: &Params<'_>,
    out: &mut Vec<u8>,
) -> Result<Progress<S>> {
    let stats = call.operation.worker_stats()?;
    let mut writer = Writer::new(out);
    writer.map(3);
    writer.bytes(b"num_workers");
    writer.unsigned(stats.workers);
    writer.bytes(b"num_children");
    writer.unsigned(stats.children);
    // Every worker expires.
    writer.bytes(b"num_expirable");
    writer.unsigned(stats.workers);
    Ok(Progress::Done)
}

pub(super) fn get_child_work_units<S: Storage>(
    call: &mut Call<'_, S>,
    params: &Params<'_>,
    out: &mut Vec<u8>,
) -> Result<Progress<S>> {
    let parent = params.get("worker_id").name()?;
    let children = call.operation.children(&parent)?;
    let mut writer = Writer::new(out);
    writer.array(2);
    writer.map(children.len());
    for child in &children {
        let units = call.operation.held_units(child)?;
        child.write(&mut writer);
        writer.array(units.len());
        for unit in units {
            write_held_unit(&mut writer, &call.operation.held_unit(unit)?);
            check_answer_length(writer.len())?;
        }
    }
    writer.null();
    Ok(Progress::Done)
}

fn write_held_unit(writer: &mut Writer<'_>, unit: &HeldUnit) {
    writer.map(5);
    writer.bytes(b"work_spec_name");
    unit.work_spec.write(writer);
    writer.bytes(b"work_unit_key");
    unit.name.write(writer);
    writer.bytes(b"work_unit_data");
    writer.encoded(&unit.data);
    writer.bytes(b"worker_id");
    write_name(writer, unit.owner.as_ref());
    writer.bytes(b"expires");
    write_time(writer, unit.expiration);
}
