"""The real `coordinate` command: what it prints, and what it does."""
from __future__ import absolute_import, print_function
import ast
import json
import re
import subprocess
import time

import pytest
import yaml

SPEC = {'name': 'doubling', 'min_gb': 0.01, 'module': 'suite_work', 'run_function': 'double'}
UNITS = '{"a": {"number": 1}}\n# a comment\n\n{"b": {"number": 2}, "c": {"number": 3}}\n'
FLOW = {'flows': {'sums': {
    'doubling': {'min_gb': 0.01, 'module': 'suite_work', 'run_function': 'double',
                 'then': 'sums.adding'},
    'adding': {'min_gb': 0.01, 'module': 'suite_work', 'run_function': 'add_one',
               'config': {'extra': [1, 2]}}}}}


@pytest.fixture
def coordinate(daemon, tmpdir):
    """Runs the command with some arguments, and gives what it printed."""
    config = tmpdir.join('client.yaml')
    config.write(yaml.safe_dump({'coordinate': {'addresses': [daemon.address]}}))
    tmpdir.join('spec.yaml').write(yaml.safe_dump(SPEC))
    tmpdir.join('units.json').write(UNITS)

    def run(*arguments, **expected):
        process = subprocess.Popen(
            ['coordinate', '--config', str(config)] + list(arguments), cwd=str(tmpdir),
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        printed, errors = process.communicate(expected.get('stdin', ''))
        assert process.returncode == expected.get('status', 0), errors
        if expected.get('quiet', True):
            assert 'Traceback' not in errors, errors
        return printed

    return run


@pytest.fixture
def loaded(coordinate):
    """The command, after a load of three units."""
    coordinate('load', '-w', 'spec.yaml', '-u', 'units.json')
    return coordinate


def statuses(task_master, keys='abc'):
    names = {task_master.AVAILABLE: 'available', task_master.PENDING: 'pending',
             task_master.FINISHED: 'finished', task_master.FAILED: 'failed'}
    found = task_master.get_work_unit_status('doubling', list(keys))
    return [names[status['status']] if status else None for status in found]


def fail_units(task_master, number):
    for _ in range(number):
        unit = task_master.get_work('worker', work_spec_names=['doubling'])
        unit.data['traceback'] = 'it broke'
        unit.fail()


def test_load_sets_the_spec_and_adds_the_units(coordinate, task_master):
    printed = coordinate('load', '-w', 'spec.yaml', '-u', 'units.json', '--nice', '5')
    assert printed.splitlines()[1:] == [
        'pushing work units', "finished writing 3 work units to work_spec='doubling'"]
    assert task_master.get_work_spec('doubling') == dict(SPEC, nice=5)
    assert task_master.get_work_units('doubling') == [
        ('a', {'number': 1}), ('b', {'number': 2}), ('c', {'number': 3})]


def test_load_without_work_sets_the_spec_and_keeps_its_units(loaded, task_master):
    printed = loaded('load', '-w', 'spec.yaml', '--no-work')
    assert printed.splitlines()[-1] == 'no work units. done.'
    assert statuses(task_master) == ['available'] * 3


def test_load_reads_units_from_standard_input(coordinate, task_master):
    coordinate('load', '-w', 'spec.yaml', '-u', '-', stdin='{"only": {"number": 7}}\n')
    assert task_master.get_work_units('doubling') == [('only', {'number': 7})]


def test_addwork_adds_to_a_spec_and_makes_finished_units_available(loaded, task_master):
    task_master.get_work('worker').finish()
    assert statuses(task_master) == ['finished', 'available', 'available']
    assert loaded('addwork', '-W', 'doubling', '-u', 'units.json') == ''
    assert statuses(task_master) == ['available'] * 3


def test_flow_sets_all_specs_of_a_flow_with_the_configuration(coordinate, daemon, task_master, tmpdir):
    tmpdir.join('flow.yaml').write(yaml.safe_dump(FLOW))
    assert coordinate('flow', 'flow.yaml') == ''
    assert coordinate('work_specs') == 'sums.adding\nsums.doubling\n'
    spec = task_master.get_work_spec('sums.adding')
    assert spec['config']['extra'] == [1, 2]
    assert spec['config']['coordinate']['addresses'] == [daemon.address]

    # The flow runs: what the first makes, the second gets.
    task_master.add_work_units('sums.doubling', [('x', {'number': 20})])
    coordinate('run_one', '--from-work-spec', 'sums.doubling')
    coordinate('run_one', '--from-work-spec', 'sums.adding')
    assert task_master.get_work_units('sums.adding') == [('x', {'doubled': 40, 'result': 41})]


def test_work_specs_lists_the_names_in_order(coordinate, task_master):
    assert coordinate('work_specs') == ''
    for name in ('b', 'a', 'c'):
        task_master.set_work_spec(dict(SPEC, name=name))
    assert coordinate('work_specs') == 'a\nb\nc\n'


def test_work_spec_shows_a_spec_as_yaml_and_as_json(loaded):
    expected = dict(SPEC, nice=0)
    assert yaml.safe_load(loaded('work_spec', '-W', 'doubling')) == expected
    assert yaml.safe_load(loaded('work_spec', '-w', 'spec.yaml', '--yaml')) == expected
    assert json.loads(loaded('work_spec', '-W', 'doubling', '--json')) == expected
    assert yaml.safe_load(loaded('work_spec', '-W', 'unknown')) is None


def test_status_counts_the_units_of_a_spec(loaded, task_master):
    task_master.get_work('worker').finish()
    fail_units(task_master, 1)
    task_master.get_work('worker')
    task_master.add_work_units('doubling', [('d', {}), ('e', {})])
    assert json.loads(loaded('status', '-W', 'doubling')) == {
        'num_available': 2, 'num_pending': 1, 'num_blocked': 0,
        'num_failed': 1, 'num_finished': 1, 'num_tasks': 5}


def test_summary_counts_the_units_of_all_specs(loaded, task_master):
    task_master.set_work_spec(dict(SPEC, name='another'))
    task_master.get_work('worker').finish()
    fail_units(task_master, 1)
    lines = loaded('summary').splitlines()
    assert lines[0].split() == [
        'Work', 'spec', 'Avail', 'Pending', 'Blocked', 'Failed', 'Finished', 'Total']
    assert [line.split() for line in lines[2:]] == [
        ['another', '0', '0', '0', '0', '0', '0'],
        ['doubling', '1', '0', '0', '1', '1', '3']]
    summary = json.loads(loaded('summary', '--json'))
    assert abs(summary.pop('_NOW') - time.time()) < 3600
    assert summary['doubling'] == {
        'num_available': 1, 'num_pending': 0, 'num_blocked': 0,
        'num_failed': 1, 'num_finished': 1, 'num_tasks': 3}
    assert summary['another']['num_tasks'] == 0


def test_summary_of_nothing_is_a_heading(coordinate):
    assert len(coordinate('summary').splitlines()) == 2
    assert json.loads(coordinate('summary', '--json')).keys() == ['_NOW']


def test_work_units_lists_keys_by_status_and_up_to_a_limit(loaded, task_master):
    task_master.get_work('worker').finish()
    task_master.get_work('worker')
    assert loaded('work_units', '-W', 'doubling') == 'a\nb\nc\n'
    assert loaded('work_units', '-W', 'doubling', '-n', '2') == 'a\nb\n'
    assert loaded('work_units', '-W', 'doubling', '-s', 'finished') == 'a\n'
    assert loaded('work_units', '-W', 'doubling', '-s', 'pending') == 'b\n'
    assert loaded('work_units', '-w', 'spec.yaml', '-s', 'available') == 'c\n'
    # Of these two there are none, which must be an empty list and not a null.
    assert loaded('work_units', '-W', 'doubling', '-s', 'failed') == ''
    assert loaded('work_units', '-W', 'doubling', '-s', 'blocked') == ''


def test_work_units_shows_data_and_tracebacks(loaded, task_master):
    fail_units(task_master, 1)
    printed = loaded('work_units', '-W', 'doubling', '--details', '-s', 'failed')
    assert "u'number': 1L" in printed
    assert "'traceback': 'displayed below'" in printed
    assert printed.splitlines()[-1] == 'it broke'
    assert loaded('work_units', '-W', 'doubling', '--details', '-s', 'available', '-n', '1') == (
        "u'b': {   u'number': 2L}\n")


def test_work_unit_shows_status_worker_and_traceback(loaded, task_master):
    task_master.worker_register('worker', environment={
        'fqdn': 'host.example', 'ipaddrs': ('192.0.2.1', '192.0.2.2')})
    fail_units(task_master, 1)
    task_master.get_work('worker', lease_time=1000)
    printed = loaded('work_unit', '-W', 'doubling', 'a', 'b', 'c')
    when = r'\w{3} \w{3} [ \d]\d \d\d:\d\d:\d\d \d{4}'
    assert re.match(
        r'a \(5L?\)\n'
        r'  Expires: ' + when + r'\n'
        r'  Worker: worker \(host\.example on 192\.0\.2\.1, 192\.0\.2\.2\)\n'
        r'  Traceback:\nit broke\n'
        r'b \(3L?\)\n'
        r'  Expires: ' + when + r'\n'
        r'  Worker: worker \(host\.example on 192\.0\.2\.1, 192\.0\.2\.2\)\n'
        r'c \(1L?\)\n', printed), printed
    # An available unit has no worker.
    assert 'Worker' not in printed[printed.index('\nc ('):]


def test_retry_makes_named_units_available(loaded, task_master):
    fail_units(task_master, 3)
    assert loaded('retry', '-W', 'doubling', 'a') == 'Retried 1 work unit.\n'
    assert statuses(task_master) == ['available', 'failed', 'failed']
    assert loaded('retry', '-w', 'spec.yaml', 'b', 'c') == 'Retried 2 work units.\n'
    assert statuses(task_master) == ['available'] * 3


def test_retry_all_makes_all_failed_units_available(loaded, task_master):
    task_master.get_work('worker').finish()
    fail_units(task_master, 2)
    assert loaded('retry', '-W', 'doubling', '--all') == 'Retried 2 work units.\n'
    assert statuses(task_master) == ['finished', 'available', 'available']
    assert loaded('retry', '-W', 'doubling', '--all') == 'Nothing to do.\n'
    assert loaded('retry', '-W', 'doubling') == 'Nothing to do.\n'


def test_retry_all_goes_through_more_than_a_thousand_units(coordinate, task_master):
    keys = ['{:04d}'.format(number) for number in range(1100)]
    task_master.set_work_spec(SPEC)
    task_master.add_work_units('doubling', [(key, {}) for key in keys])
    for unit in task_master.get_work('worker', max_jobs=len(keys)):
        unit.fail()
    assert coordinate('retry', '-W', 'doubling', '--all') == 'Retried 1100 work units.\n'
    assert task_master.count_work_units('doubling') == {task_master.AVAILABLE: 1100}


def test_clear_removes_units_by_name_and_by_status(loaded, task_master):
    task_master.get_work('worker').finish()
    assert loaded('clear', '-W', 'doubling', 'a', '-s', 'available') == 'Removed 0 work units.\n'
    assert loaded('clear', '-W', 'doubling', '-s', 'blocked') == 'Removed 0 work units.\n'
    assert loaded('clear', '-W', 'doubling', '-s', 'finished') == 'Removed 1 work units.\n'
    assert loaded('clear', '-W', 'doubling', 'b', 'unknown') == 'Removed 1 work units.\n'
    assert statuses(task_master) == [None, None, 'available']


def test_clear_without_names_removes_all_units_of_the_spec(loaded, task_master):
    task_master.set_work_spec(dict(SPEC, name='another'))
    task_master.add_work_units('another', [('kept', {})])
    assert loaded('clear', '-w', 'spec.yaml') == 'Removed 3 work units.\n'
    assert loaded('work_specs') == 'another\ndoubling\n'
    assert task_master.get_work_units('another') == [('kept', {})]


def test_delete_removes_everything_after_a_yes(loaded, task_master):
    assert loaded('delete', stdin='n\n').endswith('not deleting anything\n')
    assert statuses(task_master) == ['available'] * 3
    assert loaded('delete', '-y') == 'deleting all\n'
    assert task_master.list_work_specs() == ([], None)
    assert loaded('work_specs') == ''


@pytest.mark.not_in_the_original('after a clear it hands out nothing any more')
def test_work_goes_on_after_a_delete(loaded, task_master):
    loaded('delete', '--yes')
    loaded('load', '-w', 'spec.yaml', '-u', 'units.json')
    assert task_master.get_work('worker').key == 'a'


def test_pause_and_resume_stop_and_start_the_handing_out(loaded, task_master):
    assert loaded('pause', 'doubling') == ''
    assert task_master.get_work('worker') is None
    loaded('run_one', status=2)
    assert loaded('resume', 'doubling') == ''
    assert task_master.get_work('worker').key == 'a'


def test_prioritize_moves_units_to_the_front(loaded, task_master):
    assert loaded('prioritize', 'doubling', 'c', 'b') == ''
    assert [task_master.get_work('worker').key for _ in 'abc'] == ['b', 'c', 'a']


def test_run_one_runs_one_unit(loaded, task_master):
    loaded('run_one')
    assert statuses(task_master) == ['finished', 'available', 'available']
    assert task_master.get_work_units('doubling', ['a']) == [
        ('a', {'number': 1, 'output': [('a', {'doubled': 2})]})]
    assert task_master.workers() == {}


def test_run_one_runs_units_up_to_a_count(loaded, task_master):
    loaded('run_one', '--from-work-spec', 'doubling', '--limit-count', '2', '--max-jobs', '1')
    assert statuses(task_master) == ['finished', 'finished', 'available']


def test_run_one_without_work_ends_with_status_2(coordinate):
    coordinate('run_one', status=2)


def test_run_one_of_a_function_that_raises_fails_the_unit(coordinate, task_master):
    task_master.set_work_spec(dict(SPEC, run_function='fail'))
    task_master.add_work_units('doubling', [('a', {})])
    coordinate('run_one', quiet=False)
    assert statuses(task_master, 'a') == ['failed']
    assert 'ValueError: this one never works' in coordinate('work_unit', '-W', 'doubling', 'a')


def test_workers_lists_workers_and_their_environment(coordinate, task_master):
    assert coordinate('workers') == ''
    task_master.worker_register('second', mode='IDLE', environment={})
    task_master.worker_register('first', mode='RUN', environment={'pid': 17})
    assert coordinate('workers') == 'first (RUN)\nsecond (IDLE)\n'
    assert '  pid: 17\n' in coordinate('workers', '--details')
    task_master.worker_unregister('first')
    assert coordinate('workers', '--all') == 'second (IDLE)\n'


@pytest.mark.not_in_the_original('it cannot give the environment of a worker that sent none')
def test_workers_lists_a_worker_that_sent_no_environment(coordinate, task_master):
    task_master.worker_register('bare')
    assert coordinate('workers', '--details').startswith('bare (None)\n  age_seconds: ')


def test_worker_stats_counts_the_workers(coordinate, task_master):
    task_master.worker_register('parent')
    task_master.worker_register('child', parent='parent')
    stats = ast.literal_eval(coordinate('worker_stats'))
    assert stats['num_workers'] == 2
    assert stats['num_children'] == 1
    assert sorted(stats) == ['num_children', 'num_expirable', 'num_workers']


@pytest.mark.parametrize('daemon_config', [
    {'coordinate': {'job_queue': {'limit_completed_count': 7}}, 'other': {'list': ['x', 2.5, True]}}])
def test_config_shows_the_configuration_of_the_server(coordinate, daemon_config, tmpdir):
    def contains(config, expected):
        if isinstance(expected, dict):
            return all(contains(config[key], value) for key, value in expected.items())
        return config == expected

    printed = coordinate('config')
    assert contains(yaml.load(printed), daemon_config)
    # A program of any language can read it: strings are plain ones.
    assert '!!python/unicode' not in printed
    assert coordinate('config', '--output', 'config.out') == ''
    assert tmpdir.join('config.out').read() == printed


def test_config_of_a_server_without_one_is_a_map(coordinate):
    assert isinstance(yaml.load(coordinate('config')), dict)


def test_rpc_calls_any_method(loaded):
    assert loaded('rpc', 'count_work_units', 'doubling') in (
        '({1L: 3L}, None)\n', '[{1L: 3L}, None]\n')
    added = ast.literal_eval(loaded('rpc', 'add_work_units', 'doubling', '[[k, {x: 1}]]'))
    assert added[0] is True
    assert loaded('work_units', '-W', 'doubling') == 'a\nb\nc\nk\n'


def test_rpc_prints_the_error_of_an_unknown_method(coordinate):
    printed = coordinate('rpc', 'no_such_method')
    assert printed.startswith('Exception(') and 'no_such_method' in printed
    assert coordinate('rpc', 'count_work_units', 'unknown') != ''
