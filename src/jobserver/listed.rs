//! Calls on a list of units, which is gone through in slices: whoever sends a million units in one message
//! has sent a thousand calls of a thousand.
//!
//! A list that makes one slice is taken whole, in one operation. A longer one is first looked through, in
//! slices as well, so that one which can't be taken changes nothing.

use super::params::{Label, Options, Param};
use super::reply::{Nothing, answer_in_band, check_answer_length, ok_list, ok_pair, true_pair};
use super::steps::Bench;
use super::units::{write_report, write_unit};
use super::work::{read_report, write_outcome};
use crate::cbor::item::{Items, Place};
use crate::cbor::{Item, Writer};
use crate::coordinate::storage::Storage;
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
        }))
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
                self.check(item, bench.operation.limits)?;
                self.taken += 1;
            }
            self.rest = items.place_in(message);
            if !items.are_more_than(0) {
                (self.rest, self.begin, self.taken) = (begin, None, 0);
            }
            return Ok(Some(self));
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
        if items.are_more_than(0) {
            self.rest = items.place_in(message);
            return Ok(Some(self));
        }
        match self.action {
            Action::Add | Action::Prioritize(_) => true_pair(out),
            Action::Delete(_) => ok_pair(out, |writer| writer.unsigned(self.deleted)),
            Action::Update | Action::Status | Action::Data => {
                ok_list(out, self.taken, &self.answers);
            }
        }
        Ok(None)
    }

    /// Finds out whether an item can be taken.
    fn check(&self, item: Item<'_>, limits: &RequestLimits) -> Result<()> {
        let index = self.taken;
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
        let slice = limits::slice_of(items, self.action.slice_len(), |item| item.bytes().len());
        let indexed = (self.taken..).zip(slice.iter().copied());
        let limits = bench.operation.limits;
        match &self.action {
            Action::Add => {
                let units = indexed.map(|(index, item)| self.new_unit(index, item, limits));
                let units: Vec<NewUnit<'_>> = units.collect::<Result<_>>()?;
                bench.operation.add_work_units(&self.work_spec, &units)?;
            }
            Action::Update => {
                bench.operation.work_spec(&self.work_spec)?;
                let mut answers = std::mem::take(&mut self.answers);
                for (index, item) in indexed {
                    let (name, report) = self.update(index, item, limits)?;
                    let outcome = report.and_then(|report| {
                        let (operation, spec) = (&mut *bench.operation, &self.work_spec);
                        operation.report(bench.handed_out, spec, &name, &report)
                    });
                    let written = write_outcome(&mut answers, outcome);
                    written.map_err(|error| match error {
                        Error::Invalid(problem) => self.invalid(index, problem),
                        other => other,
                    })?;
                }
                self.answers = answers;
            }
            Action::Prioritize(change) => {
                let names = self.names(&slice)?;
                bench.operation.work_spec(&self.work_spec)?;
                if let Some(change) = change {
                    let operation = &mut *bench.operation;
                    operation.prioritize_work_units(&self.work_spec, &names, *change)?;
                }
            }
            Action::Delete(statuses) => {
                let names = self.names(&slice)?;
                let which = Deletion::Named(&names, statuses.as_deref());
                self.deleted += bench.operation.delete_work_units(&self.work_spec, &which)?;
            }
            Action::Status | Action::Data => {
                let names = self.names(&slice)?;
                let spec = bench.operation.work_spec(&self.work_spec)?.id;
                for name in &names {
                    self.answer_for(spec, name, bench)?;
                    check_answer_length(self.answers.len())?;
                }
            }
        }
        self.taken += slice.len();
        Ok(())
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

    fn names(&self, slice: &[Item<'_>]) -> Result<Vec<Name>> {
        let indexed = (self.taken..).zip(slice);
        indexed
            .map(|(index, item)| self.name(index, *item))
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
