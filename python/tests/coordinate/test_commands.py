"""The commands `coordinate`, `coordinate.run` and their hand-over to the program in Rust."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from coordinate.coordinatec import native_arguments
from coordinate.job_client import TaskMaster
from coordinated.testing import find_binary

SPEC = {"name": "doubling", "min_gb": 0.01, "module": "jobs", "run_function": "double"}
JOBS = """
def double(work_unit):
    work_unit.data['output'] = [(work_unit.key, {'doubled': 2 * work_unit.data['number']})]

def add_one(work_unit):
    work_unit.data['result'] = work_unit.data['doubled'] + 1

def fail(work_unit):
    raise ValueError('this one never works')
"""

Run = Callable[..., str]


@pytest.fixture
def environment(tmp_path: Path) -> dict[str, str]:
    """With the program in Rust on the PATH, and the jobs beside this package."""
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "coordinated").symlink_to(find_binary())
    (tmp_path / "jobs.py").write_text(JOBS)
    path = os.pathsep.join(filter(None, (str(tmp_path), os.environ.get("PYTHONPATH"))))
    return {**os.environ, "PATH": f"{tmp_path / 'bin'}{os.pathsep}{os.environ['PATH']}", "PYTHONPATH": path}


@pytest.fixture
def command(address: str, tmp_path: Path, environment: dict[str, str]) -> Run:
    """Runs `coordinate` with some arguments, and gives what it printed."""
    config = tmp_path / "client.yaml"
    config.write_text(yaml.safe_dump({"coordinate": {"addresses": [address]}}))
    (tmp_path / "spec.yaml").write_text(yaml.safe_dump(SPEC))
    (tmp_path / "units.json").write_text(
        '{"a": {"number": 1}}\n# a comment\n{"b": {"number": 2}, "c": {"number": 3}}\n'
    )

    def run(*arguments: str, status: int = 0, stdin: str = "") -> str:
        line = [sys.executable, "-m", "coordinate.coordinatec", "-c", str(config), *arguments]
        ended = subprocess.run(
            line, cwd=tmp_path, env=environment, input=stdin, capture_output=True, text=True, timeout=60, check=False
        )
        assert ended.returncode == status, ended.stdout + ended.stderr
        return ended.stdout

    return run


def test_load_and_addwork_reset_units_as_they_always_did(command: Run, task_master: TaskMaster) -> None:
    command("load", "-w", "spec.yaml", "-u", "units.json", "--nice", "5")
    assert task_master.get_work_spec("doubling") == {**SPEC, "nice": 5}
    assert task_master.get_work_units("doubling") == [("a", {"number": 1}), ("b", {"number": 2}), ("c", {"number": 3})]
    task_master.get_work("worker").finish()
    command("addwork", "-W", "doubling", "-u", "units.json")
    assert task_master.count_work_units("doubling") == {task_master.AVAILABLE: 3}


def test_commands_of_the_program_print_what_it_prints(command: Run, task_master: TaskMaster) -> None:
    command("load", "-w", "spec.yaml", "-u", "-", stdin='{"only": {"number": 7}}\n')
    assert command("work_specs") == "doubling\n"
    assert json.loads(command("status", "-W", "doubling", "--json"))["num_available"] == 1
    assert "doubling" in command("summary", "--text")
    task_master.worker_register("worker", mode="RUN")
    assert "worker" in command("workers", "--all")


def test_retry_clear_and_delete_do_not_ask_for_more_than_they_did(command: Run, task_master: TaskMaster) -> None:
    command("load", "-w", "spec.yaml", "-u", "units.json")
    task_master.get_work("worker").fail()
    command("retry", "-W", "doubling", "--all")
    assert task_master.count_work_units("doubling") == {task_master.AVAILABLE: 3}
    task_master.get_work("worker").finish()
    command("clear", "-W", "doubling", "-s", "finished")
    command("clear", "-W", "doubling", "b")
    assert [key for key, _ in task_master.get_work_units("doubling")] == ["c"]
    command("clear", "-W", "doubling")
    assert task_master.get_work_units("doubling") == []
    command("delete", "-y")
    assert task_master.list_work_specs() == ([], None)


def test_a_flow_gets_the_configuration_of_the_command_and_runs(
    command: Run, task_master: TaskMaster, address: str, tmp_path: Path
) -> None:
    add = {"min_gb": 1, "module": "jobs", "run_function": "add_one", "config": {"extra": [1, 2]}}
    flow = {"sums": {"doubling": {**SPEC, "then": "sums.adding"}, "adding": add}}
    (tmp_path / "flow.yaml").write_text(yaml.safe_dump({"flows": flow}))
    assert command("flow", "flow.yaml") == ""
    config = task_master.get_work_spec("sums.adding")["config"]
    assert config["extra"] == [1, 2]
    assert config["coordinate"]["addresses"] == [address]

    task_master.add_work_units("sums.doubling", [("x", {"number": 20})])
    command("run_one", "--from-work-spec", "sums.doubling")
    command("run_one", "--from-work-spec", "sums.adding")
    assert task_master.get_work_units("sums.adding") == [("x", {"doubled": 40, "result": 41})]
    assert task_master.workers() == {}


def test_run_one_runs_one_unit_or_up_to_a_count_and_ends_with_2_without_work(
    command: Run, task_master: TaskMaster
) -> None:
    command("load", "-w", "spec.yaml", "-u", "units.json")
    command("run_one")
    assert task_master.status("doubling")["num_finished"] == 1
    command("run_one", "--limit-count", "2", "--max-jobs", "1")
    assert task_master.status("doubling")["num_finished"] == 3
    command("run_one", status=2)


def test_run_one_of_a_function_that_raises_fails_the_unit(command: Run, task_master: TaskMaster) -> None:
    task_master.set_work_spec({**SPEC, "run_function": "fail"})
    task_master.add_work_units("doubling", [(b"\xff", {})])
    command("run_one")
    status = task_master.get_work_unit_status("doubling", b"\xff")
    assert status["status"] == task_master.FAILED
    assert status["traceback"].splitlines()[-1] == "ValueError: this one never works"


@pytest.mark.parametrize(
    ("config", "line", "native"),
    [
        ({}, "summary", "summary"),
        ({"address": ["h", 1]}, "pause s", "pause --server h:1 s"),
        ({"addresses": ["h:1"]}, "workers --all --details", "workers --server h:1 --details"),
        ({}, "clear -W s", "clear --yes --all -W s"),
        ({}, "clear -w f -s failed", "clear --yes -w f -s failed"),
        ({}, "clear s", "clear --yes s"),
        ({}, "clear --help", "clear --yes --help"),
    ],
)
def test_the_arguments_of_the_program(config: dict[str, object], line: str, native: str) -> None:
    action, *arguments = line.split()
    assert native_arguments(config, action, arguments) == native.split()


def test_a_missing_program_is_a_message(environment: dict[str, str], tmp_path: Path) -> None:
    (tmp_path / "bin" / "coordinated").unlink()
    ended = subprocess.run(
        [sys.executable, "-m", "coordinate.coordinatec", "summary"],
        env={**environment, "PATH": str(tmp_path / "bin")}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert ended.returncode == 1
    assert "there is no program `coordinated` on the PATH" in ended.stderr


def test_the_flags_of_the_python_server_start_the_daemon(environment: dict[str, str], tmp_path: Path) -> None:
    command = [sys.executable, "-m", "coordinate.run", "--host", "127.0.0.1", "--port", "0"]
    command += ["--pid", str(tmp_path / "pid"), "--snapshot-dir", str(tmp_path), "--httpd", "127.0.0.1:0"]
    # The daemon is to be told by its flags alone.
    clean = {name: value for name, value in environment.items() if not name.startswith("COORDINATED_")}
    with subprocess.Popen(command, cwd=tmp_path, env=clean, stderr=subprocess.PIPE, text=True) as daemon:
        try:
            assert daemon.stderr is not None
            log = ""
            while not (tmp_path / "pid").exists():
                line = daemon.stderr.readline()
                assert line, log
                log += line
            assert (tmp_path / "coordinate.db").exists()
        finally:
            daemon.send_signal(signal.SIGTERM)
        assert daemon.wait(30) == 0
