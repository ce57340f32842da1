"""Functions that the tests of the worker run, in children that import this module."""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import os
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

from coordinated import Backoff, Cancelled, Retry, Unit, current, spec

NOW = Backoff(first=0, jitter=0)


def note(path: str, line: str) -> None:
    """Appends a line to a file, in one write."""
    with open(path, "ab", buffering=0) as file:
        file.write(line.encode() + b"\n")


@spec
def add(a: int, b: int = 1) -> int:
    return a + b


@spec
def echo(text: str) -> str:
    return text


@spec
def nothing(n: int = 0) -> None:
    """Does nothing."""


@spec
def unwritable() -> dict[str, Any]:
    return {"deep": [1, object()]}


@spec(retries=2, backoff=NOW, retry_on=(OSError,))
def fails(kind: str, log: str) -> None:
    note(log, str(current().attempt))
    if kind == "os":
        raise OSError("the disk is on fire")
    if kind == "exit":
        sys.exit("enough")
    raise KeyError("not a matter of trying again")


@spec
def surrogates() -> None:
    raise ValueError("\ud800")


@spec
def later(log: str) -> int:
    note(log, str(current().attempt))
    if current().attempt < 3:
        raise Retry(delay=0.01)
    return current().attempt


@spec(retries=1, backoff=NOW)
def dies(how: str, log: str) -> str:
    """Ends its process at the first attempt."""
    note(log, f"{current().attempt} {os.getpid()}")
    if current().attempt == 1 or how.startswith("always"):
        if how.endswith("kill"):
            os.kill(os.getpid(), signal.SIGKILL)
        elif how.endswith("segfault"):
            ctypes.string_at(0)
        else:
            os._exit(3)
    return "survived"


@spec
def waits(log: str, until: str) -> str:
    """Notes that it has begun, and waits for a file."""
    note(log, f"{current().key} {os.getpid()}")
    while not os.path.exists(until):
        time.sleep(0.005)
    return "done"


@spec(timeout=0.3)
def slow(how: str, log: str) -> str:
    """Goes on for longer than it may."""
    try:
        if how == "forks":
            # It outlives its parent, unless the whole group is killed.
            process = subprocess.Popen(["sleep", "60"])
            note(log, str(process.pid))
            how = "stubborn"
        end = time.monotonic() + 60
        while time.monotonic() < end:
            with contextlib.suppress(Cancelled if how == "stubborn" else ZeroDivisionError):
                time.sleep(60)
    except Cancelled:
        note(log, "told")
        raise
    return "too late"


@spec(timeout=0.3)
async def slow_async(log: str) -> None:
    try:
        await asyncio.sleep(60)
    except asyncio.CancelledError:
        note(log, "told")
        raise


@spec(timeout=0.3)
def slow_thread(log: str) -> None:
    while not current().cancelled:
        time.sleep(0.005)
    note(log, "told")
    current().check()


@spec
def told(log: str) -> None:
    """Runs until it is told to stop."""
    note(log, f"began {os.getpid()}")
    try:
        time.sleep(60)
    except Cancelled:
        note(log, "told")
        raise


@spec
async def told_async(log: str) -> None:
    note(log, f"began {os.getpid()}")
    try:
        await asyncio.sleep(60)
    except asyncio.CancelledError:
        note(log, "told")
        raise


@spec
def deaf(log: str) -> None:
    """Does not stop, whatever it is told."""
    note(log, f"began {os.getpid()}")
    while True:
        with contextlib.suppress(BaseException):
            time.sleep(60)


@spec
def holds_lock(seconds: float, log: str) -> str:
    """Lets no other thread of its process run, as a long computation in C does."""
    note(log, str(current().attempt))
    # PyDLL keeps the interpreter's lock.
    ctypes.PyDLL(None).usleep(ctypes.c_uint(int(seconds * 1e6)))
    return "done"


KEPT: list[bytes] = []


@spec
def grows(mebibytes: int, log: str) -> None:
    """Keeps memory, and waits until the worker has seen it if that is a lot."""
    note(log, str(os.getpid()))
    KEPT.append(b"x" * (mebibytes << 20))
    if mebibytes >= 200:
        time.sleep(60)


@spec
def pid(log: str) -> None:
    note(log, str(os.getpid()))


@spec(then="collect")
def spread(count: int) -> Iterator[Unit[None]]:
    for number in range(count):
        yield collect.options(key=f"c{number}", priority=number).unit(number)


@spec(then="collect")
async def spread_async(count: int) -> AsyncIterator[Unit[None]]:
    for number in range(count):
        await asyncio.sleep(0)
        yield collect.options(key=f"c{number}").unit(number)


@spec(then="collect")
def astray() -> list[Unit[int]]:
    return [add.unit(1)]


@spec
def collect(number: int) -> None:
    """The end of a flow."""


@spec
def progresses(log: str, until: str) -> None:
    current().progress(3, 10, "rows")
    note(log, "began")
    while not os.path.exists(until):
        time.sleep(0.005)


@spec
async def pause(seconds: float) -> float:
    await asyncio.sleep(seconds)
    return seconds


@spec
def shows_state() -> list[Any]:
    here = current()
    return [here.state, here.spec, os.fsencode(here.key), here.attempt, here.attempt_id > 0, here.worker]


@spec
async def shows_state_async() -> Any:
    return current().state


@contextlib.contextmanager
def lifespan() -> Iterator[str]:
    folder = os.environ.get("WORKER_TEST_LIFESPAN")
    if folder:
        note(folder, f"enter {os.getpid()}")
    yield "state"
    if folder:
        note(folder, f"leave {os.getpid()}")


@contextlib.asynccontextmanager
async def lifespan_async() -> AsyncIterator[str]:
    await asyncio.sleep(0)
    yield "async state"


@contextlib.contextmanager
def lifespan_broken() -> Iterator[str]:
    raise RuntimeError("no database")
    yield ""


@spec(every=0.05)
def ticks(log: str = "") -> None:
    """Units of it are made by the daemon."""


# Every death of a child costs its unit an attempt, however many there are.
@spec(retries=1000, backoff=NOW)
def storm(log: str) -> None:
    note(log, current().key)
    time.sleep(0.02)


@spec(retries=1000, backoff=NOW)
async def storm_async(log: str) -> None:
    note(log, current().key)
    await asyncio.sleep(0.3)


def lines(path: Path | str) -> list[str]:
    """The lines that functions have noted."""
    return Path(path).read_text().splitlines() if os.path.exists(path) else []
