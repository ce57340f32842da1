//! CBOR-RPC: translates requests into operations of [`crate::coordinate`], which the engine runs, and their results
//! into responses.
//!
//! Old wire words and forms are known here and nowhere else. Knows no SQL and no sockets: it is
//! handed whole messages by [`crate::server`], and an engine by whoever starts it.

mod call;
mod daemon;
mod insight;
mod list;
mod locks;
mod log;
mod message;
mod method;
mod params;
mod reply;
mod retention;
mod specs;
mod units;
mod work;
mod workers;

pub use message::Answer;
pub use method::MethodInfo;

use crate::clock::{ClockStep, Timestamp};
use crate::coordinate::storage::Storage;
use crate::coordinate::{HandedOut, StorageError};
use crate::engine::Engine;
use crate::server::{BatchError, Handled, Service};
use coordinated_client::cborrpc::envelope::{self, Message};
use coordinated_client::cborrpc::framing::FrameError;
use message::InFlight;
use method::Method;
use std::collections::HashMap;
use std::time::Duration;

/// What clients see of the daemon, and how they may ask.
pub struct Settings {
    /// What `get_config` answers: an encoded map.
    pub config: Vec<u8>,
    /// Levels of containers within each other that a message may have.
    pub depth_max: usize,
}

/// The service behind the sockets.
pub struct JobServer<S: Storage> {
    engine: Engine<S>,
    settings: Settings,
    methods: HashMap<&'static [u8], &'static Method<S>>,
    /// How often each method was called.
    calls: HashMap<&'static str, u64>,
}

/// What is remembered for one connection.
pub struct Session<S: Storage> {
    handed_out: HandedOut,
    /// What is left of the message that is handled again.
    in_flight: Option<InFlight<S>>,
}

impl<S: Storage> JobServer<S> {
    /// A service whose operations `engine` runs.
    #[must_use]
    pub fn new(engine: Engine<S>, settings: Settings) -> Self {
        let methods = Method::ALL
            .iter()
            .map(|method| (method.info.name.as_bytes(), method))
            .collect();
        Self {
            engine,
            settings,
            methods,
            calls: HashMap::new(),
        }
    }

    /// All methods, as they look from outside.
    pub fn methods() -> impl Iterator<Item = &'static MethodInfo> {
        Method::<S>::ALL.iter().map(|method| &method.info)
    }

    /// The store, when the service has ended.
    pub fn into_store(self) -> S {
        self.engine.into_store()
    }

    /// How often each method was called.
    #[must_use]
    pub fn calls(&self) -> &HashMap<&'static str, u64> {
        &self.calls
    }
}

impl<S: Storage> Service for JobServer<S> {
    type Session = Session<S>;
    type Answer = Answer;

    fn open_session(&mut self) -> Session<S> {
        let attempts_max = self.engine.settings().limits.session_attempts_max;
        Session {
            handed_out: HandedOut::new(attempts_max),
            in_flight: None,
        }
    }

    fn handle(
        &mut self,
        session: &mut Session<S>,
        message: &[u8],
        now: Timestamp,
    ) -> Handled<Answer> {
        let content = envelope::content(message);
        let in_flight = match session.in_flight.take() {
            Some(in_flight) => in_flight,
            None => match Message::parse(&content, self.settings.depth_max) {
                Ok(Message::Single(request)) => InFlight::single(request, &content),
                Ok(Message::Batch(requests)) => {
                    let max = self.engine.settings().limits.batch_requests_max;
                    let count = requests.clone().take(max.saturating_add(1)).count();
                    if count > max {
                        let problem =
                            format!("request: more than {max} in one list (limit --max-batch)");
                        return Handled::Answer(Answer::failure(&problem));
                    }
                    InFlight::list(&requests, count, &content)
                }
                Ok(Message::Goodbye) => return Handled::Close,
                Err(error) => return Handled::Refuse(error),
            },
        };
        self.handle_in_flight(session, in_flight, &content, now)
    }

    fn rolled_back(&mut self, session: &mut Session<S>, error: &BatchError) {
        if let Some(in_flight) = &mut session.in_flight {
            in_flight.rolled_back(error);
        }
    }

    fn can_write(&mut self) -> bool {
        !matches!(self.engine.begin_to_write(), Err(StorageError::Busy(_)))
    }

    fn end_waiting(&mut self, session: &mut Session<S>) {
        if let Some(in_flight) = &mut session.in_flight {
            in_flight.end_waiting();
        }
    }

    fn batch_is_full(&self) -> bool {
        self.engine.batch_is_full()
    }

    fn commit(&mut self) -> Result<(), BatchError> {
        self.engine.commit().map_err(batch_error)
    }

    fn write_answer(&self, answer: Answer, outcome: &Result<(), BatchError>, out: &mut Vec<u8>) {
        envelope::write_frame(out, &answer.into_response(outcome));
    }

    fn write_refusal(&self, error: &FrameError, out: &mut Vec<u8>) {
        let mut response = Vec::new();
        envelope::write_failure(&mut response, envelope::NULL, &format!("request: {error}"));
        envelope::write_frame(out, &response);
    }

    fn tick(&mut self, now: Timestamp) -> Result<Duration, BatchError> {
        self.engine.tick(now).map_err(batch_error)
    }

    fn move_times(&mut self, step: ClockStep) -> Result<(), BatchError> {
        self.engine.move_times(step).map_err(batch_error)
    }

    fn log_statistics(&mut self) {
        log::statistics(&self.engine.statistics(), &self.calls);
    }

    fn due(&self) -> Option<Timestamp> {
        self.engine.due()
    }
}

fn batch_error(error: StorageError) -> BatchError {
    match error {
        StorageError::Unknown(reason) => BatchError::Unknown(reason),
        StorageError::Gone(reason) => BatchError::Gone(reason),
        StorageError::Full(_) | StorageError::Busy(_) | StorageError::Other(_) => {
            BatchError::RolledBack(error.to_string())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine;
    use crate::limits::Pace;
    use crate::store::{Options, SqliteStore};
    use coordinated_client::cbor::Writer;
    use rand::SeedableRng;
    use rand::rngs::SmallRng;
    use std::path::Path;

    const NOW: Timestamp = Timestamp(1_700_000_000_000_000);

    fn service(pace: Pace) -> JobServer<SqliteStore> {
        let store = SqliteStore::open(Path::new(":memory:"), &Options::default(), NOW);
        let settings = engine::Settings {
            pace,
            ..engine::Settings::default()
        };
        let random = Box::new(SmallRng::seed_from_u64(1));
        let engine = Engine::new(store.expect("it opens"), settings, random, NOW);
        let settings = Settings {
            config: vec![0xa0],
            depth_max: 100,
        };
        JobServer::new(engine.expect("it starts"), settings)
    }

    /// Whether a batch is full before it has a message, when it has one, and when it was committed, if it may last
    /// so long.
    fn fullness(batch: Duration) -> [bool; 3] {
        let mut service = service(Pace {
            batch,
            ..Pace::default()
        });
        let mut session = service.open_session();
        let empty = service.batch_is_full();
        // {'id': 1, 'method': 'now'}
        let handled = service.handle(&mut session, b"\xa2\x42id\x01\x46method\x43now", NOW);
        assert!(matches!(handled, Handled::Answer(_)));
        let begun = service.batch_is_full();
        service.commit().expect("it commits");
        [empty, begun, service.batch_is_full()]
    }

    /// A request with these encoded parameters.
    fn request(method: &str, params: &[u8]) -> Vec<u8> {
        let mut request = Vec::new();
        let mut writer = Writer::new(&mut request);
        writer.map(3);
        writer.bytes(b"id");
        writer.unsigned(1);
        writer.bytes(b"method");
        writer.bytes(method.as_bytes());
        writer.bytes(b"params");
        writer.encoded(params);
        request
    }

    #[test]
    fn what_a_call_in_steps_has_answered_so_far_is_told_to_the_loop() {
        let mut service = service(Pace::default());
        let mut session = service.open_session();
        // [{'name': 's'}]
        let set = request("set_work_spec", b"\x81\xa1\x44name\x41s");
        assert!(matches!(
            service.handle(&mut session, &set, NOW),
            Handled::Answer(_)
        ));
        let mut params = b"\x82\x41s\x99\x02\x58".to_vec();
        params.extend(std::iter::repeat_n(*b"\x41u", 600).flatten());
        let ask = request("get_work_unit_status", &params);
        let mut held = Vec::new();
        loop {
            let handled = service.handle(&mut session, &ask, NOW);
            service.commit().expect("it commits");
            match handled {
                Handled::Again { held: bytes } => held.push(bytes),
                Handled::Answer(_) => break,
                _ => panic!("neither an answer nor another step"),
            }
        }
        // The list is checked; then 250 units are looked up in each step, and each one that is not there is a null.
        assert_eq!(held.len(), 3);
        assert!(
            held[0] < 250 && held[1] >= 250 && held[2] >= 500,
            "{held:?}"
        );
    }

    #[test]
    fn a_batch_is_full_when_its_time_is_over_until_it_is_committed() {
        assert_eq!(fullness(Duration::ZERO), [false, true, false]);
        assert_eq!(fullness(Duration::MAX), [false, false, false]);
    }
}
