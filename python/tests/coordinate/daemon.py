"""The daemon under test, on a TCP port, as Python 2 knows no other."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator
from pathlib import Path

from coordinated import RequestRefused
from coordinated.testing import Daemon


@contextlib.contextmanager
def running_daemon(database: Path | None = None, *arguments: str) -> Iterator[str]:
    """Runs a daemon, which keeps its data in memory without a `database`. Gives its address."""
    with Daemon(database, "--listen", "127.0.0.1:0", "--http", "off", *arguments) as daemon:
        # It logs where it listens before it answers anything; one that wants a token refuses to.
        with daemon.client() as client, contextlib.suppress(RequestRefused):
            client.call("server_info")
        found = re.search(r"listening on (127\.0\.0\.1:\d+)", daemon.log())
        assert found, daemon.log()
        yield found[1]
