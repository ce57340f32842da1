//! Messages: a single request, or a list of requests. A message that takes long is handled in several turns of its
//! connection, each in another batch, so that other connections get their turns in between.

use super::call::{Call, Continuation, Kept, Progress, Read};
use super::doorkeeper::{Caller, Realm};
use super::job_server::{JobServer, Turn};
use super::log;
use super::method::{Method, MethodInfo};
use super::params::Params;
use super::reply::Failures;
use super::requests;
use crate::clock::Timestamp;
use crate::coordinate::storage::{Access, Lister, Storage};
use crate::coordinate::{Error, HandedOut, Result, StorageError, WaiterId, WaitsFor};
use crate::limits;
use crate::server::{BatchError, Handled, LongRead, Ticket};
use coordinated_client::cbor::item::{Items, Place};
use coordinated_client::cbor::{Item, Writer};
use coordinated_client::cborrpc::envelope::{self, Request};
use std::time::{Duration, Instant};

/// What is remembered for one connection.
pub struct Session<S: Storage> {
    pub(super) handed_out: HandedOut,
    /// Who calls, and what it may do.
    pub(super) caller: Caller,
    /// How the client is told of failures.
    pub(super) failures: Failures,
    /// The message that is to be handled again.
    pub(super) in_flight: Option<InFlight<S>>,
    /// Its place among those that wait, if it does.
    pub(super) waiter: Option<WaiterId>,
}

impl<S: Storage> Session<S> {
    /// A new session, which remembers at most `attempts_max` of the attempts that it is given.
    pub(super) fn new(attempts_max: usize, failures: Failures, caller: Caller) -> Self {
        Self {
            handed_out: HandedOut::new(attempts_max),
            caller,
            failures,
            in_flight: None,
            waiter: None,
        }
    }
}

/// Why a request failed.
pub(super) struct Problem {
    /// What programs know it by.
    code: &'static str,
    /// What it is, for people.
    text: String,
}

impl Problem {
    /// A request that can't be run.
    pub(super) fn with_request(problem: &dyn std::fmt::Display) -> Self {
        Self {
            code: Error::Invalid(String::new()).code(),
            text: format!("request: {problem}"),
        }
    }

    /// A call of a method that has failed.
    fn of_call(method: &MethodInfo, error: &Error) -> Self {
        Self {
            code: error.code(),
            text: format!("{}: {error}", method.name),
        }
    }

    /// Its name for programs.
    pub(super) fn code(&self) -> &'static str {
        self.code
    }

    /// A request whose last step was rolled back.
    pub(super) fn of_batch(error: &BatchError, has_earlier_steps: bool) -> Self {
        Self {
            code: match error {
                BatchError::RolledBack(_) => "rolled_back",
                BatchError::Unknown(reason) => StorageError::Unknown(reason.clone()).code(),
                BatchError::Gone(reason) => StorageError::Gone(reason.clone()).code(),
            },
            text: match error {
                BatchError::RolledBack(reason) if has_earlier_steps => format!(
                    "{reason}; the last step of this call was rolled back, its earlier steps are committed"
                ),
                error => error.to_string(),
            },
        }
    }

    /// Writes the response to the request.
    pub(super) fn write(&self, failures: Failures, id: &[u8], out: &mut Vec<u8>) {
        let code = (failures == Failures::AsErrors).then_some(self.code);
        envelope::write_failure(out, id, &self.text, code);
    }
}

/// The responses to the requests of a message. The last ones may depend on the current batch.
pub struct Answer {
    /// The responses, one after the other.
    responses: Vec<u8>,
    /// How the client is told of failures.
    failures: Failures,
    /// Bytes of those that do not depend on the current batch.
    settled: usize,
    /// The ids of the requests whose responses come after these.
    unsettled_ids: Vec<Vec<u8>>,
    /// True if the first of these has done steps in earlier batches.
    has_earlier_steps: bool,
}

impl Answer {
    /// An answer that begins with bytes that depend on no batch.
    fn beginning(responses: Vec<u8>, failures: Failures) -> Self {
        Self {
            settled: responses.len(),
            failures,
            responses,
            unsettled_ids: Vec::new(),
            has_earlier_steps: false,
        }
    }

    /// The answer to a message of which nothing was run.
    pub(super) fn failure(failures: Failures, problem: &Problem) -> Self {
        let mut response = Vec::new();
        problem.write(failures, envelope::NULL, &mut response);
        Self::beginning(response, failures)
    }

    /// Notes that no response depends on the current batch.
    fn settle(&mut self) {
        self.settled = self.responses.len();
        self.unsettled_ids.clear();
    }

    /// Notes that the response that was written last depends on the current batch.
    fn note_unsettled(&mut self, id: &[u8], has_earlier_steps: bool) {
        if self.unsettled_ids.is_empty() {
            self.has_earlier_steps = has_earlier_steps;
        }
        self.unsettled_ids.push(id.to_vec());
    }

    /// Replaces the responses that depend on the current batch by failures, since it was rolled back.
    fn roll_back(&mut self, error: &BatchError) {
        self.responses.truncate(self.settled);
        for (index, id) in self.unsettled_ids.drain(..).enumerate() {
            let has_earlier_steps = index == 0 && self.has_earlier_steps;
            let problem = Problem::of_batch(error, has_earlier_steps);
            problem.write(self.failures, &id, &mut self.responses);
        }
        self.settled = self.responses.len();
    }

    /// The bytes of the answer, given what became of the batch.
    pub(super) fn into_response(
        mut self,
        outcome: &std::result::Result<(), BatchError>,
    ) -> Vec<u8> {
        if let Err(error) = outcome {
            self.roll_back(error);
        }
        self.responses
    }
}

/// Why the loop's batch failed, when the store's did.
pub(super) fn batch_error(error: StorageError) -> BatchError {
    match error {
        StorageError::Unknown(reason) => BatchError::Unknown(reason),
        StorageError::Gone(reason) => BatchError::Gone(reason),
        StorageError::Full(_) | StorageError::Busy(_) | StorageError::Other(_) => {
            BatchError::RolledBack(error.to_string())
        }
    }
}

/// A message between two turns of its connection.
pub(super) struct InFlight<S: Storage> {
    /// True for a single request, false for a list.
    is_single: bool,
    /// The requests that have not been answered.
    next: Place,
    /// The first of them, if some of its steps have been done.
    started: Option<Started<S>>,
    /// The responses to the requests before it.
    answer: Answer,
    /// True if it has waited to write for as long as it may.
    has_waited: bool,
}

/// A call of which some steps have been done.
struct Started<S: Storage> {
    method: &'static Method<S>,
    /// What is left to do, or why the last step was rolled back.
    rest: std::result::Result<Box<dyn Continuation<S>>, Problem>,
    kept: Kept,
    /// True if steps before the last one have been committed.
    has_earlier_steps: bool,
    /// True if the last one has only found that the call has to wait.
    has_slept: bool,
}

impl<S: Storage> Started<S> {
    /// True if some of its steps may have changed something.
    fn has_steps(&self) -> bool {
        self.has_earlier_steps || !self.has_slept
    }
}

impl<S: Storage> InFlight<S> {
    /// A request that is all of `message`.
    pub(super) fn single(request: Item<'_>, message: &[u8], failures: Failures) -> Self {
        Self {
            is_single: true,
            next: request.alone().place_in(message),
            started: None,
            answer: Answer::beginning(Vec::new(), failures),
            has_waited: false,
        }
    }

    /// A list of `count` requests, which are a part of `message`.
    pub(super) fn list(
        requests: &Items<'_>,
        count: usize,
        message: &[u8],
        failures: Failures,
    ) -> Self {
        let mut responses = Vec::new();
        Writer::new(&mut responses).array(count);
        Self {
            is_single: false,
            next: requests.place_in(message),
            started: None,
            answer: Answer::beginning(responses, failures),
            has_waited: false,
        }
    }

    /// Bytes that it keeps in memory.
    fn held(&self) -> usize {
        let started_held = self.started.as_ref().map_or(0, |started| {
            let rest_held = started.rest.as_ref().map_or(0, |rest| rest.held());
            started.kept.results.capacity() + rest_held
        });
        self.answer.responses.capacity() + started_held
    }

    /// True if the first request has done steps that may have changed something.
    fn has_steps(&self) -> bool {
        self.started.as_ref().is_some_and(Started::has_steps)
    }

    /// Lets its requests fail instead of waiting to write.
    pub(super) fn end_waiting(&mut self) {
        self.has_waited = true;
    }

    /// Notes that the batch of the last step was rolled back.
    pub(super) fn rolled_back(&mut self, error: &BatchError) {
        self.answer.roll_back(error);
        if let Some(started) = &mut self.started {
            started.rest = Err(Problem::of_batch(error, started.has_earlier_steps));
        }
    }
}

/// What came of a step of a request.
enum Outcome<S: Storage> {
    /// Its response has been written.
    Answered,
    /// A long read is to write its result.
    Read(&'static MethodInfo, Read),
    /// It has further steps.
    Started(Started<S>),
    /// It waits for something.
    Asleep(Started<S>, WaitsFor, Duration),
    /// It has to wait until the service can write.
    Wait,
}

impl<S: Storage> JobServer<S> {
    /// A session for a client that is told of failures in this way.
    pub(super) fn new_session(&self, failures: Failures, caller: Caller) -> Session<S> {
        let attempts_max = self.engine.settings().limits.session_attempts_max;
        Session::new(attempts_max, failures, caller)
    }

    /// Runs the requests of a message from where it was left, as many as fit into a step.
    pub(super) fn handle_in_flight(
        &mut self,
        session: &mut Session<S>,
        mut in_flight: InFlight<S>,
        message: &[u8],
        now: Timestamp,
    ) -> Handled<Answer> {
        let waiter = session.waiter;
        let turn = Turn {
            message,
            is_single: in_flight.is_single,
            failures: session.failures,
            wait_is_over: waiter.is_some_and(|waiter| self.engine.wait_is_over(waiter)),
            now,
        };
        self.engine.open_batch();
        let began = (!turn.is_single).then(Instant::now);
        let step_time = self.engine.settings().pace.list_step;
        let mut requests = in_flight.next.items(message);
        in_flight.answer.settle();
        let mut answered = 0;
        loop {
            let here = requests.clone();
            let Some(request) = requests.next() else {
                self.engine.note_answer(in_flight.answer.responses.len());
                return Handled::Answer(in_flight.answer);
            };
            let is_enough = answered >= limits::LIST_STEP_REQUESTS
                || answered > 0 && began.is_some_and(|began| began.elapsed() >= step_time);
            if is_enough {
                in_flight.next = here.place_in(message);
                return self.handle_again(session, in_flight);
            }
            let fields = Request::from_map(request);
            let has_earlier_steps = in_flight.has_steps();
            match self.step(session, &mut in_flight, request, &fields, &turn) {
                Outcome::Answered => self.end_wait(session),
                Outcome::Read(method, read) => match self.engine.reader() {
                    Some(reader) if turn.is_single => {
                        let id = fields.id_bytes().to_vec();
                        return Handled::Later(long_read(method, turn.failures, id, read, reader));
                    }
                    // The responses of a list keep their order.
                    _ => {
                        let out = &mut in_flight.answer.responses;
                        self.read_now(method, &fields, read, &turn, out);
                    }
                },
                Outcome::Started(started) => {
                    in_flight.started = Some(started);
                    in_flight.next = here.place_in(message);
                    return self.handle_again(session, in_flight);
                }
                Outcome::Asleep(started, waits_for, at_most) => {
                    let waiter = match session.waiter {
                        Some(waiter) => {
                            self.engine.wait_again(waiter, waits_for);
                            waiter
                        }
                        None => self.engine.wait(waits_for, now.plus(at_most)),
                    };
                    session.waiter = Some(waiter);
                    in_flight.started = Some(started);
                    in_flight.next = here.place_in(message);
                    let (ticket, held) = (Ticket(waiter.0), in_flight.held());
                    session.in_flight = Some(in_flight);
                    return Handled::Sleep { ticket, held };
                }
                Outcome::Wait => {
                    // It has written nothing in the current batch, so this stays open for others.
                    in_flight.next = here.place_in(message);
                    let held = in_flight.held();
                    session.in_flight = Some(in_flight);
                    return Handled::Wait { held };
                }
            }
            answered += 1;
            if self.engine.batch_may_write() {
                let id = fields.id_bytes();
                in_flight.answer.note_unsettled(id, has_earlier_steps);
            } else {
                in_flight.answer.settle();
            }
        }
    }

    /// Forgets that a connection waits, if it does.
    pub(super) fn end_wait(&mut self, session: &mut Session<S>) {
        if let Some(waiter) = session.waiter.take() {
            self.engine.end_wait(waiter);
        }
    }

    /// Keeps what is left of a message until its connection's next turn, in another batch.
    fn handle_again(
        &mut self,
        session: &mut Session<S>,
        in_flight: InFlight<S>,
    ) -> Handled<Answer> {
        self.engine.close_batch();
        let held = in_flight.held();
        session.in_flight = Some(in_flight);
        Handled::Again { held }
    }

    /// Runs the next step of a request, which may be its first one.
    fn step(
        &mut self,
        session: &mut Session<S>,
        in_flight: &mut InFlight<S>,
        request: Item<'_>,
        fields: &Request<'_>,
        turn: &Turn<'_>,
    ) -> Outcome<S> {
        let method = match &in_flight.started {
            Some(started) => Ok(started.method),
            None => self.method_of(request, fields),
        };
        let method = match method {
            Ok(method) => method,
            Err(error) => {
                log::request::<S>(None, fields, Err(&error), Duration::ZERO);
                self.requests.count_unknown(turn.failures);
                let out = &mut in_flight.answer.responses;
                Problem::with_request(&error).write(turn.failures, fields.id_bytes(), out);
                return Outcome::Answered;
            }
        };
        if !in_flight.has_steps()
            && let Err(error) = self.doorkeeper.check(
                &mut session.caller,
                Realm::Home,
                method.info.scopes,
                turn.now,
            )
        {
            log::request::<S>(Some(&method.info), fields, Err(&error), Duration::ZERO);
            in_flight.started = None;
            let out = &mut in_flight.answer.responses;
            Problem::of_call(&method.info, &error).write(turn.failures, fields.id_bytes(), out);
            return Outcome::Answered;
        }
        let lock = self.lock_by_others(method.info.access);
        if lock.is_some() && !in_flight.has_waited {
            return Outcome::Wait;
        }
        let started = in_flight.started.take();
        let has_earlier_steps = started.as_ref().is_some_and(Started::has_steps);
        let (rest, mut kept) = match started {
            Some(Started { rest, kept, .. }) => (Some(rest), kept),
            None => (None, Kept::default()),
        };
        let out = &mut in_flight.answer.responses;
        let start = out.len();
        let progress = if let Some(error) = lock {
            Err(Problem::of_batch(&error, has_earlier_steps))
        } else if start > limits::ANSWER_BYTES_MAX && !has_earlier_steps {
            Err(Problem::with_request(
                &"not run, because the answers before it are too long",
            ))
        } else {
            envelope::begin_success(out, fields.id_bytes());
            let info = &method.info;
            match rest {
                None => self.begin(session, method, fields, turn, &mut kept, out),
                Some(Ok(rest)) => {
                    let go_on = |call: &mut Call<'_, S>, out: &mut Vec<u8>| rest.step(call, out);
                    self.run_step(session, info, turn, &mut kept, out, go_on)
                        .map_err(|error| Problem::of_call(info, &error))
                }
                Some(Err(problem)) => Err(problem),
            }
        };
        if !matches!(progress, Ok(Progress::Done)) {
            out.truncate(start);
        }
        let is_ok = match &progress {
            Ok(Progress::Done) => Some(requests::is_ok(&method.info, out)),
            Ok(Progress::Read(_)) => Some(true),
            Ok(Progress::More(_) | Progress::Sleep(_)) => None,
            Err(_) => Some(false),
        };
        if let Some(is_ok) = is_ok {
            let failures = turn.failures;
            self.requests.count_ended(failures, &method.info, is_ok);
        }
        match progress {
            Ok(Progress::Done) => Outcome::Answered,
            Ok(Progress::Read(read)) => Outcome::Read(&method.info, read),
            Ok(Progress::More(rest)) => Outcome::Started(Started {
                method,
                rest: Ok(rest),
                kept,
                has_earlier_steps,
                has_slept: false,
            }),
            Ok(Progress::Sleep(sleep)) => {
                let started = Started {
                    method,
                    rest: Ok(sleep.rest),
                    kept,
                    has_earlier_steps,
                    has_slept: true,
                };
                Outcome::Asleep(started, sleep.waits_for, sleep.at_most)
            }
            Err(problem) => {
                problem.write(turn.failures, fields.id_bytes(), out);
                Outcome::Answered
            }
        }
    }

    fn method_of(&self, request: Item<'_>, fields: &Request<'_>) -> Result<&'static Method<S>> {
        if request.as_map().is_none() {
            let found = request.kind_name();
            return Err(Error::Invalid(format!("expected a map, got {found}")));
        }
        self.find_method(fields.method)
    }

    /// The error of a call that writes while another program keeps the service from writing.
    pub(super) fn lock_by_others(&mut self, access: Access) -> Option<BatchError> {
        if access == Access::Read {
            return None;
        }
        match self.engine.begin_to_write() {
            Err(error @ StorageError::Busy(_)) => Some(batch_error(error)),
            // Other errors show in the operation.
            _ => None,
        }
    }

    /// Runs the first step of a call.
    ///
    /// # Errors
    /// Why it failed.
    fn begin(
        &mut self,
        session: &mut Session<S>,
        method: &'static Method<S>,
        request: &Request<'_>,
        turn: &Turn<'_>,
        kept: &mut Kept,
        out: &mut Vec<u8>,
    ) -> std::result::Result<Progress<S>, Problem> {
        let began = tracing::enabled!(tracing::Level::DEBUG).then(Instant::now);
        let info = &method.info;
        self.requests.count_begun(info);
        // A copy, since the parameters are in use while the engine runs the operation.
        let limits = self.engine.settings().limits;
        let params = Params::assign(info.params, info.required, request.params, &limits);
        let progress = params.and_then(|params| {
            let first =
                |call: &mut Call<'_, S>, out: &mut Vec<u8>| (method.run)(call, &params, out);
            self.run_step(session, info, turn, kept, out, first)
        });
        if let Some(began) = began {
            log::request(Some(info), request, progress.as_ref(), began.elapsed());
        }
        progress.map_err(|error| Problem::of_call(info, &error))
    }

    /// Runs a long read within the loop, and writes its response.
    fn read_now(
        &mut self,
        method: &MethodInfo,
        request: &Request<'_>,
        read: Read,
        turn: &Turn<'_>,
        out: &mut Vec<u8>,
    ) {
        let start = out.len();
        envelope::begin_success(out, request.id_bytes());
        let result_start = out.len();
        let result = self.engine.run(Access::Read, turn.now, |operation| {
            out.truncate(result_start);
            read(operation.store, out)
        });
        end_read(
            method,
            turn.failures,
            request.id_bytes(),
            result,
            start,
            out,
        );
    }
}

/// Replaces the response that begins at `start` by a failure, if its long read failed.
fn end_read(
    method: &MethodInfo,
    failures: Failures,
    id: &[u8],
    result: Result<()>,
    start: usize,
    out: &mut Vec<u8>,
) {
    if let Err(error) = result {
        out.truncate(start);
        Problem::of_call(method, &error).write(failures, id, out);
    }
}

/// A long read as the loop runs it: gives the frame of its response.
fn long_read(
    method: &'static MethodInfo,
    failures: Failures,
    id: Vec<u8>,
    read: Read,
    mut reader: impl Lister + Send + 'static,
) -> LongRead {
    Box::new(move || {
        let mut response = Vec::new();
        envelope::begin_success(&mut response, &id);
        let result = read(&mut reader, &mut response);
        end_read(method, failures, &id, result, 0, &mut response);
        let mut frame = Vec::new();
        envelope::write_frame(&mut frame, &response);
        frame
    })
}
