//! `top`: a live view of a daemon, over the whole screen.
//!
//! [`watcher`] asks the daemon, on a thread of its own, so that keys are heard while an answer is waited for;
//! [`state`] is what is known and chosen; [`draw`] shows it. Only this file touches the terminal.

mod draw;
mod state;
#[cfg(test)]
mod tests;
mod watcher;

use super::server::Server;
use crate::cli::values::parse_duration;
use ratatui::DefaultTerminal;
use ratatui::crossterm::event::{self, Event, KeyEvent, KeyEventKind};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::Signals;
use state::{Deed, State};
use std::error::Error;
use std::io::{self, IsTerminal};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::thread;
use std::time::Duration;
use watcher::{Seen, Watcher};

/// How often the picture is drawn although nothing has happened, for what changes with time.
const DRAW_INTERVAL: Duration = Duration::from_secs(1);

/// What `top` can be told.
#[derive(clap::Args)]
#[command(after_long_help = "\
Shows the work specs with how far each has come (a bar of finished, pending, failed and available units), how \
many units a second get done, and how long units have been waiting; and of the chosen one the running units \
with their workers, and what went wrong of late. What a server can't tell is left out.

  Up, Down, PgUp, PgDn, Home, End   choose a work spec
  p, r                              pause it, resume it
  t                                 retry its failed units, after a question
  s                                 sort by the next column
  q, Ctrl-C                         quit

Without a daemon it says so, and keeps trying.")]
pub(in crate::cli) struct TopArgs {
    /// How often to look
    #[arg(long, value_name = "TIME", default_value = "1s", value_parser = parse_interval)]
    interval: Duration,

    #[command(flatten)]
    server: Server,
}

fn parse_interval(text: &str) -> Result<Duration, String> {
    match parse_duration(text)? {
        interval if interval < Duration::from_millis(10) => {
            Err("write a span of time of at least 10ms".to_owned())
        }
        interval => Ok(interval),
    }
}

/// What can happen.
enum Happening {
    Seen(Seen),
    Key(KeyEvent),
    /// The terminal has another size.
    Resized,
    /// A signal, or the end of the terminal.
    Quit,
}

/// Shows the view until somebody quits.
pub(super) fn top(args: &TopArgs) -> Result<(), Box<dyn Error>> {
    if !(io::stdin().is_terminal() && io::stdout().is_terminal()) {
        return Err(
            "top needs a terminal: `coordinated summary --watch` prints to anything".into(),
        );
    }
    let (happen, happenings) = channel();
    hear_signals(happen.clone())?;
    let watcher = Watcher::start(args.server.clone(), args.interval, {
        let happen = happen.clone();
        move |seen| happen.send(Happening::Seen(seen)).is_ok()
    });
    // The terminal's settings are put back at the end of this, however it comes. A panic prints its message
    // after that: ratatui sees to it.
    let terminal = ratatui::try_init().inspect_err(|_| ratatui::restore());
    let mut screen = Screen(terminal?);
    hear_keys(happen);
    let mut state = State::new(args.server.address().to_string());
    run(&mut screen.0, &mut state, &watcher, &happenings)
}

struct Screen(DefaultTerminal);

impl Drop for Screen {
    fn drop(&mut self) {
        // If the terminal is gone, there is nothing to be put back.
        let _ = ratatui::try_restore();
    }
}

fn run(
    terminal: &mut DefaultTerminal,
    state: &mut State,
    watcher: &Watcher,
    happenings: &Receiver<Happening>,
) -> Result<(), Box<dyn Error>> {
    loop {
        terminal.draw(|frame| draw::draw(state, frame))?;
        let first = match happenings.recv_timeout(DRAW_INTERVAL) {
            Ok(happening) => Some(happening),
            Err(RecvTimeoutError::Timeout) => None,
            Err(RecvTimeoutError::Disconnected) => return Ok(()),
        };
        if watcher.has_ended() {
            return Err("the view ended: its own fault".into());
        }
        // All that waits is taken before the next picture, which may be slow to draw.
        for happening in first.into_iter().chain(happenings.try_iter()) {
            match happening {
                Happening::Quit => return Ok(()),
                Happening::Resized => {}
                Happening::Seen(seen) => {
                    if let Some(order) = state.see(seen) {
                        watcher.order(order);
                    }
                }
                Happening::Key(key) => match state.press(key) {
                    Some(Deed::Quit) => return Ok(()),
                    Some(Deed::Order(order)) => watcher.order(order),
                    None => {}
                },
            }
        }
    }
}

/// Hears the signals that end programs. (In the view Ctrl-C is a key.)
fn hear_signals(happen: Sender<Happening>) -> io::Result<()> {
    let mut signals = Signals::new([SIGTERM, SIGHUP, SIGINT])?;
    thread::spawn(move || {
        for _ in signals.forever() {
            if happen.send(Happening::Quit).is_err() {
                return;
            }
        }
    });
    Ok(())
}

fn hear_keys(happen: Sender<Happening>) {
    thread::spawn(move || {
        loop {
            let happening = match event::read() {
                Ok(Event::Key(key)) if key.kind != KeyEventKind::Release => Happening::Key(key),
                Ok(Event::Resize(..)) => Happening::Resized,
                Ok(_) => continue,
                Err(_) => Happening::Quit,
            };
            let is_end = matches!(happening, Happening::Quit);
            if happen.send(happening).is_err() || is_end {
                return;
            }
        }
    });
}
