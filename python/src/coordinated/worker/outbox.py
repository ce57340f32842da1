"""The reports that the daemon has not accepted yet."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import Any, Final

from .. import _wire
from ..errors import RequestRefused
from .link import Call
from .pauses import Pauses
from .reports import Report, Tally, smaller

__all__ = ["Outbox", "update"]

# The most reports of one list, and the most bytes of them.
REPORTS_MOST: Final = 1000
REPORT_BYTES_MOST: Final = 8 << 20


def update(
    spec: str, bodies: Sequence[bytes], done: Callable[[Any], None], failed: Callable[[RequestRefused], None]
) -> Call:
    """Makes the call for reports or renewals of units of one work spec."""
    head = (_wire.array_header(2), _wire.encode(_wire.name_out(spec)), _wire.array_header(len(bodies)))
    return Call("update_work_units", b"".join((*head, *bodies)), done, failed)


class Outbox:
    """Reports that wait, and those in flight. `accepted` is called with each one that the daemon has answered."""

    def __init__(self, pauses: Pauses, tally: Tally, accepted: Callable[[Report], None]) -> None:
        self._pauses = pauses
        self._tally = tally
        self._accepted = accepted
        self._waiting: deque[Report] = deque()
        self._in_flight: list[Report] = []
        # So many are sent alone, because the daemon could not read something among them.
        self._alone = 0

    def __len__(self) -> int:
        return len(self._waiting) + len(self._in_flight)

    def add(self, report: Report) -> None:
        """Takes a report."""
        self._waiting.append(report)

    def extend(self, reports: Iterable[Report]) -> None:
        """Takes reports."""
        self._waiting.extend(reports)

    def units(self) -> set[int]:
        """The ids of the units that the reports are about."""
        return {report.held.id for report in self._waiting} | {report.held.id for report in self._in_flight}

    def calls(self) -> list[Call]:
        """Sends what waits, by work spec."""
        most, size = REPORTS_MOST, 0
        if self._alone:
            most = 1
            self._alone -= 1
        by_spec: dict[str, list[Report]] = {}
        while self._waiting and len(self._in_flight) < most and size < REPORT_BYTES_MOST:
            report = self._waiting.popleft()
            size += len(report.body)
            self._in_flight.append(report)
            by_spec.setdefault(report.held.spec, []).append(report)
        calls: list[Call] = []
        for spec, reports in by_spec.items():
            done, failed = partial(self._on_reported, reports), partial(self._on_error, reports)
            calls.append(update(spec, [report.body for report in reports], done, failed))
        return calls

    def _on_reported(self, reports: list[Report], pair: Any) -> None:
        answers, message = pair
        if answers is None:
            # The work spec is gone, and its units with it.
            answers = [[False, message]] * len(reports)
        for report, (accepted, told) in zip(reports, answers, strict=True):
            self._tally.count(report, bool(accepted), told)
            self._accepted(report)
        self._land(reports)
        self._pauses.reset()

    def _on_error(self, reports: list[Report], error: RequestRefused) -> None:
        """The daemon could not do it: perhaps its disk is full. Nothing was changed, so it is asked again."""
        self._land(reports)
        if "limit " in error.message:
            if len(reports) == 1:
                reports = [smaller(reports[0], error.message)]
            else:
                self._alone = max(self._alone, len(reports))
        self._waiting.extendleft(reversed(reports))
        self._pauses.after_error(error)

    def _land(self, reports: list[Report]) -> None:
        done = {id(report) for report in reports}
        self._in_flight = [report for report in self._in_flight if id(report) not in done]

    def broken(self, error: Exception) -> None:
        """The connection broke: what was in flight waits again."""
        if self._in_flight and isinstance(error, RequestRefused):
            # The daemon can't read something of it: one at a time, until the one is found.
            if len(self._in_flight) > 1:
                self._alone = max(self._alone, len(self._in_flight))
            else:
                self._in_flight[0] = smaller(self._in_flight[0], error.message)
        self._waiting.extendleft(reversed(self._in_flight))
        self._in_flight = []
