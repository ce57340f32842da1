//! Running a program: its input, its output, and its end.

use super::collected::Collected;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, PidfdFlags, Signal, kill_process_group, pidfd_open};
use std::collections::VecDeque;
use std::io::{self, ErrorKind, Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::process::CommandExt;
use std::process::{Child, ChildStderr, ChildStdin, ChildStdout, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

/// How many bytes of the end of standard error are kept.
pub(super) const STDERR_BYTES_MAX: usize = 64 << 10;
/// How often to check whether a program is to be stopped.
const LOOK_EVERY: Duration = Duration::from_millis(200);
/// How many bytes are read at once.
const PIECE_BYTES: usize = 16 << 10;

/// Time limits of a program.
pub(super) struct Limits {
    pub(super) timeout: Option<Duration>,
    /// The time between SIGTERM and SIGKILL.
    pub(super) grace: Duration,
}

/// A program that has run.
pub(super) struct Ran {
    pub(super) status: ExitStatus,
    /// Why the worker stopped it, if it did.
    pub(super) stopped: Option<Stopped>,
    /// Its standard output.
    pub(super) stdout: Collected,
    /// The end of its standard error.
    pub(super) stderr: Vec<u8>,
}

/// Why the worker stopped a program.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Stopped {
    /// It ran for longer than this.
    TimedOut(Duration),
    /// Its units were cancelled.
    Cancelled,
}

/// Runs a program in its own process group, with `input` as its standard input, until it ends. If it runs for too long or
/// `is_cancelled` is true, the group gets SIGTERM, and SIGKILL after the grace time. This does not wait for processes that
/// the program leaves running, unless the worker stopped it.
///
/// The thread that starts the program waits for it, since the system regards that thread as the parent: a program may want
/// to end with its parent (`setpriv --pdeathsig`). Requesting that here would need a hook before exec, with which the
/// standard library forks instead of spawning, at a third to a half of the rate.
///
/// # Errors
/// If it can't be started.
pub(super) fn run(
    command: &mut Command,
    input: &[u8],
    limits: &Limits,
    is_cancelled: impl Fn() -> bool,
) -> io::Result<Ran> {
    let child = command
        .process_group(0)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()?;
    let mut run = Run::new(child)?;
    let stopped = run.attend(input, limits, is_cancelled);
    // Only now: until the program is waited for, no other process can have the id of the group.
    if stopped.as_ref().map_or(true, Option::is_some) {
        run.signal(Signal::KILL);
    }
    let status = run.child.wait()?;
    let stopped = stopped?;
    run.read_the_rest();
    Ok(Ran {
        status,
        stopped,
        stdout: run.stdout,
        stderr: run.stderr.into(),
    })
}

struct Run {
    child: Child,
    group: Pid,
    /// Readable when the program has ended.
    ended: OwnedFd,
    to_stdin: Option<ChildStdin>,
    from_stdout: Option<ChildStdout>,
    from_stderr: Option<ChildStderr>,
    stdout: Collected,
    stderr: VecDeque<u8>,
}

impl Run {
    fn new(mut child: Child) -> io::Result<Self> {
        let group = Pid::from_child(&child);
        let (to_stdin, from_stdout, from_stderr) =
            (child.stdin.take(), child.stdout.take(), child.stderr.take());
        let ready = pidfd_open(group, PidfdFlags::empty()).and_then(|ended| {
            to_stdin
                .iter()
                .try_for_each(|pipe| rustix::io::ioctl_fionbio(pipe, true))?;
            from_stdout
                .iter()
                .try_for_each(|pipe| rustix::io::ioctl_fionbio(pipe, true))?;
            from_stderr
                .iter()
                .try_for_each(|pipe| rustix::io::ioctl_fionbio(pipe, true))?;
            Ok(ended)
        });
        let ended = ready.inspect_err(|_| {
            // The program was not waited for yet, so the id is its own.
            let _ = kill_process_group(group, Signal::KILL);
            let _ = child.wait();
        })?;
        Ok(Self {
            child,
            group,
            ended,
            to_stdin,
            from_stdout,
            from_stderr,
            stdout: Collected::default(),
            stderr: VecDeque::new(),
        })
    }

    /// Writes its input and reads its output until it has ended. If the worker stopped it, this also waits until all
    /// processes that hold its output have ended, or until the grace time is over.
    fn attend(
        &mut self,
        mut input: &[u8],
        limits: &Limits,
        is_cancelled: impl Fn() -> bool,
    ) -> io::Result<Option<Stopped>> {
        let timeout = limits.timeout.map(|timeout| Instant::now() + timeout);
        let mut stopped: Option<(Stopped, Instant)> = None;
        let mut has_ended = false;
        loop {
            self.give(&mut input);
            let now = Instant::now();
            match stopped {
                None => {
                    let why = match timeout.zip(limits.timeout) {
                        _ if has_ended => return Ok(None),
                        Some((at, after)) if now >= at => Some(Stopped::TimedOut(after)),
                        _ => is_cancelled().then_some(Stopped::Cancelled),
                    };
                    if let Some(why) = why {
                        self.signal(Signal::TERM);
                        stopped = Some((why, now + limits.grace));
                    }
                }
                Some((why, kill_at)) => {
                    let is_quiet = self.from_stdout.is_none() && self.from_stderr.is_none();
                    if now >= kill_at || (has_ended && is_quiet) {
                        return Ok(Some(why));
                    }
                }
            }
            let deadline = stopped.map(|(_, kill_at)| kill_at).or(timeout);
            let left = deadline.map_or(LOOK_EVERY, |at| at.saturating_duration_since(now));
            has_ended |= self.wait(left.min(LOOK_EVERY), has_ended)?;
        }
    }

    /// Waits until something can be read or written or the program has ended. True if it has ended.
    fn wait(&mut self, at_most: Duration, has_ended: bool) -> io::Result<bool> {
        let (stdin, stdout, stderr) = (&self.to_stdin, &self.from_stdout, &self.from_stderr);
        let mut waiting = Vec::with_capacity(4);
        if !has_ended {
            waiting.push(PollFd::new(&self.ended, PollFlags::IN));
        }
        waiting.extend(stdin.iter().map(|pipe| PollFd::new(pipe, PollFlags::OUT)));
        waiting.extend(stdout.iter().map(|pipe| PollFd::new(pipe, PollFlags::IN)));
        waiting.extend(stderr.iter().map(|pipe| PollFd::new(pipe, PollFlags::IN)));
        let timeout = Timespec {
            tv_sec: 0,
            tv_nsec: i64::from(at_most.subsec_nanos()),
        };
        match poll(&mut waiting, Some(&timeout)) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
        let ended = !has_ended
            && waiting
                .first()
                .is_some_and(|first| !first.revents().is_empty());
        self.read_what_is_there();
        Ok(ended)
    }

    /// Writes as much of the input as the pipe takes. A program need not read its input.
    fn give(&mut self, input: &mut &[u8]) {
        while let Some(pipe) = &mut self.to_stdin {
            match pipe.write(input) {
                Ok(written) => *input = &input[written..],
                Err(error) if error.kind() == ErrorKind::WouldBlock => return,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(_) => *input = &[],
            }
            if input.is_empty() {
                self.to_stdin = None;
            }
        }
    }

    /// Reads a piece of each output. True if there was one.
    fn read_what_is_there(&mut self) -> bool {
        let stdout = &mut self.stdout;
        let from_stdout = read(&mut self.from_stdout, |piece| stdout.push(piece));
        let stderr = &mut self.stderr;
        let from_stderr = read(&mut self.from_stderr, |piece| {
            stderr.extend(piece);
            let surplus = stderr.len().saturating_sub(STDERR_BYTES_MAX);
            stderr.drain(..surplus);
        });
        from_stdout || from_stderr
    }

    /// Reads what the program has left in the pipes, up to a limit: other processes may hold the pipes and go on writing.
    fn read_the_rest(&mut self) {
        const PIECES_MAX: usize = 256;
        for _ in 0..PIECES_MAX {
            if !self.read_what_is_there() {
                return;
            }
        }
    }

    fn signal(&self, signal: Signal) {
        // This fails if all processes of the group have ended, which is fine.
        let _ = kill_process_group(self.group, signal);
    }
}

/// Reads one piece if there is one, and closes the pipe at its end. True if there was one.
fn read(pipe: &mut Option<impl Read>, mut take: impl FnMut(&[u8])) -> bool {
    let Some(open) = pipe else { return false };
    let mut piece = [0; PIECE_BYTES];
    match open.read(&mut piece) {
        Ok(0) => *pipe = None,
        Ok(count) => {
            take(&piece[..count]);
            return true;
        }
        Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => {}
        Err(_) => *pipe = None,
    }
    false
}
