//! `ui`: opens the web page.

use super::output::note;
use super::server::Server;
use std::error::Error;
use std::io::Write;
use std::process::{Command, Stdio};

/// The arguments of `ui`.
#[derive(clap::Args)]
#[command(after_long_help = "\
Prints the address of the web page (docs/page.md), which the daemon tells, and opens it in a browser if there is a desktop.

If a token is shown, the address signs in with that token. It can be used once, within a minute.")]
pub(in crate::cli) struct UiArgs {
    /// Only print its address
    #[arg(short, long)]
    print: bool,

    #[command(flatten)]
    server: Server,
}

/// What opens a URL.
const OPENERS: [&str; 2] = ["xdg-open", "open"];

/// Prints the address of the web page, and opens it.
pub(super) fn ui(args: &UiArgs) -> Result<(), Box<dyn Error>> {
    let mut daemon = args.server.connect()?;
    let mut urls = daemon.http().iter().filter(|url| url.starts_with("http"));
    let Some(url) = urls.next() else {
        let server = daemon.description();
        return Err(format!(
            "{server} at {} serves no web page: start it with --http HOST:PORT",
            args.server.address()
        )
        .into());
    };
    let page = page_of(url);
    let page = match args.server.has_token()? {
        false => page,
        true => format!(
            "{page}sign-in?code={}",
            daemon.client.create_sign_in_code()?
        ),
    };
    writeln!(std::io::stdout(), "{page}")?;
    if !args.print && has_desktop() && !OPENERS.into_iter().any(|program| open(program, &page)) {
        note("no program opens it: neither xdg-open nor open is there, or they failed");
    }
    Ok(())
}

/// The page below the URL at which HTTP is served. An address that stands for all is that of this machine.
fn page_of(url: &str) -> String {
    let url = url
        .replacen("//0.0.0.0:", "//127.0.0.1:", 1)
        .replacen("//[::]:", "//[::1]:", 1);
    format!("{}/ui/", url.trim_end_matches('/'))
}

/// True if a browser may have a place to show something.
fn has_desktop() -> bool {
    let is_set = |name| std::env::var_os(name).is_some_and(|value| !value.is_empty());
    cfg!(target_os = "macos") || is_set("DISPLAY") || is_set("WAYLAND_DISPLAY")
}

fn open(program: &str, url: &str) -> bool {
    let mut command = Command::new(program);
    command.arg(url).stdin(Stdio::null()).stdout(Stdio::null());
    command.stderr(Stdio::null());
    command.status().is_ok_and(|status| status.success())
}

#[cfg(test)]
mod tests {
    use super::page_of;

    #[test]
    fn the_page_is_below_the_base_path_of_an_address_that_can_be_opened() {
        for (url, page) in [
            ("http://127.0.0.1:5980", "http://127.0.0.1:5980/ui/"),
            ("http://0.0.0.0:80/jobs/", "http://127.0.0.1:80/jobs/ui/"),
            ("http://[::]:80", "http://[::1]:80/ui/"),
        ] {
            assert_eq!(page_of(url), page);
        }
    }
}
