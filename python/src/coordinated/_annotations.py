"""Turns values as they come from CBOR into what an annotation asks for: dataclasses, members of enums, datetimes.

Everything else stays as it is: this is no validation.
"""

from __future__ import annotations

import types
from collections.abc import Callable, Mapping
from dataclasses import fields, is_dataclass
from datetime import datetime
from enum import Enum
from typing import Any, TypeAlias, Union, get_args, get_origin, get_type_hints

__all__ = ["Converter", "converter", "hints_of"]

Converter: TypeAlias = Callable[[Any], Any]


def hints_of(thing: Any) -> dict[str, Any]:
    """Gives the annotations of a function or class, or none if one of them can't be resolved."""
    try:
        return get_type_hints(thing)
    except (NameError, TypeError, AttributeError):
        return {}


def converter(annotation: Any) -> Converter | None:
    """Gives the function that converts a decoded value for `annotation`; None if such values stay as they are."""
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin in (Union, types.UnionType):
        # X | None: what is not None is an X. With several classes it would be a guess.
        others = [one for one in arguments if one is not type(None)]
        return _optional(converter(others[0])) if len(others) == 1 else None
    if origin is list and arguments:
        return _each(converter(arguments[0]), list)
    if origin is tuple and len(arguments) == 2 and arguments[1] is ...:
        return _each(converter(arguments[0]), tuple)
    if origin is dict and len(arguments) == 2:
        return _each_value(converter(arguments[1]))
    if isinstance(annotation, type):
        if is_dataclass(annotation):
            return _dataclass(annotation)
        if issubclass(annotation, Enum):
            return annotation
        if annotation is datetime:
            return lambda value: datetime.fromisoformat(value) if isinstance(value, str) else value
    return None


def _optional(inner: Converter | None) -> Converter | None:
    return None if inner is None else lambda value: None if value is None else inner(value)


def _each_value(inner: Converter | None) -> Converter | None:
    return None if inner is None else lambda values: {key: inner(value) for key, value in values.items()}


def _each(inner: Converter | None, kind: Callable[[Any], Any]) -> Converter | None:
    return None if inner is None else lambda values: kind([inner(value) for value in values])


def _dataclass(kind: type) -> Converter:
    converters: dict[str, Converter] | None = None

    def convert(value: Any) -> Any:
        nonlocal converters
        if not isinstance(value, Mapping):
            return value
        if converters is None:  # at first use, since a dataclass can contain itself
            hints = hints_of(kind)
            found = ((field.name, converter(hints.get(field.name))) for field in fields(kind))
            converters = {name: one for name, one in found if one is not None}
        return kind(**{name: converters[name](one) if name in converters else one for name, one in value.items()})

    return convert
