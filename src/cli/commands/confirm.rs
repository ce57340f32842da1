//! Asking for confirmation before a change that can't be undone.

use crate::cli::values::printable;
use std::error::Error;
use std::io::{self, BufRead, IsTerminal, Write};

/// Asks on a terminal whether to `act`, a verb with its object. `yes` skips the question. Without a terminal,
/// `without_terminal` decides.
///
/// # Errors
/// If there is no terminal and `without_terminal` refuses.
pub(super) fn confirm(
    act: &str,
    yes: bool,
    without_terminal: WithoutTerminal,
) -> Result<bool, Box<dyn Error>> {
    if yes {
        return Ok(true);
    }
    if !(io::stdin().is_terminal() && io::stderr().is_terminal()) {
        return match without_terminal {
            WithoutTerminal::Proceed => Ok(true),
            WithoutTerminal::Refuse => {
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

/// What to do without a terminal.
#[derive(Clone, Copy)]
pub(super) enum WithoutTerminal {
    /// The change loses nothing.
    Proceed,
    /// The change would lose data.
    Refuse,
}

/// The user declined.
#[derive(Debug, thiserror::Error)]
#[error("nothing was changed")]
pub(super) struct Declined;
