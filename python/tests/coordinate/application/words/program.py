"""Sets the work flow, adds documents, and reports.

    program.py CONFIG flow FLOW
    program.py CONFIG load DOCUMENT...
    program.py CONFIG report
"""
import hashlib
import os
import sys
import uuid

import yaml

from coordinate.job_client import TaskMaster


def flow(task_master, path):
    with open(path) as f:
        task_master.add_flow(yaml.safe_load(f)['flows'], config={})


def load(task_master, *paths):
    units = {}
    for path in paths:
        name = os.path.basename(path)
        with open(path, 'rb') as f:
            body = f.read()
        key = hashlib.md5(name.encode('ascii')).digest()
        units[key] = {'name': name, 'body': body, 'id': uuid.uuid5(uuid.NAMESPACE_URL, name)}
    try:
        if not task_master.add_work_units('words.split', units.items()):
            sys.exit('the work flow is not set')
    except EnvironmentError, e:
        sys.exit('no daemon: %s' % e)


def report(task_master):
    for spec in task_master.iter_work_specs():
        status = task_master.status(spec['name'])
        print '%(name)s: %(num_finished)d finished, %(num_failed)d failed' % dict(status, **spec)
    for key, data in task_master.get_work_units('words.split', state=task_master.FAILED):
        print >>sys.stdout, data['name'], data['traceback'].splitlines()[-1]


def main():
    with open(sys.argv[1]) as f:
        task_master = TaskMaster(yaml.safe_load(f)['coordinate'])
    {'flow': flow, 'load': load, 'report': report}[sys.argv[2]](task_master, *sys.argv[3:])


if __name__ == '__main__':
    main()
