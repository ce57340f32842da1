//! The list of commands in `coordinated --help`, under headings.
//!
//! clap has headings for flags, but none for subcommands, so the list is part of the help's template.

use clap::Subcommand;
use clap::builder::{StyledStr, Styles};
use std::fmt::Write;

/// Every command, under the heading that a reader would look for.
const GROUPS: &[(&str, &[&str])] = &[
    ("Run the daemon", &["serve"]),
    (
        "Load and run work",
        &["load", "addwork", "add", "flow", "create", "work"],
    ),
    (
        "Look",
        &[
            "summary",
            "status",
            "top",
            "ui",
            "work_specs",
            "work_spec",
            "work_units",
            "work_unit",
            "failed",
            "why",
            "workers",
            "worker_stats",
            "locks",
            "config",
            "audit",
        ],
    ),
    (
        "Control",
        &[
            "pause",
            "resume",
            "control",
            "prioritize",
            "retry",
            "cancel",
            "clear",
            "delete",
        ],
    ),
    (
        "Database",
        &["backup", "restore", "check", "compact", "sql"],
    ),
    ("Tools", &["token", "rpc", "bench", "completions", "man"]),
];

/// The template of the help of a program with the commands `C`, each with its first line of help.
pub(super) fn template<C: Subcommand>() -> StyledStr {
    let commands = C::augment_subcommands(clap::Command::new(""));
    let styles = Styles::default();
    let (header, literal) = (styles.get_header(), styles.get_literal());
    let mut text = "{about-with-newline}\n{usage-heading} {usage}\n\n".to_owned();
    for (heading, names) in GROUPS {
        let _ = writeln!(text, "{header}{heading}:{header:#}");
        for name in *names {
            let command = commands.find_subcommand(name);
            let about = command.and_then(clap::Command::get_about);
            let about = about.map(StyledStr::to_string).unwrap_or_default();
            let _ = writeln!(text, "  {literal}{name:12}{literal:#}  {about}");
        }
        text.push('\n');
    }
    let _ = write!(
        text,
        "{header}Options:{header:#}\n{{options}}{{after-help}}"
    );
    text.into()
}

#[cfg(test)]
mod tests {
    use super::GROUPS;
    use crate::cli::Cli;
    use clap::CommandFactory;

    #[test]
    fn every_command_is_listed_once_with_a_line_that_fits_a_terminal() {
        let program = Cli::command();
        let commands = program.get_subcommands().filter(|one| !one.is_hide_set());
        let mut existing: Vec<&str> = commands.map(clap::Command::get_name).collect();
        let listed = GROUPS.iter().flat_map(|(_, names)| *names);
        let mut listed: Vec<&str> = listed.copied().collect();
        existing.sort_unstable();
        listed.sort_unstable();
        assert_eq!(listed, existing);

        let help = Cli::command().render_help().to_string();
        for name in existing {
            let line = format!("  {name:12}  ");
            let lines: Vec<&str> = help.lines().filter(|has| has.starts_with(&line)).collect();
            let [one] = lines.as_slice() else {
                panic!("{name} is in {} lines of {help}", lines.len());
            };
            assert!(one.len() > line.len() && one.len() <= 80, "{one}");
        }
    }
}
