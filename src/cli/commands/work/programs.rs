//! Runs a program for units, and reads from its end what became of them.

use super::collected::Collected;
use super::ended::Ended;
use super::find;
use super::output_files::{self, OutputFiles};
use super::output_rule::{Source, Takes};
use super::process::{self, Limits, Ran};
use super::template::{Template, TemplateError, as_argument};
use coordinated_client::cbor::{Value, json};
use coordinated_client::worker::{Context, Ending, Handler, Outcome};
use coordinated_client::{Error, Name};
use std::collections::{HashMap, HashSet};
use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;
use std::process::Command;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

/// No unit that was given back waits for longer.
const DELAY_MAX: Duration = Duration::from_secs(3_600);
/// A variable with more is left out, and so is what would make all of them too many: a program can be given
/// only so much.
const VARIABLE_BYTES_MAX: usize = 32 << 10;
const VARIABLES_BYTES_MAX: usize = 256 << 10;

/// Which program to run for units, and how.
pub(super) struct Programs<V> {
    /// `None`: the one that the work spec names.
    pub(super) command: Option<Template>,
    pub(super) limits: Limits,
    /// How long a unit waits that was given back for the first time.
    pub(super) retry_delay: Duration,
    /// True if the program takes many units at once.
    pub(super) takes_many: bool,
    pub(super) takes: Takes,
    /// Where the daemon is.
    pub(super) server: String,
    pub(super) output_files: OutputFiles,
    pub(super) view: V,
    pub(super) warned: Warned,
}

/// What people have been told once, of arguments that are not replaced.
#[derive(Default)]
pub(super) struct Warned(Mutex<HashSet<OsString>>);

impl Warned {
    /// Tells them of what a command has, unless they know.
    pub(super) fn warn(&self, command: &Template, view: &impl View) {
        for word in command.unknown_places() {
            let mut told = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            if told.insert(word.to_owned()) {
                view.note(&format!(
                    "the argument {} stands for itself: only {{key}}, {{spec}}, {{attempt}} and {{data.FIELD}} are \
                     replaced",
                    word.display()
                ));
            }
        }
    }
}

/// Shows what becomes of units.
pub(super) trait View: Sync {
    fn ended(&self, unit: &Context, ending: &Ending, took: Duration);
    fn note(&self, text: &str);
}

impl<V: View> Handler for Programs<V> {
    fn run(&self, units: &[Context]) -> Vec<Outcome> {
        let outcomes = self
            .command(units)
            .map(|words| self.run_program(units, &words));
        outcomes.unwrap_or_else(|error| vec![Outcome::failed(error.to_string()); units.len()])
    }

    fn ended(&self, unit: &Context, ending: &Ending, took: Duration) {
        self.view.ended(unit, ending, took);
    }

    fn away(&self, error: &Error) {
        self.view.note(&format!("waiting for the daemon: {error}"));
    }

    fn back(&self) {
        self.view.note("the daemon is there again");
    }
}

impl<V: View> Programs<V> {
    fn command(&self, units: &[Context]) -> Result<Vec<OsString>, TemplateError> {
        let first = &units[0];
        let of_spec;
        let template = match &self.command {
            Some(template) => template,
            None => {
                of_spec = Template::of_spec(first.definition())?;
                self.warned.warn(&of_spec, &self.view);
                &of_spec
            }
        };
        if self.takes_many && template.names_units() {
            let problem = "the command names a single unit, and is to take many";
            return Err(TemplateError::Spec(problem));
        }
        template.fill(first)
    }

    fn run_program(&self, units: &[Context], words: &[OsString]) -> Vec<Outcome> {
        let output = self.output_files.next();
        let mut command = Command::new(&words[0]);
        command
            .args(&words[1..])
            .env("COORDINATED_SERVER", &self.server)
            .env(
                "COORDINATED_SPEC",
                OsStr::from_bytes(units[0].work_spec().bytes()),
            )
            .env_remove("COORDINATED_OUTPUT");
        if self.takes != Takes::None {
            command.env("COORDINATED_OUTPUT", &output);
        }
        let mut input = Vec::new();
        if self.takes_many {
            for unit in units {
                let line = Value::map([
                    ("key", Value::from(unit.key())),
                    ("attempt", unit.attempt().into()),
                    ("data", unit.data().clone()),
                ]);
                input.extend_from_slice(json::to_json(&line).to_string().as_bytes());
                input.push(b'\n');
            }
        } else {
            set_variables(&mut command, &units[0]);
            input = json::to_json(units[0].data()).to_string().into_bytes();
        }
        // A part of the units may be lost to others; the program can't be told.
        let is_cancelled = || units.iter().all(Context::is_cancelled);
        let ran = process::run(&mut command, &input, &self.limits, is_cancelled);
        let written = output_files::take(&output);
        let ran = match ran {
            Ok(ran) => ran,
            Err(error) => return self.outcomes_of_none(units, &words[0], &error),
        };
        let ended = Ended::of(&ran);
        let written = match (written, &ended) {
            (Err(error), Ended::Well) => {
                let problem = "the file that COORDINATED_OUTPUT names can't be read";
                return vec![Outcome::failed(format!("{problem}: {error}")); units.len()];
            }
            // The program says that its result does not count.
            (written, _) => written.unwrap_or_default(),
        };
        let source = self.source(&ran, &written);
        match self.takes_many {
            true => self.outcomes_of_many(units, &ended, source.as_ref()),
            false => vec![self.outcome(&units[0], &ended, source.as_ref())],
        }
    }

    /// What becomes of units whose program could not be run.
    fn outcomes_of_none(
        &self,
        units: &[Context],
        program: &OsStr,
        error: &std::io::Error,
    ) -> Vec<Outcome> {
        if is_for_want(error) {
            // That is no fault of the units.
            let shown = program.display();
            self.view.note(&format!("can't run {shown} now: {error}"));
            let later = |unit| Outcome::given_back(self.delay(unit));
            return units.iter().map(later).collect();
        }
        vec![Outcome::failed(find::explain(program, error)); units.len()]
    }

    /// Where the program's results are to be found, if any are taken.
    fn source<'t>(&self, ran: &'t Ran, written: &'t Collected) -> Option<Source<'t>> {
        match self.takes {
            Takes::None => None,
            _ if !written.bytes.is_empty() => Some(Source::file(written)),
            takes => Some(Source::stdout(&ran.stdout, takes)),
        }
    }

    fn outcome(&self, unit: &Context, ended: &Ended, source: Option<&Source<'_>>) -> Outcome {
        let finished = || match source.map_or(Ok(None), Source::object) {
            Ok(data) => Outcome::Finished { data },
            Err(problem) => Outcome::failed(problem),
        };
        self.outcome_by_end(unit, ended).unwrap_or_else(finished)
    }

    /// What becomes of a unit whose program has not ended well.
    fn outcome_by_end(&self, unit: &Context, ended: &Ended) -> Option<Outcome> {
        match ended {
            Ended::Well => None,
            Ended::Later => Some(Outcome::given_back(self.delay(unit))),
            Ended::Stopped => Some(Outcome::given_back(Duration::ZERO)),
            Ended::Badly(traceback) => Some(Outcome::failed(traceback)),
        }
    }

    /// What the program has said of each unit. Those of which it has said nothing, or nothing that can be read, end
    /// as it did; if that was well, what can't be read fails them.
    fn outcomes_of_many(
        &self,
        units: &[Context],
        ended: &Ended,
        source: Option<&Source<'_>>,
    ) -> Vec<Outcome> {
        let by_key: HashMap<&Name, &Context> =
            units.iter().map(|unit| (unit.key(), unit)).collect();
        let mut said: HashMap<&Name, Result<Outcome, String>> = HashMap::new();
        // What is wrong with output that may be about any unit.
        let mut problem = source.and_then(Source::lost);
        for line in source.into_iter().flat_map(Source::lines) {
            let unit = line.key.as_ref().and_then(|key| by_key.get(key));
            match (unit, line.object) {
                (Some(unit), object) => {
                    let outcome = object.map(|object| self.said_of(unit, &object));
                    said.insert(unit.key(), outcome);
                }
                (None, Ok(_)) if problem.is_none() => problem = Some(line.about_nothing),
                (None, Err(broken)) if problem.is_none() => problem = Some(broken),
                (None, _) => {}
            }
        }
        if self.takes == Takes::Json {
            problem.get_or_insert_with(|| "the program has said nothing of this unit".to_owned());
        }
        let outcome = |unit: &Context| {
            let broken = match said.remove(unit.key()) {
                Some(Ok(outcome)) => return outcome,
                Some(Err(broken)) => Some(broken),
                None => problem.clone(),
            };
            let finished = || broken.map_or_else(Outcome::finished, Outcome::failed);
            self.outcome_by_end(unit, ended).unwrap_or_else(finished)
        };
        units.iter().map(outcome).collect()
    }

    fn said_of(&self, unit: &Context, line: &Value) -> Outcome {
        let retry = line.get_some("retry");
        match (line.get_some("error"), line.get_some("data")) {
            (Some(error), _) => {
                Outcome::failed(String::from_utf8_lossy(&as_argument(error)).into_owned())
            }
            _ if retry == Some(&Value::Bool(true)) => Outcome::given_back(self.delay(unit)),
            _ if retry.is_some_and(|retry| retry.as_bool().is_none()) => {
                Outcome::failed("its \"retry\" is neither true nor false")
            }
            (None, Some(data)) if data.as_map().is_none() => {
                Outcome::failed(format!("its data are {}, not an object", data.kind_name()))
            }
            (None, data) => Outcome::Finished {
                data: data.cloned(),
            },
        }
    }

    /// Twice as long with each attempt.
    fn delay(&self, unit: &Context) -> Duration {
        let doublings = u32::try_from(unit.attempt().saturating_sub(1)).unwrap_or(u32::MAX);
        let factor = 2_u32.checked_pow(doublings).unwrap_or(u32::MAX);
        self.retry_delay.saturating_mul(factor).min(DELAY_MAX)
    }
}

/// Sets `COORDINATED_KEY`, `COORDINATED_ATTEMPT`, and `COORDINATED_DATA_...` for each field with a plain name.
fn set_variables(command: &mut Command, unit: &Context) {
    command.env("COORDINATED_ATTEMPT", unit.attempt().to_string());
    let mut room = VARIABLES_BYTES_MAX;
    let mut set = |name: String, value: &[u8]| {
        let bytes = name.len() + value.len();
        if bytes <= VARIABLE_BYTES_MAX && bytes <= room && !value.contains(&0) {
            room -= bytes;
            command.env(name, OsStr::from_bytes(value));
        }
    };
    set("COORDINATED_KEY".to_owned(), unit.key().bytes());
    for (name, value) in unit.data().as_map().unwrap_or_default() {
        let name = name
            .as_string_bytes()
            .and_then(|name| std::str::from_utf8(name).ok());
        let is_plain = |name: &&str| {
            let mut characters = name.chars();
            !name.is_empty() && characters.all(|c| c.is_ascii_alphanumeric() || c == '_')
        };
        if let Some(name) = name.filter(is_plain) {
            set(format!("COORDINATED_DATA_{name}"), &as_argument(value));
        }
    }
}

/// True if there is too little of something of which there may be more later.
fn is_for_want(error: &std::io::Error) -> bool {
    matches!(
        error.raw_os_error(),
        Some(libc::EMFILE | libc::ENFILE | libc::EAGAIN | libc::ENOMEM)
    )
}
