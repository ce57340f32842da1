"""Children that die, take too long, or take too much."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any

import pytest
import worker_jobs as jobs
from conftest import eventually

from coordinated import Client, CoordinateError, Worker


def run(client: Client, *specs: Any, **options: Any) -> Any:
    return Worker(*specs, server=client.server, **{"processes": 1, "grace": 1, **options}).run(until_empty=True)


def is_alive(pid: int) -> bool:
    """Whether a process runs. A zombie that its new parent has not reaped does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


@pytest.mark.parametrize("concurrency", [1, 3])
@pytest.mark.parametrize(
    ("how", "message"),
    [
        ("kill", "was killed by SIGKILL at"),
        ("segfault", "was killed by SIGSEGV at"),
        ("exit", "exited with code 3 while it ran the unit"),
    ],
)
def test_a_child_that_dies_costs_its_unit_an_attempt(
    coordinated_client: Client, tmp_path: Path, how: str, message: str, concurrency: int
) -> None:
    log = tmp_path / "log"
    unit = coordinated_client.add(jobs.dies, how, str(log))
    tally = run(coordinated_client, jobs.dies, concurrency=concurrency)
    assert coordinated_client.result(unit) == "survived"
    assert (tally.retried, tally.finished) == (1, 1)
    # In another process.
    (first, first_pid), (second, second_pid) = (line.split() for line in jobs.lines(log))
    assert (first, second) == ("1", "2")
    assert first_pid != second_pid
    attempts = coordinated_client.attempts(unit)
    assert message in (attempts[-1].data or {})["traceback"]


def test_a_unit_that_always_kills_its_child_fails_and_others_do_not(coordinated_client: Client, tmp_path: Path) -> None:
    bad = coordinated_client.add(jobs.dies, "always kill", str(tmp_path / "log"))
    good = [coordinated_client.add(jobs.add, n) for n in range(200)]
    tally = run(coordinated_client, jobs.dies, jobs.add)
    assert (tally.finished, tally.failed, tally.retried) == (200, 1, 1)
    assert [coordinated_client.result(unit) for unit in good] == [n + 1 for n in range(200)]
    assert "out of memory?" in (coordinated_client.state(bad).traceback or "")


def test_neighbours_of_a_crash_go_back_uncounted(coordinated_client: Client, tmp_path: Path) -> None:
    until = tmp_path / "until"
    neighbours = [coordinated_client.add(jobs.waits, str(tmp_path / "log"), str(until)) for _ in range(3)]
    coordinated_client.add(jobs.dies, "always exit", str(tmp_path / "dying"))
    until.touch()
    tally = run(coordinated_client, jobs.waits, jobs.dies, concurrency=4)
    # Of those that ran together nobody is blamed at first. Then each runs alone, and one dies alone.
    assert (tally.finished, tally.failed, tally.retried) == (3, 1, 1)
    assert all(coordinated_client.state(unit).failures == 0 for unit in neighbours)


@pytest.mark.parametrize(
    ("function", "arguments", "concurrency"),
    [(jobs.slow, ("polite",), 1), (jobs.slow_async, (), 1), (jobs.slow_async, (), 3), (jobs.slow_thread, (), 3)],
)
def test_a_function_that_takes_too_long_is_told_and_fails(
    coordinated_client: Client, tmp_path: Path, function: Any, arguments: tuple[str, ...], concurrency: int
) -> None:
    log = tmp_path / "log"
    unit = coordinated_client.add(function, *arguments, str(log))
    tally = run(coordinated_client, function, concurrency=concurrency)
    assert jobs.lines(log) == ["told"]
    assert tally.failed == 1
    traceback = coordinated_client.state(unit).traceback or ""
    assert traceback.endswith("ran longer than 0.3 s")
    # It also says where it was.
    assert "worker_jobs.py" in traceback


def test_a_function_that_does_not_stop_is_killed_with_its_processes(coordinated_client: Client, tmp_path: Path) -> None:
    log = tmp_path / "log"
    unit = coordinated_client.add(jobs.slow, "forks", str(log))
    others = [coordinated_client.add(jobs.add, n) for n in range(10)]
    tally = run(coordinated_client, jobs.slow, jobs.add)
    assert (tally.failed, tally.finished) == (1, 10)
    assert [coordinated_client.result(unit) for unit in others] == list(range(1, 11))
    message = coordinated_client.state(unit).traceback or ""
    assert "ran longer than 0.3 s, and did not stop within 1 s" in message
    (pid,) = map(int, jobs.lines(log))
    eventually(lambda: not is_alive(pid), "the process that it has started is gone")


def test_a_child_is_replaced_after_max_units(coordinated_client: Client, tmp_path: Path) -> None:
    log = tmp_path / "log"
    coordinated_client.add_many(jobs.pid.unit(str(log)) for _ in range(25))
    tally = run(coordinated_client, jobs.pid, max_units=10)
    pids = jobs.lines(log)
    assert tally.finished == len(pids) == 25
    assert max(pids.count(pid) for pid in set(pids)) <= 10


def test_a_child_that_has_grown_is_replaced(coordinated_client: Client, tmp_path: Path) -> None:
    log, until = tmp_path / "log", tmp_path / "until"
    coordinated_client.add(jobs.grows, 100, str(log))
    worker = Worker(jobs.grows, jobs.pid, server=coordinated_client.server, processes=1, max_memory="100 MiB")
    worker.run(until_empty=True)
    # It was not killed: the unit has finished.
    assert coordinated_client.count("grows")[4] == 1
    assert not until.exists()


def test_a_child_of_twice_max_memory_is_killed(coordinated_client: Client, tmp_path: Path) -> None:
    unit = coordinated_client.add(jobs.grows, 250, str(tmp_path / "log"))
    tally = run(coordinated_client, jobs.grows, max_memory="100 MiB")
    assert tally.failed == 1
    assert "more than twice max_memory" in (coordinated_client.state(unit).traceback or "")


def test_a_function_that_holds_the_interpreter_does_not_lose_its_lease(
    coordinated_client: Client, tmp_path: Path
) -> None:
    log = tmp_path / "log"
    unit = coordinated_client.add(jobs.holds_lock, 2.5, str(log))
    tally = run(coordinated_client, jobs.holds_lock, lease=1)
    assert (tally.finished, tally.lost) == (1, 0)
    assert jobs.lines(log) == ["1"]
    assert len(coordinated_client.attempts(unit)) == 1


def test_units_that_wait_behind_a_long_one_go_to_other_children(coordinated_client: Client, tmp_path: Path) -> None:
    until = tmp_path / "until"
    # The worker learns that these are short, and gives each child several.
    coordinated_client.add_many(jobs.add.options(key=f"a{n:04}").unit(n) for n in range(300))
    coordinated_client.add(jobs.waits.options(key="b"), str(tmp_path / "log"), str(until))
    last = [coordinated_client.add(jobs.add.options(key=f"c{n}"), n) for n in range(20)]
    worker = Worker("worker_jobs:add", "worker_jobs:waits", server=coordinated_client.server, processes=2)

    import threading

    thread = threading.Thread(target=lambda: worker.run(until_empty=True))
    thread.start()
    try:
        for unit in last:
            coordinated_client.wait(unit, 30)
    finally:
        until.touch()
        thread.join()


def test_a_worker_whose_functions_cannot_be_imported_ends_with_the_traceback(
    coordinated_client: Client, tmp_path: Path, start_worker: Any
) -> None:
    (tmp_path / "broken_jobs.py").write_text("import there_is_no_such_module\n")
    process = start_worker("broken_jobs", "--server", coordinated_client.server, folder=str(tmp_path))
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 1
    assert "ModuleNotFoundError: No module named 'there_is_no_such_module'" in errors


def test_a_worker_whose_children_die_at_their_start_ends(
    coordinated_client: Client, tmp_path: Path, start_worker: Any
) -> None:
    (tmp_path / "dying_jobs.py").write_text("import os\nos._exit(7)\n")
    process = start_worker("dying_jobs", "--server", coordinated_client.server, "-p1", folder=str(tmp_path))
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 1
    assert "exited with code 7" in errors


def test_there_is_nothing_to_import_by_that_name(coordinated_client: Client) -> None:
    with pytest.raises(CoordinateError, match="worker_jobs:note: there is no spec"):
        run(coordinated_client, "worker_jobs:note")


def test_a_dead_child_leaves_no_zombie(coordinated_client: Client, tmp_path: Path) -> None:
    log = tmp_path / "log"
    coordinated_client.add(jobs.dies, "kill", str(log))
    run(coordinated_client, jobs.dies)
    pids = [int(line.split()[1]) for line in jobs.lines(log)]
    deadline = time.monotonic() + 10
    while any(os.path.exists(f"/proc/{pid}") for pid in pids):
        assert time.monotonic() < deadline
        time.sleep(0.01)
