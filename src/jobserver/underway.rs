//! Messages that are handled again and again: a call that is done in steps, and a list of requests, of which so
//! many are run in each step as take no longer than a few milliseconds.
//!
//! What the steps did is committed one by one. If a batch is lost meanwhile, the call ends with an error that
//! says so: its client may call again, as after any other error.

use super::method::{MethodInfo, Rest};
use super::steps::{Bench, Steps};
use super::{Answer, JobServer, Session, Undone};
use crate::cbor::item::{Items, Place};
use crate::cbor::{Item, Writer};
use crate::cborrpc::envelope::{self, Request};
use crate::clock::Timestamp;
use crate::coordinate::Result;
use crate::coordinate::storage::{Access, Storage};
use crate::limits;
use crate::server::Handled;
use std::cell::Cell;
use std::rc::Rc;
use std::time::Instant;

/// How far a message has come that is to be handled again.
pub(super) struct Underway {
    open: Open,
    /// What became of the batch that its last step was in.
    last_step: Rc<StepFate>,
}

/// What became of a batch that had a step of what is handled again.
#[derive(Default)]
pub(super) struct StepFate {
    /// True once the batch did not commit.
    pub(super) is_lost: Cell<bool>,
}

/// What is left of it.
pub(super) enum Open {
    Call(OpenCall),
    List(OpenList),
}

impl Open {
    /// Bytes that it keeps of the answer, and of the message.
    fn held(&self) -> usize {
        match self {
            Self::Call(call) => call.held(),
            Self::List(list) => {
                list.answers.capacity() + list.call.as_ref().map_or(0, OpenCall::held)
            }
        }
    }
}

/// A call of which some steps have been done.
pub(super) struct OpenCall {
    id: Vec<u8>,
    method: &'static MethodInfo,
    steps: Steps,
}

impl OpenCall {
    pub(super) fn new(request: &Request<'_>, method: &'static MethodInfo, steps: Steps) -> Self {
        Self {
            id: request.id_bytes().to_vec(),
            method,
            steps,
        }
    }

    fn held(&self) -> usize {
        self.id.len() + self.steps.held()
    }

    /// Answers that its last step is undone, and with it the rest of the call.
    fn write_lost(&self, out: &mut Vec<u8>) {
        let problem = format!("{}: {}", self.method.name, undone_step(LOST));
        envelope::write_failure(out, &self.id, &problem);
    }
}

/// A list of requests of which some have been run.
pub(super) struct OpenList {
    /// The first one that has not been answered.
    next: Place,
    /// What is left of that, if it has been begun.
    call: Option<OpenCall>,
    /// The answers to those before it, one after the other.
    answers: Vec<u8>,
    /// The first one whose answer depends on the present batch, or the last one.
    unsure: Place,
    /// How many these are.
    unsure_count: usize,
    /// The bytes of the answers before it.
    sure_bytes: usize,
}

impl OpenList {
    /// A list of `count` requests, which are a part of `message`.
    pub(super) fn new(requests: &Items<'_>, count: usize, message: &[u8]) -> Self {
        let mut answers = Vec::new();
        Writer::new(&mut answers).array(count);
        let next = requests.place_in(message);
        Self {
            sure_bytes: answers.len(),
            unsure: next.clone(),
            unsure_count: 0,
            next,
            call: None,
            answers,
        }
    }

    /// The ids of the requests whose answers are not sure.
    fn unsure_ids<'m>(&self, message: &'m [u8]) -> impl Iterator<Item = &'m [u8]> + use<'m> {
        let unsure = self.unsure.items(message).take(self.unsure_count);
        unsure.map(|request| Request::from_map(request).id_bytes())
    }
}

/// What is answered to a call whose last step is not in the file.
pub(super) fn undone_step(reason: impl std::fmt::Display) -> String {
    format!("{reason}; this holds for the last step of this call, what it did before stands")
}

/// What is said of a step whose batch was lost before the next one.
const LOST: &str = "a batch was rolled back meanwhile, so not all was done: send the request again";

impl<S: Storage> JobServer<S> {
    /// Keeps what is left of a message until that is handled again, in another batch.
    pub(super) fn put_off(&mut self, session: &mut Session, open: Open) -> Handled<Answer> {
        let last_step = self.batch_step.get_or_insert_default();
        let held = open.held();
        session.underway = Some(Underway {
            open,
            last_step: Rc::clone(last_step),
        });
        Handled::Again { held }
    }

    /// Goes on with a message from where it was left.
    pub(super) fn go_on(
        &mut self,
        session: &mut Session,
        underway: Underway,
        message: &[u8],
        now: Timestamp,
    ) -> Handled<Answer> {
        let is_lost = underway.last_step.is_lost.get();
        match underway.open {
            Open::Call(call) => {
                let mut response = Vec::new();
                if is_lost {
                    call.write_lost(&mut response);
                    return self.answer(response, || Undone::LastStep(call.id));
                }
                let id = call.id.clone();
                match self.step(session, call, message, now, &mut response) {
                    Some(call) => self.put_off(session, Open::Call(call)),
                    None => self.answer(response, || Undone::LastStep(id)),
                }
            }
            Open::List(mut list) => {
                if is_lost {
                    list.answers.truncate(list.sure_bytes);
                    for id in list.unsure_ids(message) {
                        envelope::write_failure(&mut list.answers, id, LOST);
                    }
                    if let Some(call) = list.call.take() {
                        call.write_lost(&mut list.answers);
                        let mut requests = list.next.items(message);
                        requests.next();
                        list.next = requests.place_in(message);
                    }
                }
                self.run_list(session, list, message, now)
            }
        }
    }

    /// Runs requests of a list, those that make a step.
    pub(super) fn run_list(
        &mut self,
        session: &mut Session,
        mut list: OpenList,
        message: &[u8],
        now: Timestamp,
    ) -> Handled<Answer> {
        let (begin, step_time) = (Instant::now(), self.settings.pace.list_step);
        let mut requests = list.next.items(message);
        list.unsure = list.next.clone();
        list.unsure_count = 0;
        list.sure_bytes = list.answers.len();
        loop {
            let here = requests.clone();
            let Some(request) = requests.next() else {
                let OpenList {
                    ref answers,
                    sure_bytes,
                    ..
                } = list;
                self.batch_answer_bytes += answers.len();
                let if_undone = self.batch_may_write.then(|| {
                    let ids = list.unsure_ids(message).map(<[u8]>::to_vec);
                    Undone::Listed(sure_bytes, ids.collect())
                });
                return Handled::Answer(Answer {
                    response: list.answers,
                    if_undone,
                });
            };
            let is_enough = list.unsure_count >= limits::LIST_STEP_REQUESTS
                || list.unsure_count > 0 && begin.elapsed() >= step_time;
            if !is_enough {
                let open = list.call.take();
                list.call =
                    self.run_listed(session, request, open, message, now, &mut list.answers);
            }
            if is_enough || list.call.is_some() {
                list.next = here.place_in(message);
                return self.put_off(session, Open::List(list));
            }
            list.unsure_count += 1;
        }
    }

    /// Runs one request of a list, or goes on with it. Gives what is left of it.
    fn run_listed(
        &mut self,
        session: &mut Session,
        request: Item<'_>,
        open: Option<OpenCall>,
        message: &[u8],
        now: Timestamp,
        out: &mut Vec<u8>,
    ) -> Option<OpenCall> {
        if let Some(call) = open {
            return self.step(session, call, message, now, out);
        }
        let problem = if out.len() > limits::ANSWER_BYTES_MAX {
            "not run, since the answers before it are too long together".to_owned()
        } else if request.as_map().is_none() {
            format!("expected a map, got {}", request.kind_name())
        } else {
            let request = Request::from_map(request);
            return match self.run(session, &request, message, now, false, out) {
                Rest::Again(method, steps) => Some(OpenCall::new(&request, method, steps)),
                Rest::Nothing | Rest::Deferred(_) => None,
            };
        };
        let id = Request::from_map(request).id_bytes();
        envelope::write_failure(out, id, &format!("request: {problem}"));
        None
    }

    /// Does the next step of a call, and appends its response if it was the last one; else gives the call.
    fn step(
        &mut self,
        session: &mut Session,
        call: OpenCall,
        message: &[u8],
        now: Timestamp,
        out: &mut Vec<u8>,
    ) -> Option<OpenCall> {
        let OpenCall { id, method, steps } = call;
        let start = out.len();
        envelope::begin_success(out, &id);
        match self.take_step(session, method, steps, message, now, out) {
            Ok(Some(steps)) => {
                out.truncate(start);
                Some(OpenCall { id, method, steps })
            }
            Ok(None) => None,
            Err(error) => {
                out.truncate(start);
                envelope::write_failure(out, &id, &format!("{}: {error}", method.name));
                None
            }
        }
    }

    fn take_step(
        &mut self,
        session: &mut Session,
        method: &MethodInfo,
        steps: Steps,
        message: &[u8],
        now: Timestamp,
        out: &mut Vec<u8>,
    ) -> Result<Option<Steps>> {
        self.expire(now)?;
        self.batch_may_write |= method.access == Access::Write;
        let limits = &self.settings.limits;
        let access = method.access;
        self.world.operation(limits, access, now, |mut operation| {
            let mut bench = Bench {
                operation: &mut operation,
                handed_out: &mut session.handed_out,
                message,
            };
            steps.take_step(&mut bench, out)
        })
    }
}
