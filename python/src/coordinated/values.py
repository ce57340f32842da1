"""What the daemon tells, as plain immutable values. Times are seconds since 1970 (UTC); names and keys are `str`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import IntEnum
from typing import Any

__all__ = [
    "Added",
    "Attempt",
    "Cancellation",
    "CancelledUnits",
    "Failure",
    "Lease",
    "Progress",
    "Reason",
    "Report",
    "RetryTold",
    "SpecSummary",
    "Status",
    "UnitState",
    "WorkerInfo",
]


class Status(IntEnum):
    """The status of a unit (1 to 5) or of an attempt (3 to 7). A delayed unit shows as available."""

    AVAILABLE = 1
    PENDING = 3
    FINISHED = 4
    FAILED = 5
    EXPIRED = 6
    RETRYABLE = 7


@dataclass(frozen=True, slots=True)
class Added:
    """How many units an `add` has created, reset (they existed), and left as they were."""

    new: int = 0
    reset: int = 0
    skipped: int = 0

    def __add__(self, other: Added) -> Added:
        return Added(self.new + other.new, self.reset + other.reset, self.skipped + other.skipped)

    @property
    def total(self) -> int:
        """The number of units that the call was about."""
        return self.new + self.reset + self.skipped


@dataclass(frozen=True, slots=True)
class Cancellation:
    """Why, by whom and when a unit was cancelled."""

    reason: str | None
    by: str | None
    at: float


@dataclass(frozen=True, slots=True)
class CancelledUnits:
    """How many units a `cancel` has failed at once, and how many run until their worker hears of it."""

    failed: int
    running: int


@dataclass(frozen=True, slots=True)
class UnitState:
    """The status of one unit.

    `expires` is the end of the lease of a pending unit, and the time of completion of a finished or failed one.
    `worker` holds or has completed it. `failures` counts failed attempts, `retries` how many of them are followed by
    another try, and `retry_at` is the time of the next one. `lost` counts leases that expired.
    """

    spec: str
    key: str
    status: Status
    expires: float | None = None
    worker: str | None = None
    traceback: str | None = None
    failures: int = 0
    retries: int = 0
    retry_at: float | None = None
    lost: int = 0
    cancelled: Cancellation | None = None
    group: str | None = None

    @property
    def done(self) -> bool:
        """Whether the unit has finished, or has failed for good."""
        return self.status in (Status.FINISHED, Status.FAILED)


@dataclass(frozen=True, slots=True)
class Attempt:
    """One worker's try at a unit. `data` are what it left, or None if it changed nothing."""

    number: int
    worker: str | None
    status: Status
    start: float
    end: float | None
    expires: float
    data: dict[Any, Any] | None


@dataclass(frozen=True, slots=True)
class Failure:
    """A group of failed units with the same message, the last line of their tracebacks."""

    message: str
    count: int
    first_key: str
    last_failed: float


@dataclass(frozen=True, slots=True)
class Reason:
    """Why a unit is not handed out: a code from docs/protocol.md (`explain_work`), and a text for people."""

    code: str
    text: str


@dataclass(frozen=True, slots=True)
class SpecSummary:
    """How many units of a work spec have which status.

    `delayed` and `retrying` units count as available, too. `waiting` is the number of seconds for which the work spec
    has had available units without a break, None if it has none.
    """

    spec: str
    available: int = 0
    delayed: int = 0
    retrying: int = 0
    pending: int = 0
    finished: int = 0
    failed: int = 0
    waiting: float | None = None


@dataclass(frozen=True, slots=True)
class WorkerInfo:
    """A worker that is alive. `age` is the number of seconds since its last heartbeat."""

    name: str
    mode: str | None
    age: float | None
    environment: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a running function has come, as it reported itself."""

    done: float
    total: float | None = None
    note: str | None = None


@dataclass(frozen=True, slots=True)
class Lease:
    """A unit that `get_work` has handed out.

    `attempt` is the attempt's id, to be given in each report; `number` is 1 for the first attempt at this unit.
    """

    spec: str
    key: str
    data: dict[Any, Any]
    attempt: int
    number: int
    expires: float


@dataclass(frozen=True, slots=True)
class RetryTold:
    """A failed unit will be tried again, in `delay` seconds; it has failed `failures` times of `retries` + 1."""

    failures: int
    retries: int
    delay: float


@dataclass(frozen=True, slots=True)
class Report:
    """The daemon's answer to a report: whether it was accepted and, if not, why.

    `cancelled` tells a cancelled unit from a lost lease. `retry` is given for a failure with `tell_retry`.
    """

    accepted: bool
    message: str | None = None
    retry: RetryTold | None = None

    @property
    def cancelled(self) -> bool:
        """Whether the report was refused because the unit was cancelled."""
        message = self.message
        return (
            not self.accepted and message is not None and (message == "cancelled" or message.startswith("cancelled: "))
        )
