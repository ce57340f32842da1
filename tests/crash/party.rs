//! One connection under way: it asks, keeps the history of what was asked and what was answered, and
//! says afterwards whether a state that was found can be explained by it.

use crate::model::{FAILED, FINISHED, PENDING, Request, State, Wish};
use crate::over_http::{HttpClient, to_json};
use rand::RngExt;
use rand::rngs::SmallRng;
use serde_json::Value as Json;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use test_support::{Client, Reply, Server, Value, frame, reply, unframe};

/// Requests that are sent at once at most.
const BURST_MAX: usize = 8;

/// What all parties share.
#[derive(Default)]
pub struct Common {
    /// Requests that were answered.
    pub answers: AtomicU64,
    /// Every unit of the shared work spec that was ever handed out. None of them is ever made available
    /// again, so none may come twice.
    pub handed_out: Mutex<BTreeSet<String>>,
    /// The ids of the attempts at them that were answered. None may come twice either.
    pub attempts: Mutex<BTreeSet<u64>>,
}

/// The answer to a request.
#[derive(Debug)]
enum Answer {
    /// A pair of a value and a message.
    Cbor(Value),
    /// The value alone.
    Json(Json),
}

impl Answer {
    /// True if it is the expected one, as CBOR-RPC has it. What was sent over HTTP has text where that has byte strings.
    fn is(&self, expected: &Value) -> bool {
        match self {
            Self::Cbor(answer) => {
                answer.items() == expected.items() || to_json(answer) == to_json(expected)
            }
            // Some methods have a pair as their value.
            Self::Json(answer) => [expected, expected.item(0)].map(to_json).contains(answer),
        }
    }

    /// The units that were handed out, each with the id of its attempt.
    fn attempts(&self) -> Vec<(String, u64)> {
        let of_cbor = |work: &Value| match *work.item(3).at("attempt") {
            Value::Unsigned(attempt) => (work.item(1).name().expect("a key"), attempt),
            _ => panic!("{work} tells no attempt"),
        };
        let of_json = |work: &Json| match (work[1].as_str(), work[3]["attempt"].as_u64()) {
            (Some(key), Some(attempt)) => (key.to_owned(), attempt),
            _ => panic!("{work} tells no attempt"),
        };
        match self {
            Self::Cbor(answer) => answer.item(0).items().iter().map(of_cbor).collect(),
            Self::Json(answer) => answer
                .as_array()
                .into_iter()
                .flatten()
                .map(of_json)
                .collect(),
        }
    }
}

pub struct Party {
    pub number: usize,
    random: SmallRng,
    /// By all that was answered.
    answered: State,
    /// What was sent and not answered yet, in order.
    unanswered: VecDeque<Request>,
    /// The ids of its attempts at units of the shared work spec, as far as they were answered. They stay what they are
    /// when the daemon crashes.
    told: BTreeMap<String, u64>,
}

impl Party {
    /// A party whose state is as it is before its first request.
    pub fn new(number: usize, random: SmallRng) -> Party {
        Party {
            number,
            random,
            answered: State::default(),
            unanswered: VecDeque::new(),
            told: BTreeMap::new(),
        }
    }

    /// Goes on until the connection ends, with its own part of the state as it was found.
    pub fn work(&mut self, server: &Server, common: &Common) {
        if self.random.random_range(0..3) == 0 {
            let client = HttpClient::of(server);
            while self.exchange_over_http(&client, common).is_some() {}
        } else {
            let mut client = server.connect();
            while self.exchange(&mut client, common).is_some() {}
        }
    }

    /// Sends some requests, and takes their answers. `None` if the connection ended.
    fn exchange(&mut self, client: &mut Client, common: &Common) -> Option<()> {
        let mut bytes = Vec::new();
        for (method, params) in self.choose_some(|_, _| true) {
            bytes.extend(frame(&client.envelope(method, params)));
        }
        client.try_send(&bytes).ok()?;
        while !self.unanswered.is_empty() {
            let frame = client.next_frame().ok().flatten()?;
            let Reply::Result(answer) = reply(&unframe(&frame)) else {
                panic!("party {}: {}", self.number, unframe(&frame));
            };
            self.take_answer(&Answer::Cbor(answer), common);
        }
        Some(())
    }

    /// The same over HTTP.
    fn exchange_over_http(&mut self, client: &HttpClient, common: &Common) -> Option<()> {
        // A refused call is an error there, and changes nothing at all: the model does not know that.
        let calls = self.choose_some(|request, state| !request.is_refused(state));
        let outcomes = client.call(&calls)?;
        assert_eq!(outcomes.len(), calls.len(), "{outcomes:?}");
        for mut outcome in outcomes {
            if outcome["error"]["status"] == 503 {
                return None;
            }
            assert!(
                outcome["error"].is_null(),
                "party {}: {outcome}",
                self.number
            );
            self.take_answer(&Answer::Json(outcome["result"].take()), common);
        }
        Some(())
    }

    /// Chooses requests that are sent together, of those that `fits` says may be sent: methods with their parameters.
    fn choose_some(
        &mut self,
        fits: impl Fn(&Request, &State) -> bool,
    ) -> Vec<(&'static str, Value)> {
        let mut calls = Vec::new();
        let mut ahead = self.answered.clone();
        for _ in 0..self.random.random_range(1..=BURST_MAX) {
            let request = loop {
                let request = self.choose(&ahead);
                if fits(&request, &ahead) {
                    break request;
                }
            };
            calls.push(request.call(self.number, &ahead));
            request.apply(self.number, &mut ahead);
            let is_last = matches!(request, Request::TakeShared(_));
            self.unanswered.push_back(request);
            // What it will bring is not known, so nothing can be planned behind it.
            if is_last {
                break;
            }
        }
        calls
    }

    /// Takes the answer to the first request that has none, and compares it with what it must be.
    fn take_answer(&mut self, answer: &Answer, common: &Common) {
        let request = self.unanswered.pop_front().expect("a request");
        let expected = request.apply(self.number, &mut self.answered);
        if let Request::TakeShared(_) = request {
            for (key, attempt) in answer.attempts() {
                let is_new = common.handed_out.lock().unwrap().insert(key.clone());
                assert!(is_new, "{key} was handed out before");
                let is_new = common.attempts.lock().unwrap().insert(attempt);
                assert!(is_new, "attempt {attempt} was answered before");
                self.told.insert(key.clone(), attempt);
                self.answered.shared.insert(key, PENDING);
            }
        } else {
            assert!(
                answer.is(&expected),
                "party {}: {request:?}: {answer:?}, not {expected}",
                self.number
            );
        }
        common.answers.fetch_add(1, Ordering::Relaxed);
    }

    /// Takes a state that was found after a crash for its own. It must be that after all that was
    /// answered, and after some of what was not: the first of these, or the first two, and so on, since
    /// they are carried out in order, and each as a whole. Gives how many of how many that were.
    pub fn explain(&mut self, found: State, common: &Common) -> (usize, usize) {
        let sent = self.unanswered.len();
        let mut possible = self.answered.clone();
        let mut done = 0;
        while possible != found {
            let Some(request) = self.unanswered.pop_front() else {
                panic!(
                    "party {}: nothing explains what was found\n{found:?}\nlast possible\n{possible:?}\n\
                     answered\n{:?}",
                    self.number, self.answered
                );
            };
            request.apply(self.number, &mut possible);
            if let Request::TakeShared(max) = request {
                let surplus: Vec<&String> = found
                    .shared
                    .iter()
                    .filter(|(key, status)| {
                        **status == PENDING && !possible.shared.contains_key(*key)
                    })
                    .map(|(key, _)| key)
                    .collect();
                assert!(surplus.len() <= max, "{surplus:?} for {request:?}");
                for key in surplus {
                    let is_new = common.handed_out.lock().unwrap().insert(key.clone());
                    assert!(is_new, "{key} was handed out before");
                    possible.shared.insert(key.clone(), PENDING);
                }
            }
            done += 1;
        }
        self.answered = found;
        self.unanswered.clear();
        (done, sent)
    }

    /// Chooses a request that makes sense in a state.
    fn choose(&mut self, state: &State) -> Request {
        let random = &mut self.random;
        let mut number = || random.random_range(1..1_000_000_000u64);
        let (first, second) = (number(), number());
        let count = random.random_range(1..=5usize);
        let mut keys: Vec<String> = (0..count)
            .map(|_| format!("u{:02}", random.random_range(0..40)))
            .collect();
        keys.sort();
        keys.dedup();
        let in_status = |status| {
            let all = state.units.iter();
            let fit = all.filter(move |(_, unit)| unit.status == status);
            fit.map(|(key, _)| key.clone()).take(count)
        };
        // Some reports tell the attempt, and the others the worker alone.
        let tells = random.random();
        let told = |key: &String| self.told.get(key).copied().filter(|_| tells);
        let held: Vec<(String, Option<u64>)> = state
            .shared
            .iter()
            .filter(|(_, status)| **status == PENDING)
            .map(|(key, _)| (key.clone(), told(key)))
            .take(count)
            .collect();
        match random.random_range(0..32) {
            0..5 => {
                let numbers = first..;
                return Request::Add(keys.into_iter().zip(numbers).collect());
            }
            5..9 => return Request::Take(count + 1),
            9..15 => {
                let wishes = [
                    Wish::Finish,
                    Wish::Fail,
                    Wish::FailForGood,
                    Wish::Renew,
                    Wish::GiveBack,
                    Wish::Delay,
                ];
                let reports: Vec<_> = in_status(PENDING)
                    .zip(first..)
                    .map(|(key, number)| {
                        (key, wishes[random.random_range(0..wishes.len())], number)
                    })
                    .collect();
                if !reports.is_empty() {
                    return Request::Report(reports);
                }
            }
            15 | 16 => {
                let retries = in_status(FINISHED).map(|key| (key, Wish::GiveBack));
                let finishes = in_status(FAILED).map(|key| (key, Wish::Finish));
                let reports: Vec<_> = retries
                    .chain(finishes)
                    .zip(second..)
                    .map(|((key, wish), number)| (key, wish, number))
                    .collect();
                if !reports.is_empty() {
                    return Request::Report(reports);
                }
            }
            17 => return Request::Delete(keys),
            18 => return Request::DeleteCompleted,
            19 => return Request::Adjust(keys, random.random_range(-3..=3)),
            20 => return Request::SetSpec(first),
            21 => {
                let (held, free): (Vec<_>, Vec<_>) =
                    keys.into_iter().partition(|key| state.locks.contains(key));
                return match free.is_empty() {
                    true => Request::Unlock(held),
                    false => Request::Lock(free),
                };
            }
            22 if state.worker.is_some() && count == 1 => return Request::Unregister,
            22 => return Request::Heartbeat(first),
            23 | 24 if !held.is_empty() => {
                let status = if count == 1 { FAILED } else { FINISHED };
                return Request::ReportShared(held, status);
            }
            25 | 26 => return Request::TakeShared(count + 1),
            27 => return Request::Cancel(keys),
            28 if state.is_halted => return Request::Resume,
            28 | 29 if state.halting_failed < state.halting_added => return Request::FailHalting,
            30 => return Request::AddHalting(count as u64),
            _ => {}
        }
        Request::AddShared(count as u64)
    }
}
