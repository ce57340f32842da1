//! Progress bars of commands that read or write whole databases, and stopping these by a signal.

use crate::store::{Stage, Watch};
use indicatif::{HumanDuration, ProgressBar, ProgressDrawTarget, ProgressState, ProgressStyle};
use signal_hook::consts::{SIGINT, SIGTERM};
use std::fmt;
use std::io::{self, IsTerminal};
use std::ops::ControlFlow;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

/// A progress bar on standard error, if that is a terminal.
pub(super) struct Progress {
    bar: ProgressBar,
    /// Updates the bar. The first SIGINT or SIGTERM stops the command cleanly, without an unfinished file; the
    /// second one at once.
    pub(super) watch: Watch,
}

impl Progress {
    /// Shows a bar for a command that does `what` and then checks the result.
    ///
    /// # Errors
    /// If the signal handlers can't be installed.
    pub(super) fn start(what: &'static str) -> io::Result<Self> {
        let must_stop = stop_flag()?;
        let bar = bar();
        let of_watch = bar.clone();
        let watch: Watch = Arc::new(move |stage| {
            show(&of_watch, what, stage);
            if must_stop.load(Ordering::Relaxed) {
                ControlFlow::Break(())
            } else {
                ControlFlow::Continue(())
            }
        });
        Ok(Self { bar, watch })
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.bar.finish_and_clear();
    }
}

/// Returns a flag that the first SIGINT or SIGTERM sets. The second one ends the program.
///
/// # Errors
/// If the signal handlers can't be installed.
pub(super) fn stop_flag() -> io::Result<Arc<AtomicBool>> {
    let must_stop = Arc::new(AtomicBool::new(false));
    for signal in [SIGINT, SIGTERM] {
        signal_hook::flag::register_conditional_shutdown(signal, 1, Arc::clone(&must_stop))?;
        signal_hook::flag::register(signal, Arc::clone(&must_stop))?;
    }
    Ok(must_stop)
}

/// A spinner that runs during a command, if standard error is a terminal.
pub(super) fn spinner() -> ProgressBar {
    let spinner = bar();
    spinner.set_style(ProgressStyle::default_spinner());
    spinner.enable_steady_tick(Duration::from_millis(100));
    spinner
}

/// A bar on standard error, if that is a terminal, with a template for [`set_template`].
pub(super) fn bar_of(template: &str) -> ProgressBar {
    let bar = bar();
    set_template(&bar, template);
    bar
}

/// Sets an indicatif template, with two keys of our own: `{rate}`, steps per second, and `{eta}`, which is a dash
/// while there is no progress.
fn set_template(bar: &ProgressBar, template: &str) {
    if let Ok(style) = ProgressStyle::with_template(template) {
        bar.set_style(
            style
                .with_key("rate", write_rate)
                .with_key("eta", write_eta),
        );
    }
}

fn write_rate(state: &ProgressState, out: &mut dyn fmt::Write) {
    // There is nowhere to report an error.
    let _ = write!(out, "{:.1}/s", state.per_sec());
}

fn write_eta(state: &ProgressState, out: &mut dyn fmt::Write) {
    let is_stuck = state.per_sec() <= 0.0 && state.len().is_some_and(|all| state.pos() < all);
    let _ = match is_stuck {
        true => write!(out, "-"),
        false => write!(out, "{:#}", HumanDuration(state.eta())),
    };
}

fn bar() -> ProgressBar {
    if !io::stderr().is_terminal() {
        return ProgressBar::hidden();
    }
    ProgressBar::with_draw_target(Some(0), ProgressDrawTarget::stderr())
}

fn show(bar: &ProgressBar, what: &'static str, stage: Stage) {
    let (message, template) = match stage {
        Stage::Writing { .. } => (
            what,
            "{msg} {wide_bar} {bytes}/{total_bytes} {bytes_per_sec:>12} {eta:>4}",
        ),
        Stage::Checking => ("checking", "{msg} {spinner} {elapsed}"),
    };
    if bar.message() != message {
        set_template(bar, template);
        bar.set_message(message);
    }
    if let Stage::Writing { bytes, total } = stage {
        bar.set_length(total);
        bar.set_position(bytes);
    }
    bar.tick();
}
