//! The job server as a [`Service`] of the event loop.

use super::doorkeeper::Interface;
use super::job_server::JobServer;
use super::log;
use super::message::{Answer, InFlight, Problem, Session, batch_error};
use super::reply::Failures;
use crate::clock::{ClockStep, Timestamp};
use crate::coordinate::StorageError;
use crate::coordinate::storage::Storage;
use crate::server::{BatchError, Handled, Service, Ticket};
use coordinated_client::cborrpc::envelope::{self, Message};
use coordinated_client::cborrpc::framing::{FrameError, OtherProtocol};
use std::net::IpAddr;
use std::time::Duration;

impl<S: Storage> Service for JobServer<S> {
    type Session = Session<S>;
    type Answer = Answer;

    fn open_session(&mut self, peer: Option<IpAddr>) -> Session<S> {
        let caller = self.doorkeeper.greet(Interface::CborRpc, peer);
        self.new_session(Failures::InBand, caller)
    }

    fn handle(
        &mut self,
        session: &mut Session<S>,
        message: &[u8],
        now: Timestamp,
    ) -> Handled<Answer> {
        let content = envelope::content(message);
        let failures = session.failures;
        let in_flight = match session.in_flight.take() {
            Some(in_flight) => in_flight,
            None => match Message::parse(&content, self.settings.depth_max) {
                Ok(Message::Single(request)) => InFlight::single(request, &content, failures),
                Ok(Message::List(requests)) => {
                    let max = self.engine.settings().limits.batch_requests_max;
                    let count = requests.clone().take(max.saturating_add(1)).count();
                    if count > max {
                        return Handled::Answer(Answer::failure(
                            failures,
                            &Problem::with_request(&format!(
                                "the list has more than {max} requests (limit max-batch)"
                            )),
                        ));
                    }
                    InFlight::list(&requests, count, &content, failures)
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

    fn next_awake(&mut self, now: Timestamp) -> Option<Ticket> {
        self.engine.next_to_run(now).map(|waiter| Ticket(waiter.0))
    }

    fn wake_at(&self) -> Option<Timestamp> {
        self.engine.next_run_at()
    }

    fn end_sleep(&mut self, session: &mut Session<S>) {
        if let Some(waiter) = session.waiter {
            self.engine.hurry(waiter);
        }
    }

    fn close_session(&mut self, session: &mut Session<S>) {
        self.end_wait(session);
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
        if let FrameError::OtherProtocol(protocol) = error {
            return write_hint(*protocol, error, out);
        }
        let mut response = Vec::new();
        let problem = Problem::with_request(error);
        problem.write(Failures::InBand, envelope::NULL, &mut response);
        envelope::write_frame(out, &response);
    }

    fn tick(&mut self, now: Timestamp) -> Result<Duration, BatchError> {
        self.engine.tick(now).map_err(batch_error)
    }

    fn move_times(&mut self, step: ClockStep, now: Timestamp) -> Result<(), BatchError> {
        self.engine.move_times(step, now).map_err(batch_error)
    }

    fn log_statistics(&mut self) {
        let statistics = self.engine.statistics();
        log::statistics(&statistics, self.calls());
    }

    fn due(&self) -> Option<Timestamp> {
        self.engine.due()
    }
}

/// Tells a peer of another protocol where it is.
fn write_hint(protocol: OtherProtocol, error: &FrameError, out: &mut Vec<u8>) {
    let hint = format!(
        "{error}. For HTTP, use the address of coordinated serve --http, by default 127.0.0.1:5980.\n"
    );
    if protocol == OtherProtocol::Http {
        let length = hint.len();
        out.extend_from_slice(
            format!(
                "HTTP/1.1 421 Misdirected Request\r\nContent-Type: text/plain\r\nContent-Length: {length}\r\n\
                 Connection: close\r\n\r\n"
            )
            .as_bytes(),
        );
    }
    out.extend_from_slice(hint.as_bytes());
}

#[cfg(test)]
mod tests {
    use super::super::doorkeeper::Anonymous;
    use super::super::job_server::Settings;
    use super::*;
    use crate::engine::{self, Engine};
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
            anonymous: Anonymous::default(),
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
        let mut session = service.open_session(None);
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
        let mut session = service.open_session(None);
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
