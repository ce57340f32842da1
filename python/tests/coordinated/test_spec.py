"""`@spec`: names, options, arguments and conversions, without a daemon."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from enum import Enum
from typing import Any

import pytest

from coordinated import Backoff, HaltAfter, InvalidArguments, Spec, Unit, spec
from coordinated._keys import new_key


@spec
def resize(path: str, width: int = 100) -> int:
    """Resizes a picture."""
    return len(path) * width


@spec("web.ping", priority=3)
async def ping(host: str) -> str:
    return host.upper()


@dataclass
class Point:
    x: int
    y: int = 0


@dataclass
class Line:
    start: Point
    end: Point | None
    more: list[Point]
    named: dict[str, Point]
    colour: Colour


class Colour(Enum):
    RED = "red"


@spec
def draw(line: Line, points: list[Point], at: datetime | None = None) -> Point:
    return line.start


def test_a_spec_is_still_its_function() -> None:
    assert resize("abc", width=2) == 6
    assert asyncio.run(ping("a")) == "A"
    assert resize.__doc__ == "Resizes a picture."
    assert resize.__name__ == "resize"
    assert (resize.is_async, ping.is_async) == (False, True)


def test_the_name_is_the_functions_or_the_given_one() -> None:
    assert (resize.name, ping.name) == ("resize", "web.ping")
    assert repr(ping) == "<spec web.ping>"


def test_the_data_of_a_unit_are_the_arguments_by_name() -> None:
    unit = resize.unit("a.png", width=5)
    assert (unit.spec, unit.data, unit.definition) == ("resize", {"path": "a.png", "width": 5}, resize)
    assert resize.unit("a.png").data == {"path": "a.png"}


def test_options_are_those_of_one_unit() -> None:
    unit = resize.options(key="k", priority=2, delay=60, group="acme").unit(path="a")
    assert (unit.key, unit.meta()) == ("k", {b"priority": 2, b"delay": 60, b"group": "acme"})
    assert resize.unit("a").meta() is None


@pytest.mark.parametrize(
    ("args", "kwargs", "message"),
    [
        ((), {}, "missing a required argument: 'path'"),
        (("a", 1, 2), {}, "too many positional arguments"),
        (("a",), {"path": "b"}, "multiple values for argument 'path'"),
        (("a",), {"height": 1}, "got an unexpected keyword argument 'height'"),
    ],
)
def test_arguments_that_do_not_fit_are_refused_where_the_unit_is_made(args: Any, kwargs: Any, message: str) -> None:
    with pytest.raises(TypeError, match=f"resize: {message}"):
        resize.unit(*args, **kwargs)


def test_a_function_can_take_any_names() -> None:
    @spec
    def anything(first: int, **others: Any) -> None: ...

    assert anything.unit(1, colour="red").data == {"first": 1, "colour": "red"}
    assert anything.bind({"first": 1, "colour": "red"}) == {"first": 1, "colour": "red"}


def test_parameters_that_cannot_be_given_by_name_are_refused() -> None:
    with pytest.raises(TypeError, match="parameter args can't be given by name"):

        @spec
        def listed(*args: int) -> None: ...

    with pytest.raises(TypeError, match="parameter a can't be given by name"):

        @spec
        def positional(a: int, /) -> None: ...


@pytest.mark.parametrize("name", ["result", "output", "traceback", "progress"])
def test_names_that_workers_write_are_refused(name: str) -> None:
    namespace: dict[str, Any] = {}
    exec(f"def function({name}): pass", namespace)
    with pytest.raises(TypeError, match="rename it"):
        spec(namespace["function"])


def test_options_become_keys_of_the_work_spec() -> None:
    @spec(
        "all",
        then=resize,
        timeout=60,
        retries=5,
        backoff=Backoff(first=2, factor=3, most=600, jitter=0.5),
        max_lost=3,
        max_attempts=9,
        priority=1.5,
        weight=30,
        max_running=4,
        max_rate="100/m",
        max_rate_burst=10,
        order="added",
        fair=True,
        max_running_per_group=2,
        halt_after=HaltAfter(rate=0.5, min=10),
        schedule="0 3 * * *",
        timezone="Europe/Berlin",
        overlap="queue",
        missed="skip",
        settings={"owner": "me"},
    )
    def all_options() -> None: ...

    assert all_options.definition() == {
        "name": "all",
        "runtime": "python3",
        "then": "resize",
        "timeout": 60,
        "retries": 5,
        "retry_delay": 2,
        "retry_backoff": 3,
        "retry_delay_max": 600,
        "retry_jitter": 0.5,
        "max_lost": 3,
        "max_retries": 9,
        "priority": 1.5,
        "weight": 30,
        "max_running": 4,
        "max_rate": "100/m",
        "max_rate_burst": 10,
        "order": "added",
        "fair": True,
        "max_running_per_group": 2,
        "halt_after": {"rate": 0.5, "min": 10},
        "schedule": "0 3 * * *",
        "timezone": "Europe/Berlin",
        "overlap": "queue",
        "missed": "skip",
        "owner": "me",
    }


def test_without_options_a_work_spec_is_its_name_and_runtime() -> None:
    assert resize.definition() == {"name": "resize", "runtime": "python3"}

    @spec(runtime="")
    def mixed() -> None: ...

    assert mixed.definition() == {"name": "mixed"}


def test_retries_have_pauses_by_default() -> None:
    @spec(retries=1, halt_after=10, every=5)
    def again() -> None: ...

    definition = again.definition()
    assert (definition["retry_delay"], definition["retry_backoff"]) == (1.0, 2.0)
    assert (definition["halt_after"], definition["continuous"], definition["interval"]) == ({"failures": 10}, True, 5)


def test_options_that_do_not_go_together_are_refused() -> None:
    with pytest.raises(ValueError, match="add retries=N"):
        spec(backoff=Backoff())
    with pytest.raises(ValueError, match="choose one"):
        spec(every=5, schedule="@daily")
    with pytest.raises(ValueError, match="without schedule"):
        spec(timezone="Europe/Berlin")


def test_a_worker_gets_dataclasses_enums_and_datetimes_as_annotated() -> None:
    bound = draw.bind(
        {
            "line": {
                "start": {"x": 1, "y": 2},
                "end": None,
                "more": [{"x": 3}],
                "named": {"a": {"x": 4}},
                "colour": "red",
            },
            "points": [{"x": 5}],
            "at": "2026-12-01T03:00:00+01:00",
        }
    )
    line = Line(Point(1, 2), None, [Point(3)], {"a": Point(4)}, Colour.RED)
    when = datetime(2026, 12, 1, 3, tzinfo=timezone(timedelta(hours=1)))
    assert bound == {"line": line, "points": [Point(5)], "at": when}
    assert draw(**bound) == Point(1, 2)
    assert draw.convert_result({"x": 1, "y": 2}) == Point(1, 2)
    assert resize.convert_result(5) == 5


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ({}, r"do not fit resize\(path: .*missing a required argument: 'path'"),
        ({"path": "a", "depth": 1}, "unexpected keyword argument 'depth'"),
        ({"path": "a", b"width": 1}, "do not fit resize"),
    ],
)
def test_data_that_do_not_fit_the_function_are_refused(data: Any, message: str) -> None:
    with pytest.raises(InvalidArguments, match=message):
        resize.bind(data)


def test_a_value_that_does_not_fit_its_annotation_is_named() -> None:
    with pytest.raises(InvalidArguments, match=r"draw: line: .*colou?r"):
        draw.bind({"line": {"start": {"x": 1}, "end": None, "more": [], "named": {}, "color": "red"}, "points": []})


def test_a_scheduled_function_takes_the_time_if_it_wants_it() -> None:
    data = {"scheduled": "2026-12-01T03:00:00+01:00"}

    @spec(schedule="@daily")
    def without() -> None: ...

    @spec(schedule="@daily")
    def with_time(scheduled: datetime) -> None: ...

    assert without.bind(data) == {}
    assert with_time.bind(data)["scheduled"].utcoffset() == timedelta(hours=1)


def test_units_that_a_function_yields_are_of_the_next_spec() -> None:
    @spec(then=resize)
    def split(paths: list[str]) -> Iterator[Unit[int]]:
        for path in paths:
            yield resize.options(key=path).unit(path)

    assert [unit.key for unit in split(["a", "b"])] == ["a", "b"]
    assert split.definition()["then"] == "resize"
    assert isinstance(split, Spec)


def test_generated_keys_are_in_order_and_differ_between_processes() -> None:
    keys = [new_key() for _ in range(10_000)]
    assert keys == sorted(set(keys))
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        os.write(writer, new_key()[19:].encode())
        os._exit(0)
    os.waitpid(child, 0)
    assert os.read(reader, 100).decode() != keys[-1][19:]
    os.close(reader)
    os.close(writer)


def test_importing_the_package_needs_neither_asyncio_nor_the_worker() -> None:
    program = (
        "import sys, coordinated\n"
        "assert 'asyncio' not in sys.modules and 'coordinated.worker' not in sys.modules\n"
        "assert coordinated.AsyncClient.__name__ == 'AsyncClient'"
    )
    subprocess.run([sys.executable, "-c", program], check=True)
