//! Calls on a list of items, which is taken in slices: a client that sends a million units in one message has sent a
//! thousand calls of a thousand.
//!
//! A list that makes one slice is taken whole, in one operation. A longer one is first checked, in slices as well, so
//! that an item which can't be taken changes nothing.

use super::call::{Call, Continuation, Progress};
use super::params::{Label, Param};
use super::reply::{Nothing, answer_in_band};
use crate::coordinate::storage::Storage;
use crate::coordinate::{Error, Name, Result};
use crate::limits::{self, RequestLimits};
use coordinated_client::cbor::Item;
use coordinated_client::cbor::item::{Items, Place};

/// What a call does with the items of its list.
pub(super) trait ListAction<S: Storage>: Clone + 'static {
    /// How many items make a slice.
    const SLICE_LEN: usize;
    /// What stands for "nothing" in a failed answer.
    const NOTHING: Nothing;

    /// Finds out whether an item can be taken.
    ///
    /// # Errors
    /// `Invalid` if it can't.
    fn check(&self, item: ListItem<'_>, limits: &RequestLimits) -> Result<()>;

    /// Takes the next items, at most a slice, and at least one if there is one. What is answered for each goes to
    /// [`Call::answers`].
    ///
    /// # Errors
    /// What the operation fails with.
    fn take(&mut self, items: &mut ListItems<'_>, call: &mut Call<'_, S>) -> Result<()>;

    /// Does a step of what is left to do for the items that have been taken.
    ///
    /// # Errors
    /// What the operation fails with.
    fn finish(&mut self, call: &mut Call<'_, S>) -> Result<()> {
        let _ = call;
        Ok(())
    }

    /// True if [`ListAction::finish`] has something to do before more items are taken.
    fn has_more(&self) -> bool {
        false
    }

    /// Writes the answer, when all `count` items have been taken. `answers` are those to the items.
    fn write_answer(&self, count: usize, answers: &[u8], out: &mut Vec<u8>);
}

/// One item of a list.
#[derive(Clone, Copy)]
pub(super) struct ListItem<'a> {
    pub(super) item: Item<'a>,
    index: usize,
    list: Label,
}

impl<'a> ListItem<'a> {
    /// The error that it can't be taken.
    pub(super) fn invalid(self, problem: impl std::fmt::Display) -> Error {
        Error::Invalid(format!("{}: item {}: {problem}", self.list, self.index))
    }

    /// The name that it is.
    ///
    /// # Errors
    /// `Invalid` if it is none.
    pub(super) fn name(self) -> Result<Name> {
        Name::from_item(self.item).ok_or_else(|| {
            let found = self.item.kind_name();
            self.invalid(format_args!("expected a string, got {found}"))
        })
    }
}

/// The items of a list that are still to be taken.
#[derive(Clone)]
pub(super) struct ListItems<'a> {
    items: Items<'a>,
    /// How many came before these.
    index: usize,
    list: Label,
}

impl<'a> Iterator for ListItems<'a> {
    type Item = ListItem<'a>;

    fn next(&mut self) -> Option<ListItem<'a>> {
        let item = self.items.next()?;
        let index = self.index;
        self.index += 1;
        Some(ListItem {
            item,
            index,
            list: self.list,
        })
    }
}

impl<'a> ListItems<'a> {
    /// Takes off the items that make a slice.
    pub(super) fn slice(&mut self, len_max: usize) -> Vec<ListItem<'a>> {
        limits::slice_of(self, len_max, |listed| listed.item.bytes().len())
    }

    /// The names that make a slice.
    pub(super) fn names(&mut self, len_max: usize) -> Result<Vec<Name>> {
        self.slice(len_max)
            .into_iter()
            .map(ListItem::name)
            .collect()
    }
}

/// What is left of a call on a list.
#[derive(Clone)]
struct ListCall<A> {
    action: A,
    /// How the list is called in messages.
    list: Label,
    /// Where the list begins, while it is checked.
    begin: Option<Place>,
    /// Which of its items are still to come.
    rest: Place,
    /// How many came before these.
    taken: usize,
    /// True if all items can be taken.
    is_checked: bool,
}

/// Begins a call that does something with each item of a list.
///
/// # Errors
/// `Invalid` if the parameter is no list or has too many items; what the first step fails with.
pub(super) fn call_on_list<S: Storage>(
    call: &mut Call<'_, S>,
    action: impl ListAction<S>,
    list: &Param<'_>,
    out: &mut Vec<u8>,
) -> Result<Progress<S>> {
    ListCall::new(action, list, call.message)?.advance(call, out)
}

impl<A> ListCall<A> {
    fn new<S: Storage>(action: A, list: &Param<'_>, message: &[u8]) -> Result<Self>
    where
        A: ListAction<S>,
    {
        let items = list.list()?;
        let rest = items.place_in(message);
        let is_one_slice =
            !items.are_more_than(A::SLICE_LEN) && message.len() <= limits::SLICE_BYTES;
        Ok(Self {
            action,
            list: list.label(),
            begin: (!is_one_slice).then(|| rest.clone()),
            rest,
            taken: 0,
            is_checked: false,
        })
    }
}

impl<S: Storage, A: ListAction<S>> Continuation<S> for ListCall<A> {
    fn step(&self, call: &mut Call<'_, S>, out: &mut Vec<u8>) -> Result<Progress<S>> {
        self.clone().advance(call, out)
    }
}

impl<A> ListCall<A> {
    /// Does the next step.
    fn advance<S: Storage>(
        mut self,
        call: &mut Call<'_, S>,
        out: &mut Vec<u8>,
    ) -> Result<Progress<S>>
    where
        A: ListAction<S>,
    {
        let message = call.message;
        let mut items = ListItems {
            items: self.rest.items(message),
            index: self.taken,
            list: self.list,
        };
        if let Some(begin) = self.begin.clone() {
            for item in items.by_ref().take(limits::SLICE_CHECKED) {
                self.action.check(item, call.operation.limits)?;
            }
            (self.rest, self.taken) = (items.items.place_in(message), items.index);
            if !items.items.are_more_than(0) {
                (self.rest, self.begin, self.taken) = (begin, None, 0);
                self.is_checked = true;
            }
            return Ok(Progress::More(Box::new(self)));
        }
        if self.action.has_more() {
            self.action.finish(call)?;
        } else {
            let taken = self.action.take(&mut items, call);
            let taken = taken.map_err(|error| earlier_stand(error, self.taken));
            if answer_in_band(out, A::NOTHING, taken)?.is_none() {
                return Ok(Progress::Done);
            }
            if !self.is_checked {
                for item in items.clone() {
                    self.action.check(item, call.operation.limits)?;
                }
                self.is_checked = true;
            }
            (self.rest, self.taken) = (items.items.place_in(message), items.index);
        }
        if items.items.are_more_than(0) || self.action.has_more() {
            return Ok(Progress::More(Box::new(self)));
        }
        self.action.write_answer(self.taken, call.answers, out);
        Ok(Progress::Done)
    }
}

/// Adds to an error how many items were taken in earlier steps.
fn earlier_stand(error: Error, taken: usize) -> Error {
    match error {
        Error::Invalid(problem) if taken > 0 => Error::Invalid(format!(
            "{problem}; the {taken} items of earlier steps are committed"
        )),
        error => error,
    }
}
