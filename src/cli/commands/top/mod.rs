//! `top`: a live view of a daemon on the whole screen.
//!
//! [`watcher`] polls the daemon on its own thread, so that keys work while an answer is outstanding; [`state`] has the
//! last answer and the selection; [`draw`] draws it. Only this file uses the terminal.

mod draw;
mod state;
#[cfg(test)]
mod tests;
mod watcher;

use super::server::Server;
use crate::cli::values::parse_duration;
use ratatui::DefaultTerminal;
use ratatui::crossterm::event::{self, KeyEvent, KeyEventKind};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::Signals;
use state::{Action, State};
use std::error::Error;
use std::io::{self, IsTerminal};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::thread;
use std::time::Duration;
use watcher::{Update, Watcher};

/// How often to redraw without an event, for values that change with time.
const DRAW_INTERVAL: Duration = Duration::from_secs(1);

/// The arguments of `top`.
#[derive(clap::Args)]
#[command(after_long_help = "\
Shows the work specs with their progress (a bar of finished, pending, failed and available units), the rate of \
completed units and the waiting time, and for the selected work spec its running units with their workers and its \
latest failures. Values that a server does not report are left out.

  Up, Down, PgUp, PgDn, Home, End   select a work spec
  p, r                              pause it, resume it
  t                                 retry its failed units, after confirmation
  s                                 sort by the next column
  q, Ctrl-C                         quit

While no daemon answers it shows the error and keeps trying.")]
pub(in crate::cli) struct TopArgs {
    /// Time between two updates
    #[arg(long, value_name = "TIME", default_value = "1s", value_parser = parse_interval)]
    interval: Duration,

    #[command(flatten)]
    server: Server,
}

fn parse_interval(text: &str) -> Result<Duration, String> {
    match parse_duration(text)? {
        interval if interval < Duration::from_millis(10) => {
            Err("expected a duration of at least 10ms".to_owned())
        }
        interval => Ok(interval),
    }
}

/// What the view reacts to.
enum Event {
    Update(Update),
    Key(KeyEvent),
    /// The terminal was resized.
    Resized,
    /// A signal, or the terminal is gone.
    Quit,
}

/// Shows the view until the user quits.
pub(super) fn top(args: &TopArgs) -> Result<(), Box<dyn Error>> {
    if !(io::stdin().is_terminal() && io::stdout().is_terminal()) {
        return Err("top needs a terminal; use `coordinated summary --watch` without one".into());
    }
    let (sender, events) = channel();
    watch_signals(sender.clone())?;
    let watcher = Watcher::start(args.server.clone(), args.interval, {
        let sender = sender.clone();
        move |update| sender.send(Event::Update(update)).is_ok()
    });
    // `Screen` restores the terminal on every return. ratatui also restores it before a panic prints its message.
    let terminal = ratatui::try_init().inspect_err(|_| ratatui::restore());
    let mut screen = Screen(terminal?);
    read_keys(sender);
    let mut state = State::new(args.server.address().to_string());
    run(&mut screen.0, &mut state, &watcher, &events)
}

struct Screen(DefaultTerminal);

impl Drop for Screen {
    fn drop(&mut self) {
        // If the terminal is gone, there is nothing to restore.
        let _ = ratatui::try_restore();
    }
}

fn run(
    terminal: &mut DefaultTerminal,
    state: &mut State,
    watcher: &Watcher,
    events: &Receiver<Event>,
) -> Result<(), Box<dyn Error>> {
    loop {
        terminal.draw(|frame| draw::draw(state, frame))?;
        let first = match events.recv_timeout(DRAW_INTERVAL) {
            Ok(event) => Some(event),
            Err(RecvTimeoutError::Timeout) => None,
            Err(RecvTimeoutError::Disconnected) => return Ok(()),
        };
        if watcher.has_ended() {
            return Err("the thread that polls the daemon has crashed; this is a bug".into());
        }
        // All waiting events are handled before the next frame, which may be slow to draw.
        for event in first.into_iter().chain(events.try_iter()) {
            match event {
                Event::Quit => return Ok(()),
                Event::Resized => {}
                Event::Update(update) => {
                    if let Some(command) = state.update(update) {
                        watcher.send(command);
                    }
                }
                Event::Key(key) => match state.press(key) {
                    Some(Action::Quit) => return Ok(()),
                    Some(Action::Command(command)) => watcher.send(command),
                    None => {}
                },
            }
        }
    }
}

/// Quits on the signals that end programs. (In the view Ctrl-C is a key.)
fn watch_signals(sender: Sender<Event>) -> io::Result<()> {
    let mut signals = Signals::new([SIGTERM, SIGHUP, SIGINT])?;
    thread::spawn(move || {
        for _ in signals.forever() {
            if sender.send(Event::Quit).is_err() {
                return;
            }
        }
    });
    Ok(())
}

fn read_keys(sender: Sender<Event>) {
    thread::spawn(move || {
        loop {
            let event = match event::read() {
                Ok(event::Event::Key(key)) if key.kind != KeyEventKind::Release => Event::Key(key),
                Ok(event::Event::Resize(..)) => Event::Resized,
                Ok(_) => continue,
                Err(_) => Event::Quit,
            };
            let is_end = matches!(event, Event::Quit);
            if sender.send(event).is_err() || is_end {
                return;
            }
        }
    });
}
