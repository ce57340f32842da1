//! The methods: one table, from names to functions.

use super::call::Run;
use super::{cancel, daemon, insight, locks, retention, specs, units, work, workers};
use crate::coordinate::storage::{Access, Storage};

/// The form of a result on the wire.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ResultForm {
    /// A pair of the value and null, or of some value and a message: see [`super::reply::Failures`].
    Pair,
    /// A pair whose value is a map with numbers of statuses as its keys.
    PairOfCounts,
    /// The value itself.
    Plain,
}

/// What clients see of a method.
#[derive(Debug)]
pub struct MethodInfo {
    /// Its place in the table, from 0 on.
    pub number: usize,
    /// Its name on the wire.
    pub name: &'static str,
    /// The names of its parameters, in order.
    pub params: &'static [&'static str],
    /// How many of them are required.
    pub required: usize,
    /// Whether it may write.
    pub access: Access,
    /// The form of its result.
    pub result: ResultForm,
}

/// A method.
pub(super) struct Method<S: Storage> {
    pub(super) info: MethodInfo,
    /// Its first step.
    pub(super) run: Run<S>,
}

const fn reads<S: Storage>(
    name: &'static str,
    params: &'static [&'static str],
    run: Run<S>,
) -> Method<S> {
    Method {
        info: MethodInfo {
            number: 0,
            name,
            params,
            required: params.len(),
            access: Access::Read,
            result: ResultForm::Pair,
        },
        run,
    }
}

const fn writes<S: Storage>(
    name: &'static str,
    params: &'static [&'static str],
    run: Run<S>,
) -> Method<S> {
    let mut method = reads(name, params, run);
    method.info.access = Access::Write;
    method
}

/// The methods with their places as numbers.
const fn numbered<S: Storage, const N: usize>(mut methods: [Method<S>; N]) -> [Method<S>; N] {
    let mut number = 0;
    while number < N {
        methods[number].info.number = number;
        number += 1;
    }
    methods
}

impl<S: Storage> Method<S> {
    /// The same method, which finds what is wrong with a request before its first write.
    const fn undone_with_batch(mut self) -> Self {
        self.info.access = Access::WriteWithBatch;
        self
    }

    /// The same method with its last `count` parameters optional.
    const fn optional(mut self, count: usize) -> Self {
        self.info.required -= count;
        self
    }

    /// The same method with a result in another form.
    const fn result(mut self, form: ResultForm) -> Self {
        self.info.result = form;
        self
    }

    /// All methods.
    pub(super) const ALL: &'static [Self] = &numbered([
        writes("set_work_spec", &["work_spec"], specs::set_work_spec),
        reads("get_work_spec", &["work_spec_name"], specs::get_work_spec).result(ResultForm::Plain),
        reads("list_work_specs", &["options"], specs::list_work_specs).result(ResultForm::Plain),
        writes(
            "control_work_spec",
            &["work_spec_name", "options"],
            specs::control_work_spec,
        ),
        reads(
            "get_work_spec_meta",
            &["work_spec_name", "options"],
            specs::get_work_spec_meta,
        )
        .optional(1),
        writes("del_work_spec", &["work_spec_name"], specs::del_work_spec),
        writes("clear", &[], specs::clear).result(ResultForm::Plain),
        writes("archive", &["options"], retention::archive)
            .optional(1)
            .result(ResultForm::Plain),
        writes(
            "add_work_units",
            &["work_spec_name", "work_unit_key_vals", "options"],
            units::add_work_units,
        )
        .optional(1),
        reads(
            "count_work_units",
            &["work_spec_name"],
            units::count_work_units,
        )
        .result(ResultForm::PairOfCounts),
        reads(
            "get_work_units",
            &["work_spec_name", "options"],
            units::get_work_units,
        ),
        reads(
            "get_work_unit_status",
            &["work_spec_name", "work_unit_keys", "options"],
            units::get_work_unit_status,
        )
        .optional(1),
        writes(
            "prioritize_work_units",
            &["work_spec_name", "options"],
            units::prioritize_work_units,
        ),
        writes(
            "del_work_units",
            &["work_spec_name", "options"],
            units::del_work_units,
        ),
        writes(
            "cancel_work_units",
            &["work_spec_name", "options"],
            cancel::cancel_work_units,
        ),
        writes("get_work", &["worker_id", "options"], work::get_work).undone_with_batch(),
        writes(
            "update_work_unit",
            &["work_spec_name", "work_unit_key", "options"],
            work::update_work_unit,
        )
        .undone_with_batch(),
        writes(
            "update_work_units",
            &["work_spec_name", "updates"],
            work::update_work_units,
        ),
        writes(
            "worker_heartbeat",
            &["worker_id", "mode", "expire_seconds", "data", "parent"],
            workers::worker_heartbeat,
        )
        .result(ResultForm::Plain),
        writes(
            "worker_unregister",
            &["worker_id"],
            workers::worker_unregister,
        ),
        reads("list_worker_modes", &[], workers::list_worker_modes),
        reads("mode_counts", &[], workers::mode_counts),
        reads("get_worker_info", &["worker_id"], workers::get_worker_info),
        reads("worker_stats", &[], workers::worker_stats).result(ResultForm::Plain),
        reads(
            "get_child_work_units",
            &["worker_id"],
            workers::get_child_work_units,
        )
        .result(ResultForm::Plain),
        writes("lock", &["locker_id", "timeout", "keys"], locks::lock),
        writes(
            "locksome",
            &["locker_id", "timeout", "keys"],
            locks::locksome,
        ),
        writes("renew", &["locker_id", "timeout", "keys"], locks::renew),
        reads("readlock", &["keys"], locks::readlock).result(ResultForm::Plain),
        writes("unlock", &["locker_id", "keys"], locks::unlock),
        writes("delete_namespace", &["prefix"], locks::delete_namespace).result(ResultForm::Plain),
        reads("list_locks", &["prefix", "options"], locks::list_locks),
        reads("summary", &[], insight::summary),
        reads(
            "get_attempts",
            &["work_spec_name", "work_unit_key", "options"],
            insight::get_attempts,
        ),
        reads(
            "list_failures",
            &["work_spec_name", "options"],
            insight::list_failures,
        ),
        reads(
            "explain_work",
            &["work_spec_name", "work_unit_key"],
            insight::explain_work,
        ),
        reads("get_config", &[], daemon::get_config),
        reads("now", &[], daemon::now).result(ResultForm::Plain),
        reads("server_info", &[], daemon::server_info).result(ResultForm::Plain),
    ]);
}
