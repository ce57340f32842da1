"""The asyncio client: the methods of `Client`, awaited. Calls of several tasks are in flight together."""

from __future__ import annotations

import asyncio
import os
import secrets
import socket
import ssl
import time
from collections import deque
from collections.abc import AsyncIterable, AsyncIterator, Iterable, Mapping, Sequence
from contextlib import suppress
from types import TracebackType
from typing import TYPE_CHECKING, Any, Final, ParamSpec, TypeVar, overload

from . import _methods, _operations, _wire
from ._address import find_tls, find_token, parse_address
from ._connection import CONNECT_TIMEOUT_S, RECONNECT_FOR_S, backoff, configure, outcome_unknown, unreachable
from ._methods import IfExists, Request
from ._operations import Operation, Target, spec_name
from .errors import CoordinateError, ServerUnreachable
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

__all__ = ["AsyncClient", "AsyncLock"]

P = ParamSpec("P")
R = TypeVar("R")
T = TypeVar("T")

# The requests of `add_many` in flight.
_ADD_IN_FLIGHT: Final = 8
# Connections for requests that wait in the daemon. The first half waits as long as the daemon allows; further ones take
# turns on the other half.
_WAITING_MOST: Final = 64
_WAIT_TURN_S: Final = 0.25


class AsyncConnection:
    """One connection, with the answers that are expected on it, in order. A broken one is not used again."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer
        self._frames = _wire.FrameReader()
        self._expected: deque[asyncio.Future[Any]] = deque()
        self._number = 0
        self.closed = False
        self._error: Exception = ConnectionResetError("the connection was closed")
        self._receiver = asyncio.create_task(self._receive(), name="coordinated-receiver")

    def next_number(self) -> int:
        """Gives the id for the next request."""
        self._number += 1
        return self._number

    async def exchange(self, body: bytes) -> Any:
        """Sends a request or a list of requests, and gives the decoded response.

        Raises `OSError` if the connection breaks before the answer.
        """
        if self.closed:
            raise self._error
        answer: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self._expected.append(answer)
        self._writer.write(_wire.frame(body))
        # A task that is cancelled here leaves its answer to be read and dropped.
        await self._writer.drain()
        return await answer

    async def _receive(self) -> None:
        error: Exception = ConnectionResetError("the daemon closed the connection")
        try:
            while data := await self._reader.read(256 * 1024):
                self._frames.feed(data)
                while (body := self._frames.next()) is not None:
                    response = _wire.decode(body)
                    if not self._expected:
                        raise _wire.BadAnswer("the server sent an answer that nobody asked for")
                    expected = self._expected.popleft()
                    if not expected.done():
                        expected.set_result(response)
        except (OSError, CoordinateError) as broken:
            error = broken
        finally:
            self.close(error)

    def close(self, error: Exception | None = None) -> None:
        """Closes the connection. Whoever waits for an answer gets the error."""
        if self.closed:
            return
        self.closed = True
        self._error = error or self._error
        self._receiver.cancel()
        self._writer.close()
        for expected in self._expected:
            if not expected.done():
                expected.set_exception(self._error)
        self._expected.clear()

    async def wait_closed(self) -> None:
        """Waits until the connection is closed."""
        await asyncio.wait([self._receiver])
        with suppress(OSError):
            await self._writer.wait_closed()


class AsyncClient:
    """Calls a daemon from asyncio. The arguments are those of `Client`; use it in one event loop.

    All tasks share a connection and do not wait for each other's answers. What waits in the daemon, such as `result`,
    has connections of its own.

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
        self._address = parse_address(server)
        self._tls = find_tls(self._address, tls)
        self.server = str(self._address)
        self._reconnect_for = reconnect_for
        self._token = find_token(token)
        self._strings = python2_strings
        self._adder = _operations.Adder()
        self._closed = False
        self._was_connected = False
        self._shared: AsyncConnection | None = None
        self._opening: asyncio.Lock | None = None
        self._waiting: asyncio.Semaphore | None = None
        self._in_wait = 0
        self._idle: list[AsyncConnection] = []
        self._open: set[AsyncConnection] = set()

    async def __aenter__(self) -> AsyncClient:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.close()

    def __repr__(self) -> str:
        return f"AsyncClient({self.server!r})"

    async def close(self) -> None:
        """Closes the connections. The client can't be used any more."""
        self._closed = True
        opened, self._open = self._open, set()
        for connection in opened:
            connection.close()
        for connection in opened:
            await connection.wait_closed()

    # How calls are made.

    async def _connect(self) -> AsyncConnection:
        """Opens a connection."""
        if self._closed:
            raise CoordinateError("the client is closed: make another one")
        address = self._address
        if address.path:
            opening = asyncio.open_unix_connection(address.path)
        else:
            context = None if self._tls is None else self._tls.context
            opening = asyncio.open_connection(address.host, address.port, ssl=context)
        try:
            reader, writer = await asyncio.wait_for(opening, CONNECT_TIMEOUT_S)
        except asyncio.TimeoutError:
            raise TimeoutError("timed out") from None
        opened = writer.get_extra_info("socket")
        if opened is not None and opened.family != socket.AF_UNIX:
            configure(opened)
        connection = AsyncConnection(reader, writer)
        if self._token is not None:
            request = _methods.authenticate(self._token)
            try:
                request.answer(await connection.exchange(request.body(connection.next_number())))
            except BaseException:
                connection.close()
                raise
        self._open = {one for one in self._open if not one.closed}
        self._open.add(connection)
        self._was_connected = True
        return connection

    async def _shared_connection(self) -> AsyncConnection:
        if self._opening is None:
            self._opening = asyncio.Lock()
        if self._shared is None or self._shared.closed:
            async with self._opening:
                if self._shared is None or self._shared.closed:
                    self._shared = await self._connect()
        return self._shared

    async def _exchange(self, requests: Sequence[Request[Any]], as_list: bool) -> Any:
        """Sends on the shared connection, again if it breaks and the requests allow it."""
        deadline: float | None = None
        pauses = backoff()
        sent = False
        while True:
            try:
                if sent and not all(request.repeatable for request in requests):
                    raise outcome_unknown(self._address, requests[0].method)
                connection = await self._shared_connection()
                sent = True
                bodies = [request.body(connection.next_number()) for request in requests]
                return await connection.exchange(_wire.list_body(bodies) if as_list else bodies[0])
            except ServerUnreachable:
                raise
            except OSError as error:
                deadline = await self._pause(error, deadline, next(pauses))

    async def _pause(self, error: OSError, deadline: float | None, pause: float) -> float:
        """Waits before another attempt to connect, or raises `ServerUnreachable` if there is none."""
        if isinstance(error, ServerUnreachable):
            raise error
        if isinstance(error, ssl.SSLError):
            from ._tls import explain

            raise explain(error, self._address) from None
        now = time.monotonic()
        deadline = now + self._reconnect_for if deadline is None else deadline
        if self._closed or not self._was_connected or now + pause > deadline:
            raise unreachable(self._address, error) from error
        await asyncio.sleep(pause)
        return deadline

    async def _call(self, request: Request[T]) -> T:
        if request.wait > 0:
            return await self._call_waiting(request)
        return request.answer(await self._exchange([request], as_list=False))

    async def _call_list(self, requests: Sequence[Request[Any]]) -> list[Any]:
        if not requests:
            return []
        responses = await self._exchange(requests, as_list=True)
        if not isinstance(responses, list):  # the daemon refused the whole list
            _wire.result_of("a list of requests", responses)
            raise _wire.BadAnswer("the server answered a list of requests with one answer")
        return [request.answer(response) for request, response in zip(requests, responses, strict=True)]

    async def _call_waiting(self, request: Request[T]) -> T:
        """Sends a request that waits in the daemon, on a connection that nothing else is sent on meanwhile."""
        if self._waiting is None:
            self._waiting = asyncio.Semaphore(_WAITING_MOST)
        self._in_wait += 1
        try:
            async with self._waiting:
                response = await self._exchange_waiting(request)
        finally:
            self._in_wait -= 1
        return request.answer(response)

    async def _exchange_waiting(self, request: Request[Any]) -> Any:
        deadline: float | None = None
        pauses = backoff()
        while True:
            connection: AsyncConnection | None = None
            try:
                while self._idle and (connection is None or connection.closed):
                    connection = self._idle.pop()
                if connection is None or connection.closed:
                    connection = await self._connect()
                response = await connection.exchange(request.body(connection.next_number()))
            except OSError as error:
                deadline = await self._pause(error, deadline, next(pauses))
            except BaseException:
                # Cancelled, say by asyncio.timeout: the daemon stops waiting when the connection closes.
                if connection is not None:
                    connection.close()
                raise
            else:
                self._idle.append(connection)
                return response

    def _turn(self) -> float:
        """Gives how long the next wait in the daemon may take, in seconds."""
        return _methods.WAIT_MOST if self._in_wait < _WAITING_MOST // 2 else _WAIT_TURN_S

    async def _run(self, operation: Operation[T]) -> T:
        """Runs an operation."""
        try:
            request = next(operation)
            while True:
                try:
                    answer = await (self._call_list(request) if isinstance(request, list) else self._call(request))
                except Exception as error:
                    request = operation.throw(error)
                else:
                    request = operation.send(answer)
        except StopIteration as end:
            value: T = end.value
            return value

    async def call(self, method: str, *params: Any, **named: Any) -> Any:
        """Calls any method of the protocol, as `Client.call`."""
        if params and named:
            raise TypeError("give all parameters by position, or all by name")
        return await self._call(_methods.call(method, named or params))

    # Adding.

    @overload
    async def add(self, unit: Unit[R], /, *, if_exists: IfExists = "skip") -> Unit[R]: ...
    @overload
    async def add(self, spec: Spec[P, R] | UnitOptions[P, R], /, *args: P.args, **kwargs: P.kwargs) -> Unit[R]: ...
    async def add(self, target: Any, /, *args: Any, **kwargs: Any) -> Unit[Any]:
        """Adds a unit, as `Client.add`. Adds of many tasks at once share their way to the disk."""
        if_exists: IfExists = kwargs.pop("if_exists", "skip") if isinstance(target, Unit) else "skip"
        return await self._run(self._adder.add(_operations.unit_of(target, args, kwargs), if_exists))

    async def add_many(
        self, units: Iterable[Unit[Any]] | AsyncIterable[Unit[Any]], *, if_exists: IfExists = "skip"
    ) -> Added:
        """Adds units of any number, as `Client.add_many`; also from an asynchronous generator."""
        total = Added()
        in_flight: deque[asyncio.Task[Added]] = deque()
        try:
            async for request in self._batches(units, if_exists):
                in_flight.append(asyncio.create_task(self._call(request)))
                # The task has to write its request before the next one does.
                await asyncio.sleep(0)
                if len(in_flight) >= _ADD_IN_FLIGHT:
                    total += await in_flight.popleft()
            while in_flight:
                total += await in_flight.popleft()
        finally:
            for task in in_flight:
                task.cancel()
            await asyncio.gather(*in_flight, return_exceptions=True)
        return total

    async def _batches(
        self, units: Iterable[Unit[Any]] | AsyncIterable[Unit[Any]], if_exists: IfExists
    ) -> AsyncIterator[Request[Added]]:
        batches = _operations.Batches(if_exists)
        known: set[str] = set()
        async for unit in _each(units):
            if unit.spec not in known:
                known.add(unit.spec)
                if unit.definition is not None:
                    await self._run(_operations.set_specs(unit.definition))
            request = batches.push(unit)
            if request is not None:
                yield request
        for request in batches.rest():
            yield request

    # Waiting.

    async def result(self, unit: Unit[R], timeout: float | None = None) -> R:
        """Waits until a unit has finished, and gives what its function returned, as `Client.result`."""
        return await self._run(_operations.result(unit, timeout, self._strings, self._turn))

    async def wait(self, unit: Unit[Any], timeout: float | None = None) -> UnitState:
        """Waits until a unit has finished or failed, and gives its state. Raises `WaitTimeout`."""
        return await self._run(_operations.wait(unit, timeout, self._turn))

    async def completed(self, units: Iterable[Unit[Any]], timeout: float | None = None) -> AsyncIterator[UnitState]:
        """Gives the state of each of many units when it has finished or failed, as `Client.completed`."""
        waiting = _operations.Waiting(units, timeout)
        while waiting.more():
            for state in await self._run(waiting.step()):
                yield state

    # Looking.

    async def state(self, unit: Unit[Any]) -> UnitState:
        """Gives the state of a unit."""
        return await self._run(_operations.state(unit))

    async def states(self, units: Iterable[Unit[Any]]) -> list[UnitState | None]:
        """Gives the states of units, in order; None for one that does not exist."""
        return await self._run(_operations.states(units))

    async def data(self, unit: Unit[Any]) -> dict[Any, Any]:
        """Gives the data of a unit: its arguments and, after it has finished, `result`."""
        return await self._run(_operations.data(unit, self._strings))

    async def units(
        self, spec: Spec[..., Any] | str, status: Status | None = None, start: str | None = None
    ) -> AsyncIterator[tuple[str, dict[Any, Any]]]:
        """Gives the keys and data of the units of a work spec, as `Client.units`."""
        following: str | None = start or ""
        while following is not None:
            page, following = await self._run(
                _operations.page(spec_name(spec), None if status is None else [status], following, self._strings)
            )
            for one in page:
                yield one

    async def progress(self, unit: Unit[Any]) -> Progress | None:
        """Gives how far a running unit has come, as it told last; None if it has told nothing."""
        return await self._run(_operations.progress(unit))

    async def attempts(self, unit: Unit[Any], limit: int | None = None) -> list[Attempt]:
        """Gives the attempts at a unit, the newest first."""
        attempts = await self._call(_methods.get_attempts(unit.spec, unit.key, limit))
        if attempts is None:
            raise _operations.no_such_unit(unit)
        return attempts

    async def failures(self, spec: Spec[..., Any] | str) -> list[Failure]:
        """Gives the failed units of a work spec by message, the most frequent first."""
        return await self._call(_methods.list_failures(spec_name(spec)))

    async def why(self, target: Target) -> list[Reason]:
        """Tells why a unit, or any unit of a work spec, is not handed out now: the most important reason first."""
        return await self._run(_operations.why(target))

    async def summary(self) -> list[SpecSummary]:
        """Gives the number of units of each work spec in each status, by name. Those without units are left out."""
        return await self._call(_methods.summary())

    async def count(self, spec: Spec[..., Any] | str) -> dict[Status, int]:
        """Gives the number of units of a work spec in each status, without zeros."""
        return await self._call(_methods.count_work_units(spec_name(spec)))

    async def workers(self) -> list[WorkerInfo]:
        """Gives the workers that are alive."""
        return await self._run(_operations.workers())

    async def server_info(self) -> dict[str, Any]:
        """Gives the daemon's version, features, times and counts of calls."""
        return await self._call(_methods.server_info())

    # Changing.

    async def retry(self, target: Target, *, matching: str | None = None) -> int:
        """Makes a failed unit available again, or the failed units of a work spec, as `Client.retry`."""
        return await self._run(_operations.retry(target, matching))

    async def cancel(self, target: Target, *, reason: str | None = None, grace: float | None = None) -> CancelledUnits:
        """Cancels a unit, or all units of a work spec that have not completed, as `Client.cancel`."""
        return await self._run(_operations.cancel(target, reason, grace))

    async def delete(self, target: Target, status: Status | None = None) -> int:
        """Deletes a unit, or the units of a work spec, as `Client.delete`."""
        return await self._run(_operations.delete(target, status))

    async def prioritize(self, unit: Unit[Any], priority: float) -> None:
        """Sets the priority of a unit."""
        await self._call(_methods.prioritize_work_units(unit.spec, [unit.key], priority=priority))

    # Work specs.

    async def set_spec(self, spec: Spec[..., Any] | Mapping[str, Any]) -> bool:
        """Sets a work spec if its definition is new, as `Client.set_spec`."""
        definition = spec.definition() if isinstance(spec, Spec) else spec
        return await self._run(_operations.set_spec(definition))

    async def get_spec(self, spec: Spec[..., Any] | str) -> dict[str, Any]:
        """Gives the dictionary of a work spec."""
        found = await self._call(_methods.get_work_spec(spec_name(spec)))
        if found is None:
            raise _methods.no_such_spec(spec_name(spec))
        return found

    async def specs(self) -> list[dict[str, Any]]:
        """Gives the dictionaries of all work specs, by name."""
        return (await self._call(_methods.list_work_specs()))[0]

    async def delete_spec(self, spec: Spec[..., Any] | str) -> bool:
        """Deletes a work spec with all its units; gives whether there was one."""
        return await self._call(_methods.del_work_spec(spec_name(spec)))

    async def pause(self, spec: Spec[..., Any] | str, reason: str | None = None) -> None:
        """Hands out no more units of a work spec. Those that run are not stopped."""
        await self._call(_operations.pause(spec, reason))

    async def resume(self, spec: Spec[..., Any] | str) -> None:
        """Hands out units of a paused work spec again."""
        await self._call(_operations.resume(spec))

    # Locks.

    def lock(self, *path: str, timeout: float = 60.0, wait: float = 0.0) -> AsyncLock:
        """Gives a lock for an `async with` block, as `Client.lock`. It is renewed while the block runs, by a task."""
        return AsyncLock(self, path, timeout, wait)


class AsyncLock:
    """A lock in the daemon, held in an `async with` block. `lost` is set if it could not be renewed."""

    def __init__(self, client: AsyncClient, path: Sequence[str], timeout: float, wait: float) -> None:
        if not path:
            raise ValueError("a lock needs a path of at least one label")
        self.path = tuple(path)
        self.owner = f"{_operations.who()}-{os.getpid()}-{secrets.token_hex(4)}"
        self.lost = asyncio.Event()
        self._client = client
        self._timeout = timeout
        self._wait = wait
        self._renewer: asyncio.Task[None] | None = None

    async def __aenter__(self) -> AsyncLock:
        client = self._client
        deadline = time.monotonic() + self._wait
        pause = 0.05
        while not await client._run(_operations.lock(self.owner, self.path, self._timeout)):
            left = deadline - time.monotonic()
            if left <= 0:
                raise await client._run(_operations.lock_held(self.path))
            await asyncio.sleep(min(pause, left))
            pause = min(2 * pause, 1.0)
        self._renewer = asyncio.create_task(self._renew(), name="coordinated-lock")
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._renewer is not None:
            self._renewer.cancel()
            await asyncio.gather(self._renewer, return_exceptions=True)
        await self._client._call(_methods.unlock(self.owner, self.path))

    async def _renew(self) -> None:
        while True:
            await asyncio.sleep(self._timeout / 3)
            try:
                held = await self._client._call(_methods.renew(self.owner, self._timeout, self.path))
            except CoordinateError:
                held = False
            if not held:
                self.lost.set()
                return


async def _each(units: Iterable[T] | AsyncIterable[T]) -> AsyncIterator[T]:
    if isinstance(units, AsyncIterable):
        async for unit in units:
            yield unit
    else:
        for unit in units:
            yield unit
