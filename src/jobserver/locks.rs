//! Methods on locks.

use super::call::{Call, Continuation, Progress};
use super::params::{Options, Param, Params};
use super::reply::{
    FailedValue, check_answer_length, ok_list, ok_pair, true_pair, write_name, write_time,
};
use crate::coordinate::storage::{LockQuery, Storage};
use crate::coordinate::{Error, Lock, LockPath, Name, Result, lock_timeout};
use crate::limits::{self, RequestLimits};
use coordinated_client::cbor::{Item, Writer};
use std::time::Duration;

/// The parameters of methods that set or renew locks.
struct LockRequest<'a> {
    owner: Name,
    timeout: Duration,
    keys: Keys<'a>,
}

impl<'a> LockRequest<'a> {
    fn read(params: &Params<'a>, limits: &RequestLimits) -> Result<Self> {
        let seconds = params.get("timeout").number()?;
        Ok(Self {
            owner: params.get("locker_id").name()?,
            timeout: lock_timeout(seconds),
            keys: Keys::read(params.get("keys"), limits)?,
        })
    }
}

/// Paths of locks, and the items that they were read from.
struct Keys<'a> {
    items: Vec<Item<'a>>,
    paths: Vec<LockPath>,
}

impl<'a> Keys<'a> {
    fn read(keys: Param<'a>, request_limits: &RequestLimits) -> Result<Self> {
        let list = keys.list()?;
        let max = limits::LOCK_PATHS_MAX;
        if list.are_more_than(max) {
            return Err(keys.error(format_args!("more than {max} paths")));
        }
        let items: Vec<Item<'a>> = list.collect();
        let mut paths = Vec::with_capacity(items.len());
        let mut labels = 0;
        for (index, item) in items.iter().enumerate() {
            paths.push(LockPath::from_item(*item, request_limits).map_err(|error| {
                Error::Invalid(format!("parameter keys: item {index}: {error}"))
            })?);
            labels += paths.last().map_or(0, LockPath::len);
            let max = limits::LOCK_LABELS_MAX;
            if labels > max {
                return Err(keys.error(format_args!("more than {max} labels in all paths")));
            }
        }
        Ok(Self { items, paths })
    }
}

pub(super) fn lock<S: Storage>(
    call: &mut Call<'_, S>,
    params: &Params<'_>,
    out: &mut Vec<u8>,
) -> Result<Progress<S>> {
    let request = LockRequest::read(params, call.operation.limits)?;
    let locked = call
        .operation
        .lock(&request.owner, request.timeout, &request.keys.paths);
    if call
        .failures
        .write(out, FailedValue::False, locked)?
        .is_some()
    {
        true_pair(out);
    }
    Ok(Progress::Done)
}

pub(super) fn locksome<S: Storage>(
    call: &mut Call<'_, S>,
    params: &Params<'_>,
    out: &mut Vec<u8>,
) -> Result<Progress<S>> {
    let request = LockRequest::read(params, call.operation.limits)?;
    let locked = call
        .operation
        .lock_some(&request.owner, request.timeout, &request.keys.paths)?;
    ok_pair(out, |writer| {
        writer.array(locked.len());
        for (item, locked) in request.keys.items.iter().zip(&locked) {
            if *locked {
                writer.encoded(item.bytes())
            } else {
                writer.null()
            }
        }
    });
    Ok(Progress::Done)
}

pub(super) fn renew<S: Storage>(
    call: &mut Call<'_, S>,
    params: &Params<'_>,
    out: &mut Vec<u8>,
) -> Result<Progress<S>> {
    let request = LockRequest::read(params, call.operation.limits)?;
    let renewed = call
        .operation
        .renew_locks(&request.owner, request.timeout, &request.keys.paths);
    if call
        .failures
        .write(out, FailedValue::False, renewed)?
        .is_some()
    {
        true_pair(out);
    }
    Ok(Progress::Done)
}

pub(super) fn readlock<S: Storage>(
    call: &mut Call<'_, S>,
    params: &Params<'_>,
    out: &mut Vec<u8>,
) -> Result<Progress<S>> {
    let keys = Keys::read(params.get("keys"), call.operation.limits)?;
    let owners = call.operation.read_locks(&keys.paths)?;
    let mut writer = Writer::new(out);
    writer.array(owners.len());
    for owner in &owners {
        write_name(&mut writer, owner.as_ref());
    }
    Ok(Progress::Done)
}

pub(super) fn unlock<S: Storage>(
    call: &mut Call<'_, S>,
    params: &Params<'_>,
    out: &mut Vec<u8>,
) -> Result<Progress<S>> {
    let owner = params.get("locker_id").name()?;
    let keys = Keys::read(params.get("keys"), call.operation.limits)?;
    let unlocked = call.operation.unlock(&owner, &keys.paths);
    if call
        .failures
        .write(out, FailedValue::False, unlocked)?
        .is_some()
    {
        true_pair(out);
    }
    Ok(Progress::Done)
}

pub(super) fn list_locks<S: Storage>(
    call: &mut Call<'_, S>,
    params: &Params<'_>,
    out: &mut Vec<u8>,
) -> Result<Progress<S>> {
    let options = Options::read(params.get("options"))?;
    let prefix = read_path(params.get("prefix"), call.operation.limits)?;
    let query = LockQuery {
        under: prefix.unwrap_or_else(LockPath::root),
        start: read_path(options.get("start"), call.operation.limits)?,
        limit: options.get("limit").list_limit()?,
    };
    let is_long = query.limit > limits::LIST_INLINE_MAX;
    call.list(is_long, out, move |lister, out| {
        let mut list = Vec::new();
        let mut count = 0;
        lister.list_locks(&query, &mut |path, lock| {
            check_answer_length(list.len() + path.bytes().len())?;
            count += 1;
            write_lock(&mut Writer::new(&mut list), path, lock);
            Ok(())
        })?;
        ok_list(out, count, &list);
        Ok(())
    })
}

fn write_lock(writer: &mut Writer<'_>, path: &LockPath, lock: &Lock) {
    writer.map(3);
    writer.bytes(b"path");
    path.write(writer);
    writer.bytes(b"owner");
    lock.owner.write(writer);
    writer.bytes(b"expires");
    write_time(writer, Some(lock.expiration));
}

/// Reads an optional path.
fn read_path(param: Param<'_>, limits: &RequestLimits) -> Result<Option<LockPath>> {
    let Some(item) = param.item() else {
        return Ok(None);
    };
    let path = LockPath::from_item(item, limits);
    Ok(Some(path.map_err(|error| param.error(error))?))
}

/// Removes only locks, in spite of its name.
pub(super) fn delete_namespace<S: Storage>(
    call: &mut Call<'_, S>,
    params: &Params<'_>,
    out: &mut Vec<u8>,
) -> Result<Progress<S>> {
    let prefix = params.get("prefix").name()?;
    DeleteLocksUnder(LockPath::top_level(&prefix)).step(call, out)
}

/// Removes the locks of a path and of all paths below it.
struct DeleteLocksUnder(LockPath);

impl<S: Storage> Continuation<S> for DeleteLocksUnder {
    fn step(&self, call: &mut Call<'_, S>, out: &mut Vec<u8>) -> Result<Progress<S>> {
        if !call.operation.delete_locks_under(&self.0)? {
            return Ok(Progress::More(Box::new(Self(self.0.clone()))));
        }
        Writer::new(out).unsigned(0);
        Ok(Progress::Done)
    }
}
