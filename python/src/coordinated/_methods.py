"""The methods of the protocol that this package uses: each is a function that gives a `Request`.

A request has its encoded parameters and a parser for its answer. It is sent by the blocking client, the asyncio client
and the worker, alone or in a list. docs/protocol.md describes the methods.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Generic, Literal, TypeAlias, TypeVar

from . import _wire
from .errors import NoSuchSpec, RequestRefused, UnitExists
from .values import (
    Added,
    Attempt,
    Cancellation,
    CancelledUnits,
    Failure,
    Lease,
    Reason,
    Report,
    RetryTold,
    SpecSummary,
    Status,
    UnitState,
)

T = TypeVar("T")
T_co = TypeVar("T_co", covariant=True)

IfExists: TypeAlias = Literal["reset", "skip", "error"]

# The longest wait that the daemon accepts, in seconds, and the number of units that one request can wait for.
WAIT_MOST: Final = 60.0
WAIT_UNITS_MOST: Final = 250


@dataclass(frozen=True, slots=True)
class Request(Generic[T_co]):
    """One call: the method, its encoded parameters, and what makes its answer of the decoded result.

    `repeatable` requests are sent again if the connection breaks before the answer. The daemon answers one with `wait`
    after at most that many seconds, and whatever is sent behind it on the same connection waits, too.
    """

    method: str
    params: bytes
    parse: Callable[[Any], T_co]
    wait: float = 0.0
    repeatable: bool = True

    def body(self, number: int) -> bytes:
        """Encodes the request with this id."""
        return _wire.request_body(number, self.method, self.params)

    def answer(self, response: Any) -> T_co:
        """Gives the answer in a decoded response, or raises what it says."""
        return self.parse(_wire.result_of(self.method, response))


def _params(*params: Any) -> bytes:
    return _wire.encode_plain(params)


def _params_with_data(*params: Any) -> bytes:
    """Encodes parameters in which there are values of the user's, such as tuples."""
    return _wire.encode(list(params))


def _options(**options: Any) -> dict[bytes, Any]:
    """Gives the options that are not None; their names are byte strings, since the Go daemons drop text."""
    return {name.encode(): value for name, value in options.items() if value is not None}


def _names(names: Iterable[str | bytes] | None) -> list[str | bytes] | None:
    return None if names is None else [_wire.name_out(name) for name in names]


def _text(value: Any) -> str | None:
    """Gives the daemon's own texts as `str`, whatever bytes are in them."""
    if isinstance(value, bytes):
        return value.decode("utf-8", "replace")
    return None if value is None else str(value)


def _data(data: Any) -> Any:
    """Gives the data of a unit as they were written, but a traceback that the daemon wrote itself as text."""
    if data is not None and b"traceback" in data:
        data["traceback"] = _text(data.pop(b"traceback"))
    return data


def _own(answer: Mapping[Any, Any]) -> dict[str, Any]:
    """Gives a map of the daemon with its own keys, which are byte strings, as `str`."""
    return {_wire.name_in(key): value for key, value in answer.items()}


def no_such_spec(spec: str) -> NoSuchSpec:
    """Gives the error for a work spec that does not exist."""
    return NoSuchSpec(f'the daemon has no work spec "{spec}": set it with Client.set_spec, or check the name')


def _of_spec(spec: str, parse: Callable[[Any], T]) -> Callable[[Any], T]:
    """Gives a parser for a pair whose message can only mean that there is no such work spec."""

    def parse_pair(pair: Any) -> T:
        value, message = pair
        if message is not None:
            raise no_such_spec(spec)
        return parse(value)

    return parse_pair


def _pair(method: str, parse: Callable[[Any], T]) -> Callable[[Any], T]:
    """Gives a parser for a pair whose message is a refusal."""

    def parse_pair(pair: Any) -> T:
        value, message = pair
        if message is not None:
            raise RequestRefused(method, str(_text(message)))
        return parse(value)

    return parse_pair


# Anything.


def call(method: str, params: Sequence[Any] | Mapping[str, Any]) -> Request[Any]:
    """Calls a method with these parameters; the answer is the result as it was decoded, with byte strings as `str`."""
    encoded = _wire.encode(params if isinstance(params, Mapping) else list(params))
    wait = 0.0
    values = params.values() if isinstance(params, Mapping) else params
    for value in values:
        if isinstance(value, Mapping):
            found = value.get("wait", value.get(b"wait", 0))
            wait = max(wait, found if isinstance(found, (int, float)) else 0.0)
    return Request(method, encoded, _wire.text_strings, wait=wait)


def server_info() -> Request[dict[str, Any]]:
    """Asks for the daemon's name, version and features."""
    return Request("server_info", _params(), _wire.text_strings)


def authenticate(token: str) -> Request[None]:
    """Shows a token: from then on the connection may do what it allows."""

    def parse(_: Any) -> None:
        return None

    return Request("authenticate", _params(token), parse)


# Work specs.


def set_work_spec(definition: Mapping[str, Any]) -> Request[None]:
    """Sets a work spec."""
    return Request("set_work_spec", _params_with_data(dict(definition)), _pair("set_work_spec", lambda _: None))


def get_work_spec(spec: str) -> Request[dict[str, Any] | None]:
    """Asks for the dictionary of a work spec; None if there is no such work spec."""
    return Request("get_work_spec", _params(_wire.name_out(spec)), _wire.text_strings)


def list_work_specs(
    start: str | None = None, limit: int | None = None
) -> Request[tuple[list[dict[str, Any]], str | None]]:
    """Asks for the dictionaries of work specs by name, and the name to go on with."""

    def parse(result: Any) -> tuple[list[dict[str, Any]], str | None]:
        return _wire.text_strings(result[0]), _wire.name_in(result[1])

    start_out = None if start is None else _wire.name_out(start)
    return Request("list_work_specs", _params(_options(start=start_out, limit=limit)), parse)


def del_work_spec(spec: str) -> Request[bool]:
    """Deletes a work spec with its units; False if there was none."""
    return Request("del_work_spec", _params(_wire.name_out(spec)), lambda pair: bool(pair[0]))


def control_work_spec(spec: str, **options: Any) -> Request[None]:
    """Pauses or resumes a work spec, or changes how it is scheduled."""
    return Request(
        "control_work_spec",
        _params(_wire.name_out(spec), {name.encode(): value for name, value in options.items()}),
        _pair("control_work_spec", lambda _: None),
    )


def get_work_spec_meta(spec: str) -> Request[dict[str, Any]]:
    """Asks how a work spec is scheduled, with its pause, schedule and limits."""
    options = _options(pause=True, schedule=True, limits=True)
    return Request("get_work_spec_meta", _params(_wire.name_out(spec), options), _of_spec(spec, _wire.text_strings))


# Work units.


def unit_item(key: str, data: Mapping[Any, Any], meta: Mapping[bytes, Any] | None = None) -> bytes:
    """Encodes a unit for `add_work_units`. Meta are `priority`, `delay` and `group`."""
    name = key if key.isascii() else _wire.name_out(key)
    return _wire.encode_unit([name, data, meta] if meta else [name, data], data)


def add_work_units(spec: str, items: Sequence[bytes], if_exists: IfExists = "skip") -> Request[Added]:
    """Adds units that `unit_item` has encoded."""

    def parse(pair: Any) -> Added:
        counts, message = pair
        if message is None:
            return Added(counts[b"new"], counts[b"reset"], counts[b"skipped"])
        text = str(_text(message))
        # With "error" there are two causes, and only an existing unit is in a work spec that exists.
        if if_exists == "error" and "exists" in text:
            raise UnitExists(f'{text}: choose another key, or add it with if_exists="skip" or "reset"')
        raise no_such_spec(spec)

    params = b"".join(
        (
            _wire.array_header(3),
            _wire.encode(_wire.name_out(spec)),
            _wire.array_header(len(items)),
            *items,
            _wire.encode(_options(if_exists=if_exists, counts=True)),
        )
    )
    return Request("add_work_units", params, parse)


def get_work_units(
    spec: str,
    *,
    keys: Sequence[str] | None = None,
    status: Sequence[int] | None = None,
    start: str | None = None,
    limit: int | None = None,
) -> Request[list[tuple[str, dict[Any, Any] | None]]]:
    """Asks for units with their data, by key. With `keys`, the data of one that does not exist are None."""

    def parse(units: Any) -> list[tuple[str, dict[Any, Any] | None]]:
        return [(_wire.name_in(key), _data(data)) for key, data in units]

    options = _options(
        work_unit_keys=_names(keys),
        state=None if status is None else [int(one) for one in status],
        start=None if start is None else _wire.name_out(start),
        limit=limit,
    )
    return Request("get_work_units", _params(_wire.name_out(spec), options), _of_spec(spec, parse))


def _unit_state(spec: str, key: str, answer: Any) -> UnitState | None:
    if answer is None:
        return None
    told = _own(answer)
    cancelled = told.get("cancelled")
    if cancelled is not None:
        why = _own(cancelled)
        cancelled = Cancellation(_text(why.get("reason")), _text(why.get("by")), why["at"])
    traceback = told.get("traceback")
    return UnitState(
        spec=spec,
        key=key,
        status=Status(told["status"]),
        expires=told.get("expiration"),
        worker=_wire.name_in(told.get("worker_id")),
        traceback=None if traceback is None else _text(traceback),
        failures=told.get("failures", 0),
        retries=told.get("retries", 0),
        retry_at=told.get("retry_at"),
        lost=told.get("lost", 0),
        cancelled=cancelled,
        group=_text(told.get("group")),
    )


def get_work_unit_status(spec: str, keys: Sequence[str], wait: float = 0.0) -> Request[list[UnitState | None]]:
    """Asks for the status of units, None for those that do not exist; with `wait` until one of them is done."""

    def parse(answers: Any) -> list[UnitState | None]:
        return [_unit_state(spec, key, answer) for key, answer in zip(keys, answers, strict=True)]

    params: list[Any] = [_wire.name_out(spec), _names(keys)]
    if wait > 0:
        params.append(_options(wait=wait))
    return Request("get_work_unit_status", _wire.encode(params), _of_spec(spec, parse), wait=wait)


def count_work_units(spec: str) -> Request[dict[Status, int]]:
    """Asks for the number of units in each status."""

    def parse(counts: Any) -> dict[Status, int]:
        return {Status(status): count for status, count in counts.items()}

    return Request("count_work_units", _params(_wire.name_out(spec)), _of_spec(spec, parse))


def prioritize_work_units(
    spec: str, keys: Sequence[str], *, priority: float | None = None, adjustment: float | None = None
) -> Request[None]:
    """Sets the priority of units, or adds to it."""
    options = _options(work_unit_keys=_names(keys), priority=priority, adjustment=adjustment)
    return Request(
        "prioritize_work_units",
        _params(_wire.name_out(spec), options),
        _of_spec(spec, lambda _: None),
        repeatable=adjustment is None,
    )


def _selection(everything: bool, keys: Sequence[str] | None, status: Sequence[int] | None) -> dict[bytes, Any]:
    return _options(
        all=everything or None,
        work_unit_keys=_names(keys),
        state=None if status is None else [int(one) for one in status],
    )


def del_work_units(
    spec: str, *, everything: bool = False, keys: Sequence[str] | None = None, status: Sequence[int] | None = None
) -> Request[int]:
    """Deletes units; the answer is their number."""
    options = _selection(everything, keys, status)
    return Request("del_work_units", _params(_wire.name_out(spec), options), _of_spec(spec, int))


def cancel_work_units(
    spec: str,
    *,
    everything: bool = False,
    keys: Sequence[str] | None = None,
    status: Sequence[int] | None = None,
    reason: str | None = None,
    by: str | None = None,
    grace: float | None = None,
) -> Request[CancelledUnits]:
    """Cancels units."""

    def parse(counts: Any) -> CancelledUnits:
        return CancelledUnits(counts[b"failed"], counts[b"running"])

    options = _selection(everything, keys, status) | _options(reason=reason, by=by, grace=grace)
    return Request("cancel_work_units", _params(_wire.name_out(spec), options), _of_spec(spec, parse))


# Work.


def get_work(
    worker: str,
    *,
    most: int = 1,
    lease_s: float | None = None,
    specs: Sequence[str] | None = None,
    runtimes: Sequence[str] | None = None,
    wait: float = 0.0,
) -> Request[list[Lease]]:
    """Leases up to `most` units; an empty list if there is no work now, or after `wait` seconds."""

    def lease(unit: Any) -> Lease:
        spec, key, data, told = unit
        return Lease(_wire.name_in(spec), _wire.name_in(key), data, told[b"attempt"], told[b"number"], told[b"expires"])

    def parse(pair: Any) -> list[Lease]:
        units, message = pair
        if message is not None:
            raise RequestRefused("get_work", str(_text(message)))
        if most == 1:
            return [] if units[0] is None else [lease(units)]
        return [lease(unit) for unit in units]

    options: dict[bytes, Any] = {b"max_jobs": most, b"attempts": True}
    if lease_s is not None:
        options[b"lease_time"] = lease_s
    if specs is not None:
        options[b"work_spec_names"] = _names(specs)
    if runtimes is not None:
        options[b"runtimes"] = list(runtimes)
    if wait > 0:
        options[b"wait"] = wait
    return Request("get_work", _params(_wire.name_out(worker), options), parse, wait=wait)


def report_options(
    *,
    status: Status | None = None,
    data: Mapping[Any, Any] | None = None,
    lease_s: float | None = None,
    attempt: int | None = None,
    worker: str | None = None,
    delay: float | None = None,
    final: bool = False,
    tell_retry: bool = False,
) -> dict[bytes, Any]:
    """Gives the options of a report."""
    options: dict[bytes, Any] = {}
    if status is not None:
        options[b"status"] = int(status)
    if data is not None:
        options[b"data"] = data
    if lease_s is not None:
        options[b"lease_time"] = lease_s
    if attempt is not None:
        options[b"attempt"] = attempt
    if worker is not None:
        options[b"worker_id"] = _wire.name_out(worker)
    if delay is not None:
        options[b"delay"] = delay
    if final:
        options[b"final"] = True
    if tell_retry:
        options[b"tell_retry"] = True
    return options


def _report(pair: Any) -> Report:
    accepted, told = pair
    if isinstance(told, dict):
        retry = _own(told)
        return Report(bool(accepted), None, RetryTold(retry["failures"], retry["retries"], retry["delay"]))
    return Report(bool(accepted), _text(told))


def _report_params(spec: str, key: str, options: Mapping[bytes, Any]) -> bytes:
    params = _wire.name_out(spec), _wire.name_out(key), options
    return _params_with_data(*params) if b"data" in options else _params(*params)


def update_work_unit(spec: str, key: str, options: Mapping[bytes, Any]) -> Request[Report]:
    """Reports on a unit; `report_options` gives the options."""
    return Request("update_work_unit", _report_params(spec, key, options), _report)


def update_work_units(spec: str, reports: Sequence[tuple[str, Mapping[bytes, Any]]]) -> Request[list[Report]]:
    """Reports on several units of a work spec; each report is a key and its options."""

    def parse(answers: Any) -> list[Report]:
        return [_report(answer) for answer in answers]

    items = [[_wire.name_out(key), options] for key, options in reports]
    return Request("update_work_units", _params_with_data(_wire.name_out(spec), items), _of_spec(spec, parse))


# Questions.


def summary() -> Request[list[SpecSummary]]:
    """Asks for the number of units of each work spec in each status."""
    fields = {1: "available", 3: "pending", 4: "finished", 5: "failed"}

    def parse(rows: Any) -> list[SpecSummary]:
        specs: dict[str, dict[str, Any]] = {}
        for row in map(_own, rows):
            told = specs.setdefault(_wire.name_in(row["work_spec"]), {})
            told[fields[row["status"]]] = row["count"]
            told.update((name, row[name]) for name in ("delayed", "retrying", "waiting") if name in row)
        return [SpecSummary(spec, **told) for spec, told in specs.items()]

    return Request("summary", _params(), _pair("summary", parse))


def get_attempts(spec: str, key: str, limit: int | None = None) -> Request[list[Attempt] | None]:
    """Asks for the attempts at a unit, the newest first; None if there is no such unit or work spec."""

    def parse(pair: Any) -> list[Attempt] | None:
        if pair[1] is not None:
            return None
        return [
            Attempt(
                told["number"],
                _wire.name_in(told["worker_id"]),
                Status(told["status"]),
                told["start"],
                told["end"],
                told["expiration"],
                _data(told["data"]),
            )
            for told in map(_own, pair[0])
        ]

    params = _params(_wire.name_out(spec), _wire.name_out(key), _options(limit=limit))
    return Request("get_attempts", params, parse)


def list_failures(spec: str, limit: int | None = None) -> Request[list[Failure]]:
    """Asks for the failed units by message."""

    def parse(groups: Any) -> list[Failure]:
        return [
            Failure(str(_text(told["message"])), told["count"], _wire.name_in(told["first_key"]), told["last_failed"])
            for told in map(_own, groups)
        ]

    return Request("list_failures", _params(_wire.name_out(spec), _options(limit=limit)), _of_spec(spec, parse))


def explain_work(spec: str, key: str | None) -> Request[list[Reason]]:
    """Asks why a unit, or with None any unit of the work spec, is not handed out."""

    def parse(reasons: Any) -> list[Reason]:
        return [Reason(str(_text(told["code"])), str(_text(told["text"]))) for told in map(_own, reasons)]

    params = _params(_wire.name_out(spec), None if key is None else _wire.name_out(key))
    return Request("explain_work", params, _of_spec(spec, parse))


# Workers.


def worker_heartbeat(
    worker: str, mode: str | None, lifetime_s: float, environment: Mapping[str, Any] | None, parent: str | None
) -> Request[None]:
    """Registers a worker, or keeps it alive for so many seconds more."""
    names = [None if name is None else _wire.name_out(name) for name in (worker, mode, parent)]
    params = _params_with_data(names[0], names[1], lifetime_s, environment, names[2])
    return Request("worker_heartbeat", params, lambda _: None)


def worker_unregister(worker: str) -> Request[bool]:
    """Removes a worker; False if there was none."""
    return Request("worker_unregister", _params(_wire.name_out(worker)), lambda pair: bool(pair[0]))


def list_worker_modes() -> Request[dict[str, str | None]]:
    """Asks for the workers that are alive, with their modes."""

    def parse(modes: Any) -> dict[str, str | None]:
        return {_wire.name_in(worker): _wire.name_in(mode) for worker, mode in modes.items()}

    return Request("list_worker_modes", _params(), _pair("list_worker_modes", parse))


def get_worker_info(worker: str) -> Request[dict[str, Any] | None]:
    """Asks for a worker's environment, with `age_seconds`."""
    return Request("get_worker_info", _params(_wire.name_out(worker)), _pair("get_worker_info", _wire.text_strings))


# Locks.


def lock(owner: str, timeout_s: float, path: Sequence[str]) -> Request[bool]:
    """Takes a lock; False if another owner has it, or one above or below it."""
    params = _params(_wire.name_out(owner), timeout_s, [list(path)])
    return Request("lock", params, lambda pair: bool(pair[0]))


def renew(owner: str, timeout_s: float, path: Sequence[str]) -> Request[bool]:
    """Makes a lock last for so many seconds from now; False if the owner does not hold it."""
    params = _params(_wire.name_out(owner), timeout_s, [list(path)])
    return Request("renew", params, lambda pair: bool(pair[0]))


def unlock(owner: str, path: Sequence[str]) -> Request[bool]:
    """Releases a lock; False if the owner does not hold it."""
    return Request("unlock", _params(_wire.name_out(owner), [list(path)]), lambda pair: bool(pair[0]))


def readlock(path: Sequence[str]) -> Request[str | None]:
    """Asks who holds a lock."""
    return Request("readlock", _params([list(path)]), lambda owners: _wire.name_in(owners[0]))
