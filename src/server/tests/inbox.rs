//! Tasks that other threads submit.

use super::super::{SubmitError, Task, TaskProgress};
use super::*;

/// Says `text` to the service, `steps` times, and what became of its batches to `replies`.
struct Say {
    text: String,
    steps: usize,
    visitor: Visitor,
    replies: Sender<String>,
}

impl Task<Puppet> for Say {
    fn run(mut self: Box<Self>, puppet: &mut Puppet, now: Timestamp) -> TaskProgress<Puppet> {
        // As the loop hands it over: without its frame.
        let said = &message(&self.text)[7..];
        let handled = puppet.handle(&mut self.visitor, said, now);
        let answer = match handled {
            Handled::Answer(answer) => answer,
            Handled::Wait { .. } => return TaskProgress::Wait(self),
            Handled::Sleep { ticket, .. } => return TaskProgress::Sleep(ticket, self),
            _ => panic!("not an answer"),
        };
        self.steps -= 1;
        if self.steps > 0 {
            return TaskProgress::Again(self);
        }
        TaskProgress::Done(Box::new(move |outcome| {
            let _ = self.replies.send(match outcome {
                Ok(()) => format!("{} is committed", answer.trim_start_matches("1 ")),
                Err(error) => format!("{}: {error}", self.text),
            });
        }))
    }

    fn rolled_back(&mut self, error: &BatchError) {
        let _ = self.replies.send(format!("a step: {error}"));
    }

    fn end_waiting(&mut self) {
        self.visitor.has_waited = true;
    }

    fn end_sleep(&mut self, puppet: &mut Puppet) {
        puppet.end_sleep(&mut self.visitor);
    }
}

fn say(text: &str, steps: usize) -> (Say, Receiver<String>) {
    let (replies, receiver) = channel();
    let text = text.to_owned();
    let say = Say {
        text,
        steps,
        visitor: Visitor::default(),
        replies,
    };
    (say, receiver)
}

impl Running {
    fn submit(&self, text: &str) -> Receiver<String> {
        let (task, reply) = say(text, 1);
        self.inbox.submit(task).expect("there is room");
        reply
    }
}

fn next(replies: &Receiver<String>) -> String {
    replies.recv_timeout(PATIENCE).expect("a reply")
}

#[test]
fn a_task_wakes_a_loop_that_sleeps_and_is_replied_to_after_the_commit() {
    let server = start(Limits::default());
    let reply = server.submit("a");
    assert_eq!(next(&reply), "a is committed");
    assert_eq!(server.next_told(), Told::Handled("a".to_owned()));
    assert_eq!(server.next_told(), Told::Committed(1));
}

#[test]
fn tasks_and_messages_that_wait_together_share_a_batch() {
    let server = start(Limits::default());
    let mut client = server.connect();
    client.send("hold");
    server.wait_for("hold");
    let replies = ["a", "b"].map(|text| server.submit(text));
    let mut other = server.connect();
    other.send("c");
    server.gate.send(()).unwrap();
    assert_eq!(next(&replies[0]), "a is committed");
    assert_eq!(next(&replies[1]), "b is committed");
    assert_eq!(other.receive(), "1 c");
    let told: Vec<Told> = std::iter::from_fn(|| server.told.try_recv().ok()).collect();
    // The tasks joined the batch of the message that held the loop up.
    assert!(told.contains(&Told::Committed(3)), "{told:?}");
}

#[test]
fn a_task_whose_batch_is_rolled_back_is_told_so() {
    let server = start(Limits::default());
    let reply = server.submit("fail");
    assert_eq!(next(&reply), "fail: nothing was changed: full");
    assert_eq!(next(&server.submit("a")), "a is committed");
}

#[test]
fn a_task_in_steps_shares_its_batches_with_others_and_is_told_of_a_step_that_was_lost() {
    let server = start(Limits::default());
    let (task, replies) = say("a", 3);
    server.inbox.submit(task).unwrap();
    assert_eq!(next(&replies), "3 a is committed");
    for _ in 0..3 {
        assert_eq!(server.next_told(), Told::Handled("a".to_owned()));
        assert_eq!(server.next_told(), Told::Committed(1));
    }

    let (task, replies) = say("fail", 2);
    server.inbox.submit(task).unwrap();
    assert_eq!(next(&replies), "a step: nothing was changed: full");
    assert_eq!(next(&replies), "fail: nothing was changed: full");
}

#[test]
fn a_full_inbox_refuses_a_task_at_once() {
    let server = start(Limits::default());
    let mut client = server.connect();
    client.send("hold");
    server.wait_for("hold");
    let replies: Vec<_> = (0..TASKS_MAX)
        .map(|n| server.submit(&n.to_string()))
        .collect();
    let (task, _) = say("one more", 1);
    assert_eq!(server.inbox.submit(task), Err(SubmitError::Full));
    server.gate.send(()).unwrap();
    for (number, reply) in replies.iter().enumerate() {
        assert_eq!(next(reply), format!("{number} is committed"));
    }
    assert_eq!(next(&server.submit("again")), "again is committed");
}

#[test]
fn connections_get_their_turns_though_tasks_never_end() {
    let server = start_with(Limits::default(), |puppet| puppet.batch_max = 4);
    let (stop, stopped) = channel::<()>();
    let inbox = server.inbox.clone();
    let flood = thread::spawn(move || {
        while stopped.try_recv().is_err() {
            let (task, _) = say("flood", 1);
            let _ = inbox.submit(task);
        }
    });
    let mut client = server.connect();
    for number in 1..=20 {
        client.send("a");
        assert_eq!(client.receive(), format!("{number} a"));
    }
    stop.send(()).unwrap();
    flood.join().unwrap();
}

#[test]
fn tasks_get_their_turns_though_messages_never_end() {
    let server = start_with(Limits::default(), |puppet| puppet.batch_max = 4);
    let mut client = server.connect();
    for _ in 0..1_000 {
        client.send("a");
    }
    server.wait_for("a");
    let reply = server.submit("task");
    assert_eq!(next(&reply), "task is committed");
    for number in 1..=1_000 {
        assert_eq!(client.receive(), format!("{number} a"));
    }
}

#[test]
fn a_task_that_has_to_write_waits_until_the_service_can_or_has_waited_for_long_enough() {
    let is_locked = Arc::new(AtomicBool::new(true));
    let of_puppet = Arc::clone(&is_locked);
    let limits = Limits {
        write_wait_max: Duration::from_millis(50),
        ..Limits::default()
    };
    let server = start_with(limits, |puppet| puppet.is_locked = of_puppet);
    let (writes, reads) = (server.submit("write"), server.submit("read"));
    assert_eq!(next(&reads), "read is committed");
    assert_eq!(next(&writes), "locked is committed");

    let server = {
        let of_puppet = Arc::clone(&is_locked);
        start_with(Limits::default(), |puppet| puppet.is_locked = of_puppet)
    };
    let (writes, reads) = (server.submit("write"), server.submit("read"));
    assert_eq!(next(&reads), "read is committed");
    assert!(writes.try_recv().is_err());
    is_locked.store(false, Ordering::SeqCst);
    assert_eq!(next(&writes), "2 write is committed");
}

#[test]
fn a_task_that_sleeps_runs_once_it_is_woken_and_before_all_that_came_after_it() {
    let server = start(Limits::default());
    let reply = server.submit("sleep");
    server.wait_for("sleep");
    let mut client = server.connect();
    let mut other = server.connect();
    client.send("hold");
    server.wait_for("hold");
    let late = server.submit("late");
    other.send_bytes(&[message("wake 1"), message("b")].concat());
    server.gate.send(()).unwrap();
    assert_eq!(next(&reply), "2 sleep is committed");
    assert_eq!(next(&late), "late is committed");
    assert_eq!(other.receive(), "1 wake 1");
    assert_eq!(other.receive(), "2 b");
    let told: Vec<Told> = std::iter::from_fn(|| server.told.try_recv().ok()).collect();
    let position = |text: &str| {
        let handled = Told::Handled(text.to_owned());
        told.iter().position(|told| *told == handled).unwrap()
    };
    assert_eq!(position("sleep"), position("wake 1") + 1, "{told:?}");
    assert!(position("b") > position("sleep"), "{told:?}");
}

#[test]
fn a_task_that_sleeps_for_a_time_wakes_an_idle_loop() {
    let server = start(Limits::default());
    let reply = server.submit("sleep 20");
    assert_eq!(next(&reply), "2 sleep 20 is committed");
}

#[test]
fn a_stop_ends_the_sleep_of_tasks() {
    let mut server = start(Limits::default());
    let reply = server.submit("sleep");
    server.wait_for("sleep");
    server.stopper.stop().unwrap();
    assert_eq!(next(&reply), "over is committed");
    assert!(server.thread.take().unwrap().join().unwrap().is_ok());
}

#[test]
fn a_stop_runs_what_was_submitted_and_refuses_what_comes_later() {
    let mut server = start(Limits::default());
    let mut client = server.connect();
    client.send("hold");
    server.wait_for("hold");
    let reply = server.submit("a");
    server.stopper.stop().unwrap();
    server.gate.send(()).unwrap();
    assert_eq!(next(&reply), "a is committed");
    assert!(server.thread.take().unwrap().join().unwrap().is_ok());
    let (task, _) = say("late", 1);
    assert_eq!(server.inbox.submit(task), Err(SubmitError::Stopped));
}
