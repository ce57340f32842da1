"""What a supervisor and its children say to each other: CBOR arrays behind a length, on a pair of sockets.

The first item of a message is its kind. Outcomes and progress carry the new data of a unit encoded, so that the
supervisor passes them on to the daemon as they are.
"""

from __future__ import annotations

import struct
from typing import Any, Final

import cbor2

from .. import _wire

__all__ = [
    "FAILED",
    "FINISHED",
    "GIVEN_BACK",
    "STOPPED",
    "Kind",
    "MessageReader",
    "decode",
    "pack",
]

_LENGTH: Final = struct.Struct(">I")


class Kind:
    """The kinds of messages."""

    # From the supervisor.
    CONFIG: Final = 0
    """[CONFIG, map]: how to run functions; the first message."""
    UNITS: Final = 1
    """[UNITS, [[id, spec, key, data, attempt id, attempt number], ...]]"""
    TELL: Final = 2
    """[TELL, id]: the unit's function has to stop."""
    RELEASE: Final = 3
    """[RELEASE]: give back the units that have not begun."""
    RETIRE: Final = 4
    """[RETIRE]: run what you have, then end."""

    # From the child.
    HELLO: Final = 10
    """[HELLO, [[spec, definition, timeout or None], ...], [file, ...]]: it is ready, with these specs and modules."""
    BROKEN: Final = 11
    """[BROKEN, traceback]: importing the functions, or entering the lifespan, has failed."""
    OUTCOMES: Final = 12
    """[OUTCOMES, [[id, ending, encoded data or None, extra, seconds], ...]]"""
    RELEASED: Final = 13
    """[RELEASED, [id, ...]]: these have not begun, and won't here."""
    PROGRESS: Final = 14
    """[PROGRESS, id, encoded data]"""


# How a unit ended, with the extra item of its outcome.
FINISHED: Final = 0
"""None."""
FAILED: Final = 1
"""[whether it is final: not to be tried again, the last line of the traceback]"""
GIVEN_BACK: Final = 2
"""The delay in seconds."""
STOPPED: Final = 3
"""The traceback of where it was."""


def _tolerant(tag: int) -> Any:
    def decode(value: Any, _immutable: bool) -> Any:
        tagged = cbor2.CBORTag(tag, value)
        try:
            return cbor2.loads(cbor2.dumps(tagged))
        except (cbor2.CBORError, ValueError, TypeError):
            return tagged

    return decode


# The tags that cbor2 makes values of: those that are none stay tags.
_TOLERANT: Final = {
    **{tag: _tolerant(tag) for tag in (0, 1, 2, 3, 4, 5, 30, 35, 36, 37, 43000, 100, 258, 260, 261, 1004)},
    128: lambda value, _immutable: tuple(value) if isinstance(value, (list, tuple)) else cbor2.CBORTag(128, value),
}


def decode(encoded: bytes) -> Any:
    """Decodes a value that may have parts which are well-formed CBOR, but no values: a UUID of one byte, for example.

    The daemon keeps the data of units as they were sent, and one unit with such data must not keep others from running.
    """
    try:
        return _wire.decode(encoded)
    except _wire.BadAnswer:
        try:
            return cbor2.loads(encoded, semantic_decoders=_TOLERANT, str_errors="replace")
        except (cbor2.CBORError, ValueError, TypeError, RecursionError) as error:
            raise _wire.BadAnswer(f"the server sent a value that can't be read: {error}") from None


def pack(message: list[Any]) -> bytes:
    """Encodes a message with its length."""
    encoded = _wire.encode(message)
    return _LENGTH.pack(len(encoded)) + encoded


class MessageReader:
    """Cuts what arrives on a socket into messages."""

    def __init__(self) -> None:
        self._buffer = bytearray()

    def feed(self, data: bytes) -> list[list[Any]]:
        """Takes more bytes, and gives the messages that are complete."""
        buffer = self._buffer
        buffer += data
        messages: list[list[Any]] = []
        start = 0
        while len(buffer) - start >= 4:
            (length,) = _LENGTH.unpack_from(buffer, start)
            end = start + 4 + length
            if len(buffer) < end:
                break
            messages.append(decode(bytes(memoryview(buffer)[start + 4 : end])))
            start = end
        if start:
            del buffer[:start]
        return messages
