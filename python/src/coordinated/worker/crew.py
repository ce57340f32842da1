"""The children of a supervisor: starting, watching, replacing and ending them. It knows nothing of the daemon.

A child is a fresh interpreter (never a fork), the leader of its own session, so that it can be killed together with the
processes that it has started.
"""

from __future__ import annotations

import contextlib
import json
import logging
import mmap
import os
import resource
import selectors
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Final

from . import _messages
from ._messages import Kind
from .child import Slate

__all__ = ["Child", "Crew", "Plan", "describe_exit"]

log = logging.getLogger("coordinated.worker")

_START: Final = (
    "import json, sys; sys.path[:] = json.loads(sys.argv[3]); "
    "from coordinated.worker.child import main; sys.exit(main(int(sys.argv[1]), int(sys.argv[2])))"
)
# The pauses between starts of children that die before they are ready, in seconds.
RESTART_PAUSE_S: Final = (1.0, 60.0)
# How many such deaths end a worker of which no child was ever ready.
STARTS_MOST: Final = 3
# How long after the end of its connection a child is killed that lives on: it can't report any more.
LINGER_S: Final = 1.0
MEMORY_EVERY_S: Final = 0.25
_PAGE: Final = resource.getpagesize()


@dataclass(frozen=True)
class Plan:
    """How children run functions.

    Attributes:
        targets: MODULE or MODULE:NAME of the specs.
        processes: The number of children.
        concurrency: The number of functions that each runs at the same time.
        lifespan: MODULE:NAME of a context manager, entered once in each child.
        grace: Seconds between telling a function to stop and killing its child.
        max_memory: Bytes of resident memory after which a child is replaced; killed at twice as much.
        max_units: The number of units after which a child is replaced.
        worker: The worker's name.
        main: The file of the main program, if functions are in it.
    """

    targets: tuple[str, ...] = ()
    processes: int = 1
    concurrency: int = 1
    lifespan: str | None = None
    grace: float = 10.0
    max_memory: int | None = None
    max_units: int | None = None
    worker: str = ""
    main: str | None = None

    def config(self) -> dict[str, Any]:
        """Gives what a child has to know."""
        return {
            "targets": list(self.targets),
            "concurrency": self.concurrency,
            "lifespan": self.lifespan,
            "grace": self.grace,
            "worker": self.worker,
            "main": self.main,
        }


@dataclass(eq=False)
class Child:
    """A child process, or the calling process itself (`process` is None).

    Attributes:
        units: The ids of the units that it has, in the order in which it got them.
        seconds: How long they will take, by estimate.
        stuck: The id of a unit that runs so long that it gave the others back: until that ends it gets no more.
        alone: It runs a unit that may have killed a child before, and gets no other.
        killed_for: Why the supervisor has killed it: the ids of the units to blame, and a message.
    """

    connection: socket.socket
    slate: Slate
    process: subprocess.Popen[bytes] | None
    generation: int
    units: dict[int, None] = field(default_factory=dict[int, None])
    specs: frozenset[str] = frozenset()
    is_ready: bool = False
    is_retired: bool = False
    seconds: float = 0.0
    taken: int = 0
    stuck: bool = False
    alone: bool = False
    killed_for: tuple[frozenset[int], str] | None = None
    closed_at: float | None = None
    unsent: bytearray = field(default_factory=bytearray)
    reader: _messages.MessageReader = field(default_factory=_messages.MessageReader)
    complaint: str | None = None

    @property
    def pid(self) -> int:
        """Its process id."""
        return os.getpid() if self.process is None else self.process.pid

    def memory(self) -> int:
        """Its resident memory in bytes; 0 if the system does not tell."""
        try:
            with open(f"/proc/{self.pid}/statm", "rb") as file:
                return int(file.read().split()[1]) * _PAGE
        except (OSError, IndexError, ValueError):
            return 0

    def kill(self, units: frozenset[int], why: str) -> None:
        """Kills it with the processes that it has started, for the sake of these units."""
        if self.process is not None and self.killed_for is None:
            self.killed_for = (units, why)
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(self.process.pid, signal.SIGKILL)


def describe_exit(pid: int, status: int, memory_most: int) -> str:
    """Says how a child has ended, from its exit status and the most memory that it had in bytes."""
    code = os.waitstatus_to_exitcode(status)
    if code >= 0:
        return f"child {pid} exited with code {code} while it ran the unit"
    try:
        name = signal.Signals(-code).name
    except ValueError:
        name = f"signal {-code}"
    text = f"child {pid} was killed by {name} at {memory_most / (1 << 20):,.0f} MiB"
    if -code == signal.SIGKILL:
        return f"{text}: out of memory?"
    if -code in (signal.SIGSEGV, signal.SIGBUS, signal.SIGILL, signal.SIGFPE, signal.SIGABRT):
        return f"{text}: a crash in native code?"
    return text


class Crew:
    """All children. `received` is called with each message of a child, `died` when one is gone."""

    def __init__(
        self,
        plan: Plan,
        selector: selectors.BaseSelector,
        received: Callable[[Child, list[Any]], None],
        died: Callable[[Child, str], None],
    ) -> None:
        self._plan = plan
        self._selector = selector
        self._received = received
        self._died = died
        self.children: list[Child] = []
        self.generation = self._generations = 0
        self.was_ready = False
        self.complaint: str | None = None
        self._is_ending = False
        self._start_at = 0.0
        self._pause = RESTART_PAUSE_S[0]
        self._failed_starts = 0
        self._look_at = 0.0

    @property
    def ready(self) -> list[Child]:
        """Those that can get units."""
        return [child for child in self.children if child.is_ready and not child.is_retired]

    def adopt(self, connection: socket.socket, slate: Slate) -> None:
        """Takes the calling process as the only child."""
        self._add(Child(connection, slate, None, self.generation))

    def _start(self) -> None:
        ours, theirs = socket.socketpair()
        with theirs, tempfile.TemporaryFile() as file:
            file.truncate(Slate.SIZE)
            slate = Slate(mmap.mmap(file.fileno(), Slate.SIZE))
            descriptors = (theirs.fileno(), file.fileno())
            command = [sys.executable, "-c", _START, *map(str, descriptors), json.dumps(sys.path)]
            process = subprocess.Popen(
                command, pass_fds=descriptors, stdin=subprocess.DEVNULL, start_new_session=True, close_fds=True
            )
        self._add(Child(ours, slate, process, self.generation))

    def _add(self, child: Child) -> None:
        child.connection.setblocking(False)
        self.children.append(child)
        self._selector.register(child.connection, selectors.EVENT_READ, lambda events: self._on_events(child, events))
        self.send(child, [Kind.CONFIG, self._plan.config()])

    def send(self, child: Child, message: list[Any]) -> None:
        """Sends a message to a child, or keeps what its socket does not take yet."""
        is_empty = not child.unsent
        child.unsent += _messages.pack(message)
        if is_empty:
            self._send_unsent(child)

    def _send_unsent(self, child: Child) -> None:
        try:
            while child.unsent:
                del child.unsent[: child.connection.send(child.unsent)]
        except (BlockingIOError, InterruptedError):
            pass
        except OSError:
            # It has died, which reading shows.
            child.unsent.clear()
        if child.closed_at is None:
            events = selectors.EVENT_READ | (selectors.EVENT_WRITE if child.unsent else 0)
            key = self._selector.get_key(child.connection)
            if key.events != events:
                self._selector.modify(child.connection, events, key.data)

    def _on_events(self, child: Child, events: int) -> None:
        if events & selectors.EVENT_WRITE:
            self._send_unsent(child)
        if events & selectors.EVENT_READ:
            self._read(child)

    def _read(self, child: Child) -> None:
        try:
            data = child.connection.recv(1 << 18)
        except (BlockingIOError, InterruptedError):
            return
        except OSError:
            data = b""
        if not data:
            if child.closed_at is None:
                child.closed_at = time.monotonic()
                self._selector.unregister(child.connection)
            return
        for message in child.reader.feed(data):
            if message[0] == Kind.HELLO:
                self._on_hello(child, message)
            elif message[0] == Kind.BROKEN:
                child.complaint = message[1]
            self._received(child, message)

    def _on_hello(self, child: Child, message: list[Any]) -> None:
        child.specs = frozenset(spec[0] for spec in message[1])
        child.is_ready = self.was_ready = True
        self._failed_starts = 0
        self._pause = RESTART_PAUSE_S[0]
        # A child of an earlier generation has had its time, now that there is one of this.
        for old in self.ready:
            if old.generation < self.generation:
                self.retire(old)
                break

    def retire(self, child: Child) -> None:
        """Lets a child end what it has, and end."""
        if not child.is_retired:
            child.is_retired = True
            self.send(child, [Kind.RETIRE])

    def reload(self) -> None:
        """Starts new children; each takes the place of an old one when it is ready."""
        self._generations += 1
        self.generation = self._generations
        for child in self.children:
            # Those that were not ready yet may have the old code, too.
            if not child.is_ready:
                child.kill(frozenset(), "reloaded")
        self._start_at = 0.0
        self._failed_starts = 0

    def end(self) -> None:
        """Retires all children, and starts no more."""
        self._is_ending = True
        for child in self.children:
            if child.is_ready:
                self.retire(child)
            else:
                child.kill(frozenset(), "not needed any more")

    def kill_all(self) -> None:
        """Kills all children, and reaps them."""
        for child in self.children:
            child.kill(frozenset(), "the worker ends")
            if child.process is not None:
                child.process.wait()
            child.connection.close()
        self.children.clear()

    def tick(self, now: float) -> None:
        """Starts children that are missing, reaps those that have died, and watches their memory."""
        for child in list(self.children):
            self._reap(child, now)
        if not self._is_ending and now >= self._start_at:
            for _ in range(self._missing()):
                self._start()
        if self._plan.max_memory is not None and now >= self._look_at:
            self._look_at = now + MEMORY_EVERY_S
            for child in self.children:
                self._limit_memory(child, self._plan.max_memory)

    def _missing(self) -> int:
        current = [child for child in self.children if child.generation == self.generation and not child.is_retired]
        return max(0, self._plan.processes - len(current))

    def _limit_memory(self, child: Child, limit: int) -> None:
        memory = child.memory()
        if memory > 2 * limit:
            size = f"{memory / (1 << 20):,.0f} MiB"
            blamed = frozenset(self.running(child))
            child.kill(blamed, f"child {child.pid} was killed at {size} of memory, more than twice max_memory")
        elif memory > limit and child.is_ready and not child.is_retired:
            log.info("child %d has %d MiB of memory: replacing it", child.pid, memory >> 20)
            self.send(child, [Kind.RELEASE])
            self.retire(child)

    def running(self, child: Child) -> list[int]:
        """The units that run in a child, or may do so."""
        if self._plan.concurrency > 1:
            return list(child.units)
        _, unit = child.slate.read()
        return [unit] if unit in child.units else []

    def _reap(self, child: Child, now: float) -> None:
        if child.process is None:
            if child.closed_at is not None:
                self._remove(child, "the calling process stopped running functions")
            return
        pid, status, usage = os.wait4(child.process.pid, os.WNOHANG)
        if pid == 0:
            if child.closed_at is not None and now - child.closed_at > LINGER_S:
                child.kill(frozenset(self.running(child)), f"child {child.pid} closed its connection to the worker")
            return
        child.process.returncode = os.waitstatus_to_exitcode(status)
        # What it said last. A process that it left behind may keep the connection open.
        while child.closed_at is None and self._has_more(child):
            self._read(child)
        if child.closed_at is None:
            self._selector.unregister(child.connection)
        # Linux counts in KiB, macOS in bytes.
        memory = usage.ru_maxrss * (1 if sys.platform == "darwin" else 1024)
        why = child.killed_for[1] if child.killed_for else describe_exit(child.pid, status, memory)
        if not child.is_ready and not self._is_ending and child.generation == self.generation and not child.killed_for:
            self._on_failed_start(child, why, now)
        self._remove(child, why)

    @staticmethod
    def _has_more(child: Child) -> bool:
        try:
            return bool(child.connection.recv(1, socket.MSG_PEEK))
        except OSError:
            return False

    def _remove(self, child: Child, why: str) -> None:
        child.connection.close()
        self.children.remove(child)
        self._died(child, why)

    def _on_failed_start(self, child: Child, why: str, now: float) -> None:
        self._failed_starts += 1
        self._start_at = now + self._pause
        self._pause = min(2 * self._pause, RESTART_PAUSE_S[1])
        if child.complaint is None:
            log.error("a child did not start: %s", why)
            return
        log.error("a child did not start:\n%s", child.complaint)
        self.complaint = child.complaint
        if any(other.generation < self.generation for other in self.ready):
            # A reload with an error in it: the old code goes on.
            log.error("the reload has failed; the code from before goes on")
            self.generation = max(other.generation for other in self.ready)
            for other in self.children:
                if other.generation > self.generation:
                    other.kill(frozenset(), "the reload has failed")
            self._start_at = 0.0

    @property
    def has_failed(self) -> bool:
        """Whether no child was ever ready, and none will be."""
        if self.was_ready or not self._failed_starts:
            return False
        return self._failed_starts >= STARTS_MOST or self.complaint is not None
