//! `flow`: many work specs from one file, checked together.

use super::names::shown;
use super::output::{Output, note};
use super::server::Server;
use super::set_spec::{check_successors, set_work_spec};
use super::spec_file::{CheckedSpec, Content, Key, Node, SpecFile, spec_value, unknown_key};
use coordinated_client::cbor::Value;
use serde_json::Value as Json;
use std::collections::BTreeMap;
use std::error::Error;
use std::path::{Path, PathBuf};

/// What `flow` can be told.
#[derive(clap::Args)]
#[command(after_long_help = "\
Under the key `flows` stand work specs by name, also in groups within each other, whose names are put in front:

  flows:
    sums:
      double: {min_gb: 1, module: jobs, run_function: double, then: sums.add}
      add: {min_gb: 1, module: jobs, run_function: add}

makes sums.double and sums.add. A map with min_gb, with anything but maps in it, or with nothing in it, is a work spec, \
and the others are groups. What `control` has set of work specs that are there stays, unless the file has a key for \
it. All is checked before anything is set: names, the types of known keys, and that each `then` is in the \
file or on the daemon. Unknown keys are for the workers, and told of in case they are slips.")]
pub(in crate::cli) struct FlowArgs {
    /// The YAML or JSON file
    #[arg(value_name = "FILE")]
    file: PathBuf,

    /// A YAML file that each work spec gets as its `config`, with what its own has laid over it
    #[arg(short = 'c', long, value_name = "FILE")]
    config: Option<PathBuf>,

    #[command(flatten)]
    server: Server,
}

/// A work spec of the file, checked, and where it stands.
struct Placed {
    spec: CheckedSpec,
    line: u64,
}

/// Sets the work specs of a file.
pub(super) fn flow(args: &FlowArgs) -> Result<(), Box<dyn Error>> {
    let config = args.config.as_ref().map(|path| read_config(path));
    let config = config.transpose()?;
    let (file, root) = SpecFile::read(&args.file)?;
    let mut specs = Specs {
        file: &file,
        found: BTreeMap::new(),
        warnings: Vec::new(),
    };
    specs.read_root(root.content)?;
    let Specs {
        found, warnings, ..
    } = specs;
    let mut daemon = args.server.connect()?;
    let specs = found.values().map(|placed| &placed.spec);
    check_successors(&file, specs, &mut daemon.client)?;
    let of_specs = found.values().flat_map(|placed| &placed.spec.warnings);
    for warning in warnings.iter().chain(of_specs) {
        note(warning);
    }
    let mut set = Vec::new();
    for Placed { spec, .. } in found.values() {
        let definition = match &config {
            Some(config) => {
                let own = spec.definition.get("config").cloned();
                let whole = own.map_or_else(|| config.clone(), |own| overlaid(config.clone(), own));
                spec.with("config", whole)
            }
            None => spec.definition.clone(),
        };
        let name = shown(&spec.name);
        set_work_spec(&mut daemon, &spec.name, &definition).map_err(|error| {
            let (set, all) = (set.len(), found.len());
            format!("{name}: {error}; {set} of {all} work specs were set")
        })?;
        set.push(name);
    }
    // Only now, as it would end if nobody read it.
    let mut output = Output::new();
    for name in set {
        output.line(format!("Set {name}."))?;
    }
    Ok(output.flush()?)
}

/// The work specs that are found in a file, by name.
struct Specs<'f> {
    file: &'f SpecFile,
    found: BTreeMap<String, Placed>,
    warnings: Vec<String>,
}

impl Specs<'_> {
    fn read_root(&mut self, root: Content) -> Result<(), String> {
        let missing = "expected a map with work specs under the key flows";
        let Content::Map(entries) = root else {
            return Err(self.file.at(0, missing));
        };
        let mut flows = None;
        for (key, node) in entries {
            match key.text.as_str() {
                "flows" => flows = Some(node),
                // For the Python command.
                "yakonfig_modules" => {}
                other => {
                    let unknown = unknown_key(other, ["flows", "yakonfig_modules"].into_iter());
                    self.warnings.push(self.file.at(key.line, &unknown));
                }
            }
        }
        match flows.map(|node| node.content) {
            Some(Content::Map(entries)) if !entries.is_empty() => self.read_group("", entries),
            _ => Err(self.file.at(0, missing)),
        }
    }

    fn read_group(&mut self, prefix: &str, entries: Vec<(Key, Node)>) -> Result<(), String> {
        for (key, node) in entries {
            let name = format!("{prefix}{}", key.text);
            match node.content {
                // `name:` with nothing behind it.
                Content::Other(Json::Null) => self.read_spec(name, key.line, Vec::new())?,
                Content::Map(entries) if is_spec(&entries) => {
                    self.read_spec(name, key.line, entries)?;
                }
                Content::Map(entries) => self.read_group(&format!("{name}."), entries)?,
                Content::Other(_) => {
                    let problem = format!("{name}: expected a work spec, a map with its keys");
                    return Err(self.file.at(key.line, &problem));
                }
            }
        }
        Ok(())
    }

    fn read_spec(
        &mut self,
        name: String,
        line: u64,
        entries: Vec<(Key, Node)>,
    ) -> Result<(), String> {
        if name.is_empty() {
            return Err(self.file.at(line, "every work spec needs a name"));
        }
        if let Some(first) = self.found.get(&name) {
            let problem = format!("{name} is there already, in line {}", first.line);
            return Err(self.file.at(line, &problem));
        }
        for (key, node) in &entries {
            if let ("name", Content::Other(Json::String(own))) = (key.text.as_str(), &node.content)
                && *own != name
            {
                let what = format!("the work spec is named {name}, by its place, and not {own}");
                self.warnings.push(self.file.at(key.line, &what));
            }
        }
        let spec = self.file.check(name.clone(), entries)?;
        self.found.insert(name, Placed { spec, line });
        Ok(())
    }
}

/// As the Python command tells the two apart; and a map with nothing, or with anything but maps in it, can be no group.
fn is_spec(entries: &[(Key, Node)]) -> bool {
    let mut all = entries.iter();
    entries.is_empty()
        || all.any(|(key, node)| key.text == "min_gb" || !matches!(node.content, Content::Map(_)))
}

fn read_config(path: &Path) -> Result<Value, String> {
    let (_, root) = SpecFile::read(path)?;
    spec_value(&root.into_json()).map_err(|error| format!("{}: {error}", path.display()))
}

/// One configuration laid over another: maps entry by entry, where null takes an entry away, and all else as a
/// whole.
fn overlaid(base: Value, overlay: Value) -> Value {
    let (Value::Map(mut entries), Value::Map(over)) = (base, overlay.clone()) else {
        return overlay;
    };
    for (key, value) in over {
        let at = entries.iter().position(|(known, _)| *known == key);
        match (at, value.is_null()) {
            (Some(at), true) => drop(entries.remove(at)),
            (Some(at), false) => {
                let (_, below) = entries.swap_remove(at);
                entries.push((key, overlaid(below, value)));
            }
            (None, true) => {}
            (None, false) => entries.push((key, value)),
        }
    }
    Value::Map(entries)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_configuration_is_laid_over_another_entry_by_entry() {
        let map =
            |text: &str| spec_value(&serde_json::from_str(text).expect("JSON")).expect("a value");
        let whole = overlaid(
            map(r#"{"a": {"x": 1, "y": 2}, "b": [1, 2], "c": 3}"#),
            map(r#"{"a": {"y": 3, "z": 4}, "b": [5], "c": null, "d": null}"#),
        );
        assert_eq!(
            coordinated_client::cbor::json::to_json(&whole),
            serde_json::json!({"a": {"x": 1, "y": 3, "z": 4}, "b": [5]})
        );
    }
}
