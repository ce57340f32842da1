"""The worker: runs functions for the units of work specs, in child processes.

A supervisor, which runs none of the user's code, talks to the daemon; children run the functions. `Worker` describes a
worker, and `Worker.run` runs it. The command `coordinated-worker` does the same for modules.
"""

from __future__ import annotations

import os
import random
import re
import socket
import threading
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from .._address import find_tls, find_token, parse_address
from ..spec import Spec

if TYPE_CHECKING:
    from .._tls import Tls
    from .crew import Plan
    from .supervisor import Supervisor, Tally

__all__ = ["Tally", "Worker", "parse_memory"]

_UNITS = {"": 1, "k": 10**3, "ki": 1 << 10, "m": 10**6, "mi": 1 << 20, "g": 10**9, "gi": 1 << 30}


def __getattr__(name: str) -> Any:
    if name == "Tally":
        from .supervisor import Tally

        return Tally
    raise AttributeError(name)


def parse_memory(size: int | str) -> int:
    """Gives a size such as `"1.5 GiB"`, `"512M"` or 1000000 in bytes.

    Raises `ValueError` if it is not one.
    """
    if isinstance(size, int):
        return size
    match = re.fullmatch(r"\s*([0-9]+(?:\.[0-9]+)?)\s*([kmg]?i?)b?\s*", size.lower())
    if match is None or match[2] not in _UNITS:
        raise ValueError(f"expected a size such as 512 MiB or 1.5 GiB, got {size!r}")
    return int(float(match[1]) * _UNITS[match[2]])


class Worker:
    """Runs the functions of work specs for their units.

    Each of the `processes` children is a fresh interpreter, which imports the modules of the functions; a program that
    starts a worker at its top level therefore needs `if __name__ == "__main__":`. With a `concurrency` of 1 a
    function has its child's main thread to itself. Otherwise each child runs so many functions at a time, `async def`
    ones in an event loop and others in threads. With `processes=0` the functions run in the calling process: for
    tests, notebooks and debuggers. Nothing can be killed then, and a function that holds the interpreter's lock for
    longer than the lease loses its unit.

    A function that has to stop (its unit was cancelled or lost, it took longer than its `timeout`, or the worker was
    stopped twice) is told first: `async def` by `asyncio.CancelledError`, a function in the main thread by
    `Cancelled`, one in a thread by `current().cancelled`. If it goes on for the time of `grace`, its child and all
    processes that this has started are killed.
    """

    def __init__(
        self,
        *specs: Spec[..., Any] | str,
        server: str | None = None,
        processes: int | None = None,
        concurrency: int = 1,
        lease: float = 60.0,
        grace: float = 10.0,
        max_memory: int | str | None = None,
        max_units: int | None = None,
        lifespan: Callable[[], Any] | str | None = None,
        name: str | None = None,
        token: str | None = None,
        tls: Tls | None = None,
    ) -> None:
        """Describes a worker. Nothing is started or connected before `run`.

        Args:
            specs: Functions with `@spec`, or `"MODULE"` or `"MODULE:NAME"`, which only the children import.
            server: `HOST:PORT`, `tls:HOST:PORT` or `unix:PATH` of the daemon; by default COORDINATED_SERVER, or else
                127.0.0.1:5932.
            processes: The number of children, by default one per processor; 0 for none.
            concurrency: The number of functions that run at the same time in each.
            lease: For how many seconds units are leased (1 to 86400). Leases are renewed while functions run; so this
                is how long units wait if the whole machine dies.
            grace: Seconds between telling a function to stop and killing its child.
            max_memory: The size of a child, in bytes or as `"1 GiB"`, after which it is replaced between units; one
                that is twice as large is killed.
            max_units: The number of units after which a child is replaced.
            lifespan: A function that gives a context manager (or an async one), entered once in each child before its
                first unit; `current().state` is what it gives.
            token: The secret of a token, for a daemon that wants one; by default that in the file
                COORDINATED_TOKEN_FILE, or in the variable COORDINATED_TOKEN.
            tls: Whom to trust at a `tls:` address, and how to show who this is, as in `Client`.
            name: The worker's name, which no other worker may have; by default made of the host and the process id.

        Raises:
            ValueError: If a number, the address or the size is not one, or a function is not at the top of a module.
            TlsError: If the files of `tls` can't be used.
        """
        for what, value, least in (
            ("processes", processes, 0),
            ("concurrency", concurrency, 1),
            ("max_units", max_units, 1),
        ):
            if value is not None and value < least:
                raise ValueError(f"{what}: expected at least {least}, got {value}")
        if not 1 <= lease <= 86_400:
            raise ValueError(f"lease: expected 1 to 86400 seconds, got {lease}")
        if not specs:
            raise ValueError("expected at least one spec: Worker(function), or coordinated-worker MODULE")
        self._address = parse_address(server)
        self._token = find_token(token)
        self._tls = find_tls(self._address, tls)
        self._specs = specs
        self._processes = (os.cpu_count() or 1) if processes is None else processes
        self._concurrency = concurrency
        self._lease = lease
        self._grace = grace
        self._max_memory = None if max_memory is None else parse_memory(max_memory)
        self._max_units = max_units
        self._lifespan = lifespan
        self.name = name or f"{socket.gethostname()}-{os.getpid()}-{random.getrandbits(32):08x}"
        self._running: Supervisor | None = None
        self._is_stopped = threading.Event()

    def run(self, *, until_empty: bool = False) -> Tally:
        """Works until it is stopped or, with `until_empty`, until no unit of its specs is left, with any worker.

        In the main thread SIGTERM and SIGINT stop it: the first lets the running functions end, the second stops them.
        SIGHUP replaces the children by new ones, with the code as it is then. While the daemon can't be reached,
        functions go on, and the worker reports when it is back. Returns how many units have ended in which way.

        Raises:
            CoordinateError: If the functions can't be imported, the daemon refuses their work specs, or the server is
                not one that this worker can work with.
        """
        from .signals import install_signals, restore_signals
        from .supervisor import Supervisor

        plan = self._plan()
        supervisor = Supervisor(
            plan, self._address, lease=self._lease, until_empty=until_empty, token=self._token, tls=self._tls
        )
        self._running = supervisor
        before = install_signals(supervisor)
        try:
            if self._is_stopped.is_set():
                supervisor.stop()
            return supervisor.run() if self._processes else self._run_inline(supervisor, plan.config())
        finally:
            restore_signals(before)
            self._running = None

    def _plan(self) -> Plan:
        from .crew import Plan
        from .functions import main_path, target_of

        if self._processes == 0:
            return Plan(processes=0, concurrency=self._concurrency, grace=self._grace, worker=self.name)
        lifespan = self._lifespan
        return Plan(
            targets=tuple(one if isinstance(one, str) else target_of(one, "spec") for one in self._specs),
            processes=self._processes,
            concurrency=self._concurrency,
            lifespan=lifespan if lifespan is None or isinstance(lifespan, str) else target_of(lifespan, "lifespan"),
            grace=self._grace,
            max_memory=self._max_memory,
            max_units=self._max_units,
            worker=self.name,
            main=main_path(),
        )

    def _run_inline(self, supervisor: Supervisor, config: dict[str, Any]) -> Tally:
        from .child import Slate, run_inline
        from .functions import find_lifespan, find_specs

        specs: dict[str, Spec[..., Any]] = {}
        for one in self._specs:
            for found in find_specs([one]) if isinstance(one, str) else [one]:
                specs[found.name] = found
        lifespan = find_lifespan(self._lifespan) if isinstance(self._lifespan, str) else self._lifespan
        ours, theirs = socket.socketpair()
        slate = Slate(bytearray(Slate.SIZE))
        supervisor.adopt(ours, slate)
        ended: list[Tally | BaseException] = []

        def supervise() -> None:
            try:
                ended.append(supervisor.run())
            except BaseException as error:
                ended.append(error)

        thread = threading.Thread(target=supervise, name="coordinated-supervisor")
        thread.start()
        try:
            run_inline(theirs, config, list(specs.values()), lifespan, slate)
        finally:
            # Closing alone would not end a thread that waits for it.
            theirs.shutdown(socket.SHUT_RDWR)
            thread.join()
            theirs.close()
        if isinstance(ended[0], BaseException):
            raise ended[0]
        return ended[0]

    def stop(self) -> None:
        """Stops it from another thread, as SIGTERM does. A second time, it also stops the units that run."""
        self._is_stopped.set()
        if self._running is not None:
            self._running.stop()

    def reload(self) -> None:
        """Replaces the children by new ones from another thread, as SIGHUP does."""
        if self._running is not None:
            self._running.reload()

    @property
    def files(self) -> set[str]:
        """The files of the modules that the children have imported, while it runs."""
        return set() if self._running is None else set(self._running.files)
