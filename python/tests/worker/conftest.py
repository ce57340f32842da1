"""What the tests of the worker share: the module of functions, and workers in processes of their own."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

HERE = str(Path(__file__).parent)
if HERE not in sys.path:
    # Children get the path, and import the functions as `worker_jobs`.
    sys.path.insert(0, HERE)

PATIENCE_S = 30.0

Start = Callable[..., "subprocess.Popen[str]"]


def eventually(condition: Callable[[], object], what: str) -> None:
    """Waits until something is true."""
    deadline = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < deadline, f"waited too long until {what}"
        time.sleep(0.005)


@pytest.fixture
def start_worker() -> Iterator[Start]:
    """Starts `coordinated-worker` in a process of its own; it is killed at the end."""
    started: list[subprocess.Popen[str]] = []

    def start(*arguments: str, folder: str = HERE, verbose: bool = True) -> subprocess.Popen[str]:
        command = [sys.executable, "-m", "coordinated.worker", *arguments]
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
        # A pipe that nobody reads would fill up.
        errors = subprocess.PIPE if verbose else subprocess.DEVNULL
        process = subprocess.Popen(command, cwd=folder, env=environment, stderr=errors, text=True)
        started.append(process)
        return process

    yield start
    for process in started:
        process.kill()
        process.communicate()
