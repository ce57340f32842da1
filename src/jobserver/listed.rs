//! Calls on a list of units, which is gone through in slices: whoever sends a million units in one message
//! has sent a thousand calls of a thousand.
//!
//! A list that makes one slice is taken whole, in one operation. A longer one is first looked through, in
//! slices as well, so that one which can't be taken changes nothing. So is what is left of a list of finishes when
//! their outputs are enough for one operation.

use super::params::{Label, Options, Param};
use super::reply::{Nothing, answer_in_band, check_answer_length, ok_list, ok_pair, true_pair};
use super::steps::Bench;
use super::units::{write_report, write_unit};
use super::work::{chain_until, read_report, write_outcome};
use crate::cbor::item::{Items, Place};
use crate::cbor::{Item, Writer};
use crate::coordinate::storage::{OutputSliceId, Storage};
use crate::coordinate::{
    Deletion, Error, Name, NewUnit, PriorityChange, Report, Result, UnitStatus, WorkSpecId,
};
use crate::limits::{self, RequestLimits};

/// What is left of a call on a list.
pub(super) struct Listed {
    work_spec: Name,
    action: Action,
    /// How the list is called in messages.
    list: Label,
    /// Where it begins, while it is looked through.
    begin: Option<Place>,
    /// What of it is still to come.
    rest: Place,
    /// How many of its items have been taken.
    taken: usize,
    /// What is answered for them, one after the other.
    answers: Vec<u8>,
    /// How many units were deleted.
    deleted: u64,
    /// True if all items can be taken.
    is_checked: bool,
    /// The last slice of an output that is to be added before the answer.
    last_slice: Option<OutputSliceId>,
}

/// What is done with the items of the list.
pub(super) enum Action {
    /// They are units to be added.
    Add,
    /// They are updates, each of which is answered.
    Update,
    /// They are names of units that get another priority, or stay as they are.
    Prioritize(Option<PriorityChange>),
    /// They are names of units that are deleted if they are in one of these statuses, if some are given.
    Delete(Option<Vec<UnitStatus>>),
    /// They are names of units whose status is answered.
    Status,
    /// They are names of units whose data are answered.
    Data,
}

impl Action {
    /// How many items make a slice.
    fn slice_len(&self) -> usize {
        match self {
            Self::Delete(_) => limits::SWEEP_REMOVED,
            Self::Status | Self::Data => limits::SLICE_LOOKED_UP,
            Self::Add | Self::Update | Self::Prioritize(_) => limits::SLICE_ITEMS,
        }
    }

    /// What stands for "nothing" in a failed answer.
    fn nothing(&self) -> Nothing {
        match self {
            Self::Add | Self::Prioritize(_) => Nothing::False,
            Self::Delete(_) => Nothing::Zero,
            Self::Update | Self::Status | Self::Data => Nothing::Null,
        }
    }
}

impl Listed {
    /// A call that does something with each item of `list`, which came in `message`.
    ///
    /// # Errors
    /// `Invalid` if the parameter is no list, or has too many items.
    pub(super) fn new(
        work_spec: Name,
        action: Action,
        list: &Param<'_>,
        message: &[u8],
    ) -> Result<Box<Self>> {
        let items = list.list()?;
        let rest = items.place_in(message);
        let is_one_slice =
            !items.are_more_than(action.slice_len()) && message.len() <= limits::SLICE_BYTES;
        Ok(Box::new(Self {
            work_spec,
            action,
            list: list.label(),
            begin: (!is_one_slice).then(|| rest.clone()),
            rest,
            taken: 0,
            answers: Vec::new(),
            deleted: 0,
            is_checked: false,
            last_slice: None,
        }))
    }

    /// Bytes that it keeps of the answer.
    pub(super) fn held(&self) -> usize {
        self.answers.capacity()
    }

    /// See [`super::steps::Steps::take_step`].
    pub(super) fn take_step<S: Storage>(
        mut self: Box<Self>,
        bench: &mut Bench<'_, '_, S>,
        out: &mut Vec<u8>,
    ) -> Result<Option<Box<Self>>> {
        let message = bench.message;
        let mut items = self.rest.items(message);
        if let Some(begin) = self.begin.clone() {
            for item in items.by_ref().take(limits::SLICE_CHECKED) {
                self.check(self.taken, item, bench.operation.limits)?;
                self.taken += 1;
            }
            self.rest = items.place_in(message);
            if !items.are_more_than(0) {
                (self.rest, self.begin, self.taken) = (begin, None, 0);
                self.is_checked = true;
            }
            return Ok(Some(self));
        }
        // All updates have been taken, and only what their outputs name is still to come.
        if let (Some(last), false) = (self.last_slice, items.are_more_than(0)) {
            if !chain_until(last, bench.operation)? {
                return Ok(Some(self));
            }
            self.write_answer(out);
            return Ok(None);
        }
        let done = self.take_slice(&mut items, bench);
        let done = done.map_err(|error| match error {
            Error::Invalid(problem) if self.taken > 0 => {
                let stand = self.taken;
                Error::Invalid(format!(
                    "{problem}; what was done for {stand} items before stands"
                ))
            }
            error => error,
        });
        if answer_in_band(out, self.action.nothing(), done)?.is_none() {
            return Ok(None);
        }
        if items.are_more_than(0) || self.last_slice.is_some() {
            self.rest = items.place_in(message);
            return Ok(Some(self));
        }
        self.write_answer(out);
        Ok(None)
    }

    fn write_answer(&self, out: &mut Vec<u8>) {
        match self.action {
            Action::Add | Action::Prioritize(_) => true_pair(out),
            Action::Delete(_) => ok_pair(out, |writer| writer.unsigned(self.deleted)),
            Action::Update | Action::Status | Action::Data => {
                ok_list(out, self.taken, &self.answers);
            }
        }
    }

    /// Finds out whether an item can be taken.
    fn check(&self, index: usize, item: Item<'_>, limits: &RequestLimits) -> Result<()> {
        match self.action {
            Action::Add => drop(self.new_unit(index, item, limits)?),
            Action::Update => match self.update(index, item, limits)?.1 {
                Ok(_) | Err(Error::Refused(_)) => {}
                Err(error) => return Err(self.invalid(index, error)),
            },
            Action::Prioritize(_) | Action::Delete(_) | Action::Status | Action::Data => {
                drop(self.name(index, item)?);
            }
        }
        Ok(())
    }

    /// Takes so many items as make a slice.
    fn take_slice<S: Storage>(
        &mut self,
        items: &mut Items<'_>,
        bench: &mut Bench<'_, '_, S>,
    ) -> Result<()> {
        self.taken += match &self.action {
            Action::Add => {
                let slice = self.next_slice(items);
                let limits = bench.operation.limits;
                let units = (self.taken..).zip(&slice);
                let units = units.map(|(index, item)| self.new_unit(index, *item, limits));
                let units: Vec<NewUnit<'_>> = units.collect::<Result<_>>()?;
                bench.operation.add_work_units(&self.work_spec, &units)?;
                slice.len()
            }
            Action::Update => self.update_some(items, bench)?,
            Action::Prioritize(change) => {
                let names = self.next_names(items)?;
                bench.operation.work_spec(&self.work_spec)?;
                if let Some(change) = change {
                    let operation = &mut *bench.operation;
                    operation.prioritize_work_units(&self.work_spec, &names, *change)?;
                }
                names.len()
            }
            Action::Delete(statuses) => {
                let names = self.next_names(items)?;
                let which = Deletion::Named(&names, statuses.as_deref());
                self.deleted += bench.operation.delete_work_units(&self.work_spec, &which)?;
                names.len()
            }
            Action::Status | Action::Data => {
                let names = self.next_names(items)?;
                let spec = bench.operation.work_spec(&self.work_spec)?.id;
                for name in &names {
                    self.answer_for(spec, name, bench)?;
                    check_answer_length(self.answers.len())?;
                }
                names.len()
            }
        };
        Ok(())
    }

    /// Takes so many updates as make a slice, or fewer if they chain enough. Gives how many.
    fn update_some<S: Storage>(
        &mut self,
        items: &mut Items<'_>,
        bench: &mut Bench<'_, '_, S>,
    ) -> Result<usize> {
        bench.operation.work_spec(&self.work_spec)?;
        let limits = bench.operation.limits;
        let (mut count, mut bytes) = (0, 0);
        while count < self.action.slice_len()
            && bytes < limits::SLICE_BYTES
            && !bench.operation.chained.is_enough()
            && let Some(item) = items.next()
        {
            let index = self.taken + count;
            let (name, report) = self.update(index, item, limits)?;
            let outcome = report.and_then(|report| {
                let (operation, spec) = (&mut *bench.operation, &self.work_spec);
                operation.report(bench.handed_out, spec, &name, &report)
            });
            write_outcome(&mut self.answers, outcome).map_err(|error| match error {
                Error::Invalid(problem) => self.invalid(index, problem),
                other => other,
            })?;
            count += 1;
            bytes += item.bytes().len();
        }
        if !self.is_checked {
            for (index, item) in (self.taken + count..).zip(items.clone()) {
                self.check(index, item, limits)?;
            }
            self.is_checked = true;
        }
        self.last_slice = bench.operation.chained.last_slice.or(self.last_slice);
        Ok(count)
    }

    /// Answers what is asked about a unit.
    fn answer_for<S: Storage>(
        &mut self,
        spec: WorkSpecId,
        name: &Name,
        bench: &mut Bench<'_, '_, S>,
    ) -> Result<()> {
        if matches!(self.action, Action::Data) {
            let data = bench.operation.find_work_unit_data(spec, name)?;
            check_answer_length(self.answers.len() + data.as_ref().map_or(0, Vec::len))?;
            write_unit(&mut Writer::new(&mut self.answers), name, data.as_deref());
        } else {
            let report = bench.operation.work_unit_report(spec, name)?;
            let mut writer = Writer::new(&mut self.answers);
            match report {
                Some(report) => write_report(&mut writer, &report),
                None => writer.null(),
            }
        }
        Ok(())
    }

    fn new_unit<'a>(
        &self,
        index: usize,
        item: Item<'a>,
        limits: &RequestLimits,
    ) -> Result<NewUnit<'a>> {
        NewUnit::from_item(item, limits).map_err(|error| self.invalid(index, error))
    }

    fn name(&self, index: usize, item: Item<'_>) -> Result<Name> {
        Name::from_item(item).ok_or_else(|| {
            let found = item.kind_name();
            self.invalid(index, format_args!("expected a string, got {found}"))
        })
    }

    fn next_slice<'a>(&self, items: &mut Items<'a>) -> Vec<Item<'a>> {
        limits::slice_of(items, self.action.slice_len(), |item| item.bytes().len())
    }

    fn next_names(&self, items: &mut Items<'_>) -> Result<Vec<Name>> {
        let slice = self.next_slice(items);
        let indexed = (self.taken..).zip(slice);
        indexed
            .map(|(index, item)| self.name(index, item))
            .collect()
    }

    /// The name of a unit, and what is reported on it.
    fn update<'a>(
        &self,
        index: usize,
        item: Item<'a>,
        limits: &'a RequestLimits,
    ) -> Result<(Name, Result<Report<'a>>)> {
        let pair: Vec<Item<'a>> = item.as_list().into_iter().flatten().take(3).collect();
        if let [name, options] = pair[..]
            && options.as_map().is_some()
            && let Some(name) = Name::from_item(name)
        {
            return Ok((name, read_report(Options::from_map(options, limits))));
        }
        Err(self.invalid(index, "expected a list of a key and options"))
    }

    /// The error that an item can't be taken.
    fn invalid(&self, index: usize, problem: impl std::fmt::Display) -> Error {
        Error::Invalid(format!("{}: item {index}: {problem}", self.list))
    }
}
