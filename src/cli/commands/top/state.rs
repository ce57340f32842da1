//! What is known and what is chosen; keys change it. Nothing here touches the daemon or the terminal.

use super::watcher::{Order, Picture, Seen};
use crate::cli::commands::names::{shown, units_of};
use crate::cli::commands::summary::Standing;
use coordinated_client::{Name, Status};
use ratatui::crossterm::event::{KeyCode, KeyEvent, KeyModifiers};
use std::cmp::Reverse;

/// Rows that PgUp and PgDn go.
const PAGE_ROWS: usize = 10;

/// What a key asks for beyond the view itself.
#[derive(Debug, PartialEq)]
pub(super) enum Deed {
    Quit,
    Order(Order),
}

/// By what the work specs are sorted, each but the name with the largest first.
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

/// What is known of the daemon, and what somebody has chosen.
pub(super) struct State {
    pub(super) address: String,
    /// The last one, also while no daemon answers. Its work specs are sorted.
    pub(super) picture: Picture,
    /// Why nothing newer is known; `None` while the daemon answers.
    pub(super) trouble: Option<String>,
    /// By name, so that it stays the same when the order changes.
    pub(super) chosen: Option<Name>,
    pub(super) sort: Sort,
    /// The work spec whose failed units are to be retried, if the answer is yes.
    pub(super) question: Option<Name>,
    /// What came of the last order.
    pub(super) remark: Option<String>,
    /// False until there is something to say.
    pub(super) has_looked: bool,
}

impl State {
    pub(super) fn new(address: String) -> Self {
        Self {
            address,
            picture: Picture::default(),
            trouble: None,
            chosen: None,
            sort: Sort::Name,
            question: None,
            remark: None,
            has_looked: false,
        }
    }

    /// Takes note of what was seen. The first work spec takes the place of a chosen one that is gone, and is then
    /// what the watcher is to look at.
    pub(super) fn see(&mut self, seen: Seen) -> Option<Order> {
        self.has_looked = true;
        match seen {
            Seen::Picture(picture) => {
                self.trouble = None;
                self.picture = picture;
                self.arrange();
                if self.chosen_index().is_none() {
                    self.chosen = self.picture.specs.first().map(|spec| spec.name.clone());
                    return self.chosen.clone().map(Order::Choose);
                }
            }
            Seen::Nothing(why) => self.trouble = Some(why),
            Seen::Done(outcome) => self.remark = Some(outcome),
        }
        None
    }

    /// Does what a key says, or tells what is to be done elsewhere.
    pub(super) fn press(&mut self, key: KeyEvent) -> Option<Deed> {
        if key.modifiers.contains(KeyModifiers::CONTROL) {
            return (key.code == KeyCode::Char('c')).then_some(Deed::Quit);
        }
        if let Some(name) = self.question.take() {
            let is_yes = matches!(key.code, KeyCode::Char('y' | 'Y'));
            let remark = if is_yes {
                "retrying ..."
            } else {
                "nothing was changed"
            };
            self.remark = Some(remark.to_owned());
            return is_yes.then_some(Deed::Order(Order::Retry(name)));
        }
        self.remark = None;
        let index = self.chosen_index();
        let last = self.picture.specs.len().saturating_sub(1);
        let at = index.unwrap_or(0);
        match key.code {
            KeyCode::Char('q') | KeyCode::Esc => Some(Deed::Quit),
            KeyCode::Up | KeyCode::Char('k') => self.choose(at.saturating_sub(1)),
            KeyCode::Down | KeyCode::Char('j') => self.choose((at + 1).min(last)),
            KeyCode::PageUp => self.choose(at.saturating_sub(PAGE_ROWS)),
            KeyCode::PageDown => self.choose((at + PAGE_ROWS).min(last)),
            KeyCode::Home => self.choose(0),
            KeyCode::End => self.choose(last),
            KeyCode::Char('s') => {
                self.sort = self.sort.next();
                self.arrange();
                None
            }
            KeyCode::Char('p') => self.pause(true),
            KeyCode::Char('r') => self.pause(false),
            KeyCode::Char('t') => {
                let spec = self.chosen_spec()?;
                if spec.counts.failed == 0 {
                    self.remark = Some(format!("no unit of {} has failed", shown(&spec.name)));
                } else {
                    self.question = Some(spec.name.clone());
                }
                None
            }
            _ => None,
        }
    }

    fn choose(&mut self, index: usize) -> Option<Deed> {
        let name = self.picture.specs.get(index)?.name.clone();
        self.chosen = Some(name.clone());
        Some(Deed::Order(Order::Choose(name)))
    }

    fn pause(&self, paused: bool) -> Option<Deed> {
        let name = self.chosen_spec()?.name.clone();
        Some(Deed::Order(Order::Pause(name, paused)))
    }

    /// Where the chosen work spec stands among the sorted ones.
    pub(super) fn chosen_index(&self) -> Option<usize> {
        let chosen = self.chosen.as_ref()?;
        let mut specs = self.picture.specs.iter();
        specs.position(|spec| spec.name == *chosen)
    }

    fn chosen_spec(&self) -> Option<&Standing> {
        self.picture.specs.get(self.chosen_index()?)
    }

    /// The question that waits for an answer.
    pub(super) fn question(&self) -> Option<String> {
        let name = self.question.as_ref()?;
        let spec = self.picture.specs.iter().find(|spec| spec.name == *name);
        let failed = spec.map_or(0, |spec| spec.counts.failed);
        let failed = units_of(failed, Some(Status::Failed));
        Some(format!("Retry {failed} of {}? [y/N]", shown(name)))
    }

    fn arrange(&mut self) {
        let sort = self.sort;
        let specs = &mut self.picture.specs;
        // Those that are alike stay in the order of their names.
        specs.sort_by(|a, b| a.name.cmp(&b.name));
        let waiting = |spec: &Standing| spec.details.and_then(|details| details.waiting);
        match sort {
            Sort::Name => {}
            Sort::Available => specs.sort_by_key(|spec| Reverse(spec.counts.available)),
            Sort::Pending => specs.sort_by_key(|spec| Reverse(spec.counts.pending)),
            Sort::Failed => specs.sort_by_key(|spec| Reverse(spec.counts.failed)),
            Sort::Rate => specs.sort_by(|a, b| {
                let rate = |spec: &Standing| spec.rate.unwrap_or(0.0);
                rate(b).total_cmp(&rate(a))
            }),
            Sort::Waiting => specs.sort_by(|a, b| {
                let waiting = |spec| waiting(spec).unwrap_or(-1.0);
                waiting(b).total_cmp(&waiting(a))
            }),
        }
    }
}
