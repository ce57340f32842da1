"""Work specs, work units and workers, as programs use them."""

from __future__ import annotations

import logging
import traceback
from collections.abc import Iterable, Iterator, Mapping
from copy import deepcopy
from typing import Any

from . import yakonfig
from .base_client import CborRpcClient
from .constants import (
    AVAILABLE,
    BLOCKED,
    FAILED,
    FINISHED,
    IDLE,
    PAUSED,
    PENDING,
    PRI_PRIORITY,
    RUN,
    RUNNABLE,
    TERMINATE,
)
from .exceptions import ProgrammerError
from .workunit_run import run as workunit_run

logger = logging.getLogger(__name__)

MAX_LEASE_SECONDS = 24 * 60 * 60
#: Shorter leases are given, but a busy machine may not renew them in time.
MIN_LEASE_SECONDS = 10


class WorkUnit:
    """One piece of work, as a run function gets it."""

    def __init__(
        self,
        taskmaster: TaskMaster | None,
        work_spec_name: str,
        key: Any,
        data: Any,
        worker_id: str | None = None,
        expires: float | None = None,
        default_lease_time: float = 900,
    ) -> None:
        #: The client that the unit reports to.
        self.taskmaster = taskmaster
        #: The name of the work spec.
        self.work_spec_name = work_spec_name
        #: The name of the unit: `str` or `bytes`, as it was added.
        self.key = key
        #: The data of the unit, a dictionary. Changes to it are stored by the next report.
        self.data = data
        #: The worker that has the unit.
        self.worker_id = worker_id
        #: When the lease ends, in seconds since 1970; only known of the units of child workers.
        self.expires = expires
        #: How many seconds update() adds by default.
        self.default_lease_time = default_lease_time
        self._spec_cache: Any = None
        self._old_data = deepcopy(data)
        self._finished = False

    def __str__(self) -> str:
        return f"work unit {self.work_spec_name!r} {self.key!r} {self.data!r}"

    def __repr__(self) -> str:
        return (
            f"WorkUnit(work_spec_name={self.work_spec_name}, key={self.key!r}, worker_id={self.worker_id}, "
            f"expires={self.expires}, default_lease_time={self.default_lease_time}, data={self.data!r})"
        )

    @property
    def spec(self) -> Any:
        """The work spec's dictionary, asked for once."""
        if self._spec_cache is None:
            if self.taskmaster is not None:
                self._spec_cache = self.taskmaster.get_work_spec(self.work_spec_name)
            assert self._spec_cache is not None, f"there is no work spec {self.work_spec_name!r}"
        return self._spec_cache

    @spec.setter
    def spec(self, value: Any) -> None:
        self._spec_cache = value

    def update(self, lease_time: float | None = None) -> bool:
        """Sends changed data, and extends the lease to this many seconds from now.

        A negative number gives the unit back. Returns whether the daemon accepted it; if not,
        the unit is no longer this worker's.
        """
        if lease_time is None:
            lease_time = self.default_lease_time
        if lease_time >= MAX_LEASE_SECONDS:
            # update_work_unit refuses a whole day.
            lease_time = MAX_LEASE_SECONDS - 1
        return self._report(lease_time=lease_time)

    def finish(self) -> bool:
        """Marks the unit as finished. Returns whether the daemon accepted it."""
        if self._finished and self.worker_id and self.data == self._old_data:
            # Both run() and the worker finish the unit, and the daemon takes the second for a repeat.
            return True
        self._finished = self._report(status=FINISHED)
        return self._finished

    def fail(self, exc: Any = None) -> bool:
        """Marks the unit as failed. Returns whether the daemon accepted it.

        With an exception its traceback (of a text, the text) becomes the data's `traceback`.
        """
        if exc:
            if isinstance(exc, BaseException):
                self.data["traceback"] = "".join(traceback.format_exception(exc))
            else:
                self.data["traceback"] = exc
        return self._report(status=FAILED)

    def run(self) -> Any:
        """Runs the unit as its work spec says, and finishes it."""
        return workunit_run(self, self.spec)

    def _report(self, **changes: Any) -> bool:
        assert self.taskmaster is not None, f"{self} has no client to report to"
        if self.data != self._old_data:
            changes["data"] = self.data
        if self.worker_id:
            # So that it counts as this worker's report also over a new connection.
            changes["worker_id"] = self.worker_id
        accepted = self.taskmaster.update_work_unit(self.work_spec_name, self.key, **changes)
        if "data" in changes:
            self._old_data = deepcopy(self.data)
        return accepted


class TaskMaster(CborRpcClient):
    """A client for everything that the daemon does.

    Beside the keys of CborRpcClient the configuration has `default_lifetime` (900), the
    seconds of a lease if get_work is not told otherwise.

    What the daemon refuses, such as an unknown work spec, is logged and returned as False or
    None, as each method says. It is not raised.
    """

    RUN = RUN
    IDLE = IDLE
    TERMINATE = TERMINATE

    AVAILABLE = AVAILABLE
    BLOCKED = BLOCKED
    PENDING = PENDING
    FINISHED = FINISHED
    FAILED = FAILED

    #: Set by Worker.register.
    worker_id: str | None

    def __init__(self, config: Mapping[str, Any]) -> None:
        self.config = config
        self.default_lifetime: float = config.get("default_lifetime", 900)
        super().__init__(config)

    def _value(self, method: str, *params: Any, level: int = logging.DEBUG) -> Any:
        """Calls a method that answers with a value and a message, which is logged."""
        value, message = self._rpc(method, params)
        if message:
            logger.log(level, "%s: %s", method, message)
        return value

    # Work specs

    @classmethod
    def validate_work_spec(cls, work_spec: Mapping[str, Any]) -> None:
        """Raises ProgrammerError if a work spec lacks its `name` or its `min_gb`, a number."""
        if "name" not in work_spec:
            raise ProgrammerError(f"the work spec has no name: {dict(work_spec)!r}")
        if not isinstance(work_spec.get("min_gb"), (int, float)):
            raise ProgrammerError(f"work spec {work_spec['name']!r}: min_gb must be a number")

    def set_work_spec(self, work_spec: Mapping[str, Any]) -> bool:
        """Adds a work spec, or replaces the one of its name and keeps its units."""
        self.validate_work_spec(work_spec)
        return bool(self._value("set_work_spec", work_spec))

    def get_work_spec(self, work_spec_name: str) -> Any:
        """The dictionary of a work spec, or None if there is none of this name."""
        return self._rpc("get_work_spec", (work_spec_name,))

    def pause_work_spec(self, work_spec_name: str, paused: bool = True) -> None:
        """Stops the handing out of a work spec's units, or with paused=False starts it again."""
        self._value("control_work_spec", work_spec_name, {"status": PAUSED if paused else RUNNABLE})

    def list_work_specs(self, limit: int | None = None, start: str | None = None) -> tuple[list[tuple[str, Any]], Any]:
        """Pairs of name and dictionary, in order of the names.

        The second item is where to start next, None at the end.
        """
        found, following = self._rpc("list_work_specs", (_given(limit=limit, start=start),))
        return [(spec["name"], spec) for spec in found], following

    def iter_work_specs(self, limit: int | None = None, start: str | None = None) -> Iterator[Any]:
        """The dictionaries of the work specs, one after the other."""
        while True:
            found, start = self._rpc("list_work_specs", (_given(limit=limit, start=start),))
            yield from found
            if limit is not None:
                limit -= len(found)
            if not start or (limit is not None and limit <= 0):
                return

    def clear(self) -> int:
        """Deletes all work specs with all their units. Returns the number of work specs."""
        return int(self._rpc("clear", ()))

    def del_work_spec(self, work_spec_name: str) -> bool:
        """Deletes a work spec with its units. False if there is none of this name."""
        return bool(self._value("del_work_spec", work_spec_name))

    def add_flow(self, flow: Mapping[str, Any], config: Mapping[str, Any] | None = None) -> None:
        """Sets the work specs of a flow.

        Its keys are names, and its values are work specs without `name` (known by their
        `min_gb`), or flows again, whose names then begin with this key and a dot. Each work
        spec gets `config` (by default the global configuration), overlaid by its own `config`.
        Raises ProgrammerError before anything is set if a value is neither, or a `then` does
        not name a work spec of the flow.
        """
        if config is None:
            config = yakonfig.get_global_config()
        work_specs: dict[str, dict[str, Any]] = {}

        def collect(name: str, value: Any) -> None:
            if not isinstance(value, Mapping):
                raise ProgrammerError(f"{name} is neither a work spec nor a flow: {value!r}")
            if "min_gb" not in value:
                for key, nested in value.items():
                    collect(f"{name}.{key}", nested)
                return
            own = yakonfig.overlay_config(config, value["config"]) if "config" in value else config
            work_specs[name] = {**value, "name": name, "config": own}

        for key, value in flow.items():
            collect(key, value)
        for name, work_spec in work_specs.items():
            if "then" in work_spec and work_spec["then"] not in work_specs:
                raise ProgrammerError(
                    f"work spec {name}: its `then` names {work_spec['then']}, which is not in the flow"
                )
        for work_spec in work_specs.values():
            self.set_work_spec(work_spec)

    def update_bundle(self, work_spec: Mapping[str, Any], work_units: Any, nice: Any = None) -> None:
        """Sets a work spec and adds units to it. `nice` is ignored: it belongs into the work spec."""
        if nice is not None:
            logger.warning("update_bundle ignores nice=%r: set it in the work spec", nice)
        self.set_work_spec(work_spec)
        self.add_work_units(work_spec["name"], work_units)

    # Work units

    def add_work_units(self, work_spec_name: str, work_unit_key_vals: Any) -> bool:
        """Adds units in one call: all of them, or with an error none.

        They are a dictionary of keys and data, or (key, data) pairs, or (key, data, meta)
        triples where the map `meta` can have a `priority`. A unit that exists gets the new
        data and becomes available again. False if there is no such work spec.
        """
        if isinstance(work_unit_key_vals, Mapping):
            work_unit_key_vals = work_unit_key_vals.items()
        # As lists, which are encoded faster than tuples and mean the same.
        units = [list(unit) if type(unit) is tuple else unit for unit in work_unit_key_vals]
        return bool(self._value("add_work_units", work_spec_name, units, level=logging.INFO))

    def count_work_units(self, work_spec_name: str) -> Any:
        """The number of units by status, for each status that any has. False without the work spec."""
        return self._value("count_work_units", work_spec_name)

    def status(self, work_spec_name: str) -> dict[str, int]:
        """The number of units by status, as `num_available` and so on, and their sum `num_tasks`."""
        counts = self.count_work_units(work_spec_name) or {}
        return {
            "num_available": counts.get(AVAILABLE, 0),
            "num_pending": counts.get(PENDING, 0),
            "num_blocked": counts.get(BLOCKED, 0),
            "num_finished": counts.get(FINISHED, 0),
            "num_failed": counts.get(FAILED, 0),
            "num_tasks": sum(counts.values()),
        }

    def prioritize_work_units(
        self,
        work_spec_name: str,
        work_unit_keys: Iterable[Any],
        priority: float | None = None,
        adjustment: float | None = None,
    ) -> bool:
        """Sets the priority of units, or adds to it; without either it becomes PRI_PRIORITY.

        Unknown units are ignored. False if there is no such work spec.
        """
        if priority is None and adjustment is None:
            priority = PRI_PRIORITY
        options = {"work_unit_keys": list(work_unit_keys), "priority": priority, "adjustment": adjustment}
        return bool(self._value("prioritize_work_units", work_spec_name, options))

    def get_work_units(
        self,
        work_spec_name: str,
        work_unit_keys: Iterable[Any] | None = None,
        state: Any = None,
        limit: int | None = None,
        start: Any = None,
    ) -> Any:
        """A list of (key, data), or None if there is no such work spec.

        With `work_unit_keys` these units, with None as the data of unknown ones. Else those
        whose status is `state`, or one of them if it is a list; at most `limit` (1000 if not
        given), in order of their keys, from the key `start` on.
        """
        keys = None if work_unit_keys is None else list(work_unit_keys)
        options = _given(work_unit_keys=keys, state=state, limit=limit, start=start)
        return self._value("get_work_units", work_spec_name, options)

    def list_work_units(self, work_spec_name: str, start: int = 0, limit: int | None = None) -> dict[Any, Any]:
        """Keys and data of units that are available or pending; `start` is how many to leave out."""
        return self._units_from(work_spec_name, start, limit, [AVAILABLE, PENDING])

    def list_finished_work_units(self, work_spec_name: str, start: int = 0, limit: int | None = None) -> dict[Any, Any]:
        """Keys and data of finished units; `start` is how many to leave out."""
        return self._units_from(work_spec_name, start, limit, FINISHED)

    def _units_from(self, work_spec_name: str, start: int, limit: int | None, state: Any) -> dict[Any, Any]:
        if limit is not None:
            limit += start
        return dict(self.get_work_units(work_spec_name, state=state, limit=limit)[start:])

    def del_work_units(
        self,
        work_spec_name: str,
        work_unit_keys: Iterable[Any] | None = None,
        state: int | None = None,
        all: bool = False,  # noqa: A002 - the name is old
    ) -> int:
        """Deletes units, and returns how many: these keys, or those of a status, or both at once.

        With `all` every unit of the work spec, and without any of the three none.
        """
        keys = None if work_unit_keys is None else list(work_unit_keys)
        options = _given(work_unit_keys=keys, state=state, all=all is True or None)
        return int(self._value("del_work_units", work_spec_name, options))

    def get_work_unit_status(self, work_spec_name: str, work_unit_keys: Any) -> Any:
        """What is known about units, in the order of the keys; of one key, if it is no list.

        A dictionary with `status`; `expiration`, the end of the lease in seconds since 1970, or
        when the unit was completed; `worker_id` of the worker that has or had it; and
        `traceback`, if there is one. None for an unknown unit, and None in place of all if there
        is no such work spec.
        """
        one = isinstance(work_unit_keys, (str, bytes))
        keys = [work_unit_keys] if one else list(work_unit_keys)
        found = self._value("get_work_unit_status", work_spec_name, keys)
        return found[0] if one else found

    def update_work_unit(
        self,
        work_spec_name: str,
        work_unit_key: Any,
        lease_time: float | None = None,
        status: int | None = None,
        data: Any = None,
        worker_id: str | None = None,
    ) -> bool:
        """Changes the lease, status or data of a unit; workers use the methods of WorkUnit.

        `lease_time` is in seconds from now, less than a day. `worker_id` is whose report it is;
        without it, it is that of the worker who got the unit over this connection. False if the
        unit is unknown, or another worker's by now.
        """
        if lease_time is not None:
            assert lease_time < MAX_LEASE_SECONDS, f"lease_time too big: {lease_time} >= {MAX_LEASE_SECONDS}"
        options = _given(lease_time=lease_time, status=status, data=data, worker_id=worker_id)
        return bool(self._value("update_work_unit", work_spec_name, work_unit_key, options))

    def retry(self, work_spec_name: str, *work_unit_names: Any) -> bool:
        """Makes units available again, whatever their status. False if any could not be."""
        all_accepted = True
        for key in work_unit_names:
            if not self.update_work_unit(work_spec_name, key, lease_time=0, status=AVAILABLE):
                logger.warning("cannot retry work unit %r of %s", key, work_spec_name)
                all_accepted = False
        return all_accepted

    # Working

    def get_work(
        self,
        worker_id: str,
        available_gb: float | None = None,
        lease_time: float | None = None,
        work_spec_names: Iterable[str] | None = None,
        max_jobs: int | None = 1,
    ) -> Any:
        """Gets work: a WorkUnit, or None if there is none; with max_jobs above 1 a list of them.

        They are the worker's for `lease_time` seconds, less than a day. `work_spec_names`
        restricts from where they come. `available_gb` is of no effect.
        """
        if lease_time is None:
            lease_time = self.default_lifetime
        assert lease_time < MAX_LEASE_SECONDS, f"lease_time too big: {lease_time} >= {MAX_LEASE_SECONDS}"
        if lease_time < MIN_LEASE_SECONDS:
            logger.warning("a lease of %s s may end too early: less than %s s", lease_time, MIN_LEASE_SECONDS)
        # Callers may have no types.
        if available_gb is not None and not isinstance(available_gb, (int, float)):  # pyright: ignore[reportUnnecessaryIsInstance]
            raise ValueError(f"available_gb must be a number, not {available_gb!r}")
        if max_jobs is not None and not isinstance(max_jobs, int):  # pyright: ignore[reportUnnecessaryIsInstance]
            raise ValueError(f"max_jobs must be a whole number, not {max_jobs!r}")
        options = _given(
            lease_time=lease_time,
            work_spec_names=None if work_spec_names is None else list(work_spec_names),
            available_gb=available_gb,
            max_jobs=max_jobs,
        )
        work = self._value("get_work", worker_id, options, level=logging.INFO)
        if max_jobs is not None and max_jobs != 1:
            return [self._unit(unit, worker_id, lease_time) for unit in work]
        if work[0] is None or work[1] is None:
            return None
        return self._unit(work, worker_id, lease_time)

    def _unit(self, work: Any, worker_id: str, lease_time: float) -> WorkUnit:
        work_spec_name, key, data = work
        return WorkUnit(self, work_spec_name, key, data, worker_id, default_lease_time=lease_time)

    def set_mode(self, mode: str) -> None:
        """Does nothing."""

    def get_mode(self) -> str:
        """Returns RUN."""
        return RUN

    # Workers

    def worker_register(
        self,
        worker_id: str,
        mode: str | None = None,
        lifetime: float = 6000,
        environment: Any = None,
        parent: str | None = None,
    ) -> None:
        """The same as worker_heartbeat."""
        self.worker_heartbeat(worker_id, mode, lifetime, environment, parent)

    def worker_heartbeat(
        self,
        worker_id: str,
        mode: str | None = None,
        lifetime: float = 6000,
        environment: Any = None,
        parent: str | None = None,
    ) -> None:
        """Says that a worker lives. Without another one it is forgotten after `lifetime` seconds."""
        ok, message = self._rpc("worker_heartbeat", (worker_id, mode, lifetime, environment, parent))
        if not ok:
            logger.error("worker_heartbeat: %s", message)

    def worker_unregister(self, worker_id: str, parent: str | None = None) -> None:
        """Says that a worker is gone. It is logged if it was unknown."""
        ok, message = self._rpc("worker_unregister", (worker_id,))
        if not ok:
            logger.error("worker_unregister: %s", message)

    def workers(self, alive: bool = True) -> dict[str, Any]:
        """The ids of the workers that live, and their modes. `alive` has no effect."""
        return dict(self._value("list_worker_modes", level=logging.WARNING))

    def get_heartbeat(self, worker_id: str) -> Any:
        """The environment that a worker sent last, and its `age_seconds`; None if it is unknown.

        What the workers of this package send is described at Worker.environment.
        """
        return self._value("get_worker_info", worker_id, level=logging.WARNING)

    def mode_counts(self) -> dict[str, int]:
        """The number of workers in each mode."""
        return dict(self._value("mode_counts", level=logging.WARNING))

    def get_child_work_units(self, worker_id: str) -> dict[str, list[WorkUnit]]:
        """The units of each worker whose parent this is, without the idle ones.

        A unit whose lease the child has lost is among them, with the id of the worker that has
        it now, or with None.
        """
        children = self._value("get_child_work_units", worker_id, level=logging.ERROR)
        return {
            child: [
                WorkUnit(
                    self,
                    unit["work_spec_name"],
                    unit["work_unit_key"],
                    unit["work_unit_data"],
                    worker_id=unit.get("worker_id"),
                    expires=unit.get("expires"),
                )
                for unit in units
            ]
            for child, units in children.items()
            if units
        }

    def get_server_config(self) -> Any:
        """The configuration of the daemon."""
        return self._value("get_config", level=logging.WARNING)


def _given(**options: Any) -> dict[str, Any]:
    """The options that are not None."""
    return {name: value for name, value in options.items() if value is not None}
