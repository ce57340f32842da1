"""Calls the function that a work spec names."""

from __future__ import annotations

import importlib
import logging
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from .exceptions import LostLease, ProgrammerError

if TYPE_CHECKING:
    from .job_client import WorkUnit

logger = logging.getLogger(__name__)


def run(work_unit: WorkUnit, work_spec_dict: Mapping[str, Any]) -> Any:
    """Runs a work unit by the `module`, `run_function` and `run_params` of its work spec.

    Raises ProgrammerError if the work spec lacks one of the first two, and whatever
    run_module_func_for_work_unit raises.
    """
    found = []
    for key in ("module", "run_function"):
        value = work_spec_dict.get(key)
        if value is None:
            raise ProgrammerError(f"work spec {work_spec_dict.get('name')!r} has no {key!r}, so it cannot be run")
        found.append(value.decode() if isinstance(value, bytes) else value)
    module_name, func_name = found
    return run_module_func_for_work_unit(work_unit, module_name, func_name, work_spec_dict.get("run_params"))


def run_module_func_for_work_unit(work_unit: WorkUnit, module_name: str, func_name: str, params: Any = None) -> Any:
    """Imports a module, calls its function with the work unit, and finishes the unit.

    A list or tuple as `params` gives further positional arguments, a map keyword
    arguments; anything else is ignored. Returns what the function returns. The unit is not
    failed if the function raises: that is left to the worker.
    """
    function = getattr(importlib.import_module(module_name), func_name)
    args: Sequence[Any] = ()
    kwargs: Mapping[str, Any] = {}
    if isinstance(params, Sequence):
        args = params
    elif isinstance(params, Mapping):
        kwargs = params
    logger.info("running work unit %s:%r", work_unit.work_spec_name, work_unit.key)
    try:
        result = function(work_unit, *args, **kwargs)
        work_unit.finish()
    except LostLease:
        logger.warning("lost the lease on work unit %r", work_unit.key)
        raise
    except Exception:
        logger.error("work unit %r failed", work_unit.key, exc_info=True)
        raise
    logger.info("finished work unit %r", work_unit.key)
    return result
