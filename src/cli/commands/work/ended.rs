//! How a program ended, and the traceback of a failure.

use super::process::{Ran, Stopped};
use std::os::unix::process::ExitStatusExt;

/// "Try again later", as in sysexits.h.
const EX_TEMPFAIL: i32 = 75;

/// How a program ended.
pub(super) enum Ended {
    Well,
    /// It asked to be run again later.
    Later,
    /// The worker stopped it.
    Stopped,
    /// With a traceback: how it ended, and what it wrote to standard error.
    Badly(String),
}

impl Ended {
    pub(super) fn of(ran: &Ran) -> Self {
        match (ran.stopped, ran.status.code()) {
            (None, Some(0)) => Self::Well,
            (None, Some(EX_TEMPFAIL)) => Self::Later,
            (Some(Stopped::Cancelled), _) => Self::Stopped,
            (Some(Stopped::TimedOut(after)), _) => {
                let after = humantime::format_duration(after);
                Self::Badly(stderr_and(ran, &format!("it ran for longer than {after}")))
            }
            (None, Some(code)) => Self::Badly(code_and_stderr(ran, code)),
            (None, None) => {
                let signal = ran.status.signal().unwrap_or_default();
                let name = signal_hook::low_level::signal_name(signal);
                let name = name.map(|name| format!(" ({name})")).unwrap_or_default();
                Self::Badly(stderr_and(ran, &format!("killed by signal {signal}{name}")))
            }
        }
    }
}

fn stderr(ran: &Ran) -> String {
    // The first character may be incomplete.
    let cut = |byte: &&u8| **byte & 0b1100_0000 == 0b1000_0000;
    let continued = ran.stderr.iter().take_while(cut).count();
    String::from_utf8_lossy(&ran.stderr[continued.min(3)..]).into_owned()
}

/// The exit code comes first: failures are grouped by the last line, which is more useful if the program wrote it.
fn code_and_stderr(ran: &Ran, code: i32) -> String {
    let stderr = stderr(ran);
    match stderr.trim().is_empty() {
        true => format!("exit code {code}"),
        false => format!("exit code {code}, and on standard error:\n{stderr}"),
    }
}

fn stderr_and(ran: &Ran, end: &str) -> String {
    let stderr = stderr(ran);
    match stderr.trim_end() {
        "" => end.to_owned(),
        stderr => format!("{stderr}\n{end}"),
    }
}
