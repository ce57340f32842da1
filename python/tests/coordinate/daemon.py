"""The daemon under test, on a TCP port, as Python 2 knows no other."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator

from coordinated.testing import Daemon


@contextlib.contextmanager
def running_daemon() -> Iterator[str]:
    """Runs a daemon that keeps its data in memory. Gives its address."""
    with Daemon(None, "--listen", "127.0.0.1:0", "--http", "off") as daemon:
        with daemon.client() as client:
            client.call("server_info")  # it logs where it listens before it answers anything
        found = re.search(r"listening on (127\.0\.0\.1:\d+)", daemon.log())
        assert found, daemon.log()
        yield found[1]
