"""Keys for units that are added without one: UUIDs (version 7), which sort by the time at which they were made.

Units of one priority are handed out by key, so they run in the order in which they were added; and names in order are
the daemon's fast case.
"""

from __future__ import annotations

import os
import threading
import time

__all__ = ["new_key"]

_lock = threading.Lock()
_last = 0
_random = 0


def _draw() -> None:
    """Draws the part of the keys that is this process's own."""
    global _random
    _random = int.from_bytes(os.urandom(8), "big") >> 2


_draw()
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_draw)


def new_key() -> str:
    """Makes a key. Within a process each is greater than the one before; those of two processes differ."""
    global _last
    nanoseconds = time.time_ns()
    # 48 bits of milliseconds, and 12 bits of their fraction.
    milliseconds, rest = divmod(nanoseconds, 1_000_000)
    now = (milliseconds << 12) | (rest * 4096 // 1_000_000)
    with _lock:
        _last = now = max(now, _last + 1)
    tail = 0x8000_0000_0000_0000 | _random
    digits = f"{now >> 12:012x}7{now & 0xFFF:03x}{tail:016x}"
    return f"{digits[:8]}-{digits[8:12]}-{digits[12:16]}-{digits[16:20]}-{digits[20:]}"
