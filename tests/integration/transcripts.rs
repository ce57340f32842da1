//! Replays what the original Python client and server said to each other, and compares every answer
//! of the daemon with the recorded one.
//!
//! `transcripts.jsonl` is the recording: one exchange a line, `seq` the order over all connections,
//! `session` the connection. While recording, an exchange that repeated an earlier one word for word
//! was left out as if it had only read something; but a repeated `get_work` hands out a unit.
//! `transcripts_omitted.jsonl` has these again: the missing `seq`, its session, and the exchange that
//! it repeats. With them the recording replays on the original server without a difference other
//! than times (that is how they were found: each fills a gap in its session's request ids).

use std::collections::{BTreeMap, BTreeSet, HashMap};
use test_support::cbor::unhex;
use test_support::{Client, Server, Value, diag, frame};

/// Answers in which the protocol chose another behaviour than that of the recorded server: what must
/// be answered instead (`error` for an error envelope; any time stands for a time), and why.
const DEVIATIONS: &[(u32, &str, &str)] = &[
    (338, "null", "params in a tuple are positional parameters"),
    (
        688,
        "[true, null]",
        "keys that are text and keys that are not UTF-8 go together",
    ),
    (718, "error", "a spec's name is a string"),
    (719, "error", "a spec's name is a string"),
    (720, "error", "a spec's name is not empty"),
    (
        721,
        "[[], null]",
        "none of the three specs before was accepted",
    ),
    (722, "error", "null is no name"),
    (723, "error", "5 is no name"),
    (
        724,
        "[false, 'no such spec']",
        "the spec without a name was not accepted",
    ),
    (
        752,
        "[[{'name': 's3', 'min_gb': 0.1, 'module': 'heldout_job', 'run_function': 'run'},
           {'name': 's4', 'min_gb': 0.1, 'module': 'heldout_job', 'run_function': 'run'},
           {'name': 's5', 'min_gb': 0.1, 'module': 'heldout_job', 'run_function': 'run'}], 's6']",
        "paging goes on from `start`",
    ),
    (
        975,
        "[true, null]",
        "a plain string is a key with empty data",
    ),
    (
        1459,
        "[[{'expiration': 0.5, 'status': 3, 'worker_id': 'wx'}], null]",
        "the new attempt is that of worker_id",
    ),
    (
        1468,
        "[[{'expiration': 0.5, 'status': 3, 'worker_id': 'wx'}], null]",
        "the new attempt is that of worker_id",
    ),
    (
        1477,
        "[[{'expiration': 0.5, 'status': 3, 'worker_id': 'wx'}], null]",
        "the new attempt is that of worker_id",
    ),
    (
        1554,
        "[128(['ws', 'a', {'n': 0}]), null]",
        "a retry starts from the unit's own data",
    ),
    (
        1772,
        "[true, null]",
        "output of another type: finished, nothing created",
    ),
    (1780, "[true, null]", "a malformed output item is skipped"),
    (1784, "[true, null]", "a malformed output item is skipped"),
    (1796, "[true, null]", "a malformed output item is skipped"),
    (
        1800,
        "[true, null]",
        "output of another type: finished, nothing created",
    ),
    (1808, "[true, null]", "a malformed output item is skipped"),
    (
        1884,
        "[[128(['ws', '1795489696.91', {}])], null]",
        "one continuous unit for each call",
    ),
    (
        1890,
        "[128([null, null, null]), null]",
        "no continuous unit while the spec has a pending one",
    ),
    (
        2040,
        "[128(['high', 'h0', {}]), null]",
        "the spec of the highest priority comes first",
    ),
    (
        2041,
        "[128(['high', 'h1', {}]), null]",
        "the spec of the highest priority comes first",
    ),
    (
        2042,
        "[128(['high', 'h2', {}]), null]",
        "the spec of the highest priority comes first",
    ),
    (
        2043,
        "[128(['high', 'h3', {}]), null]",
        "the spec of the highest priority comes first",
    ),
    (
        2044,
        "[128(['high', 'h4', {}]), null]",
        "the spec of the highest priority comes first",
    ),
    (
        2045,
        "[128(['low', 'l0', {}]), null]",
        "the spec of the highest priority comes first",
    ),
    (2166, "1795489697", "the recorded server had no method now"),
];

/// `get_work` while several specs have work. Which one is chosen depends on chance here and on the
/// successor graph there; within one spec the order of units is compared.
const SEVERAL_SPECS: &[std::ops::RangeInclusive<u32>] = &[
    1316..=1319,
    1911..=1990,
    2010..=2029,
    2054..=2059,
    2242..=2242,
];

/// Counts after such a choice: those of the units that were handed out in this replay.
const COUNTS_AFTER_A_CHOICE: &[u32] = &[1991, 2030, 2031];

/// Real workers on two specs, one of them the other's successor: the recorded reports are about the
/// units that the recorded server chose, so only the form of a `get_work` can be compared.
const WORKERS_ON_TWO_SPECS: std::ops::RangeInclusive<u32> = 3021..=3084;

/// An exchange that was answered after the one behind it had been executed: 3052 got a unit that the
/// report 3053 created.
const ANSWERED_LATE: (u32, u32) = (3052, 3053);

struct Exchange {
    seq: u32,
    session: u64,
    /// As it was sent, with or without its tag 24.
    request_bytes: Vec<u8>,
    request: Value,
    response: Value,
}

/// How an answer was compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Compared {
    /// All of it, but for what a client can't see: the order of map keys, 128 or a list as the outer
    /// pair, bytes or text where the protocol allows both.
    Exactly,
    /// All but a time, a message's text or a choice by chance, of which there is the right kind.
    ByShape,
    /// Exactly, with the answer that the protocol chose instead of the recorded one.
    AsChosen,
}

#[test]
fn the_daemon_answers_as_the_recorded_server_did() {
    let exchanges = recorded();
    let mut last_of_session = HashMap::new();
    for exchange in &exchanges {
        last_of_session.insert(exchange.session, exchange.seq);
    }
    let server = Server::start();
    let mut clients: HashMap<u64, Client> = HashMap::new();
    let mut replay = Replay::default();
    let mut tally = BTreeMap::<Compared, usize>::new();
    let mut differences = Vec::new();
    for exchange in &exchanges {
        let client = clients
            .entry(exchange.session)
            .or_insert_with(|| server.connect());
        let request = replay.with_present_keys(&exchange.request);
        if request == exchange.request {
            client.send(&exchange.request_bytes);
        } else {
            client.send(&frame(&request));
        }
        let answer = client.next_answer();
        match replay.compare(exchange, &answer) {
            Ok(how) => *tally.entry(how).or_default() += 1,
            Err(why) => differences.push(format!(
                "{} (session {}): {why}\n  request  {request}\n  answer   {answer}\n  recorded {}",
                exchange.seq, exchange.session, exchange.response
            )),
        }
        if last_of_session[&exchange.session] == exchange.seq {
            clients.remove(&exchange.session);
        }
    }
    println!("{} exchanges compared: {tally:?}", exchanges.len());
    assert!(
        differences.is_empty(),
        "{} of {} answers differ:\n{}",
        differences.len(),
        exchanges.len(),
        differences.join("\n")
    );
    // None is left out, and most are compared in full.
    assert_eq!(tally.values().sum::<usize>(), exchanges.len());
    assert_eq!(exchanges.len(), 2605);
    assert!(tally[&Compared::Exactly] >= 2300, "{tally:?}");
    assert_eq!(tally[&Compared::AsChosen], DEVIATIONS.len(), "{tally:?}");
}

/// The exchanges in the order in which they were executed, the omitted ones included.
fn recorded() -> Vec<Exchange> {
    let mut exchanges = BTreeMap::new();
    for line in include_str!("../data/transcripts.jsonl").lines() {
        let line: serde_json::Value = serde_json::from_str(line).expect("a line of JSON");
        let bytes = |field: &str| unhex(line[field].as_str().expect("hex"));
        let seq = line["seq"].as_u64().expect("seq") as u32;
        let exchange = Exchange {
            seq,
            session: line["session"].as_u64().expect("session"),
            request: unwrapped(&bytes("request_hex")),
            request_bytes: bytes("request_hex"),
            response: unwrapped(&bytes("response_hex")),
        };
        assert!(exchanges.insert(seq, exchange).is_none(), "{seq} twice");
    }
    for line in include_str!("../data/transcripts_omitted.jsonl").lines() {
        let line: serde_json::Value = serde_json::from_str(line).expect("a line of JSON");
        let number = |field: &str| line[field].as_u64().expect("a number");
        let seq = number("seq") as u32;
        let repeated = &exchanges[&(number("repeats") as u32)];
        let exchange = Exchange {
            seq,
            session: number("session"),
            request_bytes: repeated.request_bytes.clone(),
            request: repeated.request.clone(),
            response: repeated.response.clone(),
        };
        assert!(exchanges.insert(seq, exchange).is_none(), "{seq} twice");
    }
    let late = exchanges.remove(&ANSWERED_LATE.0).expect("the late one");
    let mut ordered = Vec::new();
    let mut late = Some(late);
    for exchange in exchanges.into_values() {
        let next = exchange.seq == ANSWERED_LATE.1;
        ordered.push(exchange);
        if next {
            ordered.extend(late.take());
        }
    }
    assert!(late.is_none());
    ordered
}

/// A message without its tag 24, if it has one.
fn unwrapped(bytes: &[u8]) -> Value {
    match Value::decode_all(bytes) {
        Value::Tag(24, inner) => match *inner {
            Value::Bytes(bytes) => Value::decode_all(&bytes),
            other => panic!("tag 24 around {other}"),
        },
        bare => bare,
    }
}

/// What has to be remembered of the answers so far.
#[derive(Default)]
struct Replay {
    /// Keys of continuous units: recorded, and as the daemon made it. They are times.
    continuous_keys: HashMap<Vec<u8>, Vec<u8>>,
    /// The units that each session put under each spec and that were not handed out yet.
    waiting: BTreeMap<(u64, String), BTreeSet<Vec<u8>>>,
    /// How many were handed out.
    handed_out: BTreeMap<(u64, String), u64>,
}

impl Replay {
    /// A request with the keys of continuous units as they are in this replay.
    fn with_present_keys(&self, request: &Value) -> Value {
        match request {
            Value::Bytes(bytes) => {
                Value::Bytes(self.continuous_keys.get(bytes).unwrap_or(bytes).clone())
            }
            Value::Array(items) => Value::Array(
                items
                    .iter()
                    .map(|item| self.with_present_keys(item))
                    .collect(),
            ),
            Value::Map(entries) => Value::Map(
                entries
                    .iter()
                    .map(|(k, v)| (k.clone(), self.with_present_keys(v)))
                    .collect(),
            ),
            Value::Tag(tag, inner) => Value::Tag(*tag, Box::new(self.with_present_keys(inner))),
            other => other.clone(),
        }
    }

    fn compare(&mut self, exchange: &Exchange, answer: &Value) -> Result<Compared, String> {
        let Value::Array(requests) = &exchange.request else {
            return self.compare_one(
                exchange.seq,
                exchange.session,
                &exchange.request,
                &exchange.response,
                answer,
            );
        };
        // A batch: each answer for itself.
        let (recorded, answers) = (exchange.response.items(), answer.items());
        if requests.len() != answers.len() {
            return Err("a batch has an answer for each request".to_owned());
        }
        let mut worst = Compared::Exactly;
        for ((request, recorded), answer) in requests.iter().zip(recorded).zip(answers) {
            worst = worst.max(self.compare_one(
                exchange.seq,
                exchange.session,
                request,
                recorded,
                answer,
            )?);
        }
        Ok(worst)
    }

    fn compare_one(
        &mut self,
        seq: u32,
        session: u64,
        request: &Value,
        recorded: &Value,
        answer: &Value,
    ) -> Result<Compared, String> {
        if answer.get("id") != request.get("id") {
            return Err("another id".to_owned());
        }
        let method = request.at("method").name().expect("a method");
        let params = request.at("params");
        self.remember_units(session, &method, params);
        let chosen = DEVIATIONS.iter().find(|(at, ..)| *at == seq);
        let expected = match chosen {
            Some((_, "error", _)) => None,
            Some((_, notation, _)) => Some(diag(notation)),
            None => recorded.get("result").map(untagged),
        };
        let found = match (answer.get("result"), answer.get("error")) {
            (Some(result), None) => Some(untagged(result)),
            (None, Some(error)) => {
                let message = error.at("message").name().unwrap_or_default();
                if message.is_empty() {
                    return Err("an error without a message".to_owned());
                }
                None
            }
            _ => return Err("neither a result nor an error".to_owned()),
        };
        let how = match (&expected, &found) {
            // The texts of errors are not compared.
            (None, None) => Compared::ByShape,
            (None, Some(_)) => return Err("an error is expected".to_owned()),
            (Some(_), None) => return Err("a result is expected".to_owned()),
            (Some(expected), Some(found)) => {
                self.compare_results(seq, session, &method, params, expected, found)?
            }
        };
        Ok(if chosen.is_some() {
            Compared::AsChosen
        } else {
            how
        })
    }

    fn compare_results(
        &mut self,
        seq: u32,
        session: u64,
        method: &str,
        params: &Value,
        expected: &Value,
        found: &Value,
    ) -> Result<Compared, String> {
        if method == "get_work" && WORKERS_ON_TWO_SPECS.contains(&seq) {
            check_form_of_work(found)?;
            return Ok(Compared::ByShape);
        }
        if SEVERAL_SPECS.iter().any(|range| range.contains(&seq)) {
            return self.compare_choice(session, expected, found);
        }
        if method == "get_work" {
            self.note_handed_out(session, found);
            self.note_continuous_key(expected, found);
        }
        if COUNTS_AFTER_A_CHOICE.contains(&seq) {
            let spec = (session, params.item(0).name().expect("a spec"));
            let waiting = self.waiting[&spec].len() as u64;
            let pending = self.handed_out[&spec];
            let counts = Value::Map(vec![
                (Value::Unsigned(1), Value::Unsigned(waiting)),
                (Value::Unsigned(3), Value::Unsigned(pending)),
            ]);
            return if *found.item(0) == counts {
                Ok(Compared::ByShape)
            } else {
                Err(format!("expected the counts {counts}"))
            };
        }
        let mut expected = View::of(method, expected);
        let mut found = View::of(method, found);
        expected.as_promised(method);
        found.without_additions(method)?;
        if expected.value != found.value {
            return Err(format!(
                "expected {}\n  but got  {}",
                expected.value, found.value
            ));
        }
        Ok(if expected.by_shape {
            Compared::ByShape
        } else {
            Compared::Exactly
        })
    }

    fn remember_units(&mut self, session: u64, method: &str, params: &Value) {
        if method == "add_work_units" && matches!(params, Value::Array(_)) {
            let spec = params.item(0).name().expect("a spec");
            let Value::Array(items) = params.item(1) else {
                return;
            };
            let waiting = self.waiting.entry((session, spec)).or_default();
            for item in items {
                if let Value::Array(_) | Value::Tag(128, _) = item
                    && let Some(Value::Bytes(key)) = item.items().first()
                {
                    waiting.insert(key.clone());
                }
            }
        }
    }

    fn note_handed_out(&mut self, session: u64, found: &Value) {
        for (spec, key) in works(found.item(0)) {
            if let Some(waiting) = self.waiting.get_mut(&(session, spec.clone())) {
                waiting.remove(&key);
                *self.handed_out.entry((session, spec)).or_default() += 1;
            }
        }
    }

    fn note_continuous_key(&mut self, expected: &Value, found: &Value) {
        let (expected, found) = (works(expected.item(0)), works(found.item(0)));
        for ((_, recorded), (_, present)) in expected.into_iter().zip(found) {
            if is_time(&recorded) && is_time(&present) {
                self.continuous_keys.insert(recorded, present);
            }
        }
    }

    /// A choice among specs: as many units as recorded, of one spec, its first ones by name.
    fn compare_choice(
        &mut self,
        session: u64,
        expected: &Value,
        found: &Value,
    ) -> Result<Compared, String> {
        check_form_of_work(found)?;
        let units = works(found.item(0));
        let several = matches!(expected.item(0), Value::Array(_));
        if units.is_empty() || (!several && units.len() != 1) {
            return Err("there is work".to_owned());
        }
        if units.iter().any(|(spec, _)| *spec != units[0].0) {
            return Err("units of more than one spec".to_owned());
        }
        for (spec, key) in units {
            let waiting = self
                .waiting
                .get_mut(&(session, spec.clone()))
                .ok_or("a spec of this session")?;
            let first = waiting.pop_first().ok_or("a unit that is there")?;
            if first != key {
                return Err(format!(
                    "the next unit of {spec} is {}",
                    String::from_utf8_lossy(&first)
                ));
            }
            *self.handed_out.entry((session, spec)).or_default() += 1;
        }
        Ok(Compared::ByShape)
    }
}

/// An outer tuple as a list.
fn untagged(value: &Value) -> Value {
    match value {
        Value::Tag(128, inner) => (**inner).clone(),
        other => other.clone(),
    }
}

/// The pairs of spec and key in what `get_work` gave: a tuple, or a list of tuples.
fn works(value: &Value) -> Vec<(String, Vec<u8>)> {
    let list = match value {
        Value::Array(items) => items.as_slice(),
        one => std::slice::from_ref(one),
    };
    list.iter()
        .filter(|work| !work.item(0).is_null())
        .map(|work| match work.item(1) {
            Value::Bytes(key) => (work.item(0).name().expect("a spec"), key.clone()),
            Value::Text(key) => (
                work.item(0).name().expect("a spec"),
                key.clone().into_bytes(),
            ),
            other => panic!("no key: {other}"),
        })
        .collect()
}

/// Checks the form of an answer of `get_work`.
fn check_form_of_work(result: &Value) -> Result<(), String> {
    let one = |work: &Value| {
        matches!(work, Value::Tag(128, _))
            && matches!(
                work.items(),
                [Value::Null, Value::Null, Value::Null]
                    | [
                        Value::Bytes(_) | Value::Text(_),
                        Value::Bytes(_) | Value::Text(_),
                        Value::Map(_)
                    ]
            )
    };
    let fine = match result.items() {
        [Value::Array(list), Value::Null] => list.iter().all(one),
        [work, Value::Null] => one(work),
        _ => false,
    };
    if fine {
        Ok(())
    } else {
        Err("not an answer of get_work".to_owned())
    }
}

/// The key of a continuous unit: digits, a point, digits.
fn is_time(key: &[u8]) -> bool {
    let text = std::str::from_utf8(key).unwrap_or_default();
    text.split_once('.').is_some_and(|(whole, fraction)| {
        whole.len() == 10
            && [whole, fraction]
                .iter()
                .all(|p| !p.is_empty() && p.bytes().all(|b| b.is_ascii_digit()))
    })
}

/// An answer as it is compared: names as text, times and messages replaced by a word.
struct View {
    value: Value,
    by_shape: bool,
}

impl View {
    fn of(method: &str, result: &Value) -> View {
        let mut view = View {
            value: result.clone(),
            by_shape: false,
        };
        let Value::Array(pair) = &mut view.value else {
            if method == "worker_stats" {
                keys_as_text(&mut view.value);
            }
            if method == "now" {
                view.value = Value::text(if matches!(result, Value::Unsigned(_)) {
                    "now"
                } else {
                    "not a time"
                });
                view.by_shape = true;
            }
            return view;
        };
        let [value, message] = pair.as_mut_slice() else {
            return view;
        };
        if method == "list_work_specs" {
            as_text(message);
        } else if !message.is_null() {
            let text = message.name().unwrap_or_default();
            *message = Value::text(if text.is_empty() {
                "no message"
            } else {
                "a message"
            });
            view.by_shape = true;
        }
        view.by_shape |= match method {
            "get_work" => work(value),
            "get_work_unit_status" => statuses(value),
            "get_work_spec_meta" => {
                numbers_as_floats(value);
                false
            }
            "list_worker_modes" | "mode_counts" => {
                keys_as_text(value);
                entries(value).iter_mut().for_each(|(_, v)| as_text(v));
                false
            }
            "get_child_work_units" => child_units(value),
            // The server's own configuration.
            "get_config" => {
                *value = Value::text(if matches!(value, Value::Map(_)) {
                    "a map"
                } else {
                    "not a map"
                });
                true
            }
            _ => false,
        };
        view
    }

    /// Makes of a recorded answer what the protocol promises beyond it: the module and the function
    /// of a spec are byte strings, even if the spec came in as text.
    fn as_promised(&mut self, method: &str) {
        let specs = match (method, &mut self.value) {
            ("get_work_spec", spec @ Value::Map(_)) => std::slice::from_mut(spec),
            ("list_work_specs", Value::Array(pair)) => match &mut pair[0] {
                Value::Array(specs) => specs,
                _ => return,
            },
            _ => return,
        };
        for spec in specs {
            for (key, value) in entries(spec) {
                if let (Some("module" | "run_function"), Value::Text(text)) =
                    (key.name().as_deref(), &*value)
                {
                    *value = Value::bytes(text);
                }
            }
        }
    }

    /// Takes out of a found answer what the recorded server left out: the age of a worker's data.
    fn without_additions(&mut self, method: &str) -> Result<(), String> {
        if method == "get_worker_info"
            && let Value::Array(pair) = &mut self.value
            && let Value::Map(entries) = &mut pair[0]
        {
            let is_age = |key: &Value| key.name().as_deref() == Some("age_seconds");
            let age = entries
                .iter()
                .find(|(key, _)| is_age(key))
                .and_then(|(_, age)| age.number());
            if age.is_none_or(|age| age < 0.0) {
                return Err("age_seconds is a number".to_owned());
            }
            entries.retain(|(key, _)| !is_age(key));
        }
        Ok(())
    }
}

fn work(value: &mut Value) -> bool {
    let list = match value {
        Value::Array(items) => items.as_mut_slice(),
        one => std::slice::from_mut(one),
    };
    let mut by_shape = false;
    for work in list {
        if let Value::Tag(128, inner) = work
            && let Value::Array(parts) = &mut **inner
            && let [spec, key, _] = parts.as_mut_slice()
        {
            as_text(spec);
            if let Value::Bytes(bytes) = key
                && is_time(bytes)
            {
                *key = Value::text("a time with a fraction");
                by_shape = true;
            }
        }
    }
    by_shape
}

fn statuses(value: &mut Value) -> bool {
    let mut by_shape = false;
    if let Value::Array(statuses) = value {
        for status in statuses {
            keys_as_text(status);
            by_shape |= time_as_word(status, "expiration");
            name_as_text(status, "worker_id");
        }
    }
    by_shape
}

fn child_units(value: &mut Value) -> bool {
    let mut by_shape = false;
    keys_as_text(value);
    for (_, units) in entries(value) {
        if let Value::Array(units) = units {
            for unit in units.iter_mut() {
                keys_as_text(unit);
                by_shape |= time_as_word(unit, "expires");
                name_as_text(unit, "worker_id");
                name_as_text(unit, "work_spec_name");
            }
            // The recorded server kept a worker's units in a set.
            units.sort_by_cached_key(Value::encode);
        }
    }
    by_shape
}

fn entries(value: &mut Value) -> &mut [(Value, Value)] {
    match value {
        Value::Map(entries) => entries,
        _ => &mut [],
    }
}

fn as_text(value: &mut Value) {
    if let Some(name) = value.name() {
        *value = Value::Text(name);
    }
}

fn keys_as_text(value: &mut Value) {
    entries(value).iter_mut().for_each(|(key, _)| as_text(key));
}

fn name_as_text(map: &mut Value, name: &str) {
    entries(map)
        .iter_mut()
        .filter(|(key, _)| *key == Value::text(name))
        .for_each(|(_, value)| as_text(value));
}

/// Replaces a time, but not a null.
fn time_as_word(map: &mut Value, name: &str) -> bool {
    let mut replaced = false;
    for (key, value) in entries(map) {
        if *key == Value::text(name) && value.number().is_some() {
            *value = Value::text("a time");
            replaced = true;
        }
    }
    replaced
}

/// An interval of 60 and one of 60.0 are the same to a client.
fn numbers_as_floats(value: &mut Value) {
    keys_as_text(value);
    for (_, value) in entries(value) {
        if let Some(number) = value.number() {
            *value = Value::Float(number);
        }
    }
}
