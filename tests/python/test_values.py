# -*- coding: utf-8 -*-
"""Python values come back from the daemon equal and of the same types."""
from __future__ import absolute_import, print_function
import collections
import struct
import uuid

import pytest

SPEC = {'name': 'spec', 'min_gb': 1, 'module': 'suite_work', 'run_function': 'double'}

VALUES = collections.OrderedDict([
    ('byte strings', ['', 'abc', 'f\xc3\xbc', '\xff\xfe', '\x00', bytes(bytearray(range(256)))]),
    ('unicode strings', [u'', u'abc', u'f\xfc', u'\u20ac', u'\U0001f600', u'\x00']),
    ('long strings', ['\xff' * 70000, u'\u20ac' * 30000]),
    ('tuples', [(), (1,), ('a', u'a', ()), (1, (2, (3, ())))]),
    ('lists', [[], [1], [[], [[]]], list(range(1000))]),
    ('dictionaries', [{}, {'a': {}}, {'a': {u'b': {'c': [{'d': ()}]}}}]),
    ('tuples and lists in each other', [[1, (2, [3, (4, [5])])], ([], ()), [((),)]]),
    ('UUIDs', [uuid.UUID(int=0), uuid.UUID(int=2 ** 128 - 1),
               uuid.UUID('01234567-89ab-cdef-0123-456789abcdef')]),
    ('integers', [0, 1, -1, 23, 24, -24, -25, 255, 256, 65535, 65536, 2 ** 31, -2 ** 31 - 1,
                  2 ** 32 - 1, 2 ** 32, 2 ** 63 - 1, -2 ** 63]),
    ('longs about 64 bits', [2 ** 63, 2 ** 64 - 1, 2 ** 64, 2 ** 64 + 1,
                             -2 ** 63 - 1, -2 ** 64, -2 ** 64 - 1]),
    # The client's own encoder garbles integers of more than 23 bytes.
    ('longs far beyond 64 bits', [2 ** 65, -2 ** 65, 3 ** 115, -3 ** 115, 2 ** 184 - 1, -2 ** 184]),
    ('floats', [0.0, -0.0, 1.0, 2.0, -2.0, 0.1, 1e300, 5e-324, 2.0 ** 64,
                float('inf'), float('-inf'), float('nan')]),
    ('singletons', [None, True, False]),
    ('map keys that are byte strings or unicode', [
        {'a': 1}, {u'a': 1}, {'f\xc3\xbc': 1, u'f\xfc': 2}, {'\xff': 1}, {'': 1}, {u'': 1}]),
    ('map keys that are no strings', [
        {0: 'a', 1: 'b', -1: 'c', 2 ** 40: 'd'}, {None: 1}, {True: 1, False: 2}, {0.5: 1},
        {1: {2: {None: [{3: ()}]}}}]),
    ('all of them, nested', [
        {'k': [u'k', ('\xff', {u'f\xfc': (None, True, [2.0, -0.0, 2 ** 70])}),
               {7: uuid.UUID(int=7), None: {}}]}]),
])


def described(value):
    """A value that two values have in common if they are equal and of equal types, all the way down.

    An int may come back as a long: both are the one integer type of the wire.
    """
    kind = type(value)
    if kind in (int, long):
        return ('integer', value)
    if kind is float:
        # By its bits, as nan is unequal to itself and 0.0 is equal to -0.0.
        return ('float', 'nan' if value != value else struct.pack('>d', value))
    if kind in (list, tuple):
        return (kind.__name__, [described(item) for item in value])
    if kind is dict:
        return ('dict', sorted((described(k), described(v)) for k, v in value.items()))
    return (kind.__name__, value)


def in_data_of_a_unit_that_waits(task_master, value):
    task_master.set_work_spec(SPEC)
    task_master.add_work_units('spec', [('unit', {'value': value})])
    (key, data), = task_master.get_work_units('spec')
    return data['value']


def in_data_of_a_unit_that_is_handed_out(task_master, value):
    task_master.set_work_spec(SPEC)
    task_master.add_work_units('spec', [('unit', {'value': value})])
    return task_master.get_work('worker').data['value']


def in_data_that_a_worker_reports(task_master, value):
    task_master.set_work_spec(SPEC)
    task_master.add_work_units('spec', [('unit', {})])
    unit = task_master.get_work('worker')
    unit.data['value'] = value
    assert unit.finish() is True
    (key, data), = task_master.get_work_units('spec', ['unit'])
    return data['value']


def in_data_of_a_chained_unit(task_master, value):
    task_master.set_work_spec(dict(SPEC, then='next'))
    task_master.set_work_spec(dict(SPEC, name='next'))
    task_master.add_work_units('spec', [('unit', {})])
    unit = task_master.get_work('worker', work_spec_names=['spec'])
    unit.data['output'] = {'unit': {'value': value}}
    assert unit.finish() is True
    (key, data), = task_master.get_work_units('next')
    return data['value']


def in_a_work_spec(task_master, value):
    task_master.set_work_spec(dict(SPEC, config={'value': value}))
    return task_master.get_work_spec('spec')['config']['value']


def in_a_listed_work_spec(task_master, value):
    task_master.set_work_spec(dict(SPEC, config={'value': value}))
    ((name, spec),), following = task_master.list_work_specs()
    return spec['config']['value']


def in_the_environment_of_a_worker(task_master, value):
    task_master.worker_register('worker', environment={'value': value})
    return task_master.get_heartbeat('worker')['value']


@pytest.mark.parametrize('place', [
    in_data_of_a_unit_that_waits, in_data_of_a_unit_that_is_handed_out,
    in_data_that_a_worker_reports, in_data_of_a_chained_unit,
    in_a_work_spec, in_a_listed_work_spec, in_the_environment_of_a_worker,
], ids=lambda place: place.__name__)
def test_values_are_kept(task_master, place):
    changed = []
    for name, values in VALUES.items():
        for value in values:
            came_back = place(task_master, value)
            if described(came_back) != described(value):
                changed.append('{}: {!r:.200} came back as {!r:.200}'.format(name, value, came_back))
            task_master.del_work_spec('spec')
            task_master.del_work_spec('next')
    assert not changed, '\n' + '\n'.join(changed)


KEYS = ['a', 'with space', 'f\xc3\xbc', 'f\xfc', '\xff\x80', '\x00', 'line\nbreak', 'x' * 60000]


def test_keys_that_are_byte_strings_stay_byte_strings(task_master):
    task_master.set_work_spec(SPEC)
    task_master.worker_register('parent')
    task_master.worker_register('worker', parent='parent')
    task_master.add_work_units('spec', [(key, {'key': key}) for key in KEYS])

    listed = [key for key, data in task_master.get_work_units('spec')]
    assert listed == sorted(KEYS)
    assert all(type(key) is str for key in listed)
    assert task_master.get_work_units('spec', KEYS) == [(key, {'key': key}) for key in KEYS]
    for key in sorted(KEYS):
        unit = task_master.get_work('worker')
        assert unit.key == key and type(unit.key) is str and unit.data == {'key': key}
        (child,), = task_master.get_child_work_units('parent').values()
        assert child.key == key and type(child.key) is str
        assert unit.finish() is True
        assert task_master.get_work_unit_status('spec', key)['status'] == task_master.FINISHED
    assert task_master.del_work_units('spec', work_unit_keys=KEYS) == len(KEYS)


def test_an_empty_key_is_a_key(task_master):
    task_master.set_work_spec(SPEC)
    task_master.add_work_units('spec', [('', {'n': 1}), ('a', {'n': 2})])
    assert task_master.get_work_units('spec') == [('', {'n': 1}), ('a', {'n': 2})]
    unit = task_master.get_work('worker')
    assert unit.key == ''
    assert unit.finish() is True
    assert task_master.count_work_units('spec') == {
        task_master.AVAILABLE: 1, task_master.FINISHED: 1}


def test_keys_that_are_unicode_stay_unicode(task_master):
    task_master.set_work_spec(SPEC)
    task_master.add_work_units('spec', [(u'f\xfc', {}), (u'a', {})])
    listed = task_master.get_work_units('spec')
    assert listed == [(u'a', {}), (u'f\xfc', {})]
    assert all(type(key) is unicode for key, data in listed)
    for key in (u'a', u'f\xfc'):
        unit = task_master.get_work('worker')
        assert unit.key == key and type(unit.key) is unicode
        assert unit.finish() is True


def test_an_ascii_key_is_the_same_as_byte_string_and_as_unicode(task_master):
    task_master.set_work_spec(SPEC)
    task_master.add_work_units('spec', [('a', {'n': 1})])
    task_master.add_work_units(u'spec', [(u'a', {'n': 2})])
    assert task_master.get_work_units('spec') == [('a', {'n': 2})]
    assert task_master.get_work_unit_status(u'spec', u'a')['status'] == task_master.AVAILABLE


@pytest.mark.not_in_the_original('it tells them apart, and so could Python')
def test_a_utf8_key_is_the_same_as_byte_string_and_as_unicode(task_master):
    task_master.set_work_spec(SPEC)
    task_master.add_work_units('spec', [('f\xc3\xbc', {'n': 1})])
    task_master.add_work_units('spec', [(u'f\xfc', {'n': 2})])
    assert task_master.count_work_units('spec') == {task_master.AVAILABLE: 1}
    for key in ('f\xc3\xbc', u'f\xfc'):
        status = task_master.get_work_unit_status('spec', [key])[0]
        assert status['status'] == task_master.AVAILABLE


@pytest.mark.not_in_the_original('it hands them out as they came, which its worker cannot import')
def test_a_function_that_is_named_in_unicode_can_be_run(task_master):
    task_master.set_work_spec(dict(SPEC, module=u'suite_work', run_function=u'double'))
    task_master.add_work_units('spec', [('a', {'number': 21})])
    unit = task_master.get_work('worker')
    assert type(unit.spec['module']) is str
    assert type(unit.spec['run_function']) is str
    unit.run()
    assert unit.data['output'] == [('a', {'doubled': 42})]


def test_a_worker_id_keeps_its_type(task_master):
    task_master.worker_register('bytes', mode='RUN')
    task_master.worker_register(u'text', mode=u'IDLE')
    assert task_master.workers() == {'bytes': 'RUN', 'text': 'IDLE'}
    assert task_master.mode_counts() == {'RUN': 1, 'IDLE': 1}
