"""The pauses of a worker after errors of the daemon, and between requests for work that is not there."""

from __future__ import annotations

import logging
import time
from typing import Final

from ..errors import RequestRefused

__all__ = ["Pauses"]

log = logging.getLogger("coordinated.worker")

SHORTEST_S: Final = 0.05
LONGEST_S: Final = 1.0


class Pauses:
    """Pauses that grow until something succeeds.

    Attributes:
        speaks_after: Before this time the daemon is asked nothing.
    """

    def __init__(self) -> None:
        self._next = SHORTEST_S
        self.speaks_after = 0.0

    def reset(self) -> None:
        """Notes that something has succeeded."""
        self._next = SHORTEST_S

    def next(self) -> float:
        """Gives the next pause, in seconds."""
        pause = self._next
        self._next = min(2 * pause, LONGEST_S)
        return pause

    def after_error(self, error: RequestRefused) -> None:
        """Asks nothing for a while: the daemon may be in trouble."""
        log.warning("the daemon answered %s with an error: %s", error.method, error.message)
        self.speaks_after = time.monotonic() + self.next()
