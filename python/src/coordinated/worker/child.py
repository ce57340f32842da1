"""A child process: it runs functions for its supervisor, and knows nothing of the daemon.

With a concurrency of 1 a function has the main thread to itself, and a thread beside it reads from the supervisor
(`MainThread`). Otherwise the main thread runs an event loop, with sync functions in threads (`Loop`).

The supervisor sees when the process dies and which unit ran then, because the process writes that down on its `Slate`.
"""

from __future__ import annotations

import asyncio
import contextlib
import mmap
import os
import queue
import select
import signal
import socket
import struct
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Coroutine
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Final

from .. import _wire
from ..context import Current, running
from ..errors import Cancelled
from ..spec import Spec
from ..values import Progress
from . import _messages
from ._messages import Kind
from .functions import Function, find_lifespan, find_specs, text_of

__all__ = ["Slate", "run_inline"]

# How long an outcome waits for others while functions are short, and how long at most.
GATHER_S: Final = 0.002
TICK_S: Final = 0.05
# Tells the main thread to stop its function. Nothing else uses it, and it ends no process that does not know it.
STOP_SIGNAL: Final = signal.SIGURG


class Slate:
    """16 bytes that a child shares with its supervisor: which unit its main thread runs, and since when.

    It tells the truth even if the child can't: it was killed, or its function does not let other threads run.
    """

    SIZE: Final = 16
    _FORMAT: Final = struct.Struct("<dQ")

    def __init__(self, memory: mmap.mmap | bytearray) -> None:
        self._memory = memory

    def write(self, unit: int) -> None:
        """Notes that the unit with this id begins; 0 for none."""
        self._FORMAT.pack_into(self._memory, 0, time.monotonic(), unit)

    def read(self) -> tuple[float, int]:
        """Gives since when (`time.monotonic`) which unit runs."""
        since, unit = self._FORMAT.unpack_from(self._memory, 0)
        return since, unit


class _Unit:
    """A unit that this process has."""

    __slots__ = ("attempt_id", "data", "id", "is_told", "key", "number", "spec", "task")

    def __init__(self, item: list[Any]) -> None:
        self.id, self.spec, key, self.data, self.attempt_id, self.number = item
        self.key: str = _wire.name_in(key)
        self.is_told = False
        self.task: asyncio.Task[None] | None = None


class _Child:
    """What both ways of running functions have in common."""

    def __init__(self, connection: socket.socket, config: dict[str, Any], specs: list[Spec[..., Any]]) -> None:
        self._socket = connection
        self._sending = threading.Lock()
        self._outcomes: deque[list[Any]] = deque()
        self._functions = {spec.name: Function(spec) for spec in specs}
        self._worker: str = config["worker"]
        self._grace: float = config["grace"]
        self._concurrency: int = config["concurrency"]
        self._units: dict[int, _Unit] = {}
        self._reader = _messages.MessageReader()
        self._state: Any = None

    def _current(self, unit: _Unit) -> Current:
        def tell(progress: Progress) -> None:
            told = {"done": progress.done, "total": progress.total, "note": progress.note}
            shown = {name: value for name, value in told.items() if value is not None}
            self._send([Kind.PROGRESS, unit.id, _wire.encode({**unit.data, "progress": shown})])

        return Current(
            spec=unit.spec,
            key=unit.key,
            attempt=unit.number,
            attempt_id=unit.attempt_id,
            worker=self._worker,
            state=self._state,
            tell=tell,
            cancelled=lambda: unit.is_told,
        )

    def _send(self, message: list[Any]) -> None:
        """Sends a message. A supervisor that is gone is noticed by who reads."""
        with self._sending, contextlib.suppress(OSError):
            self._socket.sendall(_messages.pack(message))

    def _flush(self) -> None:
        outcomes: list[list[Any]] = []
        with contextlib.suppress(IndexError):
            while True:
                outcomes.append(self._outcomes.popleft())
        if outcomes:
            self._send([Kind.OUTCOMES, outcomes])

    def _ended(self, unit: _Unit, outcome: list[Any], began: float) -> None:
        self._units.pop(unit.id, None)
        self._outcomes.append([unit.id, *outcome, time.monotonic() - began])

    def _hello(self) -> None:
        specs = [
            [function.spec.name, function.spec.definition(), function.spec.timeout]
            for function in self._functions.values()
        ]
        files = [getattr(module, "__file__", None) for module in list(sys.modules.values())]
        self._send([Kind.HELLO, specs, [file for file in files if file]])

    def _broken(self, error: BaseException) -> None:
        self._send([Kind.BROKEN, text_of(error)])


class _MainThread(_Child):
    """Runs one function at a time, in the calling thread."""

    def __init__(
        self, connection: socket.socket, config: dict[str, Any], specs: list[Spec[..., Any]], slate: Slate
    ) -> None:
        super().__init__(connection, config, specs)
        self._slate = slate
        self._inbox: queue.SimpleQueue[_Unit | None] = queue.SimpleQueue()
        self._running: _Unit | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._task: asyncio.Task[Any] | None = None
        self._main = threading.get_ident()
        self._can_signal = threading.current_thread() is threading.main_thread()

    def run(self, lifespan: Callable[[], Any] | None) -> bool:
        """Runs what comes, until the supervisor retires this process or is gone. False if it could not begin."""
        before = signal.signal(STOP_SIGNAL, self._stop_now) if self._can_signal else None
        try:
            with contextlib.ExitStack() as stack:
                try:
                    self._state = self._enter(stack, lifespan)
                except Exception as error:
                    self._broken(error)
                    return False
                reader = threading.Thread(target=self._read, name="coordinated-reader", daemon=True)
                reader.start()
                self._hello()
                self._work()
        finally:
            if self._loop is not None:
                self._loop.close()
            if self._can_signal:
                signal.signal(STOP_SIGNAL, before)
        return True

    def _enter(self, stack: contextlib.ExitStack, lifespan: Callable[[], Any] | None) -> Any:
        if lifespan is None:
            return None
        manager = lifespan()
        if hasattr(manager, "__aenter__"):
            state = self._wait_for(manager.__aenter__())
            stack.callback(lambda: self._wait_for(manager.__aexit__(None, None, None)))
            return state
        return stack.enter_context(manager)

    def _wait_for(self, coroutine: Coroutine[Any, Any, Any]) -> Any:
        if self._loop is None:
            self._loop = asyncio.new_event_loop()
        return self._loop.run_until_complete(coroutine)

    def _work(self) -> None:
        inbox = self._inbox
        flushed = 0.0
        while (unit := inbox.get()) is not None:
            began = time.monotonic()
            self._ended(unit, self._run(unit), began)
            if inbox.empty() or began - flushed > GATHER_S:
                self._flush()
                flushed = began
        self._flush()

    def _run(self, unit: _Unit) -> list[Any]:
        # From where `_running` is set until it is unset, the signal can raise Cancelled between any two steps.
        try:
            try:
                self._running = unit
                self._slate.write(unit.id)
                if unit.is_told:
                    raise Cancelled
                return self._outcome(unit)
            finally:
                self._running = None
                self._slate.write(0)
        except Cancelled as error:
            self._running = None
            self._slate.write(0)
            return [_messages.STOPPED, None, text_of(error)]

    def _outcome(self, unit: _Unit) -> list[Any]:
        running.set(self._current(unit))
        function = self._functions[unit.spec]
        try:
            if function.is_async:
                return self._run_async(function, unit)
            return function.finished(unit.data, function.call(unit.data))
        except Cancelled:
            raise
        except asyncio.CancelledError as error:
            if unit.is_told:
                return [_messages.STOPPED, None, text_of(error)]
            return function.failed(unit.data, error)
        except BaseException as error:
            return function.failed(unit.data, error)

    def _run_async(self, function: Function, unit: _Unit) -> list[Any]:
        async def run() -> list[Any]:
            return await function.finished_async(unit.data, function.call(unit.data))

        if self._loop is None:
            self._loop = asyncio.new_event_loop()
        self._task = self._loop.create_task(run())
        try:
            if unit.is_told:
                self._task.cancel()
            outcome: list[Any] = self._loop.run_until_complete(self._task)
        finally:
            self._task = None
        return outcome

    def _stop_now(self, _signal: int, _frame: Any) -> None:
        """Handles the signal, in the main thread: stops the function if it is one that was told to."""
        unit = self._running
        if unit is None or not unit.is_told:
            return
        if self._task is not None and self._loop is not None:
            self._loop.call_soon_threadsafe(self._task.cancel)
            return
        # Once only: what the function does about it is not disturbed.
        self._running = None
        raise Cancelled

    # The thread beside it.

    def _read(self) -> None:
        unit: _Unit | None
        while True:
            is_busy = bool(self._units)
            if not select.select([self._socket], [], [], TICK_S if is_busy else None)[0]:
                self._tick()
                continue
            try:
                data = self._socket.recv(1 << 18)
            except OSError:
                data = b""
            if not data:
                self._release()
                for held in list(self._units.values()):
                    self._tell(held)
                self._inbox.put(None)
                return
            for message in self._reader.feed(data):
                if message[0] == Kind.UNITS:
                    for item in message[1]:
                        unit = _Unit(item)
                        self._units[unit.id] = unit
                        self._inbox.put(unit)
                elif message[0] == Kind.TELL:
                    unit = self._units.get(message[1])
                    if unit is not None:
                        self._tell(unit)
                elif message[0] == Kind.RELEASE:
                    self._release()
                elif message[0] == Kind.RETIRE:
                    self._inbox.put(None)

    def _tick(self) -> None:
        """A function has run for a while: nothing may wait for it."""
        self._flush()
        since, unit = self._slate.read()
        if unit and time.monotonic() - since > TICK_S and not self._inbox.empty():
            self._release()

    def _release(self) -> None:
        released: list[int] = []
        is_retired = False
        with contextlib.suppress(queue.Empty):
            while True:
                unit = self._inbox.get_nowait()
                if unit is None:
                    is_retired = True
                else:
                    del self._units[unit.id]
                    released.append(unit.id)
        if is_retired:
            self._inbox.put(None)
        if released:
            self._send([Kind.RELEASED, released])

    def _tell(self, unit: _Unit) -> None:
        unit.is_told = True
        if self._running is unit and self._can_signal:
            # Also interrupts a system call that waits.
            signal.pthread_kill(self._main, STOP_SIGNAL)


class _Loop(_Child):
    """Runs many functions at a time: `async def` in an event loop in the calling thread, others in threads."""

    def __init__(self, connection: socket.socket, config: dict[str, Any], specs: list[Spec[..., Any]]) -> None:
        super().__init__(connection, config, specs)
        self._threads = ThreadPoolExecutor(self._concurrency, thread_name_prefix="coordinated")
        self._is_flushing = False
        self._is_retired = False
        self._is_over: asyncio.Event

    def run(self, lifespan: Callable[[], Any] | None) -> bool:
        """Runs what comes, until the supervisor retires this process or is gone. False if it could not begin."""
        return asyncio.run(self._run(lifespan))

    async def _run(self, lifespan: Callable[[], Any] | None) -> bool:
        loop = asyncio.get_running_loop()
        self._is_over = asyncio.Event()
        async with contextlib.AsyncExitStack() as stack:
            try:
                if lifespan is not None:
                    manager = lifespan()
                    is_async = hasattr(manager, "__aenter__")
                    enter = stack.enter_async_context(manager) if is_async else None
                    self._state = stack.enter_context(manager) if enter is None else await enter
            except Exception as error:
                self._broken(error)
                return False
            self._hello()
            loop.add_reader(self._socket.fileno(), self._read)
            await self._is_over.wait()
            loop.remove_reader(self._socket.fileno())
            self._flush()
        self._threads.shutdown(wait=False)
        return True

    def _read(self) -> None:
        try:
            data = self._socket.recv(1 << 18, socket.MSG_DONTWAIT)
        except (BlockingIOError, InterruptedError):
            return
        except OSError:
            data = b""
        if not data:
            asyncio.get_running_loop().remove_reader(self._socket.fileno())
            for held in list(self._units.values()):
                self._tell(held)
            self._retire()
            return
        for message in self._reader.feed(data):
            if message[0] == Kind.UNITS:
                for item in message[1]:
                    self._begin(_Unit(item))
            elif message[0] == Kind.TELL:
                unit = self._units.get(message[1])
                if unit is not None:
                    self._tell(unit)
            elif message[0] == Kind.RETIRE:
                self._retire()

    def _retire(self) -> None:
        self._is_retired = True
        if not self._units:
            self._is_over.set()

    def _begin(self, unit: _Unit) -> None:
        self._units[unit.id] = unit
        function = self._functions[unit.spec]
        began = time.monotonic()
        if function.is_async:
            unit.task = asyncio.get_running_loop().create_task(self._run_async(function, unit, began))
        else:
            future = asyncio.get_running_loop().run_in_executor(self._threads, self._run_in_thread, function, unit)
            future.add_done_callback(lambda done: self._done(unit, done.result(), began))

    async def _run_async(self, function: Function, unit: _Unit, began: float) -> None:
        running.set(self._current(unit))
        try:
            outcome = await function.finished_async(unit.data, function.call(unit.data))
        except Cancelled as error:
            outcome = [_messages.STOPPED, None, text_of(error)]
        except asyncio.CancelledError as error:
            outcome = [_messages.STOPPED, None, text_of(error)]
            if not unit.is_told:
                outcome = function.failed(unit.data, error)
        except BaseException as error:
            outcome = function.failed(unit.data, error)
        self._done(unit, outcome, began)

    def _run_in_thread(self, function: Function, unit: _Unit) -> list[Any]:
        running.set(self._current(unit))
        try:
            return function.finished(unit.data, function.call(unit.data))
        except Cancelled as error:
            return [_messages.STOPPED, None, text_of(error)]
        except BaseException as error:
            return function.failed(unit.data, error)

    def _done(self, unit: _Unit, outcome: list[Any], began: float) -> None:
        self._ended(unit, outcome, began)
        if not self._is_flushing:
            # Those that end in the same turn of the loop are sent together.
            self._is_flushing = True
            asyncio.get_running_loop().call_soon(self._flush)
        if self._is_retired and not self._units:
            self._is_over.set()

    def _flush(self) -> None:
        self._is_flushing = False
        super()._flush()

    def _tell(self, unit: _Unit) -> None:
        unit.is_told = True
        if unit.task is not None:
            unit.task.cancel()


def run_inline(
    connection: socket.socket,
    config: dict[str, Any],
    specs: list[Spec[..., Any]],
    lifespan: Callable[[], Any] | None,
    slate: Slate,
) -> bool:
    """Runs functions in the calling thread, for a supervisor in another one. False if the lifespan could not begin."""
    if config["concurrency"] == 1:
        return _MainThread(connection, config, specs, slate).run(lifespan)
    return _Loop(connection, config, specs).run(lifespan)


def _end_after_supervisor(descriptor: int, grace: float) -> None:
    """Ends this process and its group if the supervisor dies, a while after its functions were told to stop."""
    poll = select.poll()
    # Nothing but the end of the connection, which is always reported.
    poll.register(descriptor, 0)
    poll.poll()
    time.sleep(grace)
    os.killpg(0, signal.SIGKILL)


def main(socket_descriptor: int, slate_descriptor: int) -> int:
    """Runs functions for the supervisor at the other end of the socket."""
    connection = socket.socket(fileno=socket_descriptor)
    reader = _messages.MessageReader()
    messages: list[list[Any]] = []
    while not messages:
        # The configuration is the only message until we have said hello.
        data = connection.recv(1 << 16)
        if not data:
            return 1
        messages = reader.feed(data)
    config: dict[str, Any] = messages[0][1]
    threading.Thread(
        target=_end_after_supervisor, args=(socket_descriptor, config["grace"]), name="coordinated-end", daemon=True
    ).start()
    try:
        specs = find_specs(config["targets"], config["main"])
        lifespan = None if config["lifespan"] is None else find_lifespan(config["lifespan"], config["main"])
    except BaseException as error:
        connection.sendall(_messages.pack([Kind.BROKEN, text_of(error)]))
        return 1
    slate = Slate(mmap.mmap(slate_descriptor, Slate.SIZE))
    child: _MainThread | _Loop
    if config["concurrency"] == 1:
        child = _MainThread(connection, config, specs, slate)
    else:
        child = _Loop(connection, config, specs)
    return 0 if child.run(lifespan) else 1
