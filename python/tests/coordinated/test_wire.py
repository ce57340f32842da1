"""Frames, envelopes and values, without a daemon."""

from __future__ import annotations

import datetime
import decimal
import uuid
from collections.abc import Iterable
from dataclasses import dataclass
from enum import Enum
from typing import Any

import cbor2
import pytest
from hypothesis import given
from hypothesis import strategies as st

from coordinated import UnwritableValue, _wire
from coordinated.errors import RequestRefused

SCALARS: st.SearchStrategy[Any] = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(allow_nan=False),
    st.text(st.characters(exclude_categories=["Cs"])),
    st.binary(),
    st.datetimes(
        min_value=datetime.datetime(1970, 1, 2),
        max_value=datetime.datetime(9000, 1, 1),
        timezones=st.just(datetime.timezone.utc),
    ),
    st.uuids(),
    st.decimals(allow_nan=False, allow_infinity=False),
)
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.one_of(
        st.lists(inner, max_size=4),
        st.tuples(inner, inner),
        st.dictionaries(st.one_of(st.text(st.characters(exclude_categories=["Cs"])), st.binary()), inner, max_size=4),
    ),
    max_leaves=15,
)


@given(VALUES)
def test_values_come_back_as_they_were_with_their_types(value: Any) -> None:
    back = _wire.decode(_wire.encode(value))
    assert back == value
    assert repr(_types(back)) == repr(_types(value))


def _types(value: Any) -> Any:
    if isinstance(value, dict):
        return {(type(key), key): _types(one) for key, one in value.items()}
    if isinstance(value, (list, tuple)):
        return type(value), [_types(one) for one in value]
    return type(value)


@given(st.dictionaries(st.text(st.characters(exclude_categories=["Cs"])), VALUES))
def test_a_unit_is_encoded_like_any_other_value(data: dict[str, Any]) -> None:
    assert _wire.encode_unit(["key", data], data) == _wire.encode(["key", data])


def test_tuples_are_those_of_the_python_2_client() -> None:
    assert _wire.encode((1, [(2,)])) == bytes.fromhex("d88082" + "01" + "81" + "d880" + "8102")


def test_dataclasses_are_sent_as_maps_and_enums_as_their_values() -> None:
    @dataclass
    class Size:
        width: int
        names: tuple[str, ...]

    class Colour(Enum):
        RED = "red"

    encoded = _wire.encode({"size": Size(3, ("a",)), "colours": [Colour.RED]})
    assert _wire.decode(encoded) == {"size": {"width": 3, "names": ("a",)}, "colours": ["red"]}


@dataclass
class _Holder:
    inner: Any


class _Thing:
    pass


CYCLE: list[Any] = []
CYCLE.append(CYCLE)


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ({"a": [1, {"when": datetime.datetime(2026, 1, 1)}]}, r"value\['a'\]\[1\]\['when'\] is a datetime without a"),
        ([0, _Thing()], r"value\[1\] is a .*_Thing, which can't be sent: pass numbers"),
        ({"f": _Holder((1, _Thing()))}, r"value\['f'\]\.inner\[1\] is a .*_Thing"),
        ({"name": "a\udcff"}, r"value\['name'\] is a str with lone surrogates.*pass bytes"),
        ({"a\udcff": 1}, r"value key is a str with lone surrogates"),
        (CYCLE, r"contains itself"),
    ],
)
def test_a_value_that_cannot_be_sent_is_named_with_its_path(value: Any, message: str) -> None:
    with pytest.raises(UnwritableValue, match=message):
        _wire.encode(value)


@given(st.binary())
def test_a_name_of_any_bytes_is_a_str_that_is_sent_as_the_same_bytes(name: bytes) -> None:
    told = _wire.name_in(name)
    assert isinstance(told, str)
    sent = _wire.name_out(told)
    assert (sent if isinstance(sent, bytes) else sent.encode()) == name


@given(VALUES)
def test_text_strings_leaves_no_byte_string_that_is_utf_8(value: Any) -> None:
    def check(part: Any) -> None:
        if isinstance(part, bytes):
            with pytest.raises(UnicodeDecodeError):
                part.decode()
        elif isinstance(part, dict):
            for key, one in part.items():
                check(key)
                check(one)
        elif isinstance(part, (list, tuple)):
            for one in part:
                check(one)

    check(_wire.text_strings(value))


@given(st.lists(st.binary(max_size=300), max_size=5), st.data())
def test_frames_are_found_however_the_bytes_are_cut(bodies: list[bytes], data: st.DataObject) -> None:
    stream = b"".join(map(_wire.frame, bodies))
    cuts = sorted(data.draw(st.lists(st.integers(0, len(stream)), max_size=6)))
    reader, found = _wire.FrameReader(), list[bytes]()
    for start, end in zip([0, *cuts], [*cuts, len(stream)], strict=True):
        reader.feed(stream[start:end])
        found.extend(_ready(reader))
    assert found == bodies


def _ready(reader: _wire.FrameReader) -> Iterable[bytes]:
    while (body := reader.next()) is not None:
        yield body


@pytest.mark.parametrize("length", [0, 23, 24, 255, 256, 65535, 65536])
def test_a_frame_is_tag_24_around_a_byte_string(length: int) -> None:
    framed = _wire.frame(bytes(length))
    assert cbor2.loads(framed, semantic_decoders={24: lambda value, immutable: ("tag 24", value)}) == (
        "tag 24",
        bytes(length),
    )


@pytest.mark.parametrize("stream", [b"HTTP/1.1 400 Bad Request", b"\xd8\x18\x5f\x41a\xff", b"\xd8\x18\x61a"])
def test_an_answer_that_is_no_frame_is_refused(stream: bytes) -> None:
    reader = _wire.FrameReader()
    reader.feed(stream)
    with pytest.raises(_wire.BadAnswer):
        reader.next()


def test_a_request_is_what_the_protocol_says() -> None:
    # The example of docs/protocol.md.
    body = _wire.request_body(1, "archive", _wire.encode([]))
    assert _wire.frame(body).hex() == "d818581ca342696401466d6574686f64476172636869766546706172616d7380"


def test_an_error_in_an_answer_is_raised() -> None:
    with pytest.raises(RequestRefused, match="unknown method") as caught:
        _wire.result_of("juggle", {b"id": 1, b"error": {b"message": b"unknown method juggle"}})
    assert caught.value.method == "juggle"


@pytest.mark.parametrize("answer", [None, [], 3])
def test_an_answer_that_is_no_map_is_refused(answer: Any) -> None:
    with pytest.raises(_wire.BadAnswer):
        _wire.result_of("now", answer)


def test_bytes_that_are_not_cbor_are_refused() -> None:
    with pytest.raises(_wire.BadAnswer):
        _wire.decode(b"\xff\x00")


def test_unknown_tags_come_back_as_they_were() -> None:
    encoded = bytes.fromhex("d9ffff63616263")
    assert _wire.encode(_wire.decode(encoded)) == encoded


def test_dates_and_ids_have_their_tags() -> None:
    value = {
        "day": datetime.date(2026, 12, 1),
        "id": uuid.UUID("00112233-4455-6677-8899-aabbccddeeff"),
        "price": decimal.Decimal("1.10"),
        "set": {1, 2},
    }
    assert _wire.decode(_wire.encode(value)) == value
