//! `pause` and `resume`, and the words for who paused a work spec, when and why.

use super::names::SpecNameParser;
use super::output::note;
use super::server::{Daemon, Server};
use crate::cli::values::{now, printable, span};
use coordinated_client::{Control, Error as CallError, Name, Pause};
use serde_json::{Value as Json, json};
use std::error::Error;

/// The arguments of `pause`.
#[derive(clap::Args)]
#[command(after_long_help = "\
The time and USER@HOST are kept with the reason. `summary`, `status`, `work_spec --meta`, `why` and `top` show them until \
the work spec is resumed. Pausing a paused work spec again changes them only if there is a new reason.")]
pub(in crate::cli) struct PauseArgs {
    /// The work spec
    #[arg(value_name = "SPEC", value_parser = SpecNameParser)]
    spec: Name,

    /// Why, for other people
    #[arg(long, value_name = "TEXT")]
    reason: Option<String>,

    #[command(flatten)]
    server: Server,
}

/// The arguments of `resume`.
#[derive(clap::Args)]
pub(in crate::cli) struct ResumeArgs {
    /// The work spec
    #[arg(value_name = "SPEC", value_parser = SpecNameParser)]
    spec: Name,

    #[command(flatten)]
    server: Server,
}

/// Stops handing out units of a work spec.
pub(super) fn pause(args: &PauseArgs) -> Result<(), Box<dyn Error>> {
    let mut daemon = args.server.connect()?;
    if args.reason.is_some() && !daemon.has(FEATURE) {
        note("this server does not keep the reason");
    }
    Ok(daemon.pause(&args.spec, args.reason.clone())?)
}

/// Hands out units of a work spec again.
pub(super) fn resume(args: &ResumeArgs) -> Result<(), Box<dyn Error>> {
    Ok(args.server.connect()?.resume(&args.spec)?)
}

const FEATURE: &str = "pause_reason";

impl Daemon {
    /// Pauses a work spec, as the user of this process.
    pub(super) fn pause(
        &mut self,
        work_spec: &Name,
        reason: Option<String>,
    ) -> Result<(), CallError> {
        let pause = Pause {
            reason,
            by: Some(this_user()),
            since: None,
        };
        let control = Control {
            paused: Some(true),
            // An original server may refuse what it does not know.
            pause: if self.has(FEATURE) {
                pause
            } else {
                Pause::default()
            },
            ..Control::default()
        };
        self.client.control_work_spec(work_spec, &control)
    }

    /// Resumes a work spec.
    pub(super) fn resume(&mut self, work_spec: &Name) -> Result<(), CallError> {
        let control = Control {
            paused: Some(false),
            ..Control::default()
        };
        self.client.control_work_spec(work_spec, &control)
    }

    /// Who paused a work spec, when and why; `None` if it is not paused.
    pub(super) fn pause_of(&mut self, work_spec: &Name) -> Result<Option<Pause>, CallError> {
        // It also fails if there is no such work spec.
        let meta = self.client.get_work_spec_meta(work_spec)?;
        if meta.paused && self.has(FEATURE) {
            let pauses = self.client.get_pauses(std::slice::from_ref(work_spec))?;
            return Ok(pauses.into_iter().next().flatten());
        }
        Ok(meta.paused.then(Pause::default))
    }

    /// The same of many work specs; `None` if the server can't tell in one go.
    pub(super) fn pauses_of(
        &mut self,
        work_specs: &[Name],
    ) -> Result<Option<Vec<Option<Pause>>>, CallError> {
        match self.has(FEATURE) {
            true => self.client.get_pauses(work_specs).map(Some),
            false => Ok(None),
        }
    }
}

/// `USER@HOST` of this process.
pub(super) fn this_user() -> String {
    let user = ["USER", "LOGNAME"].into_iter();
    let user = user
        .filter_map(std::env::var_os)
        .find(|user| !user.is_empty());
    let user = user.map_or_else(
        || format!("uid-{}", rustix::process::getuid().as_raw()),
        |user| user.to_string_lossy().into_owned(),
    );
    let system = rustix::system::uname();
    format!("{user}@{}", system.nodename().to_string_lossy())
}

/// Such as `was paused 5m ago by USER@HOST: REASON`, or `is paused`. All on one line.
pub(super) fn in_words(pause: &Pause) -> String {
    let mut text = match pause.since {
        Some(since) => format!("was paused {} ago", span(now() - since)),
        None => "is paused".to_owned(),
    };
    if let Some(by) = &pause.by {
        text = format!("{text} by {by}");
    }
    if let Some(reason) = &pause.reason {
        text = format!("{text}: {reason}");
    }
    printable(&text)
}

/// For programs: an object with reason, by and since, or null.
pub(super) fn to_json(pause: Option<&Pause>) -> Json {
    pause.map_or(
        Json::Null,
        |pause| json!({"reason": pause.reason, "by": pause.by, "since": pause.since}),
    )
}
