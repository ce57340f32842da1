"""The signals of a worker."""

from __future__ import annotations

import signal
import threading
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .supervisor import Supervisor

__all__ = ["install_signals", "restore_signals"]


def install_signals(supervisor: Supervisor) -> dict[signal.Signals, Any]:
    """In the main thread, lets SIGTERM and SIGINT stop a worker, and SIGHUP reload it. Gives what was before."""
    if threading.current_thread() is not threading.main_thread():
        return {}
    handlers = {
        signal.SIGTERM: lambda *_: supervisor.stop(),
        signal.SIGINT: lambda *_: supervisor.stop(),
        signal.SIGHUP: lambda *_: supervisor.reload(),
    }
    return {number: signal.signal(number, handler) for number, handler in handlers.items()}


def restore_signals(before: dict[signal.Signals, Any]) -> None:
    """Undoes `install_signals`."""
    for number, handler in before.items():
        signal.signal(number, handler)
