"""The supervisor of a worker: the only part that talks to the daemon. It runs none of the user's code.

It is one loop without waiting: units come from the daemon, some tenths of a second ahead, and go to the children,
several at once if they are short; outcomes come back and are reported together. One list of requests is in flight at a
time: it has the reports that came in since the one before, the renewals that are due, and the next request for work.
While there is no work, a request waits at the daemon on a second connection.

A unit is held from when the daemon hands it out until its report is accepted. Reports and renewals name the attempt, so
they can be sent again after the connection broke, and are refused if another worker has the unit.
"""

from __future__ import annotations

import contextlib
import logging
import os
import platform
import selectors
import socket
import time
from enum import IntEnum
from functools import partial
from typing import TYPE_CHECKING, Any, Final

from .. import _methods, _wire
from .._address import Address
from ..errors import CoordinateError, RequestRefused, TlsError
from . import _messages
from ._messages import Kind
from .child import Slate
from .crew import Child, Crew, Plan
from .definitions import Definitions
from .dispatcher import Dispatcher
from .functions import failed_data
from .link import Call, Link
from .outbox import Outbox, update
from .pauses import Pauses
from .reports import Held, Report, Tally, given_back, is_cancellation, renewal, report_of
from .source import Source

if TYPE_CHECKING:
    from .._tls import Tls

__all__ = ["Supervisor", "Tally"]

log = logging.getLogger("coordinated.worker")

NEEDED: Final = frozenset(["attempts", "wait", "update_work_units", "retries", "tell_retry", "runtimes", "cancel"])
# Leases are renewed after a third, and at least this often, because a renewal also tells if the unit was cancelled.
RENEW_S: Final = 20.0
# How often the progress of a unit is sent at most.
PROGRESS_S: Final = 1.0
HEARTBEAT_S: Final = 15.0
HEARTBEAT_LIFETIME_S: Final = 90.0
# How often children and time limits are looked at.
LOOK_S: Final = 0.1


class Phase(IntEnum):
    """How far the end of the worker has come."""

    WORKING = 0
    DRAINING = 1
    STOPPING = 2


class Supervisor:
    """Runs a worker, from `run` to its end."""

    def __init__(
        self,
        plan: Plan,
        address: Address,
        *,
        lease: float,
        until_empty: bool,
        token: str | None = None,
        tls: Tls | None = None,
    ) -> None:
        self._plan = plan
        self._address = address
        self._lease = lease
        self._selector = selectors.DefaultSelector()
        self._link = Link(address, self._selector, self._opened, self._broken, token, tls)
        self._crew = Crew(plan, self._selector, self._received, self._died)
        self.tally = Tally()
        self.files: set[str] = set()
        self._phase = Phase.WORKING
        self._wakeup, self._waker = socket.socketpair()
        self._wakeup.setblocking(False)
        self._waker.setblocking(False)
        self._selector.register(self._wakeup, selectors.EVENT_READ, self._on_wakeup)

        # Units.
        self._next_id = 1
        self._held: dict[int, Held] = {}
        self._dispatcher = Dispatcher(plan, self._crew, self._ended)

        # What is said to the daemon.
        self._pauses = Pauses()
        self._definitions = Definitions(self._fail)
        self._outbox = Outbox(self._pauses, self.tally, self._accepted)
        self._source = Source(
            plan.worker,
            address,
            self._selector,
            self._definitions,
            self._pauses,
            lease=lease,
            until_empty=until_empty,
            token=token,
            tls=tls,
            took=self._took,
            holds=lambda: bool(self._held),
            emptied=self._drain,
        )

        # The daemon.
        self._is_checked = False
        self._was_connected = False
        self._heartbeat_at = 0.0
        self._look_at = 0.0
        self._renew_at = 0.0
        self._is_away = False
        self._error: CoordinateError | None = None
        self._unregistered = False
        self._give_up_at: float | None = None

    # From other threads, and signal handlers.

    def stop(self) -> None:
        """Takes no more units, and ends when those that run have ended. Called again, it stops these too."""
        self._wake(b"s")

    def reload(self) -> None:
        """Replaces the children by new ones, with the code as it is now."""
        self._wake(b"r")

    def _wake(self, what: bytes) -> None:
        with contextlib.suppress(OSError):
            self._waker.send(what)

    def _on_wakeup(self, _events: int) -> None:
        with contextlib.suppress(BlockingIOError):
            for letter in self._wakeup.recv(64):
                if letter == ord("s"):
                    self._stop_more()
                elif letter == ord("r") and self._phase is Phase.WORKING and self._plan.processes:
                    log.info("starting new children")
                    self._crew.reload()

    def adopt(self, connection: socket.socket, slate: Slate) -> None:
        """Takes the calling process as the only child."""
        self._crew.adopt(connection, slate)

    # The loop.

    def run(self) -> Tally:
        """Works until it is told to stop or, with `until_empty`, until nothing is left.

        Raises `CoordinateError` if the functions can't be imported, or the server is not one that it can work with.
        """
        try:
            while not self._is_over():
                now = time.monotonic()
                for key, events in self._selector.select(max(0.0, self._wakes_at(now) - now)):
                    key.data(events)
                self._turn(time.monotonic())
            if self._error is not None:
                raise self._error
        finally:
            self._crew.kill_all()
            self._link.close()
            self._source.close()
            self._selector.close()
            self._wakeup.close()
            self._waker.close()
        return self.tally

    def _wakes_at(self, now: float) -> float:
        due = [self._look_at, *self._source.due(now)]
        if self._link.connect_at is not None:
            due.append(self._link.connect_at)
        if self._pauses.speaks_after > now:
            due.append(self._pauses.speaks_after)
        return min(due)

    def _turn(self, now: float) -> None:
        if now >= self._look_at:
            self._look_at = now + LOOK_S
            self._crew.tick(now)
            self._check_times(now)
            if self._crew.has_failed and self._error is None:
                complaint = self._crew.complaint or "see the log"
                self._fail(CoordinateError(f"no child could be started: {complaint}"))
        self._link.tick(now)
        self._source.tick(now)
        self._dispatcher.hand_over(now)
        if self._link.is_free and self._is_checked and now >= self._pauses.speaks_after:
            self._converse(now)

    def _is_over(self) -> bool:
        if self._error is not None:
            return True
        if self._phase is Phase.WORKING:
            return False
        if self._give_up_at is not None and time.monotonic() >= self._give_up_at:
            log.error(
                "%d reports could not be sent: their units are handed out again when their leases end",
                len(self._outbox),
            )
            return True
        is_told = self._unregistered or not self._link.is_open
        if not self._held and is_told and not self._crew.children:
            return True
        if not self._held and not self._source.is_waiting:
            self._crew.end()
            # Children end by themselves, but need a look.
            self._look_at = min(self._look_at, time.monotonic() + 0.005)
        return False

    def _fail(self, error: CoordinateError) -> None:
        self._error = error

    # Stopping.

    def _stop_more(self) -> None:
        if self._phase is Phase.WORKING:
            log.info("stopping: units that run go on to their end; stop again to end them")
            self._drain()
        elif self._phase is Phase.DRAINING:
            log.info("stopping the units that run")
            self._phase = Phase.STOPPING
            self._give_up_at = time.monotonic() + self._plan.grace + 5
            for held in list(self._held.values()):
                if held.child is not None:
                    self._stop(held, "end", "the worker was stopped")

    def _drain(self) -> None:
        self._phase = Phase.DRAINING
        self._source.end()
        self._outbox.extend(map(given_back, self._dispatcher.clear()))
        for child in self._crew.children:
            if child.is_ready:
                self._crew.send(child, [Kind.RELEASE])
        self._heartbeat_at = 0.0

    # The children.

    def _received(self, child: Child, message: list[Any]) -> None:
        kind = message[0]
        now = time.monotonic()
        if kind == Kind.OUTCOMES:
            for unit, ending, data, extra, seconds in message[1]:
                held = self._held.get(unit)
                if held is not None and held.child is child:
                    self._dispatcher.took(held, seconds)
                    self._dispatcher.leaves(child, held)
                    child.stuck = False
                    self._ended(held, ending, data, extra)
        elif kind == Kind.RELEASED:
            for unit in reversed(message[1]):
                held = self._held.get(unit)
                if held is not None and held.child is child:
                    self._dispatcher.leaves(child, held)
                    child.taken -= 1
                    self._requeue(held)
            child.stuck = bool(child.units)
        elif kind == Kind.PROGRESS:
            held = self._held.get(message[1])
            if held is not None and held.child is child:
                held.progress = message[2]
                at = max(now, held.progress_at + PROGRESS_S)
                held.renew_at = min(held.renew_at, at)
                self._renew_at = min(self._renew_at, at)
        elif kind == Kind.HELLO:
            self._on_hello(child, message[1], message[2])
        # An end makes room, and a new child is room.
        self._source.hasten(now)

    def _on_hello(self, child: Child, specs: list[list[Any]], files: list[str]) -> None:
        self.files.update(files)
        if child.generation != self._crew.generation:
            return
        if self._definitions.replace(specs):
            # It tells the names of the specs.
            self._heartbeat_at = 0.0

    def _requeue(self, held: Held) -> None:
        """Puts a unit that has not begun before the others, or ends it if it must not begin any more."""
        if held.stop is not None:
            self._ended(held, _messages.STOPPED, None, "")
        elif self._phase is Phase.WORKING:
            self._dispatcher.put_back(held)
        else:
            self._outbox.add(given_back(held))

    def _died(self, child: Child, why: str) -> None:
        """Gives back what a child had when it died; the unit that it died of has failed."""
        units = [self._held[unit] for unit in child.units if unit in self._held]
        # If nothing ran, it may have died of a unit all the same, after it ended: any, or the one that was alone.
        ran = self._crew.running(child)
        running = set(ran or child.units)
        blamed = child.killed_for[0] if child.killed_for is not None else frozenset(running)
        if child.process is None:
            if not child.is_retired:
                self._fail(CoordinateError(child.complaint or why))
            return
        if units:
            log.warning("%s", why)
        is_clear = len(blamed) == 1 and bool(ran or child.alone or child.killed_for)
        for held in units:
            self._dispatcher.leaves(child, held)
            if held.id in blamed and is_clear:
                if held.stop is None:
                    self._ended(held, _messages.FAILED, failed_data(held.data, why), [False, why])
                else:
                    self._ended(held, _messages.STOPPED, None, why)
            elif held.stop is not None:
                self._ended(held, _messages.STOPPED, None, why)
            else:
                if held.id in running and not is_clear:
                    # One of these has killed it. Which one shows when each runs alone.
                    self._dispatcher.suspect(held)
                self._outbox.add(given_back(held))
        self._look_at = 0.0

    # Time.

    def _check_times(self, now: float) -> None:
        """Stops functions that have run for too long, and kills children of those that did not stop."""
        for child in self._crew.children:
            since, _ = child.slate.read()
            running = self._crew.running(child)
            for unit in running:
                held = self._held[unit]
                timeout = self._definitions.timeouts.get(held.spec)
                began = max(since, held.given_at)
                if timeout is not None and held.stop is None and now - began > timeout:
                    self._stop(held, "timeout", f"ran longer than {timeout:g} s")
            for unit in running:
                held = self._held[unit]
                if held.kill_at is not None and now >= held.kill_at:
                    if child.process is None:
                        held.kill_at = None
                        log.error("%s %s did not stop within %g s", held.spec, held.key, self._plan.grace)
                        continue
                    child.kill(frozenset([unit]), f"{held.why}, and did not stop within {self._plan.grace:g} s: "
                                                  f"child {child.pid} was killed")  # fmt: skip
                    break

    def _stop(self, held: Held, stop: str, why: str) -> None:
        """Tells the function of a unit to stop. If it does not, its child is killed after the grace."""
        if held.stop is not None:
            # Lost comes before all else: there is nothing to report any more.
            if stop == "lost":
                held.stop, held.why = stop, why
            return
        held.stop, held.why = stop, why
        if held.child is not None:
            held.kill_at = time.monotonic() + self._plan.grace
            self._crew.send(held.child, [Kind.TELL, held.id])
        elif self._dispatcher.remove(held):
            self._ended(held, _messages.STOPPED, None, "")

    # Outcomes.

    def _ended(self, held: Held, ending: int, data: bytes | None, extra: Any) -> None:
        """Notes what is to be reported about a unit that does not run any more."""
        if held.stop == "lost":
            self.tally.count_lost(held, held.why)
            del self._held[held.id]
        else:
            self._outbox.add(report_of(held, ending, data, extra))

    # The conversation with the daemon.

    def _opened(self) -> None:
        """Asks who is there, before anything else."""
        if self._is_away:
            log.info("connected to %s", self._address)
            self._is_away = False
        self._is_checked = False
        info = _methods.server_info()
        self._link.send([Call(info.method, info.params, self._on_info, self._on_no_info)])

    def _on_info(self, info: Any) -> None:
        features = {_wire.name_in(feature) for feature in info.get(b"features", ())}
        missing = NEEDED - features
        if missing:
            self._fail(CoordinateError(
                f"the daemon at {self._address} lacks {', '.join(sorted(missing))}: upgrade it"))  # fmt: skip
        self._is_checked = self._was_connected = True

    def _on_no_info(self, _error: RequestRefused) -> None:
        self._fail(CoordinateError(f"the server at {self._address} is not this coordinated, but an older one: "
                                   f"use coordinate_worker with it"))  # fmt: skip

    def _broken(self, error: Exception) -> None:
        self._outbox.broken(error)
        self._source.interrupt()
        if isinstance(error, RequestRefused) and error.method == "authenticate" and not self._was_connected:
            self._fail(CoordinateError(f"{error.message} (the daemon at {self._address})"))
        if isinstance(error, TlsError) and not self._was_connected:
            self._fail(error)
        if not self._is_away:
            log.warning("the daemon at %s can't be reached: %s; functions go on", self._address, error)
            self._is_away = True

    def _converse(self, now: float) -> None:
        """Sends all that there is to say as one list, if there is anything."""
        calls: list[Call] = []
        if now >= self._heartbeat_at:
            calls.append(self._heartbeat(now))
        calls += self._definitions.calls()
        calls += self._outbox.calls()
        if now >= self._renew_at:
            calls += self._renewals(now)
        calls += self._source.calls(now, self._dispatcher.room)
        is_last = self._phase is not Phase.WORKING and not self._held and not self._source.is_waiting
        if is_last and not calls and not self._unregistered:
            request = _methods.worker_unregister(self._plan.worker)
            calls.append(Call(request.method, request.params, self._on_unregistered, self._on_unregistered))
        if calls:
            self._link.send(calls)

    def _on_unregistered(self, _answer: Any) -> None:
        self._unregistered = True

    def _heartbeat(self, now: float) -> Call:
        self._heartbeat_at = now + HEARTBEAT_S
        mode = "TERMINATE" if self._phase is not Phase.WORKING else "RUN" if self._held else "IDLE"
        host = platform.node()
        environment = {
            "hostname": host,
            "fqdn": host,
            "pid": os.getpid(),
            "python": platform.python_version(),
            "processes": self._plan.processes,
            "concurrency": self._plan.concurrency,
            "specs": self._definitions.names,
        }
        request = _methods.worker_heartbeat(self._plan.worker, mode, HEARTBEAT_LIFETIME_S, environment, None)
        return Call(request.method, request.params, _ignore, _ignore)

    def _accepted(self, report: Report) -> None:
        del self._held[report.held.id]

    def _took(self, leases: list[Any]) -> None:
        """Holds the units of an answer."""
        now = time.monotonic()
        every = min(self._lease / 3, RENEW_S)
        for lease in leases:
            held = Held(self._next_id, lease, now)
            self._next_id += 1
            held.renew_at = now + every
            self._held[held.id] = held
            if self._phase is Phase.WORKING:
                self._dispatcher.add(held)
            else:
                self._outbox.add(given_back(held))
        self._renew_at = min(self._renew_at, now + every)

    # Renewals.

    def _renewals(self, now: float) -> list[Call]:
        """Renews the leases that are due, with the progress of their units."""
        every = min(self._lease / 3, RENEW_S)
        by_spec: dict[str, list[tuple[Held, bytes]]] = {}
        reported = self._outbox.units()
        next_at = now + every
        for held in self._held.values():
            if held.renew_at > now or held.id in reported:
                next_at = min(next_at, max(held.renew_at, now + PROGRESS_S / 10))
                continue
            by_spec.setdefault(held.spec, []).append((held, renewal(held, self._lease)))
            if held.progress is not None:
                held.progress = None
                held.progress_at = now
            held.renew_at = now + every
        self._renew_at = next_at
        calls: list[Call] = []
        for spec, items in by_spec.items():
            units = [held for held, _ in items]
            done, failed = partial(self._on_renewed, units), partial(self._on_renewal_error, units)
            calls.append(update(spec, [body for _, body in items], done, failed))
        return calls

    def _on_renewed(self, units: list[Held], pair: Any) -> None:
        answers, message = pair
        if answers is None:
            answers = [[False, message]] * len(units)
        for held, (accepted, told) in zip(units, answers, strict=True):
            if accepted or held.id not in self._held:
                continue
            why = str(_wire.name_in(told))
            if is_cancellation(why):
                self._stop(held, "cancelled", why)
            else:
                self._stop(held, "lost", why)

    def _on_renewal_error(self, units: list[Held], error: RequestRefused) -> None:
        for held in units:
            held.renew_at = 0.0
        self._renew_at = 0.0
        self._pauses.after_error(error)


def _ignore(_answer: Any) -> None:
    """An answer that changes nothing."""
