//! Asking before something is changed that can't be had back.

use std::error::Error;
use std::io::{self, BufRead, IsTerminal, Write};

/// Asks whether to go on, on a terminal; `yes` is the answer if it is given beforehand. Without a terminal and
/// that, `unasked` tells whether to go on.
///
/// # Errors
/// If nobody can be asked, and it should not go on unasked.
pub(super) fn confirm(question: &str, yes: bool, unasked: Unasked) -> Result<bool, Box<dyn Error>> {
    if yes {
        return Ok(true);
    }
    if !(io::stdin().is_terminal() && io::stderr().is_terminal()) {
        return match unasked {
            Unasked::GoesOn => Ok(true),
            Unasked::Refuses => Err(format!(
                "{question} Nobody can be asked here: add --yes if that is what you want"
            )
            .into()),
        };
    }
    let mut stderr = io::stderr();
    write!(stderr, "{question} [y/N] ")?;
    stderr.flush()?;
    let mut answer = String::new();
    io::stdin().lock().read_line(&mut answer)?;
    Ok(matches!(answer.trim().to_lowercase().as_str(), "y" | "yes"))
}

/// What to do where nobody can be asked.
#[derive(Clone, Copy)]
pub(super) enum Unasked {
    /// Nothing is lost by it.
    GoesOn,
    /// Something would be lost.
    Refuses,
}

/// Somebody said no.
#[derive(Debug, thiserror::Error)]
#[error("nothing was changed")]
pub(super) struct Declined;
