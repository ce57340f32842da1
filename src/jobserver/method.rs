//! The methods: one table, from names to functions.

use super::call::Run;
use super::{
    audit, cancel, daemon, insight, locks, retention, specs, tokens, units, work, workers,
};
use crate::coordinate::storage::{Access, Storage};
use crate::coordinate::{Scope, Scopes};

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
    /// The scopes of which a caller needs one. If these are none, everybody may call it.
    pub scopes: Scopes,
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
            scopes: Scopes::of(&[Scope::Read]),
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
    method.info.scopes = Scopes::of(&[Scope::Operate]);
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

    /// The same method for callers with one of these scopes. Without this a method that reads is for `read`, and one that
    /// writes for `operate`.
    const fn scopes(mut self, scopes: &[Scope]) -> Self {
        self.info.scopes = Scopes::of(scopes);
        self
    }

    /// All methods.
    pub(super) const ALL: &'static [Self] = &numbered([
        writes("set_work_spec", &["work_spec"], specs::set_work_spec),
        reads("get_work_spec", &["work_spec_name"], specs::get_work_spec)
            .result(ResultForm::Plain)
            .scopes(&[Scope::Read, Scope::Work]),
        reads("list_work_specs", &["options"], specs::list_work_specs)
            .result(ResultForm::Plain)
            .scopes(&[Scope::Read, Scope::Work]),
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
        .optional(1)
        .scopes(&[Scope::Read, Scope::Work]),
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
        .optional(1)
        .scopes(&[Scope::Submit]),
        reads(
            "count_work_units",
            &["work_spec_name"],
            units::count_work_units,
        )
        .result(ResultForm::PairOfCounts)
        .scopes(&[Scope::Metrics, Scope::Work]),
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
        .optional(1)
        .scopes(&[Scope::Read, Scope::Submit, Scope::Work]),
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
        writes("get_work", &["worker_id", "options"], work::get_work)
            .undone_with_batch()
            .scopes(&[Scope::Work]),
        writes(
            "update_work_unit",
            &["work_spec_name", "work_unit_key", "options"],
            work::update_work_unit,
        )
        .undone_with_batch()
        .scopes(&[Scope::Operate, Scope::Work]),
        writes(
            "update_work_units",
            &["work_spec_name", "updates"],
            work::update_work_units,
        )
        .scopes(&[Scope::Operate, Scope::Work]),
        writes(
            "worker_heartbeat",
            &["worker_id", "mode", "expire_seconds", "data", "parent"],
            workers::worker_heartbeat,
        )
        .result(ResultForm::Plain)
        .scopes(&[Scope::Work]),
        writes(
            "worker_unregister",
            &["worker_id"],
            workers::worker_unregister,
        )
        .scopes(&[Scope::Work]),
        reads("list_worker_modes", &[], workers::list_worker_modes),
        reads("mode_counts", &[], workers::mode_counts).scopes(&[Scope::Metrics]),
        reads("get_worker_info", &["worker_id"], workers::get_worker_info),
        reads("worker_stats", &[], workers::worker_stats)
            .result(ResultForm::Plain)
            .scopes(&[Scope::Metrics]),
        reads(
            "get_child_work_units",
            &["worker_id"],
            workers::get_child_work_units,
        )
        .result(ResultForm::Plain)
        .scopes(&[Scope::Read, Scope::Work]),
        writes("lock", &["locker_id", "timeout", "keys"], locks::lock).scopes(&[Scope::Work]),
        writes(
            "locksome",
            &["locker_id", "timeout", "keys"],
            locks::locksome,
        )
        .scopes(&[Scope::Work]),
        writes("renew", &["locker_id", "timeout", "keys"], locks::renew).scopes(&[Scope::Work]),
        reads("readlock", &["keys"], locks::readlock)
            .result(ResultForm::Plain)
            .scopes(&[Scope::Read, Scope::Work]),
        writes("unlock", &["locker_id", "keys"], locks::unlock).scopes(&[Scope::Work]),
        writes("delete_namespace", &["prefix"], locks::delete_namespace).result(ResultForm::Plain),
        reads("list_locks", &["prefix", "options"], locks::list_locks),
        reads("summary", &[], insight::summary).scopes(&[Scope::Metrics]),
        reads(
            "get_attempts",
            &["work_spec_name", "work_unit_key", "options"],
            insight::get_attempts,
        )
        .scopes(&[Scope::Read, Scope::Work]),
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
        reads("get_config", &[], daemon::get_config).scopes(&[
            Scope::Read,
            Scope::Work,
            Scope::Submit,
        ]),
        reads("now", &[], daemon::now)
            .result(ResultForm::Plain)
            .scopes(&Scope::ALL),
        reads("server_info", &[], daemon::server_info)
            .result(ResultForm::Plain)
            .scopes(&[]),
        reads("authenticate", &["token"], tokens::authenticate).scopes(&[]),
        writes("create_token", &["name", "options"], tokens::create_token).scopes(&[Scope::Admin]),
        reads("list_tokens", &[], tokens::list_tokens).scopes(&[Scope::Admin]),
        writes("revoke_token", &["name"], tokens::revoke_token).scopes(&[Scope::Admin]),
        writes("rotate_token", &["name", "options"], tokens::rotate_token)
            .optional(1)
            .scopes(&[Scope::Admin]),
        reads("create_sign_in_code", &[], tokens::create_sign_in_code).scopes(&[Scope::Read]),
        reads("list_audit", &["options"], audit::list_audit)
            .optional(1)
            .scopes(&[Scope::Admin]),
    ]);
}
