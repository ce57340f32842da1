"""A lock that is handed over in the order in which threads asked for it."""

from __future__ import annotations

import threading
from collections import deque
from types import TracebackType


class FifoLock:
    """Like threading.Lock, which is unfair: there a thread can wait while others pass it."""

    def __init__(self) -> None:
        self.outer = threading.Lock()
        self.locked = False
        #: One lock for each waiting thread, oldest first. Each is held until its turn comes.
        self.waiters: deque[threading.Lock] = deque()

    def __enter__(self) -> FifoLock:
        self.acquire()
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc_value: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.release()

    def acquire(self, blocking: bool = True) -> None:
        """Waits for the lock and takes it. `blocking` is ignored, as it always was."""
        with self.outer:
            if not self.locked:
                self.locked = True
                return
            turn = threading.Lock()
            turn.acquire()
            self.waiters.append(turn)
        try:
            turn.acquire()
        except BaseException:
            # Interrupted by a signal's exception: leave the line, or pass on what we were given.
            with self.outer:
                if turn in self.waiters:
                    self.waiters.remove(turn)
                    raise
            self.release()
            raise

    def release(self) -> None:
        """Gives the lock to the thread that has waited longest, or frees it."""
        with self.outer:
            assert self.locked
            if self.waiters:
                # It stays locked, so that no thread can take it in between.
                self.waiters.popleft().release()
            else:
                self.locked = False
