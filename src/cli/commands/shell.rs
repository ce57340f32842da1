//! `completions` and `man`: shell completions and manual pages.

use clap::CommandFactory;
use clap_complete::Shell;
use std::error::Error;
use std::io::{self, Write};
use std::path::PathBuf;

/// The arguments of `completions`.
#[derive(clap::Args)]
#[command(after_long_help = "\
For bash: coordinated completions bash > ~/.local/share/bash-completion/completions/coordinated")]
pub(in crate::cli) struct CompletionsArgs {
    /// The shell
    #[arg(value_name = "SHELL")]
    shell: Shell,
}

/// The arguments of `man`.
#[derive(clap::Args)]
#[command(after_long_help = "To read one: coordinated man retry | man -l -")]
pub(in crate::cli) struct ManArgs {
    /// The command whose page to print; by default the page of coordinated itself
    #[arg(value_name = "COMMAND", conflicts_with = "dir")]
    command: Option<String>,

    /// Write all pages into this folder
    #[arg(long, value_name = "DIR")]
    dir: Option<PathBuf>,
}

/// Prints the completions for a shell.
pub(super) fn completions(args: &CompletionsArgs) -> Result<(), Box<dyn Error>> {
    let mut script = Vec::new();
    clap_complete::generate(
        args.shell,
        &mut crate::cli::Cli::command(),
        "coordinated",
        &mut script,
    );
    io::stdout().write_all(&script)?;
    Ok(())
}

/// Prints one manual page, or writes all of them to a folder.
pub(super) fn man(args: &ManArgs) -> Result<(), Box<dyn Error>> {
    let mut whole = crate::cli::Cli::command();
    whole.build();
    if let Some(dir) = &args.dir {
        clap_mangen::generate_to(whole, dir)
            .map_err(|error| format!("can't write manual pages to {}: {error}", dir.display()))?;
        return Ok(());
    }
    let command = match &args.command {
        None => whole,
        Some(name) => whole.find_subcommand(name).cloned().ok_or_else(|| {
            format!("there is no command {name}; `coordinated --help` lists them")
        })?,
    };
    let mut page = Vec::new();
    clap_mangen::Man::new(command).render(&mut page)?;
    io::stdout().write_all(&page)?;
    Ok(())
}
