"""The `coordinate` package of Python 2, for Python 3 and the coordinated daemon.

Programs written for `coordinate` 0.1.5 find the same names, parameters, return values
and exceptions here. What ran inside the old Python server (JobQueue, CoordinateServer) is
not here: the daemon does that now. New programs should use the package `coordinated`.
"""

from typing import Any

from .exceptions import CoordinateException, ProgrammerError
from .job_client import TaskMaster

__all__ = ["CoordinateException", "ProgrammerError", "TaskMaster", "config_name", "sub_modules"]

#: The top-level block of a configuration file that yakonfig gives to this package.
config_name = "coordinate"
#: The blocks inside it that have defaults of their own: none, as those were the server's.
sub_modules: list[Any] = []
