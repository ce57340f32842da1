//! What all roles of a run share: the ledger, the times, when to stop, and the progress shown.

use super::NewBar;
use super::failure::Failure;
use super::latency::Latencies;
use super::ledger::Ledger;
use super::names::Names;
use indicatif::ProgressBar;
use signal_hook::consts::SIGINT;
use signal_hook::flag;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// How often the progress is shown anew.
const SHOW_INTERVAL: Duration = Duration::from_millis(100);

/// How the progress bar looks.
const TEMPLATE: &str = "{msg} {wide_bar} {human_pos}/{human_len} {rate:>12} {eta:>4}";

/// The shared part of a run.
pub(super) struct Run {
    pub(super) ledger: Ledger,
    pub(super) latencies: Latencies,
    /// get_work with all its finishes.
    pub(super) cycles: u64,
    /// Answers of get_work that had no unit.
    pub(super) empty_answers: u64,
    /// Begin nothing new.
    pub(super) stopping: bool,
    pub(super) deadline: Option<Instant>,
    /// Stop when so many units are added.
    pub(super) stop_when_added: Option<u64>,
    interrupt: Arc<AtomicBool>,
    new_bar: NewBar,
    progress: Progress,
}

/// What the progress bar counts.
#[derive(Clone, Copy)]
pub(super) enum Counting {
    Added,
    Finished,
    Milliseconds,
}

struct Progress {
    bar: ProgressBar,
    counting: Counting,
    begin: Instant,
    base: u64,
    shown: Instant,
}

impl Run {
    /// A run that has not begun. From now on the first Ctrl-C ends it in order, the second at once.
    ///
    /// # Errors
    /// If the system refuses the signal.
    pub(super) fn new(names: Names, new_bar: NewBar) -> io::Result<Self> {
        let interrupt = Arc::new(AtomicBool::new(false));
        flag::register_conditional_shutdown(SIGINT, 130, Arc::clone(&interrupt))?;
        flag::register(SIGINT, Arc::clone(&interrupt))?;
        let now = Instant::now();
        Ok(Self {
            ledger: Ledger::new(names),
            latencies: Latencies::default(),
            cycles: 0,
            empty_answers: 0,
            stopping: false,
            deadline: None,
            stop_when_added: None,
            interrupt,
            new_bar,
            progress: Progress {
                bar: ProgressBar::hidden(),
                counting: Counting::Added,
                begin: now,
                base: 0,
                shown: now,
            },
        })
    }

    /// Shows a progress bar from here on, if standard error is a terminal.
    pub(super) fn show(&mut self, what: &'static str, counting: Counting, total: u64) {
        self.progress.bar.finish_and_clear();
        let now = Instant::now();
        let bar = (self.new_bar)(TEMPLATE);
        bar.set_length(total);
        bar.set_message(what);
        self.progress = Progress {
            bar,
            counting,
            begin: now,
            base: self.count(counting),
            shown: now,
        };
    }

    /// Shows no progress any more.
    pub(super) fn hide(&mut self) {
        self.progress.bar.finish_and_clear();
    }

    /// Looks whether it is time to stop, and shows the progress.
    pub(super) fn look(&mut self, now: Instant) {
        self.stopping |= self.deadline.is_some_and(|deadline| now >= deadline)
            || self
                .stop_when_added
                .is_some_and(|total| self.ledger.added >= total)
            || self.interrupted();
        if now.duration_since(self.progress.shown) >= SHOW_INTERVAL {
            self.progress.shown = now;
            let count = match self.progress.counting {
                Counting::Milliseconds => {
                    u64::try_from(now.duration_since(self.progress.begin).as_millis()).unwrap_or(0)
                }
                counting => self.count(counting).saturating_sub(self.progress.base),
            };
            self.progress.bar.set_position(count);
        }
    }

    fn count(&self, counting: Counting) -> u64 {
        match counting {
            Counting::Added => self.ledger.added,
            Counting::Finished => self.ledger.finished,
            Counting::Milliseconds => 0,
        }
    }

    fn interrupted(&self) -> bool {
        self.interrupt.load(Ordering::Relaxed)
    }

    /// # Errors
    /// `Interrupted`, if so.
    pub(super) fn check_interrupt(&self) -> Result<(), Failure> {
        if self.interrupted() {
            return Err(Failure::Interrupted);
        }
        Ok(())
    }
}
