//! `--reset`: what `add`, `addwork` and `load` do with units that exist.

use super::names::units;
use super::output::note;
use super::server::Daemon;
use coordinated_client::{Added, IfExists, Name};

/// What to do with units that exist.
#[derive(clap::Args)]
pub(super) struct Existing {
    /// Give existing units the new data and make them available again, even if they are finished. By default they are
    /// skipped
    #[arg(long)]
    reset: bool,
}

impl Existing {
    /// What to ask the server for. `None` for a server that always resets existing units; a note says so if the work
    /// spec has units that were to be skipped.
    pub(super) fn rule(&self, daemon: &mut Daemon, work_spec: &Name) -> Option<IfExists> {
        if daemon.has("if_exists") {
            return Some(match self.reset {
                true => IfExists::Reset,
                false => IfExists::Skip,
            });
        }
        if !self.reset
            // An error does not matter: adding shows it, too.
            && let Ok(counts) = daemon.client.count_work_units(work_spec)
            && counts.total() > 0
        {
            note(
                "this server can't skip existing units: they get the new data and become available again",
            );
        }
        None
    }
}

/// The counts in words: `3 work units`, or `3, skipped 1997 existing work units`.
pub(super) fn in_words(added: Added) -> String {
    let existing = |what: &str, count: u64| match count {
        1 => format!("{what} 1 existing work unit"),
        count => format!("{what} {count} existing work units"),
    };
    match added {
        Added {
            new,
            reset: 0,
            skipped: 0,
        } => units(new),
        Added {
            new,
            reset: 0,
            skipped,
        } => format!("{new}, {}", existing("skipped", skipped)),
        // A call either resets or skips.
        Added { new, reset, .. } => format!("{new}, {}", existing("reset", reset)),
    }
}
