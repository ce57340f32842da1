"""The workers, and the command `coordinate_worker`."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from coordinate.exceptions import ProgrammerError
from coordinate.job_client import TaskMaster
from coordinate.workers import ForkWorker, SingleWorker, run_worker
from coordinated.testing import Daemon

SPEC = {"name": "spec", "min_gb": 1, "module": "run_functions", "run_function": "append_key"}
JOBS = """
import os
import sys
import time
from coordinate.exceptions import LostLease

def append_key(work_unit):
    'Says that it has begun, and waits until the file `go` exists.'
    folder = work_unit.data['folder']
    with open(os.path.join(folder, 'begun'), 'a') as f:
        f.write(work_unit.key + '\\n')
    while not os.path.exists(os.path.join(folder, 'go')):
        time.sleep(0.01)

def fail(work_unit):
    raise ValueError('this one never works')

def lose(work_unit):
    raise LostLease()

def leave(work_unit):
    sys.exit(7)
"""

_SECONDS_MAX = 60


def wait_for(condition: Callable[[], Any], what: str = "") -> None:
    deadline = time.monotonic() + _SECONDS_MAX
    while not condition():
        assert time.monotonic() < deadline, what or "it did not happen in time"
        time.sleep(0.02)


@pytest.fixture
def jobs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder with the module of the run functions, which can be imported from here, too."""
    (tmp_path / "run_functions.py").write_text(JOBS)
    monkeypatch.syspath_prepend(str(tmp_path))
    yield tmp_path
    sys.modules.pop("run_functions", None)


def write_config(folder: Path, address: str, **fork_worker: Any) -> Path:
    block = {"num_workers": 1, "poll_interval": 0.05, "spawn_interval": 0.01, **fork_worker}
    config = folder / "worker.yaml"
    config.write_text(yaml.safe_dump({"coordinate": {"address": address, "retries": 0, "fork_worker": block}}))
    return config


def worker_command(config: Path, *arguments: object) -> list[str]:
    return [sys.executable, "-m", "coordinate.run_multi_worker", "-c", str(config), *map(str, arguments)]


def environment_of(folder: Path) -> dict[str, str]:
    path = os.pathsep.join(filter(None, (str(folder), os.environ.get("PYTHONPATH"))))
    return {**os.environ, "PYTHONPATH": path}


@contextlib.contextmanager
def running_worker(config: Path, *arguments: object) -> Iterator[subprocess.Popen[bytes]]:
    command = worker_command(config, "--foreground", *arguments)
    with open(config.parent / "worker.out", "wb") as output:
        worker = subprocess.Popen(command, env=environment_of(config.parent), stdout=output, stderr=output)
    try:
        yield worker
    finally:
        worker.kill()
        worker.wait()


def add(task_master: TaskMaster, folder: Path, *keys: str, **spec: Any) -> None:
    task_master.set_work_spec({**SPEC, **spec})
    task_master.add_work_units("spec", [(key, {"folder": str(folder)}) for key in keys])


def single(address: str, **config: Any) -> SingleWorker:
    worker = SingleWorker({"address": address, **config})
    worker.register()
    return worker


def test_a_worker_is_registered_with_its_environment(task_master: TaskMaster, address: str) -> None:
    worker = SingleWorker({"address": address})
    worker_id = worker.register(parent="parent")
    with pytest.raises(ProgrammerError):
        worker.register()
    assert task_master.workers() == {worker_id: "RUN"}
    environment = task_master.get_heartbeat(worker_id)
    assert environment["worker_id"] == worker_id
    assert environment["parent"] == "parent"
    assert environment["pid"] == os.getpid()
    assert environment["hostname"]
    assert environment["fqdn"]
    assert isinstance(environment["ipaddrs"], tuple)
    assert "cbor2" in dict(environment["working_set"])
    total, available, percent = environment["memory"]
    assert 0 < available <= total
    assert 0 <= percent < 100
    worker.unregister()
    assert task_master.workers() == {}


def test_a_worker_that_is_not_registered_gets_no_work(address: str) -> None:
    with pytest.raises(ProgrammerError):
        SingleWorker({"address": address}).run()


def test_run_worker_unregisters_a_worker_that_raises(task_master: TaskMaster, address: str) -> None:
    class Broken(SingleWorker):
        def run(self, set_title: bool = False) -> bool:
            assert task_master.workers()
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        run_worker(Broken, {"address": address})
    assert task_master.workers() == {}


def test_a_function_that_raises_fails_its_unit_alone(task_master: TaskMaster, address: str, jobs: Path) -> None:
    add(task_master, jobs, "a", "b", run_function="fail")
    worker = single(address, worker_job_fetch=5)
    assert worker.run() is True
    for status in task_master.get_work_unit_status("spec", ["a", "b"]):
        assert status["status"] == task_master.FAILED
        assert status["traceback"].endswith("ValueError: this one never works\n")
        assert "run_functions.py" in status["traceback"]
    assert worker.run() is False


def test_a_work_spec_without_a_module_fails_its_units(task_master: TaskMaster, address: str) -> None:
    task_master.set_work_spec({"name": "spec", "min_gb": 1})
    task_master.add_work_units("spec", {"a": {}})
    single(address).run()
    traceback = task_master.get_work_unit_status("spec", "a")["traceback"]
    assert "work spec 'spec' has no 'module'" in traceback


def test_nothing_is_reported_about_a_lost_lease(task_master: TaskMaster, address: str, jobs: Path) -> None:
    add(task_master, jobs, "a", run_function="lose")
    assert single(address).run() is True
    assert task_master.get_work_unit_status("spec", "a")["status"] == task_master.PENDING


def test_units_that_were_not_begun_are_given_back_if_the_worker_ends(
    task_master: TaskMaster, address: str, jobs: Path
) -> None:
    add(task_master, jobs, "a", "b", "c", run_function="leave")
    with pytest.raises(SystemExit):
        single(address, worker_job_fetch=3).run()
    statuses = [status["status"] for status in task_master.get_work_unit_status("spec", ["a", "b", "c"])]
    assert statuses == [task_master.PENDING, task_master.AVAILABLE, task_master.AVAILABLE]


def test_sigterm_lets_running_units_end_and_starts_no_more(task_master: TaskMaster, address: str, jobs: Path) -> None:
    config = write_config(jobs, address, child_lifetime=0)
    add(task_master, jobs, "a", "b")
    with running_worker(config) as worker:
        wait_for((jobs / "begun").exists)
        worker.send_signal(signal.SIGTERM)
        (jobs / "go").touch()
        assert worker.wait(_SECONDS_MAX) == 0
    assert (jobs / "begun").read_text() == "a\n"
    statuses = [status["status"] for status in task_master.get_work_unit_status("spec", ["a", "b"])]
    assert statuses == [task_master.FINISHED, task_master.AVAILABLE]
    assert task_master.workers() == {}


@pytest.mark.parametrize("signals", [[signal.SIGTERM, signal.SIGTERM], [signal.SIGABRT]])
def test_a_second_sigterm_or_sigabrt_kills_the_children(
    task_master: TaskMaster, address: str, jobs: Path, signals: list[signal.Signals]
) -> None:
    config = write_config(jobs, address)
    add(task_master, jobs, "a")
    with running_worker(config) as worker:
        wait_for((jobs / "begun").exists)
        pids = [task_master.get_heartbeat(worker_id)["pid"] for worker_id in task_master.workers()]
        (child,) = (pid for pid in pids if pid != worker.pid)
        for number in signals[:-1]:
            worker.send_signal(number)
            # Two of the same kind at once would be one.
            wait_for(lambda: "stopping once the running units have ended" in (jobs / "worker.out").read_text())
        worker.send_signal(signals[-1])
        assert worker.wait(_SECONDS_MAX) == 2
        assert not ForkWorker.pid_is_alive(child)
    assert task_master.get_work_unit_status("spec", "a")["status"] == task_master.PENDING


def test_the_worker_goes_on_when_the_daemon_is_back(jobs: Path) -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{probe.getsockname()[1]}"
    config = write_config(jobs, address, heartbeat_interval=0.05)
    (jobs / "go").touch()
    task_master = TaskMaster({"address": address})
    with (
        Daemon(jobs / "coordinate.db", "--listen", address, "--http", "off") as daemon,
        running_worker(config) as worker,
    ):
        wait_for(task_master.workers)
        daemon.kill()
        wait_for(lambda: "heartbeat or the check of the children failed" in (jobs / "worker.out").read_text())
        daemon.start()
        add(task_master, jobs, "a")
        wait_for(lambda: task_master.status("spec")["num_finished"] == 1)
        worker.send_signal(signal.SIGTERM)
        assert worker.wait(_SECONDS_MAX) == 0
    task_master.close()


def test_a_killed_child_is_replaced(task_master: TaskMaster, address: str, jobs: Path) -> None:
    config = write_config(jobs, address)
    add(task_master, jobs, "a")
    with running_worker(config) as worker:
        wait_for((jobs / "begun").exists)
        pids = [task_master.get_heartbeat(worker_id)["pid"] for worker_id in task_master.workers()]
        (child,) = (pid for pid in pids if pid != worker.pid)
        os.kill(child, signal.SIGKILL)
        task_master.retry("spec", "a")
        (jobs / "go").touch()
        wait_for(lambda: task_master.status("spec")["num_finished"] == 1)
        assert worker.poll() is None
    assert "was ended by signal 9" in (jobs / "worker.out").read_text()


def test_a_worker_becomes_a_daemon_with_a_pid_file_and_a_log(task_master: TaskMaster, address: str, jobs: Path) -> None:
    config = write_config(jobs, address)
    pidfile, log = jobs / "pid", jobs / "log"
    command = worker_command(config, "--pidfile", pidfile, "--logpath", log)
    started = subprocess.run(command, env=environment_of(jobs), check=True, timeout=_SECONDS_MAX)
    assert started.returncode == 0
    pid = int(pidfile.read_text())
    try:
        wait_for(task_master.workers)
        (environment,) = (task_master.get_heartbeat(worker_id) for worker_id in task_master.workers())
        assert environment["pid"] == pid != os.getpid()
        assert os.getsid(pid) != os.getsid(0)
        assert os.readlink(f"/proc/{pid}/cwd") == "/"

        # Its pid file cannot be taken by a second one.
        second = subprocess.run(command, env=environment_of(jobs), capture_output=True, text=True, check=False)
        assert second.returncode == 2
        assert f"the worker of --pidfile {pidfile} still runs" in second.stderr
        assert int(pidfile.read_text()) == pid

        (jobs / "go").touch()
        add(task_master, jobs, "a")
        wait_for(lambda: task_master.status("spec")["num_finished"] == 1)
        wait_for(lambda: "finished work unit 'a'" in log.read_text())
    finally:
        os.kill(pid, signal.SIGTERM)
        wait_for(lambda: not ForkWorker.pid_is_alive(pid))
    assert task_master.workers() == {}


@pytest.mark.parametrize("path", ["relative", "/no/such/folder/file"])
def test_paths_are_absolute_and_in_a_folder_that_exists(path: str, jobs: Path) -> None:
    ended = subprocess.run(
        worker_command(write_config(jobs, "127.0.0.1:1"), "--pidfile", path),
        capture_output=True,
        text=True,
        check=False,
    )
    assert ended.returncode == 2
    assert path in ended.stderr
