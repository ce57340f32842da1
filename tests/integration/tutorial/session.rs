//! A person at a terminal: bash in it, commands that are typed, and what is then to be seen.

use super::document::Command;
use pty_process::Size;
use pty_process::blocking::{Pty, open};
use std::fs::File;
use std::io::{Read, Write};
use std::num::NonZeroU16;
use std::os::fd::{AsFd, AsRawFd};
use std::path::{Path, PathBuf};
use std::process::Child;
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};
use tempfile::TempDir;

/// How long a command may take: one of them compiles all there is, maybe beside other tests.
const PATIENCE: Duration = Duration::from_secs(400);

/// How long what a command in the background prints may take.
const PATIENCE_IN_BACKGROUND: Duration = Duration::from_secs(30);

/// bash's prompt here: a character that nothing else prints.
const PROMPT: u8 = 0x06;

/// As wide as the document's output, and as high as that of any command.
const ROWS: NonZeroU16 = NonZeroU16::new(1_000).unwrap();
const COLUMNS: NonZeroU16 = NonZeroU16::new(120).unwrap();

/// bash on a terminal, in a home of its own. Dropped, it ends with all that was started in it.
pub(crate) struct Session {
    bash: Child,
    keyboard: Pty,
    received: Receiver<Vec<u8>>,
    /// After the processes, so that it goes last.
    home: TempDir,
}

impl Session {
    /// Starts bash in a checkout of the repository.
    ///
    /// What the environment decides is set so that nothing leaves the temporary home, and no port is taken: the
    /// daemon listens on a socket there. Only what cargo has downloaded is used.
    pub(crate) fn start() -> Self {
        let home = TempDir::new().expect("a temporary folder");
        let (keyboard, screen) = open().expect("a terminal");
        keyboard
            .resize(Size::new(ROWS.get(), COLUMNS.get()))
            .expect("resize");
        echo_nothing(&keyboard);
        let socket = format!("unix:{}", home.path().join("socket").display());
        let mut command = pty_process::blocking::Command::new("bash")
            .args(["--noprofile", "--norc", "--noediting", "-i"])
            .current_dir(env!("CARGO_MANIFEST_DIR"));
        for (name, _) in std::env::vars_os() {
            let name = name.to_string_lossy();
            if name.starts_with("COORDINATED_") || name.starts_with("GIT_") {
                command = command.env_remove(&*name);
            }
        }
        let bash = command
            .env_remove("PROMPT_COMMAND")
            .env("PS1", char::from(PROMPT).to_string())
            .env("PS2", "")
            .env("TERM", "xterm-256color")
            .env("LC_ALL", "C.UTF-8")
            .env("HISTFILE", "/dev/null")
            .env("COORDINATED_LISTEN", &socket)
            .env("COORDINATED_HTTP", "127.0.0.1:0")
            .env("COORDINATED_SERVER", &socket)
            .env("PATH", path(&home.path().join(".cargo/bin")))
            .envs(of_cargo(home.path()))
            .env("HOME", home.path())
            .spawn(screen)
            .expect("bash starts");
        let descriptor = keyboard.as_fd().try_clone_to_owned().expect("clone");
        let mut reader = File::from(descriptor);
        let (sender, received) = channel();
        std::thread::spawn(move || {
            let mut piece = [0; 4096];
            // An error is the end: all have closed their side.
            while let Ok(count @ 1..) = reader.read(&mut piece) {
                if sender.send(piece[..count].to_vec()).is_err() {
                    break;
                }
            }
        });
        let mut session = Self {
            bash,
            keyboard,
            received,
            home,
        };
        session.wait_for_prompt();
        // If the test is killed, the terminal hangs up, and nobody else would end what runs.
        let trap = "trap 'kill -KILL $(jobs -p); exit' HUP";
        writeln!(session.keyboard, "{trap}").expect("type");
        session.wait_for_prompt();
        session
    }

    pub(crate) fn home(&self) -> &Path {
        self.home.path()
    }

    /// Types commands, each when the prompt is there again.
    ///
    /// # Errors
    /// At the first one that does not print what the document says: both, for people.
    pub(crate) fn run(&mut self, commands: &[Command]) -> Result<(), String> {
        for command in commands {
            for line in &command.typed {
                writeln!(self.keyboard, "{line}").expect("type");
            }
            let seen = if command.is_in_background() {
                self.see(PATIENCE_IN_BACKGROUND, |seen, prompted| {
                    prompted && command.prints(seen)
                })
            } else {
                self.see(PATIENCE, |_, prompted| prompted)
            };
            match seen {
                Ok(seen) if command.prints(&seen) => {}
                Ok(seen) | Err(seen) => {
                    return Err(format!(
                        "line {}: $ {}\nprints, as the document has it:\n{}\nbut here:\n{seen}",
                        command.line,
                        command.typed.join("\n"),
                        command.printed.join("\n"),
                    ));
                }
            }
        }
        Ok(())
    }

    fn wait_for_prompt(&self) {
        let seen = self.see(PATIENCE, |_, prompted| prompted);
        assert!(seen.is_ok(), "bash gives no prompt: {seen:?}");
    }

    /// Waits until the screen, empty at first, shows what is waited for: it is asked with the text on it, and
    /// whether there was a prompt. Gives the text; as an error if that does not come.
    fn see(
        &self,
        patience: Duration,
        is_enough: impl Fn(&str, bool) -> bool,
    ) -> Result<String, String> {
        let mut screen = vt100::Parser::new(ROWS, COLUMNS, 0);
        let mut prompted = false;
        let begin = Instant::now();
        loop {
            let left = patience.saturating_sub(begin.elapsed());
            let Ok(mut piece) = self.received.recv_timeout(left) else {
                return Err(screen.screen().contents());
            };
            prompted |= piece.contains(&PROMPT);
            piece.retain(|byte| *byte != PROMPT);
            screen.process(&piece);
            let text = screen.screen().contents();
            if is_enough(&text, prompted) {
                return Ok(text);
            }
        }
    }

    /// The processes that were started here and live, but for bash itself.
    pub(crate) fn processes(&self) -> Vec<i32> {
        let session = self.bash.id().to_string();
        let all = std::fs::read_dir("/proc").expect("/proc");
        let ids = all.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok());
        ids.filter(|id: &i32| {
            let stat = std::fs::read_to_string(format!("/proc/{id}/stat")).unwrap_or_default();
            // Behind the name, in parentheses: state, parent, process group, session.
            let fields = stat.rsplit_once(')').map_or("", |(_, rest)| rest);
            let mut fields = fields.split_whitespace();
            let lives = fields.next().is_some_and(|state| state != "Z");
            lives && fields.nth(2) == Some(&session) && id.to_string() != session
        })
        .collect()
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        // bash has not been waited for, so its id, and that of its session, are no other's. It goes first, as it
        // could start more. Killing fails for what has ended by itself, which is as well.
        let _ = self.bash.kill();
        for id in self.processes() {
            // SAFETY: kill takes any number.
            unsafe { libc::kill(id, libc::SIGKILL) };
        }
        let _ = self.bash.wait();
    }
}

/// What is typed is not to be seen, only what is printed.
fn echo_nothing(terminal: &Pty) {
    let descriptor = terminal.as_raw_fd();
    let mut settings = std::mem::MaybeUninit::<libc::termios>::uninit();
    // SAFETY: the terminal is open, and there is room for the settings, which are there if that is no error.
    unsafe {
        assert_eq!(libc::tcgetattr(descriptor, settings.as_mut_ptr()), 0);
        let mut settings = settings.assume_init();
        settings.c_lflag &= !libc::ECHO;
        assert_eq!(libc::tcsetattr(descriptor, libc::TCSANOW, &settings), 0);
    }
}

/// The folders of programs: the installed ones, the toolchain that runs this test, Python itself (the scripts
/// that choose among several Pythons take longer to start than it does), and those of whoever runs this test.
fn path(installed: &Path) -> std::ffi::OsString {
    let python = std::process::Command::new("python3")
        .args(["-c", "import sys; print(sys.executable)"])
        .output();
    let python = python.expect("the tutorial needs python3 on the PATH");
    let python = PathBuf::from(String::from_utf8_lossy(&python.stdout).trim());
    let parent = |program: &Path| program.parent().map(Path::to_owned);
    let first = [
        Some(installed.to_owned()),
        parent(Path::new(env!("CARGO"))),
        parent(&python),
    ];
    let others = std::env::var_os("PATH").unwrap_or_default();
    let folders = first
        .into_iter()
        .flatten()
        .chain(std::env::split_paths(&others));
    std::env::join_paths(folders).expect("no colons in folders")
}

/// What cargo is told: to install into the home and to compile quickly, in a folder that stays for the next time.
fn of_cargo(home: &Path) -> Vec<(&'static str, PathBuf)> {
    let old_home = std::env::var_os("HOME").map_or_else(PathBuf::new, PathBuf::from);
    let in_old_home =
        |name, folder| std::env::var_os(name).map_or_else(|| old_home.join(folder), PathBuf::from);
    let target = Path::new(env!("CARGO_TARGET_TMPDIR")).join("tutorial");
    vec![
        ("CARGO_HOME", in_old_home("CARGO_HOME", ".cargo")),
        ("RUSTUP_HOME", in_old_home("RUSTUP_HOME", ".rustup")),
        ("CARGO_INSTALL_ROOT", home.join(".cargo")),
        ("CARGO_TARGET_DIR", target),
        ("CARGO_NET_OFFLINE", "true".into()),
        ("CARGO_PROFILE_RELEASE_OPT_LEVEL", "0".into()),
        ("CARGO_PROFILE_RELEASE_LTO", "off".into()),
        ("CARGO_PROFILE_RELEASE_DEBUG", "0".into()),
        ("CARGO_PROFILE_RELEASE_CODEGEN_UNITS", "16".into()),
        ("CARGO_PROFILE_RELEASE_INCREMENTAL", "true".into()),
    ]
}
