"""What a client with an open connection sees of a daemon that is started anew."""
from __future__ import absolute_import, print_function
import logging
import threading

import pytest

from coordinate.job_client import TaskMaster

pytestmark = pytest.mark.not_in_the_original(
    'it forgets everything, and closes connections so that its client does not try again')

SPEC = {'name': 'spec', 'min_gb': 1, 'module': 'suite_work', 'run_function': 'double'}


def restart(daemon):
    daemon.stop()
    daemon.start()


class Retries(logging.Handler):
    """Sets an event when the client says that it will try again."""

    def __init__(self):
        logging.Handler.__init__(self, logging.DEBUG)
        self.seen = threading.Event()

    def emit(self, record):
        if 'retrying' in record.msg:
            self.seen.set()

    def __enter__(self):
        self.logger = logging.getLogger('coordinate.base_client')
        self.level = self.logger.level
        self.logger.setLevel(logging.DEBUG)
        self.logger.addHandler(self)
        return self

    def __exit__(self, *exc):
        self.logger.removeHandler(self)
        self.logger.setLevel(self.level)


class Call(threading.Thread):
    """A call that waits in a thread; result() gives what came, or raises it."""

    def __init__(self, function, *args):
        threading.Thread.__init__(self)
        self.daemon = True
        self.function = function
        self.args = args
        self.error = None
        self.start()

    def run(self):
        try:
            self.value = self.function(*self.args)
        except BaseException as error:
            self.error = error

    def result(self):
        self.join(60)
        assert not self.is_alive(), 'the call does not end'
        if self.error is not None:
            raise self.error
        return self.value


def test_everything_is_there_after_a_restart(daemon, task_master):
    task_master.set_work_spec(SPEC)
    task_master.set_work_spec(dict(SPEC, name='paused'))
    task_master.pause_work_spec('paused')
    task_master.add_work_units('paused', [('p', {})])
    task_master.add_work_units('spec', [
        (key, {'key': key}) for key in ('finished', 'failed', 'pending')])
    for key in ('failed', 'finished', 'pending'):
        unit = task_master.get_work('worker', lease_time=600)
        assert unit.key == key
        if key == 'failed':
            unit.data['traceback'] = 'broken'
            unit.fail()
        elif key == 'finished':
            unit.data['answer'] = 42
            unit.finish()
    task_master.add_work_units('spec', [('low', {}), ('high', {}, {'priority': 5})])
    task_master.worker_register('parent')
    task_master.worker_register('worker', mode='RUN', parent='parent', environment={'pid': 1})

    def state():
        statuses = task_master.get_work_unit_status(
            'spec', ['finished', 'failed', 'pending', 'low', 'high', 'unknown'])
        units = task_master.get_work_units('spec')
        children = task_master.get_child_work_units('parent')
        return (task_master.list_work_specs(), task_master.count_work_units('spec'), statuses,
                units, task_master.workers(), task_master.mode_counts(),
                {child: [(unit.key, unit.data, unit.worker_id, unit.expires) for unit in units]
                 for child, units in children.items()})

    before = state()
    assert before[1] == {task_master.AVAILABLE: 2, task_master.PENDING: 1,
                         task_master.FINISHED: 1, task_master.FAILED: 1}
    restart(daemon)
    assert state() == before

    # The lease goes on, and its owner reports on it.
    assert unit.update(300) is True
    unit.data['late'] = True
    assert unit.finish() is True
    assert task_master.get_work_units('spec', ['pending']) == [
        ('pending', {'key': 'pending', 'late': True})]
    # The order goes on, and what was paused is paused.
    assert [task_master.get_work('worker').key for _ in range(2)] == ['high', 'low']
    assert task_master.get_work('worker') is None
    task_master.pause_work_spec('paused', False)
    assert task_master.get_work('worker').key == 'p'


def test_an_idle_connection_is_carried_over_a_restart(daemon, task_master):
    task_master.set_work_spec(SPEC)
    task_master.add_work_units('spec', [('a', {})])
    with Retries() as retries:
        restart(daemon)
        # An end-of-file would make the client wait ten seconds and raise EOFError.
        assert task_master.count_work_units('spec') == {task_master.AVAILABLE: 1}
        assert retries.seen.is_set()


def test_a_call_made_while_the_daemon_is_down_waits_for_it(daemon, task_master):
    task_master.set_work_spec(SPEC)
    task_master.add_work_units('spec', [('a', {})])
    unit = task_master.get_work('worker')
    daemon.stop()
    with Retries() as retries:
        call = Call(unit.finish)
        assert retries.seen.wait(30)
        daemon.start()
        assert call.result() is True
    assert task_master.count_work_units('spec') == {task_master.FINISHED: 1}


def test_clients_at_work_lose_nothing_in_three_restarts(daemon, task_master):
    task_master.set_work_spec(SPEC)
    stopping = threading.Event()
    progress = [threading.Event() for _ in range(4)]

    def work(number):
        """Adds a unit, takes one, finishes it, till told to stop; gives the keys added."""
        client = TaskMaster({'address': daemon.address})
        added = []
        try:
            while not stopping.is_set():
                key = 'client-{}-unit-{:05d}'.format(number, len(added))
                assert client.add_work_units('spec', [(key, {})]) is True
                added.append(key)
                unit = client.get_work('worker-{}'.format(number), lease_time=3600)
                if unit is not None:
                    assert unit.finish() is True
                progress[number].set()
        finally:
            # Also after an error, which nobody should wait for; result() raises it.
            progress[number].set()
            client.close()
        return added

    calls = [Call(work, number) for number in range(len(progress))]
    for _ in range(3):
        for event in progress:
            event.clear()
        for event in progress:
            event.wait(60)
            assert event.is_set(), 'a client stands still'
        restart(daemon)
    stopping.set()
    added = sum((call.result() for call in calls), [])

    assert added
    counts = task_master.count_work_units('spec')
    assert sum(counts.values()) == len(added)
    stored = task_master.get_work_units('spec', work_unit_keys=added)
    assert [key for key, data in stored if data is not None] == added
    # A get_work whose answer the stop has cut off was sent again, and took another
    # unit: at most one for each client and restart waits for its lease to end.
    assert counts.get(task_master.FAILED, 0) == 0
    assert counts.get(task_master.PENDING, 0) <= 3 * len(calls)
