//! The metrics of each work spec.

use super::families::{Families, Label};
use crate::coordinate::{AttemptEnd, Completed, Name, UnitStatus};
use crate::engine::{Activity, SpecState};
use std::collections::HashSet;
use std::fmt::{self, Write};

/// The label of the work specs that are summed. One with this name is summed with them.
const OTHERS: &str = "(other)";

/// How many work specs have histograms of their own: each has many series.
const HISTOGRAMS_MAX: usize = 100;

/// The work specs that are shown.
pub(super) struct WorkSpecs {
    namespace: String,
    /// With their labels, no two of which are the same.
    specs: Vec<(String, SpecState)>,
}

impl WorkSpecs {
    /// Work specs, and the sum of the others.
    pub(super) fn new(namespace: String, specs: Vec<SpecState>, others: Option<SpecState>) -> Self {
        Self {
            namespace,
            specs: label(specs, others),
        }
    }
}

/// Work specs with their labels. Those that would have the label of another one join the others: two series with the
/// same labels would spoil all of the answer.
fn label(specs: Vec<SpecState>, others: Option<SpecState>) -> Vec<(String, SpecState)> {
    let mut others = others;
    let mut labelled = Vec::with_capacity(specs.len());
    let mut labels = HashSet::from([OTHERS.to_owned()]);
    for spec in specs {
        let label = label_of(&spec.name);
        if labels.insert(label.clone()) {
            labelled.push((label, spec));
        } else {
            add_to(&mut others, &spec);
        }
    }
    labelled.extend(others.map(|others| (OTHERS.to_owned(), others)));
    labelled
}

fn add_to(sum: &mut Option<SpecState>, spec: &SpecState) {
    match sum {
        Some(sum) => sum.add(spec),
        None => *sum = Some(spec.clone()),
    }
}

/// A name as text: one that is not UTF-8 has `\xNN` in place of each byte that is not, and `\\` for a backslash.
fn label_of(name: &Name) -> String {
    if let Ok(text) = std::str::from_utf8(name.bytes()) {
        return text.to_owned();
    }
    let mut label = String::new();
    for chunk in name.bytes().utf8_chunks() {
        label.push_str(&chunk.valid().replace('\\', "\\\\"));
        for byte in chunk.invalid() {
            // Writing to a string does not fail.
            let _ = write!(label, "\\x{byte:02x}");
        }
    }
    label
}

impl WorkSpecs {
    /// All metrics of theirs.
    pub(super) fn write(&self, out: &mut Families<'_, '_>) -> fmt::Result {
        self.write_units(out)?;
        self.write_activity(out)?;
        self.write_times(out)
    }

    /// Each work spec with its labels.
    fn labelled(&self) -> impl Iterator<Item = ([Label<'_>; 2], &SpecState)> {
        let namespace = ("namespace", &*self.namespace);
        let specs = self.specs.iter();
        specs.map(move |(label, spec)| ([namespace, ("work_spec", &**label)], spec))
    }

    fn write_units(&self, out: &mut Families<'_, '_>) -> fmt::Result {
        out.gauges(
            "coordinate_work_units",
            "Work units by status, without archived ones",
            self.labelled().flat_map(|(labels, spec)| {
                let counts = spec.counts;
                UnitStatus::ALL.map(|status| {
                    let (word, count) = match status {
                        UnitStatus::Available => ("available", counts.available),
                        UnitStatus::Delayed => ("delayed", counts.delayed),
                        UnitStatus::Pending => ("pending", counts.pending),
                        UnitStatus::Finished => ("finished", counts.finished),
                        UnitStatus::Failed => ("failed", counts.failed),
                    };
                    (with(labels, ("status", word)), count)
                })
            }),
        )?;
        out.gauges(
            "coordinated_work_units_archived",
            "Completed work units that were removed and are only counted",
            self.labelled().flat_map(|(labels, spec)| {
                Completed::BOTH.map(|status| {
                    let word = match status {
                        Completed::Finished => "finished",
                        Completed::Failed => "failed",
                    };
                    let count = spec.counts.archived(status);
                    (with(labels, ("status", word)), count)
                })
            }),
        )?;
        out.gauges(
            "coordinated_work_spec_paused",
            "1 if the work spec is paused",
            self.labelled()
                .map(|(labels, spec)| (labels, u64::from(spec.paused == spec.work_specs))),
        )?;
        out.gauges(
            "coordinated_available_since_timestamp_seconds",
            "Since when there have been available work units without a break; absent if there are none",
            self.labelled().filter_map(|(labels, spec)| {
                let since = spec.waiting_since?;
                Some((labels, since.as_seconds()))
            }),
        )
    }

    fn write_activity(&self, out: &mut Families<'_, '_>) -> fmt::Result {
        out.gauges(
            "coordinated_last_attempt_started_timestamp_seconds",
            "When an attempt was last started; absent if none was since the daemon started",
            self.labelled().filter_map(|(labels, spec)| {
                let at = spec.activity.last_started?;
                Some((labels, at.as_seconds()))
            }),
        )?;
        out.counters(
            "coordinated_units_added",
            "Work units that were added, or added again",
            self.labelled()
                .map(|(labels, spec)| (labels, spec.activity.added)),
        )?;
        out.counters(
            "coordinated_attempts_started",
            "Attempts at work units that were started",
            self.labelled()
                .map(|(labels, spec)| (labels, spec.activity.started)),
        )?;
        out.counters(
            "coordinated_attempts_ended",
            "Attempts at work units that have ended, by outcome",
            self.labelled().flat_map(|(labels, spec)| {
                let ended = ended(&spec.activity);
                ended.map(move |(outcome, count)| (with(labels, outcome), count))
            }),
        )
    }

    fn write_times(&self, out: &mut Families<'_, '_>) -> fmt::Result {
        let is_other = |label: &str| label == OTHERS;
        let own = self.labelled().take(HISTOGRAMS_MAX);
        let own = own.filter(|([_, (_, label)], _)| !is_other(label));
        let mut shown: Vec<_> = own.map(|(labels, spec)| (labels, spec.activity)).collect();
        let mut rest = None;
        for (index, (label, spec)) in self.specs.iter().enumerate() {
            if index >= HISTOGRAMS_MAX || is_other(label) {
                add_to(&mut rest, spec);
            }
        }
        let labels = [("namespace", &*self.namespace), ("work_spec", OTHERS)];
        shown.extend(rest.map(|rest| (labels, rest.activity)));
        out.histograms(
            "coordinated_wait_seconds",
            "How long work units were available until they were handed out",
            shown.iter().map(|(labels, of)| (*labels, of.waited)),
        )?;
        out.histograms(
            "coordinated_run_seconds",
            "How long attempts ran, from their start to their end",
            shown.iter().map(|(labels, of)| (*labels, of.run)),
        )
    }
}

/// How many attempts have ended, with the label of each outcome.
pub(super) fn ended(activity: &Activity) -> impl Iterator<Item = (Label<'static>, u64)> {
    let words = AttemptEnd::ALL.map(|end| match end {
        AttemptEnd::Finished => "finished",
        AttemptEnd::Failed => "failed",
        AttemptEnd::Expired => "expired",
        AttemptEnd::Released => "released",
    });
    let outcomes = words.map(|word| ("outcome", word)).into_iter();
    outcomes.zip(activity.ended)
}

fn with<'a>([namespace, work_spec]: [Label<'a>; 2], last: Label<'a>) -> [Label<'a>; 3] {
    [namespace, work_spec, last]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::coordinate::Counts;

    fn spec(name: &[u8]) -> SpecState {
        SpecState {
            name: Name::from_bytes(name),
            work_specs: 1,
            counts: Counts::default(),
            paused: 0,
            waiting_since: None,
            activity: Activity::default(),
        }
    }

    // The daemon takes no such names, but earlier ones did.
    #[test]
    fn a_name_that_is_not_utf_8_is_shown_with_the_bytes_that_are_not() {
        assert_eq!(label_of(&Name::from_bytes("a\\b\nü")), "a\\b\nü");
        let name = Name::from_bytes(b"a\\\xff\xc3\xbc\xc3".to_vec());
        assert_eq!(label_of(&name), "a\\\\\\xffü\\xc3");
    }

    #[test]
    fn no_two_work_specs_have_the_same_label() {
        let specs = [&b"a"[..], b"\xff", b"\\xff", b"(other)"];
        let shown = label(specs.map(spec).to_vec(), Some(spec(b"")));
        let shown: Vec<_> = shown
            .iter()
            .map(|(label, spec)| (&**label, spec.work_specs))
            .collect();
        assert_eq!(shown, [("a", 1), ("\\xff", 1), (OTHERS, 3)]);
    }
}
