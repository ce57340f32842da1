//! CBOR-RPC: translates requests into operations of [`crate::coordinate`], and their results into
//! responses.
//!
//! Old wire words and forms are known here and nowhere else. Knows no SQL and no sockets: it is
//! handed whole messages by [`crate::server`], and storage by whoever starts it.

mod daemon;
mod insight;
mod listed;
mod locks;
mod log;
mod method;
mod params;
mod reply;
mod retention;
mod specs;
mod statistics;
mod steps;
mod underway;
mod units;
mod work;
mod workers;

pub use method::MethodInfo;

use crate::cborrpc::envelope::{self, Message, Request};
use crate::cborrpc::framing::FrameError;
use crate::clock::Timestamp;
use crate::coordinate::storage::{Access, Storage};
use crate::coordinate::{
    Chained, Error, HandedOut, NamespaceId, Operation, Result, Retention, StorageError,
};
use crate::limits::{self, Pace, RequestLimits};
use crate::server::{BatchError, Handled, Job, Service};
use method::{Call, Deferred, Method, Rest};
use params::Params;
use rand::Rng;
use retention::Archiver;
use statistics::Totals;
use std::collections::HashMap;
use std::rc::Rc;
use std::time::{Duration, Instant};
use underway::{Open, OpenCall, OpenList, StepFate, Underway};

/// How to serve.
pub struct Settings {
    /// The namespace that clients see.
    pub namespace: String,
    /// What `get_config` answers: an encoded map.
    pub config: Vec<u8>,
    /// Levels of containers within each other that a message may have.
    pub depth_max: usize,
    /// What a request may hold.
    pub limits: RequestLimits,
    /// How long others may have to wait.
    pub pace: Pace,
    /// Which completed units stay.
    pub retention: Retention,
}

/// What operations work on.
struct World<S> {
    store: S,
    namespace: NamespaceId,
    random: Box<dyn Rng>,
}

impl<S: Storage> World<S> {
    /// Runs one operation: see [`Storage::operation`].
    fn operation<T>(
        &mut self,
        limits: &RequestLimits,
        access: Access,
        now: Timestamp,
        run: impl FnOnce(Operation<'_, S>) -> Result<T>,
    ) -> Result<T> {
        let (namespace, random) = (self.namespace, &mut *self.random);
        self.store.operation(access, |store| {
            run(Operation {
                store,
                namespace,
                now,
                limits,
                chained: Chained::default(),
                random,
            })
        })
    }
}

/// The service behind the sockets.
pub struct JobServer<S: Storage> {
    world: World<S>,
    settings: Settings,
    started: Timestamp,
    methods: HashMap<&'static [u8], &'static Method<S>>,
    /// How often each method was called.
    calls: HashMap<&'static str, u64>,
    /// When somebody last asked for work.
    last_asked_for_work: Option<Timestamp>,
    totals: Totals,
    archiver: Archiver,
    /// When the next step may be taken of what is done in steps by itself.
    next_step: Timestamp,
    /// When the first message of the present batch came to its turn.
    batch_began: Option<Instant>,
    /// Operations that began in the present batch.
    batch_operations: usize,
    /// There if the present batch has had a step of a call that is done in several, which may be as much as many
    /// other calls.
    batch_step: Option<Rc<StepFate>>,
    /// True if so much was over in the present batch that the rest of it is left to the next one.
    batch_had_sweep: bool,
    /// Bytes of the answers in the present batch.
    batch_answer_bytes: usize,
    /// True if the present batch has begun to write, so that its answers depend on its commit.
    batch_may_write: bool,
}

/// What is remembered for one connection.
pub struct Session {
    handed_out: HandedOut,
    /// How far the message has come that is to be handled again.
    underway: Option<Underway>,
}

/// An answer that waits for its batch.
pub struct Answer {
    response: Vec<u8>,
    /// What to answer to if the batch does not commit; `None` if that makes no difference.
    if_undone: Option<Undone>,
}

/// The requests whose answers don't count if a batch does not commit, by their ids.
enum Undone {
    /// The only one of its message.
    Single(Vec<u8>),
    /// The last step of one that was done in several.
    LastStep(Vec<u8>),
    /// Those of a list whose answers are behind so many bytes of the response.
    Listed(usize, Vec<Vec<u8>>),
}

/// Operations after which a batch commits: more would make the first ones wait too long.
const BATCH_OPERATIONS_MAX: usize = 1_000;

/// Bytes of answers after which a batch commits: they all wait in memory for it.
const BATCH_ANSWER_BYTES_MAX: usize = 16 * 1024 * 1024;

/// How long the loop may sleep when nothing is due.
const TICK_MAX: Duration = Duration::from_secs(60);

/// How long the daemon waits between two steps of what it does by itself (removing units of deleted specs,
/// archiving, adding what long outputs name): others get their turns in between.
const STEP_PAUSE: Duration = Duration::from_millis(1);

impl<S: Storage> JobServer<S> {
    /// A service that keeps its state in `store`.
    ///
    /// # Errors
    /// If the store fails.
    pub fn new(
        mut store: S,
        settings: Settings,
        random: Box<dyn Rng>,
        now: Timestamp,
    ) -> Result<Self> {
        let name = settings.namespace.clone();
        let namespace = store.operation(Access::Write, |store| Ok(store.namespace(&name)?))?;
        store.commit()?;
        let methods = Method::ALL
            .iter()
            .map(|method| (method.info.name.as_bytes(), method))
            .collect();
        Ok(Self {
            world: World {
                store,
                namespace,
                random,
            },
            settings,
            started: now,
            methods,
            calls: HashMap::new(),
            last_asked_for_work: None,
            totals: Totals::default(),
            archiver: Archiver::default(),
            next_step: now,
            batch_began: None,
            batch_operations: 0,
            batch_step: None,
            batch_had_sweep: false,
            batch_answer_bytes: 0,
            batch_may_write: false,
        })
    }

    /// All methods, as they look from outside.
    pub fn methods() -> impl Iterator<Item = &'static MethodInfo> {
        Method::<S>::ALL.iter().map(|method| &method.info)
    }

    /// The store, when the service has ended.
    pub fn into_store(self) -> S {
        self.world.store
    }

    /// How often each method was called.
    #[must_use]
    pub fn calls(&self) -> &HashMap<&'static str, u64> {
        &self.calls
    }

    /// Runs one request and appends its response, unless something is left to do for it.
    fn run(
        &mut self,
        session: &mut Session,
        request: &Request<'_>,
        message: &[u8],
        now: Timestamp,
        is_alone: bool,
        out: &mut Vec<u8>,
    ) -> Rest {
        let start = out.len();
        let begin = tracing::enabled!(tracing::Level::DEBUG).then(Instant::now);
        envelope::begin_success(out, request.id_bytes());
        let result = self.dispatch(session, request, message, now, is_alone, out);
        if let Some(begin) = begin {
            let method = self.find_method(request).ok().map(|method| &method.info);
            log::request(method, request, &result, begin.elapsed());
        }
        match result {
            Ok(rest) => {
                if !matches!(rest, Rest::Nothing) {
                    out.truncate(start);
                }
                rest
            }
            Err((method, error)) => {
                out.truncate(start);
                envelope::write_failure(out, request.id_bytes(), &format!("{method}: {error}"));
                Rest::Nothing
            }
        }
    }

    fn dispatch(
        &mut self,
        session: &mut Session,
        request: &Request<'_>,
        message: &[u8],
        now: Timestamp,
        is_alone: bool,
        out: &mut Vec<u8>,
    ) -> std::result::Result<Rest, (&'static str, Error)> {
        let method = self
            .find_method(request)
            .map_err(|error| ("request", error))?;
        let info = &method.info;
        *self.calls.entry(info.name).or_default() += 1;
        let of_method = |error| (info.name, error);
        self.batch_operations += 1;
        self.expire(now).map_err(of_method)?;
        let params = Params::assign(
            info.params,
            info.required,
            request.params,
            &self.settings.limits,
        )
        .map_err(of_method)?;
        self.batch_may_write |= info.access == Access::Write;
        let daemon = daemon::Daemon {
            started: self.started,
            config: &self.settings.config,
            retention: &self.settings.retention,
            calls: &self.calls,
            last_asked_for_work: &mut self.last_asked_for_work,
        };
        self.world
            .operation(&self.settings.limits, info.access, now, |operation| {
                let mut call = Call {
                    method: info,
                    operation,
                    params,
                    session,
                    daemon,
                    message,
                    is_alone,
                    rest: Rest::Nothing,
                };
                (method.run)(&mut call, out)?;
                Ok(call.rest)
            })
            .map_err(of_method)
    }

    fn find_method(&self, request: &Request<'_>) -> Result<&'static Method<S>> {
        let Some(name) = request.method else {
            return Err(Error::Invalid(
                "no method named: expected a map with a method".to_owned(),
            ));
        };
        let Some(bytes) = name.as_string_bytes() else {
            let found = name.kind_name();
            return Err(Error::Invalid(format!(
                "method: expected a string, got {found}"
            )));
        };
        self.methods.get(&*bytes).copied().ok_or_else(|| {
            let shown = log::shown(name);
            Error::Invalid(format!("unknown method {shown}"))
        })
    }

    /// Lets pass what is over, before anybody looks at it; if that is too much for one step, then once in a
    /// batch.
    fn expire(&mut self, now: Timestamp) -> Result<()> {
        if self.batch_had_sweep || self.world.store.due().is_none_or(|due| due > now) {
            return Ok(());
        }
        self.batch_may_write = true;
        let limits = &self.settings.limits;
        let expire = |mut operation: Operation<'_, S>| operation.expire();
        self.batch_had_sweep = self.world.operation(limits, Access::Write, now, expire)?;
        Ok(())
    }

    /// True if there may be something to do in steps, whether or not somebody calls.
    fn has_steps(&self) -> bool {
        let store = &self.world.store;
        store.has_deleted() || store.has_output_slices()
    }

    /// Takes a step of each thing that is to be done in steps.
    fn take_steps(&mut self, now: Timestamp) -> Result<()> {
        if !self.has_steps() {
            return Ok(());
        }
        self.next_step = now.plus(STEP_PAUSE);
        let limits = &self.settings.limits;
        let step = |mut operation: Operation<'_, S>| {
            operation.chain_slice()?;
            operation.store.purge(limits::SWEEP_REMOVED)?;
            Ok(())
        };
        self.world.operation(limits, Access::Write, now, step)
    }

    fn answer(&mut self, response: Vec<u8>, undone: impl FnOnce() -> Undone) -> Handled<Answer> {
        self.batch_answer_bytes += response.len();
        let if_undone = self.batch_may_write.then(undone);
        Handled::Answer(Answer {
            response,
            if_undone,
        })
    }
}

impl<S: Storage> Service for JobServer<S> {
    type Session = Session;
    type Answer = Answer;

    fn open_session(&mut self) -> Session {
        Session {
            handed_out: HandedOut::new(self.settings.limits.session_attempts_max),
            underway: None,
        }
    }

    fn handle(&mut self, session: &mut Session, message: &[u8], now: Timestamp) -> Handled<Answer> {
        self.batch_began.get_or_insert_with(Instant::now);
        let content = envelope::content(message);
        if let Some(underway) = session.underway.take() {
            return self.go_on(session, underway, &content, now);
        }
        match Message::parse(&content, self.settings.depth_max) {
            Ok(Message::Single(request)) => {
                let mut response = Vec::new();
                let id = || request.id_bytes().to_vec();
                match self.run(session, &request, &content, now, true, &mut response) {
                    Rest::Nothing => self.answer(response, || Undone::Single(id())),
                    Rest::Deferred(deferred) => Handled::Later(into_job(deferred, id())),
                    Rest::Again(method, steps) => {
                        let call = OpenCall::new(&request, method, steps);
                        self.put_off(session, Open::Call(call))
                    }
                }
            }
            Ok(Message::Batch(requests)) => {
                let max = self.settings.limits.batch_requests_max;
                let count = requests.clone().take(max.saturating_add(1)).count();
                if count > max {
                    let mut response = Vec::new();
                    let problem =
                        format!("request: more than {max} in one list (limit --max-batch)");
                    envelope::write_failure(&mut response, envelope::NULL, &problem);
                    return Handled::Answer(Answer {
                        response,
                        if_undone: None,
                    });
                }
                let list = OpenList::new(&requests, count, &content);
                self.run_list(session, list, &content, now)
            }
            Ok(Message::Goodbye) => Handled::Close,
            Err(error) => Handled::Refuse(error),
        }
    }

    fn batch_is_full(&self) -> bool {
        self.batch_step.is_some()
            || self.batch_operations >= BATCH_OPERATIONS_MAX
            || self.batch_answer_bytes >= BATCH_ANSWER_BYTES_MAX
            || self
                .batch_began
                .is_some_and(|began| began.elapsed() >= self.settings.pace.batch)
            || self.world.store.batch_is_broken()
    }

    fn commit(&mut self) -> std::result::Result<(), BatchError> {
        self.totals
            .count(self.batch_operations, self.batch_may_write);
        self.batch_began = None;
        self.batch_operations = 0;
        let step = self.batch_step.take();
        self.batch_had_sweep = false;
        self.batch_answer_bytes = 0;
        self.batch_may_write = false;
        self.world.store.commit().map_err(|error| {
            if let Some(step) = step {
                step.is_lost.set(true);
            }
            match error {
                StorageError::Unknown(reason) => BatchError::Unknown(reason),
                StorageError::Full(_) | StorageError::Busy(_) | StorageError::Other(_) => {
                    BatchError::RolledBack(error.to_string())
                }
            }
        })
    }

    fn write_answer(
        &self,
        answer: Answer,
        outcome: &std::result::Result<(), BatchError>,
        out: &mut Vec<u8>,
    ) {
        let mut response = answer.response;
        if let (Err(error), Some(undone)) = (outcome, answer.if_undone) {
            write_undone(&mut response, &undone, error);
        }
        envelope::write_frame(out, &response);
    }

    fn write_refusal(&self, error: &FrameError, out: &mut Vec<u8>) {
        let mut response = Vec::new();
        envelope::write_failure(&mut response, envelope::NULL, &format!("request: {error}"));
        envelope::write_frame(out, &response);
    }

    fn tick(&mut self, now: Timestamp) -> std::result::Result<Duration, BatchError> {
        let expired = self.expire(now);
        let stepped = self.take_steps(now);
        let archived = self.archive_by_itself(now);
        self.commit()?;
        match expired.and(stepped).and(archived) {
            Ok(None) => Ok(TICK_MAX),
            Ok(Some(next)) => Ok(next.since(now).clamp(STEP_PAUSE, TICK_MAX)),
            Err(error) => Err(BatchError::RolledBack(error.to_string())),
        }
    }

    fn log_statistics(&mut self) {
        JobServer::log_statistics(self);
    }

    fn due(&self) -> Option<Timestamp> {
        let step = self.has_steps().then_some(self.next_step);
        [self.world.store.due(), step].into_iter().flatten().min()
    }
}

/// Writes that what was done is undone, in place of the answers that said it was done.
fn write_undone(response: &mut Vec<u8>, undone: &Undone, error: &BatchError) {
    match undone {
        Undone::Single(id) => {
            response.clear();
            envelope::write_failure(response, id, &error.to_string());
        }
        Undone::LastStep(id) => {
            response.clear();
            envelope::write_failure(response, id, &underway::undone_step(error));
        }
        Undone::Listed(sure, ids) => {
            response.truncate(*sure);
            for id in ids {
                envelope::write_failure(response, id, &error.to_string());
            }
        }
    }
}

fn into_job(deferred: Deferred, id: Vec<u8>) -> Job {
    Box::new(move || {
        let mut response = Vec::new();
        envelope::begin_success(&mut response, &id);
        if let Err(error) = (deferred.run)(&mut response) {
            response.clear();
            envelope::write_failure(&mut response, &id, &format!("{}: {error}", deferred.method));
        }
        let mut frame = Vec::new();
        envelope::write_frame(&mut frame, &response);
        frame
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::{Options, SqliteStore};
    use rand::SeedableRng;
    use rand::rngs::SmallRng;
    use std::path::Path;

    const NOW: Timestamp = Timestamp(1_700_000_000_000_000);

    /// Whether a batch is full before it has a message, when it has one, and when it was committed, if it may last
    /// so long.
    fn fullness(batch: Duration) -> [bool; 3] {
        let store = SqliteStore::open(Path::new(":memory:"), &Options::default(), NOW);
        let pace = Pace {
            batch,
            ..Pace::default()
        };
        let settings = Settings {
            namespace: String::new(),
            config: vec![0xa0],
            depth_max: 100,
            limits: RequestLimits::default(),
            pace,
            retention: Retention::default(),
        };
        let random = Box::new(SmallRng::seed_from_u64(1));
        let service = JobServer::new(store.expect("it opens"), settings, random, NOW);
        let mut service = service.expect("it starts");
        let mut session = service.open_session();
        let empty = service.batch_is_full();
        // {'id': 1, 'method': 'now'}
        let handled = service.handle(&mut session, b"\xa2\x42id\x01\x46method\x43now", NOW);
        assert!(matches!(handled, Handled::Answer(_)));
        let begun = service.batch_is_full();
        service.commit().expect("it commits");
        [empty, begun, service.batch_is_full()]
    }

    #[test]
    fn a_batch_is_full_when_its_time_is_over_until_it_is_committed() {
        assert_eq!(fullness(Duration::ZERO), [false, true, false]);
        assert_eq!(fullness(Duration::MAX), [false, false, false]);
    }
}
