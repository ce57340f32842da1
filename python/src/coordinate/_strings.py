"""Which byte strings of an answer a program gets as `str`.

Keys and data of work units come as the type they were put in. All else that the daemon
says is `str`. Python 2 wrote its strings as byte strings; for a queue that it fills,
`python2_strings` gives those that are UTF-8 as `str`, also in keys and data.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

from coordinated._wire import name_in, text_strings

# The daemon makes the keys of continuous work units itself, as byte strings.
_CONTINUOUS_KEY = re.compile(rb"\d+\.\d+", re.ASCII)

Convert = Callable[[Any], Any]


def received(method: str, result: Any, python2_strings: bool) -> Any:
    """The result of a method as the program shall see it."""
    convert = _OF_METHODS.get(method)
    if convert is None:
        return _all_text(result)
    return convert(result, text_strings if python2_strings else _as_it_is)


def _as_it_is(value: Any) -> Any:
    return value


def _all_text(value: Any) -> Any:
    """All byte strings as `str`: surrogate escapes stand for bytes that are not UTF-8, as in file names."""
    kind = type(value)
    if kind is bytes:
        return name_in(value)
    if kind is dict:
        return {_all_text(key): _all_text(item) for key, item in value.items()}
    if kind is list:
        return [_all_text(item) for item in value]
    if kind is tuple:
        return tuple(_all_text(item) for item in value)
    return value


def _key(key: Any, value: Convert) -> Any:
    if type(key) is bytes and _CONTINUOUS_KEY.fullmatch(key):
        return key.decode()
    return value(key)


def _unit(unit: Any, value: Convert) -> Any:
    """(key, data), or (work spec name, key, data)."""
    *spec, key, data = unit
    return (*map(name_in, spec), _key(key, value), value(data))


def _work(result: Any, value: Convert) -> Any:
    work, message = result
    if isinstance(work, list):
        return [_unit(unit, value) for unit in work], _all_text(message)
    return _unit(work, value), _all_text(message)


def _units(result: Any, value: Convert) -> Any:
    units, message = result
    if units:
        units = [_unit(unit, value) for unit in units]
    return units, _all_text(message)


def _map(found: Any, value: Convert) -> Any:
    """A map of the daemon's that holds a unit's key or data."""
    result = {}
    for name, item in found.items():
        name = name_in(name)
        if name == "work_unit_key":
            item = _key(item, value)
        elif name in ("data", "work_unit_data"):
            item = value(item)
        else:
            item = _all_text(item)
        result[name] = item
    return result


def _children(result: Any, value: Convert) -> Any:
    children, message = result
    units = {name_in(child): [_map(unit, value) for unit in found or ()] for child, found in children.items()}
    return units, _all_text(message)


def _attempts(result: Any, value: Convert) -> Any:
    attempts, message = result
    return [_map(attempt, value) for attempt in attempts or ()], _all_text(message)


def _configuration(result: Any, value: Convert) -> Any:
    # What is not UTF-8 in here is somebody's binary value, and no name.
    return text_strings(result)


_OF_METHODS: dict[str, Callable[[Any, Convert], Any]] = {
    "get_attempts": _attempts,
    "get_child_work_units": _children,
    "get_config": _configuration,
    "get_work": _work,
    "get_work_spec": _configuration,
    "get_work_units": _units,
    "get_worker_info": _configuration,
    "list_work_specs": _configuration,
}
