//! Runs a program for units, and turns its end and its output into outcomes.

use super::collected::Collected;
use super::ended::Ended;
use super::find;
use super::halt::Halt;
use super::output_files::{self, OutputFiles};
use super::output_rule::{Source, Takes};
use super::process::{self, Limits, Ran};
use super::template::{Template, TemplateError, as_argument};
use coordinated_client::cbor::{Value, json};
use coordinated_client::tls::TlsFiles;
use coordinated_client::worker::{Context, Ending, Handler, Outcome};
use coordinated_client::{Error, Name};
use std::collections::{HashMap, HashSet};
use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;
use std::process::Command;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

/// The longest delay of a unit that was given back.
const DELAY_MAX: Duration = Duration::from_secs(3_600);
/// A variable with more is left out, and so is what would make all of them too many: a program can be given
/// only so much.
const VARIABLE_BYTES_MAX: usize = 32 << 10;
const VARIABLES_BYTES_MAX: usize = 256 << 10;

/// Which program to run for units, and how.
pub(super) struct Programs<V> {
    /// `None` for the command of the work spec.
    pub(super) command: Option<Template>,
    pub(super) limits: Limits,
    /// The delay of a unit that was given back for the first time.
    pub(super) retry_delay: Duration,
    /// The exit codes of failures that are final.
    pub(super) final_codes: Vec<u8>,
    /// True if the program takes many units at once.
    pub(super) takes_many: bool,
    pub(super) takes: Takes,
    /// The daemon's address.
    pub(super) server: String,
    /// The files with which they connect to it by TLS.
    pub(super) tls_files: TlsFiles,
    pub(super) output_files: OutputFiles,
    pub(super) view: V,
    pub(super) warned: Warned,
    pub(super) halt: Halt,
}

/// Arguments that look like placeholders but are not, about which a warning was shown.
#[derive(Default)]
pub(super) struct Warned(Mutex<HashSet<OsString>>);

impl Warned {
    /// Warns once about each such argument of a command.
    pub(super) fn warn(&self, command: &Template, view: &impl View) {
        for word in command.unknown_placeholders() {
            let mut warned = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            if warned.insert(word.to_owned()) {
                view.note(&format!(
                    "the argument {} is not a placeholder: only {{key}}, {{spec}}, {{attempt}} and {{data.FIELD}} are \
                     replaced",
                    word.display()
                ));
            }
        }
    }
}

/// Shows how units end.
pub(super) trait View: Sync {
    fn ended(&self, unit: &Context, ending: &Ending, took: Duration);
    fn note(&self, text: &str);
}

impl<V: View> Handler for Programs<V> {
    fn run(&self, units: &[Context]) -> Vec<Outcome> {
        let outcomes = self
            .command(units)
            .map(|words| self.run_program(units, &words));
        let outcomes =
            outcomes.unwrap_or_else(|error| vec![Outcome::failed(error.to_string()); units.len()]);
        for text in outcomes
            .iter()
            .filter_map(|outcome| self.halt.count(outcome))
        {
            self.view.note(&text);
        }
        outcomes
    }

    fn ended(&self, unit: &Context, ending: &Ending, took: Duration) {
        self.view.ended(unit, ending, took);
    }

    fn outage_began(&self, error: &Error) {
        self.view.note(&format!("waiting for the daemon: {error}"));
    }

    fn outage_ended(&self) {
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
            let problem = "the command refers to one unit, but --batch gives it many";
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
            .envs(self.tls_files.variables())
            .env(
                "COORDINATED_SPEC",
                OsStr::from_bytes(units[0].work_spec().bytes()),
            )
            .env_remove("COORDINATED_ATTEMPT_ID")
            .env_remove("COORDINATED_OUTPUT");
        if self.takes != Takes::None {
            command.env("COORDINATED_OUTPUT", &output);
        }
        let mut input = Vec::new();
        if self.takes_many {
            for unit in units {
                let mut line = vec![
                    ("key", Value::from(unit.key())),
                    ("attempt", unit.attempt().into()),
                ];
                line.extend(unit.attempt_id().map(|id| ("attempt_id", id.into())));
                line.push(("data", unit.data().clone()));
                let line = Value::map(line);
                input.extend_from_slice(json::to_json(&line).to_string().as_bytes());
                input.push(b'\n');
            }
        } else {
            set_variables(&mut command, &units[0]);
            input = json::to_json(units[0].data()).to_string().into_bytes();
        }
        // If only some of the units are lost to other workers, the program goes on for the rest.
        let is_cancelled = || units.iter().all(Context::is_cancelled);
        let ran = process::run(&mut command, &input, &self.limits, is_cancelled);
        let written = output_files::take(&output);
        let ran = match ran {
            Ok(ran) => ran,
            Err(error) => return self.outcomes_without_run(units, &words[0], &error),
        };
        let ended = Ended::of(&ran, &self.final_codes);
        let written = match (written, &ended) {
            (Err(error), Ended::Well) => {
                let problem = "the file that COORDINATED_OUTPUT names can't be read";
                return vec![Outcome::failed(format!("{problem}: {error}")); units.len()];
            }
            // The exit code says that the result does not count.
            (written, _) => written.unwrap_or_default(),
        };
        let source = self.source(&ran, &written);
        match self.takes_many {
            true => self.outcomes_of_many(units, &ended, source.as_ref()),
            false => vec![self.outcome(&units[0], &ended, source.as_ref())],
        }
    }

    /// The outcomes of units whose program could not be run.
    fn outcomes_without_run(
        &self,
        units: &[Context],
        program: &OsStr,
        error: &std::io::Error,
    ) -> Vec<Outcome> {
        if lacks_resources(error) {
            // The units are not the cause.
            let problem = format!("can't run {} now: {error}", program.display());
            self.view.note(&problem);
            let later = |unit| self.later(unit, &problem);
            return units.iter().map(later).collect();
        }
        vec![Outcome::failed(find::explain(program, error)); units.len()]
    }

    /// The text with the program's results, if results are wanted.
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

    /// The outcome of a unit whose program did not exit with 0.
    fn outcome_by_end(&self, unit: &Context, ended: &Ended) -> Option<Outcome> {
        match ended {
            Ended::Well => None,
            Ended::Later(why) => Some(self.later(unit, why)),
            Ended::Stopped => Some(Outcome::given_back(Duration::ZERO)),
            Ended::Badly {
                traceback,
                is_final: true,
            } => Some(Outcome::failed_for_good(traceback)),
            Ended::Badly { traceback, .. } => Some(Outcome::failed(traceback)),
        }
    }

    /// The outcomes that the program has printed for its units. For units without a valid line, the exit code counts; if
    /// it is 0, output that can't be read fails them.
    fn outcomes_of_many(
        &self,
        units: &[Context],
        ended: &Ended,
        source: Option<&Source<'_>>,
    ) -> Vec<Outcome> {
        let by_key: HashMap<&Name, &Context> =
            units.iter().map(|unit| (unit.key(), unit)).collect();
        let mut reported: HashMap<&Name, Result<Outcome, String>> = HashMap::new();
        // The first problem with output that may belong to any unit.
        let mut problem = source.and_then(Source::lost);
        for line in source.into_iter().flat_map(Source::lines) {
            let unit = line.key.as_ref().and_then(|key| by_key.get(key));
            match (unit, line.object) {
                (Some(unit), object) => {
                    let outcome = object.map(|object| self.outcome_of_line(unit, &object));
                    reported.insert(unit.key(), outcome);
                }
                (None, Ok(_)) if problem.is_none() => problem = Some(line.about_nothing),
                (None, Err(broken)) if problem.is_none() => problem = Some(broken),
                (None, _) => {}
            }
        }
        if self.takes == Takes::Json {
            problem.get_or_insert_with(|| "the program printed no line for this unit".to_owned());
        }
        let outcome = |unit: &Context| {
            let broken = match reported.remove(unit.key()) {
                Some(Ok(outcome)) => return outcome,
                Some(Err(broken)) => Some(broken),
                None => problem.clone(),
            };
            let finished = || broken.map_or_else(Outcome::finished, Outcome::failed);
            self.outcome_by_end(unit, ended).unwrap_or_else(finished)
        };
        units.iter().map(outcome).collect()
    }

    /// The outcome in a line about a unit.
    fn outcome_of_line(&self, unit: &Context, line: &Value) -> Outcome {
        let (retry, is_final) = (line.get_some("retry"), line.get_some("final"));
        match (line.get_some("error"), line.get_some("data")) {
            (Some(error), _) => {
                let traceback = String::from_utf8_lossy(&as_argument(error)).into_owned();
                match is_final.map(Value::as_bool) {
                    None | Some(Some(false)) => Outcome::failed(traceback),
                    Some(Some(true)) => Outcome::failed_for_good(traceback),
                    Some(None) => Outcome::failed("its \"final\" is neither true nor false"),
                }
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

    /// The outcome of a unit that is to be tried again later, for this reason.
    fn later(&self, unit: &Context, why: &str) -> Outcome {
        Outcome::GivenBack {
            delay: self.delay(unit),
            traceback: Some(why.to_owned()),
        }
    }

    /// The delay before the next attempt, which doubles with each one.
    fn delay(&self, unit: &Context) -> Duration {
        let doublings = u32::try_from(unit.attempt().saturating_sub(1)).unwrap_or(u32::MAX);
        let factor = 2_u32.checked_pow(doublings).unwrap_or(u32::MAX);
        self.retry_delay.saturating_mul(factor).min(DELAY_MAX)
    }
}

/// Sets `COORDINATED_KEY`, `COORDINATED_ATTEMPT`, `COORDINATED_ATTEMPT_ID` if the server tells it, and
/// `COORDINATED_DATA_...` for each field with a plain name.
fn set_variables(command: &mut Command, unit: &Context) {
    command.env("COORDINATED_ATTEMPT", unit.attempt().to_string());
    if let Some(id) = unit.attempt_id() {
        command.env("COORDINATED_ATTEMPT_ID", id.to_string());
    }
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

/// True if the system lacks a resource that may be available later.
fn lacks_resources(error: &std::io::Error) -> bool {
    matches!(
        error.raw_os_error(),
        Some(libc::EMFILE | libc::ENFILE | libc::EAGAIN | libc::ENOMEM)
    )
}
