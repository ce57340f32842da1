//! Setting work specs that may exist already.
//!
//! When a work spec is set, the server derives its scheduling from the new definition. `load` and `flow` keep what
//! `pause`, `resume` and `control` have set, unless the new definition has a key for it.

use super::names::shown;
use super::output::note;
use super::server::Daemon;
use super::spec_file::{CheckedSpec, SpecFile, did_you_mean, nearest};
use crate::coordinate;
use coordinated_client::cbor::{Item, Value};
use coordinated_client::{Control, Coordinate, Error as CallError, Meta, Name};
use std::error::Error;

/// Sets a work spec, and prints which settings of `control` were kept and which settings changed.
pub(super) fn set_work_spec(
    daemon: &mut Daemon,
    name: &Name,
    definition: &Value,
) -> Result<(), CallError> {
    let Some(old) = daemon.client.get_work_spec(name)? else {
        return daemon.client.set_work_spec(definition);
    };
    let before = daemon.client.get_work_spec_meta(name)?;
    let mut control = kept(&before, &old, definition);
    if control.paused == Some(true) {
        let pauses = daemon.pauses_of(std::slice::from_ref(name))?;
        let pause = pauses.and_then(|pauses| pauses.into_iter().next().flatten());
        control.pause = pause.unwrap_or_default();
    }
    let is_original = daemon.is_original();
    let client = &mut daemon.client;
    if control == Control::default() {
        client.set_work_spec(definition)?;
    } else if is_original {
        client.set_work_spec(definition)?;
        client.control_work_spec(name, &control)?;
    } else {
        client.set_and_control_work_spec(name, definition, &control)?;
    }
    let after = client.get_work_spec_meta(name)?;
    let name = shown(name);
    let is_kept = is_set(&control);
    let before = words(&before).into_iter().zip(words(&after));
    let (mut stays, mut changes) = (Vec::new(), Vec::new());
    for (((key, was), (_, is)), is_kept) in before.zip(is_kept) {
        match was == is {
            true if is_kept => stays.push(format!("{key} {is}")),
            true => {}
            false => changes.push(format!("{key} from {was} to {is}")),
        }
    }
    if !stays.is_empty() {
        note(format!(
            "{name} keeps what `control` has set: {}",
            stays.join(", ")
        ));
    }
    if !changes.is_empty() {
        note(format!("{name} changes: {}", changes.join(", ")));
    }
    Ok(())
}

/// The settings to keep: those that differ from the old definition, so `control` has set them, and that the new
/// definition has no key for.
fn kept(now: &Meta, old: &Value, new: &Value) -> Control {
    let old = old.to_bytes();
    // An original server may have accepted a definition that we don't.
    let Ok(derived) = coordinate::Meta::from_definition(Item::from_checked(&old)) else {
        return Control::default();
    };
    let is_open = |keys: &[&str]| keys.iter().all(|key| new.get_some(key).is_none());
    let interval = derived.interval.map(|interval| interval.as_secs_f64());
    let is_other_interval = match (now.interval, interval) {
        // Servers store whole microseconds.
        (Some(now), Some(derived)) => (now - derived).abs() > 1e-6,
        (now, derived) => now != derived,
    };
    let (paused, max_running) = (now.paused, now.max_running);
    Control {
        paused: (paused != derived.paused.is_some() && is_open(&["disabled"])).then_some(paused),
        weight: now
            .weight
            .filter(|weight| *weight != derived.weight && is_open(&["weight", "nice"])),
        interval: (is_other_interval && is_open(&["interval"])).then_some(now.interval),
        max_running: (max_running != derived.max_running && is_open(&["max_running"]))
            .then_some(max_running),
        // Continuous can only be on if the definition says so.
        ..Control::default()
    }
}

/// Which of the settings of [`words`] are set.
fn is_set(control: &Control) -> [bool; 5] {
    [
        control.paused.is_some(),
        control.weight.is_some(),
        control.interval.is_some(),
        control.max_running.is_some(),
        control.continuous.is_some(),
    ]
}

/// The scheduling of a work spec as names and values.
fn words(meta: &Meta) -> [(&'static str, String); 5] {
    fn or_none<T: ToString>(value: Option<T>) -> String {
        value.map_or_else(|| "none".to_owned(), |value| value.to_string())
    }
    let status = if meta.paused { "paused" } else { "runnable" };
    [
        ("status", status.to_owned()),
        ("weight", or_none(meta.weight)),
        ("interval", or_none(meta.interval)),
        ("max_running", or_none(meta.max_running)),
        ("continuous", meta.continuous.to_string()),
    ]
}

/// Checks that the successors of work specs exist.
///
/// # Errors
/// With the place of the first successor that is neither in `specs`, the work specs of the file, nor on the daemon.
pub(super) fn check_successors<'s>(
    file: &SpecFile,
    specs: impl Iterator<Item = &'s CheckedSpec> + Clone,
    client: &mut Coordinate,
) -> Result<(), Box<dyn Error>> {
    for spec in specs.clone() {
        let Some((line, then)) = &spec.then else {
            continue;
        };
        let successor = Name::from_text(then.as_str());
        let is_in_file = specs.clone().any(|other| other.name == successor);
        if is_in_file || client.get_work_spec(&successor)?.is_some() {
            continue;
        }
        let others = specs.clone().filter(|other| other.name != spec.name);
        let mut names: Vec<String> = others.map(|other| shown(&other.name)).collect();
        names.extend(client.work_spec_names()?.iter().map(shown));
        let in_a_group = format!(".{then}");
        let meant = names.iter().find(|name| name.ends_with(&in_a_group));
        let meant = meant.map(String::as_str);
        let names = names.iter().map(String::as_str);
        let advice = did_you_mean(meant.or_else(|| nearest(then, names)));
        let problem = format!(
            "{}: then names {then:?}, which is neither in the file nor on the daemon{advice}",
            shown(&spec.name)
        );
        return Err(file.at(*line, &problem).into());
    }
    Ok(())
}

/// Prints a note if a work spec is paused, since its units are not handed out then.
pub(super) fn note_if_paused(daemon: &mut Daemon, work_spec: &Name) {
    // An error does not matter: the command's work is done, or its next call shows the error.
    if let Ok(Some(pause)) = daemon.pause_of(work_spec) {
        let name = shown(work_spec);
        let reason = pause
            .reason
            .map_or_else(String::new, |reason| format!(" ({reason})"));
        note(format!(
            "{name} is paused{reason}: its units will be handed out after `coordinated resume {name}`"
        ));
    }
}
