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
_tail = ""


def _draw() -> None:
    """Draws the part of the keys that is this process's own."""
    global _tail
    # The two highest bits are the UUID's variant.
    drawn = f"{int.from_bytes(os.urandom(8), 'big') >> 2 | 1 << 63:016x}"
    _tail = f"-{drawn[:4]}-{drawn[4:]}"


_draw()
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_draw)


def new_key() -> str:
    """Makes a key. Within a process each is greater than the one before; those of two processes differ."""
    global _last
    # 48 bits of milliseconds, and 12 bits of their fraction.
    now = time.time_ns() * 4096 // 1_000_000
    with _lock:
        if now <= _last:
            now = _last + 1
        _last = now
    digits = f"{now:015x}"
    return f"{digits[:8]}-{digits[8:12]}-7{digits[12:]}{_tail}"
