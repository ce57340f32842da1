"""How units end: what functions return, raise and yield."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import cbor2
import pytest
import worker_jobs as jobs
from conftest import eventually

from coordinated import Client, CoordinateError, Status, Unit, UnitFailed, Worker


def run(client: Client, *specs: Any, **options: Any) -> Any:
    return Worker(*specs, server=client.server, **{"processes": 1, **options}).run(until_empty=True)


@pytest.fixture(params=["main thread", "threads", "inline", "inline threads"])
def way(request: pytest.FixtureRequest) -> dict[str, int]:
    """All ways of running a function."""
    ways: dict[str, dict[str, int]] = {
        "main thread": {"processes": 1},
        "threads": {"processes": 1, "concurrency": 3},
        "inline": {"processes": 0},
        "inline threads": {"processes": 0, "concurrency": 3},
    }
    return ways[request.param]


def test_what_a_function_returns_is_the_result(coordinated_client: Client, way: dict[str, int]) -> None:
    units = [coordinated_client.add(jobs.add, n, b=2) for n in range(5)]
    last = coordinated_client.add(jobs.pause, 0.01)
    tally = run(coordinated_client, jobs.add, jobs.pause, **way)
    assert [coordinated_client.result(unit) for unit in units] == [2, 3, 4, 5, 6]
    assert coordinated_client.result(last) == 0.01
    assert (tally.finished, tally.failed) == (6, 0)
    assert coordinated_client.data(units[1]) == {"a": 1, "b": 2, "result": 3}


def test_a_function_that_returns_nothing_leaves_the_data_as_they_are(coordinated_client: Client) -> None:
    unit = coordinated_client.add(jobs.nothing, 5)
    run(coordinated_client, jobs.nothing)
    assert coordinated_client.result(unit) is None
    assert coordinated_client.data(unit) == {"n": 5}


def test_a_result_that_cannot_be_sent_fails_with_the_path_to_it(
    coordinated_client: Client, way: dict[str, int]
) -> None:
    unit = coordinated_client.add(jobs.unwritable)
    run(coordinated_client, jobs.unwritable, **way)
    with pytest.raises(UnitFailed, match=r"the result\['deep'\]\[1\] is a object"):
        coordinated_client.result(unit)


def test_a_failure_is_tried_again_as_often_as_the_spec_says(
    coordinated_client: Client, tmp_path: Path, way: dict[str, int]
) -> None:
    log = tmp_path / "log"
    unit = coordinated_client.add(jobs.fails, "os", str(log))
    tally = run(coordinated_client, jobs.fails, **way)
    assert jobs.lines(log) == ["1", "2", "3"]
    assert (tally.retried, tally.failed) == (2, 1)
    with pytest.raises(UnitFailed) as caught:
        coordinated_client.result(unit)
    # The traceback begins with the function, not with the worker.
    assert caught.value.traceback.splitlines()[0] == "Traceback (most recent call last):"
    assert "worker_jobs.py" in caught.value.traceback.splitlines()[1]
    assert caught.value.traceback.endswith("OSError: the disk is on fire")
    assert coordinated_client.data(unit)["kind"] == "os"


@pytest.mark.parametrize(("kind", "message"), [("other", "KeyError"), ("exit", "SystemExit: enough")])
def test_an_exception_that_is_not_one_to_retry_on_is_final(
    coordinated_client: Client, tmp_path: Path, kind: str, message: str, way: dict[str, int]
) -> None:
    unit = coordinated_client.add(jobs.fails, kind, str(tmp_path / "log"))
    tally = run(coordinated_client, jobs.fails, **way)
    assert (tally.retried, tally.failed) == (0, 1)
    assert message in (coordinated_client.state(unit).traceback or "")


def test_a_message_with_lone_surrogates_is_reported(coordinated_client: Client) -> None:
    unit = coordinated_client.add(jobs.surrogates)
    run(coordinated_client, jobs.surrogates)
    assert (coordinated_client.state(unit).traceback or "").endswith("ValueError: \\ud800")


def test_retry_gives_back_and_is_no_failure(coordinated_client: Client, tmp_path: Path, way: dict[str, int]) -> None:
    unit = coordinated_client.add(jobs.later, str(tmp_path / "log"))
    tally = run(coordinated_client, jobs.later, **way)
    assert coordinated_client.result(unit) == 3
    assert (tally.given_back, tally.retried, tally.failed, tally.finished) == (2, 0, 0, 1)


def test_arguments_that_do_not_fit_fail_at_once(coordinated_client: Client, way: dict[str, int]) -> None:
    coordinated_client.set_spec(jobs.fails)
    unit = Unit("fails", "wrong", {"colour": "blue"})
    coordinated_client.add(unit)
    tally = run(coordinated_client, jobs.fails, **way)
    assert (tally.retried, tally.failed) == (0, 1)
    assert "do not fit" in (coordinated_client.state(unit).traceback or "")


@pytest.mark.parametrize("function", [jobs.spread, jobs.spread_async])
def test_what_a_spec_with_then_yields_is_added_with_the_finish(
    coordinated_client: Client, function: Any, way: dict[str, int]
) -> None:
    coordinated_client.set_spec(jobs.collect)
    coordinated_client.add(function, 3)
    tally = run(coordinated_client, function, jobs.collect, **way)
    assert tally.finished == 4
    collected = [coordinated_client.data(Unit("collect", f"c{number}")) for number in range(3)]
    assert collected == [{"number": 0}, {"number": 1}, {"number": 2}]


def test_units_for_another_spec_than_then_fail(coordinated_client: Client) -> None:
    coordinated_client.set_spec(jobs.collect)
    unit = coordinated_client.add(jobs.astray)
    run(coordinated_client, jobs.astray)
    assert "gave a unit of add; expected units of collect" in (coordinated_client.state(unit).traceback or "")


def test_progress_is_seen_while_the_function_runs(
    coordinated_client: Client, tmp_path: Path, start_worker: Any, way: dict[str, int]
) -> None:
    log, until = tmp_path / "log", tmp_path / "until"
    unit = coordinated_client.add(jobs.progresses, str(log), str(until))
    if way["processes"] == 0:
        pytest.skip("the test itself looks while the function runs")
    start_worker(
        "worker_jobs:progresses", "--server", coordinated_client.server, "-p1", f"-c{way.get('concurrency', 1)}"
    )
    eventually(lambda: coordinated_client.progress(unit), "there is progress")
    progress = coordinated_client.progress(unit)
    assert progress is not None
    assert (progress.done, progress.total, progress.note) == (3, 10, "rows")
    until.touch()
    assert coordinated_client.result(unit, timeout=30) is None
    assert coordinated_client.state(unit).status is Status.FINISHED


@pytest.mark.parametrize(
    ("lifespan", "state"), [(None, None), (jobs.lifespan, "state"), (jobs.lifespan_async, "async state")]
)
def test_current_tells_the_unit_and_the_state_of_the_child(
    coordinated_client: Client, lifespan: Any, state: Any, way: dict[str, int]
) -> None:
    unit = coordinated_client.add(jobs.shows_state.options(key="k\udcff"))
    other = coordinated_client.add(jobs.shows_state_async)
    run(coordinated_client, jobs.shows_state, jobs.shows_state_async, lifespan=lifespan, name="me", **way)
    data = coordinated_client.data(unit)
    assert data["result"][:1] + data["result"][3:] == [state, 1, True, "me"]
    assert coordinated_client.result(other) == state


def test_the_lifespan_is_left_at_the_end(
    coordinated_client: Client, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, way: dict[str, int]
) -> None:
    log = tmp_path / "log"
    monkeypatch.setenv("WORKER_TEST_LIFESPAN", str(log))
    coordinated_client.add(jobs.shows_state)
    run(coordinated_client, jobs.shows_state, lifespan=jobs.lifespan, **way)
    noted = [line.split()[0] for line in jobs.lines(log)]
    assert noted == ["enter", "leave"]


def test_a_lifespan_that_fails_ends_the_worker(coordinated_client: Client, way: dict[str, int]) -> None:
    coordinated_client.add(jobs.add, 1)
    with pytest.raises(CoordinateError, match="no database"):
        run(coordinated_client, jobs.add, lifespan=jobs.lifespan_broken, **way)


def test_many_async_functions_run_at_the_same_time_in_one_child(coordinated_client: Client) -> None:
    units = [coordinated_client.add(jobs.pause, 0.5) for _ in range(100)]
    tally = run(coordinated_client, jobs.pause, concurrency=100)
    assert tally.finished == 100
    begun = [coordinated_client.attempts(unit)[0].start for unit in units]
    assert max(begun) - min(begun) < 50 * 0.5


def test_units_of_a_continuous_spec_are_made_by_the_daemon(coordinated_client: Client, start_worker: Any) -> None:
    start_worker("worker_jobs:ticks", "--server", coordinated_client.server, "-p1")
    eventually(
        lambda: _finished(coordinated_client, "ticks") >= 2,
        "two units were made and have finished",
    )


def _finished(client: Client, spec: str) -> int:
    return sum(one.finished for one in client.summary() if one.spec == spec)


def test_a_spec_is_set_only_if_it_differs(coordinated_client: Client, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    coordinated_client.add(jobs.add, 1)
    run(coordinated_client, jobs.add)
    before = coordinated_client.server_info()["calls"].get("set_work_spec", 0)
    coordinated_client.add(jobs.add, 2)
    run(coordinated_client, jobs.add)
    assert coordinated_client.server_info()["calls"].get("set_work_spec", 0) == before


def test_a_worker_is_seen_while_it_lives(coordinated_client: Client, start_worker: Any) -> None:
    process = start_worker("worker_jobs:add", "--server", coordinated_client.server, "-p1", "--name", "w1")
    eventually(
        lambda: [(one.name, one.environment["specs"]) for one in coordinated_client.workers()] == [("w1", ["add"])],
        "it is there, with its specs",
    )
    process.terminate()
    assert process.wait(30) == 0
    assert coordinated_client.workers() == []


def test_data_that_no_python_value_can_hold_fail_their_unit_alone(
    coordinated_client: Client, way: dict[str, int]
) -> None:
    # A UUID of one byte and a date that is none, as another client may write them.
    coordinated_client.set_spec(jobs.add)
    coordinated_client.call(
        "add_work_units", "add", [["bad0", {"a": cbor2.CBORTag(37, b"x")}], ["bad1", {"a": cbor2.CBORTag(0, "no")}]]
    )
    good = [coordinated_client.add(jobs.add, n) for n in range(10)]
    tally = run(coordinated_client, jobs.add, **way)
    assert [coordinated_client.result(unit) for unit in good] == list(range(1, 11))
    assert (tally.finished, tally.failed, tally.lost) == (10, 2, 0)
