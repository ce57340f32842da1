//! `create`: creates a work spec without a file.

use super::names::{SpecNameParser, shown};
use super::output::{Output, note};
use super::schedule::print_next_run;
use super::server::Server;
use super::set_spec::check_successors;
use super::spec_file::{Key, Node, SpecFile};
use coordinated_client::Name;
use std::error::Error;

/// The arguments of `create`.
#[derive(clap::Args)]
#[command(after_long_help = "\
The definition has the name and the keys given by --set:

  coordinated create squares --set weight=5 --set 'command=[sh, -c, \"echo {key}\"]' --set runtime=exec

docs/protocol.md lists the keys of a work spec, in \"Work spec keys\". An existing work spec is not changed: use \
`load` to replace its definition, or `control` to change how it is scheduled.")]
pub(in crate::cli) struct CreateArgs {
    /// The name of the work spec
    #[arg(value_name = "SPEC", value_parser = SpecNameParser)]
    spec: Name,

    /// A key of the definition and its value in YAML; repeatable
    #[arg(long, value_name = "KEY=VALUE", value_parser = parse_entry)]
    set: Vec<(String, Node)>,

    #[command(flatten)]
    server: Server,
}

fn parse_entry(text: &str) -> Result<(String, Node), String> {
    match text.split_once('=') {
        None | Some(("", _)) => Err("expected KEY=VALUE".to_owned()),
        Some(("name", _)) => Err("the name is given by SPEC".to_owned()),
        Some((key, value)) => Ok((key.to_owned(), Node::parse(value)?)),
    }
}

/// Creates a work spec.
pub(super) fn create(args: &CreateArgs) -> Result<(), Box<dyn Error>> {
    let name = shown(&args.spec);
    let Some(text) = args.spec.as_text() else {
        return Err(format!("the name of a work spec must be UTF-8; {name} is not").into());
    };
    let mut entries: Vec<(Key, Node)> = Vec::new();
    for (key, value) in &args.set {
        if entries.iter().any(|(known, _)| known.text == *key) {
            return Err(format!("--set {key} is given twice").into());
        }
        let key = Key {
            line: 0,
            text: key.clone(),
        };
        entries.push((key, value.clone()));
    }
    let arguments = SpecFile::of_arguments("--set");
    let spec = arguments.check(text.to_owned(), entries)?;
    let mut daemon = args.server.connect()?;
    let client = &mut daemon.client;
    if client.get_work_spec(&args.spec)?.is_some() {
        return Err(format!("work spec {name} already exists").into());
    }
    check_successors(&arguments, std::iter::once(&spec), client)?;
    for warning in &spec.warnings {
        note(warning);
    }
    client.set_work_spec(&spec.definition)?;
    let mut output = Output::new();
    output.line(format!("Created {name}."))?;
    print_next_run(&mut daemon, &args.spec, &mut output)?;
    Ok(output.flush()?)
}
