"""Both clients show a token on each connection, and say what is wrong with it."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest
from helpers import finish

from coordinated import AsyncClient, Client, NoSuchSpec, RequestRefused, Status, spec
from coordinated.testing import Daemon


@spec
def double(number: int) -> int:
    return 2 * number


@pytest.fixture
def tokens(tmp_path: Path) -> Iterator[tuple[Daemon, dict[str, str]]]:
    """A daemon that wants tokens, and the secrets of one for everything and of one that may only add units."""
    with Daemon(tmp_path / "db") as daemon, daemon.client() as client:
        if "tokens" not in client.server_info()["features"]:
            pytest.skip("this daemon has no tokens")
        made = {
            name: client.call("create_token", name, {"scopes": [name], "by": "test"})[0]["token"]
            for name in ("admin", "submit")
        }
    with Daemon(tmp_path / "db", "--cborrpc-auth", "required") as daemon:
        yield daemon, made


def test_a_token_is_shown_on_each_connection(tokens: tuple[Daemon, dict[str, str]]) -> None:
    daemon, made = tokens
    with Client(daemon.server, token=made["admin"]) as client:
        unit = client.add(double, 21)
        finish(client, "double", double)
        daemon.stop()
        daemon.start()
        assert client.result(unit) == 42


def test_a_token_comes_from_the_environment(
    tokens: tuple[Daemon, dict[str, str]], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    daemon, made = tokens
    monkeypatch.setenv("COORDINATED_TOKEN", made["submit"])
    with daemon.client() as client, pytest.raises(RequestRefused, match="scope"):
        client.specs()
    (tmp_path / "token").write_text("cdt_wrong\n")
    monkeypatch.setenv("COORDINATED_TOKEN_FILE", str(tmp_path / "token"))
    with daemon.client() as client, pytest.raises(RequestRefused, match="authenticate: the token is not known"):
        client.specs()


def test_a_token_that_may_only_add_units_adds_them(tokens: tuple[Daemon, dict[str, str]]) -> None:
    daemon, made = tokens
    with Client(daemon.server, token=made["admin"]) as admin, Client(daemon.server, token=made["submit"]) as client:
        with pytest.raises(NoSuchSpec):
            client.add(double, 1)
        admin.set_spec(double)
        unit = client.add(double, 1)
        assert client.add_many(double.unit(number) for number in range(3)).new == 3
        assert client.state(unit).status is Status.AVAILABLE
        with pytest.raises(RequestRefused, match="scope"):
            client.delete(unit)


def test_the_asyncio_client_shows_a_token_too(tokens: tuple[Daemon, dict[str, str]]) -> None:
    daemon, made = tokens

    async def use() -> None:
        async with AsyncClient(daemon.server, token=made["admin"]) as client:
            unit = await client.add(double, 1)
            assert (await client.state(unit)).status is Status.AVAILABLE
        async with AsyncClient(daemon.server, token="cdt_wrong") as client:
            for _ in range(2):
                with pytest.raises(RequestRefused, match="the token is not known"):
                    await client.specs()

    asyncio.run(use())
