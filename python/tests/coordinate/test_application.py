"""An application written for Python 2 runs with Python 3 after lib2to3 alone, also beside Python 2 on one daemon."""

from __future__ import annotations

import contextlib
import hashlib
import os
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from convert import PACKAGE, convert, python2, python2_environment

from coordinate.job_client import TaskMaster

APPLICATION = Path(__file__).parent / "application"
STEPS = ("words.split", "words.count", "words.frequent")

_SECONDS_MAX = 120


class Fleet:
    """The application in one Python: its program, and its workers."""

    def __init__(self, python: Path, modules: Path, environment: dict[str, str], config: Path) -> None:
        self.python = python
        self.modules = modules
        self.environment = environment
        self.config = config

    def program(self, *arguments: object) -> str:
        """Runs words/program.py, and gives what it prints."""
        command = [self.python, self.modules / "words" / "program.py", self.config, *arguments]
        ended = subprocess.run(
            list(map(str, command)),
            env=self.environment,
            capture_output=True,
            text=True,
            timeout=_SECONDS_MAX,
            check=False,
        )
        assert ended.returncode == 0, ended.stdout + ended.stderr
        return ended.stdout

    @contextlib.contextmanager
    def workers(self) -> Iterator[None]:
        """Runs coordinate_worker with two children."""
        command = [self.python, "-m", "coordinate.run_multi_worker", "-c", self.config, "--foreground"]
        log = self.config.with_suffix(".log")
        with open(log, "w") as output:
            worker = subprocess.Popen(list(map(str, command)), env=self.environment, stdout=output, stderr=output)
        try:
            yield
            worker.terminate()
            assert worker.wait(_SECONDS_MAX) == 0, log.read_text()
        finally:
            worker.kill()
            worker.wait()


def write_config(path: Path, address: str, **more: Any) -> Path:
    workers = {"num_workers": 2, "poll_interval": 0.1, "spawn_interval": 0.01}
    path.write_text(yaml.safe_dump({"coordinate": {"address": address, "fork_worker": workers, **more}}))
    return path


@pytest.fixture(scope="module")
def converted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    modules = tmp_path_factory.mktemp("converted") / "modules"
    convert(APPLICATION, modules)
    return modules


def python3_fleet(converted: Path, config: Path) -> Fleet:
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(map(str, (converted, PACKAGE.parent)))}
    return Fleet(Path(sys.executable), converted, environment, config)


def python2_fleet(config: Path) -> Fleet:
    return Fleet(python2() / "bin" / "python", APPLICATION, python2_environment(PYTHONPATH=str(APPLICATION)), config)


def write_documents(folder: Path, numbers: range) -> list[Path]:
    """Documents of three lines, the last of which is not ASCII. Number 3 is empty."""
    paths = []
    for number in numbers:
        path = folder / f"document-{number:03}.txt"
        text = f"To be or not to be {number}\n\n{number} {number} times\n\xfcber \xdcber all\n"
        path.write_bytes(b"" if number == 3 else text.encode("latin-1"))
        paths.append(path)
    return paths


def expected_of(path: Path) -> dict[bytes, tuple[uuid.UUID, list[tuple[str, int]]]]:
    """By key what `frequent` finds in each line of a document: words that are in it twice or more."""
    number = str(int(path.stem[-3:]))
    key = hashlib.md5(path.name.encode()).digest()
    document = uuid.uuid5(uuid.NAMESPACE_URL, path.name)
    lines = [[("be", 2), ("to", 2)], [(number, 2)], [("\xfcber", 2)]]
    return {key + b"/%04d" % place: (document, found) for place, found in enumerate(lines)}


def wait_until_done(task_master: TaskMaster) -> None:
    deadline = time.monotonic() + _SECONDS_MAX
    while True:
        counts = [task_master.status(step) for step in STEPS]
        if all(count["num_available"] == count["num_pending"] == 0 for count in counts):
            return
        assert time.monotonic() < deadline, counts
        time.sleep(0.05)


def results(task_master: TaskMaster) -> dict[Any, tuple[Any, Any]]:
    found = task_master.get_work_units("words.frequent", state=task_master.FINISHED)
    return {key: (data["document"], data["frequent"]) for key, data in found}


def test_it_runs_with_python_3_after_lib2to3(
    converted: Path, address: str, task_master: TaskMaster, tmp_path: Path
) -> None:
    fleet = python3_fleet(converted, write_config(tmp_path / "python3.yaml", address))
    documents = write_documents(tmp_path, range(1, 6))
    fleet.program("flow", APPLICATION / "flow.yaml")
    fleet.program("load", *documents)
    with fleet.workers():
        wait_until_done(task_master)

    expected: dict[bytes, Any] = {}
    for path in documents:
        if path.stat().st_size:
            expected.update(expected_of(path))
    assert results(task_master) == expected
    assert fleet.program("report").splitlines() == [
        "words.count: 12 finished, 0 failed",
        "words.frequent: 12 finished, 0 failed",
        "words.split: 4 finished, 1 failed",
        "document-003.txt ValueError: nothing in document-003.txt",
    ]


def test_pythons_2_and_3_share_the_work_of_one_daemon(converted: Path, address: str, tmp_path: Path) -> None:
    python2_workers = python2_fleet(write_config(tmp_path / "python2.yaml", address))
    python3_workers = python3_fleet(converted, write_config(tmp_path / "python3.yaml", address, python2_strings=True))
    task_master = TaskMaster({"address": address, "python2_strings": True})
    python2_workers.program("flow", APPLICATION / "flow.yaml")

    expected: dict[bytes, Any] = {}
    with python2_workers.workers(), python3_workers.workers():
        # Until each Python has had work of the other at each step: who gets a unit is chance.
        for batch in range(20):
            documents = write_documents(tmp_path, range(100 + 20 * batch, 120 + 20 * batch))
            python2_workers.program("load", *documents[:10])
            python3_workers.program("load", *documents[10:])
            wait_until_done(task_master)
            for path in documents:
                expected.update(expected_of(path))
            handed_over = {
                pair
                for _, data in task_master.get_work_units("words.frequent", limit=10_000)
                for pair in enumerate(zip(data["done_by"], data["done_by"][1:], strict=False))
            }
            if {(step, pair) for step in (0, 1) for pair in ((2, 3), (3, 2))} <= handed_over:
                break
        else:
            pytest.fail(f"one Python did all of some step: {handed_over}")

    assert results(task_master) == expected
    assert python2_workers.program("report") == python3_workers.program("report")
    assert all(task_master.status(step)["num_failed"] == 0 for step in STEPS)
    task_master.close()
