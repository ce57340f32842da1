"""Finding the specs of a worker, in any process, and turning what their functions give into the outcome of a unit."""

from __future__ import annotations

import importlib
import inspect
import runpy
import sys
import traceback
from collections.abc import AsyncIterator, Callable, Iterable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any, Final

from .. import _wire
from ..errors import InvalidArguments, Retry, UnwritableValue
from ..spec import Spec, Unit
from . import _messages

__all__ = ["Function", "find_lifespan", "find_specs", "main_path", "target_of"]

# The longest data of a report, half of what a daemon accepts by default, and the end of a traceback that is kept.
DATA_BYTES_MOST: Final = 32 << 20
TRACEBACK_CHARACTERS_MOST: Final = 64 << 10
# The name under which a child runs the main program again, as multiprocessing does: `__name__ == "__main__"` is false.
_MAIN: Final = "__mp_main__"


def main_path() -> str | None:
    """Gives the file of the main program, for children that need functions of it."""
    path = getattr(sys.modules["__main__"], "__file__", None)
    return str(Path(path).absolute()) if path else None


def target_of(thing: Any, what: str) -> str:
    """Gives MODULE:NAME of a spec or function, by which a child finds it.

    Raises `ValueError` if it is not a global variable of a module.
    """
    module_name = thing.__module__
    module = sys.modules[module_name]
    names = [thing.__qualname__, *(name for name, value in vars(module).items() if value is thing)]
    for name in names:
        if vars(module).get(name) is thing:
            return f"{module_name}:{name}"
    raise ValueError(
        f"{what} {thing.__qualname__} is not a global variable of {module_name}, so a child process can't import it: "
        f"define it at the top of a module, or pass processes=0"
    )


def _module(name: str, main: str | None) -> ModuleType:
    if name != "__main__":
        return importlib.import_module(name)
    if _MAIN not in sys.modules:
        if main is None:
            raise ImportError(
                "functions of an interactive program can't be imported: write a module, or pass processes=0"
            )
        module = ModuleType(_MAIN)
        sys.modules[_MAIN] = sys.modules["__main__"] = module
        module.__dict__.update(runpy.run_path(main, run_name=_MAIN))
    return sys.modules[_MAIN]


def find_specs(targets: Iterable[str], main: str | None = None) -> list[Spec[..., Any]]:
    """Imports the specs that `MODULE` (all in it) or `MODULE:NAME` stand for.

    Raises what the import raises, and `ValueError` if there is no such spec, or two have the same name.
    """
    found: dict[str, Spec[..., Any]] = {}
    for target in targets:
        module_name, colon, name = target.partition(":")
        module = _module(module_name, main)
        if colon:
            specs = [getattr(module, name, None)]
        else:
            specs = [value for value in vars(module).values() if isinstance(value, Spec)]
        if not specs or not isinstance(specs[0], Spec):
            raise ValueError(f"{target}: there is no spec; expected MODULE or MODULE:NAME of a function with @spec")
        for one in specs:
            if isinstance(one, Spec) and found.setdefault(one.name, one) is not one:
                raise ValueError(
                    f"{target}: two specs have the name {one.name}: give one another name, @spec({one.name!r})"
                )
    return list(found.values())


def find_lifespan(target: str, main: str | None = None) -> Callable[[], Any]:
    """Imports the context manager that `MODULE:NAME` stands for."""
    module_name, _, name = target.partition(":")
    lifespan = getattr(_module(module_name, main), name, None)
    if not callable(lifespan):
        raise ValueError(f"{target}: expected MODULE:NAME of a function that gives a context manager")
    return lifespan  # type: ignore[no-any-return]


class Function:
    """A spec as a child runs it. An outcome is `[ending, encoded data or None, extra]`, see `_messages`."""

    def __init__(self, spec: Spec[..., Any]) -> None:
        self.spec = spec
        self.is_async = spec.is_async
        self._call = spec.function
        self._bind = spec.bind
        then = spec.then
        self._then = then if isinstance(then, str) or then is None else then.name

    def call(self, data: dict[Any, Any]) -> Any:
        """Calls the function with the data of a unit."""
        return self._call(**self._bind(data))

    def finished(self, data: dict[Any, Any], value: Any) -> list[Any]:
        """Gives the outcome for what the function has returned."""
        if self._then is not None and value is not None:
            units = value if isinstance(value, (Iterator, list, tuple)) else [value]
            return self._with_output(data, list(units))
        if value is None:
            return [_messages.FINISHED, None, None]
        if isinstance(value, (Iterator, AsyncIterator)):
            raise TypeError(f"{self.spec.name} yields units, but @spec does not say where they go: add then=SPEC")
        return self._encoded({**data, "result": value})

    async def finished_async(self, data: dict[Any, Any], value: Any) -> list[Any]:
        """Gives the outcome for what an `async def` has returned: a value to be awaited, or an iterator."""
        if inspect.isawaitable(value):
            value = await value
        if isinstance(value, AsyncIterator):
            if self._then is None:
                return self.finished(data, value)
            return self._with_output(data, [unit async for unit in value])
        return self.finished(data, value)

    def _with_output(self, data: dict[Any, Any], units: list[Any]) -> list[Any]:
        output: list[Any] = []
        for unit in units:
            if not isinstance(unit, Unit) or unit.spec != self._then:
                kind = f"a unit of {unit.spec}" if isinstance(unit, Unit) else f"a {type(unit).__name__}"
                raise TypeError(
                    f"{self.spec.name} gave {kind}; expected units of {self._then}, where `then` says they go"
                )
            output.append([_wire.name_out(unit.key), unit.data, unit.meta()])
        return self._encoded({**data, "output": output})

    @staticmethod
    def _encoded(data: dict[Any, Any]) -> list[Any]:
        try:
            encoded = _wire.encode(data)
        except UnwritableValue as error:
            message = str(error).replace("value['result']", "the result").replace("value['output']", "the output")
            raise UnwritableValue(message) from None
        if len(encoded) > DATA_BYTES_MOST:
            raise UnwritableValue(f"the result has {len(encoded):,} bytes encoded, more than {DATA_BYTES_MOST:,}: "
                                  f"write it to a file, and return its name")  # fmt: skip
        return [_messages.FINISHED, encoded, None]

    def failed(self, data: dict[Any, Any], error: BaseException) -> list[Any]:
        """Gives the outcome for what the function has raised."""
        if isinstance(error, Retry):
            return [_messages.GIVEN_BACK, None, error.delay]
        final = isinstance(error, InvalidArguments) or not isinstance(error, self.spec.retry_on)
        text = text_of(error)
        return [_messages.FAILED, failed_data(data, text), [final, text.rpartition("\n")[2][:500]]]


def text_of(error: BaseException) -> str:
    """Gives the traceback without the worker's own frames."""
    frames = error.__traceback__
    while frames is not None and frames.tb_frame.f_globals.get("__name__", "").startswith("coordinated.worker."):
        frames = frames.tb_next
    if isinstance(error, (InvalidArguments, UnwritableValue)):
        # The message says it all. Frames would be ours.
        lines = traceback.format_exception_only(type(error), error)
    else:
        lines = traceback.format_exception(type(error), error, frames)
    # Whatever an exception's message has in it, it can be sent.
    return "".join(lines).strip().encode("utf-8", "backslashreplace").decode()[-TRACEBACK_CHARACTERS_MOST:]


def failed_data(data: dict[Any, Any], text: str) -> bytes:
    """Encodes the data of a unit with a traceback."""
    kept = {key: value for key, value in data.items() if key not in ("traceback", b"traceback")}
    return _wire.encode({**kept, "traceback": text})
