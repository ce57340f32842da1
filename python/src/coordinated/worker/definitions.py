"""The work specs of a worker: what its children have, and that the daemon has the same."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from typing import Any

from .. import _methods, _wire
from ..errors import CoordinateError, RequestRefused
from .link import Call

__all__ = ["Definitions"]

log = logging.getLogger("coordinated.worker")


class Definitions:
    """The definitions of all specs. `fail` is called if the daemon refuses one.

    Attributes:
        timeouts: How many seconds the functions of a spec may run, None for no limit.
    """

    def __init__(self, fail: Callable[[CoordinateError], None]) -> None:
        self._fail = fail
        self._definitions: dict[str, dict[str, Any]] = {}
        self._unset: set[str] = set()
        self._to_set: list[Call] = []
        self.timeouts: dict[str, float | None] = {}

    @property
    def names(self) -> list[str]:
        """The names of the specs, in order."""
        return sorted(self._definitions)

    @property
    def runtimes(self) -> list[str]:
        """The runtimes of the units that the children can do."""
        return sorted({"", "python3"} | {str(one.get("runtime", "")) for one in self._definitions.values()})

    @property
    def are_set(self) -> bool:
        """Whether the daemon has them all."""
        return not self._unset

    def replace(self, specs: Sequence[Sequence[Any]]) -> bool:
        """Takes what a child has: name, definition and time limit of each spec. Gives whether any is new."""
        definitions = {name: definition for name, definition, _ in specs}
        changed = {name for name, definition in definitions.items() if self._definitions.get(name) != definition}
        self._unset = (self._unset | changed) & definitions.keys()
        self._definitions = definitions
        self.timeouts = {name: timeout for name, _, timeout in specs}
        return bool(changed)

    def calls(self) -> list[Call]:
        """Compares the definitions of new specs with the daemon's, and sets those that differ."""
        calls: list[Call] = []
        for name in sorted(self._unset):
            definition = self._definitions[name]
            request = _methods.get_work_spec(name)

            def compare(found: Any, name: str = name, definition: dict[str, Any] = definition) -> None:
                if _wire.text_strings(found) == _wire.text_strings(_wire.decode(_wire.encode(definition))):
                    self._unset.discard(name)
                    return

                def refused(error: RequestRefused) -> None:
                    if found is None:
                        self._on_refused(error)
                    else:
                        # A token for workers may not set work specs, and its owner has set this one.
                        log.warning("%s stays as the daemon has it: %s", name, error.message)
                        self._unset.discard(name)

                setting = _methods.set_work_spec(definition)
                self._to_set.append(Call(setting.method, setting.params, lambda _: self._unset.discard(name), refused))

            calls.append(Call(request.method, request.params, compare, self._on_refused))
        if self._to_set:
            calls, self._to_set = self._to_set, []
        return calls

    def _on_refused(self, error: RequestRefused) -> None:
        self._fail(CoordinateError(f"the daemon refuses a work spec: {error.message}"))
