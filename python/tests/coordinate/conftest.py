"""Fixtures of the tests of `coordinate`."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

# pytest imports tests without putting their folder on the path.
sys.path.insert(0, str(Path(__file__).parent))

from daemon import running_daemon

from coordinate.job_client import TaskMaster


@pytest.fixture
def address() -> Iterator[str]:
    """The address of a daemon of the test's own."""
    with running_daemon() as found:
        yield found


@pytest.fixture
def task_master(address: str) -> Iterator[TaskMaster]:
    """A client of that daemon."""
    client = TaskMaster({"address": address})
    yield client
    client.close()
