"""What the real client can do and its shipped tests leave out."""
from __future__ import absolute_import, print_function
import time

import pytest

from coordinate.job_client import TaskMaster

SPEC = {'name': 'spec', 'min_gb': 1, 'module': 'suite_work', 'run_function': 'double'}


@pytest.fixture
def another_client(daemon):
    client = TaskMaster({'address': daemon.address})
    yield client
    client.close()


def wait_until_available(task_master, key):
    """Waits until a lease has ended, which only the daemon's clock can tell."""
    deadline = time.time() + 30
    while task_master.get_work_unit_status('spec', key)['status'] != task_master.AVAILABLE:
        assert time.time() < deadline, 'the lease does not end'
        time.sleep(0.05)


@pytest.mark.not_in_the_original('it begins anew at each page, and the client never ends')
def test_work_specs_are_iterated_in_pages(task_master):
    names = ['a', 'b', 'c', 'd', 'e']
    for name in names:
        task_master.set_work_spec(dict(SPEC, name=name))
    listed, following = task_master.list_work_specs(limit=2)
    assert ([name for name, spec in listed], following) == (['a', 'b'], 'c')
    listed, following = task_master.list_work_specs(limit=3, start=following)
    assert ([name for name, spec in listed], following) == (['c', 'd', 'e'], None)
    # After its limit the client asks for a page of none and then fewer: only a
    # missing next page stops it.
    for limit in range(1, 7):
        iterated = [spec['name'] for spec in task_master.iter_work_specs(limit=limit)]
        assert iterated == names[:limit]


def test_a_worker_releases_a_unit_by_a_negative_lease(task_master, another_client):
    task_master.set_work_spec(SPEC)
    task_master.add_work_units('spec', [('a', {})])
    unit = task_master.get_work('worker')
    assert another_client.get_work('another worker') is None
    assert unit.update(-1) is True
    assert another_client.get_work('another worker').key == 'a'


def test_a_unit_is_handed_out_again_when_its_lease_ends(task_master, another_client):
    task_master.set_work_spec(SPEC)
    task_master.add_work_units('spec', [('a', {})])
    assert task_master.get_work('worker', lease_time=1).key == 'a'
    wait_until_available(another_client, 'a')
    assert another_client.get_work('another worker').key == 'a'


@pytest.mark.not_in_the_original('it lets the late report end the other worker\'s attempt')
def test_a_late_report_does_not_end_the_attempt_of_another_worker(task_master, another_client):
    task_master.set_work_spec(SPEC)
    task_master.add_work_units('spec', [('a', {})])
    late = task_master.get_work('late', lease_time=1)
    wait_until_available(another_client, 'a')
    unit = another_client.get_work('another worker')

    late.data['by'] = 'late'
    assert late.finish() is False
    status = another_client.get_work_unit_status('spec', 'a')
    assert (status['status'], status['worker_id']) == (another_client.PENDING, 'another worker')

    unit.data['by'] = 'another worker'
    assert unit.finish() is True
    assert another_client.get_work_units('spec') == [('a', {'by': 'another worker'})]


def test_a_late_report_counts_if_nobody_else_has_the_unit(task_master):
    task_master.set_work_spec(SPEC)
    task_master.add_work_units('spec', [('a', {})])
    unit = task_master.get_work('worker', lease_time=1)
    wait_until_available(task_master, 'a')
    assert unit.finish() is True
    assert task_master.count_work_units('spec') == {task_master.FINISHED: 1}


def test_a_unit_that_is_finished_twice_makes_its_output_once(task_master):
    task_master.set_work_spec(dict(SPEC, then='next'))
    task_master.set_work_spec(dict(SPEC, name='next'))
    task_master.add_work_units('spec', [('a', {})])
    unit = task_master.get_work('worker', work_spec_names=['spec'])
    unit.data['output'] = ['b']
    assert unit.finish() is True
    task_master.get_work('worker', work_spec_names=['next']).finish()
    assert unit.finish() is True
    assert task_master.count_work_units('next') == {task_master.FINISHED: 1}


def test_twenty_thousand_units_go_in_one_call(task_master):
    keys = ['{:05d}'.format(number) for number in range(20000)]
    task_master.set_work_spec(SPEC)
    assert task_master.add_work_units('spec', [(key, {'text': 'x' * 100}) for key in keys]) is True
    assert task_master.count_work_units('spec') == {task_master.AVAILABLE: len(keys)}
    listed = [key for key, data in task_master.get_work_units('spec', limit=10000, start='10000')]
    assert listed == keys[10000:]


def test_an_error_leaves_the_connection_usable(task_master):
    with pytest.raises(Exception) as raised:
        task_master._rpc('no_such_method', ())
    assert str(raised.value)
    with pytest.raises(Exception):
        task_master._rpc('get_work', ())
    task_master.set_work_spec(SPEC)
    with pytest.raises(Exception):
        task_master.add_work_units('spec', [('a', {}), (17,)])
    assert task_master.count_work_units('spec') == {}
    assert task_master._rpc('archive', ()) is None
    assert task_master.get_work_spec('unknown') is None


@pytest.mark.parametrize('daemon_config', [
    {'coordinate': {'job_queue': {'limit_completed_count': 2, 'limit_completed_age': None}}}])
def test_archive_keeps_the_newest_completed_units_and_all_in_the_counts(task_master):
    task_master.set_work_spec(SPEC)
    for key in ['a', 'b', 'c', 'x', 'y', 'z']:
        task_master.add_work_units('spec', [(key, {})])
        unit = task_master.get_work('worker')
        assert (unit.fail if key in 'xyz' else unit.finish)() is True
    counts = {task_master.FINISHED: 3, task_master.FAILED: 3}
    for archiving in range(2):
        assert task_master._rpc('archive', ({'work_spec_names': ['spec', 'unknown']},)) is None
        assert task_master.count_work_units('spec') == counts
        assert [key for key, data in task_master.get_work_units('spec')] == ['b', 'c', 'y', 'z']
    assert task_master.get_work_unit_status('spec', 'a') is None
    task_master.add_work_units('spec', [('a', {'again': True})])
    assert task_master.count_work_units('spec') == {
        task_master.AVAILABLE: 1, task_master.FINISHED: 3, task_master.FAILED: 3}
    task_master.get_work('worker').finish()
    assert task_master.count_work_units('spec') == {task_master.FINISHED: 4, task_master.FAILED: 3}
    assert task_master.del_work_units('spec', state=task_master.FINISHED) == 4
    assert task_master.count_work_units('spec') == {task_master.FAILED: 3}
    assert task_master.del_work_units('spec', all=True) == 3


@pytest.mark.parametrize('daemon_config', [
    {'coordinate': {'job_queue': {'limit_completed_age': 0.5}}}])
def test_archive_keeps_completed_units_for_so_long(task_master):
    task_master.set_work_spec(SPEC)
    task_master.add_work_units('spec', [('a', {}), ('b', {})])
    task_master.get_work('worker').finish()
    deadline = time.time() + 30
    while task_master.get_work_units('spec') != [('b', {})]:
        assert time.time() < deadline, 'the unit does not go'
        time.sleep(0.05)
        task_master._rpc('archive', ())
    assert task_master.count_work_units('spec') == {
        task_master.AVAILABLE: 1, task_master.FINISHED: 1}
