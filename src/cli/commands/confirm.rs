//! Asking before something is changed that can't be had back.

use crate::cli::values::printable;
use std::error::Error;
use std::io::{self, BufRead, IsTerminal, Write};

/// Asks on a terminal whether to `act`, a verb and what it is about; `yes` is the answer if it is given beforehand.
/// Without a terminal and that, `unasked` tells whether to go on.
///
/// # Errors
/// If nobody can be asked, and it should not go on unasked.
pub(super) fn confirm(act: &str, yes: bool, unasked: Unasked) -> Result<bool, Box<dyn Error>> {
    if yes {
        return Ok(true);
    }
    if !(io::stdin().is_terminal() && io::stderr().is_terminal()) {
        return match unasked {
            Unasked::GoesOn => Ok(true),
            Unasked::Refuses => {
                Err(format!("refusing to {act} without confirmation; pass --yes").into())
            }
        };
    }
    let (first, rest) = act.split_at(act.len().min(1));
    let mut stderr = io::stderr();
    let question = format!("{}{rest}?", first.to_uppercase());
    write!(stderr, "{} [y/N] ", printable(&question))?;
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
