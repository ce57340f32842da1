//! How often each method was called, and how that ended.

use super::method::{MethodInfo, ResultForm};
use super::reply::Failures;
use coordinated_client::cborrpc::envelope;

/// How requests have ended.
#[derive(Clone, Copy, Debug, Default)]
pub struct Ended {
    /// The client got what it asked for. Long lists are among these.
    pub ok: u64,
    /// The client was told of a failure.
    pub failed: u64,
}

impl Ended {
    fn count(&mut self, is_ok: bool) {
        if is_ok {
            self.ok += 1;
        } else {
            self.failed += 1;
        }
    }
}

/// Requests of one interface.
#[derive(Clone, Debug)]
struct OfInterface {
    /// By the number of the method.
    by_method: Vec<Ended>,
    /// Requests that name no method.
    unknown: u64,
}

/// How often each method was called, and how that ended.
#[derive(Clone, Debug)]
pub struct Requests {
    /// Calls that were begun, by the number of the method.
    begun: Vec<u64>,
    cborrpc: OfInterface,
    http: OfInterface,
}

impl Requests {
    /// No requests for so many methods.
    pub(super) fn new(methods: usize) -> Self {
        let none = OfInterface {
            by_method: vec![Ended::default(); methods],
            unknown: 0,
        };
        Self {
            begun: vec![0; methods],
            cborrpc: none.clone(),
            http: none,
        }
    }

    fn of(&mut self, failures: Failures) -> &mut OfInterface {
        match failures {
            Failures::InBand => &mut self.cborrpc,
            Failures::AsErrors => &mut self.http,
        }
    }

    pub(super) fn count_begun(&mut self, method: &MethodInfo) {
        if let Some(count) = self.begun.get_mut(method.number) {
            *count += 1;
        }
    }

    pub(super) fn count_unknown(&mut self, failures: Failures) {
        self.of(failures).unknown += 1;
    }

    pub(super) fn count_ended(&mut self, failures: Failures, method: &MethodInfo, is_ok: bool) {
        let interface = self.of(failures);
        if let Some(ended) = interface.by_method.get_mut(method.number) {
            ended.count(is_ok);
        }
    }

    /// How often a method was called.
    #[must_use]
    pub fn calls(&self, method: &MethodInfo) -> u64 {
        self.begun.get(method.number).copied().unwrap_or(0)
    }

    /// How the calls of a method have ended, by the name of the interface.
    #[must_use]
    pub fn ended(&self, method: &MethodInfo) -> [(&'static str, Ended); 2] {
        let of = |interface: &OfInterface| {
            let ended = interface.by_method.get(method.number);
            ended.copied().unwrap_or_default()
        };
        [("cborrpc", of(&self.cborrpc)), ("http", of(&self.http))]
    }

    /// How many requests named no method, by the name of the interface.
    #[must_use]
    pub fn unknown(&self) -> [(&'static str, u64); 2] {
        [
            ("cborrpc", self.cborrpc.unknown),
            ("http", self.http.unknown),
        ]
    }
}

/// True if a response with a result tells no failure in band. It ends with its result; a pair ends with null or, if the
/// call has failed, with a message, which is UTF-8 and so has no byte like the null.
pub(super) fn is_ok(method: &MethodInfo, response: &[u8]) -> bool {
    method.result == ResultForm::Plain || response.ends_with(envelope::NULL)
}
