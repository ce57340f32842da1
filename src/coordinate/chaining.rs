//! Chaining: the output of a finished unit becomes units of the next work spec.

use super::new_unit::NewUnit;
use super::number::is_true;
use super::storage::Storage;
use super::work_unit::WorkUnit;
use super::{Error, Operation, Result};
use crate::cbor::{Item, Kind};
use crate::limits::RequestLimits;

impl<S: Storage> Operation<'_, S> {
    /// Adds the units that a unit which has just become finished names in its `output`. `reported`
    /// are the data of the report that finished it, if it had some.
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
        let Some(units) = parse_output(output, self.limits) else {
            let found = output.kind_name();
            tracing::warn!(%then, found, "output dropped: expected a map, a list or a tuple");
            return Ok(());
        };
        let (units, dropped): (Vec<_>, Vec<_>) = units.into_iter().partition(Result::is_ok);
        if let Some(Err(first)) = dropped.first() {
            let count = dropped.len();
            tracing::warn!(%then, count, %first, "malformed items of an output dropped");
        }
        let units: Vec<NewUnit<'_>> = units
            .into_iter()
            .flatten()
            .map(|new| NewUnit {
                priority: new.priority.or(Some(unit.priority)),
                ..new
            })
            .collect();
        self.add_units_to(successor, &units)
    }
}

type ParsedUnits<'a> = Vec<Result<NewUnit<'a>, Error>>;

/// Reads an `output`: a map of keys to data, or a list of what `add_work_units` takes. `None` if it
/// is neither.
fn parse_output<'a>(output: Item<'a>, limits: &RequestLimits) -> Option<ParsedUnits<'a>> {
    match output.kind() {
        Kind::Map(entries) => Some(
            entries
                .map(|(name, data)| NewUnit::from_name_and_data(name, Some(data), limits))
                .collect(),
        ),
        _ => Some(
            output
                .as_list()?
                .map(|item| NewUnit::from_item(item, limits))
                .collect(),
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Name and priority of a unit; `None` for a malformed item.
    type Parsed = Option<(Vec<u8>, Option<f64>)>;

    fn parse(bytes: &[u8]) -> Option<Vec<Parsed>> {
        let units = parse_output(Item::from_checked(bytes), &RequestLimits::default())?;
        Some(
            units
                .into_iter()
                .map(|unit| {
                    unit.ok()
                        .map(|unit| (unit.name.bytes().to_vec(), unit.priority))
                })
                .collect(),
        )
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
