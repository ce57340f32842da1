//! The job server: the engine, the table of methods, and running a step of a call as an operation.

use super::call::{Call, Kept, Progress};
use super::doorkeeper::{Anonymous, Doorkeeper};
use super::message::Session;
use super::method::{Method, MethodInfo};
use super::params::shown;
use super::reply::Failures;
use super::requests::Requests;
use crate::clock::Timestamp;
use crate::coordinate::storage::{Access, Storage};
use crate::coordinate::{Error, Result, StorageError};
use crate::engine::Engine;
use coordinated_client::cbor::Item;
use std::collections::HashMap;
use std::sync::Arc;

/// What clients see of the daemon, and what it accepts from them.
pub struct Settings {
    /// The result of `get_config`: an encoded map.
    pub config: Vec<u8>,
    /// How deeply the containers of a message may be nested.
    pub depth_max: usize,
    /// Which CBOR-RPC clients need no token.
    pub anonymous: Anonymous,
}

/// The service behind the sockets.
pub struct JobServer<S: Storage> {
    pub(super) engine: Engine<S>,
    pub(super) settings: Settings,
    pub(super) doorkeeper: Arc<Doorkeeper>,
    methods: HashMap<&'static [u8], &'static Method<S>>,
    pub(super) requests: Requests,
    http: Vec<String>,
}

/// A message while it is handled in a turn of its connection.
pub(super) struct Turn<'a> {
    pub(super) message: &'a [u8],
    /// True for a single request, false for a list.
    pub(super) is_single: bool,
    pub(super) failures: Failures,
    /// See [`Call::wait_is_over`].
    pub(super) wait_is_over: bool,
    pub(super) now: Timestamp,
}

/// How often each method was called that was called at all.
pub(super) fn calls<S: Storage>(requests: &Requests) -> impl Iterator<Item = (&'static str, u64)> {
    let counts = Method::<S>::ALL
        .iter()
        .map(|method| (method.info.name, requests.calls(&method.info)));
    counts.filter(|(_, count)| *count > 0)
}

impl<S: Storage> JobServer<S> {
    /// A service whose operations `engine` runs.
    #[must_use]
    pub fn new(engine: Engine<S>, settings: Settings) -> Self {
        let methods = Method::ALL
            .iter()
            .map(|method| (method.info.name.as_bytes(), method))
            .collect();
        let doorkeeper = Doorkeeper::new(
            engine.tokens(),
            engine.settings().namespace.clone(),
            settings.anonymous.clone(),
        );
        Self {
            engine,
            settings,
            doorkeeper: Arc::new(doorkeeper),
            methods,
            requests: Requests::new(Method::<S>::ALL.len()),
            http: Vec::new(),
        }
    }

    /// Tells clients that ask (`server_info`) at which URLs HTTP is served.
    pub fn tell_http(&mut self, urls: Vec<String>) {
        self.http = urls;
    }

    /// All methods, as clients see them.
    pub fn methods() -> impl Iterator<Item = &'static MethodInfo> {
        Method::<S>::ALL.iter().map(|method| &method.info)
    }

    /// Who knows who may do what.
    #[must_use]
    pub fn doorkeeper(&self) -> Arc<Doorkeeper> {
        Arc::clone(&self.doorkeeper)
    }

    /// Writes what is written now and then only. Call this when the service has ended well.
    ///
    /// # Errors
    /// If the store fails.
    pub fn finish(&mut self, now: Timestamp) -> std::result::Result<(), StorageError> {
        self.engine.finish(now)
    }

    /// The store. Call this when the service has ended.
    pub fn into_store(self) -> S {
        self.engine.into_store()
    }

    /// How often each method was called that was called at all.
    pub fn calls(&self) -> impl Iterator<Item = (&'static str, u64)> {
        calls::<S>(&self.requests)
    }

    /// The method that a request names.
    ///
    /// # Errors
    /// `Invalid` if there is no such method.
    pub(super) fn find_method(&self, name: Option<Item<'_>>) -> Result<&'static Method<S>> {
        let Some(name) = name else {
            return Err(Error::Invalid("the request has no method".to_owned()));
        };
        let Some(bytes) = name.as_string_bytes() else {
            let found = name.kind_name();
            return Err(Error::Invalid(format!(
                "method: expected a string, got {found}"
            )));
        };
        self.methods
            .get(&*bytes)
            .copied()
            .ok_or_else(|| Error::Invalid(format!("unknown method {}", shown(name))))
    }

    /// Runs a step of a call as one operation, which also notes in the audit what it has changed. Once it has succeeded,
    /// remembers which units it gave to the connection, and who that is if it has shown a token.
    ///
    /// # Errors
    /// What the operation fails with; then it has changed nothing.
    pub(super) fn run_step(
        &mut self,
        session: &mut Session<S>,
        method: &MethodInfo,
        turn: &Turn<'_>,
        kept: &mut Kept,
        out: &mut Vec<u8>,
        step: impl Fn(&mut Call<'_, S>, &mut Vec<u8>) -> Result<Progress<S>>,
    ) -> Result<Progress<S>> {
        let retention = self.engine.settings().retention;
        let (config, requests) = (&*self.settings.config, &self.requests);
        let http = &*self.http;
        let access = match (method.access, turn.failures) {
            // A report that is refused may have been noted in the history all the same. Here that is an error, and undone.
            (Access::WriteWithBatch, Failures::AsErrors) => Access::Write,
            (access, _) => access,
        };
        let doorkeeper = &*self.doorkeeper;
        let namespace = doorkeeper.namespace();
        let (remembered, caller) = (&session.handed_out, &session.caller);
        let (results_start, out_start) = (kept.results.len(), out.len());
        let (results, noted_before) = (&mut kept.results, kept.audit);
        let (progress, given, recognized, noted) =
            self.engine.run(access, turn.now, |operation| {
                results.truncate(results_start);
                out.truncate(out_start);
                let mut call = Call {
                    operation,
                    handed_out: remembered,
                    caller,
                    doorkeeper,
                    config,
                    http,
                    retention: &retention,
                    requests,
                    message: turn.message,
                    failures: turn.failures,
                    is_single: turn.is_single,
                    wait_is_over: turn.wait_is_over,
                    results: &mut *results,
                    given: Vec::new(),
                    recognized: None,
                };
                let progress = step(&mut call, out)?;
                let noted =
                    call.operation
                        .keep_change(namespace, || caller.as_author(), noted_before)?;
                Ok((progress, call.given, call.recognized, noted))
            })?;
        kept.audit = noted;
        for given in &given {
            let handed_out = &mut session.handed_out;
            handed_out.remember(given.unit, given.attempt, &given.work_spec, &given.name);
        }
        if let Some(caller) = recognized {
            session.caller = caller;
        }
        Ok(progress)
    }
}
