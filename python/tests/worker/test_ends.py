"""What happens to units when they are cancelled, the daemon goes away, or the worker is stopped, killed or reloaded."""

from __future__ import annotations

import signal
import sys
from pathlib import Path
from typing import Any

import pytest
import worker_jobs as jobs
from conftest import eventually

from coordinated import Client, Status
from coordinated.testing import Daemon


def begun(log: Path, count: int = 1) -> Any:
    return lambda: len(jobs.lines(log)) >= count


@pytest.mark.parametrize(("name", "concurrency"), [("told", 1), ("told_async", 1), ("told_async", 3)])
@pytest.mark.parametrize("end", ["cancelled", "deleted"])
def test_a_unit_that_was_cancelled_or_deleted_is_stopped(
    coordinated_client: Client, tmp_path: Path, start_worker: Any, name: str, concurrency: int, end: str
) -> None:
    log = tmp_path / "log"
    unit = coordinated_client.add(getattr(jobs, name), str(log))
    start_worker(
        f"worker_jobs:{name}", "worker_jobs:add", "--server", coordinated_client.server, "-p1", "--lease", "1",
        f"-c{concurrency}",
    )  # fmt: skip
    eventually(begun(log), "the function has begun")
    if end == "cancelled":
        coordinated_client.cancel(unit, reason="wrong input")
    else:
        coordinated_client.delete(unit)
    eventually(begun(log, 2), "the function was told")
    assert jobs.lines(log)[1] == "told"
    if end == "cancelled":
        state = coordinated_client.wait(unit, 30)
        assert state.status is Status.FAILED
        assert (state.traceback or "").endswith("cancelled: wrong input")
    # The child can go on.
    assert coordinated_client.result(coordinated_client.add(jobs.add, 1), timeout=30) == 2


def test_a_unit_that_does_not_stop_when_it_is_cancelled_is_killed(
    coordinated_client: Client, tmp_path: Path, start_worker: Any
) -> None:
    log = tmp_path / "log"
    unit = coordinated_client.add(jobs.deaf, str(log))
    start_worker("worker_jobs:deaf", "worker_jobs:add", "--server", coordinated_client.server, "-p1", "--lease=1",
                 "--grace=0.5")  # fmt: skip
    eventually(begun(log), "the function has begun")
    coordinated_client.cancel(unit, reason="enough")
    assert (coordinated_client.wait(unit, 30).traceback or "").endswith("cancelled: enough")
    assert coordinated_client.result(coordinated_client.add(jobs.add, 1), timeout=30) == 2


@pytest.mark.parametrize("concurrency", [1, 3])
def test_functions_go_on_while_the_daemon_is_away(tmp_path: Path, start_worker: Any, concurrency: int) -> None:
    log, until = tmp_path / "log", tmp_path / "until"
    with Daemon(tmp_path / "db") as daemon, daemon.client() as client:
        unit = client.add(jobs.waits, str(log), str(until))
        start_worker("worker_jobs:waits", "--server", daemon.server, "-p1", f"-c{concurrency}")
        eventually(begun(log), "the function has begun")
        daemon.kill()
        # It ends while there is no daemon.
        until.touch()
        daemon.start()
        assert client.result(unit, timeout=30) == "done"
        assert len(client.attempts(unit)) == 1
        assert len(jobs.lines(log)) == 1


def test_a_worker_takes_work_after_many_restarts_of_the_daemon(tmp_path: Path, start_worker: Any) -> None:
    with Daemon(tmp_path / "db") as daemon, daemon.client() as client:
        start_worker("worker_jobs:add", "--server", daemon.server, "-p1")
        for number in range(10):
            assert client.result(client.add(jobs.add, number), timeout=30) == number + 1
            (daemon.kill if number % 2 else daemon.stop)()
            daemon.start()


def test_a_worker_may_start_before_the_daemon(tmp_path: Path, start_worker: Any) -> None:
    with Daemon(tmp_path / "db") as daemon:
        daemon.stop()
        process = start_worker("worker_jobs:add", "--server", daemon.server, "-p1")
        assert process.stderr is not None
        while "can't be reached" not in process.stderr.readline():
            assert process.poll() is None
        daemon.start()
        with daemon.client() as client:
            assert client.result(client.add(jobs.add, 1), timeout=30) == 2


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_the_first_signal_lets_functions_end_and_gives_back_the_rest(
    coordinated_client: Client, tmp_path: Path, start_worker: Any, number: signal.Signals
) -> None:
    log, until = tmp_path / "log", tmp_path / "until"
    for key in ("a", "b", "c"):
        coordinated_client.add(jobs.waits.options(key=key), str(log), str(until))
    process = start_worker("worker_jobs:waits", "--server", coordinated_client.server, "-p1")
    eventually(begun(log), "a function has begun")
    process.send_signal(number)
    eventually(lambda: [one.mode for one in coordinated_client.workers()] == ["TERMINATE"], "the worker is stopping")
    until.touch()
    assert process.wait(30) == 0
    assert [line.split()[0] for line in jobs.lines(log)] == ["a"]
    counts = coordinated_client.count("waits")
    assert (counts[Status.FINISHED], counts[Status.AVAILABLE]) == (1, 2)


@pytest.mark.parametrize(("name", "concurrency"), [("told", 1), ("told_async", 3), ("deaf", 1)])
def test_the_second_signal_stops_functions_and_gives_their_units_back(
    coordinated_client: Client, tmp_path: Path, start_worker: Any, name: str, concurrency: int
) -> None:
    log = tmp_path / "log"
    unit = coordinated_client.add(getattr(jobs, name), str(log))
    process = start_worker(f"worker_jobs:{name}", "--server", coordinated_client.server, "-p1", f"-c{concurrency}",
                           "--grace=1")  # fmt: skip
    eventually(begun(log), "the function has begun")
    process.terminate()
    eventually(lambda: [one.mode for one in coordinated_client.workers()] == ["TERMINATE"], "the worker is stopping")
    process.terminate()
    assert process.wait(30) == 0
    state = coordinated_client.state(unit)
    assert (state.status, state.failures, state.traceback) == (Status.AVAILABLE, 0, None)


def test_a_worker_that_waits_for_work_stops_at_once(coordinated_client: Client, start_worker: Any) -> None:
    process = start_worker("worker_jobs:add", "--server", coordinated_client.server, "-p1")
    eventually(lambda: coordinated_client.server_info()["calls"].get("get_work", 0) >= 2, "it waits at the daemon")
    process.terminate()
    assert process.wait(30) == 0


@pytest.mark.parametrize(("name", "concurrency"), [("told", 1), ("told_async", 3), ("deaf", 1), ("deaf", 3)])
def test_children_end_when_the_supervisor_is_killed(
    coordinated_client: Client, tmp_path: Path, start_worker: Any, name: str, concurrency: int
) -> None:
    log = tmp_path / "log"
    unit = coordinated_client.add(getattr(jobs, name), str(log))
    process = start_worker(f"worker_jobs:{name}", "--server", coordinated_client.server, "-p1", f"-c{concurrency}",
                           "--lease=1", "--grace=0.5")  # fmt: skip
    eventually(begun(log), "the function has begun")
    process.kill()
    pid = jobs.lines(log)[0].split()[1]
    eventually(lambda: not Path(f"/proc/{pid}").exists(), "the child is gone")
    # The lease ends, and the unit is there for others.
    eventually(lambda: coordinated_client.state(unit).status is Status.AVAILABLE, "the unit is available")
    if name != "deaf":
        assert "told" in jobs.lines(log)


VERSION = """
from coordinated import spec

@spec
def version(until: str = "") -> int:
    import os, time
    while until and not os.path.exists(until):
        time.sleep(0.005)
    return {number}
"""


def test_sighup_brings_new_code_and_loses_no_unit(
    coordinated_client: Client, tmp_path: Path, start_worker: Any
) -> None:
    module, until = tmp_path / "version_jobs.py", tmp_path / "until"
    module.write_text(VERSION.format(number=1))
    process = start_worker("version_jobs", "--server", coordinated_client.server, "-p1", folder=str(tmp_path))
    (old,) = _add_version(coordinated_client, str(until))
    eventually(lambda: coordinated_client.state(old).status is Status.PENDING, "the old code runs")
    module.write_text(VERSION.format(number=200))
    process.send_signal(signal.SIGHUP)
    # The new child takes work while the old one still runs its unit.
    (new,) = _add_version(coordinated_client)
    assert coordinated_client.result(new, timeout=30) == 200
    until.touch()
    assert coordinated_client.result(old, timeout=30) == 1
    assert len(coordinated_client.attempts(old)) == 1


def test_a_reload_of_broken_code_keeps_the_old(coordinated_client: Client, tmp_path: Path, start_worker: Any) -> None:
    module = tmp_path / "version_jobs.py"
    module.write_text(VERSION.format(number=1))
    process = start_worker("version_jobs", "--server", coordinated_client.server, "-p1", folder=str(tmp_path))
    (unit,) = _add_version(coordinated_client)
    assert coordinated_client.result(unit, timeout=30) == 1
    module.write_text("this is not Python")
    process.send_signal(signal.SIGHUP)
    assert process.stderr is not None
    while "the code from before goes on" not in process.stderr.readline():
        assert process.poll() is None
    (unit,) = _add_version(coordinated_client)
    assert coordinated_client.result(unit, timeout=30) == 1
    # And a later one works.
    module.write_text(VERSION.format(number=3000))
    process.send_signal(signal.SIGHUP)
    eventually(
        lambda: coordinated_client.result(_add_version(coordinated_client)[0], timeout=30) == 3000, "new code runs"
    )


def test_reload_notices_changed_files(coordinated_client: Client, tmp_path: Path, start_worker: Any) -> None:
    pytest.importorskip("watchfiles")
    module = tmp_path / "version_jobs.py"
    module.write_text(VERSION.format(number=1))
    start_worker("version_jobs", "--server", coordinated_client.server, "-p1", "--reload", folder=str(tmp_path))
    (unit,) = _add_version(coordinated_client)
    assert coordinated_client.result(unit, timeout=30) == 1
    module.write_text(VERSION.format(number=200))
    eventually(
        lambda: coordinated_client.result(_add_version(coordinated_client)[0], timeout=30) == 200, "new code runs"
    )


def _add_version(client: Client, until: str = "") -> list[Any]:
    from coordinated import Unit

    client.call("set_work_spec", {"name": "version", "runtime": "python3"})
    key = f"u{client.server_info()['calls'].get('add_work_units', 0)}"
    return [client.add(Unit("version", key, {"until": until} if until else {}))]


def test_the_supervisor_imports_none_of_the_functions(
    coordinated_client: Client, tmp_path: Path, start_worker: Any
) -> None:
    log = tmp_path / "log"
    (tmp_path / "noting_jobs.py").write_text(
        f"import os\nopen({str(log)!r}, 'a').write(f'{{os.getpid()}}\\n')\n" + VERSION.format(number=1)
    )
    process = start_worker("noting_jobs", "--server", coordinated_client.server, "-p2", folder=str(tmp_path))
    eventually(begun(log, 2), "both children have imported the module")
    assert str(process.pid) not in jobs.lines(log)
    assert sys.executable
