//! Calls on a list of items, which are processed in slices: a message with a million units takes as much as a thousand
//! calls with a thousand units each.
//!
//! A list of one slice is processed in one operation. A longer one is checked first, also in slices, so that an invalid
//! item changes nothing.

use super::call::{Call, Continuation, Progress};
use super::params::{Label, Param};
use super::reply::FailedValue;
use crate::coordinate::storage::Storage;
use crate::coordinate::{Error, Name, Result};
use crate::limits::{self, RequestLimits};
use coordinated_client::cbor::Item;
use coordinated_client::cbor::item::{Items, Place};

/// What a call does with the items of its list.
pub(super) trait ListAction<S: Storage>: Clone + Send + 'static {
    /// How many items make a slice.
    const SLICE_LEN: usize;
    /// The value of a failed result.
    const FAILED: FailedValue;

    /// Checks an item: that it is a name, for lists of names.
    ///
    /// # Errors
    /// `Invalid` if the item can't be processed.
    fn check(&self, item: ListItem<'_>, limits: &RequestLimits) -> Result<()> {
        let _ = limits;
        item.name().map(drop)
    }

    /// Processes the next items: at most a slice, and at least one if there is one. Their results go to
    /// [`Call::results`].
    ///
    /// # Errors
    /// What the operation fails with.
    fn take(&mut self, items: &mut ListItems<'_>, call: &mut Call<'_, S>) -> Result<()>;

    /// Does a step of what is left to do for the items that have been processed.
    ///
    /// # Errors
    /// What the operation fails with.
    fn finish(&mut self, call: &mut Call<'_, S>) -> Result<()> {
        let _ = call;
        Ok(())
    }

    /// True if [`ListAction::finish`] has something to do before more items are processed.
    fn has_more(&self) -> bool {
        false
    }

    /// Writes the result, after all `count` items, from their `results`.
    fn write_result(&self, count: usize, results: &[u8], out: &mut Vec<u8>);
}

/// One item of a list.
#[derive(Clone, Copy)]
pub(super) struct ListItem<'a> {
    pub(super) item: Item<'a>,
    index: usize,
    list: Label,
}

impl<'a> ListItem<'a> {
    /// The error that it is invalid.
    pub(super) fn invalid(self, problem: impl std::fmt::Display) -> Error {
        Error::Invalid(format!("{}: item {}: {problem}", self.list, self.index))
    }

    /// The item as a name.
    ///
    /// # Errors
    /// `Invalid` if it is not a string.
    pub(super) fn name(self) -> Result<Name> {
        Name::from_item(self.item).ok_or_else(|| {
            let found = self.item.kind_name();
            self.invalid(format_args!("expected a string, got {found}"))
        })
    }
}

/// The items of a list that have not been processed yet.
#[derive(Clone)]
pub(super) struct ListItems<'a> {
    items: Items<'a>,
    /// The index of the first of them.
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
    /// Takes the items of a slice.
    pub(super) fn slice(&mut self, len_max: usize) -> Vec<ListItem<'a>> {
        limits::slice_of(self, len_max, |listed| listed.item.bytes().len())
    }

    /// Takes the names of a slice.
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
    /// The list's name in messages.
    list: Label,
    /// The start of the list, while the list is being checked.
    begin: Option<Place>,
    /// The items that have not been processed yet.
    rest: Place,
    /// How many items came before these.
    taken: usize,
    /// True if all items are known to be valid.
    is_checked: bool,
}

/// Begins a call that processes each item of a list.
///
/// # Errors
/// `Invalid` if the parameter is not a list or has too many items; what the first step fails with.
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
    /// Runs the next step.
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
            let taken = taken.map_err(|error| with_earlier_items(error, self.taken));
            if call.failures.write(out, A::FAILED, taken)?.is_none() {
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
        self.action.write_result(self.taken, call.results, out);
        Ok(Progress::Done)
    }
}

/// Adds to an error how many items were processed in earlier steps.
fn with_earlier_items(error: Error, taken: usize) -> Error {
    let with_items =
        |problem| format!("{problem}; the {taken} items of earlier steps are committed");
    match error {
        Error::Invalid(problem) if taken > 0 => Error::Invalid(with_items(problem)),
        Error::Refused(problem) if taken > 0 => Error::Refused(with_items(problem)),
        error => error,
    }
}
