"""What type checkers must know about specs: mypy and basedpyright check this file, and nothing runs it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from typing_extensions import assert_type

from coordinated import AsyncClient, AsyncSpec, Client, SyncSpec, Unit, spec


@spec
def plain(number: int, name: str = "") -> float:
    return 1.0


@spec(retries=3)
async def awaited(host: str) -> bytes:
    return b""


@spec("named", then=plain)
def chained(text: str) -> Iterator[Unit[float]]:
    yield plain.unit(1)


def blocking(client: Client) -> None:
    assert_type(plain(1), float)
    assert_type(plain.unit(1, name="a"), Unit[float])
    assert_type(client.add(plain, 1), Unit[float])
    assert_type(client.add(plain.options(key="a"), number=1), Unit[float])
    assert_type(client.add(plain.unit(1)), Unit[float])
    assert_type(client.result(client.add(awaited, "a")), bytes)
    client.add(chained, "a")
    assert_type(client.add(Unit("thumbnails", "a.png", {"n": 1}), if_exists="reset"), Unit[Any])
    client.add_many(plain.unit(number) for number in range(10))
    client.add(plain, "a")  # type: ignore[call-overload]  # pyright: ignore[reportCallIssue, reportArgumentType]
    client.add(plain)  # type: ignore[call-overload]  # pyright: ignore[reportCallIssue, reportArgumentType]
    plain.unit(1, nme="a")  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]


async def asynchronous(client: AsyncClient) -> None:
    specs: list[AsyncSpec[..., Any] | SyncSpec[..., Any]] = [awaited, plain]
    assert specs
    assert_type(await awaited("a"), bytes)
    assert_type(await client.result(await client.add(plain, 1)), float)
