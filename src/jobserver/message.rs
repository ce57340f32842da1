//! Messages: a request alone, or a list of requests. One that takes long is handled in several turns of its
//! connection, each step of it in another batch, and others get their turns in between.

use super::call::{Call, Continuation, Daemon, Progress, Read};
use super::method::{Method, MethodInfo};
use super::params::{Params, shown};
use super::{JobServer, Session, batch_error, log};
use crate::clock::Timestamp;
use crate::coordinate::storage::{Access, Lister, Storage};
use crate::coordinate::{Error, Result, StorageError};
use crate::limits;
use crate::server::{BatchError, Handled, Job};
use coordinated_client::cbor::item::{Items, Place};
use coordinated_client::cbor::{Item, Writer};
use coordinated_client::cborrpc::envelope::{self, Request};
use std::time::Instant;

/// An answer that waits for its batch.
pub struct Answer {
    response: Vec<u8>,
    unsure: Unsure,
}

impl Answer {
    /// The answer that nothing of a message was run.
    pub(super) fn failure(problem: &str) -> Self {
        let mut response = Vec::new();
        envelope::write_failure(&mut response, envelope::NULL, problem);
        Self {
            unsure: Unsure::behind(response.len()),
            response,
        }
    }

    /// The response, given what became of the batch.
    pub(super) fn into_response(self, outcome: &std::result::Result<(), BatchError>) -> Vec<u8> {
        let mut response = self.response;
        if let Err(error) = outcome {
            self.unsure.fail(&mut response, error);
        }
        response
    }
}

/// The responses of a message that depend on the open batch: the last ones.
struct Unsure {
    /// Bytes of the responses before them.
    start: usize,
    /// The ids of the requests that they answer.
    ids: Vec<Vec<u8>>,
    /// True if the first of these has done steps in earlier batches.
    first_had_steps: bool,
}

impl Unsure {
    /// None yet, behind so many bytes of responses.
    fn behind(start: usize) -> Self {
        Self {
            start,
            ids: Vec::new(),
            first_had_steps: false,
        }
    }

    fn add(&mut self, id: &[u8], had_steps: bool) {
        if self.ids.is_empty() {
            self.first_had_steps = had_steps;
        }
        self.ids.push(id.to_vec());
    }

    /// Replaces them by failures, since the batch was lost.
    fn fail(&self, responses: &mut Vec<u8>, error: &BatchError) {
        responses.truncate(self.start);
        for (index, id) in self.ids.iter().enumerate() {
            let had_steps = index == 0 && self.first_had_steps;
            envelope::write_failure(responses, id, &rolled_back(error, had_steps));
        }
    }
}

/// What is said of a request whose batch was lost.
fn rolled_back(error: &BatchError, had_steps: bool) -> String {
    match error {
        BatchError::RolledBack(reason) if had_steps => format!(
            "{reason}; the last step of this call was rolled back, its earlier steps are committed"
        ),
        error => error.to_string(),
    }
}

/// What is left of a message, between two of its turns.
pub(super) struct InFlight<S: Storage> {
    /// True for a request alone, false for a list.
    is_alone: bool,
    /// The requests that have not been answered.
    next: Place,
    /// What is left of the first of them, if it has been begun.
    begun: Option<Begun<S>>,
    /// The responses to those before it, one after the other.
    responses: Vec<u8>,
    unsure: Unsure,
    /// True if it has waited for long enough to write.
    has_waited: bool,
}

/// A call of which some steps have been done.
struct Begun<S: Storage> {
    method: &'static MethodInfo,
    /// What is left, or why its last step was lost.
    rest: std::result::Result<Box<dyn Continuation<S>>, String>,
    /// The call's answers so far, see [`Call::answers`].
    answers: Vec<u8>,
    /// True if steps before the last one have been committed.
    had_steps: bool,
}

impl<S: Storage> Begun<S> {
    /// Bytes that it keeps.
    fn held(&self) -> usize {
        self.answers.capacity() + self.rest.as_ref().map_or(0, |rest| rest.held())
    }
}

impl<S: Storage> InFlight<S> {
    /// A request that is all of `message`.
    pub(super) fn single(request: Item<'_>, message: &[u8]) -> Self {
        Self {
            is_alone: true,
            next: request.alone().place_in(message),
            begun: None,
            responses: Vec::new(),
            unsure: Unsure::behind(0),
            has_waited: false,
        }
    }

    /// A list of `count` requests, which are a part of `message`.
    pub(super) fn list(requests: &Items<'_>, count: usize, message: &[u8]) -> Self {
        let mut responses = Vec::new();
        Writer::new(&mut responses).array(count);
        Self {
            is_alone: false,
            next: requests.place_in(message),
            begun: None,
            unsure: Unsure::behind(responses.len()),
            responses,
            has_waited: false,
        }
    }

    /// Bytes that it keeps of the answer, and of the message.
    fn held(&self) -> usize {
        self.responses.capacity() + self.begun.as_ref().map_or(0, Begun::held)
    }

    /// Lets its requests fail where it would wait.
    pub(super) fn end_waiting(&mut self) {
        self.has_waited = true;
    }

    /// Takes note that the batch of the last step was lost.
    pub(super) fn rolled_back(&mut self, error: &BatchError) {
        self.unsure.fail(&mut self.responses, error);
        if let Some(begun) = &mut self.begun {
            begun.rest = Err(rolled_back(error, begun.had_steps));
        }
    }
}

/// One turn of a message.
struct Turn<'a> {
    message: &'a [u8],
    is_alone: bool,
    now: Timestamp,
}

/// A method, and how far a call of it has come with a step.
type Step<S> = (&'static MethodInfo, Progress<S>);

/// What came of a step of a request.
enum Outcome<S: Storage> {
    /// Its response has been written.
    Answered,
    /// A long read is to write its result.
    Read(&'static MethodInfo, Read),
    /// There is more to do.
    Begun(Begun<S>),
}

impl<S: Storage> JobServer<S> {
    /// Runs the requests of a message from where it was left, as many as make a step.
    pub(super) fn handle_in_flight(
        &mut self,
        session: &mut Session<S>,
        mut in_flight: InFlight<S>,
        message: &[u8],
        now: Timestamp,
    ) -> Handled<Answer> {
        let turn = Turn {
            message,
            is_alone: in_flight.is_alone,
            now,
        };
        self.engine.open_batch();
        let began = (!turn.is_alone).then(Instant::now);
        let step_time = self.engine.settings().pace.list_step;
        let mut requests = in_flight.next.items(message);
        in_flight.unsure = Unsure::behind(in_flight.responses.len());
        let mut answered = 0;
        loop {
            let here = requests.clone();
            let Some(request) = requests.next() else {
                self.engine.note_answer(in_flight.responses.len());
                return Handled::Answer(Answer {
                    response: in_flight.responses,
                    unsure: in_flight.unsure,
                });
            };
            let is_enough = answered >= limits::LIST_STEP_REQUESTS
                || answered > 0 && began.is_some_and(|began| began.elapsed() >= step_time);
            if is_enough {
                in_flight.next = here.place_in(message);
                return self.handle_again(session, in_flight);
            }
            let fields = Request::from_map(request);
            let locked = self.locked(in_flight.begun.as_ref(), &fields);
            if locked.is_some() && !in_flight.has_waited {
                in_flight.next = here.place_in(message);
                return wait(session, in_flight);
            }
            let begun = in_flight.begun.take();
            let had_steps = begun.is_some();
            let responses = &mut in_flight.responses;
            let outcome = match locked {
                Some(error) => {
                    let problem = rolled_back(&error, had_steps);
                    envelope::write_failure(responses, fields.id_bytes(), &problem);
                    Outcome::Answered
                }
                None => self.step(session, request, &fields, begun, &turn, responses),
            };
            match outcome {
                Outcome::Answered => {}
                Outcome::Read(method, read) => match self.engine.reader() {
                    Some(reader) if turn.is_alone => {
                        let id = fields.id_bytes().to_vec();
                        return Handled::Later(into_job(method, id, read, reader));
                    }
                    // The responses of a list keep their order.
                    _ => self.read_now(method, &fields, read, &turn, responses),
                },
                Outcome::Begun(begun) => {
                    in_flight.begun = Some(begun);
                    in_flight.next = here.place_in(message);
                    return self.handle_again(session, in_flight);
                }
            }
            answered += 1;
            if self.engine.batch_may_write() {
                in_flight.unsure.add(fields.id_bytes(), had_steps);
            } else {
                in_flight.unsure = Unsure::behind(in_flight.responses.len());
            }
        }
    }

    /// Why the next step of a request can't be done now: it writes, and another program keeps us from writing.
    fn locked(&mut self, begun: Option<&Begun<S>>, request: &Request<'_>) -> Option<BatchError> {
        let access = match begun {
            Some(begun) => begun.method.access,
            None => self.find_method(request).ok()?.info.access,
        };
        if access == Access::Read {
            return None;
        }
        match self.engine.begin_to_write() {
            Err(error @ StorageError::Busy(_)) => Some(batch_error(error)),
            // What else may be wrong, the operation says.
            _ => None,
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

    /// Does the first step of a request, or the next one of what has been begun.
    fn step(
        &mut self,
        session: &mut Session<S>,
        request: Item<'_>,
        fields: &Request<'_>,
        begun: Option<Begun<S>>,
        turn: &Turn<'_>,
        out: &mut Vec<u8>,
    ) -> Outcome<S> {
        let start = out.len();
        let had_steps = begun.is_some();
        let problem = if start > limits::ANSWER_BYTES_MAX && !had_steps {
            "request: not run, since the answers before it are too long together".to_owned()
        } else if request.as_map().is_none() {
            format!("request: expected a map, got {}", request.kind_name())
        } else {
            envelope::begin_success(out, fields.id_bytes());
            let (rest, mut answers) = match begun {
                Some(begun) => (Some((begun.method, begun.rest)), begun.answers),
                None => (None, Vec::new()),
            };
            let progress = match rest {
                Some((method, rest)) => self.go_on(session, method, rest, turn, &mut answers, out),
                None => self.begin(session, fields, turn, &mut answers, out),
            };
            match progress {
                Ok((_, Progress::Done)) => return Outcome::Answered,
                Ok((method, Progress::Read(read))) => {
                    out.truncate(start);
                    return Outcome::Read(method, read);
                }
                Ok((method, Progress::More(rest))) => {
                    out.truncate(start);
                    return Outcome::Begun(Begun {
                        method,
                        rest: Ok(rest),
                        answers,
                        had_steps,
                    });
                }
                Err(problem) => problem,
            }
        };
        out.truncate(start);
        envelope::write_failure(out, fields.id_bytes(), &problem);
        Outcome::Answered
    }

    /// Does the first step of a request.
    ///
    /// # Errors
    /// What its failure says.
    fn begin(
        &mut self,
        session: &mut Session<S>,
        request: &Request<'_>,
        turn: &Turn<'_>,
        answers: &mut Vec<u8>,
        out: &mut Vec<u8>,
    ) -> std::result::Result<Step<S>, String> {
        let begin = tracing::enabled!(tracing::Level::DEBUG).then(Instant::now);
        let found = self.find_method(request);
        let method = found.as_ref().ok().map(|method| &method.info);
        let found = found.map_err(|error| ("request", error));
        let result = found.and_then(|method| {
            let progress = self.call(session, method, request, turn, answers, out);
            progress.map_err(|error| (method.info.name, error))
        });
        if let Some(begin) = begin {
            log::request(method, request, &result, begin.elapsed());
        }
        result.map_err(|(name, error)| format!("{name}: {error}"))
    }

    /// Goes on with a request.
    ///
    /// # Errors
    /// What its failure says.
    fn go_on(
        &mut self,
        session: &mut Session<S>,
        method: &'static MethodInfo,
        rest: std::result::Result<Box<dyn Continuation<S>>, String>,
        turn: &Turn<'_>,
        answers: &mut Vec<u8>,
        out: &mut Vec<u8>,
    ) -> std::result::Result<Step<S>, String> {
        let rest = rest?;
        let step = |call: &mut Call<'_, S>, out: &mut Vec<u8>| rest.step(call, out);
        self.run(session, method, turn, answers, out, step)
            .map_err(|error| format!("{}: {error}", method.name))
    }

    fn call(
        &mut self,
        session: &mut Session<S>,
        method: &'static Method<S>,
        request: &Request<'_>,
        turn: &Turn<'_>,
        answers: &mut Vec<u8>,
        out: &mut Vec<u8>,
    ) -> Result<Step<S>> {
        *self.calls.entry(method.info.name).or_default() += 1;
        // Its own, since the parameters are in use while the engine runs the operation.
        let limits = self.engine.settings().limits;
        let MethodInfo {
            params, required, ..
        } = method.info;
        let params = Params::assign(params, required, request.params, &limits)?;
        self.run(session, &method.info, turn, answers, out, |call, out| {
            (method.run)(call, &params, out)
        })
    }

    /// Runs a step as an operation, and remembers for the connection what it has been given.
    fn run(
        &mut self,
        session: &mut Session<S>,
        method: &'static MethodInfo,
        turn: &Turn<'_>,
        answers: &mut Vec<u8>,
        out: &mut Vec<u8>,
        step: impl Fn(&mut Call<'_, S>, &mut Vec<u8>) -> Result<Progress<S>>,
    ) -> Result<Step<S>> {
        let retention = self.engine.settings().retention;
        let daemon = Daemon {
            config: &self.settings.config,
            retention: &retention,
            calls: &self.calls,
        };
        let handed_out = &session.handed_out;
        let (answers_start, out_start) = (answers.len(), out.len());
        let (progress, given) = self.engine.run(method.access, turn.now, |operation| {
            answers.truncate(answers_start);
            out.truncate(out_start);
            let mut call = Call {
                operation,
                handed_out,
                daemon,
                message: turn.message,
                is_alone: turn.is_alone,
                answers: &mut *answers,
                given: Vec::new(),
            };
            Ok((step(&mut call, out)?, call.given))
        })?;
        for given in &given {
            session
                .handed_out
                .remember(given.unit, given.attempt, &given.work_spec, &given.name);
        }
        Ok((method, progress))
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
        let result = self.engine.run(Access::Read, turn.now, |operation| {
            out.truncate(start);
            write_read(method, request.id_bytes(), &read, operation.store, out);
            Ok(())
        });
        if let Err(error) = result {
            let problem = format!("{}: {error}", method.name);
            envelope::write_failure(out, request.id_bytes(), &problem);
        }
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
            let shown = shown(name);
            Error::Invalid(format!("unknown method {shown}"))
        })
    }
}

/// Keeps what is left of a message until the service can write. It has written nothing in the open batch.
fn wait<S: Storage>(session: &mut Session<S>, in_flight: InFlight<S>) -> Handled<Answer> {
    let held = in_flight.held();
    session.in_flight = Some(in_flight);
    Handled::Wait { held }
}

/// Runs a long read, and appends its response.
fn write_read(
    method: &MethodInfo,
    id: &[u8],
    read: &Read,
    lister: &mut dyn Lister,
    out: &mut Vec<u8>,
) {
    let start = out.len();
    envelope::begin_success(out, id);
    if let Err(error) = read(lister, out) {
        out.truncate(start);
        envelope::write_failure(out, id, &format!("{}: {error}", method.name));
    }
}

/// A long read as the loop runs it: gives the frame of its response.
fn into_job(
    method: &'static MethodInfo,
    id: Vec<u8>,
    read: Read,
    mut reader: impl Lister + Send + 'static,
) -> Job {
    Box::new(move || {
        let mut response = Vec::new();
        write_read(method, &id, &read, &mut reader, &mut response);
        let mut frame = Vec::new();
        envelope::write_frame(&mut frame, &response);
        frame
    })
}
