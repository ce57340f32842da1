//! How a program ended, and the traceback of a failure.

use super::process::{Ran, Stopped};
use std::os::unix::process::ExitStatusExt;

/// "Try again later", as in sysexits.h.
const EX_TEMPFAIL: i32 = 75;

/// How a program ended.
pub(super) enum Ended {
    Well,
    /// It asked to be run again later. With how it ended, and what it wrote to standard error.
    Later(String),
    /// The worker stopped it.
    Stopped,
    /// It failed.
    Badly {
        /// How it ended, and what it wrote to standard error.
        traceback: String,
        /// It said that running it again is of no use.
        is_final: bool,
    },
}

impl Ended {
    /// `final_codes` are the exit codes of failures that are final.
    pub(super) fn of(ran: &Ran, final_codes: &[u8]) -> Self {
        let badly = |traceback| Self::Badly {
            traceback,
            is_final: false,
        };
        match (ran.stopped, ran.status.code()) {
            (None, Some(0)) => Self::Well,
            (None, Some(EX_TEMPFAIL)) => Self::Later(code_and_stderr(ran, EX_TEMPFAIL)),
            (Some(Stopped::Cancelled), _) => Self::Stopped,
            (Some(Stopped::TimedOut(after)), _) => {
                let after = humantime::format_duration(after);
                badly(stderr_and(ran, &format!("it ran for longer than {after}")))
            }
            (None, Some(code)) => Self::Badly {
                traceback: code_and_stderr(ran, code),
                is_final: u8::try_from(code).is_ok_and(|code| final_codes.contains(&code)),
            },
            (None, None) => {
                let signal = ran.status.signal().unwrap_or_default();
                let name = signal_hook::low_level::signal_name(signal);
                let name = name.map(|name| format!(" ({name})")).unwrap_or_default();
                badly(stderr_and(ran, &format!("killed by signal {signal}{name}")))
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
