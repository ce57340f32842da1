"""Real workers of several processes drain a queue, and one of them is killed."""
from __future__ import absolute_import, print_function
import os
import signal
import subprocess
import time

import yaml

UNITS = 2000
WORKERS = 2
PROCESSES_PER_WORKER = 2
# Long enough for a process that a busy machine holds up, and short enough to wait for.
LEASE_SECONDS = 5
DRAIN_SECONDS_MAX = 150


def start_worker(folder, daemon, number):
    """Starts a real coordinate_worker, which forks processes that do the work."""
    config = str(folder.join('worker{}.yaml'.format(number)))
    with open(config, 'w') as f:
        yaml.safe_dump({'coordinate': {
            'addresses': [daemon.address],
            'default_lifetime': LEASE_SECONDS,
            'fork_worker': {
                'num_workers': PROCESSES_PER_WORKER,
                'poll_interval': 0.1,
                'heartbeat_interval': 1,
                # Otherwise a lease that ends in less than 15 seconds counts as overdue.
                'stop_jobs_early': 0,
            },
        }}, f)
    return subprocess.Popen(['coordinate_worker', '--config', config, '--foreground'],
                            cwd=str(folder))


def wait_for_all_finished(task_master, spec_name):
    deadline = time.time() + DRAIN_SECONDS_MAX
    while True:
        counts = task_master.count_work_units(spec_name)
        if counts == {task_master.FINISHED: UNITS}:
            return
        assert time.time() < deadline, 'not drained: {!r}'.format(counts)
        time.sleep(0.1)


def test_workers_drain_2000_units_though_one_process_is_killed(daemon, task_master, tmpdir):
    done = tmpdir.join('done')
    fifo = str(tmpdir.join('victim'))
    os.mkfifo(fifo)
    keys = ['unit-{:04d}'.format(n) for n in range(UNITS)]
    victims_key = keys[UNITS // 2]
    task_master.set_work_spec({'name': 'append', 'min_gb': 0.01,
                               'module': 'suite_work', 'run_function': 'append_key'})
    units = {key: {'file': str(done)} for key in keys}
    units[victims_key]['wait_to_be_killed'] = fifo
    task_master.add_work_units('append', units)

    workers = []
    try:
        for number in range(WORKERS):
            workers.append(start_worker(tmpdir, daemon, number))

        # Reading waits until a process has come to the unit in the middle.
        with open(fifo) as f:
            victim = int(f.read())
        os.unlink(fifo)
        status = task_master.get_work_unit_status('append', victims_key)
        assert status['status'] == task_master.PENDING
        owner = status['worker_id']
        assert task_master.get_heartbeat(owner)['pid'] == victim
        assert len(task_master.workers()) > WORKERS, 'the workers have no processes of their own'
        os.kill(victim, signal.SIGKILL)

        wait_for_all_finished(task_master, 'append')
    finally:
        for worker in workers:
            worker.terminate()
        for worker in workers:
            worker.wait()

    assert set(done.read().split()) == set(keys)
    # The unit of the process that was killed has been done by another one.
    status = task_master.get_work_unit_status('append', victims_key)
    assert status['worker_id'] != owner
    # It could not say goodbye, and stays listed till its lifetime ends.
    assert owner in task_master.workers()
    assert task_master.get_work('another worker') is None
