//! Runs a program for units, and reads from its end what became of them.

use super::process::{self, Limits, Ran, STDOUT_BYTES_MAX, Stopped};
use super::template::{Template, TemplateError, as_argument};
use crate::cbor::{Value, json};
use crate::client::{Error, Name};
use crate::worker::{Context, Ending, Handler, Outcome};
use std::ffi::{OsStr, OsString};
use std::fs;
use std::io::ErrorKind;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::process::ExitStatusExt;
use std::path::PathBuf;
use std::process::Command;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tempfile::TempDir;

/// "Try again later", as in sysexits.h.
const EX_TEMPFAIL: i32 = 75;
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
    /// Where the daemon is.
    pub(super) server: String,
    pub(super) outputs: Outputs,
    pub(super) view: V,
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
        let output = self.outputs.next();
        let mut command = Command::new(&words[0]);
        command
            .args(&words[1..])
            .env("COORDINATED_SERVER", &self.server)
            .env(
                "COORDINATED_SPEC",
                OsStr::from_bytes(units[0].work_spec().bytes()),
            )
            .env("COORDINATED_OUTPUT", &output);
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
        let written = match fs::read(&output) {
            Ok(written) => {
                let _ = fs::remove_file(&output);
                Ok(written)
            }
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(Vec::new()),
            other => other,
        };
        match (ran, written) {
            (Ok(ran), Ok(written)) => {
                let results = Results {
                    ran,
                    written: (!written.is_empty()).then_some(written),
                };
                match self.takes_many {
                    true => self.outcomes_of_many(units, &results),
                    false => vec![self.outcome(&units[0], &results)],
                }
            }
            // That is no fault of the units.
            (Err(error), _) | (_, Err(error)) if is_for_want(&error) => {
                let program = words[0].display();
                let later = units
                    .iter()
                    .map(|unit| Outcome::given_back(self.delay(unit)));
                self.view.note(&format!("can't run {program} now: {error}"));
                later.collect()
            }
            (Err(error), _) => {
                let program = words[0].display();
                vec![Outcome::failed(format!("can't run {program}: {error}")); units.len()]
            }
            (Ok(_), Err(error)) => {
                let why = format!("the file that COORDINATED_OUTPUT names can't be read: {error}");
                vec![Outcome::failed(why); units.len()]
            }
        }
    }

    fn outcome(&self, unit: &Context, results: &Results) -> Outcome {
        match results.ended() {
            Ended::Well => match results.data() {
                Ok(data) => Outcome::Finished { data },
                Err(problem) => Outcome::failed(problem),
            },
            Ended::Later => Outcome::given_back(self.delay(unit)),
            Ended::Stopped => Outcome::given_back(Duration::ZERO),
            Ended::Badly(traceback) => Outcome::failed(traceback),
        }
    }

    /// What the program has said of each unit; those of which it has said nothing end as it did.
    fn outcomes_of_many(&self, units: &[Context], results: &Results) -> Vec<Outcome> {
        let said: Vec<(Name, Outcome)> = results
            .lines()
            .filter_map(|line| self.said_of(&line, units))
            .collect();
        let outcome = |unit: &Context| {
            let mut said = said.iter().rev();
            let said = said.find(|(key, _)| key == unit.key());
            said.map_or_else(
                || match results.ended() {
                    Ended::Well => Outcome::finished(),
                    Ended::Later => Outcome::given_back(self.delay(unit)),
                    Ended::Stopped => Outcome::given_back(Duration::ZERO),
                    Ended::Badly(traceback) => Outcome::failed(traceback),
                },
                |(_, outcome)| outcome.clone(),
            )
        };
        units.iter().map(outcome).collect()
    }

    fn said_of(&self, line: &Value, units: &[Context]) -> Option<(Name, Outcome)> {
        let key = Name::from_value(line.get("key")?)?;
        let unit = units.iter().find(|unit| *unit.key() == key)?;
        let outcome = match (line.get_some("error"), line.get_some("data")) {
            (Some(error), _) => {
                Outcome::failed(String::from_utf8_lossy(&as_argument(error)).into_owned())
            }
            _ if line.get("retry").and_then(Value::as_bool) == Some(true) => {
                Outcome::given_back(self.delay(unit))
            }
            (None, Some(data)) if data.as_map().is_none() => {
                Outcome::failed(format!("its data are {}, not an object", data.kind_name()))
            }
            (None, data) => Outcome::Finished {
                data: data.cloned(),
            },
        };
        Some((key, outcome))
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

/// Files that programs can write their results to.
pub(super) struct Outputs {
    folder: TempDir,
    last: AtomicU64,
}

impl Outputs {
    /// # Errors
    /// If no temporary folder can be made.
    pub(super) fn new() -> std::io::Result<Self> {
        Ok(Self {
            folder: TempDir::with_prefix("coordinated-")?,
            last: AtomicU64::new(0),
        })
    }

    /// The path of a file that is not there yet.
    fn next(&self) -> PathBuf {
        let number = self.last.fetch_add(1, Ordering::Relaxed);
        self.folder.path().join(number.to_string())
    }
}

/// What a program has left.
struct Results {
    ran: Ran,
    /// The file that `COORDINATED_OUTPUT` names, if there is something in it.
    written: Option<Vec<u8>>,
}

/// How a program ended.
enum Ended {
    Well,
    /// It wants to be run again later.
    Later,
    /// It was told to.
    Stopped,
    /// With what it wrote to standard error.
    Badly(String),
}

impl Results {
    fn ended(&self) -> Ended {
        let status = self.ran.status;
        match (self.ran.stopped, status.code()) {
            (None, Some(0)) => Ended::Well,
            (None, Some(EX_TEMPFAIL)) => Ended::Later,
            (Some(Stopped::Cancelled), _) => Ended::Stopped,
            (Some(Stopped::TimedOut(after)), _) => {
                let after = humantime::format_duration(after);
                Ended::Badly(self.stderr_and(&format!("it ran for longer than {after}")))
            }
            (None, Some(code)) => Ended::Badly(self.stderr_or(&format!("it exited with {code}"))),
            (None, None) => {
                let signal = status.signal().unwrap_or_default();
                Ended::Badly(self.stderr_and(&format!("signal {signal} ended it")))
            }
        }
    }

    fn stderr(&self) -> String {
        // The first character may have been cut.
        let cut = |byte: &&u8| **byte & 0b1100_0000 == 0b1000_0000;
        let continued = self.ran.stderr.iter().take_while(cut).count();
        String::from_utf8_lossy(&self.ran.stderr[continued.min(3)..]).into_owned()
    }

    fn stderr_or(&self, end: &str) -> String {
        let stderr = self.stderr();
        match stderr.trim().is_empty() {
            true => end.to_owned(),
            false => stderr,
        }
    }

    fn stderr_and(&self, end: &str) -> String {
        let stderr = self.stderr();
        match stderr.trim_end() {
            "" => end.to_owned(),
            stderr => format!("{stderr}\n{end}"),
        }
    }

    /// The new data, if there are some.
    ///
    /// # Errors
    /// If there are some that can't be taken.
    fn data(&self) -> Result<Option<Value>, String> {
        if let Some(written) = &self.written {
            let problem = "the file that COORDINATED_OUTPUT names";
            return match object(written) {
                Some(data) => data
                    .map(Some)
                    .map_err(|error| format!("{problem}: {error}")),
                None => Err(format!("{problem} has something else than a JSON object")),
            };
        }
        let stdout = self.ran.stdout.trim_ascii_start();
        if self.ran.is_cut && stdout.starts_with(b"{") {
            return Err(format!(
                "standard output has more than {STDOUT_BYTES_MAX} bytes"
            ));
        }
        object(stdout).transpose()
    }

    /// The JSON objects that stand in a line each.
    fn lines(&self) -> impl Iterator<Item = Value> {
        let all = self.written.as_ref().unwrap_or(&self.ran.stdout);
        all.split(|byte| *byte == b'\n')
            .filter_map(|line| object(line)?.ok())
    }
}

/// The value of a JSON object; `None` if it is something else, an error if it can't be taken.
fn object(text: &[u8]) -> Option<Result<Value, String>> {
    // Most output is none, and needs no parser to say so.
    if !text.trim_ascii_start().starts_with(b"{") {
        return None;
    }
    let object: serde_json::Value = serde_json::from_slice(text).ok()?;
    let value = json::from_json(&object).map_err(|error| error.to_string());
    match value {
        Ok(value) if value.as_map().is_none() => None,
        value => Some(value),
    }
}

/// Looks for a program as the system will.
pub(super) fn is_there(program: &OsStr) -> bool {
    use std::os::unix::fs::PermissionsExt;
    let is_program = |path: PathBuf| match fs::metadata(path) {
        Ok(metadata) => metadata.is_file() && metadata.permissions().mode() & 0o111 != 0,
        Err(error) => error.kind() != ErrorKind::NotFound,
    };
    if program.as_bytes().contains(&b'/') {
        return is_program(program.into());
    }
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).any(|folder| is_program(folder.join(program)))
}

/// True if there is too little of something of which there may be more later.
fn is_for_want(error: &std::io::Error) -> bool {
    matches!(
        error.raw_os_error(),
        Some(libc::EMFILE | libc::ENFILE | libc::EAGAIN | libc::ENOMEM)
    )
}
