"""A real daemon for tests. It starts in some 20 ms, listens on a Unix socket, and keeps its data in memory.

With pytest there is nothing to import: the fixtures `coordinated_daemon` and `coordinated_client` come with the
package.
"""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from types import TracebackType
from typing import Literal

from .client import Client
from .errors import CoordinateError

__all__ = ["Daemon", "find_binary"]

_START_MOST_S = 30.0
_STOP_MOST_S = 30.0


def find_binary() -> str:
    """Gives the path of the daemon: that in COORDINATED_BINARY, or beside this Python, or on the PATH.

    Raises `CoordinateError` if there is none.
    """
    named = os.environ.get("COORDINATED_BINARY")
    if named:
        return named
    beside = Path(sys.executable).with_name("coordinated")
    found = str(beside) if os.access(beside, os.X_OK) else shutil.which("coordinated")
    if found is None:
        raise CoordinateError(
            "the daemon was not found: install a wheel of coordinated that has it, put `coordinated` on the PATH, "
            "or set COORDINATED_BINARY to it"
        )
    return found


class Daemon:
    """A daemon of the program's own, for a `with` block.

    Args:
        database: A file to keep the data in, for tests that restart it; in memory by default.
        arguments: More flags of `coordinated serve`.
        synchronous: What survives a power failure, as in `coordinated serve`: by default nothing, which is faster.
        binary: The program, by default that of `find_binary`.

    Attributes:
        server: Its address, for `Client(server)` and `Worker(server=...)`.
        process: The process, while it runs.
    """

    def __init__(
        self,
        database: str | os.PathLike[str] | None = None,
        *arguments: str,
        synchronous: Literal["off", "normal", "full"] = "off",
        binary: str | None = None,
    ) -> None:
        self._database = ":memory:" if database is None else os.fspath(database)
        self._arguments = ("--synchronous", synchronous, *arguments)
        self._binary = binary or find_binary()
        # The path of a Unix socket has at most some 100 bytes, so not in a folder of pytest's.
        self._folder = Path(tempfile.mkdtemp(prefix="coordinated-"))
        self._socket = self._folder / "socket"
        self._log = self._folder / "log"
        self.server = f"unix:{self._socket}"
        self.process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Daemon:
        try:
            self.start()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def client(self) -> Client:
        """Makes a client of this daemon."""
        return Client(self.server)

    def start(self) -> None:
        """Starts the daemon, and returns when it accepts connections."""
        # Variables such as COORDINATED_LISTEN are meant for another daemon.
        environment = {name: value for name, value in os.environ.items() if not name.startswith("COORDINATED_")}
        command = [self._binary, "serve", "--db", self._database, "--listen", self.server]
        with open(self._log, "ab") as log:
            self.process = subprocess.Popen(
                [*command, *self._arguments], stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=environment
            )
        deadline = time.monotonic() + _START_MOST_S
        while True:
            with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
                if probe.connect_ex(str(self._socket)) == 0:
                    return
            if self.process.poll() is not None:
                raise CoordinateError(f"the daemon ended at its start:\n{self.log()}")
            if time.monotonic() > deadline:
                raise CoordinateError(f"the daemon did not accept connections in {_START_MOST_S:g} s:\n{self.log()}")
            time.sleep(0.001)

    def stop(self) -> None:
        """Stops the daemon as a service manager does, with SIGTERM."""
        if self.process is None:
            return
        process, self.process = self.process, None
        process.terminate()
        try:
            process.wait(_STOP_MOST_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()

    def kill(self) -> None:
        """Kills the daemon, as a crash does. With a database file, `start` brings back all that it has answered."""
        if self.process is not None:
            process, self.process = self.process, None
            process.kill()
            process.wait()
            # A killed daemon leaves its socket; connections to it are refused.

    def log(self) -> str:
        """Gives what the daemon has logged."""
        return self._log.read_text(errors="replace") if self._log.exists() else ""

    def close(self) -> None:
        """Stops the daemon, and removes its socket."""
        self.stop()
        shutil.rmtree(self._folder, ignore_errors=True)
