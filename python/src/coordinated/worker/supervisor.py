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
import signal
import socket
import threading
import time
from collections import deque
from enum import IntEnum
from typing import TYPE_CHECKING, Any, Final

from .. import _methods, _wire
from .._address import Address
from ..errors import CoordinateError, RequestRefused, TlsError
from ..values import Status
from . import _messages
from ._messages import Kind
from .child import Slate
from .crew import Child, Crew, Plan
from .dispatcher import Dispatcher
from .functions import failed_data
from .link import Call, Link
from .reports import Held, Report, Tally, given_back, is_cancellation, renewal, report_of, smaller

if TYPE_CHECKING:
    from .._tls import Tls

__all__ = ["Supervisor", "Tally", "install_signals", "restore_signals"]

log = logging.getLogger("coordinated.worker")

NEEDED: Final = frozenset(["attempts", "wait", "update_work_units", "retries", "tell_retry", "runtimes", "cancel"])
# The most reports of one list, and the most bytes of them.
REPORTS_MOST: Final = 1000
REPORT_BYTES_MOST: Final = 8 << 20
# How long a request waits at the daemon, but never longer than a quarter of a lease.
WAIT_S: Final = 30.0
# How long a worker that ends waits for the answer to such a request.
LAST_ANSWER_S: Final = 2.0
# Leases are renewed after a third, and at least this often, because a renewal also tells if the unit was cancelled.
RENEW_S: Final = 20.0
# How often the progress of a unit is sent at most.
PROGRESS_S: Final = 1.0
HEARTBEAT_S: Final = 15.0
HEARTBEAT_LIFETIME_S: Final = 90.0
# How often children and time limits are looked at.
LOOK_S: Final = 0.1
# The pauses between two requests for work with `until_empty`, and after the daemon's errors.
PAUSE_S: Final = (0.05, 1.0)


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
        self._until_empty = until_empty
        self._selector = selectors.DefaultSelector()
        self._link = Link(address, self._selector, self._opened, self._broken, token, tls)
        self._waiter = Link(address, self._selector, self._waiter_opened, self._waiter_broken, token, tls)
        self._crew = Crew(plan, self._selector, self._received, self._died)
        self.tally = Tally()
        self.files: set[str] = set()
        self._phase = Phase.WORKING
        self._wakeup, self._waker = socket.socketpair()
        self._wakeup.setblocking(False)
        self._waker.setblocking(False)
        self._selector.register(self._wakeup, selectors.EVENT_READ, self._on_wakeup)

        # Work specs: what the children have, and what the daemon was asked about.
        self._definitions: dict[str, dict[str, Any]] = {}
        self._timeouts: dict[str, float | None] = {}
        self._unset: set[str] = set()
        self._to_set: list[Call] = []

        # Units.
        self._next_id = 1
        self._held: dict[int, Held] = {}
        self._dispatcher = Dispatcher(plan, self._crew, self._ended)
        self._outbox: deque[Report] = deque()
        self._in_flight: list[Report] = []
        self._alone = 0

        # The daemon.
        self._is_checked = False
        self._was_connected = False
        self._asks_after = 0.0
        self._speaks_after = 0.0
        self._pause = PAUSE_S[0]
        self._wait_most: int | None = None
        self._hurried_at: float | None = None
        self._heartbeat_at = 0.0
        self._look_at = 0.0
        self._renew_at = 0.0
        self._is_away = False
        self._must_count = False
        self._is_asking = False
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
            self._waiter.close()
            self._selector.close()
            self._wakeup.close()
            self._waker.close()
        return self.tally

    def _wakes_at(self, now: float) -> float:
        at = self._look_at
        for link in (self._link, self._waiter):
            if link is self._link or self._wait_most is not None:
                due = link.connect_at
                if due is not None:
                    at = min(at, due)
        return min(at, *(due for due in (self._asks_after, self._speaks_after) if due > now), at)

    def _turn(self, now: float) -> None:
        if now >= self._look_at:
            self._look_at = now + LOOK_S
            self._crew.tick(now)
            self._check_times(now)
            if self._crew.has_failed and self._error is None:
                complaint = self._crew.complaint or "see the log"
                self._fail(CoordinateError(f"no child could be started: {complaint}"))
        self._link.tick(now)
        if self._wait_most is not None:
            self._waiter.tick(now)
        self._dispatcher.hand_over(now)
        if self._hurried_at is not None and now >= self._hurried_at + LAST_ANSWER_S:
            self._waiter.close()
            self._hurried_at = None
        if self._link.is_free and self._is_checked and now >= self._speaks_after:
            self._converse(now)

    def _is_over(self) -> bool:
        if self._error is not None:
            return True
        if self._phase is Phase.WORKING:
            return False
        if self._give_up_at is not None and time.monotonic() >= self._give_up_at:
            log.error("%d reports could not be sent: their units are handed out again when their leases end",
                      len(self._outbox) + len(self._in_flight))  # fmt: skip
            return True
        is_told = self._unregistered or not self._link.is_open
        if not self._held and is_told and not self._crew.children:
            return True
        if not self._held and not self._waiter.is_busy:
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
        self._end_wait()
        self._outbox.extend(map(given_back, self._dispatcher.clear()))
        for child in self._crew.children:
            if child.is_ready:
                self._crew.send(child, [Kind.RELEASE])
        self._heartbeat_at = 0.0

    def _end_wait(self) -> None:
        if self._waiter.is_busy:
            self._hurried_at = time.monotonic()
            self._waiter.hurry()
        else:
            self._wait_most = None

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
        self._asks_after = min(self._asks_after, now)

    def _on_hello(self, child: Child, specs: list[list[Any]], files: list[str]) -> None:
        self.files.update(files)
        if child.generation != self._crew.generation:
            return
        definitions = {name: definition for name, definition, _ in specs}
        changed = {name for name, definition in definitions.items() if self._definitions.get(name) != definition}
        self._unset = (self._unset | changed) & definitions.keys()
        if changed:
            # It tells the names of the specs.
            self._heartbeat_at = 0.0
        self._definitions = definitions
        self._timeouts = {name: timeout for name, _, timeout in specs}

    def _requeue(self, held: Held) -> None:
        """Puts a unit that has not begun before the others, or ends it if it must not begin any more."""
        if held.stop is not None:
            self._ended(held, _messages.STOPPED, None, "")
        elif self._phase is Phase.WORKING:
            self._dispatcher.put_back(held)
        else:
            self._outbox.append(given_back(held))

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
                self._outbox.append(given_back(held))
        self._look_at = 0.0

    # Time.

    def _check_times(self, now: float) -> None:
        """Stops functions that have run for too long, and kills children of those that did not stop."""
        for child in self._crew.children:
            since, _ = child.slate.read()
            running = self._crew.running(child)
            for unit in running:
                held = self._held[unit]
                timeout = self._timeouts.get(held.spec)
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
            self._outbox.append(report_of(held, ending, data, extra))

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
        if self._in_flight:
            if isinstance(error, RequestRefused):
                # The daemon can't read something of it: one at a time, until the one is found.
                self._on_unreadable(error)
            self._outbox.extendleft(reversed(self._in_flight))
            self._in_flight = []
        self._is_asking = False
        if isinstance(error, RequestRefused) and error.method == "authenticate" and not self._was_connected:
            self._fail(CoordinateError(f"{error.message} (the daemon at {self._address})"))
        if isinstance(error, TlsError) and not self._was_connected:
            self._fail(error)
        if not self._is_away:
            log.warning("the daemon at %s can't be reached: %s; functions go on", self._address, error)
            self._is_away = True

    def _on_unreadable(self, error: RequestRefused) -> None:
        if len(self._in_flight) > 1:
            self._alone = max(self._alone, len(self._in_flight))
            return
        self._in_flight[0] = smaller(self._in_flight[0], error.message)

    def _converse(self, now: float) -> None:
        """Sends all that there is to say as one list, if there is anything."""
        calls: list[Call] = []
        if now >= self._heartbeat_at:
            calls.append(self._heartbeat(now))
        calls += self._set_up_specs()
        calls += self._reports()
        if now >= self._renew_at:
            calls += self._renewals(now)
        if not self._unset:
            wants = self._wants(now)
            if wants:
                calls.append(self._get_work(wants))
            if self._must_count:
                self._must_count = False
                calls += self._counts()
        is_last = self._phase is not Phase.WORKING and not self._held and not self._waiter.is_busy
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
            "specs": sorted(self._definitions),
        }
        request = _methods.worker_heartbeat(self._plan.worker, mode, HEARTBEAT_LIFETIME_S, environment, None)
        return Call(request.method, request.params, _ignore, _ignore)

    # Work specs.

    def _set_up_specs(self) -> list[Call]:
        """Compares the definitions of new specs with the daemon's, and sets those that differ."""
        calls: list[Call] = []
        for name in sorted(self._unset):
            definition = self._definitions[name]
            request = _methods.get_work_spec(name)

            def compare(found: Any, name: str = name, definition: dict[str, Any] = definition) -> None:
                if _wire.text_strings(found) == _wire.text_strings(_wire.decode(_wire.encode(definition))):
                    self._unset.discard(name)
                    return

                def refused(error: RequestRefused) -> None:
                    if found is None:
                        self._on_spec_refused(error)
                    else:
                        # A token for workers may not set work specs, and its owner has set this one.
                        log.warning("%s stays as the daemon has it: %s", name, error.message)
                        self._unset.discard(name)

                setting = _methods.set_work_spec(definition)
                self._to_set.append(Call(setting.method, setting.params, lambda _: self._unset.discard(name), refused))

            calls.append(Call(request.method, request.params, compare, self._on_spec_refused))
        if self._to_set:
            calls, self._to_set = self._to_set, []
        return calls

    def _on_spec_refused(self, error: RequestRefused) -> None:
        self._fail(CoordinateError(f"the daemon refuses a work spec: {error.message}"))

    # Reports and renewals.

    def _reports(self) -> list[Call]:
        """Takes reports from the outbox, by work spec."""
        most, size = REPORTS_MOST, 0
        if self._alone:
            most = 1
            self._alone -= 1
        by_spec: dict[str, list[Report]] = {}
        while self._outbox and len(self._in_flight) < most and size < REPORT_BYTES_MOST:
            report = self._outbox.popleft()
            size += len(report.body)
            self._in_flight.append(report)
            by_spec.setdefault(report.held.spec, []).append(report)
        return [self._update(spec, [report.body for report in reports],
                             lambda pair, reports=reports: self._on_reported(reports, pair),
                             lambda error, reports=reports: self._on_report_error(reports, error))
                for spec, reports in by_spec.items()]  # fmt: skip

    @staticmethod
    def _update(spec: str, bodies: list[bytes], done: Any, failed: Any) -> Call:
        params = b"".join((_wire.array_header(2), _wire.encode(_wire.name_out(spec)), _wire.array_header(len(bodies)),
                           *bodies))  # fmt: skip
        return Call("update_work_units", params, done, failed)

    def _on_reported(self, reports: list[Report], pair: Any) -> None:
        answers, message = pair
        if answers is None:
            # The work spec is gone, and its units with it.
            answers = [[False, message]] * len(reports)
        for report, (accepted, told) in zip(reports, answers, strict=True):
            self.tally.count(report, bool(accepted), told)
            del self._held[report.held.id]
        done = {id(report) for report in reports}
        self._in_flight = [report for report in self._in_flight if id(report) not in done]
        self._pause = PAUSE_S[0]

    def _on_report_error(self, reports: list[Report], error: RequestRefused) -> None:
        """The daemon could not do it: perhaps its disk is full. Nothing was changed, so it is asked again."""
        done = {id(report) for report in reports}
        self._in_flight = [report for report in self._in_flight if id(report) not in done]
        if "limit " in error.message:
            if len(reports) == 1:
                reports = [smaller(reports[0], error.message)]
            else:
                self._alone = max(self._alone, len(reports))
        self._outbox.extendleft(reversed(reports))
        self._after_error(error)

    def _after_error(self, error: RequestRefused) -> None:
        """Asks nothing for a while: the daemon may be in trouble."""
        log.warning("the daemon answered %s with an error: %s", error.method, error.message)
        self._speaks_after = time.monotonic() + self._next_pause()

    def _next_pause(self) -> float:
        pause = self._pause
        self._pause = min(2 * pause, PAUSE_S[1])
        return pause

    def _renewals(self, now: float) -> list[Call]:
        """Renews the leases that are due, with the progress of their units."""
        every = min(self._lease / 3, RENEW_S)
        by_spec: dict[str, list[tuple[Held, bytes]]] = {}
        reported = {report.held.id for report in self._outbox} | {report.held.id for report in self._in_flight}
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
            calls.append(self._update(spec, [body for _, body in items],
                                      lambda pair, units=units: self._on_renewed(units, pair),
                                      lambda error, units=units: self._on_renewal_error(units, error)))  # fmt: skip
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
        self._after_error(error)

    # Requests for work.

    def _wants(self, now: float) -> int:
        """How many units to ask for now; 0 if there is no need, or no sense."""
        if self._phase is not Phase.WORKING or self._is_asking or self._wait_most is not None or now < self._asks_after:
            return 0
        return self._dispatcher.room()

    def _work_options(self, most: int, wait: float | None) -> bytes:
        runtimes = sorted({"", "python3"} | {str(one.get("runtime", "")) for one in self._definitions.values()})
        request = _methods.get_work(
            self._plan.worker,
            most=most,
            lease_s=self._lease,
            specs=sorted(self._definitions),
            runtimes=runtimes,
            wait=wait or 0.0,
        )
        return request.params

    def _get_work(self, most: int) -> Call:
        self._is_asking = True

        def done(pair: Any) -> None:
            self._is_asking = False
            if not self._take(pair):
                self._on_no_work(most)

        def failed(error: RequestRefused) -> None:
            self._is_asking = False
            self._after_error(error)

        return Call("get_work", self._work_options(most, None), done, failed)

    def _take(self, pair: Any) -> bool:
        """Takes the units of an answer. False if there are none."""
        leases, message = pair
        if message is not None:
            raise CoordinateError(f"get_work: {_wire.name_in(message)}")
        if isinstance(leases, tuple):
            # The answer to a request for one unit.
            leases = [] if leases[0] is None else [leases]
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
                self._outbox.append(given_back(held))
        if leases:
            self._pause = PAUSE_S[0]
            self._renew_at = min(self._renew_at, now + every)
        return bool(leases)

    def _on_no_work(self, most: int) -> None:
        """There is no work now: waits for it at the daemon."""
        if self._phase is not Phase.WORKING:
            return
        if self._until_empty:
            if not self._held:
                self._must_count = True
            # Others may end the last units meanwhile, so it looks again soon.
            self._asks_after = time.monotonic() + self._next_pause()
            return
        self._wait_most = most
        if self._waiter.is_free:
            self._wait()

    def _wait(self) -> None:
        if self._wait_most is None or self._phase is not Phase.WORKING:
            return
        wait = min(WAIT_S, self._lease / 4)

        def done(pair: Any) -> None:
            self._wait_most = None
            self._take(pair)
            if self._phase is not Phase.WORKING:
                self._waiter.close()

        self._waiter.send([Call("get_work", self._work_options(self._wait_most, wait), done, self._on_wait_error)],
                          alone=True)  # fmt: skip

    def _on_wait_error(self, error: RequestRefused) -> None:
        self._wait_most = None
        self._after_error(error)

    def _waiter_opened(self) -> None:
        self._wait()

    def _waiter_broken(self, _error: Exception) -> None:
        # The other connection shows what is wrong. It asks again.
        self._wait_most = None
        self._asks_after = time.monotonic() + self._next_pause()

    def _counts(self) -> list[Call]:
        """Asks whether any unit of these work specs is left, with any worker."""
        left: list[int] = []
        specs = sorted(self._definitions)

        def done(pair: Any) -> None:
            # A work spec that was deleted has no units.
            counts = pair[0] or {}
            left.append(counts.get(int(Status.AVAILABLE), 0) + counts.get(int(Status.PENDING), 0))
            if len(left) == len(specs) and not any(left) and not self._held and self._phase is Phase.WORKING:
                self._drain()

        requests = [_methods.count_work_units(name) for name in specs]
        return [Call(request.method, request.params, done, self._after_error) for request in requests]


def _ignore(_answer: Any) -> None:
    """An answer that changes nothing."""


def install_signals(supervisor: Supervisor) -> dict[signal.Signals, Any]:
    """In the main thread, lets SIGTERM and SIGINT stop a worker, and SIGHUP reload it. Gives what was before."""
    if threading.current_thread() is not threading.main_thread():
        return {}
    handlers = {
        signal.SIGTERM: lambda *_: supervisor.stop(),
        signal.SIGINT: lambda *_: supervisor.stop(),
        signal.SIGHUP: lambda *_: supervisor.reload(),
    }
    return {number: signal.signal(number, handler) for number, handler in handlers.items()}


def restore_signals(before: dict[signal.Signals, Any]) -> None:
    """Undoes `install_signals`."""
    for number, handler in before.items():
        signal.signal(number, handler)
