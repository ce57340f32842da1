"""An application as they were written for Python 2 and coordinate 0.1.5.

It is Python 2, on purpose: the tests run it with that, and, after lib2to3 and nothing else,
with Python 3.
"""
