"""Our own commands, against our daemon and against the package's own server."""
from __future__ import absolute_import, print_function
import fcntl
import gzip
import json
import os
import pty
import re
import select
import struct
import subprocess
import termios
import time

import pytest
import yaml

from coordinate.job_client import TaskMaster
from daemon_process import OriginalServer

BINARY = os.environ['SUITE_BINARY']

# Generous, as a machine may be busy.
SCREEN_SECONDS_MAX = 30

pytestmark = pytest.mark.skipif(not BINARY, reason='it is about the commands of our program')

SPEC = {'name': 'spec', 'min_gb': 1, 'module': 'suite_work', 'run_function': 'double'}


@pytest.fixture(params=['ours', 'original'])
def server(request, tmpdir):
    """Our daemon, or the original server."""
    if request.param == 'ours':
        yield request.getfixturevalue('daemon')
        return
    original = OriginalServer(str(tmpdir.mkdir('original')), None)
    original.start()
    yield original
    original.kill()


@pytest.fixture
def client(server):
    task_master = TaskMaster({'address': server.address})
    task_master.set_work_spec(SPEC)
    yield task_master
    task_master.close()


@pytest.fixture
def run(server, client, tmpdir):
    """Runs a command, and gives what it printed."""
    def run(*arguments, **expected):
        process = subprocess.Popen(
            [BINARY, arguments[0], '--server', server.address] + list(arguments[1:]), cwd=str(tmpdir),
            stdin=open(os.devnull), stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        printed, errors = process.communicate()
        assert process.returncode == expected.get('status', 0), errors
        if 'lacking' in expected:
            # Of the original it is said what it can't tell, and of ours nothing.
            assert (expected['lacking'] in errors) == isinstance(server, OriginalServer), errors
        return printed
    return run


class Screen(object):
    """A command on a terminal of its own."""

    def __init__(self, server, *arguments):
        self.columns = 120
        self.keyboard, terminal = pty.openpty()
        self.process = subprocess.Popen(
            [BINARY, arguments[0], '--server', server.address] + list(arguments[1:]),
            stdin=terminal, stdout=terminal, stderr=terminal, close_fds=True,
            preexec_fn=own_terminal, env=dict(os.environ, TERM='xterm-256color'))
        os.close(terminal)

    def picture(self):
        """All that it shows now, as it is drawn anew where there is another width."""
        self.columns = 241 - self.columns
        size = struct.pack('HHHH', 30, self.columns, 0, 0)
        fcntl.ioctl(self.keyboard, termios.TIOCSWINSZ, size)
        drawn, until = '', time.time() + 0.3
        while time.time() < until:
            if select.select([self.keyboard], [], [], 0.05)[0]:
                drawn += os.read(self.keyboard, 65536)
        # Without what moves the cursor and colours.
        return re.sub(r'\x1b\[[0-9;?]*[a-zA-Z]', ' ', drawn).decode('utf-8', 'replace')

    def wait_for(self, *texts):
        deadline = time.time() + SCREEN_SECONDS_MAX
        picture = self.picture()
        while not all(text in picture for text in texts):
            assert time.time() < deadline, picture
            picture = self.picture()

    def press(self, key):
        os.write(self.keyboard, key)

    def end(self):
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        os.close(self.keyboard)


def own_terminal():
    os.setsid()
    fcntl.ioctl(0, termios.TIOCSCTTY, 0)


@pytest.fixture
def screen(server, client):
    """Starts a command on a terminal."""
    screens = []

    def start(*arguments):
        screens.append(Screen(server, *arguments))
        return screens[-1]
    yield start
    for started in screens:
        started.end()


def fail_units(client, keys):
    for number, key in enumerate(keys):
        unit = client.get_work('worker', work_spec_names=['spec'])
        assert unit.key == key
        unit.data['traceback'] = 'Traceback\nError {}\n'.format(number % 2)
        assert unit.fail()


def test_units_are_added_and_listed(run, client, tmpdir):
    assert run('add', 'spec', 'b', 'a', '--data', '{"n": 1}') == 'Added 2 work units.\n'
    tmpdir.join('units.json').write('{"c": {"x": [1, 2.5, null, "\\u00fc"]}}\n')
    assert run('addwork', '-W', 'spec', '-u', 'units.json') == 'Added 1 work unit.\n'
    assert client.get_work_units('spec') == [
        ('a', {'n': 1}), ('b', {'n': 1}), ('c', {'x': [1, 2.5, None, u'\xfc']})]
    assert run('work_units', 'spec') == 'a\nb\nc\n'
    assert run('work_units', 'spec', '--prefix', 'b') == 'b\n'
    assert run('work_units', 'spec', '-s', 'available', '-n', '2') == 'a\nb\n'
    assert run('work_units', 'spec', '-s', 'finished') == ''
    assert json.loads(run('work_units', 'spec', '--prefix', 'c', '--json')) == {
        'key': 'c', 'data': {'x': [1, 2.5, None, u'\xfc']}}


def test_a_work_spec_is_loaded_with_its_units(run, client, tmpdir):
    tmpdir.join('spec.yaml').write(yaml.safe_dump(dict(SPEC, name='loaded')))
    units = ''.join('{{"{:05d}": {{"number": {}}}}}\n'.format(number, number) for number in range(2500))
    with gzip.open(str(tmpdir.join('units')), 'wb') as f:
        f.write(units)
    printed = run('load', '-w', 'spec.yaml', '-u', 'units', '--priority', '2')
    assert printed == 'Set loaded. Added 2500 work units.\n'
    definition = client.get_work_spec('loaded')
    assert definition == dict(SPEC, name='loaded')
    # It imports by these, which works with byte strings only.
    assert type(definition['module']) is type(definition['run_function']) is str
    assert client.count_work_units('loaded') == {client.AVAILABLE: 2500}
    unit = client.get_work('worker', work_spec_names=['loaded'])
    assert (unit.key, unit.data) == ('00000', {'number': 0})

    # Once more, from where it broke off.
    tmpdir.join('units').write(units + 'nonsense\n')
    run('addwork', 'loaded', '-u', 'units', '--from-line', '2401', status=1)
    tmpdir.join('units').write(units + '{"last": {}}\n')
    assert run('addwork', 'loaded', '-u', 'units', '--from-line', '2501') == 'Added 1 work unit.\n'
    assert client.count_work_units('loaded') == {client.AVAILABLE: 2500, client.PENDING: 1}


def test_names_of_any_bytes_are_loaded(run, client, tmpdir):
    tmpdir.join('names').write('\xff\0\xfe b\0', mode='wb')
    assert run('addwork', '-W', 'spec', '-0', '-u', 'names') == 'Added 2 work units.\n'
    assert client.get_work_units('spec') == [('\xfe b', {}), ('\xff', {})]


def test_a_flow_is_set(run, client, tmpdir):
    flow = {'flows': {'sums': {
        'doubling': {'min_gb': 1, 'module': 'suite_work', 'run_function': 'double', 'then': 'sums.adding'},
        'adding': {'min_gb': 1, 'module': 'suite_work', 'run_function': 'add_one'}}}}
    tmpdir.join('flow.yaml').write(yaml.safe_dump(flow))
    assert run('flow', 'flow.yaml') == 'Set sums.adding.\nSet sums.doubling.\n'
    assert client.get_work_spec('sums.doubling') == dict(
        flow['flows']['sums']['doubling'], name='sums.doubling')
    flow['flows']['sums']['doubling']['then'] = 'nothing'
    tmpdir.join('flow.yaml').write(yaml.safe_dump(flow))
    run('flow', 'flow.yaml', status=1)
    assert client.get_work_spec('sums.doubling')['then'] == 'sums.adding'


def test_more_than_a_page_of_units_is_listed(run, client):
    keys = ['{:05d}'.format(number) for number in range(2500)]
    client.add_work_units('spec', [(key, {}) for key in keys])
    assert run('work_units', 'spec').split() == keys
    assert run('work_units', 'spec', '-s', 'available').split() == keys
    assert run('clear', 'spec', '--all', '--yes') == 'Removed 2500 work units.\n'


def test_more_units_of_a_status_than_a_server_lists_at_once_are_removed(run, client):
    client.add_work_units('spec', [('{:05d}'.format(number), {}) for number in range(10500)])
    assert run('clear', 'spec', '-s', 'available', '--yes') == 'Removed 10500 work units.\n'


def test_names_that_are_not_utf_8_are_shown_and_taken_escaped(run, client):
    client.add_work_units('spec', [('\xff\n', {'raw': '\xfe'})])
    assert run('work_units', 'spec') == '\\xff\\n\n'
    units = json.loads(run('work_unit', 'spec', '\\xff\\n', '--json'))
    assert units[0]['status'] == 'available'
    assert units[0]['data'] == {'raw': {'$bytes': '\\xfe'}}
    run('work_unit', 'spec', '\xff\\n')


def test_summary_and_status_count(run, client):
    client.set_work_spec(dict(SPEC, name='empty'))
    client.add_work_units('spec', [(key, {}) for key in 'abc'])
    client.get_work('worker').finish()
    client.get_work('worker')
    expected = {'num_available': 1, 'num_pending': 1, 'num_blocked': 0,
                'num_failed': 0, 'num_finished': 1, 'num_tasks': 3}
    for found in (json.loads(run('status', 'spec', '--json')),
                  json.loads(run('summary', '--json'))['work_specs']['spec']):
        assert {name: found[name] for name in expected} == expected
    lacking = 'does not report delayed units'
    rows = [line.split()[:6] for line in run('summary', lacking=lacking).splitlines()]
    assert rows[1:] == [['empty', '0', '0', '0', '0', '0'], ['spec', '1', '1', '0', '1', '3']]
    rows = [line.split()[:2] for line in run('status', 'spec', lacking=lacking).splitlines()]
    assert rows[1:] == [['available', '1'], ['pending', '1'], ['finished', '1'], ['failed', '0'], ['total', '3']]
    measured = json.loads(run('status', 'spec', '--rate', '10ms', '--json'))
    assert measured['done_per_second'] == 0 and measured['remaining_seconds'] is None
    assert run('work_specs') == 'empty\nspec\n'
    assert json.loads(run('work_spec', 'spec', '--json')) == SPEC


def test_a_unit_is_shown(run, client):
    client.worker_register('worker', environment={'fqdn': 'host.example'})
    client.add_work_units('spec', [('a', {}), ('b', {})])
    fail_units(client, 'a')
    client.get_work('worker')
    printed = run('work_unit', 'spec', 'a', 'b', lacking='does not keep earlier attempts')
    assert printed.startswith('a  failed\n  Ended: ')
    assert '  Worker: worker on host.example\n' in printed
    assert '    Error 0\n' in printed
    assert 'b  pending\n  Expires: ' in printed
    run('work_unit', 'spec', 'unknown', status=1)


def test_failures_are_grouped_and_retried(run, client):
    keys = ['{:04d}'.format(number) for number in range(1201)]
    client.add_work_units('spec', [(key, {}) for key in keys])
    fail_units(client, keys)
    groups = json.loads(run('failed', 'spec', '--json'))
    assert [(group['message'], group['count']) for group in groups] == [
        ('Error 0', 601), ('Error 1', 600)]
    table = run('failed', 'spec', lacking='when units failed').splitlines()
    assert [line.split()[0] for line in table] == ['Units', '601', '600']
    assert table[1].endswith('0000         Error 0')
    assert run('retry', 'spec', '0000', '0001') == 'Retried 2 work units.\n'
    assert run('retry', 'spec', '--matching', 'Error 1') == 'Retried 599 work units.\n'
    assert client.count_work_units('spec') == {client.AVAILABLE: 601, client.FAILED: 600}
    assert run('retry', 'spec', '--all') == 'Retried 600 work units.\n'
    assert run('retry', 'spec', '--all') == 'Nothing to do.\n'
    assert client.count_work_units('spec') == {client.AVAILABLE: 1201}


def test_units_are_removed(run, client):
    client.add_work_units('spec', [(key, {}) for key in 'abcd'])
    fail_units(client, 'a')
    assert run('clear', 'spec', '-s', 'failed', '--yes') == 'Removed 1 work unit.\n'
    assert run('clear', 'spec', 'b', 'unknown', '--yes') == 'Removed 1 work unit.\n'
    run('clear', 'spec', '--all', status=1)
    run('clear', 'spec', '--yes', status=2)
    run('delete', '--yes', status=2)
    assert client.count_work_units('spec') == {client.AVAILABLE: 2}
    assert run('delete', 'spec', '--yes') == 'Deleted 1 work spec with 2 work units.\n'
    assert client.list_work_specs() == ([], None)


def test_a_work_spec_is_controlled(run, client):
    client.add_work_units('spec', [(key, {}) for key in 'abc'])
    run('pause', 'spec')
    assert client.get_work('worker') is None
    assert json.loads(run('why', 'spec', '--json'))[0]['code'] == 'paused'
    run('resume', 'spec')
    run('prioritize', 'spec', 'b')
    assert client.get_work('worker').key == 'b'
    run('control', 'spec', '--weight', '7', '--max-running', '1')
    meta = json.loads(run('work_spec', 'spec', '--meta', '--json'))
    assert (meta['weight'], meta['max_running']) == (7, 1)
    assert client.get_work('worker') is None
    reasons = json.loads(run('why', 'spec', '--json'))
    assert 'max_running' in [reason['code'] for reason in reasons]
    assert json.loads(run('why', 'spec', 'b', '--json'))[0]['code'] == 'running'


def test_a_load_keeps_what_control_has_set(run, client, tmpdir):
    tmpdir.join('spec.yaml').write(yaml.safe_dump(SPEC))
    run('pause', 'spec')
    run('control', 'spec', '--weight', '7')
    run('load', '-w', 'spec.yaml', '--no-work')
    meta = json.loads(run('work_spec', 'spec', '--meta', '--json'))
    assert (meta['status'], meta['weight']) == ('paused', 7)


def test_a_server_says_why_as_far_as_it_can_be_seen(run, client):
    lacking = 'that a client can find out'

    def codes(*arguments):
        return [reason['code'] for reason in json.loads(run('why', '--json', 'spec', *arguments, lacking=lacking))]

    assert 'no_work' in codes()
    client.add_work_units('spec', [(key, {}) for key in 'abc'])
    fail_units(client, 'a')
    client.get_work('worker').finish()
    client.get_work('worker')
    assert (codes('a'), codes('b'), codes('c')) == (['failed'], ['finished'], ['running'])


def test_a_delay_that_a_server_does_not_know_is_told(run, client, tmpdir):
    lacking = 'may not support --delay'
    run('add', 'spec', 'a', '--delay', '1h', lacking=lacking)
    tmpdir.join('units').write('{"b": {}}\n')
    run('addwork', 'spec', '-u', 'units', '--delay', '1h', lacking=lacking)
    assert client.count_work_units('spec') == {client.AVAILABLE: 2}


def test_locks_are_listed_where_there_are_some(run, server):
    if isinstance(server, OriginalServer):
        run('locks', status=1, lacking="can't list locks")
    else:
        run('rpc', 'lock', 'me', '600', '[[a, b]]')
        locks = json.loads(run('locks', '--json'))
        assert [(lock['owner'], lock['path']) for lock in locks] == [('me', ['a', 'b'])]


def test_top_shows_what_there_is_and_obeys_its_keys(screen, server, client):
    client.set_work_spec(dict(SPEC, name='another'))
    client.add_work_units('spec', [(key, {}) for key in ('broken', 'busy', 'idle')])
    client.worker_heartbeat('worker', 'RUN', 900, {'hostname': 'host'})
    fail_units(client, ['broken'])
    client.get_work('worker', work_spec_names=['spec'])
    top = screen('top', '--interval', '50ms')
    top.wait_for('1 worker ', '2 work specs', 'another', 'spec')
    top.press('\x1b[F')  # End: the last of them
    top.wait_for('Running of spec', 'busy', 'worker')
    if isinstance(server, OriginalServer):
        top.wait_for('not reported by this server', 'coordinated failed')
    else:
        top.wait_for('Error 0')
    top.press('p')
    top.wait_for('spec is paused')
    assert client.get_work('other', work_spec_names=['spec']) is None
    top.press('r')
    top.wait_for('spec is resumed')
    top.press('t')
    top.wait_for('Retry 1 failed work unit of spec?')
    top.press('y')
    top.wait_for('retried 1 work unit of spec')
    assert client.count_work_units('spec') == {client.AVAILABLE: 2, client.PENDING: 1}
    top.press('q')
    assert top.process.wait() == 0


def test_workers_are_listed(run, client):
    client.worker_register('first', mode='RUN', environment={'pid': 17})
    assert json.loads(run('workers', '--details', '--json'))[0]['environment']['pid'] == 17
    assert run('workers').split() == ['Worker', 'Mode', 'first', 'RUN']
    assert json.loads(run('worker_stats', '--json'))['num_workers'] == 1


def test_any_method_is_called(run, client):
    assert json.loads(run('rpc', 'add_work_units', 'spec', '[[k, {x: 1}]]')) == [True, None]
    assert json.loads(run('rpc', 'count_work_units', 'spec')) == [{'$map': [[1, 1]]}, None]
    run('rpc', 'no_such_method', status=1)
    assert isinstance(json.loads(run('config', '--json')), dict)
    run('status', 'unknown', status=1)


def test_work_runs_a_program_for_each_unit(run, client):
    client.set_work_spec(dict(SPEC, then='next'))
    client.set_work_spec(dict(SPEC, name='next'))
    client.add_work_units('spec', [('a', {'n': 1}), ('b', {}), ('c', {}), ('\xff', {})])
    script = r'''
        case $1 in
            a) read -r data; echo '{"was": '"$data"', "output": {"child": {}}}';;
            b) echo Traceback >&2; echo oops >&2; exit 3;;
            c) test "$COORDINATED_ATTEMPT" = 2 || exit 75;;
            *) test "$COORDINATED_KEY" = "$(printf '\377')"
        esac'''
    lines = run('work', '--spec', 'spec', '-j', '2', '--until-empty', '--retry-delay', '1s', '--',
                'sh', '-c', script, 'sh', '{key}', status=1).splitlines()
    assert sorted(line.split()[0] for line in lines) == [
        'failed', 'finished', 'finished', 'finished', 'later']
    assert client.count_work_units('spec') == {client.FINISHED: 3, client.FAILED: 1}
    units = dict(client.get_work_units('spec'))
    assert units['a'] == {'was': {'n': 1}, 'output': {'child': {}}}
    assert units['b'] == {'traceback': 'exit code 3, and on standard error:\nTraceback\noops\n'}
    assert client.get_work_units('next') == [('child', {})]


def test_work_takes_many_units_at_once(run, client):
    keys = ['{:03d}'.format(number) for number in range(250)]
    client.add_work_units('spec', [(key, {}) for key in keys])
    run('work', '--spec', 'spec', '-j', '2', '--batch', '20', '--until-empty', '--',
        'sh', '-c', 'cat >> lines')
    assert client.count_work_units('spec') == {client.FINISHED: 250}


def test_work_runs_the_commands_of_work_specs_where_it_may(run, client, server, tmpdir):
    client.set_work_spec(dict(SPEC, runtime='exec', command=['sh', '-c', 'echo "$1" > "$1"', 'sh', '{key}']))
    client.add_work_units('spec', [('a', {})])
    if isinstance(server, OriginalServer):
        # It would hand out everything.
        run('work', '--allow-spec-commands', '--until-empty', status=1)
        assert client.count_work_units('spec') == {client.AVAILABLE: 1}
    run('work', '--allow-spec-commands', '--until-empty', '--spec', 'spec')
    assert tmpdir.join('a').read() == 'a\n'
    assert client.count_work_units('spec') == {client.FINISHED: 1}
