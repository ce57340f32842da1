//! How names are written and shown, and how it is said which work spec and units are meant.

use super::WrongUsage;
use super::spec_file::SpecFile;
use coordinated_client::cbor::escape::{UnescapeError, escape, unescape};
use coordinated_client::cbor::{Value, json};
use coordinated_client::{Name, Status};
use serde_json::Value as Json;
use std::error::Error;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;

/// Another way to say which work spec is meant, as the Python command has it.
#[derive(clap::Args)]
pub(super) struct Otherwise {
    /// The work spec's name, instead of SPEC
    #[arg(short = 'W', long, value_name = "NAME", value_parser = SpecNameParser)]
    work_spec_name: Option<Name>,

    /// A YAML or JSON file of the work spec, whose name is taken instead of SPEC
    #[arg(
        short = 'w',
        long,
        value_name = "FILE",
        conflicts_with = "work_spec_name"
    )]
    work_spec: Option<PathBuf>,
}

/// A work spec.
#[derive(clap::Args)]
pub(super) struct Spec {
    /// The work spec
    #[arg(
        value_name = "SPEC",
        value_parser = SpecNameParser,
        required_unless_present_any = ["work_spec_name", "work_spec"],
        conflicts_with_all = ["work_spec_name", "work_spec"]
    )]
    spec: Option<Name>,

    #[command(flatten)]
    otherwise: Otherwise,
}

/// A work spec, and units of it.
#[derive(clap::Args)]
pub(super) struct SpecAndKeys {
    /// The work spec, unless an option names it, and names of units
    #[arg(
        value_names = ["SPEC", "KEY"],
        num_args = 1..,
        value_parser = NameParser,
        required_unless_present_any = ["work_spec_name", "work_spec"]
    )]
    names: Vec<Name>,

    #[command(flatten)]
    otherwise: Otherwise,
}

impl Otherwise {
    /// The name, if it is said so.
    ///
    /// # Errors
    /// If it can't be read from the file that is to have it.
    pub(super) fn read(&self) -> Result<Option<Name>, Box<dyn Error>> {
        match (&self.work_spec_name, &self.work_spec) {
            (Some(name), _) => Ok(Some(name.clone())),
            (None, Some(path)) => Ok(Some(SpecFile::read_name(path)?)),
            (None, None) => Ok(None),
        }
    }
}

impl Spec {
    /// The name of the work spec.
    ///
    /// # Errors
    /// If it can't be read from the file that is to have it.
    pub(super) fn read(&self) -> Result<Name, Box<dyn Error>> {
        match (&self.spec, self.otherwise.read()?) {
            (_, Some(name)) => Ok(name),
            (Some(name), None) => Ok(name.clone()),
            (None, None) => Err("no work spec is named".into()),
        }
    }
}

impl SpecAndKeys {
    /// The name of the work spec, and those of units.
    ///
    /// # Errors
    /// If the name can't be read from the file that is to have it, or is empty.
    pub(super) fn read(&self) -> Result<(Name, Vec<Name>), Box<dyn Error>> {
        if let Some(name) = self.otherwise.read()? {
            return Ok((name, self.names.clone()));
        }
        match self.names.split_first() {
            Some((spec, _)) if spec.bytes().is_empty() => Err(WrongUsage(EMPTY_SPEC).into()),
            Some((spec, keys)) => Ok((spec.clone(), keys.to_vec())),
            None => Err("no work spec is named".into()),
        }
    }
}

/// Reads a name as [`coordinated_client::cbor::escape`] writes it. UTF-8 goes out as text, like the names of what is loaded
/// from JSON; the rest as a byte string.
#[derive(Clone)]
pub(super) struct NameParser;

impl clap::builder::TypedValueParser for NameParser {
    type Value = Name;

    fn parse_ref(
        &self,
        command: &clap::Command,
        argument: Option<&clap::Arg>,
        value: &OsStr,
    ) -> Result<Name, clap::Error> {
        name_from(value).map_err(|error| {
            let argument = argument.map(|argument| format!(" for {argument}"));
            let message = format!("invalid name{}: {error}\n", argument.unwrap_or_default());
            clap::Error::raw(clap::error::ErrorKind::ValueValidation, message).with_cmd(command)
        })
    }
}

/// Reads the name of a work spec. It can't be empty: the shell may have made it so, by a variable without a value.
#[derive(Clone)]
pub(super) struct SpecNameParser;

const EMPTY_SPEC: &str = "the name of the work spec is empty";

impl clap::builder::TypedValueParser for SpecNameParser {
    type Value = Name;

    fn parse_ref(
        &self,
        command: &clap::Command,
        argument: Option<&clap::Arg>,
        value: &OsStr,
    ) -> Result<Name, clap::Error> {
        if value.is_empty() {
            let kind = clap::error::ErrorKind::ValueValidation;
            return Err(clap::Error::raw(kind, format!("{EMPTY_SPEC}\n")).with_cmd(command));
        }
        NameParser.parse_ref(command, argument, value)
    }
}

fn name_from(text: &OsStr) -> Result<Name, UnescapeError> {
    let bytes = unescape(text.as_bytes())?;
    Ok(match String::from_utf8(bytes) {
        Ok(text) => Name::from_text(text),
        Err(error) => Name::from_bytes(error.into_bytes()),
    })
}

/// The name as it is shown, and can be written.
pub(super) fn shown(name: &Name) -> String {
    escape(name.bytes())
}

/// The name as programs get it.
pub(super) fn as_json(name: &Name) -> Json {
    json::to_json(&Value::from(name))
}

/// A name, or a dash for none.
pub(super) fn shown_or_dash(name: Option<&Name>) -> String {
    name.map_or_else(|| "-".to_owned(), shown)
}

/// Some of many names, for a preview.
pub(super) fn examples<'n>(names: impl IntoIterator<Item = &'n Name>) -> String {
    const SHOWN: usize = 3;
    let mut names = names.into_iter();
    let some: Vec<String> = names.by_ref().take(SHOWN).map(shown).collect();
    let more = if names.next().is_some() { ", ..." } else { "" };
    format!("{}{more}", some.join(", "))
}

/// `1 work unit`, `2 work units`.
pub(super) fn units(count: u64) -> String {
    units_of(count, None)
}

/// `1 failed work unit`, `2 work units`.
pub(super) fn units_of(count: u64, status: Option<Status>) -> String {
    match status {
        Some(status) => counted(count, &format!("{status} work unit")),
        None => counted(count, "work unit"),
    }
}

/// `1 worker`, `2 workers`.
pub(super) fn counted(count: u64, thing: &str) -> String {
    format!("{count} {thing}{}", if count == 1 { "" } else { "s" })
}

/// The statuses by which units can be chosen.
pub(super) fn parse_status(text: &str) -> Result<Status, String> {
    let status = text.parse::<Status>().ok();
    status
        .filter(|status| !matches!(status, Status::Expired | Status::Retryable))
        .ok_or_else(|| "write available, pending, finished or failed".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_text_where_they_can_be() {
        let name = |text: &str| name_from(OsStr::new(text)).expect("a name");
        assert_eq!(name("ü").as_text(), Some("ü"));
        assert_eq!(
            (name(r"\xff").as_text(), name(r"\xff").bytes()),
            (None, &b"\xff"[..])
        );
        assert_eq!(shown(&name(r"a\\b")), r"a\\b");
        assert!(name_from(OsStr::new(r"a\b")).is_err());
    }

    #[test]
    fn a_preview_shows_some() {
        let names: Vec<Name> = ["a", "b", "c", "d"].map(Name::from).to_vec();
        assert_eq!(examples(&names[..2]), "a, b");
        assert_eq!(examples(&names), "a, b, c, ...");
    }
}
