"""The wire: frames, request and response envelopes, and CBOR values. It opens no sockets.

Strings keep the type that a program gave them: `str` is sent as text, `bytes` as a byte string, and both come back as
what they were. Names (of work specs, units, workers) are bytes to the daemon, and equal if their bytes are: `name_in`
gives them as `str`, with surrogate escapes for bytes that are not UTF-8, and `name_out` sends such a `str` as the same
bytes.

Python's tuples are tag 128 around an array, as the Python 2 client writes them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from enum import Enum
from typing import Any, Final

import cbor2

from .errors import CoordinateError, RequestRefused, UnwritableValue

__all__ = [
    "BadAnswer",
    "FrameReader",
    "array_header",
    "decode",
    "encode",
    "encode_plain",
    "encode_unit",
    "frame",
    "list_body",
    "name_in",
    "name_out",
    "request_body",
    "result_of",
    "text_strings",
]

_TUPLE_TAG: Final = 128
_ENCODED_ITEM_TAG: Final = b"\xd8\x18"

# Types that hold no other values. Most data have only these, which a check in C finds out.
_FLAT: Final = frozenset([str, int, float, bool, bytes, type(None)])


class BadAnswer(CoordinateError):
    """The server sent bytes that are no CBOR-RPC answer: it is not `coordinated`, or this is not its CBOR-RPC port."""


def _encode_tuple(encoder: cbor2.CBOREncoder, value: Any) -> None:
    encoder.encode_semantic(_TUPLE_TAG, list(value))


def _encode_other(encoder: cbor2.CBOREncoder, value: Any) -> None:
    if is_dataclass(value) and not isinstance(value, type):
        encoder.encode({field.name: getattr(value, field.name) for field in fields(value)})
    elif isinstance(value, Enum):
        encoder.encode(value.value)
    else:
        raise cbor2.CBOREncodeTypeError(f"cannot encode type {type(value)}")


_ENCODERS: Final[Mapping[type, cbor2.EncoderHook]] = {tuple: _encode_tuple}
_DECODERS: Final[Mapping[int, Any]] = {_TUPLE_TAG: lambda value, immutable: tuple(value)}


def _needs_encoders(value: Any) -> bool:
    """Is there a tuple in `value`? Only then are the encoders needed, which make everything slower."""
    kind = type(value)
    if kind in _FLAT:
        return False
    if kind is dict:
        if _FLAT.issuperset(map(type, value.values())) and _FLAT.issuperset(map(type, value)):
            return False
        return any(_needs_encoders(k) or _needs_encoders(v) for k, v in value.items())
    if kind is list:
        return not _FLAT.issuperset(map(type, value)) and any(map(_needs_encoders, value))
    return True


def encode_unit(item: list[Any], data: Any) -> bytes:
    """Encodes an item of `add_work_units`, fast if its data have no tuples, dataclasses or lists at the first level."""
    if type(data) is dict and _FLAT.issuperset(map(type, data.values())):
        try:
            return cbor2.dumps(item)
        except UnicodeEncodeError:
            pass  # `encode` says where
    return encode(item)


def encode_plain(value: Any) -> bytes:
    """Encodes a value of this package's own making, faster than `encode`: tuples become arrays."""
    try:
        return cbor2.dumps(value)
    except (cbor2.CBOREncodeError, UnicodeEncodeError):
        return encode(value)


def encode(value: Any) -> bytes:
    """Encodes a value. Dataclasses become maps of their fields, members of an `Enum` become their values.

    Raises `UnwritableValue` with the path to what CBOR can't express.
    """
    try:
        if _needs_encoders(value):
            return cbor2.dumps(value, encoders=_ENCODERS, default=_encode_other)
        return cbor2.dumps(value)
    except (cbor2.CBOREncodeError, UnicodeEncodeError, RecursionError) as error:
        raise UnwritableValue(_explain(value, error)) from None


def _explain(value: Any, error: Exception) -> str:
    """Says where in `value` the thing is that can't be encoded, and what to do."""
    path = "value"
    # Down to the smallest part that can't be encoded by itself. A cycle has none, hence the bound.
    for _ in range(100):
        for step, part in _parts(value):
            try:
                cbor2.dumps(part, encoders=_ENCODERS, default=_encode_other)
            except (cbor2.CBOREncodeError, UnicodeEncodeError, RecursionError) as deeper:
                path, value, error = path + step, part, deeper
                break
        else:
            break
    if isinstance(error, UnicodeEncodeError):
        return f"{path} is a str with lone surrogates, which can't be sent as text: pass bytes instead"
    if "naive datetime" in str(error):
        return f"{path} is a datetime without a time zone: pass one with tzinfo, such as datetime.now(timezone.utc)"
    if isinstance(error, RecursionError) or "cyclic" in str(error):
        return f"{path} contains itself, or is nested too deeply"
    kind = f"{type(value).__module__}.{type(value).__qualname__}".removeprefix("builtins.")
    return (
        f"{path} is a {kind}, which can't be sent: pass numbers, strings, bytes, dates, UUIDs, lists, dicts, "
        f"tuples, sets or dataclasses of these"
    )


def _parts(value: Any) -> list[tuple[str, Any]]:
    if isinstance(value, Mapping):
        keys = [(" key", key) for key in value]
        return keys + [(f"[{key!r}]", part) for key, part in value.items()]
    if isinstance(value, (list, tuple)):
        return [(f"[{index}]", part) for index, part in enumerate(value)]
    if isinstance(value, (set, frozenset)):
        return [(" item", part) for part in value]
    if is_dataclass(value) and not isinstance(value, type):
        return [(f".{field.name}", getattr(value, field.name)) for field in fields(value)]
    return []


def decode(encoded: bytes | bytearray | memoryview) -> Any:
    """Decodes one value. Text that is not UTF-8 (lone surrogates, which only Python 2 writes) gets U+FFFD."""
    try:
        return cbor2.loads(encoded, semantic_decoders=_DECODERS, str_errors="replace")
    except (cbor2.CBORError, ValueError, TypeError, RecursionError) as error:
        raise BadAnswer(f"the server sent a value that can't be read: {error}") from None


def name_in(name: Any) -> Any:
    """Gives a name from the daemon as `str`. Anything but `bytes` stays as it is."""
    return name.decode("utf-8", "surrogateescape") if type(name) is bytes else name


def name_out(name: str | bytes) -> str | bytes:
    """Gives a name as it is sent: `str` as text, but one with surrogate escapes as the bytes that they stand for."""
    if type(name) is str and not name.isascii():
        try:
            name.encode()
        except UnicodeEncodeError:
            return name.encode("utf-8", "surrogateescape")
    return name


def text_strings(value: Any) -> Any:
    """Gives a copy of `value` in which every byte string that is UTF-8 is `str`: for what Python 2 wrote."""
    kind = type(value)
    if kind is bytes:
        try:
            return value.decode()
        except UnicodeDecodeError:
            return value
    if kind is dict:
        return {text_strings(key): text_strings(part) for key, part in value.items()}
    if kind is list:
        return [text_strings(part) for part in value]
    if kind is tuple:
        return tuple(text_strings(part) for part in value)
    return value


def _header(major: int, length: int) -> bytes:
    """Encodes the beginning of a CBOR item: its major type (0 to 7) and a length or number."""
    first = major << 5
    if length < 24:
        return bytes((first | length,))
    if length < 0x100:
        return bytes((first | 24, length))
    if length < 0x10000:
        return bytes((first | 25,)) + length.to_bytes(2, "big")
    if length < 0x100000000:
        return bytes((first | 26,)) + length.to_bytes(4, "big")
    return bytes((first | 27,)) + length.to_bytes(8, "big")


def array_header(length: int) -> bytes:
    """Encodes the beginning of an array of `length` items, which follow as encoded."""
    return _header(4, length)


def request_body(number: int, method: str, params: bytes) -> bytes:
    """Encodes a request. `params` is an encoded array or map. Keys and the method's name are byte strings."""
    name = method.encode()
    return b"".join(
        (b"\xa3\x42id", _header(0, number), b"\x46method", _header(2, len(name)), name, b"\x46params", params)
    )


def list_body(bodies: list[bytes]) -> bytes:
    """Encodes a list of requests, which the daemon answers with one list."""
    return array_header(len(bodies)) + b"".join(bodies)


def frame(body: bytes) -> bytes:
    """Gives the bytes to send for a request or a list of requests."""
    return _ENCODED_ITEM_TAG + _header(2, len(body)) + body


def result_of(method: str, answer: Any) -> Any:
    """Gives the result in a decoded response.

    Raises `RequestRefused` if it is an error, and `BadAnswer` if it is no response.
    """
    if not isinstance(answer, dict):
        raise BadAnswer(f"the server answered {method} with a {type(answer).__name__}, not a map")
    error = answer.get(b"error", answer.get("error"))
    if error is not None:
        message = text_strings(error)
        if isinstance(message, dict):
            message = message.get("message")
        raise RequestRefused(method, str(message))
    return answer.get(b"result", answer.get("result"))


class FrameReader:
    """Cuts what arrives on a connection into the bodies of responses."""

    def __init__(self) -> None:
        self._buffer = bytearray()

    def feed(self, data: bytes) -> None:
        """Takes more bytes from the connection."""
        self._buffer += data

    def whole(self, data: bytes) -> bytes | None:
        """Gives the body if `data` are exactly one frame, and nothing is left from before: the usual case."""
        if self._buffer or not data.startswith(_ENCODED_ITEM_TAG):
            return None
        length = len(data)
        if length > 4 and data[2] == 0x58 and data[3] == length - 4:
            return data[4:]
        if length > 5 and data[2] == 0x59 and (data[3] << 8) + data[4] == length - 5:
            return data[5:]
        return None

    def next(self) -> bytes | None:
        """Gives the next complete body; None until more bytes have come.

        Raises `BadAnswer` if the bytes are no frame: then nothing that follows can be read.
        """
        buffer = self._buffer
        if len(buffer) < 3:
            return None
        if not buffer.startswith(_ENCODED_ITEM_TAG) or buffer[2] >> 5 != 2:
            raise BadAnswer(
                f"the server sent {bytes(buffer[:16])!r}, which is no CBOR-RPC answer: "
                f"is it coordinated, and is this its CBOR-RPC port?"
            )
        short = buffer[2] & 0x1F
        if short < 24:
            start, length = 3, short
        elif short < 28:
            start = 3 + (1 << (short - 24))
            if len(buffer) < start:
                return None
            length = int.from_bytes(buffer[3:start], "big")
        else:
            raise BadAnswer("the server sent a frame of indefinite length")
        end = start + length
        if len(buffer) < end:
            return None
        body = bytes(memoryview(buffer)[start:end])
        del buffer[:end]
        return body
