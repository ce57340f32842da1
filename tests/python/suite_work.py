"""What the workers run in our tests: the functions that work specs name."""
from __future__ import absolute_import
import os
import signal


def append_key(work_unit):
    """Appends the unit's key to a file. A unit with `wait_to_be_killed` waits for that first."""
    fifo = work_unit.data.get('wait_to_be_killed')
    if fifo and os.path.exists(fifo):
        # Opening waits until the test reads, which then kills this process.
        with open(fifo, 'w') as f:
            f.write(str(os.getpid()))
        while True:
            signal.pause()
    # One write of a short line is whole, also with several writers.
    line = work_unit.key + '\n'
    fd = os.open(work_unit.data['file'], os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
    try:
        assert os.write(fd, line) == len(line)
    finally:
        os.close(fd)


def double(work_unit):
    work_unit.data['output'] = [(work_unit.key, {'doubled': 2 * work_unit.data['number']})]


def add_one(work_unit):
    work_unit.data['result'] = work_unit.data['doubled'] + 1


def fail(work_unit):
    raise ValueError('this one never works')
