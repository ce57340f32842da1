//! Chaining: the output of a finished unit becomes units of the next work spec.

use crate::coordinate::storage::{OutputSlice, Storage};
use crate::coordinate::{AttemptId, NewUnit, Operation, Result, WorkSpecId, WorkUnit};
use crate::limits::{self, RequestLimits};
use crate::number::is_true;
use coordinated_client::cbor::item::{Entries, Items};
use coordinated_client::cbor::{Item, Kind, Writer};

impl<S: Storage> Operation<'_, S> {
    /// Adds the units that a unit which has just become finished names in its `output`. Of a long one it adds a
    /// slice, and keeps the others for later steps. `reported` are the data of the report that
    /// finished it, if it had some.
    ///
    /// What can't be added is left out and logged: the work is done all the same.
    pub(super) fn chain_output(&mut self, unit: &WorkUnit, reported: Option<&[u8]>) -> Result<()> {
        let Some((then, successor)) = self.successor_of(unit.work_spec) else {
            return Ok(());
        };
        let stored;
        let data = if let Some(data) = reported {
            data
        } else {
            stored = self.effective_data(unit)?;
            // To read them is work as well, whatever is in them.
            self.chained.count(0, stored.len());
            &stored
        };
        let Some(output) = Item::from_checked(data)
            .get("output")
            .filter(|output| is_true(*output))
        else {
            return Ok(());
        };
        let Some(successor) = successor else {
            tracing::warn!(%then, "output dropped: there is no such work spec to go on with");
            return Ok(());
        };
        let Some(output) = Output::from_item(output) else {
            let found = output.kind_name();
            tracing::warn!(%then, found, "output dropped: expected a map, a list or a tuple");
            return Ok(());
        };
        let max = self.limits.list_items_max;
        if output.is_longer_than(max) {
            tracing::warn!(%then, max, "items of an output beyond the limit of items dropped");
        }
        let Some(attempt) = unit.active else {
            return Ok(());
        };
        let mut output = output.take(max);
        let slice = next_slice(&mut output);
        self.chained.count(slice.len(), bytes_of(&slice));
        self.add_output(successor, unit.priority, slice)?;
        loop {
            let slice = next_slice(&mut output);
            if slice.is_empty() {
                return Ok(());
            }
            self.chained.count(slice.len(), bytes_of(&slice));
            self.store.put_output_slice(&OutputSlice {
                attempt: Some(attempt),
                work_spec: successor,
                priority: unit.priority,
                units: encode(&slice),
            })?;
            self.chained.unfinished = Some(attempt);
        }
    }

    /// Adds the units of the next slice of what an attempt left as its output. True if there are no more of them.
    ///
    /// # Errors
    /// `Storage`.
    pub fn chain_slice_of(&mut self, attempt: AttemptId) -> Result<bool> {
        if let Some(slice) = self.store.take_output_slice_of(attempt)? {
            self.add_slice(&slice)?;
        }
        Ok(!self.store.has_output_slices_of(attempt)?)
    }

    /// Adds the units of the slice that was kept first, of whatever output. False if there was none.
    ///
    /// # Errors
    /// `Storage`.
    pub fn chain_slice(&mut self) -> Result<bool> {
        let Some(slice) = self.store.take_output_slice()? else {
            return Ok(false);
        };
        self.add_slice(&slice)?;
        Ok(true)
    }

    /// Adds the units of a slice, unless their work spec is gone.
    fn add_slice(&mut self, slice: &OutputSlice) -> Result<()> {
        if self.store.get_work_spec(slice.work_spec).is_some()
            && let Some(output) = Output::from_item(Item::from_checked(&slice.units))
        {
            self.add_output(slice.work_spec, slice.priority, output)?;
        }
        Ok(())
    }

    fn add_output<'o>(
        &mut self,
        successor: WorkSpecId,
        priority: f64,
        output: impl IntoIterator<Item = OutputItem<'o>>,
    ) -> Result<()> {
        let limits = self.limits;
        let units = output.into_iter().map(|item| item.parse(limits));
        let (units, dropped): (Vec<_>, Vec<_>) = units.partition(Result::is_ok);
        if let Some(Err(first)) = dropped.first() {
            let then = self.store.get_work_spec(successor).map(|spec| &spec.name);
            let count = dropped.len();
            tracing::warn!(then = then.map(tracing::field::display), count, %first, "malformed items of an output dropped");
        }
        let units: Vec<NewUnit<'_>> = units
            .into_iter()
            .flatten()
            .map(|new| NewUnit {
                priority: new.priority.or(Some(priority)),
                ..new
            })
            .collect();
        self.add_or_reset_units(successor, &units)?;
        Ok(())
    }
}

/// What is left of an `output`: of a map of keys to data, or of a list of what `add_work_units` takes.
enum Output<'a> {
    Map(Entries<'a>),
    List(Items<'a>),
}

/// What is to become a unit.
enum OutputItem<'a> {
    /// A key and its data.
    Entry(Item<'a>, Item<'a>),
    /// What `add_work_units` takes.
    Listed(Item<'a>),
}

impl<'a> Output<'a> {
    /// `None` if the item is neither.
    fn from_item(item: Item<'a>) -> Option<Self> {
        match item.kind() {
            Kind::Map(entries) => Some(Self::Map(entries)),
            _ => item.as_list().map(Self::List),
        }
    }

    fn is_longer_than(&self, max: usize) -> bool {
        match self {
            Self::Map(entries) => entries.are_more_than(max),
            Self::List(items) => items.are_more_than(max),
        }
    }
}

impl<'a> Iterator for Output<'a> {
    type Item = OutputItem<'a>;

    fn next(&mut self) -> Option<OutputItem<'a>> {
        match self {
            Self::Map(entries) => {
                let (name, data) = entries.next()?;
                Some(OutputItem::Entry(name, data))
            }
            Self::List(items) => items.next().map(OutputItem::Listed),
        }
    }
}

impl<'a> OutputItem<'a> {
    fn parse(self, limits: &RequestLimits) -> Result<NewUnit<'a>> {
        match self {
            Self::Entry(name, data) => NewUnit::from_name_and_data(name, Some(data), limits),
            Self::Listed(item) => NewUnit::from_item(item, limits),
        }
    }

    /// In bytes.
    fn len(&self) -> usize {
        match self {
            Self::Entry(name, data) => name.bytes().len() + data.bytes().len(),
            Self::Listed(item) => item.bytes().len(),
        }
    }
}

/// The items of an output that are added in one step; none if there are no more.
fn next_slice<'a>(output: &mut impl Iterator<Item = OutputItem<'a>>) -> Vec<OutputItem<'a>> {
    limits::slice_of(output, limits::SLICE_ITEMS, OutputItem::len)
}

fn bytes_of(slice: &[OutputItem<'_>]) -> usize {
    slice.iter().map(OutputItem::len).sum()
}

/// Writes items as an output of the same meaning.
fn encode(items: &[OutputItem<'_>]) -> Vec<u8> {
    let mut out = Vec::new();
    let mut writer = Writer::new(&mut out);
    writer.array(items.len());
    for item in items {
        match item {
            OutputItem::Entry(name, data) => {
                writer.array(2);
                writer.encoded(name.bytes());
                writer.encoded(data.bytes());
            }
            OutputItem::Listed(item) => writer.encoded(item.bytes()),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Name and priority of a unit; `None` for a malformed item.
    type Parsed = Option<(Vec<u8>, Option<f64>)>;

    /// What an output holds, and what it holds once it has been encoded.
    fn parse(bytes: &[u8]) -> Option<Vec<Parsed>> {
        let parse = |output: Output<'_>| -> Vec<Parsed> {
            let units = output.map(|item| item.parse(&RequestLimits::default()).ok());
            let units =
                units.map(|unit| unit.map(|unit| (unit.name.bytes().to_vec(), unit.priority)));
            units.collect()
        };
        let mut output = Output::from_item(Item::from_checked(bytes))?;
        let kept = encode(&next_slice(&mut output));
        let kept = Output::from_item(Item::from_checked(&kept)).map(parse);
        let parsed = Output::from_item(Item::from_checked(bytes)).map(parse);
        assert_eq!(parsed, kept);
        parsed
    }

    #[test]
    fn output_is_read_in_all_its_forms() {
        let named = |name: &str, priority| Some((name.as_bytes().to_vec(), priority));
        assert_eq!(parse(b"\xa1\x41a\xa0"), Some(vec![named("a", None)]));
        assert_eq!(
            // ["a", ("b", {}), ["c", null, {"priority": 2}], ["d", {}, null, 1.5]]
            parse(b"\x84\x61a\xd8\x80\x82\x41b\xa0\x83\x41c\xf6\xa1\x48priority\x02\x84\x41d\xa0\xf6\xf9\x3e\x00"),
            Some(vec![named("a", None), named("b", None), named("c", Some(2.0)), named("d", Some(1.5))])
        );
    }

    #[test]
    fn malformed_items_of_an_output_are_told_from_the_others() {
        // [1, ["k"], ["k", 5], "ok"]
        assert_eq!(
            parse(b"\x84\x01\x81\x41k\x82\x41k\x05\x42ok"),
            Some(vec![None, None, None, Some((b"ok".to_vec(), None))])
        );
        assert_eq!(parse(b"\x05"), None);
        assert_eq!(parse(b"\x63abc"), None);
    }
}
