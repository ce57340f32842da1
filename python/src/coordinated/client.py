"""The blocking client: adds units, waits for results, and looks at and changes the queue."""

from __future__ import annotations

import os
import secrets
import threading
import time
from collections.abc import Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from types import TracebackType
from typing import TYPE_CHECKING, Any, Final, ParamSpec, TypeVar, overload

from . import _methods, _operations
from ._address import find_tls, find_token, parse_address
from ._connection import RECONNECT_FOR_S, Connection
from ._methods import IfExists, Request
from ._operations import Operation, Target, spec_name
from .errors import CoordinateError
from .spec import Spec, Unit, UnitOptions
from .values import (
    Added,
    Attempt,
    CancelledUnits,
    Failure,
    Progress,
    Reason,
    SpecSummary,
    Status,
    UnitState,
    WorkerInfo,
)

if TYPE_CHECKING:
    from ._tls import Tls

__all__ = ["Client", "Lock"]

P = ParamSpec("P")
R = TypeVar("R")
T = TypeVar("T")

# The requests of `add_many` in flight: enough to keep the daemon busy, and at most 8 MiB.
_ADD_IN_FLIGHT: Final = 8


class Client:
    """Calls a daemon. It connects at the first call, and connects again by itself; threads can share it.

    Each thread that is in a call has a connection of its own, so one that waits for a result keeps no other from
    calling.

    Args:
        server: `HOST:PORT`, `[IPV6]:PORT`, `tls:HOST:PORT` or `unix:PATH`; by default the variable
            COORDINATED_SERVER, or 127.0.0.1:5932.
        reconnect_for: For how many seconds to try again when a connection breaks. A daemon that does not answer at the
            first call is an error at once.
        token: The secret of a token, for a daemon that wants one; by default that in the file COORDINATED_TOKEN_FILE,
            or in the variable COORDINATED_TOKEN.
        tls: Whom to trust at a `tls:` address, and how to show who this is; by default what the variables say that
            `Tls` names.
        python2_strings: Give byte strings in data as `str` where they are UTF-8: for queues that Python 2 programs
            fill.

    Raises:
        ValueError: If `server` is no address.
        TlsError: If the files of `tls` can't be used.

    Every method can raise `ServerUnreachable`, and `RequestRefused` for what the daemon refuses. Methods that name a
    work spec or a unit raise `NoSuchSpec` or `NoSuchUnit` if it does not exist.
    """

    def __init__(
        self,
        server: str | None = None,
        *,
        reconnect_for: float = RECONNECT_FOR_S,
        token: str | None = None,
        tls: Tls | None = None,
        python2_strings: bool = False,
    ) -> None:
        address = parse_address(server)
        self.server = str(address)
        self._tls = find_tls(address, tls)
        self._reconnect_for = reconnect_for
        self._token = find_token(token)
        self._strings = python2_strings
        self._adder = _operations.Adder()
        self._mutex = threading.Lock()
        self._idle: list[Connection] | None = []
        self._pid = os.getpid()

    def __enter__(self) -> Client:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"Client({self.server!r})"

    def close(self) -> None:
        """Closes the connections. The client can't be used any more."""
        with self._mutex:
            idle, self._idle = self._idle or [], None
        for connection in idle:
            connection.close()

    # How calls are made.

    @contextmanager
    def _connection(self) -> Generator[Connection, None, None]:
        with self._mutex:
            if self._idle is None:
                raise CoordinateError("the client is closed: make another one")
            if os.getpid() != self._pid:
                # After a fork the sockets are the parent's.
                self._idle, self._pid = [], os.getpid()
            connection = self._idle.pop() if self._idle else self._new_connection()
        try:
            yield connection
        finally:
            self._give_back(connection)

    def _new_connection(self) -> Connection:
        return Connection(self.server, reconnect_for=self._reconnect_for, token=self._token, tls=self._tls)

    def _give_back(self, connection: Connection) -> None:
        with self._mutex:
            if self._idle is not None:
                self._idle.append(connection)
                return
        connection.close()

    def _run(self, operation: Operation[T]) -> T:
        """Runs an operation on a connection."""
        with self._connection() as connection:
            try:
                request = next(operation)
                while True:
                    try:
                        answer = (
                            connection.call_list(request) if isinstance(request, list) else connection.call(request)
                        )
                    except Exception as error:
                        request = operation.throw(error)
                    else:
                        request = operation.send(answer)
            except StopIteration as end:
                value: T = end.value
                return value

    def _call(self, request: Request[T]) -> T:
        with self._connection() as connection:
            return connection.call(request)

    def call(self, method: str, *params: Any, **named: Any) -> Any:
        """Calls any method of the protocol (docs/protocol.md), with parameters by position or by name.

        Gives the result with byte strings as `str` where they are UTF-8. If the connection breaks, the call is sent
        again.
        """
        if params and named:
            raise TypeError("give all parameters by position, or all by name")
        return self._call(_methods.call(method, named or params))

    # Adding.

    @overload
    def add(self, unit: Unit[R], /, *, if_exists: IfExists = "skip") -> Unit[R]: ...
    @overload
    def add(self, spec: Spec[P, R] | UnitOptions[P, R], /, *args: P.args, **kwargs: P.kwargs) -> Unit[R]: ...
    def add(self, target: Any, /, *args: Any, **kwargs: Any) -> Unit[Any]:
        """Adds a unit: `add(spec, arguments...)`, `add(spec.options(key="a"), arguments...)` or `add(unit)`.

        The work spec of a function is set first, if the daemon has none or another definition. When this returns, the
        unit is on disk. A unit whose key exists is not added again, whatever its status. With a `Unit`,
        `if_exists="reset"` gives it the new data and makes it available again, and `if_exists="error"` raises
        `UnitExists`.

        Raises:
            TypeError: If the arguments do not fit the function, or can't be sent (`UnwritableValue`).
        """
        if isinstance(target, Unit):
            if_exists: IfExists = kwargs.pop("if_exists", "skip")
            return self._run(self._adder.add(_operations.unit_of(target, args, kwargs), if_exists))
        return self._run(self._adder.add(_operations.unit_of(target, args, kwargs), "skip"))

    def add_many(self, units: Iterable[Unit[Any]], *, if_exists: IfExists = "skip") -> Added:
        """Adds units of any number: from a generator, in constant memory.

        They are sent in groups of up to 1,000, several groups at a time; each group is added as a whole. If this
        raises, the groups before may have been added: calling it again with the same keys is safe with `skip`.

        Args:
            units: What `spec.unit(...)` makes, of one or several work specs.
            if_exists: What to do with units whose key exists: leave them as they are (`skip`), give them the new data
                and make them available again (`reset`), or raise `UnitExists` (`error`).
        """
        total = Added()
        with self._connection() as connection:
            for added in connection.pipeline(self._batches(units, if_exists), _ADD_IN_FLIGHT):
                total += added
        return total

    def _batches(self, units: Iterable[Unit[Any]], if_exists: IfExists) -> Iterator[Request[Added]]:
        batches = _operations.Batches(if_exists)
        known: set[str] = set()
        for unit in units:
            if unit.spec not in known:
                known.add(unit.spec)
                if unit.definition is not None:
                    self._run(_operations.set_specs(unit.definition))
            request = batches.push(unit)
            if request is not None:
                yield request
        yield from batches.rest()

    # Waiting.

    def result(self, unit: Unit[R], timeout: float | None = None) -> R:
        """Waits until a unit has finished, and gives what its function returned.

        Args:
            unit: What `add` gave, or `Unit("spec", "key")`.
            timeout: The number of seconds to wait at most; None for no limit, 0 not to wait.

        Raises:
            UnitFailed: If it has failed for good; the message has the last line of the traceback.
            UnitCancelled: If it was cancelled.
            WaitTimeout: If it was not done in time.
            NoSuchUnit: If it was deleted.
        """
        return self._run(_operations.result(unit, timeout, self._strings))

    def wait(self, unit: Unit[Any], timeout: float | None = None) -> UnitState:
        """Waits until a unit has finished or failed, and gives its state. Raises `WaitTimeout`."""
        return self._run(_operations.wait(unit, timeout))

    def completed(self, units: Iterable[Unit[Any]], timeout: float | None = None) -> Iterator[UnitState]:
        """Gives the state of each of many units when it has finished or failed, in that order.

        Raises `WaitTimeout` if none of the others has in the end, `timeout` seconds after the first was asked for.
        """
        waiting = _operations.Waiting(units, timeout)
        while waiting.more():
            yield from self._run(waiting.step())

    # Looking.

    def state(self, unit: Unit[Any]) -> UnitState:
        """Gives the state of a unit."""
        return self._run(_operations.state(unit))

    def states(self, units: Iterable[Unit[Any]]) -> list[UnitState | None]:
        """Gives the states of units, in order; None for one that does not exist."""
        return self._run(_operations.states(units))

    def data(self, unit: Unit[Any]) -> dict[Any, Any]:
        """Gives the data of a unit: its arguments and, after it has finished, `result`."""
        return self._run(_operations.data(unit, self._strings))

    def units(
        self, spec: Spec[..., Any] | str, status: Status | None = None, start: str | None = None
    ) -> Iterator[tuple[str, dict[Any, Any]]]:
        """Gives the keys and data of the units of a work spec, all or those of one status, by key, from `start` on."""
        following: str | None = start or ""
        while following is not None:
            page, following = self._run(
                _operations.page(spec_name(spec), None if status is None else [status], following, self._strings)
            )
            yield from page

    def progress(self, unit: Unit[Any]) -> Progress | None:
        """Gives how far a running unit has come, as it told last; None if it has told nothing."""
        return self._run(_operations.progress(unit))

    def attempts(self, unit: Unit[Any], limit: int | None = None) -> list[Attempt]:
        """Gives the attempts at a unit, the newest first."""
        attempts = self._call(_methods.get_attempts(unit.spec, unit.key, limit))
        if attempts is None:
            raise _operations.no_such_unit(unit)
        return attempts

    def failures(self, spec: Spec[..., Any] | str) -> list[Failure]:
        """Gives the failed units of a work spec by message, the most frequent first."""
        return self._call(_methods.list_failures(spec_name(spec)))

    def why(self, target: Target) -> list[Reason]:
        """Tells why a unit, or any unit of a work spec, is not handed out now: the most important reason first."""
        return self._run(_operations.why(target))

    def summary(self) -> list[SpecSummary]:
        """Gives the number of units of each work spec in each status, by name. Those without units are left out."""
        return self._call(_methods.summary())

    def count(self, spec: Spec[..., Any] | str) -> dict[Status, int]:
        """Gives the number of units of a work spec in each status, without zeros."""
        return self._call(_methods.count_work_units(spec_name(spec)))

    def workers(self) -> list[WorkerInfo]:
        """Gives the workers that are alive."""
        return self._run(_operations.workers())

    def server_info(self) -> dict[str, Any]:
        """Gives the daemon's version, features, times and counts of calls."""
        return self._call(_methods.server_info())

    # Changing.

    def retry(self, target: Target, *, matching: str | None = None) -> int:
        """Makes a failed unit available again, or the failed units of a work spec; gives their number.

        A unit that is delayed until its next try is tried at once. `matching` selects the units of a work spec whose
        message, the last line of the traceback, contains this text.
        """
        return self._run(_operations.retry(target, matching))

    def cancel(self, target: Target, *, reason: str | None = None, grace: float | None = None) -> CancelledUnits:
        """Cancels a unit, or all units of a work spec that have not completed.

        Those that wait fail at once. Those that run are told at the next renewal of their lease, and can finish for
        `grace` seconds, by default 30.
        """
        return self._run(_operations.cancel(target, reason, grace))

    def delete(self, target: Target, status: Status | None = None) -> int:
        """Deletes a unit, or the units of a work spec, all or those of one status; gives their number."""
        return self._run(_operations.delete(target, status))

    def prioritize(self, unit: Unit[Any], priority: float) -> None:
        """Sets the priority of a unit."""
        self._call(_methods.prioritize_work_units(unit.spec, [unit.key], priority=priority))

    # Work specs.

    def set_spec(self, spec: Spec[..., Any] | Mapping[str, Any]) -> bool:
        """Sets a work spec, from a function or a dictionary, if its definition is new; gives whether it was.

        `add` does it by itself for a function. What `pause` and `coordinated control` have set stays.
        """
        definition = spec.definition() if isinstance(spec, Spec) else spec
        return self._run(_operations.set_spec(definition))

    def get_spec(self, spec: Spec[..., Any] | str) -> dict[str, Any]:
        """Gives the dictionary of a work spec."""
        found = self._call(_methods.get_work_spec(spec_name(spec)))
        if found is None:
            raise _methods.no_such_spec(spec_name(spec))
        return found

    def specs(self) -> list[dict[str, Any]]:
        """Gives the dictionaries of all work specs, by name."""
        return self._call(_methods.list_work_specs())[0]

    def delete_spec(self, spec: Spec[..., Any] | str) -> bool:
        """Deletes a work spec with all its units; gives whether there was one."""
        return self._call(_methods.del_work_spec(spec_name(spec)))

    def pause(self, spec: Spec[..., Any] | str, reason: str | None = None) -> None:
        """Hands out no more units of a work spec. Those that run are not stopped."""
        self._call(_operations.pause(spec, reason))

    def resume(self, spec: Spec[..., Any] | str) -> None:
        """Hands out units of a paused work spec again."""
        self._call(_operations.resume(spec))

    # Locks.

    def lock(self, *path: str, timeout: float = 60.0, wait: float = 0.0) -> Lock:
        """Gives a lock for a `with` block. It is renewed while the block runs, by a thread.

        Args:
            path: Labels in a tree, such as `"reports", "2026"`. A lock excludes those above and below it.
            timeout: After how many seconds the lock ends if this process dies.
            wait: For how many seconds to wait for a lock that is held.

        Raises:
            LockHeld: From the `with` statement, if another owner has it.
        """
        return Lock(self, path, timeout, wait)


class Lock:
    """A lock in the daemon, held in a `with` block. `lost` is set if it could not be renewed."""

    def __init__(self, client: Client, path: Sequence[str], timeout: float, wait: float) -> None:
        if not path:
            raise ValueError("a lock needs a path of at least one label")
        self.path = tuple(path)
        self.owner = f"{_operations.who()}-{os.getpid()}-{secrets.token_hex(4)}"
        self.lost = threading.Event()
        self._client = client
        self._timeout = timeout
        self._wait = wait
        self._done = threading.Event()
        self._renewer: threading.Thread | None = None

    def __enter__(self) -> Lock:
        client = self._client
        deadline = time.monotonic() + self._wait
        pause = 0.05
        while not client._run(_operations.lock(self.owner, self.path, self._timeout)):
            left = deadline - time.monotonic()
            if left <= 0:
                raise client._run(_operations.lock_held(self.path))
            time.sleep(min(pause, left))
            pause = min(2 * pause, 1.0)
        self._done.clear()
        self._renewer = threading.Thread(target=self._renew, name="coordinated-lock", daemon=True)
        self._renewer.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._done.set()
        if self._renewer is not None:
            self._renewer.join()
        self._client._call(_methods.unlock(self.owner, self.path))

    def _renew(self) -> None:
        while not self._done.wait(self._timeout / 3):
            try:
                held = self._client._call(_methods.renew(self.owner, self._timeout, self.path))
            except CoordinateError:
                held = False
            if not held:
                self.lost.set()
                return
