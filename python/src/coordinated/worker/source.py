"""Where units come from: the requests for work.

A worker asks as long as its children have room. While there is no work, a request waits at the daemon on a second
connection. With `until_empty` none waits: instead the units that are left with all workers are counted.
"""

from __future__ import annotations

import selectors
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final

from .. import _methods, _wire
from .._address import Address
from ..errors import CoordinateError, RequestRefused
from ..values import Status
from .definitions import Definitions
from .link import Call, Link
from .pauses import Pauses

if TYPE_CHECKING:
    from .._tls import Tls

__all__ = ["Source"]

# How long a request waits at the daemon, but never longer than a quarter of a lease.
WAIT_S: Final = 30.0
# How long a worker that ends waits for the answer to such a request.
LAST_ANSWER_S: Final = 2.0


class Source:
    """Asks for work.

    Args:
        worker: The worker's name.
        definitions: The specs to ask for.
        pauses: Those of the worker.
        took: Called with the leases of an answer.
        holds: Whether the worker has units.
        emptied: Called when, with `until_empty`, no unit is left.
    """

    def __init__(
        self,
        worker: str,
        address: Address,
        selector: selectors.BaseSelector,
        definitions: Definitions,
        pauses: Pauses,
        *,
        lease: float,
        until_empty: bool,
        token: str | None,
        tls: Tls | None,
        took: Callable[[list[Any]], None],
        holds: Callable[[], bool],
        emptied: Callable[[], None],
    ) -> None:
        self._worker = worker
        self._definitions = definitions
        self._pauses = pauses
        self._lease = lease
        self._until_empty = until_empty
        self._took = took
        self._holds = holds
        self._emptied = emptied
        self._link = Link(address, selector, self._wait, self._broken, token, tls)
        self._asks_after = 0.0
        self._is_asking = False
        self._is_ending = False
        self._must_count = False
        # How many units the request that waits is for; None if none waits, or is to wait.
        self._wait_most: int | None = None
        self._hurried_at: float | None = None

    @property
    def is_waiting(self) -> bool:
        """Whether a request waits at the daemon: its answer can have units."""
        return self._link.is_busy

    def due(self, now: float) -> list[float]:
        """The times at which something is to be done here."""
        connect_at = None if self._wait_most is None else self._link.connect_at
        times = [] if connect_at is None else [connect_at]
        return [*times, self._asks_after] if self._asks_after > now else times

    def tick(self, now: float) -> None:
        """Does what is due."""
        if self._wait_most is not None:
            self._link.tick(now)
        if self._hurried_at is not None and now >= self._hurried_at + LAST_ANSWER_S:
            self._link.close()
            self._hurried_at = None

    def hasten(self, now: float) -> None:
        """Asks as soon as there is room: something has changed."""
        self._asks_after = min(self._asks_after, now)

    def end(self) -> None:
        """Asks for nothing more."""
        self._is_ending = True
        if self._link.is_busy:
            self._hurried_at = time.monotonic()
            self._link.hurry()
        else:
            self._wait_most = None

    def close(self) -> None:
        """Ends the connection."""
        self._link.close()

    def interrupt(self) -> None:
        """The connection on which the calls are made broke."""
        self._is_asking = False

    def calls(self, now: float, room: Callable[[], int]) -> list[Call]:
        """What is to be asked now; `room` says how many units the children can take."""
        if not self._definitions.are_set:
            return []
        calls: list[Call] = []
        if not (self._is_ending or self._is_asking or self._wait_most is not None or now < self._asks_after):
            most = room()
            if most:
                calls.append(self._get_work(most))
        if self._must_count:
            self._must_count = False
            calls += self._counts()
        return calls

    def _get_work(self, most: int) -> Call:
        self._is_asking = True

        def done(pair: Any) -> None:
            self._is_asking = False
            if not self._take(pair):
                self._on_no_work(most)

        def failed(error: RequestRefused) -> None:
            self._is_asking = False
            self._pauses.after_error(error)

        return Call("get_work", self._options(most, None), done, failed)

    def _options(self, most: int, wait: float | None) -> bytes:
        request = _methods.get_work(
            self._worker,
            most=most,
            lease_s=self._lease,
            specs=self._definitions.names,
            runtimes=self._definitions.runtimes,
            wait=wait or 0.0,
        )
        return request.params

    def _take(self, pair: Any) -> bool:
        """Takes the units of an answer. False if there are none."""
        leases, message = pair
        if message is not None:
            raise CoordinateError(f"get_work: {_wire.name_in(message)}")
        if isinstance(leases, tuple):
            # The answer to a request for one unit.
            leases = [] if leases[0] is None else [leases]
        if leases:
            self._pauses.reset()
            self._took(leases)
        return bool(leases)

    def _on_no_work(self, most: int) -> None:
        """There is no work now: waits for it at the daemon."""
        if self._is_ending:
            return
        if self._until_empty:
            if not self._holds():
                self._must_count = True
            # Others may end the last units meanwhile, so it looks again soon.
            self._asks_after = time.monotonic() + self._pauses.next()
            return
        self._wait_most = most
        if self._link.is_free:
            self._wait()

    def _wait(self) -> None:
        if self._wait_most is None or self._is_ending:
            return
        wait = min(WAIT_S, self._lease / 4)

        def done(pair: Any) -> None:
            self._wait_most = None
            self._take(pair)
            if self._is_ending:
                self._link.close()

        self._link.send([Call("get_work", self._options(self._wait_most, wait), done, self._on_wait_error)], alone=True)

    def _on_wait_error(self, error: RequestRefused) -> None:
        self._wait_most = None
        self._pauses.after_error(error)

    def _broken(self, _error: Exception) -> None:
        # The other connection shows what is wrong. It asks again.
        self._wait_most = None
        self._asks_after = time.monotonic() + self._pauses.next()

    def _counts(self) -> list[Call]:
        """Asks whether any unit of these work specs is left, with any worker."""
        left: list[int] = []
        specs = self._definitions.names

        def done(pair: Any) -> None:
            # A work spec that was deleted has no units.
            counts = pair[0] or {}
            left.append(counts.get(int(Status.AVAILABLE), 0) + counts.get(int(Status.PENDING), 0))
            if len(left) == len(specs) and not any(left) and not self._holds() and not self._is_ending:
                self._emptied()

        requests = [_methods.count_work_units(name) for name in specs]
        return [Call(request.method, request.params, done, self._pauses.after_error) for request in requests]
