"""Work specs as functions: `@spec`, its options, and the units made of a function's arguments."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Coroutine, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, Generic, Literal, ParamSpec, TypeAlias, TypeVar, cast, overload

from ._annotations import Converter, converter, hints_of
from ._keys import new_key
from .errors import InvalidArguments

__all__ = ["AsyncSpec", "Backoff", "HaltAfter", "Spec", "SyncSpec", "Unit", "UnitOptions", "spec"]

P = ParamSpec("P")
R = TypeVar("R")
if TYPE_CHECKING:
    # `Unit("thumbnails", "a.png")` tells nothing about its result.
    from typing_extensions import TypeVar as DefaultTypeVar

    R_co = DefaultTypeVar("R_co", covariant=True, default=Any)
else:
    R_co = TypeVar("R_co", covariant=True)

RUNTIME: Final = "python3"
# Keys that a worker adds to the data of a unit, beside its arguments.
RESERVED: Final = frozenset(["result", "output", "traceback", "progress"])


@dataclass(frozen=True, slots=True)
class Backoff:
    """The pauses between the tries of a unit that fails, in seconds: `first`, then `factor` times the one before.

    None is longer than `most`. Each is shortened at random by up to the part `jitter` (0 to 1), so that units that
    failed together do not come back together.
    """

    first: float = 1.0
    factor: float = 2.0
    most: float = 3600.0
    jitter: float = 0.2


@dataclass(frozen=True, slots=True)
class HaltAfter:
    """Pauses a work spec after so many `failures` in a row, or when the share of failures reaches `rate` (0 to 1).

    The rate is that of about the last `min` attempts, and does not count before there were as many.
    """

    failures: int | None = None
    rate: float | None = None
    min: int | None = None


# Not frozen: a million units are made faster.
@dataclass(slots=True)
class Unit(Generic[R_co]):
    """One thing to do: the name of a work spec, a key, and data.

    `spec.unit(...)` makes one from a function's arguments. `Unit("thumbnails", "a.png")` is one of a work spec that is
    not a function of this program; it can be added, and it names the unit in all other calls.

    Attributes:
        spec: The name of the work spec.
        key: The unit's key, unique in its work spec. Bytes that are not UTF-8 are surrogate escapes, as in file names.
        data: The function's arguments by name.
        priority: Units with a higher priority go first; 0 by default.
        delay: For how many seconds it is not handed out.
        group: The group that it belongs to, if the work spec takes groups in turn.
        definition: The function, if it is known.
        generated: Whether the key was made up for this unit, so that no other unit can have it.
    """

    spec: str
    key: str
    data: Mapping[Any, Any] = field(default_factory=dict[Any, Any])
    priority: float | None = None
    delay: float | None = None
    group: str | None = None
    definition: Spec[..., R_co] | None = field(default=None, repr=False, compare=False)
    generated: bool = field(default=False, repr=False, compare=False)

    def meta(self) -> dict[bytes, Any] | None:
        """Gives the metadata of the unit as they are sent; None if it has none."""
        if self.priority is None and self.delay is None and self.group is None:
            return None
        meta: dict[bytes, Any] = {}
        if self.priority is not None:
            meta[b"priority"] = self.priority
        if self.delay is not None:
            meta[b"delay"] = self.delay
        if self.group is not None:
            meta[b"group"] = self.group
        return meta


@dataclass(frozen=True, slots=True)
class UnitOptions(Generic[P, R_co]):
    """A spec with options for its next unit; made by `Spec.options`."""

    spec: Spec[P, R_co]
    key: str | None = None
    priority: float | None = None
    delay: float | None = None
    group: str | None = None

    def unit(self, *args: P.args, **kwargs: P.kwargs) -> Unit[R_co]:
        """Makes a unit with these options and arguments. It is not added yet."""
        return Unit(
            self.spec.name,
            new_key() if self.key is None else self.key,
            self.spec.arguments(*args, **kwargs),
            self.priority,
            self.delay,
            self.group,
            self.spec,
            self.key is None,
        )


class Spec(Generic[P, R_co]):
    """A function as a work spec. It can still be called as the function that it is.

    Attributes:
        name: The name of the work spec.
        function: The function itself.
        settings: The keys of the work spec, as the daemon knows them.
        then: The spec that gets the units that the function returns or yields: a `Spec`, a name, or None.
        timeout: After how many seconds a worker stops the function; None for no limit.
        retry_on: The exceptions after which a unit is tried again; others are final.
    """

    def __init__(
        self,
        function: Callable[..., Any],
        name: str,
        settings: Mapping[str, Any],
        then: Spec[..., Any] | str | None,
        timeout: float | None,
        retry_on: tuple[type[BaseException], ...],
    ) -> None:
        self.__name__ = function.__name__
        self.__qualname__ = function.__qualname__
        self.__module__ = function.__module__
        self.__doc__ = function.__doc__
        self.__wrapped__ = function
        self.name = name
        self.function = function
        self.settings = dict(settings)
        self.then = then
        self.timeout = timeout
        self.retry_on = retry_on
        self.signature = inspect.signature(function)
        self._names = tuple(self.signature.parameters)
        self._required = frozenset(
            parameter.name
            for parameter in self.signature.parameters.values()
            if parameter.default is parameter.empty and parameter.kind is not parameter.VAR_KEYWORD
        )
        self._known = frozenset(self._names)
        self._check_parameters()
        self._converters: dict[str, Converter] | None = None

    def __repr__(self) -> str:
        return f"<spec {self.name}>"

    @property
    def is_async(self) -> bool:
        """Whether the function is an `async def`."""
        return inspect.iscoroutinefunction(self.function) or inspect.isasyncgenfunction(self.function)

    def _check_parameters(self) -> None:
        for parameter in self.signature.parameters.values():
            if parameter.kind in (parameter.POSITIONAL_ONLY, parameter.VAR_POSITIONAL):
                raise TypeError(
                    f"spec {self.name}: parameter {parameter.name} can't be given by name, "
                    f"and the arguments of a unit are kept by name: remove / and *args"
                )
            if parameter.name in RESERVED:
                raise TypeError(
                    f"spec {self.name}: {parameter.name} can't be the name of a parameter, "
                    f"because workers write {', '.join(sorted(RESERVED))} into a unit's data: rename it"
                )

    def definition(self) -> dict[str, Any]:
        """Gives the dictionary of the work spec, as `Client.set_spec` sets it."""
        definition: dict[str, Any] = {"name": self.name, **self.settings}
        if self.then is not None:
            definition["then"] = self.then if isinstance(self.then, str) else self.then.name
        if self.timeout is not None:
            definition["timeout"] = self.timeout
        return definition

    def arguments(self, *args: P.args, **kwargs: P.kwargs) -> dict[str, Any]:
        """Gives arguments by name, as the data of a unit. Defaults are left out: the worker's function has its own.

        Raises `TypeError` if they don't fit the function.
        """
        given: dict[str, Any] = kwargs
        if args:
            given = dict(zip(self._names, args, strict=False)) | kwargs
        if len(given) != len(args) + len(kwargs) or not self._fits(given):
            # Rare: too many, too few, or **kwargs. This says what is wrong, as Python does in a call.
            try:
                self.signature.bind(*args, **kwargs)
            except TypeError as error:
                raise TypeError(f"{self.name}: {error}") from None
        return given

    def _fits(self, given: Mapping[str, Any]) -> bool:
        return self._known.issuperset(given) and self._required.issubset(given)

    def unit(self, *args: P.args, **kwargs: P.kwargs) -> Unit[R_co]:
        """Makes a unit with these arguments and a new key, to be added by `Client.add` or `Client.add_many`."""
        return Unit(self.name, new_key(), self.arguments(*args, **kwargs), definition=self, generated=True)

    def options(
        self,
        *,
        key: str | None = None,
        priority: float | None = None,
        delay: float | None = None,
        group: str | None = None,
    ) -> UnitOptions[P, R_co]:
        """Gives this spec with options for the unit that is made or added with it.

        Args:
            key: The unit's key, by default a new one. A unit whose key exists is not added twice.
            priority: Units with a higher priority go first; 0 by default.
            delay: For how many seconds the unit is not handed out.
            group: The group that it belongs to; see `fair` and `max_running_per_group`.
        """
        return UnitOptions(self, key, priority, delay, group)

    def bind(self, data: Mapping[Any, Any]) -> dict[str, Any]:
        """Gives the arguments for the function from the data of a unit, converted by the function's annotations.

        A unit that was made by a schedule has the argument `scheduled`, which is left out if the function has no such
        parameter. Raises `InvalidArguments` if the data don't fit.
        """
        if self._converters is None:
            hints = hints_of(self.function)
            found = ((name, converter(hints.get(name))) for name in self._names)
            self._converters = {name: one for name, one in found if one is not None}
        given = dict(data)
        if "schedule" in self.settings and "scheduled" not in self._known:
            given.pop("scheduled", None)
        if not self._fits(given):
            try:
                self.signature.bind(**given)
            except TypeError as error:
                raise InvalidArguments(
                    f"the data of the unit do not fit {self.name}{self.signature}: {error}"
                ) from None
        for name, convert in self._converters.items():
            if name in given:
                try:
                    given[name] = convert(given[name])
                except (TypeError, ValueError, AttributeError) as error:
                    raise InvalidArguments(f"the data of the unit do not fit {self.name}: {name}: {error}") from None
        return given

    def convert_result(self, value: Any) -> R_co:
        """Gives a result as the function's return annotation says."""
        convert = converter(hints_of(self.function).get("return"))
        return cast("R_co", value if convert is None or value is None else convert(value))


class SyncSpec(Spec[P, R_co]):
    """A plain function as a work spec."""

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R_co:
        """Calls the function, here and now."""
        return cast("R_co", self.function(*args, **kwargs))


class AsyncSpec(Spec[P, R_co]):
    """An `async def` function as a work spec."""

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> Coroutine[Any, Any, R_co]:
        """Calls the function, here and now; await what it gives."""
        return cast("Coroutine[Any, Any, R_co]", self.function(*args, **kwargs))


class _Decorator:
    """What `@spec(...)` with options gives."""

    def __init__(self, make: Callable[[Callable[..., Any]], Spec[..., Any]]) -> None:
        self._make = make

    @overload
    # A coroutine function is also a function that returns something; the first overload that fits is taken.
    def __call__(  # type: ignore[overload-overlap]  # pyright: ignore[reportOverlappingOverload]
        self, function: Callable[P, Coroutine[Any, Any, R]], /
    ) -> AsyncSpec[P, R]: ...
    @overload
    def __call__(self, function: Callable[P, R], /) -> SyncSpec[P, R]: ...
    def __call__(self, function: Callable[..., Any], /) -> Any:
        return self._make(function)


Order: TypeAlias = Literal["name", "added"]


@overload
def spec(  # type: ignore[overload-overlap]  # pyright: ignore[reportOverlappingOverload]
    function: Callable[P, Coroutine[Any, Any, R]], /
) -> AsyncSpec[P, R]: ...
@overload
def spec(function: Callable[P, R], /) -> SyncSpec[P, R]: ...
@overload
def spec(
    name: str | None = None,
    /,
    *,
    then: Spec[..., Any] | str | None = None,
    timeout: float | None = None,
    retries: int = 0,
    backoff: Backoff | None = None,
    retry_on: type[BaseException] | tuple[type[BaseException], ...] = Exception,
    max_lost: int | None = None,
    max_attempts: int | None = None,
    priority: float | None = None,
    weight: int | None = None,
    max_running: int | None = None,
    max_rate: int | str | None = None,
    max_rate_burst: int | None = None,
    order: Order | None = None,
    fair: bool = False,
    max_running_per_group: int | None = None,
    halt_after: int | HaltAfter | None = None,
    every: float | None = None,
    schedule: str | None = None,
    timezone: str | None = None,
    overlap: Literal["skip", "queue"] | None = None,
    missed: Literal["run-once", "skip"] | None = None,
    runtime: str = RUNTIME,
    settings: Mapping[str, Any] | None = None,
) -> _Decorator: ...
def spec(
    function: Callable[..., Any] | str | None = None,
    /,
    *,
    then: Spec[..., Any] | str | None = None,
    timeout: float | None = None,
    retries: int = 0,
    backoff: Backoff | None = None,
    retry_on: type[BaseException] | tuple[type[BaseException], ...] = Exception,
    max_lost: int | None = None,
    max_attempts: int | None = None,
    priority: float | None = None,
    weight: int | None = None,
    max_running: int | None = None,
    max_rate: int | str | None = None,
    max_rate_burst: int | None = None,
    order: Order | None = None,
    fair: bool = False,
    max_running_per_group: int | None = None,
    halt_after: int | HaltAfter | None = None,
    every: float | None = None,
    schedule: str | None = None,
    timezone: str | None = None,
    overlap: Literal["skip", "queue"] | None = None,
    missed: Literal["run-once", "skip"] | None = None,
    runtime: str = RUNTIME,
    settings: Mapping[str, Any] | None = None,
) -> Any:
    """Makes a function a work spec, `@spec` or `@spec("name", retries=3)`. The name is by default the function's.

    The function's arguments are the data of its units, so they must be values that CBOR has: numbers, strings, bytes,
    None, lists, dicts, tuples, sets, datetimes with a time zone, Decimal, UUID, and dataclasses and enums of these. So
    must its result be.

    Args:
        function: The function, or the name of the work spec.
        then: The spec that gets what the function returns or yields: units of that spec, which are added together with
            the finish of this unit.
        timeout: After how many seconds a worker stops the function. It counts as a failure.
        retries: How many failures of a unit are followed by another try.
        backoff: The pauses between these tries; with `retries`, `Backoff()` by default.
        retry_on: The exceptions after which a unit is tried again. Any other fails it at once.
        max_lost: How many workers a unit may cost their lease (because they died, or hung) before it fails.
        max_attempts: How many times a unit is handed out at most, for whatever reason.
        priority: Specs with a lower priority wait while this one has work; 0 by default.
        weight: The share among specs of the same priority; 20 by default.
        max_running: How many units run at the same time, on all workers together.
        max_rate: How many units begin in a time, such as `"100/m"` (s, m, h or d), or a number per second.
        max_rate_burst: How many of them may begin at once after a quiet time.
        order: `"added"` for first in, first out, instead of by key. Generated keys are in the order of time anyway.
        fair: Takes the units of each group in turn.
        max_running_per_group: How many units of a group run at the same time.
        halt_after: Pauses the work spec after so many failures in a row; or a `HaltAfter`.
        every: The daemon makes a unit by itself, when a worker asks for one and so many seconds have passed.
        schedule: The daemon makes a unit at the times of this cron expression. Its key is the time in UTC; the function
            gets the time as the argument `scheduled` (a `str`, or a `datetime` if it is annotated as one), if it has
            such a parameter.
        timezone: The IANA time zone of `schedule`; UTC by default.
        overlap: With `schedule`, `"queue"` to make a unit even if the one before has not completed.
        missed: With `schedule`, `"skip"` to make none for times when the daemon was not running.
        runtime: Only workers that ask for this runtime get the units. Python 2 workers ask for `""`.
        settings: More keys of the work spec, see docs/work_specs.md.

    Raises:
        TypeError: If the function has parameters that can't be given by name, or reserved names.
        ValueError: If options do not go together.
    """
    options: dict[str, Any] = {
        "runtime": runtime or None,
        "max_lost": max_lost,
        "max_retries": max_attempts,
        "priority": priority,
        "weight": weight,
        "max_running": max_running,
        "max_rate": max_rate,
        "max_rate_burst": max_rate_burst,
        "order": order,
        "fair": fair or None,
        "max_running_per_group": max_running_per_group,
        "schedule": schedule,
        "timezone": timezone,
        "overlap": overlap,
        "missed": missed,
    }
    if retries:
        pauses = backoff or Backoff()
        options.update(
            retries=retries,
            retry_delay=pauses.first,
            retry_backoff=pauses.factor,
            retry_delay_max=pauses.most,
            retry_jitter=pauses.jitter,
        )
    elif backoff is not None:
        raise ValueError("backoff without retries has no effect: add retries=N")
    if every is not None:
        if schedule is not None:
            raise ValueError("every and schedule exclude each other: choose one")
        options.update(continuous=True, interval=every)
    if schedule is None and (timezone or overlap or missed):
        raise ValueError("timezone, overlap and missed have no effect without schedule")
    if halt_after is not None:
        halt = HaltAfter(failures=halt_after) if isinstance(halt_after, int) else halt_after
        options["halt_after"] = {
            name: value
            for name, value in (("failures", halt.failures), ("rate", halt.rate), ("min", halt.min))
            if value is not None
        }
    options.update(settings or {})
    keys = {name: value for name, value in options.items() if value is not None}
    exceptions = retry_on if isinstance(retry_on, tuple) else (retry_on,)
    given_name = function if isinstance(function, str) else None

    def make(decorated: Callable[..., Any]) -> Spec[..., Any]:
        kind: type[Spec[..., Any]] = SyncSpec
        if inspect.iscoroutinefunction(decorated) or inspect.isasyncgenfunction(decorated):
            kind = AsyncSpec
        return kind(decorated, given_name or decorated.__name__, keys, then, timeout, exceptions)

    if callable(function):
        return make(function)
    return _Decorator(make)
