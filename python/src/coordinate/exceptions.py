"""The exceptions of the package.

The client itself raises only ProgrammerError. An error that the daemon reports is raised
as a plain Exception with its message, and a lost connection as an OSError.
"""


class CoordinateException(Exception):
    """The base of the others."""


class ProgrammerError(CoordinateException):
    """The caller has passed something that cannot work."""


class LostLease(CoordinateException):
    """The work unit is no longer this worker's.

    A run function may raise it; the worker then reports nothing about the unit.
    """


class NoSuchWorkUnitError(CoordinateException):
    """There is no such work unit."""


class NoSuchWorkSpecError(CoordinateException):
    """There is no such work spec."""
