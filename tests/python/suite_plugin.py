"""The pytest plugin of the suite: fixtures, the counting of calls, the results.

It is a plugin and no conftest, since the tests that the package ships must see
these fixtures too, and they lie somewhere else.
"""
from __future__ import absolute_import, print_function
import collections
import json
import os

import pytest

from coordinate.job_client import TaskMaster
from daemon_process import Daemon, OriginalServer

BINARY = os.environ['SUITE_BINARY']

# The fixtures of the shipped tests: a server object inside the test's own
# process, or a Python server started beside it.
SHIPPED_FIXTURES = ['job_queue', 'local_server_port', 'task_master']

calls = collections.defaultdict(collections.Counter)
outcomes = collections.OrderedDict()
#: from pytest's id of a test, which has the path of the virtualenv, to ours
names = {}


def pytest_configure(config):
    config.addinivalue_line('markers', 'slow: as the shipped tests mark some')
    config.addinivalue_line(
        'markers', 'not_in_the_original(reason): what the Python server cannot do')


def pytest_collectstart(collector):
    """Takes the shipped fixtures away, so that ours of the same name are used."""
    if isinstance(collector, pytest.Module):
        module = collector.obj
        if module.__name__.startswith('coordinate.tests.'):
            for name in SHIPPED_FIXTURES:
                if hasattr(module, name):
                    # The name stays, as one test file imports another's.
                    setattr(module, name, None)


def pytest_itemcollected(item):
    names[item.nodeid] = '{}::{}'.format(item.module.__name__, item.name)


def pytest_runtest_setup(item):
    marker = item.get_closest_marker('not_in_the_original')
    if marker and not BINARY:
        pytest.skip(marker.args[0])


@pytest.hookimpl(tryfirst=True)
def pytest_pyfunc_call(pyfuncitem):
    """Lets a test draw again that needs the likelier work spec of two: their weights are 300 and 1."""
    if pyfuncitem.name != 'test_get_too_many':
        return None
    arguments = {name: pyfuncitem.funcargs[name] for name in ('task_master', 'work_spec')}
    try:
        pyfuncitem.obj(**arguments)
    except AssertionError:
        arguments['task_master'].clear()
        pyfuncitem.obj(**arguments)
    return True


@pytest.fixture
def daemon_config():
    """What the daemon is given as --config: a dictionary, or None."""
    return None


@pytest.fixture
def daemon(request, tmpdir, daemon_config):
    """A daemon of this test's own, on a file of its own."""
    kind = Daemon if BINARY else OriginalServer
    server = kind(str(tmpdir.mkdir('daemon')), BINARY, daemon_config)
    server.start()
    yield server
    try:
        server.stop()
    finally:
        server.kill()
    calls[request.module.__name__].update(server.calls)
    if BINARY:
        assert server.calls, 'this test has not called the daemon'


@pytest.fixture
def task_master(daemon):
    """The real client, connected to the daemon."""
    client = TaskMaster({'addresses': [daemon.address], 'namespace': 'test_ns'})
    yield client
    client.close()


def pytest_runtest_logreport(report):
    name = names[report.nodeid]
    if report.failed:
        outcomes[name] = 'failed'
    elif report.skipped:
        outcomes[name] = getattr(report, 'wasxfail', None) or report.longrepr[2]
    elif report.when == 'call':
        outcomes[name] = 'passed'


def pytest_collectreport(report):
    if report.failed:
        outcomes[report.nodeid] = 'failed'


def pytest_sessionfinish(session):
    results = {
        'passed': [test for test, what in outcomes.items() if what == 'passed'],
        'failed': [test for test, what in outcomes.items() if what == 'failed'],
        'skipped': {test: what for test, what in outcomes.items()
                    if what not in ('passed', 'failed')},
        'calls': calls,
    }
    with open(os.environ['SUITE_RESULTS'], 'w') as f:
        json.dump(results, f)
