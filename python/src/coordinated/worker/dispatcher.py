"""Which child gets which unit: short ones several at once, long ones one by one, and dangerous ones alone."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Any, Final

from ..errors import UnwritableValue
from . import _messages
from ._messages import Kind
from .crew import Child, Crew, Plan
from .functions import failed_data
from .reports import Held

__all__ = ["Dispatcher"]

# How much work is fetched ahead, in seconds and units, and how much of it a child gets at once.
AHEAD_S: Final = 0.2
AHEAD_MOST: Final = 500
BATCH_S: Final = 0.02
BATCH_MOST: Final = 100
# What a unit is thought to take before the first of its spec has ended, in seconds.
UNKNOWN_S: Final = 1.0
# Units that may have killed a child, which run alone; the most that are remembered.
SUSPECTS_MOST: Final = 10_000

# Called with a unit that does not run, and how it ended, see `_messages`.
Ended = Callable[[Held, int, "bytes | None", Any], None]


class Dispatcher:
    """The units that wait for a child, and what is known about how long they take."""

    def __init__(self, plan: Plan, crew: Crew, ended: Ended) -> None:
        self._plan = plan
        self._crew = crew
        self._ended = ended
        self._queue: deque[Held] = deque()
        self._seconds: dict[str, float] = {}
        self._suspects: dict[tuple[str, Any], None] = {}

    def add(self, held: Held) -> None:
        """Puts a unit behind the others."""
        self._queue.append(held)

    def put_back(self, held: Held) -> None:
        """Puts a unit that a child has not begun before the others."""
        self._queue.appendleft(held)

    def remove(self, held: Held) -> bool:
        """Takes a unit out; False if it did not wait here."""
        try:
            self._queue.remove(held)
        except ValueError:
            return False
        return True

    def clear(self) -> list[Held]:
        """Takes all units out."""
        units = list(self._queue)
        self._queue.clear()
        return units

    def room(self) -> int:
        """How many units to ask for now; 0 if there are enough."""
        children = self._crew.ready
        if not children:
            return 0
        slots = len(children) * self._plan.concurrency
        mean = sum(self._seconds.values()) / len(self._seconds) if self._seconds else UNKNOWN_S
        ahead = min(AHEAD_MOST, int(slots * AHEAD_S / max(mean, 1e-6)))
        waiting = len(self._queue) + sum(len(child.units) for child in children)
        room = slots + ahead - waiting
        # A request for few costs as much as one for many. Only a free slot can't wait.
        return room if room > ahead // 2 or waiting < slots else 0

    def took(self, held: Held, seconds: float) -> None:
        """Learns how long a unit took."""
        before = self._seconds.get(held.spec)
        self._seconds[held.spec] = seconds if before is None else 0.8 * before + 0.2 * seconds
        if self._suspects:
            # Its child has survived it.
            self._suspects.pop((held.spec, held.key), None)

    def suspect(self, held: Held) -> None:
        """Remembers a unit that may have killed its child: it runs alone from now on."""
        if len(self._suspects) >= SUSPECTS_MOST:
            del self._suspects[next(iter(self._suspects))]
        self._suspects[held.spec, held.key] = None

    @staticmethod
    def leaves(child: Child, held: Held) -> None:
        """Notes that a child does not have a unit any more."""
        child.units.pop(held.id, None)
        child.seconds = child.seconds - held.estimate if child.units else 0.0
        child.alone = False
        held.child = None

    def hand_over(self, now: float) -> None:
        """Gives the children what they can take, those with the fewest units first."""
        if not self._queue:
            return
        children = [child for child in self._crew.ready if not child.stuck and not child.alone]
        if not children:
            return
        children.sort(key=lambda child: len(child.units))
        share = -(-len(self._queue) // len(children))
        for child in children:
            units = self._choose(child, share)
            for held in units:
                held.given_at = now
            self._send(child, units)
            limit = self._plan.max_units
            if limit is not None and child.taken >= limit:
                self._crew.retire(child)

    def _takes_more(self, child: Child) -> bool:
        if self._plan.max_units is not None and child.taken >= self._plan.max_units:
            return False
        if self._plan.concurrency > 1:
            return len(child.units) < self._plan.concurrency
        return not child.units or (child.seconds < BATCH_S and len(child.units) < BATCH_MOST)

    def _choose(self, child: Child, share: int) -> list[Held]:
        """Takes what a child can get from the queue, but no more than its share."""
        units: list[Held] = []
        while self._queue and len(units) < share and self._takes_more(child):
            held = self._queue[0]
            if held.spec not in child.specs:
                # Only while two generations of children have different functions.
                if any(held.spec in other.specs for other in self._crew.ready):
                    break
                self._ended(self._queue.popleft(), _messages.GIVEN_BACK, None, 0.0)
                continue
            is_suspect = bool(self._suspects) and (held.spec, held.key) in self._suspects
            if is_suspect and child.units:
                break
            self._queue.popleft()
            held.child = child
            held.estimate = self._seconds.get(held.spec, UNKNOWN_S)
            child.units[held.id] = None
            child.seconds += held.estimate
            child.taken += 1
            units.append(held)
            if is_suspect:
                child.alone = True
                break
        return units

    def _send(self, child: Child, units: list[Held]) -> None:
        if not units:
            return
        items = [[held.id, held.spec, held.key, held.data, held.attempt, held.number] for held in units]
        try:
            self._crew.send(child, [Kind.UNITS, items])
        except UnwritableValue as error:
            if len(units) > 1:
                for held in units:
                    self._send(child, [held])
                return
            # Another client has written something that CBOR has, but Python's values have not.
            (held,) = units
            self.leaves(child, held)
            why = f"the data of the unit can't be handed to a function: {error}"
            self._ended(held, _messages.FAILED, failed_data({}, why), [True, why])
