//! Progress bars of commands that write or read whole databases, and how they are stopped.

use crate::store::{Stage, Watch};
use indicatif::{HumanDuration, ProgressBar, ProgressDrawTarget, ProgressState, ProgressStyle};
use signal_hook::consts::{SIGINT, SIGTERM};
use std::fmt;
use std::io::{self, IsTerminal};
use std::ops::ControlFlow;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

/// A bar on standard error, if that is a terminal.
pub(super) struct Progress {
    bar: ProgressBar,
    /// Shows on the bar how far it is. From now on the first SIGINT or SIGTERM ends the command in
    /// order, without leaving an unfinished file, and the second at once.
    pub(super) watch: Watch,
}

impl Progress {
    /// A bar for a command that does `what` and then checks it.
    ///
    /// # Errors
    /// If the system refuses the signals.
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

/// A flag that the first SIGINT or SIGTERM sets from now on. The second one ends the program.
///
/// # Errors
/// If the system refuses the signals.
pub(super) fn stop_flag() -> io::Result<Arc<AtomicBool>> {
    let must_stop = Arc::new(AtomicBool::new(false));
    for signal in [SIGINT, SIGTERM] {
        signal_hook::flag::register_conditional_shutdown(signal, 1, Arc::clone(&must_stop))?;
        signal_hook::flag::register(signal, Arc::clone(&must_stop))?;
    }
    Ok(must_stop)
}

/// A line that moves as long as a command runs, if standard error is a terminal.
pub(super) fn spinner() -> ProgressBar {
    let spinner = bar();
    spinner.set_style(ProgressStyle::default_spinner());
    spinner.enable_steady_tick(Duration::from_millis(100));
    spinner
}

/// A bar on standard error, if that is a terminal, drawn by a template as [`set_template`] has it.
pub(super) fn bar_of(template: &str) -> ProgressBar {
    let bar = bar();
    set_template(&bar, template);
    bar
}

/// Draws a bar by a template of indicatif's. `{rate}` in it is how many get done in a second, and `{eta}` a dash while
/// none do.
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
    // There is nobody to tell.
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
