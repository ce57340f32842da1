"""What a running function can ask and tell: which unit it works on, progress, and whether it has to stop."""

from __future__ import annotations

from collections.abc import Callable
from contextvars import ContextVar
from typing import Any

from .errors import Cancelled
from .values import Progress

__all__ = ["Current", "current"]


class Current:
    """The unit that a function works on.

    Attributes:
        spec: The name of the work spec.
        key: The unit's key.
        attempt: The number of this attempt at the unit, 1 for the first.
        attempt_id: The attempt's id, which grows with every attempt at any unit: a fencing token.
        worker: The worker's name.
        state: What the worker's `lifespan` gave, once for each child process; None without one.
    """

    __slots__ = ("_cancelled", "_progress", "_tell", "attempt", "attempt_id", "key", "spec", "state", "worker")

    def __init__(
        self,
        *,
        spec: str = "",
        key: str = "",
        attempt: int = 1,
        attempt_id: int = 0,
        worker: str = "",
        state: Any = None,
        tell: Callable[[Progress], None] | None = None,
        cancelled: Callable[[], bool] | None = None,
    ) -> None:
        self.spec = spec
        self.key = key
        self.attempt = attempt
        self.attempt_id = attempt_id
        self.worker = worker
        self.state = state
        self._tell = tell
        self._cancelled = cancelled
        self._progress: Progress | None = None

    def progress(self, done: float, total: float | None = None, note: str | None = None) -> None:
        """Tells how far the function has come. The worker sends the last one with the next renewal of the lease."""
        self._progress = Progress(done, total, note)
        if self._tell is not None:
            self._tell(self._progress)

    @property
    def last_progress(self) -> Progress | None:
        """What `progress` told last, None before."""
        return self._progress

    @property
    def cancelled(self) -> bool:
        """Whether the function has to stop: the unit was cancelled, its lease is lost, or it took too long."""
        return self._cancelled is not None and self._cancelled()

    def check(self) -> None:
        """Raises `Cancelled` if the function has to stop. For loops in threads, which can't be interrupted."""
        if self.cancelled:
            raise Cancelled


running: ContextVar[Current | None] = ContextVar("coordinated_current", default=None)


def current() -> Current:
    """Gives the unit that the calling function works on.

    Outside a worker, for example in a test that calls the function, it is one without names, and nobody sees its
    progress.
    """
    return running.get() or Current()
