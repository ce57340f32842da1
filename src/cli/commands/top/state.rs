//! The last answer and the selection, which keys change. This file uses neither the daemon nor the terminal.

use super::watcher::{Command, Snapshot, Update};
use crate::cli::commands::names::{shown, units_of};
use crate::cli::commands::summary::SpecCounts;
use coordinated_client::{Name, Status};
use ratatui::crossterm::event::{KeyCode, KeyEvent, KeyModifiers};
use std::cmp::Reverse;

/// Rows that PgUp and PgDn move.
const PAGE_ROWS: usize = 10;

/// What a key asks for outside of the state.
#[derive(Debug, PartialEq)]
pub(super) enum Action {
    Quit,
    Command(Command),
}

/// The sort key of the work specs. All but the name sort in descending order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Sort {
    Name,
    Available,
    Pending,
    Failed,
    Rate,
    Waiting,
}

impl Sort {
    const ALL: [Self; 6] = [
        Self::Name,
        Self::Available,
        Self::Pending,
        Self::Failed,
        Self::Rate,
        Self::Waiting,
    ];

    fn next(self) -> Self {
        let at = Self::ALL.iter().position(|sort| *sort == self);
        Self::ALL[(at.unwrap_or(0) + 1) % Self::ALL.len()]
    }
}

/// The last snapshot of the daemon, and the user's selection.
pub(super) struct State {
    pub(super) address: String,
    /// The last snapshot, also while no daemon answers. Its work specs are sorted.
    pub(super) snapshot: Snapshot,
    /// Why there is no newer snapshot; `None` while the daemon answers.
    pub(super) error: Option<String>,
    /// The selected work spec. Stored by name, so that it stays selected when the order changes.
    pub(super) selected: Option<Name>,
    pub(super) sort: Sort,
    /// The work spec whose failed units are retried if the user confirms.
    pub(super) question: Option<Name>,
    /// The outcome of the last command.
    pub(super) message: Option<String>,
    /// False until the first update.
    pub(super) is_updated: bool,
}

impl State {
    pub(super) fn new(address: String) -> Self {
        Self {
            address,
            snapshot: Snapshot::default(),
            error: None,
            selected: None,
            sort: Sort::Name,
            question: None,
            message: None,
            is_updated: false,
        }
    }

    /// Takes an update. If the selected work spec is gone, the first one is selected, and the watcher needs to know.
    pub(super) fn update(&mut self, update: Update) -> Option<Command> {
        self.is_updated = true;
        match update {
            Update::Snapshot(snapshot) => {
                self.error = None;
                self.snapshot = snapshot;
                self.sort_specs();
                if self.selected_index().is_none() {
                    self.selected = self.snapshot.specs.first().map(|spec| spec.name.clone());
                    return self.selected.clone().map(Command::Select);
                }
            }
            Update::Unavailable(why) => self.error = Some(why),
            Update::Done(outcome) => self.message = Some(outcome),
        }
        None
    }

    /// Handles a key. Returns what has to be done outside of the state.
    pub(super) fn press(&mut self, key: KeyEvent) -> Option<Action> {
        if key.modifiers.contains(KeyModifiers::CONTROL) {
            return (key.code == KeyCode::Char('c')).then_some(Action::Quit);
        }
        if let Some(name) = self.question.take() {
            let is_yes = matches!(key.code, KeyCode::Char('y' | 'Y'));
            let message = if is_yes {
                "retrying ..."
            } else {
                "nothing was changed"
            };
            self.message = Some(message.to_owned());
            return is_yes.then_some(Action::Command(Command::Retry(name)));
        }
        self.message = None;
        let index = self.selected_index();
        let last = self.snapshot.specs.len().saturating_sub(1);
        let at = index.unwrap_or(0);
        match key.code {
            KeyCode::Char('q') | KeyCode::Esc => Some(Action::Quit),
            KeyCode::Up | KeyCode::Char('k') => self.select(at.saturating_sub(1)),
            KeyCode::Down | KeyCode::Char('j') => self.select((at + 1).min(last)),
            KeyCode::PageUp => self.select(at.saturating_sub(PAGE_ROWS)),
            KeyCode::PageDown => self.select((at + PAGE_ROWS).min(last)),
            KeyCode::Home => self.select(0),
            KeyCode::End => self.select(last),
            KeyCode::Char('s') => {
                self.sort = self.sort.next();
                self.sort_specs();
                None
            }
            KeyCode::Char('p') => self.pause(true),
            KeyCode::Char('r') => self.pause(false),
            KeyCode::Char('t') => {
                let spec = self.selected_spec()?;
                if spec.counts.failed == 0 {
                    self.message = Some(format!("no unit of {} has failed", shown(&spec.name)));
                } else {
                    self.question = Some(spec.name.clone());
                }
                None
            }
            _ => None,
        }
    }

    fn select(&mut self, index: usize) -> Option<Action> {
        let name = self.snapshot.specs.get(index)?.name.clone();
        self.selected = Some(name.clone());
        Some(Action::Command(Command::Select(name)))
    }

    fn pause(&self, paused: bool) -> Option<Action> {
        let name = self.selected_spec()?.name.clone();
        Some(Action::Command(Command::Pause(name, paused)))
    }

    /// The row of the selected work spec.
    pub(super) fn selected_index(&self) -> Option<usize> {
        let selected = self.selected.as_ref()?;
        let mut specs = self.snapshot.specs.iter();
        specs.position(|spec| spec.name == *selected)
    }

    fn selected_spec(&self) -> Option<&SpecCounts> {
        self.snapshot.specs.get(self.selected_index()?)
    }

    /// The question to be confirmed.
    pub(super) fn question(&self) -> Option<String> {
        let name = self.question.as_ref()?;
        let spec = self.snapshot.specs.iter().find(|spec| spec.name == *name);
        let failed = spec.map_or(0, |spec| spec.counts.failed);
        let failed = units_of(failed, Some(Status::Failed));
        Some(format!("Retry {failed} of {}? [y/N]", shown(name)))
    }

    fn sort_specs(&mut self) {
        let sort = self.sort;
        let specs = &mut self.snapshot.specs;
        // The sorts below are stable: equal ones stay ordered by name.
        specs.sort_by(|a, b| a.name.cmp(&b.name));
        let waiting = |spec: &SpecCounts| spec.details.and_then(|details| details.waiting);
        match sort {
            Sort::Name => {}
            Sort::Available => specs.sort_by_key(|spec| Reverse(spec.counts.available)),
            Sort::Pending => specs.sort_by_key(|spec| Reverse(spec.counts.pending)),
            Sort::Failed => specs.sort_by_key(|spec| Reverse(spec.counts.failed)),
            Sort::Rate => specs.sort_by(|a, b| {
                let rate = |spec: &SpecCounts| spec.rate.unwrap_or(0.0);
                rate(b).total_cmp(&rate(a))
            }),
            Sort::Waiting => specs.sort_by(|a, b| {
                let waiting = |spec| waiting(spec).unwrap_or(-1.0);
                waiting(b).total_cmp(&waiting(a))
            }),
        }
    }
}
