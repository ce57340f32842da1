//! Waits for the end of processes that nobody else waits for, as the first process of a container has to.

use coordinated_client::{Error, Result};
use rustix::process::{WaitOptions, wait};
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::thread;
use std::time::Duration;

/// How often it is looked for processes that have ended.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// Runs a function on a thread of its own, and gives what it gives. Meanwhile processes that have lost their parents,
/// and so become children of this one where it is process 1 of a container, are waited for when they end, so that
/// none of them stays as a zombie. To be called by the program's first thread, which must start no processes itself.
///
/// # Errors
/// Those of the function; `NoThread`.
pub(super) fn reap_during<T: Send>(run: impl FnOnce() -> Result<T> + Send) -> Result<T> {
    thread::scope(|scope| {
        let (running, has_ended) = channel::<()>();
        let thread = thread::Builder::new().spawn_scoped(scope, move || {
            let _running = running;
            run()
        });
        let thread = thread.map_err(Error::NoThread)?;
        while has_ended.recv_timeout(LOOK_EVERY) == Err(RecvTimeoutError::Timeout) {
            reap();
        }
        thread
            .join()
            .unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    })
}

fn reap() {
    // Children of this thread only: the system gives those without parents to a process's first thread. The programs
    // that are run for units are children of the threads that have started them, and their exit codes are for those.
    let of_this_thread = WaitOptions::from_bits_retain(libc::__WNOTHREAD.cast_unsigned());
    while let Ok(Some(_)) = wait(WaitOptions::NOHANG | of_this_thread) {}
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::{Child, Command};

    fn start() -> Child {
        Command::new("true").spawn().expect("start")
    }

    fn state(child: &Child) -> Option<String> {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", child.id())).ok()?;
        stat.split(' ').nth(2).map(str::to_owned)
    }

    #[test]
    fn only_children_of_this_thread_are_waited_for() {
        let (started, of_other) = channel();
        let (may_end, has_to_end) = channel::<()>();
        let other = thread::spawn(move || {
            started.send(start()).expect("send");
            // Its child would become that of another thread.
            has_to_end.recv().expect_err("the end");
        });
        let mut of_other = of_other.recv().expect("a child");
        let mut of_this = start();
        while [&of_other, &of_this].map(state) != [Some("Z".to_owned()), Some("Z".to_owned())] {
            thread::sleep(Duration::from_millis(5));
        }
        reap();
        assert_eq!(state(&of_this), None);
        of_this.wait().expect_err("it was waited for");
        assert!(of_other.wait().expect("it is there").success());
        drop(may_end);
        other.join().expect("thread");
    }
}
