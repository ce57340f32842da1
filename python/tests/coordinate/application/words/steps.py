"""The run functions of the three work specs."""
import sys


def done_by(work_unit):
    """The Pythons that have worked on this so far, by their major versions."""
    return work_unit.data.get('done_by', ()) + (sys.version_info[0],)


def split(work_unit):
    body = work_unit.data['body']
    if not isinstance(body, unicode):
        body = body.decode('latin-1')
    lines = filter(None, map(unicode.strip, body.splitlines()))
    if len(lines) == 0:
        raise ValueError, 'nothing in %s' % work_unit.data['name']
    output = []
    for number in xrange(len(lines)):
        key = work_unit.key + ('/%04d' % number).encode('ascii')
        output.append((key, {'document': work_unit.data['id'], 'line': lines[number],
                             'done_by': done_by(work_unit)}))
    work_unit.data['output'] = output


def count(work_unit):
    counts = {}
    for word in work_unit.data['line'].lower().split():
        if not counts.has_key(word):
            counts[word] = 0
        counts[word] += 1
    work_unit.data['output'] = {
        work_unit.key: {'document': work_unit.data['document'], 'counts': counts,
                        'done_by': done_by(work_unit)}}
    work_unit.update()


def frequent(work_unit, minimum):
    found = [(-number, word) for word, number in work_unit.data['counts'].iteritems()
             if number >= minimum]
    work_unit.data['frequent'] = [(word, -number) for number, word in sorted(found)]
    work_unit.data['done_by'] = done_by(work_unit)
