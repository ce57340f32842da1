"""The units that a worker holds, and what it reports about them: encoded, and counted when the daemon has answered."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from .. import _wire
from ..values import Status
from . import _messages
from .functions import failed_data

if TYPE_CHECKING:
    from .crew import Child

__all__ = ["Held", "Report", "Tally", "given_back", "is_cancellation", "renewal", "report_of", "smaller"]

log = logging.getLogger("coordinated.worker")

# Encoded keys of reports; the flags with the value true.
_STATUS: Final = b"\x46status"
_ATTEMPT: Final = b"\x47attempt"
_DATA: Final = b"\x44data"
_DELAY: Final = b"\x45delay"
_FINAL: Final = b"\x45final\xf5"
_TELL_RETRY: Final = b"\x4atell_retry\xf5"
_LEASE: Final = b"\x4alease_time"


@dataclass
class Tally:
    """How many units have ended in which way.

    Attributes:
        finished: Finished.
        failed: Failed, and not tried again.
        retried: Failed, and tried again later.
        given_back: Given back: by `Retry`, by a stop of the worker, or because the child died under another unit.
        cancelled: Cancelled while they ran.
        lost: Lost to another worker, or deleted.
    """

    finished: int = 0
    failed: int = 0
    retried: int = 0
    given_back: int = 0
    cancelled: int = 0
    lost: int = 0

    def count(self, report: Report, accepted: bool, told: Any) -> None:
        """Counts a unit by the daemon's answer to its report, and logs what went wrong."""
        held = report.held
        if not accepted:
            self.count_lost(held, _wire.name_in(told))
        elif report.kind == "finished":
            self.finished += 1
        elif report.kind == "cancelled":
            self.cancelled += 1
        elif report.kind == "given back":
            self.given_back += 1
        elif isinstance(told, dict):
            self.retried += 1
            delay = told[b"delay"]
            log.warning("%s %s failed, and is tried again in %.3g s: %s", held.spec, held.key, delay, report.message)
        else:
            self.failed += 1
            log.error("%s %s failed: %s", held.spec, held.key, report.message)

    def count_lost(self, held: Held, why: Any) -> None:
        """Counts a unit that the daemon has taken away."""
        if is_cancellation(why):
            self.cancelled += 1
        else:
            self.lost += 1
            log.warning("%s %s was lost: %s", held.spec, held.key, why)


class Held:
    """A unit that this worker has leased.

    Attributes:
        id: Its number in this worker.
        child: Who has it, None while it waits to be given to a child or to be reported.
        given_at: When the child got it.
        estimate: How many seconds it was thought to take then.
        renew_at: When its lease is to be renewed.
        progress: The encoded data with its progress, to be sent with the next renewal.
        stop: Why its function has to stop: "timeout", "lost", "cancelled" or "end"; `why` says it in words.
        kill_at: When its child is killed because it did not stop.
    """

    __slots__ = (
        "attempt",
        "child",
        "data",
        "estimate",
        "given_at",
        "id",
        "key",
        "kill_at",
        "number",
        "progress",
        "progress_at",
        "renew_at",
        "spec",
        "stop",
        "why",
    )

    def __init__(self, unit: int, lease: Sequence[Any], now: float) -> None:
        spec, self.key, self.data, told = lease
        self.id = unit
        self.spec: str = _wire.name_in(spec)
        self.attempt: int = told[b"attempt"]
        self.number: int = told[b"number"]
        self.child: Child | None = None
        self.given_at = now
        self.estimate = 0.0
        self.renew_at = now
        self.progress: bytes | None = None
        self.progress_at = 0.0
        self.stop: str | None = None
        self.why = ""
        self.kill_at: float | None = None


class Report:
    """What is to be reported about a unit: the encoded item of `update_work_units`, and a message for the log."""

    __slots__ = ("body", "held", "kind", "message")

    def __init__(self, held: Held, kind: str, body: bytes, message: str = "") -> None:
        self.held = held
        self.kind = kind
        self.body = body
        self.message = message


def _item(held: Held, *parts: bytes) -> bytes:
    """Encodes an item of `update_work_units`; `parts` are encoded keys, each with its value."""
    header = bytes((0xA1 + len(parts),))
    return b"".join((b"\x82", _wire.encode(held.key), header, _ATTEMPT, _wire.encode(held.attempt), *parts))


def _status(status: Status) -> bytes:
    return _STATUS + bytes((status,))


def report_of(held: Held, ending: int, data: bytes | None, extra: Any) -> Report:
    """Gives the report on a unit that ended in this way (see `_messages`), or was stopped for the reason in `held`."""
    data_part = () if data is None else (_DATA + data,)
    if ending == _messages.FINISHED:
        return Report(held, "finished", _item(held, _status(Status.FINISHED), *data_part))
    if ending == _messages.FAILED:
        is_final, message = extra
        final = (_FINAL,) if is_final else ()
        body = _item(held, _status(Status.FAILED), _TELL_RETRY, *final, *data_part)
        return Report(held, "failed", body, message)
    if ending == _messages.GIVEN_BACK:
        return given_back(held, extra)
    if held.stop == "cancelled":
        # The daemon knows why.
        return Report(held, "cancelled", _item(held, _status(Status.FAILED)))
    if held.stop == "timeout":
        text = f"{extra}\n{held.why}" if extra and held.why not in extra else extra or held.why
        return _failed(held, text, held.why)
    return given_back(held)


def _failed(held: Held, text: str, message: str) -> Report:
    data = _DATA + failed_data(held.data, text)
    return Report(held, "failed", _item(held, _status(Status.FAILED), _TELL_RETRY, data), message)


def given_back(held: Held, delay: float = 0.0) -> Report:
    """Gives the report that others may have the unit, after so many seconds."""
    parts = (_DELAY + _wire.encode(delay),) if delay > 0 else ()
    return Report(held, "given back", _item(held, _status(Status.AVAILABLE), *parts))


def smaller(report: Report, message: str) -> Report:
    """Gives what is reported instead of something that the daemon did not take, with this message."""
    if report.kind == "finished":
        text = f"the daemon did not accept the result: {message}"
        return _failed(report.held, text, text)
    return Report(report.held, report.kind, _item(report.held, _status(Status.FAILED)))


def renewal(held: Held, lease: float) -> bytes:
    """Encodes the renewal of a unit's lease for so many seconds, with its progress if that is new."""
    progress = () if held.progress is None else (_DATA + held.progress,)
    return _item(held, _LEASE + _wire.encode(lease), *progress)


def is_cancellation(message: Any) -> bool:
    """Whether the daemon's refusal says that the unit was cancelled, rather than lost."""
    return isinstance(message, str) and (message == "cancelled" or message.startswith("cancelled: "))
