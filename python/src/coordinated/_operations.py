"""What a client does, as steps without sockets: generators that yield requests and get their answers.

`Client` and `AsyncClient` run the same operations, one blocking and one awaiting. Yielding a list of requests sends
them as one list, and gives the list of their answers.
"""

from __future__ import annotations

import getpass
import os
import socket
import time
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from typing import Any, Final, TypeAlias, TypeVar, cast

from . import _methods, _wire
from ._methods import IfExists, Request
from .errors import LockHeld, NoSuchSpec, NoSuchUnit, RequestRefused, UnitCancelled, UnitFailed, WaitTimeout
from .spec import Spec, Unit, UnitOptions
from .values import Added, CancelledUnits, Progress, Reason, Status, UnitState, WorkerInfo

T = TypeVar("T")
R = TypeVar("R")

Operation: TypeAlias = Generator["Request[Any] | list[Request[Any]]", Any, T]
Target: TypeAlias = "Unit[Any] | Spec[..., Any] | str"

# The daemon adds a list of at most so many units, in a message of at most 4 MiB, in one step.
_BATCH_UNITS: Final = 1000
_BATCH_BYTES: Final = 1 << 20
_PAGE_UNITS: Final = 1000


def spec_name(target: Spec[..., Any] | str) -> str:
    """Gives the name of a work spec."""
    return target if isinstance(target, str) else target.name


def who() -> str:
    """Names the user and the machine, for the daemon's records."""
    try:
        user = getpass.getuser()
    except (OSError, KeyError, ImportError):
        user = str(os.getuid()) if hasattr(os, "getuid") else "unknown"
    return f"{user}@{socket.gethostname()}"


def no_such_unit(unit: Unit[Any]) -> NoSuchUnit:
    """Gives the error for a unit that does not exist."""
    return NoSuchUnit(
        f'work spec "{unit.spec}" has no unit "{unit.key}": it was not added, or it was deleted or archived since'
    )


# Work specs.


def set_spec(wanted: Mapping[str, Any]) -> Operation[bool]:
    """Sets a work spec if its dictionary is new, and gives whether it was.

    What `pause` and `control` have set stays, unless the new dictionary has a key for it.
    """
    old = yield _methods.get_work_spec(str(wanted["name"]))
    return (yield from _replace(old, wanted))


def _replace(old: dict[str, Any] | None, wanted: Mapping[str, Any]) -> Operation[bool]:
    if old is None:
        yield _methods.set_work_spec(wanted)
        return True
    if old == _wire.text_strings(_wire.decode(_wire.encode(dict(wanted)))):
        return False
    name = str(wanted["name"])
    meta = yield _methods.get_work_spec_meta(name)
    steps: list[Request[Any]] = [_methods.set_work_spec(wanted)]
    kept = {key: meta[key] for key, was in _derived(old).items() if key not in wanted and meta[key] != was}
    if "weight" in kept and "nice" in wanted:
        del kept["weight"]
    if meta["status"] == 2 and not old.get("disabled") and "disabled" not in wanted:
        kept["status"] = 2
        kept.update({key: one for key, one in (meta["pause"] or {}).items() if one is not None})
    if kept:
        steps.append(_methods.control_work_spec(name, **kept))
    yield steps
    return True


def _derived(definition: Mapping[str, Any]) -> dict[str, Any]:
    """Gives what the daemon makes of the keys of a work spec that `control_work_spec` can change."""
    return {
        "weight": definition.get("weight") or max(1, 20 - (definition.get("nice") or 0)),
        "max_running": definition.get("max_running") or None,
        "interval": definition.get("interval"),
    }


def set_specs(spec: Spec[..., Any]) -> Operation[None]:
    """Sets the work spec of a function, and that which gets its output."""
    seen: set[str] = set()
    following: Spec[..., Any] | str | None = spec
    while isinstance(following, Spec) and following.name not in seen:
        seen.add(following.name)
        try:
            old = yield _methods.get_work_spec(following.name)
        except RequestRefused:
            # The token allows to add units, but not to see work specs. If there is none, adding says so.
            return
        yield from _replace(old, following.definition())
        following = following.then


# Adding.


class _Batch:
    """Encoded units of one work spec."""

    __slots__ = ("bytes", "items")

    def __init__(self) -> None:
        self.items: list[bytes] = []
        self.bytes = 0


class Batches:
    """Collects units into requests of up to 1,000 units or a megabyte, for each work spec apart."""

    def __init__(self, if_exists: IfExists) -> None:
        self._if_exists: IfExists = if_exists
        self._batches: dict[str, _Batch] = {}

    def push(self, unit: Unit[Any]) -> Request[Added] | None:
        """Takes a unit; gives a request when there are enough units for one."""
        item = _methods.unit_item(unit.key, unit.data, unit.meta())
        batch = self._batches.get(unit.spec)
        if batch is None:
            batch = self._batches[unit.spec] = _Batch()
        batch.items.append(item)
        batch.bytes += len(item)
        if len(batch.items) < _BATCH_UNITS and batch.bytes < _BATCH_BYTES:
            return None
        return self._take(unit.spec)

    def rest(self) -> Iterator[Request[Added]]:
        """Gives the requests for the units that are left."""
        for spec in list(self._batches):
            yield self._take(spec)

    def _take(self, spec: str) -> Request[Added]:
        return _methods.add_work_units(spec, self._batches.pop(spec).items, self._if_exists)


class Adder:
    """Adds single units, and remembers which work specs it has set."""

    def __init__(self) -> None:
        self._set: dict[str, Spec[..., Any]] = {}

    def add(self, unit: Unit[R], if_exists: IfExists) -> Operation[Unit[R]]:
        """Adds a unit; first its work spec, if that was not done yet."""
        definition = unit.definition
        request = _methods.add_work_units(unit.spec, [_methods.unit_item(unit.key, unit.data, unit.meta())], if_exists)
        if definition is not None and self._set.get(unit.spec) is not definition:
            yield from set_specs(definition)
            self._set[unit.spec] = definition
        try:
            yield request
        except NoSuchSpec:
            if definition is None:
                raise
            # Deleted since.
            yield from set_specs(definition)
            yield request
        return unit


def unit_of(target: Unit[R] | Spec[..., R] | UnitOptions[..., R], args: Any, kwargs: Any) -> Unit[R]:
    """Gives the unit that `add` was called for."""
    if isinstance(target, Unit):
        if args or kwargs:
            raise TypeError("a unit has its data already: give arguments to a spec instead")
        return target
    return target.unit(*args, **kwargs)


# Waiting.


def state(unit: Unit[Any], wait: float = 0.0) -> Operation[UnitState]:
    """Asks for the status of a unit."""
    answers: list[UnitState | None] = yield _methods.get_work_unit_status(unit.spec, [unit.key], wait)
    if answers[0] is None:
        raise no_such_unit(unit)
    return answers[0]


def states(units: Iterable[Unit[Any]]) -> Operation[list[UnitState | None]]:
    """Asks for the status of units, in their order."""
    found: dict[tuple[str, str], UnitState | None] = {}
    units = list(units)
    for spec, keys in _by_spec(units).items():
        for start in range(0, len(keys), _PAGE_UNITS):
            page = keys[start : start + _PAGE_UNITS]
            for key, one in zip(page, (yield _methods.get_work_unit_status(spec, page)), strict=True):
                found[spec, key] = one
    return [found[unit.spec, unit.key] for unit in units]


def _by_spec(units: Iterable[Unit[Any]]) -> dict[str, list[str]]:
    keys: dict[str, dict[str, None]] = {}
    for unit in units:
        keys.setdefault(unit.spec, {})[unit.key] = None
    return {spec: list(ordered) for spec, ordered in keys.items()}


def wait(unit: Unit[Any], timeout: float | None, turn: Callable[[], float] | None = None) -> Operation[UnitState]:
    """Waits until a unit has finished or failed. `turn` gives how long one request may wait, if that is limited."""
    deadline = None if timeout is None else time.monotonic() + timeout
    while True:
        left = _methods.WAIT_MOST if turn is None else turn()
        if deadline is not None:
            left = min(left, deadline - time.monotonic())
        answer = yield from state(unit, max(left, 0.0))
        if answer.done:
            return answer
        if deadline is not None and time.monotonic() >= deadline:
            hint = f"it is {answer.status.name.lower()}"
            if answer.status is Status.AVAILABLE:
                hint = "no worker has taken it; Client.why tells the reason"
            raise WaitTimeout(f'unit "{unit.key}" of "{unit.spec}" was not done after {timeout:g} s: {hint}')


class Waiting:
    """Waits for many units, a group of up to 250 after the other."""

    def __init__(self, units: Iterable[Unit[Any]], timeout: float | None) -> None:
        self._deadline = None if timeout is None else time.monotonic() + timeout
        self._timeout = timeout
        self._groups = [
            (spec, keys[start : start + _methods.WAIT_UNITS_MOST])
            for spec, keys in _by_spec(units).items()
            for start in range(0, len(keys), _methods.WAIT_UNITS_MOST)
        ]
        self._next = 0
        self._idle = 0

    def more(self) -> bool:
        """Whether there are units that are not done."""
        return bool(self._groups)

    def step(self) -> Operation[list[UnitState]]:
        """Gives units of the next group that are done; it waits for a while if a round brought none."""
        self._next %= len(self._groups)
        spec, keys = self._groups[self._next]
        pause = 0.0
        if len(self._groups) == 1:
            pause = _methods.WAIT_MOST
        elif self._idle >= len(self._groups):
            pause = 0.2
        if self._deadline is not None:
            pause = max(0.0, min(pause, self._deadline - time.monotonic()))
        answers = yield _methods.get_work_unit_status(spec, keys, pause)
        done: list[UnitState] = []
        left: list[str] = []
        for key, answer in zip(keys, answers, strict=True):
            if answer is None:
                raise no_such_unit(Unit(spec, key))
            if answer.done:
                done.append(answer)
            else:
                left.append(key)
        if left:
            self._groups[self._next] = (spec, left)
            self._next += 1
        else:
            del self._groups[self._next]
        self._idle = 0 if done else self._idle + 1
        if not done and self._deadline is not None and time.monotonic() >= self._deadline:
            count = sum(len(keys) for _, keys in self._groups)
            raise WaitTimeout(f"{count} units were not done after {self._timeout:g} s")
        return done


def data(unit: Unit[Any], strings: bool) -> Operation[dict[Any, Any]]:
    """Asks for the data of a unit."""
    answer: list[tuple[str, dict[Any, Any] | None]] = yield _methods.get_work_units(unit.spec, keys=[unit.key])
    found = answer[0][1]
    if found is None:
        raise no_such_unit(unit)
    converted: dict[Any, Any] = _wire.text_strings(found) if strings else found
    return converted


def result(
    unit: Unit[R], timeout: float | None, strings: bool, turn: Callable[[], float] | None = None
) -> Operation[R]:
    """Waits for a unit, and gives its result."""
    done = yield from wait(unit, timeout, turn)
    if done.status is Status.FAILED:
        raise failed(done)
    found = yield from data(unit, strings)
    value: Any = found.get("result", found.get(b"result"))
    if unit.definition is not None:
        value = unit.definition.convert_result(value)
    return cast("R", value)


def failed(state: UnitState) -> UnitFailed:
    """Gives the error for a unit that has failed."""
    lines = (state.traceback or "").strip().splitlines()
    kind = UnitFailed if state.cancelled is None else UnitCancelled
    return kind(
        f'unit "{state.key}" of "{state.spec}" has failed: {lines[-1] if lines else "without a traceback"}',
        state.spec,
        state.key,
        state.traceback or "",
    )


def progress(unit: Unit[Any]) -> Operation[Progress | None]:
    """Asks how far a unit has come."""
    told = (yield from data(unit, True)).get("progress")
    if not isinstance(told, Mapping) or not isinstance(told.get("done"), (int, float)):
        return None
    return Progress(told["done"], told.get("total"), told.get("note"))


# Looking and changing.


def page(
    spec: str, status: Sequence[int] | None, start: str | None, strings: bool
) -> Operation[tuple[list[tuple[str, dict[Any, Any]]], str | None]]:
    """Asks for up to 1,000 units with their data, and gives the key to go on with."""
    units = yield _methods.get_work_units(spec, status=status, start=start, limit=_PAGE_UNITS)
    if strings:
        units = [(key, _wire.text_strings(one)) for key, one in units]
    # The least key that is greater than the last one.
    return units, (units[-1][0] + "\0" if len(units) == _PAGE_UNITS else None)


def retry(target: Target, matching: str | None) -> Operation[int]:
    """Makes a failed unit available again, or those of a work spec."""
    again = _methods.report_options(status=Status.AVAILABLE, delay=0.0)
    if isinstance(target, Unit):
        now = yield from state(target)
        if not (now.status is Status.FAILED or now.retry_at is not None):
            return 0
        answer = yield _methods.update_work_unit(target.spec, target.key, again)
        return int(answer.accepted)
    name, start, count = spec_name(target), "", 0
    next_start: str | None = start
    while next_start is not None:
        units, next_start = yield from page(name, [Status.FAILED], next_start, True)
        keys = [key for key, found in units if matching is None or matching in _last_line(found)]
        if keys:
            answers = yield _methods.update_work_units(name, [(key, again) for key in keys])
            count += sum(answer.accepted for answer in answers)
    return count


def _last_line(found: Mapping[Any, Any]) -> str:
    traceback = found.get("traceback")
    lines = traceback.strip().splitlines() if isinstance(traceback, str) else []
    return lines[-1] if lines else "(no traceback)"


def cancel(target: Target, reason: str | None, grace: float | None) -> Operation[CancelledUnits]:
    """Cancels a unit, or all of a work spec."""
    answer: CancelledUnits
    if isinstance(target, Unit):
        answer = yield _methods.cancel_work_units(target.spec, keys=[target.key], reason=reason, by=who(), grace=grace)
    else:
        answer = yield _methods.cancel_work_units(
            spec_name(target), everything=True, reason=reason, by=who(), grace=grace
        )
    return answer


def delete(target: Target, status: Status | None) -> Operation[int]:
    """Deletes a unit, or the units of a work spec."""
    keys = [target.key] if isinstance(target, Unit) else None
    name = target.spec if isinstance(target, Unit) else spec_name(target)
    answer: int = yield _methods.del_work_units(
        name,
        everything=keys is None and status is None,
        keys=keys,
        status=None if status is None else [status],
    )
    return answer


def why(target: Target) -> Operation[list[Reason]]:
    """Asks why a unit, or any unit of a work spec, is not handed out."""
    answer: list[Reason]
    if isinstance(target, Unit):
        answer = yield _methods.explain_work(target.spec, target.key)
    else:
        answer = yield _methods.explain_work(spec_name(target), None)
    return answer


def pause(spec: Spec[..., Any] | str, reason: str | None) -> Request[None]:
    """Pauses a work spec."""
    options: dict[str, Any] = {"status": 2, "by": who()}
    if reason is not None:
        options["reason"] = reason
    return _methods.control_work_spec(spec_name(spec), **options)


def resume(spec: Spec[..., Any] | str) -> Request[None]:
    """Resumes a work spec."""
    return _methods.control_work_spec(spec_name(spec), status=1)


def workers() -> Operation[list[WorkerInfo]]:
    """Asks for the workers that are alive."""
    modes: dict[str, str | None] = yield _methods.list_worker_modes()
    names = list(modes)
    found: list[WorkerInfo] = []
    for start in range(0, len(names), _PAGE_UNITS):
        some = names[start : start + _PAGE_UNITS]
        answers = yield [_methods.get_worker_info(name) for name in some]
        for name, environment in zip(some, answers, strict=True):
            told = dict(environment or {})
            found.append(WorkerInfo(name, modes[name], told.pop("age_seconds", None), told))
    return found


# Locks.


def lock(owner: str, path: Sequence[str], timeout: float) -> Operation[bool]:
    """Takes a lock."""
    taken = yield _methods.lock(owner, timeout, path)
    if not taken:
        # The request may have been sent again after a broken connection, and have found its own lock.
        taken = (yield _methods.readlock(path)) == owner
    return bool(taken)


def lock_held(path: Sequence[str]) -> Operation[LockHeld]:
    """Gives the error for a lock that can't be had, with its owner."""
    owner = yield _methods.readlock(path)
    who_has = f'"{owner}" holds it' if owner is not None else "a lock above or below it is held"
    return LockHeld(f"lock {'/'.join(path)} can't be taken: {who_has}. Pass wait=SECONDS to wait for it")
